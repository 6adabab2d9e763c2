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

static bool targets_fit(const tl_call *c, int logits, int target)
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

/* Targets that are *ignored need not be classes; NULL: all must. */
static bool targets_in_range(const tl_call *c, int target, int64_t classes, const int64_t *ignored)
{
    const int64_t *k = c->x[target].data;
    for (int64_t r = 0; r < c->x[target].layout->count; r++)
        if ((k[r] < 0 || k[r] >= classes) && !(ignored && k[r] == *ignored))
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
    if (!targets_in_range(c, 1, n, NULL))
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
    if (!targets_in_range(c, 2, n, NULL))
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

/* ---- losses that compare two arrays element by element: flag = tl_reduction ----------------- */

static bool reduction_exists(const tl_call *c)
{
    if (c->attr->flag >= TL_REDUCE_MEAN && c->attr->flag <= TL_REDUCE_NONE)
        return true;
    return tl_call_fail(c, TL_ERR_ARGUMENT, "there is no reduction %d", c->attr->flag);
}

/* Operands first .. count-1 can be broadcast; their common shape goes to `wide`, if not NULL. */
static bool broadcast_fits(const tl_call *c, int first, tl_layout *wide)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    tl_layout common = *c->x[first].layout;
    for (int k = first + 1; k < c->count; k++) {
        tl_layout wider;
        if (!tl_layout_broadcast(&common, c->x[k].layout, &wider))
            return tl_call_fail(c, TL_ERR_SHAPE, "shapes cannot be broadcast: %s and %s",
                                tl_layout_text(&common, a), tl_layout_text(c->x[k].layout, b));
        common = wider;
    }
    if (wide)
        *wide = common;
    return true;
}

static bool pair_fits(const tl_call *c)
{
    return reduction_exists(c) && broadcast_fits(c, 0, NULL);
}

static tl_var reduce(const tl_call *c, tl_var each)
{
    return c->attr->flag == TL_REDUCE_MEAN  ? tl_mean(c->tape, each)
           : c->attr->flag == TL_REDUCE_SUM ? tl_sum(c->tape, each)
                                            : each;
}

static const tl_sample pair_samples[] = {
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, -2, 2, 0}}, {{0}, {0.7}, 0, TL_REDUCE_MEAN}},
    {2, {{3, {2, 3, 1}, -2, 2, 0}, {1, {4}, -2, 2, 0}}, {{0}, {0.7}, 0, TL_REDUCE_SUM}},
    {2, {{1, {5}, -2, 2, 0}, {0, {0}, -2, 2, 0}}, {{0}, {1.3}, 0, TL_REDUCE_NONE}},
    TL_SAMPLES_END};

/* ---- mse: (a - b)^2 ----------------------------------------------------------------------- */

static tl_var mse_compose(const tl_call *c)
{
    if (!pair_fits(c))
        return tl_poison(c->tape);
    return reduce(c, tl_square(c->tape, tl_sub(c->tape, c->in[0], c->in[1])));
}

const tl_op tl_op_mse = {.name = "mse",
                         .equation = "l = (a - b)^2",
                         .kind = TL_COMPOSED,
                         .attributes = "reduction=flag:mean,sum,none",
                         .least = 2,
                         .most = 2,
                         .compose = mse_compose,
                         .samples = pair_samples};

tl_var tl_mse(tl_tape *t, tl_var a, tl_var b, tl_reduction reduction)
{
    tl_var in[2] = {a, b};
    return tl_apply(t, &tl_op_mse, 2, in, &(tl_attr){.flag = (int32_t)reduction});
}

/* ---- l1: |a - b| -------------------------------------------------------------------------- */

static tl_var l1_compose(const tl_call *c)
{
    if (!pair_fits(c))
        return tl_poison(c->tape);
    return reduce(c, tl_abs(c->tape, tl_sub(c->tape, c->in[0], c->in[1])));
}

const tl_op tl_op_l1 = {.name = "l1",
                        .equation = "l = |a - b|",
                        .kind = TL_COMPOSED,
                        .attributes = "reduction=flag:mean,sum,none",
                        .least = 2,
                        .most = 2,
                        .compose = l1_compose,
                        .samples = pair_samples};

tl_var tl_l1(tl_tape *t, tl_var a, tl_var b, tl_reduction reduction)
{
    tl_var in[2] = {a, b};
    return tl_apply(t, &tl_op_l1, 2, in, &(tl_attr){.flag = (int32_t)reduction});
}

/* ---- huber: f0 = delta; smooth_l1: f0 = beta ------------------------------------------------
 *
 *   huber(z) = z^2 / 2 where |z| <= delta, else delta (|z| - delta / 2);   z = a - b
 *            = k (z - k / 2),  k = clamp(z, -delta, delta)
 *   smooth_l1(z) = huber(z) / delta with delta = beta; |z| for beta = 0 */

static tl_var huber(const tl_call *c, double delta, double factor)
{
    tl_tape *t = c->tape;
    tl_var z = tl_sub(t, c->in[0], c->in[1]), k = tl_clamp(t, z, -delta, delta);
    tl_var each = tl_mul(t, tl_affine(t, k, factor, 0), tl_sub(t, z, tl_affine(t, k, 0.5, 0)));
    return reduce(c, each);
}

static tl_var huber_compose(const tl_call *c)
{
    double delta = c->attr->f[0];
    if (!(delta > 0))
        tl_call_fail(c, TL_ERR_ARGUMENT, "delta must be positive, not %g", delta);
    else if (pair_fits(c))
        return huber(c, delta, 1);
    return tl_poison(c->tape);
}

const tl_op tl_op_huber = {.name = "huber",
                           .equation = "l = z^2 / 2 if |z| <= delta, else delta (|z| - delta / 2)",
                           .kind = TL_COMPOSED,
                           .attributes = "delta=f0 reduction=flag:mean,sum,none",
                           .least = 2,
                           .most = 2,
                           .compose = huber_compose,
                           .samples = pair_samples};

tl_var tl_huber(tl_tape *t, tl_var a, tl_var b, double delta, tl_reduction reduction)
{
    tl_var in[2] = {a, b};
    return tl_apply(t, &tl_op_huber, 2, in, &(tl_attr){.f = {delta}, .flag = (int32_t)reduction});
}

static tl_var smooth_l1_compose(const tl_call *c)
{
    double beta = c->attr->f[0];
    if (!(beta >= 0))
        tl_call_fail(c, TL_ERR_ARGUMENT, "beta must not be negative: %g", beta);
    else if (pair_fits(c))
        return beta > 0 ? huber(c, beta, 1 / beta) : l1_compose(c);
    return tl_poison(c->tape);
}

const tl_op tl_op_smooth_l1 = {.name = "smooth_l1",
                               .equation = "l = z^2 / (2 beta) if |z| < beta, else |z| - beta / 2",
                               .kind = TL_COMPOSED,
                               .attributes = "beta=f0 reduction=flag:mean,sum,none",
                               .least = 2,
                               .most = 2,
                               .compose = smooth_l1_compose,
                               .samples = pair_samples};

tl_var tl_smooth_l1(tl_tape *t, tl_var a, tl_var b, double beta, tl_reduction reduction)
{
    tl_var in[2] = {a, b};
    return tl_apply(t, &tl_op_smooth_l1, 2, in, &(tl_attr){.f = {beta}, .flag = (int32_t)reduction});
}

/* ---- hinge: f0 = margin; max(0, margin - x y), y = +-1 --------------------------------------- */

static tl_var hinge_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    if (!pair_fits(c))
        return tl_poison(t);
    return reduce(c, tl_relu(t, tl_affine(t, tl_mul(t, c->in[0], c->in[1]), -1, c->attr->f[0])));
}

const tl_op tl_op_hinge = {.name = "hinge",
                           .equation = "l = max(0, margin - x y)",
                           .kind = TL_COMPOSED,
                           .attributes = "margin=f0 reduction=flag:mean,sum,none",
                           .least = 2,
                           .most = 2,
                           .compose = hinge_compose,
                           .samples = pair_samples};

tl_var tl_hinge(tl_tape *t, tl_var x, tl_var y, double margin, tl_reduction reduction)
{
    tl_var in[2] = {x, y};
    return tl_apply(t, &tl_op_hinge, 2, in, &(tl_attr){.f = {margin}, .flag = (int32_t)reduction});
}

/* ---- bce: probabilities x, targets y in [0, 1], weight ----------------------------------------
 *
 *   l = -y max(log x, -100) - (1 - y) max(log(1 - x), -100)
 *
 * As PyTorch has it: the logarithms do not fall below -100, and the derivative is
 * dl/dx = (x - y) / max(x (1 - x), 1e-12), so that a sure mistake still has a gradient. */

static double log_not_below(double log_x)
{
    const double lowest = -100;
    return log_x < lowest ? lowest : log_x;
}

static bool first_shape(tl_call *c, tl_layout *layout)
{
    return tl_layout_make(layout, c->x[0].layout->ndim, c->x[0].layout->shape) == TL_OK;
}

static void bce_forward(tl_call *c)
{
    for (int64_t i = 0; i < c->y.layout->count; i++) {
        double x = read_real(c->y.dtype, c->x[0].data, i), y = read_real(c->y.dtype, c->x[1].data, i);
        if (!(x >= 0 && x <= 1)) { /* NaN too */
            tl_call_fail(c, TL_ERR_ARGUMENT, "%g at element %lld is not a probability", x,
                         (long long)i);
            return;
        }
        write_real(c->y.dtype, c->y.data, i,
                   -y * log_not_below(log(x)) - (1 - y) * log_not_below(log1p(-x)));
    }
}

/* In value the logs are bounded, in the target's derivative, as in PyTorch, they are not. */
static void bce_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    tl_tape *t = c->tape;
    const double least = (double)1e-12f; /* PyTorch rounds it so, in f64 too */
    tl_var x = c->in[0], y = c->in[1], rest = tl_affine(t, x, -1, 1);
    if (tl_call_wants(c, 0)) {
        tl_var spread = tl_clamp(t, tl_mul(t, x, rest), least, (double)INFINITY);
        dx[0] = tl_mul(t, dy, tl_div(t, tl_sub(t, x, y), spread));
    }
    if (tl_call_wants(c, 1))
        dx[1] = tl_mul(t, dy, tl_sub(t, tl_log(t, rest), tl_log(t, x)));
}

/* Two arrays of one shape; no reduction. */
static const tl_op bce_each = {.name = "bce",
                               .equation = "l = -y log x - (1 - y) log(1 - x)",
                               .kind = TL_GENERAL,
                               .least = 2,
                               .most = 2,
                               .dense = true,
                               .shape = first_shape,
                               .forward = bce_forward,
                               .vjp = bce_vjp};

static tl_var bce_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    tl_layout wide;
    tl_var in[2];
    if (!reduction_exists(c) || !broadcast_fits(c, 0, &wide))
        return tl_poison(t);
    for (int k = 0; k < 2; k++)
        in[k] = tl_expand(t, c->in[k], wide.ndim, wide.shape);
    tl_var each = tl_apply(t, &bce_each, 2, in, NULL);
    return reduce(c, c->count > 2 ? tl_mul(t, each, c->in[2]) : each);
}

static const tl_sample bce_samples[] = {
    {2, {{2, {3, 4}, 0.1, 0.9, 0}, {2, {3, 4}, 0, 1, 0}}, {{0}, {0}, 0, TL_REDUCE_MEAN}},
    {3,
     {{2, {3, 4}, 0.1, 0.9, 0}, {1, {4}, 0, 1, 0}, {2, {3, 1}, -2, 2, 0}},
     {{0}, {0}, 0, TL_REDUCE_SUM}},
    {2, {{1, {4}, 0.1, 0.9, 0}, {2, {3, 1}, 0, 1, 0}}, {{0}, {0}, 0, TL_REDUCE_NONE}},
    TL_SAMPLES_END};

const tl_op tl_op_bce = {.name = "bce",
                         .equation = "l = w (-y log x - (1 - y) log(1 - x))",
                         .kind = TL_COMPOSED,
                         .attributes = "reduction=flag:mean,sum,none",
                         .least = 2,
                         .most = 3,
                         .compose = bce_compose,
                         .samples = bce_samples};

tl_var tl_bce(tl_tape *t, tl_var x, tl_var target, tl_var weight, tl_reduction reduction)
{
    tl_var in[3] = {x, target, weight};
    return tl_apply(t, &tl_op_bce, 3, in, &(tl_attr){.flag = (int32_t)reduction});
}

/* ---- bce_with_logits: logits x, targets y, weight w, positive weight p --------------------------
 *
 *   l = w (y p softplus(-x) + (1 - y) softplus(x)),   softplus(-x) = -log sigmoid x */

static tl_var bce_with_logits_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    if (!pair_fits(c))
        return tl_poison(t);
    tl_var x = c->in[0], y = c->in[1];
    tl_var hit = tl_mul(t, y, tl_softplus(t, tl_neg(t, x)));
    tl_var miss = tl_mul(t, tl_affine(t, y, -1, 1), tl_softplus(t, x));
    tl_var each = tl_add(t, c->count > 3 ? tl_mul(t, hit, c->in[3]) : hit, miss);
    return reduce(c, c->count > 2 ? tl_mul(t, each, c->in[2]) : each);
}

static const tl_sample bce_with_logits_samples[] = {
    {2, {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, 0, 1, 0}}, {{0}, {0}, 0, TL_REDUCE_MEAN}},
    {3,
     {{2, {3, 4}, -2, 2, 0}, {1, {4}, 0, 1, 0}, {2, {3, 1}, -2, 2, 0}},
     {{0}, {0}, 0, TL_REDUCE_SUM}},
    {4,
     {{2, {3, 4}, -2, 2, 0}, {2, {3, 4}, 0, 1, 0}, {0, {0}, 1, 2, 0}, {1, {4}, 0.5, 3, 0}},
     {{0}, {0}, 0, TL_REDUCE_NONE}},
    TL_SAMPLES_END};

const tl_op tl_op_bce_with_logits = {.name = "bce_with_logits",
                                     .equation = "l = w (-p y log s(x) - (1 - y) log s(-x))",
                                     .kind = TL_COMPOSED,
                                     .attributes = "reduction=flag:mean,sum,none",
                                     .least = 2,
                                     .most = 4,
                                     .compose = bce_with_logits_compose,
                                     .samples = bce_with_logits_samples};

/* A weight that is missing before one that is given is 1. */
static tl_var or_one(tl_tape *t, tl_var like, tl_var weight)
{
    tl_array x = tl_value(t, like);
    return tl_is_none(weight) && x.layout ? tl_full(t, x.dtype, 0, NULL, 1) : weight;
}

tl_var tl_bce_with_logits(tl_tape *t, tl_var x, tl_var target, tl_var weight, tl_var pos_weight,
                          tl_reduction reduction)
{
    bool both = !tl_is_none(pos_weight);
    tl_var in[4] = {x, target, both ? or_one(t, x, weight) : weight, pos_weight};
    return tl_apply(t, &tl_op_bce_with_logits, 4, in, &(tl_attr){.flag = (int32_t)reduction});
}

/* ---- kl_div: log-probabilities x, probabilities y, or, with i0, their logarithms ------------------
 *
 *   l = y (log y - x), 0 where y = 0;   l = exp(y) (y - x) */

static tl_var divergence(const tl_call *c)
{
    tl_tape *t = c->tape;
    tl_var x = c->in[0], y = c->in[1];
    if (c->attr->i[0])
        return tl_mul(t, tl_exp(t, y), tl_sub(t, y, x));
    tl_var zero = tl_eq(t, y, tl_full(t, c->x[1].dtype, 0, NULL, 0));
    return tl_sub(t, tl_mul(t, y, tl_log(t, tl_masked_fill(t, y, zero, 1))), tl_mul(t, y, x));
}

static tl_var kl_div_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    char text[TL_LAYOUT_TEXT];
    tl_layout wide;
    bool per_batch = c->attr->flag == TL_REDUCE_BATCHMEAN;
    if ((!per_batch && !reduction_exists(c)) || !broadcast_fits(c, 0, &wide))
        return tl_poison(t);
    if (!per_batch)
        return reduce(c, divergence(c));
    if (c->x[0].layout->ndim == 0) {
        tl_call_fail(c, TL_ERR_SHAPE, "%s has no first size to divide by",
                     tl_layout_text(c->x[0].layout, text));
        return tl_poison(t);
    }
    return tl_affine(t, tl_sum(t, divergence(c)), 1 / (double)c->x[0].layout->shape[0], 0);
}

static const tl_sample kl_div_samples[] = {
    {2, {{2, {3, 4}, -2, 0, 0}, {2, {3, 4}, 0.1, 1, 0}}, {{0}, {0}, 0, TL_REDUCE_MEAN}},
    {2, {{2, {3, 4}, -2, 0, 0}, {1, {4}, -2, 0, 0}}, {{1}, {0}, 0, TL_REDUCE_SUM}},
    {2, {{1, {4}, -2, 0, 0}, {2, {3, 1}, 0.1, 1, 0}}, {{0}, {0}, 0, TL_REDUCE_NONE}},
    {2, {{2, {3, 4}, -2, 0, 0}, {2, {3, 4}, 0.1, 1, 0}}, {{0}, {0}, 0, TL_REDUCE_BATCHMEAN}},
    TL_SAMPLES_END};

const tl_op tl_op_kl_div = {.name = "kl_div",
                            .equation = "l = y (log y - x)",
                            .kind = TL_COMPOSED,
                            .attributes = "log_target=i0 reduction=flag:mean,sum,none,batchmean",
                            .least = 2,
                            .most = 2,
                            .compose = kl_div_compose,
                            .samples = kl_div_samples};

tl_var tl_kl_div(tl_tape *t, tl_var x, tl_var target, bool log_target, tl_reduction reduction)
{
    tl_var in[2] = {x, target};
    return tl_apply(t, &tl_op_kl_div, 2, in, &(tl_attr){.i = {log_target}, .flag = (int32_t)reduction});
}

/* ---- nll, cross_entropy_with: log-probabilities or logits x [..,C], target, weight [C];
 *      i0 = a target to be ignored, f0 = label smoothing e -------------------------------------------
 *
 *   target k [..]:    l_r = -(1 - e) w_k log p_k - e/C sum_c w_c log p_c, 0 if k is ignored;
 *                     the mean is sum_r l_r / sum_r w_k over the rows that are not ignored
 *   target q [..,C]:  l_r = -sum_c w_c ((1 - e) q_c + e/C) log p_c;  the mean is over the rows
 *
 * Szegedy et al., "Rethinking the Inception architecture", CVPR 2016, on smoothing. */

static bool weight_fits(const tl_call *c, int k)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    const tl_layout *x = c->x[0].layout, *w = c->x[k].layout;
    if (c->x[k].dtype != c->x[0].dtype)
        return tl_call_fail(c, TL_ERR_DTYPE, "the weight is %s, not %s", tl_dtype_name(c->x[k].dtype),
                            tl_dtype_name(c->x[0].dtype));
    return (w->ndim == 1 && w->shape[0] == row_length(x)) ||
           tl_call_fail(c, TL_ERR_SHAPE, "wants a weight for each class of %s, not %s",
                        tl_layout_text(x, a), tl_layout_text(w, b));
}

/* Of the rows [..]: their targets as [..,1], 0 where ignored, and which are not ignored (TL_NONE: all
 * of them). */
typedef struct class_rows {
    tl_layout column; /* [..,1] */
    tl_var index, kept;
    double count; /* of those kept */
} class_rows;

static class_rows class_rows_of(const tl_call *c)
{
    tl_tape *t = c->tape;
    const tl_array *target = &c->x[1];
    class_rows rows = {.column = *c->x[0].layout, .kept = TL_NONE};
    rows.column.shape[rows.column.ndim - 1] = 1;
    for (int64_t r = 0; r < target->layout->count; r++)
        rows.count += ((const int64_t *)target->data)[r] != c->attr->i[0];
    rows.index = tl_reshape(t, c->in[1], rows.column.ndim, rows.column.shape);
    if (rows.count < (double)target->layout->count) {
        rows.kept = tl_ne(t, rows.index, tl_full(t, TL_I64, 0, NULL, (double)c->attr->i[0]));
        rows.index = tl_where(t, rows.kept, rows.index, tl_full(t, TL_I64, 0, NULL, 0));
    }
    return rows;
}

static tl_var only_kept(tl_tape *t, const class_rows *rows, tl_var x)
{
    return tl_is_none(rows->kept) ? x : tl_masked_fill(t, x, tl_logical_not(t, rows->kept), 0);
}

/* weight[index], 0 where ignored: [..,1] */
static tl_var weights_of(tl_tape *t, const class_rows *rows, tl_var weight)
{
    tl_var flat = tl_gather(t, weight, 0, tl_reshape(t, rows->index, 1, (const int64_t[]){-1}));
    return only_kept(t, rows, tl_reshape(t, flat, rows->column.ndim, rows->column.shape));
}

static tl_var class_loss(const tl_call *c, tl_var log_p, double smoothing)
{
    tl_tape *t = c->tape;
    class_rows rows = class_rows_of(c);
    tl_var weight = c->count > 2 ? c->in[2] : TL_NONE, own = TL_NONE;
    tl_var each = only_kept(t, &rows, tl_gather(t, log_p, -1, rows.index));
    if (!tl_is_none(weight)) {
        own = weights_of(t, &rows, weight);
        each = tl_mul(t, own, each);
    }
    if (smoothing != 0) {
        tl_var all = sum_last(t, tl_is_none(weight) ? log_p : tl_mul(t, log_p, weight));
        all = tl_affine(t, only_kept(t, &rows, all), smoothing / (double)row_length(c->x[0].layout), 0);
        each = tl_add(t, tl_affine(t, each, 1 - smoothing, 0), all);
    }
    if (c->attr->flag == TL_REDUCE_NONE)
        return tl_neg(t, tl_reshape(t, each, rows.column.ndim - 1, rows.column.shape));
    tl_var sum = tl_sum(t, each);
    if (c->attr->flag == TL_REDUCE_SUM)
        return tl_neg(t, sum);
    return tl_is_none(own) ? tl_affine(t, sum, -1 / rows.count, 0)
                           : tl_neg(t, tl_div(t, sum, tl_sum(t, own)));
}

static bool class_targets_fit(const tl_call *c)
{
    return targets_fit(c, 0, 1) && (c->count < 3 || weight_fits(c, 2)) &&
           targets_in_range(c, 1, row_length(c->x[0].layout), &c->attr->i[0]);
}

static tl_var nll_compose(const tl_call *c)
{
    return class_targets_fit(c) ? class_loss(c, c->in[0], 0) : tl_poison(c->tape);
}

static const tl_sample nll_samples[] = {
    {2, {{2, {3, 5}, -2, 0, 0}, {1, {3}, 0, 0, 5}}, {{-100}, {0}, 0, TL_REDUCE_MEAN}},
    {3, {{2, {7, 3}, -2, 0, 0}, {1, {7}, 0, 0, 3}, {1, {3}, 1, 2, 0}}, {{1}, {0}, 0, TL_REDUCE_MEAN}},
    {3,
     {{3, {2, 3, 4}, -2, 0, 0}, {2, {2, 3}, 0, 0, 4}, {1, {4}, -2, 2, 0}},
     {{2}, {0}, 0, TL_REDUCE_SUM}},
    {2, {{3, {2, 3, 4}, -2, 0, 0}, {2, {2, 3}, 0, 0, 4}}, {{1}, {0}, 0, TL_REDUCE_NONE}},
    TL_SAMPLES_END};

const tl_op tl_op_nll = {.name = "nll",
                         .equation = "l = -w_k x_k",
                         .kind = TL_COMPOSED,
                         .attributes = "ignore_index=i0 reduction=flag:mean,sum,none",
                         .least = 2,
                         .most = 3,
                         .mixed = true,
                         .dense = true,
                         .compose = nll_compose,
                         .samples = nll_samples};

tl_var tl_nll(tl_tape *t, tl_var log_p, tl_var target, tl_var weight, int64_t ignore_index,
              tl_reduction reduction)
{
    tl_var in[3] = {log_p, target, weight};
    return tl_apply(t, &tl_op_nll, 3, in, &(tl_attr){.i = {ignore_index}, .flag = (int32_t)reduction});
}

static tl_var probability_loss(const tl_call *c, tl_var log_p)
{
    tl_tape *t = c->tape;
    const tl_layout *x = c->x[0].layout;
    const double smoothing = c->attr->f[0];
    tl_var q = c->in[1];
    if (smoothing != 0)
        q = tl_affine(t, q, 1 - smoothing, smoothing / (double)row_length(x));
    tl_var terms = tl_mul(t, q, log_p);
    if (c->count > 2)
        terms = tl_mul(t, terms, c->in[2]);
    if (c->attr->flag == TL_REDUCE_NONE)
        return tl_neg(t, tl_sum_axes(t, terms, 1, (const int[]){-1}, false));
    double rows = c->attr->flag == TL_REDUCE_MEAN ? (double)rows_of(x) : 1;
    return tl_affine(t, tl_sum(t, terms), -1 / rows, 0);
}

static bool probabilities_fit(const tl_call *c)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    const tl_layout *x = c->x[0].layout;
    if (!reduction_exists(c))
        return false;
    if (c->x[1].dtype != c->x[0].dtype)
        return tl_call_fail(c, TL_ERR_DTYPE, "targets are %s, the logits %s",
                            tl_dtype_name(c->x[1].dtype), tl_dtype_name(c->x[0].dtype));
    if (x->ndim == 0 || !tl_layout_same_shape(x, c->x[1].layout))
        return tl_call_fail(c, TL_ERR_SHAPE, "one probability for each logit: %s, targets %s",
                            tl_layout_text(x, a), tl_layout_text(c->x[1].layout, b));
    return c->count < 3 || weight_fits(c, 2);
}

static tl_var cross_entropy_with_compose(const tl_call *c)
{
    const double smoothing = c->attr->f[0];
    bool probabilities = tl_dtype_is_real(c->x[0].dtype) && tl_dtype_is_real(c->x[1].dtype);
    if (!(smoothing >= 0 && smoothing <= 1))
        tl_call_fail(c, TL_ERR_ARGUMENT, "label smoothing is within 0 and 1, not %g", smoothing);
    else if (probabilities ? probabilities_fit(c) : class_targets_fit(c))
        return probabilities ? probability_loss(c, tl_log_softmax(c->tape, c->in[0]))
                             : class_loss(c, tl_log_softmax(c->tape, c->in[0]), smoothing);
    return tl_poison(c->tape);
}

static const tl_sample cross_entropy_with_samples[] = {
    {3, {{2, {7, 3}, -2, 2, 0}, {1, {7}, 0, 0, 3}, {1, {3}, 1, 2, 0}}, {{1}, {0.3}, 0, TL_REDUCE_MEAN}},
    {2, {{3, {2, 3, 4}, -2, 2, 0}, {2, {2, 3}, 0, 0, 4}}, {{-100}, {0.1}, 0, TL_REDUCE_NONE}},
    {2, {{2, {3, 5}, -2, 2, 0}, {2, {3, 5}, 0, 1, 0}}, {{-100}, {0.1}, 0, TL_REDUCE_MEAN}},
    {3,
     {{3, {2, 3, 4}, -2, 2, 0}, {3, {2, 3, 4}, 0, 1, 0}, {1, {4}, -2, 2, 0}},
     {{-100}, {0}, 0, TL_REDUCE_NONE}},
    TL_SAMPLES_END};

const tl_op tl_op_cross_entropy_with = {
    .name = "cross_entropy_with",
    .equation = "l = -sum_c w_c q_c log softmax(x)_c",
    .kind = TL_COMPOSED,
    .attributes = "ignore_index=i0 label_smoothing=f0 reduction=flag:mean,sum,none",
    .least = 2,
    .most = 3,
    .mixed = true,
    .dense = true,
    .compose = cross_entropy_with_compose,
    .samples = cross_entropy_with_samples};

tl_var tl_cross_entropy_with(tl_tape *t, tl_var logits, tl_var target,
                             const tl_cross_entropy_options *options)
{
    const tl_cross_entropy_options plain = {.reduction = TL_REDUCE_MEAN},
                                   *o = options ? options : &plain;
    tl_var in[3] = {logits, target, o->weight};
    return tl_apply(t, &tl_op_cross_entropy_with, 3, in,
                    &(tl_attr){.i = {o->ignore ? o->ignore_index : INT64_MIN},
                               .f = {o->label_smoothing},
                               .flag = (int32_t)o->reduction});
}
