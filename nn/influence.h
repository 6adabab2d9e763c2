/* influence.h - how the state depends on the weights, carried forward in time.
 *
 *     J' = D J + F          J = ds/dtheta [n,P]   D = ds'/ds [n,n]   F = ds'/dtheta, s held [n,P]
 *
 * Williams and Zipser, "A learning algorithm for continually running fully recurrent neural networks",
 * Neural Computation 1 (1989). Here is only this product, for each row of a batch: D and F
 * come from elsewhere (online.h has them from the tape). Dense, or only some entries of J:
 *
 *     J, n = 3, P = 4     x . . x        columns 0 1 2 3: entries {0} {1,2} {1} {0,2}
 *                         . x x .
 *                         . x . x
 *
 * An entry that is not kept is 0, and what would flow into it is lost. Rows of D, and of F, that share
 * no column may come summed: those of one colour, in one row (Curtis, Powell and Reid, "On the
 * estimation of sparse Jacobian matrices", 1974). Of an Elman network F has one colour: unit i alone
 * reads row i of the weights.
 *
 * Letters: B batch, n rows (numbers of the state, of one row of the batch), P columns (weights). */
#ifndef TL_INFLUENCE_H
#define TL_INFLUENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "../autograd/tape.h"

typedef struct tl_influence {
    int64_t batch, rows, columns; /* B, n, P */
    int64_t entries;              /* kept, of n P */
    double *value;                /* [B,n,P], or, if sparse, [B,entries] column by column */
    int64_t *start;               /* [P+1] of each column's first entry; NULL: dense */
    int32_t *row;                 /* [entries] */

    int d_colors, f_colors;
    int32_t *d_color, *f_color; /* [n] of each row of D, F */
    double *d;                  /* [B,d_colors,n], to be filled before tl_influence_advance */
    double *f;                  /* [B,f_colors,P], likewise */

    tl_tensor *numbers[3]; /* value, d and f as tensors */
    /* Sparse only. */
    uint8_t *d_kept; /* [n,n] where D is not 0 */
    uint8_t *direct; /* [entries] where F is not 0 */
    double *full;    /* [n,n] D, of one row of the batch */
    double *next;    /* [entries] */
} tl_influence;

/* All entries. J = 0. false: no memory; nothing is held then. */
TL_API bool tl_influence_dense(tl_influence *j, int64_t batch, int64_t rows, int64_t columns);
/* The entries of F + D F + ... + D^(reach-1) F, given where D [n,n] and F [n,P] are not 0; reach 0: of
 * the whole series. The same. */
TL_API bool tl_influence_sparse(tl_influence *j, int64_t batch, int64_t rows, int64_t columns,
                                const uint8_t *d_kept, const uint8_t *f_kept, int64_t reach);
TL_API void tl_influence_free(tl_influence *j);

/* J' = D J + F, of the d and f that were filled in. B n^2 P multiplications if dense, a product on the
 * tape, unrecorded; and otherwise the sum of (entries of a column)^2. On failure J is as it was. */
TL_API tl_status tl_influence_advance(tl_influence *j, tl_tape *t);
TL_API void tl_influence_zero(tl_influence *j); /* J = 0 */
/* gradient[P] += sum over the batch of weight' J. weight: [B,n] */
TL_API void tl_influence_add(const tl_influence *j, const double *weight, double *gradient);
/* One element of J; 0 where it is not kept. */
TL_API double tl_influence_get(const tl_influence *j, int64_t batch, int64_t row, int64_t column);

#endif
