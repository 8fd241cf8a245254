// One endpoint: who it is, what it showed, what was found, and what can be done with it.
#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "attestation/protocol/claims_json.hpp"
#include "attestation/web/endpoint_evidence.hpp"
#include "hypervisor/base/hash.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::web {
namespace {

using server::Endpoint;
using server::Role;
using server::State;

constexpr unsigned kHistory = 20;

Url url_of(const Endpoint& endpoint) { return {"/endpoints/{}", endpoint.id}; }

std::string firmware_text(std::uint64_t version) {
    std::array<char, 24> text{};
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(version));
    return text.data();
}

// The way from a refusal to its cause, and from there to its end.
Html next_steps(const std::optional<VerdictView>& view) {
    Html out;
    out.put("<p class=\"next\">");
    if (view && std::ranges::find(view->events, false, &VerdictView::Event::ok) != view->events.end())
        out.put("<a href=\"#failing-event\">The event that does not belong</a> ");
    else if (view && std::ranges::any_of(view->pcrs, &VerdictView::Pcr::differs))
        out.put("<a href=\"#pcrs\">The PCR that differs</a> ");
    return out.put(
        "<a href=\"#findings\">What failed</a> <a href=\"#explain\">Compare with a policy</a> "
        "<a href=\"#history\">Since when</a></p>"
        "<p>If the change was meant, have a policy signed that expects it and assign it, first as report only. If "
        "nobody meant it, take the machine off the network, then retire or re-image it.</p>");
}

// What the state means for whoever looks after the endpoint, and what to do.
Html verdict_banner(const Endpoint& endpoint, const std::optional<VerdictView>& view) {
    const char* advice = "";
    switch (endpoint.state) {
        case State::kTrusted: advice = "Its evidence meets the policy of its group."; break;
        case State::kUnmeasured:
            advice =
                "Its evidence meets the policy, but comes from a TPM alone: no measured hypervisor vouches for it.";
            break;
        case State::kUntrusted: advice = "Its last evidence was refused."; break;
        case State::kStale:
            advice =
                "It has been silent past its lease. Check that it is switched on, that its agent runs and that it "
                "reaches this server.";
            break;
        case State::kNew: advice = "It is enrolled and has shown no evidence yet."; break;
        case State::kRetired: advice = "It is out of service: its certificate is void. Its history is kept."; break;
    }
    Html out;
    out.put("<div class=\"banner state-{}\">{}<div><p>{}</p>", server::name_of(endpoint.state),
            state_badge(endpoint.state), advice);
    if (!endpoint.reason.empty()) out.put("<p class=\"reason\"><strong>{}</strong></p>", foreign(endpoint.reason));
    if (endpoint.state == State::kUntrusted) out.add(next_steps(view));
    out.put("</div></div>");
    return out;
}

// By the first evidence that was accepted; what the last one says is beside its verdict.
Html machine_card(const verifier::TpmState& tpm) {
    Html out;
    if (!tpm.identity) return out;
    const nlohmann::json identity = protocol::identity_json(tpm.identity->acpi, tpm.identity->vault_pin,
                                                            tpm.identity->vault_id, tpm.identity->machine);
    const nlohmann::json& machine = identity["machine"];
    std::string iommus;
    for (const nlohmann::json& one : machine["iommus"])
        iommus += (iommus.empty() ? "" : ", ") + one["function"].get<std::string>();
    return out.put(
        "<section class=\"card\" aria-labelledby=\"machine\"><h2 id=\"machine\">Vault and machine</h2><dl>"
        "<dt>Vault</dt><dd>{}</dd><dt>Pinned by</dt><dd>{}</dd><dt>Processor</dt><dd>{}</dd><dt>Microcode</dt>"
        "<dd>{}</dd><dt>SMM</dt><dd>{}</dd><dt>Processors</dt><dd>{}</dd><dt>IOMMUs</dt><dd>{}</dd>"
        "<dt>ACPI tables</dt><dd>{}</dd></dl></section>",
        code(identity["vault"]["id"].get<std::string>()), identity["vault"]["pinned_by"].get<std::string>(),
        code(machine["processor_signature"].get<std::string>()), code(machine["microcode"].get<std::string>()),
        tpm.identity->machine.smm_locked ? "locked" : "not locked", tpm.identity->machine.processors,
        iommus.empty() ? std::string("none") : iommus,
        tpm.identity->acpi == evidence::Acpi::kMachine ? "the machine's" : "the hypervisor's own");
}

// Faults of EKs that the endpoint has shown at other times, or that an operator let it in with.
Html other_faults(const Context& context, const Endpoint& one) {
    Html out;
    for (const server::Endorsement& by : context.service.endorsements(context.by, one.id)) {
        if (by.fault.empty() || (!by.overruled && by.ek_hash == one.ek_hash)) continue;
        out.put("<p class=\"{}\">EK {}: {}{}</p>", by.overruled ? "quiet" : "error", code(by.ek_hash),
                foreign(by.fault), by.overruled ? " (an operator let it in all the same)" : "");
    }
    return out;
}

Html identity_card(const Context& context, const Endpoint& one) {
    const auto ak = sha256(one.ak_public);
    Html out;
    out.put(
        "<section class=\"card\" aria-labelledby=\"identity\"><h2 id=\"identity\">Identity</h2><dl><dt>Id</dt>"
        "<dd>{}</dd><dt>Group</dt><dd>{}</dd><dt>Evidence by</dt><dd>{}</dd><dt>Enrolled</dt><dd>{}</dd>"
        "<dt>EK hash</dt><dd>{}</dd><dt>AK, SHA-256</dt><dd>{}</dd></dl></section>",
        code(one.id), one.group, one.source == "hypervisor" ? "the measured hypervisor" : "a TPM alone",
        moment(one.enrolled, context.now), code(one.ek_hash), code(host::hex(ak)));
    out.add(machine_card(one.tpm));
    out.put(
        "<section class=\"card\" aria-labelledby=\"tpm\"><h2 id=\"tpm\">TPM</h2><dl><dt>Vendor</dt><dd>{}</dd>"
        "<dt>Manufacturer</dt><dd>{}</dd><dt>Model</dt><dd>{}</dd>",
        one.vendor.empty()              ? piece("<span class=\"quiet\">no trusted vendor vouches for it</span>")
        : one.endorsement_fault.empty() ? foreign(one.vendor)
                                        : piece("{}<p class=\"error\">It does not vouch for it any more: {}</p>",
                                                foreign(one.vendor), foreign(one.endorsement_fault)),
        foreign_or(manufacturer_name(one.manufacturer), "not known"), foreign_or(one.model, "not known"));
    if (!one.vendor.empty() && !one.crls.gap.empty())
        out.put("<dt>Revocation</dt><dd>not checked: no CRL answers for {}</dd>", foreign(one.crls.gap));
    else if (!one.vendor.empty() && one.crls.oldest != 0)
        out.put("<dt>Revocation</dt><dd>by CRLs of {} at the oldest</dd>", moment(one.crls.oldest, context.now));
    if (one.last_seen != 0 && !one.tpm.qualified_signer.empty()) {
        out.put("<dt>Firmware</dt><dd>{}</dd><dt>Clock</dt><dd>{} s</dd><dt>Resets, restarts</dt><dd>{}, {}</dd>",
                code(firmware_text(one.tpm.firmware_version)), grouped(static_cast<std::int64_t>(one.tpm.clock / 1000)),
                one.tpm.reset_count, one.tpm.restart_count);
    }
    out.put("</dl>");
    out.add(other_faults(context, one));
    return out.put("</section>");
}

Html evidence_card(const Context& context, const Endpoint& one, const std::optional<server::Attestation>& last) {
    Html out;
    out.put(
        "<section class=\"card\" aria-labelledby=\"evidence\"><h2 id=\"evidence\">Last evidence</h2><dl><dt>Time</dt>"
        "<dd>{}</dd><dt>Lease until</dt><dd>{}</dd>",
        moment(one.last_seen, context.now), moment(one.lease_until, context.now, "none"));
    if (last) {
        out.put("<dt>Verdict</dt><dd>{}</dd><dt>Policy</dt><dd>{}</dd></dl>", state_badge(last->state),
                last->policy.empty() ? "none: nothing is expected, so nothing is accepted" : last->policy);
        if (!last->result.empty()) {
            out.put(
                "<details><summary>Signed result (EAT)</summary><pre class=\"wrap\" tabindex=\"0\">{}</pre></details>",
                last->result);
        }
        return out.put("</section>");
    }
    return out.put("</dl></section>");
}

Html actions_card(const Context& context, const Endpoint& one) {
    Html out;
    if (!context.may(Role::kOperator) || one.state == State::kRetired) return out;
    out.put("<section class=\"card actions\" aria-labelledby=\"actions\"><h2 id=\"actions\">Actions</h2>");
    out.put(
        "{}<button class=\"main\">Attest now</button>"
        "<p class=\"hint\">The agent sends evidence as soon as it hears of it.</p></form>",
        open_form(context, "attest", Url("/endpoints/{}/attest", one.id)));
    const std::string kept = context.kept("move", "group");
    out.put(
        "{}<label for=\"move-group\">Group</label><div class=\"joined\">"
        "<select id=\"move-group\" name=\"group\">{}</select><button>Move</button></div>"
        "<p class=\"hint\">The policies of the new group judge it from its next evidence on.</p></form>",
        open_form(context, "move", Url("/endpoints/{}/group", one.id)),
        options(choices_of(context.service.groups(context.by)), kept.empty() ? one.group : kept));
    out.put("<p><a class=\"button danger\" href=\"{}\">Retire…</a></p></section>", Url("/endpoints/{}/retire", one.id));
    return out;
}

// What would have to change for another policy to accept it.
Html explain_card(const Context& context, const Endpoint& one, bool has_evidence) {
    Html out;
    const auto policies = context.service.policies(context.by);
    out.put(
        "<section class=\"card\" id=\"explain\" aria-labelledby=\"explain-title\">"
        "<h2 id=\"explain-title\">Compare with a policy</h2>");
    if (!has_evidence || policies.empty()) {
        return out.put("<p class=\"quiet\">{}</p></section>",
                       has_evidence ? "There is no policy yet." : "It has shown no evidence yet.");
    }
    std::vector<Choice> choices;
    for (const auto& policy : policies) {
        const std::string name = policy.name + ":" + std::to_string(policy.version);
        choices.push_back({name, name});
    }
    const std::string against = context.query("against");
    out.put(
        "<form method=\"get\" action=\"{}\" class=\"stacked\" hx-get=\"{}\" hx-target=\"#explain\" "
        "hx-select=\"#explain\" hx-swap=\"outerHTML\"><label for=\"against\">Policy</label><div class=\"joined\">"
        "<select id=\"against\" name=\"against\">{}</select><button>Compare</button></div></form>",
        url_of(one).at("explain"), url_of(one), options(choices, against));
    const std::size_t colon = against.rfind(':');
    if (colon != std::string::npos) {
        const auto lines = context.service.explain(context.by, one.id, against.substr(0, colon),
                                                   number_of(against.substr(colon + 1), "version"));
        out.put("<div role=\"status\">");
        if (lines.empty()) {
            out.put("<p>{} Its last evidence meets {} as it is.</p>", mark(true, "accepted"), against);
        } else {
            out.put("<p>{} Under {} its last evidence would be refused:</p><ul class=\"differences\">",
                    mark(false, "refused"), against);
            for (const std::string& line : lines) out.put("<li>{}</li>", foreign(line));
            out.put("</ul>");
        }
        out.put("</div>");
    }
    return out.put("</section>");
}

Html history_card(const Context& context, const Endpoint& one) {
    const std::string cursor = context.query("history");
    const auto page = context.service.history(context.by, one.id, cursor, kHistory);
    Html out;
    out.put(
        "<section class=\"card\" id=\"history\" aria-labelledby=\"history-title\">"
        "<h2 id=\"history-title\">History</h2>");
    if (page.rows.empty()) return out.put("<p class=\"quiet\">No verdict yet.</p></section>");
    out.put(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"History\"><table class=\"history\"><thead>"
        "<tr><th scope=\"col\">Verdict</th><th scope=\"col\">From, UTC</th>"
        "<th scope=\"col\" class=\"wide\">To, UTC</th><th scope=\"col\" class=\"number\">Times</th>"
        "<th scope=\"col\" class=\"wide\">Policy</th><th scope=\"col\">Why</th></tr></thead><tbody>");
    for (const auto& run : page.rows) {
        out.put(
            "<tr><td>{}</td><td>{}</td><td class=\"wide\">{}</td><td class=\"number\">{}</td>"
            "<td class=\"wide\">{}</td><td class=\"reason\">{}</td></tr>",
            state_badge(run.state), brief(run.time, context.now), brief(run.until, context.now, "-"),
            grouped(run.count), run.policy, foreign(run.reason));
    }
    out.put("</tbody></table></div><nav class=\"pager\" aria-label=\"History pages\">");
    if (!cursor.empty()) out.put("<a class=\"button\" href=\"{}\">Newest</a>", url_of(one).at("history"));
    if (!page.next.empty())
        out.put("<a class=\"button\" rel=\"next\" href=\"{}\">Older</a>",
                url_of(one).with("history", page.next).at("history"));
    return out.put("</nav></section>");
}

Html escrow_card(const Context& context, const Endpoint& one) {
    Html out;
    if (!context.may(Role::kOperator)) return out;
    const auto names = context.service.escrow_names(context.by, one.id);
    if (names.empty()) return out;
    out.put(
        "<section class=\"card\" aria-labelledby=\"escrow\"><h2 id=\"escrow\">Recovery blobs in escrow</h2>"
        "<ul class=\"plain-list\">");
    for (const std::string& name : names) out.put("<li>{}</li>", code(name));
    return out.put(
        "</ul><p class=\"hint\">An administrator fetches one through the REST interface; each access is "
        "written to the audit log.</p></section>");
}

}  // namespace

Response endpoint_page(Context& context) {
    const Endpoint one = context.service.endpoint(context.by, context.parts[0]);
    const auto last = context.service.last_attestation(context.by, one.id);
    if (context.is_partial() && context.request.query.contains("against")) {
        Response response;
        response.body = explain_card(context, one, last.has_value()).text();
        return response;
    }
    Html out;
    const auto view = last ? read_verdict(last->verdict_json) : std::nullopt;
    out.put("{}<div class=\"columns\"><div class=\"main-column\">", verdict_banner(one, view));
    if (view) {
        out.add(verdict_parts(*view, url_of(one), context.query("events") == "all"));
    } else {
        out.put(
            "<section class=\"card\">{}</section>",
            empty_state("No evidence yet",
                        piece("The agent sends the first evidence right after its enrollment. If it does not, look at "
                              "<code>journalctl -u attestation-agent</code> on the endpoint.")));
    }
    out.put("{}{}</div><div class=\"side-column\">{}{}{}{}</div></div>", explain_card(context, one, last.has_value()),
            history_card(context, one), actions_card(context, one), evidence_card(context, one, last),
            identity_card(context, one), escrow_card(context, one));
    return whole_page(context, Section::kEndpoints, one.hostname, out);
}

Response attest_endpoint(Context& context) {
    return act(context, "attest", endpoint_page, [&] {
        context.service.request_attestation(context.by, context.parts[0]);
        return Done{Url("/endpoints/{}", context.parts[0]), {"Evidence is asked for.", ""}};
    });
}

Response move_endpoint(Context& context) {
    return act(context, "move", endpoint_page, [&] {
        const std::string group = context.field("group");
        context.service.move_to_group(context.by, context.parts[0], group);
        return Done{Url("/endpoints/{}", context.parts[0]), {"Moved to the group " + group + ".", ""}};
    });
}

Response retire_page(Context& context) {
    const Endpoint one = context.service.endpoint(context.by, context.parts[0]);
    Html out;
    out.put(
        "<section class=\"card narrow\">"
        "<p>{} {} goes out of service: its certificate becomes void, it can no longer attest, and it is put on the "
        "revocation list. Its history is kept. To come back it enrolls again.</p>{}"
        "<label for=\"reason\">Reason</label>"
        "<input id=\"reason\" name=\"reason\" required maxlength=\"1024\" value=\"{}\" "
        "aria-describedby=\"reason-hint\">"
        "<p class=\"hint\" id=\"reason-hint\">Goes into the audit log and the revocation list.</p>"
        "<div class=\"joined\"><button class=\"danger\">Retire this endpoint</button>"
        "<a class=\"button\" href=\"{}\">Cancel</a></div></form></section>",
        state_badge(one.state), foreign(one.hostname),
        open_form(context, "retire", Url("/endpoints/{}/retire", one.id)), context.kept("retire", "reason"),
        url_of(one));
    return whole_page(context, Section::kEndpoints, "Retire " + one.hostname, out);
}

Response retire_endpoint(Context& context) {
    return act(context, "retire", retire_page, [&] {
        if (context.field("reason").empty()) throw server::ServiceError(400, "reason", "Say why.");
        context.service.retire(context.by, context.parts[0], context.field("reason"));
        return Done{Url("/endpoints/{}", context.parts[0]), {"Retired.", ""}};
    });
}

}  // namespace gatehouse::web
