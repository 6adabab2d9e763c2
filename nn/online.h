/* online.h - gradients that go forward in time: a stream is consumed step by step, and nothing of the
 * past is kept but the state and how it depends on the weights.
 *
 *     tl_online *o = tl_online_new(&lstm, &(tl_online_config){.method = TL_RTRL}, &error);
 *     for (;;) {
 *         tl_tape_reset(t);
 *         tl_var x = next_input(t);                                   [B,I]
 *         tl_online_step(o, t, x, loss_of_step, model, &loss);        gradients += dl_t/dtheta
 *         tl_optimizer_step(optimizer); tl_zero_gradients(params);    now, or after some steps
 *     }
 *
 * With s' = f(s, x, theta) one step, l = l(y, s') its loss, and
 *
 *     D = ds'/ds     F = ds'/dtheta with s held     J = ds/dtheta, the influence of the weights
 *
 *     dl/dtheta = dl/ds' J' + dl/dtheta with s' held       J' = D J + F
 *
 * where weights that only the loss sees (a decoder's) have just the last term: they may be any on the
 * tape. All derivatives are the tape's, of the one step that is recorded: rows of D and F by tl_grad, D
 * times a vector by tl_jvp, dl/ds' by tl_backward. The methods differ in what they keep of J:
 *
 *   method     J                                   numbers kept         time per step, n units, P = n^2
 *   TL_RTRL    all of it                           B n P        n^3     n^4: D J. And n (1+B) walks
 *   TL_SNAP    what is reached within n steps      B entries    n^2     n^3: D, n walks, of SnAp-1
 *   TL_EPROP   what is not passed on by the output B entries    n^2     n^2, some walks, of one layer
 *   TL_UORO    a random rank-one matrix            B n + P      n^2     n^2, three walks
 *   (BPTT      none                                T n          T n     n^2, two walks, backwards)
 *
 * n is the number of all numbers in the state, of all layers (2 H for an LSTM); a walk costs about as
 * much as the step. Time and memory do not depend on how long the stream is. What is kept is f64, and
 * beside it there is room for F of one step: B n P again for RTRL, B P or a few times that for SnAp and
 * e-prop. Weights may be changed between steps; J then is what it was with each step's own weights, as
 * usual. Same seed, same numbers.
 *
 * Letters: B batch, I input, P weights of the network (columns of J), n numbers of one row's state. */
#ifndef TL_ONLINE_H
#define TL_ONLINE_H

#include "influence.h"
#include "unroll.h"

typedef enum tl_online_method {
    /* Real-time recurrent learning, exact: with weights that stay, the sum over the steps is the
     * gradient of BPTT. Williams and Zipser, Neural Computation 1 (1989). */
    TL_RTRL,
    /* SnAp-n, biased: of J the entries that are not 0 after `reach` steps from J = 0: the weight
     * reaches the number within so many steps. Where those are all, it is RTRL. Menick et al.,
     * "Practical real time recurrent learning with a sparse approximation", ICLR 2021,
     * arXiv:2006.07232. */
    TL_SNAP,
    /* e-prop, biased: for cells with a memory beside their output, as the LSTM. The gradient is exact
     * but for one thing: state 0 (h) is taken as given where the next step reads it, so only the memory
     * (c) carries influence: e' = dc'/dc e + dc'/dtheta, the eligibility traces. Learning signals are
     * the true dl_t/dh_t of that step's loss: "symmetric" feedback, not random. Layers: what layer 1
     * reads at the same step it passes on, so for one layer a trace for each weight suffices, and for
     * more there are some from each layer below. Bellec et al., Nature Communications 11:3625 (2020),
     * equations 3 and 14. */
    TL_EPROP,
    /* Unbiased online recurrent optimization: J is replaced by a random matrix of rank one, s~ theta~',
     * whose mean is J. The mean of the gradient is that of RTRL, and its variance is the price. The
     * states of all rows of a batch are one vector. Tallec and Ollivier, ICLR 2018, arXiv:1702.05043,
     * algorithm 1. */
    TL_UORO
} tl_online_method;

typedef struct tl_online_config {
    tl_online_method method;
    int reach;     /* SnAp: n >= 1 */
    uint64_t seed; /* UORO: of its signs. SnAp and e-prop: of the places where derivatives are looked at
                      for zeros */
} tl_online_config;

typedef struct tl_online tl_online;

/* A step that is not a tl_rnn's: any function of a state. */
typedef struct tl_online_model {
    void *model;
    int states;                /* >= 1 */
    tl_tensor *const *initial; /* [states], each [B, ..], which are copied */
    int params;
    tl_param *const *param; /* that the step uses; frozen ones are left out */
    /* Records a step: replaces each state by the next. Rows of the batch must not see each other. */
    void (*step)(tl_tape *t, void *model, tl_var x, tl_var *state);
    unsigned observed; /* e-prop: bit k: state k is taken as given where the next step reads it */
} tl_online_model;

/* For one direction, forward. Without the noise of training. The parameters of the network that are not
 * frozen now; network and params must outlive it. NULL with the reason in `error`: not a network, one
 * that reads backwards, SnAp without a reach, e-prop for a cell that has nothing but an output, no
 * memory. */
TL_API tl_online *tl_online_new(const tl_rnn *rnn, const tl_online_config *config, tl_error *error);
/* The same for any step; model->param is copied, what it points to must outlive it. */
TL_API tl_online *tl_online_new_model(const tl_online_model *model, const tl_online_config *config,
                                      tl_error *error);
TL_API void tl_online_free(tl_online *o); /* NULL is fine */
/* The stream begins anew: the initial state, and J = 0. */
TL_API void tl_online_begin(tl_online *o);

/* The loss of a step, one element, or TL_NONE: this step has none. y: the network's output [B,P]; of a
 * model its state 0. */
typedef tl_var tl_online_loss(tl_tape *t, void *context, tl_var y);

/* Takes a step: the state moves on, and the step's share of the gradient is added to the gradients of
 * the network's parameters, and of those that `loss` uses. x: [B,I] (of a model whatever it takes).
 * The tape is the caller's to reset before each step, or else it grows; no other step may be taken on a
 * recording after weights were changed, and none of the weights untied. loss, value may be NULL; value
 * becomes the loss, or NaN where there is none. The first step, whose x has the batch, asks for memory;
 * SnAp and e-prop then find the zeros of D and F, by their values at eight random states and inputs,
 * for which they take once the time and the memory of RTRL: a weight that is exactly 0 by then counts
 * as absent, as in the sparse networks of the paper. On failure (the tape has it) the state and J are
 * as before the step; gradients may have been added to. */
TL_API tl_status tl_online_step(tl_online *o, tl_tape *t, tl_var x, tl_online_loss *loss, void *context,
                                double *value);

/* State k now, good until the next step; of the network as tl_unroll orders them. NULL: before the
 * first step of a network. */
TL_API const tl_tensor *tl_online_state(const tl_online *o, int k);

typedef struct tl_online_cost {
    int64_t rows, columns; /* n of one row of the batch, P */
    int64_t entries;       /* of J that are kept, of one row of the batch; UORO: B n + P */
    int64_t walks;         /* over the recorded step, of a step with a loss */
    size_t bytes;          /* that are held from step to step, state not counted */
} tl_online_cost;

/* Zeros before the first step. */
TL_API tl_online_cost tl_online_measure(const tl_online *o);

#endif
