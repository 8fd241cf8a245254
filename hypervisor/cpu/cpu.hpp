// The processors: from the SLB's jump to a guest that runs on all of them.
//
// Order of calls, all on the boot processor (BSP) and from hypervisor_main():
//   start_log, set_console                       console_log.hpp
//   guest_memory().add(...) per RAM range        memory/physical_memory.hpp
//   svm::enable()                                svm/svm.hpp: SVM, nested paging, the kept region hidden
//   nested_pages().hide/map, trap_mmio, port_map().add
//   start_aps(...)                               the other processors are counted, and wait for a guest's SIPI
//   svm::run_guest(entry)                        does not return
//
// The hypervisor runs with GIF = 0 and EFLAGS.IF = 0, always: nothing interrupts it. Its stacks have a guard page
// below them, its text is read-only, its data is not executable, and physical memory [4 KiB, 512 GiB) is mapped at
// itself, but for the hypervisor image, which has its own mapping only (launch/layout.hpp, kImageVirtual).
#pragma once

#include "hypervisor/cpu/io_ports.hpp"
#include "hypervisor/cpu/mmio.hpp"
#include "hypervisor/memory/nested_page_table.hpp"

namespace gatehouse::cpu {

inline constexpr std::size_t kMaxCpus = 64;

// Pages of the kept region's arena (launch/layout.hpp), handed out once and never returned.
[[nodiscard]] memory::PagePool& kept_pages();
// RAM that the guest owns, and the way to reach it.
[[nodiscard]] memory::PhysicalMemory& guest_memory();
// What the guest's processors reach; every processor uses this one table.
[[nodiscard]] memory::NestedPageTable& nested_pages();

// Makes the hypervisor's own accesses to device registers uncacheable, whatever the MTRRs say; before the first
// access, and before start_aps(). Done already for what lies in [0xfe00'0000, 4 GiB), and by trap_mmio().
[[nodiscard]] Status map_device(std::uint64_t base, std::uint64_t size);
// Guest accesses to [base, base + size) go to `handler`; both are multiples of 4 KiB. Errors: kMisaligned,
// kOverlap (with another handler, or with what the launcher calls RAM: devices would reach it), kNoSpace.
[[nodiscard]] Status trap_mmio(std::uint64_t base, std::uint64_t size, MmioHandler& handler);
// The guest sees nothing there. Errors: as trap_mmio.
[[nodiscard]] Status hide_device(std::uint64_t base, std::uint64_t size);
// Who answers for the guest's IN and OUT: filled before it starts.
[[nodiscard]] IoPortMap& port_map();
// What has been trapped by trap_mmio().
[[nodiscard]] const MmioMap& mmio_map();

// Starts all processors that there are, whatever firmware's tables say: INIT and SIPI go to all but this one, and each
// that comes is counted, takes its MTRRs and the like from this one, and then waits for the guest's SIPI. None is left
// in INIT, where it would wait for anybody's. `low_page` is a page of guest RAM below 0xa0000, used meanwhile and kept.
// Takes 0.1 s, or up to 2 s if one is late. After any error the guest must not run: kNoSpace (more than kMaxCpus),
// kTimeout (with the number of one that does not come in, or does not take its registers), kUnsupported (its APIC ID),
// kMismatch (one more has come late, one of a package has not come; or low_page does not hold what is written to it),
// kOutOfRange (low_page).
[[nodiscard]] Status start_aps(std::uint64_t low_page);

// How many processors the hypervisor runs on.
[[nodiscard]] std::size_t cpu_count();

// Where an object is, in the hypervisor's image or in the identity map.
[[nodiscard]] HostPhysical physical_address(const void* object);

}  // namespace gatehouse::cpu

// Supplied by hypervisor/main.cpp; called once, on the BSP, with everything above it ready but start_log.
extern "C" [[noreturn]] void hypervisor_main(std::uint64_t kept_base);
