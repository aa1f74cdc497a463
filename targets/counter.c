/* Counts the instructions that a guest of qemu's user-mode emulation executes between two marks.
 *
 *     cc -O2 -shared -fPIC counter.c -o counter.so
 *     qemu-arm -plugin ./counter.so,out=FILE PROGRAM
 *
 * A mark is close(0x5Exxxxxx): to the guest a bad file number, to the plugin a label. Every mark writes one line of text
 * into FILE, "LABEL INSTRUCTIONS SIMD", with the totals since the start; the reader subtracts. The last line is of the
 * guest's end, under a label that no mark has, for programs that know nothing of marks. Counted are whole blocks
 * when they are entered, which is exact between system calls, because a system call ends its block.
 *
 * SIMD are vector and floating-point instructions: in AArch64 by the encoding groups of the architecture manual (loads
 * and stores with bit 26, and op0 = x111), in 32-bit code by the mnemonic, which begins with v for NEON and VFP alike.
 *
 * The declarations are those of version 1 of qemu's plugin interface (qemu 4.2 to 8.1), as far as they are used: Debian
 * packages no header for it.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK 0x5E000000u
#define END 0x1000000u
#define CLOSE_ARM 6
#define CLOSE_AARCH64 57

typedef uint64_t qemu_plugin_id_t;
typedef struct {
    const char *target_name;
    struct { int min, cur; } version;
    bool system_emulation;
    union { struct { int smp_vcpus, max_vcpus; } system; };
} qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t,
    void (*)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
             uint64_t));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

static uint64_t instructions, simd;
static bool aarch64;
static FILE *marks;

static bool is_simd(const struct qemu_plugin_insn *instruction)
{
    if (aarch64) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
        uint32_t group = word >> 25 & 15;
        return (group & 7) == 7 || ((group & 5) == 4 && (word >> 26 & 1));
    }
    char *text = qemu_plugin_insn_disas(instruction);
    bool found = text != NULL && text[0] == 'v';
    free(text);
    return found;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    size_t length = qemu_plugin_tb_n_insns(block), vectors = 0;
    for (size_t i = 0; i < length; i++)
        vectors += is_simd(qemu_plugin_tb_get_insn(block, i));
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &instructions, length);
    if (vectors)
        qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &simd, vectors);
}

static void write_totals(unsigned label)
{
    fprintf(marks, "%u %llu %llu\n", label, (unsigned long long)instructions, (unsigned long long)simd);
    fflush(marks);
}

static void end(qemu_plugin_id_t id, void *nothing)
{
    write_totals(END);
}

static void system_call(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t file, uint64_t a2, uint64_t a3,
                        uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    if (number != (aarch64 ? CLOSE_AARCH64 : CLOSE_ARM) || ((uint32_t)file & 0xFF000000u) != MARK)
        return;
    write_totals((unsigned)file & 0xFFFFFFu);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int count, char **arguments)
{
    if (count != 1 || strncmp(arguments[0], "out=", 4) != 0) {
        fprintf(stderr, "counter: the one argument is out=FILE\n");
        return -1;
    }
    aarch64 = strcmp(info->target_name, "aarch64") == 0;
    marks = fopen(arguments[0] + 4, "w");
    if (marks == NULL) {
        perror("counter");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_vcpu_syscall_cb(id, system_call);
    qemu_plugin_register_atexit_cb(id, end, NULL);
    return 0;
}
