/* gradcheck.c - one scalar function of all inputs, its gradient, and the same by differences.
 *
 *   order 1:  s(x) = w1 . f(x) + w2 . f(x)                w: random weights
 *   order 2:  s(x) = sum_k v_k . d/dx_k (order 1)         v: random weights
 *
 * and then, whatever s is:   ds/dx_i   against   (s(x + h e_i) - s(x - h e_i)) / 2h */
#include "autograd/gradcheck.h"

#include <math.h>
#include <string.h>

#include "autograd/ops.h"

enum { MOST_INPUTS = 64 };

typedef struct check {
    tl_tape *tape;
    tl_function *function;
    void *context;
    int count, order;
    bool forward; /* against forward mode */
    tl_tensor *const *inputs;
    tl_gradcheck_options options;
    double kink;              /* left and right differences further apart than that are a kink */
    tl_var leaf[MOST_INPUTS]; /* the real ones come first in `real` */
    tl_var real[MOST_INPUTS];
    int which[MOST_INPUTS]; /* input of real[k] */
    int reals;
} check;

static void record_inputs(check *c)
{
    c->reals = 0;
    for (int k = 0; k < c->count; k++) {
        bool is_real = tl_dtype_is_real(c->inputs[k]->dtype);
        c->leaf[k] =
            is_real ? tl_leaf(c->tape, c->inputs[k], NULL) : tl_constant(c->tape, c->inputs[k]);
        if (!is_real)
            continue;
        c->which[c->reals] = k;
        c->real[c->reals++] = c->leaf[k];
    }
}

/* sum over i of w_i y_i; the weights are the same for the same stream, whatever x is. */
static tl_var weigh(check *c, tl_var y, uint64_t stream)
{
    if (tl_tape_status(c->tape) != TL_OK)
        return tl_poison(c->tape);
    tl_array value = tl_value(c->tape, y);
    if (!value.layout)
        return tl_poison(c->tape);
    tl_random parent = tl_random_seed(c->options.seed), random = tl_random_split(&parent, stream);
    tl_tensor *weights = tl_tensor_empty(value.dtype, value.layout->ndim, value.layout->shape, NULL);
    if (!weights || tl_random_normal(&random, weights, 0, 1) != TL_OK) {
        tl_tensor_release(weights);
        tl_tape_fail(c->tape, TL_ERR_MEMORY, "gradcheck: no weights for this output");
        return tl_poison(c->tape);
    }
    tl_var w = tl_constant(c->tape, weights);
    tl_tensor_release(weights);
    return tl_sum(c->tape, tl_mul(c->tape, y, w));
}

static tl_var record_scalar(check *c)
{
    tl_tape *t = c->tape;
    tl_var grads[MOST_INPUTS];
    tl_tape_reset(t);
    record_inputs(c);
    tl_var first = weigh(c, c->function(t, c->leaf, c->context), 1);
    tl_var second = weigh(c, c->function(t, c->leaf, c->context), 2);
    tl_var s = tl_add(t, first, second);
    if (c->order == 1 || tl_grad(t, s, TL_NONE, c->reals, c->real, true, grads) != TL_OK)
        return s;
    tl_var total = TL_NONE;
    for (int k = 0; k < c->reals; k++) {
        tl_var term = weigh(c, grads[k], 3 + (uint64_t)k);
        total = k ? tl_add(t, total, term) : term;
    }
    return total;
}

static double scalar_at(check *c, tl_tensor *x, int64_t i, double value)
{
    tl_tensor_set(x, i, value);
    return tl_item(c->tape, record_scalar(c));
}

/* By central differences; a kink is where those to the left and to the right disagree. */
static double slope(check *c, tl_gradcheck_report *r, int k, int64_t i, double here)
{
    tl_tensor *x = c->inputs[c->which[k]];
    double h = c->options.step, before = tl_tensor_get(x, i);
    double above = scalar_at(c, x, i, before + h), below = scalar_at(c, x, i, before - h);
    tl_tensor_set(x, i, before);
    double numeric = (above - below) / (2 * h), bend = (above - 2 * here + below) / h;
    if (fabs(bend) > c->kink * (1 + fabs(numeric)) && !(r->warnings & TL_WARN_KINK)) {
        r->warnings |= TL_WARN_KINK;
        r->kink_input = c->which[k];
        r->kink_element = i;
    }
    return numeric;
}

/* By forward mode along one element. */
static double tangent(check *c, int k, int64_t i)
{
    tl_var s = record_scalar(c), along = TL_NONE;
    const tl_tensor *x = c->inputs[c->which[k]];
    tl_tensor *unit = tl_tensor_zeros(x->dtype, x->layout.ndim, x->layout.shape, NULL);
    if (unit) {
        tl_tensor_set(unit, i, 1);
        along = tl_constant(c->tape, unit);
        tl_tensor_release(unit);
    }
    return tl_item(c->tape, tl_jvp(c->tape, s, 1, &c->real[k], &along));
}

static void compare(check *c, tl_gradcheck_report *r, int k, const tl_tensor *analytic, double here)
{
    const tl_tensor *x = c->inputs[c->which[k]];
    for (int64_t i = 0; i < x->layout.count && tl_tape_status(c->tape) == TL_OK; i++) {
        double numeric = c->forward ? tangent(c, k, i) : slope(c, r, k, i, here);
        double a = tl_tensor_get(analytic, i), error = fabs(a - numeric) / (1 + fabs(numeric));
        r->checked++;
        if (error <= r->error)
            continue;
        r->error = isnan(error) ? INFINITY : error; /* NaN is worse than anything */
        r->analytic = a;
        r->numeric = numeric;
        r->input = c->which[k];
        r->element = i;
    }
}

/* Do two different elements, of one input or of two, lie in the same place? */
static bool overlap(const tl_tensor *a, const tl_tensor *b)
{
    if (a == b || !a->layout.count || !b->layout.count)
        return a == b;
    const char *low[2], *high[2];
    const tl_tensor *both[2] = {a, b};
    for (int k = 0; k < 2; k++) {
        int64_t last = 0;
        for (int d = 0; d < both[k]->layout.ndim; d++)
            last += (both[k]->layout.shape[d] - 1) * both[k]->layout.stride[d];
        low[k] = both[k]->data;
        high[k] = low[k] + (last + 1) * (int64_t)tl_dtype_size(both[k]->dtype);
    }
    return a->storage == b->storage && low[0] < high[1] && low[1] < high[0];
}

static bool is_expanded(const tl_layout *layout)
{
    for (int d = 0; d < layout->ndim; d++)
        if (layout->stride[d] == 0 && layout->shape[d] > 1)
            return true;
    return false;
}

static unsigned look_at_inputs(const check *c)
{
    unsigned warnings = 0;
    for (int k = 0; k < c->count; k++) {
        const tl_tensor *x = c->inputs[k];
        if (!tl_dtype_is_real(x->dtype))
            continue;
        warnings |= x->dtype == TL_F32 ? TL_WARN_SINGLE : 0;
        warnings |= is_expanded(&x->layout) ? TL_WARN_OVERLAP : 0;
        for (int j = 0; j < k; j++)
            if (tl_dtype_is_real(c->inputs[j]->dtype) && overlap(x, c->inputs[j]))
                warnings |= TL_WARN_OVERLAP;
    }
    return warnings;
}

static void describe(const check *c, tl_gradcheck_report *r, bool good)
{
    int used =
        snprintf(r->message, sizeof r->message,
                 "%s: %s after %lld elements; worst: input %d, element %lld: %s %+.12g, %s %+.12g, "
                 "error %.3g (tolerance %.3g)",
                 c->forward      ? "modecheck"
                 : c->order == 1 ? "gradcheck"
                                 : "gradgradcheck",
                 good ? "agreement" : "DIFFERENCE", (long long)r->checked, r->input,
                 (long long)r->element, c->forward ? "reverse" : "analytic", r->analytic,
                 c->forward ? "forward" : "numeric", r->numeric, r->error, c->options.tolerance);
    const char *texts[] = {"inputs in f32, too coarse to tell", NULL,
                           "inputs whose memory may overlap"};
    for (int k = 0; k < 3; k++)
        if ((r->warnings >> k & 1) && texts[k])
            used += snprintf(r->message + used, sizeof r->message - (size_t)used, "; WARNING: %s",
                             texts[k]);
    if (r->warnings & TL_WARN_KINK)
        snprintf(r->message + used, sizeof r->message - (size_t)used,
                 "; WARNING: a kink at input %d, element %lld: the slopes to its left and right differ",
                 r->kink_input, (long long)r->kink_element);
}

static tl_status run(check *c, tl_gradcheck_report *r)
{
    tl_var grads[MOST_INPUTS];
    tl_tensor *analytic[MOST_INPUTS] = {NULL};
    tl_var s = record_scalar(c);
    double here = tl_item(c->tape, s);
    r->warnings = look_at_inputs(c);
    if (tl_grad(c->tape, s, TL_NONE, c->reals, c->real, false, grads) == TL_OK)
        for (int k = 0; k < c->reals; k++)
            analytic[k] = tl_value_copy(c->tape, grads[k]);
    for (int k = 0; k < c->reals && tl_tape_status(c->tape) == TL_OK; k++)
        compare(c, r, k, analytic[k], here);
    for (int k = 0; k < c->reals; k++)
        tl_tensor_release(analytic[k]);
    if (tl_tape_status(c->tape) != TL_OK) {
        snprintf(r->message, sizeof r->message, "%s", tl_tape_message(c->tape));
        return tl_tape_status(c->tape);
    }
    bool good = r->error <= c->options.tolerance;
    describe(c, r, good);
    return good ? TL_OK : TL_ERR_CHECK;
}

static tl_status refuse(tl_gradcheck_report *r, tl_status status, const char *message)
{
    snprintf(r->message, sizeof r->message, "gradcheck: %s", message);
    return status;
}

static void fill_options(check *c, const tl_gradcheck_options *options)
{
    bool single = false;
    for (int k = 0; k < c->count; k++)
        single = single || c->inputs[k]->dtype == TL_F32;
    if (options)
        c->options = *options;
    if (c->options.step <= 0)
        c->options.step = single ? 1e-2 : 1e-6;
    if (c->options.tolerance <= 0)
        c->options.tolerance = c->forward      ? (single ? 1e-4 : 1e-10)
                               : single        ? 2e-2
                               : c->order == 1 ? 1e-7
                                               : 1e-5;
    c->kink = single ? 0.3 : 1e-3;
}

static tl_status begin_check(check *c, const tl_gradcheck_options *options, tl_gradcheck_report *report)
{
    tl_gradcheck_report local, *r = report ? report : &local;
    memset(r, 0, sizeof *r);
    r->error = -1;
    if (c->count < 1 || c->count > MOST_INPUTS)
        return refuse(r, TL_ERR_ARGUMENT, "wants 1 to 64 inputs");
    fill_options(c, options);
    c->tape = tl_tape_new(NULL);
    if (!c->tape)
        return refuse(r, TL_ERR_MEMORY, "out of memory");
    tl_status status = run(c, r);
    tl_tape_free(c->tape);
    return status;
}

tl_status tl_gradcheck(tl_function *function, void *context, int count, tl_tensor *const *inputs,
                       const tl_gradcheck_options *options, tl_gradcheck_report *report)
{
    check c = {.function = function, .context = context, .count = count, .order = 1, .inputs = inputs};
    return begin_check(&c, options, report);
}

tl_status tl_gradgradcheck(tl_function *function, void *context, int count, tl_tensor *const *inputs,
                           const tl_gradcheck_options *options, tl_gradcheck_report *report)
{
    check c = {.function = function, .context = context, .count = count, .order = 2, .inputs = inputs};
    return begin_check(&c, options, report);
}

tl_status tl_modecheck(tl_function *function, void *context, int count, tl_tensor *const *inputs,
                       const tl_gradcheck_options *options, tl_gradcheck_report *report)
{
    check c = {.function = function,
               .context = context,
               .count = count,
               .order = 1,
               .forward = true,
               .inputs = inputs};
    return begin_check(&c, options, report);
}
