#include "attestation/agent/leftovers.hpp"

#include <tss2/tss2_mu.h>

#include <algorithm>

namespace gatehouse::agent {
namespace {

using host::Freed;

bool same_template(const TPM2B_PUBLIC& one, const TPM2B_PUBLIC& other) {
    const auto encoded = [](TPMT_PUBLIC area) {
        area.unique = {};
        if (area.type == TPM2_ALG_KEYEDHASH || area.type == TPM2_ALG_SYMCIPHER) return Buffer{};
        std::array<std::uint8_t, sizeof(TPMT_PUBLIC)> bytes{};
        std::size_t size = 0;
        if (Tss2_MU_TPMT_PUBLIC_Marshal(&area, bytes.data(), bytes.size(), &size) != TSS2_RC_SUCCESS) return Buffer{};
        const Bytes view = std::as_bytes(std::span(bytes).first(size));
        return Buffer(view.begin(), view.end());
    };
    const Buffer first = encoded(one.publicArea);
    return !first.empty() && first == encoded(other.publicArea);
}

bool flush(const TctiTpm& tpm, TPM2_HANDLE handle, const std::vector<TPM2B_PUBLIC>* own) {
    ESYS_TR resource = ESYS_TR_NONE;
    if (Esys_TR_FromTPMPublic(tpm.context(), handle, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &resource) !=
        TSS2_RC_SUCCESS) {
        return false;
    }
    if (own != nullptr) {
        Freed<TPM2B_PUBLIC> area;
        const bool known = Esys_ReadPublic(tpm.context(), resource, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                           &area.pointer, nullptr, nullptr) == TSS2_RC_SUCCESS;
        const bool mine = known && std::ranges::any_of(*own, [&](const TPM2B_PUBLIC& one) {
                              return same_template(one, *area.pointer);
                          });
        if (!mine) return false;
    }
    return Esys_FlushContext(tpm.context(), resource) == TSS2_RC_SUCCESS;
}

std::vector<TPM2_HANDLE> loaded_objects(const TctiTpm& tpm) {
    return tpm.handles(TPM2_TRANSIENT_FIRST, TPM2_TRANSIENT_LAST);
}
// Handles that are asked for from here on are those of loaded sessions, of either kind (Part 3, 30.2).
std::vector<TPM2_HANDLE> loaded_sessions(const TctiTpm& tpm) {
    return tpm.handles(TPM2_LOADED_SESSION_FIRST, TPM2_POLICY_SESSION_LAST);
}

std::string list_of(const std::vector<TPM2_HANDLE>& handles) {
    std::string text;
    for (const TPM2_HANDLE one : handles) {
        std::array<std::byte, 4> bytes{};
        store(bytes.data(), one, Endian::kBig);
        text += (text.empty() ? "0x" : ", 0x") + host::hex(bytes);
    }
    return text;
}

}  // namespace

bool is_want_of_room(const host::TpmError& error) {
    switch (error.code()) {
        case TPM2_RC_OBJECT_MEMORY:
        case TPM2_RC_SESSION_MEMORY:
        case TPM2_RC_MEMORY:
        case TPM2_RC_SESSION_HANDLES:
        case TPM2_RC_OBJECT_HANDLES: return true;
        default: return false;
    }
}

bool is_without_resource_manager(const std::string& tcti) {
    const auto begins = [&tcti](std::string_view with) { return tcti.starts_with(with); };
    if (begins("swtpm") || begins("mssim") || begins("libtss2-tcti-swtpm") || begins("libtss2-tcti-mssim")) return true;
    const std::size_t device = tcti.find("/dev/tpm");
    return (begins("device:") || begins("libtss2-tcti-device")) && device != std::string::npos &&
           device + 8 < tcti.size() && tcti[device + 8] >= '0' && tcti[device + 8] <= '9';
}

std::size_t flush_leftovers(const std::string& tcti, const host::TpmError& error,
                            const std::vector<TPM2B_PUBLIC>& own) {
    if (!is_without_resource_manager(tcti)) return 0;
    const bool of_sessions = error.code() == TPM2_RC_SESSION_MEMORY || error.code() == TPM2_RC_SESSION_HANDLES;
    const bool of_objects = error.code() == TPM2_RC_OBJECT_MEMORY || error.code() == TPM2_RC_OBJECT_HANDLES;
    const TctiTpm tpm(tcti);
    std::size_t count = 0;
    if (!of_sessions)
        for (const TPM2_HANDLE handle : loaded_objects(tpm)) count += flush(tpm, handle, &own) ? 1 : 0;
    if (of_objects) return count;
    for (const TPM2_HANDLE handle : loaded_sessions(tpm)) {
        const bool policy = handle >= TPM2_POLICY_SESSION_FIRST && handle <= TPM2_POLICY_SESSION_LAST;
        count += policy && flush(tpm, handle, nullptr) ? 1 : 0;
    }
    return count;
}

std::string want_of_room_text(const std::string& tcti, const host::TpmError& error) {
    std::string text = error.what();
    if (!is_without_resource_manager(tcti))
        return text + "; other programs use the TPM through its resource manager: try again once they are done";
    const TctiTpm tpm(tcti);
    const auto objects = loaded_objects(tpm), sessions = loaded_sessions(tpm);
    text += "; the TPM has no room. ";
    if (!objects.empty()) text += "Loaded objects: " + list_of(objects) + ". ";
    if (!sessions.empty()) text += "Loaded sessions: " + list_of(sessions) + ". ";
    return text +
           "Another program loaded them, and if it has ended nobody flushes them: `tpm2_flushcontext -t` (objects), `-l` "
           "(loaded sessions), `-s` (saved sessions) with TPM2TOOLS_TCTI=" +
           tcti +
           ", or a restart of the TPM, does. With a resource manager (device:/dev/tpmrm0) nothing is left behind";
}

}  // namespace gatehouse::agent
