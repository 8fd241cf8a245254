// Which endorsement key and certificate the agent chooses, through the hypervisor's own server.
#include "attestation/agent/channel_source.hpp"

#include <gtest/gtest.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "attestation/agent/endorsement_key.hpp"
#include "tests/unit/agent/served_mailbox.hpp"

namespace gatehouse::agent {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

Key make_key() { return {EVP_EC_gen("P-256"), EVP_PKEY_free}; }

// TPMT_PUBLIC of template L-2 with the key's point.
Buffer area_of(const EVP_PKEY* key) {
    Buffer area(2 + 2 + 4 + 34 + 6 + 2 + 2 + 2 + 34 + 34);
    Writer writer(area, Endian::kBig);
    writer.u16(0x0023);  // ECC
    writer.u16(0x000b);  // SHA-256
    writer.u32(0x000300b2);
    writer.sized(Buffer(32, std::byte{1}));
    writer.u16(0x0006);  // AES
    writer.u16(128);
    writer.u16(0x0043);  // CFB
    writer.u16(0x0010);  // no scheme
    writer.u16(0x0003);  // P-256
    writer.u16(0x0010);  // no KDF
    for (const char* name : {OSSL_PKEY_PARAM_EC_PUB_X, OSSL_PKEY_PARAM_EC_PUB_Y}) {
        BIGNUM* number = nullptr;
        EVP_PKEY_get_bn_param(key, name, &number);
        std::array<unsigned char, 32> bytes{};
        BN_bn2binpad(number, bytes.data(), bytes.size());
        BN_free(number);
        writer.sized(std::as_bytes(std::span(bytes)));
    }
    EXPECT_FALSE(writer.failed());
    return area;
}

Buffer certificate_of(EVP_PKEY* key) {
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), X509_free);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
    X509_set_pubkey(certificate.get(), key);
    X509_sign(certificate.get(), key, EVP_sha256());
    unsigned char* der = nullptr;
    const int size = i2d_X509(certificate.get(), &der);
    const Bytes bytes = std::as_bytes(std::span(der, static_cast<std::size_t>(size)));
    Buffer copy(bytes.begin(), bytes.end());
    OPENSSL_free(der);
    return copy;
}

class ChannelSourceTest : public testing::Test {
  protected:
    ChannelSourceTest() {
        auto port = std::make_unique<ServedMailbox>();
        mailbox = port.get();
        source = std::make_unique<ChannelSource>(std::move(port));
    }
    Key first = make_key(), second = make_key();
    ServedMailbox* mailbox;
    std::unique_ptr<ChannelSource> source;
};

TEST_F(ChannelSourceTest, TellsWhichVaultIsOpen) {
    EXPECT_EQ(source->vault(), std::nullopt);
    mailbox->source.vault.fill(std::byte{7});
    EXPECT_EQ(source->vault(), mailbox->source.vault);
}

TEST_F(ChannelSourceTest, TakesTheKeyThatTheCertificateIsFor) {
    mailbox->source.items[0x81010001] = area_of(first.get());
    mailbox->source.items[0x81010016] = area_of(second.get());
    Buffer padded = certificate_of(second.get());
    padded.resize(padded.size() + 100, std::byte{0xff});
    mailbox->source.items[0x01c0000a] = padded;
    const Identity identity = source->identity(EvidenceSource::LostKey::kKeep);
    EXPECT_EQ(identity.ek_public, area_of(second.get()));
    EXPECT_EQ(identity.ek_certificate, padded);
    EXPECT_TRUE(equal_bytes(identity.ak_public, literal_bytes("key")));
}

TEST_F(ChannelSourceTest, PassesOverACertificateOfNoKeyThatIsThere) {
    mailbox->source.items[0x81010001] = area_of(first.get());
    mailbox->source.items[0x01c0000a] = certificate_of(second.get());
    mailbox->source.items[0x01c00014] = certificate_of(first.get());
    EXPECT_EQ(source->identity(EvidenceSource::LostKey::kKeep).ek_certificate, mailbox->source.items[0x01c00014]);
}

TEST_F(ChannelSourceTest, EnrollsWithoutACertificateIfNoneFits) {
    mailbox->source.items[0x81010001] = area_of(first.get());
    mailbox->source.items[0x01c0000a] = certificate_of(second.get());
    const Identity identity = source->identity(EvidenceSource::LostKey::kKeep);
    EXPECT_TRUE(identity.ek_certificate.empty());
    EXPECT_EQ(identity.ek_public, area_of(first.get()));
}

TEST_F(ChannelSourceTest, ShowsTheSrkThatTheAttestationKeyIsUnder) {
    mailbox->source.items[0x81010001] = area_of(first.get());
    const IdentityProof proof = source->identity(EvidenceSource::LostKey::kKeep).proof;
    const auto srk = mailbox->source.claims().storage_root;
    ASSERT_EQ(proof.keys.size(), 1u);
    EXPECT_TRUE(equal_bytes(proof.keys[0], srk));
    EXPECT_TRUE(equal_bytes(proof.attest, literal_bytes("attest")));
    EXPECT_TRUE(equal_bytes(proof.signature, literal_bytes("signature")));
}

TEST_F(ChannelSourceTest, BringsTheChainInOrder) {
    mailbox->source.items[0x81010001] = area_of(first.get());
    mailbox->source.items[0x01c00100] = Buffer(3, std::byte{1});
    mailbox->source.items[0x01c00101] = Buffer(4, std::byte{2});
    mailbox->source.items[0x01c00103] = Buffer(5, std::byte{3});  // there may be gaps
    EXPECT_EQ(source->identity(EvidenceSource::LostKey::kKeep).ek_chain,
              (std::vector<Buffer>{Buffer(3, std::byte{1}), Buffer(4, std::byte{2}), Buffer(5, std::byte{3})}));
}

TEST_F(ChannelSourceTest, SaysWhatToDoWithoutAnEndorsementKey) {
    EXPECT_THROW((void)source->identity(EvidenceSource::LostKey::kKeep), ChannelError);
}

TEST_F(ChannelSourceTest, ActivatesWithTheKeyThatItEnrolledWith) {
    mailbox->source.items[0x81010016] = area_of(first.get());
    Buffer blob(6), secret(5);
    Writer(blob, Endian::kBig).sized(literal_bytes("blob"));
    Writer(secret, Endian::kBig).sized(literal_bytes("key"));
    EXPECT_TRUE(equal_bytes(source->activate(blob, secret), literal_bytes("the secret")));
    EXPECT_EQ(mailbox->source.activated.handle, 0x81010016u);
    EXPECT_TRUE(equal_bytes(mailbox->source.activated.credential, literal_bytes("blob")));
    blob.push_back(std::byte{0});
    EXPECT_THROW((void)source->activate(blob, secret), host::ToolError);
}

TEST_F(ChannelSourceTest, EvidenceIsTheHypervisors) {
    const protocol::AttestRequest evidence = source->evidence(Buffer(32, std::byte{5}));
    EXPECT_EQ(evidence.source, "hypervisor");
    EXPECT_EQ(evidence.nonce, Buffer(32, std::byte{5}));
    EXPECT_TRUE(equal_bytes(evidence.quote, literal_bytes("attest")));
    EXPECT_TRUE(equal_bytes(evidence.event_log, literal_bytes("event log")));
    EXPECT_FALSE(evidence.claims.empty());
}

TEST(Certifies, RefusesWhatIsNoCertificateAndNoKey) {
    const Key key = make_key();
    const Buffer certificate = certificate_of(key.get()), area = area_of(key.get());
    EXPECT_TRUE(certifies(certificate, area));
    for (std::size_t size = 0; size < area.size(); ++size)
        EXPECT_FALSE(certifies(certificate, Bytes(area).first(size)));
    for (std::size_t size = 0; size < certificate.size(); ++size) {
        EXPECT_FALSE(certifies(Bytes(certificate).first(size), area));
    }
}

}  // namespace
}  // namespace gatehouse::agent
