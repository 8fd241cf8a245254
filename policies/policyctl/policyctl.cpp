// policyctl: expected PCR values, policy bundles, endpoint records and approvals, machine models, attestation policies.
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "attestation/formats/corim.hpp"
#include "keyvault/host_support/authority.hpp"
#include "keyvault/host_support/commands.hpp"
#include "policies/policyctl/attestation_policy.hpp"
#include "policies/policyctl/bundle_commands.hpp"
#include "policies/policyctl/machine_commands.hpp"
#include "policies/prediction/predict.hpp"
#include "policies/prediction/show.hpp"

namespace gatehouse::policies {
namespace {

using host::ExitCode;
using host::ToolError;
using nlohmann::json;

// --- predict

struct Predict {
    std::string image;
    std::string directory;
    std::string vault_id;
    std::string corim;
    std::string corim_key;
    std::string corim_signer = "gatehouse";
    std::string machine_model;
    bool as_json = false;

    void add_to(CLI::App& command) {
        CLI::Option* const from = command.add_option("IMAGE", image, "disk image or device of an appliance");
        command
            .add_option("--files", directory,
                        "a directory with slb.bin, hypervisor.bin, policy.bundle, kernel, "
                        "initrd and cmdline, instead of an image")
            ->excludes(from);
        command.add_option("--vault-id", vault_id,
                           "also the values after the cap, which hold the vault's identity; known anyway if the bundle "
                           "pins it");
        CLI::Option* const out = command.add_option(
            "--corim", corim, "also write them as a signed CoRIM, for others' verifiers: events, PCRs 17 to 19");
        CLI::Option* const key =
            command.add_option("--corim-key", corim_key, "what signs it: a private key, P-256, PEM");
        command.add_option("--corim-signer", corim_signer, "who signs it, by name")->capture_default_str();
        command
            .add_option("--machine-model", machine_model,
                        "with --corim: the machine, as policyctl machine learn wrote it, for PCR 19")
            ->needs(out);
        out->needs(key);
        command.add_flag("--json", as_json, "print JSON");
    }

    void write_corim(const Prediction& prediction, const Buffer& vault) const {
        if (corim.empty()) return;
        std::optional<MachineModel> model;
        if (!machine_model.empty()) model = read_model(host::read_file(machine_model, 1 << 20));
        const host::Key key = host::read_private_key(corim_key);
        host::replace_file(corim, formats::corim_file({.prediction = &prediction,
                                                       .vault_id = vault,
                                                       .machine = model ? &*model : nullptr,
                                                       .signer = corim_signer},
                                                      key.get()));
    }

    [[nodiscard]] Prediction predict() const {
        if (!directory.empty()) return predict_directory(directory);
        if (!image.empty()) return predict_image(image);
        throw ToolError("give an IMAGE or --files", ExitCode::kUsage);
    }

    ExitCode run() const {
        const Buffer vault = host::from_hex(vault_id, "--vault-id");
        const Prediction prediction = predict();
        const json result = to_json(prediction, vault);
        write_corim(prediction, vault);
        if (as_json) {
            std::cout << result.dump(2) << '\n';
            return ExitCode::kYes;
        }
        for (const ExpectedEvent& event : prediction.events) {
            std::cout << "PCR " << event.pcr << "  " << host::hex(event.digest(HashAlgorithm::kSha256)) << "  "
                      << event.name << '\n';
        }
        for (const auto& bank : result["pcrs"].items()) {
            for (const auto& pcr : bank.value().items()) {
                const std::string label = bank.key() + ":" + pcr.key();
                std::cout << label << "  to unseal  " << pcr.value().get<std::string>() << '\n';
                if (!result.contains("pcrs_capped")) continue;
                std::cout << label << "  capped     " << result["pcrs_capped"][bank.key()][pcr.key()].get<std::string>()
                          << '\n';
            }
        }
        return ExitCode::kYes;
    }
};

// --- show

struct Show {
    std::string file;
    std::string enrollment;
    bool as_json = false;

    void add_to(CLI::App& command) {
        command.add_option("FILE", file)->required();
        command.add_option("--enrollment", enrollment, "of an endpoint record: the key that must have signed it, PEM");
        command.add_flag("--json", as_json, "print JSON");
    }

    ExitCode run() const {
        const Buffer content = host::read_file(file, 1 << 20);
        Buffer point;
        if (!enrollment.empty()) point = host::p256_point(host::read_public_key(enrollment).get(), enrollment);
        try {
            const json description = describe_file(content, point);
            std::cout << (as_json ? description.dump(2) + "\n" : as_text(description));
        } catch (const ToolError& error) {
            throw ToolError(file + ": " + error.what(), error.code());
        }
        return ExitCode::kYes;
    }
};

ExitCode run(int argc, char** argv) {
    host::Commands commands(
        "Expected PCR values, policy bundles, endpoint records and approvals, machine models, attestation policies. Exit "
        "status: 0 done, 1 no (machine show; install: it would not be accepted), 2 usage, 3 failure.",
        "policyctl");

    Predict predict;
    MakeBundle bundle;
    ShowAta ata;
    MakeRecord record;
    Sign sign;
    Install install;
    MachineCommands machine;
    Show show;
    MakeAttestationPolicy attestation;
    SignAttestationPolicy sign_attestation;
    commands.add("predict", "PCR 17 and 18 of an image, from its files alone", predict);
    commands.add("bundle", "make a policy bundle", bundle);
    commands.add("ata", "what happens to each ATA command of a guest, and why, as a table in Markdown", ata);
    commands.add("record", "say as the fleet's enrollment authority which vault an endpoint has", record);
    commands.add("sign", "approve an image as the policy authority", sign);
    commands.add("install", "put onto an image what was signed elsewhere: an approval, an endpoint record", install);
    commands.add("machine", "learn, show and approve machine models, for bundles with --acpi machine", machine);
    commands.add("show", "print a policy bundle, an approval, an endpoint record, an event log or a machine model",
                 show);
    commands.add("attestation-policy", "say what endpoints must show to be trusted", attestation);
    commands.add("sign-attestation-policy", "sign an attestation policy as its authority", sign_attestation);

    return commands.run(argc, argv);
}

}  // namespace
}  // namespace gatehouse::policies

int main(int argc, char** argv) {
    return gatehouse::host::run_tool("policyctl", [&] { return gatehouse::policies::run(argc, argv); });
}
