// The payload: the modules that the hypervisor measures into PCR 18 and acts on.
//
// By now no device can write to memory (the SLB has set the IOMMU) and no other processor runs; what is left is the
// hypervisor's own hand. Small modules are therefore copied into the kept region before they are measured, and used
// from there; kernel and initrd stay where the launcher put them, and whatever is placed later keeps out of `busy`.
#pragma once

#include "hypervisor/boot/measurer.hpp"
#include "hypervisor/guest/linux.hpp"
#include "hypervisor/memory/ram.hpp"
#include "policies/bundle/bundle.hpp"

namespace gatehouse::boot {

struct Payload {
    Bytes policy;
    Bytes approval;
    Bytes command_line;
    Bytes record;            // empty: none
    Bytes machine_approval;  // empty: none
    Bytes kernel;
    Bytes initrd;
    std::array<Extent, 2> busy{};  // kernel, initrd
};

// The memory map for the guest, from the launcher's word: sorted, disjoint, the
// kept region reserved; and everything that it calls usable, ACPI or NVS is RAM.
// kOutOfRange with the range's base; errors of MemoryMap::add() and reserve().
[[nodiscard]] Status build_memory_map(const launch::LaunchBlock& block, const memory::Ram& ram, guest::MemoryMap& map);

// Every module is there (endpoint record and machine approval: if they are), in usable memory that is write-back, and
// within its size limit; small ones are copied to `room`. Errors name the module: kNotFound, kOutOfRange, kBadLength,
// kNoSpace; kRefused: memory type.
[[nodiscard]] Result<Payload> find_payload(const launch::LaunchBlock& block, const guest::MemoryMap& map,
                                           const memory::Ram& ram, guest::PhysicalView& memory, MutableBytes room);

// PCR 18: policy bundle, kernel, initrd, command line, in this order (evidence/measurements.hpp).
[[nodiscard]] Status measure_payload(Measurer& measurer, const Payload& payload);

}  // namespace gatehouse::boot
