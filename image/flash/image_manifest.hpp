// Manifests of images: made of an image and signed, read and checked, and the image held against them.
#pragma once

#include <functional>

#include "image/flash/manifest.hpp"
#include "keyvault/host_support/authority.hpp"
#include "keyvault/host_support/disk.hpp"

namespace gatehouse::flash {

[[nodiscard]] host::Buffer sign_manifest(const Manifest& manifest, EVP_PKEY* authority);

// The manifest in this file, which `authority` has signed and which holds at `now` (seconds since 1970). ToolError, kNo where
// it is well-formed and another's, or ended.
[[nodiscard]] Manifest read_manifest(const std::string& path, EVP_PKEY* authority, std::uint64_t now);

// Told how many bytes of the image have been looked at.
using Watch = std::function<void(std::uint64_t bytes)>;
// Reads the whole image, whose partition table says for which sectors it is, and sets all but release and expiry.
// ToolError as read_image_tables() and of the disk.
[[nodiscard]] Manifest describe_image(const host::BlockDevice& image, std::uint32_t chunk_size, const Watch& watch);
// ToolError (kNo) with the first chunk that is not as the manifest says; or with the length.
void check_image(const host::BlockDevice& image, const Manifest& manifest, const Watch& watch);
// Whether a chunk's bytes are those that the manifest says.
[[nodiscard]] bool is_right(const Manifest& manifest, std::size_t chunk, Bytes content);

// "2027-01-31" (to that day's end, UTC) or "2027-01-31T12:00:00Z", in seconds since 1970; ToolError (usage) naming --expires.
[[nodiscard]] std::uint64_t parse_date(const std::string& text);
[[nodiscard]] std::string date_text(std::uint64_t seconds);  // "2027-01-31T12:00:00Z"

}  // namespace gatehouse::flash
