"""The guest reads the hypervisor's memory."""

from harness import Attack

# Nothing, or all ones; not so the mailbox and the tables, which are for the guest.
ATTACK = Attack("guest", guest=r"""
for offset in 0 0x20000 0x200000 0x240000 0x400000 0x600000 0xbff000; do
    if ! is_nothing "$(memory $((kept + offset)))"; then echo "there is something at $offset of the kept region"; exit 1; fi
done
printf 'nothing at %x\n' $kept
""")
