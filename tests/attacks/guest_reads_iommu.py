"""The guest uses the IOMMU's registers."""

from harness import Attack

ATTACK = Attack("guest", guest=r"""
if ! is_nothing "$(memory $((0xfed80000)))"; then echo "the registers answer"; exit 1; fi
echo "no register answers"
""")
