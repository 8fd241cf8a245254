// The TPM vendors that are trusted, in the database, and the trust store that they make in each server
// process.
#include <nlohmann/json.hpp>

#include "attestation/server/inside.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::server {
namespace {

std::string vendor_json(const verifier::Vendor& vendor) {
    const auto list = [](const std::vector<Buffer>& all) {
        nlohmann::json out = nlohmann::json::array();
        for (const Buffer& one : all) out.push_back(verifier::base64(one));
        return out;
    };
    return nlohmann::json{{"roots", list(vendor.roots)},
                          {"intermediates", list(vendor.intermediates)},
                          {"revocations", list(vendor.revocations)}}
        .dump();
}

verifier::Vendor vendor_of(const std::string& name, const std::string& json) {
    const nlohmann::json content = nlohmann::json::parse(json);
    const auto list = [&content](const char* member) {
        std::vector<Buffer> all;
        for (const std::string one : content.at(member)) all.push_back(verifier::from_base64(one).value());
        return all;
    };
    return {name, list("roots"), list("intermediates"), list("revocations")};
}

}  // namespace

std::shared_ptr<const verifier::TrustStore> Service::Inside::trust_store() {
    const std::int64_t generation = read([](Session& session) {
        return session.one("SELECT value FROM settings WHERE name = 'vendors'").value().integer(0);
    });
    const std::lock_guard lock(trust_mutex);
    if (generation != trust_generation) {
        auto fresh = std::make_shared<verifier::TrustStore>();
        const Rows rows =
            read([](Session& session) { return session.query("SELECT name, content FROM vendors"); });
        for (const Row& row : rows) fresh->add(vendor_of(row.text(0), row.text(1)));
        trust = fresh;
        trust_generation = generation;
    }
    return trust;
}

void Service::add_vendor(const Principal& by, const verifier::Vendor& vendor) {
    demand_role(by, Role::kAdmin);
    if (vendor.name.empty() || clean_text(vendor.name, 128) != vendor.name)
        throw ServiceError(400, "name", "vendor name: must be 1 to 128 bytes of UTF-8");
    try {
        verifier::TrustStore trial;
        trial.add(vendor);
    } catch (const host::ToolError& error) {
        throw ServiceError(422, "vendor", error.what());
    }
    const nlohmann::json detail{{"roots", vendor.roots.size()},
                                {"intermediates", vendor.intermediates.size()},
                                {"revocations", vendor.revocations.size()}};
    inside_->write({by.name, "vendor.add", vendor.name, detail.dump()}, [&](Session& session) {
        session.execute(
            "INSERT INTO vendors (name, content) VALUES ($1, $2) "
            "ON CONFLICT (name) DO UPDATE SET content = excluded.content",
            {vendor.name, vendor_json(vendor)});
        session.execute("UPDATE settings SET value = value + 1 WHERE name = 'vendors'");
    });
}

std::vector<std::string> Service::vendors(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    const Rows rows = inside_->read(
        [](Session& session) { return session.query("SELECT name FROM vendors ORDER BY name"); });
    std::vector<std::string> names;
    for (const Row& row : rows) names.push_back(row.text(0));
    return names;
}

}  // namespace gatehouse::server
