"""The other processor reads all ones from 512 to 640 KiB, where it is to start, so that it is not counted."""

from harness import Attack

# SYSCFG.MtrrFixDramModEn, then the fixed ranges without RdMem, then closed again (APM vol. 2, 7.9.1).
ATTACK = Attack("firmware", "processor that does not come", cpus=2,
                operations=["ap-msr 0xc0010010 0x1c0000", "ap-msr 0x258 0x0606060606060606", "ap-msr 0xc0010010 0x140000"])
