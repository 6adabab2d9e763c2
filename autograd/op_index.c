/* op_index.c - rows picked by index, and put back. */
#include "autograd/ops.h"

#include <string.h>

#include "tensor/kernels.h"

static bool is_index(const tl_call *c, int k)
{
    if (c->x[k].dtype == TL_I64)
        return true;
    return tl_call_fail(c, TL_ERR_DTYPE, "indices must be i64, not %s", tl_dtype_name(c->x[k].dtype));
}

static bool is_real(const tl_call *c, int k)
{
    if (tl_dtype_is_real(c->x[k].dtype))
        return true;
    return tl_call_fail(c, TL_ERR_DTYPE, "operand %d must be f32 or f64, not %s", k,
                        tl_dtype_name(c->x[k].dtype));
}

/* The indices as a plain array; checked against the number of rows before anything is touched. */
static const int64_t *indices(tl_call *c, int k, int64_t rows)
{
    const tl_layout *layout = c->x[k].layout;
    const int64_t *index = c->x[k].data;
    for (int64_t i = 0; i < layout->count; i++)
        if (index[i] < 0 || index[i] >= rows) {
            tl_call_fail(c, TL_ERR_INDEX, "index %lld at position %lld is not within the %lld rows",
                         (long long)index[i], (long long)i, (long long)rows);
            return NULL;
        }
    return index;
}

/* ---- embedding: table [N,E], index [..]: y[i] = table[index[i]] ------------------------- */

static bool embedding_shape(tl_call *c, tl_layout *layout)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    const tl_layout *table = c->x[0].layout, *index = c->x[1].layout;
    int64_t shape[TL_MAX_DIMS];
    if (!is_real(c, 0) || !is_index(c, 1))
        return false;
    if (table->ndim != 2 || index->ndim >= TL_MAX_DIMS)
        return tl_call_fail(c, TL_ERR_SHAPE, "wants a table of 2 dimensions, not %s (index %s)",
                            tl_layout_text(table, a), tl_layout_text(index, b));
    memcpy(shape, index->shape, sizeof shape);
    shape[index->ndim] = table->shape[1];
    return tl_layout_make(layout, index->ndim + 1, shape) == TL_OK;
}

static void embedding_forward(tl_call *c)
{
    const tl_layout *table = c->x[0].layout;
    const int64_t *index = indices(c, 1, table->shape[0]);
    int64_t size = (int64_t)tl_dtype_size(c->y.dtype), width = table->shape[1];
    tl_layout row;
    if (!index || tl_layout_make(&row, 1, &width) != TL_OK)
        return;
    tl_layout source = row;
    source.stride[0] = table->stride[1];
    tl_layout_finish(&source);
    for (int64_t i = 0; i < c->x[1].layout->count; i++) {
        char *from = (char *)c->x[0].data + index[i] * table->stride[0] * size;
        tl_copy((tl_array){from, &source, c->y.dtype},
                (tl_array){(char *)c->y.data + i * width * size, &row, c->y.dtype});
    }
}

static void embedding_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_scatter_rows(c->tape, dy, c->in[1], c->x[0].layout->shape[0]);
}

static const tl_sample embedding_samples[] = {
    {2, {{2, {5, 3}, -2, 2, 0}, {2, {2, 4}, 0, 0, 5}}, {{0}, {0}, 0, 0}},
    {2, {{2, {5, 3}, -2, 2, 0}, {0, {0}, 0, 0, 5}}, {{0}, {0}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_embedding = {.name = "embedding",
                               .equation = "y[i] = table[index[i]]",
                               .kind = TL_LINEAR,
                               .least = 2,
                               .most = 2,
                               .mixed = true,
                               .dense = true,
                               .shape = embedding_shape,
                               .forward = embedding_forward,
                               .vjp = embedding_vjp,
                               .samples = embedding_samples};

tl_var tl_embedding_op(tl_tape *t, tl_var table, tl_var index)
{
    tl_var in[2] = {table, index};
    return tl_apply(t, &tl_op_embedding, 2, in, NULL);
}

/* ---- scatter_rows: x [..,E], index [..], i = rows: y = 0; y[index[i]] += x[i] ----------- */

static bool scatter_rows_shape(tl_call *c, tl_layout *layout)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    tl_layout rows = *c->x[0].layout;
    int64_t shape[2] = {c->attr->i[0], rows.ndim ? rows.shape[rows.ndim - 1] : 0};
    if (!is_real(c, 0) || !is_index(c, 1))
        return false;
    rows.ndim--;
    if (rows.ndim < 0 || !tl_layout_same_shape(&rows, c->x[1].layout))
        return tl_call_fail(c, TL_ERR_SHAPE, "one row for each index: %s, index %s",
                            tl_layout_text(c->x[0].layout, a), tl_layout_text(c->x[1].layout, b));
    return tl_layout_make(layout, 2, shape) == TL_OK ||
           tl_call_fail(c, TL_ERR_ARGUMENT, "%lld rows", (long long)shape[0]);
}

static void scatter_rows_add(tl_call *c)
{
    const int64_t *index = indices(c, 1, c->y.layout->shape[0]);
    int64_t size = (int64_t)tl_dtype_size(c->y.dtype), width = c->y.layout->shape[1];
    if (!index)
        return;
    const double no_constants[2] = {0};
    for (int64_t i = 0; i < c->x[1].layout->count; i++) {
        char *to = (char *)c->y.data + index[i] * width * size;
        const void *terms[2] = {to, (const char *)c->x[0].data + i * width * size};
        tl_kernel_add[c->y.dtype](width, terms, to, no_constants);
    }
}

static void scatter_rows_forward(tl_call *c)
{
    memset(c->y.data, 0, (size_t)c->y.layout->count * tl_dtype_size(c->y.dtype));
    scatter_rows_add(c);
}

static void scatter_rows_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_embedding_op(c->tape, dy, c->in[1]);
}

static const tl_sample scatter_rows_samples[] = {
    {2, {{3, {2, 4, 3}, -2, 2, 0}, {2, {2, 4}, 0, 0, 5}}, {{5}, {0}, 1, 0}}, TL_SAMPLES_END};

const tl_op tl_op_scatter_rows = {.name = "scatter_rows",
                                  .equation = "y = 0; y[index[i]] += x[i]",
                                  .kind = TL_LINEAR,
                                  .attributes = "rows=i0",
                                  .least = 2,
                                  .most = 2,
                                  .mixed = true,
                                  .dense = true,
                                  .shape = scatter_rows_shape,
                                  .forward = scatter_rows_forward,
                                  .forward_add = scatter_rows_add,
                                  .vjp = scatter_rows_vjp,
                                  .samples = scatter_rows_samples};

tl_var tl_scatter_rows(tl_tape *t, tl_var x, tl_var index, int64_t rows)
{
    tl_var in[2] = {x, index};
    return tl_apply(t, &tl_op_scatter_rows, 2, in, &(tl_attr){.i = {rows}, .n = 1});
}
