#include "attestation/evidence/claims.hpp"

namespace gatehouse::evidence {

Result<std::size_t> encode_machine_facts(const MachineFacts& facts, MutableBytes out) {
    Writer writer(out, Endian::kBig);
    writer.u16(kMachineFactsVersion);
    writer.u32(facts.processor_signature);
    writer.u32(facts.microcode);
    writer.u8(facts.smm_locked ? 1 : 0);
    writer.u16(facts.processors);
    writer.u8(static_cast<std::uint8_t>(facts.iommu_count));
    for (const IommuFact& iommu : facts.all_iommus()) {
        writer.u16(iommu.function);
        writer.u64(iommu.registers);
    }
    GATEHOUSE_TRY(writer.status("machine facts"));
    return writer.offset();
}

Result<std::size_t> encode_claims(const Claims& claims, MutableBytes out) {
    if (claims.disk_count > kMaxDisks) return {Error::kBadValue, "claims: disk count", claims.disk_count};
    std::array<std::byte, kMaxMachineFactsSize> facts;
    GATEHOUSE_ASSIGN(const std::size_t facts_size, encode_machine_facts(claims.machine, facts));
    Writer writer(out, Endian::kBig);
    writer.u64(kClaimsMagic);
    writer.u16(kClaimsVersion);
    const std::size_t size = writer.reserve<std::uint16_t>();
    writer.u32(claims.hypervisor_version);
    writer.u8(static_cast<std::uint8_t>(claims.launch));
    writer.u8(static_cast<std::uint8_t>(claims.iommu));
    writer.u16(claims.cpus);
    writer.u32(claims.flags);
    writer.u64(claims.kept_bytes);
    writer.u64(claims.counter_limit);
    writer.bytes(claims.policy_digest);
    writer.bytes(claims.storage_root);
    writer.u8(static_cast<std::uint8_t>(claims.acpi));
    writer.u8(static_cast<std::uint8_t>(claims.vault_pin));
    writer.bytes(claims.vault_id);
    writer.sized(Bytes(facts).first(facts_size));
    writer.u8(static_cast<std::uint8_t>(claims.disk_count));
    for (const DiskClaim& disk : std::span(claims.disks).first(claims.disk_count)) {
        writer.bytes(disk.guid);
        writer.u8(static_cast<std::uint8_t>(disk.state));
        writer.u32(disk.key_epoch);
        writer.u64(disk.generation);
        writer.bytes(disk.sealed_name);
    }
    writer.patch(size, static_cast<std::uint16_t>(writer.offset()));
    GATEHOUSE_TRY(writer.status("claims"));
    return writer.offset();
}

Sha256Digest qualifying_data(Bytes nonce, Bytes encoded_claims) {
    std::array<std::byte, 2> nonce_size, claims_size;
    store(nonce_size.data(), static_cast<std::uint16_t>(nonce.size()), Endian::kBig);
    store(claims_size.data(), static_cast<std::uint16_t>(encoded_claims.size()), Endian::kBig);
    return sha256({literal_bytes("gatehouse quote v3"), nonce_size, nonce, claims_size, encoded_claims});
}

}  // namespace gatehouse::evidence
