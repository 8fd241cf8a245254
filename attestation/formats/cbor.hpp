// CBOR (RFC 8949), over libcbor's encoder and streaming decoder: neither allocates by what the input says.
#pragma once

#include <optional>
#include <vector>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::formats {

using host::Buffer;

// Writes items one after the other, each length and number in its shortest form (RFC 8949, 4.2.1). After array(n) come n
// items, after map(n) n times key and value: the caller keeps count, and the order of keys.
class CborWriter {
  public:
    CborWriter& integer(std::int64_t value);
    CborWriter& number(std::uint64_t value);
    CborWriter& bytes(Bytes value);
    CborWriter& text(std::string_view value);  // UTF-8
    CborWriter& array(std::size_t items);
    CborWriter& map(std::size_t pairs);
    CborWriter& tag(std::uint64_t value);
    CborWriter& item(Bytes encoded);  // as it is
    [[nodiscard]] const Buffer& out() const { return out_; }

  private:
    Buffer out_;
};

// One item that was read. `bytes` is a view of the input; `number` of a kFloat the bits of the double.
struct CborItem {
    enum class Kind : std::uint8_t { kUnsigned, kNegative, kBytes, kText, kArray, kMap, kTag, kBoolean, kNull, kFloat };
    Kind kind = Kind::kNull;
    std::uint64_t number = 0;     // kUnsigned: the value; kNegative: -1 - value; kTag: the tag; kBoolean: 0 or 1
    Bytes bytes{};                // kBytes, kText
    std::vector<CborItem> items;  // kArray; kMap: key, value, key, value...; kTag: the one it is of

    // Nullopt or null if the item is of another kind, or the number too large.
    [[nodiscard]] std::optional<std::int64_t> integer() const;
    [[nodiscard]] std::optional<std::string> text() const;
    [[nodiscard]] const CborItem* tagged(std::uint64_t tag) const;
    // Of a map: the value of the first key that is this integer or text.
    [[nodiscard]] const CborItem* find(std::int64_t key) const;
    [[nodiscard]] const CborItem* find(std::string_view key) const;
    [[nodiscard]] bool is(Kind other) const { return kind == other; }
};

inline constexpr std::size_t kMaxCborDepth = 32;
inline constexpr std::size_t kMaxCborItems = 65'536;

// The one item that `input` is. ToolError "WHAT: ... at offset N" if it is not well-formed, has something behind it, has
// an indefinite length (which deterministic encoding does not), two equal integer or text keys in one map, text that is no
// UTF-8, or is deeper or has more items than the limits above.
[[nodiscard]] CborItem read_cbor(Bytes input, const std::string& what);

}  // namespace gatehouse::formats
