/* op_arrange.c - dimensions joined, dropped and added, elements turned round and repeated. But for flip
 * these are compositions of op_shape.c's. */
#include "autograd/ops.h"

#include <string.h>

#include "autograd/dims.h"
#include "tensor/kernels.h"

/* ---- transpose: i = two dimensions, which are exchanged --------------------------------- */

static tl_var transpose_compose(const tl_call *c)
{
    int64_t dim0 = c->attr->i[0], dim1 = c->attr->i[1];
    if (!dim_fits(c, dim0, 0) || !dim_fits(c, dim1, 0))
        return tl_poison(c->tape);
    return tl_transpose(c->tape, c->in[0], (int)dim0, (int)dim1);
}

static const tl_sample transpose_samples[] = {{1, {{2, {2, 3}, -2, 2, 0}}, {{0, 1}, {0}, 2, 0}},
                                              {1, {{3, {2, 3, 4}, -2, 2, 0}}, {{2, 0}, {0}, 2, 0}},
                                              {1, {{4, {2, 3, 4, 5}, -2, 2, 0}}, {{1, 3}, {0}, 2, 0}},
                                              TL_SAMPLES_END};

const tl_op tl_op_transpose = {.name = "transpose",
                               .equation = "y[..j..i..] = x[..i..j..]",
                               .kind = TL_COMPOSED,
                               .attributes = "dim0=i0 dim1=i1",
                               .least = 1,
                               .most = 1,
                               .mixed = true,
                               .compose = transpose_compose,
                               .samples = transpose_samples};

/* ---- flatten: i = first and last of the dimensions that become one ---------------------- */

static tl_var flatten_compose(const tl_call *c)
{
    const tl_layout *x = c->x[0].layout;
    int64_t first = c->attr->i[0], last = c->attr->i[1], shape[TL_MAX_DIMS] = {1};
    char text[TL_LAYOUT_TEXT];
    if (!dim_fits(c, first, scalar_dim(x)) || !dim_fits(c, last, scalar_dim(x)))
        return tl_poison(c->tape);
    if (first > last) {
        tl_call_fail(c, TL_ERR_ARGUMENT, "dimension %lld does not come before %lld in %s",
                     (long long)first, (long long)last, tl_layout_text(x, text));
        return tl_poison(c->tape);
    }
    int ndim = 0;
    for (int64_t k = 0; k < x->ndim; k++) {
        if (k > first && k <= last)
            shape[ndim - 1] *= x->shape[k];
        else
            shape[ndim++] = x->shape[k];
    }
    return tl_reshape(c->tape, c->in[0], ndim ? ndim : 1, shape);
}

static const tl_sample flatten_samples[] = {{1, {{3, {2, 3, 4}, -2, 2, 0}}, {{0, 2}, {0}, 2, 0}},
                                            {1, {{4, {2, 3, 4, 5}, -2, 2, 0}}, {{1, 2}, {0}, 2, 0}},
                                            {1, {{3, {2, 3, 4}, -2, 2, 0}}, {{1, 2}, {0}, 2, 0}},
                                            {1, {{0, {0}, -2, 2, 0}}, {{0, 0}, {0}, 2, 0}},
                                            TL_SAMPLES_END};

const tl_op tl_op_flatten = {.name = "flatten",
                             .equation = "y[..iJ+j..] = x[..i,j..]",
                             .kind = TL_COMPOSED,
                             .attributes = "start_dim=i0 end_dim=i1",
                             .least = 1,
                             .most = 1,
                             .mixed = true,
                             .compose = flatten_compose,
                             .samples = flatten_samples};

tl_var tl_flatten(tl_tape *t, tl_var x, int start_dim, int end_dim)
{
    tl_array a;
    if (!array_of(t, x, &a) || !find_dim(t, "flatten", a.layout, scalar_dim(a.layout), &start_dim) ||
        !find_dim(t, "flatten", a.layout, scalar_dim(a.layout), &end_dim))
        return tl_poison(t);
    return tl_apply(t, &tl_op_flatten, 1, &x, &(tl_attr){.i = {start_dim, end_dim}, .n = 2});
}

/* ---- squeeze: i = dim, which goes if its size is 1 -------------------------------------- */

static tl_var squeeze_compose(const tl_call *c)
{
    const tl_layout *x = c->x[0].layout;
    int64_t dim = c->attr->i[0], shape[TL_MAX_DIMS];
    if (!dim_fits(c, dim, scalar_dim(x)))
        return tl_poison(c->tape);
    if (x->ndim == 0 || x->shape[dim] != 1)
        return c->in[0];
    for (int64_t k = 0; k + 1 < x->ndim; k++)
        shape[k] = x->shape[k < dim ? k : k + 1];
    return tl_reshape(c->tape, c->in[0], x->ndim - 1, shape);
}

static const tl_sample squeeze_samples[] = {{1, {{3, {2, 1, 3}, -2, 2, 0}}, {{1}, {0}, 1, 0}},
                                            {1, {{3, {1, 2, 3}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
                                            {1, {{1, {1}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
                                            {1, {{2, {2, 3}, -2, 2, 0}}, {{1}, {0}, 1, 0}},
                                            TL_SAMPLES_END};

const tl_op tl_op_squeeze = {.name = "squeeze",
                             .equation = "y[i,k] = x[i,0,k]",
                             .kind = TL_COMPOSED,
                             .attributes = "dim=i0",
                             .least = 1,
                             .most = 1,
                             .mixed = true,
                             .compose = squeeze_compose,
                             .samples = squeeze_samples};

tl_var tl_squeeze(tl_tape *t, tl_var x, int dim)
{
    tl_array a;
    if (!array_of(t, x, &a) || !find_dim(t, "squeeze", a.layout, scalar_dim(a.layout), &dim))
        return tl_poison(t);
    return tl_apply(t, &tl_op_squeeze, 1, &x, &(tl_attr){.i = {dim}, .n = 1});
}

/* ---- unsqueeze: i = dim, a new one of size 1 -------------------------------------------- */

static tl_var unsqueeze_compose(const tl_call *c)
{
    const tl_layout *x = c->x[0].layout;
    int64_t dim = c->attr->i[0], shape[TL_MAX_DIMS];
    char text[TL_LAYOUT_TEXT];
    if (!dim_fits(c, dim, 1))
        return tl_poison(c->tape);
    if (x->ndim == TL_MAX_DIMS) {
        tl_call_fail(c, TL_ERR_SHAPE, "%s has no room for another dimension", tl_layout_text(x, text));
        return tl_poison(c->tape);
    }
    for (int64_t k = 0; k <= x->ndim; k++)
        shape[k] = k < dim ? x->shape[k] : k == dim ? 1 : x->shape[k - 1];
    return tl_reshape(c->tape, c->in[0], x->ndim + 1, shape);
}

static const tl_sample unsqueeze_samples[] = {{1, {{2, {2, 3}, -2, 2, 0}}, {{1}, {0}, 1, 0}},
                                              {1, {{2, {2, 3}, -2, 2, 0}}, {{2}, {0}, 1, 0}},
                                              {1, {{0, {0}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
                                              TL_SAMPLES_END};

const tl_op tl_op_unsqueeze = {.name = "unsqueeze",
                               .equation = "y[i,0,k] = x[i,k]",
                               .kind = TL_COMPOSED,
                               .attributes = "dim=i0",
                               .least = 1,
                               .most = 1,
                               .mixed = true,
                               .compose = unsqueeze_compose,
                               .samples = unsqueeze_samples};

tl_var tl_unsqueeze(tl_tape *t, tl_var x, int dim)
{
    tl_array a;
    if (!array_of(t, x, &a) || !find_dim(t, "unsqueeze", a.layout, 1, &dim))
        return tl_poison(t);
    return tl_apply(t, &tl_op_unsqueeze, 1, &x, &(tl_attr){.i = {dim}, .n = 1});
}

/* ---- flip: i = the dimensions that run backwards in y. Its own derivative --------------- */

static bool flip_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    bool seen[TL_MAX_DIMS] = {false};
    for (int k = 0; k < c->attr->n && k < TL_MAX_DIMS; k++) {
        int64_t dim = c->attr->i[k];
        if (!dim_fits(c, dim, scalar_dim(x)))
            return false;
        if (seen[dim])
            return tl_call_fail(c, TL_ERR_ARGUMENT, "dimension %lld is there twice", (long long)dim);
        seen[dim] = true;
    }
    return tl_layout_make(layout, x->ndim, x->shape) == TL_OK;
}

/* Negative strides, which no variable has, for the length of one copy. */
static void flip_forward(tl_call *c)
{
    tl_layout back = *c->x[0].layout;
    int64_t last = 0;
    for (int k = 0; k < c->attr->n && back.ndim && back.count; k++) {
        int64_t dim = c->attr->i[k];
        last += (back.shape[dim] - 1) * back.stride[dim];
        back.stride[dim] = -back.stride[dim];
    }
    back.contiguous = false;
    char *data = (char *)c->x[0].data + last * (int64_t)tl_dtype_size(c->y.dtype);
    tl_copy((tl_array){data, &back, c->y.dtype}, c->y);
}

static void flip_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_apply(c->tape, &tl_op_flip, 1, &dy, c->attr);
}

static const tl_sample flip_samples[] = {{1, {{1, {5}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
                                         {1, {{3, {2, 3, 4}, -2, 2, 0}}, {{2, 0}, {0}, 2, 0}},
                                         {1, {{3, {2, 3, 4}, -2, 2, 0}}, {{1, 2}, {0}, 2, 0}},
                                         {1, {{2, {1, 3}, -2, 2, 0}}, {{0, 1}, {0}, 2, 0}},
                                         {1, {{2, {2, 3}, -2, 2, 0}}, {{0}, {0}, 0, 0}},
                                         TL_SAMPLES_END};

const tl_op tl_op_flip = {.name = "flip",
                          .equation = "y[i] = x[I - 1 - i]",
                          .kind = TL_LINEAR,
                          .attributes = "dims=i*",
                          .least = 1,
                          .most = 1,
                          .mixed = true,
                          .shape = flip_shape,
                          .forward = flip_forward,
                          .vjp = flip_vjp,
                          .samples = flip_samples};

tl_var tl_flip(tl_tape *t, tl_var x, int count, const int *dims)
{
    tl_array a;
    tl_attr attr = {.n = count};
    if (!array_of(t, x, &a))
        return tl_poison(t);
    if (count < 0 || count > TL_MAX_DIMS) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "flip: %d dimensions, at most %d", count, TL_MAX_DIMS);
        return tl_poison(t);
    }
    for (int k = 0; k < count; k++) {
        int dim = dims[k];
        if (!find_dim(t, "flip", a.layout, scalar_dim(a.layout), &dim))
            return tl_poison(t);
        attr.i[k] = dim;
    }
    return tl_apply(t, &tl_op_flip, 1, &x, &attr);
}

/* ---- roll: i = shift, dim --------------------------------------------------------------- */

static tl_var roll_compose(const tl_call *c)
{
    const tl_layout *x = c->x[0].layout;
    int64_t shift = c->attr->i[0], dim = c->attr->i[1];
    if (!dim_fits(c, dim, 0))
        return tl_poison(c->tape);
    int64_t size = x->shape[dim];
    shift = size ? (shift % size + size) % size : 0;
    if (shift == 0)
        return c->in[0];
    tl_var part[2] = {tl_slice(c->tape, c->in[0], (int)dim, size - shift, size, 1),
                      tl_slice(c->tape, c->in[0], (int)dim, 0, size - shift, 1)};
    return tl_concat(c->tape, 2, part, (int)dim);
}

static const tl_sample roll_samples[] = {{1, {{1, {5}, -2, 2, 0}}, {{2, 0}, {0}, 2, 0}},
                                         {1, {{3, {2, 5, 3}, -2, 2, 0}}, {{-1, 1}, {0}, 2, 0}},
                                         {1, {{2, {3, 4}, -2, 2, 0}}, {{11, 1}, {0}, 2, 0}},
                                         {1, {{2, {3, 4}, -2, 2, 0}}, {{-3, 0}, {0}, 2, 0}},
                                         TL_SAMPLES_END};

const tl_op tl_op_roll = {.name = "roll",
                          .equation = "y[i] = x[(i - shift) mod I]",
                          .kind = TL_COMPOSED,
                          .attributes = "shift=i0 dim=i1",
                          .least = 1,
                          .most = 1,
                          .mixed = true,
                          .compose = roll_compose,
                          .samples = roll_samples};

tl_var tl_roll(tl_tape *t, tl_var x, int64_t shift, int dim)
{
    tl_array a;
    if (!array_of(t, x, &a) || !find_dim(t, "roll", a.layout, 0, &dim))
        return tl_poison(t);
    return tl_apply(t, &tl_op_roll, 1, &x, &(tl_attr){.i = {shift, dim}, .n = 2});
}

/* ---- repeat: i = how often along each dimension, new ones in front ---------------------- */

static bool repeat_shapes(const tl_call *c, int64_t *from, tl_layout *to)
{
    const tl_layout *x = c->x[0].layout;
    int ndim = c->attr->n, added = ndim - x->ndim;
    int64_t shape[TL_MAX_DIMS];
    char text[TL_LAYOUT_TEXT];
    if (added < 0 || ndim > TL_MAX_DIMS)
        return tl_call_fail(c, TL_ERR_ARGUMENT, "%d numbers for %s; at most %d", ndim,
                            tl_layout_text(x, text), TL_MAX_DIMS);
    for (int k = 0; k < ndim; k++) {
        int64_t times = c->attr->i[k];
        from[k] = k < added ? 1 : x->shape[k - added];
        if (times < 0 || (times > 0 && from[k] > INT64_MAX / times))
            return tl_call_fail(c, TL_ERR_ARGUMENT, "%lld times along dimension %d", (long long)times,
                                k);
        shape[k] = times * from[k];
    }
    return tl_layout_make(to, ndim, shape) == TL_OK ||
           tl_call_fail(c, TL_ERR_ARGUMENT, "too large a result for %s", tl_layout_text(x, text));
}

static int64_t product(int from, int to, const int64_t *shape)
{
    int64_t p = 1;
    for (int k = from; k < to; k++)
        p *= shape[k];
    return p;
}

/* From the last dimension to the first: [A,B], B what is of dimension k and below, becomes [A,times,B].
 */
static tl_var repeat_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    tl_layout to;
    int64_t shape[TL_MAX_DIMS];
    tl_var y = c->in[0];
    if (!repeat_shapes(c, shape, &to))
        return tl_poison(t);
    for (int k = to.ndim - 1; k >= 0; k--) {
        if (to.shape[k] == shape[k])
            continue;
        int64_t once[3] = {product(0, k, shape), 1, product(k, to.ndim, shape)};
        int64_t often[3] = {once[0], c->attr->i[k], once[2]};
        shape[k] = to.shape[k];
        y = tl_reshape(t, tl_expand(t, tl_reshape(t, y, 3, once), 3, often), to.ndim, shape);
    }
    return c->x[0].layout->ndim == to.ndim ? y : tl_reshape(t, y, to.ndim, to.shape);
}

static const tl_sample repeat_samples[] = {{1, {{1, {3}, -2, 2, 0}}, {{2}, {0}, 1, 0}},
                                           {1, {{2, {2, 3}, -2, 2, 0}}, {{2, 1, 3}, {0}, 3, 0}},
                                           {1, {{3, {2, 3, 1}, -2, 2, 0}}, {{1, 2, 4}, {0}, 3, 0}},
                                           {1, {{0, {0}, -2, 2, 0}}, {{2, 3}, {0}, 2, 0}},
                                           TL_SAMPLES_END};

const tl_op tl_op_repeat = {.name = "repeat",
                            .equation = "y[i] = x[i mod I]",
                            .kind = TL_COMPOSED,
                            .attributes = "repeats=i*",
                            .least = 1,
                            .most = 1,
                            .mixed = true,
                            .compose = repeat_compose,
                            .samples = repeat_samples};

tl_var tl_repeat(tl_tape *t, tl_var x, int count, const int64_t *repeats)
{
    tl_attr attr = {.n = count};
    for (int k = 0; k < count && k < TL_MAX_DIMS; k++)
        attr.i[k] = repeats[k];
    return tl_apply(t, &tl_op_repeat, 1, &x, &attr);
}

/* ---- chunk and split -------------------------------------------------------------------- */

void tl_chunk(tl_tape *t, tl_var x, int pieces, int dim, tl_var *out)
{
    tl_array a;
    for (int k = 0; k < pieces; k++)
        out[k] = tl_poison(t);
    if (!array_of(t, x, &a) || !find_dim(t, "chunk", a.layout, 0, &dim))
        return;
    int64_t size = a.layout->shape[dim];
    if (pieces < 1 || size % pieces) {
        char shape[TL_LAYOUT_TEXT];
        tl_tape_fail(t, TL_ERR_SHAPE, "chunk: dimension %d is not %d equal parts in %s", dim, pieces,
                     tl_layout_text(a.layout, shape));
        return;
    }
    for (int k = 0; k < pieces; k++)
        out[k] = tl_slice(t, x, dim, k * (size / pieces), (k + 1) * (size / pieces), 1);
}

void tl_split(tl_tape *t, tl_var x, int count, const int64_t *sizes, int dim, tl_var *out)
{
    tl_array a;
    char shape[TL_LAYOUT_TEXT];
    for (int k = 0; k < count; k++)
        out[k] = tl_poison(t);
    if (!array_of(t, x, &a) || !find_dim(t, "split", a.layout, 0, &dim))
        return;
    int64_t left = a.layout->shape[dim], start = 0;
    for (int k = 0; k < count && left >= 0; k++)
        left = sizes[k] < 0 || sizes[k] > left ? -1 : left - sizes[k];
    if (left != 0) {
        tl_tape_fail(t, TL_ERR_SHAPE, "split: the sizes do not add up to dimension %d of %s", dim,
                     tl_layout_text(a.layout, shape));
        return;
    }
    for (int k = 0; k < count; start += sizes[k], k++)
        out[k] = tl_slice(t, x, dim, start, start + sizes[k], 1);
}
