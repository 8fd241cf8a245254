// Makes tests/fuzz/seeds: fuzz_seeds DIRECTORY. To be run again when a format changes; needs swtpm.
#include <filesystem>
#include <iostream>

#include "attestation/protocol/messages.hpp"
#include "attestation/verifier/appraisal.hpp"
#include "attestation/verifier/endorsement.hpp"
#include "attestation/verifier/token.hpp"
#include "image/flash/manifest.hpp"
#include "policies/bundle/bundle.hpp"
#include "policies/bundle_writer/bundle_writer.hpp"
#include "tests/fuzz/appraisal_key.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/unit/keyvault/tool/endpoint.hpp"
#include "tests/unit/verifier/certificates.hpp"
#include "tests/unit/verifier/manufactured_tpm.hpp"

namespace gatehouse::fuzz {
namespace {

using host::Buffer;

std::string directory;

void keep(const std::string& name, Bytes content) {
    const std::filesystem::path path = directory + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    host::replace_file(path.string(), content);
}
void keep(const std::string& name, const std::string& content) { keep(name, host::text_bytes(content)); }

Buffer joined(std::uint8_t flags, std::initializer_list<Bytes> fields) {
    Buffer out;
    if (flags != 0xff) out.push_back(static_cast<std::byte>(flags));
    for (const Bytes field : fields) append_field(out, field);
    return out;
}

void require_accepted(const std::vector<verifier::Finding>& findings) {
    for (const auto& finding : findings) {
        if (!finding.ok) throw std::runtime_error(finding.rule + ": " + finding.detail);
    }
}

// --- an endpoint with a hypervisor

void make_hypervisor_seeds() {
    test::Endpoint endpoint;
    endpoint.provision();
    endpoint.launch();
    volume::Header header;
    volume::Keys keys;
    endpoint.open_vault(header, keys);
    endpoint.cap();
    const auto files = endpoint.attest(header, endpoint.claims(), appraisal_nonce(), endpoint.selections());
    const Buffer key = with_appraisal_key(host::expect(verifier::parse_sized(files.key, "ak"), "ak"));
    keep("surroundings/ak.public", key);

    const auto reference = policies::predict_directory(endpoint.appliance.files());
    const nlohmann::json policy{{"gatehouse_attestation_policy", 1},
                                {"name", "fuzz"},
                                {"version", 1},
                                {"source", "hypervisor"},
                                {"references", {policies::to_json(reference)}}};
    keep("surroundings/hypervisor.policy", policy.dump());
    keep("policy_fuzz/hypervisor", policy.dump());
    const std::string jws = verifier::sign_policy(
        R"({"gatehouse_attestation_policy":1,"name":"a","version":1,"source":"tpm"})", appraisal_key().get());
    keep("surroundings/policy.jws", jws);
    keep("policy_fuzz/jws", jws);

    // The qualified Name: below the SRK, which is below the owner's hierarchy.
    const auto srk = host::expect(endpoint.tpm.read_public(tpm::kStorageRootKey), "SRK");
    const auto owner =
        verifier::name_of_parts(HashAlgorithm::kSha256, {literal_bytes("\x40\x00\x00\x01"), tpm::name_of(srk.bytes())});
    const verifier::AttestationKey enrolled(key);
    const auto signer = verifier::name_of_parts(HashAlgorithm::kSha256, {owner.bytes(), enrolled.name()});
    const Buffer quote = patched_quote(files.quote, signer.bytes(), {});
    keep("surroundings/hypervisor.quote", quote);
    const Buffer signature = signed_quote(quote);
    for (const unsigned flags : {0u, static_cast<unsigned>(kSign), static_cast<unsigned>(kSign | kFreshen | kKnown)}) {
        keep("appraise_fuzz/hypervisor" + std::to_string(flags),
             joined(static_cast<std::uint8_t>(flags), {quote, signature, files.claims, files.event_log, {}}));
    }
    keep("tpm_structures_fuzz/quote", files.quote);
    keep("tpm_structures_fuzz/signature", files.signature);
    keep("tpm_structures_fuzz/attestation_key", key);
    keep("launch_log_fuzz/log", files.event_log);
    keep("launch_log_fuzz/claims", files.claims);
    keep("event_log_fuzz/launch", files.event_log);
    keep("messages_fuzz/attest",
         protocol::to_json(protocol::AttestRequest{"hypervisor",
                                                   {appraisal_nonce().begin(), appraisal_nonce().end()},
                                                   quote,
                                                   signature,
                                                   files.claims,
                                                   files.event_log,
                                                   {}}));
    keep("bundle_fuzz/bundle", host::read_file(endpoint.appliance.files() + "/policy.bundle", 1 << 16));
    std::array<std::byte, policies::kMaxApprovalSize> space{};
    const auto size = policies::write_approval(
        {.counter_limit = 3, .pcr17 = {}, .pcr18 = {}, .policy_digest = {}, .signature = signature}, space);
    keep("bundle_fuzz/approval", Bytes(space).first(host::expect(size, "approval")));
}

// --- an endpoint with a TPM alone

// A firmware's log: header, a few events of each sort that is looked into, separators.
Buffer firmware_log(std::array<Digest, 8>& values) {
    Buffer log;
    const auto number = [&](std::uint64_t value, int size) {
        for (int i = 0; i < size; ++i) log.push_back(static_cast<std::byte>(value >> (8 * i) & 0xff));
    };
    const auto bytes = [&](Bytes more) { log.insert(log.end(), more.begin(), more.end()); };
    const Bytes header = literal_bytes("Spec ID Event03\0\0\0\0\0\0\x02\x00\x02\x01\0\0\0\x0b\0\x20\0\0");
    number(0, 4);
    number(3, 4);
    bytes(Buffer(20));
    number(header.size(), 4);
    bytes(header);
    for (Digest& value : values) value = Digest{};
    const auto event = [&](std::uint32_t pcr, std::uint32_t type, Bytes data) {
        number(pcr, 4);
        number(type, 4);
        number(1, 4);
        number(0x000b, 2);
        const Digest digest = hash(HashAlgorithm::kSha256, data);
        bytes(digest.bytes());
        number(data.size(), 4);
        bytes(data);
        values[pcr] = evidence::extended(HashAlgorithm::kSha256, values[pcr].bytes(), digest.bytes());
    };
    event(0, 0x08, literal_bytes("v\0e\0r\0s\0i\0o\0n\0\0\0"));
    event(0, 0x01, literal_bytes("POST CODE"));
    event(4, 0x80000007, literal_bytes("Calling EFI Application from Boot Option"));
    event(1, 0x80000002,
          literal_bytes("\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c\x09\0\0\0\0\0\0\0\x02\0"
                        "\0\0\0\0\0\0B\0o\0o\0t\0O\0r\0d\0e\0r\0\x01\0"));
    for (std::uint32_t pcr = 0; pcr < 8; ++pcr) event(pcr, 0x04, literal_bytes("\0\0\0\0"));
    return log;
}

// What firmware with an H-CRTM and boot loaders log: SHA-1 and SHA-256, `measured` where it is not the data.
Buffer boot_loader_log() {
    Buffer log;
    const auto number = [&](std::uint64_t value, int size) {
        for (int i = 0; i < size; ++i) log.push_back(static_cast<std::byte>(value >> (8 * i) & 0xff));
    };
    const auto bytes = [&](Bytes more) { log.insert(log.end(), more.begin(), more.end()); };
    const Bytes header = literal_bytes("Spec ID Event03\0\0\0\0\0\0\x02\x69\x02\x02\0\0\0\x04\0\x14\0\x0b\0\x20\0\0");
    number(0, 4);
    number(3, 4);
    bytes(Buffer(20));
    number(header.size(), 4);
    bytes(header);
    const auto event = [&](std::uint32_t pcr, std::uint32_t type, Bytes measured, Bytes data) {
        number(pcr, 4);
        number(type, 4);
        number(2, 4);
        for (const HashAlgorithm bank : {HashAlgorithm::kSha1, HashAlgorithm::kSha256}) {
            number(static_cast<std::uint16_t>(bank), 2);
            const Digest digest = type == 3 ? Digest{.algorithm = bank} : hash(bank, measured);
            bytes(digest.bytes());
        }
        number(data.size(), 4);
        bytes(data);
    };
    event(0, 0x03, {}, literal_bytes("StartupLocality\0\x03"));
    event(0, 0x80000010, literal_bytes("boot block"), literal_bytes("HCRTM"));
    event(0, 0x08, literal_bytes("another version"), literal_bytes("v\0\0\0"));
    event(8, 0x0d, literal_bytes("set pager=1\0"), literal_bytes("grub_cmd set pager=1\0"));
    event(8, 0x0d, literal_bytes("/vmlinuz ro"), literal_bytes("kernel_cmdline: /vmlinuz ro\0"));
    event(9, 0x0d, literal_bytes("a file"), literal_bytes("(hd0,gpt2)/vmlinuz\0"));
    event(11, 0x0d, literal_bytes(".linux\0"), literal_bytes(".\0l\0i\0n\0u\0x\0\0\0"));
    event(12, 0x0d, literal_bytes("r\0o\0"), literal_bytes("r\0o\0\0\0"));
    event(12, 0x06, literal_bytes("1\0\0\0"),
          literal_bytes("\xdb\xd6\xae\x13\x04\0\0\0"
                        "1\0\0\0"));
    event(0, 0x04, literal_bytes("\0\0\0\0"), literal_bytes("\0\0\0\0"));
    return log;
}

void make_tpm_seeds() {
    std::array<Digest, 8> values;
    const Buffer log = firmware_log(values);
    Buffer pcr_values;
    nlohmann::json expected = nlohmann::json::object();
    for (std::size_t pcr = 0; pcr < values.size(); ++pcr) {
        const Bytes value = values[pcr].bytes();
        pcr_values.insert(pcr_values.end(), value.begin(), value.end());
        expected[std::to_string(pcr)] = {host::hex(value)};
    }
    const nlohmann::json policy{{"gatehouse_attestation_policy", 1},
                                {"name", "fuzz-tpm"},
                                {"version", 1},
                                {"source", "tpm"},
                                {"pcrs", {{"sha256", expected}}}};
    keep("surroundings/tpm.policy", policy.dump());
    keep("policy_fuzz/tpm", policy.dump());

    const Buffer key = seed_file("surroundings/ak.public");
    const verifier::AttestationKey enrolled(key);
    std::array<std::byte, 512> space{};
    Writer writer(space, Endian::kBig);
    writer.u32(0xff544347);
    writer.u16(0x8018);
    writer.sized(enrolled.name());
    writer.sized(evidence::qualifying_data(appraisal_nonce(), {}));
    writer.u64(123456);
    writer.u32(5);
    writer.u32(1);
    writer.u8(1);
    writer.u64(0x2019102300163636);
    writer.u32(1);
    writer.u16(0x000b);
    writer.u8(3);
    writer.u8(0xff);
    writer.u16(0);
    writer.sized(sha256(pcr_values));
    const Buffer quote(writer.written().begin(), writer.written().end());
    keep("surroundings/tpm.quote", quote);
    const Buffer signature = signed_quote(quote);
    const auto expectations = verifier::parse_policy(policy.dump());
    require_accepted(verifier::appraise({.source = verifier::Source::kTpm,
                                         .quote = quote,
                                         .signature = signature,
                                         .claims = {},
                                         .event_log = log,
                                         .pcr_values = pcr_values},
                                        enrolled, {}, appraisal_nonce(), &expectations)
                         .findings);
    for (const unsigned flags :
         {unsigned{kOfTpm}, unsigned{kOfTpm | kSign}, unsigned{kOfTpm | kSign | kFreshen | kKnown}}) {
        keep("appraise_fuzz/tpm" + std::to_string(flags),
             joined(static_cast<std::uint8_t>(flags), {quote, signature, {}, log, pcr_values}));
    }
    keep("event_log_fuzz/firmware", log);
    keep("event_log_fuzz/boot_loaders", boot_loader_log());
    keep("tpm_structures_fuzz/firmware_quote", quote);
}

// --- endorsement

void make_endorsement_seeds() {
    const auto root = test::issue(test::ca_spec("Vendor Root"), test::ecc_key());
    const auto intermediate = test::issue(test::ca_spec("Vendor EK CA"), test::ecc_key(), &root);
    keep("surroundings/root.der", root.der());
    keep("surroundings/root.crl", test::revoke(root, {}));
    const auto save = [&](const std::string& name, const test::Issued& ek, Buffer stored, Bytes chain) {
        const Buffer area = test::ek_public_area(ek.key.get());
        verifier::TrustStore store;
        store.add({"Vendor",
                   {root.der()},
                   {},
                   {
                       test::revoke(root, {}),
                   }});
        std::vector<Buffer> parts{{chain.begin(), chain.end()}};
        const auto verdict = verifier::verify_endorsement({stored, parts, area}, store, test::kNow);
        if (chain.empty()) require_accepted(verdict.findings);
        keep("ek_certificate_fuzz/" + name, joined(0xff, {stored, area, chain}));
        keep("tpm_structures_fuzz/ek_" + name, area);
    };
    const auto direct = test::issue(test::ek_spec(), test::ecc_key(), &root);
    save("direct", direct, direct.der(), {});
    const auto below = test::issue(test::ek_spec(), test::ecc_key("P-384"), &intermediate);
    Buffer padded = below.der();
    padded.resize(padded.size() + 20, std::byte{0xff});
    save("below", below, padded, intermediate.der());
    auto spec = test::ek_spec();
    spec.usage = "critical,keyEncipherment";
    spec.oaep_key = true;
    spec.serial = "-1";
    const auto oaep = test::issue(spec, test::rsa_key(2048), &root);
    save("oaep", oaep, oaep.der(), {});

    test::ManufacturedTpm tpm;
    const auto ek = tpm.persistent(test::kRsaEk);
    keep("ek_certificate_fuzz/swtpm",
         joined(0xff, {tpm.read_nv(test::kRsaCertificate), ek.public_area, tpm.issuer(), tpm.root()}));
    keep("messages_fuzz/enroll", protocol::to_json(protocol::EnrollRequest{"host \u00df",
                                                                           "tpm",
                                                                           direct.der(),
                                                                           {intermediate.der()},
                                                                           ek.public_area,
                                                                           ek.public_area,
                                                                           "-----BEGIN",
                                                                           "",
                                                                           {Buffer(34)},
                                                                           Buffer(100),
                                                                           Buffer(72)}));
}

void make_small_messages() {
    keep("messages_fuzz/challenge", protocol::to_json(protocol::EnrollChallenge{"01J", Buffer(60), Buffer(70), 900}));
    keep("messages_fuzz/activation", protocol::to_json(protocol::ActivationRequest{Buffer(32)}));
    keep("messages_fuzz/status", protocol::to_json(protocol::EnrollStatus{"approved", "id", "PEM", ""}));
    keep("messages_fuzz/nonce", protocol::to_json(protocol::NonceAnswer{Buffer(32), 120}));
    keep("messages_fuzz/answer",
         protocol::to_json(protocol::AttestAnswer{"untrusted", "a.b.c", 1, 300, Buffer(32), {"one", "two"}}));
    keep("messages_fuzz/escrow", protocol::to_json(protocol::EscrowRequest{"slot-1", Buffer(100)}));
    keep("messages_fuzz/odd", std::string(R"({"x":[[{"a":[1,-2,3.5e9,true,null,"\ud83d\ude00"]}]],"secret":"AA=="})"));
}

void make_flash_manifests() {
    const Buffer signature(18);  // nobody's: its form is not looked at here
    const auto sealed = [&](const flash::Manifest& manifest) {
        Buffer bytes = flash::unsigned_bytes(manifest, signature.size());
        const auto size = encoded(static_cast<std::uint16_t>(signature.size()), Endian::kLittle);
        bytes.insert(bytes.end(), size.begin(), size.end());
        bytes.insert(bytes.end(), signature.begin(), signature.end());
        return bytes;
    };
    flash::Manifest manifest{
        .chunk_size = 4096, .sector_size = 512, .length = 9 * 4096 + 512, .release = 7, .chunks = {}};
    manifest.chunks.resize(10);
    for (const std::size_t chunk : {0u, 3u, 9u}) manifest.chunks[chunk].emplace().fill(static_cast<std::byte>(chunk));
    keep("flash_manifest_fuzz/small", sealed(manifest));
    manifest = {.sector_size = 4096, .length = std::uint64_t{40} << 20, .expires = 1'800'000'000, .chunks = {}};
    manifest.chunks.resize(10);
    keep("flash_manifest_fuzz/zeros", sealed(manifest));
}

}  // namespace
}  // namespace gatehouse::fuzz

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: fuzz_seeds DIRECTORY\n";
        return 2;
    }
    gatehouse::fuzz::directory = argv[1];
    gatehouse::fuzz::make_hypervisor_seeds();
    gatehouse::fuzz::make_tpm_seeds();
    gatehouse::fuzz::make_endorsement_seeds();
    gatehouse::fuzz::make_small_messages();
    gatehouse::fuzz::make_flash_manifests();
    return 0;
}
