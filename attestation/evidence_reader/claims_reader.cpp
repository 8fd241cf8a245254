#include "attestation/evidence_reader/claims_reader.hpp"

namespace gatehouse::evidence {
namespace {

constexpr std::uint32_t kKnownFlags =
    static_cast<std::uint32_t>(ClaimFlag::kCapped) | static_cast<std::uint32_t>(ClaimFlag::kVaultOpened);

}  // namespace

Result<MachineFacts> decode_machine_facts(Bytes encoded) {
    Reader reader(encoded, Endian::kBig);
    const std::uint16_t version = reader.u16();
    GATEHOUSE_TRY(reader.status("machine facts"));
    if (version != kMachineFactsVersion) return {Error::kBadVersion, "machine facts", version};
    MachineFacts facts;
    facts.processor_signature = reader.u32();
    facts.microcode = reader.u32();
    const std::uint8_t smm_locked = reader.u8();
    facts.processors = reader.u16();
    facts.iommu_count = reader.u8();
    GATEHOUSE_TRY(reader.status("machine facts"));
    if (smm_locked > 1) return {Error::kBadValue, "machine facts: SMM locked", smm_locked};
    if (facts.iommu_count > kMaxFactIommus) return {Error::kBadValue, "machine facts: IOMMUs", facts.iommu_count};
    facts.smm_locked = smm_locked == 1;
    for (IommuFact& iommu : std::span(facts.iommus).first(facts.iommu_count)) {
        iommu.function = reader.u16();
        iommu.registers = reader.u64();
    }
    GATEHOUSE_TRY(reader.finished("machine facts"));
    return facts;
}

Result<Claims> decode_claims(Bytes encoded) {
    Reader reader(encoded, Endian::kBig);
    const std::uint64_t magic = reader.u64();
    const std::uint16_t version = reader.u16();
    const std::uint16_t size = reader.u16();
    GATEHOUSE_TRY(reader.status("claims"));
    if (magic != kClaimsMagic) return {Error::kBadMagic, "claims", magic};
    if (version != kClaimsVersion) return {Error::kBadVersion, "claims", version};

    Claims claims;
    claims.hypervisor_version = reader.u32();
    const std::uint8_t launch = reader.u8();
    const std::uint8_t iommu = reader.u8();
    claims.cpus = reader.u16();
    claims.flags = reader.u32();
    claims.kept_bytes = reader.u64();
    claims.counter_limit = reader.u64();
    reader.copy(claims.policy_digest);
    reader.copy(claims.storage_root);
    const std::uint8_t acpi = reader.u8();
    const std::uint8_t pin = reader.u8();
    reader.copy(claims.vault_id);
    const Bytes facts = reader.sized();
    claims.disk_count = reader.u8();
    GATEHOUSE_TRY(reader.status("claims"));
    if (launch > static_cast<std::uint8_t>(Launch::kSenter)) return {Error::kBadValue, "claims: launch", launch};
    if (iommu > static_cast<std::uint8_t>(Iommu::kVtd)) return {Error::kBadValue, "claims: IOMMU", iommu};
    if ((claims.flags & ~kKnownFlags) != 0) return {Error::kBadValue, "claims: flags", claims.flags};
    if (claims.disk_count > kMaxDisks) return {Error::kBadValue, "claims: disk count", claims.disk_count};
    if (acpi > static_cast<std::uint8_t>(Acpi::kMachine)) return {Error::kBadValue, "claims: ACPI", acpi};
    if (pin > static_cast<std::uint8_t>(VaultPin::kRecord)) return {Error::kBadValue, "claims: vault pin", pin};
    GATEHOUSE_ASSIGN(claims.machine, decode_machine_facts(facts));
    claims.acpi = static_cast<Acpi>(acpi);
    claims.vault_pin = static_cast<VaultPin>(pin);
    claims.launch = static_cast<Launch>(launch);
    claims.iommu = static_cast<Iommu>(iommu);
    for (DiskClaim& disk : std::span(claims.disks).first(claims.disk_count)) {
        reader.copy(disk.guid);
        const std::uint8_t state = reader.u8();
        if (state > static_cast<std::uint8_t>(DiskState::kEncrypted)) {
            return {Error::kBadValue, "claims: disk state", state};
        }
        disk.state = static_cast<DiskState>(state);
        disk.key_epoch = reader.u32();
        disk.generation = reader.u64();
        reader.copy(disk.sealed_name);
    }
    GATEHOUSE_TRY(reader.finished("claims"));
    if (size != encoded.size()) return {Error::kBadLength, "claims: size", size};
    return claims;
}

}  // namespace gatehouse::evidence
