// Which disks there are and which may be overwritten, from trees that a kernel would and would not make.
#include "image/flash/inventory.hpp"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "image/flash/list_command.hpp"
#include "tests/unit/image/machine_tree.hpp"

namespace gatehouse::flash {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class InventoryTest : public testing::Test {
  protected:
    InventoryTest() { tree_.add_disk("sda", "8:0"); }

    [[nodiscard]] Inventory read() const { return read_inventory(tree_.root()); }
    [[nodiscard]] DiskFacts disk(const std::string& name) const {
        for (const DiskFacts& each : read().disks) {
            if (each.name == name) return each;
        }
        ADD_FAILURE() << name << " is not there";
        return {};
    }
    [[nodiscard]] std::vector<std::string> refusals(const std::string& name = "sda") const {
        return disk(name).refusals;
    }
    [[nodiscard]] std::string error() const try {
        (void)read();
        return "";
    } catch (const host::ToolError& failure) {
        return failure.what();
    }

    test::MachineTree tree_;
};

TEST_F(InventoryTest, TellsADiskAsItIs) {
    tree_.put("sys/block/sda/removable", "1\n");
    const DiskFacts sda = disk("sda");
    EXPECT_EQ(sda.path, "/dev/sda");
    EXPECT_EQ(sda.model, "Fine Disk");
    EXPECT_EQ(sda.serial, "S1");
    EXPECT_EQ(sda.size, 512'000'000u);
    EXPECT_EQ(sda.logical_sector, 512u);
    EXPECT_EQ(sda.physical_sector, 4096u);
    EXPECT_TRUE(sda.removable);
    EXPECT_FALSE(sda.read_only);
    EXPECT_THAT(sda.refusals, IsEmpty());
    EXPECT_EQ(sda.device, device_number(8, 0));
}

TEST_F(InventoryTest, RefusesWhatIsMounted) {
    tree_.add_partition("sda", "sda2", "8:2");
    tree_.mount("8:2", R"(/mnt/a\040b)", "/dev/root");
    EXPECT_THAT(refusals(), ElementsAre("sda2 is mounted at /mnt/a b"));
}

TEST_F(InventoryTest, RefusesAMountedDiskWithoutPartitions) {
    tree_.mount("8:0", "/mnt", "/dev/sda");
    EXPECT_THAT(refusals(), ElementsAre("sda is mounted at /mnt"));
}

// btrfs and others have a device number of their own.
TEST_F(InventoryTest, RefusesAMountThatOnlyItsSourceNames) {
    tree_.add_partition("sda", "sda2", "8:2");
    tree_.mount("0:44", "/data", "/dev/sda2");
    EXPECT_THAT(refusals(), ElementsAre("sda2 is mounted at /data"));
}

TEST_F(InventoryTest, RefusesTheRunningSystemsDiskFirstOfAll) {
    tree_.add_partition("sda", "sda1", "8:1");
    tree_.add_partition("sda", "sda2", "8:2");
    tree_.mount("8:1", "/boot", "/dev/sda1");
    tree_.mount("8:2", "/", "/dev/sda2");
    EXPECT_THAT(refusals(),
                ElementsAre("the running system is on it", "sda1 is mounted at /boot", "sda2 is mounted at /"));
}

TEST_F(InventoryTest, FindsTheSystemUnderMappingsAndArrays) {
    tree_.add_disk("sdb", "8:16");
    tree_.add_partition("sda", "sda2", "8:2");
    tree_.add_made("md0", "9:0", "", "sda2", "sda/sda2");
    tree_.add_made("dm-0", "253:0", "vg-root", "md0", "md0");
    tree_.mount("253:0", "/", "/dev/mapper/vg-root");
    EXPECT_THAT(refusals(), ElementsAre("the running system is on it", "dm-0 is mounted at /",
                                        "md0 is held by dm-0 (vg-root)", "sda2 is held by md0"));
    EXPECT_THAT(refusals("sdb"), IsEmpty());
    EXPECT_THAT(refusals("md0"), testing::Contains("is no disk, but made of others or of memory"));
}

TEST_F(InventoryTest, RefusesWhatIsHeldThoughNothingIsMounted) {
    tree_.add_made("dm-3", "253:3", "backup", "sda", "sda");
    EXPECT_THAT(refusals(), ElementsAre("sda is held by dm-3 (backup)"));
}

TEST_F(InventoryTest, RefusesSwapAlsoThroughAMapping) {
    tree_.add_disk("sdb", "8:16");
    tree_.add_partition("sda", "sda3", "8:3");
    tree_.add_made("dm-1", "253:1", "swap", "sdb", "sdb");
    tree_.append("proc/swaps", "/dev/sda3 partition 1 0 -2\n/dev/mapper/swap\tpartition\t1\t0\t-3\n");
    EXPECT_THAT(refusals(), ElementsAre("sda3 is swap"));
    EXPECT_THAT(refusals("sdb"), ElementsAre("dm-1 is swap", "sdb is held by dm-1 (swap)"));
}

TEST_F(InventoryTest, DoesWithoutSwaps) {
    std::filesystem::remove(tree_.root() + "/proc/swaps");
    EXPECT_THAT(refusals(), IsEmpty());
}

TEST_F(InventoryTest, RefusesReadOnlyEmptyAndOddDisks) {
    tree_.put("sys/block/sda/ro", "1\n");
    EXPECT_THAT(refusals(), ElementsAre("is read-only"));
    tree_.put("sys/block/sda/ro", "0\n");
    tree_.put("sys/block/sda/size", "0\n");
    EXPECT_THAT(refusals(), ElementsAre("has no medium"));
    tree_.put("sys/block/sda/size", "1000\n");
    tree_.put("sys/block/sda/queue/logical_block_size", "520\n");
    EXPECT_THAT(refusals(), ElementsAre("sectors of 520 bytes are not supported"));
    tree_.put("sys/block/sda/queue/logical_block_size", "4096\n");
    EXPECT_THAT(refusals(), IsEmpty());
    tree_.put("sys/block/sda/device/type", "5\n");
    EXPECT_THAT(refusals(), ElementsAre("is a CD or DVD drive"));
}

TEST_F(InventoryTest, ShowsLoopDevicesThatHaveAFileAndNoOthers) {
    for (const char* const name : {"loop0", "loop1"}) {
        tree_.add_disk(name, std::string("7:") + name[4]);
        std::filesystem::remove_all(tree_.root() + "/sys/block/" + name + "/device");
    }
    tree_.put("sys/block/loop1/size", "0\n");
    tree_.put("sys/block/loop0/loop/backing_file", "/disk.img\n");
    EXPECT_THAT(refusals("loop0"), IsEmpty());
    EXPECT_EQ(read().disks.size(), 2u);
}

// Linux tells of no holder then.
TEST_F(InventoryTest, RefusesADiskUnderALoopDevice) {
    tree_.add_partition("sda", "sda2", "8:2");
    for (const auto& [name, number, file] :
         {std::tuple{"loop0", "7:0", "/dev/sda2"}, {"loop1", "7:1", "/dev/loop0"}, {"loop2", "7:2", "/x.img"}}) {
        tree_.add_disk(name, number);
        tree_.put(std::string("sys/block/") + name + "/loop/backing_file", std::string(file) + "\n");
    }
    tree_.mount("7:1", "/mnt", "/dev/loop1");
    EXPECT_THAT(refusals(), ElementsAre("loop1 is mounted at /mnt", "loop0 is held by loop1", "sda2 is held by loop0"));
    EXPECT_THAT(refusals("loop0"), ElementsAre("loop1 is mounted at /mnt", "loop0 is held by loop1"));
    EXPECT_THAT(refusals("loop2"), IsEmpty());
    tree_.append("proc/swaps", "/dev/loop0 partition 1 0 -2\n");
    EXPECT_THAT(refusals(), testing::Contains("loop0 is swap"));
}

TEST_F(InventoryTest, LeavesOutHiddenPaths) {
    tree_.add_disk("nvme0c0n1", "259:0");
    tree_.put("sys/block/nvme0c0n1/hidden", "1\n");
    EXPECT_EQ(read().disks.size(), 1u);
}

TEST_F(InventoryTest, KnowsNamesWithASlash) {
    tree_.add_disk("cciss!c0d0", "104:0");
    EXPECT_EQ(disk("cciss!c0d0").path, "/dev/cciss/c0d0");
}

// --- Trees that no kernel makes

TEST_F(InventoryTest, BelievesNoSizeThatItCannotRead) {
    for (const char* const size : {"-1", "1x", "", "99999999999999999999", "18446744073709551615", "0x100"}) {
        tree_.put("sys/block/sda/size", size);
        EXPECT_THAT(refusals(), ElementsAre("has no medium")) << size;
    }
}

TEST_F(InventoryTest, TakesADiskThatDoesNotSayForReadOnly) {
    std::filesystem::remove(tree_.root() + "/sys/block/sda/ro");
    EXPECT_THAT(refusals(), ElementsAre("is read-only"));
}

TEST_F(InventoryTest, RefusesADiskWithoutANumber) {
    for (const char* const number : {"8", "8:", ":0", "a:b", "8:0:1", ""}) {
        tree_.put("sys/block/sda/dev", number);
        EXPECT_THAT(refusals(), ElementsAre("has no device number")) << number;
    }
}

TEST_F(InventoryTest, EndsWhereSlavesGoInACircle) {
    tree_.add_made("dm-0", "253:0", "a", "dm-1", "dm-1");
    tree_.add_made("dm-1", "253:1", "b", "dm-0", "dm-0");
    tree_.link("sys/block/dm-0/slaves/sda");
    tree_.link("sys/block/dm-0/slaves/gone");
    tree_.mount("253:1", "/", "x");
    EXPECT_THAT(refusals(), testing::Contains("the running system is on it"));
}

TEST_F(InventoryTest, FailsWhereMountsAreNotUnderstood) {
    for (const char* const line :
         {"x", "40 21 8:2 / /mnt rw", "40 21 8 / /mnt rw - ext4 /dev/sda2 rw", "40 21 8:2 / /mnt rw - ext4", "\n"}) {
        const std::string good = "21 1 0:20 / /proc rw - proc proc rw\n";
        tree_.put("proc/self/mountinfo", good + line);
        EXPECT_THAT(error(), HasSubstr("/proc/self/mountinfo: line 2: is not understood")) << line;
    }
    tree_.put("proc/self/mountinfo", "");
    EXPECT_THAT(error(), HasSubstr("mountinfo: is empty"));
    std::filesystem::remove(tree_.root() + "/proc/self/mountinfo");
    EXPECT_THAT(error(), HasSubstr("mountinfo: cannot be opened"));
}

TEST_F(InventoryTest, FailsWithoutSysfs) {
    std::filesystem::remove_all(tree_.root() + "/sys");
    EXPECT_THAT(error(), HasSubstr("sys/block: is not there; is /sys mounted?"));
}

TEST_F(InventoryTest, ShowsNamesOfOthersOnOneLineAndAsGoodJson) {
    tree_.put("sys/block/sda/device/model", "Evil\x1b[2J\ndisk \xff");
    tree_.mount("8:0", R"(/mnt\012/dev/sdb)", "/dev/sda");
    const std::string text = as_text(read());
    EXPECT_EQ(std::ranges::count(text, '\n'), 2) << text;
    EXPECT_THAT(text, HasSubstr(R"(Evil\x1b[2J\x0adisk)"));
    const std::string dumped = to_json(read()).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    const auto parsed = nlohmann::json::parse(dumped);
    EXPECT_EQ(parsed["disks"][0]["uses"][0]["where"], "/mnt\n/dev/sdb");
    EXPECT_EQ(parsed["disks"][0]["target"], false);
}

TEST_F(InventoryTest, ListsEachDiskWithItsReasons) {
    tree_.add_partition("sda", "sda1", "8:1");
    tree_.mount("8:1", "/", "/dev/sda1");
    tree_.add_disk("sdb", "8:16");
    EXPECT_EQ(as_text(read()),
              "DISK      SIZE       SECTOR    MODEL      SERIAL  TARGET\n"
              "/dev/sda  488.3 MiB  512/4096  Fine Disk  S1      no: the running system is on it\n"
              "                                                      sda1 is mounted at /\n"
              "/dev/sdb  488.3 MiB  512/4096  Fine Disk  S1      yes\n");
}

// --- Names of targets

TEST_F(InventoryTest, TakesNoTargetThatIsNoWholeDisk) {
    tree_.put("file", "");
    const auto refusal = [&](const std::string& path) -> std::pair<std::string, host::ExitCode> {
        try {
            (void)require_target(read(), path);
        } catch (const host::ToolError& failure) {
            return {failure.what(), failure.code()};
        }
        return {};
    };
    const std::string file = tree_.root() + "/file";
    EXPECT_EQ(refusal(file).first, file + ": a file, not a disk (losetup --find --show FILE makes a disk of it)");
    EXPECT_EQ(refusal(file).second, host::ExitCode::kUsage);
    EXPECT_EQ(refusal("/dev/null").first, "/dev/null: not a block device");
    EXPECT_EQ(refusal(file + "s").first, file + "s: No such file or directory");
}

}  // namespace
}  // namespace gatehouse::flash
