#include "hypervisor/boot/payload.hpp"

#include <algorithm>

namespace gatehouse::boot {
namespace {

struct Limits {
    launch::ModuleRole role;
    const char* name;
    std::uint64_t max_size;
};

constexpr std::array kModules{
    Limits{launch::ModuleRole::kPolicy, "policy bundle", policies::kMaxBundleSize},
    Limits{launch::ModuleRole::kApproval, "approval", policies::kMaxApprovalSize},
    Limits{launch::ModuleRole::kKernel, "kernel", 0x10000000},
    Limits{launch::ModuleRole::kInitrd, "initrd", 0x40000000},
    Limits{launch::ModuleRole::kCommandLine, "command line", 0x1000},
    Limits{launch::ModuleRole::kRecord, "endpoint record", policies::kMaxRecordSize},
    Limits{launch::ModuleRole::kMachineApproval, "machine approval", policies::kMaxApprovalSize},
};
constexpr std::size_t kRequired = 5;  // the first ones

guest::MemoryType memory_type(std::uint32_t e820) {
    const auto type = static_cast<guest::MemoryType>(e820);
    switch (type) {
        case guest::MemoryType::kUsable:
        case guest::MemoryType::kReserved:
        case guest::MemoryType::kAcpi:
        case guest::MemoryType::kNvs:
        case guest::MemoryType::kUnusable: return type;
    }
    return guest::MemoryType::kReserved;
}

}  // namespace

Status build_memory_map(const launch::LaunchBlock& block, std::uint64_t kept_base, guest::MemoryMap& map) {
    for (const launch::MemoryRange& range : block.all_memory()) {
        GATEHOUSE_TRY(map.add({range.base, range.length, memory_type(range.type)}));
    }
    return map.reserve({kept_base, launch::kKeptSize});
}

Result<Payload> find_payload(const launch::LaunchBlock& block, const guest::MemoryMap& map,
                             guest::PhysicalView& memory) {
    std::array<guest::Extent, kModules.size()> places{};
    std::array<Bytes, kModules.size()> contents{};
    for (std::size_t i = 0; i < kModules.size(); ++i) {
        const Limits& limits = kModules[i];
        const launch::Module* module = block.module(limits.role);
        if (module == nullptr && i >= kRequired) continue;
        if (module == nullptr) return {Error::kNotFound, limits.name};
        if (module->size == 0 || module->size > limits.max_size) return {Error::kBadLength, limits.name, module->size};
        if (module->address % 0x1000 != 0) return {Error::kMisaligned, limits.name, module->address};
        places[i] = {module->address, module->size};
        if (!map.usable(places[i])) return {Error::kOutOfRange, limits.name, module->address};
        for (std::size_t j = 0; j < i; ++j) {
            if (places[i].overlaps(places[j])) return {Error::kOverlap, limits.name, module->address};
        }
        contents[i] = memory.at(module->address, module->size);
    }
    return Payload{.policy = contents[0],
                   .approval = contents[1],
                   .kernel = contents[2],
                   .initrd = contents[3],
                   .command_line = contents[4],
                   .record = contents[5],
                   .machine_approval = contents[6],
                   .kernel_place = places[2],
                   .initrd_place = places[3]};
}

Status measure_payload(Measurer& measurer, const Payload& payload) {
    GATEHOUSE_TRY(measurer.extend(evidence::MeasurementTag::kPolicy, payload.policy));
    GATEHOUSE_TRY(measurer.extend(evidence::MeasurementTag::kKernel, payload.kernel));
    GATEHOUSE_TRY(measurer.extend(evidence::MeasurementTag::kInitrd, payload.initrd));
    return measurer.extend(evidence::MeasurementTag::kCommandLine, payload.command_line);
}

}  // namespace gatehouse::boot
