// AES-256-XTS over disk sectors, as dm-crypt's `aes-xts-plain64` (IEEE 1619-2018, NIST SP 800-38E).
//
// A data unit is a logical sector of 512 or 4,096 bytes. Its tweak is the 128-bit little-endian number of the
// 512-byte unit at which it starts: LBA for 512-byte sectors, 8 * LBA for 4,096-byte sectors (dm-crypt
// without `iv_large_sectors`). Sectors are whole numbers of AES blocks, so there is no ciphertext stealing.
//
// The AES instructions do the work: no tables, no branches that depend on keys or data. There is no fallback
// and no null cipher. All functions here use xmm0-xmm15 (legacy SSE encodings only); with a key that uses VAES,
// transform() uses ymm0-ymm15: see ata::Environment.
#pragma once

#include "hypervisor/base/secret.hpp"

namespace gatehouse::ata {

inline constexpr std::size_t kXtsKeySize = 64;  // data key (32 bytes), then tweak key (32 bytes)
inline constexpr std::size_t kTweakUnit = 512;  // bytes that a tweak counts

// A run of `count` sectors of `size` bytes, 512 or a multiple. Sector i has the tweak `tweak` + i * `step`, a little-endian
// number of two words, of which the lower one wraps.
struct Sectors {
    const std::byte* from;
    std::byte* to;
    std::uint64_t count, size, step, tweak[2];
};

// An expanded key. Wiped when it goes, never copied.
class XtsKey {
  public:
    static constexpr std::size_t kBlockSize = 16;

    constexpr XtsKey() = default;
    ~XtsKey() { clear(); }
    XtsKey& operator=(XtsKey&&) = delete;  // nor any other

    // kUnsupported: this CPU has no AES instructions. kBadValue: both halves are equal (FIPS 140-2 IG A.9).
    // The key uses VAES from then on if can_use_vaes() (xts_vaes.hpp), and it need not be `narrow`.
    [[nodiscard]] Status set(std::span<const std::byte, kXtsKeySize> key, bool narrow = false);
    void clear();

    enum class Direction : std::uint8_t { kEncrypt, kDecrypt };
    // `to` may be `from`, or must not overlap it. `from` is read once.
    void transform(Direction direction, const Sectors& sectors) const;
    // Those of a disk, from sector `lba` on.
    void transform(Direction direction, const std::byte* from, std::byte* to, std::uint64_t count, std::uint32_t size,
                   std::uint64_t lba) const {
        const std::uint64_t step = size / kTweakUnit;
        transform(direction, {from, to, count, size, step, {lba * step, 0}});
    }

  private:
    static constexpr std::size_t kRoundKeys = 15;  // AES-256: 14 rounds
    using Schedule = std::array<std::byte, kBlockSize * kRoundKeys>;
    alignas(16) Schedule encryption_{}, decryption_{}, tweak_{};
    bool wide_ = false;  // uses VAES
};

}  // namespace gatehouse::ata
