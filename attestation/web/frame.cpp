// The frame around every page, and forms.
#include <array>

#include "attestation/web/assets.hpp"
#include "attestation/web/parts.hpp"

namespace gatehouse::web {
namespace {

constexpr std::string_view kHtmxConfiguration =
    R"({"allowEval":false,"includeIndicatorStyles":false,"selfRequestsOnly":true,"allowScriptTags":false,)"
    R"("historyCacheSize":0,"refreshOnHistoryMiss":true,"timeout":20000})";

const char* name_of(Theme theme) {
    switch (theme) {
        case Theme::kLight: return "light";
        case Theme::kDark: return "dark";
        case Theme::kSystem: break;
    }
    return "system";
}

Html head(Theme theme, std::string_view title) {
    return piece(
        "<!doctype html>\n<html lang=\"en\" data-theme=\"{}\"><head><meta charset=\"utf-8\">"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
        "<meta name=\"color-scheme\" content=\"light dark\"><meta name=\"htmx-config\" content=\"{}\">"
        "<title>{} · Gatehouse</title><link rel=\"icon\" type=\"image/svg+xml\" href=\"{}\">"
        "<link rel=\"stylesheet\" href=\"{}\"><script src=\"{}\" defer></script>"
        "<script src=\"{}\" defer></script></head>",
        name_of(theme), kHtmxConfiguration, title, icon(), style_sheet(), htmx_script(), problem_script());
}

struct Place {
    Section section;
    Url url;
    const char* name;
    server::Role role;
};

Html navigation(const Context& context, Section present) {
    using server::Role;
    static const std::array places{
        Place{Section::kOverview, Url("/"), "Overview", Role::kReadOnly},
        Place{Section::kEndpoints, Url("/endpoints"), "Endpoints", Role::kReadOnly},
        Place{Section::kEnrollments, Url("/enrollments"), "Enrollments", Role::kReadOnly},
        Place{Section::kPolicies, Url("/policies"), "Policies", Role::kReadOnly},
        Place{Section::kAudit, Url("/audit"), "Audit log", Role::kReadOnly},
        Place{Section::kTokens, Url("/tokens"), "Tokens", Role::kAdmin},
        Place{Section::kSettings, Url("/settings"), "Settings", Role::kReadOnly},
    };
    Html out;
    out.put("<nav aria-label=\"Main\"><ul>");
    for (const Place& place : places) {
        if (!context.may(place.role)) continue;
        out.put("<li><a href=\"{}\"{}>{}</a></li>", place.url,
                Flag("aria-current=\"page\"").when(place.section == present), place.name);
    }
    return out.put("</ul></nav>");
}

// Three buttons of one form: works without a script.
Html theme_form(const Context& context) {
    Html out;
    out.put(
        "<form method=\"post\" action=\"/theme\" class=\"themes\"><input type=\"hidden\" name=\"csrf\" value=\"{}\">"
        "<input type=\"hidden\" name=\"back\" value=\"{}\"><fieldset><legend class=\"spoken\">Colours</legend>",
        context.session.csrf, context.request.method == "GET" ? context.request.path : "/");
    for (const Theme theme : {Theme::kSystem, Theme::kLight, Theme::kDark}) {
        out.put("<button name=\"theme\" value=\"{}\" aria-pressed=\"{}\">{}</button>", name_of(theme),
                theme == context.theme ? "true" : "false", name_of(theme));
    }
    return out.put("</fieldset></form>");
}

Html brand() {
    return piece(
        "<a class=\"brand\" href=\"/\"><img src=\"{}\" alt=\"\" width=\"28\" height=\"28\"><span>Gatehouse</span></a>",
        icon());
}

Html notice_of(const Context& context) {
    const Notice& notice = context.session.notice;
    if (notice.text.empty()) return {};
    Html out;
    out.put("<div class=\"notice\" role=\"status\"><p>{}</p>", notice.text);
    if (!notice.secret.empty()) {
        out.put(
            "<p class=\"secret\"><code class=\"long\">{}</code></p>"
            "<p class=\"hint\">Copy it now: it is shown this once, and only its hash is kept.</p>",
            notice.secret);
    }
    return out.put("</div>");
}

}  // namespace

Response whole_page(const Context& context, Section section, std::string_view title, const Html& body,
                    const Html& intro) {
    Html out = head(context.theme, title);
    out.put(
        "<body class=\"framed\"><a class=\"skip\" href=\"#main\">Skip to the content</a><header class=\"side\">{}{}"
        "<div class=\"who\"><p><span class=\"quiet\">Logged in as</span> <bdi>{}</bdi> "
        "<span class=\"role\">{}</span></p>{}<form method=\"post\" action=\"/log-out\">"
        "<input type=\"hidden\" name=\"csrf\" value=\"{}\">"
        "<button class=\"plain\">Log out</button></form></div></header>",
        brand(), navigation(context, section), context.by.name, server::name_of(context.by.role), theme_form(context),
        context.session.csrf);
    out.put(
        "<main id=\"main\" tabindex=\"-1\"><div "
        "class=\"title\"><h1><bdi>{}</bdi></h1>{}</div>{}{}</main></body>"
        "</html>\n",
        title, intro, notice_of(context), body);
    Response response;
    response.body = out.text();
    return response;
}

Response bare_page(Theme theme, std::string_view title, const Html& body) {
    Html out = head(theme, title);
    out.put("<body class=\"bare\"><main id=\"main\" tabindex=\"-1\">{}<h1>{}</h1>{}</main></body></html>\n", brand(),
            title, body);
    Response response;
    response.body = out.text();
    return response;
}

Response error_page(const Context& context, unsigned status, std::string_view message) {
    const char* title = status == 404   ? "Not found"
                        : status == 403 ? "Not allowed"
                        : status == 429 ? "Too many requests"
                                        : "That did not work";
    const Html line = piece("<p class=\"error\" role=\"alert\">{}</p>", message);
    Response response;
    if (context.is_partial()) {
        response.body = line.text();
    } else {
        response =
            whole_page(context, Section::kNone, title, piece("{}<p><a href=\"/\">Go to the overview</a></p>", line));
    }
    response.status = status;
    return response;
}

Html open_form(const Context& context, const char* form, const Url& action, bool in_line) {
    Html out;
    out.put(
        "<form method=\"post\" action=\"{}\" id=\"{}\" class=\"{}\" autocomplete=\"off\">"
        "<input type=\"hidden\" name=\"csrf\" value=\"{}\">",
        action, form, in_line ? "in-line" : "stacked", context.session.csrf);
    if (context.refused.form == form) {
        out.put("<p class=\"error\" role=\"alert\" id=\"{}-error\">{}</p>", form, context.refused.reason);
    }
    return out;
}

Html options(const std::vector<Choice>& choices, std::string_view chosen) {
    Html out;
    for (const Choice& one : choices) {
        out.put("<option value=\"{}\"{}>{}</option>", one.value, Flag("selected").when(one.value == chosen), one.label);
    }
    return out;
}

std::vector<Choice> choices_of(const std::vector<std::string>& names) {
    std::vector<Choice> choices;
    choices.reserve(names.size());
    for (const std::string& name : names) choices.push_back({name, name});
    return choices;
}

}  // namespace gatehouse::web
