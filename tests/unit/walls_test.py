#!/usr/bin/env python3
"""Every wall that tests/attacks/walls.py takes away is there, once, in the file that it names, and so is the attack."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/attacks"))
from walls import WALLS  # noqa: E402


class Walls(unittest.TestCase):
    def test_stand_where_the_list_says(self):
        for attack, file, wall, instead in WALLS:
            with self.subTest(attack):
                self.assertEqual((ROOT / file).read_text(encoding="utf-8").count(wall), 1, f"{file}: {wall}")
                self.assertNotEqual(wall, instead)

    def test_answer_attacks_that_there_are(self):
        for attack, *_ in WALLS:
            with self.subTest(attack):
                self.assertIn("\nATTACK = ", (ROOT / f"tests/attacks/{attack}.py").read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()
