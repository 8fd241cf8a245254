#include "hypervisor/boot/online_conversion.hpp"

#include "hypervisor/base/log.hpp"
#include "hypervisor/cpu/vector.hpp"

namespace gatehouse::boot {

Status OnlineConversion::begin(ata::Disk& disk, std::uint64_t vault, std::size_t number, Bytes copy,
                               volume::Header& header, const volume::Keys& keys) {
    if (header.cursor.state == volume::CursorState::kIdle) return {};
    if (!allowed_ || conversion_.is_active() || disk.own_commands() == nullptr) {
        return {Error::kRefused, "vault header: encryption was interrupted; go on with sealed-key", header.cursor.next};
    }
    const cpu::VectorSection vectors;
    disk_ = &disk;
    from_key_ = header.cursor.state == volume::CursorState::kChangingKey;
    volume::Dek before;
    Status opened = conversion_.open(*this, vault, number, copy, header, keys.kek, before);
    if (opened && from_key_) opened = from_.set(before.bytes());
    if (opened) opened = to_.set(keys.dek.bytes());
    if (!opened) wipe(), disk_ = nullptr;
    GATEHOUSE_TRY(opened);
    const Status done = conversion_.go_on();
    if (!done) log("gatehouse: disk at port ", disk.number(), ": encryption rests: ", done.failure());
    log("gatehouse: disk at port ", disk.number(), ": change of its key goes on at sector ", conversion_.changed());
    move_boundary();
    return {};
}

void OnlineConversion::convert(std::uint64_t lba, MutableBytes data) {
    const std::uint32_t size = disk_->geometry().sector_size;
    std::byte* const at = data.data();
    if (from_key_) from_.transform(ata::XtsKey::Direction::kDecrypt, at, at, data.size() / size, size, lba);
    to_.transform(ata::XtsKey::Direction::kEncrypt, at, at, data.size() / size, size, lba);
}

void OnlineConversion::move_boundary() {
    const ata::Boundary during{conversion_.changed(), from_key_ ? &from_ : nullptr, conversion_.locked()};
    disk_->set_boundary(conversion_.is_active() ? during : ata::Boundary());
    if (!conversion_.is_active()) wipe();
}

void OnlineConversion::wipe() {
    conversion_.clear();
    from_.clear();
    to_.clear();
}

Result<std::size_t> OnlineConversion::convert(std::uint32_t windows, MutableBytes out) {
    if (disk_ == nullptr) return {Error::kState, "no change of a disk's key is under way"};
    if (windows != 0 && conversion_.is_active() && disk_->own_commands()->rest()) {
        const cpu::VectorSection vectors;
        const Status done = conversion_.step();
        move_boundary();
        disk_->own_commands()->resume();
        if (!done) log("gatehouse: disk at port ", disk_->number(), ": encryption rests: ", done.failure());
        if (!conversion_.is_active()) log("gatehouse: disk at port ", disk_->number(), ": all of it has its new key");
        GATEHOUSE_TRY(done);
    }
    Writer writer(out);
    writer.u64(conversion_.changed());
    writer.u64(disk_->geometry().sectors);
    writer.u32(conversion_.is_active() ? 1 : 0);
    return writer.offset();
}

evidence::DiskClaim claim_of(const volume::Header& header) {
    evidence::DiskClaim claim{header.disk, evidence::DiskState::kEncrypted, header.data_key.epoch, header.generation};
    if (header.cursor.state == volume::CursorState::kEncrypting) claim.state = evidence::DiskState::kEncrypting;
    if (header.cursor.state == volume::CursorState::kChangingKey) --claim.key_epoch;
    return claim;
}

}  // namespace gatehouse::boot
