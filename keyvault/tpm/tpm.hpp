// Tpm: TPM 2.0 commands that need no session but a password session with an empty password.
//
// Every response is taken apart as hostile input: size field, tag, response code, handle and parameter sizes, and
// nothing may be left over. TPM2_RC_RETRY, YIELDED, TESTING and NV_RATE are retried kMaximumAttempts times.
//
// Errors of every command:
//   kTpmError      the TPM refused; item is the command's name ("TPM2_PCR_Extend"), detail the response code
//   kTruncated, kTrailingBytes, kBadLength, kBadValue, kMismatch
//                  the response contradicts itself or the command; item as above
//   what the transport reports
//
// Buffers of 2 x 2,048 bytes are part of the object: make it static where the stack is small. Not for several
// CPUs at once. Handles, integers and masks are in host byte order; blobs are marshalled (big-endian),
// without outer size fields.
#pragma once

#include "keyvault/tpm/transport.hpp"
#include "keyvault/tpm/types.hpp"

namespace gatehouse::tpm {

class Tpm;

// A transient object or session of the TPM, flushed when this goes; a failure to flush is not reported. Movable.
class Flushed {
  public:
    Flushed() = default;
    Flushed(Tpm& tpm, TPM2_HANDLE handle) : tpm_(&tpm), handle_(handle) {}
    ~Flushed();
    Flushed(Flushed&& other) noexcept { *this = static_cast<Flushed&&>(other); }
    Flushed& operator=(Flushed&& other) noexcept {
        std::swap(tpm_, other.tpm_);
        std::swap(handle_, other.handle_);
        return *this;
    }
    [[nodiscard]] TPM2_HANDLE handle() const { return handle_; }

  private:
    Tpm* tpm_ = nullptr;
    TPM2_HANDLE handle_ = 0;
};

class Tpm {
  public:
    static constexpr std::size_t kBufferSize = 2048;
    static constexpr unsigned kMaximumAttempts = 100;

    explicit Tpm(Transport& transport) : transport_(transport) {}
    Tpm(const Tpm&) = delete;

    // The active PCR banks. kNoSpace if there are more than BankList holds: an unknown bank must not be overlooked.
    [[nodiscard]] Result<BankList> active_banks();
    // Extends one PCR in the bank of each digest, with one command. At most BankList::kCapacity digests.
    [[nodiscard]] Status pcr_extend(unsigned pcr, std::span<const Digest> digests);
    // One PCR (0..23) of one bank; kMismatch if the TPM does not have it.
    [[nodiscard]] Result<Digest> pcr_read(HashAlgorithm bank, unsigned pcr);

    // TPM2_Shutdown for a loss of power: without it, the TPM's clock goes back, and it may count a failed
    // authorization.
    [[nodiscard]] Status shutdown();

    // Fills `out`, however many commands it takes.
    [[nodiscard]] Status get_random(MutableBytes out);

    // A loaded or persistent object's public area. Whoever answers may lie: it is the object's that was meant if
    // name_of() it is the Name that was pinned. The Name that the answer gives besides is not looked at.
    [[nodiscard]] Result<PublicArea> read_public(TPM2_HANDLE object);
    // Loads a marshalled TPMT_PUBLIC for verifying signatures. Owner hierarchy: tickets of the null hierarchy
    // are empty (Part 3, 20.1), PolicyAuthorize refuses those.
    [[nodiscard]] Result<Flushed> load_external(Bytes public_area);
    // Loads a child of `parent` (whose authorization value is empty). The Name that the TPM reports must be
    // the public area's.
    [[nodiscard]] Result<Flushed> load(TPM2_HANDLE parent, Bytes private_blob, Bytes public_area);
    [[nodiscard]] Status flush(TPM2_HANDLE handle);

    // Has the TPM verify `signature` (a marshalled TPMT_SIGNATURE) of the loaded key over `digest`.
    [[nodiscard]] Result<Ticket> verify_signature(TPM2_HANDLE key, const Sha256Digest& digest, Bytes signature);

    // Overwrites what the last response held.
    void wipe_response() { wipe(response_); }

  private:
    friend class Command;
    Transport& transport_;
    std::array<std::byte, kBufferSize> command_{};
    std::array<std::byte, kBufferSize> response_{};
};

}  // namespace gatehouse::tpm
