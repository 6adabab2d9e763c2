/* observe.c - what a tape can look out for while it is written and walked: numbers that are not finite,
 * numbers changed behind its back, and where the time goes. */
#include "autograd/inspect.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include <xxhash.h>

#include "autograd/tape_impl.h"
#include "autograd/ops.h"
#include "tensor/kernels.h"

static void set(tl_tape *t, unsigned what, bool on)
{
    t->observe = on ? t->observe | what : t->observe & ~what;
}

/* ---- numbers that are not finite -------------------------------------------------------- */

void tl_tape_trap(tl_tape *t, bool on)
{
    set(t, OBSERVE_TRAP, on);
}

/* Row-major position of the first that is not finite; -1: none. */
static int64_t first_not_finite(tl_array x, double *value)
{
    tl_tensor view = {.data = x.data, .layout = *x.layout, .dtype = x.dtype};
    for (int64_t i = 0; i < x.layout->count; i++) {
        *value = tl_tensor_get(&view, i);
        if (!isfinite(*value))
            return i;
    }
    return -1;
}

static void index_text(const tl_layout *layout, int64_t position, char text[TL_LAYOUT_TEXT])
{
    tl_layout index = *layout;
    for (int k = layout->ndim - 1; k >= 0; position /= layout->shape[k--])
        index.shape[k] = position % layout->shape[k];
    tl_layout_text(&index, text);
}

bool tl_trap(tl_tape *t, const char *name, const char *what, int operand, tl_array x)
{
    double value;
    char where[TL_LAYOUT_TEXT], of[32] = "";
    int64_t i = tl_dtype_is_real(x.dtype) ? first_not_finite(x, &value) : -1;
    if (i < 0)
        return true;
    index_text(x.layout, i, where);
    if (operand >= 0)
        snprintf(of, sizeof of, " for operand %d", operand);
    tl_tape_fail(t, TL_ERR_NOT_FINITE, "%s: element %s of %s%s is %g", name, where, what, of, value);
    return false;
}

/* ---- changes ---------------------------------------------------------------------------- */

void tl_tape_watch(tl_tape *t, bool on)
{
    t->watch = on;
}

uint64_t tl_hash_numbers(const tl_tensor *x)
{
    uint64_t hash = 0;
    if (x->layout.contiguous)
        hash = XXH3_64bits(x->data, (size_t)x->layout.count * tl_dtype_size(x->dtype));
    for (int64_t i = 0; i < x->layout.count && !x->layout.contiguous; i++) {
        double value = tl_tensor_get(x, i);
        hash = XXH3_64bits_withSeed(&value, sizeof value, hash);
    }
    return hash ? hash : 1; /* 0 says: not hashed */
}

static bool is_changed(const tl_held *held)
{
    return held->id != UINT32_MAX && (held->version != tl_tensor_version(held->tensor) ||
                                      (held->hash && held->hash != tl_hash_numbers(held->tensor)));
}

void tl_find_changes(tl_tape *t)
{
    bool found = false;
    for (uint32_t k = 0; k < t->held_count && !found; k++)
        found = is_changed(&t->held[k]);
    set(t, OBSERVE_CHANGES, found);
}

/* The leaf or constant whose numbers a node shows: its own, or through views. */
static uint32_t origin_of(const tl_tape *t, uint32_t id)
{
    const tl_node *n = tl_node_at(t, id);
    while (!(id & TL_LOOSE) && n->op && (n->op->kind == TL_VIEW || n->op == &tl_op_detach)) {
        id = tl_node_inputs(n)[0];
        n = tl_node_at(t, id);
    }
    return id;
}

static const tl_held *changed_origin(const tl_tape *t, uint32_t id)
{
    for (uint32_t k = 0; k < t->held_count; k++)
        if (t->held[k].id == id)
            return is_changed(&t->held[k]) ? &t->held[k] : NULL;
    return NULL;
}

/* Which operand of the rule that is walked it is; 0 if it is none of them. */
static int operand_of(const tl_tape *t, const tl_node *rule, uint32_t origin)
{
    for (int k = 0; k < (int)rule->count; k++)
        if (origin_of(t, tl_node_inputs(rule)[k]) == origin)
            return k;
    return 0;
}

bool tl_refuse_changed(tl_tape *t, int count, const tl_var *in)
{
    char shape[TL_LAYOUT_TEXT];
    const tl_node *rule = tl_node_at(t, t->walk.node);
    for (int k = 0; k < count; k++) {
        if (in[k].tape != t || (in[k].id & TL_LOOSE) || in[k].id >= t->nodes.count)
            continue;
        uint32_t origin = origin_of(t, in[k].id);
        const tl_held *held = changed_origin(t, origin);
        if (!held)
            continue;
        tl_node_info info;
        tl_inspect(t, tl_var_of(t, origin), &info);
        tl_tape_fail(
            t, TL_ERR_CHANGED,
            "%s: its derivative needs operand %d, but the numbers of that %s %s were changed after "
            "they were recorded; walk the tape before they change, or record a copy",
            rule->op->name, operand_of(t, rule, origin), info.name ? info.name : info.op,
            tl_layout_text(&held->tensor->layout, shape));
        return false;
    }
    return true;
}

/* ---- profile ---------------------------------------------------------------------------- */

double tl_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void tl_tape_profile(tl_tape *t, bool on)
{
    set(t, OBSERVE_PROFILE, on);
    for (uint32_t i = 0; i < t->profile.capacity && !on; i++)
        tl_memory_give(&t->memory, t->profile.entry[i].value, sizeof(tl_profile_line));
    if (!on)
        tl_map_clear(&t->profile);
}

void tl_profile_add(tl_tape *t, const tl_op *op, tl_profile_line more)
{
    uint64_t key = (uint64_t)(uintptr_t)op;
    tl_profile_line *line = tl_map_find(&t->profile, key);
    if (!line) {
        line = tl_memory_get(&t->memory, sizeof *line);
        if (!line) {
            tl_tape_no_memory(t);
            return;
        }
        *line = (tl_profile_line){.op = op->name};
        if (!tl_map_insert(t, &t->profile, key, line)) {
            tl_memory_give(&t->memory, line, sizeof *line);
            return;
        }
    }
    line->calls += more.calls;
    line->forward += more.forward;
    line->backward += more.backward;
    line->bytes += more.bytes;
}

static double seconds(const tl_profile_line *line)
{
    return line->forward + line->backward;
}

/* Insertion into the list of the longest; there are few ops. */
static void insert(tl_profile_line *lines, int *used, int most, const tl_profile_line *line)
{
    int at = *used < most ? (*used)++ : most;
    for (; at > 0 && seconds(&lines[at - 1]) < seconds(line); at--)
        if (at < most)
            lines[at] = lines[at - 1];
    if (at < most)
        lines[at] = *line;
}

int tl_profile_lines(tl_tape *t, int most, tl_profile_line *lines)
{
    int used = 0, count = 0;
    for (uint32_t i = 0; i < t->profile.capacity; i++)
        if (t->profile.entry[i].key) {
            count++;
            insert(lines, &used, most, t->profile.entry[i].value);
        }
    return count;
}

tl_status tl_profile_print(tl_tape *t, FILE *stream)
{
    enum { MOST = 256 };
    tl_profile_line lines[MOST];
    int count = tl_profile_lines(t, MOST, lines);
    double total = 0;
    count = count < MOST ? count : MOST;
    for (int k = 0; k < count; k++)
        total += seconds(&lines[k]);
    fprintf(stream, "%-20s %10s %12s %12s %7s %12s\n", "op", "calls", "forward ms", "backward ms",
            "share", "bytes");
    for (int k = 0; k < count; k++)
        fprintf(stream, "%-20s %10llu %12.3f %12.3f %6.1f%% %12llu\n", lines[k].op,
                (unsigned long long)lines[k].calls, 1e3 * lines[k].forward, 1e3 * lines[k].backward,
                total > 0 ? 100 * seconds(&lines[k]) / total : 0, (unsigned long long)lines[k].bytes);
    return fflush(stream) || ferror(stream) ? TL_ERR_IO : TL_OK;
}
