#include "hypervisor/memory/amd_vi.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/hypervisor/msr_model.hpp"
#include "tests/unit/hypervisor/pci_model.hpp"

// What an IOMMU does with what it is told, by the specification (AMD 48882) and not by the code under test.
// QEMU's knows neither the exclusion range nor cached entries, coherence, tunnels or running queues.
namespace gatehouse::memory {
namespace {

constexpr std::uint64_t kKeptBase = 0x40000000;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
constexpr std::uint64_t kAddress = 0x000ffffffffff000;

constexpr std::uint64_t bits(std::uint64_t value, unsigned high, unsigned low) {
    return value >> low & ((std::uint64_t{2} << (high - low)) - 1);
}

// An I/O page table (2.2.3): whether the request passes, and to where. A table's address is a pointer.
std::optional<std::uint64_t> walk(std::uint64_t entry, std::uint64_t address, bool write) {
    auto level = static_cast<unsigned>(bits(entry, 11, 9));
    if (level < 6 && address >> (12 + 9 * level) != 0) return std::nullopt;
    for (;;) {
        if (bits(entry, write ? 62 : 61, write ? 62 : 61) == 0) return std::nullopt;
        const std::uint64_t size = std::uint64_t{1} << (12 + 9 * (level - 1));
        entry = reinterpret_cast<const std::uint64_t*>(entry & kAddress)[address / size % 512];
        if ((entry & 1) == 0) return std::nullopt;
        EXPECT_EQ(bits(entry, 58, 52), 0u) << "reserved bits of an entry for " << std::hex << address;
        const auto next = static_cast<unsigned>(bits(entry, 11, 9));
        if (next == 0) {
            if (bits(entry, write ? 62 : 61, write ? 62 : 61) == 0) return std::nullopt;
            EXPECT_EQ(entry & kAddress & (size - 1), 0u) << "leaf is not aligned";
            return (entry & kAddress) | (address & (size - 1));
        }
        EXPECT_EQ(next, level - 1) << "skips a level";
        level = next;
    }
}

enum class Interrupt : std::uint8_t { kFixed = 0, kArbitrated = 1, kNmi = 4, kInit = 5, kExtInt = 7 };

class IommuModel {
  public:
    explicit IommuModel(MutableBytes kept) : kept_(kept), uncached_(kept.begin(), kept.end()) {
        registers[0x30] = 1u << 6;  // IASup
    }

    std::uint64_t read(std::uint32_t offset) {
        if (offset == 0x2020) {
            if (stopping_ > 0 && --stopping_ == 0) registers[0x2020] = 0;
        }
        return registers[offset] & ~(offset == 0x18 ? control_reads_zero : 0);
    }
    void write(std::uint32_t offset, std::uint64_t value) {
        if (ignored.contains(offset)) return;
        if (offset == 0x2020 || offset == 0x30) return;
        const bool is_base = offset <= 0x10 || (offset >= 0x2000 && offset < 0x2020 && offset != 0x2008);
        if (is_base && registers[0x2020] != 0 && offset != 0x2010) ++written_while_running;
        registers[offset] = value;
        if (offset == 0x18) write_control();
        if (offset == 0x08) registers[0x2000] = registers[0x2008] = 0;
        if (offset == 0x2008 && value == registers[0x2000] && (registers[0x18] & 1) != 0) ++overruns;
        if ((offset == 0x18 || offset == 0x2008) && !lazy) run_commands();
    }
    std::uint64_t microseconds() {
        if (lazy) run_commands();
        return time += 100;
    }

    // Whether a memory request of a device passes; through a HyperTransport tunnel.
    bool access(std::uint16_t device, std::uint64_t address, bool is_write, bool through_tunnel = false) {
        const std::uint64_t control = registers[0x18];
        if ((control & 1) == 0 || (through_tunnel && (control & 2) == 0)) return true;
        if (bits(control, 40, 40) != 0 || bits(control, 36, 34) != 0) return true;  // set up by somebody else
        const std::uint64_t exclusion = registers[0x20];
        if ((exclusion & 3) == 3 && address >= (exclusion & kAddress) && address <= (registers[0x28] | 0xfff)) {
            return true;
        }
        const std::optional<DeviceTableEntry> entry = entry_of(device);
        if (!entry) return false;
        const DeviceTableEntry& words = *entry;
        if ((words[0] & 1) == 0) return true;
        if ((words[0] & 2) == 0) return false;
        const auto domain = static_cast<std::uint16_t>(words[1]);
        if (translations.contains({domain, address & kAddress})) return true;
        if (bits(words[0], 11, 9) == 0) return bits(words[0], is_write ? 62 : 61, is_write ? 62 : 61) != 0;
        const auto to = walk(words[0], address, is_write);
        EXPECT_EQ(to.value_or(address), address) << "not the identity";
        return to.has_value();
    }
    // Whether an interrupt request passes (2.2.5, table 18).
    bool interrupt(std::uint16_t device, Interrupt kind) {
        const std::optional<DeviceTableEntry> entry = entry_of(device);
        if (!entry) return false;
        const std::uint64_t word = (*entry)[2];
        if ((word & 1) == 0) return true;
        switch (kind) {
            case Interrupt::kFixed:
            case Interrupt::kArbitrated: return bits(word, 61, 60) == 1;
            case Interrupt::kInit: return bits(word, 56, 56) != 0;
            case Interrupt::kExtInt: return bits(word, 57, 57) != 0 || bits(word, 62, 62) != 0;
            case Interrupt::kNmi: return bits(word, 58, 58) != 0 || bits(word, 63, 63) != 0;
        }
        return true;
    }
    // Whether a request passes that says it has been translated already, port I/O or a system management
    // message.
    bool other_request(std::uint16_t device) {
        const std::optional<DeviceTableEntry> entry = entry_of(device);
        return entry &&
               (bits((*entry)[1], 32, 32) != 0 || bits((*entry)[1], 36, 35) != 0 || bits((*entry)[1], 41, 40) != 0);
    }
    MutableBytes memory(std::uint64_t physical) { return kept_.subspan(physical - kKeptBase); }

    std::map<std::uint32_t, std::uint64_t> registers;
    std::set<std::uint32_t> ignored;  // registers that do not hold what is written
    std::uint64_t control_reads_zero = 0;
    bool answers = true;
    bool lazy = false;         // runs commands when somebody waits, not before
    unsigned stops_after = 1;  // reads of the status register
    std::uint64_t time = 0;
    unsigned written_while_running = 0, commands = 0, illegal_commands = 0, overruns = 0;
    // Caches. What they hold counts until it is invalidated.
    std::map<std::uint16_t, DeviceTableEntry> entries;
    std::set<std::pair<std::uint16_t, std::uint64_t>> translations;  // domain, address
    std::set<std::uint16_t> directories;                             // domains with cached page directories
    std::function<void()> on_enable;

  private:
    void write_control() {
        const std::uint64_t control = registers[0x18];
        if ((control & 1) != 0) {
            registers[0x2020] = (control & 1u << 2) << 1 | (control & 1u << 12) >> 8;
            stopping_ = 0;
            if (on_enable) on_enable();
        } else if (registers[0x2020] != 0) {
            stopping_ = stops_after;
        }
    }
    std::optional<DeviceTableEntry> entry_of(std::uint16_t device) {
        if (const auto cached = entries.find(device); cached != entries.end()) return cached->second;
        const std::uint64_t base = registers[0x00];
        if (device * 32u >= (bits(base, 8, 0) + 1) * 4096) return std::nullopt;
        const std::uint64_t at = (base & kAddress) - kKeptBase + device * 32u;
        // Without Coherent, what has not left the processors' caches is not seen.
        const Bytes source = bits(registers[0x18], 10, 10) != 0 ? Bytes(kept_) : Bytes(uncached_);
        DeviceTableEntry entry;
        for (std::size_t i = 0; i < 4; ++i) {
            entry[i] = load<std::uint64_t>(source.data() + at + 8 * i, Endian::kLittle);
        }
        return entries[device] = entry;
    }
    void run_commands() {
        while (answers && (registers[0x18] & 0x1001) == 0x1001 && registers[0x2000] != registers[0x2008]) {
            const Bytes at = memory((registers[0x08] & kAddress) + registers[0x2000]);
            run(load<std::uint64_t>(at.data(), Endian::kLittle), load<std::uint64_t>(at.data() + 8, Endian::kLittle));
            registers[0x2000] = (registers[0x2000] + 16) % ((std::uint64_t{16}) << bits(registers[0x08], 59, 56));
            ++commands;
        }
    }
    void run(std::uint64_t low, std::uint64_t high) {
        const auto device = static_cast<std::uint16_t>(low);
        const auto domain = static_cast<std::uint16_t>(low >> 32);
        switch (low >> 60) {
            case 1:  // COMPLETION_WAIT
                if ((low & 1) != 0) store(memory(low & 0x000ffffffffffff8).data(), high, Endian::kLittle);
                if (bits(low, 59, 52) != 0) ++illegal_commands;
                return;
            case 2:  // INVALIDATE_DEVTAB_ENTRY
                entries.erase(device);
                if (bits(low, 59, 16) != 0 || high != 0) ++illegal_commands;
                return;
            case 3:  // INVALIDATE_IOMMU_PAGES
                EXPECT_EQ(high & ~std::uint64_t{3}, 0x7ffffffffffff000u) << "only of everything";
                if ((high & 1) != 0) std::erase_if(translations, [&](const auto& one) { return one.first == domain; });
                if ((high & 2) != 0) directories.erase(domain);
                if (bits(low, 59, 48) != 0 || bits(low, 31, 20) != 0) ++illegal_commands;
                return;
            case 5:  // INVALIDATE_INTERRUPT_TABLE
                if (bits(low, 59, 16) != 0 || high != 0) ++illegal_commands;
                return;
            case 8:  // INVALIDATE_IOMMU_ALL
                if ((registers[0x30] & 1u << 6) == 0 || bits(low, 59, 0) != 0 || high != 0) ++illegal_commands;
                entries.clear();
                translations.clear();
                directories.clear();
                return;
            default: ++illegal_commands;
        }
    }

    MutableBytes kept_;
    std::vector<std::byte> uncached_;  // as memory was before the code under test wrote
    unsigned stopping_ = 0;
};

std::map<std::uint64_t, IommuModel*> models;

}  // namespace

// As registers.cpp is on the machine.
std::uint64_t IommuRegisters::read(Register reg) const { return models.at(base_.value())->read(reg.offset); }
void IommuRegisters::write(Register reg, std::uint64_t value) const {
    models.at(base_.value())->write(reg.offset, value);
}
std::uint64_t IommuRegisters::microseconds() const { return models.at(base_.value())->microseconds(); }

namespace {

class AmdViTest : public testing::Test {
  protected:
    AmdViTest() {
        std::mt19937 random(1);
        for (std::size_t i = 0; i < kept.size(); i += 509) kept[i] = static_cast<std::byte>(random());
        pci.add(0x0000, 0x29c08086);
        EXPECT_TRUE(ram.read().ok());
    }
    ~AmdViTest() override { models.clear(); }

    // A unit in a function, with its registers at `base`.
    IommuModel& add_unit(platform::FunctionId function, std::uint64_t base, std::uint32_t header = 0x18030000) {
        pci.add(function, 0x14191022, 0x40);
        pci.put(function, 0x08, 4, 0x08060000);
        pci.put(function, 0x40, 4, header | 0x000f);
        pci.put(function, 0x44, 4, static_cast<std::uint32_t>(base));
        pci.put(function, 0x48, 4, static_cast<std::uint32_t>(base >> 32));
        units.push_back(std::make_unique<IommuModel>(kept));
        models[base] = units.back().get();
        return *units.back();
    }
    Result<std::uint32_t> block() { return block_dma(kept, HostPhysical(kKeptBase), ram); }
    IommuUnit unit_of(std::uint64_t registers) {
        return IommuUnit(HostPhysical(registers), MutableBytes(kept).subspan(kIommuQueuesOffset, kIommuQueuesSize),
                         HostPhysical(kKeptBase + kIommuQueuesOffset));
    }
    static constexpr HostPhysical kTable{kKeptBase + launch::kDeviceTableOffset};

    MsrModel msrs{kKeptBase + launch::kKeptSize};
    Ram ram;
    std::vector<std::byte> kept = std::vector<std::byte>(launch::kKeptSize);
    platform::PciModel pci;
    std::vector<std::unique_ptr<IommuModel>> units;
};

constexpr std::uint16_t kDevices[] = {0x0000, 0x0001, 0x00fa, 0x0100, 0x7fff, 0x8000, 0xffff};
constexpr std::uint64_t kAddresses[] = {0,           0x1000,    kKeptBase,     kKeptBase + launch::kImageOffset,
                                        0xffff'f000, 64 * kGiB, 0xfd'f910'0000};

void expect_blocked(IommuModel& unit) {
    for (const std::uint16_t device : kDevices) {
        for (const std::uint64_t address : kAddresses) {
            EXPECT_FALSE(unit.access(device, address, false)) << std::hex << device << " reads " << address;
            EXPECT_FALSE(unit.access(device, address, true)) << std::hex << device << " writes " << address;
        }
        EXPECT_TRUE(unit.interrupt(device, Interrupt::kFixed));
        EXPECT_TRUE(unit.interrupt(device, Interrupt::kArbitrated));
        EXPECT_FALSE(unit.interrupt(device, Interrupt::kNmi));
        EXPECT_FALSE(unit.interrupt(device, Interrupt::kInit));
        EXPECT_FALSE(unit.interrupt(device, Interrupt::kExtInt));
        EXPECT_FALSE(unit.other_request(device));
    }
    EXPECT_EQ(unit.illegal_commands, 0u);
    EXPECT_EQ(unit.written_while_running, 0u);
}

TEST_F(AmdViTest, BlocksEveryDeviceOnEveryUnit) {
    add_unit(0x0002, 0xfeb80000);
    add_unit(0x2002, 0xfd200000);
    EXPECT_TRUE(units[0]->access(0x10, 0x1000, true)) << "the model lets everything pass at first";
    const auto count = block();
    ASSERT_TRUE(count.ok()) << count.failure().item;
    EXPECT_EQ(*count, 2u);
    for (const auto& unit : units) expect_blocked(*unit);
}

TEST_F(AmdViTest, BlocksWhateverThePredecessorHasPrepared) {
    IommuModel& unit = add_unit(0x0002, 0xfeb80000);
    unit.registers[0x00] = kKeptBase | 0x1ff;        // a table of its own
    unit.registers[0x18] = 0x1'1c01'9005;            // running, with guest translation, page requests, segments
    unit.registers[0x18] |= std::uint64_t{1} << 40;  // and apertures
    unit.registers[0x20] = 3;                        // everything is excluded for all devices
    unit.registers[0x28] = 0x000ffffffffff000;
    unit.registers[0x2020] = 0x18;
    unit.registers[0x2008] = 0x40;
    unit.stops_after = 5;
    for (const std::uint16_t device : kDevices) unit.entries[device] = {3 | 3ull << 61, 0, 1 | 7ull << 56, 0};
    unit.translations = {{0, 0x1000}, {0, kKeptBase}};
    EXPECT_TRUE(unit.access(0x10, 0x1000, true));
    ASSERT_TRUE(block().ok());
    expect_blocked(unit);
}

TEST_F(AmdViTest, RefusesAUnitWithoutInvalidateAll) {
    IommuModel& unit = add_unit(0x0002, 0xfeb80000);
    unit.registers[0x30] = 0;
    EXPECT_EQ(block().error(), Error::kUnsupported);
    EXPECT_EQ(unit.illegal_commands, 0u);
}

TEST_F(AmdViTest, TranslatesWhatArrivesThroughATunnel) {
    IommuModel& with = add_unit(0x0002, 0xfeb80000, 0x02030000);
    IommuModel& without = add_unit(0x2002, 0xfd200000);
    ASSERT_TRUE(block().ok());
    EXPECT_FALSE(with.access(0x10, 0x1000, true, true));
    EXPECT_EQ(without.registers[0x18] & 2, 0u) << "reserved there";
}

TEST_F(AmdViTest, LeavesTheFirmwaresSmiFilterOn) {
    IommuModel& with = add_unit(0x0002, 0xfeb80000);
    IommuModel& without = add_unit(0x2002, 0xfd200000);
    with.registers[0x18] = 1u << 22 | 1;
    with.registers[0x2020] = 0x18;
    ASSERT_TRUE(block().ok());
    EXPECT_NE(with.registers[0x18] & 1u << 22, 0u);
    EXPECT_EQ(without.registers[0x18] & 1u << 22, 0u);
}

TEST_F(AmdViTest, AMachineWithoutUnitsHasNone) {
    const auto count = block();
    ASSERT_TRUE(count.ok());
    EXPECT_EQ(*count, 0u);
}

TEST_F(AmdViTest, RefusesAUnitThatDoesNotAnswer) {
    IommuModel& unit = add_unit(0x0002, 0xfeb80000);
    unit.answers = false;
    EXPECT_EQ(block().error(), Error::kTimeout);
    EXPECT_LT(unit.time, 10'000'000u);
}

TEST_F(AmdViTest, RefusesAUnitThatDoesNotStop) {
    IommuModel& unit = add_unit(0x0002, 0xfeb80000);
    unit.registers[0x2020] = 0x18;
    unit.stops_after = 1'000'000'000;
    EXPECT_EQ(block().error(), Error::kTimeout);
    EXPECT_EQ(unit.written_while_running, 0u);
}

TEST_F(AmdViTest, RefusesRegistersThatDoNotHold) {
    for (const std::uint32_t offset : {0x00u, 0x08u, 0x18u}) {
        IommuModel& unit = add_unit(0x0002, 0xfeb80000);
        unit.ignored = {offset};
        EXPECT_EQ(block().error(), Error::kMismatch) << std::hex << offset;
    }
    IommuModel& excluded = add_unit(0x0002, 0xfeb80000);
    excluded.registers[0x20] = 3;
    excluded.ignored = {0x20};
    EXPECT_EQ(block().error(), Error::kMismatch);
}

TEST_F(AmdViTest, RefusesControlBitsThatDoNotHold) {
    for (const unsigned bit : {0u, 1u, 10u, 12u}) {
        IommuModel& unit = add_unit(0x0002, 0xfeb80000, 0x02030000);
        unit.control_reads_zero = 1u << bit;
        EXPECT_EQ(block().error(), Error::kMismatch) << bit;
    }
}

TEST_F(AmdViTest, RefusesATableThatADeviceHasChanged) {
    IommuModel& unit = add_unit(0x0002, 0xfeb80000);
    unit.on_enable = [&] { kept[launch::kDeviceTableOffset + 0x1234 * kDeviceTableEntry] = std::byte{0}; };
    EXPECT_EQ(block().error(), Error::kMismatch);
}

TEST_F(AmdViTest, FindsUnitsBehindAClearedMultiFunctionBit) {
    add_unit(0x0002, 0xfeb80000);  // 00:00.0 says it is alone
    add_unit(0x4307, 0xfd200000);  // 43:00.0 does not exist
    const auto list = find_iommus(ram);
    ASSERT_TRUE(list.ok());
    ASSERT_EQ(list->count, 2u);
    EXPECT_EQ(list->places[0].function, 0x0002);
    EXPECT_EQ(list->places[0].registers, 0xfeb80000u);
    EXPECT_EQ(list->places[1].function, 0x4307);
    EXPECT_EQ(pci.get(0x0002, 0x44, 4), 0xfeb80001u) << "the address is not locked";
}

TEST_F(AmdViTest, OtherSecureDevicesAreNotUnits) {
    add_unit(0x00c3, 0xfeb80000, 0x00000000);  // a device exclusion vector
    const auto list = find_iommus(ram);
    ASSERT_TRUE(list.ok());
    EXPECT_EQ(list->count, 0u);
}

TEST_F(AmdViTest, RefusesRegistersWhereTheyCannotBe) {
    struct Row {
        std::uint64_t base;
        Error error;
    };
    for (const auto& [base, error] :
         {Row{0, Error::kUnsupported}, Row{0x1'0000'0000, Error::kOutOfRange}, Row{0xffff'c000, Error::kNone},
          Row{0xff'ffff'ffff'c000, Error::kOutOfRange}, Row{kKeptBase, Error::kOutOfRange},
          Row{kKeptBase - 0x4000, Error::kOutOfRange}, Row{kKeptBase + launch::kKeptSize - 0x4000, Error::kOutOfRange},
          Row{kKeptBase + launch::kKeptSize, Error::kNone}}) {
        add_unit(0x0002, base);
        EXPECT_EQ(find_iommus(ram).error(), error) << std::hex << base;
    }
}

TEST_F(AmdViTest, AFunctionThatOnlyClaimsTheCapabilityIsNoUnit) {
    add_unit(0x0002, 0xfeb80000);
    add_unit(0x0080, 0xfd000000);
    pci.put(0x0080, 0x08, 4, 0x02000000);  // a network card
    const auto list = find_iommus(ram);
    ASSERT_TRUE(list.ok());
    ASSERT_EQ(list->count, 1u);
    EXPECT_EQ(list->places[0].function, 0x0002);
    EXPECT_EQ(pci.get(0x0080, 0x44, 4), 0xfd000000u) << "and is left alone";
}

// Either a function says all the right things, or the launcher has numbered a bridge so that it hides a true unit.
TEST_F(AmdViTest, RefusesAUnitBehindABridge) {
    add_unit(0x0002, 0xfeb80000);
    add_unit(0x0100, 0xfd100000);
    pci.add(0x0018, 0x00011b36);
    pci.put(0x0018, 0x0e, 1, 1);
    pci.put(0x0018, 0x18, 4, 0x00020100);  // buses 1 to 2
    pci.put(0x0018, 0x08, 4, 0x06040000);
    EXPECT_EQ(find_iommus(ram).error(), Error::kRefused);
}

TEST_F(AmdViTest, RefusesTwoUnitsWithTheSameRegisters) {
    add_unit(0x0002, 0xfeb80000);
    add_unit(0x2002, 0xfeb80000);
    EXPECT_EQ(find_iommus(ram).error(), Error::kOverlap);
}

TEST_F(AmdViTest, RefusesMoreUnitsThanItControls) {
    for (std::uint32_t i = 0; i < kMaxIommus; ++i) {
        add_unit(static_cast<platform::FunctionId>(0x0002 + 0x800 * i), 0xfd000000 + 0x4000 * i);
    }
    EXPECT_EQ(find_iommus(ram)->count, kMaxIommus);
    add_unit(0xfff2, 0xfe000000);
    EXPECT_EQ(find_iommus(ram).error(), Error::kNoSpace);
}

TEST_F(AmdViTest, NextStageContinuesWhereTheLastOneStopped) {
    IommuModel& model = add_unit(0x0002, 0xfeb80000);
    ASSERT_TRUE(block().ok());
    for (int i = 0; i < 300; ++i) {  // more than the queue is long
        IommuUnit unit = unit_of(0xfeb80000);
        ASSERT_TRUE(unit.adopt(kTable).ok());
        model.translations = {{2, 0x1000}};
        ASSERT_TRUE(unit.invalidate_all().ok());
        EXPECT_TRUE(model.translations.empty());
    }
    EXPECT_EQ(model.illegal_commands, 0u);
}

TEST_F(AmdViTest, NextStageTakesNoOldAnswer) {
    IommuModel& model = add_unit(0x0002, 0xfeb80000);
    ASSERT_TRUE(block().ok());
    model.answers = false;
    IommuUnit unit = unit_of(0xfeb80000);
    ASSERT_TRUE(unit.adopt(kTable).ok());
    EXPECT_EQ(unit.invalidate_all().error(), Error::kTimeout);
}

TEST_F(AmdViTest, NextStageRefusesAUnitThatHasChanged) {
    IommuModel& model = add_unit(0x0002, 0xfeb80000);
    const std::pair<std::uint32_t, std::uint64_t> changes[] = {{0x00, 0x1000},
                                                               {0x00, 1},
                                                               {0x08, 0x1000},
                                                               {0x18, 1},
                                                               {0x18, 1u << 10},
                                                               {0x18, 1u << 12},
                                                               {0x18, 1u << 15},
                                                               {0x18, 1u << 16},
                                                               {0x18, std::uint64_t{1} << 34},
                                                               {0x18, std::uint64_t{1} << 40},
                                                               {0x20, 1},
                                                               {0x20, 2}};
    for (const auto& [offset, change] : changes) {
        ASSERT_TRUE(block().ok());
        ASSERT_TRUE(unit_of(0xfeb80000).adopt(kTable).ok());
        model.registers[offset] ^= change;
        EXPECT_EQ(unit_of(0xfeb80000).adopt(kTable).error(), Error::kMismatch) << std::hex << offset << " " << change;
        model.registers[offset] ^= change;
    }
}

// --- I/O page tables -------------------------------------------------------------------------------------

class DmaMapTest : public testing::Test {
  protected:
    static constexpr std::size_t kPages = 64;
    DmaMapTest()
        : memory(static_cast<std::byte*>(std::aligned_alloc(kPageSize, kPages * kPageSize)), std::free),
          pool(HostPhysical(reinterpret_cast<std::uint64_t>(memory.get())), kPages * kPageSize) {
        EXPECT_TRUE(map.create(pool).ok());
    }
    [[nodiscard]] bool reaches(std::uint64_t address) const {
        const std::uint64_t entry = device_table_entry({1, map.root()})[0];
        const auto read = walk(entry, address, false);
        const auto write = walk(entry, address, true);
        EXPECT_EQ(read, write);
        EXPECT_EQ(read.value_or(address), address) << "not the identity";
        return read.has_value();
    }
    [[nodiscard]] std::uint64_t pages_used() const { return kPages - pool.left() / kPageSize; }

    std::unique_ptr<std::byte, void (*)(void*)> memory;
    PagePool pool;
    DmaMap map;
};

TEST_F(DmaMapTest, ReachesNothingAtFirst) {
    for (const std::uint64_t address : kAddresses) EXPECT_FALSE(reaches(address));
}

TEST_F(DmaMapTest, ReachesAGuestsMemoryAndNoMore) {
    // A machine with 16 GiB: conventional memory, RAM below 3 GiB around the kept region, RAM above 4 GiB.
    constexpr std::uint64_t kLowEnd = 3 * kGiB - 0x20000, kHighEnd = 17 * kGiB + 0x12345000;
    const std::pair<std::uint64_t, std::uint64_t> ranges[] = {
        {0, 0x9f000}, {0x100000, kKeptBase}, {kKeptBase + launch::kKeptSize, kLowEnd}, {4 * kGiB, kHighEnd}};
    for (const auto& [from, end] : ranges) ASSERT_TRUE(map.allow({from, end - from}).ok());
    EXPECT_FALSE(reaches(0)) << "where a controller's pointers lead after a reset";
    for (const auto& [from, end] : ranges) {
        EXPECT_TRUE(reaches(std::max(from, kPageSize)));
        EXPECT_TRUE(reaches(end - 1));
        EXPECT_FALSE(reaches(end));
        if (from != 0) {
            EXPECT_FALSE(reaches(from - 1));
        }
        for (std::uint64_t at = from + kPageSize; at < end; at += 0x3fff123) EXPECT_TRUE(reaches(at)) << std::hex << at;
    }
    for (std::uint64_t at = 0; at < launch::kKeptSize; at += kPageSize) EXPECT_FALSE(reaches(kKeptBase + at));
    EXPECT_FALSE(reaches(0xfd'f910'0000));
    EXPECT_FALSE(reaches(std::uint64_t{1} << 48)) << "beyond four levels";
    EXPECT_LE(pages_used(), 16u) << "64 KiB of tables are enough for a typical machine";
}

TEST_F(DmaMapTest, ReachesTheLastPageAndRefusesWhatIsBeyond) {
    EXPECT_TRUE(map.allow({kIdentityLimit - kPageSize, kPageSize}).ok());
    EXPECT_TRUE(reaches(kIdentityLimit - 1));
    EXPECT_EQ(map.allow({kIdentityLimit, kPageSize}).error(), Error::kOutOfRange);
    EXPECT_EQ(map.allow({kIdentityLimit - kPageSize, 2 * kPageSize}).error(), Error::kOutOfRange);
    EXPECT_EQ(map.allow({0xffff'ffff'ffff'f000, kPageSize}).error(), Error::kOutOfRange);
    EXPECT_EQ(map.allow({0x1000, 0xffff'ffff'ffff'f000}).error(), Error::kOutOfRange);
    EXPECT_TRUE(map.allow({0x1000, 0}).ok());
    EXPECT_FALSE(reaches(0x1000));
}

TEST_F(DmaMapTest, LeavesOutWhatIsNotAWholePage) {
    EXPECT_TRUE(map.allow({0x1800, 0x2000}).ok());
    EXPECT_FALSE(reaches(0x1fff));
    EXPECT_TRUE(reaches(0x2000) && reaches(0x2fff));
    EXPECT_FALSE(reaches(0x3000));
    EXPECT_TRUE(map.allow({0x5100, 0x800}).ok());
    EXPECT_FALSE(reaches(0x5100));
}

TEST_F(DmaMapTest, RefusesWhatIsAllowedAlready) {
    ASSERT_TRUE(map.allow({kGiB, kGiB}).ok());
    ASSERT_TRUE(map.allow({4 * kGiB + kPageSize, kPageSize}).ok());
    EXPECT_EQ(map.allow({kGiB + kPageSize, kPageSize}).error(), Error::kOverlap);
    EXPECT_EQ(map.allow({kGiB, kGiB}).error(), Error::kOverlap);
    EXPECT_EQ(map.allow({4 * kGiB, kGiB}).error(), Error::kOverlap);
    EXPECT_EQ(map.allow({4 * kGiB + kPageSize, kPageSize}).error(), Error::kOverlap);
}

TEST_F(DmaMapTest, TakesTheRightToWriteFromPagesOfAnyLeaf) {
    const auto writes = [&](std::uint64_t address) {
        const std::uint64_t entry = device_table_entry({1, map.root()})[0];
        EXPECT_EQ(walk(entry, address, false).value_or(0), address) << "it is still read";
        return walk(entry, address, true).has_value();
    };
    constexpr std::uint64_t kFirst = 5 * kGiB, kTables = kFirst + 0x2000, kEnd = kTables + 0x20000;
    ASSERT_TRUE(map.allow({kFirst, kGiB}).ok());
    ASSERT_TRUE(map.allow({kPageSize, kPageSize}).ok());
    ASSERT_TRUE(map.forbid_writes({kTables, kEnd - kTables}).ok());
    ASSERT_TRUE(map.forbid_writes({kPageSize, kPageSize}).ok());
    for (const std::uint64_t address : {kFirst, kTables - 1, kEnd, kFirst + 0x200000, kFirst + kGiB - 1}) {
        EXPECT_TRUE(writes(address)) << std::hex << address;
    }
    for (const std::uint64_t address : {kTables, kEnd - 1, kPageSize})
        EXPECT_FALSE(writes(address)) << std::hex << address;
    EXPECT_EQ(map.forbid_writes({0x5000, kPageSize}).error(), Error::kOutOfRange);
    EXPECT_EQ(map.allow({kTables, kPageSize}).error(), Error::kOverlap);
}

TEST_F(DmaMapTest, SaysWhenThereIsNoRoom) {
    std::uint64_t at = 0;
    Status status;
    for (; status.ok() && at < 100 * kGiB; at += kGiB) status = map.allow({at + kPageSize, kPageSize});
    EXPECT_EQ(status.error(), Error::kNoSpace);
    EXPECT_EQ(pool.left(), 0u);
}

TEST_F(DmaMapTest, HoldsForRandomRanges) {
    std::mt19937_64 random(11);
    std::map<std::uint64_t, std::uint64_t> allowed;  // base, end; all within 8 MiB, around a 2 MiB boundary
    constexpr std::uint64_t kFrom = kGiB - 0x400000, kPagesHere = 2048;
    std::vector<bool> expected(kPagesHere);
    for (int round = 0; round < 200; ++round) {
        const std::uint64_t first = random() % kPagesHere;
        const std::uint64_t count = 1 + random() % std::min<std::uint64_t>(kPagesHere - first, 700);
        const auto begin = expected.begin() + static_cast<std::ptrdiff_t>(first);
        const auto end = begin + static_cast<std::ptrdiff_t>(count);
        if (std::find(begin, end, true) != end) continue;
        ASSERT_TRUE(map.allow({kFrom + first * kPageSize, count * kPageSize}).ok());
        std::fill(begin, end, true);
    }
    for (std::uint64_t i = 0; i < kPagesHere; ++i) EXPECT_EQ(reaches(kFrom + i * kPageSize), expected[i]) << i;
}

TEST(DeviceTableEntryTest, HasNoReservedBits) {
    const DeviceTableEntry entry = device_table_entry({3, HostPhysical(0x12345000)});
    EXPECT_EQ(entry[0] & (0x7cull | 1ull << 63), 0u);
    EXPECT_EQ(entry[2] & (0xfull << 52 | 1ull << 59), 0u);
    EXPECT_EQ(entry[0] & 3, 3u) << "valid, and so is its translation";
    EXPECT_EQ(entry[1], 3u);
    EXPECT_EQ(entry[3], 0u);
    EXPECT_EQ(bits(entry[0], 11, 9), 4u);
    EXPECT_EQ(entry[0] & kAddress, 0x12345000u);
}

}  // namespace
}  // namespace gatehouse::memory
