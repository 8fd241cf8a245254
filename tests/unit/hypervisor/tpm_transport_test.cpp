// TPM transports against device models that behave, and that do not: each misbehaviour is one clear error in
// bounded time.
#include "hypervisor/platform/tpm_transport.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <string>
#include <vector>

namespace gatehouse::platform {
namespace {

using ::testing::ElementsAreArray;
using Buffer = std::vector<std::uint8_t>;

Buffer response_of_size(std::size_t size, std::size_t claimed) {
    Buffer response(size);
    for (std::size_t i = 0; i < size; ++i) response[i] = static_cast<std::uint8_t>(i * 7);
    response[0] = 0x80;
    response[1] = 0x01;
    for (std::size_t i = 0; i < 4; ++i) response[2 + i] = static_cast<std::uint8_t>(claimed >> (24 - 8 * i));
    return response;
}

Buffer command_of_size(std::size_t size) { return response_of_size(size, size); }

// Simulated time: each access to a register takes 20 microseconds.
class DeviceModel : public TpmBus {
  public:
    std::uint64_t microseconds() override { return now += 1; }
    std::uint64_t now = 0;

    // What the TPM answers, and what it was asked.
    Buffer answer = response_of_size(200, 200);
    std::vector<Buffer> commands;
    bool never_answers = false;
    bool cancelled = false;
    // Whether the rest of an unwanted response is gone.
    virtual bool holds_no_response() const = 0;

  protected:
    ~DeviceModel() = default;
    void tick() { now += 20; }
};

// FIFO at any locality (PTP 1.05, 6.5.2).
class FifoModel final : public DeviceModel {
  public:
    std::uint32_t interface_id = 0x0000'0140;  // FIFO, five localities
    bool grants = true;
    bool never_valid = false;  // tpmRegValidSts
    bool never_ready = false;
    bool never_status_valid = false;
    bool always_expects = false;
    bool never_expects = false;
    std::uint32_t status_override = 0;
    std::uint32_t burst = 64;
    std::size_t lose_after = SIZE_MAX;  // response bytes
    int active = -1;

    std::uint8_t read(Register8 reg) override {
        const std::uint32_t offset = reg.offset;
        tick();
        const int locality = static_cast<int>(offset >> 12);
        switch (offset & 0xfff) {
            case 0x00: return static_cast<std::uint8_t>((never_valid ? 0 : 0x80) | (active == locality ? 0x20 : 0) | 1);
            case 0x24: return locality == active ? next_byte() : 0xff;
            default: return 0xff;
        }
    }
    std::uint32_t read(Register32 reg) override {
        const std::uint32_t offset = reg.offset;
        tick();
        if ((offset & 0xfff) == 0x30) return interface_id;
        if ((offset & 0xfff) != 0x18 || static_cast<int>(offset >> 12) != active) return 0xffffffff;
        return status_override != 0 ? status_override : status();
    }
    void write(Register8 reg, std::uint8_t value) override {
        const std::uint32_t offset = reg.offset;
        tick();
        const int locality = static_cast<int>(offset >> 12);
        if ((offset & 0xfff) == 0x00) {
            if ((value & 0x02) != 0) requested_ = locality;
            if ((value & 0x20) != 0) (active == locality ? active : requested_) = -1;
            give_to_requester();
        }
        if ((offset & 0xfff) == 0x24 && locality == active && ready_) received_.push_back(value);
    }
    void write(Register32 reg, std::uint32_t value) override {
        const std::uint32_t offset = reg.offset;
        tick();
        if ((offset & 0xfff) != 0x18) return;
        if ((value & 0x40) != 0) {
            cancelled = cancelled || running_;
            running_ = false;
            ready_ = !never_ready;
            received_.clear();
            pending_.clear();
        }
        if ((value & 0x20) != 0) execute();
    }

    bool holds_no_response() const override { return pending_.empty(); }
    // Somebody else's locality ends.
    void give_up() {
        active = -1;
        give_to_requester();
    }

  private:
    void execute() {
        commands.push_back(received_);
        ready_ = false;
        received_.clear();
        running_ = never_answers;
        if (never_answers) return;
        pending_.assign(answer.begin(), answer.end());
        left_ = lose_after;
    }
    std::uint8_t next_byte() {
        if (pending_.empty() || left_ == 0) return 0xff;
        --left_;
        const std::uint8_t byte = pending_.front();
        pending_.pop_front();
        return byte;
    }
    void give_to_requester() {
        if (active != -1 || requested_ == -1 || !grants) return;
        active = requested_;
        requested_ = -1;
    }
    bool expects() const {
        if (always_expects) return true;
        if (never_expects || received_.size() < 6) return !never_expects && !received_.empty();
        const std::size_t size = static_cast<std::size_t>(received_[4]) << 8 | received_[5];
        return received_.size() < size;
    }
    std::uint32_t status() const {
        std::uint32_t value = burst << 8 | (never_status_valid ? 0 : 0x80);
        if (ready_ && received_.empty()) value |= 0x40;
        if (expects()) value |= 0x08;
        if (!pending_.empty() && left_ != 0) value |= 0x10;
        return value;
    }

    int requested_ = -1;
    bool ready_ = false;
    bool running_ = false;
    Buffer received_;
    std::deque<std::uint8_t> pending_;
    std::size_t left_ = SIZE_MAX;
};

// CRB with its buffer in the locality's page (PTP 1.05, 6.5.3).
class CrbModel final : public DeviceModel {
  public:
    std::uint32_t interface_id = 0x0000'4111;  // CRB, five localities
    bool grants = true;
    bool stays_idle = false;
    bool never_ready = false;
    bool fatal = false;
    bool fatal_after = false;
    std::uint64_t command_address = 0;  // 0: the right one
    std::uint64_t response_address = 0;
    std::uint32_t response_size = 0xf80;
    std::uint32_t command_size = 0xf80;
    int active = -1;

    std::uint8_t read(Register8 reg) override {
        const std::uint32_t offset = reg.offset;
        tick();
        return (offset & 0xfff) >= 0x80 ? buffer_[offset & 0xfff] : 0xff;
    }
    std::uint32_t read(Register32 reg) override {
        const std::uint32_t offset = reg.offset;
        tick();
        const std::uint32_t locality = offset >> 12;
        const std::uint64_t right = kTpmBase + locality * 0x1000 + 0x80;
        const std::uint64_t command = command_address != 0 ? command_address : right;
        const std::uint64_t response = response_address != 0 ? response_address : right;
        switch (offset & 0xfff) {
            case 0x00: return 0x80;
            case 0x0c: return active == static_cast<int>(locality) ? 1 : 0;
            case 0x30: return interface_id;
            case 0x40: return request_;
            case 0x44: return (idle_ ? 2u : 0u) | (fatal ? 1u : 0u);
            case 0x4c: return start_;
            case 0x58: return command_size;
            case 0x5c: return static_cast<std::uint32_t>(command);
            case 0x60: return static_cast<std::uint32_t>(command >> 32);
            case 0x64: return response_size;
            case 0x68: return static_cast<std::uint32_t>(response);
            case 0x6c: return static_cast<std::uint32_t>(response >> 32);
            default: return 0xffffffff;
        }
    }
    void write(Register8 reg, std::uint8_t value) override {
        const std::uint32_t offset = reg.offset;
        tick();
        if ((offset & 0xfff) >= 0x80) buffer_[offset & 0xfff] = value;
    }
    void write(Register32 reg, std::uint32_t value) override {
        const std::uint32_t offset = reg.offset;
        tick();
        const int locality = static_cast<int>(offset >> 12);
        switch (offset & 0xfff) {
            case 0x08:
                if (value == 1 && grants && active == -1) active = locality;
                if (value == 2 && active == locality) active = -1;
                break;
            case 0x40:
                if (never_ready) request_ = value;
                if (value == 1 && !stays_idle) idle_ = false;
                if (value == 2) idle_ = true;
                break;
            case 0x48: cancelled = cancelled || value == 1; break;
            case 0x4c:
                start_ = 1;
                if (!never_answers) execute();
                break;
            default: break;
        }
    }

    bool holds_no_response() const override { return idle_; }

  private:
    void execute() {
        const std::size_t size = static_cast<std::size_t>(buffer_[0x84]) << 8 | buffer_[0x85];
        commands.emplace_back(buffer_.begin() + 0x80, buffer_.begin() + 0x80 + static_cast<std::ptrdiff_t>(size));
        const std::size_t place = response_address != 0 ? response_address & 0xfff : 0x80;
        std::copy_n(answer.begin(), std::min(answer.size(), buffer_.size() - place), &buffer_[place]);
        start_ = 0;
        fatal = fatal_after;
    }

    std::array<std::uint8_t, 0x1000> buffer_{};
    std::uint32_t request_ = 0;
    std::uint32_t start_ = 0;
    bool idle_ = true;
};

// Where nothing is.
class Nothing final : public TpmBus {
  public:
    explicit Nothing(std::uint8_t reads) : reads_(reads) {}
    std::uint64_t now = 0;
    std::uint64_t microseconds() override { return ++now; }
    std::uint8_t read(Register8) override { return now += 20, reads_; }
    std::uint32_t read(Register32) override { return now += 20, reads_ * 0x01010101u; }
    void write(Register8, std::uint8_t) override {}
    void write(Register32, std::uint32_t) override {}

  private:
    std::uint8_t reads_;
};

constexpr std::uint64_t kBound = 25'000'000;  // microseconds, for anything

struct Outcome {
    Result<std::size_t> size;
    Buffer bytes;
};

Outcome transact(TpmTransport& transport, const Buffer& command, std::size_t room = 1024) {
    Buffer response(room, 0xee);
    auto size = transport.transmit(std::as_bytes(std::span(command)), std::as_writable_bytes(std::span(response)));
    if (size.ok()) response.resize(*size);
    return {size, response};
}

Failure failure_of(DeviceModel& model, std::size_t room = 1024) {
    TpmTransport transport(model);
    const Status opened = transport.open(2);
    EXPECT_TRUE(opened.ok()) << opened.failure().item;
    const Outcome outcome = transact(transport, command_of_size(100), room);
    EXPECT_FALSE(outcome.size.ok());
    EXPECT_LT(model.now, kBound);
    return outcome.size.failure();
}

// --- behaving
// -------------------------------------------------------------------------------------------------

template <typename Model>
class BehavingTpm : public ::testing::Test {
  protected:
    Model model_;
};
using Models = ::testing::Types<FifoModel, CrbModel>;
TYPED_TEST_SUITE(BehavingTpm, Models);

TYPED_TEST(BehavingTpm, ExchangesCommandsAndResponsesOfAllSizes) {
    TpmTransport transport(this->model_);
    ASSERT_TRUE(transport.open(2).ok());
    for (const std::size_t size : {10u, 11u, 63u, 64u, 65u, 128u, 1000u, 2048u}) {
        this->model_.answer = response_of_size(size, size);
        const Buffer command = command_of_size(size);
        const Outcome outcome = transact(transport, command, 2048);
        ASSERT_TRUE(outcome.size.ok()) << size << " " << outcome.size.failure().item;
        EXPECT_THAT(outcome.bytes, ElementsAreArray(this->model_.answer));
        EXPECT_THAT(this->model_.commands.back(), ElementsAreArray(command));
    }
}

TYPED_TEST(BehavingTpm, WorksAtTheLocalityThatWasAskedFor) {
    for (const unsigned locality : {0u, 1u, 2u, 3u}) {
        TpmTransport transport(this->model_);
        ASSERT_TRUE(transport.open(locality).ok());
        EXPECT_EQ(this->model_.active, static_cast<int>(locality));
        EXPECT_TRUE(transact(transport, command_of_size(20)).size.ok());
        this->model_.active = -1;
        EXPECT_EQ(transact(transport, command_of_size(20)).size.error(), Error::kState);
    }
}

TYPED_TEST(BehavingTpm, DoesNotTakeALocalityFromSomebodyElse) {
    this->model_.active = 0;
    TpmTransport transport(this->model_);
    EXPECT_EQ(transport.open(2).error(), Error::kTimeout);
    EXPECT_EQ(this->model_.active, 0);
    EXPECT_LT(this->model_.now, kBound);
}

TYPED_TEST(BehavingTpm, NoticesThatItsLocalityWasTaken) {
    TpmTransport transport(this->model_);
    ASSERT_TRUE(transport.open(2).ok());
    this->model_.active = 4;
    EXPECT_EQ(transact(transport, command_of_size(20)).size.error(), Error::kState);
    EXPECT_TRUE(this->model_.commands.empty());
}

TYPED_TEST(BehavingTpm, RefusesCommandsThatAreNone) {
    TpmTransport transport(this->model_);
    ASSERT_TRUE(transport.open(2).ok());
    EXPECT_EQ(transact(transport, Buffer(9)).size.error(), Error::kBadLength);
    EXPECT_EQ(transact(transport, Buffer(4097)).size.error(), Error::kBadLength);
    EXPECT_EQ(transact(transport, command_of_size(10), 9).size.error(), Error::kNoSpace);
    EXPECT_TRUE(this->model_.commands.empty());
}

TYPED_TEST(BehavingTpm, RefusesAResponseLongerThanTheBufferAndStoresNothingBeyondIt) {
    this->model_.answer = response_of_size(300, 300);
    TpmTransport transport(this->model_);
    ASSERT_TRUE(transport.open(2).ok());
    Buffer response(400, 0xee);
    const Buffer command = command_of_size(20);
    const auto size =
        transport.transmit(std::as_bytes(std::span(command)), std::as_writable_bytes(std::span(response).first(299)));
    EXPECT_EQ(size.error(), Error::kNoSpace);
    EXPECT_EQ(size.failure().detail, 300u);
    EXPECT_THAT(Buffer(response.begin() + 299, response.end()), ::testing::Each(0xee));
    EXPECT_TRUE(this->model_.holds_no_response());  // and is usable afterwards
    this->model_.answer = response_of_size(10, 10);
    EXPECT_TRUE(transact(transport, command).size.ok());
}

TYPED_TEST(BehavingTpm, RefusesSizeFieldsOutsideOfTheSpecification) {
    for (const std::size_t claimed : {std::size_t{0}, std::size_t{9}, std::size_t{4097}, std::size_t{0xffffffff}}) {
        this->model_.answer = response_of_size(50, claimed);
        const Failure failure = failure_of(this->model_, 4096);
        EXPECT_EQ(failure.error, Error::kBadLength);
        EXPECT_EQ(failure.detail, claimed);
        this->model_.active = -1;
    }
}

TYPED_TEST(BehavingTpm, CancelsACommandThatIsNotAnswered) {
    this->model_.never_answers = true;
    const Failure failure = failure_of(this->model_);
    EXPECT_EQ(failure.error, Error::kTimeout);
    EXPECT_STREQ(failure.item, "TPM does not answer the command");
    EXPECT_TRUE(this->model_.cancelled);
}

TYPED_TEST(BehavingTpm, PausesTwentyMilliseconds) {
    TpmTransport transport(this->model_);
    const std::uint64_t before = this->model_.now;
    transport.pause();
    EXPECT_GE(this->model_.now - before, 20'000u);
    EXPECT_LT(this->model_.now - before, 40'000u);
}

// --- missing
// --------------------------------------------------------------------------------------------------

TEST(MissingTpm, IsSaidToBeMissing) {
    Nothing bus(0xff);
    TpmTransport transport(bus);
    EXPECT_EQ(transport.open(2).error(), Error::kNotFound);
    EXPECT_LT(bus.now, kBound);
}

TEST(MissingTpm, ABusOfZerosEndsInATimeout) {
    Nothing bus(0x00);
    TpmTransport transport(bus);
    EXPECT_EQ(transport.open(2).error(), Error::kTimeout);
    EXPECT_LT(bus.now, kBound);
}

TEST(MissingTpm, AnUnknownInterfaceIsRefused) {
    FifoModel model;
    model.interface_id = 0x3;
    TpmTransport transport(model);
    EXPECT_EQ(transport.open(2).error(), Error::kUnsupported);
}

// --- FIFO, misbehaving
// ----------------------------------------------------------------------------------------

TEST(FifoTpm, OlderTpmsWithoutInterfaceIdAreFifo) {
    FifoModel model;
    model.interface_id = 0xffffffff;
    TpmTransport transport(model);
    ASSERT_TRUE(transport.open(2).ok());
    EXPECT_TRUE(transact(transport, command_of_size(20)).size.ok());
}

TEST(FifoTpm, TimesOutIfTheLocalityIsNeverGranted) {
    FifoModel model;
    model.grants = false;
    TpmTransport transport(model);
    const Status opened = transport.open(2);
    EXPECT_EQ(opened.error(), Error::kTimeout);
    EXPECT_STREQ(opened.failure().item, "TPM does not grant the locality");
    EXPECT_LT(model.now, kBound);
}

TEST(FifoTpm, WithdrawsARequestThatWasNotGranted) {
    FifoModel model;
    model.active = 0;
    TpmTransport transport(model);
    ASSERT_FALSE(transport.open(2).ok());
    model.give_up();
    EXPECT_EQ(model.active, -1);
}

TEST(FifoTpm, TimesOutIfItsAccessRegisterNeverBecomesValid) {
    FifoModel model;
    model.never_valid = true;
    TpmTransport transport(model);
    EXPECT_EQ(transport.open(2).error(), Error::kTimeout);
}

TEST(FifoTpm, TimesOutIfItNeverGetsReady) {
    FifoModel model;
    model.never_ready = true;
    EXPECT_STREQ(failure_of(model).item, "TPM does not get ready");
}

TEST(FifoTpm, TimesOutIfTheBurstCountStaysZero) {
    FifoModel model;
    model.burst = 0;
    const Failure failure = failure_of(model);
    EXPECT_EQ(failure.error, Error::kTimeout);
    EXPECT_STREQ(failure.item, "TPM takes the command too slowly");
}

TEST(FifoTpm, WorksWithABurstCountOfOne) {
    FifoModel model;
    model.burst = 1;
    TpmTransport transport(model);
    ASSERT_TRUE(transport.open(2).ok());
    EXPECT_TRUE(transact(transport, command_of_size(100)).size.ok());
}

TEST(FifoTpm, TimesOutIfStatusNeverBecomesValid) {
    FifoModel model;
    model.never_status_valid = true;
    EXPECT_EQ(failure_of(model).error, Error::kTimeout);
    EXPECT_TRUE(model.commands.empty());
}

TEST(FifoTpm, RefusesAStatusOfAllOnes) {
    FifoModel model;
    model.status_override = 0xffffffff;
    EXPECT_EQ(failure_of(model).error, Error::kDeviceError);
}

TEST(FifoTpm, RefusesAStatusThatContradictsItself) {
    FifoModel model;
    model.status_override = 0x0000'40d0;  // ready for a command, and a response available
    EXPECT_EQ(failure_of(model).error, Error::kDeviceError);
}

TEST(FifoTpm, DoesNotStartACommandThatTheTpmThinksIsIncomplete) {
    FifoModel model;
    model.always_expects = true;
    EXPECT_STREQ(failure_of(model).item, "TPM expects more than the command");
    EXPECT_TRUE(model.commands.empty());
}

TEST(FifoTpm, DoesNotStartACommandThatTheTpmThinksIsOver) {
    FifoModel model;
    model.never_expects = true;
    EXPECT_STREQ(failure_of(model).item, "TPM stops taking the command");
    EXPECT_TRUE(model.commands.empty());
}

TEST(FifoTpm, GivesUpOnAResponseThatIsShorterThanItsSize) {
    FifoModel model;
    model.lose_after = 100;
    const Failure failure = failure_of(model);
    EXPECT_EQ(failure.error, Error::kTimeout);
    EXPECT_STREQ(failure.item, "TPM response ends early");
}

TEST(FifoTpm, GivesUpOnAResponseThatIsLongerThanItsSize) {
    FifoModel model;
    model.answer = response_of_size(120, 100);
    const Failure failure = failure_of(model);
    EXPECT_EQ(failure.error, Error::kBadLength);
    EXPECT_STREQ(failure.item, "TPM response goes on after its size");
}

// --- CRB, misbehaving
// -----------------------------------------------------------------------------------------

TEST(CrbTpm, SaysThatThereIsLocalityZeroOnly) {
    CrbModel model;
    model.interface_id &= ~0x100u;
    TpmTransport transport(model);
    EXPECT_EQ(transport.open(2).error(), Error::kUnsupported);
    TpmTransport at_zero(model);
    EXPECT_TRUE(at_zero.open(0).ok());
    EXPECT_TRUE(transact(at_zero, command_of_size(20)).size.ok());
}

TEST(CrbTpm, TimesOutIfItNeverGetsReady) {
    CrbModel model;
    model.never_ready = true;
    EXPECT_STREQ(failure_of(model).item, "TPM does not get ready");
    model = CrbModel{};
    model.stays_idle = true;
    EXPECT_STREQ(failure_of(model).item, "TPM stays idle");
}

TEST(CrbTpm, ReportsAFatalErrorBeforeAndAfterACommand) {
    CrbModel model;
    model.fatal = true;
    EXPECT_EQ(failure_of(model).error, Error::kDeviceError);
    EXPECT_TRUE(model.commands.empty());
    CrbModel later;
    later.fatal_after = true;
    EXPECT_EQ(failure_of(later).error, Error::kDeviceError);
    EXPECT_EQ(later.commands.size(), 1u);
}

TEST(CrbTpm, RefusesBuffersOutsideOfItsRegisters) {
    for (const std::uint64_t address : {std::uint64_t{0x1000}, kTpmBase + 0x2000, kTpmBase + 0x2070, kTpmBase + 0x3000,
                                        kTpmBase + 0x1'0000'2080, ~std::uint64_t{0}}) {
        CrbModel command;
        command.command_address = address;
        EXPECT_EQ(failure_of(command).error, Error::kUnsupported) << address;
        EXPECT_TRUE(command.commands.empty());
        CrbModel response;
        response.response_address = address;
        EXPECT_EQ(failure_of(response).error, Error::kUnsupported) << address;
    }
}

TEST(CrbTpm, RefusesBuffersThatAreTooSmallOrReachBeyondTheRegisters) {
    CrbModel command;
    command.command_size = 99;
    EXPECT_EQ(failure_of(command).error, Error::kNoSpace);
    CrbModel response;
    response.response_size = 199;
    EXPECT_EQ(failure_of(response).error, Error::kNoSpace);
    CrbModel end;
    end.response_address = kTpmBase + 0x3000 - 100;
    EXPECT_EQ(failure_of(end).error, Error::kNoSpace);
}

}  // namespace
}  // namespace gatehouse::platform
