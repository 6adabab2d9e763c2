/* op_sort.c - numbers in order. Only argsort computes; its indices pick the values. */
#include "autograd/ops.h"

#include <math.h>
#include <string.h>

#include "autograd/dims.h"
#include "autograd/tape_impl.h"

/* ---- a stable merge sort ----------------------------------------------------------------- */

typedef struct pair {
    uint64_t key;
    int64_t at;
} pair;

/* Keys compare as the numbers do; zeros of either sign are equal, NaN is above all. */
static uint64_t key_of(double x, bool descending)
{
    const uint64_t sign = (uint64_t)1 << 63;
    uint64_t bits;
    x = x == 0 ? 0 : x;
    memcpy(&bits, &x, sizeof bits);
    uint64_t key = isnan(x) ? UINT64_MAX : bits & sign ? ~bits : bits | sign;
    return descending ? ~key : key;
}

static void sort_by_insertion(int64_t n, pair *x)
{
    for (int64_t i = 1; i < n; i++) {
        pair moving = x[i];
        int64_t to = i;
        for (; to > 0 && x[to - 1].key > moving.key; to--)
            x[to] = x[to - 1];
        x[to] = moving;
    }
}

static void merge(int64_t left, const pair *a, int64_t right, const pair *b, pair *to)
{
    const pair *a_end = a + left, *b_end = b + right;
    while (a < a_end && b < b_end)
        *to++ = b->key < a->key ? *b++ : *a++;
    memcpy(to, a, (size_t)(a_end - a) * sizeof *a);
    memcpy(to + (a_end - a), b, (size_t)(b_end - b) * sizeof *b);
}

/* Returns x or `other`, of the same size: where the sorted pairs are. */
static pair *sort_pairs(int64_t n, pair *x, pair *other)
{
    enum { RUN = 16 };
    for (int64_t i = 0; i < n; i += RUN)
        sort_by_insertion(n - i < RUN ? n - i : RUN, x + i);
    for (int64_t width = RUN; width < n; width *= 2) {
        for (int64_t i = 0; i < n; i += 2 * width) {
            int64_t left = n - i < width ? n - i : width;
            int64_t right = n - i - left < width ? n - i - left : width;
            merge(left, x + i, right, x + i + left, other + i);
        }
        pair *sorted = other;
        other = x;
        x = sorted;
    }
    return x;
}

/* ---- argsort: i[0] = dim, flag = descending ---------------------------------------------- */

static double read_real(tl_array x, int64_t i)
{
    return x.dtype == TL_F32 ? (double)((const float *)x.data)[i] : ((const double *)x.data)[i];
}

static void argsort_forward(tl_call *c)
{
    tl_along s;
    int64_t *y = c->y.data;
    if (!c->y.layout->count || !tl_along_dim(c, &s))
        return;
    tl_block *room = tl_pool_get(&c->tape->pool, 2 * (size_t)s.n * sizeof(pair));
    if (!room) {
        tl_tape_no_memory(c->tape);
        return;
    }
    pair *pairs = tl_block_data(room);
    for (int64_t row = 0; row < s.outer * s.inner; row++) {
        int64_t first = row / s.inner * s.n * s.inner + row % s.inner;
        for (int64_t i = 0; i < s.n; i++)
            pairs[i] = (pair){key_of(read_real(c->x[0], first + i * s.inner), c->attr->flag), i};
        const pair *sorted = sort_pairs(s.n, pairs, pairs + s.n);
        for (int64_t i = 0; i < s.n; i++)
            y[first + i * s.inner] = sorted[i].at;
    }
    tl_pool_put(&c->tape->pool, room);
}

static bool argsort_shape(tl_call *c, tl_layout *layout)
{
    c->y.dtype = TL_I64;
    return tl_along_shape(c, layout);
}

static const tl_sample sort_samples[] = {{1, {{3, {2, 3, 4}, -2, 2, 0}}, {{1}, {0}, 1, 0}},
                                         {1, {{2, {5, 3}, -2, 2, 0}}, {{0}, {0}, 1, 1}},
                                         {1, {{2, {3, 4}, -2, 2, 0}}, {{1}, {0}, 1, 1}},
                                         {1, {{0, {0}, -2, 2, 0}}, {{0}, {0}, 1, 0}},
                                         TL_SAMPLES_END};

const tl_op tl_op_argsort = {.name = "argsort",
                             .equation = "x[y_0] <= x[y_1] <= ...",
                             .kind = TL_NOT_DIFFERENTIABLE,
                             .attributes = "dim=i0 descending=flag",
                             .least = 1,
                             .most = 1,
                             .dense = true,
                             .shape = argsort_shape,
                             .forward = argsort_forward,
                             .samples = sort_samples};

tl_var tl_argsort(tl_tape *t, tl_var x, int dim, bool descending)
{
    return tl_apply_along(t, &tl_op_argsort, x, dim, (tl_attr){.n = 1, .flag = descending});
}

/* ---- sort: i[0] = dim, flag = descending ------------------------------------------------- */

static tl_var sort_compose(const tl_call *c)
{
    tl_along along;
    if (!tl_along_dim(c, &along))
        return tl_poison(c->tape);
    tl_var order = tl_apply(c->tape, &tl_op_argsort, 1, c->in, c->attr);
    return tl_gather(c->tape, c->in[0], (int)c->attr->i[0], order);
}

const tl_op tl_op_sort = {.name = "sort",
                          .equation = "y = x in ascending or descending order",
                          .kind = TL_COMPOSED,
                          .attributes = "dim=i0 descending=flag",
                          .least = 1,
                          .most = 1,
                          .compose = sort_compose,
                          .samples = sort_samples};

tl_var tl_sort(tl_tape *t, tl_var x, int dim, bool descending)
{
    return tl_apply_along(t, &tl_op_sort, x, dim, (tl_attr){.n = 1, .flag = descending});
}

/* ---- topk: i = dim, k; flag = largest ---------------------------------------------------- */

static tl_var topk_index(const tl_call *c)
{
    tl_along along;
    char shape[TL_LAYOUT_TEXT];
    int64_t k = c->attr->i[1];
    bool scalar = c->x[0].layout->ndim == 0;
    if (!tl_along_dim(c, &along))
        return tl_poison(c->tape);
    if (k < scalar || k > along.n) {
        tl_call_fail(c, TL_ERR_ARGUMENT, "there are no %lld along dimension %lld of %s", (long long)k,
                     (long long)c->attr->i[0], tl_layout_text(c->x[0].layout, shape));
        return tl_poison(c->tape);
    }
    tl_var order = tl_apply(c->tape, &tl_op_argsort, 1, c->in, c->attr);
    return scalar ? order : tl_slice(c->tape, order, (int)c->attr->i[0], 0, k, 1);
}

static tl_var topk_compose(const tl_call *c)
{
    return tl_gather(c->tape, c->in[0], (int)c->attr->i[0], topk_index(c));
}

static const tl_sample topk_samples[] = {{1, {{3, {2, 5, 4}, -2, 2, 0}}, {{1, 3}, {0}, 2, 1}},
                                         {1, {{2, {5, 3}, -2, 2, 0}}, {{0, 2}, {0}, 2, 0}},
                                         {1, {{2, {3, 4}, -2, 2, 0}}, {{1, 4}, {0}, 2, 1}},
                                         {1, {{0, {0}, -2, 2, 0}}, {{0, 1}, {0}, 2, 1}},
                                         TL_SAMPLES_END};

const tl_op tl_op_topk = {.name = "topk",
                          .equation = "y = the k largest or smallest of x, in order",
                          .kind = TL_COMPOSED,
                          .attributes = "dim=i0 k=i1 largest=flag",
                          .least = 1,
                          .most = 1,
                          .compose = topk_compose,
                          .samples = topk_samples};

tl_var tl_topk(tl_tape *t, tl_var x, int64_t k, int dim, bool largest, tl_var *index)
{
    tl_array a;
    tl_attr attr = {.i = {0, k}, .n = 2, .flag = largest};
    if (!index)
        return tl_apply_along(t, &tl_op_topk, x, dim, attr);
    *index = tl_poison(t);
    if (!array_of(t, x, &a) || !find_dim(t, "topk", a.layout, scalar_dim(a.layout), &dim))
        return tl_poison(t);
    attr.i[0] = dim;
    const tl_call call = {.tape = t, .op = &tl_op_topk, .count = 1, .in = &x, .x = &a, .attr = &attr};
    tl_scope_begin(t, "topk", -1);
    *index = topk_index(&call);
    tl_var y = tl_gather(t, x, dim, *index);
    tl_scope_end(t);
    return y;
}
