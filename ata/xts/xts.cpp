// Compiled with -maes -msse4.1, unlike the rest of the measured code (see ata/CMakeLists.txt).
#include "ata/xts/xts.hpp"

#include <cpuid.h>
#include <smmintrin.h>
#include <wmmintrin.h>

namespace gatehouse::ata {

namespace {

constexpr std::size_t kBlockSize = XtsKey::kBlockSize;
constexpr std::size_t kLanes = 8;  // AESENC takes about four cycles, one or two start in each: eight hide all of it
constexpr int kRounds = 14;

__m128i load_block(const std::byte* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
void store_block(std::byte* to, __m128i block) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), block); }
__m128i round_key(const std::byte* schedule, int round) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(schedule) + round);
}

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

// The next block's tweak: times x in GF(2^128), modulo x^128 + x^7 + x^2 + x + 1 (IEEE 1619, section 5.2).
__m128i next_tweak(__m128i tweak) {
    const __m128i signs = _mm_shuffle_epi32(_mm_srai_epi32(tweak, 31), 0x13);
    return _mm_add_epi64(tweak, tweak) ^ (signs & _mm_set_epi32(0, 1, 0, 0x87));
}

__m128i encrypt_tweak(const std::byte* schedule, __m128i tweak) {
    tweak ^= round_key(schedule, 0);
    for (int r = 1; r < kRounds; ++r) tweak = _mm_aesenc_si128(tweak, round_key(schedule, r));
    return _mm_aesenclast_si128(tweak, round_key(schedule, kRounds));
}

// kCount blocks side by side; returns the tweak of the block after them.
template <bool kEncrypt, std::size_t kCount>
__m128i transform_blocks(const std::byte* schedule, const std::byte* from, std::byte* to, __m128i tweak) {
    __m128i tweaks[kCount];
    __m128i blocks[kCount];
    for (std::size_t i = 0; i < kCount; ++i, tweak = next_tweak(tweak)) {
        tweaks[i] = tweak;
        blocks[i] = load_block(from + i * kBlockSize) ^ tweak ^ round_key(schedule, 0);
    }
    for (int r = 1; r < kRounds; ++r) {
        const __m128i key = round_key(schedule, r);
        for (__m128i& b : blocks) b = kEncrypt ? _mm_aesenc_si128(b, key) : _mm_aesdec_si128(b, key);
    }
    const __m128i key = round_key(schedule, kRounds);
    for (std::size_t i = 0; i < kCount; ++i) {
        const __m128i b = blocks[i];
        const __m128i last = kEncrypt ? _mm_aesenclast_si128(b, key) : _mm_aesdeclast_si128(b, key);
        store_block(to + i * kBlockSize, last ^ tweaks[i]);
    }
    return tweak;
}

// A data unit of whole blocks, from its encrypted tweak.
template <bool kEncrypt>
void transform_whole(const std::byte* schedule, Bytes from, std::byte* to, __m128i tweak) {
    constexpr std::size_t kBatch = kLanes * kBlockSize;
    std::size_t at = 0;
    for (; from.size() - at >= kBatch; at += kBatch) {
        tweak = transform_blocks<kEncrypt, kLanes>(schedule, from.data() + at, to + at, tweak);
    }
    for (; from.size() - at >= kBlockSize; at += kBlockSize) {
        tweak = transform_blocks<kEncrypt, 1>(schedule, from.data() + at, to + at, tweak);
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
        const __m128i from = round_key(encryption_.data(), kRounds - r);
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

void XtsKey::transform(Direction direction, const std::byte* from, std::byte* to, std::uint64_t count,
                       std::uint32_t size, std::uint64_t lba) const {
    for (; count != 0; --count, ++lba, from += size, to += size) {
        std::array<std::byte, kBlockSize> tweak{};  // plain64
        store(tweak.data(), lba * (size / kTweakUnit), Endian::kLittle);
        transform_unit(direction, tweak, Bytes(from, size), to);
    }
}

void XtsKey::transform_unit(Direction direction, std::span<const std::byte, kBlockSize> tweak, Bytes from,
                            std::byte* to) const {
    const __m128i first = encrypt_tweak(tweak_.data(), load_block(tweak.data()));
    if (direction == Direction::kEncrypt) transform_whole<true>(encryption_.data(), from, to, first);
    if (direction == Direction::kDecrypt) transform_whole<false>(decryption_.data(), from, to, first);
}

}  // namespace gatehouse::ata
