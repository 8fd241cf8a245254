"""The guest reads the hypervisor's memory."""

from harness import Attack

# All ones; not so the mailbox and the tables, which are for the guest.
ATTACK = Attack("guest", guest=r"""
can_read || exit 1
for offset in 0 0x10000 0x20000 0x100000 0x200000 0x240000 0x400000 0x600000 0xbff000; do
    is_nothing "$(memory $((kept + offset)) 4096)" || { echo "there is something at $offset of the kept region"; exit 1; }
done
printf 'nothing at %x\n' $kept
""")
