#include "keyvault/tool/vault_wipe.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "hypervisor/base/hash.hpp"
#include "keyvault/tool/uncached_reader.hpp"
#include "keyvault/tool/vault_maker.hpp"

namespace gatehouse::host {
namespace {

constexpr std::size_t kChunk = 64 * 1024;  // bytes; as much as a RandomSource gives at once

class Wiper {
  public:
    Wiper(BlockDevice& disk, const volume::GptEntry& vault, const ReadBack& read_back)
        : disk_(disk), vault_(vault), read_back_(read_back) {}

    using Fill = std::function<void(MutableBytes)>;

    // `count` sectors from `first` of the partition, or those of them that there are.
    void overwrite(std::uint64_t first, std::uint64_t count, const Fill& fill) {
        const std::uint64_t end = std::min(first + count, vault_.count());
        Buffer chunk(kChunk);
        for (std::uint64_t at = first; at < end; at += sectors_of_a_chunk()) {
            const std::uint64_t part = std::min(sectors_of_a_chunk(), end - at);
            const MutableBytes content = MutableBytes(chunk).first(part * disk_.sector_size());
            fill(content);
            put(vault_.first + at, content);
            written_[at] = sha256(content);
        }
    }
    // All of the partition; what comes back is compared.
    void pass(const Fill& fill) {
        written_.clear();
        overwrite(0, vault_.count(), fill);
        disk_.flush();
        Buffer chunk(kChunk);
        for (const auto& [at, digest] : written_) {
            const std::uint64_t part = std::min(sectors_of_a_chunk(), vault_.count() - at);
            const MutableBytes content = MutableBytes(chunk).first(part * disk_.sector_size());
            read_back_(vault_.first + at, content);
            if (sha256(content) != digest) wrong_.insert(at);
        }
    }
    void report() const {
        if (!unwritten_.empty()) {
            throw ToolError(disk_.path() + ": " + std::to_string(unwritten_.size()) +
                            " sectors of the vault cannot be written, the first of them " +
                            std::to_string(*unwritten_.begin()) +
                            ": what they held is still there; destroy the medium");
        }
        if (!wrong_.empty()) {
            throw ToolError(disk_.path() + ": what was written to the vault does not come back, first at sector " +
                            std::to_string(vault_.first + *wrong_.begin()) + ": destroy the medium");
        }
    }

  private:
    [[nodiscard]] std::uint64_t sectors_of_a_chunk() const { return kChunk / disk_.sector_size(); }
    // A sector that fails costs no other one.
    void put(std::uint64_t lba, Bytes content) {
        const std::size_t size = disk_.sector_size();
        try {
            disk_.write(lba, content);
            unwritten_.erase(unwritten_.lower_bound(lba), unwritten_.lower_bound(lba + content.size() / size));
            return;
        } catch (const ToolError&) {}
        for (std::size_t at = 0; at < content.size(); at += size) {
            try {
                disk_.write(lba + at / size, content.subspan(at, size));
                unwritten_.erase(lba + at / size);
            } catch (const ToolError&) {
                unwritten_.insert(lba + at / size);
            }
        }
    }

    BlockDevice& disk_;
    volume::GptEntry vault_;
    const ReadBack& read_back_;
    std::map<std::uint64_t, Sha256Digest> written_;  // of chunks, by their first sector in the partition
    std::set<std::uint64_t> unwritten_;              // LBAs
    std::set<std::uint64_t> wrong_;                  // chunks
};

}  // namespace

void wipe_vault(BlockDevice& disk, const volume::GptEntry& vault, RandomSource& random, const ReadBack& read_back) {
    Wiper wiper(disk, vault, read_back);
    const Wiper::Fill noise = [&](MutableBytes out) { random.fill(out); };
    for (const std::uint64_t count : {std::uint64_t{1}, volume::kMaximumHeaderSize / disk.sector_size()}) {
        for (const std::uint64_t offset : volume::kCopyOffset)
            wiper.overwrite(offset / disk.sector_size(), count, noise);
        disk.flush();
    }
    wiper.pass(noise);
    wiper.pass([](MutableBytes out) { std::ranges::fill(out, std::byte{0}); });
    wiper.report();
}

nlohmann::json wipe_vault(Disk& disk, const volume::GptEntry& vault) {
    Secret<32> seed;
    SystemRandom().fill(seed.bytes());
    Random random;
    random.seed(seed.bytes());
    UncachedReader reader(disk);
    wipe_vault(disk, vault, random, [&](std::uint64_t lba, MutableBytes out) { reader.read(lba, out); });
    return {{"partition", {{"first", vault.first}, {"sectors", vault.count()}}},
            {"bytes_overwritten", vault.count() * disk.sector_size()},
            {"passes", {"random", "zeros"}},
            {"read_back", reader.method()}};
}

}  // namespace gatehouse::host
