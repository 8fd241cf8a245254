// `sealed-key erase` as a user runs it, against a software TPM.
#include "keyvault/tool/erase.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>

#include "keyvault/tool/disk_serial.hpp"
#include "keyvault/tool/uncached_reader.hpp"
#include "tests/unit/keyvault/tool/encrypted_in_part.hpp"
#include "tests/unit/keyvault/tool/endpoint.hpp"

namespace gatehouse::test {
namespace {

using nlohmann::json;

constexpr std::size_t kImageLimit = std::size_t{128} << 20;

std::string text_of(const Buffer& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

class Erase : public testing::Test {
  protected:
    void provision() {
        endpoint_.provision();
        endpoint_.device.disconnect();
        vault_ = vault();
        const host::Disk disk(image(), host::Disk::Access::kRead);
        entry_ = host::read_primary_table(disk).vault_partition();
    }
    [[nodiscard]] std::string image() const { return endpoint_.appliance.image(); }
    [[nodiscard]] std::string record() const { return endpoint_.appliance.path("record.json"); }
    [[nodiscard]] std::string tcti() const { return endpoint_.device.tcti(); }
    [[nodiscard]] std::string vault_id() const { return endpoint_.provisioned["vault_id"]; }

    [[nodiscard]] Outcome erase(const std::vector<std::string>& more, std::size_t file_size_limit = 0) const {
        std::vector<std::string> arguments{"erase", image(), "--json"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run_tool("sealed-key", arguments, file_size_limit);
    }
    [[nodiscard]] json status() const {
        return json::parse(run_tool("sealed-key", {"status", image(), "--json"}).output);
    }
    [[nodiscard]] Buffer vault() const {
        const host::Disk disk(image(), host::Disk::Access::kRead);
        const volume::GptEntry entry = host::read_partition_tables(disk).vault_entry();
        return disk.read_sectors(entry.first, entry.count());
    }
    void put(std::uint64_t lba, Bytes content) const {
        host::Disk disk(image(), host::Disk::Access::kWrite);
        disk.write(lba, content);
        disk.flush();
    }
    [[nodiscard]] static bool is_zero(const Buffer& bytes) { return bytes == Buffer(bytes.size()); }
    [[nodiscard]] bool recovery_key_opens() const {
        const host::Disk disk(image(), host::Disk::Access::kRead);
        volume::SlotSecret secret;
        host::read_recovery_key(endpoint_.recovery_key(), secret);
        return host::open_with_recovery_key(disk, secret, *std::make_unique<host::OpenVault>()).ok();
    }

    Endpoint endpoint_;
    Buffer vault_;
    volume::GptEntry entry_;
};

TEST_F(Erase, DestroysTheVaultAndWhatTheTpmKeepsAndRecordsIt) {
    provision();
    Buffer before = host::read_file(image(), kImageLimit);
    const Outcome outcome = erase(
        {"--tcti", tcti(), "--yes", "--record-out", record(), "--sign-key", endpoint_.appliance.authority_private()});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_NE(outcome.errors.find(vault_id()), std::string::npos) << "says what it destroys: " << outcome.errors;
    EXPECT_NE(outcome.errors.find("for ever"), std::string::npos) << outcome.errors;

    const json result = json::parse(outcome.output);
    EXPECT_EQ(result["disk"], endpoint_.provisioned["disk"]);
    EXPECT_EQ(result["vault_id"], vault_id());
    EXPECT_EQ(result["label"], endpoint_.provisioned["label"]);
    EXPECT_EQ(result["encrypted_percent"], 100);
    EXPECT_EQ(result["bytes_overwritten"], 2 << 20);
    EXPECT_EQ(result["tpm"], (json{{"storage_root_key", "removed"}, {"rollback_counter", "removed"}}));
    EXPECT_TRUE(result["read_back"] == "O_DIRECT" || result["read_back"] == "POSIX_FADV_DONTNEED");
    EXPECT_THAT(result["time"].get<std::string>(),
                testing::MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"));

    std::fill_n(before.begin() + static_cast<std::ptrdiff_t>(entry_.first * 512), entry_.count() * 512, std::byte{0});
    EXPECT_TRUE(host::read_file(image(), kImageLimit) == before);
    EXPECT_FALSE(recovery_key_opens());
    EXPECT_EQ(status()["state"], "none");
    {
        host::EndpointTpm tpm(tcti());
        EXPECT_FALSE(tpm.storage_root_key().has_value());
        EXPECT_FALSE(tpm.rollback_counter(tpm::kRollbackCounter).has_value());
    }
    EXPECT_EQ(json::parse(text_of(host::read_file(record(), 1 << 16))), result);
    const auto verify = [&] {
        return text_of(
            host::run_program({"openssl", "dgst", "-sha256", "-verify", endpoint_.appliance.authority_public(),
                               "-signature", record() + ".sig", record()},
                              {}, 4096));
    };
    EXPECT_EQ(verify(), "Verified OK\n");
    EXPECT_FALSE(std::filesystem::exists(record() + ".begun"));
    host::replace_file(record(), host::text_bytes(text_of(host::read_file(record(), 1 << 16)) + " "));
    EXPECT_THROW((void)verify(), host::ToolError);
}

// What the help text says of a copy of the header.
TEST_F(Erase, VoidsTheOldApprovalForACopyOfTheHeaderButNotTheRecoveryKey) {
    provision();
    const auto unseals = [&] {
        endpoint_.device.connect();
        endpoint_.launch();
        const bool ok = endpoint_.unseal().ok();
        endpoint_.device.disconnect();
        return ok;
    };
    ASSERT_EQ(erase({"--yes"}).status, 0);
    put(entry_.first, vault_);
    EXPECT_TRUE(unseals()) << "what the TPM keeps matters";
    ASSERT_EQ(erase({"--tcti", tcti(), "--yes"}).status, 0);
    put(entry_.first, vault_);
    EXPECT_TRUE(recovery_key_opens());
    {
        host::EndpointTpm tpm(tcti());
        EXPECT_EQ(host::hex(tpm.require_storage_root_key()), endpoint_.provisioned["srk_name"]);
        EXPECT_GT(tpm.require_rollback_counter(tpm::kRollbackCounter).value,
                  endpoint_.provisioned["counter"]["value"].get<std::uint64_t>());
    }
    EXPECT_FALSE(unseals());
}

TEST_F(Erase, SaysNoOfADiskThatWasEncryptedInPart) {
    provision();
    pretend_encrypted_in_part(image(), endpoint_.recovery_key());
    const Outcome outcome = erase({"--yes"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(json::parse(outcome.output)["encrypted_percent"], 0);
    EXPECT_NE(outcome.errors.find("stays readable"), std::string::npos) << outcome.errors;
    EXPECT_TRUE(is_zero(vault()));
}

TEST_F(Erase, IsEndedByTheSameAgainAndRemembersWhoseVaultItWas) {
    provision();
    const std::vector<std::string> options{"--tcti", tcti(), "--yes", "--record-out", record()};
    const std::size_t cut = entry_.first * 512 + volume::kCopyOffset[1];  // before the second copy
    ASSERT_EQ(erase(options, cut).status, -1);
    EXPECT_TRUE(status()["copies"][0].is_null()) << "half a vault says so";
    EXPECT_FALSE(status()["copies"][1].is_null());
    ASSERT_EQ(erase(options, cut + 4096).status, -1);
    EXPECT_EQ(status()["state"], "none");
    EXPECT_FALSE(is_zero(vault()));
    const Outcome outcome = erase(options);
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_TRUE(is_zero(vault()));
    EXPECT_EQ(json::parse(outcome.output)["vault_id"], vault_id());
    EXPECT_EQ(json::parse(outcome.output)["label"], endpoint_.provisioned["label"]);

    const Outcome again = erase({"--tcti", tcti(), "--yes"});
    ASSERT_EQ(again.status, 0) << again.errors;
    EXPECT_TRUE(json::parse(again.output)["vault_id"].is_null());
    EXPECT_EQ(json::parse(again.output)["tpm"], (json{{"storage_root_key", "absent"}, {"rollback_counter", "absent"}}));
}

TEST_F(Erase, TakesADamagedDisk) {
    provision();
    for (const std::uint64_t offset : volume::kCopyOffset) put(entry_.first + offset / 512, Buffer(512));
    put(1, Buffer(512));  // the primary partition table
    ASSERT_EQ(erase({"--yes", "--keep-tpm", "--tcti", tcti()}).status, 0);
    EXPECT_TRUE(is_zero(vault()));
    host::EndpointTpm tpm(tcti());
    EXPECT_TRUE(tpm.storage_root_key().has_value());
    EXPECT_TRUE(tpm.rollback_counter(tpm::kRollbackCounter).has_value());
}

TEST_F(Erase, ChangesNothingUnlessItIsConfirmedAndCanDoAllThatIsAskedFor) {
    provision();
    const Buffer before = host::read_file(image(), kImageLimit);
    host::create_file(endpoint_.appliance.path("taken"), {}, 0600);
    make_key("P-384", endpoint_.appliance.path("p384.pem"));
    const std::string taken = endpoint_.appliance.path("taken");
    const struct {
        std::vector<std::string> options;
        int status;
        const char* word;
    } cases[] = {
        {{}, 2, "--yes or --serial"},
        {{"--serial", "S1234"}, 2, "has no serial number"},
        {{"--yes", "--serial", "S1234"}, 2, ""},
        {{"--yes", "--record-out", taken}, 2, "exists already"},
        {{"--yes", "--record-out", taken.substr(0, taken.size() - 4), "--sign-key", record()}, 3, "record.json"},
        {{"--yes", "--sign-key", endpoint_.appliance.authority_private()}, 2, "--record-out"},
        {{"--yes", "--record-out", record(), "--sign-key", endpoint_.appliance.path("p384.pem")}, 3, "p384.pem"},
        {{"--yes", "--tcti", "swtpm:path=/nonexistent"}, 3, "cannot be reached"},
    };
    for (const auto& each : cases) {
        const Outcome outcome = erase(each.options);
        EXPECT_EQ(outcome.status, each.status) << outcome.errors;
        EXPECT_NE(outcome.errors.find(each.word), std::string::npos) << each.word << ": " << outcome.errors;
        EXPECT_EQ(outcome.output, "");
    }
    // Asked, and the answer is another vault's.
    std::string asked;
    const auto answer = [&](const std::string& text) {
        return [&asked, text](const std::string&, const std::string& digits, std::string& to) {
            asked = digits;
            to = text;
            return true;
        };
    };
    bool ok = true;
    const host::EraseRequest request{.disk = image(), .tcti = {}, .serial = {}, .record_out = {}, .sign_key = {}};
    for (const std::string& text : {std::string(), std::string("00000000"), vault_id()}) {
        EXPECT_THROW((void)host::erase(request, ok, answer(text)), host::ToolError) << text;
    }
    EXPECT_EQ(asked, vault_id().substr(0, 8));
    EXPECT_TRUE(host::read_file(image(), kImageLimit) == before);
    EXPECT_EQ(host::erase(request, ok, answer(vault_id().substr(0, 8)))["vault_id"], vault_id());
    EXPECT_TRUE(is_zero(vault()));
}

TEST_F(Erase, AsksOnTheTerminal) {
    provision();
    const std::string command = std::string(GATEHOUSE_BIN) + "/sealed-key erase " + image();
    const auto in_terminal = [&](const std::string& typed) {
        return text_of(host::run_program({"script", "-qec", command, "/dev/null"}, host::text_bytes(typed), 1 << 16));
    };
    EXPECT_THROW((void)in_terminal("no\n"), host::ToolError);
    EXPECT_TRUE(vault() == vault_);
    EXPECT_NE(in_terminal(vault_id().substr(0, 8) + "\n").find("read_back"), std::string::npos);
    EXPECT_TRUE(is_zero(vault()));
}

TEST_F(Erase, NamesWhatTheTpmRefusedAndLeavesWhatIsNotTheEndpoints) {
    provision();
    (void)host::run_program({"tpm2_evictcontrol", "-T", tcti(), "-Q", "-c", "0x81000001"}, {}, 1 << 16);
    const std::string context = endpoint_.appliance.path("key.context");
    (void)host::run_program({"tpm2_createprimary", "-T", tcti(), "-Q", "-G", "rsa", "-c", context}, {}, 1 << 16);
    (void)host::run_program({"tpm2_evictcontrol", "-T", tcti(), "-Q", "-c", context, "0x81000001"}, {}, 1 << 16);
    (void)host::run_program({"tpm2_changeauth", "-T", tcti(), "-Q", "-c", "owner", "secret"}, {}, 1 << 16);
    const Outcome outcome = erase({"--tcti", tcti(), "--yes", "--record-out", record()});
    EXPECT_EQ(outcome.status, 1) << outcome.errors;
    const json tpm = json::parse(outcome.output)["tpm"];
    EXPECT_NE(tpm["storage_root_key"].get<std::string>().find("refused: TPM: 0x81000001 holds another key"),
              std::string::npos)
        << tpm;
    EXPECT_TRUE(tpm["rollback_counter"].get<std::string>().starts_with("refused: TPM: removing the rollback counter"))
        << tpm;
    EXPECT_EQ(json::parse(text_of(host::read_file(record(), 1 << 16)))["tpm"], tpm);
    EXPECT_TRUE(is_zero(vault()));
}

TEST(DiskSerial, IsReadAsVirtioNvmeAndScsiGiveIt) {
    const Directory directory;
    std::filesystem::create_directory(directory.path() + "/device");
    EXPECT_EQ(host::serial_from(directory.path()), "");
    const std::string page("\0\x80\0\x08  S-123 \0", 12);
    host::create_file(directory.path() + "/device/vpd_pg80", host::text_bytes(page), 0600);
    EXPECT_EQ(host::serial_from(directory.path()), "S-123");
    host::create_file(directory.path() + "/device/serial", host::text_bytes("NVME 7      \n"), 0600);
    EXPECT_EQ(host::serial_from(directory.path()), "NVME 7");
    host::create_file(directory.path() + "/serial", host::text_bytes("virtio-7"), 0600);
    EXPECT_EQ(host::serial_from(directory.path()), "virtio-7");
    host::replace_file(directory.path() + "/serial", {});
    host::replace_file(directory.path() + "/device/serial", host::text_bytes(" \n"));
    host::replace_file(directory.path() + "/device/vpd_pg80", host::text_bytes("abc"));
    EXPECT_EQ(host::serial_from(directory.path()), "");
}

TEST(UncachedReader, ReadsWhatIsOnTheMedium) {
    const Directory directory;
    const std::string path = directory.path() + "/disk";
    Buffer content(1 << 20);
    for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::byte>(i / 512 * 31 + i);
    host::create_file(path, content, 0600);
    const host::Disk disk(path, host::Disk::Access::kRead);
    host::UncachedReader reader(disk);
    for (const std::uint64_t lba : {0, 8, 1, 2048 - 16}) {
        Buffer read(16 * 512);
        reader.read(lba, read);
        EXPECT_TRUE(equal_bytes(read, Bytes(content).subspan(lba * 512, read.size()))) << reader.method();
    }
    Buffer past(16 * 512);
    EXPECT_THROW(reader.read(2048 - 8, past), host::ToolError);
}

}  // namespace
}  // namespace gatehouse::test
