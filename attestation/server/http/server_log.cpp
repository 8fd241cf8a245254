#include "attestation/server/http/server_log.hpp"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

namespace gatehouse::http {
namespace {

constexpr std::size_t kMaxPending = 4u << 20;
constexpr std::chrono::milliseconds kGather{50};

std::string time_text(std::int64_t milliseconds) {
    const std::time_t seconds = milliseconds / 1000;
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char text[64];
    const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    std::snprintf(text + length, sizeof text - length, ".%03dZ", static_cast<int>(milliseconds % 1000));
    return text;
}

const char* level_name(Level level) {
    switch (level) {
        case Level::kError: return "error";
        case Level::kWarning: return "warning";
        case Level::kNotice: return "notice";
        case Level::kInfo: return "info";
        case Level::kDebug: return "debug";
    }
    return "";
}

std::string as_json(std::string_view text) {
    return nlohmann::json(text).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

bool is_plain(std::string_view text) {
    if (text.empty()) return false;
    for (const char c : text) {
        if (c <= ' ' || c > '~' || c == '"' || c == '=' || c == '\\') return false;
    }
    return true;
}

void write_all(int descriptor, std::string_view text) {
    while (!text.empty()) {
        const auto written = ::write(descriptor, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return;
        text.remove_prefix(static_cast<std::size_t>(written));
    }
}

}  // namespace

std::string log_line(LogFormat format, Level level, std::string_view event, const Log::Fields& fields,
                     std::int64_t milliseconds) {
    std::string line;
    if (format == LogFormat::kJson) {
        line = "{\"time\":\"" + time_text(milliseconds) + "\",\"level\":\"" + level_name(level) +
               "\",\"event\":" + as_json(event);
        for (const auto& [name, value] : fields)
            line.append(",").append(as_json(name)).append(":").append(as_json(value));
        return line + "}";
    }
    if (format == LogFormat::kJournal) {
        line = "<" + std::to_string(static_cast<int>(level)) + ">";
    } else {
        line = time_text(milliseconds) + " " + level_name(level) + " ";
    }
    line.append(event);
    for (const auto& [name, value] : fields) {
        line.append(" ").append(name).append("=").append(is_plain(value) ? value : as_json(value));
    }
    return line;
}

Log::Log(int descriptor, LogFormat format, Level least)
    : descriptor_(descriptor), format_(format), least_(least), writer_([this] { run(); }) {}

Log::~Log() {
    {
        const std::scoped_lock lock(mutex_);
        stop_ = true;
    }
    wake_.notify_one();
    writer_.join();
}

void Log::write(Level level, std::string_view event, const Fields& fields) {
    if (!wants(level)) return;
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto line =
        log_line(format_, level, event, fields, std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
    bool first = false;
    {
        const std::scoped_lock lock(mutex_);
        if (pending_.size() > kMaxPending) {
            ++dropped_;
            return;
        }
        first = pending_.empty();
        pending_.append(line).append("\n");
    }
    if (first) wake_.notify_one();
}

void Log::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [&] { return stop_ || !pending_.empty(); });
        if (!stop_) wake_.wait_for(lock, kGather, [&] { return stop_; });
        std::string text;
        text.swap(pending_);
        if (dropped_ != 0) text += "warning " + std::to_string(dropped_) + " log lines dropped\n";
        dropped_ = 0;
        const bool last = stop_;
        lock.unlock();
        write_all(descriptor_, text);
        lock.lock();
        if (last && pending_.empty()) return;
    }
}

}  // namespace gatehouse::http
