#include "image/flash/manifest.hpp"

#include <algorithm>
#include <bit>

namespace gatehouse::flash {
namespace {

using host::Buffer;

constexpr const char* kItem = "flash manifest";

std::size_t map_size(std::size_t chunks) { return (chunks + 7) / 8; }

Status read_chunks(Reader& reader, Manifest& manifest) {
    const std::size_t count = static_cast<std::size_t>((manifest.length - 1) / manifest.chunk_size + 1);
    const Bytes map = reader.bytes(map_size(count));
    GATEHOUSE_TRY(reader.status(kItem));
    const auto in_map = [&](std::size_t chunk) {
        return (std::to_integer<unsigned>(map[chunk / 8]) >> (chunk % 8) & 1u) != 0;
    };
    for (std::size_t past = count; past < 8 * map.size(); ++past) {
        if (in_map(past)) return {Error::kBadValue, "flash manifest: map past the last chunk", past};
    }
    manifest.chunks.resize(count);
    for (std::size_t chunk = 0; chunk < count; ++chunk) {
        if (in_map(chunk)) reader.copy(manifest.chunks[chunk].emplace());
    }
    return reader.status(kItem);
}

}  // namespace

Status check_form(const Manifest& manifest) {
    const std::uint32_t chunk = manifest.chunk_size;
    if (!std::has_single_bit(chunk) || chunk < kMinimumChunk || chunk > kMaximumChunk) {
        return {Error::kBadValue, "flash manifest: size of a chunk", chunk};
    }
    if (manifest.sector_size != 512 && manifest.sector_size != 4096) {
        return {Error::kBadValue, "flash manifest: size of a sector", manifest.sector_size};
    }
    if (manifest.length == 0 || manifest.length % manifest.sector_size != 0) {
        return {Error::kBadValue, "flash manifest: length of the image", manifest.length};
    }
    const std::uint64_t chunks = (manifest.length - 1) / chunk + 1;
    if (chunks > kMaximumChunks) return {Error::kBadValue, "flash manifest: number of chunks", chunks};
    return {};
}

std::uint64_t Manifest::mapped_bytes() const {
    std::uint64_t bytes = 0;
    for (std::size_t chunk = 0; chunk < chunks.size(); ++chunk) bytes += chunks[chunk] ? size(chunk) : 0;
    return bytes;
}

Result<SignedManifest> parse_manifest(Bytes bytes) {
    Reader reader(bytes);
    const Bytes magic = reader.bytes(8);
    const std::uint32_t version = reader.u32();
    const std::uint32_t size = reader.u32();
    GATEHOUSE_TRY(reader.status(kItem));
    if (!equal_bytes(magic, literal_bytes("GHFLASHM"))) return {Error::kBadMagic, kItem};
    if (version != kManifestVersion) return {Error::kBadVersion, kItem, version};
    if (size > kMaximumManifest) return {Error::kBadLength, kItem, size};
    if (size > bytes.size()) return {Error::kTruncated, kItem, bytes.size()};
    if (size < bytes.size()) return {Error::kTrailingBytes, kItem, size};

    SignedManifest parsed;
    Manifest& manifest = parsed.manifest;
    manifest.chunk_size = reader.u32();
    manifest.sector_size = reader.u32();
    manifest.length = reader.u64();
    reader.copy(manifest.image);
    manifest.release = reader.u64();
    manifest.expires = reader.u64();
    GATEHOUSE_TRY(reader.status(kItem));
    GATEHOUSE_TRY(check_form(manifest));
    GATEHOUSE_TRY(read_chunks(reader, manifest));
    parsed.covered = bytes.first(reader.offset());
    parsed.signature = reader.sized();
    GATEHOUSE_TRY(reader.finished(kItem));
    if (parsed.signature.empty()) return {Error::kBadValue, "flash manifest: no signature"};
    return parsed;
}

Buffer unsigned_bytes(const Manifest& manifest, std::size_t signature_size) {
    const auto mapped = std::ranges::count_if(manifest.chunks, [](const auto& digest) { return digest.has_value(); });
    const std::size_t size =
        kManifestHead + map_size(manifest.chunks.size()) + static_cast<std::size_t>(mapped) * kSha256Size;
    Buffer bytes(size);
    Writer writer(bytes);
    writer.bytes(literal_bytes("GHFLASHM"));
    writer.u32(kManifestVersion);
    writer.u32(static_cast<std::uint32_t>(size + sizeof(std::uint16_t) + signature_size));
    writer.u32(manifest.chunk_size);
    writer.u32(manifest.sector_size);
    writer.u64(manifest.length);
    writer.bytes(manifest.image);
    writer.u64(manifest.release);
    writer.u64(manifest.expires);
    for (std::size_t first = 0; first < manifest.chunks.size(); first += 8) {
        unsigned bits = 0;
        for (std::size_t i = first; i < std::min(first + 8, manifest.chunks.size()); ++i) {
            bits |= (manifest.chunks[i] ? 1u : 0u) << (i - first);
        }
        writer.u8(static_cast<std::uint8_t>(bits));
    }
    for (const auto& digest : manifest.chunks) {
        if (digest) writer.bytes(*digest);
    }
    require(!writer.failed() && writer.offset() == size, "flash manifest: its size");
    return bytes;
}

}  // namespace gatehouse::flash
