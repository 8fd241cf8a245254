#include "attestation/server/connection_keys.hpp"

#include <gtest/gtest.h>

#include "tests/unit/server/service_fixture.hpp"

namespace gatehouse::server {
namespace {

constexpr Seconds kNow = 1'000'000'000;
constexpr Seconds kDay = 86400;

Buffer secret(int byte) { return Buffer(32, std::byte(byte)); }

Sha256Digest certificate() { return sha256(literal_bytes("a certificate")); }

TEST(ConnectionKeys, AreFoundByTheirIdentityAlone) {
    const ConnectionKeys keys(secret(1));
    const auto issued = keys.issue(certificate(), kNow + 30 * kDay, kNow);
    const auto known = ConnectionKeys(secret(1)).find(issued.identity, kNow);
    ASSERT_TRUE(known);
    EXPECT_EQ(known->certificate, certificate());
    EXPECT_EQ(known->ends, issued.ends);
    EXPECT_TRUE(equal_bytes(known->key, issued.key));
    EXPECT_EQ(issued.key.size(), 32u);
}

TEST(ConnectionKeys, EndWithTheirLifetimeAndWithTheCertificate) {
    const ConnectionKeys keys(secret(1));
    const auto long_one = keys.issue(certificate(), kNow + 30 * kDay, kNow);
    const auto short_one = keys.issue(certificate(), kNow + kDay, kNow);
    EXPECT_EQ(long_one.ends, kNow + ConnectionKeys::kLifetime);
    EXPECT_EQ(short_one.ends, kNow + kDay);
    EXPECT_TRUE(keys.find(short_one.identity, kNow + kDay - 1));
    EXPECT_FALSE(keys.find(short_one.identity, kNow + kDay));
    // One that was asked for by one that is about to end does not outlive it.
    EXPECT_EQ(keys.issue(certificate(), short_one.ends, kNow + kDay - 1).ends, short_one.ends);
}

TEST(ConnectionKeys, OfAnotherSecretAreNotKnown) {
    const auto issued = ConnectionKeys(secret(1)).issue(certificate(), kNow + kDay, kNow);
    EXPECT_FALSE(ConnectionKeys(secret(2)).find(issued.identity, kNow));
}

TEST(ConnectionKeys, DependOnEveryByteOfTheIdentity) {
    const ConnectionKeys keys(secret(1));
    const auto issued = keys.issue(certificate(), kNow + kDay, kNow);
    for (std::size_t i = 0; i < issued.identity.size(); ++i) {
        Buffer changed = issued.identity;
        changed[i] ^= std::byte{1};
        const auto known = keys.find(changed, kNow);
        EXPECT_FALSE(known && equal_bytes(known->key, issued.key)) << i;
    }
    for (std::size_t size = 0; size < issued.identity.size(); ++size) {
        EXPECT_FALSE(keys.find(Bytes(issued.identity).first(size), kNow)) << size;
    }
    Buffer longer = issued.identity;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(keys.find(longer, kNow));
}

TEST(ConnectionKeys, WithAnEndThatNoneHasAreNotKnown) {
    const ConnectionKeys keys(secret(1));
    for (const Seconds ends :
         {kNow + ConnectionKeys::kLifetime + kDay, kNow + 3 * ConnectionKeys::kLifetime, Seconds{-1}, Seconds{0}}) {
        Buffer forged = keys.issue(certificate(), kNow + kDay, kNow).identity;
        store(forged.data() + 12, static_cast<std::uint64_t>(ends), Endian::kBig);
        EXPECT_FALSE(keys.find(forged, kNow)) << ends;
    }
}

}  // namespace
}  // namespace gatehouse::server
