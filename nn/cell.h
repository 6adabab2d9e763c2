/* cell.h - the contract of a recurrent cell: what someone who invents one must know.
 *
 * A cell is a struct of variables, a list of its weights, and a step that reads like the equations. The
 * minimal gated unit of Zhou et al. (2016), whole:
 *
 *     typedef struct mgu { tl_var w_f, u_f, b_f, w_n, u_n, b_n; } mgu;
 *
 *     static const tl_cell_weight mgu_weights[] = {
 *         TL_WEIGHT(mgu, w_f, .shape = "H,I"), TL_WEIGHT(mgu, u_f, .shape = "H,H"),
 *         TL_WEIGHT(mgu, b_f, .shape = "H"),   TL_WEIGHT(mgu, w_n, .shape = "H,I"),
 *         TL_WEIGHT(mgu, u_n, .shape = "H,H"), TL_WEIGHT(mgu, b_n, .shape = "H"), TL_WEIGHTS_END};
 *
 *     static void mgu_step(const tl_cell_call *c, tl_var x, tl_var *state)
 *     {
 *         tl_tape *t = c->tape;
 *         const mgu *w = c->weights;
 *         tl_var h = state[0];
 *         tl_var f = tl_sigmoid(t, tl_linear_op(t, h, w->u_f, tl_linear_op(t, x, w->w_f, w->b_f)));
 *         tl_var n = tl_linear_op(t, tl_mul(t, f, h), w->u_n, tl_linear_op(t, x, w->w_n, w->b_n));
 *         state[0] = tl_lerp(t, h, tl_tanh(t, n), f);
 *     }
 *
 *     static const tl_cell_type mgu_cell = {.name = "mgu", .bytes = sizeof(mgu),
 *                                           .weights = mgu_weights, .states = {{"h", "H"}},
 *                                           .step = mgu_step};
 *
 * That is all. tl_rnn_init (rnn.h) makes the parameters, for as many layers and directions as wished,
 * and tl_unroll writes the steps onto the tape; variable lengths, dropout of every kind, zoneout,
 * residual connections, truncation, saving and diagnostics step by step come with it. Whole programs
 * around cells of one's own: examples/cell_*.c.
 *
 * Letters: T time, B batch, I input of the layer, H hidden, P output of the layer (H, unless
 * projected). */
#ifndef TL_CELL_H
#define TL_CELL_H

#include <stddef.h>

#include "../autograd/tape.h"
#include "param.h"

struct tl_rnn_config;

/* Initial values. TL_INIT_DEFAULT: what the network's configuration says. */
typedef enum tl_cell_init {
    TL_INIT_DEFAULT,
    TL_INIT_ZEROS,
    TL_INIT_VALUE,   /* `value`, everywhere */
    TL_INIT_UNIFORM, /* in +-1/sqrt(H) */
    TL_INIT_NORMAL,  /* of standard deviation `value` */
    TL_INIT_XAVIER,  /* see init.h; of each block of H rows by itself, as the next two */
    TL_INIT_ORTHOGONAL,
    TL_INIT_IDENTITY /* `value` on the diagonal */
} tl_cell_init;

typedef struct tl_cell_weight {
    const char *name;  /* stored as prefix + name + "_l0", "_l0_reverse", ... */
    size_t offset;     /* of its tl_var in the cell's struct */
    const char *shape; /* "4H,I": sizes with commas between; a size is a number, a letter, or both.
                          NULL: no parameter, but a variable that `begin` makes of the others */
    tl_cell_init init;
    double value;
    bool recurrent; /* what DropConnect drops, and what orthogonal initialisation means */
    bool bias;      /* left away, TL_NONE, where the network has no biases */
    unsigned
        feature; /* != 0: there only if the cell's `features` has one of these bits; else TL_NONE */
} tl_cell_weight;

/* An entry of the list: the member's name is the stored name. */
#define TL_WEIGHT(type, member, ...)                                                                   \
    {                                                                                                  \
        .name = #member, .offset = offsetof(type, member), __VA_ARGS__                                 \
    }
#define TL_WEIGHTS_END                                                                                 \
    {                                                                                                  \
        .name = NULL                                                                                   \
    }

typedef struct tl_cell_state {
    const char *name;
    const char *shape; /* of one row of the batch: "H" for [B,H] */
} tl_cell_state;

/* What a state is before the first step: `value` everywhere, and so at first where it is learned. With
 * another `init` than the default it is learned whatever the configuration says. */
typedef struct tl_cell_initial {
    tl_cell_init init;
    double value;
} tl_cell_initial;

enum { TL_MOST_STATES = 4 };

/* What the functions of a cell get. */
typedef struct tl_cell_call {
    tl_tape *tape;
    const void *weights; /* the cell's struct, its variables filled in */
    const void *options; /* the cell's own, see tl_rnn_config; never NULL where the type has options */
    tl_dtype dtype;      /* of all of it */
    int64_t step; /* 0..T-1 (+ `from` of tl_unroll_options), the index in time also where the network
                     reads backwards; -1 outside steps */
    int64_t steps, batch, input, hidden, output; /* T, B, I, H, P */
} tl_cell_call;

typedef struct tl_cell_type {
    const char *name;      /* "lstm" */
    const char *equations; /* a line each, with the source; for tl_cell_describe */
    const char *gates;     /* order of the blocks of H rows: "i, f, g, o"; NULL: there is one */

    size_t bytes;                  /* of the struct, which holds tl_vars and nothing else */
    const tl_cell_weight *weights; /* one for each of them; a name of NULL ends the list */

    /* What is carried from step to step; a name of NULL ends the list. The first one is also the
     * output, and has one dimension. */
    tl_cell_state states[TL_MOST_STATES + 1];
    tl_cell_initial initial[TL_MOST_STATES]; /* of states[k]; zeros unless said: {[1] = {.value = 1}} */

    /* One step. x: [B,I], or what `input` made of it; state[k]: [B, shape], replaced by the next one.
     */
    void (*step)(const tl_cell_call *c, tl_var x, tl_var *state);

    /* Optional: called before the steps, to fill what is derived from the weights: a part of one, say.
     */
    void (*begin)(const tl_cell_call *c, void *weights);
    /* Optional: what does not depend on the recurrence, for all steps in one go. x: [T,B,I]; the
     * result's [T,B,..] reaches `step` one time slice at a time in place of x. Each time by itself:
     * where weights are untied (tl_untie) it is called step by step, with [1,B,I]. */
    tl_var (*input)(const tl_cell_call *c, tl_var x);
    /* Optional: all steps at once, for recurrences that are linear in the state. x: what `input` made,
     * in the direction of reading: turned round in time for the backward one; returns all outputs
     * [T,B,P] in that order; state[k] as in `step`. Used instead of `step` where nothing is to happen
     * between steps (lengths, resets, zoneout, recurrent dropout, handles) unless the configuration
     * says sequential. */
    tl_var (*scan)(const tl_cell_call *c, tl_var x, tl_var *state);
    /* Optional: the same step out of primitive ops, where `step` uses fused ones: for the
     * configuration's `composed`. */
    void (*composed)(const tl_cell_call *c, tl_var x, tl_var *state);

    size_t options_bytes; /* of the options, which are copied; 0: the type has none */
    /* Optional: which weights with a `feature` there are. config->input is the layer's I. options:
     * never NULL. */
    unsigned (*features)(const struct tl_rnn_config *config, const void *options);
    /* Optional: sizes of other letters. 0: unknown. */
    int64_t (*size)(const struct tl_rnn_config *config, const void *options, char letter);
    /* Optional: called when the weights have their first values, in the order of the list (NULL for
     * those that are not there). */
    void (*init)(const struct tl_rnn_config *config, const void *options, tl_param *const *weights);
    /* Optional: is the configuration one that this cell can have? A text if not, else NULL. */
    const char *(*refuse)(const struct tl_rnn_config *config, const void *options);
} tl_cell_type;

#endif
