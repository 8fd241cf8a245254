// Each rotation as an operator runs it, against a software TPM; that the endpoint's launch opens the vault afterwards is what
// counts.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "keyvault/tool/partition_tables.hpp"
#include "keyvault/tool/vault_store.hpp"
#include "keyvault/volume/format.hpp"
#include "tests/unit/keyvault/tool/endpoint.hpp"

namespace gatehouse::test {
namespace {

using nlohmann::json;

constexpr std::size_t kImageLimit = std::size_t{128} << 20;

class Rotation : public ::testing::Test {
  protected:
    void SetUp() override { endpoint.provision(); }

    [[nodiscard]] const std::string& image() const { return image_; }
    [[nodiscard]] Buffer disk() const { return host::read_file(image_, kImageLimit); }
    // sealed-key with these arguments; the TPM is the endpoint's or another one's.
    Outcome sealed_key(std::vector<std::string> arguments) {
        return sealed_key_on(endpoint.device, std::move(arguments));
    }
    static Outcome sealed_key_on(SoftwareTpm& device, std::vector<std::string> arguments) {
        device.disconnect();
        const Outcome outcome = run_tool("sealed-key", arguments);
        device.connect();
        return outcome;
    }
    [[nodiscard]] std::vector<std::string> rotate(const std::string& key, const std::string& recovery_key,
                                                  const std::vector<std::string>& more = {}) const {
        std::vector<std::string> arguments{"rotate", key, image_, "--recovery-key", recovery_key, "--json"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return arguments;
    }
    [[nodiscard]] std::vector<std::string> sealing(const SoftwareTpm& device, const std::string& authority) const {
        return {"--tcti", device.tcti(), "--authority", authority, "--policy-ref", kPolicyRef};
    }
    [[nodiscard]] std::vector<std::string> sealing() const {
        return sealing(endpoint.device, endpoint.appliance.authority_public());
    }
    [[nodiscard]] std::vector<std::string> recover_on(const SoftwareTpm& device) const {
        std::vector<std::string> arguments{"recover", image_, "--recovery-key", endpoint.recovery_key(), "--json"};
        const auto more = sealing(device, endpoint.appliance.authority_public());
        arguments.insert(arguments.end(), more.begin(), more.end());
        return arguments;
    }
    // The launch's TPM opens both copies; the keys and the header.
    void boot() {
        endpoint.launch();
        endpoint.open_vault(header, keys);
        EXPECT_EQ(host::hex(header.vault_id), endpoint.provisioned["vault_id"]) << "it is the same vault";
    }
    json status(const std::vector<std::string>& more, int expected) {
        std::vector<std::string> arguments{"status", image_, "--json"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        const Outcome outcome = sealed_key(arguments);
        EXPECT_EQ(outcome.status, expected) << outcome.output << outcome.errors;
        return json::parse(outcome.output);
    }

    Endpoint endpoint;
    std::string image_ = endpoint.appliance.image();
    volume::Header header;
    volume::Keys keys;
};

TEST_F(Rotation, OfTheSealedSecretLeavesTheOtherKeys) {
    boot();
    const auto before = header.slots.tpm->sealed_public;
    const std::string kek = host::hex(keys.kek.bytes());
    const json said = expect_yes(sealed_key(rotate("sealed", endpoint.recovery_key(), sealing())));
    EXPECT_EQ(said["rotated"], "sealed");
    ASSERT_NO_FATAL_FAILURE(boot());
    EXPECT_FALSE(equal_bytes(header.slots.tpm->sealed_public.bytes(), before.bytes()));
    EXPECT_EQ(host::hex(keys.kek.bytes()), kek);
    EXPECT_EQ(header.generation, said["generation"]);
}

TEST_F(Rotation, OfTheKekMakesEverySlotAnew) {
    boot();
    const std::string kek = host::hex(keys.kek.bytes());
    const std::string dek = host::hex(keys.dek.bytes());
    (void)expect_yes(sealed_key(rotate("kek", endpoint.recovery_key(), sealing())));
    ASSERT_NO_FATAL_FAILURE(boot());
    EXPECT_NE(host::hex(keys.kek.bytes()), kek);
    EXPECT_EQ(host::hex(keys.dek.bytes()), dek);
    const json verified =
        expect_yes(sealed_key({"verify-recovery", image(), "--recovery-key", endpoint.recovery_key(), "--json"}));
    EXPECT_EQ(verified["copies"], json({true, true}));
}

TEST_F(Rotation, OfTheRecoveryKeyEndsTheOldOne) {
    const std::string next = endpoint.appliance.path("next.key");
    const std::vector<std::string> command = rotate("recovery", endpoint.recovery_key(), {"--recovery-key-out", next});
    (void)expect_yes(sealed_key(command));
    EXPECT_EQ(std::filesystem::status(next).permissions(),
              std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    const Outcome old = sealed_key({"verify-recovery", image(), "--recovery-key", endpoint.recovery_key(), "--json"});
    EXPECT_EQ(old.status, 1) << old.errors;
    EXPECT_EQ(json::parse(old.output)["opens"], false);
    const json now = expect_yes(sealed_key({"verify-recovery", image(), "--recovery-key", next, "--json"}));
    EXPECT_EQ(now["copies"], json({true, true}));
    const Buffer done = disk();
    expect_refusal(sealed_key(command), "already");  // once more is not another key
    EXPECT_TRUE(disk() == done);
    expect_refusal(sealed_key(rotate("dek", endpoint.recovery_key())), "does not open the vault");
    ASSERT_NO_FATAL_FAILURE(boot());
}

// Between the two copies of the header: the old key opens one and the new key the other.
TEST_F(Rotation, OfTheRecoveryKeyGoesOnAfterACut) {
    const Buffer before = disk();
    const std::string next = endpoint.appliance.path("next.key");
    const std::vector<std::string> command = rotate("recovery", endpoint.recovery_key(), {"--recovery-key-out", next});
    const std::uint64_t generation = expect_yes(sealed_key(command))["generation"];
    {
        const host::Disk after(image(), host::Disk::Access::kRead);
        const volume::GptEntry vault = host::read_primary_table(after).vault_partition();
        const host::HeaderCopies copies = host::read_header_copies(after, vault);
        // The newer copy stays, the other one is as it was before.
        volume::Header first;
        ASSERT_TRUE(volume::preview(copies[0], first).ok());
        const std::size_t older = first.generation == generation ? 1 : 0;
        const std::size_t at = vault.first * 512 + volume::kCopyOffset[older];
        host::File file(::open(image().c_str(), O_RDWR));
        ASSERT_EQ(::pwrite(file.get(), before.data() + at, volume::kMaximumHeaderSize, static_cast<off_t>(at)),
                  ssize_t{volume::kMaximumHeaderSize});
    }
    expect_refusal(sealed_key(rotate("dek", endpoint.recovery_key())), "rotate recovery");
    expect_refusal(sealed_key({"provision", image(), "--resume", "--recovery-key", endpoint.recovery_key()}),
                   "rotate recovery");
    const Buffer half = disk();
    const std::string instead = endpoint.appliance.path("instead.key");
    (void)expect_yes(sealed_key(rotate("recovery", endpoint.recovery_key(), {"--recovery-key-out", instead})));
    EXPECT_EQ(sealed_key({"verify-recovery", image(), "--recovery-key", next}).status, 1) << "that file was given up";
    host::replace_file(image(), half);
    (void)expect_yes(sealed_key(command));
    const json now = expect_yes(sealed_key({"verify-recovery", image(), "--recovery-key", next, "--json"}));
    EXPECT_EQ(now["copies"], json({true, true}));
}

// One byte of the newest copy's recovery slot is not another recovery key.
TEST_F(Rotation, GoesOnFromTheOlderCopyIfTheNewerOneIsDamaged) {
    (void)expect_yes(sealed_key(rotate("sealed", endpoint.recovery_key(), sealing())));
    std::size_t at = 0;
    {
        const host::Disk now(image(), host::Disk::Access::kRead);
        const volume::GptEntry vault = host::read_primary_table(now).vault_partition();
        const host::HeaderCopies copies = host::read_header_copies(now, vault);
        volume::Header first;
        volume::Header second;
        ASSERT_TRUE(volume::preview(copies[0], first).ok() && volume::preview(copies[1], second).ok());
        const std::size_t newest = first.generation > second.generation ? 0 : 1;
        const auto& slot = (newest == 0 ? first : second).slots.recovery->tag;
        const auto found = std::search(copies[newest].begin(), copies[newest].end(), slot.begin(), slot.end());
        ASSERT_NE(found, copies[newest].end());
        at = vault.first * 512 + volume::kCopyOffset[newest] +
             static_cast<std::size_t>(std::distance(copies[newest].begin(), found));
    }
    Buffer damaged = disk();
    damaged[at] ^= std::byte{1};
    host::replace_file(image(), damaged);
    (void)expect_yes(sealed_key(rotate("sealed", endpoint.recovery_key(), sealing())));
    ASSERT_NO_FATAL_FAILURE(boot());
}

TEST_F(Rotation, OfTheRecoveryKeyTakesNoKeyOfAnotherDisk) {
    const std::string other = endpoint.appliance.path("other.key");
    host::create_file(other, host::text_bytes(std::string(64, '1') + "\n"), 0600);
    const Buffer before = disk();
    expect_refusal(sealed_key(rotate("recovery", endpoint.recovery_key(), {"--recovery-key-out", other})),
                   "does not open");
    EXPECT_TRUE(disk() == before);
    EXPECT_EQ(host::read_file(other, 100).size(), 65u);
}

TEST_F(Rotation, OfTheAttestationKeyMakesAnotherIdentity) {
    const std::string pem = endpoint.appliance.path("ak2.pem");
    const json said = expect_yes(sealed_key(
        rotate("attestation-key", endpoint.recovery_key(), {"--tcti", endpoint.device.tcti(), "--ak-out", pem})));
    EXPECT_NE(said["ak_name"], endpoint.provisioned["ak_name"]);
    EXPECT_EQ(said["ak_public"].get<std::string>().size(), host::read_file(pem, 4096).size());
    ASSERT_NO_FATAL_FAILURE(boot());
    EXPECT_EQ(host::hex(tpm::name_of(header.attestation_key_public.bytes())), said["ak_name"]);
}

// A file that cannot be made ends it before the vault has another key.
TEST_F(Rotation, OfTheAttestationKeyNeedsRoomForItsPublicHalf) {
    const std::vector<std::string> more{"--ak-out", endpoint.appliance.path("nowhere") + "/ak.pem"};
    auto arguments = rotate("attestation-key", endpoint.recovery_key(), {"--tcti", endpoint.device.tcti()});
    arguments.insert(arguments.end(), more.begin(), more.end());
    expect_refusal(sealed_key(arguments), "the vault has not been changed");
    // Nor does it take the place of anything else than a public key, or of one that is read.
    const Buffer before = disk();
    const Buffer kept = host::read_file(endpoint.recovery_key(), 100);
    arguments = rotate("attestation-key", endpoint.recovery_key(), {"--tcti", endpoint.device.tcti()});
    for (const std::string& taken : {image(), endpoint.recovery_key()}) {
        auto over = arguments;
        over.insert(over.end(), {"--ak-out", taken});
        expect_refusal(sealed_key(over), "is there already, and something else", 2);
    }
    EXPECT_TRUE(disk() == before && host::read_file(endpoint.recovery_key(), 100) == kept);
    SoftwareTpm other;
    arguments = recover_on(other);
    arguments.insert(arguments.end(), {"--ak-out", endpoint.appliance.authority_public()});
    expect_refusal(sealed_key_on(other, arguments), "is read as well", 2);
    arguments = recover_on(other);
    arguments.insert(arguments.end(), more.begin(), more.end());
    expect_refusal(sealed_key_on(other, arguments), "the vault has not been changed");
    ASSERT_NO_FATAL_FAILURE(boot());
    EXPECT_EQ(host::hex(tpm::name_of(header.attestation_key_public.bytes())), endpoint.provisioned["ak_name"]);
}

TEST_F(Rotation, OfTheDiskKeyLeavesThePlaintext) {
    boot();
    const volume::Header old = header;
    const std::string dek = host::hex(keys.dek.bytes());
    const Buffer before = disk();
    const json said = expect_yes(sealed_key(rotate("dek", endpoint.recovery_key())));
    EXPECT_EQ(said["key_epoch"], 2);
    EXPECT_EQ(said["resumed"], false);
    ASSERT_NO_FATAL_FAILURE(boot());
    EXPECT_EQ(header.data_key.epoch, 2u);
    EXPECT_NE(host::hex(keys.dek.bytes()), dek);
    EXPECT_EQ(host::hex(header.vault_id), host::hex(old.vault_id));
    const json once_more = expect_yes(sealed_key(rotate("dek", endpoint.recovery_key())));
    EXPECT_EQ(once_more["key_epoch"], 3);
    EXPECT_FALSE(disk() == before);
    EXPECT_EQ(status({"--tcti", endpoint.device.tcti()}, 0)["next_boot"].get<std::string>().substr(0, 5), "opens");
}

// The rest is the machine's, or the same command's without --online.
TEST_F(Rotation, OfTheDiskKeyIsOnlyBegunForUse) {
    const Buffer before = disk();
    const std::string old = endpoint.recovery_key();
    const json begun = expect_yes(sealed_key(rotate("dek", old, {"--online"})));
    EXPECT_EQ(begun["percent"], 0);
    EXPECT_EQ(begun["key_epoch"], 2);
    EXPECT_NE(begun["next"][0].get<std::string>().find("gatehouse-channel convert"), std::string::npos) << begun;
    const json half = status({}, 1);
    EXPECT_EQ(half["state"], "changing the disk key");
    EXPECT_NE(half["next_boot"].get<std::string>().find("goes on in use"), std::string::npos) << half;
    const Buffer now = disk();
    const host::Disk of(image(), host::Disk::Access::kRead);
    const volume::GptEntry vault = host::read_partition_tables(of).vault_entry();
    const std::size_t end = (vault.first + vault.count()) * of.sector_size();
    EXPECT_TRUE(equal_bytes(Bytes(now).first(vault.first * of.sector_size()),
                            Bytes(before).first(vault.first * of.sector_size())));
    EXPECT_TRUE(equal_bytes(Bytes(now).subspan(end), Bytes(before).subspan(end))) << "no sector of the guest's";
    EXPECT_EQ(expect_yes(sealed_key(rotate("dek", old, {"--online"})))["resumed"], true);
    EXPECT_TRUE(disk() == now);
    EXPECT_EQ(expect_yes(sealed_key(rotate("dek", old)))["resumed"], true);
    ASSERT_NO_FATAL_FAILURE(boot());
    EXPECT_EQ(header.data_key.epoch, 2u);
}

TEST_F(Rotation, OfTheDiskKeyGoesOnAfterItWasKilled) {
    endpoint.device.disconnect();
    // The file may not grow past the middle: a write there kills the program on the spot.
    const Outcome killed = run_tool("sealed-key", rotate("dek", endpoint.recovery_key()), kImageLimit / 4);
    endpoint.device.connect();
    EXPECT_EQ(killed.status, -1) << killed.errors;
    const json half = status({}, 1);
    EXPECT_EQ(half["state"], "changing the disk key");
    EXPECT_EQ(half["next_boot"].get<std::string>().substr(0, 5), "opens");
    EXPECT_NE(half["next_boot"].get<std::string>().find("goes on in use"), std::string::npos) << half;
    const json plan = expect_yes(sealed_key(rotate("dek", endpoint.recovery_key(), {"--plan"})))["plan"];
    EXPECT_NE(plan["changes"][0].get<std::string>().find("interrupted"), std::string::npos) << plan;
    auto provision = endpoint.provision_arguments();
    expect_refusal(sealed_key(provision), "sealed-key rotate dek");
    for (const char* const key : {"sealed", "kek", "authority"}) {
        expect_refusal(sealed_key(rotate(key, endpoint.recovery_key(), sealing())),
                       "go on with: sealed-key rotate dek");
    }
    const json said = expect_yes(sealed_key(rotate("dek", endpoint.recovery_key())));
    EXPECT_EQ(said["resumed"], true);
    EXPECT_EQ(said["key_epoch"], 2);
    ASSERT_NO_FATAL_FAILURE(boot());
}

TEST_F(Rotation, OfTheAuthorityEndsTheOldOnesApprovals) {
    const std::string next_private = endpoint.appliance.path("next.pem");
    const std::string next = endpoint.appliance.path("next.pub");
    make_key("EC", next_private);
    (void)host::run_program({"openssl", "pkey", "-in", next_private, "-pubout", "-out", next}, {}, 1 << 16);
    const auto with_next = sealing(endpoint.device, next);
    expect_refusal(sealed_key(rotate("sealed", endpoint.recovery_key(), with_next)), "another authority");
    expect_refusal(sealed_key(rotate("authority", endpoint.recovery_key(), sealing())), "already");
    const auto install = [&](const std::string& authority, const std::string& key) {
        const Outcome bundle = run_tool(
            "policyctl", {"bundle", "--srk-name", endpoint.provisioned["srk_name"], "--vault-id",
                          endpoint.provisioned["vault_id"], "--authority", authority, "--policy-ref", kPolicyRef,
                          "--install", "--image", image(), "-o", endpoint.appliance.files() + "/policy.bundle"});
        ASSERT_EQ(bundle.status, 0) << bundle.errors;
        const Outcome sign = run_tool("policyctl", {"sign", "--key", key, "--image", image(), "--counter-limit",
                                                    endpoint.provisioned["counter"]["value"].dump(), "--install"});
        ASSERT_EQ(sign.status, 0) << sign.errors;
    };
    install(next, next_private);
    EXPECT_NE(status({}, 1)["next_boot"].get<std::string>().find("rotate authority"), std::string::npos);
    (void)expect_yes(sealed_key(rotate("authority", endpoint.recovery_key(), with_next)));
    ASSERT_NO_FATAL_FAILURE(boot());
    install(endpoint.appliance.authority_public(), endpoint.appliance.authority_private());
    endpoint.launch();
    EXPECT_FALSE(endpoint.unseal().ok());
}

TEST_F(Rotation, RefusesAnotherTpmAndAnotherRecoveryKey) {
    SoftwareTpm other;
    const Buffer before = disk();
    expect_refusal(sealed_key_on(other, rotate("sealed", endpoint.recovery_key(),
                                               sealing(other, endpoint.appliance.authority_public()))),
                   "sealed-key recover");
    const std::string wrong = endpoint.appliance.path("wrong.key");
    host::create_file(wrong, host::text_bytes(std::string(64, '2') + "\n"), 0600);
    for (const char* const key : {"sealed", "kek", "authority"}) {
        expect_refusal(sealed_key(rotate(key, wrong, sealing())), "does not open the vault");
    }
    expect_refusal(sealed_key(rotate("dek", endpoint.attestation_key())), "is no recovery key");
    expect_refusal(sealed_key(rotate("authorities", endpoint.recovery_key())), "unknown: authorities", 2);
    expect_refusal(sealed_key(rotate("dek", wrong)), "does not open the vault");
    expect_refusal(sealed_key(rotate("attestation-key", wrong, {"--tcti", endpoint.device.tcti()})),
                   "does not open the vault");
    EXPECT_TRUE(disk() == before);
}

TEST_F(Rotation, PlansChangeNothing) {
    SoftwareTpm other;
    const Buffer before = disk();
    const std::string next = endpoint.appliance.path("next.key");
    const auto planned = [&](std::vector<std::string> arguments, SoftwareTpm& device) {
        arguments.emplace_back("--plan");
        const json plan = expect_yes(sealed_key_on(device, arguments))["plan"];
        for (const char* const part : {"changes", "can_lock_out", "way_back"}) EXPECT_FALSE(plan[part].empty()) << part;
    };
    for (const char* const key : {"sealed", "kek"}) {
        planned(rotate(key, endpoint.recovery_key(), sealing()), endpoint.device);
    }
    planned(rotate("dek", endpoint.recovery_key()), endpoint.device);
    planned(rotate("recovery", endpoint.recovery_key(), {"--recovery-key-out", next}), endpoint.device);
    planned(rotate("attestation-key", endpoint.recovery_key(), {"--tcti", endpoint.device.tcti()}), endpoint.device);
    planned(recover_on(other), other);
    EXPECT_TRUE(disk() == before);
    EXPECT_FALSE(std::filesystem::exists(next));
    const Outcome name = sealed_key_on(other, {"status", image(), "--tcti", other.tcti(), "--json"});
    EXPECT_EQ(json::parse(name.output)["tpm"]["srk_name"], nullptr) << "no key was made in the TPM";
}

TEST_F(Rotation, RecoverSealsTheVaultToAnotherTpm) {
    Endpoint board;  // for its TPM alone
    const json asked = [&] {
        std::vector<std::string> arguments{"status", image(), "--tcti", board.device.tcti(), "--json"};
        const Outcome outcome = sealed_key_on(board.device, arguments);
        EXPECT_EQ(outcome.status, 1);
        return json::parse(outcome.output);
    }();
    EXPECT_NE(asked["next_boot"].get<std::string>().find("sealed-key recover"), std::string::npos) << asked;
    const json said = expect_yes(sealed_key_on(board.device, recover_on(board.device)));
    EXPECT_EQ(said["vault_id"], endpoint.provisioned["vault_id"]);
    EXPECT_NE(said["srk_name"], endpoint.provisioned["srk_name"]);
    EXPECT_NE(said["ak_name"], endpoint.provisioned["ak_name"]);
    ASSERT_EQ(said["next"].size(), 2u);
    EXPECT_EQ(said["next"][1].get<std::string>().find("--install"), std::string::npos)
        << "what lies on a disk is not approved";
    EXPECT_NE(said["next"][0].get<std::string>().find("policyctl bundle"), std::string::npos);
    // The endpoint with its new board: what "next" says, and a boot.
    endpoint.provisioned.update(said);
    endpoint.pin_and_sign();
    board.provisioned = endpoint.provisioned;
    EXPECT_EQ(status({}, 0)["next_boot"].get<std::string>().substr(0, 5), "opens");
    const json with_old = status({"--tcti", endpoint.device.tcti()}, 1);
    EXPECT_EQ(with_old["tpm"]["srk_match"], false);
    std::filesystem::copy_file(image(), board.appliance.image(), std::filesystem::copy_options::overwrite_existing);
    board.launch();
    board.open_vault(header, keys);
    EXPECT_EQ(host::hex(header.vault_id), endpoint.provisioned["vault_id"]);
}

TEST_F(Rotation, RecoverGivesTheNewTpmTheOldOnesCounter) {
    Endpoint board;
    auto arguments = recover_on(board.device);
    arguments.insert(arguments.end(), {"--counter-at-least", "3"});
    EXPECT_EQ(expect_yes(sealed_key_on(board.device, arguments))["counter"]["value"], 3);
    arguments.back() = "100000";
    expect_refusal(sealed_key_on(board.device, arguments), "--counter-at-least");
}

// Who has a key to an old copy of the vault has its KEK: what has another one, that does not open.
TEST_F(Rotation, OfKekAndDiskKeyInThisOrderVoidsAnOldCopyOfTheVault) {
    boot();
    volume::Keys old;
    copy_bytes(old.kek.bytes(), keys.kek.bytes());
    const auto opens = [&] {
        volume::Dek dek;
        return volume::unwrap_dek(header, old.kek, volume::dek_label(), dek).ok();
    };
    EXPECT_TRUE(opens());
    const json said = expect_yes(sealed_key(rotate("dek", endpoint.recovery_key())));
    EXPECT_NE(said["notes"][0].get<std::string>().find("rotate kek"), std::string::npos) << "it is told";
    boot();
    EXPECT_TRUE(opens()) << "the disk key alone does not";
    (void)expect_yes(sealed_key(rotate("kek", endpoint.recovery_key(), sealing())));
    (void)expect_yes(sealed_key(rotate("dek", endpoint.recovery_key())));
    boot();
    EXPECT_FALSE(opens());
}

TEST_F(Rotation, TheCounterIsNotRaisedBeyondTheApprovalOfTheDisk) {
    const std::uint64_t value = endpoint.provisioned["counter"]["value"];
    const std::vector<std::string> bump{"bump-counter", image(), "--tcti", endpoint.device.tcti(), "--json"};
    auto tested = bump;
    tested.emplace_back("--i-have-tested");
    expect_refusal(sealed_key(tested), "would lock the endpoint out");
    SoftwareTpm other;
    auto on_other = tested;
    on_other[3] = other.tcti();
    expect_refusal(sealed_key_on(other, on_other), "not sealed to this TPM");
    ASSERT_NO_FATAL_FAILURE(boot());
    const Buffer old_approval = endpoint.appliance.boot_file(policies::kApprovalFile);
    const Outcome sign = run_tool("policyctl", {"sign", "--key", endpoint.appliance.authority_private(), "--image",
                                                image(), "--counter-limit", std::to_string(value + 1), "--install"});
    ASSERT_EQ(sign.status, 0) << sign.errors;
    expect_refusal(sealed_key(bump), "--i-have-tested", 2);
    const Buffer kernel = endpoint.appliance.boot_file("kernel");
    Buffer other_kernel = kernel;
    other_kernel[10] ^= std::byte{1};
    endpoint.appliance.put_boot_file("kernel", other_kernel);
    expect_refusal(sealed_key(tested), "the approval is of another ");
    endpoint.appliance.put_boot_file("kernel", kernel);
    const json said = expect_yes(sealed_key(tested));
    EXPECT_EQ(said["counter"]["before"], value);
    EXPECT_EQ(said["counter"]["value"], value + 1);
    ASSERT_NO_FATAL_FAILURE(boot());
    endpoint.appliance.put_boot_file(policies::kApprovalFile, old_approval);
    EXPECT_NE(status({"--tcti", endpoint.device.tcti()}, 1)["next_boot"].get<std::string>().find("policyctl sign"),
              std::string::npos);
    endpoint.launch();
    EXPECT_FALSE(endpoint.unseal().ok());
}

TEST_F(Rotation, AVaultOfADiskOfAnotherSizeIsToldAndRefused) {
    // The disk grows; sgdisk moves the backup table to its new end, as partitioning tools do.
    std::filesystem::resize_file(image(), std::filesystem::file_size(image()) + (1 << 20));
    (void)host::run_program({"sgdisk", "-e", image()}, {}, 1 << 16);
    const json said = status({}, 1);
    EXPECT_EQ(said["state"], "provisioned");
    EXPECT_NE(said["next_boot"].get<std::string>().find("bring it back to that size"), std::string::npos) << said;
    expect_refusal(sealed_key(rotate("dek", endpoint.recovery_key())), "bring it back to that size");
}

TEST(OwnerPassword, IsAskedForAndTaken) {
    Endpoint endpoint;
    endpoint.prepare();
    (void)host::run_program({"tpm2_changeauth", "-T", endpoint.device.tcti(), "-c", "owner", "secret of the owner"}, {},
                            1 << 16);
    std::vector<std::string> arguments = endpoint.provision_arguments();
    const Outcome refused = run_tool("sealed-key", arguments);
    EXPECT_EQ(refused.status, 3);
    EXPECT_NE(refused.errors.find("give it by --owner-password"), std::string::npos) << refused.errors;
    const std::string password = endpoint.appliance.path("owner.password");
    arguments.insert(arguments.end(), {"--owner-password", password});
    host::create_file(password, host::text_bytes("another\n"), 0600);
    const Outcome wrong = run_tool("sealed-key", arguments);
    EXPECT_EQ(wrong.status, 3);
    EXPECT_NE(wrong.errors.find("another password"), std::string::npos) << wrong.errors;
    host::replace_file(password, host::text_bytes("secret of the owner\n"), 0600);
    const Outcome taken = run_tool("sealed-key", arguments);
    ASSERT_EQ(taken.status, 0) << taken.errors;
    endpoint.provisioned = json::parse(taken.output);
    endpoint.pin_and_sign();
    endpoint.device.connect();
    endpoint.launch();
    EXPECT_TRUE(endpoint.unseal().ok());
}

}  // namespace
}  // namespace gatehouse::test
