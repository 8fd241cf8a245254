// What a fuzz target of a disk mediator says that must hold, whatever came before.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::ata::testing {

// Ends the run, as a finding, if it does not.
inline void check(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "error: %s\n", what);
    std::abort();
}

inline bool contains(Bytes bytes, Bytes pattern) {
    return memmem(bytes.data(), bytes.size(), pattern.data(), pattern.size()) != nullptr;
}

}  // namespace gatehouse::ata::testing
