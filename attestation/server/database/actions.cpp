#include "attestation/server/database/actions.hpp"

#include "attestation/server/database/record.hpp"

namespace gatehouse::server {

template <>
inline constexpr auto kColumns<ActionRow> =
    std::tuple{Column{"name", &ActionRow::name}, Column{"kind", &ActionRow::kind}, Column{"target", &ActionRow::target},
               Column{"secret", &ActionRow::secret}};

template <>
inline constexpr auto kColumns<ActionSummary> =
    std::tuple{Column{"name", &ActionSummary::name}, Column{"kind", &ActionSummary::kind},
               Column{"target", &ActionSummary::target}};

template <>
inline constexpr auto kColumns<EventRow> = std::tuple{
    Column{"number", &EventRow::number}, Column{"event", &EventRow::event}, Column{"attempts", &EventRow::attempts}};

bool add_action(Session& session, const ActionRow& action) { return insert_new(session, "actions", "name", action); }

bool remove_action(Session& session, const std::string& name) {
    const bool known = erase(session, "actions", {{"name", name}}) != 0;
    erase(session, "outbox", {{"action", name}});
    return known;
}

bool has_action(Session& session, const std::string& name) {
    return exists(session, "FROM actions WHERE name = $1", {name});
}

std::vector<ActionRow> list_actions(Session& session) {
    return select<ActionRow>(session, "FROM actions ORDER BY name");
}

std::vector<ActionSummary> list_action_summaries(Session& session) {
    return select<ActionSummary>(session, "FROM actions ORDER BY name");
}

void add_event(Session& session, const std::string& event, Seconds now) {
    session.execute(
        "INSERT INTO outbox (action, event, created, attempts, due, claim, claimed_until) "
        "SELECT name, CAST($1 AS TEXT), CAST($2 AS BIGINT), 0, CAST($2 AS BIGINT), '', 0 FROM actions",
        {event, now});
}

bool has_event_due(Session& session, Seconds now) {
    return exists(session, "FROM outbox WHERE due <= $1 AND claimed_until < $1 LIMIT 1", {now});
}

std::vector<EventRow> claim_events(Session& session, const std::string& action, const std::string& claim, Seconds now,
                                   Seconds until, unsigned most) {
    return returning<EventRow>(session,
                               "UPDATE outbox SET claim = $1, claimed_until = $2 WHERE number IN "
                               "(SELECT number FROM outbox WHERE action = $5 AND due <= $3 AND claimed_until < $3 "
                               "ORDER BY number LIMIT $4 /*+ FOR UPDATE SKIP LOCKED +*/)",
                               {claim, until, now, most, action});
}

void drop_event(Session& session, std::int64_t number, const std::string& claim) {
    erase(session, "outbox", {{"number", number}, {"claim", claim}});
}

void postpone_event(Session& session, std::int64_t number, const std::string& claim, std::int64_t attempts,
                    Seconds due) {
    update(session, "outbox", {{"attempts", attempts}, {"due", due}, {"claimed_until", 0}},
           {{"number", number}, {"claim", claim}});
}

void drop_orphaned_events(Session& session) {
    session.execute("DELETE FROM outbox WHERE action NOT IN (SELECT name FROM actions)");
}

}  // namespace gatehouse::server
