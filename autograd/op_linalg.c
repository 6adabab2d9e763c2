/* op_linalg.c - what is written with matrix products, and parts of matrices. */
#include "autograd/ops.h"

#include <string.h>

#include "autograd/dims.h"
#include "tensor/kernels.h"

static tl_var refuse(const tl_call *c, const char *rule)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    tl_call_fail(c, TL_ERR_SHAPE, "%s: %s and %s", rule, tl_layout_text(c->x[0].layout, a),
                 tl_layout_text(c->x[1].layout, b));
    return tl_poison(c->tape);
}

static bool are_vectors(const tl_call *c)
{
    return c->x[0].layout->ndim == 1 && c->x[1].layout->ndim == 1;
}

/* ---- outer: a [M], b [N]: y = a b' ------------------------------------------------------ */

static tl_var outer_compose(const tl_call *c)
{
    return are_vectors(c) ? tl_sum_outer(c->tape, c->in[0], c->in[1]) : refuse(c, "wants two vectors");
}

static const tl_sample outer_samples[] = {{2, {{1, {3}, -1, 1, 0}, {1, {5}, -1, 1, 0}}, TL_NO_ATTR},
                                          {2, {{1, {1}, -1, 1, 0}, {1, {4}, -1, 1, 0}}, TL_NO_ATTR},
                                          {2, {{1, {4}, -1, 1, 0}, {1, {4}, -1, 1, 0}}, TL_NO_ATTR},
                                          TL_SAMPLES_END};

const tl_op tl_op_outer = {.name = "outer",
                           .equation = "y[m,n] = a[m] b[n]",
                           .kind = TL_COMPOSED,
                           .least = 2,
                           .most = 2,
                           .compose = outer_compose,
                           .samples = outer_samples};

tl_var tl_outer(tl_tape *t, tl_var a, tl_var b)
{
    tl_var in[2] = {a, b};
    return tl_apply(t, &tl_op_outer, 2, in, NULL);
}

/* ---- dot: a [K], b [K]: y = a' b -------------------------------------------------------- */

static tl_var dot_compose(const tl_call *c)
{
    if (!are_vectors(c) || c->x[0].layout->count != c->x[1].layout->count)
        return refuse(c, "wants two vectors of one size");
    return tl_matmul(c->tape, c->in[0], c->in[1]);
}

static const tl_sample dot_samples[] = {{2, {{1, {3}, -1, 1, 0}, {1, {3}, -1, 1, 0}}, TL_NO_ATTR},
                                        {2, {{1, {1}, -1, 1, 0}, {1, {1}, -1, 1, 0}}, TL_NO_ATTR},
                                        {2, {{1, {17}, -1, 1, 0}, {1, {17}, -1, 1, 0}}, TL_NO_ATTR},
                                        TL_SAMPLES_END};

const tl_op tl_op_dot = {.name = "dot",
                         .equation = "y = sum_k a[k] b[k]",
                         .kind = TL_COMPOSED,
                         .least = 2,
                         .most = 2,
                         .compose = dot_compose,
                         .samples = dot_samples};

tl_var tl_dot(tl_tape *t, tl_var a, tl_var b)
{
    tl_var in[2] = {a, b};
    return tl_apply(t, &tl_op_dot, 2, in, NULL);
}

/* ---- bilinear: x1 [..,I], x2 [..,J], w [O,I,J], b [O]: y[o] = x1' w[o] x2 + b[o] -------- */

static bool bilinear_fits(const tl_call *c)
{
    const tl_layout *x1 = c->x[0].layout, *x2 = c->x[1].layout, *w = c->x[2].layout;
    tl_layout rows1 = *x1, rows2 = *x2;
    rows1.ndim--;
    rows2.ndim--;
    if (rows1.ndim < 0 || x1->ndim == TL_MAX_DIMS || w->ndim != 3 ||
        !tl_layout_same_shape(&rows1, &rows2))
        return false;
    const tl_layout *b = c->count == 4 ? c->x[3].layout : NULL;
    return x1->shape[rows1.ndim] == w->shape[1] && x2->shape[rows1.ndim] == w->shape[2] &&
           (!b || (b->ndim == 1 && b->shape[0] == w->shape[0]));
}

/* (w x2) for all o and i at once, [..,O,I]; then its product with x1, summed over i. */
static tl_var bilinear_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    char text[4][TL_LAYOUT_TEXT];
    if (!bilinear_fits(c)) {
        tl_call_fail(c, TL_ERR_SHAPE, "wants [..,I], [..,J], [O,I,J] and [O]: %s, %s, %s, %s",
                     tl_layout_text(c->x[0].layout, text[0]), tl_layout_text(c->x[1].layout, text[1]),
                     tl_layout_text(c->x[2].layout, text[2]),
                     c->count == 4 ? tl_layout_text(c->x[3].layout, text[3]) : "no bias");
        return tl_poison(t);
    }
    const tl_layout *x1 = c->x[0].layout, *w = c->x[2].layout;
    int64_t flat[2] = {w->shape[0] * w->shape[1], w->shape[2]}, shape[TL_MAX_DIMS];
    memcpy(shape, x1->shape, sizeof shape);
    shape[x1->ndim - 1] = w->shape[0];
    shape[x1->ndim] = w->shape[1];
    tl_var wx = tl_linear_op(t, c->in[1], tl_reshape(t, c->in[2], 2, flat), TL_NONE);
    wx = tl_reshape(t, wx, x1->ndim + 1, shape);
    tl_var y = tl_mul(t, tl_unsqueeze(t, c->in[0], -2), wx);
    y = tl_sum_axes(t, y, 1, (int[]){-1}, false);
    return c->count == 4 ? tl_add(t, y, c->in[3]) : y;
}

static const tl_sample bilinear_samples[] = {
    {4,
     {{2, {2, 3}, -1, 1, 0}, {2, {2, 4}, -1, 1, 0}, {3, {5, 3, 4}, -1, 1, 0}, {1, {5}, -1, 1, 0}},
     TL_NO_ATTR},
    {3, {{1, {3}, -1, 1, 0}, {1, {4}, -1, 1, 0}, {3, {2, 3, 4}, -1, 1, 0}}, TL_NO_ATTR},
    {3, {{3, {2, 3, 1}, -1, 1, 0}, {3, {2, 3, 4}, -1, 1, 0}, {3, {1, 1, 4}, -1, 1, 0}}, TL_NO_ATTR},
    TL_SAMPLES_END};

const tl_op tl_op_bilinear = {.name = "bilinear",
                              .equation = "y[o] = x1' w[o] x2 + b[o]",
                              .kind = TL_COMPOSED,
                              .least = 3,
                              .most = 4,
                              .compose = bilinear_compose,
                              .samples = bilinear_samples};

tl_var tl_bilinear(tl_tape *t, tl_var x1, tl_var x2, tl_var w, tl_var b)
{
    tl_var in[4] = {x1, x2, w, b};
    return tl_apply(t, &tl_op_bilinear, 4, in, NULL);
}

/* ---- addmm: c, a [M,K], b [K,N], f = beta, alpha: y = beta c + alpha a b ---------------- */

static bool addmm_fits(const tl_call *c)
{
    const tl_layout *a = c->x[1].layout, *b = c->x[2].layout;
    tl_layout product, wide;
    if (a->ndim != 2 || b->ndim != 2 || a->shape[1] != b->shape[0])
        return false;
    int64_t shape[2] = {a->shape[0], b->shape[1]};
    return tl_layout_make(&product, 2, shape) == TL_OK &&
           tl_layout_expand(c->x[0].layout, &product, &wide);
}

static tl_var times(tl_tape *t, tl_var x, double factor)
{
    return factor == 1 ? x : tl_affine(t, x, factor, 0); /* signed zeros may differ, values do not */
}

/* As in BLAS, beta 0 means that c is not looked at: NaN in it does no harm. */
static tl_var addmm_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    double beta = c->attr->f[0], alpha = c->attr->f[1];
    char text[3][TL_LAYOUT_TEXT];
    if (!addmm_fits(c)) {
        tl_call_fail(c, TL_ERR_SHAPE, "wants what can be broadcast to [M,N], [M,K], [K,N]: %s, %s, %s",
                     tl_layout_text(c->x[0].layout, text[0]), tl_layout_text(c->x[1].layout, text[1]),
                     tl_layout_text(c->x[2].layout, text[2]));
        return tl_poison(t);
    }
    tl_var y = times(t, tl_matmul(t, c->in[1], c->in[2]), alpha);
    return beta == 0 ? y : tl_add(t, times(t, c->in[0], beta), y);
}

static const tl_sample addmm_samples[] = {
    {3, {{2, {2, 4}, -1, 1, 0}, {2, {2, 3}, -1, 1, 0}, {2, {3, 4}, -1, 1, 0}}, {{0}, {0.5, -2}, 0, 0}},
    {3, {{1, {4}, -1, 1, 0}, {2, {2, 3}, -1, 1, 0}, {2, {3, 4}, -1, 1, 0}}, {{0}, {1, 1}, 0, 0}},
    {3, {{2, {2, 1}, -1, 1, 0}, {2, {2, 3}, -1, 1, 0}, {2, {3, 4}, -1, 1, 0}}, {{0}, {-1, 3}, 0, 0}},
    {3, {{0, {0}, -1, 1, 0}, {2, {2, 1}, -1, 1, 0}, {2, {1, 3}, -1, 1, 0}}, {{0}, {2, 1}, 0, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_addmm = {.name = "addmm",
                           .equation = "y = beta c + alpha a b",
                           .kind = TL_COMPOSED,
                           .attributes = "beta=f0 alpha=f1",
                           .least = 3,
                           .most = 3,
                           .compose = addmm_compose,
                           .samples = addmm_samples};

tl_var tl_addmm(tl_tape *t, tl_var c, tl_var a, tl_var b, double beta, double alpha)
{
    tl_var in[3] = {c, a, b};
    return tl_apply(t, &tl_op_addmm, 3, in, &(tl_attr){.f = {beta, alpha}});
}

/* ---- tril, triu: i = diagonal: y = x where column - row <= diagonal (>=), else 0 --------
 *
 * Each is its own adjoint. */

static bool triangle_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    char text[TL_LAYOUT_TEXT];
    if (x->ndim < 2)
        return tl_call_fail(c, TL_ERR_SHAPE, "wants at least 2 dimensions, not %s",
                            tl_layout_text(x, text));
    return tl_layout_make(layout, x->ndim, x->shape) == TL_OK;
}

static int64_t within(int64_t i, int64_t size)
{
    return i < 0 ? 0 : i > size ? size : i;
}

static void triangle(tl_call *c, bool lower)
{
    const tl_layout *l = c->y.layout;
    int64_t rows = l->shape[l->ndim - 2], cols = l->shape[l->ndim - 1];
    int64_t bytes = (int64_t)tl_dtype_size(c->y.dtype), all = l->count ? l->count / cols : 0;
    int64_t diagonal = c->attr->i[0];
    diagonal = diagonal < -rows ? -rows : diagonal > cols ? cols : diagonal;
    tl_copy(c->x[0], c->y);
    for (int64_t r = 0; r < all; r++) {
        int64_t at = r % rows + diagonal, first = lower ? within(at + 1, cols) : 0,
                last = lower ? cols : within(at, cols);
        memset((char *)c->y.data + (r * cols + first) * bytes, 0, (size_t)((last - first) * bytes));
    }
}

static void tril_forward(tl_call *c)
{
    triangle(c, true);
}

static void triu_forward(tl_call *c)
{
    triangle(c, false);
}

static void triangle_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_apply(c->tape, c->op, 1, &dy, c->attr);
}

static const tl_sample triangle_samples[] = {{1, {{2, {3, 4}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
                                             {1, {{2, {4, 3}, -2, 2, 0}}, {{-1}, {0}, 1, 0}},
                                             {1, {{3, {2, 3, 5}, -2, 2, 0}}, {{2}, {0}, 1, 0}},
                                             {1, {{2, {3, 4}, -2, 2, 0}}, {{-9}, {0}, 1, 0}},
                                             TL_SAMPLES_END};

const tl_op tl_op_tril = {.name = "tril",
                          .equation = "y[i,j] = x[i,j] where j - i <= diagonal, else 0",
                          .kind = TL_LINEAR,
                          .attributes = "diagonal=i0",
                          .least = 1,
                          .most = 1,
                          .mixed = true,
                          .shape = triangle_shape,
                          .forward = tril_forward,
                          .vjp = triangle_vjp,
                          .samples = triangle_samples};

const tl_op tl_op_triu = {.name = "triu",
                          .equation = "y[i,j] = x[i,j] where j - i >= diagonal, else 0",
                          .kind = TL_LINEAR,
                          .attributes = "diagonal=i0",
                          .least = 1,
                          .most = 1,
                          .mixed = true,
                          .shape = triangle_shape,
                          .forward = triu_forward,
                          .vjp = triangle_vjp,
                          .samples = triangle_samples};

tl_var tl_tril(tl_tape *t, tl_var x, int64_t diagonal)
{
    return tl_apply(t, &tl_op_tril, 1, &x, &(tl_attr){.i = {diagonal}, .n = 1});
}

tl_var tl_triu(tl_tape *t, tl_var x, int64_t diagonal)
{
    return tl_apply(t, &tl_op_triu, 1, &x, &(tl_attr){.i = {diagonal}, .n = 1});
}

/* ---- diagonal: i = offset, dim1, dim2 --------------------------------------------------- */

/* The diagonal as the last dimension of *layout; returns where in x it begins. */
static int64_t diagonal_of(const tl_layout *x, const int64_t *attr, tl_layout *layout)
{
    int64_t offset = attr[0], dim1 = attr[1], dim2 = attr[2];
    int64_t rows = x->shape[dim1] + (offset < 0 ? offset : 0),
            cols = x->shape[dim2] - (offset > 0 ? offset : 0);
    int64_t size = rows < cols ? rows : cols;
    int ndim = 0;
    for (int d = 0; d < x->ndim; d++)
        if (d != dim1 && d != dim2) {
            layout->shape[ndim] = x->shape[d];
            layout->stride[ndim++] = x->stride[d];
        }
    layout->shape[ndim] = size < 0 ? 0 : size;
    layout->stride[ndim] = x->stride[dim1] + x->stride[dim2];
    layout->ndim = ndim + 1;
    tl_layout_finish(layout);
    if (layout->count == 0)
        return 0;
    return offset < 0 ? -offset * x->stride[dim1] : offset * x->stride[dim2];
}

/* Two dimensions, and not the same, of `ndim`. */
static bool two_dims(const tl_call *c, int extra)
{
    int64_t dim1 = c->attr->i[1], dim2 = c->attr->i[2];
    return dim_fits(c, dim1, extra) && dim_fits(c, dim2, extra) &&
           (dim1 != dim2 ||
            tl_call_fail(c, TL_ERR_ARGUMENT, "dimension %lld is there twice", (long long)dim1));
}

static bool diagonal_shape(tl_call *c, tl_layout *layout)
{
    if (!two_dims(c, 0))
        return false;
    int64_t start = diagonal_of(c->x[0].layout, c->attr->i, layout);
    c->y.data = (char *)c->x[0].data + start * (int64_t)tl_dtype_size(c->x[0].dtype);
    return true;
}

static void diagonal_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    const int64_t *i = c->attr->i, *shape = c->x[0].layout->shape;
    dx[0] = tl_undiagonal(c->tape, dy, i[0], (int)i[1], (int)i[2], shape[i[1]], shape[i[2]]);
}

static const tl_sample diagonal_samples[] = {{1, {{2, {3, 4}, -2, 2, 0}}, {{0, 0, 1}, {0}, 3, 0}},
                                             {1, {{3, {2, 5, 3}, -2, 2, 0}}, {{-1, 1, 2}, {0}, 3, 0}},
                                             {1, {{3, {4, 2, 5}, -2, 2, 0}}, {{2, 0, 2}, {0}, 3, 0}},
                                             {1, {{3, {4, 2, 5}, -2, 2, 0}}, {{1, 2, 0}, {0}, 3, 0}},
                                             TL_SAMPLES_END};

const tl_op tl_op_diagonal = {.name = "diagonal",
                              .equation = "y[..i] = x[i,i + offset]",
                              .kind = TL_VIEW,
                              .attributes = "offset=i0 dim1=i1 dim2=i2",
                              .least = 1,
                              .most = 1,
                              .mixed = true,
                              .shape = diagonal_shape,
                              .vjp = diagonal_vjp,
                              .samples = diagonal_samples};

tl_var tl_diagonal(tl_tape *t, tl_var x, int64_t offset, int dim1, int dim2)
{
    tl_array a;
    if (!array_of(t, x, &a) || !find_dim(t, "diagonal", a.layout, 0, &dim1) ||
        !find_dim(t, "diagonal", a.layout, 0, &dim2))
        return tl_poison(t);
    return tl_apply(t, &tl_op_diagonal, 1, &x, &(tl_attr){.i = {offset, dim1, dim2}, .n = 3});
}

/* ---- undiagonal: i = offset, dim1, dim2, rows, cols; the adjoint of diagonal ------------ */

static bool undiagonal_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *x = c->x[0].layout;
    const int64_t *i = c->attr->i;
    int64_t shape[TL_MAX_DIMS];
    char text[TL_LAYOUT_TEXT];
    tl_layout diagonal;
    if (x->ndim < 1 || x->ndim == TL_MAX_DIMS)
        return tl_call_fail(c, TL_ERR_SHAPE, "wants 1 to %d dimensions, not %s", TL_MAX_DIMS - 1,
                            tl_layout_text(x, text));
    if (!two_dims(c, 1))
        return false;
    for (int d = 0, k = 0; d <= x->ndim; d++)
        shape[d] = d == i[1] ? i[3] : d == i[2] ? i[4] : x->shape[k++];
    if (tl_layout_make(layout, x->ndim + 1, shape) != TL_OK)
        return tl_call_fail(c, TL_ERR_ARGUMENT, "%lld rows, %lld columns", (long long)i[3],
                            (long long)i[4]);
    diagonal_of(layout, i, &diagonal);
    return tl_layout_same_shape(&diagonal, x) ||
           tl_call_fail(c, TL_ERR_SHAPE, "diagonal %lld of %lld x %lld is not of %s", (long long)i[0],
                        (long long)i[3], (long long)i[4], tl_layout_text(x, text));
}

static void undiagonal_add(tl_call *c)
{
    tl_layout diagonal;
    int64_t start = diagonal_of(c->y.layout, c->attr->i, &diagonal);
    char *data = (char *)c->y.data + start * (int64_t)tl_dtype_size(c->y.dtype);
    tl_add_into(c->x[0], (tl_array){data, &diagonal, c->y.dtype});
}

static void undiagonal_forward(tl_call *c)
{
    memset(c->y.data, 0, (size_t)c->y.layout->count * tl_dtype_size(c->y.dtype));
    undiagonal_add(c);
}

static void undiagonal_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_diagonal(c->tape, dy, c->attr->i[0], (int)c->attr->i[1], (int)c->attr->i[2]);
}

static const tl_sample undiagonal_samples[] = {
    {1, {{1, {3}, -2, 2, 0}}, {{0, 0, 1, 3, 4}, {0}, 5, 0}},
    {1, {{2, {2, 3}, -2, 2, 0}}, {{-1, 1, 2, 5, 3}, {0}, 5, 0}},
    {1, {{2, {2, 3}, -2, 2, 0}}, {{2, 2, 0, 4, 5}, {0}, 5, 0}},
    TL_SAMPLES_END};

const tl_op tl_op_undiagonal = {.name = "undiagonal",
                                .equation = "y = 0; y[i,i + offset] = x[..i]",
                                .kind = TL_LINEAR,
                                .attributes = "offset=i0 dim1=i1 dim2=i2 rows=i3 cols=i4",
                                .least = 1,
                                .most = 1,
                                .shape = undiagonal_shape,
                                .forward = undiagonal_forward,
                                .forward_add = undiagonal_add,
                                .vjp = undiagonal_vjp,
                                .samples = undiagonal_samples};

tl_var tl_undiagonal(tl_tape *t, tl_var x, int64_t offset, int dim1, int dim2, int64_t rows,
                     int64_t cols)
{
    tl_array a;
    if (!array_of(t, x, &a) || !find_dim(t, "undiagonal", a.layout, 1, &dim1) ||
        !find_dim(t, "undiagonal", a.layout, 1, &dim2))
        return tl_poison(t);
    tl_attr attr = {.i = {offset, dim1, dim2, rows, cols}, .n = 5};
    return tl_apply(t, &tl_op_undiagonal, 1, &x, &attr);
}
