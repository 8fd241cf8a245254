// Evidence as other agents leave it, to be judged by a policy of source "tpm".
//
//   tpm2-tools       tpm2_quote's message (quote.out, quote.msg, msg.out), signature (sig.out, quote.sig), PCR values in its
//                    format "serialized" or "values" (pcrs.out, quote.pcrs, pcrs.bin), ak.pub in its format "tss"; perhaps
//                    eventlog.bin or binary_bios_measurements
//   Keylime          one *.json: an agent's answer to quotes/identity or quotes/integrity, or its "results"; beside it ak.pub, or
//                    in it or another *.json the registrar's "aik_tpm". quote = "r" message ":" signature ":" PCR values, each
//                    in base64, and for old agents in zlib below it, which is not read
//   go-attestation   one *.json: attest.PlatformParameters, or what `attest-tool dump` prints
//
// tpm2-tools' "serialized" is two C structures of the TSS as they lie in memory, little-endian: TPML_PCR_SELECTION (u32 count,
// 16 * {u16 bank, u8 size, u8[4] bitmap, padding}) || u32 lists || lists * TPML_DIGEST (u32 count, 8 * {u16 size, u8[64]}).
//
// Their quotes have the nonce itself for qualifying data, not a hash of it and of claims.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::formats {

using host::Buffer;

// What a directory or an archive holds, by names without directories.
using EvidenceFiles = std::map<std::string, Buffer>;

inline constexpr std::size_t kMaxEvidenceFile = 4u << 20;
inline constexpr std::size_t kMaxEvidenceFiles = 256;
inline constexpr std::size_t kMaxArchive = 64u << 20;

// The regular files of a tar archive (POSIX ustar, GNU), not compressed. ToolError "WHAT: ..." for what is none, a file that
// is too large, too many of them, or two of one name.
[[nodiscard]] EvidenceFiles read_tar(Bytes archive, const std::string& what);
// The regular files right in a directory that are not too large; ToolError if there are too many.
[[nodiscard]] EvidenceFiles read_directory(const std::string& path);

struct OthersEvidence {
    std::string maker;        // "tpm2-tools", "Keylime", "go-attestation"
    Buffer quote = {};        // TPMS_ATTEST
    Buffer signature = {};    // TPMT_SIGNATURE
    Buffer public_area = {};  // TPMT_PUBLIC
    Buffer pcr_values = {};   // in the order of the quote's selections; empty: none were given for each of them
    Buffer event_log = {};    // empty: none
    std::vector<std::string> unjudged = {};  // what there is, or what is missing, of which nothing is said by a verdict
};

// Whether there is something in it that is not this project's own (quote.msg, claims.bin or pcrs.bin, eventlog.bin).
[[nodiscard]] bool is_others_evidence(const EvidenceFiles& files);
// PCR values as they are, one after the other, of a file that may be tpm2_quote's "serialized" as well. What is neither, or is
// not what the quote (TPMS_ATTEST) selects, comes back as it is.
[[nodiscard]] Buffer bare_pcr_values(Buffer file, Bytes quote);
// ToolError naming the file or member that is missing or wrong.
[[nodiscard]] OthersEvidence read_others_evidence(const EvidenceFiles& files);

}  // namespace gatehouse::formats
