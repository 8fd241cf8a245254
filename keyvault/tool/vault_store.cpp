#include "keyvault/tool/vault_store.hpp"

#include <algorithm>
#include <exception>

#include "keyvault/tool/layout.hpp"
#include "keyvault/volume_writer/header_v1.hpp"

namespace gatehouse::host {
namespace {

Bytes interrupted_marker() { return literal_bytes("GHPROVIS"); }

bool starts_with(Bytes bytes, Bytes magic) { return equal_bytes(bytes.first(magic.size()), magic); }

}  // namespace

VaultStore::VaultStore(BlockDevice& disk, const volume::GptEntry& vault) : disk_(disk), vault_(vault) {
    if (vault.count() < volume::kMinimumVaultSize / disk.sector_size()) {
        throw ToolError(disk.path() + ": the vault partition is smaller than 1 MiB");
    }
}

Status VaultStore::write(std::uint64_t offset, Bytes data) {
    disk_.write(vault_.first + offset / disk_.sector_size(), data);
    return {};
}

Status VaultStore::flush() {
    disk_.flush();
    return {};
}

Buffer VaultStore::read(std::uint64_t offset, std::size_t size) const {
    return disk_.read_sectors(vault_.first + offset / disk_.sector_size(), size / disk_.sector_size());
}

void VaultStore::put_copy(std::size_t number, Bytes copy) {
    const std::size_t first = disk_.sector_size();
    const std::uint64_t offset = volume::kCopyOffset[number];
    (void)write(offset + first, copy.subspan(first));
    (void)flush();
    (void)write(offset, copy.first(first));
    (void)flush();
}

HeaderCopies read_header_copies(const BlockDevice& disk, const volume::GptEntry& vault) {
    const std::size_t size = disk.sector_size();
    HeaderCopies copies;
    std::exception_ptr failure;
    for (std::size_t i = 0; i < copies.size(); ++i) {
        const std::uint64_t first = volume::kCopyOffset[i] / size;
        const std::uint64_t count = volume::kMaximumHeaderSize / size;
        if (first + count > vault.count()) throw ToolError(disk.path() + ": the vault partition is smaller than 1 MiB");
        try {
            copies[i] = disk.read_sectors(vault.first + first, count);
        } catch (const ToolError&) {
            copies[i].assign(volume::kMaximumHeaderSize, std::byte{0});
            failure = std::current_exception();
        }
    }
    const auto is_none = [](const Buffer& copy) { return kind_of(copy) == CopyKind::kNone; };
    if (failure && std::ranges::all_of(copies, is_none)) std::rethrow_exception(failure);
    return copies;
}

CopyKind kind_of(Bytes copy) {
    if (starts_with(copy, interrupted_marker())) return CopyKind::kMarker;
    if (volume::select_candidates(copy, {}).count != 0) return CopyKind::kHeader;
    if (volume::select_candidates_v1(copy, {}).count != 0) return CopyKind::kVersion1;
    return CopyKind::kNone;
}

unsigned percent_done(const volume::Header& header) {
    if (header.cursor.state == volume::CursorState::kIdle) return 100;
    std::uint64_t total = 0;
    std::uint64_t done = 0;
    for (const Extent& extent : encrypted_extents(header)) {
        total += extent.count;
        if (header.cursor.next > extent.first) done += std::min(header.cursor.next - extent.first, extent.count);
    }
    return total == 0 ? 0 : static_cast<unsigned>(done * 100 / total);
}

}  // namespace gatehouse::host
