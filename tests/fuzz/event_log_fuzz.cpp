// Event logs of any maker.
#include "attestation/verifier/event_data.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace gatehouse;
using namespace gatehouse::verifier;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes input = fuzz::input_bytes(data, size);
    const EventLog log = read_event_log(input);
    fuzz::require(log.events.size() <= kMaxLogEvents && log.quirks.size() <= kMaxQuirks);
    // What was read whole is a log.
    fuzz::require(log.stopped.error != Error::kNone || !log.events.empty());
    std::size_t end = 0;
    for (const LogEvent& event : log.events) {
        fuzz::require(event.offset >= end && event.offset < input.size());
        end = event.offset + 1;
        fuzz::require(fuzz::is_view_of(input, event.data));
        for (const Bytes digest : event.digests) fuzz::require(fuzz::is_view_of(input, digest));
        const DataFinding finding = judge_event_data(event);
        fuzz::require((finding.judgement == DataJudgement::kNothingHashed) == (event.type == LogEventType::kNoAction));
        const std::string text = event_text(event);
        fuzz::require(text.size() <= 120);
        for (const char c : text) fuzz::require(c >= ' ' && c <= '~');
    }
    for (const std::uint32_t pcr : {0u, 7u, 17u}) {
        (void)replay(log, HashAlgorithm::kSha256, pcr, start_value(log, HashAlgorithm::kSha256, pcr));
    }
    return 0;
}
