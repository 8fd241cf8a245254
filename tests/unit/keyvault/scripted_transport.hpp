// Transports without a TPM behind them: one that plays a recorded conversation, possibly damaged, and one
// that keeps the commands that it is given and answers what the test wants.
#pragma once

#include <deque>

#include "tests/unit/keyvault/software_tpm.hpp"

namespace gatehouse::test {

// Answers with the given responses one after the other, and with an error code when there are no more.
class ScriptedTransport final : public tpm::Transport {
  public:
    Result<std::size_t> transmit(Bytes command, MutableBytes response) override {
        commands.emplace_back(command.begin(), command.end());
        Buffer answer = responses.empty() ? error_response(0x101) : responses.front();
        if (!responses.empty()) responses.pop_front();
        if (answer.size() > response.size()) return {Error::kNoSpace, "script", answer.size()};
        copy_bytes(response, answer);
        return answer.size();
    }
    void pause() override { ++pauses; }

    static Buffer error_response(std::uint32_t code) { return framed(0x8001, code, {}); }
    // A response with a right header around `body`.
    static Buffer framed(std::uint16_t tag, std::uint32_t code, Bytes body) {
        Buffer response(10 + body.size());
        Writer writer(response, Endian::kBig);
        writer.u16(tag);
        writer.u32(static_cast<std::uint32_t>(response.size()));
        writer.u32(code);
        writer.bytes(body);
        return response;
    }

    std::deque<Buffer> responses;
    std::vector<Buffer> commands;
    unsigned pauses = 0;
};

[[nodiscard]] inline Buffer operator+(Buffer left, Bytes right) {
    left.insert(left.end(), right.begin(), right.end());
    return left;
}

// Bytes from a list of integers.
template <typename... Integers>
[[nodiscard]] Buffer bytes_of(Integers... values) {
    return {static_cast<std::byte>(values)...};
}

}  // namespace gatehouse::test
