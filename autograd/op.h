/* op.h - the contract of an op: what someone who writes one must know.
 *
 * An op is a struct of a few functions. It is written in one section of an op_*.c, in this order:
 * equation, shape rule, forward, derivative, samples; a user's own op is the same struct in the
 * user's own file, and is applied with tl_apply.
 *
 *   static tl_var tanh_partial(const tl_call *c, int k, tl_var g)
 *   {
 *       return tl_tanh_grad(c->tape, g, c->out);                      g (1 - y y)
 *   }
 *   const tl_op tl_op_tanh = {
 *       .name = "tanh", .equation = "y = tanh x", .kind = TL_ELEMENTWISE, .least = 1, .most = 1,
 *       .kernel = tl_kernel_tanh, .partial = tanh_partial, .samples = any_real};
 *
 * Derivatives are made of tape ops. Walked back for a first derivative they run off the record;
 * for a second one they are recorded, and differentiated in turn. So a derivative is written once.
 *
 * Rules get a tl_call. They never see a poisoned variable, operands are of this tape, and in
 * shape and forward all real operands have one dtype unless the op says `mixed`. */
#ifndef TL_OP_H
#define TL_OP_H

#include "tape.h"

typedef struct tl_op tl_op;

/* An op's constants: which axis, which factor. Copied when the op is applied. What the fields mean
 * is the op's affair and stands beside it. */
typedef struct tl_attr {
    int64_t i[TL_MAX_DIMS];
    double f[2];
    int32_t n;    /* how many of i are given */
    int32_t flag; /* a choice or a set of bits */
} tl_attr;

/* One application of an op. */
typedef struct tl_call {
    tl_tape *tape;
    const tl_op *op;
    int count;           /* operands */
    const tl_var *in;    /* operands as variables */
    const tl_array *x;   /* and as numbers */
    const tl_attr *attr; /* never NULL; zeros for an op without constants */
    tl_var out;          /* the result, in derivatives; TL_NONE before */
    tl_array y;          /* the result's numbers; shape sets dtype (preset: the first operand's) */
} tl_call;

typedef enum tl_op_kind {
    TL_ELEMENTWISE, /* y_i = f(a_i, b_i, ...), broadcast; `kernel` and `partial` say it all */
    TL_LINEAR,      /* linear in each operand that has a derivative; where that is one operand, forward
                       mode applies the op itself to the tangent */
    TL_GENERAL,     /* anything else with a derivative */
    TL_VIEW,        /* linear, and y are x[0]'s own numbers under another layout */
    TL_NOT_DIFFERENTIABLE,
    TL_COMPOSED /* a few lines of other ops, `compose`: their derivatives are its derivative, of any
                   order. It has no node of its own: what it records stands in a scope of its name */
} tl_op_kind;

/* Operands on which the checks try an op: reals uniform in [low, high], indices below `below`. */
typedef struct tl_sample {
    int count;
    struct {
        int ndim;
        int64_t shape[4];
        double low, high; /* for reals */
        int64_t below;    /* > 0: an index operand (i64); -1: a mask (u8, zeros and ones) */
    } x[5];
    tl_attr attr;
} tl_sample;

#define TL_NO_ATTR                                                                                     \
    {                                                                                                  \
        {0}, {0}, 0, 0                                                                                 \
    }
#define TL_SAMPLES_END                                                                                 \
    {                                                                                                  \
        0, {{0, {0}, 0, 0, 0}}, TL_NO_ATTR                                                             \
    }

struct tl_op {
    const char *name;     /* as in messages and files */
    const char *equation; /* "y = tanh x" */
    tl_op_kind kind;
    int least, most; /* operands, at least 1; most < 0: any number; elementwise ops: at most 4 */

    /* What the constants are called and where in tl_attr they stand, for tl_apply_named, dumps and
     * files: "dim=i0 stride=i1:2 axes=i* eps=f0 keepdim=flag reduction=flag:mean,sum,none"; see
     * named.h. */
    const char *attributes;

    bool mixed;     /* operands may differ in dtype, e.g. numbers and indices */
    bool dense;     /* operands that are not contiguous are copied first; at most 4 operands */
    bool captures;  /* y may depend on variables beside the operands, to which its vjp adds by itself */
    bool any_dtype; /* elementwise: operands have one dtype, whichever: `kernel` has four entries */
    bool mask_result; /* elementwise: y is a mask (u8), and no derivative passes */
    unsigned masks;   /* elementwise: bit k: operand k is a mask (u8), the others are reals */

    /* Sets *layout to y's shape (and c->y.dtype where it is not the first operand's), or calls
     * tl_call_fail and returns false. For a view: strides too, and c->y.data. NULL for elementwise
     * ops: their operands are broadcast. */
    bool (*shape)(tl_call *c, tl_layout *layout);

    /* c->y.data holds room for a contiguous y. May call tl_call_fail. NULL for views. */
    void (*forward)(tl_call *c);
    tl_kernel *const *kernel; /* for elementwise ops instead: [TL_F32], [TL_F64]; scalar: attr->f */

    /* Optional: y += op(x) instead of y = op(x). Backward then hands the result, not yet computed, to
     * the gradient it belongs to: a slice's gradient is added where it belongs, and the outer
     * products of many time steps become one matrix product. */
    void (*forward_add)(tl_call *c);

    /* Elementwise: g * dy/dx[k]. The same serves backward (g: gradient of y) and forward mode
     * (g: tangent of x[k]). TL_NONE: identically zero. Of the call, x and y are not given. */
    tl_var (*partial)(const tl_call *c, int k, tl_var g);

    /* The others: dx[k] = (dy/dx[k])' dy, for those k with tl_call_wants(c, k); dx[k] is TL_NONE on
     * entry, and may stay so for a derivative that is zero. */
    void (*vjp)(const tl_call *c, tl_var dy, tl_var *dx);

    /* Instead of vjp, a derivation by hand, on numbers: dx[k] += (dy/dx[k])' dy for those k whose
     * dx[k].data is not NULL. dy, dx[k], c->y and, for `dense` ops, c->x[k] are contiguous; dx[k] is
     * zero on entry. It gives a first derivative and no second: asking for one is an error. */
    void (*backward)(const tl_call *c, tl_array dy, const tl_array *dx);

    tl_var (*compose)(const tl_call *c); /* for TL_COMPOSED, instead of all the above */

    const tl_sample *samples; /* for the checks; TL_SAMPLES_END is the last */
};

/* Applies the op. `attr` may be NULL. Operands that are TL_NONE must stand at the end, and are
 * left away. */
TL_API tl_var tl_apply(tl_tape *t, const tl_op *op, int count, const tl_var *in, const tl_attr *attr);

/* "name: text (scope)" becomes the tape's message, unless there is one already. Returns false. */
TL_API bool tl_call_fail(const tl_call *c, tl_status status, const char *format, ...) TL_PRINTF(3, 4);

/* Is the derivative with respect to operand k asked for? */
TL_API bool tl_call_wants(const tl_call *c, int k);

/* Every built-in op, in the order of ops.def. */
TL_API int tl_op_count(void);
TL_API const tl_op *tl_op_at(int index);
TL_API const tl_op *tl_op_find(const char *name); /* NULL when there is none of that name */

#endif
