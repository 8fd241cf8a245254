// main() for a fuzz target where there is no libFuzzer: runs it on the files given and on those in the
// directories given, then on -runs=N inputs (-seed=S): changes of what was read, or noise if nothing was.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;
constexpr std::size_t kMaxInput = 1 << 16;

std::vector<Input> corpus;

bool read(const std::filesystem::path& path) {
    std::vector<std::filesystem::path> files{path};
    if (std::filesystem::is_directory(path)) {
        files.clear();
        for (const auto& entry : std::filesystem::directory_iterator(path)) files.push_back(entry.path());
        std::ranges::sort(files);
    }
    for (const auto& one : files) {
        std::ifstream file(one, std::ios::binary);
        if (!file) return false;
        corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
    return true;
}

class Mutator {
  public:
    explicit Mutator(unsigned long seed) : generator_(seed) {}

    Input next() {
        if (corpus.empty()) return noise();
        Input input = corpus[below(corpus.size())];
        const std::size_t changes = std::size_t{1} << below(5);
        for (std::size_t i = 0; i < changes; ++i) change(input);
        if (input.size() > kMaxInput) input.resize(kMaxInput);
        return input;
    }

  private:
    std::size_t below(std::size_t bound) { return bound == 0 ? 0 : generator_() % bound; }

    void change(Input& input) {
        const std::size_t at = below(input.size());
        const auto place = input.begin() + static_cast<std::ptrdiff_t>(at);
        const std::size_t size = std::min(input.size() - at, below(32) + 1);
        const auto end = place + static_cast<std::ptrdiff_t>(size);
        switch (input.empty() ? 4 : below(8)) {
            case 0: input[at] ^= static_cast<std::uint8_t>(1u << below(8)); break;
            case 1: input[at] = static_cast<std::uint8_t>(generator_()); break;
            case 2: {  // what lengths and counts go wrong at
                constexpr std::uint8_t kEdges[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
                std::fill(place, place + static_cast<std::ptrdiff_t>(std::min<std::size_t>(size, below(4) + 1)),
                          kEdges[below(5)]);
                break;
            }
            case 3: input.erase(place, end); break;
            case 4: input.insert(place, below(16) + 1, static_cast<std::uint8_t>(generator_())); break;
            case 5: {  // some of it again
                const Input part(place, end);
                input.insert(input.begin() + static_cast<std::ptrdiff_t>(below(input.size())), part.begin(),
                             part.end());
                break;
            }
            case 6: {  // the end of another
                const Input& other = corpus[below(corpus.size())];
                input.erase(place, input.end());
                input.insert(input.end(), other.begin() + static_cast<std::ptrdiff_t>(below(other.size())),
                             other.end());
                break;
            }
            default: input.erase(place, input.end()); break;
        }
    }

    Input noise() {
        Input input(generator_() % 2048);
        // Mostly small numbers: what lengths and counts are made of.
        const bool small = ++runs_ % 2 == 0;
        for (std::uint8_t& byte : input) {
            const auto value = generator_();
            byte = static_cast<std::uint8_t>(small && value % 4 != 0 ? (value >> 8) % 4 : value >> 8);
        }
        return input;
    }

    std::mt19937 generator_;
    unsigned long runs_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    unsigned long runs = 0;
    unsigned long seed = 1;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        if (argument.starts_with("-runs=")) {
            runs = std::stoul(argument.substr(6));
        } else if (argument.starts_with("-seed=")) {
            seed = std::stoul(argument.substr(6));
        } else if (!read(argument)) {
            std::cerr << "error: " << argument << ": cannot be read\n";
            return 3;
        }
    }
    for (const Input& input : corpus) LLVMFuzzerTestOneInput(input.data(), input.size());
    Mutator mutator(seed);
    for (unsigned long run = 0; run < runs; ++run) {
        const Input input = mutator.next();
        LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    return 0;
}
