"""What disk.py shows: its table, its drawing, and the functions of a profile."""

import os
import subprocess
import sys

NAMES = {"plain": "plain", "dmcrypt": "dm-crypt", "gatehouse": "Gatehouse"}
COLOURS = {"plain": "#9aa0a6", "dmcrypt": "#d98e04", "gatehouse": "#1a6fb5"}


def say(text):
    print(f"\r\033[K{text}" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# --- the table ----------------------------------------------------------------------------------------------------


def print_table(figures):
    print(f"{'':<20}{'instructions per transfer, thousands':^40}  {'exits':>6}  {'MB/s, to plain':^20}  {'largest':>7}")
    print(f"{'case':<20}{'plain':>9}{'dm-crypt':>10}{'Gatehouse':>11}{'(own)':>10}  {'':>6}  {'dm-crypt':>9}{'Gatehouse':>11}"
          f"  {'spread':>7}")
    for row in figures["cases"]:
        thousands = {name: row[name]["instructions_per_io"] / 1000 for name in NAMES}
        own = row["gatehouse"]["hypervisor_instructions_per_io"] / 1000
        speed = {name: row[name]["mb_per_s"] / row["plain"]["mb_per_s"] for name in NAMES}
        spread = max(row[name]["spread"]["instructions_per_io"] for name in NAMES)
        print(f"{row['case']:<20}{thousands['plain']:>9.1f}{thousands['dmcrypt']:>10.1f}{thousands['gatehouse']:>11.1f}"
              f"{own:>10.1f}  {row['gatehouse']['exits_per_io']:>6.2f}  {speed['dmcrypt']:>9.2f}{speed['gatehouse']:>11.2f}"
              f"  {spread:>6.1%}")
    print("(own): of Gatehouse's, the hypervisor's. Spread: of the instructions, over the repetitions, the worst of the three.")
    limits = {name: sorted({row[name]["max_command_kb"] for row in figures["cases"] if row["case"].endswith("-free")})
              for name in NAMES}
    if any(limits.values()):
        print("-free: the largest command is what the guest chooses: " +
              ", ".join(f"{NAMES[name]} {limit[0]:.0f}K" for name, limit in limits.items()))


# --- the drawing --------------------------------------------------------------------------------------------------


def text(x, y, words, anchor="start", size=12, weight="normal"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}">{words}</text>')


def bars(figures, left, top, width, title, value, shown):
    """A panel of three bars for each case. `value`: of a case's configuration; `shown`: its text."""
    values = [{name: value(row, name) for name in NAMES} for row in figures["cases"]]
    longest = max(max(one.values()) for one in values)
    parts = [text(left, top - 10, title, weight="bold")]
    for number, one in enumerate(values):
        for place, name in enumerate(NAMES):
            y = top + number * 48 + place * 13
            length = max(1, width * one[name] / longest)
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="11" fill="{COLOURS[name]}"/>')
            parts.append(text(left + length + 4, y + 10, shown(one[name]), size=10))
    return parts


def drawing(figures):
    """SVG: instructions and speed of each case, each to plain's."""
    rows = figures["cases"]
    height = 90 + 48 * len(rows)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="920" height="{height}" font-family="sans-serif" fill="#222">',
             f'<rect width="920" height="{height}" fill="white"/>']
    for place, name in enumerate(NAMES):
        parts.append(f'<rect x="{140 + place * 110}" y="14" width="12" height="12" fill="{COLOURS[name]}"/>')
        parts.append(text(157 + place * 110, 24, NAMES[name]))
    for number, row in enumerate(rows):
        parts.append(text(130, 94 + number * 48, row["case"], "end"))
    parts += bars(figures, 140, 70, 320, "instructions, times plain (less is better)",
                  lambda row, name: row[name]["instructions_per_io"] / row["plain"]["instructions_per_io"], "{:.1f}".format)
    parts += bars(figures, 540, 70, 320, "MB/s, to plain (more is better)",
                  lambda row, name: row[name]["mb_per_s"] / row["plain"]["mb_per_s"], "{:.2f}".format)
    return "\n".join(parts + ["</svg>"]) + "\n"


# --- the profile --------------------------------------------------------------------------------------------------


def functions(elf, blocks):
    """Of {address: instructions}: two tables {function: instructions}, by the function that was linked, and by the one that was
    inlined there, the innermost."""
    addresses = list(blocks)
    done = subprocess.run(["addr2line", "-e", elf, "-a", "-f", "-C", "-i"], input="\n".join(f"0x{one}" for one in addresses),
                          text=True, capture_output=True, check=True)
    linked, inlined, chain = {}, {}, []
    answers = iter(done.stdout.splitlines())
    chains = []
    for line in answers:
        if line.startswith("0x"):
            chain = []
            chains.append(chain)
        else:
            chain.append((line, os.path.basename(next(answers).split(" ")[0].rsplit(":", 1)[0])))
    for address, chain in zip(addresses, chains):
        for table, (function, file) in ((linked, chain[-1]), (inlined, chain[0])):
            name = f"{function.split('(')[0] if not function.startswith('(') else function}  [{file}]"
            table[name] = table.get(name, 0) + blocks[address]
    return linked, inlined


def print_profile(case, tables):
    for title, table in zip(("functions, with what is inlined into them", "functions, each without what it calls, inlined or not"),
                            tables):
        total = sum(table.values())
        print(f"\n{case}: {total:.0f} of the hypervisor's instructions a transfer, by {title}")
        for name, count in sorted(table.items(), key=lambda item: -item[1])[:25]:
            print(f"{count:>9.0f} {count / total:>6.1%}  {name}")
