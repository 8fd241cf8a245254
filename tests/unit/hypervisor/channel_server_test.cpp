#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "attestation/evidence_reader/claims_reader.hpp"
#include "hypervisor/channel/server.hpp"

namespace gatehouse::channel {
namespace {

// Big-endian, 16 bits.
std::array<std::byte, 2> length_of(Bytes bytes) {
    return {static_cast<std::byte>(bytes.size() >> 8), static_cast<std::byte>(bytes.size())};
}

class FakeConverter final : public Converter {
  public:
    Result<std::size_t> convert(std::uint32_t windows, MutableBytes out) override {
        asked.push_back(windows);
        if (failure) return *failure;
        copy_bytes(out, literal_bytes("answer"));
        return literal_bytes("answer").size();
    }
    std::vector<std::uint32_t> asked;
    std::optional<Failure> failure;
};

class FakeSource final : public Source {
  public:
    evidence::Claims claims() override { return {.cpus = 3}; }
    Bytes log_text() override { return log; }
    Bytes event_log() override { return literal_bytes("events"); }
    Result<Quote> quote(const Sha256Digest& qualifying_data) override {
        if (failure) return *failure;
        quoted = qualifying_data;
        return Quote{literal_bytes("attest"), literal_bytes("signature"), literal_bytes("key")};
    }
    Result<std::size_t> endorsement(std::uint32_t handle, MutableBytes out) override {
        if (failure) return *failure;
        asked = handle;
        copy_bytes(out, answer);
        room = out.size();
        return answer.size();
    }
    Result<std::size_t> activate(std::uint32_t handle, Bytes credential, Bytes secret, MutableBytes out) override {
        given = {std::vector(credential.begin(), credential.end()), std::vector(secret.begin(), secret.end())};
        return endorsement(handle, out);
    }
    std::optional<std::uint32_t> asked;
    std::pair<std::vector<std::byte>, std::vector<std::byte>> given;
    std::vector<std::byte> answer = std::vector<std::byte>(30, std::byte{0x42});
    std::size_t room = 0;
    std::vector<std::byte> log = std::vector<std::byte>(100000, std::byte{'x'});
    std::optional<Failure> failure;
    std::optional<Sha256Digest> quoted;
};

struct Header {
    std::uint32_t magic;
    std::uint16_t version;
    std::uint16_t command;
    std::uint32_t status;
    std::uint32_t length;
    std::uint32_t total;
};

class Mailbox : public testing::Test {
  protected:
    Header call(std::uint16_t command, Bytes payload, std::optional<std::uint32_t> length = {},
                std::uint16_t version = kMailboxVersion, std::uint32_t magic = kMailboxMagic) {
        Writer writer(memory);
        writer.u32(magic);
        writer.u16(version);
        writer.u16(command);
        writer.u32(0xdeadbeef);
        writer.u32(length.value_or(static_cast<std::uint32_t>(payload.size())));
        writer.u64(0);
        writer.bytes(payload);
        serve(source, memory);
        Reader reader(memory);
        return {reader.u32(), reader.u16(), reader.u16(), reader.u32(), reader.u32(), reader.u32()};
    }
    Header call(Command command, Bytes payload, std::optional<std::uint32_t> length = {}) {
        return call(static_cast<std::uint16_t>(command), payload, length);
    }
    static std::array<std::byte, 4> handle_bytes(std::uint32_t handle) {
        std::array<std::byte, 4> bytes{};
        store(bytes.data(), handle, Endian::kLittle);
        return bytes;
    }
    static std::vector<std::byte> activation(std::uint32_t handle, Bytes credential, Bytes secret) {
        std::vector<std::byte> bytes(8 + credential.size() + secret.size());
        Writer writer(bytes);
        writer.u32(handle);
        writer.sized(credential);
        writer.sized(secret);
        return bytes;
    }
    Bytes payload(const Header& header) { return Bytes(memory).subspan(kMailboxHeaderSize, header.length); }
    static std::uint32_t code(MailboxStatus status) { return static_cast<std::uint32_t>(status); }

    FakeSource source;
    std::vector<std::byte> memory = std::vector<std::byte>(0x10000);
};

TEST_F(Mailbox, QuotesTheHashOfNonceAndClaims) {
    const std::vector<std::byte> nonce(20, std::byte{7});
    const Header header = call(Command::kQuote, nonce);
    ASSERT_EQ(header.status, code(MailboxStatus::kOk));
    Reader reader(payload(header));
    const Bytes claims = reader.sized();
    EXPECT_EQ(source.quoted,
              sha256({literal_bytes("gatehouse quote v3"), length_of(nonce), nonce, length_of(claims), claims}));
    EXPECT_EQ(evidence::decode_claims(claims)->cpus, 3);
    EXPECT_TRUE(equal_bytes(reader.sized(), literal_bytes("attest")));
    EXPECT_TRUE(equal_bytes(reader.sized(), literal_bytes("signature")));
    EXPECT_TRUE(equal_bytes(reader.sized(), literal_bytes("key")));
    EXPECT_TRUE(reader.finished("answer").ok());
}

TEST_F(Mailbox, RefusesNoncesOutOfRange) {
    const std::vector<std::byte> bytes(200, std::byte{7});
    for (const std::uint32_t length : {0u, 15u, 65u, 0x10000u, 0xffffffffu}) {
        EXPECT_EQ(call(Command::kQuote, bytes, length).status, code(MailboxStatus::kBadRequest)) << length;
    }
    EXPECT_FALSE(source.quoted);
}

TEST_F(Mailbox, ReadsALongLogInParts) {
    std::vector<std::byte> log;
    for (int guard = 0; guard < 10; ++guard) {
        std::array<std::byte, 4> offset{};
        store(offset.data(), static_cast<std::uint32_t>(log.size()), Endian::kLittle);
        const Header header = call(Command::kLog, offset);
        ASSERT_EQ(header.status, code(MailboxStatus::kOk));
        EXPECT_EQ(header.total, 100000u);
        if (header.length == 0) break;
        const Bytes part = payload(header);
        log.insert(log.end(), part.begin(), part.end());
    }
    EXPECT_EQ(log, source.log);
}

TEST_F(Mailbox, RefusesAnOffsetBeyondTheEnd) {
    std::array<std::byte, 4> offset{};
    store<std::uint32_t>(offset.data(), 7, Endian::kLittle);
    EXPECT_EQ(call(Command::kEventLog, offset).status, code(MailboxStatus::kBadRequest));
    store<std::uint32_t>(offset.data(), 0xffffffff, Endian::kLittle);
    EXPECT_EQ(call(Command::kEventLog, offset).status, code(MailboxStatus::kBadRequest));
}

TEST_F(Mailbox, RefusesForeignMagicVersionAndCommand) {
    EXPECT_EQ(call(1, {}, {}, kMailboxVersion, 0).status, code(MailboxStatus::kBadRequest));
    EXPECT_EQ(call(1, {}, {}, 2).status, code(MailboxStatus::kBadVersion));
    EXPECT_EQ(call(0, {}).status, code(MailboxStatus::kBadCommand));
    EXPECT_EQ(call(99, {}).status, code(MailboxStatus::kBadCommand));
}

TEST_F(Mailbox, ReadsAnEndorsementByItsHandle) {
    source.answer.assign(kMaxEndorsement, std::byte{0x30});
    const Header header = call(Command::kEndorsement, handle_bytes(0x01c00002));
    ASSERT_EQ(header.status, code(MailboxStatus::kOk));
    EXPECT_EQ(source.asked, 0x01c00002u);
    EXPECT_TRUE(equal_bytes(payload(header), source.answer));
    EXPECT_EQ(header.total, kMaxEndorsement);
    EXPECT_EQ(source.room, kMaxEndorsement);
}

TEST_F(Mailbox, EndorsementTakesOneHandleAndNothingElse) {
    const std::vector<std::byte> bytes(2000, std::byte{1});
    for (const std::uint32_t length : {0u, 3u, 5u, 1024u, 1025u, 0xffffffffu}) {
        EXPECT_EQ(call(Command::kEndorsement, bytes, length).status, code(MailboxStatus::kBadRequest)) << length;
    }
    EXPECT_FALSE(source.asked);
}

TEST_F(Mailbox, ActivatesWithTheKeyAndBlobsOfTheRequest) {
    const std::vector<std::byte> credential(70, std::byte{1}), secret(384, std::byte{2});
    const Header header = call(Command::kActivate, activation(0x81010016, credential, secret));
    ASSERT_EQ(header.status, code(MailboxStatus::kOk));
    EXPECT_EQ(source.asked, 0x81010016u);
    EXPECT_EQ(source.given, std::pair(credential, secret));
    EXPECT_TRUE(equal_bytes(payload(header), source.answer));
    EXPECT_EQ(source.room, kMaxActivated);
}

TEST_F(Mailbox, RefusesAnActivationWhoseLengthsContradictEachOther) {
    const std::vector<std::byte> blob(100, std::byte{1});
    const std::vector<std::byte> good = activation(0x81010001, blob, blob);
    for (const std::size_t length :
         {std::size_t{0}, std::size_t{4}, std::size_t{6}, good.size() - 1, good.size() + 1}) {
        EXPECT_EQ(call(Command::kActivate, good, static_cast<std::uint32_t>(length)).status,
                  code(MailboxStatus::kBadRequest))
            << length;
    }
    std::vector<std::byte> wrong = good;
    store<std::uint16_t>(wrong.data() + 4, 0xffff, Endian::kLittle);
    EXPECT_EQ(call(Command::kActivate, wrong).status, code(MailboxStatus::kBadRequest));
    const std::vector<std::byte> large(kMaxRequest, std::byte{1});
    EXPECT_EQ(call(Command::kActivate, activation(0x81010001, large, {})).status, code(MailboxStatus::kBadRequest));
    EXPECT_FALSE(source.asked);
}

TEST_F(Mailbox, TellsAForbiddenHandleFromOneThatIsNotThere) {
    source.failure = Failure{Error::kOutOfRange, "handle"};
    EXPECT_EQ(call(Command::kEndorsement, handle_bytes(0x81000001)).status, code(MailboxStatus::kBadRequest));
    for (const Error error : {Error::kNotFound, Error::kRefused, Error::kState}) {
        source.failure = Failure{error, "handle"};
        EXPECT_EQ(call(Command::kEndorsement, handle_bytes(1)).status, code(MailboxStatus::kUnavailable));
    }
    source.failure = Failure{Error::kTpmError, "TPM2_ActivateCredential", 0x1df};
    EXPECT_EQ(call(Command::kActivate, activation(1, {}, {})).status, code(MailboxStatus::kTpmFailed));
}

TEST_F(Mailbox, TellsAMissingKeyFromAFailingTpm) {
    const std::vector<std::byte> nonce(32);
    source.failure = Failure{Error::kState, "no key"};
    EXPECT_EQ(call(Command::kQuote, nonce).status, code(MailboxStatus::kUnavailable));
    source.failure = Failure{Error::kTpmError, "TPM2_Quote", 0x922};
    EXPECT_EQ(call(Command::kQuote, nonce).status, code(MailboxStatus::kTpmFailed));
}

TEST_F(Mailbox, ConvertsAWindowOrNone) {
    const auto ask = [&](Bytes payload) { return static_cast<MailboxStatus>(call(7, payload).status); };
    const auto windows = [](std::uint32_t number) { return encoded(number, Endian::kLittle); };
    EXPECT_EQ(ask(windows(1)), MailboxStatus::kUnavailable) << "nobody does it";
    FakeConverter converter;
    source.converter = &converter;
    const auto one = windows(1);
    for (const Bytes bad : {Bytes(), Bytes(one).first(3), Bytes(literal_bytes("\1\0\0\0\0"))}) {
        EXPECT_EQ(ask(bad), MailboxStatus::kBadRequest) << bad.size();
    }
    EXPECT_EQ(ask(windows(2)), MailboxStatus::kBadRequest);
    EXPECT_TRUE(converter.asked.empty());
    EXPECT_EQ(call(7, windows(1)).length, 6u);
    EXPECT_EQ(ask(windows(0)), MailboxStatus::kOk);
    EXPECT_EQ(converter.asked, (std::vector<std::uint32_t>{1, 0}));
    converter.failure = Failure{Error::kDeviceError, "disk"};
    EXPECT_EQ(ask(windows(1)), MailboxStatus::kTpmFailed);
    converter.failure = Failure{Error::kState, "nothing"};
    EXPECT_EQ(ask(windows(1)), MailboxStatus::kUnavailable);
}

}  // namespace
}  // namespace gatehouse::channel
