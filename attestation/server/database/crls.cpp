#include "attestation/server/database/crls.hpp"

#include "attestation/server/database/record.hpp"

namespace gatehouse::server {

template <>
inline constexpr auto kColumns<CrlRow> = std::tuple{Column{"scope", &CrlRow::scope},
                                                    Column{"url", &CrlRow::url},
                                                    Column{"issuer", &CrlRow::issuer},
                                                    Column{"number", &CrlRow::number},
                                                    Column{"this_update", &CrlRow::this_update},
                                                    Column{"next_update", &CrlRow::next_update},
                                                    Column{"fetched", &CrlRow::fetched},
                                                    Column{"content", &CrlRow::content}};

template <>
inline constexpr auto kColumns<CrlSourceRow> =
    std::tuple{Column{"url", &CrlSourceRow::url},           Column{"origin", &CrlSourceRow::origin},
               Column{"vendor", &CrlSourceRow::vendor},     Column{"seen", &CrlSourceRow::seen},
               Column{"due", &CrlSourceRow::due},           Column{"tag", &CrlSourceRow::tag},
               Column{"modified", &CrlSourceRow::modified}, Column{"scope", &CrlSourceRow::scope},
               Column{"tried", &CrlSourceRow::tried},       Column{"fetched", &CrlSourceRow::fetched},
               Column{"failures", &CrlSourceRow::failures}, Column{"fault", &CrlSourceRow::fault}};

std::vector<CrlRow> list_crls(Session& session) { return select<CrlRow>(session, "FROM crls ORDER BY issuer, scope"); }

std::optional<CrlRow> lock_crl(Session& session, const std::string& scope) {
    return find<CrlRow>(session, "FROM crls WHERE scope = $1 /*+ FOR UPDATE +*/", {scope});
}

bool has_crl(Session& session, const std::string& scope) {
    return exists(session, "FROM crls WHERE scope = $1", {scope});
}

std::int64_t count_crls(Session& session) { return number(session, "SELECT COUNT(*) FROM crls"); }

void put_crl(Session& session, const CrlRow& row) { put(session, "crls", "scope", row); }

void drop_crl(Session& session, const std::string& scope) { erase(session, "crls", {{"scope", scope}}); }

std::vector<CrlSourceRow> list_crl_sources(Session& session) {
    return select<CrlSourceRow>(session, "FROM crl_sources ORDER BY url");
}

void put_crl_source(Session& session, const std::string& url, CrlOrigin origin, const std::string& vendor,
                    Seconds now) {
    session.execute(
        "INSERT INTO crl_sources (url, origin, vendor, seen, due, claim, claimed_until, tag, modified, scope, tried, "
        "fetched, failures, fault) VALUES ($1, $2, $3, $4, $4, '', 0, '', '', '', 0, 0, 0, '') "
        "ON CONFLICT (url) DO UPDATE SET seen = $4, "
        "origin = CASE WHEN excluded.origin = $5 THEN excluded.origin ELSE crl_sources.origin END, "
        "vendor = CASE WHEN excluded.origin = $5 THEN excluded.vendor ELSE crl_sources.vendor END",
        {url, origin, vendor, now, CrlOrigin::kCa});
}

void drop_crl_source(Session& session, const std::string& url) { erase(session, "crl_sources", {{"url", url}}); }

void drop_crl_sources_of(Session& session, const std::string& vendor) {
    erase(session, "crl_sources", {{"origin", CrlOrigin::kEndorsement}, {"vendor", vendor}});
}

std::vector<CrlSourceRow> list_crl_sources_due(Session& session, Seconds now, unsigned limit) {
    return select<CrlSourceRow>(
        session, "FROM crl_sources WHERE due <= $1 AND claimed_until < $1 ORDER BY due, url LIMIT $2", {now, limit});
}

bool claim_crl_source(Session& session, const std::string& url, const std::string& claim, Seconds now, Seconds until) {
    return session.execute(
               "UPDATE crl_sources SET claim = $1, claimed_until = $2 WHERE url = $3 AND due <= $4 AND "
               "claimed_until < $4",
               {claim, until, url, now}) == 1;
}

bool settle_crl_source(Session& session, const CrlSourceRow& row, const std::string& claim) {
    return update(session, "crl_sources",
                  {{"due", row.due},
                   {"claimed_until", 0},
                   {"claim", ""},
                   {"tag", row.tag},
                   {"modified", row.modified},
                   {"scope", row.scope},
                   {"tried", row.tried},
                   {"fetched", row.fetched},
                   {"failures", row.failures},
                   {"fault", row.fault}},
                  {{"url", row.url}, {"claim", claim}}) == 1;
}

std::vector<CrlSourceRow> list_crl_sources_failing(Session& session) {
    return select<CrlSourceRow>(session, "FROM crl_sources WHERE failures > 0 ORDER BY url");
}

void hurry_crl_sources(Session& session, Seconds now) {
    session.execute("UPDATE crl_sources SET due = $1 WHERE due > $1", {now});
}

void hurry_crl_sources_with_fault(Session& session, Seconds now) {
    session.execute("UPDATE crl_sources SET due = $1 WHERE due > $1 AND fault <> ''", {now});
}

}  // namespace gatehouse::server
