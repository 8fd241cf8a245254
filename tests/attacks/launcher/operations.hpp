// What an attacker does in the launcher's place: one operation a line, in a boot loader module named "attack".
//
//   memory map, before anything is placed        carve BASE LENGTH TYPE   a piece of a usable range becomes this
//                                                retype BASE TYPE         the range that holds BASE becomes of this type
//                                                range BASE LENGTH TYPE   one more range, once all is placed
//   ACPI, before anything is placed              table FILE               one more table, in a root table of the attacker's
//                                                acpi SIGNATURE OFFSET VALUE   one byte of a table; its checksum is mended
//                                                hide-aps                 the MADT tells of no processor but the first
//                                                rsdp OFFSET VALUE        one byte of the RSDP's copy, nothing mended
//   places                                       place ROLE ADDRESS       where a module goes (ROLE as in ModuleRole)
//                                                kept ADDRESS             where the kept region goes
//   the launch block, once written               block OFFSET SIZE VALUE
//                                                role|address|size ROLE VALUE   of that module's entry
//   steps left out                               no-park, no-relinquish
//   on the other processors                      ap-msr NUMBER VALUE, written before they are parked
//   the last thing before SKINIT                 poke ADDRESS SIZE VALUE, load FILE ADDRESS, msr NUMBER VALUE,
//                                                config FUNCTION OFFSET SIZE VALUE, out8 PORT VALUE, locality N (taken)
//
// Numbers are decimal, or hexadecimal with 0x; "kept+N" is N after the kept region's start,
// "top-N" N before the end of usable memory below 4 GiB. FILE is a module "file FILE".
#pragma once

#include "hypervisor/launcher/machine.hpp"
#include "hypervisor/launcher/placement.hpp"

namespace gatehouse::launcher::attack {

[[nodiscard]] Status parse_multiboot(Bytes bytes, BootInformation& information);
[[nodiscard]] Result<Placement> place(BootInformation& information, std::span<const Extent> busy);
void relinquish_tpm();
void park_other_cpus();
void enable_svm();

}  // namespace gatehouse::launcher::attack
