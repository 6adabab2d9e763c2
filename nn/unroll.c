/* unroll.c - a recurrent network written out on the tape.
 *
 *   layer 1   h0' --> [step 0] --> [step 1] --> [step 2] --> last state
 *                        ^            ^            ^
 *   layer 0   h0  --> [step 0] --> [step 1] --> [step 2] --> last state
 *                        ^            ^            ^
 *                       x_0          x_1          x_2
 *
 * Layer by layer, so that a layer's `input` can be computed for all steps at once. There is no
 * backward here: what is recorded is an ordinary feedforward graph, and the tape's walk over it is
 * backpropagation through time. */
#include "nn/unroll.h"

#include <string.h>

#include "autograd/ops.h"
#include "tensor/arena.h"

int tl_cell_shape(const tl_rnn_config *config, const char *text, int64_t inputs,
                  int64_t shape[TL_MAX_DIMS]); /* rnn.c */

typedef struct unrolling {
    tl_tape *t;
    const tl_rnn *rnn;
    const tl_unroll_options *o; /* own */
    tl_unroll_options own;
    tl_plan plan;
    int64_t T, B, longest, shortest; /* longest, shortest: of the lengths */
    tl_dtype dtype;
    tl_unrolled *handles;
} unrolling;

/* One layer in one direction. */
typedef struct lane {
    unrolling *u;
    int layer, direction;
    bool backwards; /* reads from the end */
    tl_cell_call call;
    void *weights;                /* call.weights, to be filled */
    tl_var first[TL_MOST_STATES]; /* the initial states */
    tl_layout shape[TL_MOST_STATES];
    tl_var recurrent; /* what state 0 is multiplied by before each step; TL_NONE: nothing */
    tl_var *mask;     /* of DropConnect, by weight, once it is drawn */
    bool rebind;      /* some weight is untied: each step takes the weights anew */
    bool by_step;  /* each step takes its input by itself; so where weights are untied or steps computed
                      again */
    tl_var inputs; /* [T,B,..] of all steps */
} lane;

static const tl_cell_type *type_of(const lane *l)
{
    return l->u->rnn->config.cell;
}

static bool good(const unrolling *u)
{
    return tl_tape_status(u->t) == TL_OK;
}

/* ---- what is given ---------------------------------------------------------------------- */

static bool lengths_fit(unrolling *u)
{
    u->longest = u->shortest = u->T;
    for (int64_t b = 0; u->o->lengths && b < u->B; b++) {
        int64_t length = u->o->lengths[b];
        if (length < 0 || length > u->T) {
            tl_tape_fail(u->t, TL_ERR_ARGUMENT, "unroll: length %lld of row %lld is not within 0..%lld",
                         (long long)length, (long long)b, (long long)u->T);
            return false;
        }
        u->shortest = length < u->shortest ? length : u->shortest;
    }
    return true;
}

static bool mask_fits(unrolling *u, tl_var mask, const char *name)
{
    char text[TL_LAYOUT_TEXT];
    if (tl_is_none(mask))
        return true;
    if (u->rnn->config.reverse) {
        tl_tape_fail(u->t, TL_ERR_ARGUMENT, "unroll: %s is not for a network that reads backwards",
                     name);
        return false;
    }
    tl_array a = tl_value(u->t, mask);
    if (!a.layout)
        return false;
    if (a.dtype == TL_U8 && a.layout->ndim == 2 && a.layout->shape[0] == u->T &&
        a.layout->shape[1] == u->B)
        return true;
    tl_tape_fail(u->t, TL_ERR_SHAPE, "unroll: %s wants a mask u8 [%lld,%lld], not %s %s", name,
                 (long long)u->T, (long long)u->B, tl_dtype_name(a.dtype),
                 tl_layout_text(a.layout, text));
    return false;
}

static bool input_fits(unrolling *u, tl_array x)
{
    const tl_rnn_config *c = &u->rnn->config;
    char text[TL_LAYOUT_TEXT];
    if (!x.layout)
        return false;
    if (!u->rnn->layer) {
        tl_tape_fail(u->t, TL_ERR_ARGUMENT, "unroll: the network was not built, see tl_params_status");
        return false;
    }
    int time = c->batch_first;
    if (x.layout->ndim != 3 || x.layout->shape[time] < 1 || x.layout->shape[2] != c->input) {
        tl_tape_fail(u->t, TL_ERR_SHAPE, "unroll: %s network wants [%s,%lld] with T >= 1, not %s",
                     c->cell->name, time ? "B,T" : "T,B", (long long)c->input,
                     tl_layout_text(x.layout, text));
        return false;
    }
    u->T = x.layout->shape[time];
    u->B = x.layout->shape[1 - time];
    u->dtype = x.dtype;
    return lengths_fit(u) && mask_fits(u, u->o->reset, "reset") && mask_fits(u, u->o->detach, "detach");
}

/* ---- masks ------------------------------------------------------------------------------ */

/* [B,1,..] with as many dimensions as the state, to be broadcast. */
static tl_var for_state(tl_tape *t, tl_var rows, tl_var state)
{
    int64_t shape[TL_MAX_DIMS];
    const tl_layout *l = tl_value(t, state).layout;
    if (!l)
        return tl_poison(t);
    shape[0] = l->shape[0];
    for (int k = 1; k < l->ndim; k++)
        shape[k] = 1;
    return tl_reshape(t, rows, l->ndim, shape);
}

/* u8 [B]: rows that are not over at that step. */
static tl_var rows_alive(unrolling *u, int64_t step)
{
    uint8_t *alive = tl_scratch(u->t, (size_t)u->B);
    for (int64_t b = 0; alive && b < u->B; b++)
        alive[b] = step < u->o->lengths[b];
    return alive ? tl_constant_from(u->t, TL_U8, 1, &u->B, alive) : tl_poison(u->t);
}

/* Padding is set to zero before anything is computed from it: a NaN there would otherwise reach the
 * weights' gradients, as 0 times NaN is NaN. */
static tl_var without_padding(unrolling *u, tl_var x)
{
    if (!u->o->lengths || u->shortest == u->T)
        return x;
    uint8_t *over = tl_scratch(u->t, (size_t)(u->T * u->B));
    for (int64_t i = 0; over && i < u->T * u->B; i++)
        over[i] = i / u->B >= u->o->lengths[i % u->B];
    if (!over)
        return tl_poison(u->t);
    tl_var mask = tl_constant_from(u->t, TL_U8, TL_SHAPE(u->T, u->B, 1), over);
    return tl_masked_fill(u->t, x, mask, 0);
}

/* Zeros and 1/(1-p), to multiply with. */
static tl_var noise(unrolling *u, double p, int ndim, const int64_t *shape)
{
    return tl_dropout(u->t, tl_full(u->t, u->dtype, ndim, shape, 1), p);
}

/* ---- states ----------------------------------------------------------------------------- */

/* [B, shape] */
static void lay_out_states(lane *l)
{
    int64_t shape[TL_MAX_DIMS] = {l->u->B};
    for (int k = 0; k < l->u->rnn->states; k++) {
        int64_t own[TL_MAX_DIMS];
        int ndim = tl_cell_shape(&l->u->rnn->config, type_of(l)->states[k].shape, l->call.input, own);
        memcpy(shape + 1, own, (size_t)ndim * sizeof *shape);
        tl_layout_make(&l->shape[k], ndim + 1, shape);
    }
}

static void check_state(const lane *l, int k, tl_var state, const char *when)
{
    tl_tape *t = l->u->t;
    char have[TL_LAYOUT_TEXT], want[TL_LAYOUT_TEXT];
    if (!good(l->u))
        return;
    if (tl_is_none(state)) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "unroll: %s cell: state %s %s is TL_NONE", type_of(l)->name,
                     type_of(l)->states[k].name, when);
        return;
    }
    tl_array a = tl_value(t, state);
    if (!a.layout || (tl_layout_same_shape(a.layout, &l->shape[k]) && a.dtype == l->u->dtype))
        return;
    tl_tape_fail(t, TL_ERR_SHAPE, "unroll: %s cell: state %s %s is %s %s, not %s %s", type_of(l)->name,
                 type_of(l)->states[k].name, when, tl_dtype_name(a.dtype),
                 tl_layout_text(a.layout, have), tl_dtype_name(l->u->dtype),
                 tl_layout_text(&l->shape[k], want));
}

static tl_var initial_state(const lane *l, int k)
{
    const tl_rnn *rnn = l->u->rnn;
    const tl_layout *s = &l->shape[k];
    tl_param *learned = rnn->initial[(l->layer * rnn->directions + l->direction) * rnn->states + k];
    if (!learned)
        return tl_full(l->u->t, l->u->dtype, s->ndim, s->shape, type_of(l)->initial[k].value);
    return tl_expand(l->u->t, tl_use(l->u->t, learned), s->ndim, s->shape);
}

static void begin_states(lane *l, tl_var *state)
{
    for (int k = 0; k < l->u->rnn->states; k++) {
        bool given = !tl_is_none(state[k]);
        if (given)
            check_state(l, k, state[k], "given");
        if (!given || !tl_is_none(l->u->o->reset))
            l->first[k] = initial_state(l, k);
        if (!given)
            state[k] = l->first[k];
    }
}

/* ---- weights ---------------------------------------------------------------------------- */

/* DropConnect: one mask for all steps, also where the weight is taken anew at each. */
static tl_var drop_some(lane *l, int k, tl_var weight)
{
    const tl_layout *shape = tl_value(l->u->t, weight).layout;
    if (tl_is_none(l->mask[k]) && shape)
        l->mask[k] = noise(l->u, l->u->rnn->config.drop_connect, shape->ndim, shape->shape);
    return tl_mul(l->u->t, weight, l->mask[k]);
}

/* Fills the cell's struct. */
static void bind(lane *l)
{
    const tl_rnn *rnn = l->u->rnn;
    tl_tape *t = l->u->t;
    tl_param **weight = &rnn->weight[(l->layer * rnn->directions + l->direction) * rnn->weights];
    for (int k = 0; k < rnn->weights; k++) {
        const tl_cell_weight *w = &type_of(l)->weights[k];
        tl_var v = weight[k] ? tl_use(t, weight[k]) : TL_NONE;
        if (weight[k] && w->recurrent && l->u->o->training && rnn->config.drop_connect > 0)
            v = drop_some(l, k, v);
        memcpy((char *)l->weights + w->offset, &v, sizeof v);
    }
    if (type_of(l)->begin && good(l->u))
        type_of(l)->begin(&l->call, l->weights);
}

static bool has_untied(const lane *l)
{
    const tl_rnn *rnn = l->u->rnn;
    tl_param **weight = &rnn->weight[(l->layer * rnn->directions + l->direction) * rnn->weights];
    for (int k = 0; k < rnn->weights; k++)
        if (weight[k] && tl_is_untied(l->u->t, weight[k]->value))
            return true;
    return false;
}

static bool describe_lane(lane *l)
{
    const tl_rnn_config *c = &l->u->rnn->config;
    size_t masks = (size_t)l->u->rnn->weights * sizeof *l->mask;
    l->weights = tl_scratch(l->u->t, c->cell->bytes + 1);
    l->mask = tl_scratch(l->u->t, masks + 1);
    if (l->mask)
        memset(l->mask, 0, masks); /* TL_NONE */
    l->call = (tl_cell_call){.tape = l->u->t,
                             .weights = l->weights,
                             .options = c->options,
                             .dtype = l->u->dtype,
                             .step = -1,
                             .steps = l->u->T,
                             .batch = l->u->B,
                             .input = l->layer ? tl_rnn_output(l->u->rnn) : c->input,
                             .hidden = c->hidden,
                             .output = tl_rnn_output(l->u->rnn) / l->u->rnn->directions};
    lay_out_states(l);
    l->rebind = has_untied(l);
    l->by_step = l->rebind || l->u->o->recompute;
    return l->weights && l->mask;
}

static bool begin_lane(lane *l, tl_var *state)
{
    const tl_rnn_config *c = &l->u->rnn->config;
    begin_states(l, state);
    if (good(l->u) && !l->rebind)
        bind(l);
    if (l->u->o->training && c->recurrent_dropout > 0)
        l->recurrent = noise(l->u, c->recurrent_dropout, l->shape[0].ndim, l->shape[0].shape);
    return good(l->u);
}

/* ---- one step --------------------------------------------------------------------------- */

static tl_var row_mask(const lane *l, tl_var mask, int64_t step, tl_var state)
{
    return for_state(l->u->t, tl_select(l->u->t, mask, 0, step), state);
}

/* Before the step: rows that begin anew, rows that are cut off. */
static void cut(const lane *l, int64_t step, tl_var *state)
{
    const unrolling *u = l->u;
    tl_tape *t = u->t;
    if (l->backwards || (tl_is_none(u->o->reset) && tl_is_none(u->o->detach)))
        return;
    for (int k = 0; k < u->rnn->states; k++) {
        if (!tl_is_none(u->o->reset))
            state[k] = tl_where(t, row_mask(l, u->o->reset, step, state[k]), l->first[k], state[k]);
        if (!tl_is_none(u->o->detach))
            state[k] = tl_where(t, row_mask(l, u->o->detach, step, state[k]), tl_detach(t, state[k]),
                                state[k]);
    }
}

/* Zoneout: some units keep their old value; without training all move only so far. */
static tl_var zone_out(const lane *l, double p, tl_var before, tl_var after)
{
    tl_tape *t = l->u->t;
    if (!l->u->o->training)
        return tl_add(t, tl_affine(t, before, p, 0), tl_affine(t, after, 1 - p, 0));
    const tl_layout *shape = tl_value(t, after).layout;
    tl_var kept = tl_dropout(t, tl_full(t, l->u->dtype, shape->ndim, shape->shape, 1), p);
    return tl_where(t, tl_gt_scalar(t, kept, 0), after, before);
}

/* After the step: zoneout, which keeps what was there `before` it; and rows that are over stay as they
 * came. */
static void settle(const lane *l, int64_t step, const tl_var *came, const tl_var *before, tl_var *state)
{
    unrolling *u = l->u;
    tl_var alive = step >= u->shortest ? rows_alive(u, step) : TL_NONE;
    for (int k = 0; k < u->rnn->states && good(u); k++) {
        check_state(l, k, state[k], "returned");
        if (good(u) && u->rnn->config.zoneout[k] > 0)
            state[k] = zone_out(l, u->rnn->config.zoneout[k], before[k], state[k]);
        if (good(u) && !tl_is_none(alive))
            state[k] = tl_where(u->t, for_state(u->t, alive, state[k]), state[k], came[k]);
    }
}

static tl_var output_of(const lane *l, int64_t step, tl_var state)
{
    unrolling *u = l->u;
    if (step < u->shortest || !good(u))
        return state;
    tl_var over = tl_logical_not(u->t, rows_alive(u, step));
    return tl_masked_fill(u->t, state, for_state(u->t, over, state), 0);
}

/* Makes a variable of its own of each state, for its handle. The tape may have computed one from the
 * other (an LSTM's h from its c): a derivative with respect to one would go through the other as well,
 * or not, by how the cell happens to be written. */
static void separate(const lane *l, tl_var *state)
{
    for (int k = 0; k < l->u->rnn->states && l->u->handles && good(l->u); k++)
        state[k] = tl_reshape(l->u->t, state[k], l->shape[k].ndim, l->shape[k].shape);
}

static void remember(const lane *l, int64_t count, int64_t step, tl_var x, tl_var out,
                     const tl_var *state)
{
    tl_unrolled *h = l->u->handles;
    int64_t cell = l->layer * h->directions + l->direction;
    for (int k = 0; k < h->states; k++) {
        h->state[(cell * h->states + k) * (h->steps + 1) + count] = state[k];
        if (l->u->o->keep_gradients && tl_needs_gradient(l->u->t, state[k]))
            tl_keep_gradient(l->u->t, state[k]);
    }
    if (step >= 0) {
        h->input[cell * h->steps + step] = x;
        h->output[cell * h->steps + step] = out;
    }
}

typedef void cell_step(const tl_cell_call *c, tl_var x, tl_var *state);

static cell_step *step_of(const lane *l)
{
    return l->u->rnn->config.composed && type_of(l)->composed ? type_of(l)->composed : type_of(l)->step;
}

/* What `input` and `scan` made of so many steps: [steps,B,..], outputs [steps,B,P]. */
static void check_steps(const lane *l, const char *function, tl_var x, int64_t steps, int64_t outputs)
{
    tl_tape *t = l->u->t;
    char have[TL_LAYOUT_TEXT], last[24] = "..";
    if (!good(l->u))
        return;
    if (tl_is_none(x)) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "unroll: %s cell: %s returned TL_NONE", type_of(l)->name,
                     function);
        return;
    }
    const tl_layout *a = tl_value(t, x).layout;
    if (!a || (a->ndim >= 2 && a->shape[0] == steps && a->shape[1] == l->u->B &&
               (!outputs || (a->ndim == 3 && a->shape[2] == outputs))))
        return;
    if (outputs)
        snprintf(last, sizeof last, "%lld", (long long)outputs);
    tl_tape_fail(t, TL_ERR_SHAPE, "unroll: %s cell: %s returned %s, not [%lld,%lld,%s], steps first",
                 type_of(l)->name, function, tl_layout_text(a, have), (long long)steps,
                 (long long)l->u->B, last);
}

static tl_var all_inputs(const lane *l, tl_var x)
{
    tl_var y = x;
    const tl_layout *shape = tl_value(l->u->t, x).layout;
    if (type_of(l)->input && shape) {
        y = type_of(l)->input(&l->call, x);
        check_steps(l, "input", y, shape->shape[0], 0);
    }
    return good(l->u) ? y : tl_poison(l->u->t);
}

static tl_var input_of(lane *l, int64_t step)
{
    tl_tape *t = l->u->t;
    if (l->rebind)
        bind(l);
    if (!l->by_step || !type_of(l)->input)
        return tl_select(t, l->inputs, 0, step);
    return tl_select(t, all_inputs(l, tl_slice(t, l->inputs, 0, step, step + 1, 1)), 0, 0);
}

static tl_var run_step(lane *l, int64_t step, tl_var *state, int64_t count)
{
    unrolling *u = l->u;
    tl_var came[TL_MOST_STATES], before[TL_MOST_STATES];
    size_t states = (size_t)u->rnn->states * sizeof *state;
    tl_scope_begin(u->t, "step", step);
    l->call.step = u->o->from + step;
    tl_var x = input_of(l, step);
    memcpy(came, state, states);
    cut(l, step, state);
    memcpy(before, state, states);
    if (!tl_is_none(l->recurrent))
        state[0] = tl_mul(u->t, state[0], l->recurrent);
    step_of(l)(&l->call, x, state);
    settle(l, step, came, before, state);
    separate(l, state);
    tl_var out = output_of(l, step, state[0]);
    if (u->handles && good(u))
        remember(l, count + 1, step, x, out, state);
    tl_scope_end(u->t);
    return out;
}

static void chain_step(tl_tape *t, void *context, int64_t count, tl_var *state, tl_var *output)
{
    lane *l = context;
    int64_t step = l->backwards ? l->u->T - 1 - count : count;
    *output = run_step(l, step, state, count);
    (void)t;
}

/* ---- one layer in one direction --------------------------------------------------------- */

/* Nothing is to happen between the steps. */
static bool can_scan(const lane *l)
{
    const tl_rnn_config *c = &l->u->rnn->config;
    bool zoneout = false;
    for (int k = 0; k < TL_MOST_STATES; k++)
        zoneout = zoneout || c->zoneout[k] > 0;
    return type_of(l)->scan && !zoneout && tl_is_none(l->recurrent) && l->u->shortest == l->u->T &&
           tl_is_none(l->u->o->reset) && tl_is_none(l->u->o->detach) && !l->u->handles && !l->by_step &&
           !(step_of(l) && c->sequential) && !(c->composed && type_of(l)->composed);
}

static tl_var run_scan(lane *l, tl_var inputs, tl_var *state)
{
    tl_tape *t = l->u->t;
    const int time = 0;
    if (l->backwards)
        inputs = tl_flip(t, inputs, 1, &time);
    tl_var y = type_of(l)->scan(&l->call, inputs, state);
    check_steps(l, "scan", y, l->u->T, l->call.output);
    for (int k = 0; k < l->u->rnn->states; k++)
        check_state(l, k, state[k], "returned by scan");
    if (!good(l->u))
        return tl_poison(t);
    return l->backwards ? tl_flip(t, y, 1, &time) : y;
}

static tl_var run_lane(lane *l, tl_var x, tl_var *state)
{
    unrolling *u = l->u;
    if (!describe_lane(l) || !begin_lane(l, state))
        return tl_poison(u->t);
    if (l->rebind && u->o->recompute) {
        tl_tape_fail(u->t, TL_ERR_ARGUMENT,
                     "unroll: untied weights have a use for every step: not together with recompute");
        return tl_poison(u->t);
    }
    l->inputs = l->by_step ? x : all_inputs(l, x);
    if (good(u) && can_scan(l))
        return run_scan(l, l->inputs, state);
    if (!step_of(l)) {
        tl_tape_fail(
            u->t, TL_ERR_ARGUMENT,
            "unroll: %s cell has no step, only a scan: all rows of one length, nothing between the "
            "steps",
            type_of(l)->name);
        return tl_poison(u->t);
    }
    tl_var *outputs = tl_scratch(u->t, (size_t)u->T * sizeof *outputs);
    separate(l, state);
    if (u->handles && good(u))
        remember(l, 0, -1, TL_NONE, TL_NONE, state);
    for (int64_t count = 0; !u->o->recompute && outputs && count < u->T && good(u); count++)
        chain_step(u->t, l, count, state, &outputs[count]);
    const tl_chain chain = {.steps = u->T, .states = u->rnn->states, .step = chain_step, .context = l};
    if (u->o->recompute && outputs && good(u))
        tl_chain_record(u->t, &chain, u->o->recompute, state, outputs);
    for (int64_t k = 0; good(u) && l->backwards && k < u->T / 2; k++) {
        tl_var other = outputs[k];
        outputs[k] = outputs[u->T - 1 - k];
        outputs[u->T - 1 - k] = other;
    }
    return good(u) ? tl_stack(u->t, (int)u->T, outputs, 0) : tl_poison(u->t);
}

/* ---- one layer -------------------------------------------------------------------------- */

static tl_var run_directions(unrolling *u, int layer, tl_var x, tl_var *state)
{
    tl_var y[2];
    for (int direction = 0; direction < u->rnn->directions && good(u); direction++) {
        lane *l = tl_scratch(u->t, sizeof *l); /* on the tape: steps may be recorded again later */
        if (!l)
            break;
        *l = (lane){.u = u,
                    .layer = layer,
                    .direction = direction,
                    .backwards = direction || u->rnn->config.reverse,
                    .recurrent = TL_NONE};
        if (u->rnn->directions == 2)
            tl_scope_begin(u->t, direction ? "backward" : "forward", -1);
        y[direction] = run_lane(l, x, state + direction * u->rnn->states);
        if (u->rnn->directions == 2)
            tl_scope_end(u->t);
    }
    if (!good(u))
        return tl_poison(u->t);
    return u->rnn->directions == 2 ? tl_concat(u->t, 2, y, -1) : y[0];
}

static tl_var connect(unrolling *u, int layer, tl_var x, tl_var y)
{
    const tl_rnn_config *c = &u->rnn->config;
    const tl_rnn_layer *l = &u->rnn->layer[layer];
    tl_tape *t = u->t;
    int64_t inputs = layer ? tl_rnn_output(u->rnn) : c->input;
    if (c->connection != TL_PLAIN && inputs == tl_rnn_output(u->rnn)) {
        if (c->connection == TL_RESIDUAL) {
            y = tl_add(t, x, y);
        } else {
            tl_var gate = tl_linear_op(t, x, tl_use(t, l->highway_weight), tl_use(t, l->highway_bias));
            y = tl_lerp(t, x, y, tl_sigmoid(t, gate));
        }
    }
    if (c->layer_norm)
        y = tl_layer_norm(t, y, 1, tl_use(t, l->norm_weight), tl_use(t, l->norm_bias), 1e-5);
    if (c->connection != TL_PLAIN || c->layer_norm) /* they make something of nothing */
        y = without_padding(u, y);
    if (u->o->training && c->dropout > 0 && layer + 1 < c->layers)
        y = tl_dropout(t, y, c->dropout);
    return y;
}

static tl_var run_layer(unrolling *u, int layer, tl_var x, tl_var *state)
{
    const tl_rnn_config *c = &u->rnn->config;
    tl_var read = x;
    if (u->o->training && c->variational > 0) {
        int64_t inputs = layer ? tl_rnn_output(u->rnn) : c->input;
        read = tl_mul(u->t, x, noise(u, c->variational, TL_SHAPE(1, u->B, inputs)));
    }
    return connect(u, layer, x, run_directions(u, layer, read, state));
}

/* ---- all of it -------------------------------------------------------------------------- */

static bool begin_handles(unrolling *u)
{
    tl_unrolled *h = u->o->handles;
    if (!h)
        return true;
    size_t cells = (size_t)(u->rnn->config.layers * u->rnn->directions), steps = (size_t)u->T;
    size_t states = cells * (size_t)u->rnn->states * (steps + 1);
    *h = (tl_unrolled){.layers = u->rnn->config.layers,
                       .directions = u->rnn->directions,
                       .states = u->rnn->states,
                       .steps = u->T};
    size_t bytes = (2 * cells * steps + states) * sizeof(tl_var);
    tl_var *room = tl_scratch(u->t, bytes);
    if (!room)
        return false;
    memset(room, 0, bytes); /* TL_NONE, should something fail on the way */
    h->input = room;
    h->output = room + cells * steps;
    h->state = room + 2 * cells * steps;
    u->handles = h;
    return true;
}

static tl_var time_first(const unrolling *u, tl_var x)
{
    return u->rnn->config.batch_first ? tl_transpose(u->t, x, 0, 1) : x;
}

/* On the tape, with copies of what the caller may let go of: steps may be recorded again later. */
static unrolling *begin_unrolling(tl_tape *t, const tl_rnn *rnn, const tl_unroll_options *options)
{
    unrolling *u = tl_scratch(t, sizeof *u);
    if (!u)
        return NULL;
    *u = (unrolling){.t = t, .rnn = rnn, .o = &u->own};
    if (options)
        u->own = *options;
    if (u->own.recompute) {
        u->plan = *u->own.recompute;
        u->own.recompute = &u->plan;
    }
    return u;
}

static bool keep_lengths(unrolling *u)
{
    if (u->own.recompute && u->own.handles) {
        tl_tape_fail(u->t, TL_ERR_ARGUMENT,
                     "unroll: handles to every step want every step kept: not together with recompute");
        return false;
    }
    if (!u->own.lengths || !u->own.recompute)
        return true;
    size_t bytes = (size_t)u->B * sizeof *u->own.lengths;
    int64_t *copy = tl_scratch(u->t, bytes);
    if (copy)
        u->own.lengths = memcpy(copy, u->own.lengths, bytes);
    return copy != NULL;
}

tl_var tl_unroll_with(tl_tape *t, const tl_rnn *rnn, tl_var x, tl_var *state,
                      const tl_unroll_options *options)
{
    if (options && options->handles)
        *options->handles = (tl_unrolled){0};
    unrolling *u = tl_tape_status(t) == TL_OK ? begin_unrolling(t, rnn, options) : NULL;
    if (!u || !input_fits(u, tl_value(t, x)) || !keep_lengths(u) || !begin_handles(u))
        return tl_poison(t);
    x = without_padding(u, time_first(u, x));
    for (int layer = 0; layer < rnn->config.layers && good(u); layer++) {
        int of_layer = rnn->directions * rnn->states;
        tl_var own[2 * TL_MOST_STATES] = {TL_NONE}; /* all of them: TL_NONE is zeros */
        tl_scope_begin(t, "layer", layer);
        x = run_layer(u, layer, x, state ? state + layer * of_layer : own);
        tl_scope_end(t);
    }
    return good(u) ? time_first(u, x) : tl_poison(t);
}

tl_var tl_unroll(tl_tape *t, const tl_rnn *rnn, tl_var x, tl_var *state)
{
    return tl_unroll_with(t, rnn, x, state, NULL);
}
