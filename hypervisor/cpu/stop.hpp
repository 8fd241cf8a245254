// The end of a boot: panic (base/panic.hpp), reset and power-off. Keys are wiped first, whatever the reason.
#pragma once

namespace gatehouse::cpu {

// What is done once, in this order, on the processor that stops the machine, with the others stopped. These must not
// fail, wait long, or log secrets; the machine is reset at once if one panics.
struct StopActions {
    void (*wipe)() = nullptr;          // the keys
    void (*stop_devices)() = nullptr;  // not if a processor does not stop: then the machine is reset at once
};
void set_stop_actions(const StopActions& chosen);

// Stops the other processors, wipes the keys and stops the devices; every processor has forgotten its
// secrets. For sleep and power-off, whose last write the caller does itself; nothing but that may follow.
void prepare_stop();

// Resets the machine: by the reset control port or, should that not work, by a
// triple fault, which PC chipsets turn into a reset. After prepare_stop().
[[noreturn]] void pulse_reset();

// Says why on the log, does all that and resets the machine.
[[noreturn]] void reset_machine(const char* why);

}  // namespace gatehouse::cpu
