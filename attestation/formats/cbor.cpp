#include "attestation/formats/cbor.hpp"

#include <cbor.h>

#include <algorithm>
#include <array>
#include <bit>
#include <set>

#include "keyvault/host_support/text.hpp"

namespace gatehouse::formats {
namespace {

using host::ToolError;
using Kind = CborItem::Kind;

constexpr std::size_t kMaxHead = 9;  // initial byte and eight of the argument
constexpr unsigned kTagType = 6;     // major type: the upper three bits of the initial byte
constexpr std::uint64_t kMostInteger = static_cast<std::uint64_t>(INT64_MAX);

template <typename Encode>
void append_head(Buffer& out, Encode encode) {
    std::array<unsigned char, kMaxHead> head{};
    const std::size_t size = encode(head.data(), head.size());
    const auto bytes = std::as_bytes(std::span(head).first(size));
    out.insert(out.end(), bytes.begin(), bytes.end());
}

std::string_view text_of(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// What one call of the decoder found: an item without what is in it.
struct Head {
    CborItem item;
    std::size_t inside = 0;  // items that belong to it
    bool known = false;
};

void found(void* context, Kind kind, std::uint64_t number, std::size_t inside = 0, Bytes bytes = {}) {
    auto& head = *static_cast<Head*>(context);
    head.item.kind = kind;
    head.item.number = number;
    head.item.bytes = bytes;
    head.inside = inside;
    head.known = true;
}

cbor_callbacks callbacks() {
    cbor_callbacks on = cbor_empty_callbacks;  // what it leaves empty stays unknown: indefinite lengths, undefined
    on.uint8 = [](void* to, std::uint8_t value) { found(to, Kind::kUnsigned, value); };
    on.uint16 = [](void* to, std::uint16_t value) { found(to, Kind::kUnsigned, value); };
    on.uint32 = [](void* to, std::uint32_t value) { found(to, Kind::kUnsigned, value); };
    on.uint64 = [](void* to, std::uint64_t value) { found(to, Kind::kUnsigned, value); };
    on.negint8 = [](void* to, std::uint8_t value) { found(to, Kind::kNegative, value); };
    on.negint16 = [](void* to, std::uint16_t value) { found(to, Kind::kNegative, value); };
    on.negint32 = [](void* to, std::uint32_t value) { found(to, Kind::kNegative, value); };
    on.negint64 = [](void* to, std::uint64_t value) { found(to, Kind::kNegative, value); };
    on.byte_string = [](void* to, cbor_data data, std::size_t size) {
        found(to, Kind::kBytes, 0, 0, std::as_bytes(std::span(data, size)));
    };
    on.string = [](void* to, cbor_data data, std::size_t size) {
        found(to, Kind::kText, 0, 0, std::as_bytes(std::span(data, size)));
    };
    on.array_start = [](void* to, std::size_t size) { found(to, Kind::kArray, 0, size); };
    on.map_start = [](void* to, std::size_t size) { found(to, Kind::kMap, 0, size > kMaxCborItems ? size : size * 2); };
    on.float2 = [](void* to, float value) { found(to, Kind::kFloat, std::bit_cast<std::uint64_t>(double{value})); };
    on.float4 = [](void* to, float value) { found(to, Kind::kFloat, std::bit_cast<std::uint64_t>(double{value})); };
    on.float8 = [](void* to, double value) { found(to, Kind::kFloat, std::bit_cast<std::uint64_t>(value)); };
    on.null = [](void* to) { found(to, Kind::kNull, 0); };
    on.boolean = [](void* to, bool value) { found(to, Kind::kBoolean, value ? 1 : 0); };
    return on;
}

class Decoder {
  public:
    Decoder(Bytes input, const std::string& what) : input_(input), what_(what) {}

    CborItem item(std::size_t depth) {
        if (depth > kMaxCborDepth) fail("nested too deeply");
        if (++items_ > kMaxCborItems) fail("too many items");
        Head head;
        const auto* const at = reinterpret_cast<const unsigned char*>(input_.data()) + offset_;
        const std::size_t left = input_.size() - offset_;
        if (left == 0) fail("ends too early");
        const cbor_decoder_result result = decode({at, left}, head);
        if (result.status == CBOR_DECODER_NEDATA) fail("ends too early");
        if (result.status != CBOR_DECODER_FINISHED) fail("not well-formed");
        if (!head.known) fail("an indefinite length, or a value that is not read");
        if (head.item.kind == Kind::kText && !host::is_utf8(text_of(head.item.bytes))) fail("text that is not UTF-8");
        offset_ += result.read;
        if (head.inside > input_.size() - offset_) fail("ends too early");
        for (std::size_t i = 0; i < head.inside; ++i) head.item.items.push_back(item(depth + 1));
        if (head.item.kind == Kind::kMap) refuse_equal_keys(head.item);
        return std::move(head.item);
    }

    void demand_end() const {
        if (offset_ != input_.size()) fail("something follows the item");
    }

  private:
    // A tag is read as the number that it is: libcbor 0.8 refuses those that were not assigned when it was written, of which
    // COSE's are some.
    cbor_decoder_result decode(std::span<const unsigned char> at, Head& head) const {
        if (at[0] >> 5 != kTagType) return cbor_stream_decode(at.data(), at.size(), &on_, &head);
        std::array<unsigned char, kMaxHead> number{};
        const std::size_t size = std::min(at.size(), number.size());
        std::ranges::copy(at.first(size), number.begin());
        number[0] = static_cast<unsigned char>(number[0] & 0x1f);
        const cbor_decoder_result result = cbor_stream_decode(number.data(), size, &on_, &head);
        head.item.kind = Kind::kTag;
        head.inside = 1;
        return result;
    }

    [[noreturn]] void fail(const char* why) const {
        throw ToolError(what_ + ": not the CBOR expected: " + why + ", at offset " + std::to_string(offset_));
    }

    void refuse_equal_keys(const CborItem& map) const {
        std::set<std::pair<Kind, std::string>> seen;
        for (std::size_t i = 0; i < map.items.size(); i += 2) {
            const CborItem& key = map.items[i];
            std::string name;
            if (key.kind == Kind::kUnsigned || key.kind == Kind::kNegative)
                name = std::to_string(key.number);
            else if (key.kind == Kind::kText || key.kind == Kind::kBytes)
                name.assign(reinterpret_cast<const char*>(key.bytes.data()), key.bytes.size());
            else
                fail("a map's key is neither a number nor a string");
            if (!seen.emplace(key.kind, name).second) fail("a map has two equal keys");
        }
    }

    Bytes input_;
    const std::string& what_;
    cbor_callbacks on_ = callbacks();
    std::size_t offset_ = 0;
    std::size_t items_ = 0;
};

template <typename Same>
const CborItem* find_key(const CborItem& map, Same same) {
    if (map.kind != Kind::kMap) return nullptr;
    for (std::size_t i = 0; i + 1 < map.items.size(); i += 2)
        if (same(map.items[i])) return &map.items[i + 1];
    return nullptr;
}

}  // namespace

CborWriter& CborWriter::integer(std::int64_t value) {
    if (value >= 0) return number(static_cast<std::uint64_t>(value));
    append_head(out_, [&](unsigned char* to, std::size_t size) {
        return cbor_encode_negint(static_cast<std::uint64_t>(-1 - value), to, size);
    });
    return *this;
}

CborWriter& CborWriter::number(std::uint64_t value) {
    append_head(out_, [&](unsigned char* to, std::size_t size) { return cbor_encode_uint(value, to, size); });
    return *this;
}

CborWriter& CborWriter::bytes(Bytes value) {
    append_head(out_, [&](unsigned char* to, std::size_t size) {
        return cbor_encode_bytestring_start(value.size(), to, size);
    });
    return item(value);
}

CborWriter& CborWriter::text(std::string_view value) {
    append_head(out_,
                [&](unsigned char* to, std::size_t size) { return cbor_encode_string_start(value.size(), to, size); });
    return item(host::text_bytes(value));
}

CborWriter& CborWriter::array(std::size_t items) {
    append_head(out_, [&](unsigned char* to, std::size_t size) { return cbor_encode_array_start(items, to, size); });
    return *this;
}

CborWriter& CborWriter::map(std::size_t pairs) {
    append_head(out_, [&](unsigned char* to, std::size_t size) { return cbor_encode_map_start(pairs, to, size); });
    return *this;
}

CborWriter& CborWriter::tag(std::uint64_t value) {
    append_head(out_, [&](unsigned char* to, std::size_t size) { return cbor_encode_tag(value, to, size); });
    return *this;
}

CborWriter& CborWriter::item(Bytes encoded) {
    out_.insert(out_.end(), encoded.begin(), encoded.end());
    return *this;
}

std::optional<std::int64_t> CborItem::integer() const {
    if ((kind != Kind::kUnsigned && kind != Kind::kNegative) || number > kMostInteger) return std::nullopt;
    const auto value = static_cast<std::int64_t>(number);
    return kind == Kind::kUnsigned ? value : -1 - value;
}

std::optional<std::string> CborItem::text() const {
    if (kind != Kind::kText) return std::nullopt;
    return std::string(text_of(bytes));
}

const CborItem* CborItem::tagged(std::uint64_t tag) const {
    return kind == Kind::kTag && number == tag && items.size() == 1 ? items.data() : nullptr;
}

const CborItem* CborItem::find(std::int64_t key) const {
    return find_key(*this, [&](const CborItem& one) { return one.integer() == key; });
}

const CborItem* CborItem::find(std::string_view key) const {
    return find_key(*this, [&](const CborItem& one) { return one.text() == key; });
}

CborItem read_cbor(Bytes input, const std::string& what) {
    Decoder decoder(input, what);
    CborItem item = decoder.item(0);
    decoder.demand_end();
    return item;
}

}  // namespace gatehouse::formats
