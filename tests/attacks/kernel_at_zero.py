"""The kernel's entry says that it is at address 0, with code there, for whoever takes a null pointer for a function."""

from forgery import at_zero

ATTACK = at_zero("kernel")
