// What follows a change of state: an audit entry, and events for the actions, written in the transaction of
// the change; and their delivery, at least once each, by whichever server process claims them.
#include "attestation/server/database/actions.hpp"

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "attestation/formats/jose.hpp"
#include "attestation/server/command.hpp"
#include "attestation/server/inside.hpp"
#include "attestation/server/webhook.hpp"

namespace gatehouse::server {

// An event that this process has claimed, for one action.
struct Delivery {
    EventRow row;
    bool tried = false;
    std::string fault;
};

namespace {

constexpr unsigned kMostClaimed = 64;
constexpr Seconds kClaim = 60;  // longer than a round can last: 20 s, and 20 for the delivery begun last
constexpr std::chrono::seconds kRound{20};
constexpr std::int64_t kMostAttempts = 12;  // over about 11 hours
constexpr Seconds kFirstPause = 10, kLongestPause = 7200;
constexpr std::size_t kMostSecret = 256;
constexpr Seconds kListLifetime = 600;

std::string secret_name(const std::string& action) { return "action " + action; }

std::string deliver_one(const ActionRow& target, const std::string& directory, const Delivery& delivery, Seconds now) {
    try {
        if (target.kind == "command") return run_command(command_path(directory, target.target), delivery.row.event);
        const std::string time = std::to_string(now);
        const Sha256Digest mac = hmac_sha256(
            target.secret, {host::text_bytes(time), literal_bytes("."), host::text_bytes(delivery.row.event)});
        return post_webhook(parse_webhook_url(target.target),
                            {{"Gatehouse-Signature", "t=" + time + ",v1=" + host::hex(mac)},
                             {"Gatehouse-Delivery", std::to_string(delivery.row.number)}},
                            delivery.row.event);
    } catch (const std::exception& error) {
        return error.what();
    }
}

// In order, till one fails or the round is over: a target that is down is not tried with each event.
void deliver_all(const ActionRow& target, const std::string& directory, std::vector<Delivery>& deliveries,
                 Seconds now) {
    const auto end = std::chrono::steady_clock::now() + kRound;
    for (Delivery& one : deliveries) {
        if (std::chrono::steady_clock::now() >= end) return;
        one.tried = true;
        one.fault = deliver_one(target, directory, one, now);
        if (!one.fault.empty()) return;
    }
}

Seconds pause_after(std::int64_t attempts) {
    return std::min(kFirstPause << std::min<std::int64_t>(attempts, 20), kLongestPause);
}

}  // namespace

void Service::Inside::record_change(Session& session, const StateChange& change, const std::string& who) {
    const nlohmann::json event{{"event", "endpoint.state"},    {"issuer", options.issuer},    {"time", now()},
                               {"endpoint", change.endpoint},  {"hostname", change.hostname}, {"group", change.group},
                               {"from", name_of(change.from)}, {"to", name_of(change.to)},    {"reason", change.reason},
                               {"policy", change.policy}};
    add_event(session, event.dump(), now());
    const nlohmann::json detail{{"from", name_of(change.from)},
                                {"to", name_of(change.to)},
                                {"reason", change.reason},
                                {"policy", change.policy}};
    append_audit(session, now(), {who, "endpoint.state", change.endpoint, detail.dump()});
}

void Service::Inside::deliver() {
    const Seconds at = now();
    if (!read([&](Session& session) { return has_event_due(session, at); })) return;
    const std::string claim = host::hex(random_bytes(16));
    std::map<std::string, std::vector<Delivery>> work;  // by action
    std::map<std::string, ActionRow> targets;
    database->write([&](Session& session) {
        work.clear();
        targets.clear();
        // Of each by itself: what waits for one that is down does not hold up the others.
        for (const ActionRow& target : list_actions(session)) {
            targets[target.name] = target;
            for (EventRow& row : claim_events(session, target.name, claim, at, at + kClaim, kMostClaimed))
                work[target.name].push_back({std::move(row), false, {}});
        }
    });
    for (auto& [name, deliveries] : work) {
        std::ranges::sort(deliveries, {},
                          [](const Delivery& one) { return one.row.number; });  // the answer had no order
        ActionRow& target = targets.at(name);
        target.secret = sealer.unseal(secret_name(name), target.secret);
    }
    {
        std::vector<std::jthread> threads;
        threads.reserve(work.size());
        for (auto& [name, deliveries] : work) {
            threads.emplace_back([this, &target = targets.at(name), &list = deliveries, at] {
                deliver_all(target, options.directory + "/actions", list, at);
            });
        }
    }
    settle(work, claim);
}

// What was delivered goes, what failed waits for its next attempt, or is given up; what was not tried is free
// again.
void Service::Inside::settle(const std::map<std::string, std::vector<Delivery>>& work, const std::string& claim) {
    database->write([&](Session& session) {
        std::vector<AuditNote> given_up;
        for (const auto& [name, deliveries] : work) {
            const bool known = has_action(session, name);
            for (const Delivery& one : deliveries) {
                const bool last = !one.fault.empty() && one.row.attempts + 1 >= kMostAttempts;
                if (!known || last || (one.tried && one.fault.empty())) {
                    drop_event(session, one.row.number, claim);
                } else {
                    postpone_event(session, one.row.number, claim, one.row.attempts + (one.tried ? 1 : 0),
                                   one.tried ? now() + pause_after(one.row.attempts) : now());
                }
                if (last) {
                    const nlohmann::json detail{{"event", one.row.number}, {"fault", clean_text(one.fault, 1024)}};
                    given_up.push_back({"system", "action.give_up", name, detail.dump()});
                }
            }
        }
        for (const AuditNote& note : given_up) append_audit(session, now(), note);
    });
    for (const auto& [name, deliveries] : work) {
        for (const Delivery& one : deliveries) {
            if (one.tried) ++(one.fault.empty() ? totals.delivered : totals.failed);
        }
    }
}

void Service::add_action(const Principal& by, const Action& action) {
    demand_role(by, Role::kAdmin);
    demand_name(action.name, "action name");
    std::string shown = clean_text(action.target, 256);
    if (action.kind == "webhook") {
        // Who reads the audit log is not to learn a path or query that others take for a secret.
        shown = parse_webhook_url(action.target).authority;
        if (action.secret.empty() || action.secret.size() > kMostSecret)
            throw ServiceError(400, "secret", "secret: must be 1 to 256 bytes");
    } else if (action.kind == "command") {
        (void)command_path(inside_->options.directory + "/actions", action.target);
    } else {
        throw ServiceError(400, "kind", R"(kind: must be "webhook" or "command")");
    }
    const Buffer sealed = inside_->sealer.seal(secret_name(action.name), host::text_bytes(action.secret));
    const nlohmann::json detail{{"kind", action.kind}, {"target", shown}};
    inside_->write({by.name, "action.add", action.name, detail.dump()}, [&](Session& session) {
        if (!server::add_action(
                session, {.name = action.name, .kind = action.kind, .target = action.target, .secret = sealed})) {
            throw ServiceError(409, "exists",
                               "action \"" + action.name + "\": there is one of that name; remove it first");
        }
    });
}

void Service::remove_action(const Principal& by, const std::string& name) {
    demand_role(by, Role::kAdmin);
    inside_->write({by.name, "action.remove", clean_text(name, 64)}, [&](Session& session) {
        if (!server::remove_action(session, name)) not_found("action \"" + name + "\"");
    });
}

std::vector<Service::Action> Service::actions(const Principal& by) {
    demand_role(by, Role::kAdmin);
    std::vector<Action> all;
    for (ActionSummary& row : inside_->read([](Session& session) { return list_action_summaries(session); })) {
        all.push_back(
            {.name = std::move(row.name), .kind = std::move(row.kind), .target = std::move(row.target), .secret = {}});
    }
    return all;
}

// Anyone may ask for it, so it is made anew only if it would be another one.
std::string Service::revocation_list() {
    const Seconds now = inside_->now();
    const std::int64_t number = inside_->read([](Session& session) { return audit_length(session); });
    const std::lock_guard lock(inside_->revocations_mutex);
    if (number != inside_->revocations_number || now != inside_->revocations_time) {
        inside_->revocations = inside_->make_revocation_list(now);
        inside_->revocations_number = number;
        inside_->revocations_time = now;
    }
    return inside_->revocations;
}

std::string Service::Inside::make_revocation_list(Seconds now) {
    nlohmann::json list{{"iat", now}, {"exp", now + kListLifetime}, {"issuer", options.issuer}};
    nlohmann::json& endpoints = list["endpoints"] = nlohmann::json::array();
    database->read([&](Session& session) {
        // Every change of state has an audit entry, so the number rises with each; read first, so that it
        // never is ahead of what the list has.
        list["number"] = audit_length(session);
        for (const Distrusted& one : list_distrusted(session, now)) {
            const bool silent = one.state == State::kTrusted || one.state == State::kUnmeasured;
            endpoints.push_back({{"id", one.id},
                                 {"ek_hash", one.ek_hash},
                                 {"since", silent ? one.lease_until : one.since},
                                 {"reason", name_of(silent ? State::kStale : one.state)}});
        }
    });
    const ResultKey key = result_keys.current();
    return formats::sign_jwt(list.dump(), "gatehouse-revocations+jws", key.get(), key.id);
}

}  // namespace gatehouse::server
