"""The FADT names another DSDT, with code that runs when it is loaded."""

from forgery import forged_table

ATTACK = forged_table("echo tables: *; ! grep -q RUNS DSDT", refused=lambda seen: "DSDT-RUNS" not in seen.text)
