#include "attestation/server/collection.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "attestation/server/database/text.hpp"
#include "attestation/verifier/crl.hpp"
#include "attestation/verifier/ek_certificate.hpp"
#include "attestation/verifier/token.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::server {
namespace {

using host::File;
using host::ToolError;

constexpr std::size_t kMostItem = 4u << 20;  // of a CRL; a certificate's bound is verifier::kMaxCertificate
constexpr std::size_t kMostShown = 512;

std::string shown(const std::string& place) {
    std::string out;
    for (const char c : place) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte < 0x7f && c != '\\') {
            out += c;
        } else {
            static constexpr const char* kDigits = "0123456789abcdef";
            out.append("\\x").append(1, kDigits[byte >> 4]).append(1, kDigits[byte & 15]);
        }
    }
    if (out.size() > kMostShown) out = out.substr(0, kMostShown) + "...";
    return out;
}

// As a vendor may be called, and printed as it is.
bool is_vendor_name(const std::string& name) {
    return !name.empty() && name != "." && name != ".." && name.size() <= 128 && host::one_line(name) == name &&
           name.find('/') == std::string::npos;
}

std::string without_space(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n') out += c;
    }
    return out;
}

struct Place {
    std::string vendor, text;
};

// One certificate or CRL, as it is sorted in.
class Sorter {
  public:
    explicit Sorter(std::time_t now) : now_(now) {}

    void pass_over(const Place& place, const std::string& why) {
        ERR_clear_error();
        passed_over_.push_back({shown(place.text), why});
    }

    void add_certificate(const Place& place, Bytes der) {
        if (der.size() > verifier::kMaxCertificate) return pass_over(place, "too large for a certificate");
        auto parsed = verifier::parse_certificate(der);
        X509* const certificate = parsed.certificate.get();
        if (certificate == nullptr) return pass_over(place, "not a certificate in DER: " + parsed.why);
        if (parsed.size != der.size()) return pass_over(place, "bytes are left after the certificate");
        const std::string name = verifier::name_text(X509_get_subject_name(certificate));
        if (X509_check_ca(certificate) != 1) return pass_over(place, name + " is not a CA's certificate");
        const bool root = is_self_signed(certificate);
        const std::string weakness = verifier::certificate_weakness(certificate, !root);
        if (!weakness.empty()) return pass_over(place, name + ": " + weakness);
        if (X509_cmp_time(X509_get0_notBefore(certificate), &now_) >= 0)
            return pass_over(place, name + " is not valid yet");
        const bool expired = X509_cmp_time(X509_get0_notAfter(certificate), &now_) <= 0;
        add(place, {.place = shown(place.text),
                    .name = name,
                    .kind = root ? ItemKind::kRoot : ItemKind::kIntermediate,
                    .der = Buffer(der.begin(), der.end()),
                    .expired = expired});
    }

    void add_crl(const Place& place, Bytes der) {
        if (der.size() > kMostItem) return pass_over(place, "too large for a CRL");
        try {
            const verifier::CrlFacts facts = verifier::read_crl(der);
            add(place, {.place = shown(place.text),
                        .name = facts.issuer,
                        .kind = ItemKind::kCrl,
                        .der = Buffer(der.begin(), der.end())});
        } catch (const ToolError& error) {
            pass_over(place, error.what());
        }
    }

    void add_file(const Place& place, Bytes content) {
        ++files_;
        if (content.empty()) return pass_over(place, "empty");
        static constexpr std::string_view kBegin = "-----BEGIN ";
        const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
        if (content.front() != std::byte{0x30}) {
            if (text.find(kBegin) == std::string_view::npos)
                return pass_over(place, "neither a certificate nor a CRL, in DER or PEM");
            return add_pem(place, text);
        }
        // A CRL has no version in front of its first sequence.
        const auto parsed = verifier::parse_certificate(content);
        ERR_clear_error();
        if (parsed.certificate == nullptr && is_crl(content)) return add_crl(place, content);
        add_certificate(place, content);
    }

    [[nodiscard]] Collection result() && {
        Collection out{.vendors = {}, .passed_over = std::move(passed_over_), .files = files_};
        for (auto& [name, vendor] : vendors_) out.vendors.push_back(std::move(vendor));
        std::ranges::stable_sort(out.passed_over, {}, &PassedOver::place);
        return out;
    }

  private:
    static bool is_crl(Bytes der) {
        const unsigned char* at = raw(der);
        const verifier::openssl::RevocationList list(d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size())));
        ERR_clear_error();
        return list != nullptr;
    }

    static bool is_self_signed(X509* certificate) {
        EVP_PKEY* const key = X509_get0_pubkey(certificate);
        const bool self = X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) == 0 &&
                          key != nullptr && X509_verify(certificate, key) == 1;
        ERR_clear_error();
        return self;
    }

    void add(const Place& place, CollectionItem item) {
        const Sha256Digest digest = sha256(item.der);
        const auto [known, fresh] = seen_.emplace(std::pair(place.vendor, digest), item.place);
        if (!fresh) return pass_over(place, item.name + ": the same as in " + known->second);
        CollectionVendor& vendor = vendors_[place.vendor];
        vendor.name = place.vendor;
        vendor.items.push_back(std::move(item));
    }

    // Block by block: what is wrong in one is no matter to the next.
    void add_pem(const Place& file, std::string_view text) {
        static constexpr std::string_view kBegin = "-----BEGIN ", kEnd = "-----END ", kDashes = "-----";
        std::size_t number = 0;
        for (std::size_t at = 0; (at = text.find(kBegin, at)) != std::string_view::npos;) {
            const Place place{file.vendor, file.text + ": " + std::to_string(++number)};
            at += kBegin.size();
            const std::size_t label_end = text.find(kDashes, at);
            if (label_end == std::string_view::npos || label_end - at > 64) {
                pass_over(place, "a PEM block without a whole first line");
                continue;
            }
            const std::string_view label = text.substr(at, label_end - at);
            at = label_end + kDashes.size();
            const std::size_t next = text.find(kBegin, at), end = text.find(kEnd, at);
            if (end == std::string_view::npos || end > next) {
                pass_over(place, "a PEM block without an end");
                continue;
            }
            add_block(place, label, text.substr(at, end - at));
            at = end;
        }
    }

    void add_block(const Place& place, std::string_view label, std::string_view body) {
        const bool certificate = label == "CERTIFICATE" || label == "X509 CERTIFICATE", list = label == "X509 CRL";
        if (!certificate && !list)
            return pass_over(place, "a PEM block of another kind: " + verifier::printable(label));
        const auto der = verifier::from_base64(without_space(body));
        if (!der) return pass_over(place, "its base64 is broken");
        if (certificate) return add_certificate(place, *der);
        add_crl(place, *der);
    }

    std::time_t now_;
    std::map<std::string, CollectionVendor> vendors_;
    std::map<std::pair<std::string, Sha256Digest>, std::string> seen_;
    std::vector<PassedOver> passed_over_;
    std::uint64_t files_ = 0;
};

bool starts_with(Bytes content, std::string_view what, std::size_t at = 0) {
    return content.size() >= at + what.size() &&
           std::ranges::equal(content.subspan(at, what.size()), std::as_bytes(std::span(what)));
}

// By its first bytes, or by its name: an old tar has no mark.
bool is_archive(const std::string& place, Bytes content) {
    using namespace std::string_view_literals;
    static constexpr std::string_view kMarks[] = {"PK\x03\x04"sv,
                                                  "\x1f\x8b"sv,
                                                  "BZh"sv,
                                                  "\xfd"
                                                  "7zXZ"sv,
                                                  "\x28\xb5\x2f\xfd"sv,
                                                  "7z\xbc\xaf"sv,
                                                  "MSCF"sv};
    static constexpr std::string_view kEnds[] = {".tar"sv, ".tgz"sv, ".tbz2"sv, ".txz"sv, ".gz"sv,  ".bz2"sv,
                                                 ".xz"sv,  ".zst"sv, ".zip"sv,  ".7z"sv,  ".cab"sv, ".rar"sv};
    const std::string name = lower_case(place);
    return starts_with(content, "ustar", 257) ||
           std::ranges::any_of(kMarks, [&](std::string_view mark) { return starts_with(content, mark); }) ||
           std::ranges::any_of(kEnds, [&](std::string_view end) { return name.ends_with(end); });
}
constexpr const char* kIsArchive = "an archive: unpack it first";

struct CloseDirectory {
    void operator()(DIR* directory) const { ::closedir(directory); }
};

class Walk {
  public:
    explicit Walk(Sorter& sorter) : sorter_(sorter) {}

    // Of an open descriptor: what the name stands for meanwhile is of no account.
    void file(const File& open, const struct stat& facts, const Place& place, bool is_all = false) {
        if (facts.st_size > static_cast<off_t>(kMostCollectionFile))
            return sorter_.pass_over(place, "larger than " + std::to_string(kMostCollectionFile) + " bytes");
        Buffer content(static_cast<std::size_t>(facts.st_size));
        std::size_t size = 0;
        while (size < content.size()) {
            const ssize_t got = ::read(open.get(), content.data() + size, content.size() - size);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return sorter_.pass_over(place, std::strerror(errno));
            if (got == 0) break;
            size += static_cast<std::size_t>(got);
        }
        content.resize(size);
        bytes_ += size;
        if (bytes_ > kMostCollection)
            throw ToolError("the collection has more than " + std::to_string(kMostCollection) + " bytes");
        if (is_archive(place.text, content)) {
            if (is_all) throw ToolError(shown(place.text) + ": " + kIsArchive);
            return sorter_.pass_over(place, kIsArchive);
        }
        sorter_.add_file(place, content);
    }

    // `place.text` is "" at the top.
    void directory(File open, const Place& place, unsigned depth) {
        const std::unique_ptr<DIR, CloseDirectory> entries(::fdopendir(::fcntl(open.get(), F_DUPFD_CLOEXEC, 0)));
        if (!entries) return sorter_.pass_over(place, std::strerror(errno));
        std::vector<std::string> names;
        errno = 0;
        while (const dirent* const entry = ::readdir(entries.get())) {
            const std::string name = entry->d_name;
            if (name == "." || name == "..") continue;
            if (++entries_ > kMostCollectionEntries)
                throw ToolError("the collection has more than " + std::to_string(kMostCollectionEntries) + " files");
            names.push_back(name);
        }
        std::ranges::sort(names);  // a report is the same each time
        for (const std::string& name : names) entry(open, name, place, depth);
    }

  private:
    void entry(const File& parent, const std::string& name, const Place& above, unsigned depth) {
        Place place{above.vendor, above.text.empty() ? name : above.text + "/" + name};
        struct stat facts {};
        if (::fstatat(parent.get(), name.c_str(), &facts, AT_SYMLINK_NOFOLLOW) != 0)
            return sorter_.pass_over(place, std::strerror(errno));
        if (S_ISLNK(facts.st_mode)) return sorter_.pass_over(place, "a link");
        // A device is not opened.
        if (!S_ISREG(facts.st_mode) && !S_ISDIR(facts.st_mode))
            return sorter_.pass_over(place, "neither a file nor a directory");
        // What was put in its place meanwhile is not followed if it is a link, and not waited for if it is a FIFO.
        const File open(
            ::openat(parent.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
        if (open.get() < 0 || ::fstat(open.get(), &facts) != 0)
            return sorter_.pass_over(place, errno == ELOOP ? "a link" : std::strerror(errno));
        if (S_ISREG(facts.st_mode)) return file(open, facts, place);
        if (!S_ISDIR(facts.st_mode)) return sorter_.pass_over(place, "neither a file nor a directory");
        if (name.front() == '.') return sorter_.pass_over(place, "a hidden directory");
        if (depth == kMostCollectionDepth) return sorter_.pass_over(place, "directories in one another are too many");
        if (above.text.empty()) {
            if (!is_vendor_name(name)) return sorter_.pass_over(place, "its name is none for a vendor");
            place.vendor = name;
        }
        directory(File(::fcntl(open.get(), F_DUPFD_CLOEXEC, 0)), place, depth + 1);
    }

    Sorter& sorter_;
    std::uint64_t bytes_ = 0;
    std::size_t entries_ = 0;
};

}  // namespace

Collection read_collection(const std::string& path, const std::string& rest, std::time_t now) {
    if (!is_vendor_name(rest))
        throw ToolError("\"" + shown(rest) + "\" is no name for a vendor; give --vendor", host::ExitCode::kUsage);
    Sorter sorter(now);
    Walk walk(sorter);
    // What the operator names may be a link.
    File open(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
    struct stat facts {};
    if (open.get() < 0 || ::fstat(open.get(), &facts) != 0) throw ToolError(path + ": " + std::strerror(errno));
    if (S_ISDIR(facts.st_mode)) {
        walk.directory(std::move(open), {rest, ""}, 0);
    } else if (S_ISREG(facts.st_mode)) {
        if (facts.st_size > static_cast<off_t>(kMostCollectionFile))
            throw ToolError(path + ": larger than " + std::to_string(kMostCollectionFile) + " bytes");
        walk.file(open, facts, {rest, path.substr(path.rfind('/') + 1)}, true);
    } else {
        throw ToolError(path + ": neither a file nor a directory");
    }
    return std::move(sorter).result();
}

}  // namespace gatehouse::server
