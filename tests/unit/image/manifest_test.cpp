// The manifest of an image, field by field; who may sign it, and until when it holds.
#include <gmock/gmock.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>

#include "image/flash/image_manifest.hpp"
#include "tests/unit/image/fragile_target.hpp"
#include "tests/unit/policies/appliance.hpp"

namespace gatehouse::flash {
namespace {

using host::Buffer;
using host::ExitCode;
using host::ToolError;
using testing::HasSubstr;

constexpr std::uint32_t kChunk = 4096;
constexpr std::uint64_t kNow = 1'800'000'000;
const Watch kNobody = [](std::uint64_t) {};

host::Key ec_key(const char* curve = "P-256") { return {EVP_EC_gen(curve), EVP_PKEY_free}; }

Manifest small() {
    Manifest manifest;
    manifest.chunk_size = kChunk;
    manifest.length = 9 * kChunk + 512;
    manifest.release = 7;
    manifest.chunks.resize(10);
    for (const std::size_t chunk : {0u, 3u, 9u})
        manifest.chunks[chunk] = sha256(encoded(std::uint32_t(chunk), Endian::kLittle));
    return manifest;
}

Buffer with_bytes(Buffer bytes, std::size_t at, Bytes value) {
    copy_bytes(MutableBytes(bytes).subspan(at), value);
    return bytes;
}
template <typename T>
Buffer with(const Buffer& bytes, std::size_t at, T value) {
    return with_bytes(bytes, at, encoded(value, Endian::kLittle));
}

class ManifestTest : public testing::Test {
  protected:
    [[nodiscard]] std::string put(const Buffer& bytes) const {
        const std::string path = directory_.path() + "/manifest";
        host::replace_file(path, bytes);
        return path;
    }
    [[nodiscard]] std::pair<std::string, ExitCode> refusal(const Buffer& bytes, EVP_PKEY* authority,
                                                           std::uint64_t now = kNow) const try {
        (void)read_manifest(put(bytes), authority, now);
        return {"", ExitCode::kYes};
    } catch (const ToolError& error) {
        return {error.what(), error.code()};
    }

    test::Directory directory_;
    host::Key key_ = ec_key();
};

TEST_F(ManifestTest, IsReadAsItWasSigned) {
    const Buffer bytes = sign_manifest(small(), key_.get());
    EXPECT_EQ(read_manifest(put(bytes), key_.get(), kNow), small());
}

TEST_F(ManifestTest, HasTheBytesThatItsHeaderSays) {
    const Buffer bytes = sign_manifest(small(), key_.get());
    const auto u32 = [&](std::size_t at) { return load<std::uint32_t>(bytes.data() + at, Endian::kLittle); };
    const auto u64 = [&](std::size_t at) { return load<std::uint64_t>(bytes.data() + at, Endian::kLittle); };
    EXPECT_TRUE(equal_bytes(Bytes(bytes).first(8), literal_bytes("GHFLASHM")));
    EXPECT_EQ(u32(8), 1u);
    EXPECT_EQ(u32(12), bytes.size());
    EXPECT_EQ(u32(16), kChunk);
    EXPECT_EQ(u32(20), 512u);
    EXPECT_EQ(u64(24), 9 * kChunk + 512u);
    EXPECT_EQ(u64(64), 7u);
    EXPECT_EQ(u64(72), 0u);
    EXPECT_EQ(bytes[80], std::byte{0x09});
    EXPECT_EQ(bytes[81], std::byte{0x02});
    EXPECT_TRUE(equal_bytes(Bytes(bytes).subspan(82 + 64, 32), *small().chunks[9]));
    EXPECT_EQ(load<std::uint16_t>(bytes.data() + 82 + 96, Endian::kLittle), bytes.size() - 82 - 96 - 2);
}

TEST_F(ManifestTest, IsSignedByAnyKindOfAuthority) {
    for (const unsigned bits : {2048u, 3072u}) {
        const host::Key rsa(EVP_RSA_gen(bits), EVP_PKEY_free);
        const Buffer bytes = sign_manifest(small(), rsa.get());
        EXPECT_EQ(refusal(bytes, rsa.get()).first, "");
        EXPECT_THAT(refusal(bytes, key_.get()).first, HasSubstr("not signed by this authority"));
    }
    EXPECT_THROW((void)sign_manifest(small(), ec_key("P-384").get()), ToolError);
}

TEST_F(ManifestTest, OfAnotherAuthorityIsRefused) {
    const auto [what, code] = refusal(sign_manifest(small(), ec_key().get()), key_.get());
    EXPECT_THAT(what, HasSubstr("not signed by this authority, or changed since"));
    EXPECT_EQ(code, ExitCode::kNo);
}

// The signature covers everything before it, and nothing may be behind it or hidden in it.
TEST_F(ManifestTest, WithAnyBitChangedIsRefused) {
    const Buffer bytes = sign_manifest(small(), key_.get());
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
        Buffer changed = bytes;
        changed[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
        const auto parsed = parse_manifest(changed);
        ASSERT_FALSE(parsed.ok() && host::verify_digest(key_.get(), sha256(parsed->covered), parsed->signature)) << bit;
    }
}

TEST_F(ManifestTest, CutAnywhereIsRefused) {
    const Buffer bytes = sign_manifest(small(), key_.get());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        ASSERT_EQ(parse_manifest(Bytes(bytes).first(size)).error(), Error::kTruncated) << size;
    }
    Buffer longer = bytes;
    longer.push_back({});
    EXPECT_EQ(parse_manifest(longer).error(), Error::kTrailingBytes);
    EXPECT_EQ(parse_manifest(with(bytes, 12, static_cast<std::uint32_t>(bytes.size() - 1))).error(),
              Error::kTrailingBytes);
}

TEST_F(ManifestTest, RefusesFieldsOutsideOfTheirDomain) {
    const Buffer good = sign_manifest(small(), key_.get());
    const auto error = [](const Buffer& bytes) { return parse_manifest(bytes).error(); };
    ASSERT_TRUE(parse_manifest(good).ok());
    EXPECT_EQ(error(with<std::uint8_t>(good, 0, 'g')), Error::kBadMagic);
    EXPECT_EQ(error(with<std::uint32_t>(good, 8, 2)), Error::kBadVersion);
    EXPECT_EQ(error(with<std::uint32_t>(good, 12, kMaximumManifest + 1)), Error::kBadLength);
    for (const std::uint32_t chunk : {0u, 1u, 2048u, 4097u, 12288u, 32u << 20, 0xffffffffu}) {
        EXPECT_EQ(error(with(good, 16, chunk)), Error::kBadValue) << chunk;
    }
    for (const std::uint32_t sector : {0u, 511u, 1024u, 8192u}) {
        EXPECT_EQ(error(with(good, 20, sector)), Error::kBadValue) << sector;
    }
    EXPECT_EQ(error(with<std::uint32_t>(good, 20, 4096)), Error::kBadValue) << "not whole sectors";
    for (const std::uint64_t length :
         {std::uint64_t{0}, std::uint64_t{513}, kChunk * (kMaximumChunks + 1), ~std::uint64_t{511}}) {
        EXPECT_EQ(error(with(good, 24, length)), Error::kBadValue) << length;
    }
    EXPECT_EQ(error(with<std::uint8_t>(good, 81, 0x06)), Error::kBadValue) << "a chunk behind the last";
    EXPECT_NE(error(with<std::uint8_t>(good, 81, 0x00)), Error::kNone) << "a digest without its bit";
}

TEST_F(ManifestTest, HoldsUntilItsEndAndNoLonger) {
    Manifest manifest = small();
    manifest.expires = kNow;
    const Buffer bytes = sign_manifest(manifest, key_.get());
    EXPECT_EQ(refusal(bytes, key_.get(), kNow - 1).first, "");
    const auto [what, code] = refusal(bytes, key_.get(), kNow);
    EXPECT_THAT(what, HasSubstr("ended at 2027-01-15T08:00:00Z; get the manifest of a newer release"));
    EXPECT_EQ(code, ExitCode::kNo);
}

TEST(ManifestDates, AreDaysOrMomentsAndNothingElse) {
    EXPECT_EQ(date_text(parse_date("2027-01-31")), "2027-02-01T00:00:00Z");
    EXPECT_EQ(date_text(parse_date("2027-01-31T12:00:01Z")), "2027-01-31T12:00:01Z");
    for (const char* const text :
         {"", "2027", "2027-13-01", "2027-02-30", "2027-1-3", "2027-01-31 ", "31.1.2027", "2027-01-31T12:00:00",
          "2027-01-31T25:00:00Z", "2027-01-31T12:00:00+01:00", "1969-12-31", "tomorrow"}) {
        EXPECT_THROW((void)parse_date(text), ToolError) << text;
    }
}

// --- Signatures

TEST(VerifyDigest, TakesOnlyTheKeysOwnKindOfSignature) {
    const host::Key elliptic = ec_key();
    const host::Key rsa(EVP_RSA_gen(2048), EVP_PKEY_free);
    const Sha256Digest digest = sha256(literal_bytes("x"));
    for (const host::Key* const key : {&elliptic, &rsa}) {
        const tpm::SignatureBlob blob = host::sign_digest(key->get(), digest);
        const Buffer good(blob.bytes().begin(), blob.bytes().end());
        EXPECT_TRUE(host::verify_digest(key->get(), digest, good));
        EXPECT_FALSE(host::verify_digest(key->get(), sha256(literal_bytes("y")), good));
        EXPECT_FALSE(host::verify_digest(key == &rsa ? elliptic.get() : rsa.get(), digest, good));
        EXPECT_FALSE(host::verify_digest(key->get(), digest, {}));
        for (std::size_t size = 0; size < good.size(); ++size) {
            ASSERT_FALSE(host::verify_digest(key->get(), digest, Bytes(good).first(size)));
        }
        Buffer longer = good;
        longer.push_back({});
        EXPECT_FALSE(host::verify_digest(key->get(), digest, longer));
    }
    EXPECT_THROW((void)host::verify_digest(ec_key("P-384").get(), digest, {}), ToolError);
}

// --- Images

TEST(ImageManifest, MapsWhatIsNotZeroAndKnowsTheWhole) {
    const FragileTarget disk(small_image());
    std::uint64_t watched = 0;
    const Manifest manifest = describe_image(disk, kChunk, [&](std::uint64_t bytes) { watched = bytes; });
    EXPECT_EQ(watched, kImageSize);
    EXPECT_EQ(manifest.length, kImageSize);
    EXPECT_EQ(manifest.image, sha256(disk.content()));
    EXPECT_EQ(manifest.chunks.size(), kImageSize / kChunk);
    EXPECT_EQ(manifest.chunks[0], sha256(Bytes(disk.content()).first(kChunk)));
    EXPECT_FALSE(manifest.chunks[kVaultAt / kChunk].has_value());
    EXPECT_NO_THROW(check_image(disk, manifest, kNobody));
}

TEST(ImageManifest, IsMadeOfNoImageThatHasNoGoodTable) {
    for (const std::size_t damaged : {std::size_t{1}, kImageSize / 512 - 1}) {
        FragileTarget disk(small_image());
        disk.write(damaged, Buffer(512));
        EXPECT_NO_THROW((void)describe_image(disk, kChunk, kNobody)) << "the other copy is good";
        disk.write(1, Buffer(512));
        disk.write(kImageSize / 512 - 1, Buffer(512));
        EXPECT_THROW((void)describe_image(disk, kChunk, kNobody), ToolError);
    }
}

TEST(ImageManifest, FindsEachChangeAndWhere) {
    FragileTarget disk(small_image());
    const Manifest manifest = describe_image(disk, kChunk, kNobody);
    for (const std::size_t at : {std::size_t{0}, kBootAt, kVaultAt + 9 * std::size_t{kChunk}, kImageSize - 512}) {
        Buffer sector = disk.read_sectors(at / 512, 1);
        sector[100] ^= std::byte{1};
        disk.write(at / 512, sector);
        try {
            check_image(disk, manifest, kNobody);
            ADD_FAILURE() << at;
        } catch (const ToolError& error) {
            EXPECT_EQ(error.code(), ExitCode::kNo);
            EXPECT_THAT(error.what(),
                        HasSubstr("first in the 4096 bytes from " + std::to_string(at / kChunk * kChunk)));
        }
        sector[100] ^= std::byte{1};
        disk.write(at / 512, sector);
    }
    Manifest other = manifest;
    other.image[0] ^= std::byte{1};
    EXPECT_THROW(check_image(disk, other, kNobody), ToolError);
    other = manifest;
    other.length -= 512;
    EXPECT_THROW(check_image(disk, other, kNobody), ToolError);
}

}  // namespace
}  // namespace gatehouse::flash
