// Bytes that nobody has vouched for, and how to take values out of them.
//
// Reader and Writer cannot run over their end: a Reader that would do so turns failed and yields zeros from then
// on, so that a parser reads a whole structure and asks once, with status(). A Writer drops what does not fit and
// turns failed in the same way.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "hypervisor/base/result.hpp"

namespace gatehouse {

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

enum class Endian : std::uint8_t { kLittle, kBig };

// The processor is little-endian.
template <std::unsigned_integral T>
[[nodiscard]] constexpr T ordered(T value, Endian endian) {
    return endian == Endian::kLittle ? value : static_cast<T>(__builtin_bswap64(value) >> (64 - 8 * sizeof(T)));
}

template <std::unsigned_integral T>
[[nodiscard]] inline T load(const std::byte* from, Endian endian) {
    T value = 0;
    std::memcpy(&value, from, sizeof(T));
    return ordered(value, endian);
}

template <std::unsigned_integral T>
inline void store(std::byte* to, T value, Endian endian) {
    value = ordered(value, endian);
    std::memcpy(to, &value, sizeof(T));
}

// The bytes of an integer.
template <std::unsigned_integral T>
[[nodiscard]] inline std::array<std::byte, sizeof(T)> encoded(T value, Endian endian) {
    std::array<std::byte, sizeof(T)> bytes{};
    store(bytes.data(), value, endian);
    return bytes;
}

// Bytes of a string literal without its terminating zero.
template <std::size_t N>
[[nodiscard]] inline Bytes literal_bytes(const char (&text)[N]) {
    return std::as_bytes(std::span(text, N - 1));
}

// BearSSL and C interfaces want unsigned char.
[[nodiscard]] inline const unsigned char* raw(Bytes bytes) {
    return reinterpret_cast<const unsigned char*>(bytes.data());
}
[[nodiscard]] inline unsigned char* raw(MutableBytes bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }

// Copies `from` to the front of `to`; `to` must be at least as long.
inline void copy_bytes(MutableBytes to, Bytes from) {
    if (!from.empty()) std::memmove(to.data(), from.data(), from.size());
}

[[nodiscard]] inline bool equal_bytes(Bytes a, Bytes b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

// Constant in time for a given length; for MACs and secrets.
[[nodiscard]] bool equal_secret(Bytes a, Bytes b);

// Overwrites memory in a way that the compiler may not remove.
void wipe(void* memory, std::size_t size);
inline void wipe(MutableBytes bytes) { wipe(bytes.data(), bytes.size()); }

class Reader {
  public:
    explicit Reader(Bytes bytes, Endian endian = Endian::kLittle) : bytes_(bytes), endian_(endian) {}

    [[nodiscard]] std::uint8_t u8() { return integer<std::uint8_t>(); }
    [[nodiscard]] std::uint16_t u16() { return integer<std::uint16_t>(); }
    [[nodiscard]] std::uint32_t u32() { return integer<std::uint32_t>(); }
    [[nodiscard]] std::uint64_t u64() { return integer<std::uint64_t>(); }
    // A view of the next `size` bytes; empty if there are fewer.
    [[nodiscard]] Bytes bytes(std::size_t size);
    // Copies the next out.size() bytes; zeros if there are fewer.
    void copy(MutableBytes out);
    void skip(std::size_t size) { (void)bytes(size); }
    // A two-byte length and that many bytes (a TPM2B).
    [[nodiscard]] Bytes sized() { return bytes(u16()); }
    // The rest.
    [[nodiscard]] Bytes rest() { return bytes(remaining()); }

    [[nodiscard]] std::size_t offset() const { return offset_; }
    [[nodiscard]] std::size_t remaining() const { return failed_ ? 0 : bytes_.size() - offset_; }
    [[nodiscard]] bool failed() const { return failed_; }
    // kTruncated with the offset if anything was read past the end.
    [[nodiscard]] Status status(const char* item) const;
    // As status(); and kTrailingBytes if something is left over.
    [[nodiscard]] Status finished(const char* item) const;

  private:
    template <std::unsigned_integral T>
    T integer() {
        const Bytes part = bytes(sizeof(T));
        return part.empty() ? T{0} : load<T>(part.data(), endian_);
    }

    Bytes bytes_;
    std::size_t offset_ = 0;
    Endian endian_;
    bool failed_ = false;
};

class Writer {
  public:
    explicit Writer(MutableBytes bytes, Endian endian = Endian::kLittle) : bytes_(bytes), endian_(endian) {}

    void u8(std::uint8_t value) { integer(value); }
    void u16(std::uint16_t value) { integer(value); }
    void u32(std::uint32_t value) { integer(value); }
    void u64(std::uint64_t value) { integer(value); }
    void bytes(Bytes from);
    void zeros(std::size_t size);
    // A two-byte length and the bytes (a TPM2B).
    void sized(Bytes from);
    // Reserves room for an integer whose value is known later; fill it with patch().
    template <std::unsigned_integral T>
    [[nodiscard]] std::size_t reserve() {
        const std::size_t at = offset_;
        integer(T{0});
        return at;
    }
    template <std::unsigned_integral T>
    void patch(std::size_t at, T value) {
        if (!failed_ && at + sizeof(T) <= offset_) store(bytes_.data() + at, value, endian_);
    }

    [[nodiscard]] std::size_t offset() const { return offset_; }
    [[nodiscard]] bool failed() const { return failed_; }
    // What has been written so far.
    [[nodiscard]] Bytes written() const { return bytes_.first(offset_); }
    [[nodiscard]] Status status(const char* item) const;

  private:
    // The next `size` bytes; empty if there are fewer.
    MutableBytes room(std::size_t size);
    template <std::unsigned_integral T>
    void integer(T value) {
        if (const MutableBytes to = room(sizeof(T)); !to.empty()) store(to.data(), value, endian_);
    }

    MutableBytes bytes_;
    std::size_t offset_ = 0;
    Endian endian_;
    bool failed_ = false;
};

}  // namespace gatehouse
