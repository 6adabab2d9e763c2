/* op_index.c - elements and rows picked by index, and put back. */
#include "autograd/ops.h"

#include <string.h>

#include "autograd/dims.h"
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
static const int64_t *indices(tl_call *c, int k, int64_t rows, const char *what)
{
    const tl_layout *layout = c->x[k].layout;
    const int64_t *index = c->x[k].data;
    for (int64_t i = 0; i < layout->count; i++)
        if (index[i] < 0 || index[i] >= rows) {
            tl_call_fail(c, TL_ERR_INDEX, "index %lld at position %lld is not within the %lld %s",
                         (long long)index[i], (long long)i, (long long)rows, what);
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
    const int64_t *index = indices(c, 1, table->shape[0], "rows");
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
    const int64_t *index = indices(c, 1, c->y.layout->shape[0], "rows");
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

/* ---- gather and scatter_add, i = dim ------------------------------------------------------
 *
 * A table (x of gather, y of scatter_add), and of one shape the indices and the numbers picked:
 *
 *     picked[j]  <->  table[j, but index[j] along dim]
 *
 * Both walk along runs of the last dimension. */

typedef struct picking {
    int64_t n, size;                     /* of a run; of the table along dim */
    int64_t index_step, pick_step, step; /* from element to element of the run */
    int64_t stride;                      /* of the table along dim */
} picking;

#define GATHER(ctype)                                                                                  \
    for (int64_t i = 0; i < p->n; i++)                                                                 \
    ((ctype *)picked)[i * p->pick_step] =                                                              \
        ((const ctype *)table)[i * p->step + index[i * p->index_step] * p->stride]
#define SCATTER(ctype)                                                                                 \
    for (int64_t i = 0; i < p->n; i++)                                                                 \
    ((ctype *)table)[i * p->step + index[i * p->index_step] * p->stride] +=                            \
        ((const ctype *)picked)[i * p->pick_step]

static void gather_run(const picking *p, tl_dtype dtype, const int64_t *index, void *table,
                       void *picked)
{
    if (tl_dtype_size(dtype) == 8)
        GATHER(uint64_t);
    else if (tl_dtype_size(dtype) == 4)
        GATHER(uint32_t);
    else
        GATHER(uint8_t);
}

static void scatter_run(const picking *p, tl_dtype dtype, const int64_t *index, void *table,
                        void *picked)
{
    if (dtype == TL_F64)
        SCATTER(double);
    else
        SCATTER(float);
}

static bool run_is_within(tl_call *c, const picking *p, const int64_t *index)
{
    for (int64_t i = 0; i < (p->index_step ? p->n : 1); i++) {
        int64_t at = index[i * p->index_step];
        if (at < 0 || at >= p->size)
            return tl_call_fail(c, TL_ERR_INDEX, "index %lld is not within the %lld of dimension %lld",
                                (long long)at, (long long)p->size, (long long)c->attr->i[0]);
    }
    return true;
}

/* One index for all of the run, as index_select has it, and no gaps: rows, that is. */
static bool is_row(const picking *p)
{
    return p->index_step == 0 && p->step == 1 && p->pick_step == 1;
}

static void row_run(const picking *p, tl_dtype dtype, int64_t index, char *table, void *picked,
                    bool add)
{
    const double no_constants[2] = {0};
    int64_t size = (int64_t)tl_dtype_size(dtype);
    table += index * p->stride * size;
    if (add)
        tl_kernel_add[dtype](p->n, (const void *[]){table, picked}, table, no_constants);
    else
        memcpy(picked, table, (size_t)(p->n * size));
}

/* A scalar as an array of one dimension. */
static tl_layout at_least_a_row(const tl_layout *layout)
{
    tl_layout row = *layout;
    if (row.ndim == 0) {
        row.ndim = 1;
        row.shape[0] = row.stride[0] = 1;
    }
    return row;
}

static void pick(tl_call *c, tl_array table, tl_array index, tl_array picked, bool add)
{
    tl_layout from = at_least_a_row(table.layout), by = at_least_a_row(index.layout),
              to = at_least_a_row(picked.layout);
    int64_t dim = c->attr->i[0], size = (int64_t)tl_dtype_size(table.dtype), at[TL_MAX_DIMS] = {0};
    int last = by.ndim - 1;
    if (by.count == 0)
        return;
    picking p = {by.shape[last],
                 from.shape[dim],
                 by.stride[last],
                 to.stride[last],
                 dim == last ? 0 : from.stride[last],
                 from.stride[dim]};
    for (int d = last; d >= 0;) {
        int64_t table_at = 0, index_at = 0, pick_at = 0;
        for (int k = 0; k < last; k++) {
            table_at += k == dim ? 0 : at[k] * from.stride[k];
            index_at += at[k] * by.stride[k];
            pick_at += at[k] * to.stride[k];
        }
        const int64_t *run = (const int64_t *)index.data + index_at;
        char *from_run = (char *)table.data + table_at * size,
             *to_run = (char *)picked.data + pick_at * size;
        if (!run_is_within(c, &p, run))
            return;
        if (is_row(&p))
            row_run(&p, table.dtype, *run, from_run, to_run, add);
        else
            (add ? scatter_run : gather_run)(&p, table.dtype, run, from_run, to_run);
        for (d = last - 1; d >= 0 && ++at[d] == by.shape[d]; d--)
            at[d] = 0;
    }
}

/* The index has x's dimensions, and is no larger beside dim. */
static bool index_fits(const tl_call *c, const tl_layout *x, const tl_layout *index)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    int64_t dim = c->attr->i[0];
    if (!is_index(c, 1) || !dim_fits(c, dim, scalar_dim(x)))
        return false;
    bool fits = x->ndim == index->ndim;
    for (int d = 0; fits && d < x->ndim; d++)
        fits = d == dim || index->shape[d] <= x->shape[d];
    return fits ||
           tl_call_fail(c, TL_ERR_SHAPE,
                        "the index must be no larger than x beside dimension %lld: %s, index %s",
                        (long long)dim, tl_layout_text(x, a), tl_layout_text(index, b));
}

/* ---- gather: y[j] = x[j, but index[j] along dim] ---------------------------------------- */

static bool gather_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *index = c->x[1].layout;
    return index_fits(c, c->x[0].layout, index) &&
           tl_layout_make(layout, index->ndim, index->shape) == TL_OK;
}

static void gather_forward(tl_call *c)
{
    pick(c, c->x[0], c->x[1], c->y, false);
}

/* Zeros that take no room: one, seen many times. */
static tl_var zeros_of(tl_tape *t, tl_dtype dtype, const tl_layout *layout)
{
    return tl_expand(t, tl_full(t, dtype, 0, NULL, 0), layout->ndim, layout->shape);
}

static void gather_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    tl_var zeros = zeros_of(c->tape, c->x[0].dtype, c->x[0].layout);
    tl_var in[3] = {zeros, c->in[1], dy};
    dx[0] = tl_apply(c->tape, &tl_op_scatter_add, 3, in, c->attr);
}

static const tl_sample gather_samples[] = {
    {2, {{2, {3, 5}, -2, 2, 0}, {2, {3, 4}, 0, 0, 5}}, {{1}, {0}, 1, 0}},
    {2, {{3, {4, 3, 5}, -2, 2, 0}, {3, {6, 2, 5}, 0, 0, 4}}, {{0}, {0}, 1, 0}},
    {2, {{3, {2, 3, 4}, -2, 2, 0}, {3, {1, 5, 3}, 0, 0, 3}}, {{1}, {0}, 1, 0}},
    {2, {{1, {5}, -2, 2, 0}, {1, {7}, 0, 0, 5}}, {{0}, {0}, 1, 0}},
    {2, {{0, {0}, -2, 2, 0}, {0, {0}, 0, 0, 1}}, {{0}, {0}, 1, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_gather = {.name = "gather",
                            .equation = "y[j,k] = x[index[j,k],k]",
                            .kind = TL_LINEAR,
                            .attributes = "dim=i0",
                            .least = 2,
                            .most = 2,
                            .mixed = true,
                            .shape = gather_shape,
                            .forward = gather_forward,
                            .vjp = gather_vjp,
                            .samples = gather_samples};

tl_var tl_gather(tl_tape *t, tl_var x, int dim, tl_var index)
{
    tl_array a;
    tl_var in[2] = {x, index};
    if (!array_of(t, x, &a) || !find_dim(t, "gather", a.layout, scalar_dim(a.layout), &dim))
        return tl_poison(t);
    return tl_apply(t, &tl_op_gather, 2, in, &(tl_attr){.i = {dim}, .n = 1});
}

/* ---- scatter_add: y = x; y[j, but index[j] along dim] += src[j] ------------------------- */

static bool scatter_add_shape(tl_call *c, tl_layout *layout)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    const tl_layout *x = c->x[0].layout, *index = c->x[1].layout, *src = c->x[2].layout;
    if (!is_real(c, 0) || !index_fits(c, x, index))
        return false;
    if (c->x[2].dtype != c->x[0].dtype)
        return tl_call_fail(c, TL_ERR_DTYPE, "operands differ in dtype: %s and %s",
                            tl_dtype_name(c->x[0].dtype), tl_dtype_name(c->x[2].dtype));
    if (!tl_layout_same_shape(index, src))
        return tl_call_fail(c, TL_ERR_SHAPE, "one number for each index: %s, index %s",
                            tl_layout_text(src, a), tl_layout_text(index, b));
    return tl_layout_make(layout, x->ndim, x->shape) == TL_OK;
}

static void scatter_add_forward(tl_call *c)
{
    tl_copy(c->x[0], c->y);
    pick(c, c->y, c->x[1], c->x[2], true);
}

static void scatter_add_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    tl_var in[2] = {dy, c->in[1]};
    if (tl_call_wants(c, 0))
        dx[0] = dy;
    if (tl_call_wants(c, 2))
        dx[2] = tl_apply(c->tape, &tl_op_gather, 2, in, c->attr);
}

static const tl_sample scatter_add_samples[] = {
    {3, {{2, {3, 5}, -2, 2, 0}, {2, {3, 4}, 0, 0, 5}, {2, {3, 4}, -2, 2, 0}}, {{1}, {0}, 1, 0}},
    {3,
     {{3, {4, 3, 5}, -2, 2, 0}, {3, {6, 2, 5}, 0, 0, 4}, {3, {6, 2, 5}, -2, 2, 0}},
     {{0}, {0}, 1, 0}},
    {3, {{1, {3}, -2, 2, 0}, {1, {7}, 0, 0, 3}, {1, {7}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
    {3, {{0, {0}, -2, 2, 0}, {0, {0}, 0, 0, 1}, {0, {0}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_scatter_add = {.name = "scatter_add",
                                 .equation = "y = x; y[index[j,k],k] += src[j,k]",
                                 .kind = TL_LINEAR,
                                 .attributes = "dim=i0",
                                 .least = 3,
                                 .most = 3,
                                 .mixed = true,
                                 .shape = scatter_add_shape,
                                 .forward = scatter_add_forward,
                                 .vjp = scatter_add_vjp,
                                 .samples = scatter_add_samples};

tl_var tl_scatter_add(tl_tape *t, tl_var x, int dim, tl_var index, tl_var src)
{
    tl_array a;
    tl_var in[3] = {x, index, src};
    if (!array_of(t, x, &a) || !find_dim(t, "scatter_add", a.layout, scalar_dim(a.layout), &dim))
        return tl_poison(t);
    return tl_apply(t, &tl_op_scatter_add, 3, in, &(tl_attr){.i = {dim}, .n = 1});
}

/* ---- index_select: x, index [N], i = dim: y[i,n,k] = x[i,index[n],k] -------------------- */

static bool index_select_fits(const tl_call *c)
{
    const tl_layout *x = c->x[0].layout, *index = c->x[1].layout;
    char text[TL_LAYOUT_TEXT];
    if (!is_index(c, 1) || !dim_fits(c, c->attr->i[0], scalar_dim(x)))
        return false;
    if (index->ndim > 1 || (x->ndim == 0 && index->count != 1))
        return tl_call_fail(c, TL_ERR_SHAPE, "wants a list of indices%s, not %s",
                            x->ndim ? "" : " (one of them, for a scalar)", tl_layout_text(index, text));
    return true;
}

/* gather with the same indices for everything beside dim */
static tl_var index_select_compose(const tl_call *c)
{
    const tl_layout *x = c->x[0].layout;
    int64_t dim = c->attr->i[0], line[TL_MAX_DIMS], all[TL_MAX_DIMS];
    if (!index_select_fits(c))
        return tl_poison(c->tape);
    for (int d = 0; d < x->ndim; d++) {
        line[d] = d == dim ? c->x[1].layout->count : 1;
        all[d] = d == dim ? line[d] : x->shape[d];
    }
    tl_var index = tl_reshape(c->tape, c->in[1], x->ndim, line);
    return tl_gather(c->tape, c->in[0], (int)dim, tl_expand(c->tape, index, x->ndim, all));
}

static const tl_sample index_select_samples[] = {
    {2, {{2, {5, 3}, -2, 2, 0}, {1, {4}, 0, 0, 5}}, {{0}, {0}, 1, 0}},
    {2, {{3, {2, 5, 3}, -2, 2, 0}, {1, {7}, 0, 0, 5}}, {{1}, {0}, 1, 0}},
    {2, {{2, {2, 3}, -2, 2, 0}, {0, {0}, 0, 0, 3}}, {{1}, {0}, 1, 0}},
    {2, {{0, {0}, -2, 2, 0}, {1, {1}, 0, 0, 1}}, {{0}, {0}, 1, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_index_select = {.name = "index_select",
                                  .equation = "y[i,n,k] = x[i,index[n],k]",
                                  .kind = TL_COMPOSED,
                                  .attributes = "dim=i0",
                                  .least = 2,
                                  .most = 2,
                                  .mixed = true,
                                  .compose = index_select_compose,
                                  .samples = index_select_samples};

tl_var tl_index_select(tl_tape *t, tl_var x, int dim, tl_var index)
{
    tl_array a;
    tl_var in[2] = {x, index};
    if (!array_of(t, x, &a) || !find_dim(t, "index_select", a.layout, scalar_dim(a.layout), &dim))
        return tl_poison(t);
    return tl_apply(t, &tl_op_index_select, 2, in, &(tl_attr){.i = {dim}, .n = 1});
}

/* ---- one_hot: index [..], i = classes: y[..,c] = [index = c] ---------------------------- */

static bool one_hot_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *index = c->x[0].layout;
    int64_t classes = c->attr->i[0], shape[TL_MAX_DIMS];
    char text[TL_LAYOUT_TEXT];
    if (!is_index(c, 0))
        return false;
    if (index->ndim == TL_MAX_DIMS)
        return tl_call_fail(c, TL_ERR_SHAPE, "%s has no room for another dimension",
                            tl_layout_text(index, text));
    memcpy(shape, index->shape, sizeof shape);
    shape[index->ndim] = classes;
    return (classes > 0 && tl_layout_make(layout, index->ndim + 1, shape) == TL_OK) ||
           tl_call_fail(c, TL_ERR_ARGUMENT, "%lld classes", (long long)classes);
}

static void one_hot_forward(tl_call *c)
{
    int64_t classes = c->attr->i[0], *y = c->y.data;
    const int64_t *index = indices(c, 0, classes, "classes");
    memset(y, 0, (size_t)c->y.layout->count * sizeof *y);
    for (int64_t i = 0; index && i < c->x[0].layout->count; i++)
        y[i * classes + index[i]] = 1;
}

static const tl_sample one_hot_samples[] = {{1, {{2, {2, 3}, 0, 0, 5}}, {{5}, {0}, 1, 0}},
                                            {1, {{1, {4}, 0, 0, 2}}, {{3}, {0}, 1, 0}},
                                            {1, {{0, {0}, 0, 0, 4}}, {{4}, {0}, 1, 0}},
                                            TL_SAMPLES_END};

const tl_op tl_op_one_hot = {.name = "one_hot",
                             .equation = "y[i,c] = [index[i] = c]",
                             .kind = TL_NOT_DIFFERENTIABLE,
                             .attributes = "classes=i0",
                             .least = 1,
                             .most = 1,
                             .mixed = true,
                             .dense = true,
                             .shape = one_hot_shape,
                             .forward = one_hot_forward,
                             .samples = one_hot_samples};

tl_var tl_one_hot(tl_tape *t, tl_var index, int64_t classes)
{
    return tl_apply(t, &tl_op_one_hot, 1, &index, &(tl_attr){.i = {classes}, .n = 1});
}
