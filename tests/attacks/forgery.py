"""What attacks share: ACPI tables of an attacker's, and how a rogue device is armed before the launch."""

import re
import time

from harness import Attack


def table(signature, body):
    """An ACPI table (ACPI 6.5, 5.2.6), its checksum right."""
    data = bytearray(signature + (36 + len(body)).to_bytes(4, "little") + b"\1\0" + b"ATTACK" + b"ATTACK  " + bytes(12) + body)
    data[9] = -sum(data) & 0xff
    return bytes(data)


# OperationRegion (LINE, SystemIO, 0x3F8, 1)
# Field (LINE, ByteAcc, NoLock, Preserve) { BYTE, 8 }
# Local0 = Buffer () { "\nXXXX-RUNS\n" }
# Local1 = 0
# While (Local1 < SizeOf (Local0)) { BYTE = DerefOf (Local0 [Local1]); Local1++ }
MODULE_LEVEL_CODE = bytes.fromhex("5b804c494e45010bf803015b810b4c494e4501425954450870110f0a0c0a") + b"%s" + bytes.fromhex(
    "2d52554e530a0060700061a21195618760708388606100425954457561")


def code(signature):
    """A table with code that runs when it is loaded and says so on the serial line."""
    return table(signature, MODULE_LEVEL_CODE.replace(b"%s", signature))


def printing_code(text):
    """Machine code, the same in 16, 32 and 64-bit mode, that prints on the serial line and halts."""
    port = bytes.fromhex("baf8039090")  # mov dx, 0x3f8; nop; nop -- or mov edx, 0x909003f8
    return port + b"".join(bytes([0xb0, byte, 0xee]) for byte in f"\n{text}\n".encode()) + bytes.fromhex("faf4ebfd")


def at_zero(role):
    """A module's entry says that it is at address 0, where code is; the other processor is there to run it, too."""
    mark = "RUNS-AT-ZERO"
    return Attack("launcher", operations=["load code 0", f"address {{{role}}} 0"], files={"code": printing_code(mark)}, cpus=2,
                  refused=lambda seen: "launch block" in seen.refusal and mark not in seen.text and not seen.key_released)


def bytes_of(signature, offset, size, value):
    return [f"acpi {signature} {offset + i} {value >> 8 * i & 0xff}" for i in range(size)]


DSDT_PLACE = 0x50000
FORGED_PORT = 0x3f8
# All at once: the guest looks at each in one boot.
FORGED = {
    "operations": [
        "table ssdt", "table erst", f"load dsdt {DSDT_PLACE}", *bytes_of("FACP", 40, 4, DSDT_PLACE),
        *bytes_of("FACP", 64, 4, FORGED_PORT), *bytes_of("APIC", 36, 4, 0xfed80000), *bytes_of("HPET", 44, 8, 0xfed40000),
        *bytes_of("MCFG", 44, 8, 0xd0000000)],
    "files": {"ssdt": code(b"SSDT"), "dsdt": code(b"DSDT"), "erst": table(b"ERST", bytes(12))},
}


def forged_table(script, refused=None):
    """The guest's script looks at its tables; refused if what is the launcher's is not among them."""
    return Attack("launcher", guest="cd /sys/firmware/acpi/tables && [ -s GTHS ] && [ -s DSDT ] || exit 1\n"
                  "number() { od -An -tx$3 -j$2 -N$3 $1 2> /dev/null | tr -d ' '; }\n" + script, refused=refused, **FORGED)


# --- a rogue device (tests/platform/README.md) at 0:10.0

FUNCTION = 0x80
REGISTERS, MEMORY = 0xf0000000, 0xf1000000
TARGET = 0x20000000  # the guest's memory
ONCE, EACH, WHEN_BUS_MASTER = 0, 1, 2
OWN_MEMORY = 0x40


def place():
    return [f"config {FUNCTION} 0x10 4 {REGISTERS:#x}", f"config {FUNCTION} 0x18 4 {MEMORY:#x}", f"config {FUNCTION} 4 2 6"]


def impostor():
    """The device's registers, which keep what is written, say that it is an IOMMU with all that is wanted."""
    features, invalidate_all = REGISTERS + 0x30, 1 << 6
    return place() + [f"poke {features:#x} 4 {invalidate_all:#x}"]


def arm(mode, target=TARGET, delay=5):
    registers = {0x08: target, 0x0c: 0, 0x10: 4096, 0x14: mode, 0x18: delay, 0x1c: 0x474f4420, 0x04: 1}
    return place() + [f"poke {REGISTERS + 0x3000 + offset:#x} 4 {value:#x}" for offset, value in registers.items()]


def engine(machine, _box):
    """(armed, transfers made, result of the last: 0 if the bus took it) of the rogue, wherever its registers are by now."""
    time.sleep(3)
    base = re.search(r"device +16, function 0:[\s\S]*?BAR0: 32 bit memory at (0x[0-9a-f]+)", machine.monitor("info pci"))
    if not base:
        return None
    def words():
        text = machine.monitor(f"xp /12wx {int(base[1], 16) + 0x3000:#x}")
        return [int(word, 16) for word in re.findall(r"0x([0-9a-f]{8})\b", text)]
    before, _ = words(), time.sleep(1)
    after = words()
    return {"armed": after[1] & 1, "made": after[9] - before[9], "all": after[9], "result": after[10]}


def armed_device(mode, options, **keywords):
    """Refused if it is disarmed when the guest starts, or none of its transfers is taken."""
    return Attack("device", operations=arm(mode), rogues=(f"addr=10.0,class=0x0200,{options}",), watch=engine,
                  refused=lambda seen: seen.watched is not None and "guest starts" in seen.text and
                  (not seen.watched["armed"] or seen.watched["result"] != 0 or seen.watched["all"] == 0), **keywords)
