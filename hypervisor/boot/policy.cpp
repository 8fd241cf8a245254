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

}  // namespace gatehouse::boot
