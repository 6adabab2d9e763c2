/* op_window.c - windows that slide along a dimension, and room around it: what convolutions and
 * pooling look through.
 *
 *     x        a b c d e f             y[p,k] = x[p step + k dilation]
 *     y[0]     a   b   c               (step 1, dilation 2: windows overlap, and no number is copied)
 *     y[1]       b   d   f */
#include "autograd/ops.h"

#include <string.h>

#include "autograd/dims.h"
#include "tensor/kernels.h"

/* ---- unfold: i = dim, size, step, dilation ---------------------------------------------- */

/* How many windows fit into `length`, -1: none; for sizes that need not make sense. */
static int64_t windows(int64_t length, int64_t size, int64_t step, int64_t dilation)
{
    if (size < 1 || step < 1 || dilation < 1 || length < 1 || (length - 1) / dilation < size - 1)
        return -1;
    return (length - 1 - (size - 1) * dilation) / step + 1;
}

/* Dimension dim of `layout` as `count` windows of that size, which go into a new last dimension. */
static void slide(tl_layout *layout, int64_t dim, int64_t count, int64_t size, int64_t step,
                  int64_t dilation)
{
    int64_t stride = layout->stride[dim];
    layout->shape[dim] = count;
    layout->stride[dim] = count > 1 ? stride * step : stride; /* of use, and so without overflow */
    layout->shape[layout->ndim] = size;
    layout->stride[layout->ndim] = size > 1 ? stride * dilation : 1;
    layout->ndim++;
    tl_layout_finish(layout);
}

static bool unfold_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    int64_t dim = c->attr->i[0], size = c->attr->i[1], step = c->attr->i[2], dilation = c->attr->i[3];
    char shape[TL_LAYOUT_TEXT];
    if (!dim_fits(c, dim, 0))
        return false;
    int64_t count = windows(x->shape[dim], size, step, dilation);
    if (count < 0)
        return tl_call_fail(c, TL_ERR_SHAPE,
                            "no window of %lld, step %lld, dilation %lld along dimension %lld of %s",
                            (long long)size, (long long)step, (long long)dilation, (long long)dim,
                            tl_layout_text(x, shape));
    if (x->ndim == TL_MAX_DIMS)
        return tl_call_fail(c, TL_ERR_SHAPE, "%s has no room for another dimension",
                            tl_layout_text(x, shape));
    *layout = *x;
    slide(layout, dim, count, size, step, dilation);
    return true;
}

static void unfold_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    const int64_t *i = c->attr->i;
    dx[0] = tl_fold(c->tape, dy, (int)i[0], c->x[0].layout->shape[i[0]], i[2], i[3]);
}

static const tl_sample unfold_samples[] = {{1, {{1, {7}, -2, 2, 0}}, {{0, 3, 2, 1}, {0}, 4, 0}},
                                           {1, {{3, {2, 7, 3}, -2, 2, 0}}, {{1, 3, 1, 2}, {0}, 4, 0}},
                                           {1, {{2, {5, 3}, -2, 2, 0}}, {{0, 2, 3, 1}, {0}, 4, 0}},
                                           {1, {{2, {3, 6}, -2, 2, 0}}, {{1, 2, 3, 2}, {0}, 4, 0}},
                                           TL_SAMPLES_END};

const tl_op tl_op_unfold = {.name = "unfold",
                            .equation = "y[p,k] = x[p step + k dilation]",
                            .kind = TL_VIEW,
                            .attributes = "dim=i0 size=i1 step=i2 dilation=i3",
                            .least = 1,
                            .most = 1,
                            .mixed = true,
                            .shape = unfold_shape,
                            .vjp = unfold_vjp,
                            .samples = unfold_samples};

tl_var tl_unfold(tl_tape *t, tl_var x, int dim, int64_t size, int64_t step, int64_t dilation)
{
    tl_array a;
    if (!array_of(t, x, &a) || !find_dim(t, "unfold", a.layout, 0, &dim))
        return tl_poison(t);
    tl_attr attr = {.i = {dim, size, step, dilation}, .n = 4};
    return tl_apply(t, &tl_op_unfold, 1, &x, &attr);
}

/* ---- fold: i = dim, length, step, dilation; the adjoint of unfold ----------------------- */

static bool fold_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    int64_t dim = c->attr->i[0], length = c->attr->i[1], step = c->attr->i[2], dilation = c->attr->i[3];
    char shape[TL_LAYOUT_TEXT];
    if (x->ndim < 2)
        return tl_call_fail(c, TL_ERR_SHAPE, "wants windows in the last dimension, not %s",
                            tl_layout_text(x, shape));
    if (!dim_fits(c, dim, -1))
        return false;
    if (windows(length, x->shape[x->ndim - 1], step, dilation) != x->shape[dim])
        return tl_call_fail(c, TL_ERR_SHAPE,
                            "the windows of %s, step %lld, dilation %lld, are not those of a dimension "
                            "%lld of size %lld",
                            tl_layout_text(x, shape), (long long)step, (long long)dilation,
                            (long long)dim, (long long)length);
    *layout = *x;
    layout->ndim--;
    layout->shape[dim] = length;
    return tl_layout_make(layout, layout->ndim, layout->shape) == TL_OK ||
           tl_call_fail(c, TL_ERR_ARGUMENT, "%lld is too large a size", (long long)length);
}

/* y, seen as windows, += x. Element k of all windows at once where that makes longer runs. */
static void fold_add(tl_call *c)
{
    tl_array x = c->x[0], y = c->y;
    tl_layout from = *x.layout, to = *y.layout;
    int64_t dim = c->attr->i[0], count = from.shape[dim], size = from.shape[from.ndim - 1];
    if (from.count == 0)
        return;
    slide(&to, dim, count, size, c->attr->i[2], c->attr->i[3]);
    x.layout = &from;
    y.layout = &to;
    if (size > count) {
        tl_add_into(x, y);
        return;
    }
    int64_t bytes = (int64_t)tl_dtype_size(y.dtype), from_step = from.stride[from.ndim - 1] * bytes,
            to_step = to.stride[to.ndim - 1] * bytes;
    from.ndim--;
    to.ndim--;
    tl_layout_finish(&from);
    tl_layout_finish(&to);
    for (int64_t k = 0; k < size; k++) {
        tl_add_into(x, y);
        x.data = (char *)x.data + from_step;
        y.data = (char *)y.data + to_step;
    }
}

static void fold_forward(tl_call *c)
{
    memset(c->y.data, 0, (size_t)c->y.layout->count * tl_dtype_size(c->y.dtype));
    fold_add(c);
}

static void fold_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    const int64_t *i = c->attr->i;
    const tl_layout *x = c->x[0].layout;
    dx[0] = tl_unfold(c->tape, dy, (int)i[0], x->shape[x->ndim - 1], i[2], i[3]);
}

static const tl_sample fold_samples[] = {{1, {{2, {3, 4}, -2, 2, 0}}, {{0, 9, 2, 1}, {0}, 4, 0}},
                                         {1, {{4, {2, 3, 5, 2}, -2, 2, 0}}, {{1, 6, 1, 3}, {0}, 4, 0}},
                                         {1, {{3, {2, 3, 2}, -2, 2, 0}}, {{1, 9, 3, 1}, {0}, 4, 0}},
                                         TL_SAMPLES_END};

const tl_op tl_op_fold = {.name = "fold",
                          .equation = "y = 0; y[p step + k dilation] += x[p,k]",
                          .kind = TL_LINEAR,
                          .attributes = "dim=i0 length=i1 step=i2 dilation=i3",
                          .least = 1,
                          .most = 1,
                          .shape = fold_shape,
                          .forward = fold_forward,
                          .forward_add = fold_add,
                          .vjp = fold_vjp,
                          .samples = fold_samples};

tl_var tl_fold(tl_tape *t, tl_var x, int dim, int64_t length, int64_t step, int64_t dilation)
{
    tl_array a;
    if (!array_of(t, x, &a) || (a.layout->ndim > 1 && !find_dim(t, "fold", a.layout, -1, &dim)))
        return tl_poison(t);
    tl_attr attr = {.i = {dim, length, step, dilation}, .n = 4};
    return tl_apply(t, &tl_op_fold, 1, &x, &attr);
}

/* ---- pad: i = before and after of the last dimension, of the one before it, ...; f = value ---- */

static bool pad_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    const int64_t *pads = c->attr->i;
    int count = c->attr->n;
    int64_t shape[TL_MAX_DIMS];
    char text[TL_LAYOUT_TEXT];
    if (count < 0 || count % 2 || count > TL_MAX_DIMS || count / 2 > x->ndim)
        return tl_call_fail(c, TL_ERR_ARGUMENT,
                            "wants two numbers for each of the last dimensions of %s (at most %d), not "
                            "%d in all",
                            tl_layout_text(x, text), TL_MAX_DIMS / 2, count);
    memcpy(shape, x->shape, sizeof shape);
    for (int k = 0; k < count; k++) {
        int64_t *size = &shape[x->ndim - 1 - k / 2];
        if (pads[k] < 0 || pads[k] > INT64_MAX - *size)
            return tl_call_fail(c, TL_ERR_ARGUMENT, "%lld elements beside dimension %d",
                                (long long)pads[k], x->ndim - 1 - k / 2);
        *size += pads[k];
    }
    return tl_layout_make(layout, x->ndim, shape) == TL_OK ||
           tl_call_fail(c, TL_ERR_ARGUMENT, "too large a result for %s", tl_layout_text(x, text));
}

static void pad_forward(tl_call *c)
{
    tl_tensor whole = {.data = c->y.data, .layout = *c->y.layout, .dtype = c->y.dtype};
    tl_layout inner = *c->y.layout;
    int64_t offset = 0;
    tl_tensor_fill(&whole, c->attr->f[0]);
    for (int d = 0; d < inner.ndim; d++)
        inner.shape[d] = c->x[0].layout->shape[d];
    for (int k = 0; k < c->attr->n; k += 2)
        offset += c->attr->i[k] * inner.stride[inner.ndim - 1 - k / 2];
    tl_layout_finish(&inner);
    char *data = (char *)c->y.data + offset * (int64_t)tl_dtype_size(c->y.dtype);
    tl_copy(c->x[0], (tl_array){data, &inner, c->y.dtype});
}

static void pad_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    const tl_layout *x = c->x[0].layout;
    dx[0] = dy;
    for (int k = 0; k < c->attr->n; k += 2) {
        int dim = x->ndim - 1 - k / 2;
        int64_t before = c->attr->i[k];
        dx[0] = tl_slice(c->tape, dx[0], dim, before, before + x->shape[dim], 1);
    }
}

static const tl_sample pad_samples[] = {
    {1, {{2, {2, 3}, -2, 2, 0}}, {{1, 2}, {0}, 2, 0}},
    {1, {{3, {2, 3, 4}, -2, 2, 0}}, {{0, 1, 3, 2}, {0.5}, 4, 0}},
    {1, {{4, {2, 1, 3, 2}, -2, 2, 0}}, {{0, 0, 1, 0, 0, 2, 1, 1}, {-1}, 8, 0}},
    {1, {{0, {0}, -2, 2, 0}}, {{0}, {0}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_pad = {.name = "pad",
                         .equation = "y = value; y[before + i] = x[i]",
                         .kind = TL_GENERAL,
                         .attributes = "pads=i* value=f0",
                         .least = 1,
                         .most = 1,
                         .mixed = true,
                         .shape = pad_shape,
                         .forward = pad_forward,
                         .vjp = pad_vjp,
                         .samples = pad_samples};

tl_var tl_pad(tl_tape *t, tl_var x, int count, const int64_t *pads, double value)
{
    tl_attr attr = {.n = count, .f = {value}};
    for (int k = 0; k < count && k < TL_MAX_DIMS; k++)
        attr.i[k] = pads[k];
    return tl_apply(t, &tl_op_pad, 1, &x, &attr);
}
