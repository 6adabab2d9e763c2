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
TL_API tl_var tl_softsign(tl_tape *t, tl_var x);   /* x / (1 + |x|); dy/dx = 1 / (1 + |x|)^2 */
/* x where x > 0, else slope x, or alpha (exp x - 1); at 0 the derivative is that of the second. */
TL_API tl_var tl_leaky_relu(tl_tape *t, tl_var x, double slope);
TL_API tl_var tl_elu(tl_tape *t, tl_var x, double alpha);
/* min(max(x, low), high), derivative 1 at the bounds; and whether low <= x <= high, as 1 or 0. */
TL_API tl_var tl_clamp(tl_tape *t, tl_var x, double low, double high);
TL_API tl_var tl_between(tl_tape *t, tl_var x, double low, double high);

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
TL_API tl_var tl_atan2(tl_tape *t, tl_var a, tl_var b); /* angle of the point (b, a), in (-pi, pi] */
TL_API tl_var tl_hypot(tl_tape *t, tl_var a, tl_var b); /* sqrt(a a + b b) without overflow */
TL_API tl_var tl_lerp(tl_tape *t, tl_var a, tl_var b, tl_var w); /* a + w (b - a) */

/* ---- comparisons and masks --------------------------------------------------------------- */

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

/* ---- convolution and pooling ------------------------------------------------------------- */

/* ---- recurrent cells, fused ------------------------------------------------------------- */

/* gates: [B,4H] pre-activations i, f, g, o; c: [B,H]. c' = sigmoid(f) c + sigmoid(i) tanh(g),
 * h' = sigmoid(o) tanh c'; both [B,H]. The same as written out in primitives, in a fraction of the
 * memory. */
TL_API void tl_lstm_gates(tl_tape *t, tl_var gates, tl_var c, tl_var *h_next, tl_var *c_next);

/* ---- losses ----------------------------------------------------------------------------- */

typedef enum tl_reduction { TL_REDUCE_MEAN, TL_REDUCE_SUM, TL_REDUCE_NONE } tl_reduction;

TL_API tl_var tl_softmax(tl_tape *t, tl_var x);     /* along the last dimension */
TL_API tl_var tl_log_softmax(tl_tape *t, tl_var x); /* along the last dimension */
/* logits: [..,C], target: i64 [..] in 0..C-1. -log softmax(logits)[target] in nats: the mean over
 * all rows, their sum, or each. */
TL_API tl_var tl_cross_entropy(tl_tape *t, tl_var logits, tl_var target, tl_reduction reduction);
/* mean (sum, each) of (a - b)^2 over all elements. */
TL_API tl_var tl_mse(tl_tape *t, tl_var a, tl_var b, tl_reduction reduction);

#endif
