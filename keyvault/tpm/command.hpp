// Command: composes one TPM command in a Tpm's buffer, sends it, and takes the response's frame apart.
//
// The parts of a command are appended in the order of the wire (Part 1, 18): handles, authorization, parameters.
//
//     Command command(tpm, TPM2_CC_NV_Read, "TPM2_NV_Read");
//     command.with(index, index).password().with(std::uint16_t{8}, std::uint16_t{0});
//     GATEHOUSE_ASSIGN(const Response response, command.execute());
//
// Internal to keyvault/tpm.
#pragma once

#include "keyvault/tpm/tpm.hpp"

namespace gatehouse::tpm {

// Views into the Tpm's response buffer: gone with the next command.
struct Response {
    const char* command = "";
    TPM2_HANDLE handle = 0;
    Bytes parameters{};
    Bytes authorization{};
    [[nodiscard]] Reader reader() const { return Reader(parameters, Endian::kBig); }
    // The only parameter, a TPM2B.
    [[nodiscard]] Result<Bytes> sized() const;
    // The same, of out.size() bytes: kBadLength if not.
    [[nodiscard]] Status copy_sized(MutableBytes out) const;
};

class Command {
  public:
    // `name` is what failures are called by.
    Command(Tpm& tpm, TPM2_CC code, const char* name);

    // Appends integers and, each with its size before it, byte strings.
    template <typename... Parts>
    Command& with(const Parts&... parts) {
        (append(parts), ...);
        return *this;
    }
    // Appends marshalled bytes.
    Command& with_marshalled(Bytes bytes);
    // A password session with an empty password: one for each handle that needs an authorization, in their order.
    Command& password();
    // Any other session, after the passwords.
    Command& session(TPM2_HANDLE session, Bytes nonce, TPMA_SESSION attributes, Bytes hmac);

    [[nodiscard]] TPM2_CC code() const { return code_; }
    [[nodiscard]] const char* name() const { return name_; }

    // Sends it. The response's size, tag and code are right afterwards, its parts lie inside of it, and the
    // password sessions' answers are the empty ones; `authorization` is that of the other session.
    [[nodiscard]] Result<Response> execute(bool returns_handle = false);
    // The same for a command whose response has no parameters.
    [[nodiscard]] Status finish();

  private:
    template <std::unsigned_integral T>
    void append(T value) {
        writer_.bytes(encoded(value, Endian::kBig));
    }
    void append(Bytes bytes) { writer_.sized(bytes); }
    [[nodiscard]] Result<std::size_t> transmit();

    Tpm& tpm_;
    TPM2_CC code_;
    const char* name_;
    Writer writer_;
    unsigned passwords_ = 0;
    unsigned sessions_ = 0;  // passwords included
    std::size_t sessions_at_ = 0;
};

// TPML_PCR_SELECTION of one bank (Part 2, 10.9.7), three bytes of bitmap.
[[nodiscard]] std::array<std::byte, 10> marshalled(const PcrSelection& selection);

}  // namespace gatehouse::tpm
