// A program of the server's actions directory, told of an event: no shell, JSON on standard input, its output
// thrown away, an environment of PATH alone.
#pragma once

#include <string>

namespace gatehouse::server {

// The path of the program; ServiceError (400) if `name` is not a plain file name, or no program that only its
// owner may change.
[[nodiscard]] std::string command_path(const std::string& directory, const std::string& name);

// Empty if it ended with 0 within 10 seconds, after which it and its children in its process group are
// killed; else what went wrong.
[[nodiscard]] std::string run_command(const std::string& path, const std::string& input);

}  // namespace gatehouse::server
