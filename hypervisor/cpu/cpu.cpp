#include "hypervisor/cpu/cpu.hpp"

#include <atomic>
#include <new>

#include "hypervisor/base/panic.hpp"
#include "hypervisor/cpu/apic.hpp"
#include "hypervisor/cpu/exceptions.hpp"
#include "hypervisor/cpu/instructions.hpp"
#include "hypervisor/cpu/per_cpu.hpp"
#include "hypervisor/cpu/svm/vcpu.hpp"
#include "hypervisor/launch/layout.hpp"
#include "hypervisor/memory/host_page_table.hpp"

extern "C" {
extern const char image_start[], image_rodata[], image_data[], image_end[];
extern const char trampoline[], trampoline_end[], trampoline_data[], trampoline_lobby[];
extern const std::uint64_t boot_pml4[];
[[noreturn]] void switch_stack(std::uint64_t stack, void (*to)(std::uint64_t), std::uint64_t argument);
}

namespace gatehouse::cpu {
namespace {

using memory::kPageSize;

// Stack window of a processor, in pages; those not listed are guard pages.
constexpr std::uint64_t kSlotPages = 16;
constexpr std::uint64_t kMainFirst = 1, kMainPages = kStackSize / kPageSize;
constexpr std::uint64_t kExceptionFirst = 9;
constexpr std::uint64_t kNmiFirst = 11;
static_assert(kMaxCpus * kSlotPages * kPageSize <= memory::kStackWindow);

// What decides where an access goes, RAM or elsewhere, and how it is cached (APM vol. 2, 7.7 and 7.9): every processor gets
// the BSP's. SYSCFG is first with its MtrrFixDramModEn set, without which the fixed ranges' RdMem and WrMem are hidden,
// and last as it is.
constexpr std::uint64_t kFixedModify = 1u << 19;
constexpr std::uint32_t kRoutingMsrs[] = {
    kMsrSyscfg, 0xc0010016, 0xc0010017, 0xc0010018, 0xc0010019, 0xc001001a, kMsrTopMem2, 0xc0010058, 0x200, 0x201,
    0x202,      0x203,      0x204,      0x205,      0x206,      0x207,      0x208,       0x209,      0x20a, 0x20b,
    0x20c,      0x20d,      0x20e,      0x20f,      0x250,      0x258,      0x259,       0x268,      0x269, 0x26a,
    0x26b,      0x26c,      0x26d,      0x26e,      0x26f,      0x2ff,      kMsrSyscfg};
constinit std::array<std::uint64_t, std::size(kRoutingMsrs)> routing{};  // the BSP's

// The lobby in the trampoline's page (entry.S).
struct Lobby {
    std::atomic<std::uint32_t> count;
    std::atomic<std::uint32_t> turn;
    std::array<std::uint32_t, kMaxCpus - 1> apic_ids;
};

constinit PerCpu bsp;
constinit std::array<PerCpu*, kMaxCpus> cpus{};
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

// What every processor sets for itself, on its own page table and stack.
void prepare(PerCpu& cpu) {
    constexpr std::uint64_t kPatReset = 0x0007'0406'0007'0406;  // as after reset (APM vol. 2, 7.8.2)
    cpu.self = &cpu;
    cpu.canary = read_tsc() * 0x9e37'79b9'7f4a'7c15;
    load_tables(cpu);
    write_msr(kMsrPat, kPatReset);
    apic::enable();
    cpu.apic_id = apic::id();
    svm::hold_interrupts();
}

void read_routing() {
    std::uint64_t syscfg = 0;
    if (!try_read_msr(kMsrSyscfg, &syscfg)) syscfg = 0;
    (void)try_write_msr(kMsrSyscfg, syscfg | kFixedModify);
    for (std::size_t i = 0; i < routing.size(); ++i) (void)try_read_msr(kRoutingMsrs[i], &routing[i]);
    (void)try_write_msr(kMsrSyscfg, syscfg);
    routing.front() = syscfg | kFixedModify;
    routing.back() = syscfg;
}

// As the BSP has it, which has been checked: what ran on an AP before the launch is not trusted. With the cache off and
// empty, as MTRRs are to be changed (APM vol. 2, 7.7.5).
void adopt_routing() {
    asm volatile("mov %0, %%cr0; wbinvd" : : "r"(std::uint64_t{0x80010033} | kCr0Cd) : "memory");
    for (std::size_t i = 0; i < routing.size(); ++i) {
        std::uint64_t own = 0;
        if (try_read_msr(kRoutingMsrs[i], &own) && own != routing[i]) (void)try_write_msr(kRoutingMsrs[i], routing[i]);
    }
    asm volatile("wbinvd; mov %0, %%cr0" : : "r"(std::uint64_t{0x80010033}) : "memory");
}

void set_control_registers() {
    write_msr(kMsrEfer, (read_msr(kMsrEfer) & kEferSvme) | kEferLme | kEferLma | kEferNxe);
    asm volatile("mov %0, %%cr4" : : "r"(kCr4Pae | kCr4Mce | kCr4Osfxsr | kCr4Osxmmexcpt));
    asm volatile("mov %0, %%cr0" : : "r"(std::uint64_t{0x80010033}));  // PG, WP, NE, ET, MP, PE
}

// Waits about `microseconds` or, on a processor slower than 4 GHz, longer.
void wait(std::uint64_t microseconds) {
    const std::uint64_t start = read_tsc();
    while (read_tsc() - start < microseconds * 4000) pause();
}

void bsp_main(std::uint64_t base) {
    prepare(bsp);
    hypervisor_main(base);
}

// Lets number `turn` of the lobby in.
Status admit(Lobby& lobby, std::uint32_t turn, MutableBytes page) {
    constexpr std::uint64_t kOnlineTimeout = 1'000'000;  // microseconds
    const std::uint32_t apic_id = lobby.apic_ids[turn];
    if (apic_id >= 0xff && !apic::x2apic()) return {Error::kUnsupported, "APIC ID beyond xAPIC mode", apic_id};
    GATEHOUSE_ASSIGN(const std::uint64_t own, pool.take((sizeof(PerCpu) + kPageSize - 1) / kPageSize));
    auto* cpu = new (memory::at_physical(own)) PerCpu;
    cpu->index = static_cast<std::uint32_t>(cpus_online);
    GATEHOUSE_TRY(make_stacks(*cpu));
    GATEHOUSE_TRY(svm::make_vcpu(*cpu));
    auto* data = reinterpret_cast<std::uint64_t*>(page.data() + (trampoline_data - trampoline));
    data[0] = physical_address(boot_pml4);
    data[1] = cpu->stack;
    data[2] = reinterpret_cast<std::uint64_t>(cpu);
    data[3] = host_pages.root();
    lobby.turn = turn;
    for (std::uint64_t waited = 0; !cpu->online; waited += 100) {
        if (waited > kOnlineTimeout) return {Error::kTimeout, "processor does not start; APIC ID", apic_id};
        wait(100);
    }
    if (cpu->apic_id != apic_id) return {Error::kMismatch, "processor with two APIC IDs", apic_id};
    cpus[cpus_online++] = cpu;
    return {};
}

}  // namespace

// From entry.S, on the boot page tables and stack.
extern "C" [[noreturn]] void bsp_start(std::uint64_t base) {
    asm volatile("wrmsr"
                 :
                 : "c"(kMsrFsBase), "a"(static_cast<std::uint32_t>(reinterpret_cast<std::uint64_t>(&bsp))),
                   "d"(static_cast<std::uint32_t>(reinterpret_cast<std::uint64_t>(&bsp) >> 32)));
    bsp.self = &bsp;
    kept = base;
    pool = memory::PagePool(base + launch::kArenaOffset, launch::kArenaSize);
    build_interrupt_table();
    set_control_registers();
    const memory::ImageSections sections{offset_in_image(image_rodata), offset_in_image(image_data),
                                         offset_in_image(image_end)};
    require(host_pages.build(pool, base + launch::kImageOffset, sections).ok(), "no room for page tables");
    require(make_stacks(bsp).ok(), "no room for stacks");
    cpus[0] = &bsp;
    cpus_online = 1;
    write_cr3(host_pages.root());
    switch_stack(bsp.stack, bsp_main, base);
}

// From entry.S, on its own stack. Everything an AP touches here has been prepared by the BSP, which waits.
extern "C" [[noreturn]] void ap_start(PerCpu* cpu) {
    set_control_registers();
    prepare(*cpu);
    adopt_routing();
    svm::enable_this_processor(*cpu);
    cpu->online = true;
    svm::run(*cpu->vcpu);
}

memory::PagePool& kept_pages() { return pool; }
std::uint64_t kept_base() { return kept; }
memory::PhysicalMemory& guest_memory() { return guest_ram; }
memory::NestedPageTable& nested_pages() { return nested; }
const MmioMap& mmio_map() { return mmio; }
const IoPortMap& port_map() { return ports; }
std::size_t cpu_count() { return cpus_online; }
PerCpu& cpu_at(std::size_t index) { return *cpus[index]; }

std::uint64_t physical_address(const void* object) {
    const auto address = reinterpret_cast<std::uint64_t>(object);
    if (address < memory::kIdentityLimit) return address;
    require(address >= launch::kImageVirtual && address < launch::kImageVirtual + launch::kImageMaxSize,
            "physical address of a stack object");
    return kept + launch::kImageOffset + (address - launch::kImageVirtual);
}

Status map_device(std::uint64_t base, std::uint64_t size) {
    const Status status = host_pages.set_uncached(pool, base, size);
    write_cr3(host_pages.root());
    return status;
}

Status trap_mmio(std::uint64_t base, std::uint64_t size, MmioHandler& handler) {
    GATEHOUSE_TRY(guest_ram.check_outside(base, size));
    GATEHOUSE_TRY(map_device(base, size));
    GATEHOUSE_TRY(mmio.add(base, size, handler));
    return nested.set(base, size, memory::GuestAccess::kTrap);
}

Status hide_device(std::uint64_t base, std::uint64_t size) {
    GATEHOUSE_TRY(guest_ram.check_outside(base, size));
    return nested.hide(base, size);
}

Status trap_ports(std::uint16_t first, std::uint16_t last, IoPortHandler& handler) {
    return ports.add(first, last, handler);
}

Status start_aps(std::uint64_t low_page) {
    const auto size = static_cast<std::size_t>(trampoline_end - trampoline);
    if (low_page % kPageSize != 0 || low_page >= 0xa0000) return {Error::kOutOfRange, "trampoline page", low_page};
    GATEHOUSE_ASSIGN(const MutableBytes page, guest_ram.guest(low_page, kPageSize));
    const Bytes code(reinterpret_cast<const std::byte*>(trampoline), size);
    read_routing();
    static std::array<std::byte, kPageSize> saved;
    copy_bytes(saved, page);
    copy_bytes(page, code);
    reinterpret_cast<std::uint64_t*>(page.data() + (trampoline_data - trampoline))[0] = physical_address(boot_pml4);
    asm volatile("wbinvd" : : : "memory");
    const std::size_t fixed = static_cast<std::size_t>(trampoline_data - trampoline);
    if (!equal_bytes(page.first(fixed), code.first(fixed))) return {Error::kMismatch, "trampoline page", low_page};
    auto& lobby = *reinterpret_cast<Lobby*>(page.data() + (trampoline_lobby - trampoline));
    apic::send(0, apic::kOthers | apic::kCommandInit);
    wait(10'000);
    for (int i = 0; i < 2; ++i) {  // Intel MP specification 1.4, B.4
        apic::send(0, apic::kOthers | apic::kCommandStartup | static_cast<std::uint32_t>(low_page >> 12));
        wait(200);
    }
    wait(100'000);
    const std::uint32_t count = lobby.count;
    if (count >= kMaxCpus) return {Error::kNoSpace, "processors", count + 1};
    for (std::uint32_t turn = 0; turn < count; ++turn) GATEHOUSE_TRY(admit(lobby, turn, page));
    if (lobby.count != count) return {Error::kMismatch, "processor that came late; number", lobby.count};
    copy_bytes(page, saved);
    return {};
}

}  // namespace gatehouse::cpu
