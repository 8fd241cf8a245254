#include "tests/unit/keyvault/tool/endpoint.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "keyvault/tool/vault_store.hpp"
#include "keyvault/tpm/command.hpp"

namespace gatehouse::test {

using host::expect;

void EvidenceFiles::write_to(const std::string& directory) const {
    host::replace_file(directory + "/quote.msg", quote);
    host::replace_file(directory + "/quote.sig", signature);
    host::replace_file(directory + "/ak.pub", key);
    host::replace_file(directory + "/claims.bin", claims);
    host::replace_file(directory + "/eventlog.bin", event_log);
}

void Endpoint::prepare(std::size_t sector_size) {
    device.disconnect();
    const Outcome name = run_tool("sealed-key", {"srk-name", "--tcti", device.tcti()});
    ASSERT_EQ(name.status, 0) << name.errors;
    appliance.make_bundle(host::from_hex(name.output.substr(0, 68), "srk-name"), test::vault_id());
    appliance.make_image(sector_size);
}

std::vector<std::string> Endpoint::provision_arguments() const {
    return {"provision",    appliance.image(), "--tcti",
            device.tcti(),  "--authority",     appliance.authority_public(),
            "--policy-ref", kPolicyRef,        "--recovery-key-out",
            recovery_key(), "--ak-out",        attestation_key(),
            "--json"};
}

void Endpoint::provision(std::size_t sector_size) {
    prepare(sector_size);
    const Outcome outcome = run_tool("sealed-key", provision_arguments());
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    provisioned = nlohmann::json::parse(outcome.output);
    pin_and_sign();
    device.connect();
}

void Endpoint::pin_and_sign() {
    const std::string limit = provisioned["counter"]["value"].dump();
    const Outcome bundle =
        run_tool("policyctl",
                 {"bundle", "--srk-name", provisioned["srk_name"], "--vault-id", provisioned["vault_id"], "--authority",
                  appliance.authority_public(), "--policy-ref", kPolicyRef, "--acpi", provisioned["acpi"], "--install",
                  "--image", appliance.image(), "-o", appliance.files() + "/policy.bundle"});
    ASSERT_EQ(bundle.status, 0) << bundle.errors;
    const Outcome sign = run_tool("policyctl", {"sign", "--key", appliance.authority_private(), "--image",
                                                appliance.image(), "--counter-limit", limit, "--install"});
    ASSERT_EQ(sign.status, 0) << sign.errors;
}

Buffer Endpoint::vault_id() const { return host::from_hex(provisioned["vault_id"].get<std::string>(), "vault id"); }

RandomSource& Endpoint::random() {
    if (!seeded_) random_.seed(appliance.read("kernel"));
    seeded_ = true;
    return random_;
}

void Endpoint::measure(std::uint32_t pcr, const evidence::Measurement* measurement, Bytes object) {
    std::vector<Digest> digests;
    for (const HashAlgorithm bank : log_->banks()) digests.push_back(hash(bank, object));
    const bool by_cpu = measurement != nullptr && measurement->tag == evidence::MeasurementTag::kSlb;
    if (!by_cpu) expect(tpm.pcr_extend(pcr, digests), "extend");
    expect(measurement != nullptr ? log_->append(*measurement, digests) : log_->append_cap(pcr, digests), "log");
}

void Endpoint::launch(const std::vector<Table>& tables) {
    const Buffer slb = appliance.boot_file("slb.bin");
    const Bytes measured = policies::measured_part_of_slb(slb);
    device.dynamic_launch(measured);
    device.set_locality(2);
    const tpm::BankList banks = expect(tpm.active_banks(), "banks");
    banks_.assign(banks.banks().begin(), banks.banks().end());
    log_storage_.assign(evidence::kEventLogSize, std::byte{0});
    log_ = expect(evidence::EventLogWriter::create(log_storage_, banks_), "log");
    for (std::size_t i = 0; i < evidence::kMeasurements.size(); ++i) {
        const evidence::Measurement& measurement = evidence::kMeasurements[i];
        const bool is_slb = measurement.tag == evidence::MeasurementTag::kSlb;
        const Buffer file = appliance.boot_file(policies::measured_files()[i]);
        measure(measurement.pcr, &measurement, is_slb ? measured : Bytes(file));
    }
    measure(evidence::kMachinePcr, &evidence::kMachineMeasurement, encoded(sample_machine()));
    for (const Table& table : tables) {
        const evidence::Measurement row{evidence::kMachinePcr, evidence::MeasurementTag::kAcpiTable, table.name};
        measure(row.pcr, &row, host::text_bytes(table.content));
    }
}

Result<Secret<32>> Endpoint::unseal() {
    const Buffer bundle_file = appliance.boot_file(policies::kBundleFile);
    const Buffer approval_file = appliance.boot_file(policies::kApprovalFile);
    GATEHOUSE_ASSIGN(const policies::Bundle bundle, policies::parse_bundle(bundle_file));
    GATEHOUSE_ASSIGN(const policies::Approval approval, policies::parse_approval(approval_file));
    const host::Disk disk(appliance.image(), host::Disk::Access::kRead);
    const auto copies = host::read_header_copies(disk, host::read_primary_table(disk).vault_partition());
    volume::Header preview;
    GATEHOUSE_TRY(volume::preview(copies[0], preview));
    tpm::UnsealRequest request{.authority = bundle.authority,
                               .policy_ref = bundle.policy_ref,
                               .counter = bundle.counter_index,
                               .approval = {approval.policy_digest, approval.counter_limit, approval.signature},
                               .sealed_public = preview.slots.tpm->sealed_public.bytes(),
                               .sealed_private = preview.slots.tpm->sealed_private.bytes()};
    copy_bytes(request.storage_root_key, host::from_hex(provisioned["srk_name"].get<std::string>(), "SRK name"));
    Buffer machine_file;
    if (bundle.has(policies::BundleFlag::kMachineAcpi)) {
        machine_file = appliance.boot_file(policies::kMachineApprovalFile);
        GATEHOUSE_ASSIGN(const policies::MachineApproval machine, policies::parse_machine_approval(machine_file));
        request.machine = tpm::MachineApproval{machine.policy_digest, machine.signature};
    }
    return tpm::unseal(tpm, random(), request);
}

void Endpoint::open_vault(volume::Header& header, volume::Keys& keys) {
    const auto secret = unseal();
    ASSERT_TRUE(secret.ok()) << host::describe(secret.failure());
    const host::Disk disk(appliance.image(), host::Disk::Access::kRead);
    const host::PartitionTable table = host::read_primary_table(disk);
    host::HeaderCopies copies = host::read_header_copies(disk, table.vault_partition());
    std::array<std::uint64_t, std::tuple_size_v<host::HeaderCopies>> generations{};
    const auto open = [&](std::size_t i) {
        const Status opened =
            volume::open_header(copies[i], volume::SlotKind::kTpm, *secret, &table.header.disk, header, keys);
        ASSERT_TRUE(opened.ok()) << host::describe(opened.failure()) << ": both copies must be good";
        generations[i] = header.generation;
    };
    for (std::size_t i = 0; i < copies.size(); ++i) ASSERT_NO_FATAL_FAILURE(open(i));
    ASSERT_NO_FATAL_FAILURE(
        open(static_cast<std::size_t>(std::ranges::max_element(generations) - generations.begin())));
    measure(evidence::kPayloadPcr, &evidence::kVaultMeasurement, header.vault_id);
}

void Endpoint::cap() {
    for (const std::uint32_t pcr : evidence::kCappedPcrs) {
        measure(pcr, nullptr, evidence::kCapData);
    }
}

evidence::Claims Endpoint::claims() const {
    evidence::Claims claims{
        .hypervisor_version = 0x000100,
        .launch = evidence::Launch::kSkinit,
        .iommu = evidence::Iommu::kAmdVi,
        .cpus = 2,
        .flags = static_cast<std::uint32_t>(evidence::ClaimFlag::kCapped) |
                 static_cast<std::uint32_t>(evidence::ClaimFlag::kVaultOpened),
        .kept_bytes = 0xc00000,
        .counter_limit = provisioned["counter"]["value"].get<std::uint64_t>(),
        .policy_digest = sha256(appliance.read("policy.bundle")),
        .vault_pin = evidence::VaultPin::kBundle,
        .machine = sample_machine(),
        .disk_count = 1,
    };
    copy_bytes(claims.vault_id, vault_id());
    copy_bytes(claims.storage_root, policies::read_bundle(appliance.read("policy.bundle")).srk_name);
    claims.disks[0].state = evidence::DiskState::kEncrypted;
    claims.disks[0].key_epoch = 1;
    claims.disks[0].generation = 5;
    claims.disks[0].sealed_name.fill(std::byte{0x0b});
    return claims;
}

std::vector<tpm::PcrSelection> Endpoint::selections() {
    const tpm::BankList banks = expect(tpm.active_banks(), "banks");
    std::vector<tpm::PcrSelection> all;
    for (const HashAlgorithm bank : banks.banks()) all.push_back({bank, tpm::kQuotedPcrs.pcrs});
    return all;
}

// The hypervisor quotes one bank; a verifier takes any number.
EvidenceFiles Endpoint::attest(const volume::Header& header, const evidence::Claims& claims, Bytes nonce,
                               std::span<const tpm::PcrSelection> selections) {
    EvidenceFiles files;
    files.claims.resize(evidence::kMaxClaimsSize);
    files.claims.resize(expect(evidence::encode_claims(claims, files.claims), "claims"));
    const Bytes area = header.attestation_key_public.bytes();
    const tpm::Flushed key =
        expect(tpm.load(tpm::kStorageRootKey, header.attestation_key_private.bytes(), area), "attestation key");
    tpm::PolicySession session = expect(tpm::PolicySession::start(tpm, random()), "session");
    expect(session.policy_locality(tpm::kHypervisorLocality), "locality");
    tpm::Command command(tpm, TPM2_CC_Quote, "TPM2_Quote");
    session.authorize(command.with(key.handle()));
    command.with(evidence::qualifying_data(nonce, files.claims), TPM2_ALG_NULL);
    command.with(static_cast<std::uint32_t>(selections.size()));
    for (const tpm::PcrSelection& selection : selections) {
        command.with_marshalled(Bytes(tpm::marshalled(selection)).subspan(sizeof(std::uint32_t)));
    }
    const tpm::Response response = expect(session.execute(command), "quote");
    Reader reader = response.reader();
    const Bytes attest = reader.sized();
    const Bytes signature = reader.rest();
    files.quote.assign(attest.begin(), attest.end());
    files.signature.assign(signature.begin(), signature.end());
    files.key.resize(2 + area.size());
    Writer(files.key, Endian::kBig).sized(area);
    files.event_log.assign(log_->log().begin(), log_->log().end());
    return files;
}

nlohmann::json expect_yes(const Outcome& outcome) {
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    return outcome.status == 0 ? nlohmann::json::parse(outcome.output) : nlohmann::json::object();
}

void expect_refusal(const Outcome& outcome, const std::string& why, int status) {
    EXPECT_EQ(outcome.status, status) << outcome.output;
    EXPECT_NE(outcome.errors.find(why), std::string::npos) << outcome.errors;
    EXPECT_EQ(std::ranges::count(outcome.errors, '\n'), 1) << outcome.errors;
}

}  // namespace gatehouse::test
