/* op_reduce.c - many numbers become one: over any axes, i = axes, flag = keepdim. */
#include "autograd/ops.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "autograd/dims.h"
#include "autograd/tape_impl.h"
#include "tensor/kernels.h"

/* ---- axes ------------------------------------------------------------------------------- */

/* x's shape with sizes of 1 where it is reduced. */
static void kept_shape(const tl_call *c, int64_t *shape)
{
    memcpy(shape, c->x[0].layout->shape, sizeof c->x[0].layout->shape);
    for (int k = 0; k < c->attr->n; k++)
        shape[c->attr->i[k]] = 1;
}

static bool is_reduced(const tl_call *c, int dim)
{
    for (int k = 0; k < c->attr->n; k++)
        if (c->attr->i[k] == dim)
            return true;
    return false;
}

/* How many numbers become one. */
static int64_t row_length(const tl_call *c)
{
    int64_t n = 1;
    for (int k = 0; k < c->attr->n; k++)
        n *= c->x[0].layout->shape[c->attr->i[k]];
    return n;
}

static bool axes_fit(const tl_call *c)
{
    const tl_layout *x = c->x[0].layout;
    char text[TL_LAYOUT_TEXT];
    bool met[TL_MAX_DIMS] = {false};
    for (int k = 0; k < c->attr->n; k++) {
        int64_t axis = c->attr->i[k];
        if (axis < 0 || axis >= x->ndim)
            return tl_call_fail(c, TL_ERR_INDEX, "there is no axis %lld in %s", (long long)axis,
                                tl_layout_text(x, text));
        if (met[axis])
            return tl_call_fail(c, TL_ERR_ARGUMENT, "axis %lld is given twice", (long long)axis);
        met[axis] = true;
    }
    return true;
}

/* For what has no value for no numbers. */
static bool has_elements(const tl_call *c)
{
    char text[TL_LAYOUT_TEXT];
    return row_length(c) > 0 || tl_call_fail(c, TL_ERR_SHAPE, "no elements along the axes of %s",
                                             tl_layout_text(c->x[0].layout, text));
}

static bool reduced_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    int64_t shape[TL_MAX_DIMS];
    int ndim = 0;
    if (!axes_fit(c))
        return false;
    for (int k = 0; k < x->ndim; k++)
        if (!is_reduced(c, k) || c->attr->flag)
            shape[ndim++] = is_reduced(c, k) ? 1 : x->shape[k];
    return tl_layout_make(layout, ndim, shape) == TL_OK;
}

static bool reduced_shape_of_some(tl_call *c, tl_layout *layout)
{
    return reduced_shape(c, layout) && has_elements(c);
}

/* What has y's shape, seen with x's. */
static tl_var spread(const tl_call *c, tl_var v)
{
    int64_t shape[TL_MAX_DIMS];
    kept_shape(c, shape);
    tl_var kept = tl_reshape(c->tape, v, c->x[0].layout->ndim, shape);
    return tl_expand(c->tape, kept, c->x[0].layout->ndim, c->x[0].layout->shape);
}

/* As tl_sum_axes: `count` axes, 0 for all of them; negative ones count from the end. */
static tl_var apply_axes(tl_tape *t, const tl_op *op, tl_var x, int count, const int *axes,
                         bool keepdim, double constant)
{
    char text[TL_LAYOUT_TEXT];
    if (tl_tape_status(t) != TL_OK)
        return tl_poison(t);
    tl_array a = tl_value(t, x);
    if (!a.layout)
        return tl_poison(t);
    tl_attr attr = {.n = count ? count : a.layout->ndim, .f = {constant}, .flag = keepdim};
    if (count < 0 || count > TL_MAX_DIMS) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "%s: %d axes", op->name, count);
        return tl_poison(t);
    }
    for (int k = 0; k < count; k++)
        if (axes[k] < -a.layout->ndim || axes[k] >= a.layout->ndim) {
            tl_tape_fail(t, TL_ERR_INDEX, "%s: there is no axis %d in %s", op->name, axes[k],
                         tl_layout_text(a.layout, text));
            return tl_poison(t);
        }
    for (int k = 0; k < attr.n; k++)
        attr.i[k] = !count ? k : axes[k] < 0 ? axes[k] + a.layout->ndim : axes[k];
    return tl_apply(t, op, 1, &x, &attr);
}

/* ---- rows ------------------------------------------------------------------------------- *
 *
 * x with the reduced axes moved last: rows of n numbers each, y[r] = f(row r). Where x does not lie
 * like that, it is copied. */

typedef struct rows {
    int64_t count, n, bytes; /* bytes of a row */
    tl_layout order;         /* x's axes as they are moved */
    const char *data;
    tl_block *copy;
} rows;

/* `layout` with the reduced axes last. */
static void move_axes(const tl_call *c, const tl_layout *layout, tl_layout *moved)
{
    *moved = *layout;
    for (int pass = 0, to = 0; pass < 2; pass++)
        for (int dim = 0; dim < layout->ndim; dim++)
            if (is_reduced(c, dim) == (pass == 1)) {
                moved->shape[to] = layout->shape[dim];
                moved->stride[to++] = layout->stride[dim];
            }
    tl_layout_finish(moved);
}

static bool rows_begin(const tl_call *c, rows *r)
{
    tl_array x = c->x[0];
    tl_layout plain;
    *r = (rows){.n = row_length(c), .data = x.data};
    r->count = 1;
    for (int dim = 0; dim < x.layout->ndim; dim++)
        r->count *= is_reduced(c, dim) ? 1 : x.layout->shape[dim];
    r->bytes = r->n * (int64_t)tl_dtype_size(x.dtype);
    move_axes(c, x.layout, &r->order);
    if (r->order.contiguous || !r->order.count) /* no elements: there may be rows, empty ones */
        return true;
    r->copy = tl_pool_get(&c->tape->pool, (size_t)(r->count * r->bytes));
    if (!r->copy) {
        tl_tape_no_memory(c->tape);
        return false;
    }
    r->data = tl_block_data(r->copy);
    if (tl_layout_make(&plain, r->order.ndim, r->order.shape) == TL_OK)
        tl_copy((tl_array){x.data, &r->order, x.dtype},
                (tl_array){tl_block_data(r->copy), &plain, x.dtype});
    return true;
}

static void rows_end(const tl_call *c, rows *r)
{
    if (r->copy)
        tl_pool_put(&c->tape->pool, r->copy);
}

static void put_real(tl_array y, int64_t i, double value)
{
    if (y.dtype == TL_F32)
        ((float *)y.data)[i] = (float)value;
    else
        ((double *)y.data)[i] = value;
}

/* x with 1 in place of zeros, and [x > 0]; for x >= 0. */
static tl_var without_zeros(tl_tape *t, tl_var x, tl_var *positive)
{
    *positive = tl_step(t, x);
    return tl_add(t, x, tl_affine(t, *positive, -1, 1));
}

/* ---- sum -------------------------------------------------------------------------------- */

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
    dx[0] = spread(c, dy);
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
                         .shape = reduced_shape,
                         .forward = sum_forward,
                         .vjp = sum_vjp,
                         .samples = sum_samples};

tl_var tl_sum_axes(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim)
{
    return apply_axes(t, &tl_op_sum, x, count, axes, keepdim, 0);
}

tl_var tl_sum(tl_tape *t, tl_var x)
{
    return tl_sum_axes(t, x, 0, NULL, false);
}

/* ---- mean: y = sum / n; NaN for no elements --------------------------------------------- */

static tl_var mean_compose(const tl_call *c)
{
    if (!axes_fit(c))
        return tl_poison(c->tape);
    tl_var sum = tl_apply(c->tape, &tl_op_sum, 1, c->in, c->attr);
    return tl_affine(c->tape, sum, 1 / (double)row_length(c), 0);
}

const tl_op tl_op_mean = {.name = "mean",
                          .equation = "y = sum of x over the axes / how many",
                          .kind = TL_COMPOSED,
                          .attributes = "axes=i* keepdim=flag",
                          .least = 1,
                          .most = 1,
                          .compose = mean_compose,
                          .samples = sum_samples};

tl_var tl_mean_axes(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim)
{
    return apply_axes(t, &tl_op_mean, x, count, axes, keepdim, 0);
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

/* ---- max, min: at ties each gets an equal share ------------------------------------------ *
 *
 *   dx_i = dy [x_i = y] / how many there are of them */

static int64_t extreme_at(tl_dtype dtype, int64_t n, const void *row, bool least)
{
    return least ? tl_smallest_at(dtype, n, row) : tl_largest_at(dtype, n, row);
}

static void extreme_of_rows(tl_call *c, bool least)
{
    rows r;
    size_t size = tl_dtype_size(c->y.dtype);
    if (!rows_begin(c, &r))
        return;
    for (int64_t i = 0; i < r.count; i++) {
        const char *row = r.data + i * r.bytes;
        memcpy((char *)c->y.data + (size_t)i * size,
               row + extreme_at(c->y.dtype, r.n, row, least) * (int64_t)size, size);
    }
    rows_end(c, &r);
}

/* y = max(y, slice) for one slice of x after the other, each of y's size. */
static void extreme_of_slices(tl_call *c, tl_kernel *larger)
{
    tl_layout order, kept, plain;
    int64_t at[TL_MAX_DIMS] = {0}, size = (int64_t)tl_dtype_size(c->y.dtype);
    char *slice = c->x[0].data;
    move_axes(c, c->x[0].layout, &order);
    kept = order;
    kept.ndim = order.ndim - c->attr->n;
    tl_layout_finish(&kept);
    if (tl_layout_make(&plain, kept.ndim, kept.shape) != TL_OK)
        return;
    tl_array y = {c->y.data, &plain, c->y.dtype};
    tl_copy((tl_array){slice, &kept, c->y.dtype}, y);
    for (;;) {
        int dim = order.ndim - 1;
        for (; dim >= kept.ndim; dim--) { /* the next slice */
            slice += order.stride[dim] * size;
            if (++at[dim] < order.shape[dim])
                break;
            slice -= order.shape[dim] * order.stride[dim] * size;
            at[dim] = 0;
        }
        if (dim < kept.ndim)
            return;
        tl_map(larger, 2, (tl_array[]){y, {slice, &kept, c->y.dtype}}, y, c->attr->f);
    }
}

/* Slices are read as they lie in memory, where rows would have to be put together first. */
static void extreme_forward(tl_call *c, bool least)
{
    enum { WORTH_A_CALL = 32 };
    const tl_layout *x = c->x[0].layout;
    if (x->ndim && !is_reduced(c, x->ndim - 1) && c->y.layout->count >= WORTH_A_CALL)
        extreme_of_slices(c, (least ? tl_kernel_minimum : tl_kernel_maximum)[c->y.dtype]);
    else
        extreme_of_rows(c, least);
}

static void max_forward(tl_call *c)
{
    extreme_forward(c, false);
}

static void min_forward(tl_call *c)
{
    extreme_forward(c, true);
}

/* Within derivatives: s_i = [x_i = y] / how many, of x's shape; operands x and y. */
static bool ties_shape(tl_call *c, tl_layout *layout)
{
    return tl_layout_make(layout, c->x[0].layout->ndim, c->x[0].layout->shape) == TL_OK;
}

static void ties_forward(tl_call *c)
{
    rows r;
    tl_layout moved;
    tl_dtype dtype = c->y.dtype;
    const char *y = c->x[1].data;
    move_axes(c, c->y.layout, &moved);
    if (!rows_begin(c, &r))
        return;
    tl_block *block = tl_pool_get(&c->tape->pool, (size_t)r.count * (size_t)r.bytes);
    if (block) {
        char *shares = tl_block_data(block);
        tl_layout plain;
        for (int64_t i = 0; i < r.count; i++)
            tl_ties_row(dtype, r.n, r.data + i * r.bytes, y + i * (int64_t)tl_dtype_size(dtype),
                        shares + i * r.bytes);
        if (tl_layout_make(&plain, moved.ndim, moved.shape) == TL_OK)
            tl_copy((tl_array){shares, &plain, dtype}, (tl_array){c->y.data, &moved, dtype});
        tl_pool_put(&c->tape->pool, block);
    } else
        tl_tape_no_memory(c->tape);
    rows_end(c, &r);
}

static const tl_op ties = {.name = "ties",
                           .equation = "s_i = [x_i = y] / how many",
                           .kind = TL_NOT_DIFFERENTIABLE,
                           .least = 2,
                           .most = 2,
                           .shape = ties_shape,
                           .forward = ties_forward};

static tl_var ties_of(const tl_call *c, tl_var x, tl_var y)
{
    tl_var in[2] = {x, tl_contiguous(c->tape, y)};
    return tl_apply(c->tape, &ties, 2, in, c->attr);
}

static void extreme_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_mul(c->tape, spread(c, dy), ties_of(c, c->in[0], c->out));
}

const tl_op tl_op_max = {.name = "max",
                         .equation = "y = the largest of x over the axes",
                         .kind = TL_GENERAL,
                         .attributes = "axes=i* keepdim=flag",
                         .least = 1,
                         .most = 1,
                         .shape = reduced_shape_of_some,
                         .forward = max_forward,
                         .vjp = extreme_vjp,
                         .samples = sum_samples};

const tl_op tl_op_min = {.name = "min",
                         .equation = "y = the smallest of x over the axes",
                         .kind = TL_GENERAL,
                         .attributes = "axes=i* keepdim=flag",
                         .least = 1,
                         .most = 1,
                         .shape = reduced_shape_of_some,
                         .forward = min_forward,
                         .vjp = extreme_vjp,
                         .samples = sum_samples};

tl_var tl_max_axes(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim)
{
    return apply_axes(t, &tl_op_max, x, count, axes, keepdim, 0);
}

tl_var tl_min_axes(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim)
{
    return apply_axes(t, &tl_op_min, x, count, axes, keepdim, 0);
}

tl_var tl_max(tl_tape *t, tl_var x)
{
    return tl_max_axes(t, x, 0, NULL, false);
}

tl_var tl_min(tl_tape *t, tl_var x)
{
    return tl_min_axes(t, x, 0, NULL, false);
}

/* ---- prod: halves times halves; right at zeros, any order -------------------------------- */

/* y = x[0] x[1] ...;  x: [n,...] */
static tl_var product_of_first(tl_tape *t, tl_var x, int64_t n)
{
    tl_var odd = TL_NONE;
    for (; n > 1; n /= 2) {
        if (n % 2) {
            tl_var last = tl_slice(t, x, 0, n - 1, n, 1);
            odd = tl_is_none(odd) ? last : tl_mul(t, odd, last);
        }
        x = tl_mul(t, tl_slice(t, x, 0, 0, n / 2, 1), tl_slice(t, x, 0, n / 2, n / 2 * 2, 1));
    }
    return tl_is_none(odd) ? x : tl_mul(t, x, odd);
}

static tl_var prod_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    tl_call call = *c;
    tl_layout y;
    int order[TL_MAX_DIMS], to = 0;
    if (!reduced_shape(&call, &y))
        return tl_poison(t);
    int64_t shape[2] = {row_length(c), y.count};
    if (shape[0] == 0)
        return tl_expand(t, tl_full(t, c->x[0].dtype, 0, NULL, 1), y.ndim, y.shape);
    for (int pass = 1; pass >= 0; pass--)
        for (int dim = 0; dim < c->x[0].layout->ndim; dim++)
            if (is_reduced(c, dim) == (pass == 1))
                order[to++] = dim;
    tl_var first = tl_reshape(t, tl_permute(t, c->in[0], to, order), 2, shape);
    return tl_reshape(t, product_of_first(t, first, shape[0]), y.ndim, y.shape);
}

const tl_op tl_op_prod = {.name = "prod",
                          .equation = "y = product of x over the axes",
                          .kind = TL_COMPOSED,
                          .attributes = "axes=i* keepdim=flag",
                          .least = 1,
                          .most = 1,
                          .compose = prod_compose,
                          .samples = sum_samples};

tl_var tl_prod_axes(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim)
{
    return apply_axes(t, &tl_op_prod, x, count, axes, keepdim, 0);
}

tl_var tl_prod(tl_tape *t, tl_var x)
{
    return tl_prod_axes(t, x, 0, NULL, false);
}

/* ---- logsumexp: y = log sum exp x;  dx = dy exp(x - y) ----------------------------------- */

static bool any_nan(tl_dtype dtype, int64_t n, const void *x)
{
    double sum = 0;
    for (int64_t i = 0; i < n && sum == 0; i++)
        sum = dtype == TL_F32 ? isnan(((const float *)x)[i]) : isnan(((const double *)x)[i]);
    return sum != 0;
}

static void logsumexp_forward(tl_call *c)
{
    rows r;
    if (!rows_begin(c, &r))
        return;
    for (int64_t i = 0; i < r.count; i++) {
        double largest, rest = tl_softmax_row(c->y.dtype, r.n, r.data + i * r.bytes, NULL, &largest);
        if (isinf(largest)) /* inf - inf has no meaning: the sum is all of one term, or of none */
            rest = any_nan(c->y.dtype, r.n, r.data + i * r.bytes) ? NAN : 0;
        put_real(c->y, i, largest + rest);
    }
    rows_end(c, &r);
}

/* dx = dy e / sum e,  e = exp(x - y). A y that is large is rounded, hence the sum, and whatever stands
 * for y cancels: where it is infinite, the largest number does; where all x are -inf, e is 0. */
static void logsumexp_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    tl_tape *t = c->tape;
    double most = c->y.dtype == TL_F32 ? (double)FLT_MAX : DBL_MAX;
    tl_var shift = tl_clamp(t, tl_detach(t, c->out), -most, most), positive;
    tl_var e = tl_exp(t, tl_sub(t, c->in[0], spread(c, shift)));
    tl_var sum = without_zeros(t, tl_apply(t, &tl_op_sum, 1, &e, c->attr), &positive);
    dx[0] = tl_mul(t, e, spread(c, tl_div(t, dy, sum)));
}

const tl_op tl_op_logsumexp = {.name = "logsumexp",
                               .equation = "y = log of the sum of exp x over the axes",
                               .kind = TL_GENERAL,
                               .attributes = "axes=i* keepdim=flag",
                               .least = 1,
                               .most = 1,
                               .shape = reduced_shape,
                               .forward = logsumexp_forward,
                               .vjp = logsumexp_vjp,
                               .samples = sum_samples};

tl_var tl_logsumexp(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim)
{
    return apply_axes(t, &tl_op_logsumexp, x, count, axes, keepdim, 0);
}

/* ---- norm: f[0] = p;  y = (sum |x|^p)^(1/p) ---------------------------------------------- *
 *
 *   dx = dy sign(x) (|x| / y)^(p-1), 0 where y or x is 0;  p = inf: y = max |x|, p = -inf: min |x|;
 *   p = 0: how many are not zero */

static bool norm_shape(tl_call *c, tl_layout *layout)
{
    double p = c->attr->f[0];
    if (isnan(p))
        return tl_call_fail(c, TL_ERR_ARGUMENT, "p is not a number");
    return reduced_shape(c, layout) && ((p >= 0 && isfinite(p)) || has_elements(c));
}

static void norm_forward(tl_call *c)
{
    rows r;
    if (!rows_begin(c, &r))
        return;
    for (int64_t i = 0; i < r.count; i++)
        put_real(c->y, i, tl_norm_row(c->y.dtype, r.n, r.data + i * r.bytes, c->attr->f[0]));
    rows_end(c, &r);
}

static void norm_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    tl_tape *t = c->tape;
    tl_var x = c->in[0], g = spread(c, dy), positive, some;
    double p = c->attr->f[0];
    if (p == 0)
        return;
    if (p == 1 || isinf(p)) {
        dx[0] = tl_mul(t, g, tl_sign(t, x));
        if (p != 1)
            dx[0] = tl_mul(t, dx[0], ties_of(c, tl_abs(t, x), c->out));
        return;
    }
    tl_var divisor = without_zeros(t, c->out, &positive);
    tl_var u = tl_div(t, x, spread(c, divisor));
    g = spread(c, tl_mul(t, dy, positive));
    if (p != 2) { /* u = sign(u) |u|^(p-1) */
        tl_var size = without_zeros(t, tl_abs(t, u), &some);
        tl_var power = tl_exp(t, tl_affine(t, tl_log(t, size), p - 1, 0));
        u = tl_mul(t, tl_sign(t, u), power);
    }
    dx[0] = tl_mul(t, g, u);
}

static const tl_sample norm_samples[] = {{1, {{3, {2, 3, 4}, 0.2, 2, 0}}, {{1}, {1}, 1, 0}},
                                         {1, {{3, {2, 3, 4}, -2, 2, 0}}, {{0, 2}, {2}, 2, 1}},
                                         {1, {{2, {3, 4}, -2, 2, 0}}, {{0, 1}, {2}, 2, 0}},
                                         {1, {{2, {3, 4}, -2, -0.2, 0}}, {{0}, {3}, 1, 0}},
                                         {1, {{2, {3, 4}, 0.2, 2, 0}}, {{1}, {1.5}, 1, 0}},
                                         {1, {{2, {3, 4}, 0.2, 2, 0}}, {{1}, {(double)INFINITY}, 1, 0}},
                                         {1, {{2, {3, 4}, 0.2, 2, 0}}, {{1}, {-2}, 1, 1}},
                                         TL_SAMPLES_END};

const tl_op tl_op_norm = {.name = "norm",
                          .equation = "y = (sum of |x|^p over the axes)^(1/p)",
                          .kind = TL_GENERAL,
                          .attributes = "axes=i* p=f0 keepdim=flag",
                          .least = 1,
                          .most = 1,
                          .shape = norm_shape,
                          .forward = norm_forward,
                          .vjp = norm_vjp,
                          .samples = norm_samples};

tl_var tl_norm(tl_tape *t, tl_var x, double p, int count, const int *axes, bool keepdim)
{
    return apply_axes(t, &tl_op_norm, x, count, axes, keepdim, p);
}

/* ---- var, std: f[0] = correction ----------------------------------------------------------
 *
 *   d = x - mean x;   var = sum d d / (n - correction);   std = |d| / sqrt(n - correction) */

/* Equal numbers differ by nothing from their mean: it is taken of their distances from the first. */
static tl_var centred(const tl_call *c)
{
    tl_tape *t = c->tape;
    tl_attr keep = *c->attr;
    tl_var first = c->in[0];
    keep.flag = 1;
    for (int k = 0; k < c->attr->n; k++)
        first = tl_slice(t, first, (int)c->attr->i[k], 0, 1, 1);
    tl_var d = tl_sub(t, c->in[0], tl_detach(t, first));
    return tl_sub(t, d, tl_apply(t, &tl_op_mean, 1, &d, &keep));
}

static double degrees_of_freedom(const tl_call *c)
{
    return fmax(0, (double)row_length(c) - c->attr->f[0]);
}

static tl_var var_compose(const tl_call *c)
{
    if (!axes_fit(c))
        return tl_poison(c->tape);
    tl_var square = tl_square(c->tape, centred(c));
    tl_var sum = tl_apply(c->tape, &tl_op_sum, 1, &square, c->attr);
    return tl_affine(c->tape, sum, 1 / degrees_of_freedom(c), 0);
}

static tl_var std_compose(const tl_call *c)
{
    tl_attr two = *c->attr;
    two.f[0] = 2;
    if (!axes_fit(c))
        return tl_poison(c->tape);
    tl_var d = centred(c), norm = tl_apply(c->tape, &tl_op_norm, 1, &d, &two);
    return tl_affine(c->tape, norm, 1 / sqrt(degrees_of_freedom(c)), 0);
}

static const tl_sample var_samples[] = {{1, {{3, {2, 3, 4}, -2, 2, 0}}, {{1}, {1}, 1, 0}},
                                        {1, {{3, {2, 3, 4}, -2, 2, 0}}, {{0, 2}, {0}, 2, 1}},
                                        {1, {{2, {3, 4}, -2, 2, 0}}, {{0, 1}, {1.5}, 2, 0}},
                                        TL_SAMPLES_END};

const tl_op tl_op_var = {.name = "var",
                         .equation = "y = sum of (x - mean x)^2 over the axes / (n - correction)",
                         .kind = TL_COMPOSED,
                         .attributes = "axes=i* correction=f0 keepdim=flag",
                         .least = 1,
                         .most = 1,
                         .compose = var_compose,
                         .samples = var_samples};

const tl_op tl_op_std = {.name = "std",
                         .equation = "y = sqrt var x",
                         .kind = TL_COMPOSED,
                         .attributes = "axes=i* correction=f0 keepdim=flag",
                         .least = 1,
                         .most = 1,
                         .compose = std_compose,
                         .samples = var_samples};

tl_var tl_var_axes(tl_tape *t, tl_var x, double correction, int count, const int *axes, bool keepdim)
{
    return apply_axes(t, &tl_op_var, x, count, axes, keepdim, correction);
}

tl_var tl_std_axes(tl_tape *t, tl_var x, double correction, int count, const int *axes, bool keepdim)
{
    return apply_axes(t, &tl_op_std, x, count, axes, keepdim, correction);
}

/* ---- any, all: of x != 0, whatever the dtype; a mask -------------------------------------- */

static bool mask_shape(tl_call *c, tl_layout *layout)
{
    c->y.dtype = TL_U8;
    return reduced_shape(c, layout);
}

/* Is there a number that is zero, or (`wanted`) one that is not? */
#define FIND(ctype)                                                                                    \
    for (int64_t i = 0; i < n && !found; i++)                                                          \
    found = (((const ctype *)x)[i] != 0) == wanted

static bool find(tl_dtype dtype, int64_t n, const void *x, bool wanted)
{
    bool found = false;
    if (dtype == TL_F32)
        FIND(float);
    else if (dtype == TL_F64)
        FIND(double);
    else if (dtype == TL_I64)
        FIND(int64_t);
    else
        FIND(uint8_t);
    return found;
}

static void find_forward(tl_call *c, bool wanted)
{
    rows r;
    if (!rows_begin(c, &r))
        return;
    for (int64_t i = 0; i < r.count; i++)
        ((uint8_t *)c->y.data)[i] = find(c->x[0].dtype, r.n, r.data + i * r.bytes, wanted) == wanted;
    rows_end(c, &r);
}

static void any_forward(tl_call *c)
{
    find_forward(c, true);
}

static void all_forward(tl_call *c)
{
    find_forward(c, false);
}

static const tl_sample mask_samples[] = {{1, {{3, {2, 3, 4}, 0, 0, -1}}, {{1}, {0}, 1, 0}},
                                         {1, {{3, {2, 3, 4}, 0, 0, 2}}, {{0, 2}, {0}, 2, 1}},
                                         {1, {{2, {3, 4}, -2, 2, 0}}, {{0, 1}, {0}, 2, 0}},
                                         TL_SAMPLES_END};

const tl_op tl_op_any = {.name = "any",
                         .equation = "y = [some x over the axes is not 0]",
                         .kind = TL_NOT_DIFFERENTIABLE,
                         .attributes = "axes=i* keepdim=flag",
                         .least = 1,
                         .most = 1,
                         .mixed = true,
                         .shape = mask_shape,
                         .forward = any_forward,
                         .samples = mask_samples};

const tl_op tl_op_all = {.name = "all",
                         .equation = "y = [no x over the axes is 0]",
                         .kind = TL_NOT_DIFFERENTIABLE,
                         .attributes = "axes=i* keepdim=flag",
                         .least = 1,
                         .most = 1,
                         .mixed = true,
                         .shape = mask_shape,
                         .forward = all_forward,
                         .samples = mask_samples};

tl_var tl_any(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim)
{
    return apply_axes(t, &tl_op_any, x, count, axes, keepdim, 0);
}

tl_var tl_all(tl_tape *t, tl_var x, int count, const int *axes, bool keepdim)
{
    return apply_axes(t, &tl_op_all, x, count, axes, keepdim, 0);
}

/* ---- argmax, argmin: i[0] = dim, flag = keepdim; the first at ties, or the first NaN ------- */

/* The one dimension as a list of axes; none for a scalar, which is one number along dimension 0. */
static tl_call along_dim(const tl_call *c, tl_attr *axes)
{
    tl_call along = *c;
    *axes = *c->attr;
    axes->n = !(scalar_dim(c->x[0].layout) && axes->i[0] == 0);
    along.attr = axes;
    return along;
}

static bool arg_shape(tl_call *c, tl_layout *layout)
{
    tl_attr axes;
    tl_call along = along_dim(c, &axes);
    c->y.dtype = TL_I64;
    return dim_fits(c, axes.i[0], scalar_dim(c->x[0].layout)) && reduced_shape_of_some(&along, layout);
}

static void arg_forward(tl_call *c, bool least)
{
    tl_attr axes;
    tl_call along = along_dim(c, &axes);
    rows r;
    if (!rows_begin(&along, &r))
        return;
    for (int64_t i = 0; i < r.count; i++)
        ((int64_t *)c->y.data)[i] = extreme_at(c->x[0].dtype, r.n, r.data + i * r.bytes, least);
    rows_end(c, &r);
}

static void argmax_forward(tl_call *c)
{
    arg_forward(c, false);
}

static void argmin_forward(tl_call *c)
{
    arg_forward(c, true);
}

static const tl_sample arg_samples[] = {{1, {{3, {2, 3, 4}, -2, 2, 0}}, {{1}, {0}, 1, 0}},
                                        {1, {{2, {3, 4}, -2, 2, 0}}, {{0}, {0}, 1, 1}},
                                        {1, {{1, {5}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
                                        TL_SAMPLES_END};

const tl_op tl_op_argmax = {.name = "argmax",
                            .equation = "y = the first i where x_i is largest",
                            .kind = TL_NOT_DIFFERENTIABLE,
                            .attributes = "dim=i0 keepdim=flag",
                            .least = 1,
                            .most = 1,
                            .shape = arg_shape,
                            .forward = argmax_forward,
                            .samples = arg_samples};

const tl_op tl_op_argmin = {.name = "argmin",
                            .equation = "y = the first i where x_i is smallest",
                            .kind = TL_NOT_DIFFERENTIABLE,
                            .attributes = "dim=i0 keepdim=flag",
                            .least = 1,
                            .most = 1,
                            .shape = arg_shape,
                            .forward = argmin_forward,
                            .samples = arg_samples};

tl_var tl_argmax(tl_tape *t, tl_var x, int dim, bool keepdim)
{
    return tl_apply_along(t, &tl_op_argmax, x, dim, (tl_attr){.n = 1, .flag = keepdim});
}

tl_var tl_argmin(tl_tape *t, tl_var x, int dim, bool keepdim)
{
    return tl_apply_along(t, &tl_op_argmin, x, dim, (tl_attr){.n = 1, .flag = keepdim});
}
