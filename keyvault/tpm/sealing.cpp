#include "keyvault/tpm/sealing.hpp"

namespace gatehouse::tpm {
namespace {

// What the TPM's refusal of this step means.
Failure explain(const Failure& failure, Error error, const char* item) {
    return failure.error == Error::kTpmError ? Failure{error, item, failure.detail} : failure;
}

// What an approval says, and the messages if it does not hold.
struct Step {
    const Sha256Digest& policy;
    Bytes signature;
    Bytes suffix;  // of the policy reference
    const char* not_approved;
    const char* not_signed;
};

// Has the policy that `session` satisfies replaced by the authority's, if it is the approved one.
Status authorize(Tpm& tpm, PolicySession& session, const UnsealRequest& request, const Step& step) {
    GATEHOUSE_ASSIGN(const Sha256Digest digest, session.policy_digest());
    if (digest != step.policy) return {Error::kMismatch, step.not_approved};
    GATEHOUSE_ASSIGN(const Flushed key, tpm.load_external(request.authority));
    const Sha256Digest signed_digest = sha256({step.policy, request.policy_ref, step.suffix});
    const Result<Ticket> ticket = tpm.verify_signature(key.handle(), signed_digest, step.signature);
    if (!ticket.ok()) return explain(ticket.failure(), Error::kBadSignature, step.not_signed);
    return session.policy_authorize(step.policy, request.policy_ref, step.suffix, name_of(request.authority),
                                    ticket.value());
}

Status satisfy(Tpm& tpm, PolicySession& session, const UnsealRequest& request) {
    const Approval& approval = request.approval;
    GATEHOUSE_TRY(session.policy_pcr(kLaunchPcrs));
    GATEHOUSE_TRY(session.policy_locality(kHypervisorLocality));
    const Status counter = session.policy_counter_at_most(request.counter, approval.counter_limit);
    if (!counter.ok() && counter.failure().detail == TPM2_RC_POLICY) {
        return explain(counter.failure(), Error::kRefused, "rollback counter above the approval's limit");
    }
    GATEHOUSE_TRY(counter);
    const Step release{approval.policy, approval.signature, Bytes(), "PCR 17 and 18 not as approved",
                       "approval: not signed by the authority"};
    GATEHOUSE_TRY(authorize(tpm, session, request, release));
    if (!request.machine) return {};
    GATEHOUSE_TRY(session.policy_pcr(kMachinePcrs));
    const Step machine{request.machine->policy, request.machine->signature, machine_suffix(),
                       "PCR 19 not as approved: another machine, or another firmware",
                       "machine approval: not signed by the authority"};
    return authorize(tpm, session, request, machine);
}

}  // namespace

Result<Secret<32>> unseal(Tpm& tpm, RandomSource& random, const UnsealRequest& request) {
    GATEHOUSE_ASSIGN(const PublicArea root, tpm.read_public(kStorageRootKey));
    if (name_of(root.bytes()) != request.storage_root_key) {
        return {Error::kMismatch, "storage root key: Name is not the pinned one"};
    }
    const Name sealed_name = name_of(request.sealed_public);
    GATEHOUSE_ASSIGN(PolicySession session, PolicySession::start_salted(tpm, random, kStorageRootKey, root.bytes()));
    GATEHOUSE_TRY(satisfy(tpm, session, request));
    GATEHOUSE_ASSIGN(const Flushed sealed, tpm.load(kStorageRootKey, request.sealed_private, request.sealed_public));
    Result<Secret<32>> secret = session.unseal(sealed.handle(), sealed_name);
    if (!secret.ok()) return explain(secret.failure(), Error::kAuthFailed, "TPM refuses to unseal");
    return secret;
}

Result<Quote> quote(Tpm& tpm, RandomSource& random, Bytes key_public, Bytes key_private, Bytes qualifying_data,
                    const PcrSelection& selection) {
    GATEHOUSE_ASSIGN(const Flushed key, tpm.load(kStorageRootKey, key_private, key_public));
    GATEHOUSE_ASSIGN(PolicySession session, PolicySession::start(tpm, random));
    GATEHOUSE_TRY(session.policy_locality(kHypervisorLocality));
    return session.quote(key.handle(), qualifying_data, selection);
}

}  // namespace gatehouse::tpm
