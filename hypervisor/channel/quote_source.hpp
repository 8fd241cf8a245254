// What the channel tells on the real machine.
#pragma once

#include "attestation/evidence/launch_log.hpp"
#include "hypervisor/base/spin_lock.hpp"
#include "hypervisor/channel/server.hpp"
#include "hypervisor/cpu/io_ports.hpp"
#include "keyvault/tpm/endorsement.hpp"
#include "keyvault/tpm/sealing.hpp"

namespace gatehouse::channel {

// Large: static.
class QuoteSource final : public Source {
  public:
    // All of it must outlive this.
    QuoteSource(tpm::Tpm& tpm, RandomSource& random, const evidence::Claims& claims,
                const evidence::EventLogWriter& event_log)
        : tpm_(tpm), random_(random), claims_(claims), event_log_(event_log) {}
    // The vault's attestation key, which must outlive this. Before, there are no quotes.
    void use_key(Bytes key_public, Bytes key_private) {
        key_public_ = key_public;
        key_private_ = key_private;
    }

    evidence::Claims claims() override { return claims_; }
    Bytes log_text() override;
    Bytes event_log() override { return event_log_.log(); }
    Result<Quote> quote(const Sha256Digest& qualifying_data) override;
    Result<std::size_t> endorsement(std::uint32_t handle, MutableBytes out) override;
    Result<std::size_t> activate(std::uint32_t handle, Bytes credential, Bytes secret, MutableBytes out) override;

  private:
    tpm::Tpm& tpm_;
    RandomSource& random_;
    const evidence::Claims& claims_;
    const evidence::EventLogWriter& event_log_;
    Bytes key_public_;
    Bytes key_private_;
    tpm::Quote last_;
    std::array<std::byte, 0x10000> log_copy_{};
};

// The doorbell: a 32-bit OUT of kDoorbellValue to kDoorbellPort serves the mailbox. Reads give all ones.
class Doorbell final : public cpu::IoPortHandler {
  public:
    Doorbell(Source& source, MutableBytes mailbox) : source_(source), mailbox_(mailbox) {}
    std::uint32_t read(std::uint16_t, unsigned) override { return 0xffffffff; }
    void write(std::uint16_t port, unsigned size, std::uint32_t value) override;

  private:
    Source& source_;
    MutableBytes mailbox_;
    SpinLock lock_;
};

}  // namespace gatehouse::channel
