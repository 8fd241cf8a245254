// Reference values as CoRIM (draft-ietf-rats-corim-10), signed with COSE_Sign1.
//
// Written:
//   18 COSE_Sign1, protected {1: -7, 3: "application/rim+cbor", 4: key id, 8: {0: {0: signer}}}, payload
//   501 corim-map {0: "tag:gatehouse,2026:rim/" SHA-256 of the bundle, 1: [506 concise-mid-tag]}
//   concise-mid-tag {1: {0: the same id}, 4: {0: [[environment, [measurement...]]]}}, one reference triple:
//     environment  {0: {1: "Gatehouse", 2: "launch"}}
//     measurement  {0: "policy bundle"...: name of an event, 1: {2: digests}}, of the policy bundle with 4: 560 the whole file
//     measurement  {0: "unseal", 1: {14: {17: digests, 18: digests}}}: the PCRs while the sealing policy is met
//     measurement  {0: "capped", 1: {14: {17: digests, 18, 19}}}: as guests and quotes have them; 18 if it is known which
//                  vault is opened, 19 if the machine's model is
//   A digest is [algorithm, value], the algorithm by IANA's Named Information registry: 1 SHA-256, 7 SHA-384, 8 SHA-512;
//   "sha1" is not in it.
//
// Read: the reference triples of every CoMID. Whose environment is as above, and which has all events with the bundle, is a
// launch; other integrity registers (14) are acceptable values of PCRs, whoever wrote them, of one class of environment: those
// of a second one are refused, as a PCR of one model with a PCR of another is nobody's reference. Digests of other algorithms,
// values of instances and groups, what a measurement has besides its registers, links between tags, and tags of other kinds
// (CoSWID, CoTL), are passed over and named. A CoRIM that follows a profile (3) is refused: it may mean something else. So is
// one with a measurement that is for evidence of certain signers alone (2, authorized-by): a policy cannot demand that, and
// without that measurement it would demand less.
#pragma once

#include <map>

#include "attestation/formats/cose.hpp"
#include "policies/prediction/machine_model.hpp"
#include "policies/prediction/predict.hpp"

namespace gatehouse::formats {

inline constexpr std::size_t kMaxCorim = 4u << 20;

struct CorimFacts {
    const policies::Prediction* prediction = nullptr;
    Buffer vault_id;                                  // empty: the one that the bundle pins, or none
    const policies::MachineModel* machine = nullptr;  // or null
    std::string signer = "gatehouse";
};
// ToolError if the key is not on P-256.
[[nodiscard]] Buffer corim_file(const CorimFacts& facts, EVP_PKEY* key);

struct Corim {
    std::string id;
    std::vector<policies::Prediction> launches;
    std::map<HashAlgorithm, std::map<std::uint32_t, std::vector<Digest>>> registers;  // acceptable values of each PCR
    std::string environment;  // whose registers they are: equal for the same environment alone, empty without registers
    std::vector<std::string> passed_over;  // what, in words
};
// ToolError "WHAT: ..." if it is not a CoRIM that `key` has signed, not well-formed, or not valid at `now`:
// by its own rim-validity, its signature's validity, or the "nbf" and "exp" of CWT claims in its header.
[[nodiscard]] Corim read_corim(Bytes file, const EVP_PKEY* key, std::int64_t now, const std::string& what);

}  // namespace gatehouse::formats
