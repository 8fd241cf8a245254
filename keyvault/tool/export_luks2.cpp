#include "keyvault/tool/export_luks2.hpp"

#include <libcryptsetup.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "keyvault/tool/finished_vault.hpp"
#include "keyvault/tool/luks2_header.hpp"

namespace gatehouse::host {
namespace {

// The passphrase has 256 bits of entropy, so that nobody guesses it however cheap a guess is: the fewest iterations that
// SP 800-132 and LUKS2 allow are enough. A costly function would only keep a small rescue system from opening the disk.
constexpr std::uint32_t kIterations = 1000;
constexpr std::size_t kPassphraseSize = 2 * volume::kSlotSecretSize;
// Each copy of the metadata, and room for this key slot (258,048 bytes) and two more, which cryptsetup luksAddKey fills.
constexpr std::uint64_t kMetadataSize = 16 * 1024;
constexpr std::uint64_t kKeySlotsSize = 1024 * 1024 - 2 * kMetadataSize;
constexpr std::uint64_t kHeaderSize = 2 * kMetadataSize + kKeySlotsSize;

using Passphrase = Secret<kPassphraseSize>;

// The digits as they stand in the file, upper case or lower: what a shell makes of it.
void read_digits(const std::string& path, Passphrase& digits) {
    Buffer text = read_line(path, 256);
    const bool fits = text.size() == kPassphraseSize;
    if (fits) copy_bytes(digits.bytes(), text);
    wipe(text);
    if (!fits) throw ToolError(path + ": a recovery key is 64 hex digits");
}

// --- The partition

struct Partition {
    std::uint32_t number = 0;  // from 1
    volume::GptEntry entry;
};

std::vector<Partition> encrypted_partitions(const PartitionTable& table, const volume::Header& header) {
    const std::vector<Extent> extents = encrypted_extents(header);
    std::vector<Partition> found;
    for (std::uint32_t i = 0; i < table.header.entry_count; ++i) {
        const volume::GptEntry entry = volume::gpt_entry(table.entries(), i);
        const auto holds = [&](const Extent& extent) {
            return extent.first <= entry.first && entry.last < extent.first + extent.count;
        };
        if (entry.used() && std::ranges::any_of(extents, holds)) found.push_back({i + 1, entry});
    }
    return found;
}

std::string list_of(const std::vector<Partition>& partitions) {
    std::string list;
    for (const Partition& partition : partitions) {
        list += (list.empty() ? "" : ", ") + std::to_string(partition.number) + " (" + partition_name(partition.entry) +
                ", " + std::to_string(partition.entry.count()) + " sectors)";
    }
    return list;
}

Partition choose(const ExportLuks2Request& request, const PartitionTable& table, const volume::Header& header) {
    const std::vector<Partition> all = encrypted_partitions(table, header);
    if (all.empty()) throw ToolError(request.disk + ": no partition of it is encrypted");
    if (request.partition == 0 && all.size() == 1) return all.front();
    const auto chosen = std::ranges::find(all, request.partition, &Partition::number);
    if (chosen != all.end()) return *chosen;
    const std::string what = request.partition == 0
                                 ? "several partitions are encrypted; choose one"
                                 : "partition " + std::to_string(request.partition) + " is not one that is encrypted";
    throw ToolError(request.disk + ": " + what + " with --partition: " + list_of(all), ExitCode::kUsage);
}

// --- The header

// libcryptsetup's context of one header, made in memory.
class HeaderMaker {
  public:
    HeaderMaker() : file_(::memfd_create("luks2", MFD_CLOEXEC)) {
        // libcryptsetup wants a byte of data behind the header at least.
        if (file_.get() < 0 || ::ftruncate(file_.get(), 2 * kHeaderSize) != 0)
            throw ToolError("LUKS2 header: no memory");
        crypt_set_log_callback(
            nullptr, [](int, const char*, void*) {}, nullptr);
        path_ = "/proc/self/fd/" + std::to_string(file_.get());
        check(crypt_init(&context_, path_.c_str()), "context");
        crypt_set_log_callback(context_, note, &last_error_);
        crypt_set_rng_type(context_, CRYPT_RNG_URANDOM);
    }
    ~HeaderMaker() { crypt_free(context_); }
    HeaderMaker(const HeaderMaker&) = delete;
    HeaderMaker& operator=(const HeaderMaker&) = delete;

    void make(const volume::Dek& dek, std::uint32_t sector_size, const Passphrase& passphrase) {
        static constexpr crypt_pbkdf_type kPbkdf{.type = CRYPT_KDF_PBKDF2,
                                                 .hash = "sha256",
                                                 .time_ms = 0,
                                                 .iterations = kIterations,
                                                 .max_memory_kb = 0,
                                                 .parallel_threads = 0,
                                                 .flags = CRYPT_PBKDF_NO_BENCHMARK};
        crypt_params_luks2 parameters{};
        parameters.pbkdf = &kPbkdf;
        parameters.sector_size = sector_size;
        check(crypt_set_metadata_size(context_, kMetadataSize, kKeySlotsSize), "size");
        check(crypt_set_data_offset(context_, kHeaderSize / 512), "offset");
        check(crypt_format(context_, CRYPT_LUKS2, "aes", "xts-plain64", nullptr, characters(dek.bytes()),
                           dek.bytes().size(), &parameters),
              "format");
        check(crypt_keyslot_add_by_volume_key(context_, 0, nullptr, 0, characters(passphrase.bytes()),
                                              passphrase.bytes().size()),
              "key slot");
        uuid_ = crypt_get_uuid(context_);
    }
    [[nodiscard]] const std::string& uuid() const { return uuid_; }
    [[nodiscard]] Buffer content() const {
        Buffer content = read_file(path_, 2 * kHeaderSize);
        content.resize(kHeaderSize);
        return content;
    }

  private:
    static const char* characters(Bytes bytes) { return reinterpret_cast<const char*>(bytes.data()); }
    static void note(int level, const char* message, void* to) {
        if (level == CRYPT_LOG_ERROR) *static_cast<std::string*>(to) = message;
    }
    void check(int result, const char* what) const {
        if (result >= 0) return;
        throw ToolError(std::string("LUKS2 header: ") + what + ": " +
                        (last_error_.empty() ? std::strerror(-result) : last_error_.c_str()));
    }

    File file_;
    std::string path_;
    std::string uuid_;
    std::string last_error_;
    crypt_device* context_ = nullptr;
};

}  // namespace

nlohmann::json export_luks2(const ExportLuks2Request& request) {
    if (::access(request.header_out.c_str(), F_OK) == 0) {
        throw ToolError(request.header_out + ": exists already; give the name of a new file", ExitCode::kUsage);
    }
    const Disk disk(request.disk, Disk::Access::kRead);
    const auto vault = std::make_unique<OpenVault>();
    open_finished_vault(disk, request.recovery_key, *vault);
    const Partition partition = choose(request, read_partition_tables(disk).primary, vault->header);
    Passphrase passphrase;
    read_digits(request.recovery_key, passphrase);

    const std::uint64_t size = disk.sector_size();
    const std::uint64_t offset = partition.entry.first * size;
    const std::uint64_t length = partition.entry.count() * size;
    // From the disk's beginning, where its tweaks count from: cryptsetup's opening takes them from the segment's beginning,
    // whatever iv_tweak says (2.6, seen with dm-crypt).
    const Luks2Segment segment{
        .offset = 0, .size = offset + length, .first_tweak = 0, .sector_size = vault->header.sector_size};
    HeaderMaker maker;
    maker.make(vault->keys.dek, segment.sector_size, passphrase);
    Buffer content = maker.content();
    set_segment(content, segment);
    create_file(request.header_out, content, 0600);
    return {
        {"header", request.header_out},
        {"partition", partition.number},
        {"name", partition_name(partition.entry)},
        {"first", partition.entry.first},
        {"offset", offset},
        {"size", length},
        {"sector_size", segment.sector_size},
        {"uuid", maker.uuid()},
        {"open", "tr -d '\\r\\n' < " + request.recovery_key + " | cryptsetup open --type luks2 --readonly --header " +
                     request.header_out + " --key-file - " + request.disk + " NAME"},
        {"mount", "mount -o ro,loop,offset=" + std::to_string(offset) + ",sizelimit=" + std::to_string(length) +
                      " /dev/mapper/NAME DIRECTORY"}};
}

}  // namespace gatehouse::host
