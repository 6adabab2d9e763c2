/* compare.h - gradients derived by hand beside those of the tape.
 *
 *     tl_grad_pair pairs[] = {{"weight_hh", -1, mine, theirs}, {"weight_hh", 0, mine_at_0,
 * theirs_at_0}}; tl_grad_difference worst[2]; if (tl_compare_grads(2, pairs, 1e-12, stdout, worst,
 * &error) != TL_OK) fprintf(stderr, "%s\n", error.message);
 *
 * prints
 *
 *     gradient        step  worst element        manual     automatic  difference    relative
 *     weight_hh          -         [1,2]   +0.123456789  +0.123456789     1.4e-17     1.1e-16
 *
 * Gradients of single time steps: see tl_untie (a weight's) and tl_keep_gradient (a state's). A
 * derivation by hand that is to run in place of the tape's own is an op with a `backward`: see op.h. */
#ifndef TL_COMPARE_H
#define TL_COMPARE_H

#include <stdio.h>

#include "../tensor/tensor.h"

typedef struct tl_grad_pair {
    const char *name;
    int64_t step; /* < 0: of all steps together */
    const tl_tensor *manual, *automatic;
} tl_grad_pair;

/* The element that is off by most. relative = |manual - automatic| / the largest |automatic| of the
 * tensor, so that an element near zero, where terms cancelled, does not count for more than it is. */
typedef struct tl_grad_difference {
    int64_t element; /* row-major; -1: there are no elements */
    double manual, automatic, absolute, relative;
} tl_grad_difference;

/* Compares `count` pairs and prints a line for each (stream NULL: none). TL_ERR_CHECK when a relative
 * difference is above the tolerance or not a number: error names pair, step, element and both numbers.
 * TL_ERR_SHAPE, TL_ERR_DTYPE, TL_ERR_ARGUMENT (NULL) when a pair does not fit. differences: [count], or
 * NULL. */
TL_API tl_status tl_compare_grads(int count, const tl_grad_pair *pairs, double tolerance, FILE *stream,
                                  tl_grad_difference *differences, tl_error *error);

#endif
