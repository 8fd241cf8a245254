#include "attestation/evidence/claims.hpp"

namespace gatehouse::evidence {
namespace {

constexpr std::uint32_t kKnownFlags =
    static_cast<std::uint32_t>(ClaimFlag::kCapped) | static_cast<std::uint32_t>(ClaimFlag::kVaultOpened);

}  // namespace

Result<std::size_t> encode_claims(const Claims& claims, MutableBytes out) {
    if (claims.disk_count > kMaxDisks) return {Error::kBadValue, "claims: disk count", claims.disk_count};
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
    claims.disk_count = reader.u8();
    GATEHOUSE_TRY(reader.status("claims"));
    if (launch > static_cast<std::uint8_t>(Launch::kSenter)) return {Error::kBadValue, "claims: launch", launch};
    if (iommu > static_cast<std::uint8_t>(Iommu::kVtd)) return {Error::kBadValue, "claims: IOMMU", iommu};
    if ((claims.flags & ~kKnownFlags) != 0) return {Error::kBadValue, "claims: flags", claims.flags};
    if (claims.disk_count > kMaxDisks) return {Error::kBadValue, "claims: disk count", claims.disk_count};
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

Sha256Digest qualifying_data(Bytes nonce, Bytes encoded_claims) { return sha256({nonce, encoded_claims}); }

}  // namespace gatehouse::evidence
