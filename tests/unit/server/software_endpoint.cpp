#include "tests/unit/server/software_endpoint.hpp"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "attestation/evidence_reader/launch_log_reader.hpp"
#include "keyvault/tpm_templates/policy.hpp"
#include "policies/bundle_writer/bundle_writer.hpp"
#include "tests/unit/evidence/machine_facts.hpp"

namespace gatehouse::test {
namespace {

constexpr std::size_t kCoordinate = 32;
constexpr std::uint32_t kAkAttributes = 0x00050432;  // fixed, own data, no DA, restricted, sign
constexpr std::uint32_t kAkWithAuth = 0x40;
constexpr std::uint32_t kEkAttributes = 0x000300b2;  // template L-2
constexpr std::uint32_t kSrkAttributes = 0x00030472;
constexpr std::array kOwner{std::byte{0x40}, std::byte{0}, std::byte{0}, std::byte{1}};
constexpr std::string_view kEkPolicy = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
constexpr std::array<std::uint32_t, 3> kTpmPcrs{0, 4, 7};

[[noreturn]] void fail(const char* what) { throw std::runtime_error(std::string("software endpoint: ") + what); }

Buffer buffer_of(Bytes bytes) { return {bytes.begin(), bytes.end()}; }
Buffer written(Buffer room, const Writer& writer) {
    room.resize(writer.offset());
    return room;
}

Buffer coordinate(const EVP_PKEY* key, const char* name) {
    BIGNUM* number = nullptr;
    if (EVP_PKEY_get_bn_param(key, name, &number) != 1) fail("no point");
    Buffer bytes(kCoordinate);
    (void)BN_bn2binpad(number, raw(MutableBytes(bytes)), kCoordinate);
    BN_free(number);
    return bytes;
}
Buffer point_x(const EVP_PKEY* key) { return coordinate(key, OSSL_PKEY_PARAM_EC_PUB_X); }
Buffer point_y(const EVP_PKEY* key) { return coordinate(key, OSSL_PKEY_PARAM_EC_PUB_Y); }

Buffer signature_of(EVP_PKEY* key, Bytes message) {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    std::array<unsigned char, 128> der{};
    std::size_t size = der.size();
    if (EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key) != 1 ||
        EVP_DigestSign(context.get(), der.data(), &size, raw(message), message.size()) != 1) {
        fail("cannot sign");
    }
    const unsigned char* at = der.data();
    const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> parsed(
        d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)), ECDSA_SIG_free);
    Buffer room(128);
    Writer writer(room, Endian::kBig);
    writer.u16(0x0018);  // ECDSA
    writer.u16(0x000b);  // SHA-256
    for (const BIGNUM* const number : {ECDSA_SIG_get0_r(parsed.get()), ECDSA_SIG_get0_s(parsed.get())}) {
        Buffer bytes(kCoordinate);
        (void)BN_bn2binpad(number, raw(MutableBytes(bytes)), kCoordinate);
        writer.sized(bytes);
    }
    return written(room, writer);
}

Buffer name_of(Bytes public_area) {
    Buffer name{std::byte{0}, std::byte{0x0b}};
    const Sha256Digest digest = sha256(public_area);
    name.insert(name.end(), digest.begin(), digest.end());
    return name;
}

Buffer concatenated_name(Bytes first, Bytes second) {
    Buffer name{std::byte{0}, std::byte{0x0b}};
    const Sha256Digest digest = sha256({first, second});
    name.insert(name.end(), digest.begin(), digest.end());
    return name;
}

// --- the launch

std::vector<Digest> digests_of(Bytes content) {
    return {hash(HashAlgorithm::kSha256, content), hash(HashAlgorithm::kSha384, content)};
}

// What one launch leaves: the log, and the quoted digest over PCRs 17, 18 and 19 of SHA-256 and SHA-384.
struct Launch {
    explicit Launch(bool other_kernel);
    Buffer log;
    Sha256Digest pcr_digest{};
};

// The policy bundle of the image; its SRK and vault are those of every endpoint here.
Buffer bundle() {
    Buffer srk = sample_bytes("srk", policies::kNameSize);
    store(srk.data(), std::uint16_t{0x000b}, Endian::kBig);
    const Buffer authority = sample_bytes("authority", 88), policy_ref = sample_bytes("fleet", 16);
    const Buffer vault = sample_bytes("vault", 32);
    Buffer bytes(policies::kMaxBundleSize);
    bytes.resize(host::expect(policies::write_bundle({.flags = 0,
                                                      .counter_index = 0x01800001,
                                                      .srk_name = srk,
                                                      .vault_id = vault,
                                                      .enrollment = {},
                                                      .authority = authority,
                                                      .policy_ref = policy_ref},
                                                     bytes),
                              "bundle"));
    return bytes;
}

Buffer object_of(const evidence::Measurement& measurement, bool other_kernel) {
    if (measurement.tag == evidence::MeasurementTag::kPolicy) return bundle();
    const bool changed = other_kernel && measurement.tag == evidence::MeasurementTag::kKernel;
    return sample_bytes(changed ? "another kernel" : measurement.name, 100);
}

Launch::Launch(bool other_kernel) {
    const std::array banks{HashAlgorithm::kSha256, HashAlgorithm::kSha384};
    Buffer room(evidence::kEventLogSize);
    auto writer = host::expect(evidence::EventLogWriter::create(room, banks), "log");
    for (const evidence::Measurement& one : evidence::kMeasurements)
        host::expect(writer.append(one, digests_of(object_of(one, other_kernel))), "log");
    host::expect(writer.append(evidence::kMachineMeasurement, digests_of(encoded(sample_machine()))), "log");
    host::expect(writer.append(evidence::kVaultMeasurement, digests_of(sample_bytes("vault", 32))), "log");
    for (const std::uint32_t pcr : evidence::kCappedPcrs)
        host::expect(writer.append_cap(pcr, digests_of(evidence::kCapData)), "log");
    log = buffer_of(writer.log());
    Buffer values;
    for (const HashAlgorithm bank : banks) {
        for (const std::uint32_t pcr : evidence::kCappedPcrs) {
            const Digest value = host::expect(evidence::replay(log, bank, pcr), "replay");
            values.insert(values.end(), value.bytes().begin(), value.bytes().end());
        }
    }
    pcr_digest = sha256(values);
}

const Launch& launch(bool other_kernel) {
    static const Launch good(false), other(true);
    return other_kernel ? other : good;
}

// --- key derivations of TPM2_ActivateCredential (Part 1, 11.4.10)

Buffer kdf_a(Bytes key, std::string_view label, Bytes context, std::uint32_t bits) {
    std::array<std::byte, 4> counter{}, size{};
    store(counter.data(), std::uint32_t{1}, Endian::kBig);
    store(size.data(), bits, Endian::kBig);
    const std::array<std::byte, 1> zero{};
    Buffer out = buffer_of(hmac_sha256(key, {counter, host::text_bytes(label), zero, context, size}));
    out.resize(bits / 8);
    return out;
}

Buffer kdf_e(Bytes z, std::string_view label, Bytes party_u, Bytes party_v) {
    std::array<std::byte, 4> counter{};
    store(counter.data(), std::uint32_t{1}, Endian::kBig);
    const std::array<std::byte, 1> zero{};
    return buffer_of(sha256({counter, z, host::text_bytes(label), zero, party_u, party_v}));
}

SoftwareKey public_key(Bytes x, Bytes y) {
    Buffer point{std::byte{4}};
    point.insert(point.end(), x.begin(), x.end());
    point.insert(point.end(), y.begin(), y.end());
    EVP_PKEY* key = make_p256_key().release();
    if (EVP_PKEY_set1_encoded_public_key(key, raw(Bytes(point)), point.size()) != 1) fail("not a point of the curve");
    return SoftwareKey(key);
}

Buffer agreed(EVP_PKEY* own, EVP_PKEY* peer) {
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(EVP_PKEY_CTX_new(own, nullptr),
                                                                              EVP_PKEY_CTX_free);
    Buffer z(kCoordinate);
    std::size_t size = z.size();
    if (EVP_PKEY_derive_init(context.get()) != 1 || EVP_PKEY_derive_set_peer(context.get(), peer) != 1 ||
        EVP_PKEY_derive(context.get(), raw(MutableBytes(z)), &size) != 1 || size != kCoordinate) {
        fail("ECDH");
    }
    return z;
}

Buffer cfb_decrypted(Bytes key, Bytes ciphertext) {
    const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                                  EVP_CIPHER_CTX_free);
    const std::array<unsigned char, 16> zero_iv{};
    Buffer plain(ciphertext.size());
    int size = 0;
    if (EVP_DecryptInit_ex(context.get(), EVP_aes_128_cfb128(), nullptr, raw(key), zero_iv.data()) != 1 ||
        EVP_DecryptUpdate(context.get(), raw(MutableBytes(plain)), &size, raw(ciphertext),
                          static_cast<int>(ciphertext.size())) != 1) {
        fail("AES-CFB");
    }
    return plain;
}

// TPMT_PUBLIC of a key that encrypts for the TPM; without a point, the template of one.
Buffer storage_key(std::uint32_t attributes, Bytes policy, Bytes x, Bytes y) {
    Buffer room(256);
    Writer writer(room, Endian::kBig);
    writer.u16(0x0023);  // ECC
    writer.u16(0x000b);
    writer.u32(attributes);
    writer.sized(policy);
    writer.u16(0x0006);  // AES-128-CFB
    writer.u16(128);
    writer.u16(0x0043);
    writer.u16(0x0010);  // scheme, curve, KDF
    writer.u16(0x0003);
    writer.u16(0x0010);
    writer.sized(x);
    writer.sized(y);
    return written(room, writer);
}

// What an audit session has after TPM2_CreatePrimary (Part 1, 18.7 and 18.8).
Sha256Digest audited(const Sha256Digest& before, std::uint32_t hierarchy, Bytes area, Bytes response) {
    Buffer command(512), answer(8);
    Writer writer(command, Endian::kBig);
    writer.u32(0x131);
    writer.u32(hierarchy);
    writer.u16(4);  // TPM2B_SENSITIVE_CREATE: no authorization value, no data
    writer.u32(0);
    writer.sized(area);
    writer.u16(0);  // outside information
    writer.u32(0);  // PCRs
    Writer(MutableBytes(answer).subspan(4), Endian::kBig).u32(0x131);
    return sha256({before, sha256(written(command, writer)), sha256({answer, response})});
}

Buffer sized(Bytes bytes) {
    Buffer room(2 + bytes.size());
    Writer(room, Endian::kBig).sized(bytes);
    return room;
}

std::string text_of(BIO* bio) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    std::string text(data, static_cast<std::size_t>(size));
    BIO_free_all(bio);
    return text;
}

Buffer pcr_value(std::uint32_t pcr) { return sample_bytes("pcr " + std::to_string(pcr), 32); }

}  // namespace

SoftwareKey make_p256_key() {
    SoftwareKey key(EVP_EC_gen("P-256"));
    if (!key) fail("no key");
    return key;
}

Buffer sample_bytes(std::string_view seed, std::size_t size) {
    Buffer bytes;
    for (Sha256Digest digest = sha256(host::text_bytes(seed)); bytes.size() < size; digest = sha256(digest))
        bytes.insert(bytes.end(), digest.begin(), digest.end());
    bytes.resize(size);
    return bytes;
}

SoftwareEndpoint::SoftwareEndpoint(std::string name, std::string kind)
    : hostname(std::move(name)), source(std::move(kind)), ek_(make_p256_key()), srk_(make_p256_key()) {
    EVP_PKEY_up_ref(ek_.get());
    ecc_ek_.reset(ek_.get());
    renew_keys();
    claims = {.hypervisor_version = 0x000102,
              .launch = evidence::Launch::kSkinit,
              .iommu = evidence::Iommu::kAmdVi,
              .cpus = 4,
              .flags = 3,
              .kept_bytes = 0xc00000,
              .counter_limit = 7,
              .policy_digest = reference().bundle.digest,
              .vault_pin = evidence::VaultPin::kBundle,
              .machine = sample_machine(),
              .disk_count = 1,
              .disks = {}};
    claims.disks[0].state = evidence::DiskState::kEncrypted;
    claims.disks[0].key_epoch = 1;
    claims.disks[0].sealed_name[1] = std::byte{0x0b};
    copy_bytes(claims.storage_root, reference().bundle.srk_name);
    copy_bytes(claims.vault_id, sample_bytes("vault", 32));
}

void SoftwareEndpoint::renew_keys() {
    ak_ = make_p256_key();
    tls_ = make_p256_key();
}

void SoftwareEndpoint::use_another_ek() { ek_ = make_p256_key(); }

void SoftwareEndpoint::clear_tpm() {
    srk_ = make_p256_key();
    renew_keys();
}

void SoftwareEndpoint::take_attestation_key(const SoftwareEndpoint& other) {
    ak_.reset(other.ak_.get());
    EVP_PKEY_up_ref(ak_.get());
}

Buffer SoftwareEndpoint::ek_public() const {
    return storage_key(kEkAttributes, host::from_hex(kEkPolicy, "EK policy"), point_x(ek_.get()), point_y(ek_.get()));
}

std::string SoftwareEndpoint::ek_hash() const { return host::hex(sha256(ek_public())); }

Buffer SoftwareEndpoint::ak_public() const {
    Buffer room(256);
    Writer writer(room, Endian::kBig);
    writer.u16(0x0023);
    writer.u16(0x000b);
    const bool hypervisor = source == "hypervisor";
    writer.u32(hypervisor ? kAkAttributes : kAkAttributes | kAkWithAuth);
    writer.sized(hypervisor ? buffer_of(tpm::attestation_key_policy_digest()) : Buffer{});
    writer.u16(0x0010);
    writer.u16(0x0018);  // ECDSA, SHA-256
    writer.u16(0x000b);
    writer.u16(0x0003);
    writer.u16(0x0010);
    writer.sized(point_x(ak_.get()));
    writer.sized(point_y(ak_.get()));
    return written(room, writer);
}

std::string SoftwareEndpoint::csr() const {
    const std::unique_ptr<X509_REQ, decltype(&X509_REQ_free)> request(X509_REQ_new(), X509_REQ_free);
    BIO* const bio = BIO_new(BIO_s_mem());
    if (X509_REQ_set_pubkey(request.get(), tls_.get()) != 1 ||
        X509_REQ_sign(request.get(), tls_.get(), EVP_sha256()) <= 0 ||
        PEM_write_bio_X509_REQ(bio, request.get()) != 1) {
        fail("CSR");
    }
    return text_of(bio);
}

std::string SoftwareEndpoint::tls_key_pem() const {
    BIO* const bio = BIO_new(BIO_s_mem());
    if (PEM_write_bio_PrivateKey(bio, tls_.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) fail("PEM");
    return text_of(bio);
}

protocol::EnrollRequest SoftwareEndpoint::enroll_request(const std::string& token) const {
    protocol::EnrollRequest request{.hostname = hostname,
                                    .source = source,
                                    .ek_certificate = {},
                                    .ek_chain = {},
                                    .ek_public = ek_public(),
                                    .ak_public = ak_public(),
                                    .csr = csr(),
                                    .token = token,
                                    .identity_keys = {},
                                    .identity_attest = {},
                                    .identity_signature = {}};
    if (shows_identity) show_identity(request);
    return request;
}

void SoftwareEndpoint::show_identity(protocol::EnrollRequest& request) const {
    const Buffer policy = host::from_hex(kEkPolicy, "EK policy"), zeros(kCoordinate);
    const Buffer srk = storage_key(kSrkAttributes, {}, point_x(srk_.get()), point_y(srk_.get()));
    Buffer room(512);
    Writer writer(room, Endian::kBig);
    writer.u32(0xff544347);
    if (source == "hypervisor") {
        request.identity_keys = {name_of(srk)};
        writer.u16(0x8018);  // quote
        writer.sized(concatenated_name(concatenated_name(kOwner, name_of(srk)), name_of(ak_public())));
        writer.sized({});
        writer.zeros(8 + 4 + 4 + 1 + 8);  // clock, firmware
        writer.u32(0);                    // PCRs
        writer.sized(Sha256Digest{});
    } else {
        request.identity_keys = {
            sized(storage_key(kEkAttributes, policy, point_x(ecc_ek_.get()), point_y(ecc_ek_.get()))), sized(srk)};
        Sha256Digest digest =
            audited({}, 0x4000000b, storage_key(kEkAttributes, policy, zeros, zeros), request.identity_keys[0]);
        digest = audited(digest, 0x40000001, storage_key(kSrkAttributes, {}, {}, {}), request.identity_keys[1]);
        writer.u16(0x8016);  // session audit
        writer.sized(name_of(ak_public()));
        writer.sized({});
        writer.zeros(8 + 4 + 4 + 1 + 8);
        writer.u8(1);  // exclusive
        writer.sized(digest);
    }
    request.identity_attest = written(room, writer);
    request.identity_signature = signature_of(ak_.get(), request.identity_attest);
}

Buffer SoftwareEndpoint::activate(const protocol::EnrollChallenge& challenge) const {
    // TPM2B_ENCRYPTED_SECRET: a TPMS_ECC_POINT, each number with its size.
    Reader secret(challenge.secret, Endian::kBig);
    Reader point(secret.sized(), Endian::kBig);
    const Bytes x = point.sized();
    const Bytes y = point.sized();
    if (x.size() != kCoordinate || y.size() != kCoordinate) fail("encrypted secret");
    const Buffer z = agreed(ek_.get(), public_key(x, y).get());
    const Buffer seed = kdf_e(z, "IDENTITY", x, point_x(ek_.get()));
    // TPM2B_ID_OBJECT: HMAC, each with its size, and the encrypted TPM2B_DIGEST.
    Reader blob(challenge.credential_blob, Endian::kBig);
    Reader object(blob.sized(), Endian::kBig);
    const Bytes mac = object.sized();
    const Bytes encrypted = object.rest();
    const Buffer name = name_of(ak_public());
    if (!equal_bytes(mac, hmac_sha256(kdf_a(seed, "INTEGRITY", {}, 256), {encrypted, name}))) fail("integrity");
    const Buffer plain = cfb_decrypted(kdf_a(seed, "STORAGE", name, 128), encrypted);
    Reader digest(plain, Endian::kBig);
    return buffer_of(digest.sized());
}

protocol::AttestRequest SoftwareEndpoint::attest(Bytes nonce) const {
    const bool hypervisor = source == "hypervisor";
    protocol::AttestRequest request;
    request.source = source;
    request.nonce = buffer_of(nonce);
    Sha256Digest pcr_digest{};
    if (hypervisor) {
        request.claims.resize(evidence::kMaxClaimsSize);
        request.claims.resize(host::expect(evidence::encode_claims(claims, request.claims), "claims"));
        request.event_log = launch(other_kernel).log;
        pcr_digest = launch(other_kernel).pcr_digest;
    } else {
        for (const std::uint32_t pcr : kTpmPcrs) {
            const Buffer value = pcr == 7 ? pcr7 : pcr_value(pcr);
            request.pcr_values.insert(request.pcr_values.end(), value.begin(), value.end());
        }
        pcr_digest = sha256(request.pcr_values);
    }
    Buffer room(512);
    Writer writer(room, Endian::kBig);
    writer.u32(0xff544347);
    writer.u16(0x8018);  // quote
    // The SRK in the owner hierarchy, the AK under it (Part 1, 16.3).
    const Buffer srk = concatenated_name(kOwner, reference().bundle.srk_name);
    writer.sized(concatenated_name(srk, name_of(ak_public())));
    writer.sized(evidence::qualifying_data(nonce, request.claims));
    writer.u64(clock);
    writer.u32(reset_count);
    writer.u32(restart_count);
    writer.u8(1);
    writer.u64(firmware_version);
    const std::vector<HashAlgorithm> banks =
        hypervisor ? std::vector{HashAlgorithm::kSha256, HashAlgorithm::kSha384} : std::vector{HashAlgorithm::kSha256};
    writer.u32(static_cast<std::uint32_t>(banks.size()));
    for (const HashAlgorithm bank : banks) {
        writer.u16(static_cast<std::uint16_t>(bank));
        const std::uint32_t pcrs = hypervisor ? 7u << 17 : 0x91u;
        writer.u8(3);
        for (unsigned i = 0; i < 3; ++i) writer.u8(static_cast<std::uint8_t>(pcrs >> (8 * i)));
    }
    writer.sized(pcr_digest);
    request.quote = written(room, writer);
    request.signature = signature_of(ak_.get(), request.quote);
    return request;
}

const policies::Prediction& reference() {
    static const policies::Prediction made = [] {
        policies::Prediction prediction;
        const auto add = [&](std::uint32_t pcr, std::uint32_t tag, std::string name, Bytes content) {
            policies::ExpectedEvent event;
            event.pcr = pcr;
            event.tag = tag;
            event.name = std::move(name);
            for (std::size_t i = 0; i < policies::kPredictedBanks.size(); ++i)
                event.digests[i] = hash(policies::kPredictedBanks[i], content);
            prediction.events.push_back(std::move(event));
        };
        for (const evidence::Measurement& one : evidence::kMeasurements)
            add(one.pcr, static_cast<std::uint32_t>(one.tag), std::string(one.name), object_of(one, false));
        prediction.bundle = policies::read_bundle(bundle());
        return prediction;
    }();
    return made;
}

std::string hypervisor_policy(const std::string& name, std::uint64_t version, const std::string& changes) {
    nlohmann::json policy{{"gatehouse_attestation_policy", 1},
                          {"name", name},
                          {"version", version},
                          {"source", "hypervisor"},
                          {"references", nlohmann::json::array({policies::to_json(reference())})},
                          {"counter_floor", 7},
                          {"lease_s", 900}};
    policy.update(nlohmann::json::parse(changes));
    return policy.dump();
}

std::string tpm_policy(const std::string& name, std::uint64_t version, const std::string& changes) {
    nlohmann::json pcrs = nlohmann::json::object();
    for (const std::uint32_t pcr : kTpmPcrs)
        pcrs[std::to_string(pcr)] = nlohmann::json::array({host::hex(pcr_value(pcr))});
    nlohmann::json policy{{"gatehouse_attestation_policy", 1}, {"name", name},  {"version", version}, {"source", "tpm"},
                          {"pcrs", {{"sha256", pcrs}}},        {"lease_s", 900}};
    policy.update(nlohmann::json::parse(changes));
    return policy.dump();
}

}  // namespace gatehouse::test
