#!/usr/bin/env python3
"""Every file and every test that a document names is there, every room has its page, THREATS.md has every attack, and the
verifier's page every log.

In *.md of the checkout: the targets of links; what stands in code type and looks like a file (it has a known ending, or is a
path of a top-level directory); in THREATS.md also the attacks (tests/attacks/NAME.py) and, in quotes behind "demo row", rows
of the demonstration. A name without directories may be anywhere in the checkout. Where a table ends in "result" and "shown by",
each row names a test there, by its suite (or where it is instantiated) or as SUITE.TEST.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENDINGS = ("cpp", "hpp", "py", "mjs", "sh", "md", "toml", "service", "S", "ld")
FILE = re.compile(r"[\w./-]+\.(?:" + "|".join(ENDINGS) + r")")
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# What operators make, not what is here.
MADE = {"agent.toml", "server.toml"}


def tracked():
    names = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.splitlines()
    return {name for name in names if (ROOT / name).exists()}


def is_there(name, files, beside):
    """`name` as a path of the checkout or beside the document, or as a file anywhere."""
    place = name.rstrip("/")
    if (ROOT / place).exists() or (beside / place).exists():
        return True
    return any(file == place or file.endswith("/" + place) for file in files)


def faults_of(document, files, rooms, attacks, demo):
    text = (ROOT / document).read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    beside = (ROOT / document).parent
    for target in LINK.findall(prose):
        if "://" not in target and not is_there(target.split("#")[0], files, beside):
            yield f"the link to {target}"
    for code in CODE.findall(prose):
        word = code.split()[0]
        is_path = word.split("/")[0] in rooms and "/" in word
        if (is_path or FILE.fullmatch(word)) and word not in MADE and "NAME" not in word and not is_there(word, files, beside):
            yield f"`{code}`"
        if document.endswith("THREATS.md") and re.fullmatch(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+", code) and code not in attacks:
            yield f"the attack `{code}`"
    for row in re.findall(r'demo rows? "([^"]+)"', prose):
        if row not in demo:
            yield f'the row "{row}" of the demonstration'


def shown_by(document, tests):
    """Rows of tables that nothing shows, or a test that is not there."""
    inside = False
    for line in (ROOT / document).read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            inside = False
        elif line.endswith("| result | shown by |"):
            inside = True
        elif inside and not line.startswith("|---"):
            names = CODE.findall(line.split(" | ")[-1])
            for name in names or ["?"]:
                if name not in tests:
                    yield f"the test {name} of the row \"{line.split('|')[1].strip()}\""


def tests_of(files):
    tests = set()
    for file in files:
        if re.fullmatch(r"tests/unit/.*_test\.cpp", file):
            text = (ROOT / file).read_text(encoding="utf-8")
            for suite, name in re.findall(r"\nTEST(?:_F|_P)?\((\w+),\s*(\w+)\)", text):
                tests |= {suite, f"{suite}.{name}"}
            tests.update(re.findall(r"\nINSTANTIATE_TEST_SUITE_P\(\s*(\w+),", text))
    return tests


def missing(files, rooms):
    """What should be written and is not: the pages of rooms (directories of the top level, tools aside), attacks."""
    for room in sorted(room for room in rooms if room != "ci" and not room.startswith(".")):
        if f"{room}/README.md" not in files:
            yield f"{room}/README.md is not there"
    threats = (ROOT / "policies/THREATS.md").read_text(encoding="utf-8")
    for file in sorted(ROOT.glob("tests/attacks/*.py")):
        if "\nATTACK = " in file.read_text(encoding="utf-8") and f"`{file.stem}`" not in threats:
            yield f"policies/THREATS.md: the attack `{file.stem}` is not in it"
    verifier = (ROOT / "attestation/README.md").read_text(encoding="utf-8")
    for file in sorted(files):
        if file.startswith("tests/data/event_logs/") and file.endswith(".bin") and f"`{file}`" not in verifier:
            yield f"attestation/README.md: {file} is not in it"


def main():
    files = tracked()
    rooms = {file.split("/")[0] for file in files if "/" in file}
    attacks = {pathlib.Path(file).stem for file in files if file.startswith("tests/attacks/")}
    demo = (ROOT / "tests/system/demo.py").read_text(encoding="utf-8")
    tests = tests_of(files)
    failed = 0
    for fault in missing(files, rooms):
        print(fault)
        failed += 1
    documents = sorted(file for file in files if file.endswith(".md"))
    for document in documents:
        for fault in (*faults_of(document, files, rooms, attacks, demo), *shown_by(document, tests)):
            print(f"{document}: {fault} is not there")
            failed += 1
    print(f"{len(documents)} documents, {failed} faults")
    return 1 if failed or not documents else 0


if __name__ == "__main__":
    sys.exit(main())
