// The fleet: endpoints, their history, counts, groups, escrow; and how endpoints turn stale.
#include <nlohmann/json.hpp>

#include "attestation/server/inside.hpp"

namespace gatehouse::server {
namespace {

constexpr std::size_t kMostEscrowBlob = 64 * 1024;
constexpr std::int64_t kMostEscrowBlobs = 16;
constexpr unsigned kMostStaleAtOnce = 500;
constexpr std::int64_t kMostDroppedAtOnce = 10'000;
constexpr Seconds kHour = 3600;

std::int64_t number(State state) { return static_cast<std::int64_t>(state); }

// The text and parameters of a listing; the text is of a small set (states, with or without group and
// search).
struct Listing {
    std::string where = "id > $1";
    std::vector<Param> params;
    void add(const std::string& before, Param param, const std::string& after = "") {
        params.push_back(param);
        where += " AND " + before + "$" + std::to_string(params.size()) + after;
    }
};

void restrict_to(Listing& listing, State state, Seconds now) {
    const auto lease = [&](const char* compare) { listing.add(std::string("lease_until ") + compare + " ", now); };
    switch (state) {
        case State::kTrusted:
        case State::kUnmeasured:
            listing.add("state = ", number(state));
            lease(">=");
            break;
        case State::kStale: listing.add("(state = 4 OR (state IN (1, 2) AND lease_until < ", now, "))"); break;
        default: listing.add("state = ", number(state));
    }
}

void demand_endpoint(Session& session, const std::string& id) {
    if (!session.one("SELECT 1 FROM endpoints WHERE id = $1", {id})) not_found(endpoint_name(clean_text(id, 64)));
}

}  // namespace

Page<Endpoint> Service::endpoints(const Principal& by, const EndpointQuery& query) {
    demand_role(by, Role::kReadOnly);
    const Seconds now = inside_->now();
    const unsigned size = page_size(query.limit);
    const std::string pattern = like_pattern(query.search);
    Listing listing;
    listing.params.emplace_back(query.cursor);
    if (query.state) restrict_to(listing, *query.state, now);
    if (!query.group.empty()) listing.add("group_name = ", query.group);
    if (!query.search.empty()) listing.add("search LIKE ", pattern, " ESCAPE '\\'");
    listing.params.emplace_back(size + 1);
    const std::string sql = std::string("SELECT ") + kEndpointColumns + " FROM endpoints WHERE " + listing.where +
                            " ORDER BY id LIMIT $" + std::to_string(listing.params.size());
    Page<Endpoint> page;
    for (const Row& row : inside_->read([&](Session& session) { return session.query_with(sql, listing.params); }))
        page.rows.push_back(endpoint_of(row, now));
    if (page.rows.size() > size) {
        page.rows.pop_back();
        page.next = page.rows.back().id;
    }
    return page;
}

Endpoint Service::endpoint(const Principal& by, const std::string& id) {
    demand_role(by, Role::kReadOnly);
    static const std::string sql = std::string("SELECT ") + kEndpointColumns + " FROM endpoints WHERE id = $1";
    const auto row = inside_->read([&](Session& session) { return session.one(sql, {id}); });
    if (!row) not_found(endpoint_name(clean_text(id, 64)));
    return endpoint_of(*row, inside_->now());
}

Page<Attestation> Service::history(const Principal& by, const std::string& endpoint, const std::string& cursor,
                                   unsigned limit) {
    demand_role(by, Role::kReadOnly);
    const unsigned size = page_size(limit);
    const std::int64_t before = cursor.empty() ? std::numeric_limits<std::int64_t>::max() : number_of_cursor(cursor);
    const Rows rows = inside_->read([&](Session& session) {
        demand_endpoint(session, endpoint);
        return session.query(
            "SELECT h.number, h.time, h.state, h.policy, h.reason, h.result, h.verdict, "
            "CASE WHEN e.run = h.number THEN e.last_seen ELSE h.until END, "
            "CASE WHEN e.run = h.number THEN e.run_length ELSE h.length END "
            "FROM history h JOIN endpoints e ON e.id = h.endpoint WHERE h.endpoint = $1 AND h.number < $2 "
            "ORDER BY h.number DESC LIMIT $3",
            {endpoint, before, size + 1});
    });
    Page<Attestation> page;
    for (const Row& row : rows) {
        page.rows.push_back({row.integer(0), endpoint, row.integer(1), static_cast<State>(row.integer(2)), row.text(3),
                             row.text(4), row.text(5), row.text(6), row.integer(7), row.integer(8)});
    }
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
        session.execute("UPDATE endpoints SET wanted = $1 WHERE id = $2", {inside_->now(), endpoint});
    });
}

namespace {

// Of several who ask at once, one is told.
bool take_wish(Session& session, const std::string& endpoint) {
    return session.execute("UPDATE endpoints SET wanted = 0 WHERE id = $1 AND wanted > 0", {endpoint}) == 1;
}

}  // namespace

bool Service::wanted(const std::string& endpoint) {
    const auto row = inside_->read(
        [&](Session& session) { return session.one("SELECT wanted FROM endpoints WHERE id = $1", {endpoint}); });
    if (!row || !row->flag(0)) return false;
    bool mine = false;
    inside_->database->write([&](Session& session) { mine = take_wish(session, endpoint); });
    return mine;
}

std::vector<std::string> Service::take_wishes(const std::function<bool(const std::string&)>& waits) {
    constexpr Seconds kRecent = 15;  // servers of one database need not agree on the second
    const Rows rows = inside_->read([&](Session& session) {
        return session.query("SELECT id FROM endpoints WHERE wanted > 0 AND wanted >= $1 ORDER BY id",
                             {inside_->now() - kRecent});
    });
    std::vector<std::string> asked, mine;
    for (const Row& row : rows) {
        if (waits(row.text(0))) asked.push_back(row.text(0));
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
        if (!session.one("SELECT 1 FROM groups WHERE name = $1", {group})) not_found("group \"" + group + "\"");
        session.execute("DELETE FROM outcomes WHERE endpoint = $1", {endpoint});
        // The verdict was by the old group's policies: the new one's are to be tried soon, and the
        // verdict does not stand for long without.
        session.execute(
            "UPDATE endpoints SET group_name = $1, outcomes = '', wanted = $4, lease_until = CASE WHEN "
            "lease_until > $2 THEN $2 ELSE lease_until END WHERE id = $3",
            {group, inside_->now() + kGrace, endpoint, inside_->now()});
    });
}

void Service::retire(const Principal& by, const std::string& endpoint, const std::string& reason) {
    demand_role(by, Role::kOperator);
    const std::string why = clean_text(reason, 1024);
    inside_->database->write([&](Session& session) {
        const auto row = session.one(
            "SELECT hostname, group_name, state FROM endpoints WHERE id = $1 /*+ FOR UPDATE +*/", {endpoint});
        if (!row) not_found(endpoint_name(clean_text(endpoint, 64)));
        const State from = static_cast<State>(row->integer(2));
        if (from == State::kRetired)
            throw ServiceError(409, "retired", endpoint_name(endpoint) + " is retired already");
        session.execute(
            "UPDATE endpoints SET state = $1, since = $2, lease_until = 0, reason = $3, wanted = 0, "
            "certificate = $4, next_certificate = $4 WHERE id = $5",
            {number(State::kRetired), inside_->now(), why, Bytes(), endpoint});
        inside_->record_change(session, {endpoint, row->text(0), row->text(1), from, State::kRetired, why, ""},
                               by.name);
    });
}

Counts Service::counts(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    Counts counts;
    inside_->database->read([&](Session& session) {
        for (const Row& row : session.query("SELECT state, COUNT(*) FROM endpoints GROUP BY state")) {
            const std::int64_t many = row.integer(1);
            switch (static_cast<State>(row.integer(0))) {
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
            const std::int64_t many = session
                                          .one("SELECT COUNT(*) FROM endpoints WHERE state = $1 AND lease_until < $2",
                                               {number(state), inside_->now()})
                                          .value()
                                          .integer(0);
            of_state -= many;
            counts.stale += many;
        };
        silent(State::kTrusted, counts.trusted);
        silent(State::kUnmeasured, counts.unmeasured);
        counts.enrollments_waiting =
            session.one("SELECT COUNT(*) FROM enrollments WHERE state = 'waiting'").value().integer(0);
    });
    return counts;
}

std::vector<TimePoint> Service::time_line(const Principal& by, unsigned hours) {
    demand_role(by, Role::kReadOnly);
    const Seconds last = inside_->now() / kHour * kHour;
    const Seconds many = std::clamp<Seconds>(hours, 1, 24 * 90);
    std::vector<TimePoint> line;
    for (Seconds hour = last - (many - 1) * kHour; hour <= last; hour += kHour) line.push_back({hour, 0, 0, 0});
    const Rows rows = inside_->read([&](Session& session) {
        return session.query(
            "SELECT hour, SUM(trusted), SUM(unmeasured), SUM(untrusted) FROM hours "
            "WHERE hour >= $1 AND hour <= $2 GROUP BY hour",
            {line.front().hour, last});
    });
    for (const Row& row : rows) {
        TimePoint& point = line.at(static_cast<std::size_t>((row.integer(0) - line.front().hour) / kHour));
        point = {row.integer(0), row.integer(1), row.integer(2), row.integer(3)};
    }
    return line;
}

std::vector<std::string> Service::groups(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    std::vector<std::string> names;
    for (const Row& row :
         inside_->read([](Session& session) { return session.query("SELECT name FROM groups ORDER BY name"); }))
        names.push_back(row.text(0));
    return names;
}

void Service::create_group(const Principal& by, const std::string& group) {
    demand_role(by, Role::kOperator);
    demand_name(group, "group");
    inside_->write({by.name, "group.create", group}, [&](Session& session) {
        if (session.execute("INSERT INTO groups (name) VALUES ($1) ON CONFLICT (name) DO NOTHING", {group}) == 0)
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
        const std::int64_t others =
            session.one("SELECT COUNT(*) FROM escrow WHERE endpoint = $1 AND name <> $2", {endpoint, request.name})
                .value()
                .integer(0);
        if (others >= kMostEscrowBlobs)
            throw ServiceError(409, "escrow_full", "an endpoint keeps at most 16 blobs; reuse a name");
        session.execute(
            "INSERT INTO escrow (endpoint, name, time, blob) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (endpoint, name) DO UPDATE SET time = excluded.time, blob = excluded.blob",
            {endpoint, request.name, inside_->now(), request.blob});
    });
}

std::vector<std::string> Service::escrow_names(const Principal& by, const std::string& endpoint) {
    demand_role(by, Role::kOperator);
    const Rows rows = inside_->read([&](Session& session) {
        demand_endpoint(session, endpoint);
        return session.query("SELECT name FROM escrow WHERE endpoint = $1 ORDER BY name", {endpoint});
    });
    std::vector<std::string> names;
    for (const Row& row : rows) names.push_back(row.text(0));
    return names;
}

Buffer Service::get_escrow(const Principal& by, const std::string& endpoint, const std::string& name) {
    demand_role(by, Role::kAdmin);
    Buffer blob;
    const nlohmann::json detail{{"name", clean_text(name, 64)}};
    // Written down before it is given out.
    inside_->write({by.name, "escrow.get", clean_text(endpoint, 64), detail.dump()}, [&](Session& session) {
        const auto row = session.one("SELECT blob FROM escrow WHERE endpoint = $1 AND name = $2", {endpoint, name});
        if (!row) not_found("escrow blob");
        blob = row->blob(0);
    });
    return blob;
}

// --- time

void Service::Inside::leave_state(Session& session, const std::string& endpoint, State to, Seconds at,
                                  const std::string& reason) {
    session.execute(
        "UPDATE history SET until = e.last_seen, length = e.run_length FROM endpoints e "
        "WHERE e.id = $1 AND history.number = e.run",
        {endpoint});
    session.execute(
        "INSERT INTO history (endpoint, time, until, length, state, policy, reason, result, verdict) "
        "VALUES ($1, $2, $2, 1, $3, '', $4, '', '')",
        {endpoint, at, number(to), reason});
    session.execute("UPDATE endpoints SET state = $1, since = $2, reason = $3, run = 0 WHERE id = $4",
                    {number(to), at, reason, endpoint});
}

void Service::Inside::mark_stale() {
    const Seconds at = now();
    const Rows silent = read([&](Session& session) {
        return session.query("SELECT id FROM endpoints WHERE state IN (1, 2) AND lease_until < $1 ORDER BY id LIMIT $2",
                             {at, kMostStaleAtOnce});
    });
    if (silent.empty()) return;
    const std::string reason = "no evidence since the lease ended";
    database->write([&](Session& session) {
        std::vector<StateChange> changes;
        for (const Row& one : silent) {
            const std::string& id = one.text(0);
            // It may have spoken meanwhile.
            const auto row = session.one(
                "SELECT hostname, group_name, state, policy FROM endpoints WHERE id = $1 AND "
                "state IN (1, 2) AND lease_until < $2 /*+ FOR UPDATE +*/",
                {id, at});
            if (!row) continue;
            leave_state(session, id, State::kStale, at, reason);
            changes.push_back({id, row->text(0), row->text(1), static_cast<State>(row->integer(2)), State::kStale,
                               reason, row->text(3)});
        }
        // After all rows are locked: the audit log's lock comes last (see append_audit()).
        for (const StateChange& change : changes) record_change(session, change, "system");
    });
}

void Service::Inside::drop_old(Session& session) {
    const Seconds before = now() - Seconds{options.history_days} * 86'400;
    session.execute(
        "DELETE FROM history WHERE number IN (SELECT h.number FROM history h JOIN endpoints e ON "
        "e.id = h.endpoint WHERE h.until < $1 AND e.run <> h.number LIMIT $2)",
        {before, kMostDroppedAtOnce});
    session.execute("DELETE FROM hours WHERE hour < $1", {before});
    // Of an action that was removed while the event was written.
    session.execute("DELETE FROM outbox WHERE action NOT IN (SELECT name FROM actions)");
    session.execute("DELETE FROM tokens WHERE expires <> 0 AND expires < $1", {before});
}

}  // namespace gatehouse::server
