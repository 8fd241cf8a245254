"""A table with code that runs when it is loaded, where the machine has none."""

from forgery import forged_table

ATTACK = forged_table("echo tables: *; [ ! -e SSDT ] && [ ! -e SSDT1 ]", refused=lambda seen: "SSDT-RUNS" not in seen.text)
