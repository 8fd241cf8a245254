// Evidence by the measured hypervisor, through its quote channel.
#pragma once

#include <optional>

#include "attestation/agent/evidence_source.hpp"
#include "attestation/agent/mailbox_client.hpp"

namespace gatehouse::agent {

class ChannelSource final : public EvidenceSource {
  public:
    explicit ChannelSource(std::unique_ptr<MailboxPort> port) : port_(std::move(port)), client_(*port_) {}

    [[nodiscard]] const char* name() const override { return "hypervisor"; }
    [[nodiscard]] Identity identity(LostKey lost) override;
    [[nodiscard]] Buffer activate(Bytes credential_blob, Bytes encrypted_secret) override;
    [[nodiscard]] protocol::AttestRequest evidence(Bytes nonce) override;
    [[nodiscard]] std::optional<Sha256Digest> vault() override;

  private:
    struct EndorsementKey {
        std::uint32_t handle = 0;
        Buffer public_area;
        Buffer certificate;
    };
    [[nodiscard]] const EndorsementKey& endorsement_key();
    [[nodiscard]] std::vector<EndorsementKey> persistent_keys();

    std::unique_ptr<MailboxPort> port_;
    MailboxClient client_;
    std::optional<EndorsementKey> key_;
};

}  // namespace gatehouse::agent
