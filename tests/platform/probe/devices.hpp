// What the emulated devices do that hostile or stopped hardware does: the AHCI controller, and gatehouse-rogue.
#pragma once

#include <stdint.h>

namespace probe {

// Command queueing on the disk of port 0, slow enough that transfers are in flight when the port is stopped, and its
// contents d1h throughout.
void print_queued_commands();

// Prints what becomes of DMA that a rogue has been armed to do; `behind_iommu`: under an IOMMU whose device table ends
// before it.
void print_rogue();
void print_rogue_behind_iommu(void (*set_device_table)(uint32_t pages));

// Arms it, resets the function in the way that it offers, and prints whether it still fires.
void print_rogue_reset();

}  // namespace probe
