// Canonical Event Log: the records of a small log, written as JSON and as CBOR.
#include "attestation/formats/cel.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "attestation/formats/cbor.hpp"

namespace gatehouse::formats {
namespace {

using nlohmann::json;
using verifier::EventLog;
using verifier::LogEvent;
using verifier::LogEventType;

const Buffer kSha1(20, std::byte{0x11}), kSha256(32, std::byte{0x22}), kData = host::from_hex("00000000", "");

LogEvent event(std::uint32_t number, std::uint32_t pcr, LogEventType type) {
    LogEvent event{.number = number, .pcr = pcr, .type = type};
    event.digests[0] = kSha1;
    event.digests[1] = kSha256;
    event.data = kData;
    return event;
}

EventLog small_log() {
    EventLog log;
    log.events = {event(1, 0, LogEventType::kSeparator), event(2, 17, static_cast<LogEventType>(0x502)),
                  event(3, 0, LogEventType::kEfiAction)};
    return log;
}

TEST(Cel, WritesJson) {
    const json log = json::parse(cel_json(small_log()));
    ASSERT_EQ(log.size(), 3u);
    EXPECT_EQ(log[0], json::parse(R"({"recnum": 0, "pcr": 0, "digests": [
        {"hashAlg": "sha1", "digest": "1111111111111111111111111111111111111111"},
        {"hashAlg": "sha256", "digest": "2222222222222222222222222222222222222222222222222222222222222222"}],
        "content_type": "pcclient_std", "content": {"event_type": "EV_SEPARATOR", "event_data": "00000000"}})"));
    EXPECT_EQ(log[1].at("recnum"), 0) << "each PCR counts by itself";
    EXPECT_EQ(log[1].at("content").at("event_type"), 0x502) << "a type without a name";
    EXPECT_EQ(log[2].at("recnum"), 1);
}

TEST(Cel, WritesCbor) {
    const Buffer bytes = cel_cbor(small_log());
    EXPECT_EQ(host::hex(Bytes(bytes).first(10)), "83a5000001000382a200") << "[{0: 0, 1: 0, 3: [{0: ...";
    const CborItem log = read_cbor(bytes, "CEL");
    ASSERT_EQ(log.items.size(), 3u);
    const CborItem& second = log.items[1];
    EXPECT_EQ(second.find(0)->integer(), 0);
    EXPECT_EQ(second.find(1)->integer(), 17);
    EXPECT_EQ(second.find(3)->items.at(1).find(0)->integer(), 0x000b);
    EXPECT_EQ(host::hex(second.find(3)->items.at(1).find(1)->bytes), host::hex(kSha256));
    EXPECT_EQ(second.find(9)->integer(), 5);
    EXPECT_EQ(second.find(10)->find(0)->integer(), 0x502);
    EXPECT_EQ(host::hex(second.find(10)->find(1)->bytes), "00000000");
    EXPECT_EQ(log.items[2].find(0)->integer(), 1);
}

TEST(Cel, LeavesOutABankThatAnEventLacks) {
    EventLog log = small_log();
    log.events[0].digests[0] = {};
    EXPECT_EQ(json::parse(cel_json(log))[0].at("digests").size(), 1u);
    EXPECT_EQ(read_cbor(cel_cbor(log), "CEL").items[0].find(3)->items.size(), 1u);
    log.events[0].digests[1] = {};
    EXPECT_THROW((void)cel_json(log), host::ToolError) << "a record has a digest";
    EXPECT_THROW((void)cel_cbor(log), host::ToolError);
}

// An index is at most 0x00ffffff there: others would refuse the whole log.
TEST(Cel, WhatIsInNoPcrHasNoRecord) {
    EventLog log = small_log();
    log.events[1].pcr = 0xffff'ffff;
    log.events[1].type = LogEventType::kNoAction;
    EXPECT_EQ(json::parse(cel_json(log)).size(), 2u);
    const CborItem records = read_cbor(cel_cbor(log), "CEL");
    ASSERT_EQ(records.items.size(), 2u);
    EXPECT_EQ(records.items[1].find(0)->integer(), 1);
}

// By Debian's cddl and the grammar in cel.cddl: real logs, one with a type without a name, one of nothing.
TEST(Cel, OthersReadIt) {
    const std::string base = testing::TempDir() + "cel." + std::to_string(::getpid());
    const auto said = [&base](const EventLog& log) {
        host::replace_file(base, cel_cbor(log));
        host::replace_file(base + ".json", host::text_bytes(cel_json(log)));
        const Buffer out = host::run_program(
            {"/usr/bin/python3", GATEHOUSE_READERS "/read_cel.py", GATEHOUSE_CDDL, base, base + ".json"}, {}, 64);
        return std::string(reinterpret_cast<const char*>(out.data()), out.size());
    };
    for (const char* const name : {"ovmf.bin", "seabios.bin"}) {
        SCOPED_TRACE(name);
        const Buffer content = host::read_file(GATEHOUSE_TEST_DATA "/event_logs/" + std::string(name), 1 << 20);
        const EventLog log = verifier::read_event_log(content);
        ASSERT_GT(log.events.size(), 10u);
        EXPECT_EQ(said(log), std::to_string(log.events.size()) + "\n");
    }
    EXPECT_EQ(said(small_log()), "3\n");
    EXPECT_EQ(said({}), "0\n");
    std::filesystem::remove(base);
    std::filesystem::remove(base + ".json");
}

TEST(Cel, AnEmptyLogIsAnEmptyArray) {
    EXPECT_EQ(json::parse(cel_json({})), json::array());
    EXPECT_EQ(host::hex(cel_cbor({})), "80");
}

}  // namespace
}  // namespace gatehouse::formats
