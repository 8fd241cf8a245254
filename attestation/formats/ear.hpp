// Attestation results by others' profiles of EAR (EAT Attestation Results), as JWT and as CWT.
//
//   gatehouse  tag:gatehouse,2026:result             verifier/token.hpp; JWT only
//   ietf       tag:ietf.org,2026:rats/ear#03         draft-ietf-rats-ear-03
//   ietf-04    tag:ietf.org,2026:rats/ear#04         draft-ietf-rats-ear-04, which names itself and is else the same here
//   veraison   tag:github.com,2023:veraison/ear      what the Veraison project's libraries read
//
// Claims, with the label in CWT (the draft's section 9.1, RFC 9711 and RFC 8392; AR4SI's vector and verifier-id):
//
//   ietf, ietf-04                    CWT   veraison
//   eat_profile                      265   eat_profile
//   iat, exp, iss                    6,4,1 iat, exp, iss          exp only of a result that stands for some time
//   ueid                             256   -                      if the EK is known
//   ear_status                      1000   -                      of the whole: that of the one submodule
//   ear_verifier_id                 1004   ear.verifier-id        {"developer" 0, "build" 1}
//   submods                          266   submods                {"gatehouse": of the endpoint:}
//     ear_status                    1000     ear.status           CWT: 0, 2, 32, 96
//     ear_trustworthiness_vector    1001     ear.trustworthiness-vector      CWT: claims by AR4SI's numbers
//     ear_appraisal_policy_ids      1003     ear.appraisal-policy-id         one text, not an array
//     eat_nonce                       10     -                    of the evidence
//     -                           -70000     ear.veraison.annotated-evidence  {"ueid", "eat_nonce", "source"}
//
// What a profile does not know is left out: Veraison's readers refuse claims that they do not know.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <optional>

#include "attestation/verifier/result.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::formats {

using host::Buffer;

enum class ResultProfile : std::uint8_t { kGatehouse, kIetf03, kIetf04, kVeraison };
enum class ResultForm : std::uint8_t { kJwt, kCwt };

struct ResultProfileRow {
    ResultProfile profile;
    std::string_view name;
    std::string_view uri;
};
inline constexpr std::array kResultProfiles{
    ResultProfileRow{ResultProfile::kGatehouse, "gatehouse", "tag:gatehouse,2026:result"},
    ResultProfileRow{ResultProfile::kIetf03, "ietf", "tag:ietf.org,2026:rats/ear#03"},
    ResultProfileRow{ResultProfile::kIetf04, "ietf-04", "tag:ietf.org,2026:rats/ear#04"},
    ResultProfileRow{ResultProfile::kVeraison, "veraison", "tag:github.com,2023:veraison/ear"},
};
// By its name or its URI.
[[nodiscard]] std::optional<ResultProfile> result_profile(std::string_view text);
[[nodiscard]] std::string_view uri_of(ResultProfile profile);
// "gatehouse (tag:...), ietf (...)...": for those who asked for another.
[[nodiscard]] std::string result_profiles();
// Whether there are results of this profile in this form.
[[nodiscard]] bool is_offered(ResultProfile profile, ResultForm form);

// `application/eat+jwt; eat_profile="..."` or eat+cwt (RFC 9782).
[[nodiscard]] std::string result_media_type(ResultProfile profile, ResultForm form);

// A signed result: the text of a JWT, or a CWT (COSE_Sign1, tag 18, without the CWT tag). ToolError if it is not offered.
[[nodiscard]] Buffer sign_result(const verifier::ResultFacts& facts, ResultProfile profile, ResultForm form,
                                 EVP_PKEY* key);

// A result of profile gatehouse, read again, to be given out by another.
struct KeptResult {
    Buffer nonce;
    verifier::ResultFacts facts;  // findings and coverage excepted
    KeptResult() = default;
    KeptResult(KeptResult&&) = default;  // facts.nonce stays a view of `nonce`
    KeptResult& operator=(KeptResult&&) = delete;
};
// The payload of a JWS that was verified. ToolError if it is not what make_result() makes.
[[nodiscard]] KeptResult read_result(std::string_view payload);

}  // namespace gatehouse::formats
