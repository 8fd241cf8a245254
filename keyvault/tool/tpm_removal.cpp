#include "keyvault/tool/tpm_removal.hpp"

namespace gatehouse::host {
namespace {

// `action`: whether there was something to be removed.
template <typename Action>
RemovalResult result_of(Removal done, Action action) try {
    return {action() ? done : Removal::kAbsent, {}};
} catch (const ToolError& error) {
    return {Removal::kRefused, error.what()};
}

}  // namespace

TpmRemoval remove_tpm_objects(const std::string& tcti, const std::string& owner_password, TPM2_HANDLE counter_index,
                              bool keep) {
    EndpointTpm tpm(tcti, owner_password);
    TpmRemoval removal;
    removal.storage_root_key = result_of(Removal::kKept, [&] { return tpm.storage_root_key().has_value(); });
    // One that was defined and never counted is the endpoint's too, and not told from none.
    removal.counter = result_of(Removal::kKept, [&] { return tpm.rollback_counter(counter_index).has_value(); });
    if (keep) return removal;
    const auto remove = [&](RemovalResult& result, TPM2_HANDLE handle, auto action) {
        if (result.what == Removal::kRefused) return;
        result = result_of(Removal::kRemoved, [&] {
            if (!tpm.has(handle)) return false;
            action();
            return true;
        });
    };
    remove(removal.storage_root_key, tpm::kStorageRootKey, [&] { tpm.remove_storage_root_key(); });
    remove(removal.counter, counter_index, [&] { tpm.remove_rollback_counter(counter_index); });
    return removal;
}

std::string text_of(const RemovalResult& result) {
    switch (result.what) {
        case Removal::kRemoved: return "removed";
        case Removal::kAbsent: return "absent";
        case Removal::kKept: return "kept";
        case Removal::kRefused: break;
    }
    return "refused: " + result.why;
}

}  // namespace gatehouse::host
