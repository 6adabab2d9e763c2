/* artbp.h - truncated backpropagation through time without its bias.
 *
 *     steps      0 --> 1 --> 2 --| 3 --> 4 --| 5 --> ...       | cut, with probability c
 *                   x     x           x                        x not cut: what comes back is
 *                                                                multiplied by 1 / (1 - c)
 *
 * Truncation at fixed places never sees what reaches further. Here it is drawn after each step whether
 * the state is cut off, and gradients that come through where it was not are multiplied by the inverse
 * of the probability of that: the mean is the gradient of the whole sequence. Tallec and Ollivier,
 * "Unbiasing truncated backpropagation through time", arXiv:1705.08209 (2017).
 *
 * The backward pass is tl_backward, the factor a hook on the state's gradient. */
#ifndef TL_ARTBP_H
#define TL_ARTBP_H

#include "unroll.h"

typedef struct tl_artbp {
    double length; /* mean number of steps from one cut to the next, > 1 */
    double alpha;  /* > 2: c = (alpha - 1) / ((alpha - 2) length + age), age: steps since the last cut.
                      The paper's: long stretches as age^-alpha, so that factors grow slowly. Above 3
                      the lengths have a variance. 0: c = 1 / length */
    uint64_t seed; /* of the cuts */
    const bool *cuts; /* [steps - 1] instead of drawing: cut after step t? NULL: drawn */

    void *model;
    /* Records one step and returns its loss (one element), or TL_NONE. state: as for tl_unroll. */
    tl_var (*record)(tl_tape *t, void *model, int64_t step, tl_var *state);
    /* Optional; called after each cut, and at the end, with the gradients of steps [from, to) added and
     * the sum of their losses. Returning false ends the run, with TL_OK. */
    bool (*update)(void *model, int64_t from, int64_t to, double loss);
} tl_artbp;

/* Probability of a cut after the age-th step since the last one, age >= 1. */
TL_API double tl_artbp_probability(const tl_artbp *artbp, int64_t age);

/* Steps 0..steps-1. After each cut tl_backward runs from the sum of the losses since the last one, and
 * the tape is restarted: memory is for the longest stretch. state: `states` variables of `t` (or
 * TL_NONE), on return the last ones, constants of the restarted tape. With weights that stay, the mean
 * over the cuts of what is added to the gradients is the gradient of the sum of all losses.
 * TL_ERR_ARGUMENT: length, alpha out of range. */
TL_API tl_status tl_artbp_run(tl_tape *t, const tl_artbp *artbp, int64_t steps, int states,
                              tl_var *state);

#endif
