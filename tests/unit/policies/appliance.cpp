#include "tests/unit/policies/appliance.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "keyvault/host_support/authority.hpp"
#include "keyvault/tpm/sealing.hpp"
#include "keyvault/volume_writer/gpt_check.hpp"
#include "policies/bundle_writer/bundle_writer.hpp"

namespace gatehouse::test {
namespace {

constexpr std::size_t kImageSize = std::size_t{40} << 20;
constexpr std::size_t kBootStart = std::size_t{2} << 20;
constexpr std::size_t kBootSize = std::size_t{24} << 20;
constexpr std::size_t kRootStart = kBootStart + kBootSize + (std::size_t{2} << 20);

// Bytes that look random and are the same each time.
Buffer pattern(const std::string& seed, std::size_t size) {
    Buffer bytes;
    for (std::uint64_t i = 0; bytes.size() < size; ++i) {
        std::array<std::byte, 8> number{};
        store(number.data(), i, Endian::kLittle);
        const Sha256Digest block = sha256({host::text_bytes(seed), number});
        bytes.insert(bytes.end(), block.begin(), block.end());
    }
    bytes.resize(size);
    return bytes;
}

struct Partition {
    volume::Guid type;
    std::size_t start;  // bytes
    std::size_t size;
    const char* name;
    unsigned number;  // of the entry, from 1; the vault's is not in the array's first 512-byte sector
};
constexpr volume::Guid kLinuxType{std::byte{0xaf}, std::byte{0x3d}, std::byte{0xc6}, std::byte{0x0f},
                                  std::byte{0x83}, std::byte{0x84}, std::byte{0x72}, std::byte{0x47},
                                  std::byte{0x8e}, std::byte{0x79}, std::byte{0x3d}, std::byte{0x69},
                                  std::byte{0xd8}, std::byte{0x47}, std::byte{0x7d}, std::byte{0xe4}};
constexpr std::array kPartitions{
    Partition{volume::kBiosBootPartitionType, 1 << 20, 1 << 20, "bios", 1},
    Partition{volume::kBootPartitionType, kBootStart, kBootSize, "gatehouse-boot", 2},
    Partition{volume::kVaultPartitionType, kBootStart + kBootSize, 2 << 20, "gatehouse-vault", 6},
    Partition{kLinuxType, kRootStart, kImageSize - kRootStart - (1 << 20), "root", 3}};

void put_at(int file, std::size_t offset, Bytes content) {
    if (::pwrite(file, content.data(), content.size(), static_cast<off_t>(offset)) !=
        static_cast<ssize_t>(content.size())) {
        throw std::runtime_error("image cannot be written");
    }
}

void run(const std::vector<std::string>& arguments, Bytes input = {}) {
    (void)host::run_program(arguments, input, 1 << 20);
}

std::string slurp(const std::string& path) {
    const Buffer content = host::read_file(path, 1 << 24);
    return {reinterpret_cast<const char*>(content.data()), content.size()};
}

}  // namespace

Outcome run_tool(const std::string& name, const std::vector<std::string>& arguments, std::size_t file_size_limit) {
    const Directory directory;
    const std::string program = std::string(GATEHOUSE_BIN) + "/" + name;
    const std::string output = directory.path() + "/output";
    const std::string errors = directory.path() + "/errors";
    std::vector<char*> argv{const_cast<char*>(program.c_str())};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    // Not fork(): to copy the page tables of a program under the sanitizers takes longer than many a tool.
    const pid_t child = ::vfork();
    if (child == 0) {
        ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
        ::dup2(::open(output.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
        ::dup2(::open(errors.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
        if (file_size_limit != 0) {
            const rlimit limit{file_size_limit, file_size_limit};
            ::setrlimit(RLIMIT_FSIZE, &limit);
        }
        ::execv(program.c_str(), argv.data());
        ::_exit(127);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(output), slurp(errors)};
}

Directory::Directory() {
    // In memory where that is possible: images are flushed, and a test need not wait for a disk.
    const bool in_memory = std::getenv("TMPDIR") == nullptr && ::access("/dev/shm", W_OK) == 0;
    path_ = (in_memory ? "/dev/shm" : std::filesystem::temp_directory_path().string()) + "/gatehouse-test-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("no temporary directory");
}
Directory::~Directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

Appliance::Appliance(const std::string& key_type) {
    std::filesystem::create_directory(files());
    make_key(key_type, authority_private());
    run({"openssl", "pkey", "-in", authority_private(), "-pubout", "-out", authority_public()});
    Buffer slb = pattern("slb", kSlbLength + 500);
    store(slb.data() + 2, static_cast<std::uint16_t>(kSlbLength), Endian::kLittle);
    write("slb.bin", slb);
    write("hypervisor.bin", pattern("hypervisor", 70'000));
    write("kernel", pattern("kernel", 300'001));
    write("initrd", pattern("initrd", 200'000));
    write("cmdline", literal_bytes("root=/dev/sda4 ro quiet\n"));
    make_key("EC", enrollment_private());
    run({"openssl", "pkey", "-in", enrollment_private(), "-pubout", "-out", enrollment_public()});
    make_bundle(srk_name(), vault_id());
}

Buffer Appliance::read(const std::string& file) const { return host::read_file(files() + "/" + file, 1 << 24); }
void Appliance::write(const std::string& file, Bytes content) const {
    host::replace_file(files() + "/" + file, content);
}

void Appliance::write_bundle(policies::Bundle bundle) const {
    const auto area = host::authority_public_area(host::read_public_key(authority_public()).get());
    bundle.counter_index = tpm::kRollbackCounter;
    bundle.authority = area.bytes();
    bundle.policy_ref = literal_bytes(kPolicyRef);
    Buffer file(policies::kMaxBundleSize);
    file.resize(host::expect(policies::write_bundle(bundle, file), "bundle"));
    write("policy.bundle", file);
}

void Appliance::make_bundle(Bytes srk_name, Bytes vault_id, std::uint32_t flags) const {
    write_bundle({.flags = flags,
                  .srk_name = srk_name,
                  .vault_id = vault_id,
                  .enrollment = {},
                  .authority = {},
                  .policy_ref = {}});
}

void Appliance::make_fleet_bundle(std::uint32_t flags) const {
    const Buffer point = host::p256_point(host::read_public_key(enrollment_public()).get(), "enrollment");
    write_bundle(
        {.flags = flags, .srk_name = {}, .vault_id = {}, .enrollment = point, .authority = {}, .policy_ref = {}});
}

void Appliance::make_image(std::size_t sector_size) const {
    std::filesystem::remove(image());
    const host::File file(::open(image().c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
    if (::ftruncate(file.get(), kImageSize) != 0) throw std::runtime_error("image");
    if (sector_size == 512) {
        make_table();
    } else {
        make_large_sector_table(file.get(), sector_size);
    }
    put_at(file.get(), kBootStart, boot_file_system(sector_size));
    const Buffer content = pattern("root", 1 << 20);
    put_at(file.get(), kRootStart, content);
    put_at(file.get(), kImageSize - (std::size_t{2} << 20), content);
}

void Appliance::make_table() const {
    const auto line = [&](const Partition& partition) {
        return "disk" + std::to_string(partition.number) + " : start=" + std::to_string(partition.start / 512) +
               ", size=" + std::to_string(partition.size / 512) + ", type=" + host::guid_text(partition.type) +
               ", name=\"" + partition.name + "\"\n";
    };
    std::string script = "label: gpt\n";
    for (const Partition& partition : kPartitions) script += line(partition);
    run({"sfdisk", "--quiet", image()}, host::text_bytes(script));
}

// sfdisk and sgdisk make tables of 512-byte sectors in files, whatever they are told.
void Appliance::make_large_sector_table(int file, std::size_t sector_size) {
    Buffer entries(volume::kGptMaxTableSize);
    for (const Partition& partition : kPartitions) {
        Writer writer(MutableBytes(entries).subspan((partition.number - 1) * volume::kGptEntrySize));
        writer.bytes(partition.type);
        writer.bytes(Bytes(sha256(host::text_bytes(partition.name))).first(16));
        writer.u64(partition.start / sector_size);
        writer.u64((partition.start + partition.size) / sector_size - 1);
        writer.u64(0);
        for (std::size_t i = 0; i < 36; ++i)
            writer.u16(i < std::strlen(partition.name) ? static_cast<std::uint16_t>(partition.name[i]) : 0);
    }
    const std::uint64_t last = kImageSize / sector_size - 1;
    const std::uint64_t table = entries.size() / sector_size;
    const auto put_copy = [&](std::uint64_t lba, std::uint64_t other, std::uint64_t entries_lba) {
        Buffer sector(sector_size);
        Writer header(sector);
        header.bytes(literal_bytes("EFI PART"));
        header.u32(0x00010000);
        header.u32(92);
        header.zeros(8);
        header.u64(lba);
        header.u64(other);
        header.u64(2 + table);
        header.u64(last - table - 1);
        header.bytes(Bytes(sha256(literal_bytes("disk"))).first(16));
        header.u64(entries_lba);
        header.u32(128);
        header.u32(128);
        header.u32(volume::crc32(entries));
        store(sector.data() + 16, volume::crc32(Bytes(sector).first(92)), Endian::kLittle);
        put_at(file, lba * sector_size, sector);
        put_at(file, entries_lba * sector_size, entries);
    };
    put_copy(1, last, 2);
    put_copy(last, 1, last - table);
}

Buffer Appliance::boot_file_system(std::size_t sector_size) const {
    const std::string fat = path("boot.fat");
    std::filesystem::remove(fat);
    run({"mkfs.fat", "-C", "-S", std::to_string(sector_size), "-n", "GATEHOUSE", fat,
         std::to_string(kBootSize / 1024)});
    run({"mmd", "-i", fat, "::/gatehouse"});
    for (const auto& entry : std::filesystem::directory_iterator(files())) {
        run({"mcopy", "-i", fat, entry.path().string(), "::/gatehouse/"});
    }
    return host::read_file(fat, kBootSize);
}

std::string Appliance::boot_drive() const { return image() + "@@" + std::to_string(kBootStart); }

Buffer Appliance::boot_file(const std::string& name) const {
    return host::run_program({"mcopy", "-i", boot_drive(), "::/gatehouse/" + name, "-"}, {}, 1 << 24);
}
void Appliance::put_boot_file(const std::string& name, Bytes content) const {
    run({"mcopy", "-D", "o", "-i", boot_drive(), "-", "::/gatehouse/" + name}, content);
}

Buffer srk_name() {
    Buffer name(policies::kNameSize, std::byte{0x5a});
    name[0] = std::byte{0x00};
    name[1] = std::byte{0x0b};
    return name;
}

void make_key(const std::string& type, const std::string& path) {
    std::vector<std::string> arguments{"openssl", "genpkey", "-quiet", "-out", path};
    if (type == "RSA") {
        arguments.insert(arguments.end(), {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"});
    } else {
        arguments.insert(arguments.end(), {"-algorithm", "EC", "-pkeyopt",
                                           "ec_paramgen_curve:" + (type == "EC" ? std::string("P-256") : type)});
    }
    run(arguments);
}

Buffer der_signature(Bytes r, Bytes s) {
    ECDSA_SIG* const numbers = ECDSA_SIG_new();
    ECDSA_SIG_set0(numbers, BN_bin2bn(raw(r), static_cast<int>(r.size()), nullptr),
                   BN_bin2bn(raw(s), static_cast<int>(s.size()), nullptr));
    unsigned char* encoded = nullptr;
    const int size = i2d_ECDSA_SIG(numbers, &encoded);
    ECDSA_SIG_free(numbers);
    const Bytes bytes = std::as_bytes(std::span(encoded, static_cast<std::size_t>(size)));
    Buffer der(bytes.begin(), bytes.end());
    OPENSSL_free(encoded);
    return der;
}

bool openssl_verifies(const std::string& public_key, Bytes message, Bytes signature) {
    const host::Key key = host::read_public_key(public_key);
    EVP_MD_CTX* const context = EVP_MD_CTX_new();
    const bool right = EVP_DigestVerifyInit(context, nullptr, EVP_sha256(), nullptr, key.get()) == 1 &&
                       EVP_DigestVerify(context, raw(signature), signature.size(), raw(message), message.size()) == 1;
    EVP_MD_CTX_free(context);
    return right;
}

Buffer vault_id() { return Buffer(kSha256Size, std::byte{0x5b}); }

Buffer launch_log(const policies::Prediction& prediction, Bytes vault_id, const std::vector<Table>& tables,
                  const evidence::MachineFacts& facts) {
    Buffer buffer(evidence::kEventLogSize);
    auto writer = evidence::EventLogWriter::create(buffer, policies::kPredictedBanks);
    EXPECT_TRUE(writer.ok());
    const auto digests = [](Bytes object) {
        std::vector<Digest> all;
        for (const HashAlgorithm bank : policies::kPredictedBanks) all.push_back(hash(bank, object));
        return all;
    };
    const auto measure_machine = [&] {
        EXPECT_TRUE(writer->append(evidence::kMachineMeasurement, digests(encoded(facts))).ok());
        for (const Table& table : tables) {
            const evidence::Measurement row{evidence::kMachinePcr, evidence::MeasurementTag::kAcpiTable, table.name};
            EXPECT_TRUE(writer->append(row, digests(host::text_bytes(table.content))).ok());
        }
    };
    for (const policies::ExpectedEvent& event : prediction.launch_events(vault_id)) {
        if (event.tag == 0) {
            EXPECT_TRUE(writer->append_cap(event.pcr, event.digests).ok());
            continue;
        }
        const evidence::Measurement row{event.pcr, static_cast<evidence::MeasurementTag>(event.tag), event.name};
        EXPECT_TRUE(writer->append(row, event.digests).ok());
        if (row.tag == evidence::MeasurementTag::kCommandLine) measure_machine();
    }
    EXPECT_TRUE(writer->append_cap(evidence::kMachinePcr, digests(evidence::kCapData)).ok());
    return {writer->log().begin(), writer->log().end()};
}

}  // namespace gatehouse::test
