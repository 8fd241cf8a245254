"""The disk controller's registers are moved from where the hypervisor watches them."""

from harness import Attack

ATTACK = Attack("guest", guest=r"""
before=$(config "$controller" 0x24 4)
set_config "$controller" 0x24 '\x00\x00\x00\xf8'
after=$(config "$controller" 0x24 4)
echo "ABAR was $before, is $after"
[ "$before" = "$after" ] && dd if=$disk of=/dev/null bs=4096 count=1 iflag=direct
""")
