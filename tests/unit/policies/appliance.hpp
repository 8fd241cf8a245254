// A small appliance for tests: boot files, a policy authority made with OpenSSL, and a GPT image made with
// sgdisk and mtools; and the project's tools, run as a user runs them.
#pragma once

#include <string>
#include <vector>

#include "attestation/evidence/machine_facts.hpp"
#include "keyvault/host_support/support.hpp"
#include "policies/prediction/predict.hpp"
#include "tests/unit/evidence/machine_facts.hpp"

namespace gatehouse::test {

using host::Buffer;

inline constexpr std::size_t kSlbLength = 3000;  // measured; slb.bin has more bytes
inline constexpr const char kPolicyRef[] = "test fleet";

struct Outcome {
    int status = -1;
    std::string output;
    std::string errors;
};
// `name` of the programs in the build's bin directory. With a limit, a write past it kills the program on the
// spot (SIGXFSZ; status -1): a crash at a known place.
[[nodiscard]] Outcome run_tool(const std::string& name, const std::vector<std::string>& arguments,
                               std::size_t file_size_limit = 0);

// A directory that goes with the object.
class Directory {
  public:
    Directory();
    ~Directory();
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    std::string path_;
};

class Appliance {
  public:
    // `key_type`: "EC" (P-256) or "RSA" (2048).
    explicit Appliance(const std::string& key_type = "EC");

    // slb.bin, hypervisor.bin, policy.bundle, kernel, initrd, cmdline.
    [[nodiscard]] std::string files() const { return directory_.path() + "/files"; }
    [[nodiscard]] std::string path(const std::string& name) const { return directory_.path() + "/" + name; }
    [[nodiscard]] std::string image() const { return path("disk.img"); }
    [[nodiscard]] std::string authority_private() const { return path("authority.pem"); }
    [[nodiscard]] std::string authority_public() const { return path("authority.pub"); }
    [[nodiscard]] std::string enrollment_private() const { return path("enrollment.pem"); }
    [[nodiscard]] std::string enrollment_public() const { return path("enrollment.pub"); }

    [[nodiscard]] Buffer read(const std::string& file) const;
    void write(const std::string& file, Bytes content) const;
    // Replaces policy.bundle: of one endpoint, or of a fleet with this appliance's enrollment key.
    void make_bundle(Bytes srk_name, Bytes vault_id, std::uint32_t flags = 0) const;
    void make_fleet_bundle(std::uint32_t flags = 0) const;

    // 64 MiB: BIOS boot, boot (FAT, with the files), vault of 2 MiB, root (random bytes at both ends, a hole
    // between).
    void make_image(std::size_t sector_size = 512) const;
    // Of /gatehouse on the boot partition.
    [[nodiscard]] Buffer boot_file(const std::string& name) const;
    void put_boot_file(const std::string& name, Bytes content) const;

  private:
    void write_bundle(policies::Bundle bundle) const;
    [[nodiscard]] std::string boot_drive() const;
    void make_table() const;
    static void make_large_sector_table(int file, std::size_t sector_size);
    [[nodiscard]] Buffer boot_file_system(std::size_t sector_size) const;

    Directory directory_;
};

// 0x000b and 32 bytes: the name of nobody's SRK, and the id of nobody's vault, both pinned by a new Appliance.
[[nodiscard]] Buffer srk_name();
[[nodiscard]] Buffer vault_id();

// Private key in PEM; `type` "EC", "RSA" or "P-384".
void make_key(const std::string& type, const std::string& path);
[[nodiscard]] Buffer der_signature(Bytes r, Bytes s);
[[nodiscard]] bool openssl_verifies(const std::string& public_key, Bytes message, Bytes signature);

struct Table {
    std::string name;  // "ACPI DSDT GATEHOUS"
    std::string content;
};
// The event log that a launch as predicted leaves, in all predicted banks, on a machine with these facts, with the
// machine's tables or none.
[[nodiscard]] Buffer launch_log(const policies::Prediction& prediction, Bytes vault_id,
                                const std::vector<Table>& tables = {},
                                const evidence::MachineFacts& facts = sample_machine());

}  // namespace gatehouse::test
