#include "hypervisor/cpu/svm/svm.hpp"

#include <new>

#include "hypervisor/base/panic.hpp"
#include "hypervisor/cpu/cpu.hpp"
#include "hypervisor/cpu/instructions.hpp"
#include "hypervisor/cpu/svm/policy.hpp"
#include "hypervisor/cpu/svm/vcpu.hpp"
#include "hypervisor/cpu/vector.hpp"
#include "hypervisor/launch/layout.hpp"

extern "C" void svm_enter(std::uint64_t guest_vmcb, std::uint64_t host_vmcb, std::uint64_t* registers);

namespace gatehouse::cpu::svm {
namespace {

constexpr std::size_t kNestedTablePages = 96;
constexpr std::uint32_t kCpuidSvm = 1u << 2;             // 0x8000'0001 ECX
constexpr std::uint32_t kCpuidGigabytePages = 1u << 26;  // 0x8000'0001 EDX
constexpr std::uint32_t kCpuidNestedPaging = 1u << 0;    // 0x8000'000a EDX

constinit memory::PagePool nested_pool;
alignas(memory::kPageSize) constinit std::array<std::uint8_t, IoPortMap::kBitmapSize> port_bitmap{};
alignas(memory::kPageSize) constinit std::array<std::uint8_t, kMsrBitmapSize> msr_bitmap{};

bool has_svm() {
    if (cpuid(0x80000000).eax < 0x8000000a || (cpuid(0x80000001).ecx & kCpuidSvm) == 0) return false;
    std::uint64_t vm_cr = 0;
    return try_read_msr(kMsrVmCr, &vm_cr) && (vm_cr & kVmCrSvmDisabled) == 0;
}

// The parts of a VMCB that do not change.
void set_control(Vmcb& vmcb) {
    const auto intercept = [&vmcb](std::uint64_t code) { vmcb.intercepts[(code - 0x60) / 32] |= 1u << code % 32; };
    for (const ExitCode code :
         {kExitInit, kExitCpuid, kExitInvd, kExitInvlpga, kExitPort, kExitMsr, kExitShutdown, kExitWbinvd})
        intercept(code);
    for (std::uint64_t code = kExitVmrun; code <= kExitSkinit; ++code) intercept(code);
    vmcb.port_bitmap = physical_address(port_bitmap.data()).value();
    vmcb.msr_bitmap = physical_address(msr_bitmap.data()).value();
    vmcb.asid = 1;
    vmcb.nested_control = kNestedPaging;
    vmcb.nested_cr3 = nested_pages().root().value();
    vmcb.pat = read_msr(kMsrPat);
    vmcb.dr6 = 0xffff0ff0;
    vmcb.dr7 = 0x400;
}

// What the launcher left counting or sampling would tell the guest of the hypervisor: core, L3 and northbridge counters
// (the first four have a second address), instruction-based sampling.
void silence_counters() {
    constexpr std::uint32_t kIbsFetch = 0xc0011030, kIbsOp = 0xc0011033;
    for (std::uint32_t msr = 0xc0010200; msr < 0xc0010250; msr += 2) (void)try_write_msr(Msr{msr}, 0);
    for (const std::uint32_t msr : {0xc0010000, 0xc0010001, 0xc0010002, 0xc0010003, kIbsFetch, kIbsOp}) {
        (void)try_write_msr(Msr{msr}, 0);
    }
}

}  // namespace

void hold_interrupts() {
    if (!has_svm()) return;
    write_msr(kMsrEfer, read_msr(kMsrEfer) | kEferSvme);
    asm volatile("clgi" : : : "memory");
}

Status enable(std::uint64_t kept_base) {
    if (!has_svm()) return {Error::kUnsupported, "SVM: not there, or disabled by firmware"};
    if ((cpuid(0x80000001).edx & kCpuidGigabytePages) == 0) return {Error::kUnsupported, "1 GiB pages"};
    if ((cpuid(0x8000000a).edx & kCpuidNestedPaging) == 0) return {Error::kUnsupported, "SVM nested paging"};
    GATEHOUSE_ASSIGN(const HostPhysical pages, kept_pages().take(kNestedTablePages));
    nested_pool = memory::PagePool(pages, kNestedTablePages * memory::kPageSize);
    std::uint64_t top_mem2 = 0;
    (void)try_read_msr(kMsrTopMem2, &top_mem2);
    GATEHOUSE_TRY(nested_pages().build(nested_pool, cpuid(0x80000008).eax & 0xff, top_mem2));
    GATEHOUSE_TRY(nested_pages().hide(kept_base, launch::kKeptSize));
    write_msr_bitmap(msr_bitmap);
    GATEHOUSE_TRY(make_vcpu(this_cpu()));
    enable_this_processor(this_cpu());
    const std::uint64_t vm_cr = read_msr(kMsrVmCr);
    if ((vm_cr & kVmCrLaunched) != kVmCrLaunched) return {Error::kUnsupported, "VM_CR: R_INIT, DIS_A20M", vm_cr};
    return {};
}

Status make_vcpu(PerCpu& cpu) {
    GATEHOUSE_ASSIGN(const HostPhysical pages, kept_pages().take(sizeof(Vcpu) / memory::kPageSize));
    cpu.vcpu = new (memory::at_physical(pages)) Vcpu;
    cpu.vcpu->cpu = &cpu;
    set_control(cpu.vcpu->vmcb);
    return {};
}

void enable_this_processor(PerCpu& cpu) {
    write_msr(kMsrVmHsavePa, physical_address(&cpu.vcpu->host_save).value());
    write_msr(kMsrVmCr, read_msr(kMsrVmCr) | kVmCrLaunched);
    require((read_msr(kMsrVmCr) & kVmCrLaunched) == kVmCrLaunched, "VM_CR: R_INIT, DIS_A20M");
    silence_counters();
    asm volatile("vmsave %0" : : "a"(physical_address(&cpu.vcpu->host_vmcb).value()) : "memory");
}

void run_guest(const GuestEntry& entry) {
    port_map().write_bitmap(port_bitmap);
    Vcpu& vcpu = *this_cpu().vcpu;
    Vmcb& vmcb = vcpu.vmcb;
    vmcb.cs = {0x10, kCode64, 0xffffffff, 0};
    vmcb.ds = vmcb.es = vmcb.ss = {0x18, kData32, 0xffffffff, 0};
    vmcb.fs = vmcb.gs = {0, kData32, 0xffffffff, 0};
    vmcb.gdtr = {0, 0, 4 * 8 - 1, entry.gdt};
    vmcb.ldtr = {0, kLocalTable, 0, 0};
    vmcb.tr = {0, kBusyTask, 0xffff, 0};
    vmcb.efer = kEferSvme | kEferLme | kEferLma;
    vmcb.cr0 = kCr0Pg | kCr0Ne | kCr0Et | kCr0Pe;
    vmcb.cr3 = entry.cr3;
    vmcb.cr4 = kCr4Pae;
    vmcb.rflags = 2;
    vmcb.rip = entry.rip;
    vcpu.registers[4] = entry.rsp;
    vcpu.registers[6] = entry.rsi;
    vcpu.waiting = false;
    forget_secrets();
    run(vcpu);
}

void run(Vcpu& vcpu) {
    Vmcb& vmcb = vcpu.vmcb;
    for (;;) {
        if (vcpu.init_requested) enter_init(vcpu);
        if (vcpu.waiting) wait_for_startup(vcpu);

        // First in_guest, then the generation: who changes the table does it the other way round (calls.cpp).
        vcpu.in_guest = true;
        const std::uint64_t generation = nested_pages().generation();
        vmcb.tlb_control = generation != vcpu.seen_generation ? kFlushAll : 0;
        vcpu.seen_generation = generation;
        if (stop_requested()) stop_here();
        if ((vmcb.event_injection & kEventValid) == 0 && vcpu.cpu->nmi_pending.exchange(false)) {
            vmcb.event_injection = kEventValid | kEventNmi | 2;
        }
        vmcb.rax = vcpu.registers[0];
        vmcb.rsp = vcpu.registers[4];
        svm_enter(physical_address(&vcpu.vmcb).value(), physical_address(&vcpu.host_vmcb).value(),
                  vcpu.registers.data());
        vcpu.registers[0] = vmcb.rax;
        vcpu.registers[4] = vmcb.rsp;
        vcpu.in_guest = false;
        handle_exit(vcpu);
    }
}

}  // namespace gatehouse::cpu::svm
