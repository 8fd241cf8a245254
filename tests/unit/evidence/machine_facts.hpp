// The facts of a machine that tests attest from.
#pragma once

#include "attestation/evidence/claims.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::test {

inline evidence::MachineFacts sample_machine() {
    evidence::MachineFacts facts{.processor_signature = 0x00a20f10,
                                 .microcode = 0x0a20102b,
                                 .smm_locked = true,
                                 .processors = 4,
                                 .iommus = {},
                                 .iommu_count = 1};
    facts.iommus[0] = {.function = 2, .registers = 0xfed80000};
    return facts;
}

inline host::Buffer encoded(const evidence::MachineFacts& facts) {
    host::Buffer bytes(evidence::kMaxMachineFactsSize);
    bytes.resize(host::expect(evidence::encode_machine_facts(facts, bytes), "machine facts"));
    return bytes;
}

}  // namespace gatehouse::test
