#include "attestation/agent/state_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "attestation/verifier/token.hpp"

namespace gatehouse::agent {
namespace {

using host::ToolError;
using Json = nlohmann::ordered_json;

host::Buffer bytes_of(const Json& json, const char* member) {
    auto bytes = verifier::from_base64(json.at(member).get<std::string>());
    if (!bytes) throw ToolError(std::string("state.json: ") + member + ": not base64");
    return std::move(*bytes);
}

}  // namespace

std::string to_json(const State& state) {
    Json json;
    json["endpoint_id"] = state.endpoint_id;
    json["trouble"] = state.trouble;
    if (state.pending) {
        json["pending"] = {{"id", state.pending->id},
                           {"credential_blob", verifier::base64(state.pending->credential_blob)},
                           {"encrypted_secret", verifier::base64(state.pending->encrypted_secret)},
                           {"activated", state.pending->activated}};
    }
    if (state.last) {
        json["last"] = {{"time", state.last->time},
                        {"verdict", state.last->verdict},
                        {"lease_until", state.last->lease_until},
                        {"failures", state.last->failures}};
    }
    // The texts are the server's: what is not UTF-8 in them must not keep the state from being written.
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

State parse_state(const std::string& text) try {
    const Json json = Json::parse(text);
    State state{.endpoint_id = json.at("endpoint_id"), .pending = {}, .last = {}, .trouble = json.at("trouble")};
    if (json.contains("pending")) {
        const Json& from = json.at("pending");
        state.pending = PendingEnrollment{.id = from.at("id"),
                                          .credential_blob = bytes_of(from, "credential_blob"),
                                          .encrypted_secret = bytes_of(from, "encrypted_secret"),
                                          .activated = from.at("activated")};
    }
    if (json.contains("last")) {
        const Json& from = json.at("last");
        state.last = LastAttestation{.time = from.at("time"),
                                     .verdict = from.at("verdict"),
                                     .lease_until = from.at("lease_until"),
                                     .failures = from.at("failures")};
    }
    return state;
} catch (const nlohmann::json::exception& error) {
    throw ToolError(std::string("state.json: ") + error.what() + "; remove it and enroll again");
}

StateDirectory::StateDirectory(std::string path) : path_(std::move(path)) {
    struct stat status {};
    if (stat(path_.c_str(), &status) != 0) {
        const std::filesystem::path parent = std::filesystem::path(path_).parent_path();
        std::error_code ignored;
        if (!parent.empty()) std::filesystem::create_directories(parent, ignored);
        if (mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST) {
            throw ToolError(path_ + ": cannot be made: " + std::strerror(errno));
        }
        if (stat(path_.c_str(), &status) != 0) throw ToolError(path_ + ": " + std::strerror(errno));
    }
    if (!S_ISDIR(status.st_mode)) throw ToolError(path_ + ": not a directory");
    if (status.st_uid != geteuid() || (status.st_mode & 077) != 0) {
        throw ToolError(path_ + ": holds a private key, but others may read it; chmod 0700, or another --state");
    }
}

host::File StateDirectory::lock() const {
    const std::string path = path_ + "/lock";
    host::File file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file.get() < 0) throw ToolError(path + ": " + std::strerror(errno));
    while (flock(file.get(), LOCK_EX) != 0) {
        if (errno != EINTR) throw ToolError(path + ": " + std::strerror(errno));
    }
    return file;
}

std::string to_keep(const protocol::ConnectionKey& key, const std::string& server) {
    return Json{{"server", server}, {"key", Json::parse(protocol::to_json(key))}}.dump();
}

std::optional<protocol::ConnectionKey> kept_connection_key(const std::string& text, const std::string& server) {
    const Json kept = Json::parse(text, nullptr, false);
    if (!kept.is_object() || !kept.contains("key") || kept.value("server", Json()) != server) return std::nullopt;
    try {
        return protocol::parse<protocol::ConnectionKey>(kept["key"].dump());
    } catch (const protocol::MessageError&) {
        return std::nullopt;
    }
}

State StateDirectory::state() const {
    const auto text = read("state.json");
    return text ? parse_state(*text) : State{};
}

void StateDirectory::save(const State& state) const { write("state.json", to_json(state)); }

std::optional<std::string> StateDirectory::read(const std::string& name) const {
    constexpr std::size_t kLimit = 1 << 20;
    const std::string path = path_ + "/" + name;
    if (!std::filesystem::exists(path)) return std::nullopt;
    const host::Buffer bytes = host::read_file(path, kLimit);
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void StateDirectory::write(const std::string& name, const std::string& content) const {
    host::replace_file(path_ + "/" + name, host::text_bytes(content), 0600);
}

void StateDirectory::remove(const std::string& name) const {
    std::error_code ignored;
    std::filesystem::remove(path_ + "/" + name, ignored);
}

}  // namespace gatehouse::agent
