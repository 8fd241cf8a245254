#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "attestation/evidence_reader/claims_reader.hpp"
#include "attestation/server/inside.hpp"

namespace gatehouse::server {
namespace {

// Length of the well-formed sequence at the front (Unicode 15, table 3-7); 0 if there is none.
std::size_t sequence(std::string_view text) {
    const auto at = [&text](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
    const auto tail = [&at](std::size_t i) { return (at(i) & 0xc0u) == 0x80; };
    const unsigned first = at(0);
    if (first < 0x80) return first == 0 ? 0 : 1;
    if (first >= 0xc2 && first <= 0xdf) return tail(1) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) {
        const bool second = (first != 0xe0 || at(1) >= 0xa0) && (first != 0xed || at(1) <= 0x9f);
        return second && tail(1) && tail(2) ? 3 : 0;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        const bool second = (first != 0xf0 || at(1) >= 0x90) && (first != 0xf4 || at(1) <= 0x8f);
        return second && tail(1) && tail(2) && tail(3) ? 4 : 0;
    }
    return 0;
}

}  // namespace

std::string clean_text(std::string_view text, std::size_t limit) {
    constexpr std::string_view replacement = "\xef\xbf\xbd";
    std::string clean;
    while (!text.empty()) {
        const std::size_t size = sequence(text);
        const std::string_view part = size == 0 ? replacement : text.substr(0, size);
        if (clean.size() + part.size() > limit) break;
        clean += part;
        text.remove_prefix(std::max<std::size_t>(size, 1));
    }
    return clean;
}

std::string lower_case(std::string text) {
    std::ranges::transform(text, text.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    return text;
}

void demand_name(const std::string& name, const char* item) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    };
    if (name.empty() || name.size() > 64 || !std::ranges::all_of(name, allowed))
        throw ServiceError(400, "name", std::string(item) + ": must be 1 to 64 of a-z 0-9 . _ -");
}

std::string new_id(Seconds now) {
    constexpr std::string_view alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    Buffer bytes(6);
    const auto milliseconds = static_cast<std::uint64_t>(now) * 1000;
    for (std::size_t i = 0; i < 6; ++i) bytes[i] = static_cast<std::byte>(milliseconds >> (8 * (5 - i)));
    const Buffer random = random_bytes(10);
    bytes.insert(bytes.end(), random.begin(), random.end());
    // 128 bits in 26 characters: two bits of zeros in front.
    std::string id;
    unsigned held = 0, bits = 2;
    for (const std::byte byte : bytes) {
        held = (held << 8) | std::to_integer<unsigned>(byte);
        bits += 8;
        while (bits >= 5) {
            bits -= 5;
            id += alphabet[(held >> bits) & 31];
        }
        held &= (1u << bits) - 1;
    }
    return id;
}

std::string findings_json(const std::vector<verifier::Finding>& findings) {
    nlohmann::json all = nlohmann::json::array();
    for (const verifier::Finding& one : findings)
        all.push_back({{"rule", one.rule}, {"ok", one.ok}, {"detail", clean_text(one.detail, 4096)}});
    return all.dump();
}

std::vector<verifier::Finding> findings_from_json(const std::string& json) {
    std::vector<verifier::Finding> all;
    for (const nlohmann::json& one : nlohmann::json::parse(json))
        all.push_back({one.at("rule"), one.at("ok"), one.at("detail")});
    return all;
}

std::string first_failure(const std::vector<verifier::Finding>& findings) {
    const auto failed = std::ranges::find(findings, false, &verifier::Finding::ok);
    return failed == findings.end() ? "" : clean_text(failed->rule + ": " + failed->detail, 1024);
}

std::string like_pattern(const std::string& search) {
    std::string pattern = "%";
    for (const char c : lower_case(clean_text(search, 256))) {
        if (c == '%' || c == '_' || c == '\\') pattern += '\\';
        pattern += c;
    }
    return pattern + "%";
}

void demand_role(const Principal& by, Role role) {
    if (by.role < role) {
        throw ServiceError(403, "forbidden",
                           "\"" + by.name + "\" has the role " + name_of(by.role) + ", this needs " + name_of(role));
    }
}

std::string endpoint_name(const std::string& id) { return "endpoint " + id; }

std::int64_t number_of_cursor(const std::string& cursor) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(cursor.data(), cursor.data() + cursor.size(), number);
    if (error != std::errc{} || end != cursor.data() + cursor.size() || number < 0)
        throw ServiceError(400, "cursor", "cursor: is not one that this server gave");
    return number;
}

void not_found(const std::string& what) { throw ServiceError(404, "not_found", what + ": there is none"); }

// What is remembered of a TPM, big-endian: u16 kTpmStateMark, u16 version 2, sized signer, u64 clock, u32 resets, u32
// restarts, u64 firmware, u8 identity there, of it u8[32] vault id, u8 pin, u8 ACPI, sized machine facts; then vaults, u8[34]
// Name, u64 generation, u8[16] disk GUID each. Version 1 began with the signer, and had neither mark, identity nor GUIDs.
constexpr std::uint16_t kTpmStateMark = 0xffff;  // no signer is as long
constexpr std::uint16_t kTpmStateVersion = 2;
constexpr std::size_t kMaxIdentitySize = 1 + 32 + 1 + 1 + 2 + evidence::kMaxMachineFactsSize;
constexpr std::size_t kVaultStateSize = 34 + 8 + 16;

Buffer encode_tpm(const verifier::TpmState& tpm) {
    Buffer bytes(4 + 2 + tpm.qualified_signer.size() + 24 + kMaxIdentitySize + tpm.vaults.size() * kVaultStateSize);
    Writer writer(bytes, Endian::kBig);
    writer.u16(kTpmStateMark);
    writer.u16(kTpmStateVersion);
    writer.sized(tpm.qualified_signer);
    writer.u64(tpm.clock);
    writer.u32(tpm.reset_count);
    writer.u32(tpm.restart_count);
    writer.u64(tpm.firmware_version);
    writer.u8(tpm.identity ? 1 : 0);
    if (tpm.identity) {
        std::array<std::byte, evidence::kMaxMachineFactsSize> facts{};
        writer.bytes(tpm.identity->vault_id);
        writer.u8(static_cast<std::uint8_t>(tpm.identity->vault_pin));
        writer.u8(static_cast<std::uint8_t>(tpm.identity->acpi));
        writer.sized(Bytes(facts).first(
            host::expect(evidence::encode_machine_facts(tpm.identity->machine, facts), "machine facts")));
    }
    for (const verifier::VaultState& vault : tpm.vaults) {
        writer.bytes(vault.sealed_name);
        writer.u64(vault.generation);
        writer.bytes(vault.disk);
    }
    return {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(writer.offset())};
}

verifier::EndpointIdentity read_identity(Reader& reader) {
    verifier::EndpointIdentity identity;
    reader.copy(identity.vault_id);
    identity.vault_pin = static_cast<evidence::VaultPin>(reader.u8());
    identity.acpi = static_cast<evidence::Acpi>(reader.u8());
    identity.machine = host::expect(evidence::decode_machine_facts(reader.sized()), "database");
    return identity;
}

verifier::TpmState decode_tpm(Bytes bytes) {
    verifier::TpmState tpm;
    if (bytes.empty()) return tpm;
    const bool marked = bytes.size() >= 4 && load<std::uint16_t>(bytes.data(), Endian::kBig) == kTpmStateMark;
    Reader reader(marked ? bytes.subspan(4) : bytes, Endian::kBig);
    const Bytes signer = reader.sized();
    tpm.qualified_signer.assign(signer.begin(), signer.end());
    tpm.clock = reader.u64();
    tpm.reset_count = reader.u32();
    tpm.restart_count = reader.u32();
    tpm.firmware_version = reader.u64();
    if (marked && reader.u8() == 1) tpm.identity = read_identity(reader);
    while (reader.remaining() != 0) {
        verifier::VaultState& vault = tpm.vaults.emplace_back();
        reader.copy(vault.sealed_name);
        vault.generation = reader.u64();
        if (marked) reader.copy(vault.disk);
    }
    host::expect(reader.finished("remembered TPM state"), "database");
    return tpm;
}

State state_at(State kept, Seconds lease_until, Seconds now) {
    const bool leased = kept == State::kTrusted || kept == State::kUnmeasured;
    return leased && lease_until < now ? State::kStale : kept;
}

Endpoint endpoint_of(const Row& row, Seconds now) {
    Endpoint one;
    one.id = row.text(0);
    one.hostname = row.text(1);
    one.group = row.text(2);
    one.source = row.text(3);
    one.state = static_cast<State>(row.integer(4));
    one.ek_hash = row.text(5);
    one.vendor = row.text(6);
    one.manufacturer = row.text(7);
    one.model = row.text(8);
    one.ak_public = row.blob(9);
    one.enrolled = row.integer(10);
    one.last_seen = row.integer(11);
    one.lease_until = row.integer(12);
    one.reason = row.text(13);
    one.tpm = decode_tpm(row.blob(14));
    one.endorsement_fault = row.text(15);
    if (one.state != State::kStale && state_at(one.state, one.lease_until, now) == State::kStale) {
        one.state = State::kStale;
        one.reason = "no evidence since the lease ended";
    }
    return one;
}

}  // namespace gatehouse::server
