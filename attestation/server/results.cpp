// Results for others: by the profile they ask for, and the keys to check them with.
#include <nlohmann/json.hpp>

#include "attestation/formats/jose.hpp"
#include "attestation/server/inside.hpp"
#include "attestation/verifier/result.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::server {

std::string Service::result_key() const { return public_pem(inside_->result_keys.current().get()); }

std::string Service::result_jwks() {
    nlohmann::json keys = nlohmann::json::array();
    for (const auto& key : inside_->result_keys.published(inside_->now()))
        keys.push_back(formats::public_jwk(key.get()));
    return nlohmann::json{{"keys", std::move(keys)}}.dump();
}

std::string Service::rotate_result_key(const Principal& by) {
    demand_role(by, Role::kAdmin);
    std::string id;
    inside_->database->write([&](Session& session) {
        id = inside_->result_keys.rotate(session, inside_->now());
        append_audit(session, inside_->now(), {by.name, "result_key.rotate", id, "{}"});
    });
    inside_->result_keys.refresh();
    const std::lock_guard lock(inside_->revocations_mutex);
    inside_->revocations_number = -1;
    return id;
}

namespace {

// What is kept is signed, but that it is this endpoint's and its last one only the database says; and what was true then is
// not given out if it is not true now.
void demand_still_true(const formats::KeptResult& kept, const Attestation& last, const Endpoint& endpoint) {
    if (!equal_bytes(kept.facts.ek_hash, host::from_hex(endpoint.ek_hash, "EK hash")))
        throw ServiceError(410, "expired", "the last result is of another endorsement key than the endpoint's");
    if (kept.facts.issued != last.time)
        throw ServiceError(410, "expired", "the last result is not of the last attestation");
    const bool good = endpoint.state == State::kTrusted || endpoint.state == State::kUnmeasured ||
                      endpoint.state == State::kStale;  // its end has passed, and is in the result
    if (!good && kept.facts.status != verifier::Tier::kContraindicated)
        throw ServiceError(
            410, "expired",
            std::string("the last result was a good one, and the endpoint is ") + name_of(endpoint.state) + " since");
}

// A result of profile gatehouse that ends sooner than it says.
std::string with_end(const std::string& payload, std::time_t end, const ResultKey& key) {
    auto result = nlohmann::ordered_json::parse(payload);
    result["exp"] = end;
    return formats::sign_jwt(result.dump(), verifier::kResultType, key.get(), key.id);
}

}  // namespace

std::optional<Buffer> Service::last_result(const Principal& by, const std::string& endpoint,
                                           formats::ResultProfile profile, formats::ResultForm form) {
    const std::optional<Attestation> last = last_attestation(by, endpoint);
    if (!last) return std::nullopt;
    for (const auto& key : inside_->result_keys.published(inside_->now())) {
        const auto payload = verifier::verify_jws(last->result, verifier::kResultType, key.get());
        if (!payload) continue;
        formats::KeptResult kept = formats::read_result(*payload);
        const Endpoint present = this->endpoint(by, endpoint);
        demand_still_true(kept, *last, present);
        const bool is_good = kept.facts.status != verifier::Tier::kContraindicated;
        const std::time_t end =
            is_good ? std::min<std::time_t>(kept.facts.expires, present.lease_until) : kept.facts.expires;
        // By clocks that differ. A good result without an end would be good for ever.
        if (is_good && end <= kept.facts.issued)
            throw ServiceError(410, "expired", "the endpoint's lease ended before its last result was made");
        const ResultKey current = inside_->result_keys.current();
        if (profile == formats::ResultProfile::kGatehouse && form == formats::ResultForm::kJwt) {
            // As it is, with its findings, unless its end is another.
            const std::string own = end == kept.facts.expires ? last->result : with_end(*payload, end, current);
            const Bytes bytes = host::text_bytes(own);
            return Buffer(bytes.begin(), bytes.end());
        }
        kept.facts.expires = end;
        return formats::sign_result(kept.facts, profile, form, current.get());
    }
    throw ServiceError(410, "expired", "the last result was signed by a key that is not published any more");
}

}  // namespace gatehouse::server
