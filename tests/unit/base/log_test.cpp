#include "hypervisor/base/log.hpp"

#include <gtest/gtest.h>

#include <string>

namespace gatehouse {
namespace {

std::string captured;  // NOLINT: the sink is a plain function

TEST(Log, ComposesTextNumbersAndFailures) {
    set_log_sink([](std::string_view line) { captured = line; });
    const std::array<std::byte, 2> bytes{std::byte{0xab}, std::byte{0x01}};
    log("a ", std::uint64_t{0}, " ", std::uint64_t{18446744073709551615u}, " ", Hex{0x1f0}, " ", HexBytes{bytes}, " ",
        Failure{Error::kBadMac, "vault header", 3});
    EXPECT_EQ(captured, "a 0 18446744073709551615 0x1f0 ab01 bad MAC: vault header (0x3)");
    set_log_sink(nullptr);
}

TEST(Log, CutsALineThatIsTooLong) {
    LogLine line;
    for (int i = 0; i < 100; ++i) line << "0123456789";
    EXPECT_EQ(line.text().size(), 240u);
}

}  // namespace
}  // namespace gatehouse
