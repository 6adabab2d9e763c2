/* test_cells.c - the built-in cells: against loops over numbers, against finite differences through
 * seven steps and everything that a network can have around them, and the fused forms against the
 * composed ones in values, gradients, and gradients of gradients, in f64 to 1e-12 of the largest. */
#include "nets.h"

#include "autograd/gradcheck.h"

/* ---- every kind ------------------------------------------------------------------------- */

static tl_var relu(tl_tape *t, tl_var x)
{
    return tl_relu(t, x);
}

static tl_var softsign(tl_tape *t, tl_var x)
{
    return tl_div(t, x, tl_affine(t, tl_abs(t, x), 1, 1));
}

#define LSTM(...)                                                                                      \
    .cell = &tl_lstm_cell, .options = &(const tl_lstm_options)                                         \
    {                                                                                                  \
        __VA_ARGS__                                                                                    \
    }
#define GRU(kind)                                                                                      \
    .cell = &tl_gru_cell, .options = &(const tl_gru_options)                                           \
    {                                                                                                  \
        kind                                                                                           \
    }

static const struct {
    const char *name;
    tl_rnn_config config; /* cell, options, projection, no_bias, composed */
} forms[] = {
    {"elman", {.cell = &tl_elman_cell}},
    {"elman, no bias", {.cell = &tl_elman_cell, .no_bias = true}},
    {"elman, softsign",
     {.cell = &tl_elman_cell, .options = &(const tl_elman_options){.activation = softsign}}},
    {"lstm", {.cell = &tl_lstm_cell}},
    {"lstm, no bias", {.cell = &tl_lstm_cell, .no_bias = true}},
    {"lstm, composed", {.cell = &tl_lstm_cell, .composed = true}},
    {"lstm, projection", {.cell = &tl_lstm_cell, .projection = 2}},
    {"lstm, peephole", {LSTM(.peephole = true)}},
    {"lstm, coupled", {LSTM(.coupled = true)}},
    {"lstm, layer_norm", {LSTM(.layer_norm = true)}},
    {"lstm, peephole coupled", {LSTM(.peephole = true, .coupled = true)}},
    {"lstm, coupled projection", {LSTM(.coupled = true), .projection = 2}},
    {"lstm, peephole layer_norm no bias",
     {LSTM(.peephole = true, .layer_norm = true), .no_bias = true}},
    {"lstm, all", {LSTM(.peephole = true, .coupled = true, .layer_norm = true), .projection = 2}},
    {"lstm, all but coupled", {LSTM(.peephole = true, .layer_norm = true), .projection = 2}},
    {"gru", {.cell = &tl_gru_cell}},
    {"gru, no bias", {.cell = &tl_gru_cell, .no_bias = true}},
    {"gru, composed", {.cell = &tl_gru_cell, .composed = true}},
    {"gru, reset before", {GRU(.reset = TL_RESET_BEFORE)}},
    {"gru, reset before, no bias", {GRU(.reset = TL_RESET_BEFORE), .no_bias = true}},
};

/* ---- loops over numbers ----------------------------------------------------------------- */

enum { MOST = 32 };

static double squash(double x)
{
    return 1 / (1 + exp(-x));
}

static double number(const net *n, const char *name, int64_t i)
{
    const tl_param *p = tl_rnn_weight(&n->rnn, 0, 0, name);
    return p ? tl_tensor_get(p->value, i) : 0;
}

static void product(const net *n, const char *weight, const double *x, int64_t rows, int64_t columns,
                    double *y)
{
    for (int64_t r = 0; r < rows; r++) {
        y[r] = 0;
        for (int64_t i = 0; i < columns; i++)
            y[r] += number(n, weight, r * columns + i) * x[i];
    }
}

static void normalise(const net *n, const char *weight, const char *bias, double *x, int64_t size)
{
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < size; i++)
        mean += x[i] / (double)size;
    for (int64_t i = 0; i < size; i++)
        variance += (x[i] - mean) * (x[i] - mean) / (double)size;
    for (int64_t i = 0; i < size; i++)
        x[i] = (x[i] - mean) / sqrt(variance + 1e-5) * number(n, weight, i) + number(n, bias, i);
}

static void slow_lstm(const net *n, const double *x, double *h, double *c)
{
    const tl_rnn_config *config = &n->rnn.config;
    const tl_lstm_options *o = config->options;
    int64_t H = config->hidden, P = config->projection ? config->projection : H;
    int64_t gates = o->coupled ? 3 : 4;
    double a[MOST], u[MOST], seen[MOST], out[MOST];
    product(n, "weight_ih", x, gates * H, config->input, a);
    product(n, "weight_hh", h, gates * H, P, u);
    if (o->layer_norm) {
        normalise(n, "norm_ih_weight", "norm_ih_bias", a, gates * H);
        normalise(n, "norm_hh_weight", "norm_hh_bias", u, gates * H);
    }
    for (int64_t i = 0; i < gates * H; i++)
        a[i] += u[i] + number(n, "bias_ih", i) + number(n, "bias_hh", i);
    for (int64_t j = 0; j < H; j++) {
        double i = squash(a[j] + number(n, "weight_pi", j) * c[j]);
        double f = o->coupled ? 1 - i : squash(a[H + j] + number(n, "weight_pf", j) * c[j]);
        seen[j] = c[j] = f * c[j] + i * tanh(a[(gates - 2) * H + j]);
    }
    if (o->layer_norm)
        normalise(n, "norm_c_weight", "norm_c_bias", seen, H);
    for (int64_t j = 0; j < H; j++)
        out[j] = squash(a[(gates - 1) * H + j] + number(n, "weight_po", j) * c[j]) * tanh(seen[j]);
    if (config->projection)
        product(n, "weight_hr", out, P, H, h);
    else
        memcpy(h, out, (size_t)H * sizeof *h);
}

static void slow_gru(const net *n, const double *x, double *h)
{
    const tl_rnn_config *config = &n->rnn.config;
    bool before = ((const tl_gru_options *)config->options)->reset == TL_RESET_BEFORE;
    int64_t H = config->hidden;
    double a[MOST], u[MOST], r[MOST], reset[MOST], of_reset[MOST], next[MOST];
    product(n, "weight_ih", x, 3 * H, config->input, a);
    product(n, "weight_hh", h, 3 * H, H, u);
    for (int64_t j = 0; j < H; j++) {
        r[j] = squash(a[j] + number(n, "bias_ih", j) + u[j] + number(n, "bias_hh", j));
        reset[j] = r[j] * h[j];
    }
    product(n, "weight_hh", reset, 3 * H, H, of_reset);
    for (int64_t j = 0; j < H; j++) {
        int64_t z = H + j, m = 2 * H + j;
        double keep = squash(a[z] + number(n, "bias_ih", z) + u[z] + number(n, "bias_hh", z));
        double from_h =
            before ? of_reset[m] + number(n, "bias_hh", m) : r[j] * (u[m] + number(n, "bias_hh", m));
        next[j] = (1 - keep) * tanh(a[m] + number(n, "bias_ih", m) + from_h) + keep * h[j];
    }
    memcpy(h, next, (size_t)H * sizeof *h);
}

static void slow_elman(const net *n, const double *x, double *h)
{
    const tl_elman_options *o = n->rnn.config.options;
    int64_t H = n->rnn.config.hidden;
    double a[MOST], u[MOST];
    product(n, "weight_ih", x, H, n->rnn.config.input, a);
    product(n, "weight_hh", h, H, H, u);
    for (int64_t j = 0; j < H; j++) {
        double s = a[j] + u[j] + number(n, "bias_ih", j) + number(n, "bias_hh", j);
        h[j] = o->activation ? s / (1 + fabs(s)) : tanh(s);
    }
}

static void each_form_is_its_equations(void **state)
{
    (void)state;
    enum { T = 4, B = 2, I = 3, H = 5 };
    for (int k = 0; k < COUNT_OF(forms); k++) {
        tl_rnn_config config = forms[k].config;
        config.input = I;
        config.hidden = H;
        config.layers = 1;
        net n = net_from(&config);
        dice d = dice_of(4);
        int64_t P = config.projection ? config.projection : H;
        tl_tape *t = tl_tape_new(NULL);
        tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -2, 2), *start[2];
        tl_var v[2] = {TL_NONE, TL_NONE};
        for (int s = 0; s < n.rnn.states; s++) {
            start[s] = random_tensor(&d, TL_F64, TL_SHAPE(B, s ? H : P), -1, 1);
            v[s] = tl_constant(t, start[s]);
        }
        tl_var y = tl_unroll(t, &n.rnn, tl_constant(t, x), v);
        assert_ok(t);
        for (int64_t b = 0; b < B; b++) {
            double h[MOST], c[MOST], in[I];
            for (int64_t j = 0; j < P; j++)
                h[j] = tl_tensor_get(start[0], b * P + j);
            for (int64_t j = 0; n.rnn.states == 2 && j < H; j++)
                c[j] = tl_tensor_get(start[1], b * H + j);
            for (int64_t step = 0; step < T; step++) {
                for (int64_t i = 0; i < I; i++)
                    in[i] = tl_tensor_get(x, (step * B + b) * I + i);
                if (config.cell == &tl_lstm_cell)
                    slow_lstm(&n, in, h, c);
                else if (config.cell == &tl_gru_cell)
                    slow_gru(&n, in, h);
                else
                    slow_elman(&n, in, h);
                for (int64_t j = 0; j < P; j++)
                    if (fabs(item_at(t, y, (step * B + b) * P + j) - h[j]) > 1e-13)
                        fail_msg("%s: step %d: %.17g, should be %.17g", forms[k].name, (int)step,
                                 item_at(t, y, (step * B + b) * P + j), h[j]);
            }
            for (int64_t j = 0; n.rnn.states == 2 && j < H; j++)
                assert_near(item_at(t, v[1], b * H + j), c[j], 1e-13);
        }
        for (int s = 0; s < n.rnn.states; s++)
            tl_tensor_release(start[s]);
        tl_tensor_release(x);
        tl_tape_free(t);
        net_free(&n);
    }
}

/* IRNN: its identity, with relu. */
static void a_network_that_only_adds(void **state)
{
    (void)state;
    const tl_elman_options o = {.activation = relu};
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_rnn rnn;
    tl_rnn_init(&rnn, params,
                &(tl_rnn_config){.cell = &tl_elman_cell,
                                 .options = &o,
                                 .input = 1,
                                 .hidden = 2,
                                 .layers = 1,
                                 .init = TL_RNN_IDENTITY});
    tl_tensor_fill(tl_rnn_weight(&rnn, 0, 0, "weight_ih")->value, 0.5);
    tl_tape *t = tl_tape_new(NULL);
    tl_var y = tl_unroll(t, &rnn, tl_full(t, TL_F64, TL_SHAPE(40, 1, 1), 1), NULL);
    assert_near(item_at(t, y, 79), 20, 1e-12);
    tl_tape_free(t);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

/* ---- the forget gate's bias ------------------------------------------------------------- */

static void forget_biases(void **state)
{
    (void)state;
    enum { H = 3 };
    for (int coupled = 0; coupled < 2; coupled++)
        for (int k = 0; k < 3; k++) {
            const tl_lstm_options o = {.forget_bias = k == 1 ? 1 : -0.5, .coupled = coupled};
            tl_params *params[2] = {tl_params_new(TL_F64, 3), tl_params_new(TL_F64, 3)};
            tl_rnn rnn[2];
            for (int with = 0; with < 2; with++)
                tl_rnn_init(&rnn[with], params[with],
                            &(tl_rnn_config){.cell = &tl_lstm_cell,
                                             .options = with ? (const void *)&o
                                                             : &(tl_lstm_options){.coupled = coupled},
                                             .input = 2,
                                             .hidden = H,
                                             .layers = 1,
                                             .bidirectional = true,
                                             .no_bias = k == 2});
            for (int p = 0; p < params[0]->count; p++)
                for (int64_t i = 0; i < params[0]->entry[p]->value->layout.count; i++) {
                    bool forget =
                        strstr(params[0]->entry[p]->name, "bias_ih") && i / H == 1 && !coupled;
                    assert_near(tl_tensor_get(params[1]->entry[p]->value, i),
                                tl_tensor_get(params[0]->entry[p]->value, i) +
                                    (forget ? o.forget_bias : 0),
                                1e-15);
                }
            for (int with = 0; with < 2; with++) {
                tl_rnn_free(&rnn[with]);
                tl_params_free(params[with]);
            }
        }
}

/* ---- through seven steps, with everything around ---------------------------------------- */

typedef struct checked {
    const net *n;
    tl_unroll_options options;
    bool masked, noisy;
} checked;

enum { T = 7, B = 2 };

static const int64_t lengths[B] = {7, 4};
static const uint8_t marks[2][T][B] = {{{0, 0}, {0, 1}, {0, 0}, {0, 0}, {1, 0}, {0, 0}, {0, 0}},
                                       {{0, 0}, {0, 0}, {1, 0}, {0, 0}, {0, 0}, {0, 1}, {0, 0}}};

/* in: x, the initial states that are given, all parameters. The same noise whenever it is called. */
static tl_var everything(tl_tape *t, const tl_var *in, void *context)
{
    const checked *c = context;
    tl_unroll_options o = c->options;
    int states = tl_rnn_states(&c->n->rnn);
    tl_var state[8] = {TL_NONE};
    *tl_tape_random(t) = tl_random_seed(5);
    if (c->masked)
        o.reset = tl_constant_from(t, TL_U8, TL_SHAPE(T, B), marks[0]);
    for (int s = 0; s < c->n->rnn.states; s++) /* those of the first lane; the others are learned */
        state[s] = in[1 + s];
    tl_var y = tl_unroll_with(t, &c->n->rnn, in[0], state, &o);
    return joined(t, y, states, state);
}

static void check_everything(const char *name, checked *c, bool second)
{
    const tl_rnn *rnn = &c->n->rnn;
    enum { AT_ONCE = 40 }; /* parameters: the checker takes 64 inputs */
    tl_tensor *inputs[MOST_ASKED];
    int count = 0;
    dice d = dice_of(2);
    const int64_t sequence[] = {rnn->config.batch_first ? B : T, rnn->config.batch_first ? T : B,
                                rnn->config.input};
    inputs[count++] = random_tensor(&d, TL_F64, 3, sequence, -1, 1);
    for (int s = 0; s < rnn->states; s++) {
        int64_t size = s || !rnn->config.projection ? rnn->config.hidden : rnn->config.projection;
        inputs[count++] = random_tensor(&d, TL_F64, TL_SHAPE(B, size), -1, 1);
    }
    int own = count, all = c->n->params->count;
    for (int from = 0; from < all; from += AT_ONCE) {
        tl_gradcheck_report report;
        count = own;
        for (int p = from; p < all && p < from + AT_ONCE; p++)
            inputs[count++] = c->n->params->entry[p]->value;
        tl_status status = second ? tl_gradgradcheck(everything, c, count, inputs, NULL, &report)
                                  : tl_gradcheck(everything, c, count, inputs, NULL, &report);
        if (status != TL_OK)
            fail_msg("%s, order %d: %s", name, second ? 2 : 1, report.message);
    }
    for (int k = 0; k < own; k++)
        tl_tensor_release(inputs[k]);
}

static void gradients_through_seven_steps(void **state)
{
    (void)state;
    for (int k = 0; k < COUNT_OF(forms); k++) {
        tl_rnn_config config = forms[k].config;
        config.input = 3;
        config.hidden = 3;
        config.layers = 1;
        net n = net_from(&config);
        check_everything(forms[k].name, &(checked){.n = &n}, false);
        net_free(&n);
    }
}

/* connection: highway where even, residual where odd */
static void gradients_with_everything_around(void **state)
{
    (void)state;
    for (int k = 0; k < COUNT_OF(forms); k++) {
        tl_rnn_config config = forms[k].config;
        config.hidden = config.projection ? 3 : 2; /* outputs of both directions: 4, as the inputs */
        config.input = 4;
        config.layers = k % 3 ? 1 : 2; /* two take four times as long */
        config.bidirectional = true;
        config.batch_first = k % 3 == 1;
        config.connection = k % 2 ? TL_RESIDUAL : TL_HIGHWAY;
        config.layer_norm = config.learned_state = true;
        config.dropout = config.variational = config.recurrent_dropout = config.drop_connect = 0.3;
        config.zoneout[0] = 0.3;
        config.zoneout[1] = 0.2;
        net n = net_from(&config);
        for (int training = k % 4 != 0; training < 2; training++)
            check_everything(forms[k].name,
                             &(checked){.n = &n,
                                        .options = {.lengths = lengths, .training = training},
                                        .masked = true},
                             false);
        net_free(&n);
    }
}

static void gradients_of_gradients(void **state)
{
    (void)state;
    for (int k = 0; k < COUNT_OF(forms); k++) {
        tl_rnn_config config = forms[k].config;
        config.input = config.hidden = 2;
        config.projection = config.projection ? 1 : 0;
        config.layers = 1;
        config.learned_state = k % 2;
        net n = net_from(&config);
        check_everything(forms[k].name, &(checked){.n = &n, .options = {.lengths = lengths}}, true);
        net_free(&n);
    }
}

/* ---- fused and composed ----------------------------------------------------------------- */

typedef struct form {
    net n;
    tl_tape *t;
    uint32_t unrolled; /* variables that the network takes */
    tl_var leaf[MOST_ASKED], y, grad[MOST_ASKED], grad_of_grad[MOST_ASKED];
} form;

/* y = unrolled network; g = gradients of y . w + last state squared; gg = gradients of sum of g . g */
static void build(form *f, const tl_rnn_config *config, bool composed, int threads)
{
    tl_rnn_config own = *config;
    own.composed = composed;
    f->n = net_from(&own);
    f->t = tl_tape_new(&(tl_tape_config){.threads = threads});
    dice d = dice_of(11);
    tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(6, 3, own.input), -2, 2);
    tl_var state[16] = {TL_NONE};
    int n = use_all(f->t, &f->n, f->leaf), states = tl_rnn_states(&f->n.rnn);
    f->leaf[n++] = tl_leaf(f->t, x, NULL);
    uint32_t before = tl_tape_measure(f->t).variables;
    f->y = tl_unroll(f->t, &f->n.rnn, f->leaf[n - 1], state);
    f->unrolled = tl_tape_measure(f->t).variables - before;
    tl_var last = tl_sum(f->t, tl_square(f->t, state[states - 1]));
    tl_var loss = tl_add(f->t, weigh(f->t, f->y, 13), last);
    assert_int_equal(tl_grad(f->t, loss, TL_NONE, n, f->leaf, true, f->grad), TL_OK);
    tl_var squares = tl_full(f->t, TL_F64, 0, NULL, 0);
    for (int k = 0; k < n; k++)
        squares = tl_add(f->t, squares, tl_sum(f->t, tl_square(f->t, f->grad[k])));
    assert_int_equal(tl_grad(f->t, squares, TL_NONE, n, f->leaf, false, f->grad_of_grad), TL_OK);
    assert_int_equal(tl_backward_retain(f->t, loss), TL_OK); /* off the record: the kernel */
    tl_tensor_release(x);
}

static void drop(form *f)
{
    tl_tape_free(f->t);
    net_free(&f->n);
}

static void same(const char *what, tl_array a, tl_array b)
{
    double largest = 0, worst = 0;
    int64_t at = 0;
    assert_true(a.data && b.data && tl_layout_same_shape(a.layout, b.layout));
    tl_tensor u = {.data = a.data, .layout = *a.layout, .dtype = a.dtype};
    tl_tensor v = {.data = b.data, .layout = *b.layout, .dtype = b.dtype};
    for (int64_t i = 0; i < a.layout->count; i++) {
        double difference = fabs(tl_tensor_get(&u, i) - tl_tensor_get(&v, i));
        largest = fmax(largest, fabs(tl_tensor_get(&u, i)));
        if (!(difference <= worst)) {
            worst = difference;
            at = i;
        }
    }
    assert_true(largest > 0);
    if (!(worst <= 1e-12 * largest))
        fail_msg("%s, element %lld: fused %+.17g, composed %+.17g", what, (long long)at,
                 tl_tensor_get(&u, at), tl_tensor_get(&v, at));
}

static void fused_and_composed_are_one_function(void **state)
{
    (void)state;
    const tl_rnn_config configs[] = {
        {LSTM(.forget_bias = 1), .input = 4, .hidden = 5, .layers = 2},
        {.cell = &tl_lstm_cell, .input = 3, .hidden = 7, .layers = 1, .projection = 4},
        {.cell = &tl_lstm_cell,
         .input = 3,
         .hidden = 1,
         .layers = 2,
         .bidirectional = true,
         .zoneout = {0.1, 0.2}},
        {.cell = &tl_gru_cell, .input = 4, .hidden = 5, .layers = 2},
        {.cell = &tl_gru_cell, .input = 4, .hidden = 9, .layers = 1, .no_bias = true},
        {.cell = &tl_gru_cell, .input = 3, .hidden = 1, .layers = 2, .bidirectional = true},
    };
    for (int c = 0; c < COUNT_OF(configs); c++)
        for (int threads = 1; threads <= 2; threads++) {
            form fused, composed;
            build(&fused, &configs[c], false, threads);
            build(&composed, &configs[c], true, threads);
            assert_true(fused.unrolled < composed.unrolled);
            same("outputs", tl_value(fused.t, fused.y), tl_value(composed.t, composed.y));
            int count = fused.n.params->count;
            for (int k = 0; k <= count; k++) {
                const char *name = k < count ? fused.n.params->entry[k]->name : "x";
                same(name, tl_value(fused.t, fused.grad[k]), tl_value(composed.t, composed.grad[k]));
                same(name, tl_value(fused.t, fused.grad_of_grad[k]),
                     tl_value(composed.t, composed.grad_of_grad[k]));
                if (k == count)
                    continue;
                tl_array kernel = tl_tensor_array(fused.n.params->entry[k]->gradient);
                same(name, kernel, tl_tensor_array(composed.n.params->entry[k]->gradient));
                same(name, kernel, tl_value(fused.t, fused.grad[k])); /* kernel and equations */
            }
            drop(&fused);
            drop(&composed);
        }
}

/* In f32 to its rounding; large gates, where the sigmoids and tanh are flat, included. */
static void fused_gates_at_the_extremes(void **state)
{
    (void)state;
    for (int dtype = TL_F32; dtype <= TL_F64; dtype++)
        for (int k = 0; k < 2; k++) {
            const double scale[] = {1, 30, 1e4}, eps = dtype == TL_F32 ? 1e-6 : 1e-14;
            dice d = dice_of(3);
            for (int s = 0; s < COUNT_OF(scale); s++) {
                const int64_t n = 19, rows = 3, gates = k ? 3 : 4;
                tl_tape *t = tl_tape_new(NULL);
                tl_tensor *a =
                    random_tensor(&d, (tl_dtype)dtype, TL_SHAPE(rows, gates * n), -scale[s], scale[s]);
                tl_tensor *u =
                    random_tensor(&d, (tl_dtype)dtype, TL_SHAPE(rows, gates * n), -scale[s], scale[s]);
                tl_tensor *h = random_tensor(&d, (tl_dtype)dtype, TL_SHAPE(rows, n), -1, 1);
                tl_var in[3] = {tl_leaf(t, a, NULL), tl_leaf(t, u, NULL), tl_leaf(t, h, NULL)};
                tl_var y, c, grads[3];
                if (k)
                    y = tl_gru_gates(t, in[0], in[1], in[2]);
                else
                    tl_lstm_gates(t, in[0], in[2], &y, &c);
                for (int64_t i = 0; i < rows * n; i++) {
                    const int64_t b = i / n, j = i % n;
                    double g[4], v[4], old = tl_tensor_get(h, i), expected;
                    for (int q = 0; q < gates; q++) {
                        g[q] = tl_tensor_get(a, (b * gates + q) * n + j);
                        v[q] = tl_tensor_get(u, (b * gates + q) * n + j);
                    }
                    if (k) {
                        double z = squash(g[1] + v[1]), m = tanh(g[2] + squash(g[0] + v[0]) * v[2]);
                        expected = (1 - z) * m + z * old;
                    } else {
                        double cell = squash(g[1]) * old + squash(g[0]) * tanh(g[2]);
                        expected = squash(g[3]) * tanh(cell);
                    }
                    assert_near(item_at(t, y, i), expected, eps * (scale[s] > 1e3 ? 1e3 : 1));
                }
                assert_int_equal(tl_grad(t, tl_sum(t, y), TL_NONE, 3, in, false, grads), TL_OK);
                for (int q = 0; q < 3; q++)
                    for (int64_t i = 0; i < rows * n; i++)
                        assert_true(isfinite(item_at(t, grads[q], i)));
                tl_tape_free(t);
                tl_tensor_release(a);
                tl_tensor_release(u);
                tl_tensor_release(h);
            }
        }
}

static void gates_that_do_not_fit_are_named(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var h, c;
#define X(...) tl_full(t, TL_F64, TL_SHAPE(__VA_ARGS__), 0)
    tl_lstm_gates(t, X(3, 9), X(3, 2), &h, &c);
    assert_error(t, TL_ERR_SHAPE, "lstm_gates: wants gates [B,4H] and c [B,H], not [3,9] and [3,2]");
    tl_gru_gates(t, X(3, 9), X(3, 6), X(3, 3));
    assert_error(t, TL_ERR_SHAPE,
                 "gru_gates: wants gates [B,3H] twice and h [B,H], not [3,9], [3,6] and [3,3]");
    tl_gru_gates(t, X(3, 9), X(3, 9), X(3, 2));
    assert_error(t, TL_ERR_SHAPE,
                 "gru_gates: wants gates [B,3H] twice and h [B,H], not [3,9], [3,9] and [3,2]");
    tl_gru_gates(t, X(3, 9), X(3, 9), X(2, 3));
    assert_error(t, TL_ERR_SHAPE,
                 "gru_gates: wants gates [B,3H] twice and h [B,H], not [3,9], [3,9] and [2,3]");
    tl_gru_gates(t, X(9), X(9), X(3));
    assert_error(t, TL_ERR_SHAPE,
                 "gru_gates: wants gates [B,3H] twice and h [B,H], not [9], [9] and [3]");
    tl_gru_gates(t, X(1, 9), X(1, 9), TL_NONE);
    assert_int_equal(tl_tape_status(t), TL_ERR_ARGUMENT);
    tl_tape_reset(t);
    tl_gru_gates(t, X(1, 9), X(1, 9), tl_full(t, TL_F32, TL_SHAPE(1, 3), 0));
    assert_error(t, TL_ERR_DTYPE, "gru_gates: operands differ in dtype: f64 and f32");
    assert_shape(t, tl_gru_gates(t, X(0, 9), X(0, 9), X(0, 3)), "[0,3]");
    assert_shape(t, tl_gru_gates(t, X(2, 0), X(2, 0), X(2, 0)), "[2,0]");
    assert_ok(t);
#undef X
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_is_its_equations),
        cmocka_unit_test(a_network_that_only_adds),
        cmocka_unit_test(forget_biases),
        cmocka_unit_test(gradients_through_seven_steps),
        cmocka_unit_test(gradients_with_everything_around),
        cmocka_unit_test(gradients_of_gradients),
        cmocka_unit_test(fused_and_composed_are_one_function),
        cmocka_unit_test(fused_gates_at_the_extremes),
        cmocka_unit_test(gates_that_do_not_fit_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
