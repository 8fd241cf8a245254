#include "attestation/verifier/event_log.hpp"

#include <algorithm>

#include "attestation/verifier/quick_hash.hpp"

namespace gatehouse::verifier {
namespace {

constexpr std::size_t kLegacyDigest = 20;
constexpr std::size_t kSignatureSize = 16;
constexpr std::size_t kLeastSpecId = kSignatureSize + 8;  // platform class, version, errata, UINTN size
constexpr std::uint32_t kMaxDigests = 16;
constexpr std::uint32_t kPcrs = 24;
constexpr std::uint32_t kFirmwarePcrs = 8;
constexpr std::uint32_t kFirstDynamicPcr = 17;
constexpr std::uint32_t kLastDynamicPcr = 22;
// An EV_NO_ACTION event may be of no PCR at all; Windows writes such.
constexpr std::uint32_t kNoPcr = 0xffffffff;
constexpr std::uint8_t kHcrtmLocality = 4;
// Fewer zeros or ones may be the start of an event that was cut off: PCR 0, type 0, the high bytes of a count.
constexpr std::size_t kLeastPadding = 12;

bool all_are(Bytes bytes, std::byte value) {
    return std::ranges::all_of(bytes, [value](std::byte one) { return one == value; });
}

// Whether a digest can be some hash's: of those whose bytes are zeros for their greater part, none of the lengths used
// will ever be seen (less than one of 2^50). Zeros for want of a digest are, and so is other memory.
bool is_like_a_hash(Bytes digest) {
    return static_cast<std::size_t>(std::ranges::count(digest, std::byte{0})) * 2 <= digest.size();
}

// Offset of the first of the bytes `fill` that the end consists of.
std::size_t tail_of(Bytes bytes, std::byte fill) {
    const auto last = std::find_if(bytes.rbegin(), bytes.rend(), [fill](std::byte one) { return one != fill; });
    return static_cast<std::size_t>(bytes.rend() - last);
}

bool starts_with(Bytes bytes, Bytes prefix) {
    return bytes.size() >= prefix.size() && equal_bytes(bytes.first(prefix.size()), prefix);
}

bool starts_with_any_case(Bytes bytes, std::string_view prefix) {
    if (bytes.size() < prefix.size()) return false;
    const auto lower = [](unsigned c) { return c >= 'A' && c <= 'Z' ? c + 0x20 : c; };
    for (std::size_t i = 0; i < prefix.size(); ++i) {
        if (lower(std::to_integer<unsigned>(bytes[i])) != lower(static_cast<unsigned char>(prefix[i]))) return false;
    }
    return true;
}

// Of a launch by TXT.
bool is_of_txt(LogEventType type) {
    const auto number = static_cast<std::uint32_t>(type);
    return number >= 0x400 && number < 0x600;
}

// Types that TCG's profiles of any age, and launches by TXT, use; but 0, which none does, and zeros look like.
bool is_known_type(LogEventType type) {
    const auto number = static_cast<std::uint32_t>(type);
    return (number != 0 && number <= static_cast<std::uint32_t>(LogEventType::kPostCode2)) || is_of_txt(type) ||
           (number >= 0x80000000 && number < 0x80000200);
}

struct BankSize {
    std::uint16_t algorithm;
    std::uint16_t size;
};

class LogReader {
  public:
    explicit LogReader(Bytes bytes)
        : bytes_(bytes), zeros_at_(tail_of(bytes, std::byte{0})), ones_at_(tail_of(bytes, std::byte{0xff})) {}

    EventLog read() {
        if (bytes_.empty()) {
            stop(Error::kTruncated, "event log is empty", 0);
            return std::move(log_);
        }
        read_first();
        while (log_.stopped.error == Error::kNone && offset_ < bytes_.size() && !at_padding()) {
            if (log_.events.size() == kMaxLogEvents) {
                stop(Error::kNoSpace, "event log: too many events", offset_);
                break;
            }
            log_.crypto_agile ? read_agile() : read_legacy();
        }
        if (log_.stopped.error == Error::kNone) look_at_whole();
        // Whatever many events may be called, they do not hide what is said of the log.
        log_.quirks.insert(log_.quirks.end(), of_whole_.begin(), of_whole_.end());
        return std::move(log_);
    }

  private:
    void stop(Error error, const char* item, std::size_t offset) { log_.stopped = {error, item, offset}; }
    void quirk(std::string text) {
        if (log_.quirks.size() >= kMaxQuirks) return;
        const bool last = log_.quirks.size() + 1 == kMaxQuirks;
        log_.quirks.push_back(last ? "and more" : std::move(text));
    }
    void quirk_at(const LogEvent& event, const std::string& text) {
        quirk("event " + std::to_string(event.number) + " at offset " + std::to_string(event.offset) + ": " + text);
    }

    // The rest of a buffer that firmware handed over whole: zeros, or erased flash.
    bool at_padding() {
        if (offset_ < zeros_at_ && offset_ < ones_at_) return false;
        if (bytes_.size() - offset_ < kLeastPadding) {
            stop(Error::kTruncated, "event log: too few bytes for an event, and for padding", offset_);
            return true;
        }
        if (offset_ >= zeros_at_) log_.zeros_before_padding = offset_ - zeros_at_;
        of_whole_.push_back("padding at the end: " + std::to_string(bytes_.size() - offset_) + " bytes of " +
                            (offset_ >= zeros_at_ ? "zeros" : "0xff"));
        return true;
    }

    void read_first() {
        Reader reader(bytes_);
        const std::uint32_t pcr = reader.u32();
        const auto type = static_cast<LogEventType>(reader.u32());
        const Bytes digest = reader.bytes(kLegacyDigest);
        const std::uint32_t size = reader.u32();
        const std::size_t data_at = reader.offset();
        const Bytes data = reader.bytes(size);
        if (reader.failed()) return stop(Error::kTruncated, "event log: first event", reader.offset());
        const bool spec_id = type == LogEventType::kNoAction && starts_with_any_case(data, "Spec ID Event");
        if (!spec_id) {
            quirk("no Spec ID event: read as a log of SHA-1 alone");
            log_.banks = {HashAlgorithm::kSha1};
            headless_ = true;
            return;
        }
        offset_ = reader.offset();
        if (pcr != 0) quirk("Spec ID event: of PCR " + std::to_string(pcr) + " rather than 0");
        if (!all_are(digest, std::byte{0})) quirk("Spec ID event: has a digest");
        if (!starts_with_any_case(data, "Spec ID Event03")) {
            if (!starts_with(data, literal_bytes("Spec ID Event00")) &&
                !starts_with(data, literal_bytes("Spec ID Event02"))) {
                quirk("Spec ID event: of an unknown version");
            }
            if (data.size() < kLeastSpecId) return stop(Error::kTruncated, "event log: Spec ID event", data_at);
            log_.banks = {HashAlgorithm::kSha1};
            return;
        }
        if (!starts_with(data, literal_bytes("Spec ID Event03\0")))
            quirk("Spec ID event: signature is not \"Spec ID Event03\" and a zero");
        log_.crypto_agile = true;
        read_spec_id(data, data_at);
    }

    // TCG_EfiSpecIDEvent (section 10.4.5.1).
    void read_spec_id(Bytes data, std::size_t data_at) {
        Reader reader(data);
        reader.skip(kSignatureSize);
        const std::uint32_t platform_class = reader.u32();
        const unsigned minor = reader.u8();
        const unsigned major = reader.u8();
        const unsigned errata = reader.u8();
        const unsigned uintn = reader.u8();
        const std::uint32_t count = reader.u32();
        if (reader.failed()) return stop(Error::kTruncated, "event log: Spec ID event", data_at);
        if (platform_class > 1) quirk("Spec ID event: platform class " + std::to_string(platform_class));
        if (major != 2 || minor != 0)
            quirk("Spec ID event: version " + std::to_string(major) + "." + std::to_string(minor) + " rather than 2.0");
        if (errata > 110) quirk("Spec ID event: errata " + std::to_string(errata));
        if (uintn != 1 && uintn != 2) quirk("Spec ID event: UINTN size " + std::to_string(uintn));
        if (count == 0) return stop(Error::kBadValue, "event log: the Spec ID event lists no bank", data_at + 24);
        for (std::uint32_t i = 0; i < count; ++i) {
            const std::size_t at = data_at + reader.offset();
            const BankSize bank{reader.u16(), reader.u16()};
            if (reader.failed()) return stop(Error::kTruncated, "event log: banks of the Spec ID event", at);
            if (!add_bank(bank, at)) return;
        }
        const unsigned vendor_size = reader.u8();
        if (reader.failed()) {
            quirk("Spec ID event: lacks the size of the vendor information");
        } else if (vendor_size != reader.remaining()) {
            stop(Error::kBadLength,
                 "event log: number of banks, or size of the vendor information, of the Spec ID event",
                 data_at + reader.offset() - 1);
        }
    }

    bool add_bank(const BankSize& bank, std::size_t at) {
        const auto algorithm = static_cast<HashAlgorithm>(bank.algorithm);
        const std::size_t known = digest_size(algorithm);
        if (known != 0 && known != bank.size) {
            stop(Error::kBadLength, "event log: digest size of a bank", at);
            return false;
        }
        if (bank.size == 0) {
            stop(Error::kBadLength, "event log: digest size of a bank", at);
            return false;
        }
        const bool again =
            std::ranges::any_of(sizes_, [&](const BankSize& other) { return other.algorithm == bank.algorithm; });
        if (again) {
            quirk("Spec ID event: bank " + std::to_string(bank.algorithm) + " is listed twice");
            return true;
        }
        if (sizes_.size() == kMaxDigests) {
            stop(Error::kNoSpace, "event log: too many banks", at);
            return false;
        }
        sizes_.push_back(bank);
        if (known == 0) {
            quirk("Spec ID event: unknown algorithm " + std::to_string(bank.algorithm) + " of " +
                  std::to_string(bank.size) + " bytes");
        } else {
            log_.banks.push_back(algorithm);
        }
        return true;
    }

    // Size of an algorithm's digests, by the header or else by the registry; 0: not known.
    [[nodiscard]] std::size_t size_of(std::uint16_t algorithm) const {
        for (const BankSize& bank : sizes_) {
            if (bank.algorithm == algorithm) return bank.size;
        }
        return digest_size(static_cast<HashAlgorithm>(algorithm));
    }

    [[nodiscard]] LogEvent begin_event(Reader& reader) const {
        LogEvent event{.offset = offset_, .number = static_cast<std::uint32_t>(log_.events.size() + 1)};
        event.pcr = reader.u32();
        event.type = static_cast<LogEventType>(reader.u32());
        return event;
    }
    // Whether there is such a PCR; what says otherwise is other memory.
    bool has_a_pcr(const LogEvent& event) {
        const bool no_action = event.type == LogEventType::kNoAction;
        if (event.pcr < kPcrs || (no_action && event.pcr == kNoPcr)) return true;
        stop(Error::kBadValue, "event log: PCR of an event", offset_);
        return false;
    }

    void read_legacy() {
        Reader reader(bytes_.subspan(offset_));
        LogEvent event = begin_event(reader);
        event.digests[0] = reader.bytes(kLegacyDigest);
        if (reader.failed()) return stop(Error::kTruncated, "event log: event", offset_);
        if (!has_a_pcr(event)) return;
        if (headless_ && !is_known_type(event.type))
            return stop(Error::kBadValue, "event log: type of an event, of a log without a Spec ID event", offset_ + 4);
        end_event(event, reader);
    }

    void read_agile() {
        Reader reader(bytes_.subspan(offset_));
        LogEvent event = begin_event(reader);
        const std::uint32_t count = reader.u32();
        if (reader.failed()) return stop(Error::kTruncated, "event log: event", offset_);
        if (!has_a_pcr(event)) return;
        if (count > sizes_.size() || (count == 0 && event.type != LogEventType::kNoAction))
            return stop(Error::kBadValue, "event log: number of an event's digests", offset_ + 8);
        std::size_t known = 0;
        for (std::uint32_t i = 0; i < count && !reader.failed(); ++i) {
            const std::size_t at = offset_ + reader.offset();
            const std::uint16_t algorithm = reader.u16();
            const std::size_t size = size_of(algorithm);
            if (reader.failed()) break;
            if (size == 0) return stop(Error::kUnsupported, "event log: algorithm of a digest", at);
            const Bytes digest = reader.bytes(size);
            const std::size_t index = bank_index(static_cast<HashAlgorithm>(algorithm));
            if (index == kLogBanks.size()) continue;
            if (!event.digests[index].empty()) {
                quirk_at(event, "two digests of one bank, the second is passed over");
                continue;
            }
            event.digests[index] = digest;
            if (std::ranges::find(log_.banks, kLogBanks[index]) != log_.banks.end()) {
                ++known;
            } else {
                return stop(Error::kMismatch, "event log: a digest of a bank that the header does not list", at);
            }
        }
        if (!reader.failed() && known != log_.banks.size())
            quirk_at(event, "lacks the digest of a bank that the header lists");
        end_event(event, reader);
    }

    // The size and the data, which are alike in both formats.
    void end_event(LogEvent& event, Reader& reader) {
        const std::uint32_t size = reader.u32();
        if (reader.failed()) return stop(Error::kTruncated, "event log: event", offset_);
        if (size > reader.remaining()) return stop(Error::kTruncated, "event log: data of an event", offset_);
        event.data = reader.bytes(size);
        // What extends PCRs of the firmware or of the system without a hash is other memory. A launch by TXT extends zeros
        // for what it has not.
        const bool extends = event.type != LogEventType::kNoAction;
        if (extends && event.pcr < kFirstDynamicPcr && has_known_digest(event) && !has_hash(event))
            return stop(Error::kBadValue, "event log: digests of an event, which no hash is like", offset_);
        extends_ = extends_ || extends;
        offset_ += reader.offset();
        look_at(event);
        log_.events.push_back(event);
    }

    void look_at(const LogEvent& event) {
        if (event.type == LogEventType::kNoAction) return look_at_no_action(event);
        const bool hcrtm = event.type == LogEventType::kEfiHcrtmEvent;
        if (hcrtm && event.pcr != 0) {
            quirk_at(event, "H-CRTM event of PCR " + std::to_string(event.pcr) + " rather than 0");
        } else if (hcrtm && pcr0_extended_) {
            quirk_at(event, "H-CRTM event that is not the first of PCR 0");
        }
        if (event.pcr == 0) {
            log_.hcrtm = log_.hcrtm || (hcrtm && !pcr0_extended_);
            pcr0_extended_ = true;
        }
        if (event.pcr < kFirmwarePcrs) {
            extended_ |= 1u << event.pcr;
            if (event.type == LogEventType::kSeparator) separated_ |= 1u << event.pcr;
        }
        constexpr std::byte kErrorSeparator[] = {std::byte{1}, std::byte{0}, std::byte{0}, std::byte{0}};
        if (event.type == LogEventType::kSeparator && (errors_ >> event.pcr & 1) == 0 &&
            equal_bytes(event.data, kErrorSeparator) && has_own_digests(event)) {
            errors_ |= 1u << event.pcr;
            of_whole_.push_back("event " + std::to_string(event.number) + " at offset " + std::to_string(event.offset) +
                                ": separator of PCR " + std::to_string(event.pcr) + " says that firmware met an error");
        }
    }
    static bool has_known_digest(const LogEvent& event) {
        return std::ranges::any_of(event.digests, [](Bytes digest) { return !digest.empty(); });
    }
    static bool has_hash(const LogEvent& event) {
        return std::ranges::any_of(event.digests,
                                   [](Bytes digest) { return !digest.empty() && is_like_a_hash(digest); });
    }
    // Whether all digests that can be computed are those of the data.
    static bool has_own_digests(const LogEvent& event) {
        for (std::size_t i = 0; i < kLogBanks.size(); ++i) {
            if (event.digests[i].empty() || !can_hash(kLogBanks[i])) continue;
            if (!equal_bytes(quick_hash(kLogBanks[i], {event.data}).bytes(), event.digests[i])) return false;
        }
        return true;
    }

    // Whether an event of a log without a Spec ID event shows that it is one: what a launch by TXT logs has no data.
    static bool vouches_for_log(const LogEvent& event) {
        if (event.type == LogEventType::kNoAction) return false;
        return (is_of_txt(event.type) && has_hash(event)) || has_own_digests(event);
    }

    void look_at_whole() {
        if (log_.events.empty()) return stop(Error::kTruncated, "event log: no event in it", offset_);
        if (!extends_) return stop(Error::kBadValue, "event log: no event in it that extends a PCR", offset_);
        if (headless_ && std::ranges::none_of(log_.events, vouches_for_log))
            return stop(Error::kMismatch, "event log: neither a Spec ID event, nor an event whose digest is its data's",
                        0);
        if (log_.hcrtm && log_.startup_locality && *log_.startup_locality != kHcrtmLocality) {
            of_whole_.push_back("start-up locality " + std::to_string(*log_.startup_locality) +
                                " beside an H-CRTM event, after which PCR 0 starts with 4");
        }
        std::string open;
        for (std::uint32_t pcr = 0; pcr < kFirmwarePcrs; ++pcr) {
            if ((extended_ & ~separated_ & 1u << pcr) != 0) open += (open.empty() ? "" : ", ") + std::to_string(pcr);
        }
        if (!open.empty()) of_whole_.push_back("no separator of PCR " + open + ": the log may lack its end");
    }

    void look_at_no_action(const LogEvent& event) {
        for (const Bytes digest : event.digests) {
            if (!all_are(digest, std::byte{0})) {
                quirk_at(event, "EV_NO_ACTION with a digest, which extends nothing");
                break;
            }
        }
        const Bytes name = literal_bytes("StartupLocality\0");
        if (!starts_with(event.data, name)) return;
        if (event.data.size() != name.size() + 1) quirk_at(event, "start-up locality of a wrong size");
        if (event.data.size() <= name.size()) return;
        const auto locality = std::to_integer<std::uint8_t>(event.data[name.size()]);
        if (locality != 0 && locality != 3 && locality != 4)
            return quirk_at(event, "start-up locality " + std::to_string(locality) + " does not exist");
        if (log_.startup_locality) return quirk_at(event, "a second start-up locality, passed over");
        if (event.pcr != 0) quirk_at(event, "start-up locality of PCR " + std::to_string(event.pcr) + " rather than 0");
        if (pcr0_extended_) quirk_at(event, "start-up locality after the first event of PCR 0");
        log_.startup_locality = locality;
    }

    Bytes bytes_;
    std::size_t zeros_at_;  // from where on there is nothing else; looked for once, not at each event
    std::size_t ones_at_;
    std::size_t offset_ = 0;
    std::vector<BankSize> sizes_;
    bool headless_ = false;  // without a Spec ID event: nothing but the events says that it is a log
    bool pcr0_extended_ = false;
    bool extends_ = false;         // an event that extends a PCR was there
    std::uint32_t extended_ = 0;   // bit n: an event of PCR n, of those that firmware closes with a separator
    std::uint32_t separated_ = 0;  // bit n: that separator
    std::uint32_t errors_ = 0;     // bit n: a separator of PCR n that stands for an error
    std::vector<std::string> of_whole_;
    EventLog log_;
};

}  // namespace

std::size_t bank_index(HashAlgorithm bank) {
    return static_cast<std::size_t>(std::ranges::find(kLogBanks, bank) - kLogBanks.begin());
}

Bytes LogEvent::digest(HashAlgorithm bank) const {
    const std::size_t index = bank_index(bank);
    return index < digests.size() ? digests[index] : Bytes{};
}

EventLog read_event_log(Bytes log) { return LogReader(log).read(); }

std::array<std::uint8_t, 3> start_localities(const EventLog& log) {
    std::array<std::uint8_t, 3> localities{0, 3, kHcrtmLocality};
    const std::uint8_t said = log.hcrtm ? kHcrtmLocality : log.startup_locality.value_or(0);
    std::rotate(localities.begin(), std::ranges::find(localities, said), localities.end());
    return localities;
}

Digest start_value(const EventLog& log, HashAlgorithm bank, std::uint32_t pcr, std::uint8_t locality) {
    Digest value{.algorithm = bank};
    const std::size_t size = digest_size(bank);
    if (pcr == 0 && size != 0) value.storage[size - 1] = std::byte{locality};
    if (pcr >= kFirstDynamicPcr && pcr <= kLastDynamicPcr) {
        const bool launched = std::ranges::any_of(log.events, [](const LogEvent& event) {
            return event.type != LogEventType::kNoAction && event.pcr >= kFirstDynamicPcr &&
                   event.pcr <= kLastDynamicPcr;
        });
        if (!launched) std::fill_n(value.storage.begin(), size, std::byte{0xff});
    }
    return value;
}

Digest start_value(const EventLog& log, HashAlgorithm bank, std::uint32_t pcr) {
    return start_value(log, bank, pcr, start_localities(log).front());
}

Digest replay(const EventLog& log, HashAlgorithm bank, std::uint32_t pcr, const Digest& start) {
    const std::size_t index = bank_index(bank);
    Digest value = start;
    for (const LogEvent& event : log.events) {
        if (event.pcr != pcr || event.type == LogEventType::kNoAction || event.digests[index].empty()) continue;
        value = quick_hash(bank, {value.bytes(), event.digests[index]});
    }
    return value;
}

}  // namespace gatehouse::verifier
