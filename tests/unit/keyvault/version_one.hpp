// A vault header as the release before wrote it (version 1; keyvault/volume_writer/header_v1.hpp), which nothing writes any
// more.
#pragma once

#include <vector>

#include "keyvault/volume_writer/header_writer.hpp"

namespace gatehouse::test {

// Generation, disk, layout, attestation key and epoch are the header's, KEK and DEK are of `keys`; the TPM slot holds zeros.
inline std::vector<std::byte> version_one(const volume::Header& header, const volume::Keys& keys,
                                          const volume::SlotSecret& recovery, RandomSource& random, std::size_t size) {
    const Bytes slot = literal_bytes("gatehouse vault v1: KEK in recovery slot");
    const Bytes data = literal_bytes("gatehouse vault v1: DEK");
    std::vector<std::byte> out(size);
    Writer writer(out);
    const auto put = [&](const auto& wrapped) {
        writer.bytes(wrapped.nonce);
        writer.bytes(wrapped.ciphertext);
        writer.bytes(wrapped.tag);
    };
    writer.bytes(literal_bytes("GHVAULT1"));
    writer.u32(1);
    writer.u32(static_cast<std::uint32_t>(size));
    writer.u64(header.generation);
    writer.bytes(header.disk);
    writer.u32(1);
    writer.sized(std::vector<std::byte>(78));
    writer.sized(std::vector<std::byte>(158));
    writer.zeros(34 + 34 + 60);
    writer.u32(1);
    put(volume::wrap(keys.kek, volume::derive_key(recovery.bytes(), slot), {slot, header.disk}, random));
    writer.u32(header.sector_size);
    writer.u64(header.total_sectors);
    writer.u32(header.region_count);
    for (const Region& region : header.region_table()) {
        writer.u64(region.first);
        writer.u64(region.count);
        writer.u32(static_cast<std::uint32_t>(region.kind));
    }
    writer.u32(header.overlay_count);
    for (const volume::OverlaySector& sector : header.overlay_table()) {
        writer.u64(sector.lba);
        writer.bytes(Bytes(sector.content).first(header.sector_size));
    }
    writer.sized(header.attestation_key_public.bytes());
    writer.sized(header.attestation_key_private.bytes());
    writer.u32(header.data_key.epoch);
    std::array<std::byte, 4> epoch{};
    store(epoch.data(), header.data_key.epoch, Endian::kLittle);
    put(volume::wrap(keys.dek, volume::derive_key(keys.kek.bytes(), data), {data, epoch, header.disk}, random));
    const volume::WrappingKey key =
        volume::derive_key(keys.kek.bytes(), literal_bytes("gatehouse vault v1: header MAC"));
    copy_bytes(MutableBytes(out).last(32), hmac_sha256(key.bytes(), {Bytes(out).first(size - 32)}));
    return out;
}

}  // namespace gatehouse::test
