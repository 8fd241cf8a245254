#include "hypervisor/boot/tpm_unsealer.hpp"

namespace gatehouse::boot {

Result<volume::SlotSecret> TpmUnsealer::unseal(const volume::TpmSlot& slot) {
    tpm::UnsealRequest request{};
    copy_bytes(request.storage_root_key, bundle_.srk_name);  // parse_bundle() has checked its size
    request.authority = bundle_.authority;
    request.policy_ref = bundle_.policy_ref;
    request.counter = bundle_.counter_index;
    request.approval = {
        .policy = approval_.policy_digest, .counter_limit = approval_.counter_limit, .signature = approval_.signature};
    request.sealed_public = slot.sealed_public.bytes();
    request.sealed_private = slot.sealed_private.bytes();
    return tpm::unseal(tpm_, random_, request);
}

}  // namespace gatehouse::boot
