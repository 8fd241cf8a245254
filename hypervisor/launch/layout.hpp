// What launcher, SLB and hypervisor owe each other in memory. All integers little-endian, all addresses physical.
//
// The launcher reserves one *kept region*: RAM, below 4 GiB, 2 MiB aligned, kKeptSize bytes, in no other use. The guest
// never sees it (but for the mailbox and the guest tables), and no device may reach it (but for the disk arena).
//
//   offset      size      contents
//   0x000000    64 KiB    SLB: measured bytes, then its stack and page tables (SKINIT: 64 KiB aligned)
//   0x010000    64 KiB    launch block: launcher -> SLB and hypervisor; hostile
//   0x020000    64 KiB    hand-off block: SLB -> hypervisor
//   0x030000    64 KiB    small modules: copied here before they are measured, and used from here
//   0x040000    64 KiB    mailbox: shared with the guest, readable and writable by it
//   0x100000    192 KiB   AMD-Vi command queues, two pages for each unit
//   0x140000    768 KiB   guest tables: ACPI tables that the hypervisor makes for the guest, copies of the machine's
//   0x200000    2 MiB     hypervisor image: the file, then zeros up to its memory size
//   0x400000    2 MiB     AMD-Vi device table, 65,536 entries of 32 bytes; one table serves every IOMMU
//   0x600000    6 MiB     hypervisor heap-free arenas: page tables, I/O page tables, disk DMA arena, ...
#pragma once

#include <cstddef>
#include <cstdint>

namespace gatehouse::launch {

inline constexpr std::uint64_t kKeptSize = 0xc00000;
inline constexpr std::uint64_t kKeptAlignment = 0x200000;
inline constexpr std::uint64_t kSlbOffset = 0x000000;
inline constexpr std::uint64_t kSlbSize = 0x10000;
inline constexpr std::uint64_t kLaunchBlockOffset = 0x010000;
inline constexpr std::uint64_t kLaunchBlockSize = 0x10000;
inline constexpr std::uint64_t kHandOffOffset = 0x020000;
inline constexpr std::uint64_t kHandOffSize = 0x10000;
inline constexpr std::uint64_t kModulesOffset = 0x030000;
inline constexpr std::uint64_t kModulesSize = 0x10000;
inline constexpr std::uint64_t kMailboxOffset = 0x040000;
inline constexpr std::uint64_t kMailboxSize = 0x10000;
inline constexpr std::uint64_t kGuestTablesOffset = 0x140000;
inline constexpr std::uint64_t kGuestTablesSize = 0xc0000;
inline constexpr std::uint64_t kImageOffset = 0x200000;
inline constexpr std::uint64_t kImageMaxSize = 0x200000;
inline constexpr std::uint64_t kDeviceTableOffset = 0x400000;
inline constexpr std::uint64_t kDeviceTableSize = 0x200000;
inline constexpr std::uint64_t kArenaOffset = 0x600000;
inline constexpr std::uint64_t kArenaSize = kKeptSize - kArenaOffset;

// Both measured programs are linked at fixed addresses in the top 2 GiB and run from wherever the kept region
// is. Each makes its own page tables: the SLB's map the kept region at kSlbVirtual, and the first 4 GiB at
// themselves, uncacheable but for the kept region; the hypervisor's map [0, 512 GiB) at itself.
// The MTRRs are the launcher's. Device registers are therefore to be mapped uncacheable by the page tables
// (PCD and PWT; PAT as after reset, which the SLB sets): a read-back must come from the device, not a cache.
inline constexpr std::uint64_t kSlbVirtual = 0xffffffff80000000;
inline constexpr std::uint64_t kImageVirtual = kSlbVirtual + kImageOffset;

// --- hypervisor.bin --------------------------------------------------------------------------------------
// A flat file, measured whole (all its bytes, as they are in the file) into PCR 17 by the SLB. Starts with:
//   u64 magic        kImageMagic
//   u64 file_size    bytes in the file; must equal the module's size
//   code             entered here, at kImageVirtual + kImageHeaderSize
// Zeros follow it in memory, up to kImageMaxSize. It is called as a function, in 64-bit mode, with the SLB's page
// tables, GDT (0x08 code, 0x10 data) and stack (its last bytes, at their physical addresses), interrupts off, GIF = 0,
// no IDT, SSE on; its argument is the physical address of the kept region. The TPM's locality 2 stays in use: nobody
// gets it in between.
inline constexpr std::uint64_t kImageMagic = 0x324d4956'59484747;  // "GGHYVIM2"
inline constexpr std::size_t kImageHeaderSize = 16;

// --- launch block ----------------------------------------------------------------------------------------
// launch_block.hpp, LaunchBlock: the struct as it lies in memory.
inline constexpr std::uint64_t kLaunchMagic = 0x31484355'414c4847;  // "GHLAUCH1"
inline constexpr std::uint32_t kLaunchVersion = 2;
inline constexpr std::size_t kMaxModules = 16;
inline constexpr std::size_t kMaxMemoryRanges = 256;

enum class ModuleRole : std::uint32_t {
    kPolicy = 1,           // policy bundle, measured into PCR 18
    kApproval = 2,         // the authority's approval of PCR values; not measured, the TPM checks it
    kKernel = 3,           // bzImage, measured into PCR 18
    kInitrd = 4,           // measured into PCR 18
    kCommandLine = 5,      // guest kernel command line, every byte of the file, measured into PCR 18
    kRecord = 6,           // the endpoint's record; not measured, signed by the bundle's enrollment key
    kMachineApproval = 7,  // the authority's approval of PCR 19; not measured, the TPM checks it
};

// --- hand-off block --------------------------------------------------------------------------------------
// hand_off.hpp, HandOff: the struct as it lies in memory, then the TCG crypto-agile event log so far
// (evidence/launch_log.hpp).
inline constexpr std::uint64_t kHandOffMagic = 0x31464f44'4e484847;  // "GHHNDOF1"
inline constexpr std::uint32_t kHandOffVersion = 2;
inline constexpr std::size_t kMaxBanks = 4;

}  // namespace gatehouse::launch
