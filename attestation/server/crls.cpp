// CRLs that the server fetches: from where, when, what is taken; and how old all are.
//
// Where a CRL is to be had is said by the settings, by the certificates of trusted CAs, and by EK certificates, and
// certificates between, that have a path to one: never by what an endpoint has merely sent. A list that was taken is kept
// until a newer one of the same scope takes its place: nothing that comes from outside removes one. Only when the vendors
// have been others for hours, and none of them has signed it, is it forgotten.
//
// Of the sources each vendor has a share, so that one whose certificates name thousands leaves room for the others.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "attestation/server/database/administration.hpp"
#include "attestation/server/fetch.hpp"
#include "attestation/server/inside.hpp"
#include "attestation/verifier/trust_store.hpp"

namespace gatehouse::server {
namespace {

constexpr Seconds kHour = 3600, kDay = 86'400;
constexpr Seconds kFirstPause = 900, kLongestPause = kDay;
constexpr Seconds kRefreshEvery = 6 * kHour;             // of the sources, if the trust store does not change
constexpr Seconds kForgetAfter = kRefreshEvery + kHour;  // URLs of the settings that no server has any more
constexpr Seconds kUnfetchablePause = 7 * kDay;
constexpr Seconds kMostAhead = kDay;  // that a CRL's date may be in the future
constexpr std::size_t kMostSources = 4096;
constexpr std::size_t kMostOfSettings = kMostSources / 2;
constexpr std::int64_t kMostCrls = 2048;
constexpr unsigned kMostAtOnce = 64;

using Points = std::vector<std::pair<std::string, std::string>>;  // URL, vendor

// Who may have how many sources. The settings come first; what they leave is the vendors', in equal parts.
class Shares {
  public:
    Shares(std::size_t of_settings, std::size_t vendors)
        : room_(kMostSources - std::min(of_settings, kMostOfSettings)),
          share_(std::max<std::size_t>(1, room_ / std::max<std::size_t>(1, vendors))) {}
    // False, and the vendor is one of the crowds, if there is no room for another of its.
    bool take(const std::string& vendor) {
        if (used_[vendor] >= share_ || all_ >= room_) {
            crowds_.insert(vendor);
            return false;
        }
        ++used_[vendor];
        ++all_;
        return true;
    }
    [[nodiscard]] const std::set<std::string>& crowds() const { return crowds_; }

  private:
    std::size_t room_, share_, all_ = 0;
    std::map<std::string, std::size_t> used_;
    std::set<std::string> crowds_;
};

struct SourcePlan {
    std::vector<std::string> drop, of_settings;
    Points of_cas;
    std::set<std::string> crowds;
};
// Of each vendor its CAs' come before those that EK certificates name. What two vendors name either may bring.
SourcePlan plan_sources(const std::vector<CrlSourceRow>& rows, const std::vector<std::string>& set,
                        const verifier::TrustStore& store, Seconds now) {
    SourcePlan plan;
    std::set<std::string> taken;
    for (const CrlSourceRow& row : rows) {
        const bool is_others = row.origin == CrlOrigin::kSettings && std::ranges::find(set, row.url) == set.end();
        if (!is_others) continue;
        if (row.seen < now - kForgetAfter || taken.size() >= kMostOfSettings) {
            plan.drop.push_back(row.url);
        } else {
            taken.insert(row.url);
        }
    }
    for (const std::string& url : set) {
        if (taken.size() < kMostOfSettings && taken.insert(url).second) plan.of_settings.push_back(url);
    }
    const std::set<std::string> of_settings = taken;
    Shares shares(taken.size(), store.contents().vendors.size());
    std::set<std::string> of_cas;
    for (const verifier::TrustedVendor& vendor : store.contents().vendors) {
        for (const std::string& url : verifier::distribution_points(store, vendor.name)) {
            if (of_cas.contains(url)) continue;
            if (!of_settings.contains(url) && !shares.take(vendor.name)) continue;
            of_cas.insert(url);
            plan.of_cas.emplace_back(url, vendor.name);
        }
    }
    for (const CrlSourceRow& row : rows) {
        const bool is_gone = row.origin == CrlOrigin::kCa && !of_cas.contains(row.url);
        const bool is_too_many = row.origin == CrlOrigin::kEndorsement && !of_cas.contains(row.url) &&
                                 !of_settings.contains(row.url) && !shares.take(row.vendor);
        if (is_gone || is_too_many) plan.drop.push_back(row.url);
    }
    plan.crowds = shares.crowds();
    return plan;
}

// Each vendor's first, then each one's second: none waits for all of another's.
void take_turns(std::vector<CrlSourceRow>& due) {
    std::map<std::string, std::size_t> before;
    std::vector<std::pair<std::size_t, CrlSourceRow>> turns;
    turns.reserve(due.size());
    for (CrlSourceRow& row : due) {
        const std::size_t turn = before[row.vendor]++;
        turns.emplace_back(turn, std::move(row));
    }
    std::ranges::stable_sort(turns, {}, &std::pair<std::size_t, CrlSourceRow>::first);
    std::ranges::transform(turns, due.begin(), [](auto& one) { return std::move(one.second); });
}

// Why one list is_older() than another, of which `which` is said: "the one that is kept".
std::string older_text(const verifier::CrlFacts& one, const verifier::CrlFacts& other, const std::string& which) {
    const std::string than = ", and " + which + " ";
    if (one.this_update < other.this_update)
        return "the CRL is of " + date_text(one.this_update) + than + "is of " + date_text(other.this_update);
    if (one.number.empty()) return "the CRL is not taken: it has no number" + than + "has " + other.number;
    return "the CRL is not taken, though it is of " + date_text(one.this_update) + ": its number " + one.number +
           " is below " + other.number + ", that of " + which;
}

// A CRL that came, and is by a trusted vendor.
struct Candidate {
    Buffer der;
    verifier::CrlFacts facts;
    std::vector<std::string> vendors;
};

// ToolError saying why it is not to be believed.
Candidate candidate_of(Bytes content, const verifier::TrustStore& store, const std::vector<KnownCrl>& given,
                       Seconds now) {
    Candidate one{.der = verifier::crl_of(content), .facts = {}, .vendors = {}};
    one.facts = verifier::read_crl(one.der, store);
    one.vendors = verifier::crl_vendors(one.der, store);
    if (one.vendors.empty())
        throw host::ToolError("no CA of a trusted vendor has signed the CRL; its issuer is " + one.facts.issuer);
    if (one.facts.this_update > now + kMostAhead)
        throw host::ToolError("the CRL is of " + date_text(one.facts.this_update) + ", which is yet to come");
    for (const KnownCrl& known : given) {
        const bool same = known.facts && known.shown.fetched == 0 && known.facts->scope == one.facts.scope;
        if (same && !known.shown.vendors.empty() && verifier::is_older(one.facts, *known.facts))
            throw host::ToolError(
                older_text(one.facts, *known.facts, "the one that " + known.shown.vendors.front() + " was given with"));
    }
    return one;
}

// Within a write job, with the counter locked. Whether it was taken, or is there already; ToolError if it is older.
bool take(Session& session, const Candidate& one, const std::string& url, Seconds now) {
    const std::string scope = host::hex(one.facts.scope);
    if (const auto kept = lock_crl(session, scope)) {
        if (kept->content == one.der) return false;
        const verifier::CrlFacts facts{.issuer = kept->issuer,
                                       .scope = one.facts.scope,
                                       .number = kept->number,
                                       .this_update = kept->this_update,
                                       .next_update = kept->next_update};
        if (verifier::is_older(one.facts, facts))
            throw host::ToolError(older_text(one.facts, facts, "the one that is kept"));
    } else if (count_crls(session) >= kMostCrls) {
        throw host::ToolError("there is no room for another CRL: " + std::to_string(kMostCrls) + " are kept");
    }
    put_crl(session, {.scope = scope,
                      .url = url,
                      .issuer = one.facts.issuer,
                      .number = one.facts.number,
                      .this_update = one.facts.this_update,
                      .next_update = one.facts.next_update,
                      .fetched = now,
                      .content = one.der});
    count_up(session, Counter::kVendors);
    return true;
}

AuditNote note_of(const Candidate& one, const std::string& url) {
    const nlohmann::json detail{{"url", url},
                                {"number", one.facts.number},
                                {"this_update", one.facts.this_update},
                                {"next_update", one.facts.next_update},
                                {"sha256", host::hex(sha256(one.der))},
                                {"vendors", one.vendors.size()}};
    return {"system", "crl.take", clean_text(one.facts.issuer, 256), detail.dump()};
}

Seconds pause_after(std::int64_t failures) {
    return std::min(kFirstPause << std::clamp<std::int64_t>(failures - 1, 0, 10), kLongestPause);
}

// An hour before the list ends, if that is sooner.
Seconds next_time(Seconds now, unsigned hours, Seconds end) {
    const Seconds regular = now + hours * kHour;
    return end == 0 ? regular : std::min(regular, std::max(end - kHour, now + kHour));
}

std::string fetch_fault(const std::string& url) {
    try {
        demand_fetchable(url);
    } catch (const std::invalid_argument& error) {
        return url.starts_with("ldap") ? "only http:// is fetched, not LDAP" : error.what();
    }
    return "";
}

}  // namespace

void Service::Inside::keep_points(const Trust& by, const Points& points) {
    Points fresh;
    {
        const std::lock_guard lock(trust_mutex);
        if (by.generation != trust_generation) return;  // looked at again by what is trusted now
        for (const auto& one : points) {
            std::set<std::string>& known = trust_points[one.second];
            if (known.size() < kMostSources && known.insert(one.first).second) fresh.push_back(one);
        }
    }
    if (fresh.empty()) return;
    std::set<std::string> crowds;
    database->write([&](Session& session) {
        crowds.clear();
        // Vendors that changed meanwhile have taken back what their EK certificates named.
        if (lock_counter(session, Counter::kVendors) != by.generation) return;
        std::set<std::string> there;
        const std::vector<CrlSourceRow> rows = list_crl_sources(session);
        const auto of_settings =
            static_cast<std::size_t>(std::ranges::count(rows, CrlOrigin::kSettings, &CrlSourceRow::origin));
        Shares shares(of_settings, by.store->contents().vendors.size());
        for (const CrlSourceRow& row : rows) {
            there.insert(row.url);
            if (row.origin != CrlOrigin::kSettings) (void)shares.take(row.vendor);
        }
        for (const auto& [url, vendor] : fresh) {
            if (!there.insert(url).second || !shares.take(vendor)) continue;
            put_crl_source(session, url, CrlOrigin::kEndorsement, vendor, now());
        }
        crowds = shares.crowds();
    });
    note_crowds(by, crowds);
}

void Service::Inside::note_crowds(const Trust& by, const std::set<std::string>& vendors) {
    const std::lock_guard lock(trust_mutex);
    for (const std::string& vendor : vendors) trust_crowds[vendor] = by.generation;
}

bool Service::Inside::fetches(const CrlSourceRow& source) const {
    return options.crl.fetch &&
           (source.origin != CrlOrigin::kSettings || std::ranges::count(options.crl.urls, source.url) != 0);
}

void Service::Inside::refresh_crl_sources(const Trust& by) {
    const std::lock_guard lock(sources_mutex);
    const Seconds at = now();
    if (sources_generation == by.generation && at - sources_time < kRefreshEvery) return;
    // What failed may have been the settings' fault, and these are others now.
    const bool is_first = sources_generation < 0;
    const bool is_long_so = sources_generation == by.generation;
    std::set<std::string> crowds;
    database->write([&](Session& session) {
        SourcePlan plan = plan_sources(list_crl_sources(session), options.crl.urls, *by.store, at);
        for (const std::string& url : plan.drop) drop_crl_source(session, url);
        for (const std::string& url : plan.of_settings) put_crl_source(session, url, CrlOrigin::kSettings, "", at);
        for (const auto& [url, vendor] : plan.of_cas) put_crl_source(session, url, CrlOrigin::kCa, vendor, at);
        if (is_first) hurry_crl_sources_with_fault(session, at);
        crowds = std::move(plan.crowds);
    });
    note_crowds(by, crowds);
    {
        const std::lock_guard trusting(trust_mutex);
        std::erase_if(trust_crowds, [&by](const auto& one) { return one.second < by.generation; });
    }
    if (is_long_so) forget_crls(by);
    sources_generation = by.generation;
    sources_time = at;
}

// Those that nobody trusted has signed: an operator who took a vendor away had hours to give it back.
void Service::Inside::forget_crls(const Trust& by) {
    const auto is_nobodys = [](const KnownCrl& one) {
        return one.shown.fetched != 0 && one.shown.vendors.empty() && one.facts;
    };
    if (std::ranges::none_of(*by.crls, is_nobodys)) return;
    database->write([&](Session& session) {
        if (lock_counter(session, Counter::kVendors) != by.generation) return;
        std::vector<AuditNote> notes;
        for (const CrlRow& row : list_crls(session)) {
            if (!verifier::crl_vendors(row.content, *by.store).empty()) continue;
            drop_crl(session, row.scope);
            const nlohmann::json detail{
                {"url", row.url}, {"number", row.number}, {"sha256", host::hex(sha256(row.content))}};
            notes.push_back({"system", "crl.drop", clean_text(row.issuer, 256), detail.dump()});
        }
        if (notes.empty()) return;
        count_up(session, Counter::kVendors);
        for (const AuditNote& note : notes) append_audit(session, now(), note);
    });
}

std::vector<Service::CrlFetch> Service::fetch_crls(const std::stop_token& stop) {
    const CrlOptions& crl = inside_->options.crl;
    if (!crl.fetch) return {};
    inside_->refresh_crl_sources(inside_->trust());
    const Seconds at = inside_->now();
    std::vector<CrlSourceRow> due =
        inside_->read([&](Session& session) { return list_crl_sources_due(session, at, kMostSources); });
    take_turns(due);
    std::vector<CrlFetch> all;
    for (const CrlSourceRow& source : due) {
        if (stop.stop_requested() || all.size() == kMostAtOnce) break;
        if (!inside_->fetches(source)) continue;
        const std::string claim = host::hex(random_bytes(16));
        const Seconds until = inside_->now() + crl.patience_s + 60;
        bool claimed = false;
        inside_->database->write(
            [&](Session& session) { claimed = claim_crl_source(session, source.url, claim, inside_->now(), until); });
        if (claimed) all.push_back(inside_->fetch_crl(source, claim, stop));
    }
    return all;
}

Service::CrlFetch Service::Inside::fetch_crl(CrlSourceRow source, const std::string& claim,
                                             const std::stop_token& stop) {
    CrlFetch done{.url = source.url, .issuer = {}, .fault = {}, .was_good = source.fault.empty()};
    source.tried = now();
    if (std::string fault = fetch_fault(source.url); !fault.empty()) {
        // No failure: nothing is to be mended, and the certificate may name another place.
        source.fault = done.fault = fault;
        source.due = now() + kUnfetchablePause;
        database->write([&](Session& session) { (void)settle_crl_source(session, source, claim); });
        return done;
    }
    const FetchRules rules{.proxy = options.crl.proxy,
                           .private_addresses = options.crl.private_addresses,
                           .most_bytes = options.crl.most_bytes,
                           .patience = std::chrono::seconds(options.crl.patience_s)};
    // Of a list that is not here any more, that it has not changed says nothing.
    const bool here = !source.scope.empty() && read([&](Session& session) { return has_crl(session, source.scope); });
    const Fetched got = fetch(source.url, here ? Validators{source.tag, source.modified} : Validators{}, rules, stop);
    std::string fault = got.fault;
    std::optional<Candidate> one;
    if (fault.empty() && got.changed) {
        try {
            const Trust by = trust();
            one = candidate_of(got.body, *by.store, *by.crls, now());
        } catch (const host::ToolError& error) {
            fault = error.what();
        }
    }
    const CrlSourceRow before = source;
    bool taken = false;
    database->write([&](Session& session) {
        taken = false;
        source = before;
        std::string why = fault;
        (void)lock_counter(session, Counter::kVendors);  // takes are one after the other, of all servers
        Seconds end = 0;
        try {
            if (one) taken = take(session, *one, source.url, now());
        } catch (const host::ToolError& error) {
            why = error.what();
        }
        if (why.empty()) {
            source.tag = got.validators.tag;
            source.modified = got.validators.modified;
            if (one) source.scope = host::hex(one->facts.scope);
            const auto kept = lock_crl(session, source.scope);
            end = kept ? kept->next_update : 0;
            source.fetched = now();
            // Taken all the same: what it revokes is revoked.
            if (end != 0 && end < now()) why = "the newest CRL there has ended on " + date_text(end);
        }
        source.fault = clean_text(why, 1024);
        source.failures = why.empty() ? 0 : before.failures + 1;
        source.due = why.empty() ? next_time(now(), options.crl.hours, end) : now() + pause_after(source.failures);
        if (stop.stop_requested() && !got.fault.empty()) {
            source = before;  // nobody's failure
            source.due = now();
        }
        // False: somebody else is at it, or it has gone. What was taken is good nevertheless.
        (void)settle_crl_source(session, source, claim);
        if (taken) append_audit(session, now(), note_of(*one, source.url));
    });
    ++(!source.fault.empty() && !taken ? totals.crls_failed : taken ? totals.crls_taken : totals.crls_unchanged);
    done.fault = source.fault;
    if (taken) done.issuer = one->facts.issuer;
    return done;
}

Service::Crls Service::crls(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    Crls all{.fetching = inside_->options.crl.fetch, .lists = {}, .sources = {}, .crowds = crl_crowds()};
    const auto trust = inside_->trust();
    for (const KnownCrl& one : *trust.crls) all.lists.push_back(one.shown);
    for (CrlSourceRow& row : inside_->read([](Session& session) { return list_crl_sources(session); })) {
        if (all.fetching && !inside_->fetches(row)) continue;
        all.sources.push_back({.url = std::move(row.url),
                               .origin = row.origin,
                               .vendor = std::move(row.vendor),
                               .due = row.due,
                               .tried = row.tried,
                               .fetched = row.fetched,
                               .failures = row.failures,
                               .fault = std::move(row.fault)});
    }
    return all;
}

std::vector<std::string> Service::crl_crowds() {
    const std::lock_guard lock(inside_->trust_mutex);
    std::vector<std::string> names;
    for (const auto& [vendor, generation] : inside_->trust_crowds) names.push_back(vendor);
    return names;
}

void Service::hurry_crls(const Principal& by) {
    demand_role(by, Role::kOperator);
    if (!inside_->options.crl.fetch)
        throw ServiceError(409, "not_fetching", "this server fetches no CRLs: [crl] of its settings");
    inside_->write({by.name, "crl.hurry", "all"},
                   [&](Session& session) { hurry_crl_sources(session, inside_->now()); });
}

Service::CrlHealth Service::crl_health() {
    const auto trust = inside_->trust();
    CrlHealth health;
    const Seconds now = inside_->now();
    for (const KnownCrl& one : *trust.crls) {
        if (one.shown.vendors.empty()) continue;
        ++health.lists;
        if (one.shown.next_update != 0 && one.shown.next_update < now) ++health.ended;
    }
    const auto failing = inside_->read([](Session& session) { return list_crl_sources_failing(session); });
    health.failing = std::ranges::count_if(failing, [this](const auto& one) { return inside_->fetches(one); });
    return health;
}

}  // namespace gatehouse::server
