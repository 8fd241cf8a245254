// A mailbox that the hypervisor's own server answers, for a machine that is made up.
#pragma once

#include <functional>
#include <map>

#include "attestation/agent/mailbox_client.hpp"
#include "hypervisor/channel/server.hpp"

namespace gatehouse::agent {

class FakeSource final : public channel::Source {
  public:
    evidence::Claims claims() override {
        evidence::Claims made{.cpus = 4};
        made.storage_root.fill(std::byte{0x5a});
        made.vault_id = vault;
        return made;
    }
    Bytes log_text() override { return log; }
    Bytes event_log() override { return literal_bytes("event log"); }
    Result<Quote> quote(const Sha256Digest&) override {
        if (!has_key) return {Error::kState, "no key"};
        return Quote{literal_bytes("attest"), literal_bytes("signature"), literal_bytes("key")};
    }
    Result<std::size_t> endorsement(std::uint32_t handle, MutableBytes out) override {
        const auto item = items.find(handle);
        if (item == items.end()) return {Error::kNotFound, "item"};
        copy_bytes(out, item->second);
        return item->second.size();
    }
    Result<std::size_t> activate(std::uint32_t handle, Bytes credential, Bytes secret, MutableBytes out) override {
        activated = {handle, {credential.begin(), credential.end()}, {secret.begin(), secret.end()}};
        copy_bytes(out, literal_bytes("the secret"));
        return literal_bytes("the secret").size();
    }
    std::map<std::uint32_t, Buffer> items;
    struct {
        std::uint32_t handle = 0;
        Buffer credential, secret;
    } activated;
    Sha256Digest vault{};
    Buffer log = Buffer(150000, std::byte{'l'});
    bool has_key = true;
};

class ServedMailbox final : public MailboxPort {
  public:
    MutableBytes memory() override { return memory_; }
    void lock() override { locked = true; }
    void unlock() override { locked = false; }
    void ring() override {
        if (!locked) ++rings_unlocked;
        if (present) channel::serve(source, memory_);
        if (tamper) tamper(memory_);
    }
    FakeSource source;
    bool present = true;
    bool locked = false;
    unsigned rings_unlocked = 0;
    std::function<void(MutableBytes)> tamper;

  private:
    Buffer memory_ = Buffer(0x10000);
};

}  // namespace gatehouse::agent
