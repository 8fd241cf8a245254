// The guest's program against the hypervisor's server, and against hostile answers.
#include "attestation/agent/mailbox_client.hpp"

#include <gtest/gtest.h>

#include <functional>

#include "hypervisor/channel/server.hpp"

namespace gatehouse::agent {
namespace {

class FakeSource final : public channel::Source {
  public:
    evidence::Claims claims() override { return {.cpus = 4}; }
    Bytes log_text() override { return log; }
    Bytes event_log() override { return literal_bytes("event log"); }
    Result<Quote> quote(const Sha256Digest&) override {
        if (!has_key) return {Error::kState, "no key"};
        return Quote{literal_bytes("attest"), literal_bytes("signature"), literal_bytes("key")};
    }
    Buffer log = Buffer(150000, std::byte{'l'});
    bool has_key = true;
};

class ServedMailbox final : public MailboxPort {
  public:
    MutableBytes memory() override { return memory_; }
    void ring() override {
        if (present) channel::serve(source, memory_);
        if (tamper) tamper(memory_);
    }
    FakeSource source;
    bool present = true;
    std::function<void(MutableBytes)> tamper;

  private:
    Buffer memory_ = Buffer(0x10000);
};

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
    writer.u32(1);
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
    newer[36] = std::byte{2};
    EXPECT_THROW((void)parse_channel_table(with_checksum(newer)), ChannelError);
    Buffer huge = channel_table();
    huge[43] = std::byte{0x80};
    EXPECT_THROW((void)parse_channel_table(with_checksum(huge)), ChannelError);
}

}  // namespace
}  // namespace gatehouse::agent
