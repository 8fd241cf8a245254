// CRLs that the server has fetched, and where it fetches them from. Within a job.
#pragma once

#include "attestation/server/database/database.hpp"
#include "attestation/server/database/records.hpp"

namespace gatehouse::server {

// --- the lists

struct CrlRow {
    std::string scope;  // hex: CrlFacts::scope
    std::string url;    // that it came from
    std::string issuer, number;
    Seconds this_update = 0, next_update = 0;  // next_update 0: it does not say
    Seconds fetched = 0;                       // when it was first here
    Buffer content;                            // DER
};
[[nodiscard]] std::vector<CrlRow> list_crls(Session& session);  // by issuer, then scope
// Locked until the job ends, if it is there.
[[nodiscard]] std::optional<CrlRow> lock_crl(Session& session, const std::string& scope);
[[nodiscard]] bool has_crl(Session& session, const std::string& scope);
[[nodiscard]] std::int64_t count_crls(Session& session);
void put_crl(Session& session, const CrlRow& row);  // in place of that of the same scope
void drop_crl(Session& session, const std::string& scope);

// --- the sources

struct CrlSourceRow {
    std::string url;
    CrlOrigin origin = CrlOrigin::kSettings;
    std::string vendor;  // whose certificate names it; empty: the settings do
    Seconds seen = 0;    // when the settings or the trust store had it last
    Seconds due = 0;
    std::string tag, modified;  // validators of the last answer
    std::string scope;          // of the list that it gave last; empty: none yet
    Seconds tried = 0, fetched = 0;
    std::int64_t failures = 0;  // in a row
    std::string fault;          // of the last attempt; empty: it succeeded
};
[[nodiscard]] std::vector<CrlSourceRow> list_crl_sources(Session& session);  // by URL
// A new one is due at once. Of one that is there its origin stays unless the new one is of a vendor's CA.
void put_crl_source(Session& session, const std::string& url, CrlOrigin origin, const std::string& vendor, Seconds now);
void drop_crl_source(Session& session, const std::string& url);
// Those that an EK certificate of this vendor's names.
void drop_crl_sources_of(Session& session, const std::string& vendor);

// Those that are due and nobody has claimed, at most `limit`, the longest due first.
[[nodiscard]] std::vector<CrlSourceRow> list_crl_sources_due(Session& session, Seconds now, unsigned limit);
// False if somebody else has done so, or it is not due any more. A claim ends by itself at `until`.
[[nodiscard]] bool claim_crl_source(Session& session, const std::string& url, const std::string& claim, Seconds now,
                                    Seconds until);
// What came of it; the claim ends. False, and nothing is written, if the claim is not held any more.
[[nodiscard]] bool settle_crl_source(Session& session, const CrlSourceRow& row, const std::string& claim);
// Those that failed at the last attempt.
[[nodiscard]] std::vector<CrlSourceRow> list_crl_sources_failing(Session& session);
// From now on they are due.
void hurry_crl_sources(Session& session, Seconds now);
void hurry_crl_sources_with_fault(Session& session, Seconds now);

}  // namespace gatehouse::server
