"""The disk controller's MSI address is programmed to memory that is not the APICs': its write is then a DMA of the guest's choice."""

from harness import Attack

ATTACK = Attack("guest", guest=r"""
at=0x$(config "$controller" 0x34 1)
while [ $((at)) != 0 ] && [ "$(config "$controller" $((at)) 1)" != 05 ]; do at=0x$(config "$controller" $((at + 1)) 1); done
[ $((at)) != 0 ] || { echo "no MSI to attack"; exit 1; }
before=$(config "$controller" $((at + 4)) 4)
place=$((kept + 0x300000))
bytes=$(printf '\\x%02x' $((place & 255)) $((place >> 8 & 255)) $((place >> 16 & 255)) $((place >> 24)))
for way in whole half byte; do
    case $way in
        whole) set_config "$controller" $((at + 4)) "$bytes" ;;
        half) set_config "$controller" $((at + 6)) "${bytes:8}" ;;
        byte) set_config "$controller" $((at + 7)) "${bytes:12}" ;;
    esac
    now=$(config "$controller" $((at + 4)) 4)
    [ "${now:0:3}" = fee ] || { echo "$way: MSI address $now"; exit 1; }
done
set_config "$controller" $((at + 8)) '\x01\x00\x00\x00'
[ $((0x$(config "$controller" $((at + 2)) 2) & 0x80)) = 0 ] || [ $((0x$(config "$controller" $((at + 8)) 4))) = 0 ] ||
    { echo "the upper half of the address is $(config "$controller" $((at + 8)) 4)"; exit 1; }
set_config "$controller" $((at + 8)) '\x00\x00\x00\x00'
set_config "$controller" $((at + 4)) "\x${before:6:2}\x${before:4:2}\x${before:2:2}\x${before:0:2}"
echo "MSI address was $before, is $(config "$controller" $((at + 4)) 4)"
""")
