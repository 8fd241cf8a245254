// The subcommands that make an appliance's policy files: the bundle, its approval, endpoint records.
#pragma once

#include "keyvault/host_support/support.hpp"
#include "keyvault/tpm/sealing.hpp"

namespace CLI {
class App;
}

namespace gatehouse::policies {

// Where a file that a subcommand makes goes: to a file, onto an image's boot partition, or both.
struct Output {
    std::string file;
    std::string image;
    bool install = false;
    bool as_json = false;

    // -o, --install, --json; and --image, unless the subcommand has one of its own that it keeps here.
    void add_to(CLI::App& command, const std::string& what, bool own_image = false);
    // ToolError (usage) if the file would go nowhere.
    void check() const;
    // Writes it, as `boot_file` on an image, and prints what it says.
    void write(Bytes content, const char* boot_file, Bytes enrollment = {}) const;
};

// policyctl bundle: of one endpoint, pinned by --srk-name and --vault-id, or of a fleet, by --enrollment.
struct MakeBundle {
    std::string srk_name;
    std::string vault_id;
    std::string enrollment;
    std::string authority;
    std::uint32_t counter_index = tpm::kRollbackCounter;
    std::string policy_ref;
    std::string acpi = "minimal";
    bool allow_no_iommu = false;
    bool change_in_use = false;
    std::string ata;  // empty: the shipped one
    Output output;

    void add_to(CLI::App& command);
    [[nodiscard]] host::ExitCode run() const;
};

// policyctl ata: what the disk mediator does with each ATA command.
struct ShowAta {
    std::string file;  // empty: the shipped one
    bool as_json = false;

    void add_to(CLI::App& command);
    [[nodiscard]] host::ExitCode run() const;
};

// policyctl record: says, as the holder of the enrollment key, which vault is whose.
struct MakeRecord {
    std::string key;
    std::string srk_name;
    std::string vault_id;
    std::string label;
    Output output;

    void add_to(CLI::App& command);
    [[nodiscard]] host::ExitCode run() const;
};

// policyctl sign: approves an image as the policy authority.
struct Sign {
    std::string key;
    std::uint64_t counter_limit = 0;
    std::string directory;
    std::string pcr17;
    std::string pcr18;
    std::uint32_t counter_index = tpm::kRollbackCounter;
    std::string policy_ref;
    Output output;  // its image is the one that is approved

    void add_to(CLI::App& command);
    [[nodiscard]] host::ExitCode run() const;

  private:
    struct Subject;
    [[nodiscard]] Subject subject_of_files(Bytes authority) const;
    [[nodiscard]] Subject subject_of_values() const;
};

// policyctl install: what was signed elsewhere, an approval or an endpoint record, onto an image's boot partition. Nothing that
// would not be accepted there.
struct Install {
    std::string file;
    std::string image;
    bool as_json = false;

    void add_to(CLI::App& command);
    [[nodiscard]] host::ExitCode run() const;
};

// --- for the other subcommands

// 64 hex digits, or ToolError (usage) naming the option.
[[nodiscard]] Sha256Digest digest_argument(const std::string& text, const char* option);

}  // namespace gatehouse::policies
