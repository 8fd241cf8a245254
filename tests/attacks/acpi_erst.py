"""A table of error records, which is a list of register writes that the guest's kernel makes."""

from forgery import forged_table

ATTACK = forged_table("echo tables: *; [ ! -e ERST ]")
