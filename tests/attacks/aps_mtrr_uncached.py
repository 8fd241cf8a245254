"""The other processor takes the memory above 512 MiB, the kept region in it, for uncached: it would not see what is in caches."""

from harness import Attack

# Not refused but harmless: MTRRs of all are the first one's, which are checked. Linux says so if they are not.
ATTACK = Attack("firmware", operations=["ap-msr 0x20e 0x20000000", "ap-msr 0x20f 0xffe0000800"], cpus=2,
                guest="if dmesg | grep 'inconsistent variable MTRR'; then exit 1; fi\n"
                      "[ $(nproc) = 2 ] && echo 'two processors with the same MTRRs'")
