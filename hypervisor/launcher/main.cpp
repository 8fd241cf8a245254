// The launcher: untrusted, started by GRUB; prepares the machine for SKINIT and executes it.
//
// AMD64 APM vol. 2, 15.27: the SLB is in memory, 64 KiB aligned, below 4 GiB; EFER.SVME is set; all APs are
// in INIT; no locality of the TPM is in use.
#include "hypervisor/base/log.hpp"
#include "hypervisor/base/panic.hpp"
#include "hypervisor/launcher/console.hpp"
#include "hypervisor/launcher/machine.hpp"
#include "hypervisor/launcher/placement.hpp"

extern "C" {
extern const char launcher_start[];  // launcher.ld
extern const char launcher_end[];
[[noreturn]] void start_dynamic_launch(std::uint32_t slb);  // entry.S
[[noreturn]] void start_without_launch(std::uint32_t slb);
[[noreturn]] void launcher_main(std::uint32_t magic, std::uint32_t information);
}

namespace gatehouse {

void panic(const char* why) {
    log("launcher: stopped: ", why);
    launcher::halt();
}

namespace launcher {
namespace {

constinit BootInformation boot_information;

// The boot loader's memory is mapped at itself, up to 4 GiB.
MutableBytes physical(std::uint64_t address, std::uint64_t size) {
    return {reinterpret_cast<std::byte*>(address), size};
}

[[noreturn]] void stop(const Failure& failure) {
    log("launcher: ", failure);
    halt();
}

template <typename T>
T value_or_stop(Result<T> result) {
    if (!result.ok()) stop(result.failure());
    return result.value();
}

// CPUID leaves: AMD64 APM vol. 3, appendix E.
void check_cpu(bool with_skinit) {
    struct Feature {
        std::uint32_t leaf;
        Register where;
        unsigned bit;
        const char* complaint;
    };
    constexpr Feature kFeatures[] = {
        {0x80000001, Register::kEcx, 2, "this CPU has no SVM (AMD-V)"},
        {0x80000001, Register::kEcx, 12, "this CPU has no SKINIT"},
        {0x8000000a, Register::kEdx, 0, "this CPU has no nested paging"},
        {0x80000001, Register::kEdx, 26, "this CPU has no 1 GiB pages"},
        {0x00000001, Register::kEcx, 25, "this CPU has no AES instructions"},
    };
    bool complete = true;
    for (const Feature& feature : kFeatures) {
        const bool skinit = feature.leaf == 0x80000001 && feature.bit == 12;
        if (has_feature(feature.leaf, feature.where, feature.bit) || (skinit && !with_skinit)) continue;
        log("launcher: ", feature.complaint);
        complete = false;
    }
    if (has_feature(0x80000001, Register::kEcx, 2) && svm_disabled()) {
        log("launcher: SVM is switched off (VM_CR.SVMDIS): switch it on in the firmware's set-up");
        complete = false;
    }
    if (!complete) halt();
}

void read_boot_information(std::uint32_t magic, std::uint32_t address) {
    if (magic != kMultibootMagic) stop({Error::kBadMagic, "not started by multiboot2", magic});
    const std::size_t size = load<std::uint32_t>(physical(address, 4).data(), Endian::kLittle);
    if (size > kMultibootMaximumSize) stop({Error::kBadLength, "multiboot information size", size});
    if (const Status parsed = parse_multiboot(physical(address, size), boot_information); !parsed.ok()) {
        stop(parsed.failure());
    }
    if (boot_information.text_screen) use_text_screen();
}

// The SLB's own header: u16 entry, u16 measured length (AMD64 APM vol. 2, 15.27.2).
void check_modules() {
    const Extent& slb = boot_information.slb;
    const Extent& hypervisor = boot_information.hypervisor;
    if (slb.length == 0) stop({Error::kNotFound, "module slb"});
    if (hypervisor.length == 0) stop({Error::kNotFound, "module hypervisor"});
    if (slb.length < 4 || slb.length > launch::kSlbSize) stop({Error::kBadLength, "module slb", slb.length});
    if (hypervisor.length > launch::kImageMaxSize) {
        stop({Error::kBadLength, "module hypervisor", hypervisor.length});
    }
    Reader header(physical(slb.base, slb.length));
    const std::uint16_t entry = header.u16();
    const std::uint16_t length = header.u16();
    if (length > slb.length || entry >= length) stop({Error::kBadValue, "header of module slb", length});
    if (!boot_information.has_rsdp) stop({Error::kNotFound, "ACPI RSDP from the boot loader"});
}

void fill(MutableBytes to, Bytes from) {
    copy_bytes(to, from);
    std::memset(to.data() + from.size(), 0, to.size() - from.size());
}

// Copies everything to its place and writes the launch block.
void load(const Placement& placement) {
    const std::uint64_t kept = placement.kept_base;
    launch::LaunchBlock& block = boot_information.launch;
    for (std::size_t i = 0; i < block.module_count; ++i) {
        launch::Module& module = block.modules[i];
        copy_bytes(physical(placement.modules[i], module.size), physical(module.address, module.size));
        module.address = placement.modules[i];
    }
    const Extent& slb = boot_information.slb;
    const Extent& hypervisor = boot_information.hypervisor;
    fill(physical(kept + launch::kSlbOffset, launch::kSlbSize), physical(slb.base, slb.length));
    fill(physical(kept + launch::kImageOffset, launch::kImageMaxSize), physical(hypervisor.base, hypervisor.length));
    block.header.kept_base = kept;
    block.header.hypervisor_size = static_cast<std::uint32_t>(hypervisor.length);
    std::memcpy(physical(kept + launch::kLaunchBlockOffset, sizeof(block)).data(), &block, sizeof(block));
}

[[noreturn]] void run(std::uint32_t magic, std::uint32_t information) {
    start_console();
    log("launcher: Gatehouse");
    read_boot_information(magic, information);
    const bool with_skinit = !boot_information.has_option("--no-skinit");
    check_cpu(with_skinit);
    check_modules();
    const auto own = reinterpret_cast<std::uint64_t>(launcher_start);
    const Extent busy[] = {
        {0, 0x100000},
        {own, reinterpret_cast<std::uint64_t>(launcher_end) - own},
        {information, kMultibootMaximumSize},
    };
    const Placement placement = value_or_stop(place(boot_information, busy));
    log("launcher: ", boot_information.uefi ? "UEFI" : "BIOS", ", kept region at ", Hex{placement.kept_base}, ", ",
        std::uint64_t{boot_information.launch.module_count}, " modules below it");
    load(placement);
    relinquish_tpm();
    mask_legacy_interrupts();
    park_other_cpus();
    const auto slb = static_cast<std::uint32_t>(placement.kept_base + launch::kSlbOffset);
    if (!with_skinit) {
        log("launcher: --no-skinit: entering the SLB without a dynamic launch");
        start_without_launch(slb);
    }
    log("launcher: SKINIT");
    enable_svm();
    start_dynamic_launch(slb);
}

}  // namespace
}  // namespace launcher
}  // namespace gatehouse

void launcher_main(std::uint32_t magic, std::uint32_t information) { gatehouse::launcher::run(magic, information); }
