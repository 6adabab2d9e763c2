/* op_neural.c - layers without parameters of their own: softmax, dropout, normalisations, attention.
 *
 * What is written here as a composition has every derivative that its primitives have. */
#include "autograd/ops.h"

#include <math.h>

#include "autograd/dims.h"
#include "tensor/kernels.h"

static bool like_x(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    char shape[TL_LAYOUT_TEXT];
    if (x->ndim == 0)
        return tl_call_fail(c, TL_ERR_SHAPE, "wants at least one dimension, not %s",
                            tl_layout_text(x, shape));
    return tl_layout_make(layout, x->ndim, x->shape) == TL_OK;
}

static int64_t row_length(const tl_layout *layout)
{
    return layout->shape[layout->ndim - 1];
}

static tl_var sum_last(tl_tape *t, tl_var x)
{
    int last = -1;
    return tl_sum_axes(t, x, 1, &last, true);
}

static const tl_sample rows_of_reals[] = {{1, {{2, {3, 4}, -2, 2, 0}}, TL_NO_ATTR},
                                          {1, {{1, {5}, -2, 2, 0}}, TL_NO_ATTR},
                                          {1, {{3, {2, 3, 4}, -2, 2, 0}}, TL_NO_ATTR},
                                          TL_SAMPLES_END};

/* ---- softmax: y_i = exp x_i / sum_j exp x_j, along the last dimension ------------------- */

static void softmax_forward(tl_call *c)
{
    int64_t n = row_length(c->y.layout), bytes = n * (int64_t)tl_dtype_size(c->y.dtype);
    double largest;
    for (int64_t r = 0; n && r < c->y.layout->count / n; r++)
        tl_softmax_row(c->y.dtype, n, (const char *)c->x[0].data + r * bytes,
                       (char *)c->y.data + r * bytes, &largest);
}

/* dx = y (dy - sum_j dy_j y_j) */
static void softmax_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    tl_tape *t = c->tape;
    tl_var mean = sum_last(t, tl_mul(t, dy, c->out));
    dx[0] = tl_mul(t, c->out, tl_sub(t, dy, mean));
}

const tl_op tl_op_softmax = {.name = "softmax",
                             .equation = "y_i = exp x_i / sum_j exp x_j",
                             .kind = TL_GENERAL,
                             .least = 1,
                             .most = 1,
                             .dense = true,
                             .shape = like_x,
                             .forward = softmax_forward,
                             .vjp = softmax_vjp,
                             .samples = rows_of_reals};

tl_var tl_softmax(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_softmax, 1, &x, NULL);
}

/* ---- log_softmax: y_i = x_i - log sum_j exp x_j ----------------------------------------- */

static void log_softmax_forward(tl_call *c)
{
    int64_t n = row_length(c->y.layout), bytes = n * (int64_t)tl_dtype_size(c->y.dtype);
    for (int64_t r = 0; n && r < c->y.layout->count / n; r++) {
        const void *x = (const char *)c->x[0].data + r * bytes;
        const void *y = (char *)c->y.data + r * bytes;
        double largest, log_sum = tl_softmax_row(c->y.dtype, n, x, NULL, &largest);
        tl_kernel_affine[c->y.dtype](n, &x, (void *)y, (const double[2]){1, -largest});
        tl_kernel_affine[c->y.dtype](n, &y, (void *)y, (const double[2]){1, -log_sum});
    }
}

/* dx = dy - softmax(x) sum_j dy_j,  softmax = exp y */
static void log_softmax_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    tl_tape *t = c->tape;
    dx[0] = tl_sub(t, dy, tl_mul(t, tl_exp(t, c->out), sum_last(t, dy)));
}

const tl_op tl_op_log_softmax = {.name = "log_softmax",
                                 .equation = "y_i = x_i - log sum_j exp x_j",
                                 .kind = TL_GENERAL,
                                 .least = 1,
                                 .most = 1,
                                 .dense = true,
                                 .shape = like_x,
                                 .forward = log_softmax_forward,
                                 .vjp = log_softmax_vjp,
                                 .samples = rows_of_reals};

tl_var tl_log_softmax(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_log_softmax, 1, &x, NULL);
}

/* Any dimension: it is brought to the end, and back. */
static tl_var along(tl_tape *t, const tl_op *op, tl_var x, int dim)
{
    tl_array a;
    if (!array_of(t, x, &a) || !find_dim(t, op->name, a.layout, 0, &dim))
        return tl_poison(t);
    tl_var last = tl_transpose(t, x, dim, -1);
    return tl_transpose(t, tl_apply(t, op, 1, &last, NULL), dim, -1);
}

tl_var tl_softmax_dim(tl_tape *t, tl_var x, int dim)
{
    return along(t, &tl_op_softmax, x, dim);
}

tl_var tl_log_softmax_dim(tl_tape *t, tl_var x, int dim)
{
    return along(t, &tl_op_log_softmax, x, dim);
}

/* ---- dropout: f0 = p, i0 = seed; y_i = m_i x_i / (1 - p), m_i = 1 with probability 1 - p -----
 *
 * m is a function of (seed, i) alone, i counting row-major: element i gets word i % 4 of Philox's block
 * i / 4. So nothing is stored for the derivative, which is the same op on dy.
 * Srivastava et al., "Dropout", JMLR 2014; the scale makes up for what is dropped in training. */

static bool dropout_shape(tl_call *c, tl_layout *layout)
{
    double p = c->attr->f[0];
    if (!(p >= 0 && p <= 1)) /* NaN too */
        return tl_call_fail(c, TL_ERR_ARGUMENT, "%g is not a probability", p);
    return tl_layout_make(layout, c->x[0].layout->ndim, c->x[0].layout->shape) == TL_OK;
}

static void keep_some(tl_dtype dtype, const void *x, void *y, int64_t i, bool keep, double scale)
{
    if (dtype == TL_F32)
        ((float *)y)[i] = keep ? ((const float *)x)[i] * (float)scale : 0;
    else
        ((double *)y)[i] = keep ? ((const double *)x)[i] * scale : 0;
}

static void dropout_forward(tl_call *c)
{
    enum { WORDS = 4, FOR_DROPOUT = 2 }; /* the third word of the counter: see tensor/random.c */
    const uint64_t seed = (uint64_t)c->attr->i[0];
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const double p = c->attr->f[0], bound = p * 0x1p32, scale = 1 / (1 - p);
    for (int64_t i = 0; i < c->y.layout->count; i += WORDS) {
        const uint64_t block = (uint64_t)i / WORDS;
        uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), FOR_DROPOUT, 0}, word[WORDS];
        tl_philox4x32(counter, key, word);
        for (int64_t k = 0; k < WORDS && i + k < c->y.layout->count; k++)
            keep_some(c->y.dtype, c->x[0].data, c->y.data, i + k, word[k] >= bound, scale);
    }
}

static void dropout_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_apply(c->tape, &tl_op_dropout, 1, &dy, c->attr);
}

static const tl_sample dropout_samples[] = {{1, {{2, {3, 5}, -2, 2, 0}}, {{7}, {0.5}, 0, 0}},
                                            {1, {{1, {13}, -2, 2, 0}}, {{-3}, {0.25}, 0, 0}},
                                            {1, {{0, {0}, -2, 2, 0}}, {{1}, {0}, 0, 0}},
                                            {1, {{3, {2, 3, 4}, -2, 2, 0}}, {{1}, {1}, 0, 0}},
                                            TL_SAMPLES_END};

const tl_op tl_op_dropout = {.name = "dropout",
                             .equation = "y_i = m_i x_i / (1 - p), P(m_i = 1) = 1 - p",
                             .kind = TL_LINEAR,
                             .attributes = "p=f0 seed=i0",
                             .least = 1,
                             .most = 1,
                             .dense = true,
                             .shape = dropout_shape,
                             .forward = dropout_forward,
                             .vjp = dropout_vjp,
                             .samples = dropout_samples};

tl_var tl_dropout(tl_tape *t, tl_var x, double p)
{
    tl_random *random = tl_tape_random(t);
    if (p == 0)
        return x;
    uint64_t low = tl_random_u32(random), high = tl_random_u32(random);
    tl_attr attr = {.i = {(int64_t)(high << 32 | low)}, .f = {p}};
    return tl_apply(t, &tl_op_dropout, 1, &x, &attr);
}

/* ---- layer_norm, rms_norm: x [.., D], i0 = how many dimensions D is, weight and bias of shape D,
 *      f0 = eps ------------------------------------------------------------------------------ */

/* Operand k has the last `dims` sizes of x. */
static bool has_last_sizes(const tl_call *c, int k, int dims)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    const tl_layout *x = c->x[0].layout, *w = c->x[k].layout;
    bool fits = w->ndim == dims;
    for (int d = 0; fits && d < dims; d++)
        fits = w->shape[d] == x->shape[x->ndim - dims + d];
    return fits ||
           tl_call_fail(c, TL_ERR_SHAPE, "operand %d must be of the last %d sizes of %s, not %s", k,
                        dims, tl_layout_text(x, a), tl_layout_text(w, b));
}

static bool norm_fits(const tl_call *c)
{
    char text[TL_LAYOUT_TEXT];
    const tl_layout *x = c->x[0].layout;
    if (c->attr->i[0] < 1 || c->attr->i[0] > x->ndim)
        return tl_call_fail(c, TL_ERR_ARGUMENT, "%s has no %lld dimensions to normalise over",
                            tl_layout_text(x, text), (long long)c->attr->i[0]);
    for (int k = 1; k < c->count; k++)
        if (!has_last_sizes(c, k, (int)c->attr->i[0]))
            return false;
    return true;
}

/* The mean over the last dims, which stay as sizes of 1. */
static tl_var mean_last(tl_tape *t, tl_var x, int64_t dims)
{
    int axes[TL_MAX_DIMS];
    for (int k = 0; k < dims; k++)
        axes[k] = k - (int)dims;
    return tl_mean_axes(t, x, (int)dims, axes, true);
}

/* x weight + bias, of which the operands from `first` on may be missing. */
static tl_var scale_and_shift(const tl_call *c, tl_var x, int first)
{
    if (c->count > first)
        x = tl_mul(c->tape, x, c->in[first]);
    return c->count > first + 1 ? tl_add(c->tape, x, c->in[first + 1]) : x;
}

/* y = (x - m) / sqrt(v + eps) weight + bias;  m, v: mean and (biased) variance over D */
static tl_var layer_norm_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    if (!norm_fits(c))
        return tl_poison(t);
    tl_var centred = tl_sub(t, c->in[0], mean_last(t, c->in[0], c->attr->i[0]));
    tl_var variance = mean_last(t, tl_square(t, centred), c->attr->i[0]);
    tl_var y = tl_mul(t, centred, tl_rsqrt(t, tl_affine(t, variance, 1, c->attr->f[0])));
    return scale_and_shift(c, y, 1);
}

static const tl_sample layer_norm_samples[] = {
    {1, {{2, {3, 5}, -2, 2, 0}}, {{1}, {1e-5}, 0, 0}},
    {2, {{3, {2, 3, 4}, -2, 2, 0}, {2, {3, 4}, -2, 2, 0}}, {{2}, {1e-5}, 0, 0}},
    {3, {{2, {3, 5}, -2, 2, 0}, {1, {5}, -2, 2, 0}, {1, {5}, -2, 2, 0}}, {{1}, {0.1}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_layer_norm = {.name = "layer_norm",
                                .equation = "y = (x - mean x) / sqrt(var x + eps) w + b",
                                .kind = TL_COMPOSED,
                                .attributes = "dims=i0 eps=f0",
                                .least = 1,
                                .most = 3,
                                .compose = layer_norm_compose,
                                .samples = layer_norm_samples};

tl_var tl_layer_norm(tl_tape *t, tl_var x, int dims, tl_var weight, tl_var bias, double eps)
{
    tl_var in[3] = {x, weight, bias};
    return tl_apply(t, &tl_op_layer_norm, 3, in, &(tl_attr){.i = {dims}, .f = {eps}});
}

/* y = x / sqrt(mean x^2 + eps) weight */
static tl_var rms_norm_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    if (!norm_fits(c))
        return tl_poison(t);
    tl_var power = mean_last(t, tl_square(t, c->in[0]), c->attr->i[0]);
    tl_var y = tl_mul(t, c->in[0], tl_rsqrt(t, tl_affine(t, power, 1, c->attr->f[0])));
    return scale_and_shift(c, y, 1);
}

static const tl_sample rms_norm_samples[] = {
    {1, {{2, {3, 5}, -2, 2, 0}}, {{1}, {1e-5}, 0, 0}},
    {2, {{3, {2, 3, 4}, -2, 2, 0}, {1, {4}, -2, 2, 0}}, {{1}, {1e-5}, 0, 0}},
    {2, {{3, {2, 3, 4}, -2, 2, 0}, {2, {3, 4}, -2, 2, 0}}, {{2}, {0.1}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_rms_norm = {.name = "rms_norm",
                              .equation = "y = x / sqrt(mean x^2 + eps) w",
                              .kind = TL_COMPOSED,
                              .attributes = "dims=i0 eps=f0",
                              .least = 1,
                              .most = 2,
                              .compose = rms_norm_compose,
                              .samples = rms_norm_samples};

tl_var tl_rms_norm(tl_tape *t, tl_var x, int dims, tl_var weight, double eps)
{
    tl_var in[2] = {x, weight};
    return tl_apply(t, &tl_op_rms_norm, 2, in, &(tl_attr){.i = {dims}, .f = {eps}});
}

/* ---- batch_norm: x [N,C,..]; flag: mean, var [C] are given; weight, bias [C]; f0 = eps ---------
 *
 *   y = (x - m) / sqrt(v + eps) weight + bias;  m, v: of each channel over the rest, or as given */

/* Operand k as [C,1,..], so that it broadcasts along x's channels. */
static tl_var by_channel(const tl_call *c, int k)
{
    int64_t shape[TL_MAX_DIMS] = {c->x[0].layout->shape[1], 1, 1, 1, 1, 1, 1, 1};
    return tl_reshape(c->tape, c->in[k], c->x[0].layout->ndim - 1, shape);
}

static bool batch_norm_fits(const tl_call *c)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    const tl_layout *x = c->x[0].layout;
    if (x->ndim < 2)
        return tl_call_fail(c, TL_ERR_SHAPE, "wants [N,C,..], not %s", tl_layout_text(x, a));
    if (c->attr->flag && c->count < 3)
        return tl_call_fail(c, TL_ERR_ARGUMENT, "mean and variance are to be given");
    if (!c->attr->flag && c->count > 3)
        return tl_call_fail(c, TL_ERR_ARGUMENT, "%d operands, but no mean and variance are to be given",
                            c->count);
    for (int k = 1; k < c->count; k++)
        if (c->x[k].layout->ndim != 1 || c->x[k].layout->shape[0] != x->shape[1])
            return tl_call_fail(c, TL_ERR_SHAPE, "operand %d must be of the channels of %s, not %s", k,
                                tl_layout_text(x, a), tl_layout_text(c->x[k].layout, b));
    return true;
}

static tl_var batch_norm_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    if (!batch_norm_fits(c))
        return tl_poison(t);
    bool given = c->attr->flag;
    const int axes[TL_MAX_DIMS] = {0, 2, 3, 4, 5, 6, 7}, ndim = c->x[0].layout->ndim;
    tl_var mean = given ? by_channel(c, 1) : tl_mean_axes(t, c->in[0], ndim - 1, axes, true);
    tl_var centred = tl_sub(t, c->in[0], mean);
    tl_var variance =
        given ? by_channel(c, 2) : tl_mean_axes(t, tl_square(t, centred), ndim - 1, axes, true);
    tl_var y = tl_mul(t, centred, tl_rsqrt(t, tl_affine(t, variance, 1, c->attr->f[0])));
    int weight = given ? 3 : 1;
    if (c->count > weight)
        y = tl_mul(t, y, by_channel(c, weight));
    return c->count > weight + 1 ? tl_add(t, y, by_channel(c, weight + 1)) : y;
}

static const tl_sample batch_norm_samples[] = {
    {1, {{2, {5, 3}, -2, 2, 0}}, {{0}, {1e-5}, 0, 0}},
    {3, {{3, {2, 3, 4}, -2, 2, 0}, {1, {3}, -2, 2, 0}, {1, {3}, -2, 2, 0}}, {{0}, {1e-5}, 0, 0}},
    {3, {{2, {5, 3}, -2, 2, 0}, {1, {3}, -2, 2, 0}, {1, {3}, 0.5, 2, 0}}, {{0}, {1e-5}, 0, 1}},
    {5,
     {{4, {2, 3, 1, 4}, -2, 2, 0},
      {1, {3}, -2, 2, 0},
      {1, {3}, 0.5, 2, 0},
      {1, {3}, -2, 2, 0},
      {1, {3}, -2, 2, 0}},
     {{0}, {0.1}, 0, 1}},
    TL_SAMPLES_END};

const tl_op tl_op_batch_norm = {.name = "batch_norm",
                                .equation = "y = (x - m) / sqrt(v + eps) w + b",
                                .kind = TL_COMPOSED,
                                .attributes = "given=flag eps=f0",
                                .least = 1,
                                .most = 5,
                                .compose = batch_norm_compose,
                                .samples = batch_norm_samples};

tl_var tl_batch_norm(tl_tape *t, tl_var x, tl_var weight, tl_var bias, tl_var mean, tl_var variance,
                     double eps)
{
    bool given = !tl_is_none(mean) || !tl_is_none(variance);
    tl_var in[5] = {x, mean, variance, weight, bias}, own[3] = {x, weight, bias};
    return tl_apply(t, &tl_op_batch_norm, given ? 5 : 3, given ? in : own,
                    &(tl_attr){.f = {eps}, .flag = given});
}

/* ---- scaled_dot_product_attention: q [..,L,E], k [..,S,E], v [..,S,V], mask u8 to [..,L,S] ------
 *
 *   y = softmax(f0 q k') v,  over those keys that the mask (or, with flag, l >= s) lets take part;
 *   y = 0 where none may.  f0 = 0: 1 / sqrt E.
 *
 * What may not take part gets a large negative finite number instead of -inf, and 0 after the softmax:
 * a row without any key then has neither a NaN nor a gradient. */

static bool is_mask(const tl_call *c, int k)
{
    return c->x[k].dtype == TL_U8 || tl_call_fail(c, TL_ERR_DTYPE, "operand %d is %s, not a mask (u8)",
                                                  k, tl_dtype_name(c->x[k].dtype));
}

static bool heads_fit(const tl_call *c)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT], d[TL_LAYOUT_TEXT];
    const tl_layout *q = c->x[0].layout, *k = c->x[1].layout, *v = c->x[2].layout;
    bool fits = q->ndim >= 2 && k->ndim >= 2 && v->ndim >= 2 &&
                q->shape[q->ndim - 1] == k->shape[k->ndim - 1] &&
                k->shape[k->ndim - 2] == v->shape[v->ndim - 2];
    return fits ||
           tl_call_fail(c, TL_ERR_SHAPE, "wants [..,L,E], [..,S,E] and [..,S,V], not %s, %s and %s",
                        tl_layout_text(q, a), tl_layout_text(k, b), tl_layout_text(v, d));
}

static bool attention_fits(const tl_call *c)
{
    for (int k = 0; k < 3; k++)
        if (!tl_dtype_is_real(c->x[k].dtype) || c->x[k].dtype != c->x[0].dtype)
            return tl_call_fail(c, TL_ERR_DTYPE, "wants reals of one dtype, not %s and %s",
                                tl_dtype_name(c->x[0].dtype), tl_dtype_name(c->x[k].dtype));
    if (c->count > 3 && !is_mask(c, 3))
        return false;
    if (c->count > 3 && c->attr->flag)
        return tl_call_fail(c, TL_ERR_ARGUMENT, "a mask and causal exclude each other");
    return heads_fit(c);
}

/* [L,S]: s <= l */
static tl_var causal_mask(tl_tape *t, int64_t length, int64_t keys)
{
    int64_t shape[2] = {length, keys};
    uint8_t *mask = tl_scratch(t, (size_t)(length * keys) + 1);
    if (!mask)
        return tl_poison(t);
    for (int64_t l = 0; l < length; l++)
        for (int64_t s = 0; s < keys; s++)
            mask[l * keys + s] = s <= l;
    return tl_constant_from(t, TL_U8, 2, shape, mask);
}

static tl_var attention_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    if (!attention_fits(c))
        return tl_poison(t);
    const tl_layout *q = c->x[0].layout, *k = c->x[1].layout;
    double scale = c->attr->f[0] != 0 ? c->attr->f[0] : 1 / sqrt((double)row_length(q));
    tl_var scores = tl_matmul(t, tl_affine(t, c->in[0], scale, 0), tl_transpose(t, c->in[1], -1, -2));
    tl_var mask = c->count > 3    ? c->in[3]
                  : c->attr->flag ? causal_mask(t, q->shape[q->ndim - 2], k->shape[k->ndim - 2])
                                  : TL_NONE;
    if (tl_is_none(mask))
        return tl_matmul(t, tl_softmax(t, scores), c->in[2]);
    tl_var lowest = tl_full(t, c->x[0].dtype, 0, NULL, -1e30),
           zero = tl_full(t, c->x[0].dtype, 0, NULL, 0);
    tl_var p = tl_softmax(t, tl_where(t, mask, scores, lowest));
    return tl_matmul(t, tl_where(t, mask, p, zero), c->in[2]);
}

static const tl_sample attention_samples[] = {
    {3, {{2, {3, 4}, -2, 2, 0}, {2, {5, 4}, -2, 2, 0}, {2, {5, 2}, -2, 2, 0}}, TL_NO_ATTR},
    {3,
     {{3, {2, 3, 4}, -2, 2, 0}, {3, {2, 5, 4}, -2, 2, 0}, {3, {2, 5, 3}, -2, 2, 0}},
     {{0}, {0.3}, 0, 1}},
    {4,
     {{4, {2, 3, 4, 2}, -2, 2, 0},
      {3, {3, 5, 2}, -2, 2, 0},
      {2, {5, 3}, -2, 2, 0},
      {2, {4, 5}, 0, 0, -1}},
     TL_NO_ATTR},
    TL_SAMPLES_END};

const tl_op tl_op_scaled_dot_product_attention = {.name = "scaled_dot_product_attention",
                                                  .equation = "y = softmax(scale q k') v",
                                                  .kind = TL_COMPOSED,
                                                  .attributes = "scale=f0 causal=flag",
                                                  .least = 3,
                                                  .most = 4,
                                                  .mixed = true,
                                                  .compose = attention_compose,
                                                  .samples = attention_samples};

tl_var tl_scaled_dot_product_attention(tl_tape *t, tl_var q, tl_var k, tl_var v, tl_var mask,
                                       bool causal, double scale)
{
    tl_var in[4] = {q, k, v, mask};
    return tl_apply(t, &tl_op_scaled_dot_product_attention, 4, in,
                    &(tl_attr){.f = {scale}, .flag = causal});
}

/* ---- cosine_similarity: i0 = dim of the broadcast shape, f0 = eps -------------------------------
 *
 *   y = a . b / (max(|a|, eps) max(|b|, eps)) */

/* x / max(|x|, eps); the root is taken of what is bounded, so that its derivative is finite at 0. */
static tl_var unit_vectors(tl_tape *t, tl_var x, int dim, double eps)
{
    tl_var square = tl_sum_axes(t, tl_square(t, x), 1, &dim, true);
    return tl_mul(t, x, tl_rsqrt(t, tl_clamp(t, square, eps * eps, (double)INFINITY)));
}

static tl_var cosine_similarity_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    tl_layout wide;
    const int64_t dim = c->attr->i[0];
    if (!tl_layout_broadcast(c->x[0].layout, c->x[1].layout, &wide))
        tl_call_fail(c, TL_ERR_SHAPE, "shapes cannot be broadcast: %s and %s",
                     tl_layout_text(c->x[0].layout, a), tl_layout_text(c->x[1].layout, b));
    else if (dim < 0 || dim >= wide.ndim)
        tl_call_fail(c, TL_ERR_INDEX, "there is no dimension %lld in %s", (long long)dim,
                     tl_layout_text(&wide, a));
    if (tl_tape_status(t) != TL_OK)
        return tl_poison(t);
    tl_var unit[2];
    for (int k = 0; k < 2; k++)
        unit[k] =
            unit_vectors(t, tl_expand(t, c->in[k], wide.ndim, wide.shape), (int)dim, c->attr->f[0]);
    return tl_sum_axes(t, tl_mul(t, unit[0], unit[1]), 1, &(int){(int)dim}, false);
}

static const tl_sample cosine_similarity_samples[] = {
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, -2, 2, 0}}, {{1}, {1e-8}, 0, 0}},
    {2, {{3, {2, 3, 4}, -2, 2, 0}, {2, {3, 1}, 0.5, 2, 0}}, {{1}, {1e-8}, 0, 0}},
    {2, {{1, {5}, -2, 2, 0}, {2, {3, 5}, -2, 2, 0}}, {{0}, {1e-8}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_cosine_similarity = {.name = "cosine_similarity",
                                       .equation = "y = a . b / (max(|a|, eps) max(|b|, eps))",
                                       .kind = TL_COMPOSED,
                                       .attributes = "dim=i0 eps=f0",
                                       .least = 2,
                                       .most = 2,
                                       .compose = cosine_similarity_compose,
                                       .samples = cosine_similarity_samples};

tl_var tl_cosine_similarity(tl_tape *t, tl_var a, tl_var b, int dim, double eps)
{
    tl_var in[2] = {a, b};
    if (tl_tape_status(t) != TL_OK)
        return tl_poison(t);
    const tl_layout *x = tl_value(t, a).layout, *y = tl_value(t, b).layout;
    const int ndim = !x || !y ? 0 : x->ndim > y->ndim ? x->ndim : y->ndim;
    if (dim < 0 && dim >= -ndim)
        dim += ndim;
    return tl_apply(t, &tl_op_cosine_similarity, 2, in, &(tl_attr){.i = {dim}, .f = {eps}});
}
