// What the agent does: enrolls, attests, keeps its certificate, and goes on doing so.
//
// Every step holds the state directory's lock and begins with what is on disk, so that steps of several
// agents, and steps that were cut short, do no harm to each other.
#pragma once

#include <functional>

#include "attestation/agent/config.hpp"
#include "attestation/agent/evidence_source.hpp"
#include "attestation/agent/state_directory.hpp"

namespace gatehouse::agent {

class ServerClient;

class Agent {
  public:
    // The source is opened when it is needed first. `token`: a one-time enrollment token; if it is empty,
    // that of config.token_file, which is read only to start an enrollment, and may be gone after it.
    Agent(Config config, std::string token);
    ~Agent();

    // One step towards a certificate: starts an enrollment, or asks how the one that waits is doing. An
    // endpoint that is enrolled stays so, unless `again`: then it enrolls anew, and keeps its present
    // certificate until the new one is there. Refused, ToolError.
    [[nodiscard]] protocol::EnrollStatus enroll(bool again);
    // Sends evidence, once, and remembers the answer.
    [[nodiscard]] protocol::AttestAnswer attest();
    // Renews the certificate if less than a third of its life is left; whether it did.
    bool renew_if_due();

    // Has the server keep the blob with a recovery key, under the name ([a-z0-9._-]{1,64}). Refused, also if it keeps
    // another one under it; ToolError naming `item` if it is no escrow blob, or of another vault than this machine's (one
    // whose vault is not known has any), unless `any_vault`. Which vault it is of.
    [[nodiscard]] Sha256Digest put_escrow(const std::string& name, Bytes blob, const std::string& item, bool any_vault);

    // All of it for ever: see agent_loop.cpp. `say`: one line for the journal.
    [[noreturn]] void run(const std::function<void(const std::string&)>& say);

    [[nodiscard]] const StateDirectory& directory() const { return directory_; }

  private:
    class Loop;
    [[nodiscard]] std::string ca();
    [[nodiscard]] std::string token() const;
    [[nodiscard]] ServerClient connect();
    [[nodiscard]] ServerClient& connection();
    [[nodiscard]] std::string server_id(const std::string& ca) const;
    [[nodiscard]] std::optional<protocol::ConnectionKey> connection_key(const std::string& server) const;
    void keep_connection_key(ServerClient& server);
    [[nodiscard]] EvidenceSource& source();
    void start_enrollment(State& state, ServerClient& server, bool again);
    [[nodiscard]] protocol::EnrollStatus continue_enrollment(State& state, ServerClient& server);
    void finish_enrollment(State& state, const protocol::EnrollStatus& status);
    [[nodiscard]] protocol::AttestAnswer attest_now(State& state);

    Config config_;
    std::string token_;
    StateDirectory directory_;
    std::unique_ptr<EvidenceSource> source_;
    std::unique_ptr<ServerClient> connection_;
    std::string connection_server_;  // server_id() that it was opened by
};

}  // namespace gatehouse::agent
