"""Another program with the hypervisor's header is in the hypervisor's place."""

from forgery import printing_code

from harness import Attack

IMAGE, SIZE_FIELD = "kept+0x200000", 12
# launch/layout.hpp: magic, version, bytes in the file, bytes in memory, entry.
CODE = printing_code("OTHER-IMAGE-RUNS")
SIZE = 24 + len(CODE) + -(24 + len(CODE)) % 16
PROGRAM = (b"GGHYVIM1" + b"".join(number.to_bytes(4, "little") for number in (1, SIZE, SIZE, 24)) + CODE).ljust(SIZE, b"\xf4")

# It runs, with its own hash in PCR 17, by which the TPM gives it no key (bit_in_hypervisor): it ends without one.
ATTACK = Attack("launcher", operations=[f"load program {IMAGE}", f"block {SIZE_FIELD} 4 {SIZE}"], files={"program": PROGRAM},
                until="OTHER-IMAGE-RUNS", timeout=60,
                refused=lambda seen: f"hypervisor measured, {SIZE} bytes" in seen.text and "OTHER-IMAGE-RUNS" in seen.text and
                not seen.key_released)
