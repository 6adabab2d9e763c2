/* onnx.c - ONNX's RNN, LSTM and GRU: their weights in our order, their layouts around tl_unroll.
 *
 * Equations: https://onnx.ai/onnx/operators, RNN-14, LSTM-14, GRU-14. */
#include "nn/onnx.h"

#include <string.h>

#include "autograd/ops.h"

enum { MOST_GATES = 4 };

/* Where our blocks of H rows are among ONNX's. */
typedef struct gate_order {
    int count, block[MOST_GATES];
} gate_order;

typedef struct operator_rule {
    const char *name;
    const tl_cell_type *cell;
    gate_order order;
    int activations; /* for each direction */
    const char *activation[3];
} operator_rule;

static const operator_rule operators[] = {
    [TL_ONNX_RNN] = {"RNN", &tl_elman_cell, {1, {0}}, 1, {"Tanh"}},
    [TL_ONNX_LSTM] = {"LSTM", &tl_lstm_cell, {4, {0, 2, 3, 1}}, 3, {"Sigmoid", "Tanh", "Tanh"}},
    [TL_ONNX_GRU] = {"GRU", &tl_gru_cell, {3, {1, 0, 2}}, 2, {"Sigmoid", "Tanh"}}};

enum { OPERATORS = sizeof operators / sizeof operators[0] };

static const gate_order coupled_order = {3, {0, 3, 1}}; /* i, g, o among i, o, f, c */

/* What an Elman network can have for f. */
static const struct {
    const char *name;
    tl_var (*function)(tl_tape *t, tl_var x);
} activations[] = {{"Tanh", tl_tanh},
                   {"Relu", tl_relu},
                   {"Sigmoid", tl_sigmoid},
                   {"Softsign", tl_softsign},
                   {"Softplus", tl_softplus}};

enum { ACTIVATIONS = sizeof activations / sizeof activations[0] };

/* ---- which operator is it? -------------------------------------------------------------- */

static const char *activation_of(const tl_rnn *rnn)
{
    const tl_elman_options *o = rnn->config.options;
    for (int k = 0; k < ACTIVATIONS; k++)
        if (activations[k].function == (o->activation ? o->activation : tl_tanh))
            return activations[k].name;
    return NULL;
}

static bool normalises(const tl_rnn_config *c)
{
    return c->cell == &tl_lstm_cell && ((const tl_lstm_options *)c->options)->layer_norm;
}

/* NULL, with the reason, for a network whose layers are no operator of ONNX. */
static const operator_rule *operator_of(const tl_rnn *rnn, tl_error *error)
{
    const tl_rnn_config *c = &rnn->config;
    const operator_rule *rule = NULL;
    const char *reason = NULL;
    for (int k = 0; k < OPERATORS; k++)
        if (c->cell == operators[k].cell)
            rule = &operators[k];
    if (!rnn->layer)
        reason = "the network was not built, see tl_params_status";
    else if (!rule)
        reason = "the operators are RNN, LSTM and GRU";
    else if (c->projection)
        reason = "its LSTM has no projection";
    else if (normalises(c))
        reason = "its LSTM has no layer normalisation";
    else if (c->zoneout[0] > 0 || c->zoneout[1] > 0)
        reason = "there is no zoneout";
    else if (rule->cell == &tl_elman_cell && !activation_of(rnn))
        reason = "its RNN has no such activation";
    if (reason)
        tl_fail(error, TL_ERR_ARGUMENT, "onnx: network of %s cells: %s", c->cell ? c->cell->name : "no",
                reason);
    return reason ? NULL : rule;
}

static bool is_coupled(const tl_rnn *rnn)
{
    return rnn->config.cell == &tl_lstm_cell && ((const tl_lstm_options *)rnn->config.options)->coupled;
}

static bool has_peepholes(const tl_rnn *rnn)
{
    return rnn->config.cell == &tl_lstm_cell &&
           ((const tl_lstm_options *)rnn->config.options)->peephole;
}

/* ---- weights, there and back ------------------------------------------------------------ */

/* Between ONNX's tensor [D, blocks H, ..] and one of our parameters: our block k is its block
 * first + order[k]. theirs NULL: zeros. */
typedef struct transfer {
    const tl_rnn *rnn;
    int layer;
    bool store; /* else load */
} transfer;

static void move(const transfer *m, tl_tensor *theirs, const char *name, gate_order order, int first)
{
    int64_t hidden = m->rnn->config.hidden;
    for (int direction = 0; direction < m->rnn->directions; direction++) {
        tl_param *param = tl_rnn_weight(m->rnn, m->layer, direction, name);
        if (!param)
            continue;
        tl_tensor *ours = param->value;
        int64_t size = hidden * (ours->layout.ndim == 2 ? ours->layout.shape[1] : 1);
        int64_t blocks = theirs ? theirs->layout.shape[1] / hidden : 0;
        for (int64_t i = 0; i < order.count * size; i++) {
            int64_t at = (direction * blocks + first + order.block[i / size]) * size + i % size;
            if (m->store)
                tl_tensor_set(theirs, at, tl_tensor_get(ours, i));
            else
                tl_tensor_set(ours, i, theirs ? tl_tensor_get(theirs, at) : 0);
        }
    }
}

static void move_all(const transfer *m, const operator_rule *rule, const tl_onnx_weights *w)
{
    const gate_order order = is_coupled(m->rnn) ? coupled_order : rule->order, one = {1, {0}};
    move(m, w->W, "weight_ih", order, 0);
    move(m, w->R, "weight_hh", order, 0);
    move(m, w->B, "bias_ih", order, 0);
    move(m, w->B, "bias_hh", order, rule->order.count);
    if (has_peepholes(m->rnn)) {
        move(m, w->P, "weight_pi", one, 0);
        move(m, w->P, "weight_po", one, 1);
        move(m, w->P, "weight_pf", one, 2);
    }
}

static bool fits(const operator_rule *rule, const char *name, const tl_tensor *x, int ndim,
                 const int64_t *shape, tl_error *error)
{
    char have[TL_LAYOUT_TEXT], want[TL_LAYOUT_TEXT];
    tl_layout wanted;
    tl_layout_make(&wanted, ndim, shape);
    if (tl_layout_same_shape(&x->layout, &wanted) && tl_dtype_is_real(x->dtype))
        return true;
    tl_fail(error, TL_ERR_SHAPE, "onnx %s: %s is %s %s, should be real %s", rule->name, name,
            tl_dtype_name(x->dtype), tl_layout_text(&x->layout, have), tl_layout_text(&wanted, want));
    return false;
}

static bool weights_fit(const tl_rnn *rnn, int layer, const operator_rule *rule,
                        const tl_onnx_weights *w, tl_error *error)
{
    int64_t D = rnn->directions, H = rnn->config.hidden, GH = rule->order.count * H;
    const tl_param *ih = tl_rnn_weight(rnn, layer, 0, "weight_ih");
    const char *missing = !w->W ? "W" : !w->R ? "R" : NULL;
    const char *extra = w->B && rnn->config.no_bias   ? "B, and the network has no biases"
                        : w->P && !has_peepholes(rnn) ? "P, and the network has no peepholes"
                                                      : NULL;
    if (!ih)
        tl_fail(error, TL_ERR_ARGUMENT, "onnx %s: there is no layer %d", rule->name, layer);
    else if (missing)
        tl_fail(error, TL_ERR_ARGUMENT, "onnx %s: %s is missing", rule->name, missing);
    else if (extra)
        tl_fail(error, TL_ERR_ARGUMENT, "onnx %s: there is %s", rule->name, extra);
    if (!ih || missing || extra)
        return false;
    return fits(rule, "W", w->W, TL_SHAPE(D, GH, ih->value->layout.shape[1]), error) &&
           fits(rule, "R", w->R, TL_SHAPE(D, GH, H), error) &&
           (!w->B || fits(rule, "B", w->B, TL_SHAPE(D, 2 * GH), error)) &&
           (!w->P || fits(rule, "P", w->P, TL_SHAPE(D, 3 * H), error));
}

tl_status tl_onnx_load(const tl_rnn *rnn, int layer, const tl_onnx_weights *weights, tl_error *error)
{
    tl_error own = {0};
    const operator_rule *rule = operator_of(rnn, &own);
    if (!rule || !weights_fit(rnn, layer, rule, weights, &own))
        return tl_fail(error, own.status, "%s", own.message);
    move_all(&(transfer){rnn, layer, false}, rule, weights);
    return TL_OK;
}

void tl_onnx_weights_free(tl_onnx_weights *weights)
{
    tl_tensor_release(weights->W);
    tl_tensor_release(weights->R);
    tl_tensor_release(weights->B);
    tl_tensor_release(weights->P);
    *weights = (tl_onnx_weights){0};
}

static tl_onnx_attributes attributes_of(const tl_rnn *rnn, const operator_rule *rule)
{
    const tl_rnn_config *c = &rnn->config;
    tl_onnx_attributes a = {.op = (tl_onnx_operator)(rule - operators),
                            .direction = c->bidirectional ? TL_ONNX_BIDIRECTIONAL
                                         : c->reverse     ? TL_ONNX_REVERSE
                                                          : TL_ONNX_FORWARD,
                            .hidden_size = c->hidden,
                            .layout = c->batch_first};
    if (a.op == TL_ONNX_RNN) {
        a.clip = ((const tl_elman_options *)c->options)->clip;
        for (int direction = 0; direction < rnn->directions; direction++)
            a.activations[direction] = activation_of(rnn);
    } else if (a.op == TL_ONNX_LSTM) {
        a.clip = ((const tl_lstm_options *)c->options)->clip;
        a.input_forget = is_coupled(rnn);
    } else {
        const tl_gru_options *o = c->options;
        a.clip = o->clip;
        a.linear_before_reset = o->reset == TL_RESET_AFTER ? TL_ONNX_LBR_1 : TL_ONNX_LBR_0;
    }
    return a;
}

tl_status tl_onnx_store(const tl_rnn *rnn, int layer, tl_onnx_attributes *attributes,
                        tl_onnx_weights *weights, tl_error *error)
{
    tl_error own = {0};
    const operator_rule *rule = operator_of(rnn, &own);
    const tl_param *ih = rule ? tl_rnn_weight(rnn, layer, 0, "weight_ih") : NULL;
    *attributes = (tl_onnx_attributes){0};
    *weights = (tl_onnx_weights){0};
    if (!rule)
        return tl_fail(error, own.status, "%s", own.message);
    if (!ih)
        return tl_fail(error, TL_ERR_ARGUMENT, "onnx %s: there is no layer %d", rule->name, layer);
    int64_t D = rnn->directions, H = rnn->config.hidden, GH = rule->order.count * H;
    tl_dtype dtype = ih->value->dtype;
    weights->W = tl_tensor_zeros(dtype, TL_SHAPE(D, GH, ih->value->layout.shape[1]), &own);
    weights->R = tl_tensor_zeros(dtype, TL_SHAPE(D, GH, H), &own);
    if (!rnn->config.no_bias)
        weights->B = tl_tensor_zeros(dtype, TL_SHAPE(D, 2 * GH), &own);
    if (has_peepholes(rnn))
        weights->P = tl_tensor_zeros(dtype, TL_SHAPE(D, 3 * H), &own);
    if (own.status != TL_OK) {
        tl_onnx_weights_free(weights);
        return tl_fail(error, own.status, "%s", own.message);
    }
    move_all(&(transfer){rnn, layer, true}, rule, weights);
    *attributes = attributes_of(rnn, rule);
    return TL_OK;
}

/* ---- a network from attributes ---------------------------------------------------------- */

static bool refuse(tl_error *error, const operator_rule *rule, const char *reason)
{
    tl_fail(error, TL_ERR_ARGUMENT, "onnx %s: %s", rule->name, reason);
    return false;
}

static bool attributes_fit(const tl_onnx_attributes *a, const tl_onnx_weights *w, tl_error *error)
{
    const operator_rule *rule = &operators[a->op];
    if ((unsigned)a->direction > TL_ONNX_BIDIRECTIONAL)
        return refuse(error, rule, "direction is forward, reverse or bidirectional");
    if (a->layout != 0 && a->layout != 1)
        return refuse(error, rule, "layout is 0 or 1");
    if (!(a->clip >= 0))
        return refuse(error, rule, "clip must be greater than 0, or 0 for none");
    if (a->input_forget && a->op != TL_ONNX_LSTM)
        return refuse(error, rule, "input_forget is an attribute of LSTM");
    if (w->P && a->op != TL_ONNX_LSTM)
        return refuse(error, rule, "P, peepholes, is an input of LSTM");
    if ((unsigned)a->linear_before_reset > TL_ONNX_LBR_1)
        return refuse(error, rule, "linear_before_reset is 0 or 1");
    if (a->op != TL_ONNX_GRU && a->linear_before_reset != TL_ONNX_LBR_UNSAID)
        return refuse(error, rule, "linear_before_reset is an attribute of GRU");
    if (a->op == TL_ONNX_GRU && a->linear_before_reset == TL_ONNX_LBR_UNSAID)
        return refuse(error, rule,
                      "linear_before_reset must be said: TL_ONNX_LBR_0 (ONNX's default) or "
                      "TL_ONNX_LBR_1 (PyTorch's networks)");
    return true;
}

static bool sizes_fit(const tl_onnx_attributes *a, const tl_onnx_weights *w, tl_error *error)
{
    const operator_rule *rule = &operators[a->op];
    if (!w->W || !w->R || w->W->layout.ndim != 3 || w->R->layout.ndim != 3)
        return refuse(error, rule, "W and R are wanted, both of three dimensions");
    if (a->hidden_size && a->hidden_size != w->R->layout.shape[2]) {
        tl_fail(error, TL_ERR_SHAPE, "onnx %s: hidden_size is %lld, but R has %lld columns", rule->name,
                (long long)a->hidden_size, (long long)w->R->layout.shape[2]);
        return false;
    }
    return true;
}

/* The one for RNN, if it is one we have. */
static int find_activation(const char *name)
{
    int k = 0;
    while (k < ACTIVATIONS && strcmp(activations[k].name, name) != 0)
        k++;
    return k;
}

static bool activations_fit(const tl_onnx_attributes *a, tl_error *error)
{
    const operator_rule *rule = &operators[a->op];
    int directions = a->direction == TL_ONNX_BIDIRECTIONAL ? 2 : 1, count = 0;
    while (count < TL_ONNX_MOST_ACTIVATIONS && a->activations[count])
        count++;
    if (count && count != directions * rule->activations) {
        tl_fail(error, TL_ERR_ARGUMENT, "onnx %s: %d activations, should be %d", rule->name, count,
                directions * rule->activations);
        return false;
    }
    for (int k = 0; k < count; k++) {
        const char *name = a->activations[k], *only = rule->activation[k % rule->activations];
        bool known = a->op == TL_ONNX_RNN ? find_activation(name) < ACTIVATIONS : !strcmp(name, only);
        if (!known) {
            tl_fail(error, TL_ERR_ARGUMENT, "onnx %s: activation %d is %s, should be %s", rule->name, k,
                    name, a->op == TL_ONNX_RNN ? "Tanh, Relu, Sigmoid, Softsign or Softplus" : only);
            return false;
        }
        if (a->op == TL_ONNX_RNN && strcmp(name, a->activations[0]) != 0)
            return refuse(error, rule, "both directions must have the same activation");
    }
    return true;
}

/* The options of its cell. */
typedef union any_options {
    tl_elman_options elman;
    tl_lstm_options lstm;
    tl_gru_options gru;
} any_options;

static any_options options_of(const tl_onnx_attributes *a, const tl_onnx_weights *w)
{
    if (a->op == TL_ONNX_LSTM)
        return (any_options){
            .lstm = {.peephole = w->P != NULL, .coupled = a->input_forget, .clip = a->clip}};
    if (a->op == TL_ONNX_GRU)
        return (any_options){
            .gru = {.reset = a->linear_before_reset == TL_ONNX_LBR_1 ? TL_RESET_AFTER : TL_RESET_BEFORE,
                    .clip = a->clip}};
    int k = a->activations[0] ? find_activation(a->activations[0]) : 0;
    return (any_options){.elman = {.activation = activations[k].function, .clip = a->clip}};
}

void tl_onnx_init(tl_rnn *rnn, tl_params *params, const char *prefix,
                  const tl_onnx_attributes *attributes, const tl_onnx_weights *weights)
{
    *rnn = (tl_rnn){0};
    if (tl_params_status(params) != TL_OK)
        return;
    if ((unsigned)attributes->op >= OPERATORS) {
        tl_fail(&params->error, TL_ERR_ARGUMENT, "onnx: the operators are RNN, LSTM and GRU, not %d",
                (int)attributes->op);
        return;
    }
    if (!attributes_fit(attributes, weights, &params->error) ||
        !activations_fit(attributes, &params->error) || !sizes_fit(attributes, weights, &params->error))
        return;
    const any_options options = options_of(attributes, weights);
    tl_rnn_init(rnn, params,
                &(tl_rnn_config){.cell = operators[attributes->op].cell,
                                 .options = &options,
                                 .input = weights->W->layout.shape[2],
                                 .hidden = weights->R->layout.shape[2],
                                 .layers = 1,
                                 .bidirectional = attributes->direction == TL_ONNX_BIDIRECTIONAL,
                                 .reverse = attributes->direction == TL_ONNX_REVERSE,
                                 .no_bias = !weights->B,
                                 .batch_first = attributes->layout == 1,
                                 .prefix = prefix});
    if (tl_params_status(params) == TL_OK)
        tl_onnx_load(rnn, 0, weights, &params->error);
}

/* ---- evaluation ------------------------------------------------------------------------- */

static bool is_one_operator(tl_tape *t, const tl_rnn *rnn)
{
    const tl_rnn_config *c = &rnn->config;
    tl_error error = {0};
    if (operator_of(rnn, &error) && c->layers == 1 && c->connection == TL_PLAIN && !c->layer_norm)
        return true;
    if (error.status == TL_OK)
        tl_fail(&error, TL_ERR_ARGUMENT,
                "onnx: network of %s cells: an operator is one layer, without connections or "
                "normalisation around it",
                c->cell->name);
    tl_tape_fail(t, error.status, "%s", error.message);
    return false;
}

/* [D,B,H], or [B,D,H], in parts: state k of each direction. */
static bool take_states(tl_tape *t, const tl_rnn *rnn, const tl_onnx_inputs *in, tl_var *state)
{
    const tl_layout *x = tl_value(t, in->X).layout;
    const bool batch_first = rnn->config.batch_first;
    const char *const names[] = {"initial_h", "initial_c"};
    const tl_var given[] = {in->initial_h, in->initial_c};
    for (int k = 0; x && k < 2; k++) {
        int64_t D = rnn->directions, B = x->ndim == 3 ? x->shape[!batch_first] : 0;
        const int64_t first = batch_first ? B : D, second = batch_first ? D : B;
        char text[TL_LAYOUT_TEXT];
        if (tl_is_none(given[k]))
            continue;
        if (k >= rnn->states) {
            tl_tape_fail(t, TL_ERR_ARGUMENT, "onnx: initial_c is an input of LSTM");
            return false;
        }
        const tl_layout *l = tl_value(t, given[k]).layout;
        if (!l)
            return false;
        if (l->ndim != 3 || l->shape[0] != first || l->shape[1] != second ||
            l->shape[2] != rnn->config.hidden) {
            tl_tape_fail(t, TL_ERR_SHAPE, "onnx: %s is %s, should be [%lld,%lld,%lld]", names[k],
                         tl_layout_text(l, text), (long long)first, (long long)second,
                         (long long)rnn->config.hidden);
            return false;
        }
        for (int direction = 0; direction < D; direction++)
            state[direction * rnn->states + k] = tl_select(t, given[k], batch_first, direction);
    }
    return x != NULL;
}

static tl_var give_state(tl_tape *t, const tl_rnn *rnn, const tl_var *state, int k)
{
    tl_var parts[2] = {state[k], rnn->directions == 2 ? state[rnn->states + k] : TL_NONE};
    return tl_stack(t, rnn->directions, parts, rnn->config.batch_first);
}

/* [T,B,D H] to [T,D,B,H]; [B,T,D H] to [B,T,D,H] */
static tl_var give_outputs(tl_tape *t, const tl_rnn *rnn, tl_var y)
{
    const tl_layout *l = tl_value(t, y).layout;
    if (!l)
        return tl_poison(t);
    y = tl_reshape(t, y, TL_SHAPE(l->shape[0], l->shape[1], rnn->directions, rnn->config.hidden));
    return rnn->config.batch_first ? y : tl_transpose(t, y, 1, 2);
}

tl_onnx_outputs tl_onnx_run(tl_tape *t, const tl_rnn *rnn, const tl_onnx_inputs *inputs)
{
    tl_var state[2 * TL_MOST_STATES] = {TL_NONE};
    tl_onnx_outputs out = {tl_poison(t), tl_poison(t), TL_NONE};
    if (!is_one_operator(t, rnn) || !take_states(t, rnn, inputs, state))
        return out;
    tl_var y = tl_unroll_with(t, rnn, inputs->X, state,
                              &(tl_unroll_options){.lengths = inputs->sequence_lens});
    if (tl_tape_status(t) != TL_OK)
        return out;
    out.Y = give_outputs(t, rnn, y);
    out.Y_h = give_state(t, rnn, state, 0);
    out.Y_c = rnn->states > 1 ? give_state(t, rnn, state, 1) : TL_NONE;
    return out;
}
