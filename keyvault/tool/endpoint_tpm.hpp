// The endpoint's TPM, through tpm2-tss's ESAPI: the objects that a vault needs are made here, once.
//
// Owner authorization is empty, as after TPM2_Clear, or a password. Objects are created in a session salted to the storage
// root key, its parameters encrypted, so that neither secrets nor random numbers cross the bus in the clear.
#pragma once

#include "hypervisor/base/secret.hpp"
#include "keyvault/host_support/esapi.hpp"
#include "keyvault/tpm/sealing.hpp"

namespace gatehouse::host {

struct TpmObject {
    tpm::PublicArea public_area;
    tpm::PrivateBlob private_blob;
};

// "0x018947a0".
[[nodiscard]] std::string index_text(TPM2_HANDLE index);

struct RollbackCounter {
    TPM2_HANDLE index = tpm::kRollbackCounter;
    std::uint64_t value = 0;
};

class EndpointTpm : EsapiTpm {
  public:
    // `tcti` as in tctildr(3). `owner_password`: file with that of the owner hierarchy, one line; empty: it has none.
    explicit EndpointTpm(const std::string& tcti, const std::string& owner_password = {});

    // Name of the storage root key at tpm::kStorageRootKey, if there is one. ToolError if it is another kind
    // of key than storage_root_key_template() makes.
    [[nodiscard]] std::optional<tpm::Name> storage_root_key();
    // The same, and makes it if it is missing.
    [[nodiscard]] tpm::Name require_storage_root_key();

    // The rollback counter, if there is one; ToolError if the index is in other use.
    [[nodiscard]] std::optional<RollbackCounter> rollback_counter(TPM2_HANDLE index);
    // The same, and makes it if it is missing.
    [[nodiscard]] RollbackCounter require_rollback_counter(TPM2_HANDLE index);
    // By one; the value that it then has.
    [[nodiscard]] std::uint64_t increment(const RollbackCounter& counter);

    // For good. ToolError if there is none.
    void remove_storage_root_key();
    void remove_rollback_counter(TPM2_HANDLE index);
    // Whether there is an object, or an index, of whatever kind.
    [[nodiscard]] bool has(TPM2_HANDLE handle) const { return exists(handle); }

    // Both need the storage root key.
    [[nodiscard]] TpmObject seal(const Secret<32>& secret, const Sha256Digest& policy);
    [[nodiscard]] TpmObject create_attestation_key();
    // Whether an object is one of this TPM's under its storage root key.
    [[nodiscard]] bool can_load(Bytes public_area, Bytes private_blob);

    // `out` must be at most 32 bytes.
    void random(MutableBytes out);

  private:
    class Session;
    // Runs a command with the owner hierarchy's authorization, in an HMAC session: a password does not cross the bus.
    void as_owner(const char* what, const std::function<TSS2_RC(ESYS_TR session)>& command);
    [[nodiscard]] std::uint64_t read_counter(ESYS_TR index) const;
    [[nodiscard]] TpmObject create(Bytes public_template, const TPM2B_SENSITIVE_CREATE& sensitive);
    bool has_owner_password_ = false;
};

}  // namespace gatehouse::host
