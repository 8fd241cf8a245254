// What is remembered of a TPM, as the database keeps it.
#include "attestation/server/database/tpm_state.hpp"

#include <gtest/gtest.h>

namespace gatehouse::server {
namespace {

using host::Buffer;

verifier::TpmState sample() {
    verifier::TpmState tpm;
    tpm.qualified_signer.assign(34, std::byte{0x51});
    tpm.clock = 0x0102030405060708;
    tpm.reset_count = 0x090a0b0c;
    tpm.restart_count = 0x0d0e0f10;
    tpm.firmware_version = 0x1112131415161718;
    verifier::EndpointIdentity& identity = tpm.identity.emplace();
    identity.vault_id.fill(std::byte{0x1d});
    identity.vault_pin = evidence::VaultPin::kRecord;
    identity.acpi = evidence::Acpi::kMachine;
    identity.machine = {
        .processor_signature = 0x00a20f10, .microcode = 0x0a20102b, .smm_locked = true, .processors = 4};
    identity.machine.iommus[identity.machine.iommu_count++] = {.function = 2, .registers = 0xfed80000};
    for (std::uint8_t i = 1; i <= 2; ++i) {
        verifier::VaultState& vault = tpm.vaults.emplace_back();
        vault.sealed_name.fill(std::byte{i});
        vault.generation = i + 40u;
        vault.disk.fill(std::byte(0xd0 + i));
    }
    return tpm;
}

// The row as this and older programs have written it.
constexpr const char* kSample =
    "ffff00020022"
    "51515151515151515151515151515151515151515151515151515151515151515151"
    "0102030405060708090a0b0c0d0e0f1011121314151617180"
    "1"
    "1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d"
    "0201"
    "0018000100a20f100a20102b01000401000200000000fed80000"
    "01010101010101010101010101010101010101010101010101010101010101010101"
    "0000000000000029d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"
    "02020202020202020202020202020202020202020202020202020202020202020202"
    "000000000000002ad2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2";

TEST(RememberedTpm, KeepsItsBytes) { EXPECT_EQ(host::hex(encode_tpm(sample())), kSample); }

TEST(RememberedTpm, IsReadAsItWasOrNotAtAll) {
    const Buffer whole = encode_tpm(sample());
    for (std::size_t at = 0; at < whole.size(); ++at) {
        for (unsigned value = 0; value < 256; ++value) {
            Buffer changed = whole;
            changed[at] = static_cast<std::byte>(value);
            // Without the mark it is a row of the format before, which is always written anew.
            if (at < 2 && changed != whole) continue;
            try {
                ASSERT_EQ(encode_tpm(decode_tpm(changed)), changed) << "byte " << at << " is " << value;
            } catch (const host::ToolError&) {
                EXPECT_NE(changed, whole);
            }
        }
    }
    for (std::size_t size = 1; size < whole.size(); ++size) {
        const Buffer part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        try {
            EXPECT_EQ(encode_tpm(decode_tpm(part)), part) << size;
        } catch (const host::ToolError&) {}
    }
}

TEST(RememberedTpm, OfTheFormatBeforeHasVaultsWithoutTheirDisks) {
    const Buffer row = host::from_hex(
        "0001510102030405060708090a0b0c0d0e0f101112131415161718"
        "010101010101010101010101010101010101010101010101010101010101010101010000000000000029",
        "row");
    const verifier::TpmState tpm = decode_tpm(row);
    EXPECT_EQ(tpm.qualified_signer, Buffer{std::byte{0x51}});
    EXPECT_EQ(tpm.clock, 0x0102030405060708u);
    EXPECT_EQ(tpm.firmware_version, 0x1112131415161718u);
    EXPECT_EQ(tpm.identity, std::nullopt);
    ASSERT_EQ(tpm.vaults.size(), 1u);
    EXPECT_EQ(tpm.vaults[0].generation, 41u);
    EXPECT_EQ(tpm.vaults[0].disk, decltype(tpm.vaults[0].disk){});
}

}  // namespace
}  // namespace gatehouse::server
