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

Command::Command(Tpm& tpm, TPM2_CC code, const char* name)
    : tpm_(tpm), code_(code), name_(name), writer_(tpm.command_, Endian::kBig) {
    writer_.u16(TPM2_ST_NO_SESSIONS);
    writer_.u32(0);
    writer_.u32(code);
    parameters_at_ = writer_.offset();
}

Command& Command::handle(TPM2_HANDLE handle) {
    writer_.u32(handle);
    parameters_at_ = writer_.offset();
    return *this;
}

Command& Command::password() {
    ++passwords_;
    return session(TPM2_RS_PW, {}, TPMA_SESSION_CONTINUESESSION, 0);
}

Command& Command::session(TPM2_HANDLE session, Bytes nonce, TPMA_SESSION attributes, std::size_t hmac_size) {
    if (sessions_++ == 0) sessions_at_ = writer_.reserve<std::uint32_t>();
    writer_.u32(session);
    writer_.sized(nonce);
    writer_.u8(attributes);
    writer_.u16(static_cast<std::uint16_t>(hmac_size));
    writer_.zeros(hmac_size);
    writer_.patch(sessions_at_, static_cast<std::uint32_t>(writer_.offset() - sessions_at_ - sizeof(std::uint32_t)));
    writer_.patch(kTagAt, std::uint16_t{TPM2_ST_SESSIONS});
    parameters_at_ = writer_.offset();
    return *this;
}

Command& Command::set_hmac(const Sha256Digest& hmac) {
    if (!writer_.failed()) copy_bytes(MutableBytes(tpm_.command_).subspan(parameters_at_ - hmac.size()), hmac);
    return *this;
}

Result<std::size_t> Command::transmit() {
    GATEHOUSE_TRY(writer_.status(name_));
    writer_.patch(kSizeAt, static_cast<std::uint32_t>(writer_.offset()));
    GATEHOUSE_ASSIGN(const std::size_t size, tpm_.transport_.transmit(writer_.written(), tpm_.response_));
    if (size > tpm_.response_.size()) return malformed(name_, Error::kBadLength);
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
            if (tag != TPM2_ST_NO_SESSIONS || size != kHeaderSize) return malformed(name_);
            if (!is_retry(code) || attempt == Tpm::kMaximumAttempts) return {Error::kTpmError, name_, code};
            tpm_.transport_.pause();
            continue;
        }
        if (tag != (sessions_ != 0 ? TPM2_ST_SESSIONS : TPM2_ST_NO_SESSIONS)) return {Error::kBadValue, name_, tag};

        Response response;
        if (returns_handle) response.handle = reader.u32();
        response.parameters = sessions_ != 0 ? reader.bytes(reader.u32()) : reader.rest();
        for (unsigned i = 0; i < passwords_; ++i) {
            if (!reader.sized().empty()) return malformed(name_);
            (void)reader.u8();
            if (!reader.sized().empty()) return malformed(name_);
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

void write_selections(Writer& writer, std::span<const PcrSelection> selections) {
    constexpr std::uint8_t kBitmapSize = 3;
    writer.u32(static_cast<std::uint32_t>(selections.size()));
    for (const PcrSelection& selection : selections) {
        writer.u16(static_cast<std::uint16_t>(selection.bank));
        writer.u8(kBitmapSize);
        for (unsigned i = 0; i < kBitmapSize; ++i) {
            writer.u8(static_cast<std::uint8_t>(selection.pcrs >> (8 * i)));
        }
    }
}

}  // namespace gatehouse::tpm
