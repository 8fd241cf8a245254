// The launcher, with some of its steps in an attacker's hands.
#include "hypervisor/base/log.hpp"
#include "hypervisor/base/panic.hpp"
#include "hypervisor/launcher/console.hpp"
#include "tests/attacks/launcher/operations.hpp"

#define parse_multiboot attack::parse_multiboot
#define place attack::place
#define relinquish_tpm attack::relinquish_tpm
#define park_other_cpus attack::park_other_cpus
#define enable_svm attack::enable_svm
#include "hypervisor/launcher/main.cpp"
