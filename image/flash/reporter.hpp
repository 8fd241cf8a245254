// How far a flash of several disks is: a line for each disk that is drawn anew on a terminal, plain lines elsewhere, or events
// as JSON, one in a line.
#pragma once

#include <iosfwd>
#include <mutex>

#include "image/flash/flash.hpp"

namespace gatehouse::flash {

enum class Style : std::uint8_t { kTerminal, kLines, kEvents };

// For several threads at once.
class Reporter {
  public:
    using Clock = std::function<double()>;  // seconds
    // `subjects`: the image, and disks, by their paths. A terminal has the line drawn at each call, but ten times a second at
    // most; the others have one where a phase begins and ends and, within it, at each tenth.
    Reporter(const std::vector<std::string>& subjects, Style style, std::ostream& out, Clock clock);

    void at(std::size_t subject, Phase phase, std::uint64_t done, std::uint64_t total);
    // The end of a subject, in words; on a terminal its line goes on saying so.
    void end(std::size_t subject, const std::string& words);

  private:
    struct Row {
        std::string name;
        std::optional<Phase> phase;
        double began = 0;
        std::uint64_t tenth = 0;
        std::string text;
    };
    void draw();
    void emit_event(const Row& row, std::uint64_t done, std::uint64_t total, double seconds);

    std::mutex mutex_;
    std::vector<Row> rows_;
    Style style_;
    std::ostream& out_;
    Clock clock_;
    double drawn_ = -1;
    std::size_t lines_drawn_ = 0;
};

// "write    45 %  123.4 MiB/s  0:12 left"; the latter two once there is something to tell them by.
[[nodiscard]] std::string progress_text(Phase phase, std::uint64_t done, std::uint64_t total, double seconds);

}  // namespace gatehouse::flash
