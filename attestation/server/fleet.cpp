// The fleet: endpoints, their history, counts, groups, escrow; and how endpoints turn stale.
#include <nlohmann/json.hpp>

#include "attestation/server/database/actions.hpp"
#include "attestation/server/database/administration.hpp"
#include "attestation/server/database/enrollments.hpp"
#include "attestation/server/inside.hpp"

namespace gatehouse::server {
namespace {

constexpr std::size_t kMostEscrowBlob = 64 * 1024;
constexpr std::int64_t kMostEscrowBlobs = 16;
constexpr unsigned kMostStaleAtOnce = 500;
constexpr std::int64_t kMostDroppedAtOnce = 10'000;
constexpr Seconds kHour = 3600;

void demand_endpoint(Session& session, const std::string& id) {
    if (!has_endpoint(session, id)) not_found(endpoint_name(clean_text(id, 64)));
}

}  // namespace

Page<Endpoint> Service::endpoints(const Principal& by, const EndpointQuery& query) {
    demand_role(by, Role::kReadOnly);
    const Seconds now = inside_->now();
    const unsigned size = page_size(query.limit);
    Page<Endpoint> page;
    page.rows = inside_->read([&](Session& session) { return list_endpoints(session, query, size + 1, now); });
    if (page.rows.size() > size) {
        page.rows.pop_back();
        page.next = page.rows.back().id;
    }
    return page;
}

Endpoint Service::endpoint(const Principal& by, const std::string& id) {
    demand_role(by, Role::kReadOnly);
    auto found = inside_->read([&](Session& session) { return find_endpoint(session, id, inside_->now()); });
    if (!found) not_found(endpoint_name(clean_text(id, 64)));
    return std::move(*found);
}

std::vector<Endorsement> Service::endorsements(const Principal& by, const std::string& endpoint) {
    demand_role(by, Role::kReadOnly);
    return inside_->read([&](Session& session) {
        demand_endpoint(session, endpoint);
        return list_endorsements(session, endpoint);
    });
}

Page<Attestation> Service::history(const Principal& by, const std::string& endpoint, const std::string& cursor,
                                   unsigned limit) {
    demand_role(by, Role::kReadOnly);
    const unsigned size = page_size(limit);
    const std::int64_t before = cursor.empty() ? std::numeric_limits<std::int64_t>::max() : number_of_cursor(cursor);
    Page<Attestation> page;
    page.rows = inside_->read([&](Session& session) {
        demand_endpoint(session, endpoint);
        return list_history(session, endpoint, before, size + 1);
    });
    if (page.rows.size() > size) {
        page.rows.pop_back();
        page.next = std::to_string(page.rows.back().number);
    }
    return page;
}

void Service::request_attestation(const Principal& by, const std::string& endpoint) {
    demand_role(by, Role::kOperator);
    inside_->write({by.name, "endpoint.request", clean_text(endpoint, 64)}, [&](Session& session) {
        demand_endpoint(session, endpoint);
        want_evidence(session, endpoint, inside_->now());
    });
}

bool Service::wanted(const std::string& endpoint) {
    if (!inside_->read([&](Session& session) { return is_evidence_wanted(session, endpoint); })) return false;
    bool mine = false;
    inside_->database->write([&](Session& session) { mine = take_wish(session, endpoint); });
    return mine;
}

std::vector<std::string> Service::take_wishes(const std::function<bool(const std::string&)>& waits) {
    constexpr Seconds kRecent = 15;  // servers of one database need not agree on the second
    std::vector<std::string> asked, mine;
    for (std::string& one :
         inside_->read([&](Session& session) { return list_wishes(session, inside_->now() - kRecent); })) {
        if (waits(one)) asked.push_back(std::move(one));
    }
    if (asked.empty()) return {};
    inside_->database->write([&](Session& session) {
        mine.clear();
        for (const std::string& endpoint : asked) {
            if (take_wish(session, endpoint)) mine.push_back(endpoint);
        }
    });
    return mine;
}

void Service::move_to_group(const Principal& by, const std::string& endpoint, const std::string& group) {
    demand_role(by, Role::kOperator);
    const nlohmann::json detail{{"group", clean_text(group, 64)}};
    inside_->write({by.name, "endpoint.move", clean_text(endpoint, 64), detail.dump()}, [&](Session& session) {
        demand_endpoint(session, endpoint);
        if (!has_group(session, group)) not_found("group \"" + group + "\"");
        // The verdict was by the old group's policies: the new one's are to be tried soon, and the verdict does not
        // stand for long without.
        set_group(session, endpoint, group, inside_->now(), inside_->now() + kGrace);
    });
}

void Service::retire(const Principal& by, const std::string& endpoint, const std::string& reason) {
    demand_role(by, Role::kOperator);
    const std::string why = clean_text(reason, 1024);
    inside_->database->write([&](Session& session) {
        const auto found = lock_summary(session, endpoint);
        if (!found) not_found(endpoint_name(clean_text(endpoint, 64)));
        if (found->state == State::kRetired)
            throw ServiceError(409, "retired", endpoint_name(endpoint) + " is retired already");
        set_retired(session, endpoint, inside_->now(), why);
        inside_->record_change(
            session, {endpoint, found->hostname, found->group, found->state, State::kRetired, why, ""}, by.name);
    });
}

namespace {

Counts count_endpoints(Session& session, Seconds now) {
    Counts counts;
    for (const auto& [state, many] : count_states(session)) {
        switch (state) {
            case State::kNew: counts.fresh = many; break;
            case State::kTrusted: counts.trusted = many; break;
            case State::kUnmeasured: counts.unmeasured = many; break;
            case State::kUntrusted: counts.untrusted = many; break;
            case State::kStale: counts.stale = many; break;
            case State::kRetired: counts.retired = many; break;
        }
    }
    // Those whose lease is over, and nobody noticed yet.
    const auto silent = [&](State state, std::int64_t& of_state) {
        const std::int64_t many = count_leases_ended(session, state, now);
        of_state -= many;
        counts.stale += many;
    };
    silent(State::kTrusted, counts.trusted);
    silent(State::kUnmeasured, counts.unmeasured);
    return counts;
}

}  // namespace

// Whoever asks while others count waits for them, and takes theirs.
Counts Service::counts(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    const std::lock_guard lock(inside_->counts_mutex);
    const Seconds now = inside_->now();
    Counts& known = inside_->counted;
    inside_->database->read([&](Session& session) {
        if (now >= inside_->counted_until || now < inside_->counted_at) {  // or the clock was set back
            known = count_endpoints(session, now);
            const std::int64_t all =
                known.fresh + known.trusted + known.unmeasured + known.untrusted + known.stale + known.retired;
            inside_->counted_at = now;
            inside_->counted_until = now + all / inside_->options.endpoints_counted_a_second;
        }
        known.enrollments_waiting = count_waiting_enrollments(session);
    });
    return known;
}

std::vector<TimePoint> Service::time_line(const Principal& by, unsigned hours) {
    demand_role(by, Role::kReadOnly);
    const Seconds last = inside_->now() / kHour * kHour;
    const Seconds many = std::clamp<Seconds>(hours, 1, 24 * 90);
    std::vector<TimePoint> line;
    for (Seconds hour = last - (many - 1) * kHour; hour <= last; hour += kHour) line.push_back({hour, 0, 0, 0});
    for (const TimePoint& one :
         inside_->read([&](Session& session) { return list_hours(session, line.front().hour, last); })) {
        line.at(static_cast<std::size_t>((one.hour - line.front().hour) / kHour)) = one;
    }
    return line;
}

std::vector<std::string> Service::groups(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    return inside_->read([](Session& session) { return list_groups(session); });
}

void Service::create_group(const Principal& by, const std::string& group) {
    demand_role(by, Role::kOperator);
    demand_name(group, "group");
    inside_->write({by.name, "group.create", group}, [&](Session& session) {
        if (!add_group(session, group))
            throw ServiceError(409, "exists", "group \"" + group + "\": there is one of that name");
    });
}

// --- escrow

void Service::put_escrow(const std::string& endpoint, const protocol::EscrowRequest& request) {
    demand_name(request.name, "name");
    if (request.blob.empty() || request.blob.size() > kMostEscrowBlob)
        throw ServiceError(413, "size", "blob: empty, or larger than 64 KiB");
    const nlohmann::json detail{{"name", request.name}, {"sha256", host::hex(sha256(request.blob))}};
    inside_->write({endpoint_name(endpoint), "escrow.put", endpoint, detail.dump()}, [&](Session& session) {
        demand_endpoint(session, endpoint);
        if (const auto kept = find_escrow(session, endpoint, request.name)) {
            if (*kept == request.blob) return;
            throw ServiceError(409, "exists",
                               "name: another blob is kept under it, which only an administrator removes");
        }
        if (count_escrow(session, endpoint) >= kMostEscrowBlobs)
            throw ServiceError(409, "escrow_full",
                               "an endpoint keeps at most 16 blobs; an administrator removes old ones");
        add_escrow(session, endpoint, request.name, inside_->now(), request.blob);
    });
}

void Service::remove_escrow(const Principal& by, const std::string& endpoint, const std::string& name) {
    demand_role(by, Role::kAdmin);
    const nlohmann::json detail{{"name", clean_text(name, 64)}};
    inside_->write({by.name, "escrow.delete", clean_text(endpoint, 64), detail.dump()}, [&](Session& session) {
        if (!server::remove_escrow(session, endpoint, name)) not_found("escrow blob");
    });
}

std::vector<std::string> Service::escrow_names(const Principal& by, const std::string& endpoint) {
    demand_role(by, Role::kOperator);
    return inside_->read([&](Session& session) {
        demand_endpoint(session, endpoint);
        return list_escrow(session, endpoint);
    });
}

Buffer Service::get_escrow(const Principal& by, const std::string& endpoint, const std::string& name) {
    demand_role(by, Role::kAdmin);
    Buffer blob;
    const nlohmann::json detail{{"name", clean_text(name, 64)}};
    // Written down before it is given out.
    inside_->write({by.name, "escrow.get", clean_text(endpoint, 64), detail.dump()}, [&](Session& session) {
        auto found = find_escrow(session, endpoint, name);
        if (!found) not_found("escrow blob");
        blob = std::move(*found);
    });
    return blob;
}

// --- time

void Service::Inside::mark_stale() {
    const Seconds at = now();
    const std::vector<std::string> silent =
        read([&](Session& session) { return list_leases_ended(session, at, kMostStaleAtOnce); });
    if (silent.empty()) return;
    database->write([&](Session& session) {
        std::vector<StateChange> changes;
        for (const std::string& id : silent) {
            const auto found = lock_if_lease_ended(session, id, at);  // it may have spoken meanwhile
            if (!found) continue;
            leave_state(session, id, State::kStale, at, kLeaseEnded);
            changes.push_back(
                {id, found->hostname, found->group, found->state, State::kStale, kLeaseEnded, found->policy});
        }
        // After all rows are locked: the audit log's lock comes last (see append_audit()).
        for (const StateChange& change : changes) record_change(session, change, "system");
    });
}

void Service::Inside::drop_old(Session& session) {
    const Seconds before = now() - Seconds{options.history_days} * 86'400;
    drop_runs_before(session, before, kMostDroppedAtOnce);
    drop_hours_before(session, before);
    drop_orphaned_events(session);  // of an action that was removed while the event was written
    drop_tokens_expired_before(session, before);
}

}  // namespace gatehouse::server
