/* Recomputation: the same bits as without it, in the number of steps that theory gives. */
#include "support.h"

#include "autograd/gradcheck.h"
#include "autograd/inspect.h"
#include "autograd/recompute.h"
#include "nn/unroll.h"

/* ---- counts ----------------------------------------------------------------------------- */

static int64_t cost(tl_schedule schedule, int64_t slots, int64_t steps)
{
    return tl_plan_cost(&(tl_plan){.schedule = schedule, .slots = slots}, steps);
}

/* The fewest steps by trying every split: t(n,c) = min over m of m + t(n-m,c-1) + t(m,c). */
static int64_t by_trying(int64_t n, int64_t c)
{
    static int64_t known[64][8];
    if (n <= 1)
        return 0;
    if (c == 1)
        return n * (n - 1) / 2;
    if (!known[n][c]) {
        int64_t least = INT64_MAX;
        for (int64_t m = 1; m < n; m++) {
            int64_t total = m + by_trying(n - m, c - 1) + by_trying(m, c);
            least = total < least ? total : least;
        }
        known[n][c] = least;
    }
    return known[n][c];
}

static void costs_are_those_of_the_papers(void **state)
{
    (void)state;
    assert_int_equal(cost(TL_REVOLVE, 3, 10), 15);
    assert_int_equal(cost(TL_REVOLVE, 3, 56), 210);
    assert_int_equal(cost(TL_REVOLVE, 5, 100), 316);
    assert_int_equal(cost(TL_REVOLVE, 50, 1000), 1948);
    assert_int_equal(cost(TL_INTERNAL, 50, 1000), 1950);
    for (int64_t c = 1; c < 8; c++)
        for (int64_t n = 1; n < 64; n++)
            assert_int_equal(cost(TL_REVOLVE, c, n), by_trying(n, c));
    for (int64_t n = 1; n < 20; n++) {
        assert_int_equal(cost(TL_INTERNAL, 1, n), n * (n + 1) / 2);
        assert_int_equal(cost(TL_INTERNAL, n, n), n);
        assert_int_equal(cost(TL_KEEP_ALL, 0, n), n);
    }
    for (int64_t m = 1; m < 8;
         m++) /* C(t,m) = min over y of y + C(t-y,m-1) + C(y-1,m), every y tried */
        for (int64_t n = m + 1; n < 40 && m > 1; n++) {
            int64_t least = INT64_MAX;
            for (int64_t y = 1; y <= n; y++) {
                int64_t c = y + (n > y ? cost(TL_INTERNAL, m - 1, n - y) : 0) +
                            (y > 1 ? cost(TL_INTERNAL, m, y - 1) : 0);
                least = c < least ? c : least;
            }
            assert_int_equal(cost(TL_INTERNAL, m, n), least);
        }
    for (int64_t n = 1; n < 40; n++)
        for (int64_t m = 1; m < 9; m++) { /* never worse than one kind alone in as much memory */
            tl_plan plan = {.schedule = TL_MIXED, .slots = m, .ratio = 1};
            assert_int_equal(tl_plan_cost(&plan, n), cost(TL_INTERNAL, m, n));
            plan.ratio = 3;
            assert_true(tl_plan_cost(&plan, n) <= cost(TL_REVOLVE, m, n) + n);
            assert_true(tl_plan_cost(&plan, n) <= cost(TL_INTERNAL, (m + 2) / 3, n));
        }
    assert_int_equal(cost(TL_EVERY, 4, 12), 12 + 8);
    assert_int_equal(cost(TL_EVERY, 4, 13), 13 + 12);
    assert_int_equal(cost(TL_SQRT, 0, 100), 190);
    assert_int_equal(cost(TL_REVOLVE, 0, 5), -1);
    assert_int_equal(cost(TL_EVERY, -1, 5), -1);
    assert_int_equal(cost((tl_schedule)9, 1, 5), -1);
}

/* ---- a chain ---------------------------------------------------------------------------- */

enum { B = 3, H = 5, STATES = 2 };

typedef struct net {
    tl_tensor *w, *u, *x, *dw, *du; /* x: [T,B,H], read from outside of the stretches */
    tl_var inputs;
    bool dropout;
    int64_t calls;
} net;

/* Two states, dropout if wished, and a parameter used twice. */
static void step(tl_tape *t, void *context, int64_t step, tl_var *state, tl_var *output)
{
    net *n = context;
    tl_var w = tl_leaf(t, n->w, n->dw), u = tl_leaf(t, n->u, n->du);
    tl_scope_begin(t, "step", step);
    tl_var a = tl_add(t, tl_linear_op(t, state[0], w, TL_NONE), tl_select(t, n->inputs, 0, step));
    state[1] =
        tl_lerp(t, state[1], tl_tanh(t, a), tl_sigmoid(t, tl_linear_op(t, state[0], u, TL_NONE)));
    state[0] = tl_tanh(t, tl_mul(t, state[1], tl_add(t, a, tl_full(t, TL_F64, TL_SHAPE(B, 1), 0.5))));
    if (n->dropout)
        state[0] = tl_dropout(t, state[0], 0.3);
    *output = tl_linear_op(t, state[0], w, TL_NONE);
    tl_scope_end(t);
    n->calls++;
}

static net net_new(int64_t steps, bool dropout)
{
    dice d = dice_of(7);
    net n = {.dropout = dropout,
             .w = random_tensor(&d, TL_F64, TL_SHAPE(H, H), -0.6, 0.6),
             .u = random_tensor(&d, TL_F64, TL_SHAPE(H, H), -0.6, 0.6),
             .x = random_tensor(&d, TL_F64, TL_SHAPE(steps, B, H), -1, 1)};
    n.dw = zeros_like(n.w);
    n.du = zeros_like(n.u);
    return n;
}

static void net_free(net *n)
{
    tl_tensor *all[] = {n->w, n->u, n->x, n->dw, n->du};
    for (int k = 0; k < COUNT_OF(all); k++)
        tl_tensor_release(all[k]);
}

typedef struct answer {
    tl_tensor *dw, *du, *dx, *dh;
    double loss;
    uint64_t recomputed;
    size_t peak;
} answer;

static void answer_free(answer *a)
{
    tl_tensor *all[] = {a->dw, a->du, a->dx, a->dh};
    for (int k = 0; k < COUNT_OF(all); k++)
        tl_tensor_release(all[k]);
}

/* Records the chain on a tape, and a loss of all outputs and the last states. */
static tl_var record(tl_tape *t, net *n, const tl_plan *plan, tl_var *state)
{
    int64_t steps = n->x->layout.shape[0];
    tl_var *output = tl_scratch(t, (size_t)(steps + 1) * sizeof *output);
    n->inputs = tl_leaf_untied(t, n->x);
    const tl_chain chain = {.steps = steps, .states = STATES, .step = step, .context = n};
    tl_chain_record(t, &chain, plan, state, output);
    assert_ok(t);
    tl_var loss = tl_sum(t, tl_mul(t, state[0], state[1]));
    for (int64_t k = 0; k < steps; k++)
        loss = tl_add(t, loss, tl_sum(t, tl_square(t, output[k])));
    return loss;
}

static answer walk(net *n, const tl_plan *plan)
{
    answer a = {0};
    tl_tape *t = tl_tape_new(&(tl_tape_config){.seed = 5});
    dice d = dice_of(8);
    tl_tensor *h = random_tensor(&d, TL_F64, TL_SHAPE(B, H), -1, 1);
    tl_var begin = tl_leaf(t, h, NULL), state[STATES] = {begin, tl_full(t, TL_F64, TL_SHAPE(B, H), 0)};
    tl_tensor_fill(n->dw, 0);
    tl_tensor_fill(n->du, 0);
    tl_var loss = record(t, n, plan, state);
    a.loss = tl_item(t, loss);
    assert_int_equal(tl_backward(t, loss), TL_OK);
    a.dw = tl_tensor_copy(n->dw, TL_F64, NULL);
    a.du = tl_tensor_copy(n->du, TL_F64, NULL);
    a.dx = value_of(t, tl_gradient(t, n->inputs));
    a.dh = value_of(t, tl_gradient(t, begin));
    a.recomputed = tl_recomputed_steps(t);
    a.peak = tl_tape_measure(t).peak;
    tl_tape_free(t);
    tl_tensor_release(h);
    return a;
}

static void same_bits(const answer *a, const answer *b, const char *what)
{
    const tl_tensor *x[] = {a->dw, a->du, a->dx, a->dh}, *y[] = {b->dw, b->du, b->dx, b->dh};
    for (int k = 0; k < COUNT_OF(x); k++)
        check_tensors(x[k], y[k], 0, what, __FILE__, __LINE__);
    check_near(a->loss, b->loss, 0, what, 0, __FILE__, __LINE__);
}

/* Dropout's masks, sums over time into parameters, gradients into what lies outside: all to the bit. */
static void gradients_are_the_same_to_the_bit(void **state)
{
    (void)state;
    const int64_t lengths[] = {1, 2, 3, 10, 37};
    for (int which = 0; which < COUNT_OF(lengths); which++)
        for (int dropout = 0; dropout < 2; dropout++) {
            net n = net_new(lengths[which], dropout);
            answer plain = walk(&n, NULL);
            assert_int_equal(plain.recomputed, 0);
            assert_true(fabs(tl_tensor_get(plain.dw, 3)) > 1e-3);
            for (int schedule = TL_KEEP_ALL; schedule <= TL_MIXED; schedule++)
                for (int64_t slots = 1; slots <= 5; slots++) {
                    char text[64];
                    tl_plan plan = {.schedule = (tl_schedule)schedule, .slots = slots, .ratio = 2};
                    answer a = walk(&n, &plan);
                    snprintf(text, sizeof text, "schedule %d, %lld slots, %lld steps", schedule,
                             (long long)slots, (long long)lengths[which]);
                    same_bits(&a, &plain, text);
                    answer_free(&a);
                }
            answer_free(&plain);
            net_free(&n);
        }
}

/* Steps that are computed: once forward, and what the plan says on the way back. */
static void steps_are_counted(void **state)
{
    (void)state;
    const struct {
        tl_schedule schedule;
        int64_t slots, steps, calls;
    } cases[] = {
        /* revolve: the count leaves out the n steps that are recorded; forward, here, goes to the end
         */
        {TL_REVOLVE, 3, 10, 15 + 10}, {TL_REVOLVE, 3, 56, 210 + 56}, {TL_REVOLVE, 5, 100, 316 + 100},
        {TL_INTERNAL, 4, 4, 4},       {TL_INTERNAL, 1, 9, 45},       {TL_EVERY, 4, 13, 13 + 12},
        {TL_SQRT, 0, 49, 49 + 42},
    };
    for (int k = 0; k < COUNT_OF(cases); k++) {
        net n = net_new(cases[k].steps, false);
        answer a = walk(&n, &(tl_plan){.schedule = cases[k].schedule, .slots = cases[k].slots});
        assert_int_equal(n.calls, cases[k].calls);
        answer_free(&a);
        net_free(&n);
    }
    for (int64_t ratio = 1; ratio <= 5; ratio += 2)
        for (int64_t slots = 1; slots <= 12; slots += 3) { /* as many as the programme says */
            tl_plan plan = {.schedule = TL_MIXED, .slots = slots, .ratio = ratio};
            net mixed = net_new(30, false);
            answer b = walk(&mixed, &plan);
            assert_int_equal(mixed.calls, tl_plan_cost(&plan, 30));
            answer_free(&b);
            net_free(&mixed);
        }
    net n = net_new(1000, false);
    answer a = walk(&n, &(tl_plan){.schedule = TL_REVOLVE, .slots = 50});
    assert_int_equal(n.calls, 1948 + 1000);
    answer_free(&a);
    n.calls = 0;
    a = walk(&n, &(tl_plan){.schedule = TL_INTERNAL, .slots = 50});
    assert_int_equal(n.calls, 1950);
    answer_free(&a);
    net_free(&n);
}

/* ---- one stretch ------------------------------------------------------------------------ */

/* out: x w and sin x, twice; a stretch within a stretch. */
static void inner(tl_tape *t, void *context, const tl_var *in, tl_var *out)
{
    out[0] = tl_sin(t, tl_mul(t, in[0], *(tl_var *)context));
}

static void outer(tl_tape *t, void *context, const tl_var *in, tl_var *out)
{
    tl_recompute(t, inner, context, 1, in, 1, out);
    out[1] = tl_mul(t, out[0], in[0]);
    out[2] = in[0];
}

/* The same in the open, or in stretches. */
static tl_var with_stretches(tl_tape *t, const tl_var *in, void *context)
{
    bool hidden = context != NULL;
    tl_var *w = tl_scratch(t, sizeof *w), out[3];
    *w = in[1];
    if (hidden) {
        tl_recompute(t, outer, w, 1, in, 3, out);
    } else {
        out[0] = tl_sin(t, tl_mul(t, in[0], *w));
        out[1] = tl_mul(t, out[0], in[0]);
        out[2] = in[0];
    }
    return tl_add(t, tl_mul(t, out[0], out[1]), tl_exp(t, out[2]));
}

static void derivatives_of_every_order(void **state)
{
    (void)state;
    dice d = dice_of(3);
    tl_tensor *x[] = {random_tensor(&d, TL_F64, TL_SHAPE(2, 3), -1, 1),
                      random_tensor(&d, TL_F64, TL_SHAPE(3), -1, 1)};
    tl_gradcheck_report r;
    for (int hidden = 0; hidden < 2; hidden++) {
        void *context = hidden ? x : NULL;
        if (tl_gradcheck(with_stretches, context, 2, x, NULL, &r) != TL_OK ||
            tl_gradgradcheck(with_stretches, context, 2, x, NULL, &r) != TL_OK)
            fail_msg("%s", r.message);
    }
    assert_int_equal(tl_modecheck(with_stretches, x, 2, x, NULL, &r), TL_ERR_NO_DERIVATIVE);
    assert_string_equal(r.message, "stretch: there is no forward mode through a stretch");
    tl_tensor_release(x[0]);
    tl_tensor_release(x[1]);
}

static void two_dtypes(tl_tape *t, void *context, const tl_var *in, tl_var *out)
{
    (void)context;
    out[0] = in[0];
    out[1] = tl_cast(t, in[0], TL_F32);
}

static void fails_inside(tl_tape *t, void *context, const tl_var *in, tl_var *out)
{
    out[0] = tl_add(t, in[0], *(tl_var *)context);
}

static void fails_the_second_time(tl_tape *t, void *context, const tl_var *in, tl_var *out)
{
    out[0] = tl_square(t, in[0]);
    if (++*(int *)context == 2)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "not again");
}

static void uses_a_tensor(tl_tape *t, void *context, const tl_var *in, tl_var *out)
{
    out[0] = tl_mul(t, in[0], tl_leaf(t, context, NULL));
}

static void errors_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(3);
    tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(2, 3), -1, 1);
    tl_var in = tl_leaf(t, x, NULL), out[3];
    assert_int_equal(tl_recompute(t, two_dtypes, NULL, 1, &in, 2, out), TL_ERR_DTYPE);
    assert_error(t, TL_ERR_DTYPE, "recompute: output 1 is f32; outputs are reals of one dtype");
    in = tl_leaf(t, x, NULL);
    assert_int_equal(tl_recompute(t, two_dtypes, NULL, 0, &in, 2, out), TL_ERR_ARGUMENT);
    assert_error(t, TL_ERR_ARGUMENT, "recompute: 0 inputs, 2 outputs: at least one of each");
    in = tl_leaf(t, x, NULL);
    tl_var wrong = tl_full(t, TL_F64, TL_SHAPE(4), 0);
    tl_scope_begin(t, "layer", 2);
    tl_recompute(t, fails_inside, &wrong, 1, &in, 1, out);
    assert_error(t, TL_ERR_SHAPE, "add: shapes cannot be broadcast: [2,3] and [4] (layer 2)");
    in = tl_leaf(t, x, NULL);
    tl_tensor *untied = zeros_like(x); /* its uses, and their gradients, would go with the stretch */
    tl_untie(t, untied);
    tl_recompute(t, uses_a_tensor, untied, 1, &in, 1, out);
    assert_error(
        t, TL_ERR_ARGUMENT,
        "untie: a use within a stretch that is recorded again would be forgotten with it, and its "
        "gradient too; record the steps plainly");
    tl_tensor_release(untied);
    int calls = 0;
    in = tl_leaf(t, x, NULL);
    tl_recompute(t, fails_the_second_time, &calls, 1, &in, 1, out);
    assert_int_equal(tl_backward(t, tl_sum(t, out[0])), TL_ERR_ARGUMENT);
    assert_error(t, TL_ERR_ARGUMENT, "not again");
    net n = net_new(4, false);
    tl_var begin[2] = {tl_full(t, TL_F64, TL_SHAPE(B, H), 0), tl_full(t, TL_F64, TL_SHAPE(B, H), 0)};
    tl_chain chain = {.steps = 4, .states = 2, .step = step, .context = &n};
    tl_var output[4];
    n.inputs = tl_constant(t, n.x);
    const struct {
        tl_plan plan;
        int states;
        tl_status status;
        const char *message;
    } bad[] = {
        {{.schedule = TL_REVOLVE}, 2, TL_ERR_ARGUMENT, "chain: 0 slots: at least 1"},
        {{.schedule = (tl_schedule)7, .slots = 1}, 2, TL_ERR_ARGUMENT, "chain: there is no schedule 7"},
        {{.schedule = TL_EVERY, .slots = 1, .bytes = 1 << 20},
         2,
         TL_ERR_ARGUMENT,
         "chain: a budget of bytes goes with TL_REVOLVE and TL_MIXED"},
        {{.schedule = TL_EVERY, .slots = 2},
         0,
         TL_ERR_ARGUMENT,
         "chain: 4 steps, 0 states: wants 0 steps or more, 1..8 states"},
    };
    for (int k = 0; k < COUNT_OF(bad); k++) {
        chain.states = bad[k].states;
        assert_int_equal(tl_chain_record(t, &chain, &bad[k].plan, begin, output), bad[k].status);
        assert_error(t, bad[k].status, bad[k].message);
    }
    chain.states = 2;
    n.inputs = tl_constant(t, n.x);
    begin[0] = begin[1] = tl_full(t, TL_F64, TL_SHAPE(B, H), 0);
    assert_int_equal(
        tl_chain_record(t, &chain, &(tl_plan){.schedule = TL_REVOLVE, .bytes = 100}, begin, output),
        TL_ERR_MEMORY);
    assert_non_null(strstr(tl_tape_message(t), "chain: 100 bytes do not hold one step ("));
    tl_tape_free(t);
    net_free(&n);
    tl_tensor_release(x);
}

/* ---- memory ----------------------------------------------------------------------------- */

enum { ROWS = 8, WIDE = 64, LONG = 400 };

/* A state of 4 KiB, some 60 KiB to walk back, one number as output. */
static void wide_step(tl_tape *t, void *context, int64_t step, tl_var *state, tl_var *output)
{
    tl_var w = tl_leaf(t, context, NULL), h = state[0];
    for (int k = 0; k < 6; k++)
        h = tl_tanh(t, tl_affine(t, tl_linear_op(t, h, w, TL_NONE), 1, 0.01 * (double)step));
    state[0] = h;
    *output = tl_sum(t, h);
}

/* Beyond what one step and its way back need, to the end of the chain and back. */
static size_t peak_of(tl_tensor *w, const tl_plan *plan, uint64_t *recomputed)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_var state[1] = {tl_full(t, TL_F64, TL_SHAPE(ROWS, WIDE), 0.1)}, output[LONG], loss;
    const tl_chain chain = {.steps = LONG, .states = 1, .step = wide_step, .context = w};
    wide_step(t, w, 0, (tl_var[1]){state[0]}, output);
    tl_backward(t, output[0]);
    size_t before = tl_tape_measure(t).peak;
    tl_chain_record(t, &chain, plan, state, output);
    assert_ok(t);
    loss = output[0];
    for (int k = 1; k < LONG; k++)
        loss = tl_add(t, loss, output[k]);
    assert_int_equal(tl_backward(t, loss), TL_OK);
    size_t peak = tl_tape_measure(t).peak - before;
    *recomputed = tl_recomputed_steps(t);
    tl_tape_free(t);
    return peak;
}

/* Every output has names and a place for its gradient, whatever the plan: 2 KiB a step are allowed. */
static void memory_stays_within_the_budget(void **state)
{
    (void)state;
    dice d = dice_of(6);
    tl_tensor *w = random_tensor(&d, TL_F64, TL_SHAPE(WIDE, WIDE), -0.2, 0.2);
    uint64_t recomputed, before = 0;
    size_t all = peak_of(w, NULL, &recomputed), outputs = LONG * 2048;
    assert_true(all > 20 << 20);
    for (size_t budget = 256 << 10; budget <= 1 << 20; budget *= 2) {
        size_t peak = peak_of(w, &(tl_plan){.schedule = TL_REVOLVE, .bytes = budget}, &recomputed);
        if (peak > budget + outputs)
            fail_msg("budget %zu, %zu for outputs: peak %zu (without a plan %zu)", budget, outputs,
                     peak, all);
        assert_true(recomputed >= LONG - 1 && (!before || recomputed < before));
        before = recomputed;
    }
    tl_tensor_release(w);
}

/* ---- networks --------------------------------------------------------------------------- */

typedef struct trained {
    double loss;
    tl_tensor *gradient[64], *dx;
    int count;
    size_t peak;
} trained;

static trained train(const tl_rnn_config *config, const tl_plan *plan, const int64_t *lengths)
{
    enum { T = 23, ROWS = 3 };
    trained r = {0};
    tl_params *params = tl_params_new(TL_F64, 4);
    tl_rnn rnn;
    tl_rnn_init(&rnn, params, config);
    assert_int_equal(tl_params_status(params), TL_OK);
    dice d = dice_of(2);
    tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(T, ROWS, config->input), -1, 1);
    tl_tape *t = tl_tape_new(&(tl_tape_config){.seed = 9});
    tl_var in = tl_leaf(t, x, NULL);
    tl_plan own = *plan; /* may be gone, as may the lengths, when backward comes */
    int64_t own_lengths[ROWS];
    if (lengths)
        memcpy(own_lengths, lengths, sizeof own_lengths);
    tl_unroll_options options = {
        .training = true, .recompute = &own, .lengths = lengths ? own_lengths : NULL};
    tl_var y = tl_unroll_with(t, &rnn, in, NULL, &options);
    memset(&own, 0xff, sizeof own);
    memset(own_lengths, 0xff, sizeof own_lengths);
    memset(&options, 0xff, sizeof options);
    tl_var loss = tl_mean(t, tl_square(t, y));
    r.loss = tl_item(t, loss);
    assert_ok(t);
    assert_int_equal(tl_backward(t, loss), TL_OK);
    for (; r.count < params->count; r.count++)
        r.gradient[r.count] = tl_tensor_copy(params->entry[r.count]->gradient, TL_F64, NULL);
    r.dx = value_of(t, tl_gradient(t, in));
    r.peak = tl_tape_measure(t).peak;
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_rnn_free(&rnn);
    tl_params_free(params);
    return r;
}

static void trained_free(trained *r)
{
    for (int k = 0; k < r->count; k++)
        tl_tensor_release(r->gradient[k]);
    tl_tensor_release(r->dx);
}

/* Cells, layers, directions, lengths, noise: whatever the network, whatever the plan. */
static void networks_too(void **state)
{
    (void)state;
    const tl_rnn_config configs[] = {
        {.cell = &tl_lstm_cell, .input = 4, .hidden = 5, .layers = 2, .bidirectional = true},
        {.cell = &tl_gru_cell, .input = 4, .hidden = 5, .layers = 1, .zoneout = {0.2}, .dropout = 0.1},
        {.cell = &tl_elman_cell,
         .input = 4,
         .hidden = 5,
         .layers = 2,
         .dropout = 0.3,
         .drop_connect = 0.2,
         .recurrent_dropout = 0.2,
         .learned_state = true,
         .layer_norm = true},
        {.cell = &tl_gru_cell,
         .options = &(const tl_gru_options){.reset = TL_RESET_BEFORE},
         .input = 4,
         .hidden = 5,
         .layers = 1,
         .composed = true},
        {.cell = &tl_mgu_cell, .input = 4, .hidden = 5, .layers = 1},
    };
    const int64_t lengths[] = {23, 0, 11};
    const tl_plan plans[] = {{.schedule = TL_EVERY, .slots = 5},
                             {.schedule = TL_SQRT},
                             {.schedule = TL_REVOLVE, .slots = 2},
                             {.schedule = TL_INTERNAL, .slots = 3}};
    for (int c = 0; c < COUNT_OF(configs); c++)
        for (int ragged = 0; ragged < 2; ragged++) {
            trained plain =
                train(&configs[c], &(tl_plan){.schedule = TL_KEEP_ALL}, ragged ? lengths : NULL);
            for (int k = 0; k < COUNT_OF(plans); k++) {
                char text[64];
                trained r = train(&configs[c], &plans[k], ragged ? lengths : NULL);
                snprintf(text, sizeof text, "config %d, plan %d", c, k);
                check_near(r.loss, plain.loss, 0, text, 0, __FILE__, __LINE__);
                for (int p = 0; p < r.count; p++)
                    check_tensors(r.gradient[p], plain.gradient[p], 0, text, __FILE__, __LINE__);
                check_tensors(r.dx, plain.dx, 0, text, __FILE__, __LINE__);
                trained_free(&r);
            }
            trained_free(&plain);
        }
}

static void what_does_not_go_together(void **state)
{
    (void)state;
    tl_params *params = tl_params_new(TL_F64, 4);
    tl_rnn rnn;
    tl_rnn_init(&rnn, params,
                &(tl_rnn_config){.cell = &tl_elman_cell, .input = 2, .hidden = 3, .layers = 1});
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled handles;
    tl_plan plan = {.schedule = TL_SQRT};
    tl_unroll_with(t, &rnn, tl_full(t, TL_F64, TL_SHAPE(4, 1, 2), 1), NULL,
                   &(tl_unroll_options){.recompute = &plan, .handles = &handles});
    assert_error(t, TL_ERR_ARGUMENT,
                 "unroll: handles to every step want every step kept: not together with recompute");
    tl_untie(t, tl_rnn_weight(&rnn, 0, 0, "weight_hh")->value);
    tl_unroll_with(t, &rnn, tl_full(t, TL_F64, TL_SHAPE(4, 1, 2), 1), NULL,
                   &(tl_unroll_options){.recompute = &plan});
    assert_error(
        t, TL_ERR_ARGUMENT,
        "unroll: untied weights have a use for every step: not together with recompute (layer 0)");
    tl_tape_free(t);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_are_those_of_the_papers),
        cmocka_unit_test(gradients_are_the_same_to_the_bit),
        cmocka_unit_test(steps_are_counted),
        cmocka_unit_test(derivatives_of_every_order),
        cmocka_unit_test(errors_in_words),
        cmocka_unit_test(memory_stays_within_the_budget),
        cmocka_unit_test(networks_too),
        cmocka_unit_test(what_does_not_go_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
