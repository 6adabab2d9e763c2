/* op_shape.c - the same numbers under other indices. Linear, all of them; the derivative of each is
 * the way back. */
#include "autograd/ops.h"

#include <string.h>

#include "autograd/dims.h"
#include "tensor/kernels.h"

static bool attr_layout(const tl_call *c, tl_layout *layout)
{
    if (tl_layout_make(layout, c->attr->n, c->attr->i) == TL_OK)
        return true;
    return tl_call_fail(c, TL_ERR_ARGUMENT, "not a shape");
}

static tl_attr shape_attr(int ndim, const int64_t *shape)
{
    tl_attr attr = {.n = ndim};
    for (int i = 0; i < ndim && i < TL_MAX_DIMS; i++)
        attr.i[i] = shape[i];
    return attr;
}

/* ---- detach: y = x, and no derivative passes -------------------------------------------- */

static bool same_shape(tl_call *c, tl_layout *layout)
{
    *layout = *c->x[0].layout;
    return true;
}

const tl_op tl_op_detach = {.name = "detach",
                            .equation = "y = x, a constant",
                            .kind = TL_NOT_DIFFERENTIABLE,
                            .least = 1,
                            .most = 1,
                            .mixed = true,
                            .shape = same_shape};

tl_var tl_detach(tl_tape *t, tl_var x)
{
    return tl_apply(t, &tl_op_detach, 1, &x, NULL);
}

/* ---- contiguous: y = x, row-major ------------------------------------------------------- */

static bool dense_shape(tl_call *c, tl_layout *layout)
{
    return tl_layout_make(layout, c->x[0].layout->ndim, c->x[0].layout->shape) == TL_OK;
}

static void contiguous_forward(tl_call *c)
{
    tl_copy(c->x[0], c->y);
}

static void contiguous_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    (void)c;
    dx[0] = dy;
}

static const tl_sample any_real[] = {{1, {{2, {3, 4}, -2, 2, 0}}, TL_NO_ATTR}, TL_SAMPLES_END};

const tl_op tl_op_contiguous = {.name = "contiguous",
                                .equation = "y = x",
                                .kind = TL_LINEAR,
                                .least = 1,
                                .most = 1,
                                .mixed = true,
                                .shape = dense_shape,
                                .forward = contiguous_forward,
                                .vjp = contiguous_vjp,
                                .samples = any_real};

tl_var tl_contiguous(tl_tape *t, tl_var x)
{
    tl_array a;
    if (array_of(t, x, &a) && a.layout->contiguous)
        return x;
    return tl_apply(t, &tl_op_contiguous, 1, &x, NULL);
}

/* ---- reshape: i = y's shape ------------------------------------------------------------- */

static bool reshape_shape(tl_call *c, tl_layout *layout)
{
    tl_layout wanted;
    char from[TL_LAYOUT_TEXT], to[TL_LAYOUT_TEXT];
    if (!attr_layout(c, &wanted))
        return false;
    if (wanted.count != c->x[0].layout->count)
        return tl_call_fail(c, TL_ERR_SHAPE, "%s has %lld elements, %s has %lld",
                            tl_layout_text(c->x[0].layout, from), (long long)c->x[0].layout->count,
                            tl_layout_text(&wanted, to), (long long)wanted.count);
    if (!tl_layout_reshape(c->x[0].layout, &wanted, layout))
        return tl_call_fail(c, TL_ERR_ARGUMENT, "%s with these strides is not %s without a copy",
                            tl_layout_text(c->x[0].layout, from), tl_layout_text(&wanted, to));
    return true;
}

static void reshape_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_reshape(c->tape, dy, c->x[0].layout->ndim, c->x[0].layout->shape);
}

static const tl_sample reshape_samples[] = {{1, {{2, {3, 4}, -2, 2, 0}}, {{2, 6}, {0}, 2, 0}},
                                            {1, {{3, {2, 3, 4}, -2, 2, 0}}, {{6, 4}, {0}, 2, 0}},
                                            TL_SAMPLES_END};

const tl_op tl_op_reshape = {.name = "reshape",
                             .equation = "y = x in another shape",
                             .kind = TL_VIEW,
                             .attributes = "shape=i*",
                             .least = 1,
                             .most = 1,
                             .mixed = true,
                             .shape = reshape_shape,
                             .vjp = reshape_vjp,
                             .samples = reshape_samples};

/* Works out a size that is given as -1. */
static void complete_shape(tl_attr *attr, int64_t count)
{
    int64_t known = 1;
    int open = -1;
    for (int i = 0; i < attr->n; i++) {
        if (attr->i[i] == -1 && open < 0)
            open = i;
        else if (attr->i[i] > 0 && known <= count)
            known *= attr->i[i];
    }
    if (open >= 0 && known > 0 && count % known == 0)
        attr->i[open] = count / known;
}

tl_var tl_reshape(tl_tape *t, tl_var x, int ndim, const int64_t *shape)
{
    tl_array a;
    if (!array_of(t, x, &a))
        return tl_poison(t);
    if (ndim < 0 || ndim > TL_MAX_DIMS) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "reshape: %d dimensions, at most %d", ndim, TL_MAX_DIMS);
        return tl_poison(t);
    }
    tl_attr attr = shape_attr(ndim, shape);
    complete_shape(&attr, a.layout->count);
    tl_layout wanted, view;
    if (tl_layout_make(&wanted, ndim, attr.i) == TL_OK && wanted.count == a.layout->count &&
        !tl_layout_reshape(a.layout, &wanted, &view))
        x = tl_contiguous(t, x);
    return tl_apply(t, &tl_op_reshape, 1, &x, &attr);
}

/* ---- permute: i[k] = which dimension of x is y's dimension k ---------------------------- */

static bool permute_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    char shape[TL_LAYOUT_TEXT];
    bool seen[TL_MAX_DIMS] = {false};
    if (c->attr->n != x->ndim)
        return tl_call_fail(c, TL_ERR_ARGUMENT, "the order must name each dimension of %s once",
                            tl_layout_text(x, shape));
    *layout = *x;
    for (int k = 0; k < x->ndim; k++) {
        int64_t from = c->attr->i[k];
        if (from < 0 || from >= x->ndim || seen[from])
            return tl_call_fail(c, TL_ERR_ARGUMENT, "the order must name each dimension of %s once",
                                tl_layout_text(x, shape));
        seen[from] = true;
        layout->shape[k] = x->shape[from];
        layout->stride[k] = x->stride[from];
    }
    tl_layout_finish(layout);
    return true;
}

static void permute_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    int back[TL_MAX_DIMS];
    for (int k = 0; k < c->attr->n; k++)
        back[c->attr->i[k]] = k;
    dx[0] = tl_permute(c->tape, dy, c->attr->n, back);
}

static const tl_sample permute_samples[] = {{1, {{3, {2, 3, 4}, -2, 2, 0}}, {{2, 0, 1}, {0}, 3, 0}},
                                            TL_SAMPLES_END};

const tl_op tl_op_permute = {.name = "permute",
                             .equation = "y[..i_k..] = x[i]",
                             .kind = TL_VIEW,
                             .attributes = "order=i*",
                             .least = 1,
                             .most = 1,
                             .mixed = true,
                             .shape = permute_shape,
                             .vjp = permute_vjp,
                             .samples = permute_samples};

tl_var tl_permute(tl_tape *t, tl_var x, int ndim, const int *order)
{
    tl_attr attr = {.n = ndim};
    for (int k = 0; k < ndim && k < TL_MAX_DIMS; k++)
        attr.i[k] = order[k];
    return tl_apply(t, &tl_op_permute, 1, &x, &attr);
}

tl_var tl_transpose(tl_tape *t, tl_var x, int dim0, int dim1)
{
    tl_array a;
    int order[TL_MAX_DIMS];
    if (!array_of(t, x, &a) || !find_dim(t, "transpose", a.layout, 0, &dim0) ||
        !find_dim(t, "transpose", a.layout, 0, &dim1))
        return tl_poison(t);
    for (int k = 0; k < a.layout->ndim; k++)
        order[k] = k == dim0 ? dim1 : k == dim1 ? dim0 : k;
    return tl_permute(t, x, a.layout->ndim, order);
}

tl_var tl_movedim(tl_tape *t, tl_var x, int from, int to)
{
    tl_array a;
    int order[TL_MAX_DIMS];
    if (!array_of(t, x, &a) || !find_dim(t, "movedim", a.layout, 0, &from) ||
        !find_dim(t, "movedim", a.layout, 0, &to))
        return tl_poison(t);
    for (int k = 0, other = 0; k < a.layout->ndim; k++) {
        other += other == from; /* the others stay in order */
        order[k] = k == to ? from : other++;
    }
    return tl_permute(t, x, a.layout->ndim, order);
}

/* ---- expand: i = y's shape; dx sums over what was repeated ------------------------------ */

static bool expand_shape(tl_call *c, tl_layout *layout)
{
    tl_layout wanted;
    char from[TL_LAYOUT_TEXT], to[TL_LAYOUT_TEXT];
    if (!attr_layout(c, &wanted))
        return false;
    if (!tl_layout_expand(c->x[0].layout, &wanted, layout))
        return tl_call_fail(c, TL_ERR_SHAPE, "%s cannot be broadcast to %s",
                            tl_layout_text(c->x[0].layout, from), tl_layout_text(&wanted, to));
    return true;
}

static void expand_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_sum_to(c->tape, dy, c->x[0].layout->ndim, c->x[0].layout->shape);
}

static const tl_sample expand_samples[] = {{1, {{2, {3, 1}, -2, 2, 0}}, {{2, 3, 4}, {0}, 3, 0}},
                                           TL_SAMPLES_END};

const tl_op tl_op_expand = {.name = "expand",
                            .equation = "y[i,j] = x[j]",
                            .kind = TL_VIEW,
                            .attributes = "shape=i*",
                            .least = 1,
                            .most = 1,
                            .mixed = true,
                            .shape = expand_shape,
                            .vjp = expand_vjp,
                            .samples = expand_samples};

tl_var tl_expand(tl_tape *t, tl_var x, int ndim, const int64_t *shape)
{
    tl_attr attr = shape_attr(ndim, shape);
    return tl_apply(t, &tl_op_expand, 1, &x, &attr);
}

/* ---- slice: i = dim, start, stop, step -------------------------------------------------- */

static int64_t slice_length(int64_t start, int64_t stop, int64_t step)
{
    return stop > start ? (stop - start - 1) / step + 1 : 0;
}

static bool slice_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    int64_t dim = c->attr->i[0], start = c->attr->i[1], stop = c->attr->i[2], step = c->attr->i[3];
    char shape[TL_LAYOUT_TEXT];
    if (!dim_fits(c, dim, 0))
        return false;
    if (step < 1 || start < 0 || stop < start || stop > x->shape[dim])
        return tl_call_fail(c, TL_ERR_INDEX, "%lld:%lld:%lld of dimension %lld of %s", (long long)start,
                            (long long)stop, (long long)step, (long long)dim, tl_layout_text(x, shape));
    *layout = *x;
    layout->shape[dim] = slice_length(start, stop, step);
    if (layout->shape[dim] > 1) /* of one element or none the stride is of no use, and could overflow */
        layout->stride[dim] = x->stride[dim] * step;
    tl_layout_finish(layout);
    if (layout->count)
        c->y.data =
            (char *)c->x[0].data + start * x->stride[dim] * (int64_t)tl_dtype_size(c->x[0].dtype);
    return true;
}

static void slice_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    const int64_t *i = c->attr->i;
    dx[0] = tl_unslice(c->tape, dy, (int)i[0], i[1], i[3], c->x[0].layout->shape[i[0]]);
}

static const tl_sample slice_samples[] = {{1, {{3, {2, 7, 3}, -2, 2, 0}}, {{1, 1, 6, 2}, {0}, 4, 0}},
                                          {1, {{2, {5, 3}, -2, 2, 0}}, {{0, 2, 4, 1}, {0}, 4, 0}},
                                          TL_SAMPLES_END};

const tl_op tl_op_slice = {.name = "slice",
                           .equation = "y[i] = x[start + i step]",
                           .kind = TL_VIEW,
                           .attributes = "dim=i0 start=i1 stop=i2 step=i3",
                           .least = 1,
                           .most = 1,
                           .mixed = true,
                           .shape = slice_shape,
                           .vjp = slice_vjp,
                           .samples = slice_samples};

static int64_t clip(int64_t i, int64_t size)
{
    i = i < 0 ? i + size : i;
    return i < 0 ? 0 : i > size ? size : i;
}

tl_var tl_slice(tl_tape *t, tl_var x, int dim, int64_t start, int64_t stop, int64_t step)
{
    tl_array a;
    if (!array_of(t, x, &a) || !find_dim(t, "slice", a.layout, 0, &dim))
        return tl_poison(t);
    start = clip(start, a.layout->shape[dim]);
    stop = clip(stop, a.layout->shape[dim]);
    tl_attr attr = {.i = {dim, start, stop < start ? start : stop, step}, .n = 4};
    return tl_apply(t, &tl_op_slice, 1, &x, &attr);
}

/* ---- unslice: i = dim, start, step, size; the adjoint of slice -------------------------- */

static bool unslice_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    int64_t dim = c->attr->i[0], start = c->attr->i[1], step = c->attr->i[2], size = c->attr->i[3];
    char shape[TL_LAYOUT_TEXT];
    if (!dim_fits(c, dim, 0))
        return false;
    int64_t n = x->shape[dim];
    if (start < 0 || step < 1 || size < 0 ||
        (n > 0 && (start >= size || (size - 1 - start) / step < n - 1)))
        return tl_call_fail(c, TL_ERR_INDEX,
                            "%s does not fit at %lld, step %lld, into %lld along dimension %lld",
                            tl_layout_text(x, shape), (long long)start, (long long)step,
                            (long long)size, (long long)dim);
    *layout = *x;
    layout->shape[dim] = size;
    return tl_layout_make(layout, x->ndim, layout->shape) == TL_OK ||
           tl_call_fail(c, TL_ERR_ARGUMENT, "%lld is too large a size", (long long)size);
}

/* Where in y the slice lies. */
static tl_array unslice_target(const tl_call *c, tl_layout *layout)
{
    int64_t dim = c->attr->i[0], start = c->attr->i[1], step = c->attr->i[2];
    *layout = *c->y.layout;
    char *data = (char *)c->y.data + start * layout->stride[dim] * (int64_t)tl_dtype_size(c->y.dtype);
    layout->shape[dim] = c->x[0].layout->shape[dim];
    if (layout->shape[dim] > 1)
        layout->stride[dim] *= step;
    tl_layout_finish(layout);
    return (tl_array){data, layout, c->y.dtype};
}

static void unslice_add(tl_call *c)
{
    tl_layout layout;
    tl_add_into(c->x[0], unslice_target(c, &layout));
}

static void unslice_forward(tl_call *c)
{
    memset(c->y.data, 0, (size_t)c->y.layout->count * tl_dtype_size(c->y.dtype));
    unslice_add(c);
}

static void unslice_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    const int64_t *i = c->attr->i;
    int64_t size = c->x[0].layout->shape[i[0]];
    dx[0] = tl_slice(c->tape, dy, (int)i[0], i[1], size ? i[1] + (size - 1) * i[2] + 1 : i[1], i[2]);
}

static const tl_sample unslice_samples[] = {{1, {{3, {2, 3, 4}, -2, 2, 0}}, {{1, 1, 2, 7}, {0}, 4, 0}},
                                            {1, {{2, {2, 3}, -2, 2, 0}}, {{0, 3, 1, 5}, {0}, 4, 0}},
                                            TL_SAMPLES_END};

const tl_op tl_op_unslice = {.name = "unslice",
                             .equation = "y = 0; y[start + i step] = x[i]",
                             .kind = TL_LINEAR,
                             .attributes = "dim=i0 start=i1 step=i2 size=i3",
                             .least = 1,
                             .most = 1,
                             .shape = unslice_shape,
                             .forward = unslice_forward,
                             .forward_add = unslice_add,
                             .vjp = unslice_vjp,
                             .samples = unslice_samples};

tl_var tl_unslice(tl_tape *t, tl_var x, int dim, int64_t start, int64_t step, int64_t size)
{
    tl_attr attr = {.i = {dim, start, step, size}, .n = 4};
    return tl_apply(t, &tl_op_unslice, 1, &x, &attr);
}

/* ---- select: i = dim, index ------------------------------------------------------------- */

static bool select_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    int64_t dim = c->attr->i[0], index = c->attr->i[1];
    char shape[TL_LAYOUT_TEXT];
    if (!dim_fits(c, dim, 0))
        return false;
    if (index < 0 || index >= x->shape[dim])
        return tl_call_fail(c, TL_ERR_INDEX, "index %lld of dimension %lld of %s", (long long)index,
                            (long long)dim, tl_layout_text(x, shape));
    *layout = *x;
    layout->ndim--;
    for (int64_t k = dim; k < layout->ndim; k++) {
        layout->shape[k] = x->shape[k + 1];
        layout->stride[k] = x->stride[k + 1];
    }
    tl_layout_finish(layout);
    c->y.data = (char *)c->x[0].data + index * x->stride[dim] * (int64_t)tl_dtype_size(c->x[0].dtype);
    return true;
}

static void select_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    const tl_layout *x = c->x[0].layout;
    int dim = (int)c->attr->i[0];
    int64_t shape[TL_MAX_DIMS];
    memcpy(shape, x->shape, sizeof shape);
    shape[dim] = 1;
    dx[0] = tl_unslice(c->tape, tl_reshape(c->tape, dy, x->ndim, shape), dim, c->attr->i[1], 1,
                       x->shape[dim]);
}

static const tl_sample select_samples[] = {{1, {{3, {2, 5, 3}, -2, 2, 0}}, {{1, 3}, {0}, 2, 0}},
                                           TL_SAMPLES_END};

const tl_op tl_op_select = {.name = "select",
                            .equation = "y[i,k] = x[i,index,k]",
                            .kind = TL_VIEW,
                            .attributes = "dim=i0 index=i1",
                            .least = 1,
                            .most = 1,
                            .mixed = true,
                            .shape = select_shape,
                            .vjp = select_vjp,
                            .samples = select_samples};

tl_var tl_select(tl_tape *t, tl_var x, int dim, int64_t index)
{
    tl_array a;
    if (!array_of(t, x, &a) || !find_dim(t, "select", a.layout, 0, &dim))
        return tl_poison(t);
    tl_attr attr = {.i = {dim, index < 0 ? index + a.layout->shape[dim] : index}, .n = 2};
    return tl_apply(t, &tl_op_select, 1, &x, &attr);
}

/* ---- concat: i = dim -------------------------------------------------------------------- */

/* The part of y that operand k fills, `start` elements along dim from its beginning. */
static tl_array part_of(tl_array y, int64_t dim, int64_t start, int64_t size, tl_layout *layout)
{
    *layout = *y.layout;
    layout->shape[dim] = size;
    tl_layout_finish(layout);
    return (tl_array){(char *)y.data + start * y.layout->stride[dim] * (int64_t)tl_dtype_size(y.dtype),
                      layout, y.dtype};
}

static bool one_dtype(const tl_call *c)
{
    for (int k = 1; k < c->count; k++)
        if (c->x[k].dtype != c->x[0].dtype)
            return tl_call_fail(c, TL_ERR_DTYPE, "operands differ in dtype: %s and %s",
                                tl_dtype_name(c->x[0].dtype), tl_dtype_name(c->x[k].dtype));
    return true;
}

static bool concat_shape(tl_call *c, tl_layout *layout)
{
    int64_t dim = c->attr->i[0], size = 0, shape[TL_MAX_DIMS];
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    if (!dim_fits(c, dim, 0) || !one_dtype(c))
        return false;
    for (int k = 0; k < c->count; k++) {
        tl_layout like = *c->x[k].layout;
        if (dim < like.ndim) {
            size += like.shape[dim];
            like.shape[dim] = c->x[0].layout->shape[dim];
        }
        if (!tl_layout_same_shape(&like, c->x[0].layout))
            return tl_call_fail(c, TL_ERR_SHAPE, "operands differ beside dimension %lld: %s and %s",
                                (long long)dim, tl_layout_text(c->x[0].layout, a),
                                tl_layout_text(c->x[k].layout, b));
    }
    memcpy(shape, c->x[0].layout->shape, sizeof shape);
    shape[dim] = size;
    return tl_layout_make(layout, c->x[0].layout->ndim, shape) == TL_OK;
}

static void concat_forward(tl_call *c)
{
    int64_t dim = c->attr->i[0], start = 0;
    for (int k = 0; k < c->count; k++) {
        tl_layout layout;
        int64_t size = c->x[k].layout->shape[dim];
        tl_copy(c->x[k], part_of(c->y, dim, start, size, &layout));
        start += size;
    }
}

static void concat_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    int64_t dim = c->attr->i[0], start = 0;
    for (int k = 0; k < c->count; k++) {
        int64_t size = c->x[k].layout->shape[dim];
        if (tl_call_wants(c, k))
            dx[k] = tl_slice(c->tape, dy, (int)dim, start, start + size, 1);
        start += size;
    }
}

static const tl_sample concat_samples[] = {
    {3, {{2, {2, 3}, -2, 2, 0}, {2, {2, 1}, -2, 2, 0}, {2, {2, 4}, -2, 2, 0}}, {{1}, {0}, 1, 0}},
    {2, {{2, {2, 3}, -2, 2, 0}, {2, {1, 3}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_concat = {.name = "concat",
                            .equation = "y = [x_0, x_1, ...]",
                            .kind = TL_LINEAR,
                            .attributes = "dim=i0",
                            .least = 1,
                            .most = -1,
                            .mixed = true,
                            .shape = concat_shape,
                            .forward = concat_forward,
                            .vjp = concat_vjp,
                            .samples = concat_samples};

tl_var tl_concat(tl_tape *t, int count, const tl_var *x, int dim)
{
    tl_array a;
    if (count < 1)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "concat: no operands");
    if (count < 1 || !array_of(t, x[0], &a) || !find_dim(t, "concat", a.layout, 0, &dim))
        return tl_poison(t);
    return tl_apply(t, &tl_op_concat, count, x, &(tl_attr){.i = {dim}, .n = 1});
}

/* ---- stack: i = dim --------------------------------------------------------------------- */

static bool stack_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    int64_t dim = c->attr->i[0], shape[TL_MAX_DIMS];
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    if (!dim_fits(c, dim, 1) || !one_dtype(c))
        return false;
    if (x->ndim == TL_MAX_DIMS)
        return tl_call_fail(c, TL_ERR_SHAPE, "%s has no room for another dimension",
                            tl_layout_text(x, a));
    for (int k = 1; k < c->count; k++)
        if (!tl_layout_same_shape(x, c->x[k].layout))
            return tl_call_fail(c, TL_ERR_SHAPE, "operands differ: %s and %s", tl_layout_text(x, a),
                                tl_layout_text(c->x[k].layout, b));
    for (int64_t k = 0; k <= x->ndim; k++)
        shape[k] = k < dim ? x->shape[k] : k == dim ? c->count : x->shape[k - 1];
    return tl_layout_make(layout, x->ndim + 1, shape) == TL_OK;
}

static void stack_forward(tl_call *c)
{
    int64_t dim = c->attr->i[0];
    tl_layout layout = *c->x[0].layout; /* x's shape with y's strides */
    for (int64_t k = 0; k < layout.ndim; k++)
        layout.stride[k] = c->y.layout->stride[k < dim ? k : k + 1];
    tl_layout_finish(&layout);
    for (int k = 0; k < c->count; k++) {
        char *data =
            (char *)c->y.data + k * c->y.layout->stride[dim] * (int64_t)tl_dtype_size(c->y.dtype);
        tl_copy(c->x[k], (tl_array){data, &layout, c->y.dtype});
    }
}

static void stack_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    for (int k = 0; k < c->count; k++)
        if (tl_call_wants(c, k))
            dx[k] = tl_select(c->tape, dy, (int)c->attr->i[0], k);
}

static const tl_sample stack_samples[] = {
    {3, {{2, {2, 4}, -2, 2, 0}, {2, {2, 4}, -2, 2, 0}, {2, {2, 4}, -2, 2, 0}}, {{1}, {0}, 1, 0}},
    {2, {{1, {3}, -2, 2, 0}, {1, {3}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_stack = {.name = "stack",
                           .equation = "y[k] = x_k",
                           .kind = TL_LINEAR,
                           .attributes = "dim=i0",
                           .least = 1,
                           .most = -1,
                           .mixed = true,
                           .shape = stack_shape,
                           .forward = stack_forward,
                           .vjp = stack_vjp,
                           .samples = stack_samples};

tl_var tl_stack(tl_tape *t, int count, const tl_var *x, int dim)
{
    tl_array a;
    if (count < 1)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "stack: no operands");
    if (count < 1 || !array_of(t, x[0], &a) || !find_dim(t, "stack", a.layout, 1, &dim))
        return tl_poison(t);
    return tl_apply(t, &tl_op_stack, count, x, &(tl_attr){.i = {dim}, .n = 1});
}
