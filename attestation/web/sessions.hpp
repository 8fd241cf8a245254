// Who is logged in. Kept in memory: a restart logs everybody out, and several server processes behind one
// address need a load balancer that keeps a browser on one of them.
//
// A session's name is 32 random bytes, made at log-in and known to the browser alone: what is kept is its
// SHA-256. OWASP ASVS 4.0.3: 3.2.1 (new name at log-in), 3.3.1 (log-out), 3.3.2 (times), 3.7.1.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "attestation/server/database/records.hpp"

namespace gatehouse::web {

using server::Seconds;

inline constexpr Seconds kIdleLimit = 15 * 60;
inline constexpr Seconds kAbsoluteLimit = 8 * 3600;

// Text that is wiped when it goes.
class SecretText {
  public:
    SecretText() = default;
    explicit SecretText(std::string text) : text_(std::move(text)) {}
    SecretText(const SecretText&) = default;
    SecretText& operator=(const SecretText&) = default;
    ~SecretText();
    [[nodiscard]] const std::string& reveal() const { return text_; }

  private:
    std::string text_;
};

// What the next page says, once: that something was done, or a token that is shown this one time.
struct Notice {
    std::string text;
    std::string secret;
};

struct Session {
    std::string csrf;         // what each of its forms brings back
    SecretText token;         // what it was begun with: asked for anew at each request, so that a revoked token
                              // ends it at once; empty if it was a certificate
    std::string certificate;  // the principal's name, if it was a certificate
    Seconds begun = 0;
    Seconds used = 0;
    Notice notice;
};

// 32 random bytes, base64url.
[[nodiscard]] std::string random_name();

// Thread-safe.
class Sessions {
  public:
    static constexpr std::size_t kMost = 4096;  // past that, the one idle for longest ends

    // Its name, for the cookie.
    [[nodiscard]] std::string begin(const SecretText& token, std::string certificate, Seconds now);
    // A copy, with its notice, which is then gone if `take_notice`. `is_use`: the person did something, which
    // a page that renews itself is not.
    [[nodiscard]] std::optional<Session> find(const std::string& name, Seconds now, bool is_use, bool take_notice);
    void leave_notice(const std::string& name, Notice notice);
    void end(const std::string& name);
    [[nodiscard]] std::size_t count() const;

  private:
    mutable std::mutex mutex_;
    std::map<std::string, Session> sessions_;  // by SHA-256 of the name
};

// Counts failures by network: `kBurst` at once, one more each `kStep` seconds. Thread-safe, bounded.
class FailureLimit {
  public:
    static constexpr Seconds kStep = 30;
    static constexpr Seconds kBurst = 10;
    static constexpr std::size_t kMost = 8192;

    // Seconds to wait; 0: may try.
    [[nodiscard]] Seconds wait(const std::string& network, Seconds now);
    void failed(const std::string& network, Seconds now);

  private:
    std::mutex mutex_;
    std::map<std::string, Seconds> free_at_;  // when all of a network's failures are forgotten
};

}  // namespace gatehouse::web
