#!/usr/bin/env python3
"""The red team's own test: takes the walls away, one by one, and shows that the attack's test notices.

usage: tests/attacks/walls.py [--build DIR] [--output DIR] [--list] [ATTACK...]

Each row of WALLS is an attack and the piece of measured code that answers it, with what stands in its place for the trial. Noticed
is what is not refused any more, or not by that wall. An attack that is refused all the same tries nothing, or another wall stands
before it. Takes about half a minute for each; not part of ci/test. Needs a build of ci/test or ci/demo. Exit status: 0 each is
noticed, 1 not, 2 usage, 3 failure.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness import lab

ROOT = Path(__file__).resolve().parents[2]
# attack, file, the wall, what stands in its place
WALLS = (
    ("second_disk_first", "hypervisor/boot/vault.cpp",
     "if (std::ranges::find(wanted, id) == wanted.end()) continue;", ""),
    ("vault_swapped", "hypervisor/boot/vault.cpp",
     "if (std::ranges::find(wanted, id) == wanted.end()) continue;", ""),
    ("vault_forged_regions", "keyvault/volume/header.cpp",
     "if (!equal_secret(header_mac(covered, keys.kek), copy.subspan(covered.size(), kMacSize))) {", "if (false) {"),
    ("vault_forged_cursor", "keyvault/volume/header.cpp",
     "if (!equal_secret(header_mac(covered, keys.kek), copy.subspan(covered.size(), kMacSize))) {", "if (false) {"),
    ("vault_of_a_cut_change", "keyvault/volume/conversion.cpp",
     "if (now == one || equal_bytes(now, other)) return {};", "if (now == one || equal_bytes(now, other) || true) return {};"),
    ("module_in_kept_region", "hypervisor/launch/launch_block.cpp",
     "if (module.extent().overlaps({block.header.kept_base, kKeptSize})) {", "if (false) {"),
    ("module_role_twice", "hypervisor/launch/launch_block.cpp", "if (earlier.role == module.role)", "if (false)"),
    ("module_at_zero", "hypervisor/launch/launch_block.cpp", "if (module.address == 0)", "if (false)"),
    ("shadow_ram_as_ram", "hypervisor/memory/ram.cpp", "if (!good) return {Error::kOutOfRange, item, extent.base};", ""),
    ("mtrr_kept_uncached", "hypervisor/memory/ram.cpp", "if (!is_write_back(page)) return", "if (false) return"),
    ("syscfg_off", "hypervisor/memory/ram.cpp", "if ((configuration & kVarDramEnable) == 0)", "if (false)"),
    ("iorr_on", "hypervisor/memory/ram.cpp", "if ((read_msr(mask) & kValid) != 0)", "if (false)"),
    ("aps_mtrr_uncached", "hypervisor/cpu/cpu.cpp", "if (own == routing[i]) continue;", "continue;"),
    ("aps_smm_unlocked", "hypervisor/cpu/cpu.cpp", "if (own_value(kSame[i]) != same[i]) halt();", ""),
    ("smm_unlocked", "hypervisor/boot/measured_launch.cpp", "if (!facts.smm_locked && !machine_acpi)", "if (false)"),
    ("iommu_lies", "hypervisor/boot/disks.cpp",
     "return std::ranges::count(page, kUntouched) != std::ssize(page);", "return false;"),
    ("iommu_missing", "hypervisor/boot/measured_launch.cpp", "if (hand_off_.iommu_count == 0 &&", "if (false &&"),
    ("dma_armed_stubborn", "hypervisor/boot/devices.cpp", "if (function.reset) {", "if (true) {"),
    ("foreign_controller_broken", "hypervisor/boot/disks.cpp", "if (!opened) GATEHOUSE_TRY(leave_out(",
     "GATEHOUSE_TRY(opened); if (!opened) GATEHOUSE_TRY(leave_out("),
    ("record_by_another_key", "policies/bundle/bundle.cpp", "signature.size()) != 1) {", "signature.size()) > 1) {"),
    ("guest_msi", "hypervisor/guest/config_filter.cpp", "kInterruptAddress | (value & kInterruptBits)", "value"),
    ("guest_reads_tpm", "hypervisor/boot/guest_view.cpp",
     "GATEHOUSE_TRY(cpu::hide_device(platform::kTpmBase, platform::kTpmLocalities * memory::kPageSize));", ""),
    ("guest_reads_iommu", "hypervisor/boot/guest_view.cpp",
     "GATEHOUSE_TRY(cpu::hide_device(place.registers, memory::kIommuRegisterSpace));", "(void)place;"),
    ("keyboard_output_port", "hypervisor/guest/power_ports.cpp", "if (last_byte == kWriteOutputPort) return;", ""),
    ("guest_trims", "ata/policy.cpp", "if (command.kind == kTrim && !trim) command.kind = kRefused;", ""),
    ("guest_rewrites_after_error", "ata/ahci/slots.cpp", "while (waiting_ != 0 && aborting_ == 0 && !failed_) {",
     "while (waiting_ != 0) {"),
    # Without a copy: encrypted in the guest's own memory. Only for what the attack writes, lest the guest's own files suffer.
    ("guest_swaps_written_data", "ata/ahci/slots.cpp",
     "std::byte* const to = take_unit(slot, count * volume_.geometry.sector_size);", """
        const std::uint32_t all = count * volume_.geometry.sector_size;
        std::byte* to = take_unit(slot, all);
        ScatterList ahead = slot.guest;
        if (slot.command.queued && all == 32768 && ahead.contiguous() >= all) {
            const GuestBytes own = ahead.take(all);
            --slot.descriptors;
            add_descriptor(slot, own.physical, all);
            to = own.data;
        }"""),
    ("key_after_reboot", "hypervisor/boot/machine.hpp", "disks_.wipe();", ""),
    ("framebuffer_upper_half", "hypervisor/guest/linux.cpp",
     "if (upper != 0 && (unit != 1 || (at(0x36, std::uint32_t{}) & 2) == 0))", "if (false)"),
)


class Trial:
    """A copy of the checkout, from which the measured programs are built without a wall."""

    def __init__(self, build, output):
        self.output, self.tree, self.objects, self.build = output, output / "tree", output / "objects", output / "build"
        shutil.rmtree(output, ignore_errors=True)
        for name in lab.run(["git", "-C", str(ROOT), "ls-files"]).decode().splitlines():
            if (ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.tree / name)
        cache = (build / "CMakeCache.txt").read_text(encoding="utf-8")
        kept = [line.split(":")[0] + "=" + line.split("=", 1)[1] for line in cache.splitlines() if line.startswith(
            ("CMAKE_CXX_COMPILER_LAUNCHER:", "CMAKE_CXX_FLAGS_RELWITHDEBINFO:", "GATEHOUSE_NODE_MODULES:", "GATEHOUSE_EMULATOR:"))]
        self.emulator = next(line.split("=", 1)[1] for line in kept if line.startswith("GATEHOUSE_EMULATOR="))
        # What is left without its wall may be warned of.
        lab.run(["cmake", "-S", str(self.tree), "-B", str(self.objects), "-G", "Ninja", "-DCMAKE_CXX_FLAGS=-w",
                 *[f"-D{line}" for line in kept]])
        # All but the measured programs is the build's own.
        self.build.mkdir()
        for entry in build.iterdir():
            if entry.name != "measured":
                (self.build / entry.name).symlink_to(entry)
        (self.build / "measured").mkdir()
        self.launcher = build / "measured" / "launcher.elf"

    def without(self, file, wall, instead):
        place = self.tree / file
        text = place.read_text(encoding="utf-8")
        if text.count(wall) != 1:
            raise lab.ApplianceError(f"{file}: {text.count(wall)} times, not once: {wall}")
        place.write_text(text.replace(wall, instead), encoding="utf-8")
        try:
            lab.run(["ninja", "-C", str(self.objects), "slb.bin", "hypervisor.bin"])
        finally:
            place.write_text(text, encoding="utf-8")
        for program in (self.objects / "measured" / "slb.bin", self.objects / "measured" / "hypervisor.bin", self.launcher):
            shutil.copy2(program, self.build / "measured" / program.name)

    def notices(self, attack):
        """(whether the attack's test fails, what was found)"""
        verdict = self.output / "verdict.json"
        verdict.unlink(missing_ok=True)
        done = subprocess.run([sys.executable, ROOT / "tests/attacks/harness.py", "--build", self.build, "--emulator", self.emulator,
                               "--output", self.output / "run", "--json", verdict, attack], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode not in (0, 1):
            raise lab.ApplianceError(f"{attack}: {done.stdout.strip()[-2000:]}")
        row = json.loads(verdict.read_text(encoding="utf-8"))["attacks"][0]
        return not row["refused"], row["found"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n")[0], description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.environ.get("GATEHOUSE_BUILD") or ROOT / "build", type=Path)
    parser.add_argument("--output", default=None, type=Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK")
    options = parser.parse_args()
    unknown = set(options.attacks) - {wall[0] for wall in WALLS}
    if unknown:
        parser.error(f"no wall for {min(unknown)} (--list has them)")
    walls = [wall for wall in WALLS if not options.attacks or wall[0] in options.attacks]
    if options.list:
        for attack, file, wall, _ in walls:
            print(f"{attack:<32}{file}: {wall}")
        return 0
    build = options.build.resolve()
    stood = 0
    try:
        trial = Trial(build, (options.output or build / "walls").resolve())
        for attack, file, wall, instead in walls:
            trial.without(file, wall, instead)
            noticed, found = trial.notices(attack)
            stood += not noticed
            print(f"{'noticed' if noticed else 'NOT NOTICED':<13}{attack:<32}{found}", flush=True)
    except (lab.ApplianceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    print(f"{len(walls) - stood} of {len(walls)} walls are missed by the attack that they answer")
    return 1 if stood else 0


if __name__ == "__main__":
    sys.exit(main())
