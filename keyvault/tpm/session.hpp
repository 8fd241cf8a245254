// PolicySession: a TPM 2.0 policy session (SHA-256), plain or salted.
//
// A salted session has a key that only this code and the TPM that holds the salting key know: the salt is
// agreed by ECDH with that key (Part 1, C.6), the session key follows by KDFa (Part 1, 19.6.8). In it
//   - commands and responses carry an HMAC, and a response without the right one is refused (kBadMac):
//     an interposer cannot answer in the TPM's place;
//   - the secret in unseal()'s response is encrypted with AES-128-CFB (Part 1, 21): a bus sniffer learns
//     nothing.
// The salting key is therefore to be authenticated first: by a Name that was pinned (read_public() proves
// only that the answer fits itself).
//
// A plain session authorizes by its policy alone, has no HMAC and no encryption.
//
// The session is flushed when the object goes, whatever happened. Policy methods fail with kTpmError if the
// TPM refuses the assertion; what they assert about the future (PCRs unchanged, locality) is checked when the
// session is used.
#pragma once

#include <optional>

#include "hypervisor/base/secret.hpp"
#include "keyvault/random.hpp"
#include "keyvault/tpm/tpm.hpp"

namespace gatehouse::tpm {

class Command;  // command.hpp, not for callers
struct Response;

// PCRs, qualifying data and time of a machine, signed by a key of its TPM.
struct Quote {
    AttestBlob attest;        // TPMS_ATTEST
    SignatureBlob signature;  // TPMT_SIGNATURE
};

class PolicySession {
  public:
    [[nodiscard]] static Result<PolicySession> start(Tpm& tpm, RandomSource& random);
    // Salted to the loaded ECC P-256 decryption key `salt_key`, whose public area is `salt_public`.
    // kUnsupported for another kind of key, kBadValue if its point is not on the curve.
    [[nodiscard]] static Result<PolicySession> start_salted(Tpm& tpm, RandomSource& random, TPM2_HANDLE salt_key,
                                                            Bytes salt_public);

    // The PCRs as they are now, and that they do not change until the session is used.
    [[nodiscard]] Status policy_pcr(const PcrSelection& selection);
    // `localities` as TPMA_LOCALITY: bit n is locality n (0..4).
    [[nodiscard]] Status policy_locality(TPMA_LOCALITY localities);
    // That the counter at `index` is at most `limit` now; refused with TPM2_RC_POLICY if not.
    [[nodiscard]] Status policy_counter_at_most(TPM2_HANDLE index, std::uint64_t limit);
    // That the session's policy so far is `approved` and that `ticket` proves the key's approval of it for the policy
    // reference `policy_ref` || `suffix`.
    [[nodiscard]] Status policy_authorize(const Sha256Digest& approved, Bytes policy_ref, Bytes suffix, const Name& key,
                                          const Ticket& ticket);
    // That the empty authorization value of the hierarchy or object `entity` is known.
    [[nodiscard]] Status policy_secret(TPM2_HANDLE entity);
    [[nodiscard]] Result<Sha256Digest> policy_digest();

    // The secret in the loaded sealed object `object`, of exactly 32 bytes (else kBadLength). Only in a
    // salted session (else kState). `name` is the object's Name, computed here from its public area: it is in
    // the command's HMAC.
    [[nodiscard]] Result<Secret<32>> unseal(TPM2_HANDLE object, const Name& name);

    // Quote by the loaded key `key` over PCRs and up to 64 bytes of `qualifying_data`. What is in
    // it, and its signature, is the verifier's to check: nobody before him relies on it.
    [[nodiscard]] Result<Quote> quote(TPM2_HANDLE key, Bytes qualifying_data, const PcrSelection& selection);

    // For this room: appends this session to a command, after its handles and passwords. A salted session authorizes
    // commands without parameters, on the object with this Name.
    void authorize(Command& command, Bytes name = {});
    // Sends a command that this session authorizes; the response's parameters
    // are authenticated if the session is salted, not decrypted.
    [[nodiscard]] Result<Response> execute(Command& command);

  private:
    static constexpr std::size_t kNonceSize = 32;

    [[nodiscard]] Status open(Tpm& tpm, RandomSource& random, TPM2_HANDLE salt_key, Bytes encrypted_salt, Bytes salt);
    [[nodiscard]] TPMA_SESSION attributes() const;
    [[nodiscard]] Sha256Digest authorization_hmac(const Sha256Digest& parameter_hash, Bytes newer, Bytes older) const;

    Tpm* tpm_ = nullptr;
    RandomSource* random_ = nullptr;
    Flushed session_;
    bool salted_ = false;
    Secret<kSha256Size> key_;
    std::array<std::byte, kNonceSize> nonce_caller_{};
    std::array<std::byte, kNonceSize> nonce_tpm_{};
};

}  // namespace gatehouse::tpm
