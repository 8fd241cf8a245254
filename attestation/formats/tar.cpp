// Archives and directories of evidence.
#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>

#include "attestation/formats/others_evidence.hpp"

namespace gatehouse::formats {
namespace {

using host::ToolError;

// A header (POSIX.1-1988, "ustar"): name, size in octal, kind; other fields are not needed.
constexpr std::size_t kBlock = 512;
constexpr std::size_t kNameSize = 100;
constexpr std::size_t kSizeAt = 124, kSizeSize = 12;
constexpr std::size_t kSumAt = 148, kSumSize = 8;
constexpr std::size_t kKindAt = 156;

std::string_view field(Bytes block, std::size_t at, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(block.data()) + at, size);
    return text.substr(0, text.find('\0'));
}

std::optional<std::uint64_t> octal(std::string_view text) {
    while (text.starts_with(' ')) text.remove_prefix(1);
    while (text.ends_with(' ')) text.remove_suffix(1);
    if (text.empty() || text.size() > 11) return std::nullopt;
    std::uint64_t value = 0;
    for (const char c : text) {
        if (c < '0' || c > '7') return std::nullopt;
        value = value << 3 | static_cast<std::uint64_t>(c - '0');
    }
    return value;
}

bool sum_is_right(Bytes block) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < kBlock; ++i)
        sum += i >= kSumAt && i < kSumAt + kSumSize ? ' ' : std::to_integer<std::uint64_t>(block[i]);
    return octal(field(block, kSumAt, kSumSize)) == sum;
}

void add(EvidenceFiles& files, const std::string& name, Buffer content, const std::string& what) {
    if (files.size() == kMaxEvidenceFiles)
        throw ToolError(what + ": has more than " + std::to_string(kMaxEvidenceFiles) + " files");
    if (!files.emplace(name, std::move(content)).second) throw ToolError(what + ": has two files called " + name);
}

}  // namespace

EvidenceFiles read_tar(Bytes archive, const std::string& what) {
    EvidenceFiles files;
    const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
    while (archive.size() >= kBlock) {
        const Bytes header = archive.first(kBlock);
        if (std::ranges::all_of(header, is_zero)) return files;
        const auto size = octal(field(header, kSizeAt, kSizeSize));
        if (!size || !sum_is_right(header)) throw ToolError(what + ": neither a directory nor a tar archive");
        archive = archive.subspan(kBlock);
        if (*size > archive.size()) throw ToolError(what + ": the archive ends within a file");
        const auto kind = static_cast<char>(header[kKindAt]);
        if (kind == '0' || kind == '\0') {
            const std::filesystem::path name(field(header, 0, kNameSize));
            if (*size > kMaxEvidenceFile) throw ToolError(what + ": " + name.filename().string() + " is too large");
            const Bytes content = archive.first(*size);
            add(files, name.filename().string(), Buffer(content.begin(), content.end()), what);
        }
        archive = archive.subspan(std::min<std::size_t>(archive.size(), (*size + kBlock - 1) / kBlock * kBlock));
    }
    if (!archive.empty() || files.empty()) throw ToolError(what + ": neither a directory nor a tar archive");
    return files;
}

EvidenceFiles read_directory(const std::string& path) {
    EvidenceFiles files;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
        if (!entry.is_regular_file() || entry.file_size() > kMaxEvidenceFile) continue;
        add(files, entry.path().filename().string(), host::read_file(entry.path().string(), kMaxEvidenceFile), path);
    }
    return files;
}

}  // namespace gatehouse::formats
