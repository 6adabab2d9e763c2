/* hash.c - the structure of a graph as one number.
 *
 * Nodes are numbered as a walk from the outputs leaves them, operands in order, first ones first; that
 * depends on the graph alone, not on the order of recording:
 *
 *     y = tanh(w x) + w          w 1, x 2, mul 3, tanh 4, add 5
 *
 *     hash  =  XXH3 of   leaf [3] | constant [3] | mul 1 2 | tanh 3 | add 4 1   and of the outputs, 5
 */
#include "autograd/inspect.h"

#include <string.h>

#include <xxhash.h>

#include "autograd/tape_impl.h"

static const uint32_t UNSEEN = 0, UNRECORDED = UINT32_MAX;

static uint64_t mix(uint64_t hash, const void *data, size_t bytes)
{
    return XXH3_64bits_withSeed(data, bytes, hash);
}

static uint64_t mix_number(uint64_t hash, uint64_t number)
{
    return mix(hash, &number, sizeof number);
}

/* How many integers are given says something only where they are a list. */
static uint64_t mix_attr(uint64_t hash, const tl_op *op, const tl_attr *attr)
{
    tl_attr a = *attr;
    if (op->attributes && !strchr(op->attributes, '*'))
        a.n = 0;
    return mix(hash, &a, sizeof a);
}

/* All of a node but its operands. */
static uint64_t mix_node(uint64_t hash, const tl_node *n)
{
    const char *kind = n->op ? n->op->name : n->flags & NODE_NEEDS_GRADIENT ? "a leaf" : "a constant";
    hash = mix(hash, kind, strlen(kind));
    if (n->op)
        hash = mix_attr(hash, n->op, n->attr);
    hash = mix_number(hash, (uint64_t)n->dtype << 32 | (uint64_t)n->layout->ndim);
    hash = mix(hash, n->layout->shape, (size_t)n->layout->ndim * sizeof(int64_t));
    return mix_number(hash, n->count);
}

/* ---- from outputs back to inputs -------------------------------------------------------- */

typedef struct visit {
    uint32_t id, operand; /* the next one to look at */
} visit;

typedef struct search {
    tl_tape *tape;
    uint32_t *number; /* by id; UNSEEN */
    visit *stack;     /* as deep as there are nodes, at most */
    uint32_t depth, last;
    uint64_t hash;
} search;

static void leave(search *s, uint32_t id)
{
    const tl_node *n = tl_node_at(s->tape, id);
    s->hash = mix_node(s->hash, n);
    for (uint32_t k = 0; k < n->count; k++) {
        uint32_t in = tl_node_inputs(n)[k];
        s->hash = mix_number(s->hash, in & TL_LOOSE ? UNRECORDED : s->number[in]);
    }
    s->number[id] = ++s->last;
}

static void search_from(search *s, uint32_t id)
{
    if (s->number[id] == UNSEEN)
        s->stack[s->depth++] = (visit){id, 0};
    while (s->depth) {
        visit *top = &s->stack[s->depth - 1];
        const tl_node *n = tl_node_at(s->tape, top->id);
        if (top->operand == n->count) {
            s->depth--;
            leave(s, top->id);
            continue;
        }
        uint32_t in = tl_node_inputs(n)[top->operand++];
        if (!(in & TL_LOOSE) && s->number[in] == UNSEEN)
            s->stack[s->depth++] = (visit){in, 0};
    }
}

static bool all_recorded(tl_tape *t, const char *what, int count, const tl_var *v)
{
    for (int k = 0; k < count; k++) {
        if (!tl_node_of(t, v[k], "graph_hash"))
            return false;
        if (v[k].id & TL_LOOSE) {
            tl_tape_fail(t, TL_ERR_ARGUMENT, "graph_hash: %s %d was not recorded", what, k);
            return false;
        }
    }
    return true;
}

/* An input stands for anything of its dtype and shape. */
static void begin_at(search *s, uint32_t id)
{
    const tl_node *n = tl_node_at(s->tape, id);
    if (s->number[id] != UNSEEN)
        return;
    s->hash = mix_number(s->hash, (uint64_t)n->dtype << 32 | (uint64_t)n->layout->ndim);
    s->hash = mix(s->hash, n->layout->shape, (size_t)n->layout->ndim * sizeof(int64_t));
    s->number[id] = ++s->last;
}

uint64_t tl_graph_hash(tl_tape *t, int outputs, const tl_var *output, int inputs, const tl_var *input)
{
    if (!all_recorded(t, "output", outputs, output) || !all_recorded(t, "input", inputs, input))
        return 0;
    size_t count = t->nodes.count;
    tl_block *room = tl_pool_get(&t->pool, count * (sizeof(visit) + sizeof(uint32_t)));
    if (!room) {
        tl_tape_no_memory(t);
        return 0;
    }
    search s = {.tape = t, .stack = tl_block_data(room)};
    s.number = (uint32_t *)(s.stack + count);
    memset(s.number, 0, count * sizeof *s.number);
    for (int k = 0; k < inputs; k++)
        begin_at(&s, input[k].id);
    for (int k = 0; k < outputs; k++) {
        search_from(&s, output[k].id);
        s.hash = mix_number(s.hash, s.number[output[k].id]);
    }
    tl_pool_put(&t->pool, room);
    return s.hash ? s.hash : 1;
}

/* ---- a stretch of the recording --------------------------------------------------------- */

uint64_t tl_tape_hash(tl_tape *t, uint32_t from, uint32_t to)
{
    tl_map_table outside = {0};
    uint64_t hash = 1;
    to = to && to < t->nodes.count ? to : t->nodes.count;
    for (uint32_t id = from; id < to && !t->error.status; id++) {
        const tl_node *n = tl_node_at(t, id);
        hash = mix_node(hash, n);
        for (uint32_t k = 0; k < n->count; k++) {
            uint32_t in = tl_node_inputs(n)[k];
            bool inside = !(in & TL_LOOSE) && in >= from;
            uint64_t key = (uint64_t)in + 1;
            if (!inside && !tl_map_find(&outside, key))
                tl_map_insert(t, &outside, key, (void *)((uintptr_t)outside.count + 1));
            hash = mix_number(hash, inside ? (uint64_t)(in - from) << 1
                                           : (uint64_t)(uintptr_t)tl_map_find(&outside, key) << 1 | 1);
        }
    }
    tl_map_free(t, &outside);
    return t->error.status ? 0 : hash;
}
