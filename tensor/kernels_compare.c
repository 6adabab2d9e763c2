/* kernels_compare.c - comparisons, truth values and choices, for every dtype. */
#include "tensor/kernels.h"

#include "tensor/clones.h"

#define TL_SIMD _Pragma("omp simd")
#define KERNEL(name)                                                                                   \
    TL_CLONES static void N(name)(int64_t n, const void *const *x, void *y,                            \
                                  __attribute__((unused)) const double *scalar)

/* A constant as an integer: cut off towards zero, the nearest that fits, 0 for NaN, as when tensors
 * are converted. */
static int64_t whole(double value)
{
    if (value != value)
        return 0;
    if (value <= -0x1p63)
        return INT64_MIN;
    return value < 0x1p63 ? (int64_t)value : INT64_MAX;
}

static uint8_t small(double value)
{
    if (!(value > 0))
        return 0;
    return value < UINT8_MAX ? (uint8_t)value : UINT8_MAX;
}

#define number    float
#define N(name)   kernel_##name##_f32
#define NUMBER(x) ((float)(x))
#include "tensor/kernels_compare.inl"
#undef number
#undef N
#undef NUMBER

#define number    double
#define N(name)   kernel_##name##_f64
#define NUMBER(x) (x)
#include "tensor/kernels_compare.inl"
#undef number
#undef N
#undef NUMBER

#define number    int64_t
#define N(name)   kernel_##name##_i64
#define NUMBER(x) whole(x)
#include "tensor/kernels_compare.inl"
#undef number
#undef N
#undef NUMBER

#define number    uint8_t
#define N(name)   kernel_##name##_u8
#define NUMBER(x) small(x)
#include "tensor/kernels_compare.inl"
#undef number
#undef N
#undef NUMBER

#define X(name)                                                                                        \
    tl_kernel *const tl_kernel_##name[4] = {kernel_##name##_f32, kernel_##name##_f64,                  \
                                            kernel_##name##_i64, kernel_##name##_u8};
TL_KERNEL_ANY_LIST(X)
#undef X
