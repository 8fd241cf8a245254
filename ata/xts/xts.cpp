// Compiled with -maes -msse4.1, unlike the rest of the measured code (see ata/CMakeLists.txt).
#include "ata/xts/xts.hpp"

#include <cpuid.h>
#include <smmintrin.h>
#include <wmmintrin.h>

#include "ata/xts/xts_vaes.hpp"

namespace gatehouse::ata {

namespace {

constexpr std::size_t kBlockSize = XtsKey::kBlockSize;
constexpr int kRounds = 14;
constexpr std::size_t kLanes = 8;  // AESENC takes about four cycles, two start in each: eight hide all of it

__m128i load_block(const std::byte* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
void store_block(std::byte* to, __m128i block) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), block); }
// Schedules are aligned.
const __m128i* round_keys(const std::byte* schedule) { return reinterpret_cast<const __m128i*>(schedule); }

bool cpu_has_aes() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kNeeded = bit_AES | bit_SSE4_1;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & kNeeded) == kNeeded;
}

// Each word xored with all words below it.
__m128i prefix_xor(__m128i key) {
    key ^= _mm_slli_si128(key, 4);
    return key ^ _mm_slli_si128(key, 8);
}

// FIPS 197, section 5.2, for Nk = 8.
void expand(const std::byte* key, std::byte* schedule) {
    __m128i even = load_block(key);
    __m128i odd = load_block(key + kBlockSize);
    for (int i = 1;; ++i, schedule += 2 * kBlockSize) {
        store_block(schedule, even);
        if (i > kRounds / 2) return;
        store_block(schedule + kBlockSize, odd);
        const __m128i rotated = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(odd, 0), 0xff);
        even = prefix_xor(even) ^ rotated ^ _mm_set1_epi32(1 << (i - 1));
        odd = prefix_xor(odd) ^ _mm_shuffle_epi32(_mm_aeskeygenassist_si128(even, 0), 0xaa);
    }
}

// Blocks that are xored with the first round key already. `meanwhile(r)` follows round r.
template <bool kEncrypt, std::size_t kCount, class Meanwhile>
[[gnu::always_inline]] inline void cipher(const __m128i* schedule, __m128i last, __m128i (&blocks)[kCount],
                                          Meanwhile meanwhile) {
#pragma GCC unroll 16
    for (int r = 1; r < kRounds; ++r) {
        for (auto& b : blocks) b = kEncrypt ? _mm_aesenc_si128(b, schedule[r]) : _mm_aesdec_si128(b, schedule[r]);
        meanwhile(r);
    }
    for (auto& b : blocks) b = kEncrypt ? _mm_aesenclast_si128(b, last) : _mm_aesdeclast_si128(b, last);
}

// Times x in GF(2^128), modulo x^128 + x^7 + x^2 + x + 1 (IEEE 1619, section 5.2), plus `none`. The top bits of the
// halves, rotated to bytes 8 and 0, choose of each byte `none` or `both`, which is that plus the polynomial and the
// lower half's carry.
__m128i times_x(__m128i tweak, __m128i none, __m128i both) {
    return _mm_add_epi64(tweak, tweak) ^ _mm_blendv_epi8(none, both, _mm_alignr_epi8(tweak, tweak, 15));
}

// With the tweaks T, `now` holds T ^ first round key, which `none` keeps in. A block is xored with that before and after
// the rounds, the last of which has last ^ first round key: what is left of it is T, and a block costs one operation less.
//
// The tweaks of a batch of blocks are made between the rounds of the batch before, over the end of a sector as well:
// made in front of their own, they would wait behind those rounds in the CPU's scheduler, and the next rounds for them.
// They are kept in memory, for all registers but a few hold blocks: the empty asm has the compiler think so, too.
template <bool kEncrypt>
void transform_sectors(const __m128i* schedule, const __m128i* tweak_schedule, Sectors sectors) {
    constexpr std::size_t kBatch = kLanes * kBlockSize;
    const __m128i white = schedule[0], last = white ^ schedule[kRounds];
    const __m128i polynomial = _mm_set_epi32(0, 1, 0, 0x87);
    const __m128i none = white ^ times_x(white, __m128i{}, polynomial), both = none ^ polynomial;
    const auto first = [&] {
        __m128i tweak[] = {_mm_loadu_si128(reinterpret_cast<const __m128i*>(sectors.tweak)) ^ tweak_schedule[0]};
        sectors.tweak[0] += sectors.step;
        cipher<true>(tweak_schedule, tweak_schedule[kRounds], tweak, [](int) {});
        return tweak[0] ^ white;
    };
    __m128i room[2][kLanes];
    __m128i tweak = first(), following = tweak;
    for (__m128i& one : room[0]) one = tweak, tweak = times_x(tweak, none, both);
    for (; sectors.count != 0; --sectors.count) {
        for (std::uint64_t left = sectors.size; left != 0; left -= 2 * kBatch) {
            if (left == 2 * kBatch) following = first();
#pragma GCC unroll 2
            for (std::size_t half = 0; half < 2; ++half, sectors.from += kBatch, sectors.to += kBatch) {
                if (half == 1 && left == 2 * kBatch) tweak = following;
                asm("" : "+m"(room));
                const __m128i(&now)[kLanes] = room[half];
                __m128i blocks[kLanes];
                for (std::size_t i = 0; i < kLanes; ++i) blocks[i] = load_block(sectors.from + i * kBlockSize) ^ now[i];
                cipher<kEncrypt>(schedule, last, blocks, [&](int r) {
                    if (r > static_cast<int>(kLanes)) return;
                    room[half ^ 1][r - 1] = tweak;
                    tweak = times_x(tweak, none, both);
                });
                asm("" : "+m"(room));
                for (std::size_t i = 0; i < kLanes; ++i) store_block(sectors.to + i * kBlockSize, blocks[i] ^ now[i]);
            }
        }
    }
}

}  // namespace

Status XtsKey::set(std::span<const std::byte, kXtsKeySize> key, bool narrow) {
    constexpr std::size_t kHalf = kXtsKeySize / 2;
    if (!cpu_has_aes()) return {Error::kUnsupported, "disk key: CPU without AES instructions"};
    if (equal_secret(key.first(kHalf), key.last(kHalf))) return {Error::kBadValue, "disk key: equal halves"};
    wide_ = !narrow && can_use_vaes();
    expand(key.data(), encryption_.data());
    expand(key.data() + kHalf, tweak_.data());
    // The equivalent inverse cipher: FIPS 197, section 5.3.5.
    for (int r = 0; r <= kRounds; ++r) {
        const __m128i from = round_keys(encryption_.data())[kRounds - r];
        const __m128i to = r == 0 || r == kRounds ? from : _mm_aesimc_si128(from);
        store_block(decryption_.data() + kBlockSize * static_cast<std::size_t>(r), to);
    }
    return {};
}

void XtsKey::clear() {
    wipe(encryption_);
    wipe(decryption_);
    wipe(tweak_);
    wide_ = false;
}

void XtsKey::transform(Direction direction, const Sectors& sectors) const {
    const bool encrypt = direction == Direction::kEncrypt;
    const std::byte* schedule = encrypt ? encryption_.data() : decryption_.data();
    if (wide_) return transform_by_vaes(encrypt, schedule, tweak_.data(), sectors);
    const auto work = encrypt ? transform_sectors<true> : transform_sectors<false>;
    work(round_keys(schedule), round_keys(tweak_.data()), sectors);
}

}  // namespace gatehouse::ata
