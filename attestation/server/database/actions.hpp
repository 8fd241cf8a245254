// Actions, and the events that they are still to be told of. Within a job.
#pragma once

#include "attestation/server/database/database.hpp"
#include "attestation/server/database/records.hpp"

namespace gatehouse::server {

struct ActionRow {
    std::string name, kind, target;
    Buffer secret;  // sealed
};
[[nodiscard]] bool add_action(Session& session, const ActionRow& action);     // false if there is one of that name
[[nodiscard]] bool remove_action(Session& session, const std::string& name);  // its events go as well
[[nodiscard]] bool has_action(Session& session, const std::string& name);
[[nodiscard]] std::vector<ActionRow> list_actions(Session& session);  // by name
struct ActionSummary {
    std::string name, kind, target;
};
[[nodiscard]] std::vector<ActionSummary> list_action_summaries(Session& session);  // by name

// --- events
struct EventRow {
    std::int64_t number = 0;
    std::string event;  // JSON
    std::int64_t attempts = 0;
};
void add_event(Session& session, const std::string& event, Seconds now);  // for each action that there is
[[nodiscard]] bool has_event_due(Session& session, Seconds now);
// Takes those that are due for an action, the oldest first, and that no other process has: nobody else does until then.
// The answer has no order.
[[nodiscard]] std::vector<EventRow> claim_events(Session& session, const std::string& action, const std::string& claim,
                                                 Seconds now, Seconds until, unsigned most);
// Both if the claim still is on it.
void drop_event(Session& session, std::int64_t number, const std::string& claim);
void postpone_event(Session& session, std::int64_t number, const std::string& claim, std::int64_t attempts,
                    Seconds due);
void drop_orphaned_events(Session& session);  // of actions that are gone

}  // namespace gatehouse::server
