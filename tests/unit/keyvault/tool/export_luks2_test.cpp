// `sealed-key export-luks2` as a user runs it; its header is read by stock cryptsetup, and what it says of the disk is
// followed by OpenSSL.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "tests/unit/keyvault/tool/encrypted_in_part.hpp"
#include "tests/unit/keyvault/tool/endpoint.hpp"
#include "tests/unit/keyvault/tool/openssl_xts.hpp"

namespace gatehouse::test {
namespace {

using nlohmann::json;

constexpr std::size_t kImageLimit = std::size_t{128} << 20;

std::string text_of(const Buffer& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

class ExportLuks2 : public testing::TestWithParam<std::size_t> {
  protected:
    [[nodiscard]] std::string header() const { return endpoint_.appliance.path("luks.header"); }
    [[nodiscard]] std::string image() const { return endpoint_.appliance.image(); }

    Outcome export_luks2(const std::vector<std::string>& more = {}) {
        std::vector<std::string> arguments{"export-luks2", image(),  "--recovery-key", endpoint_.recovery_key(),
                                           "--header-out", header(), "--json"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run_tool("sealed-key", arguments);
    }
    void expect_refused(const Outcome& outcome, int status, const std::string& word) {
        EXPECT_EQ(outcome.status, status) << outcome.errors;
        EXPECT_EQ(outcome.output, "");
        EXPECT_NE(outcome.errors.find(word), std::string::npos) << outcome.errors;
        EXPECT_NE(::access(header().c_str(), F_OK), 0);
    }
    // The recovery key file without its newline.
    [[nodiscard]] Buffer passphrase() const {
        Buffer text = host::read_file(endpoint_.recovery_key(), 100);
        text.pop_back();
        return text;
    }
    // What `cryptsetup luksDump` says in JSON.
    [[nodiscard]] json metadata() const {
        return json::parse(
            text_of(host::run_program({"cryptsetup", "luksDump", "--dump-json-metadata", header()}, {}, 1 << 16)));
    }
    [[nodiscard]] bool cryptsetup_opens(Bytes with) const {
        try {
            (void)host::run_program({"cryptsetup", "open", "--test-passphrase", "--type", "luks2", "--header", header(),
                                     "--key-file", "-", image()},
                                    with, 4096);
            return true;
        } catch (const host::ToolError&) {
            return false;
        }
    }
    void split_root() const {  // in two, 4 and 5
        for (const char* const option : {"-d3", "-n4:+0:+8M", "-n5:0:0", "-c4:system", "-c5:data"}) {
            (void)host::run_program({"sgdisk", option, image()}, {}, 1 << 16);
        }
    }

    Endpoint endpoint_;
};
INSTANTIATE_TEST_SUITE_P(Sizes, ExportLuks2, testing::Values(512, 4096));

TEST_P(ExportLuks2, MakesAHeaderThatStockCryptsetupOpensWithTheRecoveryKey) {
    endpoint_.provision(GetParam());
    const Buffer before = host::read_file(image(), kImageLimit);
    const Outcome outcome = export_luks2();
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_TRUE(host::read_file(image(), kImageLimit) == before) << "the disk is only read";

    EXPECT_TRUE(cryptsetup_opens(passphrase()));
    EXPECT_FALSE(cryptsetup_opens(host::read_file(endpoint_.recovery_key(), 100)))
        << "--key-file takes the newline too";
    EXPECT_FALSE(cryptsetup_opens(host::text_bytes(std::string(64, '0'))));
    std::string command = json::parse(outcome.output)["open"];
    command.replace(command.find("NAME"), 4, "--test-passphrase");
    EXPECT_NO_THROW((void)host::run_program({"sh", "-c", command}, {}, 4096)) << command;

    struct stat about {};
    ASSERT_EQ(::stat(header().c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 0777, 0600u);
}

TEST_P(ExportLuks2, HoldsTheDiskKey) {
    endpoint_.provision(GetParam());
    ASSERT_EQ(export_luks2().status, 0);
    const std::string key = endpoint_.appliance.path("volume.key");
    (void)host::run_program(
        {"cryptsetup", "luksDump", "-q", "--dump-volume-key", "--volume-key-file", key, "--key-file", "-", header()},
        passphrase(), 1 << 16);
    const host::Disk disk(image(), host::Disk::Access::kRead);
    const auto vault = std::make_unique<host::OpenVault>();
    host::open_with_recovery_key(disk, endpoint_.recovery_key(), *vault);
    EXPECT_TRUE(equal_bytes(host::read_file(key, 100), vault->keys.dek.bytes()));
    const Buffer file = host::read_file(header(), kImageLimit);
    const Bytes half = vault->keys.dek.bytes().first(32);
    EXPECT_TRUE(std::ranges::search(file, half).empty()) << "in the clear";
}

TEST_P(ExportLuks2, DescribesThePartitionAsItIsEncrypted) {
    endpoint_.prepare(GetParam());
    const Buffer plain = host::read_file(image(), kImageLimit);
    ASSERT_EQ(run_tool("sealed-key", endpoint_.provision_arguments()).status, 0);
    const Outcome outcome = export_luks2();
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_EQ(json::parse(outcome.output)["partition"], 3);
    EXPECT_EQ(json::parse(outcome.output)["name"], "root");

    const json content = metadata();
    ASSERT_EQ(content["segments"].size(), 1u);
    const json segment = content["segments"]["0"];
    EXPECT_EQ(segment["encryption"], "aes-xts-plain64");
    EXPECT_EQ(segment["sector_size"], GetParam());
    EXPECT_EQ(content["keyslots"]["0"]["kdf"]["type"], "pbkdf2");
    EXPECT_EQ(content["keyslots"]["0"]["kdf"]["iterations"], 1000) << "256 bits of entropy need no more";
    const auto number = [&](const char* name) { return std::stoull(segment[name].get<std::string>()); };
    // cryptsetup 2.6 opens without regard to iv_tweak: what is opened must begin where the tweaks do.
    ASSERT_EQ(number("offset"), 0u);
    ASSERT_EQ(number("iv_tweak"), 0u);
    const host::Disk disk(image(), host::Disk::Access::kRead);
    const volume::GptEntry root = volume::gpt_entry(host::read_primary_table(disk).entries(), 2);
    ASSERT_EQ(number("size"), (root.last + 1) * GetParam());
    ASSERT_EQ(json::parse(outcome.output)["offset"], root.first * GetParam());
    ASSERT_EQ(json::parse(outcome.output)["size"], root.count() * GetParam());

    const auto vault = std::make_unique<host::OpenVault>();
    host::open_with_recovery_key(disk, endpoint_.recovery_key(), *vault);
    for (std::uint64_t at = root.first * GetParam(); at < number("size"); at += GetParam()) {
        const Buffer opened = openssl_decrypt(disk.read_sectors(at / GetParam(), 1), vault->keys.dek.bytes(), at / 512);
        ASSERT_TRUE(equal_bytes(opened, Bytes(plain).subspan(at, GetParam()))) << at;
    }
}

TEST_F(ExportLuks2, NeverOverwritesAFile) {
    endpoint_.provision();
    host::create_file(header(), literal_bytes("another header"), 0600);
    const Outcome outcome = export_luks2();
    EXPECT_EQ(outcome.status, 2);
    EXPECT_NE(outcome.errors.find("exists already"), std::string::npos) << outcome.errors;
    EXPECT_EQ(text_of(host::read_file(header(), 100)), "another header");
}

TEST_F(ExportLuks2, AsksWhichOfSeveralPartitionsIsMeant) {
    endpoint_.prepare();
    split_root();
    ASSERT_EQ(run_tool("sealed-key", endpoint_.provision_arguments()).status, 0);
    expect_refused(export_luks2(), 2, "choose one with --partition: 4 (system, 16384 sectors), 5 (data, ");
    for (const char* const other : {"1", "2", "3", "6"}) {
        expect_refused(export_luks2({"--partition", other}), 2, "4 (system, 16384 sectors), 5 (data, ");
    }
    const Outcome outcome = export_luks2({"--partition", "5"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_EQ(json::parse(outcome.output)["name"], "data");
    const json result = json::parse(outcome.output);
    EXPECT_EQ(metadata()["segments"]["0"]["size"],
              std::to_string(result["offset"].get<std::uint64_t>() + result["size"].get<std::uint64_t>()));
    EXPECT_TRUE(cryptsetup_opens(passphrase()));
}

TEST_F(ExportLuks2, RefusesAnotherRecoveryKey) {
    endpoint_.provision();
    host::replace_file(endpoint_.recovery_key(), host::text_bytes(std::string(64, 'a') + "\n"));
    expect_refused(export_luks2(), 3, "does not open the vault");
}

TEST_F(ExportLuks2, RefusesADiskThatIsEncryptedInPart) {
    endpoint_.provision();
    pretend_encrypted_in_part(image(), endpoint_.recovery_key());
    expect_refused(export_luks2(), 3, "--resume --recovery-key " + endpoint_.recovery_key());
}

TEST_F(ExportLuks2, RefusesADiskOfAnotherSize) {
    endpoint_.provision();
    std::filesystem::resize_file(image(), (64 << 20) + 4096);
    (void)host::run_program({"sgdisk", "-e", image()}, {}, 1 << 16);
    expect_refused(export_luks2(), 3, "another size");
}

}  // namespace
}  // namespace gatehouse::test
