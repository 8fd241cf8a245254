#include "keyvault/tool/boot_approval.hpp"

#include "keyvault/host_support/authority.hpp"
#include "keyvault/host_support/content.hpp"
#include "keyvault/tpm_templates/policy.hpp"
#include "keyvault/tpm_templates/templates.hpp"
#include "policies/prediction/predict.hpp"

namespace gatehouse::host {
namespace {

// "slb.bin", "hypervisor.bin, policy.bundle, kernel, initrd or cmdline": what is measured into a PCR.
std::string files_of(const policies::Prediction& prediction, std::uint32_t pcr) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < prediction.events.size(); ++i) {
        if (prediction.events[i].pcr == pcr) names.push_back(policies::measured_files()[i]);
    }
    std::string text = names.front();
    for (std::size_t i = 1; i < names.size(); ++i) text += (i + 1 == names.size() ? " or " : ", ") + names[i];
    return text;
}

std::string fault_of(const policies::Prediction& prediction, const policies::Approval& approval) {
    const auto value = [&](std::uint32_t pcr) {
        return as_sha256(prediction.sealing_value(HashAlgorithm::kSha256, pcr));
    };
    const policies::BundleFacts& bundle = prediction.bundle;
    const Sha256Digest policy =
        tpm::sealing_policy_digest(value(evidence::kLaunchPcr), value(evidence::kPayloadPcr),
                                   tpm::rollback_counter_name(bundle.counter_index), approval.counter_limit);
    if (policy != approval.policy_digest) {  // which is what the TPM looks at; the values beside it say why
        for (const auto& [pcr, approved] :
             {std::pair(evidence::kLaunchPcr, approval.pcr17), std::pair(evidence::kPayloadPcr, approval.pcr18)}) {
            if (value(pcr) != approved) return "the approval is of another " + files_of(prediction, pcr);
        }
        return "the approval is of another counter limit than it says, or of another rollback counter";
    }
    if (!verify_digest(authority_key(bundle.authority).get(), tpm::approval_digest(policy, bundle.policy_ref),
                       approval.signature)) {
        return "the approval is not signed by the authority that the policy bundle names";
    }
    return {};
}

}  // namespace

std::string approval_fault(const Disk& disk, const volume::GptEntry& boot, const policies::Approval& approval) try {
    return fault_of(policies::predict_boot_partition(disk, boot), approval);
} catch (const ToolError& error) {
    return std::string("what is measured cannot be told: ") + error.what();
}

}  // namespace gatehouse::host
