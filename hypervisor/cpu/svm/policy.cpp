#include "hypervisor/cpu/svm/policy.hpp"

#include <array>

namespace gatehouse::cpu::svm {
namespace {

struct Row {
    std::uint32_t first;
    std::uint32_t last;
    MsrPolicy policy;
};

constexpr std::uint64_t kHwcrMask = 1u << 30 | 1u << 25 | 1u << 18;  // IRPerfEn, CpbDis, McStatusWrEn
constexpr std::uint64_t kDeCfgMask = 1u << 9 | 1u << 1;              // Zenbleed fix, serializing LFENCE
constexpr MsrRule kPass = MsrRule::kPass, kDrop = MsrRule::kDrop;
constexpr MsrRule kMask = MsrRule::kMask, kFault = MsrRule::kFault;

// The first row that matches counts. APM vol. 2, appendix A; Processor Programming References for families 17h, 19h.
constexpr std::array kRows{
    Row{0x10, 0x10, {kPass, kDrop}},    // TSC: the hypervisor's clock
    Row{0x200, 0x26f, {kPass, kDrop}},  // MTRRs: how the hypervisor's own memory is cached
    Row{0x2ff, 0x2ff, {kPass, kDrop}}, Row{kMsrApicBase, kMsrApicBase, {MsrRule::kApicBase, MsrRule::kApicBase}},
    Row{kMsrX2ApicIcr, kMsrX2ApicIcr, {kPass, MsrRule::kIcr}},
    Row{kMsrEfer, kMsrEfer, {MsrRule::kEfer, MsrRule::kEfer}},
    Row{0xc0000104, 0xc0000104, {kFault, kFault}},  // TSC_RATIO (SVM)
    // 0xc001'0000 and above: writes are dropped, but for the rows below
    Row{0xc0010000, 0xc0010007, {kPass, MsrRule::kCounter}},  // core performance counters
    Row{kMsrHwcr, kMsrHwcr, {kPass, kMask, kHwcrMask}},
    Row{0xc0010062, 0xc0010062, {kPass, kPass}},    // P-state control; their definitions are read-only
    Row{0xc0010111, 0xc0010113, {kPass, kFault}},   // SMM_BASE, SMM_ADDR, SMM_MASK: as if locked
    Row{kMsrVmCr, 0xc001011b, {kFault, kFault}},    // VM_CR, SMM_CTL, VM_HSAVE_PA, SVM_KEY, doorbell, ...
    Row{0xc001011e, 0xc001011e, {kFault, kFault}},  // VMPAGE_FLUSH (SEV)
    Row{0xc001011f, 0xc001011f, {kPass, kPass}},    // VIRT_SPEC_CTRL
    Row{0xc0010130, 0xc0010138, {kFault, kFault}},  // GHCB, SEV_STATUS, reverse map table, ...
    Row{0xc0010200, 0xc001020b, {kPass, MsrRule::kCounter}},
    Row{0xc00102b1, 0xc00102b3, {kPass, kPass}},  // collaborative power control
    Row{0xc0011019, 0xc001101b, {kPass, kPass}},  // breakpoint address masks 1 to 3
    Row{0xc0011027, 0xc0011027, {kPass, kPass}},  // ... 0
    Row{0xc0011029, 0xc0011029, {kPass, kMask, kDeCfgMask}},
    Row{0xc0010000, 0xc001ffff, {kPass, kDrop}},  // SYSCFG, TOP_MEM, IORR, PATCH_LOADER, IBS, other counters, ...
};

}  // namespace

CpuidLeaf guest_cpuid(std::uint32_t leaf, std::uint32_t subleaf, CpuidLeaf hardware, std::uint64_t guest_cr4) {
    constexpr std::uint32_t kOsxsave = 1u << 27;  // leaf 1 ECX: CR4.OSXSAVE, which is the guest's own
    constexpr std::uint32_t kOspke = 1u << 4;     // leaf 7 ECX: CR4.PKE
    constexpr std::uint32_t kSvm = 1u << 2;       // leaf 0x8000'0001 ECX
    constexpr std::uint32_t kSkinit = 1u << 12;
    constexpr std::uint32_t kIbs = 1u << 10;  // instruction-based sampling: it would sample the hypervisor as well
    constexpr std::uint32_t kUncore = 1u << 28 | 1u << 24;  // L3 and northbridge counters, which count it as well
    constexpr std::uint32_t kInvlpgb = 1u << 3;             // leaf 0x8000'0008 EBX: needs the hypervisor's consent
    CpuidLeaf out = hardware;
    switch (leaf) {
        case 0x00000001: out.ecx = (out.ecx & ~kOsxsave) | ((guest_cr4 & kCr4Osxsave) != 0 ? kOsxsave : 0); break;
        case 0x00000007:
            if (subleaf != 0) break;
            out.ecx = (out.ecx & ~kOspke) | ((guest_cr4 & kCr4Pke) != 0 ? kOspke : 0);
            break;
        case 0x80000001: out.ecx &= ~(kSvm | kSkinit | kIbs | kUncore); break;
        case 0x80000008: out.ebx &= ~kInvlpgb; break;
        case 0x8000000a:  // SVM
        case 0x8000001b:  // instruction-based sampling
        case 0x8000001f:  // memory encryption
            out = {};
            break;
    }
    return out;
}

MsrPolicy msr_policy(std::uint32_t msr) {
    for (const Row& row : kRows) {
        if (msr >= row.first && msr <= row.last) return row.policy;
    }
    return {};
}

std::uint64_t guest_counter(std::uint32_t msr, std::uint64_t value) {
    const bool control = msr < 0xc0010004 || (msr >= 0xc0010200 && msr % 2 == 0);
    return control ? (value & ~(std::uint64_t{3} << 40)) | std::uint64_t{1} << 40 : value;
}

void write_msr_bitmap(std::span<std::uint8_t, kMsrBitmapSize> bitmap) {
    constexpr std::array<std::uint32_t, 3> kBases{0x00000000, 0xc0000000, 0xc0010000};
    for (std::uint8_t& byte : bitmap) byte = 0;
    for (std::size_t block = 0; block < kBases.size(); ++block) {
        for (std::uint32_t i = 0; i < 0x2000; ++i) {
            const MsrPolicy policy = msr_policy(kBases[block] + i);
            const unsigned bits = (policy.read != kPass ? 1u : 0u) | (policy.write != kPass ? 2u : 0u);
            std::uint8_t& byte = bitmap[block * 0x800 + i / 4];
            byte = static_cast<std::uint8_t>(byte | bits << 2 * (i % 4));
        }
    }
}

}  // namespace gatehouse::cpu::svm
