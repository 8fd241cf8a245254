// Hostile responses: a recorded unseal and quote, played back with damage.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "keyvault/tpm/sealing.hpp"
#include "tests/unit/keyvault/provisioned_tpm.hpp"
#include "tests/unit/keyvault/scripted_transport.hpp"

namespace gatehouse::tpm {
namespace {

using test::Buffer;
using test::ProvisionedTpm;
using test::ScriptedTransport;
using test::TestRandom;

const Bytes kImage = literal_bytes("secure loader block");
const Bytes kPayload = literal_bytes("policy bundle");

// An unseal and a quote of one real TPM, as they went over the bus. The random source being deterministic,
// the same calls give the same commands again, and the recorded responses fit them.
class Recording {
  public:
    Recording() {
        machine_.launch(kImage, kPayload);
        approval_ = machine_.approve(kImage, kPayload, machine_.counter);
        unseal_ = record([&](Tpm& tpm, RandomSource& random) { return run_unseal(tpm, random).ok(); }, unseal_codes_);
        quote_ = record([&](Tpm& tpm, RandomSource& random) { return run_quote(tpm, random).ok(); }, quote_codes_);
    }

    [[nodiscard]] const std::vector<Buffer>& unseal_responses() const { return unseal_; }
    [[nodiscard]] const std::vector<Buffer>& quote_responses() const { return quote_; }
    [[nodiscard]] const Secret<32>& secret() const { return machine_.secret; }

    // What comes of a flush does not matter: everything else that the TPM says does.
    [[nodiscard]] bool flushes(const std::vector<Buffer>& responses, std::size_t at) const {
        return (&responses == &unseal_ ? unseal_codes_ : quote_codes_)[at] == TPM2_CC_FlushContext;
    }

    Result<Secret<32>> play_unseal(const std::vector<Buffer>& responses) const {
        ScriptedTransport transport;
        transport.responses.assign(responses.begin(), responses.end());
        Tpm tpm(transport);
        TestRandom random;
        return run_unseal(tpm, random);
    }
    Result<Quote> play_quote(const std::vector<Buffer>& responses) const {
        ScriptedTransport transport;
        transport.responses.assign(responses.begin(), responses.end());
        Tpm tpm(transport);
        TestRandom random;
        return run_quote(tpm, random);
    }

  private:
    Result<Secret<32>> run_unseal(Tpm& tpm, RandomSource& random) const {
        return unseal(tpm, random, machine_.request(approval_));
    }
    Result<Quote> run_quote(Tpm& tpm, RandomSource& random) const {
        return quote(tpm, random, machine_.attestation_public.bytes(), machine_.attestation_private.bytes(),
                     sha256(kImage), {HashAlgorithm::kSha384, 0x0600ff});
    }
    template <typename Run>
    std::vector<Buffer> record(const Run& run, std::vector<std::uint32_t>& codes) {
        machine_.device.traffic.clear();
        Tpm tpm(machine_.device);
        TestRandom random;
        if (!run(tpm, random)) throw std::runtime_error("recording failed");
        std::vector<Buffer> responses;
        for (std::size_t i = 1; i < machine_.device.traffic.size(); i += 2) {
            responses.push_back(machine_.device.traffic[i]);
            codes.push_back(load<std::uint32_t>(machine_.device.traffic[i - 1].data() + 6, Endian::kBig));
        }
        return responses;
    }

    ProvisionedTpm machine_;
    Approval approval_;
    std::vector<Buffer> unseal_;
    std::vector<Buffer> quote_;
    std::vector<std::uint32_t> unseal_codes_;
    std::vector<std::uint32_t> quote_codes_;
};

class HostileResponse : public ::testing::Test {
  protected:
    // Plays both conversations with response `at` replaced by what `damage` makes of it.
    template <typename Damage>
    void play(const Damage& damage, bool must_fail) {
        const auto secret_of = [&](const std::vector<Buffer>& responses, const std::string& what) {
            const auto secret = recording().play_unseal(responses);
            if (must_fail) {
                EXPECT_FALSE(secret.ok()) << what;
            }
            EXPECT_TRUE(!secret.ok() || secret->equals(recording().secret().bytes())) << what;
        };
        for (std::size_t at = 0; at < recording().unseal_responses().size(); ++at) {
            if (recording().flushes(recording().unseal_responses(), at)) continue;
            std::vector<Buffer> responses = recording().unseal_responses();
            damage(responses[at]);
            secret_of(responses, "unseal, response " + std::to_string(at));
        }
        for (std::size_t at = 0; at < recording().quote_responses().size(); ++at) {
            if (recording().flushes(recording().quote_responses(), at)) continue;
            std::vector<Buffer> responses = recording().quote_responses();
            damage(responses[at]);
            const auto quote = recording().play_quote(responses);
            if (must_fail) {
                EXPECT_FALSE(quote.ok()) << "quote, response " << at;
            }
        }
    }
    [[nodiscard]] std::size_t longest() const {
        std::size_t size = 0;
        for (const auto& response : recording().unseal_responses()) size = std::max(size, response.size());
        for (const auto& response : recording().quote_responses()) size = std::max(size, response.size());
        return size;
    }

    static const Recording& recording() {
        static const Recording once;
        return once;
    }
};

void set_size(Buffer& response) {
    if (response.size() >= 6) store(response.data() + 2, static_cast<std::uint32_t>(response.size()), Endian::kBig);
}

TEST_F(HostileResponse, RecordingPlaysBackUndamaged) {
    const auto secret = recording().play_unseal(recording().unseal_responses());
    ASSERT_TRUE(secret.ok()) << secret.failure().item;
    EXPECT_TRUE(secret.value().equals(recording().secret().bytes()));
    EXPECT_TRUE(recording().play_quote(recording().quote_responses()).ok());
}

TEST_F(HostileResponse, RefusedWhenTruncatedAnywhere) {
    for (std::size_t cut = 1; cut <= longest(); ++cut) {
        const auto truncate = [cut](Buffer& response) {
            response.resize(response.size() - std::min(cut, response.size()));
        };
        play(truncate, true);
        // With a size field that goes along with it.
        play([&](Buffer& response) { truncate(response), set_size(response); }, true);
    }
}

TEST_F(HostileResponse, RefusedWithTrailingBytes) {
    for (const std::size_t extra : {1u, 2u, 10u, 1000u}) {
        play([extra](Buffer& response) { response.resize(response.size() + extra); }, true);
        play([extra](Buffer& response) { response.resize(response.size() + extra), set_size(response); }, true);
    }
}

TEST_F(HostileResponse, RefusedWhenLongerThanTheBuffer) {
    for (const std::size_t size : {Tpm::kBufferSize + 1, std::size_t{65536}}) {
        play([size](Buffer& response) { response.resize(size), set_size(response); }, true);
    }
}

TEST_F(HostileResponse, NeverYieldsAWrongSecretWhateverBitChanges) {
    for (std::size_t at = 0; at < longest(); ++at) {
        for (const std::byte bit : {std::byte{0x01}, std::byte{0x80}}) {
            play(
                [&](Buffer& response) {
                    if (at < response.size()) response[at] ^= bit;
                },
                false);
        }
    }
}

TEST_F(HostileResponse, RefusedWithLengthFieldsOfEverySize) {
    // Each pair of bytes in turn becomes a huge length.
    for (std::size_t at = 0; at + 1 < longest(); ++at) {
        play(
            [at](Buffer& response) {
                if (at + 1 >= response.size()) return;
                response[at] = std::byte{0xff};
                response[at + 1] = std::byte{0xff};
            },
            false);
    }
}

TEST_F(HostileResponse, RefusedWhenItIsNoise) {
    std::mt19937 generator(4711);
    for (int round = 0; round < 200; ++round) {
        play(
            [&](Buffer& response) {
                response.resize(generator() % 600);
                for (std::byte& byte : response) byte = static_cast<std::byte>(generator());
            },
            true);
        // Noise with a right frame gets past the header.
        play(
            [&](Buffer& response) {
                const std::uint16_t tag = load<std::uint16_t>(response.data(), Endian::kBig);
                Buffer noise(1 + generator() % 600);
                for (std::byte& byte : noise) byte = static_cast<std::byte>(generator());
                response = ScriptedTransport::framed(tag, 0, noise);
            },
            true);
    }
}

TEST_F(HostileResponse, ResponsesOfOtherCommandsAreRefused) {
    for (const Buffer& other : recording().quote_responses()) {
        play(
            [&](Buffer& response) {
                if (response.size() != other.size())
                    response = other;
                else
                    response.clear();
            },
            true);
    }
}

// The answer of a plain session: nonce, the attributes that were sent, and no HMAC.
TEST_F(HostileResponse, PlainSessionAnswersWithItsAttributesAndNoHmac) {
    const auto& good = recording().quote_responses();
    const std::size_t at = good.size() - 3;  // then the session and the key are flushed
    const std::size_t size = good[at].size();
    std::vector<Buffer> responses = good;
    responses[at][size - 3] ^= std::byte{TPMA_SESSION_AUDIT};
    EXPECT_EQ(recording().play_quote(responses).error(), Error::kBadValue);
    responses = good;
    responses[at][size - 1] = std::byte{32};
    responses[at].resize(size + 32);
    set_size(responses[at]);
    EXPECT_EQ(recording().play_quote(responses).error(), Error::kBadLength);
}

// --- The frame itself
// ------------------------------------------------------------------------------------------------

class Frame : public ::testing::Test {
  protected:
    ScriptedTransport transport_;
    Tpm tpm_{transport_};
    std::array<std::byte, 4> out_{};
    const Buffer random_ = test::bytes_of(0, 4, 1, 2, 3, 4);
};

TEST_F(Frame, ReportsTheCommandAndTheResponseCode) {
    transport_.responses = {ScriptedTransport::error_response(TPM2_RC_FAILURE)};
    const Status status = tpm_.get_random(out_);
    EXPECT_EQ(status.error(), Error::kTpmError);
    EXPECT_EQ(status.failure().item, std::string_view("TPM2_GetRandom"));
    EXPECT_EQ(status.failure().detail, static_cast<std::uint64_t>(TPM2_RC_FAILURE));
}

TEST_F(Frame, RetriesWhatTheTpmAsksToRetry) {
    for (const TPM2_RC code : {TPM2_RC_RETRY, TPM2_RC_YIELDED, TPM2_RC_TESTING, TPM2_RC_NV_RATE}) {
        transport_.responses.push_back(ScriptedTransport::error_response(code));
    }
    transport_.responses.push_back(ScriptedTransport::framed(TPM2_ST_NO_SESSIONS, 0, random_));
    EXPECT_TRUE(tpm_.get_random(out_).ok());
    EXPECT_EQ(transport_.pauses, 4u);
    ASSERT_EQ(transport_.commands.size(), 5u);
    EXPECT_EQ(transport_.commands.front(), transport_.commands.back()) << "the very same command is sent again";
}

TEST_F(Frame, GivesUpRetryingAfterABoundedNumberOfAttempts) {
    transport_.responses.assign(10'000, ScriptedTransport::error_response(TPM2_RC_RETRY));
    EXPECT_EQ(tpm_.get_random(out_).failure().detail, static_cast<std::uint64_t>(TPM2_RC_RETRY));
    EXPECT_EQ(transport_.commands.size(), Tpm::kMaximumAttempts);
}

TEST_F(Frame, RefusesAWrongTag) {
    for (const unsigned tag : {0x0000u, 0x00c4u, 0x8002u, 0xffffu}) {
        transport_.responses = {ScriptedTransport::framed(static_cast<std::uint16_t>(tag), 0, random_)};
        EXPECT_EQ(tpm_.get_random(out_).error(), Error::kBadValue) << tag;
    }
}

TEST_F(Frame, RefusesAnErrorWithABody) {
    transport_.responses = {ScriptedTransport::framed(TPM2_ST_NO_SESSIONS, TPM2_RC_FAILURE, random_)};
    EXPECT_EQ(tpm_.get_random(out_).error(), Error::kBadValue);
}

TEST_F(Frame, RefusesMoreOrLessRandomThanAskedFor) {
    for (const auto& body : {test::bytes_of(0, 0), test::bytes_of(0, 5, 1, 2, 3, 4, 5)}) {
        transport_.responses = {ScriptedTransport::framed(TPM2_ST_NO_SESSIONS, 0, body)};
        EXPECT_EQ(tpm_.get_random(out_).error(), Error::kBadLength);
    }
}

TEST_F(Frame, RefusesAPasswordSessionThatAnswersWithANonce) {
    const Buffer no_parameters(4);
    const auto with = [&](Buffer authorization) {
        transport_.responses = {
            ScriptedTransport::framed(TPM2_ST_SESSIONS, 0, test::operator+(no_parameters, authorization))};
        return tpm_.pcr_extend(17, {});
    };
    EXPECT_TRUE(with(test::bytes_of(0, 0, 1, 0, 0)).ok());
    EXPECT_FALSE(with(test::bytes_of(0, 1, 9, 1, 0, 0)).ok());
    EXPECT_FALSE(with(test::bytes_of(0, 0, 1, 0, 1, 9)).ok());
    EXPECT_FALSE(with(test::bytes_of(0, 0, 1, 0, 0, 0)).ok());
    EXPECT_FALSE(with(test::bytes_of(0, 0, 1, 0)).ok());
    EXPECT_FALSE(with({}).ok());
}

// --- Capabilities
// ------------------------------------------------------------------------------------------------------

class Capabilities : public Frame {
  protected:
    void answer(const Buffer& body) {
        transport_.responses = {ScriptedTransport::framed(TPM2_ST_NO_SESSIONS, 0, body)};
    }
    // more data, TPM2_CAP_PCRS, number of banks
    static Buffer banks(unsigned more, unsigned count) {
        return test::bytes_of(more, 0, 0, 0, 5, 0, 0, count >> 8, count);
    }
    const Buffer sha256_bank_ = test::bytes_of(0x00, 0x0b, 3, 0xff, 0xff, 0xff);
};

TEST_F(Capabilities, ListsTheActiveBanksIncludingUnknownOnes) {
    using test::operator+;
    answer(banks(0, 3) + sha256_bank_ + test::bytes_of(0x00, 0x04, 3, 0, 0, 0) +
           test::bytes_of(0x12, 0x34, 4, 0, 0, 6, 0x80));
    const auto list = tpm_.active_banks();
    ASSERT_TRUE(list.ok());
    ASSERT_EQ(list->count, 2u) << "SHA-1 has no PCRs and is not active";
    EXPECT_EQ(list->banks()[0], HashAlgorithm::kSha256);
    EXPECT_EQ(list->banks()[1], static_cast<HashAlgorithm>(0x1234));
}

TEST_F(Capabilities, RefusesAListOfBanksThatCouldHideOne) {
    using test::operator+;
    answer(banks(1, 1) + sha256_bank_);
    EXPECT_EQ(tpm_.active_banks().error(), Error::kBadValue) << "more data than shown";
    Buffer nine = banks(0, 9);
    for (int i = 0; i < 9; ++i) nine = nine + sha256_bank_;
    answer(nine);
    EXPECT_EQ(tpm_.active_banks().error(), Error::kNoSpace);
    answer(banks(0, 2) + sha256_bank_);
    EXPECT_EQ(tpm_.active_banks().error(), Error::kTruncated);
    answer(banks(0, 0) + sha256_bank_);
    EXPECT_EQ(tpm_.active_banks().error(), Error::kTrailingBytes);
    answer(test::bytes_of(0, 0, 0, 0, 6, 0, 0, 0, 1) + sha256_bank_);
    EXPECT_EQ(tpm_.active_banks().error(), Error::kBadValue) << "another capability";
    answer(test::bytes_of(0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff) + sha256_bank_);
    EXPECT_EQ(tpm_.active_banks().error(), Error::kTruncated) << "in bounded time";
}

// --- What a response must say
// ------------------------------------------------------------------------------------------

class Answers : public Frame {
  protected:
    static Buffer sized(Bytes bytes) {
        Buffer out(2);
        store(out.data(), static_cast<std::uint16_t>(bytes.size()), Endian::kBig);
        return test::operator+(out, bytes);
    }
    void answer(const Buffer& body) {
        transport_.responses = {ScriptedTransport::framed(TPM2_ST_NO_SESSIONS, 0, body)};
    }
    // With the frame of a password session, and a handle if there is one.
    void answer_authorized(const Buffer& handle, const Buffer& parameters) {
        using test::operator+;
        Buffer size(4);
        store(size.data(), static_cast<std::uint32_t>(parameters.size()), Endian::kBig);
        transport_.responses = {
            ScriptedTransport::framed(TPM2_ST_SESSIONS, 0, handle + size + parameters + test::bytes_of(0, 0, 1, 0, 0))};
    }
    static Name wrong(Name name) {
        name[33] ^= std::byte{1};
        return name;
    }
    // Whether the command sent last flushes `handle`.
    bool last_flushes(const Buffer& handle) {
        const Buffer& last = transport_.commands.back();
        return load<std::uint32_t>(last.data() + 6, Endian::kBig) == TPM2_CC_FlushContext &&
               equal_bytes(Bytes(last).last(4), handle);
    }

    const Buffer handle_ = test::bytes_of(0x80, 0, 0, 1);
    const PublicArea area_ = storage_root_key_template();
    const Name name_ = name_of(area_.bytes());
};

TEST_F(Answers, PublicAreaIsNotLongerThanAnyKeys) {
    using test::operator+;
    answer(sized(area_.bytes()) + sized(name_) + sized(name_));
    const auto found = tpm_.read_public(kStorageRootKey);
    ASSERT_TRUE(found.ok());
    EXPECT_TRUE(equal_bytes(found->bytes(), area_.bytes()));
    answer(sized(Buffer(513)) + sized(name_) + sized(name_));
    EXPECT_EQ(tpm_.read_public(kStorageRootKey).error(), Error::kBadLength);
}

TEST_F(Answers, LoadedObjectHasTheNameOfWhatWasSentElseItIsFlushed) {
    answer_authorized(handle_, sized(name_));
    EXPECT_EQ(tpm_.load(kStorageRootKey, {}, area_.bytes())->handle(), 0x80000001u);
    EXPECT_TRUE(last_flushes(handle_));
    answer_authorized(handle_, sized(wrong(name_)));
    EXPECT_EQ(tpm_.load(kStorageRootKey, {}, area_.bytes()).error(), Error::kMismatch);
    EXPECT_TRUE(last_flushes(handle_));

    using test::operator+;
    answer(handle_ + sized(name_));
    EXPECT_EQ(tpm_.load_external(area_.bytes())->handle(), 0x80000001u);
    EXPECT_TRUE(last_flushes(handle_));
    answer(handle_ + sized(wrong(name_)));
    EXPECT_EQ(tpm_.load_external(area_.bytes()).error(), Error::kMismatch);
    EXPECT_TRUE(last_flushes(handle_));
}

TEST_F(Answers, PcrIsTheOneThatWasAskedFor) {
    using test::operator+;
    const auto pcr = [&](unsigned bank, unsigned bitmap, unsigned count) {
        answer(test::bytes_of(0, 0, 0, 9, 0, 0, 0, 1, 0, bank, 3, 0, 0, bitmap, 0, 0, 0, count) +
               sized(Sha256Digest{}));
        return tpm_.pcr_read(HashAlgorithm::kSha256, 17);
    };
    EXPECT_TRUE(pcr(0x0b, 2, 1).ok());
    EXPECT_EQ(pcr(0x0b, 4, 1).error(), Error::kMismatch) << "PCR 18";
    EXPECT_EQ(pcr(0x0c, 2, 1).error(), Error::kMismatch) << "SHA-384";
    EXPECT_EQ(pcr(0x0b, 2, 2).error(), Error::kMismatch) << "two digests";
    answer(test::bytes_of(0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0));
    EXPECT_FALSE(tpm_.pcr_read(HashAlgorithm::kSha256, 17).ok()) << "none: the bank is not active";
    answer(test::bytes_of(0, 0, 0, 9, 0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 2, 0, 0, 0, 1) + sized(Buffer(20)));
    EXPECT_EQ(tpm_.pcr_read(HashAlgorithm::kSha256, 17).error(), Error::kBadLength) << "a shorter digest";
}

TEST_F(Answers, TicketIsOfAVerifiedSignature) {
    using test::operator+;
    const Buffer rest = test::bytes_of(0x40, 0, 0, 1) + sized(Sha256Digest{});
    answer(test::bytes_of(0x80, 0x22) + rest);
    EXPECT_TRUE(tpm_.verify_signature(1, {}, {}).ok());
    answer(test::bytes_of(0x80, 0x21) + rest);
    EXPECT_EQ(tpm_.verify_signature(1, {}, {}).error(), Error::kBadValue);
    answer(test::bytes_of(0x80, 0x22, 0x40, 0, 0, 1) + sized(Buffer(100)));
    EXPECT_EQ(tpm_.verify_signature(1, {}, {}).error(), Error::kBadLength) << "longer than any digest";
}

TEST_F(Answers, SessionNonceHasTheSizeThatWasAskedFor) {
    using test::operator+;
    TestRandom random;
    const Buffer session = test::bytes_of(3, 0, 0, 1);
    for (const std::size_t size : {0u, 16u, 31u, 33u, 64u}) {
        answer(session + sized(Buffer(size)));
        EXPECT_EQ(PolicySession::start(tpm_, random).error(), Error::kBadLength) << size;
        EXPECT_TRUE(last_flushes(session)) << "the session is not left open";
    }
    answer(session + sized(Buffer(32)));
    EXPECT_TRUE(PolicySession::start(tpm_, random).ok());
    EXPECT_TRUE(last_flushes(session));
}

TEST(CapabilitiesOfSwtpm, AreRead) {
    test::SoftwareTpm device;
    Tpm tpm(device);
    const auto banks = tpm.active_banks();
    ASSERT_TRUE(banks.ok());
    ASSERT_GE(banks->count, 1u);
    std::array<std::byte, 100> first{};
    std::array<std::byte, 100> second{};
    EXPECT_TRUE(tpm.get_random(first).ok());
    EXPECT_TRUE(tpm.get_random(second).ok());
    EXPECT_NE(first, second);
}

TEST(PcrsOfSwtpm, AreExtendedInEveryBankByOneCommand) {
    test::SoftwareTpm device;
    Tpm tpm(device);
    device.dynamic_launch(kImage);
    device.set_locality(2);
    const auto banks = tpm.active_banks();
    ASSERT_TRUE(banks.ok());
    std::vector<Digest> digests;
    for (const HashAlgorithm bank : banks->banks()) digests.push_back(hash(bank, kPayload));
    device.traffic.clear();
    ASSERT_TRUE(tpm.pcr_extend(18, digests).ok());
    EXPECT_EQ(device.traffic.size(), 2u);
    for (const HashAlgorithm bank : banks->banks()) {
        const Buffer zeros(digest_size(bank));
        const Digest expected = Hash(bank).update(zeros).update(hash(bank, kPayload).bytes()).finish();
        const auto found = tpm.pcr_read(bank, 18);
        ASSERT_TRUE(found.ok());
        EXPECT_TRUE(equal_bytes(found->bytes(), expected.bytes()));
    }
    EXPECT_FALSE(tpm.pcr_read(HashAlgorithm::kSm3_256, 18).ok());
}

TEST(PcrsOfSwtpm, ShowWhetherThereWasADynamicLaunch) {
    test::SoftwareTpm device;
    Tpm tpm(device);
    EXPECT_TRUE(pcr_is_reset_value(tpm.pcr_read(HashAlgorithm::kSha256, 17)->bytes())) << "all ones";
    device.dynamic_launch(kImage);
    EXPECT_FALSE(pcr_is_reset_value(tpm.pcr_read(HashAlgorithm::kSha256, 17)->bytes()));
    EXPECT_TRUE(pcr_is_reset_value(tpm.pcr_read(HashAlgorithm::kSha256, 18)->bytes())) << "all zeros";
}

}  // namespace
}  // namespace gatehouse::tpm
