// Enrollment: an endpoint shows its EK and AK, proves with ActivateCredential that one TPM has both, and gets
// a client certificate once somebody, or something set up beforehand, approves it.
#include <nlohmann/json.hpp>

#include "attestation/server/database/administration.hpp"
#include "attestation/server/database/enrollments.hpp"
#include "attestation/server/database/tpm_state.hpp"
#include "attestation/server/identifier.hpp"
#include "attestation/server/inside.hpp"
#include "attestation/verifier/token.hpp"
#include "attestation/verifier/tpm_identity.hpp"

namespace gatehouse::server {

using namespace enrollment_state;

namespace {

constexpr std::int64_t kMostAttempts = 5;
constexpr std::size_t kMostChain = 256;  // NV indices: as many as there may be
constexpr std::size_t kMostCertificate = 16 * 1024;
constexpr std::size_t kMostPublicArea = 2048;
constexpr std::size_t kMostIdentityKeys = 2;
constexpr std::size_t kMostQuote = 4096;
constexpr const char* kDefaultGroup = "default";

verifier::Source source_of(const std::string& name) {
    for (const verifier::Source one : {verifier::Source::kHypervisor, verifier::Source::kTpm}) {
        if (verifier::source_name(one) == name) return one;
    }
    throw ServiceError(400, "source", R"(source: must be "hypervisor" or "tpm")");
}

void demand_sizes(const protocol::EnrollRequest& request) {
    const auto demand = [](bool ok, const char* item, std::size_t limit) {
        if (!ok)
            throw ServiceError(400, "size", std::string(item) + ": empty, or larger than " + std::to_string(limit));
    };
    const auto fits = [](std::size_t size, std::size_t limit) { return size > 0 && size <= limit; };
    demand(fits(request.hostname.size(), 1012), "hostname", 253);
    demand(fits(request.ek_public.size(), kMostPublicArea), "ek_public", kMostPublicArea);
    demand(fits(request.ak_public.size(), kMostPublicArea), "ak_public", kMostPublicArea);
    demand(request.ek_certificate.size() <= kMostCertificate, "ek_certificate", kMostCertificate);
    demand(request.ek_chain.size() <= kMostChain, "ek_chain", kMostChain);
    for (const Buffer& one : request.ek_chain) demand(one.size() <= kMostCertificate, "ek_chain", kMostCertificate);
    demand(request.identity_keys.size() <= kMostIdentityKeys, "identity_keys", kMostIdentityKeys);
    for (const Buffer& one : request.identity_keys)
        demand(fits(one.size(), kMostPublicArea), "identity_keys", kMostPublicArea);
    demand(request.identity_attest.size() <= kMostQuote, "identity_attest", kMostQuote);
    demand(request.identity_signature.size() <= kMostQuote, "identity_signature", kMostQuote);
}

// A key that could sign what no TPM made vouches for nothing, whoever has it.
std::vector<verifier::Finding> checked_attestation_key(const protocol::EnrollRequest& request) {
    std::vector<verifier::Finding> findings =
        verifier::check_attestation_key(request.ak_public, source_of(request.source));
    if (!verifier::all_hold(findings))
        throw ServiceError(422, "attestation_key", "attestation key refused: " + first_failure(findings));
    return findings;
}

protocol::EnrollStatus status_of(const OpenEnrollment& open) {
    protocol::EnrollStatus status;
    status.state = open.state;
    if (open.state == kApproved) {
        status.endpoint_id = open.endpoint;
        status.certificate = open.certificate;
    }
    // Who is not endorsed is not told what is known of keys that he may only have heard of.
    if (open.state == kRejected || (open.state == kWaiting && open.endorsed)) status.reason = open.reason;
    if (open.state == kWaiting && !open.endorsed)
        status.reason = "no trusted vendor vouches for its EK, or it is not registered";
    return status;
}

bool knows_secret(const OpenEnrollment& open, Bytes secret) { return equal_secret(open.secret_hash, sha256(secret)); }

void set_state(Session& session, OpenEnrollment& open, const char* state, const std::string& reason) {
    open.state = state;
    open.reason = reason;
    set_enrollment_state(session, open.id, state, reason);
}

std::string key_hash(Bytes public_area) { return host::hex(verifier::endorsement_key_hash(public_area)); }

// The endpoint, if any, whose EK this is though it was shown with other attributes or another policy then:
// the TPM has only one of that key, and is one endpoint only.
std::optional<std::string> disguised(Session& session, const OpenEnrollment& open) {
    const auto other = id_of_disguised(session, open.ek_key, open.ek_hash);
    if (!other) return std::nullopt;
    return "endpoint " + *other + " has this EK, in another public area";
}

// Those that it is proven to have. All are in one TPM, by the activated credential and by what the attestation key signed,
// if the EK is a TPM's; if nobody vouches for that, whoever has its private key can say anything of the others.
TpmKeys keys_of(const OpenEnrollment& open) {
    if (!open.endorsed) return {open.ek_key};
    return {open.ek_key, open.ak_key, open.ecc_key, open.storage_root};
}
TpmKeys claimed_keys_of(const OpenEnrollment& open) {
    return {open.ek_key, open.ak_key, open.ecc_key, open.storage_root};
}

// The endpoint of this TPM, if there is one: that has this EK, or whose TPM has shown one of these keys before.
struct Present {
    std::optional<EndpointSummary> endpoint;
    // Others of the same TPM, which are not to be: enrolled while nothing tied their keys, claimed by who is not endorsed,
    // or, if they are not endorsed, claiming.
    std::vector<EndpointSummary> others;
    bool endorsed = false;  // the one that enrolls

    [[nodiscard]] std::string why_not() const {
        if (others.empty()) return {};
        if (!endpoint && endorsed) {
            return "endpoint " + others.front().id +
                   ", whose EK is not endorsed, has shown keys of this TPM; an operator retires that one, and approves";
        }
        if (!endpoint) {
            return "its EK is not endorsed, and its other keys are endpoint " + others.front().id +
                   "'s; if it is that TPM, an operator retires that one, and approves";
        }
        return "this TPM is endpoint " + endpoint->id + " by one of its keys and endpoint " + others.front().id +
               " by another; an operator retires all but one of them, and approves";
    }
    [[nodiscard]] bool is_only_one_at_work() const {
        return std::ranges::all_of(others, [](const auto& one) { return one.state == State::kRetired; });
    }
};
Present present_of(Session& session, const OpenEnrollment& open) {
    Present present{lock_by_ek(session, open.ek_hash), {}, open.endorsed};
    const std::vector<std::string> proven = ids_of_keys(session, keys_of(open));
    for (const std::string& id : ids_of_keys(session, claimed_keys_of(open))) {
        if (present.endpoint && present.endpoint->id == id) continue;
        if (auto found = lock_summary(session, id)) present.others.push_back(std::move(*found));
    }
    if (present.endpoint) return present;
    // On both sides: what is known of one that is not endorsed is what it said.
    const auto is_proven = [&](const auto& one) {
        return std::ranges::find(proven, one.id) != proven.end() && has_endorsement(session, one.id);
    };
    auto first = std::ranges::find_if(present.others,
                                      [&](const auto& one) { return is_proven(one) && one.state != State::kRetired; });
    if (first == present.others.end()) first = std::ranges::find_if(present.others, is_proven);
    if (first == present.others.end()) return present;
    present.endpoint = std::move(*first);
    present.others.erase(first);
    return present;
}

// Of those that an older program kept, too.
void complete(OpenEnrollment& open) {
    if (open.ek_key.empty()) open.ek_key = key_hash(open.ek_public);
    if (open.ak_key.empty()) open.ak_key = key_hash(open.ak_public);
}

// What stays known of an endpoint's TPM when its attestation key is another.
Buffer kept_of(Bytes tpm, Agreement agreement) {
    verifier::TpmState kept;
    if (agreement == Agreement::kBeforehand) kept.vaults = decode_tpm(tpm).vaults;
    return kept.vaults.empty() ? Buffer{} : encode_tpm(kept);
}

NewEndpoint endpoint_of(const OpenEnrollment& open, const std::string& group, Seconds now, const Issued& issued) {
    return {.id = open.endpoint,
            .hostname = open.hostname,
            .group = group,
            .source = open.source,
            .ek_hash = open.ek_hash,
            .ek_key = open.ek_key,
            .vendor = open.vendor,
            .manufacturer = open.manufacturer,
            .model = open.model,
            .ak_public = open.ak_public,
            .enrolled = now,
            .certificate = issued.hash};
}

void demand_group(Session& session, const std::string& group) {
    if (!has_group(session, group)) not_found("group \"" + group + "\"");
}

// What approves an enrollment without an operator.
struct Automatic {
    std::string group;  // empty: nothing does
    std::string by;
    std::string why_not;
    Agreement agreement = Agreement::kNow;
};

Automatic automatic(Session& session, const OpenEnrollment& open, Seconds now) {
    if (const auto why_not = disguised(session, open)) return {{}, {}, *why_not};
    const Present known = present_of(session, open);
    if (const std::string why_not = known.why_not(); !why_not.empty()) return {{}, {}, why_not};
    const std::optional<EndpointSummary>& present = known.endpoint;
    if (present && present->state == State::kRetired)
        return {{}, {}, "endpoint " + present->id + " of this TPM was retired"};
    // Evidence of another source is worth less, or more, than what somebody agreed to.
    if (present && present->source != open.source)
        return {{}, {}, "endpoint " + present->id + " of this TPM has source \"" + present->source + "\""};
    // Nor is a fault of one EK shed by showing another, or by showing the same without its certificate.
    if (present && !present->endorsement_fault.empty())
        return {{}, {}, "endpoint " + present->id + " of this TPM: " + present->endorsement_fault};
    // Who registered it decided about this very key.
    if (const auto group = registered_group(session, open.ek_hash))
        return {*group, "registered EK", {}, Agreement::kBeforehand};
    if (!open.endorsed) return {{}, {}, "EK not endorsed: " + open.reason};
    if (open.token_hash.empty()) return {{}, {}, "came without a token, its EK is not registered"};
    if (!present && open.storage_root.empty())
        return {{}, {}, "nothing shows that this TPM is not a known endpoint's by another EK"};
    if (const auto group = use_enrollment_token(session, open.token_hash, now)) return {*group, "enrollment token", {}};
    return {{}, {}, "its token was used by another one meanwhile, or expired"};
}

}  // namespace

namespace {

// What is known of a retired one that was the same TPM goes to the one that comes, as far as it is proven: of one without an
// endorsement what it has said of other keys, too, may be anybody's; and who comes without one is not heir to one that had one.
void take_keys(Session& session, const OpenEnrollment& open, const std::string& other) {
    if (has_endorsement(session, other) == open.endorsed) {
        move_keys(session, other, open.endpoint);
    } else if (open.endorsed) {
        drop_keys(session, other, keys_of(open));
    }
}

}  // namespace

// Within a write job; its last step.
void Service::Inside::approve(Session& session, const std::string& id, const std::string& group, const std::string& who,
                              Agreement agreement) {
    OpenEnrollment open = lock_enrollment(session, id).value();
    complete(open);
    demand_group(session, group);
    if (const auto why_not = disguised(session, open)) throw ServiceError(409, "endorsement_key", *why_not);
    const Present known = present_of(session, open);
    if (!known.is_only_one_at_work()) throw ServiceError(409, "endorsement_key", known.why_not());
    const std::optional<EndpointSummary>& present = known.endpoint;
    open.endpoint = present ? present->id : new_id(now());
    const Key request_key = key_of_request(open.csr);
    const Issued issued = authority->issue_client(request_key.get(), open.endpoint, now(), options.certificate_days);
    const NewEndpoint endpoint = endpoint_of(open, group, now(), issued);
    if (present) {
        replace_endpoint(session, endpoint, kept_of(present->tpm, agreement));
    } else {
        add_endpoint(session, endpoint);
    }
    // What it said without an endorsement is not proven by a later one.
    if (present && open.endorsed && !has_endorsement(session, open.endpoint)) drop_keys(session, open.endpoint);
    for (const EndpointSummary& other : known.others) take_keys(session, open, other.id);
    keep_keys(session, open.endpoint, claimed_keys_of(open));
    // Whoever approves knows them: automatic() does not, while one counts.
    overrule_faults(session, open.endpoint);
    if (open.endorsed) set_endorsement(session, open.endpoint, open.ek_hash, open.vendor, open.time, open.endorsement);
    set_enrollment_approved(session, id, open.endpoint, issued.pem);
    nlohmann::json detail{{"endpoint", open.endpoint}, {"group", group},
                          {"ek_hash", open.ek_hash},   {"source", open.source},
                          {"hostname", open.hostname}, {"replaces", bool(present)}};
    if (present && present->hostname != open.hostname) detail["hostname_before"] = present->hostname;
    if (present && present->state != State::kNew) {
        record_change(session, {open.endpoint, open.hostname, group, present->state, State::kNew, "enrolled again", ""},
                      who);
    }
    append_audit(session, now(), {who, "endpoint.approve", id, detail.dump()});
}

void Service::Inside::drop_old_enrollments(Session& session) {
    drop_unanswered_enrollments(session, now());
    drop_enrollment_tokens(session, now());
    const std::string why = "nobody approved it within " + std::to_string(options.waiting_days) + " days: enroll again";
    for (const RejectedEnrollment& one :
         reject_waiting_since(session, now() - Seconds{options.waiting_days} * 86'400, why)) {
        const nlohmann::json detail{{"hostname", one.hostname}, {"ek_hash", one.ek_hash}, {"reason", why}};
        append_audit(session, now(), {"system", "enrollment.expire", one.id, detail.dump()});
    }
    // Those that were decided are in the audit log.
    drop_decided_enrollments(session, now() - Seconds{options.history_days} * 86'400);
}

protocol::EnrollChallenge Service::enroll(const protocol::EnrollRequest& given) {
    demand_sizes(given);
    protocol::EnrollRequest request = given;
    for (Buffer* const area : {&request.ek_public, &request.ak_public}) {
        const Bytes inside = verifier::without_size(*area);
        *area = Buffer(inside.begin(), inside.end());
    }
    const Seconds now = inside_->now();
    (void)key_of_request(request.csr);
    std::vector<verifier::Finding> findings = checked_attestation_key(request);
    const verifier::EndorsementVerdict endorsement = verifier::verify_endorsement(
        {request.ek_certificate, request.ek_chain, request.ek_public}, *inside_->trust().store, now);
    findings.insert(findings.begin(), endorsement.findings.begin(), endorsement.findings.end());

    const Buffer secret = random_bytes(protocol::kActivationSecretSize);
    protocol::EnrollChallenge challenge;
    challenge.id = new_id(now);
    challenge.expires_s = inside_->options.enrollment_lifetime_s;
    verifier::TpmIdentity identity;
    try {
        const verifier::AttestationKey key(request.ak_public);
        identity =
            verifier::check_tpm_identity(key, source_of(request.source),
                                         {request.identity_keys, request.identity_attest, request.identity_signature});
        findings.push_back(identity.finding);
        verifier::Credential credential = verifier::make_credential(request.ek_public, key.name(), secret);
        challenge.credential_blob = std::move(credential.blob);
        challenge.secret = std::move(credential.secret);
    } catch (const host::ToolError& error) {
        throw ServiceError(422, "endorsement_key", std::string("endorsement key refused: ") + error.what());
    }

    const Sha256Digest secret_hash = sha256(secret);
    const bool endorsed = endorsement.accepted();
    OpenEnrollment open{.id = challenge.id,
                        .state = kChallenged,
                        .time = now,
                        .expires = now + challenge.expires_s,
                        .hostname = clean_text(request.hostname, 1012),
                        .source = request.source,
                        .ek_hash = host::hex(verifier::endorsement_hash(request.ek_public)),
                        .ek_public = request.ek_public,
                        .ak_public = request.ak_public,
                        .csr = request.csr,
                        .vendor = endorsed ? clean_text(endorsement.vendor, 256) : "",
                        .manufacturer = clean_text(endorsement.manufacturer, 256),
                        .model = clean_text(endorsement.model, 256),
                        .endorsed = endorsed,
                        .reason = first_failure(endorsement.findings),
                        .secret_hash = Buffer(secret_hash.begin(), secret_hash.end()),
                        .token_hash = {},
                        .endpoint = {},
                        .certificate = {},
                        .endorsement = endorsed ? endorsement_json(request.ek_certificate, request.ek_chain) : "",
                        .ek_key = key_hash(request.ek_public),
                        .ak_key = key_hash(request.ak_public),
                        .ecc_key = identity.endorsement_key,
                        .storage_root = identity.storage_root};
    if (!request.token.empty()) {
        const Sha256Digest hash = sha256(host::text_bytes(request.token));
        open.token_hash.assign(hash.begin(), hash.end());
    }
    inside_->database->write([&](Session& session) {
        const bool has_token = !open.token_hash.empty();
        if (has_token && !has_enrollment_token(session, open.token_hash, now))
            throw ServiceError(403, "enrollment_token", "token: unknown, used or expired; ask for a new one");
        drop_unanswered_enrollments(session, now);
        // Strangers can fill the queue; who was announced is let in all the same.
        const bool announced = has_token || registered_group(session, open.ek_hash);
        if (!announced && count_open_enrollments(session) >= inside_->options.most_open_enrollments)
            throw ServiceError(503, "too_many_enrollments", "too many enrollments are open; try again later", 60);
        add_enrollment(session, open, findings);
    });
    return challenge;
}

protocol::EnrollStatus Service::activate(const std::string& id, Bytes secret) {
    const Seconds now = inside_->now();
    protocol::EnrollStatus status;
    bool wrong = false;
    bool fresh = false;
    const auto answer = [&](Session& session) {
        wrong = false;
        std::optional<OpenEnrollment> open = lock_enrollment(session, id);
        if (!open || (open->state == kChallenged && open->expires < now))
            throw ServiceError(404, "enrollment",
                               "enrollment " + clean_text(id, 64) + ": unknown or expired; enroll again");
        if (open->attempts >= kMostAttempts)
            throw ServiceError(403, "activation", "too many wrong secrets; enroll again");
        wrong = !knows_secret(*open, secret);
        if (wrong) {
            count_wrong_secret(session, id);
            return;
        }
        fresh = open->state == kChallenged;
        if (fresh) {
            // A later one by the same TPM takes the place of those that wait.
            complete(*open);
            reject_others_waiting(session, *open, "the same TPM enrolled again");
            const Automatic by = automatic(session, *open, now);
            set_state(session, *open, kWaiting, by.why_not);
            if (!by.group.empty()) {
                inside_->approve(session, id, by.group, by.by, by.agreement);
                open = lock_enrollment(session, id);
            } else {
                const nlohmann::json detail{
                    {"ek_hash", open->ek_hash}, {"hostname", open->hostname}, {"reason", by.why_not}};
                append_audit(session, now, {"system", "enrollment.waiting", id, detail.dump()});
            }
        }
        status = status_of(*open);
    };
    try {
        inside_->database->write(answer);
    } catch (const ServiceError& error) {
        // Another of this TPM's was approved between automatic() and approve(): now both see it.
        if (error.code() != "endorsement_key") throw;
        inside_->database->write(answer);
    }
    if (wrong) throw ServiceError(403, "activation", "the secret is not the one of the challenge");
    if (fresh) ++inside_->totals.enrollments;
    return status;
}

protocol::EnrollStatus Service::enrollment_status(const std::string& id, Bytes secret) {
    // As activate(), so that secrets cannot be tried here without being counted.
    const auto state = inside_->read([&](Session& session) { return enrollment_state_of(session, id); });
    if (state == kChallenged) throw ServiceError(409, "enrollment", "the challenge is not answered yet");
    return activate(id, secret);
}

Page<Enrollment> Service::enrollments(const Principal& by, const std::string& state, const std::string& cursor,
                                      unsigned limit) {
    demand_role(by, Role::kReadOnly);
    const unsigned size = page_size(limit);
    Page<Enrollment> page;
    page.rows = inside_->read([&](Session& session) { return list_enrollments(session, state, cursor, size + 1); });
    if (page.rows.size() > size) {
        page.rows.pop_back();
        page.next = page.rows.back().id;
    }
    return page;
}

Enrollment Service::enrollment(const Principal& by, const std::string& id) {
    demand_role(by, Role::kReadOnly);
    auto found = inside_->read([&](Session& session) { return find_enrollment(session, id); });
    if (!found) not_found("enrollment " + clean_text(id, 64));
    return std::move(*found);
}

namespace {

void demand_waiting(const std::optional<OpenEnrollment>& open, const std::string& id) {
    if (!open) not_found("enrollment " + clean_text(id, 64));
    if (open->state != kWaiting)
        throw ServiceError(409, "enrollment_state", "enrollment " + id + " is " + open->state + ", not waiting");
}

}  // namespace

void Service::approve(const Principal& by, const std::string& id, const std::string& group) {
    demand_role(by, Role::kOperator);
    inside_->database->write([&](Session& session) {
        demand_waiting(lock_enrollment(session, id), id);
        inside_->approve(session, id, group.empty() ? kDefaultGroup : group, by.name, Agreement::kNow);
    });
}

void Service::reject(const Principal& by, const std::string& id, const std::string& reason) {
    demand_role(by, Role::kOperator);
    const std::string why = clean_text(reason, 1024);
    const nlohmann::json detail{{"reason", why}};
    inside_->write({by.name, "enrollment.reject", clean_text(id, 64), detail.dump()}, [&](Session& session) {
        std::optional<OpenEnrollment> open = lock_enrollment(session, id);
        demand_waiting(open, id);
        set_state(session, *open, kRejected, why);
    });
}

std::string Service::create_enrollment_token(const Principal& by, const std::string& group, Seconds lifetime_s) {
    demand_role(by, Role::kOperator);
    constexpr Seconds most = 90 * 86'400;
    if (lifetime_s <= 0 || lifetime_s > most)
        throw ServiceError(400, "lifetime", "lifetime_s: must be 1 to " + std::to_string(most));
    std::string text = "ge_" + verifier::base64url(random_bytes(32));
    const nlohmann::json detail{{"group", group}, {"lifetime_s", lifetime_s}};
    inside_->write({by.name, "enrollment_token.create", clean_text(group, 64), detail.dump()}, [&](Session& session) {
        demand_group(session, group);
        add_enrollment_token(session, sha256(host::text_bytes(text)), group, inside_->now() + lifetime_s);
    });
    return text;
}

void Service::register_endorsement(const Principal& by, const std::string& ek_hash, const std::string& group) {
    demand_role(by, Role::kOperator);
    const std::string hash = lower_case(ek_hash);
    if (hash.size() != 64 || hash.find_first_not_of("0123456789abcdef") != std::string::npos)
        throw ServiceError(400, "ek_hash", "ek_hash: must be 64 hexadecimal digits");
    const nlohmann::json detail{{"group", group}};
    inside_->write({by.name, "endorsement.register", hash, detail.dump()}, [&](Session& session) {
        demand_group(session, group);
        put_registered(session, hash, group);
    });
}

}  // namespace gatehouse::server
