#include "attestation/verifier/event_data.hpp"

#include <algorithm>

#include "attestation/verifier/quick_hash.hpp"

namespace gatehouse::verifier {
namespace {

// What may have been hashed: the profile's first, then what is known to occur.
struct Candidate {
    Bytes bytes;
    const char* quirk;  // null for the profile's
};

class Candidates {
  public:
    explicit Candidates(const LogEvent& event) : event_(event) { collect(); }

    [[nodiscard]] const std::vector<Candidate>& all() const { return all_; }
    // Whether the data of this type are what is hashed, so that another digest is a contradiction.
    [[nodiscard]] bool binding() const { return binding_; }

  private:
    void add(Bytes bytes, const char* quirk) { all_.push_back({bytes, quirk}); }

    void collect() {
        const Bytes data = event_.data;
        switch (event_.type) {
            case LogEventType::kSeparator:
                binding_ = true;
                add(data, nullptr);
                add_separator_variants();
                break;
            case LogEventType::kCrtmVersion:
            case LogEventType::kEfiGptEvent:
            case LogEventType::kNonhostInfo:
                binding_ = true;
                add(data, nullptr);
                break;
            case LogEventType::kAction:
            case LogEventType::kEfiAction:
                binding_ = true;
                add_text();
                break;
            case LogEventType::kEfiVariableDriverConfig:
            case LogEventType::kEfiVariableBoot:
            case LogEventType::kEfiVariableBoot2:
            case LogEventType::kEfiVariableAuthority:
                binding_ = true;
                add_variable();
                break;
            case LogEventType::kIpl:
                add_text();
                add_boot_loader_text();
                break;
            case LogEventType::kEventTag:
                add(data, nullptr);
                add_tagged();
                break;
            case LogEventType::kPostCode:
            case LogEventType::kPostCode2:
            case LogEventType::kCompactHash:
            case LogEventType::kPlatformConfigFlags:
            case LogEventType::kOmitBootDeviceEvents:
            case LogEventType::kTableOfDevices:
            case LogEventType::kCrtmContents:
            case LogEventType::kNonhostConfig:
            case LogEventType::kIplPartitionData:
            case LogEventType::kEfiGptEvent2: add_text(); break;
            default: break;
        }
    }

    // The profile hashes the separator's four bytes; after an error some firmware logs its cause instead.
    void add_separator_variants() {
        static constexpr std::byte kZero[4] = {};
        static constexpr std::byte kError[4] = {std::byte{1}, std::byte{0}, std::byte{0}, std::byte{0}};
        static constexpr std::byte kOnes[4] = {std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}};
        if (event_.data.size() == 4) return;
        add(kZero, "a separator with other data than were hashed (zeros)");
        add(kOnes, "a separator with other data than were hashed (ones)");
        add(kError, "a separator that stands for an error");
    }

    // Text is hashed without its terminator (10.4.1); some hash it with, some log it without.
    void add_text() {
        const Bytes data = event_.data;
        add(data, nullptr);
        Bytes shorter = data;
        while (!shorter.empty() && shorter.back() == std::byte{0}) shorter = shorter.first(shorter.size() - 1);
        if (shorter.size() != data.size()) add(shorter, "text is logged with a terminator and hashed without");
        longer_.assign(data.begin(), data.end());
        longer_.push_back(std::byte{0});
        add(longer_, "text is hashed with a terminator and logged without");
    }

    // GRUB logs "grub_cmd: set x" or "kernel_cmdline: ..." and hashes what comes after the prefix.
    void add_boot_loader_text() {
        Bytes text = event_.data;
        while (!text.empty() && text.back() == std::byte{0}) text = text.first(text.size() - 1);
        const auto colon = std::ranges::find(text, std::byte{':'});
        if (text.end() - colon < 2 || *(colon + 1) != std::byte{' '}) return;
        add(text.subspan(static_cast<std::size_t>(colon - text.begin()) + 2), "hashed without its prefix");
    }

    // TCG_PCClientTaggedEvent: u32 tag, u32 size, data.
    void add_tagged() {
        Reader reader(event_.data);
        reader.skip(4);
        const std::uint32_t size = reader.u32();
        const Bytes inside = reader.bytes(size);
        if (!reader.failed()) add(inside, "hashed without tag and size");
    }

    // UEFI_VARIABLE_DATA: GUID, u64 characters of the name, u64 bytes of the value, name, value. Hashed
    // whole; EV_EFI_VARIABLE_BOOT and some shim and firmware versions hash the value alone.
    void add_variable() {
        const Bytes data = event_.data;
        add(data, nullptr);
        Reader reader(data);
        reader.skip(16);
        const std::uint64_t name = reader.u64();
        const std::uint64_t value = reader.u64();
        if (reader.failed() || name > reader.remaining() / 2) return;
        reader.skip(static_cast<std::size_t>(name) * 2);
        if (value > reader.remaining()) return;
        const std::size_t start = reader.offset();
        const Bytes inside = reader.bytes(static_cast<std::size_t>(value));
        const bool by_profile = event_.type == LogEventType::kEfiVariableBoot;
        add(inside, by_profile ? nullptr : "only the variable's value was hashed");
        if (reader.rest().empty()) return;
        add(data.first(start + inside.size()), "bytes after the variable's value, which were not hashed");
        // shim up to 15 counts the first characters of name and value twice, and the last of them not.
        add(data.first(data.size() - 1), "the last byte was not hashed");
    }

    const LogEvent& event_;
    std::vector<Candidate> all_;
    std::vector<std::byte> longer_;
    bool binding_ = false;
};

bool has_digests_of(const LogEvent& event, Bytes bytes) {
    bool any = false;
    for (std::size_t i = 0; i < kLogBanks.size(); ++i) {
        if (event.digests[i].empty() || !can_hash(kLogBanks[i])) continue;
        if (!equal_bytes(quick_hash(kLogBanks[i], {bytes}).bytes(), event.digests[i])) return false;
        any = true;
    }
    return any;
}

// The banks, in words, that do not have the digest of the profile's candidate.
std::string different_banks(const LogEvent& event, Bytes bytes) {
    std::string names;
    for (std::size_t i = 0; i < kLogBanks.size(); ++i) {
        if (event.digests[i].empty() || !can_hash(kLogBanks[i])) continue;
        if (equal_bytes(quick_hash(kLogBanks[i], {bytes}).bytes(), event.digests[i])) continue;
        static constexpr const char* kNames[] = {"SHA-1", "SHA-256", "SHA-384", "SHA-512", "SM3"};
        names += (names.empty() ? "" : ", ") + std::string(kNames[i]);
    }
    return names;
}

}  // namespace

DataFinding judge_event_data(const LogEvent& event) {
    if (event.type == LogEventType::kNoAction) return {DataJudgement::kNothingHashed, {}};
    const Candidates candidates(event);
    for (const Candidate& candidate : candidates.all()) {
        if (has_digests_of(event, candidate.bytes))
            return {DataJudgement::kMatches, candidate.quirk != nullptr ? candidate.quirk : ""};
    }
    if (!candidates.binding()) return {DataJudgement::kElsewhere, {}};
    const std::string banks = different_banks(event, event.data);
    if (banks.empty()) return {DataJudgement::kElsewhere, {}};  // no digest that can be computed
    return {DataJudgement::kDiffers, banks};
}

}  // namespace gatehouse::verifier
