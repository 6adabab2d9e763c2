/* blas.h - matrix products. (internal)
 *
 * Two ways through BLIS (Van Zee and van de Geijn, "BLIS: a framework for rapidly
 * instantiating BLAS functionality", ACM TOMS 41, 2015):
 *
 *   tl_blas_product   any strides, any transposition: bli_?gemm.
 *   tl_packed_*       operands laid out once in the panels that BLIS's micro-kernel reads, for
 *                     products that meet the same matrix again and again. W of an RNN is the
 *                     same at every step, and packing it costs as much as several small steps.
 *
 * A packed matrix, k x n, panels of `width` columns:
 *
 *        <-width->
 *       +---------+---------+-----+      each panel is contiguous, k rows of `width`
 *     k | panel 0 | panel 1 | ... |      numbers; the last one is padded with zeros
 *       +---------+---------+-----+
 */
#ifndef TL_BLAS_H
#define TL_BLAS_H

#include "tensor/arena.h"
#include "tensor/tensor.h"
#include "tensor/threads.h"

typedef void tl_any_function(void);

/* What was chosen for this processor. Immutable after tl_blas_new, except for the scratch, of
 * which each member of the team has its own. */
typedef struct tl_blas {
    tl_threads *team;
    void *context, *owned_context; /* BLIS's table of kernels and block sizes; the one to free */
    const char *kernels;
    struct tl_tile_kernel {
        tl_any_function *function; /* NULL: the portable loop in packed.c */
        int batch_width, weight_width;
        bool weights_first; /* the kernel stores columns: weights are its A, the batch its B */
    } tile[2];              /* by dtype */
    char *scratch;
    size_t scratch_bytes; /* of one member */
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

/* Y (rows x cols, contiguous rows `stride` apart) = panels' product over k + beta Y, for one
 * tile at most batch_width x weight_width, by BLIS's micro-kernel. Only where tile[dtype].function is set. */
void tl_blas_tile(const tl_blas *blas, tl_dtype dtype, int64_t rows, int64_t cols, int64_t k, const void *batch_panel,
                  const void *weight_panel, double beta, void *y, int64_t stride);

/* Which side of the micro-kernel a matrix is packed for. The weight side is the one whose
 * panels lie along the rows of the result in memory, so that stores are contiguous. */
typedef enum tl_side { TL_WEIGHT_SIDE, TL_BATCH_SIDE } tl_side;

typedef struct tl_packed {
    void *data;
    int64_t k, n;
    int width;
    tl_dtype dtype;
} tl_packed;

int tl_packed_width(const tl_blas *blas, tl_dtype dtype, tl_side side);
size_t tl_packed_bytes(const tl_blas *blas, tl_dtype dtype, tl_side side, int64_t k, int64_t n);
/* `data`: tl_packed_bytes of it, 64-byte aligned. */
tl_packed tl_packed_over(const tl_blas *blas, tl_dtype dtype, tl_side side, int64_t k, int64_t n, void *data);
/* Writes rows [row, row + source.rows) of the packed matrix. */
void tl_packed_write(const tl_packed *packed, int64_t row, tl_matrix source);

/* Y = X W + beta Y, or with `start` (one row of n numbers; only where beta is 0) Y = X W + start.
 * X: m x k, of any strides; W: k x n; Y: m x n with contiguous rows. */
void tl_packed_product(tl_blas *blas, tl_matrix x, const tl_packed *w, const void *start, double beta,
                       tl_matrix y);

/* C += A' B over the first `k` rows of two packed matrices; A: k x m on the batch side, B: k x n
 * on the weight side, C: m x n with contiguous rows. The outer products of many time steps at once. */
void tl_packed_outer(tl_blas *blas, const tl_packed *a, const tl_packed *b, int64_t k, tl_matrix c);

#endif
