// A second disk of an endpoint, added and taken away as an operator does it; what the hypervisor does with it is asked of its own
// Vaults (hypervisor/boot/vault.hpp).
#include <gtest/gtest.h>

#include <filesystem>

#include "keyvault/tool/partition_tables.hpp"
#include "tests/unit/keyvault/tool/image_disk.hpp"

// What vault.hpp's users have of the processor.
namespace gatehouse::cpu {
void begin_vectors() {}
void end_vectors() {}
}  // namespace gatehouse::cpu

namespace gatehouse::test {
namespace {

using nlohmann::json;

class Members : public ::testing::Test {
  protected:
    void SetUp() override {
        endpoint.provision();
        host::create_file(data, {}, 0644);
        std::filesystem::resize_file(data, 24 << 20);
    }
    [[nodiscard]] std::vector<std::string> add(const std::vector<std::string>& more = {}) const {
        std::vector<std::string> arguments{
            "add-disk", data, "--boot-disk", endpoint.appliance.image(), "--recovery-key", endpoint.recovery_key(),
            "--json"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return arguments;
    }
    static void expect_refusal(const Outcome& outcome, const std::string& why) {
        EXPECT_EQ(outcome.status, 3) << outcome.output;
        EXPECT_NE(outcome.errors.find(why), std::string::npos) << outcome.errors;
    }
    // Whether a boot opens the second disk; the boot disk always.
    bool boot_opens_member() {
        endpoint.launch();
        ImageDisk first(endpoint.appliance.image(), 0);
        ImageDisk second(data, 1);
        Unsealed unsealer(endpoint);
        volume::VaultId pinned{};
        copy_bytes(pinned, endpoint.vault_id());
        std::array<boot::PortDisk, 2> ports{};
        ports[0].disk = &second;
        ports[1].disk = &first;
        const std::array<boot::PortDisk*, 2> disks{&ports[0], &ports[1]};
        const auto vaults = std::make_unique<boot::Vaults>();
        const Status opened = vaults->open(disks, pinned, unsealer);
        EXPECT_TRUE(opened.ok()) << host::describe(opened.failure());
        EXPECT_TRUE(first.is_attached());
        return second.is_attached();
    }

    Endpoint endpoint;
    std::string data = endpoint.appliance.path("data.img");
};

TEST_F(Members, AreOpenedFromTheNextBootOn) {
    EXPECT_FALSE(boot_opens_member());
    expect_refusal(run_tool("sealed-key", add()), "--format");
    const json said = expect_yes(run_tool("sealed-key", add({"--format"})));
    EXPECT_EQ(said["members"], json::array({said["vault_id"]}));
    EXPECT_NE(said["vault_id"], endpoint.provisioned["vault_id"]);
    EXPECT_TRUE(boot_opens_member());
    const json same = expect_yes(run_tool("sealed-key", add()));
    EXPECT_EQ(same["members"], said["members"]) << "added once";
    EXPECT_TRUE(boot_opens_member());
    const json verified = expect_yes(
        run_tool("sealed-key", {"verify-recovery", data, "--recovery-key", endpoint.recovery_key(), "--json"}));
    EXPECT_EQ(verified["copies"], json({true, true}));
    const json status = expect_yes(run_tool("sealed-key", {"status", data, "--json"}));
    EXPECT_NE(status["next_boot"].get<std::string>().find("boot disk"), std::string::npos) << status;
}

TEST_F(Members, GoOnToOpenAfterTheBootVaultsKeysWereRotated) {
    (void)expect_yes(run_tool("sealed-key", add({"--format"})));
    (void)expect_yes(run_tool("sealed-key", {"rotate", "dek", endpoint.appliance.image(), "--recovery-key",
                                             endpoint.recovery_key(), "--json"}));
    (void)expect_yes(
        run_tool("sealed-key", {"rotate", "dek", data, "--recovery-key", endpoint.recovery_key(), "--json"}));
    endpoint.device.disconnect();
    (void)expect_yes(
        run_tool("sealed-key", {"rotate", "kek", endpoint.appliance.image(), "--recovery-key", endpoint.recovery_key(),
                                "--tcti", endpoint.device.tcti(), "--authority", endpoint.appliance.authority_public(),
                                "--policy-ref", kPolicyRef, "--json"}));
    const json said = expect_yes(run_tool(
        "sealed-key", {"rotate", "recovery", endpoint.appliance.image(), "--recovery-key", endpoint.recovery_key(),
                       "--recovery-key-out", endpoint.appliance.path("next.key"), "--json"}));
    EXPECT_NE(said["notes"].dump().find("its members keep the recovery key before"), std::string::npos) << said;
    endpoint.device.connect();
    EXPECT_TRUE(boot_opens_member());
}

TEST_F(Members, ThatWereRemovedStayAbsent) {
    const std::string id = expect_yes(run_tool("sealed-key", add({"--format"})))["vault_id"];
    const std::vector<std::string> remove{"remove-disk", endpoint.appliance.image(), "--recovery-key",
                                          endpoint.recovery_key(), "--vault-id"};
    auto another = remove;
    another.push_back(endpoint.provisioned["vault_id"]);
    expect_refusal(run_tool("sealed-key", another), "lists no such member");
    auto it = remove;
    it.insert(it.end(), {id, "--json"});
    EXPECT_EQ(expect_yes(run_tool("sealed-key", it))["members"], json::array());
    EXPECT_FALSE(boot_opens_member());
    (void)expect_yes(run_tool("sealed-key", add()));
    EXPECT_TRUE(boot_opens_member());
}

TEST_F(Members, AreNeitherBootDisksNorThoseOfAnotherEndpoint) {
    Endpoint other;
    other.provision();
    auto of_other = add();
    of_other[1] = other.appliance.image();
    expect_refusal(run_tool("sealed-key", of_other), "recovery key does not open");
    auto itself = add();
    itself[1] = endpoint.appliance.image();
    expect_refusal(run_tool("sealed-key", itself), "is the boot disk itself");
    expect_refusal(run_tool("sealed-key", add()), "--format makes a partition table");
    (void)expect_yes(run_tool("sealed-key", add({"--format"})));
    expect_refusal(run_tool("sealed-key", add({"--format"})), "is not empty");
    expect_refusal(run_tool("sealed-key", {"bump-counter", data}), data + ": partition table: no boot partition");
    const std::string whole = endpoint.appliance.path("whole.img");
    host::create_file(whole, {}, 0644);
    std::filesystem::resize_file(whole, 24 << 20);
    expect_refusal(run_tool("sealed-key", {"add-disk", data, "--boot-disk", other.appliance.image(), "--recovery-key",
                                           other.recovery_key()}),
                   "recovery key does not open");
    (void)host::run_program({"mkfs.ext4", "-q", "-F", whole}, {}, 1 << 16);
    auto with_file_system = add({"--format"});
    with_file_system[1] = whole;
    expect_refusal(run_tool("sealed-key", with_file_system), "is not empty");
    expect_refusal(run_tool("sealed-key", {"add-disk", endpoint.appliance.image(), "--boot-disk", data,
                                           "--recovery-key", endpoint.recovery_key()}),
                   "no boot disk");
}

// The boot vault is what opens a member, so it goes last.
TEST_F(Members, AreBroughtBackToPlaintextBeforeTheBootDisk) {
    const std::string id = expect_yes(run_tool("sealed-key", add({"--format"})))["vault_id"];
    const auto decrypt = [&](const std::string& disk) {
        return run_tool("sealed-key", {"decrypt", disk, "--recovery-key", endpoint.recovery_key(), "--yes", "--json"});
    };
    expect_refusal(decrypt(endpoint.appliance.image()), "remove-disk");
    EXPECT_TRUE(boot_opens_member());
    const json said = expect_yes(decrypt(data));
    EXPECT_NE(said["notes"][0].get<std::string>().find("--vault-id " + id), std::string::npos) << said;
    {
        const host::Disk plain(data, host::Disk::Access::kRead);
        const volume::GptEntry partition = host::read_partition_tables(plain).primary.partitions()[1];
        const Buffer content = plain.read_sectors(partition.first, partition.count());
        EXPECT_TRUE(content == Buffer(content.size())) << "as it was when it was added";
    }
    EXPECT_FALSE(boot_opens_member());
    (void)expect_yes(run_tool("sealed-key", {"remove-disk", endpoint.appliance.image(), "--recovery-key",
                                             endpoint.recovery_key(), "--vault-id", id, "--json"}));
    (void)expect_yes(decrypt(endpoint.appliance.image()));
}

}  // namespace
}  // namespace gatehouse::test
