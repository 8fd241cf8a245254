// Archives and directories of evidence.
#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <optional>

#include "attestation/formats/others_evidence.hpp"

namespace gatehouse::formats {
namespace {

using host::ToolError;

// A header (POSIX.1-1988, "ustar"): name, size in octal, kind; other fields are not needed. A name that does not fit stands
// before it, as the content of an entry of its own: "path" among the records of POSIX.1-2001's pax, or GNU tar's 'L'.
constexpr std::size_t kBlock = 512;
constexpr std::size_t kNameSize = 100;
constexpr std::size_t kSizeAt = 124, kSizeSize = 12;
constexpr std::size_t kSumAt = 148, kSumSize = 8;
constexpr std::size_t kKindAt = 156;
constexpr char kPax = 'x', kGnuName = 'L';

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

// Records of pax, each "LENGTH KEYWORD=VALUE\n", LENGTH in decimal and of the whole record: the value of "path", or empty.
std::string path_of_pax(std::string_view records, const std::string& what) {
    constexpr std::string_view kPath = "path=";
    std::string path;
    while (!records.empty()) {
        std::size_t length = 0;
        const auto [end, error] = std::from_chars(records.data(), records.data() + records.size(), length);
        const auto digits = static_cast<std::size_t>(end - records.data());
        if (error != std::errc() || length > records.size() || length < digits + 2 || records[digits] != ' ' ||
            records[length - 1] != '\n')
            throw ToolError(what + ": a pax header of the archive cannot be read");
        const std::string_view record = records.substr(digits + 1, length - digits - 2);
        // Of a file too large for its header: nothing here is.
        if (record.starts_with("size=")) throw ToolError(what + ": a file of the archive is too large");
        if (record.starts_with(kPath)) path = record.substr(kPath.size());
        records.remove_prefix(length);
    }
    return path;
}

void add(EvidenceFiles& files, const std::string& name, Buffer content, const std::string& what) {
    if (files.size() == kMaxEvidenceFiles)
        throw ToolError(what + ": has more than " + std::to_string(kMaxEvidenceFiles) + " files");
    if (!files.emplace(name, std::move(content)).second) throw ToolError(what + ": has two files called " + name);
}

}  // namespace

EvidenceFiles read_tar(Bytes archive, const std::string& what) {
    EvidenceFiles files;
    std::string long_name;  // of the entry that comes next
    const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
    while (archive.size() >= kBlock) {
        const Bytes header = archive.first(kBlock);
        if (std::ranges::all_of(header, is_zero)) return files;
        const auto size = octal(field(header, kSizeAt, kSizeSize));
        if (!size || !sum_is_right(header)) throw ToolError(what + ": neither a directory nor a tar archive");
        archive = archive.subspan(kBlock);
        if (*size > archive.size()) throw ToolError(what + ": the archive ends within a file");
        const auto kind = static_cast<char>(header[kKindAt]);
        const bool is_file = kind == '0' || kind == '\0';
        const std::filesystem::path name = long_name.empty() ? std::string(field(header, 0, kNameSize)) : long_name;
        if (*size > kMaxEvidenceFile && (is_file || kind == kPax || kind == kGnuName))
            throw ToolError(what + ": " + name.filename().string() + " is too large");
        const Bytes content = archive.first(*size);
        if (kind == kPax || kind == kGnuName) {
            const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
            const std::string told =
                kind == kPax ? path_of_pax(text, what) : std::string(text.substr(0, text.find('\0')));
            if (!told.empty()) long_name = told;
        } else {
            long_name.clear();
        }
        if (is_file) {
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
