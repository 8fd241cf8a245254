// What the guest's hostile programs share: the mark by which the host finds their plaintext, and how they end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace gatehouse::guest {

constexpr std::size_t kSector = 512;
constexpr std::size_t kPage = 4096;
constexpr int kUsage = 2;

// All data that goes to the disk are this, again and again; the host looks for it on the medium.
constexpr char kMark[] = "GATEHOUSE-STORM-PLAINTEXT-MARK--";
constexpr std::size_t kMarkSize = sizeof(kMark) - 1;

inline void mark(std::uint8_t* data, std::size_t size) {
    for (std::size_t at = 0; at < size; ++at) data[at] = static_cast<std::uint8_t>(kMark[at % kMarkSize]);
}

[[noreturn]] inline void fail(const std::string& what) {
    std::printf("FAILED: %s\n", what.c_str());
    std::fflush(stdout);
    std::_Exit(1);
}

}  // namespace gatehouse::guest
