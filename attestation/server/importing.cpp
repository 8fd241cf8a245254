// A collection of vendors' CAs joined to the vendors that are trusted.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "attestation/server/database/administration.hpp"
#include "attestation/server/inside.hpp"
#include "attestation/verifier/ek_certificate.hpp"

namespace gatehouse::server {
namespace {

using verifier::Vendor;

const char* kind_text(ItemKind kind) {
    return kind == ItemKind::kRoot ? "root " : kind == ItemKind::kIntermediate ? "intermediate " : "CRL of ";
}

bool has(const std::vector<Buffer>& all, const Buffer& one) { return std::ranges::find(all, one) != all.end(); }

std::string certificate_name(const Buffer& der) {
    const auto parsed = verifier::parse_certificate(der);
    return parsed.certificate ? verifier::name_text(X509_get_subject_name(parsed.certificate.get())) : "(unreadable)";
}

// One vendor of the collection, joined to what is trusted of it.
class Joining {
  public:
    Joining(const CollectionVendor& from, std::optional<Vendor> present, std::vector<PassedOver>& passed_over)
        : from_(from), present_(std::move(present)), passed_over_(passed_over) {
        if (present_) joined_ = *present_;
        joined_.name = from.name;
        told_.name = from.name;
    }

    // False, and why in what was passed over, if it cannot be trusted.
    bool run(Service::Missing missing) {
        for (const CollectionItem& item : from_.items) {
            if (item.kind != ItemKind::kCrl) add_certificate(item);
        }
        if (present_) look_for_missing(missing);
        try {
            verifier::TrustStore trial;
            Vendor certificates = joined_;
            certificates.revocations.clear();
            (void)trial.add(certificates);
            CrlsOfVendor lists(joined_.revocations, trial);
            for (const CollectionItem& item : from_.items) {
                if (item.kind == ItemKind::kCrl) add_crl(item, trial, lists);
            }
            joined_.revocations = std::move(lists).all();
            (void)trial.add(joined_);
        } catch (const host::ToolError& error) {
            passed_over_.push_back({from_.name, std::string("the whole vendor: ") + error.what()});
            return false;
        }
        told_.roots = joined_.roots.size();
        told_.intermediates = joined_.intermediates.size();
        told_.crls = joined_.revocations.size();
        return true;
    }
    [[nodiscard]] bool changed() const { return !told_.added.empty() || told_.removed != 0; }
    [[nodiscard]] const Vendor& joined() const { return joined_; }
    [[nodiscard]] const Service::ImportedVendor& told() const { return told_; }

  private:
    void pass_over(const CollectionItem& item, const std::string& why) {
        passed_over_.push_back({item.place, item.name + ": " + why});
    }
    void note_added(const CollectionItem& item) {
        told_.added.push_back(kind_text(item.kind) + item.name + " (" + item.place + ")");
    }

    void add_certificate(const CollectionItem& item) {
        // Somebody may have taken for a root what another CA has issued.
        if (has(joined_.roots, item.der) || has(joined_.intermediates, item.der)) return;
        // One that is there stays: endpoints were accepted while it was good.
        if (item.expired) return pass_over(item, "has expired");
        (item.kind == ItemKind::kRoot ? joined_.roots : joined_.intermediates).push_back(item.der);
        note_added(item);
    }

    void add_crl(const CollectionItem& item, const verifier::TrustStore& trial, CrlsOfVendor& lists) {
        if (lists.has(item.der)) return;
        if (verifier::crl_vendors(item.der, trial).empty())
            return pass_over(item, "no certificate of the vendor's has signed this CRL");
        const verifier::CrlFacts facts = verifier::read_crl(item.der, trial);
        if (lists.has_newer(facts)) return pass_over(item, "a newer CRL of this scope is there");
        lists.drop_older(facts);
        lists.add(item.der, facts);
        note_added(item);
    }

    void look_for_missing(Service::Missing missing) {
        const auto gone = [this](const Buffer& der) {
            return std::ranges::none_of(from_.items, [&der](const CollectionItem& item) { return item.der == der; });
        };
        for (auto* group : {&joined_.roots, &joined_.intermediates}) {
            for (const Buffer& der : *group) {
                if (gone(der)) told_.missing.push_back(certificate_name(der));
            }
            if (missing == Service::Missing::kGoes) told_.removed += std::erase_if(*group, gone);
        }
    }

    const CollectionVendor& from_;
    std::optional<Vendor> present_;
    std::vector<PassedOver>& passed_over_;
    Vendor joined_;
    Service::ImportedVendor told_;
};

}  // namespace

Service::Import Service::import_vendors(const Principal& by, const Collection& collection, Missing missing, bool dry) {
    demand_role(by, Role::kAdmin);
    std::int64_t generation = 0;
    std::map<std::string, Vendor> present;
    inside_->database->read([&](Session& session) {
        generation = counter(session, Counter::kVendors);  // first: what changes after it is noticed
        present.clear();
        for (const VendorRow& row : list_vendors(session)) present[row.name] = vendor_of(row.name, row.content);
    });
    Import import;
    import.passed_over = collection.passed_over;
    std::vector<Vendor> write;
    std::vector<AuditNote> notes;
    for (const CollectionVendor& from : collection.vendors) {
        const auto found = present.find(from.name);
        Joining joining(from, found == present.end() ? std::nullopt : std::optional(found->second), import.passed_over);
        if (!joining.run(missing)) continue;
        import.vendors.push_back(joining.told());
        if (!joining.changed()) continue;
        write.push_back(joining.joined());
        const ImportedVendor& told = import.vendors.back();
        const nlohmann::json detail{
            {"imported", true},         {"roots", told.roots},        {"intermediates", told.intermediates},
            {"revocations", told.crls}, {"added", told.added.size()}, {"removed", told.removed}};
        notes.push_back({by.name, "vendor.add", from.name, detail.dump()});
    }
    for (const auto& [name, vendor] : present) {
        if (std::ranges::find(collection.vendors, name, &CollectionVendor::name) == collection.vendors.end())
            import.absent.push_back(name);
    }
    import.changed = !write.empty();
    if (dry || write.empty()) return import;
    inside_->database->write([&](Session& session) {
        if (lock_counter(session, Counter::kVendors) != generation)
            throw ServiceError(409, "changed", "the vendors were changed meanwhile; nothing was imported, do it again");
        count_up(session, Counter::kVendors);
        for (const Vendor& vendor : write) {
            put_vendor(session, {vendor.name, vendor_json(vendor)});
            drop_crl_sources_of(session, vendor.name);
        }
        for (const AuditNote& note : notes) append_audit(session, inside_->now(), note);
    });
    return import;
}

}  // namespace gatehouse::server
