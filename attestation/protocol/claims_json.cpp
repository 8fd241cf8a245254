#include "attestation/protocol/claims_json.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

namespace gatehouse::protocol {
namespace {

using Json = nlohmann::ordered_json;

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

template <typename Enum, std::size_t N>
const char* name(Enum value, const char* const (&names)[N]) {
    const auto index = static_cast<std::size_t>(value);
    return index < N ? names[index] : "unknown";
}

Json machine_json(const evidence::MachineFacts& facts) {
    Json json;
    json["processor_signature"] = number("0x%08llx", facts.processor_signature);
    json["microcode"] = number("0x%08llx", facts.microcode);
    json["smm_locked"] = facts.smm_locked;
    json["processors"] = facts.processors;
    json["iommus"] = Json::array();
    for (const evidence::IommuFact& iommu : facts.all_iommus()) {
        Json one;
        one["function"] = number("%02llx:", iommu.function >> 8) + number("%02llx.", iommu.function >> 3 & 0x1f) +
                          number("%llx", iommu.function & 7);
        one["registers"] = number("0x%08llx", iommu.registers);
        json["iommus"].push_back(std::move(one));
    }
    return json;
}

Json disk_json(const evidence::DiskClaim& disk) {
    Json json;
    json["guid"] = guid(disk.guid);
    json["state"] = name(disk.state, {"absent", "encrypted"});
    json["key_epoch"] = disk.key_epoch;
    json["generation"] = disk.generation;
    json["sealed_name"] = hex(disk.sealed_name);
    return json;
}

}  // namespace

Json identity_json(evidence::Acpi acpi, evidence::VaultPin pin, const Sha256Digest& vault_id,
                   const evidence::MachineFacts& machine) {
    Json json;
    json["acpi"] = name(acpi, {"minimal", "machine"});
    json["vault"]["id"] = hex(vault_id);
    json["vault"]["pinned_by"] = name(pin, {"nobody", "bundle", "record"});
    json["machine"] = machine_json(machine);
    return json;
}

Json claims_json(const evidence::Claims& claims) {
    const std::uint32_t version = claims.hypervisor_version;
    const auto flag = [&](evidence::ClaimFlag one) { return (claims.flags & static_cast<std::uint32_t>(one)) != 0; };
    Json json;
    json["hypervisor_version"] = std::to_string(version >> 16) + "." + std::to_string(version >> 8 & 0xff) + "." +
                                 std::to_string(version & 0xff);
    json["launch"] = name(claims.launch, {"none", "SKINIT", "SENTER"});
    json["iommu"] = name(claims.iommu, {"none", "AMD-Vi", "VT-d"});
    json["cpus"] = claims.cpus;
    json["pcrs_capped"] = flag(evidence::ClaimFlag::kCapped);
    json["vault_opened"] = flag(evidence::ClaimFlag::kVaultOpened);
    json["kept_bytes"] = claims.kept_bytes;
    json["counter_limit"] = claims.counter_limit;
    json["policy_digest"] = hex(claims.policy_digest);
    json["storage_root"] = hex(claims.storage_root);
    json.update(identity_json(claims.acpi, claims.vault_pin, claims.vault_id, claims.machine));
    json["disks"] = Json::array();
    for (const evidence::DiskClaim& disk : std::span(claims.disks).first(claims.disk_count))
        json["disks"].push_back(disk_json(disk));
    return json;
}

}  // namespace gatehouse::protocol
