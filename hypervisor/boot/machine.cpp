#include "hypervisor/boot/machine.hpp"

#include <algorithm>

#include "hypervisor/base/log.hpp"
#include "hypervisor/cpu/console_log.hpp"
#include "hypervisor/cpu/instructions.hpp"
#include "hypervisor/cpu/per_cpu.hpp"
#include "hypervisor/platform/io.hpp"

namespace gatehouse::boot {
namespace {

constexpr unsigned kLocality = 2;

// What the guest may not change at will, by class code (PCI Code and ID Assignment 1.11).
constexpr struct {
    std::uint32_t code;  // class << 16 | subclass << 8 | programming interface
    std::uint32_t mask;
    guest::FunctionKind kind;
} kProtectedClasses[] = {{0x010601, 0xffffff, guest::FunctionKind::kDisk},
                         {0x060000, 0xffff00, guest::FunctionKind::kReadOnly},
                         {0x060100, 0xffff00, guest::FunctionKind::kReadOnly},
                         {0x060400, 0xffff00, guest::FunctionKind::kBridge},
                         {0x080600, 0xffff00, guest::FunctionKind::kReadOnly}};

constexpr std::size_t kAbar = 5;  // BAR of an AHCI controller's registers

constexpr std::uint16_t kGeneralDomain = 1;
constexpr std::uint16_t kFirstDiskDomain = 2;

constexpr std::uint64_t kFchRegisters = 0xfed80000;  // the FCH's PM and ACPI registers once more, in memory

}  // namespace

Machine::Machine(std::uint64_t kept_base)
    : kept_base_(kept_base), doorbell_(quotes_, kept(launch::kMailboxOffset, launch::kMailboxSize)) {}

std::uint64_t Machine::PciPorts::ecam_address(guest::FunctionId function, std::uint16_t offset) const {
    const std::uint8_t bus = static_cast<std::uint8_t>(function >> 8);
    if (ecam.base == 0 || bus > ecam.last_bus) return 0;
    return ecam.base + (std::uint64_t{function} << 12) + offset;
}

std::uint32_t Machine::PciPorts::read(guest::FunctionId function, std::uint16_t offset, unsigned size) {
    if (offset < 0x100) return platform::read_config(function, offset, size);
    const std::uint64_t address = ecam_address(function, offset);
    if (address == 0) return 0xffffffff;
    if (size == 1) return platform::mapped<std::uint8_t>(address);
    if (size == 2) return platform::mapped<std::uint16_t>(address);
    return platform::mapped<std::uint32_t>(address);
}

void Machine::PciPorts::write(guest::FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) {
    if (offset < 0x100) return platform::write_config(function, offset, size, value);
    const std::uint64_t address = ecam_address(function, offset);
    if (address == 0) return;
    if (size == 1) platform::mapped<std::uint8_t>(address) = static_cast<std::uint8_t>(value);
    if (size == 2) platform::mapped<std::uint16_t>(address) = static_cast<std::uint16_t>(value);
    if (size == 4) platform::mapped<std::uint32_t>(address) = value;
}

void Machine::Power::prepare_stop() {
    cpu::prepare_stop();
    cpu::set_console(true);
    log("gatehouse: keys wiped");
}

void Machine::Power::wait_for_the_end() {
    (void)until(platform::microseconds, 2'000'000, [] { return false; });
    cpu::pulse_reset();
}

// The SLB's word and the launcher's. The launcher's is copied into our own memory by the parser.
Status Machine::read_blocks() {
    const MutableBytes hand_off = kept(launch::kHandOffOffset, launch::kHandOffSize);
    GATEHOUSE_ASSIGN(hand_off_, launch::parse_hand_off(hand_off));
    event_log_ = {hand_off.subspan(sizeof(hand_off_)), hand_off_.event_log_size, hand_off_.all_banks()};
    GATEHOUSE_TRY(
        launch::parse_launch_block(kept(launch::kLaunchBlockOffset, launch::kLaunchBlockSize), kept_base_, block_));
    GATEHOUSE_TRY(ram_.read());
    GATEHOUSE_TRY(build_memory_map(block_, ram_, map_));
    return {};
}

Status Machine::start_tpm() {
    GATEHOUSE_TRY(transport_.open(kLocality));
    // The banks that the SLB extended must be all of the active ones: one left alone could be replayed.
    GATEHOUSE_ASSIGN(const tpm::BankList banks, tpm_.active_banks());
    if (!std::ranges::equal(banks.banks(), hand_off_.all_banks())) {
        return {Error::kMismatch, "active PCR banks", banks.count};
    }
    return {};
}

Status Machine::measure() {
    const MutableBytes room = kept(launch::kModulesOffset, launch::kModulesSize);
    GATEHOUSE_ASSIGN(payload_, find_payload(block_, map_, ram_, *this, room));
    GATEHOUSE_TRY(measure_payload(measurer_, payload_));
    GATEHOUSE_TRY(show_pcr(evidence::kLaunchPcr));
    return show_pcr(evidence::kPayloadPcr);
}

Status Machine::show_pcr(std::uint32_t pcr) {
    GATEHOUSE_ASSIGN(const Digest value, tpm_.pcr_read(HashAlgorithm::kSha256, pcr));
    log("gatehouse: PCR ", std::uint64_t{pcr}, " ", HexBytes{value.bytes()});
    return {};
}

Status Machine::check_policy() {
    // The TPM would refuse anyway; this says why.
    if (hand_off_.dynamic_launch == 0) return {Error::kRefused, "no dynamic launch: PCR 17 held no measurement"};
    GATEHOUSE_ASSIGN(policy_, read_policy(payload_));
    if (hand_off_.iommu_count == 0 && !policy_.bundle.has(policies::BundleFlag::kAllowNoIommu)) {
        return {Error::kRefused, "no IOMMU: any device could read the disk key"};
    }
    return {};
}

// Four words of RDRAND and 32 bytes of the TPM's. Processors have returned
// all ones with CF = 1: such words, and repeated ones, are none.
Status Machine::seed_random() {
    std::array<std::byte, 64> entropy{};
    std::array<unsigned long long, 4> words{};
    constexpr int kAttempts = 100;
    std::size_t count = 0;
    for (int i = 0; i < kAttempts && count < words.size(); ++i) {
        unsigned long long value = 0;
        unsigned char good = 0;
        asm volatile("rdrand %0; setc %1" : "=r"(value), "=q"(good));
        const bool fresh = std::find(words.begin(), words.begin() + count, value) == words.begin() + count;
        if (good != 0 && fresh && value != 0 && value != ~0ull) words[count++] = value;
    }
    if (count != words.size()) return {Error::kDeviceError, "RDRAND", count};
    std::memcpy(entropy.data(), words.data(), sizeof(words));
    gatehouse::wipe(words.data(), sizeof(words));
    GATEHOUSE_TRY(tpm_.get_random(MutableBytes(entropy).subspan(32)));
    random_.seed(entropy);
    gatehouse::wipe(entropy);
    return {};
}

Bytes Machine::view(std::uint64_t physical, std::uint64_t size) {
    const Extent extent{physical, size};
    const bool good = physical >= memory::kPageSize && ram_.check(extent, "ACPI table").ok() &&
                      extent.end() <= memory::kIdentityLimit && !extent.overlaps({kept_base_, launch::kKeptSize});
    return good ? Bytes(memory::at_physical(physical), size) : Bytes{};
}

// acpi = machine: the tables that the guest will get, into PCR 19.
Status Machine::measure_tables() {
    constexpr std::uint64_t kOffset = launch::kGuestTablesOffset + platform::kGuestTablesSize;
    GATEHOUSE_TRY(tables_.copy(block_.rsdp, *this, chipset_.pm1_control,
                               kept(kOffset, launch::kGuestTablesSize - platform::kGuestTablesSize),
                               kept_base_ + kOffset));
    for (const platform::AcpiTable& table : tables_.all()) {
        const platform::AcpiTableName name = platform::acpi_table_name(table.bytes);
        const evidence::Measurement measurement{
            evidence::kMachinePcr, evidence::MeasurementTag::kAcpiTable, {name.data(), name.size()}};
        GATEHOUSE_TRY(measurer_.extend(measurement, table.bytes));
    }
    tables_.link();
    claims_.acpi = evidence::Acpi::kMachine;
    return {};
}

// What the hardware itself says of the machine, into PCR 19.
Status Machine::measure_machine() {
    evidence::MachineFacts& facts = claims_.machine;
    std::uint64_t microcode = 0, hwcr = 0;
    if (!cpu::try_read_msr(0x8b, &microcode)) microcode = 0;
    if (!cpu::try_read_msr(cpu::kMsrHwcr, &hwcr)) hwcr = 0;
    facts.processor_signature = cpu::cpuid(1).eax;
    facts.microcode = static_cast<std::uint32_t>(microcode);
    facts.smm_locked = (hwcr & 1) != 0;
    facts.processors = static_cast<std::uint16_t>(cpu::cpu_count());
    // With acpi = machine an authority has approved the machine as it is.
    const bool machine_acpi = policy_.bundle.has(policies::BundleFlag::kMachineAcpi);
    if (!facts.smm_locked && !machine_acpi) return {Error::kRefused, "SMM is not locked", hwcr};
    for (const memory::IommuPlace& place : iommus_.all()) {
        facts.iommus[facts.iommu_count++] = {place.function, place.registers};
    }
    std::array<std::byte, evidence::kMaxMachineFactsSize> encoded;
    GATEHOUSE_ASSIGN(const std::size_t size, evidence::encode_machine_facts(facts, encoded));
    GATEHOUSE_TRY(measurer_.extend(evidence::kMachineMeasurement, Bytes(encoded).first(size)));
    if (machine_acpi) GATEHOUSE_TRY(measure_tables());
    GATEHOUSE_TRY(show_pcr(evidence::kMachinePcr));
    // Only now: the authority approves the value that the line before shows.
    if (machine_acpi && !policy_.machine) return {Error::kNotFound, "machine approval"};
    return {};
}

Status Machine::find_devices() {
    GATEHOUSE_ASSIGN(chipset_, platform::find_chipset());
    GATEHOUSE_ASSIGN(pci_.ecam, platform::ecam_window(platform::read_msr(platform::kMmioConfigurationBase)));
    Status status;
    platform::for_each_function([&](platform::FunctionId function) {
        const std::uint32_t code = platform::class_of(function);
        for (const auto& [wanted, mask, kind] : kProtectedClasses) {
            if (status.ok() && (code & mask) == wanted) status = config_.protect(function, kind);
        }
    });
    return status;
}

void Machine::set_device(guest::FunctionId function, const memory::DmaDomain& domain) {
    std::byte* const table = memory::at_physical(kept_base_ + launch::kDeviceTableOffset);
    reinterpret_cast<memory::DeviceTableEntry*>(table)[function] = memory::device_table_entry(domain);
}

Status Machine::start_iommus() {
    GATEHOUSE_ASSIGN(iommus_, memory::find_iommus(ram_));
    if (iommus_.count != hand_off_.iommu_count) return {Error::kMismatch, "number of IOMMUs", iommus_.count};
    for (const memory::IommuPlace& place : iommus_.all()) {
        GATEHOUSE_TRY(cpu::map_device(place.registers, memory::kIommuRegisterSpace));
    }
    return general_dma_.create(cpu::kept_pages());
}

Status Machine::refresh_iommus() {
    for (std::size_t i = 0; i < iommus_.count; ++i) {
        const std::uint64_t queues = memory::kIommuQueuesOffset + i * memory::kIommuQueuesSize;
        memory::IommuUnit unit(iommus_.places[i].registers, kept(queues, memory::kIommuQueuesSize),
                               kept_base_ + queues);
        GATEHOUSE_TRY(unit.adopt(kept_base_ + launch::kDeviceTableOffset));
        GATEHOUSE_TRY(unit.invalidate_all());
    }
    return {};
}

Result<Extent> Machine::registers_of(guest::FunctionId controller) const {
    const Extent bar = config_.memory_bar(controller, kAbar);
    if (bar.length < ata::ahci::Controller::kRegisterSpace / 2 || bar.end() > memory::kIdentityLimit ||
        ram_.reached_by(bar)) {
        return {Error::kOutOfRange, "disk controller: ABAR", bar.base};
    }
    return bar;
}

Status Machine::open_controller(guest::FunctionId function) {
    for (std::size_t other = 0; other < kAbar; ++other) {  // vendor registers, MSI-X tables: nobody's
        const Extent hidden = config_.memory_bar(function, other);
        if (hidden.length != 0 && hidden.base != 0) GATEHOUSE_TRY(cpu::hide_device(hidden.base, hidden.length));
    }
    GATEHOUSE_ASSIGN(const Extent bar, registers_of(function));
    constexpr std::uint64_t kAllArenas = 0x400000;  // of the kept region's 6 MiB
    const auto number = static_cast<std::uint64_t>(std::ranges::count(
        config_.protected_functions(), guest::FunctionKind::kDisk, &guest::ConfigFilter::Function::kind));
    const std::uint64_t arena_size = kAllArenas / number & ~(memory::kPageSize - 1);
    GATEHOUSE_ASSIGN(const std::uint64_t arena, cpu::kept_pages().take(arena_size / memory::kPageSize));
    Controller& controller = controllers_[controller_count_];
    controller.function = function;
    controller.registers = bar;
    controller.arena = {memory::at_physical(arena), arena, arena_size};
    GATEHOUSE_TRY(cpu::map_device(bar.base, bar.length));
    GATEHOUSE_ASSIGN(const bool proven, prove_refusal(controller));
    GATEHOUSE_TRY(controller.mediator.start(bar.base, controller.arena, cpu::guest_memory(), *this));
    const auto disks = controller.mediator.controller().disks();
    if (iommus_.count != 0 && !proven && !disks.empty()) {
        return {Error::kNotFound, "IOMMU cannot be proven: a disk that came late, of controller", function};
    }
    for (const ata::ahci::Port& disk : disks) {
        GATEHOUSE_TRY(controller.dma.forbid_writes(disk.command_tables()));
    }
    ++controller_count_;
    return refresh_iommus();
}

// It has no DMA, and the guest does not reach its registers.
Status Machine::leave_out(guest::FunctionId controller, const Failure& why) {
    log("gatehouse: disk controller ", Hex{controller}, ": ", why, "; it stays absent");
    set_device(controller, {});
    GATEHOUSE_TRY(refresh_iommus());
    const auto bar = registers_of(controller);
    return bar ? cpu::hide_device(bar->base, bar->length) : Status();
}

// A DMA of the controller lands where it may not? Then it reaches its arena,
// and one lands there: the same write would have been seen before.
Result<bool> Machine::prove_refusal(Controller& controller) {
    constexpr std::byte kUntouched{0xa5};
    GATEHOUSE_ASSIGN(const std::uint64_t canary, cpu::kept_pages().take(1));
    const MutableBytes page(memory::at_physical(canary), memory::kPageSize);
    std::ranges::fill(page, kUntouched);
    Result<bool> has_disk = false;
    if (iommus_.count != 0) has_disk = controller.mediator.provoke_dma(controller.registers.base, canary, *this);
    if (std::ranges::any_of(page, [](std::byte value) { return value != kUntouched; })) {
        return {Error::kRefused, "IOMMU does not refuse: DMA of a disk controller landed", controller.function};
    }
    GATEHOUSE_TRY(has_disk);
    GATEHOUSE_TRY(controller.dma.create(cpu::kept_pages()));
    GATEHOUSE_TRY(controller.dma.allow({controller.arena.physical, controller.arena.size}));
    const auto domain = static_cast<std::uint16_t>(kFirstDiskDomain + (&controller - controllers_.data()));
    set_device(controller.function, {domain, controller.dma.root()});
    GATEHOUSE_TRY(refresh_iommus());
    if (!*has_disk) return false;
    GATEHOUSE_TRY(controller.mediator.provoke_dma(controller.registers.base, controller.arena.physical, *this));
    if (!holds_fis({controller.arena.data, memory::kPageSize})) {
        return {Error::kNotFound, "IOMMU cannot be proven: no FIS from a disk of controller", controller.function};
    }
    return true;
}

Status Machine::open_disks() {
    for (const guest::ConfigFilter::Function& function : config_.protected_functions()) {
        if (function.disk == nullptr) continue;
        const Status opened = open_controller(function.id);
        if (opened.error() == Error::kRefused) return opened;  // the IOMMU does not refuse
        if (!opened) GATEHOUSE_TRY(leave_out(function.id, opened.failure()));
    }
    for (Controller& one : controllers()) {
        GATEHOUSE_TRY(cpu::trap_mmio(one.registers.base, one.registers.length, one.mediator));
        disks_.add(one.mediator.controller(), one.function);
    }
    TpmUnsealer unsealer(tpm_, random_, policy_);
    copy_bytes(claims_.vault_id, policy_.vault_id);
    GATEHOUSE_TRY(disks_.open(claims_.vault_id, unsealer));
    return measurer_.extend(evidence::kVaultMeasurement, claims_.vault_id);
}

void Machine::state_claims() {
    claims_.hypervisor_version = kVersion;
    claims_.launch = evidence::Launch::kSkinit;
    claims_.iommu = hand_off_.iommu_count != 0 ? evidence::Iommu::kAmdVi : evidence::Iommu::kNone;
    claims_.cpus = static_cast<std::uint16_t>(cpu::cpu_count());
    claims_.flags = static_cast<std::uint32_t>(evidence::ClaimFlag::kCapped) |
                    static_cast<std::uint32_t>(evidence::ClaimFlag::kVaultOpened);
    claims_.kept_bytes = launch::kKeptSize;
    claims_.counter_limit = policy_.approval.counter_limit;
    claims_.policy_digest = sha256(payload_.policy);
    copy_bytes(claims_.storage_root, policy_.srk_name);
    claims_.vault_pin = policy_.pin;
    disks_.describe(claims_);
    const volume::Header& header = disks_.boot_vault();
    quotes_.use_key(header.attestation_key_public.bytes(), header.attestation_key_private.bytes());
}

Status Machine::trap_guest() {
    GATEHOUSE_TRY(cpu::port_map().add(0xcf8, 0xcfb, config_ports_));  // the reset control port in there is its own
    GATEHOUSE_TRY(cpu::port_map().add(0xcfc, 0xcff, config_ports_));
    ecam_pages_.set_base(pci_.ecam.base);
    for (const guest::ConfigFilter::Function& function : config_.protected_functions()) {
        const std::uint64_t page = pci_.ecam_address(function.id, 0);
        if (page != 0) GATEHOUSE_TRY(cpu::trap_mmio(page, memory::kPageSize, ecam_pages_));
    }
    power_ports_.watch(chipset_.pm1_control, chipset_.s5_type);
    for (const std::uint16_t port :
         {guest::PowerPorts::kKeyboard, guest::PowerPorts::kSystemControlA, platform::kResetControl}) {
        GATEHOUSE_TRY(cpu::port_map().add(port, port, power_ports_));
    }
    // A byte for the controller's output port that the launcher has announced: neither a reset nor A20 off.
    platform::out(0x64, 1, 0xd1);
    platform::out(0x60, 1, 0xdf);
    const std::uint16_t pm1_control = chipset_.pm1_control;
    GATEHOUSE_TRY(cpu::port_map().add(pm1_control, static_cast<std::uint16_t>(pm1_control + 1), power_ports_));
    if (chipset_.fch) {
        GATEHOUSE_TRY(cpu::port_map().add(platform::kFchData, platform::kFchData, power_ports_));
        GATEHOUSE_TRY(cpu::hide_device(kFchRegisters, 2 * memory::kPageSize));
    }
    GATEHOUSE_TRY(cpu::port_map().add(channel::kDoorbellPort, channel::kDoorbellPort + 3, doorbell_));
    GATEHOUSE_TRY(cpu::hide_device(platform::kTpmBase, platform::kTpmLocalities * memory::kPageSize));
    for (const memory::IommuPlace& place : iommus_.all()) {
        GATEHOUSE_TRY(cpu::hide_device(place.registers, memory::kIommuRegisterSpace));
    }
    GATEHOUSE_TRY(cpu::nested_pages().map(kept_base_ + launch::kMailboxOffset, launch::kMailboxSize));
    return cpu::nested_pages().map(kept_base_ + launch::kGuestTablesOffset, launch::kGuestTablesSize);
}

Status Machine::start_processors() {
    GATEHOUSE_ASSIGN(const std::uint64_t low_page,
                     map_.find(memory::kPageSize, memory::kPageSize, 0xa0000, payload_.busy));
    GATEHOUSE_TRY(ram_.check_write_back({low_page, memory::kPageSize}, "trampoline page"));
    GATEHOUSE_TRY(map_.reserve({low_page, memory::kPageSize}));  // it stays ours
    for (const guest::MemoryRange& range : map_.ranges()) {
        if (range.is_ram()) GATEHOUSE_TRY(cpu::guest_memory().add(range.extent()));
    }
    return cpu::start_aps(low_page);
}

Status Machine::allow_guest_memory(memory::DmaMap& map) {
    for (const guest::MemoryRange& range : map_.ranges()) {
        if (range.is_ram()) GATEHOUSE_TRY(map.allow(range.extent()));
    }
    return {};
}

// The functions that are there and have been reset reach the guest's memory from
// here on, disk controllers their arenas as well. All other numbers stay refused.
Status Machine::release_dma() {
    bool complete = true;
    platform::for_each_function([&](guest::FunctionId function) {
        if (config_.find_disk(function) == nullptr) complete = resets_.add(function) && complete;
    });
    if (!complete) log("gatehouse: too many PCI functions to reset: the DMA of those that are left stays refused");
    resets_.run(
        [](unsigned milliseconds) { (void)until(platform::microseconds, milliseconds * 1000, [] { return false; }); });
    GATEHOUSE_TRY(allow_guest_memory(general_dma_));
    for (const platform::FunctionResets::Function& function : resets_.all()) {
        if (function.reset) {
            set_device(function.id, {kGeneralDomain, general_dma_.root()});
        } else {
            log("gatehouse: PCI function ", Hex{function.id}, " cannot be reset: its DMA stays refused");
        }
    }
    for (Controller& one : controllers()) GATEHOUSE_TRY(allow_guest_memory(one.dma));
    return refresh_iommus();
}

Result<cpu::svm::GuestEntry> Machine::load_guest() {
    std::array<std::byte, 24> body{};
    Writer writer(body);
    writer.u32(2);
    writer.u32(launch::kMailboxSize);
    writer.u64(kept_base_ + launch::kMailboxOffset);
    writer.u16(channel::kDoorbellPort);
    writer.u16(disks_.boot_disk().function());
    writer.u8(static_cast<std::uint8_t>(disks_.boot_disk().port()));
    if (tables_.all().empty()) {  // ACPI mode from the start: the FADT has no SMI_CMD to ask firmware by
        platform::out(chipset_.pm1_control, 2, platform::in(chipset_.pm1_control, 2) | 1);
    }
    platform::mapped<std::uint32_t>(platform::kIoApicBase) = 0;  // register 0: its ID, in the window at 0x10
    std::array<std::uint32_t, cpu::kMaxCpus> apic_ids{};
    for (std::size_t i = 0; i < cpu::cpu_count(); ++i) apic_ids[i] = cpu::cpu_at(i).apic_id;
    const platform::GuestPlatform machine{
        .apic_ids = std::span(apic_ids).first(cpu::cpu_count()),
        .io_apic_id =
            static_cast<std::uint8_t>(platform::mapped<std::uint32_t>(platform::kIoApicBase + 0x10) >> 24 & 0xf),
        .chipset = chipset_,
        .hpet = platform::mapped<std::uint64_t>(platform::kHpetBase),
        .ecam = pci_.ecam,
        .channel = body,
        .machine_tables = tables_.all()};
    GATEHOUSE_TRY(platform::build_guest_tables(machine, kept(launch::kGuestTablesOffset, platform::kGuestTablesSize),
                                               kept_base_ + launch::kGuestTablesOffset));
    const guest::LinuxImage image{.kernel = payload_.busy[0],
                                  .initrd = payload_.busy[1],
                                  .command_line = payload_.command_line,
                                  .rsdp = kept_base_ + launch::kGuestTablesOffset,
                                  .screen = block_.screen};
    return guest::load_linux(*this, map_, image);
}

Result<cpu::svm::GuestEntry> Machine::prepare() {
    GATEHOUSE_TRY(read_blocks());
    GATEHOUSE_TRY(start_tpm());
    Status opened = [&]() -> Status {
        GATEHOUSE_TRY(measure());
        GATEHOUSE_TRY(check_policy());
        GATEHOUSE_TRY(seed_random());
        GATEHOUSE_TRY(find_devices());
        GATEHOUSE_TRY(start_iommus());
        GATEHOUSE_TRY(cpu::svm::enable(kept_base_));
        GATEHOUSE_TRY(start_processors());
        GATEHOUSE_TRY(measure_machine());
        return open_disks();
    }();
    // Whatever came of it: nothing later in this boot meets the sealing policy again.
    const Status capped = measurer_.cap();
    GATEHOUSE_TRY(opened);
    GATEHOUSE_TRY(capped);
    log("gatehouse: PCR 17, 18 and 19 capped");
    GATEHOUSE_TRY(trap_guest());
    state_claims();
    GATEHOUSE_ASSIGN(const cpu::svm::GuestEntry entry, load_guest());
    for (Controller& one : controllers()) GATEHOUSE_TRY(one.mediator.controller().hand_over());
    GATEHOUSE_TRY(release_dma());
    log("gatehouse: guest starts, ", std::uint64_t{cpu::cpu_count()}, " processors, ", map_.usable_bytes() >> 20,
        " MiB for the guest, ", launch::kKeptSize >> 20, " MiB kept");
    return entry;
}

void Machine::wipe() {
    disks_.wipe();
    random_.clear();
}

void Machine::stop_devices() {
    for (Controller& one : controllers()) one.mediator.controller().stop();
    if (const Status status = tpm_.shutdown(); !status) log("gatehouse: ", status.failure());
}

}  // namespace gatehouse::boot
