// The secure loader block: the first measured code.
//
// It makes sure that nothing but this CPU can change what follows, hashes the hypervisor where it lies,
// extends PCR 17 and jumps. What the launcher has prepared is hostile throughout. Anything wrong is one line
// on the console and the end: no hypervisor, no key.
//
// No secrets pass through here.
#include <algorithm>

#include "hypervisor/base/log.hpp"
#include "hypervisor/boot/measurer.hpp"
#include "hypervisor/launch/hand_off.hpp"
#include "hypervisor/launch/launch_block.hpp"
#include "hypervisor/memory/amd_vi.hpp"
#include "hypervisor/platform/serial.hpp"
#include "hypervisor/platform/tpm_mmio.hpp"

extern "C" {
extern const std::byte slb_base[];  // slb.ld
extern const std::byte slb_measured_end[];
void slb_main(std::uint64_t kept_base);
}

namespace gatehouse {

void panic(const char* why) {
    log("slb: panic: ", why);
    for (;;) asm volatile("cli; hlt");
}

namespace {

// The kept region, cacheable, as entry.S has mapped it.
MutableBytes kept(std::uint64_t offset, std::uint64_t size) {
    return {reinterpret_cast<std::byte*>(launch::kSlbVirtual + offset), size};
}

// The kept region must be RAM to the CPU, cached, and no device's. The entry code has checked its alignment.
Status check_position(std::uint64_t base, memory::Ram& ram) {
    GATEHOUSE_TRY(ram.read());
    GATEHOUSE_TRY(ram.check_write_back({base, launch::kKeptSize}, "kept region is not RAM"));
    GATEHOUSE_ASSIGN(const platform::EcamWindow window,
                     platform::ecam_window(platform::read_msr(kMsrMmioConfiguration)));
    return ram.check_devices(window.base);
}

constexpr std::uint16_t kCommand = 0x04;
constexpr std::uint32_t kBusMasterEnable = 1u << 2;
constexpr std::uint32_t kIommuClass = 0x0806;

// No device reaches memory from here on, if there are IOMMUs. Returns their number.
//
// Bus mastering is off while they are being switched on, but for their own, by which they read their tables. Until then
// a device may change the device table after it has been written, have its own entry cached, and put the entry
// right again before it is verified. Bridges and root ports without Bus Master Enable forward no requests of the
// devices below them, whatever those do (PCI 3.0, 6.2.2; PCI-to-PCI Bridge 1.2, 3.2.4.3), and functions that
// obey the specification send none. Beyond the 256th function it stays off, until a driver wants it.
Result<std::uint32_t> block_dma(std::uint64_t base, const memory::Ram& ram) {
    std::array<platform::FunctionId, 256> quiet;
    std::size_t quiet_count = 0;
    platform::for_each_function([&](platform::FunctionId function) {
        const std::uint32_t command = platform::read_config(function, kCommand, 2);
        if ((command & kBusMasterEnable) == 0 || platform::class_of(function) >> 8 == kIommuClass) return;
        platform::write_config(function, kCommand, 2, command & ~kBusMasterEnable);
        if (quiet_count < quiet.size()) quiet[quiet_count++] = function;
    });
    auto count = memory::block_dma(kept(0, launch::kKeptSize), HostPhysical(base), ram);
    for (const platform::FunctionId function : std::span(quiet).first(quiet_count)) {
        const std::uint32_t command = platform::read_config(function, kCommand, 2);
        platform::write_config(function, kCommand, 2, command | kBusMasterEnable);
    }
    if (count.ok() && *count == 0) log("slb: no IOMMU: devices can change what is measured");
    return count;
}

// Checks the hypervisor's header and completes its memory. Returns the file.
Result<Bytes> prepare_image(std::uint64_t base) {
    GATEHOUSE_ASSIGN(const launch::LaunchHeader block,
                     launch::parse_launch_header(kept(launch::kLaunchBlockOffset, launch::kLaunchBlockSize), base));
    const MutableBytes image = kept(launch::kImageOffset, launch::kImageMaxSize);
    const Bytes file = image.first(block.hypervisor_size);
    GATEHOUSE_TRY(launch::check_image(file));
    std::ranges::fill(image.subspan(file.size()), std::byte{0});
    return file;
}

Status read_banks(tpm::Tpm& tpm, launch::HandOff& hand_off) {
    GATEHOUSE_ASSIGN(const tpm::BankList list, tpm.active_banks());
    for (const HashAlgorithm bank : list.banks()) {
        const auto algorithm = static_cast<std::uint16_t>(bank);
        if (!can_hash(bank)) return {Error::kUnsupported, "active PCR bank that cannot be extended", algorithm};
        if (hand_off.bank_count == launch::kMaxBanks) return {Error::kNoSpace, "active PCR banks", algorithm};
        hand_off.banks[hand_off.bank_count++] = bank;
    }
    if (hand_off.bank_count == 0) return {Error::kNotFound, "active PCR bank"};
    GATEHOUSE_ASSIGN(const Digest pcr, tpm.pcr_read(hand_off.banks[0], evidence::kLaunchPcr));
    hand_off.dynamic_launch = tpm::pcr_is_reset_value(pcr.bytes()) ? 0 : 1;
    if (hand_off.dynamic_launch == 0) log("slb: PCR 17 holds no measurement: this was not a dynamic launch");
    return {};
}

// Extends PCR 17 with the hypervisor and writes the event log. The CPU has extended it with the SLB.
Result<Bytes> measure(tpm::Tpm& tpm, const launch::HandOff& hand_off, Bytes image, MutableBytes log_room) {
    GATEHOUSE_ASSIGN(auto event_log, evidence::EventLogWriter::create(log_room, hand_off.all_banks()));
    boot::Measurer measurer(tpm, event_log);
    const auto digests = measurer.hash_in_all_banks({slb_base, slb_measured_end});
    GATEHOUSE_TRY(event_log.append(evidence::kMeasurements[0], digests));
    GATEHOUSE_TRY(measurer.extend(evidence::kMeasurements[1], image));
    return event_log.log();
}

// Everything up to the jump.
Status load_hypervisor(std::uint64_t base) {
    memory::Ram ram;
    GATEHOUSE_TRY(check_position(base, ram));
    launch::HandOff hand_off;
    GATEHOUSE_ASSIGN(hand_off.iommu_count, block_dma(base, ram));

    GATEHOUSE_ASSIGN(const Bytes image, prepare_image(base));

    platform::TpmMmioBus bus;
    platform::TpmTransport transport(bus);
    GATEHOUSE_TRY(transport.open(platform::kDynamicLocality));
    tpm::Tpm tpm(transport);
    GATEHOUSE_TRY(read_banks(tpm, hand_off));

    const MutableBytes block = kept(launch::kHandOffOffset, launch::kHandOffSize);
    std::memset(block.data(), 0, block.size());
    GATEHOUSE_ASSIGN(const Bytes events, measure(tpm, hand_off, image, block.subspan(sizeof(hand_off))));
    hand_off.event_log_size = static_cast<std::uint32_t>(events.size());
    std::memcpy(block.data(), &hand_off, sizeof(hand_off));
    log("slb: hypervisor measured, ", image.size(), " bytes, ", std::uint64_t{hand_off.bank_count}, " PCR banks, ",
        std::uint64_t{hand_off.iommu_count}, " IOMMUs refuse all DMA");
    return {};
}

}  // namespace
}  // namespace gatehouse

void slb_main(std::uint64_t kept_base) {
    using namespace gatehouse;
    platform::start_serial();
    set_log_sink(platform::write_serial);
    log("slb: started at ", Hex{kept_base});
    const Status loaded = load_hypervisor(kept_base);
    if (!loaded) {
        log("slb: ", loaded.failure(), "; the hypervisor is not started, no key is released");
        for (;;) asm volatile("cli; hlt");
    }
    reinterpret_cast<void (*)(std::uint64_t)>(launch::kImageVirtual + launch::kImageHeaderSize)(kept_base);
}
