#include "attestation/evidence/event_log.hpp"

#include <algorithm>

namespace gatehouse::evidence {
namespace {

constexpr std::array<std::byte, 20> kHeaderDigest{};
constexpr std::size_t kSpecIdFixedSize = 29;  // the header event's data but for 4 bytes for each bank

Bytes signature() { return literal_bytes("Spec ID Event03\0"); }

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

Result<EventLogWriter> EventLogWriter::create(MutableBytes buffer, std::span<const HashAlgorithm> banks) {
    EventLogWriter result;
    for (const HashAlgorithm bank : banks) GATEHOUSE_TRY(result.banks_.add(bank));
    if (banks.empty()) return {Error::kBadValue, "event log: no banks"};
    Writer writer(buffer);
    writer.u32(0);
    writer.u32(static_cast<std::uint32_t>(EventType::kNoAction));
    writer.bytes(kHeaderDigest);
    writer.u32(static_cast<std::uint32_t>(kSpecIdFixedSize + 4 * banks.size()));
    writer.bytes(signature());
    writer.u32(0);   // platform class: client
    writer.u8(0);    // minor
    writer.u8(2);    // major
    writer.u8(106);  // errata: profile 1.06 or 1.05 revision 23 and later
    writer.u8(2);    // UINTN: 64 bits
    writer.u32(static_cast<std::uint32_t>(banks.size()));
    for (const HashAlgorithm bank : banks) {
        writer.u16(static_cast<std::uint16_t>(bank));
        writer.u16(static_cast<std::uint16_t>(digest_size(bank)));
    }
    writer.u8(0);  // vendor information
    GATEHOUSE_TRY(writer.status("event log: header"));
    result.buffer_ = buffer;
    result.size_ = writer.offset();
    return result;
}

Result<EventLogWriter> EventLogWriter::resume(MutableBytes buffer, std::size_t size,
                                              std::span<const HashAlgorithm> banks) {
    if (size > buffer.size()) return {Error::kBadLength, "event log: size", size};
    EventLogWriter result;
    for (const HashAlgorithm bank : banks) GATEHOUSE_TRY(result.banks_.add(bank));
    result.buffer_ = buffer;
    result.size_ = size;
    return result;
}

Status EventLogWriter::append(std::uint32_t pcr, EventType type, std::span<const Digest> digests, Bytes data) {
    if (digests.size() != banks_.count) return {Error::kMismatch, "event log: number of digests", digests.size()};
    Writer writer(buffer_.subspan(size_));
    writer.u32(pcr);
    writer.u32(static_cast<std::uint32_t>(type));
    writer.u32(static_cast<std::uint32_t>(digests.size()));
    for (std::size_t i = 0; i < digests.size(); ++i) {
        if (digests[i].algorithm != banks_.algorithms[i]) {
            return {Error::kMismatch, "event log: digest algorithm", static_cast<std::uint64_t>(digests[i].algorithm)};
        }
        writer.u16(static_cast<std::uint16_t>(digests[i].algorithm));
        writer.bytes(digests[i].bytes());
    }
    writer.u32(static_cast<std::uint32_t>(data.size()));
    writer.bytes(data);
    if (writer.failed()) return {Error::kNoSpace, "event log is full", size_};
    size_ += writer.offset();
    return {};
}

Status EventLogWriter::append(const Measurement& measurement, std::span<const Digest> digests) {
    std::array<std::byte, 64> storage;
    Writer data(storage);
    data.u32(static_cast<std::uint32_t>(measurement.tag));
    data.u32(static_cast<std::uint32_t>(measurement.name.size()));
    data.bytes(std::as_bytes(std::span(measurement.name)));
    GATEHOUSE_TRY(data.status("event log: name of a measurement"));
    return append(measurement.pcr, EventType::kEventTag, digests, data.written());
}

Status EventLogWriter::append_cap(std::uint32_t pcr, std::span<const Digest> digests) {
    return append(pcr, EventType::kSeparator, digests, kCapData);
}

Digest extended(HashAlgorithm algorithm, Bytes value, Bytes digest) {
    return Hash(algorithm).update(value).update(digest).finish();
}

}  // namespace gatehouse::evidence
