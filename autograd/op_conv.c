/* op_conv.c - convolutions and pooling over one or two dimensions: windows (see op_window.c), then a
 * matrix product, a maximum or a mean. N batch, C and O channels, P positions of the window, K its
 * size.
 *
 * Compositions all: what a window overlaps adds up in unfold's derivative. */
#include "autograd/ops.h"

#include <math.h>
#include <string.h>

enum { MOST = 2 }; /* dimensions that a window slides over */

/* Stands in tl_attr.i as one number a dimension, field after field. */
typedef struct window {
    int dims;
    int64_t size[MOST], stride[MOST], padding[MOST], dilation[MOST];
    int64_t positions[MOST]; /* how many windows there are */
} window;

static int64_t product(int count, const int64_t *sizes)
{
    int64_t n = 1;
    for (int d = 0; d < count; d++)
        n *= sizes[d];
    return n;
}

/* ---- arguments -------------------------------------------------------------------------- */

static bool lies_within(const tl_call *c, const char *what, int64_t least, int64_t n)
{
    return (n >= least && n <= INT32_MAX) ||
           tl_call_fail(c, TL_ERR_ARGUMENT, "%s %lld", what, (long long)n);
}

/* Positions of the window along the last dimensions of x. */
static bool window_fits(const tl_call *c, window *w)
{
    char text[TL_LAYOUT_TEXT];
    const tl_layout *x = c->x[0].layout;
    for (int d = 0; d < w->dims; d++) {
        if (!lies_within(c, "window of size", 1, w->size[d]) ||
            !lies_within(c, "stride", 1, w->stride[d]) ||
            !lies_within(c, "padding", 0, w->padding[d]) ||
            !lies_within(c, "dilation", 1, w->dilation[d]))
            return false;
        int64_t span = (w->size[d] - 1) * w->dilation[d] + 1;
        int64_t room = x->shape[x->ndim - w->dims + d] + 2 * w->padding[d] - span;
        if (room < 0)
            return tl_call_fail(c, TL_ERR_SHAPE, "a window of %lld does not fit into %s, padding %lld",
                                (long long)span, tl_layout_text(x, text), (long long)w->padding[d]);
        w->positions[d] = room / w->stride[d] + 1;
    }
    return true;
}

/* ---- windows: x [..,L..] to [..,P..,K..] -------------------------------------------------- */

static tl_var slide(tl_tape *t, tl_var x, int ndim, const window *w, double fill)
{
    int64_t pads[2 * MOST];
    bool padded = false;
    for (int d = 0; d < w->dims; d++) {
        pads[2 * d] = pads[2 * d + 1] =
            w->padding[w->dims - 1 - d]; /* the last dimension comes first */
        padded = padded || w->padding[d] > 0;
    }
    if (padded)
        x = tl_pad(t, x, 2 * w->dims, pads, fill);
    for (int d = 0; d < w->dims; d++)
        x = tl_unfold(t, x, ndim - w->dims + d, w->size[d], w->stride[d], w->dilation[d]);
    return x;
}

/* ---- conv1d, conv2d: x [N,C,L..], w [O,C/G,K..], bias [O]; i = stride, padding, dilation, G ------
 *
 *   y[n,o,p] = b_o + sum_c,k w[o,c,k] x[n,c, p stride + k dilation - padding]
 *
 * c runs over the channels of o's group, one of G. In each group windows are rows, and so
 * Y = X W' + b:  [N P, C/G K] x [C/G K, O/G]. */

typedef struct sizes {
    int64_t batch, groups, in, out; /* in, out: channels of a group */
} sizes;

static bool channels_fit(const tl_call *c, int dims, sizes *s)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    const tl_layout *x = c->x[0].layout, *w = c->x[1].layout;
    const int64_t groups = c->attr->i[3 * dims];
    if (!lies_within(c, "groups:", 1, groups))
        return false;
    if (x->ndim != 2 + dims || w->ndim != 2 + dims || x->shape[1] % groups || w->shape[0] % groups ||
        x->shape[1] / groups != w->shape[1])
        return tl_call_fail(c, TL_ERR_SHAPE, "wants %s, not %s and %s, for G = %lld",
                            dims == 1 ? "[N,C,L] and [O,C/G,K]" : "[N,C,H,W] and [O,C/G,K,K']",
                            tl_layout_text(x, a), tl_layout_text(w, b), (long long)groups);
    if (c->count > 2 && (c->x[2].layout->ndim != 1 || c->x[2].layout->shape[0] != w->shape[0]))
        return tl_call_fail(c, TL_ERR_SHAPE, "wants a bias of [%lld], not %s", (long long)w->shape[0],
                            tl_layout_text(c->x[2].layout, a));
    *s = (sizes){x->shape[0], groups, x->shape[1] / groups, w->shape[0] / groups};
    return true;
}

static window kernel_of(const tl_call *c, int dims)
{
    window w = {.dims = dims};
    size_t bytes = (size_t)dims * sizeof w.size[0];
    memcpy(w.size, c->x[1].layout->shape + 2, bytes);
    memcpy(w.stride, c->attr->i, bytes);
    memcpy(w.padding, c->attr->i + dims, bytes);
    memcpy(w.dilation, c->attr->i + 2 * dims, bytes);
    return w;
}

/* The windows as rows, [G, N P, C/G K]. A copy, as they overlap. */
static tl_var rows_of_windows(const tl_call *c, const window *w, const sizes *s)
{
    tl_tape *t = c->tape;
    int64_t shape[TL_MAX_DIMS] = {s->batch, s->groups, s->in};
    int order[TL_MAX_DIMS] = {1, 0}, n = 2; /* [N,G,C/G,P..,K..] to [G,N,P..,C/G,K..] */
    memcpy(shape + 3, w->positions, (size_t)w->dims * sizeof *shape);
    memcpy(shape + 3 + w->dims, w->size, (size_t)w->dims * sizeof *shape);
    for (int d = 0; d < w->dims; d++)
        order[n++] = 3 + d;
    order[n++] = 2;
    for (int d = 0; d < w->dims; d++)
        order[n++] = 3 + w->dims + d;
    tl_var split = tl_reshape(t, slide(t, c->in[0], 2 + w->dims, w, 0), n, shape);
    int64_t rows[3] = {s->groups, s->batch * product(w->dims, w->positions),
                       s->in * product(w->dims, w->size)};
    return tl_reshape(t, tl_permute(t, split, n, order), 3, rows);
}

/* X W' + b: [G, N P, O/G]. One group is a linear layer, whose weight is prepared once for all its uses.
 */
static tl_var multiply(const tl_call *c, tl_var rows, const sizes *s, int64_t inner)
{
    tl_tape *t = c->tape;
    tl_var bias = c->count > 2 ? c->in[2] : TL_NONE;
    int64_t weight[3] = {s->groups, s->out, inner}, each[3] = {s->groups, 1, s->out};
    if (s->groups == 1)
        return tl_linear_op(t, rows, tl_reshape(t, c->in[1], 2, weight + 1), bias);
    tl_var y = tl_matmul(t, rows, tl_transpose(t, tl_reshape(t, c->in[1], 3, weight), 1, 2));
    return tl_is_none(bias) ? y : tl_add(t, y, tl_reshape(t, bias, 3, each));
}

static tl_var convolve(const tl_call *c, int dims)
{
    tl_tape *t = c->tape;
    sizes s = {0};
    if (!channels_fit(c, dims, &s))
        return tl_poison(t);
    window w = kernel_of(c, dims);
    if (!window_fits(c, &w))
        return tl_poison(t);
    tl_var y = multiply(c, rows_of_windows(c, &w, &s), &s, s.in * product(dims, w.size));
    int64_t shape[TL_MAX_DIMS] = {s.groups, s.batch};
    int order[TL_MAX_DIMS] = {1, 0, 2 + dims}; /* [G,N,P..,O/G] to [N,G,O/G,P..] */
    for (int d = 0; d < dims; d++) {
        shape[2 + d] = w.positions[d];
        order[3 + d] = 2 + d;
    }
    shape[2 + dims] = s.out;
    y = tl_permute(t, tl_reshape(t, y, 3 + dims, shape), 3 + dims, order);
    int64_t joined[TL_MAX_DIMS] = {s.batch, s.groups * s.out};
    memcpy(joined + 2, w.positions, (size_t)dims * sizeof *joined);
    return tl_reshape(t, y, 2 + dims, joined);
}

static tl_var conv1d_compose(const tl_call *c)
{
    return convolve(c, 1);
}

static tl_var conv2d_compose(const tl_call *c)
{
    return convolve(c, 2);
}

static const tl_sample conv1d_samples[] = {
    {2, {{3, {2, 3, 5}, -2, 2, 0}, {3, {4, 3, 2}, -2, 2, 0}}, {{1, 0, 1, 1}, {0}, 0, 0}},
    {3,
     {{3, {2, 3, 5}, -2, 2, 0}, {3, {4, 3, 3}, -2, 2, 0}, {1, {4}, -2, 2, 0}},
     {{2, 1, 1, 1}, {0}, 0, 0}},
    {3,
     {{3, {2, 4, 6}, -2, 2, 0}, {3, {6, 2, 2}, -2, 2, 0}, {1, {6}, -2, 2, 0}},
     {{2, 2, 3, 2}, {0}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_conv1d = {.name = "conv1d",
                            .equation = "y[o,p] = b_o + sum_c,k w[o,c,k] x[c,p s + k d - q]",
                            .kind = TL_COMPOSED,
                            .attributes = "stride=i0 padding=i1 dilation=i2 groups=i3",
                            .least = 2,
                            .most = 3,
                            .compose = conv1d_compose,
                            .samples = conv1d_samples};

tl_var tl_conv1d(tl_tape *t, tl_var x, tl_var weight, tl_var bias, int64_t stride, int64_t padding,
                 int64_t dilation, int64_t groups)
{
    tl_var in[3] = {x, weight, bias};
    return tl_apply(t, &tl_op_conv1d, 3, in, &(tl_attr){.i = {stride, padding, dilation, groups}});
}

static const tl_sample conv2d_samples[] = {
    {2, {{4, {2, 3, 4, 5}, -2, 2, 0}, {4, {2, 3, 2, 3}, -2, 2, 0}}, {{1, 1, 0, 0, 1, 1, 1}, {0}, 0, 0}},
    {3,
     {{4, {1, 2, 4, 3}, -2, 2, 0}, {4, {3, 2, 3, 1}, -2, 2, 0}, {1, {3}, -2, 2, 0}},
     {{2, 1, 1, 2, 1, 1, 1}, {0}, 0, 0}},
    {3,
     {{4, {2, 4, 3, 4}, -2, 2, 0}, {4, {2, 2, 2, 2}, -2, 2, 0}, {1, {2}, -2, 2, 0}},
     {{1, 2, 1, 0, 2, 3, 2}, {0}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_conv2d = {.name = "conv2d",
                            .equation = "y[o,p] = b_o + sum_c,k w[o,c,k] x[c,p s + k d - q]",
                            .kind = TL_COMPOSED,
                            .attributes = "stride=i0:2 padding=i2:2 dilation=i4:2 groups=i6",
                            .least = 2,
                            .most = 3,
                            .compose = conv2d_compose,
                            .samples = conv2d_samples};

tl_var tl_conv2d(tl_tape *t, tl_var x, tl_var weight, tl_var bias, const int64_t stride[2],
                 const int64_t padding[2], const int64_t dilation[2], int64_t groups)
{
    tl_var in[3] = {x, weight, bias};
    return tl_apply(t, &tl_op_conv2d, 3, in,
                    &(tl_attr){.i = {stride[0], stride[1], padding[0], padding[1], dilation[0],
                                     dilation[1], groups}});
}

/* ---- pooling: x [..,L..]; i = size, stride, padding ------------------------------------------- */

static bool pool_fits(const tl_call *c, int dims, window *w)
{
    char text[TL_LAYOUT_TEXT];
    *w = (window){.dims = dims};
    if (c->x[0].layout->ndim < dims || c->x[0].layout->ndim > TL_MAX_DIMS - dims)
        return tl_call_fail(c, TL_ERR_SHAPE, "wants %d to %d dimensions, not %s", dims,
                            TL_MAX_DIMS - dims, tl_layout_text(c->x[0].layout, text));
    for (int d = 0; d < dims; d++) {
        w->size[d] = c->attr->i[d];
        w->stride[d] = c->attr->i[dims + d];
        w->padding[d] = c->attr->i[2 * dims + d];
        w->dilation[d] = 1;
    }
    if (!window_fits(c, w))
        return false;
    for (int d = 0; d < dims; d++)
        if (w->padding[d] > w->size[d] / 2)
            return tl_call_fail(c, TL_ERR_ARGUMENT,
                                "padding %lld is more than half of the window, %lld",
                                (long long)w->padding[d], (long long)w->size[d]);
    return true;
}

/* y as [..,P..], or, with `last`, [..,P..,last]; x: [..,L..]. */
static tl_var pooled(tl_tape *t, tl_var y, const tl_layout *x, const window *w, int64_t last)
{
    tl_layout shape = *x;
    memcpy(shape.shape + x->ndim - w->dims, w->positions, (size_t)w->dims * sizeof shape.shape[0]);
    shape.shape[x->ndim] = last;
    return tl_reshape(t, y, x->ndim + (last > 0), shape.shape);
}

/* y = the largest of each window; its gradient goes to the first of those that are as large. */
static tl_var max_pool(const tl_call *c, int dims)
{
    tl_tape *t = c->tape;
    const tl_layout *x = c->x[0].layout;
    window w;
    if (!pool_fits(c, dims, &w))
        return tl_poison(t);
    tl_var each = slide(t, c->in[0], x->ndim, &w, -(double)INFINITY);
    each = pooled(t, each, x, &w, product(dims, w.size));
    return pooled(t, tl_gather(t, each, -1, tl_argmax(t, each, -1, true)), x, &w, 0);
}

/* y = the mean of each window; padding counts as zeros. */
static tl_var avg_pool(const tl_call *c, int dims)
{
    const int axes[MOST] = {-1, -2};
    window w;
    if (!pool_fits(c, dims, &w))
        return tl_poison(c->tape);
    return tl_mean_axes(c->tape, slide(c->tape, c->in[0], c->x[0].layout->ndim, &w, 0), dims, axes,
                        false);
}

static tl_var max_pool1d_compose(const tl_call *c)
{
    return max_pool(c, 1);
}

static tl_var max_pool2d_compose(const tl_call *c)
{
    return max_pool(c, 2);
}

static tl_var avg_pool1d_compose(const tl_call *c)
{
    return avg_pool(c, 1);
}

static tl_var avg_pool2d_compose(const tl_call *c)
{
    return avg_pool(c, 2);
}

static const tl_sample pool1d_samples[] = {{1, {{3, {2, 3, 6}, -2, 2, 0}}, {{2, 2, 0}, {0}, 0, 0}},
                                           {1, {{2, {3, 7}, -2, 2, 0}}, {{3, 1, 1}, {0}, 0, 0}},
                                           {1, {{3, {2, 1, 5}, -2, 2, 0}}, {{2, 3, 1}, {0}, 0, 0}},
                                           TL_SAMPLES_END};

static const tl_sample pool2d_samples[] = {
    {1, {{4, {2, 3, 4, 5}, -2, 2, 0}}, {{2, 2, 2, 2, 0, 0}, {0}, 0, 0}},
    {1, {{3, {2, 5, 4}, -2, 2, 0}}, {{3, 2, 1, 2, 1, 0}, {0}, 0, 0}},
    {1, {{4, {1, 2, 3, 4}, -2, 2, 0}}, {{2, 3, 1, 1, 1, 1}, {0}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_max_pool1d = {.name = "max_pool1d",
                                .equation = "y_p = max_k x[p s + k - q]",
                                .kind = TL_COMPOSED,
                                .attributes = "kernel=i0 stride=i1 padding=i2",
                                .least = 1,
                                .most = 1,
                                .compose = max_pool1d_compose,
                                .samples = pool1d_samples};

const tl_op tl_op_max_pool2d = {.name = "max_pool2d",
                                .equation = "y_p = max_k x[p s + k - q]",
                                .kind = TL_COMPOSED,
                                .attributes = "kernel=i0:2 stride=i2:2 padding=i4:2",
                                .least = 1,
                                .most = 1,
                                .compose = max_pool2d_compose,
                                .samples = pool2d_samples};

const tl_op tl_op_avg_pool1d = {.name = "avg_pool1d",
                                .equation = "y_p = mean_k x[p s + k - q]",
                                .kind = TL_COMPOSED,
                                .attributes = "kernel=i0 stride=i1 padding=i2",
                                .least = 1,
                                .most = 1,
                                .compose = avg_pool1d_compose,
                                .samples = pool1d_samples};

const tl_op tl_op_avg_pool2d = {.name = "avg_pool2d",
                                .equation = "y_p = mean_k x[p s + k - q]",
                                .kind = TL_COMPOSED,
                                .attributes = "kernel=i0:2 stride=i2:2 padding=i4:2",
                                .least = 1,
                                .most = 1,
                                .compose = avg_pool2d_compose,
                                .samples = pool2d_samples};

static tl_var pool1d(tl_tape *t, const tl_op *op, tl_var x, int64_t kernel, int64_t stride,
                     int64_t padding)
{
    return tl_apply(t, op, 1, &x, &(tl_attr){.i = {kernel, stride, padding}});
}

static tl_var pool2d(tl_tape *t, const tl_op *op, tl_var x, const int64_t *kernel,
                     const int64_t *stride, const int64_t *padding)
{
    return tl_apply(
        t, op, 1, &x,
        &(tl_attr){.i = {kernel[0], kernel[1], stride[0], stride[1], padding[0], padding[1]}});
}

tl_var tl_max_pool1d(tl_tape *t, tl_var x, int64_t kernel, int64_t stride, int64_t padding)
{
    return pool1d(t, &tl_op_max_pool1d, x, kernel, stride, padding);
}

tl_var tl_max_pool2d(tl_tape *t, tl_var x, const int64_t kernel[2], const int64_t stride[2],
                     const int64_t padding[2])
{
    return pool2d(t, &tl_op_max_pool2d, x, kernel, stride, padding);
}

tl_var tl_avg_pool1d(tl_tape *t, tl_var x, int64_t kernel, int64_t stride, int64_t padding)
{
    return pool1d(t, &tl_op_avg_pool1d, x, kernel, stride, padding);
}

tl_var tl_avg_pool2d(tl_tape *t, tl_var x, const int64_t kernel[2], const int64_t stride[2],
                     const int64_t padding[2])
{
    return pool2d(t, &tl_op_avg_pool2d, x, kernel, stride, padding);
}
