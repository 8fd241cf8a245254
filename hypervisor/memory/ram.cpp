#include "hypervisor/memory/ram.hpp"

#include <algorithm>

#include "hypervisor/platform/pci.hpp"

namespace gatehouse::memory {
namespace {

enum SysCfg : std::uint64_t {
    kFixDramEnable = 1u << 18,
    kFixDramModify = 1u << 19,
    kVarDramEnable = 1u << 20,
    kTom2Enable = 1u << 21,
    kEncryption = 7u << 23,  // MemEncryptionModEn, SecureNestedPagingEn, VMPLEn
};
constexpr std::uint64_t kValid = 1u << 11;  // of IORR and MTRR masks; MTRR enable
constexpr std::uint64_t kFixedEnable = 1u << 10;
constexpr std::uint64_t kAddress = 0x000ffffffffff000;
constexpr std::uint64_t kSmmAddressBits = 0x000ffffffffe0000;
constexpr std::uint8_t kTypeBits = 0x07;
constexpr std::uint8_t kReadWriteMemory = 0x18;  // RdMem, WrMem
constexpr std::uint8_t kWriteBack = 6;

constexpr Extent kConventional{0, 0xa0000};
constexpr std::uint64_t kOneMiB = 0x100000;
constexpr std::uint64_t kApicPlace = 0xfee00000;

}  // namespace

Status Ram::read() {
    *this = {};
    const std::uint64_t configuration = read_msr(kMsrSyscfg);
    if ((configuration & kVarDramEnable) == 0) return {Error::kRefused, "SYSCFG: no variable-range DRAM"};
    // One address bit would say whether memory is encrypted: each page would have a second address.
    if ((configuration & kEncryption) != 0) return {Error::kRefused, "SYSCFG: memory encryption is on", configuration};
    for (const Msr mask : {kMsrIorrMask0, kMsrIorrMask1}) {
        if ((read_msr(mask) & kValid) != 0) return {Error::kRefused, "I/O range register in use", mask};
    }
    if (const std::uint64_t apic = read_msr(kMsrApicBase) & kAddress; apic != kApicPlace) {
        return {Error::kRefused, "APIC base", apic};
    }
    const std::uint64_t top = read_msr(kMsrTopMem) & kAddress;
    const std::uint64_t top2 = (configuration & kTom2Enable) != 0 ? read_msr(kMsrTopMem2) & kAddress : 0;
    if (top <= kOneMiB || top > kFourGiB) return {Error::kOutOfRange, "TOP_MEM", top};
    low_ = {kOneMiB, top - kOneMiB};
    high_ = {kFourGiB, std::max(top2, kFourGiB) - kFourGiB};
    if (const std::uint64_t mask = read_msr(kMsrSmmMask); (mask & 2) != 0) {
        smm_ = {read_msr(kMsrSmmAddress) & mask & kSmmAddressBits, (kSmmAddressBits & ~mask) + 0x20000};
        if ((smm_.length & (smm_.length - 1)) != 0) return {Error::kUnsupported, "TSEG mask", mask};
    }

    fixed_dram_ = (configuration & kFixDramEnable) != 0;
    if (fixed_dram_) write_msr(kMsrSyscfg, configuration | kFixDramModify);
    fixed_ = {read_msr(kMsrMtrrFix64K), read_msr(kMsrMtrrFix16K)};
    if (fixed_dram_) write_msr(kMsrSyscfg, configuration);

    const std::uint64_t types = read_msr(kMsrMtrrDefault);
    const std::uint64_t count = read_msr(kMsrMtrrCap) & 0xff;
    if ((types & kValid) == 0) return {Error::kRefused, "MTRRs are off", types};
    if (count > kVariableRanges) return {Error::kUnsupported, "variable-range MTRRs", count};
    fixed_types_ = (types & kFixedEnable) != 0;
    default_type_ = static_cast<std::uint8_t>(types);
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint64_t base = read_msr(Msr{kMsrMtrrVariable + 2 * i});
        const std::uint64_t mask = read_msr(Msr{kMsrMtrrVariable + 2 * i + 1});
        // A valid mask without address bits matches everything: bit 11 is no address bit, so it stays a mask.
        variable_[i] = {base & kAddress, (mask & kValid) != 0 ? mask & (kAddress | kValid) : 0,
                        static_cast<std::uint8_t>(base)};
    }
    return {};
}

// Of an address in kConventional.
std::uint8_t Ram::fixed_byte(std::uint64_t address) const {
    const bool large = address < 0x80000;
    const std::uint64_t range = large ? address >> 16 : (address - 0x80000) >> 14;
    return static_cast<std::uint8_t>(fixed_[large ? 0 : 1] >> (8 * range));
}

Status Ram::check(const Extent& extent, const char* item) const {
    bool good = !extent.wraps() && !extent.overlaps(smm_);
    if (kConventional.contains(extent)) {
        for (std::uint64_t page = extent.base & ~(kPageSize - 1); fixed_dram_ && page < extent.end();
             page += kPageSize) {
            good = good && (fixed_byte(page) & kReadWriteMemory) == kReadWriteMemory;
        }
    } else {
        good = good && (low_.contains(extent) || high_.contains(extent));
    }
    if (!good) return {Error::kOutOfRange, item, extent.base};
    return {};
}

bool Ram::is_write_back(std::uint64_t page) const {
    if (fixed_types_ && page < kConventional.end()) return (fixed_byte(page) & kTypeBits) == kWriteBack;
    bool matched = false;
    for (const VariableRange& range : variable_) {
        if (range.mask == 0 || ((page ^ range.base) & range.mask & kAddress) != 0) continue;
        if (range.type != kWriteBack) return false;  // of several, write-back is the weakest (7.7.4)
        matched = true;
    }
    return matched || default_type_ == kWriteBack;
}

Status Ram::check_write_back(const Extent& extent, const char* item) const {
    GATEHOUSE_TRY(check(extent, item));
    for (std::uint64_t page = extent.base & ~(kPageSize - 1); page < extent.end(); page += kPageSize) {
        if (!is_write_back(page)) return {Error::kRefused, "memory type is not write-back", page};
    }
    return {};
}

bool Ram::reached_by(const Extent& extent) const {
    return extent.wraps() || extent.base < low_.end() || extent.overlaps(high_);
}

Status Ram::check_devices(std::uint64_t configuration_window) const {
    if (configuration_window != 0 && reached_by({configuration_window, 1})) {
        return {Error::kOverlap, "configuration space over RAM", configuration_window};
    }
    Status status;
    platform::for_each_function([&](platform::FunctionId function) {
        platform::for_each_memory_bar(function, [&](std::uint64_t base) {
            if (reached_by({base, 1})) status = {Error::kOverlap, "device memory over RAM, function", function};
        });
    });
    return status;
}

}  // namespace gatehouse::memory
