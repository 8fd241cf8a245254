"""The guest asks for a sleep (S3) in which the hypervisor is lost and Linux is not."""

from harness import Attack

ATTACK = Attack("guest", guest=r"""
cat /sys/power/mem_sleep /sys/power/state 2> /dev/null
! grep -q deep /sys/power/mem_sleep 2> /dev/null || { echo "S3 is offered"; exit 1; }
echo "states: $(cat /sys/power/state)"
""")
