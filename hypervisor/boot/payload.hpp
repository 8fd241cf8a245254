// The payload: the modules that the hypervisor measures into PCR 18 and acts on.
//
// They lie in guest memory, where the launcher put them, and stay there: by now no device can write to memory
// (the SLB has set the IOMMU) and no other processor runs, so what is hashed is what is used.
#pragma once

#include "hypervisor/boot/measurer.hpp"
#include "hypervisor/guest/linux.hpp"
#include "policies/bundle/bundle.hpp"

namespace gatehouse::boot {

struct Payload {
    Bytes policy;
    Bytes approval;
    Bytes kernel;
    Bytes initrd;
    Bytes command_line;
    Bytes record;            // empty if there is none
    Bytes machine_approval;  // empty if there is none
    guest::Extent kernel_place;
    guest::Extent initrd_place;
};

// The memory map for the guest, from the launcher's word: sorted, disjoint, the kept region reserved. A range that
// contradicts an earlier one is refused; unknown types count as reserved.
[[nodiscard]] Status build_memory_map(const launch::LaunchBlock& block, std::uint64_t kept_base, guest::MemoryMap& map);

// Every module is there, but for record and machine approval, which may be missing; those that are there are page-aligned, in usable memory, disjoint from the others, and within its size limit.
// Errors name the module: kNotFound, kMisaligned, kOutOfRange, kOverlap, kBadLength.
[[nodiscard]] Result<Payload> find_payload(const launch::LaunchBlock& block, const guest::MemoryMap& map,
                                           guest::PhysicalView& memory);

// PCR 18: policy bundle, kernel, initrd, command line, in this order (evidence/measurements.hpp).
[[nodiscard]] Status measure_payload(Measurer& measurer, const Payload& payload);

}  // namespace gatehouse::boot
