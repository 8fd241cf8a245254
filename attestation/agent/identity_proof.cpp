#include "attestation/agent/identity_proof.hpp"

#include <tss2/tss2_mu.h>

#include "attestation/agent/ek_templates.hpp"
#include "keyvault/tpm_templates/templates.hpp"

namespace gatehouse::agent {
namespace {

using host::check;
using host::Freed;
using host::octets;
using host::to_buffer;
using host::Transient;

void start_audit(ESYS_CONTEXT* context, Transient& session) {
    const TPMT_SYM_DEF none{.algorithm = TPM2_ALG_NULL, .keyBits = {}, .mode = {}};
    check(Esys_StartAuthSession(context, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, nullptr,
                                TPM2_SE_HMAC, &none, TPM2_ALG_SHA256, &session.handle),
          "audit session");
    check(Esys_TRSess_SetAttributes(context, session.handle, TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT, 0xff),
          "audit session");
}

// The parameters of the response, from outPublic to name (Part 3, 24.1).
Buffer make_primary(ESYS_CONTEXT* context, ESYS_TR hierarchy, const TPM2B_PUBLIC& area, ESYS_TR session) {
    const TPM2B_SENSITIVE_CREATE sensitive{};
    const TPM2B_DATA outside{};
    const TPML_PCR_SELECTION pcrs{};
    Transient key(context);
    Freed<TPM2B_PUBLIC> made;
    Freed<TPM2B_CREATION_DATA> data;
    Freed<TPM2B_DIGEST> digest;
    Freed<TPMT_TK_CREATION> ticket;
    check(Esys_CreatePrimary(context, hierarchy, ESYS_TR_PASSWORD, session, ESYS_TR_NONE, &sensitive, &area, &outside,
                             &pcrs, &key.handle, &made.pointer, &data.pointer, &digest.pointer, &ticket.pointer),
          "making a primary key in an audit session");
    Freed<TPM2B_NAME> name;
    check(Esys_TR_GetName(context, key.handle, &name.pointer), "primary key");
    std::array<std::uint8_t, sizeof(TPM2B_PUBLIC) + sizeof(TPM2B_CREATION_DATA) + sizeof(TPM2B_DIGEST) +
                                 sizeof(TPMT_TK_CREATION) + sizeof(TPM2B_NAME)>
        bytes{};
    std::size_t size = 0;
    check(Tss2_MU_TPM2B_PUBLIC_Marshal(made.pointer, bytes.data(), bytes.size(), &size), "primary key");
    check(Tss2_MU_TPM2B_CREATION_DATA_Marshal(data.pointer, bytes.data(), bytes.size(), &size), "primary key");
    check(Tss2_MU_TPM2B_DIGEST_Marshal(digest.pointer, bytes.data(), bytes.size(), &size), "primary key");
    check(Tss2_MU_TPMT_TK_CREATION_Marshal(ticket.pointer, bytes.data(), bytes.size(), &size), "primary key");
    check(Tss2_MU_TPM2B_NAME_Marshal(name.pointer, bytes.data(), bytes.size(), &size), "primary key");
    return to_buffer(bytes.data(), size);
}

}  // namespace

IdentityProof prove_identity(ESYS_CONTEXT* context, ESYS_TR attestation_key) {
    TPM2B_PUBLIC storage_root{};
    const auto area = tpm::storage_root_key_template();
    std::size_t offset = 0;
    check(Tss2_MU_TPMT_PUBLIC_Unmarshal(octets(area.bytes()), area.size(), &offset, &storage_root.publicArea),
          "template");
    Transient session(context);
    start_audit(context, session);
    IdentityProof proof;
    proof.keys.push_back(make_primary(context, ESYS_TR_RH_ENDORSEMENT, ek_template(EkTemplate::kL2), session.handle));
    proof.keys.push_back(make_primary(context, ESYS_TR_RH_OWNER, storage_root, session.handle));
    const TPM2B_DATA qualifying{};
    const TPMT_SIG_SCHEME scheme{.scheme = TPM2_ALG_NULL, .details = {}};
    Freed<TPM2B_ATTEST> attest;
    Freed<TPMT_SIGNATURE> signature;
    check(Esys_GetSessionAuditDigest(context, ESYS_TR_RH_ENDORSEMENT, attestation_key, session.handle, ESYS_TR_PASSWORD,
                                     ESYS_TR_PASSWORD, ESYS_TR_NONE, &qualifying, &scheme, &attest.pointer,
                                     &signature.pointer),
          "session audit");
    proof.attest = to_buffer(attest->attestationData, attest->size);
    std::array<std::uint8_t, sizeof(TPMT_SIGNATURE)> bytes{};
    std::size_t size = 0;
    check(Tss2_MU_TPMT_SIGNATURE_Marshal(signature.pointer, bytes.data(), bytes.size(), &size), "signature");
    proof.signature = to_buffer(bytes.data(), size);
    return proof;
}

}  // namespace gatehouse::agent
