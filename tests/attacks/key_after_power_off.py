"""The machine's memory is read after an orderly power-off."""

from harness import Attack

import key_search

ATTACK = Attack("guest", alone=True, watch=key_search.after_the_end,
                until="keys wiped", extra=["-no-shutdown"], guest=r"""
dd if=$disk of=/dev/null bs=1M count=16 iflag=direct
(sleep 1; systemctl poweroff --force --force) > /dev/null 2>&1 &
sleep infinity
""", refused=lambda seen: seen.watched and seen.watched["status"] == "shutdown" and
                not seen.watched["found"] and "keys wiped" in seen.text)
