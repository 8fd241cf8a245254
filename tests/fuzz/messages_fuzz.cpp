// Every message of the protocol: each input is read as each of them.
#include "attestation/protocol/messages.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace gatehouse;
using namespace gatehouse::protocol;

namespace {

// What is accepted can be written, and what was written is accepted and written in the same way.
template <typename Message>
void read(std::string_view body) {
    std::string once;
    try {
        once = to_json(parse<Message>(body));
    } catch (const MessageError& error) {
        for (const char* c = error.what(); *c != '\0'; ++c) fuzz::require(*c >= ' ' && *c <= '~');
        return;
    }
    fuzz::require(to_json(parse<Message>(once)) == once);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view body = fuzz::input_text(data, size);
    read<EnrollRequest>(body);
    read<EnrollChallenge>(body);
    read<ActivationRequest>(body);
    read<EnrollStatus>(body);
    read<NonceAnswer>(body);
    read<AttestRequest>(body);
    read<AttestAnswer>(body);
    read<EscrowRequest>(body);
    return 0;
}
