"""The other processor reads all ones from 512 to 640 KiB, where it is to start, so that it is not counted."""

from harness import Attack

# SYSCFG.MtrrFixDramModEn, then the fixed ranges without RdMem, then closed again (APM vol. 2, 7.9.1).  Not refused but
# harmless: a processor that does not come is nobody's, and nobody can start it later.
ATTACK = Attack("firmware", cpus=2, timeout=90, refused=lambda seen: "guest starts, 1 processors" in seen.text or not seen.key_released,
                operations=["ap-msr 0xc0010010 0x1c0000", "ap-msr 0x258 0x0606060606060606", "ap-msr 0xc0010010 0x140000"])
