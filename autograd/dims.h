/* dims.h - what ops that take dimensions as constants share. (internal) */
#ifndef TL_DIMS_H
#define TL_DIMS_H

#include "autograd/ops.h"

/* The array of a variable, or false: the error is on the tape. */
static inline bool array_of(tl_tape *t, tl_var v, tl_array *array)
{
    if (tl_tape_status(t) != TL_OK)
        return false;
    *array = tl_value(t, v);
    return array->layout != NULL;
}

/* In a tl_ function: -1 is the last dimension, and so on. `extra`: one past the end is allowed. */
static inline bool find_dim(tl_tape *t, const char *name, const tl_layout *layout, int extra, int *dim)
{
    char shape[TL_LAYOUT_TEXT];
    int given = *dim, ndim = layout->ndim + extra;
    *dim = given < 0 ? given + ndim : given;
    if (*dim >= 0 && *dim < ndim)
        return true;
    tl_tape_fail(t, TL_ERR_INDEX, "%s: there is no dimension %d in %s", name, given,
                 tl_layout_text(layout, shape));
    return false;
}

/* In a rule: is there such a dimension in the first operand? */
static inline bool dim_fits(const tl_call *c, int64_t dim, int extra)
{
    char shape[TL_LAYOUT_TEXT];
    if (dim >= 0 && dim < c->x[0].layout->ndim + extra)
        return true;
    return tl_call_fail(c, TL_ERR_INDEX, "there is no dimension %lld in %s", (long long)dim,
                        tl_layout_text(c->x[0].layout, shape));
}

/* A scalar passes for [1] where a dimension must be named: then `extra` for the above. */
static inline int scalar_dim(const tl_layout *layout)
{
    return layout->ndim == 0;
}

/* ---- ops along one dimension, i[0] = dim; a scalar counts as one number along dimension 0, as in
 * PyTorch ---- */

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
