// Request targets and form bodies: split and percent-decoded, strictly. RFC 3986, 2.1 and 3.3; RFC
// 9112, 3.2.1.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gatehouse::http {

struct Target {
    std::string path;                   // decoded: "/v1/groups/a b"
    std::vector<std::string> segments;  // decoded: "v1", "groups", "a b"; none for "/"
    std::map<std::string, std::string> query;
};

// HttpError 400 unless `target` is in origin form, its percent-encoding is well-formed UTF-8 without control
// characters, no segment is empty (but for the last), ".", "..", or has an encoded separator, and no name of
// the query comes twice: two readers of one target shall not come to two results.
[[nodiscard]] Target parse_target(std::string_view target);

// application/x-www-form-urlencoded; HttpError 400 likewise. At most 64 fields. Line breaks are allowed.
[[nodiscard]] std::map<std::string, std::string> parse_form(std::string_view text);

// Of the Cookie header; what is not NAME=VALUE is passed over.
[[nodiscard]] std::map<std::string, std::string> parse_cookies(std::string_view text);

// Whether a Host field is a name or address with an optional port, and nothing else.
[[nodiscard]] bool is_host(std::string_view text);

}  // namespace gatehouse::http
