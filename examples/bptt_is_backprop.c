/* bptt_is_backprop.c - backpropagation through time is backpropagation, and nothing else.
 *
 * A recurrent network applies the same weights at every step. Write the steps side by side, and the
 * loop is gone: what is left is a feedforward network with T layers, whose layers happen to own the
 * same weights. Give each layer a copy of its own instead, W(1) .. W(T), and it is a feedforward
 * network in every respect; ordinary backpropagation yields dL/dW(t) for each copy. Now tie them
 * again. All copies are functions of one W, W(t) = W, so the chain rule says
 *
 *     dL/dW = sum over t of dL/dW(t)
 *
 * and that is BPTT: backpropagation on the unrolled graph, then a sum over time (Werbos,
 * "Backpropagation through time: what it does and how to do it", Proceedings of the IEEE 78, 1990;
 * Williams and Zipser, "Gradient-based learning algorithms for recurrent networks and their
 * computational complexity", in Chauvin and Rumelhart, "Backpropagation: Theory, Architectures, and
 * Applications", 1995). A tape needs no rule for time: the one leaf W is used T times, its gradient
 * is added to T times, and these additions are the sum.
 *
 * The program computes the gradient of a small Elman network and of a small LSTM in four ways:
 *
 *     hand       BPTT in plain C loops, derived beside the code, in manual_bptt.h. No tape in it.
 *     tape       tl_unroll and tl_backward: the recurrent network as one would train it.
 *     untied     the feedforward network written out, T copies of the weights, T gradients, summed.
 *     numeric    central differences of the loss.
 *
 * It fails (exit status 1) if they do not agree: tape and untied to 1e-12, numeric to 1e-6, relative to
 * the largest element of each parameter's gradient.
 *
 * Letters: T time, B batch, I input, H hidden, C classes. Steps count t = 1 .. T, as in the equations,
 * so that h[0] is the initial state. Loops: b < B, n < I, j and m < H, q < C. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tapeloop/tapeloop.h>

#include "manual_bptt.h"

enum { T = 7, B = 3, I = 4, H = 5, C = 6 }; /* all different: a transposition cannot hide */

typedef struct sequence {
    double x[T + 1][B][I]; /* row 0 of both is not used */
    int64_t target[T + 1][B];
} sequence;

/* The weight that is looked at step by step: of W_hh, how unit ROW listens to unit COLUMN. */
enum { ROW = 2, COLUMN = 1 };

/* ---- the decoder, by hand ------------------------------------------------------------------------
 *
 *     y_t = V h_t + v        p_t = softmax y_t        L = 1/(TB) sum over t, b of -log p_t[target_t]
 *
 * Softmax and logarithm together have a simple derivative:
 *
 *     e_t = dL/dy_t = (p_t - onehot(target_t)) / (TB)
 */
typedef struct decoder {
    double V[C][H], v[C];
} decoder;

/* One step of one sequence: its share of L, and e. */
static double decode(const decoder *w, const double *h, int64_t target, double *e)
{
    double y[C], largest = -INFINITY, sum = 0;
    for (int q = 0; q < C; q++) {
        y[q] = w->v[q];
        for (int j = 0; j < H; j++)
            y[q] += w->V[q][j] * h[j];
        largest = fmax(largest, y[q]);
    }
    for (int q = 0; q < C; q++)
        sum += exp(y[q] - largest); /* softmax does not notice a shift; exp no longer overflows */
    for (int q = 0; q < C; q++)
        e[q] = (exp(y[q] - largest) / sum - (q == target)) / (T * B);
    return (largest + log(sum) - y[target]) / (T * B);
}

/* dV += e h'   dv += e   and what this step's own loss wants of h:   dh = V' e */
static void decode_back(const decoder *w, const double *h, const double *e, decoder *d, double *dh)
{
    for (int j = 0; j < H; j++)
        dh[j] = 0;
    for (int q = 0; q < C; q++) {
        d->v[q] += e[q];
        for (int j = 0; j < H; j++) {
            d->V[q][j] += e[q] * h[j];
            dh[j] += w->V[q][j] * e[q];
        }
    }
}

/* ---- the two networks --------------------------------------------------------------------------
 *
 * Their equations, what BPTT makes of them, and the loops that are both: manual_elman, manual_lstm and
 * the like in manual_bptt.h. Here is how all numbers of a network, theta, lie one after the other, and
 * those of its gradient.
 */
typedef struct elman {
    double W_ih[H][I], b_ih[H];
    double W_hh[H][H], b_hh[H];
    decoder out;
    double h0[H]; /* learned, one for all sequences */
} elman;

enum { GATE_I, GATE_F, GATE_G, GATE_O, GATES };

typedef struct lstm {
    double W_ih[GATES][H][I], b_ih[GATES][H];
    double W_hh[GATES][H][H], b_hh[GATES][H];
    decoder out;
    double h0[H], c0[H];
} lstm;

/* Index of a parameter; the first six are used at every step. */
enum { W_IH, B_IH, W_HH, B_HH, V, V_BIAS, H0, C0, MOST_PARAMETERS };
enum { MOST_NUMBERS = sizeof(lstm) / sizeof(double) };

#define OFFSET(type, member) ((int)(offsetof(type, member) / sizeof(double)))

typedef struct network {
    const char *name, *equations;
    const tl_cell_type *cell;
    const void *options; /* the cell's */
    int states;
    int parameters;
    struct {
        const char *letter, *name; /* here and in the library */
        int offset;                /* of its numbers in theta */
    } parameter[MOST_PARAMETERS];
    const char *watched; /* the weight that is looked at step by step */
    int watched_row;     /* its row in W_hh as the library stores it */
    manual_cell by_hand;
    void (*step)(tl_tape *t, const tl_var *w, tl_var x, tl_var *state);
} network;

/* One step in the ops of the tape, with the weights it is given: w[W_IH], w[W_HH] ... */
static void elman_step(tl_tape *t, const tl_var *w, tl_var x, tl_var *state)
{
    tl_var h = state[0];
    tl_var a = tl_add(t, tl_linear_op(t, x, w[W_IH], w[B_IH]), tl_linear_op(t, h, w[W_HH], w[B_HH]));
    state[0] = tl_tanh(t, a);
}

static void lstm_step(tl_tape *t, const tl_var *w, tl_var x, tl_var *state)
{
    tl_var h = state[0], c = state[1], gate[GATES];
    tl_var a = tl_add(t, tl_linear_op(t, x, w[W_IH], w[B_IH]), tl_linear_op(t, h, w[W_HH], w[B_HH]));
    tl_chunk(t, a, GATES, 1, gate);
    tl_var i = tl_sigmoid(t, gate[GATE_I]);
    tl_var f = tl_sigmoid(t, gate[GATE_F]);
    tl_var g = tl_tanh(t, gate[GATE_G]);
    tl_var o = tl_sigmoid(t, gate[GATE_O]);
    state[1] = tl_add(t, tl_mul(t, f, c), tl_mul(t, i, g));
    state[0] = tl_mul(t, o, tl_tanh(t, state[1]));
}

/* clang-format off */
#define PARAMETERS_OF_BOTH(type)                               \
    [W_IH] = {"W_ih", "rnn.weight_ih_l0", OFFSET(type, W_ih)}, \
    [B_IH] = {"b_ih", "rnn.bias_ih_l0", OFFSET(type, b_ih)},   \
    [W_HH] = {"W_hh", "rnn.weight_hh_l0", OFFSET(type, W_hh)}, \
    [B_HH] = {"b_hh", "rnn.bias_hh_l0", OFFSET(type, b_hh)},   \
    [V] = {"V", "decoder.weight", OFFSET(type, out.V)},        \
    [V_BIAS] = {"v", "decoder.bias", OFFSET(type, out.v)},     \
    [H0] = {"h_0", "h0", OFFSET(type, h0)}

static const network elman_network = {
    .name = "Elman network",
    .equations = "    h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)\n",
    .cell = &tl_elman_cell, .states = 1, .by_hand = MANUAL_ELMAN, .step = elman_step,
    .parameters = H0 + 1, .parameter = {PARAMETERS_OF_BOTH(elman)},
    .watched = "W_hh", .watched_row = ROW};

static const network lstm_network = {
    .name = "LSTM",
    .equations = "    i_t, f_t, o_t = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)   g_t = tanh(same)\n"
                 "    c_t = f_t c_{t-1} + i_t g_t\n"
                 "    h_t = o_t tanh c_t             each gate with its own rows of W_ih, b_ih, W_hh, b_hh\n",
    .cell = &tl_lstm_cell, .options = &(tl_lstm_options){.forget_bias = 1},
    .states = 2, .by_hand = MANUAL_LSTM, .step = lstm_step,
    .parameters = C0 + 1, .parameter = {PARAMETERS_OF_BOTH(lstm), [C0] = {"c_0", "c0", OFFSET(lstm, c0)}},
    .watched = "the forget gate's W_hh", .watched_row = GATE_F * H + ROW};
/* clang-format on */

/* ---- by hand ---------------------------------------------------------------------------- */

/* The first four parameters, in manual_bptt.h. */
static const int used_by_hand[] = {
    [W_IH] = MANUAL_W_IH, [B_IH] = MANUAL_B_IH, [W_HH] = MANUAL_W_HH, [B_HH] = MANUAL_B_HH};

/* The initial state is one for all sequences. */
static void load(manual_net *m, const network *n, const double *theta)
{
    manual_layer *l = &m->layer[0];
    for (int p = W_IH; p <= B_HH; p++) {
        int w = used_by_hand[p];
        memcpy(l->value[w], theta + n->parameter[p].offset,
               (size_t)manual_count(m, 0, w) * sizeof *theta);
    }
    for (int k = 0; k < n->states; k++)
        for (int b = 0; b < B; b++)
            memcpy((k ? l->c : l->h) + b * H, theta + n->parameter[H0 + k].offset, H * sizeof *theta);
}

/* Sums over the steps, and for the initial states over the sequences, which share them. */
static void collect(const manual_net *m, const network *n, double *gradient)
{
    const manual_layer *l = &m->layer[0];
    for (int p = W_IH; p <= B_HH; p++) {
        int64_t count = manual_count(m, 0, used_by_hand[p]);
        for (int64_t i = 0; i < T * count; i++)
            gradient[n->parameter[p].offset + i % count] += l->gradient[used_by_hand[p]][i];
    }
    for (int k = 0; k < n->states; k++)
        for (int i = 0; i < B * H; i++)
            gradient[n->parameter[H0 + k].offset + i % H] += (k ? l->dc : l->dh)[i];
}

/* Returns L; NaN if there is no memory. gradient, if it is not NULL, gets dL/dtheta in theta's order,
 * and share[t] what step t adds to dL/dW_hh[watched_row][COLUMN]. Both begin with zeros. */
static double by_hand(const network *n, const double *theta, const sequence *s, double *gradient,
                      double *share)
{
    const manual_config config = {
        .cell = n->by_hand, .bias = true, .layers = 1, .T = T, .B = B, .I = I, .H = H};
    manual_net m;
    decoder w, d = {0};
    double loss = 0, e[C], dy[T * B * H];
    memcpy(&w, theta + n->parameter[V].offset, sizeof w);
    if (!manual_make(&m, &config))
        return NAN;
    load(&m, n, theta);
    manual_forward(&m, s->x[1][0]);
    for (int i = 0; i < T * B; i++) { /* y of one step of one sequence */
        const double *h = manual_output(&m) + i * H;
        loss += decode(&w, h, s->target[1 + i / B][i % B], e);
        decode_back(&w, h, e, &d, dy + i * H);
    }
    if (gradient) {
        manual_backward(&m, dy);
        collect(&m, n, gradient);
        memcpy(gradient + n->parameter[V].offset, &d, sizeof d);
        for (int t = 1; t <= T; t++) {
            int64_t at = ((t - 1) * m.G * H + n->watched_row) * H + COLUMN;
            share[t] = m.layer[0].gradient[MANUAL_W_HH][at];
        }
    }
    manual_free(&m);
    return loss;
}

/* ---- by tape ---------------------------------------------------------------------------- */

/* The same network in the library's terms. */
typedef struct model {
    tl_params *params;
    tl_rnn rnn;
    tl_linear_layer decoder;
    tl_param *parameter[MOST_PARAMETERS];
    int numbers;                /* in theta */
    double theta[MOST_NUMBERS]; /* all parameters, in the order of struct elman or lstm */
} model;

static tl_status model_init(model *m, const network *n, uint64_t seed)
{
    *m = (model){.params = tl_params_new(TL_F64, seed)};
    if (!m->params)
        return TL_ERR_MEMORY;
    tl_rnn_config config = {
        .cell = n->cell, .options = n->options, .input = I, .hidden = H, .layers = 1};
    tl_rnn_init(&m->rnn, m->params, &config);
    tl_linear_init(&m->decoder, m->params, "decoder.", H, C, true);
    for (int p = H0; p < n->parameters; p++) {
        tl_param *state = tl_params_add(m->params, "", n->parameter[p].name, TL_SHAPE(H));
        if (state)
            tl_random_uniform(&m->params->random, state->value, -1, 1);
    }
    for (int p = 0; p < n->parameters && tl_params_status(m->params) == TL_OK; p++) {
        tl_param *found = m->parameter[p] = tl_params_find(m->params, n->parameter[p].name);
        if (!found)
            return TL_ERR_ARGUMENT;
        for (int64_t k = 0; k < found->value->layout.count; k++)
            m->theta[n->parameter[p].offset + k] = tl_tensor_get(found->value, k);
        m->numbers += (int)found->value->layout.count;
    }
    return tl_params_status(m->params);
}

static void model_free(model *m)
{
    tl_rnn_free(&m->rnn);
    tl_params_free(m->params);
}

/* ---- four gradients --------------------------------------------------------------------- */

enum { HAND, TAPE, UNTIED, NUMERIC, METHODS };

static const struct {
    const char *name;
    double allowed; /* relative difference from the one by hand */
} methods[METHODS] = {{"hand", 0}, {"tape", 1e-12}, {"untied", 1e-12}, {"numeric", 1e-6}};

/* Of a parameter's gradient from the one by hand. What is judged is the difference relative to the
 * parameter's largest element: an element that is a thousand times smaller because its T B terms
 * cancel has, in any order of summation, a thousand times the relative rounding error. That stricter
 * number is printed too. */
typedef struct difference {
    double largest;  /* max over the elements of |hand| */
    double absolute; /* max over the elements of |hand - other| */
    double relative; /* absolute / largest: what is judged */
    double own;      /* max over the elements of |hand - other| / max(|hand|, |other|) */
    int where;       /* the element of `own` */
} difference;

typedef struct results {
    double loss[NUMERIC]; /* by hand, tape, untied */
    double gradient[METHODS][MOST_NUMBERS];
    double share[NUMERIC][T + 1]; /* of the watched weight, by hand and untied */
    uint32_t variables[NUMERIC];  /* on the tape */
    difference difference[METHODS][MOST_PARAMETERS];
} results;

static tl_var initial_state(tl_tape *t, tl_var learned)
{
    return tl_expand(t, learned, TL_SHAPE(B, H)); /* the same for all sequences */
}

/* The recurrent network, as one would train it. Every parameter is one leaf. */
static tl_status by_tape(tl_tape *t, const network *n, const model *m, const sequence *s, results *r)
{
    tl_tape_reset(t);
    tl_var x = tl_constant_from(t, TL_F64, TL_SHAPE(T, B, I), s->x[1]);
    tl_var target = tl_constant_from(t, TL_I64, TL_SHAPE(T, B), s->target[1]);
    tl_var state[2] = {TL_NONE, TL_NONE};
    for (int k = 0; k < n->states; k++)
        state[k] = initial_state(t, tl_use(t, m->parameter[H0 + k]));

    tl_var h = tl_unroll(t, &m->rnn, x, state);
    tl_var loss = tl_cross_entropy(t, tl_linear(t, h, &m->decoder), target, TL_REDUCE_MEAN);
    r->loss[TAPE] = tl_item(t, loss);
    r->variables[TAPE] = tl_tape_measure(t).variables;
    if (tl_backward(t, loss) != TL_OK)
        return tl_tape_status(t);

    for (int p = 0; p < n->parameters; p++)
        for (int64_t k = 0; k < m->parameter[p]->value->layout.count; k++)
            r->gradient[TAPE][n->parameter[p].offset + k] = tl_tensor_get(m->parameter[p]->gradient, k);
    return TL_OK;
}

/* The feedforward network: T layers, each with weights of its own. copy[0]: the initial states. */
static tl_var written_out(tl_tape *t, const network *n, const model *m, const sequence *s,
                          tl_var copy[T + 1][MOST_PARAMETERS])
{
    tl_var state[2], loss = tl_full(t, TL_F64, 0, NULL, 0);
    for (int k = 0; k < n->states; k++) {
        copy[0][H0 + k] = tl_leaf_untied(t, m->parameter[H0 + k]->value);
        state[k] = initial_state(t, copy[0][H0 + k]);
    }
    for (int step = 1; step <= T; step++) {
        tl_var *w = copy[step];
        for (int p = 0; p < H0; p++)
            w[p] = tl_leaf_untied(t, m->parameter[p]->value);
        tl_var x = tl_constant_from(t, TL_F64, TL_SHAPE(B, I), s->x[step]);
        tl_var target = tl_constant_from(t, TL_I64, TL_SHAPE(B), s->target[step]);
        n->step(t, w, x, state);
        tl_var y = tl_linear_op(t, state[0], w[V], w[V_BIAS]);
        loss = tl_add(t, loss, tl_cross_entropy(t, y, target, TL_REDUCE_SUM));
    }
    return tl_affine(t, loss, 1.0 / (T * B), 0);
}

/* Backpropagation on it, then the sum over the copies. */
static tl_status by_untied(tl_tape *t, const network *n, const model *m, const sequence *s, results *r)
{
    tl_var copy[T + 1][MOST_PARAMETERS] = {0}; /* TL_NONE, all of them */
    tl_tape_reset(t);
    tl_var loss = written_out(t, n, m, s, copy);
    r->loss[UNTIED] = tl_item(t, loss);
    r->variables[UNTIED] = tl_tape_measure(t).variables;
    if (tl_backward(t, loss) != TL_OK)
        return tl_tape_status(t);

    for (int step = 0; step <= T; step++) {
        for (int p = 0; p < n->parameters; p++) {
            if (tl_is_none(copy[step][p]))
                continue;
            tl_array g = tl_value(t, tl_gradient(t, copy[step][p]));
            if (!g.data || !g.layout->contiguous)
                return tl_tape_fail(t, TL_ERR_CHECK, "no gradient of copy %d", step);
            const double *numbers = g.data;
            for (int64_t k = 0; k < g.layout->count; k++)
                r->gradient[UNTIED][n->parameter[p].offset + k] += numbers[k];
            if (p == W_HH)
                r->share[UNTIED][step] = numbers[n->watched_row * H + COLUMN];
        }
    }
    return TL_OK;
}

/* (L(theta + h) - L(theta - h)) / 2h, one number of theta at a time. The error of the formula grows
 * with h h, that of rounding with 2^-53 / h; h near the cube root of 2^-53 balances them. */
static void by_differences(const network *n, const model *m, const sequence *s, results *r)
{
    const double h = 0x1p-17;
    double theta[MOST_NUMBERS];
    memcpy(theta, m->theta, sizeof theta);
    for (int k = 0; k < m->numbers; k++) {
        theta[k] = m->theta[k] + h;
        double above = by_hand(n, theta, s, NULL, NULL);
        theta[k] = m->theta[k] - h;
        double below = by_hand(n, theta, s, NULL, NULL);
        theta[k] = m->theta[k];
        r->gradient[NUMERIC][k] = (above - below) / (2 * h);
    }
}

/* ---- comparing -------------------------------------------------------------------------- */

/* NaN counts as larger than all numbers, and stays. */
static double larger(double a, double b)
{
    return isnan(a) || a >= b ? a : b;
}

static difference compare(const double *hand, const double *other, int64_t count)
{
    difference d = {0};
    for (int k = 0; k < count; k++) {
        double absolute = fabs(hand[k] - other[k]);
        double own = absolute > 0 ? absolute / fmax(fabs(hand[k]), fabs(other[k])) : absolute;
        d.largest = larger(d.largest, fabs(hand[k]));
        d.absolute = larger(d.absolute, absolute);
        d.where = own > d.own ? k : d.where;
        d.own = larger(d.own, own);
    }
    d.relative = d.absolute / d.largest; /* NaN for a gradient of zeros: it would prove nothing */
    return d;
}

static void compare_all(const network *n, const model *m, results *r)
{
    for (int method = TAPE; method < METHODS; method++) {
        for (int p = 0; p < n->parameters; p++) {
            const double *hand = r->gradient[HAND] + n->parameter[p].offset;
            const double *other = r->gradient[method] + n->parameter[p].offset;
            r->difference[method][p] = compare(hand, other, m->parameter[p]->value->layout.count);
        }
    }
}

/* Names what does not agree, and returns 1; 0 where all is well. */
static int judge(const network *n, const char *what, int method, difference d)
{
    if (d.relative <= methods[method].allowed) /* not so for NaN */
        return 0;
    printf("FAILS: %s, %s: hand and %s differ by %.2e relative; %.0e is allowed\n", n->name, what,
           methods[method].name, d.relative, methods[method].allowed);
    return 1;
}

static int judge_all(const network *n, const results *r)
{
    int failures = 0;
    for (int p = 0; p < n->parameters; p++)
        for (int method = TAPE; method < METHODS; method++)
            failures += judge(n, n->parameter[p].name, method, r->difference[method][p]);
    for (int method = TAPE; method <= UNTIED; method++)
        failures += judge(n, "the loss", method, compare(&r->loss[HAND], &r->loss[method], 1));
    difference steps = compare(r->share[HAND] + 1, r->share[UNTIED] + 1, T);
    return failures + judge(n, "one weight step by step", UNTIED, steps);
}

/* ---- printing --------------------------------------------------------------------------- */

static void print_introduction(uint64_t seed)
{
    printf("Backpropagation through time is backpropagation on the unrolled network.\n\n"
           "The gradient of L = mean over steps and sequences of -log softmax(V h_t + v)[target_t],\n"
           "in double precision, computed four times:\n\n"
           "    hand     BPTT in plain C loops, from t = T back to t = 1, with += at every step\n"
           "    tape     the recurrent network on the tape, one leaf for each parameter\n"
           "    untied   the feedforward network written out on the tape: T copies of the weights,\n"
           "             each a leaf with a gradient of its own; the T gradients are then summed\n"
           "    numeric  central differences of L\n\n");
    printf("T = %d steps, B = %d sequences, I = %d inputs, H = %d hidden, C = %d classes, seed %" PRIu64
           "\n\n",
           T, B, I, H, C, seed);
}

static void print_losses(const results *r)
{
    printf("L = %.16f   by hand\n", r->loss[HAND]);
    printf("    %.16f   on the tape, %u variables\n", r->loss[TAPE], r->variables[TAPE]);
    printf("    %.16f   written out, %u variables\n\n", r->loss[UNTIED], r->variables[UNTIED]);
}

static void print_parameters(const network *n, const model *m, const results *r)
{
    char shape[TL_LAYOUT_TEXT];
    printf("Differences from the gradient by hand, the largest in each parameter. Relative ones are\n"
           "divided by the largest element of that parameter's gradient, which stands in front.\n\n");
    printf("%-24s %-7s  largest   tape                untied, summed      numeric\n", "", "");
    printf("%-24s %-7s  element   absolute relative   absolute relative   absolute relative\n",
           "parameter", "shape");
    for (int p = 0; p < n->parameters; p++) {
        printf("%-5s %-18s %-7s %8.2e", n->parameter[p].letter, n->parameter[p].name,
               tl_layout_text(&m->parameter[p]->value->layout, shape), r->difference[TAPE][p].largest);
        for (int method = TAPE; method < METHODS; method++)
            printf("   %8.2e %8.2e", r->difference[method][p].absolute,
                   r->difference[method][p].relative);
        printf("\n");
    }
    printf("%-32s %8s", "allowed", "");
    for (int method = TAPE; method < METHODS; method++)
        printf("   %8s %8.0e", "", methods[method].allowed);
    printf("\n\n");
}

/* The strict measure: every element divided by itself, however small cancellation has made it. */
static void print_worst_elements(const network *n, const model *m, const results *r)
{
    printf("With each difference divided by the element itself, the worst of all %d elements:\n\n",
           m->numbers);
    for (int method = TAPE; method < METHODS; method++) {
        int worst = 0;
        for (int p = 1; p < n->parameters; p++)
            if (r->difference[method][p].own > r->difference[method][worst].own)
                worst = p;
        difference d = r->difference[method][worst];
        printf("    %-8s %8.2e   in %s, where the gradient is %.2e\n", methods[method].name, d.own,
               n->parameter[worst].letter, r->gradient[HAND][n->parameter[worst].offset + d.where]);
    }
}

static void print_steps(const network *n, const results *r)
{
    int at = n->parameter[W_HH].offset + n->watched_row * H + COLUMN;
    double sum = 0;
    printf(
        "\nOne weight step by step: element [%d][%d] of %s, by which unit %d listens to\n"
        "unit %d. By hand, step t adds delta_t[%d] h_{t-1}[%d], summed over the batch. Untied, copy\n"
        "t of the weight has its own gradient. Backwards in time, as the gradient flows:\n\n",
        ROW, COLUMN, n->watched, ROW, COLUMN, ROW, COLUMN);
    printf("    t   %23s   %23s   difference   %23s\n", "hand: step t adds", "untied: dL/dW(t)",
           "untied: summed so far");
    for (int t = T; t >= 1; t--) {
        double hand = r->share[HAND][t], untied = r->share[UNTIED][t];
        sum += untied;
        printf("%5d   %23.16e   %23.16e   %10.1e   %23.16e\n", t, hand, untied, untied - hand, sum);
    }
    printf("\n%68s   %23.16e\n", "tape: the one leaf, used T times", r->gradient[TAPE][at]);
    printf("%68s   %23.16e\n", "hand: after T times +=", r->gradient[HAND][at]);
    printf("%68s   %23.16e\n\n", "numeric", r->gradient[NUMERIC][at]);
}

/* ---- the lesson ------------------------------------------------------------------------- */

static void make_sequence(uint64_t seed, sequence *s)
{
    tl_random parent = tl_random_seed(seed), random = tl_random_split(&parent, 1);
    memset(s, 0, sizeof *s);
    for (int t = 1; t <= T; t++) {
        for (int b = 0; b < B; b++) {
            s->target[t][b] = tl_random_below(&random, C);
            for (int n = 0; n < I; n++)
                s->x[t][b][n] = 4 * tl_random_unit(&random) - 2;
        }
    }
}

static tl_status all_gradients(tl_tape *t, const network *n, const model *m, const sequence *s,
                               results *r)
{
    r->loss[HAND] = by_hand(n, m->theta, s, r->gradient[HAND], r->share[HAND]);
    by_differences(n, m, s, r);
    tl_status status = by_tape(t, n, m, s, r);
    if (status == TL_OK)
        status = by_untied(t, n, m, s, r);
    if (status != TL_OK)
        fprintf(stderr, "%s: %s\n", n->name, tl_tape_message(t));
    return status;
}

/* Returns the number of disagreements, or -1 with a message on stderr. */
static int teach(tl_tape *t, const network *n, const sequence *s, uint64_t seed)
{
    model m;
    results r = {0};
    int failures = -1;
    tl_status status = model_init(&m, n, seed);
    if (status != TL_OK) {
        fprintf(stderr, "%s: %s\n", n->name, tl_status_text(status));
    } else if (all_gradients(t, n, &m, s, &r) == TL_OK) {
        compare_all(n, &m, &r);
        printf("---- %s ----\n\n%s\n", n->name, n->equations);
        print_losses(&r);
        print_parameters(n, &m, &r);
        print_worst_elements(n, &m, &r);
        print_steps(n, &r);
        failures = judge_all(n, &r);
    }
    model_free(&m);
    return failures;
}

static int teach_all(uint64_t seed)
{
    sequence s;
    tl_tape *t = tl_tape_new(NULL);
    if (!t) {
        fprintf(stderr, "%s\n", tl_status_text(TL_ERR_MEMORY));
        return 1;
    }
    make_sequence(seed, &s);
    print_introduction(seed);
    int in_elman = teach(t, &elman_network, &s, seed), in_lstm = teach(t, &lstm_network, &s, seed);
    tl_tape_free(t);
    if (in_elman < 0 || in_lstm < 0)
        printf("FAILED: not all gradients could be computed.\n");
    else if (in_elman || in_lstm)
        printf("\nFAILED: %d comparisons do not agree; they are named above.\n", in_elman + in_lstm);
    else
        printf("All four agree, in both networks: BPTT is backpropagation, its sum over time a +=.\n");
    return in_elman || in_lstm;
}

static const char usage[] =
    "Usage: bptt_is_backprop [--seed N] [--help]\n\n"
    "Gradients of a small Elman network and a small LSTM by hand-written BPTT, by the tape, by the\n"
    "tape on the feedforward network written out, and by finite differences, side by side.\n"
    "Exit status: 0 if they agree, 1 if not, 2 if the options make no sense.\n\n"
    "  --seed N   of weights and data: 0 or more (default 1)\n"
    "  --help     this text\n";

static bool parse_seed(const char *text, uint64_t *seed)
{
    char *end;
    errno = 0;
    *seed = strtoull(text, &end, 10);
    return isdigit((unsigned char)*text) && !*end && !errno; /* strtoull would take "-1" */
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'}, {0}};
    uint64_t seed = 1;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(usage, stdout);
            return 0;
        }
        if (option == 's' && parse_seed(optarg, &seed))
            continue;
        if (option == 's')
            fprintf(stderr, "%s: --seed wants a whole number, not '%s'\n", argv[0], optarg);
        fputs(usage, stderr);
        return 2;
    }
    if (optind < argc) {
        fprintf(stderr, "%s: what is '%s'?\n%s", argv[0], argv[optind], usage);
        return 2;
    }
    return teach_all(seed);
}
