#include "attestation/evidence/launch_log.hpp"

namespace gatehouse::evidence {
namespace {

constexpr std::array<std::byte, 20> kHeaderDigest{};
constexpr std::size_t kSpecIdFixedSize = 29;  // the header event's data but for 4 bytes for each bank

}  // namespace

Result<EventLogWriter> EventLogWriter::create(MutableBytes buffer, std::span<const HashAlgorithm> banks) {
    Writer writer(buffer);
    writer.u32(0);
    writer.u32(static_cast<std::uint32_t>(EventType::kNoAction));
    writer.bytes(kHeaderDigest);
    writer.u32(static_cast<std::uint32_t>(kSpecIdFixedSize + 4 * banks.size()));
    writer.bytes(literal_bytes("Spec ID Event03\0"));
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
    return EventLogWriter(buffer, writer.offset(), banks);
}

Status EventLogWriter::append(std::uint32_t pcr, EventType type, std::span<const Digest> digests, Bytes data) {
    Writer writer(buffer_.subspan(size_));
    writer.u32(pcr);
    writer.u32(static_cast<std::uint32_t>(type));
    writer.u32(static_cast<std::uint32_t>(digests.size()));
    for (const Digest& digest : digests) {
        writer.u16(static_cast<std::uint16_t>(digest.algorithm));
        writer.bytes(digest.bytes());
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

}  // namespace gatehouse::evidence
