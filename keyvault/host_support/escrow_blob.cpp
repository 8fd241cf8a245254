#include "keyvault/host_support/escrow_blob.hpp"

namespace gatehouse::host {

volume::VaultId escrow_vault(Bytes blob, const std::string& item) {
    Reader reader(blob);
    if (!equal_bytes(reader.bytes(8), literal_bytes("GHESCROW"))) throw ToolError(item + ": is no escrow blob");
    const std::uint32_t version = reader.u32();
    if (!reader.failed() && version != kEscrowVersion) {
        throw ToolError(item + ": is an escrow blob of version " + std::to_string(version) +
                        ", which this release does not read");
    }
    if (blob.size() != kEscrowSize || reader.u32() != kEscrowSize) {
        throw ToolError(item + ": is an escrow blob of " + std::to_string(blob.size()) + " bytes, which has " +
                        std::to_string(kEscrowSize) + ": it was cut or changed");
    }
    volume::VaultId vault{};
    reader.copy(vault);
    return vault;
}

}  // namespace gatehouse::host
