/* unroll.h - a recurrent network written out on the tape, and the handles to every step of it.
 *
 * Letters: T time, B batch, I input, H hidden, P output of a layer, D directions, L layers. */
#ifndef TL_UNROLL_H
#define TL_UNROLL_H

#include "../autograd/recompute.h"
#include "rnn.h"

struct tl_unrolled;

typedef struct tl_unroll_options {
    /* Rows of different lengths: [B], each 0..T, in any order. The state of a row is the one after its
     * own last step, its outputs beyond are zero, and the backward direction starts at its end. What
     * the padding holds (NaN, say) reaches neither values nor gradients. NULL: all are T. */
    const int64_t *lengths;
    /* Masks u8 [T,B], or TL_NONE: before step t, rows marked in `reset` begin anew from the initial
     * state (learned, or the cell's); rows marked in `detach` go on, but no gradient passes. Forward
     * direction only; refused where there is none (reverse). */
    tl_var reset, detach;
    int64_t from;  /* what cells that look at the step count from: where this stretch of a longer
                      sequence begins, >= 0 */
    bool training; /* dropout, DropConnect and zoneout draw their masks */
    struct tl_unrolled *handles; /* filled in, if given */
    bool keep_gradients;         /* tl_keep_gradient for every state of every step */
    /* Memory for time: a plan (see recompute.h) by which stretches of every layer are recorded again on
     * the way back. NULL: all is kept. With a plan the input's products are done step by step, with
     * TL_KEEP_ALL too, so that plans give the same bits as each other. Not together with handles or
     * untied weights. */
    const tl_plan *recompute;
} tl_unroll_options;

/* Records T steps of every layer and returns the last one's outputs [T,B,D P]. x: [T,B,I] ([B,T,..]
 * both, if batch_first), T >= 1. state: tl_rnn_states of them; those of layer 0 first, in it the
 * forward direction, in it state 0; each [B, shape]; on entry the initial ones (TL_NONE: learned, or
 * what the cell says, zeros mostly), on return the last ones. NULL: none given, none returned.
 *
 * With state[k] = tl_detach(t, state[k]), or after tl_tape_restart, the next call goes on where this
 * one ended, and no gradient flows back across: truncated BPTT. */
TL_API tl_var tl_unroll(tl_tape *t, const tl_rnn *rnn, tl_var x, tl_var *state);
TL_API tl_var tl_unroll_with(tl_tape *t, const tl_rnn *rnn, tl_var x, tl_var *state,
                             const tl_unroll_options *options);

/* ---- the unrolled graph, in the hand ------------------------------------------------------ */

/* Every variable that passed between the steps; good until the tape is reset. States of one step do not
 * depend on each other: a derivative with respect to one holds the others. */
typedef struct tl_unrolled {
    int layers, directions, states;
    int64_t steps;
    tl_var *input;  /* [L][D][T]: what the step read */
    tl_var *output; /* [L][D][T] */
    tl_var *state;  /* [L][D][states][T+1]: before the first step in the direction of reading, and after
                       each */
} tl_unrolled;

TL_API tl_var tl_step_input(const tl_unrolled *u, int layer, int direction, int64_t step);
TL_API tl_var tl_step_output(const tl_unrolled *u, int layer, int direction, int64_t step);
/* After `count` steps in the direction of reading: 0 is the initial state, T the last. */
TL_API tl_var tl_step_state(const tl_unrolled *u, int layer, int direction, int k, int64_t count);

/* The gradients of a state after 0..T steps, [T+1,B,shape], once tl_backward has run on what was
 * unrolled with keep_gradients; zeros where none arrived. */
TL_API tl_var tl_state_gradients(tl_tape *t, const tl_unrolled *u, int layer, int direction, int k);
/* dstate(to) / dstate(from), [state.shape, state.shape] with the batch in front on both sides. */
TL_API tl_var tl_state_jacobian(tl_tape *t, const tl_unrolled *u, int layer, int direction, int k,
                                int64_t to, int64_t from);
/* The gradients of a weight step by step, [uses, shape], once tl_backward has run: the tensor must have
 * been untied (tl_untie) before the unrolling. In order of use; their sum is the gradient of the tied
 * weight. */
TL_API tl_var tl_step_gradients(tl_tape *t, const tl_tensor *weight);

#endif
