// The hypervisor's log: a ring of the last 64 KiB in memory and, while it is on, a console.
#pragma once

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::cpu {

inline constexpr std::size_t kLogSize = 0x10000;

// Makes log() (base/log.hpp) write to the ring and, while the console is on, to the serial port.
void start_log();
// Off: the serial port belongs to the guest. A panic turns it on again.
void set_console(bool on);

// Copies the last of what has been logged; returns how much.
std::size_t read_log(MutableBytes out);

}  // namespace gatehouse::cpu
