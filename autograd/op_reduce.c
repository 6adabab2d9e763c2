/* op_reduce.c - sums. */
#include "autograd/ops.h"

#include <string.h>

#include "tensor/kernels.h"

/* ---- sum: i = axes, flag = keepdim ------------------------------------------------------ */

/* x's shape with sizes of 1 where it is summed. */
static void kept_shape(const tl_call *c, int64_t *shape)
{
    memcpy(shape, c->x[0].layout->shape, sizeof c->x[0].layout->shape);
    for (int k = 0; k < c->attr->n; k++)
        shape[c->attr->i[k]] = 1;
}

static bool sum_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    bool summed[TL_MAX_DIMS] = {false};
    int64_t shape[TL_MAX_DIMS];
    char text[TL_LAYOUT_TEXT];
    int ndim = 0;
    for (int k = 0; k < c->attr->n; k++) {
        int64_t axis = c->attr->i[k];
        if (axis < 0 || axis >= x->ndim)
            return tl_call_fail(c, TL_ERR_INDEX, "there is no axis %lld in %s", (long long)axis,
                                tl_layout_text(x, text));
        if (summed[axis])
            return tl_call_fail(c, TL_ERR_ARGUMENT, "axis %lld is given twice", (long long)axis);
        summed[axis] = true;
    }
    for (int k = 0; k < x->ndim; k++)
        if (!summed[k] || c->attr->flag)
            shape[ndim++] = summed[k] ? 1 : x->shape[k];
    return tl_layout_make(layout, ndim, shape) == TL_OK;
}

static void sum_forward(tl_call *c)
{
    int64_t shape[TL_MAX_DIMS];
    tl_layout kept;
    memset(c->y.data, 0, (size_t)c->y.layout->count * tl_dtype_size(c->y.dtype));
    kept_shape(c, shape);
    if (tl_layout_make(&kept, c->x[0].layout->ndim, shape) == TL_OK)
        tl_sum_into(c->x[0], (tl_array){c->y.data, &kept, c->y.dtype});
}

static void sum_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    int64_t shape[TL_MAX_DIMS];
    kept_shape(c, shape);
    tl_var kept = tl_reshape(c->tape, dy, c->x[0].layout->ndim, shape);
    dx[0] = tl_expand(c->tape, kept, c->x[0].layout->ndim, c->x[0].layout->shape);
}

static const tl_sample sum_samples[] = {{1, {{3, {2, 3, 4}, -2, 2, 0}}, {{1}, {0}, 1, 0}},
                                        {1, {{3, {2, 3, 4}, -2, 2, 0}}, {{0, 2}, {0}, 2, 1}},
                                        {1, {{2, {3, 4}, -2, 2, 0}}, {{0, 1}, {0}, 2, 0}},
                                        TL_SAMPLES_END};

const tl_op tl_op_sum = {.name = "sum",
                         .equation = "y = sum of x over the axes",
                         .kind = TL_LINEAR,
                         .attributes = "axes=i* keepdim=flag",
                         .least = 1,
                         .most = 1,
                         .shape = sum_shape,
                         .forward = sum_forward,
                         .vjp = sum_vjp,
                         .samples = sum_samples};

tl_var tl_sum_axes(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim)
{
    if (tl_tape_status(t) != TL_OK)
        return tl_poison(t);
    tl_array a = tl_value(t, x);
    if (!a.layout)
        return tl_poison(t);
    tl_attr attr = {.n = count ? count : a.layout->ndim, .flag = keepdim};
    if (count < 0 || count > TL_MAX_DIMS) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "sum: %d axes", count);
        return tl_poison(t);
    }
    for (int k = 0; k < count; k++)
        if (axes[k] < -a.layout->ndim || axes[k] >= a.layout->ndim) {
            char text[TL_LAYOUT_TEXT];
            tl_tape_fail(t, TL_ERR_INDEX, "sum: there is no axis %d in %s", axes[k],
                         tl_layout_text(a.layout, text));
            return tl_poison(t);
        }
    for (int k = 0; k < attr.n; k++)
        attr.i[k] = !count ? k : axes[k] < 0 ? axes[k] + a.layout->ndim : axes[k];
    return tl_apply(t, &tl_op_sum, 1, &x, &attr);
}

tl_var tl_mean_axes(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim)
{
    tl_var sum = tl_sum_axes(t, x, count, axes, keepdim);
    if (tl_tape_status(t) != TL_OK)
        return tl_poison(t);
    double terms = 1;
    const tl_layout *layout = tl_value(t, x).layout;
    for (int k = 0; k < (count ? count : layout->ndim); k++)
        terms *= (double)layout->shape[!count ? k : axes[k] < 0 ? axes[k] + layout->ndim : axes[k]];
    return tl_affine(t, sum, 1 / terms, 0);
}

tl_var tl_sum(tl_tape *t, tl_var x)
{
    return tl_sum_axes(t, x, 0, NULL, false);
}

tl_var tl_mean(tl_tape *t, tl_var x)
{
    return tl_mean_axes(t, x, 0, NULL, false);
}

/* ---- sum_to: i = y's shape; the adjoint of broadcasting --------------------------------- */

static bool sum_to_shape(tl_call *c, tl_layout *layout)
{
    tl_layout wide;
    char from[TL_LAYOUT_TEXT], to[TL_LAYOUT_TEXT];
    if (tl_layout_make(layout, c->attr->n, c->attr->i) != TL_OK)
        return tl_call_fail(c, TL_ERR_ARGUMENT, "not a shape");
    if (!tl_layout_expand(layout, c->x[0].layout, &wide))
        return tl_call_fail(c, TL_ERR_SHAPE, "%s is not what broadcasting makes of %s",
                            tl_layout_text(c->x[0].layout, from), tl_layout_text(layout, to));
    return true;
}

static void sum_to_add(tl_call *c)
{
    tl_sum_into(c->x[0], c->y);
}

static void sum_to_forward(tl_call *c)
{
    memset(c->y.data, 0, (size_t)c->y.layout->count * tl_dtype_size(c->y.dtype));
    tl_sum_into(c->x[0], c->y);
}

static void sum_to_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_expand(c->tape, dy, c->x[0].layout->ndim, c->x[0].layout->shape);
}

static const tl_sample sum_to_samples[] = {{1, {{3, {2, 3, 4}, -2, 2, 0}}, {{3, 1}, {0}, 2, 0}},
                                           {1, {{2, {3, 4}, -2, 2, 0}}, {{4}, {0}, 1, 0}},
                                           TL_SAMPLES_END};

const tl_op tl_op_sum_to = {.name = "sum_to",
                            .equation = "y[j] = sum_i x[i,j]",
                            .kind = TL_LINEAR,
                            .attributes = "shape=i*",
                            .least = 1,
                            .most = 1,
                            .shape = sum_to_shape,
                            .forward = sum_to_forward,
                            .forward_add = sum_to_add,
                            .vjp = sum_to_vjp,
                            .samples = sum_to_samples};

tl_var tl_sum_to(tl_tape *t, tl_var x, int ndim, const int64_t *shape)
{
    tl_attr attr = {.n = ndim};
    for (int k = 0; k < ndim && k < TL_MAX_DIMS; k++)
        attr.i[k] = shape[k];
    return tl_apply(t, &tl_op_sum_to, 1, &x, &attr);
}
