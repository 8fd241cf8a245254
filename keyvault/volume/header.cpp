#include "keyvault/volume/header.hpp"

#include <algorithm>

#include "keyvault/volume/wrap.hpp"

namespace gatehouse::volume {
namespace {

constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kMacSize = kSha256Size;
constexpr std::size_t kLengthAt = 12;
constexpr std::uint32_t kCursorIdle = 0;
constexpr std::size_t kCursorSize = 28;  // reserved: epoch, next sector, window, journal

// HKDF info strings. A key of one purpose is never one of another.
Bytes slot_label(SlotKind slot) {
    return slot == SlotKind::kTpm ? literal_bytes("gatehouse vault v1: KEK in TPM slot")
                                  : literal_bytes("gatehouse vault v1: KEK in recovery slot");
}
Bytes dek_label() { return literal_bytes("gatehouse vault v1: DEK"); }
Bytes mac_label() { return literal_bytes("gatehouse vault v1: header MAC"); }

Sha256Digest mac_of(Bytes covered, const Kek& kek) {
    WrappingKey key = derive_key(kek.bytes(), mac_label());
    return hmac_sha256(key.bytes(), {covered});
}

std::array<std::byte, 4> little_endian(std::uint32_t value) {
    std::array<std::byte, 4> bytes{};
    store(bytes.data(), value, Endian::kLittle);
    return bytes;
}

// --- One function pair for each structure: what write() writes, read() reads
// -----------------------------------------

template <std::size_t N>
void write(Writer& writer, const WrappedKey<N>& key) {
    writer.bytes(key.nonce);
    writer.bytes(key.ciphertext);
    writer.bytes(key.tag);
}
template <std::size_t N>
void read(Reader& reader, WrappedKey<N>& key) {
    reader.copy(key.nonce);
    reader.copy(key.ciphertext);
    reader.copy(key.tag);
}

template <std::size_t N>
Status read(Reader& reader, Field<N>& field, const char* item) {
    return field.assign(reader.sized(), item);
}

void write(Writer& writer, const Slots& slots) {
    writer.u32(slots.tpm ? 1 : 0);
    if (slots.tpm) {
        writer.sized(slots.tpm->sealed_public.bytes());
        writer.sized(slots.tpm->sealed_private.bytes());
        writer.bytes(slots.tpm->storage_root_key);
        writer.bytes(slots.tpm->authority);
        write(writer, slots.tpm->kek);
    }
    writer.u32(slots.recovery ? 1 : 0);
    if (slots.recovery) write(writer, slots.recovery->kek);
}
Status read(Reader& reader, Slots& slots) {
    slots = {};
    const std::uint32_t has_tpm = reader.u32();
    if (has_tpm > 1) return {Error::kBadValue, "vault header: TPM slot", has_tpm};
    if (has_tpm == 1) {
        TpmSlot& tpm = slots.tpm.emplace();
        GATEHOUSE_TRY(read(reader, tpm.sealed_public, "vault header: sealed public"));
        GATEHOUSE_TRY(read(reader, tpm.sealed_private, "vault header: sealed private"));
        reader.copy(tpm.storage_root_key);
        reader.copy(tpm.authority);
        read(reader, tpm.kek);
    }
    const std::uint32_t has_recovery = reader.u32();
    if (has_recovery > 1) return {Error::kBadValue, "vault header: recovery slot", has_recovery};
    if (has_recovery == 1) read(reader, slots.recovery.emplace().kek);
    return reader.status("vault header: slots");
}

void write_body(Writer& writer, const Header& header) {
    writer.u32(header.sector_size);
    writer.u64(header.total_sectors);
    writer.u32(header.region_count);
    for (const Region& region : header.region_table()) {
        writer.u64(region.first);
        writer.u64(region.count);
        writer.u32(static_cast<std::uint32_t>(region.kind));
    }
    writer.u32(header.overlay_count);
    for (const OverlaySector& sector : header.overlay_table()) {
        writer.u64(sector.lba);
        writer.bytes(Bytes(sector.content).first(header.sector_size));
    }
    writer.sized(header.attestation_key_public.bytes());
    writer.sized(header.attestation_key_private.bytes());
    writer.u32(header.data_key.epoch);
    write(writer, header.data_key.key);
    writer.u32(kCursorIdle);
    writer.zeros(kCursorSize);
}
Status read_body(Reader& reader, Header& header) {
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
    GATEHOUSE_TRY(read(reader, header.attestation_key_public, "vault header: attestation key public"));
    GATEHOUSE_TRY(read(reader, header.attestation_key_private, "vault header: attestation key private"));
    header.data_key.epoch = reader.u32();
    read(reader, header.data_key.key);
    const std::uint32_t cursor = reader.u32();
    const Bytes cursor_fields = reader.bytes(kCursorSize);
    GATEHOUSE_TRY(reader.status("vault header: body"));
    if (cursor != kCursorIdle) return {Error::kUnsupported, "vault header: re-encryption in progress", cursor};
    const Bytes padding = reader.rest();
    const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
    if (!std::all_of(cursor_fields.begin(), cursor_fields.end(), is_zero) ||
        !std::all_of(padding.begin(), padding.end(), is_zero)) {
        return {Error::kBadValue, "vault header: reserved bytes"};
    }
    return {};
}

// The fixed part, and the MAC's place. Afterwards `covered` is what the MAC covers and `reader` stands at the
// slots.
Status read_fixed(Bytes copy, Reader& reader, Bytes& covered, std::uint64_t& generation, Guid& disk) {
    reader = Reader(copy);
    if (!equal_bytes(reader.bytes(8), literal_bytes("GHVAULT1"))) return {Error::kBadMagic, "vault header"};
    const std::uint32_t version = reader.u32();
    if (version != kVersion) return {Error::kBadVersion, "vault header", version};
    const std::uint32_t length = reader.u32();
    if (length == 0 || length % kHeaderAlignment != 0 || length > kMaximumHeaderSize || length > copy.size()) {
        return {Error::kBadLength, "vault header", length};
    }
    covered = copy.first(length - kMacSize);
    reader = Reader(covered);
    reader.skip(kLengthAt + sizeof(length));
    generation = reader.u64();
    reader.copy(disk);
    if (generation == 0) return {Error::kBadValue, "vault header: generation", generation};
    return reader.status("vault header");
}

// --- Rules
// ---------------------------------------------------------------------------------------------------------

Status validate_regions(const Header& header) {
    std::uint64_t end = 0;  // of the region before
    for (const Region& region : header.region_table()) {
        if (region.count == 0 || region.kind < RegionClass::kReadOnly || region.kind > RegionClass::kOverlay) {
            return {Error::kBadValue, "vault header: region", region.first};
        }
        if (region.first >= header.total_sectors || region.count > header.total_sectors - region.first) {
            return {Error::kOutOfRange, "vault header: region outside of the disk", region.first};
        }
        if (region.first < end) return {Error::kOverlap, "vault header: regions overlap or unsorted", region.first};
        end = region.first + region.count;
    }
    return {};
}

// The overlay's sectors are those of the overlay regions, one by one.
Status validate_overlay(const Header& header) {
    std::size_t next = 0;
    const auto sectors = header.overlay_table();
    for (const Region& region : header.region_table()) {
        if (region.kind != RegionClass::kOverlay) continue;
        if (region.count > sectors.size() - next) {
            return {Error::kMismatch, "vault header: overlay region without content", region.first};
        }
        for (std::uint64_t i = 0; i < region.count; ++i, ++next) {
            if (sectors[next].lba != region.first + i) {
                return {Error::kMismatch, "vault header: overlay region without content", region.first + i};
            }
        }
    }
    if (next != sectors.size()) {
        return {Error::kMismatch, "vault header: overlay sector in no overlay region", sectors[next].lba};
    }
    return {};
}

}  // namespace

Status validate(const Header& header) {
    if (header.generation == 0) return {Error::kBadValue, "vault header: generation", 0};
    if (header.sector_size != 512 && header.sector_size != 4096) {
        return {Error::kBadValue, "vault header: sector size", header.sector_size};
    }
    // dm-crypt's tweak counts 512-byte units in 64 bits, byte offsets are to fit as well.
    if (header.total_sectors == 0 || header.total_sectors > (std::uint64_t{1} << 63) / header.sector_size) {
        return {Error::kBadValue, "vault header: number of sectors", header.total_sectors};
    }
    if (header.region_count > kMaximumRegions || header.overlay_count > kMaximumOverlaySectors) {
        return {Error::kNoSpace, "vault header: tables"};
    }
    if (header.data_key.epoch == 0) return {Error::kBadValue, "vault header: key epoch", 0};
    GATEHOUSE_TRY(validate_regions(header));
    return validate_overlay(header);
}

Status preview(Bytes copy, Preview& out) {
    Reader reader{{}};
    Bytes covered;
    GATEHOUSE_TRY(read_fixed(copy, reader, covered, out.generation, out.disk));
    out.size = covered.size() + kMacSize;
    return read(reader, out.slots);
}

Candidates select_candidates(Bytes copy0, Bytes copy1) {
    const std::array<Bytes, kCopies> copies{copy0, copy1};
    std::array<std::uint64_t, kCopies> generations{};
    Candidates candidates;
    for (std::size_t i = 0; i < kCopies; ++i) {
        Reader reader{{}};
        Bytes covered;
        Guid disk{};
        if (!read_fixed(copies[i], reader, covered, generations[i], disk).ok()) continue;
        candidates.copy[candidates.count++] = i;
    }
    if (candidates.count == kCopies && generations[1] > generations[0]) {
        std::swap(candidates.copy[0], candidates.copy[1]);
    }
    return candidates;
}

Status open_header(Bytes copy, SlotKind slot, const SlotSecret& secret, const Guid* disk, Header& header, Keys& keys) {
    Reader reader{{}};
    Bytes covered;
    GATEHOUSE_TRY(read_fixed(copy, reader, covered, header.generation, header.disk));
    GATEHOUSE_TRY(read(reader, header.slots));
    const bool present = slot == SlotKind::kTpm ? header.slots.tpm.has_value() : header.slots.recovery.has_value();
    if (!present) return {Error::kNotFound, "vault: no such slot"};
    const WrappedKey<kKekSize>& wrapped = slot == SlotKind::kTpm ? header.slots.tpm->kek : header.slots.recovery->kek;
    if (!unwrap(wrapped, derive_key(secret.bytes(), slot_label(slot)), {slot_label(slot), header.disk}, keys.kek)) {
        return {Error::kAuthFailed, "vault slot"};
    }
    if (!equal_secret(mac_of(covered, keys.kek), copy.subspan(covered.size(), kMacSize))) {
        return {Error::kBadMac, "vault header"};
    }
    if (disk != nullptr && *disk != header.disk) return {Error::kMismatch, "vault header: of another disk"};
    GATEHOUSE_TRY(read_body(reader, header));
    GATEHOUSE_TRY(validate(header));
    const WrappingKey dek_key = derive_key(keys.kek.bytes(), dek_label());
    if (!unwrap(header.data_key.key, dek_key, {dek_label(), little_endian(header.data_key.epoch), header.disk},
                keys.dek)) {
        return {Error::kAuthFailed, "vault data key"};
    }
    if (equal_secret(keys.dek.bytes().first<kDekSize / 2>(), keys.dek.bytes().last<kDekSize / 2>())) {
        return {Error::kBadValue, "vault data key: halves are equal"};
    }
    return {};
}

Result<std::size_t> serialise(const Header& header, const Kek& kek, MutableBytes out) {
    GATEHOUSE_TRY(validate(header));
    Writer writer(out.first(std::min(out.size(), kMaximumHeaderSize)));
    writer.bytes(literal_bytes("GHVAULT1"));
    writer.u32(kVersion);
    const std::size_t length_at = writer.reserve<std::uint32_t>();
    writer.u64(header.generation);
    writer.bytes(header.disk);
    write(writer, header.slots);
    write_body(writer, header);
    const std::size_t used = writer.offset() + kMacSize;
    const std::size_t length = (used + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment;
    writer.patch(length_at, static_cast<std::uint32_t>(length));
    writer.zeros(length - used);
    if (!writer.failed()) writer.bytes(mac_of(writer.written(), kek));
    GATEHOUSE_TRY(writer.status("vault header"));
    return length;
}

WrappedKey<kKekSize> wrap_kek(const Kek& kek, SlotKind slot, const SlotSecret& secret, const Guid& disk,
                              RandomSource& random) {
    return wrap(kek, derive_key(secret.bytes(), slot_label(slot)), {slot_label(slot), disk}, random);
}

Result<DataKey> wrap_dek(const Dek& dek, std::uint32_t epoch, const Kek& kek, const Guid& disk, RandomSource& random) {
    if (equal_secret(dek.bytes().first<kDekSize / 2>(), dek.bytes().last<kDekSize / 2>())) {
        return {Error::kBadValue, "vault data key: halves are equal"};
    }
    return DataKey{epoch,
                   wrap(dek, derive_key(kek.bytes(), dek_label()), {dek_label(), little_endian(epoch), disk}, random)};
}

Status update(Store& store, Header& header, const Kek& kek, std::size_t& copy, MutableBytes scratch) {
    const std::uint64_t previous = header.generation;
    const std::size_t target = 1 - copy;
    header.generation = previous + 1;
    const auto write_copy = [&]() -> Status {
        GATEHOUSE_ASSIGN(const std::size_t length, serialise(header, kek, scratch));
        GATEHOUSE_TRY(store.write(kCopyOffset[target], scratch.first(length)));
        return store.flush();
    };
    const Status written = write_copy();
    if (!written.ok()) {
        header.generation = previous;
        return written;
    }
    copy = target;
    return {};
}

}  // namespace gatehouse::volume
