/* backward.c - the tape walked from its end to its beginning.
 *
 *   for id = last ... first:
 *       g = gradient of node id                 complete: all that use it have larger ids
 *       for each operand k that wants one:
 *           gradient of operand k  +=  (dy/dx_k)' g
 *
 * A loop, no recursion, no sort. For an RNN that was unrolled onto the tape this loop is
 * backpropagation through time, and the += into the one leaf of a weight is its sum over time. */
#include "autograd/tape_impl.h"

#include <string.h>

#include "autograd/ops.h"
#include "tensor/kernels.h"

/* Handles of gradients in a node: id + 1, so that 0 says "none". */
static uint32_t id_of(uint32_t handle)
{
    return handle - 1;
}

static uint32_t handle_of(uint32_t id)
{
    return id + 1;
}

/* ---- gradient += dx --------------------------------------------------------------------- */

/* The gradient tensor of a leaf as a loose node: what is added to it stays. */
static bool begin_sink(tl_tape *t, tl_node *x)
{
    uint32_t id;
    if (x->kept) { /* from an earlier walk over this recording */
        x->gradient = x->kept;
        x->kept = 0;
        return true;
    }
    const tl_layout *layout = tl_tape_layout(t, &x->leaf->gradient->layout);
    tl_node *sink =
        layout ? tl_loose_new(t, (tl_dtype)x->dtype, layout, x->leaf->gradient->data, NULL, &id) : NULL;
    if (!sink)
        return false;
    tl_tensor_touch(x->leaf->gradient);
    sink->refs = 1;
    sink->flags |= NODE_SINK;
    x->gradient = handle_of(id);
    return true;
}

/* May the numbers of this gradient be changed in place? Not if another gradient shares them. */
static bool is_exclusive(uint32_t id, const tl_node *g)
{
    return (id & TL_LOOSE) && g->refs == 1 && g->block && g->block->refs == 1 && g->layout->contiguous;
}

static bool add_in_place(tl_tape *t, tl_node *x, tl_node *sum, tl_var dx)
{
    tl_node *term = tl_node_at(t, dx.id);
    if (!(term->flags & NODE_LAZY)) {
        tl_add_into(tl_node_array(term), tl_node_array(sum));
        return true;
    }
    tl_var in[2];
    tl_array operand[2];
    tl_call call;
    tl_node_call(t, term, in, operand, &call);
    call.y = tl_node_array(sum);
    call.op->forward_add(&call);
    if (call.op == &tl_op_sum_outer)
        x->flags |= NODE_DEFERRED;
    return t->error.status == TL_OK;
}

/* Zeros of that shape, contiguous. */
static tl_node *loose_zeros(tl_tape *t, tl_dtype dtype, const tl_layout *shape, uint32_t *id)
{
    tl_layout dense;
    if (tl_layout_make(&dense, shape->ndim, shape->shape) != TL_OK)
        return NULL;
    const tl_layout *layout = tl_tape_layout(t, &dense);
    tl_node *zeros = layout ? tl_loose_room(t, dtype, layout, id) : NULL;
    if (zeros)
        memset(zeros->data, 0, (size_t)dense.count * tl_dtype_size(dtype));
    return zeros;
}

/* Room for a gradient that starts from zero, because its first term can be added but not yet computed.
 */
static bool begin_zero(tl_tape *t, tl_node *x)
{
    uint32_t id;
    tl_node *zero = loose_zeros(t, (tl_dtype)x->dtype, x->layout, &id);
    if (!zero)
        return false;
    zero->refs = 1;
    x->gradient = handle_of(id);
    return true;
}

static void begin(tl_tape *t, tl_node *x, uint32_t x_id)
{
    if (x->op)
        t->walk.pending++;
    else
        tl_id_push(t, &t->walk.leaves, x_id);
}

static void replace(tl_tape *t, tl_node *x, tl_var sum)
{
    tl_loose_retain(t, sum.id);
    if (x->gradient)
        tl_loose_release(t, id_of(x->gradient));
    x->gradient = handle_of(sum.id);
}

static bool accumulate(tl_tape *t, uint32_t x_id, tl_var dx)
{
    tl_node *x = tl_node_at(t, x_id);
    bool to_sink = !x->op && t->walk.sinks && x->leaf->gradient && !(x->flags & NODE_HOOKED);
    if (!x->op && !t->walk.sinks && !(x->flags & NODE_ASKED))
        return true; /* a leaf that tl_grad was not asked about */
    if (!x->gradient) {
        begin(t, x, x_id);
        bool lazy = tl_node_at(t, dx.id)->flags & NODE_LAZY;
        if (to_sink && !begin_sink(t, x))
            return false;
        if (!to_sink && lazy && !begin_zero(t, x))
            return false;
        if (!x->gradient) {
            replace(t, x, dx);
            return true;
        }
    }
    tl_node *sum = tl_node_at(t, id_of(x->gradient));
    bool own = to_sink ? (sum->flags & NODE_SINK) != 0 : is_exclusive(id_of(x->gradient), sum);
    if (!t->walk.create_graph && own)
        return add_in_place(t, x, sum, dx);
    tl_var both = tl_add(t, tl_var_of(t, id_of(x->gradient)), dx);
    if (t->error.status)
        return false;
    replace(t, x, both);
    return true;
}

/* ---- one node --------------------------------------------------------------------------- */

/* dx of an elementwise op has y's shape: it is summed over what was broadcast. */
static tl_var fit(tl_tape *t, tl_var dx, const tl_layout *to)
{
    tl_node *n = tl_node_of(t, dx, "backward");
    if (!n || n->layout == to || tl_layout_same_shape(n->layout, to))
        return dx;
    return tl_sum_to(t, dx, to->ndim, to->shape);
}

/* Is the variable on the way to what was asked for? All that is recorded during the walk is. */
static TL_INLINE bool leads(const tl_walk *w, uint32_t id)
{
    return id >= w->floor && (!w->leads || id > w->last || w->leads[id - w->floor]);
}

/* Does a derivative go from n to its operand k, which is variable `id`? */
static TL_INLINE bool passes(const tl_tape *t, const tl_node *n, int k, uint32_t id)
{
    return leads(&t->walk, id) && (tl_node_at(t, id)->flags & NODE_NEEDS_GRADIENT) &&
           !((n->flags & NODE_CUT) && tl_is_stopped(t, t->walk.node, k));
}

static bool is_finite_term(tl_tape *t, const tl_node *n, int k, tl_var dx)
{
    const tl_node *term = tl_node_of(t, dx, n->op->name);
    return term && tl_trap(t, n->op->name, "its derivative", k, tl_node_array(term));
}

/* The term of operand k, on its way to the operand's gradient. */
static TL_INLINE bool deliver(tl_tape *t, const tl_node *n, int k, uint32_t id, tl_var dx)
{
    if ((t->observe & OBSERVE_TRAP) && !is_finite_term(t, n, k, dx))
        return false;
    return accumulate(t, id, dx);
}

/* A partial needs its operands as variables only: their numbers are not looked up. */
static TL_INLINE void push_elementwise(tl_tape *t, const tl_node *n, tl_var y, tl_var g)
{
    enum { MOST = 4 };
    tl_var in[MOST];
    const uint32_t *ids = tl_node_inputs(n);
    int count = (int)n->count;
    for (int k = 0; k < count; k++)
        in[k] = tl_var_of(t, ids[k]);
    tl_call c = {.tape = t, .op = n->op, .count = count, .in = in, .attr = n->attr, .out = y};
    for (int k = 0; k < count; k++) {
        if (!passes(t, n, k, ids[k]))
            continue;
        tl_var dx = n->op->partial(&c, k, g);
        if (tl_is_none(dx))
            continue;
        dx = fit(t, dx, tl_node_at(t, ids[k])->layout);
        if (t->error.status || !deliver(t, n, k, ids[k], dx))
            return;
    }
}

/* dx[k] by a derivation on numbers, into room of its own. */
static void derive_by_hand(tl_tape *t, const tl_call *c, tl_var g, tl_var *dx)
{
    if (!t->unrecorded) {
        tl_call_fail(c, TL_ERR_NO_DERIVATIVE,
                     "its backward is written by hand, on numbers: it has a first derivative, but no "
                     "second, and none in forward mode");
        return;
    }
    if ((t->observe & OBSERVE_CHANGES) && !tl_refuse_changed(t, c->count, c->in))
        return; /* it reads them all, for what is known */
    const tl_node *dy = tl_node_of(t, tl_contiguous(t, g), c->op->name);
    tl_block *room = tl_pool_get(&t->pool, (size_t)c->count * sizeof(tl_array));
    if (!room)
        tl_tape_no_memory(t);
    tl_array *out = room ? tl_block_data(room) : NULL;
    for (int k = 0; k < c->count && dy && out; k++) {
        uint32_t id;
        out[k] = (tl_array){NULL, c->x[k].layout, c->x[k].dtype};
        if (!tl_call_wants(c, k))
            continue;
        tl_node *n = loose_zeros(t, c->x[k].dtype, c->x[k].layout, &id);
        if (!n)
            break;
        out[k] = tl_node_array(n);
        dx[k] = tl_var_of(t, id);
    }
    if (dy && t->error.status == TL_OK)
        c->op->backward(c, tl_node_array(dy), out);
    tl_pool_put(&t->pool, room);
}

static void push_terms(tl_tape *t, const tl_node *n, const tl_call *c, tl_var g, tl_var *dx)
{
    for (int k = 0; k < c->count; k++)
        dx[k] = TL_NONE;
    if (c->op->vjp)
        c->op->vjp(c, g, dx);
    else
        derive_by_hand(t, c, g, dx);
    for (int k = 0; k < c->count && !t->error.status; k++) {
        tl_node *x = tl_node_at(t, c->in[k].id);
        if (tl_is_none(dx[k]) || !passes(t, n, k, c->in[k].id))
            continue;
        const tl_node *d = tl_node_at(t, dx[k].id);
        if (!tl_layout_same_shape(d->layout, x->layout) || d->dtype != x->dtype) {
            char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
            tl_call_fail(c, TL_ERR_SHAPE,
                         "its derivative for operand %d is %s %s, but the operand is %s %s", k,
                         tl_dtype_name((tl_dtype)d->dtype), tl_layout_text(d->layout, a),
                         tl_dtype_name((tl_dtype)x->dtype), tl_layout_text(x->layout, b));
            return;
        }
        deliver(t, n, k, c->in[k].id, dx[k]);
    }
}

static void push_general(tl_tape *t, const tl_node *n, tl_var y, tl_var g)
{
    enum { FEW = 4 };
    tl_var in_few[FEW], dx_few[FEW], *in = in_few, *dx = dx_few;
    tl_array x_few[FEW], *x = x_few;
    tl_block *room = NULL;
    if (n->count > FEW) {
        room = tl_pool_get(&t->pool, (size_t)n->count * (sizeof(tl_array) + 2 * sizeof(tl_var)));
        if (!room) {
            tl_tape_no_memory(t);
            return;
        }
        x = tl_block_data(room);
        in = (tl_var *)(x + n->count);
        dx = in + n->count;
    }
    tl_call call;
    tl_node_call(t, n, in, x, &call);
    call.out = y;
    push_terms(t, n, &call, g, dx);
    tl_pool_put(&t->pool, room);
}

/* ---- the walk --------------------------------------------------------------------------- */

/* Takes over the reference to g. */
static void keep_gradient(tl_tape *t, tl_node *n, uint32_t handle)
{
    if (!n->kept) {
        n->kept = handle;
        return;
    }
    tl_var sum = tl_add(t, tl_var_of(t, id_of(n->kept)), tl_var_of(t, id_of(handle)));
    tl_loose_release(t, id_of(handle));
    if (t->error.status)
        return;
    tl_loose_retain(t, sum.id);
    tl_loose_release(t, id_of(n->kept));
    n->kept = handle_of(sum.id);
}

static uint32_t complete(tl_tape *t, tl_node *n)
{
    uint32_t handle = n->gradient;
    n->gradient = 0;
    if (n->flags & NODE_DEFERRED) {
        double begin = t->observe & OBSERVE_PROFILE ? tl_clock() : 0;
        tl_panel_flush(t, tl_node_at(t, id_of(handle))->data);
        if (t->observe & OBSERVE_PROFILE)
            tl_profile_add(t, &tl_op_sum_outer, (tl_profile_line){.backward = tl_clock() - begin});
        n->flags &= NODE_ALL & ~(unsigned)NODE_DEFERRED;
    }
    return handle;
}

/* What the hooks make of a complete gradient. */
static uint32_t run_hooks(tl_tape *t, uint32_t id, uint32_t handle)
{
    tl_var g = tl_var_of(t, id_of(handle)), replaced = tl_run_hooks(t, id, g);
    if (t->error.status || replaced.id == g.id)
        return handle;
    tl_loose_retain(t, replaced.id);
    tl_loose_release(t, g.id);
    return handle_of(replaced.id);
}

static TL_INLINE void push(tl_tape *t, const tl_node *n, tl_var y, tl_var g)
{
    double begin = t->observe & OBSERVE_PROFILE ? tl_clock() : 0;
    if (n->op->kind == TL_ELEMENTWISE)
        push_elementwise(t, n, y, g);
    else
        push_general(t, n, y, g);
    if (t->observe & OBSERVE_PROFILE)
        tl_profile_add(t, n->op, (tl_profile_line){.backward = tl_clock() - begin});
}

static TL_INLINE void walk_node(tl_tape *t, uint32_t id)
{
    tl_node *n = tl_node_at(t, id);
    uint32_t handle = complete(t, n), mark = t->recent.count;
    t->walk.pending--;
    t->walk.node = id;
    t->scopes.current = n->scope;
    if (n->flags & NODE_HOOKED)
        handle = run_hooks(t, id, handle);
    if (n->flags & NODE_CONSUMED) {
        tl_tape_fail(
            t, TL_ERR_CONSUMED,
            "backward: %s has been walked back already; record it anew after tl_tape_reset, cut the "
            "graph before it with tl_detach, or walk the first time with tl_backward_retain",
            n->op->name);
    } else if (!t->error.status) { /* a hook may have failed */
        push(t, n, tl_var_of(t, id), tl_var_of(t, id_of(handle)));
        if (!t->walk.retain)
            n->flags |= NODE_CONSUMED;
    }
    if (n->flags & (t->walk.sinks ? NODE_KEEP : NODE_ASKED))
        keep_gradient(t, n, handle);
    else
        tl_loose_release(t, id_of(handle));
    if (!t->walk.create_graph)
        tl_recent_sweep(t, mark);
}

/* From the variable before `end` down to `from`. */
static void walk_down(tl_tape *t, uint32_t end, uint32_t from)
{
    for (uint32_t id = end; t->walk.pending && !t->error.status && id-- > from;)
        if (tl_node_at(t, id)->gradient && tl_node_at(t, id)->op)
            walk_node(t, id);
}

/* A hooked leaf's gradient comes to the leaf's tensor only now, as the hooks have left it. */
static uint32_t add_to_sink(tl_tape *t, tl_node *x, uint32_t handle)
{
    const tl_node *g = tl_node_of(t, tl_var_of(t, id_of(handle)), "backward");
    if (!g || !begin_sink(t, x))
        return handle;
    tl_add_into(tl_node_array(g), tl_node_array(tl_node_at(t, id_of(x->gradient))));
    tl_loose_release(t, id_of(handle));
    return complete(t, x);
}

/* Terms that were finite may have a sum that is not. */
static bool trap_leaf(tl_tape *t, const tl_node *n, uint32_t handle)
{
    const tl_node *g = tl_node_of(t, tl_var_of(t, id_of(handle)), "backward");
    const char *name = n->leaf->name ? n->leaf->name : "leaf";
    return g && tl_trap(t, name, "its gradient", -1, tl_node_array(g));
}

static void finish_leaf(tl_tape *t, uint32_t id)
{
    tl_node *n = tl_node_at(t, id);
    if (!n->gradient)
        return;
    uint32_t handle = complete(t, n);
    if ((t->observe & OBSERVE_TRAP) && !trap_leaf(t, n, handle)) {
        keep_gradient(t, n, handle);
        return;
    }
    if (n->flags & NODE_HOOKED) {
        t->scopes.current = n->scope;
        handle = run_hooks(t, id, handle);
        if (t->walk.sinks && n->leaf->gradient && !t->error.status)
            handle = add_to_sink(t, n, handle);
    }
    keep_gradient(t, n, handle);
}

static void finish_leaves(tl_tape *t)
{
    for (uint32_t i = 0; i < t->walk.leaves.count && !t->error.status; i++)
        finish_leaf(t, t->walk.leaves.id[i]);
    t->walk.leaves.count = 0;
}

/* Leaves among those that were recorded for this stretch alone are about to be forgotten. */
static void drop_leaves(tl_tape *t, uint32_t from)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->walk.leaves.count; i++)
        if (t->walk.leaves.id[i] < from)
            t->walk.leaves.id[kept++] = t->walk.leaves.id[i];
    t->walk.leaves.count = kept;
}

void tl_walk_stretch(tl_tape *t, uint32_t from, int count, const tl_var *output, const tl_var *seed)
{
    uint32_t at = t->walk.node, end = t->nodes.count;
    for (int k = 0; k < count && !t->error.status; k++)
        if (!tl_is_none(output[k]) && !tl_is_none(seed[k]) && tl_needs_gradient(t, output[k]))
            accumulate(t, output[k].id, seed[k]);
    walk_down(t, end, from);
    if (!t->walk.create_graph)
        drop_leaves(t, from);
    t->walk.node = at;
}

/* Walks back from `from`, whose gradient is `seed`. */
static tl_status walk(tl_tape *t, uint32_t from, tl_var seed, tl_walk how)
{
    if (t->walk.active)
        return tl_tape_fail(t, TL_ERR_ARGUMENT,
                            "%s: called by a hook, in the middle of another walk over the tape",
                            how.sinks ? "backward" : "grad");
    how.leaves = t->walk.leaves;
    how.active = true;
    t->walk = how;
    uint32_t scope = t->scopes.current;
    unsigned observe = t->observe; /* tl_jvp may be looking for changes around this walk */
    tl_find_changes(t);
    if (!how.create_graph)
        tl_no_record_begin(t);
    tl_loose_retain(t, seed.id); /* the caller's own numbers: shared, so never added to */
    accumulate(t, from, seed);
    walk_down(t, from + 1, 0);
    if (!t->error.status)
        finish_leaves(t);
    tl_loose_release(t, seed.id);
    if (!how.create_graph)
        tl_no_record_end(t, 0, NULL);
    t->walk.active = false;
    t->observe = (t->observe & ~(unsigned)OBSERVE_CHANGES) | (observe & OBSERVE_CHANGES);
    if (!t->error.status)
        t->scopes.current = scope;
    return t->error.status;
}

static tl_var one_like(tl_tape *t, const tl_node *n)
{
    return tl_full(t, (tl_dtype)n->dtype, n->layout->ndim, n->layout->shape, 1);
}

static tl_status backward(tl_tape *t, tl_var loss, bool retain)
{
    tl_node *n = tl_node_of(t, loss, "backward");
    char shape[TL_LAYOUT_TEXT];
    if (!n)
        return t->error.status;
    if (n->layout->count != 1)
        return tl_tape_fail(
            t, TL_ERR_SHAPE,
            "backward: starts from one element, not %s; take a sum or a mean, or tl_grad",
            tl_layout_text(n->layout, shape));
    if (!(n->flags & NODE_NEEDS_GRADIENT))
        return tl_tape_fail(t, TL_ERR_ARGUMENT,
                            "backward: the loss depends on no leaf that wants a gradient");
    tl_no_record_begin(t); /* the seed leaves no trace on the tape */
    uint32_t id;
    tl_node *seed = tl_loose_room(t, (tl_dtype)n->dtype, n->layout, &id);
    if (seed) {
        tl_tensor one = {.data = seed->data, .layout = *n->layout, .dtype = (tl_dtype)n->dtype};
        tl_tensor_fill(&one, 1);
        walk(t, loss.id, tl_var_of(t, id), (tl_walk){.sinks = true, .retain = retain});
    }
    tl_no_record_end(t, 0, NULL);
    return t->error.status;
}

tl_status tl_backward(tl_tape *t, tl_var loss)
{
    return backward(t, loss, false);
}

tl_status tl_backward_retain(tl_tape *t, tl_var loss)
{
    return backward(t, loss, true);
}

/* ---- gradients of chosen variables ------------------------------------------------------ */

/* For the time of the walk `kept` holds the answer; what tl_backward had left there is put back
 * afterwards, in reverse, so that an input that is given twice comes out right. */
static void ask_inputs(tl_tape *t, int count, const tl_var *inputs, uint32_t *saved)
{
    for (int k = 0; k < count; k++) {
        tl_node *x = tl_node_at(t, inputs[k].id);
        saved[k] = x->kept;
        x->kept = 0;
        x->flags |= NODE_ASKED;
    }
}

/* The caller's reference to an answer: within a no-record region it ends with the region. */
static void leave_to_region(tl_tape *t, uint32_t id)
{
    if (!t->unrecorded || !(id & TL_LOOSE))
        return;
    tl_node *n = tl_node_at(t, id);
    if (n->flags & NODE_RECENT)
        n->refs--; /* the region has it already */
    else if (tl_id_push(t, &t->recent, id)) {
        n->flags |= NODE_RECENT;
        n->refs--;
    }
}

static void collect_inputs(tl_tape *t, int count, const tl_var *inputs, const uint32_t *saved,
                           tl_var *grads)
{
    for (int k = 0; k < count; k++) {
        tl_node *x = tl_node_at(t, inputs[k].id);
        if (x->kept) {
            tl_loose_retain(t, id_of(x->kept));
            grads[k] = tl_var_of(t, id_of(x->kept));
            leave_to_region(t, grads[k].id);
        } else {
            grads[k] = tl_full(t, (tl_dtype)x->dtype, x->layout->ndim, x->layout->shape, 0);
        }
    }
    for (int k = count - 1; k >= 0; k--) {
        tl_node *x = tl_node_at(t, inputs[k].id);
        if (x->kept && (x->flags & NODE_ASKED))
            tl_loose_release(t, id_of(x->kept));
        x->kept = saved[k];
        x->flags &= NODE_ALL & ~(unsigned)NODE_ASKED;
    }
}

static bool grad_fits(tl_tape *t, tl_var output, tl_var *seed, int count, const tl_var *inputs)
{
    tl_node *y = tl_node_of(t, output, "grad");
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    for (int k = 0; y && k < count; k++) {
        tl_node *x = tl_node_of(t, inputs[k], "grad");
        if (x && (inputs[k].id & TL_LOOSE))
            tl_tape_fail(t, TL_ERR_ARGUMENT, "grad: input %d was not recorded", k);
        else if (x && !(x->flags & NODE_NEEDS_GRADIENT))
            tl_tape_fail(t, TL_ERR_ARGUMENT, "grad: input %d wants no gradient: it depends on no leaf",
                         k);
    }
    if (!y || t->error.status)
        return false;
    if (output.id & TL_LOOSE) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "grad: the output was not recorded");
        return false;
    }
    if (tl_is_none(*seed)) {
        if (y->layout->count != 1)
            tl_tape_fail(t, TL_ERR_SHAPE, "grad: an output of shape %s needs an output_grad",
                         tl_layout_text(y->layout, a));
        else
            *seed = one_like(t, y);
        return t->error.status == TL_OK;
    }
    tl_node *g = tl_node_of(t, *seed, "grad");
    if (g && (!tl_layout_same_shape(g->layout, y->layout) || g->dtype != y->dtype))
        tl_tape_fail(t, TL_ERR_SHAPE, "grad: output_grad is %s %s, but the output is %s %s",
                     tl_dtype_name((tl_dtype)g->dtype), tl_layout_text(g->layout, a),
                     tl_dtype_name((tl_dtype)y->dtype), tl_layout_text(y->layout, b));
    return t->error.status == TL_OK;
}

static uint32_t first_of(int count, const tl_var *inputs)
{
    uint32_t first = UINT32_MAX;
    for (int k = 0; k < count; k++)
        first = inputs[k].id < first ? inputs[k].id : first;
    return first;
}

/* Which of the variables from .. to depend on an input. */
static void find_leads(const tl_tape *t, uint32_t from, uint32_t to, bool *found)
{
    for (uint32_t id = from; id <= to; id++) {
        const tl_node *n = tl_node_at(t, id);
        bool lead = (n->flags & NODE_ASKED) || (n->op && n->op->captures);
        for (uint32_t k = 0; !lead && k < n->count; k++) {
            uint32_t in = tl_node_inputs(n)[k];
            lead = !(in & TL_LOOSE) && in >= from && found[in - from];
        }
        found[id - from] = lead;
    }
}

/* The walk of tl_grad: down to the first of the inputs, along what leads to one. */
static void walk_to(tl_tape *t, tl_var output, tl_var seed, uint32_t floor, bool create_graph)
{
    if (!(tl_node_at(t, output.id)->flags & NODE_NEEDS_GRADIENT) || output.id < floor)
        return;
    tl_block *room = tl_pool_get(&t->pool, output.id - floor + 1);
    if (!room) {
        tl_tape_no_memory(t);
        return;
    }
    bool *found = tl_block_data(room);
    find_leads(t, floor, output.id, found);
    if (found[output.id - floor])
        walk(t, output.id, seed,
             (tl_walk){.create_graph = create_graph,
                       .retain = true,
                       .leads = found,
                       .last = output.id,
                       .floor = floor});
    t->walk.leads = NULL;
    tl_pool_put(&t->pool, room);
}

tl_status tl_grad(tl_tape *t, tl_var output, tl_var output_grad, int count, const tl_var *inputs,
                  bool create_graph, tl_var *grads)
{
    for (int k = 0; k < count; k++)
        grads[k] = tl_poison(t);
    if (!grad_fits(t, output, &output_grad, count, inputs))
        return t->error.status;
    tl_block *room = tl_pool_get(&t->pool, (size_t)count * sizeof(uint32_t));
    if (!room)
        return tl_tape_no_memory(t);
    uint32_t *saved = tl_block_data(room);
    ask_inputs(t, count, inputs, saved);
    walk_to(t, output, output_grad, first_of(count, inputs), create_graph);
    collect_inputs(t, count, inputs, saved, grads);
    tl_pool_put(&t->pool, room);
    return t->error.status;
}

void tl_keep_gradient(tl_tape *t, tl_var v)
{
    tl_node *n = tl_node_of(t, v, "keep_gradient");
    if (n && (v.id & TL_LOOSE))
        tl_tape_fail(t, TL_ERR_ARGUMENT, "keep_gradient: the variable was not recorded");
    else if (n)
        n->flags |= NODE_KEEP;
}

tl_var tl_gradient(tl_tape *t, tl_var v)
{
    tl_node *n = tl_node_of(t, v, "gradient");
    return n && !(v.id & TL_LOOSE) && n->kept ? tl_var_of(t, id_of(n->kept)) : TL_NONE;
}
