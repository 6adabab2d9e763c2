/* forward_mode.c - tangents pushed along the recording: what is on the tape is walked forwards.
 *
 *   for id = first input ... output:
 *       tangent of node id  =  sum over its operands k of  (dy/dx_k) tangent of operand k
 *
 * No op has a rule for this. An elementwise op's partial serves both directions. An op that is linear
 * in its one real operand is applied to the tangent. For the others the transposed derivative, which
 * backward uses, is transposed once more: vjp(v) is linear in v, so that
 *
 *       jvp(u) = d/dv  sum_k u_k . vjp(v)_k            whatever v is */
#include "autograd/tape_impl.h"

#include <string.h>

#include "autograd/ops.h"

typedef struct push {
    tl_tape *tape;
    uint32_t node;   /* whose tangent is being computed */
    tl_var *tangent; /* by id, from `first` on; TL_NONE: zero */
    bool *leads;     /* to the output; by id, from `first` on */
    uint32_t first;
} push;

static tl_var tangent_of(const push *p, int k)
{
    const tl_node *n = tl_node_at(p->tape, p->node);
    uint32_t id = tl_node_inputs(n)[k];
    if ((id & TL_LOOSE) || id < p->first)
        return TL_NONE;
    if ((n->flags & NODE_CUT) && tl_is_stopped(p->tape, p->node, k))
        return TL_NONE;
    return p->tangent[id - p->first];
}

static tl_var add_term(tl_tape *t, tl_var sum, tl_var term)
{
    return tl_is_none(sum) ? term : tl_is_none(term) ? sum : tl_add(t, sum, term);
}

static tl_var along_elementwise(const push *p, const tl_call *c)
{
    tl_var sum = TL_NONE;
    for (int k = 0; k < c->count; k++) {
        tl_var u = tangent_of(p, k);
        if (!tl_is_none(u))
            sum = add_term(p->tape, sum, c->op->partial(c, k, u));
    }
    if (tl_is_none(sum) || tl_tape_status(p->tape) != TL_OK)
        return sum;
    const tl_layout *have = tl_value(p->tape, sum).layout, *want = c->y.layout;
    return tl_layout_same_shape(have, want) ? sum : tl_expand(p->tape, sum, want->ndim, want->shape);
}

static bool is_linear_in_one(const tl_call *c)
{
    int reals = 0;
    for (int k = 0; k < c->count; k++)
        reals += tl_dtype_is_real(c->x[k].dtype);
    return reals == 1 && tl_dtype_is_real(c->x[0].dtype) &&
           (c->op->kind == TL_LINEAR || c->op->kind == TL_VIEW);
}

static tl_var along_linear(const push *p, const tl_call *c)
{
    tl_var in[4] = {tangent_of(p, 0)};
    for (int k = 1; k < c->count; k++)
        in[k] = c->in[k];
    return tl_apply(p->tape, c->op, c->count, in, c->attr);
}

/* A leaf of the shape of y for v; its value does not matter, as vjp is linear in it. */
static tl_var some_v(tl_tape *t, tl_array y)
{
    tl_tensor *zeros = tl_tensor_zeros(y.dtype, y.layout->ndim, y.layout->shape, NULL);
    if (!zeros) {
        tl_tape_no_memory(t);
        return tl_poison(t);
    }
    tl_var v = tl_leaf_untied(t, zeros);
    tl_tensor_release(zeros);
    return v;
}

static tl_var along_general(const push *p, const tl_call *c, tl_var *dx)
{
    tl_tape *t = p->tape;
    tl_var v = some_v(t, c->y), sum = TL_NONE, along = TL_NONE;
    for (int k = 0; k < c->count; k++)
        dx[k] = TL_NONE;
    if (!c->op->vjp)
        tl_call_fail(
            c, TL_ERR_NO_DERIVATIVE,
            "its backward is written by hand, on numbers: there is no forward mode through it");
    if (tl_tape_status(t) == TL_OK)
        c->op->vjp(c, v, dx);
    for (int k = 0; k < c->count; k++) {
        tl_var u = tangent_of(p, k);
        if (!tl_is_none(u) && !tl_is_none(dx[k]))
            sum = add_term(t, sum, tl_sum(t, tl_mul(t, u, dx[k])));
    }
    if (!tl_is_none(sum))
        tl_grad(t, sum, TL_NONE, 1, &v, true, &along);
    return along;
}

static tl_var along_node(push *p, uint32_t id)
{
    tl_tape *t = p->tape;
    const tl_node *n = tl_node_at(t, id);
    bool moves = false;
    p->node = t->walk.node = id;
    for (int k = 0; k < (int)n->count; k++)
        moves = moves || !tl_is_none(tangent_of(p, k));
    if (!moves || !(n->flags & NODE_NEEDS_GRADIENT))
        return TL_NONE;
    size_t bytes = (size_t)n->count * (2 * sizeof(tl_var) + sizeof(tl_array));
    tl_array *x = tl_scratch(t, bytes);
    if (!x)
        return tl_poison(t);
    tl_var *in = (tl_var *)(x + n->count), *dx = in + n->count;
    tl_call call;
    tl_node_call(t, n, in, x, &call);
    call.out = tl_var_of(t, id);
    t->scopes.current = n->scope;
    if (n->op->kind == TL_ELEMENTWISE)
        return along_elementwise(p, &call);
    return is_linear_in_one(&call) && n->count <= 4 ? along_linear(p, &call)
                                                    : along_general(p, &call, dx);
}

/* What does not lead to the output has no business here: it may not even have a tangent. */
static void find_path(push *p, uint32_t output)
{
    p->leads[output - p->first] = true;
    for (uint32_t id = output + 1; id-- > p->first;) {
        const tl_node *n = tl_node_at(p->tape, id);
        for (uint32_t k = 0; p->leads[id - p->first] && k < n->count; k++) {
            uint32_t in = tl_node_inputs(n)[k];
            if (!(in & TL_LOOSE) && in >= p->first)
                p->leads[in - p->first] = true;
        }
    }
}

static bool begin(push *p, tl_var output, int count, const tl_var *inputs, const tl_var *tangents)
{
    tl_tape *t = p->tape;
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    p->first = output.id;
    for (int k = 0; k < count; k++) {
        const tl_node *x = tl_node_of(t, inputs[k], "jvp"),
                      *u = x ? tl_node_of(t, tangents[k], "jvp") : NULL;
        if (!u)
            return false;
        if (inputs[k].id & TL_LOOSE)
            tl_tape_fail(t, TL_ERR_ARGUMENT, "jvp: input %d was not recorded", k);
        else if (!(x->flags & NODE_NEEDS_GRADIENT))
            tl_tape_fail(t, TL_ERR_ARGUMENT, "jvp: input %d depends on no leaf", k);
        else if (!tl_layout_same_shape(x->layout, u->layout) || x->dtype != u->dtype)
            tl_tape_fail(t, TL_ERR_SHAPE, "jvp: tangent %d is %s %s, but the input is %s %s", k,
                         tl_dtype_name((tl_dtype)u->dtype), tl_layout_text(u->layout, a),
                         tl_dtype_name((tl_dtype)x->dtype), tl_layout_text(x->layout, b));
        if (t->error.status)
            return false;
        p->first = inputs[k].id < p->first ? inputs[k].id : p->first;
    }
    size_t nodes = (size_t)(output.id - p->first) + 1;
    p->tangent = tl_scratch(t, nodes * (sizeof *p->tangent + sizeof *p->leads));
    if (!p->tangent)
        return false;
    p->leads = (bool *)(p->tangent + nodes);
    memset(p->tangent, 0, nodes * (sizeof *p->tangent + sizeof *p->leads)); /* TL_NONE, false */
    find_path(p, output.id);
    for (int k = 0; k < count; k++)
        if (inputs[k].id <= output.id) {
            tl_var *slot = &p->tangent[inputs[k].id - p->first];
            *slot = add_term(t, *slot, tangents[k]);
        }
    return t->error.status == TL_OK;
}

tl_var tl_jvp(tl_tape *t, tl_var output, int count, const tl_var *inputs, const tl_var *tangents)
{
    tl_node *y = tl_node_of(t, output, "jvp");
    push p = {.tape = t};
    if (y && (output.id & TL_LOOSE))
        tl_tape_fail(t, TL_ERR_ARGUMENT, "jvp: the output was not recorded");
    if (!y || t->error.status || !begin(&p, output, count, inputs, tangents))
        return tl_poison(t);
    uint32_t scope = t->scopes.current;
    tl_find_changes(t);
    for (uint32_t id = p.first; id <= output.id && !t->error.status; id++)
        if (p.leads[id - p.first] && tl_node_at(t, id)->op && tl_is_none(p.tangent[id - p.first]))
            p.tangent[id - p.first] = along_node(&p, id);
    t->observe &= ~(unsigned)OBSERVE_CHANGES;
    if (t->error.status)
        return tl_poison(t);
    t->scopes.current = scope;
    tl_var tangent = p.tangent[output.id - p.first];
    if (!tl_is_none(tangent))
        return tangent;
    y = tl_node_at(t, output.id);
    return tl_full(t, (tl_dtype)y->dtype, y->layout->ndim, y->layout->shape, 0);
}
