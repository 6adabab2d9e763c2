/* gradient_flow.h - what becomes of the gradient on its way back through time.
 *
 *     tl_unrolled u;
 *     tl_var y = tl_unroll_with(t, &rnn, x, NULL, &(tl_unroll_options){.handles = &u,
 * .keep_gradients = true}); tl_backward_retain(t, loss_of(t, y));       retain: the flow walks again
 *     tl_gradient_flow flow;
 *     tl_gradient_flow_measure(t, &u, &(tl_flow_options){.network = &rnn}, &flow);
 *     tl_flow_print(&flow, 20, stdout);
 *
 *     s_0 --J_0--> s_1 --J_1--> s_2 --> ..  --> s_T       J_n = ds_(n+1)/ds_n, the step's Jacobian
 *      g_0 <------- g_1 <------- g_2 <- ..  <--- g_T       g_n = dL/ds_n
 *                    ^            ^               ^
 *                    what step's own losses, and the layer above, add
 *
 * States are counted in the direction of reading, as by tl_step_state. What arrives at s_(n+1),
 * g_(n+1), is carried to s_n as g_(n+1) J_n; the ratio of the two norms is what one step does to the
 * gradient.
 *
 * Letters: T time, B batch, H hidden. */
#ifndef TL_GRADIENT_FLOW_H
#define TL_GRADIENT_FLOW_H

#include <stdio.h>

#include "unroll.h"

typedef enum tl_flow_verdict {
    TL_FLOW_SILENT,    /* no gradient arrived, or it had no step to go: nothing to judge */
    TL_FLOW_HEALTHY,   /* the rate is between the thresholds */
    TL_FLOW_VANISHING, /* the rate is below the one, or nothing at all came through some step */
    TL_FLOW_EXPLODING, /* the rate is above the other */
    TL_FLOW_NOT_FINITE /* some norm is NaN or infinite */
} tl_flow_verdict;

typedef struct tl_flow_options {
    /* Thresholds on the rate, see tl_flow_trace; 0: 0.9 and 1.1. At 0.9 half of a gradient is left
     * after 7 steps and a hundredth after 44; at 1.1 it has doubled after 7 steps, grown a hundredfold
     * after 48. */
    double vanishing, exploding;
    bool no_jacobians; /* only gradients: cheap, and nothing is recorded */
    /* Frobenius norms are computed for states of at most so many numbers, batch included: a walk back
     * through the step for each of them. 0: 64 */
    int64_t frobenius_most;
    /* Power iteration on J'J, from normal numbers of a fixed seed: v <- J'J v / |J'J v|, until |J v|
     * changes by no more than tolerance |J v|, or for so many iterations. |J v| grows towards |J|_2 and
     * is never above it (but for rounding); it lags behind by more than the tolerance where the two
     * largest singular values are nearly the same. 0: 1e-5, 300. */
    double tolerance;
    int iterations;
    /* Of an Elman network: its bound is computed too. Its `lengths` at the unrolling, where there were
     * any. */
    const tl_rnn *network;
    const int64_t *lengths;
} tl_flow_options;

enum { TL_FLOW_ALL_STATES = -1 };

/* One state of one layer in one direction; or, where cells have several, all of them as one vector s. A
 * number that does not exist, or was not asked for, is NaN. */
typedef struct tl_flow_trace {
    int layer, direction;
    int state;     /* TL_FLOW_ALL_STATES: all of the cell's */
    int64_t units; /* numbers of the state in a row of the batch */
    int64_t first; /* 0 or 1: states before it depend on no leaf and have no gradient; T+1: none has */
    double *norm;  /* [T+1]: |g_n|, over the batch and all units */
    double *unit;  /* [T+1][units]: the same for each unit, over the batch */
    /* [T], of the step from n to n+1. A single state's J_n is that with the cell's other states held;
     * J_n is a matrix of all rows of the batch, which do not mix in the usual cells: |J_n|_2 is that
     * of the worst row, |J_n|_F is over all. */
    double *carried;   /* |g_(n+1) J_n| */
    double *frobenius; /* |J_n|_F */
    double *spectral;  /* |J_n|_2 */
    /* Elman's h' = f(W_ih x + b + W_hh h) has J_n = diag(f') W_hh, so that
     *     |J_n|_2 <= |W_hh|_2 max |f'|                        Pascanu et al. 2013, equation 6,
     * and its product over the steps bounds what is left of a gradient, equation 7. There f' is bounded
     * once for all x (by 1 for tanh); here it is the largest one that occurred at this step. Steps of
     * rows that are over have J = I and the bound is at least 1. None for networks with zoneout,
     * recurrent dropout or DropConnect. */
    double *bound;
    int unconverged; /* steps whose power iteration came to its end before its tolerance */

    /* [T+1]: log10 of |g_S J_(S-1) .. J_n| / |g_S|, S the last state that has a gradient: what is left,
     * n steps from the beginning, of what the end has to say; the left side of equation 7. With a loss
     * at the last step only this is |g_n| / |g_T|. What losses on the way add, which would hide that
     * nothing comes from afar, is not in it. */
    double *reach;

    tl_flow_verdict verdict;
    /* The fitted decay rate: the line of least squares through log |g_S J_(S-1) .. J_n| against the
     * number of steps back has the slope log(rate). */
    double rate;
    double left;    /* 10^reach at the first state */
    int64_t fitted; /* steps that are in it */
    int64_t at;     /* NOT_FINITE: where; VANISHING: the step through which nothing came; else -1 */
} tl_flow_trace;

typedef struct tl_gradient_flow {
    int64_t steps, batch; /* T, B */
    int count;            /* of traces: layer by layer, in it the directions, in it the states; a cell's
                             trace of all of them, if it has several, comes last */
    tl_flow_trace *trace;
    const tl_cell_type *cell;    /* of options.network, for the names of states; NULL: none */
    tl_flow_verdict verdict;     /* the gravest of the cells' */
    double vanishing, exploding; /* the thresholds */
} tl_gradient_flow;

/* Fills `flow`, whose arrays are good until the tape is reset. After tl_backward_retain, or tl_backward
 * with no_jacobians: `reach` and the verdict are then read off the norms, and mean what they say with a
 * loss at the last step only. Jacobians leave one walk back through each step on the tape: J'u is
 * tl_grad, and J v is the derivative of that with respect to u, along v. TL_ERR_CONSUMED without the
 * retain, TL_ERR_ARGUMENT for thresholds that are not below 1 and above 1. */
TL_API tl_status tl_gradient_flow_measure(tl_tape *t, const tl_unrolled *u,
                                          const tl_flow_options *options, tl_gradient_flow *flow);

/* The trace of a state; NULL: there is none. TL_FLOW_ALL_STATES finds state 0 where it is the only one.
 */
TL_API const tl_flow_trace *tl_flow_find(const tl_gradient_flow *flow, int layer, int direction,
                                         int state);
TL_API const char *tl_flow_verdict_name(tl_flow_verdict verdict); /* "vanishing" */

enum { TL_FLOW_TEXT = 256 };

/* "vanishing: 0.512 of the gradient is left at each step back (below 0.9), 1.2e-09 after 31 steps" */
TL_API const char *tl_flow_words(const tl_gradient_flow *flow, const tl_flow_trace *trace,
                                 char text[TL_FLOW_TEXT]);

/* ---- on paper --------------------------------------------------------------------------- *
 *
 * TL_ERR_IO when the stream does not take it. */

/* A table for each trace, last step first, with at most about `rows` steps of it (0: all), a bar on a
 * logarithmic scale, products over time, and the verdict in words. */
TL_API tl_status tl_flow_print(const tl_gradient_flow *flow, int rows, FILE *stream);
/* layer,direction,state,step,norm,carried,reach,frobenius,spectral,bound: a line for each state that
 * was counted; empty where a number does not exist. 17 digits. */
TL_API tl_status tl_flow_csv(const tl_gradient_flow *flow, FILE *stream);
/* A script for gnuplot 5, its data included, that draws an SVG to its standard output:
 * popen("gnuplot > flow.svg", "w") is a stream for it. All traces' norms over time, on a logarithmic
 * scale. */
TL_API tl_status tl_flow_plot(const tl_gradient_flow *flow, FILE *stream);
/* The same for one trace: log10 of each unit's |dL/ds_n|, steps to the right, units upwards. */
TL_API tl_status tl_flow_plot_units(const tl_gradient_flow *flow, const tl_flow_trace *trace,
                                    FILE *stream);

/* ---- which steps a weight learns from ---------------------------------------------------- */

typedef struct tl_step_share {
    double norm;   /* |dL/dW of this step's use| */
    double cosine; /* with the sum over all steps; 0 where one of them is 0 */
    double share;  /* of the sum: <this, sum> / |sum|^2; all shares add up to 1. NaN where it is 0 */
} tl_step_share;

/* For a weight that was untied (tl_untie) before the unrolling, once tl_backward has run: the first
 * `most` uses, in order of use, as tl_step_gradients has them. Returns how many there are, 0 with the
 * error on the tape. */
TL_API int64_t tl_step_shares(tl_tape *t, const tl_tensor *weight, int64_t most, tl_step_share *shares);

/* ---- a gradient that keeps its norm ------------------------------------------------------ */

typedef enum tl_flow_held {
    TL_HOLD_GRADIENTS, /* g_n are numbers, not functions: only the Jacobians are differentiated */
    TL_HOLD_STATES,    /* and so is all that was computed from states and inputs: what is left is the
                          weights' part in the Jacobians. The paper's "immediate" derivative, equation 10
                        */
    TL_HOLD_NOTHING    /* the derivative of the value, whole: second derivatives of the loss */
} tl_flow_held;

typedef struct tl_flow_penalty_options {
    tl_flow_held held;
    /* g_n of your own instead of the loss's, in the order of tl_unrolled's `state`; NULL: the loss's.
     */
    const tl_var *gradients;
} tl_flow_penalty_options;

/* The regulariser of Pascanu et al. 2013, equation 9,
 *
 *     Omega = sum over n of (|g_(n+1) J_n| / |g_(n+1)| - 1)^2,
 *
 * a variable of one element, to be added to the loss with a factor and differentiated. Norms are those
 * of each row of the batch, and the terms are the mean over rows; a row with g_(n+1) = 0 adds 0. Summed
 * over layers and directions; the states of a cell are one vector. `u` as from tl_unroll_with;
 * keep_gradients is not needed. Built by tl_grad with create_graph on the steps: what is not held can
 * be differentiated as often as wished. loss: TL_NONE with gradients of your own. NULL options: zeros.
 */
TL_API tl_var tl_flow_penalty(tl_tape *t, tl_var loss, const tl_unrolled *u,
                              const tl_flow_penalty_options *options);

/* Largest singular value of a matrix [M,N], by the same power iteration in double. options: tolerance
 * and iterations; NULL, and 0: 1e-12, 10000. NaN with the error on the tape. */
TL_API double tl_spectral_norm(tl_tape *t, tl_var matrix, const tl_flow_options *options);

#endif
