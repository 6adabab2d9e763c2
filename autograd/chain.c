/* chain.c - schedules for chains of steps: which stretches are recorded again, and in what pieces.
 *
 *   revolve, 10 steps, 3 slots        what is kept and recorded plainly stands in brackets
 *
 *     0 ----------- 4 ------- 7 -- 9 [9]     forward; states at 0, 4, 7 are kept
 *                             7 - 8 [8]      back: from 7
 *                             [7]
 *                   4 ----- 6 [6]            from 4, with the slot of 7 free again
 *     ...
 *
 * A chain with so many slots is: a stretch up to the split, with the same slots when its turn comes,
 * and the rest of the chain with one slot less. */
#include "autograd/recompute.h"

#include <math.h>

#include "autograd/ops.h"
#include "autograd/tape_impl.h"
#include "tensor/kernels.h"

/* ---- revolve ---------------------------------------------------------------------------- */

/* (s + t)! / (s! t!): how far s slots get with t repetitions. */
static double binomial(int64_t s, int64_t t)
{
    double value = t < 0 ? 0 : 1;
    for (int64_t k = 1; k <= t; k++)
        value = value * (double)(s + k) / (double)k;
    return floor(value + 0.5);
}

/* The fewest repetitions with which `slots` states suffice for n steps. */
static int64_t repetitions(int64_t n, int64_t slots)
{
    int64_t r = 0;
    while (binomial(slots, r) < (double)n)
        r++;
    return r;
}

/* Steps that are computed without being recorded. Griewank and Walther 2000, equation 3 */
static double revolve_cost(int64_t n, int64_t slots)
{
    int64_t r = repetitions(n, slots);
    return (double)r * (double)n - binomial(slots + 1, r - 1);
}

/* Where the second state goes: both parts lie between what r-1 and r repetitions can do. */
static int64_t revolve_split(int64_t n, int64_t slots)
{
    if (slots == 1)
        return n - 1;
    int64_t r = repetitions(n, slots);
    double least = binomial(slots, r - 2), rest = (double)n - binomial(slots - 1, r);
    double split = least > rest ? least : rest;
    return split < 1 ? 1 : (int64_t)split;
}

/* ---- internal states: C(t,m) = min over y of y + C(t-y,m-1) + C(y-1,m) ------------------------- */

typedef struct table {
    int64_t steps, slots, ratio; /* ratio 0: internal states only */
    int64_t *cost, *best;        /* [(steps + 1) * (slots + 1)]; best < 0: hidden state at -best */
} table;

static int64_t *cell(const table *c, int64_t *of, int64_t t, int64_t m)
{
    return &of[t * (c->slots + 1) + m];
}

/* The best y does not fall as t grows, and grows by one at most: two to look at. */
static void fill_cell(table *c, int64_t t, int64_t m)
{
    int64_t best = t, least = INT64_MAX, from = t > 1 ? *cell(c, c->best, t - 1, m) : 1;
    for (int64_t y = from; y <= t && y <= from + 1 && m > 1; y++) {
        int64_t total = y + *cell(c, c->cost, t - y, m - 1) + *cell(c, c->cost, y - 1, m);
        if (total < least) {
            least = total;
            best = y;
        }
    }
    *cell(c, c->cost, t, m) = m >= t ? t : m == 1 ? t * (t + 1) / 2 : least;
    *cell(c, c->best, t, m) = m >= t ? 1 : best;
}

/* Hidden state after y steps: y + C(t-y,m-1) + C(y,m); internal states of step y: y + C(t-y,m-a) +
 * C(y-1,m). */
static void fill_mixed(table *c, int64_t t, int64_t m)
{
    int64_t a = c->ratio, best = t, least = t * (t + 1) / 2;
    for (int64_t y = 1; y <= t && m > 1; y++) {
        int64_t hidden =
            y < t ? y + *cell(c, c->cost, t - y, m - 1) + *cell(c, c->cost, y, m) : INT64_MAX;
        int64_t internal = y == t  ? y + *cell(c, c->cost, y - 1, m)
                           : m > a ? y + *cell(c, c->cost, t - y, m - a) + *cell(c, c->cost, y - 1, m)
                                   : INT64_MAX;
        if (internal < least) {
            least = internal;
            best = y;
        }
        if (hidden < least) {
            least = hidden;
            best = -y;
        }
    }
    bool all = m > (t - 1) * a;
    *cell(c, c->cost, t, m) = all ? t : least;
    *cell(c, c->best, t, m) = all ? 1 : best;
}

static void fill(table *c)
{
    for (int64_t t = 0; t <= c->steps; t++)
        for (int64_t m = 1; m <= c->slots; m++)
            if (c->ratio)
                fill_mixed(c, t, m);
            else
                fill_cell(c, t, m);
}

/* ---- a part of a chain ------------------------------------------------------------------ */

typedef struct work {
    tl_chain chain;
    tl_schedule schedule;
    table table;
} work;

/* Steps from .. to-1, to be walked with so many slots. */
typedef struct part {
    const work *w;
    int64_t from, to, slots;
} part;

/* How many steps of a part are recorded without more ado. */
static int64_t whole(const part *p)
{
    return p->w->schedule == TL_REVOLVE ? 1
           : p->w->schedule == TL_MIXED ? (p->slots - 1) / p->w->table.ratio + 1
                                        : p->slots;
}

/* Where the first stretch of a part ends; *keep: the step behind it is recorded plainly; *cost: in
 * slots. */
static int64_t split(const part *p, bool *keep, int64_t *cost)
{
    int64_t best = 0;
    *keep = p->w->schedule == TL_INTERNAL;
    *cost = *keep || p->w->schedule == TL_REVOLVE;
    if (p->w->schedule == TL_MIXED) {
        best = *cell(&p->w->table, p->w->table.best, p->to - p->from, p->slots);
        *keep = best > 0;
        *cost = *keep ? p->w->table.ratio : 1;
        return best > 0 ? best - 1 : -best;
    }
    int64_t n = p->to - p->from;
    switch (p->w->schedule) {
    case TL_REVOLVE:
        return revolve_split(n, p->slots);
    case TL_INTERNAL:
        return *cell(&p->w->table, p->w->table.best, n, p->slots) - 1;
    default:
        return p->slots;
    }
}

static void copy_states(const work *w, const tl_var *from, tl_var *to)
{
    for (int k = 0; k < w->chain.states; k++)
        to[k] = from[k];
}

/* ---- steps off the record ---------------------------------------------------------------- *
 *
 * A stretch is one variable, its last states and, if they are wanted, its outputs one after the other:
 *
 *     [ state 0 | state 1 | output 0 | output 1 | ... ]
 *
 * An output of the last step that is a state itself, as a network's is, has no place of its own: what
 * is added to its gradient is added in the order in which it would be without a stretch. */

typedef struct stretch {
    part p;
    bool valued;  /* has outputs. In a stretch that is recorded again they are not computed for their
                     values: */
    tl_var *seed; /* their gradients are known already, [to - from] */
    int shared;   /* the state that the last output is; -1: none */
    tl_moment moment; /* when it began */
    tl_dtype dtype;
    const tl_layout *state[TL_CHAIN_STATES], *output;
    int64_t total; /* elements */
    char *values;
} stretch;

/* Where output k begins, in elements; the states come before. */
static int64_t output_at(const stretch *s, int64_t k)
{
    int64_t at = 0;
    for (int state = 0; state < s->p.w->chain.states; state++)
        at += s->state[state]->count;
    return at + k * s->output->count;
}

static int64_t outputs_kept(const stretch *s)
{
    return s->valued ? s->p.to - s->p.from - (s->shared >= 0) : 0;
}

static const tl_layout *dense_layout(tl_tape *t, const tl_node *n)
{
    tl_layout dense;
    return tl_layout_make(&dense, n->layout->ndim, n->layout->shape) == TL_OK
               ? tl_tape_layout(t, &dense)
               : NULL;
}

/* Shapes and dtype, from what the first step returned. */
static bool learn_shapes(tl_tape *t, stretch *s, const tl_var *state, tl_var output)
{
    const tl_node *y = tl_node_of(t, output, "chain");
    s->dtype = y ? (tl_dtype)y->dtype : TL_F32;
    s->output = y ? dense_layout(t, y) : NULL;
    for (int k = 0; k < s->p.w->chain.states && y; k++) {
        const tl_node *n = tl_node_of(t, state[k], "chain");
        if (!n)
            return false;
        if (n->dtype != y->dtype || !tl_dtype_is_real(s->dtype)) {
            tl_tape_fail(t, TL_ERR_DTYPE,
                         "chain: state %d is %s, the output is %s; wants reals of one dtype", k,
                         tl_dtype_name((tl_dtype)n->dtype), tl_dtype_name(s->dtype));
            return false;
        }
        s->state[k] = dense_layout(t, n);
        if (s->p.to - s->p.from > 0 && output.id == state[k].id)
            s->shared = k;
    }
    return t->error.status == TL_OK;
}

static bool same_shape(tl_tape *t, const stretch *s, int k, tl_var v)
{
    const tl_node *n = tl_node_of(t, v, "chain");
    const tl_layout *want = k < 0 ? s->output : s->state[k];
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    if (!n || (tl_layout_same_shape(n->layout, want) && n->dtype == (unsigned)s->dtype))
        return n != NULL;
    tl_tape_fail(t, TL_ERR_SHAPE, "chain: %s %d is %s now, and was %s",
                 k < 0 ? "the output of step" : "state", k < 0 ? (int)s->p.from : k,
                 tl_layout_text(n->layout, a), tl_layout_text(want, b));
    return false;
}

static void put(tl_tape *t, const stretch *s, tl_var v, const tl_layout *layout, int64_t at)
{
    char *to = s->values + (size_t)at * tl_dtype_size(s->dtype);
    tl_copy(tl_node_array(tl_node_at(t, v.id)), (tl_array){to, layout, s->dtype});
}

/* One step, of which only states and output are left; the caller gives back their references. */
static bool advance(tl_tape *t, const work *w, int64_t step, tl_var *state, tl_var *output)
{
    tl_tape_mark mark = tl_tape_mark_here(t);
    uint32_t again = t->again, scope = t->scopes.current;
    t->again = again < mark.nodes ? again : mark.nodes;
    tl_no_record_begin(t);
    w->chain.step(t, w->chain.context, step, state, output);
    bool good = t->error.status == TL_OK;
    for (int k = 0; k <= w->chain.states && good; k++) {
        tl_var v = k < w->chain.states ? state[k] : *output;
        const tl_node *n = tl_node_of(t, v, "chain");
        if (n && !(v.id & TL_LOOSE) && v.id >= mark.nodes) { /* a constant that the step made */
            tl_var copy = tl_affine(t, v, 1, 0);
            *(k < w->chain.states ? &state[k] : output) = v = copy;
        }
        good = n && t->error.status == TL_OK;
        if (good)
            tl_loose_retain(t, v.id);
    }
    tl_no_record_end(t, 0, NULL);
    t->again = again;
    if (!good)
        return false;
    t->scopes.current = scope;
    tl_tape_rewind(t, &mark);
    return true;
}

static void give_back(tl_tape *t, int count, const tl_var *v)
{
    for (int k = 0; k < count; k++)
        tl_loose_release(t, v[k].id);
}

/* All steps; values: room for `total` elements, or NULL before the shapes are known. */
static bool run(tl_tape *t, stretch *s, const tl_var *in)
{
    const work *w = s->p.w;
    int states = w->chain.states;
    tl_var state[TL_CHAIN_STATES], next[TL_CHAIN_STATES], output;
    copy_states(w, in, state);
    for (int64_t step = s->p.from; step < s->p.to; step++) {
        copy_states(w, state, next);
        if (!advance(t, w, step, next, &output))
            return false;
        if (step == s->p.from && !learn_shapes(t, s, next, output))
            return false;
        if (step > s->p.from)
            give_back(t, states, state);
        copy_states(w, next, state);
        for (int k = 0; k < states; k++)
            if (!same_shape(t, s, k, state[k]))
                return false;
        if (!same_shape(t, s, -1, output))
            return false;
        if (!s->values) { /* behind the first step, which was rewound */
            s->total = output_at(s, outputs_kept(s));
            s->values = tl_scratch(t, (size_t)s->total * tl_dtype_size(s->dtype));
            if (!s->values)
                return false;
        }
        if (step - s->p.from < outputs_kept(s))
            put(t, s, output, s->output, output_at(s, step - s->p.from));
        give_back(t, 1, &output);
    }
    for (int k = 0, at = 0; k < states; at += (int)s->state[k++]->count)
        put(t, s, state[k], s->state[k], at);
    give_back(t, states, state);
    return true;
}

/* ---- a stretch as an op ------------------------------------------------------------------ */

static stretch *stretch_of(const tl_call *c)
{
    return (stretch *)(uintptr_t)c->attr->i[0];
}

static bool steps_shape(tl_call *c, tl_layout *layout)
{
    c->y.dtype = stretch_of(c)->dtype;
    c->y.data = stretch_of(c)->values;
    return tl_layout_make(layout, 1, &stretch_of(c)->total) == TL_OK;
}

static tl_var piece(tl_tape *t, tl_var all, int64_t at, const tl_layout *layout)
{
    tl_var flat = tl_slice(t, all, 0, at, at + layout->count, 1);
    return tl_reshape(t, flat, layout->ndim, layout->shape);
}

/* The last states and the outputs of a stretch, or of its gradient. */
static void pieces(tl_tape *t, const stretch *s, tl_var all, tl_var *state, tl_var *output)
{
    int64_t at = 0, n = s->p.to - s->p.from;
    for (int k = 0; k < s->p.w->chain.states; at += s->state[k++]->count)
        state[k] = piece(t, all, at, s->state[k]);
    for (int64_t k = 0; k < n && s->valued; k++)
        output[k] = k < outputs_kept(s) ? piece(t, all, output_at(s, k), s->output) : state[s->shared];
}

static void record_part(tl_tape *t, const part *p, tl_var *state, tl_var *output, tl_var *seed);

static void walk_steps(const tl_call *c, tl_var dy, uint32_t from)
{
    tl_tape *t = c->tape;
    const stretch *s = stretch_of(c);
    tl_moment now = tl_moment_now(t);
    int64_t n = s->p.to - s->p.from;
    int states = s->p.w->chain.states;
    tl_var *output = tl_scratch(t, 2 * (size_t)(n + states) * sizeof *output);
    if (!output)
        return;
    /* what is recorded: outputs, then states; what their gradients are: likewise */
    tl_var *state = output + n, *seed = output + n + states, *state_seed = seed + n;
    for (int64_t k = 0; k < n; k++)
        seed[k] = s->valued ? TL_NONE : s->seed[k];
    pieces(t, s, dy, state_seed, seed);
    if (s->shared >= 0) /* it has come by way of the state */
        seed[n - 1] = TL_NONE;
    copy_states(s->p.w, c->in, state);
    tl_moment_set(t, &s->moment);
    record_part(t, &s->p, state, output, seed);
    tl_moment_set(t, &now);
    tl_walk_stretch(t, from, (int)n + states, output, seed);
}

static void steps_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    (void)dx; /* the walk of what is recorded again adds to the operands' gradients itself */
    tl_derive_again(c, dy, walk_steps);
}

static const tl_op steps_op = {.name = "steps",
                               .equation =
                                   "y = last states and outputs of steps that are recorded again",
                               .kind = TL_GENERAL,
                               .least = 1,
                               .most = TL_CHAIN_STATES,
                               .mixed = true,
                               .captures = true,
                               .shape = steps_shape,
                               .vjp = steps_vjp};

/* A stretch in place of its steps. seed: where the gradients of the outputs are known, and these not
 * wanted. */
static void record_stretch(tl_tape *t, const part *p, tl_var *state, tl_var *output, tl_var *seed)
{
    stretch *s = tl_scratch(t, sizeof *s);
    if (!s)
        return;
    *s = (stretch){.p = *p, .valued = !seed, .seed = seed, .shared = -1, .moment = tl_moment_now(t)};
    if (!run(t, s, state))
        return;
    if (t->walk.active)
        t->recomputed += (uint64_t)(p->to - p->from);
    tl_var all = tl_apply(t, &steps_op, p->w->chain.states, state,
                          &(tl_attr){.i = {(int64_t)(uintptr_t)s}, .n = 1});
    if (t->error.status)
        return;
    tl_node_at(t, all.id)->flags |= NODE_NEEDS_GRADIENT; /* steps may use parameters */
    pieces(t, s, all, state, output);
    for (int64_t k = 0; k < p->to - p->from && seed; k++)
        output[k] = TL_NONE;
    if (seed &&
        s->shared >= 0) /* as without the stretch, this is the first term of the state's gradient */
        output[p->to - p->from - 1] = state[s->shared];
}

static void record_steps(tl_tape *t, const work *w, int64_t from, int64_t to, tl_var *state,
                         tl_var *output)
{
    for (int64_t step = from; step < to && t->error.status == TL_OK; step++)
        w->chain.step(t, w->chain.context, step, state, &output[step - from]);
    if (t->walk.active)
        t->recomputed += (uint64_t)(to - from);
}

/* output[0], seed[0] are those of step p->from. */
static void record_part(tl_tape *t, const part *p, tl_var *state, tl_var *output, tl_var *seed)
{
    part rest = *p;
    while (t->error.status == TL_OK && rest.to - rest.from > whole(&rest)) {
        bool keep;
        int64_t cost, at = rest.from + split(&rest, &keep, &cost), done = rest.from - p->from;
        part first = rest;
        first.to = at;
        if (at > rest.from)
            record_stretch(t, &first, state, output + done, seed ? seed + done : NULL);
        if (keep && t->error.status == TL_OK) {
            record_steps(t, p->w, at, at + 1, state, output + (at - p->from));
            at++;
        }
        rest.from = at;
        rest.slots = rest.slots > cost ? rest.slots - cost : 1;
    }
    record_steps(t, p->w, rest.from, rest.to, state, output + (rest.from - p->from));
}

/* ---- plans ------------------------------------------------------------------------------ */

static int64_t slots_of(const tl_plan *plan, int64_t steps)
{
    return plan->schedule == TL_SQRT       ? (int64_t)ceil(sqrt((double)steps))
           : plan->schedule == TL_KEEP_ALL ? (steps > 0 ? steps : 1)
                                           : plan->slots;
}

/* The work of one step and the bytes of its states, found by recording one and going back. */
static bool try_step(tl_tape *t, const tl_chain *chain, const tl_var *state, size_t *work,
                     size_t *states)
{
    tl_tape_mark mark = tl_tape_mark_here(t);
    tl_random random = t->random;
    tl_var trial[TL_CHAIN_STATES], output;
    size_t before = t->memory.live;
    for (int k = 0; k < chain->states; k++)
        trial[k] = state[k];
    chain->step(t, chain->context, 0, trial, &output);
    *work = t->memory.live - before + (t->nodes.count - mark.nodes) * sizeof(tl_node);
    *states = 0;
    for (int k = 0; k < chain->states; k++) {
        tl_array a = tl_value(t, trial[k]);
        *states += a.layout ? (size_t)a.layout->count * tl_dtype_size(a.dtype) : 0;
    }
    t->random = random;
    tl_tape_rewind(t, &mark);
    return t->error.status == TL_OK;
}

/* Beside its numbers a kept state costs some nodes. */
static bool slots_of_bytes(tl_tape *t, const tl_chain *chain, tl_plan *plan, const tl_var *state)
{
    size_t work, states, overhead = (size_t)(2 * chain->states + 8) * sizeof(tl_node);
    if (!try_step(t, chain, state, &work, &states) || !try_step(t, chain, state, &work, &states))
        return false;
    size_t of_steps = 3 * work; /* recorded, with gradients of what is recorded, and what they need */
    if (plan->bytes < of_steps + states + overhead) {
        tl_tape_fail(t, TL_ERR_MEMORY, "chain: %zu bytes do not hold one step (%zu) and a state (%zu)",
                     plan->bytes, of_steps, states + overhead);
        return false;
    }
    plan->slots = (int64_t)((plan->bytes - of_steps) / (states + overhead));
    plan->ratio = (int64_t)((work + states + overhead - 1) / (states + overhead));
    return true;
}

/* More slots than keep everything are of no use. */
static int64_t useful_slots(const tl_plan *plan, int64_t steps)
{
    int64_t slots = slots_of(plan, steps),
            most = plan->schedule == TL_MIXED ? plan->ratio * steps : steps;
    return slots < most ? slots : most;
}

static bool make_table(tl_tape *t, table *c, const tl_plan *plan, int64_t steps)
{
    *c = (table){.steps = steps,
                 .slots = useful_slots(plan, steps),
                 .ratio = plan->schedule == TL_MIXED ? plan->ratio : 0};
    if (c->ratio && (double)steps * (double)steps * (double)c->slots > 4e9) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "chain: %lld steps and %lld slots are too many for TL_MIXED",
                     (long long)steps, (long long)c->slots);
        return false;
    }
    size_t cells = (size_t)(steps + 1) * (size_t)(c->slots + 1);
    c->cost = tl_scratch(t, 2 * cells * sizeof *c->cost);
    if (!c->cost)
        return false;
    c->best = c->cost + cells;
    fill(c);
    return true;
}

static bool by_table(const tl_plan *plan)
{
    return plan->schedule == TL_INTERNAL || plan->schedule == TL_MIXED;
}

static bool chain_fits(tl_tape *t, const tl_chain *chain, const tl_plan *plan)
{
    if (chain->steps < 0 || chain->states < 1 || chain->states > TL_CHAIN_STATES)
        tl_tape_fail(t, TL_ERR_ARGUMENT,
                     "chain: %lld steps, %d states: wants 0 steps or more, 1..%d states",
                     (long long)chain->steps, chain->states, TL_CHAIN_STATES);
    else if ((unsigned)plan->schedule > TL_MIXED)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "chain: there is no schedule %d", (int)plan->schedule);
    else if (!plan->bytes && slots_of(plan, chain->steps) < 1 && chain->steps > 0)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "chain: %lld slots: at least 1", (long long)plan->slots);
    else if (plan->bytes && plan->schedule != TL_REVOLVE && plan->schedule != TL_MIXED)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "chain: a budget of bytes goes with TL_REVOLVE and TL_MIXED");
    else if (!plan->bytes && plan->schedule == TL_MIXED && plan->ratio < 1)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "chain: ratio %lld: a step takes at least one slot",
                     (long long)plan->ratio);
    return t->error.status == TL_OK;
}

tl_status tl_chain_record(tl_tape *t, const tl_chain *chain, const tl_plan *plan, tl_var *state,
                          tl_var *output)
{
    const tl_plan all = {.schedule = TL_KEEP_ALL};
    tl_plan own = plan ? *plan : all;
    if (t->error.status || !chain_fits(t, chain, &own))
        return t->error.status;
    work *w = tl_scratch(t, sizeof *w);
    if (!w || (own.bytes && !slots_of_bytes(t, chain, &own, state)))
        return t->error.status;
    *w = (work){.chain = *chain, .schedule = own.schedule};
    part p = {.w = w, .to = chain->steps, .slots = useful_slots(&own, chain->steps)};
    if (by_table(&own) && !make_table(t, &w->table, &own, chain->steps))
        return t->error.status;
    uint32_t outer = t->chain;
    t->chain = t->nodes.count;
    if (t->unrecorded)
        record_steps(t, w, 0, chain->steps, state, output);
    else
        record_part(t, &p, state, output, NULL);
    t->chain = outer;
    return t->error.status;
}

int64_t tl_plan_cost(const tl_plan *plan, int64_t steps)
{
    if (steps < 0 || (unsigned)plan->schedule > TL_MIXED || (steps && slots_of(plan, steps) < 1) ||
        (plan->schedule == TL_MIXED && plan->ratio < 1))
        return -1;
    int64_t slots = useful_slots(plan, steps);
    if (!steps || plan->schedule == TL_KEEP_ALL)
        return steps;
    if (plan->schedule == TL_REVOLVE)
        return (int64_t)revolve_cost(steps, slots);
    if (!by_table(plan)) /* all but the last stretch once more */
        return steps + (steps - 1) / slots * slots;
    tl_tape *t = tl_tape_new(NULL); /* for its memory */
    table c;
    int64_t cost = t && make_table(t, &c, plan, steps) ? *cell(&c, c.cost, steps, slots) : -1;
    tl_tape_free(t);
    return cost;
}

uint64_t tl_recomputed_steps(const tl_tape *t)
{
    return t->recomputed;
}
