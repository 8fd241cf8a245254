#include "attestation/web/time_line.hpp"

#include <algorithm>
#include <array>
#include <ctime>

#include "attestation/web/parts.hpp"

namespace gatehouse::web {
namespace {

constexpr std::int64_t kWidth = 960, kHeight = 196, kLeft = 64, kTop = 10, kBottom = 30, kLabel = 44;
constexpr std::int64_t kPlot = kHeight - kTop - kBottom;
constexpr std::int64_t kLines = 4;
constexpr std::int64_t kUnit = 10;  // coordinates are given in tenths

// The least 1, 2 or 5 times a power of ten that `kLines` of are no less than `most`.
std::int64_t step_for(std::int64_t most) {
    for (std::int64_t power = 1;; power *= 10) {
        for (const std::int64_t factor : {1, 2, 5}) {
            if (factor * power * kLines >= most) return factor * power;
        }
    }
}

std::string tenths(std::int64_t value) { return std::to_string(value / kUnit) + "." + std::to_string(value % kUnit); }

std::string short_number(std::int64_t value) {
    if (value >= 1'000'000 && value % 100'000 == 0)
        return value % 1'000'000 == 0 ? std::to_string(value / 1'000'000) + "M" : tenths(value / 100'000) + "M";
    if (value >= 1000 && value % 1000 == 0) return std::to_string(value / 1000) + "k";
    return grouped(value);
}

std::string hour_text(Seconds hour, const char* format) {
    const auto value = static_cast<std::time_t>(hour);
    std::tm parts{};
    std::array<char, 40> text{};
    gmtime_r(&value, &parts);
    std::strftime(text.data(), text.size(), format, &parts);
    return text.data();
}

struct Scale {
    std::int64_t full;    // what the whole height stands for
    std::int64_t column;  // tenths of a unit
    [[nodiscard]] std::int64_t height(std::int64_t value) const { return value * kPlot * kUnit / full; }
};

void draw_grid(Html& out, std::int64_t step) {
    for (std::int64_t i = 0; i <= kLines; ++i) {
        const std::int64_t y = kTop + kPlot - i * kPlot / kLines;
        out.put(
            "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>"
            "<text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            kLeft, kWidth, y, y, kLeft - 8, y + 4, short_number(i * step));
    }
}

void draw_column(Html& out, const server::TimePoint& point, std::int64_t x, const Scale& scale) {
    struct Part {
        const char* name;
        std::int64_t value;
    };
    const std::array parts{Part{"untrusted", point.untrusted}, Part{"unmeasured", point.unmeasured},
                           Part{"trusted", point.trusted}};
    out.put(
        "<g class=\"column\"><title>{}: {} trusted, {} unmeasured, {} untrusted</title>"
        "<rect class=\"reach\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
        hour_text(point.hour, "%Y-%m-%d %H:00 UTC"), grouped(point.trusted), grouped(point.unmeasured),
        grouped(point.untrusted), tenths(x), kTop, tenths(scale.column), kPlot);
    std::int64_t base = (kTop + kPlot) * kUnit;
    const std::int64_t gap = std::max<std::int64_t>(scale.column / 6, 5);
    for (const Part& part : parts) {
        if (part.value == 0) continue;
        const std::int64_t height = std::max<std::int64_t>(scale.height(part.value), 15);  // one is seen, too
        base = std::max(base - height, kTop * kUnit);
        out.put("<rect class=\"part-{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>", part.name,
                tenths(x + gap / 2), tenths(base), tenths(scale.column - gap), tenths(height));
    }
    out.put("</g>");
}

Html figures(const std::vector<server::TimePoint>& points) {
    Html out;
    out.put(
        "<details class=\"figures\"><summary>The same as a table</summary>"
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Verdicts by hour\"><table><thead><tr>"
        "<th scope=\"col\">Hour (UTC)</th><th scope=\"col\" class=\"number\">Trusted</th>"
        "<th scope=\"col\" class=\"number\">Unmeasured</th>"
        "<th scope=\"col\" class=\"number\">Untrusted</th></tr></thead><tbody>");
    for (auto point = points.rbegin(); point != points.rend(); ++point) {
        out.put(
            "<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td><td class=\"number\">{}</td>"
            "<td class=\"number\">{}</td></tr>",
            hour_text(point->hour, "%Y-%m-%d %H:00"), grouped(point->trusted), grouped(point->unmeasured),
            grouped(point->untrusted));
    }
    return out.put("</tbody></table></div></details>");
}

}  // namespace

Html time_line_picture(const std::vector<server::TimePoint>& points) {
    std::int64_t most = 1;
    for (const server::TimePoint& point : points)
        most = std::max(most, point.trusted + point.unmeasured + point.untrusted);
    const std::int64_t step = step_for(most);
    const auto many = static_cast<std::int64_t>(std::max<std::size_t>(points.size(), 1));
    const Scale scale{step * kLines, (kWidth - kLeft) * kUnit / many};
    Html out;
    out.put(
        "<svg class=\"time-line\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Verdicts by hour, the last {} "
        "hours\">",
        kWidth, kHeight, many);
    draw_grid(out, step);
    std::int64_t x = kLeft * kUnit;
    for (const server::TimePoint& point : points) {
        draw_column(out, point, x, scale);
        const Seconds of_day = point.hour / 3600 % 24;
        // A label at the edge would be cut off.
        const bool has_room = x + scale.column / 2 <= (kWidth - kLabel / 2) * kUnit;
        if (has_room && of_day % (many > 72 ? 24 : 6) == 0) {
            out.put("<text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                    tenths(x + scale.column / 2), kHeight - 6, hour_text(point.hour, of_day == 0 ? "%d %b" : "%H:00"));
        }
        x += scale.column;
    }
    return out.put("</svg>").add(figures(points));
}

}  // namespace gatehouse::web
