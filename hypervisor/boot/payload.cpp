#include "hypervisor/boot/payload.hpp"

namespace gatehouse::boot {
namespace {

struct Limits {
    launch::ModuleRole role;
    Bytes Payload::*contents;
    const char* name;
    std::uint64_t max_size;
    bool in_place = false;
    bool optional = false;
};

constexpr Limits kModules[] = {
    {launch::ModuleRole::kPolicy, &Payload::policy, "policy bundle", policies::kMaxBundleSize},
    {launch::ModuleRole::kApproval, &Payload::approval, "approval", policies::kMaxApprovalSize},
    {launch::ModuleRole::kCommandLine, &Payload::command_line, "command line", 0x1000},
    {launch::ModuleRole::kRecord, &Payload::record, "endpoint record", policies::kMaxRecordSize, false, true},
    {launch::ModuleRole::kMachineApproval, &Payload::machine_approval, "machine approval", policies::kMaxApprovalSize,
     false, true},
    {launch::ModuleRole::kKernel, &Payload::kernel, "kernel", 0x10000000, true},
    {launch::ModuleRole::kInitrd, &Payload::initrd, "initrd", 0x40000000, true},
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
    for (const Limits& limits : kModules) {
        const launch::Module* module = block.module(limits.role);
        if (module == nullptr && limits.optional) continue;
        if (module == nullptr) return {Error::kNotFound, limits.name};
        if (module->size == 0 || module->size > limits.max_size) return {Error::kBadLength, limits.name, module->size};
        const auto place = map.usable(module->extent());
        if (!place) return {Error::kOutOfRange, limits.name, module->address};
        GATEHOUSE_TRY(ram.check_write_back(module->extent(), limits.name));
        MutableBytes contents = memory.at(*place, module->size);
        if (!limits.in_place) {
            if (room.size() < contents.size()) return {Error::kNoSpace, limits.name, contents.size()};
            const MutableBytes copy = room.first(contents.size());
            copy_bytes(copy, contents);
            room = room.subspan(copy.size());
            contents = copy;
        }
        payload.*limits.contents = contents;
    }
    payload.busy = {block.module(launch::ModuleRole::kKernel)->extent(),
                    block.module(launch::ModuleRole::kInitrd)->extent()};
    return payload;
}

Status measure_payload(Measurer& measurer, const Payload& payload) {
    const std::array objects{payload.policy, payload.kernel, payload.initrd, payload.command_line};
    const auto rows = std::span(evidence::kMeasurements).last<objects.size()>();
    for (std::size_t i = 0; i < rows.size(); ++i) GATEHOUSE_TRY(measurer.extend(rows[i], objects[i]));
    return {};
}

}  // namespace gatehouse::boot
