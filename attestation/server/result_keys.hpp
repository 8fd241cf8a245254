// The keys that results and revocation lists are signed by.
//
// A secret of the database each: "result key", "result key 2" and so on, of which the last signs. Those before it stay
// published until all that they signed has expired: for kResultKeyOverlap after their successor was made. Servers on one
// database share them; another's rotation is noticed by refresh(), about a minute later.
//
// From the second on, a secret is u64 time made, seconds since the epoch, big-endian || private key, DER.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include "attestation/server/authority.hpp"
#include "attestation/server/secrets.hpp"

namespace gatehouse::server {

// The longest lease that a policy can give (verifier/policy.hpp), and an hour for other servers and clocks.
inline constexpr Seconds kResultKeyOverlap = 86'400 + 3'600;

struct ResultKey {
    std::shared_ptr<EVP_PKEY> key;
    std::string id;    // formats::key_id(), computed once
    Seconds made = 0;  // 0: the first

    [[nodiscard]] EVP_PKEY* get() const { return key.get(); }
};

class ResultKeys {
  public:
    ResultKeys(Database& database, const Sealer& sealer);

    [[nodiscard]] ResultKey current();
    // The current one first, then those that still count.
    [[nodiscard]] std::vector<std::shared_ptr<EVP_PKEY>> published(Seconds now);
    // Makes the next one, within a write job, and returns its id (formats::key_id()). It signs from refresh() on, which is
    // to be called after the job. ServiceError (409) if another server has just made one.
    [[nodiscard]] std::string rotate(Session& session, Seconds now);
    // Reads those that another server has made.
    void refresh();

  private:
    [[nodiscard]] std::vector<ResultKey> read_from(std::size_t generation);

    Database& database_;
    const Sealer& sealer_;
    std::mutex mutex_;
    std::vector<ResultKey> all_;
};

}  // namespace gatehouse::server
