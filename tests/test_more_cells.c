/* Jordan, IndRNN, SCRN, MGU, SRU, QRNN, minGRU, minLSTM: each against its equations in loops over
 * numbers, its derivatives, and all that a network does with a cell. */
#include "support.h"

#include "autograd/gradcheck.h"
#include "autograd/inspect.h"
#include "nn/unroll.h"

enum { MOST = 16, MOST_INPUTS = 64, STATES = 3 };

/* ---- the equations, one row of the batch ------------------------------------------------- */

typedef struct net net;

/* One cell: where its parameters are, and its sizes. */
typedef struct where {
    const net *n;
    int layer, direction;
    int64_t I, H, P, S;
} where;

typedef void naive_step(const where *w, const double *x, double state[STATES][MOST]);

typedef struct cell_case {
    const char *name;
    const tl_cell_type *type;
    const void *options;
    naive_step *naive;
    int64_t projection;
    bool scans, unread; /* unread: state 0 is output only */
    const char *shapes[STATES];
} cell_case;

struct net {
    const cell_case *of;
    tl_params *params;
    tl_rnn rnn;
    tl_unroll_options unroll; /* for the functions below */
};

static tl_param *find(const where *w, const char *name)
{
    return tl_rnn_weight(&w->n->rnn, w->layer, w->direction, name);
}

/* A bias that is not there is 0. */
static double bias(const where *w, const char *name, int64_t i)
{
    tl_param *p = find(w, name);
    if (!p)
        assert_true(w->n->rnn.config.no_bias);
    return p ? tl_tensor_get(p->value, i) : 0;
}

/* Row `row` of a matrix times v. */
static double dot(const where *w, const char *name, int64_t row, const double *v)
{
    tl_param *p = find(w, name);
    double sum = 0;
    if (!p)
        fail_msg("%s has no %s in layer %d", w->n->of->name, name, w->layer);
    int64_t columns = p->value->layout.shape[1];
    for (int64_t i = 0; i < columns; i++)
        sum += tl_tensor_get(p->value, row * columns + i) * v[i];
    return sum;
}

static double squash(double x)
{
    return 1 / (1 + exp(-x));
}

static void jordan_hidden(const where *w, const double *x, const double *y, double *a)
{
    for (int64_t j = 0; j < w->H; j++)
        a[j] = dot(w, "weight_ih", j, x) + bias(w, "bias_h", j) + dot(w, "weight_hy", j, y);
}

static void naive_jordan(const where *w, const double *x, double state[STATES][MOST])
{
    double h[MOST];
    jordan_hidden(w, x, state[0], h);
    for (int64_t j = 0; j < w->H; j++)
        h[j] = tanh(h[j]);
    for (int64_t k = 0; k < w->P; k++)
        state[0][k] = dot(w, "weight_yh", k, h) + bias(w, "bias_y", k);
}

/* f: sin, g: sigmoid */
static void naive_jordan_with(const where *w, const double *x, double state[STATES][MOST])
{
    double h[MOST];
    jordan_hidden(w, x, state[0], h);
    for (int64_t j = 0; j < w->H; j++)
        h[j] = sin(h[j]);
    for (int64_t k = 0; k < w->P; k++)
        state[0][k] = squash(dot(w, "weight_yh", k, h) + bias(w, "bias_y", k));
}

static double indrnn_sum(const where *w, const double *x, double h, int64_t j)
{
    return dot(w, "weight_ih", j, x) + tl_tensor_get(find(w, "weight_u")->value, j) * h +
           bias(w, "bias", j);
}

static void naive_indrnn(const where *w, const double *x, double state[STATES][MOST])
{
    for (int64_t j = 0; j < w->H; j++)
        state[0][j] = fmax(0, indrnn_sum(w, x, state[0][j], j));
}

static void naive_indrnn_tanh(const where *w, const double *x, double state[STATES][MOST])
{
    for (int64_t j = 0; j < w->H; j++)
        state[0][j] = tanh(indrnn_sum(w, x, state[0][j], j));
}

static void scrn_with(const where *w, const double *x, double state[STATES][MOST], double alpha)
{
    double h[MOST];
    for (int64_t k = 0; k < w->S; k++)
        state[1][k] = (1 - alpha) * dot(w, "weight_sx", k, x) + alpha * state[1][k];
    for (int64_t j = 0; j < w->H; j++)
        h[j] = squash(dot(w, "weight_hs", j, state[1]) + dot(w, "weight_hx", j, x) +
                      dot(w, "weight_hh", j, state[0]));
    memcpy(state[0], h, sizeof h);
}

static void naive_scrn(const where *w, const double *x, double state[STATES][MOST])
{
    scrn_with(w, x, state, 0.95);
}

static void naive_scrn_quick(const where *w, const double *x, double state[STATES][MOST])
{
    scrn_with(w, x, state, 0.6);
}

static void naive_mgu(const where *w, const double *x, double state[STATES][MOST])
{
    double f[MOST], gated[MOST] = {0}, *h = state[0];
    for (int64_t j = 0; j < w->H; j++) {
        f[j] = squash(dot(w, "weight_ih", j, x) + bias(w, "bias", j) + dot(w, "weight_hf", j, h));
        gated[j] = f[j] * h[j];
    }
    for (int64_t j = 0; j < w->H; j++) {
        double n = tanh(dot(w, "weight_ih", w->H + j, x) + bias(w, "bias", w->H + j) +
                        dot(w, "weight_hn", j, gated));
        h[j] = (1 - f[j]) * h[j] + f[j] * n;
    }
}

static void sru_with(const where *w, const double *x, double state[STATES][MOST], double (*g)(double))
{
    for (int64_t j = 0; j < w->H; j++) {
        double f = squash(dot(w, "weight_fr", j, x) + bias(w, "bias_fr", j));
        double r = squash(dot(w, "weight_fr", w->H + j, x) + bias(w, "bias_fr", w->H + j));
        double c = f * state[1][j] + (1 - f) * dot(w, "weight_ih", j, x);
        double highway = w->I == w->H ? x[j] : dot(w, "weight_highway", j, x);
        state[1][j] = c;
        state[0][j] = r * g(c) + (1 - r) * highway;
    }
}

static void naive_sru(const where *w, const double *x, double state[STATES][MOST])
{
    sru_with(w, x, state, tanh);
}

static void naive_sru_sin(const where *w, const double *x, double state[STATES][MOST])
{
    sru_with(w, x, state, sin);
}

static double qrnn_gate(const where *w, const double *x, const double *before, int64_t row)
{
    return dot(w, "weight_ih", row, x) + dot(w, "weight_before", row, before) + bias(w, "bias", row);
}

static void naive_qrnn(const where *w, const double *x, double state[STATES][MOST])
{
    for (int64_t j = 0; j < w->H; j++) {
        double z = tanh(qrnn_gate(w, x, state[2], j)), f = squash(qrnn_gate(w, x, state[2], w->H + j));
        state[1][j] = f * state[1][j] + (1 - f) * z;
        state[0][j] = squash(qrnn_gate(w, x, state[2], 2 * w->H + j)) * state[1][j];
    }
    memcpy(state[2], x, (size_t)w->I * sizeof *x);
}

static double minimal_row(const where *w, const double *x, int64_t row)
{
    return dot(w, "weight_ih", row, x) + bias(w, "bias", row);
}

static double positive(double n)
{
    return n >= 0 ? n + 0.5 : squash(n);
}

static double same(double n)
{
    return n;
}

static void mingru_with(const where *w, const double *x, double *h, double (*g)(double))
{
    for (int64_t j = 0; j < w->H; j++) {
        double z = squash(minimal_row(w, x, j));
        h[j] = (1 - z) * h[j] + z * g(minimal_row(w, x, w->H + j));
    }
}

static void minlstm_with(const where *w, const double *x, double *h, double (*g)(double))
{
    for (int64_t j = 0; j < w->H; j++) {
        double f = squash(minimal_row(w, x, j)), i = squash(minimal_row(w, x, w->H + j));
        h[j] = f / (f + i) * h[j] + i / (f + i) * g(minimal_row(w, x, 2 * w->H + j));
    }
}

static void naive_mingru(const where *w, const double *x, double state[STATES][MOST])
{
    mingru_with(w, x, state[0], same);
}

static void naive_mingru_positive(const where *w, const double *x, double state[STATES][MOST])
{
    mingru_with(w, x, state[0], positive);
}

static void naive_minlstm(const where *w, const double *x, double state[STATES][MOST])
{
    minlstm_with(w, x, state[0], same);
}

static void naive_minlstm_positive(const where *w, const double *x, double state[STATES][MOST])
{
    minlstm_with(w, x, state[0], positive);
}

static const tl_jordan_options jordan_with = {.activation = tl_sin, .output = tl_sigmoid};
static const tl_indrnn_options indrnn_tanh = {.activation = tl_tanh};
static const tl_scrn_options scrn_quick = {.alpha = 0.6, .context = 3};
static const tl_sru_options sru_sin = {.activation = tl_sin};
static const tl_minimal_options minimal_positive = {.positive = true};

static const cell_case cases[] = {
    {"jordan", &tl_jordan_cell, NULL, naive_jordan, .shapes = {"P"}},
    {"jordan, 2 outputs, sin and sigmoid", &tl_jordan_cell, &jordan_with, naive_jordan_with, 2,
     .shapes = {"P"}},
    {"indrnn", &tl_indrnn_cell, NULL, naive_indrnn, .shapes = {"H"}},
    {"indrnn, tanh", &tl_indrnn_cell, &indrnn_tanh, naive_indrnn_tanh, .shapes = {"H"}},
    {"scrn", &tl_scrn_cell, NULL, naive_scrn, .shapes = {"H", "S"}},
    {"scrn, alpha 0.6, 3 context units", &tl_scrn_cell, &scrn_quick, naive_scrn_quick,
     .shapes = {"H", "S"}},
    {"mgu", &tl_mgu_cell, NULL, naive_mgu, .shapes = {"H"}},
    {"sru", &tl_sru_cell, NULL, naive_sru, .scans = true, .unread = true, .shapes = {"H", "H"}},
    {"sru, sin", &tl_sru_cell, &sru_sin, naive_sru_sin, .scans = true, .unread = true,
     .shapes = {"H", "H"}},
    {"qrnn", &tl_qrnn_cell, NULL, naive_qrnn, .scans = true, .unread = true, .shapes = {"H", "H", "I"}},
    {"mingru", &tl_mingru_cell, NULL, naive_mingru, .scans = true, .shapes = {"H"}},
    {"mingru, positive", &tl_mingru_cell, &minimal_positive, naive_mingru_positive, .scans = true,
     .shapes = {"H"}},
    {"minlstm", &tl_minlstm_cell, NULL, naive_minlstm, .scans = true, .shapes = {"H"}},
    {"minlstm, positive", &tl_minlstm_cell, &minimal_positive, naive_minlstm_positive, .scans = true,
     .shapes = {"H"}},
};

/* ---- networks ---------------------------------------------------------------------------- */

static net *net_of(const cell_case *of, tl_rnn_config config)
{
    net *n = calloc(1, sizeof *n);
    assert_non_null(n);
    n->of = of;
    n->params = tl_params_new(TL_F64, 5);
    assert_non_null(n->params);
    config.cell = of->type;
    config.options = of->options;
    config.projection = of->projection;
    tl_rnn_init(&n->rnn, n->params, &config);
    if (tl_params_status(n->params) != TL_OK)
        fail_msg("%s", n->params->error.message);
    dice d = dice_of(17); /* larger than the usual initial values, so that nothing is nearly linear */
    for (int k = 0; k < n->params->count; k++)
        for (int64_t i = 0; i < n->params->entry[k]->value->layout.count; i++)
            tl_tensor_set(n->params->entry[k]->value, i, dice_real(&d, -0.9, 0.9));
    return n;
}

static void net_free(net *n)
{
    tl_rnn_free(&n->rnn);
    tl_params_free(n->params);
    free(n);
}

static where place(const net *n, int layer, int direction)
{
    const tl_rnn_config *c = &n->rnn.config;
    const tl_scrn_options *scrn = c->options;
    return (where){.n = n,
                   .layer = layer,
                   .direction = direction,
                   .I = layer ? tl_rnn_output(&n->rnn) : c->input,
                   .H = c->hidden,
                   .P = c->projection ? c->projection : c->hidden,
                   .S = c->cell == &tl_scrn_cell && scrn->context ? scrn->context : c->hidden};
}

/* Of state s in the order of tl_unroll. */
static int64_t state_size(const net *n, int s)
{
    where w = place(n, s / n->rnn.states / n->rnn.directions, 0);
    char letter = n->of->shapes[s % n->rnn.states][0];
    return letter == 'I' ? w.I : letter == 'P' ? w.P : letter == 'S' ? w.S : w.H;
}

/* ---- values ------------------------------------------------------------------------------ */

enum { T = 5, B = 3, MOST_LAYERS = 2, MOST_ALL = MOST_LAYERS * 2 * STATES };

/* One row: x [T][MOST] becomes the outputs; state: all of the network's, replaced. */
static void naive_unroll(const net *n, double x[T][MOST], double state[MOST_ALL][MOST])
{
    for (int layer = 0; layer < n->rnn.config.layers; layer++) {
        double y[T][MOST] = {{0}};
        for (int direction = 0; direction < n->rnn.directions; direction++) {
            where w = place(n, layer, direction);
            double now[STATES][MOST] = {{0}};
            int first = (layer * n->rnn.directions + direction) * n->rnn.states;
            memcpy(now, state[first], (size_t)n->rnn.states * sizeof *now);
            for (int count = 0; count < T; count++) {
                int step = direction ? T - 1 - count : count;
                n->of->naive(&w, x[step], now);
                memcpy(y[step] + direction * w.P, now[0], (size_t)w.P * sizeof(double));
            }
            memcpy(state[first], now, (size_t)n->rnn.states * sizeof *now);
        }
        memcpy(x, y, sizeof y);
    }
}

static void compare_with_loops(net *n, bool given, dice *d)
{
    enum { I = 4 };
    tl_tape *t = tl_tape_new(NULL);
    int states = tl_rnn_states(&n->rnn);
    int64_t width = tl_rnn_output(&n->rnn);
    tl_tensor *x = random_tensor(d, TL_F64, TL_SHAPE(T, B, I), -2, 2), *start[MOST_ALL];
    tl_var v[MOST_ALL];
    for (int s = 0; s < states; s++) {
        start[s] = random_tensor(d, TL_F64, TL_SHAPE(B, state_size(n, s)), -1, 1);
        v[s] = given ? tl_constant(t, start[s]) : TL_NONE;
    }
    tl_var y = tl_unroll(t, &n->rnn, tl_constant(t, x), v);
    assert_ok(t);
    for (int b = 0; b < B; b++) {
        double row[T][MOST] = {{0}}, state[MOST_ALL][MOST] = {{0}};
        for (int i = 0; i < T * I; i++)
            row[i / I][i % I] = tl_tensor_get(x, (i / I * B + b) * I + i % I);
        for (int s = 0; s < states && given; s++)
            for (int64_t i = 0; i < state_size(n, s); i++)
                state[s][i] = tl_tensor_get(start[s], b * state_size(n, s) + i);
        naive_unroll(n, row, state);
        for (int64_t i = 0; i < T * width; i++)
            check_near(item_at(t, y, (i / width * B + b) * width + i % width),
                       row[i / width][i % width], 1e-12, n->of->name, i, __FILE__, __LINE__);
        for (int s = 0; s < states; s++)
            for (int64_t i = 0; i < state_size(n, s); i++)
                check_near(item_at(t, v[s], b * state_size(n, s) + i), state[s][i], 1e-12, n->of->name,
                           s * 1000 + i, __FILE__, __LINE__);
    }
    for (int s = 0; s < states; s++)
        tl_tensor_release(start[s]);
    tl_tensor_release(x);
    tl_tape_free(t);
}

/* variant: no biases, initial states given, backwards as well, step by step */
static void outputs_and_states_are_the_equations(void **state)
{
    (void)state;
    dice d = dice_of(1);
    for (int k = 0; k < COUNT_OF(cases); k++)
        for (int layers = 1; layers <= MOST_LAYERS; layers++)
            for (int variant = 0; variant < (cases[k].scans ? 16 : 8); variant++) {
                net *n = net_of(&cases[k], (tl_rnn_config){.input = 4,
                                                           .hidden = 6,
                                                           .layers = layers,
                                                           .no_bias = variant & 1,
                                                           .bidirectional = variant & 4,
                                                           .sequential = variant & 8});
                compare_with_loops(n, variant & 2, &d);
                net_free(n);
            }
}

/* Where I = H, SRU's highway is x itself. */
static void sru_projects_only_what_does_not_fit(void **state)
{
    (void)state;
    dice d = dice_of(2);
    net *n = net_of(&cases[7], (tl_rnn_config){.input = 4, .hidden = 6, .layers = 2});
    assert_non_null(tl_rnn_weight(&n->rnn, 0, 0, "weight_highway"));
    assert_null(tl_rnn_weight(&n->rnn, 1, 0, "weight_highway"));
    net_free(n);
    n = net_of(&cases[7], (tl_rnn_config){.input = 4, .hidden = 4, .layers = 2, .bidirectional = true});
    assert_null(tl_rnn_weight(&n->rnn, 0, 1, "weight_highway"));
    assert_non_null(tl_rnn_weight(&n->rnn, 1, 1, "weight_highway"));
    compare_with_loops(n, true, &d);
    net_free(n);
}

/* ---- derivatives ------------------------------------------------------------------------- */

/* in: x, the initial states, then all parameters, which are the leaves of gradcheck, because a tensor
 * is one leaf. What is drawn is drawn anew from the same seed. */
static tl_var all_of_it(tl_tape *t, const tl_var *in, void *context)
{
    const net *n = context;
    tl_var state[MOST_ALL];
    int states = tl_rnn_states(&n->rnn);
    bool learned = n->rnn.config.learned_state;
    *tl_tape_random(t) = tl_random_seed(3);
    for (int s = 0; s < states; s++)
        state[s] = learned ? TL_NONE : in[1 + s];
    tl_var y = tl_unroll_with(t, &n->rnn, in[0], state, &n->unroll), all = tl_flatten(t, y, 0, -1);
    for (int s = 0; s < states; s++)
        all = tl_concat(t, 2, (tl_var[]){all, tl_flatten(t, state[s], 0, -1)}, 0);
    return all;
}

typedef struct inputs {
    int count, own; /* own: those that are not parameters */
    tl_tensor *tensor[MOST_INPUTS];
} inputs;

static inputs inputs_of(const net *n, int64_t steps, int64_t rows, dice *d)
{
    inputs in = {.count = 0};
    in.tensor[in.count++] = random_tensor(d, TL_F64, TL_SHAPE(steps, rows, n->rnn.config.input), -1, 1);
    for (int s = 0; s < tl_rnn_states(&n->rnn); s++)
        in.tensor[in.count++] = random_tensor(d, TL_F64, TL_SHAPE(rows, state_size(n, s)), -1, 1);
    in.own = in.count;
    for (int p = 0; p < n->params->count; p++) {
        assert_true(in.count < MOST_INPUTS);
        in.tensor[in.count++] = n->params->entry[p]->value;
    }
    return in;
}

static void inputs_free(inputs *in)
{
    for (int k = 0; k < in->own; k++)
        tl_tensor_release(in->tensor[k]);
}

typedef tl_status checker(tl_function *, void *, int, tl_tensor *const *, const tl_gradcheck_options *,
                          tl_gradcheck_report *);

static void check_derivatives(checker *check, net *n, inputs *in, const char *what)
{
    tl_gradcheck_report report;
    if (check(all_of_it, n, in->count, in->tensor, NULL, &report) != TL_OK)
        fail_msg("%s, %s: %s", n->of->name, what, report.message);
    if (report.warnings)
        fail_msg("%s, %s: %s", n->of->name, what, report.message);
}

static void gradients_through_seven_steps(void **state)
{
    (void)state;
    dice d = dice_of(3);
    for (int k = 0; k < COUNT_OF(cases); k++)
        for (int sequential = 0; sequential <= cases[k].scans; sequential++)
            for (int layers = 1; layers <= 2; layers++) {
                net *n =
                    net_of(&cases[k],
                           (tl_rnn_config){
                               .input = 3, .hidden = 4, .layers = layers, .sequential = sequential});
                inputs in = inputs_of(n, 7, 2, &d);
                check_derivatives(tl_gradcheck, n, &in, "seven steps");
                check_derivatives(tl_modecheck, n, &in, "forward mode");
                inputs_free(&in);
                net_free(n);
            }
}

static void gradients_of_gradients_through_time(void **state)
{
    (void)state;
    dice d = dice_of(4);
    for (int k = 0; k < COUNT_OF(cases); k++)
        for (int sequential = 0; sequential <= cases[k].scans; sequential++) {
            net *n =
                net_of(&cases[k],
                       (tl_rnn_config){.input = 3, .hidden = 2, .layers = 1, .sequential = sequential});
            inputs in = inputs_of(n, 3, 2, &d);
            check_derivatives(tl_gradgradcheck, n, &in, "second order");
            inputs_free(&in);
            net_free(n);
        }
}

/* ---- scan and steps ---------------------------------------------------------------------- */

static int count_scans(tl_tape *t)
{
    int count = 0;
    for (uint32_t i = 0; i < tl_tape_count(t); i++) {
        tl_node_info info;
        assert_int_equal(tl_inspect(t, tl_tape_at(t, i), &info), TL_OK);
        count += strcmp(info.op, "linear_recurrence") == 0;
    }
    return count;
}

enum { MOST_RESULTS = 1 + 2 * MOST_INPUTS };

/* What came out, its derivatives, and those of the sum of their squares, each as a tensor. */
static int all_orders(net *n, const inputs *in, int scans, tl_tensor **result)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_var leaf[MOST_INPUTS], first[MOST_INPUTS], second[MOST_INPUTS];
    for (int k = 0; k < in->count; k++)
        leaf[k] = tl_leaf(t, in->tensor[k], NULL);
    tl_var y = all_of_it(t, leaf, n);
    assert_int_equal(count_scans(t), scans);
    tl_var squares = tl_full(t, TL_F64, 0, NULL, 0);
    tl_grad(t, tl_sum(t, tl_sin(t, y)), TL_NONE, in->count, leaf, true, first);
    for (int k = 0; k < in->count; k++)
        squares = tl_add(t, squares, tl_sum(t, tl_square(t, first[k])));
    tl_grad(t, squares, TL_NONE, in->count, leaf, false, second);
    assert_ok(t);
    int count = 0;
    result[count++] = value_of(t, y);
    for (int k = 0; k < in->count; k++) {
        result[count++] = value_of(t, first[k]);
        result[count++] = value_of(t, second[k]);
    }
    tl_tape_free(t);
    return count;
}

static void a_scan_is_its_steps(void **state)
{
    (void)state;
    dice d = dice_of(5);
    for (int k = 0; k < COUNT_OF(cases); k++)
        for (int directions = 1; directions <= 2 && cases[k].scans; directions++) {
            tl_rnn_config config = {
                .input = 3, .hidden = 4, .layers = 2, .bidirectional = directions == 2};
            net *scan = net_of(&cases[k], config);
            config.sequential = true;
            net *steps = net_of(&cases[k], config);
            inputs in = inputs_of(scan, 9, 2, &d), of_steps = in;
            for (int p = 0; p < steps->params->count; p++)
                of_steps.tensor[in.own + p] = steps->params->entry[p]->value;
            tl_tensor *a[MOST_RESULTS], *b[MOST_RESULTS];
            int count = all_orders(scan, &in, 2 * directions, a);
            assert_int_equal(all_orders(steps, &of_steps, 0, b), count);
            for (int r = 0; r < count; r++) {
                assert_tensors(a[r], b[r], 1e-12);
                tl_tensor_release(a[r]);
                tl_tensor_release(b[r]);
            }
            inputs_free(&in);
            net_free(scan);
            net_free(steps);
        }
}

/* Where something is to happen between the steps, there are steps. */
static void there_is_no_scan_between_which_something_happens(void **state)
{
    (void)state;
    const int64_t lengths[] = {4, 2};
    tl_unrolled handles;
    dice d = dice_of(6);
    for (int what = 0; what < 4; what++) {
        net *n = net_of(&cases[10], (tl_rnn_config){.input = 3,
                                                    .hidden = 4,
                                                    .layers = 1,
                                                    .recurrent_dropout = what == 2 ? 0.5 : 0,
                                                    .zoneout = {what == 3 ? 0.2 : 0}});
        tl_tape *t = tl_tape_new(NULL);
        tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(4, 2, 3), -1, 1);
        tl_unroll_options o = {.lengths = what == 0 ? lengths : NULL,
                               .handles = what == 1 ? &handles : NULL,
                               .training = what == 2};
        tl_unroll_with(t, &n->rnn, tl_constant(t, x), NULL, &o);
        assert_ok(t);
        assert_int_equal(count_scans(t), 0);
        tl_tape_free(t);
        tl_tensor_release(x);
        net_free(n);
    }
}

/* ---- all that a network does with a cell -------------------------------------------------- */

typedef struct combination {
    const char *name;
    tl_rnn_config config; /* input, hidden and layers are filled in */
    bool training, lengths, reset;
} combination;

static const combination combinations[] = {
    {.name = "bidirectional", .config = {.bidirectional = true}},
    {.name = "bidirectional, steps", .config = {.bidirectional = true, .sequential = true}},
    {.name = "lengths", .lengths = true},
    {.name = "lengths, bidirectional", .config = {.bidirectional = true}, .lengths = true},
    {.name = "reset", .reset = true},
    {.name = "zoneout", .config = {.zoneout = {0.3, 0.4, 0.2}}},
    {.name = "zoneout in training", .config = {.zoneout = {0.3, 0.4, 0.2}}, .training = true},
    {.name = "dropout", .config = {.dropout = 0.4}, .training = true},
    {.name = "variational", .config = {.variational = 0.4}, .training = true},
    {.name = "recurrent dropout", .config = {.recurrent_dropout = 0.4}, .training = true},
    {.name = "drop_connect", .config = {.drop_connect = 0.4}, .training = true},
    {.name = "residual", .config = {.connection = TL_RESIDUAL}},
    {.name = "highway", .config = {.connection = TL_HIGHWAY}},
    {.name = "layer norm", .config = {.layer_norm = true}},
    {.name = "learned state", .config = {.learned_state = true}},
    {.name = "batch first", .config = {.batch_first = true}},
    {.name = "all at once",
     .config = {.bidirectional = true,
                .zoneout = {0.1, 0.2, 0.1},
                .dropout = 0.3,
                .variational = 0.3,
                .connection = TL_HIGHWAY,
                .layer_norm = true},
     .training = true,
     .lengths = true},
};

static bool can_combine(const cell_case *of, const combination *with)
{
    return !(with->config.recurrent_dropout > 0 && of->unread) &&
           !(with->config.drop_connect > 0 && of->scans);
}

enum { STEPS = 4, ROWS = 3 };

/* x: [STEPS,ROWS,I]; what is beyond the lengths is NaN. */
static void spoil_padding(tl_tensor *x, const int64_t *lengths)
{
    int64_t size = x->layout.shape[2];
    for (int64_t i = 0; i < x->layout.count; i++)
        if (i / size / ROWS >= lengths[i / size % ROWS])
            tl_tensor_set(x, i, NAN);
}

/* The resets come with the tape, and so are made in the function. */
static tl_var with_resets(tl_tape *t, const tl_var *in, void *context)
{
    net *n = context;
    const uint8_t reset[STEPS * ROWS] = {0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0};
    n->unroll.reset = tl_constant_from(t, TL_U8, TL_SHAPE(STEPS, ROWS), reset);
    return all_of_it(t, in, n);
}

static void check_combination(const cell_case *of, const combination *with, dice *d)
{
    const int64_t lengths[ROWS] = {2, 4, 0};
    tl_rnn_config config = with->config;
    config.input = 3;
    config.hidden = 3 - (with->config.connection == TL_PLAIN); /* 2: all sizes different */
    config.layers = 2;
    net *n = net_of(of, config);
    inputs in = inputs_of(n, STEPS, ROWS, d);
    n->unroll.training = with->training;
    n->unroll.lengths = with->lengths ? lengths : NULL;
    if (with->lengths)
        spoil_padding(in.tensor[0], lengths);
    if (with->config.batch_first) {
        tl_tensor_release(in.tensor[0]);
        in.tensor[0] = random_tensor(d, TL_F64, TL_SHAPE(ROWS, STEPS, 3), -1, 1);
    }
    tl_gradcheck_report r;
    if (tl_gradcheck(with->reset ? with_resets : all_of_it, n, in.count, in.tensor, NULL, &r) != TL_OK)
        fail_msg("%s, %s: %s", of->name, with->name, r.message);
    if (r.warnings)
        fail_msg("%s, %s: %s", of->name, with->name, r.message);
    inputs_free(&in);
    net_free(n);
}

static void gradients_in_every_combination(void **state)
{
    (void)state;
    dice d = dice_of(7);
    for (int k = 0; k < COUNT_OF(cases); k++)
        for (int j = 0; j < COUNT_OF(combinations); j++)
            if (can_combine(&cases[k], &combinations[j]))
                check_combination(&cases[k], &combinations[j], &d);
}

/* ---- sequences that go on ---------------------------------------------------------------- */

/* In two pieces, the states handed on, the numbers are those of one; QRNN's window is whole. */
static void a_sequence_in_two_pieces(void **state)
{
    (void)state;
    dice d = dice_of(8);
    for (int k = 0; k < COUNT_OF(cases); k++)
        for (int sequential = 0; sequential < 2; sequential++) {
            net *n =
                net_of(&cases[k],
                       (tl_rnn_config){.input = 4, .hidden = 6, .layers = 2, .sequential = sequential});
            tl_tape *t = tl_tape_new(NULL);
            tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(7, 2, 4), -1, 1);
            tl_var v = tl_constant(t, x), whole[MOST_ALL] = {TL_NONE}, parts[MOST_ALL] = {TL_NONE};
            tl_var y = tl_unroll(t, &n->rnn, v, whole), piece[2];
            piece[0] = tl_unroll(t, &n->rnn, tl_slice(t, v, 0, 0, 1, 1), parts);
            piece[1] = tl_unroll(t, &n->rnn, tl_slice(t, v, 0, 1, 7, 1), parts);
            assert_vars(t, tl_concat(t, 2, piece, 0), y, 1e-12);
            for (int s = 0; s < tl_rnn_states(&n->rnn); s++)
                assert_vars(t, parts[s], whole[s], 1e-12);
            tl_tape_free(t);
            tl_tensor_release(x);
            net_free(n);
        }
}

/* The state of a row that is over: its own last input. In the backward direction: its first. */
static void qrnn_remembers_the_last_input_of_a_row(void **state)
{
    (void)state;
    const int64_t lengths[] = {4, 2, 0};
    dice d = dice_of(9);
    net *n =
        net_of(&cases[9], (tl_rnn_config){.input = 2, .hidden = 5, .layers = 1, .bidirectional = true});
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(4, 3, 2), -1, 1);
    tl_var v[MOST_ALL] = {TL_NONE};
    tl_unroll_options o = {.lengths = lengths};
    tl_unroll_with(t, &n->rnn, tl_constant(t, x), v, &o);
    assert_ok(t);
    for (int i = 0; i < 2; i++) {
        assert_same(item_at(t, v[2], i), tl_tensor_get(x, (3 * 3 + 0) * 2 + i));
        assert_same(item_at(t, v[2], 2 + i), tl_tensor_get(x, (1 * 3 + 1) * 2 + i));
        assert_same(item_at(t, v[2], 4 + i), 0);
        assert_same(item_at(t, v[5], i), tl_tensor_get(x, i));
        assert_same(item_at(t, v[5], 2 + i), tl_tensor_get(x, (0 * 3 + 1) * 2 + i));
        assert_same(item_at(t, v[5], 4 + i), 0);
    }
    tl_tape_free(t);
    tl_tensor_release(x);
    net_free(n);
}

/* Both gates of minLSTM so small that they are 0, and one infinitely smaller than the other. */
static void minlstm_divides_no_zeros(void **state)
{
    (void)state;
    net *n = net_of(&cases[12], (tl_rnn_config){.input = 1, .hidden = 3, .layers = 1});
    const double gates[] = {-2000, -2000, -1500, -2000, -2001, -1400};
    tl_param *b = tl_rnn_weight(&n->rnn, 0, 0, "bias");
    for (int i = 0; i < 6; i++)
        tl_tensor_set(b->value, i, gates[i]);
    tl_tape *t = tl_tape_new(NULL);
    tl_var h = constant_f64(t, TL_SHAPE(1, 3), REALS(1, 2, 3)), before = h;
    tl_var y = tl_unroll(t, &n->rnn, tl_full(t, TL_F64, TL_SHAPE(1, 1, 1), 0), &h);
    assert_ok(t);
    for (int j = 0; j < 3; j++) {
        double odds[] = {0.5, squash(1), 0};
        double candidate = tl_tensor_get(b->value, 6 + j), was = item_at(t, before, j);
        assert_near_at(item_at(t, y, j), odds[j] * was + (1 - odds[j]) * candidate, 1e-12, j);
    }
    assert_int_equal(tl_backward(t, tl_sum(t, y)), TL_OK);
    for (int64_t i = 0; i < b->gradient->layout.count; i++)
        assert_true(isfinite(tl_tensor_get(b->gradient, i)));
    tl_tape_free(t);
    net_free(n);
}

/* ---- building ---------------------------------------------------------------------------- */

static void indrnn_begins_with_memory_under_every_scheme(void **state)
{
    (void)state;
    for (int scheme = TL_RNN_UNIFORM; scheme <= TL_RNN_IDENTITY; scheme++) {
        tl_params *params = tl_params_new(TL_F64, 1);
        tl_rnn rnn;
        tl_rnn_init(&rnn, params,
                    &(tl_rnn_config){.cell = &tl_indrnn_cell,
                                     .input = 2,
                                     .hidden = 3,
                                     .layers = 1,
                                     .init = (tl_rnn_scheme)scheme});
        assert_int_equal(tl_params_status(params), TL_OK);
        for (int i = 0; i < 3; i++)
            assert_same(tl_tensor_get(tl_rnn_weight(&rnn, 0, 0, "weight_u")->value, i), 1);
        tl_rnn_free(&rnn);
        tl_params_free(params);
    }
}

static void refused(const tl_cell_type *type, const void *options, tl_rnn_config config,
                    const char *message)
{
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_rnn rnn;
    config.cell = type;
    config.options = options;
    config.input = 2;
    config.hidden = 3;
    config.layers = 1;
    tl_rnn_init(&rnn, params, &config);
    char expected[TL_MESSAGE_SIZE];
    snprintf(expected, sizeof expected, "rnn of %s cells: %s", type->name, message);
    assert_int_equal(tl_params_status(params), TL_ERR_ARGUMENT);
    assert_string_equal(params->error.message, expected);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

static void bad_configurations_are_refused_in_words(void **state)
{
    (void)state;
    const char *alpha = "alpha must lie between 0 and 1, or be 0 for 0.95";
    const double alphas[] = {1, -0.5, 1.5, NAN};
    for (int k = 0; k < COUNT_OF(cases); k++) {
        const tl_cell_type *type = cases[k].type;
        if (cases[k].shapes[0][0] != 'P')
            refused(type, cases[k].options, (tl_rnn_config){.projection = 2},
                    "they have no projection");
        if (cases[k].scans)
            refused(type, cases[k].options, (tl_rnn_config){.drop_connect = 0.1},
                    "it has no recurrent weights for drop_connect to drop");
        if (cases[k].unread)
            refused(type, cases[k].options, (tl_rnn_config){.recurrent_dropout = 0.1},
                    "no step reads its state h, on which recurrent_dropout acts");
    }
    for (int k = 0; k < COUNT_OF(alphas); k++)
        refused(&tl_scrn_cell, &(tl_scrn_options){.alpha = alphas[k]}, (tl_rnn_config){.input = 1},
                alpha);
    refused(&tl_scrn_cell, &(tl_scrn_options){.context = -1}, (tl_rnn_config){.input = 1},
            "the number of context units must be at least 1, or 0 for as many as hidden ones");
}

/* A state of the wrong size is named. */
static void a_state_of_another_size_is_refused(void **state)
{
    (void)state;
    net *n = net_of(&cases[9], (tl_rnn_config){.input = 2, .hidden = 3, .layers = 1});
    tl_tape *t = tl_tape_new(NULL);
    tl_var v[3] = {TL_NONE, TL_NONE, tl_full(t, TL_F64, TL_SHAPE(4, 3), 0)};
    tl_unroll(t, &n->rnn, tl_full(t, TL_F64, TL_SHAPE(5, 4, 2), 0), v);
    assert_error(t, TL_ERR_SHAPE,
                 "unroll: qrnn cell: state x given is f64 [4,3], not f64 [4,2] (layer 0)");
    tl_tape_free(t);
    net_free(n);
}

static void contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no \"%s\" in\n%s", part, text);
}

static void descriptions_show_equations_and_parameters(void **state)
{
    (void)state;
    for (int k = 0; k < COUNT_OF(cases); k++) {
        net *n = net_of(&cases[k], (tl_rnn_config){.input = 5, .hidden = 7, .layers = 1});
        char *text = NULL, line[128], shape[TL_LAYOUT_TEXT];
        size_t size = 0;
        FILE *stream = open_memstream(&text, &size);
        assert_non_null(stream);
        assert_int_equal(tl_cell_describe(&n->rnn.config, stream), TL_OK);
        fclose(stream);
        contains(text, cases[k].type->name);
        contains(text, cases[k].type->equations);
        contains(cases[k].type->equations, "' = ");
        contains(cases[k].type->equations, k < 2 ? "(1986)" : "et al.");
        for (int p = 0; p < n->params->count; p++) {
            const tl_param *entry = n->params->entry[p];
            snprintf(line, sizeof line, "  %-32s %-14s %lld\n", entry->name,
                     tl_layout_text(&entry->value->layout, shape),
                     (long long)entry->value->layout.count);
            contains(text, line);
        }
        free(text);
        net_free(n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_and_states_are_the_equations),
        cmocka_unit_test(sru_projects_only_what_does_not_fit),
        cmocka_unit_test(gradients_through_seven_steps),
        cmocka_unit_test(gradients_of_gradients_through_time),
        cmocka_unit_test(a_scan_is_its_steps),
        cmocka_unit_test(there_is_no_scan_between_which_something_happens),
        cmocka_unit_test(gradients_in_every_combination),
        cmocka_unit_test(a_sequence_in_two_pieces),
        cmocka_unit_test(qrnn_remembers_the_last_input_of_a_row),
        cmocka_unit_test(minlstm_divides_no_zeros),
        cmocka_unit_test(indrnn_begins_with_memory_under_every_scheme),
        cmocka_unit_test(bad_configurations_are_refused_in_words),
        cmocka_unit_test(a_state_of_another_size_is_refused),
        cmocka_unit_test(descriptions_show_equations_and_parameters),
    };
    return cmocka_run_group_tests_name("more cells", tests, NULL, NULL);
}
