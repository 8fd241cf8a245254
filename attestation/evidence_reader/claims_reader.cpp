#include "attestation/evidence_reader/claims_reader.hpp"

#include <algorithm>

#include "attestation/evidence_reader/claim_members.hpp"

namespace gatehouse::evidence {
namespace {

// "PART: MEMBER", for messages.
template <const char* kPart, auto kMember>
inline constexpr auto kItem = [] {
    constexpr std::string_view part = kPart, name = member_name<kMember>();
    std::array<char, part.size() + name.size() + 3> text{};
    char* end = std::ranges::copy(part, text.data()).out;
    end = std::ranges::copy(std::string_view(": "), end).out;
    std::ranges::copy(name, end);
    return text;
}();
constexpr char kFacts[] = "machine facts";
constexpr char kClaims[] = "claims";

// Reads members, and keeps the first one that has no value of its type: it is not heard of before all have been read.
template <const char* kPart>
struct MemberReader {
    Reader& reader;
    Status domain;

    template <const auto& kTable, typename T>
    void read(T& into) {
        each_member<kTable>([&]<auto kMember>() { read_one<kMember>(into.*kMember); });
    }
    template <auto kMember, std::size_t kSize>
    void read_one(std::array<std::byte, kSize>& value) {
        reader.copy(value);
    }
    template <auto kMember, typename T>
    requires std::is_scalar_v<T>
    void read_one(T& value) {
        std::uint64_t number = 0;
        for (std::size_t i = 0; i < sizeof(T); ++i) number = number << 8 | reader.u8();
        value = static_cast<T>(number);
        if constexpr (std::is_enum_v<T>) check(number < names_of(T{}).size(), kItem<kPart, kMember>.data(), number);
        if constexpr (std::is_same_v<T, bool>) check(number < 2, kItem<kPart, kMember>.data(), number);
    }
    void check(bool good, const char* item, std::uint64_t number) {
        if (!good && domain.ok()) domain = {Error::kBadValue, item, number};
    }
};

}  // namespace

Result<MachineFacts> decode_machine_facts(Bytes encoded) {
    Reader reader(encoded, Endian::kBig);
    const std::uint16_t version = reader.u16();
    GATEHOUSE_TRY(reader.status(kFacts));
    if (version != kMachineFactsVersion) return {Error::kBadVersion, kFacts, version};
    MachineFacts facts;
    MemberReader<kFacts> members{reader, {}};
    members.read<kFactMembers>(facts);
    facts.iommu_count = reader.u8();
    GATEHOUSE_TRY(reader.status(kFacts));
    GATEHOUSE_TRY(members.domain);
    if (facts.iommu_count > kMaxFactIommus) return {Error::kBadValue, "machine facts: IOMMUs", facts.iommu_count};
    for (IommuFact& iommu : std::span(facts.iommus).first(facts.iommu_count)) members.read<kIommuMembers>(iommu);
    GATEHOUSE_TRY(reader.finished(kFacts));
    GATEHOUSE_TRY(members.domain);
    return facts;
}

Result<Claims> decode_claims(Bytes encoded) {
    Reader reader(encoded, Endian::kBig);
    const std::uint64_t magic = reader.u64();
    const std::uint16_t version = reader.u16();
    const std::uint16_t size = reader.u16();
    GATEHOUSE_TRY(reader.status(kClaims));
    if (magic != kClaimsMagic) return {Error::kBadMagic, kClaims, magic};
    if (version != kClaimsVersion) return {Error::kBadVersion, kClaims, version};

    Claims claims;
    MemberReader<kClaims> members{reader, {}};
    members.read<kClaimMembers>(claims);
    const Bytes facts = reader.sized();
    claims.disk_count = reader.u8();
    GATEHOUSE_TRY(reader.status(kClaims));
    GATEHOUSE_TRY(members.domain);
    if ((claims.flags & ~kKnownFlags) != 0) return {Error::kBadValue, "claims: flags", claims.flags};
    if (claims.disk_count > kMaxDisks) return {Error::kBadValue, "claims: disk count", claims.disk_count};
    GATEHOUSE_ASSIGN(claims.machine, decode_machine_facts(facts));
    for (DiskClaim& disk : std::span(claims.disks).first(claims.disk_count)) {
        members.read<kDiskMembers>(disk);
        GATEHOUSE_TRY(members.domain);
    }
    GATEHOUSE_TRY(reader.finished(kClaims));
    if (size != encoded.size()) return {Error::kBadLength, "claims: size", size};
    return claims;
}

}  // namespace gatehouse::evidence
