// The launch's event log: TCG crypto-agile format, written into a fixed buffer (launch_log_reader.hpp reads it).
//
// Format, little-endian (TCG PC Client Platform Firmware Profile 1.05, sections 10.2 and 10.4.5.1):
//
//   header event (TCG_PCClientPCREvent):
//     u32 pcr 0   u32 type EV_NO_ACTION   u8[20] zeros   u32 size of what follows
//     u8[16] "Spec ID Event03\0"   u32 platform class 0 (client)   u8 minor 0   u8 major 2   u8 errata 106
//     u8 UINTN size 2 (64 bits)    u32 bank count   banks * { u16 algorithm, u16 digest size }
//     u8 vendor info size 0
//   then for each event (TCG_PCR_EVENT2):
//     u32 pcr   u32 type   u32 digest count   digests * { u16 algorithm, digest }   u32 size   u8[size] data
//
// Each event carries one digest for each bank of the header, in the header's order; the reader demands
// it. PCRs 17, 18 and 19 start at zero (AMD64 APM vol. 2, 15.27.4), which is what a replay starts from.
#pragma once

#include "attestation/evidence/measurements.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::evidence {

// Header, all measurements, 96 ACPI tables and the caps fit, in all banks.
inline constexpr std::size_t kEventLogSize = 0x8000;

enum class EventType : std::uint32_t {
    kNoAction = 3,   // extends nothing
    kSeparator = 4,  // the caps
    kEventTag = 6,   // the measurements
};

// Appends events to a log in `buffer`, which must outlive the writer, as must `banks`. An append that does not fit is
// answered with kNoSpace and leaves the log as it was.
class EventLogWriter {
  public:
    // Starts a log with its header. `banks`: at least one, each once, of known digest size. kNoSpace.
    [[nodiscard]] static Result<EventLogWriter> create(MutableBytes buffer, std::span<const HashAlgorithm> banks);
    EventLogWriter() = default;
    // Goes on with a log of `size` bytes at the front of `buffer` that an earlier measured stage wrote for `banks`: as
    // good as that stage is.
    EventLogWriter(MutableBytes buffer, std::size_t size, std::span<const HashAlgorithm> banks)
        : buffer_(buffer), size_(size), banks_(banks) {}

    // `digests`: one for each bank, in the order of the banks.
    [[nodiscard]] Status append(std::uint32_t pcr, EventType type, std::span<const Digest> digests, Bytes data);
    // The event of a row of kMeasurements: EV_EVENT_TAG with its tag and name.
    [[nodiscard]] Status append(const Measurement& measurement, std::span<const Digest> digests);
    // The cap of a PCR: EV_SEPARATOR with kCapData; `digests` are hashes of kCapData.
    [[nodiscard]] Status append_cap(std::uint32_t pcr, std::span<const Digest> digests) {
        return append(pcr, EventType::kSeparator, digests, kCapData);
    }

    [[nodiscard]] std::span<const HashAlgorithm> banks() const { return banks_; }
    [[nodiscard]] Bytes log() const { return buffer_.first(size_); }

  private:
    MutableBytes buffer_;
    std::size_t size_ = 0;
    std::span<const HashAlgorithm> banks_;
};

}  // namespace gatehouse::evidence
