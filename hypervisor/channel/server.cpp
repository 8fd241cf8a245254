#include "hypervisor/channel/server.hpp"

#include <algorithm>

namespace gatehouse::channel {
namespace {

struct Answer {
    MailboxStatus status = MailboxStatus::kOk;
    std::uint32_t length = 0;
    std::uint32_t total = 0;
};

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

Answer answer_part(Reader request, Bytes whole, MutableBytes out) {
    const std::uint32_t offset = request.u32();
    if (!request.finished("").ok() || offset > whole.size()) return {.status = MailboxStatus::kBadRequest};
    const Bytes part = whole.subspan(offset, std::min(whole.size() - offset, out.size()));
    copy_bytes(out, part);
    return {.length = static_cast<std::uint32_t>(part.size()), .total = static_cast<std::uint32_t>(whole.size())};
}

Answer answer_status(Source& source, Reader request, MutableBytes out) {
    if (!request.finished("").ok()) return {.status = MailboxStatus::kBadRequest};
    return answer_whole(evidence::encode_claims(source.claims(), out));
}

Answer answer_quote(Source& source, Reader request, MutableBytes out) {
    const Bytes nonce = request.rest();
    if (nonce.size() < kMinNonce || nonce.size() > kMaxNonce) return {.status = MailboxStatus::kBadRequest};
    std::array<std::byte, evidence::kMaxClaimsSize> encoded;
    const auto size = evidence::encode_claims(source.claims(), encoded);
    if (!size) return {.status = MailboxStatus::kUnavailable};
    const Bytes claims = Bytes(encoded).first(*size);
    const auto quote = source.quote(evidence::qualifying_data(nonce, claims));
    if (!quote) return refuse(quote.failure());
    Writer writer(out);
    for (const Bytes part : {claims, quote->attest, quote->signature, quote->key}) writer.sized(part);
    if (writer.failed()) return {.status = MailboxStatus::kUnavailable};
    return answer_whole(writer.offset());
}

Answer answer_endorsement(Source& source, Reader request, MutableBytes out) {
    const std::uint32_t handle = request.u32();
    if (!request.finished("").ok()) return {.status = MailboxStatus::kBadRequest};
    return answer_whole(source.endorsement(handle, out.first(kMaxEndorsement)));
}

Answer answer_activate(Source& source, Reader request, MutableBytes out) {
    const std::uint32_t handle = request.u32();
    const Bytes credential = request.sized();
    const Bytes secret = request.sized();
    if (!request.finished("").ok()) return {.status = MailboxStatus::kBadRequest};
    return answer_whole(source.activate(handle, credential, secret, out.first(kMaxActivated)));
}

// `request`: what follows the header.
Answer execute(Source& source, Command command, Reader request, MutableBytes out) {
    switch (command) {
        case Command::kStatus: return answer_status(source, request, out);
        case Command::kLog: return answer_part(request, source.log_text(), out);
        case Command::kEventLog: return answer_part(request, source.event_log(), out);
        case Command::kQuote: return answer_quote(source, request, out);
        case Command::kEndorsement: return answer_endorsement(source, request, out);
        case Command::kActivate: return answer_activate(source, request, out);
        case Command::kConvert: return answer_whole(convert(source.converter, request, out));
    }
    return {.status = MailboxStatus::kBadCommand};
}

}  // namespace

void serve(Source& source, MutableBytes mailbox) {
    // The only reads of the request from shared memory.
    std::array<std::byte, kMailboxHeaderSize + kMaxRequest> copy;
    copy_bytes(copy, mailbox.first(copy.size()));
    asm volatile("" : : "r"(copy.data()) : "memory");  // the copy is made here, not at each use
    Reader request(copy);
    const std::uint32_t magic = request.u32();
    const std::uint16_t version = request.u16(), command = request.u16();
    request.skip(4);
    const std::uint32_t length = request.u32();
    request.skip(8);
    Answer answer{.status = MailboxStatus::kBadRequest};
    if (magic == kMailboxMagic && version != kMailboxVersion) {
        answer.status = MailboxStatus::kBadVersion;
    } else if (magic == kMailboxMagic && length <= kMaxRequest) {
        answer = execute(source, static_cast<Command>(command), Reader(request.bytes(length)),
                         mailbox.subspan(kMailboxHeaderSize));
    }
    Writer writer(mailbox.first(kMailboxHeaderSize));
    writer.u32(kMailboxMagic);
    writer.u16(kMailboxVersion);
    writer.u16(command);
    writer.u32(static_cast<std::uint32_t>(answer.status));
    writer.u32(answer.length);
    writer.u32(answer.total);
    writer.u32(0);
}

}  // namespace gatehouse::channel
