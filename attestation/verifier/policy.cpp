#include "attestation/verifier/policy.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

namespace gatehouse::verifier {
namespace {

using host::ToolError;
using nlohmann::json;

constexpr std::uint32_t kFormat = 1;
constexpr std::size_t kMaxName = 64;
constexpr std::size_t kMaxReferences = 256;
constexpr std::size_t kMaxVaultIds = 65536;
constexpr std::size_t kMaxModels = 256;
constexpr std::uint32_t kPcrCount = 24;
constexpr std::uint32_t kMinLease = 60;
constexpr std::uint32_t kMaxLease = 86'400;
constexpr std::uint32_t kMaxCrlAge = 3650;
constexpr std::array kMembers{"gatehouse_attestation_policy",
                              "name",
                              "version",
                              "source",
                              "references",
                              "pcrs",
                              "refuse_contradictions",
                              "storage_root",
                              "counter_floor",
                              "minimum_hypervisor",
                              "require_iommu",
                              "tpm_firmware",
                              "vault",
                              "machine",
                              "acpi",
                              "max_crl_age_days",
                              "lease_s"};
constexpr std::array kVaultMembers{"ids", "allow_unpinned"};
constexpr std::array kMachineMembers{"models", "minimum_microcode", "smm_locked", "minimum_iommus"};
// SHA-1 is not among them: its values prove nothing.
constexpr std::array kPolicyBanks{HashAlgorithm::kSha256, HashAlgorithm::kSha384, HashAlgorithm::kSha512};

[[noreturn]] void wrong(const std::string& member, const std::string& why) {
    throw ToolError("policy: " + member + ": " + why);
}

// A member that must be there, or may lack (null).
const json* member(const json& object, const char* name) {
    const auto found = object.find(name);
    return found == object.end() ? nullptr : &*found;
}
const json& wanted(const json& object, const char* name) {
    const json* const found = member(object, name);
    if (found == nullptr) wrong(name, "is missing");
    return *found;
}

std::uint64_t unsigned_number(const json& value, const char* name, std::uint64_t least, std::uint64_t most) {
    if (!value.is_number_unsigned()) wrong(name, "must be a whole number, not negative");
    const auto number = value.get<std::uint64_t>();
    if (number < least || number > most) {
        wrong(name, "must be " + std::to_string(least) + " to " + std::to_string(most));
    }
    return number;
}

std::string text(const json& value, const std::string& name) {
    if (!value.is_string()) wrong(name, "must be text");
    return value.get<std::string>();
}

std::string policy_name(const json& value) {
    std::string name = text(value, "name");
    const bool plain = std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    });
    if (name.empty() || name.size() > kMaxName || !plain) wrong("name", "must be 1 to 64 of a-z 0-9 . _ -");
    return name;
}

Source source_of(const json& value) {
    const std::string name = text(value, "source");
    for (const Source source : {Source::kHypervisor, Source::kTpm}) {
        if (name == source_name(source)) return source;
    }
    wrong("source", "must be \"hypervisor\" or \"tpm\"");
}

template <typename T>
bool take_number(std::string_view& rest, T& value, int base = 10) {
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value, base);
    if (error != std::errc{}) return false;
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    return true;
}

// "1.2.3" as claims have it: major << 16 | minor << 8 | patch.
std::uint32_t version_of(const std::string& from) {
    std::string_view rest = from;
    std::array<std::uint32_t, 3> parts{};
    bool good = true;
    for (std::size_t i = 0; i < parts.size() && good; ++i) {
        if (i > 0) {
            good = rest.starts_with('.');
            if (good) rest.remove_prefix(1);
        }
        good = good && take_number(rest, parts[i]) && parts[i] <= (i == 0 ? 0xffffu : 0xffu);
    }
    if (!good || !rest.empty()) wrong("minimum_hypervisor", "must be a version like \"0.1.0\"");
    return parts[0] << 16 | parts[1] << 8 | parts[2];
}

std::uint64_t firmware_version(const json& value) {
    const std::string digits = text(value, "tpm_firmware");
    std::string_view rest = digits;
    std::uint64_t version = 0;
    if (digits.size() != 16 || !take_number(rest, version, 16) || !rest.empty())
        wrong("tpm_firmware", "must be 16 hex digits each");
    return version;
}

Digest pcr_value(const json& value, HashAlgorithm bank, const std::string& item) {
    Buffer bytes;
    try {
        bytes = host::from_hex(text(value, item), item);
    } catch (const ToolError& error) {
        wrong(item, error.what());
    }
    if (bytes.size() != digest_size(bank))
        wrong(item, "must be of " + std::to_string(2 * digest_size(bank)) + " hex digits");
    Digest digest{.algorithm = bank};
    copy_bytes(digest.storage, bytes);
    return digest;
}

std::uint32_t pcr_number(const std::string& name, const std::string& item) {
    std::string_view rest = name;
    std::uint32_t pcr = 0;
    const bool canonical = take_number(rest, pcr) && rest.empty() && std::to_string(pcr) == name;
    if (!canonical || pcr >= kPcrCount) wrong(item, "must be a PCR, 0 to 23");
    return pcr;
}

void read_bank(const json& values, HashAlgorithm bank, Policy& policy) {
    const std::string bank_item = "pcrs." + policies::bank_name(bank);
    if (!values.is_object()) wrong(bank_item, "must be an object of PCRs");
    for (const auto& [name, list] : values.items()) {
        std::string item = bank_item;
        item.append(".").append(name);
        const std::uint32_t pcr = pcr_number(name, item);
        if (!list.is_array() || list.empty()) wrong(item, "must be a list of at least one value");
        for (const json& value : list) policy.pcrs[bank][pcr].push_back(pcr_value(value, bank, item));
    }
}

void read_pcrs(const json& banks, Policy& policy) {
    if (!banks.is_object()) wrong("pcrs", "must be an object of banks");
    for (const auto& [name, values] : banks.items()) {
        const auto* const bank = std::ranges::find(kPolicyBanks, name, policies::bank_name);
        if (bank == kPolicyBanks.end()) wrong("pcrs." + name, "must be sha256, sha384 or sha512");
        read_bank(values, *bank, policy);
    }
}

void read_references(const json& list, Policy& policy) {
    if (!list.is_array() || list.size() > kMaxReferences) wrong("references", "must be a list of at most 256");
    for (std::size_t i = 0; i < list.size(); ++i) {
        try {
            policy.references.push_back(policies::from_json(list[i]));
        } catch (const std::exception& error) {
            wrong("references[" + std::to_string(i) + "]", error.what());
        }
    }
}

bool truth(const json& value, const std::string& name) {
    if (!value.is_boolean()) wrong(name, "must be true or false");
    return value.get<bool>();
}

// An object of these members and no others.
template <std::size_t N>
void demand_members(const json& object, const char* name, const std::array<const char*, N>& members) {
    if (!object.is_object()) wrong(name, "must be an object");
    for (const auto& [one, value] : object.items()) {
        if (std::ranges::find(members, one) == members.end())
            wrong(std::string(name) + "." + one, "is not a member of a policy");
    }
}

void read_vault(const json& from, Policy& policy) {
    demand_members(from, "vault", kVaultMembers);
    if (const json* const ids = member(from, "ids")) {
        if (!ids->is_array() || ids->empty() || ids->size() > kMaxVaultIds)
            wrong("vault.ids", "must be a list of 1 to 65536");
        for (const json& id : *ids) {
            const Digest value = pcr_value(id, HashAlgorithm::kSha256, "vault.ids");
            copy_bytes(policy.vault_ids.emplace_back(), value.bytes());
        }
    }
    if (const json* const value = member(from, "allow_unpinned"))
        policy.allow_unpinned_vault = truth(*value, "vault.allow_unpinned");
}

// "0x0a20102b".
std::uint32_t hex_register(const std::string& from, const char* name) {
    std::string_view rest = from;
    std::uint32_t value = 0;
    const bool prefixed = rest.size() == 10 && rest.starts_with("0x");
    if (prefixed) rest.remove_prefix(2);
    if (!prefixed || !take_number(rest, value, 16) || !rest.empty())
        wrong(name, "must be registers as \"0x\" and 8 hex digits");
    return value;
}

void read_models(const json& list, Policy& policy) {
    if (!list.is_array() || list.empty() || list.size() > kMaxModels)
        wrong("machine.models", "must be a list of 1 to 256");
    for (std::size_t i = 0; i < list.size(); ++i) {
        try {
            policy.machine_models.push_back(policies::read_model(host::text_bytes(list[i].dump())));
        } catch (const std::exception& error) {
            wrong("machine.models[" + std::to_string(i) + "]", error.what());
        }
    }
}

void read_machine(const json& from, Policy& policy) {
    demand_members(from, "machine", kMachineMembers);
    if (const json* const models = member(from, "models")) read_models(*models, policy);
    if (const json* const levels = member(from, "minimum_microcode")) {
        constexpr const char* kItem = "machine.minimum_microcode";
        if (!levels->is_object() || levels->empty()) wrong(kItem, "must be an object of processor signatures");
        for (const auto& [signature, level] : levels->items())
            policy.minimum_microcode[hex_register(signature, kItem)] = hex_register(text(level, kItem), kItem);
    }
    if (const json* const value = member(from, "smm_locked"))
        policy.require_smm_lock = truth(*value, "machine.smm_locked");
    if (const json* const value = member(from, "minimum_iommus"))
        policy.minimum_iommus =
            static_cast<std::uint32_t>(unsigned_number(*value, "machine.minimum_iommus", 0, evidence::kMaxFactIommus));
}

evidence::Acpi acpi_of(const json& value) {
    const std::string mode = text(value, "acpi");
    if (mode != "minimal" && mode != "machine") wrong("acpi", "must be \"minimal\" or \"machine\"");
    return mode == "machine" ? evidence::Acpi::kMachine : evidence::Acpi::kMinimal;
}

// JSON keeps the last of two members of one name; a reader who sees the first must not be misled.
json parse_strictly(std::string_view from) {
    std::vector<std::set<std::string>> open;
    std::string twice;
    const json::parser_callback_t watch = [&](int, json::parse_event_t event, json& value) {
        if (event == json::parse_event_t::object_start) open.emplace_back();
        if (event == json::parse_event_t::object_end && !open.empty()) open.pop_back();
        if (event == json::parse_event_t::key && !open.empty()) {
            const auto name = value.get<std::string>();
            if (!open.back().insert(name).second) twice = name;
        }
        return true;
    };
    json parsed = json::parse(from.begin(), from.end(), watch, false);
    if (parsed.is_discarded()) throw ToolError("policy: not JSON");
    if (!twice.empty()) wrong(twice, "is there twice");
    if (!parsed.is_object()) throw ToolError("policy: not a JSON object");
    return parsed;
}

// A demand that is never looked at for this source would look like a rule and be none.
void check_kind(const json& from, const Policy& policy) {
    if (policy.source == Source::kHypervisor) {
        if (from.contains("refuse_contradictions"))
            wrong("refuse_contradictions",
                  "is for source \"tpm\"; a hypervisor's events must all be as the references have them");
        if (!policy.pcrs.empty()) wrong("pcrs", "is for source \"tpm\"; a hypervisor's are in its references");
        return;
    }
    const char* const why = "is for source \"hypervisor\": evidence of a TPM alone does not show it";
    if (!policy.references.empty()) wrong("references", why);
    if (policy.own_storage_root) wrong("storage_root", why);
    if (policy.counter_floor != 0) wrong("counter_floor", why);
    if (policy.minimum_hypervisor != 0) wrong("minimum_hypervisor", why);
    for (const char* const name : {"vault", "machine", "acpi"}) {
        if (from.contains(name)) wrong(name, why);
    }
    if (from.contains("require_iommu") && policy.require_iommu) wrong("require_iommu", why);
}

}  // namespace

std::string source_name(Source source) { return source == Source::kHypervisor ? "hypervisor" : "tpm"; }

Policy parse_policy(std::string_view from) {
    const json parsed = parse_strictly(from);
    for (const auto& [name, value] : parsed.items()) {
        if (std::ranges::find(kMembers, name) == kMembers.end()) wrong(name, "is not a member of a policy");
    }
    (void)unsigned_number(wanted(parsed, "gatehouse_attestation_policy"), "gatehouse_attestation_policy", kFormat,
                          kFormat);
    Policy policy;
    policy.name = policy_name(wanted(parsed, "name"));
    policy.version = unsigned_number(wanted(parsed, "version"), "version", 0, INT64_MAX);
    policy.source = source_of(wanted(parsed, "source"));
    if (const json* const value = member(parsed, "references")) read_references(*value, policy);
    if (const json* const value = member(parsed, "pcrs")) read_pcrs(*value, policy);
    if (const json* const value = member(parsed, "storage_root")) {
        const std::string which = text(*value, "storage_root");
        if (which != "pinned" && which != "own") wrong("storage_root", "must be \"pinned\" or \"own\"");
        policy.own_storage_root = which == "own";
    }
    if (const json* const value = member(parsed, "counter_floor"))
        policy.counter_floor = unsigned_number(*value, "counter_floor", 0, INT64_MAX);
    if (const json* const value = member(parsed, "minimum_hypervisor"))
        policy.minimum_hypervisor = version_of(text(*value, "minimum_hypervisor"));
    if (const json* const value = member(parsed, "require_iommu"))
        policy.require_iommu = truth(*value, "require_iommu");
    if (const json* const value = member(parsed, "refuse_contradictions"))
        policy.refuse_contradictions = truth(*value, "refuse_contradictions");
    if (const json* const value = member(parsed, "vault")) read_vault(*value, policy);
    if (const json* const value = member(parsed, "machine")) read_machine(*value, policy);
    if (const json* const value = member(parsed, "acpi")) policy.acpi = acpi_of(*value);
    if (const json* const value = member(parsed, "tpm_firmware")) {
        if (!value->is_array()) wrong("tpm_firmware", "must be a list");
        for (const json& version : *value) policy.tpm_firmware.push_back(firmware_version(version));
    }
    if (const json* const value = member(parsed, "max_crl_age_days"))
        policy.max_crl_age_days =
            static_cast<std::uint32_t>(unsigned_number(*value, "max_crl_age_days", 1, kMaxCrlAge));
    if (const json* const value = member(parsed, "lease_s"))
        policy.lease_s = static_cast<std::uint32_t>(unsigned_number(*value, "lease_s", kMinLease, kMaxLease));
    check_kind(parsed, policy);
    return policy;
}

std::string policy_address(std::string_view json) { return host::hex(sha256(host::text_bytes(json))); }

}  // namespace gatehouse::verifier
