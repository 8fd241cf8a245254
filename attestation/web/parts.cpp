#include "attestation/web/parts.hpp"

#include <array>
#include <ctime>

namespace gatehouse::web {
namespace {

using server::State;

constexpr Seconds kMinute = 60, kHour = 3600, kDay = 86400;

// Shape and colour both tell the state; the word beside it tells it to everybody.
Html state_icon(State state) {
    switch (state) {
        case State::kTrusted:
            return piece(
                "<svg class=\"icon\" viewBox=\"0 0 16 16\" aria-hidden=\"true\"><circle cx=\"8\" cy=\"8\" r=\"7\"/>"
                "<path class=\"cut\" d=\"M4.5 8.3 7 10.8l4.5-5\"/></svg>");
        case State::kUnmeasured:
            return piece(
                "<svg class=\"icon\" viewBox=\"0 0 16 16\" aria-hidden=\"true\"><path d=\"M8 1 15.2 14.5H.8z\"/>"
                "<path class=\"cut\" d=\"M8 6v4m0 1.6v.9\"/></svg>");
        case State::kUntrusted:
            return piece(
                "<svg class=\"icon\" viewBox=\"0 0 16 16\" aria-hidden=\"true\">"
                "<path d=\"M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1z\"/>"
                "<path class=\"cut\" d=\"m5.3 5.3 5.4 5.4m0-5.4-5.4 5.4\"/></svg>");
        case State::kStale:
            return piece(
                "<svg class=\"icon line\" viewBox=\"0 0 16 16\" aria-hidden=\"true\">"
                "<circle cx=\"8\" cy=\"8\" r=\"6.2\"/><path d=\"M8 4.5V8l2.4 1.8\"/></svg>");
        case State::kNew:
            return piece(
                "<svg class=\"icon line\" viewBox=\"0 0 16 16\" aria-hidden=\"true\">"
                "<circle cx=\"8\" cy=\"8\" r=\"6.2\"/><path d=\"M8 5v6M5 8h6\"/></svg>");
        case State::kRetired: break;
    }
    return piece(
        "<svg class=\"icon line\" viewBox=\"0 0 16 16\" aria-hidden=\"true\"><circle cx=\"8\" cy=\"8\" r=\"6.2\"/>"
        "<path d=\"M5 8h6\"/></svg>");
}

constexpr const char* kMachineTime = "%Y-%m-%dT%H:%M:%SZ";

std::string formatted(Seconds time, const char* format) {
    const auto value = static_cast<std::time_t>(time);
    std::tm parts{};
    std::array<char, 40> text{};
    if (gmtime_r(&value, &parts) == nullptr || std::strftime(text.data(), text.size(), format, &parts) == 0)
        return std::to_string(time);
    return text.data();
}

std::string with_unit(Seconds many, const char* unit) { return std::to_string(many) + " " + unit; }

std::string span_of_time(Seconds seconds) {
    if (seconds < kMinute) return with_unit(seconds, "s");
    if (seconds < kHour) return with_unit(seconds / kMinute, "min");
    if (seconds < 2 * kDay) return with_unit(seconds / kHour, "h");
    return with_unit(seconds / kDay, "days");
}

}  // namespace

std::string utc(Seconds time) { return formatted(time, "%Y-%m-%d %H:%M:%S UTC"); }

std::string relative(Seconds time, Seconds now) {
    if (time > now) return "in " + span_of_time(time - now);
    if (now - time < 5) return "just now";
    return span_of_time(now - time) + " ago";
}

Html moment(Seconds time, Seconds now, std::string_view none) {
    if (time == 0) return piece("<span class=\"quiet\">{}</span>", none);
    return piece("<time datetime=\"{}\">{} <span class=\"hint\">{}</span></time>", formatted(time, kMachineTime),
                 utc(time), relative(time, now));
}

Html brief(Seconds time, Seconds now, std::string_view none) {
    if (time == 0) return piece("<span class=\"quiet\">{}</span>", none);
    const bool this_year = formatted(time, "%Y") == formatted(now, "%Y");
    return piece("<time class=\"brief\" datetime=\"{}\" title=\"{}\">{} <span class=\"hint\">{}</span></time>",
                 formatted(time, kMachineTime), utc(time),
                 formatted(time, this_year ? "%m-%d %H:%M" : "%Y-%m-%d %H:%M"), relative(time, now));
}

Html state_badge(State state) {
    return piece("<span class=\"badge state-{}\">{}{}</span>", server::name_of(state), state_icon(state),
                 server::name_of(state));
}

Html stage_badge(server::Stage stage) {
    if (stage == server::Stage::kEnforce) return piece("<span class=\"badge stage-enforce\">enforced</span>");
    return piece("<span class=\"badge stage-report\">report only</span>");
}

Html mark(bool good, std::string_view words) {
    return piece("<span class=\"mark {}\">{}<span class=\"spoken\">{}</span></span>", good ? "good" : "bad",
                 state_icon(good ? State::kTrusted : State::kUntrusted), words);
}

Html code(std::string_view text) { return piece("<code class=\"long\">{}</code>", text); }

Html foreign(std::string_view text) { return piece("<bdi>{}</bdi>", text); }

Html foreign_or(std::string_view text, std::string_view none) {
    return text.empty() ? piece("<span class=\"quiet\">{}</span>", none) : foreign(text);
}

std::string grouped(std::int64_t number) {
    std::string text = std::to_string(number);
    const std::size_t first = number < 0 ? 1 : 0;
    for (std::size_t at = text.size(); at > first + 3;) {
        at -= 3;
        text.insert(at, ",");
    }
    return text;
}

std::string manufacturer_name(std::string_view id) {
    // TCG Vendor ID Registry: four characters as hexadecimal digits.
    if (!id.starts_with("id:") || id.size() != 11) return std::string(id);
    std::string letters;
    for (std::size_t i = 3; i < id.size(); i += 2) {
        const auto digit = [](char c) {
            return c >= '0' && c <= '9'   ? c - '0'
                   : c >= 'A' && c <= 'F' ? c - 'A' + 10
                   : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                          : -1;
        };
        const int high = digit(id[i]), low = digit(id[i + 1]);
        if (high < 0 || low < 0) return std::string(id);
        const int c = high * 16 + low;
        if (c > 0x20 && c < 0x7f) letters += static_cast<char>(c);
    }
    return letters.empty() ? std::string(id) : letters + " (" + std::string(id) + ")";
}

std::string tpm_name(std::string_view manufacturer, std::string_view model) {
    std::string name = manufacturer_name(manufacturer);
    name = name.substr(0, name.find(" (id:"));
    if (!name.empty() && !model.empty()) name += ' ';
    return name + std::string(model);
}

Html empty_state(std::string_view title, const Html& advice) {
    return piece("<div class=\"empty\"><p class=\"empty-title\">{}</p><p>{}</p></div>", title, advice);
}

}  // namespace gatehouse::web
