#include "attestation/agent/mailbox_client.hpp"

#include <algorithm>
#include <mutex>
#include <numeric>

#include "attestation/evidence_reader/claims_reader.hpp"

namespace gatehouse::agent {
namespace {

using channel::Command;
using channel::MailboxStatus;

std::string describe(MailboxStatus status) {
    switch (status) {
        case MailboxStatus::kOk: return "done";
        case MailboxStatus::kBadRequest: return "the hypervisor calls the request malformed";
        case MailboxStatus::kBadVersion: return "the hypervisor speaks another version of the channel";
        case MailboxStatus::kBadCommand: return "the hypervisor does not know this command";
        case MailboxStatus::kUnavailable: return "this boot has no TPM, no attestation key, or not this item";
        case MailboxStatus::kTpmFailed: return "the TPM failed; `gatehouse-channel log` says more";
    }
    return "unknown status " + std::to_string(static_cast<std::uint32_t>(status));
}

Buffer to_buffer(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

}  // namespace

ChannelPlace parse_channel_table(Bytes table) {
    constexpr std::size_t kHeader = 36, kBody = 24;
    if (table.size() < kHeader + kBody || !equal_bytes(table.first(4), literal_bytes("GTHS"))) {
        throw ChannelError("ACPI table GTHS: not a channel table");
    }
    const unsigned sum = std::accumulate(table.begin(), table.end(), 0u, [](unsigned total, std::byte byte) {
        return total + std::to_integer<unsigned>(byte);
    });
    if (load<std::uint32_t>(table.data() + 4, Endian::kLittle) != table.size() || sum % 256 != 0) {
        throw ChannelError("ACPI table GTHS: wrong length or checksum");
    }
    Reader reader(table.subspan(kHeader));
    if (const std::uint32_t version = reader.u32(); version != 2) {
        throw ChannelError("ACPI table GTHS: version " + std::to_string(version) + ", this program reads version 2");
    }
    ChannelPlace place;
    place.size = reader.u32();
    place.mailbox = reader.u64();
    place.doorbell = reader.u16();
    constexpr std::uint32_t kLargest = 1u << 24;
    if (place.size < 0x1000 || place.size > kLargest || place.mailbox % 0x1000 != 0) {
        throw ChannelError("ACPI table GTHS: the mailbox is out of its bounds");
    }
    return place;
}

MailboxClient::Answer MailboxClient::ask(Command command, Bytes payload) {
    const std::lock_guard alone(port_);
    const MutableBytes memory = port_.memory();
    Writer writer(memory);
    writer.u32(channel::kMailboxMagic);
    writer.u16(channel::kMailboxVersion);
    writer.u16(static_cast<std::uint16_t>(command));
    writer.u32(0xffffffff);  // no status: an answer has one
    writer.u32(static_cast<std::uint32_t>(payload.size()));
    writer.u64(0);
    writer.bytes(payload);
    if (writer.failed()) throw ChannelError("the request does not fit the mailbox");
    port_.ring();

    Reader reader(memory);
    const std::uint32_t magic = reader.u32();
    const std::uint16_t version = reader.u16();
    const std::uint16_t answered = reader.u16();
    const std::uint32_t status = reader.u32();
    const std::uint32_t length = reader.u32();
    Answer answer;
    answer.total = reader.u32();
    reader.skip(4);
    if (status == 0xffffffff) throw ChannelError("no hypervisor answers: this guest does not run under Gatehouse");
    if (magic != channel::kMailboxMagic || version != channel::kMailboxVersion ||
        answered != static_cast<std::uint16_t>(command)) {
        throw ChannelError("the answer is of another request or version");
    }
    answer.status = static_cast<MailboxStatus>(status);
    if (answer.status != MailboxStatus::kOk) return answer;
    answer.payload = to_buffer(reader.bytes(length));
    if (reader.failed()) throw ChannelError("the answer is longer than the mailbox");
    return answer;
}

MailboxClient::Answer MailboxClient::call(Command command, Bytes payload) {
    Answer answer = ask(command, payload);
    if (answer.status != MailboxStatus::kOk) throw ChannelError(describe(answer.status));
    return answer;
}

evidence::Claims MailboxClient::status() {
    const Answer answer = call(Command::kStatus, {});
    const auto claims = evidence::decode_claims(answer.payload);
    if (!claims) {
        throw ChannelError(std::string("claims: ") + error_name(claims.error()) + ": " + claims.failure().item);
    }
    return *claims;
}

Buffer MailboxClient::read_all(Command command) {
    Buffer whole;
    for (;;) {
        std::array<std::byte, 4> offset{};
        store(offset.data(), static_cast<std::uint32_t>(whole.size()), Endian::kLittle);
        const Answer answer = call(command, offset);
        constexpr std::size_t kLargest = std::size_t{16} << 20;
        if (answer.total > kLargest || answer.payload.size() > kLargest - whole.size()) {
            throw ChannelError("the log is longer than any this program knows");
        }
        whole.insert(whole.end(), answer.payload.begin(), answer.payload.end());
        if (answer.payload.empty() || whole.size() >= answer.total) return whole;
    }
}

Evidence MailboxClient::quote(Bytes nonce) {
    if (nonce.size() < channel::kMinNonce || nonce.size() > channel::kMaxNonce) {
        throw ChannelError("a nonce has 16 to 64 bytes, not " + std::to_string(nonce.size()));
    }
    const Answer answer = call(Command::kQuote, nonce);
    Reader reader(answer.payload);
    Evidence evidence;
    for (Buffer* part : {&evidence.claims, &evidence.attest, &evidence.signature, &evidence.key}) {
        *part = to_buffer(reader.sized());
    }
    if (!reader.finished("quote")) throw ChannelError("the quote is malformed");
    return evidence;
}

std::optional<Buffer> MailboxClient::endorsement(std::uint32_t handle) {
    std::array<std::byte, 4> payload{};
    store(payload.data(), handle, Endian::kLittle);
    Answer answer = ask(Command::kEndorsement, payload);
    if (answer.status == MailboxStatus::kUnavailable) return std::nullopt;
    if (answer.status != MailboxStatus::kOk) throw ChannelError("endorsement: " + describe(answer.status));
    return std::move(answer.payload);
}

Buffer MailboxClient::activate(std::uint32_t key, Bytes credential_blob, Bytes encrypted_secret) {
    if (credential_blob.size() > 0xffff || encrypted_secret.size() > 0xffff) {
        throw ChannelError("credential: longer than any TPM makes");
    }
    Buffer payload(4 + 2 + credential_blob.size() + 2 + encrypted_secret.size());
    Writer writer(payload);
    writer.u32(key);
    writer.sized(credential_blob);
    writer.sized(encrypted_secret);
    constexpr std::size_t kLongestSecret = 64;
    Buffer secret = call(Command::kActivate, payload).payload;
    if (secret.empty() || secret.size() > kLongestSecret) throw ChannelError("activation: the answer has no secret");
    return secret;
}

std::optional<Conversion> MailboxClient::convert(bool one_more) {
    std::array<std::byte, 4> payload{};
    store(payload.data(), std::uint32_t{one_more}, Endian::kLittle);
    const Answer answer = ask(Command::kConvert, payload);
    if (answer.status == MailboxStatus::kUnavailable || answer.status == MailboxStatus::kBadCommand)
        return std::nullopt;
    if (answer.status == MailboxStatus::kTpmFailed) {
        throw ChannelError("the disk failed, and its encryption rests; `gatehouse-channel log` says more");
    }
    if (answer.status != MailboxStatus::kOk) throw ChannelError("convert: " + describe(answer.status));
    Reader reader(answer.payload);
    Conversion conversion{.done = reader.u64(), .total = reader.u64(), .is_active = false};
    const std::uint32_t active = reader.u32();
    conversion.is_active = active != 0;
    if (!reader.finished("answer") || active > 1 || conversion.total == 0 || conversion.done > conversion.total) {
        throw ChannelError("convert: the answer is malformed");
    }
    return conversion;
}

}  // namespace gatehouse::agent
