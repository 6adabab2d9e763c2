/* op_compare.c - what is so and what is not: comparisons, truth values, choices, and other dtypes.
 *
 * Comparisons and truth values take operands of any one dtype and give a mask (u8, 0 or 1), through
 * which no derivative passes. */
#include "autograd/ops.h"

#include "autograd/tape_impl.h"
#include "tensor/kernels.h"

/* Operands for the checks: masks and indices, which are often alike, and reals. */
static const tl_sample pairs[] = {{2, {{2, {3, 4}, 0, 0, -1}, {2, {3, 4}, 0, 0, -1}}, TL_NO_ATTR},
                                  {2, {{3, {2, 1, 4}, 0, 0, 3}, {2, {3, 1}, 0, 0, 3}}, TL_NO_ATTR},
                                  {2, {{1, {4}, -2, 2, 0}, {3, {2, 3, 4}, -2, 2, 0}}, TL_NO_ATTR},
                                  {2, {{0, {0}, -2, 2, 0}, {2, {3, 5}, -2, 2, 0}}, TL_NO_ATTR},
                                  TL_SAMPLES_END};
static const tl_sample single[] = {{1, {{2, {3, 4}, 0, 0, -1}}, TL_NO_ATTR},
                                   {1, {{3, {2, 3, 4}, 0, 0, 3}}, TL_NO_ATTR},
                                   {1, {{1, {5}, -2, 2, 0}}, TL_NO_ATTR},
                                   TL_SAMPLES_END};

static tl_var apply2(tl_tape *t, const tl_op *op, tl_var a, tl_var b)
{
    tl_var in[2] = {a, b};
    return tl_apply(t, op, 2, in, NULL);
}

/* ---- eq: y = [a = b];  NaN equals nothing -------------------------------------------- */

const tl_op tl_op_eq = {.name = "eq",
                        .equation = "y = [a = b]",
                        .kind = TL_ELEMENTWISE,
                        .least = 2,
                        .most = 2,
                        .any_dtype = true,
                        .mask_result = true,
                        .kernel = tl_kernel_eq,
                        .samples = pairs};

tl_var tl_eq(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_eq, a, b);
}

/* ---- ne: y = [a != b] ---------------------------------------------------------------- */

const tl_op tl_op_ne = {.name = "ne",
                        .equation = "y = [a != b]",
                        .kind = TL_ELEMENTWISE,
                        .least = 2,
                        .most = 2,
                        .any_dtype = true,
                        .mask_result = true,
                        .kernel = tl_kernel_ne,
                        .samples = pairs};

tl_var tl_ne(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_ne, a, b);
}

/* ---- lt: y = [a < b] ----------------------------------------------------------------- */

const tl_op tl_op_lt = {.name = "lt",
                        .equation = "y = [a < b]",
                        .kind = TL_ELEMENTWISE,
                        .least = 2,
                        .most = 2,
                        .any_dtype = true,
                        .mask_result = true,
                        .kernel = tl_kernel_lt,
                        .samples = pairs};

tl_var tl_lt(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_lt, a, b);
}

/* ---- le: y = [a <= b] ---------------------------------------------------------------- */

const tl_op tl_op_le = {.name = "le",
                        .equation = "y = [a <= b]",
                        .kind = TL_ELEMENTWISE,
                        .least = 2,
                        .most = 2,
                        .any_dtype = true,
                        .mask_result = true,
                        .kernel = tl_kernel_le,
                        .samples = pairs};

tl_var tl_le(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_le, a, b);
}

/* ---- gt: y = [a > b] ----------------------------------------------------------------- */

const tl_op tl_op_gt = {.name = "gt",
                        .equation = "y = [a > b]",
                        .kind = TL_ELEMENTWISE,
                        .least = 2,
                        .most = 2,
                        .any_dtype = true,
                        .mask_result = true,
                        .kernel = tl_kernel_gt,
                        .samples = pairs};

tl_var tl_gt(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_gt, a, b);
}

/* ---- ge: y = [a >= b] ---------------------------------------------------------------- */

const tl_op tl_op_ge = {.name = "ge",
                        .equation = "y = [a >= b]",
                        .kind = TL_ELEMENTWISE,
                        .least = 2,
                        .most = 2,
                        .any_dtype = true,
                        .mask_result = true,
                        .kernel = tl_kernel_ge,
                        .samples = pairs};

tl_var tl_ge(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_ge, a, b);
}

/* ---- logical_and: y = [a and b];  what is not 0 is true, NaN too --------------------- */

const tl_op tl_op_logical_and = {.name = "logical_and",
                                 .equation = "y = [a and b]",
                                 .kind = TL_ELEMENTWISE,
                                 .least = 2,
                                 .most = 2,
                                 .any_dtype = true,
                                 .mask_result = true,
                                 .kernel = tl_kernel_logical_and,
                                 .samples = pairs};

tl_var tl_logical_and(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_logical_and, a, b);
}

/* ---- logical_or: y = [a or b] -------------------------------------------------------- */

const tl_op tl_op_logical_or = {.name = "logical_or",
                                .equation = "y = [a or b]",
                                .kind = TL_ELEMENTWISE,
                                .least = 2,
                                .most = 2,
                                .any_dtype = true,
                                .mask_result = true,
                                .kernel = tl_kernel_logical_or,
                                .samples = pairs};

tl_var tl_logical_or(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_logical_or, a, b);
}

/* ---- logical_xor: y = [either a or b] ------------------------------------------------ */

const tl_op tl_op_logical_xor = {.name = "logical_xor",
                                 .equation = "y = [either a or b]",
                                 .kind = TL_ELEMENTWISE,
                                 .least = 2,
                                 .most = 2,
                                 .any_dtype = true,
                                 .mask_result = true,
                                 .kernel = tl_kernel_logical_xor,
                                 .samples = pairs};

tl_var tl_logical_xor(tl_tape *t, tl_var a, tl_var b)
{
    return apply2(t, &tl_op_logical_xor, a, b);
}

/* ---- logical_not: y = [not x] -------------------------------------------------------- */

const tl_op tl_op_logical_not = {.name = "logical_not",
                                 .equation = "y = [not x]",
                                 .kind = TL_ELEMENTWISE,
                                 .least = 1,
                                 .most = 1,
                                 .any_dtype = true,
                                 .mask_result = true,
                                 .kernel = tl_kernel_logical_not,
                                 .samples = single};

tl_var tl_logical_not(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_logical_not, 1, &x, NULL);
}

/* ---- isnan: y = [x is NaN] ----------------------------------------------------------- */

const tl_op tl_op_isnan = {.name = "isnan",
                           .equation = "y = [x is NaN]",
                           .kind = TL_ELEMENTWISE,
                           .least = 1,
                           .most = 1,
                           .any_dtype = true,
                           .mask_result = true,
                           .kernel = tl_kernel_isnan,
                           .samples = single};

tl_var tl_isnan(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_isnan, 1, &x, NULL);
}

/* ---- isfinite: y = [x is neither infinite nor NaN] ----------------------------------- */

const tl_op tl_op_isfinite = {.name = "isfinite",
                              .equation = "y = [x is neither infinite nor NaN]",
                              .kind = TL_ELEMENTWISE,
                              .least = 1,
                              .most = 1,
                              .any_dtype = true,
                              .mask_result = true,
                              .kernel = tl_kernel_isfinite,
                              .samples = single};

tl_var tl_isfinite(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_isfinite, 1, &x, NULL);
}

/* ---- where: y = mask ? a : b;  dy/da = mask, dy/db = not mask ------------------------ */

/* g is filled, not multiplied: an infinite or NaN g reaches no branch that was not chosen. */
static tl_var where_partial(const tl_call *c, int k, tl_var g)
{
    tl_var mask = c->in[0];
    return tl_masked_fill(c->tape, g, k == 1 ? tl_logical_not(c->tape, mask) : mask, 0);
}

static const tl_sample where_samples[] = {
    {3, {{2, {3, 4}, 0, 0, -1}, {2, {3, 4}, -2, 2, 0}, {2, {3, 4}, -2, 2, 0}}, TL_NO_ATTR},
    {3, {{1, {4}, 0, 0, -1}, {2, {3, 1}, -2, 2, 0}, {3, {2, 1, 1}, -2, 2, 0}}, TL_NO_ATTR},
    {3, {{3, {2, 3, 4}, 0, 0, -1}, {0, {0}, -2, 2, 0}, {1, {4}, -2, 2, 0}}, TL_NO_ATTR},
    {3, {{0, {0}, 0, 0, -1}, {1, {4}, -2, 2, 0}, {2, {3, 1}, -2, 2, 0}}, TL_NO_ATTR},
    TL_SAMPLES_END};

const tl_op tl_op_where = {.name = "where",
                           .equation = "y = mask ? a : b",
                           .kind = TL_ELEMENTWISE,
                           .least = 3,
                           .most = 3,
                           .any_dtype = true,
                           .masks = 1,
                           .kernel = tl_kernel_where,
                           .partial = where_partial,
                           .samples = where_samples};

tl_var tl_where(tl_tape *t, tl_var mask, tl_var a, tl_var b)
{
    tl_var in[3] = {mask, a, b};
    return tl_apply(t, &tl_op_where, 3, in, NULL);
}

/* ---- masked_fill: y = mask ? value : x;  f[0] = value; dy/dx = not mask -------------- */

static tl_var masked_fill_partial(const tl_call *c, int k, tl_var g)
{
    (void)k;
    return tl_masked_fill(c->tape, g, c->in[1], 0);
}

static const tl_sample fill_samples[] = {
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, 0, 0, -1}}, {{0}, {-7.5, 0}, 0, 0}},
    {2, {{2, {3, 1}, -2, 2, 0}, {3, {2, 1, 4}, 0, 0, -1}}, {{0}, {0.25, 0}, 0, 0}},
    {2, {{3, {2, 3, 4}, -2, 2, 0}, {1, {4}, 0, 0, -1}}, {{0}, {0, 0}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_masked_fill = {.name = "masked_fill",
                                 .equation = "y = mask ? value : x",
                                 .kind = TL_ELEMENTWISE,
                                 .attributes = "value=f0",
                                 .least = 2,
                                 .most = 2,
                                 .any_dtype = true,
                                 .masks = 2,
                                 .kernel = tl_kernel_masked_fill,
                                 .partial = masked_fill_partial,
                                 .samples = fill_samples};

tl_var tl_masked_fill(tl_tape *t, tl_var x, tl_var mask, double value)
{
    tl_var in[2] = {x, mask};
    return tl_apply(t, &tl_op_masked_fill, 2, in, &(tl_attr){.f = {value, 0}});
}

/* ---- cast: y = x in another dtype;  flag: a tl_dtype. Linear between reals, whose derivative
 *     is cast back; an integer has no derivative ------------------------------------------ */

static bool cast_shape(tl_call *c, tl_layout *layout)
{
    if (c->attr->flag < 0 || c->attr->flag > TL_U8)
        return tl_call_fail(c, TL_ERR_DTYPE, "there is no dtype %d", (int)c->attr->flag);
    c->y.dtype = (tl_dtype)c->attr->flag;
    return tl_layout_make(layout, c->x[0].layout->ndim, c->x[0].layout->shape) == TL_OK;
}

static void cast_forward(tl_call *c)
{
    tl_tensor from = {.data = c->x[0].data, .layout = *c->x[0].layout, .dtype = c->x[0].dtype};
    tl_tensor to = {.data = c->y.data, .layout = *c->y.layout, .dtype = c->y.dtype};
    tl_tensor_assign(&to, &from, NULL);
}

static void cast_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_cast(c->tape, dy, c->x[0].dtype);
}

static const tl_sample cast_samples[] = {{1, {{2, {3, 4}, -2, 2, 0}}, {{0}, {0}, 0, TL_F64}},
                                         {1, {{3, {2, 1, 5}, -2, 2, 0}}, {{0}, {0}, 0, TL_F64}},
                                         {1, {{0, {0}, -2, 2, 0}}, {{0}, {0}, 0, TL_F64}},
                                         TL_SAMPLES_END};

const tl_op tl_op_cast = {.name = "cast",
                          .equation = "y = x in another dtype",
                          .kind = TL_LINEAR,
                          .attributes = "dtype=flag:f32,f64,i64,u8",
                          .least = 1,
                          .most = 1,
                          .mixed = true,
                          .shape = cast_shape,
                          .forward = cast_forward,
                          .vjp = cast_vjp,
                          .samples = cast_samples};

tl_var tl_cast(tl_tape *t, tl_var x, tl_dtype dtype)
{
    const tl_node *n = tl_tape_status(t) == TL_OK ? tl_node_of(t, x, "cast") : NULL;
    if (n && n->dtype == dtype)
        return x;
    return tl_apply(t, &tl_op_cast, 1, &x, &(tl_attr){.flag = (int32_t)dtype});
}
