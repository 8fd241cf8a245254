// The launch's event log and the claims, as the hypervisor writes them.
#include "attestation/evidence_reader/claims_reader.hpp"
#include "attestation/evidence_reader/launch_log_reader.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace gatehouse;
using namespace gatehouse::evidence;

namespace {

void read_log(Bytes input) {
    auto reader = EventLogReader::open(input);
    if (!reader.ok()) return;
    while (!reader->at_end()) {
        const std::size_t before = reader->offset();
        const auto event = reader->next();
        if (!event.ok()) {
            fuzz::require(!replay(input, HashAlgorithm::kSha256, 17).ok());
            return;
        }
        fuzz::require(reader->offset() > before && reader->offset() <= input.size());
    }
    (void)replay(input, HashAlgorithm::kSha256, 17);
}

void read_claims(Bytes input) {
    const auto claims = decode_claims(input);
    if (!claims.ok()) return;
    std::array<std::byte, kMaxClaimsSize> encoded{};
    const auto size = encode_claims(*claims, encoded);
    fuzz::require(size.ok() && equal_bytes(Bytes(encoded).first(*size), input));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    read_log(fuzz::input_bytes(data, size));
    read_claims(fuzz::input_bytes(data, size));
    return 0;
}
