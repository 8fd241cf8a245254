#!/usr/bin/env python3
"""Every #include of the checkout is as rooms.txt allows, and SQL stands in the database's room alone; and this test
finds it where that is not so."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "ci/parts"))
from rooms import KINDS, SPEAKING, Rooms, faults_of_tree  # noqa: E402

GOOD = {
    "ci/rooms.txt": "measured low low/part  # comment\nmeasured middle\nhost program\ntest tests/unit\nheaders cstdint\n",
    "low/bytes.hpp": "#include <cstdint>\n",
    "low/part/part.cpp": '#include "low/bytes.hpp"\n',
    "middle/box.cpp": '#include <cstdint>\n\n#include "low/bytes.hpp"\n#include "middle/box.hpp"\n',
    "middle/box.hpp": "",
    "program/main.cpp": '#include <string>\n#include "middle/box.hpp"\n',
    "tests/unit/box_test.cpp": '#include "middle/box.hpp"\n',
}


class Rule(unittest.TestCase):
    """A small tree, each time with one thing changed."""

    def assert_faults(self, changed, *faults):
        with tempfile.TemporaryDirectory() as scratch:
            files = {name: text for name, text in (GOOD | changed).items() if text is not None}
            for name, text in files.items():
                path = pathlib.Path(scratch, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            self.assertEqual(faults_of_tree(pathlib.Path(scratch), files), list(faults))

    def assert_list_faults(self, old, new, *faults):
        self.assertIn(old, GOOD["ci/rooms.txt"])
        self.assert_faults({"ci/rooms.txt": GOOD["ci/rooms.txt"].replace(old, new)}, *faults)

    def test_accepts_a_good_tree(self):
        self.assert_faults({})

    def test_refuses_an_include_that_leaves_the_measured_rooms(self):
        self.assert_faults({"middle/box.hpp": '#pragma once\n#include "program/text.hpp"\n', "program/text.hpp": ""},
                           "middle/box.hpp:2: middle includes program, which is not measured")

    def test_refuses_an_include_upward(self):
        self.assert_faults({"low/part/part.cpp": '#  include "middle/box.hpp"\n'},
                           "low/part/part.cpp:1: low includes middle, which stands above it in rooms.txt")

    def test_refuses_the_upward_one_of_two_rooms_that_include_each_other(self):
        self.assert_faults({"low/bytes.hpp": '#include <cstdint>\n#include "middle/box.hpp"\n'},
                           "low/bytes.hpp:2: low includes middle, which stands above it in rooms.txt")

    def test_refuses_a_product_that_includes_a_test(self):
        self.assert_faults({"program/main.cpp": '#include "tests/unit/box.hpp"\n', "tests/unit/box.hpp": ""},
                           "program/main.cpp:1: program includes tests/unit, which stands above it in rooms.txt")

    def test_refuses_a_header_of_the_host_in_a_measured_room(self):
        self.assert_faults({"middle/box.hpp": "#include <vector>\n"},
                           "middle/box.hpp:1: middle is measured, and <vector> not among the headers of rooms.txt")

    def test_refuses_a_directory_that_is_in_no_room(self):
        self.assert_faults({"low/other/other.S": "", "program/main.cpp": '#include "low/other/other.hpp"\n',
                            "low/other/other.hpp": ""},
                           "low/other/other.S: its directory is in no room of rooms.txt",
                           "low/other/other.hpp: its directory is in no room of rooms.txt",
                           'program/main.cpp:1: "low/other/other.hpp" is in no room of rooms.txt')

    def test_refuses_an_include_from_beside(self):
        self.assert_faults({"middle/box.cpp": '#include "box.hpp"\n'},
                           'middle/box.cpp:1: "box.hpp" is not a file of this tree, from its top')

    def test_refuses_a_file_of_the_tree_in_angle_brackets(self):
        self.assert_faults({"low/part/part.cpp": "#include <middle/box.hpp>\n"},
                           'low/part/part.cpp:1: <middle/box.hpp> is of this tree: "middle/box.hpp"')

    def assert_database_faults(self, changed, *faults):
        """The same for a tree with a database in it."""
        database = {"ci/rooms.txt": GOOD["ci/rooms.txt"].replace(
                        "host program\n", "host attestation/server/database\nhost program\ntest tests/unit/server\n"),
                    "attestation/server/database/session.hpp": "", "attestation/server/database/record.hpp": "",
                    "attestation/server/database/rows.cpp": '#include "attestation/server/database/record.hpp"\n'
                                                            'const char* const kRows = "SELECT 1";\n',
                    "tests/unit/server/rows_test.cpp": '#include "attestation/server/database/session.hpp"\n'
                                                       'const char* const kForged = "DELETE FROM audit";\n'}
        self.assert_faults(database | changed, *faults)

    def test_accepts_sql_in_the_database_and_in_tests(self):
        self.assert_database_faults({})

    def test_refuses_sql_elsewhere(self):
        for statement in ('"SELECT 1"', '"INSERT INTO t VALUES (1)"', '"UPDATE t SET a = 1"', '" DELETE FROM t"',
                          'R"sql(\n    CREATE TABLE t (a INTEGER)\n)sql"', 'R"(PRAGMA user_version)"', '"\\nSELECT 1"',
                          'u8"SELECT 1"', '"a", "SELECT 1"', '"// a", "SELECT 1"', '"\\"", "SELECT 1"',
                          "'\"', \"SELECT 1\""):
            with self.subTest(statement):
                self.assert_database_faults(
                    {"program/main.cpp": f"\nsend({statement});\n"},
                    "program/main.cpp:2: an SQL statement, outside of attestation/server/database")

    def test_accepts_words_of_sql_that_are_no_statement(self):
        for text in ('route("DELETE", "/v1/tokens");', '// "SELECT 1"', '/* "SELECT 1"\n"SELECT 1" */',
                     'say("SELECTED 1");', 'say("to UPDATE a row");', "number = 10'000; say(\"'\"); // SELECT 1"):
            with self.subTest(text):
                self.assert_database_faults({"program/main.cpp": text})

    def test_refuses_the_headers_of_sql_elsewhere(self):
        for place in ("program", "tests/unit"):
            for header in ("session", "record"):
                with self.subTest(place=place, header=header):
                    path = f"attestation/server/database/{header}.hpp"
                    self.assert_database_faults({f"{place}/other.cpp": f'\n#include "{path}"\n'},
                                                f"{place}/other.cpp:2: {path} is for attestation/server/database and "
                                                "tests/unit/server only")

    def test_refuses_an_include_that_it_cannot_read(self):
        self.assert_faults({"low/part/part.cpp": "#include BOX\n"},
                           "low/part/part.cpp:1: an include that this test cannot read: BOX")

    def test_refuses_a_room_that_is_not_there(self):
        self.assert_list_faults("measured middle", "measured middle midle", "rooms.txt: midle has no sources")

    def test_refuses_a_directory_of_two_rooms(self):
        self.assert_list_faults("host program", "host program low/part", "rooms.txt:3: low/part stands there twice")

    def test_refuses_an_unknown_kind(self):
        self.assert_list_faults("test tests/unit", "tests tests/unit",
                                "rooms.txt:4: not KIND DIRECTORY...: tests tests/unit",
                                "tests/unit/box_test.cpp: its directory is in no room of rooms.txt")

    def test_refuses_a_measured_room_above_one_that_is_not(self):
        self.assert_list_faults("measured middle\nhost program", "host program\nmeasured middle",
                                "rooms.txt:3: middle is measured, and stands after a room that is not",
                                "program/main.cpp:2: program includes middle, which stands above it in rooms.txt")

    def test_refuses_a_header_that_only_programs_include(self):
        self.assert_list_faults("headers cstdint", "headers cstdint string",
                                "rooms.txt: <string> is included by no measured or freestanding room")


class ThisTree(unittest.TestCase):
    def test_is_as_its_rooms_say(self):
        names = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                               capture_output=True, text=True).stdout.splitlines()
        names = [name for name in names if (ROOT / name).is_file()]
        self.assertEqual("\n".join(faults_of_tree(ROOT, names)), "")
        self.assertEqual(set(Rooms(ROOT).kinds.values()), set(KINDS))
        for name in SPEAKING:  # what the rule names is there
            self.assertIn(name, names)

    def test_only_checks_look_into_an_address_of_the_guests(self):
        rooms, looking = Rooms(ROOT), set()
        for source in (*ROOT.glob("hypervisor/**/*.?pp"), *ROOT.glob("ata/**/*.?pp")):
            if ".unchecked()" in source.read_text(encoding="utf-8"):
                looking.add(rooms.of(str(source.relative_to(ROOT))))
        self.assertEqual(looking, {"hypervisor/memory"})


if __name__ == "__main__":
    unittest.main()
