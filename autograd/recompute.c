/* recompute.c - a stretch as one op: its forward runs the function off the record, its derivative runs
 * it on the record, walks what was recorded, and rewinds the tape.
 *
 *   tape   ... in | stretch | part part | ...         forward: one array of all outputs, and parts of
 * it
 *
 *   walk comes to `stretch`, which has the gradients of its parts:
 *
 *   tape   ... in | stretch | part part | ... | a b c d       recorded again at the end, outputs seeded
 *   walk                                         <------      down to where that began
 *   tape   ... in | stretch | part part | ...                 rewound; the gradient of `in` has what is
 * its */
#include "autograd/recompute.h"

#include <string.h>

#include "autograd/ops.h"
#include "autograd/tape_impl.h"
#include "tensor/kernels.h"

/* ---- recording again -------------------------------------------------------------------- */

tl_moment tl_moment_now(const tl_tape *t)
{
    return (tl_moment){t->scopes.current, t->chain, t->unrecorded, t->random};
}

void tl_moment_set(tl_tape *t, const tl_moment *moment)
{
    t->scopes.current = moment->scope;
    t->chain = moment->chain;
    t->unrecorded = moment->unrecorded;
    t->random = moment->random;
}

void tl_derive_again(const tl_call *c, tl_var dy,
                     void (*walk)(const tl_call *c, tl_var dy, uint32_t from))
{
    tl_tape *t = c->tape;
    if (!t->walk.active) {
        tl_call_fail(c, TL_ERR_NO_DERIVATIVE, "there is no forward mode through a stretch");
        return;
    }
    tl_tape_mark mark = tl_tape_mark_here(t);
    uint32_t again = t->again;
    t->again = again < mark.nodes ? again : mark.nodes;
    walk(c, dy, mark.nodes);
    if (!t->walk.create_graph)
        tl_tape_rewind(t, &mark);
    t->again = again;
}

/* ---- what is kept of a stretch ---------------------------------------------------------- */

typedef struct kept {
    tl_stretch *function;
    void *context;
    int outputs;
    tl_moment moment; /* when it began */
    tl_dtype dtype;
    int64_t total;           /* elements of all outputs */
    const tl_layout **shape; /* [outputs] */
    const void *values;      /* while the stretch is being recorded */
} kept;

static kept *kept_of(const tl_call *c)
{
    return (kept *)(uintptr_t)c->attr->i[0];
}

static bool stretch_shape(tl_call *c, tl_layout *layout)
{
    c->y.dtype = kept_of(c)->dtype;
    return tl_layout_make(layout, 1, &kept_of(c)->total) == TL_OK;
}

static void stretch_forward(tl_call *c)
{
    memcpy(c->y.data, kept_of(c)->values, (size_t)kept_of(c)->total * tl_dtype_size(c->y.dtype));
}

/* Output k of the array of all of them, or of their gradients. */
static tl_var part(tl_tape *t, const kept *s, tl_var all, int k, int64_t offset)
{
    tl_var flat = tl_slice(t, all, 0, offset, offset + s->shape[k]->count, 1);
    return tl_reshape(t, flat, s->shape[k]->ndim, s->shape[k]->shape);
}

static void parts(tl_tape *t, const kept *s, tl_var all, tl_var *out)
{
    int64_t offset = 0;
    for (int k = 0; k < s->outputs; k++) {
        out[k] = part(t, s, all, k, offset);
        offset += s->shape[k]->count;
    }
}

static void walk_stretch(const tl_call *c, tl_var dy, uint32_t from)
{
    tl_tape *t = c->tape;
    const kept *s = kept_of(c);
    tl_moment now = tl_moment_now(t);
    tl_var *out = tl_scratch(t, (size_t)s->outputs * sizeof *out);
    tl_var *seed = tl_scratch(t, (size_t)s->outputs * sizeof *seed);
    if (!out || !seed)
        return;
    parts(t, s, dy, seed);
    tl_moment_set(t, &s->moment);
    s->function(t, s->context, c->in, out);
    tl_moment_set(t, &now);
    tl_walk_stretch(t, from, s->outputs, out, seed);
}

static void stretch_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    (void)dx; /* the walk of what is recorded again adds to the operands' gradients itself */
    tl_derive_again(c, dy, walk_stretch);
}

static const tl_op stretch_op = {.name = "stretch",
                                 .equation = "y = all outputs of a function that is recorded again",
                                 .kind = TL_GENERAL,
                                 .least = 1,
                                 .most = -1,
                                 .mixed = true,
                                 .captures = true,
                                 .shape = stretch_shape,
                                 .forward = stretch_forward,
                                 .vjp = stretch_vjp};

/* ---- recording one ---------------------------------------------------------------------- */

static bool outputs_fit(tl_tape *t, int outputs, const tl_var *out)
{
    for (int k = 0; k < outputs; k++) {
        const tl_node *n = tl_node_of(t, out[k], "recompute"),
                      *first = n ? tl_node_of(t, out[0], "recompute") : NULL;
        if (!n)
            return false;
        if (!tl_dtype_is_real((tl_dtype)n->dtype) || n->dtype != first->dtype) {
            tl_tape_fail(t, TL_ERR_DTYPE, "recompute: output %d is %s; outputs are reals of one dtype",
                         k, tl_dtype_name((tl_dtype)n->dtype));
            return false;
        }
    }
    return true;
}

/* The outputs one after the other in a block of their own; their shapes into `s`. */
static tl_block *collect(tl_tape *t, kept *s, const tl_var *out)
{
    if (!outputs_fit(t, s->outputs, out))
        return NULL;
    s->dtype = (tl_dtype)tl_node_at(t, out[0].id)->dtype;
    for (int k = 0; k < s->outputs; k++) {
        const tl_layout *l = tl_node_at(t, out[k].id)->layout;
        tl_layout dense;
        tl_layout_make(&dense, l->ndim, l->shape);
        s->shape[k] = tl_tape_layout(t, &dense);
        s->total += l->count;
    }
    tl_block *block =
        t->error.status ? NULL : tl_pool_get(&t->pool, (size_t)s->total * tl_dtype_size(s->dtype));
    char *to = block ? tl_block_data(block) : NULL;
    for (int k = 0; to && k < s->outputs; k++) {
        tl_copy(tl_node_array(tl_node_at(t, out[k].id)), (tl_array){to, s->shape[k], s->dtype});
        to += (size_t)s->shape[k]->count * tl_dtype_size(s->dtype);
    }
    if (!block)
        tl_tape_no_memory(t);
    return block;
}

/* Runs the function off the record; all that is left of it is what collect() took. */
static tl_block *run(tl_tape *t, kept *s, const tl_var *in, tl_var *out)
{
    tl_tape_mark mark = tl_tape_mark_here(t);
    uint32_t again = t->again, scope = t->scopes.current;
    t->again = again < mark.nodes ? again : mark.nodes;
    tl_no_record_begin(t);
    s->function(t, s->context, in, out);
    tl_block *block = t->error.status ? NULL : collect(t, s, out);
    tl_no_record_end(t, 0, NULL);
    t->again = again;
    if (t->error.status == TL_OK)
        t->scopes.current = scope;
    tl_tape_rewind(t, &mark);
    return block;
}

static kept *new_kept(tl_tape *t, tl_stretch *function, void *context, int outputs)
{
    kept *s = tl_scratch(t, sizeof *s);
    if (!s)
        return NULL;
    *s = (kept){.function = function,
                .context = context,
                .outputs = outputs,
                .moment = tl_moment_now(t),
                .shape = tl_scratch(t, (size_t)outputs * sizeof *s->shape)};
    return s->shape ? s : NULL;
}

tl_status tl_recompute(tl_tape *t, tl_stretch *stretch, void *context, int inputs, const tl_var *in,
                       int outputs, tl_var *out)
{
    for (int k = 0; k < outputs; k++)
        out[k] = tl_poison(t);
    if (t->error.status)
        return t->error.status;
    if (inputs < 1 || outputs < 1)
        return tl_tape_fail(t, TL_ERR_ARGUMENT,
                            "recompute: %d inputs, %d outputs: at least one of each", inputs, outputs);
    if (t->unrecorded) {
        stretch(t, context, in, out);
        return t->error.status;
    }
    kept *s = new_kept(t, stretch, context, outputs);
    tl_block *values = s ? run(t, s, in, out) : NULL;
    if (!values)
        return t->error.status;
    s->values = tl_block_data(values);
    tl_var all = tl_apply(t, &stretch_op, inputs, in, &(tl_attr){.i = {(int64_t)(uintptr_t)s}, .n = 1});
    tl_pool_put(&t->pool, values);
    if (t->error.status)
        return t->error.status;
    tl_node_at(t, all.id)->flags |= NODE_NEEDS_GRADIENT; /* the function may use parameters */
    parts(t, s, all, out);
    return t->error.status;
}
