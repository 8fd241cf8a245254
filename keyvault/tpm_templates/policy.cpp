#include "keyvault/tpm_templates/policy.hpp"

#include "keyvault/tpm/command.hpp"

namespace gatehouse::tpm {
namespace {

template <std::unsigned_integral T>
std::array<std::byte, sizeof(T)> big_endian(T value) {
    std::array<std::byte, sizeof(T)> bytes{};
    store(bytes.data(), value, Endian::kBig);
    return bytes;
}

}  // namespace

// new = H(old || command code || arguments)
PolicyDigest& PolicyDigest::extend(TPM2_CC command, std::initializer_list<Bytes> arguments) {
    Hash hash(HashAlgorithm::kSha256);
    hash.update(value_).update(big_endian(command));
    for (const Bytes argument : arguments) hash.update(argument);
    copy_bytes(value_, hash.finish().bytes());
    return *this;
}

// Part 3, 23.7: H(old || CC || TPML_PCR_SELECTION || H(values))
PolicyDigest& PolicyDigest::pcr(const PcrSelection& selection, std::initializer_list<Bytes> values) {
    return extend(TPM2_CC_PolicyPCR, {marshalled(selection), sha256(values)});
}

// Part 3, 23.8
PolicyDigest& PolicyDigest::locality(TPMA_LOCALITY localities) {
    return extend(TPM2_CC_PolicyLocality, {big_endian(localities)});
}

// Part 3, 23.9: H(old || CC || H(operandB || offset || operation) || Name)
PolicyDigest& PolicyDigest::counter_at_most(const Name& counter, std::uint64_t limit) {
    const Sha256Digest arguments = sha256(
        {big_endian(limit), big_endian(std::uint16_t{0}), big_endian(static_cast<std::uint16_t>(TPM2_EO_UNSIGNED_LE))});
    return extend(TPM2_CC_PolicyNV, {arguments, counter});
}

// Part 3, 23.16 and Part 1, 19.7.11 (PolicyUpdate): H(H(0 || CC || Name) || policyRef)
PolicyDigest& PolicyDigest::authorize(const Name& key, Bytes policy_ref) {
    value_ = {};
    extend(TPM2_CC_PolicyAuthorize, {key});
    value_ = sha256({value_, policy_ref});
    return *this;
}

Sha256Digest sealing_policy_digest(const Sha256Digest& pcr17, const Sha256Digest& pcr18, const Name& counter,
                                   std::uint64_t limit) {
    return PolicyDigest()
        .pcr(kLaunchPcrs, {pcr17, pcr18})
        .locality(kHypervisorLocality)
        .counter_at_most(counter, limit)
        .value();
}

Sha256Digest machine_policy_digest(const Name& authority, Bytes policy_ref, const Sha256Digest& pcr19) {
    return PolicyDigest().authorize(authority, policy_ref).pcr(kMachinePcrs, {pcr19}).value();
}

Sha256Digest authorize_policy_digest(const Name& authority, Bytes policy_ref) {
    return PolicyDigest().authorize(authority, policy_ref).value();
}

Result<PolicyRef> machine_policy_ref(Bytes policy_ref) {
    std::array<std::byte, PolicyRef::kCapacity> joined{};
    Writer writer(joined);
    writer.bytes(policy_ref);
    writer.bytes(machine_suffix());
    PolicyRef ref;
    GATEHOUSE_TRY(writer.status("policy reference"));
    GATEHOUSE_TRY(ref.assign(writer.written(), "policy reference"));
    return ref;
}

Sha256Digest attestation_key_policy_digest() { return PolicyDigest().locality(kHypervisorLocality).value(); }

}  // namespace gatehouse::tpm
