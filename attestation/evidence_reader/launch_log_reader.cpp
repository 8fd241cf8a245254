#include "attestation/evidence_reader/launch_log_reader.hpp"

#include <algorithm>

namespace gatehouse::evidence {
namespace {

constexpr std::array<std::byte, 20> kHeaderDigest{};

Bytes signature() { return literal_bytes("Spec ID Event03\0"); }

// The failure with the log's offset for its detail.
Failure at(const Failure& failure, std::size_t offset) { return {failure.error, failure.item, offset}; }

}  // namespace

Status LogBanks::add(HashAlgorithm algorithm) {
    if (digest_size(algorithm) == 0) {
        return {Error::kUnsupported, "event log: bank algorithm", static_cast<std::uint64_t>(algorithm)};
    }
    if (std::ranges::find(all(), algorithm) != all().end()) {
        return {Error::kBadValue, "event log: bank given twice", static_cast<std::uint64_t>(algorithm)};
    }
    algorithms[count++] = algorithm;  // distinct and known: never more than kMaxLogBanks
    return {};
}

Result<EventLogReader> EventLogReader::open(Bytes log) {
    EventLogReader result;
    Reader reader(log);
    const std::uint32_t pcr = reader.u32();
    const std::uint32_t type = reader.u32();
    const Bytes digest = reader.bytes(kHeaderDigest.size());
    const std::uint32_t size = reader.u32();
    const std::size_t start = reader.offset();
    const Bytes magic = reader.bytes(signature().size());
    reader.skip(4);  // platform class
    reader.skip(1);  // minor version
    const std::uint8_t major = reader.u8();
    reader.skip(2);  // errata, UINTN size
    const std::uint32_t count = reader.u32();
    GATEHOUSE_TRY(reader.status("event log header"));
    if (pcr != 0 || static_cast<EventType>(type) != EventType::kNoAction || !equal_bytes(digest, kHeaderDigest) ||
        !equal_bytes(magic, signature())) {
        return {Error::kBadMagic, "event log header", 0};
    }
    if (major != 2) return {Error::kBadVersion, "event log header: major version", start + signature().size() + 5};
    if (count == 0) return {Error::kBadValue, "event log header: no banks", reader.offset()};
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::size_t offset = reader.offset();
        const auto algorithm = static_cast<HashAlgorithm>(reader.u16());
        const std::uint16_t digest_bytes = reader.u16();
        GATEHOUSE_TRY(reader.status("event log header: banks"));
        if (const Status added = result.banks_.add(algorithm); !added.ok()) return at(added.failure(), offset);
        if (digest_bytes != digest_size(algorithm)) {
            return {Error::kBadLength, "event log header: digest size", offset};
        }
    }
    const std::size_t vendor_size_offset = reader.offset();
    reader.skip(reader.u8());
    GATEHOUSE_TRY(reader.status("event log header: vendor information"));
    if (reader.offset() - start != size) return {Error::kBadLength, "event log header: size", vendor_size_offset};
    result.log_ = log;
    result.offset_ = reader.offset();
    return result;
}

Result<Event> EventLogReader::next() {
    if (at_end()) return {Error::kNotFound, "event log: no more events", offset_};
    Event event{.offset = offset_, .number = events_ + 1};
    Reader reader(log_.subspan(offset_));
    event.pcr = reader.u32();
    event.type = static_cast<EventType>(reader.u32());
    const std::uint32_t count = reader.u32();
    if (!reader.failed() && count != banks_.count) return {Error::kMismatch, "event log: number of digests", offset_};
    for (std::size_t i = 0; i < banks_.count; ++i) {
        const auto algorithm = static_cast<HashAlgorithm>(reader.u16());
        if (!reader.failed() && algorithm != banks_.algorithms[i]) {
            return {Error::kMismatch, "event log: digest algorithm", offset_};
        }
        event.digests[i] = reader.bytes(digest_size(banks_.algorithms[i]));
    }
    event.data = reader.bytes(reader.u32());
    if (reader.failed()) return {Error::kTruncated, "event log: event", offset_};
    offset_ += reader.offset();
    ++events_;
    return event;
}

Digest extended(HashAlgorithm algorithm, Bytes value, Bytes digest) {
    return Hash(algorithm).update(value).update(digest).finish();
}

Result<Digest> replay(Bytes log, HashAlgorithm bank, std::uint32_t pcr) {
    GATEHOUSE_ASSIGN(EventLogReader reader, EventLogReader::open(log));
    const auto banks = reader.banks().all();
    const auto found = std::ranges::find(banks, bank);
    if (found == banks.end()) return {Error::kNotFound, "event log: bank", static_cast<std::uint64_t>(bank)};
    if (!can_hash(bank)) return {Error::kUnsupported, "event log: bank", static_cast<std::uint64_t>(bank)};
    const auto index = static_cast<std::size_t>(found - banks.begin());
    Digest value{.algorithm = bank};
    while (!reader.at_end()) {
        GATEHOUSE_ASSIGN(const Event event, reader.next());
        if (event.pcr != pcr || event.type == EventType::kNoAction) continue;
        value = extended(bank, value.bytes(), event.digests[index]);
    }
    return value;
}

}  // namespace gatehouse::evidence
