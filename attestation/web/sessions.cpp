#include "attestation/web/sessions.hpp"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "attestation/verifier/token.hpp"
#include "hypervisor/base/hash.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::web {
namespace {

std::string key_of(const std::string& name) { return host::hex(sha256(host::text_bytes(name))); }

bool is_over(const Session& session, Seconds now) {
    return now - session.used >= kIdleLimit || now - session.begun >= kAbsoluteLimit;
}

}  // namespace

SecretText::~SecretText() { OPENSSL_cleanse(text_.data(), text_.size()); }

std::string random_name() {
    std::array<std::byte, 32> bytes{};
    if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size())) != 1)
        throw host::ToolError("no random numbers");
    return verifier::base64url(bytes);
}

std::string Sessions::begin(const SecretText& token, std::string certificate, Seconds now) {
    std::string name = random_name();
    Session session{.csrf = random_name(),
                    .token = token,
                    .certificate = std::move(certificate),
                    .begun = now,
                    .used = now,
                    .notice = {}};
    const std::lock_guard lock(mutex_);
    if (sessions_.size() >= kMost)
        std::erase_if(sessions_, [now](const auto& one) { return is_over(one.second, now); });
    if (sessions_.size() >= kMost) {
        sessions_.erase(std::ranges::min_element(sessions_, {}, [](const auto& one) { return one.second.used; }));
    }
    sessions_.emplace(key_of(name), std::move(session));
    return name;
}

std::optional<Session> Sessions::find(const std::string& name, Seconds now, bool is_use, bool take_notice) {
    const std::lock_guard lock(mutex_);
    const auto found = sessions_.find(key_of(name));
    if (found == sessions_.end()) return std::nullopt;
    if (is_over(found->second, now)) {
        sessions_.erase(found);
        return std::nullopt;
    }
    if (is_use) found->second.used = std::max(found->second.used, now);
    Session copy = found->second;
    if (take_notice) found->second.notice = {};
    return copy;
}

void Sessions::leave_notice(const std::string& name, Notice notice) {
    const std::lock_guard lock(mutex_);
    if (const auto found = sessions_.find(key_of(name)); found != sessions_.end())
        found->second.notice = std::move(notice);
}

void Sessions::end(const std::string& name) {
    const std::lock_guard lock(mutex_);
    sessions_.erase(key_of(name));
}

std::size_t Sessions::count() const {
    const std::lock_guard lock(mutex_);
    return sessions_.size();
}

Seconds FailureLimit::wait(const std::string& network, Seconds now) {
    const std::lock_guard lock(mutex_);
    const auto found = free_at_.find(network);
    if (found == free_at_.end()) return 0;
    return std::max<Seconds>(0, found->second - now - (kBurst - 1) * kStep);
}

void FailureLimit::failed(const std::string& network, Seconds now) {
    const std::lock_guard lock(mutex_);
    if (free_at_.size() >= kMost) std::erase_if(free_at_, [now](const auto& one) { return one.second <= now; });
    if (free_at_.size() >= kMost) {
        free_at_.erase(std::ranges::min_element(free_at_, {}, [](const auto& one) { return one.second; }));
    }
    Seconds& at = free_at_[network];
    at = std::max(at, now) + kStep;
}

}  // namespace gatehouse::web
