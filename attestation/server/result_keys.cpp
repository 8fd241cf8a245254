#include "attestation/server/result_keys.hpp"

#include "attestation/formats/jose.hpp"
#include "attestation/server/database/administration.hpp"
#include "attestation/server/service.hpp"

namespace gatehouse::server {
namespace {

constexpr std::size_t kTimeSize = 8;

std::string secret_name(std::size_t generation) {
    return generation == 0 ? "result key" : "result key " + std::to_string(generation + 1);
}

ResultKey result_key_of(Bytes der, Seconds made) {
    std::shared_ptr<EVP_PKEY> key = key_from_der(der);
    std::string id = formats::key_id(key.get());
    return {std::move(key), std::move(id), made};
}

}  // namespace

ResultKeys::ResultKeys(Database& database, const Sealer& sealer) : database_(database), sealer_(sealer) {
    Buffer first = shared_secret(database, sealer, secret_name(0), [] { return key_to_der(new_key().get()); });
    all_.push_back(result_key_of(first, 0));
    wipe(first);
    refresh();
}

std::vector<ResultKey> ResultKeys::read_from(std::size_t generation) {
    std::vector<ResultKey> found;
    while (true) {
        const std::string name = secret_name(generation++);
        std::optional<Buffer> sealed;
        database_.read([&](Session& session) { sealed = find_secret(session, name); });
        if (!sealed) return found;
        Buffer secret = sealer_.unseal(name, *sealed);
        if (secret.size() <= kTimeSize) throw host::ToolError("the database's secret \"" + name + "\" is cut short");
        const auto made = static_cast<Seconds>(load<std::uint64_t>(secret.data(), Endian::kBig));
        found.push_back(result_key_of(Bytes(secret).subspan(kTimeSize), made));
        wipe(secret);
    }
}

ResultKey ResultKeys::current() {
    const std::lock_guard lock(mutex_);
    return all_.back();
}

std::vector<std::shared_ptr<EVP_PKEY>> ResultKeys::published(Seconds now) {
    const std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<EVP_PKEY>> keys;
    for (std::size_t i = all_.size(); i-- > 0;) {
        const bool last = i + 1 == all_.size();
        if (last || now < all_[i + 1].made + kResultKeyOverlap) keys.push_back(all_[i].key);
    }
    return keys;
}

std::string ResultKeys::rotate(Session& session, Seconds now) {
    const std::lock_guard lock(mutex_);
    const std::string name = secret_name(all_.size());
    if (find_secret(session, name))
        throw ServiceError(409, "rotated", "the result key has just been rotated by another server");
    const Key key = new_key();
    Buffer der = key_to_der(key.get());
    Buffer secret(kTimeSize);
    store(secret.data(), static_cast<std::uint64_t>(now), Endian::kBig);
    secret.insert(secret.end(), der.begin(), der.end());
    add_secret(session, name, sealer_.seal(name, secret));
    wipe(der);
    wipe(secret);
    return formats::key_id(key.get());
}

void ResultKeys::refresh() {
    std::size_t known = 0;
    {
        const std::lock_guard lock(mutex_);
        known = all_.size();
    }
    const std::vector<ResultKey> found = read_from(known);
    const std::lock_guard lock(mutex_);
    if (all_.size() == known) all_.insert(all_.end(), found.begin(), found.end());
}

}  // namespace gatehouse::server
