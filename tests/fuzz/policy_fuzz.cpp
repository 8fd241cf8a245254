// Attestation policies, plain and signed, and statements in general.
#include <openssl/err.h>

#include "attestation/verifier/policy.hpp"
#include "attestation/verifier/token.hpp"
#include "tests/fuzz/appraisal_key.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace gatehouse;
using namespace gatehouse::verifier;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const host::Key key = fuzz::appraisal_key();
    // The one statement that the key has signed.
    static const host::Buffer signed_one = fuzz::seed_file("surroundings/policy.jws");
    const std::string_view text = fuzz::input_text(data, size);
    try {
        (void)parse_policy(text);
        (void)policy_address(text);
    } catch (const host::ToolError&) {}
    const auto payload = verify_jws(text, "gatehouse-policy+jws", key.get());
    fuzz::require(!payload ||
                  text.substr(0, text.rfind('.')) ==
                      fuzz::input_text(raw(Bytes(signed_one)), signed_one.size()).substr(0, text.rfind('.')));
    bool accepted = false;
    try {
        const EVP_PKEY* const authorities[] = {key.get()};
        (void)verify_signed_policy(text, authorities);
        accepted = true;
    } catch (const host::ToolError&) {}
    fuzz::require(accepted == payload.has_value());
    for (const auto& decoded : {from_base64(text), from_base64url(text)}) {
        if (decoded) fuzz::require(base64(*decoded) == text || base64url(*decoded) == text);
    }
    fuzz::require(ERR_peek_error() == 0);
    return 0;
}
