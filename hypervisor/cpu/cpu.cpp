#include "hypervisor/cpu/cpu.hpp"

#include "hypervisor/base/until.hpp"
#include "hypervisor/cpu/apic.hpp"
#include "hypervisor/cpu/exceptions.hpp"
#include "hypervisor/cpu/instructions.hpp"
#include "hypervisor/cpu/per_cpu.hpp"
#include "hypervisor/cpu/svm/vcpu.hpp"
#include "hypervisor/memory/host_page_table.hpp"

extern "C" {
extern const char image_start[], image_rodata[], image_data[], image_end[];
extern const char trampoline[], trampoline_end[], trampoline_data[];
[[noreturn]] void switch_stack(std::uint64_t stack, void (*to)(std::uint64_t), std::uint64_t argument);
}

namespace gatehouse::cpu {
namespace {

// Stack window of a processor, in pages; those not listed are guard pages.
constexpr std::uint64_t kSlotPages = 16;
constexpr std::uint64_t kMainFirst = 1, kMainPages = kStackSize / kPageSize;
constexpr std::uint64_t kExceptionFirst = 9;
constexpr std::uint64_t kNmiFirst = 11;
static_assert(kMaxCpus * kSlotPages * kPageSize <= memory::kStackWindow);

// What decides where an access goes, RAM or elsewhere, and how it is cached (APM vol. 2, 7.7
// and 7.9): every processor gets the BSP's. SYSCFG is first with its MtrrFixDramModEn set,
// without which the fixed ranges' RdMem and WrMem are hidden, and last as it is.
constexpr std::uint64_t kFixedModify = 1u << 19;
constexpr std::uint64_t kCr0Own = 0x8001'0033;  // PG, WP, NE, ET, MP, PE
constexpr std::uint32_t kRoutingMsrs[] = {
    kMsrSyscfg, 0xc0010016, 0xc0010017, 0xc0010018, 0xc0010019, 0xc001001a, kMsrTopMem2, 0xc0010058, 0x200, 0x201,
    0x202,      0x203,      0x204,      0x205,      0x206,      0x207,      0x208,       0x209,      0x20a, 0x20b,
    0x20c,      0x20d,      0x20e,      0x20f,      0x250,      0x258,      0x259,       0x268,      0x269, 0x26a,
    0x26b,      0x26c,      0x26d,      0x26e,      0x26f,      0x2ff,      kMsrSyscfg};
constinit std::array<std::uint64_t, std::size(kRoutingMsrs)> routing{};  // the BSP's
// What nobody can set, or has been measured for all: HWCR's lock of SMM, TSEG, the microcode level.
constexpr std::pair<Msr, std::uint64_t> kSame[] = {
    {kMsrHwcr, 1}, {kMsrSmmAddress, ~0ull}, {kMsrSmmMask, ~0ull}, {kMsrPatchLevel, ~0ull}};
constinit std::array<std::uint64_t, std::size(kSame)> same{};  // the BSP's

// What the trampoline reads (entry.S): page table, stack and PerCpu of whose turn it is, then the hypervisor's own page
// table; how many have come.
struct Lobby {
    std::uint64_t start_cr3, stack, cpu, cr3;
    std::atomic<std::uint32_t> count, turn;
};

constinit std::array<PerCpu, kMaxCpus> cpus{};
constinit PerCpu& bsp = cpus[0];
constinit std::size_t cpus_online = 0;
constinit std::uint64_t kept = 0;
constinit memory::PagePool pool;
constinit memory::HostPageTable host_pages;
constinit memory::PhysicalMemory guest_ram;
constinit memory::NestedPageTable nested;
constinit MmioMap mmio;
constinit IoPortMap ports;

std::uint64_t offset_in_image(const void* label) {
    return static_cast<std::uint64_t>(static_cast<const char*>(label) - image_start);
}

Status make_stacks(PerCpu& cpu) {
    const std::uint64_t slot = memory::kStackVirtual + cpu.index * kSlotPages * kPageSize;
    GATEHOUSE_TRY(host_pages.map_stack(pool, slot + kMainFirst * kPageSize, kMainPages));
    GATEHOUSE_TRY(host_pages.map_stack(pool, slot + kExceptionFirst * kPageSize, 1));
    GATEHOUSE_TRY(host_pages.map_stack(pool, slot + kNmiFirst * kPageSize, 1));
    cpu.stack = slot + (kMainFirst + kMainPages) * kPageSize;
    cpu.task.ist[0] = slot + (kExceptionFirst + 1) * kPageSize;
    cpu.task.ist[1] = slot + (kNmiFirst + 1) * kPageSize;
    return {};
}

std::uint64_t own_value(const std::pair<Msr, std::uint64_t>& row) {
    std::uint64_t value = 0;
    (void)try_read_msr(row.first, &value);
    return value & row.second;
}

void read_routing() {
    for (std::size_t i = 0; i < same.size(); ++i) same[i] = own_value(kSame[i]);
    (void)try_read_msr(kMsrSyscfg, &routing.back());
    (void)try_write_msr(kMsrSyscfg, routing.back() | kFixedModify);
    for (std::size_t i = 0; i + 1 < routing.size(); ++i) (void)try_read_msr(Msr{kRoutingMsrs[i]}, &routing[i]);
    (void)try_write_msr(kMsrSyscfg, routing.back());
}

// As the BSP has it, which has been checked: what ran on an AP before the launch is not trusted. With the cache off and
// empty, as MTRRs are to be changed (APM vol. 2, 7.7.5). One whose registers cannot be set never comes in.
void adopt_routing() {
    for (std::size_t i = 0; i < same.size(); ++i) {
        if (own_value(kSame[i]) != same[i]) halt();
    }
    asm volatile("mov %0, %%cr0; wbinvd" : : "r"(kCr0Own | kCr0Cd) : "memory");
    for (std::size_t i = 0; i < routing.size(); ++i) {
        const Msr msr{kRoutingMsrs[i]};
        std::uint64_t own = 0;
        (void)try_read_msr(msr, &own);
        if (own == routing[i]) continue;
        if (!try_write_msr(msr, routing[i]) || !try_read_msr(msr, &own) || own != routing[i]) halt();
    }
    asm volatile("wbinvd; mov %0, %%cr0" : : "r"(kCr0Own) : "memory");
}

// What every processor sets for itself, on its own page table and stack.
void prepare(PerCpu& cpu) {
    constexpr std::uint64_t kPatReset = 0x0007'0406'0007'0406;  // as after reset (APM vol. 2, 7.8.2)
    cpu.self = &cpu;
    cpu.canary = __builtin_ia32_rdtsc() * 0x9e37'79b9'7f4a'7c15;
    load_tables(cpu);
    write_msr(kMsrPat, kPatReset);
    if (cpu.index != 0) adopt_routing();
    reload_cr3();
    apic::enable();
    cpu.apic_id = apic::id();
    svm::hold_interrupts();
}

void set_control_registers() {
    write_msr(kMsrEfer, (read_msr(kMsrEfer) & kEferSvme) | kEferLme | kEferLma | kEferNxe);
    asm volatile("mov %0, %%cr4" : : "r"(kCr4Pae | kCr4Mce | kCr4Osfxsr | kCr4Osxmmexcpt | choose_extended_state()));
    asm volatile("mov %0, %%cr0" : : "r"(kCr0Own));
}

void wait(std::uint64_t microseconds) {
    (void)until(platform::microseconds, microseconds, [] { return false; });
}

void bsp_main(std::uint64_t base) {
    prepare(bsp);
    hypervisor_main(base);
}

// The page table with which an AP comes from real mode: the first GiB at itself,
// executable, for the trampoline, and the hypervisor's own top entry.
Result<HostPhysical> make_start_table() {
    const auto table = [](HostPhysical at) { return reinterpret_cast<std::uint64_t*>(memory::at_physical(at)); };
    constexpr std::uint64_t kTable = 0x3, kLargePage = 0x83;  // present, writable
    GATEHOUSE_ASSIGN(const HostPhysical root, pool.take(2));
    table(root)[0] = (root + kPageSize) | kTable;
    table(root)[511] = table(host_pages.root())[511];
    table(root + kPageSize)[0] = kLargePage;
    return root;
}

// Lets the next of the lobby in.
Status admit(Lobby& lobby) {
    PerCpu& cpu = cpus[cpus_online];
    cpu.index = static_cast<std::uint32_t>(cpus_online);
    GATEHOUSE_TRY(make_stacks(cpu));
    GATEHOUSE_TRY(svm::make_vcpu(cpu));
    lobby.stack = cpu.stack;
    lobby.cpu = reinterpret_cast<std::uint64_t>(&cpu);
    lobby.turn = cpu.index - 1;
    if (!until(platform::microseconds, 5'000'000, [&cpu] { return cpu.online.load(); })) {
        return {Error::kTimeout, "processor does not come in; number", cpu.index};
    }
    if (cpu.apic_id >= 0xff && !apic::x2apic()) return {Error::kUnsupported, "APIC ID in xAPIC mode", cpu.apic_id};
    ++cpus_online;
    return {};
}

}  // namespace

// From the SLB (through entry.S), on its page tables and stack.
extern "C" [[noreturn]] void bsp_start(std::uint64_t base) {
    write_msr(kMsrFsBase, reinterpret_cast<std::uint64_t>(&bsp));
    bsp.self = &bsp;
    kept = base;
    pool = memory::PagePool(HostPhysical(base + launch::kArenaOffset), launch::kArenaSize);
    build_interrupt_table();
    set_control_registers();
    const memory::ImageSections sections{offset_in_image(image_rodata), offset_in_image(image_data),
                                         offset_in_image(image_end)};
    require(host_pages.build(pool, base + launch::kImageOffset, sections).ok(), "no room for page tables");
    require(make_stacks(bsp).ok(), "no room for stacks");
    cpus_online = 1;
    asm volatile("mov %0, %%cr3" : : "r"(host_pages.root().value()) : "memory");
    switch_stack(bsp.stack, bsp_main, base);
}

// From entry.S, on its own stack. Everything an AP touches here has been prepared by the BSP, which waits.
extern "C" [[noreturn]] void ap_start(PerCpu* cpu) {
    set_control_registers();
    prepare(*cpu);
    svm::enable_this_processor(*cpu);
    cpu->online = true;
    svm::run(*cpu->vcpu);
}

memory::PagePool& kept_pages() { return pool; }
memory::PhysicalMemory& guest_memory() { return guest_ram; }
memory::NestedPageTable& nested_pages() { return nested; }
const MmioMap& mmio_map() { return mmio; }
IoPortMap& port_map() { return ports; }
std::size_t cpu_count() { return cpus_online; }
PerCpu& cpu_at(std::size_t index) { return cpus[index]; }

HostPhysical physical_address(const void* object) {
    const auto address = reinterpret_cast<std::uint64_t>(object);
    if (address < memory::kIdentityLimit) return HostPhysical(address);
    require(address >= launch::kImageVirtual && address < launch::kImageVirtual + launch::kImageMaxSize,
            "physical address of a stack object");
    return HostPhysical(kept + launch::kImageOffset + (address - launch::kImageVirtual));
}

Status map_device(std::uint64_t base, std::uint64_t size) {
    const Status status = host_pages.set_uncached(pool, base, size);
    reload_cr3();
    return status;
}

Status trap_mmio(std::uint64_t base, std::uint64_t size, MmioHandler& handler) {
    GATEHOUSE_TRY(guest_ram.check_outside({base, size}));
    GATEHOUSE_TRY(map_device(base, size));
    GATEHOUSE_TRY(mmio.add(base, size, handler));
    return nested.set(base, size, memory::GuestAccess::kTrap);
}

Status hide_device(std::uint64_t base, std::uint64_t size) {
    GATEHOUSE_TRY(guest_ram.check_outside({base, size}));
    return nested.hide(base, size);
}

Status start_aps(std::uint64_t low_page) {
    if (low_page % kPageSize != 0 || low_page >= 0xa0000) return {Error::kOutOfRange, "trampoline page", low_page};
    const MutableBytes page(memory::at_physical(HostPhysical(low_page)), kPageSize);
    const Bytes code(reinterpret_cast<const std::byte*>(trampoline),
                     static_cast<std::size_t>(trampoline_end - trampoline));
    read_routing();
    copy_bytes(page, code);
    asm volatile("wbinvd" : : : "memory");
    if (!equal_bytes(page.first(code.size()), code)) return {Error::kMismatch, "trampoline page", low_page};
    auto& lobby = *reinterpret_cast<Lobby*>(page.data() + (trampoline_data - trampoline));
    GATEHOUSE_ASSIGN(const HostPhysical start, make_start_table());
    lobby.start_cr3 = start.value();
    lobby.cr3 = host_pages.root().value();
    apic::send(0, apic::kOthers | apic::kCommandInit);
    wait(10'000);
    for (const std::uint64_t then : {200u, 100'000u}) {  // Intel MP specification 1.4, B.4
        apic::send(0, apic::kOthers | apic::kCommandStartup | static_cast<std::uint32_t>(low_page >> 12));
        wait(then);
    }
    // Whole packages (CPUID 8000_0008 ECX[7:0]: threads of one, less one): one that did not come is in nobody's hands.
    const std::uint32_t package = (cpuid(0x80000008).ecx & 0xff) + 1;
    std::uint32_t count = 0;  // the one that has been looked at: the lobby's may grow meanwhile
    if (!until(platform::microseconds, 2'000'000, [&] { return ((count = lobby.count) + 1) % package == 0; })) {
        return {Error::kMismatch, "processor that does not come; counted", count + 1};
    }
    if (count >= kMaxCpus) return {Error::kNoSpace, "processors", count + 1};
    while (cpus_online <= count) GATEHOUSE_TRY(admit(lobby));
    if (lobby.count != count) return {Error::kMismatch, "processor that came late; number", lobby.count};
    std::memset(page.data(), 0xf4, page.size());  // hlt, with interrupts off, wherever in it somebody still is or comes
    constexpr std::uint8_t kAgain[] = {0xeb, 0xfd};  // jmp to the last of them
    copy_bytes(page.last(sizeof(kAgain)), std::as_bytes(std::span(kAgain)));
    GATEHOUSE_TRY(nested.hide(low_page, kPageSize));
    svm::all_taken(low_page);
    return count != 0 ? nested.set(apic::kPage, kPageSize, memory::GuestAccess::kTrapWrites) : Status{};
}

}  // namespace gatehouse::cpu
