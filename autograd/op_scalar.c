/* op_scalar.c - ops with a plain number in the place of an operand, written with the ops there are. */
#include "autograd/ops.h"

#include <math.h>

#include "autograd/tape_impl.h"

/* ---- arithmetic: scale x + shift, where that is exact ------------------------------------ */

tl_var tl_add_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_affine(t, x, 1, value);
}

tl_var tl_sub_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_affine(t, x, 1, -value);
}

tl_var tl_rsub_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_affine(t, x, -1, value);
}

tl_var tl_mul_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_affine(t, x, value, -0.); /* what changes no number, a zero's sign included */
}

/* ---- a constant of x's dtype without dimensions ------------------------------------------ */

static bool fits(tl_dtype dtype, double value)
{
    if (dtype == TL_I64)
        return value == floor(value) && fabs(value) <= 0x1p53;
    if (dtype == TL_U8)
        return value == floor(value) && value >= 0 && value <= UINT8_MAX;
    return true;
}

static tl_var constant_like(tl_tape *t, const char *name, tl_var x, double value)
{
    const tl_node *n = tl_tape_status(t) == TL_OK ? tl_node_of(t, x, name) : NULL;
    if (!n)
        return tl_poison(t);
    tl_dtype dtype = (tl_dtype)n->dtype;
    if (fits(dtype, value))
        return tl_full(t, dtype, 0, NULL, value);
    tl_tape_fail(t, TL_ERR_ARGUMENT, "%s: %g is not an integer that %s holds", name, value,
                 tl_dtype_name(dtype));
    return tl_poison(t);
}

tl_var tl_div_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_div(t, x, constant_like(t, "div_scalar", x, value));
}

tl_var tl_maximum_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_maximum(t, x, constant_like(t, "maximum_scalar", x, value));
}

tl_var tl_minimum_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_minimum(t, x, constant_like(t, "minimum_scalar", x, value));
}

tl_var tl_eq_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_eq(t, x, constant_like(t, "eq_scalar", x, value));
}

tl_var tl_ne_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_ne(t, x, constant_like(t, "ne_scalar", x, value));
}

tl_var tl_lt_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_lt(t, x, constant_like(t, "lt_scalar", x, value));
}

tl_var tl_le_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_le(t, x, constant_like(t, "le_scalar", x, value));
}

tl_var tl_gt_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_gt(t, x, constant_like(t, "gt_scalar", x, value));
}

tl_var tl_ge_scalar(tl_tape *t, tl_var x, double value)
{
    return tl_ge(t, x, constant_like(t, "ge_scalar", x, value));
}
