// Policy digests, computed without a TPM: for the host tools that sign, seal and verify. The hypervisor asks the TPM.
//
// Each function gives the digest that a TPM's policy session has after the same assertions (Part 1, 19.7;
// Part 3, 23). All policies are SHA-256 policies.
#pragma once

#include "keyvault/tpm/sealing.hpp"

namespace gatehouse::tpm {

// A policy digest that grows by one assertion after the other, from 32 zeros.
class PolicyDigest {
  public:
    // PCRs of `selection`, in ascending order; `values` are their digests one after the other.
    PolicyDigest& pcr(const PcrSelection& selection, std::initializer_list<Bytes> values);
    PolicyDigest& locality(TPMA_LOCALITY localities);
    // NV counter with the Name `counter` at most `limit`. The Name is that of the index once it has been
    // written: TPMA_NV_WRITTEN is part of it.
    PolicyDigest& counter_at_most(const Name& counter, std::uint64_t limit);
    // Replaces everything before it, as PolicyAuthorize does.
    PolicyDigest& authorize(const Name& key, Bytes policy_ref);

    [[nodiscard]] const Sha256Digest& value() const { return value_; }

  private:
    PolicyDigest& extend(TPM2_CC command, std::initializer_list<Bytes> arguments);
    Sha256Digest value_{};
};

// What the authority approves: { PolicyPCR 17+18, PolicyLocality 2, PolicyNV counter <= limit }, in this
// order. `pcr17` and `pcr18` are SHA-256 values of 32 bytes.
[[nodiscard]] Sha256Digest sealing_policy_digest(const Sha256Digest& pcr17, const Sha256Digest& pcr18,
                                                 const Name& counter, std::uint64_t limit);
// What the authority approves of a machine, after the release:
// { PolicyAuthorize(authority, policy_ref), PolicyPCR 19 }.
[[nodiscard]] Sha256Digest machine_policy_digest(const Name& authority, Bytes policy_ref, const Sha256Digest& pcr19);
// The sealed object's authPolicy: with `policy_ref` where the release alone is approved; with
// machine_policy_ref(policy_ref) where the machine is as well.
[[nodiscard]] Sha256Digest authorize_policy_digest(const Name& authority, Bytes policy_ref);
// policy_ref || "/machine": what approvals of machines are signed for. kBadLength if `policy_ref` is too long.
using PolicyRef = Blob<64>;
[[nodiscard]] Result<PolicyRef> machine_policy_ref(Bytes policy_ref);
// What the authority signs: SHA-256(approved policy || policy reference).
[[nodiscard]] inline Sha256Digest approval_digest(const Sha256Digest& approved, Bytes policy_ref) {
    return sha256({approved, policy_ref});
}
// The attestation key's authPolicy: locality 2.
[[nodiscard]] Sha256Digest attestation_key_policy_digest();

}  // namespace gatehouse::tpm
