#include "keyvault/volume_writer/header_v1.hpp"

#include <memory>
#include <utility>

#include "keyvault/volume/format.hpp"

namespace gatehouse::volume {
namespace {

constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kCursorSize = 32;  // zeros

Bytes recovery_label() { return literal_bytes("gatehouse vault v1: KEK in recovery slot"); }
Bytes dek_label_v1() { return literal_bytes("gatehouse vault v1: DEK"); }
Bytes mac_label_v1() { return literal_bytes("gatehouse vault v1: header MAC"); }

// In version 1 an overlay region might be of several sectors.
Status split_overlay_regions(Header& header) {
    const auto before = header.regions;
    const std::uint32_t count = std::exchange(header.region_count, 0);
    for (const Region& region : std::span(before).first(count)) {
        const bool overlay = region.kind == RegionClass::kOverlay;
        for (std::uint64_t i = 0; i < (overlay ? region.count : 1); ++i) {
            if (header.region_count == kMaximumRegions) return {Error::kNoSpace, "vault header: regions"};
            header.regions[header.region_count++] =
                overlay ? Region{region.first + i, 1, RegionClass::kOverlay} : region;
        }
    }
    return {};
}

Status open_copy(Bytes copy, const SlotSecret& recovery_key, const Guid* disk, Header& header, Keys& keys) {
    GATEHOUSE_ASSIGN(const Bytes covered, covered_bytes(copy, kVersion));
    header = {};
    Reader reader(covered);
    reader.skip(kGenerationAt);
    header.generation = reader.u64();
    reader.copy(header.disk);
    const auto tpm = std::make_unique<TpmSlot>();
    if (reader.u32() != 0) GATEHOUSE_TRY(read_tpm_slot(reader, *tpm));
    if (reader.u32() != 1) return {Error::kNotFound, "vault: no such slot"};
    WrappedKey<kKekSize> recovery;
    read(reader, recovery);
    GATEHOUSE_TRY(reader.status("vault header: slots"));
    if (!unwrap(recovery, derive_key(recovery_key.bytes(), recovery_label()), {recovery_label(), header.disk},
                keys.kek)) {
        return {Error::kAuthFailed, "vault slot"};
    }
    if (!equal_secret(header_mac(covered, keys.kek, mac_label_v1()), copy.subspan(covered.size(), kMacSize))) {
        return {Error::kBadMac, "vault header"};
    }
    if (disk != nullptr && *disk != header.disk) return {Error::kMismatch, "vault header: of another disk"};
    GATEHOUSE_TRY(read_layout(reader, header));
    header.data_key.epoch = reader.u32();
    read(reader, header.data_key.key);
    for (const std::byte byte : reader.bytes(kCursorSize)) {
        if (byte != std::byte{0}) return {Error::kUnsupported, "vault header: cursor"};
    }
    GATEHOUSE_TRY(reader.status("vault header: body"));
    GATEHOUSE_TRY(split_overlay_regions(header));
    GATEHOUSE_TRY(validate(header));
    GATEHOUSE_TRY(unwrap_dek(header, keys.kek, dek_label_v1(), keys.dek));
    header.data_key.key = {};
    return {};
}

}  // namespace

Candidates select_candidates_v1(Bytes copy0, Bytes copy1) { return select_candidates(copy0, copy1, kVersion); }

Status open_header_v1(Bytes copy, const SlotSecret& recovery_key, const Guid* disk, Header& header, Keys& keys) {
    const Status opened = open_copy(copy, recovery_key, disk, header, keys);
    if (!opened) keys = {};
    return opened;
}

}  // namespace gatehouse::volume
