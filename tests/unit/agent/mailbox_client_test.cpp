// The guest's program against the hypervisor's server, and against hostile answers.
#include "attestation/agent/mailbox_client.hpp"

#include <gtest/gtest.h>

#include "attestation/evidence_reader/claims_reader.hpp"
#include "tests/unit/agent/served_mailbox.hpp"

namespace gatehouse::agent {
namespace {

class MailboxClientTest : public testing::Test {
  protected:
    ServedMailbox mailbox;
    MailboxClient client{mailbox};
    const Buffer nonce = Buffer(32, std::byte{1});
};

TEST_F(MailboxClientTest, SpeaksWithTheServer) {
    EXPECT_EQ(client.status().cpus, 4);
    EXPECT_EQ(client.log(), mailbox.source.log);
    EXPECT_TRUE(equal_bytes(client.event_log(), literal_bytes("event log")));
    const Evidence evidence = client.quote(nonce);
    EXPECT_TRUE(equal_bytes(evidence.attest, literal_bytes("attest")));
    EXPECT_TRUE(equal_bytes(evidence.signature, literal_bytes("signature")));
    EXPECT_TRUE(equal_bytes(evidence.key, literal_bytes("key")));
    EXPECT_TRUE(evidence::decode_claims(evidence.claims).ok());
}

TEST_F(MailboxClientTest, SaysThatNobodyAnswers) {
    mailbox.present = false;
    EXPECT_THROW((void)client.status(), ChannelError);
}

TEST_F(MailboxClientTest, SaysThatThereIsNoKey) {
    mailbox.source.has_key = false;
    EXPECT_THROW((void)client.quote(nonce), ChannelError);
}

TEST_F(MailboxClientTest, RefusesNoncesOutOfRange) {
    EXPECT_THROW((void)client.quote(Buffer(15)), ChannelError);
    EXPECT_THROW((void)client.quote(Buffer(65)), ChannelError);
}

TEST_F(MailboxClientTest, TellsWhatTheTpmHasFromWhatItHasNot) {
    mailbox.source.items[0x01c00002] = Buffer(1500, std::byte{7});
    EXPECT_EQ(client.endorsement(0x01c00002), Buffer(1500, std::byte{7}));
    EXPECT_EQ(client.endorsement(0x01c0000a), std::nullopt);
}

TEST_F(MailboxClientTest, ActivatesACredentialWithoutItsSizeFields) {
    const Buffer secret = client.activate(0x81010001, literal_bytes("blob"), literal_bytes("encrypted"));
    EXPECT_TRUE(equal_bytes(secret, literal_bytes("the secret")));
    EXPECT_EQ(mailbox.source.activated.handle, 0x81010001u);
    EXPECT_TRUE(equal_bytes(mailbox.source.activated.credential, literal_bytes("blob")));
    EXPECT_TRUE(equal_bytes(mailbox.source.activated.secret, literal_bytes("encrypted")));
    mailbox.tamper = [&](MutableBytes memory) { store<std::uint32_t>(memory.data() + 12, 65, Endian::kLittle); };
    EXPECT_THROW((void)client.activate(0x81010001, literal_bytes("b"), literal_bytes("e")), ChannelError);
}

class FakeConverter final : public channel::Converter {
  public:
    Result<std::size_t> convert(std::uint32_t windows, MutableBytes out) override {
        if (failure) return *failure;
        Writer writer(out);
        writer.u64(done += windows);
        writer.u64(total);
        writer.u32(active);
        return writer.offset();
    }
    std::uint64_t done = 5, total = 9;
    std::uint32_t active = 1;
    std::optional<Failure> failure;
};

TEST_F(MailboxClientTest, AsksForWindows) {
    EXPECT_EQ(client.convert(true), std::nullopt);
    FakeConverter converter;
    mailbox.source.converter = &converter;
    EXPECT_EQ(client.convert(false)->done, 5u);
    EXPECT_EQ(client.convert(true)->done, 6u);
    EXPECT_EQ(client.convert(false)->total, 9u);
    EXPECT_TRUE(client.convert(false)->is_active);
    converter.active = 0;
    EXPECT_FALSE(client.convert(false)->is_active);
    converter.active = 2;
    EXPECT_THROW((void)client.convert(false), ChannelError);
    converter.active = 1;
    converter.total = 5;
    EXPECT_THROW((void)client.convert(false), ChannelError) << "more than there is";
    converter.failure = Failure{Error::kDeviceError, "disk"};
    EXPECT_THROW((void)client.convert(true), ChannelError);
}

// Two programs at once: neither sees the other's answer.
TEST_F(MailboxClientTest, HasTheMailboxForItselfFromTheRequestToTheAnswersEnd) {
    EXPECT_EQ(client.status().cpus, 4);
    EXPECT_EQ(mailbox.rings_unlocked, 0u);
    mailbox.tamper = [](MutableBytes) { throw ChannelError("in the midst"); };
    EXPECT_THROW((void)client.status(), ChannelError);
    EXPECT_FALSE(mailbox.locked) << "nor is it kept";
}

TEST_F(MailboxClientTest, RefusesAnswersThatLieAboutTheirLength) {
    for (const std::uint32_t length : {0u, 3u, 0xffe9u, 0xffffffffu}) {
        mailbox.tamper = [&](MutableBytes memory) { store(memory.data() + 12, length, Endian::kLittle); };
        EXPECT_THROW((void)client.quote(nonce), ChannelError) << length;
        EXPECT_THROW((void)client.status(), ChannelError) << length;
    }
}

TEST_F(MailboxClientTest, EndsOnALogThatNeverEnds) {
    mailbox.tamper = [](MutableBytes memory) { store<std::uint32_t>(memory.data() + 16, 0xffffffff, Endian::kLittle); };
    EXPECT_THROW((void)client.log(), ChannelError);
}

Buffer channel_table() {
    Buffer table(60);
    Writer writer(table);
    writer.bytes(literal_bytes("GTHS"));
    writer.u32(60);
    writer.zeros(28);
    writer.u32(2);
    writer.u32(0x10000);
    writer.u64(0x3f240000);
    writer.u16(0x4748);
    return table;
}

Buffer with_checksum(Buffer table) {
    unsigned sum = 0;
    for (const std::byte byte : table) sum += std::to_integer<unsigned>(byte);
    table[9] = static_cast<std::byte>(-sum);
    return table;
}

TEST(ChannelTable, TellsWhereTheMailboxIs) {
    const ChannelPlace place = parse_channel_table(with_checksum(channel_table()));
    EXPECT_EQ(place.mailbox, 0x3f240000u);
    EXPECT_EQ(place.size, 0x10000u);
    EXPECT_EQ(place.doorbell, 0x4748);
}

TEST(ChannelTable, RefusesEveryTruncationAndDamage) {
    const Buffer good = with_checksum(channel_table());
    for (std::size_t size = 0; size < good.size(); ++size) {
        EXPECT_THROW((void)parse_channel_table(Bytes(good).first(size)), ChannelError) << size;
    }
    for (std::size_t at = 0; at < good.size(); ++at) {
        Buffer bad = good;
        bad[at] ^= std::byte{1};
        EXPECT_THROW((void)parse_channel_table(bad), ChannelError) << at;
    }
    Buffer newer = channel_table();
    newer[36] = std::byte{3};
    EXPECT_THROW((void)parse_channel_table(with_checksum(newer)), ChannelError);
    Buffer huge = channel_table();
    huge[43] = std::byte{0x80};
    EXPECT_THROW((void)parse_channel_table(with_checksum(huge)), ChannelError);
}

}  // namespace
}  // namespace gatehouse::agent
