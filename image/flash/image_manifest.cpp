#include "image/flash/image_manifest.hpp"

#include <ctime>

#include "image/flash/tables.hpp"
#include "keyvault/host_support/content.hpp"

namespace gatehouse::flash {
namespace {

using host::Buffer;
using host::ExitCode;
using host::ToolError;

// Every chunk of the image in turn.
template <typename Visit>
void walk(const host::BlockDevice& image, const Manifest& manifest, const Watch& watch, Visit visit) {
    Buffer buffer(manifest.chunk_size);
    for (std::size_t chunk = 0; manifest.offset(chunk) < manifest.length; ++chunk) {
        const MutableBytes content = MutableBytes(buffer).first(manifest.size(chunk));
        image.read(manifest.offset(chunk) / image.sector_size(), content);
        visit(chunk, Bytes(content));
        watch(manifest.offset(chunk) + content.size());
    }
}

}  // namespace

Buffer sign_manifest(const Manifest& manifest, EVP_PKEY* authority) {
    // The signature is over its own size, too, which its kind decides.
    const std::size_t size = host::sign_digest(authority, Sha256Digest{}).bytes().size();
    Buffer bytes = unsigned_bytes(manifest, size);
    const tpm::SignatureBlob signature = host::sign_digest(authority, sha256(bytes));
    const auto length = encoded(static_cast<std::uint16_t>(size), Endian::kLittle);
    bytes.insert(bytes.end(), length.begin(), length.end());
    bytes.insert(bytes.end(), signature.bytes().begin(), signature.bytes().end());
    if (bytes.size() > kMaximumManifest) throw ToolError("flash manifest: the image has too many chunks");
    (void)host::expect(parse_manifest(bytes), "flash manifest");  // reads back what has been made
    return bytes;
}

Manifest read_manifest(const std::string& path, EVP_PKEY* authority, std::uint64_t now) {
    const Buffer bytes = host::read_file(path, kMaximumManifest);
    SignedManifest parsed = host::expect(parse_manifest(bytes), path);
    if (!host::verify_digest(authority, sha256(parsed.covered), parsed.signature)) {
        throw ToolError(path + ": not signed by this authority, or changed since", ExitCode::kNo);
    }
    const std::uint64_t end = parsed.manifest.expires;
    if (end != 0 && now >= end) {
        throw ToolError(path + ": ended at " + date_text(end) + "; get the manifest of a newer release", ExitCode::kNo);
    }
    return std::move(parsed.manifest);
}

Manifest describe_image(const host::BlockDevice& image, std::uint32_t chunk_size, const Watch& watch) {
    (void)read_image_tables(image);
    Manifest manifest;
    manifest.chunk_size = chunk_size;
    manifest.sector_size = static_cast<std::uint32_t>(image.sector_size());
    manifest.length = image.total_sectors() * image.sector_size();
    if (const Status status = check_form(manifest); !status.ok()) {
        throw ToolError(image.path() + ": " + host::describe(status.failure()));
    }
    Hash whole(HashAlgorithm::kSha256);
    walk(image, manifest, watch, [&](std::size_t, Bytes content) {
        whole.update(content);
        manifest.chunks.emplace_back();
        if (!host::is_zero(content)) manifest.chunks.back() = sha256(content);
    });
    manifest.image = host::as_sha256(whole.finish());
    return manifest;
}

void check_image(const host::BlockDevice& image, const Manifest& manifest, const Watch& watch) {
    const std::uint64_t length = image.total_sectors() * image.sector_size();
    if (length != manifest.length || image.sector_size() != manifest.sector_size) {
        throw ToolError(image.path() + ": " + std::to_string(length) + " bytes in sectors of " +
                            std::to_string(image.sector_size()) + ", its manifest is of " +
                            std::to_string(manifest.length) + " in sectors of " + std::to_string(manifest.sector_size),
                        ExitCode::kNo);
    }
    Hash whole(HashAlgorithm::kSha256);
    walk(image, manifest, watch, [&](std::size_t chunk, Bytes content) {
        whole.update(content);
        if (is_right(manifest, chunk, content)) return;
        throw ToolError(image.path() + ": not the image of this manifest, first in the " +
                            std::to_string(content.size()) + " bytes from " + std::to_string(manifest.offset(chunk)),
                        ExitCode::kNo);
    });
    // Signed all the same: what one authority says twice it says the same way.
    if (host::as_sha256(whole.finish()) != manifest.image) {
        throw ToolError(image.path() + ": its manifest contradicts itself: all chunks are right, and the image is not",
                        ExitCode::kNo);
    }
}

bool is_right(const Manifest& manifest, std::size_t chunk, Bytes content) {
    const auto& digest = manifest.chunks[chunk];
    return digest ? sha256(content) == *digest : host::is_zero(content);
}

std::uint64_t parse_date(const std::string& text) {
    const auto fail = [&]() -> ToolError {
        return ToolError("--expires " + text + ": a date as 2027-01-31 or 2027-01-31T12:00:00Z is wanted",
                         ExitCode::kUsage);
    };
    const bool whole_day = text.find('T') == std::string::npos;
    std::tm parts{};
    const char* const end = ::strptime(text.c_str(), whole_day ? "%Y-%m-%d" : "%Y-%m-%dT%H:%M:%SZ", &parts);
    if (end == nullptr || *end != '\0') throw fail();
    std::time_t seconds = ::timegm(&parts);
    if (seconds <= 0) throw fail();
    // What is no date, 31 February, is another one then.
    if (!date_text(static_cast<std::uint64_t>(seconds))
             .starts_with(whole_day ? text : text.substr(0, text.size() - 1))) {
        throw fail();
    }
    if (whole_day) seconds += 24 * 60 * 60;
    return static_cast<std::uint64_t>(seconds);
}

std::string date_text(std::uint64_t seconds) {
    const auto time = static_cast<std::time_t>(seconds);
    std::tm parts{};
    std::array<char, 64> text{};
    if (::gmtime_r(&time, &parts) == nullptr) return std::to_string(seconds) + " s after 1970";
    return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

}  // namespace gatehouse::flash
