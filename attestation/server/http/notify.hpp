// Telling the service manager how it goes: sd_notify(3)'s protocol, one datagram to $NOTIFY_SOCKET.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace gatehouse::http {

// "READY=1", "STOPPING=1", "WATCHDOG=1", ... Nothing happens without a service manager.
void notify_manager(std::string_view state);

// Half of the time within which the manager wants to hear WATCHDOG=1.
[[nodiscard]] std::optional<std::chrono::microseconds> watchdog_interval();

// Whether what is written there goes to the journal, for all who read it (systemd.exec(5), $JOURNAL_STREAM).
[[nodiscard]] bool is_journal(int descriptor);

}  // namespace gatehouse::http
