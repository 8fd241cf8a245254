// panic() for host programs and tests.
#include <cstdio>
#include <cstdlib>

#include "hypervisor/base/panic.hpp"

namespace gatehouse {

void panic(const char* why) {
    std::fprintf(stderr, "panic: %s\n", why);
    std::abort();
}

}  // namespace gatehouse
