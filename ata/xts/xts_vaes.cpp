// Compiled with -mvaes -mavx2, unlike the rest of the measured code (see ata/CMakeLists.txt).
#include "ata/xts/xts_vaes.hpp"

#include <cpuid.h>
#include <immintrin.h>

namespace gatehouse::ata {

namespace {

constexpr int kRounds = 14;
constexpr int kLanes = 8;  // as xts.cpp has, but of two blocks

__m256i spread(__m128i block) { return _mm256_broadcastsi128_si256(block); }

// Times x^power, of 16 at most, in GF(2^128), modulo x^128 + x^7 + x^2 + x + 1 (IEEE 1619, section 5.2). Of tweaks two by two:
// none waits for the one before it, as that would take longer than the rounds.
[[gnu::always_inline]] inline __m256i times_x(__m256i tweaks, int power) {
    const __m256i carry = _mm256_srli_epi64(tweaks, 64 - power), out = _mm256_srli_si256(carry, 8);
    const __m256i low = out ^ _mm256_slli_epi64(out, 1) ^ _mm256_slli_epi64(out, 2) ^ _mm256_slli_epi64(out, 7);
    return _mm256_slli_epi64(tweaks, power) ^ _mm256_slli_si256(carry, 8) ^ low;
}

// As transform_sectors() in xts.cpp.
template <bool kEncrypt>
void transform_sectors(const __m128i* schedule, const __m128i* tweak_schedule, Sectors sectors) {
    const __m256i white = spread(schedule[0]), last = spread(schedule[0] ^ schedule[kRounds]);
    const auto first = [&] {
        __m128i tweak = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sectors.tweak)) ^ tweak_schedule[0];
        sectors.tweak[0] += sectors.step;
        for (int r = 1; r < kRounds; ++r) tweak = _mm_aesenc_si128(tweak, tweak_schedule[r]);
        const __m256i both = spread(_mm_aesenclast_si128(tweak, tweak_schedule[kRounds]));
        return _mm256_blend_epi32(both, times_x(both, 1), 0xf0);
    };
    const auto* from = reinterpret_cast<const __m256i*>(sectors.from);
    auto* to = reinterpret_cast<__m256i*>(sectors.to);
    __m256i room[2][kLanes], tweak = first(), following = tweak;
    for (int i = 0; i < kLanes; ++i) room[0][i] = times_x(tweak, 2 * i) ^ white;
    for (; sectors.count != 0; --sectors.count) {
        for (std::uint64_t left = sectors.size; left != 0; left -= kTweakUnit) {
            if (left == kTweakUnit) following = first();
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half, from += kLanes, to += kLanes) {
                tweak = half == 1 && left == kTweakUnit ? following : times_x(tweak, 2 * kLanes);
                asm("" : "+m"(room));
                const __m256i(&now)[kLanes] = room[half];
                __m256i blocks[kLanes];
                for (int i = 0; i < kLanes; ++i) blocks[i] = _mm256_loadu_si256(from + i) ^ now[i];
#pragma GCC unroll 16
                for (int r = 1; r < kRounds; ++r) {
                    const __m256i key = spread(schedule[r]);
                    for (auto& b : blocks) b = kEncrypt ? _mm256_aesenc_epi128(b, key) : _mm256_aesdec_epi128(b, key);
                    if (r <= kLanes) room[1 - half][r - 1] = times_x(tweak, 2 * (r - 1)) ^ white;
                }
                for (auto& b : blocks)
                    b = kEncrypt ? _mm256_aesenclast_epi128(b, last) : _mm256_aesdeclast_epi128(b, last);
                asm("" : "+m"(room));
                for (int i = 0; i < kLanes; ++i) _mm256_storeu_si256(to + i, blocks[i] ^ now[i]);
            }
        }
    }
}

}  // namespace

// XCR0 is looked at before anything here may use what it enables.
[[gnu::target("general-regs-only")]] bool can_use_vaes() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kState = bit_OSXSAVE | bit_AVX, kSseAndAvx = 6;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kState) != kState) return false;
    asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    if ((a & kSseAndAvx) != kSseAndAvx) return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_AVX2) != 0 && (c & bit_VAES) != 0;
}

void transform_by_vaes(bool encrypt, const std::byte* schedule, const std::byte* tweak_schedule,
                       const Sectors& sectors) {
    const auto work = encrypt ? transform_sectors<true> : transform_sectors<false>;
    work(reinterpret_cast<const __m128i*>(schedule), reinterpret_cast<const __m128i*>(tweak_schedule), sectors);
}

}  // namespace gatehouse::ata
