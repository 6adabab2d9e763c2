/* cells.c - Elman, LSTM and GRU as their equations.
 *
 * What needs no recurrence is one product for all steps: W_ih x + b_ih, and b_hh as well, where it is
 * only added. */
#include "nn/cells.h"

#include "autograd/ops.h"
#include "nn/rnn.h"

/* A bias that is not there is not added. */
static tl_var plus_bias(tl_tape *t, tl_var x, tl_var bias)
{
    return tl_is_none(bias) ? x : tl_add(t, x, bias);
}

static tl_var both_biases(tl_tape *t, tl_var a, tl_var b)
{
    return tl_is_none(a) ? b : plus_bias(t, a, b);
}

/* What an activation is applied to, within +-clip. */
static tl_var clipped(tl_tape *t, tl_var x, double clip)
{
    return clip > 0 ? tl_clamp(t, x, -clip, clip) : x;
}

static const char *refuse_clip(double clip)
{
    return clip >= 0 ? NULL : "clip must be greater than 0, or 0 for none";
}

/* ---- Elman ------------------------------------------------------------------------------ */

typedef struct elman {
    tl_var weight_ih, weight_hh, bias_ih, bias_hh;
} elman;

static const tl_cell_weight elman_weights[] = {
    TL_WEIGHT(elman, weight_ih, .shape = "H,I"),
    TL_WEIGHT(elman, weight_hh, .shape = "H,H", .recurrent = true),
    TL_WEIGHT(elman, bias_ih, .shape = "H", .bias = true),
    TL_WEIGHT(elman, bias_hh, .shape = "H", .bias = true), TL_WEIGHTS_END};

static tl_var elman_input(const tl_cell_call *c, tl_var x)
{
    const elman *w = c->weights;
    return tl_linear_op(c->tape, x, w->weight_ih, both_biases(c->tape, w->bias_ih, w->bias_hh));
}

static void elman_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const elman *w = c->weights;
    const tl_elman_options *o = c->options;
    tl_var a = clipped(c->tape, tl_linear_op(c->tape, state[0], w->weight_hh, x), o->clip);
    state[0] = o->activation ? o->activation(c->tape, a) : tl_tanh(c->tape, a);
}

static const char *elman_refuse(const tl_rnn_config *config, const void *options)
{
    (void)config;
    return refuse_clip(((const tl_elman_options *)options)->clip);
}

const tl_cell_type tl_elman_cell = {
    .name = "elman",
    .equations = "h' = f(W_ih x + b_ih + W_hh h + b_hh),  f: tanh unless another is given\n"
                 "Elman, \"Finding structure in time\", Cognitive Science 14 (1990)",
    .bytes = sizeof(elman),
    .weights = elman_weights,
    .states = {{"h", "H"}},
    .input = elman_input,
    .step = elman_step,
    .options_bytes = sizeof(tl_elman_options),
    .refuse = elman_refuse};

/* ---- LSTM ------------------------------------------------------------------------------- */

typedef struct lstm {
    tl_var weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, weight_pi, weight_pf, weight_po;
    tl_var norm_ih_weight, norm_ih_bias, norm_hh_weight, norm_hh_bias, norm_c_weight, norm_c_bias;
} lstm;

enum { PROJECTED = 1, PEEPHOLE = 2, FORGET_PEEPHOLE = 4, NORMED = 8 };

static const tl_cell_weight lstm_weights[] = {
    TL_WEIGHT(lstm, weight_ih, .shape = "G,I"),
    TL_WEIGHT(lstm, weight_hh, .shape = "G,P", .recurrent = true),
    TL_WEIGHT(lstm, bias_ih, .shape = "G", .bias = true),
    TL_WEIGHT(lstm, bias_hh, .shape = "G", .bias = true),
    TL_WEIGHT(lstm, weight_hr, .shape = "P,H", .feature = PROJECTED),
    TL_WEIGHT(lstm, weight_pi, .shape = "H", .feature = PEEPHOLE),
    TL_WEIGHT(lstm, weight_pf, .shape = "H", .feature = FORGET_PEEPHOLE),
    TL_WEIGHT(lstm, weight_po, .shape = "H", .feature = PEEPHOLE),
    TL_WEIGHT(lstm, norm_ih_weight, .shape = "G", .init = TL_INIT_VALUE, .value = 1, .feature = NORMED),
    TL_WEIGHT(lstm, norm_ih_bias, .shape = "G", .init = TL_INIT_ZEROS, .feature = NORMED),
    TL_WEIGHT(lstm, norm_hh_weight, .shape = "G", .init = TL_INIT_VALUE, .value = 1, .feature = NORMED),
    TL_WEIGHT(lstm, norm_hh_bias, .shape = "G", .init = TL_INIT_ZEROS, .feature = NORMED),
    TL_WEIGHT(lstm, norm_c_weight, .shape = "H", .init = TL_INIT_VALUE, .value = 1, .feature = NORMED),
    TL_WEIGHT(lstm, norm_c_bias, .shape = "H", .init = TL_INIT_ZEROS, .feature = NORMED),
    TL_WEIGHTS_END};

static unsigned lstm_features(const tl_rnn_config *config, const void *options)
{
    const tl_lstm_options *o = options;
    return (config->projection ? PROJECTED : 0u) | (o->peephole ? PEEPHOLE : 0u) |
           (o->peephole && !o->coupled ? FORGET_PEEPHOLE : 0u) | (o->layer_norm ? NORMED : 0u);
}

static int64_t lstm_size(const tl_rnn_config *config, const void *options, char letter)
{
    const tl_lstm_options *o = options;
    return letter == 'G' ? (o->coupled ? 3 : 4) * config->hidden : 0;
}

static void lstm_init(const tl_rnn_config *config, const void *options, tl_param *const *weights)
{
    const tl_lstm_options *o = options;
    tl_param *bias = weights[2];
    for (int64_t i = config->hidden; bias && !o->coupled && i < 2 * config->hidden; i++)
        tl_tensor_set(bias->value, i, tl_tensor_get(bias->value, i) + o->forget_bias);
}

static tl_var lstm_input(const tl_cell_call *c, tl_var x)
{
    const lstm *w = c->weights;
    const tl_lstm_options *o = c->options;
    tl_tape *t = c->tape;
    tl_var bias = both_biases(t, w->bias_ih, w->bias_hh);
    if (!o->layer_norm)
        return tl_linear_op(t, x, w->weight_ih, bias);
    x = tl_layer_norm(t, tl_linear_op(t, x, w->weight_ih, TL_NONE), 1, w->norm_ih_weight,
                      w->norm_ih_bias, 1e-5);
    return plus_bias(t, x, bias);
}

static const char *lstm_refuse(const tl_rnn_config *config, const void *options)
{
    (void)config;
    return refuse_clip(((const tl_lstm_options *)options)->clip);
}

/* x + W_hh h, both normalised if they are to be */
static tl_var lstm_gates(const tl_cell_call *c, tl_var x, tl_var h)
{
    const lstm *w = c->weights;
    const tl_lstm_options *o = c->options;
    tl_tape *t = c->tape;
    if (!o->layer_norm)
        return tl_linear_op(t, h, w->weight_hh, x);
    tl_var u = tl_linear_op(t, h, w->weight_hh, TL_NONE);
    return tl_add(t, x, tl_layer_norm(t, u, 1, w->norm_hh_weight, w->norm_hh_bias, 1e-5));
}

static tl_var lstm_output(const tl_cell_call *c, tl_var h)
{
    const lstm *w = c->weights;
    return tl_is_none(w->weight_hr) ? h : tl_linear_op(c->tape, h, w->weight_hr, TL_NONE);
}

static tl_var plus_peephole(tl_tape *t, tl_var gate, tl_var p, tl_var c)
{
    return tl_is_none(p) ? gate : tl_addcmul(t, gate, p, c, 1);
}

/* The equations in primitives, with everything an LSTM can have ... */
static void lstm_composed(const tl_cell_call *call, tl_var x, tl_var *state)
{
    const lstm *w = call->weights;
    const tl_lstm_options *options = call->options;
    tl_tape *t = call->tape;
    tl_var gate[4], c = state[1];
    int gates = options->coupled ? 3 : 4;
    double clip = options->clip;
    tl_chunk(t, lstm_gates(call, x, state[0]), gates, 1, gate);
    tl_var i = tl_sigmoid(t, clipped(t, plus_peephole(t, gate[0], w->weight_pi, c), clip));
    tl_var g = tl_tanh(t, clipped(t, gate[gates - 2], clip));
    if (options->coupled) {
        c = tl_lerp(t, c, g, i); /* (1-i) c + i g */
    } else {
        tl_var f = tl_sigmoid(t, clipped(t, plus_peephole(t, gate[1], w->weight_pf, c), clip));
        c = tl_add(t, tl_mul(t, f, c), tl_mul(t, i, g));
    }
    tl_var o = tl_sigmoid(t, clipped(t, plus_peephole(t, gate[gates - 1], w->weight_po, c), clip));
    tl_var seen =
        options->layer_norm ? tl_layer_norm(t, c, 1, w->norm_c_weight, w->norm_c_bias, 1e-5) : c;
    state[1] = c;
    state[0] = lstm_output(call, tl_mul(t, o, tl_tanh(t, seen)));
}

/* ... and the usual ones in one op. */
static void lstm_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const tl_lstm_options *o = c->options;
    if (o->peephole || o->coupled || o->layer_norm || o->clip > 0) {
        lstm_composed(c, x, state);
        return;
    }
    tl_lstm_gates(c->tape, lstm_gates(c, x, state[0]), state[1], &state[0], &state[1]);
    state[0] = lstm_output(c, state[0]);
}

const tl_cell_type tl_lstm_cell = {
    .name = "lstm",
    .equations =
        "i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)      + p_i c with peepholes\n"
        "f = sigmoid(W_if x + b_if + W_hf h + b_hf)      + p_f c; 1 - i if coupled\n"
        "g = tanh(W_ig x + b_ig + W_hg h + b_hg)\n"
        "c' = f c + i g\n"
        "o = sigmoid(W_io x + b_io + W_ho h + b_ho)      + p_o c'\n"
        "h' = o tanh c'                                  W_hr h' with projection\n"
        "Hochreiter and Schmidhuber, Neural Computation 9 (1997); Gers et al., Neural Computation 12\n"
        "(2000); projection: Sak et al., Interspeech 2014",
    .gates = "i, f, g, o (i, g, o if coupled)",
    .bytes = sizeof(lstm),
    .weights = lstm_weights,
    .states = {{"h", "P"}, {"c", "H"}},
    .input = lstm_input,
    .step = lstm_step,
    .composed = lstm_composed,
    .options_bytes = sizeof(tl_lstm_options),
    .features = lstm_features,
    .size = lstm_size,
    .init = lstm_init,
    .refuse = lstm_refuse};

/* ---- GRU -------------------------------------------------------------------------------- */

/* u_rz, u_n: W_hh in parts, where the reset gate comes before the product. */
typedef struct gru {
    tl_var weight_ih, weight_hh, bias_ih, bias_hh, u_rz, u_n, b_rz, b_n;
} gru;

static const tl_cell_weight gru_weights[] = {
    TL_WEIGHT(gru, weight_ih, .shape = "3H,I"),
    TL_WEIGHT(gru, weight_hh, .shape = "3H,H", .recurrent = true),
    TL_WEIGHT(gru, bias_ih, .shape = "3H", .bias = true),
    TL_WEIGHT(gru, bias_hh, .shape = "3H", .bias = true),
    TL_WEIGHT(gru, u_rz, .shape = NULL),
    TL_WEIGHT(gru, u_n, .shape = NULL),
    TL_WEIGHT(gru, b_rz, .shape = NULL),
    TL_WEIGHT(gru, b_n, .shape = NULL),
    TL_WEIGHTS_END};

static bool resets_before(const tl_cell_call *c)
{
    return ((const tl_gru_options *)c->options)->reset == TL_RESET_BEFORE;
}

static double gru_clip(const tl_cell_call *c)
{
    return ((const tl_gru_options *)c->options)->clip;
}

/* Once for all steps, so that the tape lays the parts out for the processor only once. */
static void gru_begin(const tl_cell_call *c, void *weights)
{
    gru *w = weights;
    tl_tape *t = c->tape;
    int64_t h = c->hidden;
    if (!resets_before(c))
        return;
    w->u_rz = tl_slice(t, w->weight_hh, 0, 0, 2 * h, 1);
    w->u_n = tl_slice(t, w->weight_hh, 0, 2 * h, 3 * h, 1);
    if (tl_is_none(w->bias_hh))
        return;
    w->b_rz = tl_slice(t, w->bias_hh, 0, 0, 2 * h, 1);
    w->b_n = tl_slice(t, w->bias_hh, 0, 2 * h, 3 * h, 1);
}

/* b_hn stands inside the product with r, so the two biases stay apart. */
static tl_var gru_input(const tl_cell_call *c, tl_var x)
{
    const gru *w = c->weights;
    return tl_linear_op(c->tape, x, w->weight_ih, w->bias_ih);
}

static void gru_before(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const gru *w = c->weights;
    tl_tape *t = c->tape;
    tl_var h = state[0], from_x[3], gate[2];
    tl_chunk(t, x, 3, 1, from_x);
    tl_var rz = tl_add(t, tl_slice(t, x, 1, 0, 2 * c->hidden, 1), tl_linear_op(t, h, w->u_rz, w->b_rz));
    tl_chunk(t, tl_sigmoid(t, clipped(t, rz, gru_clip(c))), 2, 1, gate);
    tl_var n = tl_linear_op(t, tl_mul(t, gate[0], h), w->u_n, w->b_n);
    state[0] = tl_lerp(t, tl_tanh(t, clipped(t, tl_add(t, from_x[2], n), gru_clip(c))), h, gate[1]);
}

static void gru_composed(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const gru *w = c->weights;
    tl_tape *t = c->tape;
    tl_var h = state[0], from_x[3], from_h[3];
    double clip = gru_clip(c);
    if (resets_before(c)) {
        gru_before(c, x, state);
        return;
    }
    tl_chunk(t, x, 3, 1, from_x);
    tl_chunk(t, tl_linear_op(t, h, w->weight_hh, w->bias_hh), 3, 1, from_h);
    tl_var r = tl_sigmoid(t, clipped(t, tl_add(t, from_x[0], from_h[0]), clip));
    tl_var z = tl_sigmoid(t, clipped(t, tl_add(t, from_x[1], from_h[1]), clip));
    tl_var n = tl_tanh(t, clipped(t, tl_add(t, from_x[2], tl_mul(t, r, from_h[2])), clip));
    state[0] = tl_lerp(t, n, h, z); /* (1-z) n + z h */
}

static void gru_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const gru *w = c->weights;
    if (resets_before(c) || gru_clip(c) > 0)
        gru_composed(c, x, state);
    else
        state[0] = tl_gru_gates(c->tape, x, tl_linear_op(c->tape, state[0], w->weight_hh, w->bias_hh),
                                state[0]);
}

static const char *gru_refuse(const tl_rnn_config *config, const void *options)
{
    (void)config;
    return refuse_clip(((const tl_gru_options *)options)->clip);
}

const tl_cell_type tl_gru_cell = {
    .name = "gru",
    .equations = "r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)\n"
                 "z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)\n"
                 "n = tanh(W_in x + b_in + r (W_hn h + b_hn))     reset after the product\n"
                 "n = tanh(W_in x + b_in + W_hn (r h) + b_hn)     reset before\n"
                 "h' = (1-z) n + z h\n"
                 "Cho et al., EMNLP 2014",
    .gates = "r, z, n",
    .bytes = sizeof(gru),
    .weights = gru_weights,
    .states = {{"h", "H"}},
    .begin = gru_begin,
    .input = gru_input,
    .step = gru_step,
    .composed = gru_composed,
    .options_bytes = sizeof(tl_gru_options),
    .refuse = gru_refuse};
