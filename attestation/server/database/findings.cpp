#include "attestation/server/database/findings.hpp"

#include <nlohmann/json.hpp>

#include "attestation/protocol/verdict_json.hpp"

namespace gatehouse::server {

std::string findings_json(const std::vector<verifier::Finding>& findings) {
    return protocol::findings_json(findings).dump();
}

std::vector<verifier::Finding> findings_from_json(const std::string& json) {
    std::vector<verifier::Finding> all;
    for (const nlohmann::json& one : nlohmann::json::parse(json))
        all.push_back({one.at("rule"), one.at("ok"), one.at("detail")});
    return all;
}

}  // namespace gatehouse::server
