#include "attestation/agent/channel_source.hpp"
#include "attestation/agent/device_mailbox.hpp"
#ifdef GATEHOUSE_WITH_TCTI
#include "attestation/agent/tcti_source.hpp"
#endif

namespace gatehouse::agent {

std::unique_ptr<EvidenceSource> open_source(const std::string& source,
                                            [[maybe_unused]] const std::string& state_directory,
                                            [[maybe_unused]] const std::string& firmware_log) {
    if (source == "channel") return std::make_unique<ChannelSource>(std::make_unique<DeviceMailbox>(kChannelTable));
#ifdef GATEHOUSE_WITH_TCTI
    return std::make_unique<TctiSource>(source, state_directory, firmware_log);
#else
    throw host::ToolError("source " + source + ": this program was built for the quote channel alone; use \"channel\"",
                          host::ExitCode::kUsage);
#endif
}

}  // namespace gatehouse::agent
