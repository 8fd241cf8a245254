#include "keyvault/volume/journal.hpp"

#include <string_view>

#include "keyvault/volume/wrap.hpp"

namespace gatehouse::volume {
namespace {

constexpr std::size_t kFirstAt = 8, kCountAt = 16;
constexpr std::size_t kMacAt = 24;
constexpr std::size_t kBeforeAt = kMacAt + kSha256Size;
constexpr std::size_t kBeforeSize = 24;

Bytes magic() { return literal_bytes("GHJOURN2"); }
Bytes magic_before() { return literal_bytes("GHJOURN1"); }
bool has_before(Bytes area) { return equal_bytes(area.first(magic().size()), magic()); }

}  // namespace

Journal::Journal(const Kek& kek, std::uint32_t epoch) {
    constexpr std::string_view kLabel = "gatehouse vault v2: journal";
    std::array<std::byte, kLabel.size() + sizeof(epoch)> label{};
    copy_bytes(label, std::as_bytes(std::span(kLabel)));
    store(label.data() + kLabel.size(), epoch, Endian::kLittle);
    const WrappingKey key = derive_key(kek.bytes(), Bytes(label).first(epoch == 1 ? kLabel.size() : label.size()));
    br_hmac_key_init(&key_, &br_sha256_vtable, key.bytes().data(), key.bytes().size());
}

Sha256Digest Journal::hmac(std::initializer_list<Bytes> parts) const {
    br_hmac_context context;
    br_hmac_init(&context, &key_, 0);
    for (const Bytes part : parts) br_hmac_update(&context, part.data(), part.size());
    Sha256Digest digest;
    br_hmac_out(&context, digest.data());
    return digest;
}

Sha256Digest Journal::whole_hmac(Bytes area, Bytes macs) const {
    return hmac({area.first(kMacAt), area.subspan(kBeforeAt, has_before(area) ? kBeforeSize : 0), macs});
}

Journal::SectorMac Journal::mac(std::uint64_t lba, Bytes ciphertext) const {
    std::array<std::byte, sizeof(lba)> number{};
    store(number.data(), lba, Endian::kLittle);
    SectorMac mac{};
    copy_bytes(mac, Bytes(hmac({number, ciphertext})).first(mac.size()));
    return mac;
}

Result<std::size_t> Journal::write(std::uint64_t first, Bytes ciphertext, std::size_t sector_size, const Before& before,
                                   MutableBytes out) const {
    if (ciphertext.size() % sector_size != 0 || ciphertext.size() > kWindowSize) {
        return {Error::kBadLength, "journal: window", ciphertext.size()};
    }
    const std::size_t count = ciphertext.size() / sector_size;
    Writer writer(out);
    writer.bytes(magic());
    writer.u64(first);
    writer.u64(count);
    writer.zeros(kSha256Size);
    writer.bytes(before.first);
    writer.u64(before.next);
    writer.bytes(before.next_mac);
    writer.zeros(kJournalHeadSize - writer.offset());
    for (std::size_t i = 0; i < count; ++i) {
        writer.bytes(mac(first + i, ciphertext.subspan(i * sector_size, sector_size)));
    }
    writer.zeros(-writer.offset() % kHeaderAlignment);
    GATEHOUSE_TRY(writer.status("journal"));
    copy_bytes(out.subspan(kMacAt), whole_hmac(out, out.subspan(kJournalHeadSize, count * kSectorMacSize)));
    return writer.offset();
}

Result<Bytes> Journal::read(std::uint64_t first, std::uint64_t count, Bytes area) const {
    Reader reader(area);
    const Bytes found_magic = reader.bytes(8);
    const std::uint64_t found_first = reader.u64();
    const std::uint64_t found_count = reader.u64();
    const Bytes authentic = reader.bytes(kSha256Size);
    reader.skip(kJournalHeadSize - kMacAt - kSha256Size);
    if (found_count > reader.remaining() / kSectorMacSize) return {Error::kBadLength, "journal", found_count};
    const Bytes macs = reader.bytes(found_count * kSectorMacSize);
    const bool known = equal_bytes(found_magic, magic()) || equal_bytes(found_magic, magic_before());
    if (!known || found_first != first || found_count != count || !equal_secret(authentic, whole_hmac(area, macs))) {
        return {Error::kBadMac, "journal: not that of the window"};
    }
    return macs;
}

std::optional<Journal::Before> Journal::before(Bytes area) {
    if (!has_before(area)) return std::nullopt;
    Reader reader(area.subspan(kBeforeAt, kBeforeSize));
    Before before;
    reader.copy(before.first);
    before.next = reader.u64();
    reader.copy(before.next_mac);
    return before;
}

Result<Extent> Journal::window(Bytes area) const {
    if (area.size() < kJournalHeadSize) return {Error::kBadLength, "journal", area.size()};
    const Extent found{load<std::uint64_t>(area.data() + kFirstAt, Endian::kLittle),
                       load<std::uint64_t>(area.data() + kCountAt, Endian::kLittle)};
    GATEHOUSE_TRY(read(found.base, found.length, area));
    return found;
}

}  // namespace gatehouse::volume
