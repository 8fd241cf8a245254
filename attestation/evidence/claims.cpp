#include "attestation/evidence/claims.hpp"

namespace gatehouse::evidence {

namespace {

void put_one(Writer& writer, Bytes value) { writer.bytes(value); }
template <typename T>
requires std::is_scalar_v<T>
void put_one(Writer& writer, T value) {
    for (std::size_t i = sizeof(T); i-- > 0;) writer.u8(static_cast<std::uint8_t>(std::uint64_t(value) >> 8 * i));
}
template <typename T, typename... Member>
void put(Writer& writer, const T& from, const std::tuple<Member T::*...>& members) {
    std::apply([&](auto... member) { (put_one(writer, from.*member), ...); }, members);
}

}  // namespace

Result<std::size_t> encode_machine_facts(const MachineFacts& facts, MutableBytes out) {
    Writer writer(out, Endian::kBig);
    writer.u16(kMachineFactsVersion);
    put(writer, facts, kFactMembers);
    writer.u8(static_cast<std::uint8_t>(facts.iommu_count));
    for (const IommuFact& iommu : facts.all_iommus()) put(writer, iommu, kIommuMembers);
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
    put(writer, claims, kClaimMembers);
    writer.sized(Bytes(facts).first(facts_size));
    writer.u8(static_cast<std::uint8_t>(claims.disk_count));
    for (const DiskClaim& disk : std::span(claims.disks).first(claims.disk_count)) put(writer, disk, kDiskMembers);
    writer.patch(size, static_cast<std::uint16_t>(writer.offset()));
    GATEHOUSE_TRY(writer.status("claims"));
    return writer.offset();
}

Sha256Digest qualifying_data(Bytes nonce, Bytes encoded_claims) {
    const auto size = [](Bytes part) { return encoded(static_cast<std::uint16_t>(part.size()), Endian::kBig); };
    return sha256({literal_bytes("gatehouse quote v3"), size(nonce), nonce, size(encoded_claims), encoded_claims});
}

}  // namespace gatehouse::evidence
