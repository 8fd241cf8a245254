// EK certificates. Input: certificate as in NV, TPMT_PUBLIC, chain.
#include "attestation/verifier/endorsement.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace gatehouse;
using namespace gatehouse::verifier;

namespace {

constexpr std::time_t kNow = 1'800'000'000;

TrustStore trust_store() {
    TrustStore store;
    store.add({.name = "Vendor",
               .roots = {fuzz::seed_file("surroundings/root.der")},
               .intermediates = {},
               .revocations = {
                   fuzz::seed_file("surroundings/root.crl"),
               }});
    return store;
}

void require_text(const std::string& text) {
    for (const char c : text) fuzz::require(c >= ' ' && c <= '~');
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const TrustStore store = trust_store();
    fuzz::Fields fields(fuzz::input_bytes(data, size));
    EndorsementEvidence evidence;
    const auto copy = [](Bytes bytes) { return host::Buffer(bytes.begin(), bytes.end()); };
    evidence.certificate = copy(fields.next());
    evidence.public_area = copy(fields.next());
    for (int i = 0; i < 3; ++i) evidence.chain.push_back(copy(fields.next()));
    const EndorsementVerdict verdict = verify_endorsement(evidence, store, kNow);
    fuzz::require(verdict.findings.size() == 7);
    fuzz::require(!verdict.accepted() || verdict.vendor == "Vendor");
    for (const Finding& finding : verdict.findings) require_text(finding.detail);
    for (const std::string& quirk : verdict.quirks) require_text(quirk);
    require_text(verdict.manufacturer + verdict.model + verdict.version);
    return 0;
}
