// Pieces that many pages are made of.
#pragma once

#include "attestation/web/context.hpp"

namespace gatehouse::web {

// --- the whole page
enum class Section : std::uint8_t { kNone, kOverview, kEndpoints, kEnrollments, kPolicies, kAudit, kTokens, kSettings };
// `title` is the heading too; `intro` stands beside it (badges, links).
[[nodiscard]] Response whole_page(const Context& context, Section section, std::string_view title, const Html& body,
                                  const Html& intro = {});
// For those who are not logged in.
[[nodiscard]] Response bare_page(Theme theme, std::string_view title, const Html& body);
// One line that says what is wrong; that alone, if a part of a page was asked for.
[[nodiscard]] Response error_page(const Context& context, unsigned status, std::string_view message);

// --- forms
// <form method="post"> with what proves that it is ours, and the reason if it was refused just now. `form` is
// its name on the page and the id of its error.
[[nodiscard]] Html open_form(const Context& context, const char* form, const Url& action, bool in_line = false);
struct Choice {
    std::string value, label;
};
[[nodiscard]] Html options(const std::vector<Choice>& choices, std::string_view chosen);
[[nodiscard]] std::vector<Choice> choices_of(const std::vector<std::string>& names);

// --- values
// "2026-11-23 03:54 UTC", and how long ago or how far ahead; `none` for 0.
[[nodiscard]] Html moment(Seconds time, Seconds now, std::string_view none = "never");
// The same for narrow columns, whose head says "UTC": "11-23 03:54 5 min ago", the year if it is another one.
[[nodiscard]] Html brief(Seconds time, Seconds now, std::string_view none = "never");
[[nodiscard]] std::string utc(Seconds time);
[[nodiscard]] std::string relative(Seconds time, Seconds now);
[[nodiscard]] Html state_badge(server::State state);
[[nodiscard]] Html stage_badge(server::Stage stage);
// A mark with words beside it that only screen readers speak: `good` or not.
[[nodiscard]] Html mark(bool good, std::string_view words);
// A hash or other long code: monospaced, may break anywhere, selected whole.
[[nodiscard]] Html code(std::string_view text);
// Text of an endpoint's choosing, kept from its surroundings' direction of writing.
[[nodiscard]] Html foreign(std::string_view text);
// The same, or in grey what it means that there is none.
[[nodiscard]] Html foreign_or(std::string_view text, std::string_view none);
[[nodiscard]] std::string grouped(std::int64_t number);  // 12,345
// "id:57454300" of a TPM's certificate as people know it: "WEC (id:57454300)"
[[nodiscard]] std::string manufacturer_name(std::string_view id);
[[nodiscard]] std::string tpm_name(std::string_view manufacturer, std::string_view model);

// What there is if there is nothing: says what to do next.
[[nodiscard]] Html empty_state(std::string_view title, const Html& advice);

}  // namespace gatehouse::web
