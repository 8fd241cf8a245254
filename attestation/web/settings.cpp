// Groups, who signs policies, whose TPMs are trusted, and who is told of changes.
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "attestation/web/parts.hpp"

namespace gatehouse::web {
namespace {

using server::Role;
using server::ServiceError;

Html name_list(const std::vector<std::string>& names, const char* none) {
    if (names.empty()) return piece("<p class=\"quiet\">{}</p>", none);
    Html out;
    out.put("<ul class=\"plain-list\">");
    for (const std::string& name : names) out.put("<li>{}</li>", name);
    return out.put("</ul>");
}

// The same, each with a way to the page that removes it.
Html removable_list(const Context& context, const std::vector<std::string>& names, Url::Pattern path,
                    const char* none) {
    if (names.empty() || !context.may(Role::kAdmin)) return name_list(names, none);
    Html out;
    out.put("<ul class=\"plain-list\">");
    for (const std::string& name : names)
        out.put("<li>{} <a href=\"{}\" aria-label=\"Remove {}\">Remove</a></li>", name, Url(path, name), name);
    return out.put("</ul>");
}

Html removal(Context& context, const char* form, const Url& action, const char* consequence) {
    return piece(
        "<section class=\"card narrow\"><p>{}</p>{}<div class=\"joined\"><button class=\"danger\">Remove</button>"
        "<a class=\"button\" href=\"/settings\">Cancel</a></div></form></section>",
        consequence, open_form(context, form, action));
}

Html groups_card(const Context& context) {
    Html out;
    out.put(
        "<section class=\"card\" aria-labelledby=\"groups\"><h2 id=\"groups\">Groups</h2>"
        "<p class=\"hint\">An endpoint is in one group; policies are assigned to groups.</p><ul class=\"plain-list\">");
    for (const std::string& name : context.service.groups(context.by))
        out.put("<li><a href=\"{}\">{}</a></li>", Url("/endpoints").with("group", name), name);
    out.put("</ul>");
    if (context.may(Role::kOperator)) {
        out.put(
            "{}<label for=\"group-name\">New group</label><div class=\"joined\">"
            "<input id=\"group-name\" name=\"name\" required maxlength=\"64\" value=\"{}\">"
            "<button>Add</button></div></form>",
            open_form(context, "group", Url("/settings/groups")), context.kept("group", "name"));
    }
    return out.put("</section>");
}

Html authorities_card(const Context& context) {
    Html out;
    if (!context.may(Role::kAdmin)) return out;
    return out.put(
        "<section class=\"card\" aria-labelledby=\"authorities\"><h2 id=\"authorities\">Policy authority</h2>"
        "<p class=\"hint\">Whoever holds its private key decides what is trusted. Keep that key off this "
        "server.</p>{}{}<label for=\"authority-name\">Name</label>"
        "<input id=\"authority-name\" name=\"name\" required maxlength=\"64\" value=\"{}\">"
        "<label for=\"authority-key\">Public key (P-256, PEM)</label>"
        "<textarea id=\"authority-key\" name=\"key\" rows=\"5\" required spellcheck=\"false\" "
        "class=\"mono\">{}</textarea><button>Add</button></form></section>",
        removable_list(context, context.service.policy_authorities(context.by), "/settings/authorities/{}/remove",
                       "None: no policy can be added."),
        open_form(context, "authority", Url("/settings/authorities")), context.kept("authority", "name"),
        Lines{context.kept("authority", "key")});
}

Html vendors_card(const Context& context) {
    Html out;
    out.put("<section class=\"card\" aria-labelledby=\"vendors\"><h2 id=\"vendors\">TPM vendors</h2>{}",
            removable_list(context, context.service.vendors(context.by), "/settings/vendors/{}/remove",
                           "None: no EK certificate is trusted, and each enrollment waits for an operator."));
    if (context.may(Role::kAdmin)) {
        out.put(
            "{}<label for=\"vendor-name\">Name</label>"
            "<input id=\"vendor-name\" name=\"name\" required maxlength=\"64\" value=\"{}\">"
            "<label for=\"vendor-roots\">Root certificates (PEM)</label>"
            "<textarea id=\"vendor-roots\" name=\"roots\" rows=\"4\" required spellcheck=\"false\" "
            "class=\"mono\">{}</textarea>"
            "<label for=\"vendor-intermediates\">Intermediate certificates (PEM, if any)</label>"
            "<textarea id=\"vendor-intermediates\" name=\"intermediates\" rows=\"3\" spellcheck=\"false\" "
            "class=\"mono\">{}</textarea><label for=\"vendor-revocations\">CRLs (PEM, if any)</label>"
            "<textarea id=\"vendor-revocations\" name=\"revocations\" rows=\"3\" spellcheck=\"false\" "
            "class=\"mono\">{}</textarea><label>"
            "<input type=\"checkbox\" name=\"require_crl\" value=\"yes\"> Refuse a path that has a CA without a "
            "CRL</label><button>Add or replace</button></form>",
            open_form(context, "vendor", Url("/settings/vendors")), context.kept("vendor", "name"),
            Lines{context.kept("vendor", "roots")}, Lines{context.kept("vendor", "intermediates")},
            Lines{context.kept("vendor", "revocations")});
    }
    return out.put("</section>");
}

std::string joined(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

Html crl_rows(const Context& context, const std::vector<server::Service::Crl>& lists) {
    Html out;
    for (const auto& one : lists) {
        if (!one.fault.empty()) {
            out.put("<tr><td colspan=\"5\">{}: {}</td></tr>", joined(one.vendors), one.fault);
            continue;
        }
        const bool ended = one.next_update != 0 && one.next_update < context.now;
        out.put("<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"{}\">{}</td><td>{}</td></tr>",
                foreign(one.issuer), foreign_or(joined(one.vendors), "nobody that is trusted"),
                moment(one.this_update, context.now), ended ? "error" : "",
                moment(one.next_update, context.now, "not said"),
                one.fetched == 0 ? piece("given") : piece("fetched {}", moment(one.fetched, context.now)));
    }
    return out;
}

Html crl_source_list(const Context& context, const server::Service::Crls& all) {
    Html out;
    if (!all.fetching) return out.put("<p class=\"quiet\">This server fetches none.</p>");
    if (all.sources.empty())
        return out.put("<p class=\"quiet\">No trusted certificate names a place to fetch one.</p>");
    out.put(
        "<details><summary>Where they are fetched</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" "
        "aria-label=\"Sources of CRLs\"><table><thead><tr><th scope=\"col\">URL</th><th scope=\"col\">Named by</th>"
        "<th scope=\"col\">Last good</th><th scope=\"col\">Next</th><th scope=\"col\">Fault</th></tr></thead><tbody>");
    for (const auto& one : all.sources) {
        out.put("<tr><th scope=\"row\">{}</th><td>{} {}</td><td>{}</td><td>{}</td><td>{}</td></tr>", code(one.url),
                server::name_of(one.origin), foreign(one.vendor), moment(one.fetched, context.now),
                moment(one.due, context.now), foreign(one.fault));
    }
    out.put("</tbody></table></div></details>");
    for (const std::string& vendor : all.crowds) {
        out.put("<p class=\"error\">{} names more than its share of them: some are not fetched.</p>", foreign(vendor));
    }
    return out;
}

Html crls_card(const Context& context) {
    const auto all = context.service.crls(context.by);
    Html out;
    out.put("<section class=\"card\" aria-labelledby=\"crls\"><h2 id=\"crls\">CRLs of TPM vendors</h2>");
    if (all.lists.empty()) {
        out.put("<p class=\"quiet\">None: nothing that a vendor has revoked is known.</p>");
    } else {
        out.put(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"CRLs\"><table><thead><tr>"
            "<th scope=\"col\">Issuer</th><th scope=\"col\">Vendor</th><th scope=\"col\">Of</th>"
            "<th scope=\"col\">Good until</th><th scope=\"col\">From</th></tr></thead><tbody>{}</tbody></table></div>",
            crl_rows(context, all.lists));
    }
    return out.put("{}</section>", crl_source_list(context, all));
}

Html action_list(const Context& context) {
    const auto all = context.service.actions(context.by);
    if (all.empty()) return piece("<p class=\"quiet\">Nobody is told.</p>");
    Html out;
    out.put(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Actions\"><table><thead><tr>"
        "<th scope=\"col\">Name</th><th scope=\"col\">Kind</th><th scope=\"col\">Target</th>"
        "<th scope=\"col\">Change</th></tr></thead><tbody>");
    for (const auto& one : all) {
        out.put("<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}<button>Remove</button></form></td></tr>",
                one.name, one.kind, code(one.target),
                open_form(context, "remove-action", Url("/settings/actions/{}/remove", one.name), true));
    }
    return out.put("</tbody></table></div>");
}

Html actions_card(const Context& context) {
    Html out;
    if (!context.may(Role::kAdmin)) return out;
    const std::vector<Choice> kinds{{"webhook", "webhook: POST to a URL, signed"},
                                    {"command", "command: a program in the server's actions directory"}};
    return out.put(
        "<section class=\"card\" aria-labelledby=\"actions\"><h2 id=\"actions\">Told of each change of state</h2>{}{}"
        "<label for=\"action-name\">Name</label>"
        "<input id=\"action-name\" name=\"name\" required maxlength=\"64\" value=\"{}\">"
        "<label for=\"action-kind\">Kind</label><select id=\"action-kind\" name=\"kind\">{}</select>"
        "<label for=\"action-target\">URL or program</label>"
        "<input id=\"action-target\" name=\"target\" required maxlength=\"1024\" value=\"{}\">"
        "<label for=\"action-secret\">Webhook: key of its signature</label>"
        "<input id=\"action-secret\" name=\"secret\" type=\"password\" autocomplete=\"new-password\" "
        "maxlength=\"256\"><button>Add</button></form></section>",
        action_list(context), open_form(context, "action", Url("/settings/actions")), context.kept("action", "name"),
        options(kinds, context.kept("action", "kind")), context.kept("action", "target"));
}

// The PEM blocks of `text`, as DER.
std::vector<host::Buffer> der_blocks(const std::string& text, std::string_view label, const char* item) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> source(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())),
                                                           &BIO_free);
    std::vector<host::Buffer> all;
    char *name = nullptr, *header = nullptr;
    unsigned char* data = nullptr;
    long size = 0;
    while (PEM_read_bio(source.get(), &name, &header, &data, &size) == 1) {
        const bool is_wanted = name == label;
        const auto* bytes = reinterpret_cast<const std::byte*>(data);
        all.emplace_back(bytes, bytes + size);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(data);
        if (!is_wanted)
            throw ServiceError(400, "pem", std::string(item) + ": holds something else than " + std::string(label));
    }
    const bool has_text = text.find_first_not_of(" \t\r\n") != std::string::npos;
    if (has_text && all.empty()) throw ServiceError(400, "pem", std::string(item) + ": is not in PEM");
    return all;
}

}  // namespace

Response settings_page(Context& context) {
    Html out;
    out.put("<div class=\"two even\"><div>{}{}{}</div><div>{}{}", groups_card(context), vendors_card(context),
            crls_card(context), authorities_card(context), actions_card(context));
    out.put(
        "<section class=\"card\" aria-labelledby=\"keys\"><h2 id=\"keys\">Keys of this server</h2><details>"
        "<summary>CA certificate, for agents</summary><pre class=\"wrap\" tabindex=\"0\">{}</pre></details><details>"
        "<summary>Public key of results and revocation lists</summary>"
        "<pre class=\"wrap\" tabindex=\"0\">{}</pre></details></section></div></div>",
        Lines{context.service.ca_certificate()}, Lines{context.service.result_key()});
    return whole_page(context, Section::kSettings, "Settings", out);
}

Response create_group(Context& context) {
    return act(context, "group", settings_page, [&] {
        context.service.create_group(context.by, context.field("name"));
        return Done{Url("/settings"), {"The group " + context.field("name") + " is there.", ""}};
    });
}

Response add_authority(Context& context) {
    return act(context, "authority", settings_page, [&] {
        context.service.add_policy_authority(context.by, context.field("name"), context.field("key"));
        return Done{Url("/settings"),
                    {"Policies that " + context.field("name") + " signs are accepted from now on.", ""}};
    });
}

Response add_vendor(Context& context) {
    return act(context, "vendor", settings_page, [&] {
        verifier::Vendor vendor;
        vendor.name = context.field("name");
        vendor.roots = der_blocks(context.field("roots"), PEM_STRING_X509, "Root certificates");
        vendor.intermediates = der_blocks(context.field("intermediates"), PEM_STRING_X509, "Intermediate certificates");
        vendor.revocations = der_blocks(context.field("revocations"), PEM_STRING_X509_CRL, "CRLs");
        vendor.require_crl = context.field("require_crl") == "yes";
        context.service.add_vendor(context.by, vendor);
        return Done{Url("/settings"), {"TPMs of " + vendor.name + " are trusted from now on.", ""}};
    });
}

Response remove_authority_page(Context& context) {
    const std::string& name = context.parts[0];
    return whole_page(context, Section::kSettings, "Remove the authority " + name,
                      removal(context, "remove-authority", Url("/settings/authorities/{}/remove", name),
                              "What it signed is not accepted from now on, and cannot be assigned any more. It stays "
                              "while a policy that only it signed is assigned to a group."));
}

Response remove_authority(Context& context) {
    return act(context, "remove-authority", remove_authority_page, [&] {
        context.service.remove_policy_authority(context.by, context.parts[0]);
        return Done{Url("/settings"), {"What " + context.parts[0] + " signs is not accepted any more.", ""}};
    });
}

Response remove_vendor_page(Context& context) {
    const std::string& name = context.parts[0];
    return whole_page(context, Section::kSettings, "Remove the vendor " + name,
                      removal(context, "remove-vendor", Url("/settings/vendors/{}/remove", name),
                              "Its endpoints become untrusted within minutes, unless another vendor here vouches for "
                              "them. Each needs to be enrolled and approved again, or the vendor to be back."));
}

Response remove_vendor(Context& context) {
    return act(context, "remove-vendor", remove_vendor_page, [&] {
        context.service.remove_vendor(context.by, context.parts[0]);
        return Done{Url("/settings"), {"TPMs of " + context.parts[0] + " are not trusted any more.", ""}};
    });
}

Response add_action(Context& context) {
    return act(context, "action", settings_page, [&] {
        context.service.add_action(context.by, {context.field("name"), context.field("kind"), context.field("target"),
                                                context.field("secret")});
        return Done{Url("/settings"), {context.field("name") + " is told of each change of state from now on.", ""}};
    });
}

Response remove_action(Context& context) {
    return act(context, "remove-action", settings_page, [&] {
        context.service.remove_action(context.by, context.parts[0]);
        return Done{Url("/settings"), {context.parts[0] + " is not told any more.", ""}};
    });
}

}  // namespace gatehouse::web
