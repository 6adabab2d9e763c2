/* op_dim.h - for ops along one dimension, i[0] = dim. (internal)
 *
 * A scalar counts as one number along dimension 0, as in PyTorch. */
#ifndef TL_OP_DIM_H
#define TL_OP_DIM_H

#include "op.h"

/* x[0] as [outer, n, inner], n along dim. */
typedef struct tl_along {
    int64_t outer, n, inner;
} tl_along;

/* False, with the error recorded, when there is no such dimension. */
static inline bool tl_along_dim(const tl_call *c, tl_along *along)
{
    const tl_layout *x = c->x[0].layout;
    char text[TL_LAYOUT_TEXT];
    int64_t dim = c->attr->i[0];
    *along = (tl_along){1, 1, 1};
    if (dim < 0 || dim >= (x->ndim ? x->ndim : 1))
        return tl_call_fail(c, TL_ERR_INDEX, "there is no dimension %lld in %s", (long long)dim,
                            tl_layout_text(x, text));
    for (int k = 0; k < x->ndim; k++)
        *(k < dim ? &along->outer : k == dim ? &along->n : &along->inner) *= x->shape[k];
    return true;
}

/* Shape rule of ops whose result has the operand's shape. */
static inline bool tl_along_shape(tl_call *c, tl_layout *layout)
{
    tl_along along;
    return tl_along_dim(c, &along) &&
           tl_layout_make(layout, c->x[0].layout->ndim, c->x[0].layout->shape) == TL_OK;
}

/* Applies an op to x; a negative dim counts from the end. */
static inline tl_var tl_apply_along(tl_tape *t, const tl_op *op, tl_var x, int dim, tl_attr attr)
{
    char text[TL_LAYOUT_TEXT];
    if (tl_tape_status(t) != TL_OK)
        return tl_poison(t);
    const tl_layout *layout = tl_value(t, x).layout;
    if (!layout)
        return tl_poison(t);
    int dims = layout->ndim ? layout->ndim : 1;
    if (dim < -dims || dim >= dims) {
        tl_tape_fail(t, TL_ERR_INDEX, "%s: there is no dimension %d in %s", op->name, dim,
                     tl_layout_text(layout, text));
        return tl_poison(t);
    }
    attr.i[0] = dim < 0 ? dim + dims : dim;
    return tl_apply(t, op, 1, &x, &attr);
}

#endif
