/* op_scan.c - running sums, running products, and the linear recurrence they are cases of.
 *
 * Blelloch, "Prefix sums and their applications", CMU-CS-90-190, 1990; Martin and Cundy, "Parallelizing
 * linear recurrent neural nets over sequence length", ICLR 2018. */
#include "autograd/ops.h"

#include <string.h>

#include "autograd/dims.h"
#include "autograd/tape_impl.h"
#include "tensor/kernels.h"

enum { WORTH_A_FORK = 16384 }; /* elements */

static void share(tl_tape *t, int64_t elements, int64_t pieces, tl_piece *piece, void *context)
{
    if (elements >= WORTH_A_FORK)
        tl_threads_run(t->team, pieces, piece, context);
    else
        piece(context, 0, pieces);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- cumsum: i[0] = dim, flag = reverse --------------------------------------------------- *
 *
 *   y_t = x_0 + ... + x_t;  reverse: y_t = x_t + ... + x_n-1, each the derivative of the other */

typedef struct cumsum {
    tl_dtype dtype;
    bool reverse;
    tl_along along;
    int64_t tiles; /* of columns */
    const char *x;
    char *y;
} cumsum;

static void cumsum_tiles(void *context, int64_t begin, int64_t end)
{
    const cumsum *s = context;
    int64_t size = (int64_t)tl_dtype_size(s->dtype), n = s->along.n, inner = s->along.inner;
    for (int64_t p = begin; p < end; p++) {
        int64_t column = p % s->tiles * TL_SCAN_COLUMNS;
        int64_t first = (p / s->tiles * n + (s->reverse ? n - 1 : 0)) * inner + column;
        tl_cumsum_columns(s->dtype, n, smaller(TL_SCAN_COLUMNS, inner - column),
                          s->reverse ? -inner : inner, s->x + first * size, s->y + first * size);
    }
}

static void cumsum_forward(tl_call *c)
{
    cumsum s = {.dtype = c->y.dtype, .reverse = c->attr->flag, .x = c->x[0].data, .y = c->y.data};
    if (!c->y.layout->count || !tl_along_dim(c, &s.along))
        return;
    s.tiles = (s.along.inner + TL_SCAN_COLUMNS - 1) / TL_SCAN_COLUMNS;
    share(c->tape, c->y.layout->count, s.along.outer * s.tiles, cumsum_tiles, &s);
}

static void cumsum_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_cumsum(c->tape, dy, (int)c->attr->i[0], !c->attr->flag);
}

static const tl_sample cumsum_samples[] = {{1, {{3, {2, 3, 4}, -2, 2, 0}}, {{1}, {0}, 1, 0}},
                                           {1, {{2, {5, 3}, -2, 2, 0}}, {{0}, {0}, 1, 1}},
                                           {1, {{2, {3, 4}, -2, 2, 0}}, {{1}, {0}, 1, 1}},
                                           {1, {{0, {0}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
                                           TL_SAMPLES_END};

const tl_op tl_op_cumsum = {.name = "cumsum",
                            .equation = "y_t = sum of x_s over s <= t",
                            .kind = TL_LINEAR,
                            .attributes = "dim=i0 reverse=flag",
                            .least = 1,
                            .most = 1,
                            .dense = true,
                            .shape = tl_along_shape,
                            .forward = cumsum_forward,
                            .vjp = cumsum_vjp,
                            .samples = cumsum_samples};

tl_var tl_cumsum(tl_tape *t, tl_var x, int dim, bool reverse)
{
    return tl_apply_along(t, &tl_op_cumsum, x, dim, (tl_attr){.n = 1, .flag = reverse});
}

/* ---- linear_recurrence: a, b [T,..], h0 [..] or none; flag = reverse, i[0] = block ---------- *
 *
 *   h_t = a_t h_(t-1) + b_t,  h_-1 = h0
 *
 *   lambda_t = dh_t + a_(t+1) lambda_(t+1):  the same recurrence, the other way
 *   db_t = lambda_t,  da_t = lambda_t h_(t-1),  dh0 = a_0 lambda_0
 *
 * In blocks, as a block maps the h before it to the h at its end by h -> P h + e:
 *
 *   1. P and e of every block but the last, from 1 and 0               (blocks shared)
 *   2. h at the end of each block from that of the block before        (one after the other)
 *   3. each block from the h before it                                 (blocks shared) */

typedef struct recurrence {
    tl_dtype dtype;
    bool reverse;
    int64_t steps, width, block, tiles; /* a block has `block` steps, the last one fewer */
    const char *a, *b, *start;          /* start: NULL for none */
    char *h;
    char *product, *end; /* [blocks-1, width] each */
} recurrence;

/* Piece p: which steps of which columns; the byte offset of its first numbers is returned. */
static int64_t recurrence_piece(const recurrence *r, int64_t p, int64_t *steps, int64_t *columns,
                                int64_t *block, int64_t *column)
{
    *block = p / r->tiles;
    *column = p % r->tiles * TL_SCAN_COLUMNS;
    *columns = smaller(TL_SCAN_COLUMNS, r->width - *column);
    *steps = smaller(r->block, r->steps - *block * r->block);
    int64_t first = *block * r->block;
    return ((r->reverse ? r->steps - 1 - first : first) * r->width + *column) *
           (int64_t)tl_dtype_size(r->dtype);
}

static void recurrence_ends(void *context, int64_t begin, int64_t end)
{
    const recurrence *r = context;
    int64_t steps, columns, block, column, size = (int64_t)tl_dtype_size(r->dtype);
    for (int64_t p = begin; p < end; p++) {
        int64_t at = recurrence_piece(r, p, &steps, &columns, &block, &column);
        int64_t to = (block * r->width + column) * size;
        tl_recurrence_end(r->dtype, steps, columns, r->reverse ? -r->width : r->width, r->a + at,
                          r->b + at, r->product + to, r->end + to);
    }
}

static void recurrence_run(void *context, int64_t begin, int64_t end)
{
    const recurrence *r = context;
    int64_t steps, columns, block, column, size = (int64_t)tl_dtype_size(r->dtype);
    for (int64_t p = begin; p < end; p++) {
        int64_t at = recurrence_piece(r, p, &steps, &columns, &block, &column);
        const char *start = block      ? r->end + ((block - 1) * r->width + column) * size
                            : r->start ? r->start + column * size
                                       : NULL;
        tl_recurrence_columns(r->dtype, steps, columns, r->reverse ? -r->width : r->width, r->a + at,
                              r->b + at, start, r->h + at);
    }
}

static void recurrence_carry(const recurrence *r, int64_t blocks)
{
    int64_t row = r->width * (int64_t)tl_dtype_size(r->dtype);
    for (int64_t k = 0; k + 1 < blocks; k++) {
        const char *before = k ? r->end + (k - 1) * row : r->start;
        if (before)
            tl_recurrence_carry(r->dtype, r->width, r->product + k * row, before, r->end + k * row);
    }
}

static void linear_recurrence_forward(tl_call *c)
{
    const tl_layout *y = c->y.layout;
    if (!y->count)
        return;
    recurrence r = {.dtype = c->y.dtype,
                    .reverse = c->attr->flag,
                    .steps = y->shape[0],
                    .width = y->count / y->shape[0],
                    .a = c->x[0].data,
                    .b = c->x[1].data,
                    .start = c->count > 2 ? c->x[2].data : NULL,
                    .h = c->y.data};
    r.block = c->attr->i[0] ? smaller(c->attr->i[0], r.steps) : r.steps;
    r.tiles = (r.width + TL_SCAN_COLUMNS - 1) / TL_SCAN_COLUMNS;
    int64_t blocks = (r.steps + r.block - 1) / r.block;
    tl_block *room = NULL;
    if (blocks > 1) {
        size_t bytes = (size_t)((blocks - 1) * r.width) * tl_dtype_size(r.dtype);
        if (!(room = tl_pool_get(&c->tape->pool, 2 * bytes))) {
            tl_tape_no_memory(c->tape);
            return;
        }
        r.product = tl_block_data(room);
        r.end = r.product + bytes;
        share(c->tape, y->count, (blocks - 1) * r.tiles, recurrence_ends, &r);
        recurrence_carry(&r, blocks);
    }
    share(c->tape, y->count, blocks * r.tiles, recurrence_run, &r);
    if (room)
        tl_pool_put(&c->tape->pool, room);
}

static bool linear_recurrence_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *a = c->x[0].layout, *b = c->x[1].layout;
    char first[TL_LAYOUT_TEXT], second[TL_LAYOUT_TEXT];
    if (a->ndim == 0 || !tl_layout_same_shape(a, b))
        return tl_call_fail(c, TL_ERR_SHAPE, "wants a and b of one shape [T,..], not %s and %s",
                            tl_layout_text(a, first), tl_layout_text(b, second));
    tl_layout state;
    if (tl_layout_make(&state, a->ndim - 1, a->shape + 1) != TL_OK)
        return tl_call_fail(c, TL_ERR_ARGUMENT, "not a shape");
    if (c->count > 2 && !tl_layout_same_shape(&state, c->x[2].layout))
        return tl_call_fail(c, TL_ERR_SHAPE, "wants h0 %s for a %s, not %s",
                            tl_layout_text(&state, second), tl_layout_text(a, first),
                            tl_layout_text(c->x[2].layout, (char[TL_LAYOUT_TEXT]){0}));
    if (c->attr->i[0] < 0)
        return tl_call_fail(c, TL_ERR_ARGUMENT, "blocks of %lld steps", (long long)c->attr->i[0]);
    return tl_layout_make(layout, a->ndim, a->shape) == TL_OK;
}

/* y_t = x_(t-1), or (`back`) x_(t+1); what comes in is h0, or zero. */
static tl_var moved(tl_tape *t, tl_var x, const tl_layout *layout, bool back, tl_var h0)
{
    int64_t steps = layout->shape[0], shape[TL_MAX_DIMS];
    tl_var rest = tl_slice(t, x, 0, back, steps - !back, 1), parts[2];
    if (tl_is_none(h0))
        return tl_unslice(t, rest, 0, back ? 0 : steps > 1, 1, steps);
    memcpy(shape, layout->shape, sizeof shape);
    shape[0] = 1;
    parts[back] = tl_reshape(t, h0, layout->ndim, shape);
    parts[!back] = rest;
    return tl_concat(t, 2, parts, 0);
}

static void linear_recurrence_vjp(const tl_call *c, tl_var dh, tl_var *dx)
{
    tl_tape *t = c->tape;
    const tl_layout *layout = c->x[0].layout;
    bool reverse = c->attr->flag;
    int64_t steps = layout->shape[0];
    if (steps == 0)
        return;
    tl_var a = moved(t, c->in[0], layout, !reverse, TL_NONE);
    tl_var lambda = tl_linear_recurrence(t, a, dh, TL_NONE, !reverse, c->attr->i[0]);
    dx[1] = lambda;
    if (tl_call_wants(c, 0))
        dx[0] = tl_mul(t, lambda, moved(t, c->out, layout, reverse, c->count > 2 ? c->in[2] : TL_NONE));
    if (c->count > 2 && tl_call_wants(c, 2)) {
        int64_t first = reverse ? steps - 1 : 0;
        dx[2] = tl_mul(t, tl_select(t, c->in[0], 0, first), tl_select(t, lambda, 0, first));
    }
}

static const tl_sample linear_recurrence_samples[] = {
    {2, {{2, {5, 3}, -1, 1, 0}, {2, {5, 3}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
    {3, {{3, {4, 2, 3}, -1, 1, 0}, {3, {4, 2, 3}, -2, 2, 0}, {2, {2, 3}, -2, 2, 0}}, {{0}, {0}, 1, 1}},
    {3, {{2, {7, 2}, -1, 1, 0}, {2, {7, 2}, -2, 2, 0}, {1, {2}, -2, 2, 0}}, {{3}, {0}, 1, 0}},
    {2, {{2, {7, 2}, -1, 1, 0}, {2, {7, 2}, -2, 2, 0}}, {{2}, {0}, 1, 1}},
    {3, {{1, {1}, -1, 1, 0}, {1, {1}, -2, 2, 0}, {0, {0}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
    {2, {{2, {1, 3}, -1, 1, 0}, {2, {1, 3}, -2, 2, 0}}, {{9}, {0}, 1, 1}},
    TL_SAMPLES_END};

const tl_op tl_op_linear_recurrence = {.name = "linear_recurrence",
                                       .equation = "h_t = a_t h_(t-1) + b_t",
                                       .kind = TL_GENERAL,
                                       .attributes = "block=i0 reverse=flag",
                                       .least = 2,
                                       .most = 3,
                                       .dense = true,
                                       .shape = linear_recurrence_shape,
                                       .forward = linear_recurrence_forward,
                                       .vjp = linear_recurrence_vjp,
                                       .samples = linear_recurrence_samples};

tl_var tl_linear_recurrence(tl_tape *t, tl_var a, tl_var b, tl_var h0, bool reverse, int64_t block)
{
    tl_var in[3] = {a, b, h0};
    return tl_apply(t, &tl_op_linear_recurrence, 3, in,
                    &(tl_attr){.i = {block}, .n = 1, .flag = reverse});
}

/* ---- cumprod: i[0] = dim;  y_t = x_t y_(t-1), a linear recurrence with b = 0, y_-1 = 1 ------ */

static tl_var cumprod_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    const tl_layout *x = c->x[0].layout;
    tl_along along;
    int dim = (int)c->attr->i[0];
    if (!tl_along_dim(c, &along))
        return tl_poison(t);
    if (x->ndim == 0)
        return c->in[0];
    tl_var first = tl_transpose(t, c->in[0], dim, 0);
    const tl_layout *layout = tl_value(t, first).layout;
    if (!layout)
        return tl_poison(t);
    tl_var zero = tl_full(t, c->x[0].dtype, layout->ndim, layout->shape, -0.0); /* -0 + -0 is -0 */
    tl_var one = tl_full(t, c->x[0].dtype, layout->ndim - 1, layout->shape + 1, 1);
    return tl_transpose(t, tl_linear_recurrence(t, first, zero, one, false, 0), dim, 0);
}

static const tl_sample cumprod_samples[] = {{1, {{3, {2, 3, 4}, -2, 2, 0}}, {{1}, {0}, 1, 0}},
                                            {1, {{2, {5, 3}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
                                            {1, {{2, {3, 4}, -2, 2, 0}}, {{1}, {0}, 1, 0}},
                                            TL_SAMPLES_END};

const tl_op tl_op_cumprod = {.name = "cumprod",
                             .equation = "y_t = product of x_s over s <= t",
                             .kind = TL_COMPOSED,
                             .attributes = "dim=i0",
                             .least = 1,
                             .most = 1,
                             .compose = cumprod_compose,
                             .samples = cumprod_samples};

tl_var tl_cumprod(tl_tape *t, tl_var x, int dim)
{
    return tl_apply_along(t, &tl_op_cumprod, x, dim, (tl_attr){.n = 1});
}
