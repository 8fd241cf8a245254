// A URL of http or https, taken apart.
#pragma once

#include <string>

namespace gatehouse::server {

struct Url {
    bool tls = true;
    std::string host, port, path;  // `host` without brackets, `path` with the query
    std::string authority;         // as in the URL, for the header Host
};
inline constexpr std::size_t kMostUrl = 2048;  // characters

// std::invalid_argument saying what is wrong: another scheme, user information, a fragment, characters that a URL cannot
// have, a port that is no number, no host.
[[nodiscard]] Url parse_url(const std::string& url);

}  // namespace gatehouse::server
