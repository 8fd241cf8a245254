#!/usr/bin/env python3
"""ci/addr2line finds functions of the hypervisor and the SLB of this build, and says so where there is nothing to find.

usage: addr2line_test.py BUILD (brings both programs up to date first)
"""

import re
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(sys.argv.pop(1)).resolve()
HYPERVISOR, SLB = BUILD / "hypervisor/hypervisor", BUILD / "hypervisor/slb/slb"


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def look_up(*arguments, text=""):
    done = subprocess.run([ROOT / "ci/addr2line", "--build", BUILD, *arguments], input=text, capture_output=True,
                          text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def address_of(program, symbol):
    found = re.search(rf"^([0-9a-f]{{16}}) T {symbol}$", output_of("nm", program), re.MULTILINE)
    return "0x" + found[1]


def calls_of_panic():
    """[(the address that a call of panic() would return to, the function that it is in)]"""
    function, called, returns = None, False, []
    for line in output_of("objdump", "-d", "-C", "--no-show-raw-insn", HYPERVISOR).splitlines():
        head = re.match(r"([0-9a-f]{16}) <(.*)>:$", line)
        code = re.match(r" *([0-9a-f]{16}):\t(.*)", line)
        if called and (head or code):
            returns.append(("0x" + (head or code)[1], caller))
            called = False
        if head:
            function = head[2]
        elif code and re.match(r"call .*<gatehouse::panic\(", code[2]):
            called, caller = True, function
    return returns


class Addresses(unittest.TestCase):
    def test_finds_a_known_function_in_each_program(self):
        for program, symbol, file in ((HYPERVISOR, "hypervisor_main", "hypervisor/main.cpp"),
                                      (SLB, "slb_main", "hypervisor/slb/main.cpp")):
            with self.subTest(symbol):
                address = address_of(program, symbol)
                status, out, _ = look_up(address)
                line = 1 + next(number for number, text in enumerate((ROOT / file).read_text().splitlines())
                                if text.startswith(f"void {symbol}(") and text.endswith("{"))
                self.assertEqual((status, out.splitlines()[0]),
                                 (0, f"{address}  {program.name}: {symbol} at {file}:{line}"))

    def test_a_panic_is_found_where_it_was_called(self):
        calls = calls_of_panic()
        self.assertTrue(calls, "no call of panic()")
        for address, function in calls:
            with self.subTest(function):
                status, out, _ = look_up(f"panic: why (cpu 0, called from {address}); keys wiped, machine stopped")
                self.assertEqual(status, 0)
                # The outermost of what was inlined is the function itself; a clone has a suffix in the symbol's name.
                self.assertIn(function.split("(")[0], out)

    def test_an_exception_is_found_where_it_happened(self):
        address = address_of(HYPERVISOR, "hypervisor_main")
        status, out, _ = look_up(f"panic: exception 14 error 0x0 at {address} rsp 0xffffffff802ff000 cr2 0x8; keys wiped")
        self.assertEqual((status, out.count("hypervisor: ")), (0, 1))
        self.assertIn("hypervisor_main at", out)

    def test_an_address_to_return_to_is_the_calls(self):
        address = address_of(HYPERVISOR, "hypervisor_main")
        self.assertNotIn("hypervisor_main at", look_up("--call", address)[1])

    def test_reads_a_whole_log(self):
        address = address_of(SLB, "slb_main")
        status, out, _ = look_up(text=f"slb: started\r\nxx {address}\r\nPCR 17 {'ffffffff80200100' * 4}\r\n")
        self.assertEqual((status, out.count("\n")), (0, len(look_up(address)[1].splitlines())))

    def test_nothing_found_is_said(self):
        for text in ("0x2de00000", "panic: no address"):
            status, out, error = look_up(text)
            self.assertEqual((status, out), (1, ""))
            self.assertIn("no address", error)

    def test_a_directory_without_a_build_is_said(self):
        status, _, error = look_up("--build", "/nowhere", "0xffffffff80200000")
        self.assertEqual(status, 3)
        self.assertIn("ninja", error)

    def test_usage(self):
        self.assertEqual(look_up("--what")[0], 2)
        self.assertEqual(look_up("--help")[0], 0)


if __name__ == "__main__":
    subprocess.run(["ninja", "-C", BUILD, "--quiet", "hypervisor", "slb"], check=True, stdout=subprocess.DEVNULL)
    unittest.main()
