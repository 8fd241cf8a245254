#include "keyvault/volume_writer/header_writer.hpp"

#include <algorithm>

#include "keyvault/volume/format.hpp"

namespace gatehouse::volume {
namespace {

template <std::size_t N>
void write(Writer& writer, const WrappedKey<N>& key) {
    writer.bytes(key.nonce);
    writer.bytes(key.ciphertext);
    writer.bytes(key.tag);
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
    for (const auto* slot : {&slots.recovery, &slots.member}) {
        writer.u32(*slot ? 1 : 0);
        if (*slot) write(writer, **slot);
    }
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
    write(writer, header.root);
    writer.u32(header.member_count);
    for (const VaultId& member : header.member_table()) writer.bytes(member);
    writer.u32(header.data_key.epoch);
    write(writer, header.data_key.key);
    writer.u32(static_cast<std::uint32_t>(header.cursor.state));
    writer.u32(header.cursor.journal);
    writer.u64(header.cursor.next);
    writer.u64(header.cursor.count);
}

}  // namespace

Result<std::size_t> serialise(const Header& header, const Kek& kek, MutableBytes out) {
    if (header.region_count > kMaximumRegions || header.overlay_count > kMaximumOverlaySectors ||
        header.member_count > kMaximumMembers) {
        return {Error::kNoSpace, "vault header: tables"};
    }
    GATEHOUSE_TRY(validate(header));
    Writer writer(out.first(std::min(out.size(), kMaximumHeaderSize)));
    writer.bytes(literal_bytes("GHVAULT1"));
    writer.u32(kHeaderVersion);
    const std::size_t length_at = writer.reserve<std::uint32_t>();
    writer.u64(header.generation);
    writer.bytes(header.disk);
    writer.bytes(header.vault_id);
    write(writer, header.slots);
    write_body(writer, header);
    const std::size_t used = writer.offset() + kMacSize;
    const std::size_t length = (used + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment;
    writer.patch(length_at, static_cast<std::uint32_t>(length));
    writer.zeros(length - used);
    if (!writer.failed()) writer.bytes(header_mac(writer.written(), kek));
    GATEHOUSE_TRY(writer.status("vault header"));
    return length;
}

WrappedKey<kKekSize> wrap_kek(const Kek& kek, SlotKind slot, const SlotSecret& secret, const Header& header,
                              RandomSource& random) {
    const Bytes label = slot_label(slot);
    return wrap(kek, derive_key(secret.bytes(), label), {label, header.disk, header.vault_id}, random);
}

WrappedKey<kRootSize> wrap_root(const Root& root, const Kek& kek, const Guid& disk, RandomSource& random) {
    return wrap(root, derive_key(kek.bytes(), root_label()), {root_label(), disk}, random);
}

Result<DataKey> wrap_dek(const Dek& dek, std::uint32_t epoch, const Kek& kek, const Guid& disk, RandomSource& random) {
    if (equal_secret(dek.bytes().first<kDekSize / 2>(), dek.bytes().last<kDekSize / 2>())) {
        return {Error::kBadValue, "vault data key: halves are equal"};
    }
    return DataKey{epoch, wrap(dek, derive_key(kek.bytes(), dek_label()),
                               {dek_label(), encoded(epoch, Endian::kLittle), disk}, random)};
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
