// What the host programs share: errors and exit codes, files, hexadecimal, progress.
//
// Host programs report what they cannot do by exceptions, which end in run_tool(): one line on standard error
// that names the item and says what to do, and the exit status.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::host {

enum class ExitCode : int { kYes = 0, kNo = 1, kUsage = 2, kFailure = 3 };

// The work cannot be done: kFailure, or kUsage if the command line is to blame.
class ToolError : public std::runtime_error {
  public:
    explicit ToolError(const std::string& message, ExitCode code = ExitCode::kFailure)
        : std::runtime_error(message), code_(code) {}
    [[nodiscard]] ExitCode code() const { return code_; }

  private:
    ExitCode code_;
};

// Text that a terminal only shows: each byte of what text.hpp calls hidden, and of what is not UTF-8, becomes \xNN. What
// somebody else chose is printed like this, so that it moves no cursor, makes no line of its own, and is read as it is written.
[[nodiscard]] std::string one_line(std::string_view text);

// Runs `body`; its ToolError or other exception becomes "NAME: message", in one_line(), on standard error and an exit status.
int run_tool(const char* name, const std::function<ExitCode()>& body);

// "bad magic: policy bundle (0x0)"
[[nodiscard]] std::string describe(const Failure& failure);

// The value of a result, or a ToolError "CONTEXT: description".
inline void expect(const Status& status, std::string_view context) {
    if (!status.ok()) throw ToolError(std::string(context) + ": " + describe(status.failure()));
}
template <typename T>
T expect(Result<T> result, std::string_view context) {
    expect(static_cast<const Status&>(result), context);
    return std::move(result.value());
}

using Buffer = std::vector<std::byte>;

[[nodiscard]] std::string hex(Bytes bytes);
// The same to the front of `out`, two characters for each byte, without a copy elsewhere: for secrets.
void write_hex(Bytes bytes, MutableBytes out);
// ToolError (usage) naming `item` if `text` is not hexadecimal; upper and lower case, no separators.
[[nodiscard]] Buffer from_hex(std::string_view text, std::string_view item);
[[nodiscard]] inline Bytes text_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// "618d37b5-40b8-..." of the 16 bytes as they are on disk (first three fields little-endian).
[[nodiscard]] std::string guid_text(Bytes guid);

// An open file descriptor.
class File {
  public:
    File() = default;
    explicit File(int descriptor) : descriptor_(descriptor) {}
    ~File() { close(); }
    File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    File& operator=(File&& other) noexcept;
    [[nodiscard]] int get() const { return descriptor_; }
    void close();

  private:
    int descriptor_ = -1;
};

// A whole file of at most `limit` bytes.
[[nodiscard]] Buffer read_file(const std::string& path, std::size_t limit);
// The same without the end of its last line: a secret that somebody may have typed. To be wiped by its caller.
[[nodiscard]] Buffer read_line(const std::string& path, std::size_t limit);
// Puts a file in place in one step (written beside it, flushed, renamed).
void replace_file(const std::string& path, Bytes content, unsigned mode = 0644);
// Creates a file that must not exist yet, and flushes it to the medium.
void create_file(const std::string& path, Bytes content, unsigned mode);

// A program without a shell; standard input from `input`. Throws if it cannot be started, writes more than
// `limit` bytes or fails; the message has what it wrote to standard error. `inherited` is a descriptor that
// it gets as number 3, if not negative.
[[nodiscard]] Buffer run_program(const std::vector<std::string>& arguments, Bytes input, std::size_t limit,
                                 int inherited = -1);

// One line of progress on standard error while it is a terminal, nothing elsewhere.
class Progress {
  public:
    Progress(std::string label, std::uint64_t total_bytes);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    void at(std::uint64_t done_bytes);

  private:
    std::string label_;
    std::uint64_t total_;
    bool terminal_;
    int shown_ = -1;  // percent
};

}  // namespace gatehouse::host
