/* kernels_elementwise.c - the loops of the elementwise ops, for both real types. */
#include "tensor/kernels.h"

#include "tensor/clones.h"
#include <math.h>

#include "tensor/vmath.h"

#define TL_SIMD _Pragma("omp simd")
#define KERNEL(name)                                                                                   \
    TL_CLONES static void R(name)(int64_t n, const void *const *x, void *y,                            \
                                  __attribute__((unused)) const double *scalar)

#define real    float
#define R(name) kernel_##name##_f32
#define M(name) tl_##name##_f32 /* vmath.h */
#define F(name) name##f         /* the platform's */
#include "tensor/kernels_elementwise.inl"
#undef real
#undef R
#undef M
#undef F

#define real    double
#define R(name) kernel_##name##_f64
#define M(name) tl_##name##_f64
#define F(name) name
#include "tensor/kernels_elementwise.inl"
#undef real
#undef R
#undef M
#undef F

#define X(name, operands)                                                                              \
    tl_kernel *const tl_kernel_##name[2] = {kernel_##name##_f32, kernel_##name##_f64};
TL_KERNEL_LIST(X)
#undef X
