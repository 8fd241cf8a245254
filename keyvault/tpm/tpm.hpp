// Tpm: TPM 2.0 commands that need no session but a password session with an empty password.
//
// Every response is taken apart as hostile input: size field, tag, response code, handle and parameter sizes,
// and nothing may be left over. TPM2_RC_RETRY, YIELDED, TESTING and NV_RATE are retried kMaximumAttempts
// times.
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

// A transient object or session of the TPM, flushed when this goes; a failure to flush is not reported.
// Movable.
class Flushed {
  public:
    Flushed() = default;
    Flushed(Tpm& tpm, TPM2_HANDLE handle) : tpm_(&tpm), handle_(handle) {}
    ~Flushed() { release(); }
    Flushed(Flushed&& other) noexcept { *this = static_cast<Flushed&&>(other); }
    Flushed& operator=(Flushed&& other) noexcept;
    Flushed(const Flushed&) = delete;
    Flushed& operator=(const Flushed&) = delete;
    [[nodiscard]] TPM2_HANDLE handle() const { return handle_; }

  private:
    void release();
    Tpm* tpm_ = nullptr;
    TPM2_HANDLE handle_ = 0;
};

class Tpm {
  public:
    static constexpr std::size_t kBufferSize = 2048;
    static constexpr unsigned kMaximumAttempts = 100;

    explicit Tpm(Transport& transport) : transport_(transport) {}
    Tpm(const Tpm&) = delete;
    Tpm& operator=(const Tpm&) = delete;

    // The active PCR banks. kNoSpace if there are more than BankList holds: an unknown bank must not be
    // overlooked.
    [[nodiscard]] Result<BankList> active_banks();
    // A TPM property (TPM2_PT_MANUFACTURER, TPM2_PT_FIRMWARE_VERSION_1, TPM2_PT_PERMANENT, ...); kNotFound if
    // the TPM does not have it.
    [[nodiscard]] Result<std::uint32_t> property(TPM2_PT property);
    // Whether a persistent object, NV index or transient object exists under this handle.
    [[nodiscard]] Result<bool> handle_exists(TPM2_HANDLE handle);

    // Extends one PCR in the bank of each digest, with one command. At most BankList::kCapacity digests.
    [[nodiscard]] Status pcr_extend(unsigned pcr, std::span<const Digest> digests);
    // One PCR (0..23) of one bank; kMismatch if the TPM does not have it.
    [[nodiscard]] Result<Digest> pcr_read(HashAlgorithm bank, unsigned pcr);

    // TPM2_Shutdown for a loss of power: without it, the TPM's clock goes back, and it may count a failed authorization.
    [[nodiscard]] Status shutdown();

    // Fills `out`, however many commands it takes.
    [[nodiscard]] Status get_random(MutableBytes out);

    // A loaded or persistent object's public area. Its Name is computed from it, by the algorithm that it
    // states, and must be the one that the TPM reports (kMismatch; kUnsupported if it cannot be computed).
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

    // Public area of an NV index, its Name checked like read_public's.
    [[nodiscard]] Result<NvPublic> nv_read_public(TPM2_HANDLE index);
    // Reads out.size() bytes (at most TPM2_PT_NV_BUFFER_MAX) from `offset`; `authorization` has an empty
    // authorization value: the index itself, TPM2_RH_OWNER or TPM2_RH_PLATFORM, as the index's attributes
    // demand.
    [[nodiscard]] Status nv_read(TPM2_HANDLE authorization, TPM2_HANDLE index, std::size_t offset, MutableBytes out);
    // Value of an NV counter whose read authorization is its own, empty, authorization value, as
    // rollback_counter_public() (templates.hpp) has it.
    [[nodiscard]] Result<std::uint64_t> nv_read_counter(TPM2_HANDLE index);

    // Overwrites what the last response held.
    void wipe_response() { wipe(response_); }

  private:
    friend class Command;
    Transport& transport_;
    std::array<std::byte, kBufferSize> command_{};
    std::array<std::byte, kBufferSize> response_{};
};

}  // namespace gatehouse::tpm
