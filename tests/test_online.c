/* Gradients that go forward in time, against the one that goes back: RTRL, SnAp, e-prop, UORO, ARTBP.
 */
#include "nets.h"

#include "autograd/functional.h"
#include "nn/artbp.h"
#include "nn/online.h"

/* The library's memory comes from here. */
static int allocations_left = -1; /* -1: no end of them */

void *aligned_alloc(size_t alignment, size_t bytes)
{
    void *pointer = NULL;
    if (allocations_left == 0 || posix_memalign(&pointer, alignment, bytes) != 0)
        return NULL;
    allocations_left -= allocations_left > 0;
    return pointer;
}

enum { T = 7, B = 2, I = 3, H = 4, C = 5 };

static const tl_rnn_config networks[] = {
    {.cell = &tl_elman_cell, .input = I, .hidden = H, .layers = 1},
    {.cell = &tl_elman_cell,
     .input = I,
     .hidden = I,
     .layers = 3,
     .connection = TL_RESIDUAL,
     .layer_norm = true},
    {.cell = &tl_elman_cell, .input = I, .hidden = I, .layers = 2, .connection = TL_HIGHWAY},
    {.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 2, .learned_state = true},
    {.cell = &tl_lstm_cell,
     .options = &(tl_lstm_options){.peephole = true, .layer_norm = true},
     .input = I,
     .hidden = H,
     .projection = 2,
     .layers = 1,
     .batch_first = true},
    {.cell = &tl_gru_cell, .input = I, .hidden = H, .layers = 1, .zoneout = {0.2}},
    {.cell = &tl_gru_cell,
     .options = &(tl_gru_options){.reset = TL_RESET_BEFORE},
     .input = I,
     .hidden = H,
     .layers = 2},
    {.cell = &tl_jordan_cell, .input = I, .hidden = H, .projection = 2, .layers = 1},
    {.cell = &tl_indrnn_cell, .input = I, .hidden = H, .layers = 2},
    {.cell = &tl_scrn_cell, .input = I, .hidden = H, .layers = 1},
    {.cell = &tl_mgu_cell, .input = I, .hidden = H, .layers = 1},
    {.cell = &tl_sru_cell, .input = I, .hidden = H, .layers = 2},
    {.cell = &tl_qrnn_cell, .input = I, .hidden = H, .layers = 1},
    {.cell = &tl_mingru_cell, .input = I, .hidden = H, .layers = 1},
    {.cell = &tl_minlstm_cell, .input = I, .hidden = H, .layers = 1}};

/* ---- a task ----------------------------------------------------------------------------- *
 *
 * l_t = sum of (y_t V' - target_t)^2. V is a parameter of the loss alone. */

typedef struct task {
    net n;
    tl_param *decoder; /* [C,P] */
    tl_tensor *x;      /* [T,B,I] */
    tl_tensor *target; /* [T,B,C] */
    int64_t step;
} task;

static tl_var step_loss(tl_tape *t, void *context, tl_var y)
{
    task *a = context;
    tl_var target = tl_select(t, tl_constant(t, a->target), 0, a->step);
    return tl_mse(t, tl_linear_op(t, y, tl_use(t, a->decoder), TL_NONE), target, TL_REDUCE_SUM);
}

static task task_of(const tl_rnn_config *config)
{
    dice d = dice_of(3);
    task a = {.n = net_from(config)};
    a.decoder = tl_params_add(a.n.params, "", "decoder", TL_SHAPE(C, tl_rnn_output(&a.n.rnn)));
    assert_non_null(a.decoder);
    fill_with_dice(a.n.params, 23);
    a.x = random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1);
    a.target = random_tensor(&d, TL_F64, TL_SHAPE(T, B, C), -1, 1);
    return a;
}

static void task_free(task *a)
{
    tl_tensor_release(a->x);
    tl_tensor_release(a->target);
    net_free(&a->n);
}

static tl_var x_of(tl_tape *t, const task *a, int64_t step)
{
    return tl_select(t, tl_constant(t, a->x), 0, step);
}

/* All gradients as one list of numbers, and zeros in their place. */
static tl_tensor *take_gradients(tl_params *params)
{
    int64_t count = tl_params_elements(params), next = 0;
    tl_tensor *all = tl_tensor_zeros(TL_F64, 1, &count, NULL);
    assert_non_null(all);
    for (int k = 0; k < params->count; k++)
        for (int64_t i = 0; i < params->entry[k]->value->layout.count; i++)
            tl_tensor_set(all, next++, tl_tensor_get(params->entry[k]->gradient, i));
    tl_zero_gradients(params);
    return all;
}

/* With how many of the states before a step cut off: those k with a bit in `cut`. */
static tl_tensor *by_bptt_cut(task *a, unsigned cut, int64_t steps)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_var state[2 * TL_MOST_STATES * 3] = {TL_NONE}, loss = TL_NONE;
    int time = a->n.rnn.config.batch_first ? 1 : 0, states = tl_rnn_states(&a->n.rnn);
    tl_unrolled handles;
    for (a->step = 0; a->step < steps; a->step++) {
        for (int k = 0; k < states && a->step; k++)
            if (cut >> k % a->n.rnn.states & 1)
                state[k] = tl_detach(t, state[k]);
        tl_var y = tl_unroll_with(t, &a->n.rnn, tl_unsqueeze(t, x_of(t, a, a->step), time), state,
                                  &(tl_unroll_options){.handles = &handles});
        tl_var l = step_loss(t, a, tl_squeeze(t, y, time));
        loss = tl_is_none(loss) ? l : tl_add(t, loss, l);
    }
    tl_backward(t, loss);
    assert_ok(t);
    tl_tape_free(t);
    return take_gradients(a->n.params);
}

/* All at once, as one would. */
static tl_tensor *by_bptt(task *a)
{
    tl_tape *t = tl_tape_new(NULL);
    bool batch_first = a->n.rnn.config.batch_first;
    tl_var x = tl_constant(t, a->x), loss = TL_NONE;
    tl_var y = tl_unroll(t, &a->n.rnn, batch_first ? tl_transpose(t, x, 0, 1) : x, NULL);
    for (a->step = 0; a->step < T; a->step++) {
        tl_var l = step_loss(t, a, tl_select(t, y, batch_first ? 1 : 0, a->step));
        loss = a->step ? tl_add(t, loss, l) : l;
    }
    tl_backward(t, loss);
    assert_ok(t);
    tl_tape_free(t);
    return take_gradients(a->n.params);
}

static void run(tl_online *o, task *a, int64_t steps)
{
    tl_tape *t = tl_tape_new(NULL);
    for (a->step = 0; a->step < steps; a->step++) {
        double value;
        tl_tape_reset(t);
        tl_online_step(o, t, x_of(t, a, a->step), step_loss, a, &value);
        assert_ok(t);
        assert_true(isfinite(value));
    }
    tl_tape_free(t);
}

static tl_online *online_of(const tl_rnn *rnn, tl_online_config config)
{
    tl_error error = {TL_OK, ""};
    tl_online *o = tl_online_new(rnn, &config, &error);
    if (!o)
        fail_msg("%s", error.message);
    return o;
}

static tl_tensor *by_method(task *a, tl_online_config config, tl_online_cost *cost)
{
    tl_online *o = online_of(&a->n.rnn, config);
    run(o, a, T);
    if (cost)
        *cost = tl_online_measure(o);
    tl_online_free(o);
    return take_gradients(a->n.params);
}

static double distance(const tl_tensor *a, const tl_tensor *b)
{
    double most = 0;
    for (int64_t i = 0; i < a->layout.count; i++)
        most = fmax(most, fabs(tl_tensor_get(a, i) - tl_tensor_get(b, i)));
    return most;
}

/* ---- RTRL ------------------------------------------------------------------------------- */

static void rtrl_is_bptt(void **unused)
{
    (void)unused;
    for (int c = 0; c < COUNT_OF(networks); c++) {
        task a = task_of(&networks[c]);
        tl_online_cost cost;
        tl_tensor *full = by_bptt(&a),
                  *mine = by_method(&a, (tl_online_config){.method = TL_RTRL}, &cost);
        assert_tensors(mine, full, 1e-10);
        assert_int_equal(cost.entries, cost.rows * cost.columns);
        assert_int_equal(cost.columns + a.decoder->value->layout.count, tl_params_elements(a.n.params));
        tl_tensor_release(full);
        tl_tensor_release(mine);
        task_free(&a);
    }
}

/* Without what came before the last step there would be a difference. */
static void one_step_is_not_enough(void **unused)
{
    (void)unused;
    task a = task_of(&networks[0]);
    tl_tensor *full = by_bptt(&a), *cut = by_bptt_cut(&a, 1, T);
    assert_true(distance(full, cut) > 0.1);
    tl_tensor_release(full);
    tl_tensor_release(cut);
    task_free(&a);
}

static void begin_begins_anew(void **unused)
{
    (void)unused;
    const tl_online_method methods[] = {TL_RTRL, TL_SNAP, TL_EPROP};
    for (int m = 0; m < COUNT_OF(methods); m++) {
        task a = task_of(&networks[3]);
        tl_online *o = online_of(&a.n.rnn, (tl_online_config){.method = methods[m], .reach = 1});
        run(o, &a, T);
        tl_tensor *first = take_gradients(a.n.params);
        run(o, &a, 3);
        tl_tensor *going_on = take_gradients(a.n.params);
        tl_online_begin(o);
        assert_null(tl_online_state(o, 0));
        run(o, &a, 3);
        tl_tensor *short_one = take_gradients(a.n.params);
        tl_online_begin(o);
        run(o, &a, T);
        tl_tensor *again = take_gradients(a.n.params);
        assert_tensors(again, first, 0);
        assert_true(distance(going_on, short_one) > 1e-3);
        tl_tensor_release(first);
        tl_tensor_release(going_on);
        tl_tensor_release(short_one);
        tl_tensor_release(again);
        tl_online_free(o);
        task_free(&a);
    }
}

static void frozen_weights_have_no_columns(void **unused)
{
    (void)unused;
    task a = task_of(&networks[0]);
    tl_rnn_weight(&a.n.rnn, 0, 0, "weight_hh")->frozen = true;
    tl_online_cost cost;
    tl_tensor *full = by_bptt(&a), *mine = by_method(&a, (tl_online_config){.method = TL_RTRL}, &cost);
    assert_tensors(mine, full, 1e-10);
    assert_int_equal(cost.columns, H * I + 2 * H);
    tl_tensor_release(full);
    tl_tensor_release(mine);
    task_free(&a);
}

/* A step without a loss moves on, and adds nothing. */
static tl_var no_loss(tl_tape *t, void *context, tl_var y)
{
    (void)t, (void)context, (void)y;
    return TL_NONE;
}

static tl_var last_loss(tl_tape *t, void *context, tl_var y)
{
    return ((task *)context)->step == T - 1 ? step_loss(t, context, y) : TL_NONE;
}

static void a_loss_at_the_end_reaches_the_beginning(void **unused)
{
    (void)unused;
    task a = task_of(&networks[3]);
    tl_tape *t = tl_tape_new(NULL);
    tl_var y = tl_unroll(t, &a.n.rnn, tl_constant(t, a.x), NULL);
    a.step = T - 1;
    tl_backward(t, step_loss(t, &a, tl_select(t, y, 0, T - 1)));
    tl_tensor *full = take_gradients(a.n.params);
    tl_online *o = online_of(&a.n.rnn, (tl_online_config){.method = TL_RTRL});
    for (a.step = 0; a.step < T; a.step++) {
        double value;
        tl_tape_reset(t);
        tl_online_step(o, t, x_of(t, &a, a.step), a.step % 2 && a.step < T - 1 ? no_loss : last_loss,
                       &a, &value);
        assert_ok(t);
        assert_true(isnan(value) == (a.step < T - 1));
    }
    tl_tensor *mine = take_gradients(a.n.params);
    assert_tensors(mine, full, 1e-10);
    tl_tensor_release(full);
    tl_tensor_release(mine);
    tl_online_free(o);
    tl_tape_free(t);
    task_free(&a);
}

/* ---- SnAp ------------------------------------------------------------------------------- */

/* Of a unit's own weights all, and of nobody else's any: [n,P] of a network of one layer. */
typedef struct masked_rtrl {
    task *a;
    int count, states;
    tl_var leaf[16];
    tl_tensor *state[2]; /* [B,H] */
    int64_t offset[17];
    double *J; /* [B, states H, P] */
} masked_rtrl;

/* J' = mask(D J + F), by tl_jacobian: [B,H,B,H] and [B,H, shape of the weight]. All weights of a cell
 * have their units along the first dimension. */
static void advance_masked(masked_rtrl *m, tl_tape *t, const tl_var *before, const tl_var *after)
{
    int64_t n = m->states * H, P = m->offset[m->count];
    double *next = calloc((size_t)(B * n * P), sizeof *next);
    assert_non_null(next);
    for (int r = 0; r < m->states; r++) {
        tl_tensor *d[2], *f[16];
        for (int s = 0; s < m->states; s++)
            d[s] = value_of(t, tl_jacobian(t, after[r], before[s]));
        for (int k = 0; k < m->count; k++)
            f[k] = value_of(t, tl_jacobian(t, after[r], m->leaf[k]));
        for (int64_t b = 0; b < B; b++)
            for (int64_t i = 0; i < H; i++)
                for (int k = 0; k < m->count; k++) {
                    int64_t size = m->offset[k + 1] - m->offset[k];
                    int64_t width = f[k]->layout.ndim > 3 ? f[k]->layout.shape[3] : 1;
                    for (int64_t p = 0; p < size; p++) {
                        bool output_gate = r == 1 && p / width / H == 3; /* c does not see it */
                        if (p / width % H != i || output_gate)
                            continue;
                        double sum = tl_tensor_get(f[k], (b * H + i) * size + p);
                        for (int s = 0; s < m->states; s++)
                            for (int64_t j = 0; j < H; j++)
                                sum += tl_tensor_get(d[s], ((b * H + i) * B + b) * H + j) *
                                       m->J[(b * n + s * H + j) * P + m->offset[k] + p];
                        next[(b * n + r * H + i) * P + m->offset[k] + p] = sum;
                    }
                }
        for (int s = 0; s < m->states; s++)
            tl_tensor_release(d[s]);
        for (int k = 0; k < m->count; k++)
            tl_tensor_release(f[k]);
    }
    memcpy(m->J, next, (size_t)(B * n * P) * sizeof *next);
    free(next);
}

/* gradient += dl/dh J; h is state 0, and all that the loss sees. */
static void add_masked(masked_rtrl *m, tl_tape *t, double *gradient)
{
    tl_var cut = tl_leaf_untied(t, m->state[0]), dh;
    tl_grad(t, step_loss(t, m->a, cut), TL_NONE, 1, &cut, false, &dh);
    int64_t n = m->states * H, P = m->offset[m->count];
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < H; i++)
            for (int64_t p = 0; p < P; p++)
                gradient[p] += item_at(t, dh, b * H + i) * m->J[(b * n + i) * P + p];
}

static void step_masked(masked_rtrl *m, double *gradient)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled handles;
    tl_var before[2], after[2];
    for (int k = 0; k < m->count; k++)
        m->leaf[k] = tl_use(t, m->a->n.params->entry[k]);
    for (int s = 0; s < m->states; s++)
        after[s] = before[s] = tl_leaf(t, m->state[s], NULL);
    tl_unroll_with(t, &m->a->n.rnn, tl_unsqueeze(t, x_of(t, m->a, m->a->step), 0), after,
                   &(tl_unroll_options){.handles = &handles});
    advance_masked(m, t, before, after);
    for (int s = 0; s < m->states; s++) {
        tl_tensor_release(m->state[s]);
        m->state[s] = value_of(t, after[s]);
    }
    add_masked(m, t, gradient);
    assert_ok(t);
    tl_tape_free(t);
}

static void snap_1_keeps_each_units_own_weights(void **unused)
{
    (void)unused;
    const tl_cell_type *cells[] = {&tl_elman_cell, &tl_lstm_cell, &tl_gru_cell};
    for (int c = 0; c < COUNT_OF(cells); c++) {
        task a = task_of(&(tl_rnn_config){.cell = cells[c], .input = I, .hidden = H, .layers = 1});
        masked_rtrl m = {.a = &a, .count = a.n.params->count - 1, .states = a.n.rnn.states};
        for (int k = 0; k < m.count; k++)
            m.offset[k + 1] = m.offset[k] + a.n.params->entry[k]->value->layout.count;
        int64_t P = m.offset[m.count];
        m.J = calloc((size_t)(B * m.states * H * P), sizeof *m.J);
        double *wanted = calloc((size_t)P, sizeof *wanted);
        for (int s = 0; s < m.states; s++)
            m.state[s] = tl_tensor_zeros(TL_F64, TL_SHAPE(B, H), NULL);
        for (a.step = 0; a.step < T; a.step++)
            step_masked(&m, wanted);
        tl_online_cost cost;
        tl_tensor *full = by_bptt(&a);
        tl_tensor *mine = by_method(&a, (tl_online_config){.method = TL_SNAP, .reach = 1}, &cost);
        double bias = 0;
        for (int64_t p = 0; p < P; p++) {
            assert_near_at(tl_tensor_get(mine, p), wanted[p], 1e-12, p);
            bias = fmax(bias, fabs(wanted[p] - tl_tensor_get(full, p)));
        }
        assert_true(bias > 1e-2); /* it is no RTRL */
        /* an LSTM's output gate reaches h alone, the other three h and c; n of a GRU is H */
        assert_int_equal(cost.entries, m.states == 2 ? P / 4 * 7 : P);
        for (int s = 0; s < m.states; s++)
            tl_tensor_release(m.state[s]);
        tl_tensor_release(full);
        tl_tensor_release(mine);
        free(m.J);
        free(wanted);
        task_free(&a);
    }
}

/* The pattern closes: of one layer after two steps; of layers when the first has reached the last. What
 * is reached is no more than J has. IndRNN: no unit reaches another. */
static void snap_is_rtrl_where_the_pattern_is_full(void **unused)
{
    (void)unused;
    const struct {
        tl_rnn_config config;
        int reach;
        bool all; /* of n P entries */
    } cases[] = {
        {{.cell = &tl_elman_cell, .input = I, .hidden = H, .layers = 1}, 2, true},
        {{.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 1}, 3, true},
        {{.cell = &tl_gru_cell, .input = I, .hidden = H, .layers = 1, .learned_state = true}, 2, true},
        {{.cell = &tl_elman_cell, .input = I, .hidden = H, .layers = 2}, 2, false},
        {{.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 2}, 4, false},
        {{.cell = &tl_indrnn_cell, .input = I, .hidden = H, .layers = 1}, 1, false},
        {{.cell = &tl_mingru_cell, .input = I, .hidden = H, .layers = 1}, 1, false}};
    for (int c = 0; c < COUNT_OF(cases); c++) {
        task a = task_of(&cases[c].config);
        tl_online_cost exact, sparse, less;
        tl_tensor *rtrl = by_method(&a, (tl_online_config){.method = TL_RTRL}, &exact);
        tl_tensor *snap =
            by_method(&a, (tl_online_config){.method = TL_SNAP, .reach = cases[c].reach}, &sparse);
        assert_tensors(snap, rtrl, 1e-12);
        assert_int_equal(sparse.entries == exact.entries, cases[c].all);
        if (cases[c].reach > 1) {
            tl_tensor *other = by_method(
                &a, (tl_online_config){.method = TL_SNAP, .reach = cases[c].reach - 1}, &less);
            if (less.entries < sparse.entries)
                assert_true(distance(other, rtrl) > 1e-6);
            tl_tensor_release(other);
        }
        tl_tensor_release(rtrl);
        tl_tensor_release(snap);
        task_free(&a);
    }
}

/* ---- e-prop ----------------------------------------------------------------------------- */

static void eprop_is_bptt_with_h_cut(void **unused)
{
    (void)unused;
    const struct {
        tl_rnn_config config;
        bool exact; /* its output is not read by the next step: nothing is lost */
    } cases[] = {
        {{.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 1}, false},
        {{.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 2, .learned_state = true}, false},
        {{.cell = &tl_lstm_cell,
          .options = &(tl_lstm_options){.peephole = true, .layer_norm = true},
          .input = I,
          .hidden = H,
          .projection = 2,
          .layers = 1},
         false},
        {{.cell = &tl_scrn_cell, .input = I, .hidden = H, .layers = 1}, false},
        {{.cell = &tl_sru_cell, .input = I, .hidden = H, .layers = 1}, true},
        {{.cell = &tl_qrnn_cell, .input = I, .hidden = H, .layers = 2}, true}};
    for (int c = 0; c < COUNT_OF(cases); c++) {
        task a = task_of(&cases[c].config);
        tl_online_cost cost;
        tl_tensor *full = by_bptt_cut(&a, 0, T), *cut = by_bptt_cut(&a, 1, T);
        tl_tensor *mine = by_method(&a, (tl_online_config){.method = TL_EPROP}, &cost);
        assert_tensors(mine, cut, 1e-12);
        assert_true((distance(mine, full) < 1e-10) == cases[c].exact);
        if (c == 0) { /* a trace for each weight, and what it is to h; a few walks */
            assert_int_equal(cost.entries, cost.columns / 4 * 7);
            assert_int_equal(cost.walks, 2 + B * 2 + 1);
        }
        tl_tensor_release(full);
        tl_tensor_release(cut);
        tl_tensor_release(mine);
        task_free(&a);
    }
}

/* ---- UORO ------------------------------------------------------------------------------- */

static void uoro_has_the_gradient_as_its_mean(void **unused)
{
    (void)unused;
    enum { DRAWS = 1500, STEPS = 5 };
    const int which[] = {0, 3}; /* an Elman network, and an LSTM of two layers */
    for (int c = 0; c < COUNT_OF(which); c++) {
        task a = task_of(&networks[which[c]]);
        tl_tensor *full = by_bptt_cut(&a, 0, STEPS);
        int64_t count = full->layout.count, off = 0;
        double *sum = calloc((size_t)count, sizeof *sum), *squares = calloc((size_t)count, sizeof *sum);
        int draws = c ? DRAWS / 5 : DRAWS;
        for (int k = 0; k < draws; k++) {
            tl_online *o =
                online_of(&a.n.rnn, (tl_online_config){.method = TL_UORO, .seed = (uint64_t)k + 1});
            run(o, &a, STEPS);
            tl_online_free(o);
            tl_tensor *g = take_gradients(a.n.params);
            for (int64_t p = 0; p < count; p++) {
                sum[p] += tl_tensor_get(g, p);
                squares[p] += tl_tensor_get(g, p) * tl_tensor_get(g, p);
            }
            tl_tensor_release(g);
        }
        for (int64_t p = 0; p < count; p++) {
            double mean = sum[p] / draws, variance = squares[p] / draws - mean * mean;
            double error = sqrt(fmax(variance, 0) / draws), exact = tl_tensor_get(full, p);
            if (fabs(mean - exact) > 4 * error + 1e-12)
                fail_msg(
                    "network %d, weight %lld: the mean is %+.6f, should be %+.6f, standard error %g", c,
                    (long long)p, mean, exact, error);
            off += fabs(exact) > 4 * error; /* the error is small enough to tell something from zero */
        }
        assert_true(off > count / 4);
        free(sum);
        free(squares);
        tl_tensor_release(full);
        task_free(&a);
    }
}

static void uoro_is_its_seeds(void **unused)
{
    (void)unused;
    task a = task_of(&networks[5]);
    tl_online_cost cost;
    tl_tensor *one = by_method(&a, (tl_online_config){.method = TL_UORO, .seed = 4}, &cost);
    tl_tensor *same = by_method(&a, (tl_online_config){.method = TL_UORO, .seed = 4}, NULL);
    tl_tensor *other = by_method(&a, (tl_online_config){.method = TL_UORO, .seed = 5}, NULL);
    assert_tensors(same, one, 0);
    assert_true(distance(other, one) > 1e-3);
    assert_int_equal(cost.entries, B * H + cost.columns);
    tl_tensor_release(one);
    tl_tensor_release(same);
    tl_tensor_release(other);
    task_free(&a);
}

/* ---- any step --------------------------------------------------------------------------- *
 *
 * A state of two dimensions beside one of one, mixed: m' = tanh(m u + v x), a' = a m'[0] + w. */

enum { ROWS = 2, COLUMNS = 3 };

typedef struct custom {
    tl_params *params;
    tl_param *u, *v, *w;
} custom;

static void custom_step(tl_tape *t, void *model, tl_var x, tl_var *state)
{
    const custom *m = model;
    tl_var a = tl_mul(t, tl_use(t, m->v), tl_unsqueeze(t, x, 2)); /* [2,1] [B,1,1] */
    state[0] = tl_tanh(t, tl_add(t, tl_matmul(t, state[0], tl_use(t, m->u)), a));
    state[1] = tl_add(t, tl_mul(t, state[1], tl_select(t, state[0], 1, 0)), tl_use(t, m->w));
    state[1] = tl_add(t, state[1], tl_select(t, state[0], 1, 1));
}

static tl_var custom_loss(tl_tape *t, void *context, tl_var y)
{
    (void)context;
    return weigh(t, tl_square(t, y), 9);
}

static custom custom_new(tl_dtype dtype)
{
    custom m = {.params = tl_params_new(dtype, 1)};
    m.u = tl_params_add(m.params, "", "u", TL_SHAPE(COLUMNS, COLUMNS));
    m.v = tl_params_add(m.params, "", "v", TL_SHAPE(ROWS, 1));
    m.w = tl_params_add(m.params, "", "w", TL_SHAPE(COLUMNS));
    fill_with_dice(m.params, 8);
    return m;
}

static tl_tensor *custom_by_bptt(custom *m, tl_tensor *const *initial)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_var state[2] = {tl_constant(t, initial[0]), tl_constant(t, initial[1])}, loss = TL_NONE;
    for (int step = 0; step < T; step++) {
        tl_var x = tl_full(t, TL_F64, TL_SHAPE(B, 1), 0.3 * step - 1);
        custom_step(t, m, x, state);
        tl_var l = custom_loss(t, m, state[1]);
        loss = step ? tl_add(t, loss, l) : l;
    }
    tl_backward(t, loss);
    assert_ok(t);
    tl_tape_free(t);
    return take_gradients(m->params);
}

static tl_var loss_of_a(tl_tape *t, void *context, tl_var y)
{
    return custom_loss(t, context, y);
}

/* state 0 is what the loss sees, so they are given the other way round */
static void swapped_step(tl_tape *t, void *model, tl_var x, tl_var *state)
{
    tl_var own[2] = {state[1], state[0]};
    custom_step(t, model, x, own);
    state[0] = own[1];
    state[1] = own[0];
}

static void any_step_will_do(void **unused)
{
    (void)unused;
    const tl_online_config configs[] = {
        {.method = TL_RTRL}, {.method = TL_SNAP, .reach = 9}, {.method = TL_EPROP}};
    custom m = custom_new(TL_F64);
    dice d = dice_of(2);
    tl_tensor *initial[2] = {random_tensor(&d, TL_F64, TL_SHAPE(B, ROWS, COLUMNS), -1, 1),
                             random_tensor(&d, TL_F64, TL_SHAPE(B, COLUMNS), -1, 1)};
    tl_tensor *full = custom_by_bptt(&m, initial);
    for (int c = 0; c < COUNT_OF(configs); c++) {
        tl_online_model model = {.model = &m,
                                 .states = 2,
                                 .initial = (tl_tensor *[]){initial[1], initial[0]},
                                 .params = 4,
                                 .param = (tl_param *[]){m.u, m.v, m.w, m.u},
                                 .step = swapped_step}; /* nothing observed: e-prop is exact */
        tl_error error = {TL_OK, ""};
        tl_online *o = tl_online_new_model(&model, &configs[c], &error);
        assert_non_null(o);
        tl_tape *t = tl_tape_new(NULL);
        for (int step = 0; step < T; step++) {
            tl_tape_reset(t);
            tl_online_step(o, t, tl_full(t, TL_F64, TL_SHAPE(B, 1), 0.3 * step - 1), loss_of_a, &m,
                           NULL);
            assert_ok(t);
        }
        tl_tensor *mine = take_gradients(m.params);
        assert_tensors(mine, full, 1e-10);
        assert_int_equal(tl_online_measure(o).columns, tl_params_elements(m.params));
        tl_tensor_release(mine);
        tl_tape_free(t);
        tl_online_free(o);
    }
    tl_tensor_release(full);
    tl_tensor_release(initial[0]);
    tl_tensor_release(initial[1]);
    tl_params_free(m.params);
}

static void single_precision_will_do(void **unused)
{
    (void)unused;
    task a = task_of(&networks[0]);
    tl_tensor *full = by_bptt(&a);
    task b = {.n = {.params = tl_params_new(TL_F32, 5)}};
    tl_rnn_init(&b.n.rnn, b.n.params, &networks[0]);
    b.decoder = tl_params_add(b.n.params, "", "decoder", TL_SHAPE(C, H));
    fill_with_dice(b.n.params, 23);
    b.x = tl_tensor_copy(a.x, TL_F32, NULL);
    b.target = tl_tensor_copy(a.target, TL_F32, NULL);
    tl_tensor *mine = by_method(&b, (tl_online_config){.method = TL_SNAP, .reach = 2}, NULL);
    assert_tensors(mine, full, 1e-4);
    tl_tensor_release(full);
    tl_tensor_release(mine);
    task_free(&a);
    task_free(&b);
}

/* ---- ARTBP ------------------------------------------------------------------------------ */

enum { LONG = 8 };

typedef struct cutting {
    task *a;
    int64_t stretches, steps;
    double loss;
} cutting;

static tl_var record_step(tl_tape *t, void *model, int64_t step, tl_var *state)
{
    cutting *c = model;
    c->a->step = step % T;
    tl_var y = tl_unroll(t, &c->a->n.rnn, tl_unsqueeze(t, x_of(t, c->a, c->a->step), 0), state);
    return step_loss(t, c->a, tl_squeeze(t, y, 0));
}

static bool count_stretch(void *model, int64_t from, int64_t to, double loss)
{
    cutting *c = model;
    assert_int_equal(from, c->steps);
    c->stretches++;
    c->steps = to;
    c->loss += loss;
    return true;
}

/* sum over all 2^(T-1) ways to cut of probability times gradient. */
static tl_tensor *mean_over_cuts(cutting *c, tl_artbp artbp)
{
    int64_t count = tl_params_elements(c->a->n.params);
    tl_tensor *mean = tl_tensor_zeros(TL_F64, 1, &count, NULL);
    tl_tape *t = tl_tape_new(NULL);
    double whole = 0;
    for (unsigned way = 0; way < 1u << (LONG - 1); way++) {
        bool cuts[LONG - 1];
        double probability = 1;
        int64_t age = 0;
        for (int k = 0; k < LONG - 1; k++) {
            cuts[k] = way >> k & 1;
            double p = tl_artbp_probability(&artbp, ++age);
            probability *= cuts[k] ? p : 1 - p;
            age = cuts[k] ? 0 : age;
        }
        tl_var state[4] = {TL_NONE};
        artbp.cuts = cuts;
        c->steps = 0;
        tl_tape_reset(t);
        tl_artbp_run(t, &artbp, LONG, tl_rnn_states(&c->a->n.rnn), state);
        assert_ok(t);
        tl_tensor *g = take_gradients(c->a->n.params);
        for (int64_t p = 0; p < count; p++)
            tl_tensor_set(mean, p, tl_tensor_get(mean, p) + probability * tl_tensor_get(g, p));
        tl_tensor_release(g);
        whole += probability;
    }
    assert_near(whole, 1, 1e-14);
    tl_tape_free(t);
    return mean;
}

static void artbp_has_the_gradient_as_its_mean(void **unused)
{
    (void)unused;
    const int which[] = {0, 3};
    const double alpha[] = {0, 4};
    for (int n = 0; n < COUNT_OF(which); n++)
        for (int k = 0; k < COUNT_OF(alpha); k++) {
            task a = task_of(&networks[which[n]]);
            cutting c = {.a = &a};
            tl_artbp artbp = {.length = 3,
                              .alpha = alpha[k],
                              .model = &c,
                              .record = record_step,
                              .update = count_stretch};
            tl_tensor *mean = mean_over_cuts(&c, artbp);
            bool none[LONG - 1] = {false}; /* with c so small that the factor is 1: full BPTT */
            artbp = (tl_artbp){.length = 1e300, .cuts = none, .model = &c, .record = record_step};
            tl_tape *t = tl_tape_new(NULL);
            tl_var state[4] = {TL_NONE};
            tl_artbp_run(t, &artbp, LONG, tl_rnn_states(&a.n.rnn), state);
            assert_ok(t);
            tl_tensor *full = take_gradients(a.n.params);
            assert_tensors(mean, full, 1e-12);
            tl_tape_free(t);
            tl_tensor_release(mean);
            tl_tensor_release(full);
            task_free(&a);
        }
}

/* That full BPTT is what tl_unroll gives of the first T steps. */
static void artbp_without_cuts_is_bptt(void **unused)
{
    (void)unused;
    task a = task_of(&networks[3]);
    cutting c = {.a = &a};
    bool none[T - 1] = {false};
    tl_artbp artbp = {.length = 1e300, .cuts = none, .model = &c, .record = record_step};
    tl_tape *t = tl_tape_new(NULL);
    tl_var state[4] = {TL_NONE};
    tl_artbp_run(t, &artbp, T, 4, state);
    tl_tensor *mine = take_gradients(a.n.params), *full = by_bptt(&a);
    assert_tensors(mine, full, 1e-12);
    tl_tensor_release(mine);
    tl_tensor_release(full);
    tl_tape_free(t);
    task_free(&a);
}

/* Their mean length, and the same cuts for the same seed. */
static void artbp_cuts_as_often_as_it_should(void **unused)
{
    (void)unused;
    const double alpha[] = {0, 6};
    for (int k = 0; k < COUNT_OF(alpha); k++) {
        enum { STEPS = 6000 };
        task a = task_of(&networks[0]);
        tl_tensor *gradient[3];
        int64_t stretches[3];
        for (int run = 0; run < 3; run++) {
            cutting c = {.a = &a};
            tl_artbp artbp = {.length = 5,
                              .alpha = alpha[k],
                              .seed = run == 2 ? 78 : 77,
                              .model = &c,
                              .record = record_step,
                              .update = count_stretch};
            tl_tape *t = tl_tape_new(NULL);
            tl_var state[1] = {TL_NONE};
            assert_int_equal(tl_artbp_run(t, &artbp, STEPS, 1, state), TL_OK);
            assert_int_equal(c.steps, STEPS);
            assert_true(c.loss > 0);
            stretches[run] = c.stretches;
            gradient[run] = take_gradients(a.n.params);
            tl_tape_free(t);
        }
        assert_near((double)STEPS / (double)stretches[0], 5, 0.05); /* standard error: 0.13, 0.15 */
        assert_int_equal(stretches[0], stretches[1]);
        assert_tensors(gradient[1], gradient[0], 0);
        assert_true(distance(gradient[2], gradient[0]) > 1e-3);
        for (int run = 0; run < 3; run++)
            tl_tensor_release(gradient[run]);
        task_free(&a);
    }
}

/* ---- what is refused -------------------------------------------------------------------- */

static void refuses(tl_rnn_config rnn, tl_online_config config, const char *message)
{
    net n = net_from(&rnn);
    tl_error error = {TL_OK, ""};
    assert_null(tl_online_new(&n.rnn, &config, &error));
    assert_int_equal(error.status, TL_ERR_ARGUMENT);
    assert_string_equal(error.message, message);
    net_free(&n);
}

static void what_does_not_fit_is_refused(void **unused)
{
    (void)unused;
    tl_rnn_config elman = networks[0], both = elman, back = elman;
    both.bidirectional = back.reverse = true;
    refuses(
        both, (tl_online_config){.method = TL_RTRL},
        "online: a stream has no end to read backwards from, but the elman network is bidirectional");
    refuses(back, (tl_online_config){.method = TL_RTRL},
            "online: a stream has no end to read backwards from, but the elman network is reverse");
    refuses(elman, (tl_online_config){.method = TL_EPROP},
            "online: e-prop wants a cell with a memory beside its output; the elman cell has only h");
    refuses(elman, (tl_online_config){.method = TL_SNAP},
            "online: SnAp-n wants a reach of n >= 1, not 0");
    refuses(elman, (tl_online_config){.method = (tl_online_method)9}, "online: 9 is not a method");

    task a = task_of(&elman);
    tl_online *o = online_of(&a.n.rnn, (tl_online_config){.method = TL_RTRL});
    tl_tape *t = tl_tape_new(NULL);
    tl_online_step(o, t, tl_full(t, TL_F64, TL_SHAPE(B, I + 1), 1), NULL, NULL, NULL);
    assert_error(t, TL_ERR_SHAPE, "online: elman network wants [B,3], a step of the stream, not [2,4]");
    assert_int_equal(tl_online_step(o, t, tl_full(t, TL_F64, TL_SHAPE(B, I), 1), NULL, NULL, NULL),
                     TL_OK);
    tl_tape_reset(t);
    assert_int_not_equal(
        tl_online_step(o, t, tl_full(t, TL_F64, TL_SHAPE(B + 1, I), 1), NULL, NULL, NULL), TL_OK);
    tl_tape_reset(t);
    tl_untie(t, tl_rnn_weight(&a.n.rnn, 0, 0, "weight_hh")->value);
    tl_online_step(o, t, tl_full(t, TL_F64, TL_SHAPE(B, I), 1), NULL, NULL, NULL);
    assert_error(t, TL_ERR_ARGUMENT, "online: rnn.weight_hh_l0 is untied, but wanted as one variable");
    tl_artbp_run(t, &(tl_artbp){.length = 1}, 3, 0, NULL);
    assert_error(t, TL_ERR_ARGUMENT,
                 "artbp: wants a mean length > 1 and an alpha > 2, or 0 for none; not 1 and 0");
    tl_tape_free(t);
    tl_online_free(o);
    task_free(&a);
}

/* However long the stream is. */
static void memory_does_not_grow(void **unused)
{
    (void)unused;
    const tl_online_method methods[] = {TL_RTRL, TL_SNAP, TL_EPROP, TL_UORO};
    for (int m = 0; m < COUNT_OF(methods); m++) {
        task a = task_of(&networks[3]);
        tl_online *o = online_of(&a.n.rnn, (tl_online_config){.method = methods[m], .reach = 1});
        tl_tape *t = tl_tape_new(NULL);
        tl_tape_usage early = {0};
        for (int64_t step = 0; step < 20 * T; step++) {
            a.step = step % T;
            tl_tape_reset(t);
            tl_online_step(o, t, x_of(t, &a, a.step), step_loss, &a, NULL);
            assert_ok(t);
            if (step == 3)
                early = tl_tape_measure(t);
        }
        tl_tape_usage late = tl_tape_measure(t);
        assert_int_equal(late.variables, early.variables);
        assert_int_equal(late.held, early.held);
        assert_int_equal(late.system_calls, early.system_calls);
        tl_tape_free(t);
        tl_online_free(o);
        task_free(&a);
    }
}

/* A step that fails leaves state and influence as they were. */
static tl_var failing_loss(tl_tape *t, void *context, tl_var y)
{
    (void)context, (void)y;
    tl_tape_fail(t, TL_ERR_ARGUMENT, "not today");
    return tl_poison(t);
}

static void a_failed_step_is_none(void **unused)
{
    (void)unused;
    const tl_online_method methods[] = {TL_RTRL, TL_SNAP, TL_UORO};
    for (int m = 0; m < COUNT_OF(methods); m++) {
        task a = task_of(&networks[0]);
        tl_tensor *once = by_method(&a, (tl_online_config){.method = methods[m], .reach = 1}, NULL);
        tl_online *o = online_of(&a.n.rnn, (tl_online_config){.method = methods[m], .reach = 1});
        tl_tape *t = tl_tape_new(NULL);
        for (a.step = 0; a.step < T; a.step++) {
            tl_tape_reset(t);
            assert_int_equal(tl_online_step(o, t, x_of(t, &a, a.step), failing_loss, &a, NULL),
                             TL_ERR_ARGUMENT);
            tl_tape_reset(t);
            assert_int_equal(tl_online_step(o, t, x_of(t, &a, a.step), step_loss, &a, NULL), TL_OK);
        }
        tl_tensor *mine = take_gradients(a.n.params);
        assert_tensors(mine, once, 0);
        tl_tensor_release(once);
        tl_tensor_release(mine);
        tl_tape_free(t);
        tl_online_free(o);
        task_free(&a);
    }
}

static void every_allocation_may_fail(void **unused)
{
    (void)unused;
    const tl_online_config configs[] = {{.method = TL_RTRL},
                                        {.method = TL_SNAP, .reach = 1},
                                        {.method = TL_EPROP},
                                        {.method = TL_UORO}};
    for (int c = 0; c < COUNT_OF(configs); c++) {
        task a = task_of(&(tl_rnn_config){.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 1});
        bool done = false;
        for (int left = 0; !done; left += 1 + left / 16) {
            tl_tape *t = tl_tape_new(NULL);
            tl_error error = {TL_OK, ""};
            allocations_left = left;
            tl_online *o = tl_online_new(&a.n.rnn, &configs[c], &error);
            assert_int_equal(o == NULL, error.status == TL_ERR_MEMORY);
            tl_status status = o ? TL_OK : TL_ERR_MEMORY;
            for (a.step = 0; o && status == TL_OK && a.step < 2; a.step++) {
                tl_tape_reset(t);
                status = tl_online_step(o, t, x_of(t, &a, a.step), step_loss, &a, NULL);
            }
            done = status == TL_OK;
            allocations_left = -1;
            assert_true(done || status == TL_ERR_MEMORY);
            if (o && !done) { /* with memory again it goes on */
                tl_tape_reset(t);
                a.step = 0;
                tl_online_step(o, t, x_of(t, &a, 0), step_loss, &a, NULL);
                assert_ok(t);
            }
            tl_online_free(o);
            tl_tape_free(t);
            tl_zero_gradients(a.n.params);
        }
        task_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rtrl_is_bptt),
        cmocka_unit_test(one_step_is_not_enough),
        cmocka_unit_test(begin_begins_anew),
        cmocka_unit_test(frozen_weights_have_no_columns),
        cmocka_unit_test(a_loss_at_the_end_reaches_the_beginning),
        cmocka_unit_test(snap_1_keeps_each_units_own_weights),
        cmocka_unit_test(snap_is_rtrl_where_the_pattern_is_full),
        cmocka_unit_test(eprop_is_bptt_with_h_cut),
        cmocka_unit_test(uoro_has_the_gradient_as_its_mean),
        cmocka_unit_test(uoro_is_its_seeds),
        cmocka_unit_test(any_step_will_do),
        cmocka_unit_test(single_precision_will_do),
        cmocka_unit_test(artbp_has_the_gradient_as_its_mean),
        cmocka_unit_test(artbp_without_cuts_is_bptt),
        cmocka_unit_test(artbp_cuts_as_often_as_it_should),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(memory_does_not_grow),
        cmocka_unit_test(a_failed_step_is_none),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
