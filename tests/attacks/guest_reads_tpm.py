"""The guest uses the TPM's localities by itself."""

from harness import Attack

ATTACK = Attack("guest", guest=r"""
[ ! -e /dev/tpm0 ] || exit 1
for locality in 0 1 2 3 4; do
    if ! is_nothing "$(memory $((0xfed40000 + locality * 4096)))"; then echo "locality $locality answers"; exit 1; fi
done
echo "no locality answers"
""")
