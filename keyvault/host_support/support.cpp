#include "keyvault/host_support/support.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>

#include "hypervisor/base/log.hpp"
#include "keyvault/host_support/text.hpp"

namespace gatehouse::host {
namespace {

[[noreturn]] void fail(const std::string& what) { throw ToolError(what + ": " + std::strerror(errno)); }

void write_all(int descriptor, Bytes content, const std::string& path) {
    while (!content.empty()) {
        const ssize_t written = ::write(descriptor, content.data(), content.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) fail(path + ": cannot be written");
        content = content.subspan(static_cast<std::size_t>(written));
    }
}

void write_and_flush(const File& file, Bytes content, const std::string& path) {
    write_all(file.get(), content, path);
    if (::fsync(file.get()) != 0) fail(path + ": cannot be flushed");
}

std::string directory_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

void flush_directory_of(const std::string& path) {
    const File directory(::open(directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory.get() < 0 || ::fsync(directory.get()) != 0) fail(path + ": its directory cannot be flushed");
}

struct Pipe {
    File read;
    File write;
};
Pipe make_pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
    return {File(ends[0]), File(ends[1])};
}

[[noreturn]] void become(const std::vector<std::string>& arguments, const int (&streams)[3], int inherited) {
    // Above the numbers that are given away, so that no dup2 overwrites a source.
    int sources[4];
    for (int i = 0; i < 3; ++i) sources[i] = ::fcntl(streams[i], F_DUPFD_CLOEXEC, 16);
    sources[3] = inherited < 0 ? -1 : ::fcntl(inherited, F_DUPFD_CLOEXEC, 16);
    for (int i = 0; i < 4; ++i) {
        if (sources[i] >= 0) ::dup2(sources[i], i);
    }
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
}

}  // namespace

std::string one_line(std::string_view text) {
    std::string line;
    line.reserve(text.size());
    while (!text.empty()) {
        const Character one = first_character(text);
        const std::string_view part = text.substr(0, std::max<std::size_t>(one.size, 1));
        if (one.size != 0 && !is_hidden(one.value)) {
            line += part;
        } else {
            for (const char& byte : part) line += "\\x" + hex(text_bytes({&byte, 1}));
        }
        text.remove_prefix(part.size());
    }
    return line;
}

int run_tool(const char* name, const std::function<ExitCode()>& body) {
    try {
        return static_cast<int>(body());
    } catch (const ToolError& error) {
        std::fprintf(stderr, "%s: %s\n", name, one_line(error.what()).c_str());
        return static_cast<int>(error.code());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", name, one_line(error.what()).c_str());
        return static_cast<int>(ExitCode::kFailure);
    }
}

std::string describe(const Failure& failure) {
    LogLine line;
    line << failure;
    return std::string(line.text());
}

void write_hex(Bytes bytes, MutableBytes out) {
    static constexpr char kDigits[] = "0123456789abcdef";
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        out[2 * i] = static_cast<std::byte>(kDigits[std::to_integer<unsigned>(bytes[i]) >> 4]);
        out[2 * i + 1] = static_cast<std::byte>(kDigits[std::to_integer<unsigned>(bytes[i]) & 0xf]);
    }
}

std::string hex(Bytes bytes) {
    std::string text(2 * bytes.size(), '0');
    write_hex(bytes, std::as_writable_bytes(std::span(text)));
    return text;
}

Buffer from_hex(std::string_view text, std::string_view item) {
    const auto digit = [&](char c) -> unsigned {
        if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
        if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
        if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A') + 10;
        throw ToolError(std::string(item) + ": not hexadecimal", ExitCode::kUsage);
    };
    if (text.size() % 2 != 0) throw ToolError(std::string(item) + ": odd number of hex digits", ExitCode::kUsage);
    Buffer bytes;
    bytes.reserve(text.size() / 2);
    for (std::size_t i = 0; i < text.size(); i += 2) {
        bytes.push_back(static_cast<std::byte>(digit(text[i]) << 4 | digit(text[i + 1])));
    }
    return bytes;
}

std::string guid_text(Bytes guid) {
    static constexpr std::size_t kOrder[] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    std::string text;
    for (std::size_t i = 0; i < std::size(kOrder); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        text += hex(guid.subspan(kOrder[i], 1));
    }
    return text;
}

File& File::operator=(File&& other) noexcept {
    if (this != &other) {
        close();
        descriptor_ = std::exchange(other.descriptor_, -1);
    }
    return *this;
}

void File::close() {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
}

Buffer read_file(const std::string& path, std::size_t limit) {
    const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) fail(path + ": cannot be opened");
    Buffer content;
    for (;;) {
        const std::size_t done = content.size();
        content.resize(std::min(limit + 1, done + std::max<std::size_t>(done, 64 * 1024)));
        const ssize_t got = ::read(file.get(), content.data() + done, content.size() - done);
        if (got < 0 && errno != EINTR) fail(path + ": cannot be read");
        content.resize(done + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
        if (got == 0) return content;
        if (content.size() > limit) throw ToolError(path + ": longer than " + std::to_string(limit) + " bytes");
    }
}

void create_file(const std::string& path, Bytes content, unsigned mode) {
    const File file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (file.get() < 0) fail(path + ": cannot be created");
    try {
        write_and_flush(file, content, path);
        flush_directory_of(path);
    } catch (...) {
        ::unlink(path.c_str());
        throw;
    }
}

Buffer read_line(const std::string& path, std::size_t limit) {
    Buffer text = read_file(path, limit);
    while (!text.empty() && (text.back() == std::byte{'\n'} || text.back() == std::byte{'\r'})) text.pop_back();
    return text;
}

void replace_file(const std::string& path, Bytes content, unsigned mode) {
    std::string temporary = path + ".XXXXXX";
    const File file(::mkostemp(temporary.data(), O_CLOEXEC));
    if (file.get() < 0) fail(path + ": cannot be created");
    try {
        if (::fchmod(file.get(), mode) != 0) fail(path + ": mode cannot be set");
        write_and_flush(file, content, path);
        if (::rename(temporary.c_str(), path.c_str()) != 0) fail(path + ": cannot be put in place");
    } catch (...) {
        ::unlink(temporary.c_str());
        throw;
    }
    flush_directory_of(path);
}

Buffer run_program(const std::vector<std::string>& arguments, Bytes input, std::size_t limit, int inherited) {
    Pipe in = make_pipe();
    Pipe out = make_pipe();
    Pipe errors = make_pipe();
    const pid_t child = ::fork();
    if (child < 0) fail(arguments[0] + ": cannot be started");
    if (child == 0) become(arguments, {in.read.get(), out.write.get(), errors.write.get()}, inherited);
    in.read.close();
    out.write.close();
    errors.write.close();

    Buffer output;
    std::string complaint;
    bool too_long = false;
    std::array<std::byte, 64 * 1024> part;
    struct sigaction ignore {};
    struct sigaction before {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGPIPE, &ignore, &before);
    if (input.empty()) in.write.close();
    while (out.read.get() >= 0 || errors.read.get() >= 0) {
        pollfd waits[] = {{out.read.get(), POLLIN, 0}, {errors.read.get(), POLLIN, 0}, {in.write.get(), POLLOUT, 0}};
        if (::poll(waits, 3, -1) < 0 && errno != EINTR) break;
        const auto drain = [&](const pollfd& wait, File& from, auto&& take) {
            if (wait.fd < 0 || wait.revents == 0) return;
            const ssize_t got = ::read(from.get(), part.data(), part.size());
            if (got > 0) take(Bytes(part).first(static_cast<std::size_t>(got)));
            if (got == 0 || (got < 0 && errno != EINTR)) from.close();
        };
        drain(waits[0], out.read, [&](Bytes bytes) {
            too_long = too_long || bytes.size() > limit - output.size();
            if (!too_long) output.insert(output.end(), bytes.begin(), bytes.end());
        });
        drain(waits[1], errors.read, [&](Bytes bytes) {
            const std::size_t room =
                std::min<std::size_t>(bytes.size(), 1000 - std::min<std::size_t>(1000, complaint.size()));
            complaint.append(reinterpret_cast<const char*>(bytes.data()), room);
        });
        if (waits[2].fd >= 0 && waits[2].revents != 0) {
            const ssize_t sent = ::write(in.write.get(), input.data(), std::min<std::size_t>(input.size(), PIPE_BUF));
            if (sent > 0) input = input.subspan(static_cast<std::size_t>(sent));
            if ((sent < 0 && errno != EINTR) || input.empty()) in.write.close();
        }
    }
    ::sigaction(SIGPIPE, &before, nullptr);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        throw ToolError(arguments[0] + ": cannot be run; is it installed?");
    }
    while (!complaint.empty() && complaint.back() == '\n') complaint.pop_back();
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw ToolError(arguments[0] + " failed: " + complaint);
    if (too_long) throw ToolError(arguments[0] + ": more than " + std::to_string(limit) + " bytes of output");
    return output;
}

Progress::Progress(std::string label, std::uint64_t total_bytes)
    : label_(std::move(label)), total_(total_bytes), terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
    if (terminal_ && shown_ >= 0) std::fputc('\n', stderr);
}

void Progress::at(std::uint64_t done_bytes) {
    if (!terminal_ || total_ == 0) return;
    const int percent = static_cast<int>(static_cast<double>(done_bytes) * 100.0 / static_cast<double>(total_));
    if (percent == shown_) return;
    shown_ = percent;
    std::fprintf(stderr, "\r%s: %3d%% of %llu MiB", label_.c_str(), percent,
                 static_cast<unsigned long long>(total_ >> 20));
    std::fflush(stderr);
}

}  // namespace gatehouse::host
