// What the parts of Service share. For the sources of this room only.
//
//   service.cpp      set-up, tokens, certificates, house-keeping
//   enrollment.cpp   from the first request to the client certificate
//   vendors.cpp      whose endorsement is believed
//   importing.cpp    the same, of a collection
//   crls.cpp         CRLs that are fetched, and how old all are
//   attesting.cpp    nonces, appraisal, what it does to an endpoint
//   fleet.cpp        endpoints, history, counts, groups, escrow
//   appraising.cpp   evidence against the policies of a group
//   kept.cpp         the last evidence, appraised once more
//   rules.cpp        policies and their assignment
//   results.cpp      results by others' profiles, the keys to check them with
//   actions.cpp      events, and telling them to others
//
// What is kept, and every SQL string, is in database/.
#pragma once

#include <atomic>
#include <list>
#include <map>
#include <mutex>
#include <set>

#include "attestation/server/appraising.hpp"
#include "attestation/server/audit.hpp"
#include "attestation/server/authority.hpp"
#include "attestation/server/database/attestations.hpp"
#include "attestation/server/database/crls.hpp"
#include "attestation/server/database/database.hpp"
#include "attestation/server/database/endpoints.hpp"
#include "attestation/server/database/policies.hpp"
#include "attestation/server/database/text.hpp"
#include "attestation/server/demands.hpp"
#include "attestation/server/result_keys.hpp"
#include "attestation/server/secrets.hpp"
#include "attestation/server/service.hpp"
#include "attestation/verifier/crl.hpp"
#include "attestation/verifier/policy.hpp"

namespace gatehouse::server {

// The last `limit` values that were used, by key; thread-safe.
template <typename Value>
class Cache {
  public:
    explicit Cache(std::size_t limit) : limit_(limit) {}
    // `make` runs without the lock; two threads may make the same one.
    template <typename Make>
    std::shared_ptr<const Value> get(const std::string& key, Make make) {
        {
            const std::lock_guard lock(mutex_);
            if (const auto found = places_.find(key); found != places_.end()) {
                order_.splice(order_.begin(), order_, found->second);
                return found->second->second;
            }
        }
        std::shared_ptr<const Value> made = make();
        const std::lock_guard lock(mutex_);
        if (places_.contains(key)) return made;
        order_.emplace_front(key, made);
        places_[key] = order_.begin();
        if (places_.size() > limit_) {
            places_.erase(order_.back().first);
            order_.pop_back();
        }
        return made;
    }

  private:
    using Order = std::list<std::pair<std::string, std::shared_ptr<const Value>>>;
    std::size_t limit_;
    std::mutex mutex_;
    Order order_;
    std::map<std::string, typename Order::iterator> places_;
};

// How long a verdict still stands by what is not enforced for the endpoint any more.
inline constexpr Seconds kGrace = 300;
inline constexpr const char* kConnectionSecret = "connection keys";  // its name in the database

// What is kept of what vouches for an endpoint's TPM, and of a vendor: vendors.cpp.
[[nodiscard]] std::string endorsement_json(Bytes certificate, const std::vector<Buffer>& chain);
[[nodiscard]] std::string vendor_json(const verifier::Vendor& vendor);
[[nodiscard]] verifier::Vendor vendor_of(const std::string& name, const std::string& json);

// The CRLs of a vendor, each read once: who signed one is found by trying the store's certificates.
class CrlsOfVendor {
  public:
    CrlsOfVendor(std::vector<Buffer> all, const verifier::TrustStore& store);
    [[nodiscard]] bool has(const Buffer& der) const;
    [[nodiscard]] std::size_t size() const { return all_.size(); }
    // Of the same scope.
    [[nodiscard]] bool has_newer(const verifier::CrlFacts& facts) const;
    void drop_older(const verifier::CrlFacts& facts);  // and those that are as old
    void add(const Buffer& der, const verifier::CrlFacts& facts);
    [[nodiscard]] std::vector<Buffer> all() && { return std::move(all_); }

  private:
    std::vector<Buffer> all_;
    std::vector<std::optional<verifier::CrlFacts>> facts_;  // of each; nullopt: it cannot be read
};

// A change of an endpoint's state: audited, and written down for the actions. Within a write job, its last
// step.
struct StateChange {
    std::string endpoint, hostname, group;
    State from = State::kNew, to = State::kNew;
    std::string reason, policy;
};

struct Delivery;  // actions.cpp

// A CRL of the trust store, or one that is fetched and nobody there signed.
struct KnownCrl {
    std::optional<verifier::CrlFacts> facts;
    Service::Crl shown;
};

// When somebody agreed to an enrollment: to this one, now (an operator, or who gave out its token), or to the
// TPM beforehand (a registered EK). The latter says nothing of a vault that is another one than before: what
// is known of the endpoint's vaults stays.
enum class Agreement : std::uint8_t { kNow, kBeforehand };

struct Service::Inside {
    explicit Inside(const ServiceOptions& given);

    ServiceOptions options;
    Sealer sealer;
    std::unique_ptr<Database> database;
    std::unique_ptr<CertificateAuthority> authority;
    ResultKeys result_keys;
    Buffer nonce_key;
    std::mutex connection_refresh_mutex;  // held while they are read and put in place
    std::mutex connection_keys_mutex;     // of the next
    std::shared_ptr<const ConnectionKeys> connection_keys;

    using Assignments = std::map<std::string, std::vector<AssignedPolicy>>;  // by group
    std::mutex assignments_mutex;                                            // of the next two
    std::int64_t assignments_generation = -1;
    std::shared_ptr<const Assignments> assignments;

    Cache<LoadedPolicy> policies{64};
    Cache<verifier::AttestationKey> keys{4096};

    std::mutex trust_mutex;  // of the next five
    std::int64_t trust_generation = -1;
    std::shared_ptr<const verifier::TrustStore> trust_store;
    std::shared_ptr<const std::vector<KnownCrl>> trust_crls;
    // URLs that EK certificates name, by vendor, written down since the trust store was made.
    std::map<std::string, std::set<std::string>> trust_points;
    // Vendors whose certificates name more URLs than their share, and the generation that this was seen in.
    std::map<std::string, std::int64_t> trust_crowds;

    std::mutex sources_mutex;  // of the next two
    std::int64_t sources_generation = -1;
    Seconds sources_time = 0;

    std::mutex revocations_mutex;  // of the next three: the list as it was made last
    std::int64_t revocations_number = -1;
    Seconds revocations_time = 0;
    std::string revocations;

    std::mutex counts_mutex;  // of the next three
    Counts counted;           // without the enrollments
    Seconds counted_at = 0, counted_until = 0;

    std::atomic<std::int64_t> newest_nonce{0};
    std::atomic<Seconds> last_sweep{0};
    std::atomic<unsigned> audit_turns{0};
    struct {
        std::atomic<std::uint64_t> attestations{0}, accepted{0}, rejected{0}, enrollments{0}, delivered{0}, failed{0},
            crls_taken{0}, crls_unchanged{0}, crls_failed{0};
    } totals;

    [[nodiscard]] Seconds now() const;

    // Whose token's text or certificate has this SHA-256. A text begins with kTokenPrefix and a certificate
    // does not: neither can stand for the other.
    [[nodiscard]] std::optional<Principal> principal_of(const Sha256Digest& hash);
    void add_token(const Principal& by, const std::string& name, Role role, Seconds expires, const Sha256Digest& hash);

    // A write with its audit entry.
    void write(const AuditNote& note, const Database::Job& job);
    void refresh_connection_keys();
    template <typename Job>
    auto read(Job job) {
        std::invoke_result_t<Job, Session&> out{};
        database->read([&](Session& session) { out = job(session); });
        return out;
    }

    // attesting.cpp
    [[nodiscard]] Buffer new_nonce(const std::string& endpoint);
    [[nodiscard]] std::int64_t check_nonce(const std::string& endpoint, Bytes nonce);
    [[nodiscard]] std::shared_ptr<const verifier::AttestationKey> key(const Buffer& ak_public);
    // nullopt if the endpoint is not as `known` any more.
    [[nodiscard]] std::optional<protocol::AttestAnswer> judge_and_record(const KnownEndpoint& known,
                                                                         std::int64_t nonce_time,
                                                                         const EvidenceSet& evidence);
    // rules.cpp
    [[nodiscard]] std::shared_ptr<const Assignments> assignments_of(std::int64_t generation);
    [[nodiscard]] std::shared_ptr<const LoadedPolicy> policy(const std::string& name, std::uint64_t version);
    void withdraw(Session& session, const std::string& group, const std::string& policy);
    // vendors.cpp
    struct Trust {
        std::int64_t generation = -1;  // of settings 'vendors'
        std::shared_ptr<const verifier::TrustStore> store;
        std::shared_ptr<const std::vector<KnownCrl>> crls;
    };
    [[nodiscard]] Trust trust();
    void check_endorsements();
    [[nodiscard]] bool check_some_endorsements();
    // crls.cpp
    // URLs that EK certificates by trusted vendors name, as (URL, vendor).
    void keep_points(const Trust& by, const std::vector<std::pair<std::string, std::string>>& points);
    void refresh_crl_sources(const Trust& by);
    void forget_crls(const Trust& by);
    void note_crowds(const Trust& by, const std::set<std::string>& vendors);
    // Another server's settings may have it.
    [[nodiscard]] bool fetches(const CrlSourceRow& source) const;
    [[nodiscard]] Service::CrlFetch fetch_crl(CrlSourceRow source, const std::string& claim,
                                              const std::stop_token& stop);
    // enrollment.cpp
    void approve(Session& session, const std::string& id, const std::string& group, const std::string& who,
                 Agreement agreement);
    void drop_old_enrollments(Session& session);
    // actions.cpp
    void record_change(Session& session, const StateChange& change, const std::string& who);
    void deliver();
    [[nodiscard]] std::string make_revocation_list(Seconds now);
    void settle(const std::map<std::string, std::vector<Delivery>>& work, const std::string& claim);
    // fleet.cpp
    void mark_stale();
    void drop_old(Session& session);
};

}  // namespace gatehouse::server
