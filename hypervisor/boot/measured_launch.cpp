#include "hypervisor/boot/measured_launch.hpp"

#include <algorithm>

#include "hypervisor/base/log.hpp"
#include "hypervisor/cpu/cpu.hpp"
#include "hypervisor/cpu/instructions.hpp"
#include "hypervisor/platform/guest_tables.hpp"

namespace gatehouse::boot {

Status MeasuredLaunch::read_hand_off() {
    const MutableBytes block = memory_.kept(launch::kHandOffOffset, launch::kHandOffSize);
    GATEHOUSE_ASSIGN(hand_off_, launch::parse_hand_off(block));
    event_log_ = {block.subspan(sizeof(hand_off_)), hand_off_.event_log_size, hand_off_.all_banks()};
    return {};
}

Status MeasuredLaunch::start_tpm() {
    GATEHOUSE_TRY(transport_.open(platform::kDynamicLocality));
    GATEHOUSE_ASSIGN(const tpm::BankList banks, tpm_.active_banks());
    if (!std::ranges::equal(banks.banks(), hand_off_.all_banks())) {
        return {Error::kMismatch, "active PCR banks", banks.count};
    }
    return {};
}

Status MeasuredLaunch::measure_payload() {
    const MutableBytes room = memory_.kept(launch::kModulesOffset, launch::kModulesSize);
    GATEHOUSE_ASSIGN(payload_, find_payload(memory_.block(), memory_.map(), memory_.ram(), memory_, room));
    GATEHOUSE_TRY(boot::measure_payload(measurer_, payload_));
    GATEHOUSE_TRY(show_pcr(evidence::kLaunchPcr));
    return show_pcr(evidence::kPayloadPcr);
}

Status MeasuredLaunch::show_pcr(std::uint32_t pcr) {
    GATEHOUSE_ASSIGN(const Digest value, tpm_.pcr_read(HashAlgorithm::kSha256, pcr));
    log("gatehouse: PCR ", std::uint64_t{pcr}, " ", HexBytes{value.bytes()});
    return {};
}

Status MeasuredLaunch::check_policy() {
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
Status MeasuredLaunch::seed_random() {
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

Status MeasuredLaunch::measure_tables(std::uint16_t pm1_control) {
    constexpr std::uint64_t kOffset = launch::kGuestTablesOffset + platform::kGuestTablesSize;
    GATEHOUSE_TRY(tables_.copy(memory_.block().rsdp, memory_, pm1_control,
                               memory_.kept(kOffset, launch::kGuestTablesSize - platform::kGuestTablesSize),
                               (memory_.kept_base() + kOffset).value()));
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

Status MeasuredLaunch::measure_machine(const Devices& devices) {
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
    for (const memory::IommuPlace& place : devices.iommus()) {
        facts.iommus[facts.iommu_count++] = {place.function, place.registers};
    }
    std::array<std::byte, evidence::kMaxMachineFactsSize> encoded;
    GATEHOUSE_ASSIGN(const std::size_t size, evidence::encode_machine_facts(facts, encoded));
    GATEHOUSE_TRY(measurer_.extend(evidence::kMachineMeasurement, Bytes(encoded).first(size)));
    if (machine_acpi) GATEHOUSE_TRY(measure_tables(devices.chipset().pm1_control));
    GATEHOUSE_TRY(show_pcr(evidence::kMachinePcr));
    // Only now: the authority approves the value that the line before shows.
    if (machine_acpi && !policy_.machine) return {Error::kNotFound, "machine approval"};
    return {};
}

Status MeasuredLaunch::open_vault(Disks& disks) {
    TpmUnsealer unsealer(tpm_, random_, policy_);
    copy_bytes(claims_.vault_id, policy_.vault_id);
    GATEHOUSE_TRY(disks.open(claims_.vault_id, unsealer, policy_.bundle));
    quotes_.converter = &disks.converter();
    return measurer_.extend(evidence::kVaultMeasurement, claims_.vault_id);
}

void MeasuredLaunch::state_claims(const Disks& disks) {
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
    disks.describe(claims_);
    const volume::Header& header = disks.boot_vault();
    quotes_.use_key(header.attestation_key_public.bytes(), header.attestation_key_private.bytes());
}

void MeasuredLaunch::stop() {
    if (const Status status = tpm_.shutdown(); !status) log("gatehouse: ", status.failure());
}

}  // namespace gatehouse::boot
