// Attestation policies: what is refused as a policy, and whose signature counts.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "attestation/verifier/token.hpp"
#include "tests/unit/verifier/software_attester.hpp"

namespace gatehouse::verifier {
namespace {

using nlohmann::json;

json good() {
    return {{"gatehouse_attestation_policy", 1},
            {"name", "laptops-2026.1"},
            {"version", 7},
            {"source", "hypervisor"},
            {"references", {policies::to_json(test::launch_reference())}},
            {"counter_floor", 3},
            {"minimum_hypervisor", "1.2.3"},
            {"require_iommu", false},
            {"tpm_firmware", {"00000000deadbeef"}},
            {"lease_s", 600}};
}
json good_tpm() {
    return {
        {"gatehouse_attestation_policy", 1},
        {"name", "servers"},
        {"version", 1},
        {"source", "tpm"},
        {"pcrs", {{"sha256", {{"0", {std::string(64, 'a'), std::string(64, 'b')}}, {"23", {std::string(64, '0')}}}}}}};
}

TEST(AttestationPolicy, IsRead) {
    const Policy policy = parse_policy(good().dump());
    EXPECT_EQ(policy.name, "laptops-2026.1");
    EXPECT_EQ(policy.version, 7u);
    EXPECT_EQ(policy.references.size(), 1u);
    EXPECT_EQ(policy.references[0].events.size(), 6u);
    EXPECT_EQ(policy.counter_floor, 3u);
    EXPECT_EQ(policy.minimum_hypervisor, 0x010203u);
    EXPECT_FALSE(policy.require_iommu);
    EXPECT_EQ(policy.tpm_firmware, std::vector<std::uint64_t>{0xdeadbeef});
    EXPECT_EQ(policy.lease_s, 600u);
    const Policy tpm = parse_policy(good_tpm().dump());
    EXPECT_EQ(tpm.source, Source::kTpm);
    EXPECT_EQ(tpm.pcrs.at(HashAlgorithm::kSha256).at(0).size(), 2u);
    EXPECT_TRUE(tpm.require_iommu) << "the default";
}

TEST(AttestationPolicy, SaysWhoseVaultAndWhichMachine) {
    json from = good();
    from["vault"] = {{"ids", {std::string(64, 'a')}}, {"allow_unpinned", true}};
    from["machine"] = {{"models", {json::parse(policies::model_file(test::sample_model()))}},
                       {"minimum_microcode", {{"0x00a20f10", "0x0a20102b"}}},
                       {"smm_locked", true},
                       {"minimum_iommus", 2}};
    from["acpi"] = "machine";
    const Policy policy = parse_policy(from.dump());
    ASSERT_EQ(policy.vault_ids.size(), 1u);
    EXPECT_EQ(policy.vault_ids[0][31], std::byte{0xaa});
    EXPECT_TRUE(policy.allow_unpinned_vault);
    EXPECT_EQ(policy.machine_models.size(), 1u);
    EXPECT_EQ(policy.minimum_microcode.at(0x00a20f10), 0x0a20102bu);
    EXPECT_TRUE(policy.require_smm_lock);
    EXPECT_EQ(policy.minimum_iommus, 2u);
    EXPECT_EQ(policy.acpi, evidence::Acpi::kMachine);
    const Policy plain = parse_policy(good().dump());
    EXPECT_FALSE(plain.allow_unpinned_vault) << "the default";
    EXPECT_FALSE(plain.acpi.has_value());
}

TEST(AttestationPolicy, OfVaultAndMachineIsReadStrictly) {
    const auto refused = [](const char* member, const json& value) {
        json from = good();
        from[member] = value;
        EXPECT_THROW((void)parse_policy(from.dump()), host::ToolError) << member << value.dump();
        from = good_tpm();
        from[member] = value;
        EXPECT_THROW((void)parse_policy(from.dump()), host::ToolError) << "of source tpm: " << member;
    };
    refused("vault", {{"ids", json::array()}});
    refused("vault", {{"ids", {"aa"}}});
    refused("vault", {{"id", std::string(64, 'a')}});
    refused("vault", {{"allow_unpinned", 1}});
    refused("machine", {{"models", {json::object()}}});
    refused("machine", {{"minimum_microcode", {{"a20f10", "0x0a20102b"}}}});
    refused("machine", {{"minimum_microcode", {{"0x00a20f10", 5}}}});
    refused("machine", {{"smm_locked", "yes"}});
    refused("machine", {{"minimum_iommus", 17}});
    refused("machine", {{"smm_lock", true}});
    refused("acpi", "any");
}

TEST(AttestationPolicy, MayRefuseContradictions) {
    json from = good_tpm();
    EXPECT_FALSE(parse_policy(from.dump()).refuse_contradictions) << "the default";
    from["refuse_contradictions"] = true;
    EXPECT_TRUE(parse_policy(from.dump()).refuse_contradictions);
}

TEST(AttestationPolicy, MaySayHowOldCrlsMayBe) {
    for (json from : {good(), good_tpm()}) {
        EXPECT_EQ(parse_policy(from.dump()).max_crl_age_days, 0u) << "the default";
        from["max_crl_age_days"] = 30;
        EXPECT_EQ(parse_policy(from.dump()).max_crl_age_days, 30u);
    }
}

TEST(AttestationPolicy, MayBeEmptyAndAcceptsNothing) {
    json empty = good();
    empty.erase("references");
    test::Sample sample = test::Sample::of_hypervisor();
    sample.policy = parse_policy(empty.dump());
    sample.seal();
    EXPECT_FALSE(sample.judge().accepted());
}

struct WrongPolicy {
    const char* name;
    void (*change)(json&);
    const char* word;
    bool tpm = false;
};
class RefusedPolicy : public testing::TestWithParam<WrongPolicy> {};
TEST_P(RefusedPolicy, NamesTheMember) {
    json policy = GetParam().tpm ? good_tpm() : good();
    GetParam().change(policy);
    try {
        (void)parse_policy(policy.dump());
        FAIL() << "was accepted";
    } catch (const host::ToolError& error) {
        EXPECT_NE(std::string(error.what()).find(GetParam().word), std::string::npos) << error.what();
    }
}
INSTANTIATE_TEST_SUITE_P(
    Rows, RefusedPolicy,
    testing::Values(
        WrongPolicy{"UnknownMember", [](json& p) { p["require_secure_boot"] = true; }, "require_secure_boot: is not"},
        WrongPolicy{"ContradictionsOfAHypervisor", [](json& p) { p["refuse_contradictions"] = false; },
                    "refuse_contradictions: is for source"},
        WrongPolicy{"ContradictionsAsText", [](json& p) { p["refuse_contradictions"] = "yes"; },
                    "refuse_contradictions: must", true},
        WrongPolicy{"CrlAgeOfNothing", [](json& p) { p["max_crl_age_days"] = 0; },
                    "max_crl_age_days: must be 1 to 3650"},
        WrongPolicy{"CrlAgeAsText", [](json& p) { p["max_crl_age_days"] = "30"; }, "max_crl_age_days: must be a whole"},
        WrongPolicy{"OtherFormat", [](json& p) { p["gatehouse_attestation_policy"] = 2; },
                    "gatehouse_attestation_policy"},
        WrongPolicy{"NoName", [](json& p) { p.erase("name"); }, "name: is missing"},
        WrongPolicy{"NameWithASlash", [](json& p) { p["name"] = "a/b"; }, "name: must"},
        WrongPolicy{"NameTooLong", [](json& p) { p["name"] = std::string(65, 'a'); }, "name: must"},
        WrongPolicy{"NoVersion", [](json& p) { p.erase("version"); }, "version: is missing"},
        WrongPolicy{"NegativeVersion", [](json& p) { p["version"] = -1; }, "version: must"},
        WrongPolicy{"FractionalVersion", [](json& p) { p["version"] = 1.5; }, "version: must"},
        WrongPolicy{"NoSource", [](json& p) { p.erase("source"); }, "source: is missing"},
        WrongPolicy{"OtherSource", [](json& p) { p["source"] = "any"; }, "source: must"},
        WrongPolicy{"ReferenceWithoutEvents", [](json& p) { p["references"][0]["events"] = json::array(); },
                    "references[0]"},
        WrongPolicy{"ReferenceThatLacksAnEvent", [](json& p) { p["references"][0]["events"].erase(5); },
                    "are not those of a launch"},
        WrongPolicy{"ReferenceWithAnotherBundle",
                    [](json& p) { p["references"][0]["bundle"]["sha256"] = std::string(64, '1'); },
                    "is not the one described"},
        WrongPolicy{"ReferenceThatIsNone", [](json& p) { p["references"][0] = 5; }, "references[0]"},
        WrongPolicy{"PcrsForAHypervisor", [](json& p) { p["pcrs"] = good_tpm()["pcrs"]; }, "pcrs: is for"},
        WrongPolicy{"StorageRootOfAnotherWord", [](json& p) { p["storage_root"] = "any"; }, "storage_root"},
        WrongPolicy{"CounterAsText", [](json& p) { p["counter_floor"] = "3"; }, "counter_floor"},
        WrongPolicy{"VersionWithTwoParts", [](json& p) { p["minimum_hypervisor"] = "1.2"; }, "minimum_hypervisor"},
        WrongPolicy{"VersionWithATail", [](json& p) { p["minimum_hypervisor"] = "1.2.3-rc"; }, "minimum_hypervisor"},
        WrongPolicy{"IommuAsNumber", [](json& p) { p["require_iommu"] = 0; }, "require_iommu"},
        WrongPolicy{"FirmwareTooShort", [](json& p) { p["tpm_firmware"] = {"dead"}; }, "tpm_firmware"},
        WrongPolicy{"LeaseTooShort", [](json& p) { p["lease_s"] = 59; }, "lease_s: must be 60 to 86400"},
        WrongPolicy{"LeaseTooLong", [](json& p) { p["lease_s"] = 86401; }, "lease_s"},
        WrongPolicy{"Sha1Bank",
                    [](json& p) {
                        p["pcrs"]["sha1"] = {{"0", {std::string(40, 'a')}}};
                    },
                    "pcrs.sha1", true},
        WrongPolicy{"PcrOutOfRange", [](json& p) { p["pcrs"]["sha256"]["24"] = {std::string(64, 'a')}; },
                    "pcrs.sha256.24", true},
        WrongPolicy{"PcrWithALeadingZero", [](json& p) { p["pcrs"]["sha256"]["07"] = {std::string(64, 'a')}; },
                    "pcrs.sha256.07", true},
        WrongPolicy{"PcrWithoutValues", [](json& p) { p["pcrs"]["sha256"]["7"] = json::array(); }, "pcrs.sha256.7",
                    true},
        WrongPolicy{"ValueOfAnotherSize", [](json& p) { p["pcrs"]["sha256"]["7"] = {"aa"}; }, "pcrs.sha256.7", true},
        WrongPolicy{"ValueNotHex", [](json& p) { p["pcrs"]["sha256"]["7"] = {std::string(64, 'x')}; }, "pcrs.sha256.7",
                    true},
        WrongPolicy{"StorageRootForATpm", [](json& p) { p["storage_root"] = "own"; }, "storage_root: is for", true},
        WrongPolicy{"CounterForATpm", [](json& p) { p["counter_floor"] = 1; }, "counter_floor: is for", true},
        WrongPolicy{"IommuForATpm", [](json& p) { p["require_iommu"] = true; }, "require_iommu: is for", true}),
    [](const auto& row) { return row.param.name; });

TEST(AttestationPolicy, RefusesAMemberThatIsThereTwice) {
    std::string text = good().dump();
    text.insert(1, "\"require_iommu\":true,");
    EXPECT_THROW((void)parse_policy(text), host::ToolError);
    EXPECT_THROW((void)parse_policy("{"), host::ToolError);
    EXPECT_THROW((void)parse_policy("[]"), host::ToolError);
}

// --- signatures

TEST(SignedPolicy, IsTakenFromATrustedAuthorityOnly) {
    const host::Key authority = test::make_software_key();
    const host::Key other = test::make_software_key();
    const std::string text = good().dump();
    const std::string jws = sign_policy(text, authority.get());
    const EVP_PKEY* const trusted[] = {other.get(), authority.get()};
    const EVP_PKEY* const stranger[] = {other.get()};
    EXPECT_EQ(verify_signed_policy(jws, trusted), text);
    EXPECT_THROW((void)verify_signed_policy(jws, stranger), host::ToolError);
    EXPECT_THROW((void)verify_signed_policy(jws, {}), host::ToolError);
}

TEST(SignedPolicy, IsRefusedWithAnyCharacterChanged) {
    const host::Key authority = test::make_software_key();
    const EVP_PKEY* const trusted[] = {authority.get()};
    json small = good_tpm();
    const std::string jws = sign_policy(small.dump(), authority.get());
    for (std::size_t i = 0; i < jws.size(); ++i) {
        std::string changed = jws;
        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        EXPECT_THROW((void)verify_signed_policy(changed, trusted), host::ToolError) << i;
    }
}

TEST(SignedPolicy, IsNotAStatementOfAnotherKind) {
    const host::Key authority = test::make_software_key();
    const EVP_PKEY* const trusted[] = {authority.get()};
    EXPECT_THROW((void)verify_signed_policy(sign_jws(good().dump(), "eat+jwt", authority.get()), trusted),
                 host::ToolError);
}

TEST(SignedPolicy, IsNotMadeOfWhatIsNoPolicy) {
    EXPECT_THROW((void)sign_policy("{}", test::make_software_key().get()), host::ToolError);
}

TEST(SignedPolicy, HasTheAddressOfItsPayload) {
    EXPECT_EQ(policy_address("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace gatehouse::verifier
