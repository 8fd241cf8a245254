// policyctl machine: models of machines, learned, looked at and approved (machine_model.hpp).
#pragma once

#include "policies/policyctl/bundle_commands.hpp"

namespace gatehouse::policies {

struct MachineCommands {
    CLI::App* learn = nullptr;
    CLI::App* show = nullptr;
    CLI::App* approve = nullptr;

    std::string source;               // learn: an event log, or a directory with evidence
    std::string model_out;            // learn
    std::vector<std::string> models;  // show: one or two, models, logs or evidence
    std::string key;                  // approve
    std::string policy_ref;           // approve
    std::string model;                // approve
    std::string pcr19;                // approve, in place of a model
    bool as_json = false;
    Output output;  // approve

    void add_to(CLI::App& command);
    [[nodiscard]] host::ExitCode run() const;

  private:
    [[nodiscard]] host::ExitCode run_learn() const;
    [[nodiscard]] host::ExitCode run_show() const;
    [[nodiscard]] host::ExitCode run_approve() const;
};

}  // namespace gatehouse::policies
