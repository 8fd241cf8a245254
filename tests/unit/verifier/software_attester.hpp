// Evidence as a TPM and a hypervisor would make it, signed by a key in software, so that each field of it can
// be another than any TPM would put there. Evidence of a TPM (swtpm) is appraisal_test.cpp's.
#pragma once

#include <optional>

#include "attestation/verifier/appraisal.hpp"
#include "attestation/verifier/event_log.hpp"
#include "keyvault/host_support/authority.hpp"
#include "tests/unit/evidence/machine_facts.hpp"

namespace gatehouse::test {

using host::Buffer;
using verifier::Attribute;

// Bytes of a repeatable kind.
[[nodiscard]] Buffer filler(std::string_view seed, std::size_t size = 32);

// Takes the last `count` bytes off. (Not by resize(): GCC 12 warns of what it would do, were it to grow.)
void cut_off(Buffer& bytes, std::size_t count);

// The Name that some object may have: 0x000b and 32 bytes.
[[nodiscard]] Buffer some_name(std::string_view seed);

// TPMS_ATTEST, field by field.
struct AttestFields {
    std::uint32_t magic = 0xff544347;
    std::uint16_t type = 0x8018;
    Buffer qualified_signer;
    Buffer extra_data;
    std::uint64_t clock = 5'000'000;
    std::uint32_t reset_count = 70;
    std::uint32_t restart_count = 30;
    std::uint8_t safe = 1;
    std::uint64_t firmware_version = 0x20260101'00000001;
    std::vector<verifier::Selection> selections;
    std::uint8_t bitmap_size = 3;
    Buffer pcr_digest;
    [[nodiscard]] Buffer marshal() const;
};

// TPMT_PUBLIC of an attestation key, field by field; the point or modulus is of `key`.
struct KeyFields {
    std::uint16_t type = 0x0023;
    std::uint16_t name_algorithm = 0x000b;
    std::uint32_t attributes = 0;  // with_defaults() sets them
    Buffer policy;
    std::uint16_t scheme = 0x0018;
    std::uint16_t scheme_hash = 0x000b;
    std::uint16_t curve = 0x0003;
    std::uint16_t rsa_bits = 2048;

    // As `sealed-key provision` makes it.
    [[nodiscard]] static KeyFields with_defaults();
    void set(Attribute attribute) { attributes |= static_cast<std::uint32_t>(attribute); }
    void clear(Attribute attribute) { attributes &= ~static_cast<std::uint32_t>(attribute); }
    [[nodiscard]] Buffer marshal(EVP_PKEY* key) const;
};

// `kind`: "EC" on `group`, or "RSA" of 2,048 bits.
[[nodiscard]] host::Key make_software_key(const char* kind = "EC", const char* group = "P-256");
// TPMT_SIGNATURE with the key and the hash of the scheme.
[[nodiscard]] Buffer sign(EVP_PKEY* key, Bytes message, std::uint16_t scheme = 0x0018,
                          HashAlgorithm hash = HashAlgorithm::kSha256);
// ECDSA-SHA-256 TPMT_SIGNATURE of numbers.
[[nodiscard]] Buffer ecdsa_signature(Bytes r, Bytes s, std::uint16_t scheme = 0x0018, std::uint16_t hash = 0x000b);

// A log event to be.
struct SampleEvent {
    std::uint32_t pcr = 0;
    std::uint32_t type = 0;
    Buffer measured;  // what is hashed
    Buffer data;
};
[[nodiscard]] Buffer agile_log(std::span<const HashAlgorithm> banks, std::span<const SampleEvent> events);
// A log cut into its header and its events.
[[nodiscard]] std::vector<Buffer> split_log(const Buffer& log);
[[nodiscard]] Buffer join_log(const std::vector<Buffer>& parts);

// One attestation with everything that goes into it and into its judgement. Change what is to be quoted, then
// seal(), then change what was sent.
struct Sample {
    static Sample of_hypervisor();
    static Sample of_tpm();

    // Fills in what follows from the rest (claims, qualifying data, signer, PCR digest, log), quotes and
    // signs.
    void seal();
    [[nodiscard]] verifier::Verdict judge(bool with_views = false) const;

    // --- before seal()
    verifier::Source source = verifier::Source::kHypervisor;
    KeyFields key_fields = KeyFields::with_defaults();
    AttestFields attest;
    evidence::Claims claims;
    std::vector<SampleEvent> events;            // as the PCRs were extended, and logged
    std::map<std::uint32_t, unsigned> startup;  // PCR 0's locality
    std::optional<Buffer> quoted_signer;        // instead of the right one
    std::optional<Buffer> quoted_extra_data;
    std::optional<std::vector<SampleEvent>> logged;  // instead of the events
    Buffer srk_name = some_name("srk");

    // --- as sent
    Buffer quote, signature, encoded_claims, log, pcr_values;

    // --- for the judgement
    Buffer nonce = filler("nonce");
    verifier::Policy policy;
    bool with_policy = true;
    bool bare_nonce = false;
    verifier::TpmState known;
    Buffer enrolled;  // TPMT_PUBLIC

    [[nodiscard]] EVP_PKEY* key() const;
    // Remembers the sealed quote as the endpoint's last one.
    void remember();

    std::vector<HashAlgorithm> banks{HashAlgorithm::kSha256, HashAlgorithm::kSha384};
};

// The objects of a launch that Sample::of_hypervisor() measures, and the reference that expects them.
[[nodiscard]] std::vector<SampleEvent> launch_events();
[[nodiscard]] policies::Prediction launch_reference();
// The model of that launch's machine, with ACPI tables, and the event of one.
[[nodiscard]] SampleEvent table_event(std::string_view name, Buffer table);
[[nodiscard]] policies::MachineModel sample_model(const std::vector<SampleEvent>& tables = {});

}  // namespace gatehouse::test
