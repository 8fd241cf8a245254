// `sealed-key decrypt` as an operator runs it; what a boot does with a disk in its midst is asked of the hypervisor's own Vaults.
#include "keyvault/tool/decryption.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "keyvault/tool/layout.hpp"
#include "tests/unit/keyvault/tool/image_disk.hpp"

namespace gatehouse::test {
namespace {

using nlohmann::json;

constexpr std::size_t kImageLimit = std::size_t{128} << 20;

class Decrypt : public ::testing::Test {
  protected:
    void provision(std::size_t sector_size = 512) {
        endpoint.prepare(sector_size);
        plain = disk();
        const Outcome outcome = run_tool("sealed-key", endpoint.provision_arguments());
        ASSERT_EQ(outcome.status, 0) << outcome.errors;
        endpoint.provisioned = json::parse(outcome.output);
        endpoint.pin_and_sign();
    }
    [[nodiscard]] std::string image() const { return endpoint.appliance.image(); }
    [[nodiscard]] Buffer disk() const { return host::read_file(image(), kImageLimit); }
    [[nodiscard]] std::string key() const { return endpoint.recovery_key(); }
    [[nodiscard]] Outcome decrypt(const std::vector<std::string>& more, std::size_t file_size_limit = 0) const {
        std::vector<std::string> arguments{"decrypt", image(), "--recovery-key", key(), "--json"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run_tool("sealed-key", arguments, file_size_limit);
    }
    static void expect_refusal(const Outcome& outcome, const std::string& why, int status = 3) {
        EXPECT_EQ(outcome.status, status) << outcome.output;
        EXPECT_NE(outcome.errors.find(why), std::string::npos) << outcome.errors;
        EXPECT_EQ(outcome.output, "");
    }
    [[nodiscard]] json status() const {
        return json::parse(run_tool("sealed-key", {"status", image(), "--json"}).output);
    }
    // The image before provisioning, but for the tables, the boot files that were installed since, and an empty vault.
    [[nodiscard]] Buffer expected(const Buffer& provisioned) const {
        const host::Disk of(image(), host::Disk::Access::kRead);
        const host::PartitionTables tables = host::read_partition_tables(of);
        volume::Header header;
        host::lay_out(of, tables, header);
        Buffer all = provisioned;
        for (const host::Extent& extent : host::encrypted_extents(header)) {
            copy_bytes(MutableBytes(all).subspan(extent.first * of.sector_size()),
                       Bytes(plain).subspan(extent.first * of.sector_size(), extent.count * of.sector_size()));
        }
        const volume::GptEntry vault = tables.vault_entry();
        std::ranges::fill(MutableBytes(all).subspan(vault.first * of.sector_size(), vault.count() * of.sector_size()),
                          std::byte{0});
        return all;
    }

    Endpoint endpoint;
    Buffer plain;
};

TEST_F(Decrypt, GivesThePlainImageBackAndDestroysTheVault) {
    provision();
    const Buffer encrypted = disk();
    EXPECT_FALSE(encrypted == expected(encrypted));
    const Outcome outcome = decrypt({"--yes"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_NE(outcome.errors.find(endpoint.provisioned["vault_id"]), std::string::npos) << outcome.errors;
    const json said = json::parse(outcome.output);
    EXPECT_EQ(said["disk"], endpoint.provisioned["disk"]);
    EXPECT_EQ(said["vault_id"], endpoint.provisioned["vault_id"]);
    EXPECT_EQ(said["decrypted_bytes"], endpoint.provisioned["encrypted_bytes"]);
    EXPECT_EQ(said["resumed"], false);
    EXPECT_EQ(said["bytes_overwritten"], 2 << 20);
    EXPECT_TRUE(disk() == expected(encrypted));
    EXPECT_EQ(status()["state"], "none");
    EXPECT_FALSE(status().contains("next")) << "nothing is left of the vault";
    expect_refusal(decrypt({"--yes"}), "sealed-key erase");
}

TEST_F(Decrypt, TakesSectorsOf4096Bytes) {
    provision(4096);
    const Buffer encrypted = disk();
    ASSERT_EQ(decrypt({"--yes"}).status, 0);
    EXPECT_TRUE(disk() == expected(encrypted));
}

TEST_F(Decrypt, GoesOnAfterItWasKilledAndNothingElseDoes) {
    provision();
    const Buffer encrypted = disk();
    // The file may not grow past the middle: a write there kills the program on the spot.
    ASSERT_EQ(decrypt({"--yes"}, kImageLimit / 4).status, -1);
    const json half = status();
    EXPECT_EQ(half["state"], "decrypting");
    EXPECT_GT(half["percent"], 0);
    EXPECT_LT(half["percent"], 100);
    EXPECT_NE(half["next_boot"].get<std::string>().find("is plaintext"), std::string::npos) << half;
    EXPECT_TRUE(half["next"].get<std::string>().starts_with("sealed-key decrypt ")) << half;

    const Buffer before = disk();
    const std::string next = endpoint.appliance.path("next.key");
    for (const std::vector<std::string>& verb : std::vector<std::vector<std::string>>{
             {"rotate", "dek", image(), "--recovery-key", key()},
             {"rotate", "recovery", image(), "--recovery-key", key(), "--recovery-key-out", next},
             {"provision", image(), "--resume", "--recovery-key", key()},
             {"export-dmsetup", image(), "--recovery-key", key()},
             {"upgrade", image(), "--recovery-key", key(), "--tcti", endpoint.device.tcti(), "--authority",
              endpoint.appliance.authority_public(), "--policy-ref", kPolicyRef},
             endpoint.provision_arguments()}) {
        expect_refusal(run_tool("sealed-key", verb), "go on with: sealed-key decrypt");
    }
    EXPECT_TRUE(disk() == before);

    endpoint.device.connect();
    endpoint.launch();
    {
        ImageDisk first(image(), 0);
        Unsealed unsealer(endpoint);
        volume::VaultId pinned{};
        copy_bytes(pinned, endpoint.vault_id());
        boot::PortDisk port;
        port.disk = &first;
        const std::array<boot::PortDisk*, 1> disks{&port};
        const Status opened = std::make_unique<boot::Vaults>()->open(disks, pinned, unsealer);
        EXPECT_EQ(opened.error(), Error::kRefused) << host::describe(opened.failure());
        EXPECT_FALSE(first.is_attached());
    }
    endpoint.device.disconnect();

    const Outcome plan = decrypt({"--plan"});
    ASSERT_EQ(plan.status, 0) << plan.errors;
    EXPECT_NE(json::parse(plan.output)["plan"]["changes"][0].get<std::string>().find("interrupted"), std::string::npos);
    const Outcome outcome = decrypt({"--yes"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_EQ(json::parse(outcome.output)["resumed"], true);
    EXPECT_TRUE(disk() == expected(encrypted));
}

// Killed in the midst of overwriting: the header is gone, and status says what is left to do.
TEST_F(Decrypt, CutWhileItDestroysTheVaultIsEndedByErase) {
    provision();
    const Buffer encrypted = disk();
    ASSERT_EQ(decrypt({"--yes"}).status, 0);
    const volume::GptEntry vault =
        host::read_partition_tables(host::Disk(image(), host::Disk::Access::kRead)).vault_entry();
    {
        host::Disk of(image(), host::Disk::Access::kWrite);
        of.write(vault.first + 3, Buffer(512, std::byte{0x5a}));
    }
    EXPECT_NE(status()["next"].get<std::string>().find("sealed-key erase"), std::string::npos) << status();
    expect_refusal(decrypt({"--yes"}), "sealed-key erase");
    ASSERT_EQ(run_tool("sealed-key", {"erase", image(), "--yes", "--json"}).status, 0);
    EXPECT_TRUE(disk() == expected(encrypted));
}

// A table that somebody has edited would have it overwrite more than the vault.
TEST_F(Decrypt, DestroysNothingButTheVault) {
    provision();
    const host::PartitionTables tables = host::read_partition_tables(host::Disk(image(), host::Disk::Access::kRead));
    const std::string number = std::to_string(tables.vault + 1);
    const std::string first = std::to_string(tables.vault_entry().first);
    (void)host::run_program({"sgdisk", "-a", "1", "-d", number, "-n", number + ":" + first + ":+1M", "-t",
                             number + ":618D37B5-40B8-4F5A-8355-A2A84F2A31E0", image()},
                            {}, 1 << 16);
    const Buffer before = disk();
    expect_refusal(decrypt({"--yes"}), "another place, or of another size");
    EXPECT_TRUE(disk() == before);
}

TEST_F(Decrypt, ChangesNothingUnlessItIsConfirmedAndTheRecoveryKeyOpensTheDisk) {
    provision();
    Endpoint other;
    const std::string wrong = endpoint.appliance.path("wrong.key");
    host::create_file(wrong, host::text_bytes(std::string(64, '2') + "\n"), 0600);
    const Buffer before = disk();
    const auto by_key = [&](const std::string& file) {
        return run_tool("sealed-key", {"decrypt", image(), "--recovery-key", file, "--yes"});
    };
    expect_refusal(by_key(wrong), "does not open the vault");
    expect_refusal(by_key(endpoint.attestation_key()), "is no recovery key");
    expect_refusal(decrypt({}), "--yes or --serial", 2);
    expect_refusal(decrypt({"--serial", "S1234"}), "has no serial number", 2);
    {
        const host::Disk in_use(image(), host::Disk::Access::kWrite);
        expect_refusal(decrypt({"--yes"}), "another program writes to it");
    }
    const Outcome plan = decrypt({"--plan"});
    ASSERT_EQ(plan.status, 0) << plan.errors;
    for (const char* const part : {"changes", "can_lock_out", "way_back"}) {
        EXPECT_FALSE(json::parse(plan.output)["plan"][part].empty()) << part;
    }
    bool asked = false;
    const host::DecryptRequest request{.disk = image(), .recovery_key = key(), .confirmation = {}};
    EXPECT_THROW((void)host::decrypt(request,
                                     [&](const std::string&, const std::string& digits, std::string& answer) {
                                         asked =
                                             digits == endpoint.provisioned["vault_id"].get<std::string>().substr(0, 8);
                                         answer = "00000000";
                                         return true;
                                     }),
                 host::ToolError);
    EXPECT_TRUE(asked);
    EXPECT_TRUE(disk() == before);
}

}  // namespace
}  // namespace gatehouse::test
