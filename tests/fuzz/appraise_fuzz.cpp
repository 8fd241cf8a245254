// A whole appraisal. Input: flags (appraisal_key.hpp), then quote, signature, claims, log and PCR values.
#include "attestation/verifier/appraisal.hpp"
#include "tests/fuzz/appraisal_key.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace gatehouse;
using namespace gatehouse::verifier;

namespace {

struct Surroundings {
    AttestationKey key{fuzz::seed_file("surroundings/ak.public")};
    Policy hypervisor = policy("surroundings/hypervisor.policy");
    Policy tpm = policy("surroundings/tpm.policy");
    Policy own_root = with_own_root(hypervisor);
    // Quotes that were signed by the key outside of this program.
    std::vector<host::Buffer> genuine{fuzz::seed_file("surroundings/hypervisor.quote"),
                                      fuzz::seed_file("surroundings/tpm.quote")};

    static Policy policy(const std::string& name) {
        const auto json = fuzz::seed_file(name);
        return parse_policy(fuzz::input_text(raw(Bytes(json)), json.size()));
    }
    static Policy with_own_root(Policy pinned) {
        pinned.own_storage_root = true;
        return pinned;
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Surroundings around;
    fuzz::Fields fields(fuzz::input_bytes(data, size));
    const std::uint8_t flags = fields.flags();
    const Bytes quote = fields.next();
    const Bytes signature = fields.next();
    const Bytes claims = fields.next();
    const Bytes log = fields.next();
    const Bytes values = fields.next();
    const bool of_tpm = (flags & fuzz::kOfTpm) != 0;

    host::Buffer own_quote(quote.begin(), quote.end());
    if ((flags & fuzz::kFreshen) != 0) {
        own_quote = fuzz::patched_quote(quote, {}, evidence::qualifying_data(fuzz::appraisal_nonce(), claims));
    }
    host::Buffer own_signature(signature.begin(), signature.end());
    if ((flags & fuzz::kSign) != 0) own_signature = fuzz::signed_quote(own_quote);

    TpmState known;
    if ((flags & fuzz::kKnown) != 0) {
        const auto parsed = parse_attestation(around.genuine[of_tpm ? 1 : 0]);
        known.qualified_signer.assign(parsed->qualified_signer.begin(), parsed->qualified_signer.end());
        known.clock = parsed->clock;
        known.reset_count = parsed->reset_count;
        known.restart_count = parsed->restart_count;
        known.firmware_version = parsed->firmware_version;
    }
    const Evidence evidence{.source = of_tpm ? Source::kTpm : Source::kHypervisor,
                            .quote = own_quote,
                            .signature = own_signature,
                            .claims = claims,
                            .event_log = log,
                            .pcr_values = values};
    const Policy& policy = of_tpm ? around.tpm : around.hypervisor;
    const Verdict verdict = appraise(evidence, around.key, known, fuzz::appraisal_nonce(), &policy, true);
    if (verdict.accepted()) {
        // Nobody but this program and the maker of the seeds signs.
        const bool genuine =
            std::ranges::any_of(around.genuine, [&](const host::Buffer& one) { return one == own_quote; });
        fuzz::require((flags & fuzz::kSign) != 0 || genuine);
        fuzz::require(verdict.tpm.has_value());
    }
    // The claims then say which SRK the references are for.
    if (!of_tpm) (void)appraise(evidence, around.key, known, fuzz::appraisal_nonce(), &around.own_root).accepted();
    // The same evidence without a policy, or against the other one, is never accepted.
    fuzz::require(!appraise(evidence, around.key, known, fuzz::appraisal_nonce(), nullptr).accepted());
    fuzz::require(
        !appraise(evidence, around.key, known, fuzz::appraisal_nonce(), of_tpm ? &around.hypervisor : &around.tpm)
             .accepted());
    return 0;
}
