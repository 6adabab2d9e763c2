/* op_matmul.c - matrix products.
 *
 * linear and sum_outer are closed under differentiation: with y = x W',
 *
 *     dx = dy W             linear, the other way round
 *     dW = sum dy_r x_r'    sum_outer over the rows r
 *
 * and the derivatives of sum_outer are linear again. */
#include "autograd/ops.h"

#include <string.h>

#include "autograd/tape_impl.h"
#include "tensor/kernels.h"

static bool at_least(const tl_call *c, int k, int ndim)
{
    char shape[TL_LAYOUT_TEXT];
    if (c->x[k].layout->ndim >= ndim)
        return true;
    return tl_call_fail(c, TL_ERR_SHAPE, "operand %d wants at least %d dimension%s, not %s", k, ndim,
                        ndim == 1 ? "" : "s", tl_layout_text(c->x[k].layout, shape));
}

static bool fail_pair(const tl_call *c, const char *rule)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    return tl_call_fail(c, TL_ERR_SHAPE, "%s: %s x %s", rule, tl_layout_text(c->x[0].layout, a),
                        tl_layout_text(c->x[1].layout, b));
}

static int64_t last_size(const tl_layout *layout)
{
    return layout->shape[layout->ndim - 1];
}

/* An array of shape [..,n] as a matrix of contiguous rows: its own numbers where the strides allow,
 * otherwise a copy in *copy, which the caller gives back to the pool. */
static bool rows_of(tl_tape *t, tl_array x, tl_matrix *m, tl_block **copy)
{
    int64_t cols = last_size(x.layout), rows = 1;
    for (int k = 0; k + 1 < x.layout->ndim; k++)
        rows *= x.layout->shape[k];
    tl_layout flat, view;
    int64_t shape[2] = {rows, cols};
    if (tl_layout_make(&flat, 2, shape) != TL_OK)
        return false;
    if (tl_layout_reshape(x.layout, &flat, &view) && (view.stride[1] == 1 || cols == 1)) {
        *m = (tl_matrix){x.data, rows, cols, view.stride[0], 1};
        return true;
    }
    *copy = tl_pool_get(&t->pool, (size_t)flat.count * tl_dtype_size(x.dtype));
    if (!*copy) {
        tl_tape_no_memory(t);
        return false;
    }
    tl_layout dense;
    tl_layout_make(&dense, x.layout->ndim, x.layout->shape);
    tl_copy(x, (tl_array){tl_block_data(*copy), &dense, x.dtype});
    *m = (tl_matrix){tl_block_data(*copy), rows, cols, cols, 1};
    return true;
}

/* ---- matmul: [..,M,K] x [..,K,N], leading dimensions broadcast --------------------------
 *
 * A vector is a row on the left and a column on the right; the dimension this takes is not y's. */

/* The leading dimensions of a layout alone, and the matrix in its last two. */
static tl_layout batch_of(const tl_layout *layout)
{
    tl_layout batch = *layout;
    batch.ndim -= 2;
    tl_layout_finish(&batch);
    return batch;
}

static tl_matrix matrix_of(tl_array x)
{
    const tl_layout *l = x.layout;
    return (tl_matrix){x.data, l->shape[l->ndim - 2], l->shape[l->ndim - 1], l->stride[l->ndim - 2],
                       l->stride[l->ndim - 1]};
}

static bool has_vector(const tl_call *c)
{
    return c->x[0].layout->ndim == 1 || c->x[1].layout->ndim == 1;
}

/* [K] x [..,K,N], [..,M,K] x [K], [K] x [K] */
static bool vector_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *a = c->x[0].layout, *b = c->x[1].layout;
    bool column = b->ndim == 1;
    tl_layout y = column ? *a : *b;
    if (last_size(a) != b->shape[column ? 0 : b->ndim - 2])
        return fail_pair(c, "inner sizes differ");
    y.ndim--;
    if (!column)
        y.shape[y.ndim - 1] = last_size(b);
    return tl_layout_make(layout, y.ndim, y.shape) == TL_OK;
}

static bool matmul_shape(tl_call *c, tl_layout *layout)
{
    if (!at_least(c, 0, 1) || !at_least(c, 1, 1))
        return false;
    if (has_vector(c))
        return vector_shape(c, layout);
    tl_matrix a = matrix_of(c->x[0]), b = matrix_of(c->x[1]);
    if (a.cols != b.rows)
        return fail_pair(c, "inner sizes differ");
    tl_layout batch_a = batch_of(c->x[0].layout), batch_b = batch_of(c->x[1].layout), batch;
    if (!tl_layout_broadcast(&batch_a, &batch_b, &batch))
        return fail_pair(c, "leading sizes cannot be broadcast");
    batch.shape[batch.ndim] = a.rows;
    batch.shape[batch.ndim + 1] = b.cols;
    return tl_layout_make(layout, batch.ndim + 2, batch.shape) == TL_OK;
}

static void *matrix_at(tl_array x, const tl_layout *batch, const int64_t *index)
{
    int64_t offset = 0;
    for (int k = 0; k < batch->ndim; k++)
        offset += batch->stride[k] * index[k];
    return (char *)x.data + offset * (int64_t)tl_dtype_size(x.dtype);
}

/* y = x w, or x w' where `transposed`, + start: by the packed form of w where it pays to have one. */
static void multiply(tl_call *c, tl_matrix x, bool transposed, tl_matrix start, tl_matrix y)
{
    tl_tape *t = c->tape;
    size_t size = tl_dtype_size(c->y.dtype);
    const tl_packed *packed = tl_tape_packed(t, c->in[1], transposed);
    if (packed) {
        tl_packed_product(t->blas, x, packed, start.data ? &start : NULL, 0, y);
        return;
    }
    if (tl_tape_status(t) != TL_OK)
        return;
    tl_matrix w = matrix_of(c->x[1]);
    for (int64_t row = 0; start.data && row < y.rows; row++)
        memcpy((char *)y.data + (size_t)(row * y.row_stride) * size,
               (char *)start.data + (size_t)(row * start.row_stride) * size, (size_t)y.cols * size);
    tl_blas_product(t->blas, c->y.dtype, x, transposed ? tl_matrix_transposed(w) : w,
                    start.data ? 1 : 0, y);
}

/* [..,M,K] x [K,N]: one product of all rows with b, which is packed once for all its uses if it is on
 * the record. So h W costs in a cell of one's own what it costs in linear. */
static bool is_rows_times_matrix(const tl_call *c)
{
    return c->x[1].layout->ndim == 2;
}

static void multiply_rows(tl_call *c)
{
    tl_block *copy = NULL;
    int64_t cols = last_size(c->y.layout);
    tl_matrix a, none = {0}, y = {c->y.data, 0, cols, cols, 1};
    if (!rows_of(c->tape, c->x[0], &a, &copy))
        return;
    y.rows = a.rows;
    multiply(c, a, false, none, y);
    tl_pool_put(&c->tape->pool, copy);
}

static void multiply_batches(tl_call *c)
{
    tl_matrix a = matrix_of(c->x[0]), b = matrix_of(c->x[1]), y = matrix_of(c->y);
    tl_layout batch = batch_of(c->y.layout), batch_a = batch_of(c->x[0].layout),
              batch_b = batch_of(c->x[1].layout);
    tl_layout wide_a, wide_b;
    if (!tl_layout_expand(&batch_a, &batch, &wide_a) || !tl_layout_expand(&batch_b, &batch, &wide_b))
        return;
    int64_t index[TL_MAX_DIMS] = {0};
    for (int64_t i = 0; i < batch.count; i++) {
        a.data = matrix_at(c->x[0], &wide_a, index);
        b.data = matrix_at(c->x[1], &wide_b, index);
        y.data = matrix_at(c->y, &batch, index);
        tl_blas_product(c->tape->blas, c->y.dtype, a, b, 0, y);
        for (int k = batch.ndim - 1; k >= 0 && ++index[k] == batch.shape[k]; k--)
            index[k] = 0;
    }
}

/* Every row of x with one column. */
static void multiply_column(tl_call *c)
{
    tl_block *copy = NULL;
    const tl_layout *b = c->x[1].layout;
    tl_matrix a, y = {c->y.data, c->y.layout->count, 1, 1, 1},
                 column = {c->x[1].data, b->shape[0], 1, b->stride[0], 1};
    if (rows_of(c->tape, c->x[0], &a, &copy))
        tl_blas_product(c->tape->blas, c->y.dtype, a, column, 0, y);
    tl_pool_put(&c->tape->pool, copy);
}

/* Another dimension, of size 1, before the last one. */
static tl_layout as_row(const tl_layout *layout)
{
    tl_layout row = *layout;
    int last = row.ndim++ - 1;
    row.shape[last + 1] = layout->shape[last];
    row.stride[last + 1] = layout->stride[last];
    row.shape[last] = 1;
    tl_layout_finish(&row);
    return row;
}

/* [K] x [..,K,N] */
static void multiply_row(tl_call *c)
{
    tl_call of_rows = *c;
    tl_layout a = as_row(c->x[0].layout), y = as_row(c->y.layout);
    tl_array x[2] = {{c->x[0].data, &a, c->x[0].dtype}, c->x[1]};
    of_rows.x = x;
    of_rows.y.layout = &y;
    multiply_batches(&of_rows);
}

static void matmul_forward(tl_call *c)
{
    if (c->y.layout->count == 0)
        return;
    if (is_rows_times_matrix(c)) /* also where x is one row */
        multiply_rows(c);
    else if (c->x[1].layout->ndim == 1)
        multiply_column(c);
    else if (c->x[0].layout->ndim == 1)
        multiply_row(c);
    else
        multiply_batches(c);
}

static tl_var fit(tl_tape *t, tl_var dx, const tl_layout *to)
{
    return tl_sum_to(t, dx, to->ndim, to->shape);
}

/* y_r = a_r' b:  da_r = dy_r b',  db = sum_r dy_r a_r */
static void column_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    tl_tape *t = c->tape;
    int64_t size = c->x[1].layout->shape[0];
    dy = tl_unsqueeze(t, dy, -1);
    if (tl_call_wants(c, 0))
        dx[0] = tl_linear_op(t, dy, tl_unsqueeze(t, c->in[1], -1), TL_NONE);
    if (tl_call_wants(c, 1))
        dx[1] = tl_reshape(t, tl_sum_outer(t, c->in[0], dy), 1, &size);
}

/* y = a b:  da = dy b',  db = a' dy, summed over what was broadcast */
static void matmul_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    tl_tape *t = c->tape;
    tl_var a = c->in[0];
    bool rows = is_rows_times_matrix(c);
    if (c->x[1].layout->ndim == 1) {
        column_vjp(c, dy, dx);
        return;
    }
    if (c->x[0].layout->ndim == 1 && !rows) {
        a = tl_unsqueeze(t, a, 0);
        dy = tl_unsqueeze(t, dy, -2);
    }
    if (tl_call_wants(c, 0))
        dx[0] = rows ? tl_linear_op(t, dy, c->in[1], TL_NONE)
                     : fit(t, tl_matmul(t, dy, tl_transpose(t, c->in[1], -1, -2)), c->x[0].layout);
    if (tl_call_wants(c, 1))
        dx[1] = rows ? tl_sum_outer(t, a, dy)
                     : fit(t, tl_matmul(t, tl_transpose(t, a, -1, -2), dy), c->x[1].layout);
}

static const tl_sample matmul_samples[] = {
    {2, {{2, {2, 3}, -1, 1, 0}, {2, {3, 4}, -1, 1, 0}}, TL_NO_ATTR},
    {2, {{3, {5, 2, 3}, -1, 1, 0}, {2, {3, 4}, -1, 1, 0}}, TL_NO_ATTR},
    {2, {{3, {1, 2, 3}, -1, 1, 0}, {4, {2, 5, 3, 1}, -1, 1, 0}}, TL_NO_ATTR},
    TL_SAMPLES_END};

const tl_op tl_op_matmul = {.name = "matmul",
                            .equation = "y = a b",
                            .kind = TL_LINEAR,
                            .least = 2,
                            .most = 2,
                            .shape = matmul_shape,
                            .forward = matmul_forward,
                            .vjp = matmul_vjp,
                            .samples = matmul_samples};

tl_var tl_matmul(tl_tape *t, tl_var a, tl_var b)
{
    tl_var in[2] = {a, b};
    return tl_apply(t, &tl_op_matmul, 2, in, NULL);
}

/* ---- linear: x [..,I], w [O,I], b [O] or like y: y = x W' + b;  flag 1: x [..,O], y = x W ---- */

static bool bias_fits(const tl_call *c, const tl_layout *y)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    const tl_layout *bias = c->x[2].layout;
    if (bias->ndim == 1 ? bias->shape[0] == last_size(y) : tl_layout_same_shape(bias, y))
        return true;
    return tl_call_fail(c, TL_ERR_SHAPE, "wants a bias of [%lld] or %s, not %s",
                        (long long)last_size(y), tl_layout_text(y, a), tl_layout_text(bias, b));
}

static bool linear_shape(tl_call *c, tl_layout *layout)
{
    bool transposed = c->attr->flag;
    const tl_layout *x = c->x[0].layout, *w = c->x[1].layout;
    int64_t shape[TL_MAX_DIMS];
    if (!at_least(c, 0, 1))
        return false;
    if (w->ndim != 2)
        return fail_pair(c, "the weight is not a matrix");
    if (last_size(x) != w->shape[transposed ? 0 : 1])
        return fail_pair(c, transposed ? "x's last size is not the weight's first"
                                       : "x's last size is not the weight's last");
    memcpy(shape, x->shape, sizeof shape);
    shape[x->ndim - 1] = w->shape[transposed ? 1 : 0];
    return tl_layout_make(layout, x->ndim, shape) == TL_OK && (c->count < 3 || bias_fits(c, layout));
}

/* What Y starts from: the bias, one row for all or a row each. */
static bool start_of(tl_call *c, tl_matrix *start, tl_block **copy)
{
    if (c->count < 3)
        return true;
    if (!rows_of(c->tape, c->x[2], start, copy))
        return false;
    if (c->x[2].layout->ndim == 1)
        start->row_stride = 0;
    return true;
}

static void linear_forward(tl_call *c)
{
    tl_block *copy = NULL, *start_copy = NULL;
    tl_matrix x, start = {0}, y = {c->y.data, 0, last_size(c->y.layout), last_size(c->y.layout), 1};
    if (c->y.layout->count && rows_of(c->tape, c->x[0], &x, &copy) &&
        start_of(c, &start, &start_copy)) {
        y.rows = x.rows;
        multiply(c, x, !c->attr->flag, start, y);
    }
    tl_pool_put(&c->tape->pool, copy);
    tl_pool_put(&c->tape->pool, start_copy);
}

/* y = x W' + b:  dx = dy W,  dW = sum dy_r x_r',  db = sum dy_r
 * y = x W:       dx = dy W', dW = sum x_r dy_r' */
static void linear_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    tl_tape *t = c->tape;
    bool transposed = c->attr->flag;
    tl_var x = c->in[0], w = c->in[1];
    if (tl_call_wants(c, 0))
        dx[0] = transposed ? tl_linear_op(t, dy, w, TL_NONE) : tl_linear_transposed(t, dy, w);
    if (tl_call_wants(c, 1))
        dx[1] = transposed ? tl_sum_outer(t, x, dy) : tl_sum_outer(t, dy, x);
    if (c->count == 3 && tl_call_wants(c, 2))
        dx[2] = c->x[2].layout->ndim == 1 ? fit(t, dy, c->x[2].layout) : dy;
}

static const tl_sample linear_samples[] = {
    {3, {{2, {2, 3}, -1, 1, 0}, {2, {5, 3}, -1, 1, 0}, {1, {5}, -1, 1, 0}}, TL_NO_ATTR},
    {2, {{3, {4, 2, 3}, -1, 1, 0}, {2, {5, 3}, -1, 1, 0}}, TL_NO_ATTR},
    {2, {{3, {4, 2, 5}, -1, 1, 0}, {2, {5, 3}, -1, 1, 0}}, {{0}, {0}, 0, 1}},
    {3, {{1, {3}, -1, 1, 0}, {2, {5, 3}, -1, 1, 0}, {1, {5}, -1, 1, 0}}, TL_NO_ATTR},
    {3, {{2, {2, 3}, -1, 1, 0}, {2, {5, 3}, -1, 1, 0}, {2, {2, 5}, -1, 1, 0}}, TL_NO_ATTR},
    TL_SAMPLES_END};

const tl_op tl_op_linear = {.name = "linear",
                            .equation = "y = x W' + b",
                            .kind = TL_LINEAR,
                            .attributes = "transposed=flag",
                            .least = 2,
                            .most = 3,
                            .shape = linear_shape,
                            .forward = linear_forward,
                            .vjp = linear_vjp,
                            .samples = linear_samples};

tl_var tl_linear_op(tl_tape *t, tl_var x, tl_var w, tl_var b)
{
    tl_var in[3] = {x, w, b};
    return tl_apply(t, &tl_op_linear, 3, in, NULL);
}

tl_var tl_linear_transposed(tl_tape *t, tl_var x, tl_var w)
{
    tl_var in[2] = {x, w};
    return tl_apply(t, &tl_op_linear, 2, in, &(tl_attr){.flag = 1});
}

/* ---- sum_outer: a [..,M], b [..,N]: y[m,n] = sum over the rows r of a[r,m] b[r,n] ------- */

static bool sum_outer_shape(tl_call *c, tl_layout *layout)
{
    if (!at_least(c, 0, 1) || !at_least(c, 1, 1))
        return false;
    tl_layout rows_a = *c->x[0].layout, rows_b = *c->x[1].layout;
    rows_a.ndim--;
    rows_b.ndim--;
    if (!tl_layout_same_shape(&rows_a, &rows_b))
        return fail_pair(c, "leading sizes differ");
    int64_t shape[2] = {last_size(c->x[0].layout), last_size(c->x[1].layout)};
    return tl_layout_make(layout, 2, shape) == TL_OK;
}

static void sum_outer_rows(tl_call *c, bool collect)
{
    tl_tape *t = c->tape;
    tl_block *copy_a = NULL, *copy_b = NULL;
    tl_matrix a, b, y = matrix_of(c->y);
    if (c->x[0].layout->count && c->x[1].layout->count && rows_of(t, c->x[0], &a, &copy_a) &&
        rows_of(t, c->x[1], &b, &copy_b)) {
        if (collect)
            tl_tape_add_outer(t, c->y.dtype, a, b, y);
        else
            tl_blas_product(t->blas, c->y.dtype, tl_matrix_transposed(a), b, 1, y);
    }
    tl_pool_put(&t->pool, copy_a);
    tl_pool_put(&t->pool, copy_b);
}

static void sum_outer_add(tl_call *c)
{
    sum_outer_rows(c, true);
}

static void sum_outer_forward(tl_call *c)
{
    memset(c->y.data, 0, (size_t)c->y.layout->count * tl_dtype_size(c->y.dtype));
    sum_outer_rows(c, false);
}

/* da_r = dy b_r,  db_r = dy' a_r */
static void sum_outer_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    if (tl_call_wants(c, 0))
        dx[0] = tl_linear_op(c->tape, c->in[1], dy, TL_NONE);
    if (tl_call_wants(c, 1))
        dx[1] = tl_linear_transposed(c->tape, c->in[0], dy);
}

static const tl_sample sum_outer_samples[] = {
    {2, {{2, {2, 3}, -1, 1, 0}, {2, {2, 5}, -1, 1, 0}}, TL_NO_ATTR},
    {2, {{3, {4, 2, 3}, -1, 1, 0}, {3, {4, 2, 5}, -1, 1, 0}}, TL_NO_ATTR},
    {2, {{1, {3}, -1, 1, 0}, {1, {5}, -1, 1, 0}}, TL_NO_ATTR},
    TL_SAMPLES_END};

const tl_op tl_op_sum_outer = {.name = "sum_outer",
                               .equation = "y = sum_r a_r b_r'",
                               .kind = TL_LINEAR,
                               .least = 2,
                               .most = 2,
                               .shape = sum_outer_shape,
                               .forward = sum_outer_forward,
                               .forward_add = sum_outer_add,
                               .vjp = sum_outer_vjp,
                               .samples = sum_outer_samples};

tl_var tl_sum_outer(tl_tape *t, tl_var a, tl_var b)
{
    tl_var in[2] = {a, b};
    return tl_apply(t, &tl_op_sum_outer, 2, in, NULL);
}
