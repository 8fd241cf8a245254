#include "image/flash/write_command.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "image/flash/list_command.hpp"
#include "keyvault/host_support/ground.hpp"
#include "keyvault/tool/vault_maker.hpp"

namespace gatehouse::flash {
namespace {

using host::ExitCode;
using host::ToolError;
using nlohmann::json;

struct OpenTarget {
    DiskFacts facts;
    std::string path;  // as it was given
    std::unique_ptr<DirectDisk> disk;
};

// How one ended.
struct Outcome {
    std::optional<Flashed> flashed;
    std::string error;
    ExitCode code = ExitCode::kYes;
};

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void say(const json& event) { std::cout << event.dump(-1, ' ', false, json::error_handler_t::replace) << std::endl; }

[[noreturn]] void refuse_same(const std::string& path, const std::string& other) {
    throw ToolError(path + ": the same disk as " + other, ExitCode::kUsage);
}

[[noreturn]] void refuse_loop(const std::string& path, const std::string& loop) {
    throw ToolError(path + ": refused: " + loop + " is over it as well", ExitCode::kNo);
}

// Each looked at, and then held: from here on nobody mounts one.
std::vector<OpenTarget> open_targets(const WriteRequest& request, const Manifest& manifest) {
    const Inventory inventory = read_inventory();
    const auto access = request.dry_run ? DirectDisk::Access::kRead : DirectDisk::Access::kWrite;
    std::vector<OpenTarget> targets;
    // A file and a loop device over it are one.
    std::vector<std::pair<std::string, host::Ground>> used;
    for (const std::string& path : {request.image, request.manifest}) used.emplace_back(path, host::ground_of(path));
    for (const std::string& path : request.targets) {
        const DiskFacts& facts = require_target(inventory, path);
        const host::Ground ground = host::ground_of(path);
        for (const auto& [other, its] : used) {
            if (host::overlap(ground, its)) refuse_same(path, other);
        }
        if (const std::string loop = host::other_loop_over(ground); !loop.empty()) refuse_loop(path, loop);
        used.emplace_back(path, ground);
        targets.push_back({facts, path, std::make_unique<DirectDisk>(path, access, facts.device)});
        demand_fit(*targets.back().disk, manifest);
    }
    return targets;
}

void confirm(const OpenTarget& target, const Ask& ask) {
    const DiskFacts& disk = target.facts;
    const bool known = !disk.serial.empty();
    const std::string& wanted = known ? disk.serial : disk.name;
    std::string answer;
    const std::string question =
        host::one_line(target.path + " (" + (disk.model.empty() ? "no model" : disk.model) + ", " +
                       size_text(disk.size) + "): all data on it will be lost. To go on, type its " +
                       (known ? "serial number (" : "name, as it has no serial number (") + wanted + "): ");
    if (!ask(question, answer)) {
        throw ToolError("standard input is not a terminal: confirm with --yes (nothing has been changed)",
                        ExitCode::kUsage);
    }
    if (answer != wanted) throw ToolError(target.path + ": not confirmed; nothing has been changed", ExitCode::kUsage);
}

void tell_plan(const WriteRequest& request, const std::vector<OpenTarget>& targets, const Manifest& manifest) {
    for (const OpenTarget& target : targets) {
        if (request.as_json) {
            say({{"event", "plan"},
                 {"subject", target.path},
                 {"release", manifest.release},
                 {"bytes_to_write", manifest.mapped_bytes()},
                 {"bytes_to_zero", manifest.length - manifest.mapped_bytes()}});
        } else {
            std::cout << host::one_line(target.path) << ": would be written: " << size_text(manifest.mapped_bytes())
                      << " of data, " << size_text(manifest.length - manifest.mapped_bytes()) << " of zeros\n";
        }
    }
}

json event_of(const OpenTarget& target, const Outcome& outcome, const Manifest& manifest) {
    json event{{"event", outcome.flashed ? "done" : "failed"}, {"subject", target.path}};
    if (!outcome.flashed) {
        event["error"] = outcome.error;
        event["exit_status"] = static_cast<int>(outcome.code);
        return event;
    }
    event["disk"] = host::guid_text(outcome.flashed->disk);
    event["serial"] = target.facts.serial.empty() ? json() : json(target.facts.serial);
    event["image"] = host::hex(manifest.image);
    event["release"] = manifest.release;
    event["bytes_written"] = outcome.flashed->written;
    event["bytes_zeroed"] = outcome.flashed->zeroed;
    event["bytes_kept"] = outcome.flashed->kept;
    return event;
}

std::string words_of(const Outcome& outcome) {
    if (!outcome.flashed) return "failed: " + outcome.error;
    const Flashed& done = *outcome.flashed;
    return "done, read back and right: " + size_text(done.written) + " written, " + size_text(done.zeroed) +
           " zeroed, " + size_text(done.kept) + " right already; disk " + host::guid_text(done.disk);
}

Outcome flash_one(const host::BlockDevice& image, const Manifest& manifest, const OpenTarget& target, bool resume,
                  const Observer& observer) try {
    host::SystemRandom random;
    Outcome outcome;
    outcome.flashed = flash(image, manifest, *target.disk, resume, random, observer);
    target.disk->announce_partitions();
    return outcome;
} catch (const ToolError& error) {
    return {.flashed = {}, .error = error.what(), .code = error.code()};
} catch (const std::exception& error) {
    return {.flashed = {}, .error = target.path + ": " + error.what(), .code = ExitCode::kFailure};
}

// A thread for each; the slowest disk decides.
std::vector<Outcome> flash_all(const host::BlockDevice& image, const Manifest& manifest,
                               const std::vector<OpenTarget>& targets, bool resume, Reporter& reporter) {
    std::vector<Outcome> outcomes(targets.size());
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < targets.size(); ++i) {
        threads.emplace_back([&, i] {
            outcomes[i] = flash_one(image, manifest, targets[i], resume,
                                    [&, i](Phase phase, std::uint64_t done, std::uint64_t total) {
                                        reporter.at(i + 1, phase, done, total);
                                    });
            reporter.end(i + 1, outcomes[i].flashed ? "done" : "failed");
        });
    }
    threads.clear();  // joins
    return outcomes;
}

Style style_of(const WriteRequest& request) {
    if (request.as_json) return Style::kEvents;
    return ::isatty(STDERR_FILENO) == 1 ? Style::kTerminal : Style::kLines;
}

}  // namespace

ExitCode write_targets(const WriteRequest& request, const Ask& ask) {
    const host::Key authority = host::read_public_key(request.authority);
    const Manifest manifest =
        read_manifest(request.manifest, authority.get(), static_cast<std::uint64_t>(std::time(nullptr)));
    const host::Disk image(request.image, host::Disk::Access::kRead);
    const std::vector<OpenTarget> targets = open_targets(request, manifest);
    if (!request.yes && !request.dry_run) {
        for (const OpenTarget& target : targets) confirm(target, ask);
    }

    std::vector<std::string> subjects{request.image};
    for (const OpenTarget& target : targets) subjects.push_back(target.path);
    Reporter reporter(subjects, style_of(request), request.as_json ? std::cout : std::cerr, seconds_now);
    reporter.at(0, Phase::kCheck, 0, manifest.length);
    check_image(image, manifest, [&](std::uint64_t done) { reporter.at(0, Phase::kCheck, done, manifest.length); });
    (void)read_image_tables(image);
    if (request.dry_run) {
        tell_plan(request, targets, manifest);
        return ExitCode::kYes;
    }

    const std::vector<Outcome> outcomes = flash_all(image, manifest, targets, request.resume, reporter);
    ExitCode worst = ExitCode::kYes;
    for (std::size_t i = 0; i < targets.size(); ++i) {
        const Outcome& outcome = outcomes[i];
        worst = std::max(worst, outcome.code);
        if (request.as_json) say(event_of(targets[i], outcome, manifest));
        if (!outcome.flashed) {
            std::cerr << "flash-appliance: " << host::one_line(outcome.error) << "\n";
        } else if (!request.as_json) {
            std::cout << host::one_line(targets[i].path) << ": " << words_of(outcome) << "\n";
        }
    }
    return worst;
}

}  // namespace gatehouse::flash
