/* blas.h - matrix products. (internal)
 *
 *   tl_blas_product   any strides, any transposition, through BLIS's bli_?gemm (Van Zee and van de
 *                     Geijn, "BLIS: a framework for rapidly instantiating BLAS functionality", ACM
 *                     TOMS 41, 2015); small ones in plain loops.
 *   tl_packed_*       for products that meet the same matrix again and again, laid out once as they
 *                     read it. W of an RNN is the same at every step, and laying it out, which any
 *                     fast product does inside, costs as much as several small steps.
 *
 * A packed matrix, k x n:
 *
 *        128 bytes
 *       +---------+---------+-----+      each panel is contiguous, k rows of 32 (f32) or 16 (f64)
 *     k | panel 0 | panel 1 | ... |      numbers; the last one is filled up with zeros
 *       +---------+---------+-----+
 */
#ifndef TL_BLAS_H
#define TL_BLAS_H

#include "tensor/arena.h"
#include "tensor/tensor.h"
#include "tensor/threads.h"

/* What was chosen for this processor. Immutable after tl_blas_new. */
typedef struct tl_blas {
    tl_threads *team;
    void *context, *owned_context; /* BLIS's table of kernels and block sizes; the one to free */
    char kernels[48];              /* for reports: "AVX-512, BLIS skx" */
    int level;                     /* tl_packed_level() */
} tl_blas;

typedef struct tl_matrix {
    void *data;
    int64_t rows, cols, row_stride, col_stride; /* strides in elements */
} tl_matrix;

static inline tl_matrix tl_matrix_transposed(tl_matrix m)
{
    return (tl_matrix){m.data, m.cols, m.rows, m.col_stride, m.row_stride};
}

/* Chooses the kernels for this processor; `team` does the large products. NULL: no memory. */
tl_blas *tl_blas_new(tl_threads *team);
void tl_blas_free(tl_blas *blas);

/* C = A B + beta C. Reals only; A is m x k, B is k x n, C is m x n. */
void tl_blas_product(tl_blas *blas, tl_dtype dtype, tl_matrix a, tl_matrix b, double beta, tl_matrix c);

/* The same in plain loops (small.c), for what is too small for BLIS. level: of a tl_blas. */
void tl_small_product(int level, tl_dtype dtype, tl_matrix a, tl_matrix b, double beta, tl_matrix c);

typedef struct tl_packed {
    void *data;
    int64_t k, n;
    tl_dtype dtype;
} tl_packed;

/* 2: AVX-512, 1: AVX2, 0: neither. */
int tl_packed_level(void);
/* Room for a packed matrix, to be 64-byte aligned. */
size_t tl_packed_bytes(tl_dtype dtype, int64_t k, int64_t n);
/* Writes rows [row, row + source.rows) of the packed matrix. source.cols is n. */
void tl_packed_write(const tl_packed *packed, int64_t row, tl_matrix source);

/* Y = X W + beta Y, or, with `start` and beta 0, Y = X W + start: m x n with contiguous rows, of which
 * a row_stride of 0 makes one and the same. X: m x k with x.cols <= W's k (further rows of W are left
 * out); one of its strides is 1. Y: m x n with contiguous rows. The sum of outer products C += A' B is
 * the case X = A', beta = 1. */
void tl_packed_product(tl_blas *blas, tl_matrix x, const tl_packed *w, const tl_matrix *start,
                       double beta, tl_matrix y);

#endif
