"""The guest uses the TPM's localities by itself."""

from harness import Attack

# The access register, the interface's id, and the device's.
ATTACK = Attack("guest", guest=r"""
can_read || exit 1
[ ! -e /dev/tpm0 ] || { echo "there is a TPM"; exit 1; }
for locality in 0 1 2 3 4; do
    for register in 0 0xf00; do
        place=$((0xfed40000 + locality * 4096 + register))
        is_nothing "$(memory $place)" || { echo "locality $locality answers at $register, or is not read"; exit 1; }
    done
done
echo "no locality answers"
""")
