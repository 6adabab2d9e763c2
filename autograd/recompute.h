/* recompute.h - less memory for more time: stretches of a computation that are recorded as one
 * variable, which keeps only what goes in and what comes out, and are recorded again when backward
 * comes to them.
 *
 *     plain       x1 -> a b c d -> x2 -> a b c d -> x3        everything is kept
 *     stretches   x1 -> [......] -> x2 -> [......] -> x3      x1, x2, x3 are kept; on the way back each
 *                                                             stretch is recorded, walked, and
 * forgotten
 *
 * A stretch is recorded on the same tape and walked in the same walk, so that every sum is added up in
 * the same order: gradients are those without recomputation, to the bit. Random numbers (dropout) are
 * drawn again from where the stretch began. Stretches nest; schedules are choices of stretches. */
#ifndef TL_RECOMPUTE_H
#define TL_RECOMPUTE_H

#include "tape.h"

/* ---- one stretch -------------------------------------------------------------------------- */

/* Records outputs from inputs: by applying ops, the same ones each time it is called. It may use other
 * variables of the tape, parameters among them, whose gradients come out right; the variables that it
 * makes itself do not outlive the call. */
typedef void tl_stretch(tl_tape *t, void *context, const tl_var *in, tl_var *out);

/* out[0..outputs-1] as if `stretch` had been called: computed at once, but recorded as one variable.
 * Outputs are reals of one dtype, at most TL_MAX_DIMS - 1 dimensions each. Within a no-record region
 * the function is just called. `context` is kept as a pointer, and must live until the tape is reset.
 * Derivatives of every order by tl_backward and tl_grad; forward mode (tl_jvp) is refused, and so are
 * uses of untied tensors (tl_untie) within the function. */
TL_API tl_status tl_recompute(tl_tape *t, tl_stretch *stretch, void *context, int inputs,
                              const tl_var *in, int outputs, tl_var *out);

/* ---- a chain of steps -------------------------------------------------------------------- */

/* state -> step 0 -> state -> step 1 -> ... each with an output: a recurrent network in time, or
 * layers. */
typedef struct tl_chain {
    int64_t steps;
    int states; /* carried from step to step; 1..TL_CHAIN_STATES */
    /* Replaces the states and sets *output, all of shapes that do not change from step to step. */
    void (*step)(tl_tape *t, void *context, int64_t step, tl_var *state, tl_var *output);
    void *context; /* kept as a pointer until the tape is reset */
} tl_chain;

enum { TL_CHAIN_STATES = 8 };

typedef enum tl_schedule {
    TL_KEEP_ALL, /* no recomputation */
    TL_EVERY,    /* states are kept every `slots` steps; each stretch is recorded once more: T - slots
                    steps */
    TL_SQRT,     /* the same with ceil(sqrt T): memory of 2 sqrt T steps */
    /* The binomial schedule: at most `slots` states at a time, and for that many the fewest steps
     * possible. Griewank and Walther, "Algorithm 799: revolve", ACM TOMS 26 (2000). (The programme for
     * hidden states of Gruslys et al. finds the same places.) */
    TL_REVOLVE,
    /* At most `slots` steps with all that they compute, chosen by dynamic programming. Gruslys et al.,
     * "Memory-efficient backpropagation through time", NIPS 2016, equation 3 (internal states) */
    TL_INTERNAL,
    /* A mixture of both within `slots` times the size of the states, of which a step with all that it
     * computes takes `ratio`: at each place whichever leads to the fewest steps. The same, equation 4.
     * Finding it takes T T slots operations: at most 4e9 are spent */
    TL_MIXED
} tl_schedule;

typedef struct tl_plan {
    tl_schedule schedule;
    int64_t slots; /* see the schedules; >= 1 where it counts */
    int64_t ratio; /* TL_MIXED: >= 1 */
    /* > 0, for TL_REVOLVE and TL_MIXED: slots, and ratio, that fit into so many bytes beside the work
     * of one step; sizes are found by trying a step. TL_ERR_MEMORY when not even one slot fits */
    size_t bytes;
} tl_plan;

/* Records the chain; output: [steps]. On return `state` holds the last states. NULL plan: all is kept.
 */
TL_API tl_status tl_chain_record(tl_tape *t, const tl_chain *chain, const tl_plan *plan, tl_var *state,
                                 tl_var *output);

/* How many steps the plan computes to get forward and back, those that are recorded and walked at
 * once left out (TL_REVOLVE), or all of them (the others): the counts that the papers give. -1 when the
 * plan makes no sense. */
TL_API int64_t tl_plan_cost(const tl_plan *plan, int64_t steps);

/* Steps that walks have computed again since the tape was made. */
TL_API uint64_t tl_recomputed_steps(const tl_tape *t);

#endif
