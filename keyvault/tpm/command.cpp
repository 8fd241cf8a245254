#include "keyvault/tpm/command.hpp"

namespace gatehouse::tpm {
namespace {

constexpr std::size_t kHeaderSize = 10;  // tag, size, command or response code
constexpr std::size_t kTagAt = 0;
constexpr std::size_t kSizeAt = 2;

// Part 2, 6.6.3: the command was not started and is to be sent again.
bool is_retry(TPM2_RC code) {
    return code == TPM2_RC_RETRY || code == TPM2_RC_YIELDED || code == TPM2_RC_TESTING || code == TPM2_RC_NV_RATE;
}

}  // namespace

Result<Bytes> Response::sized() const {
    Reader parameter = reader();
    const Bytes bytes = parameter.sized();
    GATEHOUSE_TRY(parameter.finished(command));
    return bytes;
}

Status Response::copy_sized(MutableBytes out) const {
    GATEHOUSE_ASSIGN(const Bytes bytes, sized());
    if (bytes.size() != out.size()) return {Error::kBadLength, command, bytes.size()};
    copy_bytes(out, bytes);
    return {};
}

Command::Command(Tpm& tpm, TPM2_CC code, const char* name)
    : tpm_(tpm), code_(code), name_(name), writer_(tpm.command_, Endian::kBig) {
    with(TPM2_ST_NO_SESSIONS, std::uint32_t{0}, code);
}

Command& Command::with_marshalled(Bytes bytes) {
    writer_.bytes(bytes);
    return *this;
}

Command& Command::password() {
    ++passwords_;
    return session(TPM2_RS_PW, {}, TPMA_SESSION_CONTINUESESSION, {});
}

Command& Command::session(TPM2_HANDLE session, Bytes nonce, TPMA_SESSION attributes, Bytes hmac) {
    if (sessions_++ == 0) sessions_at_ = writer_.reserve<std::uint32_t>();
    with(session, nonce, attributes, hmac);
    writer_.patch(sessions_at_, static_cast<std::uint32_t>(writer_.offset() - sessions_at_ - sizeof(std::uint32_t)));
    writer_.patch(kTagAt, std::uint16_t{TPM2_ST_SESSIONS});
    return *this;
}

Result<std::size_t> Command::transmit() {
    GATEHOUSE_TRY(writer_.status(name_));
    writer_.patch(kSizeAt, static_cast<std::uint32_t>(writer_.offset()));
    GATEHOUSE_ASSIGN(const std::size_t size, tpm_.transport_.transmit(writer_.written(), tpm_.response_));
    if (size > tpm_.response_.size()) return {Error::kBadLength, name_, size};
    return size;
}

Result<Response> Command::execute(bool returns_handle) {
    for (unsigned attempt = 1;; ++attempt) {
        GATEHOUSE_ASSIGN(const std::size_t size, transmit());
        Reader reader(Bytes(tpm_.response_).first(size), Endian::kBig);
        const TPM2_ST tag = reader.u16();
        const std::uint32_t stated_size = reader.u32();
        const TPM2_RC code = reader.u32();
        GATEHOUSE_TRY(reader.status(name_));
        if (stated_size != size) return {Error::kBadLength, name_, stated_size};
        if (code != TPM2_RC_SUCCESS) {
            if (tag != TPM2_ST_NO_SESSIONS || size != kHeaderSize) return {Error::kBadValue, name_, tag};
            if (!is_retry(code) || attempt == Tpm::kMaximumAttempts) return {Error::kTpmError, name_, code};
            tpm_.transport_.pause();
            continue;
        }
        if (tag != (sessions_ != 0 ? TPM2_ST_SESSIONS : TPM2_ST_NO_SESSIONS)) return {Error::kBadValue, name_, tag};

        Response response{.command = name_};
        if (returns_handle) response.handle = reader.u32();
        response.parameters = sessions_ != 0 ? reader.bytes(reader.u32()) : reader.rest();
        for (unsigned i = 0; i < passwords_; ++i) {
            const Bytes nonce = reader.sized();
            (void)reader.u8();
            if (!nonce.empty() || !reader.sized().empty()) return {Error::kBadValue, name_};
        }
        GATEHOUSE_TRY(sessions_ == passwords_ ? reader.finished(name_) : reader.status(name_));
        response.authorization = reader.rest();
        return response;
    }
}

Status Command::finish() {
    GATEHOUSE_ASSIGN(const Response response, execute());
    return response.reader().finished(name_);
}

std::array<std::byte, 10> marshalled(const PcrSelection& selection) {
    constexpr std::uint8_t kBitmapSize = 3;
    std::array<std::byte, 10> list{};
    Writer writer(list, Endian::kBig);
    writer.u32(1);
    writer.u16(static_cast<std::uint16_t>(selection.bank));
    writer.u8(kBitmapSize);
    for (unsigned i = 0; i < kBitmapSize; ++i) writer.u8(static_cast<std::uint8_t>(selection.pcrs >> (8 * i)));
    return list;
}

}  // namespace gatehouse::tpm
