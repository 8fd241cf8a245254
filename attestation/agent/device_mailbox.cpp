#include "attestation/agent/device_mailbox.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>

namespace gatehouse::agent {
namespace {

std::string system_error(const std::string& what) { return what + ": " + std::strerror(errno); }

ChannelPlace place_of(const std::string& table_path) {
    std::ifstream file(table_path, std::ios::binary);
    if (!file) {
        throw ChannelError(table_path + " is not there: this guest does not run under Gatehouse, or you are not root");
    }
    const std::string table{std::istreambuf_iterator<char>(file), {}};
    return parse_channel_table(std::as_bytes(std::span(table)));
}

}  // namespace

DeviceMailbox::DeviceMailbox(const std::string& table_path) {
    const ChannelPlace place = place_of(table_path);
    size_ = place.size;
    doorbell_ = place.doorbell;
    lock_ = open(table_path.c_str(), O_RDONLY | O_CLOEXEC);
    if (lock_ < 0) throw ChannelError(system_error(table_path));
    const int memory = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
    if (memory < 0) throw ChannelError(system_error("/dev/mem"));
    map_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, memory, static_cast<off_t>(place.mailbox));
    const int error = errno;
    close(memory);
    errno = error;
    if (map_ == MAP_FAILED) throw ChannelError(system_error("mailbox in /dev/mem"));
    if (iopl(3) != 0) {
        const std::string message = system_error("port access");
        munmap(map_, size_);
        throw ChannelError(message);
    }
}

DeviceMailbox::~DeviceMailbox() {
    munmap(map_, size_);
    close(lock_);
}

void DeviceMailbox::lock() {
    while (flock(lock_, LOCK_EX) != 0) {
        if (errno != EINTR) throw ChannelError(system_error("lock of the mailbox"));
    }
}

void DeviceMailbox::unlock() { flock(lock_, LOCK_UN); }

void DeviceMailbox::ring() {
    asm volatile("" : : : "memory");
    outl(channel::kDoorbellValue, doorbell_);
    asm volatile("" : : : "memory");
}

}  // namespace gatehouse::agent
