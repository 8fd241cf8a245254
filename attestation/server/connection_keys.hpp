// Keys that spare an endpoint the signatures of a TLS handshake: external pre-shared keys of TLS 1.3 (RFC 8446, 2.2
// and 4.2.11; RFC 9257).
//
// An endpoint asks for one on a connection that its client certificate has opened, and opens later ones by it. The key
// names that certificate, and is good for what the certificate is good for, while it is the endpoint's present one.
// Nothing of it is stored: all is in the identity, which the client shows in clear, and the key is derived from that.
//
//   identity: "GHC1" || u8[8] front of SHA-256(the servers' secret) || u64 end, seconds since the epoch, big-endian ||
//             u8[32] SHA-256 of the certificate's DER
//   key:      HMAC-SHA-256(the servers' secret, "connection key" || identity)
//
// An identity proves nothing before the handshake has ended: anybody can show one.
//
// When the secret is another one (Service::rotate_connection_keys()) all keys of the one before are void, and so are the
// connections that they have opened; agents come with their certificates, and get new ones.
#pragma once

#include <array>
#include <optional>

#include "attestation/protocol/messages.hpp"
#include "attestation/server/database/records.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::server {

// Which secret a key was made of: the front of its SHA-256.
using ConnectionSecretName = std::array<std::byte, 8>;

struct KnownConnectionKey {
    ConnectionSecretName secret{};
    Sha256Digest certificate{};  // of the DER
    Seconds ends = 0;
    Sha256Digest key{};
};

class ConnectionKeys {
  public:
    static constexpr Seconds kLifetime = 7 * 86400;

    explicit ConnectionKeys(Buffer secret);  // 32 random bytes
    // For the present certificate of an endpoint, good until `ends` (its notAfter), and kLifetime at most.
    [[nodiscard]] protocol::ConnectionKey issue(const Sha256Digest& certificate, Seconds ends, Seconds now) const;
    // nullopt: not one that issue() makes with this secret, or its time has passed.
    [[nodiscard]] std::optional<KnownConnectionKey> find(Bytes identity, Seconds now) const;
    [[nodiscard]] const ConnectionSecretName& secret_name() const { return secret_name_; }

  private:
    [[nodiscard]] Sha256Digest key_of(Bytes identity) const;

    Buffer secret_;
    ConnectionSecretName secret_name_{};
};

}  // namespace gatehouse::server
