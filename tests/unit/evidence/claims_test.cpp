#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attestation/evidence_reader/claims_reader.hpp"
#include "attestation/protocol/claims_json.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::evidence {
namespace {

using Buffer = std::vector<std::byte>;

Claims sample() {
    Claims claims{.hypervisor_version = 0x00010203,
                  .launch = Launch::kSkinit,
                  .iommu = Iommu::kVtd,
                  .cpus = 4,
                  .flags = 3,
                  .kept_bytes = 0xc00000,
                  .counter_limit = 7,
                  .policy_digest = sha256(literal_bytes("bundle")),
                  .acpi = Acpi::kMachine,
                  .vault_pin = VaultPin::kRecord,
                  .vault_id = sha256(literal_bytes("vault")),
                  .machine = {.processor_signature = 0x00a20f10,
                              .microcode = 0x0a20102b,
                              .smm_locked = true,
                              .processors = 4,
                              .iommu_count = 1},
                  .disk_count = 2};
    claims.machine.iommus[0] = {.function = 2, .registers = 0xfed80000};
    claims.storage_root.fill(std::byte{0x0b});
    claims.disks[0] = {
        .guid = {std::byte{0xaa}}, .state = DiskState::kEncrypted, .key_epoch = 1, .generation = 0x0102030405060708};
    claims.disks[0].sealed_name.fill(std::byte{0x5e});
    claims.disks[1] = {.guid = {std::byte{0xbb}}, .state = DiskState::kAbsent};
    return claims;
}

Buffer encoded(const Claims& claims) {
    Buffer out(kMaxClaimsSize);
    const auto size = encode_claims(claims, out);
    EXPECT_TRUE(size.ok());
    out.resize(*size);
    return out;
}

constexpr const char* kSampleEncoded =
    "4748434c41494d31000301250001020301020004000000030000000000c0000000000000000000071e6ed65d77d6364eeaed"
    "5a745ba5c4985ae2b700dd85d7cf7f027bdf294a33fc0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"
    "0b0b0b0b0b0b0102e6f0a1fbb43c89196dcfcbef85908f19ab4c5f7cc4f4c452284697757683d7ef0018000100a20f100a20"
    "102b01000401000200000000fed8000002aa000000000000000000000000000000010000000101020304050607085e5e5e5e"
    "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5ebb00000000000000000000000000000000000000"
    "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
constexpr const char* kSampleJson =
    R"({"hypervisor_version":"1.2.3","launch":"SKINIT","iommu":"VT-d","cpus":4,"pcrs_capped":true,)"
    R"("vault_opened":true,"kept_bytes":12582912,"counter_limit":7,)"
    R"("policy_digest":"1e6ed65d77d6364eeaed5a745ba5c4985ae2b700dd85d7cf7f027bdf294a33fc",)"
    R"("storage_root":"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",)"
    R"("acpi":"machine",)"
    R"("vault":{"id":"e6f0a1fbb43c89196dcfcbef85908f19ab4c5f7cc4f4c452284697757683d7ef",)"
    R"("pinned_by":"record"},"machine":{"processor_signature":"0x00a20f10","microcode":"0x0a20102b",)"
    R"("smm_locked":true,"processors":4,"iommus":[{"function":"00:00.2","registers":"0xfed80000"}]},)"
    R"("disks":[{"guid":"000000aa-0000-0000-0000-000000000000","state":"encrypted","key_epoch":1,)"
    R"("generation":72623859790382856,)"
    R"("sealed_name":"5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e"},)"
    R"({"guid":"000000bb-0000-0000-0000-000000000000","state":"absent","key_epoch":0,"generation":0,)"
    R"("sealed_name":"00000000000000000000000000000000000000000000000000000000000000000000"}]})";

// Offsets of the encoding, as the header has them.
constexpr std::size_t kVersionAt = 8;
constexpr std::size_t kSizeAt = 10;
constexpr std::size_t kLaunchAt = 16;
constexpr std::size_t kIommuAt = 17;
constexpr std::size_t kFlagsAt = 20;
constexpr std::size_t kAcpiAt = 106;
constexpr std::size_t kVaultPinAt = 107;
constexpr std::size_t kFactsAt = 142;
constexpr std::size_t kSmmAt = kFactsAt + 10;
constexpr std::size_t kIommuCountAt = kFactsAt + 13;
constexpr std::size_t kDiskCountAt = kFactsAt + 14 + 10;
constexpr std::size_t kDiskStateAt = kDiskCountAt + 1 + 16;

TEST(Claims, ComeBackAsTheyWere) {
    const auto claims = decode_claims(encoded(sample()));
    ASSERT_TRUE(claims.ok());
    EXPECT_EQ(claims->hypervisor_version, 0x00010203u);
    EXPECT_EQ(claims->launch, Launch::kSkinit);
    EXPECT_EQ(claims->iommu, Iommu::kVtd);
    EXPECT_EQ(claims->cpus, 4);
    EXPECT_EQ(claims->flags, 3u);
    EXPECT_EQ(claims->kept_bytes, 0xc00000u);
    EXPECT_EQ(claims->counter_limit, 7u);
    EXPECT_EQ(claims->policy_digest, sha256(literal_bytes("bundle")));
    EXPECT_EQ(claims->storage_root[33], std::byte{0x0b});
    EXPECT_EQ(claims->acpi, Acpi::kMachine);
    EXPECT_EQ(claims->vault_pin, VaultPin::kRecord);
    EXPECT_EQ(claims->vault_id, sha256(literal_bytes("vault")));
    EXPECT_EQ(claims->machine.microcode, 0x0a20102bu);
    EXPECT_TRUE(claims->machine.smm_locked);
    ASSERT_EQ(claims->machine.iommu_count, 1u);
    EXPECT_EQ(claims->machine.iommus[0], (IommuFact{.function = 2, .registers = 0xfed80000}));
    ASSERT_EQ(claims->disk_count, 2u);
    EXPECT_EQ(claims->disks[0].guid[0], std::byte{0xaa});
    EXPECT_EQ(claims->disks[0].state, DiskState::kEncrypted);
    EXPECT_EQ(claims->disks[0].key_epoch, 1u);
    EXPECT_EQ(claims->disks[0].generation, 0x0102030405060708u);
    EXPECT_EQ(claims->disks[0].sealed_name, sample().disks[0].sealed_name);
    EXPECT_EQ(claims->disks[1].state, DiskState::kAbsent);
    EXPECT_EQ(claims->disks[1].generation, 0u);
}

TEST(Claims, AreBigEndianAtTheOffsetsOfTheHeader) {
    const Buffer bytes = encoded(sample());
    ASSERT_EQ(bytes.size(), kDiskCountAt + 1 + 2 * 63);
    EXPECT_EQ(load<std::uint64_t>(bytes.data(), Endian::kBig), kClaimsMagic);
    EXPECT_EQ(load<std::uint16_t>(bytes.data() + kSizeAt, Endian::kBig), bytes.size());
    EXPECT_EQ(bytes[kLaunchAt], std::byte{1});
    EXPECT_EQ(load<std::uint64_t>(bytes.data() + 24, Endian::kBig), 0xc00000u);
    EXPECT_EQ(bytes[kDiskCountAt], std::byte{2});
    EXPECT_EQ(bytes[kDiskStateAt], std::byte{1});
    EXPECT_EQ(load<std::uint32_t>(bytes.data() + kDiskStateAt + 1, Endian::kBig), 1u);
    EXPECT_EQ(load<std::uint64_t>(bytes.data() + kDiskStateAt + 5, Endian::kBig), 0x0102030405060708u);
    EXPECT_EQ(bytes[kDiskStateAt + 12], std::byte{8});
    EXPECT_EQ(bytes[kDiskStateAt + 13], std::byte{0x5e});
    EXPECT_EQ(bytes[kDiskStateAt + 13 + 33], std::byte{0x5e});
    EXPECT_EQ(bytes[kDiskStateAt + 13 + 34], std::byte{0xbb}) << "the next disk";
}

TEST(Claims, WithAllDisksFitTheMaximumExactly) {
    Claims claims = sample();
    claims.disk_count = kMaxDisks;
    claims.machine.iommu_count = kMaxFactIommus;
    Buffer out(kMaxClaimsSize);
    ASSERT_TRUE(encode_claims(claims, out).ok());
    EXPECT_EQ(*encode_claims(claims, out), kMaxClaimsSize);
    EXPECT_EQ(encode_claims(claims, MutableBytes(out).first(kMaxClaimsSize - 1)).error(), Error::kNoSpace);
    claims.disk_count = kMaxDisks + 1;
    EXPECT_EQ(encode_claims(claims, out).error(), Error::kBadValue);
}

TEST(Claims, AreRefusedAtEveryTruncation) {
    const Buffer whole = encoded(sample());
    for (std::size_t size = 0; size < whole.size(); ++size) {
        Buffer part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        EXPECT_FALSE(decode_claims(part).ok()) << size;
        if (size >= kSizeAt + 2) store(part.data() + kSizeAt, static_cast<std::uint16_t>(size), Endian::kBig);
        EXPECT_EQ(decode_claims(part).error(), Error::kTruncated) << size << ", as its size says";
    }
    Buffer longer = whole;
    longer.push_back(std::byte{0});
    EXPECT_EQ(decode_claims(longer).error(), Error::kTrailingBytes);
}

// So no two encodings are of the same claims, and nothing that is accepted is passed over. The claims themselves, and
// what is in them: a byte more, a byte less, a part twice.
TEST(Claims, AreAcceptedInTheirOnlyEncodingAlone) {
    const Buffer whole = encoded(sample());
    for (std::size_t at = 0; at < whole.size(); ++at) {
        for (unsigned value = 0; value < 256; ++value) {
            Buffer changed = whole;
            changed[at] = static_cast<std::byte>(value);
            const auto claims = decode_claims(changed);
            if (!claims.ok()) continue;
            ASSERT_EQ(encoded(*claims), changed) << "byte " << at << " is " << value;
        }
    }
    const auto resized = [](Buffer bytes) {
        store(bytes.data() + kSizeAt, static_cast<std::uint16_t>(bytes.size()), Endian::kBig);
        return bytes;
    };
    for (std::size_t at = kSizeAt + 2; at < whole.size(); ++at) {
        Buffer more = whole, less = whole;
        more.insert(more.begin() + static_cast<std::ptrdiff_t>(at), std::byte{0});
        less.erase(less.begin() + static_cast<std::ptrdiff_t>(at));
        EXPECT_FALSE(decode_claims(resized(more)).ok()) << at;
        EXPECT_FALSE(decode_claims(resized(less)).ok()) << at;
    }
    for (const auto& [from, to] : {std::pair{kFactsAt - 2, kDiskCountAt}, std::pair{kDiskStateAt - 16, whole.size()}}) {
        const Buffer part(whole.begin() + static_cast<std::ptrdiff_t>(from),
                          whole.begin() + static_cast<std::ptrdiff_t>(to));
        Buffer twice = whole;
        twice.insert(twice.begin() + static_cast<std::ptrdiff_t>(to), part.begin(), part.end());
        EXPECT_FALSE(decode_claims(resized(twice)).ok()) << from;
    }
}

// A member that is in none of the tables would be neither signed nor shown.
TEST(Claims, TablesHaveEveryMember) {
    const auto& [version, launch, iommu, cpus, flags, kept, limit, policy, root, acpi, pin, vault, machine, count,
                 disks] = sample();
    EXPECT_EQ(std::tuple_size_v<decltype(kClaimMembers)>, 15u - 3)
        << "machine facts and disks have tables of their own";
    EXPECT_EQ(sizeof version + sizeof launch + sizeof iommu + sizeof cpus + sizeof flags + sizeof kept + sizeof limit +
                  sizeof policy + sizeof root + sizeof acpi + sizeof pin + sizeof vault,
              encoded_size(kClaimMembers));
    const auto& [guid, state, epoch, generation, name] = disks[0];
    EXPECT_EQ(sizeof guid + sizeof state + sizeof epoch + sizeof generation + sizeof name, encoded_size(kDiskMembers));
    const auto& [signature, microcode, smm, processors, iommus, iommu_count] = machine;
    EXPECT_EQ(sizeof signature + sizeof microcode + sizeof smm + sizeof processors, encoded_size(kFactMembers));
    const auto& [function, registers] = iommus[0];
    EXPECT_EQ(sizeof function + sizeof registers, encoded_size(kIommuMembers));
    EXPECT_EQ(count + iommu_count, 3u);
}

// What attesters have sent, and what people and programs have read: neither may change with the code.
TEST(Claims, KeepTheirBytes) { EXPECT_EQ(host::hex(encoded(sample())), kSampleEncoded); }

TEST(Claims, KeepTheirJson) { EXPECT_EQ(protocol::claims_json(sample()).dump(), kSampleJson); }

TEST(Claims, KeepTheJsonOfWhoseEndpointItIs) {
    const Claims claims = sample();
    const std::string json =
        protocol::identity_json(claims.acpi, claims.vault_pin, claims.vault_id, claims.machine).dump();
    EXPECT_NE(std::string(kSampleJson).find(json.substr(1, json.size() - 2) + R"(,"disks")"), std::string::npos)
        << json;
}

TEST(Claims, KeepTheNamesOfTheirValues) {
    const auto json_with = [](auto change) {
        Claims claims = sample();
        change(claims);
        return protocol::claims_json(claims);
    };
    const auto names = [&](auto member, const char* name, unsigned count) {
        std::string all;
        for (unsigned value = 0; value < count; ++value) {
            const auto json = json_with([&](Claims& claims) {
                auto& place = member(claims);
                place = static_cast<std::remove_cvref_t<decltype(place)>>(value);
            });
            all += json.at(nlohmann::ordered_json::json_pointer(name)).template get<std::string>() + " ";
        }
        return all;
    };
    EXPECT_EQ(names(
                  [](Claims & c) -> auto& { return c.launch; }, "/launch", 4),
              "none SKINIT SENTER unknown ");
    EXPECT_EQ(names(
                  [](Claims & c) -> auto& { return c.iommu; }, "/iommu", 4),
              "none AMD-Vi VT-d unknown ");
    EXPECT_EQ(names(
                  [](Claims & c) -> auto& { return c.acpi; }, "/acpi", 3),
              "minimal machine unknown ");
    EXPECT_EQ(names(
                  [](Claims & c) -> auto& { return c.vault_pin; }, "/vault/pinned_by", 4),
              "nobody bundle record unknown ");
    EXPECT_EQ(names(
                  [](Claims & c) -> auto& { return c.disks[0].state; }, "/disks/0/state", 4),
              "absent encrypted encrypting unknown ");

    const auto capped = json_with([](Claims& c) { c.flags = static_cast<std::uint32_t>(ClaimFlag::kCapped); });
    EXPECT_EQ(capped.at("pcrs_capped"), true);
    EXPECT_EQ(capped.at("vault_opened"), false);
    const auto whole = json_with([](Claims& c) {
        for (std::uint8_t i = 0; i < 16; ++i) c.disks[0].guid[i] = std::byte{i};
        c.hypervisor_version = 0xfffefdfc;
        c.machine.iommus[0] = {.function = 0xfed3, .registers = 0x0123456789abcdef};
    });
    EXPECT_EQ(whole.at("disks").at(0).at("guid"), "03020100-0504-0706-0809-0a0b0c0d0e0f");
    EXPECT_EQ(whole.at("hypervisor_version"), "65534.253.252");
    EXPECT_EQ(whole.at("machine").at("iommus").at(0).dump(),
              R"({"function":"fe:1a.3","registers":"0x123456789abcdef"})");
}

struct Change {
    const char* name;
    std::size_t offset;
    std::uint8_t value;
    Error error;
};
class ClaimsField : public testing::TestWithParam<Change> {};

TEST_P(ClaimsField, OutOfItsDomainIsRefused) {
    Buffer bytes = encoded(sample());
    bytes.at(GetParam().offset) = static_cast<std::byte>(GetParam().value);
    EXPECT_EQ(decode_claims(bytes).error(), GetParam().error);
}

INSTANTIATE_TEST_SUITE_P(
    All, ClaimsField,
    testing::Values(Change{"Magic", 0, 0, Error::kBadMagic}, Change{"Version", kVersionAt + 1, 1, Error::kBadVersion},
                    Change{"Size", kSizeAt + 1, 1, Error::kBadLength}, Change{"Launch", kLaunchAt, 3, Error::kBadValue},
                    Change{"Iommu", kIommuAt, 3, Error::kBadValue}, Change{"Flags", kFlagsAt, 0x80, Error::kBadValue},
                    Change{"Acpi", kAcpiAt, 2, Error::kBadValue}, Change{"VaultPin", kVaultPinAt, 3, Error::kBadValue},
                    Change{"FactsVersion", kFactsAt + 1, 2, Error::kBadVersion},
                    Change{"SmmLocked", kSmmAt, 2, Error::kBadValue},
                    Change{"IommuCount", kIommuCountAt, 17, Error::kBadValue},
                    Change{"FewerIommus", kIommuCountAt, 0, Error::kTrailingBytes},
                    Change{"DiskCount", kDiskCountAt, 9, Error::kBadValue},
                    Change{"FewerDisks", kDiskCountAt, 1, Error::kTrailingBytes},
                    Change{"DiskState", kDiskStateAt, 3, Error::kBadValue}),
    [](const auto& row) { return row.param.name; });

TEST(QualifyingData, IsTheHashOfALabelNonceAndClaimsWithTheirLengths) {
    const Buffer claims = encoded(sample());
    const Bytes nonce = literal_bytes("0123456789abcdef");
    Buffer all;
    const auto add = [&](Bytes bytes) { all.insert(all.end(), bytes.begin(), bytes.end()); };
    const std::array nonce_size{std::byte{0}, std::byte{16}};
    std::array<std::byte, 2> claims_size{};
    store(claims_size.data(), static_cast<std::uint16_t>(claims.size()), Endian::kBig);
    add(literal_bytes("gatehouse quote v3"));
    add(nonce_size);
    add(nonce);
    add(claims_size);
    add(claims);
    EXPECT_EQ(qualifying_data(nonce, claims), sha256(all));
}

TEST(QualifyingData, TellsWhereTheNonceEnds) {
    const Bytes all = literal_bytes("0123456789abcdef claims");
    EXPECT_NE(qualifying_data(all.first(16), all.subspan(16)), qualifying_data(all.first(17), all.subspan(17)));
}

}  // namespace
}  // namespace gatehouse::evidence
