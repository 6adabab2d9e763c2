/* The gradient along time: norms, Jacobians, bound, verdicts, regulariser; against loops and formulas.
 */
#include "nets.h"

#include "autograd/functional.h"
#include "autograd/gradcheck.h"
#include "nn/gradient_flow.h"
#include "nn/init.h"

enum { T = 6, B = 2, I = 3, H = 4, MOST = 64 };

static tl_var linear(tl_tape *t, tl_var x)
{
    return tl_affine(t, x, 1, 0);
}

static const tl_elman_options is_linear = {.activation = linear},
                              is_sigmoid = {.activation = tl_sigmoid},
                              is_relu = {.activation = tl_relu}, is_clipped = {.clip = 0.3};

/* ---- unrolled once ----------------------------------------------------------------------- */

typedef enum where { LAST_STEP, EVERY_STEP } where;

typedef struct run {
    net n;
    tl_tape *t;
    tl_unrolled u;
    tl_var y, loss;
    int64_t steps;
} run;

static tl_var input_for(tl_tape *t, const tl_rnn_config *c, int64_t steps)
{
    dice d = dice_of(3);
    tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(steps, B, c->input), -1, 1);
    tl_var v = tl_leaf(t, x, NULL);
    tl_tensor_release(x);
    return v;
}

static tl_var initial_for(tl_tape *t)
{
    dice d = dice_of(4);
    tl_tensor *h = random_tensor(&d, TL_F64, TL_SHAPE(B, H), -0.5, 0.5);
    tl_var v = tl_leaf_untied(t, h);
    tl_tensor_release(h);
    return v;
}

/* All initial states are leaves. The loss is of the last time step of the forward direction, or of all.
 */
static void record(run *r, where loss, const tl_unroll_options *options)
{
    tl_unroll_options o = options ? *options : (tl_unroll_options){.lengths = NULL};
    tl_var state[16];
    o.handles = &r->u;
    o.keep_gradients = true;
    for (int k = 0; k < tl_rnn_states(&r->n.rnn); k++)
        state[k] = initial_for(r->t);
    r->y = tl_unroll_with(r->t, &r->n.rnn, input_for(r->t, &r->n.rnn.config, r->steps), state, &o);
    tl_var seen = loss == LAST_STEP ? tl_select(r->t, r->y, 0, r->steps - 1) : r->y;
    r->loss = weigh(r->t, seen, 5);
}

static run run_of(const tl_rnn_config *config, int64_t steps, where loss)
{
    run r = {.n = net_from(config), .t = tl_tape_new(NULL), .steps = steps};
    record(&r, loss, NULL);
    assert_int_equal(tl_backward_retain(r.t, r.loss), TL_OK);
    return r;
}

static void run_free(run *r)
{
    tl_tape_free(r->t);
    net_free(&r->n);
}

static tl_gradient_flow flow_of(run *r, const tl_flow_options *options)
{
    tl_gradient_flow flow;
    if (tl_gradient_flow_measure(r->t, &r->u, options, &flow) != TL_OK)
        fail_msg("%s", tl_tape_message(r->t));
    return flow;
}

static void set_weight(net *n, const char *name, const double *numbers)
{
    tl_param *w = tl_rnn_weight(&n->rnn, 0, 0, name);
    assert_non_null(w);
    for (int64_t i = 0; i < w->value->layout.count; i++)
        tl_tensor_set(w->value, i, numbers[i]);
}

static void set_diagonal(net *n, double w)
{
    double numbers[H * H] = {0};
    for (int i = 0; i < H; i++)
        numbers[i * H + i] = w;
    set_weight(n, "weight_hh", numbers);
}

/* ---- plain loops ------------------------------------------------------------------------- */

static double plain_norm(const double *x, int64_t count)
{
    double squares = 0;
    for (int64_t i = 0; i < count; i++)
        squares += x[i] * x[i];
    return sqrt(squares);
}

/* The largest singular value of [n,n]: many steps of power iteration on A'A. */
static double plain_spectral(const double *a, int64_t n)
{
    double v[MOST], y[MOST], sigma = 0;
    for (int64_t i = 0; i < n; i++)
        v[i] = 1 + 0.1 * (double)(i * i % 7);
    for (int k = 0; k < 20000; k++) {
        double norm = plain_norm(v, n);
        for (int64_t r = 0; r < n; r++) {
            y[r] = 0;
            for (int64_t c = 0; c < n; c++)
                y[r] += a[r * n + c] * v[c] / norm;
        }
        sigma = plain_norm(y, n);
        for (int64_t c = 0; c < n; c++) {
            v[c] = 0;
            for (int64_t r = 0; r < n; r++)
                v[c] += a[r * n + c] * y[r];
        }
    }
    return sigma;
}

/* The Jacobian of all states of a cell as one matrix [n,n], from the blocks that tl_jacobian has. */
static int64_t full_jacobian(run *r, const tl_flow_trace *trace, int64_t step, double *out)
{
    int first = trace->state < 0 ? 0 : trace->state;
    int states = trace->state < 0 ? r->u.states : 1;
    int64_t size = trace->units * B, own = size / states; /* all states here are equally large */
    for (int to = 0; to < states; to++)
        for (int from = 0; from < states; from++) {
            tl_var y = tl_step_state(&r->u, trace->layer, trace->direction, first + to, step + 1);
            tl_var x = tl_step_state(&r->u, trace->layer, trace->direction, first + from, step);
            tl_tensor *block = value_of(r->t, tl_jacobian(r->t, y, x));
            for (int64_t i = 0; i < own * own; i++)
                out[(to * own + i / own) * size + from * own + i % own] = tl_tensor_get(block, i);
            tl_tensor_release(block);
        }
    return size;
}

static void gradient_of(run *r, const tl_flow_trace *trace, int64_t step, double *out)
{
    for (int k = 0; k < r->u.states; k++) {
        if (trace->state >= 0 && trace->state != k)
            continue;
        tl_var s = tl_step_state(&r->u, trace->layer, trace->direction, k, step), g;
        assert_int_equal(tl_grad(r->t, r->loss, TL_NONE, 1, &s, false, &g), TL_OK);
        tl_tensor *value = value_of(r->t, g);
        for (int64_t i = 0; i < value->layout.count; i++)
            *out++ = tl_tensor_get(value, i);
        tl_tensor_release(value);
    }
}

/* ---- norms and Jacobians ------------------------------------------------------------------ */

static const tl_rnn_config networks[] = {
    {.cell = &tl_elman_cell, .input = I, .hidden = H, .layers = 1},
    {.cell = &tl_gru_cell, .input = I, .hidden = H, .layers = 2, .bidirectional = true},
    {.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 1, .zoneout = {0.2, 0.1}},
    {.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 2, .composed = true},
    {.cell = &tl_elman_cell, .input = I, .hidden = H, .layers = 2, .bidirectional = true}};

static void compare_step(run *r, const tl_flow_trace *trace, int64_t n)
{
    double a[MOST * MOST], g[MOST], carried[MOST] = {0};
    int64_t size = full_jacobian(r, trace, n, a);
    gradient_of(r, trace, n + 1, g);
    for (int64_t c = 0; c < size; c++)
        for (int64_t row = 0; row < size; row++)
            carried[c] += g[row] * a[row * size + c];
    assert_near_at(trace->frobenius[n], plain_norm(a, size * size), 1e-12, n);
    assert_near_at(trace->spectral[n], plain_spectral(a, size), 1e-7, n);
    assert_near_at(trace->carried[n], plain_norm(carried, size), 1e-12, n);
}

/* log10 |g_S J_(S-1) .. J_n| / |g_S|; in the last step an LSTM's c has no gradient: S = T - 1 */
static void compare_reach(run *r, const tl_flow_trace *trace)
{
    double a[MOST * MOST], v[MOST], x[MOST];
    const int64_t last = trace->norm[T] > 0 ? T : T - 1, size = trace->units * B;
    gradient_of(r, trace, last, v);
    double whole = plain_norm(v, size);
    assert_true(last == T || isnan(trace->reach[T]));
    assert_same(trace->reach[last], 0);
    for (int64_t n = last - 1; n >= 0; n--) {
        full_jacobian(r, trace, n, a);
        for (int64_t c = 0; c < size; c++) {
            x[c] = 0;
            for (int64_t row = 0; row < size; row++)
                x[c] += v[row] * a[row * size + c];
        }
        memcpy(v, x, (size_t)size * sizeof *v);
        assert_near_at(trace->reach[n], log10(plain_norm(v, size) / whole), 1e-12, n);
    }
    assert_near(trace->left, plain_norm(v, size) / whole, 1e-12);
}

static void compare_gradients(run *r, const tl_flow_trace *trace, int64_t n)
{
    double g[MOST];
    gradient_of(r, trace, n, g);
    assert_near_at(trace->norm[n], plain_norm(g, trace->units * B), 1e-13, n);
    for (int k = 0, i = 0; k < (trace->state < 0 ? r->u.states : 1); k++)
        for (int unit = 0; unit < H; unit++, i++)
            assert_near_at(trace->unit[n * trace->units + i],
                           hypot(g[k * B * H + unit], g[k * B * H + H + unit]), 1e-13, n);
}

/* Every state of every layer and direction, and all of a cell's together, against full matrices. */
static void norms_are_those_of_full_matrices(void **state)
{
    (void)state;
    for (int c = 0; c < COUNT_OF(networks); c++) {
        run r = run_of(&networks[c], T, EVERY_STEP);
        tl_gradient_flow flow =
            flow_of(&r, &(tl_flow_options){.tolerance = 1e-14, .iterations = 100000});
        int traces = r.u.states > 1 ? r.u.states + 1 : 1;
        assert_int_equal(flow.count, networks[c].layers * r.n.rnn.directions * traces);
        assert_int_equal(flow.steps, T);
        assert_int_equal(flow.batch, B);
        for (int k = 0; k < flow.count; k++) {
            const tl_flow_trace *trace = &flow.trace[k];
            assert_int_equal(trace->first, 0);
            assert_int_equal(trace->units, trace->state < 0 ? H * r.u.states : H);
            if (trace->unconverged)
                fail_msg("network %d, trace %d: %d steps did not converge", c, k, trace->unconverged);
            assert_ptr_equal(tl_flow_find(&flow, trace->layer, trace->direction, trace->state), trace);
            for (int64_t n = 0; n <= T; n++)
                compare_gradients(&r, trace, n);
            if (!trace->direction)
                compare_reach(&r, trace);
            for (int64_t n = 0; n < T; n++) {
                compare_step(&r, trace, n);
                assert_true(isnan(trace->bound[n]));
            }
        }
        assert_null(tl_flow_find(&flow, networks[c].layers, 0, 0));
        run_free(&r);
    }
}

/* The states before a sequence are constants unless they are given: they have no gradient, and the
 * first step no Jacobian. */
static void states_without_gradient(void **state)
{
    (void)state;
    net n = net_from(&networks[0]);
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled u;
    tl_gradient_flow flow;
    tl_var y = tl_unroll_with(t, &n.rnn, input_for(t, &networks[0], T), NULL,
                              &(tl_unroll_options){.handles = &u, .keep_gradients = true});
    assert_int_equal(tl_backward_retain(t, weigh(t, y, 1)), TL_OK);
    assert_int_equal(tl_gradient_flow_measure(t, &u, NULL, &flow), TL_OK);
    assert_int_equal(flow.trace[0].first, 1);
    assert_true(isnan(flow.trace[0].norm[0]) && isnan(flow.trace[0].spectral[0]));
    assert_true(flow.trace[0].norm[1] > 0 && flow.trace[0].spectral[1] > 0);
    assert_int_equal(flow.trace[0].fitted, T - 1);
    tl_tape_free(t);
    net_free(&n);
}

/* ---- spectral norm ------------------------------------------------------------------------ */

static void spectral_norm_of_matrices(void **state)
{
    (void)state;
    dice d = dice_of(8);
    tl_tape *t = tl_tape_new(NULL);
    double a[25];
    for (int trial = 0; trial < 20; trial++) {
        for (int i = 0; i < 25; i++)
            a[i] = i / 5 < 3 ? dice_real(&d, -1, 1) : 0; /* [3,5] within [5,5] */
        tl_var whole = constant_f64(t, TL_SHAPE(5, 5), a), part = tl_slice(t, whole, 0, 0, 3, 1);
        assert_near_at(tl_spectral_norm(t, part, NULL), plain_spectral(a, 5), 1e-7, trial);
        assert_near_at(tl_spectral_norm(t, tl_transpose(t, part, 0, 1), NULL), plain_spectral(a, 5),
                       1e-7, trial);
    }
    assert_near(tl_spectral_norm(t, constant_f64(t, TL_SHAPE(2, 2), REALS(3, 0, 0, -5)), NULL), 5,
                1e-9);
    assert_same(tl_spectral_norm(t, constant_f64(t, TL_SHAPE(2, 2), REALS(0, 0, 0, 0)), NULL), 0);
    tl_var nilpotent = constant_f64(t, TL_SHAPE(2, 2), REALS(0, 7, 0, 0)); /* eigenvalues are 0 */
    assert_near(tl_spectral_norm(t, nilpotent, NULL), 7, 1e-12);
    const tl_flow_options once = {.iterations = 1};
    assert_true(tl_spectral_norm(t, nilpotent, &once) < 7); /* from below */
    assert_true(isnan(tl_spectral_norm(t, constant_f64(t, TL_SHAPE(1, 2), REALS(NAN, 1)), NULL)));
    assert_ok(t);
    tl_spectral_norm(t, constant_f64(t, TL_SHAPE(2), REALS(1, 2)), NULL);
    assert_error(t, TL_ERR_SHAPE, "spectral_norm: wants a matrix of reals, not f64 [2]");
    tl_tape_free(t);
}

/* ---- verdicts ----------------------------------------------------------------------------- */

static const tl_rnn_config linear_net = {
    .cell = &tl_elman_cell, .options = &is_linear, .input = I, .hidden = H, .layers = 1};

static run linear_run(double w, int64_t steps, where loss)
{
    run r = {.n = net_from(&linear_net), .t = tl_tape_new(NULL), .steps = steps};
    set_diagonal(&r.n, w);
    record(&r, loss, NULL);
    assert_int_equal(tl_backward_retain(r.t, r.loss), TL_OK);
    return r;
}

/* h' = w h + ..: |dL/dh_n| = w^(T-n) |dL/dh_T|, in every digit for powers of two. */
static void powers_of_an_eigenvalue(void **state)
{
    (void)state;
    static const struct {
        double w;
        tl_flow_verdict verdict;
    } cases[] = {{0.5, TL_FLOW_VANISHING}, {0.89, TL_FLOW_VANISHING}, {0.91, TL_FLOW_HEALTHY},
                 {1, TL_FLOW_HEALTHY},     {1.09, TL_FLOW_HEALTHY},   {1.11, TL_FLOW_EXPLODING},
                 {1.5, TL_FLOW_EXPLODING}, {-2, TL_FLOW_EXPLODING}};
    for (int c = 0; c < COUNT_OF(cases); c++) {
        const double w = cases[c].w;
        run r = linear_run(w, T, LAST_STEP);
        tl_gradient_flow flow = flow_of(&r, &(tl_flow_options){.network = &r.n.rnn});
        const tl_flow_trace *trace = &flow.trace[0];
        double tolerance = w == 0.5 || w == 1 || w == -2 ? 0 : 1e-14;
        for (int64_t n = 0; n <= T; n++)
            assert_near_at(trace->norm[n], pow(fabs(w), (double)(T - n)) * trace->norm[T], tolerance,
                           n);
        for (int64_t n = 0; n < T; n++) {
            assert_near_at(trace->spectral[n], fabs(w), 1e-14, n);
            assert_near_at(trace->bound[n], fabs(w), 1e-14, n);
            assert_near_at(trace->frobenius[n], fabs(w) * sqrt(B * H), 1e-14, n);
        }
        assert_near(trace->rate, fabs(w), 1e-13);
        assert_near(trace->left, pow(fabs(w), T), 1e-13);
        assert_int_equal(trace->fitted, T);
        assert_int_equal(trace->verdict, cases[c].verdict);
        assert_int_equal(flow.verdict, cases[c].verdict);
        run_free(&r);
    }
}

/* The gravest of all cells, each judged by all of its states: with W_hh = 0 an LSTM's h has no gradient
 * from one step to the next, and c carries it alone. */
static void one_verdict_of_many(void **state)
{
    (void)state;
    static const tl_lstm_options remembers = {.forget_bias = 5};
    const tl_rnn_config lstm = {
        .cell = &tl_lstm_cell, .options = &remembers, .input = I, .hidden = H, .layers = 1};
    run r = {.n = net_from(&lstm), .t = tl_tape_new(NULL), .steps = T};
    const double zeros[4 * H * H] = {0}, forget[4 * H] = {0, 0, 0, 0, 5, 5, 5, 5};
    set_weight(&r.n, "weight_hh", zeros);
    set_weight(&r.n, "weight_ih", zeros);
    set_weight(&r.n, "bias_ih", forget);
    set_weight(&r.n, "bias_hh", zeros);
    record(&r, EVERY_STEP, NULL);
    assert_int_equal(tl_backward_retain(r.t, r.loss), TL_OK);
    tl_gradient_flow flow = flow_of(&r, NULL);
    assert_int_equal(tl_flow_find(&flow, 0, 0, 0)->verdict, TL_FLOW_VANISHING);
    assert_int_equal(tl_flow_find(&flow, 0, 0, 1)->verdict, TL_FLOW_HEALTHY);
    assert_near(tl_flow_find(&flow, 0, 0, 1)->spectral[3], 1 / (1 + exp(-5)), 1e-12);
    assert_int_equal(flow.verdict, TL_FLOW_HEALTHY);
    run_free(&r);

    tl_rnn_config two = linear_net;
    two.layers = 2;
    r = (run){.n = net_from(&two), .t = tl_tape_new(NULL), .steps = T};
    set_diagonal(&r.n, 1.5); /* layer 0 */
    tl_tensor *above = tl_rnn_weight(&r.n.rnn, 1, 0, "weight_hh")->value;
    for (int i = 0; i < H * H; i++)
        tl_tensor_set(above, i, i % (H + 1) == 0);
    record(&r, LAST_STEP, NULL);
    assert_int_equal(tl_backward_retain(r.t, r.loss), TL_OK);
    flow = flow_of(&r, NULL);
    assert_int_equal(flow.trace[0].verdict, TL_FLOW_EXPLODING);
    assert_int_equal(flow.trace[1].verdict, TL_FLOW_HEALTHY);
    assert_int_equal(flow.verdict, TL_FLOW_EXPLODING);
    run_free(&r);
}

/* Losses at every step keep |dL/dh| up; that nothing comes from afar is seen all the same. */
static void losses_on_the_way_hide_nothing(void **state)
{
    (void)state;
    run r = linear_run(0.5, 30, EVERY_STEP);
    tl_gradient_flow flow = flow_of(&r, NULL);
    assert_true(flow.trace[0].norm[0] > 0.05 * flow.trace[0].norm[30]);
    assert_near(flow.trace[0].rate, 0.5, 1e-12);
    assert_int_equal(flow.verdict, TL_FLOW_VANISHING);
    run_free(&r);
}

static void orthogonal_stays_healthy(void **state)
{
    (void)state;
    run r = {.n = net_from(&linear_net), .t = tl_tape_new(NULL), .steps = 40};
    tl_random random = tl_random_seed(2);
    tl_init_orthogonal(&random, tl_rnn_weight(&r.n.rnn, 0, 0, "weight_hh")->value);
    record(&r, LAST_STEP, NULL);
    assert_int_equal(tl_backward_retain(r.t, r.loss), TL_OK);
    tl_gradient_flow flow = flow_of(&r, NULL);
    for (int64_t n = 0; n < 40; n++)
        assert_near_at(flow.trace[0].spectral[n], 1, 1e-13, n);
    assert_near(flow.trace[0].rate, 1, 1e-13);
    assert_int_equal(flow.verdict, TL_FLOW_HEALTHY);
    run_free(&r);
}

/* Squares of such norms would be 0, or infinite. */
static void far_beyond_what_squares_can_hold(void **state)
{
    (void)state;
    for (int large = 0; large < 2; large++) {
        run r = linear_run(large ? 4 : 0.25, 450, LAST_STEP); /* 4^450 = 8e270 */
        tl_gradient_flow flow = flow_of(&r, &(tl_flow_options){.network = &r.n.rnn});
        const tl_flow_trace *trace = &flow.trace[0];
        assert_same(trace->norm[0], pow(large ? 4 : 0.25, 450) * trace->norm[450]);
        assert_near(trace->rate, large ? 4 : 0.25, 1e-12);
        assert_int_equal(trace->verdict, large ? TL_FLOW_EXPLODING : TL_FLOW_VANISHING);
        run_free(&r);
    }
}

static void thresholds_are_yours(void **state)
{
    (void)state;
    char text[TL_FLOW_TEXT];
    run r = linear_run(0.5, T, LAST_STEP);
    tl_gradient_flow flow = flow_of(&r, &(tl_flow_options){.vanishing = 0.4});
    assert_int_equal(flow.verdict, TL_FLOW_HEALTHY);
    assert_string_equal(
        tl_flow_words(&flow, &flow.trace[0], text),
        "healthy: a gradient is multiplied by 0.5 at each step back (between 0.4 and 1.1), "
        "by 0.0156 over all 6");
    flow = flow_of(&r, NULL);
    assert_string_equal(tl_flow_words(&flow, &flow.trace[0], text),
                        "vanishing: a gradient is multiplied by 0.5 at each step back (below 0.9), by "
                        "0.0156 over all 6");
    assert_int_equal(tl_gradient_flow_measure(r.t, &r.u, &(tl_flow_options){.vanishing = 1.2}, &flow),
                     TL_ERR_ARGUMENT);
    assert_int_equal(flow.count, 0);
    assert_error(r.t, TL_ERR_ARGUMENT,
                 "gradient_flow: thresholds are to be below and above 1, not 1.2 and 1.1");
    run_free(&r);
}

/* After a plain tl_backward: the norms themselves. */
static void without_jacobians(void **state)
{
    (void)state;
    run r = {.n = net_from(&linear_net), .t = tl_tape_new(NULL), .steps = T};
    tl_gradient_flow flow;
    set_diagonal(&r.n, 1.5);
    record(&r, LAST_STEP, NULL);
    assert_int_equal(tl_backward(r.t, r.loss), TL_OK);
    uint32_t recorded = tl_tape_measure(r.t).variables;
    flow = flow_of(&r, &(tl_flow_options){.no_jacobians = true, .network = &r.n.rnn});
    assert_int_equal(tl_tape_measure(r.t).variables, recorded);
    assert_near(flow.trace[0].rate, 1.5, 1e-13);
    assert_int_equal(flow.verdict, TL_FLOW_EXPLODING);
    assert_true(isnan(flow.trace[0].spectral[0]) && isnan(flow.trace[0].bound[0]));
    assert_int_equal(tl_gradient_flow_measure(r.t, &r.u, NULL, &flow), TL_ERR_CONSUMED);
    run_free(&r);
}

/* ---- what is not a number, and nothing at all ---------------------------------------------- */

static void nothing_arrives(void **state)
{
    (void)state;
    char text[TL_FLOW_TEXT];
    run r = {.n = net_from(&linear_net), .t = tl_tape_new(NULL), .steps = T};
    record(&r, LAST_STEP, NULL);
    r.loss = tl_affine(r.t, r.loss, 0, 0);
    assert_int_equal(tl_backward_retain(r.t, r.loss), TL_OK);
    tl_gradient_flow flow = flow_of(&r, NULL);
    assert_int_equal(flow.verdict, TL_FLOW_SILENT);
    for (int64_t n = 0; n <= T; n++)
        assert_same(flow.trace[0].norm[n], 0);
    assert_true(isnan(flow.trace[0].rate));
    assert_string_equal(tl_flow_words(&flow, &flow.trace[0], text),
                        "silent: no gradient arrived, or it had no step to go");
    run_free(&r);
}

static void not_a_number(void **state)
{
    (void)state;
    char text[TL_FLOW_TEXT];
    static const double bad[] = {NAN, INFINITY};
    for (int k = 0; k < COUNT_OF(bad); k++) {
        run r = {.n = net_from(&linear_net), .t = tl_tape_new(NULL), .steps = T};
        record(&r, LAST_STEP, NULL);
        tl_var h4 = tl_step_state(&r.u, 0, 0, 0, 4);
        r.loss = tl_add(r.t, r.loss, tl_sum(r.t, tl_affine(r.t, h4, bad[k], 0)));
        assert_int_equal(tl_backward_retain(r.t, r.loss), TL_OK);
        tl_gradient_flow flow = flow_of(&r, NULL);
        assert_true(isfinite(flow.trace[0].norm[5]) && !isfinite(flow.trace[0].norm[4]));
        assert_int_equal(flow.verdict, TL_FLOW_NOT_FINITE);
        assert_int_equal(flow.trace[0].at, 4);
        assert_string_equal(tl_flow_words(&flow, &flow.trace[0], text),
                            "not finite: NaN or infinite at, or one step before, step 4");
        run_free(&r);
    }
}

/* No gradient passes back from the third step. */
static void cut_off(void **state)
{
    (void)state;
    char text[TL_FLOW_TEXT];
    uint8_t mask[T * B] = {0};
    run r = {.n = net_from(&linear_net), .t = tl_tape_new(NULL), .steps = T};
    set_diagonal(&r.n, 1);
    mask[2 * B] = mask[2 * B + 1] = 1;
    record(&r, LAST_STEP,
           &(tl_unroll_options){.detach = tl_constant_from(r.t, TL_U8, TL_SHAPE(T, B), mask)});
    assert_int_equal(tl_backward_retain(r.t, r.loss), TL_OK);
    tl_gradient_flow flow = flow_of(&r, NULL);
    const tl_flow_trace *trace = &flow.trace[0];
    assert_same(trace->norm[2], 0);
    assert_same(trace->spectral[2], 0);
    assert_same(trace->left, 0);
    assert_near(trace->rate, 1, 1e-14); /* as far as it went */
    assert_int_equal(trace->at, 2);
    assert_int_equal(trace->fitted, 3);
    assert_int_equal(flow.verdict, TL_FLOW_VANISHING);
    assert_string_equal(tl_flow_words(&flow, trace, text),
                        "vanishing: nothing came through from step 3 to step 2");
    run_free(&r);
}

/* ---- the bound ---------------------------------------------------------------------------- */

static void it_bounds(const run *r, const tl_gradient_flow *flow)
{
    for (int k = 0; k < flow->count; k++) {
        const tl_flow_trace *trace = &flow->trace[k];
        double product = 1;
        for (int64_t n = r->steps - 1; n >= 0; n--) {
            if (!(trace->spectral[n] <= trace->bound[n] * (1 + 1e-9)))
                fail_msg("layer %d, direction %d, step %lld: |J| = %.17g > %.17g", trace->layer,
                         trace->direction, (long long)n, trace->spectral[n], trace->bound[n]);
            assert_true(trace->carried[n] <= trace->bound[n] * trace->norm[n + 1] * (1 + 1e-12));
            product *= isnan(trace->reach[n]) ? 1 : trace->bound[n];
            assert_false(trace->reach[n] > log10(product) + 1e-9);
        }
        assert_true(trace->left <= product * (1 + 1e-12));
    }
}

static void the_bound_bounds(void **state)
{
    (void)state;
    static const struct {
        const tl_elman_options *options;
        double gamma; /* sup |f'| */
    } cases[] = {{NULL, 1}, {&is_sigmoid, 0.25}, {&is_relu, 1}, {&is_linear, 1}, {&is_clipped, 1}};
    static const int64_t lengths[B] = {T - 2, T};
    for (int c = 0; c < COUNT_OF(cases); c++)
        for (int ragged = 0; ragged < 2; ragged++) {
            tl_rnn_config config = networks[4];
            config.options = cases[c].options;
            run r = {.n = net_from(&config), .t = tl_tape_new(NULL), .steps = T};
            const int64_t *given = ragged ? lengths : NULL;
            record(&r, EVERY_STEP, &(tl_unroll_options){.lengths = given});
            assert_int_equal(tl_backward_retain(r.t, r.loss), TL_OK);
            tl_gradient_flow flow =
                flow_of(&r, &(tl_flow_options){.network = &r.n.rnn, .lengths = given});
            it_bounds(&r, &flow);
            for (int k = 0; k < flow.count; k++) {
                const tl_flow_trace *trace = &flow.trace[k];
                tl_param *w = tl_rnn_weight(&r.n.rnn, trace->layer, trace->direction, "weight_hh");
                double norm = tl_spectral_norm(r.t, tl_constant(r.t, w->value), NULL);
                for (int64_t n = 0; n < T; n++) {
                    bool over = ragged && (trace->direction ? n < 2 : n >= T - 2);
                    assert_true(trace->bound[n] <= fmax(cases[c].gamma * norm, over) * (1 + 1e-12));
                    assert_true(!over || trace->bound[n] >= 1);
                }
            }
            run_free(&r);
        }
}

/* |W_hh|_2 max(1 - h'^2), and from the other end of time in the backward direction. */
static void the_bound_of_tanh(void **state)
{
    (void)state;
    run r = run_of(&networks[4], T, EVERY_STEP);
    tl_gradient_flow flow = flow_of(&r, &(tl_flow_options){.network = &r.n.rnn});
    for (int k = 0; k < flow.count; k++) {
        const tl_flow_trace *trace = &flow.trace[k];
        double w[H * H];
        tl_param *p = tl_rnn_weight(&r.n.rnn, trace->layer, trace->direction, "weight_hh");
        for (int i = 0; i < H * H; i++)
            w[i] = tl_tensor_get(p->value, i);
        for (int64_t n = 0; n < T; n++) {
            double slope = 0;
            tl_tensor *h = value_of(r.t, tl_step_state(&r.u, trace->layer, trace->direction, 0, n + 1));
            for (int i = 0; i < B * H; i++)
                slope = fmax(slope, 1 - tl_tensor_get(h, i) * tl_tensor_get(h, i));
            assert_near_at(trace->bound[n], plain_spectral(w, H) * slope, 1e-7, n);
            tl_tensor_release(h);
        }
    }
    run_free(&r);
}

/* Noise between the steps: no bound is claimed. */
static void networks_without_bound(void **state)
{
    (void)state;
    for (int c = 0; c < 3; c++) {
        tl_rnn_config config = networks[0];
        config.zoneout[0] = c == 0 ? 0.3 : 0;
        config.recurrent_dropout = c == 1 ? 0.3 : 0;
        config.drop_connect = c == 2 ? 0.3 : 0;
        run r = run_of(&config, T, EVERY_STEP);
        tl_gradient_flow flow = flow_of(&r, &(tl_flow_options){.network = &r.n.rnn});
        assert_true(isnan(flow.trace[0].bound[0]) && flow.trace[0].spectral[0] > 0);
        run_free(&r);
    }
}

/* ---- shares of the steps -------------------------------------------------------------------- */

static void shares_of_the_steps(void **state)
{
    (void)state;
    for (int c = 0; c < COUNT_OF(networks); c++) {
        run r = {.n = net_from(&networks[c]), .t = tl_tape_new(NULL), .steps = T};
        const tl_param *w = tl_rnn_weight(&r.n.rnn, 0, 0, "weight_hh");
        assert_int_equal(tl_untie(r.t, w->value), TL_OK);
        record(&r, EVERY_STEP, NULL);
        assert_int_equal(tl_backward(r.t, r.loss), TL_OK);
        tl_step_share share[T];
        assert_int_equal(tl_step_shares(r.t, w->value, T, share), T);
        tl_tensor *all = value_of(r.t, tl_step_gradients(r.t, w->value));
        int64_t size = all->layout.count / T;
        double sum[4 * H * H] = {0}, total = 0;
        for (int64_t i = 0; i < T * size; i++)
            sum[i % size] += tl_tensor_get(all, i);
        for (int64_t k = 0; k < T; k++) {
            double along = 0, squares = 0;
            for (int64_t i = 0; i < size; i++) {
                double g = tl_tensor_get(all, k * size + i);
                along += g * sum[i];
                squares += g * g;
            }
            double whole = plain_norm(sum, size);
            assert_near_at(share[k].norm, sqrt(squares), 1e-13, k);
            assert_near_at(share[k].cosine, along / sqrt(squares) / whole, 1e-13, k);
            assert_near_at(share[k].share, along / whole / whole, 1e-13, k);
            total += share[k].share;
        }
        assert_near(total, 1, 1e-13);
        tl_tensor_release(all);
        tl_step_shares(r.t, r.n.params->entry[0]->value, 0, NULL);
        assert_error(r.t, TL_ERR_ARGUMENT,
                     "step_gradients: the tensor was not untied (tl_untie) before it was used");
        run_free(&r);
    }
}

/* ---- the regulariser ------------------------------------------------------------------------ */

static const tl_rnn_config small[] = {
    {.cell = &tl_elman_cell, .input = 2, .hidden = 3, .layers = 1},
    {.cell = &tl_lstm_cell, .input = 2, .hidden = 2, .layers = 1},
    {.cell = &tl_elman_cell, .input = 2, .hidden = 2, .layers = 2, .bidirectional = true}};

enum { SHORT = 4 };

typedef struct regularised {
    const net *n;
    tl_flow_held held;
    tl_tensor **given; /* g_n as numbers, in the order of the handles; NULL: the loss's */
} regularised;

static tl_var record_short(tl_tape *t, const net *n, tl_unrolled *u)
{
    tl_var y = tl_unroll_with(t, &n->rnn, input_for(t, &n->rnn.config, SHORT), NULL,
                              &(tl_unroll_options){.handles = u});
    return weigh(t, tl_square(t, y), 6);
}

static tl_var omega_of(tl_tape *t, const tl_var *in, void *context)
{
    const regularised *r = context;
    tl_var gradient[MOST];
    tl_unrolled u;
    (void)in;
    tl_var loss = record_short(t, r->n, &u);
    int count = u.layers * u.directions * u.states * (SHORT + 1);
    for (int i = 0; r->given && i < count; i++)
        gradient[i] = r->given[i] ? tl_constant(t, r->given[i]) : TL_NONE;
    return tl_flow_penalty(
        t, loss, &u,
        &(tl_flow_penalty_options){.held = r->held, .gradients = r->given ? gradient : NULL});
}

static int parameters(const net *n, tl_tensor **out)
{
    for (int k = 0; k < n->params->count; k++)
        out[k] = n->params->entry[k]->value;
    return n->params->count;
}

/* g_n of the network as it is, copied. */
static int take_gradients(const net *n, tl_tensor **given)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled u;
    tl_var loss = record_short(t, n, &u);
    int count = u.layers * u.directions * u.states * (SHORT + 1);
    assert_true(count <= MOST);
    for (int i = 0; i < count; i++) {
        tl_var g;
        given[i] = NULL;
        if (!tl_needs_gradient(t, u.state[i]))
            continue;
        assert_int_equal(tl_grad(t, loss, TL_NONE, 1, &u.state[i], false, &g), TL_OK);
        given[i] = value_of(t, g);
    }
    tl_tape_free(t);
    return count;
}

/* The value and, with nothing held, the derivative; with g_n held, the derivative of the function that
 * has them as numbers, which at this place is the derivative of the other with g_n held. */
static void the_regulariser_against_differences(void **state)
{
    (void)state;
    for (int c = 0; c < COUNT_OF(small); c++) {
        net n = net_from(&small[c]);
        tl_tensor *inputs[MOST], *given[MOST];
        int count = parameters(&n, inputs), states = take_gradients(&n, given);
        regularised cases[] = {{.n = &n, .held = TL_HOLD_NOTHING},
                               {.n = &n, .held = TL_HOLD_GRADIENTS, .given = given}};
        for (int k = 0; k < COUNT_OF(cases); k++) {
            tl_gradcheck_report report;
            const tl_gradcheck_options options = {.tolerance = 1e-6};
            if (tl_gradcheck(omega_of, &cases[k], count, inputs, &options, &report) != TL_OK)
                fail_msg("network %d, held %d: %s", c, k, report.message);
        }
        tl_tape *t = tl_tape_new(NULL);
        tl_var held[2], leaf[MOST_ASKED], grad[2][MOST_ASKED];
        for (int k = 0; k < 2; k++) {
            regularised r = {.n = &n, .held = TL_HOLD_GRADIENTS, .given = k ? given : NULL};
            held[k] = omega_of(t, NULL, &r);
            use_all(t, &n, leaf);
            assert_int_equal(tl_grad(t, held[k], TL_NONE, count, leaf, false, grad[k]), TL_OK);
        }
        assert_near(tl_item(t, held[0]), tl_item(t, held[1]), 1e-14);
        for (int k = 0; k < count; k++)
            assert_vars(t, grad[0][k], grad[1][k], 1e-12);
        tl_tape_free(t);
        for (int i = 0; i < states; i++)
            tl_tensor_release(given[i]);
        net_free(&n);
    }
}

/* The value for an Elman network, J = diag(1 - h'^2) W, by loops; and equation 10: with states and
 * gradients held, dOmega/dW = sum of 2 (r-1) / (|g| |aW|) a' (aW), a = g (1 - h'^2), r = |aW| / |g|. */
static void the_regulariser_by_hand(void **state)
{
    (void)state;
    enum { N = 3 };
    net n = net_from(&small[0]);
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled u;
    tl_var loss = record_short(t, &n, &u), w = tl_use(t, tl_rnn_weight(&n.rnn, 0, 0, "weight_hh"));
    tl_var w_ih = tl_use(t, tl_rnn_weight(&n.rnn, 0, 0, "weight_ih"));
    double omega = 0, expected[N * N] = {0}, a[N], carried[N];
    for (int64_t step = 1; step < SHORT; step++) { /* the first one begins with zeros */
        tl_var next = tl_step_state(&u, 0, 0, 0, step + 1), g;
        assert_int_equal(tl_grad(t, loss, TL_NONE, 1, &next, false, &g), TL_OK);
        for (int b = 0; b < B; b++) {
            double arrived = 0, after = 0;
            for (int i = 0; i < N; i++) {
                double h = item_at(t, next, b * N + i), gi = item_at(t, g, b * N + i);
                a[i] = gi * (1 - h * h);
                arrived += gi * gi;
            }
            for (int j = 0; j < N; j++) {
                carried[j] = 0;
                for (int i = 0; i < N; i++)
                    carried[j] += a[i] * item_at(t, w, i * N + j);
                after += carried[j] * carried[j];
            }
            double r = sqrt(after / arrived);
            omega += (r - 1) * (r - 1) / B;
            for (int i = 0; i < N * N; i++)
                expected[i] += 2 * (r - 1) / sqrt(arrived * after) * a[i / N] * carried[i % N] / B;
        }
    }
    tl_var grad, none;
    tl_var p = tl_flow_penalty(t, loss, &u, &(tl_flow_penalty_options){.held = TL_HOLD_STATES});
    assert_near(tl_item(t, p), omega, 1e-13);
    assert_int_equal(tl_grad(t, p, TL_NONE, 1, &w, false, &grad), TL_OK);
    assert_value(t, grad, expected, 1e-12);
    assert_int_equal(tl_grad(t, p, TL_NONE, 1, &w_ih, false, &none), TL_OK);
    for (int i = 0; i < N * 2; i++)
        assert_same(item_at(t, none, i), 0); /* W_ih is in no Jacobian */
    assert_int_equal(tl_backward(t, tl_add(t, loss, p)), TL_OK);
    tl_tape_free(t);
    net_free(&n);
}

/* The value for any network, from full Jacobians of all states of a cell: norms row by row. */
static void the_regulariser_of_several_states(void **state)
{
    (void)state;
    for (int c = 0; c < COUNT_OF(networks); c++) {
        run r = run_of(&networks[c], T, EVERY_STEP);
        tl_gradient_flow flow = flow_of(&r, &(tl_flow_options){.no_jacobians = true});
        double omega = 0;
        for (int k = 0; k < flow.count; k++) {
            const tl_flow_trace *trace = &flow.trace[k];
            if (trace->state >= 0 && r.u.states > 1)
                continue;
            for (int64_t n = 0; n < T; n++) {
                double a[MOST * MOST], g[MOST], arrived[B] = {0}, after[B] = {0};
                int64_t size = full_jacobian(&r, trace, n, a);
                gradient_of(&r, trace, n + 1, g);
                for (int64_t i = 0; i < size; i++) { /* [states,B,H] */
                    double carried = 0;
                    for (int64_t row = 0; row < size; row++)
                        carried += g[row] * a[row * size + i];
                    arrived[i / H % B] += g[i] * g[i];
                    after[i / H % B] += carried * carried;
                }
                for (int b = 0; b < B; b++)
                    omega += pow(sqrt(after[b] / arrived[b]) - 1, 2) / B;
            }
        }
        assert_near_at(tl_item(r.t, tl_flow_penalty(r.t, r.loss, &r.u, NULL)), omega, 1e-12, c);
        run_free(&r);
    }
}

/* Rows without gradient add nothing, and no NaN; a network whose gradient keeps its norm costs nothing.
 */
static void the_regulariser_at_its_ends(void **state)
{
    (void)state;
    for (int c = 0; c < 3; c++) {
        run r = {.n = net_from(&linear_net), .t = tl_tape_new(NULL), .steps = T};
        set_diagonal(&r.n, c == 2 ? 3 : 1);
        record(&r, LAST_STEP, NULL);
        tl_var loss = c == 0 ? tl_affine(r.t, r.loss, 0, 0) : r.loss;
        tl_var p = tl_flow_penalty(r.t, loss, &r.u, NULL);
        assert_near(tl_item(r.t, p), c == 2 ? T * 4 : 0, 1e-13);
        tl_var w = tl_use(r.t, tl_rnn_weight(&r.n.rnn, 0, 0, "weight_hh")), g;
        assert_int_equal(tl_grad(r.t, p, TL_NONE, 1, &w, false, &g), TL_OK);
        for (int i = 0; i < H * H; i++)
            assert_true(isfinite(item_at(r.t, g, i)));
        run_free(&r);
    }
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled none = {0};
    tl_gradient_flow flow;
    tl_flow_penalty(t, TL_NONE, &none, NULL);
    assert_error(t, TL_ERR_ARGUMENT, "flow_penalty: the handles are those of no unrolling");
    tl_gradient_flow_measure(t, &none, NULL, &flow);
    assert_error(t, TL_ERR_ARGUMENT, "gradient_flow: the handles are those of no unrolling");
    tl_tape_free(t);
}

/* ---- on paper ------------------------------------------------------------------------------- */

typedef struct paper {
    char *text;
    size_t size;
    FILE *stream;
} paper;

static void open_paper(paper *p)
{
    p->text = NULL;
    p->stream = open_memstream(&p->text, &p->size);
    assert_non_null(p->stream);
}

static void check_paper(paper *p, const char *expected)
{
    fclose(p->stream);
    if (strcmp(p->text, expected) != 0)
        fail_msg("it says\n%s\nand should say\n%s", p->text, expected);
    free(p->text);
}

/* h' = h / 2 + .., T = 2, with the gradient (3, 4) for both rows at the end. */
static run tiny(void)
{
    static const tl_rnn_config config = {
        .cell = &tl_elman_cell, .options = &is_linear, .input = 1, .hidden = 2, .layers = 1};
    run r = {.n = net_from(&config), .t = tl_tape_new(NULL), .steps = 2};
    set_weight(&r.n, "weight_hh", REALS(0.5, 0, 0, 0.5));
    tl_var y = tl_unroll_with(r.t, &r.n.rnn, input_for(r.t, &config, 2), NULL,
                              &(tl_unroll_options){.handles = &r.u, .keep_gradients = true});
    tl_var g = constant_f64(r.t, TL_SHAPE(1, 2), REALS(3, 4));
    r.loss = tl_sum(r.t, tl_mul(r.t, tl_slice(r.t, tl_select(r.t, y, 0, 1), 0, 0, 1, 1), g));
    assert_int_equal(tl_backward_retain(r.t, r.loss), TL_OK);
    return r;
}

static void words_and_numbers(void **state)
{
    (void)state;
    run r = tiny();
    tl_gradient_flow flow = flow_of(&r, &(tl_flow_options){.network = &r.n.rnn});
    paper p;
    open_paper(&p);
    assert_int_equal(tl_flow_print(&flow, 0, p.stream), TL_OK);
    check_paper(&p, "layer 0, state h: vanishing: a gradient is multiplied by 0.5 at each step back "
                    "(below 0.9), by 0.5 over all 1\n"
                    "  step   |dL/ds|                               ratio     |J|_F     |J|_2     "
                    "bound  lg reach lg P|J|_2 lg Pbound\n"
                    "     2         5 |########################\n"
                    "     1       2.5 |#################              0.5         1       0.5       "
                    "0.5    -0.301    -0.301    -0.301\n");
    open_paper(&p);
    assert_int_equal(tl_flow_csv(&flow, p.stream), TL_OK);
    check_paper(&p, "layer,direction,state,step,norm,carried,reach,frobenius,spectral,bound\n"
                    "0,0,0,0,,,,,,\n"
                    "0,0,0,1,2.5,2.5,-0.30102999566398114,1,0.5,0.5\n"
                    "0,0,0,2,5,,0,,,\n");
    run_free(&r);
}

static void pictures(void **state)
{
    (void)state;
    run r = tiny();
    tl_gradient_flow flow = flow_of(&r, NULL);
    paper p;
    open_paper(&p);
    assert_int_equal(tl_flow_plot(&flow, p.stream), TL_OK);
    check_paper(&p, "$trace0 << EOD\n0 NaN\n1 2.5\n2 5\nEOD\n"
                    "set terminal svg size 900,540 dynamic background 'white'\n"
                    "set datafile missing 'NaN'\n"
                    "set logscale y\nset format y '10^{%T}'\nset grid\nset key outside below\n"
                    "set xlabel 'step'\nset ylabel '|dL/ds|'\n"
                    "plot $trace0 using 1:2 with linespoints pointsize 0.4 title 'layer 0, state 0: "
                    "vanishing'\n");
    open_paper(&p);
    assert_int_equal(tl_flow_plot_units(&flow, &flow.trace[0], p.stream), TL_OK);
    fflush(p.stream);
    assert_non_null(strstr(p.text, "$units << EOD\n NaN 0.17609125905568124 0.47712125471966244\n"
                                   " NaN 0.3010299956639812 0.6020599913279624\nEOD\n"));
    assert_non_null(strstr(p.text, "set yrange [-0.5:1.5]"));
    fclose(p.stream);
    free(p.text);
    run_free(&r);
}

/* Long tables are thinned out, and end with the first step. */
static void rows_of_a_table(void **state)
{
    (void)state;
    run r = linear_run(1, 100, LAST_STEP);
    tl_gradient_flow flow = flow_of(&r, &(tl_flow_options){.no_jacobians = true});
    paper p;
    open_paper(&p);
    assert_int_equal(tl_flow_print(&flow, 7, p.stream), TL_OK);
    fclose(p.stream);
    int lines = 0;
    for (const char *c = p.text; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 2 + 1 + 6 + 1); /* 100, 85, 70, .., 10, 0 */
    assert_non_null(strstr(p.text, "\n     0 "));
    free(p.text);
    FILE *full = fopen("/dev/full", "w");
    if (full) {
        assert_int_equal(tl_flow_csv(&flow, full), TL_ERR_IO);
        fclose(full);
    }
    run_free(&r);
}

/* Same numbers in f32 to its rounding; Jacobians converge there, too. */
static void single_precision(void **state)
{
    (void)state;
    tl_params *params = tl_params_new(TL_F32, 5);
    tl_rnn rnn;
    tl_rnn_init(&rnn, params, &networks[0]);
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled u;
    tl_gradient_flow flow;
    tl_tensor *x = tl_tensor_empty(TL_F32, TL_SHAPE(T, B, I), NULL);
    tl_random random = tl_random_seed(3);
    tl_random_normal(&random, x, 0, 1);
    tl_var y = tl_unroll_with(t, &rnn, tl_constant(t, x), NULL,
                              &(tl_unroll_options){.handles = &u, .keep_gradients = true});
    assert_int_equal(tl_backward_retain(t, tl_sum(t, y)), TL_OK);
    assert_int_equal(tl_gradient_flow_measure(t, &u, &(tl_flow_options){.network = &rnn}, &flow),
                     TL_OK);
    for (int64_t n = 1; n < T; n++) {
        double a[MOST * MOST];
        tl_tensor *j = value_of(t, tl_state_jacobian(t, &u, 0, 0, 0, n + 1, n));
        for (int i = 0; i < B * H * B * H; i++)
            a[i] = tl_tensor_get(j, i);
        assert_near_at(flow.trace[0].spectral[n], plain_spectral(a, B * H), 1e-4, n);
        assert_near_at(flow.trace[0].frobenius[n], plain_norm(a, B * H * B * H), 1e-6, n);
        tl_tensor_release(j);
    }
    assert_int_equal(flow.trace[0].unconverged, 0);
    tl_tensor_release(x);
    tl_tape_free(t);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

/* However many iterations: what is left on the tape is one walk back for each step. */
static void iterations_leave_nothing(void **state)
{
    (void)state;
    size_t live[2];
    uint32_t recorded[2];
    for (int k = 0; k < 2; k++) {
        run r = run_of(&networks[3], T, EVERY_STEP);
        flow_of(&r, &(tl_flow_options){.iterations = k ? 200 : 2, .tolerance = 1e-300});
        live[k] = tl_tape_measure(r.t).live;
        recorded[k] = tl_tape_measure(r.t).variables;
        run_free(&r);
    }
    assert_int_equal(live[0], live[1]);
    assert_int_equal(recorded[0], recorded[1]);
}

/* With whatever memory there is: the whole of it, or an error that says so. */
static void memory_runs_out(void **state)
{
    (void)state;
    net n = net_from(&networks[3]);
    int done = 0, refused = 0;
    for (size_t limit = 1 << 16; !done; limit += 1 << 16) {
        tl_tape *t = tl_tape_new(&(tl_tape_config){.memory = limit});
        tl_unrolled u;
        tl_gradient_flow flow = {0};
        if (!t)
            continue;
        tl_var y = tl_unroll_with(t, &n.rnn, input_for(t, &networks[3], T), NULL,
                                  &(tl_unroll_options){.handles = &u, .keep_gradients = true});
        tl_var loss = tl_sum(t, y);
        tl_backward_retain(t, loss);
        bool measured = tl_gradient_flow_measure(t, &u, NULL, &flow) == TL_OK;
        for (tl_flow_held held = TL_HOLD_GRADIENTS; held <= TL_HOLD_NOTHING; held++)
            tl_flow_penalty(t, loss, &u, &(tl_flow_penalty_options){.held = held});
        if (!measured) {
            assert_int_equal(flow.count, 0);
            assert_int_equal(tl_tape_status(t), TL_ERR_MEMORY);
        }
        refused += !measured;
        done = tl_tape_status(t) == TL_OK;
        assert_true(done || tl_tape_status(t) == TL_ERR_MEMORY);
        tl_tape_free(t);
    }
    assert_true(refused > 3);
    net_free(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_are_those_of_full_matrices),
        cmocka_unit_test(states_without_gradient),
        cmocka_unit_test(spectral_norm_of_matrices),
        cmocka_unit_test(powers_of_an_eigenvalue),
        cmocka_unit_test(one_verdict_of_many),
        cmocka_unit_test(losses_on_the_way_hide_nothing),
        cmocka_unit_test(orthogonal_stays_healthy),
        cmocka_unit_test(far_beyond_what_squares_can_hold),
        cmocka_unit_test(thresholds_are_yours),
        cmocka_unit_test(without_jacobians),
        cmocka_unit_test(nothing_arrives),
        cmocka_unit_test(not_a_number),
        cmocka_unit_test(cut_off),
        cmocka_unit_test(the_bound_bounds),
        cmocka_unit_test(the_bound_of_tanh),
        cmocka_unit_test(networks_without_bound),
        cmocka_unit_test(shares_of_the_steps),
        cmocka_unit_test(the_regulariser_against_differences),
        cmocka_unit_test(the_regulariser_by_hand),
        cmocka_unit_test(the_regulariser_of_several_states),
        cmocka_unit_test(the_regulariser_at_its_ends),
        cmocka_unit_test(words_and_numbers),
        cmocka_unit_test(pictures),
        cmocka_unit_test(rows_of_a_table),
        cmocka_unit_test(single_precision),
        cmocka_unit_test(iterations_leave_nothing),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
