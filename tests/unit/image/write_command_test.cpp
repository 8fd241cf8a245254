// `flash-appliance` as a user runs it, on loop devices: needs root, and losetup that works.
#include "image/flash/write_command.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/unit/image/fragile_target.hpp"
#include "tests/unit/policies/appliance.hpp"

namespace gatehouse::flash {
namespace {

using host::Buffer;
using host::ToolError;
using nlohmann::json;
using test::Outcome;
using testing::HasSubstr;

constexpr std::size_t kDiskSize = std::size_t{5} << 20;
constexpr std::size_t kLimit = std::size_t{64} << 20;

std::string text_of(const Buffer& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

Buffer noise(std::size_t size) {
    Buffer bytes(size);
    host::Sequence(99).fill(bytes);
    return bytes;
}

// A file as a disk.
class LoopDisk {
  public:
    LoopDisk(const std::string& file, const Buffer& content, const std::vector<std::string>& options = {})
        : LoopDisk((host::replace_file(file, content), file), options) {}
    // Over what is there.
    explicit LoopDisk(const std::string& file, const std::vector<std::string>& options = {}) : file_(file) {
        std::vector<std::string> command{"losetup", "--find", "--show"};
        command.insert(command.end(), options.begin(), options.end());
        command.push_back(file);
        try {
            path_ = text_of(host::run_program(command, {}, 4096));
        } catch (const ToolError& error) {
            throw std::runtime_error(std::string("this test needs root and loop devices: ") + error.what());
        }
        path_.pop_back();
    }
    ~LoopDisk() { (void)host::run_program({"losetup", "--detach", path_}, {}, 4096); }
    LoopDisk(const LoopDisk&) = delete;
    LoopDisk& operator=(const LoopDisk&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }
    // What is on the medium; the loop device writes to the file.
    [[nodiscard]] Buffer content() const { return host::read_file(file_, kLimit); }

  private:
    std::string file_;
    std::string path_;
};

class WriteCommand : public testing::Test {
  protected:
    WriteCommand() {
        for (const char* const who : {"authority", "other"}) {
            const std::string key = path(who) + ".pem";
            (void)host::run_program({"openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key}, {},
                                    4096);
            (void)host::run_program({"openssl", "ec", "-in", key, "-pubout", "-out", path(who) + ".pub"}, {}, 4096);
        }
        host::replace_file(image(), small_image());
        EXPECT_EQ(manifest({}).status, 0);
    }

    [[nodiscard]] std::string path(const std::string& name) const { return directory_.path() + "/" + name; }
    [[nodiscard]] std::string image() const { return path("image"); }
    [[nodiscard]] std::unique_ptr<LoopDisk> disk(const std::string& name, std::size_t size = kDiskSize,
                                                 const std::vector<std::string>& options = {}) const {
        return std::make_unique<LoopDisk>(path(name), noise(size), options);
    }
    [[nodiscard]] Outcome manifest(const std::vector<std::string>& more, const std::string& who = "authority") const {
        std::vector<std::string> arguments{"manifest", image(), "-o", path("manifest"), "--key", path(who) + ".pem"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return test::run_tool("flash-appliance", arguments);
    }
    [[nodiscard]] std::vector<std::string> arguments(const std::vector<std::string>& more) const {
        std::vector<std::string> all{"write",          image(),       "--manifest",
                                     path("manifest"), "--authority", path("authority.pub")};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    [[nodiscard]] Outcome write(const std::vector<std::string>& more) const {
        return test::run_tool("flash-appliance", arguments(more));
    }
    [[nodiscard]] WriteRequest request(const LoopDisk& target) const {
        return {.image = image(),
                .targets = {target.path()},
                .manifest = path("manifest"),
                .authority = path("authority.pub")};
    }
    // Refused with this, by this status, and nothing on the disk changed.
    void expect_refused(const LoopDisk& target, int status, const std::string& what,
                        const std::vector<std::string>& more = {"--yes"}) const {
        const Buffer before = target.content();
        std::vector<std::string> all{target.path()};
        all.insert(all.end(), more.begin(), more.end());
        const Outcome outcome = write(all);
        EXPECT_EQ(outcome.status, status) << outcome.errors;
        EXPECT_THAT(outcome.errors, HasSubstr(what));
        EXPECT_TRUE(target.content() == before) << what;
    }
    static void expect_right(const Buffer& content, std::size_t sector = 512) {
        const FragileTarget target(content, sector);
        const Buffer wanted = small_image(sector);
        const std::size_t front = 2 * sector + volume::kGptMaxTableSize;
        const std::size_t end = std::min(kImageSize, content.size() - volume::kGptMaxTableSize - sector);
        EXPECT_TRUE(equal_bytes(Bytes(content).subspan(front, end - front), Bytes(wanted).subspan(front, end - front)));
        EXPECT_NO_THROW((void)host::read_partition_tables(target));
    }

    test::Directory directory_;
};

TEST_F(WriteCommand, WritesSeveralDisksAtOnceAndTellsEventsAsJson) {
    const auto one = disk("one");
    const auto two = disk("two", kImageSize);
    const auto three = disk("three", kDiskSize + 512);
    const Outcome outcome = write({one->path(), two->path(), three->path(), "--yes", "--json"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_EQ(outcome.errors, "");
    std::map<std::string, json> done;
    std::istringstream lines(outcome.output);
    for (std::string line; std::getline(lines, line);) {
        const json event = json::parse(line);
        if (event["event"] == "done") done[event["subject"]] = event;
    }
    ASSERT_EQ(done.size(), 3u);
    std::set<std::string> guids;
    for (const LoopDisk* const each : {one.get(), two.get(), three.get()}) {
        expect_right(each->content());
        const FragileTarget target(each->content());
        EXPECT_EQ(done[each->path()]["disk"], host::guid_text(host::read_primary_table(target).header.disk));
        EXPECT_EQ(done[each->path()]["image"], host::hex(sha256(small_image())));
        guids.insert(done[each->path()]["disk"].get<std::string>());
    }
    EXPECT_EQ(guids.size(), 3u);
}

TEST_F(WriteCommand, TellsPhasesInPlainLinesWhereThereIsNoTerminal) {
    const auto target = disk("disk");
    const Outcome outcome = write({target->path(), "--yes"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_THAT(outcome.errors, HasSubstr(target->path() + ": verify 100 %"));
    EXPECT_THAT(outcome.output, HasSubstr(target->path() + ": done, read back and right: 3.0 MiB written"));
}

TEST_F(WriteCommand, FitsDisksOf4096ByteSectorsToImagesForThem) {
    const auto target = disk("disk", kDiskSize, {"--sector-size", "4096"});
    expect_refused(*target, 1, "refused: its sectors have 4096 bytes, and the image is made for 512");
    host::replace_file(image(), small_image(4096));
    ASSERT_EQ(manifest({}).status, 0);
    const Outcome outcome = write({target->path(), "--yes"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    expect_right(target->content(), 4096);
}

// --- Disks

TEST_F(WriteCommand, RefusesAMountedDisk) {
    const auto target = disk("disk");
    (void)host::run_program({"mkfs.ext4", "-q", "-F", target->path()}, {}, 4096);
    const std::string where = path("mounted");
    std::filesystem::create_directory(where);
    ASSERT_EQ(::mount(target->path().c_str(), where.c_str(), "ext4", MS_RDONLY, nullptr), 0) << std::strerror(errno);
    expect_refused(*target, 1, "refused: " + target->path().substr(5) + " is mounted at " + where);
    expect_refused(*target, 1, "is mounted at", {"--dry-run"});
    const Outcome listed = test::run_tool("flash-appliance", {"list", "--json"});
    ASSERT_EQ(::umount(where.c_str()), 0);
    EXPECT_THAT(listed.output, HasSubstr("is mounted at " + where));
}

// As a file system in another mount namespace does.
TEST_F(WriteCommand, RefusesADiskThatSomebodyHolds) {
    const auto target = disk("disk");
    const host::File held(::open(target->path().c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    ASSERT_GE(held.get(), 0);
    expect_refused(*target, 1, target->path() + ": refused: in use");
    expect_refused(*target, 1, target->path() + ": refused: in use", {"--dry-run"});
}

TEST_F(WriteCommand, RefusesReadOnlyAndSmallDisks) {
    expect_refused(*disk("disk", kDiskSize, {"--read-only"}), 1, "refused: is read-only");
    expect_refused(*disk("small", kImageSize - 512), 1, "refused: too small");
}

TEST_F(WriteCommand, RefusesWhatIsNoDiskAndTheSameTwice) {
    const auto target = disk("disk");
    expect_refused(*target, 2, target->path() + ": the same disk as " + target->path(), {target->path(), "--yes"});
    expect_refused(*target, 2, "a file, not a disk", {image(), "--yes"});
    expect_refused(*target, 2, "/dev/null: not a block device", {"/dev/null", "--yes"});
    expect_refused(*target, 2, "No such file", {"/dev/none", "--yes"});
}

// One file by two loop devices, a disk by a loop device over it, the image's own disk: Linux holds none of these apart.
TEST_F(WriteCommand, RefusesADiskByAnotherOfItsNames) {
    const auto target = disk("disk");
    const Buffer before = target->content();
    const LoopDisk over(target->path());
    EXPECT_THAT(write({over.path(), "--yes"}).errors, testing::Not(HasSubstr("the same disk"))) << "by itself it may";
    host::replace_file(path("before"), before);
    const Buffer written = target->content();
    expect_refused(*target, 1, target->path().substr(5) + " is held by " + over.path().substr(5));
    expect_refused(*target, 1, "is held by", {over.path(), "--yes"});
    const LoopDisk twin(path("disk"));
    expect_refused(twin, 1, "is over it as well");
    const LoopDisk of_image(image());
    expect_refused(of_image, 2, "the same disk as " + image());
    EXPECT_TRUE(target->content() == written);
}

TEST_F(WriteCommand, RefusesADiskWhoseLoopDeviceIsMounted) {
    const auto target = disk("disk");
    const LoopDisk over(target->path());
    (void)host::run_program({"mkfs.ext4", "-q", "-F", over.path()}, {}, 4096);
    const std::string where = path("mounted");
    std::filesystem::create_directory(where);
    ASSERT_EQ(::mount(over.path().c_str(), where.c_str(), "ext4", MS_RDONLY, nullptr), 0) << std::strerror(errno);
    expect_refused(*target, 1, over.path().substr(5) + " is mounted at " + where);
    EXPECT_THROW(host::Disk(target->path(), host::Disk::Access::kWrite), ToolError);
    EXPECT_THROW(host::Disk(path("disk"), host::Disk::Access::kWrite), ToolError);
    ASSERT_EQ(::umount(where.c_str()), 0);
}

// sealed-key's way to write to a disk.
TEST_F(WriteCommand, ADiskIsOneByTheFileAndByItsLoopDevice) {
    using enum host::Disk::Access;
    { const host::Disk alone(image(), kWrite); }
    const LoopDisk loop(image());
    EXPECT_THROW(host::Disk(image(), kWrite), ToolError);
    EXPECT_NO_THROW(host::Disk(image(), kRead));
    {
        const host::Disk by_device(loop.path(), kWrite);
        const host::File file(::open(image().c_str(), O_RDONLY | O_CLOEXEC));
        EXPECT_NE(::flock(file.get(), LOCK_EX | LOCK_NB), 0) << "whoever writes to the file is told";
    }
    const LoopDisk twin(image());
    EXPECT_THROW(host::Disk(loop.path(), kWrite), ToolError);
}

// Whatever machine this runs on.
TEST_F(WriteCommand, RefusesTheRunningSystemsDisk) {
    bool found = false;
    for (const DiskFacts& each : read_inventory().disks) {
        if (each.refusals.empty() || each.refusals.front() != "the running system is on it") continue;
        found = true;
        const Outcome outcome = write({each.path, "--dry-run"});
        EXPECT_EQ(outcome.status, 1);
        EXPECT_THAT(outcome.errors, HasSubstr("refused: the running system is on it"));
    }
    if (!found) std::cout << "note: / of this machine is on no disk that it shows\n";
}

// --- Manifests and images

TEST_F(WriteCommand, RefusesAnotherAuthoritysAnEndedAndABrokenManifest) {
    const auto target = disk("disk");
    ASSERT_EQ(manifest({}, "other").status, 0);
    expect_refused(*target, 1, "not signed by this authority");
    ASSERT_EQ(manifest({"--expires", "2020-02-29"}).status, 0);
    expect_refused(*target, 1, "ended at 2020-03-01T00:00:00Z");
    host::replace_file(path("manifest"), Buffer(50));
    expect_refused(*target, 3, "bad magic: flash manifest");
}

TEST_F(WriteCommand, RefusesAnImageThatIsNotTheManifests) {
    const auto target = disk("disk");
    Buffer changed = small_image();
    changed[kRootAt + 5] ^= std::byte{1};
    host::replace_file(image(), changed);
    expect_refused(*target, 1, "not the image of this manifest");
    changed.resize(changed.size() - 512);
    host::replace_file(image(), changed);
    expect_refused(*target, 1, "its manifest is of 3145728");
}

TEST_F(WriteCommand, MakesManifestsOfImagesOnly) {
    const Outcome outcome = manifest({"--release", "3", "--expires", "2099-12-31", "--json"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const json facts = json::parse(outcome.output);
    EXPECT_EQ(facts["release"], 3);
    EXPECT_EQ(facts["expires"], "2100-01-01T00:00:00Z");
    EXPECT_EQ(facts["image"], host::hex(sha256(small_image())));
    EXPECT_EQ(manifest({"--release", "0"}).status, 2);
    EXPECT_EQ(manifest({"--release", "-1"}).status, 2);
    EXPECT_EQ(manifest({"--expires", "soon"}).status, 2);
    EXPECT_EQ(manifest({"--expires", ""}).status, 2) << "an unset variable is no manifest that never ends";
    host::replace_file(image(), noise(kImageSize));
    EXPECT_EQ(manifest({}).status, 3);
}

// What is written over is a manifest, or nothing.
TEST_F(WriteCommand, PutsNoManifestInThePlaceOfAnythingElse) {
    host::replace_file(path("text"), host::text_bytes("somebody's"));
    std::filesystem::create_symlink(path("manifest"), path("link"));
    ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
    for (const char* const other : {"image", "authority.pem", "authority.pub", "text", "link", "pipe"}) {
        const auto contents = [&] {
            std::vector<Buffer> all;
            for (const char* const file : {"image", "authority.pem", "authority.pub", "text", "manifest"}) {
                all.push_back(host::read_file(path(file), kLimit));
            }
            return all;
        };
        const std::vector<Buffer> before = contents();
        const Outcome outcome = test::run_tool(
            "flash-appliance", {"manifest", image(), "-o", path(other), "--key", path("authority") + ".pem"});
        EXPECT_EQ(outcome.status, 2) << other << outcome.errors;
        EXPECT_THAT(outcome.errors, HasSubstr("choose another file to write to"));
        EXPECT_TRUE(contents() == before) << other;
    }
    EXPECT_TRUE(std::filesystem::is_symlink(path("link")) && std::filesystem::is_fifo(path("pipe")));
}

// --- Asking

TEST_F(WriteCommand, DryRunChangesNothing) {
    const auto target = disk("disk");
    const Buffer before = target->content();
    const Outcome outcome = write({target->path(), "--dry-run"});
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_THAT(outcome.output, HasSubstr(target->path() + ": would be written: 3.0 MiB of data"));
    EXPECT_TRUE(target->content() == before);
}

TEST_F(WriteCommand, AsksForTheSerialOrTheNameAndTakesNothingElse) {
    const auto target = disk("disk");
    const Buffer before = target->content();
    expect_refused(*target, 2, "standard input is not a terminal: confirm with --yes", {});
    for (const std::string wrong : {"", "y", "yes", "loop", "/dev/loop0"}) {
        const Ask ask = [&](const std::string&, std::string& answer) { return answer = wrong, true; };
        EXPECT_THROW((void)write_targets(request(*target), ask), ToolError) << wrong;
        EXPECT_TRUE(target->content() == before) << wrong;
    }
    std::string asked;
    EXPECT_EQ(write_targets(request(*target),
                            [&](const std::string& question, std::string& answer) {
                                asked = question;
                                answer = target->path().substr(5);
                                return true;
                            }),
              host::ExitCode::kYes);
    EXPECT_THAT(asked, HasSubstr(target->path() + " (no model, 5.0 MiB): all data on it will be lost."));
    expect_right(target->content());
}

// --- Cuts

// Runs the tool until it tells of this phase, and then closes what it tells to: it dies (SIGPIPE) as it tells the next but one,
// since a pipe of one page in packet mode holds a single event. Returns its status.
int run_until(const std::string& phase, const std::vector<std::string>& arguments) {
    int ends[2];
    if (::pipe2(ends, O_DIRECT | O_CLOEXEC) != 0 || ::fcntl(ends[1], F_SETPIPE_SZ, 4096) != 4096) return -1;
    const std::string program = std::string(GATEHOUSE_BIN) + "/flash-appliance";
    const pid_t child = ::fork();
    if (child == 0) {
        std::vector<char*> argv{const_cast<char*>(program.c_str())};
        for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
        argv.push_back(nullptr);
        ::dup2(ends[1], STDOUT_FILENO);
        ::signal(SIGPIPE, SIG_DFL);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    ::close(ends[1]);
    std::array<char, 4096> event{};
    for (ssize_t size = 1; size > 0;) {
        size = ::read(ends[0], event.data(), event.size());
        const std::string_view text(event.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
        if (text.find("\"phase\":\"" + phase) != std::string_view::npos) break;
    }
    ::close(ends[0]);
    int status = -1;
    ::waitpid(child, &status, 0);
    return status;
}

TEST_F(WriteCommand, GoesOnAfterItWasKilled) {
    const auto target = disk("disk");
    for (const std::string phase : {"clear", "write", "verify"}) {
        const int status = run_until(phase, arguments({target->path(), "--yes", "--json"}));
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE) << phase << " " << status;
        const FragileTarget cut(target->content());
        EXPECT_THROW((void)host::read_partition_tables(cut), ToolError) << phase;
        const Outcome outcome = write({target->path(), "--yes", "--resume"});
        ASSERT_EQ(outcome.status, 0) << outcome.errors;
        expect_right(target->content());
    }
}

// --- A disk as the library opens it

TEST_F(WriteCommand, OpensFilesForTestsOnlyAndNoOtherDeviceThanWasLookedAt) {
    EXPECT_THROW(DirectDisk(image(), DirectDisk::Access::kRead, 0), ToolError);
    DirectDisk file(image(), DirectDisk::Access::kWrite, 0, DirectDisk::Kinds::kFilesToo);
    EXPECT_EQ(file.total_sectors(), kImageSize / 512);
    file.zero(8, 2048 * 2);
    EXPECT_EQ(file.read_sectors(8, 4096), Buffer(4096 * 512));
    EXPECT_TRUE(equal_bytes(file.read_sectors(0, 8), Bytes(small_image()).first(8 * 512)));
    const auto target = disk("disk");
    EXPECT_THROW(DirectDisk(target->path(), DirectDisk::Access::kRead, device_number(8, 0)), ToolError);
}

TEST_F(WriteCommand, ZeroesALoopDevice) {
    const auto target = disk("disk");
    {
        DirectDisk direct(target->path(), DirectDisk::Access::kWrite, 0);
        direct.zero(16, 4096);
        direct.flush();
    }
    const Buffer now = target->content();
    EXPECT_TRUE(equal_bytes(Bytes(now).first(16 * 512), Bytes(noise(kDiskSize)).first(16 * 512)));
    EXPECT_TRUE(equal_bytes(Bytes(now).subspan(16 * 512, 4096 * 512), Buffer(4096 * 512)));
    EXPECT_TRUE(equal_bytes(Bytes(now).subspan(4112 * 512, 512), Bytes(noise(kDiskSize)).subspan(4112 * 512, 512)));
}

}  // namespace
}  // namespace gatehouse::flash
