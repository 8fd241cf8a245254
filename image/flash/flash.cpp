#include "image/flash/flash.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "keyvault/host_support/aligned_buffer.hpp"

namespace gatehouse::flash {
namespace {

using host::AlignedBuffer;
using host::ExitCode;
using host::ToolError;

constexpr std::size_t kCleared = std::size_t{1} << 20;  // bytes at either end

// An image of which nothing is read but whole chunks that are as the manifest says.
class VerifiedImage final : public host::BlockDevice {
  public:
    VerifiedImage(const host::BlockDevice& image, const Manifest& manifest)
        : image_(image), manifest_(manifest), content_(manifest.chunk_size) {}

    [[nodiscard]] const std::string& path() const override { return image_.path(); }
    [[nodiscard]] std::size_t sector_size() const override { return image_.sector_size(); }
    // No more than the manifest is of.
    [[nodiscard]] std::uint64_t total_sectors() const override { return manifest_.length / sector_size(); }
    void read(std::uint64_t lba, MutableBytes out) const override {
        std::uint64_t at = lba * sector_size();
        while (!out.empty()) {
            const auto chunk = static_cast<std::size_t>(at / manifest_.chunk_size);
            const Bytes content = held(chunk).subspan(at - manifest_.offset(chunk));
            const std::size_t part = std::min(content.size(), out.size());
            copy_bytes(out, content.first(part));
            out = out.subspan(part);
            at += part;
        }
    }
    void write(std::uint64_t /*lba*/, Bytes /*data*/) override { throw std::logic_error("an image is only read"); }
    void flush() override { throw std::logic_error("an image is only read"); }

  private:
    [[nodiscard]] Bytes held(std::size_t chunk) const {
        const MutableBytes content = MutableBytes(content_).first(manifest_.size(chunk));
        if (chunk_ == chunk) return content;
        chunk_.reset();
        image_.read(manifest_.offset(chunk) / sector_size(), content);
        if (!is_right(manifest_, chunk, content)) {
            throw ToolError(image_.path() + ": was changed meanwhile: not as its manifest says in the " +
                                std::to_string(content.size()) + " bytes from " +
                                std::to_string(manifest_.offset(chunk)),
                            ExitCode::kNo);
        }
        chunk_ = chunk;
        return content;
    }

    const host::BlockDevice& image_;
    const Manifest& manifest_;
    mutable host::Buffer content_;              // of the last chunk
    mutable std::optional<std::size_t> chunk_;  // which one that is
};

class Flashing {
  public:
    Flashing(const host::BlockDevice& image, const Manifest& manifest, Target& target, RandomSource& random,
             const Observer& observer)
        : image_(image, manifest),
          manifest_(manifest),
          target_(target),
          observer_(observer),
          tables_(fit_tables(image_, target.total_sectors(), random)),
          buffer_(manifest.chunk_size) {
        const Stretch& array = tables_.primary_array;
        own_ = {image_part(0, array.first + array.content.size() / sector_size()),
                image_part(tables_.backup_array.first, target.total_sectors())};
        result_.disk = tables_.disk;
    }

    Flashed run(bool resume) {
        clear();
        write_chunks(resume);
        verify();
        put_tables();
        return result_;
    }

  private:
    [[nodiscard]] std::size_t sector_size() const { return target_.sector_size(); }
    [[nodiscard]] std::uint64_t lba_of(std::size_t chunk) const { return manifest_.offset(chunk) / sector_size(); }
    MutableBytes room(std::size_t chunk) { return buffer_.bytes().first(manifest_.size(chunk)); }

    // What the image has in sectors of the disk; nothing behind its end.
    [[nodiscard]] Stretch image_part(std::uint64_t first, std::uint64_t end) const {
        end = std::max(first, std::min(end, image_.total_sectors()));
        return {first, first == end ? host::Buffer{} : image_.read_sectors(first, end - first)};
    }

    // The sectors of a chunk that are the disk's own become zeros, or what the image has there.
    void replace_own(std::size_t chunk, MutableBytes content, bool by_zeros) const {
        const std::uint64_t start = manifest_.offset(chunk);
        for (const Stretch& own : own_) {
            const std::uint64_t at = own.first * sector_size();
            const std::uint64_t first = std::max(start, at);
            const std::uint64_t end = std::min(start + content.size(), at + own.content.size());
            if (first >= end) continue;
            const MutableBytes part = content.subspan(first - start, end - first);
            std::ranges::fill(part, std::byte{0});
            if (!by_zeros) copy_bytes(part, Bytes(own.content).subspan(first - at, part.size()));
        }
    }

    void clear() {
        const std::uint64_t total = target_.total_sectors();
        const std::uint64_t count = std::min<std::uint64_t>(total, kCleared / sector_size());
        observer_(Phase::kClear, 0, 2 * kCleared);
        target_.zero(0, count);
        target_.zero(total - count, count);
        target_.flush();
        observer_(Phase::kClear, 2 * kCleared, 2 * kCleared);
    }

    // Whether the disk has the chunk.
    bool has(std::size_t chunk) {
        const MutableBytes content = room(chunk);
        target_.read(lba_of(chunk), content);
        replace_own(chunk, content, false);
        return is_right(manifest_, chunk, content);
    }

    void write_chunk(std::size_t chunk) {
        const MutableBytes content = room(chunk);
        if (!manifest_.chunks[chunk]) {
            target_.zero(lba_of(chunk), content.size() / sector_size());
            result_.zeroed += content.size();
            return;
        }
        image_.read(lba_of(chunk), content);
        replace_own(chunk, content, true);
        target_.write(lba_of(chunk), content);
        result_.written += content.size();
    }

    void write_chunks(bool resume) {
        const std::uint64_t total = manifest_.mapped_bytes();
        std::uint64_t done = 0;
        observer_(Phase::kWrite, 0, total);
        for (std::size_t chunk = 0; chunk < manifest_.chunks.size(); ++chunk) {
            if (resume && has(chunk)) {
                result_.kept += manifest_.size(chunk);
            } else {
                write_chunk(chunk);
            }
            if (!manifest_.chunks[chunk]) continue;
            done += manifest_.size(chunk);
            if (done < total) observer_(Phase::kWrite, done, total);
        }
        target_.flush();
        observer_(Phase::kWrite, total, total);
    }

    void verify() {
        observer_(Phase::kVerify, 0, manifest_.length);
        for (std::size_t chunk = 0; chunk < manifest_.chunks.size(); ++chunk) {
            if (!has(chunk)) {
                throw ToolError(target_.path() + ": reads back other bytes than were written, in the " +
                                std::to_string(manifest_.size(chunk)) + " bytes from " +
                                std::to_string(manifest_.offset(chunk)) + ": the disk is bad");
            }
            observer_(Phase::kVerify, manifest_.offset(chunk) + manifest_.size(chunk), manifest_.length);
        }
    }

    void put_tables() {
        std::uint64_t total = 0;
        for (const Stretch* const part : tables_.in_order()) total += part->content.size();
        std::uint64_t done = 0;
        observer_(Phase::kTables, 0, total);
        for (const Stretch* const part : tables_.in_order()) {
            target_.write(part->first, part->content);
            target_.flush();
            AlignedBuffer read_back(part->content.size());
            target_.read(part->first, read_back.bytes());
            if (!equal_bytes(read_back.bytes(), part->content)) {
                throw ToolError(target_.path() + ": reads back another partition table than was written, at byte " +
                                std::to_string(part->first * sector_size()) + ": the disk is bad");
            }
            done += part->content.size();
            observer_(Phase::kTables, done, total);
        }
    }

    const VerifiedImage image_;
    const Manifest& manifest_;
    Target& target_;
    const Observer& observer_;
    FittedTables tables_;
    std::array<Stretch, 2> own_;  // with what the image has there
    AlignedBuffer buffer_;
    Flashed result_;
};

}  // namespace

const char* name_of(Phase phase) {
    constexpr const char* kNames[] = {"check", "clear", "write", "verify", "tables"};
    return kNames[static_cast<std::size_t>(phase)];
}

void demand_fit(const host::BlockDevice& disk, const Manifest& manifest) {
    if (disk.sector_size() != manifest.sector_size) {
        throw ToolError(disk.path() + ": refused: its sectors have " + std::to_string(disk.sector_size()) +
                            " bytes, and the image is made for " + std::to_string(manifest.sector_size),
                        ExitCode::kNo);
    }
    const std::uint64_t size = disk.total_sectors() * disk.sector_size();
    if (size < manifest.length) {
        throw ToolError(disk.path() + ": refused: too small: " + std::to_string(size) + " bytes, the image has " +
                            std::to_string(manifest.length),
                        ExitCode::kNo);
    }
}

Flashed flash(const host::BlockDevice& image, const Manifest& manifest, Target& target, bool resume,
              RandomSource& random, const Observer& observer) try {
    demand_fit(target, manifest);
    return Flashing(image, manifest, target, random, observer).run(resume);
} catch (const ToolError& error) {
    const std::string what = error.what();
    const std::string place = what.starts_with(target.path()) ? "" : target.path() + ": ";
    throw ToolError(place + what + " (do not use the disk; --resume goes on)", error.code());
}

}  // namespace gatehouse::flash
