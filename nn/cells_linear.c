/* cells_linear.c - SRU, QRNN, minGRU and minLSTM as their equations.
 *
 * Their gates depend on the inputs alone, and the state is carried on by h' = a h + b, elementwise: a
 * linear recurrence, which one op writes out for all steps. So each cell has its gates in a function
 * that serves one step, [B,..], and all of them, [T,B,..]; a step, and a scan. */
#include "nn/cells.h"

#include "autograd/ops.h"
#include "nn/rnn.h"

static const char *refuse_linear(const tl_rnn_config *config, const void *options)
{
    (void)options;
    return config->drop_connect > 0 ? "it has no recurrent weights for drop_connect to drop" : NULL;
}

/* Of those whose state 0 is only what comes out. */
static const char *refuse_unread(const tl_rnn_config *config, const void *options)
{
    if (config->recurrent_dropout > 0)
        return "no step reads its state h, on which recurrent_dropout acts";
    return refuse_linear(config, options);
}

/* x of all steps [T,..]: the last one. */
static tl_var last_of(const tl_cell_call *c, tl_var x)
{
    return tl_select(c->tape, x, 0, c->steps - 1);
}

/* ---- SRU --------------------------------------------------------------------------------- *
 *
 * The first version's: gates that see no state. In later ones (EMNLP 2018) f and r also see v c, and
 * then only the products can be had for all steps at once. */

typedef struct sru {
    tl_var weight_ih, weight_fr, bias_fr, weight_highway;
} sru;

enum { PROJECTED = 1 };

static const tl_cell_weight sru_weights[] = {
    TL_WEIGHT(sru, weight_ih, .shape = "H,I"), TL_WEIGHT(sru, weight_fr, .shape = "2H,I"),
    TL_WEIGHT(sru, bias_fr, .shape = "2H", .bias = true),
    TL_WEIGHT(sru, weight_highway, .shape = "H,I", .feature = PROJECTED), TL_WEIGHTS_END};

static unsigned sru_features(const tl_rnn_config *config, const void *options)
{
    (void)options;
    return config->input == config->hidden ? 0 : PROJECTED;
}

/* [W x | W_f x + b_f | W_r x + b_r | the highway's x] */
static tl_var sru_input(const tl_cell_call *c, tl_var x)
{
    const sru *w = c->weights;
    tl_tape *t = c->tape;
    tl_var part[] = {tl_linear_op(t, x, w->weight_ih, TL_NONE),
                     tl_linear_op(t, x, w->weight_fr, w->bias_fr), x};
    if (!tl_is_none(w->weight_highway))
        part[2] = tl_linear_op(t, x, w->weight_highway, TL_NONE);
    return tl_concat(t, 3, part, -1);
}

typedef struct sru_gates {
    tl_var f, input, r, x; /* input: (1-f) W x; x: the highway's */
} sru_gates;

static sru_gates sru_gates_of(const tl_cell_call *c, tl_var x)
{
    tl_tape *t = c->tape;
    tl_var part[4];
    tl_chunk(t, x, 4, -1, part);
    tl_var f = tl_sigmoid(t, part[1]);
    return (sru_gates){.f = f,
                       .input = tl_mul(t, tl_rsub_scalar(t, f, 1), part[0]),
                       .r = tl_sigmoid(t, part[2]),
                       .x = part[3]};
}

/* r g(c) + (1-r) x */
static tl_var sru_output(const tl_cell_call *c, const sru_gates *gate, tl_var state)
{
    const tl_sru_options *o = c->options;
    tl_var seen = o->activation ? o->activation(c->tape, state) : tl_tanh(c->tape, state);
    return tl_lerp(c->tape, gate->x, seen, gate->r);
}

static void sru_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    sru_gates gate = sru_gates_of(c, x);
    state[1] = tl_addcmul(c->tape, gate.input, gate.f, state[1], 1);
    state[0] = sru_output(c, &gate, state[1]);
}

static tl_var sru_scan(const tl_cell_call *c, tl_var x, tl_var *state)
{
    sru_gates gate = sru_gates_of(c, x);
    tl_var all = tl_linear_recurrence(c->tape, gate.f, gate.input, state[1], false, 0);
    tl_var h = sru_output(c, &gate, all);
    state[0] = last_of(c, h);
    state[1] = last_of(c, all);
    return h;
}

const tl_cell_type tl_sru_cell = {
    .name = "sru",
    .equations =
        "f = sigmoid(W_f x + b_f)\n"
        "r = sigmoid(W_r x + b_r)\n"
        "c' = f c + (1-f) W x\n"
        "h' = r g(c') + (1-r) x        g: tanh unless another is given; W_highway x where I != H\n"
        "Lei et al., \"Training RNNs as fast as CNNs\", 2017, arXiv:1709.02755v1; not the gates of\n"
        "later versions (\"Simple recurrent units\", EMNLP 2018), which see c and cannot be scanned",
    .gates = "f, r in weight_fr and bias_fr",
    .bytes = sizeof(sru),
    .weights = sru_weights,
    .states = {{"h", "H"}, {"c", "H"}},
    .input = sru_input,
    .step = sru_step,
    .scan = sru_scan,
    .options_bytes = sizeof(tl_sru_options),
    .features = sru_features,
    .refuse = refuse_unread};

/* ---- QRNN -------------------------------------------------------------------------------- *
 *
 * A convolution over this input and the one before, which is a state: so a sequence that goes on in
 * another call has its window whole, a row that is over keeps its last input, a reset forgets it, and a
 * gradient that is cut is cut there too. */

typedef struct qrnn {
    tl_var weight_ih, weight_before, bias;
} qrnn;

static const tl_cell_weight qrnn_weights[] = {
    TL_WEIGHT(qrnn, weight_ih, .shape = "3H,I"), TL_WEIGHT(qrnn, weight_before, .shape = "3H,I"),
    TL_WEIGHT(qrnn, bias, .shape = "3H", .bias = true), TL_WEIGHTS_END};

/* [W x + b | x] */
static tl_var qrnn_input(const tl_cell_call *c, tl_var x)
{
    const qrnn *w = c->weights;
    tl_var part[] = {tl_linear_op(c->tape, x, w->weight_ih, w->bias), x};
    return tl_concat(c->tape, 2, part, -1);
}

static void qrnn_parts(const tl_cell_call *c, tl_var x, tl_var part[2])
{
    const int64_t sizes[] = {3 * c->hidden, c->input};
    tl_split(c->tape, x, 2, sizes, -1, part);
}

typedef struct qrnn_gates {
    tl_var f, input, o; /* input: (1-f) z */
} qrnn_gates;

/* from_x: W x + b; before: the inputs one step earlier. */
static qrnn_gates qrnn_gates_of(const tl_cell_call *c, tl_var from_x, tl_var before)
{
    const qrnn *w = c->weights;
    tl_tape *t = c->tape;
    tl_var gate[3];
    tl_chunk(t, tl_linear_op(t, before, w->weight_before, from_x), 3, -1, gate);
    tl_var f = tl_sigmoid(t, gate[1]);
    return (qrnn_gates){.f = f,
                        .input = tl_mul(t, tl_rsub_scalar(t, f, 1), tl_tanh(t, gate[0])),
                        .o = tl_sigmoid(t, gate[2])};
}

static void qrnn_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    tl_var part[2];
    qrnn_parts(c, x, part);
    qrnn_gates gate = qrnn_gates_of(c, part[0], state[2]);
    state[1] = tl_addcmul(c->tape, gate.input, gate.f, state[1], 1);
    state[0] = tl_mul(c->tape, gate.o, state[1]);
    state[2] = part[1];
}

/* x: [T,B,I]; first: [B,I]. first, x_0, .. x_T-2 */
static tl_var one_step_later(const tl_cell_call *c, tl_var x, tl_var first)
{
    tl_var part[] = {tl_unsqueeze(c->tape, first, 0), tl_slice(c->tape, x, 0, 0, c->steps - 1, 1)};
    return tl_concat(c->tape, 2, part, 0);
}

static tl_var qrnn_scan(const tl_cell_call *c, tl_var x, tl_var *state)
{
    tl_var part[2];
    qrnn_parts(c, x, part);
    qrnn_gates gate = qrnn_gates_of(c, part[0], one_step_later(c, part[1], state[2]));
    tl_var all = tl_linear_recurrence(c->tape, gate.f, gate.input, state[1], false, 0);
    tl_var h = tl_mul(c->tape, gate.o, all);
    state[0] = last_of(c, h);
    state[1] = last_of(c, all);
    state[2] = last_of(c, part[1]);
    return h;
}

const tl_cell_type tl_qrnn_cell = {
    .name = "qrnn",
    .equations =
        "z = tanh(W_z x + V_z x- + b_z)          x-: the input one step before, a state\n"
        "f = sigmoid(W_f x + V_f x- + b_f)       W: weight_ih, V: weight_before\n"
        "o = sigmoid(W_o x + V_o x- + b_o)\n"
        "c' = f c + (1-f) z\n"
        "h' = o c'\n"
        "Bradbury et al., \"Quasi-recurrent neural networks\", ICLR 2017, arXiv:1611.01576, with\n"
        "fo-pooling and a window of 2",
    .gates = "z, f, o",
    .bytes = sizeof(qrnn),
    .weights = qrnn_weights,
    .states = {{"h", "H"}, {"c", "H"}, {"x", "I"}},
    .input = qrnn_input,
    .step = qrnn_step,
    .scan = qrnn_scan,
    .refuse = refuse_unread};

/* ---- minGRU and minLSTM ------------------------------------------------------------------ *
 *
 * Both are h' = keep h + take; they differ in the gates. */

typedef struct minimal {
    tl_var weight_ih, bias;
} minimal;

static const tl_cell_weight mingru_weights[] = {TL_WEIGHT(minimal, weight_ih, .shape = "2H,I"),
                                                TL_WEIGHT(minimal, bias, .shape = "2H", .bias = true),
                                                TL_WEIGHTS_END};

static const tl_cell_weight minlstm_weights[] = {TL_WEIGHT(minimal, weight_ih, .shape = "3H,I"),
                                                 TL_WEIGHT(minimal, bias, .shape = "3H", .bias = true),
                                                 TL_WEIGHTS_END};

typedef struct minimal_gates {
    tl_var keep, take;
} minimal_gates;

static tl_var minimal_input(const tl_cell_call *c, tl_var x)
{
    const minimal *w = c->weights;
    return tl_linear_op(c->tape, x, w->weight_ih, w->bias);
}

/* n, or g(n) = n + 1/2 where n >= 0, else sigmoid n */
static tl_var candidate(const tl_cell_call *c, tl_var n)
{
    const tl_minimal_options *o = c->options;
    tl_tape *t = c->tape;
    if (!o->positive)
        return n;
    return tl_where(t, tl_ge_scalar(t, n, 0), tl_add_scalar(t, n, 0.5), tl_sigmoid(t, n));
}

static minimal_gates mingru_gates(const tl_cell_call *c, tl_var x)
{
    tl_tape *t = c->tape;
    tl_var part[2];
    tl_chunk(t, x, 2, -1, part);
    tl_var z = tl_sigmoid(t, part[0]);
    return (minimal_gates){.keep = tl_rsub_scalar(t, z, 1),
                           .take = tl_mul(t, z, candidate(c, part[1]))};
}

/* f / (f + i) = sigmoid(log f - log i), which is right where both gates are 0 in these digits. */
static minimal_gates minlstm_gates(const tl_cell_call *c, tl_var x)
{
    tl_tape *t = c->tape;
    tl_var part[3];
    tl_chunk(t, x, 3, -1, part);
    tl_var odds = tl_sub(t, tl_logsigmoid(t, part[0]), tl_logsigmoid(t, part[1]));
    tl_var i = tl_sigmoid(t, tl_neg(t, odds));
    return (minimal_gates){.keep = tl_sigmoid(t, odds), .take = tl_mul(t, i, candidate(c, part[2]))};
}

static tl_var one_step(const tl_cell_call *c, minimal_gates gate, tl_var h)
{
    return tl_addcmul(c->tape, gate.take, gate.keep, h, 1);
}

static tl_var all_steps(const tl_cell_call *c, minimal_gates gate, tl_var *h)
{
    tl_var all = tl_linear_recurrence(c->tape, gate.keep, gate.take, *h, false, 0);
    *h = last_of(c, all);
    return all;
}

static void mingru_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    state[0] = one_step(c, mingru_gates(c, x), state[0]);
}

static tl_var mingru_scan(const tl_cell_call *c, tl_var x, tl_var *state)
{
    return all_steps(c, mingru_gates(c, x), &state[0]);
}

static void minlstm_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    state[0] = one_step(c, minlstm_gates(c, x), state[0]);
}

static tl_var minlstm_scan(const tl_cell_call *c, tl_var x, tl_var *state)
{
    return all_steps(c, minlstm_gates(c, x), &state[0]);
}

#define MINIMAL_SOURCE "Feng et al., \"Were RNNs all we needed?\", 2024, arXiv:2410.01201"

const tl_cell_type tl_mingru_cell = {
    .name = "mingru",
    .equations = "z = sigmoid(W_z x + b_z)\n"
                 "n = W_n x + b_n                  if positive: g(n) = n >= 0 ? n + 1/2 : sigmoid n\n"
                 "h' = (1-z) h + z n\n" MINIMAL_SOURCE,
    .gates = "z, n",
    .bytes = sizeof(minimal),
    .weights = mingru_weights,
    .states = {{"h", "H"}},
    .input = minimal_input,
    .step = mingru_step,
    .scan = mingru_scan,
    .options_bytes = sizeof(tl_minimal_options),
    .refuse = refuse_linear};

const tl_cell_type tl_minlstm_cell = {
    .name = "minlstm",
    .equations = "f = sigmoid(W_f x + b_f)\n"
                 "i = sigmoid(W_i x + b_i)\n"
                 "n = W_n x + b_n                  if positive: g(n) = n >= 0 ? n + 1/2 : sigmoid n\n"
                 "h' = f / (f + i) h + i / (f + i) n\n" MINIMAL_SOURCE,
    .gates = "f, i, n",
    .bytes = sizeof(minimal),
    .weights = minlstm_weights,
    .states = {{"h", "H"}},
    .input = minimal_input,
    .step = minlstm_step,
    .scan = minlstm_scan,
    .options_bytes = sizeof(tl_minimal_options),
    .refuse = refuse_linear};
