"""The guest hands the disk TRIM ranges, its own and others', though the policy does not allow TRIM."""

from harness import Attack

ATTACK = Attack("guest", guest=r"""
can_write || exit 1
own=$((root + root_sectors - 1))
dd if=$disk of=before bs=512 skip=$own count=1 iflag=direct 2> /dev/null
range() {  # LBA SECTORS
    local number=$(($1 | $2 << 48)) i
    for i in 0 8 16 24 32 40 48 56; do printf "\\x$(printf %02x $((number >> i & 255)))"; done
}
for place in $own 0 1 2 $boot $((boot + 5000)) $vault $((vault + vault_sectors - 1)) 0xffffffffff; do
    { range $place 1; head -c 504 /dev/zero; } > ranges
    if sg_raw -s 512 -i ranges $disk 85 0d 06 00 01 00 01 00 00 00 00 00 00 40 06 00 > said 2>&1; then
        echo "TRIM of sector $place went through"
        exit 1
    fi
    grep -q "Aborted Command" said || { echo "TRIM of sector $place: $(tr '\n' ' ' < said)"; exit 1; }
done
dd if=$disk bs=512 skip=$own count=1 iflag=direct 2> /dev/null | cmp -s - before || { echo "the sector has changed"; exit 1; }
can_write && echo "no TRIM went through"
""")
