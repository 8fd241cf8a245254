#include "hypervisor/channel/server.hpp"

#include <algorithm>

namespace gatehouse::channel {
namespace {

struct Request {
    std::uint32_t magic;
    std::uint16_t version;
    std::uint16_t command;
    std::uint32_t length;
    std::array<std::byte, kMaxRequest> storage;
    // Empty if it is longer than any request's.
    [[nodiscard]] Bytes payload() const { return Bytes(storage).first(length <= kMaxRequest ? length : 0); }
};

struct Answer {
    MailboxStatus status = MailboxStatus::kOk;
    std::uint32_t length = 0;
    std::uint32_t total = 0;
};

// The only reads of the request from shared memory.
Request copy_request(Bytes mailbox) {
    std::array<std::byte, kMailboxHeaderSize + kMaxRequest> copy;
    copy_bytes(copy, mailbox.first(copy.size()));
    asm volatile("" : : "r"(copy.data()) : "memory");  // the copy is made here, not at each use
    Reader reader(copy);
    Request request{};
    request.magic = reader.u32();
    request.version = reader.u16();
    request.command = reader.u16();
    reader.skip(4);
    request.length = reader.u32();
    reader.skip(8);
    reader.copy(request.storage);
    return request;
}

Answer refuse(const Failure& failure) {
    switch (failure.error) {
        case Error::kOutOfRange: return {.status = MailboxStatus::kBadRequest};
        case Error::kState:
        case Error::kNotFound:
        case Error::kRefused: return {.status = MailboxStatus::kUnavailable};
        default: return {.status = MailboxStatus::kTpmFailed};
    }
}

Answer answer_whole(const Result<std::size_t>& size) {
    if (!size) return refuse(size.failure());
    return {.length = static_cast<std::uint32_t>(*size), .total = static_cast<std::uint32_t>(*size)};
}

Answer answer_part(const Request& request, Bytes whole, MutableBytes out) {
    if (request.length != sizeof(std::uint32_t)) return {.status = MailboxStatus::kBadRequest};
    const auto offset = load<std::uint32_t>(request.storage.data(), Endian::kLittle);
    if (offset > whole.size()) return {.status = MailboxStatus::kBadRequest};
    const Bytes part = whole.subspan(offset, std::min(whole.size() - offset, out.size()));
    copy_bytes(out, part);
    return {.length = static_cast<std::uint32_t>(part.size()), .total = static_cast<std::uint32_t>(whole.size())};
}

Answer answer_status(Source& source, const Request& request, MutableBytes out) {
    if (request.length != 0) return {.status = MailboxStatus::kBadRequest};
    return answer_whole(evidence::encode_claims(source.claims(), out));
}

Answer answer_quote(Source& source, const Request& request, MutableBytes out) {
    if (request.length < kMinNonce || request.length > kMaxNonce) return {.status = MailboxStatus::kBadRequest};
    std::array<std::byte, evidence::kMaxClaimsSize> encoded;
    const auto size = evidence::encode_claims(source.claims(), encoded);
    if (!size) return {.status = MailboxStatus::kUnavailable};
    const Bytes claims = Bytes(encoded).first(*size);
    const auto quote = source.quote(evidence::qualifying_data(request.payload(), claims));
    if (!quote) return refuse(quote.failure());
    Writer writer(out);
    for (const Bytes part : {claims, quote->attest, quote->signature, quote->key}) writer.sized(part);
    if (writer.failed()) return {.status = MailboxStatus::kUnavailable};
    return answer_whole(writer.offset());
}

Answer answer_endorsement(Source& source, const Request& request, MutableBytes out) {
    Reader reader(request.payload());
    const std::uint32_t handle = reader.u32();
    if (!reader.finished("").ok()) return {.status = MailboxStatus::kBadRequest};
    return answer_whole(source.endorsement(handle, out.first(kMaxEndorsement)));
}

Answer answer_activate(Source& source, const Request& request, MutableBytes out) {
    Reader reader(request.payload());
    const std::uint32_t handle = reader.u32();
    const Bytes credential = reader.sized();
    const Bytes secret = reader.sized();
    if (!reader.finished("").ok()) return {.status = MailboxStatus::kBadRequest};
    return answer_whole(source.activate(handle, credential, secret, out.first(kMaxActivated)));
}

Answer execute(Source& source, const Request& request, MutableBytes out) {
    if (request.magic != kMailboxMagic) return {.status = MailboxStatus::kBadRequest};
    if (request.version != kMailboxVersion) return {.status = MailboxStatus::kBadVersion};
    switch (static_cast<Command>(request.command)) {
        case Command::kStatus: return answer_status(source, request, out);
        case Command::kLog: return answer_part(request, source.log_text(), out);
        case Command::kEventLog: return answer_part(request, source.event_log(), out);
        case Command::kQuote: return answer_quote(source, request, out);
        case Command::kEndorsement: return answer_endorsement(source, request, out);
        case Command::kActivate: return answer_activate(source, request, out);
    }
    return {.status = MailboxStatus::kBadCommand};
}

}  // namespace

void serve(Source& source, MutableBytes mailbox) {
    const Request request = copy_request(mailbox);
    const Answer answer = execute(source, request, mailbox.subspan(kMailboxHeaderSize));
    Writer writer(mailbox.first(kMailboxHeaderSize));
    writer.u32(kMailboxMagic);
    writer.u16(kMailboxVersion);
    writer.u16(request.command);
    writer.u32(static_cast<std::uint32_t>(answer.status));
    writer.u32(answer.length);
    writer.u32(answer.total);
    writer.u32(0);
}

}  // namespace gatehouse::channel
