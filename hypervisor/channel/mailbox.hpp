// The quote channel's mailbox: what a guest program and the hypervisor say to each other.
//
// The guest finds the mailbox through the ACPI table "GTHS" (OEM ID "GATEHS"), whose body after the 36-byte
// standard header is, little-endian:
//   u32 version (1), u32 mailbox size in bytes, u64 mailbox physical address, u16 doorbell port, u16[3] zero
// The mailbox lies in memory that the E820 map calls reserved; root maps it through /dev/mem. A request is written
// to it, then a 32-bit OUT of kDoorbellValue to the doorbell port (root: iopl/ioperm) executes it before the next
// instruction. The hypervisor copies the request before it looks at it, and answers in place.
//
// Mailbox layout, little-endian:
//   u32 magic (kMailboxMagic)   u16 version (kMailboxVersion)   u16 command (Command)
//   u32 status (MailboxStatus, written by the hypervisor)       u32 length of the payload that follows, in bytes
//   u32 total (answers: whole size of what is read in parts)    u32 reserved (zero)
//   payload
//
//   command      request payload              answer payload
//   kStatus      none                         the claims (evidence/claims.hpp), as they are now
//   kLog         u32 offset                   text of the hypervisor's log from offset; total = its size
//   kEventLog    u32 offset                   event log bytes from offset; total = its size
//   kQuote       nonce, 16 to 64 bytes        u16 length + each of: claims, TPMS_ATTEST, TPMT_SIGNATURE, AK
//                                             TPM2B_PUBLIC's body (TPMT_PUBLIC); TPM structures big-endian
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

enum class Command : std::uint16_t {
    kStatus = 1,
    kLog = 2,
    kEventLog = 3,
    kQuote = 4,
};

enum class MailboxStatus : std::uint32_t {
    kOk = 0,
    kBadRequest = 1,   // magic, length, nonce or offset out of its domain
    kBadVersion = 2,   // a version this hypervisor does not speak
    kBadCommand = 3,   // a command this hypervisor does not know
    kUnavailable = 4,  // needs a TPM or an opened vault that this boot does not have
    kTpmFailed = 5,    // the TPM refused or did not answer; the hypervisor's log says more
};

}  // namespace gatehouse::channel
