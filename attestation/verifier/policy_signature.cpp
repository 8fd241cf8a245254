#include <openssl/evp.h>

#include "attestation/verifier/policy.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::verifier {
namespace {

constexpr std::string_view kType = "gatehouse-policy+jws";

}  // namespace

std::string verify_signed_policy(std::string_view jws, std::span<const EVP_PKEY* const> authorities) {
    if (authorities.empty()) throw host::ToolError("policy: no authority is trusted: none can be accepted");
    for (const EVP_PKEY* const authority : authorities) {
        // OpenSSL counts references in what it verifies with; the key itself stays as it is.
        const auto payload = verify_jws(jws, kType, const_cast<EVP_PKEY*>(authority));
        if (payload) return *payload;
    }
    throw host::ToolError("policy: not signed by a trusted authority, or no " + std::string(kType) +
                          " in compact form");
}

std::string sign_policy(std::string_view json, EVP_PKEY* authority) {
    (void)parse_policy(json);  // what could not be applied is not signed
    return sign_jws(json, kType, authority);
}

}  // namespace gatehouse::verifier
