#include "attestation/protocol/claims_json.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "attestation/evidence_reader/claim_members.hpp"

namespace gatehouse::protocol {
namespace {

using Json = nlohmann::ordered_json;
using evidence::Claims;
using evidence::DiskClaim;
using evidence::IommuFact;
using evidence::MachineFacts;

std::string hex(Bytes bytes) {
    std::string text;
    for (const std::byte byte : bytes) {
        constexpr char kDigits[] = "0123456789abcdef";
        text += kDigits[std::to_integer<unsigned>(byte) >> 4];
        text += kDigits[std::to_integer<unsigned>(byte) & 0xf];
    }
    return text;
}

std::string number(const char* format, unsigned long long value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), format, value);
    return text.data();
}

// A GUID's first three fields are little-endian (UEFI 2.10, appendix A).
std::string guid(const std::array<std::byte, 16>& bytes) {
    static constexpr std::array kOrder{3, 2, 1, 0, -1, 5, 4, -1, 7, 6, -1, 8, 9, -1, 10, 11, 12, 13, 14, 15};
    std::string text;
    for (const int at : kOrder) text += at < 0 ? "-" : hex(Bytes(bytes).subspan(static_cast<std::size_t>(at), 1));
    return text;
}

// A member's value as it is: numbers, yes or no, the names of enumerators, bytes in hexadecimal digits.
template <typename T>
Json value_of(const T& value) {
    if constexpr (std::is_enum_v<T>) {
        const auto names = evidence::names_of(value);
        const auto index = static_cast<std::size_t>(value);
        return index < names.size() ? names[index] : "unknown";
    } else if constexpr (std::is_arithmetic_v<T>) {
        return value;
    } else {
        return hex(value);
    }
}

// A member, under its name, as value_of() has it; and below, those that people know in another form.
template <auto kMember, typename T>
void add(Json& json, const T& from) {
    json[evidence::member_name<kMember>()] = value_of(from.*kMember);
}
template <>
void add<&Claims::hypervisor_version>(Json& json, const Claims& from) {
    const std::uint32_t version = from.hypervisor_version;
    json["hypervisor_version"] =
        number("%llu.", version >> 16) + number("%llu.", version >> 8 & 0xff) + number("%llu", version & 0xff);
}
template <>
void add<&Claims::flags>(Json& json, const Claims& from) {
    const auto flag = [&](evidence::ClaimFlag one) { return (from.flags & static_cast<std::uint32_t>(one)) != 0; };
    json["pcrs_capped"] = flag(evidence::ClaimFlag::kCapped);
    json["vault_opened"] = flag(evidence::ClaimFlag::kVaultOpened);
}
template <>
void add<&Claims::vault_pin>(Json& json, const Claims& from) {
    json["vault"] = {{"id", hex(from.vault_id)}, {"pinned_by", value_of(from.vault_pin)}};
}
template <>
void add<&Claims::vault_id>(Json& /*json*/, const Claims& /*from*/) {}  // with vault_pin
template <>
void add<&MachineFacts::processor_signature>(Json& json, const MachineFacts& from) {
    json["processor_signature"] = number("0x%08llx", from.processor_signature);
}
template <>
void add<&MachineFacts::microcode>(Json& json, const MachineFacts& from) {
    json["microcode"] = number("0x%08llx", from.microcode);
}
template <>
void add<&IommuFact::function>(Json& json, const IommuFact& from) {
    json["function"] = number("%02llx:", from.function >> 8) + number("%02llx.", from.function >> 3 & 0x1f) +
                       number("%llx", from.function & 7);
}
template <>
void add<&IommuFact::registers>(Json& json, const IommuFact& from) {
    json["registers"] = number("0x%08llx", from.registers);
}
template <>
void add<&DiskClaim::guid>(Json& json, const DiskClaim& from) {
    json["guid"] = guid(from.guid);
}

template <const auto& kTable, typename T>
Json members_of(const T& from) {
    Json json;
    evidence::each_member<kTable>([&]<auto kMember>() { add<kMember>(json, from); });
    return json;
}

Json machine_json(const MachineFacts& facts) {
    Json json = members_of<evidence::kFactMembers>(facts);
    json["iommus"] = Json::array();
    for (const IommuFact& iommu : facts.all_iommus())
        json["iommus"].push_back(members_of<evidence::kIommuMembers>(iommu));
    return json;
}

}  // namespace

Json identity_json(evidence::Acpi acpi, evidence::VaultPin pin, const Sha256Digest& vault_id,
                   const evidence::MachineFacts& machine) {
    const Claims claims{.acpi = acpi, .vault_pin = pin, .vault_id = vault_id};
    Json json;
    add<&Claims::acpi>(json, claims);
    add<&Claims::vault_pin>(json, claims);
    json["machine"] = machine_json(machine);
    return json;
}

Json claims_json(const evidence::Claims& claims) {
    Json json = members_of<evidence::kClaimMembers>(claims);
    json["machine"] = machine_json(claims.machine);
    json["disks"] = Json::array();
    for (const DiskClaim& disk : std::span(claims.disks).first(claims.disk_count)) {
        json["disks"].push_back(members_of<evidence::kDiskMembers>(disk));
    }
    return json;
}

}  // namespace gatehouse::protocol
