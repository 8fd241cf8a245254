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
// Of the header that test::agile_log() writes for kBanks.
constexpr std::ptrdiff_t kHeader = 32 + 37;
Buffer text(std::string_view content) {
    const Bytes bytes = host::text_bytes(content);
    return {bytes.begin(), bytes.end()};
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
    Buffer bytes = with_event({0, 4, Buffer(4), Buffer(4)});
    const Buffer one(bytes.begin() + kHeader, bytes.end());
    for (std::size_t i = 1; i < kMaxLogEvents; ++i) bytes.insert(bytes.end(), one.begin(), one.end());
    bytes.resize(128u << 20);
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

TEST(EventLogQuirk, SeparatorMaySayError) {
    const Buffer error = bytes_of({1, 0, 0, 0});
    const Buffer bytes = with_event({5, 4, error, error});
    EXPECT_TRUE(has_quirk(read_event_log(bytes), "met an error"));
    const Buffer lie = with_event({5, 4, Buffer(4), error});
    EXPECT_FALSE(has_quirk(read_event_log(lie), "met an error")) << "its digest says otherwise";
}

TEST(EventLogQuirk, EveryPcrOfTheFirmwareHasASeparator) {
    const std::vector<SampleEvent> events{{0, 8, filler("v"), filler("v")}, {0, 4, Buffer(4), Buffer(4)}};
    const EventLog whole = read_event_log(test::agile_log(kBanks, events));
    EXPECT_FALSE(has_quirk(whole, "separator"));
    const EventLog cut = read_event_log(test::agile_log(kBanks, std::span(events).first(1)));
    EXPECT_EQ(cut.stopped.error, Error::kNone);
    EXPECT_TRUE(has_quirk(cut, "no separator of PCR 0"));
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
    std::vector<SampleEvent> events(300, SampleEvent{9, 0x80000010, Buffer(4), Buffer(4)});
    const Buffer bytes = test::agile_log(kBanks, events);
    EXPECT_EQ(read_event_log(bytes).quirks.size(), kMaxQuirks);
}

TEST(EventLogQuirk, ManyDoNotHideWhatIsSaidOfTheLog) {
    Buffer locality = text(std::string("StartupLocality\0", 16));
    locality.push_back(std::byte{3});
    const Buffer error = bytes_of({1, 0, 0, 0});
    std::vector<SampleEvent> events{{0, 3, {}, locality}, {0, 0x80000010, filler("x"), text("HCRTM")}};
    events.insert(events.end(), 300, SampleEvent{9, 0x80000010, Buffer(4), Buffer(4)});
    events.push_back({5, 4, error, error});
    Buffer bytes = test::agile_log(kBanks, events);
    bytes.resize(bytes.size() + 64);
    const EventLog log = read_event_log(bytes);
    EXPECT_TRUE(has_quirk(log, "and more"));
    EXPECT_TRUE(has_quirk(log, "separator of PCR 5 says that firmware met an error"));
    EXPECT_TRUE(has_quirk(log, "beside an H-CRTM"));
    EXPECT_TRUE(has_quirk(log, "no separator of PCR 0"));
    EXPECT_TRUE(has_quirk(log, "padding at the end"));
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

// --- what is no log

struct NoLog {
    const char* name;
    Buffer bytes;
    Error error;
};
Buffer good_log() {
    return test::agile_log(kBanks, std::vector<SampleEvent>{{0, 8, filler("version"), filler("version")},
                                                            {4, 0x80000007, filler("go"), filler("go")},
                                                            {0, 4, Buffer(4), Buffer(4)}});
}
Buffer after_good_log(Buffer tail) {
    Buffer bytes = good_log();
    bytes.insert(bytes.end(), tail.begin(), tail.end());
    return bytes;
}
Buffer changed_log(std::size_t at, unsigned value) {
    Buffer bytes = good_log();
    bytes.at(at) = static_cast<std::byte>(value);
    return bytes;
}
Buffer changed_log(std::size_t at, unsigned value, std::size_t other_at, unsigned other_value) {
    Buffer bytes = changed_log(at, value);
    bytes.at(other_at) = static_cast<std::byte>(other_value);
    return bytes;
}
Buffer joined(std::initializer_list<Buffer> parts) {
    Buffer all;
    for (const Buffer& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
}
Buffer legacy_of_zeros(std::uint32_t pcr, std::uint32_t type) {
    Buffer event(32);
    Writer writer(event);
    writer.u32(pcr);
    writer.u32(type);
    return event;
}
Buffer legacy_with_digest(std::uint32_t pcr, std::uint32_t type, const Buffer& digest, const Buffer& data) {
    Buffer event = legacy_event(pcr, type, data);
    copy_bytes(MutableBytes(event).subspan(8), digest);
    return event;
}
// A digest with these many bytes that are no zeros.
Buffer few_bytes(std::size_t count) {
    Buffer digest(20);
    std::fill_n(digest.begin(), count, std::byte{0x5a});
    return digest;
}
// A log with an event whose digests are zeros.
Buffer zero_digests(std::uint32_t pcr) {
    Buffer bytes = test::agile_log(kBanks, std::vector<SampleEvent>{{0, 4, Buffer(4), Buffer(4)}, {pcr, 13, {}, {}}});
    const std::size_t sha1 = bytes.size() - (2 + 20 + 2 + 32 + 4) + 2;
    std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(sha1), 20, std::byte{0});
    std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(sha1 + 20 + 2), 32, std::byte{0});
    return bytes;
}
Buffer header_alone() {
    const Buffer log = good_log();
    return {log.begin(), log.begin() + kHeader};
}

class IsNoLog : public testing::TestWithParam<NoLog> {};
TEST_P(IsNoLog, AndSaysWhy) {
    const EventLog log = read_event_log(GetParam().bytes);
    EXPECT_EQ(log.stopped.error, GetParam().error) << host::describe(log.stopped);
    EXPECT_LE(log.stopped.detail, GetParam().bytes.size());
}
constexpr std::size_t kFirstEvent = static_cast<std::size_t>(kHeader);
INSTANTIATE_TEST_SUITE_P(
    EventLog, IsNoLog,
    testing::Values(
        NoLog{"Nothing", {}, Error::kTruncated}, NoLog{"Zeros", Buffer(100), Error::kTruncated},
        NoLog{"FewZeros", Buffer(5), Error::kTruncated}, NoLog{"ManyZeros", Buffer(65536), Error::kTruncated},
        NoLog{"ErasedFlash", Buffer(4096, std::byte{0xff}), Error::kTruncated},
        NoLog{"ZerosAndAByte", joined({Buffer(100), Buffer(1, std::byte{1})}), Error::kBadValue},
        NoLog{"Text", text(std::string(500, 'a')), Error::kTruncated},
        NoLog{"TextWithLines", text("# This is a file\n\nwith some lines\n"), Error::kTruncated},
        NoLog{"Noise", filler("noise", 900), Error::kTruncated},
        NoLog{"PcrThatNoPcHas", joined({legacy_event(4096, 5, text("x"))}), Error::kBadValue},
        NoLog{"Pcr24", joined({legacy_event(24, 5, text("x"))}), Error::kBadValue},
        NoLog{"PcrOfALaterEvent", joined({legacy_event(0, 8, text("v")), legacy_event(99, 5, text("x"))}),
              Error::kBadValue},
        NoLog{"NoActionOfSuchAPcr", joined({legacy_event(4096, 3, text("x"))}), Error::kBadValue},
        NoLog{"TypeThatNobodyUses", joined({legacy_event(3, 0x7f454c46, text("x"))}), Error::kBadValue},
        NoLog{"SmallNumbers", joined({legacy_of_zeros(1, 5), legacy_of_zeros(2, 6)}), Error::kBadValue},
        NoLog{"NothingThatExtends", joined({legacy_event(0, 3, text("x"))}), Error::kBadValue},
        NoLog{"NothingThatExtendsAfterAHeader", with_event({0, 3, {}, text("x")}), Error::kBadValue},
        NoLog{"DigestsOfZeros", zero_digests(8), Error::kBadValue},
        NoLog{"DigestsOfZerosInOtherPcrs", zero_digests(16), Error::kBadValue},
        NoLog{"NoDigestOfItsData", legacy_with_digest(0, 8, filler("other", 20), text("v")), Error::kMismatch},
        NoLog{"OneByteOfADigestOfTxt", legacy_with_digest(17, 0x402, few_bytes(1), {}), Error::kMismatch},
        NoLog{"NineBytesOfADigestOfTxt", legacy_with_digest(17, 0x402, few_bytes(9), {}), Error::kMismatch},
        NoLog{"TypeZeroWithoutAHeader", joined({legacy_event(0, 4, Buffer(4)), legacy_event(0, 0, text("x"))}),
              Error::kBadValue},
        NoLog{"BankOfNoBytes", changed_log(60, 0x99, 62, 0), Error::kBadLength},
        NoLog{"HeaderAlone", header_alone(), Error::kTruncated},
        NoLog{"HeaderAndPadding", joined({header_alone(), Buffer(64)}), Error::kTruncated},
        NoLog{"AgilePcr", changed_log(kFirstEvent, 24), Error::kBadValue},
        NoLog{"AgilePcrOfMemory", changed_log(kFirstEvent + 2, 16), Error::kBadValue},
        NoLog{"NoDigest", changed_log(kFirstEvent + 8, 0), Error::kBadValue},
        NoLog{"MoreDigestsThanBanks", changed_log(kFirstEvent + 8, 3), Error::kBadValue},
        NoLog{"DigestOfAnotherBank", changed_log(kFirstEvent + 12, 0x0c), Error::kMismatch},
        NoLog{"TwoGigabytesOfData", changed_log(kFirstEvent + 12 + 22 + 34 + 3, 0x80), Error::kTruncated},
        NoLog{"HeaderWithoutBanks", changed_log(56, 0), Error::kBadValue},
        NoLog{"HeaderWithABankTooFew", changed_log(56, 1), Error::kBadLength},
        NoLog{"HeaderWithABankTooMany", changed_log(56, 3), Error::kTruncated},
        NoLog{"HeaderWithManyBanks", changed_log(59, 0x7f), Error::kTruncated},
        NoLog{"HeaderWithAWrongDigestSize", changed_log(62, 32), Error::kBadLength},
        NoLog{"HeaderWithAWrongVendorSize", changed_log(68, 9), Error::kBadLength},
        NoLog{"HeaderThatTakesAnEvent", changed_log(28, 37 + 4), Error::kBadLength},
        NoLog{"HeaderTooShort", changed_log(28, 20), Error::kTruncated},
        NoLog{"HeaderPastTheEnd", changed_log(31, 1), Error::kTruncated},
        NoLog{"OldHeaderTooShort",
              joined({legacy_event(0, 3, literal_bytes("Spec ID Event00\0")), legacy_event(0, 8, text("v"))}),
              Error::kTruncated},
        NoLog{"GarbageAfterTheLastEvent", after_good_log(filler("garbage", 300)), Error::kBadValue},
        NoLog{"TextAfterTheLastEvent", after_good_log(text("end of log, more or less")), Error::kBadValue},
        NoLog{"AFewZerosAfterTheLastEvent", after_good_log(Buffer(4)), Error::kTruncated},
        NoLog{"AFewOnesAfterTheLastEvent", after_good_log(Buffer(11, std::byte{0xff})), Error::kTruncated},
        NoLog{"ZerosAndGarbageAfterTheLastEvent", after_good_log(joined({Buffer(64), filler("garbage", 9)})),
              Error::kBadValue},
        NoLog{"ZerosAndOnesAfterTheLastEvent", after_good_log(joined({Buffer(64), Buffer(64, std::byte{0xff})})),
              Error::kBadValue},
        NoLog{"ASecondLogAfterTheLastEvent", after_good_log(good_log()), Error::kBadValue}),
    [](const auto& row) { return row.param.name; });

// Pages of zeros with a few other bytes are no logs of SHA-1, whatever the bytes are and wherever.
TEST(PageOfZeros, IsNoLogWithAByteAnywhere) {
    Buffer page(256);
    for (std::size_t at = 0; at < 80; ++at) {
        for (unsigned value = 1; value < 256; ++value) {
            page[at] = static_cast<std::byte>(value);
            EXPECT_NE(read_event_log(page).stopped.error, Error::kNone) << at << " " << value;
        }
        page[at] = std::byte{0};
    }
}
TEST(PageOfZeros, IsNoLogWithPcrTypeAndSize) {
    for (std::uint32_t pcr = 0; pcr < 24; ++pcr) {
        for (const std::uint32_t type : {1u, 2u, 4u, 5u, 8u, 0xdu, 0x13u, 0x400u, 0x402u, 0x5ffu, 0x80000001u}) {
            for (const std::uint32_t size : {0u, 4u, 64u}) {
                Buffer page(256);
                Writer writer(page);
                writer.u32(pcr);
                writer.u32(type);
                writer.zeros(20);
                writer.u32(size);
                EXPECT_NE(read_event_log(page).stopped.error, Error::kNone) << pcr << " " << type << " " << size;
            }
        }
    }
}

TEST(OldLog, OfALaunchByTxtHasZerosForWhatIsNot) {
    const Buffer bytes = joined({legacy_with_digest(17, 0x402, filler("module", 20), {}),
                                 legacy_with_digest(18, 0x40e, Buffer(20), {}), Buffer(64)});
    const EventLog log = read_event_log(bytes);
    EXPECT_EQ(log.stopped.error, Error::kNone) << host::describe(log.stopped);
    EXPECT_EQ(log.events.size(), 2u);
}

// Of a bank that cannot be known nothing can be told of its digests either.
TEST(EventLog, MayHaveNoBankThatIsKnown) {
    Buffer bytes =
        test::agile_log(std::array{HashAlgorithm::kSha256}, std::vector<SampleEvent>{{0, 4, Buffer(4), Buffer(4)}});
    bytes.at(60) = std::byte{0x27};  // SHA3-256, of the header and of the event
    bytes.at(65 + 12) = std::byte{0x27};
    const EventLog log = read_event_log(bytes);
    EXPECT_EQ(log.stopped.error, Error::kNone) << host::describe(log.stopped);
    EXPECT_EQ(log.events.size(), 1u);
}

// A cut exactly between two events leaves a shorter log, and no other does.
class CutLog : public testing::TestWithParam<const char*> {};
TEST_P(CutLog, IsWholeBetweenTwoEventsOnly) {
    const Buffer bytes = read_log(GetParam());
    const EventLog log = read_event_log(bytes);
    std::vector<std::size_t> starts;
    for (const LogEvent& event : log.events) starts.push_back(event.offset);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        const Buffer cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
        const bool between = size != starts.front() && std::ranges::find(starts, size) != starts.end();
        const EventLog read = read_event_log(cut);
        EXPECT_EQ(read.stopped.error == Error::kNone, between) << size << " " << host::describe(read.stopped);
    }
}
INSTANTIATE_TEST_SUITE_P(Firmware, CutLog, testing::Values("ovmf.bin", "seabios.bin"),
                         [](const auto& row) { return std::string(row.param).substr(0, 4); });

bool is_consistent(const EventLog& log) {
    return log.stopped.error == Error::kNone && !lost_its_end(log) &&
           std::ranges::none_of(log.events, [](const LogEvent& event) {
               return judge_event_data(event).judgement == DataJudgement::kDiffers;
           });
}
std::size_t zeros_before(const Buffer& bytes, std::size_t at) {
    std::size_t count = 0;
    while (count < at && bytes[at - 1 - count] == std::byte{0}) ++count;
    return count;
}
// One that was cut and filled with zeros is none either, but between two events, and where no more is lost than zeros, or
// the last three bytes of what no digest covers.
TEST_P(CutLog, FilledWithZerosIsConsistentBetweenTwoEventsOnly) {
    const Buffer bytes = read_log(GetParam());
    const EventLog log = read_event_log(bytes);
    ASSERT_TRUE(is_consistent(log));
    unsigned taken = 0;
    for (std::size_t size = 1; size < bytes.size(); ++size) {
        Buffer cut = bytes;
        std::fill(cut.begin() + static_cast<std::ptrdiff_t>(size), cut.end(), std::byte{0});
        cut.resize(bytes.size() + 64);
        if (!is_consistent(read_event_log(cut))) continue;
        // The first event that begins at the cut or after it.
        std::size_t next = bytes.size();
        std::size_t before = 0;
        for (const LogEvent& event : log.events) {
            if (event.offset <= size) before = event.offset;
            if (event.offset >= size) next = std::min(next, event.offset);
        }
        const auto zeros = [&](std::size_t from, std::size_t to) {
            return std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                               bytes.begin() + static_cast<std::ptrdiff_t>(to),
                               [](std::byte one) { return one == std::byte{0}; });
        };
        const bool nothing_lost = zeros(size, next) || zeros(before, size);
        EXPECT_TRUE(nothing_lost || zeros_before(cut, next) < 4) << size << " of " << bytes.size();
        ++taken;
    }
    EXPECT_LT(taken, bytes.size() / 8);
}

TEST(PaddedLog, LostItsEndIfTheLastEventEndsInZerosThatItsDigestDoesNotCover) {
    const auto lost = [](const SampleEvent& event, std::size_t zeros = 64) {
        Buffer bytes = with_event(event);
        bytes.resize(bytes.size() + zeros);
        return lost_its_end(read_event_log(bytes));
    };
    Buffer text_and_zeros = text("(hd0)/vmlinuz");
    text_and_zeros.insert(text_and_zeros.end(), 4, std::byte{0});
    EXPECT_TRUE(lost({9, 0x0d, filler("a file", 900), text_and_zeros}));
    EXPECT_TRUE(lost({9, 0x0d, filler("a file", 900), {}}));
    EXPECT_FALSE(lost({9, 0x0d, text_and_zeros, text_and_zeros})) << "covered by its digest";
    EXPECT_FALSE(lost({9, 0x0d, filler("a file", 900), text_and_zeros}, 0)) << "no padding";
    EXPECT_FALSE(lost({9, 0x0d, filler("a file", 900), text("(hd0)/vmlinuz")}));
    EXPECT_FALSE(lost({17, 0x402, filler("a module", 900), {}})) << "a launch's events say nothing";
    EXPECT_FALSE(lost({0, 4, Buffer(4), Buffer(4)}));
}

TEST(OldLog, OfEveryHeaderIsRead) {
    const Buffer events = joined({legacy_event(0, 8, text("v")), legacy_event(0, 4, Buffer(4))});
    Buffer spec_id = text(std::string("Spec ID Event00\0", 16));
    spec_id.resize(16 + 9);
    for (const Buffer& bytes : {events, joined({legacy_event(0, 3, spec_id), events}), joined({events, Buffer(200)})}) {
        const EventLog log = read_event_log(bytes);
        EXPECT_EQ(log.stopped.error, Error::kNone) << host::describe(log.stopped);
        EXPECT_EQ(log.events.size(), 2u);
        EXPECT_EQ(log.banks, std::vector{HashAlgorithm::kSha1});
    }
}

// Windows logs what it tells itself so.
TEST(EventLog, NoActionMayBeOfNoPcr) {
    const Buffer bytes = test::agile_log(
        kBanks, std::vector<SampleEvent>{{0xffffffff, 3, {}, filler("x")}, {0, 4, Buffer(4), Buffer(4)}});
    EXPECT_EQ(read_event_log(bytes).stopped.error, Error::kNone);
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

constexpr std::uint32_t kHcrtm = 0x80000010;
SampleEvent locality_event(std::initializer_list<unsigned> after) {
    Buffer data = text(std::string("StartupLocality\0", 16));
    for (const unsigned value : after) data.push_back(static_cast<std::byte>(value));
    return {0, 3, {}, data};
}
SampleEvent hcrtm_event(std::uint32_t pcr = 0) { return {pcr, kHcrtm, filler("a boot block", 90), text("HCRTM")}; }
SampleEvent version_event(std::uint32_t pcr = 0) { return {pcr, 8, filler("v"), filler("v")}; }
SampleEvent note_event(std::uint32_t pcr = 0) { return {pcr, 3, {}, text("H-CRTM CompMeas")}; }

struct StartRow {
    const char* name;
    std::vector<SampleEvent> events;
    std::uint8_t start;
    const char* quirk;
};
class Pcr0 : public testing::TestWithParam<StartRow> {};
TEST_P(Pcr0, StartsInEveryBank) {
    constexpr std::array kAll{HashAlgorithm::kSha1, HashAlgorithm::kSha256, HashAlgorithm::kSha384,
                              HashAlgorithm::kSha512};
    const Buffer bytes = test::agile_log(kAll, GetParam().events);
    const EventLog log = read_event_log(bytes);
    ASSERT_EQ(log.stopped.error, Error::kNone) << host::describe(log.stopped);
    EXPECT_EQ(start_localities(log).front(), GetParam().start);
    auto all = start_localities(log);
    std::ranges::sort(all);
    EXPECT_EQ(all, (std::array<std::uint8_t, 3>{0, 3, 4}));
    for (const HashAlgorithm bank : kAll) {
        Digest expected{.algorithm = bank};
        expected.storage[digest_size(bank) - 1] = static_cast<std::byte>(GetParam().start);
        EXPECT_TRUE(equal_bytes(start_value(log, bank, 0).bytes(), expected.bytes()));
        EXPECT_EQ(start_value(log, bank, 1).bytes().back(), std::byte{0});
        for (const SampleEvent& event : GetParam().events) {
            if (event.pcr != 0 || event.type == 3) continue;
            expected = Hash(bank).update(expected.bytes()).update(hash(bank, event.measured).bytes()).finish();
        }
        EXPECT_EQ(replayed(log, bank, 0), host::hex(expected.bytes()));
    }
    if (*GetParam().quirk != 0) {
        EXPECT_TRUE(has_quirk(log, GetParam().quirk));
    } else {
        EXPECT_FALSE(has_quirk(log, "H-CRTM") || has_quirk(log, "locality"));
    }
}
INSTANTIATE_TEST_SUITE_P(
    Rows, Pcr0,
    testing::Values(
        StartRow{"AtZero", {version_event()}, 0, ""},
        StartRow{"AtLocality0", {locality_event({0}), version_event()}, 0, ""},
        StartRow{"AtLocality3", {locality_event({3}), version_event()}, 3, ""},
        StartRow{"AtLocality4", {locality_event({4}), version_event()}, 4, ""},
        StartRow{"AfterAnHcrtm", {hcrtm_event(), version_event()}, 4, ""},
        StartRow{"AfterAnHcrtmThatSaysSo", {locality_event({4}), hcrtm_event(), version_event()}, 4, ""},
        StartRow{"AfterAnHcrtmThatSaysSoLater", {hcrtm_event(), locality_event({4})}, 4, "after the first event"},
        StartRow{"AfterAnHcrtmAtLocality0", {locality_event({0}), hcrtm_event()}, 4, "start-up locality 0 beside"},
        StartRow{"AfterAnHcrtmAtLocality3", {locality_event({3}), hcrtm_event()}, 4, "start-up locality 3 beside"},
        StartRow{"AfterAnHcrtmAtLocality3Later", {hcrtm_event(), locality_event({3})}, 4, "start-up locality 3 beside"},
        StartRow{"AfterEventsThatExtendNothing", {note_event(), note_event(), hcrtm_event()}, 4, ""},
        StartRow{"AfterEventsOfOtherPcrs",
                 {version_event(7), note_event(6), {1, 4, Buffer(4), Buffer(4)}, hcrtm_event()},
                 4,
                 ""},
        StartRow{"AfterTwoHcrtms", {hcrtm_event(), hcrtm_event()}, 4, "not the first of PCR 0"},
        StartRow{"HcrtmIsNotTheFirst", {version_event(), hcrtm_event()}, 0, "not the first of PCR 0"},
        StartRow{
            "HcrtmIsNotTheFirstAtLocality3", {locality_event({3}), version_event(), hcrtm_event()}, 3, "not the first"},
        StartRow{"HcrtmOfAnotherPcr", {hcrtm_event(1), version_event()}, 0, "of PCR 1 rather than 0"},
        StartRow{"LocalityThatDoesNotExist", {locality_event({2}), version_event()}, 0, "2 does not exist"},
        StartRow{"LocalityTwice", {locality_event({3}), locality_event({0}), version_event()}, 3, "second"},
        StartRow{"LocalityInAWord", {locality_event({3, 0, 0, 0}), version_event()}, 3, "wrong size"},
        StartRow{"LocalityMissing", {locality_event({}), version_event()}, 0, "wrong size"}),
    [](const auto& row) { return row.param.name; });

TEST(Pcr0OfAnOldLog, StartsAfterAnHcrtm) {
    const EventLog log =
        read_event_log(joined({legacy_event(0, kHcrtm, text("HCRTM")), legacy_event(0, 4, Buffer(4))}));
    EXPECT_EQ(start_localities(log).front(), 4);
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

Buffer wide(std::string_view content) {
    Buffer bytes;
    for (const char c : content) bytes.insert(bytes.end(), {static_cast<std::byte>(c), std::byte{0}});
    return bytes;
}
Buffer ended(Buffer bytes, std::size_t zeros = 1) {
    bytes.insert(bytes.end(), zeros, std::byte{0});
    return bytes;
}

class EventData : public testing::TestWithParam<DataRow> {};
TEST_P(EventData, IsFoundHowIt) {
    const DataRow& row = GetParam();
    const Buffer bytes = with_event({row.type == 0x0d ? 8u : 1u, row.type, row.measured, row.data});
    const EventLog log = read_event_log(bytes);
    ASSERT_EQ(log.events.size(), 1u);
    const DataFinding finding = judge_event_data(log.events[0]);
    EXPECT_EQ(finding.judgement, row.judgement);
    EXPECT_NE(finding.detail.find(row.quirk), std::string::npos) << finding.detail;
    if (*row.quirk == 0) {
        EXPECT_TRUE(finding.detail.empty()) << finding.detail;
    }
}

constexpr auto kYes = DataJudgement::kMatches;
constexpr auto kUnknown = DataJudgement::kElsewhere;
constexpr const char* kPrefixed = "without its prefix";
constexpr auto kValueAlone = DataJudgement::kValue;
const std::string kMenuEntry = "menuentry a {" + std::string(100'000, ' ') + "}";
// attestation/README.md, "What boot loaders log", has these forms by maker.
INSTANTIATE_TEST_SUITE_P(
    OfABootLoader, EventData,
    testing::Values(
        DataRow{"Grub", 0x0d, text("set x=y"), ended(text("grub_cmd: set x=y")), kYes, kPrefixed},
        DataRow{"GrubWithoutTerminator", 0x0d, text("set x=y"), text("grub_cmd: set x=y"), kYes, kPrefixed},
        DataRow{"GrubHashedWithTerminator", 0x0d, ended(text("set x=y")), ended(text("grub_cmd: set x=y")), kYes,
                kPrefixed},
        DataRow{"GrubKernelCommandLine", 0x0d, text("/vmlinuz root=/dev/sda1 ro"),
                ended(text("kernel_cmdline: /vmlinuz root=/dev/sda1 ro")), kYes, kPrefixed},
        DataRow{"GrubModuleCommandLine", 0x0d, text("/xen.cfg a b"), ended(text("module_cmdline: /xen.cfg a b")), kYes,
                kPrefixed},
        DataRow{"GrubEmptyCommandLine", 0x0d, {}, ended(text("module_cmdline: ")), kYes, kPrefixed},
        DataRow{"GrubTextWithAColon", 0x0d, text("menuentry a: b { c }"), ended(text("grub_cmd: menuentry a: b { c }")),
                kYes, kPrefixed},
        DataRow{"GrubTextInUtf8", 0x0d, text("set x=\xc3\xa4\xe2\x82\xac"),
                ended(text("grub_cmd: set x=\xc3\xa4\xe2\x82\xac")), kYes, kPrefixed},
        DataRow{"PatchedGrub", 0x0d, ended(text("set pager=1")), ended(text("grub_cmd set pager=1")), kYes, kPrefixed},
        DataRow{"PatchedGrubWithoutTerminator", 0x0d, text("set pager=1"), text("grub_cmd set pager=1"), kYes,
                kPrefixed},
        DataRow{"PatchedGrubHashedWithout", 0x0d, text("set pager=1"), ended(text("grub_cmd set pager=1")), kYes,
                kPrefixed},
        DataRow{"PatchedGrubLoggedWithout", 0x0d, ended(text("set pager=1")), text("grub_cmd set pager=1"), kYes,
                kPrefixed},
        DataRow{"PatchedGrubKernelCommandLine", 0x0d, text("root=/dev/sda1 ro"),
                ended(text("grub_kernel_cmdline root=/dev/sda1 ro")), kYes, kPrefixed},
        DataRow{"PatchedGrubWithoutPrefix", 0x0d, ended(text("set pager=1")), ended(text("set pager=1")), kYes, ""},
        DataRow{"PatchedGrubKernel", 0x0d, filler("kernel", 900), ended(text("grub_linuxefi Kernel")), kUnknown, ""},
        DataRow{"GrubThatLies", 0x0d, text("set x=y"), ended(text("grub_cmd: set x=z")), kUnknown, ""},
        DataRow{"LongGrubCommand", 0x0d, text(kMenuEntry), ended(text("grub_cmd: " + kMenuEntry)), kYes, kPrefixed},
        DataRow{"LongGrubCommandOfOldPatches", 0x0d, ended(text(kMenuEntry)), ended(text("grub_cmd " + kMenuEntry)),
                kYes, kPrefixed},
        DataRow{"PrefixThatGrubDoesNotWrite", 0x0d, text("set x=y"), text("shim_verified: set x=y"), kUnknown, ""},
        DataRow{"PrefixOfAnyWord", 0x0d, text("set x=y"), text("kernel set x=y"), kUnknown, ""},
        DataRow{"PrefixInCapitals", 0x0d, text("set x=y"), text("GRUB_CMD: set x=y"), kUnknown, ""},
        DataRow{"PrefixTwice", 0x0d, text("set x=y"), text("grub_cmd: grub_cmd: set x=y"), kUnknown, ""},
        DataRow{"PrefixWithoutItsBlank", 0x0d, text("set x=y"), text("grub_cmd:set x=y"), kUnknown, ""},
        DataRow{"PrefixTooLong", 0x0d, text("x"), text(std::string(33, 'a') + " x"), kUnknown, ""},
        DataRow{"PrefixThatIsNoWord", 0x0d, text("x"), text("(hd0,gpt1)/a x"), kUnknown, ""},
        DataRow{"PrefixOfTwoWords", 0x0d, text("x"), text("grub cmd x"), kUnknown, ""},
        DataRow{"ShimMokList", 0x0d, filler("keys", 900), ended(text("MokList")), kUnknown, ""},
        DataRow{"ShimSbatLevel", 0x800000e0, variable(filler("sbat")), variable(filler("sbat"), Buffer(1)), kYes,
                "after the variable's value"},
        DataRow{"SystemdCommandLine", 0x0d, ended(wide("root=/dev/sda1"), 2), ended(wide("root=/dev/sda1"), 2), kYes,
                ""},
        DataRow{"SystemdCommandLineHashedWithout", 0x0d, wide("root=/dev/sda1"), ended(wide("root=/dev/sda1"), 2), kYes,
                "hashed without"},
        DataRow{"SystemdCommandLineLoggedWithout", 0x0d, ended(wide("root=/dev/sda1"), 2), wide("root=/dev/sda1"), kYes,
                "hashed with"},
        DataRow{"SystemdCommandLineOfAnyAlphabet", 0x0d, bytes_of({0xe4, 0, 0x2c, 0x20, 0, 0x4e}),
                bytes_of({0xe4, 0, 0x2c, 0x20, 0, 0x4e, 0, 0}), kYes, "hashed without"},
        DataRow{"SystemdSectionName", 0x0d, ended(text(".linux")), ended(wide(".linux"), 2), kYes, "hashed in ASCII"},
        DataRow{"SystemdSectionNameWithout", 0x0d, text(".linux"), wide(".linux"), kYes, "hashed in ASCII"},
        DataRow{"SystemdSection", 0x0d, filler("kernel", 900), ended(wide(".linux"), 2), kUnknown, ""},
        DataRow{"SystemdCredentials", 0x0d, filler("archive", 900), ended(wide("Credentials initrd"), 2), kUnknown, ""},
        DataRow{"SystemdLoaderConf", 6, filler("timeout 3", 90), tagged(ended(wide("loader.conf"), 2)), kUnknown, ""},
        DataRow{"SystemdProfile", 6, ended(wide("1"), 2), tagged(ended(wide("1"), 2)), kYes, "without tag"},
        DataRow{"SystemdTaggedWithoutTerminator", 6, wide("a=b"), tagged(ended(wide("a=b"), 2)), kYes, "terminator"},
        DataRow{"AsciiHashedInUtf16", 0x0d, ended(wide("quiet"), 2), ended(text("quiet")), kYes, "hashed in UTF-16"},
        DataRow{"LinuxInitrd", 6, filler("initrd", 900), tagged(ended(text("Linux initrd"))), kUnknown, ""},
        DataRow{"WindowsTaggedEvents", 6, tagged(filler("sipa")), tagged(filler("sipa")), kYes, ""},
        DataRow{"UBootCommandLine", 0x0a, ended(text("console=ttyS0")), ended(text("console=ttyS0")), kYes, ""},
        DataRow{"UBootKernel", 0x0c, filler("kernel", 900), ended(text("linux")), kUnknown, ""},
        DataRow{"UBootVersion", 8, ended(text("U-Boot 2026.01")), ended(text("U-Boot 2026.01")), kYes, ""},
        DataRow{"CrtmVersionHashedWithout", 8, wide("1.2"), ended(wide("1.2"), 2), kYes, "hashed without"}),
    [](const auto& row) { return row.param.name; });

TEST(EventDataOfGrub, HasAPrefixInItsOwnPcrOnly) {
    for (std::uint32_t pcr = 0; pcr < 24; ++pcr) {
        const Buffer bytes = with_event({pcr, 0x0d, text("set x=y"), ended(text("grub_cmd: set x=y"))});
        const EventLog log = read_event_log(bytes);
        const DataFinding finding = judge_event_data(log.events.at(0));
        EXPECT_EQ(finding.judgement, pcr == 8 ? kYes : kUnknown) << pcr;
        EXPECT_EQ(finding.front, pcr == 8 ? std::string_view("grub_cmd: ").size() : 0) << pcr;
    }
    const Buffer whole = with_event({8, 0x0d, text("grub_cmd: x"), text("grub_cmd: x")});
    const EventLog log = read_event_log(whole);
    EXPECT_EQ(judge_event_data(log.events.at(0)).front, 0u);
}

TEST(EventText, OfASectionBeginsWithADot) {
    const Buffer bytes = with_event({11, 0x0d, ended(text(".linux")), ended(wide(".linux"), 2)});
    const EventLog log = read_event_log(bytes);
    EXPECT_EQ(event_text(log.events.at(0)), ".linux");
    const Buffer binary = with_event({11, 0x0d, {}, bytes_of({1, 2, 'a', 'b'})});
    const EventLog other = read_event_log(binary);
    EXPECT_EQ(event_text(other.events.at(0)), "EV_IPL");
}

TEST(EventDataOfTwoBanks, IsAContradictionIfOneBankHasItAndAnotherNot) {
    Buffer bytes = with_event({8, 0x0d, text("grub_cmd: x"), text("grub_cmd: x")});
    bytes.at(static_cast<std::size_t>(kHeader) + 12 + 22 + 2) ^= std::byte{1};  // SHA-256
    const EventLog log = read_event_log(bytes);
    const DataFinding finding = judge_event_data(log.events.at(0));
    EXPECT_EQ(finding.judgement, DataJudgement::kDiffers);
    EXPECT_EQ(finding.detail, "SHA-256");
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
        DataRow{"AuthorityValueAlone", 0x800000e0, kValue, variable(kValue), kValueAlone, "only the variable's value"},
        DataRow{"DriverVariableValueAlone", 0x80000001, kValue, variable(kValue), kValueAlone,
                "only the variable's value"},
        DataRow{"BootVariableValueAlone", 0x80000002, kValue, variable(kValue), kValueAlone, ""},
        DataRow{"BootVariableWhole", 0x80000002, variable(kValue), variable(kValue), DataJudgement::kMatches, ""},
        DataRow{"BootVariable2ValueAlone", 0x8000000c, kValue, variable(kValue), kValueAlone,
                "only the variable's value"},
        DataRow{"SpdmPolicyValueAlone", 0x800000e3, kValue, variable(kValue), kValueAlone, "only the variable's value"},
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
