#include "attestation/server/http/router.hpp"

#include <charconv>
#include <iterator>

namespace gatehouse::http {
namespace {

struct Table {
    std::vector<Route> routes;
    std::vector<std::vector<std::string>> patterns;  // segments; "{" stands for a parameter

    Table() {
        for (auto room : {endpoint_routes, public_routes, fleet_routes, policy_routes, administration_routes}) {
            auto some = room();
            routes.insert(routes.end(), std::make_move_iterator(some.begin()), std::make_move_iterator(some.end()));
        }
        for (const Route& route : routes) patterns.push_back(split(route.pattern));
    }

    static std::vector<std::string> split(std::string_view pattern) {
        std::vector<std::string> segments;
        pattern.remove_prefix(1);
        while (!pattern.empty()) {
            const auto segment = pattern.substr(0, pattern.find('/'));
            segments.emplace_back(segment.front() == '{' ? "{" : segment);
            pattern.remove_prefix(std::min(pattern.size(), segment.size() + 1));
        }
        return segments;
    }
};

const Table& table() {
    static const Table the_table;
    return the_table;
}

bool fits(const std::vector<std::string>& pattern, std::span<const std::string> segments) {
    if (pattern.size() != segments.size()) return false;
    for (std::size_t i = 0; i < pattern.size(); ++i) {
        if (pattern[i] != "{" && pattern[i] != segments[i]) return false;
    }
    return true;
}

}  // namespace

const char* name_of(Access access) {
    switch (access) {
        case Access::kPublic: return "public";
        case Access::kEnrollment: return "enrollment";
        case Access::kEndpoint: return "endpoint";
        case Access::kMetrics: return "metrics";
        case Access::kReadOnly: return "read-only";
        case Access::kOperator: return "operator";
        case Access::kAdmin: return "admin";
    }
    return "";
}

std::span<const Route> routes() { return table().routes; }

Match match_route(std::string_view method, std::span<const std::string> segments) {
    const std::string_view wanted = method == "HEAD" ? "GET" : method;
    Match match;
    for (std::size_t i = 0; i < table().routes.size(); ++i) {
        const auto& pattern = table().patterns[i];
        if (!fits(pattern, segments)) continue;
        const Route& route = table().routes[i];
        if (wanted == route.method) {
            match.route = &route;
            for (std::size_t k = 0; k < pattern.size(); ++k) {
                if (pattern[k] == "{") match.parameters.push_back(segments[k]);
            }
            return match;
        }
        match.allow.append(match.allow.empty() ? "" : ", ").append(route.method);
        if (std::string_view(route.method) == "GET") match.allow += ", HEAD";
    }
    if (!match.allow.empty()) match.allow += ", OPTIONS";
    return match;
}

std::string Call::query(const std::string& name) const {
    const auto found = request.query.find(name);
    return found == request.query.end() ? std::string() : found->second;
}

unsigned Call::query_number(const std::string& name, unsigned default_value, unsigned most) const {
    const auto found = request.query.find(name);
    if (found == request.query.end()) return default_value;
    unsigned value = 0;
    const std::string& text = found->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < 1 || value > most) {
        throw HttpError{400, "bad_query", "query parameter " + name + ": a number from 1 to " + std::to_string(most)};
    }
    return value;
}

}  // namespace gatehouse::http
