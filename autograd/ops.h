/* ops.h - the ops, as users call them.
 *
 * Every function returns a variable of the tape; when something does not fit, a poisoned one, and
 * the tape holds the message (see tape.h). Values are computed at once. Reals are f32 or f64, and
 * are not mixed. Elementwise ops broadcast as NumPy does. Letters: T time, B batch, I input,
 * H hidden, C classes. */
#ifndef TL_OPS_H
#define TL_OPS_H

#include "op.h"

/* The ops as structs, for those who enumerate or apply them by themselves: tl_op_add, tl_op_mul ... */
#define TL_OP(name) extern TL_API const tl_op tl_op_##name;
#include "ops.def"
#undef TL_OP

/* ---- functions of one number ------------------------------------------------------------ */

TL_API tl_var tl_neg(tl_tape *t, tl_var x);        /* -x; dy/dx = -1 */
TL_API tl_var tl_abs(tl_tape *t, tl_var x);        /* |x|; dy/dx = sign x, 0 at 0 */
TL_API tl_var tl_sign(tl_tape *t, tl_var x);       /* sign x; 0 at 0, NaN for NaN; dy/dx = 0 */
TL_API tl_var tl_reciprocal(tl_tape *t, tl_var x); /* 1 / x; dy/dx = -y y */
TL_API tl_var tl_square(tl_tape *t, tl_var x);     /* x x; dy/dx = 2 x */
TL_API tl_var tl_sqrt(tl_tape *t, tl_var x);       /* sqrt x; dy/dx = 1 / (2 y) */
TL_API tl_var tl_rsqrt(tl_tape *t, tl_var x);      /* 1 / sqrt x; dy/dx = -y^3 / 2 */
TL_API tl_var tl_exp(tl_tape *t, tl_var x);        /* exp x; dy/dx = y */
TL_API tl_var tl_expm1(tl_tape *t, tl_var x);      /* exp x - 1; dy/dx = y + 1 */
TL_API tl_var tl_log(tl_tape *t, tl_var x);        /* log x; dy/dx = 1 / x */
TL_API tl_var tl_log1p(tl_tape *t, tl_var x);      /* log(1 + x); dy/dx = 1 / (1 + x) */
TL_API tl_var tl_log2(tl_tape *t, tl_var x);       /* log x / log 2; dy/dx = 1 / (x log 2) */
TL_API tl_var tl_sin(tl_tape *t, tl_var x);        /* sin x; dy/dx = cos x */
TL_API tl_var tl_cos(tl_tape *t, tl_var x);        /* cos x; dy/dx = -sin x */
TL_API tl_var tl_tan(tl_tape *t, tl_var x);        /* tan x; dy/dx = 1 + y y */
TL_API tl_var tl_atan(tl_tape *t, tl_var x);       /* atan x; dy/dx = 1 / (1 + x x) */
TL_API tl_var tl_sinh(tl_tape *t, tl_var x);       /* sinh x; dy/dx = cosh x */
TL_API tl_var tl_cosh(tl_tape *t, tl_var x);       /* cosh x; dy/dx = sinh x */
TL_API tl_var tl_erf(tl_tape *t, tl_var x);   /* 2/sqrt(pi) times the integral of exp(-s s) from 0 to x;
                                                 dy/dx = 2/sqrt(pi) exp(-x x) */
TL_API tl_var tl_floor(tl_tape *t, tl_var x); /* floor x; dy/dx = 0 */
TL_API tl_var tl_ceil(tl_tape *t, tl_var x);  /* ceil x; dy/dx = 0 */
TL_API tl_var tl_round(tl_tape *t, tl_var x); /* round x, halves to even; dy/dx = 0 */
TL_API tl_var tl_affine(tl_tape *t, tl_var x, double scale, double shift); /* scale x + shift */
TL_API tl_var tl_pow_scalar(tl_tape *t, tl_var x, double p); /* x^p; dy/dx = p x^(p-1), 0 for p = 0 */

/* ---- activations ------------------------------------------------------------------------ */

TL_API tl_var tl_sigmoid(tl_tape *t, tl_var x);    /* 1 / (1 + exp(-x)); dy/dx = y (1 - y) */
TL_API tl_var tl_tanh(tl_tape *t, tl_var x);       /* tanh x; dy/dx = 1 - y y */
TL_API tl_var tl_relu(tl_tape *t, tl_var x);       /* max(x, 0); dy/dx = [x > 0] */
TL_API tl_var tl_step(tl_tape *t, tl_var x);       /* [x > 0]; dy/dx = 0 */
TL_API tl_var tl_softplus(tl_tape *t, tl_var x);   /* log(1 + exp x); dy/dx = sigmoid x */
TL_API tl_var tl_logsigmoid(tl_tape *t, tl_var x); /* log sigmoid x; dy/dx = sigmoid(-x) */
TL_API tl_var tl_silu(tl_tape *t, tl_var x);       /* x sigmoid x */
TL_API tl_var tl_mish(tl_tape *t, tl_var x);       /* x tanh(softplus x) */
TL_API tl_var tl_gelu(tl_tape *t, tl_var x);       /* x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2 */
/* x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, an approximation of gelu */
TL_API tl_var tl_gelu_tanh(tl_tape *t, tl_var x);
TL_API tl_var tl_softsign(tl_tape *t, tl_var x); /* x / (1 + |x|); dy/dx = 1 / (1 + |x|)^2 */
/* x where x > 0, else slope x, or alpha (exp x - 1); at 0 the derivative is that of the second. */
TL_API tl_var tl_leaky_relu(tl_tape *t, tl_var x, double slope);
TL_API tl_var tl_elu(tl_tape *t, tl_var x, double alpha);
/* scale elu(x, alpha), alpha 1.6733 and scale 1.0507. Klambauer et al., NeurIPS 2017 */
TL_API tl_var tl_selu(tl_tape *t, tl_var x);
/* min(max(x, low), high), derivative 1 at the bounds; and whether low <= x <= high, as 1 or 0. */
TL_API tl_var tl_clamp(tl_tape *t, tl_var x, double low, double high);
TL_API tl_var tl_between(tl_tape *t, tl_var x, double low, double high);
/* The same as clamp, but with derivative 0 at the bounds, as PyTorch has it; there they are -1 and 1
 * unless given. */
TL_API tl_var tl_hardtanh(tl_tape *t, tl_var x, double low, double high);
TL_API tl_var tl_hardsigmoid(tl_tape *t, tl_var x); /* min(max((x + 3) / 6, 0), 1); 0 at the bounds */

/* Companions of derivatives, in terms of the result y where that is cheaper. */
TL_API tl_var tl_relu_grad(tl_tape *t, tl_var g, tl_var x);    /* g where x > 0, else 0 */
TL_API tl_var tl_tanh_grad(tl_tape *t, tl_var g, tl_var y);    /* g (1 - y y) */
TL_API tl_var tl_sigmoid_grad(tl_tape *t, tl_var g, tl_var y); /* g y (1 - y) */

/* ---- arithmetic ------------------------------------------------------------------------- */

TL_API tl_var tl_add(tl_tape *t, tl_var a, tl_var b);
TL_API tl_var tl_sub(tl_tape *t, tl_var a, tl_var b);
TL_API tl_var tl_mul(tl_tape *t, tl_var a, tl_var b);
TL_API tl_var tl_div(tl_tape *t, tl_var a, tl_var b); /* division by zero as in IEEE 754 */
/* The larger, the smaller: NaN if one is; at a tie each gets half of the gradient. */
TL_API tl_var tl_maximum(tl_tape *t, tl_var a, tl_var b);
TL_API tl_var tl_minimum(tl_tape *t, tl_var a, tl_var b);
/* The angle of the point (b, a), in (-pi, pi]; its derivatives at the origin are 0. */
TL_API tl_var tl_atan2(tl_tape *t, tl_var a, tl_var b);
TL_API tl_var tl_hypot(tl_tape *t, tl_var a, tl_var b);          /* sqrt(a a + b b) without overflow */
TL_API tl_var tl_lerp(tl_tape *t, tl_var a, tl_var b, tl_var w); /* a + w (b - a) */
TL_API tl_var tl_addcmul(tl_tape *t, tl_var a, tl_var b, tl_var c, double value); /* a + value b c */
/* a^b, as C's pow: 0^0 = 1, NaN for negative a and b not whole. dy/da = b a^(b-1), 0 where b = 0;
 * dy/db = y log a, 0 where a = 0 <= b, NaN for negative a. */
TL_API tl_var tl_pow(tl_tape *t, tl_var a, tl_var b);

/* With a number as the other operand, in x's dtype. x: real. */
TL_API tl_var tl_add_scalar(tl_tape *t, tl_var x, double value);     /* x + value */
TL_API tl_var tl_sub_scalar(tl_tape *t, tl_var x, double value);     /* x - value */
TL_API tl_var tl_rsub_scalar(tl_tape *t, tl_var x, double value);    /* value - x */
TL_API tl_var tl_mul_scalar(tl_tape *t, tl_var x, double value);     /* value x */
TL_API tl_var tl_div_scalar(tl_tape *t, tl_var x, double value);     /* x / value */
TL_API tl_var tl_maximum_scalar(tl_tape *t, tl_var x, double value); /* half of the gradient at a tie */
TL_API tl_var tl_minimum_scalar(tl_tape *t, tl_var x, double value);

/* ---- comparisons and masks --------------------------------------------------------------- */

/* Operands of one dtype, whichever; the result is a mask: u8, 1 where it is so, else 0. No derivative
 * passes. NaN equals nothing, itself neither. */
TL_API tl_var tl_eq(tl_tape *t, tl_var a, tl_var b); /* a = b */
TL_API tl_var tl_ne(tl_tape *t, tl_var a, tl_var b); /* a != b */
TL_API tl_var tl_lt(tl_tape *t, tl_var a, tl_var b); /* a < b */
TL_API tl_var tl_le(tl_tape *t, tl_var a, tl_var b); /* a <= b */
TL_API tl_var tl_gt(tl_tape *t, tl_var a, tl_var b); /* a > b */
TL_API tl_var tl_ge(tl_tape *t, tl_var a, tl_var b); /* a >= b */
/* With a number. Beside integers it must be one of their kind: TL_ERR_ARGUMENT else. */
TL_API tl_var tl_eq_scalar(tl_tape *t, tl_var x, double value); /* x = value, and so on */
TL_API tl_var tl_ne_scalar(tl_tape *t, tl_var x, double value);
TL_API tl_var tl_lt_scalar(tl_tape *t, tl_var x, double value);
TL_API tl_var tl_le_scalar(tl_tape *t, tl_var x, double value);
TL_API tl_var tl_gt_scalar(tl_tape *t, tl_var x, double value);
TL_API tl_var tl_ge_scalar(tl_tape *t, tl_var x, double value);
/* The same for truth values: what is not 0 is true, NaN too. */
TL_API tl_var tl_logical_and(tl_tape *t, tl_var a, tl_var b);
TL_API tl_var tl_logical_or(tl_tape *t, tl_var a, tl_var b);
TL_API tl_var tl_logical_xor(tl_tape *t, tl_var a, tl_var b);
TL_API tl_var tl_logical_not(tl_tape *t, tl_var x);
TL_API tl_var tl_isnan(tl_tape *t, tl_var x);    /* never so for integers */
TL_API tl_var tl_isfinite(tl_tape *t, tl_var x); /* neither infinite nor NaN */

/* mask: u8, true where not 0; the others are of one dtype, whichever. The gradient goes where the value
 * came from; the branch not chosen gets 0, even of an infinite or NaN gradient. */
TL_API tl_var tl_where(tl_tape *t, tl_var mask, tl_var a, tl_var b); /* mask ? a : b */
/* mask ? value : x. To integers the value is converted as tl_tensor_copy does. */
TL_API tl_var tl_masked_fill(tl_tape *t, tl_var x, tl_var mask, double value);

/* x in another dtype, converted as tl_tensor_copy does; x itself if it has that dtype. Between reals
 * the derivative is cast back; what is cast to or from integers depends on no leaf. */
TL_API tl_var tl_cast(tl_tape *t, tl_var x, tl_dtype dtype);

/* ---- shape: views, unless it says copy -------------------------------------------------- */

/* x itself if its numbers lie row-major without gaps; otherwise a copy that does. */
TL_API tl_var tl_contiguous(tl_tape *t, tl_var x);
/* One size may be -1: it is worked out. A copy where x's strides do not allow a view. */
TL_API tl_var tl_reshape(tl_tape *t, tl_var x, int ndim, const int64_t *shape);
TL_API tl_var tl_permute(tl_tape *t, tl_var x, int ndim, const int *order);
TL_API tl_var tl_transpose(tl_tape *t, tl_var x, int dim0, int dim1);
/* Dimension `from` becomes dimension `to`; the others stay in order. */
TL_API tl_var tl_movedim(tl_tape *t, tl_var x, int from, int to);
TL_API tl_var tl_expand(tl_tape *t, tl_var x, int ndim,
                        const int64_t *shape); /* NumPy's broadcast_to */
/* Elements start, start+step, ... below stop; negative dim, start and stop count from the end;
 * start and stop are clipped to the size as in Python. step >= 1. */
TL_API tl_var tl_slice(tl_tape *t, tl_var x, int dim, int64_t start, int64_t stop, int64_t step);
/* The adjoint of slice: y is zero and of that size along dim, but for the slice, which is x. A copy. */
TL_API tl_var tl_unslice(tl_tape *t, tl_var x, int dim, int64_t start, int64_t step, int64_t size);
TL_API tl_var tl_select(tl_tape *t, tl_var x, int dim,
                        int64_t index); /* x[index] along dim, which goes */
TL_API tl_var tl_concat(tl_tape *t, int count, const tl_var *x,
                        int dim);                                        /* along a dimension; a copy */
TL_API tl_var tl_stack(tl_tape *t, int count, const tl_var *x, int dim); /* along a new one; a copy */
/* `pieces` equal parts along dim, into out[0..pieces-1]. */
TL_API void tl_chunk(tl_tape *t, tl_var x, int pieces, int dim, tl_var *out);
/* Parts of these sizes, which must add up to dim's, into out[0..count-1]. */
TL_API void tl_split(tl_tape *t, tl_var x, int count, const int64_t *sizes, int dim, tl_var *out);
/* Dimensions start_dim..end_dim as one; a copy where x's strides do not allow a view. A scalar: [1]. */
TL_API tl_var tl_flatten(tl_tape *t, tl_var x, int start_dim, int end_dim);
TL_API tl_var tl_squeeze(tl_tape *t, tl_var x, int dim);   /* without dim, if its size is 1; else x */
TL_API tl_var tl_unsqueeze(tl_tape *t, tl_var x, int dim); /* with a new dim of size 1 */
/* The other way round along `count` dimensions (0: none). A copy: strides are never negative. */
TL_API tl_var tl_flip(tl_tape *t, tl_var x, int count, const int *dims);
/* Shifted along dim, towards its end for shift > 0; what leaves at one end comes in at the other. A
 * copy, unless nothing moves. */
TL_API tl_var tl_roll(tl_tape *t, tl_var x, int64_t shift, int dim);
/* As torch.Tensor.repeat: x `repeats[k]` times along dimension k; more numbers than dimensions: new
 * ones in front. A copy, unless all are 1. */
TL_API tl_var tl_repeat(tl_tape *t, tl_var x, int count, const int64_t *repeats);

/* Windows that slide along dim, as torch.Tensor.unfold has it, with dilation: y[..p..,k] =
 * x[..p step + k dilation..], the window in a new last dimension. Size, step, dilation >= 1; at least
 * one window must fit. */
TL_API tl_var tl_unfold(tl_tape *t, tl_var x, int dim, int64_t size, int64_t step, int64_t dilation);
/* The adjoint of unfold: windows, in x's last dimension, are added back into a dimension dim of size
 * `length`, which must have just as many windows. A copy. */
TL_API tl_var tl_fold(tl_tape *t, tl_var x, int dim, int64_t length, int64_t step, int64_t dilation);
/* As torch.nn.functional.pad, mode constant: pads holds how many elements of `value` to put before and
 * after the last dimension, then the one before it, and so on; `count` numbers, at most 8, none of them
 * negative. Any dtype. A copy. */
TL_API tl_var tl_pad(tl_tape *t, tl_var x, int count, const int64_t *pads, double value);

/* ---- reductions ------------------------------------------------------------------------- */

/* Over `count` axes; count 0: over all of them, to a scalar. keepdim leaves sizes of 1. */
TL_API tl_var tl_sum_axes(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim);
TL_API tl_var tl_mean_axes(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim);
TL_API tl_var tl_sum(tl_tape *t, tl_var x);  /* over all */
TL_API tl_var tl_mean(tl_tape *t, tl_var x); /* over all; NaN for no elements */
/* Sums x to a shape that can be broadcast to x's: the adjoint of broadcasting. */
TL_API tl_var tl_sum_to(tl_tape *t, tl_var x, int ndim, const int64_t *shape);
/* The largest, the smallest: NaN if one is; ties share the gradient evenly (PyTorch's amax). There must
 * be elements to choose from. */
TL_API tl_var tl_max_axes(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim);
TL_API tl_var tl_min_axes(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim);
TL_API tl_var tl_max(tl_tape *t, tl_var x); /* over all */
TL_API tl_var tl_min(tl_tape *t, tl_var x);
/* The product, 1 of no numbers; its derivatives do not divide, and are right at zeros. */
TL_API tl_var tl_prod_axes(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim);
TL_API tl_var tl_prod(tl_tape *t, tl_var x); /* over all */
/* log sum exp x without overflow; -inf of no numbers. Where all x are -inf, y is, and its gradient 0.
 */
TL_API tl_var tl_logsumexp(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim);
/* (sum |x|^p)^(1/p) for any p, without overflow; inf: the largest |x|, -inf: the smallest, 0: how many
 * are not 0. The gradient is 0 where the norm is 0, and at ties of p = +-inf shared (PyTorch's
 * torch.linalg.vector_norm). */
TL_API tl_var tl_norm(tl_tape *t, tl_var x, double p, int count, const int *axes, bool keepdim);
/* sum (x - mean x)^2 / max(0, n - correction), and its square root. PyTorch's correction is 1. The
 * gradient of std is 0 where std is 0. */
TL_API tl_var tl_var_axes(tl_tape *t, tl_var x, double correction, int count, const int *axes,
                          bool keepdim);
TL_API tl_var tl_std_axes(tl_tape *t, tl_var x, double correction, int count, const int *axes,
                          bool keepdim);
/* Is any x, are all x other than 0? x: of any dtype; y: a mask (u8). NaN is not 0. */
TL_API tl_var tl_any(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim);
TL_API tl_var tl_all(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim);
/* Where along dim it is, i64: at ties the first; NaN counts as the largest, and as the smallest. No
 * derivative. */
TL_API tl_var tl_argmax(tl_tape *t, tl_var x, int dim, bool keepdim);
TL_API tl_var tl_argmin(tl_tape *t, tl_var x, int dim, bool keepdim);

/* Running sums along dim: of x up to there, or (reverse) from there on. */
TL_API tl_var tl_cumsum(tl_tape *t, tl_var x, int dim, bool reverse);
/* Running products along dim; derivatives are right at zeros. */
TL_API tl_var tl_cumprod(tl_tape *t, tl_var x, int dim);
/* h_t = a_t h_(t-1) + b_t, elementwise, along the first dimension: minGRU, SRU, QRNN and their kin in
 * one op. a, b: [T,..], h0: [..] or TL_NONE for zero; y: all h, [T,..]. reverse: from the last step to
 * the first. block 0: one step after the other, columns shared over the tape's threads; else the
 * sequence is cut into blocks of so many steps, which are shared too, for a second pass over a and b
 * (worth it with few columns and many threads; some hundreds of steps are a good block). The two differ
 * in rounding; each has the same bits with any number of threads. Martin and Cundy, ICLR 2018;
 * Blelloch, 1990. */
TL_API tl_var tl_linear_recurrence(tl_tape *t, tl_var a, tl_var b, tl_var h0, bool reverse,
                                   int64_t block);

/* The indices (i64) that put x in order along dim; equal ones stay in order, NaN counts as the largest.
 * No derivative. */
TL_API tl_var tl_argsort(tl_tape *t, tl_var x, int dim, bool descending);
/* x in that order; the derivative goes to where each value came from. */
TL_API tl_var tl_sort(tl_tape *t, tl_var x, int dim, bool descending);
/* The first k of that order, descending for the largest, ascending for the smallest; and where they are
 * (i64), unless `index` is NULL. All is sorted for it. */
TL_API tl_var tl_topk(tl_tape *t, tl_var x, int64_t k, int dim, bool largest, tl_var *index);

/* ---- running sums and recurrences -------------------------------------------------------- */

/* ---- order ------------------------------------------------------------------------------- */

/* ---- matrix products -------------------------------------------------------------------- */

/* [..,M,K] x [..,K,N]: [..,M,N]; leading dimensions are broadcast. As torch.matmul also with vectors:
 * [..,M,K] x [K]: [..,M]; [K] x [..,K,N]: [..,N]; [K] x [K]: []. */
TL_API tl_var tl_matmul(tl_tape *t, tl_var a, tl_var b);
/* x: [..,I], w: [O,I] as PyTorch stores it, b: [O], or [..,O] to be added row by row, or TL_NONE;
 * y = x W' + b: [..,O]. On a tape the weight is laid out for the processor once, however many steps
 * use it. */
TL_API tl_var tl_linear_op(tl_tape *t, tl_var x, tl_var w, tl_var b);
/* x: [..,O], w: [O,I]; y = x W: [..,I]. */
TL_API tl_var tl_linear_transposed(tl_tape *t, tl_var x, tl_var w);
/* a: [..,M], b: [..,N] of the same leading sizes; y = sum over them of the outer products: [M,N]. */
TL_API tl_var tl_sum_outer(tl_tape *t, tl_var a, tl_var b);
TL_API tl_var tl_outer(tl_tape *t, tl_var a, tl_var b); /* two vectors: a b', [M,N] */
TL_API tl_var tl_dot(tl_tape *t, tl_var a, tl_var b);   /* two vectors of one size: a' b, [] */
/* As torch.nn.functional.bilinear. x1: [..,I], x2: [..,J], w: [O,I,J], b: [O] or TL_NONE;
 * y[..,o] = x1' w[o] x2 + b[o]: [..,O]. */
TL_API tl_var tl_bilinear(tl_tape *t, tl_var x1, tl_var x2, tl_var w, tl_var b);
/* beta c + alpha a b; a: [M,K], b: [K,N], c is broadcast to [M,N]. With beta 0, c is not looked at. */
TL_API tl_var tl_addmm(tl_tape *t, tl_var c, tl_var a, tl_var b, double beta, double alpha);

/* The triangle below (above) a diagonal, this included: zeros where column - row > diagonal
 * (< diagonal). Of the last two dimensions; any dtype; copies. */
TL_API tl_var tl_tril(tl_tape *t, tl_var x, int64_t diagonal);
TL_API tl_var tl_triu(tl_tape *t, tl_var x, int64_t diagonal);
/* As torch.diagonal: y[..,i] = x[..i..i + offset..] (i - offset, i for offset < 0), rows in dim1,
 * columns in dim2. Size 0 where x has no such diagonal. A view. */
TL_API tl_var tl_diagonal(tl_tape *t, tl_var x, int64_t offset, int dim1, int dim2);
/* Its adjoint: y has `rows` in its dimension dim1 and `cols` in dim2, and is zero but for that
 * diagonal, which is x's last dimension. A copy. */
TL_API tl_var tl_undiagonal(tl_tape *t, tl_var x, int64_t offset, int dim1, int dim2, int64_t rows,
                            int64_t cols);

/* ---- indexing --------------------------------------------------------------------------- */

/* table: [N,E], index: i64 of any shape, 0 <= index < N; y: [index.shape, E]. */
TL_API tl_var tl_embedding_op(tl_tape *t, tl_var table, tl_var index);
/* Its adjoint. x: [index.shape, E]; y: [rows,E], y[index[i]] += x[i]. */
TL_API tl_var tl_scatter_rows(tl_tape *t, tl_var x, tl_var index, int64_t rows);

/* As torch.gather: y[i,j,k] = x[index[i,j,k],j,k] for dim 0, and so on. index: i64 of x's ndim, beside
 * dim no larger than x; y has its shape. x of any dtype. */
TL_API tl_var tl_gather(tl_tape *t, tl_var x, int dim, tl_var index);
/* Its adjoint, as torch.Tensor.scatter_add: y = x, then y[index[i,j,k],j,k] += src[i,j,k] for dim 0,
 * and so on. src has the index's shape. */
TL_API tl_var tl_scatter_add(tl_tape *t, tl_var x, int dim, tl_var index, tl_var src);
/* As torch.index_select: x[index[n]] along dim, for all n of a list of indices (or one). */
TL_API tl_var tl_index_select(tl_tape *t, tl_var x, int dim, tl_var index);
/* index: i64 of any shape, 0 <= index < classes; y: i64 [index.shape, classes], 1 at the index, else 0.
 */
TL_API tl_var tl_one_hot(tl_tape *t, tl_var index, int64_t classes);

/* ---- layers without parameters of their own ---------------------------------------------- */

TL_API tl_var tl_softmax(tl_tape *t, tl_var x);     /* along the last dimension */
TL_API tl_var tl_log_softmax(tl_tape *t, tl_var x); /* along the last dimension */
TL_API tl_var tl_softmax_dim(tl_tape *t, tl_var x, int dim);
TL_API tl_var tl_log_softmax_dim(tl_tape *t, tl_var x, int dim);
/* Elements are zero with probability p, the others are x / (1 - p). Which ones is drawn from
 * tl_tape_random, and is the same in every derivative. p = 0: x itself. Nothing asks whether it is
 * training time: do not call it at other times. Srivastava et al., JMLR 2014. */
TL_API tl_var tl_dropout(tl_tape *t, tl_var x, double p);
/* (x - mean) / sqrt(variance + eps) weight + bias, mean and biased variance over the last `dims`
 * dimensions, of which weight and bias have the sizes. Both may be TL_NONE; a bias wants a weight.
 * Ba, Kiros and Hinton, "Layer normalization", 2016. */
TL_API tl_var tl_layer_norm(tl_tape *t, tl_var x, int dims, tl_var weight, tl_var bias, double eps);
/* x / sqrt(mean of x^2 + eps) weight, over the last `dims` dimensions; weight may be TL_NONE.
 * Zhang and Sennrich, "Root mean square layer normalization", NeurIPS 2019. */
TL_API tl_var tl_rms_norm(tl_tape *t, tl_var x, int dims, tl_var weight, double eps);
/* x: [N,C,..]. (x - mean) / sqrt(variance + eps) weight + bias, each [C]. mean and variance TL_NONE:
 * those of the batch (the variance biased), and derivatives pass through them. weight and bias may be
 * TL_NONE; a bias wants a weight. Ioffe and Szegedy, "Batch normalization", ICML 2015. */
TL_API tl_var tl_batch_norm(tl_tape *t, tl_var x, tl_var weight, tl_var bias, tl_var mean,
                            tl_var variance, double eps);

/* q: [..,L,E], k: [..,S,E], v: [..,S,V], leading sizes broadcast; y = softmax(scale q k') v: [..,L,V].
 * mask: u8 that can be broadcast to [..,L,S], 1 where a key takes part, or TL_NONE; causal, which wants
 * no mask: key s takes part where s <= l. Where none does, y = 0. scale 0: 1 / sqrt E. Vaswani et al.,
 * "Attention is all you need", NeurIPS 2017. */
TL_API tl_var tl_scaled_dot_product_attention(tl_tape *t, tl_var q, tl_var k, tl_var v, tl_var mask,
                                              bool causal, double scale);
/* a . b / (max(|a|, eps) max(|b|, eps)) along a dimension of the shape they are broadcast to. */
TL_API tl_var tl_cosine_similarity(tl_tape *t, tl_var a, tl_var b, int dim, double eps);

/* ---- convolution and pooling ------------------------------------------------------------- */

/* x: [N,C,L], weight: [O,C/groups,K], bias: [O] or TL_NONE; y: [N,O,P],
 * P = (L + 2 padding - dilation (K - 1) - 1) / stride + 1. Zeros stand around x. As in PyTorch the
 * kernel is not turned round: strictly, it is a correlation. */
TL_API tl_var tl_conv1d(tl_tape *t, tl_var x, tl_var weight, tl_var bias, int64_t stride,
                        int64_t padding, int64_t dilation, int64_t groups);
/* The same over the last two of [N,C,H,W], with a weight of [O,C/groups,K,K']. */
TL_API tl_var tl_conv2d(tl_tape *t, tl_var x, tl_var weight, tl_var bias, const int64_t stride[2],
                        const int64_t padding[2], const int64_t dilation[2], int64_t groups);
/* The largest of each window along the last dimension (the last two), -inf around x; at ties the first
 * has the gradient. NaN if one is. The padding is at most half the kernel. */
TL_API tl_var tl_max_pool1d(tl_tape *t, tl_var x, int64_t kernel, int64_t stride, int64_t padding);
TL_API tl_var tl_max_pool2d(tl_tape *t, tl_var x, const int64_t kernel[2], const int64_t stride[2],
                            const int64_t padding[2]);
/* The mean of each window, zeros around x, which count (PyTorch's count_include_pad). */
TL_API tl_var tl_avg_pool1d(tl_tape *t, tl_var x, int64_t kernel, int64_t stride, int64_t padding);
TL_API tl_var tl_avg_pool2d(tl_tape *t, tl_var x, const int64_t kernel[2], const int64_t stride[2],
                            const int64_t padding[2]);

/* ---- recurrent cells, fused ------------------------------------------------------------- */

/* gates: [B,4H] pre-activations i, f, g, o; c: [B,H]. c' = sigmoid(f) c + sigmoid(i) tanh(g),
 * h' = sigmoid(o) tanh c'; both [B,H]. The same as written out in primitives, in a fraction of the
 * memory. */
TL_API void tl_lstm_gates(tl_tape *t, tl_var gates, tl_var c, tl_var *h_next, tl_var *c_next);
/* from_x, from_h: [B,3H] pre-activations r, z, n from x and from h; h: [B,H]. r, z = sigmoid(x + h), n
 * = tanh(x_n + r h_n); h' = (1-z) n + z h. The same, in a fraction of the memory. */
TL_API tl_var tl_gru_gates(tl_tape *t, tl_var from_x, tl_var from_h, tl_var h);

/* ---- losses ----------------------------------------------------------------------------- */

typedef enum tl_reduction {
    TL_REDUCE_MEAN,
    TL_REDUCE_SUM,
    TL_REDUCE_NONE,
    TL_REDUCE_BATCHMEAN /* sum / first size; kl_div only */
} tl_reduction;

/* logits: [..,C], target: i64 [..] in 0..C-1. -log softmax(logits)[target] in nats: the mean over
 * all rows, their sum, or each. */
TL_API tl_var tl_cross_entropy(tl_tape *t, tl_var logits, tl_var target, tl_reduction reduction);
/* -weight[k] log_p[k] for log-probabilities [..,C] and targets k: i64 [..] in 0..C-1; rows whose target
 * is ignore_index (PyTorch's default is -100) give 0. weight: [C] or TL_NONE. The mean is divided by
 * the sum of the weights of the rows that count: NaN where none does. */
TL_API tl_var tl_nll(tl_tape *t, tl_var log_p, tl_var target, tl_var weight, int64_t ignore_index,
                     tl_reduction reduction);

/* Zeros are what tl_cross_entropy does: { .label_smoothing = 0.1 }. */
typedef struct tl_cross_entropy_options {
    tl_var weight;          /* [C], or TL_NONE */
    bool ignore;            /* rows whose target is ignore_index count nothing */
    int64_t ignore_index;   /* for index targets */
    double label_smoothing; /* within 0 and 1: so much of the target is spread over all classes */
    tl_reduction reduction;
} tl_cross_entropy_options;

/* logits: [..,C]; target: i64 [..], or probabilities [..,C]. tl_nll of log_softmax for the former,
 * whose mean is tl_nll's; for the latter the mean is over all rows. NULL options: zeros. Szegedy et
 * al., CVPR 2016. */
TL_API tl_var tl_cross_entropy_with(tl_tape *t, tl_var logits, tl_var target,
                                    const tl_cross_entropy_options *options);
/* Of two arrays, broadcast, element by element: the mean, the sum, or each. z = a - b. */
TL_API tl_var tl_mse(tl_tape *t, tl_var a, tl_var b, tl_reduction reduction); /* z^2 */
TL_API tl_var tl_l1(tl_tape *t, tl_var a, tl_var b, tl_reduction reduction);  /* |z|; dl/dz = 0 at 0 */
/* z^2 / 2 where |z| <= delta, else delta (|z| - delta / 2); delta > 0. Huber, 1964. */
TL_API tl_var tl_huber(tl_tape *t, tl_var a, tl_var b, double delta, tl_reduction reduction);
/* z^2 / (2 beta) where |z| < beta, else |z| - beta / 2; beta >= 0. */
TL_API tl_var tl_smooth_l1(tl_tape *t, tl_var a, tl_var b, double beta, tl_reduction reduction);
/* max(0, margin - x y) for scores x and y = +1 or -1; derivative 0 where it begins. */
TL_API tl_var tl_hinge(tl_tape *t, tl_var x, tl_var y, double margin, tl_reduction reduction);
/* weight (-target log x - (1 - target) log(1 - x)) for probabilities x, 0 <= x <= 1 (others are an
 * error) and targets in [0, 1]. The logarithms stop at -100, and the derivative with respect to x at
 * 1e12. weight may be TL_NONE. */
TL_API tl_var tl_bce(tl_tape *t, tl_var x, tl_var target, tl_var weight, tl_reduction reduction);
/* The same for x = sigmoid of the logits; pos_weight multiplies the first term. Both weights may be
 * TL_NONE, and are broadcast. */
TL_API tl_var tl_bce_with_logits(tl_tape *t, tl_var logits, tl_var target, tl_var weight,
                                 tl_var pos_weight, tl_reduction reduction);
/* target (log target - x) for log-probabilities x and probabilities, or, with log_target, their
 * logarithms; 0 where target is 0. TL_REDUCE_MEAN divides by all elements, as PyTorch has it;
 * TL_REDUCE_BATCHMEAN by the first size, which is the divergence's mean over a batch. */
TL_API tl_var tl_kl_div(tl_tape *t, tl_var x, tl_var target, bool log_target, tl_reduction reduction);

/* Connectionist temporal classification: -log of the probability that frames with log-probabilities
 * log_p: [T,B,C] read as the labels target: [B,S], once repetitions and then blanks are taken out.
 * input_lengths, target_lengths: [B], how many frames and labels of each row count; these and target
 * are i64. No label may be the blank. A row that cannot be read so has loss inf, or 0 with
 * zero_infinity, and no gradient. TL_REDUCE_MEAN divides each row's loss by its number of labels first,
 * as PyTorch has it. The gradient is that of log_p taken as independent numbers (PyTorch's supposes a
 * log_softmax before it and differs; through log_softmax the two are the same). Graves et al., ICML
 * 2006. */
TL_API tl_var tl_ctc_loss(tl_tape *t, tl_var log_p, tl_var target, tl_var input_lengths,
                          tl_var target_lengths, int64_t blank, bool zero_infinity,
                          tl_reduction reduction);

#endif
