// The TPM vendors that are trusted, in the database, and the trust store that they make in each server
// process; and what becomes of endpoints when they change.
#include <chrono>
#include <nlohmann/json.hpp>

#include "attestation/server/database/administration.hpp"
#include "attestation/server/inside.hpp"
#include "attestation/verifier/token.hpp"
#include "attestation/verifier/trust_store.hpp"

namespace gatehouse::server {
namespace {

constexpr unsigned kCheckedAtOnce = 256;
constexpr std::chrono::milliseconds kCheckRound{500};  // of each second: the rest is for house-keeping

nlohmann::json base64_list(const std::vector<Buffer>& all) {
    nlohmann::json out = nlohmann::json::array();
    for (const Buffer& one : all) out.push_back(verifier::base64(one));
    return out;
}

std::vector<Buffer> buffers_of(const nlohmann::json& list) {
    std::vector<Buffer> all;
    for (const std::string one : list) all.push_back(verifier::from_base64(one).value());
    return all;
}

std::string vendor_json(const verifier::Vendor& vendor) {
    return nlohmann::json{{"roots", base64_list(vendor.roots)},
                          {"intermediates", base64_list(vendor.intermediates)},
                          {"revocations", base64_list(vendor.revocations)},
                          {"require_crl", vendor.require_crl}}
        .dump();
}

verifier::Vendor vendor_of(const std::string& name, const std::string& json) {
    const nlohmann::json content = nlohmann::json::parse(json);
    return {name, buffers_of(content.at("roots")), buffers_of(content.at("intermediates")),
            buffers_of(content.at("revocations")), content.value("require_crl", false)};
}

std::string fault_of(const Unchecked& one, const verifier::TrustStore& store) {
    if (one.content.empty()) {
        const bool known = std::ranges::any_of(store.contents().vendors,
                                               [&one](const auto& vendor) { return vendor.name == one.vendor; });
        return known ? "" : one.vendor + " is not trusted any more, and the EK certificate was not kept: enroll again";
    }
    const nlohmann::json content = nlohmann::json::parse(one.content);
    const verifier::EndorsementEvidence evidence{
        verifier::from_base64(content.at("certificate").get<std::string>()).value(),
        buffers_of(content.at("chain")),
        {}};
    return clean_text(verifier::endorsement_fault(evidence, store, one.accepted), 1024);
}

}  // namespace

std::string endorsement_json(Bytes certificate, const std::vector<Buffer>& chain) {
    return nlohmann::json{{"certificate", verifier::base64(certificate)}, {"chain", base64_list(chain)}}.dump();
}

Service::Inside::Trust Service::Inside::trust() {
    const std::int64_t generation = read([](Session& session) { return counter(session, Counter::kVendors); });
    const std::lock_guard lock(trust_mutex);
    if (generation != trust_generation) {
        auto fresh = std::make_shared<verifier::TrustStore>();
        for (const VendorRow& row : read([](Session& session) { return list_vendors(session); }))
            fresh->add(vendor_of(row.name, row.content));
        trust_store = fresh;
        trust_generation = generation;
    }
    return {trust_generation, trust_store};
}

void Service::Inside::check_endorsements() {
    const auto end = std::chrono::steady_clock::now() + kCheckRound;
    while (check_some_endorsements() && std::chrono::steady_clock::now() < end) {}
}

// False if all are checked. Several servers may check the same ones: each result is written once.
bool Service::Inside::check_some_endorsements() {
    const Trust by = trust();
    const std::vector<Unchecked> found =
        read([&](Session& session) { return list_unchecked(session, by.generation, kCheckedAtOnce); });
    if (found.empty()) return false;
    std::vector<std::string> faults;
    faults.reserve(found.size());
    for (const Unchecked& one : found) faults.push_back(fault_of(one, *by.store));
    database->write([&](Session& session) {
        std::vector<AuditNote> notes;
        std::vector<StateChange> changes;
        for (std::size_t i = 0; i < found.size(); ++i) {
            const Unchecked& one = found[i];
            const std::string& fault = faults[i];
            if (!set_checked(session, one, by.generation, fault, now()) || fault == one.fault) continue;
            const nlohmann::json detail{{"fault", fault}};
            notes.push_back({"system", "endpoint.endorsement", one.id, detail.dump()});
            if (fault.empty()) continue;
            const EndpointSummary endpoint = find_summary(session, one.id).value();
            if (endpoint.state != State::kTrusted && endpoint.state != State::kUnmeasured) continue;
            const std::string reason = std::string(kEndorsementRule) + ": " + fault;
            leave_state(session, one.id, State::kUntrusted, now(), reason);
            changes.push_back({one.id, endpoint.hostname, endpoint.group, endpoint.state, State::kUntrusted, reason,
                               endpoint.policy});
        }
        // After all rows are locked: the audit log's lock comes last (see append_audit()).
        for (const AuditNote& note : notes) append_audit(session, now(), note);
        for (const StateChange& change : changes) record_change(session, change, "system");
    });
    return true;
}

std::vector<std::string> Service::add_vendor(const Principal& by, const verifier::Vendor& vendor) {
    demand_role(by, Role::kAdmin);
    if (vendor.name.empty() || clean_text(vendor.name, 128) != vendor.name ||
        vendor.name.find('/') != std::string::npos)
        throw ServiceError(400, "name", "vendor name: must be 1 to 128 bytes of UTF-8, without a slash");
    std::vector<std::string> passed_over;
    try {
        verifier::TrustStore trial;
        passed_over = trial.add(vendor);
    } catch (const host::ToolError& error) {
        throw ServiceError(422, "vendor", error.what());
    }
    const nlohmann::json detail{{"roots", vendor.roots.size()},
                                {"intermediates", vendor.intermediates.size()},
                                {"revocations", vendor.revocations.size()},
                                {"passed_over", passed_over.size()}};
    inside_->write({by.name, "vendor.add", vendor.name, detail.dump()}, [&](Session& session) {
        put_vendor(session, {vendor.name, vendor_json(vendor)});
        count_up(session, Counter::kVendors);
    });
    return passed_over;
}

void Service::remove_vendor(const Principal& by, const std::string& name) {
    demand_role(by, Role::kAdmin);
    inside_->write({by.name, "vendor.remove", clean_text(name, 128)}, [&](Session& session) {
        if (!server::remove_vendor(session, name)) not_found("vendor \"" + clean_text(name, 128) + "\"");
        count_up(session, Counter::kVendors);
    });
}

std::vector<std::string> Service::vendors(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    return inside_->read([](Session& session) { return list_vendor_names(session); });
}

}  // namespace gatehouse::server
