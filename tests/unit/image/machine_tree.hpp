// A machine's /sys and /proc, as far as flash-appliance reads them: made up, for tests.
#pragma once

#include <filesystem>
#include <fstream>

#include "tests/unit/policies/appliance.hpp"

namespace gatehouse::test {

class MachineTree {
  public:
    MachineTree() {
        put("proc/self/mountinfo", "21 1 0:20 / /proc rw - proc proc rw\n");
        put("proc/swaps", "Filename Type Size Used Priority\n");
    }

    [[nodiscard]] const std::string& root() const { return directory_.path(); }
    // A file; names are from the root.
    void put(const std::string& name, const std::string& text) const {
        const std::filesystem::path path = root() + "/" + name;
        std::filesystem::create_directories(path.parent_path());
        std::ofstream(path) << text;
    }
    void append(const std::string& name, const std::string& text) const {
        std::ofstream(root() + "/" + name, std::ios::app) << text;
    }
    // A directory's entry, as links in holders/ and slaves/ are.
    void link(const std::string& name) const { std::filesystem::create_directories(root() + "/" + name); }

    // A disk of a million sectors of 512 bytes, with nothing wrong.
    void add_disk(const std::string& name, const std::string& number) const {
        const std::string at = "sys/block/" + name + "/";
        put(at + "dev", number + "\n");
        put(at + "size", "1000000\n");
        put(at + "ro", "0\n");
        put(at + "removable", "0\n");
        put(at + "hidden", "0\n");
        put(at + "queue/logical_block_size", "512\n");
        put(at + "queue/physical_block_size", "4096\n");
        put(at + "device/model", "Fine Disk       \n");
        put(at + "device/vpd_pg80", std::string("\0\x80\0\x04  S1", 8));
    }
    void add_partition(const std::string& disk, const std::string& name, const std::string& number) const {
        const std::string at = "sys/block/" + disk + "/" + name + "/";
        put(at + "dev", number + "\n");
        put(at + "partition", "1\n");
    }
    // What is made of others: a mapping, with its name, or an array, without.
    void add_made(const std::string& name, const std::string& number, const std::string& mapping,
                  const std::string& slave, const std::string& slave_directory) const {
        const std::string at = "sys/block/" + name + "/";
        put(at + "dev", number + "\n");
        put(at + "size", "1000\n");
        put(at + "ro", "0\n");
        put(at + "queue/logical_block_size", "512\n");
        if (!mapping.empty()) put(at + "dm/name", mapping + "\n");
        link(at + "slaves/" + slave);
        link("sys/block/" + slave_directory + "/holders/" + name);
    }
    void mount(const std::string& number, const std::string& where, const std::string& source) const {
        append("proc/self/mountinfo", "40 21 " + number + " / " + where + " rw shared:1 - ext4 " + source + " rw\n");
    }

  private:
    Directory directory_;
};

}  // namespace gatehouse::test
