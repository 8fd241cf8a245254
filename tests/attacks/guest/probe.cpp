// What an attacker with root's rights does in the guest: physical memory, I/O ports of each width, and MSRs.
#include <fcntl.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr int kFailure = 1;
constexpr int kUsage = 2;

int fail(const char* what) {
    std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
    return kFailure;
}

// By loads of 32 bits, as registers want them.
int read_memory(std::uint64_t address, std::uint64_t size) {
    const int memory = open("/dev/mem", O_RDONLY | O_SYNC | O_CLOEXEC);
    if (memory < 0) return fail("/dev/mem");
    const std::uint64_t start = address & ~(kPage - 1);
    const std::uint64_t end = (address + size + kPage - 1) & ~(kPage - 1);
    const void* const map = mmap(nullptr, end - start, PROT_READ, MAP_SHARED, memory, static_cast<off_t>(start));
    if (map == MAP_FAILED) return fail("mmap of /dev/mem");
    const auto* const words = static_cast<const volatile std::uint32_t*>(map) + (address - start) / 4;
    for (std::uint64_t i = 0; i < size / 4; ++i) std::printf("%08x", words[i]);
    std::printf("\n");
    return 0;
}

int read_msr(std::uint64_t number) {
    const int file = open("/dev/cpu/0/msr", O_RDONLY | O_CLOEXEC);
    if (file < 0) return fail("/dev/cpu/0/msr");
    std::uint64_t value = 0;
    if (pread(file, &value, sizeof(value), static_cast<off_t>(number)) != sizeof(value)) return fail("RDMSR");
    std::printf("%016llx\n", static_cast<unsigned long long>(value));
    return 0;
}

int write_msr(std::uint64_t number, std::uint64_t value) {
    const int file = open("/dev/cpu/0/msr", O_WRONLY | O_CLOEXEC);
    if (file < 0) return fail("/dev/cpu/0/msr");
    return pwrite(file, &value, sizeof(value), static_cast<off_t>(number)) == sizeof(value) ? 0 : fail("WRMSR");
}

}  // namespace

int main(int count, char** words) {
    if (count < 3) return kUsage;
    const std::string_view what = words[1];
    const std::uint64_t first = std::strtoull(words[2], nullptr, 0);
    const std::uint64_t second = count > 3 ? std::strtoull(words[3], nullptr, 0) : 0;
    if (what == "memory") return read_memory(first, second);
    if (what == "rdmsr") return read_msr(first);
    if (what == "wrmsr") return write_msr(first, second);
    if (iopl(3) != 0) return fail("iopl");
    const auto port = static_cast<std::uint16_t>(first);
    if (what == "outb") {
        outb(static_cast<std::uint8_t>(second), port);
    } else if (what == "outl") {
        outl(static_cast<std::uint32_t>(second), port);
    } else if (what == "inb") {
        std::printf("%02x\n", inb(port));
    } else {
        return kUsage;
    }
    return 0;
}
