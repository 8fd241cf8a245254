#include "keyvault/host_support/output.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace gatehouse::host {

void replace_like(const std::string& path, Bytes content, std::size_t magic, const std::vector<std::string>& inputs) {
    struct stat about {};
    if (::lstat(path.c_str(), &about) == 0) {
        std::error_code error;
        const bool is_input = std::ranges::any_of(
            inputs, [&](const std::string& input) { return std::filesystem::equivalent(path, input, error); });
        std::vector<std::byte> found(magic);
        const File file(S_ISREG(about.st_mode) ? ::open(path.c_str(), O_RDONLY | O_CLOEXEC) : -1);
        const bool alike = file.get() >= 0 &&
                           ::pread(file.get(), found.data(), magic, 0) == static_cast<ssize_t>(magic) &&
                           equal_bytes(found, content.first(magic));
        if (is_input || !alike) {
            throw ToolError(path + (is_input ? ": is read as well" : ": is there already, and something else") +
                                "; choose another file to write to",
                            ExitCode::kUsage);
        }
    }
    replace_file(path, content);
}

}  // namespace gatehouse::host
