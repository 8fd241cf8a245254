#include "keyvault/random.hpp"

#include <algorithm>

namespace gatehouse {
namespace {

constexpr std::size_t kMinimumSeed = 32;
constexpr std::size_t kMaximumRequest = 65536;  // SP 800-90A, table 2: 2^19 bits

}  // namespace

Random::Random() { clear(); }

void Random::seed(Bytes entropy) {
    br_hmac_drbg_update(&context_, entropy.data(), entropy.size());
    seeded_ = std::min(kMinimumSeed, seeded_ + std::min(kMinimumSeed, entropy.size()));
}

void Random::fill(MutableBytes out) {
    require(seeded_ >= kMinimumSeed, "random generator used before it was seeded");
    require(out.size() <= kMaximumRequest, "random generator asked for too much");
    br_hmac_drbg_generate(&context_, out.data(), out.size());
}

void Random::clear() {
    wipe(&context_, sizeof(context_));
    br_hmac_drbg_init(&context_, &br_sha256_vtable, nullptr, 0);
    seeded_ = 0;
}

}  // namespace gatehouse
