#include "hypervisor/platform/pci.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "hypervisor/platform/chipset.hpp"
#include "tests/unit/hypervisor/pci_model.hpp"

namespace gatehouse::platform {

std::uint32_t read_config(FunctionId function, std::uint16_t offset, unsigned size) {
    return PciModel::current().get(function, offset, size);
}
void write_config(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) {
    PciModel::current().write(function, offset, size, value);
}
std::uint8_t read_fch(std::uint8_t index) { return PciModel::current().fch.at(index); }

namespace {

constexpr std::uint32_t kSomeDevice = 0x10001022;

std::vector<FunctionId> all_functions() {
    std::vector<FunctionId> found;
    for_each_function([&](FunctionId function) { found.push_back(function); });
    return found;
}

TEST(PciTest, VisitsEveryBusWithoutAskingBridges) {
    PciModel pci;
    const std::vector<FunctionId> there{0x0000, 0x00f8, 0x4308, 0xfff8};
    for (const FunctionId function : there) pci.add(function, kSomeDevice);
    EXPECT_EQ(all_functions(), there);
}

TEST(PciTest, VisitsOtherFunctionsOfMultiFunctionDevicesOnly) {
    PciModel pci;
    for (const FunctionId function : std::vector<FunctionId>{0x0010, 0x0011, 0x0017, 0x0020, 0x0021}) {
        pci.add(function, kSomeDevice);
    }
    pci.put(0x0010, 0x0e, 1, 0x80);
    EXPECT_EQ(all_functions(), (std::vector<FunctionId>{0x0010, 0x0011, 0x0017, 0x0020}));
}

TEST(PciTest, FindsACapabilityInTheList) {
    PciModel pci;
    pci.add(0x10, kSomeDevice, 0x50);
    pci.put(0x10, 0x50, 2, 0x6005);
    pci.put(0x10, 0x60, 2, 0xfc10);
    pci.put(0x10, 0xfc, 2, 0x000f);
    EXPECT_EQ(find_capability(0x10, 0x05), 0x50);
    EXPECT_EQ(find_capability(0x10, 0x10), 0x60);
    EXPECT_EQ(find_capability(0x10, 0x0f), 0xfc);
    EXPECT_EQ(find_capability(0x10, 0x12), std::nullopt);
}

TEST(PciTest, CapabilityListMayBeMissing) {
    PciModel pci;
    pci.add(0x10, kSomeDevice, 0x50);
    pci.put(0x10, 0x50, 2, 0x0005);
    pci.put(0x10, 0x06, 2, 0);  // status: no list
    EXPECT_EQ(find_capability(0x10, 0x05), std::nullopt);
}

TEST(PciTest, EndsOnCircularAndWildCapabilityLists) {
    PciModel pci;
    pci.add(0x10, kSomeDevice, 0x50);
    pci.put(0x10, 0x50, 2, 0x6005);
    pci.put(0x10, 0x60, 2, 0x5010);
    EXPECT_EQ(find_capability(0x10, 0x0f), std::nullopt);
    pci.put(0x10, 0x60, 2, 0x3c10);  // into the header
    EXPECT_EQ(find_capability(0x10, 0x0f), std::nullopt);
    EXPECT_EQ(find_capability(0x18, 0x0f), std::nullopt) << "a function that does not exist";
}

TEST(EcamWindowTest, TakesTheProcessorsRegister) {
    PciModel pci;
    EXPECT_EQ(*ecam_window(0xf000'0021), (EcamWindow{0xf000'0000, 255}));
    EXPECT_EQ(*ecam_window(0x7f'e400'0019), (EcamWindow{0x7f'e400'0000, 63}));
    EXPECT_EQ(*ecam_window(0xe010'0001), (EcamWindow{0xe010'0000, 0}));
    EXPECT_EQ(ecam_window(0xf800'0021).error(), Error::kBadValue) << "bits of the base where those of the bus are";
    EXPECT_EQ(ecam_window(0x7f'e400'0021).error(), Error::kBadValue);
    EXPECT_EQ(ecam_window(0x0000'0021).error(), Error::kBadValue) << "a window at 0, which would be none";
    EXPECT_EQ(ecam_window(0xf800'0025).error(), Error::kUnsupported);
}

TEST(EcamWindowTest, TakesQ35sRegister) {
    PciModel pci;
    pci.add(0, 0x29c08086);
    EXPECT_EQ(*ecam_window(0), EcamWindow{}) << "not enabled";
    pci.put(0, 0x60, 4, 0xb0000001);
    EXPECT_EQ(*ecam_window(0), (EcamWindow{0xb000'0000, 255}));
    pci.put(0, 0x60, 4, 0xe8000003);
    EXPECT_EQ(*ecam_window(0), (EcamWindow{0xe800'0000, 127}));
    pci.put(0, 0x60, 4, 0xec000005);
    EXPECT_EQ(*ecam_window(0), (EcamWindow{0xec00'0000, 63}));
    pci.put(0, 0x60, 4, 0xb0000007);
    EXPECT_EQ(ecam_window(0).error(), Error::kBadValue);
    pci.put(0, 0x60, 4, 0x00000001);
    pci.put(0, 0x64, 4, 0x0000000c);
    EXPECT_EQ(*ecam_window(0), (EcamWindow{0xc'0000'0000, 255}));
}

TEST(EcamWindowTest, IsUnknownOnOtherChipsets) {
    PciModel pci;
    pci.add(0, 0x12378086);
    pci.put(0, 0x60, 4, 0xb0000001);
    EXPECT_EQ(*ecam_window(0), EcamWindow{});
}

}  // namespace
}  // namespace gatehouse::platform
