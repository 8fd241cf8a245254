// A program of subcommands, by CLI11, which who includes this links.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::host {

// ToolError (usage) for an option that was given with nothing: an unset variable in a script is no choice to go without.
inline void demand_values(const CLI::App& app) {
    for (const CLI::Option* const option : app.get_options()) {
        const std::vector<std::string>& values = option->results();
        if (std::ranges::find(values, "") == values.end()) continue;
        throw ToolError(option->get_name() + ": is given, and empty", ExitCode::kUsage);
    }
    for (const CLI::App* const subcommand : app.get_subcommands()) demand_values(*subcommand);
}

class Commands {
  public:
    Commands(const std::string& about, const std::string& name) : app_(about, name) { app_.require_subcommand(1); }

    // `command`, which must outlive this: add_to(CLI::App&) gives it its options, ExitCode run() does it.
    template <typename Command>
    void add(const char* name, const char* about, Command& command) {
        CLI::App* const subcommand = app_.add_subcommand(name, about);
        command.add_to(*subcommand);
        commands_.emplace_back(subcommand, [&command] { return command.run(); });
    }

    // Does what the command line asks for; help, and a usage error's message, are printed.
    ExitCode run(int argc, char** argv) {
        try {
            app_.parse(argc, argv);
        } catch (const CLI::ParseError& error) {
            return app_.exit(error) == 0 ? ExitCode::kYes : ExitCode::kUsage;
        }
        for (const auto& [subcommand, command] : commands_) {
            if (subcommand->parsed()) return command();
        }
        return ExitCode::kUsage;
    }

  private:
    CLI::App app_;
    std::vector<std::pair<CLI::App*, std::function<ExitCode()>>> commands_;
};

}  // namespace gatehouse::host
