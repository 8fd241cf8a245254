// The event log reader against logs of real firmware and of broken firmware.
//
// tests/data/event_logs/{ovmf,seabios}.bin are what OVMF and SeaBIOS wrote on the emulated machine
// (collect.py beside them); the PCR values expected here are those that tpm2_eventlog (tpm2-tools 5.4)
// computes of them.
#include "attestation/verifier/event_log.hpp"

#include <gtest/gtest.h>

#include "attestation/verifier/event_data.hpp"
#include "tests/unit/verifier/software_attester.hpp"

namespace gatehouse::verifier {
namespace {

using test::Buffer;
using test::filler;
using test::SampleEvent;

constexpr std::array kBanks{HashAlgorithm::kSha1, HashAlgorithm::kSha256};

Buffer read_log(const char* name) {
    return host::read_file(std::string(GATEHOUSE_TEST_DATA) + "/event_logs/" + name, 1 << 20);
}
std::string replayed(const EventLog& log, HashAlgorithm bank, std::uint32_t pcr) {
    return host::hex(replay(log, bank, pcr, start_value(log, bank, pcr)).bytes());
}
bool has_quirk(const EventLog& log, std::string_view word) {
    return std::ranges::any_of(log.quirks,
                               [word](const std::string& quirk) { return quirk.find(word) != std::string::npos; });
}
Buffer bytes_of(std::initializer_list<unsigned> values) {
    Buffer bytes;
    for (const unsigned value : values) bytes.push_back(static_cast<std::byte>(value));
    return bytes;
}
Buffer with_event(SampleEvent event) { return test::agile_log(kBanks, std::array{std::move(event)}); }
Buffer legacy_event(std::uint32_t pcr, std::uint32_t type, Bytes data) {
    Buffer event(32 + data.size());
    Writer writer(event);
    writer.u32(pcr);
    writer.u32(type);
    writer.bytes(hash(HashAlgorithm::kSha1, data).bytes());
    writer.u32(static_cast<std::uint32_t>(data.size()));
    writer.bytes(data);
    return event;
}

TEST(EventLogOfOvmf, ReplaysAsTpm2EventlogDoes) {
    const Buffer bytes = read_log("ovmf.bin");
    const EventLog log = read_event_log(bytes);
    ASSERT_EQ(log.stopped.error, Error::kNone) << host::describe(log.stopped);
    EXPECT_TRUE(log.crypto_agile);
    EXPECT_EQ(log.banks.size(), 3u);
    EXPECT_TRUE(log.quirks.empty()) << log.quirks.front();
    EXPECT_EQ(replayed(log, HashAlgorithm::kSha256, 0),
              "ce729d0e02d46cecb9baa54228e55d1be49de54981fe6485a59bf9b222bcc061");
    EXPECT_EQ(replayed(log, HashAlgorithm::kSha256, 1),
              "f8d3b5be6adb41871530c9a073decfe2e39f12529e7830498ecfae670244cad2");
    EXPECT_EQ(replayed(log, HashAlgorithm::kSha256, 4),
              "50291ed1a756661b8e9904f21b66ecdaf747e6a99002202125de060ef5f16c4b");
    EXPECT_EQ(replayed(log, HashAlgorithm::kSha256, 7),
              "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e534eb3068");
    EXPECT_EQ(replayed(log, HashAlgorithm::kSha1, 0), "8aca5299970b4e7375dd1747a56ee00021aff068");
    EXPECT_EQ(replayed(log, HashAlgorithm::kSha384, 7),
              "98441c7f7625d10058c47683aec486ce311c633235eb555593a7ee791121e3578ae72d04ecef661f272d59058b77af35");
}

TEST(EventLogOfSeabios, ReplaysAsTpm2EventlogDoes) {
    const Buffer bytes = read_log("seabios.bin");
    const EventLog log = read_event_log(bytes);
    ASSERT_EQ(log.stopped.error, Error::kNone) << host::describe(log.stopped);
    EXPECT_EQ(replayed(log, HashAlgorithm::kSha256, 0),
              "e21b703ee69c77476bccb43ec0336a9a1b2914b378944f7b00a10214ca8fea93");
    EXPECT_EQ(replayed(log, HashAlgorithm::kSha256, 2),
              "1af0310df024efe57440f26d56d1c52769dc9366c286924bc373593aac9ebd13");
    EXPECT_EQ(replayed(log, HashAlgorithm::kSha256, 4),
              "484576998bce2af1247c75a4a6a4630497da90132c60edfa19b028a2a7be4d84");
    EXPECT_EQ(replayed(log, HashAlgorithm::kSha1, 5), "5c9f687f98d154e203a096e45075177caa22ad02");
}

// No event of real firmware may be called a contradiction; and what can be recomputed is.
class RealLog : public testing::TestWithParam<const char*> {};
TEST_P(RealLog, HasTheDigestsOfItsData) {
    const Buffer bytes = read_log(GetParam());
    const EventLog log = read_event_log(bytes);
    unsigned recomputed = 0;
    for (const LogEvent& event : log.events) {
        const DataFinding finding = judge_event_data(event);
        EXPECT_NE(finding.judgement, DataJudgement::kDiffers)
            << event.number << " " << event_type_name(event.type) << " " << event_text(event);
        if (finding.judgement == DataJudgement::kMatches) ++recomputed;
    }
    EXPECT_GE(recomputed, 8u);
}
TEST_P(RealLog, IsReadToAnErrorOrAnEndWhereverItIsCut) {
    const Buffer bytes = read_log(GetParam());
    const std::size_t whole = read_event_log(bytes).events.size();
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        const Buffer cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
        const EventLog log = read_event_log(cut);
        EXPECT_LE(log.events.size(), whole);
        EXPECT_LE(log.stopped.detail, size);
    }
}
TEST_P(RealLog, IsReadToAnErrorOrAnEndWhateverByteIsChanged) {
    const Buffer bytes = read_log(GetParam());
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        Buffer changed = bytes;
        changed[i] = ~changed[i];
        const EventLog log = read_event_log(changed);
        for (const LogEvent& event : log.events) {
            (void)judge_event_data(event);
            EXPECT_LE(event_text(event).size(), 160u);
        }
    }
}
INSTANTIATE_TEST_SUITE_P(Firmware, RealLog, testing::Values("ovmf.bin", "seabios.bin"),
                         [](const auto& row) { return std::string(row.param).substr(0, 4); });

// --- quirks

TEST(EventLogQuirk, PaddingEndsTheLog) {
    for (const unsigned fill : {0u, 0xffu}) {
        Buffer bytes = with_event({0, 4, Buffer(4), Buffer(4)});
        bytes.insert(bytes.end(), 1000, static_cast<std::byte>(fill));
        const EventLog log = read_event_log(bytes);
        EXPECT_EQ(log.stopped.error, Error::kNone);
        EXPECT_EQ(log.events.size(), 1u);
        EXPECT_TRUE(has_quirk(log, "padding"));
    }
}

// Looking for padding at each event would take minutes, and hours with sanitizers.
TEST(EventLogQuirk, ZerosThatAreNotPaddingAreReadOnce) {
    Buffer bytes(128u << 20);
    bytes.back() = std::byte{1};
    const EventLog log = read_event_log(bytes);
    EXPECT_EQ(log.events.size(), kMaxLogEvents);
    EXPECT_EQ(log.stopped.error, Error::kNoSpace);
}

TEST(EventLogQuirk, SpecIdMayBeInAnotherCase) {
    Buffer bytes = with_event({0, 4, Buffer(4), Buffer(4)});
    copy_bytes(MutableBytes(bytes).subspan(32), literal_bytes("SPEC ID EVENT03"));
    const EventLog log = read_event_log(bytes);
    EXPECT_EQ(log.events.size(), 1u);
    EXPECT_TRUE(has_quirk(log, "signature"));
}

TEST(EventLogQuirk, VersionAndErrataMayBeOthers) {
    Buffer bytes = with_event({0, 4, Buffer(4), Buffer(4)});
    bytes[32 + 20] = std::byte{1};    // minor
    bytes[32 + 22] = std::byte{200};  // errata
    bytes[32 + 23] = std::byte{8};    // UINTN in bytes
    const EventLog log = read_event_log(bytes);
    EXPECT_EQ(log.events.size(), 1u);
    EXPECT_TRUE(has_quirk(log, "version 2.1"));
    EXPECT_TRUE(has_quirk(log, "errata 200"));
    EXPECT_TRUE(has_quirk(log, "UINTN size 8"));
}

TEST(EventLogQuirk, UnknownAlgorithmOfTheHeaderIsSteppedOver) {
    Buffer bytes = with_event({0, 4, Buffer(4), Buffer(4)});
    bytes[60] = std::byte{0x99};  // SHA-1's place, 20 bytes
    const std::size_t event = 32 + 37;
    bytes[event + 12] = std::byte{0x99};
    const EventLog log = read_event_log(bytes);
    ASSERT_EQ(log.events.size(), 1u);
    EXPECT_EQ(log.banks, std::vector{HashAlgorithm::kSha256});
    EXPECT_EQ(log.events[0].digest(HashAlgorithm::kSha256).size(), 32u);
    EXPECT_TRUE(has_quirk(log, "unknown algorithm"));
}

TEST(EventLogQuirk, EventMayLackABank) {
    Buffer bytes = with_event({0, 4, Buffer(4), Buffer(4)});
    const std::ptrdiff_t event = 32 + 37;
    bytes[static_cast<std::size_t>(event) + 8] = std::byte{1};
    bytes.erase(bytes.begin() + event + 12, bytes.begin() + event + 12 + 22);
    const EventLog log = read_event_log(bytes);
    ASSERT_EQ(log.events.size(), 1u);
    EXPECT_TRUE(log.events[0].digest(HashAlgorithm::kSha1).empty());
    EXPECT_TRUE(has_quirk(log, "lacks the digest"));
}

TEST(EventLogQuirk, DataOfTheLastEventMayBeCutOff) {
    Buffer bytes = with_event({0, 4, Buffer(4), Buffer(4)});
    test::cut_off(bytes, 3);
    const EventLog log = read_event_log(bytes);
    ASSERT_EQ(log.events.size(), 1u);
    EXPECT_EQ(log.events[0].data.size(), 1u);
    EXPECT_TRUE(has_quirk(log, "cut off"));
}

TEST(EventLogQuirk, SeparatorMaySayError) {
    const Buffer error = bytes_of({1, 0, 0, 0});
    const Buffer bytes = with_event({5, 4, error, error});
    EXPECT_TRUE(has_quirk(read_event_log(bytes), "met an error"));
}

TEST(EventLogQuirk, LegacyLogWithoutHeaderIsRead) {
    const Buffer bytes = legacy_event(0, 8, literal_bytes("version"));
    const EventLog log = read_event_log(bytes);
    EXPECT_FALSE(log.crypto_agile);
    ASSERT_EQ(log.events.size(), 1u);
    EXPECT_EQ(log.banks, std::vector{HashAlgorithm::kSha1});
    EXPECT_EQ(judge_event_data(log.events[0]).judgement, DataJudgement::kMatches);
    EXPECT_TRUE(has_quirk(log, "no Spec ID event"));
}

TEST(EventLogQuirk, ManyAreCountedNotKept) {
    std::vector<SampleEvent> events(300, SampleEvent{99, 4, Buffer(4), Buffer(4)});
    const Buffer bytes = test::agile_log(kBanks, events);
    EXPECT_LE(read_event_log(bytes).quirks.size(), kMaxQuirks);
}

// --- errors, with their place

TEST(EventLogError, NamesTheOffset) {
    Buffer bytes = with_event({0, 4, Buffer(4), Buffer(4)});
    const std::size_t event = 32 + 37;
    Buffer unknown = bytes;
    unknown[event + 12] = std::byte{0x77};  // an algorithm that nobody gave a size for
    EXPECT_EQ(read_event_log(unknown).stopped.error, Error::kUnsupported);
    EXPECT_EQ(read_event_log(unknown).stopped.detail, event + 12);
    Buffer many = bytes;
    many[event + 9] = std::byte{1};
    EXPECT_EQ(read_event_log(many).stopped.error, Error::kBadValue);
    EXPECT_EQ(read_event_log(many).stopped.detail, event + 8);
    Buffer size = bytes;
    size[60 + 2] = std::byte{21};  // SHA-1 of 21 bytes
    EXPECT_EQ(read_event_log(size).stopped.error, Error::kBadLength);
    EXPECT_EQ(read_event_log(size).stopped.detail, 60u);
    EXPECT_EQ(read_event_log({}).stopped.error, Error::kTruncated);
}

TEST(EventLogError, KeepsTheEventsBeforeIt) {
    std::vector<SampleEvent> events(3, SampleEvent{0, 4, Buffer(4), Buffer(4)});
    Buffer bytes = test::agile_log(kBanks, events);
    test::cut_off(bytes, 20);
    const EventLog log = read_event_log(bytes);
    EXPECT_EQ(log.stopped.error, Error::kTruncated);
    EXPECT_EQ(log.events.size(), 2u);
}

// --- start values

TEST(EventLogReplay, StartsPcr0AtTheLoggedLocality) {
    Buffer locality(16);
    copy_bytes(locality, literal_bytes("StartupLocality"));
    locality.push_back(std::byte{4});
    const Buffer bytes = with_event({0, 3, {}, locality});
    const EventLog log = read_event_log(bytes);
    EXPECT_EQ(log.startup_locality, 4);
    EXPECT_EQ(start_value(log, HashAlgorithm::kSha256, 0).bytes().back(), std::byte{4});
    EXPECT_EQ(start_value(log, HashAlgorithm::kSha256, 1).bytes().back(), std::byte{0});
}

TEST(EventLogReplay, StartsDynamicPcrsAtOnesWithoutALaunch) {
    const Buffer without = with_event({0, 4, Buffer(4), Buffer(4)});
    const Buffer with = with_event({17, 4, Buffer(4), Buffer(4)});
    EXPECT_EQ(start_value(read_event_log(without), HashAlgorithm::kSha1, 18).bytes()[0], std::byte{0xff});
    EXPECT_EQ(start_value(read_event_log(with), HashAlgorithm::kSha1, 18).bytes()[0], std::byte{0});
}

TEST(EventLogReplay, PassesNoActionOver) {
    const Buffer bytes = with_event({2, 3, filler("x"), filler("x")});
    EXPECT_EQ(replayed(read_event_log(bytes), HashAlgorithm::kSha256, 2), std::string(64, '0'));
}

// --- what was hashed

struct DataRow {
    const char* name;
    std::uint32_t type;
    Buffer measured;
    Buffer data;
    DataJudgement judgement;
    const char* quirk;
};
Buffer text(std::string_view content) {
    const Bytes bytes = host::text_bytes(content);
    return {bytes.begin(), bytes.end()};
}
Buffer variable(Bytes value, Bytes after = {}) {
    Buffer data(36 + value.size() + after.size());
    Writer writer(data);
    writer.zeros(16);
    writer.u64(2);
    writer.u64(value.size());
    writer.bytes(bytes_of({'d', 0, 'b', 0}));
    writer.bytes(value);
    writer.bytes(after);
    return data;
}
Buffer tagged(Bytes inside) {
    Buffer data(8 + inside.size());
    Writer writer(data);
    writer.u32(0x8f3b22ec);
    writer.u32(static_cast<std::uint32_t>(inside.size()));
    writer.bytes(inside);
    return data;
}

class EventData : public testing::TestWithParam<DataRow> {};
TEST_P(EventData, IsFoundHowIt) {
    const DataRow& row = GetParam();
    const Buffer bytes = with_event({1, row.type, row.measured, row.data});
    const EventLog log = read_event_log(bytes);
    ASSERT_EQ(log.events.size(), 1u);
    const DataFinding finding = judge_event_data(log.events[0]);
    EXPECT_EQ(finding.judgement, row.judgement);
    EXPECT_NE(finding.detail.find(row.quirk), std::string::npos) << finding.detail;
    if (*row.quirk == 0) {
        EXPECT_TRUE(finding.detail.empty()) << finding.detail;
    }
}

const Buffer kValue = filler("certificate", 50);
INSTANTIATE_TEST_SUITE_P(
    WasHashed, EventData,
    testing::Values(
        DataRow{"Separator", 4, Buffer(4), Buffer(4), DataJudgement::kMatches, ""},
        DataRow{"SeparatorThatLies", 4, bytes_of({1, 0, 0, 0}), Buffer(4), DataJudgement::kDiffers, "SHA-1, SHA-256"},
        DataRow{"SeparatorWithText", 4, Buffer(4), text("WBCL"), DataJudgement::kDiffers, "SHA"},
        DataRow{"SeparatorWithLongText", 4, Buffer(4), text("error in POST"), DataJudgement::kMatches, "other data"},
        DataRow{"ActionAsLogged", 0x80000007, text("Exit"), text("Exit"), DataJudgement::kMatches, ""},
        DataRow{"ActionLoggedWithTerminator", 0x80000007, text("Exit"), text(std::string("Exit\0", 5)),
                DataJudgement::kMatches, "hashed without"},
        DataRow{"ActionHashedWithTerminator", 5, text(std::string("Exit\0", 5)), text("Exit"), DataJudgement::kMatches,
                "hashed with"},
        DataRow{"ActionThatLies", 0x80000007, text("Exit"), text("Stay"), DataJudgement::kDiffers, "SHA-256"},
        DataRow{"VariableWhole", 0x80000001, variable(kValue), variable(kValue), DataJudgement::kMatches, ""},
        DataRow{"AuthorityValueAlone", 0x800000e0, kValue, variable(kValue), DataJudgement::kMatches,
                "only the variable's value"},
        DataRow{"BootVariableValueAlone", 0x80000002, kValue, variable(kValue), DataJudgement::kMatches, ""},
        DataRow{"VariableWithATail", 0x800000e0, variable(kValue), variable(kValue, filler("tail")),
                DataJudgement::kMatches, "after the variable's value"},
        DataRow{"VariableButItsLastByte", 0x800000e0, variable(kValue, filler("tail", 5)),
                variable(kValue, filler("tail", 6)), DataJudgement::kMatches, "last byte"},
        DataRow{"VariableButTwoBytes", 0x800000e0, variable(kValue, filler("tail", 4)),
                variable(kValue, filler("tail", 6)), DataJudgement::kDiffers, "SHA-256"},
        DataRow{"VariableThatLies", 0x80000001, variable(filler("other", 50)), variable(kValue),
                DataJudgement::kDiffers, "SHA-256"},
        DataRow{"VariableWithAHugeName", 0x80000001, filler("x"), Buffer(40, std::byte{0xff}), DataJudgement::kDiffers,
                "SHA-256"},
        DataRow{"CrtmVersion", 8, text("v1"), text("v1"), DataJudgement::kMatches, ""},
        DataRow{"CrtmVersionThatLies", 8, text("v1"), text("v2"), DataJudgement::kDiffers, "SHA-256"},
        DataRow{"GptThatLies", 0x80000006, filler("a", 92), filler("b", 92), DataJudgement::kDiffers, "SHA-256"},
        DataRow{"GrubCommand", 0x0d, text("set x=y"), text(std::string("grub_cmd: set x=y\0", 18)),
                DataJudgement::kMatches, "prefix"},
        DataRow{"GrubFile", 0x0d, filler("a file", 900), text("(hd0)/vmlinuz"), DataJudgement::kElsewhere, ""},
        DataRow{"TaggedInside", 6, text("options"), tagged(text("options")), DataJudgement::kMatches, "without tag"},
        DataRow{"TaggedElsewhere", 6, filler("a kernel", 900), tagged(text("kernel")), DataJudgement::kElsewhere, ""},
        DataRow{"PostCodeText", 1, text("ACPI DATA"), text("ACPI DATA"), DataJudgement::kMatches, ""},
        DataRow{"PostCodeElsewhere", 1, filler("tables", 900), text("ACPI DATA"), DataJudgement::kElsewhere, ""},
        DataRow{"BootApplication", 0x80000003, filler("PE", 900), filler("path", 60), DataJudgement::kElsewhere, ""},
        DataRow{"NoAction", 3, filler("x"), filler("x"), DataJudgement::kNothingHashed, ""}),
    [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace gatehouse::verifier
