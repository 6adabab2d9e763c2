/* tape.h - the tape: what was computed, in the order in which it was computed.
 *
 *     tl_tape *t = tl_tape_new(NULL);
 *     tl_var x = tl_leaf(t, weights, gradient);        a leaf: derivatives are wanted
 *     tl_var y = tl_mean(t, tl_square(t, x));          each op returns with its value computed
 *     if (tl_backward(t, y) != TL_OK)                  gradient += dy/dweights
 *         fprintf(stderr, "%s\n", tl_tape_message(t)); the first error of all the above
 *     tl_tape_reset(t);                                forgets all variables, frees no memory
 *
 * Variables. A tl_var is a name for a value on a tape: small, copied freely, never freed. It is
 * good until the tape is reset; used after that, or on another tape, it is an error.
 *
 * Errors are sticky. An op that fails records nothing and returns a poisoned variable; ops that
 * get one do nothing and return one. The tape keeps the first message until it is reset, so one
 * check at the end of a computation suffices.
 *
 * Threads. A tape belongs to one thread at a time. Tapes in different threads never meet; they
 * may read the same tensors, but not accumulate into the same gradient tensor. */
#ifndef TL_TAPE_H
#define TL_TAPE_H

#include "../tensor/random.h"
#include "../tensor/tensor.h"

typedef struct tl_tape tl_tape;

typedef struct tl_var {
    const tl_tape *tape;
    uint32_t id;         /* recording order; private */
    uint32_t generation; /* which recording; private */
} tl_var;

/* "No variable": an optional operand that is not given. */
#define TL_NONE ((tl_var){NULL, 0, 0})

static inline bool tl_is_none(tl_var v)
{
    return v.tape == NULL;
}

typedef struct tl_tape_config {
    int threads;   /* that share large products; 0 and 1: only the caller's */
    size_t memory; /* limit in bytes on what the tape takes from the system; 0: none */
    uint64_t seed; /* of the tape's random numbers */
} tl_tape_config;

/* NULL config: one thread, no limit, seed 0. Returns NULL when there is no memory. */
TL_API tl_tape *tl_tape_new(const tl_tape_config *config);
TL_API void tl_tape_free(tl_tape *t); /* NULL is fine */

/* Forgets all variables and any error. Memory is kept, so that the next recording of the same
 * size asks the system for nothing. */
TL_API void tl_tape_reset(tl_tape *t);

/* The same, but the values of `count` variables survive as constants of the new recording and
 * their names are replaced: what truncated BPTT does with hidden states between two stretches. */
TL_API tl_status tl_tape_restart(tl_tape *t, int count, tl_var *keep);

/* ---- errors ----------------------------------------------------------------------------- */

TL_API tl_status tl_tape_status(const tl_tape *t);
/* "matmul: inner sizes differ: [16,128] x [64,512] (layer 0, step 3)"; "" without an error.
 * Valid until the tape is reset or freed. */
TL_API const char *tl_tape_message(const tl_tape *t);
/* Records an error of the caller's own (unless there is one already), scope appended. */
TL_API tl_status tl_tape_fail(tl_tape *t, tl_status status, const char *format, ...) TL_PRINTF(3, 4);
/* The variable that failing ops return. */
TL_API tl_var tl_poison(tl_tape *t);

/* Everything recorded until the matching end belongs to the scope: error messages, dumps and
 * profiles name it. `name` must outlive the recording; `index` < 0: none. Scopes nest. */
TL_API void tl_scope_begin(tl_tape *t, const char *name, int64_t index);
TL_API void tl_scope_end(tl_tape *t);

/* ---- values from outside ---------------------------------------------------------------- */

/* A value of which no derivative is wanted. Not copied: the tape keeps a reference to the tensor
 * until it is reset, and the numbers must not change before. */
TL_API tl_var tl_constant(tl_tape *t, tl_tensor *value);
/* The same from the caller's memory (row-major), which is copied. */
TL_API tl_var tl_constant_from(tl_tape *t, tl_dtype dtype, int ndim, const int64_t *shape,
                               const void *values);
TL_API tl_var tl_full(tl_tape *t, tl_dtype dtype, int ndim, const int64_t *shape, double value);

/* A value of which the derivative is wanted: backward adds it to `gradient` (contiguous, of the
 * value's shape and dtype). NULL: the tape makes room for it, see tl_gradient. Called again with
 * the same tensor it returns the same variable: a parameter is one leaf, whose uses in T time
 * steps add up in one gradient. The numbers must not change before the tape is reset (or restarted):
 * step the optimiser between recordings. (TL_ERR_CHANGED, see tl_tape_watch.) */
TL_API tl_var tl_leaf(tl_tape *t, tl_tensor *value, tl_tensor *gradient);
/* Always a new leaf: untied from other uses of the tensor, with a gradient of its own. */
TL_API tl_var tl_leaf_untied(tl_tape *t, tl_tensor *value);
/* One variable for all uses, as tl_leaf, but no derivative is wanted: a parameter that is not trained.
 */
TL_API tl_var tl_leaf_frozen(tl_tape *t, tl_tensor *value);

/* From now on, until the tape is reset, every tl_leaf of this tensor makes a leaf of its own, with a
 * gradient of its own (see tl_gradient; the tensor that was given for the gradient is left alone):
 * dL/dW use by use, and so time step by time step. Their sum is the gradient of the tied leaf. The
 * tensor must not be on the tape yet. */
TL_API tl_status tl_untie(tl_tape *t, const tl_tensor *value);
TL_API bool tl_is_untied(const tl_tape *t, const tl_tensor *value);
/* How many leaves that made; the first `most` of them into `uses`, in order of use. */
TL_API int64_t tl_untied_uses(tl_tape *t, const tl_tensor *value, int64_t most, tl_var *uses);

/* The same value, through which no derivative flows. Copies nothing. Used as one op's operand it stops
 * the derivative along that one edge. */
TL_API tl_var tl_detach(tl_tape *t, tl_var x);
/* The same after the fact: no derivative passes from v to its operand (0, 1, ...) any more. */
TL_API void tl_stop_edge(tl_tape *t, tl_var v, int operand);

/* Between begin and end ops compute but are not recorded: no derivative can be had through them.
 * Regions nest. Values of a region are freed at its end, but for `count` of them in `keep`,
 * which live until the region around it ends, or the tape is reset. */
TL_API void tl_no_record_begin(tl_tape *t);
TL_API void tl_no_record_end(tl_tape *t, int count, const tl_var *keep);

/* ---- derivatives ------------------------------------------------------------------------ */

/* Walks the tape backwards from `loss` (one element) and adds dloss/dleaf to the gradient of
 * every leaf it depends on. A stretch of tape can be walked once: a second time is
 * TL_ERR_CONSUMED, unless the first was tl_backward_retain. */
TL_API tl_status tl_backward(tl_tape *t, tl_var loss);
TL_API tl_status tl_backward_retain(tl_tape *t, tl_var loss);

/* grads[k] = derivative of the sum of output * output_grad with respect to inputs[k]: any
 * variables that depend on a leaf, or leaves; zeros where output does not depend on them. output_grad
 * may be TL_NONE where output has one element. No leaf's gradient tensor is touched. With
 * `create_graph` the computation is recorded, and can be differentiated again, as often as wished. */
TL_API tl_status tl_grad(tl_tape *t, tl_var output, tl_var output_grad, int count, const tl_var *inputs,
                         bool create_graph, tl_var *grads);

/* Forward mode: the derivative of `output` along a direction, sum over k of doutput/dinputs[k] times
 * tangents[k] (each of its input's shape). Recorded, and so differentiable again. A variable that is
 * both an input and depends on another one is held to its own tangent. */
TL_API tl_var tl_jvp(tl_tape *t, tl_var output, int count, const tl_var *inputs,
                     const tl_var *tangents);

/* Asks tl_backward to keep the gradient of a variable that is not a leaf. */
TL_API void tl_keep_gradient(tl_tape *t, tl_var v);
/* What tl_backward left for a leaf (added up over several calls), or for a variable of
 * tl_keep_gradient; TL_NONE if nothing. Good until the next tl_backward or reset. */
TL_API tl_var tl_gradient(tl_tape *t, tl_var v);

/* Called on the way back when the gradient of v is complete, before it is passed on or added to a
 * leaf's gradient tensor. Returns the gradient to go on with: the one it got, another of the same shape
 * and dtype, or TL_NONE for the one it got. `gradient` does not outlive the call: see tl_value_copy.
 * The hook may apply ops, but not walk the tape. */
typedef tl_var tl_hook(tl_tape *t, tl_var v, tl_var gradient, void *context);
/* Until the tape is reset. Several hooks of a variable are called in the order in which they came. */
TL_API void tl_hook_gradient(tl_tape *t, tl_var v, tl_hook *hook, void *context);

/* ---- looking for mistakes ---------------------------------------------------------------- */

/* Switches that stay until they are switched again, resets included. */

/* Stop at the first NaN or infinity: TL_ERR_NOT_FINITE names the op, its scope and the element, on the
 * way forward ("exp: element [1,2] of its result is inf"), among the values put onto the tape, and on
 * the way back ("sqrt: element [0] of its derivative for operand 0 is inf"). Costs a look at every
 * number. */
TL_API void tl_tape_trap(tl_tape *t, bool on);

/* A walk whose derivatives need numbers that were changed after they were recorded ends in
 * TL_ERR_CHANGED, with the op that needs them and its scope. Always noticed: changes by functions of
 * the library and those announced by tl_tensor_touch. With the switch on before the recording, all
 * others too: the tape hashes (XXH3) what it holds when it is recorded, and again before the walk. */
TL_API void tl_tape_watch(tl_tape *t, bool on);

/* Counts, times and weighs every op from now on; off forgets it all. */
TL_API void tl_tape_profile(tl_tape *t, bool on);

typedef struct tl_profile_line {
    const char *op;
    uint64_t calls; /* recorded or computed, derivatives not counted */
    double forward,
        backward;   /* seconds: in its forward; in its derivative, sums of gradients included */
    uint64_t bytes; /* of its results; views have none */
} tl_profile_line;

/* The first `most` lines, those that took longest first. Returns how many there are in all. */
TL_API int tl_profile_lines(tl_tape *t, int most, tl_profile_line *lines);
/* As a table with percentages. TL_ERR_IO when the stream does not take it. */
TL_API tl_status tl_profile_print(tl_tape *t, FILE *stream);

/* ---- reading ---------------------------------------------------------------------------- */

/* Value, shape and dtype; good until the tape is reset. data is NULL for a poisoned variable. */
TL_API tl_array tl_value(tl_tape *t, tl_var v);
/* The value as a tensor that outlives the tape; NULL with the reason in the tape's message. */
TL_API tl_tensor *tl_value_copy(tl_tape *t, tl_var v);
/* The value of a variable of one element; NaN (and an error on the tape) for others. */
TL_API double tl_item(tl_tape *t, tl_var v);
TL_API bool tl_needs_gradient(tl_tape *t, tl_var v);

/* Bytes for the caller's own use (64-byte aligned, not cleared) that live until the tape is reset, and
 * cost no system call once the tape has grown. NULL with the error recorded. */
TL_API void *tl_scratch(tl_tape *t, size_t bytes);

typedef struct tl_tape_usage {
    uint32_t variables; /* recorded since the last reset */
    size_t live,
        peak;    /* bytes in use (numbers and nodes), and their largest sum since the tape was made */
    size_t held; /* bytes obtained from the system */
    size_t system_calls; /* how often the system was asked for memory */
} tl_tape_usage;

TL_API tl_tape_usage tl_tape_measure(const tl_tape *t);
TL_API tl_random *tl_tape_random(tl_tape *t);
/* The matrix kernels chosen for this processor: "AVX-512, BLIS skx". Lives as long as the tape. */
TL_API const char *tl_tape_kernels(const tl_tape *t);

#endif
