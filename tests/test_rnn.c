/* Recurrent networks: cells against loops written here, unrolling, states, truncated BPTT. */
#include "nets.h"

#include "autograd/gradcheck.h"
#include "nn/bptt.h"
#include "nn/init.h"

/* ---- a network and its inputs ----------------------------------------------------------- */

enum { ELMAN, LSTM, GRU, COMPOSED_LSTM, COMPOSED_GRU };

static const struct {
    const tl_cell_type *cell;
    int gates, states;
    const char *name;
    bool composed;
} kinds[] = {[ELMAN] = {&tl_elman_cell, 1, 1, "elman", false},
             [LSTM] = {&tl_lstm_cell, 4, 2, "lstm", false},
             [GRU] = {&tl_gru_cell, 3, 1, "gru", false},
             [COMPOSED_LSTM] = {&tl_lstm_cell, 4, 2, "composed lstm", true},
             [COMPOSED_GRU] = {&tl_gru_cell, 3, 1, "composed gru", true}};

/* which: of kinds. */
static net net_of(int which, int64_t input, int64_t hidden, int layers, bool no_bias)
{
    return net_from(&(tl_rnn_config){.cell = kinds[which].cell,
                                     .input = input,
                                     .hidden = hidden,
                                     .layers = layers,
                                     .no_bias = no_bias,
                                     .composed = kinds[which].composed});
}

/* ---- the slow twin: loops over numbers -------------------------------------------------- */

static double parameter(const net *n, const char *what, int layer, int64_t i)
{
    char name[64];
    snprintf(name, sizeof name, "rnn.%s_l%d", what, layer);
    const tl_param *p = tl_params_find(n->params, name);
    if (!p && n->rnn.config.no_bias)
        return 0;
    assert_non_null(p);
    return tl_tensor_get(p->value, i);
}

static int gates_of(const net *n)
{
    int k = 0;
    while (kinds[k].cell != n->rnn.config.cell)
        k++;
    return kinds[k].gates;
}

static double squash(double x)
{
    return 1 / (1 + exp(-x));
}

/* One layer, one step, one row of the batch: x [I] and the states h, c [H], which are replaced. */
static void naive_step(const net *n, int layer, int64_t inputs, const double *x, double *h, double *c)
{
    enum { MOST = 64 };
    double from_x[MOST], from_h[MOST], next[MOST];
    int64_t H = n->rnn.config.hidden, rows = gates_of(n) * H;
    assert_true(rows <= MOST);
    for (int64_t r = 0; r < rows; r++) {
        from_x[r] = parameter(n, "bias_ih", layer, r);
        from_h[r] = parameter(n, "bias_hh", layer, r);
        for (int64_t i = 0; i < inputs; i++)
            from_x[r] += parameter(n, "weight_ih", layer, r * inputs + i) * x[i];
        for (int64_t i = 0; i < H; i++)
            from_h[r] += parameter(n, "weight_hh", layer, r * H + i) * h[i];
    }
    for (int64_t j = 0; j < H; j++) {
        double a = from_x[j] + from_h[j];
        if (n->rnn.config.cell == &tl_elman_cell)
            next[j] = tanh(a);
        else if (n->rnn.config.cell == &tl_lstm_cell) {
            double f = squash(from_x[H + j] + from_h[H + j]),
                   g = tanh(from_x[2 * H + j] + from_h[2 * H + j]);
            c[j] = f * c[j] + squash(a) * g;
            next[j] = squash(from_x[3 * H + j] + from_h[3 * H + j]) * tanh(c[j]);
        } else {
            double z = squash(from_x[H + j] + from_h[H + j]);
            next[j] = (1 - z) * tanh(from_x[2 * H + j] + squash(a) * from_h[2 * H + j]) + z * h[j];
        }
    }
    memcpy(h, next, (size_t)H * sizeof *h);
}

enum { MOST_HIDDEN = 16, MOST_LAYERS = 3 };

/* state: [layers][2][B][H] */
static void naive_unroll(const net *n, const tl_tensor *x, double *state, double *y)
{
    int64_t T = x->layout.shape[0], B = x->layout.shape[1], I = n->rnn.config.input,
            H = n->rnn.config.hidden;
    for (int64_t step = 0; step < T; step++)
        for (int64_t b = 0; b < B; b++) {
            double in[MOST_HIDDEN];
            for (int64_t i = 0; i < I; i++)
                in[i] = tl_tensor_get(x, (step * B + b) * I + i);
            for (int layer = 0; layer < n->rnn.config.layers; layer++) {
                double *h = state + ((2 * layer) * B + b) * H,
                       *c = state + ((2 * layer + 1) * B + b) * H;
                naive_step(n, layer, layer ? H : I, in, h, c);
                memcpy(in, h, (size_t)H * sizeof *h);
            }
            memcpy(y + (step * B + b) * H, in, (size_t)H * sizeof *y);
        }
}

static void outputs_and_states_are_the_equations(void **state)
{
    (void)state;
    enum { T = 5, B = 3, I = 4, H = 6 };
    dice d = dice_of(1);
    tl_tape *t = tl_tape_new(NULL);
    for (int k = 0; k < COUNT_OF(kinds); k++)
        for (int layers = 1; layers <= MOST_LAYERS; layers++)
            for (int variant = 0; variant < 4;
                 variant++) { /* with bias or not; with initial states or not */
                bool given = variant & 1;
                net n = net_of(k, I, H, layers, variant & 2);
                tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -2, 2),
                          *start[2 * MOST_LAYERS];
                double expected[MOST_LAYERS * 2 * B * H] = {0}, y_expected[T * B * H];
                tl_var v[2 * MOST_LAYERS];
                int states = tl_rnn_states(&n.rnn);
                assert_int_equal(states, layers * kinds[k].states);
                for (int s = 0; s < states; s++) {
                    start[s] = random_tensor(&d, TL_F64, TL_SHAPE(B, H), -1, 1);
                    v[s] = given ? tl_constant(t, start[s]) : TL_NONE;
                    int at = s / kinds[k].states * 2 + s % kinds[k].states;
                    for (int64_t i = 0; given && i < B * H; i++)
                        expected[at * B * H + i] = tl_tensor_get(start[s], i);
                }
                naive_unroll(&n, x, expected, y_expected);
                tl_var y = tl_unroll(t, &n.rnn, tl_constant(t, x), v);
                assert_ok(t);
                assert_shape(t, y, "[5,3,6]");
                assert_value(t, y, y_expected, 1e-13);
                for (int s = 0; s < states; s++) {
                    int at = s / kinds[k].states * 2 + s % kinds[k].states;
                    assert_shape(t, v[s], "[3,6]");
                    assert_value(t, v[s], expected + at * B * H, 1e-13);
                    tl_tensor_release(start[s]);
                }
                if (!given) /* nothing is asked for the states: the same outputs */
                    assert_vars(t, tl_unroll(t, &n.rnn, tl_constant(t, x), NULL), y, 0);
                tl_tape_reset(t);
                tl_tensor_release(x);
                net_free(&n);
            }
    tl_tape_free(t);
}

/* ---- gradients -------------------------------------------------------------------------- */

static void hold(tl_tensor **inputs, int *count, tl_tensor *x)
{
    inputs[(*count)++] = x;
}

/* in: x, the initial states, then all parameters. The leaves of the parameters are those of gradcheck,
 * because a tensor is one leaf. */
static tl_var all_of_it(tl_tape *t, const tl_var *in, void *context)
{
    const net *n = context;
    tl_var state[2 * MOST_LAYERS];
    int states = tl_rnn_states(&n->rnn);
    memcpy(state, in + 1, (size_t)states * sizeof *state);
    tl_var y = tl_unroll(t, &n->rnn, in[0], state), all = tl_reshape(t, y, TL_SHAPE(-1));
    for (int s = 0; s < states; s++)
        all = tl_concat(t, 2, (tl_var[]){all, tl_reshape(t, state[s], TL_SHAPE(-1))}, 0);
    return all;
}

static void gradients_through_five_steps(void **state)
{
    (void)state;
    enum { T = 5, B = 2, I = 3, H = 4 };
    dice d = dice_of(2);
    for (int k = 0; k < COUNT_OF(kinds); k++)
        for (int layers = 1; layers <= 2; layers++) {
            net n = net_of(k, I, H, layers, false);
            tl_tensor *inputs[32];
            int count = 0, states = tl_rnn_states(&n.rnn);
            hold(inputs, &count, random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1));
            for (int s = 0; s < states; s++)
                hold(inputs, &count, random_tensor(&d, TL_F64, TL_SHAPE(B, H), -1, 1));
            int own = count;
            for (int p = 0; p < n.params->count; p++)
                hold(inputs, &count, n.params->entry[p]->value);
            tl_gradcheck_report report;
            if (tl_gradcheck(all_of_it, &n, count, inputs, NULL, &report) != TL_OK)
                fail_msg("%s, %d layers: %s", kinds[k].name, layers, report.message);
            for (int i = 0; i < own; i++)
                tl_tensor_release(inputs[i]);
            net_free(&n);
        }
}

/* The second order too, on a small one. */
static void gradients_of_gradients_through_time(void **state)
{
    (void)state;
    enum { T = 3, B = 2, I = 2, H = 2 };
    dice d = dice_of(3);
    for (int k = 0; k < COUNT_OF(kinds); k++) {
        net n = net_of(k, I, H, 1, false);
        tl_tensor *inputs[16];
        int count = 0, states = tl_rnn_states(&n.rnn);
        hold(inputs, &count, random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1));
        for (int s = 0; s < states; s++)
            hold(inputs, &count, random_tensor(&d, TL_F64, TL_SHAPE(B, H), -1, 1));
        int own = count;
        for (int p = 0; p < n.params->count; p++)
            hold(inputs, &count, n.params->entry[p]->value);
        tl_gradcheck_report report;
        if (tl_gradgradcheck(all_of_it, &n, count, inputs, NULL, &report) != TL_OK)
            fail_msg("%s: %s", kinds[k].name, report.message);
        for (int i = 0; i < own; i++)
            tl_tensor_release(inputs[i]);
        net_free(&n);
    }
}

/* ---- a cell of one's own: the one in cell.h --------------------------------------------- */

typedef struct mgu {
    tl_var w_f, u_f, b_f, w_n, u_n, b_n;
} mgu;

static const tl_cell_weight mgu_weights[] = {TL_WEIGHT(mgu, w_f, .shape = "H,I"),
                                             TL_WEIGHT(mgu, u_f, .shape = "H,H"),
                                             TL_WEIGHT(mgu, b_f, .shape = "H"),
                                             TL_WEIGHT(mgu, w_n, .shape = "H,I"),
                                             TL_WEIGHT(mgu, u_n, .shape = "H,H"),
                                             TL_WEIGHT(mgu, b_n, .shape = "H"),
                                             TL_WEIGHTS_END};

static void mgu_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    tl_tape *t = c->tape;
    const mgu *w = c->weights;
    tl_var h = state[0];
    tl_var f = tl_sigmoid(t, tl_linear_op(t, h, w->u_f, tl_linear_op(t, x, w->w_f, w->b_f)));
    tl_var n = tl_linear_op(t, tl_mul(t, f, h), w->u_n, tl_linear_op(t, x, w->w_n, w->b_n));
    state[0] = tl_lerp(t, h, tl_tanh(t, n), f);
}

static const tl_cell_type mgu_cell = {.name = "mgu",
                                      .bytes = sizeof(mgu),
                                      .weights = mgu_weights,
                                      .states = {{"h", "H"}},
                                      .step = mgu_step};

static tl_var unroll_mgu(tl_tape *t, const tl_var *in, void *context)
{
    tl_var state = in[1];
    return tl_add(t, tl_unroll(t, context, in[0], &state), state);
}

static double dot(const tl_rnn *rnn, const char *name, const double *x, int64_t row)
{
    const tl_tensor *weight = tl_rnn_weight(rnn, 0, 0, name)->value;
    double sum = 0;
    for (int64_t i = 0; i < weight->layout.shape[1]; i++)
        sum += tl_tensor_get(weight, row * weight->layout.shape[1] + i) * x[i];
    return sum;
}

static void naive_mgu(const tl_rnn *rnn, int64_t H, const double *x, double *h)
{
    double f[MOST_HIDDEN], seen[MOST_HIDDEN], next[MOST_HIDDEN];
    const tl_tensor *b_f = tl_rnn_weight(rnn, 0, 0, "b_f")->value;
    const tl_tensor *b_n = tl_rnn_weight(rnn, 0, 0, "b_n")->value;
    for (int64_t j = 0; j < H; j++) {
        f[j] = squash(dot(rnn, "w_f", x, j) + dot(rnn, "u_f", h, j) + tl_tensor_get(b_f, j));
        seen[j] = f[j] * h[j];
    }
    for (int64_t j = 0; j < H; j++) {
        double n = dot(rnn, "w_n", x, j) + dot(rnn, "u_n", seen, j) + tl_tensor_get(b_n, j);
        next[j] = (1 - f[j]) * h[j] + f[j] * tanh(n);
    }
    memcpy(h, next, (size_t)H * sizeof *h);
}

static void a_cell_of_ones_own(void **state)
{
    (void)state;
    enum { T = 4, B = 2, I = 3, H = 5 };
    tl_params *params = tl_params_new(TL_F64, 9);
    tl_rnn rnn;
    tl_rnn_init(&rnn, params,
                &(tl_rnn_config){.cell = &mgu_cell, .input = I, .hidden = H, .layers = 1});
    assert_int_equal(tl_params_status(params), TL_OK);
    assert_int_equal(params->count, 6);
    assert_string_equal(params->entry[1]->name, "rnn.u_f_l0");
    fill_with_dice(params, 21);
    dice d = dice_of(4);
    tl_tensor *inputs[10] = {random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1),
                             random_tensor(&d, TL_F64, TL_SHAPE(B, H), -1, 1)};
    for (int p = 0; p < params->count; p++)
        inputs[2 + p] = params->entry[p]->value;

    tl_tape *t = tl_tape_new(NULL);
    tl_var v = tl_constant(t, inputs[1]), y = tl_unroll(t, &rnn, tl_constant(t, inputs[0]), &v);
    for (int64_t b = 0; b < B; b++) {
        double h[H], x[I];
        for (int64_t j = 0; j < H; j++)
            h[j] = tl_tensor_get(inputs[1], b * H + j);
        for (int64_t step = 0; step < T; step++) {
            for (int64_t i = 0; i < I; i++)
                x[i] = tl_tensor_get(inputs[0], (step * B + b) * I + i);
            naive_mgu(&rnn, H, x, h);
            for (int64_t j = 0; j < H; j++)
                assert_near(item_at(t, y, (step * B + b) * H + j), h[j], 1e-14);
        }
        for (int64_t j = 0; j < H; j++)
            assert_near(item_at(t, v, b * H + j), h[j], 1e-14);
    }
    tl_tape_free(t);

    tl_gradcheck_report report;
    if (tl_gradcheck(unroll_mgu, &rnn, 2 + params->count, inputs, NULL, &report) != TL_OK)
        fail_msg("%s", report.message);
    tl_tensor_release(inputs[0]);
    tl_tensor_release(inputs[1]);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

/* Layers of different cells and sizes: two networks, one after the other. */
static tl_var unroll_both(tl_tape *t, const tl_var *in, void *context)
{
    const net *n = context; /* two of them */
    tl_var pair[2] = {TL_NONE, TL_NONE}, one = TL_NONE;
    tl_var below = tl_unroll(t, &n[0].rnn, in[0], pair), y = tl_unroll(t, &n[1].rnn, below, &one);
    tl_var all[] = {tl_reshape(t, y, TL_SHAPE(-1)), tl_reshape(t, pair[1], TL_SHAPE(-1)),
                    tl_reshape(t, one, TL_SHAPE(-1))};
    return tl_concat(t, 3, all, 0);
}

static void a_network_of_different_cells(void **state)
{
    (void)state;
    enum { T = 4, B = 2, I = 3, LOWER = 5, UPPER = 7 };
    net n[2] = {net_of(LSTM, I, LOWER, 1, false), net_of(GRU, LOWER, UPPER, 1, false)};
    dice d = dice_of(5);
    tl_tensor *inputs[16] = {random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1)};
    double c[2 * B * LOWER] = {0}, g[2 * B * UPPER] = {0}, below[T * B * LOWER], above[T * B * UPPER];
    naive_unroll(&n[0], inputs[0], c, below);
    tl_tensor *middle = tensor_of(TL_F64, TL_SHAPE(T, B, LOWER), below);
    naive_unroll(&n[1], middle, g, above);
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = tl_constant(t, inputs[0]), y = unroll_both(t, &x, n);
    assert_shape(t, y, "[80]");
    for (int64_t i = 0; i < T * B * UPPER; i++)
        assert_near_at(item_at(t, y, i), above[i], 1e-14, i);
    for (int64_t i = 0; i < B * LOWER; i++)
        assert_near_at(item_at(t, y, T * B * UPPER + i), c[B * LOWER + i], 1e-14, i);
    for (int64_t i = 0; i < B * UPPER; i++)
        assert_near_at(item_at(t, y, T * B * UPPER + B * LOWER + i), g[i], 1e-14, i);
    assert_ok(t);
    tl_tape_free(t);
    int count = 1;
    for (int k = 0; k < 2; k++)
        for (int p = 0; p < n[k].params->count; p++)
            inputs[count++] = n[k].params->entry[p]->value;
    tl_gradcheck_report report;
    if (tl_gradcheck(unroll_both, n, count, inputs, NULL, &report) != TL_OK)
        fail_msg("%s", report.message);
    tl_tensor_release(inputs[0]);
    tl_tensor_release(middle);
    net_free(&n[0]);
    net_free(&n[1]);
}

/* The fused gates and the same in primitives: values, and the gradients of everything, of first and
 * second order. */
static void compare_forms(int fused, int composed, const int64_t size[4], int layers)
{
    int64_t steps = size[0], batch = size[1], input = size[2], hidden = size[3];
    int states = kinds[fused].states;
    dice d = dice_of(12);
    net n[2] = {net_of(fused, input, hidden, layers, false),
                net_of(composed, input, hidden, layers, false)};
    tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(steps, batch, input), -1, 1);
    tl_tensor *h = random_tensor(&d, TL_F64, TL_SHAPE(batch, hidden), -1, 1);
    tl_tape *t = tl_tape_new(&(tl_tape_config){.threads = 2});
    tl_var ask[2][20], first[2][20], second[2][20];
    uint32_t variables[2];
    int count = n[0].params->count + 2;
    for (int k = 0; k < 2; k++) {
        tl_var own[2 * MOST_LAYERS] = {TL_NONE}; /* all of them */
        own[states - 1] = tl_leaf(t, h, NULL);
        ask[k][0] = tl_leaf(t, x, NULL);
        ask[k][1] = own[states - 1];
        for (int p = 0; p < n[k].params->count; p++)
            ask[k][2 + p] = tl_use(t, n[k].params->entry[p]);
        variables[k] = tl_tape_measure(t).variables;
        tl_var y = tl_unroll(t, &n[k].rnn, ask[k][0], own);
        variables[k] = tl_tape_measure(t).variables - variables[k];
        tl_var loss = tl_add(t, tl_mean(t, tl_square(t, y)), tl_mean(t, tl_exp(t, own[states - 1])));
        tl_grad(t, loss, TL_NONE, count, ask[k], false, first[k]);
        tl_var again[20], norm = loss;
        tl_grad(t, loss, TL_NONE, count, ask[k], true, again);
        for (int p = 0; p < count; p++)
            norm = tl_add(t, norm, tl_sum(t, tl_square(t, again[p])));
        tl_grad(t, norm, TL_NONE, count, ask[k], false, second[k]);
        assert_ok(t);
        for (int p = 0; p < count; p++)
            assert_vars(t, first[k][p], again[p], 1e-14);
    }
    assert_true(variables[0] < variables[1]);
    for (int p = 0; p < count; p++) {
        assert_vars(t, first[0][p], first[1][p], 1e-14);
        assert_vars(t, second[0][p], second[1][p], 1e-13);
    }
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(h);
    net_free(&n[0]);
    net_free(&n[1]);
}

static void fused_gates_equal_composed_ones(void **state)
{
    (void)state;
    static const struct {
        int64_t size[4]; /* T, B, I, H */
        int layers;
    } cases[] = {{{1, 1, 1, 1}, 1},
                 {{5, 3, 4, 7}, 2},
                 {{4, 65, 5, 64}, 1},
                 {{6, 2, 9, 33}, 3}}; /* some rows are shared */
    for (int c = 0; c < COUNT_OF(cases); c++) {
        compare_forms(LSTM, COMPOSED_LSTM, cases[c].size, cases[c].layers);
        compare_forms(GRU, COMPOSED_GRU, cases[c].size, cases[c].layers);
    }
}

/* ---- stretches -------------------------------------------------------------------------- */

static void a_sequence_in_two_parts(void **state)
{
    (void)state;
    enum { T = 7, T1 = 3, B = 2, I = 3, H = 4 };
    dice d = dice_of(6);
    for (int k = 0; k < COUNT_OF(kinds); k++) {
        net n = net_of(k, I, H, 2, false);
        tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1);
        tl_tape *t = tl_tape_new(NULL);
        tl_var whole[4] = {TL_NONE, TL_NONE, TL_NONE, TL_NONE},
               parts[4] = {TL_NONE, TL_NONE, TL_NONE, TL_NONE};
        tl_var v = tl_leaf(t, x, NULL), y = tl_unroll(t, &n.rnn, v, whole), grads[2], both[2];
        both[0] = tl_unroll(t, &n.rnn, tl_slice(t, v, 0, 0, T1, 1), parts);
        both[1] = tl_unroll(t, &n.rnn, tl_slice(t, v, 0, T1, T, 1), parts);
        tl_var joined = tl_concat(t, 2, both, 0);
        assert_vars(t, joined, y, 1e-15);
        for (int s = 0; s < tl_rnn_states(&n.rnn); s++)
            assert_vars(t, parts[s], whole[s], 1e-15);
        tl_grad(t, tl_sum(t, tl_square(t, y)), TL_NONE, 1, &v, false, &grads[0]);
        tl_grad(t, tl_sum(t, tl_square(t, joined)), TL_NONE, 1, &v, false, &grads[1]);
        assert_vars(t, grads[1], grads[0], 1e-14);
        assert_ok(t);
        tl_tape_free(t);
        tl_tensor_release(x);
        net_free(&n);
    }
}

/* ---- truncated BPTT --------------------------------------------------------------------- */

typedef struct job {
    net n;
    tl_tensor *x; /* [T,B,I] */
    int updates;
    int64_t from[16], to[16];
    double loss[16];
    int stop_after; /* updates; 0: never */
} job;

static tl_var record(tl_tape *t, void *model, int64_t from, int64_t to, tl_var *state)
{
    job *j = model;
    tl_var x = tl_slice(t, tl_constant(t, j->x), 0, from, to, 1);
    return tl_sum(t, tl_square(t, tl_unroll(t, &j->n.rnn, x, state)));
}

static bool update(void *model, const tl_bptt_pass *pass)
{
    job *j = model;
    assert_true(j->updates < 16);
    j->from[j->updates] = pass->from;
    j->to[j->updates] = pass->to;
    j->loss[j->updates++] = pass->loss;
    return j->updates != j->stop_after;
}

static void truncated_equals_cut_by_hand(void **state)
{
    (void)state;
    enum { T = 7, B = 2, I = 3, H = 4, LAYERS = 2 };
    dice d = dice_of(7);
    for (int k = 0; k < COUNT_OF(kinds); k++)
        for (int64_t k1 = 0; k1 <= T + 2; k1++) {
            job j = {.n = net_of(k, I, H, LAYERS, false)};
            j.x = random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1);
            tl_tape *t = tl_tape_new(NULL);
            int states = tl_rnn_states(&j.n.rnn);
            tl_var state4[4] = {TL_NONE, TL_NONE, TL_NONE, TL_NONE};
            tl_bptt bptt = {.k1 = k1, .model = &j, .record = record, .update = update};
            assert_int_equal(tl_bptt_run(t, &bptt, T, states, state4), TL_OK);
            int64_t stretch = k1 == 0 || k1 > T ? T : k1, stretches = (T + stretch - 1) / stretch;
            assert_int_equal(j.updates, stretches);
            tl_tensor *final[4], *gradient[32];
            for (int s = 0; s < states; s++) {
                assert_false(tl_needs_gradient(t, state4[s]));
                final[s] = value_of(t, state4[s]);
            }
            for (int p = 0; p < j.n.params->count;
                 p++) /* not set to zero in between: the sum of all stretches */
                gradient[p] = tl_tensor_copy(j.n.params->entry[p]->gradient, TL_F64, NULL);
            tl_zero_gradients(j.n.params);

            /* by hand: one graph, cut with detach */
            tl_tape_reset(t);
            tl_var total = tl_full(t, TL_F64, 0, NULL, 0),
                   own[4] = {TL_NONE, TL_NONE, TL_NONE, TL_NONE};
            for (int64_t from = 0, i = 0; from < T; from += stretch, i++) {
                int64_t to = from + stretch < T ? from + stretch : T;
                assert_int_equal(j.from[i], from);
                assert_int_equal(j.to[i], to);
                for (int s = 0; from && s < states; s++)
                    own[s] = tl_detach(t, own[s]);
                tl_var loss = record(t, &j, from, to, own);
                assert_near(j.loss[i], tl_item(t, loss), 1e-14);
                total = tl_add(t, total, loss);
            }
            assert_int_equal(tl_backward(t, total), TL_OK);
            for (int p = 0; p < j.n.params->count; p++) {
                assert_tensors(gradient[p], j.n.params->entry[p]->gradient, 1e-14);
                tl_tensor_release(gradient[p]);
            }
            for (int s = 0; s < states; s++) {
                assert_vars(t, tl_constant(t, final[s]), own[s], 1e-15);
                tl_tensor_release(final[s]);
            }
            tl_tape_free(t);
            tl_tensor_release(j.x);
            net_free(&j.n);
        }
}

/* Truncation changes gradients (or it would not be one). */
static void truncation_is_seen(void **state)
{
    (void)state;
    enum { T = 6, B = 1, I = 2, H = 3 };
    dice d = dice_of(8);
    double norm[2];
    for (int k = 0; k < 2; k++) {
        job j = {.n = net_of(ELMAN, I, H, 1, false)};
        d = dice_of(8);
        j.x = random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1);
        tl_tape *t = tl_tape_new(NULL);
        tl_var h = TL_NONE;
        assert_int_equal(
            tl_bptt_run(t, &(tl_bptt){.k1 = k ? 2 : 0, .model = &j, .record = record}, T, 1, &h),
            TL_OK);
        norm[k] = tl_gradient_norm(j.n.params);
        tl_tape_free(t);
        tl_tensor_release(j.x);
        net_free(&j.n);
    }
    assert_true(fabs(norm[0] - norm[1]) > 1e-3);
}

static void a_run_can_be_ended(void **state)
{
    (void)state;
    enum { T = 7, B = 1, I = 2, H = 3 };
    dice d = dice_of(9);
    job j = {.n = net_of(GRU, I, H, 1, false), .stop_after = 2};
    j.x = random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1);
    tl_tape *t = tl_tape_new(NULL);
    tl_var h = TL_NONE, other = TL_NONE;
    tl_bptt bptt = {.k1 = 2, .model = &j, .record = record, .update = update};
    assert_int_equal(tl_bptt_run(t, &bptt, T, 1, &h), TL_OK);
    assert_int_equal(j.updates, 2);
    tl_tensor *reached = value_of(t, h);
    tl_tape_reset(t);
    record(t, &j, 0, 4, &other); /* four steps were done */
    assert_vars(t, tl_constant(t, reached), other, 1e-15);
    assert_int_equal(tl_bptt_run(t, &bptt, 0, 1, &other), TL_OK); /* no steps: nothing happens */
    assert_int_equal(j.updates, 2);
    tl_tensor_release(reached);
    tl_tape_free(t);
    tl_tensor_release(j.x);
    net_free(&j.n);
}

static tl_var record_nonsense(tl_tape *t, void *model, int64_t from, int64_t to, tl_var *state)
{
    tl_var loss = record(t, model, from, to, state);
    return from < 4 ? loss : tl_add(t, loss, tl_full(t, TL_F32, 0, NULL, 1));
}

static void a_run_ends_with_the_first_error(void **state)
{
    (void)state;
    enum { T = 7, B = 1, I = 2, H = 3 };
    dice d = dice_of(10);
    job j = {.n = net_of(GRU, I, H, 1, false)};
    j.x = random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1);
    tl_tape *t = tl_tape_new(NULL);
    tl_var h = TL_NONE;
    tl_bptt bptt = {.k1 = 2, .model = &j, .record = record_nonsense, .update = update};
    assert_int_equal(tl_bptt_run(t, &bptt, T, 1, &h), TL_ERR_DTYPE);
    assert_int_equal(j.updates, 2);
    assert_error(t, TL_ERR_DTYPE, "add: operands differ in dtype: f64 and f32");
    tl_tape_free(t);
    tl_tensor_release(j.x);
    net_free(&j.n);
}

/* Memory does not grow with the number of stretches. */
static void a_long_run_needs_no_more_memory(void **state)
{
    (void)state;
    enum { T = 120, B = 2, I = 2, H = 3 };
    dice d = dice_of(11);
    job j = {.n = net_of(LSTM, I, H, 2, false)};
    j.x = random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1);
    tl_tape *t = tl_tape_new(NULL);
    tl_var h[4] = {TL_NONE, TL_NONE, TL_NONE, TL_NONE};
    tl_bptt bptt = {.k1 = 4, .model = &j, .record = record};
    assert_int_equal(tl_bptt_run(t, &bptt, 12, 4, h), TL_OK);
    tl_tape_usage before = tl_tape_measure(t);
    assert_int_equal(tl_bptt_run(t, &bptt, T, 4, h), TL_OK);
    tl_tape_usage after = tl_tape_measure(t);
    assert_int_equal(after.system_calls, before.system_calls);
    assert_int_equal(after.held, before.held);
    assert_int_equal(after.live, before.live);
    tl_tape_free(t);
    tl_tensor_release(j.x);
    net_free(&j.n);
}

/* ---- errors ----------------------------------------------------------------------------- */

typedef struct trouble {
    int64_t step, input; /* when the state comes back one too wide, in the layer with so many inputs */
} trouble;

static void wider_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const trouble *o = c->options;
    (void)x;
    if (c->step == o->step && c->input == o->input)
        state[0] = tl_full(c->tape, TL_F64, TL_SHAPE(c->batch, c->hidden + 1), 0);
    else
        state[0] = tl_tanh(c->tape, state[0]);
}

static void narrower_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    (void)x;
    state[0] = tl_full(c->tape, TL_F32, TL_SHAPE(c->batch, c->hidden), 0);
}

static void forgetful_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    (void)c, (void)x;
    state[0] = TL_NONE;
}

static tl_var short_input(const tl_cell_call *c, tl_var x)
{
    return tl_slice(c->tape, x, 0, 0, 2, 1);
}

static const tl_cell_type wide = {
    .name = "wide", .states = {{"h", "H"}}, .step = wider_step, .options_bytes = sizeof(trouble)};
static const tl_cell_type narrow = {.name = "narrow", .states = {{"h", "H"}}, .step = narrower_step};
static const tl_cell_type forgetful = {
    .name = "forgetful", .states = {{"h", "H"}}, .step = forgetful_step};
static const tl_cell_type cut = {.name = "cut",
                                 .states = {{"h", "H"}},
                                 .input = short_input,
                                 .step = wider_step,
                                 .options_bytes = sizeof(trouble)};

static void unroll_trouble(tl_tape *t, const tl_cell_type *cell, trouble trouble, tl_var x)
{
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_rnn rnn;
    tl_rnn_init(&rnn, params,
                &(tl_rnn_config){.cell = cell,
                                 .options = cell->options_bytes ? &trouble : NULL,
                                 .input = 3,
                                 .hidden = 4,
                                 .layers = 2});
    assert_int_equal(tl_params_status(params), TL_OK);
    assert_int_equal(params->count, 0);
    tl_unroll(t, &rnn, x, NULL);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

static void errors_name_cell_layer_and_step(void **state)
{
    (void)state;
    enum { T = 3, B = 2, I = 3, H = 3 };
    net n = net_of(LSTM, I, H, 2, false);
    tl_tape *t = tl_tape_new(NULL);
    const tl_rnn *rnn = &n.rnn;
#define X(...) tl_full(t, TL_F64, TL_SHAPE(__VA_ARGS__), 0.5)
    tl_var s[4] = {TL_NONE, TL_NONE, TL_NONE, X(2, 4)};
    tl_unroll(t, rnn, X(T, B, I), s);
    assert_error(t, TL_ERR_SHAPE,
                 "unroll: lstm cell: state c given is f64 [2,4], not f64 [2,3] (layer 1)");
    tl_var u[4] = {X(3, 3), TL_NONE, TL_NONE, TL_NONE};
    tl_unroll(t, rnn, X(T, B, I), u);
    assert_error(t, TL_ERR_SHAPE,
                 "unroll: lstm cell: state h given is f64 [3,3], not f64 [2,3] (layer 0)");
    tl_var r[4] = {X(3), TL_NONE, TL_NONE, TL_NONE};
    tl_unroll(t, rnn, X(T, B, I), r);
    assert_error(t, TL_ERR_SHAPE,
                 "unroll: lstm cell: state h given is f64 [3], not f64 [2,3] (layer 0)");
    tl_var f[4] = {tl_full(t, TL_F32, TL_SHAPE(B, H), 0), TL_NONE, TL_NONE, TL_NONE};
    tl_unroll(t, rnn, X(T, B, I), f);
    assert_error(t, TL_ERR_SHAPE,
                 "unroll: lstm cell: state h given is f32 [2,3], not f64 [2,3] (layer 0)");
    tl_unroll(t, rnn, X(T, B, I + 1), NULL);
    assert_error(t, TL_ERR_SHAPE, "unroll: lstm network wants [T,B,3] with T >= 1, not [3,2,4]");
    tl_unroll(t, rnn, X(T, I), NULL);
    assert_error(t, TL_ERR_SHAPE, "unroll: lstm network wants [T,B,3] with T >= 1, not [3,3]");
    tl_unroll(t, rnn, X(0, B, I), NULL);
    assert_error(t, TL_ERR_SHAPE, "unroll: lstm network wants [T,B,3] with T >= 1, not [0,2,3]");
    tl_unroll(t, rnn, TL_NONE, NULL);
    assert_error(t, TL_ERR_ARGUMENT, "value: a required variable is TL_NONE");
    tl_unroll(t, rnn, tl_full(t, TL_F32, TL_SHAPE(T, B, I), 0), NULL);
    assert_error(t, TL_ERR_DTYPE, "linear: operands differ in dtype: f32 and f64 (layer 0)");

    unroll_trouble(t, &wide, (trouble){0, 3}, X(T, B, I));
    assert_error(t, TL_ERR_SHAPE,
                 "unroll: wide cell: state h returned is f64 [2,5], not f64 [2,4] (layer 0, step 0)");
    unroll_trouble(t, &wide, (trouble){1, 4}, X(T, B, I));
    assert_error(t, TL_ERR_SHAPE,
                 "unroll: wide cell: state h returned is f64 [2,5], not f64 [2,4] (layer 1, step 1)");
    unroll_trouble(t, &narrow, (trouble){0, 0}, X(T, B, I));
    assert_error(t, TL_ERR_SHAPE,
                 "unroll: narrow cell: state h returned is f32 [2,4], not f64 [2,4] (layer 0, step 0)");
    unroll_trouble(t, &forgetful, (trouble){0, 0}, X(T, B, I));
    assert_error(t, TL_ERR_ARGUMENT,
                 "unroll: forgetful cell: state h returned is TL_NONE (layer 0, step 0)");
    unroll_trouble(t, &cut, (trouble){-1, 0}, X(T, B, I));
    assert_error(t, TL_ERR_SHAPE,
                 "unroll: cut cell: input returned [2,2,3], not [3,2,..], steps first (layer 0)");

    tl_tape_fail(t, TL_ERR_CHECK, "before");
    assert_null(tl_value(t, tl_unroll(t, rnn, X(T, B, I), NULL)).data);
    assert_error(t, TL_ERR_CHECK, "before");
    assert_shape(t, tl_unroll(t, rnn, X(T, B, I), NULL), "[3,2,3]"); /* all is well again */
    assert_ok(t);
#undef X
    tl_tape_free(t);
    net_free(&n);
}

static void a_model_that_was_not_built(void **state)
{
    (void)state;
    const char *const not_built = "unroll: the network was not built, see tl_params_status";
    const tl_rnn_config bad[] = {{.cell = &tl_gru_cell, .input = 0, .hidden = 3, .layers = 1},
                                 {.cell = &tl_gru_cell, .input = 2, .hidden = -1, .layers = 1},
                                 {.cell = &tl_lstm_cell, .input = 2, .hidden = 3, .layers = 0},
                                 {.input = 2, .hidden = 3, .layers = 1}};
    tl_tape *t = tl_tape_new(NULL);
    for (int k = 0; k < COUNT_OF(bad); k++) {
        tl_params *params = tl_params_new(TL_F64, 1);
        tl_rnn rnn;
        tl_rnn_init(&rnn, params, &bad[k]);
        assert_int_equal(tl_params_status(params), TL_ERR_ARGUMENT);
        tl_unroll(t, &rnn, tl_full(t, TL_F64, TL_SHAPE(2, 2, 2), 0), NULL);
        assert_error(t, TL_ERR_ARGUMENT, not_built);
        assert_int_equal(tl_rnn_states(&rnn), 0);
        assert_int_equal(tl_rnn_output(&rnn), 0);
        assert_null(tl_rnn_weight(&rnn, 0, 0, "weight_ih"));
        tl_rnn_free(&rnn);
        tl_params_free(params);
    }
    tl_params *params = tl_params_new(TL_F64, 1); /* a name that exists already */
    tl_rnn first, second;
    const tl_rnn_config same = {.cell = &tl_gru_cell, .input = 2, .hidden = 3, .layers = 1};
    tl_rnn_init(&first, params, &same);
    tl_rnn_init(&second, params, &same);
    assert_int_equal(tl_params_status(params), TL_ERR_ARGUMENT);
    assert_string_equal(params->error.message, "parameter rnn.weight_ih_l0 exists already");
    tl_unroll(t, &second, tl_full(t, TL_F64, TL_SHAPE(2, 2, 2), 0), NULL);
    assert_error(t, TL_ERR_ARGUMENT, not_built);
    tl_tape_free(t);
    tl_rnn_free(&first);
    tl_rnn_free(&second);
    tl_params_free(params);
}

/* ---- configurations --------------------------------------------------------------------- */

typedef struct two {
    tl_var a, b;
} two;

static int64_t no_size(const tl_rnn_config *config, const void *options, char letter)
{
    (void)config, (void)options;
    return letter == 'K' ? 7 : 0;
}

static const char *refuse_odd(const tl_rnn_config *config, const void *options)
{
    const trouble *o = options;
    return config->hidden % 2 ? "an odd size" : o->step ? "an option that it dislikes" : NULL;
}

static const tl_cell_weight one_missing[] = {TL_WEIGHT(two, a, .shape = "H"), TL_WEIGHTS_END};
static const tl_cell_weight same_place[] = {
    TL_WEIGHT(two, a, .shape = "H"), {.name = "b", .offset = 0, .shape = "H"}, TL_WEIGHTS_END};
static const tl_cell_weight between[] = {
    {.name = "a", .offset = 3, .shape = "H"}, TL_WEIGHT(two, b, .shape = "H"), TL_WEIGHTS_END};
static const tl_cell_weight beyond[] = {TL_WEIGHT(two, a, .shape = "H"),
                                        {.name = "b", .offset = sizeof(two), .shape = "H"},
                                        TL_WEIGHTS_END};
static const tl_cell_weight no_shape[] = {TL_WEIGHT(two, a, .shape = "2H,K"),
                                          TL_WEIGHT(two, b, .shape = "H,Q"), TL_WEIGHTS_END};
static const tl_cell_weight half_shape[] = {TL_WEIGHT(two, a, .shape = "3"),
                                            TL_WEIGHT(two, b, .shape = "HI"), TL_WEIGHTS_END};

#define STEP .states = {{"h", "H"}}, .step = keep_step

static const tl_cell_type cell_short = {
    .name = "short", .bytes = sizeof(two), .weights = one_missing, STEP};
static const tl_cell_type cell_same = {
    .name = "same", .bytes = sizeof(two), .weights = same_place, STEP};
static const tl_cell_type cell_between = {
    .name = "between", .bytes = sizeof(two), .weights = between, STEP};
static const tl_cell_type cell_beyond = {
    .name = "beyond", .bytes = sizeof(two), .weights = beyond, STEP};
static const tl_cell_type cell_shape = {
    .name = "shape", .bytes = sizeof(two), .weights = no_shape, .size = no_size, STEP};
static const tl_cell_type cell_half = {
    .name = "half", .bytes = sizeof(two), .weights = half_shape, STEP};
static const tl_cell_type cell_room = {.name = "room", .bytes = 5, STEP};
static const tl_cell_type cell_lost = {.name = "lost", .step = keep_step};
static const tl_cell_type cell_many = {
    .name = "many",
    .states = {{"a", "H"}, {"b", "H"}, {"c", "H"}, {"d", "H"}, {"e", "H"}},
    .step = keep_step};
static const tl_cell_type cell_matrix = {.name = "matrix", .states = {{"m", "H,H"}}, .step = keep_step};
static const tl_cell_type cell_letter = {
    .name = "letter", .states = {{"h", "H"}, {"z", "Z"}}, .step = keep_step};
static const tl_cell_type cell_idle = {.name = "idle", .states = {{"h", "H"}}};
static const tl_cell_type cell_picky = {
    .name = "picky", STEP, .options_bytes = sizeof(trouble), .refuse = refuse_odd};

static void configurations_that_make_no_sense(void **state)
{
    (void)state;
    static const char *const odds = "rnn of elman cells: probabilities of dropping lie between 0 and 1";
#define BASE     .input = 2, .hidden = 3, .layers = 1
#define OF_ELMAN .cell = &tl_elman_cell, BASE
    const struct {
        tl_rnn_config config;
        const char *message;
    } cases[] = {
        {{BASE}, "rnn of no cells: no cell"},
        {{.cell = &tl_gru_cell, .input = 0, .hidden = 3, .layers = 1},
         "rnn of gru cells: input 0, hidden 3, layers 1 must be at least 1, projection 0 at least 0"},
        {{.cell = &tl_gru_cell, .input = 2, .hidden = -1, .layers = 1},
         "rnn of gru cells: input 2, hidden -1, layers 1 must be at least 1, projection 0 at least 0"},
        {{.cell = &tl_gru_cell, .input = 2, .hidden = 3},
         "rnn of gru cells: input 2, hidden 3, layers 0 must be at least 1, projection 0 at least 0"},
        {{.cell = &tl_lstm_cell, BASE, .projection = -2},
         "rnn of lstm cells: input 2, hidden 3, layers 1 must be at least 1, projection -2 at least 0"},
        {{.cell = &tl_gru_cell, BASE, .projection = 2}, "rnn of gru cells: they have no projection"},
        {{OF_ELMAN, .projection = 2}, "rnn of elman cells: they have no projection"},
        {{OF_ELMAN, .init = (tl_rnn_scheme)9},
         "rnn of elman cells: no initialisation 9, or no connection 0"},
        {{OF_ELMAN, .connection = (tl_connection)3},
         "rnn of elman cells: no initialisation 0, or no connection 3"},
        {{OF_ELMAN, .dropout = -0.1}, odds},
        {{OF_ELMAN, .variational = 1.1}, odds},
        {{OF_ELMAN, .recurrent_dropout = NAN}, odds},
        {{OF_ELMAN, .drop_connect = 2}, odds},
        {{OF_ELMAN, .zoneout = {0, 0, 0, -1}}, odds},
        {{.cell = &cell_short, BASE},
         "rnn of short cells: its struct has 2 variables, its list 1 weights: number 2 of the struct "
         "has "
         "none"},
        {{.cell = &cell_room, BASE},
         "rnn of room cells: its 5 bytes are not those of a struct of variables, 16 each"},
        {{.cell = &cell_same, BASE},
         "rnn of same cells: weights a and b are the same variable of its struct"},
        {{.cell = &cell_between, BASE},
         "rnn of between cells: weight a: its offset is not that of a variable of its struct"},
        {{.cell = &cell_beyond, BASE},
         "rnn of beyond cells: weight b: its offset is not that of a variable of its struct"},
        {{.cell = &cell_shape, BASE},
         "rnn of shape cells: weight b: \"H,Q\": the size of Q is not known; H, I and P are, others "
         "the cell's `size` must tell"},
        {{.cell = &cell_half, BASE},
         "rnn of half cells: weight b: \"HI\" is not a shape: sizes with commas between, each a "
         "number, a letter or both, as \"4H,I\""},
        {{.cell = &cell_lost, BASE}, "rnn of lost cells: 1 to 4 states"},
        {{.cell = &cell_many, BASE}, "rnn of many cells: 1 to 4 states"},
        {{.cell = &cell_matrix, BASE},
         "rnn of matrix cells: state 0 (m) is the output, and must have one dimension, not \"H,H\""},
        {{.cell = &cell_letter, BASE},
         "rnn of letter cells: state z: \"Z\": the size of Z is not known; H, I and P are, others the "
         "cell's `size` must tell"},
        {{.cell = &cell_idle, BASE}, "rnn of idle cells: no step"},
        {{.cell = &cell_picky, BASE}, "rnn of picky cells: an odd size"},
        {{.cell = &cell_picky, .input = 2, .hidden = 4, .layers = 1, .options = &(trouble){.step = 1}},
         "rnn of picky cells: an option that it dislikes"},
    };
    for (int k = 0; k < COUNT_OF(cases); k++) {
        tl_params *params = tl_params_new(TL_F64, 1);
        tl_rnn rnn;
        char text[1024] = "";
        tl_rnn_init(&rnn, params, &cases[k].config);
        assert_int_equal(tl_params_status(params), TL_ERR_ARGUMENT);
        assert_string_equal(params->error.message, cases[k].message);
        tl_rnn_free(&rnn);
        tl_params_free(params);
        FILE *stream = fmemopen(text, sizeof text, "w"); /* in words it is the same */
        assert_int_equal(tl_cell_describe(&cases[k].config, stream), TL_ERR_ARGUMENT);
        fclose(stream);
        assert_int_equal(strlen(text), strlen(cases[k].message) + 1);
        assert_memory_equal(text, cases[k].message, strlen(cases[k].message));
    }
    tl_params *params = tl_params_new(TL_F64, 1); /* and without options, its defaults */
    tl_rnn rnn;
    tl_rnn_init(&rnn, params,
                &(tl_rnn_config){.cell = &cell_picky, .input = 2, .hidden = 4, .layers = 1});
    assert_int_equal(tl_params_status(params), TL_OK);
    assert_non_null(rnn.config.options);
    assert_null(tl_rnn_weight(&rnn, 0, 0, "a"));
    assert_null(tl_rnn_weight(&rnn, 1, 0, "a"));
    assert_null(tl_rnn_weight(&rnn, 0, -1, "a"));
    tl_rnn_free(&rnn);
    tl_rnn_free(&rnn); /* twice is fine */
    tl_params_free(params);
}

/* ---- first values ----------------------------------------------------------------------- */

/* The same numbers for the same seed, for ever: per layer w_ih, w_hh, b_ih, b_hh. */
static void numbers_are_drawn_in_one_order(void **state)
{
    (void)state;
    enum { I = 3, H = 4, LAYERS = 2 };
    static const char *const name[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    for (int k = ELMAN; k <= GRU; k++) {
        tl_params *params = tl_params_new(TL_F32, 7);
        tl_random random = tl_random_seed(7);
        tl_rnn rnn;
        tl_rnn_init(&rnn, params,
                    &(tl_rnn_config){.cell = kinds[k].cell, .input = I, .hidden = H, .layers = LAYERS});
        assert_int_equal(params->count, 4 * LAYERS);
        for (int layer = 0; layer < LAYERS; layer++)
            for (int p = 0; p < 4; p++) {
                const int64_t shape[2] = {kinds[k].gates * H, p == 0 && !layer ? I : H};
                tl_tensor *drawn = tl_tensor_empty(TL_F32, p < 2 ? 2 : 1, shape, NULL);
                tl_init_uniform(&random, drawn, H);
                const tl_param *found = tl_rnn_weight(&rnn, layer, 0, name[p]);
                assert_ptr_equal(found, params->entry[4 * layer + p]);
                assert_tensors(found->value, drawn, 0);
                tl_tensor_release(drawn);
            }
        tl_rnn_free(&rnn);
        tl_params_free(params);
    }
}

static double at(const tl_rnn *rnn, const char *name, int64_t i)
{
    return tl_tensor_get(tl_rnn_weight(rnn, 0, 0, name)->value, i);
}

static void the_identity_at_first(void **state)
{
    (void)state;
    enum { I = 40, H = 30 };
    tl_params *params = tl_params_new(TL_F64, 7);
    tl_rnn rnn;
    tl_rnn_init(
        &rnn, params,
        &(tl_rnn_config){
            .cell = &tl_gru_cell, .input = I, .hidden = H, .layers = 1, .init = TL_RNN_IDENTITY});
    double squares = 0;
    for (int64_t i = 0; i < 3 * H * H; i++)
        assert_same(at(&rnn, "weight_hh", i), i / H % H == i % H);
    for (int64_t i = 0; i < 3 * H * I; i++)
        squares += at(&rnn, "weight_ih", i) * at(&rnn, "weight_ih", i);
    assert_near(sqrt(squares / (3 * H * I)) * 1e3, 1, 0.05);
    for (int64_t i = 0; i < 3 * H; i++)
        assert_true(at(&rnn, "bias_ih", i) == 0 && at(&rnn, "bias_hh", i) == 0);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

typedef struct all_kinds {
    tl_var zeros, value, uniform, normal, xavier, orthogonal, identity, scheme, made;
} all_kinds;

static const tl_cell_weight all_kinds_weights[] = {
    TL_WEIGHT(all_kinds, zeros, .shape = "H", .init = TL_INIT_ZEROS),
    TL_WEIGHT(all_kinds, value, .shape = "2,3", .init = TL_INIT_VALUE, .value = -2.5),
    TL_WEIGHT(all_kinds, uniform, .shape = "H,I", .init = TL_INIT_UNIFORM),
    TL_WEIGHT(all_kinds, normal, .shape = "4H,H", .init = TL_INIT_NORMAL, .value = 3),
    TL_WEIGHT(all_kinds, xavier, .shape = "2H,I", .init = TL_INIT_XAVIER),
    TL_WEIGHT(all_kinds, orthogonal, .shape = "2H,H", .init = TL_INIT_ORTHOGONAL),
    TL_WEIGHT(all_kinds, identity, .shape = "2H,H", .init = TL_INIT_IDENTITY, .value = -0.5),
    TL_WEIGHT(all_kinds, scheme, .shape = "H,H", .recurrent = true),
    TL_WEIGHT(all_kinds, made, .shape = NULL),
    TL_WEIGHTS_END};

static void make_none(const tl_cell_call *c, void *weights)
{
    (void)c, (void)weights;
}

static const tl_cell_type all_kinds_cell = {.name = "all kinds",
                                            .bytes = sizeof(all_kinds),
                                            .weights = all_kinds_weights,
                                            .begin = make_none,
                                            STEP};

static void weights_with_first_values_of_their_own(void **state)
{
    (void)state;
    enum { I = 20, H = 30 };
    for (int scheme = TL_RNN_UNIFORM; scheme <= TL_RNN_IDENTITY; scheme++) {
        tl_params *params = tl_params_new(TL_F64, 7);
        tl_rnn rnn;
        tl_rnn_init(&rnn, params,
                    &(tl_rnn_config){.cell = &all_kinds_cell,
                                     .input = I,
                                     .hidden = H,
                                     .layers = 1,
                                     .init = (tl_rnn_scheme)scheme});
        assert_int_equal(tl_params_status(params), TL_OK);
        assert_int_equal(params->count, 8); /* what is made is none */
        assert_null(tl_rnn_weight(&rnn, 0, 0, "made"));
        double largest = 0, squares = 0, furthest = 0;
        for (int64_t i = 0; i < H; i++)
            assert_same(at(&rnn, "zeros", i), 0);
        for (int64_t i = 0; i < 6; i++)
            assert_same(at(&rnn, "value", i), -2.5);
        for (int64_t i = 0; i < H * I; i++)
            largest = fmax(largest, fabs(at(&rnn, "uniform", i)));
        for (int64_t i = 0; i < 4 * H * H; i++)
            squares += at(&rnn, "normal", i) * at(&rnn, "normal", i);
        for (int64_t i = 0; i < 2 * H * I; i++)
            furthest = fmax(furthest, fabs(at(&rnn, "xavier", i)));
        assert_near(largest * sqrt(H), 1, 0.01);
        assert_near(sqrt(squares / (4 * H * H)), 3, 0.02);
        assert_near(furthest / sqrt(6. / (H + I)), 1, 0.01); /* of each H rows */
        for (int64_t i = 0; i < 2 * H * H; i++)
            assert_same(at(&rnn, "identity", i), i / H % H == i % H ? -0.5 : 0);
        for (int64_t r = 0; r < 2 * H; r++)
            for (int64_t q = 0; q < 2 * H; q++) {
                double product = 0;
                for (int64_t i = 0; i < H; i++)
                    product += at(&rnn, "orthogonal", r * H + i) * at(&rnn, "orthogonal", q * H + i);
                if (r / H == q / H)
                    assert_near(product, r == q, 1e-12);
            }
        double trace = 0;
        for (int64_t i = 0; i < H; i++)
            trace += at(&rnn, "scheme", i * H + i);
        assert_true((trace == H) == (scheme == TL_RNN_IDENTITY));
        tl_rnn_free(&rnn);
        tl_params_free(params);
    }
}

/* ---- in words --------------------------------------------------------------------------- */

static void a_network_in_words(void **state)
{
    (void)state;
    static const char *const gru =
        "gru\n\n"
        "r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)\n"
        "z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)\n"
        "n = tanh(W_in x + b_in + r (W_hn h + b_hn))     reset after the product\n"
        "n = tanh(W_in x + b_in + W_hn (r h) + b_hn)     reset before\n"
        "h' = (1-z) n + z h\n"
        "Cho et al., EMNLP 2014\n\n"
        "gates, in blocks of H rows: r, z, n\n"
        "state h: [B,H], the output\n\n"
        "parameters (I 2, H 3):\n"
        "  rnn.weight_ih_l0                 [9,2]          18\n"
        "  rnn.weight_hh_l0                 [9,3]          27\n"
        "  rnn.bias_ih_l0                   [9]            9\n"
        "  rnn.bias_hh_l0                   [9]            9\n"
        "  in all                                          63\n";
    static const char *const lstm_parameters =
        "gates, in blocks of H rows: i, f, g, o (i, g, o if coupled)\n"
        "state h: [B,P], the output\n"
        "state c: [B,H]\n\n"
        "parameters (I 2, H 4):\n"
        "  enc.weight_ih_l0                 [12,2]         24\n"
        "  enc.weight_hh_l0                 [12,3]         36\n"
        "  enc.weight_hr_l0                 [3,4]          12\n"
        "  enc.weight_pi_l0                 [4]            4\n"
        "  enc.weight_po_l0                 [4]            4\n"
        "  enc.norm_ih_weight_l0            [12]           12\n"
        "  enc.norm_ih_bias_l0              [12]           12\n"
        "  enc.norm_hh_weight_l0            [12]           12\n"
        "  enc.norm_hh_bias_l0              [12]           12\n"
        "  enc.norm_c_weight_l0             [4]            4\n"
        "  enc.norm_c_bias_l0               [4]            4\n"
        "  enc.h0_l0                        [3]            3\n"
        "  enc.c0_l0                        [4]            4\n"
        "  in all                                          143\n";
    char text[4096] = "";
    FILE *stream = fmemopen(text, sizeof text, "w");
    assert_int_equal(tl_cell_describe(&(tl_rnn_config){.cell = &tl_gru_cell, BASE}, stream), TL_OK);
    fclose(stream);
    assert_string_equal(text, gru);
    memset(text, 0, sizeof text);
    stream = fmemopen(text, sizeof text, "w");
    const tl_lstm_options all = {.peephole = true, .coupled = true, .layer_norm = true};
    const tl_rnn_config config = {.cell = &tl_lstm_cell,
                                  .options = &all,
                                  .input = 2,
                                  .hidden = 4,
                                  .projection = 3,
                                  .layers = 1,
                                  .no_bias = true,
                                  .learned_state = true,
                                  .prefix = "enc."};
    assert_int_equal(tl_cell_describe(&config, stream), TL_OK);
    fclose(stream);
    assert_non_null(
        strstr(text, "f = sigmoid(W_if x + b_if + W_hf h + b_hf)      + p_f c; 1 - i if coupled"));
    assert_non_null(strstr(text, "gates,"));
    assert_string_equal(strstr(text, "gates,"), lstm_parameters);
    memset(text, 0, sizeof text);
    stream = fmemopen(text, sizeof text, "w"); /* one that says nothing of itself */
    assert_int_equal(tl_cell_describe(&(tl_rnn_config){.cell = &echo_cell, BASE}, stream), TL_OK);
    fclose(stream);
    assert_string_equal(
        text, "echo\n\n(no equations given)\n\nstate h: [B,H], the output\n\n"
              "parameters (I 2, H 3):\n  in all                                          0\n");
    stream = fopen("/dev/full", "w");
    if (stream) {
        setvbuf(stream, NULL, _IONBF, 0);
        assert_int_equal(tl_cell_describe(&config, stream), TL_ERR_IO);
        fclose(stream);
    }
}

/* What stands between the layers, and what begins them, has its parameters. */
static void parameters_of_everything(void **state)
{
    (void)state;
    static const char *const names[] = {"rnn.weight_ih_l0",
                                        "rnn.weight_hh_l0",
                                        "rnn.bias_ih_l0",
                                        "rnn.bias_hh_l0",
                                        "rnn.h0_l0",
                                        "rnn.weight_ih_l0_reverse",
                                        "rnn.weight_hh_l0_reverse",
                                        "rnn.bias_ih_l0_reverse",
                                        "rnn.bias_hh_l0_reverse",
                                        "rnn.h0_l0_reverse",
                                        "rnn.norm_weight_l0",
                                        "rnn.norm_bias_l0",
                                        "rnn.weight_ih_l1",
                                        "rnn.weight_hh_l1",
                                        "rnn.bias_ih_l1",
                                        "rnn.bias_hh_l1",
                                        "rnn.h0_l1",
                                        "rnn.weight_ih_l1_reverse",
                                        "rnn.weight_hh_l1_reverse",
                                        "rnn.bias_ih_l1_reverse",
                                        "rnn.bias_hh_l1_reverse",
                                        "rnn.h0_l1_reverse",
                                        "rnn.norm_weight_l1",
                                        "rnn.norm_bias_l1",
                                        "rnn.highway_weight_l1",
                                        "rnn.highway_bias_l1"};
    tl_params *params = tl_params_new(TL_F64, 7);
    tl_rnn rnn;
    tl_rnn_init(&rnn, params,
                &(tl_rnn_config){.cell = &tl_elman_cell,
                                 .input = 2,
                                 .hidden = 3,
                                 .layers = 2,
                                 .bidirectional = true,
                                 .learned_state = true,
                                 .layer_norm = true,
                                 .connection = TL_HIGHWAY});
    assert_int_equal(tl_params_status(params), TL_OK);
    assert_int_equal(params->count, COUNT_OF(names));
    for (int k = 0; k < COUNT_OF(names); k++)
        assert_string_equal(params->entry[k]->name, names[k]);
    assert_int_equal(tl_rnn_states(&rnn), 4);
    assert_int_equal(tl_rnn_output(&rnn), 6);
    assert_ptr_equal(tl_rnn_weight(&rnn, 1, 1, "bias_hh"), params->entry[20]);
    for (int64_t i = 0; i < 6; i++) {
        assert_same(tl_tensor_get(params->entry[10]->value, i), 1);
        assert_same(tl_tensor_get(params->entry[11]->value, i), 0);
        assert_same(tl_tensor_get(params->entry[25]->value, i), -1);
        assert_true(fabs(tl_tensor_get(params->entry[24]->value, i)) <= 1 / sqrt(6));
    }
    for (int64_t i = 0; i < 3; i++)
        assert_same(tl_tensor_get(params->entry[9]->value, i), 0);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

/* No batch at all. */
static void an_empty_batch(void **state)
{
    (void)state;
    for (int k = 0; k < COUNT_OF(kinds); k++) {
        net n = net_of(k, 3, 4, 2, false);
        tl_tape *t = tl_tape_new(NULL);
        tl_var y = tl_unroll(t, &n.rnn, tl_full(t, TL_F64, TL_SHAPE(5, 0, 3), 0), NULL);
        assert_shape(t, y, "[5,0,4]");
        assert_int_equal(tl_backward(t, tl_sum(t, y)), TL_OK);
        assert_same(tl_gradient_norm(n.params), 0);
        tl_tape_free(t);
        net_free(&n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_and_states_are_the_equations),
        cmocka_unit_test(gradients_through_five_steps),
        cmocka_unit_test(gradients_of_gradients_through_time),
        cmocka_unit_test(a_cell_of_ones_own),
        cmocka_unit_test(a_network_of_different_cells),
        cmocka_unit_test(fused_gates_equal_composed_ones),
        cmocka_unit_test(a_sequence_in_two_parts),
        cmocka_unit_test(truncated_equals_cut_by_hand),
        cmocka_unit_test(truncation_is_seen),
        cmocka_unit_test(a_run_can_be_ended),
        cmocka_unit_test(a_run_ends_with_the_first_error),
        cmocka_unit_test(a_long_run_needs_no_more_memory),
        cmocka_unit_test(errors_name_cell_layer_and_step),
        cmocka_unit_test(a_model_that_was_not_built),
        cmocka_unit_test(configurations_that_make_no_sense),
        cmocka_unit_test(numbers_are_drawn_in_one_order),
        cmocka_unit_test(the_identity_at_first),
        cmocka_unit_test(weights_with_first_values_of_their_own),
        cmocka_unit_test(a_network_in_words),
        cmocka_unit_test(parameters_of_everything),
        cmocka_unit_test(an_empty_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
