#include "policies/policyctl/bundle_commands.hpp"

#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "keyvault/host_support/authority.hpp"
#include "keyvault/host_support/content.hpp"
#include "keyvault/host_support/disk.hpp"
#include "keyvault/tool/boot_approval.hpp"
#include "keyvault/tool/vault_store.hpp"
#include "keyvault/tpm_templates/policy.hpp"
#include "keyvault/tpm_templates/templates.hpp"
#include "policies/bundle_writer/bundle_writer.hpp"
#include "policies/policyctl/ata_policy.hpp"
#include "policies/prediction/predict.hpp"
#include "policies/prediction/show.hpp"

namespace gatehouse::policies {
namespace {

using host::ExitCode;
using host::ToolError;
using nlohmann::json;

// The vault id that the image's disk claims in its newer header, if there is one.
std::optional<Sha256Digest> claimed_vault(const std::string& image) {
    const host::Disk disk(image, host::Disk::Access::kRead);
    const volume::GptEntry vault = host::read_primary_table(disk).vault_partition();
    std::optional<Sha256Digest> claimed;
    std::uint64_t newest = 0;
    for (const Buffer& copy : host::read_header_copies(disk, vault)) {
        volume::Header preview;
        if (!volume::preview(copy, preview).ok() || preview.generation <= newest) continue;
        newest = preview.generation;
        claimed = preview.vault_id;
    }
    return claimed;
}

AtaPolicy read_ata_policy(const std::string& file) {
    constexpr std::size_t kLimit = 1 << 20;
    if (file.empty()) return parse_ata_policy(shipped_ata_policy(), "ata.toml");
    const Buffer content = host::read_file(file, kLimit);
    return parse_ata_policy({reinterpret_cast<const char*>(content.data()), content.size()}, file);
}

const char* other_disks(const AtaPolicy& policy) { return policy.show_disks ? "read-only" : "absent"; }

// A record of another vault than the image's would only be noticed by an endpoint that does not boot.
void check_vault_of(const std::string& image, const Sha256Digest& wanted) {
    const auto claimed = claimed_vault(image);
    if (!claimed) throw ToolError(image + ": not provisioned yet: sealed-key provision comes first");
    if (*claimed == wanted) return;
    throw ToolError(image + ": its vault is " + host::hex(*claimed) +
                    ", not that of --vault-id: the endpoint would not boot "
                    "(sealed-key status " +
                    image + ")");
}

}  // namespace

Sha256Digest digest_argument(const std::string& text, const char* option) {
    const Buffer bytes = host::from_hex(text, option);
    Sha256Digest digest{};
    if (bytes.size() != digest.size()) {
        throw ToolError(std::string(option) + ": 64 hex digits are wanted", ExitCode::kUsage);
    }
    copy_bytes(digest, bytes);
    return digest;
}

// --- output

void Output::add_to(CLI::App& command, const std::string& what, bool own_image) {
    command.add_option("-o,--output", file, what);
    if (!own_image) command.add_option("--image", image, "with --install: the appliance's disk image or device");
    command.add_flag("--install", install, "put it on the image's boot partition");
    command.add_flag("--json", as_json, "print JSON");
}

void Output::check() const {
    if (install && image.empty()) throw ToolError("--install needs --image", ExitCode::kUsage);
    if (file.empty() && !install) throw ToolError("give -o FILE or --install --image IMAGE", ExitCode::kUsage);
}

void Output::write(Bytes content, const char* boot_file, Bytes enrollment) const {
    const json description = describe_file(content, enrollment);  // reads back what has been made
    if (!file.empty()) host::replace_file(file, content);
    if (install) host::write_boot_file(image, boot_file, content);
    std::cout << (as_json ? description.dump(2) + "\n" : as_text(description));
}

// --- bundle

void MakeBundle::add_to(CLI::App& command) {
    CLI::Option* const name = command.add_option("--srk-name", srk_name, "TPM name of the one endpoint's SRK");
    CLI::Option* const vault =
        command.add_option("--vault-id", vault_id, "and the id of its vault (sealed-key provision)");
    name->needs(vault);
    vault->needs(name);
    command
        .add_option("--enrollment", enrollment, "a fleet's enrollment key, P-256, public, PEM: endpoints need records")
        ->excludes(name);
    command.add_option("--authority", authority, "the policy authority's public key, PEM")->required();
    command.add_option("--counter-index", counter_index, "NV index of the rollback counter")->capture_default_str();
    command.add_option("--policy-ref", policy_ref, "policy reference, up to 32 bytes")->required();
    command
        .add_option("--acpi", acpi,
                    "minimal: the guest gets the hypervisor's own ACPI tables, and one approval serves every machine; "
                    "machine: it gets the machine's, which are measured and need an approval of their own")
        ->check(CLI::IsMember({"minimal", "machine"}))
        ->capture_default_str();
    command.add_flag("--allow-no-iommu", allow_no_iommu,
                     "go on without an IOMMU: any device can then read the disk key");
    command.add_flag(
        "--change-in-use", change_in_use,
        "a disk whose key is being changed boots, and the change goes on in use (sealed-key rotate dek --online); "
        "who has copied the vault in the midst of it can put it back later, and the disk is written as it was then");
    command.add_option(
        "--ata", ata,
        "the disk mediator's command policy, TOML (policies/ata.toml, which is the default): TRIM, and disks "
        "without a vault");
    output.add_to(command, "the bundle");
}

ExitCode MakeBundle::run() const {
    output.check();
    if (srk_name.empty() == enrollment.empty()) {
        throw ToolError("give --srk-name and --vault-id, or else --enrollment", ExitCode::kUsage);
    }
    const Buffer name = host::from_hex(srk_name, "--srk-name");
    const Buffer vault = host::from_hex(vault_id, "--vault-id");
    Buffer point;
    if (!enrollment.empty()) point = host::p256_point(host::read_public_key(enrollment).get(), enrollment);
    const tpm::PublicArea area = host::authority_public_area(host::read_public_key(authority).get());
    std::uint32_t flags = 0;
    if (allow_no_iommu) flags |= static_cast<std::uint32_t>(BundleFlag::kAllowNoIommu);
    if (change_in_use) flags |= static_cast<std::uint32_t>(BundleFlag::kChangeInUse);
    if (acpi == "machine") flags |= static_cast<std::uint32_t>(BundleFlag::kMachineAcpi);
    const AtaPolicy disks = read_ata_policy(ata);
    if (disks.trim) flags |= static_cast<std::uint32_t>(BundleFlag::kTrim);
    if (disks.show_disks) flags |= static_cast<std::uint32_t>(BundleFlag::kShowDisks);
    Buffer bundle(kMaxBundleSize);
    bundle.resize(host::expect(write_bundle({.flags = flags,
                                             .counter_index = counter_index,
                                             .srk_name = name,
                                             .vault_id = vault,
                                             .enrollment = point,
                                             .authority = area.bytes(),
                                             .policy_ref = host::text_bytes(policy_ref)},
                                            bundle),
                               "bundle"));
    output.write(bundle, kBundleFile);
    return ExitCode::kYes;
}

// --- ata

void ShowAta::add_to(CLI::App& command) {
    command.add_option("FILE", file, "a command policy (policies/ata.toml); without it, the one of this release");
    command.add_flag("--json", as_json, "print JSON");
}

ExitCode ShowAta::run() const {
    const AtaPolicy policy = read_ata_policy(file);
    if (!as_json) {
        std::cout << "TRIM: " << (policy.trim ? "allowed" : "refused")
                  << "; disks without a vault: " << other_disks(policy) << "\n\n"
                  << as_markdown(policy);
        return ExitCode::kYes;
    }
    json classes = json::array();
    for (const CommandClass& row : policy.classes) {
        classes.push_back({{"class", row.name}, {"commands", row.commands}, {"effect", row.effect}, {"why", row.why}});
    }
    std::cout << json{{"trim", policy.trim}, {"other_disks", other_disks(policy)}, {"classes", classes}}.dump(2)
              << '\n';
    return ExitCode::kYes;
}

// --- record

void MakeRecord::add_to(CLI::App& command) {
    command.add_option("--key", key, "the fleet's enrollment key, P-256, private, PEM")->required();
    command.add_option("--srk-name", srk_name, "TPM name of the endpoint's SRK (sealed-key provision)")->required();
    command.add_option("--vault-id", vault_id, "id of its vault (sealed-key provision)")->required();
    command.add_option("--label", label, "your name for the endpoint, up to 64 bytes");
    output.add_to(command, "the record");
}

ExitCode MakeRecord::run() const {
    output.check();
    const host::Key enrollment = host::read_private_key(key);
    const Buffer point = host::p256_point(enrollment.get(), key);
    const Buffer name = host::from_hex(srk_name, "--srk-name");
    const Sha256Digest vault = digest_argument(vault_id, "--vault-id");
    Buffer record(kMaxRecordSize);
    record.resize(host::expect(
        write_unsigned_record({.srk_name = name, .vault_id = vault, .label = host::text_bytes(label)}, record),
        "endpoint record"));
    const Buffer signature = host::sign_p256(enrollment.get(), sha256(record));
    record.insert(record.end(), signature.begin(), signature.end());
    if (!output.image.empty()) {
        const host::Disk disk(output.image, host::Disk::Access::kRead);
        const BundleFacts bundle = read_bundle(
            read_boot_file(disk, host::read_primary_table(disk).boot_partition(), kBundleFile, kMaxBundleSize));
        if (!equal_bytes(bundle.enrollment, point)) {
            throw ToolError("the image's policy bundle does not name " + key +
                            " as its enrollment key: this record would not be accepted");
        }
        if (output.install) check_vault_of(output.image, vault);
    }
    output.write(record, kRecordFile, point);
    return ExitCode::kYes;
}

// --- sign

struct Sign::Subject {
    Sha256Digest pcr17{};
    Sha256Digest pcr18{};
    std::uint32_t counter_index = 0;
    Buffer policy_ref;
};

void Sign::add_to(CLI::App& command) {
    command.add_option("--key", key, "the authority's private key, PEM")->required();
    command.add_option("--counter-limit", counter_limit, "void once the rollback counter is greater")->required();
    CLI::Option* const image = command.add_option("--image", output.image, "the image to approve");
    CLI::Option* const files = command.add_option("--files", directory, "a directory with its files")->excludes(image);
    CLI::Option* const first = command.add_option("--pcr17", pcr17, "SHA-256 value of PCR 17, hex");
    first->excludes(image)->excludes(files);
    command.add_option("--pcr18", pcr18, "SHA-256 value of PCR 18, hex")->needs(first);
    command.add_option("--policy-ref", policy_ref, "with --pcr17: the policy reference")->needs(first);
    command.add_option("--counter-index", counter_index, "with --pcr17: the counter's NV index")
        ->needs(first)
        ->capture_default_str();
    output.add_to(command, "the approval", true);
}

// Values from the image's files; its bundle must name the key that is to sign, and the vault that is on the disk.
Sign::Subject Sign::subject_of_files(Bytes authority) const {
    const Prediction prediction = directory.empty() ? predict_image(output.image) : predict_directory(directory);
    const BundleFacts& bundle = prediction.bundle;
    if (!equal_bytes(bundle.authority, authority)) {
        throw ToolError("the image's policy bundle names another authority than " + key +
                        ": this approval would not be accepted");
    }
    const auto vault = directory.empty() ? claimed_vault(output.image) : std::nullopt;
    if (vault && !bundle.is_fleet() && !equal_bytes(bundle.vault_id, *vault)) {
        throw ToolError(
            "the image's policy bundle pins another vault than the disk has: make a new one with policyctl "
            "bundle --vault-id " +
            host::hex(*vault) + ", then sign");
    }
    return {host::as_sha256(prediction.sealing_value(HashAlgorithm::kSha256, evidence::kLaunchPcr)),
            host::as_sha256(prediction.sealing_value(HashAlgorithm::kSha256, evidence::kPayloadPcr)),
            bundle.counter_index, bundle.policy_ref};
}

Sign::Subject Sign::subject_of_values() const {
    if (pcr17.empty() || pcr18.empty()) {
        throw ToolError("give --image or --files, or --pcr17, --pcr18 and --policy-ref", ExitCode::kUsage);
    }
    const Bytes reference = host::text_bytes(policy_ref);
    return {digest_argument(pcr17, "--pcr17"), digest_argument(pcr18, "--pcr18"), counter_index,
            Buffer(reference.begin(), reference.end())};
}

ExitCode Sign::run() const {
    output.check();
    const host::Key authority = host::read_private_key(key);
    const tpm::PublicArea area = host::authority_public_area(authority.get());
    const Subject subject =
        output.image.empty() && directory.empty() ? subject_of_values() : subject_of_files(area.bytes());

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
    output.write(approval, kApprovalFile);
    return ExitCode::kYes;
}

// --- install

namespace {

struct Place {
    const char* boot_file;
    Buffer enrollment;  // the key that signed it, of a record
};

// ToolError (no) that says why it would not be accepted.
Place place_of(const std::string& file, Bytes content, const std::string& image) {
    const auto refuse = [&](const std::string& why) {
        throw ToolError(file + ": not put on " + image + ": " + why, ExitCode::kNo);
    };
    const host::Disk disk(image, host::Disk::Access::kRead);
    const volume::GptEntry boot = host::read_primary_table(disk).boot_partition();
    if (const auto approval = parse_approval(content)) {
        if (const std::string fault = host::approval_fault(disk, boot, *approval); !fault.empty()) refuse(fault);
        return {kApprovalFile, {}};
    }
    const BundleFacts bundle = read_bundle(read_boot_file(disk, boot, kBundleFile, kMaxBundleSize));
    if (const auto approval = parse_machine_approval(content)) {
        const auto reference = host::expect(tpm::machine_policy_ref(bundle.policy_ref), "policy reference");
        if (!host::verify_digest(host::authority_key(bundle.authority).get(),
                                 tpm::approval_digest(approval->policy_digest, reference.bytes()),
                                 approval->signature)) {
            refuse("it is not signed by the authority that the policy bundle names");
        }
        return {kMachineApprovalFile, {}};
    }
    const auto record = parse_record(content, bundle.enrollment);
    if (!record) refuse("neither an approval nor a record: " + host::describe(record.failure()));
    Sha256Digest vault{};
    copy_bytes(vault, record->vault_id);
    check_vault_of(image, vault);
    return {kRecordFile, bundle.enrollment};
}

}  // namespace

void Install::add_to(CLI::App& command) {
    command.add_option("FILE", file, "what `sign`, `record` or `machine approve` wrote with -o")->required();
    command.add_option("--image", image, "the appliance's disk image or device")->required();
    command.add_flag("--json", as_json, "print JSON");
}

ExitCode Install::run() const {
    const Buffer content = host::read_file(file, kMaxApprovalSize);
    const Place place = place_of(file, content, image);
    host::write_boot_file(image, place.boot_file, content);
    const json description = describe_file(content, place.enrollment);
    std::cout << (as_json ? description.dump(2) + "\n" : as_text(description));
    return ExitCode::kYes;
}

}  // namespace gatehouse::policies
