/* kernels.h - plain loops over plain arrays, and the driver that feeds them strided ones. (internal)
 *
 * Every kernel exists for f32 and f64 and is one source text (kernels_*.inl). Elementwise
 * kernels see contiguous runs only; tl_map cuts strided and broadcast operands into such runs. */
#ifndef TL_KERNELS_H
#define TL_KERNELS_H

#include "tensor/tensor.h"

/* name, operands */
#define TL_KERNEL_LIST(X)                                                                              \
    X(neg, 1)                                                                                          \
    X(abs, 1)                                                                                          \
    X(sign, 1)                                                                                         \
    X(reciprocal, 1)                                                                                   \
    X(square, 1)                                                                                       \
    X(sqrt, 1)                                                                                         \
    X(rsqrt, 1)                                                                                        \
    X(exp, 1)                                                                                          \
    X(expm1, 1)                                                                                        \
    X(log, 1)                                                                                          \
    X(log1p, 1)                                                                                        \
    X(log2, 1)                                                                                         \
    X(sin, 1)                                                                                          \
    X(cos, 1)                                                                                          \
    X(tan, 1)                                                                                          \
    X(atan, 1)                                                                                         \
    X(sinh, 1)                                                                                         \
    X(cosh, 1)                                                                                         \
    X(erf, 1)                                                                                          \
    X(floor, 1)                                                                                        \
    X(ceil, 1)                                                                                         \
    X(round, 1)                                                                                        \
    X(affine, 1)                                                                                       \
    X(pow_scalar, 1)                                                                                   \
    X(sigmoid, 1)                                                                                      \
    X(tanh, 1)                                                                                         \
    X(relu, 1)                                                                                         \
    X(step, 1)                                                                                         \
    X(softplus, 1)                                                                                     \
    X(logsigmoid, 1)                                                                                   \
    X(silu, 1)                                                                                         \
    X(mish, 1)                                                                                         \
    X(gelu, 1)                                                                                         \
    X(gelu_tanh, 1)                                                                                    \
    X(softsign, 1)                                                                                     \
    X(leaky_relu, 1)                                                                                   \
    X(elu, 1)                                                                                          \
    X(hardsigmoid, 1)                                                                                  \
    X(clamp, 1)                                                                                        \
    X(between, 1)                                                                                      \
    X(add, 2)                                                                                          \
    X(sub, 2)                                                                                          \
    X(mul, 2)                                                                                          \
    X(div, 2)                                                                                          \
    X(relu_grad, 2)                                                                                    \
    X(tanh_grad, 2)                                                                                    \
    X(sigmoid_grad, 2)                                                                                 \
    X(maximum, 2)                                                                                      \
    X(minimum, 2)                                                                                      \
    X(atan2, 2)                                                                                        \
    X(hypot, 2)                                                                                        \
    X(pow, 2)                                                                                          \
    X(lerp, 3)                                                                                         \
    X(addcmul, 3)

#define X(name, operands) extern tl_kernel *const tl_kernel_##name[2]; /* [TL_F32], [TL_F64] */
TL_KERNEL_LIST(X)
#undef X

/* Those that exist for every dtype. */
#define TL_KERNEL_ANY_LIST(X)                                                                          \
    X(eq)                                                                                              \
    X(ne)                                                                                              \
    X(lt)                                                                                              \
    X(le)                                                                                              \
    X(gt)                                                                                              \
    X(ge)                                                                                              \
    X(logical_and)                                                                                     \
    X(logical_or)                                                                                      \
    X(logical_xor)                                                                                     \
    X(logical_not)                                                                                     \
    X(isnan)                                                                                           \
    X(isfinite)                                                                                        \
    X(where)                                                                                           \
    X(masked_fill)

#define X(name) extern tl_kernel *const tl_kernel_##name[4]; /* [TL_F32] ... [TL_U8] */
TL_KERNEL_ANY_LIST(X)
#undef X

enum { TL_MAP_MOST = 4 };

/* Applies `kernel` to every element. x[k].layout must have y's shape (see tl_layout_expand);
 * strides are arbitrary, y's too. count <= TL_MAP_MOST. Dtypes are what the kernel reads and writes. */
void tl_map(tl_kernel *kernel, int count, const tl_array *x, tl_array y, const double *scalar);

/* y = x, and y += x (reals only), for two layouts of one shape; y's strides are not zero. */
void tl_copy(tl_array x, tl_array y);
void tl_add_into(tl_array x, tl_array y);

/* y += x, summed over the dimensions that y's shape must be broadcast along to become x's. */
void tl_sum_into(tl_array x, tl_array y);
/* *y += sum of n numbers, `stride` apart; accumulated in double. */
void tl_sum_run(tl_dtype dtype, int64_t n, const void *x, int64_t stride, void *y);

/* Sum of x[i]^2 in double, whatever the dtype. */
double tl_sum_squares(tl_dtype dtype, int64_t n, const void *x);
/* x *= factor */
void tl_scale(tl_dtype dtype, int64_t n, void *x, double factor);

/* One row of a softmax: y = exp(x - largest) / sum, unless y is NULL. Returns log sum exp(x - largest),
 * so that log softmax(x) = (x - largest) - that; the two are not added, lest a large one swallow the
 * other. */
double tl_softmax_row(tl_dtype dtype, int64_t n, const void *x, void *y, double *largest);

/* Where the largest, the smallest of n > 0 numbers is: the first of equals; the first NaN, if any. */
int64_t tl_largest_at(tl_dtype dtype, int64_t n, const void *x);
int64_t tl_smallest_at(tl_dtype dtype, int64_t n, const void *x);
/* share[i] = [x[i] = *y] / how many there are of them; NaN where there is none. */
void tl_ties_row(tl_dtype dtype, int64_t n, const void *x, const void *y, void *share);

/* (sum |x|^p)^(1/p) in double, without overflow; p = 0: how many are not 0; +-inf: largest, smallest
 * |x|. */
double tl_norm_row(tl_dtype dtype, int64_t n, const void *x, double p);

/* Scans: n > 0 steps that lie `step` numbers apart (negative: backwards), `columns` adjacent ones at
 * once. Running sums are kept in double. */
enum { TL_SCAN_COLUMNS = 128 };
void tl_cumsum_columns(tl_dtype dtype, int64_t n, int64_t columns, int64_t step, const void *x,
                       void *y);
/* h_t = a_t h_(t-1) + b_t; start NULL: h_0 = b_0 */
void tl_recurrence_columns(tl_dtype dtype, int64_t n, int64_t columns, int64_t step, const void *a,
                           const void *b, const void *start, void *h);
/* What n steps make of an h before them: product h + end. */
void tl_recurrence_end(tl_dtype dtype, int64_t n, int64_t columns, int64_t step, const void *a,
                       const void *b, void *product, void *end);
/* end += product h; nothing for h = 0, whatever the product has become */
void tl_recurrence_carry(tl_dtype dtype, int64_t columns, const void *product, const void *h,
                         void *end);

/* One row of an LSTM's gates and its derivative, see autograd/op_cell.c. */
void tl_lstm_row(tl_dtype dtype, int64_t n, const void *a, const void *c, void *h_next, void *c_next);
void tl_lstm_row_grad(tl_dtype dtype, int64_t n, const void *a, const void *c, const void *c_next,
                      const void *dh, const void *dc_next, void *da, void *dc);
/* The same of a GRU. */
void tl_gru_row(tl_dtype dtype, int64_t n, const void *a, const void *u, const void *h, void *h_next);
void tl_gru_row_grad(tl_dtype dtype, int64_t n, const void *a, const void *u, const void *h,
                     const void *dh_next, void *da, void *du, void *dh);

/* ---- steps of the optimisers, one tensor at a time -------------------------------------- */

/* v = momentum v + g;  p -= rate v */
void tl_sgd_step(tl_dtype dtype, int64_t n, void *p, const void *g, void *v, double rate,
                 double momentum, double weight_decay);

typedef struct tl_adam_rates {
    double rate, beta1, beta2, epsilon, weight_decay;
    double correction1, correction2; /* 1 - beta^t */
} tl_adam_rates;

/* Kingma and Ba, "Adam", ICLR 2015, algorithm 1; weight decay decoupled (AdamW). */
void tl_adam_step(tl_dtype dtype, int64_t n, void *p, const void *g, void *m, void *v,
                  const tl_adam_rates *rates);

#endif
