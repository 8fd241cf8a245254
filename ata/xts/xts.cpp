// Compiled with -maes -msse4.1, unlike the rest of the measured code (see ata/CMakeLists.txt).
#include "ata/xts/xts.hpp"

#include <cpuid.h>
#include <smmintrin.h>
#include <wmmintrin.h>

namespace gatehouse::ata {

namespace {

constexpr std::size_t kBlockSize = XtsKey::kBlockSize;
constexpr int kRounds = 14;
constexpr std::size_t kLanes = 8;  // AESENC takes about four cycles, two start in each: eight hide all of it
constexpr std::size_t kAhead = 8;  // sectors whose first tweaks are encrypted side by side

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

// Returns the tweak, and makes it the next block's: times x in GF(2^128), modulo x^128 + x^7 + x^2 + x + 1 (IEEE 1619,
// section 5.2).
__m128i take(__m128i& tweak) {
    const __m128i now = tweak;
    const __m128i signs = _mm_srai_epi32(_mm_shuffle_epi32(now, 0x13), 31);
    tweak = _mm_add_epi64(now, now) ^ (signs & _mm_set_epi32(0, 1, 0, 0x87));
    return now;
}

// The tweaks of a batch of blocks are made between the rounds of the batch before, over the end of a sector as well:
// made in front of their own, they would wait behind those rounds in the CPU's scheduler, and the next rounds for them.
//
// With the tweaks T, `now` and `next` hold T ^ first round key. A block is xored with that before and after the rounds,
// the last of which has last ^ first round key: what is left of it is T, and a block costs one operation less.
template <bool kEncrypt>
void transform_sectors(const __m128i* schedule, const __m128i* tweak_schedule, Sectors sectors) {
    constexpr std::size_t kBatch = kLanes * kBlockSize;
    const __m128i white = schedule[0];
    const __m128i last = white ^ schedule[kRounds];
    for (std::uint64_t count = 0; sectors.count != 0; sectors.count -= count) {
        count = sectors.count < kAhead ? sectors.count : kAhead;
        __m128i firsts[kAhead];
        for (__m128i& first : firsts) {
            first = _mm_set_epi64x(static_cast<long long>(sectors.tweak[1]), static_cast<long long>(sectors.tweak[0])) ^
                    tweak_schedule[0];
            sectors.tweak[0] += sectors.step;
        }
        cipher<true>(tweak_schedule, tweak_schedule[kRounds], firsts, [](int) {});

        __m128i room[2][kLanes];
        __m128i *now = room[0], *next = room[1];
        std::size_t sector = 0;
        __m128i tweak = firsts[0];
        for (std::size_t i = 0; i < kLanes; ++i) now[i] = take(tweak) ^ white;
        std::uint64_t left = sectors.size;
        for (std::uint64_t batch = count * (sectors.size / kBatch); batch != 0; --batch) {
            left = left == kBatch ? sectors.size : left - kBatch;
            if (left == sectors.size && ++sector < kAhead) tweak = firsts[sector];
            __m128i blocks[kLanes];
            for (std::size_t i = 0; i < kLanes; ++i) blocks[i] = load_block(sectors.from + i * kBlockSize) ^ now[i];
            cipher<kEncrypt>(schedule, last, blocks, [&](int r) {
                if (r <= static_cast<int>(kLanes)) next[r - 1] = take(tweak) ^ white;
            });
            for (std::size_t i = 0; i < kLanes; ++i) store_block(sectors.to + i * kBlockSize, blocks[i] ^ now[i]);
            sectors.from += kBatch;
            sectors.to += kBatch;
            std::swap(now, next);
        }
    }
}

}  // namespace

Status XtsKey::set(std::span<const std::byte, kXtsKeySize> key) {
    constexpr std::size_t kHalf = kXtsKeySize / 2;
    if (!cpu_has_aes()) return {Error::kUnsupported, "disk key: CPU without AES instructions"};
    if (equal_secret(key.first(kHalf), key.last(kHalf))) return {Error::kBadValue, "disk key: equal halves"};
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
}

void XtsKey::transform(Direction direction, const Sectors& sectors) const {
    const bool encrypt = direction == Direction::kEncrypt;
    const auto work = encrypt ? transform_sectors<true> : transform_sectors<false>;
    work(round_keys(encrypt ? encryption_.data() : decryption_.data()), round_keys(tweak_.data()), sectors);
}

}  // namespace gatehouse::ata
