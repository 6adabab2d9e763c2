/* record.c - applying an op: check, compute, write a node.
 *
 *              tl_apply
 *                 |  operands -> nodes; a poisoned one ends it here
 *        shape rule, or broadcasting
 *                 |
 *      +----------+-------------+
 *   recorded                  loose (off the record)
 *   room from the arena       room from the pool, freed when nobody holds it
 *      +----------+-------------+
 *                 |
 *         forward, or a kernel */
#include "autograd/tape_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "autograd/ops.h"
#include "tensor/kernels.h"

/* ---- the list of ops -------------------------------------------------------------------- */

static const tl_op *const all_ops[] = {
#define TL_OP(name) &tl_op_##name,
#include "autograd/ops.def"
#undef TL_OP
};

int tl_op_count(void)
{
    return (int)(sizeof all_ops / sizeof *all_ops);
}

const tl_op *tl_op_at(int index)
{
    return index >= 0 && index < tl_op_count() ? all_ops[index] : NULL;
}

const tl_op *tl_op_find(const char *name)
{
    for (int i = 0; i < tl_op_count(); i++)
        if (strcmp(all_ops[i]->name, name) == 0)
            return all_ops[i];
    return NULL;
}

/* "; operand 1 is rnn.weight_hh_l0": shapes alone do not say which weight it was. */
static const char *operand_names(int count, tl_node *const *x, size_t size, char *text)
{
    size_t used = 0;
    text[0] = 0;
    for (int k = 0; k < count && used < size; k++) {
        const char *name = x[k] && !x[k]->op && x[k]->leaf ? x[k]->leaf->name : NULL;
        if (name)
            used += (size_t)snprintf(text + used, size - used, "%s operand %d is %s", used ? "," : ";",
                                     k, name);
    }
    return text;
}

enum { NAMED_OPERANDS = 8 };

bool tl_call_fail(const tl_call *c, tl_status status, const char *format, ...)
{
    char text[TL_MESSAGE_SIZE], names[TL_MESSAGE_SIZE / 2];
    tl_node *x[NAMED_OPERANDS] = {NULL};
    for (int k = 0; k < c->count && k < NAMED_OPERANDS; k++)
        x[k] = tl_is_none(c->in[k]) ? NULL : tl_node_of(c->tape, c->in[k], c->op->name);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    tl_scope_list *s = &c->tape->scopes;
    uint32_t scope = s->current;
    if (c->op->kind == TL_COMPOSED && scope && s->entry[scope - 1].name == c->op->name)
        s->current = s->entry[scope - 1].parent; /* its own scope would say the name once more */
    tl_tape_fail(c->tape, status, "%s: %s%s", c->op->name, text,
                 operand_names(NAMED_OPERANDS, x, sizeof names, names));
    s->current = scope;
    return false;
}

bool tl_call_wants(const tl_call *c, int k)
{
    tl_node *n = tl_node_of(c->tape, c->in[k], c->op->name);
    return n && (n->flags & NODE_NEEDS_GRADIENT) &&
           !(c->tape->stopped.count && !tl_is_none(c->out) && tl_is_stopped(c->tape, c->out.id, k));
}

/* For ops that are applied without constants: rules need not ask whether there are any. */
static const tl_attr no_attr;

static size_t bytes_of(tl_dtype dtype, const tl_layout *layout)
{
    return (size_t)layout->count * (dtype == TL_F32 ? sizeof(float) : tl_dtype_size(dtype));
}

/* ---- loose nodes ------------------------------------------------------------------------ */

tl_node *tl_loose_new(tl_tape *t, tl_dtype dtype, const tl_layout *layout, void *data, tl_block *block,
                      uint32_t *id)
{
    uint32_t index;
    if (t->first_free) {
        index = t->first_free - 1;
        t->first_free = tl_table_at(&t->loose, index)->in.next_free;
    } else if (tl_table_extend(t, &t->loose)) {
        index = t->loose.count++;
    } else {
        tl_pool_put(&t->pool, block);
        return NULL;
    }
    *id = index | TL_LOOSE;
    tl_node *n = tl_table_at(&t->loose, index);
    *n = (tl_node){.layout = layout,
                   .data = data,
                   .block = block,
                   .scope = t->scopes.current,
                   .generation = n->generation,
                   .dtype = (unsigned)dtype & 3,
                   .flags = NODE_RECENT};
    if (!tl_id_push(t, &t->recent, *id))
        return NULL; /* the tape is in error; its reset frees the node */
    return n;
}

tl_node *tl_loose_room(tl_tape *t, tl_dtype dtype, const tl_layout *layout, uint32_t *id)
{
    tl_block *block = tl_pool_get(&t->pool, bytes_of(dtype, layout));
    if (!block) {
        tl_tape_no_memory(t);
        return NULL;
    }
    return tl_loose_new(t, dtype, layout, tl_block_data(block), block, id);
}

static void free_loose(tl_tape *t, uint32_t id, tl_node *n)
{
    tl_pool_put(&t->pool, n->block);
    uint32_t generation = n->generation + 1;
    *n = (tl_node){.in.next_free = t->first_free};
    n->generation = generation;
    t->first_free = (id & ~TL_LOOSE) + 1;
}

void tl_loose_retain(tl_tape *t, uint32_t id)
{
    if (id & TL_LOOSE)
        tl_node_at(t, id)->refs++;
}

void tl_loose_release(tl_tape *t, uint32_t id)
{
    if (!(id & TL_LOOSE))
        return;
    tl_node *n = tl_node_at(t, id);
    if (--n->refs == 0 && !(n->flags & NODE_RECENT))
        free_loose(t, id, n);
}

void tl_recent_sweep(tl_tape *t, uint32_t mark)
{
    while (t->recent.count > mark) {
        uint32_t id = t->recent.id[--t->recent.count];
        tl_node *n = tl_node_at(t, id);
        n->flags &= NODE_ALL & ~(unsigned)NODE_RECENT;
        if (n->refs == 0)
            free_loose(t, id, n);
    }
}

void tl_no_record_begin(tl_tape *t)
{
    if (tl_id_push(t, &t->regions, t->recent.count))
        t->unrecorded++;
}

void tl_no_record_end(tl_tape *t, int count, const tl_var *keep)
{
    if (!t->regions.count)
        return;
    uint32_t mark = t->regions.id[--t->regions.count];
    t->unrecorded--;
    for (int k = 0; k < count; k++)
        if (tl_node_of(t, keep[k], "no_record_end"))
            tl_loose_retain(t, keep[k].id);
    tl_recent_sweep(t, mark);
    for (int k = 0; k < count; k++) { /* they belong to the region around this one now */
        if (t->error.status || !(keep[k].id & TL_LOOSE))
            continue;
        tl_node *n = tl_node_at(t, keep[k].id);
        if (!(n->flags & NODE_RECENT) && tl_id_push(t, &t->recent, keep[k].id))
            n->flags |= NODE_RECENT;
        n->refs--;
    }
}

/* ---- results ---------------------------------------------------------------------------- */

/* Operands as nodes; false when one is poisoned, stale, or there are too few. */
static bool count_fits(tl_tape *t, const tl_op *op, int count)
{
    int most = op->kind == TL_ELEMENTWISE ? TL_MAP_MOST : TL_MOST_OPERANDS;
    most = op->most >= 0 && op->most < most ? op->most : most;
    if (count >= op->least && count <= most && count > 0)
        return true;
    tl_tape_fail(t, TL_ERR_ARGUMENT, "%s: wants %d..%d operands, not %d", op->name, op->least, most,
                 count);
    return false;
}

static inline bool find_operands(tl_tape *t, const tl_op *op, int count, const tl_var *in, tl_node **x)
{
    if (!count_fits(t, op, count))
        return false;
    for (int k = 0; k < count; k++)
        if (!(x[k] = tl_node_of(t, in[k], op->name)))
            return false;
    return true;
}

/* A missing derivative is refused here, when the op is recorded, rather than on the way back. */
static bool derivative_exists(tl_tape *t, const tl_op *op)
{
    if (op->kind == TL_ELEMENTWISE ? op->partial != NULL : op->vjp || op->backward)
        return true;
    tl_tape_fail(
        t, TL_ERR_NO_DERIVATIVE,
        "%s: has no derivative, but an operand wants one; detach its operands, or apply it in a "
        "no-record region",
        op->name);
    return false;
}

/* Operands' ids: two fit into the node, more go to the arena. A value from a no-record region that a
 * recorded op uses is held, so that it lives as long as the record. */
static bool keep_inputs(tl_tape *t, tl_node *n, int count, const tl_var *in, bool hold)
{
    uint32_t *ids = n->in.few;
    if (count > 2) {
        ids = tl_arena_get(&t->arena, (size_t)count * sizeof *ids);
        if (!ids) {
            tl_tape_no_memory(t);
            return false;
        }
        n->in.many = ids;
    }
    for (int k = 0; k < count; k++) {
        ids[k] = in[k].id;
        if (hold && (in[k].id & TL_LOOSE))
            tl_loose_retain(t, in[k].id);
    }
    return true;
}

/* The node of a result that is recorded. data NULL: the arena makes room. */
static inline tl_node *record(tl_tape *t, const tl_op *op, int count, const tl_var *in,
                              const tl_attr *attr, bool needs, tl_dtype dtype, const tl_layout *layout,
                              void *data, uint32_t *id)
{
    if (needs && !derivative_exists(t, op))
        return NULL;
    if (t->nodes.count == t->nodes.chunks * TL_CHUNK_NODES && !tl_table_extend(t, &t->nodes))
        return NULL;
    if (!data)
        data = tl_arena_get(&t->arena, bytes_of(dtype, layout));
    if (data && attr != &no_attr) {
        tl_attr *copy = tl_arena_get(&t->arena, sizeof *copy);
        if (copy)
            *copy = *attr;
        attr = copy;
    }
    if (!data || !attr) {
        tl_tape_no_memory(t);
        return NULL;
    }
    tl_node *n = tl_table_at(&t->nodes, t->nodes.count);
    *n = (tl_node){.op = op,
                   .layout = layout,
                   .data = data,
                   .attr = attr,
                   .scope = t->scopes.current,
                   .count = (unsigned)count & TL_MOST_OPERANDS,
                   .dtype = (unsigned)dtype & 3,
                   .flags = needs ? NODE_NEEDS_GRADIENT : 0};
    if (!keep_inputs(t, n, count, in, true))
        return NULL;
    *id = t->nodes.count++;
    return n;
}

/* ---- elementwise ------------------------------------------------------------------------ */

static const tl_layout *broadcast(tl_tape *t, const tl_op *op, int count, tl_node **x)
{
    tl_layout layout = *x[0]->layout;
    for (int k = 0; k < count; k++) {
        tl_layout wider;
        if (!tl_layout_broadcast(&layout, x[k]->layout, &wider)) {
            char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT], names[TL_MESSAGE_SIZE / 2];
            tl_tape_fail(t, TL_ERR_SHAPE, "%s: shapes cannot be broadcast: %s and %s%s", op->name,
                         tl_layout_text(&layout, a), tl_layout_text(x[k]->layout, b),
                         operand_names(count, x, sizeof names, names));
            return NULL;
        }
        layout = wider;
    }
    return tl_tape_layout(t, &layout);
}

static bool same_reals(tl_tape *t, const char *name, int count, tl_node *const *x)
{
    for (int k = 0; k < count; k++) {
        tl_dtype dtype = (tl_dtype)x[k]->dtype, first = (tl_dtype)x[0]->dtype;
        if (!tl_dtype_is_real(dtype)) {
            tl_tape_fail(t, TL_ERR_DTYPE, "%s: operand %d is %s, not a real", name, k,
                         tl_dtype_name(dtype));
            return false;
        }
        if (dtype != first) {
            tl_tape_fail(t, TL_ERR_DTYPE, "%s: operands differ in dtype: %s and %s", name,
                         tl_dtype_name(first), tl_dtype_name(dtype));
            return false;
        }
    }
    return true;
}

/* The dtype that chooses the kernel: that of all operands but the masks, which must agree. */
static bool common_dtype(tl_tape *t, const tl_op *op, int count, tl_node *const *x, tl_dtype *dtype)
{
    int first = 0;
    while (first < count - 1 && (op->masks >> first & 1))
        first++;
    *dtype = (tl_dtype)x[first]->dtype;
    for (int k = 0; k < count; k++) {
        tl_dtype own = (tl_dtype)x[k]->dtype;
        bool mask = op->masks >> k & 1;
        if (mask && own != TL_U8)
            tl_tape_fail(t, TL_ERR_DTYPE, "%s: operand %d is %s, not a mask (u8)", op->name, k,
                         tl_dtype_name(own));
        else if (!mask && !op->any_dtype && !tl_dtype_is_real(own))
            tl_tape_fail(t, TL_ERR_DTYPE, "%s: operand %d is %s, not a real", op->name, k,
                         tl_dtype_name(own));
        else if (!mask && own != *dtype)
            tl_tape_fail(t, TL_ERR_DTYPE, "%s: operands differ in dtype: %s and %s", op->name,
                         tl_dtype_name(*dtype), tl_dtype_name(own));
    }
    return t->error.status == TL_OK;
}

static TL_INLINE tl_var apply_elementwise(tl_tape *t, const tl_op *op, int count, const tl_var *in,
                                          const tl_attr *attr)
{
    tl_node *x[TL_MAP_MOST] = {NULL};
    if (!find_operands(t, op, count, in, x))
        return tl_poison(t);
    bool alike = x[0]->layout->contiguous && x[0]->dtype <= TL_F64 && !op->masks, needs = false;
    for (int k = 0; k < count; k++) {
        alike = alike && x[k]->layout == x[0]->layout && x[k]->dtype == x[0]->dtype;
        needs = needs || (x[k]->flags & NODE_NEEDS_GRADIENT);
    }
    const tl_layout *layout = x[0]->layout;
    tl_dtype dtype = (tl_dtype)x[0]->dtype;
    if (!alike && (!common_dtype(t, op, count, x, &dtype) || !(layout = broadcast(t, op, count, x))))
        return tl_poison(t);
    tl_dtype result = op->mask_result ? TL_U8 : dtype;
    needs = needs && !op->mask_result;
    uint32_t id;
    tl_node *y = t->unrecorded ? tl_loose_room(t, result, layout, &id)
                               : record(t, op, count, in, attr, needs, result, layout, NULL, &id);
    if (!y)
        return tl_poison(t);
    const double *scalar = attr->f;
    if (alike) {
        const void *data[TL_MAP_MOST];
        for (int k = 0; k < count; k++)
            data[k] = x[k]->data;
        op->kernel[dtype](layout->count, data, y->data, scalar);
    } else {
        tl_layout wide[TL_MAP_MOST];
        tl_array operand[TL_MAP_MOST];
        for (int k = 0; k < count; k++) {
            tl_layout_expand(x[k]->layout, layout, &wide[k]);
            operand[k] = (tl_array){x[k]->data, &wide[k], (tl_dtype)x[k]->dtype};
        }
        tl_map(op->kernel[dtype], count, operand, tl_node_array(y), scalar);
    }
    return tl_var_of(t, id);
}

/* ---- the others ------------------------------------------------------------------------- */

static bool is_view(const tl_op *op)
{
    return !op->forward && !op->kernel;
}

/* Lazy: while a first derivative is computed, an op that can add its result to a gradient waits
 * until it is known to which. Its attributes stay in a block of the pool until then. */
static bool can_wait(const tl_tape *t, const tl_op *op, int count)
{
    return op->forward_add && t->walk.active && t->unrecorded && count <= 2;
}

static tl_var make_lazy(tl_tape *t, const tl_call *c, const tl_layout *layout)
{
    uint32_t id;
    tl_block *block = NULL;
    if (c->attr != &no_attr) {
        block = tl_pool_get(&t->pool, sizeof *c->attr);
        if (!block) {
            tl_tape_no_memory(t);
            return tl_poison(t);
        }
        *(tl_attr *)tl_block_data(block) = *c->attr;
    }
    tl_node *n = tl_loose_new(t, c->y.dtype, layout, NULL, block, &id);
    if (!n || !keep_inputs(t, n, c->count, c->in, false))
        return tl_poison(t);
    n->count = (unsigned)c->count & TL_MOST_OPERANDS;
    n->op = c->op;
    n->attr = block ? tl_block_data(block) : c->attr;
    n->flags |= NODE_LAZY;
    return tl_var_of(t, id);
}

bool tl_node_force(tl_tape *t, tl_node *n)
{
    if (!(n->flags & NODE_LAZY))
        return true;
    tl_var in[2];
    tl_array x[2];
    tl_call call;
    tl_node_call(t, n, in, x, &call);
    tl_block *block =
        tl_pool_get(&t->pool, (size_t)n->layout->count * tl_dtype_size((tl_dtype)n->dtype));
    if (!block) {
        tl_tape_no_memory(t);
        return false;
    }
    call.y.data = tl_block_data(block);
    call.op->forward(&call);
    tl_pool_put(&t->pool, n->block);
    n->block = block;
    n->data = call.y.data;
    n->op = NULL;
    n->attr = NULL;
    n->flags &= NODE_ALL & ~(unsigned)NODE_LAZY;
    return t->error.status == TL_OK;
}

void tl_node_call(tl_tape *t, const tl_node *n, tl_var *in, tl_array *x, tl_call *call)
{
    const uint32_t *ids = tl_node_inputs(n);
    for (uint32_t k = 0; k < n->count; k++) {
        in[k] = tl_var_of(t, ids[k]);
        x[k] = tl_node_array(tl_node_at(t, ids[k]));
    }
    *call = (tl_call){.tape = t,
                      .op = n->op,
                      .count = (int)n->count,
                      .in = in,
                      .x = x,
                      .attr = n->attr,
                      .out = TL_NONE,
                      .y = tl_node_array(n)};
}

/* The result of a call whose shape is known. */
static tl_var finish(tl_call *c, const tl_layout *shape, tl_node *const *x, bool needs)
{
    tl_tape *t = c->tape;
    const tl_layout *layout = tl_tape_layout(t, shape);
    if (!layout)
        return tl_poison(t);
    if (can_wait(t, c->op, c->count))
        return make_lazy(t, c, layout);
    uint32_t id;
    tl_node *y;
    void *data = is_view(c->op) ? c->y.data : NULL;
    if (!t->unrecorded) {
        y = record(t, c->op, c->count, c->in, c->attr, needs, c->y.dtype, layout, data, &id);
    } else if (is_view(c->op)) {
        if (x[0]->block)
            x[0]->block->refs++;
        y = tl_loose_new(t, c->y.dtype, layout, data, x[0]->block, &id);
    } else {
        y = tl_loose_room(t, c->y.dtype, layout, &id);
    }
    if (!y)
        return tl_poison(t);
    c->y = tl_node_array(y);
    if (!is_view(c->op))
        c->op->forward(c);
    if (t->error.status) { /* forward found something wrong with the numbers, an index for example */
        if (!(id & TL_LOOSE))
            t->nodes.count--;
        return tl_poison(t);
    }
    return tl_var_of(t, id);
}

/* Off the record there is nothing to be found again in a scope. */
static tl_var compose(const tl_call *c)
{
    bool recorded = !c->tape->unrecorded;
    if (recorded)
        tl_scope_begin(c->tape, c->op->name, -1);
    tl_var y = c->op->compose(c);
    if (recorded)
        tl_scope_end(c->tape);
    return y;
}

static tl_var apply_general(tl_tape *t, const tl_op *op, int count, const tl_var *in,
                            const tl_attr *attr, tl_node **nodes, tl_array *x)
{
    if (!find_operands(t, op, count, in, nodes) ||
        (!op->mixed && !same_reals(t, op->name, count, nodes)))
        return tl_poison(t);
    bool needs = false;
    for (int k = 0; k < count; k++) {
        x[k] = tl_node_array(nodes[k]);
        needs = needs || (nodes[k]->flags & NODE_NEEDS_GRADIENT);
    }
    tl_call call = {
        .tape = t, .op = op, .count = count, .in = in, .x = x, .attr = attr, .out = TL_NONE};
    if (count)
        call.y = (tl_array){x[0].data, NULL, x[0].dtype};
    tl_layout layout;
    if (op->kind == TL_COMPOSED)
        return compose(&call);
    if (!op->shape(&call, &layout))
        return tl_poison(t);
    needs = needs && op->kind != TL_NOT_DIFFERENTIABLE && tl_dtype_is_real(call.y.dtype);
    return finish(&call, &layout, nodes, needs);
}

enum { FEW = 4 };

static const tl_var *make_dense(tl_tape *t, int count, const tl_var *in, tl_var dense[FEW])
{
    for (int k = 0; k < count; k++) {
        dense[k] = in[k];
        const tl_node *n = tl_node_of(t, in[k], "contiguous");
        if (n && !n->layout->contiguous)
            dense[k] = tl_contiguous(t, in[k]);
    }
    return dense;
}

static tl_var apply_other(tl_tape *t, const tl_op *op, int count, const tl_var *in, const tl_attr *attr)
{
    if (count <= FEW) {
        tl_node *nodes[FEW];
        tl_array x[FEW];
        tl_var dense[FEW];
        if (op->dense)
            in = make_dense(t, count, in, dense);
        return apply_general(t, op, count, in, attr, nodes, x);
    }
    tl_block *room = tl_pool_get(&t->pool, (size_t)count * (sizeof(tl_array) + sizeof(tl_node *)));
    if (!room) {
        tl_tape_no_memory(t);
        return tl_poison(t);
    }
    tl_array *x = tl_block_data(room);
    tl_var y = apply_general(t, op, count, in, attr, (tl_node **)(x + count), x);
    tl_pool_put(&t->pool, room);
    return y;
}

/* The same with what was asked for beside it. In a first derivative the ops that make it up count for
 * the op that is walked, see backward.c. */
static tl_var apply_observed(tl_tape *t, const tl_op *op, int count, const tl_var *in,
                             const tl_attr *attr)
{
    if ((t->observe & OBSERVE_CHANGES) && !tl_refuse_changed(t, count, in))
        return tl_poison(t);
    bool deriving = t->walk.active && !t->walk.create_graph;
    double begin = tl_clock();
    unsigned observe = t->observe;
    t->observe = 0;
    tl_var y = tl_apply(t, op, count, in, attr);
    t->observe = observe;
    if (t->error.status || deriving)
        return y;
    const tl_node *n = tl_node_at(t, y.id);
    if (t->observe & OBSERVE_PROFILE)
        tl_profile_add(
            t, op,
            (tl_profile_line){.calls = 1,
                              .forward = tl_clock() - begin,
                              .bytes = is_view(op) ? 0 : bytes_of((tl_dtype)n->dtype, n->layout)});
    if ((t->observe & OBSERVE_TRAP) && !tl_trap(t, op->name, "its result", -1, tl_node_array(n)))
        return tl_poison(t);
    return y;
}

tl_var tl_apply(tl_tape *t, const tl_op *op, int count, const tl_var *in, const tl_attr *attr)
{
    if (t->error.status)
        return tl_poison(t);
    while (count > 0 && tl_is_none(in[count - 1]))
        count--;
    if (!attr)
        attr = &no_attr;
    if (t->observe && op->kind != TL_COMPOSED)
        return apply_observed(t, op, count, in, attr);
    if (op->kind == TL_ELEMENTWISE)
        return apply_elementwise(t, op, count, in, attr);
    return apply_other(t, op, count, in, attr);
}
