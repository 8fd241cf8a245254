// What a disk calls itself, so that the one that is meant is not taken for another one.
#pragma once

#include "keyvault/host_support/disk.hpp"

namespace gatehouse::host {

// The serial number of a block device, without blanks at its ends; empty if it has none or `disk` is a file.
[[nodiscard]] std::string disk_serial(const Disk& disk);
// The same of the device with this directory in sysfs: "serial" (virtio), "device/serial" (NVMe, MMC) or the SCSI and ATA
// unit serial number page "device/vpd_pg80" (SPC-4, 7.8.15).
[[nodiscard]] std::string serial_from(const std::string& directory);

}  // namespace gatehouse::host
