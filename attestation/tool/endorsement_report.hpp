// `attest endorsement`: whether an endorsement key would be accepted, before its endpoint enrolls.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "attestation/verifier/endorsement.hpp"
#include "keyvault/host_support/authority.hpp"

namespace gatehouse::verifier {

// Of a file where a public area is wanted: why a key in PEM will not do.
inline constexpr const char* kNoPublicArea =
    "a key in PEM does not say how the TPM keeps it; give its TPM2B_PUBLIC or TPMT_PUBLIC (tpm2_readpublic -f tss or tpmt)";
[[nodiscard]] bool is_pem(Bytes file);
// A public key of whatever form: PEM (or a certificate in it), TPM2B_PUBLIC, TPMT_PUBLIC. ToolError naming the file.
[[nodiscard]] host::Key read_any_public_key(const std::string& path);

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
