// What an agent remembers, in a directory of mode 0700. Each file is replaced in one step, so that an agent
// that is killed at any moment finds a whole one.
//
//   state.json     State
//   identity.pem   the TLS private key (P-256) and its certificate, together
//   pending.pem    the private key of an enrollment that is not approved yet
//   connection-key.json   a protocol::ConnectionKey, which opens connections in the certificate's place for days, and
//                         SHA-256 of the server's URL and CA that it is for
//   ca.pem         the server's CA, where it was found by its pin
//   ak.blob        the attestation key of a TPM (TPM2B_PUBLIC, TPM2B_PRIVATE): of no use to any other TPM
//   lock           held while an agent changes any of this
//
// The private keys and the connection key are the only secrets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attestation/protocol/messages.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::agent {

// An enrollment that is under way. The credential can be activated again by the same TPM, so that its secret
// is not kept.
struct PendingEnrollment {
    std::string id;
    host::Buffer credential_blob;
    host::Buffer encrypted_secret;
    bool activated = false;
};

struct LastAttestation {
    std::int64_t time = 0;  // seconds since the epoch
    std::string verdict;
    std::int64_t lease_until = 0;
    std::vector<std::string> failures;
};

struct State {
    std::string endpoint_id;  // empty: not enrolled
    std::optional<PendingEnrollment> pending;
    std::optional<LastAttestation> last;
    std::string trouble;  // why the last attempt came to nothing; empty if it did not
};

[[nodiscard]] std::string to_json(const State& state);
// ToolError if it is not what to_json() makes.
[[nodiscard]] State parse_state(const std::string& text);

// A connection key with the id of the server that it is for: {"server": SERVER, "key": protocol::ConnectionKey}.
[[nodiscard]] std::string to_keep(const protocol::ConnectionKey& key, const std::string& server);
// Nullopt if it is of another server, cut short, or of another version.
[[nodiscard]] std::optional<protocol::ConnectionKey> kept_connection_key(const std::string& text,
                                                                         const std::string& server);

class StateDirectory {
  public:
    // Makes the directory if it is not there. ToolError if it cannot, or others than its owner may read it.
    explicit StateDirectory(std::string path);

    // Waits for other agents on the same directory; let go with the object.
    [[nodiscard]] host::File lock() const;

    [[nodiscard]] State state() const;
    void save(const State& state) const;
    // nullopt if there is no such file.
    [[nodiscard]] std::optional<std::string> read(const std::string& name) const;
    void write(const std::string& name, const std::string& content) const;
    void remove(const std::string& name) const;
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    std::string path_;
};

}  // namespace gatehouse::agent
