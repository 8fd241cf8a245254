"""The timer sends an NMI to a parked processor, whose vector table is the launcher's, before the IOMMU refuses that.

A processor that waits for a Startup IPI takes nothing else; it begins with GIF = 0, and gets a table of its own before the NMI
that waits is let in."""

from forgery import printing_code
from harness import Attack

CODE = 0x600
IO_APIC, REDIRECTION = 0xfec00000, 0x10
PIN, NMI, TO_PROCESSOR_1 = 2, 0x400, 0x01000000
PIT_COMMAND, PIT_COUNTER, RATE = 0x43, 0x40, 0x34  # counter 0, both bytes, again and again

ATTACK = Attack("launcher", cpus=2, files={"code": printing_code("NMI-RUNS"), "vector": CODE.to_bytes(4, "little")},
                operations=[f"load code {CODE}", "load vector 8", f"out8 {PIT_COMMAND} {RATE}", f"out8 {PIT_COUNTER} 0",
                            f"out8 {PIT_COUNTER} 2",
                            f"poke {IO_APIC} 4 {REDIRECTION + 2 * PIN + 1}", f"poke {IO_APIC + 0x10} 4 {TO_PROCESSOR_1}",
                            f"poke {IO_APIC} 4 {REDIRECTION + 2 * PIN}", f"poke {IO_APIC + 0x10} 4 {NMI}"],
                refused=lambda seen: "guest starts, 2 processors" in seen.text and "NMI-RUNS" not in seen.text)
