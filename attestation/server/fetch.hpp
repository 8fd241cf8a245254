// A file fetched by HTTP/1.1 from a server that need not be friendly, from a URL that need not be: for CRLs, which are
// signed, so that nothing is expected of the way that they come.
//
// Bounds: size, time, 3 redirects. No TLS, no credentials, no cookies, no compression. An address that is not of the public
// internet is not connected to unless that is allowed, whatever name, redirect or answer of the name service leads there:
// each address is looked at, and that one is connected to. With a proxy it is the proxy that looks names up, and only
// addresses in the URL itself are looked at.
#pragma once

#include <chrono>
#include <stop_token>
#include <string>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::server {

using host::Buffer;

struct FetchRules {
    std::string proxy;               // "http://HOST:PORT"; empty: none
    bool private_addresses = false;  // whether loopback, link-local, private and other special addresses may be asked
    std::size_t most_bytes = 4u << 20;
    std::chrono::milliseconds patience{30'000};  // for all of it
};

// Of an answer, to be given with the next request for the same: whether there is anything newer. RFC 9110, 8.8.
struct Validators {
    std::string tag;       // ETag
    std::string modified;  // Last-Modified
};

struct Fetched {
    std::string fault;     // why there is nothing, in words; empty: there is, or it has not changed
    bool changed = false;  // status 200; else 304, to a request with validators
    Buffer body;
    Validators validators;
};

// Of its own accord it ends soon after `stop` is asked for.
[[nodiscard]] Fetched fetch(const std::string& url, const Validators& known, const FetchRules& rules,
                            const std::stop_token& stop);

// Whether `address` (numeric) is one of the public internet: IANA's registries of special-purpose addresses, IPv4 and IPv6.
[[nodiscard]] bool is_public_address(const std::string& address);

// std::invalid_argument saying why this is no URL to fetch from: not http, or not a URL.
void demand_fetchable(const std::string& url);

}  // namespace gatehouse::server
