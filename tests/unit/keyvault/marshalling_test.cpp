// Commands and structures, byte for byte against tpm2-tss (libtss2-sys over libtss2-mu).
#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_sys.h>

#include <memory>

#include "keyvault/tpm/endorsement.hpp"
#include "keyvault/tpm/sealing.hpp"
#include "keyvault/tpm_templates/templates.hpp"
#include "tests/unit/keyvault/provisioned_tpm.hpp"
#include "tests/unit/keyvault/scripted_transport.hpp"

namespace gatehouse::tpm {
namespace {

using test::Buffer;
using test::ScriptedTransport;
using test::TestRandom;

constexpr TPM2_HANDLE kSession = 0x03000001;
constexpr TPM2_HANDLE kObject = 0x80000002;
constexpr TPM2_HANDLE kIndex = 0x01801234;

template <typename Sized>
Sized sized_of(Bytes from) {
    Sized to{};
    to.size = static_cast<UINT16>(from.size());
    std::memcpy(&to.size + 1, from.data(), from.size());
    return to;
}

// libtss2-sys with a TCTI that keeps the command and fails.
class Reference {
  public:
    Reference() {
        tcti_.common.magic = 1;
        tcti_.common.version = 1;
        tcti_.common.transmit = [](TSS2_TCTI_CONTEXT* context, std::size_t size, const std::uint8_t* command) {
            const Bytes bytes = std::as_bytes(std::span(command, size));
            reinterpret_cast<Tcti*>(context)->command.assign(bytes.begin(), bytes.end());
            return static_cast<TSS2_RC>(TSS2_TCTI_RC_IO_ERROR);
        };
        tcti_.common.receive = [](TSS2_TCTI_CONTEXT*, std::size_t*, std::uint8_t*, std::int32_t) {
            return static_cast<TSS2_RC>(TSS2_TCTI_RC_IO_ERROR);
        };
        memory_.resize(Tss2_Sys_GetContextSize(0));
        TSS2_ABI_VERSION version = TSS2_ABI_VERSION_CURRENT;
        EXPECT_EQ(Tss2_Sys_Initialize(get(), memory_.size(), reinterpret_cast<TSS2_TCTI_CONTEXT*>(&tcti_), &version),
                  TSS2_RC_SUCCESS);
    }
    TSS2_SYS_CONTEXT* get() { return reinterpret_cast<TSS2_SYS_CONTEXT*>(memory_.data()); }
    // The command that the last call sent.
    const Buffer& command() const { return tcti_.command; }

  private:
    struct Tcti {
        TSS2_TCTI_CONTEXT_COMMON_V1 common{};
        Buffer command;
    } tcti_;
    std::vector<std::uint8_t> memory_;
};

class Marshalling : public ::testing::Test {
  protected:
    // The last command that our code sent, and that the reference sent, are the same.
    void expect_same() {
        ASSERT_FALSE(transport_.commands.empty());
        ASSERT_FALSE(reference_.command().empty()) << "the reference refused its arguments";
        EXPECT_EQ(transport_.commands.back(), reference_.command());
    }
    // A session that the scripted TPM has opened.
    PolicySession session() {
        Buffer body(4 + 2 + 32, std::byte{0x77});
        store(body.data(), kSession, Endian::kBig);
        store(body.data() + 4, std::uint16_t{32}, Endian::kBig);
        transport_.responses = {ScriptedTransport::framed(TPM2_ST_NO_SESSIONS, 0, body)};
        auto session = PolicySession::start(tpm_, random_);
        EXPECT_TRUE(session.ok());
        return std::move(session.value());
    }
    // The authorization area of our last command, after `handles` handles, as the reference takes it.
    TSS2L_SYS_AUTH_COMMAND authorization(std::size_t handles) {
        Reader reader(Bytes(transport_.commands.back()).subspan(10 + 4 * handles), Endian::kBig);
        (void)reader.u32();
        TSS2L_SYS_AUTH_COMMAND area{.count = 1, .auths = {}};
        area.auths[0].sessionHandle = reader.u32();
        area.auths[0].nonce = sized_of<TPM2B_NONCE>(reader.sized());
        area.auths[0].sessionAttributes = reader.u8();
        area.auths[0].hmac = sized_of<TPM2B_AUTH>(reader.sized());
        EXPECT_FALSE(reader.failed());
        return area;
    }
    static TSS2L_SYS_AUTH_COMMAND password() {
        TSS2L_SYS_AUTH_COMMAND area{.count = 1, .auths = {}};
        area.auths[0].sessionHandle = TPM2_RS_PW;
        area.auths[0].sessionAttributes = TPMA_SESSION_CONTINUESESSION;
        return area;
    }
    static TPML_PCR_SELECTION launch_pcrs() {
        TPML_PCR_SELECTION list{.count = 1, .pcrSelections = {}};
        list.pcrSelections[0] = {TPM2_ALG_SHA256, 3, {0, 0, 6, 0}};
        return list;
    }

    ScriptedTransport transport_;
    Tpm tpm_{transport_};
    TestRandom random_;
    Reference reference_;
    TSS2_SYS_CONTEXT* const sys_ = reference_.get();
};

TEST_F(Marshalling, GetCapability) {
    (void)tpm_.active_banks();
    Tss2_Sys_GetCapability(sys_, nullptr, TPM2_CAP_PCRS, 0, 1, nullptr, nullptr, nullptr);
    expect_same();
}

TEST_F(Marshalling, PcrExtend) {
    const Digest digests[] = {hash(HashAlgorithm::kSha1, {}), hash(HashAlgorithm::kSha256, {}),
                              hash(HashAlgorithm::kSha384, {}), hash(HashAlgorithm::kSha512, {})};
    (void)tpm_.pcr_extend(18, digests);
    TPML_DIGEST_VALUES values{.count = 4, .digests = {}};
    for (std::size_t i = 0; i < 4; ++i) {
        values.digests[i].hashAlg = static_cast<TPM2_ALG_ID>(digests[i].algorithm);
        std::memcpy(&values.digests[i].digest, digests[i].bytes().data(), digests[i].bytes().size());
    }
    const auto auth = password();
    Tss2_Sys_PCR_Extend(sys_, 18, &auth, &values, nullptr);
    expect_same();
}

TEST_F(Marshalling, PcrRead) {
    (void)tpm_.pcr_read(HashAlgorithm::kSha384, 17);
    TPML_PCR_SELECTION list{.count = 1, .pcrSelections = {}};
    list.pcrSelections[0] = {TPM2_ALG_SHA384, 3, {0, 0, 2, 0}};
    Tss2_Sys_PCR_Read(sys_, nullptr, &list, nullptr, nullptr, nullptr, nullptr);
    expect_same();
}

TEST_F(Marshalling, GetRandom) {
    std::array<std::byte, 20> out{};
    (void)tpm_.get_random(out);
    Tss2_Sys_GetRandom(sys_, nullptr, 20, nullptr, nullptr);
    expect_same();
}

TEST_F(Marshalling, ReadPublic) {
    (void)tpm_.read_public(kStorageRootKey);
    Tss2_Sys_ReadPublic(sys_, kStorageRootKey, nullptr, nullptr, nullptr, nullptr, nullptr);
    expect_same();
}

TPM2B_PUBLIC public_of(Bytes area) {
    TPM2B_PUBLIC result{};
    std::size_t offset = 0;
    EXPECT_EQ(Tss2_MU_TPMT_PUBLIC_Unmarshal(raw(area), area.size(), &offset, &result.publicArea), TSS2_RC_SUCCESS);
    EXPECT_EQ(offset, area.size());
    return result;
}

TEST_F(Marshalling, LoadExternal) {
    for (const auto kind : {test::Authority::Kind::kEcc, test::Authority::Kind::kRsa3072}) {
        const test::Authority authority(kind);
        (void)tpm_.load_external(authority.public_area().bytes());
        const TPM2B_PUBLIC area = public_of(authority.public_area().bytes());
        Tss2_Sys_LoadExternal(sys_, nullptr, nullptr, &area, TPM2_RH_OWNER, nullptr, nullptr, nullptr);
        expect_same();
    }
}

TEST_F(Marshalling, Load) {
    const Buffer private_blob(100, std::byte{0x33});
    const PublicArea area = sealed_object_template(Sha256Digest{});
    (void)tpm_.load(kStorageRootKey, private_blob, area.bytes());
    const auto private_part = sized_of<TPM2B_PRIVATE>(private_blob);
    const TPM2B_PUBLIC public_part = public_of(area.bytes());
    const auto auth = password();
    Tss2_Sys_Load(sys_, kStorageRootKey, &auth, &private_part, &public_part, nullptr, nullptr, nullptr);
    expect_same();
}

TEST_F(Marshalling, FlushContext) {
    (void)tpm_.flush(kObject);
    Tss2_Sys_FlushContext(sys_, kObject);
    expect_same();
}

TEST_F(Marshalling, VerifySignature) {
    const Buffer number(32, std::byte{0x44});
    const auto signature = signature_ecdsa(number, number);
    const Sha256Digest digest = sha256(number);
    (void)tpm_.verify_signature(kObject, digest, signature->bytes());
    TPMT_SIGNATURE parsed{};
    parsed.sigAlg = TPM2_ALG_ECDSA;
    parsed.signature.ecdsa.hash = TPM2_ALG_SHA256;
    parsed.signature.ecdsa.signatureR = sized_of<TPM2B_ECC_PARAMETER>(number);
    parsed.signature.ecdsa.signatureS = sized_of<TPM2B_ECC_PARAMETER>(number);
    const auto digest_part = sized_of<TPM2B_DIGEST>(digest);
    Tss2_Sys_VerifySignature(sys_, kObject, nullptr, &digest_part, &parsed, nullptr, nullptr);
    expect_same();
}

TEST_F(Marshalling, Shutdown) {
    (void)tpm_.shutdown();
    Tss2_Sys_Shutdown(sys_, nullptr, TPM2_SU_CLEAR, nullptr);
    expect_same();
}

TEST_F(Marshalling, NvReadPublicAndNvRead) {
    constexpr TPM2_HANDLE kCertificate = 0x01c00002;
    std::array<std::byte, 100> out{};
    (void)read_endorsement(tpm_, kCertificate, out);
    Tss2_Sys_NV_ReadPublic(sys_, kCertificate, nullptr, nullptr, nullptr, nullptr);
    expect_same();
    const auto area = rollback_counter_public(kCertificate, true);
    Buffer body(2 + area.size() + 2);
    Writer writer(body, Endian::kBig);
    writer.sized(area.bytes());
    writer.sized({});
    transport_.responses = {ScriptedTransport::framed(TPM2_ST_NO_SESSIONS, 0, body)};
    (void)read_endorsement(tpm_, kCertificate, out);
    const auto auth = password();
    Tss2_Sys_NV_Read(sys_, kCertificate, kCertificate, &auth, 8, 0, nullptr, nullptr);
    expect_same();
}

TEST_F(Marshalling, StartAuthSessionPlain) {
    TestRandom same = random_;
    Buffer nonce(32);
    same.fill(nonce);
    (void)PolicySession::start(tpm_, random_);
    const auto nonce_caller = sized_of<TPM2B_NONCE>(nonce);
    const TPM2B_ENCRYPTED_SECRET salt{};
    const TPMT_SYM_DEF symmetric{.algorithm = TPM2_ALG_AES, .keyBits = {.aes = 128}, .mode = {.aes = TPM2_ALG_CFB}};
    Tss2_Sys_StartAuthSession(sys_, TPM2_RH_NULL, TPM2_RH_NULL, nullptr, &nonce_caller, &salt, TPM2_SE_POLICY,
                              &symmetric, TPM2_ALG_SHA256, nullptr, nullptr, nullptr);
    expect_same();
}

// A storage key of OpenSSL's making.
Buffer storage_key_public() {
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    std::array<std::byte, 65> encoded{};
    std::size_t size = 0;
    EVP_PKEY_get_octet_string_param(key.get(), OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, raw(MutableBytes(encoded)),
                                    encoded.size(), &size);
    TPM2B_PUBLIC area = public_of(storage_root_key_template().bytes());
    area.publicArea.unique.ecc.x = sized_of<TPM2B_ECC_PARAMETER>(Bytes(encoded).subspan(1, 32));
    area.publicArea.unique.ecc.y = sized_of<TPM2B_ECC_PARAMETER>(Bytes(encoded).subspan(33));
    Buffer out(200);
    std::size_t offset = 0;
    Tss2_MU_TPMT_PUBLIC_Marshal(&area.publicArea, raw(MutableBytes(out)), out.size(), &offset);
    out.resize(offset);
    return out;
}

TEST_F(Marshalling, StartAuthSessionSalted) {
    const Buffer area = storage_key_public();
    (void)PolicySession::start_salted(tpm_, random_, kStorageRootKey, area);
    ASSERT_FALSE(transport_.commands.empty());
    // The salt is random: it is taken from the command, and must be a point.
    Reader reader(Bytes(transport_.commands.back()).subspan(18), Endian::kBig);
    const auto nonce = sized_of<TPM2B_NONCE>(reader.sized());
    const Bytes secret = reader.sized();
    const auto salt = sized_of<TPM2B_ENCRYPTED_SECRET>(secret);
    TPMS_ECC_POINT point{};
    std::size_t offset = 0;
    ASSERT_EQ(Tss2_MU_TPMS_ECC_POINT_Unmarshal(raw(secret), secret.size(), &offset, &point), TSS2_RC_SUCCESS);
    EXPECT_EQ(offset, secret.size());
    EXPECT_EQ(nonce.size, 32);
    TPMT_SYM_DEF symmetric{};
    symmetric.algorithm = TPM2_ALG_AES;
    symmetric.keyBits.aes = 128;
    symmetric.mode.aes = TPM2_ALG_CFB;
    Tss2_Sys_StartAuthSession(sys_, kStorageRootKey, TPM2_RH_NULL, nullptr, &nonce, &salt, TPM2_SE_POLICY, &symmetric,
                              TPM2_ALG_SHA256, nullptr, nullptr, nullptr);
    expect_same();
}

TEST_F(Marshalling, SaltingKeyMustBeAnEccP256StorageKey) {
    const Buffer good = storage_key_public();
    const auto error_of = [&](const Buffer& area) {
        transport_.commands.clear();
        const Error error = PolicySession::start_salted(tpm_, random_, kStorageRootKey, area).error();
        EXPECT_EQ(error != Error::kTpmError, transport_.commands.empty()) << "refused before anything is sent";
        return error;
    };
    EXPECT_EQ(error_of(good), Error::kTpmError) << "good enough to be sent";
    const auto rsa = authority_public_rsa(Buffer(256));
    EXPECT_EQ(error_of(Buffer(rsa->bytes().begin(), rsa->bytes().end())), Error::kUnsupported);
    for (std::size_t size = 0; size < good.size(); ++size) {
        EXPECT_EQ(error_of(Buffer(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))),
                  Error::kUnsupported);
    }
    Buffer off_curve = good;
    off_curve.back() ^= std::byte{1};
    EXPECT_EQ(error_of(off_curve), Error::kBadValue);
}

TEST_F(Marshalling, PolicyCommands) {
    PolicySession session = this->session();
    (void)session.policy_pcr(kLaunchPcrs);
    const TPM2B_DIGEST no_digest{};
    const auto pcrs = launch_pcrs();
    Tss2_Sys_PolicyPCR(sys_, kSession, nullptr, &no_digest, &pcrs, nullptr);
    expect_same();

    (void)session.policy_locality(kHypervisorLocality);
    Tss2_Sys_PolicyLocality(sys_, kSession, nullptr, TPMA_LOCALITY_TPM2_LOC_TWO, nullptr);
    expect_same();

    (void)session.policy_counter_at_most(kIndex, 0x0102030405060708);
    TPM2B_OPERAND operand{8, {1, 2, 3, 4, 5, 6, 7, 8}};
    const auto auth = password();
    Tss2_Sys_PolicyNV(sys_, kIndex, kIndex, kSession, &auth, &operand, 0, TPM2_EO_UNSIGNED_LE, nullptr);
    expect_same();

    (void)session.policy_digest();
    Tss2_Sys_PolicyGetDigest(sys_, kSession, nullptr, nullptr, nullptr);
    expect_same();

    const Sha256Digest approved = sha256(literal_bytes("approved"));
    const Bytes reference = literal_bytes("reference");
    const Name name = name_of(reference);
    Buffer ticket_bytes(2 + 4 + 2 + 32, std::byte{0x66});
    store(ticket_bytes.data(), std::uint16_t{TPM2_ST_VERIFIED}, Endian::kBig);
    store(ticket_bytes.data() + 2, std::uint32_t{TPM2_RH_OWNER}, Endian::kBig);
    store(ticket_bytes.data() + 6, std::uint16_t{32}, Endian::kBig);
    Ticket ticket;
    ASSERT_TRUE(ticket.assign(ticket_bytes, "").ok());
    (void)session.policy_authorize(approved, reference.first(4), reference.subspan(4), name, ticket);
    const auto approved_part = sized_of<TPM2B_DIGEST>(approved);
    const auto reference_part = sized_of<TPM2B_NONCE>(reference);
    const auto name_part = sized_of<TPM2B_NAME>(name);
    TPMT_TK_VERIFIED ticket_part{TPM2_ST_VERIFIED, TPM2_RH_OWNER, sized_of<TPM2B_DIGEST>(Bytes(ticket_bytes).last(32))};
    Tss2_Sys_PolicyAuthorize(sys_, kSession, nullptr, &approved_part, &reference_part, &name_part, &ticket_part,
                             nullptr);
    expect_same();
}

TEST_F(Marshalling, UnsealInASaltedSessionOnly) {
    const Name name = name_of(literal_bytes("object"));
    {
        PolicySession plain = session();
        transport_.commands.clear();
        EXPECT_EQ(plain.unseal(kObject, name).error(), Error::kState);
        EXPECT_TRUE(transport_.commands.empty()) << "nothing may be sent in clear";
    }
    Buffer body(4 + 2 + 32, std::byte{0x77});
    store(body.data(), kSession, Endian::kBig);
    store(body.data() + 4, std::uint16_t{32}, Endian::kBig);
    transport_.responses = {ScriptedTransport::framed(TPM2_ST_NO_SESSIONS, 0, body)};
    auto salted = PolicySession::start_salted(tpm_, random_, kStorageRootKey, storage_key_public());
    ASSERT_TRUE(salted.ok());
    (void)salted->unseal(kObject, name);
    const auto auth = authorization(1);
    EXPECT_EQ(auth.auths[0].sessionHandle, kSession);
    EXPECT_EQ(auth.auths[0].nonce.size, 32);
    EXPECT_EQ(auth.auths[0].hmac.size, 32);
    EXPECT_EQ(auth.auths[0].sessionAttributes, TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_ENCRYPT);
    Tss2_Sys_Unseal(sys_, kObject, &auth, nullptr, nullptr);
    expect_same();
}

TEST_F(Marshalling, Quote) {
    PolicySession session = this->session();
    const Bytes qualifying = literal_bytes("qualifying data");
    (void)session.quote(kObject, qualifying, {HashAlgorithm::kSha1, 0x8001ff});
    const auto auth = authorization(1);
    EXPECT_EQ(auth.auths[0].sessionHandle, kSession);
    EXPECT_EQ(auth.auths[0].hmac.size, 0) << "a plain session has no HMAC";
    TPML_PCR_SELECTION list{.count = 1, .pcrSelections = {}};
    list.pcrSelections[0] = {TPM2_ALG_SHA1, 3, {0xff, 0x01, 0x80, 0}};
    const auto data = sized_of<TPM2B_DATA>(qualifying);
    TPMT_SIG_SCHEME scheme{};
    scheme.scheme = TPM2_ALG_NULL;
    Tss2_Sys_Quote(sys_, kObject, &auth, &data, &scheme, &list, nullptr, nullptr, nullptr);
    expect_same();
}

// --- Structures
// --------------------------------------------------------------------------------------------------------

void expect_area(const PublicArea& found, const TPMT_PUBLIC& expected) {
    Buffer bytes(1024);
    std::size_t offset = 0;
    ASSERT_EQ(Tss2_MU_TPMT_PUBLIC_Marshal(&expected, raw(MutableBytes(bytes)), bytes.size(), &offset), TSS2_RC_SUCCESS);
    EXPECT_TRUE(equal_bytes(found.bytes(), Bytes(bytes).first(offset)));
}

TPMT_PUBLIC ecc_area(TPMA_OBJECT attributes) {
    TPMT_PUBLIC area{};
    area.type = TPM2_ALG_ECC;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = attributes;
    area.parameters.eccDetail.symmetric.algorithm = TPM2_ALG_NULL;
    area.parameters.eccDetail.scheme.scheme = TPM2_ALG_NULL;
    area.parameters.eccDetail.curveID = TPM2_ECC_NIST_P256;
    area.parameters.eccDetail.kdf.scheme = TPM2_ALG_NULL;
    return area;
}

TEST(Templates, AreWhatTheHeaderSays) {
    const Sha256Digest policy = sha256(literal_bytes("policy"));

    TPMT_PUBLIC root =
        ecc_area(TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                 TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT);
    root.parameters.eccDetail.symmetric.algorithm = TPM2_ALG_AES;
    root.parameters.eccDetail.symmetric.keyBits.aes = 128;
    root.parameters.eccDetail.symmetric.mode.aes = TPM2_ALG_CFB;
    expect_area(storage_root_key_template(), root);

    TPMT_PUBLIC sealed{};
    sealed.type = TPM2_ALG_KEYEDHASH;
    sealed.nameAlg = TPM2_ALG_SHA256;
    sealed.objectAttributes =
        TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_NODA | TPMA_OBJECT_ADMINWITHPOLICY;
    sealed.authPolicy = sized_of<TPM2B_DIGEST>(policy);
    sealed.parameters.keyedHashDetail.scheme.scheme = TPM2_ALG_NULL;
    expect_area(sealed_object_template(policy), sealed);

    TPMT_PUBLIC key = ecc_area(TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                               TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SIGN_ENCRYPT);
    key.authPolicy = sized_of<TPM2B_DIGEST>(attestation_key_policy_digest());
    key.parameters.eccDetail.scheme.scheme = TPM2_ALG_ECDSA;
    key.parameters.eccDetail.scheme.details.ecdsa.hashAlg = TPM2_ALG_SHA256;
    expect_area(attestation_key_template(), key);

    const Buffer x(32, std::byte{1});
    const Buffer y(32, std::byte{2});
    TPMT_PUBLIC authority = ecc_area(TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_SIGN_ENCRYPT);
    authority.parameters.eccDetail.scheme.scheme = TPM2_ALG_ECDSA;
    authority.parameters.eccDetail.scheme.details.ecdsa.hashAlg = TPM2_ALG_SHA256;
    authority.unique.ecc.x = sized_of<TPM2B_ECC_PARAMETER>(x);
    authority.unique.ecc.y = sized_of<TPM2B_ECC_PARAMETER>(y);
    expect_area(authority_public_ecc(x, y).value(), authority);
    EXPECT_EQ(authority_public_ecc(x, Bytes(y).first(31)).error(), Error::kBadLength);

    const Buffer modulus(384, std::byte{3});
    TPMT_PUBLIC rsa{};
    rsa.type = TPM2_ALG_RSA;
    rsa.nameAlg = TPM2_ALG_SHA256;
    rsa.objectAttributes = TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_SIGN_ENCRYPT;
    rsa.parameters.rsaDetail.symmetric.algorithm = TPM2_ALG_NULL;
    rsa.parameters.rsaDetail.scheme.scheme = TPM2_ALG_RSASSA;
    rsa.parameters.rsaDetail.scheme.details.rsassa.hashAlg = TPM2_ALG_SHA256;
    rsa.parameters.rsaDetail.keyBits = 3072;
    rsa.unique.rsa = sized_of<TPM2B_PUBLIC_KEY_RSA>(modulus);
    expect_area(authority_public_rsa(modulus).value(), rsa);
    EXPECT_EQ(authority_public_rsa(Bytes(modulus).first(128)).error(), Error::kUnsupported);
}

TEST(Signatures, AreMarshalledWithNumbersPadded) {
    const Buffer r(31, std::byte{7});
    const Buffer s(32, std::byte{8});
    Buffer padded(32);
    std::copy(r.begin(), r.end(), padded.begin() + 1);
    TPMT_SIGNATURE expected{};
    expected.sigAlg = TPM2_ALG_ECDSA;
    expected.signature.ecdsa.hash = TPM2_ALG_SHA256;
    expected.signature.ecdsa.signatureR = sized_of<TPM2B_ECC_PARAMETER>(padded);
    expected.signature.ecdsa.signatureS = sized_of<TPM2B_ECC_PARAMETER>(s);
    Buffer bytes(1024);
    std::size_t offset = 0;
    ASSERT_EQ(Tss2_MU_TPMT_SIGNATURE_Marshal(&expected, raw(MutableBytes(bytes)), bytes.size(), &offset),
              TSS2_RC_SUCCESS);
    EXPECT_TRUE(equal_bytes(signature_ecdsa(r, s)->bytes(), Bytes(bytes).first(offset)));
    EXPECT_FALSE(signature_ecdsa(r, Buffer(33)).ok());

    const Buffer number(384, std::byte{9});
    expected = {};
    expected.sigAlg = TPM2_ALG_RSASSA;
    expected.signature.rsassa.hash = TPM2_ALG_SHA256;
    expected.signature.rsassa.sig = sized_of<TPM2B_PUBLIC_KEY_RSA>(number);
    offset = 0;
    ASSERT_EQ(Tss2_MU_TPMT_SIGNATURE_Marshal(&expected, raw(MutableBytes(bytes)), bytes.size(), &offset),
              TSS2_RC_SUCCESS);
    EXPECT_TRUE(equal_bytes(signature_rsassa(number)->bytes(), Bytes(bytes).first(offset)));
    EXPECT_FALSE(signature_rsassa(Buffer(600)).ok());
}

// --- Policies, against the TPM's own reckoning

TEST(Policies, GrowAsInTheTpm) {
    test::ProvisionedTpm machine;
    machine.launch(literal_bytes("image"), literal_bytes("payload"));
    auto session = PolicySession::start(machine.tpm, machine.random);
    ASSERT_TRUE(session.ok());
    const Sha256Digest pcr17 = test::extended_once(literal_bytes("image"));
    const Sha256Digest pcr18 = test::extended_once(literal_bytes("payload"));
    const Name counter = rollback_counter_name(kRollbackCounter);
    PolicyDigest digest;
    EXPECT_EQ(session->policy_digest().value(), digest.value());
    ASSERT_TRUE(session->policy_pcr(kLaunchPcrs).ok());
    EXPECT_EQ(session->policy_digest().value(), digest.pcr(kLaunchPcrs, {pcr17, pcr18}).value());
    ASSERT_TRUE(session->policy_locality(kHypervisorLocality).ok());
    EXPECT_EQ(session->policy_digest().value(), digest.locality(kHypervisorLocality).value());
    ASSERT_TRUE(session->policy_counter_at_most(kRollbackCounter, 0x123456789).ok());
    EXPECT_EQ(session->policy_digest().value(), digest.counter_at_most(counter, 0x123456789).value());
    EXPECT_EQ(digest.value(), sealing_policy_digest(pcr17, pcr18, counter, 0x123456789));

    const Name authority = machine.authority.name();
    const auto key = machine.tpm.load_external(machine.authority.public_area().bytes());
    ASSERT_TRUE(key.ok());
    const auto ticket =
        machine.tpm.verify_signature(key->handle(), approval_digest(digest.value(), machine.policy_ref),
                                     machine.authority.approve(digest.value(), machine.policy_ref).bytes());
    ASSERT_TRUE(ticket.ok());
    ASSERT_TRUE(session->policy_authorize(digest.value(), machine.policy_ref, {}, authority, *ticket).ok());
    EXPECT_EQ(session->policy_digest().value(), digest.authorize(authority, machine.policy_ref).value());
    EXPECT_EQ(digest.value(), authorize_policy_digest(authority, machine.policy_ref));
    ASSERT_TRUE(session->policy_pcr(kMachinePcrs).ok());
    const auto pcr19 = machine.tpm.pcr_read(HashAlgorithm::kSha256, 19);
    ASSERT_TRUE(pcr19.ok());
    Sha256Digest value{};
    copy_bytes(value, pcr19->bytes());
    EXPECT_EQ(session->policy_digest().value(), machine_policy_digest(authority, machine.policy_ref, value));
}

TEST(Policies, CounterNameIsThatOfTheWrittenIndex) {
    test::ProvisionedTpm machine;
    test::Esapi esapi(machine.device);
    ESYS_TR index = ESYS_TR_NONE;
    ASSERT_EQ(Esys_TR_FromTPMPublic(esapi.get(), kRollbackCounter, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &index),
              TSS2_RC_SUCCESS);
    TPM2B_NAME* name = nullptr;
    ASSERT_EQ(Esys_TR_GetName(esapi.get(), index, &name), TSS2_RC_SUCCESS);
    const Bytes found = std::as_bytes(std::span(name->name, name->size));
    EXPECT_TRUE(equal_bytes(found, rollback_counter_name(kRollbackCounter)));
    EXPECT_FALSE(equal_bytes(found, name_of(rollback_counter_public(kRollbackCounter, false).bytes())));
    Esys_Free(name);
}

TEST(Policies, OnlyTheOwnerIncrementsTheCounter) {
    test::ProvisionedTpm machine;
    test::Esapi esapi(machine.device);
    ESYS_TR index = ESYS_TR_NONE;
    ASSERT_EQ(Esys_TR_FromTPMPublic(esapi.get(), kRollbackCounter, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &index),
              TSS2_RC_SUCCESS);
    EXPECT_NE(Esys_NV_Increment(esapi.get(), index, index, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE),
              TSS2_RC_SUCCESS)
        << "with the index's own, empty, authorization";
    const std::uint64_t before = machine.counter;
    EXPECT_EQ(machine.read_counter(), before);
    machine.increment_counter();
    EXPECT_EQ(machine.counter, before + 1);
}

TEST(ResetValues, AreAllZerosAndAllOnesOnly) {
    Buffer value(32);
    EXPECT_TRUE(pcr_is_reset_value(value));
    value[31] = std::byte{1};
    EXPECT_FALSE(pcr_is_reset_value(value));
    std::fill(value.begin(), value.end(), std::byte{0xff});
    EXPECT_TRUE(pcr_is_reset_value(value));
    value[0] = std::byte{0x7f};
    EXPECT_FALSE(pcr_is_reset_value(value));
}

}  // namespace
}  // namespace gatehouse::tpm
