#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "attestation/evidence_reader/launch_log_reader.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::evidence {
namespace {

using host::Buffer;
using host::hex;

constexpr std::array kAllBanks{HashAlgorithm::kSha1, HashAlgorithm::kSha256, HashAlgorithm::kSha384,
                               HashAlgorithm::kSha512};

std::vector<Digest> digests_of(std::span<const HashAlgorithm> banks, Bytes object) {
    std::vector<Digest> digests;
    for (const HashAlgorithm bank : banks) digests.push_back(hash(bank, object));
    return digests;
}

// The log of a whole launch, each measured object being its own name.
Buffer launch_log(std::span<const HashAlgorithm> banks) {
    Buffer buffer(kEventLogSize);
    auto writer = EventLogWriter::create(buffer, banks);
    EXPECT_TRUE(writer.ok());
    for (const Measurement& measurement : kMeasurements) {
        EXPECT_TRUE(writer->append(measurement, digests_of(banks, host::text_bytes(measurement.name))).ok());
    }
    EXPECT_TRUE(writer->append_cap(kLaunchPcr, digests_of(banks, kCapData)).ok());
    EXPECT_TRUE(writer->append_cap(kPayloadPcr, digests_of(banks, kCapData)).ok());
    return {writer->log().begin(), writer->log().end()};
}

Status read_all(Bytes log) {
    GATEHOUSE_ASSIGN(EventLogReader reader, EventLogReader::open(log));
    while (!reader.at_end()) GATEHOUSE_TRY(reader.next());
    return {};
}

// Header, secure loader block ("loader"), cap of PCR 17; SHA-256 only. Written down by another program.
constexpr const char* kGolden =
    "000000000300000000000000000000000000000000000000000000002100000053706563204944204576656e74303300"
    "0000000000026a02010000000b002000001100000006000000010000000b00d47712cceb4c780603026e6325221c1bcf"
    "f90679ebc076baa51c71ebe796717c1b0000000100484713000000736563757265206c6f6164657220626c6f636b1100"
    "000004000000010000000b00df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b8111904000000"
    "00000000";
constexpr const char* kGoldenPcr17 = "b0084ac9540a42d73181d500f188c3bcb239bfc8e28c149ebf878ba969bf65da";

Buffer golden() { return host::from_hex(kGolden, "golden log"); }

TEST(EventLogWriter, WritesTheTcgFormatByteForByte) {
    constexpr std::array kBanks{HashAlgorithm::kSha256};
    std::array<std::byte, 512> buffer{};
    auto writer = EventLogWriter::create(buffer, kBanks);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->append(kMeasurements[0], digests_of(kBanks, literal_bytes("loader"))).ok());
    ASSERT_TRUE(writer->append_cap(kLaunchPcr, digests_of(kBanks, kCapData)).ok());
    EXPECT_EQ(hex(writer->log()), kGolden);
}

TEST(EventLogWriter, AnswersAFullLogWithAnErrorAndKeepsWhatIsThere) {
    const Buffer whole = launch_log(kAllBanks);
    for (std::size_t size = 0; size < whole.size(); ++size) {
        Buffer buffer(size);
        auto writer = EventLogWriter::create(buffer, kAllBanks);
        if (!writer.ok()) {
            EXPECT_EQ(writer.error(), Error::kNoSpace) << size;
            continue;
        }
        Status status;
        for (const Measurement& measurement : kMeasurements) {
            if (!status.ok()) break;
            status = writer->append(measurement, digests_of(kAllBanks, host::text_bytes(measurement.name)));
        }
        if (status.ok()) status = writer->append_cap(kLaunchPcr, digests_of(kAllBanks, kCapData));
        if (status.ok()) status = writer->append_cap(kPayloadPcr, digests_of(kAllBanks, kCapData));
        EXPECT_EQ(status.failure().error, Error::kNoSpace) << size;
        EXPECT_TRUE(read_all(writer->log()).ok()) << "a refused event must leave no part of it";
        EXPECT_TRUE(equal_bytes(writer->log(), Bytes(whole).first(writer->log().size())));
    }
}

TEST(EventLogWriter, ResumesWhereAnEarlierStageStopped) {
    const Buffer whole = launch_log(kAllBanks);
    Buffer buffer(kEventLogSize);
    auto first = EventLogWriter::create(buffer, kAllBanks);
    ASSERT_TRUE(first.ok());
    const auto append = [](EventLogWriter& writer, const Measurement& measurement) {
        return writer.append(measurement, digests_of(kAllBanks, host::text_bytes(measurement.name)));
    };
    ASSERT_TRUE(append(*first, kMeasurements[0]).ok());
    EventLogWriter second(buffer, first->log().size(), kAllBanks);
    for (std::size_t i = 1; i < kMeasurements.size(); ++i) ASSERT_TRUE(append(second, kMeasurements[i]).ok());
    ASSERT_TRUE(second.append_cap(kLaunchPcr, digests_of(kAllBanks, kCapData)).ok());
    ASSERT_TRUE(second.append_cap(kPayloadPcr, digests_of(kAllBanks, kCapData)).ok());
    EXPECT_EQ(hex(second.log()), hex(whole));
}

TEST(EventLogReader, YieldsWhatWasWritten) {
    const Buffer log = launch_log(kAllBanks);
    auto reader = EventLogReader::open(log);
    ASSERT_TRUE(reader.ok());
    EXPECT_TRUE(std::ranges::equal(reader->banks().all(), kAllBanks));
    std::uint32_t number = 0;
    for (const Measurement& measurement : kMeasurements) {
        const std::size_t offset = reader->offset();
        const auto event = reader->next();
        ASSERT_TRUE(event.ok());
        EXPECT_EQ(event->number, ++number);
        EXPECT_EQ(event->offset, offset);
        EXPECT_EQ(event->pcr, measurement.pcr);
        EXPECT_EQ(event->type, EventType::kEventTag);
        for (std::size_t i = 0; i < kAllBanks.size(); ++i) {
            EXPECT_EQ(hex(event->digests[i]), hex(hash(kAllBanks[i], host::text_bytes(measurement.name)).bytes()));
        }
        Reader data(event->data);
        EXPECT_EQ(data.u32(), static_cast<std::uint32_t>(measurement.tag));
        const Bytes name = data.bytes(data.u32());
        EXPECT_TRUE(data.finished("event data").ok());
        EXPECT_TRUE(equal_bytes(name, host::text_bytes(measurement.name)));
    }
    for (const std::uint32_t pcr : {kLaunchPcr, kPayloadPcr}) {
        const auto event = reader->next();
        ASSERT_TRUE(event.ok());
        EXPECT_EQ(event->pcr, pcr);
        EXPECT_EQ(event->type, EventType::kSeparator);
        EXPECT_TRUE(equal_bytes(event->data, kCapData));
    }
    EXPECT_TRUE(reader->at_end());
    EXPECT_EQ(reader->next().error(), Error::kNotFound);
}

TEST(EventLogReader, RefusesEveryTruncationButAtTheEndOfAnEvent) {
    const Buffer log = launch_log(kAllBanks);
    std::vector<std::size_t> ends;
    auto reader = EventLogReader::open(log);
    ASSERT_TRUE(reader.ok());
    ends.push_back(reader->offset());
    while (!reader->at_end()) {
        ASSERT_TRUE(reader->next().ok());
        ends.push_back(reader->offset());
    }
    for (std::size_t size = 0; size <= log.size(); ++size) {
        const Buffer part(log.begin(),
                          log.begin() + static_cast<std::ptrdiff_t>(size));  // ends where its memory does
        EXPECT_EQ(read_all(part).ok(), std::ranges::find(ends, size) != ends.end()) << size;
    }
}

TEST(EventLogReader, NamesTheOffsetOfTheBadEvent) {
    Buffer log = golden();
    const auto reader = EventLogReader::open(log);
    ASSERT_TRUE(reader.ok());
    const std::size_t first = reader->offset();
    log.pop_back();
    auto again = EventLogReader::open(log);
    ASSERT_TRUE(again.ok());
    ASSERT_TRUE(again->next().ok());
    const std::size_t second = again->offset();
    EXPECT_GT(second, first);
    const auto event = again->next();
    EXPECT_EQ(event.error(), Error::kTruncated);
    EXPECT_EQ(event.failure().detail, second);
}

struct HeaderChange {
    const char* name;
    std::size_t offset;
    std::uint8_t value;
    Error error;
};
class EventLogHeader : public testing::TestWithParam<HeaderChange> {};

TEST_P(EventLogHeader, IsRefusedIfChanged) {
    Buffer log = golden();
    log.at(GetParam().offset) = static_cast<std::byte>(GetParam().value);
    EXPECT_EQ(EventLogReader::open(log).error(), GetParam().error);
}

INSTANTIATE_TEST_SUITE_P(Fields, EventLogHeader,
                         testing::Values(HeaderChange{"Pcr", 0, 1, Error::kBadMagic},
                                         HeaderChange{"Type", 4, 4, Error::kBadMagic},
                                         HeaderChange{"Digest", 8, 1, Error::kBadMagic},
                                         HeaderChange{"Size", 28, 36, Error::kBadLength},
                                         HeaderChange{"Signature", 32, 'X', Error::kBadMagic},
                                         HeaderChange{"SignatureEnd", 47, 'X', Error::kBadMagic},
                                         HeaderChange{"MajorVersion", 53, 1, Error::kBadVersion},
                                         HeaderChange{"NoBanks", 56, 0, Error::kBadValue},
                                         HeaderChange{"MoreBanks", 56, 2, Error::kUnsupported},
                                         HeaderChange{"Algorithm", 60, 0x27, Error::kUnsupported},
                                         HeaderChange{"DigestSize", 62, 20, Error::kBadLength},
                                         HeaderChange{"VendorInformation", 64, 1, Error::kBadLength}),
                         [](const auto& row) { return row.param.name; });

TEST(EventLogReader, RefusesABankTwice) {
    constexpr std::array kBanks{HashAlgorithm::kSha1, HashAlgorithm::kSha256};
    Buffer buffer(kEventLogSize);
    const auto writer = EventLogWriter::create(buffer, kBanks);
    ASSERT_TRUE(writer.ok());
    store(buffer.data() + 64, std::uint16_t{0x0004}, Endian::kLittle);
    store(buffer.data() + 66, std::uint16_t{20}, Endian::kLittle);
    EXPECT_EQ(EventLogReader::open(Bytes(buffer).first(writer->log().size())).error(), Error::kBadValue);
}

TEST(EventLogReader, RefusesAnEventWhoseDigestsAreNotThoseOfTheBanks) {
    const auto opened = EventLogReader::open(golden());
    ASSERT_TRUE(opened.ok());
    const std::size_t event = opened->offset();
    for (const std::size_t field : {event + 8, event + 12}) {  // count, algorithm
        Buffer log = golden();
        log[field] ^= std::byte{2};
        EXPECT_EQ(read_all(log).failure().error, Error::kMismatch);
    }
}

// No assertion but that nothing is read out of bounds (sanitizers) and that reading ends.
TEST(EventLogReader, SurvivesEveryByteChangedToEveryExtreme) {
    const Buffer log = golden();
    for (std::size_t i = 0; i < log.size(); ++i) {
        for (const unsigned value : {0x00u, 0x01u, 0x7fu, 0x80u, 0xffu}) {
            Buffer changed = log;
            changed[i] = static_cast<std::byte>(value);
            (void)read_all(changed);
        }
    }
}

TEST(Replay, GivesThePcrThatTheEventsLeave) {
    const auto value = replay(golden(), HashAlgorithm::kSha256, kLaunchPcr);
    ASSERT_TRUE(value.ok());
    EXPECT_EQ(hex(value->bytes()), kGoldenPcr17);
}

TEST(Replay, LeavesAPcrWithoutEventsAtZero) {
    const auto value = replay(golden(), HashAlgorithm::kSha256, kPayloadPcr);
    ASSERT_TRUE(value.ok());
    EXPECT_EQ(hex(value->bytes()), std::string(64, '0'));
}

TEST(Replay, SkipsEventsThatExtendNothing) {
    constexpr std::array kBanks{HashAlgorithm::kSha256};
    Buffer buffer(kEventLogSize);
    auto writer = EventLogWriter::create(buffer, kBanks);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->append(kLaunchPcr, EventType::kNoAction, digests_of(kBanks, kCapData), {}).ok());
    EXPECT_EQ(hex(replay(writer->log(), HashAlgorithm::kSha256, kLaunchPcr)->bytes()), std::string(64, '0'));
}

TEST(Replay, RefusesBanksItCannotAnswerFor) {
    EXPECT_EQ(replay(golden(), HashAlgorithm::kSha1, kLaunchPcr).error(), Error::kNotFound);
    constexpr std::array kSm3{HashAlgorithm::kSm3_256};
    Buffer buffer(kEventLogSize);
    const auto writer = EventLogWriter::create(buffer, kSm3);
    ASSERT_TRUE(writer.ok());
    EXPECT_EQ(replay(writer->log(), HashAlgorithm::kSm3_256, kLaunchPcr).error(), Error::kUnsupported);
}

TEST(Replay, RefusesALogThatIsMalformedAnywhere) {
    Buffer log = golden();
    log.pop_back();
    EXPECT_FALSE(replay(log, HashAlgorithm::kSha256, kLaunchPcr).ok());
}

// After "pcrs:", tpm2_eventlog prints "  sha256:" and then "    17 : 0xED0C..." for each PCR.
std::map<std::string, std::string> pcrs_of_tool_output(const std::string& text) {
    std::map<std::string, std::string> pcrs;
    std::string bank;
    std::istringstream words(text.substr(text.find("\npcrs:") + 6));
    for (std::string word; words >> word;) {
        if (word.back() == ':') {
            bank = word;
            continue;
        }
        std::string colon;
        std::string value;
        words >> colon >> value;
        EXPECT_EQ(colon, ":");
        pcrs[bank + word] = value.substr(2);  // after "0x"
    }
    return pcrs;
}

TEST(EventLog, IsReadByTpm2EventlogWhichComputesTheSamePcrs) {
    const Buffer log = launch_log(kAllBanks);
    const Buffer output = host::run_program({"tpm2_eventlog", "/dev/stdin"}, log, 1 << 20);
    const auto pcrs = pcrs_of_tool_output({reinterpret_cast<const char*>(output.data()), output.size()});
    EXPECT_EQ(pcrs.size(), 8u) << "PCR 17 and 18 in four banks";
    const char* const names[] = {"sha1", "sha256", "sha384", "sha512"};
    for (std::size_t i = 0; i < kAllBanks.size(); ++i) {
        for (const std::uint32_t pcr : {kLaunchPcr, kPayloadPcr}) {
            const std::string key = std::string(names[i]) + ":" + std::to_string(pcr);
            ASSERT_TRUE(pcrs.contains(key)) << key;
            EXPECT_EQ(pcrs.at(key), hex(replay(log, kAllBanks[i], pcr)->bytes())) << key;
        }
    }
}

TEST(EventLog, OfAWholeLaunchFitsItsBufferInAllBanks) {
    constexpr std::array kBanks{HashAlgorithm::kSha1, HashAlgorithm::kSha256, HashAlgorithm::kSha384,
                                HashAlgorithm::kSha512, HashAlgorithm::kSm3_256};
    static_assert(kBanks.size() == kMaxLogBanks);
    Buffer buffer(kEventLogSize);
    auto writer = EventLogWriter::create(buffer, kBanks);
    ASSERT_TRUE(writer.ok());
    std::vector<Digest> digests;
    for (const HashAlgorithm bank : kBanks) digests.push_back({.algorithm = bank, .storage = {}});
    for (const Measurement& measurement : kMeasurements) EXPECT_TRUE(writer->append(measurement, digests).ok());
    EXPECT_TRUE(writer->append_cap(kLaunchPcr, digests).ok());
    EXPECT_TRUE(writer->append_cap(kPayloadPcr, digests).ok());
    EXPECT_LT(writer->log().size(), kEventLogSize * 3 / 4) << "room to spare";
}

}  // namespace
}  // namespace gatehouse::evidence
