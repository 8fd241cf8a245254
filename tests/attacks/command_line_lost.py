"""The measured command line is put where the hypervisor makes the kernel's setup block, which would write over it."""

from harness import Attack

# Not refused but harmless: what was measured is what the kernel gets.
ATTACK = Attack("launcher", operations=["place {command_line} top-0x1000"], until=r"Command line: .*\n",
                refused=lambda seen: "Command line: boot=gatehouse" in seen.text or seen.is_stopped)
