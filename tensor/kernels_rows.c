/* kernels_rows.c - sums, softmax rows and the optimisers' steps, for both real types. */
#include "tensor/kernels.h"

#include <string.h>

#include "tensor/clones.h"
#include "tensor/vmath.h"

#define TL_PRAGMA(text)       _Pragma(#text)
#define TL_SIMD               TL_PRAGMA(omp simd)
#define TL_SIMD_SUM(variable) TL_PRAGMA(omp simd reduction(+ : variable))

#define TL_SIMD_MAX(variable)      TL_PRAGMA(omp simd reduction(max : variable))
#define TL_SIMD_MAX_ANY(most, any) TL_PRAGMA(omp simd reduction(max : most) reduction(| : any))

#define root_f32 sqrtf
#define root_f64 sqrt
#define size_f32 fabsf
#define size_f64 fabs

#define real    float
#define R(name) name##_f32
#define M(name) tl_##name##_f32
#include "tensor/kernels_rows.inl"
#undef real
#undef R
#undef M

#define real    double
#define R(name) name##_f64
#define M(name) tl_##name##_f64
#include "tensor/kernels_rows.inl"
#undef real
#undef R
#undef M

void tl_sum_run(tl_dtype dtype, int64_t n, const void *x, int64_t stride, void *y)
{
    if (dtype == TL_F32)
        *(float *)y += (float)sum_f32(n, x, stride);
    else
        *(double *)y += sum_f64(n, x, stride);
}

double tl_sum_squares(tl_dtype dtype, int64_t n, const void *x)
{
    return dtype == TL_F32 ? sum_squares_f32(n, x) : sum_squares_f64(n, x);
}

void tl_scale(tl_dtype dtype, int64_t n, void *x, double factor)
{
    if (dtype == TL_F32)
        scale_f32(n, x, (float)factor);
    else
        scale_f64(n, x, factor);
}

double tl_softmax_row(tl_dtype dtype, int64_t n, const void *x, void *y, double *largest)
{
    return dtype == TL_F32 ? softmax_row_f32(n, x, y, largest) : softmax_row_f64(n, x, y, largest);
}

int64_t tl_largest_at(tl_dtype dtype, int64_t n, const void *x)
{
    return dtype == TL_F32 ? extreme_at_f32(n, x, 1) : extreme_at_f64(n, x, 1);
}

int64_t tl_smallest_at(tl_dtype dtype, int64_t n, const void *x)
{
    return dtype == TL_F32 ? extreme_at_f32(n, x, -1) : extreme_at_f64(n, x, -1);
}

void tl_ties_row(tl_dtype dtype, int64_t n, const void *x, const void *y, void *share)
{
    if (dtype == TL_F32)
        ties_row_f32(n, x, *(const float *)y, share);
    else
        ties_row_f64(n, x, *(const double *)y, share);
}

double tl_norm_row(tl_dtype dtype, int64_t n, const void *x, double p)
{
    return dtype == TL_F32 ? norm_row_f32(n, x, p) : norm_row_f64(n, x, p);
}

void tl_cumsum_columns(tl_dtype dtype, int64_t n, int64_t columns, int64_t step, const void *x, void *y)
{
    if (dtype == TL_F32)
        cumsum_columns_f32(n, columns, step, x, y);
    else
        cumsum_columns_f64(n, columns, step, x, y);
}

void tl_recurrence_columns(tl_dtype dtype, int64_t n, int64_t columns, int64_t step, const void *a,
                           const void *b, const void *start, void *h)
{
    if (dtype == TL_F32)
        recurrence_columns_f32(n, columns, step, a, b, start, h);
    else
        recurrence_columns_f64(n, columns, step, a, b, start, h);
}

void tl_recurrence_end(tl_dtype dtype, int64_t n, int64_t columns, int64_t step, const void *a,
                       const void *b, void *product, void *end)
{
    if (dtype == TL_F32)
        recurrence_end_f32(n, columns, step, a, b, product, end);
    else
        recurrence_end_f64(n, columns, step, a, b, product, end);
}

void tl_recurrence_carry(tl_dtype dtype, int64_t columns, const void *product, const void *h, void *end)
{
    if (dtype == TL_F32)
        recurrence_carry_f32(columns, product, h, end);
    else
        recurrence_carry_f64(columns, product, h, end);
}

void tl_sgd_step(tl_dtype dtype, int64_t n, void *p, const void *g, void *v, double rate,
                 double momentum, double weight_decay)
{
    if (dtype == TL_F32)
        sgd_f32(n, p, g, v, (float)rate, (float)momentum, (float)weight_decay);
    else
        sgd_f64(n, p, g, v, rate, momentum, weight_decay);
}

void tl_adam_step(tl_dtype dtype, int64_t n, void *p, const void *g, void *m, void *v,
                  const tl_adam_rates *rates)
{
    if (dtype == TL_F32)
        adam_f32(n, p, g, m, v, rates);
    else
        adam_f64(n, p, g, m, v, rates);
}

void tl_lstm_row(tl_dtype dtype, int64_t n, const void *a, const void *c, void *h_next, void *c_next)
{
    if (dtype == TL_F32)
        lstm_row_f32(n, a, c, h_next, c_next);
    else
        lstm_row_f64(n, a, c, h_next, c_next);
}

void tl_lstm_row_grad(tl_dtype dtype, int64_t n, const void *a, const void *c, const void *c_next,
                      const void *dh, const void *dc_next, void *da, void *dc)
{
    if (dtype == TL_F32)
        lstm_row_grad_f32(n, a, c, c_next, dh, dc_next, da, dc);
    else
        lstm_row_grad_f64(n, a, c, c_next, dh, dc_next, da, dc);
}

void tl_gru_row(tl_dtype dtype, int64_t n, const void *a, const void *u, const void *h, void *h_next)
{
    if (dtype == TL_F32)
        gru_row_f32(n, a, u, h, h_next);
    else
        gru_row_f64(n, a, u, h, h_next);
}

void tl_gru_row_grad(tl_dtype dtype, int64_t n, const void *a, const void *u, const void *h,
                     const void *dh_next, void *da, void *du, void *dh)
{
    if (dtype == TL_F32)
        gru_row_grad_f32(n, a, u, h, dh_next, da, du, dh);
    else
        gru_row_grad_f64(n, a, u, h, dh_next, da, du, dh);
}
