// The probe: a multiboot program that performs one dynamic launch, or tries what must be refused, and prints what it
// finds on COM1 as "fact NAME HEX", "slb HEX" (the measured image) and "pcr WHEN BANK NUMBER HEX". It judges nothing;
// tests/platform/conformance.py does. The scenario is the last word of its command line.

#include "tests/platform/probe/devices.hpp"
#include "tests/platform/probe/hardware.hpp"
#include "tests/platform/probe/tpm.hpp"

extern "C" {
uint32_t guarded_call(void (*function)(void*), void* argument);
void launch(uint32_t slb);
void ring3(uint32_t slb);
void run_guest(uint32_t vmcb);
void with_gif(void*);
void guest_sends_init();
extern const uint8_t slb_image[], slb_padding[], slb_image_end[];
extern const uint8_t ap_trampoline[], ap_trampoline_end[];
extern const uint32_t exception_addresses[32];
extern uint32_t idt[64];

[[noreturn]] void probe_main(uint32_t multiboot);
[[noreturn]] void after_launch(uint32_t slb);
void ap_main();
[[noreturn]] void unexpected_exception(uint32_t what);

void* memset(void* where, int value, size_t count) {
    auto* byte = static_cast<volatile uint8_t*>(where);
    for (size_t i = 0; i < count; ++i) byte[i] = static_cast<uint8_t>(value);
    return where;
}
}

namespace probe {
namespace {

constexpr uint32_t kSlb = 0x04000000;
constexpr uint32_t kObserved = kSlb + 0x8000;  // where the secure loader image leaves what it found
constexpr uint32_t kScratch = kSlb + 0xc000;   // in the block, beyond the image
constexpr uint32_t kOutside = 0x05000000;      // ordinary memory
constexpr uint32_t kApPage = 0x8;              // the AP starts at 0x8000
constexpr uint32_t kApId = 1;

const char* scenario = "";

bool is(const char* name) {
    const char* word = scenario;
    while (*name && *name == *word) ++name, ++word;
    return *name == *word;
}

// What the AP is asked to do.
enum ApOrder : uint32_t { kApSpin, kApHalt, kApLaunch, kApReport, kApWriteMsr, kApReadMsr, kApReadMemory };
volatile uint32_t ap_order = kApSpin;
volatile uint32_t ap_counter = 0;
Msr ap_msr = Msr::kVmCr;
volatile uint64_t ap_value = 0;
volatile uint32_t ap_address = 0;
volatile uint32_t ap_result = 0;
volatile bool ap_done = false;
volatile bool ap_may_open_gif = false;

void start_ap(ApOrder order) {
    ap_order = order;
    ap_counter = 0;
    ap_done = false;
    const auto length = static_cast<uint32_t>(ap_trampoline_end - ap_trampoline);
    for (uint32_t i = 0; i < length; ++i) store<uint8_t>(kApPage << 12 | i, ap_trampoline[i]);
    send_init(kApId);
    pause_millions(5);
    send_startup(kApId, kApPage);
    while (ap_counter == 0) {}
}

// An INIT and a Startup IPI come before each of these.
void write_msr_of_ap(Msr msr, uint64_t value) {
    ap_msr = msr;
    ap_value = value;
    start_ap(kApWriteMsr);
    while (!ap_done) {}
}
uint64_t read_msr_of_ap(Msr msr) {
    ap_msr = msr;
    start_ap(kApReadMsr);
    while (!ap_done) {}
    return ap_value;
}
uint32_t read_memory_by_ap(uint32_t address) {
    ap_address = address;
    start_ap(kApReadMemory);
    while (!ap_done) {}
    return ap_result;
}

void place_slb() {
    for (uint32_t i = 0; i < 0x10000; ++i) store<uint8_t>(kSlb + i, 0);
    const auto length = static_cast<uint32_t>(slb_image_end - slb_image);
    for (uint32_t i = 0; i < length; ++i) store<uint8_t>(kSlb + i, slb_image[i]);
    if (is("changed-byte")) {
        const uint32_t where = kSlb + static_cast<uint32_t>(slb_padding - slb_image) + 200;
        store<uint8_t>(where, load<uint8_t>(where) ^ 0x01);
    }
    if (is("length-zero")) store<uint16_t>(kSlb + 2, 0);
    print("slb ");
    print_hex(reinterpret_cast<const uint8_t*>(kSlb), load<uint16_t>(kSlb + 2));
    print("\n");
}

void launch_slb(void*) { launch(kSlb + 0x1234); }  // bits 15:0 of EAX do not count

// An INIT arrives when the AP's thread comes to run, and until then SKINIT is refused: so the launch is tried again.
uint32_t launch_attempts = 1;
void park_ap() {
    send_init(kApId);
    launch_attempts = 200;
}
void launch_slb_from_ring3(void*) { ring3(kSlb); }

struct MsrWrite {
    Msr msr;
    uint64_t value;
};
uint32_t try_write(Msr msr, uint64_t value) {
    MsrWrite write{msr, value};
    return guarded_call(
        [](void* argument) {
            const auto* wanted = static_cast<MsrWrite*>(argument);
            write_msr(wanted->msr, wanted->value);
        },
        &write);
}

void print_vm_cr(const char* name) { print_fact(name, read_msr(Msr::kVmCr)); }

// ---- a guest of a few instructions, in this program's own flat address space ----

alignas(4096) uint8_t vmcb[4096];
alignas(4096) uint8_t host_save[4096];

template <typename T>
void vmcb_set(uint32_t offset, T value) {
    store<T>(reinterpret_cast<uint32_t>(vmcb) + offset, value);
}

// VMCB fields by their offsets (APM vol. 2, appendix B).
void run_small_guest(uint32_t intercepts, uint32_t exceptions) {
    write_msr(Msr::kEfer, read_msr(Msr::kEfer) | kEferSvme);
    write_msr(Msr::kVmHsavePa, reinterpret_cast<uint32_t>(host_save));
    vmcb_set<uint32_t>(0x008, exceptions);
    vmcb_set<uint32_t>(0x00c, intercepts);
    vmcb_set<uint32_t>(0x010, 1);  // VMRUN
    vmcb_set<uint32_t>(0x058, 1);  // ASID
    for (uint32_t segment = 0x400; segment <= 0x430; segment += 0x10) {
        vmcb_set<uint16_t>(segment, segment == 0x410 ? 0x08 : 0x10);
        vmcb_set<uint16_t>(segment + 2, segment == 0x410 ? 0xc9b : 0xc93);
        vmcb_set<uint32_t>(segment + 4, 0xffffffff);
    }
    vmcb_set<uint16_t>(0x492, 0x8b);  // TR: busy task
    vmcb_set<uint64_t>(0x4d0, kEferSvme);
    vmcb_set<uint64_t>(0x558, 0x11);  // CR0: PE, ET
    vmcb_set<uint64_t>(0x568, 0xffff0ff0);
    vmcb_set<uint64_t>(0x560, 0x400);
    vmcb_set<uint64_t>(0x570, 2);
    vmcb_set<uint64_t>(0x578, reinterpret_cast<uint32_t>(guest_sends_init));
    vmcb_set<uint64_t>(0x5d8, kOutside + 0x10000);
    run_guest(reinterpret_cast<uint32_t>(vmcb));
    print_fact("exit_code", load<uint64_t>(reinterpret_cast<uint32_t>(vmcb) + 0x70));
    print_fact("exit_info1", load<uint64_t>(reinterpret_cast<uint32_t>(vmcb) + 0x78));
    print_fact("after_exit", guarded_call(with_gif, nullptr));
}

// ---- DMA, by QEMU's edu device (docs/specs/edu.rst) ----

struct Edu {
    uint32_t registers = 0;
    static constexpr uint32_t kBuffer = 0x40000;

    bool find() {
        for (uint32_t device = 0; device < 32; ++device)
            if (pci_read(device, 0, 0) == 0x11e81234) {
                pci_write(device, 0, 4, pci_read(device, 0, 4) | 6);  // memory, bus master
                registers = pci_read(device, 0, 0x10) & ~0xfu;
                return true;
            }
        return false;
    }
    void transfer(uint32_t from, uint32_t to, uint32_t command) const {
        store<uint32_t>(registers + 0x80, from);
        store<uint32_t>(registers + 0x88, to);
        store<uint32_t>(registers + 0x90, 8);
        store<uint32_t>(registers + 0x98, command | 1);
        while (load<uint32_t>(registers + 0x98) & 1) {}
    }
    uint64_t read(uint32_t address) const {  // what the device reads there, left in ordinary memory
        transfer(address, kBuffer, 0);
        store<uint64_t>(kOutside, 0);
        transfer(kBuffer, kOutside, 2);
        return load<uint64_t>(kOutside);
    }
    void write(uint32_t address, uint64_t value) const {
        store<uint64_t>(kOutside, value);
        transfer(kOutside, kBuffer, 0);
        transfer(kBuffer, address, 2);
    }
};

constexpr uint64_t kByCpu = 0x1111222233334444, kByDevice = 0x5555666677778888;

void print_dma(const char* read_name, const char* write_name) {
    Edu edu;
    if (!edu.find()) return;
    store<uint64_t>(kScratch, kByCpu);
    print_fact(read_name, edu.read(kScratch));
    edu.write(kScratch, kByDevice);
    print_fact(write_name, load<uint64_t>(kScratch));
}

// Register 384h of function 0:18.0, in the memory-mapped configuration space that the firmware has set up.
uint32_t protection_register() { return (pci_read(0, 0, 0x60) & 0xf0000000) + (0x18 << 15) + 0x384; }

// The IOMMU with a device table of zeros (entries that are not valid let everything pass) of so many 4 KiB pages.
void set_device_table(uint32_t pages) {
    constexpr uint32_t kIommu = 0xfed80000, kTable = 0x06000000;
    for (uint32_t i = 0; i < pages << 12; i += 4) store<uint32_t>(kTable + i, 0);
    store<uint64_t>(kIommu + 0x00, kTable | (pages - 1));
    store<uint64_t>(kIommu + 0x18, 1);
}

// Whether, with port 92h told to mask address bit 20, memory at an odd megabyte is that of the even one below it.
bool a20_is_masked() {
    store<uint32_t>(kOutside, 1);
    store<uint32_t>(kOutside + 0x100000, 2);
    out8(0x92, static_cast<uint8_t>(in8(0x92) & ~3));
    pause_millions(1);
    const bool masked = load<uint32_t>(kOutside + 0x100000) == 1;
    out8(0x92, static_cast<uint8_t>((in8(0x92) | 2) & ~1));
    pause_millions(1);
    return masked;
}

// ---- which memory is RAM: SYSCFG, TOP_MEM, IORR, fixed-range MTRRs, HWCR (APM vol. 2, 7.9) ----

struct NamedMsr {
    const char* name;
    Msr msr;
    uint64_t value;  // written, to be found again
};
constexpr NamedMsr kMemoryMsrs[] = {
    {"syscfg", Msr::kSyscfg, kSyscfgMtrrFixDramModEn},
    {"hwcr", Msr::kHwcr, 0x40},
    {"iorr_base", Msr::kIorrBase0, 0xfd000018},
    {"iorr_mask", Msr::kIorrMask1, 0xffff000800},
    {"top_mem", Msr::kTopMem, 0x01800000},
    {"top_mem2", Msr::kTopMem2, 0x240000000},
    {"mtrr_fixed", Msr::kMtrrFix64K, 0x1e1e1e1e1e1e1e1e},
    {"mtrr_default", Msr::kMtrrDefaultType, 0xc06},
};

void print_memory_registers() {
    print_fact("patch_level", read_msr(Msr::kPatchLevel));
    for (const NamedMsr& msr : kMemoryMsrs) print_fact(msr.name, read_msr(msr.msr));
    write_msr(Msr::kHwcr, 1);
    write_msr(Msr::kHwcr, 0);
    print_fact("hwcr_locked", read_msr(Msr::kHwcr));
    write_msr(Msr::kMtrrFix64K, 0x0606060606060606);
    print_fact("mtrr_fixed_hidden", read_msr(Msr::kMtrrFix64K));
    write_msr(Msr::kSyscfg, read_msr(Msr::kSyscfg) | kSyscfgMtrrFixDramModEn);
    print_fact("mtrr_fixed_shown", read_msr(Msr::kMtrrFix64K));
}

// Each processor has its own, and keeps them over INIT.
void print_memory_registers_after_init() {
    print_fact("syscfg_before", read_msr(Msr::kSyscfg));
    print_fact("top_mem_before", read_msr(Msr::kTopMem));
    for (const NamedMsr& msr : kMemoryMsrs) write_msr_of_ap(msr.msr, msr.value);
    for (const NamedMsr& msr : kMemoryMsrs) print_fact(msr.name, read_msr_of_ap(msr.msr));
    print_fact("syscfg_other", read_msr(Msr::kSyscfg));
    print_fact("top_mem_other", read_msr(Msr::kTopMem));
}

// Memory in the sixth field of the first register, and the firmware in the first of another.
void print_fixed_ranges() {
    constexpr uint32_t kPage = 0x50000, kFirmware = 0xf0000;
    constexpr uint64_t kField = uint64_t{0xff} << 40;
    const uint64_t syscfg = read_msr(Msr::kSyscfg) | kSyscfgMtrrFixDramEn | kSyscfgMtrrFixDramModEn;
    write_msr(Msr::kSyscfg, syscfg);
    const uint64_t all = read_msr(Msr::kMtrrFix64K);
    const auto set_field = [&](uint64_t bits) { write_msr(Msr::kMtrrFix64K, (all & ~kField) | bits << 40); };

    store<uint32_t>(kPage, 0x11);
    set_field(kMtrrWrMem);
    print_fact("unread", load<uint32_t>(kPage));

    store<uint32_t>(kPage, 0x22);
    set_field(kMtrrRdMem);
    print_fact("unwritten", load<uint32_t>(kPage));
    store<uint32_t>(kPage, 0x33);
    print_fact("unwritten_kept", load<uint32_t>(kPage));
    set_field(0);
    store<uint32_t>(kPage, 0x44);
    print_fact("closed", load<uint32_t>(kPage));
    print_fact("closed_other", read_memory_by_ap(kPage));
    write_msr(Msr::kSyscfg, syscfg & ~kSyscfgMtrrFixDramEn);
    print_fact("disabled", load<uint32_t>(kPage));
    write_msr(Msr::kSyscfg, syscfg);
    set_field(kMtrrRdMem | kMtrrWrMem);
    print_fact("opened", load<uint32_t>(kPage));

    const uint64_t firmware = read_msr(Msr::kMtrrFix4KF0);
    const uint32_t code = load<uint32_t>(kFirmware);
    write_msr(Msr::kMtrrFix4KF0, 0);
    print_fact("firmware_closed", load<uint32_t>(kFirmware));
    write_msr(Msr::kMtrrFix4KF0, firmware);
    print_fact("firmware_same", load<uint32_t>(kFirmware) == code);
}

// ---- scenarios that end without a launch, or prepare one ----

void prepare() {
    if (is("ap-running") || is("ap-halted")) {
        start_ap(is("ap-running") ? kApSpin : kApHalt);
        pause_millions(20);
        print_fact("fault", guarded_call(launch_slb, nullptr));
        print_pcrs("refused");
        park_ap();
    } else if (is("on-ap")) {
        start_ap(kApLaunch);
        while (!ap_done) {}
        print_fact("fault", ap_result);
        print_pcrs("refused");
        finish(0);
    } else if (is("ring3")) {
        print_fact("fault", guarded_call(launch_slb_from_ring3, nullptr));
        print_pcrs("refused");
        finish(0);
    } else if (is("no-feature")) {
        print_fact("fault", guarded_call(launch_slb, nullptr));
        print_pcrs("refused");
        write_msr(Msr::kEfer, kEferSvme);
    } else if (is("svm-disabled")) {
        print_fact("reserved_bit", try_write(Msr::kVmCr, 1 << 5));
        print_fact("enable", try_write(Msr::kEfer, kEferSvme));
        print_fact("disable_while_enabled", try_write(Msr::kVmCr, kVmCrSvmdis));
        write_msr(Msr::kEfer, 0);
        print_fact("disable", try_write(Msr::kVmCr, kVmCrSvmdis));
        print_fact("enable_while_disabled", try_write(Msr::kEfer, kEferSvme));
        print_fact("key", try_write(Msr::kSvmKey, 0x123456789));
        write_msr(Msr::kVmCr, kVmCrSvmdis | kVmCrLock);
        write_msr(Msr::kVmCr, 0);
        print_vm_cr("locked");
        write_msr(Msr::kSvmKey, 0x123);
        write_msr(Msr::kVmCr, 0);
        print_vm_cr("locked_wrong_key");
        write_msr(Msr::kSvmKey, 0x123456789);
        write_msr(Msr::kVmCr, 0);
        print_vm_cr("unlocked");
        write_msr(Msr::kVmCr, kVmCrSvmdis | kVmCrLock);
    } else if (is("init-and-lock")) {
        constexpr uint32_t kBits[] = {kVmCrSvmdis, kVmCrSvmdis | kVmCrLock};
        for (const uint32_t bits : kBits) {
            write_msr_of_ap(Msr::kVmCr, bits);
            print_fact(bits & kVmCrLock ? "locked" : "unlocked", read_msr_of_ap(Msr::kVmCr));
        }
        finish(0);
    } else if (is("memory-registers")) {
        print_memory_registers();
        finish(0);
    } else if (is("memory-registers-after-init")) {
        print_memory_registers_after_init();
        finish(0);
    } else if (is("fixed-ranges")) {
        print_fixed_ranges();
        finish(0);
    } else if (is("queued-commands")) {
        print_queued_commands();
        finish(0);
    } else if (is("rogue")) {
        print_rogue();
        finish(0);
    } else if (is("rogue-behind-iommu")) {
        print_rogue_behind_iommu(set_device_table);
        finish(0);
    } else if (is("rogue-reset")) {
        print_rogue_reset();
        finish(0);
    } else if (is("a20")) {
        print_fact("masked_before", a20_is_masked());
    } else if (is("ap-after-launch")) {
        park_ap();
    } else if (is("init-intercepted")) {
        write_msr(Msr::kVmCr, kVmCrRInit);
        run_small_guest(1 << 3, 0);
        finish(0);
    } else if (is("init-redirected-in-guest")) {
        write_msr(Msr::kVmCr, kVmCrRInit);
        run_small_guest(0, 1u << 30);
        finish(0);
    } else if (is("dma")) {
        print_dma("read_before", "write_before");
    } else if (is("device-table")) {
        set_device_table(2);
        print_dma("read_covered", "write_covered");
        set_device_table(1);
        print_dma("read_beyond", "write_beyond");
        finish(0);
    } else if (is("locality-active")) {
        tpm_request();
    }
}

void print_entry_state(uint32_t slb) {
    static constexpr const char* kNames[] = {"ebx",    "ecx", "edx", "esi", "edi", "ebp", "esp",
                                             "eflags", "cs",  "ss",  "cr0", "cr4", "ds",  "eax"};
    for (uint32_t i = 0; i < sizeof kNames / sizeof kNames[0]; ++i)
        print_fact(kNames[i], load<uint32_t>(kObserved + 4 * i));
    print_fact("slb_base", slb);
    print_fact("efer", read_msr(Msr::kEfer));
    print_vm_cr("vm_cr");
    print_fact("star", read_msr(Msr::kStar));
    print_fact("pat", read_msr(Msr::kPat));
    uint32_t mxcsr = 0;
    asm volatile("movl %%cr4, %%eax; orl $0x200, %%eax; movl %%eax, %%cr4; stmxcsr %0" : "=m"(mxcsr)::"eax");
    print_fact("mxcsr", mxcsr);
    uint32_t version;
    asm volatile("cpuid" : "=a"(version) : "a"(1) : "ebx", "ecx", "edx");
    print_fact("cpuid_version", version);
}

void report_after_launch() {
    if (is("init-held")) {
        write_msr(Msr::kEfer, kEferSvme);  // for CLGI
        send_init(0);
        pause_millions(20);
        print_fact("init_held", 1);
        print_fact("on_gif", guarded_call(with_gif, nullptr));
        print_fact("on_gif_again", guarded_call(with_gif, nullptr));
    } else if (is("init-taken")) {
        write_msr(Msr::kVmCr, 0);
        send_init(0);
        pause_millions(20);
        print_fact("init_held", 1);
        with_gif(nullptr);
        print_fact("init_lost", 1);
    } else if (is("a20")) {
        print_fact("masked_after", a20_is_masked());
    } else if (is("ap-after-launch")) {
        start_ap(kApReport);
        pause_millions(20);
        send_init(kApId);
        pause_millions(20);
        const uint32_t before = ap_counter;
        pause_millions(20);
        print_fact("ap_runs_on", ap_counter != before);
        ap_may_open_gif = true;
        while (!ap_done) {}
        print_fact("ap_on_gif", ap_result);
    } else if (is("dma")) {
        print_fact("protection", load<uint32_t>(protection_register()) & 1);
        print_dma("read_after", "write_after");
        store<uint32_t>(protection_register(), 0);
        print_fact("protection_released", load<uint32_t>(protection_register()) & 1);
        print_dma("read_released", "write_released");
    }
}

}  // namespace

void print(const char* text) {
    for (; *text; ++text) {
        while (!(in8(0x3fd) & 0x20)) {}
        out8(0x3f8, static_cast<uint8_t>(*text));
    }
}

void print_hex(const uint8_t* bytes, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        const char digits[] = {"0123456789abcdef"[bytes[i] >> 4], "0123456789abcdef"[bytes[i] & 15], 0};
        print(digits);
    }
}

void print_fact(const char* name, uint64_t value) {
    uint8_t bytes[8];
    for (uint32_t i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(value >> (56 - 8 * i));
    print("fact ");
    print(name);
    print(" ");
    print_hex(bytes, sizeof bytes);
    print("\n");
}

void finish(uint8_t code) {
    print("end\n");
    out8(0xf4, code);
    for (;;) asm volatile("hlt");
}

}  // namespace probe

using namespace probe;

void unexpected_exception(uint32_t what) {
    print_fact("unexpected_exception", what);
    finish(1);
}

void ap_main() {
    switch (ap_order) {
        case kApHalt: ap_counter = 1; return;  // to a loop of HLT, interrupts off: halted, but not in INIT
        case kApLaunch:
            ap_counter = 1;
            ap_result = guarded_call(launch_slb, nullptr);
            ap_done = true;
            return;
        case kApReport:
            print_vm_cr("ap_vm_cr");
            write_msr(Msr::kEfer, kEferSvme);  // for CLGI
            while (!ap_may_open_gif) ap_counter = ap_counter + 1;
            ap_result = guarded_call(with_gif, nullptr);
            ap_done = true;
            return;
        case kApWriteMsr:
            ap_counter = 1;
            write_msr(ap_msr, ap_value);
            ap_done = true;
            return;
        case kApReadMsr:
            ap_counter = 1;
            ap_value = read_msr(ap_msr);
            ap_done = true;
            return;
        case kApReadMemory:
            ap_counter = 1;
            ap_result = load<uint32_t>(ap_address);
            ap_done = true;
            return;
        default:
            for (;;) ap_counter = ap_counter + 1;
    }
}

void probe_main(uint32_t multiboot) {
    for (uint32_t i = 0; i < 32; ++i) {
        idt[2 * i] = 0x08u << 16 | (exception_addresses[i] & 0xffff);
        idt[2 * i + 1] = (exception_addresses[i] & 0xffff0000) | 0x8e00;
    }
    const auto* command_line = reinterpret_cast<const char*>(load<uint32_t>(multiboot + 16));
    scenario = command_line;
    for (const char* next = command_line; *next; ++next)
        if (*next == ' ') scenario = next + 1;

    print("scenario ");
    print(scenario);
    print("\n");
    print_pcrs("before");
    tpm_relinquish();
    write_msr(Msr::kStar, 0x123456789abcdef0);
    place_slb();
    prepare();
    const uint32_t mxcsr = 0x1fa0;  // not the value after RESET
    asm volatile("movl %%cr4, %%eax; orl $0x200, %%eax; movl %%eax, %%cr4; ldmxcsr %0" ::"m"(mxcsr) : "eax");
    uint32_t fault = 0;  // comes back only by an exception
    for (; launch_attempts > 0; --launch_attempts) {
        fault = guarded_call(launch_slb, nullptr);
        pause_millions(5);
    }
    print_fact("fault_of_launch", fault);
    finish(1);
}

void after_launch(uint32_t slb) {
    print_entry_state(slb);
    print_pcrs("after");
    report_after_launch();
    finish(0);
}
