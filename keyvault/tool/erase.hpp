// The end of a vault: crypto-erase.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "keyvault/tool/confirmation.hpp"
#include "keyvault/tool/endpoint_tpm.hpp"

namespace gatehouse::host {

struct EraseRequest {
    std::string disk;
    std::string tcti;              // empty: the TPM is left alone
    std::string owner_password{};  // file; empty: the TPM's owner hierarchy has none
    TPM2_HANDLE counter_index = tpm::kRollbackCounter;
    bool keep_tpm = false;   // only look at what it keeps
    bool yes = false;        // confirmed
    std::string serial;      // confirmed for the device with this serial number
    std::string record_out;  // file to make; empty: none
    std::string sign_key;    // PEM; signs the record
};

// Says on standard error what is destroyed, asks, overwrites the vault partition (vault_wipe.hpp) and removes what the TPM
// keeps for it. The partition need not hold a vault that can be read: that of a disk which was erased, or is damaged, is
// overwritten as well, and what was cut is ended by the same again. Before the first write: ToolError for everything that is
// asked for and cannot be had (confirmation, TPM, files, key).
//
// {"device", "disk" (GUID), "vault_id", "label" (null: no header that can be read), "encrypted_percent" (what the header
// claimed: below 100 the rest of the disk was never encrypted, and is as readable as before), "partition": {"first",
// "sectors"}, "bytes_overwritten", "passes", "read_back" (UncachedReader::method()), "tpm": null or {"storage_root_key",
// "rollback_counter": text_of()}, "time" (UTC, RFC 3339)}; the same goes to the record. While the work is under way
// RECORD.begun holds what the header said, for the record of the run that ends it.
//
// `ok` becomes false if the TPM refused something, or the disk was encrypted in part.
[[nodiscard]] nlohmann::json erase(const EraseRequest& request, bool& ok, const Ask& ask = ask_on_terminal);

}  // namespace gatehouse::host
