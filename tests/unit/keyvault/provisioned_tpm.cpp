#include "tests/unit/keyvault/provisioned_tpm.hpp"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/rsa.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_tcti.h>

#include <cstdlib>
#include <stdexcept>

namespace gatehouse::test {
namespace {

void check(TSS2_RC code, const char* what) {
    if (code != TSS2_RC_SUCCESS) throw std::runtime_error(std::string(what) + ": " + std::to_string(code));
}

template <typename T>
struct Freed {
    T* pointer = nullptr;
    ~Freed() { Esys_Free(pointer); }
    T* operator->() const { return pointer; }
};

TPM2B_PUBLIC public_of(Bytes area) {
    TPM2B_PUBLIC result{};
    std::size_t offset = 0;
    check(Tss2_MU_TPMT_PUBLIC_Unmarshal(reinterpret_cast<const std::uint8_t*>(area.data()), area.size(), &offset,
                                        &result.publicArea),
          "TPMT_PUBLIC");
    if (offset != area.size()) throw std::runtime_error("TPMT_PUBLIC: trailing bytes");
    return result;
}

tpm::PublicArea area_of(const TPM2B_PUBLIC& from) {
    std::array<std::byte, tpm::PublicArea::kCapacity> bytes{};
    std::size_t offset = 0;
    check(Tss2_MU_TPMT_PUBLIC_Marshal(&from.publicArea, reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size(),
                                      &offset),
          "TPMT_PUBLIC");
    tpm::PublicArea area;
    if (!area.assign(Bytes(bytes).first(offset), "").ok()) throw std::runtime_error("TPMT_PUBLIC: too long");
    return area;
}

tpm::PrivateBlob blob_of(const TPM2B_PRIVATE& from) {
    tpm::PrivateBlob blob;
    if (!blob.assign(std::as_bytes(std::span(from.buffer, from.size)), "").ok()) {
        throw std::runtime_error("TPM2B_PRIVATE: too long");
    }
    return blob;
}

}  // namespace

// --- ESAPI over a Transport
// ------------------------------------------------------------------------------------------

struct Esapi::Tcti {
    TSS2_TCTI_CONTEXT_COMMON_V1 common{};
    tpm::Transport* transport = nullptr;
    Buffer response;

    static Tcti& of(TSS2_TCTI_CONTEXT* context) { return *reinterpret_cast<Tcti*>(context); }
    static TSS2_RC transmit(TSS2_TCTI_CONTEXT* context, std::size_t size, const std::uint8_t* command) {
        Tcti& self = of(context);
        self.response.assign(4096, std::byte{0});
        const auto received = self.transport->transmit(std::as_bytes(std::span(command, size)), self.response);
        if (!received.ok()) return TSS2_TCTI_RC_IO_ERROR;
        self.response.resize(received.value());
        return TSS2_RC_SUCCESS;
    }
    static TSS2_RC receive(TSS2_TCTI_CONTEXT* context, std::size_t* size, std::uint8_t* response, std::int32_t) {
        Tcti& self = of(context);
        if (response != nullptr) {
            if (*size < self.response.size()) return TSS2_TCTI_RC_INSUFFICIENT_BUFFER;
            std::memcpy(response, self.response.data(), self.response.size());
        }
        *size = self.response.size();
        return TSS2_RC_SUCCESS;
    }
};

Esapi::Esapi(tpm::Transport& transport) : tcti_(std::make_unique<Tcti>()) {
    ::setenv("TSS2_LOG", "all+NONE", 0);  // refusals are what many tests want
    tcti_->common.magic = 0x4748;
    tcti_->common.version = 1;
    tcti_->common.transmit = Tcti::transmit;
    tcti_->common.receive = Tcti::receive;
    tcti_->common.finalize = [](TSS2_TCTI_CONTEXT*) {};
    tcti_->transport = &transport;
    check(Esys_Initialize(&context_, reinterpret_cast<TSS2_TCTI_CONTEXT*>(tcti_.get()), nullptr), "Esys_Initialize");
}

Esapi::~Esapi() { Esys_Finalize(&context_); }

// --- Authority
// -------------------------------------------------------------------------------------------------------

Authority::Authority(Kind kind) : kind_(kind) {
    if (kind == Kind::kEcc) {
        key_.reset(EVP_EC_gen("P-256"));
        std::array<unsigned char, 65> point{};
        std::size_t size = 0;
        if (EVP_PKEY_get_octet_string_param(key_.get(), OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, point.data(), point.size(),
                                            &size) != 1 ||
            size != point.size()) {
            throw std::runtime_error("authority: no public key");
        }
        const Bytes bytes = std::as_bytes(std::span(point));
        public_area_ = tpm::authority_public_ecc(bytes.subspan(1, 32), bytes.subspan(33)).value();
    } else {
        key_.reset(EVP_RSA_gen(kind == Kind::kRsa2048 ? 2048 : 3072));
        BIGNUM* modulus = nullptr;
        EVP_PKEY_get_bn_param(key_.get(), OSSL_PKEY_PARAM_RSA_N, &modulus);
        std::vector<unsigned char> bytes(static_cast<std::size_t>(BN_num_bytes(modulus)));
        BN_bn2bin(modulus, bytes.data());
        BN_free(modulus);
        public_area_ = tpm::authority_public_rsa(std::as_bytes(std::span(bytes))).value();
    }
    if (public_area_.empty()) throw std::runtime_error("authority: no public area");
}

tpm::SignatureBlob Authority::sign(Bytes message) const {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    std::vector<unsigned char> signature(512);
    std::size_t size = signature.size();
    if (EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) != 1 ||
        EVP_DigestSign(context.get(), signature.data(), &size, raw(message), message.size()) != 1) {
        throw std::runtime_error("authority: cannot sign");
    }
    signature.resize(size);
    if (kind_ != Kind::kEcc) return tpm::signature_rsassa(std::as_bytes(std::span(signature))).value();
    const unsigned char* at = signature.data();
    ECDSA_SIG* parsed = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size));
    std::array<unsigned char, 32> r{};
    std::array<unsigned char, 32> s{};
    BN_bn2binpad(ECDSA_SIG_get0_r(parsed), r.data(), 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(parsed), s.data(), 32);
    ECDSA_SIG_free(parsed);
    return tpm::signature_ecdsa(std::as_bytes(std::span(r)), std::as_bytes(std::span(s))).value();
}

tpm::SignatureBlob Authority::approve(const Sha256Digest& policy, Bytes policy_ref) const {
    Buffer message(policy.begin(), policy.end());
    message.insert(message.end(), policy_ref.begin(), policy_ref.end());
    return sign(message);
}

void TestRandom::fill(MutableBytes out) {
    for (std::byte& byte : out) {
        std::array<std::byte, 8> input{};
        store(input.data(), ++counter_, Endian::kLittle);
        byte = sha256(input)[0];
    }
}

// --- Provisioning
// ----------------------------------------------------------------------------------------------------

ProvisionedTpm::ProvisionedTpm(Authority::Kind kind) : authority(kind) {
    const Bytes reference = literal_bytes("gatehouse test");
    policy_ref.assign(reference.begin(), reference.end());
    random.fill(secret.bytes());

    Esapi esapi(device);
    ESYS_CONTEXT* const esys = esapi.get();
    const TPM2B_DATA outside{};
    const TPML_PCR_SELECTION no_pcrs{};
    const TPM2B_SENSITIVE_CREATE no_sensitive{};

    const TPM2B_PUBLIC root_template = public_of(tpm::storage_root_key_template().bytes());
    ESYS_TR root = ESYS_TR_NONE;
    check(Esys_CreatePrimary(esys, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &no_sensitive,
                             &root_template, &outside, &no_pcrs, &root, nullptr, nullptr, nullptr, nullptr),
          "CreatePrimary");
    ESYS_TR persistent = ESYS_TR_NONE;
    check(Esys_EvictControl(esys, ESYS_TR_RH_OWNER, root, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                            tpm::kStorageRootKey, &persistent),
          "EvictControl");
    check(Esys_FlushContext(esys, root), "FlushContext");
    Freed<TPM2B_NAME> name;
    check(Esys_TR_GetName(esys, persistent, &name.pointer), "TR_GetName");
    copy_bytes(storage_root_key, std::as_bytes(std::span(name->name, name->size)));

    const SealedObject sealed = seal(secret.bytes());
    sealed_public = sealed.public_area;
    sealed_private = sealed.private_blob;

    const TPM2B_PUBLIC key_template = public_of(tpm::attestation_key_template().bytes());
    Freed<TPM2B_PRIVATE> key_private;
    Freed<TPM2B_PUBLIC> key_public;
    check(Esys_Create(esys, persistent, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &no_sensitive, &key_template,
                      &outside, &no_pcrs, &key_private.pointer, &key_public.pointer, nullptr, nullptr, nullptr),
          "Create attestation key");
    attestation_public = area_of(*key_public.pointer);
    attestation_private = blob_of(*key_private.pointer);

    const auto counter_area = tpm::rollback_counter_public(tpm::kRollbackCounter, false);
    TPM2B_NV_PUBLIC counter_public{};
    std::size_t offset = 0;
    check(Tss2_MU_TPMS_NV_PUBLIC_Unmarshal(reinterpret_cast<const std::uint8_t*>(counter_area.bytes().data()),
                                           counter_area.size(), &offset, &counter_public.nvPublic),
          "TPMS_NV_PUBLIC");
    const TPM2B_AUTH no_auth{};
    ESYS_TR index = ESYS_TR_NONE;
    check(Esys_NV_DefineSpace(esys, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &no_auth,
                              &counter_public, &index),
          "NV_DefineSpace");
    increment_counter();
    device.traffic.clear();
}

ProvisionedTpm::SealedObject ProvisionedTpm::seal(Bytes data, bool on_machine) {
    Esapi esapi(device);
    ESYS_TR parent = ESYS_TR_NONE;
    check(Esys_TR_FromTPMPublic(esapi.get(), tpm::kStorageRootKey, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &parent),
          "TR_FromTPMPublic");
    TPM2B_SENSITIVE_CREATE sensitive{};
    sensitive.sensitive.data.size = static_cast<UINT16>(data.size());
    std::memcpy(sensitive.sensitive.data.buffer, data.data(), data.size());
    const auto machine_ref = tpm::machine_policy_ref(policy_ref);
    const TPM2B_PUBLIC sealed_template = public_of(
        tpm::sealed_object_template(
            tpm::authorize_policy_digest(authority.name(), on_machine ? machine_ref->bytes() : Bytes(policy_ref)))
            .bytes());
    const TPM2B_DATA outside{};
    const TPML_PCR_SELECTION no_pcrs{};
    Freed<TPM2B_PRIVATE> private_part;
    Freed<TPM2B_PUBLIC> public_part;
    check(Esys_Create(esapi.get(), parent, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &sensitive, &sealed_template,
                      &outside, &no_pcrs, &private_part.pointer, &public_part.pointer, nullptr, nullptr, nullptr),
          "Create sealed object");
    return {area_of(*public_part.pointer), blob_of(*private_part.pointer)};
}

void ProvisionedTpm::increment_counter() {
    Esapi esapi(device);
    ESYS_TR index = ESYS_TR_NONE;
    check(Esys_TR_FromTPMPublic(esapi.get(), tpm::kRollbackCounter, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &index),
          "TR_FromTPMPublic");
    check(Esys_NV_Increment(esapi.get(), ESYS_TR_RH_OWNER, index, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE),
          "NV_Increment");
    counter = read_counter();
}

std::uint64_t ProvisionedTpm::read_counter() {
    Esapi esapi(device);
    ESYS_TR index = ESYS_TR_NONE;
    check(Esys_TR_FromTPMPublic(esapi.get(), tpm::kRollbackCounter, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &index),
          "TR_FromTPMPublic");
    Freed<TPM2B_MAX_NV_BUFFER> value;
    check(Esys_NV_Read(esapi.get(), index, index, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, 8, 0, &value.pointer),
          "NV_Read");
    return load<std::uint64_t>(std::as_bytes(std::span(value->buffer)).data(), Endian::kBig);
}

void ProvisionedTpm::launch(Bytes image, Bytes payload, Bytes machine) {
    device.dynamic_launch(image);
    device.set_locality(2);
    const auto banks = tpm.active_banks();
    if (!banks.ok()) throw std::runtime_error("no PCR banks");
    const auto extend = [&](unsigned pcr, Bytes object) {
        std::vector<Digest> digests;
        for (const HashAlgorithm bank : banks->banks()) digests.push_back(hash(bank, object));
        if (!tpm.pcr_extend(pcr, digests).ok()) throw std::runtime_error("cannot extend a PCR");
    };
    extend(18, payload);
    if (!machine.empty()) extend(19, machine);
    device.traffic.clear();
}

Sha256Digest extended_once(Bytes data) { return sha256({Sha256Digest{}, sha256(data)}); }

tpm::Approval ProvisionedTpm::approve(Bytes image, Bytes payload, std::uint64_t limit) {
    tpm::Approval approval;
    approval.policy = tpm::sealing_policy_digest(extended_once(image), extended_once(payload),
                                                 tpm::rollback_counter_name(tpm::kRollbackCounter), limit);
    approval.counter_limit = limit;
    signature_ = authority.approve(approval.policy, policy_ref);
    approval.signature = signature_.bytes();
    return approval;
}

tpm::MachineApproval ProvisionedTpm::approve_machine(Bytes machine) {
    tpm::MachineApproval approval;
    approval.policy = tpm::machine_policy_digest(authority.name(), policy_ref, extended_once(machine));
    machine_signature_ = authority.approve(approval.policy, tpm::machine_policy_ref(policy_ref)->bytes());
    approval.signature = machine_signature_.bytes();
    return approval;
}

tpm::UnsealRequest ProvisionedTpm::request(const tpm::Approval& approval) const {
    return {.storage_root_key = storage_root_key,
            .authority = authority.public_area().bytes(),
            .policy_ref = policy_ref,
            .counter = tpm::kRollbackCounter,
            .approval = approval,
            .sealed_public = sealed_public.bytes(),
            .sealed_private = sealed_private.bytes()};
}

std::size_t ProvisionedTpm::loaded_handles() {
    Esapi esapi(device);
    std::size_t total = 0;
    for (const std::uint32_t first : {TPM2_TRANSIENT_FIRST, TPM2_LOADED_SESSION_FIRST}) {
        Freed<TPMS_CAPABILITY_DATA> data;
        TPMI_YES_NO more = 0;
        check(Esys_GetCapability(esapi.get(), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_HANDLES, first, 32,
                                 &more, &data.pointer),
              "GetCapability");
        total += data->data.handles.count;
    }
    return total;
}

bool verify_ecdsa(Bytes public_area, Bytes message, Bytes signature) {
    const TPM2B_PUBLIC area = public_of(public_area);
    const auto& point = area.publicArea.unique.ecc;
    std::array<unsigned char, 65> encoded{4};
    std::memcpy(encoded.data() + 1, point.x.buffer, 32);
    std::memcpy(encoded.data() + 33, point.y.buffer, 32);
    char group[] = "P-256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, encoded.data(), encoded.size()),
        OSSL_PARAM_construct_end()};
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> maker(
        EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr), EVP_PKEY_CTX_free);
    EVP_PKEY* made = nullptr;
    if (EVP_PKEY_fromdata_init(maker.get()) != 1 ||
        EVP_PKEY_fromdata(maker.get(), &made, EVP_PKEY_PUBLIC_KEY, const_cast<OSSL_PARAM*>(parameters)) != 1) {
        return false;
    }
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(made, EVP_PKEY_free);

    TPMT_SIGNATURE parsed{};
    std::size_t offset = 0;
    check(Tss2_MU_TPMT_SIGNATURE_Unmarshal(reinterpret_cast<const std::uint8_t*>(signature.data()), signature.size(),
                                           &offset, &parsed),
          "TPMT_SIGNATURE");
    if (offset != signature.size() || parsed.sigAlg != TPM2_ALG_ECDSA) return false;
    const auto& ecdsa = parsed.signature.ecdsa;
    ECDSA_SIG* numbers = ECDSA_SIG_new();
    ECDSA_SIG_set0(numbers, BN_bin2bn(ecdsa.signatureR.buffer, ecdsa.signatureR.size, nullptr),
                   BN_bin2bn(ecdsa.signatureS.buffer, ecdsa.signatureS.size, nullptr));
    unsigned char* der = nullptr;
    const int size = i2d_ECDSA_SIG(numbers, &der);
    ECDSA_SIG_free(numbers);
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    const bool right =
        EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) == 1 &&
        EVP_DigestVerify(context.get(), der, static_cast<std::size_t>(size), raw(message), message.size()) == 1;
    OPENSSL_free(der);
    return right;
}

}  // namespace gatehouse::test
