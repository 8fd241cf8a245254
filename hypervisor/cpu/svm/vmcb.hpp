// The virtual machine control block (APM vol. 2, appendix B).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace gatehouse::cpu::svm {

// Exit codes (appendix C). The intercept of 0x60 + n is bit n at offset 0x00c, that of 0x80 + n bit n at 0x010.
enum ExitCode : std::uint64_t {
    kExitInit = 0x63,
    kExitCpuid = 0x72,
    kExitInvd = 0x76,
    kExitInvlpga = 0x7a,
    kExitPort = 0x7b,
    kExitMsr = 0x7c,
    kExitShutdown = 0x7f,
    kExitVmrun = 0x80,  // VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, ...
    kExitSkinit = 0x86,
    kExitWbinvd = 0x89,
    kExitNestedFault = 0x400,
    kExitInvalid = ~std::uint64_t{0},
};

// EXITINFO1 of a port access (15.10.2)
inline constexpr std::uint64_t kPortIn = 1u << 0;
inline constexpr std::uint64_t kPortString = 1u << 2;
// EXITINFO1 of a nested page fault (15.25.6)
inline constexpr std::uint64_t kFaultWrite = 1u << 1;
inline constexpr std::uint64_t kFaultFetch = 1u << 4;
inline constexpr std::uint64_t kFaultWalk = std::uint64_t{1} << 33;  // while walking the guest's page table

// EVENTINJ and EXITINTINFO (15.20)
inline constexpr std::uint64_t kEventNmi = 2u << 8;
inline constexpr std::uint64_t kEventException = 3u << 8;
inline constexpr std::uint64_t kEventSoftware = 4u << 8;
inline constexpr std::uint64_t kEventType = 7u << 8;
inline constexpr std::uint64_t kEventHasError = 1u << 11;
inline constexpr std::uint64_t kEventValid = 1u << 31;

inline constexpr std::uint64_t kNestedPaging = 1u << 0;  // offset 0x090
inline constexpr std::uint8_t kFlushAll = 1;             // TLB_CONTROL

// Attributes are the descriptor's bits 55:52 and 47:40 (15.5.1).
struct Segment {
    std::uint16_t selector = 0;
    std::uint16_t attributes = 0;
    std::uint32_t limit = 0;
    std::uint64_t base = 0;
};
inline constexpr std::uint16_t kAttributeLong = 1u << 9;
inline constexpr std::uint16_t kCode64 = 0x0a9b;  // G, L, present, code, accessed
inline constexpr std::uint16_t kData32 = 0x0c93;  // G, D/B, present, data, accessed
inline constexpr std::uint16_t kRealCode = 0x009b;
inline constexpr std::uint16_t kRealData = 0x0093;
inline constexpr std::uint16_t kLocalTable = 0x0082;
inline constexpr std::uint16_t kBusyTask = 0x008b;

struct alignas(4096) Vmcb {
    // control area
    std::array<std::uint32_t, 3> reserved000{};  // intercepts of CR, DR, exceptions: none
    std::array<std::uint32_t, 3> intercepts{};   // 0x00c
    std::array<std::uint8_t, 0x28> reserved018{};
    std::uint64_t port_bitmap = 0;        // 0x040  physical
    std::uint64_t msr_bitmap = 0;         // 0x048  physical
    std::uint64_t tsc_offset = 0;         // 0x050
    std::uint32_t asid = 0;               // 0x058  never 0
    std::uint32_t tlb_control = 0;        // 0x05c
    std::uint64_t interrupt_control = 0;  // 0x060  V_INTR_MASKING = 0: EFLAGS.IF and CR8 are real
    std::uint64_t interrupt_shadow = 0;   // 0x068
    std::uint64_t exit_code = 0;          // 0x070
    std::uint64_t exit_info1 = 0;         // 0x078
    std::uint64_t exit_info2 = 0;         // 0x080
    std::uint64_t exit_interrupt = 0;     // 0x088
    std::uint64_t nested_control = 0;     // 0x090
    std::array<std::uint8_t, 0x10> reserved098{};
    std::uint64_t event_injection = 0;           // 0x0a8
    std::uint64_t nested_cr3 = 0;                // 0x0b0
    std::uint64_t lbr_control = 0, clean = 0;    // 0x0b8  0: reload everything
    std::uint64_t next_rip = 0;                  // 0x0c8  0, but if CPUID says NRIPS
    std::uint8_t fetched = 0;                    // 0x0d0  if CPUID says DecodeAssists: how many of ...
    std::array<std::uint8_t, 15> instruction{};  // 0x0d1  ... these bytes are the instruction's
    std::array<std::uint8_t, 0x320> reserved0e0{};
    // state save area
    Segment es, cs, ss, ds, fs, gs;  // 0x400
    Segment gdtr, ldtr, idtr, tr;    // 0x460
    std::array<std::uint8_t, 0x2b> reserved4a0{};
    std::uint8_t cpl = 0;  // 0x4cb
    std::uint32_t reserved4cc = 0;
    std::uint64_t efer = 0;  // 0x4d0  SVME = 1
    std::array<std::uint8_t, 0x70> reserved4d8{};
    std::uint64_t cr4 = 0;     // 0x548
    std::uint64_t cr3 = 0;     // 0x550
    std::uint64_t cr0 = 0;     // 0x558
    std::uint64_t dr7 = 0;     // 0x560
    std::uint64_t dr6 = 0;     // 0x568
    std::uint64_t rflags = 0;  // 0x570
    std::uint64_t rip = 0;     // 0x578
    std::array<std::uint8_t, 0x58> reserved580{};
    std::uint64_t rsp = 0;                        // 0x5d8
    std::array<std::uint64_t, 3> shadow_stack{};  // 0x5e0
    std::uint64_t rax = 0;                        // 0x5f8
    std::array<std::uint64_t, 8> system_calls{};  // 0x600  VMLOAD and VMSAVE
    std::uint64_t cr2 = 0;                        // 0x640
    std::array<std::uint8_t, 0x20> reserved648{};
    std::uint64_t pat = 0;  // 0x668
    std::array<std::uint8_t, 0x990> reserved670{};
};
static_assert(sizeof(Vmcb) == 4096);
static_assert(offsetof(Vmcb, port_bitmap) == 0x040 && offsetof(Vmcb, exit_code) == 0x070);
static_assert(offsetof(Vmcb, event_injection) == 0x0a8 && offsetof(Vmcb, next_rip) == 0x0c8);
static_assert(offsetof(Vmcb, es) == 0x400 && offsetof(Vmcb, gdtr) == 0x460 && offsetof(Vmcb, cpl) == 0x4cb);
static_assert(offsetof(Vmcb, efer) == 0x4d0 && offsetof(Vmcb, cr4) == 0x548 && offsetof(Vmcb, rip) == 0x578);
static_assert(offsetof(Vmcb, rsp) == 0x5d8 && offsetof(Vmcb, rax) == 0x5f8 && offsetof(Vmcb, cr2) == 0x640);
static_assert(offsetof(Vmcb, pat) == 0x668);

}  // namespace gatehouse::cpu::svm
