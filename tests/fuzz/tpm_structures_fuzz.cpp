// TPMS_ATTEST, TPMT_SIGNATURE and TPMT_PUBLIC: each input is read as each of them.
#include "attestation/verifier/appraisal.hpp"
#include "attestation/verifier/endorsement.hpp"
#include "attestation/verifier/public_key.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace gatehouse;
using namespace gatehouse::verifier;

namespace {

void read_attestation(Bytes input) {
    if (const auto audit = parse_session_audit(input); audit.ok()) fuzz::require(fuzz::is_view_of(input, *audit));
    const auto parsed = parse_attestation(input);
    if (!parsed.ok()) return;
    for (const Bytes part : {parsed->qualified_signer, parsed->extra_data, parsed->pcr_digest}) {
        fuzz::require(fuzz::is_view_of(input, part));
    }
}

void read_signature(Bytes input) {
    const auto parsed = parse_signature(input);
    if (!parsed.ok()) return;
    for (const Bytes part : {parsed->r, parsed->s, parsed->rsa}) fuzz::require(fuzz::is_view_of(input, part));
}

void read_public_area(Bytes input) {
    const auto parsed = parse_public_area(input);
    (void)check_attestation_key(input, Source::kHypervisor);
    (void)check_attestation_key(input, Source::kTpm);
    const bool usable = parsed.ok() && public_key(*parsed) != nullptr;
    try {
        const AttestationKey key(input);
        fuzz::require(parsed.ok());
        (void)key.verify(input, input);
    } catch (const host::ToolError&) {}
    try {
        (void)make_credential(input, literal_bytes("\x00\x0b name"), literal_bytes("sixteen bytes..."));
        fuzz::require(usable);
    } catch (const host::ToolError&) {}
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes input = fuzz::input_bytes(data, size);
    read_attestation(input);
    read_signature(input);
    read_public_area(input);
    return 0;
}
