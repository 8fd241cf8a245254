#include "tests/platform/probe/tpm.hpp"

#include "tests/platform/probe/hardware.hpp"

namespace probe {
namespace {

// TIS registers of locality 0.
constexpr uint32_t kAccess = kTpm + 0x00;
constexpr uint32_t kStatus = kTpm + 0x18;
constexpr uint32_t kFifo = kTpm + 0x24;
constexpr uint32_t kInterfaceId = kTpm + 0x30;
constexpr uint8_t kAccessRequest = 0x02, kAccessActive = 0x20;
constexpr uint8_t kStatusReady = 0x40, kStatusGo = 0x20, kStatusAvailable = 0x10;

// CRB registers of locality 0.
constexpr uint32_t kLocControl = kTpm + 0x08;
constexpr uint32_t kRequest = kTpm + 0x40;
constexpr uint32_t kStart = kTpm + 0x4c;
constexpr uint32_t kBuffer = kTpm + 0x80;

uint32_t big32(const uint8_t* bytes) {
    return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

void transact(const uint8_t* command, uint32_t length, uint8_t* response, uint32_t capacity) {
    if (tpm_kind() == TpmKind::kCrb) {
        store<uint32_t>(kRequest, 1);
        for (uint32_t i = 0; i < length; ++i) store<uint8_t>(kBuffer + i, command[i]);
        store<uint32_t>(kStart, 1);
        while (load<uint32_t>(kStart) & 1) {}
        for (uint32_t i = 0; i < capacity; ++i) response[i] = load<uint8_t>(kBuffer + i);
        return;
    }
    store<uint8_t>(kStatus, kStatusReady);
    while (!(load<uint8_t>(kStatus) & kStatusReady)) {}
    for (uint32_t i = 0; i < length; ++i) store<uint8_t>(kFifo, command[i]);
    store<uint8_t>(kStatus, kStatusGo);
    while (!(load<uint8_t>(kStatus) & kStatusAvailable)) {}
    for (uint32_t i = 0; i < capacity && (load<uint8_t>(kStatus) & kStatusAvailable); ++i)
        response[i] = load<uint8_t>(kFifo);
    store<uint8_t>(kStatus, kStatusReady);
}

struct Bank {
    const char* name;
    uint8_t algorithm;
};
constexpr Bank kBanks[] = {{"sha1", 0x04}, {"sha256", 0x0b}, {"sha384", 0x0c}, {"sha512", 0x0d}};

void print_pcr(const char* when, const Bank& bank, uint8_t number) {
    // TPM2_PCR_Read of one PCR (TPM 2.0 Library part 3, 22.4).
    uint8_t command[20] = {0x80, 0x01, 0, 0, 0, 20, 0, 0, 0x01, 0x7e, 0, 0, 0, 1, 0, bank.algorithm, 3, 0, 0, 0};
    command[17 + number / 8] = static_cast<uint8_t>(1 << number % 8);
    uint8_t response[128] = {};
    transact(command, sizeof command, response, sizeof response);
    if (big32(response + 6) != 0) {
        print_fact("tpm_error", big32(response + 6));
        return;
    }
    if (big32(response + 24) == 0) return;  // no digest: the bank is not active
    const uint32_t size = uint32_t{response[28]} << 8 | response[29];
    if (size > sizeof response - 30) return;
    print("pcr ");
    print(when);
    print(" ");
    print(bank.name);
    const char digits[] = {' ', static_cast<char>('0' + number / 10), static_cast<char>('0' + number % 10), ' ', 0};
    print(digits);
    print_hex(response + 30, size);
    print("\n");
}

}  // namespace

TpmKind tpm_kind() {
    const uint32_t id = load<uint32_t>(kInterfaceId);
    if (id == 0xffffffff || id == 0) return TpmKind::kNone;  // nothing answers at that address
    return (id & 0xf) == 1 ? TpmKind::kCrb : TpmKind::kTis;
}

void tpm_request() {
    if (tpm_kind() == TpmKind::kCrb) {
        store<uint32_t>(kLocControl, 1);
        return;
    }
    store<uint8_t>(kAccess, kAccessRequest);
    while (!(load<uint8_t>(kAccess) & kAccessActive)) {}
}

void tpm_relinquish() {
    if (tpm_kind() == TpmKind::kCrb)
        store<uint32_t>(kLocControl, 2);
    else
        store<uint8_t>(kAccess, kAccessActive);
}

void print_pcrs(const char* when) {
    if (tpm_kind() == TpmKind::kNone) return;
    tpm_request();
    for (const Bank& bank : kBanks)
        for (uint8_t number = 17; number <= 22; ++number) print_pcr(when, bank, number);
    tpm_relinquish();
}

}  // namespace probe
