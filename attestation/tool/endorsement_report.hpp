// `attest endorsement`: whether an endorsement key would be accepted, before its endpoint enrolls.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "attestation/verifier/endorsement.hpp"

namespace gatehouse::verifier {

struct EndorsementRequest {
    std::string certificate;  // file: DER, with the header and padding it has in NV, or PEM
    std::string public_area;  // file: TPMT_PUBLIC or TPM2B_PUBLIC of the EK
    std::vector<std::string> roots, intermediates, revocations;  // files, DER or PEM (one or several)
    std::vector<std::string> chain;                              // files, as in NV 0x01c00100 and after
};

// ToolError naming the file that cannot be read, or that holds something else.
[[nodiscard]] EndorsementVerdict inspect_endorsement(const EndorsementRequest& request, std::time_t now);

// "accepted", "rules" (rule, ok, detail), "quirks", "manufacturer", "model", "version", "ek_hash" (what an
// operator registers beforehand).
[[nodiscard]] nlohmann::json endorsement_json(const EndorsementRequest& request, const EndorsementVerdict& verdict);

}  // namespace gatehouse::verifier
