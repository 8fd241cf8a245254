// The quote channel's mailbox: what a guest program and the hypervisor say to each other.
//
// The guest finds the mailbox through the ACPI table "GTHS" (OEM ID "GATEHS"), whose body after the 36-byte
// standard header is, little-endian:
//   u32 version (2), u32 mailbox size in bytes, u64 mailbox physical address, u16 doorbell port,
//   u16 PCI function of the boot vault's disk (bus << 8 | device << 3 | function), u8 its AHCI port or IDE
//   channel, u8[3] zero
// The last two tell the measured initrd which disk is the boot vault's: it takes the root file system from there alone.
// The mailbox lies in memory that the E820 map calls reserved; root maps it through /dev/mem. A request is
// written to it, then a 32-bit OUT of kDoorbellValue to the doorbell port (root: iopl/ioperm) executes it
// before the next instruction. The hypervisor copies the request before it looks at it, and answers in place.
//
// Mailbox layout, little-endian:
//   u32 magic (kMailboxMagic)   u16 version (kMailboxVersion)   u16 command (Command)
//   u32 status (MailboxStatus, written by the hypervisor)
//   u32 length of the payload that follows, in bytes
//   u32 total (answers: whole size of what is read in parts)    u32 reserved (zero)
//   payload
//
//   command      request payload              answer payload
//   kStatus      none                         the claims (evidence/claims.hpp), as they are now
//   kLog         u32 offset                   text of the hypervisor's log from offset; total = its size
//   kEventLog    u32 offset                   event log bytes from offset; total = its size
//   kQuote       nonce, 16 to 64 bytes        u16 length + each of: claims, TPMS_ATTEST, TPMT_SIGNATURE, AK
//                                             TPM2B_PUBLIC's body (TPMT_PUBLIC); TPM structures big-endian
//   kEndorsement u32 handle                   NV index of the EK certificates' ranges: its contents;
//                                             persistent handle of the EK's range: TPMT_PUBLIC of that key
//   kActivate    u32 EK handle, u16 length +  the secret of TPM2_ActivateCredential for the AK, 1 to 64 bytes
//                each of: TPM2B_ID_OBJECT's
//                and TPM2B_ENCRYPTED_SECRET's
//                contents (big-endian inside)
//   kConvert     u32 windows, 0 or 1          u64 LBA up to which the disk has its new key, u64 sectors of the disk, u32 1 while
//                                             there is more to do, else 0
//
// Ranges of kEndorsement (TCG EK Credential Profile 2.5, 2.2.1.4 and 2.2.1.5; TCG Registry of Reserved
// TPM 2.0 Handles): NV 0x01c00002-0x01c0000c, 0x01c00012-0x01c00022, 0x01c00100-0x01c001ff; keys
// 0x81010000-0x8101ffff; any other handle: kBadRequest. An index or key that is not there, that has never
// been written, or whose read authorization is not empty: kUnavailable. At most kMaxEndorsement bytes (more:
// kTpmFailed). The bytes are the TPM's, unchecked.
//
// kConvert goes on with a change of a disk's key, or its first encryption, that was under way at the boot: by a window of
// at most 256 KiB, for which the guest's commands to that disk wait; none is done while they do not come to their end, and what
// is not done with 1 is asked for once more. kUnavailable: nothing was under way. kTpmFailed: the disk failed; the window
// stays locked for the guest until a later request has done it.
//
// kActivate: the attestation key is the vault's, its ADMIN role has the empty password. The EK is authorized
// by an empty password if it has userWithAuth (templates of the high range), else by PolicySecret of the
// endorsement hierarchy, whose authorization value must be empty.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gatehouse::channel {

inline constexpr std::uint32_t kMailboxMagic = 0x48434847;  // "GHCH"
inline constexpr std::uint16_t kMailboxVersion = 1;
inline constexpr std::size_t kMailboxHeaderSize = 24;
inline constexpr std::uint16_t kDoorbellPort = 0x4748;
inline constexpr std::uint32_t kDoorbellValue = kMailboxMagic;
inline constexpr std::size_t kMinNonce = 16;
inline constexpr std::size_t kMaxNonce = 64;
inline constexpr std::size_t kMaxRequest = 1024;  // payload of any request
inline constexpr std::size_t kMaxEndorsement = 2048;
inline constexpr std::size_t kMaxActivated = 64;

enum class Command : std::uint16_t {
    kStatus = 1,
    kLog = 2,
    kEventLog = 3,
    kQuote = 4,
    kEndorsement = 5,
    kActivate = 6,
    kConvert = 7,
};

enum class MailboxStatus : std::uint32_t {
    kOk = 0,
    kBadRequest = 1,   // magic, length, nonce or offset out of its domain
    kBadVersion = 2,   // a version this hypervisor does not speak
    kBadCommand = 3,   // a command this hypervisor does not know
    kUnavailable = 4,  // needs a TPM, an opened vault, an NV index or a key that is not there
    kTpmFailed = 5,    // the TPM, or the disk that is converted, refused or did not answer; the log says more
};

}  // namespace gatehouse::channel
