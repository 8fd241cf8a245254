#include "attestation/server/database/tpm_state.hpp"

#include <array>

#include "attestation/evidence_reader/claim_members.hpp"
#include "attestation/evidence_reader/claims_reader.hpp"

namespace gatehouse::server {
namespace {

using host::Buffer;

constexpr std::uint16_t kTpmStateMark = 0xffff;
constexpr std::uint16_t kTpmStateVersion = 2;
constexpr std::size_t kMaxIdentitySize = 1 + 32 + 1 + 1 + 2 + evidence::kMaxMachineFactsSize;
constexpr std::size_t kVaultStateSize = 34 + 8 + 16;

// A number below `end`: this program has written no other.
std::uint8_t number_below(std::size_t end, std::size_t number, const char* what) {
    if (number >= end)
        throw host::ToolError("database: remembered TPM state: " + std::string(what) + " is " + std::to_string(number));
    return static_cast<std::uint8_t>(number);
}
template <typename Enum>
Enum read_enumerator(Reader& reader, const char* what) {
    return static_cast<Enum>(number_below(evidence::names_of(Enum{}).size(), reader.u8(), what));
}

verifier::EndpointIdentity read_identity(Reader& reader) {
    verifier::EndpointIdentity identity;
    reader.copy(identity.vault_id);
    identity.vault_pin = read_enumerator<evidence::VaultPin>(reader, "vault pin");
    identity.acpi = read_enumerator<evidence::Acpi>(reader, "ACPI");
    identity.machine = host::expect(evidence::decode_machine_facts(reader.sized()), "database");
    return identity;
}

}  // namespace

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

verifier::TpmState decode_tpm(Bytes bytes) {
    verifier::TpmState tpm;
    if (bytes.empty()) return tpm;
    const bool marked = bytes.size() >= 4 && load<std::uint16_t>(bytes.data(), Endian::kBig) == kTpmStateMark;
    const std::uint16_t version = marked ? load<std::uint16_t>(bytes.data() + 2, Endian::kBig) : kTpmStateVersion;
    if (version != kTpmStateVersion)
        throw host::ToolError("database: remembered TPM state: version " + std::to_string(version));
    Reader reader(marked ? bytes.subspan(4) : bytes, Endian::kBig);
    const Bytes signer = reader.sized();
    tpm.qualified_signer.assign(signer.begin(), signer.end());
    tpm.clock = reader.u64();
    tpm.reset_count = reader.u32();
    tpm.restart_count = reader.u32();
    tpm.firmware_version = reader.u64();
    if (marked && number_below(2, reader.u8(), "presence of an identity") == 1) tpm.identity = read_identity(reader);
    while (reader.remaining() != 0) {
        verifier::VaultState& vault = tpm.vaults.emplace_back();
        reader.copy(vault.sealed_name);
        vault.generation = reader.u64();
        if (marked) reader.copy(vault.disk);
    }
    host::expect(reader.finished("remembered TPM state"), "database");
    return tpm;
}

}  // namespace gatehouse::server
