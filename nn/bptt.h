/* bptt.h - backpropagation through time, full and truncated in all its named forms.
 *
 * TBPTT(k1,k2): k1 steps forward from one update to the next, gradients back through k2 steps. One pass
 * is those k1 new steps, one tl_backward and one update. TBPTT(4,4), where the window ends are the
 * cuts:
 *
 *     losses    l_0 l_1 l_2 l_3 | l_4 l_5 l_6 l_7 | l_8 ...
 *                ^   ^   ^   ^     ^   ^   ^   ^     ^
 *     states  --> h --> h --> h --|--> h --> h --> h --|--> h        | cut: values go on,
 *                                 backward,            backward,       gradients do not
 *                                 update               update
 *
 * TBPTT(2,4), where windows overlap (what tl_bptt_explain prints):
 *
 *     pass 0   oo                o  its loss is injected, and its gradient passes through the step
 *     pass 1   --oo              -  gradients pass through, its loss has been used before
 *     pass 2     --oo
 *     pass 3       --oo          every step is walked back through k2/k1 = 2 times
 *
 * n is the length of the sequence, h and h' are Williams and Peng's, "An efficient gradient-based
 * algorithm for on-line training of recurrent network trajectories", Neural Computation 2 (1990):
 *
 *     full BPTT = TBPTT(n,n)             k1 = 0                    one pass over everything
 *     TBPTT(k,k), stateful training      k1 = k                    the common one: detach every k steps
 *     TBPTT(1,n), their real-time BPTT   k1 = 1, k2 = TL_ALL_STEPS after every step all the way back;
 *                                                                  the one whose memory grows with n
 *     BPTT(h) = BPTT(h;1)                k1 = 1, k2 = h            every loss goes back exactly h steps
 *     BPTT(h;h'), k1 < k2 < n            k1 = h', k2 = h           a loss goes back h-h'+1 to h steps
 *     TBPTT(k1,1)                        k2 = 1                    no gradient from step to step at all
 *     TBPTT(k1,k2), k2 < k1              k1, k2                    k1-k2 steps forward only, then k2
 *
 * (Their "goes back h steps" counts the loss's own step as one.) Where k2 < k1 the losses of the first
 * k1-k2 steps of each stretch are used by no pass. To use them, take k1 = k2, and let `update` step
 * the optimiser at every second or third pass only: gradients add up in between.
 *
 * Ends. The last stretch is shorter where k1 does not divide the number of steps. Its window begins
 * where that of a whole one would (k2 < k1: k2 steps before its end), so that how far back a loss
 * reaches does not depend on where the sequence ends. With k2 >= n every window begins at step 0.
 *
 * Streams that end at different times. The cuts above are in time, the same for all rows. Where a row's
 * sequence ends and another begins is for `record` to say, with steps [from,to) of two masks [n,B] as
 * tl_unroll_options.reset and .detach: a reset row is cut before that step in whichever window it is.
 *
 * Memory is that of the window, O(max(k1,k2)), however long the sequence; the tape is restarted at the
 * cuts.
 *
 * The backward pass is tl_backward; here is only the loop around it. */
#ifndef TL_BPTT_H
#define TL_BPTT_H

#include "unroll.h"

#define TL_ALL_STEPS INT64_MAX

/* Which losses a pass injects. */
typedef enum tl_bptt_losses {
    /* Those of the newest k1 steps (k2 < k1: of the newest k2): each loss is used at most once, and
     * without updates the sum of all passes is a truncated gradient of the sum of the losses.
     * BPTT(h;h') as it was published. */
    TL_LOSSES_NEWEST,
    /* All of the window's k2 steps: a window slid over the sequence by k1 and treated as a sequence of
     * its own. Differs where k1 < k2: a loss is used k2/k1 times (less often at both ends), with
     * horizons from 1 to k2; gradients are k2/k1 times as large. */
    TL_LOSSES_WINDOW
} tl_bptt_losses;

/* What the older k2-k1 steps of a window are, where k1 < k2 and the weights change between passes. */
typedef enum tl_bptt_old {
    /* Recorded again with the weights of the day, from the state in which the window begins, as it came
     * out in the pass before. The gradient is that of a function there is: the window, with these
     * weights. Costs k2/k1 forward steps for each. Noise (dropout) is drawn anew. */
    TL_OLD_RECOMPUTED,
    /* Kept as they were: old activations, and their derivatives with the weights that made them. The
     * tape's rule that recorded numbers must not change is honoured by giving every update fresh copies
     * of the weights: before `update`, each param->value of `params` that is not frozen is replaced by
     * a copy, and the tape holds the old one. (Do not hold on to param->value yourself: reach it
     * through the tl_param.) At most 2 k2/k1 + 1 versions of the weights are alive at a time. As a tape
     * cannot drop its beginning, it is restarted when it has grown to 2 k2 steps or so, and the window
     * recorded again, with the weights and the noise (the tape's random numbers) of each stretch's own
     * time: the same numbers, for less than two forward steps each. Without `update` nothing is copied:
     * then weights do not change, and the two choices give the same gradients.
     * Which is faster depends on k1. Kept stretches are recorded once or twice instead of k2/k1 times,
     * but each by itself, where a window that is recorded anew does for all its steps at once what does
     * not depend on the recurrence: BPTT(16;8) of an Elman network of 16 took 7 us a step kept and 12
     * recomputed, BPTT(32;1) 170 and 66. */
    TL_OLD_KEPT
} tl_bptt_old;

typedef struct tl_bptt_pass {
    int64_t index;    /* 0, 1, .. */
    int64_t from, to; /* the new steps */
    int64_t reaches;  /* the first step of the window that was walked back: [reaches,to) */
    double loss;      /* of the new steps, forward-only ones too: what a learning curve wants */
    double injected;  /* sum of the losses that were walked back from */
} tl_bptt_pass;

typedef enum tl_bptt_end {
    TL_BPTT_DONE,    /* all steps */
    TL_BPTT_STOPPED, /* update returned false */
    TL_BPTT_FAILED   /* an error, which is on the tape */
} tl_bptt_end;

typedef struct tl_bptt_report {
    tl_bptt_end end;
    int64_t steps, passes;     /* carried out */
    double loss;               /* sum of those of the passes */
    char why[TL_MESSAGE_SIZE]; /* "update returned false after step 8 of 20, in pass 1" */
} tl_bptt_report;

typedef struct tl_bptt {
    int64_t k1; /* steps from one update to the next; 0: all of them in one go */
    int64_t k2; /* steps that gradients go back; 0: k1; TL_ALL_STEPS: to the beginning */
    void *model;
    /* Records steps [from,to) and returns their loss (one element), or TL_NONE if there is none in
     * these steps. state: as for tl_unroll; on entry those before step `from`, on return those after
     * step to-1. A stretch may be recorded in parts, and where k1 < k2 again in a later pass: so let
     * the loss be a sum over the steps (divided by a constant, if you like), whose parts add up. Where
     * k1 = k2, or k1 = 0, it is called once for each stretch, and a mean over the steps is fine. Only
     * the states connect one call to the next. A loss that uses a variable of steps beyond the cut is
     * an error (TL_ERR_STALE) that names the cut and the way out; with TL_OLD_KEPT, where such a
     * variable may still be on the tape, it is noticed by the gradient that arrives at a state between
     * two stretches. */
    tl_var (*record)(tl_tape *t, void *model, int64_t from, int64_t to, tl_var *state);
    /* Optional; called after each pass that had a loss, with the gradients in place: clip, step the
     * optimiser, set them to zero. Returning false ends the run after this pass, with TL_OK. Without it
     * the gradients of all passes add up. */
    bool (*update)(void *model, const tl_bptt_pass *pass);
    tl_bptt_losses losses;
    tl_bptt_old old;
    tl_params *params;      /* all that `update` changes; needed with TL_OLD_KEPT and update */
    tl_bptt_report *report; /* filled in, if given */
} tl_bptt;

/* Steps 0..steps-1. state: `states` variables of `t` (or TL_NONE: zeros, or what is learned), on return
 * the last ones, constants of the restarted tape; not to be used after an error. Gradients reach
 * initial states that are given, or learned, in windows that begin at step 0 (those that are given only
 * in the first pass: after it they are constants, unless TL_OLD_KEPT). A further run goes on with the
 * states, but its windows do not reach into this one's steps.
 * TL_ERR_ARGUMENT: k1, k2 or steps negative, record NULL, TL_OLD_KEPT with update but without params.
 */
TL_API tl_status tl_bptt_run(tl_tape *t, const tl_bptt *bptt, int64_t steps, int states, tl_var *state);

/* Which losses reach which steps, as a picture in text: the name of the form, each pass, how often
 * every step is walked back through, and for each loss the steps it reaches. The first 64 steps, if
 * there are more. TL_ERR_ARGUMENT, with the reason written to the stream, for what tl_bptt_run would
 * refuse (record need not be given); TL_ERR_IO when the stream does not take it. */
TL_API tl_status tl_bptt_explain(const tl_bptt *bptt, int64_t steps, FILE *stream);

#endif
