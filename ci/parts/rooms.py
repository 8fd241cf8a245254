"""rooms.txt: which rooms there are, and what of the sources is against them."""

import re

KINDS = ("measured", "freestanding", "host", "test")
SOURCE = re.compile(r"\.(c|cc|cpp|h|hpp|inc|S)(\.in)?$")
INCLUDE = re.compile(r"^\s*#\s*include(?:_next)?\b\s*(.*)", re.M)
INCLUDED = re.compile(r'"([^"]+)"|<([^>]+)>')

# The one room that speaks SQL, its headers with which one does, and who may include those: it, and tests that forge rows.
DATABASE = "attestation/server/database"
SPEAKING = {f"{DATABASE}/session.hpp", f"{DATABASE}/record.hpp"}
MAY_SPEAK = {DATABASE, "tests/unit/server"}
# A comment, a character, or a string with what stands in it.
LITERAL = re.compile(r"//[^\n]*|/\*.*?\*/|(?<!\w)'(?:[^'\\\n]|\\.)+'"
                     r'|R"(?P<mark>[^()\\\s"]*)\((?P<raw>.*?)\)(?P=mark)"|"(?P<plain>(?:[^"\\\n]|\\.)*)"', re.S)
STATEMENT = re.compile(r"(?:\s|\\n)*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|PRAGMA)\s")


class Rooms:
    """The list of a tree: the kinds of the rooms, in order, and the room of each directory.

    What is wrong with the list itself is in `faults`.
    """

    def __init__(self, tree):
        self.kinds, self.of_directory, self.headers, self.faults = {}, {}, set(), []
        for number, line in enumerate((tree / "ci" / "rooms.txt").read_text(encoding="utf-8").splitlines(), 1):
            kind, *names = line.split("#")[0].split() or [None]
            if kind is None:
                continue
            if kind == "headers":
                self.headers.update(names)
            elif kind not in KINDS or not names:
                self._fault(number, f"not KIND DIRECTORY...: {line}")
            else:
                self._add(number, kind, names)

    def _add(self, number, kind, names):
        if self.kinds and KINDS.index(kind) < KINDS.index(list(self.kinds.values())[-1]):
            self._fault(number, f"{names[0]} is {kind}, and stands after a room that is not")
        for name in names:
            if name in self.of_directory:
                self._fault(number, f"{name} stands there twice")
            self.of_directory[name] = names[0]
        self.kinds[names[0]] = kind

    def _fault(self, number, what):
        self.faults.append(f"rooms.txt:{number}: {what}")

    def of(self, name):
        """The room of a file by its path in the tree; None if its directory is in none."""
        return self.of_directory.get(name.rpartition("/")[0])

    def measured(self, name):
        return self.kinds.get(self.of(name)) == "measured"


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def sql_faults(name, kind, text):
    """SQL in a source that is not of the database's room: tests may write it, nobody else."""
    if kind == "test" or name.rpartition("/")[0] == DATABASE:
        return []
    return [f"{name}:{line_of(text, literal.start())}: an SQL statement, outside of {DATABASE}"
            for literal in LITERAL.finditer(text) if STATEMENT.match(literal["raw"] or literal["plain"] or "")]


def faults_of_tree(tree, names):
    """What is against rooms.txt in the files of the tree at `names`, a line each."""
    rooms = Rooms(tree)
    names = set(names)
    sources = sorted(name for name in names if SOURCE.search(name))
    faults = list(rooms.faults)
    for directory in rooms.of_directory:
        if not any(name.rpartition("/")[0] == directory for name in sources):
            faults.append(f"rooms.txt: {directory} has no sources")
    place = {room: index for index, room in enumerate(rooms.kinds)}
    used = set()
    for name in sources:
        room = rooms.of(name)
        if room is None:
            faults.append(f"{name}: its directory is in no room of rooms.txt")
            continue
        text = (tree / name).read_text(encoding="utf-8")
        faults += sql_faults(name, rooms.kinds[room], text)
        for include in INCLUDE.finditer(text):
            at = f"{name}:{line_of(text, include.start(1))}"
            found = INCLUDED.match(include[1])
            quoted, outside = found.groups() if found else (None, None)
            if found is None:
                faults.append(f"{at}: an include that this test cannot read: {include[1]}")
            elif outside in names:
                faults.append(f'{at}: <{outside}> is of this tree: "{outside}"')
            elif outside is not None and rooms.kinds[room] in ("measured", "freestanding"):
                used.add(outside)
                if outside not in rooms.headers:
                    kind = rooms.kinds[room]
                    faults.append(f"{at}: {room} is {kind}, and <{outside}> not among the headers of rooms.txt")
            elif outside is not None:
                pass  # a program of Linux: any
            elif quoted not in names:
                faults.append(f'{at}: "{quoted}" is not a file of this tree, from its top')
            elif quoted in SPEAKING and name.rpartition("/")[0] not in MAY_SPEAK:
                faults.append(f"{at}: {quoted} is for " + " and ".join(sorted(MAY_SPEAK)) + " only")
            elif rooms.of(quoted) is not None and place[rooms.of(quoted)] > place[room]:
                leaves = rooms.measured(name) and not rooms.measured(quoted)
                faults.append(f"{at}: {room} includes {rooms.of(quoted)}, which "
                              + ("is not measured" if leaves else "stands above it in rooms.txt"))
            elif rooms.of(quoted) is None:
                faults.append(f'{at}: "{quoted}" is in no room of rooms.txt')
    for header in sorted(rooms.headers - used):
        faults.append(f"rooms.txt: <{header}> is included by no measured or freestanding room")
    return faults
