/* A plugin of the emulator: how many instructions a machine executes between two markers (marker.h), how many of them
   are the hypervisor's, how often it enters its guest, and how often a processor waits.

     -plugin libcounter.so,out=FILE,first=ADDRESS,last=ADDRESS[,profile=on][,launch=on]

   Code at first <= address < last is the hypervisor's; no other program of the machine may have code there. One line of
   FILE for each marker that is executed, all numbers since the start of the machine and of all processors:

     begin|end INSTRUCTIONS HYPERVISOR_INSTRUCTIONS VMRUNS HALTS NANOSECONDS

   The time is the processor time of all of the emulator's threads, without what they wait for neighbours on the host.

   With profile=on, each "end" is followed by what the hypervisor executed since the "begin", by block of code:

     block ADDRESS INSTRUCTIONS

   With launch=on, SKINIT is a "begin", and the first VMRUN an "end".

   Instructions are counted by blocks, as a block begins: of one that faults in its midst, those after the fault are
   counted too, and again when it goes on.. */
#include <qemu-plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/bench/marker.h"

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

struct Counters {
    uint64_t instructions;
    uint64_t hypervisor;
    uint64_t vmruns;
    uint64_t halts;
};

/* A block of the hypervisor. It is kept when the emulator forgets its translation, and found again by what it is. */
struct Block {
    uint64_t address;
    uint64_t length; /* instructions */
    uint64_t executed;
};

static struct qemu_plugin_scoreboard* counters;
static qemu_plugin_u64 instructions, hypervisor, vmruns, halts;
static uint64_t first_address, last_address;
static bool profiled, launches;
static FILE* out;
static GMutex lock; /* over the table and the file */
static GHashTable* blocks;

static guint hash_of(gconstpointer pointer) {
    const struct Block* block = pointer;
    return (guint)(block->address * 31 + block->length);
}

static gboolean same(gconstpointer left, gconstpointer right) {
    const struct Block *one = left, *other = right;
    return one->address == other->address && one->length == other->length;
}

static void forget(gpointer key, gpointer value, gpointer data) {
    (void)key, (void)data;
    ((struct Block*)value)->executed = 0;
}

static void print(gpointer key, gpointer value, gpointer data) {
    (void)key, (void)data;
    const struct Block* block = value;
    if (block->executed != 0)
        fprintf(out, "block %" PRIx64 " %" PRIu64 "\n", block->address, block->executed * block->length);
}

static void on_marker(unsigned int cpu, void* data) {
    (void)cpu;
    static bool entered; /* with launch=on, whose machine has one processor: the guest */
    if (launches && GPOINTER_TO_SIZE(data) == MARKER_END && entered) return;
    entered = entered || GPOINTER_TO_SIZE(data) == MARKER_END;
    const bool begins = GPOINTER_TO_SIZE(data) == MARKER_BEGIN;
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    g_mutex_lock(&lock);
    fprintf(out, "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", begins ? "begin" : "end",
            qemu_plugin_u64_sum(instructions), qemu_plugin_u64_sum(hypervisor), qemu_plugin_u64_sum(vmruns),
            qemu_plugin_u64_sum(halts), (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec);
    if (profiled) g_hash_table_foreach(blocks, begins ? forget : print, NULL);
    fflush(out);
    g_mutex_unlock(&lock);
}

/* One processor at a time executes code of a profiled machine (disk.py gives it one): no lock for each block. */
static void on_block(unsigned int cpu, void* data) {
    (void)cpu;
    ++((struct Block*)data)->executed;
}

static struct Block* block_of(uint64_t address, uint64_t length) {
    const struct Block wanted = {address, length, 0};
    g_mutex_lock(&lock);
    struct Block* block = g_hash_table_lookup(blocks, &wanted);
    if (block == NULL) {
        block = g_new(struct Block, 1);
        *block = wanted;
        g_hash_table_insert(blocks, block, block);
    }
    g_mutex_unlock(&lock);
    return block;
}

static void look_at(struct qemu_plugin_insn* instruction) {
    static const uint8_t kVmrun[] = {0x0f, 0x01, 0xd8};
    static const uint8_t kSkinit[] = {0x0f, 0x01, 0xde};
    static const uint8_t kMarker[] = {0x0f, 0x1f, 0x84, 0x00};
    static const uint8_t kHlt = 0xf4;
    uint8_t bytes[8];
    const size_t size = qemu_plugin_insn_data(instruction, bytes, sizeof(bytes));
    if (size == sizeof(kVmrun) && memcmp(bytes, kVmrun, sizeof(kVmrun)) == 0) {
        qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(instruction, QEMU_PLUGIN_INLINE_ADD_U64, vmruns, 1);
        if (launches)
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_marker, QEMU_PLUGIN_CB_NO_REGS,
                                                   GSIZE_TO_POINTER(MARKER_END));
    } else if (launches && size == sizeof(kSkinit) && memcmp(bytes, kSkinit, sizeof(kSkinit)) == 0) {
        qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_marker, QEMU_PLUGIN_CB_NO_REGS,
                                               GSIZE_TO_POINTER(MARKER_BEGIN));
    } else if (size == 1 && bytes[0] == kHlt) {
        qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(instruction, QEMU_PLUGIN_INLINE_ADD_U64, halts, 1);
    } else if (size == sizeof(bytes) && memcmp(bytes, kMarker, sizeof(kMarker)) == 0) {
        uint32_t displacement;
        memcpy(&displacement, bytes + sizeof(kMarker), sizeof(displacement));
        if (displacement == MARKER_BEGIN || displacement == MARKER_END)
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_marker, QEMU_PLUGIN_CB_NO_REGS,
                                                   GSIZE_TO_POINTER(displacement));
    }
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb* block) {
    (void)id;
    const uint64_t address = qemu_plugin_tb_vaddr(block);
    const size_t length = qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(block, QEMU_PLUGIN_INLINE_ADD_U64, instructions, length);
    if (address >= first_address && address < last_address) {
        qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(block, QEMU_PLUGIN_INLINE_ADD_U64, hypervisor, length);
        if (profiled)
            qemu_plugin_register_vcpu_tb_exec_cb(block, on_block, QEMU_PLUGIN_CB_NO_REGS, block_of(address, length));
    }
    for (size_t i = 0; i < length; ++i) look_at(qemu_plugin_tb_get_insn(block, i));
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t* info, int count, char** options) {
    (void)info;
    const char* path = NULL;
    for (int i = 0; i < count; ++i) {
        char* value = strchr(options[i], '=');
        if (value == NULL) return -1;
        *value++ = '\0';
        if (strcmp(options[i], "out") == 0) {
            path = value;
        } else if (strcmp(options[i], "first") == 0) {
            first_address = strtoull(value, NULL, 0);
        } else if (strcmp(options[i], "last") == 0) {
            last_address = strtoull(value, NULL, 0);
        } else if ((strcmp(options[i], "profile") != 0 || !qemu_plugin_bool_parse("profile", value, &profiled)) &&
                   (strcmp(options[i], "launch") != 0 || !qemu_plugin_bool_parse("launch", value, &launches))) {
            fprintf(stderr, "counter: no option %s=%s\n", options[i], value);
            return -1;
        }
    }
    out = path ? fopen(path, "w") : NULL;
    if (out == NULL) {
        fprintf(stderr, "counter: out=FILE is missing, or cannot be written: %s\n", path ? path : "");
        return -1;
    }
    counters = qemu_plugin_scoreboard_new(sizeof(struct Counters));
    instructions = qemu_plugin_scoreboard_u64_in_struct(counters, struct Counters, instructions);
    hypervisor = qemu_plugin_scoreboard_u64_in_struct(counters, struct Counters, hypervisor);
    vmruns = qemu_plugin_scoreboard_u64_in_struct(counters, struct Counters, vmruns);
    halts = qemu_plugin_scoreboard_u64_in_struct(counters, struct Counters, halts);
    blocks = g_hash_table_new(hash_of, same);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
