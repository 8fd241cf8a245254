#include "policies/policyctl/machine_commands.hpp"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "keyvault/host_support/authority.hpp"
#include "keyvault/tpm_templates/policy.hpp"
#include "policies/bundle_writer/bundle_writer.hpp"
#include "policies/prediction/machine_model.hpp"
#include "policies/prediction/show.hpp"

namespace gatehouse::policies {
namespace {

using host::ExitCode;
using host::ToolError;
using nlohmann::json;

constexpr std::size_t kMaxFile = 1 << 20;

// A model, an event log, or a directory as `attest` keeps evidence: eventlog.bin and claims.bin.
MachineModel read_any(const std::string& path) try {
    if (std::filesystem::is_directory(path)) {
        return learn_model(host::read_file(path + "/eventlog.bin", kMaxFile),
                           host::read_file(path + "/claims.bin", kMaxFile));
    }
    const Buffer content = host::read_file(path, kMaxFile);
    return is_event_log(content) ? learn_model(content, {}) : read_model(content);
} catch (const ToolError& error) {
    if (std::string_view(error.what()).starts_with(path)) throw;
    throw ToolError(path + ": " + error.what());
}

void print(const json& value, bool as_json) { std::cout << (as_json ? value.dump(2) + "\n" : as_text(value)); }

}  // namespace

void MachineCommands::add_to(CLI::App& command) {
    command.require_subcommand(1);
    learn = command.add_subcommand("learn", "make a model of the machine that left this event log");
    learn
        ->add_option(
            "EVIDENCE", source,
            "a directory with eventlog.bin and claims.bin, or an event log alone: then the machine's facts are "
            "known by their digest only")
        ->required();
    learn->add_option("-o,--output", model_out, "the model, JSON")->required();
    learn->add_flag("--json", as_json, "print JSON");

    show = command.add_subcommand(
        "show",
        "say what a machine is; of two, what differs (exit status 1 if anything does). Models, event logs, evidence");
    show->add_option("MODEL", models, "one or two")->required()->expected(1, 2);
    show->add_flag("--json", as_json, "print JSON");

    approve = command.add_subcommand("approve", "approve a machine model as the policy authority");
    approve->add_option("--key", key, "the authority's private key, PEM")->required();
    approve->add_option("--policy-ref", policy_ref, "policy reference of the bundle")->required();
    CLI::Option* const from = approve->add_option("--model", model, "what policyctl machine learn wrote");
    approve->add_option("--pcr19", pcr19, "the SHA-256 value of PCR 19 itself, hex: for a machine that has no log yet")
        ->excludes(from);
    output.add_to(*approve, "the approval");
}

ExitCode MachineCommands::run() const {
    if (learn->parsed()) return run_learn();
    return show->parsed() ? run_show() : run_approve();
}

ExitCode MachineCommands::run_learn() const {
    const MachineModel learned = read_any(source);
    if (!learned.has_tables()) {
        throw ToolError(source +
                        ": no ACPI table is measured: the log is of a boot with acpi = minimal, which needs no "
                        "approval of the machine");
    }
    host::replace_file(model_out, host::text_bytes(model_file(learned)));
    print(describe(learned), as_json);
    return ExitCode::kYes;
}

ExitCode MachineCommands::run_show() const {
    const MachineModel first = read_any(models.front());
    if (models.size() == 1) {
        print(describe(first), as_json);
        return ExitCode::kYes;
    }
    const std::vector<std::string> found = differences(first, read_any(models.back()));
    if (as_json) {
        std::cout << json{{"same", found.empty()}, {"differences", found}}.dump(2) << '\n';
    } else if (found.empty()) {
        std::cout << "the same\n";
    } else {
        for (const std::string& line : found) std::cout << line << '\n';
    }
    return found.empty() ? ExitCode::kYes : ExitCode::kNo;
}

ExitCode MachineCommands::run_approve() const {
    output.check();
    if (model.empty() == pcr19.empty()) throw ToolError("give --model, or else --pcr19", ExitCode::kUsage);
    Sha256Digest value{};
    if (model.empty()) {
        value = digest_argument(pcr19, "--pcr19");
    } else {
        const Digest learned = read_any(model).pcr19(HashAlgorithm::kSha256);
        copy_bytes(value, learned.bytes());
    }
    const host::Key authority = host::read_private_key(key);
    const tpm::Name name = tpm::name_of(host::authority_public_area(authority.get()).bytes());
    const Bytes reference = host::text_bytes(policy_ref);
    if (reference.size() > kMaxPolicyRef) throw ToolError("--policy-ref: at most 32 bytes", ExitCode::kUsage);
    const Sha256Digest policy = tpm::machine_policy_digest(name, reference, value);
    const tpm::PolicyRef machine = host::expect(tpm::machine_policy_ref(reference), "--policy-ref");
    const tpm::SignatureBlob signature =
        host::sign_digest(authority.get(), tpm::approval_digest(policy, machine.bytes()));
    Buffer approval(kMaxApprovalSize);
    approval.resize(host::expect(
        write_machine_approval({.pcr19 = value, .policy_digest = policy, .signature = signature.bytes()}, approval),
        "machine approval"));
    output.write(approval, kMachineApprovalFile);
    return ExitCode::kYes;
}

}  // namespace gatehouse::policies
