// sealed-key as a user runs it, against a software TPM; what it did is checked with OpenSSL and by the
// endpoint's launch.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "ata/xts/xts.hpp"
#include "keyvault/host_support/authority.hpp"
#include "keyvault/tool/provision.hpp"
#include "keyvault/tool/recovery_key.hpp"
#include "keyvault/volume/format.hpp"
#include "tests/unit/keyvault/tool/endpoint.hpp"
#include "tests/unit/keyvault/tool/openssl_xts.hpp"
#include "tests/unit/keyvault/version_one.hpp"

namespace gatehouse::test {
namespace {

using nlohmann::json;

constexpr std::size_t kImageLimit = std::size_t{128} << 20;

std::string text_of(const Buffer& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// Opens a whole disk as device mapper would by the table: crypt, linear and zero targets, 512-byte sectors.
Buffer opened_by_table(const std::string& table, const Buffer& disk, const std::string& device) {
    Buffer plain;
    std::istringstream lines(table);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream fields(line);
        std::uint64_t first = 0;
        std::uint64_t count = 0;
        std::string target;
        fields >> first >> count >> target;
        EXPECT_EQ(first * 512, plain.size()) << "targets must follow one another without a gap";
        std::string name;
        std::uint64_t offset = 0;
        if (target == "zero") {
            plain.resize(plain.size() + count * 512);
        } else if (target == "linear") {
            fields >> name >> offset;
            EXPECT_EQ(name, device);
            const Bytes part = Bytes(disk).subspan(offset * 512, count * 512);
            plain.insert(plain.end(), part.begin(), part.end());
        } else {
            EXPECT_EQ(target, "crypt");
            std::string cipher;
            std::string key_text;
            std::uint64_t iv_offset = 0;
            std::size_t options = 0;
            std::string option;
            fields >> cipher >> key_text >> iv_offset >> name >> offset >> options >> option;
            EXPECT_EQ(cipher, "aes-xts-plain64");
            EXPECT_EQ(name, device);
            const std::size_t unit = option == "sector_size:4096" ? 4096 : 512;
            const Buffer key = host::from_hex(key_text, "key");
            EXPECT_EQ(key.size(), 64u);
            for (std::uint64_t at = 0; at < count; at += unit / 512) {
                const Bytes sector = Bytes(disk).subspan((offset + at) * 512, unit);
                const Buffer opened = openssl_decrypt(sector, key, iv_offset + at);
                plain.insert(plain.end(), opened.begin(), opened.end());
            }
        }
    }
    return plain;
}

// sealed-key with an injection; 127: strace cannot be used, -1: it was killed.
Outcome run_under_strace(const std::string& injection, const std::vector<std::string>& arguments) {
    const Directory directory;
    const std::string call = injection.substr(0, injection.find(':'));
    std::string line = "ASAN_OPTIONS=detect_leaks=0 ";  // which does not work under ptrace
    line +=
        "strace -f -qq -o /dev/null -e trace=" + call + " -e inject=" + injection + " " + GATEHOUSE_BIN + "/sealed-key";
    for (const std::string& argument : arguments) line += " '" + argument + "'";
    line += " > " + directory.path() + "/out 2> " + directory.path() + "/errors";
    if (std::system("strace -qq -o /dev/null true 2> /dev/null") != 0) return {127, "", ""};
    const int status = std::system(line.c_str());
    const auto read = [&](const char* name) { return text_of(host::read_file(directory.path() + name, 1 << 20)); };
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return {code > 128 ? -1 : code, read("/out"), read("/errors")};
}

std::string export_table(const Endpoint& endpoint, const std::string& device) {
    const Outcome outcome = run_tool("sealed-key", {"export-dmsetup", endpoint.appliance.image(), "--recovery-key",
                                                    endpoint.recovery_key(), "--device", device});
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    return outcome.output;
}

// Whether a sector belongs to one of the copies of the partition table, which get new GUIDs.
bool in_table(std::size_t lba, std::size_t total, std::size_t sector_size) {
    const std::size_t sectors = 1 + volume::kGptMaxTableSize / sector_size;
    return (lba >= 1 && lba <= sectors) || lba >= total - sectors;
}

// A disk whose vault partition and partition tables read as zeros.
Buffer without_vault(Buffer disk, const json& regions, std::size_t sector_size) {
    for (std::size_t lba = 0; lba < disk.size() / sector_size; ++lba) {
        if (!in_table(lba, disk.size() / sector_size, sector_size)) continue;
        std::fill_n(disk.begin() + static_cast<std::ptrdiff_t>(lba * sector_size), sector_size, std::byte{0});
    }
    for (const json& region : regions) {
        if (region["kind"] != "hidden") continue;
        const auto first = disk.begin() + static_cast<std::ptrdiff_t>(region["first"].get<std::size_t>() * sector_size);
        std::fill_n(first, region["count"].get<std::size_t>() * sector_size, std::byte{0});
    }
    return disk;
}

class SectorSize : public testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, SectorSize, testing::Values(512, 4096));

TEST_P(SectorSize, ProvisioningEncryptsAsStockDmCryptDecrypts) {
    Endpoint endpoint;
    endpoint.prepare(GetParam());
    const Buffer before = host::read_file(endpoint.appliance.image(), kImageLimit);
    const Outcome outcome = run_tool("sealed-key", endpoint.provision_arguments());
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const json provisioned = json::parse(outcome.output);
    EXPECT_EQ(provisioned["sector_size"], GetParam());
    const Buffer after = host::read_file(endpoint.appliance.image(), kImageLimit);
    const std::string table = export_table(endpoint, "/dev/rescue");
    const Buffer opened = opened_by_table(table, after, "/dev/rescue");
    ASSERT_EQ(opened.size(), before.size());
    EXPECT_TRUE(without_vault(opened, provisioned["regions"], GetParam()) ==
                without_vault(before, provisioned["regions"], GetParam()));
}

TEST_P(SectorSize, ProvisioningLeavesNoPlainSectorOutsideOfTheOpenRegions) {
    Endpoint endpoint;
    endpoint.prepare(GetParam());
    const Buffer before = host::read_file(endpoint.appliance.image(), kImageLimit);
    const json regions = json::parse(run_tool("sealed-key", endpoint.provision_arguments()).output)["regions"];
    const Buffer after = host::read_file(endpoint.appliance.image(), kImageLimit);
    const std::size_t size = GetParam();
    std::size_t encrypted = 0;
    for (std::size_t lba = 0; lba < after.size() / size; ++lba) {
        const auto in_region = [&](const json& region) {
            return lba >= region["first"] && lba - region["first"].get<std::size_t>() < region["count"];
        };
        const auto region = std::find_if(regions.begin(), regions.end(), in_region);
        const bool same = equal_bytes(Bytes(after).subspan(lba * size, size), Bytes(before).subspan(lba * size, size));
        if (region == regions.end()) {
            ASSERT_FALSE(same) << "sector " << lba << " is plain; holes are to be encrypted too";
            ++encrypted;
        } else if ((*region)["kind"] != "hidden" && !in_table(lba, after.size() / size, size)) {
            ASSERT_TRUE(same) << "sector " << lba << " of an open region was changed";
        }
    }
    EXPECT_GT(encrypted * size, std::size_t{12} << 20);
}

TEST_P(SectorSize, TheGuestSeesGoodPartitionTablesWithoutTheVault) {
    Endpoint endpoint;
    endpoint.provision(GetParam());
    const host::Disk disk(endpoint.appliance.image(), host::Disk::Access::kRead);
    const auto vault = std::make_unique<host::OpenVault>();
    host::open_with_recovery_key(disk, endpoint.recovery_key(), *vault);
    const volume::Header& header = vault->header;
    ASSERT_EQ(header.overlay_count, 4u);

    Buffer seen = disk.read_sectors(0, disk.total_sectors());
    for (const volume::OverlaySector& sector : header.overlay_table()) {
        copy_bytes(MutableBytes(seen).subspan(sector.lba * GetParam()), Bytes(sector.content).first(GetParam()));
    }
    const std::string path = endpoint.appliance.path("seen.img");
    host::replace_file(path, seen);
    const host::Disk guest(path, host::Disk::Access::kRead);
    const auto whole = host::read_primary_table(disk).partitions();
    for (const std::uint64_t lba : {volume::kPrimaryGptLba, guest.total_sectors() - 1}) {
        const host::PartitionTable table = host::read_partition_table(guest, lba);
        EXPECT_EQ(table.partitions().size(), whole.size() - 1);
        EXPECT_THROW((void)table.vault_partition(), host::ToolError);
        EXPECT_EQ(table.boot_partition().first, host::read_primary_table(disk).boot_partition().first);
    }
    if (GetParam() == 512) {  // a tool of others must like it as well
        const Outcome verified = [&] {
            const Buffer output = host::run_program({"sgdisk", "--verify", path}, {}, 1 << 16);
            return Outcome{0, text_of(output), ""};
        }();
        EXPECT_NE(verified.output.find("No problems found"), std::string::npos) << verified.output;
    }
}

TEST_P(SectorSize, TheLaunchedEndpointOpensItsVault) {
    Endpoint endpoint;
    endpoint.provision(GetParam());
    endpoint.launch();
    volume::Header header;
    volume::Keys keys;
    endpoint.open_vault(header, keys);
    EXPECT_EQ(header.generation, endpoint.provisioned["generation"]);
    EXPECT_EQ(host::hex(header.vault_id), endpoint.provisioned["vault_id"]);
    EXPECT_EQ(header.vault_id, volume::vault_id(keys.root));
    EXPECT_EQ(header.data_key.epoch, 1u);
    EXPECT_EQ(header.sector_size, GetParam());
    const std::string table = export_table(endpoint, "/dev/rescue");
    EXPECT_NE(table.find(host::hex(keys.dek.bytes())), std::string::npos) << "TPM and recovery key give one DEK";
}

TEST(SealedKey, ProvisionsForAnAuthorityWithAnRsaKey) {
    Endpoint endpoint("RSA");
    endpoint.provision();
    endpoint.launch();
    EXPECT_TRUE(endpoint.unseal().ok());
}

TEST(SealedKey, KeepsTheVaultClosedAfterTheCap) {
    Endpoint endpoint;
    endpoint.provision();
    endpoint.launch();
    endpoint.cap();
    EXPECT_FALSE(endpoint.unseal().ok());
}

// What `status` foresees of the next boot: that it refuses, in a sentence with these words.
void expect_closed(const Endpoint& endpoint, const std::string& why, const std::string& item = "") {
    const Outcome status = run_tool("sealed-key", {"status", endpoint.appliance.image(), "--json"});
    EXPECT_EQ(status.status, 1);
    const std::string said = json::parse(status.output)["next_boot"];
    EXPECT_TRUE(said.starts_with("refuses: " + why) && said.find(item) != std::string::npos) << said;
}

TEST(SealedKey, KeepsTheVaultClosedIfAMeasuredFileChanges) {
    Endpoint endpoint;
    endpoint.provision();
    for (const std::string& name : policies::measured_files()) {
        if (name == policies::kBundleFile) continue;  // a bit there is one of what it pins: another refusal
        const Buffer content = endpoint.appliance.boot_file(name);
        Buffer changed = content;
        changed[10] ^= std::byte{1};
        endpoint.appliance.put_boot_file(name, changed);
        endpoint.launch();
        EXPECT_FALSE(endpoint.unseal().ok()) << name;
        expect_closed(endpoint, "the approval is of another ", name);
        endpoint.appliance.put_boot_file(name, content);
    }
    endpoint.launch();
    EXPECT_TRUE(endpoint.unseal().ok()) << "and the files as they were open it";
}

TEST(SealedKey, ForeseesThatAnApprovalOpensNothing) {
    constexpr std::size_t kNamedValues = 24;  // those of PCR 17 and 18, for messages only (policies/bundle/bundle.hpp)
    for (const char* const kind : {"EC", "RSA"}) {
        Endpoint endpoint(kind);
        endpoint.provision();
        EXPECT_EQ(run_tool("sealed-key", {"status", endpoint.appliance.image()}).status, 0) << kind;
        const Buffer approval = endpoint.appliance.boot_file(policies::kApprovalFile);
        for (std::size_t at = 0; at < approval.size(); at += 11) {
            Buffer changed = approval;
            changed[at] ^= std::byte{1};
            endpoint.appliance.put_boot_file(policies::kApprovalFile, changed);
            const bool opens = at >= kNamedValues && at < kNamedValues + 2 * kSha256Size;
            if (opens) {
                EXPECT_EQ(run_tool("sealed-key", {"status", endpoint.appliance.image()}).status, 0)
                    << kind << " " << at;
            } else {
                expect_closed(endpoint, "the approval");
            }
            if (at % 3 != 0) continue;  // each takes the TPM a while
            endpoint.launch();
            EXPECT_EQ(endpoint.unseal().ok(), opens) << kind << " " << at;
        }
        endpoint.appliance.put_boot_file(policies::kApprovalFile, approval);
        endpoint.launch();
        EXPECT_TRUE(endpoint.unseal().ok()) << kind;
    }
}

TEST(SealedKey, FindsTheAuthoritysKeyInABundleAgain) {
    const Directory directory;
    for (const std::string kind : {"EC", "RSA"}) {
        make_key(kind, directory.path() + "/key.pem");
        const tpm::PublicArea area =
            host::authority_public_area(host::read_private_key(directory.path() + "/key.pem").get());
        EXPECT_EQ(host::authority_public_area(host::authority_key(area.bytes()).get()).bytes().size(),
                  area.bytes().size());
        for (std::size_t bit = 0; bit < 8 * area.bytes().size(); ++bit) {
            Buffer changed(area.bytes().begin(), area.bytes().end());
            changed[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
            try {
                const host::Key key = host::authority_key(changed);
                EXPECT_TRUE(equal_bytes(host::authority_public_area(key.get()).bytes(), changed)) << kind << bit;
            } catch (const host::ToolError&) {
                continue;
            }
        }
        for (std::size_t size = 0; size < area.bytes().size(); ++size) {
            EXPECT_THROW((void)host::authority_key(area.bytes().first(size)), host::ToolError) << kind << size;
        }
    }
}

TEST(SealedKey, RefusesToProvisionTwice) {
    Endpoint endpoint;
    endpoint.provision();
    endpoint.device.disconnect();
    std::filesystem::remove(endpoint.recovery_key());
    const Buffer before = host::read_file(endpoint.appliance.image(), kImageLimit);
    const Outcome again = run_tool("sealed-key", endpoint.provision_arguments());
    EXPECT_EQ(again.status, 3);
    EXPECT_NE(again.errors.find("already provisioned"), std::string::npos) << again.errors;
    EXPECT_TRUE(host::read_file(endpoint.appliance.image(), kImageLimit) == before);
    EXPECT_FALSE(std::filesystem::exists(endpoint.recovery_key()));
}

// Opens the disk by its recovery key and compares what is in it.
void expect_whole(const Endpoint& endpoint, const Buffer& before) {
    const json status = json::parse(run_tool("sealed-key", {"status", endpoint.appliance.image(), "--recovery-key",
                                                            endpoint.recovery_key(), "--json"})
                                        .output);
    ASSERT_EQ(status["state"], "provisioned") << status;
    ASSERT_EQ(status["authenticated"], true) << status;
    const host::Disk disk(endpoint.appliance.image(), host::Disk::Access::kRead);
    const auto vault = std::make_unique<host::OpenVault>();
    host::open_with_recovery_key(disk, endpoint.recovery_key(), *vault);
    ata::XtsKey key;
    ASSERT_TRUE(key.set(vault->keys.dek.bytes()).ok());
    Buffer content = disk.read_sectors(0, disk.total_sectors());
    for (const host::Extent& extent : host::encrypted_extents(vault->header)) {
        std::byte* const at = content.data() + extent.first * 512;
        key.transform(ata::XtsKey::Direction::kDecrypt, at, at, extent.count, 512, extent.first);
    }
    EXPECT_TRUE(without_vault(content, status["regions"], 512) == without_vault(before, status["regions"], 512));
}

std::vector<std::string> resume_arguments(const Endpoint& endpoint) {
    return {"provision", endpoint.appliance.image(), "--resume", "--recovery-key", endpoint.recovery_key(), "--json"};
}

TEST(SealedKey, GoesOnAfterItWasKilled) {
    Endpoint endpoint;
    endpoint.prepare();
    const Buffer before = host::read_file(endpoint.appliance.image(), kImageLimit);
    const Outcome killed = run_under_strace("pwrite64:signal=KILL:when=18", endpoint.provision_arguments());
    if (killed.status == 127) GTEST_SKIP() << "strace cannot be used here";
    ASSERT_EQ(killed.status, -1) << killed.errors;
    const Outcome status = run_tool("sealed-key", {"status", endpoint.appliance.image()});
    EXPECT_EQ(status.status, 1);
    EXPECT_NE(status.output.find("provisioning, "), std::string::npos) << status.output;
    EXPECT_NE(status.output.find("--resume"), std::string::npos) << status.output;

    const Outcome again = run_tool("sealed-key", endpoint.provision_arguments());
    EXPECT_EQ(again.status, 3);
    EXPECT_NE(again.errors.find("--resume --recovery-key"), std::string::npos) << again.errors;
    const Outcome exported = run_tool(
        "sealed-key", {"export-dmsetup", endpoint.appliance.image(), "--recovery-key", endpoint.recovery_key()});
    EXPECT_EQ(exported.status, 3) << "half of it is plain";

    const Outcome resumed = run_tool("sealed-key", resume_arguments(endpoint));
    ASSERT_EQ(resumed.status, 0) << resumed.errors;
    EXPECT_NE(resumed.output.find("sealed-key status"), std::string::npos) << resumed.output;
    expect_whole(endpoint, before);
}

// Each fsync and each pwrite of the tool fails once, with the real kernel; under the sanitizers some.
TEST(SealedKey, LosesNothingByAnInputOutputError) {
    Endpoint endpoint;
    endpoint.prepare();
    const Buffer before = host::read_file(endpoint.appliance.image(), kImageLimit);
#ifdef __SANITIZE_ADDRESS__
    constexpr std::array kCalls{std::pair{"fsync", 2}, std::pair{"pwrite64", 5}};
#else
    constexpr std::array kCalls{std::pair{"fsync", 1}, std::pair{"pwrite64", 1}};
#endif
    for (const auto& [call, step] : kCalls) {
        bool failed = true;
        for (int number = 1; failed; number += step) {
            SCOPED_TRACE(std::string(call) + " " + std::to_string(number));
            host::replace_file(endpoint.appliance.image(), before, 0600);
            std::filesystem::remove(endpoint.recovery_key());
            const Outcome outcome = run_under_strace(std::string(call) + ":error=EIO:when=" + std::to_string(number),
                                                     endpoint.provision_arguments());
            if (outcome.status == 127) GTEST_SKIP() << "strace cannot be used here";
            failed = outcome.status != 0;
            if (failed) {
                ASSERT_EQ(outcome.status, 3) << outcome.errors;
                if (run_tool("sealed-key", resume_arguments(endpoint)).status != 0) {
                    std::filesystem::remove(endpoint.recovery_key());
                    const Outcome anew = run_tool("sealed-key", endpoint.provision_arguments());
                    ASSERT_EQ(anew.status, 0) << anew.errors << " after " << outcome.errors;
                }
            }
            ASSERT_NO_FATAL_FAILURE(expect_whole(endpoint, before));
        }
    }
}

TEST(SealedKey, MakesADamagedCopyOfTheHeaderAgain) {
    Endpoint endpoint;
    endpoint.provision();
    endpoint.device.disconnect();
    {
        host::Disk disk(endpoint.appliance.image(), host::Disk::Access::kWrite);
        disk.write(host::read_primary_table(disk).vault_partition().first, Buffer(4096));
    }
    std::filesystem::remove(endpoint.recovery_key() + ".2");
    std::vector<std::string> arguments = endpoint.provision_arguments();
    std::ranges::replace(arguments, endpoint.recovery_key(), endpoint.recovery_key() + ".2");
    const Outcome again = run_tool("sealed-key", arguments);
    EXPECT_EQ(again.status, 3);
    EXPECT_NE(again.errors.find("made again"), std::string::npos) << again.errors;
    const Outcome status = run_tool("sealed-key", {"status", endpoint.appliance.image(), "--json"});
    EXPECT_EQ(std::ranges::count(json::parse(status.output)["copies"], json(nullptr)), 0);
    EXPECT_EQ(status.status, 0);
}

TEST(SealedKey, GivesEachDiskGuidsOfItsOwn) {
    Endpoint endpoint;
    endpoint.prepare();
    const auto guids = [&] {
        const host::Disk disk(endpoint.appliance.image(), host::Disk::Access::kRead);
        const host::PartitionTable table = host::read_primary_table(disk);
        std::vector<volume::Guid> all{table.header.disk};
        for (const volume::GptEntry& entry : table.partitions()) all.push_back(entry.id);
        return all;
    };
    const auto before = guids();
    ASSERT_EQ(run_tool("sealed-key", endpoint.provision_arguments()).status, 0);
    const auto after = guids();
    for (std::size_t i = 0; i < before.size(); ++i) EXPECT_NE(after[i], before[i]) << i;
}

TEST(SealedKey, TellsWhatIsMissingForAFleetsEndpoint) {
    Endpoint endpoint;
    endpoint.prepare();
    endpoint.appliance.make_fleet_bundle();
    endpoint.appliance.put_boot_file("policy.bundle", endpoint.appliance.read("policy.bundle"));
    const Outcome outcome = run_tool("sealed-key", endpoint.provision_arguments());
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const json provisioned = json::parse(outcome.output);
    EXPECT_NE(provisioned["next"][0].get<std::string>().find("policyctl record"), std::string::npos);
    const Outcome status = run_tool("sealed-key", {"status", endpoint.appliance.image(), "--json"});
    EXPECT_EQ(status.status, 1);
    const std::string wanted = "policyctl record --srk-name " + provisioned["srk_name"].get<std::string>() +
                               " --vault-id " + provisioned["vault_id"].get<std::string>();
    EXPECT_NE(json::parse(status.output)["next_boot"].get<std::string>().find(wanted), std::string::npos);
    const auto first_of_next = [&] {
        const Outcome sealed =
            run_tool("sealed-key", {"rotate", "sealed", endpoint.appliance.image(), "--recovery-key",
                                    endpoint.recovery_key(), "--tcti", endpoint.device.tcti(), "--authority",
                                    endpoint.appliance.authority_public(), "--policy-ref", kPolicyRef, "--json"});
        EXPECT_EQ(sealed.status, 0) << sealed.errors;
        return json::parse(sealed.output)["next"][0].get<std::string>();
    };
    EXPECT_EQ(first_of_next().substr(0, 16), "policyctl record");
    const auto install = [&](const std::string& vault) {
        return run_tool("policyctl", {"record", "--key", endpoint.appliance.enrollment_private(), "--srk-name",
                                      provisioned["srk_name"], "--vault-id", vault, "--label", "unit 7", "--install",
                                      "--image", endpoint.appliance.image(), "--json"});
    };
    const Outcome record = install(provisioned["vault_id"]);
    ASSERT_EQ(record.status, 0) << record.errors;
    const Outcome wrong = install(std::string(64, 'f'));
    EXPECT_EQ(wrong.status, 3);
    EXPECT_NE(wrong.errors.find(provisioned["vault_id"].get<std::string>()), std::string::npos) << wrong.errors;
    EXPECT_EQ(first_of_next().substr(0, 14), "policyctl sign") << "the record that is there holds";
    const Buffer point =
        host::p256_point(host::read_public_key(endpoint.appliance.enrollment_public()).get(), "enrollment");
    const Buffer file = endpoint.appliance.boot_file(policies::kRecordFile);
    const auto parsed = policies::parse_record(file, point);
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(host::hex(parsed->vault_id), provisioned["vault_id"]);
    EXPECT_EQ(text_of(Buffer(parsed->label.begin(), parsed->label.end())), "unit 7");
}

TEST(SealedKey, SealsToApprovedMachinesIfToldSo) {
    const std::vector<Table> tables{{"ACPI DSDT GATE", "a DSDT"}, {"ACPI APIC GATE", "an APIC"}};
    Endpoint endpoint;
    endpoint.prepare();
    const Buffer srk = policies::read_bundle(endpoint.appliance.read("policy.bundle")).srk_name;
    endpoint.appliance.make_bundle(srk, vault_id(), static_cast<std::uint32_t>(policies::BundleFlag::kMachineAcpi));
    endpoint.appliance.put_boot_file("policy.bundle", endpoint.appliance.read("policy.bundle"));
    EXPECT_EQ(run_tool("sealed-key", endpoint.provision_arguments()).status, 3) << "the bundle wants --acpi machine";
    std::vector<std::string> arguments = endpoint.provision_arguments();
    arguments.insert(arguments.end(), {"--acpi", "machine"});
    std::filesystem::remove(endpoint.recovery_key());
    const Outcome outcome = run_tool("sealed-key", arguments);
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    endpoint.provisioned = json::parse(outcome.output);
    ASSERT_EQ(endpoint.provisioned["next"].size(), 3u);
    endpoint.pin_and_sign();
    const Buffer log = launch_log(policies::predict_image(endpoint.appliance.image()), endpoint.vault_id(), tables);
    host::replace_file(endpoint.appliance.path("eventlog.bin"), log);
    const std::string model = endpoint.appliance.path("model.json");
    ASSERT_EQ(run_tool("policyctl", {"machine", "learn", endpoint.appliance.path("eventlog.bin"), "-o", model}).status,
              0);
    const Outcome approve =
        run_tool("policyctl", {"machine", "approve", "--key", endpoint.appliance.authority_private(), "--policy-ref",
                               kPolicyRef, "--model", model, "--install", "--image", endpoint.appliance.image()});
    ASSERT_EQ(approve.status, 0) << approve.errors;
    endpoint.device.connect();
    endpoint.launch(tables);
    const auto secret = endpoint.unseal();
    EXPECT_TRUE(secret.ok()) << host::describe(secret.failure());
    endpoint.launch({tables.front(), {"ACPI APIC GATE", "another APIC"}});
    EXPECT_FALSE(endpoint.unseal().ok());
}

TEST(SealedKey, NeverOverwritesARecoveryKeyNorEncryptsWithoutKeepingIt) {
    Endpoint endpoint;
    endpoint.prepare();
    host::create_file(endpoint.recovery_key(), literal_bytes("another disk's key"), 0600);
    const Buffer before = host::read_file(endpoint.appliance.image(), kImageLimit);
    EXPECT_EQ(run_tool("sealed-key", endpoint.provision_arguments()).status, 3);
    EXPECT_EQ(text_of(host::read_file(endpoint.recovery_key(), 100)), "another disk's key");
    EXPECT_TRUE(host::read_file(endpoint.appliance.image(), kImageLimit) == before);
}

// Else the same command, once there is room, would find a key of another disk.
TEST(SealedKey, LeavesNoFileThatCouldNotBeWritten) {
    const Directory directory;
    const std::string path = directory.path() + "/recovery.key";
    struct rlimit before {};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = before;
    small.rlim_cur = 10;
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    EXPECT_THROW(host::create_file(path, Buffer(65), 0600), host::ToolError);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    std::signal(SIGXFSZ, handler);
    EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(SealedKey, MakesARecoveryKeyThatOnlyItsOwnerReads) {
    Endpoint endpoint;
    endpoint.provision();
    struct stat about {};
    ASSERT_EQ(::stat(endpoint.recovery_key().c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 0777, 0600u);
    EXPECT_EQ(host::read_file(endpoint.recovery_key(), 100).size(), 65u);
}

TEST(SealedKey, GoesWithoutARecoveryKeyOnlyIfToldSo) {
    Endpoint endpoint;
    endpoint.prepare();
    std::vector<std::string> arguments{"provision",    endpoint.appliance.image(),
                                       "--tcti",       endpoint.device.tcti(),
                                       "--authority",  endpoint.appliance.authority_public(),
                                       "--policy-ref", kPolicyRef,
                                       "--json"};
    const Outcome refused = run_tool("sealed-key", arguments);
    EXPECT_EQ(refused.status, 2);
    EXPECT_NE(refused.errors.find("--no-recovery-key"), std::string::npos) << refused.errors;
    arguments.emplace_back("--no-recovery-key");
    const Outcome outcome = run_tool("sealed-key", arguments);
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const Outcome status = run_tool("sealed-key", {"status", endpoint.appliance.image(), "--json"});
    EXPECT_EQ(json::parse(status.output)["slots"]["recovery"], false);
}

// Each is refused before anything is written.
TEST(SealedKey, RefusesAnImageWhoseBundlePinsOtherThings) {
    Endpoint endpoint;
    endpoint.prepare();
    const Buffer good = endpoint.appliance.boot_file("policy.bundle");
    const auto refused = [&](const std::vector<std::string>& arguments, const char* word) {
        const Buffer before = host::read_file(endpoint.appliance.image(), kImageLimit);
        const Outcome outcome = run_tool("sealed-key", arguments);
        EXPECT_EQ(outcome.status, 3);
        EXPECT_NE(outcome.errors.find(word), std::string::npos) << outcome.errors;
        EXPECT_TRUE(host::read_file(endpoint.appliance.image(), kImageLimit) == before);
    };
    endpoint.appliance.make_bundle(srk_name(), vault_id());
    endpoint.appliance.put_boot_file("policy.bundle", endpoint.appliance.read("policy.bundle"));
    refused(endpoint.provision_arguments(), "SRK");
    endpoint.appliance.put_boot_file("policy.bundle", good);
    std::vector<std::string> arguments = endpoint.provision_arguments();
    std::ranges::replace(arguments, kPolicyRef, "other fleet");
    refused(arguments, "policy reference");
    arguments = endpoint.provision_arguments();
    arguments.insert(arguments.end(), {"--counter-index", "0x1800002"});
    refused(arguments, "rollback counter");
    const Appliance other;
    arguments = endpoint.provision_arguments();
    std::ranges::replace(arguments, endpoint.appliance.authority_public(), other.authority_public());
    refused(arguments, "authority");
}

TEST(SealedKey, UsesTheSrkAndTheCounterThatAreThere) {
    Endpoint endpoint;
    endpoint.provision();
    endpoint.device.disconnect();
    const json first = endpoint.provisioned;
    std::filesystem::remove(endpoint.recovery_key());
    endpoint.appliance.make_image();
    const Outcome outcome = run_tool("sealed-key", endpoint.provision_arguments());
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const json second = json::parse(outcome.output);
    EXPECT_EQ(second["srk_name"], first["srk_name"]);
    EXPECT_EQ(second["counter"], first["counter"]);
    EXPECT_NE(second["ak_name"], first["ak_name"]);
}

TEST(SealedKey, RefusesAnotherKindOfKeyInThePlaceOfTheSrk) {
    Endpoint endpoint;
    endpoint.device.disconnect();
    const std::string context = endpoint.appliance.path("key.context");
    const std::string tcti = endpoint.device.tcti();
    (void)host::run_program({"tpm2_createprimary", "-T", tcti, "-Q", "-G", "rsa", "-c", context}, {}, 1 << 16);
    (void)host::run_program({"tpm2_evictcontrol", "-T", tcti, "-Q", "-c", context, "0x81000001"}, {}, 1 << 16);
    const Outcome outcome = run_tool("sealed-key", {"srk-name", "--tcti", tcti});
    EXPECT_EQ(outcome.status, 3);
    EXPECT_NE(outcome.errors.find("another key"), std::string::npos) << outcome.errors;
}

TEST(SealedKey, MakesTheSrkThatTheTcgTemplateGives) {
    Endpoint endpoint;
    endpoint.device.disconnect();
    const std::string tcti = endpoint.device.tcti();
    const Outcome outcome = run_tool("sealed-key", {"srk-name", "--tcti", tcti});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    // tpm2-tools make the same primary key from the same seed and template.
    const std::string context = endpoint.appliance.path("key.context");
    const std::string name = endpoint.appliance.path("key.name");
    (void)host::run_program(
        {"tpm2_createprimary", "-T", tcti, "-Q", "-C", "o", "-G", "ecc", "-a",
         "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt", "-c", context},
        {}, 1 << 16);
    (void)host::run_program({"tpm2_readpublic", "-T", tcti, "-Q", "-c", context, "-n", name}, {}, 1 << 16);
    EXPECT_EQ(outcome.output, host::hex(host::read_file(name, 100)) + "\n");
}

TEST(SealedKey, RefusesACounterIndexInOtherUse) {
    Endpoint endpoint;
    endpoint.prepare();
    (void)host::run_program({"tpm2_nvdefine", "-T", endpoint.device.tcti(), "-Q", "-s", "8", "0x1804748"}, {}, 1 << 16);
    const Outcome outcome = run_tool("sealed-key", endpoint.provision_arguments());
    EXPECT_EQ(outcome.status, 3);
    EXPECT_NE(outcome.errors.find("in other use"), std::string::npos) << outcome.errors;
}

TEST(SealedKey, SendsNoSecretInTheClearToTheTpm) {
    Endpoint endpoint;
    endpoint.prepare();
    const std::string capture = endpoint.appliance.path("tpm.pcap");
    ::setenv("TCTI_PCAP_FILE", capture.c_str(), 1);
    std::vector<std::string> arguments = endpoint.provision_arguments();
    std::ranges::replace(arguments, endpoint.device.tcti(), "pcap:" + endpoint.device.tcti());
    const Outcome outcome = run_tool("sealed-key", arguments);
    ::unsetenv("TCTI_PCAP_FILE");
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    endpoint.provisioned = json::parse(outcome.output);
    endpoint.pin_and_sign();
    endpoint.device.connect();
    endpoint.launch();
    const auto secret = endpoint.unseal();
    ASSERT_TRUE(secret.ok()) << host::describe(secret.failure());
    const Buffer traffic = host::read_file(capture, 1 << 20);
    const auto crosses = [&](Bytes bytes) {
        return std::search(traffic.begin(), traffic.end(), bytes.begin(), bytes.end()) != traffic.end();
    };
    EXPECT_TRUE(crosses(host::from_hex(endpoint.provisioned["srk_name"].get<std::string>(), "name")))
        << "the capture must hold the traffic";
    EXPECT_FALSE(crosses(secret->bytes()));
    EXPECT_FALSE(crosses(secret->bytes().first(16)));
}

// --- status

// A disk that the release before provisioned: its headers are of version 1.
void make_old(const Endpoint& endpoint) {
    host::Disk disk(endpoint.appliance.image(), host::Disk::Access::kWrite);
    volume::SlotSecret recovery;
    host::read_recovery_key(endpoint.recovery_key(), recovery);
    const auto vault = std::make_unique<host::OpenVault>();
    ASSERT_TRUE(host::open_with_recovery_key(disk, recovery, *vault).ok());
    Random random;
    random.seed(host::text_bytes("a seed of at least thirty-two bytes"));
    const Buffer copy = version_one(vault->header, vault->keys, recovery, random, volume::kMaximumHeaderSize);
    host::VaultStore store(disk, host::read_partition_tables(disk).vault_entry());
    for (std::size_t i = 0; i < volume::kCopies; ++i) store.put_copy(i, copy);
}

TEST(SealedKeyUpgrade, ConvertsADiskOfTheReleaseBefore) {
    Endpoint endpoint;
    endpoint.provision();
    endpoint.device.disconnect();
    const json first = endpoint.provisioned;
    const std::string table = export_table(endpoint, "/dev/disk");
    make_old(endpoint);
    const std::string image = endpoint.appliance.image();
    Outcome outcome = run_tool("sealed-key", {"status", image, "--json"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(json::parse(outcome.output)["state"], "version 1");
    EXPECT_NE(json::parse(outcome.output)["next"].get<std::string>().find("sealed-key upgrade"), std::string::npos);
    EXPECT_NE(run_tool("sealed-key", endpoint.provision_arguments()).status, 0);

    const std::vector<std::string> upgrade{"upgrade",        image,
                                           "--tcti",         endpoint.device.tcti(),
                                           "--authority",    endpoint.appliance.authority_public(),
                                           "--policy-ref",   kPolicyRef,
                                           "--recovery-key", endpoint.recovery_key(),
                                           "--json"};
    outcome = run_tool("sealed-key", upgrade);
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const json upgraded = json::parse(outcome.output);
    EXPECT_NE(upgraded["vault_id"], first["vault_id"]);
    EXPECT_EQ(upgraded["srk_name"], first["srk_name"]);
    EXPECT_EQ(upgraded["ak_name"], first["ak_name"]);
    EXPECT_EQ(export_table(endpoint, "/dev/disk"), table) << "the disk key, and what it encrypts, stay";

    outcome = run_tool("sealed-key", upgrade);
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_EQ(json::parse(outcome.output)["vault_id"], upgraded["vault_id"]) << "once is enough";

    endpoint.provisioned["vault_id"] = upgraded["vault_id"];
    endpoint.pin_and_sign();
    endpoint.device.connect();
    endpoint.launch();
    const auto header = std::make_unique<volume::Header>();
    volume::Keys keys;
    endpoint.open_vault(*header, keys);
    EXPECT_EQ(host::hex(header->vault_id), upgraded["vault_id"].get<std::string>());
}

TEST(SealedKeyStatus, SaysNoForADiskWithoutAVault) {
    Endpoint endpoint;
    endpoint.prepare();
    const Outcome outcome = run_tool("sealed-key", {"status", endpoint.appliance.image(), "--json"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(json::parse(outcome.output)["state"], "none");
    EXPECT_NE(json::parse(outcome.output)["next_boot"].get<std::string>().find("sealed-key provision"),
              std::string::npos);
}

TEST(SealedKeyStatus, TellsWhatTheVaultHoldsAndNoSecret) {
    Endpoint endpoint;
    endpoint.provision();
    endpoint.device.disconnect();
    const Outcome outcome =
        run_tool("sealed-key", {"status", endpoint.appliance.image(), "--tcti", endpoint.device.tcti(),
                                "--recovery-key", endpoint.recovery_key(), "--json"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const json status = json::parse(outcome.output);
    EXPECT_EQ(status["state"], "provisioned");
    EXPECT_EQ(status["copies"].size(), 2u);
    EXPECT_EQ(std::ranges::count(status["copies"], json(nullptr)), 0);
    EXPECT_EQ(status["percent"], 100);
    EXPECT_EQ(status["vault_id"], endpoint.provisioned["vault_id"]);
    EXPECT_EQ(status["authenticated"], true);
    EXPECT_EQ(status["key_epoch"], 1);
    EXPECT_EQ(status["regions"], endpoint.provisioned["regions"]);
    EXPECT_EQ(status["tpm"]["srk_match"], true);
    EXPECT_EQ(status["tpm"]["counter"], endpoint.provisioned["counter"]);
    EXPECT_EQ(status["counter_limit"], endpoint.provisioned["counter"]["value"]);
    const std::string table = export_table(endpoint, "x");
    const std::size_t key = table.find("plain64 ") + 8;
    EXPECT_EQ(outcome.output.find(table.substr(key, 64)), std::string::npos);
    EXPECT_EQ(outcome.output.find(text_of(host::read_file(endpoint.recovery_key(), 100)).substr(0, 64)),
              std::string::npos);
}

TEST(SealedKeyStatus, SaysNoForAnotherMachinesTpm) {
    Endpoint endpoint;
    endpoint.provision();
    Endpoint other;
    other.prepare();
    const Outcome outcome =
        run_tool("sealed-key", {"status", endpoint.appliance.image(), "--tcti", other.device.tcti(), "--json"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(json::parse(outcome.output)["tpm"]["srk_match"], false);
}

TEST(SealedKeyStatus, SaysNoForAnotherRecoveryKeyAndForAForgedHeader) {
    Endpoint endpoint;
    endpoint.provision();
    const auto status = [&](const std::string& key) {
        return run_tool("sealed-key", {"status", endpoint.appliance.image(), "--recovery-key", key, "--json"}).status;
    };
    EXPECT_EQ(status(endpoint.recovery_key()), 0);
    const std::string wrong = endpoint.appliance.path("wrong.key");
    host::create_file(wrong, host::text_bytes(std::string(64, '0') + "\n"), 0600);
    EXPECT_EQ(status(wrong), 1);

    host::Disk disk(endpoint.appliance.image(), host::Disk::Access::kWrite);
    const std::uint64_t vault = host::read_primary_table(disk).vault_partition().first;
    for (const std::uint64_t lba : {vault + 4, vault + 1024 + 4}) {  // in the body of each copy
        Buffer sector = disk.read_sectors(lba, 1);
        sector[100] ^= std::byte{1};
        disk.write(lba, sector);
    }
    EXPECT_EQ(status(endpoint.recovery_key()), 1);
}

// --- export-dmsetup

TEST(SealedKeyExport, RefusesToShowTheKeyOnATerminal) {
    Endpoint endpoint;
    endpoint.provision();
    const std::string command = std::string(GATEHOUSE_BIN) + "/sealed-key export-dmsetup " +
                                endpoint.appliance.image() + " --recovery-key " + endpoint.recovery_key();
    const auto in_terminal = [](const std::string& line) {  // script(1) gives it a terminal
        return text_of(host::run_program({"script", "-qc", line, "/dev/null"}, {}, 1 << 20));
    };
    const std::string refused = in_terminal(command);
    EXPECT_EQ(refused.find("crypt aes"), std::string::npos) << refused;
    EXPECT_NE(refused.find("--show"), std::string::npos) << refused;
    EXPECT_NE(in_terminal(command + " --show").find("crypt aes-xts-plain64"), std::string::npos);
}

TEST(SealedKeyExport, RefusesAnotherRecoveryKey) {
    Endpoint endpoint;
    endpoint.provision();
    const std::string wrong = endpoint.appliance.path("wrong.key");
    host::create_file(wrong, host::text_bytes(std::string(64, 'a') + "\n"), 0600);
    const Outcome outcome =
        run_tool("sealed-key", {"export-dmsetup", endpoint.appliance.image(), "--recovery-key", wrong});
    EXPECT_EQ(outcome.status, 3);
    EXPECT_EQ(outcome.output, "");
}

// --- the disk's layout

class Layout : public testing::Test {
  protected:
    void expect_refused(const char* word) {
        const host::Disk disk(appliance_.image(), host::Disk::Access::kRead);
        volume::Header header;
        try {
            host::lay_out(disk, host::read_partition_tables(disk), header);
            FAIL() << "was accepted";
        } catch (const host::ToolError& error) {
            EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
        }
    }
    void sgdisk(const std::vector<std::string>& options) {
        std::vector<std::string> arguments{"sgdisk"};
        arguments.insert(arguments.end(), options.begin(), options.end());
        arguments.push_back(appliance_.image());
        (void)host::run_program(arguments, {}, 1 << 16);
    }
    Appliance appliance_;
};

TEST_F(Layout, NeedsTheBackupTableAtTheEnd) {
    appliance_.make_image();
    ASSERT_EQ(::truncate(appliance_.image().c_str(), (64 << 20) + 4096), 0);  // flashed to a larger disk
    expect_refused("not at the end");
}

TEST_F(Layout, NeedsOneVaultOfAMegabyteAligned) {
    appliance_.make_image();
    sgdisk({"-d", "6"});
    expect_refused("vault partition");
    sgdisk({"-a", "1", "-n", "6:53248:+1024", "-t", "6:618d37b5-40b8-4f5a-8355-a2a84f2a31e0"});
    expect_refused("smaller than 1 MiB");
    sgdisk({"-d", "6"});
    sgdisk({"-a", "1", "-n", "6:53249:+2560", "-t", "6:618d37b5-40b8-4f5a-8355-a2a84f2a31e0"});
    expect_refused("multiple of 4,096");
    sgdisk({"-d", "6"});
    sgdisk({"-a", "8", "-n", "6:53248:+2048", "-t", "6:618d37b5-40b8-4f5a-8355-a2a84f2a31e0"});
    const host::Disk disk(appliance_.image(), host::Disk::Access::kRead);
    volume::Header header;
    EXPECT_NO_THROW(host::lay_out(disk, host::read_partition_tables(disk), header));
}

TEST_F(Layout, NeedsOneBootPartition) {
    appliance_.make_image();
    sgdisk({"-c", "2:another-name"});
    expect_refused("no boot partition");
    sgdisk({"-c", "2:gatehouse-boot", "-t", "3:ef00", "-c", "3:gatehouse-boot"});
    expect_refused("more than one boot partition");
}

TEST_F(Layout, CoversEachSectorOnce) {
    appliance_.make_image();
    const host::Disk disk(appliance_.image(), host::Disk::Access::kRead);
    volume::Header header;
    host::lay_out(disk, host::read_partition_tables(disk), header);
    std::vector<int> owners(disk.total_sectors());
    for (const Region& region : header.region_table()) {
        for (std::uint64_t i = 0; i < region.count; ++i) ++owners[region.first + i];
    }
    for (const host::Extent& extent : host::encrypted_extents(header)) {
        for (std::uint64_t i = 0; i < extent.count; ++i) ++owners[extent.first + i];
    }
    EXPECT_TRUE(std::ranges::all_of(owners, [](int count) { return count == 1; }));
}

}  // namespace
}  // namespace gatehouse::test
