// Manifests of disk images: flash-appliance reads them before it knows who wrote them.
#include "image/flash/manifest.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace gatehouse;
using namespace gatehouse::flash;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes input = fuzz::input_bytes(data, size);
    const auto parsed = parse_manifest(input);
    if (!parsed.ok()) return 0;
    const Manifest& manifest = parsed->manifest;
    fuzz::require(manifest.chunks.size() <= kMaximumChunks);
    fuzz::require(manifest.mapped_bytes() <= manifest.length);
    const std::size_t last = manifest.chunks.size() - 1;
    fuzz::require(manifest.size(last) > 0 && manifest.offset(last) + manifest.size(last) == manifest.length);
    fuzz::require(fuzz::is_view_of(input, parsed->covered) && fuzz::is_view_of(input, parsed->signature));
    // What is accepted has one encoding only.
    fuzz::require(equal_bytes(unsigned_bytes(manifest, parsed->signature.size()), parsed->covered));
    fuzz::require(parsed->covered.size() + sizeof(std::uint16_t) + parsed->signature.size() == size);
    return 0;
}
