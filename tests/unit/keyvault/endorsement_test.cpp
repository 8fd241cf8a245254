// Endorsement certificates and credential activation, live against swtpm.
#include "keyvault/tpm/endorsement.hpp"

#include <gtest/gtest.h>
#include <tss2/tss2_mu.h>

#include <algorithm>
#include <stdexcept>

#include "tests/unit/keyvault/provisioned_tpm.hpp"

namespace gatehouse::tpm {
namespace {

using test::Buffer;
using test::ProvisionedTpm;

constexpr TPM2_HANDLE kCertificate = 0x01c00002;
constexpr TPM2_HANDLE kLowKey = 0x81010001;
constexpr TPM2_HANDLE kHighKey = 0x81010016;

void check(TSS2_RC code, const char* what) {
    if (code != TSS2_RC_SUCCESS) throw std::runtime_error(std::string(what) + ": " + std::to_string(code));
}

Buffer pattern(std::size_t size) {
    Buffer bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + (i >> 8));
    return bytes;
}

TPMT_PUBLIC key_area(TPMA_OBJECT attributes, TPM2_ALG_ID name_algorithm) {
    TPMT_PUBLIC area{};
    area.nameAlg = name_algorithm;
    area.objectAttributes = attributes | TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                            TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_RESTRICTED |
                            TPMA_OBJECT_DECRYPT;
    return area;
}

// EK Credential Profile 2.5, B.3.3 and B.3.4: templates L-1 and L-2, whose policy is
// PolicySecret(endorsement).
TPMT_PUBLIC low_area(TPM2_ALG_ID type) {
    TPMT_PUBLIC area = key_area(0, TPM2_ALG_SHA256);
    constexpr unsigned char kPolicyA[] = {0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc,
                                          0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52,
                                          0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa};
    area.authPolicy.size = sizeof(kPolicyA);
    std::copy(std::begin(kPolicyA), std::end(kPolicyA), area.authPolicy.buffer);
    area.type = type;
    const TPMT_SYM_DEF_OBJECT symmetric{
        .algorithm = TPM2_ALG_AES, .keyBits = {.aes = 128}, .mode = {.aes = TPM2_ALG_CFB}};
    if (type == TPM2_ALG_RSA) {
        area.parameters.rsaDetail = {
            .symmetric = symmetric, .scheme = {.scheme = TPM2_ALG_NULL, .details = {}}, .keyBits = 2048, .exponent = 0};
        area.unique.rsa.size = 256;
    } else {
        area.parameters.eccDetail = {.symmetric = symmetric,
                                     .scheme = {.scheme = TPM2_ALG_NULL, .details = {}},
                                     .curveID = TPM2_ECC_NIST_P256,
                                     .kdf = {.scheme = TPM2_ALG_NULL, .details = {}}};
        area.unique.ecc.x.size = area.unique.ecc.y.size = 32;
    }
    return area;
}

// As `swtpm_setup --ecc` makes it: P-384 and SHA-384, usable with the (empty) authorization value.
TPMT_PUBLIC high_area() {
    TPMT_PUBLIC area = key_area(TPMA_OBJECT_USERWITHAUTH, TPM2_ALG_SHA384);
    area.type = TPM2_ALG_ECC;
    area.parameters.eccDetail = {
        .symmetric = {.algorithm = TPM2_ALG_AES, .keyBits = {.aes = 256}, .mode = {.aes = TPM2_ALG_CFB}},
        .scheme = {.scheme = TPM2_ALG_NULL, .details = {}},
        .curveID = TPM2_ECC_NIST_P384,
        .kdf = {.scheme = TPM2_ALG_NULL, .details = {}}};
    return area;
}

class Endorsement : public ::testing::Test {
  protected:
    ESYS_TR make_key(const TPMT_PUBLIC& area, TPM2_HANDLE persistent) {
        const TPM2B_PUBLIC in{.size = 0, .publicArea = area};
        const TPM2B_SENSITIVE_CREATE sensitive{};
        const TPM2B_DATA outside{};
        const TPML_PCR_SELECTION no_pcrs{};
        ESYS_TR transient = ESYS_TR_NONE;
        check(Esys_CreatePrimary(esys(), ESYS_TR_RH_ENDORSEMENT, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                 &sensitive, &in, &outside, &no_pcrs, &transient, nullptr, nullptr, nullptr, nullptr),
              "CreatePrimary");
        ESYS_TR kept = ESYS_TR_NONE;
        check(Esys_EvictControl(esys(), ESYS_TR_RH_OWNER, transient, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                persistent, &kept),
              "EvictControl");
        check(Esys_FlushContext(esys(), transient), "FlushContext");
        return kept;
    }

    void make_index(TPM2_HANDLE index, TPMA_NV attributes, const Buffer& contents,
                    TPM2_ALG_ID name_algorithm = TPM2_ALG_SHA256, bool by_platform = false) {
        TPM2B_NV_PUBLIC area{};
        area.nvPublic = {.nvIndex = index,
                         .nameAlg = name_algorithm,
                         .attributes = attributes,
                         .authPolicy = {},
                         .dataSize = static_cast<UINT16>(contents.size())};
        const TPM2B_AUTH no_auth{};
        const ESYS_TR owner = by_platform ? ESYS_TR_RH_PLATFORM : ESYS_TR_RH_OWNER;
        ESYS_TR handle = ESYS_TR_NONE;
        check(
            Esys_NV_DefineSpace(esys(), owner, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &no_auth, &area, &handle),
            "NV_DefineSpace");
        for (std::size_t at = 0; at < contents.size(); at += 512) {
            TPM2B_MAX_NV_BUFFER part{};
            part.size = static_cast<UINT16>(std::min<std::size_t>(512, contents.size() - at));
            std::memcpy(part.buffer, contents.data() + at, part.size);
            check(Esys_NV_Write(esys(), owner, handle, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &part,
                                static_cast<UINT16>(at)),
                  "NV_Write");
        }
    }

    Result<std::size_t> read(TPM2_HANDLE handle) {
        auto size = read_endorsement(machine_.tpm, handle, out_);
        EXPECT_EQ(machine_.loaded_handles(), 0u);
        return size;
    }
    Bytes got(const Result<std::size_t>& size) { return Bytes(out_).first(size.value()); }

    // A credential for the object with this Name, made by the TPM itself.
    void make_credential(ESYS_TR key, const Name& name, Bytes secret) {
        TPM2B_DIGEST credential{};
        credential.size = static_cast<UINT16>(secret.size());
        std::memcpy(credential.buffer, secret.data(), secret.size());
        TPM2B_NAME object{};
        object.size = static_cast<UINT16>(name.size());
        std::memcpy(object.name, name.data(), name.size());
        TPM2B_ID_OBJECT* blob = nullptr;
        TPM2B_ENCRYPTED_SECRET* encrypted = nullptr;
        check(Esys_MakeCredential(esys(), key, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &credential, &object, &blob,
                                  &encrypted),
              "MakeCredential");
        const auto copy = [](const auto* from, std::size_t size) {
            const auto* bytes = reinterpret_cast<const std::byte*>(from);
            return Buffer(bytes, bytes + size);
        };
        blob_ = copy(blob->credential, blob->size);
        encrypted_ = copy(encrypted->secret, encrypted->size);
        Esys_Free(blob);
        Esys_Free(encrypted);
    }
    Result<std::size_t> activate(TPM2_HANDLE key) {
        auto size =
            activate_credential(machine_.tpm, machine_.random, key, machine_.attestation_public.bytes(),
                                machine_.attestation_private.bytes(), blob_, encrypted_, MutableBytes(out_).first(64));
        EXPECT_EQ(machine_.loaded_handles(), 0u) << "something stays loaded in the TPM";
        return size;
    }
    Name attestation_name() { return name_of(machine_.attestation_public.bytes()); }
    ESYS_CONTEXT* esys() { return esapi_.get(); }

    ProvisionedTpm machine_;
    test::Esapi esapi_{machine_.device};
    Buffer out_ = Buffer(kMaxEndorsementSize);
    Buffer blob_;
    Buffer encrypted_;
};

constexpr TPMA_NV kOwnerWrites = TPMA_NV_OWNERWRITE | TPMA_NV_NO_DA;

TEST_F(Endorsement, ReadsACertificateInPartsAsTheTpmTakesThem) {
    const Buffer certificate = pattern(kMaxEndorsementSize);
    make_index(kCertificate, kOwnerWrites | TPMA_NV_AUTHREAD | TPMA_NV_OWNERREAD, certificate);
    machine_.device.traffic.clear();
    const auto size = read(kCertificate);
    ASSERT_TRUE(size.ok()) << size.failure().item << std::hex << size.failure().detail;
    EXPECT_TRUE(equal_bytes(got(size), certificate));
}

TEST_F(Endorsement, ReadsAnIndexByTheAuthorizationThatItsAttributesName) {
    const Buffer certificate = pattern(700);
    make_index(0x01c0000a, kOwnerWrites | TPMA_NV_OWNERREAD, certificate);
    make_index(0x01c00016, kOwnerWrites | TPMA_NV_AUTHREAD, certificate, TPM2_ALG_SHA384);
    for (const TPM2_HANDLE index : {0x01c0000a, 0x01c00016}) {
        const auto size = read(index);
        ASSERT_TRUE(size.ok()) << std::hex << index << " " << size.failure().item << size.failure().detail;
        EXPECT_TRUE(equal_bytes(got(size), certificate));
    }
}

TEST_F(Endorsement, RefusesAnIndexThatOnlyItsPolicyOrTheFirmwareReads) {
    make_index(kCertificate, kOwnerWrites | TPMA_NV_POLICYREAD, pattern(16));
    EXPECT_EQ(read(kCertificate).error(), Error::kRefused);
    make_index(0x01c00100, TPMA_NV_PPWRITE | TPMA_NV_PPREAD | TPMA_NV_PLATFORMCREATE, pattern(16), TPM2_ALG_SHA256,
               true);
    EXPECT_EQ(read(0x01c00100).error(), Error::kRefused);
}

TEST_F(Endorsement, TellsWhatIsNotThere) {
    EXPECT_EQ(read(kCertificate).error(), Error::kNotFound);
    EXPECT_EQ(read(kLowKey).error(), Error::kNotFound);
    make_index(kCertificate, kOwnerWrites | TPMA_NV_AUTHREAD, {});
    EXPECT_EQ(read(kCertificate).error(), Error::kNotFound) << "never written";
}

TEST_F(Endorsement, RefusesEveryHandleOutsideOfTheRanges) {
    for (const TPM2_HANDLE handle : {0x01c00001u, 0x01c0000du, 0x01c00011u, 0x01c00023u, 0x01c000ffu, 0x01c00200u,
                                     0x8100ffffu, 0x81020000u, kStorageRootKey, kRollbackCounter, TPM2_RH_OWNER,
                                     TPM2_RH_LOCKOUT, 0u, 17u, 0x80000000u, 0x03000000u, 0xffffffffu}) {
        machine_.device.traffic.clear();
        EXPECT_EQ(read_endorsement(machine_.tpm, handle, out_).error(), Error::kOutOfRange) << std::hex << handle;
        EXPECT_EQ(activate(handle).error(), Error::kOutOfRange) << std::hex << handle;
    }
    for (const TPM2_HANDLE handle :
         {0x01c00002u, 0x01c0000cu, 0x01c00012u, 0x01c00022u, 0x01c00100u, 0x01c001ffu, 0x81010000u, 0x8101ffffu}) {
        EXPECT_TRUE(is_endorsement_handle(handle)) << std::hex << handle;
    }
}

TEST_F(Endorsement, RefusesContentsThatDoNotFit) {
    make_index(kCertificate, kOwnerWrites | TPMA_NV_AUTHREAD, pattern(600));
    EXPECT_EQ(read_endorsement(machine_.tpm, kCertificate, MutableBytes(out_).first(599)).error(), Error::kNoSpace);
}

TEST_F(Endorsement, RefusesAPartOfAnotherLengthThanAskedFor) {
    make_index(kCertificate, kOwnerWrites | TPMA_NV_AUTHREAD, pattern(600));
    machine_.device.interposer = [](std::uint32_t code, Buffer& response) {
        if (code != TPM2_CC_NV_Read) return;
        // One byte less, everything else in agreement.
        response.erase(response.begin() + 16);
        for (const std::size_t at : {2u, 10u}) {
            store(response.data() + at, load<std::uint32_t>(response.data() + at, Endian::kBig) - 1, Endian::kBig);
        }
        store<std::uint16_t>(response.data() + 14,
                             static_cast<std::uint16_t>(load<std::uint16_t>(response.data() + 14, Endian::kBig) - 1),
                             Endian::kBig);
    };
    EXPECT_EQ(read(kCertificate).error(), Error::kBadLength);
}

TEST_F(Endorsement, ReadsPublicAreasOfEveryKindOfKey) {
    make_key(low_area(TPM2_ALG_RSA), kLowKey);
    make_key(high_area(), kHighKey);
    const auto rsa = read(kLowKey);
    ASSERT_TRUE(rsa.ok()) << rsa.failure().item;
    EXPECT_EQ(load<std::uint16_t>(got(rsa).data(), Endian::kBig), TPM2_ALG_RSA);
    const auto ecc = read(kHighKey);
    ASSERT_TRUE(ecc.ok()) << ecc.failure().item;
    EXPECT_EQ(load<std::uint16_t>(got(ecc).data() + 2, Endian::kBig), TPM2_ALG_SHA384);
}

TEST_F(Endorsement, ActivatesWithEachKindOfKey) {
    const Buffer secret = pattern(32);
    struct {
        TPMT_PUBLIC area;
        TPM2_HANDLE handle;
    } const keys[] = {{low_area(TPM2_ALG_RSA), kLowKey}, {low_area(TPM2_ALG_ECC), 0x8101000a}, {high_area(), kHighKey}};
    for (const auto& key : keys) {
        make_credential(make_key(key.area, key.handle), attestation_name(), secret);
        const auto size = activate(key.handle);
        ASSERT_TRUE(size.ok()) << std::hex << key.handle << " " << size.failure().item << size.failure().detail;
        EXPECT_TRUE(equal_bytes(got(size), secret));
    }
}

TEST_F(Endorsement, ActivatesAtEveryLocalityButQuotesOnlyAtTwo) {
    make_credential(make_key(high_area(), kHighKey), attestation_name(), pattern(32));
    machine_.device.set_locality(0);
    EXPECT_TRUE(activate(kHighKey).ok());
    const auto quoted = [&] {
        return quote(machine_.tpm, machine_.random, machine_.attestation_public.bytes(),
                     machine_.attestation_private.bytes(), pattern(32), kLaunchPcrs)
            .ok();
    };
    EXPECT_FALSE(quoted());
    machine_.device.set_locality(2);
    EXPECT_TRUE(quoted());
}

TEST_F(Endorsement, RefusesACredentialForAnotherKeyOrOfAnotherTpm) {
    const ESYS_TR key = make_key(low_area(TPM2_ALG_ECC), kLowKey);
    Name other = attestation_name();
    other[10] ^= std::byte{1};
    make_credential(key, other, pattern(32));
    EXPECT_EQ(activate(kLowKey).error(), Error::kTpmError);
    make_credential(key, attestation_name(), pattern(32));
    make_key(high_area(), kHighKey);
    EXPECT_EQ(activate(kHighKey).error(), Error::kTpmError);
    EXPECT_TRUE(activate(kLowKey).ok());
}

TEST_F(Endorsement, RefusesDamagedBlobsOfAnySize) {
    make_credential(make_key(low_area(TPM2_ALG_RSA), kLowKey), attestation_name(), pattern(32));
    const Buffer blob = blob_, encrypted = encrypted_;
    blob_[5] ^= std::byte{1};
    EXPECT_EQ(activate(kLowKey).error(), Error::kTpmError);
    blob_ = blob;
    encrypted_[100] ^= std::byte{1};
    EXPECT_EQ(activate(kLowKey).error(), Error::kTpmError);
    for (const std::size_t size : {0u, 1u, 2u, 600u, 1000u, 1900u}) {
        blob_ = pattern(size);
        encrypted_ = encrypted;
        EXPECT_FALSE(activate(kLowKey).ok()) << size;
        blob_ = blob;
        encrypted_ = pattern(size);
        EXPECT_FALSE(activate(kLowKey).ok()) << size;
    }
}

TEST_F(Endorsement, ReleasedSecretDoesNotStayInTheBuffers) {
    const Buffer secret = pattern(32);
    make_credential(make_key(high_area(), kHighKey), attestation_name(), secret);
    const auto size = activate(kHighKey);
    ASSERT_TRUE(size.ok());
    const Bytes memory = std::as_bytes(std::span(&machine_.tpm, 1));
    EXPECT_EQ(std::search(memory.begin(), memory.end(), secret.begin(), secret.end()), memory.end());
}

TEST_F(Endorsement, NeedsTheEmptyEndorsementAuthorization) {
    make_credential(make_key(low_area(TPM2_ALG_ECC), kLowKey), attestation_name(), pattern(32));
    const TPM2B_AUTH password{.size = 1, .buffer = {'x'}};
    check(Esys_HierarchyChangeAuth(esys(), ESYS_TR_RH_ENDORSEMENT, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                   &password),
          "HierarchyChangeAuth");
    const auto size = activate(kLowKey);
    EXPECT_EQ(size.error(), Error::kTpmError);
    EXPECT_STREQ(size.failure().item, "TPM2_PolicySecret");
}

}  // namespace
}  // namespace gatehouse::tpm
