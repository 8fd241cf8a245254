#include "attestation/server/url.hpp"

#include <algorithm>
#include <stdexcept>
#include <string_view>

namespace gatehouse::server {
namespace {

[[noreturn]] void refuse(const std::string& why) { throw std::invalid_argument(why); }

}  // namespace

Url parse_url(const std::string& url) {
    if (url.size() > kMostUrl) refuse("longer than 2048 characters");
    if (std::ranges::any_of(url, [](char c) { return c <= ' ' || c > '~' || c == '\\' || c == '"'; }))
        refuse("has a character that must be percent-encoded");
    Url parsed;
    std::string_view rest = url;
    if (rest.starts_with("https://")) {
        rest.remove_prefix(8);
    } else if (rest.starts_with("http://")) {
        parsed.tls = false;
        rest.remove_prefix(7);
    } else {
        refuse("must begin with http:// or https://");
    }
    if (rest.find('#') != std::string_view::npos) refuse("must not have a fragment");
    const std::size_t slash = rest.find_first_of("/?");
    parsed.authority = rest.substr(0, slash);
    parsed.path = slash == std::string_view::npos ? "" : rest.substr(slash);
    if (!parsed.path.starts_with('/')) parsed.path.insert(0, "/");
    std::string_view host = parsed.authority;
    if (host.find('@') != std::string_view::npos) refuse("must not have a user name");
    parsed.port = parsed.tls ? "443" : "80";
    const std::size_t bracket = host.find(']');
    const std::size_t colon = host.find(':', bracket == std::string_view::npos ? 0 : bracket);
    if (colon != std::string_view::npos) {
        parsed.port = host.substr(colon + 1);
        host = host.substr(0, colon);
    }
    if (parsed.port.empty() || parsed.port.size() > 5 ||
        parsed.port.find_first_not_of("0123456789") != std::string::npos)
        refuse("its port is not a number");
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    parsed.host = host;
    if (parsed.host.empty()) refuse("has no host");
    return parsed;
}

}  // namespace gatehouse::server
