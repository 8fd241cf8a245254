#include "keyvault/tool/luks2_header.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "hypervisor/base/hash.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kBinarySize = 4096;
constexpr std::size_t kSizeAt = 8;
constexpr std::size_t kAlgorithmAt = 72;
constexpr std::size_t kOffsetAt = 256;
constexpr std::size_t kChecksumAt = 448;
constexpr std::size_t kChecksumSize = 64;
constexpr std::size_t kMaximumCopySize = std::size_t{4} << 20;  // the largest that the format has

[[noreturn]] void refuse(const char* what) { throw ToolError(std::string("LUKS2 header: ") + what); }

// SHA-256 over the copy, with zeros in the place of its checksum; the checksum's other half is zeros.
Sha256Digest checksum(Bytes copy) {
    Buffer covered(copy.begin(), copy.end());
    std::fill_n(covered.begin() + kChecksumAt, kChecksumSize, std::byte{0});
    return sha256(covered);
}

MutableBytes copy_at(MutableBytes header, std::size_t offset, Bytes magic) {
    if (header.size() < offset + kBinarySize) refuse("truncated");
    const MutableBytes rest = header.subspan(offset);
    if (!equal_bytes(rest.first(magic.size()), magic)) refuse("no magic");
    if (load<std::uint16_t>(rest.data() + magic.size(), Endian::kBig) != 2) refuse("not of version 2");
    const auto size = load<std::uint64_t>(rest.data() + kSizeAt, Endian::kBig);
    if (size <= kBinarySize || size > kMaximumCopySize || size > rest.size()) refuse("bad size");
    if (load<std::uint64_t>(rest.data() + kOffsetAt, Endian::kBig) != offset) refuse("a copy at the wrong place");
    if (!equal_bytes(rest.subspan(kAlgorithmAt, 7), literal_bytes("sha256\0"))) refuse("not SHA-256");
    const MutableBytes copy = rest.first(size);
    if (!equal_bytes(copy.subspan(kChecksumAt, kSha256Size), checksum(copy))) refuse("bad checksum");
    return copy;
}

// The JSON text of a copy, with this segment.
std::string changed_text(Bytes copy, const Luks2Segment& segment) {
    const Bytes area = copy.subspan(kBinarySize);
    const auto end = std::ranges::find(area, std::byte{0});
    const std::string_view text(reinterpret_cast<const char*>(area.data()),
                                static_cast<std::size_t>(end - area.begin()));
    ordered_json content = ordered_json::parse(text, nullptr, false);
    if (!content.is_object() || !content.contains("segments")) refuse("no JSON with segments");
    ordered_json& segments = content["segments"];
    if (!segments.is_object() || segments.size() != 1 || !segments.contains("0") || !segments["0"].is_object()) {
        refuse("not one segment");
    }
    // Numbers of 64 bits are strings, as JSON's own need not have so many.
    segments["0"]["offset"] = std::to_string(segment.offset);
    segments["0"]["size"] = std::to_string(segment.size);
    segments["0"]["iv_tweak"] = std::to_string(segment.first_tweak);
    segments["0"]["sector_size"] = segment.sector_size;
    std::string changed = content.dump();
    if (changed.size() >= area.size()) refuse("no room for its JSON");
    return changed;
}

void put_text(MutableBytes copy, const std::string& text) {
    const MutableBytes area = copy.subspan(kBinarySize);
    std::ranges::fill(area, std::byte{0});
    copy_bytes(area, text_bytes(text));
    copy_bytes(copy.subspan(kChecksumAt), checksum(copy));
}

}  // namespace

void set_segment(MutableBytes header, const Luks2Segment& segment) {
    const MutableBytes first = copy_at(header, 0, literal_bytes("LUKS\xba\xbe"));
    const MutableBytes second = copy_at(header, first.size(), literal_bytes("SKUL\xba\xbe"));
    const std::string first_text = changed_text(first, segment);
    const std::string second_text = changed_text(second, segment);
    put_text(first, first_text);
    put_text(second, second_text);
}

}  // namespace gatehouse::host
