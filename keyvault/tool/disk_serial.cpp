#include "keyvault/tool/disk_serial.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace gatehouse::host {
namespace {

constexpr std::size_t kPageHeader = 4;

std::string trimmed(Bytes bytes) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    constexpr std::string_view kBlank(" \n\0", 3);
    const std::size_t first = text.find_first_not_of(kBlank);
    if (first == std::string_view::npos) return {};
    return std::string(text.substr(first, text.find_last_not_of(kBlank) + 1 - first));
}

}  // namespace

std::string serial_from(const std::string& directory) {
    for (const char* const name : {"/serial", "/device/serial", "/device/vpd_pg80"}) {
        const std::string path = directory + name;
        if (::access(path.c_str(), R_OK) != 0) continue;
        const Buffer content = read_file(path, 4096);
        const bool is_page = path.ends_with("vpd_pg80");
        if (is_page && content.size() < kPageHeader) continue;
        std::string serial = trimmed(Bytes(content).subspan(is_page ? kPageHeader : 0));
        if (!serial.empty()) return serial;
    }
    return {};
}

std::string disk_serial(const Disk& disk) {
    struct stat about {};
    if (::fstat(disk.descriptor(), &about) != 0 || !S_ISBLK(about.st_mode)) return {};
    return serial_from("/sys/dev/block/" + std::to_string(::major(about.st_rdev)) + ":" +
                       std::to_string(::minor(about.st_rdev)));
}

}  // namespace gatehouse::host
