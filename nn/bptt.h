/* bptt.h - backpropagation through time, full and truncated.
 *
 *     losses    l_0 l_1 l_2 l_3 | l_4 l_5 l_6 l_7 | l_8 ...          k1 = 4
 *                ^   ^   ^   ^     ^   ^   ^   ^     ^
 *     states  --> h --> h --> h --|--> h --> h --> h --|--> h        | detach: values go on,
 *                                 backward,            backward,       gradients do not
 *                                 update               update
 *
 * Williams and Peng, Neural Computation 2, 1990: what they call BPTT(k1; k1). With k1 = T, or 0, it is
 * full BPTT. The backward pass is tl_backward; here is only the loop around it. */
#ifndef TL_BPTT_H
#define TL_BPTT_H

#include "unroll.h"

typedef struct tl_bptt {
    int64_t k1; /* steps from one update to the next; 0: all of them in one go */
    void *model;
    /* Records steps [from, to) and returns their loss (one element). state: as for tl_unroll. */
    tl_var (*record)(tl_tape *t, void *model, int64_t from, int64_t to, tl_var *state);
    /* Optional; called with the gradients in place: clip, step the optimiser, set them to zero.
     * Returning false ends the run after this stretch, with TL_OK. */
    bool (*update)(void *model, int64_t from, int64_t to, double loss);
} tl_bptt;

/* Steps 0..steps-1 in stretches of k1; the last one is shorter where k1 does not divide. The tape is
 * restarted after each stretch, so memory does not grow with `steps`. state: `states` variables of `t`
 * (or TL_NONE: zeros), on return the last ones, constants of the restarted tape. */
TL_API tl_status tl_bptt_run(tl_tape *t, const tl_bptt *bptt, int64_t steps, int states, tl_var *state);

#endif
