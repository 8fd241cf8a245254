#include "tests/unit/verifier/software_attester.hpp"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/rsa.h>

#include "attestation/evidence_reader/launch_log_reader.hpp"
#include "keyvault/tpm/sealing.hpp"
#include "keyvault/tpm_templates/policy.hpp"
#include "policies/bundle_writer/bundle_writer.hpp"

namespace gatehouse::test {
namespace {

using verifier::Selection;
using verifier::Source;

Buffer buffer_of(Bytes bytes) { return {bytes.begin(), bytes.end()}; }
Buffer written(const Buffer& room, const Writer& writer) {
    return {room.begin(), room.begin() + static_cast<std::ptrdiff_t>(writer.offset())};
}

std::size_t curve_bytes(std::uint16_t curve) { return curve == 5 ? 66 : curve == 4 ? 48 : 32; }

Buffer number_of(EVP_PKEY* key, const char* name, std::size_t size) {
    BIGNUM* number = nullptr;
    if (EVP_PKEY_get_bn_param(key, name, &number) != 1) return Buffer(size);
    Buffer bytes(size);
    (void)BN_bn2binpad(number, raw(MutableBytes(bytes)), static_cast<int>(size));
    BN_free(number);
    return bytes;
}

Buffer tagged(const evidence::Measurement& measurement) {
    Buffer data(8 + measurement.name.size());
    Writer writer(data);
    writer.u32(static_cast<std::uint32_t>(measurement.tag));
    writer.u32(static_cast<std::uint32_t>(measurement.name.size()));
    writer.bytes(host::text_bytes(measurement.name));
    return data;
}

policies::BundleFacts bundle_facts() {
    policies::BundleFacts facts;
    facts.counter_index = tpm::kRollbackCounter;
    facts.srk_name = some_name("srk");
    facts.vault_id = filler("vault");
    facts.authority = filler("authority", 90);
    facts.policy_ref = filler("policy reference", 16);
    return facts;
}

// Values of the PCRs after the events.
Digest value_after(const Sample& sample, HashAlgorithm bank, std::uint32_t pcr) {
    Digest value{.algorithm = bank};
    const auto locality = sample.startup.find(pcr);
    if (locality != sample.startup.end())
        value.storage[digest_size(bank) - 1] = static_cast<std::byte>(locality->second);
    for (const SampleEvent& event : sample.events) {
        if (event.pcr != pcr || event.type == 3) continue;
        value = evidence::extended(bank, value.bytes(), hash(bank, event.measured).bytes());
    }
    return value;
}

Buffer wide(std::string_view text) {
    Buffer bytes;
    for (const char c : text) {
        bytes.push_back(static_cast<std::byte>(c));
        bytes.push_back(std::byte{0});
    }
    return bytes;
}

Buffer variable(std::string_view name, std::string_view value) {
    Buffer data(32);
    Writer writer(data);
    writer.bytes(filler("guid", 16));
    writer.u64(name.size());
    writer.u64(value.size());
    const Buffer encoded = wide(name);
    data.insert(data.end(), encoded.begin(), encoded.end());
    const Bytes content = host::text_bytes(value);
    data.insert(data.end(), content.begin(), content.end());
    return data;
}

}  // namespace

Buffer filler(std::string_view seed, std::size_t size) {
    Buffer bytes;
    for (Sha256Digest digest = sha256(host::text_bytes(seed)); bytes.size() < size; digest = sha256(digest))
        bytes.insert(bytes.end(), digest.begin(), digest.end());
    bytes.resize(size);
    return bytes;
}

void cut_off(Buffer& bytes, std::size_t count) {
    bytes.erase(bytes.end() - static_cast<std::ptrdiff_t>(count), bytes.end());
}

Buffer some_name(std::string_view seed) {
    Buffer name{std::byte{0}, std::byte{0x0b}};
    const Buffer digest = filler(seed);
    name.insert(name.end(), digest.begin(), digest.end());
    return name;
}

Buffer AttestFields::marshal() const {
    Buffer room(2048);
    Writer writer(room, Endian::kBig);
    writer.u32(magic);
    writer.u16(type);
    writer.sized(qualified_signer);
    writer.sized(extra_data);
    writer.u64(clock);
    writer.u32(reset_count);
    writer.u32(restart_count);
    writer.u8(safe);
    writer.u64(firmware_version);
    writer.u32(static_cast<std::uint32_t>(selections.size()));
    for (const Selection& selection : selections) {
        writer.u16(static_cast<std::uint16_t>(selection.bank));
        writer.u8(bitmap_size);
        for (unsigned i = 0; i < bitmap_size; ++i)
            writer.u8(i < 4 ? static_cast<std::uint8_t>(selection.pcrs >> (8 * i)) : std::uint8_t{0});
    }
    writer.sized(pcr_digest);
    return written(room, writer);
}

KeyFields KeyFields::with_defaults() {
    KeyFields fields;
    for (const Attribute attribute : {Attribute::kFixedTpm, Attribute::kFixedParent, Attribute::kSensitiveDataOrigin,
                                      Attribute::kNoDictionaryAttack, Attribute::kRestricted, Attribute::kSign})
        fields.set(attribute);
    fields.policy = buffer_of(tpm::attestation_key_policy_digest());
    return fields;
}

Buffer KeyFields::marshal(EVP_PKEY* key) const {
    Buffer room(1024);
    Writer writer(room, Endian::kBig);
    writer.u16(type);
    writer.u16(name_algorithm);
    writer.u32(attributes);
    writer.sized(policy);
    writer.u16(0x0010);  // symmetric
    writer.u16(scheme);
    if (scheme != 0x0010) writer.u16(scheme_hash);
    if (type == 0x0001) {
        writer.u16(rsa_bits);
        writer.u32(0);
        writer.sized(number_of(key, OSSL_PKEY_PARAM_RSA_N, rsa_bits / 8));
    } else {
        writer.u16(curve);
        writer.u16(0x0010);  // KDF
        writer.sized(number_of(key, OSSL_PKEY_PARAM_EC_PUB_X, curve_bytes(curve)));
        writer.sized(number_of(key, OSSL_PKEY_PARAM_EC_PUB_Y, curve_bytes(curve)));
    }
    return written(room, writer);
}

host::Key make_software_key(const char* kind, const char* group) {
    EVP_PKEY* const key = std::string_view(kind) == "RSA" ? EVP_RSA_gen(2048) : EVP_EC_gen(group);
    if (key == nullptr) throw host::ToolError("no key");
    return {key, EVP_PKEY_free};
}

Buffer ecdsa_signature(Bytes r, Bytes s, std::uint16_t scheme, std::uint16_t hash) {
    Buffer room(256);
    Writer writer(room, Endian::kBig);
    writer.u16(scheme);
    writer.u16(hash);
    writer.sized(r);
    writer.sized(s);
    return written(room, writer);
}

Buffer sign(EVP_PKEY* key, Bytes message, std::uint16_t scheme, HashAlgorithm hash) {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    const EVP_MD* const digest = hash == HashAlgorithm::kSha384   ? EVP_sha384()
                                 : hash == HashAlgorithm::kSha512 ? EVP_sha512()
                                                                  : EVP_sha256();
    EVP_PKEY_CTX* inner = nullptr;
    if (EVP_DigestSignInit(context.get(), &inner, digest, nullptr, key) != 1) throw host::ToolError("cannot sign");
    if (scheme == 0x0016) (void)EVP_PKEY_CTX_set_rsa_padding(inner, RSA_PKCS1_PSS_PADDING);
    Buffer der(1024);
    std::size_t size = der.size();
    if (EVP_DigestSign(context.get(), raw(MutableBytes(der)), &size, raw(message), message.size()) != 1)
        throw host::ToolError("cannot sign");
    der.resize(size);
    if (scheme != 0x0018) {
        Buffer room(1024);
        Writer writer(room, Endian::kBig);
        writer.u16(scheme);
        writer.u16(static_cast<std::uint16_t>(hash));
        writer.sized(der);
        return written(room, writer);
    }
    const unsigned char* at = raw(Bytes(der));
    const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> parsed(
        d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)), ECDSA_SIG_free);
    const auto bytes = [](const BIGNUM* number) {
        Buffer out(static_cast<std::size_t>(BN_num_bytes(number)));
        (void)BN_bn2bin(number, raw(MutableBytes(out)));
        return out;
    };
    return ecdsa_signature(bytes(ECDSA_SIG_get0_r(parsed.get())), bytes(ECDSA_SIG_get0_s(parsed.get())), scheme,
                           static_cast<std::uint16_t>(hash));
}

Buffer agile_log(std::span<const HashAlgorithm> banks, std::span<const SampleEvent> events) {
    std::size_t size = 1 << 16;
    for (const SampleEvent& event : events) size += event.data.size();
    Buffer room(size);
    auto log = host::expect(evidence::EventLogWriter::create(room, banks), "log");
    for (const SampleEvent& event : events) {
        std::vector<Digest> digests;
        for (const HashAlgorithm bank : banks)
            digests.push_back(event.type == 3 ? Digest{.algorithm = bank} : hash(bank, event.measured));
        host::expect(log.append(event.pcr, static_cast<evidence::EventType>(event.type), digests, event.data), "log");
    }
    return buffer_of(log.log());
}

std::vector<Buffer> split_log(const Buffer& log) {
    std::vector<Buffer> parts;
    auto reader = host::expect(evidence::EventLogReader::open(log), "log");
    std::size_t start = 0;
    const auto take = [&] {
        parts.push_back(buffer_of(Bytes(log).subspan(start, reader.offset() - start)));
        start = reader.offset();
    };
    take();
    while (!reader.at_end()) {
        (void)host::expect(reader.next(), "log");
        take();
    }
    return parts;
}

Buffer join_log(const std::vector<Buffer>& parts) {
    Buffer log;
    for (const Buffer& part : parts) log.insert(log.end(), part.begin(), part.end());
    return log;
}

std::vector<SampleEvent> launch_events() {
    std::vector<SampleEvent> events;
    for (const evidence::Measurement& measurement : evidence::kMeasurements) {
        const bool bundle = measurement.tag == evidence::MeasurementTag::kPolicy;
        events.push_back({measurement.pcr, 6,
                          bundle ? policies::bundle_file(bundle_facts()) : filler(measurement.name, 100),
                          tagged(measurement)});
    }
    events.push_back({evidence::kMachinePcr, 6, encoded(sample_machine()), tagged(evidence::kMachineMeasurement)});
    events.push_back({evidence::kPayloadPcr, 6, filler("vault"), tagged(evidence::kVaultMeasurement)});
    for (const std::uint32_t pcr : evidence::kCappedPcrs)
        events.push_back({pcr, 4, buffer_of(evidence::kCapData), buffer_of(evidence::kCapData)});
    return events;
}

SampleEvent table_event(std::string_view name, Buffer table) {
    return {evidence::kMachinePcr, 6, std::move(table),
            tagged({evidence::kMachinePcr, evidence::MeasurementTag::kAcpiTable, name})};
}

policies::MachineModel sample_model(const std::vector<SampleEvent>& tables) {
    std::vector<SampleEvent> events{
        {evidence::kMachinePcr, 6, encoded(sample_machine()), tagged(evidence::kMachineMeasurement)}};
    events.insert(events.end(), tables.begin(), tables.end());
    return policies::learn_model(agile_log(std::array{HashAlgorithm::kSha256, HashAlgorithm::kSha384}, events), {});
}

policies::Prediction launch_reference() {
    policies::Prediction reference;
    const std::vector<SampleEvent> events = launch_events();
    for (std::size_t i = 0; i < evidence::kMeasurements.size(); ++i) {
        policies::ExpectedEvent expected;
        expected.pcr = events[i].pcr;
        expected.tag = static_cast<std::uint32_t>(evidence::kMeasurements[i].tag);
        expected.name = std::string(evidence::kMeasurements[i].name);
        for (std::size_t bank = 0; bank < policies::kPredictedBanks.size(); ++bank)
            expected.digests[bank] = hash(policies::kPredictedBanks[bank], events[i].measured);
        reference.events.push_back(std::move(expected));
    }
    reference.bundle = bundle_facts();
    reference.bundle.digest = sha256(policies::bundle_file(reference.bundle));
    return reference;
}

EVP_PKEY* Sample::key() const {
    static const host::Key kKey = make_software_key();  // one for all
    return kKey.get();
}

Sample Sample::of_hypervisor() {
    Sample sample;
    sample.events = launch_events();
    sample.attest.selections = {{HashAlgorithm::kSha256, 7u << 17}, {HashAlgorithm::kSha384, 7u << 17}};
    sample.claims = {.hypervisor_version = 0x000102,
                     .launch = evidence::Launch::kSkinit,
                     .iommu = evidence::Iommu::kAmdVi,
                     .cpus = 4,
                     .flags = 3,
                     .kept_bytes = 0xc00000,
                     .counter_limit = 7,
                     .policy_digest = launch_reference().bundle.digest,
                     .vault_pin = evidence::VaultPin::kBundle,
                     .machine = sample_machine(),
                     .disk_count = 1};
    copy_bytes(sample.claims.storage_root, some_name("srk"));
    copy_bytes(sample.claims.vault_id, filler("vault"));
    sample.claims.disks[0].state = evidence::DiskState::kEncrypted;
    sample.claims.disks[0].key_epoch = 1;
    sample.claims.disks[0].generation = 5;
    copy_bytes(sample.claims.disks[0].sealed_name, filler("sealed secret", policies::kNameSize));
    sample.policy.name = "laptops";
    sample.policy.version = 3;
    sample.policy.references = {launch_reference()};
    sample.policy.counter_floor = 7;
    sample.policy.minimum_hypervisor = 0x000102;
    return sample;
}

Sample Sample::of_tpm() {
    Sample sample;
    sample.source = Source::kTpm;
    sample.key_fields.policy.clear();
    sample.key_fields.set(Attribute::kUserWithAuth);
    sample.banks = {HashAlgorithm::kSha1, HashAlgorithm::kSha256};
    sample.startup = {{0, 3}};
    const auto of_data = [&](std::uint32_t pcr, std::uint32_t type, Buffer data) {
        sample.events.push_back({pcr, type, data, data});
    };
    Buffer locality = buffer_of(literal_bytes("StartupLocality\0"));
    locality.push_back(std::byte{3});
    of_data(0, 3, locality);
    of_data(0, 8, wide("firmware 1.2"));
    sample.events.push_back({0, 0x80000008, filler("firmware volume", 500), filler("address", 16)});
    of_data(7, 0x80000001, variable("SecureBoot", "\x01"));
    of_data(4, 0x80000007, buffer_of(literal_bytes("Calling EFI Application from Boot Option")));
    for (std::uint32_t pcr = 0; pcr < 8; ++pcr) of_data(pcr, 4, Buffer(4));
    sample.events.push_back({4, 0x80000003, filler("boot loader", 500), filler("device path", 60)});
    sample.events.push_back(
        {8, 0x0d, buffer_of(literal_bytes("set root=hd0")), buffer_of(literal_bytes("grub_cmd: set root=hd0\0"))});
    sample.attest.selections = {{HashAlgorithm::kSha256, 0x1ff}};
    sample.policy.name = "workstations";
    sample.policy.version = 1;
    sample.policy.source = Source::kTpm;
    for (const std::uint32_t pcr : {0u, 4u, 7u})
        sample.policy.pcrs[HashAlgorithm::kSha256][pcr] = {value_after(sample, HashAlgorithm::kSha256, pcr)};
    return sample;
}

void Sample::seal() {
    enrolled = key_fields.marshal(key());
    encoded_claims.clear();
    if (source == Source::kHypervisor) {
        encoded_claims.resize(evidence::kMaxClaimsSize);
        encoded_claims.resize(host::expect(evidence::encode_claims(claims, encoded_claims), "claims"));
    }
    log = agile_log(banks, logged ? *logged : events);
    Buffer values;
    for (const Selection& selection : attest.selections) {
        if (!can_hash(selection.bank)) continue;
        for (std::uint32_t pcr = 0; pcr < 24; ++pcr) {
            if ((selection.pcrs >> pcr & 1) == 0) continue;
            const Digest value = value_after(*this, selection.bank, pcr);
            values.insert(values.end(), value.bytes().begin(), value.bytes().end());
        }
    }
    pcr_values = source == Source::kTpm ? values : Buffer{};
    attest.pcr_digest = buffer_of(sha256(values));
    const Buffer owner{std::byte{0x40}, std::byte{0}, std::byte{0}, std::byte{1}};
    const auto srk = verifier::name_of_parts(HashAlgorithm::kSha256, {owner, srk_name});
    const auto name = verifier::name_of_parts(HashAlgorithm::kSha256, {enrolled});
    attest.qualified_signer = quoted_signer.value_or(
        buffer_of(verifier::name_of_parts(HashAlgorithm::kSha256, {srk.bytes(), name.bytes()}).bytes()));
    attest.extra_data = quoted_extra_data.value_or(buffer_of(evidence::qualifying_data(nonce, encoded_claims)));
    quote = attest.marshal();
    signature = sign(key(), quote);
}

verifier::Verdict Sample::judge(bool with_views) const {
    return verifier::appraise({.source = source,
                               .quote = quote,
                               .signature = signature,
                               .claims = encoded_claims,
                               .event_log = log,
                               .pcr_values = pcr_values,
                               .bare_nonce = bare_nonce},
                              verifier::AttestationKey(enrolled), known, nonce, with_policy ? &policy : nullptr,
                              with_views);
}

void Sample::remember() {
    known = {.qualified_signer = attest.qualified_signer,
             .clock = attest.clock,
             .reset_count = attest.reset_count,
             .restart_count = attest.restart_count,
             .firmware_version = attest.firmware_version};
}

}  // namespace gatehouse::test
