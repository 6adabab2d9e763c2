/* op_loss.c - losses: a number that says how far off the outputs are. */
#include "autograd/ops.h"

#include <math.h>
#include <string.h>

#include "tensor/kernels.h"

static int64_t row_length(const tl_layout *layout)
{
    return layout->shape[layout->ndim - 1];
}

static tl_var sum_last(tl_tape *t, tl_var x)
{
    int last = -1;
    return tl_sum_axes(t, x, 1, &last, true);
}

/* ---- cross_entropy: logits x [..,C], target k [..], flag = tl_reduction ----------------
 *
 *   l_r = log sum_c exp x_rc - x_rk;   y = mean, sum, or each of the l_r */

static int64_t rows_of(const tl_layout *logits)
{
    int64_t n = 1;
    for (int k = 0; k + 1 < logits->ndim; k++)
        n *= logits->shape[k];
    return n;
}

static bool targets_fit(tl_call *c, int logits, int target)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    tl_layout rows = *c->x[logits].layout;
    if (!tl_dtype_is_real(c->x[logits].dtype))
        return tl_call_fail(c, TL_ERR_DTYPE, "logits must be f32 or f64, not %s",
                            tl_dtype_name(c->x[logits].dtype));
    if (c->x[target].dtype != TL_I64)
        return tl_call_fail(c, TL_ERR_DTYPE, "targets must be i64, not %s",
                            tl_dtype_name(c->x[target].dtype));
    if (c->attr->flag < TL_REDUCE_MEAN || c->attr->flag > TL_REDUCE_NONE)
        return tl_call_fail(c, TL_ERR_ARGUMENT, "there is no reduction %d", c->attr->flag);
    rows.ndim--;
    if (rows.ndim < 0 || !tl_layout_same_shape(&rows, c->x[target].layout))
        return tl_call_fail(c, TL_ERR_SHAPE, "one target for each row of the logits: %s, targets %s",
                            tl_layout_text(c->x[logits].layout, a),
                            tl_layout_text(c->x[target].layout, b));
    return true;
}

static bool targets_in_range(tl_call *c, int target, int64_t classes)
{
    const int64_t *k = c->x[target].data;
    for (int64_t r = 0; r < c->x[target].layout->count; r++)
        if (k[r] < 0 || k[r] >= classes)
            return tl_call_fail(c, TL_ERR_INDEX,
                                "target %lld at row %lld is not one of the %lld classes",
                                (long long)k[r], (long long)r, (long long)classes);
    return true;
}

static bool cross_entropy_shape(tl_call *c, tl_layout *layout)
{
    if (!targets_fit(c, 0, 1))
        return false;
    if (c->attr->flag == TL_REDUCE_NONE)
        return tl_layout_make(layout, c->x[1].layout->ndim, c->x[1].layout->shape) == TL_OK;
    return tl_layout_make(layout, 0, NULL) == TL_OK;
}

static double read_real(tl_dtype dtype, const void *data, int64_t i)
{
    return dtype == TL_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

static void write_real(tl_dtype dtype, void *data, int64_t i, double value)
{
    if (dtype == TL_F32)
        ((float *)data)[i] = (float)value;
    else
        ((double *)data)[i] = value;
}

static void cross_entropy_forward(tl_call *c)
{
    int64_t n = row_length(c->x[0].layout), rows = rows_of(c->x[0].layout);
    int64_t bytes = n * (int64_t)tl_dtype_size(c->y.dtype);
    const int64_t *target = c->x[1].data;
    double total = 0;
    if (!targets_in_range(c, 1, n))
        return;
    for (int64_t r = 0; r < rows; r++) {
        const void *x = (const char *)c->x[0].data + r * bytes;
        double largest, log_sum = tl_softmax_row(c->y.dtype, n, x, NULL, &largest);
        double loss = log_sum - (read_real(c->y.dtype, x, target[r]) - largest);
        total += loss;
        if (c->attr->flag == TL_REDUCE_NONE)
            write_real(c->y.dtype, c->y.data, r, loss);
    }
    if (c->attr->flag != TL_REDUCE_NONE)
        write_real(c->y.dtype, c->y.data, 0,
                   c->attr->flag == TL_REDUCE_MEAN ? total / (double)rows : total);
}

static tl_var cross_entropy_grad(tl_tape *t, tl_var g, tl_var logits, tl_var target, int reduction)
{
    tl_var in[3] = {g, logits, target};
    return tl_apply(t, &tl_op_cross_entropy_grad, 3, in, &(tl_attr){.flag = reduction});
}

static void cross_entropy_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = cross_entropy_grad(c->tape, dy, c->in[0], c->in[1], c->attr->flag);
}

static const tl_sample cross_entropy_samples[] = {
    {2, {{2, {3, 5}, -2, 2, 0}, {1, {3}, 0, 0, 5}}, {{0}, {0}, 0, TL_REDUCE_MEAN}},
    {2, {{3, {2, 3, 4}, -2, 2, 0}, {2, {2, 3}, 0, 0, 4}}, {{0}, {0}, 0, TL_REDUCE_SUM}},
    {2, {{2, {3, 5}, -2, 2, 0}, {1, {3}, 0, 0, 5}}, {{0}, {0}, 0, TL_REDUCE_NONE}},
    TL_SAMPLES_END};

const tl_op tl_op_cross_entropy = {.name = "cross_entropy",
                                   .equation = "l = log sum_c exp x_c - x_k",
                                   .kind = TL_GENERAL,
                                   .attributes = "reduction=flag:mean,sum,none",
                                   .least = 2,
                                   .most = 2,
                                   .mixed = true,
                                   .dense = true,
                                   .shape = cross_entropy_shape,
                                   .forward = cross_entropy_forward,
                                   .vjp = cross_entropy_vjp,
                                   .samples = cross_entropy_samples};

tl_var tl_cross_entropy(tl_tape *t, tl_var logits, tl_var target, tl_reduction reduction)
{
    tl_var in[2] = {logits, target};
    return tl_apply(t, &tl_op_cross_entropy, 2, in, &(tl_attr){.flag = (int32_t)reduction});
}

/* ---- cross_entropy_grad: g (one, or one a row), x [..,C], k [..] --------------------------
 *
 *   z_rc = w g_r (p_rc - [c = k_r]), p = softmax(x), w = 1/rows for the mean, else 1 */

static bool cross_entropy_grad_shape(tl_call *c, tl_layout *layout)
{
    char a[TL_LAYOUT_TEXT];
    if (!targets_fit(c, 1, 2))
        return false;
    if (c->x[0].dtype != c->x[1].dtype)
        return tl_call_fail(c, TL_ERR_DTYPE, "g is %s, the logits are %s", tl_dtype_name(c->x[0].dtype),
                            tl_dtype_name(c->x[1].dtype));
    bool each = c->attr->flag == TL_REDUCE_NONE;
    if (each ? !tl_layout_same_shape(c->x[0].layout, c->x[2].layout) : c->x[0].layout->ndim != 0)
        return tl_call_fail(c, TL_ERR_SHAPE, "g has shape %s", tl_layout_text(c->x[0].layout, a));
    return tl_layout_make(layout, c->x[1].layout->ndim, c->x[1].layout->shape) == TL_OK;
}

static double row_weight(const tl_call *c, int64_t rows)
{
    return c->attr->flag == TL_REDUCE_MEAN ? 1 / (double)rows : 1;
}

static void cross_entropy_grad_forward(tl_call *c)
{
    tl_dtype dtype = c->y.dtype;
    int64_t n = row_length(c->y.layout), rows = rows_of(c->y.layout),
            bytes = n * (int64_t)tl_dtype_size(dtype);
    const int64_t *target = c->x[2].data;
    double weight = row_weight(c, rows);
    if (!targets_in_range(c, 2, n))
        return;
    for (int64_t r = 0; r < rows; r++) {
        char *z = (char *)c->y.data + r * bytes;
        double largest;
        tl_softmax_row(dtype, n, (const char *)c->x[1].data + r * bytes, z, &largest);
        write_real(dtype, z, target[r], read_real(dtype, z, target[r]) - 1);
        tl_scale(dtype, n, z,
                 weight * read_real(dtype, c->x[0].data, c->attr->flag == TL_REDUCE_NONE ? r : 0));
    }
}

/* dg = sum_c dz_rc w (p_rc - [c = k_r]);   dx = w g_r p_rc (dz_rc - sum_c' dz_rc' p_rc') */
static void cross_entropy_grad_vjp(const tl_call *c, tl_var dz, tl_var *dx)
{
    tl_tape *t = c->tape;
    const tl_layout *g = c->x[0].layout, *x = c->x[1].layout;
    int64_t shape[TL_MAX_DIMS];
    if (tl_call_wants(c, 0)) {
        tl_var ones = tl_full(t, c->x[0].dtype, g->ndim, g->shape, 1);
        tl_var unit = cross_entropy_grad(t, ones, c->in[1], c->in[2], c->attr->flag);
        int last = -1;
        tl_var product = tl_mul(t, dz, unit);
        dx[0] = g->ndim ? tl_sum_axes(t, product, 1, &last, false) : tl_sum(t, product);
    }
    if (tl_call_wants(c, 1)) {
        tl_var p = tl_softmax(t, c->in[1]);
        tl_var centred = tl_sub(t, dz, sum_last(t, tl_mul(t, dz, p)));
        memcpy(shape, x->shape, sizeof shape);
        shape[x->ndim - 1] = 1;
        tl_var each = g->ndim ? tl_reshape(t, c->in[0], x->ndim, shape) : c->in[0];
        dx[1] = tl_affine(t, tl_mul(t, tl_mul(t, p, centred), each), row_weight(c, rows_of(x)), 0);
    }
}

static const tl_sample cross_entropy_grad_samples[] = {
    {3, {{0, {0}, -2, 2, 0}, {2, {3, 5}, -2, 2, 0}, {1, {3}, 0, 0, 5}}, {{0}, {0}, 0, TL_REDUCE_MEAN}},
    {3, {{1, {3}, -2, 2, 0}, {2, {3, 5}, -2, 2, 0}, {1, {3}, 0, 0, 5}}, {{0}, {0}, 0, TL_REDUCE_NONE}},
    TL_SAMPLES_END};

const tl_op tl_op_cross_entropy_grad = {.name = "cross_entropy_grad",
                                        .equation = "z_c = g (softmax(x)_c - [c = k])",
                                        .kind = TL_GENERAL,
                                        .attributes = "reduction=flag:mean,sum,none",
                                        .least = 3,
                                        .most = 3,
                                        .mixed = true,
                                        .dense = true,
                                        .shape = cross_entropy_grad_shape,
                                        .forward = cross_entropy_grad_forward,
                                        .vjp = cross_entropy_grad_vjp,
                                        .samples = cross_entropy_grad_samples};

/* ---- mse: a composition ----------------------------------------------------------------- */

tl_var tl_mse(tl_tape *t, tl_var a, tl_var b, tl_reduction reduction)
{
    tl_var square = tl_square(t, tl_sub(t, a, b));
    return reduction == TL_REDUCE_MEAN  ? tl_mean(t, square)
           : reduction == TL_REDUCE_SUM ? tl_sum(t, square)
                                        : square;
}
