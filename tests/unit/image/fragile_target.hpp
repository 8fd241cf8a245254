// A disk to be flashed whose power can fail at any write, flush or making of zeros, or which lies; and an image in memory.
#pragma once

#include "image/flash/target.hpp"
#include "tests/unit/image/small_image.hpp"

namespace gatehouse::flash {

class FragileTarget final : public Target {
  public:
    explicit FragileTarget(host::Buffer content, std::size_t sector = 512)
        : seen_(content), stable_(std::move(content)), sector_(sector) {}

    [[nodiscard]] const std::string& path() const override { return path_; }
    [[nodiscard]] std::size_t sector_size() const override { return sector_; }
    [[nodiscard]] std::uint64_t total_sectors() const override { return seen_.size() / sector_; }
    void read(std::uint64_t lba, MutableBytes out) const override {
        if (touches(unreadable_, lba, out.size())) fail("cannot be read", lba);
        copy_bytes(out, Bytes(seen_).subspan(lba * sector_, out.size()));
        if (lie_at_ && touches(*lie_at_, lba, out.size())) out[(*lie_at_ - lba) * sector_] ^= std::byte{1};
    }
    void write(std::uint64_t lba, Bytes data) override {
        if (touches(unwritable_, lba, data.size())) fail("cannot be written", lba);
        put(lba, data);
        ++writes_;
        written_ += data.size();
    }
    void zero(std::uint64_t lba, std::uint64_t count) override { put(lba, host::Buffer(count * sector_)); }
    void flush() override {
        count();
        for (const auto& [lba, sector] : pending_) copy_bytes(MutableBytes(stable_).subspan(lba * sector_), sector);
        pending_.clear();
    }

    // The operation of this number, from 1, is the last, and done in part; 0: none.
    void fail_at(unsigned number) {
        fail_at_ = number;
        operations_ = 0;
    }
    // Back after the cut: of what was not flushed, each sector is there by chance; 0 none, 1 all.
    void power_up(std::uint64_t chance) {
        host::Sequence random(chance);
        for (const auto& [lba, sector] : pending_) {
            if (chance == 0 || (chance > 1 && random.next() % 2 == 0)) continue;
            copy_bytes(MutableBytes(stable_).subspan(lba * sector_), sector);
        }
        pending_.clear();
        seen_ = stable_;
        fail_at(0);
    }
    void make_unwritable(std::uint64_t lba) { unwritable_ = lba; }
    void make_unreadable(std::uint64_t lba) { unreadable_ = lba; }
    // Reads of this sector have another bit.
    void lie_at(std::uint64_t lba) { lie_at_ = lba; }
    // Sectors from this one on are those from 0 on once more, as on disks that claim to be larger than they are.
    void wrap_at(std::uint64_t lba) { wrap_at_ = lba; }

    [[nodiscard]] unsigned operations() const { return operations_; }
    [[nodiscard]] unsigned writes() const { return writes_; }
    [[nodiscard]] std::uint64_t written() const { return written_; }  // bytes
    [[nodiscard]] const host::Buffer& content() const { return seen_; }

  private:
    static constexpr std::uint64_t kNever = UINT64_MAX;

    [[nodiscard]] bool touches(std::uint64_t sector, std::uint64_t lba, std::size_t size) const {
        return sector >= lba && sector < lba + size / sector_;
    }
    [[noreturn]] void fail(const std::string& what, std::uint64_t lba) const {
        throw host::ToolError(path_ + ": " + what + " at byte " + std::to_string(lba * sector_) +
                              ": Input/output error");
    }
    void count() {
        if (++operations_ == fail_at_) throw host::ToolError(path_ + ": the power fails");
    }
    void put(std::uint64_t lba, Bytes data) {
        for (std::size_t at = 0; at < data.size(); at += sector_) {
            const Bytes sector = data.subspan(at, sector_);
            const std::uint64_t place = (lba + at / sector_) % wrap_at_;
            pending_[place] = host::Buffer(sector.begin(), sector.end());
            copy_bytes(MutableBytes(seen_).subspan(place * sector_), sector);
        }
        count();
    }

    std::string path_ = "/dev/fragile";
    host::Buffer seen_;
    host::Buffer stable_;
    std::size_t sector_;
    std::map<std::uint64_t, host::Buffer> pending_;
    std::uint64_t unwritable_ = kNever;
    std::uint64_t unreadable_ = kNever;
    std::optional<std::uint64_t> lie_at_;
    std::uint64_t wrap_at_ = kNever;
    unsigned operations_ = 0;
    unsigned fail_at_ = 0;
    unsigned writes_ = 0;
    std::uint64_t written_ = 0;
};

}  // namespace gatehouse::flash
