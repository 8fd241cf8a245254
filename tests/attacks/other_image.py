"""Another program with the hypervisor's header is in the hypervisor's place."""

from forgery import printing_code

from harness import Attack

IMAGE, SIZE_FIELD = "kept+0x200000", 12
# launch/layout.hpp: magic, bytes in the file.
CODE = printing_code("OTHER-IMAGE-RUNS")
SIZE = 16 + len(CODE)
PROGRAM = b"GGHYVIM2" + SIZE.to_bytes(8, "little") + CODE

# It runs, with its own hash in PCR 17, by which the TPM gives it no key (bit_in_hypervisor): it ends without one.
ATTACK = Attack("launcher", operations=[f"load program {IMAGE}", f"block {SIZE_FIELD} 4 {SIZE}"], files={"program": PROGRAM},
                until="OTHER-IMAGE-RUNS",
                refused=lambda seen: f"hypervisor measured, {SIZE} bytes" in seen.text and "OTHER-IMAGE-RUNS" in seen.text and
                not seen.key_released)
