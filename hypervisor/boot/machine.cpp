#include "hypervisor/boot/machine.hpp"

#include "hypervisor/base/log.hpp"
#include "hypervisor/cpu/cpu.hpp"

namespace gatehouse::boot {

Status Machine::start_processors() {
    GATEHOUSE_ASSIGN(const std::uint64_t low_page,
                     memory_.map().find(memory::kPageSize, memory::kPageSize, 0xa0000, launch_.payload().busy));
    GATEHOUSE_TRY(memory_.ram().check_write_back({low_page, memory::kPageSize}, "trampoline page"));
    GATEHOUSE_TRY(memory_.map().reserve({low_page, memory::kPageSize}));  // it stays ours
    GATEHOUSE_TRY(memory_.each_guest_range([](const Extent& range) { return cpu::guest_memory().add(range); }));
    return cpu::start_aps(low_page);
}

Result<cpu::svm::GuestEntry> Machine::prepare() {
    GATEHOUSE_TRY(launch_.read_hand_off());
    GATEHOUSE_TRY(memory_.read());
    GATEHOUSE_TRY(launch_.start_tpm());
    Status opened = [&]() -> Status {
        GATEHOUSE_TRY(launch_.measure_payload());
        GATEHOUSE_TRY(launch_.check_policy());
        GATEHOUSE_TRY(launch_.seed_random());
        GATEHOUSE_TRY(devices_.find());
        GATEHOUSE_TRY(devices_.start_iommus(launch_.hand_off().iommu_count));
        GATEHOUSE_TRY(cpu::svm::enable(memory_.kept_base().value()));
        GATEHOUSE_TRY(start_processors());
        GATEHOUSE_TRY(launch_.measure_machine(devices_));
        GATEHOUSE_TRY(disks_.find());
        return launch_.open_vault(disks_);
    }();
    // Whatever came of it: nothing later in this boot meets the sealing policy again.
    const Status capped = launch_.cap();
    GATEHOUSE_TRY(opened);
    GATEHOUSE_TRY(capped);
    log("gatehouse: PCR 17, 18 and 19 capped");
    GATEHOUSE_TRY(guest_.trap());
    launch_.state_claims(disks_);
    GATEHOUSE_ASSIGN(const cpu::svm::GuestEntry entry, guest_.load());
    GATEHOUSE_TRY(disks_.hand_over());
    GATEHOUSE_TRY(devices_.release());
    GATEHOUSE_TRY(disks_.release());
    GATEHOUSE_TRY(devices_.refresh_iommus());
    log("gatehouse: guest starts, ", std::uint64_t{cpu::cpu_count()}, " processors, ",
        memory_.map().usable_bytes() >> 20, " MiB for the guest, ", launch::kKeptSize >> 20, " MiB kept");
    return entry;
}

}  // namespace gatehouse::boot
