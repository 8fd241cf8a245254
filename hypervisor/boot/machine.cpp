#include "hypervisor/boot/machine.hpp"

#include <algorithm>

#include "hypervisor/base/log.hpp"
#include "hypervisor/base/until.hpp"
#include "hypervisor/cpu/console_log.hpp"
#include "hypervisor/cpu/instructions.hpp"
#include "hypervisor/cpu/per_cpu.hpp"
#include "hypervisor/platform/io.hpp"

namespace gatehouse::boot {

Machine::Machine(std::uint64_t kept_base)
    : kept_base_(kept_base), doorbell_(quotes_, kept(launch::kMailboxOffset, launch::kMailboxSize)) {}

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
    constexpr unsigned kLocality = 2;
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
    return good ? Bytes(memory::at_physical(HostPhysical(physical)), size) : Bytes{};
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
    if (!cpu::try_read_msr(kMsrPatchLevel, &microcode)) microcode = 0;
    if (!cpu::try_read_msr(kMsrHwcr, &hwcr)) hwcr = 0;
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
        const platform::Port<std::uint16_t> pm1_control{chipset_.pm1_control};
        platform::out(pm1_control, static_cast<std::uint16_t>(platform::in(pm1_control) | 1));
    }
    const platform::Mmio<platform::IoApic> io_apic{HostPhysical(platform::kIoApicBase)};
    io_apic.write(platform::kIoApicSelect, platform::kIoApicId);
    std::array<std::uint32_t, cpu::kMaxCpus> apic_ids{};
    for (std::size_t i = 0; i < cpu::cpu_count(); ++i) apic_ids[i] = cpu::cpu_at(i).apic_id;
    const platform::GuestPlatform machine{
        .apic_ids = std::span(apic_ids).first(cpu::cpu_count()),
        .io_apic_id = static_cast<std::uint8_t>(io_apic.read(platform::kIoApicWindow) >> 24 & 0xf),
        .chipset = chipset_,
        .hpet = platform::Mmio<platform::Hpet>(HostPhysical(platform::kHpetBase)).read(platform::kHpetCapabilities),
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
