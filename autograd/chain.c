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

#include "autograd/tape_impl.h"

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
    int64_t steps, slots;
    int64_t *cost, *best; /* [(steps + 1) * (slots + 1)] */
    tl_block *room;
} table;

static int64_t *cell(const table *c, int64_t *of, int64_t t, int64_t m)
{
    return &of[t * (c->slots + 1) + m];
}

static void fill_cell(table *c, int64_t t, int64_t m)
{
    int64_t best = t, least = INT64_MAX;
    for (int64_t y = 1; y <= t && m > 1; y++) {
        int64_t total = y + *cell(c, c->cost, t - y, m - 1) + *cell(c, c->cost, y - 1, m);
        if (total < least) {
            least = total;
            best = y;
        }
    }
    *cell(c, c->cost, t, m) = m >= t ? t : m == 1 ? t * (t + 1) / 2 : least;
    *cell(c, c->best, t, m) = best;
}

static void fill(table *c)
{
    for (int64_t t = 0; t <= c->steps; t++)
        for (int64_t m = 1; m <= c->slots; m++)
            fill_cell(c, t, m);
}

/* ---- a part of a chain ------------------------------------------------------------------ */

typedef struct work {
    tl_chain chain;
    tl_schedule schedule;
    table table;
} work;

typedef struct part {
    const work *w;
    int64_t from, to, slots;
    int64_t first; /* output[0] belongs to this step */
} part;

static void record_steps(tl_tape *t, const work *w, int64_t from, int64_t to, tl_var *state,
                         tl_var *output)
{
    for (int64_t step = from; step < to && t->error.status == TL_OK; step++)
        w->chain.step(t, w->chain.context, step, state, &output[step - from]);
    if (t->walk.active)
        t->recomputed += (uint64_t)(to - from);
}

/* How many steps of a part are recorded without more ado. */
static int64_t whole(const part *p)
{
    return p->w->schedule == TL_REVOLVE ? 1 : p->slots;
}

static int64_t split(const part *p)
{
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

static void record_part(tl_tape *t, const part *p, tl_var *state, tl_var *output);

static void copy_states(const part *p, const tl_var *from, tl_var *to)
{
    for (int k = 0; k < p->w->chain.states; k++)
        to[k] = from[k];
}

/* in: states; out: the outputs of the steps, then the last states. */
static void again(tl_tape *t, void *context, const tl_var *in, tl_var *out)
{
    const part *p = context;
    tl_var state[TL_CHAIN_STATES];
    copy_states(p, in, state);
    record_part(t, p, state, out);
    copy_states(p, state, out + (p->to - p->from));
}

static void record_stretch(tl_tape *t, const part *p, tl_var *state, tl_var *output)
{
    int64_t n = p->to - p->from;
    int outputs = (int)n + p->w->chain.states;
    part *own = tl_scratch(t, sizeof *own);
    tl_var *out = tl_scratch(t, (size_t)outputs * sizeof *out);
    if (!own || !out)
        return;
    *own = *p;
    if (tl_recompute(t, again, own, p->w->chain.states, state, outputs, out) != TL_OK)
        return;
    for (int64_t k = 0; k < n; k++)
        output[k] = out[k];
    copy_states(p, out + n, state);
}

/* output[0] is that of step p->from. */
static void record_part(tl_tape *t, const part *p, tl_var *state, tl_var *output)
{
    part rest = *p;
    while (t->error.status == TL_OK && rest.to - rest.from > whole(&rest)) {
        int64_t at = rest.from + split(&rest);
        part stretch = rest;
        stretch.to = at;
        if (at > rest.from)
            record_stretch(t, &stretch, state, output + (rest.from - p->from));
        if (p->w->schedule == TL_INTERNAL && t->error.status == TL_OK) {
            record_steps(t, p->w, at, at + 1, state, output + (at - p->from));
            at++;
        }
        rest.from = at;
        rest.slots -=
            p->w->schedule == TL_REVOLVE || p->w->schedule == TL_INTERNAL ? rest.slots > 1 : 0;
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
static bool slots_of_bytes(tl_tape *t, const tl_chain *chain, const tl_plan *plan, const tl_var *state,
                           int64_t *slots)
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
    *slots = (int64_t)((plan->bytes - of_steps) / (states + overhead));
    return true;
}

static bool make_table(tl_tape *t, table *c, int64_t steps, int64_t slots)
{
    *c = (table){.steps = steps, .slots = slots < steps ? slots : steps};
    size_t cells = (size_t)(steps + 1) * (size_t)(c->slots + 1);
    c->cost = tl_scratch(t, 2 * cells * sizeof *c->cost);
    if (!c->cost)
        return false;
    c->best = c->cost + cells;
    fill(c);
    return true;
}

static bool chain_fits(tl_tape *t, const tl_chain *chain, const tl_plan *plan)
{
    if (chain->steps < 0 || chain->states < 1 || chain->states > TL_CHAIN_STATES)
        tl_tape_fail(t, TL_ERR_ARGUMENT,
                     "chain: %lld steps, %d states: wants 0 steps or more, 1..%d states",
                     (long long)chain->steps, chain->states, TL_CHAIN_STATES);
    else if ((unsigned)plan->schedule > TL_INTERNAL)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "chain: there is no schedule %d", (int)plan->schedule);
    else if (!plan->bytes && slots_of(plan, chain->steps) < 1 && chain->steps > 0)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "chain: %lld slots: at least 1", (long long)plan->slots);
    else if (plan->bytes && plan->schedule != TL_REVOLVE)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "chain: a budget of bytes goes with TL_REVOLVE");
    return t->error.status == TL_OK;
}

tl_status tl_chain_record(tl_tape *t, const tl_chain *chain, const tl_plan *plan, tl_var *state,
                          tl_var *output)
{
    const tl_plan all = {.schedule = TL_KEEP_ALL};
    plan = plan ? plan : &all;
    if (t->error.status || !chain_fits(t, chain, plan))
        return t->error.status;
    work *w = tl_scratch(t, sizeof *w);
    if (!w)
        return t->error.status;
    *w = (work){.chain = *chain, .schedule = plan->schedule};
    part p = {.w = w, .to = chain->steps, .slots = slots_of(plan, chain->steps)};
    if (plan->bytes && !slots_of_bytes(t, chain, plan, state, &p.slots))
        return t->error.status;
    p.slots = p.slots < chain->steps ? p.slots : chain->steps;
    if (plan->schedule == TL_INTERNAL && !make_table(t, &w->table, chain->steps, p.slots))
        return t->error.status;
    record_part(t, &p, state, output);
    return t->error.status;
}

int64_t tl_plan_cost(const tl_plan *plan, int64_t steps)
{
    int64_t slots = slots_of(plan, steps);
    if (steps < 0 || (unsigned)plan->schedule > TL_INTERNAL || (steps && slots < 1))
        return -1;
    slots = slots < steps ? slots : steps;
    if (!steps || plan->schedule == TL_KEEP_ALL)
        return steps;
    if (plan->schedule == TL_REVOLVE)
        return (int64_t)revolve_cost(steps, slots);
    if (plan->schedule != TL_INTERNAL) /* all but the last stretch once more */
        return steps + (steps - 1) / slots * slots;
    tl_tape *t = tl_tape_new(NULL); /* for its memory */
    table c;
    int64_t cost = t && make_table(t, &c, steps, slots) ? *cell(&c, c.cost, steps, slots) : -1;
    tl_tape_free(t);
    return cost;
}

uint64_t tl_recomputed_steps(const tl_tape *t)
{
    return t->recomputed;
}
