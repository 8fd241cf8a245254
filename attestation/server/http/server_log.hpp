// One line for each event, on standard error: for people or the journal ("<6>" and so on in front, as systemd
// reads it), or JSON.
//
// Lines are handed to a thread that writes them, many at once: whoever logs does not wait for the terminal or
// the journal. Texts may be hostile: control characters and what is not UTF-8 are escaped.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace gatehouse::http {

enum class Level : int { kError = 3, kWarning = 4, kNotice = 5, kInfo = 6, kDebug = 7 };  // as in syslog
enum class LogFormat { kPeople, kJournal, kJson };

class Log {
  public:
    using Fields = std::vector<std::pair<std::string_view, std::string>>;

    Log(int descriptor, LogFormat format, Level least);
    ~Log();  // writes what is left
    Log(const Log&) = delete;
    Log& operator=(const Log&) = delete;

    [[nodiscard]] bool wants(Level level) const { return level <= least_; }
    void write(Level level, std::string_view event, const Fields& fields = {});

  private:
    void run();

    int descriptor_;
    LogFormat format_;
    Level least_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::string pending_;
    std::uint64_t dropped_ = 0;  // the reader is slower than we: lines are dropped and counted, nobody waits
    bool stop_ = false;
    std::thread writer_;
};

// The line without its end.
[[nodiscard]] std::string log_line(LogFormat format, Level level, std::string_view event, const Log::Fields& fields,
                                   std::int64_t milliseconds);

}  // namespace gatehouse::http
