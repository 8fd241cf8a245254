// The launch's event log: TCG crypto-agile format, written into a fixed buffer, read as hostile bytes,
// replayed.
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
// Each event carries one digest for each bank of the header, in the header's order; the writer and the reader
// both demand it. PCRs 17 and 18 start at zero (AMD64 APM vol. 2, 15.27.4), which is what a replay starts
// from.
#pragma once

#include "attestation/evidence/measurements.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::evidence {

// As many banks as there are known hash algorithms.
inline constexpr std::size_t kMaxLogBanks = 5;
// Header and all of kMeasurements and both caps, in kMaxLogBanks banks, fit with room to spare.
inline constexpr std::size_t kEventLogSize = 4096;

enum class EventType : std::uint32_t {
    kNoAction = 3,   // extends nothing
    kSeparator = 4,  // the caps
    kEventTag = 6,   // the measurements
};

struct LogBanks {
    std::array<HashAlgorithm, kMaxLogBanks> algorithms{};
    std::size_t count = 0;
    [[nodiscard]] std::span<const HashAlgorithm> all() const { return std::span(algorithms).first(count); }
};

// One event; `data` and `digests` are views into the log.
struct Event {
    std::size_t offset = 0;    // of the event in the log, in bytes
    std::uint32_t number = 0;  // from 1; the header is number 0
    std::uint32_t pcr = 0;
    EventType type = EventType::kNoAction;
    std::array<Bytes, kMaxLogBanks> digests{};  // in the order of the header's banks
    Bytes data{};
};

class EventLogReader {
  public:
    // Reads the header. Errors: kTruncated, kBadMagic, kBadVersion, kBadLength, kBadValue (a bank twice, none
    // at all), kUnsupported (an algorithm without a known digest size); detail is the offset in the log.
    [[nodiscard]] static Result<EventLogReader> open(Bytes log);

    [[nodiscard]] const LogBanks& banks() const { return banks_; }
    // Bytes read so far: where the next event starts.
    [[nodiscard]] std::size_t offset() const { return offset_; }
    [[nodiscard]] bool at_end() const { return offset_ == log_.size(); }
    // The next event. kNotFound at the end; else kTruncated, or kMismatch if the digests are not those of the
    // banks; detail is the offset of the event.
    [[nodiscard]] Result<Event> next();

  private:
    friend class Result<EventLogReader>;
    EventLogReader() = default;

    Bytes log_;
    LogBanks banks_;
    std::size_t offset_ = 0;
    std::uint32_t events_ = 0;
};

// Appends events to a log in `buffer`, which must outlive the writer. An append that does not fit is answered
// with kNoSpace and leaves the log as it was.
class EventLogWriter {
  public:
    // Starts a log with its header. kBadValue for a bank twice, none, or of unknown digest size.
    [[nodiscard]] static Result<EventLogWriter> create(MutableBytes buffer, std::span<const HashAlgorithm> banks);
    // Goes on with a log of `size` bytes at the front of `buffer` that an earlier stage wrote; the whole of
    // it is checked. Errors: the reader's.
    [[nodiscard]] static Result<EventLogWriter> resume(MutableBytes buffer, std::size_t size);

    // `digests`: one for each bank, in the order of the banks (kMismatch if not).
    [[nodiscard]] Status append(std::uint32_t pcr, EventType type, std::span<const Digest> digests, Bytes data);
    // The event of a row of kMeasurements: EV_EVENT_TAG with its tag and name.
    [[nodiscard]] Status append(const Measurement& measurement, std::span<const Digest> digests);
    // The cap of a PCR: EV_SEPARATOR with kCapData; `digests` are hashes of kCapData.
    [[nodiscard]] Status append_cap(std::uint32_t pcr, std::span<const Digest> digests);

    [[nodiscard]] const LogBanks& banks() const { return banks_; }
    [[nodiscard]] Bytes log() const { return buffer_.first(size_); }

  private:
    friend class Result<EventLogWriter>;
    EventLogWriter() = default;

    MutableBytes buffer_;
    LogBanks banks_;
    std::size_t size_ = 0;
};

// H(value || digest): what TPM2_PCR_Extend does. `algorithm` must satisfy can_hash().
[[nodiscard]] Digest extended(HashAlgorithm algorithm, Bytes value, Bytes digest);

// Value of `pcr` in `bank` after all events of the log, starting from zeros. kNotFound if the log does not
// have the bank, kUnsupported if it cannot be computed (SM3), else the reader's errors.
[[nodiscard]] Result<Digest> replay(Bytes log, HashAlgorithm bank, std::uint32_t pcr);

}  // namespace gatehouse::evidence
