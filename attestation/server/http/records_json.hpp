// The records of the service as JSON, as the REST interface shows them.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attestation/server/service.hpp"

namespace gatehouse::http {

[[nodiscard]] nlohmann::json to_json(const server::Endpoint& endpoint);
[[nodiscard]] nlohmann::json to_json(const server::Endorsement& endorsement);
[[nodiscard]] nlohmann::json to_json(const server::Attestation& attestation, bool with_verdict);
[[nodiscard]] nlohmann::json to_json(const server::Enrollment& enrollment);
[[nodiscard]] nlohmann::json to_json(const server::PolicyVersion& policy, bool whole);
[[nodiscard]] nlohmann::json to_json(const server::Assignment& assignment);
[[nodiscard]] nlohmann::json to_json(const server::Refusal& refusal);
[[nodiscard]] nlohmann::json to_json(const server::AuditEntry& entry);
[[nodiscard]] nlohmann::json to_json(const server::Counts& counts);
[[nodiscard]] nlohmann::json to_json(const server::Service::AuditCheck& check);
[[nodiscard]] nlohmann::json to_json(const server::Token& token);
[[nodiscard]] nlohmann::json to_json(const server::Service::Crls& crls);

}  // namespace gatehouse::http
