#include "hypervisor/boot/tpm_unsealer.hpp"

namespace gatehouse::boot {

Result<volume::SlotSecret> TpmUnsealer::unseal(const volume::Slots& slots) {
    if (!slots.tpm) return {Error::kNotFound, "vault: no TPM slot"};
    const policies::Approval& approval = policy_.approval;
    tpm::UnsealRequest request{};
    copy_bytes(request.storage_root_key, policy_.srk_name);  // the parsers have checked its size
    request.authority = policy_.bundle.authority;
    request.policy_ref = policy_.bundle.policy_ref;
    request.counter = policy_.bundle.counter_index;
    request.approval = {approval.policy_digest, approval.counter_limit, approval.signature};
    if (policy_.machine) request.machine = {policy_.machine->policy_digest, policy_.machine->signature};
    request.sealed_public = slots.tpm->sealed_public.bytes();
    request.sealed_private = slots.tpm->sealed_private.bytes();
    return tpm::unseal(tpm_, random_, request);
}

}  // namespace gatehouse::boot
