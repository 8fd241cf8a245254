"""The guest uses the IOMMU's registers."""

from harness import Attack

# Tables and control; then the queues' pointers.
ATTACK = Attack("guest", guest=r"""
can_read || exit 1
for register in 0 0x2000; do
    is_nothing "$(memory $((0xfed80000 + register)))" || { echo "the registers answer at $register, or are not read"; exit 1; }
done
echo "no register answers"
""")
