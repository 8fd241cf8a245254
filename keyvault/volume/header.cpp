#include "keyvault/volume/header.hpp"

#include <algorithm>

#include "keyvault/volume/format.hpp"

namespace gatehouse::volume {
namespace {

// Whether a slot is there.
Result<bool> present(Reader& reader) {
    const std::uint32_t value = reader.u32();
    if (value > 1) return {Error::kBadValue, "vault header: slot", value};
    return value == 1;
}

// --- Rules

// Regions are sorted, disjoint and on the disk. The overlay's sectors are those of the overlay regions, one by one.
Status validate_regions(const Header& header) {
    std::uint64_t end = 0;  // of the region before
    std::size_t overlays = 0;
    for (const Region& region : header.region_table()) {
        if (region.count == 0 || region.kind < RegionClass::kReadOnly || region.kind > RegionClass::kOverlay) {
            return {Error::kBadValue, "vault header: region", region.first};
        }
        if (region.first >= header.total_sectors || region.count > header.total_sectors - region.first) {
            return {Error::kOutOfRange, "vault header: region outside of the disk", region.first};
        }
        if (region.first < end) return {Error::kOverlap, "vault header: regions overlap or unsorted", region.first};
        end = region.first + region.count;
        if (region.kind != RegionClass::kOverlay) continue;
        if (region.count != 1 || overlays == header.overlay_count || header.overlay[overlays].lba != region.first) {
            return {Error::kMismatch, "vault header: overlay region without content", region.first};
        }
        ++overlays;
    }
    if (overlays == header.overlay_count) return {};
    return {Error::kMismatch, "vault header: overlay sector in no overlay region", overlays};
}

Status validate_cursor(const Header& header) {
    const Cursor& cursor = header.cursor;
    if (cursor.state > CursorState::kChangingKey) {
        return {Error::kUnsupported, "vault header: cursor", static_cast<std::uint64_t>(cursor.state)};
    }
    const std::uint64_t end = cursor.state == CursorState::kIdle ? 0 : header.total_sectors;
    if (cursor.next > end || cursor.count > end - cursor.next || cursor.journal > (end == 0 ? 0 : 1)) {
        return {Error::kBadValue, "vault header: cursor", cursor.next};
    }
    return {};
}

// As open_header(), with the keys as far as it came on failure.
Status open_copy(Bytes copy, SlotKind slot, const SlotSecret& secret, const Guid* disk, Header& header, Keys& keys) {
    GATEHOUSE_ASSIGN(const Bytes covered, covered_bytes(copy));
    Reader reader(covered);
    GATEHOUSE_TRY(read_front(reader, header));
    const Slots& slots = header.slots;
    const std::optional<WrappedKey<kKekSize>>& other = slot == SlotKind::kRecovery ? slots.recovery : slots.member;
    if (slot == SlotKind::kTpm ? !slots.tpm : !other) return {Error::kNotFound, "vault: no such slot"};
    const WrappedKey<kKekSize>& wrapped = slot == SlotKind::kTpm ? slots.tpm->kek : *other;
    const Bytes label = slot_label(slot);
    if (!unwrap(wrapped, derive_key(secret.bytes(), label), {label, header.disk, header.vault_id}, keys.kek)) {
        return {Error::kAuthFailed, "vault slot"};
    }
    if (!equal_secret(header_mac(covered, keys.kek), copy.subspan(covered.size(), kMacSize))) {
        return {Error::kBadMac, "vault header"};
    }
    if (disk != nullptr && *disk != header.disk) return {Error::kMismatch, "vault header: of another disk"};
    GATEHOUSE_TRY(read_body(reader, header));
    GATEHOUSE_TRY(validate(header));
    if (!unwrap(header.root, derive_key(keys.kek.bytes(), root_label()), {root_label(), header.disk}, keys.root)) {
        return {Error::kAuthFailed, "vault root secret"};
    }
    if (vault_id(keys.root) != header.vault_id) return {Error::kMismatch, "vault header: vault id is not its root's"};
    return unwrap_dek(header, keys.kek, dek_label(), keys.dek);
}

}  // namespace

VaultId vault_id(const Root& root) { return sha256({literal_bytes("gatehouse vault id v1"), root.bytes()}); }

Result<Bytes> covered_bytes(Bytes copy, std::uint32_t version) {
    Reader reader(copy);
    if (!equal_bytes(reader.bytes(8), literal_bytes("GHVAULT1"))) return {Error::kBadMagic, "vault header"};
    const std::uint32_t found = reader.u32();
    if (found != version) return {Error::kBadVersion, "vault header", found};
    const std::uint32_t length = reader.u32();
    if (length == 0 || length % kHeaderAlignment != 0 || length > kMaximumHeaderSize || length > copy.size()) {
        return {Error::kBadLength, "vault header", length};
    }
    return copy.first(length - kMacSize);
}

Status read_front(Reader& reader, Header& header) {
    reader.skip(kGenerationAt);
    header.generation = reader.u64();
    reader.copy(header.disk);
    reader.copy(header.vault_id);
    header.slots = {};
    GATEHOUSE_ASSIGN(const bool has_tpm, present(reader));
    if (has_tpm) GATEHOUSE_TRY(read_tpm_slot(reader, header.slots.tpm.emplace()));
    for (auto* const slot : {&header.slots.recovery, &header.slots.member}) {
        GATEHOUSE_ASSIGN(const bool is_there, present(reader));
        if (is_there) read(reader, slot->emplace());
    }
    return reader.status("vault header: slots");
}

Status read_body(Reader& reader, Header& header) {
    GATEHOUSE_TRY(read_layout(reader, header));
    read(reader, header.root);
    header.member_count = reader.u32();
    if (header.member_count > kMaximumMembers) {
        return {Error::kBadValue, "vault header: number of members", header.member_count};
    }
    for (VaultId& member : std::span(header.members).first(header.member_count)) reader.copy(member);
    header.data_key.epoch = reader.u32();
    read(reader, header.data_key.key);
    header.cursor.state = static_cast<CursorState>(reader.u32());
    header.cursor.journal = reader.u32();
    header.cursor.next = reader.u64();
    header.cursor.count = reader.u64();
    GATEHOUSE_TRY(reader.status("vault header: body"));
    if (!std::ranges::all_of(Reader(reader).rest(), [](std::byte byte) { return byte == std::byte{0}; })) {
        return {Error::kBadValue, "vault header: reserved bytes"};
    }
    return {};
}

Status read_tpm_slot(Reader& reader, TpmSlot& slot) {
    GATEHOUSE_TRY(slot.sealed_public.assign(reader.sized(), "vault header: sealed public"));
    GATEHOUSE_TRY(slot.sealed_private.assign(reader.sized(), "vault header: sealed private"));
    reader.copy(slot.storage_root_key);
    reader.copy(slot.authority);
    read(reader, slot.kek);
    return {};
}

Status read_layout(Reader& reader, Header& header) {
    header.sector_size = reader.u32();
    header.total_sectors = reader.u64();
    header.region_count = reader.u32();
    if (header.region_count > kMaximumRegions) {
        return {Error::kBadValue, "vault header: number of regions", header.region_count};
    }
    for (Region& region : std::span(header.regions).first(header.region_count)) {
        region.first = reader.u64();
        region.count = reader.u64();
        region.kind = static_cast<RegionClass>(reader.u32());
    }
    header.overlay_count = reader.u32();
    if (header.overlay_count > kMaximumOverlaySectors || header.sector_size > kMaximumSectorSize) {
        return {Error::kBadValue, "vault header: overlay", header.overlay_count};
    }
    for (OverlaySector& sector : std::span(header.overlay).first(header.overlay_count)) {
        sector.lba = reader.u64();
        reader.copy(MutableBytes(sector.content).first(header.sector_size));
    }
    GATEHOUSE_TRY(header.attestation_key_public.assign(reader.sized(), "vault header: attestation key public"));
    return header.attestation_key_private.assign(reader.sized(), "vault header: attestation key private");
}

Status unwrap_dek(const Header& header, const Kek& kek, Bytes label, Dek& dek) {
    if (!unwrap(header.data_key.key, derive_key(kek.bytes(), label),
                {label, encoded(header.data_key.epoch, Endian::kLittle), header.disk}, dek)) {
        return {Error::kAuthFailed, "vault data key"};
    }
    if (equal_secret(dek.bytes().first<kDekSize / 2>(), dek.bytes().last<kDekSize / 2>())) {
        return {Error::kBadValue, "vault data key: halves are equal"};
    }
    return {};
}

Status validate(const Header& header) {
    if (header.generation == 0) return {Error::kBadValue, "vault header: generation", 0};
    if (header.sector_size != 512 && header.sector_size != 4096) {
        return {Error::kBadValue, "vault header: sector size", header.sector_size};
    }
    // dm-crypt's tweak counts 512-byte units in 64 bits, byte offsets are to fit as well.
    if (header.total_sectors == 0 || header.total_sectors > (std::uint64_t{1} << 63) / header.sector_size) {
        return {Error::kBadValue, "vault header: number of sectors", header.total_sectors};
    }
    if (header.data_key.epoch == 0) return {Error::kBadValue, "vault header: key epoch", 0};
    for (std::size_t i = 1; i < header.member_count; ++i) {
        if (header.members[i - 1] >= header.members[i]) return {Error::kBadValue, "vault header: members unsorted", i};
    }
    GATEHOUSE_TRY(validate_cursor(header));
    return validate_regions(header);
}

Status preview(Bytes copy, Header& header) {
    GATEHOUSE_ASSIGN(const Bytes covered, covered_bytes(copy));
    Reader reader(covered);
    return read_front(reader, header);
}

Candidates select_candidates(Bytes copy0, Bytes copy1, std::uint32_t version) {
    const std::array<Bytes, kCopies> copies{copy0, copy1};
    std::array<std::uint64_t, kCopies> generations{};
    Candidates candidates;
    for (std::size_t i = 0; i < kCopies; ++i) {
        if (!covered_bytes(copies[i], version)) continue;
        generations[i] = load<std::uint64_t>(copies[i].data() + kGenerationAt, Endian::kLittle);
        if (generations[i] != 0) candidates.copy[candidates.count++] = i;
    }
    if (candidates.count == kCopies && generations[1] > generations[0]) {
        std::swap(candidates.copy[0], candidates.copy[1]);
    }
    return candidates;
}

Status open_header(Bytes copy, SlotKind slot, const SlotSecret& secret, const Guid* disk, Header& header, Keys& keys) {
    const Status opened = open_copy(copy, slot, secret, disk, header, keys);
    if (!opened) keys = {};
    return opened;
}

}  // namespace gatehouse::volume
