/* gradcheck.h - derivatives against finite differences, for the library's ops and for any function
 * of yours.
 *
 *     static tl_var energy(tl_tape *t, const tl_var *in, void *context)
 *     {
 *         return tl_mul(t, tl_tanh(t, in[0]), in[1]);
 *     }
 *     tl_tensor *inputs[] = {a, b};                          f64
 *     tl_gradcheck_report report;
 *     if (tl_gradcheck(energy, NULL, 2, inputs, NULL, &report) != TL_OK)
 *         puts(report.message);
 *
 * The function is applied twice to the same inputs and the results are added with different
 * weights, because a derivative that says = where it should say += passes when it is used once. */
#ifndef TL_GRADCHECK_H
#define TL_GRADCHECK_H

#include "tape.h"

/* Records a function of the inputs and returns its value, of any shape. */
typedef tl_var tl_function(tl_tape *t, const tl_var *in, void *context);

typedef struct tl_gradcheck_options {
    double step;      /* of the central difference; 0: 1e-6, for f32 1e-2 */
    double tolerance; /* |difference| <= tolerance (1 + |numeric|); 0: 1e-7 for order 1, 1e-5 for order
                         2, 1e-10 between the modes; for f32 2e-2, and 1e-4 between the modes */
    uint64_t seed;    /* of the weights */
} tl_gradcheck_options;

/* Why a result may mean less than it seems to. */
enum {
    TL_WARN_SINGLE = 1, /* an input is f32: differences of numbers so coarse tell little */
    TL_WARN_KINK = 2,   /* the function has a kink at the point: left and right differences disagree */
    TL_WARN_OVERLAP =
        4 /* inputs, or elements of one, share memory: a change of one changes the other */
};

/* The worst element. */
typedef struct tl_gradcheck_report {
    double analytic, numeric, error; /* error = |analytic - numeric| / (1 + |numeric|) */
    int input;
    int64_t element;   /* row-major */
    int64_t checked;   /* elements compared */
    unsigned warnings; /* TL_WARN_... */
    int kink_input;    /* the first kink that was met */
    int64_t kink_element;
    char message[TL_MESSAGE_SIZE]; /* all of the above, in words */
} tl_gradcheck_report;

/* Compares the tape's gradient with central differences in every element of every real input; i64
 * and u8 inputs are passed on as constants. TL_ERR_CHECK when one is off, or the tape's own error. The
 * inputs are changed on the way and put back. options and report may be NULL. */
TL_API tl_status tl_gradcheck(tl_function *function, void *context, int count, tl_tensor *const *inputs,
                              const tl_gradcheck_options *options, tl_gradcheck_report *report);

/* The same for the gradient of the gradient. */
TL_API tl_status tl_gradgradcheck(tl_function *function, void *context, int count,
                                  tl_tensor *const *inputs, const tl_gradcheck_options *options,
                                  tl_gradcheck_report *report);

/* Reverse mode (analytic) against forward mode (tl_jvp, numeric), element by element: no differences of
 * function values, and so exact to rounding. */
TL_API tl_status tl_modecheck(tl_function *function, void *context, int count, tl_tensor *const *inputs,
                              const tl_gradcheck_options *options, tl_gradcheck_report *report);

#endif
