#include "policies/policyctl/ata_policy.hpp"

#include <toml++/toml.h>

#include <array>
#include <charconv>
#include <map>
#include <set>

#include "ata/policy.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::policies {
namespace {

using host::ToolError;

// Opcode, subcommand, detail: as many as a row names.
using Code = std::vector<unsigned>;
constexpr unsigned kByteValues = 256;

constexpr unsigned kDataSet = 0x06, kReadLog = 0x2f, kReadLogDma = 0x47, kSmart = 0xb0, kSetFeatures = 0xef;
constexpr unsigned kPacketCommand = 0xa0, kIdentifyPacketDevice = 0xa1;

// How many further fields tell commands of one opcode apart.
unsigned further_fields(unsigned opcode) {
    if (opcode == kSmart || opcode == kSetFeatures) return 2;
    return opcode == kDataSet || opcode == kReadLog || opcode == kReadLogDma || opcode == kPacketCommand ? 1 : 0;
}

// A well-formed command with that code; the mediator decides on nothing else, ranges and regions apart.
ata::TaskFile task_of(const Code& code) {
    const auto field = [&](std::size_t i) { return i < code.size() ? code[i] : 0u; };
    ata::TaskFile task{.command = static_cast<std::uint8_t>(code[0]), .device = bits(ata::TaskBit::kLba), .count = 1};
    switch (code[0]) {
        case kReadLog:
        case kReadLogDma: task.lba = field(1); break;
        case kSmart:
            task.features = static_cast<std::uint16_t>(field(1));
            task.lba = 0xc24f00 | field(2);
            break;
        case kSetFeatures:
            task.features = static_cast<std::uint16_t>(field(1));
            task.count = static_cast<std::uint16_t>(field(2));
            break;
        case kPacketCommand: task.packet[0] = field(1); break;
        default: task.features = static_cast<std::uint16_t>(field(1));
    }
    return task;
}

// By the device that has it: no disk has those of packet devices.
ata::Command classified(const Code& code, bool trim) {
    const bool packet = code[0] == kPacketCommand || code[0] == kIdentifyPacketDevice;
    return ata::classify(task_of(code), trim, packet ? ata::kPacketDevice : ata::kDisk);
}

std::string effect_of(const ata::Command& command) {
    using enum ata::CommandKind;
    switch (command.kind) {
        case kMediaRead: return "passes, decrypted; the vault reads as zeros";
        case kMediaWrite: return "passes, encrypted; aborted whole if a sector of it is not the guest's to write";
        case kTrim: return "passes; aborted whole if a sector of it is not the guest's to write";
        case kPacket: return "passes to a packet device, its data as they are";
        case kDataIn: return command.filter == ata::Filter::kNone ? "passes" : "passes, the answer edited";
        case kNoData:
        case kReset: return "passes";
        case kRefused: break;
    }
    return "aborted";
}

std::string text_of(const Code& code) {
    std::string text;
    for (const unsigned field : code) {
        const auto byte = static_cast<std::byte>(field);
        text += (text.empty() ? "" : ".") + host::hex(Bytes(&byte, 1));
    }
    return text;
}

// The rows of one file while it is read.
class Reading {
  public:
    explicit Reading(std::string path) : path_(std::move(path)) {}

    AtaPolicy read(const toml::table& table) {
        for (const auto& [key, node] : table) {
            if (key.str() == "other_disks") {
                const std::string choice = text(node, "other_disks");
                if (choice != "absent" && choice != "read-only") throw wrong(node, "other_disks: absent or read-only");
                policy_.show_disks = choice == "read-only";
            } else if (key.str() == "class" && node.is_array_of_tables()) {
                for (const toml::node& row : *node.as_array()) read_class(*row.as_table());
            } else {
                throw wrong(node, std::string(key.str()) + ": no such key");
            }
        }
        if (!rows_.contains(Code{})) throw ToolError(path_ + ": no row \"*\"", host::ExitCode::kUsage);
        hold_against_mediator();
        return std::move(policy_);
    }

  private:
    struct Row {
        std::size_t number = 0;  // of its class
        bool allow = false;
        std::string name;
    };

    [[nodiscard]] ToolError wrong(const toml::node& node, const std::string& what) const {
        return ToolError(path_ + ":" + std::to_string(node.source().begin.line) + ": " + what, host::ExitCode::kUsage);
    }

    std::string text(const toml::node& node, const std::string& key) const {
        const auto value = node.value_exact<std::string>();
        if (!value || value->empty()) throw wrong(node, key + ": a text is wanted");
        return *value;
    }

    void read_class(const toml::table& row) {
        CommandClass result;
        std::optional<bool> allow;
        const toml::array* commands = nullptr;
        for (const auto& [key, node] : row) {
            if (key.str() == "name") {
                result.name = text(node, "name");
            } else if (key.str() == "why") {
                result.why = text(node, "why");
            } else if (key.str() == "allow") {
                allow = node.value_exact<bool>();
            } else if (key.str() == "commands") {
                commands = node.as_array();
            } else {
                throw wrong(node, std::string(key.str()) + ": no such key");
            }
        }
        if (result.name.empty() || result.why.empty() || !allow || commands == nullptr || commands->empty()) {
            throw wrong(row, "a class has name, allow (true, false), why and commands");
        }
        for (const toml::node& node : *commands) {
            const std::string command = text(node, "commands");
            const std::size_t space = command.find(' ');
            if (space == std::string::npos) throw wrong(node, command + ": CODE NAME is wanted");
            for (const Code& code : codes_of(node, command.substr(0, space))) {
                const Row entry{policy_.classes.size(), *allow, command.substr(space + 1)};
                if (!rows_.emplace(code, entry).second) throw wrong(node, text_of(code) + " is there twice");
            }
            result.commands.push_back(command);
        }
        policy_.classes.push_back(std::move(result));
    }

    // "b0.d4.00-02": three codes.
    std::vector<Code> codes_of(const toml::node& node, const std::string& written) const {
        if (written == "*") return {Code{}};
        Code code;
        std::optional<unsigned> last;
        const auto byte = [&](std::size_t at) {
            unsigned value = 0;
            const char* const end = written.data() + std::min(at + 2, written.size());
            const auto [stop, error] = std::from_chars(written.data() + std::min(at, written.size()), end, value, 16);
            if (error != std::errc() || stop != written.data() + at + 2) throw wrong(node, written + ": no code");
            return value;
        };
        std::size_t at = 0;
        for (;; ++at) {
            code.push_back(byte(at));
            at += 2;
            if (at == written.size() || written[at] != '.') break;
        }
        if (at < written.size() && written[at] == '-') last = byte(at + 1), at += 3;
        const bool fits = at == written.size() && code.size() <= 1 + further_fields(code[0]);
        if (!fits || last.value_or(code.back()) < code.back()) throw wrong(node, written + ": no code");
        std::vector<Code> codes;
        for (unsigned value = code.back(); value <= last.value_or(code.back()); ++value) {
            codes.push_back(code);
            codes.back().back() = value;
        }
        return codes;
    }

    [[nodiscard]] const Row& row_of(Code code) const {
        for (;; code.pop_back()) {
            if (const auto found = rows_.find(code); found != rows_.end()) return found->second;
        }
    }

    // Every command that there is: its row must say what the mediator does.
    void hold_against_mediator() {
        std::vector<std::set<std::string>> effects(policy_.classes.size());
        std::optional<bool> trim;
        const auto visit = [&](const Code& code) {
            const Row& row = row_of(code);
            const ata::Command command = classified(code, true);
            if (command.kind == ata::CommandKind::kTrim) {
                trim = row.allow;
            } else if (row.allow != (command.kind != ata::CommandKind::kRefused)) {
                throw ToolError(path_ + ": " + text_of(code) + " (" + row.name + ") is " +
                                    (row.allow ? "allowed there: no policy can allow it"
                                               : "refused there: only TRIM is left to the policy"),
                                host::ExitCode::kUsage);
            }
            effects[row.number].insert(effect_of(classified(code, row.allow)));
        };
        for (unsigned opcode = 0; opcode < kByteValues; ++opcode) {
            const unsigned further = further_fields(opcode);
            if (further == 0) visit({opcode});
            for (unsigned sub = 0; further != 0 && sub < kByteValues; ++sub) {
                if (further == 1) visit({opcode, sub});
                for (unsigned detail = 0; further == 2 && detail < kByteValues; ++detail) visit({opcode, sub, detail});
            }
        }
        policy_.trim = trim.value_or(false);
        for (std::size_t i = 0; i < effects.size(); ++i) {
            for (const std::string& effect : effects[i]) {
                policy_.classes[i].effect += (policy_.classes[i].effect.empty() ? "" : ", or ") + effect;
            }
        }
    }

    std::string path_;
    AtaPolicy policy_;
    std::map<Code, Row> rows_;
};

}  // namespace

AtaPolicy parse_ata_policy(std::string_view toml, const std::string& path) {
    try {
        return Reading(path).read(toml::parse(toml, path));
    } catch (const toml::parse_error& error) {
        throw ToolError(
            path + ":" + std::to_string(error.source().begin.line) + ": " + std::string(error.description()),
            host::ExitCode::kUsage);
    }
}

std::string as_markdown(const AtaPolicy& policy) {
    std::string text = "| class | commands (codes in hexadecimal) | what happens | why |\n|---|---|---|---|\n";
    for (const CommandClass& row : policy.classes) {
        std::string commands;
        for (const std::string& command : row.commands) {
            const std::size_t space = command.find(' ');
            commands += (commands.empty() ? "`" : ", `") + command.substr(0, space) + "`" + command.substr(space);
        }
        text += "| " + row.name + " | " + commands + " | " + row.effect + " | " + row.why + " |\n";
    }
    return text;
}

}  // namespace gatehouse::policies
