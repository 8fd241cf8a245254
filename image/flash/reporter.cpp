#include "image/flash/reporter.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <ostream>

#include "image/flash/list_command.hpp"

namespace gatehouse::flash {
namespace {

using nlohmann::json;

constexpr double kRedraw = 0.1;  // seconds

std::uint64_t percent_of(std::uint64_t done, std::uint64_t total) {
    return total == 0 ? 100
                      : static_cast<std::uint64_t>(static_cast<double>(done) * 100.0 / static_cast<double>(total));
}

struct Pace {
    double rate = 0;  // bytes a second
    double left = 0;  // seconds
};
std::optional<Pace> pace_of(std::uint64_t done, std::uint64_t total, double seconds) {
    if (done == 0 || seconds <= 0) return std::nullopt;
    const double rate = static_cast<double>(done) / seconds;
    return Pace{rate, static_cast<double>(total - done) / rate};
}

}  // namespace

std::string progress_text(Phase phase, std::uint64_t done, std::uint64_t total, double seconds) {
    std::array<char, 64> text{};
    (void)std::snprintf(text.data(), text.size(), "%-6s %3llu %%", name_of(phase),
                        static_cast<unsigned long long>(percent_of(done, total)));
    std::string line = text.data();
    const auto pace = pace_of(done, total, seconds);
    if (!pace) return line;
    line += "  " + size_text(static_cast<std::uint64_t>(pace->rate)) + "/s";
    if (done == total) return line;
    const auto left = std::llround(pace->left);
    (void)std::snprintf(text.data(), text.size(), "  %lld:%02lld left", left / 60, left % 60);
    return line + text.data();
}

Reporter::Reporter(const std::vector<std::string>& subjects, Style style, std::ostream& out, Clock clock)
    : style_(style), out_(out), clock_(std::move(clock)) {
    for (const std::string& subject : subjects)
        rows_.push_back({.name = host::one_line(subject), .phase = {}, .text = {}});
}

void Reporter::at(std::size_t subject, Phase phase, std::uint64_t done, std::uint64_t total) {
    const std::lock_guard lock(mutex_);
    Row& row = rows_[subject];
    const double now = clock_();
    const bool begins = row.phase != phase;
    if (begins) {
        row.phase = phase;
        row.began = now;
    }
    const std::uint64_t tenth = percent_of(done, total) / 10;
    const bool told = !begins && tenth == row.tenth;
    row.tenth = tenth;
    row.text = progress_text(phase, done, total, now - row.began);
    if (style_ == Style::kTerminal) {
        if (!told || now - drawn_ >= kRedraw) draw();
        return;
    }
    if (told) return;
    if (style_ == Style::kEvents) return emit_event(row, done, total, now - row.began);
    out_ << row.name << ": " << row.text << std::endl;
}

void Reporter::end(std::size_t subject, const std::string& words) {
    const std::lock_guard lock(mutex_);
    rows_[subject].text = host::one_line(words);
    if (style_ == Style::kTerminal) draw();
    if (style_ == Style::kLines) out_ << rows_[subject].name << ": " << rows_[subject].text << std::endl;
}

void Reporter::draw() {
    drawn_ = clock_();
    std::string text = lines_drawn_ == 0 ? "" : "\x1b[" + std::to_string(lines_drawn_) + "A";
    lines_drawn_ = 0;
    for (const Row& row : rows_) {
        if (row.text.empty()) continue;
        text += "\r\x1b[2K" + row.name + "  " + row.text + "\n";
        ++lines_drawn_;
    }
    out_ << text << std::flush;
}

void Reporter::emit_event(const Row& row, std::uint64_t done, std::uint64_t total, double seconds) {
    json event{
        {"event", "progress"}, {"subject", row.name}, {"phase", name_of(*row.phase)}, {"done", done}, {"total", total}};
    const auto pace = pace_of(done, total, seconds);
    event["bytes_per_second"] = pace ? json(static_cast<std::uint64_t>(pace->rate)) : json();
    event["seconds_left"] = pace ? json(std::llround(pace->left)) : json();
    out_ << event.dump(-1, ' ', false, json::error_handler_t::replace) << std::endl;
}

}  // namespace gatehouse::flash
