#include "keyvault/tool/erase.hpp"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>

#include "keyvault/tool/partition_tables.hpp"
#include "keyvault/tool/signed_record.hpp"
#include "keyvault/tool/tpm_removal.hpp"
#include "keyvault/tool/vault_maker.hpp"
#include "keyvault/tool/vault_store.hpp"
#include "keyvault/tool/vault_wipe.hpp"
#include "keyvault/volume_writer/decryption.hpp"
#include "keyvault/volume_writer/peek.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::json;

// --- What is there

// The vault's disk and partition, by either table; two that differ are somebody's trick, or another disk's remains.
PartitionTable find_table(const BlockDevice& disk) {
    std::string why_not;
    const auto primary = try_partition_table(disk, volume::kPrimaryGptLba, why_not);
    const auto backup = try_partition_table(disk, disk.total_sectors() - 1, why_not);
    if (!primary && !backup) throw ToolError(why_not);
    if (primary && backup) {
        const volume::GptEntry one = primary->vault_partition();
        const volume::GptEntry other = backup->vault_partition();
        if (one.first != other.first || one.last != other.last) {
            throw ToolError(disk.path() +
                            ": its two partition tables have the vault at different places; overwrite the whole disk");
        }
    }
    return primary ? *primary : *backup;
}

unsigned percent_encrypted(const volume::Header& header) {
    const unsigned done = percent_done(header);
    if (volume::is_being_decrypted(header)) return 99 - std::min(done, 99u);  // at least
    // Of one that gets another key every sector is encrypted, with one or the other.
    return header.cursor.state == volume::CursorState::kChangingKey ? 100 : done;
}

// What the newer copy of the header claims. Nothing of it is authenticated; nothing is decided by it either.
json header_facts(const BlockDevice& disk, const PartitionTable& table) {
    json facts{{"disk", guid_text(table.header.disk)},
               {"vault_id", nullptr},
               {"label", nullptr},
               {"encrypted_percent", nullptr}};
    const volume::GptEntry vault = table.vault_partition();
    const std::uint64_t sectors = volume::kMaximumHeaderSize / disk.sector_size();
    std::uint64_t newest = 0;
    for (const std::uint64_t offset : volume::kCopyOffset) {
        const std::uint64_t first = offset / disk.sector_size();
        if (first + sectors > vault.count()) continue;
        const auto header = std::make_unique<volume::Header>();
        try {
            const Buffer copy = disk.read_sectors(vault.first + first, sectors);
            if (!volume::peek(copy, *header).ok() || header->generation <= newest) continue;
        } catch (const ToolError&) {
            continue;
        }
        newest = header->generation;
        facts["vault_id"] = hex(header->vault_id);
        facts["label"] = "endpoint-" + hex(Bytes(header->vault_id).first(4));
        facts["encrypted_percent"] = percent_encrypted(*header);
    }
    return facts;
}

// The facts as they were before a run that was cut, if they are of this disk and the header says nothing any more.
json facts_of_cut_run(json facts, const std::string& path) {
    if (!facts["vault_id"].is_null() || ::access(path.c_str(), R_OK) != 0) return facts;
    const Buffer text = read_file(path, 4096);
    const json before = json::parse(text.begin(), text.end(), nullptr, false);
    const bool same =
        before.is_object() && before.size() == facts.size() && before.value("disk", json()) == facts["disk"];
    return same ? before : facts;
}

// --- Asking

void announce(const EraseRequest& request, const json& facts, std::uint64_t bytes) {
    const bool known = !facts["vault_id"].is_null();
    std::cerr << "This destroys the keys of " << one_line(request.disk) << ", disk " << facts["disk"].get<std::string>()
              << ":\n  vault "
              << (known ? one_line(facts["vault_id"].get<std::string>())
                        : "of unknown id: it has no header that can be read")
              << ", " << bytes / 1024 << " KiB\n";
    std::cerr
        << (known
                ? "  All data that are encrypted under them become unreadable for ever.\n"
                : "  If data on the disk are encrypted under them, they become unreadable for ever; what is not, as after "
                  "`decrypt`, stays readable.\n");
    if (known && facts["encrypted_percent"] != 100) {
        std::cerr << "  But only " << facts["encrypted_percent"] << " % of it is encrypted: the rest stays readable. "
                  << "Overwrite the whole disk as well.\n";
    }
    if (request.tcti.empty()) {
        std::cerr << "  The TPM keeps what it has for this vault (--tcti removes it).\n";
    } else if (!request.keep_tpm) {
        std::cerr << "  The TPM's storage root key and rollback counter go as well.\n";
    }
}

// --- Doing

std::string utc_now() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    ::gmtime_r(&now, &parts);
    std::array<char, 32> text{};
    return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

json remove_from_tpm(const EraseRequest& request, bool& ok) {
    if (request.tcti.empty()) return nullptr;
    const TpmRemoval removal =
        remove_tpm_objects(request.tcti, request.owner_password, request.counter_index, request.keep_tpm);
    for (const RemovalResult& result : {removal.storage_root_key, removal.counter}) {
        ok = ok && result.what != Removal::kRefused;
    }
    return {{"storage_root_key", text_of(removal.storage_root_key)}, {"rollback_counter", text_of(removal.counter)}};
}

// What is left undone is said after the vault is gone, and can be done by the same command.
json remove_or_say_so(const EraseRequest& request, bool& ok) try {
    return remove_from_tpm(request, ok);
} catch (const ToolError& error) {
    throw ToolError(std::string(error.what()) + " (the vault is overwritten; give the same command again for the TPM)",
                    error.code());
}

}  // namespace

json erase(const EraseRequest& request, bool& ok, const Ask& ask) {
    const RecordFile record(request.record_out, request.sign_key);
    Disk disk(request.disk, Disk::Access::kWrite);
    const PartitionTable table = find_table(disk);
    const volume::GptEntry vault = table.vault_partition();
    const std::string begun = request.record_out + ".begun";
    json result = header_facts(disk, table);
    if (record.wanted()) result = facts_of_cut_run(std::move(result), begun);
    if (!request.tcti.empty())
        (void)remove_tpm_objects(request.tcti, request.owner_password, request.counter_index,
                                 true);  // it can be reached

    const std::uint64_t bytes = vault.count() * disk.sector_size();
    announce(request, result, bytes);
    const bool known = !result["vault_id"].is_null();
    confirm(disk, {request.yes, request.serial}, known ? "vault id" : "disk's GUID",
            result[known ? "vault_id" : "disk"].get<std::string>(), ask);
    if (record.wanted()) replace_file(begun, text_bytes(result.dump()));

    const json wiped = wipe_vault(disk, vault);
    ok = result["encrypted_percent"].is_null() || result["encrypted_percent"] == 100;
    result["device"] = request.disk;
    result.update(wiped);
    result["tpm"] = remove_or_say_so(request, ok);
    result["time"] = utc_now();
    if (record.wanted()) {
        record.write(result.dump(2) + "\n");
        ::unlink(begun.c_str());
    }
    return result;
}

}  // namespace gatehouse::host
