/* Recomputation: the same bits as without it, in the number of steps that theory gives. */
#include "support.h"

#include "autograd/gradcheck.h"
#include "autograd/recompute.h"

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
            for (int schedule = TL_KEEP_ALL; schedule <= TL_INTERNAL; schedule++)
                for (int64_t slots = 1; slots <= 5; slots++) {
                    char text[64];
                    tl_plan plan = {.schedule = (tl_schedule)schedule, .slots = slots};
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_are_those_of_the_papers),
        cmocka_unit_test(gradients_are_the_same_to_the_bit),
        cmocka_unit_test(steps_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
