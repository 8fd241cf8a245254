#include "attestation/server/demands.hpp"

#include <charconv>

namespace gatehouse::server {

void demand_role(const Principal& by, Role role) {
    if (by.role < role) {
        throw ServiceError(403, "forbidden",
                           "\"" + by.name + "\" has the role " + name_of(by.role) + ", this needs " + name_of(role));
    }
}

void demand_name(const std::string& name, const char* item) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    };
    if (name.empty() || name.size() > 64 || !std::ranges::all_of(name, allowed))
        throw ServiceError(400, "name", std::string(item) + ": must be 1 to 64 of a-z 0-9 . _ -");
}

std::int64_t number_of_cursor(const std::string& cursor) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(cursor.data(), cursor.data() + cursor.size(), number);
    if (error != std::errc{} || end != cursor.data() + cursor.size() || number < 0)
        throw ServiceError(400, "cursor", "cursor: is not one that this server gave");
    return number;
}

void not_found(const std::string& what) { throw ServiceError(404, "not_found", what + ": there is none"); }

std::string date_text(Seconds time) {
    const auto value = static_cast<std::time_t>(time);
    std::tm parts{};
    gmtime_r(&value, &parts);
    char text[32] = "";
    (void)std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
    return text;
}

std::string endpoint_name(const std::string& id) { return "endpoint " + id; }

}  // namespace gatehouse::server
