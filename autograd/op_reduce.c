/* op_reduce.c - many numbers become one: over any axes, i = axes, flag = keepdim. */
#include "autograd/ops.h"

#include <math.h>
#include <string.h>

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
    r->count = r->n ? x.layout->count / r->n : 0;
    r->bytes = r->n * (int64_t)tl_dtype_size(x.dtype);
    move_axes(c, x.layout, &r->order);
    if (r->order.contiguous || !r->order.count)
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

static void extreme_forward(tl_call *c, bool least)
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

/* ---- argmax, argmin: i[0] = dim, flag = keepdim; the first at ties, or the first NaN ------- */

/* The one dimension as a list of axes. */
static tl_call along_dim(const tl_call *c, tl_attr *axes)
{
    tl_call along = *c;
    *axes = *c->attr;
    axes->n = 1;
    along.attr = axes;
    return along;
}

static bool arg_shape(tl_call *c, tl_layout *layout)
{
    tl_attr axes;
    tl_call along = along_dim(c, &axes);
    c->y.dtype = TL_I64;
    return reduced_shape_of_some(&along, layout);
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
    return apply_axes(t, &tl_op_argmax, x, 1, &dim, keepdim, 0);
}

tl_var tl_argmin(tl_tape *t, tl_var x, int dim, bool keepdim)
{
    return apply_axes(t, &tl_op_argmin, x, 1, &dim, keepdim, 0);
}
