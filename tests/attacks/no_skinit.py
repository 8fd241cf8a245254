"""The launcher enters the SLB without SKINIT, in the state that SKINIT leaves."""

import re

from harness import Attack

ATTACK = Attack("launcher", "no dynamic launch", change=lambda box: box.edit(
    "/grub/grub.cfg", lambda text: re.sub(rb"(launcher\.elf[^\n]*)", rb"\1 --no-skinit", text, count=1)))
