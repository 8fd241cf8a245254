#include "hypervisor/boot/payload.hpp"

namespace gatehouse::boot {
namespace {

struct Limits {
    launch::ModuleRole role;
    const char* name;
    std::uint64_t max_size;
    bool in_place = false;
    bool optional = false;
};

constexpr Limits kModules[] = {
    {launch::ModuleRole::kPolicy, "policy bundle", policies::kMaxBundleSize},
    {launch::ModuleRole::kApproval, "approval", policies::kMaxApprovalSize},
    {launch::ModuleRole::kCommandLine, "command line", 0x1000},
    {launch::ModuleRole::kRecord, "endpoint record", policies::kMaxRecordSize, false, true},
    {launch::ModuleRole::kMachineApproval, "machine approval", policies::kMaxApprovalSize, false, true},
    {launch::ModuleRole::kKernel, "kernel", 0x10000000, true},
    {launch::ModuleRole::kInitrd, "initrd", 0x40000000, true},
};

}  // namespace

Status build_memory_map(const launch::LaunchBlock& block, const memory::Ram& ram, guest::MemoryMap& map) {
    for (const launch::MemoryRange& range : block.all_memory()) {
        if (range.is_ram()) GATEHOUSE_TRY(ram.check(range.extent(), "memory map: what it calls RAM is none"));
        GATEHOUSE_TRY(map.add(range));
    }
    return map.reserve({block.header.kept_base, launch::kKeptSize});
}

Result<Payload> find_payload(const launch::LaunchBlock& block, const guest::MemoryMap& map, const memory::Ram& ram,
                             guest::PhysicalView& memory, MutableBytes room) {
    Payload payload;
    Bytes* const targets[] = {&payload.policy,           &payload.approval, &payload.command_line, &payload.record,
                              &payload.machine_approval, &payload.kernel,   &payload.initrd};
    for (std::size_t i = 0; i < std::size(kModules); ++i) {
        const Limits& limits = kModules[i];
        const launch::Module* module = block.module(limits.role);
        if (module == nullptr && limits.optional) continue;
        if (module == nullptr) return {Error::kNotFound, limits.name};
        if (module->size == 0 || module->size > limits.max_size) return {Error::kBadLength, limits.name, module->size};
        const Extent place = module->extent();
        if (!map.usable(place)) return {Error::kOutOfRange, limits.name, place.base};
        GATEHOUSE_TRY(ram.check_write_back(place, limits.name));
        MutableBytes contents = memory.at(place.base, place.length);
        if (!limits.in_place) {
            if (room.size() < contents.size()) return {Error::kNoSpace, limits.name, contents.size()};
            const MutableBytes copy = room.first(contents.size());
            copy_bytes(copy, contents);
            room = room.subspan(copy.size());
            contents = copy;
        }
        *targets[i] = contents;
    }
    payload.busy = {block.module(launch::ModuleRole::kKernel)->extent(),
                    block.module(launch::ModuleRole::kInitrd)->extent()};
    return payload;
}

Status measure_payload(Measurer& measurer, const Payload& payload) {
    GATEHOUSE_TRY(measurer.extend(evidence::MeasurementTag::kPolicy, payload.policy));
    GATEHOUSE_TRY(measurer.extend(evidence::MeasurementTag::kKernel, payload.kernel));
    GATEHOUSE_TRY(measurer.extend(evidence::MeasurementTag::kInitrd, payload.initrd));
    return measurer.extend(evidence::MeasurementTag::kCommandLine, payload.command_line);
}

}  // namespace gatehouse::boot
