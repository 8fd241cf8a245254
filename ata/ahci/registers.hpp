// AHCI 1.3.1 registers: the ones that exist for the guest. What is not listed reads zero and ignores writes:
// command completion coalescing, enclosure management, BIOS hand-off, FIS-based switching, device sleep,
// vendor registers.
#pragma once

#include <cstdint>

namespace gatehouse::ata::ahci {

enum class Hba : std::uint32_t {  // section 3.1
    kCapabilities = 0x00,         // CAP
    kControl = 0x04,              // GHC
    kInterruptStatus = 0x08,      // IS, write 1 to clear
    kPortsImplemented = 0x0c,     // PI
    kVersion = 0x10,              // VS
    kCapabilities2 = 0x24,        // CAP2
    kHandOff = 0x28,              // BOHC
};

enum class Capability : std::uint32_t {  // CAP, section 3.1.1
    k64Bit = 1u << 31,                   // S64A
    kNotification = 1u << 29,            // SSNTF
    kPortMultiplier = 1u << 17,          // SPM
    kFisSwitching = 1u << 16,            // FBSS
    kSlotsMinusOne = 0x1fu << 8,         // NCS
    kCoalescing = 1u << 7,               // CCCS
    kEnclosure = 1u << 6,                // EMS
};
inline constexpr std::uint32_t kSlotsShift = 8;

enum class GlobalControl : std::uint32_t {  // GHC, section 3.1.2
    kAhciEnable = 1u << 31,                 // AE
    kSingleMessage = 1u << 2,               // MRSM, read-only
    kInterruptEnable = 1u << 1,             // IE
    kReset = 1u << 0,                       // HR
};

enum class HandOff : std::uint32_t {  // BOHC, section 3.1.11
    kBiosBusy = 1u << 4,              // BB
    kOsOwned = 1u << 1,               // OOS
    kBiosOwned = 1u << 0,             // BOS
};
inline constexpr std::uint32_t kHandOffSupported = 1u << 0;  // CAP2.BOH, section 3.1.10

inline constexpr std::uint32_t kPortBase = 0x100;  // section 3.3
inline constexpr std::uint32_t kPortStride = 0x80;
inline constexpr std::uint32_t kPorts = 32;

enum class PortRegister : std::uint32_t {
    kCommandList = 0x00,       // PxCLB, 1 KiB aligned
    kCommandListUpper = 0x04,  // PxCLBU
    kFis = 0x08,               // PxFB, 256 bytes aligned
    kFisUpper = 0x0c,          // PxFBU
    kInterruptStatus = 0x10,   // PxIS, write 1 to clear
    kInterruptEnable = 0x14,   // PxIE
    kCommand = 0x18,           // PxCMD
    kTaskFile = 0x20,          // PxTFD: STATUS in 7:0, ERROR in 15:8
    kSignature = 0x24,         // PxSIG
    kSataStatus = 0x28,        // PxSSTS
    kSataControl = 0x2c,       // PxSCTL
    kSataError = 0x30,         // PxSERR, write 1 to clear
    kSataActive = 0x34,        // PxSACT, write 1 to set
    kCommandIssue = 0x38,      // PxCI, write 1 to set
};

enum class PortInterrupt : std::uint32_t {  // PxIS, section 3.3.5
    kTaskFileError = 1u << 30,              // TFES
    kDescriptorProcessed = 1u << 5,         // DPS
    kSetDeviceBits = 1u << 3,               // SDBS
    kDmaSetup = 1u << 2,                    // DSS
    kPioSetup = 1u << 1,                    // PSS
    kRegisterFis = 1u << 0,                 // DHRS
};

enum class PortCommand : std::uint32_t {  // PxCMD, section 3.3.7
    kInterfaceControl = 0xfu << 28,       // ICC
    kAggressivePartial = 0x3u << 26,      // ASP, ALPE
    kLedOnAtapi = 0x3u << 24,             // DLAE, ATAPI
    kPartialToSlumber = 1u << 23,         // APSTE, not offered (CAP2.APST)
    kFisSwitching = 1u << 22,             // FBSCP
    kPortMultiplier = 1u << 17,           // PMA
    kListRunning = 1u << 15,              // CR
    kFisRunning = 1u << 14,               // FR
    kFisEnable = 1u << 4,                 // FRE
    kOverride = 1u << 3,                  // CLO
    kPowerSpin = 0x3u << 1,               // POD, SUD
    kStart = 1u << 0,                     // ST
};

// PxSIG of an ATA disk (section 3.3.9), and before a device has sent its signature.
inline constexpr std::uint32_t kSignatureAta = 0x00000101;
inline constexpr std::uint32_t kSignatureNone = 0xffffffff;
// PxSSTS.DET: device present, communication established (section 3.3.10); PxSCTL: DET, SPD and IPM
// (section 3.3.11).
inline constexpr std::uint32_t kDetectionMask = 0xf;
inline constexpr std::uint32_t kDetectionUp = 0x3;
inline constexpr std::uint32_t kSataControlMask = 0xfff;

// Command list: 32 command headers of 32 bytes (section 4.2.2).
//   DW0 flags and length, PRDTL in 31:16    DW1 PRDBC    DW2-3 CTBA, 128-byte aligned
inline constexpr std::uint32_t kSlots = 32;
inline constexpr std::uint32_t kHeaderSize = 32;
inline constexpr std::uint32_t kCommandListSize = kSlots * kHeaderSize;
enum class Header : std::uint32_t {
    kMultiplierPort = 0xfu << 12,  // PMP
    kClearBusy = 1u << 10,         // C
    kBist = 1u << 9,               // B
    kReset = 1u << 8,              // R
    kWrite = 1u << 6,              // W
    kAtapi = 1u << 5,              // A
    kFisDwords = 0x1fu,            // CFL
};

// Command table (section 4.2.3): command FIS at 0, ATAPI command at 40h, descriptors of 16 bytes from 80h.
//   descriptor: DW0-1 address, 2-byte aligned    DW2 reserved    DW3 I (bit 31), bytes - 1 (bits 21:0, bit 0
//   is one)
inline constexpr std::uint32_t kDescriptorOffset = 0x80;
inline constexpr std::uint32_t kDescriptorSize = 16;
inline constexpr std::uint32_t kDescriptorMaxBytes = 1u << 22;

// Received FIS area (section 4.2.1).
inline constexpr std::uint32_t kFisAreaSize = 256;
inline constexpr std::uint32_t kRegisterFisOffset = 0x40;
inline constexpr std::uint32_t kRegisterFisSize = 20;
inline constexpr std::uint32_t kDeviceBitsOffset = 0x58;  // 8 bytes; the second dword is SActive

// Bits of one register, as a number.
template <typename... Bits>
[[nodiscard]] constexpr std::uint32_t bits(Bits... all) {
    return (static_cast<std::uint32_t>(all) | ...);
}

}  // namespace gatehouse::ata::ahci
