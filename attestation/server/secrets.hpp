// The server's own secrets.
//
// DIRECTORY/master.key (32 random bytes, mode 0600, made on the first run) is the only one outside of the
// database. All others - the keys of the CA and of results, the nonces' key, webhooks' keys - lie in the
// database, sealed with AES-256-GCM under a key derived from it: a stolen copy of the database signs nothing.
// Several server processes on one PostgreSQL share them through the database and need the same master.key,
// copied by the operator.
//
// Sealed: u8[12] nonce || ciphertext || u8[16] tag, the secret's name as associated data.
#pragma once

#include <functional>

#include "attestation/server/database/database.hpp"
#include "hypervisor/base/secret.hpp"

namespace gatehouse::server {

[[nodiscard]] Buffer random_bytes(std::size_t size);

class Sealer {
  public:
    // Reads or makes DIRECTORY/master.key, and the directory (0700). ToolError if the key is not 32 bytes, or
    // open to others.
    explicit Sealer(const std::string& directory);
    [[nodiscard]] Buffer seal(std::string_view name, Bytes secret) const;
    // ToolError if it was sealed under another master.key, or changed.
    [[nodiscard]] Buffer unseal(std::string_view name, Bytes sealed) const;

  private:
    std::string path_;
    Secret<32> key_;
};

// The secret of that name in the database; made by `make` if it is not there. Safe among processes that start
// at once.
[[nodiscard]] Buffer shared_secret(Database& database, const Sealer& sealer, const std::string& name,
                                   const std::function<Buffer()>& make);

}  // namespace gatehouse::server
