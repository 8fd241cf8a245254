#!/usr/bin/env python3
"""A failed test shows the end of the serial line of the machine that it failed on, as text, and the kernel's messages."""
import contextlib
import io
import os
import tempfile
import unittest

import serial_logs


class SerialLogs(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        serial_logs._failed.clear()

    def machine(self, name, lines):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="ascii", newline="") as file:
            file.write("\r\n".join(lines) + "\r\n")
        serial_logs.started(path)
        return path

    def shown(self, main):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            status = serial_logs.run(main)
        return status, said.getvalue()

    def test_the_last_lines_are_shown_without_control_codes(self):
        self.machine("serial.log", [f"\x1b[0;32mline {i}\x1b[0m\x1b]0;title\x07\x08" for i in range(100)])
        status, said = self.shown(lambda: 1)
        self.assertEqual(status, 1)
        self.assertEqual(said.splitlines()[1:], [f"    line {i}" for i in range(100 - serial_logs.LINES, 100)])

    def test_the_kernels_messages_before_them_are_shown(self):
        self.machine("serial.log", ["[    1.000000] kernel message", "no message", *(["task"] * serial_logs.LINES)])
        said = self.shown(lambda: 1)[1]
        self.assertIn("kernel message", said)
        self.assertNotIn("no message", said)

    def test_it_is_of_the_machine_that_failed(self):
        def main():
            self.machine("first", ["one"])
            serial_logs.failed()
            self.machine("second", ["two"])
            return 1
        said = self.shown(main)[1]
        self.assertIn("one", said)
        self.assertNotIn("two", said)

    def test_an_exception_is_a_failure_of_the_last_machine(self):
        def main():
            self.machine("serial.log", ["the last words"])
            raise RuntimeError("broken")
        status, said = self.shown(main)
        self.assertEqual(status, 3)
        self.assertIn("RuntimeError: broken", said)
        self.assertTrue(said.endswith("    the last words\n"))

    def test_a_test_that_holds_shows_nothing(self):
        self.machine("serial.log", ["line"])
        self.assertEqual(self.shown(lambda: 0), (0, ""))


if __name__ == "__main__":
    unittest.main()
