// Compiled with -mvaes -mavx2, unlike the rest of the measured code (see ata/CMakeLists.txt).
#include "ata/xts/xts_vaes.hpp"

#include <cpuid.h>
#include <immintrin.h>

namespace gatehouse::ata {

namespace {

constexpr int kRounds = 14;
constexpr int kLanes = 8;    // as xts.cpp has, but of two blocks
constexpr int kBatches = 2;  // in 512 bytes
constexpr int kBatchBlocks = 2 * kLanes;

__m256i spread(__m128i block) { return _mm256_broadcastsi128_si256(block); }

// In GF(2^128), modulo x^128 + x^7 + x^2 + x + 1 (IEEE 1619, section 5.2).
__m128i times_x(__m128i tweak, int power = 1) {
    for (; power != 0; --power) {
        const __m128i tops = _mm_srai_epi32(_mm_shuffle_epi32(tweak, 0x13), 31);
        tweak = _mm_add_epi64(tweak, tweak) ^ (tops & _mm_set_epi32(0, 1, 0, 0x87));
    }
    return tweak;
}

// Makes tweaks, two to a vector, xored with the first round key, `white`, which the other two constants keep in.
struct Tweaks {
    __m256i white, next_white, far_white;

    explicit Tweaks(__m128i key)
        : white(spread(key)),
          next_white(spread(times_x(key, 2))),
          far_white(spread(times_x(key, kBatchBlocks) ^ key)) {}

    [[nodiscard]] __m256i start(__m128i tweak) const { return _mm256_set_m128i(times_x(tweak), tweak) ^ white; }
    // The next vector's: times x^2. The upper two bits of the upper half bring in the polynomial, those of the lower half
    // are carried.
    [[nodiscard]] __m256i next(__m256i tweaks) const {
        const __m256i tops = _mm256_shuffle_epi32(tweaks, 0x13);
        const __m256i first = choose(next_white, _mm256_set_epi32(0, 2, 0, 0x10e, 0, 2, 0, 0x10e), tops);
        const __m256i under = _mm256_add_epi64(tops, tops);
        const __m256i second = choose(white, _mm256_set_epi32(0, 1, 0, 0x87, 0, 1, 0, 0x87), under);
        return _mm256_slli_epi64(tweaks, 2) ^ first ^ second;
    }
    // Those of a batch later: times x^16. None waits for the one before it: next() alone would take longer than the rounds.
    [[nodiscard]] __m256i jump(__m256i tweaks) const {
        const __m256i out = _mm256_srli_si256(tweaks, 14);
        const __m256i low = out ^ _mm256_slli_epi32(out, 1) ^ _mm256_slli_epi32(out, 2) ^ _mm256_slli_epi32(out, 7);
        return _mm256_slli_si256(tweaks, 2) ^ low ^ far_white;
    }

  private:
    // Of each dword `a`, or a ^ b if its top bit is set.
    static __m256i choose(__m256i a, __m256i b, __m256i top_bits) {
        return __m256i(_mm256_blendv_ps(__m256(a), __m256(a ^ b), __m256(top_bits)));
    }
};

// As transform_sectors() in xts.cpp.
template <bool kEncrypt>
void transform_sectors(const __m128i* schedule, const __m128i* tweak_schedule, Sectors sectors) {
    const Tweaks tweaks(schedule[0]);
    const __m256i last = spread(schedule[0] ^ schedule[kRounds]);
    const auto first = [&] {
        __m128i tweak = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sectors.tweak)) ^ tweak_schedule[0];
        sectors.tweak[0] += sectors.step;
        for (int r = 1; r < kRounds; ++r) tweak = _mm_aesenc_si128(tweak, tweak_schedule[r]);
        return tweaks.start(_mm_aesenclast_si128(tweak, tweak_schedule[kRounds]));
    };
    const auto* from = reinterpret_cast<const __m256i*>(sectors.from);
    auto* to = reinterpret_cast<__m256i*>(sectors.to);
    __m256i room[kBatches][kLanes], tweak = first(), following = tweak;
    for (__m256i& one : room[0]) one = tweak, tweak = tweaks.next(tweak);
    for (std::uint64_t count = sectors.count, size = sectors.size; count != 0; --count) {
        for (std::uint64_t left = size; left != 0; left -= kTweakUnit) {
            if (left == kTweakUnit) following = first();
#pragma GCC unroll 2
            for (int batch = 0; batch < kBatches; ++batch, from += kLanes, to += kLanes) {
                const __m256i(&now)[kLanes] = room[batch];
                if (batch == 1) tweak = left == kTweakUnit ? following : tweaks.next(now[kLanes - 1]);
                asm("" : "+m"(room));
                __m256i blocks[kLanes];
                for (int i = 0; i < kLanes; ++i) blocks[i] = _mm256_loadu_si256(from + i) ^ now[i];
#pragma GCC unroll 16
                for (int r = 1; r < kRounds; ++r) {
                    const __m256i key = spread(schedule[r]);
                    for (auto& b : blocks) b = kEncrypt ? _mm256_aesenc_epi128(b, key) : _mm256_aesdec_epi128(b, key);
                    if (r > kLanes) continue;
                    room[1 - batch][r - 1] = batch == 0 ? tweaks.jump(now[r - 1]) : tweak;
                    if (batch == 1) tweak = tweaks.next(tweak);
                }
                asm("" : "+m"(room));
                for (int i = 0; i < kLanes; ++i) {
                    const __m256i b = blocks[i];
                    const __m256i done =
                        kEncrypt ? _mm256_aesenclast_epi128(b, last) : _mm256_aesdeclast_epi128(b, last);
                    _mm256_storeu_si256(to + i, done ^ now[i]);
                }
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
