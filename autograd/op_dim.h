/* op_dim.h - for ops along one dimension, i[0] = dim. (internal)
 *
 * A scalar counts as one number along dimension 0, as in PyTorch. */
#ifndef TL_OP_DIM_H
#define TL_OP_DIM_H

#include "autograd/dims.h"

/* x[0] as [outer, n, inner], n along dim. */
typedef struct tl_along {
    int64_t outer, n, inner;
} tl_along;

/* False, with the error recorded, when there is no such dimension. */
static inline bool tl_along_dim(const tl_call *c, tl_along *along)
{
    const tl_layout *x = c->x[0].layout;
    int64_t dim = c->attr->i[0];
    *along = (tl_along){1, 1, 1};
    for (int k = 0; k < x->ndim; k++)
        *(k < dim ? &along->outer : k == dim ? &along->n : &along->inner) *= x->shape[k];
    return dim_fits(c, dim, scalar_dim(x));
}

/* Shape rule of ops whose result has the operand's shape. */
static inline bool tl_along_shape(tl_call *c, tl_layout *layout)
{
    return dim_fits(c, c->attr->i[0], scalar_dim(c->x[0].layout)) &&
           tl_layout_make(layout, c->x[0].layout->ndim, c->x[0].layout->shape) == TL_OK;
}

/* Applies an op to x; a negative dim counts from the end. */
static inline tl_var tl_apply_along(tl_tape *t, const tl_op *op, tl_var x, int dim, tl_attr attr)
{
    tl_array a;
    if (!array_of(t, x, &a) || !find_dim(t, op->name, a.layout, scalar_dim(a.layout), &dim))
        return tl_poison(t);
    attr.i[0] = dim;
    return tl_apply(t, op, 1, &x, &attr);
}

#endif
