// The end: for broken invariants of our own, never for bad input.
#pragma once

namespace gatehouse {

// Says why on the log, wipes the keys and stops the machine. Each program that links the freestanding libraries
// supplies it: the SLB, the hypervisor, and host programs (which abort).
[[noreturn]] void panic(const char* why);

// In its caller, whose address the panic tells.
[[gnu::always_inline]] constexpr void require(bool invariant, const char* why) {
    if (!invariant) panic(why);
}

}  // namespace gatehouse
