#include "attestation/verifier/event_data.hpp"

#include <algorithm>
#include <deque>
#include <span>
#include <string_view>

#include "attestation/verifier/quick_hash.hpp"

namespace gatehouse::verifier {
namespace {

// Longer data are no text that a boot loader logs: a command may be a menu entry with all that is in it.
constexpr std::size_t kMaxText = 1024 * 1024;
constexpr std::uint32_t kBootLoaderPcr = 8;
constexpr std::uint32_t kFirstLaunchPcr = 17;
constexpr std::uint32_t kLastLaunchPcr = 22;
// Text in UTF-16 may end in three zeros.
constexpr std::size_t kLeastLost = 4;
// What GRUB writes before the text that it hashes, with its patches of older releases.
constexpr std::string_view kPrefixes[] = {"grub_cmd: ", "kernel_cmdline: ", "module_cmdline: ", "grub_cmd ",
                                          "grub_kernel_cmdline "};

constexpr const char* kWithout = "text is logged with a terminator and hashed without";
constexpr const char* kWith = "text is hashed with a terminator and logged without";
constexpr const char* kNarrow = "text is logged in UTF-16 and hashed in ASCII";
constexpr const char* kWide = "text is logged in ASCII and hashed in UTF-16";
constexpr const char* kPrefix = "hashed without its prefix";

// What may have been hashed: the profile's first, then what is known to occur.
struct Candidate {
    Bytes bytes;
    const char* quirk;  // null for the profile's
    DataJudgement judgement = DataJudgement::kMatches;
    std::size_t front = 0;  // DataFinding::front
};

// Text without the zeros of 1 or 2 bytes at its end.
Bytes unterminated(Bytes text, std::size_t unit) {
    while (text.size() >= unit &&
           std::ranges::all_of(text.last(unit), [](std::byte one) { return one == std::byte{0}; }))
        text = text.first(text.size() - unit);
    return text;
}

// UTF-16 that ASCII can say.
bool is_wide_ascii(Bytes text) {
    if (text.empty() || text.size() % 2 != 0) return false;
    for (std::size_t i = 0; i < text.size(); i += 2) {
        if (text[i] == std::byte{0} || text[i] > std::byte{0x7f} || text[i + 1] != std::byte{0}) return false;
    }
    return true;
}
bool is_ascii(Bytes text) {
    return !text.empty() &&
           std::ranges::all_of(text, [](std::byte one) { return one > std::byte{0} && one <= std::byte{0x7f}; });
}

// The size of GRUB's prefix, which stands before a text; 0 if there is none.
std::size_t prefix_size(Bytes text) {
    for (const std::string_view prefix : kPrefixes) {
        if (text.size() >= prefix.size() && equal_bytes(text.first(prefix.size()), std::as_bytes(std::span(prefix))))
            return prefix.size();
    }
    return 0;
}

class Candidates {
  public:
    explicit Candidates(const LogEvent& event) : event_(event) { collect(); }

    [[nodiscard]] const std::vector<Candidate>& all() const { return all_; }
    // Whether the data of this type are what is hashed, so that another digest is a contradiction.
    [[nodiscard]] bool binding() const { return binding_; }

  private:
    void add(Bytes bytes, const char* quirk) { all_.push_back({bytes, quirk}); }
    // The same of bytes that are not in the log.
    void add_made(std::vector<std::byte> bytes, const char* quirk) {
        made_.push_back(std::move(bytes));
        add(made_.back(), quirk);
    }

    void collect() {
        const Bytes data = event_.data;
        switch (event_.type) {
            case LogEventType::kSeparator:
                binding_ = true;
                add(data, nullptr);
                add_separator_variants();
                break;
            case LogEventType::kEfiGptEvent:
            case LogEventType::kNonhostInfo:
                binding_ = true;
                add(data, nullptr);
                break;
            case LogEventType::kCrtmVersion:
            case LogEventType::kAction:
            case LogEventType::kEfiAction:
                binding_ = true;
                add_text(data);
                break;
            case LogEventType::kEfiVariableDriverConfig:
            case LogEventType::kEfiVariableBoot:
            case LogEventType::kEfiVariableBoot2:
            case LogEventType::kEfiVariableAuthority:
                binding_ = true;
                add_variable();
                break;
            case LogEventType::kEfiSpdmDevicePolicy:
            case LogEventType::kEfiSpdmDeviceAuthority: add_variable(); break;
            case LogEventType::kIpl:
                add_text(data);
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
            case LogEventType::kNonhostCode:
            case LogEventType::kIplPartitionData:
            case LogEventType::kEfiHcrtmEvent:
            case LogEventType::kEfiGptEvent2: add_text(data); break;
            default: add(data, nullptr); break;
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

    // Text is hashed without its terminator (10.4.1); some hash it with, some log it without, some in another encoding.
    void add_text(Bytes data) {
        add(data, nullptr);
        if (data.size() > kMaxText) return;
        add_terminations(data, kWithout, kWith);
        const Bytes wide = unterminated(data, 2);
        const Bytes narrow = unterminated(data, 1);
        if (is_wide_ascii(wide)) {
            std::vector<std::byte> text;
            for (std::size_t i = 0; i < wide.size(); i += 2) text.push_back(wide[i]);
            add_made(text, kNarrow);
            text.push_back(std::byte{0});
            add_made(text, kNarrow);
        } else if (is_ascii(narrow)) {
            std::vector<std::byte> text;
            for (const std::byte one : narrow) text.insert(text.end(), {one, std::byte{0}});
            add_made(text, kWide);
            text.insert(text.end(), 2, std::byte{0});
            add_made(text, kWide);
        }
    }
    // Without any, or with one terminator of either size, as far as that is not `text` itself.
    void add_terminations(Bytes text, const char* without, const char* with) {
        // The last character of UTF-16 has a zero of its own.
        const bool wide =
            text.size() >= 2 && text.size() % 2 == 0 && text[0] != std::byte{0} && text[1] == std::byte{0};
        for (const std::size_t unit : {1u, 2u}) {
            if (wide && unit == 1) continue;
            const Bytes shorter = unterminated(text, unit);
            if (shorter.size() != text.size()) add(shorter, without);
            if (shorter.size() + unit == text.size()) continue;
            std::vector<std::byte> longer(shorter.begin(), shorter.end());
            longer.insert(longer.end(), unit, std::byte{0});
            add_made(std::move(longer), with);
        }
    }

    // GRUB logs "grub_cmd: set x" or "kernel_cmdline: ...", its older patches "grub_cmd set x", and hashes what comes after
    // the prefix, with its terminator or without.
    void add_boot_loader_text() {
        if (event_.pcr != kBootLoaderPcr || event_.data.size() > kMaxText) return;
        const std::size_t prefix = prefix_size(event_.data);
        if (prefix == 0) return;
        const std::size_t first = all_.size();
        add(event_.data.subspan(prefix), kPrefix);
        add_terminations(event_.data.subspan(prefix), kPrefix, kPrefix);
        for (std::size_t i = first; i < all_.size(); ++i) all_[i].front = prefix;
    }

    // TCG_PCClientTaggedEvent: u32 tag, u32 size, data.
    void add_tagged() {
        Reader reader(event_.data);
        reader.skip(4);
        const std::uint32_t size = reader.u32();
        const Bytes inside = reader.bytes(size);
        if (reader.failed()) return;
        add(inside, "hashed without tag and size");
        if (inside.size() > kMaxText) return;
        add_terminations(inside, "hashed without tag, size and terminator", "hashed without tag and size");
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
        all_.push_back({inside, by_profile ? nullptr : "only the variable's value was hashed", DataJudgement::kValue});
        if (reader.rest().empty()) return;
        add(data.first(start + inside.size()), "bytes after the variable's value, which were not hashed");
        // shim up to 15 counts the first characters of name and value twice, and the last of them not.
        add(data.first(data.size() - 1), "the last byte was not hashed");
    }

    const LogEvent& event_;
    std::vector<Candidate> all_;
    std::deque<std::vector<std::byte>> made_;
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

// The banks, in words, that do not have the digest of these bytes; `same` counts those that have.
std::string different_banks(const LogEvent& event, Bytes bytes, unsigned& same) {
    std::string names;
    same = 0;
    for (std::size_t i = 0; i < kLogBanks.size(); ++i) {
        if (event.digests[i].empty() || !can_hash(kLogBanks[i])) continue;
        if (equal_bytes(quick_hash(kLogBanks[i], {bytes}).bytes(), event.digests[i])) {
            ++same;
            continue;
        }
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
            return {candidate.judgement, candidate.quirk != nullptr ? candidate.quirk : "", candidate.front};
    }
    // One bank says that the data were hashed, another that they were not: both cannot be.
    for (const Candidate& candidate : candidates.all()) {
        unsigned same = 0;
        std::string banks = different_banks(event, candidate.bytes, same);
        if (same != 0) return {DataJudgement::kDiffers, std::move(banks)};
    }
    if (!candidates.binding()) return {DataJudgement::kElsewhere, {}};
    unsigned same = 0;
    std::string banks = different_banks(event, event.data, same);
    if (banks.empty()) return {DataJudgement::kElsewhere, {}};  // no digest that can be computed
    return {DataJudgement::kDiffers, std::move(banks)};
}

bool lost_its_end(const EventLog& log) {
    if (log.zeros_before_padding < kLeastLost || log.events.empty()) return false;
    const LogEvent& last = log.events.back();
    if (last.pcr >= kFirstLaunchPcr && last.pcr <= kLastLaunchPcr) return false;
    const DataFinding finding = judge_event_data(last);
    const bool covered = finding.judgement == DataJudgement::kMatches || finding.judgement == DataJudgement::kValue;
    return !covered || !finding.detail.empty();
}

const char* judgement_name(DataJudgement judgement) {
    switch (judgement) {
        case DataJudgement::kNothingHashed: return "nothing";
        case DataJudgement::kMatches: return "as logged";
        case DataJudgement::kValue: return "value alone";
        case DataJudgement::kDiffers: return "differs";
        case DataJudgement::kElsewhere: break;
    }
    return "elsewhere";
}

}  // namespace gatehouse::verifier
