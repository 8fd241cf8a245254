// The log: short lines into a ring in memory and, while there is one, to a console.
//
// log("tpm: ", Hex{code}, " from ", name) composes one line; there are no format strings. Secrets have no overload.
#pragma once

#include <string_view>

#include "hypervisor/base/bytes.hpp"

namespace gatehouse {

struct Hex {
    std::uint64_t value;
};
struct HexBytes {
    Bytes bytes;
};

// A line of at most 240 characters, cut there.
class LogLine {
  public:
    LogLine& operator<<(std::string_view text);
    LogLine& operator<<(std::uint64_t value) { return number(value, 10); }
    LogLine& operator<<(Hex hex) { return (*this << "0x").number(hex.value, 16); }
    LogLine& operator<<(HexBytes hex);
    // "truncated: vault header (0x30)"
    LogLine& operator<<(const Failure& failure);
    [[nodiscard]] std::string_view text() const { return {text_.data(), size_}; }

  private:
    LogLine& number(std::uint64_t value, unsigned base);

    std::array<char, 240> text_{};
    std::size_t size_ = 0;
};

// Where finished lines go: called with the text without its newline. One sink at a time; none at the start.
// The caller of set_log_sink sees to it that the sink may be called by several CPUs at once.
using LogSink = void (*)(std::string_view line);
void set_log_sink(LogSink sink);
void emit_log(const LogLine& line);

template <typename... Parts>
void log(const Parts&... parts) {
    LogLine line;
    (line << ... << parts);
    emit_log(line);
}

}  // namespace gatehouse
