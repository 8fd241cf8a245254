// The launch's event log (launch_log.hpp), read as hostile bytes, and replayed. For verifiers and tools.
#pragma once

#include "attestation/evidence/launch_log.hpp"

namespace gatehouse::evidence {

// As many banks as there are known hash algorithms.
inline constexpr std::size_t kMaxLogBanks = 5;

struct LogBanks {
    std::array<HashAlgorithm, kMaxLogBanks> algorithms{};
    std::size_t count = 0;
    [[nodiscard]] std::span<const HashAlgorithm> all() const { return std::span(algorithms).first(count); }
    // kUnsupported: an algorithm without a known digest size; kBadValue: a bank twice.
    [[nodiscard]] Status add(HashAlgorithm algorithm);
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

// H(value || digest): what TPM2_PCR_Extend does. `algorithm` must satisfy can_hash().
[[nodiscard]] Digest extended(HashAlgorithm algorithm, Bytes value, Bytes digest);

// Value of `pcr` in `bank` after all events of the log, starting from zeros. kNotFound if the log does not
// have the bank, kUnsupported if it cannot be computed (SM3), else the reader's errors.
[[nodiscard]] Result<Digest> replay(Bytes log, HashAlgorithm bank, std::uint32_t pcr);

}  // namespace gatehouse::evidence
