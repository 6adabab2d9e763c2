/* cells.c - Elman, LSTM and GRU as their equations. */
#include "nn/cells.h"

#include <stdio.h>

#include "autograd/ops.h"
#include "nn/init.h"
#include "tensor/arena.h"

/* What needs no recurrence is one product for all steps: W_ih x + b_ih, and b_hh as well, where it
 * is only added. */
static tl_var gates_input(tl_tape *t, const void *self, tl_var x)
{
    const tl_gates *m = self;
    tl_var bias =
        m->input.bias ? tl_add(t, tl_use(t, m->input.bias), tl_use(t, m->hidden.bias)) : TL_NONE;
    return tl_linear_op(t, x, tl_use(t, m->input.weight), bias);
}

/* x + W_hh h */
static tl_var gates(tl_tape *t, const tl_gates *m, tl_var x, tl_var h)
{
    return tl_linear_op(t, h, tl_use(t, m->hidden.weight), x);
}

static void elman_step(tl_tape *t, const void *self, tl_var x, tl_var *state)
{
    state[0] = tl_tanh(t, gates(t, self, x, state[0]));
}

/* The equations in primitives ... */
static void lstm_composed_step(tl_tape *t, const void *self, tl_var x, tl_var *state)
{
    tl_var h = state[0], c = state[1], gate[4];
    tl_chunk(t, gates(t, self, x, h), 4, 1, gate);
    tl_var i = tl_sigmoid(t, gate[0]);
    tl_var f = tl_sigmoid(t, gate[1]);
    tl_var g = tl_tanh(t, gate[2]);
    tl_var o = tl_sigmoid(t, gate[3]);
    state[1] = tl_add(t, tl_mul(t, f, c), tl_mul(t, i, g));
    state[0] = tl_mul(t, o, tl_tanh(t, state[1]));
}

/* ... and in one op. */
static void lstm_step(tl_tape *t, const void *self, tl_var x, tl_var *state)
{
    tl_lstm_gates(t, gates(t, self, x, state[0]), state[1], &state[0], &state[1]);
}

/* b_hn stands inside the product with r, so the two biases stay apart. */
static tl_var gru_input(tl_tape *t, const void *self, tl_var x)
{
    return tl_linear(t, x, &((const tl_gates *)self)->input);
}

static void gru_step(tl_tape *t, const void *self, tl_var x, tl_var *state)
{
    const tl_gates *m = self;
    tl_var h = state[0], from_x[3], from_h[3];
    tl_chunk(t, x, 3, 1, from_x);
    tl_chunk(t, tl_linear(t, h, &m->hidden), 3, 1, from_h);
    tl_var r = tl_sigmoid(t, tl_add(t, from_x[0], from_h[0]));
    tl_var z = tl_sigmoid(t, tl_add(t, from_x[1], from_h[1]));
    tl_var n = tl_tanh(t, tl_add(t, from_x[2], tl_mul(t, r, from_h[2])));
    state[0] = tl_lerp(t, n, h, z); /* (1-z) n + z h */
}

const tl_cell_type tl_elman_cell = {
    .name = "elman", .states = 1, .input = gates_input, .step = elman_step};
const tl_cell_type tl_lstm_cell = {
    .name = "lstm", .states = 2, .input = gates_input, .step = lstm_step};
const tl_cell_type tl_lstm_composed_cell = {
    .name = "lstm", .states = 2, .input = gates_input, .step = lstm_composed_step};
const tl_cell_type tl_gru_cell = {.name = "gru", .states = 1, .input = gru_input, .step = gru_step};

static const struct {
    const tl_cell_type *type;
    int64_t gates;
    int forget_gate; /* which of them; -1: none */
} kinds[] = {[TL_ELMAN] = {&tl_elman_cell, 1, -1},
             [TL_LSTM] = {&tl_lstm_cell, 4, 1},
             [TL_GRU] = {&tl_gru_cell, 3, -1}};

/* ---- building --------------------------------------------------------------------------- */

static void add_side(tl_linear_layer *side, tl_params *params, const tl_rnn_config *c, const char *name,
                     int layer, int64_t inputs)
{
    const char *prefix = c->prefix ? c->prefix : "rnn.";
    int64_t outputs = kinds[c->kind].gates * c->hidden;
    char text[64];
    snprintf(text, sizeof text, "weight_%s_l%d", name, layer);
    side->weight = tl_params_add(params, prefix, text, TL_SHAPE(outputs, inputs));
    snprintf(text, sizeof text, "bias_%s_l%d", name, layer);
    side->bias = c->no_bias ? NULL : tl_params_add(params, prefix, text, TL_SHAPE(outputs));
}

/* Each gate's H rows of a weight are a matrix of their own. */
static void init_by_gate(tl_params *params, const tl_rnn_config *c, tl_tensor *weight,
                         tl_status (*init)(tl_random *, tl_tensor *))
{
    for (int64_t gate = 0; gate < kinds[c->kind].gates; gate++) {
        tl_tensor *rows =
            tl_tensor_slice(weight, 0, gate * c->hidden, (gate + 1) * c->hidden, 1, &params->error);
        if (rows && init(&params->random, rows) != TL_OK)
            tl_fail(&params->error, TL_ERR_MEMORY, "rnn: out of memory");
        tl_tensor_release(rows);
    }
}

static void init_gates(tl_params *params, const tl_rnn_config *c, tl_gates *g)
{
    tl_param *uniform[] = {g->input.weight, g->hidden.weight, g->input.bias, g->hidden.bias};
    if (c->init == TL_RNN_UNIFORM) {
        for (int k = 0; k < (c->no_bias ? 2 : 4); k++)
            tl_init_uniform(&params->random, uniform[k]->value, c->hidden);
    } else {
        init_by_gate(params, c, g->input.weight->value, tl_init_xavier);
        init_by_gate(params, c, g->hidden.weight->value,
                     c->init == TL_RNN_ORTHOGONAL ? tl_init_orthogonal : tl_init_xavier);
    }
    int forget = kinds[c->kind].forget_gate;
    for (int64_t i = 0; forget >= 0 && !c->no_bias && i < c->hidden; i++) {
        int64_t at = forget * c->hidden + i;
        tl_tensor_set(g->input.bias->value, at,
                      tl_tensor_get(g->input.bias->value, at) + c->forget_bias);
    }
}

void tl_rnn_module_init(tl_rnn_module *module, tl_params *params, const tl_rnn_config *c)
{
    *module = (tl_rnn_module){0};
    if (c->input < 1 || c->hidden < 1 || c->layers < 1 || c->kind > TL_GRU ||
        c->init > TL_RNN_ORTHOGONAL) {
        tl_fail(&params->error, TL_ERR_ARGUMENT,
                "rnn: input %lld, hidden %lld, layers %d: each must be at least 1, kind and init of "
                "their lists",
                (long long)c->input, (long long)c->hidden, c->layers);
        return;
    }
    module->cell = tl_system_get((size_t)c->layers * sizeof *module->cell);
    module->gates = tl_system_get((size_t)c->layers * sizeof *module->gates);
    if (!module->cell || !module->gates) {
        tl_fail(&params->error, TL_ERR_MEMORY, "rnn: out of memory");
        return;
    }
    for (int layer = 0; layer < c->layers; layer++) {
        tl_gates *g = &module->gates[layer];
        g->size = c->hidden;
        add_side(&g->input, params, c, "ih", layer, layer ? c->hidden : c->input);
        add_side(&g->hidden, params, c, "hh", layer, c->hidden);
        if (tl_params_status(params) == TL_OK)
            init_gates(params, c, g);
        const tl_cell_type *type =
            c->kind == TL_LSTM && c->composed ? &tl_lstm_composed_cell : kinds[c->kind].type;
        module->cell[layer] = (tl_cell){type, g, {c->hidden, c->hidden}};
    }
    module->rnn = (tl_rnn){.layers = c->layers, .cell = module->cell};
}

void tl_rnn_module_free(tl_rnn_module *module)
{
    tl_system_give(module->cell);
    tl_system_give(module->gates);
    *module = (tl_rnn_module){0};
}
