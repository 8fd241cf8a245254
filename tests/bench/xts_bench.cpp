// AES-256-XTS of ata/xts beside OpenSSL's: throughput by Google Benchmark, instructions by single steps.
//
// usage: xts-bench [Google Benchmark's options] | --instructions
//
// Benchmarks are named WHAT/DIRECTION/SECTOR/BYTES. WHAT is aes-ni or, on a CPU that has it, vaes (this project's),
// openssl-sectors (EVP, a data unit for each sector: the same ciphertext) or openssl-unit (EVP, all of it as one data
// unit: what it reaches at best). --instructions prints {WHAT: {SECTOR/BYTES: instructions for each 512 bytes}} as JSON.
#include <benchmark/benchmark.h>
#include <openssl/evp.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ata/xts/xts_vaes.hpp"

namespace gatehouse::bench {
namespace {

using ata::XtsKey;
using Direction = XtsKey::Direction;

constexpr std::uint64_t kLba = 0x12345678;

constexpr std::size_t kMaxStepped = 4096;  // a longer call takes seconds, and shows nothing else

struct Shape {
    std::uint32_t sector;
    std::size_t bytes;
    [[nodiscard]] std::string name() const { return std::to_string(sector) + "/" + std::to_string(bytes); }
};
constexpr Shape kShapes[] = {{512, 512}, {512, 4096}, {512, 65536}, {4096, 4096}, {4096, 65536}};

[[noreturn]] void fail(const std::string& why) {
    std::cerr << "xts-bench: " << why << "\n";
    std::exit(3);
}

std::array<std::byte, ata::kXtsKeySize> make_key() {
    std::array<std::byte, ata::kXtsKeySize> key{};
    for (std::size_t i = 0; i < key.size(); ++i) key[i] = static_cast<std::byte>(7 * i + 1);
    return key;
}

// Something that transforms `from` into `to`, both of the shape's length.
using Work = std::function<void(const std::byte* from, std::byte* to)>;

Work own(Direction direction, const Shape& shape, bool narrow) {
    auto key = std::make_shared<XtsKey>();
    if (!key->set(make_key(), narrow).ok()) fail("the key cannot be set");
    return [=](const std::byte* from, std::byte* to) {
        key->transform(direction, from, to, shape.bytes / shape.sector, shape.sector, kLba);
    };
}

Work openssl(Direction direction, const Shape& shape, std::size_t unit) {
    const std::shared_ptr<EVP_CIPHER_CTX> context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
    const auto key = make_key();
    if (EVP_CipherInit_ex(context.get(), EVP_aes_256_xts(), nullptr, reinterpret_cast<const unsigned char*>(key.data()),
                          nullptr, direction == Direction::kEncrypt ? 1 : 0) != 1) {
        fail("EVP_aes_256_xts");
    }
    return [=](const std::byte* from, std::byte* to) {
        std::uint64_t tweak[2] = {kLba * (shape.sector / ata::kTweakUnit), 0};
        for (std::size_t at = 0; at < shape.bytes; at += unit, tweak[0] += unit / ata::kTweakUnit) {
            int size = 0;
            // The key stays, the tweak is new.
            if (EVP_CipherInit_ex(context.get(), nullptr, nullptr, nullptr,
                                  reinterpret_cast<const unsigned char*>(tweak), -1) != 1 ||
                EVP_CipherUpdate(context.get(), reinterpret_cast<unsigned char*>(to + at), &size,
                                 reinterpret_cast<const unsigned char*>(from + at), static_cast<int>(unit)) != 1) {
                fail("EVP_CipherUpdate");
            }
        }
    };
}

struct Case {
    std::string what;
    Direction direction;
    Shape shape;
    Work work;
    [[nodiscard]] std::string name() const {
        return what + (direction == Direction::kEncrypt ? "/encrypt/" : "/decrypt/") + shape.name();
    }
};

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (const Shape& shape : kShapes) {
        for (const Direction direction : {Direction::kEncrypt, Direction::kDecrypt}) {
            cases.push_back({"aes-ni", direction, shape, own(direction, shape, true)});
            if (ata::can_use_vaes()) cases.push_back({"vaes", direction, shape, own(direction, shape, false)});
            cases.push_back({"openssl-sectors", direction, shape, openssl(direction, shape, shape.sector)});
            cases.push_back({"openssl-unit", direction, shape, openssl(direction, shape, shape.bytes)});
        }
    }
    return cases;
}

std::vector<std::byte> sample(std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 131 >> 3);
    return bytes;
}

// What is compared must be the same work.
void check_agreement(const std::vector<Case>& cases) {
    for (const Case& one : cases) {
        if (one.what == "openssl-unit") continue;
        const auto from = sample(one.shape.bytes);
        std::vector<std::byte> out(from.size()), expected(from.size());
        one.work(from.data(), out.data());
        openssl(one.direction, one.shape, one.shape.sector)(from.data(), expected.data());
        if (out != expected) fail(one.name() + " differs from OpenSSL");
    }
}

// Instructions that `work` takes, in a child that is stepped through its second call; the first has bound and paged in
// all there is.
long steps(const std::function<void()>& work) {
    const pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        work();
        if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(1);
        (void)raise(SIGSTOP);
        work();
        (void)raise(SIGUSR1);
        _exit(0);
    }
    int status = 0;
    long count = 0;
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) fail("a child cannot be traced");
    do {
        if (ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0) fail("PTRACE_SINGLESTEP");
        if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) fail("the traced child is gone");
        if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGUSR1) fail("the traced child faults");
        ++count;
    } while (WSTOPSIG(status) != SIGUSR1);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, &status, 0);
    return count;
}

void print_instructions(const std::vector<Case>& cases) {
    const long around = steps([] {});
    nlohmann::json figures;
    for (const Case& one : cases) {
        if (one.direction != Direction::kEncrypt || one.shape.bytes > kMaxStepped) continue;
        const auto from = sample(one.shape.bytes);
        std::vector<std::byte> out(from.size());
        const long count = steps([&] { one.work(from.data(), out.data()); }) - around;
        figures[one.what][one.shape.name()] =
            static_cast<double>(count) / (static_cast<double>(one.shape.bytes) / ata::kTweakUnit);
    }
    std::cout << figures.dump(2) << "\n";
}

}  // namespace
}  // namespace gatehouse::bench

int main(int argc, char** argv) {
    using namespace gatehouse::bench;
    const std::vector<Case> cases = all_cases();
    check_agreement(cases);
    if (argc == 2 && std::string(argv[1]) == "--instructions") {
        print_instructions(cases);
        return 0;
    }
    for (const Case& one : cases) {
        benchmark::RegisterBenchmark(one.name().c_str(), [&one](benchmark::State& state) {
            const auto from = sample(one.shape.bytes);
            std::vector<std::byte> out(from.size());
            for (auto _ : state) {
                one.work(from.data(), out.data());
                benchmark::ClobberMemory();
            }
            state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) *
                                    static_cast<std::int64_t>(one.shape.bytes));
        });
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
