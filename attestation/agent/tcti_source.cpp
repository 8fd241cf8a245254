#include "attestation/agent/tcti_source.hpp"

#include <tss2/tss2_mu.h>

#include <filesystem>

#include "attestation/agent/ek_templates.hpp"
#include "attestation/agent/identity_proof.hpp"
#include "attestation/agent/leftovers.hpp"
#include "attestation/evidence/claims.hpp"
#include "hypervisor/base/hash.hpp"
#include "keyvault/tpm/sealing.hpp"
#include "keyvault/tpm_templates/templates.hpp"

namespace gatehouse::agent {
namespace {

using host::check;
using host::Freed;
using host::octets;
using host::ToolError;
using host::Transient;

constexpr const char* kKeyBlob = "ak.blob";
constexpr std::uint32_t kQuotedPcrs = 0x43ff;  // 0-9 and 14

TPM2B_PUBLIC public_of(Bytes area) {
    TPM2B_PUBLIC result{};
    std::size_t offset = 0;
    check(Tss2_MU_TPMT_PUBLIC_Unmarshal(octets(area), area.size(), &offset, &result.publicArea), "public area");
    return result;
}

// A restricted ECDSA P-256 key without a policy: the hypervisor's is bound to locality 2, this one is
// anybody's who is root here.
TPM2B_PUBLIC attestation_key_template() {
    TPM2B_PUBLIC result = public_of(tpm::attestation_key_template().bytes());
    result.publicArea.authPolicy = {};
    result.publicArea.objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                                         TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA |
                                         TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SIGN_ENCRYPT;
    return result;
}

// The storage root key and, under it, the attestation key.
class AttestationKey {
  public:
    explicit AttestationKey(const TctiTpm& of) : tpm_(of), made_parent_(of.context()), key_(of.context()) {
        if (of.exists(tpm::kStorageRootKey)) {
            parent_ = of.persistent(tpm::kStorageRootKey);
        } else {
            make_parent();
        }
    }

    // False if it is not a key of this TPM, as it is since it was cleared last; nothing else that goes wrong means that.
    // TpmError.
    [[nodiscard]] bool load(const std::string& blob) {
        if (load_below_parent(blob)) return true;
        // A storage root key may have been made persistent, or another one, after the attestation key was made.
        if (made_parent_.handle != ESYS_TR_NONE) return false;
        make_parent();
        return load_below_parent(blob);
    }

    // A new one, not loaded yet: its blob.
    [[nodiscard]] std::string create() const {
        const TPM2B_PUBLIC area = attestation_key_template();
        const TPM2B_SENSITIVE_CREATE sensitive{};
        const TPM2B_DATA outside{};
        const TPML_PCR_SELECTION pcrs{};
        Freed<TPM2B_PRIVATE> private_part;
        Freed<TPM2B_PUBLIC> public_part;
        check(Esys_Create(tpm_.context(), parent_, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &sensitive, &area,
                          &outside, &pcrs, &private_part.pointer, &public_part.pointer, nullptr, nullptr, nullptr),
              "making the attestation key");
        std::array<std::uint8_t, sizeof(TPM2B_PUBLIC) + sizeof(TPM2B_PRIVATE)> bytes{};
        std::size_t size = 0;
        check(Tss2_MU_TPM2B_PUBLIC_Marshal(public_part.pointer, bytes.data(), bytes.size(), &size), "public part");
        check(Tss2_MU_TPM2B_PRIVATE_Marshal(private_part.pointer, bytes.data(), bytes.size(), &size), "private part");
        return {reinterpret_cast<const char*>(bytes.data()), size};
    }

    [[nodiscard]] ESYS_TR handle() const { return key_.handle; }

  private:
    void make_parent() {
        tpm_.create_primary(ESYS_TR_RH_OWNER, public_of(tpm::storage_root_key_template().bytes()), made_parent_);
        parent_ = made_parent_.handle;
    }

    [[nodiscard]] bool load_below_parent(const std::string& blob) {
        const Bytes bytes = host::text_bytes(blob);
        TPM2B_PUBLIC area{};
        TPM2B_PRIVATE sensitive{};
        std::size_t offset = 0;
        if (Tss2_MU_TPM2B_PUBLIC_Unmarshal(octets(bytes), bytes.size(), &offset, &area) != TSS2_RC_SUCCESS ||
            Tss2_MU_TPM2B_PRIVATE_Unmarshal(octets(bytes), bytes.size(), &offset, &sensitive) != TSS2_RC_SUCCESS) {
            throw ToolError(std::string("attestation key: ") + kKeyBlob +
                            " is damaged; restore it, or remove it and enroll again");
        }
        const TSS2_RC code = Esys_Load(tpm_.context(), parent_, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                       &sensitive, &area, &key_.handle);
        if (code == TSS2_RC_SUCCESS) return true;
        // Its parent did not encrypt it (Part 3, 12.2; Part 1, 22.4): the seed that the parent is made of is another one.
        constexpr const char* what = "loading the attestation key";
        if (host::TpmError(code, what).error() == TPM2_RC_INTEGRITY) return false;
        throw host::TpmError(code, what);
    }

    const TctiTpm& tpm_;
    Transient made_parent_;
    Transient key_;
    ESYS_TR parent_ = ESYS_TR_NONE;
};

constexpr const char* kLostKey =
    "attestation key: it is not of this TPM, which is another one or was cleared since; `attestation-agent enroll "
    "--again` makes a new one";

void require(AttestationKey& key, const StateDirectory& state) {
    const auto blob = state.read(kKeyBlob);
    if (!blob) {
        throw ToolError(
            std::string("attestation key: there is no ") + kKeyBlob +
            " in the state directory; restore it, or make a new one with `attestation-agent enroll --again`");
    }
    if (!key.load(*blob)) throw ToolError(kLostKey);
}

TPML_PCR_SELECTION selection_of(std::uint32_t pcrs) {
    TPML_PCR_SELECTION selection{};
    selection.count = 1;
    selection.pcrSelections[0] = {
        .hash = TPM2_ALG_SHA256,
        .sizeofSelect = 3,
        .pcrSelect = {static_cast<std::uint8_t>(pcrs & 0xff), static_cast<std::uint8_t>(pcrs >> 8 & 0xff),
                      static_cast<std::uint8_t>(pcrs >> 16 & 0xff)}};
    return selection;
}

// All of kQuotedPcrs, one after the other; a TPM gives a few at a time.
Buffer pcr_values(ESYS_CONTEXT* context) {
    Buffer values;
    for (std::uint32_t left = kQuotedPcrs; left != 0;) {
        const TPML_PCR_SELECTION wanted = selection_of(left);
        Freed<TPML_PCR_SELECTION> given;
        Freed<TPML_DIGEST> digests;
        check(Esys_PCR_Read(context, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &wanted, nullptr, &given.pointer,
                            &digests.pointer),
              "reading PCRs");
        if (digests->count == 0) throw ToolError("TPM: its SHA-256 bank is not active; allocate it in the firmware");
        for (std::uint32_t i = 0; i < digests->count; ++i) {
            const TPM2B_DIGEST& one = digests->digests[i];
            const Bytes bytes = std::as_bytes(std::span(one.buffer, one.size));
            values.insert(values.end(), bytes.begin(), bytes.end());
            left &= left - 1;  // they come in ascending order
        }
    }
    return values;
}

struct Quoted {
    Buffer attest, signature, pcr_digest;
};
Quoted quote(ESYS_CONTEXT* context, ESYS_TR key, Bytes qualifying) {
    TPM2B_DATA data{};
    data.size = static_cast<std::uint16_t>(qualifying.size());
    copy_bytes(std::as_writable_bytes(std::span(data.buffer)), qualifying);
    const TPMT_SIG_SCHEME scheme{.scheme = TPM2_ALG_NULL, .details = {}};
    const TPML_PCR_SELECTION pcrs = selection_of(kQuotedPcrs);
    Freed<TPM2B_ATTEST> attest;
    Freed<TPMT_SIGNATURE> signature;
    check(Esys_Quote(context, key, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &data, &scheme, &pcrs, &attest.pointer,
                     &signature.pointer),
          "quote");
    std::array<std::uint8_t, sizeof(TPMT_SIGNATURE)> bytes{};
    std::size_t size = 0;
    check(Tss2_MU_TPMT_SIGNATURE_Marshal(signature.pointer, bytes.data(), bytes.size(), &size), "signature");
    TPMS_ATTEST parsed{};
    std::size_t offset = 0;
    check(Tss2_MU_TPMS_ATTEST_Unmarshal(attest->attestationData, attest->size, &offset, &parsed), "quote");
    const auto buffer = [](const std::uint8_t* from, std::size_t length) {
        const Bytes view = std::as_bytes(std::span(from, length));
        return Buffer(view.begin(), view.end());
    };
    const TPM2B_DIGEST& digest = parsed.attested.quote.pcrDigest;
    return {buffer(attest->attestationData, attest->size), buffer(bytes.data(), size),
            buffer(digest.buffer, digest.size)};
}

}  // namespace

template <typename Step>
auto TctiSource::with_room(Step step) const {
    try {
        return step(TctiTpm(tcti_));
    } catch (const host::TpmError& error) {
        if (!is_want_of_room(error)) throw;
        std::vector<TPM2B_PUBLIC> own{attestation_key_template(), public_of(tpm::storage_root_key_template().bytes())};
        for (const EkPlace& place : kEkPlaces) own.push_back(ek_template(place.key));
        if (flush_leftovers(tcti_, error, own) == 0) throw ToolError(want_of_room_text(tcti_, error));
    }
    try {
        return step(TctiTpm(tcti_));
    } catch (const host::TpmError& error) {
        if (!is_want_of_room(error)) throw;
        throw ToolError(want_of_room_text(tcti_, error));
    }
}

// Not while the endorsement key is loaded, too: a TPM need not have room for more than three objects.
IdentityProof TctiSource::proof() const {
    return with_room([this](const TctiTpm& tpm) -> IdentityProof {
        AttestationKey key(tpm);
        require(key, state_);
        try {
            return prove_identity(tpm.context(), key.handle());
        } catch (const host::TpmError& error) {
            if (is_want_of_room(error)) throw;
            return {};  // a TPM that does not audit, or whose endorsement hierarchy is somebody's: an operator decides
        }
    });
}

Identity TctiSource::identity(LostKey lost) {
    Identity found = with_room([this, lost](const TctiTpm& tpm) {
        const EndorsementKey endorsement(tpm);
        AttestationKey key(tpm);
        const auto blob = state_.read(kKeyBlob);
        if (!blob || !key.load(*blob)) {
            if (blob && lost == LostKey::kKeep) throw ToolError(kLostKey);
            const std::string made = key.create();
            if (!key.load(made)) throw ToolError("TPM: does not load the attestation key that it made");
            state_.write(kKeyBlob, made);
        }
        Identity identity{.ek_certificate = endorsement.certificate(),
                          .ek_chain = {},
                          .ek_public = endorsement.public_area(),
                          .ak_public = tpm.public_area(key.handle()),
                          .proof = {}};
        for (const TPM2_HANDLE index : tpm.handles(kFirstChainIndex, kLastChainIndex)) {
            if (auto part = tpm.nv_contents(index); part && !part->empty())
                identity.ek_chain.push_back(std::move(*part));
        }
        return identity;
    });
    found.proof = proof();
    return found;
}

Buffer TctiSource::activate(Bytes credential_blob, Bytes encrypted_secret) {
    return with_room([&](const TctiTpm& tpm) {
        const EndorsementKey endorsement(tpm);
        AttestationKey key(tpm);
        require(key, state_);
        return endorsement.activate(key.handle(), contents_of(credential_blob, "credential blob"),
                                    contents_of(encrypted_secret, "encrypted secret"));
    });
}

Buffer TctiSource::firmware_log() const {
    if (firmware_log_.empty() || !std::filesystem::exists(firmware_log_)) return {};
    constexpr std::size_t kLimit = 1 << 20;  // base64 of it and all the rest fit protocol::kMaxBody
    return host::read_file(firmware_log_, kLimit);
}

protocol::AttestRequest TctiSource::evidence(Bytes nonce) {
    return with_room([this, nonce](const TctiTpm& tpm) -> protocol::AttestRequest {
        AttestationKey key(tpm);
        require(key, state_);
        const Sha256Digest qualifying = evidence::qualifying_data(nonce, {});
        constexpr int kAttempts = 5;  // somebody may extend a PCR between reading and quoting
        for (int i = 0; i < kAttempts; ++i) {
            Quoted quoted = quote(tpm.context(), key.handle(), qualifying);
            Buffer values = pcr_values(tpm.context());
            if (!equal_bytes(sha256(values), quoted.pcr_digest)) continue;
            return {.source = name(),
                    .nonce = {nonce.begin(), nonce.end()},
                    .quote = std::move(quoted.attest),
                    .signature = std::move(quoted.signature),
                    .claims = {},
                    .event_log = firmware_log(),
                    .pcr_values = std::move(values)};
        }
        throw ToolError("TPM: PCRs change faster than they can be quoted");
    });
}

}  // namespace gatehouse::agent
