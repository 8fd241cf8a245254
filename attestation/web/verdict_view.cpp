#include "attestation/web/verdict_view.hpp"

#include <algorithm>
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
            if (!name.empty()) words.insert(0, name + " ");
            flatten(inner, words, out);
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
                               text(one, "name"), text(one, "digest"), text(one, "hashed"), flag(one, "ok")});
    }
    view.vault_pinned_by = text(verdict, "vault_pinned_by");
    for (const json& one : objects(verdict, "acpi_tables"))
        view.tables.push_back({text(one, "name"), flag(one, "ok"), flag(one, "logged")});
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

}  // namespace gatehouse::web
