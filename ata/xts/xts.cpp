// Compiled with -maes -msse4.1, unlike the rest of the measured code (see ata/CMakeLists.txt).
#include "ata/xts/xts.hpp"

#include <cpuid.h>

#include "ata/xts/sectors.hpp"

namespace gatehouse::ata {

namespace {

constexpr std::size_t kBlockSize = XtsKey::kBlockSize;

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

struct AesNi {
    using Vector = __m128i;
    static Vector load(const __m128i* block) { return *block; }
    static Vector encrypt(Vector blocks, Vector key) { return _mm_aesenc_si128(blocks, key); }
    static Vector decrypt(Vector blocks, Vector key) { return _mm_aesdec_si128(blocks, key); }
    static Vector encrypt_last(Vector blocks, Vector key) { return _mm_aesenclast_si128(blocks, key); }
    static Vector decrypt_last(Vector blocks, Vector key) { return _mm_aesdeclast_si128(blocks, key); }

    struct Tweaks {
        explicit Tweaks(const __m128i* first) : tweak(*first) {}
        // Times x in GF(2^128), modulo x^128 + x^7 + x^2 + x + 1 (IEEE 1619, section 5.2).
        Vector next() {
            const Vector now = tweak;
            const Vector signs = _mm_srai_epi32(_mm_shuffle_epi32(now, 0x13), 31);
            tweak = _mm_add_epi64(now, now) ^ (signs & _mm_set_epi32(0, 1, 0, 0x87));
            return now;
        }
        void next_batch() {}
        Vector tweak;
    };
};

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
    const auto work = encrypt ? transform_sectors<AesNi, true> : transform_sectors<AesNi, false>;
    work(round_keys(encrypt ? encryption_.data() : decryption_.data()), round_keys(tweak_.data()), sectors);
}

}  // namespace gatehouse::ata
