// The agent's TLS key and certificate.
#pragma once

#include <cstdint>
#include <string>

namespace gatehouse::agent {

// A new P-256 private key, PEM.
[[nodiscard]] std::string make_private_key();
// PKCS #10 for it, PEM; the server does not use the subject.
[[nodiscard]] std::string certification_request(const std::string& private_key);

struct Validity {
    std::int64_t from = 0, until = 0;  // seconds since the epoch
};
// Of the first certificate of a PEM text; ToolError if there is none.
[[nodiscard]] Validity validity_of(const std::string& pem);
// Whether `certificate` is of `private_key`.
[[nodiscard]] bool belongs(const std::string& certificate, const std::string& private_key);

}  // namespace gatehouse::agent
