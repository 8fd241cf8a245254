// AHCI 1.3.1 registers: the ones that exist for the guest. What is not listed reads zero and ignores writes:
// command completion coalescing, enclosure management, BIOS hand-off, FIS-based switching, device sleep,
// vendor registers.
#pragma once

#include <cstdint>
#include <utility>

namespace gatehouse::ata::ahci {

// Generic host control (section 3.1).
enum class Hba : std::uint32_t {
    kCapabilities = 0x00,      // CAP
    kControl = 0x04,           // GHC
    kInterruptStatus = 0x08,   // IS, write 1 to clear
    kPortsImplemented = 0x0c,  // PI
    kVersion = 0x10,           // VS
    kCapabilities2 = 0x24,     // CAP2
    kHandOff = 0x28,           // BOHC
};

// CAP (section 3.1.1).
enum class Capability : std::uint32_t {
    k64Bit = 1u << 31,                                                 // S64A
    kSlotsUnit = 1u << 8,                                              // NCS: slots - 1, in bits 12:8
    kNotOffered = 1u << 29 | 1u << 17 | 1u << 16 | 1u << 7 | 1u << 6,  // SSNTF, SPM, FBSS, CCCS, EMS
};

// GHC (section 3.1.2).
enum class GlobalControl : std::uint32_t {
    kAhciEnable = 1u << 31,      // AE
    kInterruptEnable = 1u << 1,  // IE
    kReset = 1u << 0,            // HR
};

// BOHC (section 3.1.11); present if CAP2.BOH.
enum class HandOff : std::uint32_t {
    kOsOwned = 1u << 1,         // OOS
    kBios = 1u << 4 | 1u << 0,  // BB, BOS
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

// PxIS (section 3.3.5).
enum class PortInterrupt : std::uint32_t {
    kTaskFileError = 1u << 30,                                    // TFES
    kRegisterFis = 1u << 0,                                       // DHRS
    kProgress = 1u << 5 | 1u << 3 | 1u << 2 | 1u << 1 | 1u << 0,  // DPS, SDBS, DSS, PSS, DHRS
    kRefusal = kTaskFileError | kRegisterFis,                     // of a command that the mediator refuses
};

// PxCMD (section 3.3.7).
enum class PortCommand : std::uint32_t {
    kPower = 0xffu << 24 | 0x3u << 1,              // ICC, ASP, ALPE, DLAE, ATAPI (an LED's colour); POD, SUD
    kNotOffered = 1u << 23 | 1u << 22 | 1u << 17,  // APSTE, FBSCP, PMA
    kListRunning = 1u << 15,                       // CR
    kFisRunning = 1u << 14,                        // FR
    kFisEnable = 1u << 4,                          // FRE
    kOverride = 1u << 3,                           // CLO
    kStart = 1u << 0,                              // ST
};

// PxTFD, and STATUS and ERROR of a FIS, of a drive that has aborted a command: DRDY, ERR; ABRT (ACS-4 section 6.2, 6.3).
inline constexpr std::uint32_t kRefusal = 0x0451;

// PxSIG of an ATA disk and of a packet device (section 3.3.9).
inline constexpr std::uint32_t kSignatureAta = 0x00000101;
inline constexpr std::uint32_t kSignaturePacket = 0xeb140101;
// PxSSTS.DET: device present, communication established (section 3.3.10); PxSCTL: DET, of which 1 resets the link, SPD
// and IPM (section 3.3.11).
inline constexpr std::uint32_t kDetectionMask = 0xf, kDetectionUp = 0x3, kDetectionReset = 0x1;
inline constexpr std::uint32_t kSataControlMask = 0xfff;

// Command list: 32 command headers of 32 bytes (section 4.2.2).
//   DW0 flags and length, PRDTL in 31:16    DW1 PRDBC    DW2-3 CTBA, 128-byte aligned
inline constexpr std::uint32_t kSlots = 32;
inline constexpr std::uint32_t kHeaderSize = 32;
inline constexpr std::uint32_t kCommandListSize = kSlots * kHeaderSize;
enum class Header : std::uint32_t {
    kForbidden = 0xfu << 12 | 1u << 9,  // PMP, B: port multiplier, self-test
    kSoftReset = 1u << 10 | 1u << 8,    // C, R
    kWrite = 1u << 6,                   // W
    kPacket = 1u << 5,                  // A
};

// Command table (section 4.2.3): command FIS at 0, ATAPI command at 40h, descriptors of 16 bytes from 80h.
//   DW0-1 address, 2-byte aligned    DW2 reserved    DW3 I (bit 31), bytes - 1 (bits 21:0, bit 0 is one)
inline constexpr std::uint32_t kPacketOffset = 0x40, kDescriptorOffset = 0x80;
inline constexpr std::uint32_t kDescriptorSize = 16;
inline constexpr std::uint32_t kDescriptorMaxBytes = 1u << 22;

// Received FIS area (section 4.2.1): DMA Setup, PIO Setup, Register, Set Device Bits, and one of unknown
// type. The second dword of Set Device Bits has the tags. A place whose first byte, the FIS type, is zero has
// received nothing. Here they are whole words of 8 bytes: what follows the first and the third is reserved.
inline constexpr std::uint32_t kFisAreaSize = 256;
inline constexpr std::uint32_t kRegisterFisOffset = 0x40;  // of which STATUS is byte 2, ERROR byte 3
inline constexpr std::uint32_t kDeviceBitsOffset = 0x58;
inline constexpr std::pair<std::uint8_t, std::uint8_t> kFisPlaces[] = {
    {0x00, 32}, {0x20, 24}, {kRegisterFisOffset, 24}, {kDeviceBitsOffset, 8}, {0x60, 64}};  // offset, size

// Bits of one register, as a number.
template <typename... Bits>
[[nodiscard]] constexpr std::uint32_t bits(Bits... all) {
    return (static_cast<std::uint32_t>(all) | ...);
}

}  // namespace gatehouse::ata::ahci
