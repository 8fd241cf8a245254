#include "attestation/web/verdict_view.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace gatehouse::web {
namespace {

using nlohmann::json;

std::string text_of(const json& value) {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
    return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string text(const json& object, const char* name) {
    const auto found = object.find(name);
    return found == object.end() || !found->is_string() ? std::string() : found->get<std::string>();
}

std::int64_t number(const json& object, const char* name) {
    const auto found = object.find(name);
    return found == object.end() || !found->is_number_integer() ? 0 : found->get<std::int64_t>();
}

bool flag(const json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_boolean() && found->get<bool>();
}

// The objects of an array that is a member; none if there is no such array.
std::vector<json> objects(const json& object, const char* name) {
    std::vector<json> all;
    const auto found = object.find(name);
    if (found == object.end() || !found->is_array()) return all;
    std::ranges::copy_if(*found, std::back_inserter(all), [](const json& one) { return one.is_object(); });
    return all;
}

void flatten(const json& value, const std::string& name, std::vector<std::pair<std::string, std::string>>& out) {
    if (value.is_object()) {
        for (const auto& [member, inner] : value.items()) {
            std::string words = member;
            std::ranges::replace(words, '_', ' ');
            flatten(inner, name.empty() ? words : name + " " + words, out);
        }
    } else if (value.is_array()) {
        std::size_t place = 1;
        for (const json& inner : value) flatten(inner, name + " " + std::to_string(place++), out);
    } else {
        out.emplace_back(name, text_of(value));
    }
}

verifier::Coverage coverage_of(const json& verdict) {
    const auto found = verdict.find("coverage");
    if (found == verdict.end() || !found->is_object()) return {};
    const auto count = [&](const char* name) { return static_cast<unsigned>(number(*found, name)); };
    return {count("events"), count("events_judged"), count("pcrs"), count("pcrs_judged")};
}

struct TypeName {
    std::int64_t type;
    const char* name;
};
constexpr std::array kTypes{
    TypeName{0x00, "EV_PREBOOT_CERT"},
    TypeName{0x01, "EV_POST_CODE"},
    TypeName{0x03, "EV_NO_ACTION"},
    TypeName{0x04, "EV_SEPARATOR"},
    TypeName{0x05, "EV_ACTION"},
    TypeName{0x06, "EV_EVENT_TAG"},
    TypeName{0x07, "EV_S_CRTM_CONTENTS"},
    TypeName{0x08, "EV_S_CRTM_VERSION"},
    TypeName{0x09, "EV_CPU_MICROCODE"},
    TypeName{0x0a, "EV_PLATFORM_CONFIG_FLAGS"},
    TypeName{0x0b, "EV_TABLE_OF_DEVICES"},
    TypeName{0x0c, "EV_COMPACT_HASH"},
    TypeName{0x0d, "EV_IPL"},
    TypeName{0x0e, "EV_IPL_PARTITION_DATA"},
    TypeName{0x0f, "EV_NONHOST_CODE"},
    TypeName{0x10, "EV_NONHOST_CONFIG"},
    TypeName{0x11, "EV_NONHOST_INFO"},
    TypeName{0x12, "EV_OMIT_BOOT_DEVICE_EVENTS"},
    TypeName{0x80000001, "EV_EFI_VARIABLE_DRIVER_CONFIG"},
    TypeName{0x80000002, "EV_EFI_VARIABLE_BOOT"},
    TypeName{0x80000003, "EV_EFI_BOOT_SERVICES_APPLICATION"},
    TypeName{0x80000004, "EV_EFI_BOOT_SERVICES_DRIVER"},
    TypeName{0x80000005, "EV_EFI_RUNTIME_SERVICES_DRIVER"},
    TypeName{0x80000006, "EV_EFI_GPT_EVENT"},
    TypeName{0x80000007, "EV_EFI_ACTION"},
    TypeName{0x80000008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"},
    TypeName{0x80000009, "EV_EFI_HANDOFF_TABLES"},
    TypeName{0x8000000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"},
    TypeName{0x8000000b, "EV_EFI_HANDOFF_TABLES2"},
    TypeName{0x8000000c, "EV_EFI_VARIABLE_BOOT2"},
    TypeName{0x8000000d, "EV_EFI_GPT_EVENT2"},
    TypeName{0x80000010, "EV_EFI_HCRTM_EVENT"},
    TypeName{0x800000e0, "EV_EFI_VARIABLE_AUTHORITY"},
    TypeName{0x800000e1, "EV_EFI_SPDM_FIRMWARE_BLOB"},
    TypeName{0x800000e2, "EV_EFI_SPDM_FIRMWARE_CONFIG"},
};

}  // namespace

std::optional<VerdictView> read_verdict(std::string_view text_of_verdict) {
    const json verdict = json::parse(text_of_verdict, nullptr, false);
    if (!verdict.is_object()) return std::nullopt;
    VerdictView view;
    for (const json& one : objects(verdict, "findings"))
        view.findings.push_back({text(one, "rule"), flag(one, "ok"), text(one, "detail")});
    view.coverage = coverage_of(verdict);
    if (const auto quirks = verdict.find("quirks"); quirks != verdict.end() && quirks->is_array()) {
        for (const json& one : *quirks) view.quirks.push_back(text_of(one));
    }
    view.policy = text(verdict, "policy");
    for (const json& one : objects(verdict, "pcrs"))
        view.pcrs.push_back({number(one, "pcr"), text(one, "expected"), text(one, "found")});
    for (const json& one : objects(verdict, "events")) {
        view.events.push_back({number(one, "number"), number(one, "offset"), number(one, "pcr"), number(one, "type"),
                               text(one, "name"), text(one, "digest"), flag(one, "ok")});
    }
    if (const auto claims = verdict.find("claims"); claims != verdict.end() && claims->is_object())
        flatten(*claims, "", view.claims);
    return view;
}

std::string indented(const std::string& text_of_json) {
    const json value = json::parse(text_of_json, nullptr, false);
    return value.is_discarded() ? text_of_json : value.dump(2, ' ', false, json::error_handler_t::replace);
}

std::string flat(const std::string& text_of_json) {
    const json value = json::parse(text_of_json, nullptr, false);
    if (!value.is_object()) return text_of_json;
    std::string out;
    for (const auto& [name, inner] : value.items()) {
        if (!out.empty()) out += ", ";
        out.append(name).append(": ").append(text_of(inner));
    }
    return out;
}

std::string event_type_name(std::int64_t type) {
    const auto found = std::ranges::find(kTypes, type, &TypeName::type);
    if (found != kTypes.end()) return found->name;
    std::array<char, 24> digits{};
    std::snprintf(digits.data(), digits.size(), "0x%08llX", static_cast<unsigned long long>(type));
    return digits.data();
}

}  // namespace gatehouse::web
