// flash-appliance: puts an appliance's disk image onto disks, and proves that it is there.
#include <iostream>
#include <nlohmann/json.hpp>

#include "image/flash/list_command.hpp"
#include "image/flash/write_command.hpp"
#include "keyvault/host_support/commands.hpp"
#include "keyvault/host_support/output.hpp"

namespace gatehouse::flash {
namespace {

using host::ExitCode;
using nlohmann::json;

// What others chose, a disk's model among it, may be no UTF-8.
std::string dumped(const json& value) { return value.dump(2, ' ', false, json::error_handler_t::replace); }

struct List {
    bool as_json = false;

    void add_to(CLI::App& command) {
        command.footer(
            "TARGET says why a disk may not be overwritten: what of it is mounted, swap, or held by a mapping or an array, "
            "that it is read-only, or that it is no disk of its own. Sizes of sectors are logical/physical, in bytes.");
        command.add_flag("--json", as_json, "print JSON");
    }
    [[nodiscard]] ExitCode run() const {
        const Inventory inventory = read_inventory();
        std::cout << (as_json ? dumped(to_json(inventory)) + "\n" : as_text(inventory));
        return ExitCode::kYes;
    }
};

struct MakeManifest {
    std::string image;
    std::string output;
    std::string key;
    std::uint64_t release = 0;
    std::string expires;
    bool as_json = false;
    const CLI::App* app = nullptr;

    void add_to(CLI::App& command) {
        app = &command;
        command.add_option("IMAGE", image, "the disk image, as image/build-appliance made it")->required();
        command.add_option("-o,--output", output, "the manifest")->required();
        command.add_option("--key", key, "the authority's private key, PEM")->required();
        command.add_option("--release", release, "the release's number, from 1")
            ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{INT64_MAX}));
        command.add_option("--expires", expires,
                           "last day on which it may be flashed (2027-01-31), or the moment from which on it may not "
                           "(2027-01-31T12:00:00Z); UTC");
        command.add_flag("--json", as_json, "print JSON");
    }
    [[nodiscard]] ExitCode run() const {
        host::demand_values(*app);
        const host::Key authority = host::read_private_key(key);
        const host::Disk disk(image, host::Disk::Access::kRead);
        const std::uint64_t end = expires.empty() ? 0 : parse_date(expires);
        host::Progress progress("manifest", disk.total_sectors() * disk.sector_size());
        Manifest manifest = describe_image(disk, kDefaultChunk, [&](std::uint64_t done) { progress.at(done); });
        manifest.release = release;
        manifest.expires = end;
        host::replace_like(output, sign_manifest(manifest, authority.get()), 8, {image, key});
        const json facts{{"image", host::hex(manifest.image)},
                         {"length", manifest.length},
                         {"sector_size", manifest.sector_size},
                         {"chunk_size", manifest.chunk_size},
                         {"mapped_bytes", manifest.mapped_bytes()},
                         {"release", release == 0 ? json() : json(release)},
                         {"expires", end == 0 ? json() : json(date_text(end))}};
        if (as_json) {
            std::cout << dumped(facts) << "\n";
        } else {
            std::cout << "image    " << host::hex(manifest.image) << "\nlength   " << size_text(manifest.length)
                      << ", of which " << size_text(manifest.mapped_bytes()) << " are to be written\nrelease  "
                      << (release == 0 ? "not said" : std::to_string(release)) << "\nexpires  "
                      << (end == 0 ? "never" : date_text(end)) << "\n";
        }
        return ExitCode::kYes;
    }
};

struct Write {
    WriteRequest request;

    void add_to(CLI::App& command) {
        command.footer(
            "Before anything is written the manifest's signature and end of validity, each target and the whole "
            "image are checked. Refused is a disk that is mounted, swap, held by something, read-only, too small, "
            "of other sectors than the image, or the running system's; so is a regular file (losetup makes a disk "
            "of it). Where the image has zeros the disk gets zeros; of what is behind the image's end only the "
            "disk's last MiB is changed. All of it is read back from the medium and held against the manifest "
            "before the disk gets its partition table, with GUIDs of its own and fitted to its size: a disk that "
            "was cut does not boot, and the same command with --resume goes on. An image whose vault has been made "
            "is refused: provision the disk.\n"
            "--json prints one event a line: progress {subject, phase, done, total, bytes_per_second, seconds_left}, with phase "
            "check, clear, write, verify or tables; done {subject, disk, serial, image, release, bytes_written, bytes_zeroed, "
            "bytes_kept}; failed {subject, error, exit_status}; plan {subject, release, bytes_to_write, bytes_to_zero} of --dry-run.");
        command.add_option("IMAGE", request.image, "the disk image")->required();
        command.add_option("TARGET", request.targets, "the disks: block devices, all written at once")->required();
        command.add_option("--manifest", request.manifest, "what flash-appliance manifest wrote")->required();
        command
            .add_option("--authority", request.authority,
                        "the policy authority's public key, PEM: who must have signed it")
            ->required();
        command.add_flag("--dry-run", request.dry_run, "check all of it, say what would be written; change nothing");
        command.add_flag("--yes", request.yes, "do not ask for each disk's serial number");
        command.add_flag("--resume", request.resume, "go on after a cut: what is right on a disk is not written again");
        command.add_flag("--json", request.as_json, "print events, JSON");
    }
    [[nodiscard]] ExitCode run() const { return write_targets(request); }
};

ExitCode run(int argc, char** argv) {
    host::Commands commands(
        "Puts an appliance's disk image onto disks, and proves that it is there. Exit status: 0 done, 1 no (write: a disk, an "
        "image or a manifest is refused), 2 usage, 3 failure.",
        "flash-appliance");
    List list;
    MakeManifest manifest;
    Write write;
    commands.add("list", "the disks of this machine, and which may be overwritten", list);
    commands.add("manifest", "say as the policy authority what the bytes of an image are", manifest);
    commands.add("write",
                 "put an image onto disks and read it back; a cut at any moment leaves none that boots wrongly", write);
    return commands.run(argc, argv);
}

}  // namespace
}  // namespace gatehouse::flash

int main(int argc, char** argv) {
    return gatehouse::host::run_tool("flash-appliance", [&] { return gatehouse::flash::run(argc, argv); });
}
