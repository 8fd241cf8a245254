#!/usr/bin/env python3
"""image/build-appliance refuses kernel command lines that give somebody at the console a shell, or leave the machine standing."""

import importlib.machinery
import importlib.util
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
IMAGE = Path(__file__).resolve().parents[3] / "image"
LOADER = importlib.machinery.SourceFileLoader("build_appliance", str(IMAGE / "build-appliance"))
BUILDER = importlib.util.module_from_spec(importlib.util.spec_from_loader(LOADER.name, LOADER))
LOADER.exec_module(BUILDER)

OWN = (IMAGE / "cmdline").read_text(encoding="ascii")


class CommandLine(unittest.TestCase):
    def refused(self, line, why):
        with self.assertRaisesRegex(BUILDER.Failure, why):
            BUILDER.check_command_line(line)

    def test_the_appliances_own_is_taken(self):
        BUILDER.check_command_line(OWN)

    def test_without_a_reset_at_panic_it_is_refused(self):
        for panic in ("", "panic=0", "panic=", "xpanic=10"):
            self.refused(f"boot=gatehouse {panic}", "no panic=SECONDS")

    def test_without_the_measured_initrds_own_boot_it_is_refused(self):
        self.refused("panic=10", "no boot=gatehouse")

    def test_with_a_shell_or_another_program_it_is_refused(self):
        for word in ("init=/bin/sh", "rdinit=/bin/sh", "break", "break=mount", "single", "1", "s", "S", "emergency",
                     "systemd.unit=rescue.target", "rd.systemd.unit=emergency", "systemd.debug-shell", "systemd.debug_shell=1",
                     "systemd.run=x", "kgdboc=ttyS0"):
            with self.subTest(word):
                self.refused(f"{OWN} {word}", "opens a shell")


if __name__ == "__main__":
    unittest.main()
