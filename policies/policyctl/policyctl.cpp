// policyctl: expected PCR values, policy bundles and their approval, attestation policies.
#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "keyvault/tool/authority.hpp"
#include "keyvault/tool/disk.hpp"
#include "keyvault/tpm/policy.hpp"
#include "keyvault/tpm/sealing.hpp"
#include "keyvault/tpm/templates.hpp"
#include "policies/policyctl/attestation_policy.hpp"
#include "policies/policyctl/predict.hpp"
#include "policies/policyctl/show.hpp"

namespace gatehouse::policies {
namespace {

using host::ExitCode;
using host::ToolError;
using nlohmann::json;

void print(const json& value, bool as_json) {
    if (as_json) {
        std::cout << value.dump(2) << '\n';
    } else {
        std::cout << as_text(value);
    }
}

Sha256Digest digest_argument(const std::string& text, const char* option) {
    const Buffer bytes = host::from_hex(text, option);
    Sha256Digest digest{};
    if (bytes.size() != digest.size()) {
        throw ToolError(std::string(option) + ": 64 hex digits are wanted", ExitCode::kUsage);
    }
    copy_bytes(digest, bytes);
    return digest;
}

Sha256Digest as_sha256(const Digest& digest) {
    Sha256Digest value{};
    copy_bytes(value, digest.bytes());
    return value;
}

struct Source {
    std::string image;
    std::string directory;

    void add_to(CLI::App& command) {
        CLI::Option* const image_option = command.add_option("IMAGE", image, "disk image or device of an appliance");
        command
            .add_option("--files", directory,
                        "a directory with slb.bin, hypervisor.bin, policy.bundle, kernel, "
                        "initrd and cmdline, instead of an image")
            ->excludes(image_option);
    }
    [[nodiscard]] Prediction predict() const {
        if (!directory.empty()) return predict_directory(directory);
        if (!image.empty()) return predict_image(image);
        throw ToolError("give an IMAGE or --files", ExitCode::kUsage);
    }
};

// --- predict

struct Predict {
    Source source;
    bool as_json = false;

    ExitCode run() const {
        const Prediction prediction = source.predict();
        if (as_json) {
            print(to_json(prediction), true);
            return ExitCode::kYes;
        }
        for (const ExpectedEvent& event : prediction.events) {
            std::cout << "PCR " << event.pcr << "  " << host::hex(event.digest(HashAlgorithm::kSha256)) << "  "
                      << event.name << '\n';
        }
        for (const HashAlgorithm bank : kPredictedBanks) {
            for (const std::uint32_t pcr : {evidence::kLaunchPcr, evidence::kPayloadPcr}) {
                const std::string label = bank_name(bank) + ":" + std::to_string(pcr);
                std::cout << label << "  to unseal  " << host::hex(prediction.sealing_value(bank, pcr).bytes()) << '\n'
                          << label << "  capped     " << host::hex(prediction.capped_value(bank, pcr).bytes()) << '\n';
            }
        }
        return ExitCode::kYes;
    }
};

// --- bundle

struct MakeBundle {
    std::string srk_name;
    std::string authority;
    std::uint32_t counter_index = tpm::kRollbackCounter;
    std::string policy_ref;
    bool allow_no_iommu = false;
    std::string out;
    bool as_json = false;

    ExitCode run() const {
        const Buffer name = host::from_hex(srk_name, "--srk-name");
        const tpm::PublicArea area = host::authority_public_area(host::read_public_key(authority).get());
        const auto flags = allow_no_iommu ? static_cast<std::uint32_t>(BundleFlag::kAllowNoIommu) : 0;
        Buffer bundle(kMaxBundleSize);
        bundle.resize(host::expect(write_bundle({.flags = flags,
                                                 .counter_index = counter_index,
                                                 .srk_name = name,
                                                 .authority = area.bytes(),
                                                 .policy_ref = host::text_bytes(policy_ref)},
                                                bundle),
                                   "bundle"));
        host::replace_file(out, bundle);
        print(describe_file(bundle), as_json);
        return ExitCode::kYes;
    }
};

// --- sign

struct Sign {
    std::string key;
    std::uint64_t counter_limit = 0;
    std::string image;
    std::string directory;
    std::string pcr17;
    std::string pcr18;
    std::uint32_t counter_index = tpm::kRollbackCounter;
    std::string policy_ref;
    std::string out;
    bool install = false;
    bool as_json = false;

    struct Subject {
        Sha256Digest pcr17{};
        Sha256Digest pcr18{};
        std::uint32_t counter_index = 0;
        Buffer policy_ref;
    };

    // Values from the image's files; its bundle must name the key that is to sign.
    [[nodiscard]] Subject subject_of_files(const tpm::PublicArea& authority) const {
        const Prediction prediction = directory.empty() ? predict_image(image) : predict_directory(directory);
        if (!equal_bytes(prediction.bundle.authority, authority.bytes())) {
            throw ToolError("the image's policy bundle names another authority than " + key +
                            ": this approval would not be accepted");
        }
        return {as_sha256(prediction.sealing_value(HashAlgorithm::kSha256, evidence::kLaunchPcr)),
                as_sha256(prediction.sealing_value(HashAlgorithm::kSha256, evidence::kPayloadPcr)),
                prediction.bundle.counter_index, prediction.bundle.policy_ref};
    }
    [[nodiscard]] Subject subject_of_values() const {
        if (pcr17.empty() || pcr18.empty()) {
            throw ToolError("give --image or --files, or --pcr17, --pcr18 and --policy-ref", ExitCode::kUsage);
        }
        const Bytes reference = host::text_bytes(policy_ref);
        return {digest_argument(pcr17, "--pcr17"), digest_argument(pcr18, "--pcr18"), counter_index,
                Buffer(reference.begin(), reference.end())};
    }

    ExitCode run() const {
        if (install && image.empty()) throw ToolError("--install needs --image", ExitCode::kUsage);
        if (out.empty() && !install) throw ToolError("give -o or --install", ExitCode::kUsage);
        const host::Key authority = host::read_private_key(key);
        const tpm::PublicArea area = host::authority_public_area(authority.get());
        const Subject subject = image.empty() && directory.empty() ? subject_of_values() : subject_of_files(area);

        const Sha256Digest policy = tpm::sealing_policy_digest(
            subject.pcr17, subject.pcr18, tpm::rollback_counter_name(subject.counter_index), counter_limit);
        const tpm::SignatureBlob signature =
            host::sign_digest(authority.get(), tpm::approval_digest(policy, subject.policy_ref));
        Buffer approval(kMaxApprovalSize);
        approval.resize(host::expect(write_approval({.counter_limit = counter_limit,
                                                     .pcr17 = subject.pcr17,
                                                     .pcr18 = subject.pcr18,
                                                     .policy_digest = policy,
                                                     .signature = signature.bytes()},
                                                    approval),
                                     "approval"));
        if (!out.empty()) host::replace_file(out, approval);
        if (install) host::write_boot_file(image, kApprovalFile, approval);
        print(describe_file(approval), as_json);
        return ExitCode::kYes;
    }
};

// --- show

struct Show {
    std::string file;
    bool as_json = false;

    ExitCode run() const {
        const Buffer content = host::read_file(file, 1 << 20);
        try {
            print(describe_file(content), as_json);
        } catch (const ToolError& error) {
            throw ToolError(file + ": " + error.what());
        }
        return ExitCode::kYes;
    }
};

int run(int argc, char** argv) {
    CLI::App app(
        "Expected PCR values, policy bundles and their approval, attestation policies. Exit status: 0 done, "
        "2 usage, 3 failure.",
        "policyctl");
    app.require_subcommand(1);

    Predict predict;
    CLI::App* const predict_command = app.add_subcommand("predict", "PCR 17 and 18 of an image, from its files alone");
    predict.source.add_to(*predict_command);
    predict_command->add_flag("--json", predict.as_json, "print JSON");

    MakeBundle bundle;
    CLI::App* const bundle_command = app.add_subcommand("bundle", "make a policy bundle");
    bundle_command->add_option("--srk-name", bundle.srk_name, "TPM name of the endpoint's SRK (sealed-key srk-name)")
        ->required();
    bundle_command->add_option("--authority", bundle.authority, "the policy authority's public key, PEM")->required();
    bundle_command->add_option("--counter-index", bundle.counter_index, "NV index of the rollback counter")
        ->capture_default_str();
    bundle_command->add_option("--policy-ref", bundle.policy_ref, "policy reference, up to 32 bytes")->required();
    bundle_command->add_flag("--allow-no-iommu", bundle.allow_no_iommu,
                             "go on without an IOMMU: any device can then read the disk key");
    bundle_command->add_option("-o,--output", bundle.out, "the bundle")->required();
    bundle_command->add_flag("--json", bundle.as_json, "print JSON");

    Sign sign;
    CLI::App* const sign_command = app.add_subcommand("sign", "approve an image as the policy authority");
    sign_command->add_option("--key", sign.key, "the authority's private key, PEM")->required();
    sign_command->add_option("--counter-limit", sign.counter_limit, "void once the rollback counter is greater")
        ->required();
    CLI::Option* const image = sign_command->add_option("--image", sign.image, "the image to approve");
    CLI::Option* const files =
        sign_command->add_option("--files", sign.directory, "a directory with its files")->excludes(image);
    CLI::Option* const pcr17 = sign_command->add_option("--pcr17", sign.pcr17, "SHA-256 value of PCR 17, hex");
    pcr17->excludes(image)->excludes(files);
    sign_command->add_option("--pcr18", sign.pcr18, "SHA-256 value of PCR 18, hex")->needs(pcr17);
    sign_command->add_option("--policy-ref", sign.policy_ref, "with --pcr17: the policy reference")->needs(pcr17);
    sign_command->add_option("--counter-index", sign.counter_index, "with --pcr17: the counter's NV index")
        ->needs(pcr17)
        ->capture_default_str();
    sign_command->add_option("-o,--output", sign.out, "the approval");
    sign_command->add_flag("--install", sign.install, "put it on the image's boot partition");
    sign_command->add_flag("--json", sign.as_json, "print JSON");

    Show show;
    CLI::App* const show_command = app.add_subcommand("show", "print a policy bundle, an approval or an event log");
    show_command->add_option("FILE", show.file)->required();
    show_command->add_flag("--json", show.as_json, "print JSON");

    MakeAttestationPolicy attestation;
    CLI::App* const attestation_command =
        app.add_subcommand("attestation-policy", "say what endpoints must show to be trusted");
    attestation.add_to(*attestation_command);

    SignAttestationPolicy sign_attestation;
    CLI::App* const sign_attestation_command =
        app.add_subcommand("sign-attestation-policy", "sign an attestation policy as its authority");
    sign_attestation.add_to(*sign_attestation_command);

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
    }
    return host::run_tool("policyctl", [&] {
        if (predict_command->parsed()) return predict.run();
        if (bundle_command->parsed()) return bundle.run();
        if (sign_command->parsed()) return sign.run();
        if (attestation_command->parsed()) return attestation.run();
        if (sign_attestation_command->parsed()) return sign_attestation.run();
        return show.run();
    });
}

}  // namespace
}  // namespace gatehouse::policies

int main(int argc, char** argv) { return gatehouse::policies::run(argc, argv); }
