/* cell.h - the contract of a recurrent cell, and its unrolling onto the tape.
 *
 * A cell is a struct of yours with the parameters, and a function that writes the paper's equations
 * for one step. A GRU without the reset gate, whole:
 *
 *     typedef struct { tl_linear_layer xz, hz, xn, hn; } minimal;
 *
 *     static void step(tl_tape *t, const void *self, tl_var x, tl_var *state)
 *     {
 *         const minimal *m = self;
 *         tl_var h = state[0];
 *         tl_var z = tl_sigmoid(t, tl_add(t, tl_linear(t, x, &m->xz), tl_linear(t, h, &m->hz)));
 *         tl_var n = tl_tanh(t, tl_add(t, tl_linear(t, x, &m->xn), tl_linear(t, h, &m->hn)));
 *         state[0] = tl_lerp(t, n, h, z);                              (1-z) n + z h
 *     }
 *     const tl_cell_type minimal_type = {.name = "minimal", .states = 1, .step = step};
 *
 *     tl_cell cell = {&minimal_type, &parameters, {H}};
 *     tl_rnn rnn = {.layers = 1, .cell = &cell};
 *     tl_var y = tl_unroll(t, &rnn, x, state);
 *
 * Letters: T time, B batch, I input, H hidden. */
#ifndef TL_CELL_H
#define TL_CELL_H

#include "linear.h"

enum { TL_MOST_STATES = 4 };

typedef struct tl_cell_type {
    const char *name; /* "lstm" */
    int states;       /* arrays carried from step to step; state[0] is also the output */
    /* Optional: what does not depend on the recurrence, for all steps in one go. x: [T,B,I]; the
     * result's [T,B,..] reaches `step` one time slice at a time in place of x. */
    tl_var (*input)(tl_tape *t, const void *self, tl_var x);
    /* One step. x: [B,..]; state[k]: [B,size[k]], replaced by the next one. */
    void (*step)(tl_tape *t, const void *self, tl_var x, tl_var *state);
} tl_cell_type;

typedef struct tl_cell {
    const tl_cell_type *type;
    const void *self;             /* handed to the functions */
    int64_t size[TL_MOST_STATES]; /* of each state */
} tl_cell;

/* Layers of cells; each reads the outputs of the one below. */
typedef struct tl_rnn {
    int layers;
    const tl_cell *cell; /* [layers] */
} tl_rnn;

TL_API int tl_rnn_states(const tl_rnn *rnn); /* of all layers together */

/* Records T steps of every layer and returns the last one's outputs [T,B,H]. x: [T,B,I], T >= 1.
 * state: tl_rnn_states of them, the states of layer 0 first, each [B,size]; on entry the initial ones
 * (TL_NONE: zeros), on return the last ones. NULL: zeros, and nothing returned.
 *
 * With state[k] = tl_detach(t, state[k]), or after tl_tape_restart, the next call goes on where this
 * one ended, and no gradient flows back across: truncated BPTT. */
TL_API tl_var tl_unroll(tl_tape *t, const tl_rnn *rnn, tl_var x, tl_var *state);

#endif
