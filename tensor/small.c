/* small.c - products too small for BLIS, which takes some 3 us to begin with: a batch of small
 * matrices, an outer product for each row, say, would take ten times as long.
 *
 * Each number of C is summed up in ascending order of k, with one rounding a step where the processor
 * can, as in packed.c: what differs in the last bit grows in a recurrence. */
#include "tensor/blas.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define TARGET  __attribute__((target("arch=x86-64-v3")))
#define real    float
#define R(name) name##_f32_v3
#include "tensor/small_product.inl"
#undef real
#undef R
#define real    double
#define R(name) name##_f64_v3
#include "tensor/small_product.inl"
#undef real
#undef R
#undef TARGET
#endif

#define TARGET
#define real    float
#define R(name) name##_f32
#include "tensor/small_product.inl"
#undef real
#undef R
#define real    double
#define R(name) name##_f64
#include "tensor/small_product.inl"
#undef real
#undef R
#undef TARGET

typedef void product(tl_matrix a, tl_matrix b, double beta, tl_matrix c);

static product *choose(int level, tl_dtype dtype)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (level > 0)
        return dtype == TL_F32 ? small_product_f32_v3 : small_product_f64_v3;
#endif
    (void)level;
    return dtype == TL_F32 ? small_product_f32 : small_product_f64;
}

void tl_small_product(int level, tl_dtype dtype, tl_matrix a, tl_matrix b, double beta, tl_matrix c)
{
    product *small = choose(level, dtype);
    if (c.cols < 4 && c.rows > c.cols) /* the inner loop runs along C's rows: C' = B' A' */
        small(tl_matrix_transposed(b), tl_matrix_transposed(a), beta, tl_matrix_transposed(c));
    else
        small(a, b, beta, c);
}
