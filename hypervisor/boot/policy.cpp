#include "hypervisor/boot/policy.hpp"

namespace gatehouse::boot {

Result<Policy> read_policy(const Payload& payload) {
    Policy policy;
    GATEHOUSE_ASSIGN(policy.bundle, policies::parse_bundle(payload.policy));
    GATEHOUSE_ASSIGN(policy.approval, policies::parse_approval(payload.approval));
    if (policy.bundle.has(policies::BundleFlag::kMachineAcpi) && !payload.machine_approval.empty()) {
        GATEHOUSE_ASSIGN(policy.machine, policies::parse_machine_approval(payload.machine_approval));
    }
    policy.srk_name = policy.bundle.srk_name;
    policy.vault_id = policy.bundle.vault_id;
    policy.pin = evidence::VaultPin::kBundle;
    if (policy.bundle.enrollment.empty()) return policy;
    if (payload.record.empty()) return {Error::kNotFound, "endpoint record"};
    GATEHOUSE_ASSIGN(const policies::Record record, policies::parse_record(payload.record, policy.bundle.enrollment));
    policy.srk_name = record.srk_name;
    policy.vault_id = record.vault_id;
    policy.pin = evidence::VaultPin::kRecord;
    return policy;
}

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
