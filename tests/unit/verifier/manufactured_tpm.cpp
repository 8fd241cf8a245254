#include "tests/unit/verifier/manufactured_tpm.hpp"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <tss2/tss2_mu.h>

#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::test {
namespace {

void check(TSS2_RC code, const char* what) {
    if (code != TSS2_RC_SUCCESS) throw std::runtime_error(std::string(what) + ": " + std::to_string(code));
}

Buffer pem_to_der(const std::string& path) {
    std::FILE* const file = std::fopen(path.c_str(), "r");
    if (file == nullptr) throw std::runtime_error(path + ": cannot be read");
    X509* const certificate = PEM_read_X509(file, nullptr, nullptr, nullptr);
    std::fclose(file);
    unsigned char* der = nullptr;
    const int size = i2d_X509(certificate, &der);
    const Bytes bytes = std::as_bytes(std::span(der, static_cast<std::size_t>(size)));
    Buffer result(bytes.begin(), bytes.end());
    OPENSSL_free(der);
    X509_free(certificate);
    return result;
}

void write_text(const std::string& path, const std::string& text) {
    host::create_file(path, host::text_bytes(text), 0600);
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "gatehouse-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
    path_ = name;
}
TemporaryDirectory::~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

ManufacturedTpm::ManufacturedTpm() {
    const std::string ca = directory_.path("ca");
    const std::string state = directory_.path("state");
    std::filesystem::create_directory(ca);
    std::filesystem::create_directory(state);
    write_text(directory_.path("localca.conf"), "statedir = " + ca + "\nsigningkey = " + ca +
                                                    "/signkey.pem\nissuercert = " + ca +
                                                    "/issuercert.pem\ncertserial = " + ca + "/certserial\n");
    write_text(directory_.path("localca.options"),
               "--platform-manufacturer Gatehouse\n--platform-version 1\n--platform-model test\n");
    write_text(
        directory_.path("setup.conf"),
        "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = " + directory_.path("localca.conf") +
            "\ncreate_certs_tool_options = " + directory_.path("localca.options") + "\nactive_pcr_banks = sha256\n");
    (void)host::run_program({"swtpm_setup", "--tpm2", "--tpm-state", state, "--create-ek-cert", "--config",
                             directory_.path("setup.conf"), "--logfile", directory_.path("log")},
                            {}, 1 << 20);
    device_ = std::make_unique<SoftwareTpm>(state);
    esapi_ = std::make_unique<Esapi>(*device_);
}

Buffer ManufacturedTpm::root() const { return pem_to_der(directory_.path("ca/swtpm-localca-rootca-cert.pem")); }
Buffer ManufacturedTpm::issuer() const { return pem_to_der(directory_.path("ca/issuercert.pem")); }

Buffer ManufacturedTpm::read_nv(TPM2_NV_INDEX index) {
    ESYS_CONTEXT* const esys = esapi_->get();
    ESYS_TR handle = ESYS_TR_NONE;
    check(Esys_TR_FromTPMPublic(esys, index, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &handle), "NV index");
    TPM2B_NV_PUBLIC* area = nullptr;
    check(Esys_NV_ReadPublic(esys, handle, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &area, nullptr), "NV_ReadPublic");
    const std::uint16_t size = area->nvPublic.dataSize;
    Esys_Free(area);
    Buffer content;
    while (content.size() < size) {
        const auto part = static_cast<std::uint16_t>(std::min<std::size_t>(size - content.size(), 512));
        TPM2B_MAX_NV_BUFFER* data = nullptr;
        check(Esys_NV_Read(esys, ESYS_TR_RH_OWNER, handle, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, part,
                           static_cast<std::uint16_t>(content.size()), &data),
              "NV_Read");
        const Bytes bytes = std::as_bytes(std::span(data->buffer, data->size));
        content.insert(content.end(), bytes.begin(), bytes.end());
        Esys_Free(data);
    }
    return content;
}

ManufacturedTpm::Key ManufacturedTpm::describe(ESYS_TR handle) {
    TPM2B_PUBLIC* area = nullptr;
    TPM2B_NAME* name = nullptr;
    check(Esys_ReadPublic(esapi_->get(), handle, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &area, &name, nullptr),
          "ReadPublic");
    Key key{handle, Buffer(2048), {}};
    std::size_t size = 0;
    check(Tss2_MU_TPMT_PUBLIC_Marshal(&area->publicArea, reinterpret_cast<std::uint8_t*>(key.public_area.data()),
                                      key.public_area.size(), &size),
          "TPMT_PUBLIC");
    key.public_area.resize(size);
    const Bytes bytes = std::as_bytes(std::span(name->name, name->size));
    key.name.assign(bytes.begin(), bytes.end());
    Esys_Free(area);
    Esys_Free(name);
    return key;
}

ManufacturedTpm::Key ManufacturedTpm::persistent(TPM2_HANDLE handle) {
    ESYS_TR object = ESYS_TR_NONE;
    check(Esys_TR_FromTPMPublic(esapi_->get(), handle, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &object), "handle");
    return describe(object);
}

ManufacturedTpm::Key ManufacturedTpm::create_primary(ESYS_TR hierarchy, const TPMT_PUBLIC& area) {
    TPM2B_PUBLIC wanted{};
    wanted.publicArea = area;
    const TPM2B_SENSITIVE_CREATE sensitive{};
    const TPM2B_DATA outside{};
    const TPML_PCR_SELECTION pcrs{};
    ESYS_TR handle = ESYS_TR_NONE;
    check(Esys_CreatePrimary(esapi_->get(), hierarchy, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &sensitive,
                             &wanted, &outside, &pcrs, &handle, nullptr, nullptr, nullptr, nullptr),
          "CreatePrimary");
    return describe(handle);
}

ManufacturedTpm::Key ManufacturedTpm::create_ek(const EkTemplate& like) {
    TPMT_PUBLIC area{};
    area.type = like.type;
    area.nameAlg = like.name_algorithm;
    area.objectAttributes = like.attributes;
    const Buffer policy = host::from_hex(like.policy, "policy");
    area.authPolicy.size = static_cast<std::uint16_t>(policy.size());
    std::memcpy(area.authPolicy.buffer, policy.data(), policy.size());
    TPMT_SYM_DEF_OBJECT symmetric{};
    symmetric.algorithm = TPM2_ALG_AES;
    symmetric.keyBits.aes = like.symmetric_bits;
    symmetric.mode.aes = TPM2_ALG_CFB;
    if (like.type == TPM2_ALG_RSA) {
        area.parameters.rsaDetail.symmetric = symmetric;
        area.parameters.rsaDetail.scheme.scheme = TPM2_ALG_NULL;
        area.parameters.rsaDetail.keyBits = like.size;
    } else {
        area.parameters.eccDetail.symmetric = symmetric;
        area.parameters.eccDetail.scheme.scheme = TPM2_ALG_NULL;
        area.parameters.eccDetail.curveID = like.size;
        area.parameters.eccDetail.kdf.scheme = TPM2_ALG_NULL;
    }
    return create_primary(ESYS_TR_RH_ENDORSEMENT, area);
}

ManufacturedTpm::Key ManufacturedTpm::create_attestation_key(std::uint8_t unique) {
    TPMT_PUBLIC area{};
    area.type = TPM2_ALG_ECC;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                            TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SIGN_ENCRYPT;
    area.parameters.eccDetail.symmetric.algorithm = TPM2_ALG_NULL;
    area.parameters.eccDetail.scheme.scheme = TPM2_ALG_ECDSA;
    area.parameters.eccDetail.scheme.details.ecdsa.hashAlg = TPM2_ALG_SHA256;
    area.parameters.eccDetail.curveID = TPM2_ECC_NIST_P256;
    area.parameters.eccDetail.kdf.scheme = TPM2_ALG_NULL;
    if (unique != 0) {
        area.unique.ecc.x.size = 1;
        area.unique.ecc.x.buffer[0] = unique;
    }
    return create_primary(ESYS_TR_RH_OWNER, area);
}

Buffer ManufacturedTpm::activate(const Key& object, const Key& ek, bool policy_a, Bytes blob, Bytes secret) {
    ESYS_CONTEXT* const esys = esapi_->get();
    TPM2B_ID_OBJECT id{};
    TPM2B_ENCRYPTED_SECRET encrypted{};
    std::size_t offset = 0;
    check(Tss2_MU_TPM2B_ID_OBJECT_Unmarshal(reinterpret_cast<const std::uint8_t*>(blob.data()), blob.size(), &offset,
                                            &id),
          "TPM2B_ID_OBJECT");
    if (offset != blob.size()) throw std::runtime_error("TPM2B_ID_OBJECT: trailing bytes");
    offset = 0;
    check(Tss2_MU_TPM2B_ENCRYPTED_SECRET_Unmarshal(reinterpret_cast<const std::uint8_t*>(secret.data()), secret.size(),
                                                   &offset, &encrypted),
          "TPM2B_ENCRYPTED_SECRET");
    if (offset != secret.size()) throw std::runtime_error("TPM2B_ENCRYPTED_SECRET: trailing bytes");

    ESYS_TR session = ESYS_TR_PASSWORD;
    if (policy_a) {
        const TPMT_SYM_DEF none{.algorithm = TPM2_ALG_NULL, .keyBits = {}, .mode = {}};
        check(Esys_StartAuthSession(esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, nullptr,
                                    TPM2_SE_POLICY, &none, TPM2_ALG_SHA256, &session),
              "StartAuthSession");
        check(Esys_PolicySecret(esys, ESYS_TR_RH_ENDORSEMENT, session, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                nullptr, nullptr, nullptr, 0, nullptr, nullptr),
              "PolicySecret");
    }
    TPM2B_DIGEST* found = nullptr;
    const TSS2_RC code = Esys_ActivateCredential(esys, object.handle, ek.handle, ESYS_TR_PASSWORD, session,
                                                 ESYS_TR_NONE, &id, &encrypted, &found);
    if (policy_a) (void)Esys_FlushContext(esys, session);
    if (code != TSS2_RC_SUCCESS) return {};
    const Bytes bytes = std::as_bytes(std::span(found->buffer, found->size));
    Buffer result(bytes.begin(), bytes.end());
    Esys_Free(found);
    return result;
}

void ManufacturedTpm::flush(const Key& key) { check(Esys_FlushContext(esapi_->get(), key.handle), "FlushContext"); }

}  // namespace gatehouse::test
