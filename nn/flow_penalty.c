/* flow_penalty.c - the regulariser that asks every step to keep the gradient's norm: Pascanu et al.,
 * "On the difficulty of training recurrent neural networks", ICML 2013, section 3.3.
 *
 *     g_(n+1) J_n     a walk back through one step, recorded (create_graph), begun with g_(n+1)
 *
 * and Omega is a function of the recorded numbers, as differentiable as any other. */
#include "nn/gradient_flow.h"

#include <string.h>

#include "autograd/inspect.h"
#include "autograd/ops.h"

typedef struct penalty {
    tl_tape *t;
    const tl_unrolled *u;
    tl_var *gradient; /* in the order of u->state; TL_NONE for states that depend on no leaf */
    tl_var sum;       /* Omega so far; TL_NONE: nothing yet */
} penalty;

static bool good(const tl_tape *t)
{
    return tl_tape_status(t) == TL_OK;
}

static int64_t states_in_all(const tl_unrolled *u)
{
    return (int64_t)u->layers * u->directions * u->states * (u->steps + 1);
}

/* ---- g_n -------------------------------------------------------------------------------- */

/* All of them in one walk. */
static bool find_gradients(penalty *p, tl_var loss, bool create_graph)
{
    int64_t all = states_in_all(p->u), count = 0;
    tl_var *wanted = tl_scratch(p->t, 2 * (size_t)all * sizeof *wanted);
    if (!wanted)
        return false;
    tl_var *found = wanted + all;
    for (int64_t i = 0; i < all; i++)
        if (tl_needs_gradient(p->t, p->u->state[i]))
            wanted[count++] = p->u->state[i];
    if (!good(p->t) || tl_grad(p->t, loss, TL_NONE, (int)count, wanted, create_graph, found) != TL_OK)
        return false;
    for (int64_t i = all; i-- > 0;)
        p->gradient[i] = tl_needs_gradient(p->t, p->u->state[i]) ? found[--count] : TL_NONE;
    return true;
}

static bool take_gradients(penalty *p, const tl_var *given)
{
    for (int64_t i = 0; i < states_in_all(p->u); i++)
        p->gradient[i] = tl_needs_gradient(p->t, p->u->state[i]) ? given[i] : TL_NONE;
    return good(p->t);
}

/* ---- one step --------------------------------------------------------------------------- */

static tl_var rows_of(tl_tape *t, tl_var x)
{
    tl_array a = tl_value(t, x);
    return a.layout ? tl_reshape(t, x, TL_SHAPE(a.layout->shape[0], -1)) : tl_poison(t);
}

/* The norm of each row of all states together: [B]. */
static tl_var row_norms(tl_tape *t, int count, const tl_var *x)
{
    tl_var row[TL_MOST_STATES];
    for (int k = 0; k < count; k++)
        row[k] = rows_of(t, x[k]);
    return tl_norm(t, tl_concat(t, count, row, 1), 2, 1, (const int[]){1}, false);
}

/* (|g J| / |g| - 1)^2, the mean over rows; 0 for rows with g = 0. */
static tl_var term_of(tl_tape *t, int count, const tl_var *arrived, const tl_var *carried)
{
    tl_var before = row_norms(t, count, arrived), after = row_norms(t, count, carried);
    tl_var silent = tl_eq_scalar(t, before, 0);
    tl_var ratio = tl_div(t, after, tl_masked_fill(t, before, silent, 1));
    return tl_mean(t, tl_masked_fill(t, tl_square(t, tl_sub_scalar(t, ratio, 1)), silent, 0));
}

/* from, to: indices of state 0, before and after the step. */
static void add_step(penalty *p, int64_t from)
{
    tl_tape *t = p->t;
    int states = p->u->states;
    int64_t stride = p->u->steps + 1;
    tl_var in[TL_MOST_STATES], arrived[TL_MOST_STATES], carried[TL_MOST_STATES], part[TL_MOST_STATES];
    for (int k = 0; k < states; k++) {
        in[k] = p->u->state[from + k * stride];
        arrived[k] = p->gradient[from + k * stride + 1];
        if (tl_is_none(p->gradient[from + k * stride]) || tl_is_none(arrived[k]))
            return;
    }
    for (int k = 0; k < states; k++) {
        tl_var out = p->u->state[from + k * stride + 1];
        if (tl_grad(t, out, arrived[k], states, in, true, part) != TL_OK)
            return;
        for (int i = 0; i < states; i++)
            carried[i] = k ? tl_add(t, carried[i], part[i]) : part[i];
    }
    tl_var term = term_of(t, states, arrived, carried);
    p->sum = tl_is_none(p->sum) ? term : tl_add(t, p->sum, term);
}

/* ---- what is held ----------------------------------------------------------------------- */

static uint32_t inputs_of(tl_tape *t, tl_var v)
{
    tl_node_info info;
    return tl_inspect(t, v, &info) == TL_OK ? (uint32_t)info.inputs : 0;
}

/* Which of the first `count` variables were computed from a state, or from what a step read. */
static bool *find_moving(const penalty *p, uint32_t count)
{
    bool *moves = tl_scratch(p->t, count + 1);
    if (!moves)
        return NULL;
    memset(moves, 0, count);
    int64_t inputs = (int64_t)p->u->layers * p->u->directions * p->u->steps;
    for (int64_t i = 0; i < states_in_all(p->u); i++)
        if (tl_tape_index(p->t, p->u->state[i]) < count)
            moves[tl_tape_index(p->t, p->u->state[i])] = true;
    for (int64_t i = 0; i < inputs; i++)
        if (tl_tape_index(p->t, p->u->input[i]) < count)
            moves[tl_tape_index(p->t, p->u->input[i])] = true;
    for (uint32_t id = 0; id < count; id++) {
        tl_var v = tl_tape_at(p->t, id);
        for (uint32_t k = 0, n = inputs_of(p->t, v); k < n && !moves[id]; k++) {
            uint32_t in = tl_tape_index(p->t, tl_input(p->t, v, (int)k));
            moves[id] = in < id && moves[in];
        }
    }
    return moves;
}

/* What was recorded from `count` on depends on those no more. */
static void hold_states(const penalty *p, uint32_t count)
{
    const bool *moves = find_moving(p, count);
    uint32_t end = tl_tape_count(p->t);
    for (uint32_t id = count; moves && id < end; id++) {
        tl_var v = tl_tape_at(p->t, id);
        for (uint32_t k = 0, n = inputs_of(p->t, v); k < n; k++) {
            uint32_t in = tl_tape_index(p->t, tl_input(p->t, v, (int)k));
            if (in < count && moves[in])
                tl_stop_edge(p->t, v, (int)k);
        }
    }
}

/* ---- all steps -------------------------------------------------------------------------- */

static tl_var omega(penalty *p)
{
    int64_t stride = p->u->steps + 1, cells = (int64_t)p->u->layers * p->u->directions;
    for (int64_t cell = 0; cell < cells; cell++)
        for (int64_t n = 0; n < p->u->steps && good(p->t); n++)
            add_step(p, cell * p->u->states * stride + n);
    if (good(p->t) && tl_is_none(p->sum))
        p->sum = tl_full(p->t, tl_value(p->t, p->u->state[0]).dtype, 0, NULL, 0);
    return good(p->t) ? p->sum : tl_poison(p->t);
}

tl_var tl_flow_penalty(tl_tape *t, tl_var loss, const tl_unrolled *u,
                       const tl_flow_penalty_options *options)
{
    const tl_flow_penalty_options none = {.gradients = NULL}, *o = options ? options : &none;
    penalty p = {.t = t, .u = u, .sum = TL_NONE};
    if (!good(t))
        return tl_poison(t);
    if (!u->state || !u->steps) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "flow_penalty: the handles are those of no unrolling");
        return tl_poison(t);
    }
    p.gradient = tl_scratch(t, (size_t)states_in_all(u) * sizeof *p.gradient);
    if (!p.gradient || !(o->gradients ? take_gradients(&p, o->gradients)
                                      : find_gradients(&p, loss, o->held == TL_HOLD_NOTHING)))
        return tl_poison(t);
    uint32_t recorded = tl_tape_count(t);
    tl_scope_begin(t, "flow_penalty", -1);
    tl_var sum = omega(&p);
    if (o->held == TL_HOLD_STATES && good(t))
        hold_states(&p, recorded);
    tl_scope_end(t);
    return sum;
}
