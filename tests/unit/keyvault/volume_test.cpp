// The vault header.
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "keyvault/volume/journal.hpp"
#include "keyvault/volume_writer/header_v1.hpp"
#include "keyvault/volume_writer/header_writer.hpp"
#include "tests/unit/keyvault/version_one.hpp"

namespace gatehouse::volume {
namespace {

using Buffer = std::vector<std::byte>;

class CountingRandom final : public RandomSource {
  public:
    void fill(MutableBytes out) override {
        for (std::byte& byte : out) byte = static_cast<std::byte>(generator_());
    }

  private:
    std::mt19937 generator_{1};
};

template <std::size_t N>
Secret<N> secret_of(unsigned seed) {
    Secret<N> secret;
    for (std::size_t i = 0; i < N; ++i) secret.bytes()[i] = static_cast<std::byte>(seed * 31 + i * 7);
    return secret;
}

// A header with something in every field.
struct Vault {
    Vault() {
        header.generation = 7;
        for (std::size_t i = 0; i < header.disk.size(); ++i) header.disk[i] = static_cast<std::byte>(i + 1);
        TpmSlot& tpm = header.slots.tpm.emplace();
        EXPECT_TRUE(tpm.sealed_public.assign(Buffer(78, std::byte{0x50}), "").ok());
        EXPECT_TRUE(tpm.sealed_private.assign(Buffer(158, std::byte{0x51}), "").ok());
        tpm.storage_root_key.fill(std::byte{0x52});
        tpm.authority.fill(std::byte{0x53});
        header.vault_id = vault_id(root);
        tpm.kek = wrap_kek(kek, SlotKind::kTpm, tpm_secret, header, random);
        header.slots.recovery = wrap_kek(kek, SlotKind::kRecovery, recovery_key, header, random);
        header.slots.member = wrap_kek(kek, SlotKind::kMember, boot_root, header, random);
        header.sector_size = 512;
        header.total_sectors = 1'000'000;
        header.regions[0] = {0, 1, RegionClass::kReadOnly};
        header.regions[1] = {1, 1, RegionClass::kOverlay};
        header.regions[2] = {2, 1, RegionClass::kOverlay};
        header.regions[3] = {3, 2045, RegionClass::kReadOnly};
        header.regions[4] = {2048, 2048, RegionClass::kHidden};
        header.regions[5] = {999'999, 1, RegionClass::kOverlay};
        header.region_count = 6;
        header.overlay[0].lba = 1;
        header.overlay[1].lba = 2;
        header.overlay[2].lba = 999'999;
        for (std::size_t i = 0; i < 3; ++i) {
            random.fill(MutableBytes(header.overlay[i].content).first(header.sector_size));
        }
        header.overlay_count = 3;
        EXPECT_TRUE(header.attestation_key_public.assign(Buffer(90, std::byte{0x54}), "").ok());
        EXPECT_TRUE(header.attestation_key_private.assign(Buffer(126, std::byte{0x55}), "").ok());
        header.root = wrap_root(root, kek, header.disk, random);
        header.members[0].fill(std::byte{0x60});
        header.members[1].fill(std::byte{0x61});
        header.member_count = 2;
        header.data_key = wrap_dek(dek, 3, kek, header.disk, random).value();
    }

    Buffer bytes() const {
        Buffer out(kMaximumHeaderSize);
        const auto size = serialise(header, kek, out);
        EXPECT_TRUE(size.ok()) << size.failure().item;
        out.resize(size.ok() ? size.value() : 0);
        return out;
    }

    CountingRandom random;
    Kek kek = secret_of<32>(1);
    SlotSecret tpm_secret = secret_of<32>(2);
    SlotSecret recovery_key = secret_of<32>(3);
    Root boot_root = secret_of<32>(5);
    Root root = secret_of<32>(6);
    Dek dek = secret_of<64>(4);
    Header header;
};

// The MAC of `header` made right again after its bytes were changed: what nobody without the KEK can do, used
// to see what is checked behind the MAC.
void seal_again(Buffer& bytes, const Kek& kek) {
    const WrappingKey key = derive_key(kek.bytes(), literal_bytes("gatehouse vault v2: header MAC"));
    const Bytes covered = Bytes(bytes).first(bytes.size() - 32);
    copy_bytes(MutableBytes(bytes).subspan(covered.size()), hmac_sha256(key.bytes(), {covered}));
}

Status open_with(Bytes bytes, const SlotSecret& secret, SlotKind slot = SlotKind::kTpm, const Guid* disk = nullptr) {
    auto header = std::make_unique<Header>();
    Keys keys;
    return open_header(bytes, slot, secret, disk, *header, keys);
}

// --- Wrapping
// ------------------------------------------------------------------------------------------------------

Buffer openssl_gcm(Bytes key, Bytes nonce, Bytes associated, Bytes plain, Buffer& tag) {
    const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                                  EVP_CIPHER_CTX_free);
    Buffer out(plain.size());
    tag.resize(16);
    int size = 0;
    EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, raw(key), raw(nonce));
    EVP_EncryptUpdate(context.get(), nullptr, &size, raw(associated), static_cast<int>(associated.size()));
    EVP_EncryptUpdate(context.get(), raw(MutableBytes(out)), &size, raw(plain), static_cast<int>(plain.size()));
    EVP_EncryptFinal_ex(context.get(), raw(MutableBytes(out)) + size, &size);
    EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, 16, tag.data());
    return out;
}

TEST(Wrapping, IsAes256GcmAsOpenSslHasIt) {
    CountingRandom random;
    for (std::size_t associated_size : {0u, 1u, 16u, 47u, 100u}) {
        WrappingKey key;
        Dek dek;
        random.fill(key.bytes());
        random.fill(dek.bytes());
        Buffer associated(associated_size);
        random.fill(associated);
        const std::size_t half = associated_size / 2;
        const auto wrapped = wrap(dek, key, {Bytes(associated).first(half), Bytes(associated).subspan(half)}, random);
        Buffer tag;
        const Buffer expected = openssl_gcm(key.bytes(), wrapped.nonce, associated, dek.bytes(), tag);
        EXPECT_TRUE(equal_bytes(wrapped.ciphertext, expected));
        EXPECT_TRUE(equal_bytes(wrapped.tag, tag));
        Dek found;
        ASSERT_TRUE(unwrap(wrapped, key, {associated}, found));
        EXPECT_TRUE(found.equals(dek.bytes()));
    }
}

// McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B.
TEST(Wrapping, MatchesTestCase14OfTheGcmSpecification) {
    const WrappingKey key;  // zeros
    std::array<std::byte, 16> data{};
    const std::array<std::byte, 12> nonce{};
    const auto tag = gcm(Direction::kEncrypt, key, nonce, {}, data);
    const unsigned char expected_data[16] = {0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e,
                                             0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18};
    const unsigned char expected_tag[16] = {0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0,
                                            0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19};
    EXPECT_EQ(std::memcmp(data.data(), expected_data, 16), 0);
    EXPECT_EQ(std::memcmp(tag.data(), expected_tag, 16), 0);
}

TEST(Wrapping, RefusesEveryChangedBitAndWipesTheKey) {
    CountingRandom random;
    const WrappingKey key = secret_of<32>(9);
    const Kek kek = secret_of<32>(1);
    const Buffer associated(20, std::byte{1});
    const auto wrapped = wrap(kek, key, {associated}, random);
    const auto refused = [&](const WrappedKey<32>& changed, const WrappingKey& with, Bytes data) {
        Kek out = secret_of<32>(5);
        return !unwrap(changed, with, {data}, out) && out.equals(std::array<std::byte, 32>{});
    };
    for (unsigned bit = 0; bit < 8; ++bit) {
        const std::byte mask{static_cast<unsigned char>(1u << bit)};
        for (std::size_t i = 0; i < 32; ++i) {
            auto changed = wrapped;
            changed.ciphertext[i] ^= mask;
            EXPECT_TRUE(refused(changed, key, associated));
        }
        for (std::size_t i = 0; i < 16; ++i) {
            auto changed = wrapped;
            changed.tag[i] ^= mask;
            EXPECT_TRUE(refused(changed, key, associated));
        }
        for (std::size_t i = 0; i < 12; ++i) {
            auto changed = wrapped;
            changed.nonce[i] ^= mask;
            EXPECT_TRUE(refused(changed, key, associated));
        }
    }
    EXPECT_TRUE(refused(wrapped, secret_of<32>(10), associated));
    EXPECT_TRUE(refused(wrapped, key, Bytes(associated).first(19)));
}

TEST(Wrapping, TakesAFreshNonceEachTime) {
    CountingRandom random;
    const WrappingKey key = secret_of<32>(9);
    const Kek kek = secret_of<32>(1);
    EXPECT_NE(wrap(kek, key, {}, random).nonce, wrap(kek, key, {}, random).nonce);
}

TEST(Wrapping, RefusesEqualXtsHalves) {
    CountingRandom random;
    Dek dek;
    random.fill(dek.bytes().first<32>());
    copy_bytes(dek.bytes().last<32>(), dek.bytes().first<32>());
    EXPECT_EQ(wrap_dek(dek, 1, secret_of<32>(1), {}, random).error(), Error::kBadValue);
}

// --- Round trip
// ----------------------------------------------------------------------------------------------------

void expect_equal(const Header& a, const Header& b) {
    // Every field is written, so equal bytes are equal headers.
    const Kek kek;
    Buffer first(kMaximumHeaderSize);
    Buffer second(kMaximumHeaderSize);
    ASSERT_TRUE(serialise(a, kek, first).ok());
    ASSERT_TRUE(serialise(b, kek, second).ok());
    EXPECT_EQ(first, second);
}

TEST(VaultHeader, OpensByEachSlotWithEveryFieldAsWritten) {
    const Vault vault;
    const Buffer bytes = vault.bytes();
    EXPECT_EQ(bytes.size() % kHeaderAlignment, 0u);
    for (const auto slot : {SlotKind::kTpm, SlotKind::kRecovery, SlotKind::kMember}) {
        auto header = std::make_unique<Header>();
        Keys keys;
        const SlotSecret& secret = slot == SlotKind::kTpm        ? vault.tpm_secret
                                   : slot == SlotKind::kRecovery ? vault.recovery_key
                                                                 : vault.boot_root;
        const Status status = open_header(bytes, slot, secret, &vault.header.disk, *header, keys);
        ASSERT_TRUE(status.ok()) << status.failure().item;
        EXPECT_TRUE(keys.kek.equals(vault.kek.bytes()));
        EXPECT_TRUE(keys.dek.equals(vault.dek.bytes()));
        EXPECT_TRUE(keys.root.equals(vault.root.bytes()));
        EXPECT_EQ(header->vault_id, vault_id(vault.root));
        ASSERT_EQ(header->member_table().size(), 2u);
        EXPECT_EQ(header->member_table()[1][31], std::byte{0x61});
        EXPECT_EQ(header->generation, 7u);
        EXPECT_EQ(header->data_key.epoch, 3u);
        ASSERT_EQ(header->region_table().size(), 6u);
        EXPECT_EQ(header->region_table()[4].first, 2048u);
        EXPECT_EQ(header->region_table()[4].kind, RegionClass::kHidden);
        ASSERT_EQ(header->overlay_table().size(), 3u);
        EXPECT_EQ(header->overlay_table()[2].content, vault.header.overlay[2].content);
        EXPECT_TRUE(equal_bytes(header->attestation_key_private.bytes(), Buffer(126, std::byte{0x55})));
        expect_equal(*header, vault.header);
    }
}

TEST(VaultHeader, HoldsItsLargestContents) {
    Vault vault;
    Header& header = vault.header;
    header.sector_size = 4096;
    header.region_count = kMaximumRegions;
    for (std::uint64_t i = 0; i < kMaximumRegions; ++i) {
        header.regions[i] = {i, 1, i < 4 ? RegionClass::kOverlay : RegionClass::kReadOnly};
    }
    header.overlay_count = kMaximumOverlaySectors;
    for (std::size_t i = 0; i < kMaximumOverlaySectors; ++i) header.overlay[i].lba = i;
    const Buffer full(512, std::byte{1});
    ASSERT_TRUE(header.slots.tpm->sealed_public.assign(full, "").ok());
    ASSERT_TRUE(header.slots.tpm->sealed_private.assign(full, "").ok());
    ASSERT_TRUE(header.attestation_key_public.assign(full, "").ok());
    ASSERT_TRUE(header.attestation_key_private.assign(full, "").ok());
    const Buffer bytes = vault.bytes();
    EXPECT_LE(bytes.size(), kMaximumHeaderSize);
    EXPECT_TRUE(open_with(bytes, vault.tpm_secret).ok());
}

TEST(VaultHeader, PreviewShowsTheSlotsWithoutASecret) {
    const Vault vault;
    const Buffer bytes = vault.bytes();
    Buffer with_more = bytes;
    with_more.resize(kMaximumHeaderSize, std::byte{0xee});
    Header shown;
    ASSERT_TRUE(preview(with_more, shown).ok());
    EXPECT_EQ(shown.generation, 7u);
    EXPECT_EQ(shown.disk, vault.header.disk);
    EXPECT_EQ(shown.vault_id, vault.header.vault_id);
    ASSERT_TRUE(shown.slots.tpm.has_value());
    EXPECT_TRUE(equal_bytes(shown.slots.tpm->sealed_private.bytes(), Buffer(158, std::byte{0x51})));
    EXPECT_TRUE(shown.slots.recovery.has_value());
    EXPECT_TRUE(shown.slots.member.has_value());
    EXPECT_TRUE(open_with(with_more, vault.tpm_secret).ok()) << "what lies behind the header does not matter";
}

TEST(VaultHeader, HoldsNoKeyInClear) {
    const Vault vault;
    const Buffer bytes = vault.bytes();
    const auto absent = [&](Bytes secret) {
        for (std::size_t at = 0; at + 8 <= secret.size(); ++at) {
            const Bytes part = secret.subspan(at, 8);
            if (std::search(bytes.begin(), bytes.end(), part.begin(), part.end()) != bytes.end()) return false;
        }
        return true;
    };
    EXPECT_TRUE(absent(vault.kek.bytes()));
    EXPECT_TRUE(absent(vault.dek.bytes()));
    EXPECT_TRUE(absent(vault.tpm_secret.bytes()));
    EXPECT_TRUE(absent(vault.recovery_key.bytes()));
    EXPECT_TRUE(absent(vault.root.bytes()));
    EXPECT_TRUE(absent(vault.boot_root.bytes()));
}

// --- Refusals
// ------------------------------------------------------------------------------------------------------

TEST(VaultHeader, RefusesAWrongSecret) {
    const Vault vault;
    const Buffer bytes = vault.bytes();
    EXPECT_EQ(open_with(bytes, vault.recovery_key).error(), Error::kAuthFailed);
    EXPECT_EQ(open_with(bytes, vault.tpm_secret, SlotKind::kRecovery).error(), Error::kAuthFailed);
    EXPECT_EQ(open_with(bytes, vault.root, SlotKind::kMember).error(), Error::kAuthFailed)
        << "its own root opens nothing";
    EXPECT_EQ(open_with(bytes, SlotSecret()).error(), Error::kAuthFailed);
}

TEST(VaultHeader, RefusesASlotThatIsNotThere) {
    Vault vault;
    vault.header.slots.recovery.reset();
    vault.header.slots.member.reset();
    const Buffer bytes = vault.bytes();
    EXPECT_TRUE(open_with(bytes, vault.tpm_secret).ok());
    EXPECT_EQ(open_with(bytes, vault.recovery_key, SlotKind::kRecovery).error(), Error::kNotFound);
    EXPECT_EQ(open_with(bytes, vault.boot_root, SlotKind::kMember).error(), Error::kNotFound);
    vault.header.slots.tpm.reset();
    EXPECT_EQ(open_with(vault.bytes(), vault.tpm_secret).error(), Error::kNotFound);
}

TEST(VaultHeader, RefusesAnotherDisk) {
    const Vault vault;
    Guid other = vault.header.disk;
    other[0] ^= std::byte{1};
    const Status status = open_with(vault.bytes(), vault.tpm_secret, SlotKind::kTpm, &other);
    EXPECT_EQ(status.error(), Error::kMismatch);
    EXPECT_EQ(status.failure().item, std::string_view("vault header: of another disk"));
}

// A header made for one disk cannot be given another's identity, even with its slots carried over.
TEST(VaultHeader, SlotsAreBoundToTheDisk) {
    Vault vault;
    vault.header.disk[0] ^= std::byte{1};
    EXPECT_EQ(open_with(vault.bytes(), vault.tpm_secret).error(), Error::kAuthFailed);
}

// Anybody can write another vault's id on a vault of his own, with slots and MAC to match; its root betrays it.
TEST(VaultHeader, AClaimedVaultIdMustBeThatOfTheRoot) {
    Vault vault;
    vault.header.vault_id[0] ^= std::byte{1};
    EXPECT_EQ(open_with(vault.bytes(), vault.tpm_secret).error(), Error::kAuthFailed) << "slots are bound to the id";
    vault.header.slots.tpm->kek = wrap_kek(vault.kek, SlotKind::kTpm, vault.tpm_secret, vault.header, vault.random);
    const Status status = open_with(vault.bytes(), vault.tpm_secret);
    EXPECT_EQ(status.error(), Error::kMismatch);
    EXPECT_EQ(status.failure().item, std::string_view("vault header: vault id is not its root's"));
}

TEST(VaultHeader, VaultIdIsALabelledHashOfTheRoot) {
    const Root root = secret_of<32>(6);
    Buffer whole;
    const Bytes label = literal_bytes("gatehouse vault id v1");
    whole.insert(whole.end(), label.begin(), label.end());
    whole.insert(whole.end(), root.bytes().begin(), root.bytes().end());
    EXPECT_EQ(vault_id(root), sha256(whole));
}

TEST(VaultHeader, RootSecretIsWrappedUnderTheKekAndBoundToTheDisk) {
    Vault vault;
    Guid other = vault.header.disk;
    other[3] ^= std::byte{1};
    vault.header.root = wrap_root(vault.root, vault.kek, other, vault.random);
    EXPECT_EQ(open_with(vault.bytes(), vault.tpm_secret).failure().item, std::string_view("vault root secret"));
    vault.header.root = wrap_root(vault.root, secret_of<32>(7), vault.header.disk, vault.random);
    EXPECT_EQ(open_with(vault.bytes(), vault.tpm_secret).failure().item, std::string_view("vault root secret"));
}

// Behind whatever check it fails: none of the keys is left with the caller.
TEST(VaultHeader, LeavesNoKeyWhenItDoesNotOpen) {
    for (int way = 0; way < 5; ++way) {
        Vault vault;
        Header& header = vault.header;
        Guid disk = header.disk;
        if (way == 0) disk[0] ^= std::byte{1};
        if (way == 1) header.root.tag[0] ^= std::byte{1};
        if (way == 2) header.data_key.key.tag[0] ^= std::byte{1};
        Buffer bytes = vault.bytes();
        if (way == 3) bytes.back() ^= std::byte{1};
        if (way == 4) {
            store(bytes.data() + bytes.size() - 36, std::uint32_t{1}, Endian::kLittle);  // padding
            seal_again(bytes, vault.kek);
        }
        auto opened = std::make_unique<Header>();
        Keys keys;
        keys.kek = secret_of<32>(20);
        keys.dek = secret_of<64>(21);
        keys.root = secret_of<32>(22);
        ASSERT_FALSE(open_header(bytes, SlotKind::kTpm, vault.tpm_secret, &disk, *opened, keys).ok()) << way;
        EXPECT_TRUE(keys.kek.equals(Secret<32>().bytes())) << way;
        EXPECT_TRUE(keys.dek.equals(Secret<64>().bytes())) << way;
        EXPECT_TRUE(keys.root.equals(Secret<32>().bytes())) << way;
    }
}

TEST(VaultHeader, DataKeyIsBoundToItsEpoch) {
    Vault vault;
    vault.header.data_key.epoch = 4;
    const Status status = open_with(vault.bytes(), vault.tpm_secret);
    EXPECT_EQ(status.error(), Error::kAuthFailed);
    EXPECT_EQ(status.failure().item, std::string_view("vault data key"));
}

TEST(VaultHeader, RefusesEveryFlippedBit) {
    const Vault vault;
    const Buffer bytes = vault.bytes();
    for (std::size_t at = 0; at < bytes.size(); ++at) {
        for (const std::byte bit : {std::byte{0x01}, std::byte{0x80}}) {
            Buffer changed = bytes;
            changed[at] ^= bit;
            EXPECT_FALSE(open_with(changed, vault.tpm_secret).ok()) << "byte " << at;
        }
    }
}

TEST(VaultHeader, RefusesEveryTruncation) {
    const Vault vault;
    const Buffer bytes = vault.bytes();
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        EXPECT_FALSE(open_with(Bytes(bytes).first(size), vault.tpm_secret).ok()) << size;
    }
}

TEST(VaultHeader, RefusesForgedLengths) {
    const Vault vault;
    for (const std::uint32_t length : {0u, 1u, 32u, 4095u, 4097u, 8192u, 65536u, 69632u, 0xfffff000u, 0xffffffffu}) {
        Buffer bytes = vault.bytes();
        if (length == bytes.size()) continue;
        store(bytes.data() + 12, length, Endian::kLittle);
        EXPECT_FALSE(open_with(bytes, vault.tpm_secret).ok()) << length;
        bytes.resize(kMaximumHeaderSize);
        EXPECT_FALSE(open_with(bytes, vault.tpm_secret).ok()) << length;
    }
}

TEST(VaultHeader, RefusesNoise) {
    std::mt19937 generator(99);
    const Vault vault;
    const Buffer bytes = vault.bytes();
    for (int round = 0; round < 3000; ++round) {
        Buffer noise = bytes;
        // Keep the fixed part, so that the slots are reached.
        for (std::size_t i = 72; i < 700; ++i) noise[i] = static_cast<std::byte>(generator());
        if (round % 2 == 0) store(noise.data() + 72, std::uint32_t{1}, Endian::kLittle);
        Header shown;
        (void)preview(noise, shown);
        EXPECT_FALSE(open_with(noise, vault.tpm_secret).ok());
    }
}

TEST(VaultHeader, RefusesUnknownVersions) {
    const Vault vault;
    for (const std::byte version : {std::byte{0}, std::byte{1}, std::byte{3}}) {
        Buffer bytes = vault.bytes();
        bytes[8] = version;
        seal_again(bytes, vault.kek);
        EXPECT_EQ(open_with(bytes, vault.tpm_secret).error(), Error::kBadVersion);
    }
}

// CVE-2021-4122: a re-encryption cursor that an attacker writes makes plaintext of ciphertext.
TEST(VaultHeader, RefusesAForgedReencryptionCursor) {
    const Vault vault;
    const Buffer bytes = vault.bytes();
    // The cursor ends what is used: find it from the wrapped data key's tag, which precedes it.
    const auto tag = std::search(bytes.begin(), bytes.end(), vault.header.data_key.key.tag.begin(),
                                 vault.header.data_key.key.tag.end());
    ASSERT_NE(tag, bytes.end());
    const std::size_t cursor = static_cast<std::size_t>(tag - bytes.begin()) + 16;

    Buffer forged = bytes;
    forged[cursor] = std::byte{1};
    EXPECT_EQ(open_with(forged, vault.tpm_secret).error(), Error::kBadMac);
    forged[cursor] = std::byte{3};
    seal_again(forged, vault.kek);
    EXPECT_EQ(open_with(forged, vault.tpm_secret).error(), Error::kUnsupported)
        << "an authentic cursor of a later version is not ignored";
    for (const std::size_t field : {4u, 8u, 16u}) {
        forged = bytes;
        forged[cursor + field] = std::byte{1};
        seal_again(forged, vault.kek);
        EXPECT_EQ(open_with(forged, vault.tpm_secret).error(), Error::kBadValue) << "fields of an idle cursor are zero";
    }
    forged = bytes;
    forged[cursor + 24] = std::byte{1};
    seal_again(forged, vault.kek);
    EXPECT_EQ(open_with(forged, vault.tpm_secret).error(), Error::kBadValue) << "nothing hides in the padding";
}

class VaultRules : public ::testing::Test {
  protected:
    // Both the writer and the reader hold to the rule: the reader is shown an authentic header that breaks
    // it.
    void expect_refused(Error error) {
        EXPECT_EQ(validate(vault_.header).error(), error);
        expect_not_written(error);
    }
    void expect_not_written(Error error) {
        Buffer out(kMaximumHeaderSize);
        EXPECT_EQ(serialise(vault_.header, vault_.kek, out).error(), error);
    }
    Header& header() { return vault_.header; }
    Vault vault_;
};

TEST_F(VaultRules, RegionsAreSortedAndDisjoint) {
    std::swap(header().regions[0], header().regions[3]);
    expect_refused(Error::kOverlap);
    std::swap(header().regions[0], header().regions[3]);
    ASSERT_TRUE(validate(header()).ok());
    header().regions[3].count += 1;
    expect_refused(Error::kOverlap);
}

TEST_F(VaultRules, RegionsLieOnTheDisk) {
    header().regions[5].first = 1'000'000;
    expect_refused(Error::kOutOfRange);
    header().regions[5] = {999'998, 3, RegionClass::kReadOnly};
    expect_refused(Error::kOutOfRange);
    header().regions[5] = {999'998, ~std::uint64_t{0}, RegionClass::kReadOnly};
    expect_refused(Error::kOutOfRange);
}

TEST_F(VaultRules, RegionsAreNotEmptyAndOfAKnownClass) {
    header().regions[3].count = 0;
    expect_refused(Error::kBadValue);
    header().regions[3] = {3, 10, RegionClass::kEncrypted};
    expect_refused(Error::kBadValue);
    header().regions[3] = {3, 10, static_cast<RegionClass>(4)};
    expect_refused(Error::kBadValue);
    header().regions[3] = {3, 10, static_cast<RegionClass>(0x101)};
    expect_refused(Error::kBadValue);
}

TEST_F(VaultRules, OverlayIsExactlyTheOverlayRegions) {
    header().overlay[1].lba = 3;
    expect_refused(Error::kMismatch);
    header().overlay[1].lba = 2;
    header().overlay_count = 2;
    expect_refused(Error::kMismatch);
    header().overlay_count = 4;
    expect_refused(Error::kMismatch);
    header().overlay_count = 3;
    header().regions[2].kind = RegionClass::kReadOnly;
    expect_refused(Error::kMismatch);
    header().regions[2].kind = RegionClass::kOverlay;
    EXPECT_TRUE(validate(header()).ok());
    header().regions[1].count = 2;
    header().regions[2] = {3, 1, RegionClass::kReadOnly};
    header().regions[3] = {4, 10, RegionClass::kReadOnly};
    expect_refused(Error::kMismatch);
}

TEST_F(VaultRules, GeometryIsThatOfADisk) {
    for (const std::uint32_t size : {0u, 1u, 520u, 1024u, 8192u}) {
        header().sector_size = size;
        expect_refused(Error::kBadValue);
    }
    header().sector_size = 512;
    header().total_sectors = 0;
    expect_refused(Error::kBadValue);
    header().total_sectors = ~std::uint64_t{0};
    expect_refused(Error::kBadValue);
}

TEST_F(VaultRules, EpochZeroIsPlaintext) {
    header().data_key.epoch = 0;
    expect_refused(Error::kBadValue);
}

TEST_F(VaultRules, TablesHaveTheirSize) {
    header().region_count = kMaximumRegions + 1;
    expect_not_written(Error::kNoSpace);
    header().region_count = 6;
    header().overlay_count = kMaximumOverlaySectors + 1;
    expect_not_written(Error::kNoSpace);
}

TEST_F(VaultRules, MembersAreAFewSortedAndDistinct) {
    std::swap(header().members[0], header().members[1]);
    expect_refused(Error::kBadValue);
    header().members[0] = header().members[1];
    expect_refused(Error::kBadValue);
    for (std::size_t i = 0; i < kMaximumMembers; ++i) header().members[i].fill(static_cast<std::byte>(i));
    header().member_count = kMaximumMembers;
    EXPECT_TRUE(validate(header()).ok());
    EXPECT_TRUE(open_with(vault_.bytes(), vault_.tpm_secret).ok());
    header().member_count = kMaximumMembers + 1;
    expect_not_written(Error::kNoSpace);
}

TEST_F(VaultRules, CursorLiesOnTheDisk) {
    header().cursor = {CursorState::kEncrypting, 1, 999'000, 1000};
    EXPECT_TRUE(validate(header()).ok());
    EXPECT_TRUE(open_with(vault_.bytes(), vault_.tpm_secret).ok()) << "tools resume what was interrupted";
    header().cursor.count = 1001;
    expect_refused(Error::kBadValue);
    header().cursor = {CursorState::kEncrypting, 0, 1'000'001, 0};
    expect_refused(Error::kBadValue);
    header().cursor = {CursorState::kEncrypting, 0, 1, ~std::uint64_t{0}};
    expect_refused(Error::kBadValue);
    header().cursor = {CursorState::kEncrypting, 2, 0, 0};
    expect_refused(Error::kBadValue);
    for (const Cursor& idle :
         {Cursor{CursorState::kIdle, 1, 0, 0}, {CursorState::kIdle, 0, 1, 0}, {CursorState::kIdle, 0, 0, 1}}) {
        header().cursor = idle;
        expect_refused(Error::kBadValue);
    }
    header().cursor = {static_cast<CursorState>(3), 0, 0, 0};
    expect_refused(Error::kUnsupported);
}

// The reader, behind a right MAC, with each field of the body in turn out of its domain.
TEST_F(VaultRules, HoldForAuthenticHeadersToo) {
    const Buffer bytes = vault_.bytes();
    const std::size_t body = 72 + (4 + 2 + 78 + 2 + 158 + 34 + 34 + 60) + 2 * (4 + 60);
    const std::size_t members = body + 16 + 6 * 20 + 4 + 3 * (8 + 512) + 2 + 90 + 2 + 126 + 60;
    const auto with = [&](std::size_t at, std::uint32_t value) {
        Buffer changed = bytes;
        store(changed.data() + at, value, Endian::kLittle);
        seal_again(changed, vault_.kek);
        return open_with(changed, vault_.tpm_secret);
    };
    ASSERT_TRUE(with(body, 512).ok());
    EXPECT_FALSE(with(body, 4096).ok()) << "the overlay would be read beyond its size";
    EXPECT_FALSE(with(body, 0xffffffff).ok());
    EXPECT_FALSE(with(body + 4, 0).ok()) << "total sectors";
    for (const std::uint32_t count : {65u, 68u, 0xffffffffu}) {
        EXPECT_EQ(with(body + 12, count).failure().item, std::string_view("vault header: number of regions"));
    }
    EXPECT_EQ(with(body + 16 + 16, 9).error(), Error::kBadValue) << "class of the first region";
    EXPECT_EQ(with(body + 16 + 6 * 20, 5).error(), Error::kBadValue) << "overlay count";
    ASSERT_TRUE(with(members, 2).ok());
    for (const std::uint32_t count : {8u, 0xffffffffu}) {
        EXPECT_EQ(with(members, count).failure().item, std::string_view("vault header: number of members"));
    }
    EXPECT_EQ(with(members + 4 + 32, 0).error(), Error::kBadValue) << "members unsorted";
}

TEST_F(VaultRules, EqualXtsHalvesAreRefusedWhenOpenedToo) {
    Dek weak;
    weak.bytes()[0] = weak.bytes()[32] = std::byte{1};
    std::array<std::byte, 4> epoch{std::byte{3}};
    header().data_key.key = wrap(weak, derive_key(vault_.kek.bytes(), literal_bytes("gatehouse vault v2: DEK")),
                                 {literal_bytes("gatehouse vault v2: DEK"), epoch, header().disk}, vault_.random);
    const Status status = open_with(vault_.bytes(), vault_.tpm_secret);
    EXPECT_EQ(status.error(), Error::kBadValue);
    EXPECT_EQ(status.failure().item, std::string_view("vault data key: halves are equal"));
}

// --- Copies and updates
// --------------------------------------------------------------------------------------------

// A disk that loses power after a given number of bytes have been written.
class MemoryStore final : public Store {
  public:
    Status write(std::uint64_t offset, Bytes data) override {
        if (offset % kHeaderAlignment != 0 || offset + data.size() > media.size()) {
            return {Error::kOutOfRange, "store", offset};
        }
        const std::size_t size = std::min(data.size(), power);
        copy_bytes(MutableBytes(media).subspan(offset), data.first(size));
        power -= size;
        written += size;
        if (size < data.size()) return {Error::kDeviceError, "power cut"};
        return {};
    }
    Status flush() override {
        if (power == 0) return {Error::kDeviceError, "power cut"};
        ++flushes;
        return {};
    }
    [[nodiscard]] Bytes copy(std::size_t number) const {
        return Bytes(media).subspan(kCopyOffset[number], kMaximumHeaderSize);
    }

    Buffer media = Buffer(kMinimumVaultSize);
    std::size_t power = ~std::size_t{0};
    std::size_t written = 0;
    unsigned flushes = 0;
};

// Opens the vault as the hypervisor does; the generation that it finds, 0 if none.
std::uint64_t open_newest(const MemoryStore& store, const SlotSecret& secret, std::size_t* copy = nullptr) {
    const Candidates candidates = select_candidates(store.copy(0), store.copy(1));
    for (std::size_t i = 0; i < candidates.count; ++i) {
        auto header = std::make_unique<Header>();
        Keys keys;
        const std::size_t number = candidates.copy[i];
        if (open_header(store.copy(number), SlotKind::kTpm, secret, nullptr, *header, keys).ok()) {
            if (copy != nullptr) *copy = number;
            return header->generation;
        }
    }
    return 0;
}

class Copies : public ::testing::Test {
  protected:
    Copies() {
        const Buffer bytes = vault_.bytes();
        for (const std::uint64_t offset : kCopyOffset) copy_bytes(MutableBytes(store_.media).subspan(offset), bytes);
    }
    Status update_once() { return update(store_, vault_.header, vault_.kek, copy_, scratch_); }

    Vault vault_;
    MemoryStore store_;
    std::size_t copy_ = 0;
    Buffer scratch_ = Buffer(kMaximumHeaderSize);
};

TEST_F(Copies, NewestGenerationIsTriedFirst) {
    EXPECT_EQ(select_candidates(store_.copy(0), store_.copy(1)).copy[0], 0u) << "a tie: the first";
    ASSERT_TRUE(update_once().ok());
    EXPECT_EQ(copy_, 1u);
    EXPECT_EQ(vault_.header.generation, 8u);
    EXPECT_EQ(select_candidates(store_.copy(0), store_.copy(1)).copy[0], 1u);
    EXPECT_EQ(open_newest(store_, vault_.tpm_secret), 8u);
    ASSERT_TRUE(update_once().ok());
    EXPECT_EQ(copy_, 0u);
    EXPECT_EQ(open_newest(store_, vault_.tpm_secret), 9u);
    EXPECT_EQ(store_.flushes, 2u);
}

TEST_F(Copies, MayBeSwapped) {
    ASSERT_TRUE(update_once().ok());
    std::swap_ranges(store_.media.begin(), store_.media.begin() + kMaximumHeaderSize,
                     store_.media.begin() + static_cast<std::ptrdiff_t>(kCopyOffset[1]));
    EXPECT_EQ(open_newest(store_, vault_.tpm_secret), 8u);
}

TEST_F(Copies, ForgedGenerationFallsBackToTheAuthenticCopy) {
    store(store_.media.data() + kCopyOffset[1] + 16, ~std::uint64_t{0}, Endian::kLittle);
    std::size_t copy = 9;
    EXPECT_EQ(open_newest(store_, vault_.tpm_secret, &copy), 7u);
    EXPECT_EQ(copy, 0u);
    // The next update replaces the forged one, not the good one.
    copy_ = copy;
    ASSERT_TRUE(update_once().ok());
    EXPECT_EQ(copy_, 1u);
    EXPECT_EQ(open_newest(store_, vault_.tpm_secret), 8u);
}

TEST_F(Copies, OneLostCopyIsEnough) {
    ASSERT_TRUE(update_once().ok());
    for (std::size_t lost = 0; lost < kCopies; ++lost) {
        MemoryStore store = store_;
        const auto at = store.media.begin() + static_cast<std::ptrdiff_t>(kCopyOffset[lost]);
        std::fill(at, at + static_cast<std::ptrdiff_t>(kMaximumHeaderSize), std::byte{0});
        EXPECT_EQ(open_newest(store, vault_.tpm_secret), lost == 0 ? 8u : 7u);
    }
    std::fill(store_.media.begin(), store_.media.end(), std::byte{0});
    EXPECT_EQ(select_candidates(store_.copy(0), store_.copy(1)).count, 0u);
}

// A power cut after every byte of the write, on a disk whose sectors may be torn; the header before and after
// has different lengths, so that remains of the old copy lie behind and between.
TEST_F(Copies, PowerCutAtAnyByteLosesNothing) {
    Header& header = vault_.header;
    const auto grow = [&](bool large) {
        ASSERT_TRUE(header.attestation_key_public.assign(Buffer(large ? 512 : 90), "").ok());
        ASSERT_TRUE(header.slots.tpm->sealed_public.assign(Buffer(large ? 512 : 78), "").ok());
        header.overlay[0].content[0] = large ? std::byte{0xaa} : std::byte{0x55};
    };
    for (int step = 0; step < 3; ++step) {
        grow(step % 2 == 0);
        const std::uint64_t before = header.generation;
        const std::size_t length = vault_.bytes().size();
        MemoryStore store = store_;
        const auto target = MutableBytes(store.media).subspan(kCopyOffset[1 - copy_], kMaximumHeaderSize);
        const Buffer untouched(target.begin(), target.end());
        for (std::size_t power = 0; power <= length; ++power) {
            copy_bytes(target, untouched);
            store.power = power;
            Header changed = header;
            std::size_t copy = copy_;
            EXPECT_FALSE(update(store, changed, vault_.kek, copy, scratch_).ok()) << power;
            EXPECT_EQ(copy, copy_);
            EXPECT_EQ(changed.generation, before) << "a failed update may be repeated";
            const std::uint64_t found = open_newest(store, vault_.tpm_secret);
            EXPECT_EQ(found, power < length ? before : before + 1) << power;
            // After the next power-on the update is repeated.
            store.power = ~std::size_t{0};
            if (power % 512 == 0) {
                copy = copy_;
                ASSERT_TRUE(update(store, changed, vault_.kek, copy, scratch_).ok());
                EXPECT_EQ(open_newest(store, vault_.tpm_secret), before + 1);
            }
        }
        ASSERT_TRUE(update_once().ok());
    }
}

// Sectors of one write reach the media in any order.
TEST_F(Copies, PowerCutWithSectorsOutOfOrderLosesNothing) {
    MemoryStore done = store_;
    Header changed = vault_.header;
    changed.overlay[0].content[0] ^= std::byte{0xff};
    std::size_t copy = copy_;
    ASSERT_TRUE(update(done, changed, vault_.kek, copy, scratch_).ok());
    const std::size_t sectors = vault_.bytes().size() / 512;
    std::mt19937 generator(5);
#ifdef __SANITIZE_ADDRESS__
    constexpr int kRounds = 500;
#else
    constexpr int kRounds = 2000;
#endif
    for (int round = 0; round < kRounds; ++round) {
        MemoryStore torn = store_;
        std::size_t landed = 0;
        for (std::size_t i = 0; i < sectors; ++i) {
            const std::size_t at = kCopyOffset[1] + i * 512;
            const bool differs = !equal_bytes(Bytes(done.media).subspan(at, 512), Bytes(store_.media).subspan(at, 512));
            if (generator() % 2 != 0 || !differs) {
                copy_bytes(MutableBytes(torn.media).subspan(at, 512), Bytes(done.media).subspan(at, 512));
                ++landed;
            }
        }
        EXPECT_EQ(open_newest(torn, vault_.tpm_secret), landed == sectors ? 8u : 7u);
    }
}

TEST_F(Copies, UpdateThatBreaksARuleWritesNothing) {
    vault_.header.data_key.epoch = 0;
    EXPECT_EQ(update_once().error(), Error::kBadValue);
    EXPECT_EQ(store_.written, 0u);
    EXPECT_EQ(vault_.header.generation, 7u);
    vault_.header.data_key.epoch = 3;
    vault_.header.generation = ~std::uint64_t{0};
    EXPECT_EQ(update_once().error(), Error::kBadValue) << "the generation does not wrap";
    EXPECT_EQ(store_.written, 0u);
}

TEST_F(Copies, RecoveryKeyOpensWhateverCopy) {
    ASSERT_TRUE(update_once().ok());
    for (std::size_t i = 0; i < kCopies; ++i) {
        EXPECT_TRUE(open_with(store_.copy(i), vault_.recovery_key, SlotKind::kRecovery).ok());
    }
}

// --- Encryption in place, resumed

class EncryptionJournal : public ::testing::Test {
  protected:
    EncryptionJournal() {
        std::mt19937 generator(3);
        for (std::byte& byte : window_) byte = static_cast<std::byte>(generator());
        const auto size = journal_.write(kFirst, window_, 512, before_, area_);
        EXPECT_TRUE(size.ok());
        EXPECT_EQ(*size % kHeaderAlignment, 0u);
    }
    static constexpr std::uint64_t kFirst = 4096;
    static constexpr std::size_t kCount = 600;
    Kek kek_ = secret_of<32>(1);
    Journal journal_{kek_, 1};
    Journal::Before before_{.first = {std::byte{1}}, .next = 77, .next_mac = {std::byte{2}}};
    Buffer window_ = Buffer(kCount * 512);
    Buffer area_ = Buffer(kJournalSize);
};

TEST_F(EncryptionJournal, TellsWhichSectorsAreCiphertext) {
    const auto macs = journal_.read(kFirst, kCount, area_);
    ASSERT_TRUE(macs.ok()) << macs.failure().item;
    ASSERT_EQ(macs->size(), kCount * kSectorMacSize);
    for (std::size_t i = 0; i < kCount; ++i) {
        const Bytes noted = macs->subspan(i * kSectorMacSize, kSectorMacSize);
        Buffer sector(window_.begin() + static_cast<std::ptrdiff_t>(i * 512),
                      window_.begin() + static_cast<std::ptrdiff_t>(i * 512 + 512));
        EXPECT_TRUE(equal_bytes(noted, journal_.mac(kFirst + i, sector)));
        EXPECT_FALSE(equal_bytes(noted, journal_.mac(kFirst + i + 1, sector))) << "the same bytes elsewhere";
        sector[i % 512] ^= std::byte{1};
        EXPECT_FALSE(equal_bytes(noted, journal_.mac(kFirst + i, sector)));
    }
}

TEST_F(EncryptionJournal, IsOfItsWindowAndItsVaultOnly) {
    EXPECT_EQ(journal_.read(kFirst + 1, kCount, area_).error(), Error::kBadMac);
    EXPECT_EQ(journal_.read(kFirst, kCount - 1, area_).error(), Error::kBadMac);
    EXPECT_EQ(Journal(kek_, 2).read(kFirst, kCount, area_).error(), Error::kBadMac);
    EXPECT_EQ(Journal(secret_of<32>(2), 1).read(kFirst, kCount, area_).error(), Error::kBadMac);
}

TEST_F(EncryptionJournal, TellsWhatComesNext) {
    const auto before = Journal::before(area_);
    ASSERT_TRUE(before.has_value());
    EXPECT_EQ(before->first, before_.first);
    EXPECT_EQ(before->next, before_.next);
    EXPECT_EQ(before->next_mac, before_.next_mac);
    ASSERT_TRUE(journal_.write(kFirst, {}, 512, before_, area_).ok()) << "of no sector";
    EXPECT_EQ(journal_.read(kFirst, 0, area_)->size(), 0u);
}

TEST_F(EncryptionJournal, OfTheReleaseBeforeDoesNot) {
    copy_bytes(area_, literal_bytes("GHJOURN1"));
    std::fill_n(area_.begin() + 56, 24, std::byte{0});
    const auto key = derive_key(kek_.bytes(), literal_bytes("gatehouse vault v2: journal"));
    const Bytes macs = Bytes(area_).subspan(kJournalHeadSize, kCount * kSectorMacSize);
    copy_bytes(MutableBytes(area_).subspan(24), hmac_sha256(key.bytes(), {Bytes(area_).first(24), macs}));
    EXPECT_TRUE(journal_.read(kFirst, kCount, area_).ok());
    EXPECT_FALSE(Journal::before(area_).has_value());
}

TEST_F(EncryptionJournal, RefusesEveryChange) {
    for (std::size_t at = 0; at < kJournalHeadSize + kCount * kSectorMacSize; ++at) {
        if (at == 80) at = kJournalHeadSize;  // zeros that nobody reads
        area_[at] ^= std::byte{1};
        EXPECT_FALSE(journal_.read(kFirst, kCount, area_).ok()) << at;
        area_[at] ^= std::byte{1};
    }
    EXPECT_FALSE(journal_.read(kFirst, kCount, Bytes(area_).first(kJournalHeadSize)).ok());
    store(area_.data() + 16, ~std::uint64_t{0}, Endian::kLittle);
    EXPECT_FALSE(journal_.read(kFirst, ~std::uint64_t{0}, area_).ok());
}

TEST_F(EncryptionJournal, HoldsTheLargestWindowAndNoMore) {
    const Buffer largest(kWindowSize);
    EXPECT_TRUE(journal_.write(0, largest, 512, {}, area_).ok());
    EXPECT_TRUE(journal_.read(0, kWindowSize / 512, area_).ok());
    const Buffer larger(kWindowSize + 4096);
    EXPECT_EQ(journal_.write(0, larger, 4096, {}, area_).error(), Error::kBadLength);
    EXPECT_EQ(journal_.write(0, Bytes(largest).first(700), 512, {}, area_).error(), Error::kBadLength);
}

// --- Version 1, for conversion

// With an overlay of two sectors.
struct VersionOne {
    Buffer bytes() {
        auto header = std::make_unique<Header>();
        header->generation = generation;
        header->disk = disk;
        header->total_sectors = 100'000;
        header->regions[0] = {1, 2, RegionClass::kOverlay};
        header->regions[1] = {2048, 2048, RegionClass::kHidden};
        header->region_count = 2;
        for (std::uint64_t lba = 1; lba <= 2; ++lba) {
            header->overlay[header->overlay_count].lba = lba;
            header->overlay[header->overlay_count++].content.fill(static_cast<std::byte>(lba));
        }
        EXPECT_TRUE(header->attestation_key_public.assign(Buffer(90, std::byte{0x54}), "public").ok());
        EXPECT_TRUE(header->attestation_key_private.assign(Buffer(126, std::byte{0x55}), "private").ok());
        return test::version_one(*header, keys, recovery, random, 4096);
    }
    VersionOne() {
        keys.kek = secret_of<32>(1);
        keys.dek = secret_of<64>(4);
    }
    CountingRandom random;
    std::uint64_t generation = 5;
    Guid disk{std::byte{9}};
    SlotSecret recovery = secret_of<32>(3);
    Keys keys;
};

TEST(VaultHeaderVersion1, OpensWithItsRecoveryKeyForConversion) {
    VersionOne old;
    const Buffer bytes = old.bytes();
    auto header = std::make_unique<Header>();
    Keys keys;
    const Status status = open_header_v1(bytes, old.recovery, &old.disk, *header, keys);
    ASSERT_TRUE(status.ok()) << status.failure().item;
    EXPECT_TRUE(keys.dek.equals(old.keys.dek.bytes()));
    EXPECT_EQ(header->generation, 5u);
    EXPECT_EQ(header->data_key.epoch, 1u);
    ASSERT_EQ(header->region_table().size(), 3u) << "an overlay region for each sector";
    EXPECT_EQ(header->region_table()[1].first, 2u);
    EXPECT_EQ(header->region_table()[1].kind, RegionClass::kOverlay);
    EXPECT_EQ(header->region_table()[2].kind, RegionClass::kHidden);
    EXPECT_EQ(header->attestation_key_public.size(), 90u);
    EXPECT_FALSE(header->slots.tpm.has_value());
}

TEST(VaultHeaderVersion1, IsRefusedOtherwise) {
    VersionOne old;
    const Buffer bytes = old.bytes();
    EXPECT_EQ(open_with(bytes, old.recovery, SlotKind::kRecovery).error(), Error::kBadVersion) << "by a boot";
    auto header = std::make_unique<Header>();
    Keys keys;
    EXPECT_EQ(open_header_v1(bytes, secret_of<32>(8), nullptr, *header, keys).error(), Error::kAuthFailed);
    const Guid other{};
    EXPECT_EQ(open_header_v1(bytes, old.recovery, &other, *header, keys).error(), Error::kMismatch);
    EXPECT_EQ(open_header_v1(Vault().bytes(), old.recovery, nullptr, *header, keys).error(), Error::kBadVersion);
    for (std::size_t at = 0; at < bytes.size(); ++at) {
        Buffer changed = bytes;
        changed[at] ^= std::byte{1};
        EXPECT_FALSE(open_header_v1(changed, old.recovery, nullptr, *header, keys).ok()) << at;
    }
}

TEST(VaultHeaderVersion1, NewestCopyIsTriedFirst) {
    VersionOne old;
    const Buffer older = old.bytes();
    old.generation = 6;
    const Buffer newer = old.bytes();
    const Candidates candidates = select_candidates_v1(older, newer);
    ASSERT_EQ(candidates.count, 2u);
    EXPECT_EQ(candidates.copy[0], 1u);
    EXPECT_EQ(select_candidates_v1(Vault().bytes(), newer).count, 1u);
    EXPECT_EQ(select_candidates(older, newer).count, 0u);
}

}  // namespace
}  // namespace gatehouse::volume
