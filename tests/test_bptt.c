/* Truncation in all its named forms, held against formulas in plain C and against networks that are
 * written out step by step, with the same cuts. */
#include "support.h"

#include "nn/bptt.h"
#include "nn/optim.h"

/* ---- the linear chain, in plain C --------------------------------------------------------
 *
 * x_{t+1} = w x_t, and the loss of step t is c_t x_{t+1}. */

enum { LONGEST = 64 };

typedef struct chain {
    tl_params *params;
    tl_param *w;
    const double *c;
    double rate; /* w -= rate gradient after each pass; 0: none */
    int passes, stop_after;
    double gradient[LONGEST], injected[LONGEST], loss[LONGEST]; /* of each pass */
    double value[LONGEST + 1]; /* the state before each step when it was first computed */
    bool same;                 /* the state must be that again when it is recorded again */
    double dropout;
    tl_tape *t; /* of the run */
} chain;

static chain chain_of(double w, const double *c)
{
    chain m = {.params = tl_params_new(TL_F64, 1), .c = c};
    m.w = tl_params_add(m.params, "", "w", TL_SHAPE(1));
    tl_tensor_fill(m.w->value, w);
    for (int i = 0; i <= LONGEST; i++)
        m.value[i] = NAN;
    return m;
}

static tl_var chain_record(tl_tape *t, void *model, int64_t from, int64_t to, tl_var *state)
{
    chain *m = model;
    tl_var w = tl_use(t, m->w), loss = TL_NONE;
    for (int64_t step = from; step < to; step++) {
        *state = tl_mul(t, w, *state);
        if (m->dropout > 0)
            *state = tl_add(t, *state, tl_dropout(t, tl_full(t, TL_F64, TL_SHAPE(1), 0.1), m->dropout));
        if (m->c[step] != 0) {
            tl_var term = tl_affine(t, *state, m->c[step], 0);
            loss = tl_is_none(loss) ? term : tl_add(t, loss, term);
        }
        if (tl_tape_status(t) != TL_OK)
            return tl_poison(t);
        double value = item_at(t, *state, 0);
        if (isnan(m->value[step + 1]))
            m->value[step + 1] = value;
        else if (m->same)
            assert_near_at(value, m->value[step + 1], 0, step);
    }
    return loss;
}

static bool chain_update(void *model, const tl_bptt_pass *pass)
{
    chain *m = model;
    assert_true(m->passes < LONGEST && pass->index == m->passes);
    double g = tl_tensor_get(m->w->gradient, 0), w = tl_tensor_get(m->w->value, 0);
    m->gradient[m->passes] = g;
    m->loss[m->passes] = pass->loss;
    m->injected[m->passes++] = pass->injected;
    if (m->rate != 0)
        tl_tensor_fill(m->w->value, w - m->rate * g);
    tl_zero_gradients(m->params);
    if (m->dropout > 0) /* somebody else draws a number */
        tl_random_unit(tl_tape_random(m->t));
    return m->passes != m->stop_after;
}

/* Returns the state after the last step. */
static double run_chain(chain *m, tl_bptt b, int64_t steps)
{
    tl_tape *t = tl_tape_new(&(tl_tape_config){.seed = 3});
    tl_var x = tl_full(t, TL_F64, TL_SHAPE(1), 1);
    m->t = t;
    b.model = m;
    b.record = chain_record;
    b.update = b.update ? b.update : chain_update;
    b.params = m->params;
    tl_bptt_run(t, &b, steps, 1, &x);
    assert_ok(t);
    double last = item_at(t, x, 0);
    tl_tape_free(t);
    return last;
}

/* w = 3, x_0 = 1, so x_1 = 3, x_2 = 9, x_3 = 27; c = 5, 7, 11.
 *
 * k1 = 1, k2 = 2, BPTT(2):
 *     pass 0: 5 x_1, window [0,1).  dx_1/dw = x_0 = 1                              5
 *     pass 1: 7 x_2, window [0,2).  dx_2/dw = x_1 + w dx_1/dw = 3 + 3 = 6         42
 *     pass 2: 11 x_3, window [1,3), x_1 a constant: dx_2/dw = x_1 = 3,
 *             dx_3/dw = x_2 + w 3 = 9 + 9 = 18 (27 without a cut)                198
 * and when all losses of the window are injected:
 *     pass 1: 5 + 42                                                              47
 *     pass 2: 7 dx_2/dw + 198 = 21 + 198                                         219
 *
 * k1 = k2 = 2:
 *     pass 0: 5 x_1 + 7 x_2, window [0,2)                                         47
 *     pass 1: 11 x_3, window [2,3), x_2 a constant: dx_3/dw = 9                   99
 *
 * k1 = 2, k2 = 1:
 *     pass 0: 7 x_2, window [1,2): dx_2/dw = x_1 = 3                              21
 *     pass 1: 11 x_3, window [2,3)                                                99 */
static void the_chain_by_hand(void **state)
{
    (void)state;
    const double c[] = {5, 7, 11};
    const struct {
        tl_bptt b;
        int passes;
        double gradient[3], loss[3], injected[3];
    } cases[] = {
        {{.k1 = 1, .k2 = 2}, 3, {5, 42, 198}, {15, 63, 297}, {15, 63, 297}},
        {{.k1 = 1, .k2 = 2, .old = TL_OLD_KEPT}, 3, {5, 42, 198}, {15, 63, 297}, {15, 63, 297}},
        {{.k1 = 1, .k2 = 2, .losses = TL_LOSSES_WINDOW}, 3, {5, 47, 219}, {15, 63, 297}, {15, 78, 360}},
        {{.k1 = 1, .k2 = 2, .losses = TL_LOSSES_WINDOW, .old = TL_OLD_KEPT},
         3,
         {5, 47, 219},
         {15, 63, 297},
         {15, 78, 360}},
        {{.k1 = 2}, 2, {47, 99}, {78, 297}, {78, 297}},
        {{.k1 = 2, .k2 = 2, .old = TL_OLD_KEPT}, 2, {47, 99}, {78, 297}, {78, 297}},
        {{.k1 = 2, .k2 = 1}, 2, {21, 99}, {78, 297}, {63, 297}},
        {{.k1 = 1, .k2 = TL_ALL_STEPS}, 3, {5, 42, 297}, {15, 63, 297}, {15, 63, 297}},
        {{.k1 = 0}, 1, {344}, {375}, {375}},
        {{.k1 = 9, .k2 = 2}, 1, {7 * 3 + 11 * 18}, {375}, {360}},
    };
    for (int i = 0; i < COUNT_OF(cases); i++) {
        chain m = chain_of(3, c);
        assert_same(run_chain(&m, cases[i].b, 3), 27);
        assert_int_equal(m.passes, cases[i].passes);
        for (int p = 0; p < m.passes; p++) {
            assert_near_at(m.gradient[p], cases[i].gradient[p], 1e-14, 10 * i + p);
            assert_near_at(m.loss[p], cases[i].loss[p], 1e-14, 10 * i + p);
            assert_near_at(m.injected[p], cases[i].injected[p], 1e-14, 10 * i + p);
        }
        tl_params_free(m.params);
    }
}

/* k1 = 1, k2 = 2 with updates; w is w_p in pass p.
 *
 * Recomputed: pass 1 records x_1 = w_1, x_2 = w_1^2:          7 (x_1 + w_1 x_0) = 14 w_1
 *             pass 2 begins with that x_1, x_2 = w_2 x_1:     11 (x_2 + w_2 x_1) = 22 w_1 w_2
 * Kept:       pass 1 has x_1 = w_0, x_2 = w_1 w_0:            7 (x_1 + w_1 x_0) = 7 (w_0 + w_1)
 *             pass 2 has x_2 = w_1 w_0:                       11 (x_2 + w_2 x_1) = 11 w_0 (w_1 + w_2)
 */
static void updates_between_passes_by_hand(void **state)
{
    (void)state;
    const double c[] = {5, 7, 11}, rate = 0.01;
    for (int old = TL_OLD_RECOMPUTED; old <= TL_OLD_KEPT; old++) {
        chain m = chain_of(3, c);
        m.rate = rate;
        run_chain(&m, (tl_bptt){.k1 = 1, .k2 = 2, .old = (tl_bptt_old)old}, 3);
        double w0 = 3, g0 = 5, w1 = w0 - rate * g0;
        double g1 = old == TL_OLD_KEPT ? 7 * (w0 + w1) : 14 * w1, w2 = w1 - rate * g1;
        double g2 = old == TL_OLD_KEPT ? 11 * w0 * (w1 + w2) : 22 * w1 * w2;
        assert_near(m.gradient[0], g0, 1e-14);
        assert_near(m.gradient[1], g1, 1e-14);
        assert_near(m.gradient[2], g2, 1e-14);
        tl_params_free(m.params);
    }
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The window of the pass with new steps [from,to), as bptt.h has it in words. */
static int64_t first_reached(int64_t k1, int64_t k2, int64_t n, int64_t from, int64_t to)
{
    if (k2 >= n)
        return 0;
    return k2 < k1 ? larger(from, to - k2) : larger(0, from + k1 - k2);
}

/* The gradient of sum_j c_j x_{j+1} over the injected losses, all in loops: step i has weight v_i,
 * x_{i+1} = v_i x_i, and dx_{j+1}/dw = sum_i x_i prod_{m in (i,j]} v_m. */
static double chain_gradient(const double *c, const double *v, const double *x, int64_t reaches,
                             int64_t injects, int64_t to)
{
    double sum = 0;
    for (int64_t j = injects; j < to; j++)
        for (int64_t i = reaches; i <= j; i++) {
            double term = c[j] * x[i];
            for (int64_t m = i + 1; m <= j; m++)
                term *= v[m];
            sum += term;
        }
    return sum;
}

/* The whole training run in plain C; returns the last weight. */
static double train_in_c(const double *c, double w, double rate, int64_t n, const tl_bptt *b)
{
    double v[LONGEST], x[LONGEST + 1] = {1}; /* of each step as it was last computed */
    int64_t k1 = smaller(b->k1, n), k2 = smaller(b->k2, n);
    for (int64_t from = 0; from < n; from += k1) {
        int64_t to = smaller(from + k1, n), reaches = first_reached(k1, k2, n, from, to);
        int64_t begin = k2 > k1 && b->old == TL_OLD_RECOMPUTED ? reaches : from;
        for (int64_t i = begin; i < to; i++) {
            v[i] = w;
            x[i + 1] = w * x[i];
        }
        int64_t injects = b->losses == TL_LOSSES_WINDOW ? reaches : larger(reaches, from);
        w -= rate * chain_gradient(c, v, x, reaches, injects, to);
    }
    return w;
}

/* All k1, k2, with updates: old activations recomputed or kept, with the tape restarted in between. */
static void updates_between_passes(void **state)
{
    (void)state;
    enum { N = 29 };
    double c[N], rate = 1e-4;
    dice d = dice_of(2);
    for (int i = 0; i < N; i++)
        c[i] = dice_real(&d, -1, 1);
    for (int choice = 0; choice < 4; choice++)
        for (int64_t k1 = 1; k1 <= 32; k1 += 1 + k1 / 6)
            for (int64_t k2 = 1; k2 <= 32; k2 += 1 + k2 / 8) {
                chain m = chain_of(0.97, c);
                m.rate = rate;
                tl_bptt_report report;
                tl_bptt b = {.k1 = k1,
                             .k2 = k2,
                             .losses = choice & 1 ? TL_LOSSES_WINDOW : TL_LOSSES_NEWEST,
                             .old = choice & 2 ? TL_OLD_KEPT : TL_OLD_RECOMPUTED,
                             .report = &report};
                m.same = b.old == TL_OLD_KEPT;
                run_chain(&m, b, N);
                double expected = train_in_c(c, 0.97, rate, N, &b);
                assert_true(fabs(expected - 0.97) > 1e-7 && fabs(expected) < 2);
                assert_near_at(tl_tensor_get(m.w->value, 0), expected, 1e-12,
                               choice * 10000 + k1 * 100 + k2);
                double sum = 0;
                for (int p = 0; p < m.passes; p++)
                    sum += m.loss[p];
                assert_near(report.loss, sum, 1e-14);
                tl_params_free(m.params);
            }
}

/* What is kept and recorded again comes out as it was, masks of dropout too; and what comes after it
 * draws what it would have drawn. */
static void what_is_kept_keeps_its_noise(void **state)
{
    (void)state;
    enum { N = 48 };
    double c[N], last[3];
    for (int i = 0; i < N; i++)
        c[i] = i % 7 - 3;
    const tl_bptt forms[] = {{.k1 = 3}, {.k1 = 3, .k2 = 7, .old = TL_OLD_KEPT}, {.k1 = 3, .k2 = 7}};
    for (int k = 0; k < 3; k++) {
        chain m = chain_of(1.02, c);
        m.dropout = 0.5;
        m.same = k < 2;
        last[k] = run_chain(&m, forms[k], N);
        tl_params_free(m.params);
    }
    assert_true(fabs(last[0] - pow(1.02, N)) > 0.1);
    assert_same(last[1], last[0]);
    assert_true(last[2] != last[0]); /* noise is drawn anew */
}

/* ---- networks written out step by step --------------------------------------------------- */

enum { B = 2, I = 3, H = 4 };

typedef struct net {
    bool lstm;
    tl_params *params;
    tl_rnn rnn;
    tl_tensor *x, *reset; /* [n,B,I]; u8 [n,B], or NULL */
    int *visits;          /* by step, counted if not NULL */
    bool no_loss_at_odd_steps;
} net;

static net net_of(bool lstm, int64_t n)
{
    net m = {.lstm = lstm, .params = tl_params_new(TL_F64, 4)};
    dice d = dice_of(5);
    tl_rnn_init(
        &m.rnn, m.params,
        &(tl_rnn_config){
            .cell = lstm ? &tl_lstm_cell : &tl_elman_cell, .input = I, .hidden = H, .layers = 1});
    m.x = random_tensor(&d, TL_F64, TL_SHAPE(n, B, I), -1, 1);
    return m;
}

static void net_free(net *m)
{
    tl_rnn_free(&m->rnn);
    tl_params_free(m->params);
    tl_tensor_release(m->x);
    tl_tensor_release(m->reset);
}

static tl_var count_visit(tl_tape *t, tl_var v, tl_var gradient, void *context)
{
    (void)t, (void)v, (void)gradient;
    ++*(int *)context;
    return TL_NONE;
}

static tl_var net_record(tl_tape *t, void *model, int64_t from, int64_t to, tl_var *state)
{
    net *m = model;
    tl_unrolled u;
    tl_unroll_options o = {.reset = TL_NONE, .detach = TL_NONE, .handles = m->visits ? &u : NULL};
    if (m->reset)
        o.reset = tl_slice(t, tl_constant(t, m->reset), 0, from, to, 1);
    tl_var x = tl_slice(t, tl_constant(t, m->x), 0, from, to, 1);
    tl_var y = tl_unroll_with(t, &m->rnn, x, state, &o);
    for (int64_t step = from; m->visits && step < to && tl_tape_status(t) == TL_OK; step++)
        tl_hook_gradient(t, tl_step_state(&u, 0, 0, 0, step - from + 1), count_visit, &m->visits[step]);
    return tl_sum(t, tl_square(t, y));
}

static tl_var gate_of(tl_tape *t, tl_var gates, int k)
{
    return tl_slice(t, gates, 1, (int64_t)k * H, (int64_t)(k + 1) * H, 1);
}

/* h' = tanh(W x + b + U h + d); LSTM: i, f, g, o of the same, c' = f c + i g, h' = o tanh c' */
static void step_by_hand(tl_tape *t, const net *m, tl_var x, tl_var *h, tl_var *c)
{
    tl_var a = tl_linear_op(t, x, tl_use(t, tl_rnn_weight(&m->rnn, 0, 0, "weight_ih")),
                            tl_use(t, tl_rnn_weight(&m->rnn, 0, 0, "bias_ih")));
    a = tl_add(t, a,
               tl_linear_op(t, *h, tl_use(t, tl_rnn_weight(&m->rnn, 0, 0, "weight_hh")),
                            tl_use(t, tl_rnn_weight(&m->rnn, 0, 0, "bias_hh"))));
    if (!m->lstm) {
        *h = tl_tanh(t, a);
        return;
    }
    tl_var i = tl_sigmoid(t, gate_of(t, a, 0)), f = tl_sigmoid(t, gate_of(t, a, 1));
    tl_var g = tl_tanh(t, gate_of(t, a, 2)), o = tl_sigmoid(t, gate_of(t, a, 3));
    *c = tl_add(t, tl_mul(t, f, *c), tl_mul(t, i, g));
    *h = tl_mul(t, o, tl_tanh(t, *c));
}

/* Rows [row, row + rows), steps [begin,to), cut before step `reaches`: adds the gradient of the losses
 * of steps [injects,to) and returns their sum. */
static double pass_by_hand(const net *m, int64_t row, int64_t rows, int64_t begin, int64_t reaches,
                           int64_t injects, int64_t to)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_var h = tl_full(t, TL_F64, TL_SHAPE(rows, H), 0), c = h, loss = tl_full(t, TL_F64, 0, NULL, 0);
    for (int64_t step = begin; step < to; step++) {
        if (step == reaches)
            h = tl_detach(t, h), c = tl_detach(t, c);
        tl_var x = tl_select(t, tl_constant(t, m->x), 0, step);
        step_by_hand(t, m, tl_slice(t, x, 0, row, row + rows, 1), &h, &c);
        if (step >= injects)
            loss = tl_add(t, loss, tl_sum(t, tl_square(t, h)));
    }
    assert_int_equal(tl_backward(t, loss), TL_OK);
    double value = tl_item(t, loss);
    tl_tape_free(t);
    return value;
}

typedef struct gradients {
    tl_tensor *of[8];
    int count;
} gradients;

/* Takes the gradients away: they are zero afterwards. */
static gradients take_gradients(tl_params *params)
{
    gradients g = {.count = params->count};
    for (int i = 0; i < params->count; i++)
        g.of[i] = tl_tensor_copy(params->entry[i]->gradient, TL_F64, NULL);
    tl_zero_gradients(params);
    return g;
}

static void compare_gradients(gradients actual, gradients expected, double tolerance)
{
    for (int i = 0; i < expected.count; i++) {
        assert_tensors(actual.of[i], expected.of[i], tolerance);
        tl_tensor_release(actual.of[i]);
        tl_tensor_release(expected.of[i]);
    }
}

static gradients run_net(net *m, tl_bptt b, int64_t n)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_var state[2] = {TL_NONE, TL_NONE};
    b.model = m;
    b.record = net_record;
    tl_bptt_run(t, &b, n, tl_rnn_states(&m->rnn), state);
    assert_ok(t);
    for (int k = 0; k < tl_rnn_states(&m->rnn); k++)
        assert_false(tl_needs_gradient(t, state[k]));
    tl_tape_free(t);
    return take_gradients(m->params);
}

static void truncated_equals_cut_by_hand(void **state)
{
    (void)state;
    enum { N = 11 };
    for (int choice = 0; choice < 8; choice++) {
        net m = net_of(choice & 1, N);
        for (int64_t k1 = 1; k1 <= 13; k1 += k1 < 5 ? 1 : 4)
            for (int64_t k2 = 1; k2 <= 13; k2 += k2 < 8 ? 1 : 2) {
                tl_bptt_report report;
                tl_bptt b = {.k1 = k1,
                             .k2 = k2,
                             .losses = choice & 2 ? TL_LOSSES_WINDOW : TL_LOSSES_NEWEST,
                             .old = choice & 4 ? TL_OLD_KEPT : TL_OLD_RECOMPUTED,
                             .report = &report};
                gradients actual = run_net(&m, b, N);
                int64_t passes = 0, stretch = smaller(k1, N);
                double loss = 0;
                for (int64_t from = 0; from < N; from += stretch, passes++) {
                    int64_t to = smaller(from + stretch, N);
                    int64_t reaches = first_reached(stretch, k2, N, from, to);
                    bool all = b.losses == TL_LOSSES_WINDOW;
                    loss +=
                        pass_by_hand(&m, 0, B, 0, reaches, all ? reaches : larger(from, reaches), to);
                }
                compare_gradients(actual, take_gradients(m.params), 1e-13);
                assert_int_equal(report.passes, passes);
                assert_int_equal(report.end, TL_BPTT_DONE);
                if (k1 == k2)
                    assert_near(report.loss, loss, 1e-13);
            }
        net_free(&m);
    }
}

/* With an optimiser between the passes and old activations kept: every step by hand with the weights of
 * its own time, all versions of which are alive. */
enum { TRAINED = 25, STRETCH = 3, WINDOW = 8, VERSIONS = (TRAINED + STRETCH - 1) / STRETCH };

typedef struct training {
    net net; /* first, as net_record takes it */
    tl_optimizer *optimizer;
} training;

static bool train_on(void *model, const tl_bptt_pass *pass)
{
    training *m = model;
    (void)pass;
    tl_optimizer_step(m->optimizer);
    tl_zero_gradients(m->net.params);
    return true;
}

static training training_of(bool lstm)
{
    training m = {.net = net_of(lstm, TRAINED)};
    m.optimizer = tl_optimizer_new(
        m.net.params, &(tl_optimizer_config){.kind = TL_SGD, .rate = 0.01, .momentum = 0.5});
    assert_non_null(m.optimizer);
    return m;
}

/* The pass with new steps [from,to); step s uses the weights of version s / STRETCH. */
static void kept_by_hand(const net *m, tl_tensor *versions[VERSIONS][8], int64_t reaches, int64_t from,
                         int64_t to)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_var h = tl_full(t, TL_F64, TL_SHAPE(B, H), 0), c = h, loss = tl_full(t, TL_F64, 0, NULL, 0);
    for (int64_t step = 0; step < to; step++) {
        for (int k = 0; k < m->params->count; k++)
            m->params->entry[k]->value = versions[step / STRETCH][k];
        if (step == reaches)
            h = tl_detach(t, h), c = tl_detach(t, c);
        step_by_hand(t, m, tl_select(t, tl_constant(t, m->x), 0, step), &h, &c);
        if (step >= from)
            loss = tl_add(t, loss, tl_sum(t, tl_square(t, h)));
    }
    assert_int_equal(tl_backward(t, loss), TL_OK);
    tl_tape_free(t);
}

static void kept_activations_belong_to_their_weights(void **state)
{
    (void)state;
    for (int lstm = 0; lstm < 2; lstm++) {
        training driven = training_of(lstm), by_hand = training_of(lstm);
        tl_params *params = by_hand.net.params;
        tl_tape *t = tl_tape_new(NULL);
        tl_var s[2] = {TL_NONE, TL_NONE};
        tl_bptt b = {.k1 = STRETCH, .k2 = WINDOW, .old = TL_OLD_KEPT, .params = driven.net.params};
        b.model = &driven, b.record = net_record, b.update = train_on;
        tl_bptt_run(t, &b, TRAINED, lstm ? 2 : 1, s);
        assert_ok(t);
        tl_tape_free(t);

        tl_tensor *versions[VERSIONS][8];
        for (int p = 0; p < VERSIONS; p++) {
            int64_t from = p * STRETCH, to = smaller(from + STRETCH, TRAINED);
            for (int k = 0; k < params->count; k++) /* the newest ones, taken over */
                versions[p][k] = params->entry[k]->value;
            kept_by_hand(&by_hand.net, versions, first_reached(STRETCH, WINDOW, TRAINED, from, to),
                         from, to);
            for (int k = 0; k < params->count; k++)
                params->entry[k]->value = tl_tensor_copy(versions[p][k], TL_F64, NULL);
            train_on(&by_hand, NULL);
            for (int k = 0; k < params->count && p + 1 < VERSIONS; k++)
                assert_true(tl_tensor_get(params->entry[k]->value, 0) !=
                            tl_tensor_get(versions[p][k], 0));
            if (p + 1 == VERSIONS)
                for (int k = 0; k < params->count; k++)
                    assert_tensors(driven.net.params->entry[k]->value, params->entry[k]->value, 1e-13);
        }
        for (int p = 0; p < VERSIONS; p++)
            for (int k = 0; k < params->count; k++)
                tl_tensor_release(versions[p][k]);
        net_free(&driven.net);
        net_free(&by_hand.net);
        tl_optimizer_free(driven.optimizer);
        tl_optimizer_free(by_hand.optimizer);
    }
}

/* BPTT(h;h') with h >= n is full BPTT, whatever h': each loss goes back to the beginning, once. */
static void without_a_cut_it_is_full_bptt(void **state)
{
    (void)state;
    enum { N = 17 };
    for (int lstm = 0; lstm < 2; lstm++) {
        net m = net_of(lstm, N);
        for (int64_t k1 = 1; k1 <= N + 2; k1++)
            for (int old = TL_OLD_RECOMPUTED; old <= TL_OLD_KEPT; old++) {
                const int64_t k2[] = {N, N + 3, TL_ALL_STEPS};
                tl_bptt b = {.k1 = k1, .k2 = k2[k1 % 3], .old = (tl_bptt_old)old};
                gradients actual = run_net(&m, b, N);
                pass_by_hand(&m, 0, B, 0, 0, 0, N);
                compare_gradients(actual, take_gradients(m.params), 1e-12);
            }
        net_free(&m);
    }
}

/* How often a gradient comes to the state after each step: k2/k1 times, but for the last k2-k1 steps,
 * after which there are no passes any more. */
static void steps_are_visited_as_often_as_the_name_says(void **state)
{
    (void)state;
    enum { N = 64 };
    const struct {
        int64_t k1, k2, visits;
    } cases[] = {{8, 16, 2}, {1, 9, 9}, {8, 8, 1}, {5, 15, 3}, {64, 64, 1}};
    net m = net_of(false, N);
    for (int i = 0; i < 2 * COUNT_OF(cases); i++) {
        int visits[N] = {0};
        int64_t k1 = cases[i / 2].k1, k2 = cases[i / 2].k2;
        m.visits = visits;
        tl_bptt b = {.k1 = k1, .k2 = k2, .old = i % 2 ? TL_OLD_KEPT : TL_OLD_RECOMPUTED};
        gradients g = run_net(&m, b, N);
        for (int64_t step = 0; step < N; step++) {
            int64_t later = (N + k1 - 1) / k1 - step / k1; /* passes that are still to come */
            assert_int_equal(visits[step], smaller(later, cases[i / 2].visits));
        }
        assert_int_equal(visits[0], cases[i / 2].visits);
        for (int k = 0; k < g.count; k++)
            tl_tensor_release(g.of[k]);
    }
    net_free(&m);
}

/* Rows whose sequences end at different times and are followed by others: each sequence has the
 * gradient it would have by itself, under the same cuts. */
static void streams_of_different_ends(void **state)
{
    (void)state;
    enum { N = 13 };
    const int64_t begins[B][4] = {{0, 4, 5, N}, {0, 9, N, N}};
    for (int choice = 0; choice < 4; choice++) {
        net m = net_of(choice & 1, N);
        m.reset = tl_tensor_zeros(TL_U8, TL_SHAPE(N, B), NULL);
        for (int row = 0; row < B; row++)
            for (int k = 0; k < 3 && begins[row][k] < N; k++)
                tl_tensor_set(m.reset, begins[row][k] * B + row, 1);
        for (int64_t k1 = 1; k1 <= 5; k1 += 2)
            for (int64_t k2 = 1; k2 <= 7; k2++) {
                tl_bptt b = {.k1 = k1, .k2 = k2, .old = choice & 2 ? TL_OLD_KEPT : TL_OLD_RECOMPUTED};
                gradients actual = run_net(&m, b, N);
                for (int64_t from = 0; from < N; from += k1)
                    for (int row = 0; row < B; row++)
                        for (int k = 0; k < 3 && begins[row][k] < N; k++) {
                            int64_t to = smaller(from + k1, N);
                            int64_t reaches = first_reached(k1, k2, N, from, to);
                            int64_t begin = begins[row][k], end = smaller(begins[row][k + 1], to);
                            int64_t injects = larger(larger(from, reaches), begin);
                            if (injects < end)
                                pass_by_hand(&m, row, 1, begin, reaches, injects, end);
                        }
                compare_gradients(actual, take_gradients(m.params), 1e-13);
            }
        net_free(&m);
    }
}

/* ---- losses here and there, initial states ------------------------------------------------ */

/* A loss at the last step only: passes without one walk nothing back, and update nothing. */
static void steps_without_a_loss(void **state)
{
    (void)state;
    const double c[] = {0, 0, 0, 0, 0, 0, 2};
    for (int old = TL_OLD_RECOMPUTED; old <= TL_OLD_KEPT; old++) {
        chain m = chain_of(1.5, c);
        tl_bptt_report report;
        tl_tape *t = tl_tape_new(NULL);
        tl_var x = tl_full(t, TL_F64, TL_SHAPE(1), 1);
        tl_bptt b = {.k1 = 2, .k2 = 3, .model = &m, .record = chain_record, .old = (tl_bptt_old)old};
        b.report = &report;
        assert_int_equal(tl_bptt_run(t, &b, 7, 1, &x), TL_OK);
        assert_int_equal(report.passes, 4);
        /* 2 x_7, window [5,7): x_5 a constant, dx_7/dw = 2 w x_5 */
        assert_near(tl_tensor_get(m.w->gradient, 0), 4 * pow(1.5, 6), 1e-14);
        assert_near(report.loss, 2 * pow(1.5, 7), 1e-14);
        tl_tape_free(t);
        tl_params_free(m.params);
    }
}

/* Learned initial states have gradients from all windows that begin at step 0. */
static void learned_initial_states(void **state)
{
    (void)state;
    enum { N = 7 };
    for (int old = TL_OLD_RECOMPUTED; old <= TL_OLD_KEPT; old++) {
        tl_tensor *gradient[2];
        for (int full = 0; full < 2; full++) {
            dice d = dice_of(6);
            net m = {.params = tl_params_new(TL_F64, 4)};
            tl_rnn_init(&m.rnn, m.params,
                        &(tl_rnn_config){.cell = &tl_lstm_cell,
                                         .input = I,
                                         .hidden = H,
                                         .layers = 1,
                                         .learned_state = true});
            m.x = random_tensor(&d, TL_F64, TL_SHAPE(N, B, I), -1, 1);
            tl_tape *t = tl_tape_new(NULL);
            tl_var s[2] = {TL_NONE, TL_NONE};
            tl_bptt b = {.k1 = 2, .k2 = 4, .model = &m, .record = net_record, .old = (tl_bptt_old)old};
            /* windows [0,2), [0,4), [2,6), [4,7): the first 4 losses reach the initial state */
            if (full)
                b.k1 = b.k2 = 4;
            tl_bptt_run(t, &b, full ? 4 : N, 2, s);
            assert_ok(t);
            gradient[full] = tl_tensor_copy(m.rnn.initial[1]->gradient, TL_F64, NULL);
            tl_tape_free(t);
            net_free(&m);
        }
        assert_true(fabs(tl_tensor_get(gradient[1], 0)) > 1e-6);
        assert_tensors(gradient[0], gradient[1], 1e-14);
        tl_tensor_release(gradient[0]);
        tl_tensor_release(gradient[1]);
    }
}

/* ---- memory ------------------------------------------------------------------------------- */

#if defined(NDEBUG) && !defined(TEST_SANITIZED)
enum { MANY = 1500000 };
#else
enum { MANY = 60000 };
#endif

typedef struct endless {
    tl_params *params;
    tl_param *w;
    tl_tape *t;
    tl_tape_usage early, late;
    int64_t recorded;
} endless;

/* h' = tanh(w h + sin step), loss h'^2 */
static tl_var endless_record(tl_tape *t, void *model, int64_t from, int64_t to, tl_var *state)
{
    endless *m = model;
    tl_var w = tl_use(t, m->w), loss = TL_NONE;
    for (int64_t step = from; step < to; step++, m->recorded++) {
        *state = tl_tanh(t, tl_affine(t, tl_mul(t, w, *state), 1, sin((double)step)));
        tl_var term = tl_square(t, *state);
        loss = tl_is_none(loss) ? term : tl_add(t, loss, term);
    }
    return loss;
}

static bool endless_update(void *model, const tl_bptt_pass *pass)
{
    endless *m = model;
    double w = tl_tensor_get(m->w->value, 0), g = tl_tensor_get(m->w->gradient, 0);
    tl_tensor_fill(m->w->value, w - 1e-4 * g);
    tl_zero_gradients(m->params);
    if (pass->to <= 1000)
        m->early = tl_tape_measure(m->t);
    m->late = tl_tape_measure(m->t);
    return isfinite(pass->loss);
}

static void a_million_and_a_half_steps_in_the_memory_of_a_thousand(void **state)
{
    (void)state;
    const tl_bptt forms[] = {
        {.k1 = 10}, {.k1 = 5, .k2 = 10}, {.k1 = 5, .k2 = 10, .old = TL_OLD_KEPT}, {.k1 = 10, .k2 = 3}};
    for (int i = 0; i < COUNT_OF(forms); i++) {
        endless m = {.params = tl_params_new(TL_F64, 1), .t = tl_tape_new(NULL)};
        m.w = tl_params_add(m.params, "", "w", TL_SHAPE(1));
        tl_tensor_fill(m.w->value, 0.5);
        tl_bptt_report report;
        tl_bptt b = forms[i];
        b.model = &m, b.record = endless_record, b.update = endless_update, b.report = &report;
        b.params = m.params;
        tl_var h = tl_full(m.t, TL_F64, TL_SHAPE(1), 0);
        tl_bptt_run(m.t, &b, MANY, 1, &h);
        assert_ok(m.t);
        assert_int_equal(report.steps, MANY);
        assert_string_equal(report.why, b.k1 == 5 && MANY == 1500000
                                            ? "all 1500000 steps are done, in 300000 passes"
                                            : report.why);
        printf("TBPTT(%d,%d)%s: %d steps, %.2f recorded for each; after 1000 steps %zu bytes held, "
               "after all %zu\n",
               (int)b.k1, (int)(b.k2 ? b.k2 : b.k1), b.old ? ", kept" : "", MANY,
               (double)m.recorded / MANY, m.early.held, m.late.held);
        assert_int_equal(m.late.held, m.early.held);
        assert_int_equal(m.late.system_calls, m.early.system_calls);
        assert_true(m.late.peak <= m.early.peak);
        tl_tape_free(m.t);
        tl_params_free(m.params);
    }
}

/* ---- ends and errors ---------------------------------------------------------------------- */

static void it_says_why_it_ended(void **state)
{
    (void)state;
    const double c[] = {1, 1, 1, 1, 1, 1, 1};
    for (int old = TL_OLD_RECOMPUTED; old <= TL_OLD_KEPT; old++) {
        chain m = chain_of(2, c);
        tl_bptt_report report;
        tl_bptt b = {.k1 = 2, .k2 = 3, .old = (tl_bptt_old)old, .report = &report};
        assert_same(run_chain(&m, b, 7), 128);
        assert_int_equal(report.end, TL_BPTT_DONE);
        assert_string_equal(report.why, "all 7 steps are done, in 4 passes");
        assert_int_equal(report.steps, 7);
        assert_same(report.loss, 2 + 4 + 8 + 16 + 32 + 64 + 128);
        m.passes = 0;
        m.stop_after = 2;
        assert_same(run_chain(&m, b, 7), 16); /* the state after the last step that was done */
        assert_int_equal(report.end, TL_BPTT_STOPPED);
        assert_string_equal(report.why, "update returned false after step 4 of 7, in pass 1");
        assert_int_equal(report.steps, 4);
        m.passes = 0;
        assert_same(run_chain(&m, b, 0), 1);
        assert_string_equal(report.why, "all 0 steps are done, in 0 passes");
        tl_params_free(m.params);
    }
}

enum { TOO_WIDE, FROM_BEFORE, WEIGHTS_CHANGED };

/* A model that goes wrong in one stretch. */
typedef struct wrong {
    chain chain;
    int64_t at; /* the stretch that ends here */
    int how;
    tl_var remembered;
    int64_t remembers; /* the state after this step, the first time */
} wrong;

static tl_var wrong_record(tl_tape *t, void *model, int64_t from, int64_t to, tl_var *state)
{
    wrong *m = model;
    if (to == m->at && m->how == WEIGHTS_CHANGED)
        tl_tensor_fill(m->chain.w->value, 1.25);
    tl_var loss = chain_record(t, &m->chain, from, to, state);
    if (to == m->remembers && tl_is_none(m->remembered))
        m->remembered = tl_affine(t, *state, 1, 0);
    if (to == m->at && m->how == TOO_WIDE)
        return tl_add(t, loss, tl_full(t, TL_F64, TL_SHAPE(2), 0));
    return to == m->at && m->how == FROM_BEFORE ? tl_add(t, loss, m->remembered) : loss;
}

static void errors_name_the_cut_and_the_way_out(void **state)
{
    (void)state;
    const double c[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const struct {
        tl_bptt b;
        int how;
        int64_t at, remembers;
        tl_status status;
        const char *message, *why;
    } cases[] = {
        {{.k1 = 2},
         TOO_WIDE,
         4,
         0,
         TL_ERR_SHAPE,
         "backward: starts from one element, not [2]; take a sum or a mean, or tl_grad",
         "an error in pass 1, steps [2,4): backward: starts from one element, not [2]; take a sum or a "
         "mean, or tl_grad"},
        {{.k1 = 2},
         FROM_BEFORE,
         6,
         2,
         TL_ERR_STALE,
         "add: variable is from before the tape was reset; bptt: steps [4,6) were being recorded, and "
         "there is a cut before step 4: of earlier steps only the states are left. A loss that needs "
         "more of them must carry it as a state, compute it anew within the window, or have a larger "
         "k2",
         NULL},
        {{.k1 = 2, .k2 = 4},
         FROM_BEFORE,
         8,
         2,
         TL_ERR_STALE,
         "add: variable is from before the tape was reset; bptt: steps [6,8) were being recorded, and "
         "there is a cut before step 4: of earlier steps only the states are left. A loss that needs "
         "more of them must carry it as a state, compute it anew within the window, or have a larger "
         "k2",
         NULL},
        {{.k1 = 4, .k2 = 2},
         FROM_BEFORE,
         4,
         2,
         TL_ERR_STALE,
         "add: variable of a no-record region that has ended; bptt: steps [2,4) were being recorded, "
         "and "
         "there is a cut before step 2: of earlier steps only the states are left. A loss that needs "
         "more of them must carry it as a state, compute it anew within the window, or have a larger "
         "k2",
         NULL},
        {{.k1 = 2, .k2 = 4, .old = TL_OLD_KEPT},
         FROM_BEFORE,
         8,
         4,
         TL_ERR_STALE,
         "bptt: a loss of steps [6,8) reaches across the cut before step 4, by a variable of an "
         "earlier "
         "stretch: only the states that `record` is handed connect stretches. Carry it as a state, "
         "compute it anew within the window, or take a larger k2",
         NULL},
        {{.k1 = 2, .k2 = 6, .old = TL_OLD_KEPT},
         FROM_BEFORE,
         12,
         4,
         TL_ERR_STALE,
         "bptt: a loss of steps [10,12) reaches across the cut before step 6, by a variable of an "
         "earlier stretch: only the states that `record` is handed connect stretches. Carry it as a "
         "state, compute it anew within the window, or take a larger k2",
         NULL},
        {{.k1 = 2, .k2 = 4, .old = TL_OLD_KEPT},
         WEIGHTS_CHANGED,
         4,
         0,
         TL_ERR_CHANGED,
         "leaf: the numbers of w [1] were changed since it was recorded; reset the tape before "
         "it is used again; bptt: old activations are kept, with the weights that made them: change "
         "weights in `update` only, and name them all in `params`; or take TL_OLD_RECOMPUTED",
         NULL},
    };
    for (int i = 0; i < COUNT_OF(cases); i++) {
        wrong m = {.chain = chain_of(0.5, c), .at = cases[i].at, .remembers = cases[i].remembers};
        m.how = cases[i].how;
        tl_bptt_report report;
        tl_tape *t = tl_tape_new(NULL);
        tl_var x = tl_full(t, TL_F64, TL_SHAPE(1), 1);
        tl_bptt b = cases[i].b;
        b.model = &m, b.record = wrong_record, b.report = &report;
        assert_int_equal(tl_bptt_run(t, &b, 12, 1, &x), cases[i].status);
        assert_int_equal(report.end, TL_BPTT_FAILED);
        if (cases[i].why)
            assert_string_equal(report.why, cases[i].why);
        assert_error(t, cases[i].status, cases[i].message);
        tl_tape_free(t);
        tl_params_free(m.chain.params);
    }
}

/* A variable of an earlier stretch that is within the window may be used. */
static void what_is_within_the_window_may_be_used(void **state)
{
    (void)state;
    const double c[] = {1, 1, 1, 1, 1, 1, 1, 1};
    wrong m = {.chain = chain_of(0.5, c), .at = 8, .remembers = 6, .how = FROM_BEFORE};
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = tl_full(t, TL_F64, TL_SHAPE(1), 1);
    tl_bptt b = {.k1 = 2, .k2 = 4, .old = TL_OLD_KEPT, .model = &m, .record = wrong_record};
    tl_bptt_run(t, &b, 8, 1, &x);
    assert_ok(t);
    tl_tape_free(t);
    tl_params_free(m.chain.params);
}

static void what_cannot_be_run_is_refused(void **state)
{
    (void)state;
    const double c[] = {1};
    chain m = chain_of(1, c);
    const struct {
        tl_bptt b;
        int64_t steps;
        const char *message;
    } cases[] = {
        {{.record = NULL}, 4, "bptt: record is NULL"},
        {{.k1 = -1, .record = chain_record},
         4,
         "bptt: k1, the steps between updates, is negative; 0 means all of them"},
        {{.k2 = -1, .record = chain_record},
         4,
         "bptt: k2, the steps that gradients go back, is negative; 0 means k1, TL_ALL_STEPS all of "
         "them"},
        {{.record = chain_record}, -1, "bptt: the number of steps is negative"},
        {{.record = chain_record, .update = chain_update, .old = TL_OLD_KEPT},
         4,
         "bptt: old activations that are kept belong to the weights that made them: `params` must say "
         "what `update` changes, so that the tape can keep copies; or take TL_OLD_RECOMPUTED"},
    };
    tl_tape *t = tl_tape_new(NULL);
    for (int i = 0; i < COUNT_OF(cases); i++) {
        tl_bptt_report report;
        tl_bptt b = cases[i].b;
        b.model = &m, b.report = &report;
        assert_int_equal(tl_bptt_run(t, &b, cases[i].steps, 0, NULL), TL_ERR_ARGUMENT);
        assert_int_equal(report.end, TL_BPTT_FAILED);
        assert_string_equal(report.why, cases[i].message);
        assert_error(t, TL_ERR_ARGUMENT, cases[i].message);
    }
    tl_tape_free(t);
    tl_params_free(m.params);
}

/* Too little memory for the tape, wherever that shows. */
static void little_memory_is_an_error(void **state)
{
    (void)state;
    enum { N = 12 };
    double c[N];
    for (int i = 0; i < N; i++)
        c[i] = 1;
    for (int old = TL_OLD_RECOMPUTED; old <= TL_OLD_KEPT; old++) {
        int failed = 0;
        for (size_t memory = 4096; memory < 400000; memory += 16384) {
            chain m = chain_of(1, c);
            tl_tape *t = tl_tape_new(&(tl_tape_config){.memory = memory});
            tl_var x = TL_NONE;
            if (t) {
                x = tl_full(t, TL_F64, TL_SHAPE(1), 1);
                tl_bptt b = {.k1 = 2, .k2 = 5, .model = &m, .record = endless_record};
                endless e = {.params = m.params, .w = m.w, .t = t};
                b.model = &e, b.update = endless_update, b.params = m.params;
                b.old = (tl_bptt_old)old;
                tl_status status = tl_bptt_run(t, &b, N, 1, &x);
                assert_true(status == TL_OK || status == TL_ERR_MEMORY);
                failed += status != TL_OK;
            }
            tl_tape_free(t);
            tl_params_free(m.params);
        }
        assert_true(failed > 0);
    }
}

/* ---- the picture --------------------------------------------------------------------------- */

static void check_picture(tl_bptt b, int64_t steps, tl_status status, const char *expected)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    assert_non_null(f);
    assert_int_equal(tl_bptt_explain(&b, steps, f), status);
    fclose(f);
    if (strcmp(text, expected) != 0)
        fail_msg("the picture is\n%s\nbut should be\n%s", text, expected);
    free(text);
}

static void pictures(void **state)
{
    (void)state;
    check_picture(
        (tl_bptt){.k1 = 2, .k2 = 4}, 7, TL_OK,
        "TBPTT(2,4), BPTT(4;2): of 7 steps, 2 from update to update, gradients back through 4\n"
        "each pass injects the newest losses only\n"
        "older steps are recorded again, with the weights of the day\n"
        "\n"
        "  step       0123456\n"
        "  pass     0 oo\n"
        "  pass     1 --oo\n"
        "  pass     2   --oo\n"
        "  pass     3     --o\n"
        "  visits     2222221\n"
        "  o loss injected, and walked back through; - walked back through; . forward only\n"
        "\n"
        "  the loss of a step reaches these, so many times (+: more than 9):\n"
        "  loss     0 1\n"
        "  loss     1 11\n"
        "  loss     2 111\n"
        "  loss     3 1111\n"
        "  loss     4 ..111\n"
        "  loss     5 ..1111\n"
        "  loss     6 ....111\n");
    check_picture((tl_bptt){.k1 = 3, .k2 = 2}, 7, TL_OK,
                  "TBPTT(3,2): of 7 steps, 3 from update to update, gradients back through 2\n"
                  "each pass injects the newest losses only\n"
                  "\n"
                  "  step       0123456\n"
                  "  pass     0 .oo\n"
                  "  pass     1    .oo\n"
                  "  pass     2       o\n"
                  "  visits     .11.111\n"
                  "  o loss injected, and walked back through; - walked back through; . forward only\n"
                  "\n"
                  "  the loss of a step reaches these, so many times (+: more than 9):\n"
                  "  loss     0 .\n"
                  "  loss     1 .1\n"
                  "  loss     2 .11\n"
                  "  loss     3 ....\n"
                  "  loss     4 ....1\n"
                  "  loss     5 ....11\n"
                  "  loss     6 ......1\n");
    check_picture((tl_bptt){.k1 = 1, .k2 = 3, .losses = TL_LOSSES_WINDOW, .old = TL_OLD_KEPT}, 5, TL_OK,
                  "TBPTT(1,3): of 5 steps, 1 from update to update, gradients back through 3\n"
                  "each pass injects all losses of its window\n"
                  "older steps are kept, with the weights that made them\n"
                  "\n"
                  "  step       01234\n"
                  "  pass     0 o\n"
                  "  pass     1 oo\n"
                  "  pass     2 ooo\n"
                  "  pass     3  ooo\n"
                  "  pass     4   ooo\n"
                  "  visits     33321\n"
                  "  o loss injected, and walked back through; - walked back through; . forward only\n"
                  "\n"
                  "  the loss of a step reaches these, so many times (+: more than 9):\n"
                  "  loss     0 3\n"
                  "  loss     1 23\n"
                  "  loss     2 123\n"
                  "  loss     3 .122\n"
                  "  loss     4 ..111\n");
    check_picture((tl_bptt){.k1 = -1}, 5, TL_ERR_ARGUMENT,
                  "bptt: k1, the steps between updates, is negative; 0 means all of them\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_chain_by_hand),
        cmocka_unit_test(updates_between_passes_by_hand),
        cmocka_unit_test(updates_between_passes),
        cmocka_unit_test(what_is_kept_keeps_its_noise),
        cmocka_unit_test(truncated_equals_cut_by_hand),
        cmocka_unit_test(kept_activations_belong_to_their_weights),
        cmocka_unit_test(without_a_cut_it_is_full_bptt),
        cmocka_unit_test(steps_are_visited_as_often_as_the_name_says),
        cmocka_unit_test(streams_of_different_ends),
        cmocka_unit_test(steps_without_a_loss),
        cmocka_unit_test(learned_initial_states),
        cmocka_unit_test(a_million_and_a_half_steps_in_the_memory_of_a_thousand),
        cmocka_unit_test(it_says_why_it_ended),
        cmocka_unit_test(errors_name_the_cut_and_the_way_out),
        cmocka_unit_test(what_is_within_the_window_may_be_used),
        cmocka_unit_test(what_cannot_be_run_is_refused),
        cmocka_unit_test(little_memory_is_an_error),
        cmocka_unit_test(pictures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
