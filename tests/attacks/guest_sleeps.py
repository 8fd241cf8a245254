"""The guest asks for a sleep (S3) in which the hypervisor is lost and Linux is not."""

from harness import Attack

ATTACK = Attack("guest", guest=r"""
states=$(cat /sys/power/state) && [ -n "$states" ] || { echo "control: no state is offered"; exit 1; }
! grep -q deep /sys/power/mem_sleep 2> /dev/null || { echo "S3 is offered"; exit 1; }
echo "states: $states"
""")
