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
    tl_tensor *const *inputs;
    tl_gradcheck_options options;
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
    tl_var total = tl_full(t, TL_F64, 0, NULL, 0);
    for (int k = 0; k < c->reals; k++)
        total = tl_add(t, total, weigh(c, grads[k], 3 + (uint64_t)k));
    return total;
}

static double scalar_at(check *c, tl_tensor *x, int64_t i, double value)
{
    tl_tensor_set(x, i, value);
    return tl_item(c->tape, record_scalar(c));
}

static void compare(check *c, tl_gradcheck_report *r, int k, const tl_tensor *analytic)
{
    tl_tensor *x = c->inputs[c->which[k]];
    double h = c->options.step;
    for (int64_t i = 0; i < x->layout.count && tl_tape_status(c->tape) == TL_OK; i++) {
        double before = tl_tensor_get(x, i);
        double above = scalar_at(c, x, i, before + h), below = scalar_at(c, x, i, before - h);
        tl_tensor_set(x, i, before);
        double numeric = (above - below) / (2 * h), a = tl_tensor_get(analytic, i);
        double error = fabs(a - numeric) / (1 + fabs(numeric));
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

static tl_status run(check *c, tl_gradcheck_report *r)
{
    tl_var grads[MOST_INPUTS];
    tl_tensor *analytic[MOST_INPUTS] = {NULL};
    tl_var s = record_scalar(c);
    if (tl_grad(c->tape, s, TL_NONE, c->reals, c->real, false, grads) == TL_OK)
        for (int k = 0; k < c->reals; k++)
            analytic[k] = tl_value_copy(c->tape, grads[k]);
    for (int k = 0; k < c->reals && tl_tape_status(c->tape) == TL_OK; k++)
        compare(c, r, k, analytic[k]);
    for (int k = 0; k < c->reals; k++)
        tl_tensor_release(analytic[k]);
    if (tl_tape_status(c->tape) != TL_OK) {
        snprintf(r->message, sizeof r->message, "%s", tl_tape_message(c->tape));
        return tl_tape_status(c->tape);
    }
    bool good = r->error <= c->options.tolerance;
    snprintf(r->message, sizeof r->message,
             "gradcheck: %s after %lld elements; worst: input %d, element %lld: analytic %+.12g, "
             "numeric %+.12g, "
             "error %.3g (tolerance %.3g)",
             good ? "agreement" : "DIFFERENCE", (long long)r->checked, r->input, (long long)r->element,
             r->analytic, r->numeric, r->error, c->options.tolerance);
    return good ? TL_OK : TL_ERR_CHECK;
}

static tl_status refuse(tl_gradcheck_report *r, tl_status status, const char *message)
{
    snprintf(r->message, sizeof r->message, "gradcheck: %s", message);
    return status;
}

static tl_status check_order(int order, tl_function *function, void *context, int count,
                             tl_tensor *const *inputs, const tl_gradcheck_options *options,
                             tl_gradcheck_report *report)
{
    tl_gradcheck_report local, *r = report ? report : &local;
    memset(r, 0, sizeof *r);
    r->error = -1;
    if (count < 1 || count > MOST_INPUTS)
        return refuse(r, TL_ERR_ARGUMENT, "wants 1 to 64 inputs");
    for (int k = 0; k < count; k++)
        if (inputs[k]->dtype == TL_F32)
            return refuse(r, TL_ERR_DTYPE,
                          "inputs must be f64; differences in f32 are too coarse to tell");
    check c = {
        .function = function, .context = context, .count = count, .order = order, .inputs = inputs};
    if (options)
        c.options = *options;
    if (c.options.step <= 0)
        c.options.step = 1e-6;
    if (c.options.tolerance <= 0)
        c.options.tolerance = order == 1 ? 1e-7 : 1e-5;
    c.tape = tl_tape_new(NULL);
    if (!c.tape)
        return refuse(r, TL_ERR_MEMORY, "out of memory");
    tl_status status = run(&c, r);
    tl_tape_free(c.tape);
    return status;
}

tl_status tl_gradcheck(tl_function *function, void *context, int count, tl_tensor *const *inputs,
                       const tl_gradcheck_options *options, tl_gradcheck_report *report)
{
    return check_order(1, function, context, count, inputs, options, report);
}

tl_status tl_gradgradcheck(tl_function *function, void *context, int count, tl_tensor *const *inputs,
                           const tl_gradcheck_options *options, tl_gradcheck_report *report)
{
    return check_order(2, function, context, count, inputs, options, report);
}
