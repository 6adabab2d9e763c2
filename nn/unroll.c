/* unroll.c - a recurrent network written out on the tape.
 *
 *   layer 1   h0' --> [step 0] --> [step 1] --> [step 2] --> last state
 *                        ^            ^            ^
 *   layer 0   h0  --> [step 0] --> [step 1] --> [step 2] --> last state
 *                        ^            ^            ^
 *                       x_0          x_1          x_2
 *
 * Layer by layer, so that a layer's `input` can be computed for all steps at once. There is no
 * backward here: what is recorded is an ordinary feedforward graph, and the tape's walk over it is
 * backpropagation through time. */
#include "nn/cell.h"

#include "autograd/ops.h"
#include "tensor/arena.h"

int tl_rnn_states(const tl_rnn *rnn)
{
    int states = 0;
    for (int layer = 0; layer < rnn->layers; layer++)
        states += rnn->cell[layer].type->states;
    return states;
}

static void check_state(tl_tape *t, const tl_cell *cell, int k, tl_var state, int64_t batch,
                        const char *when)
{
    if (tl_tape_status(t) != TL_OK)
        return;
    tl_array a = tl_value(t, state);
    char shape[TL_LAYOUT_TEXT];
    if (a.layout &&
        (a.layout->ndim != 2 || a.layout->shape[0] != batch || a.layout->shape[1] != cell->size[k]))
        tl_tape_fail(t, TL_ERR_SHAPE, "unroll: %s cell: state %d %s is %s, not [%lld,%lld]",
                     cell->type->name, k, when, tl_layout_text(a.layout, shape), (long long)batch,
                     (long long)cell->size[k]);
}

static void begin_states(tl_tape *t, const tl_cell *cell, tl_dtype dtype, int64_t batch, tl_var *state)
{
    for (int k = 0; k < cell->type->states; k++) {
        if (tl_is_none(state[k]))
            state[k] = tl_full(t, dtype, TL_SHAPE(batch, cell->size[k]), 0);
        else
            check_state(t, cell, k, state[k], batch, "given");
    }
}

static tl_var unroll_layer(tl_tape *t, const tl_cell *cell, tl_var x, tl_var *state, tl_var *outputs)
{
    const tl_layout *l = tl_value(t, x).layout;
    int64_t steps = l->shape[0], batch = l->shape[1];
    begin_states(t, cell, tl_value(t, x).dtype, batch, state);
    tl_var inputs = cell->type->input ? cell->type->input(t, cell->self, x) : x;
    for (int64_t step = 0; step < steps && tl_tape_status(t) == TL_OK; step++) {
        tl_scope_begin(t, "step", step);
        cell->type->step(t, cell->self, tl_select(t, inputs, 0, step), state);
        for (int k = 0; k < cell->type->states; k++)
            check_state(t, cell, k, state[k], batch, "returned");
        outputs[step] = state[0];
        tl_scope_end(t);
    }
    if (tl_tape_status(t) != TL_OK)
        return tl_poison(t);
    return tl_stack(t, (int)steps, outputs, 0);
}

static bool fits(tl_tape *t, const tl_rnn *rnn, tl_array x)
{
    char shape[TL_LAYOUT_TEXT];
    if (!x.layout)
        return false;
    if (x.layout->ndim != 3 || x.layout->shape[0] < 1)
        tl_tape_fail(t, TL_ERR_SHAPE, "unroll: wants [T,B,I] with T >= 1, not %s",
                     tl_layout_text(x.layout, shape));
    else if (rnn->layers < 1)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "unroll: a network of %d layers", rnn->layers);
    for (int layer = 0; layer < rnn->layers; layer++)
        if (rnn->cell[layer].type->states < 1 || rnn->cell[layer].type->states > TL_MOST_STATES)
            tl_tape_fail(t, TL_ERR_ARGUMENT, "unroll: %s cell: %d states, not 1..%d",
                         rnn->cell[layer].type->name, rnn->cell[layer].type->states, TL_MOST_STATES);
    return tl_tape_status(t) == TL_OK;
}

tl_var tl_unroll(tl_tape *t, const tl_rnn *rnn, tl_var x, tl_var *state)
{
    if (tl_tape_status(t) != TL_OK || !fits(t, rnn, tl_value(t, x)))
        return tl_poison(t);
    int64_t steps = tl_value(t, x).layout->shape[0];
    tl_var *outputs = tl_scratch(t, (size_t)steps * sizeof *outputs);
    for (int layer = 0, first = 0; layer < rnn->layers && outputs; layer++) {
        const tl_cell *cell = &rnn->cell[layer];
        tl_var own[TL_MOST_STATES] = {TL_NONE, TL_NONE, TL_NONE, TL_NONE};
        tl_scope_begin(t, "layer", layer);
        x = unroll_layer(t, cell, x, state ? state + first : own, outputs);
        tl_scope_end(t);
        if (tl_tape_status(t) != TL_OK)
            return tl_poison(t);
        first += cell->type->states;
    }
    return outputs ? x : tl_poison(t);
}
