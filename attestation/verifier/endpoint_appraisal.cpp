// Evidence of a measured hypervisor: whose vault it opened, on which machine, with whose ACPI tables.
#include <algorithm>
#include <cstdio>

#include "attestation/evidence_reader/launch_log_reader.hpp"
#include "attestation/verifier/appraisal_case.hpp"

namespace gatehouse::verifier {
namespace {

using evidence::Acpi;
using evidence::Claims;
using evidence::DiskClaim;
using evidence::MachineFacts;
using evidence::VaultPin;
using policies::MachineModel;

constexpr HashAlgorithm kBank = HashAlgorithm::kSha256;  // always quoted: the rule "selection"
constexpr const char* kNoClaims = "no claims to judge";
constexpr const char* kIfMeant = "; if that is meant, retire the endpoint, enroll again, and approve it";

std::string register_text(std::uint32_t value) {
    std::array<char, 16> text{};
    std::snprintf(text.data(), text.size(), "0x%08x", value);
    return text.data();
}

std::string count_text(std::size_t count, const char* what) {
    return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

std::span<const DiskClaim> disks_of(const Claims& claims) { return std::span(claims.disks).first(claims.disk_count); }
// Also while the disk is being encrypted, which the rule "claims" refuses.
bool has_vault(const DiskClaim& disk) { return disk.state != evidence::DiskState::kAbsent; }

// The SHA-256 digest that the log has for a measurement; empty if there is none.
Bytes logged_digest(const EventLog& log, const evidence::Measurement& measurement) {
    for (const LogEvent& event : log.events) {
        if (event.pcr != measurement.pcr || event.type != LogEventType::kEventTag || event.data.size() < 4) continue;
        if (load<std::uint32_t>(event.data.data(), Endian::kLittle) == static_cast<std::uint32_t>(measurement.tag))
            return event.digest(kBank);
    }
    return {};
}

Buffer encoded_facts(const MachineFacts& facts) {
    Buffer bytes(evidence::kMaxMachineFactsSize);
    bytes.resize(host::expect(evidence::encode_machine_facts(facts, bytes), "machine facts"));
    return bytes;
}

void judge_vault_id(Case& on) {
    if (!on.verdict.claims) return on.fail("vault id", kNoClaims);
    const Sha256Digest& id = on.verdict.claims->vault_id;
    const Bytes logged = logged_digest(on.log, evidence::kVaultMeasurement);
    std::string why;
    if (logged.empty()) {
        why = "the log has no vault identity: no vault was opened";
    } else if (!equal_bytes(logged, sha256(id))) {
        why = "the vault identity in the log is not that of the claims, " + host::hex(id);
    }
    on.judge("vault id", std::move(why), host::hex(id));
}

const char* pin_text(VaultPin pin) {
    switch (pin) {
        case VaultPin::kNone: return "nobody";
        case VaultPin::kBundle: return "the policy bundle";
        case VaultPin::kRecord: return "the endpoint's record";
    }
    return "?";
}

void judge_vault_pin(Case& on, const Match& match) {
    if (!on.verdict.claims) return on.fail("vault pin", kNoClaims);
    const Claims& claims = *on.verdict.claims;
    const std::string vault = "vault " + host::hex(claims.vault_id);
    std::string why;
    std::string& by = on.verdict.vault_pinned_by;
    const auto pinned = [&](const char* who, bool same, const std::string& difference) {
        if (by.empty()) by = who;
        if (why.empty() && !same) why = difference;
    };
    const bool unpinned = claims.vault_pin == VaultPin::kNone;
    if (unpinned && (on.policy == nullptr || !on.policy->allow_unpinned_vault)) {
        why = "nobody pins the vault: neither bundle nor record, and the policy does not allow that";
    } else if (match.reference != nullptr && !unpinned &&
               match.reference->bundle.is_fleet() != (claims.vault_pin == VaultPin::kRecord)) {
        why = std::string("the claims say that ") + pin_text(claims.vault_pin) +
              " pins the vault, the policy bundle says otherwise";
    }
    if (on.policy != nullptr && !on.policy->vault_ids.empty()) {
        const bool listed = std::ranges::find(on.policy->vault_ids, claims.vault_id) != on.policy->vault_ids.end();
        pinned("policy", listed, vault + " is not one that the policy pins");
    }
    // Where each endpoint has a bundle of its own, that bundle's word is the endpoint's.
    if (match.reference != nullptr && !on.policy->own_storage_root && !match.reference->bundle.vault_id.empty()) {
        const Bytes expected = match.reference->bundle.vault_id;
        pinned("image", equal_bytes(claims.vault_id, expected),
               vault + " is not " + host::hex(expected) + ", which the policy bundle pins");
    }
    if (on.known.identity) {
        const Sha256Digest& first = on.known.identity->vault_id;
        pinned(
            "enrollment", claims.vault_id == first,
            vault + " is not the endpoint's, which was " + host::hex(first) + " when it was first accepted" + kIfMeant);
        if (why.empty() && on.known.identity->vault_pin != VaultPin::kNone && unpinned)
            why = std::string("nobody pins the vault any more: it was ") + pin_text(on.known.identity->vault_pin);
    }
    on.judge("vault pin", std::move(why),
             std::string("pinned by ") + pin_text(claims.vault_pin) +
                 (by.empty() ? "; whose it is, nothing here says" : "; whose it is, says the " + by));
}

// The vault of a disk among those that are known.
template <typename Vaults>
auto known_vault(Vaults& known, const DiskClaim& disk) {
    const bool member = disk.sealed_name == decltype(disk.sealed_name){};
    return std::ranges::find_if(known, [&](const VaultState& one) {
        return one.sealed_name == disk.sealed_name && (!member || one.disk == disk.guid);
    });
}

// What is wrong with a disk's vault, if anything. A member that was not seen before is one that the boot
// vault's header lists: as good as that.
std::string vault_went_wrong(const DiskClaim& disk, const std::vector<VaultState>& known) {
    const auto own = known_vault(known, disk);
    if (own == known.end()) {
        if (disk.sealed_name == decltype(disk.sealed_name){}) return {};
        return "the vault of disk " + host::guid_text(disk.guid) +
               " is not the endpoint's: its secret was sealed anew, or by somebody else" + kIfMeant;
    }
    if (disk.generation < own->generation)
        return "the vault of disk " + host::guid_text(disk.guid) + " went back from generation " +
               std::to_string(own->generation) + " to " + std::to_string(disk.generation);
    return {};
}

void judge_vault(Case& on) {
    if (!on.verdict.claims) return on.fail("vault", kNoClaims);
    if (on.known.vaults.empty()) return on.hold("vault", "the first that is seen");
    std::string why;
    std::string found;
    for (const DiskClaim& disk : disks_of(*on.verdict.claims)) {
        if (!has_vault(disk)) continue;
        if (why.empty()) why = vault_went_wrong(disk, on.known.vaults);
        found += (found.empty() ? "generation " : ", ") + std::to_string(disk.generation);
    }
    on.judge("vault", std::move(why), std::move(found));
}

std::string facts_text(const MachineFacts& facts) {
    return "processor " + register_text(facts.processor_signature) + ", microcode " + register_text(facts.microcode) +
           ", SMM " + (facts.smm_locked ? "locked" : "not locked") + ", " + count_text(facts.processors, "processor") +
           ", " + count_text(facts.iommu_count, "IOMMU");
}

// What the policy's minimums refuse, if anything.
std::string below_minimum(const MachineFacts& facts, const Policy& policy) {
    if (!policy.minimum_microcode.empty()) {
        const auto least = policy.minimum_microcode.find(facts.processor_signature);
        if (least == policy.minimum_microcode.end())
            return "processor " + register_text(facts.processor_signature) + " is not one that the policy lists";
        if (facts.microcode < least->second) {
            return "microcode " + register_text(facts.microcode) + " of processor " +
                   register_text(facts.processor_signature) + " is older than " + register_text(least->second);
        }
    }
    if (policy.require_smm_lock && !facts.smm_locked) return "SMM is not locked";
    if (facts.iommu_count < policy.minimum_iommus) {
        return count_text(facts.iommu_count, "IOMMU") + ", and the policy requires " +
               std::to_string(policy.minimum_iommus);
    }
    return {};
}

// Which facts are not those of another machine, in words.
std::string facts_difference(const MachineFacts& now, const MachineFacts& then) {
    std::string text;
    const auto differ = [&](const char* what, const std::string& one, const std::string& other) {
        if (one != other) text += (text.empty() ? "" : ", ") + std::string(what) + " " + one + " was " + other;
    };
    differ("processor", register_text(now.processor_signature), register_text(then.processor_signature));
    differ("microcode", register_text(now.microcode), register_text(then.microcode));
    differ("SMM lock", now.smm_locked ? "set" : "open", then.smm_locked ? "set" : "open");
    differ("processors", std::to_string(now.processors), std::to_string(then.processors));
    if (now.iommu_count != then.iommu_count) {
        differ("IOMMUs", std::to_string(now.iommu_count), std::to_string(then.iommu_count));
    } else if (!std::ranges::equal(now.all_iommus(), then.all_iommus())) {
        text += (text.empty() ? "" : ", ") + std::string("an IOMMU at another place");
    }
    return text;
}

// Whether a table is one of the model's, and called so: no digest covers the name that people are shown.
bool is_the_models(const LogEvent& event, const policies::ModelEvent& table) {
    Reader data(event.data);
    const std::uint32_t tag = data.u32();
    const std::string name = policies::printable_text(data.bytes(data.u32()));
    return data.finished("tagged event").ok() && tag == table.tag && name == table.name &&
           equal_bytes(table.digest(kBank), event.digest(kBank));
}

// Tables that the log has and the model has not, and the other way about.
std::vector<Verdict::TableView> compare_tables(const Case& on, const MachineModel* model) {
    std::vector<Verdict::TableView> views;
    std::vector<bool> used(model == nullptr ? 0 : model->events.size(), false);
    for (const LogEvent& event : on.log.events) {
        if (!is_acpi_table(event)) continue;
        bool ok = false;
        for (std::size_t i = 1; i < used.size() && !ok; ++i) {
            ok = !used[i] && is_the_models(event, model->events[i]);
            if (ok) used[i] = true;
        }
        views.push_back({event_text(event), ok, true});
    }
    for (std::size_t i = 1; i < used.size(); ++i) {
        if (!used[i]) views.push_back({model->events[i].name, false, false});
    }
    return views;
}

bool has_facts(const MachineModel& model, const MachineFacts& facts) {
    return equal_bytes(model.events.front().digest(kBank), sha256(encoded_facts(facts)));
}

// The approved model that the machine is closest to: by its facts, then by tables that are the same, then by those that
// are not; null without models.
const MachineModel* closest_model(const Case& on) {
    if (on.policy == nullptr || !on.verdict.claims) return nullptr;
    const MachineModel* closest = nullptr;
    std::array<std::ptrdiff_t, 3> best{};
    for (const MachineModel& model : on.policy->machine_models) {
        std::array<std::ptrdiff_t, 3> likeness{has_facts(model, on.verdict.claims->machine) ? 1 : 0, 0, 0};
        if (on.verdict.claims->acpi == Acpi::kMachine) {
            const std::vector<Verdict::TableView> tables = compare_tables(on, &model);
            likeness[1] = std::ranges::count(tables, true, &Verdict::TableView::ok);
            likeness[2] = -std::ranges::count(tables, false, &Verdict::TableView::ok);
        }
        if (closest != nullptr && likeness <= best) continue;
        best = likeness;
        closest = &model;
    }
    return closest;
}

std::string machine_went_wrong(const Case& on, const MachineModel* model) {
    const MachineFacts& facts = on.verdict.claims->machine;
    const Bytes logged = logged_digest(on.log, evidence::kMachineMeasurement);
    if (logged.empty()) return "the log has no machine facts";
    if (!equal_bytes(logged, sha256(encoded_facts(facts))))
        return "the machine facts in the log are not those of the claims";
    if (on.policy != nullptr) {
        if (std::string why = below_minimum(facts, *on.policy); !why.empty()) return why;
    }
    if (model != nullptr) {
        return has_facts(*model, facts) ? "" : "the machine is not of an approved model: " + facts_text(facts);
    }
    if (!on.known.identity) return {};
    const std::string difference = facts_difference(facts, on.known.identity->machine);
    return difference.empty() ? ""
                              : "the machine is not as it was first accepted: " + difference +
                                    "; if that is meant, approve its model in the policy";
}

void judge_machine(Case& on, const MachineModel* model) {
    if (!on.verdict.claims) return on.fail("machine", kNoClaims);
    on.judge("machine", machine_went_wrong(on, model), facts_text(on.verdict.claims->machine));
}

const char* acpi_text(Acpi acpi) { return acpi == Acpi::kMachine ? "machine" : "minimal"; }

// Of tables in the log that the model lacks, and those of the model that are not in the log, one with the same name on
// both sides differs.
std::string table_difference(const std::vector<Verdict::TableView>& tables) {
    for (const auto& table : tables) {
        if (table.ok || !table.logged) continue;
        const bool in_model =
            std::ranges::any_of(tables, [&](const auto& other) { return !other.logged && other.name == table.name; });
        return table.name + (in_model ? " differs from that of the approved machine model"
                                      : " is a table that the approved machine model does not have");
    }
    for (const auto& table : tables) {
        if (!table.ok) return table.name + " of the approved machine model is missing";
    }
    return {};
}

std::string tables_went_wrong(const Case& on, const MachineModel* model) {
    if (model == nullptr) return "the guest has the machine's ACPI tables, and the policy approves no machine model";
    if (std::string why = table_difference(on.verdict.tables); !why.empty()) return why;
    std::size_t next = 1;
    for (const LogEvent& event : on.log.events) {
        if (is_acpi_table(event) && !equal_bytes(event.digest(kBank), model->events[next++].digest(kBank)))
            return "the ACPI tables of the approved machine model are in another order";
    }
    return {};
}

std::string acpi_went_wrong(const Case& on, const Match& match, const MachineModel* model) {
    const Acpi acpi = on.verdict.claims->acpi;
    if (match.reference != nullptr &&
        match.reference->bundle.has(policies::BundleFlag::kMachineAcpi) != (acpi == Acpi::kMachine))
        return std::string("the claims say ") + acpi_text(acpi) + ", the policy bundle says otherwise";
    if (on.policy != nullptr && on.policy->acpi && *on.policy->acpi != acpi)
        return std::string(acpi_text(acpi)) + ", and the policy wants " + acpi_text(*on.policy->acpi);
    return acpi == Acpi::kMachine ? tables_went_wrong(on, model) : "";
}

void judge_acpi(Case& on, const Match& match, const MachineModel* model) {
    if (!on.verdict.claims) return on.fail("acpi", kNoClaims);
    const bool machine = on.verdict.claims->acpi == Acpi::kMachine;
    if (machine) {
        on.verdict.tables = compare_tables(on, model);
        std::size_t table = 0;
        for (std::size_t i = 0; i < on.log.events.size(); ++i) {
            if (is_acpi_table(on.log.events[i]) && !on.verdict.tables[table++].ok) on.event_ok[i] = false;
        }
    }
    on.judge("acpi", acpi_went_wrong(on, match, model),
             machine ? count_text(on.verdict.tables.size(), "table") + " of the machine's, as approved"
                     : std::string("minimal"));
}

}  // namespace

bool is_acpi_table(const LogEvent& event) {
    return event.pcr == evidence::kMachinePcr && event.type == LogEventType::kEventTag && event.data.size() >= 8 &&
           load<std::uint32_t>(event.data.data(), Endian::kLittle) ==
               static_cast<std::uint32_t>(evidence::MeasurementTag::kAcpiTable);
}

std::string expected_machine_value(const Case& on) {
    if (!on.verdict.claims) return {};
    const MachineModel* const model = closest_model(on);
    Digest value{.algorithm = kBank};
    if (on.verdict.claims->acpi == Acpi::kMachine) {
        if (model == nullptr) return {};
        value = model->pcr19(kBank);
    } else {
        const Sha256Digest facts = sha256(encoded_facts(on.verdict.claims->machine));
        value = evidence::extended(kBank, value.bytes(),
                                   model != nullptr ? model->events.front().digest(kBank) : Bytes(facts));
    }
    return host::hex(evidence::extended(kBank, value.bytes(), sha256(evidence::kCapData)).bytes());
}

std::vector<VaultState> vaults_to_remember(const Case& on) {
    std::vector<VaultState> vaults = on.known.vaults;
    for (const DiskClaim& disk : disks_of(*on.verdict.claims)) {
        if (!has_vault(disk)) continue;
        const auto own = known_vault(vaults, disk);
        if (own == vaults.end()) {
            vaults.push_back({disk.sealed_name, disk.generation, disk.guid});
        } else {
            own->generation = std::max(own->generation, disk.generation);
        }
    }
    return vaults;
}

EndpointIdentity identity_to_remember(const Case& on) {
    const Claims& claims = *on.verdict.claims;
    return {.vault_id = claims.vault_id, .vault_pin = claims.vault_pin, .acpi = claims.acpi, .machine = claims.machine};
}

void appraise_endpoint(Case& on, const Match& match) {
    const MachineModel* const model = closest_model(on);
    judge_vault_id(on);
    judge_vault_pin(on, match);
    judge_vault(on);
    judge_machine(on, model);
    judge_acpi(on, match, model);
}

}  // namespace gatehouse::verifier
