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

// What is kept is signed: a change of the database alone does not come out with a good signature.
std::optional<Buffer> Service::last_result(const Principal& by, const std::string& endpoint,
                                           formats::ResultProfile profile, formats::ResultForm form) {
    const std::optional<Attestation> last = last_attestation(by, endpoint);
    if (!last) return std::nullopt;
    if (profile == formats::ResultProfile::kGatehouse && form == formats::ResultForm::kJwt) {
        const Bytes kept = host::text_bytes(last->result);
        return Buffer(kept.begin(), kept.end());
    }
    for (const auto& key : inside_->result_keys.published(inside_->now())) {
        const auto payload = verifier::verify_jws(last->result, verifier::kResultType, key.get());
        if (!payload) continue;
        const formats::KeptResult kept = formats::read_result(*payload);
        return formats::sign_result(kept.facts, profile, form, inside_->result_keys.current().get());
    }
    throw ServiceError(410, "expired", "the last result was signed by a key that is not published any more");
}

}  // namespace gatehouse::server
