// Recovery keys in escrow, as an operator uses them; a reader that is not ours (open_escrow.py) holds us to the format.
#include "keyvault/tool/escrow.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "keyvault/tool/vault_maker.hpp"
#include "tests/unit/keyvault/tool/encrypted_in_part.hpp"
#include "tests/unit/keyvault/tool/endpoint.hpp"

namespace gatehouse::test {
namespace {

using nlohmann::json;

constexpr std::size_t kImageLimit = std::size_t{128} << 20;

std::string text_of(const Buffer& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// A key pair NAME.pem, NAME.pub in a directory.
class KeyPair {
  public:
    KeyPair(const std::string& directory, const std::string& name, const std::string& type = "EC")
        : private_key(directory + "/" + name + ".pem"), public_key(directory + "/" + name + ".pub") {
        make_key(type, private_key);
        (void)host::run_program({"openssl", "pkey", "-in", private_key, "-pubout", "-out", public_key}, {}, 1 << 16);
    }
    std::string private_key;
    std::string public_key;
};

std::string by_others(const std::string& blob, const std::string& private_key) {
    return text_of(host::run_program({"python3", GATEHOUSE_OPEN_ESCROW, blob, private_key}, {}, 4096));
}

// --- The blob

class EscrowBlob : public ::testing::Test {
  protected:
    EscrowBlob() {
        host::SystemRandom random;
        random.fill(secret.bytes());
        random.fill(vault);
        const host::Key key = host::read_public_key(keys.public_key);
        blob = host::seal_escrow(secret, vault, key.get(), keys.public_key, random);
    }
    // What is wrong with it.
    [[nodiscard]] std::string refusal(Bytes changed, const std::string& private_key, const volume::VaultId& of) const {
        host::replace_file(file, changed);
        volume::SlotSecret opened;
        try {
            host::open_escrow(file, private_key, std::span(&of, 1), opened);
        } catch (const host::ToolError& error) {
            EXPECT_TRUE(opened.equals(volume::SlotSecret().bytes())) << "nothing is released";
            return error.what();
        }
        EXPECT_TRUE(opened.equals(secret.bytes()));
        return "opens";
    }
    [[nodiscard]] std::string refusal(Bytes changed) const { return refusal(changed, keys.private_key, vault); }
    static void expect_in(const std::string& part, const std::string& said) {
        EXPECT_NE(said.find(part), std::string::npos) << said;
    }

    Directory directory;
    KeyPair keys{directory.path(), "escrow"};
    std::string file = directory.path() + "/blob";
    volume::SlotSecret secret;
    volume::VaultId vault{};
    Buffer blob;
};

TEST_F(EscrowBlob, IsOpenedByItsKeyAndByOthersPrograms) {
    EXPECT_EQ(blob.size(), host::kEscrowSize);
    EXPECT_EQ(refusal(blob), "opens");
    EXPECT_EQ(by_others(file, keys.private_key), host::hex(secret.bytes()) + "\n");
    EXPECT_EQ(text_of(blob).find(text_of(Buffer(secret.bytes().begin(), secret.bytes().end()))), std::string::npos);
}

TEST_F(EscrowBlob, OfTheSameIsNeverTheSame) {
    host::SystemRandom random;
    const host::Key key = host::read_public_key(keys.public_key);
    const Buffer another = host::seal_escrow(secret, vault, key.get(), keys.public_key, random);
    EXPECT_FALSE(equal_bytes(Bytes(another).subspan(80), Bytes(blob).subspan(80)));
    EXPECT_EQ(refusal(another), "opens");
}

TEST_F(EscrowBlob, WithAnyBitChangedIsRefused) {
    for (std::size_t bit = 0; bit < 8 * blob.size(); ++bit) {
        Buffer changed = blob;
        changed[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        const std::string said = refusal(changed);
        const std::size_t at = bit / 8;
        expect_in(at < 8    ? "is no escrow blob"
                  : at < 12 ? "of version"
                  : at < 16 ? "it was cut or changed"
                  : at < 48 ? "is of vault " + host::hex(Bytes(changed).subspan(16, 32))
                  : at < 80 ? "is for another escrow key"
                            : "was changed since it was made",
                  said);
    }
}

TEST_F(EscrowBlob, OfAnyOtherLengthIsRefused) {
    for (std::size_t size = 0; size < blob.size(); ++size) {
        expect_in(size < 8 ? "is no escrow blob" : "it was cut or changed", refusal(Bytes(blob).first(size)));
    }
    Buffer longer = blob;
    longer.push_back(std::byte{0});
    expect_in("of 206 bytes", refusal(longer));
    longer.resize((64 << 10) + 1);
    expect_in("longer than 65536 bytes", refusal(longer));
}

TEST_F(EscrowBlob, OfAnotherVaultOrForAnotherKeyIsRefused) {
    volume::VaultId other = vault;
    other[5] ^= std::byte{1};
    expect_in("is of vault " + host::hex(vault) + ", and the disk's vault is " + host::hex(other),
              refusal(blob, keys.private_key, other));
    // Said to be of the other one, by somebody without the recovery key.
    Buffer relabelled = blob;
    copy_bytes(MutableBytes(relabelled).subspan(16), other);
    expect_in("was changed", refusal(relabelled, keys.private_key, other));
    const KeyPair second(directory.path(), "second");
    expect_in("is for another escrow key than that in " + second.private_key, refusal(blob, second.private_key, vault));
    const KeyPair p384(directory.path(), "p384", "P-384");
    expect_in("must be a key on P-256", refusal(blob, p384.private_key, vault));
    expect_in("no private key in PEM form", refusal(blob, keys.public_key, vault));
    volume::SlotSecret opened;
    EXPECT_THROW(host::open_escrow(directory.path() + "/none", keys.private_key, {}, opened), host::ToolError);
}

TEST_F(EscrowBlob, IsMadeForKeysOnP256Alone) {
    for (const char* const type : {"P-384", "RSA"}) {
        const KeyPair other(directory.path(), "other", type);
        EXPECT_THROW(host::EscrowFile(other.public_key, directory.path() + "/new"), host::ToolError) << type;
    }
    EXPECT_THROW(host::EscrowFile(keys.public_key, ""), host::ToolError);
    EXPECT_THROW(host::EscrowFile("", directory.path() + "/new"), host::ToolError);
    EXPECT_THROW(host::EscrowFile(file, directory.path() + "/new"), host::ToolError) << "there is no such file";
}

// --- The tool

class Escrow : public ::testing::Test {
  protected:
    void provision(const std::vector<std::string>& without = {}) {
        endpoint.prepare();
        auto arguments = endpoint.provision_arguments();
        for (const std::string& option : without) {
            const auto at = std::ranges::find(arguments, option);
            arguments.erase(at, at + 2);
        }
        arguments.insert(arguments.end(), {"--escrow-key", keys.public_key, "--escrow-out", blob});
        const Outcome outcome = run_tool("sealed-key", arguments);
        ASSERT_EQ(outcome.status, 0) << outcome.errors;
        endpoint.provisioned = json::parse(outcome.output);
        endpoint.pin_and_sign();
    }
    [[nodiscard]] std::string image() const { return endpoint.appliance.image(); }
    [[nodiscard]] Buffer disk() const { return host::read_file(image(), kImageLimit); }
    [[nodiscard]] std::string path(const std::string& name) const { return endpoint.appliance.path(name); }
    [[nodiscard]] std::vector<std::string> with_escrow(std::vector<std::string> arguments) const {
        arguments.insert(arguments.end(), {"--escrow", blob, "--escrow-private-key", keys.private_key, "--json"});
        return arguments;
    }

    Endpoint endpoint;
    KeyPair keys{endpoint.appliance.path("."), "escrow"};
    std::string blob = endpoint.appliance.path("escrow.blob");
};

TEST_F(Escrow, HoldsTheRecoveryKeyOfAProvisionedDisk) {
    provision();
    const std::string typed = text_of(host::read_file(endpoint.recovery_key(), 100));
    EXPECT_EQ(by_others(blob, keys.private_key), typed);
    const json verified = expect_yes(run_tool("sealed-key", with_escrow({"verify-recovery", image()})));
    EXPECT_EQ(verified["copies"], json({true, true}));
}

// Another board, and nobody has the recovery key but the escrow.
TEST_F(Escrow, RecoversADiskWhoseRecoveryKeyNobodyElseHas) {
    provision({"--recovery-key-out"});
    EXPECT_FALSE(std::filesystem::exists(endpoint.recovery_key()));
    Endpoint board;  // for its TPM alone
    board.device.disconnect();
    const std::vector<std::string> recover =
        with_escrow({"recover", image(), "--tcti", board.device.tcti(), "--authority",
                     endpoint.appliance.authority_public(), "--policy-ref", kPolicyRef});
    const json said = expect_yes(run_tool("sealed-key", recover));
    board.device.connect();
    EXPECT_EQ(said["vault_id"], endpoint.provisioned["vault_id"]);
    EXPECT_NE(said["notes"][2].get<std::string>().find("--escrow " + blob), std::string::npos) << said;
    // A recovery key in a file again, and in a new blob; the old blob is void.
    const std::string next = path("next.key");
    const std::string next_blob = path("next.blob");
    (void)expect_yes(run_tool("sealed-key", with_escrow({"rotate", "recovery", image(), "--recovery-key-out", next,
                                                         "--escrow-key", keys.public_key, "--escrow-out", next_blob})));
    EXPECT_EQ(by_others(next_blob, keys.private_key), text_of(host::read_file(next, 100)));
    const Outcome old = run_tool("sealed-key", with_escrow({"verify-recovery", image()}));
    EXPECT_EQ(old.status, 1) << old.errors;
    (void)expect_yes(run_tool("sealed-key", {"verify-recovery", image(), "--recovery-key", next, "--json"}));
    blob = next_blob;
    (void)expect_yes(run_tool("sealed-key", with_escrow({"verify-recovery", image()})));
}

TEST_F(Escrow, AloneIsEnoughForAnotherRecoveryKey) {
    provision();
    const std::string next_blob = path("next.blob");
    const std::vector<std::string> rotate{
        "rotate",       "recovery",      image(),        "--recovery-key", endpoint.recovery_key(),
        "--escrow-key", keys.public_key, "--escrow-out", next_blob,        "--json"};
    auto plan = rotate;
    plan.emplace_back("--plan");
    (void)expect_yes(run_tool("sealed-key", plan));
    EXPECT_FALSE(std::filesystem::exists(next_blob));
    (void)expect_yes(run_tool("sealed-key", rotate));
    const Buffer done = disk();
    expect_refusal(run_tool("sealed-key", rotate), "exists already");
    EXPECT_TRUE(disk() == done);
    blob = next_blob;
    (void)expect_yes(run_tool("sealed-key", with_escrow({"verify-recovery", image()})));
}

// Killed after key and blob were written, before the header was; the copies are those of before and after.
TEST_F(Escrow, IsMadeAgainByARotationThatGoesOn) {
    provision();
    const Buffer before = disk();
    const std::string next = path("next.key");
    const std::string next_blob = path("next.blob");
    const std::vector<std::string> rotate{"rotate",
                                          "recovery",
                                          image(),
                                          "--recovery-key",
                                          endpoint.recovery_key(),
                                          "--recovery-key-out",
                                          next,
                                          "--escrow-key",
                                          keys.public_key,
                                          "--escrow-out",
                                          next_blob,
                                          "--json"};
    const std::uint64_t generation = expect_yes(run_tool("sealed-key", rotate))["generation"];
    {
        host::Disk of(image(), host::Disk::Access::kWrite);
        const volume::GptEntry vault = host::read_partition_tables(of).vault_entry();
        volume::Header first;
        ASSERT_TRUE(volume::preview(host::read_header_copies(of, vault)[0], first).ok());
        const std::size_t older = first.generation == generation ? 1 : 0;
        const std::uint64_t lba = vault.first + volume::kCopyOffset[older] / 512;
        of.write(lba, Bytes(before).subspan(lba * 512, volume::kMaximumHeaderSize));
    }
    // A file that is no blob of this vault is another one's: it stays, and so does the disk.
    const Buffer cut = disk();
    const Buffer made = host::read_file(next_blob, 1 << 10);
    for (const std::size_t at : {std::size_t{0}, std::size_t{20}}) {
        Buffer foreign = made;
        foreign[at] ^= std::byte{1};
        host::replace_file(next_blob, foreign);
        expect_refusal(run_tool("sealed-key", rotate), at == 0 ? "is no escrow blob" : "is of vault");
        EXPECT_TRUE(host::read_file(next_blob, 1 << 10) == foreign && disk() == cut);
    }
    // Without the file of the key, the old one opens the older copy; the blob may hold the newer copy's.
    host::replace_file(next_blob, made);
    expect_refusal(run_tool("sealed-key", {"rotate", "recovery", image(), "--recovery-key", endpoint.recovery_key(),
                                           "--escrow-key", keys.public_key, "--escrow-out", next_blob}),
                   "may hold the newest recovery key");
    EXPECT_TRUE(host::read_file(next_blob, 1 << 10) == made && disk() == cut);
    (void)expect_yes(run_tool("sealed-key", rotate));
    std::filesystem::remove(next_blob);
    host::Disk(image(), host::Disk::Access::kWrite).write(0, Bytes(cut));
    (void)expect_yes(run_tool("sealed-key", rotate));
    blob = next_blob;
    EXPECT_EQ(expect_yes(run_tool("sealed-key", with_escrow({"verify-recovery", image()})))["copies"],
              json({true, true}));
}

TEST_F(Escrow, ResumesAProvisioningThatWasCut) {
    provision({"--recovery-key-out"});
    const std::string key = path("opened.key");
    host::create_file(key, host::text_bytes(by_others(blob, keys.private_key)), 0600);
    pretend_encrypted_in_part(image(), key);
    {
        // What the cursor now calls plaintext is to be plaintext for the rest of the test: only that it goes on counts.
        EXPECT_EQ(run_tool("sealed-key", {"status", image(), "--json"}).status, 1);
    }
    (void)expect_yes(run_tool("sealed-key", with_escrow({"provision", image(), "--resume"})));
    EXPECT_EQ(expect_yes(run_tool("sealed-key", with_escrow({"verify-recovery", image()})))["percent"], 100);
}

TEST_F(Escrow, ThatIsNotThisDisksOpensNothingAndChangesNothing) {
    provision();
    const Buffer before = disk();
    const std::string of_this = blob;
    const KeyPair other_keys(path("."), "other");
    const auto refused = [&](const std::string& file, const std::string& key, const std::string& why) {
        for (const std::vector<std::string>& verb :
             {std::vector<std::string>{"verify-recovery", image()}, {"rotate", "dek", image()}}) {
            auto arguments = verb;
            arguments.insert(arguments.end(), {"--escrow", file, "--escrow-private-key", key});
            expect_refusal(run_tool("sealed-key", arguments), why);
        }
    };
    refused(of_this, other_keys.private_key, "is for another escrow key");
    refused(path("none"), keys.private_key, "cannot be opened");
    refused(endpoint.recovery_key(), keys.private_key, "is no escrow blob");
    host::SystemRandom random;
    volume::SlotSecret secret;
    random.fill(secret.bytes());
    volume::VaultId vault{};
    const host::Key key = host::read_public_key(keys.public_key);
    host::create_file(path("foreign"), host::seal_escrow(secret, vault, key.get(), "key", random), 0600);
    refused(path("foreign"), keys.private_key,
            "the disk's vault is " + endpoint.provisioned["vault_id"].get<std::string>());
    // Of this vault, by somebody who has not the recovery key.
    copy_bytes(vault, endpoint.vault_id());
    host::create_file(path("forged"), host::seal_escrow(secret, vault, key.get(), "key", random), 0600);
    expect_refusal(run_tool("sealed-key", {"rotate", "dek", image(), "--escrow", path("forged"), "--escrow-private-key",
                                           keys.private_key}),
                   "does not open the vault");
    EXPECT_TRUE(disk() == before);
}

TEST_F(Escrow, SaysWhatIsMissing) {
    provision();
    const Buffer before = disk();
    const auto run = [&](const std::vector<std::string>& arguments) { return run_tool("sealed-key", arguments); };
    expect_refusal(run({"rotate", "dek", image()}), "--recovery-key is required, or --escrow", 2);
    expect_refusal(run({"verify-recovery", image()}), "--recovery-key is required, or --escrow", 2);
    EXPECT_EQ(run({"rotate", "dek", image(), "--escrow", blob}).status, 2);
    EXPECT_EQ(run({"rotate", "dek", image(), "--escrow-private-key", keys.private_key}).status, 2);
    EXPECT_EQ(run({"rotate", "dek", image(), "--escrow", blob, "--escrow-private-key", keys.private_key,
                   "--recovery-key", endpoint.recovery_key()})
                  .status,
              2);
    expect_refusal(run({"rotate", "recovery", image(), "--recovery-key", endpoint.recovery_key()}),
                   "give --recovery-key-out FILE, or --escrow-key", 2);
    // A blob that cannot be made: no key of it is left either.
    const std::string next = path("next.key");
    expect_refusal(run({"rotate", "recovery", image(), "--recovery-key", endpoint.recovery_key(), "--recovery-key-out",
                        next, "--escrow-key", keys.public_key, "--escrow-out", path("nowhere") + "/blob"}),
                   "nothing has been written to the disk");
    EXPECT_FALSE(std::filesystem::exists(next));
    // One file for both: the blob would take the place of the new key.
    std::filesystem::create_directory_symlink(".", path("here"));
    for (const std::string& same : {next, path("./next.key"), path("here/next.key")}) {
        expect_refusal(run({"rotate", "recovery", image(), "--recovery-key", endpoint.recovery_key(),
                            "--recovery-key-out", next, "--escrow-key", keys.public_key, "--escrow-out", same}),
                       "is both --recovery-key-out and --escrow-out", 2);
        expect_refusal(
            run({"provision", image(), "--authority", endpoint.appliance.authority_public(), "--policy-ref", kPolicyRef,
                 "--recovery-key-out", next, "--escrow-key", keys.public_key, "--escrow-out", same}),
            "is both --recovery-key-out and --escrow-out", 2);
        EXPECT_FALSE(std::filesystem::exists(next));
    }
    for (const std::string option : {"--recovery-key-out", "--tcti", "--ak-out", "--policy-ref"}) {
        expect_refusal(run({"provision", image(), option, ""}), option + ": is given, and empty", 2);
    }
    for (const std::vector<std::string>& more : {std::vector<std::string>{"--recovery-key-out", next},
                                                 {"--escrow-key", keys.public_key, "--escrow-out", next},
                                                 {"--no-recovery-key"}}) {
        std::vector<std::string> resume{"provision", image(), "--resume", "--recovery-key", endpoint.recovery_key()};
        resume.insert(resume.end(), more.begin(), more.end());
        expect_refusal(run(resume), "--resume makes no recovery key", 2);
    }
    const KeyPair p384(path("."), "p384", "P-384");
    expect_refusal(run({"rotate", "recovery", image(), "--recovery-key", endpoint.recovery_key(), "--recovery-key-out",
                        next, "--escrow-key", p384.public_key, "--escrow-out", path("p384.blob")}),
                   "must be a key on P-256");
    EXPECT_TRUE(disk() == before);
}

}  // namespace
}  // namespace gatehouse::test
