// The TLS side of the server: one OpenSSL context for all connections, replaced as a whole when certificates
// change.
#pragma once

#include <openssl/ssl.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "attestation/server/connection_keys.hpp"
#include "attestation/server/http/message.hpp"

namespace gatehouse::http {

// What the connection key of an identity is and stands for; nullopt: none. Must not throw.
using FindConnectionKey = std::function<std::optional<server::KnownConnectionKey>(Bytes identity)>;

struct TlsFiles {
    std::string certificate;               // PEM: the server's, then its chain
    std::string key;                       // PEM
    std::string client_ca;                 // PEM: who may have issued client certificates
    FindConnectionKey find_key = nullptr;  // null: no connection is opened by a key
};

// TLS 1.3 only. A client that shows an identity proves and is shown its connection key, with (EC)DHE, and no
// certificate is exchanged (RFC 8446, 4.2.9: psk_dhe_ke). Of any other a client certificate is asked for, and verified
// if one comes: chain, dates and purpose. ToolError naming what does not fit.
[[nodiscard]] std::shared_ptr<SSL_CTX> make_tls_context(const TlsFiles& files);

// After the handshake: puts the verified client certificate, or that of the connection key, if there is either, into
// `peer`.
void read_client_certificate(const SSL* session, Peer& peer);

}  // namespace gatehouse::http
