#include "hypervisor/channel/quote_source.hpp"

#include "hypervisor/base/log.hpp"
#include "hypervisor/cpu/console_log.hpp"
#include "hypervisor/cpu/vector.hpp"

namespace gatehouse::channel {

Bytes QuoteSource::log_text() { return Bytes(log_copy_).first(cpu::read_log(log_copy_)); }

Result<Source::Quote> QuoteSource::quote(const Sha256Digest& qualifying_data) {
    if (key_public_.empty()) return {Error::kState, "no attestation key"};
    auto made = tpm::quote(tpm_, random_, key_public_, key_private_, qualifying_data, tpm::kQuotedPcrs);
    if (!made) log("gatehouse: quote: ", made.failure());
    GATEHOUSE_ASSIGN(last_, made);
    return Quote{last_.attest.bytes(), last_.signature.bytes(), key_public_};
}

Result<std::size_t> QuoteSource::endorsement(std::uint32_t handle, MutableBytes out) {
    auto size = tpm::read_endorsement(tpm_, handle, out);
    // Which indices and keys there are is found out by asking.
    if (!size && size.error() != Error::kNotFound) log("gatehouse: ", size.failure());
    return size;
}

Result<std::size_t> QuoteSource::activate(std::uint32_t handle, Bytes credential, Bytes secret, MutableBytes out) {
    if (key_public_.empty()) return {Error::kState, "no attestation key"};
    auto size = tpm::activate_credential(tpm_, random_, handle, key_public_, key_private_, credential, secret, out);
    if (!size) log("gatehouse: credential activation: ", size.failure());
    return size;
}

void Doorbell::write(std::uint16_t port, unsigned size, std::uint32_t value) {
    if (port != kDoorbellPort || size != 4 || value != kDoorbellValue) return;
    const SpinGuard guard(lock_);
    const cpu::VectorSection vectors;  // BearSSL
    serve(source_, mailbox_);
}

}  // namespace gatehouse::channel
