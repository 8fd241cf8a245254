// What the attestation server does, without HTTP: enrollment, attestation, policies, fleet, audit. The REST
// interface and the web page are both made of these calls and of nothing else.
//
// Thread-safe; calls block (database, group commit) and are to be made from worker threads. What a call
// acknowledges by returning is on disk. Authorization is checked here: a call by a principal of too low a
// role throws. Errors are ServiceError; anything else that is thrown is a fault of the server (500).
#pragma once

#include <functional>
#include <memory>
#include <stop_token>

#include "attestation/formats/ear.hpp"
#include "attestation/protocol/messages.hpp"
#include "attestation/server/audit_actions.hpp"
#include "attestation/server/collection.hpp"
#include "attestation/server/connection_keys.hpp"
#include "attestation/server/database/records.hpp"
#include "attestation/verifier/endorsement.hpp"

namespace gatehouse::server {

class ServiceError : public std::runtime_error {
  public:
    // `status`: the HTTP status; `code`: stable short name; `retry_after`: seconds, 0 for none.
    ServiceError(unsigned status, std::string code, const std::string& message, unsigned retry_after = 0)
        : std::runtime_error(message), status_(status), code_(std::move(code)), retry_after_(retry_after) {}
    [[nodiscard]] unsigned status() const { return status_; }
    [[nodiscard]] const std::string& code() const { return code_; }
    [[nodiscard]] unsigned retry_after() const { return retry_after_; }

  private:
    unsigned status_;
    std::string code_;
    unsigned retry_after_;
};

// How CRLs are fetched: service.hpp's fetch_crls().
struct CrlOptions {
    bool fetch = false;
    std::vector<std::string> urls;      // besides those that trusted certificates name
    std::string proxy;                  // "http://HOST:PORT"; empty: none
    bool private_addresses = false;     // whether loopback, link-local and private addresses may be asked
    std::size_t most_bytes = 4u << 20;  // of one
    unsigned patience_s = 30;           // for one
    unsigned hours = 24;                // from one attempt to the next; less if the list ends before
};

struct ServiceOptions {
    std::string database;   // "sqlite:PATH" or "postgresql://..."
    std::string directory;  // CA key, result-signing key, trust store; made on first use, mode 0700
    std::string issuer = "gatehouse";
    unsigned nonce_lifetime_s = 120;
    unsigned enrollment_lifetime_s = 900;  // from challenge to activation
    unsigned certificate_days = 90;        // of client certificates
    unsigned waiting_days = 7;             // after which an enrollment that nobody approved is rejected
    unsigned history_days = 90;            // attestations older than that are dropped
    unsigned history_runs = 1000;          // of one endpoint; more are dropped, the oldest first
    // Challenges that are not answered yet, and enrollments that wait, before strangers are told to come
    // later.
    std::int64_t most_open_enrollments = 4096;
    // A database of many endpoints takes seconds to count them: their numbers are given out again for a second for each so
    // many of them.
    std::int64_t endpoints_counted_a_second = 50'000;
    CrlOptions crl;
    std::function<Seconds()> clock;  // tests; default: the system's
};

class Service {
  public:
    // Opens or creates the database, migrates it; creates keys that are not there. ToolError.
    explicit Service(const ServiceOptions& options);
    ~Service();

    // --- set-up. On the first run there is no admin token: this makes one and returns its text, once;
    // nullopt afterwards.
    [[nodiscard]] std::optional<std::string> first_admin_token();
    [[nodiscard]] std::string ca_certificate() const;  // PEM
    // A certificate for the server itself: names and addresses as subjectAltName. PEM chain and private key.
    struct KeyPair {
        std::string certificate, key;
    };
    [[nodiscard]] KeyPair server_certificate(const std::vector<std::string>& names);
    // PEM, public: what results and revocation lists are signed by from now on.
    [[nodiscard]] std::string result_key() const;
    // The same, and those before it whose last result has not expired yet, as a JWK set (RFC 7517).
    [[nodiscard]] std::string result_jwks();
    // Admin. The new key's id; those before stay in the set for kResultKeyOverlap. ServiceError (409) if another server has
    // just done it.
    std::string rotate_result_key(const Principal& by);

    // --- who asks
    // The token's principal; nullopt if it is unknown or expired. Constant time in the token.
    [[nodiscard]] std::optional<Principal> authenticate(std::string_view token);
    // The endpoint of a client certificate that the TLS layer has verified against ca_certificate(), or by a key of
    // connection_keys(): by the SHA-256 of its DER, which must be the endpoint's present one. nullopt: unknown,
    // superseded or retired.
    [[nodiscard]] std::optional<std::string> endpoint_of_certificate(const Sha256Digest& certificate);
    // Of one that is nobody's: whether it was an endpoint's when that was retired.
    [[nodiscard]] bool is_of_retired(const Sha256Digest& certificate);
    // The principal of an operator's client certificate, verified likewise, by the SHA-256 of its DER.
    // nullopt: unknown, revoked or expired; an endpoint's certificate is nobody's here.
    [[nodiscard]] std::optional<Principal> authenticate_certificate(const Sha256Digest& certificate);
    // What opens connections in place of an endpoint's certificate; the same in all servers of one database.
    [[nodiscard]] std::shared_ptr<const ConnectionKeys> connection_keys() const;
    // Admin. Makes all that were given out void, and ends what they have opened: here at once, at the other servers of the
    // database within about a minute (tick()).
    void rotate_connection_keys(const Principal& by);
    [[nodiscard]] Seconds now() const;  // by the clock of the options
    // `lifetime_s` 0: does not expire. Returns the token's text, shown once; only its hash is kept.
    [[nodiscard]] std::string create_token(const Principal& by, const std::string& name, Role role, Seconds lifetime_s);
    // A client certificate (PEM) for the key of `csr` (PEM), in place of a token's text: for the web page. It
    // is listed and revoked like a token. `lifetime_s` 0: as long as an endpoint's.
    [[nodiscard]] std::string create_certificate(const Principal& by, const std::string& name, Role role,
                                                 Seconds lifetime_s, const std::string& csr);
    [[nodiscard]] std::vector<Token> tokens(const Principal& by);
    void revoke_token(const Principal& by, const std::string& name);

    // --- enrollment
    [[nodiscard]] protocol::EnrollChallenge enroll(const protocol::EnrollRequest& given);
    [[nodiscard]] protocol::EnrollStatus activate(const std::string& id, Bytes secret);
    [[nodiscard]] protocol::EnrollStatus enrollment_status(const std::string& id, Bytes secret);
    [[nodiscard]] Page<Enrollment> enrollments(const Principal& by, const std::string& state, const std::string& cursor,
                                               unsigned limit);
    [[nodiscard]] Enrollment enrollment(const Principal& by, const std::string& id);
    // Approving one that replaces an endpoint retires the old one's key and keeps its history (re-enroll,
    // re-image).
    void approve(const Principal& by, const std::string& id, const std::string& group);
    void reject(const Principal& by, const std::string& id, const std::string& reason);
    // One-time token that auto-approves into `group`; its text, once.
    [[nodiscard]] std::string create_enrollment_token(const Principal& by, const std::string& group,
                                                      Seconds lifetime_s);
    // EK hashes (hex, endorsement_hash()) that are approved into `group` when they come.
    void register_endorsement(const Principal& by, const std::string& ek_hash, const std::string& group);
    // Replaces one of the same name. What of it was passed over, and why: TrustStore::add().
    std::vector<std::string> add_vendor(const Principal& by, const verifier::Vendor& vendor);
    // With either, and with new CRLs, each endpoint's EK certificate is checked again, by and by: one that no
    // vendor vouches for any more is untrusted until one does, or until it is enrolled and approved again.
    void remove_vendor(const Principal& by, const std::string& name);
    [[nodiscard]] std::vector<std::string> vendors(const Principal& by);
    struct VendorCa {
        bool root = false;
        std::string subject;
        std::string sha256;        // of its DER, hex
        Seconds from = 0, to = 0;  // since the epoch; may be before it
    };
    struct TrustedVendor {
        std::string name;
        bool require_crl = false;
        std::vector<VendorCa> cas;  // that are trusted: without what was passed over
    };
    [[nodiscard]] TrustedVendor vendor(const Principal& by, const std::string& name);

    // --- a public collection of vendors' CAs (collection.hpp), joined to what is trusted. All of it is taken in one step, or
    // nothing; what is there already stays, so that the same once more changes nothing.
    struct ImportedVendor {
        std::string name;
        std::size_t roots = 0, intermediates = 0, crls = 0;  // that it has now
        std::vector<std::string> added;                      // "root CN=... (place)"
        // Certificates that are trusted and not in the collection: they stay, unless they are to go.
        std::vector<std::string> missing;
        std::size_t removed = 0;  // of them
    };
    struct Import {
        std::vector<ImportedVendor> vendors;
        std::vector<PassedOver> passed_over;  // the collection's, and what has come to light by what is trusted
        std::vector<std::string> absent;      // trusted vendors that the collection does not have: they stay
        bool changed = false;                 // whether anything is other than before
    };
    enum class Missing : std::uint8_t { kStays, kGoes };
    // `dry`: only told. ServiceError (409) if the vendors were changed meanwhile.
    Import import_vendors(const Principal& by, const Collection& collection, Missing missing, bool dry);

    // --- CRLs of the vendors' CAs: those that vendors were given with, and those that the server fetches
    struct Crl {
        std::string issuer, number;                // number: hexadecimal, or empty
        Seconds this_update = 0, next_update = 0;  // next_update 0: it does not say
        Seconds fetched = 0;                       // 0: given with its vendor
        std::string url;                           // that it was fetched from
        std::vector<std::string> vendors;  // whose CA signed it; empty: nobody's that is trusted, it has no effect
        std::string fault;                 // why it cannot be read; nothing else is then known of it
    };
    struct CrlSource {
        std::string url;
        CrlOrigin origin = CrlOrigin::kSettings;
        std::string vendor;              // whose certificate names it
        Seconds due = 0;                 // the next attempt
        Seconds tried = 0, fetched = 0;  // the last attempt, and the last that was good; 0: none yet
        std::int64_t failures = 0;       // in a row
        std::string fault;               // of the last attempt, or why there is none
    };
    struct Crls {
        bool fetching = false;  // by the settings of this server
        std::vector<Crl> lists;
        std::vector<CrlSource> sources;
        // Vendors whose certificates name more URLs than each vendor's share of the sources, as far as this server has
        // seen: of theirs some are not fetched.
        std::vector<std::string> crowds;
    };
    [[nodiscard]] Crls crls(const Principal& by);
    struct CrlHealth {
        std::int64_t lists = 0, ended = 0;  // that are in effect; of them past their nextUpdate
        std::int64_t failing = 0;           // sources of this server's whose last attempt failed
    };
    [[nodiscard]] CrlHealth crl_health();
    [[nodiscard]] std::vector<std::string> crl_crowds();  // Crls::crowds
    // Operator. All sources are due, whatever was said of the next attempt; the servers that fetch begin within seconds.
    // ServiceError (409) if this one does not.
    void hurry_crls(const Principal& by);
    // One attempt at a source.
    struct CrlFetch {
        std::string url;
        std::string issuer;     // of the list that was taken; empty: none, or it has not changed
        std::string fault;      // why there is none; empty: it was taken, or has not changed
        bool was_good = false;  // whether the attempt before was
    };
    // Fetches what is due and no other server is at, if the options say so; a list is taken if a trusted vendor's CA has
    // signed it and it is not older than the one that is kept. To be called every few seconds, from a thread of its own: it
    // takes as long as the slowest sources do, and returns soon after `stop` is asked for.
    std::vector<CrlFetch> fetch_crls(const std::stop_token& stop);
    [[nodiscard]] std::string renew_certificate(const std::string& endpoint, const std::string& csr);  // PEM

    // --- attestation
    [[nodiscard]] protocol::NonceAnswer nonce(const std::string& endpoint);
    [[nodiscard]] protocol::AttestAnswer attest(const std::string& endpoint, const protocol::AttestRequest& request);
    // An operator wants evidence now; the endpoint's agent learns it through wanted().
    void request_attestation(const Principal& by, const std::string& endpoint);
    // Whether evidence is wanted; clears the wish.
    [[nodiscard]] bool wanted(const std::string& endpoint);
    // The same for all endpoints that wait, of those that were asked within the last seconds: wishes are
    // looked at once before a wait, and by this about every second during it. One read, and a write if there
    // is any.
    [[nodiscard]] std::vector<std::string> take_wishes(const std::function<bool(const std::string& endpoint)>& waits);

    // --- fleet
    [[nodiscard]] Page<Endpoint> endpoints(const Principal& by, const EndpointQuery& query);
    [[nodiscard]] Endpoint endpoint(const Principal& by, const std::string& id);
    // What vendors say of each EK that it was let in with; none if no vendor vouched for any.
    [[nodiscard]] std::vector<Endorsement> endorsements(const Principal& by, const std::string& endpoint);
    [[nodiscard]] Page<Attestation> history(const Principal& by, const std::string& endpoint, const std::string& cursor,
                                            unsigned limit);
    [[nodiscard]] std::optional<Attestation> last_attestation(const Principal& by, const std::string& endpoint);
    // The last attestation's result, good until the lease's present end at most: signed anew if by another profile, or if it
    // said more; nullopt if there is none. ServiceError (410) if its key is not published any more, if it is not of this
    // endpoint's last attestation, or was good and the endpoint is retired or untrusted. `profile`: offered in this form.
    [[nodiscard]] std::optional<Buffer> last_result(const Principal& by, const std::string& endpoint,
                                                    formats::ResultProfile profile, formats::ResultForm form);
    void move_to_group(const Principal& by, const std::string& endpoint, const std::string& group);
    void retire(const Principal& by, const std::string& endpoint, const std::string& reason);
    // Of a moment ago, if the fleet is large (endpoints_counted_a_second).
    [[nodiscard]] Counts counts(const Principal& by);
    [[nodiscard]] std::vector<TimePoint> time_line(const Principal& by, unsigned hours);
    [[nodiscard]] std::vector<std::string> groups(const Principal& by);
    void create_group(const Principal& by, const std::string& group);

    // --- policies
    void add_policy_authority(const Principal& by, const std::string& name, const std::string& public_key_pem);
    // Its policies cannot be assigned any more. ServiceError (409) naming one that still is, and that no
    // other authority signed.
    void remove_policy_authority(const Principal& by, const std::string& name);
    [[nodiscard]] std::vector<std::string> policy_authorities(const Principal& by);
    [[nodiscard]] PolicyVersion add_policy(const Principal& by, const std::string& jws);
    [[nodiscard]] std::vector<PolicyVersion> policies(const Principal& by);
    [[nodiscard]] PolicyVersion policy(const Principal& by, const std::string& name, std::uint64_t version);
    void assign(const Principal& by, const std::string& group, const std::string& policy, std::uint64_t version,
                Stage stage);
    void unassign(const Principal& by, const std::string& group, const std::string& policy, std::uint64_t version);
    [[nodiscard]] std::vector<Assignment> assignments(const Principal& by);
    // The endpoints of the group whose last evidence the policy refused (`would_fail` of the assignment), as
    // it was judged when it came: of a policy that only reports, those that would be untrusted if it alone
    // were enforced.
    [[nodiscard]] Page<Refusal> refused(const Principal& by, const RefusedQuery& query);
    // What an endpoint's last evidence would have to change to be good under a policy: one line for each
    // difference.
    [[nodiscard]] std::vector<std::string> explain(const Principal& by, const std::string& endpoint,
                                                   const std::string& policy, std::uint64_t version);

    // --- actions on a change of state
    struct Action {
        std::string name;
        std::string kind;    // "webhook", "command"
        std::string target;  // URL; or the path of a program in the server's actions directory
        std::string secret;  // webhook: HMAC-SHA-256 key of the header Gatehouse-Signature; not returned by actions()
    };
    void add_action(const Principal& by, const Action& action);
    void remove_action(const Principal& by, const std::string& name);
    [[nodiscard]] std::vector<Action> actions(const Principal& by);
    // JWS, typ "gatehouse-revocations+jws": {"iat", "exp", "issuer", "number", "endpoints": [{"id",
    // "ek_hash", "since", "reason"}]}: endpoints that are untrusted, stale or retired.
    [[nodiscard]] std::string revocation_list();

    // --- escrow
    // What is kept under a name stays as it is until an administrator removes it: an endpoint in the wrong hands must not
    // take its recovery key away from who will need it. The same blob again is no error.
    void put_escrow(const std::string& endpoint, const protocol::EscrowRequest& request);
    [[nodiscard]] std::vector<std::string> escrow_names(const Principal& by, const std::string& endpoint);
    [[nodiscard]] Buffer get_escrow(const Principal& by, const std::string& endpoint,
                                    const std::string& name);                                       // admin; audited
    void remove_escrow(const Principal& by, const std::string& endpoint, const std::string& name);  // admin

    // --- audit
    [[nodiscard]] Page<AuditEntry> audit(const Principal& by, const std::string& cursor,
                                         unsigned limit);  // newest first
    struct AuditCheck {
        bool ok;
        std::int64_t entries;
        std::string head;
        std::string fault;
    };
    // A turn at reading the whole log by one of the next two, which takes long, and with a slow reader
    // longer: for as long as what is returned lives. ServiceError (503) while two others have one.
    [[nodiscard]] std::shared_ptr<void> audit_turn();
    [[nodiscard]] AuditCheck verify_audit();
    void export_audit(const std::function<void(const AuditEntry&)>& each);
    // A failed log-in and the like, from the layers above.
    void note(const std::string& who, AuditAction action, const std::string& subject, const std::string& detail_json);

    // --- house-keeping: marks what has become stale, delivers actions, drops what is old. To be called about
    // once a second, from a thread of its own: a webhook or a command that hangs holds it up for some
    // seconds.
    void tick();
    void backup(const std::string& path);  // while running; SQLite only (ToolError names pg_dump otherwise)
    [[nodiscard]] bool healthy();          // the database answers
    struct Totals {
        std::uint64_t attestations, accepted, rejected, enrollments, actions_delivered, actions_failed;
        std::uint64_t crls_taken, crls_unchanged, crls_failed;  // attempts at their sources
    };
    [[nodiscard]] Totals totals() const;

  private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

}  // namespace gatehouse::server
