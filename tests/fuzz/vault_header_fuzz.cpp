// A vault header that an attacker wrote. Input: one byte, then changes to a good header: offset (two bytes)
// and value (one byte) each. An even first byte: as they are, nothing may open. An odd one: the MAC is made
// right again, as if the attacker had the KEK, so that what is behind it is reached: what opens must keep the
// rules and serialise again.
#include <cstdlib>

#include "keyvault/volume/format.hpp"
#include "keyvault/volume_writer/header_writer.hpp"

namespace gatehouse::volume {
namespace {

class Counter final : public RandomSource {
  public:
    void fill(MutableBytes out) override {
        for (std::byte& byte : out) byte = static_cast<std::byte>(++next_);
    }

  private:
    unsigned next_ = 0;
};

constexpr std::size_t kSize = 8192;

struct Good {
    Good() {
        Counter random;
        random.fill(kek.bytes());
        random.fill(secret.bytes());
        random.fill(dek.bytes());
        TpmSlot& slot = header.slots.tpm.emplace();
        constexpr std::array<std::byte, 158> kZeros{};
        if (!slot.sealed_public.assign(Bytes(kZeros).first(78), "") || !slot.sealed_private.assign(kZeros, ""))
            std::abort();
        Root root;
        random.fill(root.bytes());
        header.vault_id = vault_id(root);
        header.root = wrap_root(root, kek, header.disk, random);
        header.members[1][0] = std::byte{1};
        header.member_count = 2;
        slot.kek = wrap_kek(kek, SlotKind::kTpm, secret, header, random);
        header.slots.recovery.emplace();
        header.slots.member.emplace();
        header.total_sectors = 100'000;
        header.regions[0] = {0, 1, RegionClass::kReadOnly};
        header.regions[1] = {1, 1, RegionClass::kOverlay};
        header.regions[2] = {2, 1, RegionClass::kOverlay};
        header.regions[3] = {2048, 2048, RegionClass::kHidden};
        header.region_count = 4;
        header.overlay[0].lba = 1;
        header.overlay[1].lba = 2;
        header.overlay_count = 2;
        header.data_key = wrap_dek(dek, 1, kek, header.disk, random).value();
        const auto size = serialise(header, kek, bytes);
        if (!size.ok() || size.value() > kSize) std::abort();
        length = size.value();
    }
    Kek kek;
    SlotSecret secret;
    Dek dek;
    Header header;
    std::array<std::byte, kMaximumHeaderSize> bytes{};
    std::size_t length = 0;
};

void run(Bytes input) {
    static const Good good;
    static std::array<std::byte, kMaximumHeaderSize> copy;
    static std::array<std::byte, kMaximumHeaderSize> again;
    static Header header;
    static Header shown;
    copy = good.bytes;
    Reader reader(input);
    const bool forged = (reader.u8() & 1) != 0;
    while (reader.remaining() >= 3) {
        const std::size_t at = reader.u16() % good.length;
        copy[at] = static_cast<std::byte>(reader.u8());
    }
    const bool changed = copy != good.bytes;
    if (forged) {
        const Bytes covered = Bytes(copy).first(good.length - kMacSize);
        copy_bytes(MutableBytes(copy).subspan(covered.size()), header_mac(covered, good.kek));
    }
    (void)preview(copy, shown);
    (void)select_candidates(copy, good.bytes);
    Keys keys;
    const bool opened = open_header(copy, SlotKind::kTpm, good.secret, nullptr, header, keys).ok();
    if (!forged && opened == changed) std::abort();
    if (!opened) return;
    const auto size = serialise(header, keys.kek, again);
    if (!size.ok() || !equal_bytes(Bytes(again).first(size.value()), Bytes(copy).first(size.value()))) std::abort();
}

}  // namespace
}  // namespace gatehouse::volume

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 0) gatehouse::volume::run(std::as_bytes(std::span(data, size)));
    return 0;
}
