/* op_ctc.c - connectionist temporal classification: the loss of a labelling whose alignment is not
 * known. Graves, Fernandez, Gomez and Schmidhuber, ICML 2006.
 *
 * The labels l_1 .. l_n are written with blanks around them, e = - l_1 - l_2 - ... l_n -, and
 * alpha_t(s) is the log-probability of all ways in which t + 1 frames can have led to e_s:
 *
 *   alpha_t(s) = log(exp a(s) + exp a(s-1) + [may skip] exp a(s-2)) + x_t(e_s),   a = alpha_t-1
 *
 * where s - 1 may be skipped if e_s is a label and not the same as e_s-2. Two columns stand before
 * alpha's first, so that each state's three origins are a window that slides over the row:
 *
 *   column    0     1      2    3    4    5    6
 *   s        -2    -1      0    1    2    3    4
 *   e                      -   l_1   -   l_2   -
 *   start   none  log 1  none none none none none        "before the first frame" is s = -1
 *
 * "none", the logarithm of 0, is a large negative finite number: no NaN can come of it, neither in the
 * sums nor in their derivatives. */
#include "autograd/ops.h"

#include <math.h>

static const double NONE = -1e30;

enum { BEFORE = 2, ORIGINS = 3 };

/* What the integers say. T frames, B rows, S labels at most, L = 2S + 1 states. */
typedef struct ctc {
    int64_t frames, rows, classes, labels, states;
    const int64_t *target, *input_length, *target_length;
    int64_t blank, shortest, longest; /* of the input lengths */
} ctc;

static ctc ctc_of(const tl_call *c)
{
    const int64_t *x = c->x[0].layout->shape;
    ctc p = {.frames = x[0],
             .rows = x[1],
             .classes = x[2],
             .labels = c->x[1].layout->shape[1],
             .target = c->x[1].data,
             .input_length = c->x[2].data,
             .target_length = c->x[3].data,
             .blank = c->attr->i[0],
             .shortest = x[0]};
    p.states = 2 * p.labels + 1;
    for (int64_t b = 0; b < p.rows; b++) {
        p.shortest = p.input_length[b] < p.shortest ? p.input_length[b] : p.shortest;
        p.longest = p.input_length[b] > p.longest ? p.input_length[b] : p.longest;
    }
    return p;
}

/* ---- arguments -------------------------------------------------------------------------- */

static bool dtypes_fit(const tl_call *c)
{
    if (!tl_dtype_is_real(c->x[0].dtype))
        return tl_call_fail(c, TL_ERR_DTYPE, "log-probabilities must be f32 or f64, not %s",
                            tl_dtype_name(c->x[0].dtype));
    for (int k = 1; k < c->count; k++)
        if (c->x[k].dtype != TL_I64)
            return tl_call_fail(c, TL_ERR_DTYPE, "targets and lengths must be i64, not %s",
                                tl_dtype_name(c->x[k].dtype));
    return true;
}

static bool shapes_fit(const tl_call *c)
{
    char text[4][TL_LAYOUT_TEXT];
    const tl_layout *x = c->x[0].layout, *target = c->x[1].layout;
    bool fits = x->ndim == 3 && target->ndim == 2 && target->shape[0] == x->shape[1];
    for (int k = 2; fits && k < 4; k++)
        fits = c->x[k].layout->ndim == 1 && c->x[k].layout->shape[0] == x->shape[1];
    return fits ||
           tl_call_fail(c, TL_ERR_SHAPE, "wants [T,B,C], [B,S], [B] and [B], not %s, %s, %s and %s",
                        tl_layout_text(x, text[0]), tl_layout_text(target, text[1]),
                        tl_layout_text(c->x[2].layout, text[2]),
                        tl_layout_text(c->x[3].layout, text[3]));
}

static bool lengths_fit(const tl_call *c, int k, const char *what, int64_t most)
{
    const int64_t *length = c->x[k].data;
    for (int64_t b = 0; b < c->x[k].layout->count; b++)
        if (length[b] < 0 || length[b] > most)
            return tl_call_fail(c, TL_ERR_INDEX, "%s length %lld of row %lld is not within 0 and %lld",
                                what, (long long)length[b], (long long)b, (long long)most);
    return true;
}

static bool labels_fit(const tl_call *c, const ctc *p)
{
    for (int64_t b = 0; b < p->rows; b++)
        for (int64_t i = 0; i < p->target_length[b]; i++) {
            int64_t k = p->target[b * p->labels + i];
            if (k < 0 || k >= p->classes || k == p->blank)
                return tl_call_fail(c, TL_ERR_INDEX,
                                    "label %lld of row %lld is not one of the %lld classes "
                                    "beside the blank, %lld",
                                    (long long)k, (long long)b, (long long)p->classes,
                                    (long long)p->blank);
        }
    return true;
}

static bool ctc_fits(const tl_call *c)
{
    int reduction = c->attr->flag;
    if (reduction < TL_REDUCE_MEAN || reduction > TL_REDUCE_NONE)
        return tl_call_fail(c, TL_ERR_ARGUMENT, "there is no reduction %d", reduction);
    if (!dtypes_fit(c) || !shapes_fit(c))
        return false;
    int64_t blank = c->attr->i[0], classes = c->x[0].layout->shape[2];
    if (blank < 0 || blank >= classes)
        return tl_call_fail(c, TL_ERR_INDEX, "the blank, %lld, is not one of the %lld classes",
                            (long long)blank, (long long)classes);
    if (!lengths_fit(c, 2, "input", c->x[0].layout->shape[0]) ||
        !lengths_fit(c, 3, "target", c->x[1].layout->shape[1]))
        return false;
    ctc p = ctc_of(c);
    return labels_fit(c, &p);
}

/* ---- constants -------------------------------------------------------------------------- */

static tl_var constant(tl_tape *t, tl_dtype dtype, int ndim, const int64_t *shape, const void *numbers)
{
    return numbers ? tl_constant_from(t, dtype, ndim, shape, numbers) : tl_poison(t);
}

static tl_var reals(tl_tape *t, tl_dtype dtype, int ndim, const int64_t *shape, const double *numbers)
{
    return tl_cast(t, constant(t, TL_F64, ndim, shape, numbers), dtype);
}

/* e_s of row b; blanks beyond its labels. */
static int64_t symbol(const ctc *p, int64_t b, int64_t s)
{
    return s % 2 && s / 2 < p->target_length[b] ? p->target[b * p->labels + s / 2] : p->blank;
}

/* e as indices: [1,B,L] */
static tl_var symbols(tl_tape *t, const ctc *p)
{
    int64_t shape[3] = {1, p->rows, p->states};
    int64_t *e = tl_scratch(t, (size_t)(p->rows * p->states + 1) * sizeof *e);
    for (int64_t i = 0; e && i < p->rows * p->states; i++)
        e[i] = symbol(p, i / p->states, i % p->states);
    return constant(t, TL_I64, 3, shape, e);
}

/* 0 where an origin leads to a state, else none: [B,L,3]. From s - 2 to a label that is not the one
 * before it. */
static tl_var transitions(tl_tape *t, const ctc *p, tl_dtype dtype)
{
    int64_t shape[3] = {p->rows, p->states, ORIGINS}, n = p->rows * p->states;
    double *open = tl_scratch(t, (size_t)(n * ORIGINS + 1) * sizeof *open);
    for (int64_t i = 0; open && i < n; i++) {
        int64_t b = i / p->states, s = i % p->states;
        bool skip = s % 2 && (s == 1 || symbol(p, b, s) != symbol(p, b, s - 2));
        open[ORIGINS * i] = skip ? 0 : NONE;
        open[ORIGINS * i + 1] = open[ORIGINS * i + 2] = 0;
    }
    return reals(t, dtype, 3, shape, open);
}

/* alpha before the first frame: [B,2+L] */
static tl_var start(tl_tape *t, const ctc *p, tl_dtype dtype)
{
    int64_t shape[2] = {p->rows, BEFORE + p->states}, n = shape[0] * shape[1];
    double *alpha = tl_scratch(t, (size_t)(n + 1) * sizeof *alpha);
    for (int64_t i = 0; alpha && i < n; i++)
        alpha[i] = i % shape[1] == 1 ? 0 : NONE;
    return reals(t, dtype, 2, shape, alpha);
}

/* Which rows still have a frame: [B,1] */
static tl_var rows_with_frame(tl_tape *t, const ctc *p, int64_t frame)
{
    int64_t shape[2] = {p->rows, 1};
    uint8_t *has = tl_scratch(t, (size_t)p->rows + 1);
    for (int64_t b = 0; has && b < p->rows; b++)
        has[b] = frame < p->input_length[b];
    return constant(t, TL_U8, 2, shape, has);
}

/* The two states in which a row may end, its last label and the blank after it, as columns: [B,2].
 * Without labels: the blank, and s = -1, where it is before any frame. */
static tl_var ends(tl_tape *t, const ctc *p)
{
    int64_t shape[2] = {p->rows, 2};
    int64_t *column = tl_scratch(t, (size_t)(2 * p->rows + 1) * sizeof *column);
    for (int64_t b = 0; column && b < p->rows; b++) {
        column[2 * b] = BEFORE + 2 * p->target_length[b];
        column[2 * b + 1] = column[2 * b] - 1;
    }
    return constant(t, TL_I64, 2, shape, column);
}

/* 1 / max(1, target length): [B] */
static tl_var shares(tl_tape *t, const ctc *p, tl_dtype dtype)
{
    double *share = tl_scratch(t, (size_t)(p->rows + 1) * sizeof *share);
    for (int64_t b = 0; share && b < p->rows; b++)
        share[b] = 1 / (double)(p->target_length[b] > 1 ? p->target_length[b] : 1);
    return reals(t, dtype, 1, &p->rows, share);
}

/* ---- ctc_loss: log-probabilities x [T,B,C], targets [B,S], input lengths [B], target lengths [B];
 *      i0 = blank, i1 = zero_infinity, flag = tl_reduction ---------------------------------------
 *
 *   l_b = -log(exp alpha(2n) + exp alpha(2n - 1)) after the row's last frame */

static const int last = -1;

static tl_var step(tl_tape *t, tl_var alpha, tl_var open, tl_var x)
{
    const int64_t before[2] = {BEFORE, 0};
    tl_var origins = tl_add(t, tl_unfold(t, alpha, 1, ORIGINS, 1, 1), open);
    return tl_pad(t, tl_add(t, tl_logsumexp(t, origins, 1, &last, false), x), 2, before, NONE);
}

/* x_t(e_s): [T,B,L] */
static tl_var emissions(tl_tape *t, const ctc *p, tl_var x)
{
    int64_t shape[3] = {p->frames, p->rows, p->states};
    tl_var index = tl_expand(t, symbols(t, p), 3, shape);
    return tl_gather(t, x, 2, index);
}

static tl_var ctc_compose(const tl_call *c)
{
    tl_tape *t = c->tape;
    if (!ctc_fits(c))
        return tl_poison(t);
    const ctc p = ctc_of(c);
    const tl_dtype dtype = c->x[0].dtype;
    tl_var x = emissions(t, &p, c->in[0]), open = transitions(t, &p, dtype),
           alpha = start(t, &p, dtype);
    for (int64_t frame = 0; frame < p.longest && tl_tape_status(t) == TL_OK; frame++) {
        tl_var next = step(t, alpha, open, tl_select(t, x, 0, frame));
        alpha = frame < p.shortest ? next : tl_where(t, rows_with_frame(t, &p, frame), next, alpha);
    }
    tl_var found = tl_logsumexp(t, tl_gather(t, alpha, 1, ends(t, &p)), 1, &last, false);
    tl_var least = tl_full(t, dtype, 0, NULL, NONE / 2); /* what is below is none, whatever was added */
    tl_var each = tl_masked_fill(t, tl_neg(t, found), tl_lt(t, found, least),
                                 c->attr->i[1] ? 0 : (double)INFINITY);
    return c->attr->flag == TL_REDUCE_MEAN  ? tl_mean(t, tl_mul(t, each, shares(t, &p, dtype)))
           : c->attr->flag == TL_REDUCE_SUM ? tl_sum(t, each)
                                            : each;
}

static const tl_sample ctc_samples[] = {
    {4,
     {{3, {5, 3, 4}, -3, 0, 0}, {2, {3, 2}, 0, 0, 3}, {1, {3}, 0, 0, 6}, {1, {3}, 0, 0, 3}},
     {{3, 1}, {0}, 0, TL_REDUCE_NONE}},
    {4,
     {{3, {6, 2, 3}, -3, 0, 0}, {2, {2, 3}, 0, 0, 2}, {1, {2}, 0, 0, 7}, {1, {2}, 0, 0, 3}},
     {{2, 1}, {0}, 0, TL_REDUCE_MEAN}},
    {4,
     {{3, {7, 4, 3}, -3, 0, 0}, {2, {4, 1}, 0, 0, 2}, {1, {4}, 0, 0, 8}, {1, {4}, 0, 0, 2}},
     {{2, 1}, {0}, 0, TL_REDUCE_SUM}},
    TL_SAMPLES_END};

const tl_op tl_op_ctc_loss = {.name = "ctc_loss",
                              .equation = "l = -log sum over alignments of prod_t p_t",
                              .kind = TL_COMPOSED,
                              .attributes = "blank=i0 zero_infinity=i1 reduction=flag:mean,sum,none",
                              .least = 4,
                              .most = 4,
                              .mixed = true,
                              .dense = true,
                              .compose = ctc_compose,
                              .samples = ctc_samples};

tl_var tl_ctc_loss(tl_tape *t, tl_var log_p, tl_var target, tl_var input_lengths, tl_var target_lengths,
                   int64_t blank, bool zero_infinity, tl_reduction reduction)
{
    tl_var in[4] = {log_p, target, input_lengths, target_lengths};
    return tl_apply(t, &tl_op_ctc_loss, 4, in,
                    &(tl_attr){.i = {blank, zero_infinity}, .flag = (int32_t)reduction});
}
