// The evidence matrix, launches: event log, events, claims, policy.
#include "tests/unit/verifier/evidence_matrix.hpp"

namespace gatehouse::verifier {
namespace {

using evidence::Claims;
using test::filler;

class LaunchMatrix : public testing::TestWithParam<Row> {};
TEST_P(LaunchMatrix, IsRefusedForTheRightReason) { expect_row(Sample::of_hypervisor(), GetParam()); }

constexpr std::size_t kSha256At = 12 + 2;  // in an event of the sample's log
constexpr std::size_t kSha384At = kSha256At + 32 + 2;
const std::vector<std::string> kBoth{"log", "events"};
const std::vector<std::string> kNothing{"log", "events", "vault id", "machine"};
const std::vector<std::string> kNoClaims{"claims",   "policy",    "iommu", "counter", "version",
                                         "vault id", "vault pin", "vault", "machine", "acpi"};
// Places of the sample's events.
constexpr std::size_t kMachineEvent = 6, kVaultEvent = 7, kLaunchCap = 8, kPayloadCap = 9, kMachineCap = 10;

// A second disk, whose vault the boot vault's root opens.
Claims& add_member(Claims& claims) {
    claims.disks[1] = claims.disks[0];
    claims.disks[1].sealed_name = {};
    claims.disk_count = 2;
    return claims;
}

void erase_event(Sample& sample, std::size_t number) {
    std::vector<Buffer> parts = test::split_log(sample.log);
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(number));
    sample.log = test::join_log(parts);
}
void append_event(Sample& sample, std::uint8_t pcr) {
    std::vector<Buffer> parts = test::split_log(sample.log);
    parts.push_back(parts.back());
    parts.back()[0] = std::byte{pcr};
    sample.log = test::join_log(parts);
}
Row lacking(const char* name, std::size_t number) {
    return {name, kBoth, "does not replay", {}, [number](Sample& s) { erase_event(s, number); }};
}
// A launch of something else, honestly logged.
Row launched(const char* name, std::size_t index, const char* word) {
    return {name, {"events"}, word, [index](Sample& s) { s.events[index].measured = filler("something else"); }};
}
Row quoted_claims(const char* name, std::vector<std::string> rules, const char* word, void (*change)(Claims&)) {
    return {name, std::move(rules), word, [change](Sample& s) { change(s.claims); }};
}
// Claims of a good quote, changed on the way.
Row sent_claims(const char* name, void (*change)(Claims&)) {
    return {name, {"nonce"}, "these claims", {}, [change](Sample& s) {
                Claims claims = s.claims;
                change(claims);
                s.encoded_claims.resize(evidence::kMaxClaimsSize);
                s.encoded_claims.resize(*evidence::encode_claims(claims, s.encoded_claims));
            }};
}

// An event's data as sent: u32 tag, u32 size, name.
constexpr std::size_t kDataAt = kSha384At + 48 + 4;
Buffer measured_name(const evidence::Measurement& measurement) {
    Buffer data(8 + measurement.name.size());
    Writer writer(data);
    writer.u32(static_cast<std::uint32_t>(measurement.tag));
    writer.u32(static_cast<std::uint32_t>(measurement.name.size()));
    writer.bytes(host::text_bytes(measurement.name));
    return data;
}
void set_data(Buffer& event, const Buffer& data) {
    event.resize(kDataAt);
    Writer(MutableBytes(event).subspan(kDataAt - 4)).u32(static_cast<std::uint32_t>(data.size()));
    event.insert(event.end(), data.begin(), data.end());
}
// The sent event number `event`, counted from 1, with other data and the digests that it had.
Row renamed(const char* name, std::size_t event, const char* word, const Buffer& data) {
    return {name, {"events"}, word, {}, [event, data](Sample& s) {
                change_event(s, event, [&data](Buffer& e) { set_data(e, data); });
            }};
}
constexpr const auto& kSlb = evidence::kMeasurements[0];
constexpr const auto& kHypervisor = evidence::kMeasurements[1];
constexpr const auto& kKernel = evidence::kMeasurements[3];
constexpr const auto& kInitrd = evidence::kMeasurements[4];
constexpr const auto& kCommandLine = evidence::kMeasurements[5];

// Digests, and so the replay, stay as they were: nothing but the names is a lie.
const std::vector<Row> kNames{
    renamed("KernelNamedInitrd", 4, "not named as the kernel", measured_name(kInitrd)),
    renamed("InitrdNamedKernel", 5, "not named as the initrd", measured_name(kKernel)),
    {"KernelAndInitrdExchangeNames",
     {"events"},
     "not named as the kernel",
     {},
     [](Sample& s) {
         change_event(s, 4, [](Buffer& e) { set_data(e, measured_name(kInitrd)); });
         change_event(s, 5, [](Buffer& e) { set_data(e, measured_name(kKernel)); });
     }},
    {"SlbAndHypervisorExchangeNames",
     {"events"},
     "not named as the secure loader block",
     {},
     [](Sample& s) {
         change_event(s, 1, [](Buffer& e) { set_data(e, measured_name(kHypervisor)); });
         change_event(s, 2, [](Buffer& e) { set_data(e, measured_name(kSlb)); });
     }},
    renamed("OtherNameUnderTheRightTag", 6, "not named as the command line",
            measured_name({kCommandLine.pcr, kCommandLine.tag, "command-line"})),
    renamed("RightNameUnderAnotherTag", 4, "not named as the kernel",
            measured_name({kKernel.pcr, kInitrd.tag, kKernel.name})),
    renamed("NameWithATail", 4, "not named as the kernel",
            measured_name({kKernel.pcr, kKernel.tag, std::string_view("kernel\0", 7)})),
    renamed("NameInCapitals", 4, "not named as the kernel", measured_name({kKernel.pcr, kKernel.tag, "Kernel"})),
    renamed("NameLess", 4, "not named as the kernel", measured_name({kKernel.pcr, kKernel.tag, ""})),
    renamed("NoTag", 4, "not named as the kernel", {}),
    {"MachineNamedVaultIdentity",
     {"events", "machine"},
     "not named as the machine",
     {},
     [](Sample& s) {
         change_event(s, kMachineEvent + 1, [](Buffer& e) { set_data(e, measured_name(evidence::kVaultMeasurement)); });
     }},
    {"VaultIdentityNamedMachine",
     {"events", "vault id"},
     "not named as the vault identity",
     {},
     [](Sample& s) {
         change_event(s, kVaultEvent + 1, [](Buffer& e) { set_data(e, measured_name(evidence::kMachineMeasurement)); });
     }},
    renamed("CapThatSaysError", kLaunchCap + 1, "not named as the cap", {std::byte{1}, {}, {}, {}}),
    renamed("CapThatSaysNothing", kPayloadCap + 1, "not named as the cap", {}),
};
INSTANTIATE_TEST_SUITE_P(Names, LaunchMatrix, testing::ValuesIn(kNames), row_name);

const std::vector<Row> kLog{
    {"LogLacksTheCap", kBoth, "no event for the cap", {}, [](Sample& s) { erase_event(s, kPayloadCap + 1); }},
    lacking("LogLacksTheSlb", 1),
    lacking("LogLacksTheHypervisor", 2),
    lacking("LogLacksThePolicyBundle", 3),
    lacking("LogLacksTheKernel", 4),
    {"LogCutInAnEvent", kBoth, "truncated", {}, [](Sample& s) { s.log.pop_back(); }},
    {"LogCutInADigest", kBoth, "truncated", {}, [](Sample& s) { test::cut_off(s.log, 20); }},
    {"LogCutInItsHeader", kNothing, "truncated", {}, [](Sample& s) { s.log.resize(40); }},
    {"BareNonce",
     {"nonce"},
     "not made for",
     [](Sample& s) {
         s.bare_nonce = true;  // is for evidence of a TPM alone
         const Sha256Digest digest = sha256(s.nonce);
         s.quoted_extra_data = Buffer(digest.begin(), digest.end());
     }},
    {"LogEmpty", kNothing, "empty", {}, [](Sample& s) { s.log.clear(); }},
    {"LogExtended", kBoth, "one more than expected", {}, [](Sample& s) { append_event(s, 18); }},
    {"LogOfAnotherPcrToo", {"events"}, "not part of the launch", {}, [](Sample& s) { append_event(s, 20); }},
    {"LogLacksTheMachine",
     {"log", "events", "machine"},
     "does not replay",
     {},
     [](Sample& s) { erase_event(s, kMachineEvent + 1); }},
    {"LogLacksTheVaultIdentity",
     {"log", "events", "vault id"},
     "does not replay",
     {},
     [](Sample& s) { erase_event(s, kVaultEvent + 1); }},
    {"VaultIdentityChangedInTheLog",
     {"log", "events", "vault id"},
     "not that of the vault identity",
     {},
     [](Sample& s) { change_event(s, kVaultEvent + 1, [](Buffer& e) { e[kSha256At] ^= std::byte{1}; }); }},
    {"LogLacksTheCapOfTheMachine",
     kBoth,
     "no event for the cap",
     {},
     [](Sample& s) { erase_event(s, kMachineCap + 1); }},
    {"LogReordered",
     kBoth,
     "not that of the kernel",
     {},
     [](Sample& s) {
         std::vector<Buffer> parts = test::split_log(s.log);
         std::swap(parts[4], parts[5]);
         s.log = test::join_log(parts);
     }},
    {"Sha256DigestChanged",
     kBoth,
     "event 4 at offset",
     {},
     [](Sample& s) { change_event(s, 4, [](Buffer& e) { e[kSha256At] ^= std::byte{1}; }); }},
    {"Sha384DigestChanged",
     kBoth,
     "sha384 digest",
     {},
     [](Sample& s) { change_event(s, 2, [](Buffer& e) { e[kSha384At + 47] ^= std::byte{1}; }); }},
    {"DigestOfOneBankMissing",
     kBoth,
     "lacks the digest",
     {},
     [](Sample& s) {
         change_event(s, 5, [](Buffer& e) {
             e[8] = std::byte{1};
             e.erase(e.begin() + kSha384At - 2, e.begin() + kSha384At + 48);
         });
     }},
    {"EventTypeChanged",
     {"events"},
     "not of the type",
     {},
     [](Sample& s) { change_event(s, 1, [](Buffer& e) { e[4] = std::byte{4}; }); }},
    {"EventTurnedIntoNoAction",
     kBoth,
     "EV_NO_ACTION",
     {},
     [](Sample& s) { change_event(s, 4, [](Buffer& e) { e[4] = std::byte{3}; }); }},
    {"PaddedLog", {"log"}, "padding", {}, [](Sample& s) { s.log.resize(s.log.size() + 64); }},
    {"SpecIdOfAnotherVersion",
     {"log"},
     "version 3.0",
     {},
     [](Sample& s) { change_event(s, 0, [](Buffer& e) { e[32 + 16 + 4 + 1] = std::byte{3}; }); }},
    {"LogThatLiesForAnotherLaunch",
     {"log"},
     "something else",
     [](Sample& s) {
         s.logged = s.events;
         s.events[3].measured = filler("another kernel");
     }},
};

const std::vector<Row> kEvents{
    launched("AnotherSlb", 0, "not that of the secure loader block"),
    launched("AnotherHypervisor", 1, "not that of the hypervisor"),
    launched("AnotherPolicyBundle", 2, "not that of the policy bundle"),
    launched("AnotherKernel", 3, "not that of the kernel"),
    launched("AnotherInitrd", 4, "not that of the initrd"),
    launched("AnotherCommandLine", 5, "not that of the command line"),
    {"NotCapped", {"events"}, "no event for the cap", [](Sample& s) { s.events.resize(kLaunchCap); }},
    {"MachineNotCapped", {"events"}, "PCR 19: no event for the cap", [](Sample& s) { s.events.pop_back(); }},
    {"CappedWithSomethingElse",
     {"events"},
     "not that of the cap",
     [](Sample& s) { s.events[kPayloadCap].measured = filler("x"); }},
    {"ExtendedAfterTheCap",
     {"events"},
     "one more than expected",
     [](Sample& s) {
         s.events.push_back({17, 6, filler("late"), filler("late")});
     }},
};

const std::vector<Row> kClaims{
    quoted_claims("NoDynamicLaunch", {"claims"}, "no dynamic launch",
                  [](Claims& c) { c.launch = evidence::Launch::kNone; }),
    quoted_claims("ClaimsNotCapped", {"claims"}, "not capped", [](Claims& c) { c.flags = 2; }),
    quoted_claims("VaultNotOpened", {"claims"}, "vault", [](Claims& c) { c.flags = 1; }),
    quoted_claims("NoDisk", {"claims"}, "no disk", [](Claims& c) { c.disk_count = 0; }),
    quoted_claims("NoDiskEncrypted", {"claims"}, "no disk",
                  [](Claims& c) { c.disks[0].state = evidence::DiskState::kAbsent; }),
    quoted_claims("BootDiskBeingEncrypted", {"claims"}, "still being encrypted",
                  [](Claims& c) { c.disks[0].state = evidence::DiskState::kEncrypting; }),
    quoted_claims("BootDiskBeingEncryptedAndAMemberEncrypted", {"claims"}, "still being encrypted",
                  [](Claims& c) { add_member(c).disks[0].state = evidence::DiskState::kEncrypting; }),
    quoted_claims("MemberBeingEncrypted", {"claims"}, "still being encrypted",
                  [](Claims& c) { add_member(c).disks[1].state = evidence::DiskState::kEncrypting; }),
    quoted_claims("AnotherBundleClaimed", {"policy"}, "another one",
                  [](Claims& c) { c.policy_digest[5] ^= std::byte{1}; }),
    quoted_claims("NoIommu", {"iommu"}, "the policy requires one", [](Claims& c) { c.iommu = evidence::Iommu::kNone; }),
    quoted_claims("CounterBelowFloor", {"counter"}, "limit is 6, the floor 7", [](Claims& c) { c.counter_limit = 6; }),
    quoted_claims("HypervisorTooOld", {"version"}, "0.1.1 is older than 0.1.2",
                  [](Claims& c) { c.hypervisor_version = 0x000101; }),
    quoted_claims("AnotherVaultClaimed", {"vault id", "vault pin", "events"}, "in the log is not that of the claims",
                  [](Claims& c) { c.vault_id[0] ^= std::byte{1}; }),
    quoted_claims("OtherFactsClaimed", {"machine", "events"}, "not those of the claims",
                  [](Claims& c) { c.machine.smm_locked = false; }),
    quoted_claims("NobodyPinsTheVault", {"vault pin"}, "nobody pins the vault",
                  [](Claims& c) { c.vault_pin = evidence::VaultPin::kNone; }),
    quoted_claims("RecordClaimedOfAPinnedBundle", {"vault pin"}, "says otherwise",
                  [](Claims& c) { c.vault_pin = evidence::VaultPin::kRecord; }),
    quoted_claims("MachineAcpiClaimedOfAMinimalBundle", {"acpi"}, "says otherwise",
                  [](Claims& c) { c.acpi = evidence::Acpi::kMachine; }),
    quoted_claims("UnknownClaimFlag", kNoClaims, "flags", [](Claims& c) { c.flags = 7; }),
    {"NoIommuThoughTheBundleAllowsIt",
     {"iommu"},
     "the policy requires one",
     [](Sample& s) {
         s.claims.iommu = evidence::Iommu::kNone;
         s.policy.references[0].bundle.flags = 1;
     }},
    {"NoIommuAndTheBundleDoesNotAllowIt",
     {"iommu"},
     "any device",
     [](Sample& s) {
         s.claims.iommu = evidence::Iommu::kNone;
         s.policy.require_iommu = false;
     }},
    {"NoIommuAsPolicyAndBundleAllow",
     {},
     "",
     [](Sample& s) {
         s.claims.iommu = evidence::Iommu::kNone;
         s.policy.require_iommu = false;
         s.policy.references[0].bundle.flags = 1;
     }},
    sent_claims("SentVersionChanged", [](Claims& c) { c.hypervisor_version += 1; }),
    sent_claims("SentLaunchChanged", [](Claims& c) { c.launch = evidence::Launch::kSenter; }),
    sent_claims("SentIommuChanged", [](Claims& c) { c.iommu = evidence::Iommu::kVtd; }),
    sent_claims("SentCpusChanged", [](Claims& c) { c.cpus += 1; }),
    sent_claims("SentKeptBytesChanged", [](Claims& c) { c.kept_bytes += 1; }),
    sent_claims("SentCounterChanged", [](Claims& c) { c.counter_limit += 1; }),
    sent_claims("SentDiskGuidChanged", [](Claims& c) { c.disks[0].guid[0] = std::byte{1}; }),
    sent_claims("SentKeyEpochChanged", [](Claims& c) { c.disks[0].key_epoch += 1; }),
    sent_claims("SentDiskAdded", [](Claims& c) { c.disk_count = 2; }),
    {"ClaimsOfAnotherBoot",
     {"nonce"},
     "these claims",
     {},
     [](Sample& s) {
         Sample other = Sample::of_hypervisor();
         other.claims.kept_bytes += 4096;
         other.seal();
         s.encoded_claims = other.encoded_claims;
     }},
    {"ClaimsMovedIntoTheNonce",
     {"claims", "nonce", "policy", "iommu", "counter", "version", "vault id", "vault pin", "vault", "machine", "acpi"},
     "bad magic",
     {},
     [](Sample& s) {
         s.nonce.push_back(s.encoded_claims.front());
         s.encoded_claims.erase(s.encoded_claims.begin());
     }},
    {"ClaimsMissing",
     {"nonce", "claims", "policy", "iommu", "counter", "version", "vault id", "vault pin", "vault", "machine", "acpi"},
     "these claims",
     {},
     [](Sample& s) { s.encoded_claims.clear(); }},
};

const std::vector<Row> kPolicy{
    {"NoPolicy",
     {"reference", "source", "events", "policy", "counter", "version"},
     "nothing is accepted",
     {},
     [](Sample& s) { s.with_policy = false; }},
    {"EmptyPolicy",
     {"reference", "events", "policy"},
     "expects nothing",
     {},
     [](Sample& s) { s.policy.references.clear(); }},
    {"PolicyOfTheOtherSource",
     {"source", "events", "policy"},
     "wants a tpm",
     {},
     [](Sample& s) {
         const Policy other = Sample::of_tpm().policy;
         s.policy.source = other.source;
         s.policy.pcrs = other.pcrs;
         s.policy.references.clear();
     }},
    {"ClaimedSrkIsNoName",
     {"signer"},
     "SRK",
     [](Sample& s) {
         s.policy.own_storage_root = true;
         s.srk_name = test::some_name("another SRK");
         s.claims.storage_root.fill(std::byte{0xff});
     }},
    {"OneOfSeveralReferences",
     {},
     "",
     {},
     [](Sample& s) {
         policies::Prediction other = test::launch_reference();
         other.events[1].digests[1].storage[0] ^= std::byte{1};
         other.bundle.srk_name = test::some_name("another SRK");
         s.policy.references.insert(s.policy.references.begin(), other);
     }},
    {"NoneOfSeveralReferences",
     {"events"},
     "closest of 2",
     [](Sample& s) {
         s.policy.references.push_back(test::launch_reference());
         s.policy.references[0].events[0].digests[1].storage[0] ^= std::byte{1};
         s.events[4].measured = filler("another initrd");
     }},
    {"HalfOfEachOfTwoReferences",
     {"events"},
     "sha256 digest",
     {},
     [](Sample& s) {
         s.policy.references.push_back(test::launch_reference());
         s.policy.references[0].events[0].digests[1].storage[0] ^= std::byte{1};
         s.policy.references[1].events[4].digests[1].storage[0] ^= std::byte{1};
     }},
};

Row vault_row(const char* name, const char* word, void (*change)(VaultState&)) {
    return {name, {"vault"}, word, {}, [change](Sample& s) {
                s.remember();
                s.known.vaults = {{s.claims.disks[0].sealed_name, s.claims.disks[0].generation}};
                change(s.known.vaults[0]);
            }};
}
const std::vector<Row> kVault{
    vault_row("VaultOfAnotherSecret", "not the endpoint's", [](VaultState& v) { v.sealed_name[3] ^= std::byte{1}; }),
    vault_row("VaultRolledBack", "went back", [](VaultState& v) { v.generation += 1; }),
    {"VaultOfADiskBeingEncryptedRolledBack",
     {"claims", "vault"},
     "still being encrypted",
     [](Sample& s) { s.claims.disks[0].state = evidence::DiskState::kEncrypting; },
     [](Sample& s) {
         s.remember();
         s.known.vaults = {{s.claims.disks[0].sealed_name, s.claims.disks[0].generation + 1}};
     }},
    {"VaultGrown",
     {},
     "",
     {},
     [](Sample& s) {
         s.remember();
         s.known.vaults = {{s.claims.disks[0].sealed_name, s.claims.disks[0].generation - 1}};
     }},
};

Row by_policy(const char* name, std::vector<std::string> rules, const char* word, void (*change)(Sample&)) {
    return {name, std::move(rules), word, {}, [change](Sample& s) { change(s); }};
}
// The same machine, remembered with one fact changed.
void remember_machine(Sample& s, void (*change)(EndpointIdentity&)) {
    s.remember();
    s.known.identity = EndpointIdentity{.vault_id = s.claims.vault_id,
                                        .vault_pin = s.claims.vault_pin,
                                        .acpi = s.claims.acpi,
                                        .machine = s.claims.machine};
    change(*s.known.identity);
}
const std::vector<Row> kEndpoint{
    by_policy("VaultThatThePolicyPins", {}, "",
              [](Sample& s) {
                  s.policy.vault_ids = {sha256(filler("no")), s.claims.vault_id};
              }),
    by_policy("VaultThatThePolicyDoesNotPin", {"vault pin"}, "not one that the policy pins",
              [](Sample& s) { s.policy.vault_ids = {sha256(filler("no"))}; }),
    {"UnpinnedAsThePolicyAllows",
     {},
     "",
     [](Sample& s) {
         s.claims.vault_pin = evidence::VaultPin::kNone;
         s.policy.allow_unpinned_vault = true;
     }},
    by_policy("VaultOfAnotherEnrollment", {"vault pin"}, "when it was first accepted",
              [](Sample& s) { remember_machine(s, [](auto& known) { known.vault_id[0] ^= std::byte{1}; }); }),
    by_policy("MachineAsFirstAccepted", {}, "", [](Sample& s) { remember_machine(s, [](auto&) {}); }),
    by_policy("MachineChanged", {"machine"}, "microcode 0x0a20102b was 0x0a20102a",
              [](Sample& s) { remember_machine(s, [](auto& known) { known.machine.microcode -= 1; }); }),
    by_policy("MachineChangedAsThePolicyApproves", {}, "",
              [](Sample& s) {
                  remember_machine(s, [](auto& known) { known.machine.microcode -= 1; });
                  s.policy.machine_models = {test::sample_model()};
              }),
    by_policy("MicrocodeTooOld", {"machine"}, "is older than 0x0a20102c",
              [](Sample& s) { s.policy.minimum_microcode[0x00a20f10] = 0x0a20102c; }),
    by_policy("ProcessorNotListed", {"machine"}, "not one that the policy lists",
              [](Sample& s) { s.policy.minimum_microcode[0x00a20f11] = 0; }),
    by_policy("TooFewIommus", {"machine"}, "1 IOMMU, and the policy requires 2",
              [](Sample& s) { s.policy.minimum_iommus = 2; }),
    {"SmmNotLocked",
     {"machine"},
     "SMM is not locked",
     [](Sample& s) {
         s.claims.machine.smm_locked = false;
         s.events[kMachineEvent].measured.resize(evidence::kMaxMachineFactsSize);
         s.events[kMachineEvent].measured.resize(
             *evidence::encode_machine_facts(s.claims.machine, s.events[kMachineEvent].measured));
         s.policy.require_smm_lock = true;
     }},
    {"MachineOfNoApprovedModel",
     {"machine", "events"},
     "those of the claims",
     [](Sample& s) { s.events[kMachineEvent].measured = filler("another machine"); }},
    by_policy("MinimalThoughThePolicyWantsMachine", {"acpi"}, "the policy wants machine",
              [](Sample& s) { s.policy.acpi = evidence::Acpi::kMachine; }),
    {"TableThoughAcpiIsMinimal",
     {"events"},
     "not of the type of the cap",
     [](Sample& s) { s.events.insert(s.events.begin() + kVaultEvent, test::table_event("ACPI DSDT X", filler("d"))); }},
};

// Two tables of the machine's, and the model that has them.
Row with_tables(const char* name, std::vector<std::string> rules, const char* word, void (*change)(Sample&)) {
    return {name, std::move(rules), word, [change](Sample& s) {
                const std::vector<test::SampleEvent> tables{test::table_event("ACPI FACP BOARD", filler("facp")),
                                                            test::table_event("ACPI DSDT BOARD", filler("dsdt"))};
                s.events.insert(s.events.begin() + kVaultEvent, tables.begin(), tables.end());
                s.claims.acpi = evidence::Acpi::kMachine;
                s.policy.references[0].bundle.flags = 2;
                s.policy.machine_models = {test::sample_model(), test::sample_model(tables)};
                change(s);
            }};
}
const std::vector<Row> kTables{
    with_tables("TablesOfTheModel", {}, "", [](Sample&) {}),
    with_tables("OneTableDiffers", {"acpi"}, "ACPI DSDT BOARD differs",
                [](Sample& s) { s.events[kVaultEvent + 1].measured = filler("forged"); }),
    with_tables("OneTableMore", {"acpi"}, "ACPI SSDT EVIL is a table that the approved machine model does not have",
                [](Sample& s) {
                    s.events.insert(s.events.begin() + kVaultEvent,
                                    test::table_event("ACPI SSDT EVIL", filler("evil")));
                }),
    with_tables("OneTableMissing", {"acpi"}, "ACPI FACP BOARD of the approved machine model is missing",
                [](Sample& s) { s.events.erase(s.events.begin() + kVaultEvent); }),
    with_tables("TablesInAnotherOrder", {"acpi"}, "another order",
                [](Sample& s) { std::swap(s.events[kVaultEvent], s.events[kVaultEvent + 1]); }),
    with_tables("OneTableRenamed", {"acpi"}, "ACPI DSDT OTHER is a table that the approved machine model does not have",
                [](Sample& s) {
                    test::SampleEvent& table = s.events[kVaultEvent + 1];
                    table = test::table_event("ACPI DSDT OTHER", table.measured);
                }),
    with_tables("TwoTablesExchangeNames", {"acpi"},
                "ACPI DSDT BOARD is a table that the approved machine model does not have",
                [](Sample& s) { std::swap(s.events[kVaultEvent].data, s.events[kVaultEvent + 1].data); }),
    with_tables("TablesAndNoModel", {"acpi"}, "approves no machine model",
                [](Sample& s) { s.policy.machine_models.clear(); }),
};

Row sent_log(const char* name, std::vector<std::string> rules, const char* word, std::function<void(Sample&)> change) {
    return {name, std::move(rules), word, {}, std::move(change)};
}
const std::vector<Row> kForms{
    sent_log("LogOfZeros", kNothing, "no event in it", [](Sample& s) { s.log.assign(s.log.size(), std::byte{0}); }),
    sent_log("LogHeaderAlone", kNothing, "no event in it",
             [](Sample& s) { s.log.resize(test::split_log(s.log)[0].size()); }),
    sent_log("LogTwice", kBoth, "event",
             [](Sample& s) {
                 const Buffer again = s.log;
                 s.log.insert(s.log.end(), again.begin(), again.end());
             }),
    sent_log("LogPaddedWithOnes", {"log"}, "padding",
             [](Sample& s) { s.log.resize(s.log.size() + 64, std::byte{0xff}); }),
    sent_log("FirstEventTwice", kBoth, "event 2",
             [](Sample& s) {
                 std::vector<Buffer> parts = test::split_log(s.log);
                 parts.insert(parts.begin() + 1, parts[1]);
                 s.log = test::join_log(parts);
             }),
    sent_log("SlbAfterTheHypervisor", kBoth, "not that of the secure loader block",
             [](Sample& s) {
                 std::vector<Buffer> parts = test::split_log(s.log);
                 std::swap(parts[1], parts[2]);
                 s.log = test::join_log(parts);
             }),
    sent_log("EventMovedToAnotherLaunchPcr", kBoth, "event 4",
             [](Sample& s) { change_event(s, 4, [](Buffer& e) { e[0] = std::byte{17}; }); }),
    sent_log("EventMovedToAFirmwaresPcr", kBoth, "not as the hypervisor writes it",
             [](Sample& s) { change_event(s, 4, [](Buffer& e) { e[0] = std::byte{4}; }); }),
    sent_log("EventOfAFirmwareBefore", kBoth, "not as the hypervisor writes it",
             [](Sample& s) {
                 std::vector<Buffer> parts = test::split_log(s.log);
                 parts.insert(parts.begin() + 1, parts[1]);
                 parts[1][0] = std::byte{0};
                 s.log = test::join_log(parts);
             }),
};
INSTANTIATE_TEST_SUITE_P(Forms, LaunchMatrix, testing::ValuesIn(kForms), row_name);

INSTANTIATE_TEST_SUITE_P(Endpoint, LaunchMatrix, testing::ValuesIn(kEndpoint), row_name);
INSTANTIATE_TEST_SUITE_P(Tables, LaunchMatrix, testing::ValuesIn(kTables), row_name);
INSTANTIATE_TEST_SUITE_P(Log, LaunchMatrix, testing::ValuesIn(kLog), row_name);
INSTANTIATE_TEST_SUITE_P(Events, LaunchMatrix, testing::ValuesIn(kEvents), row_name);
INSTANTIATE_TEST_SUITE_P(Claims, LaunchMatrix, testing::ValuesIn(kClaims), row_name);
INSTANTIATE_TEST_SUITE_P(Vault, LaunchMatrix, testing::ValuesIn(kVault), row_name);
INSTANTIATE_TEST_SUITE_P(Policy, LaunchMatrix, testing::ValuesIn(kPolicy), row_name);

TEST(LaunchViews, ShowTheFailingEventAndBothValuesOfItsPcr) {
    Sample sample = Sample::of_hypervisor();
    sample.events[3].measured = filler("another kernel");
    sample.seal();
    const Verdict verdict = sample.judge();
    ASSERT_EQ(verdict.events.size(), 11u);
    for (const Verdict::EventView& event : verdict.events) EXPECT_EQ(event.ok, event.number != 4) << event.number;
    EXPECT_EQ(verdict.events[3].name, "kernel");
    ASSERT_EQ(verdict.pcrs.size(), 3u);
    EXPECT_EQ(verdict.pcrs[0].expected, verdict.pcrs[0].found);
    EXPECT_NE(verdict.pcrs[1].expected, verdict.pcrs[1].found);
    EXPECT_EQ(verdict.pcrs[1].found.size(), 64u);
}

TEST(LaunchViews, SayWhatTheReferenceVouchesFor) {
    Sample sample = Sample::of_hypervisor();
    sample.events[3].measured = filler("another kernel");
    sample.seal();
    Verdict verdict = sample.judge();
    for (const auto& event : verdict.events)
        EXPECT_EQ(event.hashed, event.number == 4 ? "elsewhere" : "as expected") << event.number;
    change_event(sample, 1, [](Buffer& e) { e[kSha256At] ^= std::byte{1}; });
    verdict = sample.judge();
    for (const auto& event : verdict.events) EXPECT_EQ(event.hashed, "not quoted") << event.number;
    sample.with_policy = false;
    EXPECT_EQ(sample.judge().events.front().hashed, "elsewhere");
}

TEST(LaunchViews, AreThereOnlyIfAskedForWhereAllIsWell) {
    Sample sample = Sample::of_hypervisor();
    sample.seal();
    EXPECT_TRUE(sample.judge(false).events.empty());
    EXPECT_TRUE(sample.judge(false).pcrs.empty());
    EXPECT_EQ(sample.judge(true).events.size(), 11u);
    EXPECT_EQ(sample.judge(true).pcrs.size(), 3u);
}

TEST(LaunchCoverage, CountsWhatWasCompared) {
    Sample sample = Sample::of_hypervisor();
    sample.seal();
    const Coverage coverage = sample.judge().coverage;
    EXPECT_EQ(coverage.events, 11u);
    EXPECT_EQ(coverage.events_judged, 11u);
    EXPECT_EQ(coverage.pcrs, 6u);
    EXPECT_EQ(coverage.pcrs_judged, 6u);
    sample.with_policy = false;
    EXPECT_EQ(sample.judge().coverage.events_judged, 0u);
    EXPECT_EQ(sample.judge().coverage.pcrs_judged, 0u);
}

}  // namespace
}  // namespace gatehouse::verifier
