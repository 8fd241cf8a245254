"""The disk controller's registers are moved from where the hypervisor watches them."""

from harness import Attack

# What is written is what is read; the registers themselves stay, and the disk with them.
ATTACK = Attack("guest", guest=r"""
can_read || exit 1
before=$(config "$controller" 0x24 4)
empty=$(memory $((0xf8000000))) || exit 1
set_config "$controller" 0x24 '\x00\x00\x00\xf8'
after=$(config "$controller" 0x24 4)
dd if=$disk of=/dev/null bs=4096 count=1 iflag=direct 2> /dev/null || { echo "the disk is lost"; exit 1; }
[ "$(memory $((0xf8000000)))" = "$empty" ] || { echo "the registers are there"; exit 1; }
set_config "$controller" 0x24 "\x${before:6:2}\x${before:4:2}\x${before:2:2}\x${before:0:2}"
[ "$after" = f8000000 ] || { echo "the write was not made: $before, then $after"; exit 1; }
echo "ABAR was $before, said $after, is $(config "$controller" 0x24 4)"
""")
