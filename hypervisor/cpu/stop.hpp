// The end of a boot: panic (base/panic.hpp), reset and power-off. Keys are wiped first, whatever the reason.
#pragma once

namespace gatehouse::cpu {

// Hooks run in the order in which they were registered, once, on the processor that stops the machine, with
// the other processors stopped. They must not fail, wait long, or log secrets. The first one wipes the keys: if a
// processor does not stop, it alone runs, and the machine is reset at once. At most 8; panic if there are more.
using StopHook = void (*)();
void on_stop(StopHook hook);

// How the machine is reset, at the end of reset_machine(); it may return if it does not work. Without it, or
// after it, the processor shuts down (triple fault), which PC chipsets turn into a reset.
void set_reset(void (*reset)());

// Stops the other processors and runs the stop hooks; every processor has forgotten its secrets. For sleep and power-off, whose last write the caller
// does itself; nothing but that may follow.
void prepare_stop();

// Says why on the log, runs the stop hooks and resets the machine.
[[noreturn]] void reset_machine(const char* why);

}  // namespace gatehouse::cpu
