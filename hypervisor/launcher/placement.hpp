// Where things go: the kept region and the modules.
#pragma once

#include "hypervisor/guest/linux.hpp"
#include "hypervisor/launcher/multiboot.hpp"

namespace gatehouse::launcher {

struct Placement {
    std::uint64_t kept_base = 0;
    std::array<std::uint64_t, launch::kMaxModules> modules{};  // new addresses, page-aligned, in the block's order
};

// The kept region becomes the highest free 12 MiB below 4 GiB; each module the highest free pages below it.
// Free is usable memory that holds neither `information` nor a module nor anything of `busy`; ACPI tables are
// not in usable memory (ACPI 6.5, 15.1). New places overlap no old ones, so that modules are copied in any
// order. The memory map must be free of contradictions (kOverlap); kNoSpace if the memory does not suffice.
[[nodiscard]] Result<Placement> place(const BootInformation& information, std::span<const Extent> busy);

}  // namespace gatehouse::launcher
