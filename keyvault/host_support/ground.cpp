#include "keyvault/host_support/ground.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <sstream>

namespace gatehouse::host {
namespace {

constexpr unsigned kMostLoops = 32;  // over one another; Linux lets none stand on itself
const char* const kBlock = "/sys/block";

// What Linux's loop device is over.
struct Backing {
    bool is_device = false;
    dev_t device = 0;  // its number, or that of the file's file system
    ino_t inode = 0;   // of a file
    std::string path;  // as it was when the loop device was made
};

// One line; empty if it is not there.
std::string attribute(const std::string& path) try {
    const Buffer line = read_line(path, 4096);
    return {reinterpret_cast<const char*>(line.data()), line.size()};
} catch (const ToolError&) {
    return {};
}

std::optional<Backing> backing_of(const std::string& name) {
    const std::string path = attribute(std::string(kBlock) + "/" + name + "/loop/backing_file");
    if (path.empty()) return std::nullopt;
    struct stat about {};
    const bool found = ::stat(path.c_str(), &about) == 0;
    Backing backing{found && S_ISBLK(about.st_mode), about.st_dev, about.st_ino, path};
    if (backing.is_device) backing.device = about.st_rdev;
    // Itself knows better, if one may ask it: the name may be another's by now.
    const File loop(::open(("/dev/" + name).c_str(), O_RDONLY | O_CLOEXEC));
    loop_info64 info{};
    if (loop.get() >= 0 && ::ioctl(loop.get(), LOOP_GET_STATUS64, &info) == 0) {
        // Of a file both numbers are its file system's.
        backing.is_device = info.lo_rdevice != 0 && info.lo_rdevice != info.lo_device;
        backing.device = backing.is_device ? info.lo_rdevice : info.lo_device;
        backing.inode = info.lo_inode;
        return backing;
    }
    return found ? std::optional(backing) : std::nullopt;
}

std::string sysfs_of(dev_t device) {
    std::error_code error;
    const std::string link = "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
    const auto place = std::filesystem::canonical(link, error);
    return error ? "" : place.string();
}

dev_t number_in(const std::string& directory) {
    std::istringstream line(attribute(directory + "/dev"));  // "MAJOR:MINOR"
    unsigned major_number = 0;
    unsigned minor_number = 0;
    char colon = 0;
    if (!(line >> major_number >> colon >> minor_number) || colon != ':') return 0;
    return makedev(major_number, minor_number);
}

void descend(Ground& ground, const Backing& backing);

void stand_on_device(Ground& ground, dev_t device) {
    const std::string place = sysfs_of(device);
    const std::size_t slash = place.rfind('/');
    ground.device = ground.disk = device;
    ground.inode = 0;
    ground.backing.clear();
    if (slash == std::string::npos) return;
    if (std::filesystem::exists(place + "/partition")) {
        ground.disk = number_in(place.substr(0, slash));
        return;
    }
    const std::optional<Backing> under = backing_of(place.substr(slash + 1));
    if (!under || ground.way.size() == kMostLoops) return;
    ground.way.push_back(device);
    descend(ground, *under);
}

void descend(Ground& ground, const Backing& backing) {
    if (backing.is_device) return stand_on_device(ground, backing.device);
    ground.device = backing.device;
    ground.disk = 0;
    ground.inode = backing.inode;
    ground.backing = backing.path;
}

}  // namespace

Ground ground_of(const std::string& path) {
    struct stat about {};
    if (::stat(path.c_str(), &about) != 0) throw ToolError(path + ": " + std::strerror(errno), ExitCode::kUsage);
    Ground ground;
    if (S_ISBLK(about.st_mode)) {
        stand_on_device(ground, about.st_rdev);
    } else {
        ground.device = about.st_dev;
        ground.inode = about.st_ino;
    }
    return ground;
}

bool overlap(const Ground& one, const Ground& other) {
    if (one.disk == 0 || other.disk == 0) {
        return one.disk == other.disk && one.device == other.device && one.inode == other.inode;
    }
    return one.device == other.device || one.disk == other.device || one.device == other.disk;
}

std::string other_loop_over(const Ground& ground) {
    std::error_code error;
    for (std::filesystem::directory_iterator it(kBlock, error), end; !error && it != end; it.increment(error)) {
        const std::string name = it->path().filename().string();
        const std::optional<Backing> backing = backing_of(name);
        const dev_t number = number_in(it->path().string());
        if (!backing || std::ranges::find(ground.way, number) != ground.way.end()) continue;
        Ground its;
        descend(its, *backing);
        if (overlap(its, ground)) return "/dev/" + name;
    }
    return {};
}

dev_t device_under_loop(const std::string& name) {
    const std::optional<Backing> backing = backing_of(name);
    return backing && backing->is_device ? backing->device : 0;
}

}  // namespace gatehouse::host
