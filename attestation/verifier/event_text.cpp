// Event logs in words.
#include <algorithm>
#include <cstdio>

#include "attestation/verifier/event_log.hpp"

namespace gatehouse::verifier {
namespace {

constexpr std::size_t kMaxText = 120;
constexpr std::size_t kVariableFixedSize = 32;  // GUID and two sizes of UEFI_VARIABLE_DATA

struct TypeName {
    LogEventType type;
    const char* name;
};
constexpr TypeName kTypeNames[] = {
    {LogEventType::kPrebootCertificate, "EV_PREBOOT_CERT"},
    {LogEventType::kPostCode, "EV_POST_CODE"},
    {LogEventType::kNoAction, "EV_NO_ACTION"},
    {LogEventType::kSeparator, "EV_SEPARATOR"},
    {LogEventType::kAction, "EV_ACTION"},
    {LogEventType::kEventTag, "EV_EVENT_TAG"},
    {LogEventType::kCrtmContents, "EV_S_CRTM_CONTENTS"},
    {LogEventType::kCrtmVersion, "EV_S_CRTM_VERSION"},
    {LogEventType::kMicrocode, "EV_CPU_MICROCODE"},
    {LogEventType::kPlatformConfigFlags, "EV_PLATFORM_CONFIG_FLAGS"},
    {LogEventType::kTableOfDevices, "EV_TABLE_OF_DEVICES"},
    {LogEventType::kCompactHash, "EV_COMPACT_HASH"},
    {LogEventType::kIpl, "EV_IPL"},
    {LogEventType::kIplPartitionData, "EV_IPL_PARTITION_DATA"},
    {LogEventType::kNonhostCode, "EV_NONHOST_CODE"},
    {LogEventType::kNonhostConfig, "EV_NONHOST_CONFIG"},
    {LogEventType::kNonhostInfo, "EV_NONHOST_INFO"},
    {LogEventType::kOmitBootDeviceEvents, "EV_OMIT_BOOT_DEVICE_EVENTS"},
    {LogEventType::kPostCode2, "EV_POST_CODE2"},
    {LogEventType::kEfiVariableDriverConfig, "EV_EFI_VARIABLE_DRIVER_CONFIG"},
    {LogEventType::kEfiVariableBoot, "EV_EFI_VARIABLE_BOOT"},
    {LogEventType::kEfiBootServicesApplication, "EV_EFI_BOOT_SERVICES_APPLICATION"},
    {LogEventType::kEfiBootServicesDriver, "EV_EFI_BOOT_SERVICES_DRIVER"},
    {LogEventType::kEfiRuntimeServicesDriver, "EV_EFI_RUNTIME_SERVICES_DRIVER"},
    {LogEventType::kEfiGptEvent, "EV_EFI_GPT_EVENT"},
    {LogEventType::kEfiAction, "EV_EFI_ACTION"},
    {LogEventType::kEfiPlatformFirmwareBlob, "EV_EFI_PLATFORM_FIRMWARE_BLOB"},
    {LogEventType::kEfiHandoffTables, "EV_EFI_HANDOFF_TABLES"},
    {LogEventType::kEfiPlatformFirmwareBlob2, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"},
    {LogEventType::kEfiHandoffTables2, "EV_EFI_HANDOFF_TABLES2"},
    {LogEventType::kEfiVariableBoot2, "EV_EFI_VARIABLE_BOOT2"},
    {LogEventType::kEfiGptEvent2, "EV_EFI_GPT_EVENT2"},
    {LogEventType::kEfiHcrtmEvent, "EV_EFI_HCRTM_EVENT"},
    {LogEventType::kEfiVariableAuthority, "EV_EFI_VARIABLE_AUTHORITY"},
    {LogEventType::kEfiSpdmFirmwareBlob, "EV_EFI_SPDM_FIRMWARE_BLOB"},
    {LogEventType::kEfiSpdmFirmwareConfig, "EV_EFI_SPDM_FIRMWARE_CONFIG"},
    {LogEventType::kEfiSpdmDevicePolicy, "EV_EFI_SPDM_DEVICE_POLICY"},
    {LogEventType::kEfiSpdmDeviceAuthority, "EV_EFI_SPDM_DEVICE_AUTHORITY"},
};

// ASCII as it is, UCS-2 with its zeros left out, anything else as dots.
std::string printable(Bytes bytes) {
    const bool wide = bytes.size() >= 4 && bytes[1] == std::byte{0} && bytes[3] == std::byte{0};
    std::string text;
    for (std::size_t i = 0; i < bytes.size() && text.size() < kMaxText; i += wide ? 2 : 1) {
        const auto c = std::to_integer<unsigned char>(bytes[i]);
        if (c == 0) break;
        text += c >= 0x20 && c < 0x7f ? static_cast<char>(c) : '.';
    }
    return text;
}

// Whether it begins as text and three quarters of it are some.
bool is_text(Bytes bytes) {
    const std::string text = printable(bytes);
    const bool wide = bytes.size() >= 4 && bytes[1] == std::byte{0} && bytes[3] == std::byte{0};
    std::size_t replaced = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '.' || bytes[wide ? 2 * i : i] == std::byte{'.'}) continue;
        if (i == 0) return false;
        ++replaced;
    }
    return !text.empty() && replaced * 4 <= text.size();
}

std::string variable_name(Bytes data) {
    Reader reader(data);
    reader.skip(16);
    const std::uint64_t name_length = reader.u64();
    reader.skip(8);
    if (reader.failed() || name_length > reader.remaining() / 2) return {};
    return printable(reader.bytes(static_cast<std::size_t>(name_length) * 2));
}

std::string tagged_text(Bytes data) {
    Reader reader(data);
    reader.skip(4);
    const std::uint32_t size = reader.u32();
    if (reader.failed()) return {};
    const Bytes text = reader.bytes(std::min<std::size_t>(size, reader.remaining()));
    return is_text(text) ? printable(text) : std::string{};
}

std::string data_text(const LogEvent& event) {
    switch (event.type) {
        case LogEventType::kEfiVariableDriverConfig:
        case LogEventType::kEfiVariableBoot:
        case LogEventType::kEfiVariableBoot2:
        case LogEventType::kEfiVariableAuthority:
            return event.data.size() >= kVariableFixedSize ? variable_name(event.data) : std::string{};
        case LogEventType::kEventTag: return tagged_text(event.data);
        case LogEventType::kSeparator: return "PCR " + std::to_string(event.pcr);
        case LogEventType::kEfiPlatformFirmwareBlob2:
        case LogEventType::kEfiHandoffTables2:
            return event.data.size() > 1
                       ? printable(event.data.subspan(
                             1, std::min(event.data.size() - 1, std::to_integer<std::size_t>(event.data[0]))))
                       : std::string{};
        default: return is_text(event.data) ? printable(event.data) : std::string{};
    }
}

}  // namespace

std::string event_type_name(LogEventType type) {
    for (const TypeName& row : kTypeNames) {
        if (row.type == type) return row.name;
    }
    char text[24];
    std::snprintf(text, sizeof(text), "event type 0x%x", static_cast<unsigned>(type));
    return text;
}

std::string event_text(const LogEvent& event) {
    const std::string text = data_text(event);
    return text.empty() ? event_type_name(event.type) : text;
}

}  // namespace gatehouse::verifier
