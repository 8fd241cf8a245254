// The launcher's lines: COM1, and the VGA text screen where there is one.
#pragma once

#include <string_view>

namespace gatehouse::launcher {

// Sets COM1 to 115200 baud, 8N1, and makes both the log's sink.
void start_console();
void use_text_screen();

}  // namespace gatehouse::launcher
