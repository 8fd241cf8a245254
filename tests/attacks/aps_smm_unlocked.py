"""SMM is locked on the first processor alone: the launcher moves the other one's SMBASE into the guest's memory."""

from harness import Attack

# The second processor is one of its own.
ATTACK = Attack("firmware", "processor does not come in", extra=(
    "-smp", "cpus=1,maxcpus=2,sockets=2,cores=1,threads=1",
    "-device", "EPYC-x86_64-cpu,socket-id=1,core-id=0,thread-id=0,smm-lock=off"))
