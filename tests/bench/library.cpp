#include <openssl/evp.h>
#include <time.h>

#include <chrono>
#include <memory>

#include "attestation/verifier/appraisal.hpp"
#include "tests/bench/measurements.hpp"
#include "tests/unit/server/software_endpoint.hpp"

namespace gatehouse::bench {
namespace {

using host::ToolError;

double processor_time() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// How often something can be done.
class Meter {
  public:
    template <typename Work>
    void turn(const Work& work) {
        constexpr double kTurn = 0.1;
        const double begun = processor_time();
        double now = begun;
        do {
            for (int i = 0; i < 16; ++i) work();
            count_ += 16;
            now = processor_time();
        } while (now - begun < kTurn);
        time_ += now - begun;
    }
    [[nodiscard]] double per_s() const { return static_cast<double>(count_) / time_; }

  private:
    unsigned long count_ = 0;
    double time_ = 0;
};

// As `openssl speed ecdsap256` does it: one key, one context, a digest that is there already.
class PlainEcdsa {
  public:
    PlainEcdsa()
        : key_(test::make_p256_key()),
          signer_(EVP_PKEY_CTX_new(key_.get(), nullptr), EVP_PKEY_CTX_free),
          verifier_(EVP_PKEY_CTX_new(key_.get(), nullptr), EVP_PKEY_CTX_free) {
        if (EVP_PKEY_sign_init(signer_.get()) != 1 ||
            EVP_PKEY_sign(signer_.get(), signature_.data(), &size_, digest_.data(), digest_.size()) != 1 ||
            EVP_PKEY_verify_init(verifier_.get()) != 1) {
            throw ToolError("OpenSSL: no ECDSA");
        }
    }
    void operator()() const {
        if (EVP_PKEY_verify(verifier_.get(), signature_.data(), size_, digest_.data(), digest_.size()) != 1) {
            throw ToolError("OpenSSL: a good signature is not accepted");
        }
    }

  private:
    using Context = std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)>;
    test::SoftwareKey key_;
    Context signer_, verifier_;
    std::array<unsigned char, 32> digest_{1, 2, 3};
    std::array<unsigned char, 128> signature_{};
    std::size_t size_ = signature_.size();
};

}  // namespace

LibraryFigures measure_library(double seconds) {
    const test::SoftwareEndpoint endpoint;
    const protocol::AttestRequest sent = endpoint.attest(host::Buffer(32, std::byte{7}));
    const verifier::AttestationKey key(endpoint.ak_public());
    const verifier::Policy policy = verifier::parse_policy(test::hypervisor_policy("bench", 1));
    const verifier::Evidence evidence{.source = verifier::Source::kHypervisor,
                                      .quote = sent.quote,
                                      .signature = sent.signature,
                                      .claims = sent.claims,
                                      .event_log = sent.event_log,
                                      .pcr_values = {}};
    const PlainEcdsa plain;
    const std::array<std::byte, 64> block{};
    Meter appraisals, ecdsa, hashes;
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    do {
        ecdsa.turn(plain);
        appraisals.turn([&] {
            const verifier::Verdict verdict = verifier::appraise(evidence, key, {}, sent.nonce, &policy);
            if (!verdict.accepted()) {
                for (const verifier::Finding& one : verdict.findings) {
                    if (!one.ok) throw ToolError("good evidence is refused: " + one.rule + ": " + one.detail);
                }
            }
        });
    } while (std::chrono::steady_clock::now() < end);
    hashes.turn([&] { (void)sha256(block); });
    return {appraisals.per_s(), ecdsa.per_s(), hashes.per_s()};
}

}  // namespace gatehouse::bench
