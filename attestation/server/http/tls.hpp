// The TLS side of the server: one OpenSSL context for all connections, replaced as a whole when certificates
// change.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "attestation/server/http/message.hpp"

namespace gatehouse::http {

struct TlsFiles {
    std::string certificate;  // PEM: the server's, then its chain
    std::string key;          // PEM
    std::string client_ca;    // PEM: who may have issued client certificates
};

// TLS 1.3 only; a client certificate is asked for, and verified if one comes: chain, dates and purpose.
// ToolError naming what does not fit.
[[nodiscard]] std::shared_ptr<SSL_CTX> make_tls_context(const TlsFiles& files);

// Puts the verified client certificate, if there is one, into `peer`.
void read_client_certificate(const SSL* session, Peer& peer);

}  // namespace gatehouse::http
