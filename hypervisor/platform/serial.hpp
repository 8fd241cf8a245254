// The first serial port (16550, COM1 at 0x3f8): where the log goes until the port is the guest's.
#pragma once

#include <string_view>

namespace gatehouse::platform {

// 115,200 baud, 8 data bits, no parity, no interrupts.
void start_serial();
// A line and CR LF; a LogSink. A port that is missing loses the line; one that is stuck, its rest after
// 0.1 to 0.5 s.
void write_serial(std::string_view line);

}  // namespace gatehouse::platform
