// SHA-256 (FIPS 180-4, 6.2.2) by the processor's SHA extensions (AMD64 APM vol. 4, SHA256RNDS2 and on).
// Compiled with -msha -msse4.1, unlike the rest of the measured code (see ../CMakeLists.txt).
#include <cpuid.h>
#include <immintrin.h>

#include "hypervisor/base/hash.hpp"

namespace gatehouse {
namespace {

// FIPS 180-4, 4.2.2.
constexpr std::uint32_t kConstants[] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

__m128i load(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
void store(void* to, __m128i words) { _mm_storeu_si128(static_cast<__m128i*>(to), words); }

}  // namespace

bool has_sha_extensions() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    static const bool has = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_SHA) != 0;  // CPUID may be trapped
    return has;
}

// The names of vectors say which words of the state they hold, from the lowest lane on. Four rounds each time; w[i % 4]
// becomes the words of 16 rounds later.
void sha256_blocks(std::uint32_t* state, Bytes blocks) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    const __m128i badc = _mm_shuffle_epi32(load(state), 0xb1), hgfe = _mm_shuffle_epi32(load(state + 4), 0x1b);
    __m128i feba = _mm_alignr_epi8(badc, hgfe, 8), hgdc = _mm_blend_epi16(hgfe, badc, 0xf0);
    for (; !blocks.empty(); blocks = blocks.subspan(kShaBlock)) {
        __m128i w[4], one = feba, other = hgdc;
        for (std::size_t i = 0; i < 4; ++i) w[i] = _mm_shuffle_epi8(load(&blocks[16 * i]), big_endian);
#pragma GCC unroll 16
        for (std::size_t i = 0; i < 16; ++i) {
            const __m128i sum = _mm_add_epi32(w[i % 4], load(&kConstants[4 * i]));
            other = _mm_sha256rnds2_epu32(other, one, sum);
            one = _mm_sha256rnds2_epu32(one, other, _mm_shuffle_epi32(sum, 0x0e));
            const __m128i old = _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4);
            const __m128i next = _mm_add_epi32(_mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]), old);
            w[i % 4] = _mm_sha256msg2_epu32(next, w[(i + 3) % 4]);
        }
        feba = _mm_add_epi32(feba, one);
        hgdc = _mm_add_epi32(hgdc, other);
    }
    const __m128i abef = _mm_shuffle_epi32(feba, 0x1b), ghcd = _mm_shuffle_epi32(hgdc, 0xb1);
    store(state, _mm_blend_epi16(abef, ghcd, 0xf0));
    store(state + 4, _mm_alignr_epi8(ghcd, abef, 8));
}

}  // namespace gatehouse
