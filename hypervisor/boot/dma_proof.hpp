// Whether an IOMMU refuses what it has been told to refuse: shown by a disk controller's own DMA.
//
// After a reset of the link a disk sends its signature in a FIS, which the controller
// writes to where PxFB points (AHCI 1.3.1, 10.4.2 and 10.3.2): a write by the device, at
// a time and to a place of our choosing, with no command and no change of the disk.
#pragma once

#include "ata/environment.hpp"
#include "hypervisor/base/result.hpp"

namespace gatehouse::boot {

// Resets the link of the first port with a device, with the received-FIS area at `area` (4,096-byte aligned), and
// stops the port again: whether or not the signature has come through, `area` is in no use afterwards. The
// controller is in AHCI mode then. False: no port has a device, by link state. kTimeout: the port does not stop.
[[nodiscard]] Result<bool> provoke_fis(ata::Environment& controller, HostPhysical area);

}  // namespace gatehouse::boot
