"""The machine's memory is read after the guest has made its processor shut down."""

from harness import Attack

import key_search

ATTACK = Attack("guest", alone=True, watch=key_search.after_the_end,
                until=r"keys wiped|\(triple fault\)", extra=["-no-shutdown"], guest=r"""
dd if=$disk of=/dev/null bs=1M count=16 iflag=direct
(sleep 1; echo triple > /sys/kernel/reboot/type; echo 1 > /sys/kernel/reboot/force; reboot -f -f) > /dev/null 2>&1 &
sleep infinity
""", refused=lambda seen: seen.watched and seen.watched["status"] == "shutdown" and
                not seen.watched["found"] and "triple fault" in seen.text)
