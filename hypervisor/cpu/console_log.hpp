// The hypervisor's log: a ring of the last 64 KiB in memory and, while it is on, a console.
#pragma once

#include <string_view>

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::cpu {

inline constexpr std::size_t kLogSize = 0x10000;

// Makes log() (base/log.hpp) write to the ring and to `writer`, which puts a line and its newline on a serial
// port. May be called again with another writer; nullptr: ring only.
void start_log(void (*writer)(std::string_view line));
// Off: the serial port belongs to the guest. A panic turns it on again.
void set_console(bool on);

// Bytes logged since the start; those before log_size() - kLogSize have been overwritten.
[[nodiscard]] std::size_t log_size();
// Copies what the ring still has from `offset` on; returns how much. Overwritten bytes read as zero.
std::size_t read_log(std::size_t offset, MutableBytes out);

}  // namespace gatehouse::cpu
