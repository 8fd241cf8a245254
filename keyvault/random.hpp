// Random numbers: the interface that key code takes them from, and a generator for where there is no
// operating system.
#pragma once

#include <bearssl/bearssl_rand.h>

#include "hypervisor/base/bytes.hpp"

namespace gatehouse {

// Fills memory with bytes that nobody can predict; it cannot fail.
class RandomSource {
  public:
    virtual void fill(MutableBytes out) = 0;

  protected:
    ~RandomSource() = default;
};

// HMAC_DRBG with SHA-256 (NIST SP 800-90A, 10.1.2) over whatever the caller collected: RDRAND,
// TPM2_GetRandom, time stamps. Sources are mixed, so that the best of them counts; a broken one does no harm.
//
//     Random random;
//     random.seed(bytes_from_rdrand);       // any number of times, in any order
//     random.seed(bytes_from_the_tpm);
//     random.fill(nonce);
//
// At least 32 bytes must have been given to seed() before fill(), which gives 65,536 at most; anything
// else is a broken invariant (panic). The caller knows how much entropy its bytes hold: 32 bytes of
// real entropy are wanted before the first secret is made. Not for several CPUs at once.
class Random final : public RandomSource {
  public:
    Random();
    ~Random() { clear(); }
    Random& operator=(Random&&) = delete;  // nor any other

    void seed(Bytes entropy);
    void fill(MutableBytes out) override;
    // Wipes the state; the object must be seeded again before it is used.
    void clear();

  private:
    br_hmac_drbg_context context_;
    std::size_t seeded_ = 0;
};

}  // namespace gatehouse
