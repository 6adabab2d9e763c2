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

#endif
