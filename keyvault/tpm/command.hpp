// Command: composes one TPM command in a Tpm's buffer, sends it, and takes the response's frame apart.
//
// The parts of a command are appended in the order of the wire (Part 1, 18): handles, authorization,
// parameters.
//
//     Command command(tpm, TPM2_CC_NV_Read, "TPM2_NV_Read");
//     command.handle(index).handle(index).password();
//     command.parameters().u16(8);
//     GATEHOUSE_ASSIGN(const Response response, command.execute());
//
// Internal to keyvault/tpm.
#pragma once

#include "keyvault/tpm/tpm.hpp"

namespace gatehouse::tpm {

// Views into the Tpm's response buffer: gone with the next command.
struct Response {
    TPM2_HANDLE handle = 0;
    Bytes parameters;
    Bytes authorization;
    [[nodiscard]] Reader reader() const { return Reader(parameters, Endian::kBig); }
};

class Command {
  public:
    // `name` is what failures are called by.
    Command(Tpm& tpm, TPM2_CC code, const char* name);

    Command& handle(TPM2_HANDLE handle);
    // A password session with an empty password: one for each handle that needs an authorization, in their
    // order.
    Command& password();
    // Any other session, after the passwords; the HMAC is filled in later by set_hmac(), `hmac_size` is 0 or
    // that of SHA-256.
    Command& session(TPM2_HANDLE session, Bytes nonce, TPMA_SESSION attributes, std::size_t hmac_size);
    Command& set_hmac(const Sha256Digest& hmac);
    // What is written here is appended.
    [[nodiscard]] Writer& parameters() { return writer_; }
    [[nodiscard]] Bytes written_parameters() const { return writer_.written().subspan(parameters_at_); }

    [[nodiscard]] TPM2_CC code() const { return code_; }
    [[nodiscard]] const char* name() const { return name_; }

    // Sends it. The response's size, tag and code are right afterwards, its parts lie inside of it, and the
    // password sessions' answers are the empty ones; `authorization` is that of the other session.
    [[nodiscard]] Result<Response> execute(bool returns_handle = false);
    // The same for a command whose response has no parameters.
    [[nodiscard]] Status finish();

  private:
    [[nodiscard]] Result<std::size_t> transmit();

    Tpm& tpm_;
    TPM2_CC code_;
    const char* name_;
    Writer writer_;
    unsigned passwords_ = 0;
    unsigned sessions_ = 0;  // passwords included
    std::size_t sessions_at_ = 0;
    std::size_t parameters_at_ = 0;
};

// TPML_PCR_SELECTION (Part 2, 10.9.7), three bytes of bitmap each.
void write_selections(Writer& writer, std::span<const PcrSelection> selections);

// A failure of the response's contents, in the shape of Reader::finished().
[[nodiscard]] inline Failure malformed(const char* command, Error error = Error::kBadValue) {
    return {error, command, 0};
}

}  // namespace gatehouse::tpm
