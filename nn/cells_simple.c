/* cells_simple.c - Jordan, IndRNN, SCRN and MGU as their equations. */
#include "nn/cells.h"

#include "autograd/ops.h"
#include "nn/rnn.h"

/* ---- Jordan ------------------------------------------------------------------------------ *
 *
 * Only what came out is fed back; between steps the hidden units remember nothing. */

typedef struct jordan {
    tl_var weight_ih, weight_hy, weight_yh, bias_h, bias_y;
} jordan;

static const tl_cell_weight jordan_weights[] = {
    TL_WEIGHT(jordan, weight_ih, .shape = "H,I"),
    TL_WEIGHT(jordan, weight_hy, .shape = "H,P", .recurrent = true),
    TL_WEIGHT(jordan, weight_yh, .shape = "P,H"),
    TL_WEIGHT(jordan, bias_h, .shape = "H", .bias = true),
    TL_WEIGHT(jordan, bias_y, .shape = "P", .bias = true),
    TL_WEIGHTS_END};

static tl_var jordan_input(const tl_cell_call *c, tl_var x)
{
    const jordan *w = c->weights;
    return tl_linear_op(c->tape, x, w->weight_ih, w->bias_h);
}

static void jordan_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const jordan *w = c->weights;
    const tl_jordan_options *o = c->options;
    tl_tape *t = c->tape;
    tl_var a = tl_linear_op(t, state[0], w->weight_hy, x);
    tl_var h = o->activation ? o->activation(t, a) : tl_tanh(t, a);
    tl_var y = tl_linear_op(t, h, w->weight_yh, w->bias_y);
    state[0] = o->output ? o->output(t, y) : y;
}

const tl_cell_type tl_jordan_cell = {
    .name = "jordan",
    .equations =
        "h' = f(W_ih x + b_h + W_hy y),  f: tanh unless another is given\n"
        "y' = g(W_yh h' + b_y),          g: none unless one is given\n"
        "Jordan, \"Serial order: a parallel distributed processing approach\", ICS report 8604,\n"
        "UC San Diego (1986)",
    .bytes = sizeof(jordan),
    .weights = jordan_weights,
    .states = {{"y", "P"}},
    .input = jordan_input,
    .step = jordan_step,
    .options_bytes = sizeof(tl_jordan_options)};

/* ---- IndRNN ------------------------------------------------------------------------------ *
 *
 * W_hh is diagonal, so that the gradient of each unit through n steps is u^n at most. */

typedef struct indrnn {
    tl_var weight_ih, weight_u, bias;
} indrnn;

/* u = 1 at first, whatever the scheme: a unit that keeps what it has, as in an IRNN. Most schemes would
 * make a vector 0, and of the network one without memory. */
static const tl_cell_weight indrnn_weights[] = {
    TL_WEIGHT(indrnn, weight_ih, .shape = "H,I"),
    TL_WEIGHT(indrnn, weight_u, .shape = "H", .init = TL_INIT_VALUE, .value = 1, .recurrent = true),
    TL_WEIGHT(indrnn, bias, .shape = "H", .bias = true), TL_WEIGHTS_END};

static tl_var indrnn_input(const tl_cell_call *c, tl_var x)
{
    const indrnn *w = c->weights;
    return tl_linear_op(c->tape, x, w->weight_ih, w->bias);
}

static void indrnn_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const indrnn *w = c->weights;
    const tl_indrnn_options *o = c->options;
    tl_var a = tl_addcmul(c->tape, x, w->weight_u, state[0], 1);
    state[0] = o->activation ? o->activation(c->tape, a) : tl_relu(c->tape, a);
}

const tl_cell_type tl_indrnn_cell = {
    .name = "indrnn",
    .equations = "h' = f(W_ih x + u h + b),  u [H], elementwise; f: relu unless another is given\n"
                 "Li et al., \"Independently recurrent neural network\", CVPR 2018, arXiv:1803.04831",
    .bytes = sizeof(indrnn),
    .weights = indrnn_weights,
    .states = {{"h", "H"}},
    .input = indrnn_input,
    .step = indrnn_step,
    .options_bytes = sizeof(tl_indrnn_options)};

/* ---- SCRN -------------------------------------------------------------------------------- *
 *
 * weight_sx, _hs, _hx, _hh: the paper's B, P, A, R. S: context units. */

typedef struct scrn {
    tl_var weight_sx, weight_hs, weight_hx, weight_hh;
} scrn;

static const tl_cell_weight scrn_weights[] = {
    TL_WEIGHT(scrn, weight_sx, .shape = "S,I"), TL_WEIGHT(scrn, weight_hs, .shape = "H,S"),
    TL_WEIGHT(scrn, weight_hx, .shape = "H,I"),
    TL_WEIGHT(scrn, weight_hh, .shape = "H,H", .recurrent = true), TL_WEIGHTS_END};

static double scrn_alpha(const tl_scrn_options *o)
{
    return o->alpha == 0 ? 0.95 : o->alpha;
}

static int64_t scrn_context(const tl_scrn_options *o, int64_t hidden)
{
    return o->context ? o->context : hidden;
}

static int64_t scrn_size(const tl_rnn_config *config, const void *options, char letter)
{
    return letter == 'S' ? scrn_context(options, config->hidden) : 0;
}

static const char *scrn_refuse(const tl_rnn_config *config, const void *options)
{
    const tl_scrn_options *o = options;
    (void)config;
    if (o->context < 0)
        return "the number of context units must be at least 1, or 0 for as many as hidden ones";
    if (!(scrn_alpha(o) > 0 && scrn_alpha(o) < 1))
        return "alpha must lie between 0 and 1, or be 0 for 0.95";
    return NULL;
}

/* [A x | (1-a) B x] */
static tl_var scrn_input(const tl_cell_call *c, tl_var x)
{
    const scrn *w = c->weights;
    tl_tape *t = c->tape;
    tl_var into_s = tl_linear_op(t, x, w->weight_sx, TL_NONE);
    tl_var part[] = {tl_linear_op(t, x, w->weight_hx, TL_NONE),
                     tl_mul_scalar(t, into_s, 1 - scrn_alpha(c->options))};
    return tl_concat(t, 2, part, -1);
}

static void scrn_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const scrn *w = c->weights;
    tl_tape *t = c->tape;
    tl_var h = state[0], s = state[1], from_x[2];
    const int64_t sizes[] = {c->hidden, scrn_context(c->options, c->hidden)};
    tl_split(t, x, 2, sizes, -1, from_x);
    s = tl_add(t, from_x[1], tl_mul_scalar(t, s, scrn_alpha(c->options)));
    tl_var a = tl_linear_op(t, h, w->weight_hh, tl_linear_op(t, s, w->weight_hs, from_x[0]));
    state[0] = tl_sigmoid(t, a);
    state[1] = s;
}

const tl_cell_type tl_scrn_cell = {
    .name = "scrn",
    .equations =
        "s' = (1-a) B x + a s                a: alpha, 0.95 unless another is given\n"
        "h' = sigmoid(P s' + A x + R h)\n"
        "B, P, A, R: weight_sx, _hs, _hx, _hh. The paper's output f(U h + V s) is the decoder's;\n"
        "the network's output is h\n"
        "Mikolov et al., \"Learning longer memory in recurrent neural networks\", ICLR 2015\n"
        "workshop, arXiv:1412.7753",
    .bytes = sizeof(scrn),
    .weights = scrn_weights,
    .states = {{"h", "H"}, {"s", "S"}},
    .input = scrn_input,
    .step = scrn_step,
    .options_bytes = sizeof(tl_scrn_options),
    .size = scrn_size,
    .refuse = scrn_refuse};

/* ---- MGU --------------------------------------------------------------------------------- */

typedef struct mgu {
    tl_var weight_ih, weight_hf, weight_hn, bias;
} mgu;

static const tl_cell_weight mgu_weights[] = {
    TL_WEIGHT(mgu, weight_ih, .shape = "2H,I"),
    TL_WEIGHT(mgu, weight_hf, .shape = "H,H", .recurrent = true),
    TL_WEIGHT(mgu, weight_hn, .shape = "H,H", .recurrent = true),
    TL_WEIGHT(mgu, bias, .shape = "2H", .bias = true), TL_WEIGHTS_END};

static tl_var mgu_input(const tl_cell_call *c, tl_var x)
{
    const mgu *w = c->weights;
    return tl_linear_op(c->tape, x, w->weight_ih, w->bias);
}

static void mgu_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const mgu *w = c->weights;
    tl_tape *t = c->tape;
    tl_var h = state[0], from_x[2];
    tl_chunk(t, x, 2, -1, from_x);
    tl_var f = tl_sigmoid(t, tl_linear_op(t, h, w->weight_hf, from_x[0]));
    tl_var n = tl_tanh(t, tl_linear_op(t, tl_mul(t, f, h), w->weight_hn, from_x[1]));
    state[0] = tl_lerp(t, h, n, f); /* (1-f) h + f n */
}

const tl_cell_type tl_mgu_cell = {
    .name = "mgu",
    .equations =
        "f = sigmoid(W_if x + b_f + W_hf h)\n"
        "n = tanh(W_in x + b_n + W_hn (f h))\n"
        "h' = (1-f) h + f n\n"
        "Zhou et al., \"Minimal gated unit for recurrent neural networks\", 2016, arXiv:1603.09420",
    .gates = "f, n in weight_ih and bias",
    .bytes = sizeof(mgu),
    .weights = mgu_weights,
    .states = {{"h", "H"}},
    .input = mgu_input,
    .step = mgu_step};
