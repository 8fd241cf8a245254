// policyctl as a user runs it, and the prediction behind it.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "attestation/evidence/claims.hpp"
#include "keyvault/host_support/authority.hpp"
#include "keyvault/host_support/disk.hpp"
#include "keyvault/tpm/sealing.hpp"
#include "keyvault/tpm_templates/policy.hpp"
#include "keyvault/tpm_templates/templates.hpp"
#include "policies/prediction/machine_model.hpp"
#include "policies/prediction/predict.hpp"
#include "policies/prediction/show.hpp"
#include "tests/unit/policies/appliance.hpp"

namespace gatehouse::policies {
namespace {

using host::hex;
using nlohmann::json;
using test::Appliance;
using test::Outcome;
using test::run_tool;

Sha256Digest extend(const Sha256Digest& value, Bytes object) { return sha256({value, sha256(object)}); }

// --- The prediction

TEST(Predict, FollowsTheOrderOfTheMeasurements) {
    const Appliance appliance;
    const Prediction prediction = predict_directory(appliance.files());
    const auto file = [&](const char* name) { return appliance.read(name); };

    const host::Buffer slb = file("slb.bin");
    const Sha256Digest pcr17 = extend(extend({}, Bytes(slb).first(test::kSlbLength)), file("hypervisor.bin"));
    Sha256Digest pcr18{};
    for (const char* const name : {"policy.bundle", "kernel", "initrd", "cmdline"}) pcr18 = extend(pcr18, file(name));
    EXPECT_EQ(hex(prediction.sealing_value(HashAlgorithm::kSha256, 17).bytes()), hex(pcr17));
    EXPECT_EQ(hex(prediction.sealing_value(HashAlgorithm::kSha256, 18).bytes()), hex(pcr18));
    const host::Buffer cap(4);
    const auto capped = [&](std::uint32_t pcr, Bytes vault) {
        return hex(prediction.capped_value(HashAlgorithm::kSha256, pcr, vault).bytes());
    };
    EXPECT_EQ(capped(17, test::vault_id()), hex(extend(pcr17, cap)));
    EXPECT_EQ(capped(18, test::vault_id()), hex(extend(extend(pcr18, test::vault_id()), cap)));
    EXPECT_EQ(capped(18, {}), hex(extend(pcr18, cap))) << "no vault was opened";
}

TEST(Predict, ChangesWithEveryMeasuredByteAndWithNoOther) {
    const Appliance appliance;
    const auto value = [&](std::uint32_t pcr) {
        return hex(predict_directory(appliance.files()).sealing_value(HashAlgorithm::kSha256, pcr).bytes());
    };
    const std::string pcr17 = value(17);
    const std::string pcr18 = value(18);
    const auto flip = [&](const char* name, std::size_t offset) {
        host::Buffer content = appliance.read(name);
        content.at(offset) ^= std::byte{1};
        appliance.write(name, content);
    };
    const auto expect = [&](const char* name, std::size_t offset, bool changes17, bool changes18) {
        flip(name, offset);
        EXPECT_EQ(value(17) != pcr17, changes17) << name << " " << offset;
        EXPECT_EQ(value(18) != pcr18, changes18) << name << " " << offset;
        flip(name, offset);
    };
    expect("slb.bin", test::kSlbLength - 1, true, false);
    expect("slb.bin", test::kSlbLength, false, false);  // outside of what the CPU measures
    expect("hypervisor.bin", appliance.read("hypervisor.bin").size() - 1, true, false);
    expect("kernel", 0, false, true);
    expect("initrd", 0, false, true);
    expect("cmdline", 0, false, true);
    expect("policy.bundle", 40, false, true);  // a byte of the SRK name
    EXPECT_EQ(value(17), pcr17);
}

TEST(Predict, RefusesAnSlbWhoseLengthDoesNotFit) {
    host::Buffer slb(100);
    store(slb.data() + 2, std::uint16_t{100}, Endian::kLittle);
    EXPECT_EQ(measured_part_of_slb(slb).size(), 100u);
    store(slb.data() + 2, std::uint16_t{101}, Endian::kLittle);
    EXPECT_THROW((void)measured_part_of_slb(slb), host::ToolError);
    store(slb.data() + 2, std::uint16_t{3}, Endian::kLittle);
    EXPECT_THROW((void)measured_part_of_slb(slb), host::ToolError);
    EXPECT_THROW((void)measured_part_of_slb(Bytes(slb).first(3)), host::ToolError);
}

TEST(Predict, ComesBackFromJson) {
    const Appliance appliance;
    const Prediction before = predict_directory(appliance.files());
    const Prediction after = from_json(json::parse(to_json(before).dump()));
    for (const HashAlgorithm bank : kPredictedBanks) {
        for (const std::uint32_t pcr : {17u, 18u}) {
            EXPECT_EQ(hex(after.capped_value(bank, pcr, test::vault_id()).bytes()),
                      hex(before.capped_value(bank, pcr, test::vault_id()).bytes()));
        }
    }
    EXPECT_EQ(after.bundle.digest, before.bundle.digest);
    EXPECT_EQ(after.bundle.srk_name, before.bundle.srk_name);
    EXPECT_EQ(after.bundle.vault_id, before.bundle.vault_id);
    appliance.make_fleet_bundle();
    const Prediction fleet = predict_directory(appliance.files());
    EXPECT_EQ(from_json(to_json(fleet)).bundle.enrollment, fleet.bundle.enrollment);
}

TEST(Predict, TellsCappedValuesOnlyOfAKnownVault) {
    const Appliance appliance;
    EXPECT_TRUE(to_json(predict_directory(appliance.files())).contains("pcrs_capped")) << "it is pinned";
    const host::Buffer other(kSha256Size, std::byte{1});
    EXPECT_THROW((void)to_json(predict_directory(appliance.files()), other), host::ToolError);
    appliance.make_fleet_bundle();
    const Prediction fleet = predict_directory(appliance.files());
    EXPECT_FALSE(to_json(fleet).contains("pcrs_capped"));
    EXPECT_EQ(to_json(fleet, other)["vault_id"], hex(other));
    EXPECT_EQ(to_json(fleet, other)["pcrs_capped"]["sha256"]["18"],
              hex(fleet.capped_value(HashAlgorithm::kSha256, 18, other).bytes()));
}

TEST(Predict, FollowsAnEndpointThatHasItsOwnBundleAndLeavesAFleetsAsItIs) {
    const Appliance appliance;
    const Prediction mine = predict_directory(appliance.files());
    host::Buffer name = test::srk_name();
    name.back() ^= std::byte{1};
    const host::Buffer vault(kSha256Size, std::byte{1});
    const Prediction other = with_endpoint(mine, name, vault);
    appliance.make_bundle(name, vault);
    EXPECT_EQ(to_json(other), to_json(predict_directory(appliance.files())));
    appliance.make_fleet_bundle();
    const Prediction fleet = predict_directory(appliance.files());
    EXPECT_EQ(to_json(with_endpoint(fleet, name, vault)), to_json(fleet));
}

TEST(Predict, RefusesJsonOfAnotherForm) {
    const Appliance appliance;
    const json good = to_json(predict_directory(appliance.files()));
    for (const char* const missing : {"events", "bundle"}) {
        json bad = good;
        bad.erase(missing);
        EXPECT_THROW((void)from_json(bad), host::ToolError) << missing;
    }
    json bad = good;
    bad["events"][0]["digests"]["sha256"] = "00";
    EXPECT_THROW((void)from_json(bad), host::ToolError);
    EXPECT_THROW((void)from_json(json::array()), host::ToolError);
    // Well-formed, and of no launch: nothing could be judged by them.
    bad = good;
    bad["events"] = json::array();
    EXPECT_THROW((void)from_json(bad), host::ToolError);
    bad = good;
    bad["events"].erase(bad["events"].size() - 1);
    EXPECT_THROW((void)from_json(bad), host::ToolError);
    bad = good;
    bad["bundle"]["flags"] = 1;  // not those of the bundle that the events measure
    EXPECT_THROW((void)from_json(bad), host::ToolError);
}

// --- The tool

TEST(Policyctl, PredictsTheSameFromAnImageAndFromItsFiles) {
    Appliance appliance;
    appliance.make_image();
    const Outcome image = run_tool("policyctl", {"predict", appliance.image(), "--json"});
    const Outcome files = run_tool("policyctl", {"predict", "--files", appliance.files(), "--json"});
    ASSERT_EQ(image.status, 0) << image.errors;
    ASSERT_EQ(files.status, 0) << files.errors;
    EXPECT_EQ(json::parse(image.output), json::parse(files.output));
    for (const char* const bank : {"sha1", "sha256", "sha384", "sha512"}) {
        EXPECT_TRUE(json::parse(image.output)["pcrs_capped"][bank].contains("18")) << bank;
    }
}

TEST(Policyctl, PredictsFromAnImageOf4096ByteSectors) {
    Appliance appliance;
    appliance.make_image(4096);
    const Outcome image = run_tool("policyctl", {"predict", appliance.image(), "--json"});
    ASSERT_EQ(image.status, 0) << image.errors;
    EXPECT_EQ(json::parse(image.output), to_json(predict_directory(appliance.files())));
}

TEST(Policyctl, NamesTheFileThatAnImageLacks) {
    Appliance appliance;
    std::filesystem::remove(appliance.files() + "/initrd");
    appliance.make_image();
    const Outcome outcome = run_tool("policyctl", {"predict", appliance.image()});
    EXPECT_EQ(outcome.status, 3);
    EXPECT_NE(outcome.errors.find("/gatehouse/initrd"), std::string::npos) << outcome.errors;
}

TEST(Policyctl, RefusesAnImageWithoutBootPartitionOrTable) {
    const Appliance appliance;
    appliance.write("empty", host::Buffer(1 << 20));
    const Outcome outcome = run_tool("policyctl", {"predict", appliance.files() + "/empty"});
    EXPECT_EQ(outcome.status, 3);
    EXPECT_NE(outcome.errors.find("GPT header"), std::string::npos) << outcome.errors;
}

TEST(Policyctl, MakesABundleThatPinsWhatItWasTold) {
    const Appliance appliance;
    const std::string out = appliance.files() + "/made.bundle";
    const Outcome outcome =
        run_tool("policyctl", {"bundle", "--srk-name", hex(test::srk_name()), "--vault-id", hex(test::vault_id()),
                               "--authority", appliance.authority_public(), "--policy-ref", "another",
                               "--counter-index", "0x1800001", "--allow-no-iommu", "-o", out});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const BundleFacts bundle = read_bundle(appliance.read("made.bundle"));
    EXPECT_TRUE(equal_bytes(bundle.srk_name, test::srk_name()));
    EXPECT_EQ(bundle.counter_index, 0x1800001u);
    EXPECT_TRUE(bundle.has(BundleFlag::kAllowNoIommu));
    EXPECT_FALSE(bundle.has(BundleFlag::kMachineAcpi));
    EXPECT_FALSE(bundle.has(BundleFlag::kChangeInUse));
    EXPECT_TRUE(equal_bytes(bundle.vault_id, test::vault_id()));
    EXPECT_TRUE(equal_bytes(bundle.policy_ref, literal_bytes("another")));
    const auto area = host::authority_public_area(host::read_public_key(appliance.authority_public()).get());
    EXPECT_TRUE(equal_bytes(bundle.authority, area.bytes()));
}

TEST(Policyctl, CompilesTheCommandPolicyIntoTheBundle) {
    const Appliance appliance;
    const std::string out = appliance.files() + "/made.bundle", file = appliance.files() + "/ata.toml";
    const auto make = [&](const std::vector<std::string>& more) {
        std::vector<std::string> arguments{"bundle",
                                           "--srk-name",
                                           hex(test::srk_name()),
                                           "--vault-id",
                                           hex(test::vault_id()),
                                           "--authority",
                                           appliance.authority_public(),
                                           "--policy-ref",
                                           "r",
                                           "-o",
                                           out};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run_tool("policyctl", arguments);
    };
    std::ifstream shipped(GATEHOUSE_SOURCE "/policies/ata.toml");
    std::string text{std::istreambuf_iterator<char>(shipped), {}};
    const auto replace = [&](const std::string& from, const std::string& to) {
        text.replace(text.find(from), from.size(), to);
    };

    ASSERT_EQ(make({"--change-in-use"}).status, 0);
    EXPECT_TRUE(read_bundle(appliance.read("made.bundle")).has(BundleFlag::kChangeInUse));
    EXPECT_FALSE(read_bundle(appliance.read("made.bundle")).has(BundleFlag::kTrim));
    EXPECT_FALSE(read_bundle(appliance.read("made.bundle")).has(BundleFlag::kShowDisks));
    replace("name = \"TRIM\"\nallow = false", "name = \"TRIM\"\nallow = true");
    replace("\"absent\"\n", "\"read-only\"\n");
    appliance.write("ata.toml", host::text_bytes(text));
    const Outcome made = make({"--ata", file, "--json"});
    ASSERT_EQ(made.status, 0) << made.errors;
    EXPECT_TRUE(read_bundle(appliance.read("made.bundle")).has(BundleFlag::kTrim));
    EXPECT_TRUE(read_bundle(appliance.read("made.bundle")).has(BundleFlag::kShowDisks));
    EXPECT_EQ(json::parse(made.output)["trim"], true);
    EXPECT_EQ(json::parse(made.output)["other_disks"], "read-only");
    std::filesystem::remove(out);
    replace("name = \"Firmware\"\nallow = false", "name = \"Firmware\"\nallow = true");
    appliance.write("ata.toml", host::text_bytes(text));
    const Outcome refused = make({"--ata", file});
    EXPECT_EQ(refused.status, 2);
    EXPECT_NE(refused.errors.find("92 (DOWNLOAD MICROCODE) is allowed there: no policy can allow it"),
              std::string::npos)
        << refused.errors;
    EXPECT_FALSE(std::filesystem::exists(out)) << "nothing may be left behind";
    EXPECT_EQ(run_tool("policyctl", {"ata", file}).status, 2);
    const Outcome table = run_tool("policyctl", {"ata"});
    EXPECT_EQ(table.status, 0);
    EXPECT_NE(table.output.find("| Firmware | `92` DOWNLOAD MICROCODE"), std::string::npos) << table.output;
    EXPECT_EQ(json::parse(run_tool("policyctl", {"ata", "--json"}).output)["other_disks"], "absent");
}

TEST(Policyctl, RefusesBundleFieldsOutOfTheirDomain) {
    const Appliance appliance;
    const std::string out = appliance.files() + "/made.bundle";
    const auto status = [&](const std::string& name, const std::string& reference) {
        return run_tool("policyctl", {"bundle", "--srk-name", name, "--vault-id", hex(test::vault_id()), "--authority",
                                      appliance.authority_public(), "--policy-ref", reference, "-o", out})
            .status;
    };
    EXPECT_EQ(status("xyz", "r"), 2);
    EXPECT_EQ(status("000b00", "r"), 3);
    EXPECT_EQ(status(hex(test::srk_name()), std::string(33, 'r')), 3);
    EXPECT_FALSE(std::filesystem::exists(out)) << "nothing may be left behind";
}

// The signature is checked with OpenSSL, over what Part 3, 23.16 says is signed.
void expect_signed_by(const Appliance& appliance, const Approval& approval, Bytes policy_ref) {
    Reader signature(approval.signature, Endian::kBig);
    const std::uint16_t scheme = signature.u16();
    EXPECT_EQ(signature.u16(), 0x000b);
    host::Buffer encoded;
    if (scheme == 0x0018) {
        const Bytes r = signature.sized();
        const Bytes s = signature.sized();
        encoded = test::der_signature(r, s);
    } else {
        ASSERT_EQ(scheme, 0x0014);
        const Bytes whole = signature.sized();
        encoded.assign(whole.begin(), whole.end());
    }
    EXPECT_TRUE(signature.finished("signature").ok());
    host::Buffer message(approval.policy_digest.begin(), approval.policy_digest.end());
    message.insert(message.end(), policy_ref.begin(), policy_ref.end());
    EXPECT_TRUE(test::openssl_verifies(appliance.authority_public(), message, encoded));
    message.front() ^= std::byte{1};
    EXPECT_FALSE(test::openssl_verifies(appliance.authority_public(), message, encoded));
}

class PolicyctlSign : public testing::TestWithParam<const char*> {};

TEST_P(PolicyctlSign, ApprovesAnImageAndInstallsTheApproval) {
    Appliance appliance(GetParam());
    appliance.make_image();
    const std::string out = appliance.files() + "/out.approval";
    const Outcome outcome = run_tool("policyctl", {"sign", "--key", appliance.authority_private(), "--image",
                                                   appliance.image(), "--counter-limit", "5", "--install", "-o", out});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const host::Buffer file = appliance.read("out.approval");
    EXPECT_EQ(hex(appliance.boot_file("policy.approval")), hex(file));
    const auto approval = parse_approval(file);
    ASSERT_TRUE(approval.ok());
    const Prediction prediction = predict_directory(appliance.files());
    EXPECT_EQ(hex(approval->pcr17), hex(prediction.sealing_value(HashAlgorithm::kSha256, 17).bytes()));
    EXPECT_EQ(hex(approval->pcr18), hex(prediction.sealing_value(HashAlgorithm::kSha256, 18).bytes()));
    EXPECT_EQ(approval->policy_digest,
              tpm::sealing_policy_digest(approval->pcr17, approval->pcr18,
                                         tpm::rollback_counter_name(tpm::kRollbackCounter), 5));
    expect_signed_by(appliance, *approval, literal_bytes(test::kPolicyRef));

    const Outcome again = run_tool("policyctl", {"predict", appliance.image(), "--json"});
    EXPECT_EQ(json::parse(again.output), to_json(prediction)) << "the approval is not measured";
}

TEST_P(PolicyctlSign, PutsOntoAnImageWhatWasSignedElsewhere) {
    Appliance appliance(GetParam());
    appliance.make_image();
    const std::string file = appliance.path("approval");
    ASSERT_EQ(run_tool("policyctl", {"sign", "--key", appliance.authority_private(), "--files", appliance.files(),
                                     "--counter-limit", "5", "-o", file})
                  .status,
              0);
    const auto install = [&](const std::string& what) {
        return run_tool("policyctl", {"install", what, "--image", appliance.image()});
    };
    const host::Buffer approval = host::read_file(file, 4096);
    ASSERT_EQ(install(file).status, 0);
    EXPECT_EQ(hex(appliance.boot_file("policy.approval")), hex(approval));

    host::Buffer forged = approval;
    forged.back() ^= std::byte{1};
    host::replace_file(appliance.path("forged"), forged);
    const Outcome refused = install(appliance.path("forged"));
    EXPECT_EQ(refused.status, 1);
    EXPECT_NE(refused.errors.find("not signed by the authority"), std::string::npos) << refused.errors;
    appliance.put_boot_file("kernel", literal_bytes("another kernel"));
    EXPECT_EQ(install(file).status, 1);
    EXPECT_EQ(install(appliance.authority_public()).status, 1) << "neither approval nor record";
    EXPECT_EQ(install(appliance.path("nothing")).status, 3);
    EXPECT_EQ(hex(appliance.boot_file("policy.approval")), hex(approval)) << "what was there stays";
}

INSTANTIATE_TEST_SUITE_P(Keys, PolicyctlSign, testing::Values("EC", "RSA"),
                         [](const auto& row) { return std::string(row.param); });

TEST(Policyctl, SignsValuesAsItSignsTheImageThatHasThem) {
    Appliance appliance;
    const json prediction = to_json(predict_directory(appliance.files()));
    const std::string out = appliance.files() + "/out.approval";
    const Outcome outcome =
        run_tool("policyctl", {"sign", "--key", appliance.authority_private(), "--pcr17",
                               prediction["pcrs"]["sha256"]["17"], "--pcr18", prediction["pcrs"]["sha256"]["18"],
                               "--policy-ref", test::kPolicyRef, "--counter-limit", "5", "-o", out, "--json"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const Outcome files =
        run_tool("policyctl", {"sign", "--key", appliance.authority_private(), "--files", appliance.files(),
                               "--counter-limit", "5", "-o", appliance.files() + "/other.approval", "--json"});
    ASSERT_EQ(files.status, 0) << files.errors;
    EXPECT_EQ(json::parse(outcome.output)["policy_digest"], json::parse(files.output)["policy_digest"]);
}

TEST(Policyctl, DoesNotSignForAnotherAuthoritysBundle) {
    const Appliance appliance;
    const Appliance other;
    const Outcome outcome =
        run_tool("policyctl", {"sign", "--key", other.authority_private(), "--files", appliance.files(),
                               "--counter-limit", "5", "-o", appliance.files() + "/out.approval"});
    EXPECT_EQ(outcome.status, 3);
    EXPECT_NE(outcome.errors.find("another authority"), std::string::npos) << outcome.errors;
    EXPECT_FALSE(std::filesystem::exists(appliance.files() + "/out.approval"));
}

TEST(Policyctl, DoesNotSignWithAPublicKeyOrAnUnsuitableOne) {
    const Appliance appliance;
    const auto status = [&](const std::string& key) {
        return run_tool("policyctl", {"sign", "--key", key, "--files", appliance.files(), "--counter-limit", "5", "-o",
                                      appliance.files() + "/out.approval"})
            .status;
    };
    EXPECT_EQ(status(appliance.authority_public()), 3);
    const std::string p384 = appliance.files() + "/p384.pem";
    test::make_key("P-384", p384);
    EXPECT_EQ(status(p384), 3);
}

TEST(Policyctl, AnswersWrongUsageWith2) {
    const Appliance appliance;
    EXPECT_EQ(run_tool("policyctl", {}).status, 2);
    EXPECT_EQ(run_tool("policyctl", {"predict"}).status, 2);
    EXPECT_EQ(run_tool("policyctl", {"predict", appliance.image(), "--files", appliance.files()}).status, 2);
    EXPECT_EQ(run_tool("policyctl", {"sign", "--key", appliance.authority_private(), "--counter-limit", "1"}).status,
              2);
    EXPECT_EQ(run_tool("policyctl", {"sign", "--key", appliance.authority_private(), "--counter-limit", "1", "--files",
                                     appliance.files()})
                  .status,
              2)
        << "no output asked for";
    EXPECT_EQ(run_tool("policyctl", {"--help"}).status, 0);
}

TEST(Policyctl, ShowsABundleAnApprovalAndNothingElse) {
    const Appliance appliance;
    const Outcome bundle = run_tool("policyctl", {"show", appliance.files() + "/policy.bundle", "--json"});
    ASSERT_EQ(bundle.status, 0) << bundle.errors;
    EXPECT_EQ(json::parse(bundle.output)["policy_ref"], test::kPolicyRef);
    EXPECT_EQ(json::parse(bundle.output)["srk_name"], hex(test::srk_name()));
    EXPECT_EQ(run_tool("policyctl", {"show", appliance.files() + "/kernel"}).status, 3);
    EXPECT_EQ(run_tool("policyctl", {"show", appliance.files() + "/none"}).status, 3);
}

// --- Fleets

TEST(Policyctl, MakesAFleetsBundleAndRecordsThatItAccepts) {
    Appliance appliance;
    appliance.make_image();
    const Outcome bundle =
        run_tool("policyctl",
                 {"bundle", "--enrollment", appliance.enrollment_public(), "--authority", appliance.authority_public(),
                  "--policy-ref", test::kPolicyRef, "--acpi", "machine", "--install", "--image", appliance.image()});
    ASSERT_EQ(bundle.status, 0) << bundle.errors;
    const BundleFacts facts = read_bundle(appliance.boot_file("policy.bundle"));
    EXPECT_TRUE(facts.is_fleet());
    EXPECT_TRUE(facts.has(BundleFlag::kMachineAcpi));
    const std::string file = appliance.files() + "/endpoint.record";
    const auto record = [&](const std::string& key, const std::string& vault, const std::string& label,
                            std::vector<std::string> more = {}) {
        std::vector<std::string> arguments{
            "record", "--key", key,  "--srk-name", hex(test::srk_name()), "--vault-id", vault, "--label",
            label,    "-o",    file, "--image",    appliance.image()};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run_tool("policyctl", arguments).status;
    };
    const std::string vault = hex(test::vault_id());
    EXPECT_EQ(record(appliance.enrollment_private(), vault, "unit"), 0);
    EXPECT_TRUE(parse_record(appliance.read("endpoint.record"), facts.enrollment).ok());
    EXPECT_EQ(record(appliance.enrollment_private(), vault, "unit", {"--install"}), 3) << "there is no vault yet";
    EXPECT_EQ(record(appliance.authority_private(), vault, "unit"), 3) << "not the bundle's enrollment key";
    EXPECT_EQ(record(appliance.enrollment_private(), "00", "unit"), 2);
    EXPECT_EQ(record(appliance.enrollment_private(), vault, std::string(65, 'x')), 3);

    EXPECT_EQ(run_tool("policyctl", {"show", file}).status, 2) << "nothing is said of it without the key";
    EXPECT_EQ(run_tool("policyctl", {"show", file, "--enrollment", appliance.enrollment_public()}).status, 0);
    EXPECT_EQ(run_tool("policyctl", {"show", file, "--enrollment", appliance.authority_public()}).status, 3);
}

TEST(Policyctl, WantsOneEndpointOrAFleetForABundle) {
    const Appliance appliance;
    const auto status = [&](std::vector<std::string> more) {
        std::vector<std::string> arguments{
            "bundle",         "--authority", appliance.authority_public(),      "--policy-ref",
            test::kPolicyRef, "-o",          appliance.files() + "/made.bundle"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run_tool("policyctl", arguments).status;
    };
    EXPECT_EQ(status({}), 2);
    EXPECT_EQ(status({"--srk-name", hex(test::srk_name())}), 2);
    EXPECT_EQ(status({"--srk-name", hex(test::srk_name()), "--vault-id", hex(test::vault_id()), "--enrollment",
                      appliance.enrollment_public()}),
              2);
    EXPECT_EQ(status({"--enrollment", appliance.enrollment_public(), "--acpi", "other"}), 2);
}

// --- Machine models

const std::vector<test::Table> kTables{{"ACPI DSDT BOARD", "a DSDT"}, {"ACPI APIC BOARD", "an APIC"}};

MachineModel model_of(const std::vector<test::Table>& tables,
                      const evidence::MachineFacts& facts = test::sample_machine(), bool with_claims = true) {
    const host::Buffer log = test::launch_log(predict_directory(Appliance().files()), test::vault_id(), tables, facts);
    host::Buffer claims(evidence::kMaxClaimsSize);
    claims.resize(*evidence::encode_claims({.machine = facts}, claims));
    return learn_model(log, with_claims ? Bytes(claims) : Bytes{});
}

TEST(MachineModel, HoldsThePcrOfItsEventsAndSaysWhatTheyAre) {
    const MachineModel model = model_of(kTables);
    Sha256Digest pcr = extend({}, test::encoded(test::sample_machine()));
    for (const test::Table& table : kTables) pcr = extend(pcr, host::text_bytes(table.content));
    EXPECT_EQ(hex(model.pcr19(HashAlgorithm::kSha256).bytes()), hex(pcr));
    const json about = describe(model);
    EXPECT_EQ(about["pcr19"]["sha256"], hex(pcr));
    EXPECT_EQ(about["machine"]["processor_signature"], "0x00a20f10");
    EXPECT_EQ(about["machine"]["smm_locked"], true);
    EXPECT_EQ(about["machine"]["iommus"][0]["function"], "00:00.2");
    EXPECT_EQ(about["tables"][1]["signature"], "APIC");
    EXPECT_EQ(about["tables"][1]["oem_table_id"], "BOARD");
}

TEST(MachineModel, ComesBackFromItsFileAndNotIfItWasChanged) {
    const MachineModel model = model_of(kTables);
    const std::string file = model_file(model);
    EXPECT_EQ(model_file(read_model(host::text_bytes(file))), file);
    json changed = json::parse(file);
    changed["facts"] = hex(test::encoded({.processors = 3}));
    EXPECT_THROW((void)read_model(host::text_bytes(changed.dump())), host::ToolError);
    changed = json::parse(file);
    changed["events"].erase(std::size_t{0});
    EXPECT_THROW((void)read_model(host::text_bytes(changed.dump())), host::ToolError);
    EXPECT_THROW((void)read_model(literal_bytes("{}")), host::ToolError);
}

TEST(MachineModel, RefusesClaimsOfAnotherMachine) {
    const host::Buffer log = test::launch_log(predict_directory(Appliance().files()), test::vault_id(), kTables);
    host::Buffer claims(evidence::kMaxClaimsSize);
    claims.resize(*evidence::encode_claims({.machine = {.processors = 64}}, claims));
    EXPECT_THROW((void)learn_model(log, claims), host::ToolError);
}

TEST(MachineModel, NamesWhatDiffers) {
    const MachineModel model = model_of(kTables);
    EXPECT_TRUE(differences(model, model_of(kTables, test::sample_machine(), false)).empty());
    const auto only = [&](const MachineModel& other) {
        const auto found = differences(model, other);
        EXPECT_EQ(found.size(), 1u);
        return found.empty() ? std::string() : found.front();
    };
    EXPECT_NE(only(model_of({kTables[0], {"ACPI APIC BOARD", "changed"}})).find("ACPI APIC BOARD"), std::string::npos);
    EXPECT_NE(only(model_of({kTables[0]})).find("only here"), std::string::npos);
    EXPECT_NE(only(model_of({kTables[1], kTables[0]})).find("another order"), std::string::npos);
    evidence::MachineFacts facts = test::sample_machine();
    facts.microcode += 1;
    EXPECT_NE(only(model_of(kTables, facts)).find("microcode"), std::string::npos);
}

TEST(Policyctl, ApprovesAMachineAfterItsRelease) {
    const Appliance appliance;
    const std::string model = appliance.path("model.json");
    host::replace_file(model, host::text_bytes(model_file(model_of(kTables))));
    const std::string out = appliance.files() + "/machine.approval";
    const Outcome outcome = run_tool("policyctl", {"machine", "approve", "--key", appliance.authority_private(),
                                                   "--policy-ref", test::kPolicyRef, "--model", model, "-o", out});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const host::Buffer file = appliance.read("machine.approval");
    const auto approval = parse_machine_approval(file);
    ASSERT_TRUE(approval.ok());
    EXPECT_EQ(hex(approval->pcr19), hex(model_of(kTables).pcr19(HashAlgorithm::kSha256).bytes()));
    const auto area = host::authority_public_area(host::read_public_key(appliance.authority_public()).get());
    EXPECT_EQ(approval->policy_digest,
              tpm::machine_policy_digest(tpm::name_of(area.bytes()), literal_bytes(test::kPolicyRef), approval->pcr19));
    appliance.make_image();
    const std::vector<std::string> install{"install", out, "--image", appliance.image()};
    EXPECT_EQ(run_tool("policyctl", install).status, 0);
    EXPECT_EQ(hex(appliance.boot_file("machine.approval")), hex(file));
    host::Buffer forged = file;
    forged.back() ^= std::byte{1};
    host::replace_file(out, forged);
    EXPECT_EQ(run_tool("policyctl", install).status, 1) << "not the authority's";
    EXPECT_EQ(hex(appliance.boot_file("machine.approval")), hex(file));
    Approval as_release{};
    as_release.policy_digest = approval->policy_digest;
    as_release.signature = approval->signature;
    expect_signed_by(appliance, as_release, host::text_bytes(std::string(test::kPolicyRef) + "/machine"));

    EXPECT_EQ(run_tool("policyctl", {"machine", "show", model, model}).status, 0);
    const std::string other = appliance.path("other.json");
    host::replace_file(other, host::text_bytes(model_file(model_of({kTables[0]}))));
    EXPECT_EQ(run_tool("policyctl", {"machine", "show", model, other}).status, 1);
    EXPECT_EQ(run_tool("policyctl", {"machine", "approve", "--key", appliance.authority_private(), "--policy-ref",
                                     test::kPolicyRef, "-o", out})
                  .status,
              2);
}

TEST(Policyctl, WritesToNoImageThatAnotherProgramHasClaimed) {
    Appliance appliance;
    appliance.make_image();
    const host::Disk claimed(appliance.image(), host::Disk::Access::kWrite);
    const Outcome outcome = run_tool("policyctl", {"sign", "--key", appliance.authority_private(), "--image",
                                                   appliance.image(), "--counter-limit", "1", "--install"});
    EXPECT_EQ(outcome.status, 3);
    EXPECT_NE(outcome.errors.find("another program"), std::string::npos) << outcome.errors;
}

TEST(Show, TellsWhereAMalformedEventLogFails) {
    host::Buffer log = test::launch_log(predict_directory(Appliance().files()), test::vault_id());
    EXPECT_EQ(describe_file(log)["events"].size(), 11u);
    log.pop_back();
    try {
        (void)describe_file(log);
        FAIL() << "a truncated log was described";
    } catch (const host::ToolError& error) {
        EXPECT_NE(std::string(error.what()).find("truncated: event log: event (0x"), std::string::npos) << error.what();
    }
}

}  // namespace
}  // namespace gatehouse::policies
