"""The launcher has loaded new microcode on the first processor alone, which is the one that is asked for its level."""

from harness import Attack

# The second processor is one of its own.
ATTACK = Attack("launcher", "processor does not come in", extra=(
    "-smp", "cpus=1,maxcpus=2,sockets=2,cores=1,threads=1",
    "-device", "EPYC-x86_64-cpu,socket-id=1,core-id=0,thread-id=0,ucode-rev=0x100000000"))
