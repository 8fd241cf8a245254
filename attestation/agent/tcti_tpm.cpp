#include "attestation/agent/tcti_tpm.hpp"

#include <tss2/tss2_mu.h>

#include "attestation/agent/ek_templates.hpp"

namespace gatehouse::agent {

using host::check;
using host::Freed;
using host::to_buffer;
using host::ToolError;
using host::Transient;

TctiTpm::TctiTpm(const std::string& tcti) : EsapiTpm(tcti, "the source " + tcti + "; is it there, and are you root?") {}

std::optional<Buffer> TctiTpm::nv_contents(TPM2_HANDLE index) const {
    if (!exists(index)) return std::nullopt;
    const ESYS_TR resource = persistent(index);
    Freed<TPM2B_NV_PUBLIC> area;
    check(Esys_NV_ReadPublic(context(), resource, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &area.pointer, nullptr),
          "NV index");
    // By the index's own, empty authorization where it allows that, as the profile wants it; else by the
    // owner's.
    const bool by_index = (area->nvPublic.attributes & TPMA_NV_AUTHREAD) != 0;
    constexpr std::uint16_t kPart = 512;  // any TPM reads as much at once
    Buffer contents;
    while (contents.size() < area->nvPublic.dataSize) {
        const auto offset = static_cast<std::uint16_t>(contents.size());
        const auto size = std::min(kPart, static_cast<std::uint16_t>(area->nvPublic.dataSize - offset));
        Freed<TPM2B_MAX_NV_BUFFER> part;
        check(Esys_NV_Read(context(), by_index ? resource : ESYS_TR_RH_OWNER, resource, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                           ESYS_TR_NONE, size, offset, &part.pointer),
              "reading an NV index");
        const Bytes bytes = std::as_bytes(std::span(part->buffer, part->size));
        if (bytes.empty()) throw ToolError("TPM: an NV index ends early");
        contents.insert(contents.end(), bytes.begin(), bytes.end());
    }
    return contents;
}

std::vector<TPM2_HANDLE> TctiTpm::handles(TPM2_HANDLE first, TPM2_HANDLE last) const {
    constexpr std::size_t most = 256;
    std::vector<TPM2_HANDLE> found;
    TPMI_YES_NO more = 1;
    for (TPM2_HANDLE next = first; more != 0 && found.size() < most;) {
        Freed<TPMS_CAPABILITY_DATA> data;
        check(Esys_GetCapability(context(), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_HANDLES, next, most,
                                 &more, &data.pointer),
              "handles");
        const TPML_HANDLE& some = data->data.handles;
        for (std::uint32_t i = 0; i < some.count && some.handle[i] <= last; ++i) found.push_back(some.handle[i]);
        if (some.count == 0 || some.handle[some.count - 1] >= last) break;
        next = some.handle[some.count - 1] + 1;
    }
    return found;
}

Buffer TctiTpm::public_area(ESYS_TR object) const {
    Freed<TPM2B_PUBLIC> area;
    check(Esys_ReadPublic(context(), object, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &area.pointer, nullptr, nullptr),
          "public area");
    std::array<std::uint8_t, sizeof(TPMT_PUBLIC)> bytes{};
    std::size_t size = 0;
    check(Tss2_MU_TPMT_PUBLIC_Marshal(&area->publicArea, bytes.data(), bytes.size(), &size), "public area");
    return to_buffer(bytes.data(), size);
}

void TctiTpm::create_primary(ESYS_TR hierarchy, const TPM2B_PUBLIC& area, Transient& key) const {
    const TPM2B_SENSITIVE_CREATE sensitive{};
    const TPM2B_DATA outside{};
    const TPML_PCR_SELECTION pcrs{};
    check(Esys_CreatePrimary(context(), hierarchy, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &sensitive, &area,
                             &outside, &pcrs, &key.handle, nullptr, nullptr, nullptr, nullptr),
          "making a primary key (is an authorization set?)");
}

EndorsementKey::EndorsementKey(const TctiTpm& tpm) : tpm_(tpm), made_(tpm.context()) {
    for (const EkPlace& place : kEkPlaces) {
        auto found = tpm_.nv_contents(place.certificate);
        if (!found) continue;
        certificate_ = std::move(*found);
        if (use_persistent(&place) || use_template(place.key)) return;
    }
    certificate_.clear();
    if (use_persistent(nullptr) || use_template(EkTemplate::kL2) || use_template(EkTemplate::kL1)) return;
    throw ToolError("TPM: no endorsement key can be had");
}

// A persistent key that the certificate is for; without a place, any.
bool EndorsementKey::use_persistent(const EkPlace* place) {
    for (const TPM2_HANDLE handle : kEkHandles) {
        if (!tpm_.exists(handle)) continue;
        handle_ = tpm_.persistent(handle);
        public_area_ = tpm_.public_area(handle_);
        if (place == nullptr || certifies(certificate_, public_area_)) return true;
    }
    return false;
}

bool EndorsementKey::use_template(EkTemplate which) {
    Transient key(tpm_.context());
    try {
        tpm_.create_primary(ESYS_TR_RH_ENDORSEMENT, ek_template(which), key);
    } catch (const host::TpmError& error) {
        if (error.error() == 0)
            throw;     // for want of room, or by another fault that passes: that says nothing of the kind
        return false;  // a TPM need not know each kind
    }
    public_area_ = tpm_.public_area(key.handle);
    if (!certificate_.empty() && !certifies(certificate_, public_area_)) return false;
    handle_ = made_.handle = std::exchange(key.handle, ESYS_TR_NONE);
    return true;
}

Buffer EndorsementKey::activate(ESYS_TR attestation_key, Bytes credential_blob, Bytes encrypted_secret) const {
    ESYS_CONTEXT* const context = tpm_.context();
    TPM2B_ID_OBJECT blob{};
    TPM2B_ENCRYPTED_SECRET secret{};
    if (credential_blob.size() > sizeof(blob.credential) || encrypted_secret.size() > sizeof(secret.secret)) {
        throw ToolError("credential: longer than any TPM makes");
    }
    blob.size = static_cast<std::uint16_t>(credential_blob.size());
    copy_bytes(std::as_writable_bytes(std::span(blob.credential)), credential_blob);
    secret.size = static_cast<std::uint16_t>(encrypted_secret.size());
    copy_bytes(std::as_writable_bytes(std::span(secret.secret)), encrypted_secret);

    // Template L: by its policy, PolicySecret(endorsement). Template H: userWithAuth, with an empty
    // authorization.
    Freed<TPM2B_PUBLIC> area;
    check(Esys_ReadPublic(context, handle_, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &area.pointer, nullptr, nullptr),
          "endorsement key");
    Transient session(context);
    if ((area->publicArea.objectAttributes & TPMA_OBJECT_USERWITHAUTH) == 0) {
        const TPMT_SYM_DEF none{.algorithm = TPM2_ALG_NULL, .keyBits = {}, .mode = {}};
        check(Esys_StartAuthSession(context, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                    nullptr, TPM2_SE_POLICY, &none, area->publicArea.nameAlg, &session.handle),
              "policy session");
        check(Esys_PolicySecret(context, ESYS_TR_RH_ENDORSEMENT, session.handle, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                                ESYS_TR_NONE, nullptr, nullptr, nullptr, 0, nullptr, nullptr),
              "endorsement authorization");
    }
    const ESYS_TR key_session = session.handle == ESYS_TR_NONE ? ESYS_TR_PASSWORD : session.handle;
    Freed<TPM2B_DIGEST> result;
    check(Esys_ActivateCredential(context, attestation_key, handle_, ESYS_TR_PASSWORD, key_session, ESYS_TR_NONE, &blob,
                                  &secret, &result.pointer),
          "activating the credential");
    return to_buffer(result->buffer, result->size);
}

}  // namespace gatehouse::agent
