"""Key material in a machine's memory and registers.

What is looked for is the disk key's halves and every round key of both (FIPS 197, 5.2), in the order in which a program
keeps them, each as 16 bytes.
"""

import mmap
import os
import re
import time

import appliance
from machine import PATIENCE


def _substitution():
    """The S-box: inverse in GF(2^8), then an affine map (FIPS 197, 5.1.1)."""
    def product(a, b):
        result = 0
        while b:
            result ^= a if b & 1 else 0
            a, b = a << 1 ^ (0x11b if a & 0x80 else 0), b >> 1
        return result
    inverse = [next((b for b in range(256) if product(a, b) == 1), 0) for a in range(256)]
    return [0x63 ^ b ^ _rotations(b) for b in inverse]


def _rotations(byte):
    result = 0
    for turn in range(1, 5):
        result ^= (byte << turn | byte >> 8 - turn) & 0xff
    return result


SBOX = _substitution()


def round_keys(key):
    """The 15 round keys of a 256-bit key."""
    words = [key[i:i + 4] for i in range(0, 32, 4)]
    constant = 1
    for i in range(8, 60):
        word = words[i - 1]
        if i % 8 == 0:
            word = bytes(SBOX[byte] for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = constant << 1 ^ (0x11b if constant & 0x80 else 0)
        elif i % 8 == 4:
            word = bytes(SBOX[byte] for byte in word)
        words.append(bytes(a ^ b for a, b in zip(words[i - 8], word)))
    return [b"".join(words[i:i + 4]) for i in range(0, 60, 4)]


def needles(disk_key):
    """name -> 16 bytes"""
    return {f"{half} key, round {number}": key
            for half, start in (("data", 0), ("tweak", 32))
            for number, key in enumerate(round_keys(disk_key[start:start + 32]))}


def in_registers(machine, wanted):
    """Names of what is in a vector or general register of any processor."""
    text = machine.monitor("info registers -a")
    values = [bytes.fromhex(match)[::-1] for match in re.findall(r"=([0-9a-f]{16,64})\b", text)]
    values += [bytes.fromhex(a + b)[::-1] for a, b in re.findall(r"([0-9a-f]{16}) ([0-9a-f]{16})", text)]
    found = [name for name, key in wanted.items() if any(key in value or key[:8] in value for value in values)]
    return found, len(values)


def in_memory(machine, wanted, path, size):
    """Names and addresses of what is in the machine's memory."""
    machine.qmp("pmemsave", val=0, size=size, filename=path)
    found = []
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        for name, key in wanted.items():
            at = memory.find(key)
            while at >= 0:
                found.append(f"{name} at {at:#x}")
                at = memory.find(key, at + 1)
    os.unlink(path)
    return found


def after_the_end(machine, box):
    """The machine's state and the places of key material, once it has shut down (QEMU's -no-shutdown) or does not in time."""
    end = time.monotonic() + PATIENCE
    while machine.qmp("query-status")["status"] != "shutdown" and time.monotonic() < end:
        time.sleep(0.2)
    wanted = needles(box.appliance.dm_table()[0]["key"])
    registers, _ = in_registers(machine, wanted)
    return {"status": machine.qmp("query-status")["status"],
            "found": registers + in_memory(machine, wanted, box.path("memory"), appliance.MEMORY << 20)}
