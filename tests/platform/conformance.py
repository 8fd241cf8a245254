#!/usr/bin/env python3
"""Does the emulated machine launch as the AMD64 manual (vol. 2, 15.24-15.31) and the TPM profile say?

Each case boots the probe (tests/platform/probe) on the emulator with a software TPM of its own, and judges what the
probe printed.  `conformance.py --emulator QEMU --probe ELF --work DIR CASE`: exit status 0 the case holds, 1 it does
not (it says what was expected, and shows the end of the serial line), 2 usage, 3 the machine could not be run.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile

from machine import CPU, DEFAULT_BANKS, Machine, MachineError, create_tpm_state, serial_logs

GENERAL_PROTECTION = 0x800D0000  # what the probe prints for an exception: bit 31, vector << 16, error code
INVALID_OPCODE = 0x80060000
SECURITY = 0x801E0001            # #SX, error code 1: a redirected INIT
VMEXIT_INIT = 0x63
VMEXIT_SECURITY = 0x40 + 30
VM_CR_LAUNCH = 0x7               # DPD, R_INIT, DIS_A20M
SLB = 0x04000000


class Failed(Exception):
    pass


def expect(what, found, wanted):
    if found != wanted:
        show = lambda value: f"{value:#x}" if isinstance(value, int) else value
        raise Failed(f"{what}: expected {show(wanted)}, found {show(found)}")


class Run:
    """What one boot of the probe printed."""

    def __init__(self, text):
        self.text = text
        self.facts, self.pcrs, self.image = {}, {}, None
        for words in map(str.split, text.splitlines()):
            if words[:1] == ["fact"] and len(words) == 3:
                self.facts[words[1]] = int(words[2], 16)
            elif words[:1] == ["pcr"] and len(words) == 5:
                self.pcrs.setdefault(words[1], {})[words[2], int(words[3])] = bytes.fromhex(words[4])
            elif words[:1] == ["slb"]:
                self.image = bytes.fromhex("".join(words[1:]))

    def fact(self, name):
        if name not in self.facts:
            raise Failed(f"the probe did not come to print {name}")
        return self.facts[name]

    def expect_facts(self, **wanted):
        for name, value in wanted.items():
            expect(name, self.fact(name), value)

    def expect_refused(self, fault):
        """SKINIT raised `fault`, and nothing was measured."""
        self.expect_facts(fault=fault)
        self.expect_unmeasured("refused")

    def pcr(self, when, bank, number):
        value = self.pcrs.get(when, {}).get((bank, number))
        if value is None:
            raise Failed(f"the probe did not print PCR {number} of bank {bank} {when} the launch")
        return value

    def banks(self, when):
        return {bank for bank, _ in self.pcrs.get(when, {})}

    def expect_unmeasured(self, when, banks=DEFAULT_BANKS):
        """PCRs 17-22 as they are when no launch has been since the TPM's reset."""
        expect(f"banks {when}", self.banks(when), set(banks))
        for bank in banks:
            for number in range(17, 23):
                ones = b"\xff" * hashlib.new(bank).digest_size
                expect(f"PCR {number} {bank} {when}", self.pcr(when, bank, number).hex(), ones.hex())

    def expect_measured(self, banks=DEFAULT_BANKS):
        """PCR 17 = H(0 || H(image)), 18-22 zero, in each bank."""
        expect("banks after", self.banks("after"), set(banks))
        for bank in banks:
            zero = bytes(hashlib.new(bank).digest_size)
            wanted = hashlib.new(bank, zero + hashlib.new(bank, self.image).digest()).digest()
            expect(f"PCR 17 {bank}", self.pcr("after", bank, 17).hex(), wanted.hex())
            for number in range(18, 23):
                expect(f"PCR {number} {bank}", self.pcr("after", bank, number).hex(), zero.hex())


class Bench:
    """Boots the probe; keeps the logs of each boot in a directory of its own."""

    def __init__(self, emulator, probe, work):
        self.emulator, self.probe, self.work, self.boots = emulator, probe, work, 0

    def grub_disk(self, firmware, scenario):
        """A disk from which the firmware starts GRUB, which starts the probe; all of it in GRUB's own core image."""
        def path(name):
            return os.path.join(self.work, name)

        with open(path("grub.cfg"), "w", encoding="ascii") as file:
            file.write(f"multiboot (memdisk)/probe {scenario}\nboot\n")
        with tarfile.open(path("memdisk.tar"), "w") as archive:
            archive.add(self.probe, "probe")
        target = {"bios": "i386-pc", "uefi": "x86_64-efi"}[firmware]
        modules = ["memdisk", "tar", "multiboot", "boot", "echo", "normal"] + (["biosdisk"] if firmware == "bios" else [])
        run = lambda *command: subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        run("grub-mkimage", "-O", target, "-p", "(memdisk)/", "-c", path("grub.cfg"), "-m", path("memdisk.tar"), "-o",
            path("core"), *modules)
        with open(path("disk"), "wb") as disk:
            if firmware == "bios":
                for part in ("/usr/lib/grub/i386-pc/boot.img", path("core")):
                    with open(part, "rb") as file:
                        disk.write(file.read())
            disk.truncate(16 << 20)
        if firmware == "uefi":
            run("mformat", "-i", path("disk"), "::")
            run("mmd", "-i", path("disk"), "::/EFI", "::/EFI/BOOT")
            run("mcopy", "-i", path("disk"), path("core"), "::/EFI/BOOT/BOOTX64.EFI")
        return path("disk")

    def boot(self, scenario, cpus=1, tpm="tis", banks=DEFAULT_BANKS, iommu=None, edu=None, cpu=CPU, ends_with=1,
             grub=None, memory_mb=128, **options):
        """`options` are Machine's."""
        self.boots += 1
        logs = os.path.join(self.work, f"boot-{self.boots}")
        state = os.path.join(self.work, f"tpm-{self.boots}")
        if tpm:
            create_tpm_state(state, banks, endorsement_key=False)
        extra = [*options.pop("extra", ()), *([] if grub else ["-kernel", self.probe, "-append", scenario])]
        disks = [self.grub_disk(grub, scenario)] if grub else []
        if edu is not None:
            extra += ["-device", f"edu,addr={edu}"]
        with Machine(self.emulator, disks, cpus, grub or "bios", memory_mb=256 if grub else memory_mb,
                     tpm_state=state if tpm else None, tpm=tpm, iommu=iommu, cpu=cpu, extra=extra, log_dir=logs,
                     **options) as machine:
            status = machine.wait_for_exit(240)
            run = Run(machine.serial_text())
        if "unexpected_exception" in run.facts:
            raise Failed(f"the probe met exception {run.facts['unexpected_exception']:#x}")
        expect("the emulator's exit status", status, ends_with)
        return run


def measures_every_active_bank(bench):
    """PCR 17 is the recomputed value and 18-22 are zero, all ones before, in all four banks."""
    run = bench.boot("launch")
    run.expect_unmeasured("before")
    run.expect_measured()


def measures_the_only_active_bank(bench):
    """With one bank active that bank alone exists and is extended."""
    run = bench.boot("launch", banks=("sha384",))
    run.expect_unmeasured("before", ("sha384",))
    run.expect_measured(("sha384",))


def one_changed_byte_changes_pcr17(bench):
    """One bit of the image changes PCR 17, and in the way that the bytes say."""
    first, second = bench.boot("launch"), bench.boot("changed-byte")
    expect("changed bytes of the image", sum(a != b for a, b in zip(first.image, second.image)), 1)
    second.expect_measured()
    for bank in DEFAULT_BANKS:
        if first.pcr("after", bank, 17) == second.pcr("after", bank, 17):
            raise Failed(f"PCR 17 {bank} is the same for two images")


def entry_state_is_the_manuals(bench):
    """15.27.6: flat 32-bit protected mode, cleared registers, EAX, EDX and ESP set, EFER 0, x87/SSE control and MSRs kept."""
    run = bench.boot("launch")
    for register in ("ebx", "ecx", "esi", "edi", "ebp", "cr4", "efer"):
        run.expect_facts(**{register: 0})
    run.expect_facts(eax=SLB, esp=SLB + 0x10000, edx=run.fact("cpuid_version"), cs=0x08, ss=0x10, eflags=0x2,
                     cr0=0x60000011, vm_cr=VM_CR_LAUNCH, star=0x123456789ABCDEF0, mxcsr=0x1FA0)


def length_zero_measures_no_bytes(bench):
    """A header that declares length 0 is measured as the empty string, not as 64 KiB and not left out."""
    run = bench.boot("length-zero")
    expect("image", run.image, b"")
    run.expect_measured()


def active_locality_is_not_measured(bench):
    """With locality 0 not relinquished the TPM keeps PCR 17-22, and the image runs all the same."""
    run = bench.boot("locality-active")
    run.expect_facts(vm_cr=VM_CR_LAUNCH)
    run.expect_unmeasured("after")


def launches_without_a_tpm(bench):
    """SKINIT depends on no answer of the TPM: without one the image runs (unmeasured)."""
    bench.boot("launch", tpm=None).expect_facts(vm_cr=VM_CR_LAUNCH)


def crb_machine_is_measured(bench):
    """The CPU's measurement reaches the TPM behind CRB registers too."""
    run = bench.boot("launch", tpm="crb")
    run.expect_unmeasured("before")
    run.expect_measured()


def crb_active_locality_is_not_measured(bench):
    """CRB: a locality that is not relinquished keeps the measurement out."""
    run = bench.boot("locality-active", tpm="crb")
    run.expect_unmeasured("after")


def refused_with_an_ap_running(bench):
    """15.27.8: with an AP that runs, #GP and nothing measured; after INIT to the AP the launch works."""
    run = bench.boot("ap-running", cpus=2)
    run.expect_refused(GENERAL_PROTECTION)
    run.expect_measured()


def refused_with_an_ap_in_hlt(bench):
    """An AP in HLT is not in INIT state: it would come back with an interrupt."""
    run = bench.boot("ap-halted", cpus=2)
    run.expect_refused(GENERAL_PROTECTION)
    run.expect_measured()


def refused_on_an_ap(bench):
    """The launch is the bootstrap processor's."""
    run = bench.boot("on-ap", cpus=2)
    run.expect_refused(GENERAL_PROTECTION)


def refused_outside_ring0(bench):
    """SKINIT at CPL 3 raises #GP."""
    run = bench.boot("ring3")
    run.expect_refused(GENERAL_PROTECTION)


def undefined_without_feature_or_svme(bench):
    """15.4: without CPUID's SKINIT and with EFER.SVME clear #UD; with SVME set it launches."""
    run = bench.boot("no-feature", cpu="EPYC,+svm,-skinit")
    run.expect_refused(INVALID_OPCODE)
    run.expect_measured()


def vm_cr_bits(bench):
    """15.30.1, 15.31: reserved bits, SVMDIS and EFER.SVME, LOCK, SVM_KEY; SKINIT leaves LOCK and SVMDIS alone."""
    run = bench.boot("svm-disabled")
    run.expect_facts(reserved_bit=GENERAL_PROTECTION, enable=0, disable_while_enabled=GENERAL_PROTECTION, disable=0,
                     enable_while_disabled=GENERAL_PROTECTION, locked=0x18, locked_wrong_key=0x18, unlocked=0,
                     vm_cr=0x18 | VM_CR_LAUNCH)
    run.expect_measured()


def init_clears_svmdis_unless_locked(bench):
    """15.30.1: INIT clears SVMDIS when LOCK is clear, and neither when LOCK is set."""
    run = bench.boot("init-and-lock", cpus=2)
    run.expect_facts(unlocked=0, locked=0x18)


def init_is_held_and_redirected(bench):
    """15.28: an INIT while GIF=0 is held; at GIF=1 with R_INIT it is #SX(1), once."""
    run = bench.boot("init-held")
    run.expect_facts(init_held=1, on_gif=SECURITY, on_gif_again=0)


def init_is_held_and_taken(bench):
    """Table 15-12: with VM_CR clear the held INIT is taken at GIF=1 (the firmware then resets the machine)."""
    run = bench.boot("init-taken", ends_with=0)
    run.expect_facts(init_held=1)
    expect("the probe ran on after GIF=1", "init_lost" in run.facts, False)


def init_intercept_leaves_it_pending(bench):
    """Table 15-12: #VMEXIT(INIT), INIT still pending; with R_INIT it is #SX at GIF=1."""
    run = bench.boot("init-intercepted")
    run.expect_facts(exit_code=VMEXIT_INIT, after_exit=SECURITY)


def redirected_init_in_a_guest(bench):
    """15.21.8: without the INIT intercept R_INIT raises #SX in the guest, which can be intercepted; INIT is gone."""
    run = bench.boot("init-redirected-in-guest")
    run.expect_facts(exit_code=VMEXIT_SECURITY, exit_info1=1, after_exit=0)


def startup_after_launch_clears_gif(bench):
    """15.27.8: an AP started after the launch has GIF=0 (an INIT is held) and DPD, R_INIT, DIS_A20M set."""
    run = bench.boot("ap-after-launch", cpus=2)
    run.expect_facts(ap_vm_cr=VM_CR_LAUNCH, ap_runs_on=1, ap_on_gif=SECURITY)


def a20_cannot_be_masked_after_launch(bench):
    """15.30.1: DIS_A20M disables A20 masking."""
    run = bench.boot("a20")
    run.expect_facts(masked_before=1, masked_after=0)


def _slb_is_closed_to_devices(bench, iommu):
    by_cpu, by_device = 0x1111222233334444, 0x5555666677778888
    run = bench.boot("dma", iommu=iommu, edu="10.0")
    for when, read, written in (("before", by_cpu, by_device), ("after", 0xFFFFFFFFFFFFFFFF, by_cpu),
                                ("released", by_cpu, by_device)):
        run.expect_facts(**{f"read_{when}": read, f"write_{when}": written})
    run.expect_facts(protection=1, protection_released=0)
    run.expect_measured()


def slb_is_closed_to_devices(bench):
    """15.24.8: devices neither read nor write the block until software opens it; the CPU does both."""
    _slb_is_closed_to_devices(bench, None)


def slb_is_closed_to_devices_behind_iommu(bench):
    """The same with an IOMMU that lets everything pass."""
    _slb_is_closed_to_devices(bench, "amd")


def device_beyond_the_table_is_stopped(bench):
    """AMD IOMMU: a device beyond the end of the device table gets no memory."""
    run = bench.boot("device-table", iommu="amd", edu="1e.0")
    run.expect_facts(read_covered=0x1111222233334444, write_covered=0x5555666677778888)
    if run.fact("read_beyond") == 0x1111222233334444:
        raise Failed("the device beyond the table read memory")
    run.expect_facts(write_beyond=0x1111222233334444)


def memory_registers_are_as_firmware_leaves_them(bench):
    """SYSCFG, TOP_MEM and TOP_MEM2 say where RAM is, IORRs are off, RdMem and WrMem set but hidden, SMM locked."""
    run = bench.boot("memory-registers", tpm=None)
    run.expect_facts(syscfg=0x140000, top_mem=128 << 20, top_mem2=0, iorr_base=0, iorr_mask=0, hwcr=1,
                     mtrr_fixed_hidden=0x0606060606060606, mtrr_fixed_shown=0x1E1E1E1E1E1E1E1E)
    if run.fact("patch_level") == 0:
        raise Failed("the patch level is 0")
    large = bench.boot("memory-registers", tpm=None, memory_mb=4096, cpu_options="fix-dram=off,ucode-rev=0x8001234")
    large.expect_facts(syscfg=0x700000, top_mem=2 << 30, top_mem2=6 << 30, patch_level=0x8001234)


def smm_lock_is_kept(bench):
    """HWCR.SmmLock cannot be cleared, whether the firmware has set it or other software has."""
    bench.boot("memory-registers", tpm=None).expect_facts(hwcr_locked=1)
    run = bench.boot("memory-registers", tpm=None, cpu_options="smm-lock=off")
    run.expect_facts(hwcr=0, hwcr_locked=1)


def memory_registers_survive_init(bench):
    """Each processor has its own SYSCFG, HWCR, IORRs, TOP_MEM and MTRRs, and an INIT leaves them alone."""
    run = bench.boot("memory-registers-after-init", tpm=None, cpus=2)
    run.expect_facts(syscfg=0x80000, hwcr=0x41, iorr_base=0xFD000018, iorr_mask=0xFFFF000800, top_mem=0x01800000,
                     top_mem2=0x240000000, mtrr_fixed=0x1E1E1E1E1E1E1E1E, mtrr_default=0xC06)
    run.expect_facts(syscfg_other=run.fact("syscfg_before"), top_mem_other=run.fact("top_mem_before"))


def fixed_ranges_decide_what_a_processor_reaches(bench):
    """7.9.1: below 1 MiB what has no RdMem reads as ones, what has no WrMem loses writes, for that processor alone."""
    run = bench.boot("fixed-ranges", tpm=None, cpus=2)
    run.expect_facts(unread=0xFFFFFFFF, unwritten=0x22, unwritten_kept=0x22, closed=0xFFFFFFFF, closed_other=0x22,
                     disabled=0x22, opened=0x22, firmware_closed=0xFFFFFFFF, firmware_same=1)


def stopped_port_transfers_nothing(bench):
    """AHCI 1.3.1, 10.3.2: with PxCMD.CR clear no queued command brings data or reports; the next one ends an error."""
    disk = os.path.join(bench.work, "slow-disk")
    with open(disk, "wb") as file:
        file.write(b"\xd1" * (1 << 20))
    run = bench.boot("queued-commands", tpm=None, extra=[
        "-drive", f"if=none,id=slow,format=raw,throttling.iops-total=1,file={disk}",
        "-device", "ide-hd,drive=slow,bus=ide.0"])
    run.expect_facts(read=0xD1D1D1D1, in_flight=3, landed=0, reported=0, active=0, read_again=0xD1D1D1D1, refused=1,
                     error_at_acceptance=0, status_after=0, reported_after=8, read_after=0xD1D1D1D1)


def _rogue(bench, options, without_bus_master=0, memory_bar=0x8):
    run = bench.boot("rogue", tpm=None, rogues=[f"addr=10.0,{options}"])
    run.expect_facts(memory_bar=memory_bar, without_bus_master=without_bus_master, with_bus_master=1,
                     armed_after_once=0, whole_length=1, stolen=3, executed=4, before_bus_master=0, on_bus_master=3,
                     on_bus_master_wrote=5, after_disarming=0)
    return run


def rogue_does_as_it_is_told(bench):
    """gatehouse-rogue: armed transfers wait for Bus Master; its memory can be executed, and changed by itself."""
    _rogue(bench, "class=0x0200").expect_facts(**{"class": 0x0200})


def rogue_ignores_bus_master(bench):
    """gatehouse-rogue with ignores-bme=on waits for nothing."""
    _rogue(bench, "ignores-bme=on", without_bus_master=1).expect_facts(**{"class": 0xFF00})


def rogue_looks_like_an_iommu(bench):
    """gatehouse-rogue with iommu-cap=on shows an IOMMU's capability; its registers keep what is written."""
    run = _rogue(bench, "iommu-cap=on,memory64=on", memory_bar=0xC)
    run.expect_facts(iommu_type=3, iommu_base=1, iommu_register=0x1234567890)


def rogue_is_stopped_by_function_level_reset(bench):
    """gatehouse-rogue with flr=on: FLR disarms it and clears its command register."""
    run = bench.boot("rogue-reset", tpm=None, rogues=["addr=10.0,flr=on"])
    run.expect_facts(flr=1, command=0, armed=0, fires=0)


def rogue_is_stopped_by_power_management(bench):
    """gatehouse-rogue with pm=on: asleep (D3hot) it does nothing, and waking resets it."""
    run = bench.boot("rogue-reset", tpm=None, rogues=["addr=10.0,pm=on"])
    run.expect_facts(asleep=0, no_soft_reset=0, command=0, armed=0, fires=0)


def stubborn_rogue_is_not_stopped(bench):
    """gatehouse-rogue with neither: it stays armed through a clear command register, and fires when it is set again."""
    run = bench.boot("rogue-reset", tpm=None, rogues=["addr=10.0"])
    run.expect_facts(armed=1, fires=1)


def rogue_is_behind_the_iommu(bench):
    """AMD IOMMU: gatehouse-rogue beyond the device table reaches no memory and no processor, whatever it ignores."""
    for options in ("addr=1e.0", "addr=1e.0,ignores-bme=on"):
        run = bench.boot("rogue-behind-iommu", tpm=None, iommu="amd", rogues=[options])
        run.expect_facts(covered=1, covered_result=0, covered_interrupt=1, beyond=1, beyond_accepted=0,
                         beyond_interrupt=0)


def iommu_that_does_not_refuse(bench):
    """iommu=amd-pt: what the IOMMU denies lands all the same."""
    run = bench.boot("rogue-behind-iommu", tpm=None, iommu="amd-pt", rogues=["addr=1e.0"])
    run.expect_facts(covered=1, covered_result=0, beyond=2, beyond_accepted=1)


def _launches_from_disk(bench, firmware):
    run = bench.boot("ap-after-launch", cpus=2, iommu="amd", grub=firmware)
    run.expect_unmeasured("before")
    run.expect_measured()
    run.expect_facts(ap_vm_cr=VM_CR_LAUNCH, ap_on_gif=SECURITY)


def launches_from_a_disk_bios(bench):
    """SeaBIOS and GRUB from an AHCI disk, 2 processors, AMD-Vi present: measured as ever."""
    _launches_from_disk(bench, "bios")


def launches_from_a_disk_uefi(bench):
    """OVMF and GRUB from an AHCI disk, 2 processors, AMD-Vi present: measured as ever."""
    _launches_from_disk(bench, "uefi")


CASES = {function.__name__: function for function in (
    measures_every_active_bank, measures_the_only_active_bank, one_changed_byte_changes_pcr17,
    entry_state_is_the_manuals, length_zero_measures_no_bytes, active_locality_is_not_measured, launches_without_a_tpm,
    crb_machine_is_measured, crb_active_locality_is_not_measured, refused_with_an_ap_running, refused_with_an_ap_in_hlt,
    refused_on_an_ap, refused_outside_ring0, undefined_without_feature_or_svme, vm_cr_bits,
    init_clears_svmdis_unless_locked, init_is_held_and_redirected, init_is_held_and_taken,
    init_intercept_leaves_it_pending, redirected_init_in_a_guest, startup_after_launch_clears_gif,
    a20_cannot_be_masked_after_launch, slb_is_closed_to_devices, slb_is_closed_to_devices_behind_iommu,
    device_beyond_the_table_is_stopped, memory_registers_are_as_firmware_leaves_them, smm_lock_is_kept,
    memory_registers_survive_init, fixed_ranges_decide_what_a_processor_reaches, stopped_port_transfers_nothing,
    rogue_does_as_it_is_told, rogue_ignores_bus_master, rogue_looks_like_an_iommu,
    rogue_is_stopped_by_function_level_reset, rogue_is_stopped_by_power_management, stubborn_rogue_is_not_stopped,
    rogue_is_behind_the_iommu, iommu_that_does_not_refuse, launches_from_a_disk_bios, launches_from_a_disk_uefi)}


def main(arguments):
    if arguments == ["--list"]:
        print("\n".join(CASES))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emulator", required=True)
    parser.add_argument("--probe", required=True)
    parser.add_argument("--work", required=True, help="directory for the logs; emptied first")
    parser.add_argument("case", choices=CASES)
    options = parser.parse_args(arguments)
    work = os.path.join(os.path.abspath(options.work), options.case)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    case = CASES[options.case]
    try:
        case(Bench(options.emulator, options.probe, work))
        print(f"holds: {case.__doc__}")
        return 0
    except Failed as failure:
        print(f"does not hold: {case.__doc__}\n{failure}\nlogs: {work}", flush=True)
        return 1
    except (MachineError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}\nlogs: {work}", flush=True)
        return 3


if __name__ == "__main__":
    sys.exit(serial_logs.run(lambda: main(sys.argv[1:])))
