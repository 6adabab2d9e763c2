/* The ops: everything here is driven by the op list and each op's samples.
 *
 * Values against formulas of a few lines, written here and nowhere else; derivatives of first and
 * second order against differences; other strides, other dtype, no elements, bad input. */
#include "support.h"

#include "autograd/gradcheck.h"

/* ---- samples ---------------------------------------------------------------------------- */

#define END                                                                                            \
    {                                                                                                  \
        0, {{0, {0}, 0, 0, 0}},                                                                        \
        {                                                                                              \
            {0}, {0}, 0, 0                                                                             \
        }                                                                                              \
    }
#define R1(a)                                                                                          \
    {                                                                                                  \
        1, {a}, -2, 2, 0                                                                               \
    }
#define R2(a, b)                                                                                       \
    {                                                                                                  \
        2, {a, b}, -2, 2, 0                                                                            \
    }
#define R3(a, b, c)                                                                                    \
    {                                                                                                  \
        3, {a, b, c}, -2, 2, 0                                                                         \
    }
#define R4(a, b, c, d)                                                                                 \
    {                                                                                                  \
        4, {a, b, c, d}, -2, 2, 0                                                                      \
    }
#define NO_ATTR                                                                                        \
    {                                                                                                  \
        {0}, {0}, 0, 0                                                                                 \
    }

/* More than the ops bring along: longer rows, more dimensions, single elements. */
static const struct {
    const char *op;
    tl_sample sample;
} more[] = {
    {"add", {2, {R4(2, 1, 3, 1), R3(4, 1, 5)}, NO_ATTR}},
    {"mul", {2, {R1(1), R2(3, 7)}, NO_ATTR}},
    {"sub", {2, {{0, {0}, -2, 2, 0}, R2(3, 5)}, NO_ATTR}},
    {"lerp", {3, {{0, {0}, -2, 2, 0}, R2(2, 3), R1(3)}, NO_ATTR}},
    {"pow", {2, {{1, {4}, 0.05, 0.2, 0}, {1, {4}, 0, 0, 0}}, NO_ATTR}}, /* a constant, its slope not */
    {"affine", {1, {R2(3, 5)}, {{0}, {0, -3}, 0, 0}}},
    {"matmul", {2, {R4(3, 1, 4, 5), R4(1, 2, 5, 6)}, NO_ATTR}},
    {"matmul", {2, {R2(1, 7), R2(7, 1)}, NO_ATTR}},
    {"matmul", {2, {R3(2, 3, 4), R3(2, 4, 5)}, NO_ATTR}},
    {"linear", {3, {R2(7, 9), R2(11, 9), R1(11)}, NO_ATTR}},
    {"linear", {2, {R3(2, 3, 11), R2(11, 5)}, {{0}, {0}, 0, 1}}},
    {"linear", {2, {R1(3), R2(1, 3)}, NO_ATTR}},
    {"sum_outer", {2, {R2(13, 3), R2(13, 7)}, NO_ATTR}},
    {"sum", {1, {R3(2, 3, 4)}, {{0}, {0}, 0, 0}}}, /* over no axis */
    {"sum", {1, {R4(2, 3, 4, 5)}, {{3, 1}, {0}, 2, 0}}},
    {"sum", {1, {R4(2, 1, 4, 5)}, {{2}, {0}, 1, 1}}},
    {"sum_to", {1, {R4(2, 3, 4, 5)}, {{3, 1, 1}, {0}, 3, 0}}},
    {"sum_to", {1, {R3(2, 3, 4)}, {{0}, {0}, 0, 0}}}, /* to a scalar */
    {"sum_to", {1, {R2(3, 4)}, {{3, 4}, {0}, 2, 0}}},
    {"concat", {1, {R2(3, 4)}, {{0}, {0}, 1, 0}}},
    {"stack", {2, {{0, {0}, -2, 2, 0}, {0, {0}, -2, 2, 0}}, {{0}, {0}, 1, 0}}},
    {"stack", {2, {R2(2, 3), R2(2, 3)}, {{2}, {0}, 1, 0}}},
    {"slice", {1, {R2(5, 3)}, {{0, 4, 5, 9}, {0}, 4, 0}}},
    {"slice", {1, {R3(2, 7, 3)}, {{1, 0, 7, 3}, {0}, 4, 0}}},
    {"unslice", {1, {R2(1, 3)}, {{0, 4, 7, 5}, {0}, 4, 0}}},
    {"unslice", {1, {R3(2, 3, 2)}, {{1, 0, 3, 7}, {0}, 4, 0}}},
    {"select", {1, {R1(5)}, {{0, 4}, {0}, 2, 0}}},
    {"select", {1, {R3(2, 3, 4)}, {{2, 0}, {0}, 2, 0}}},
    {"permute", {1, {R4(2, 3, 4, 5)}, {{3, 1, 0, 2}, {0}, 4, 0}}},
    {"permute", {1, {{0, {0}, -2, 2, 0}}, {{0}, {0}, 0, 0}}},
    {"expand", {1, {{0, {0}, -2, 2, 0}}, {{3, 2}, {0}, 2, 0}}},
    {"expand", {1, {R3(2, 1, 3)}, {{4, 2, 5, 3}, {0}, 4, 0}}},
    {"reshape", {1, {R1(1)}, {{0}, {0}, 0, 0}}},
    {"reshape", {1, {R3(4, 3, 2)}, {{3, 1, 8}, {0}, 3, 0}}},
    {"softmax", {1, {R2(3, 1)}, NO_ATTR}},
    {"log_softmax", {1, {R2(1, 17)}, NO_ATTR}},
    {"cross_entropy", {2, {R1(5), {0, {0}, 0, 0, 5}}, {{0}, {0}, 0, TL_REDUCE_NONE}}},
    {"cross_entropy", {2, {R1(5), {0, {0}, 0, 0, 5}}, {{0}, {0}, 0, TL_REDUCE_MEAN}}},
    {"embedding", {2, {R2(2, 5), {3, {2, 1, 7}, 0, 0, 2}}, NO_ATTR}}, /* rows that are met often */
    {"scatter_rows", {2, {R2(9, 4), {1, {9}, 0, 0, 3}}, {{3}, {0}, 1, 0}}},
    {"scatter_rows", {2, {R1(4), {0, {0}, 0, 0, 3}}, {{3}, {0}, 1, 0}}},
};

enum { MOST = 5 }; /* operands of a sample */

typedef struct trial {
    const tl_op *op;
    const tl_sample *sample;
    int number;
} trial;

/* The n-th sample of all, of every op, or one that comes after it and is of a chosen op; n becomes
 * its number, so that its dice are the same whatever is chosen. False at the end. */
static bool trial_at(int *n, trial *found)
{
    int number = 0;
    for (int o = 0; o < tl_op_count(); o++) {
        const tl_op *op = tl_op_at(o);
        for (const tl_sample *s = op->samples; s && s->count; s++, number++)
            if (number >= *n && op_is_chosen(op->name)) {
                *found = (trial){op, s, (int)(s - op->samples)};
                *n = number;
                return true;
            }
    }
    for (int k = 0; k < COUNT_OF(more); k++, number++)
        if (number >= *n && op_is_chosen(more[k].op)) {
            *found = (trial){tl_op_find(more[k].op), &more[k].sample, 100 + k};
            assert_non_null(found->op);
            *n = number;
            return true;
        }
    return false;
}

static void describe(const trial *a, char text[64])
{
    snprintf(text, 64, "%s, sample %d", a->op->name, a->number);
}

static void make_operands(const trial *a, tl_dtype dtype, uint64_t seed, tl_tensor **x)
{
    dice d = dice_of(seed);
    for (int k = 0; k < a->sample->count; k++) {
        const int64_t *shape = a->sample->x[k].shape, below = a->sample->x[k].below;
        int ndim = a->sample->x[k].ndim;
        if (below < 0) {
            x[k] = tl_tensor_empty(TL_U8, ndim, shape, NULL);
            for (int64_t i = 0; i < x[k]->layout.count; i++)
                tl_tensor_set(x[k], i, (double)dice_below(&d, 2));
        } else if (below) {
            x[k] = tl_tensor_empty(TL_I64, ndim, shape, NULL);
            for (int64_t i = 0; i < x[k]->layout.count; i++)
                ((int64_t *)x[k]->data)[i] = dice_below(&d, below);
        } else {
            x[k] = random_tensor(&d, TL_F64, ndim, shape, a->sample->x[k].low, a->sample->x[k].high);
            if (dtype == TL_F32) {
                tl_tensor *rounded = tl_tensor_copy(x[k], TL_F32, NULL);
                tl_tensor_release(x[k]);
                x[k] = rounded;
            }
        }
    }
}

static void release_all(int count, tl_tensor **x)
{
    for (int k = 0; k < count; k++)
        tl_tensor_release(x[k]);
}

static tl_var apply(tl_tape *t, const trial *a, const tl_var *in)
{
    return tl_apply(t, a->op, a->sample->count, in, &a->sample->attr);
}

static tl_var operand(tl_tape *t, tl_tensor *x)
{
    return tl_dtype_is_real(x->dtype) ? tl_leaf_untied(t, x) : tl_constant(t, x);
}

/* A composition may or may not pass derivatives: it is asked. */
static bool has_derivative(const trial *a)
{
    if (a->op->kind != TL_COMPOSED)
        return a->op->kind != TL_NOT_DIFFERENTIABLE && !a->op->mask_result;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x[MOST];
    tl_var in[MOST];
    make_operands(a, TL_F64, 1, x);
    for (int k = 0; k < a->sample->count; k++)
        in[k] = operand(t, x[k]);
    tl_var y = apply(t, a, in);
    assert_ok(t);
    bool passes = tl_needs_gradient(t, y);
    tl_tape_free(t);
    release_all(a->sample->count, x);
    return passes;
}

/* ---- the list --------------------------------------------------------------------------- */

static const char *const without_samples[] = {"detach"};

static void every_op_is_complete(void **state)
{
    (void)state;
    assert_null(tl_op_at(-1));
    assert_null(tl_op_at(tl_op_count()));
    assert_null(tl_op_find("no such op"));
    for (int i = 0; i < tl_op_count(); i++) {
        const tl_op *op = tl_op_at(i);
        assert_non_null(op);
        assert_non_null(op->name);
        assert_non_null(op->equation);
        assert_ptr_equal(tl_op_find(op->name), op); /* so no name is there twice */
        bool listed = false;
        for (int k = 0; k < COUNT_OF(without_samples); k++)
            listed = listed || strcmp(op->name, without_samples[k]) == 0;
        bool sampled = op->samples && op->samples[0].count;
        if (listed == sampled)
            fail_msg("%s: %s", op->name,
                     sampled ? "has samples, but is listed here" : "has no samples");
        bool rules = op->shape || op->forward || op->vjp;
        if (op->kind == TL_COMPOSED)
            assert_true(op->compose && !op->kernel && !op->partial && !rules);
        else if (op->kind == TL_ELEMENTWISE)
            assert_true(op->kernel && (op->partial != NULL) != op->mask_result && !rules);
        else
            assert_true(op->shape && (op->forward != NULL) == (op->kind != TL_VIEW && !listed));
        if (op->kind == TL_LINEAR || op->kind == TL_GENERAL || op->kind == TL_VIEW)
            assert_non_null(op->vjp);
        assert_null(op->backward); /* a built-in op has derivatives of every order */
        assert_true(op->least >= 0 && (op->most < 0 || op->most >= op->least));
        for (const tl_sample *s = op->samples; s && s->count; s++)
            assert_true(s->count >= op->least && (op->most < 0 || s->count <= op->most));
    }
}

/* ---- derivatives ------------------------------------------------------------------------ */

static tl_var apply_trial(tl_tape *t, const tl_var *in, void *context)
{
    return apply(t, context, in);
}

static void derivatives_agree_with_differences(void **state)
{
    (void)state;
    trial a;
    for (int n = 0; trial_at(&n, &a); n++) {
        tl_tensor *x[MOST];
        tl_gradcheck_report report;
        char text[64];
        if (!has_derivative(&a))
            continue;
        describe(&a, text);
        make_operands(&a, TL_F64, 100 + (uint64_t)n, x);
        if (tl_gradcheck(apply_trial, &a, a.sample->count, x, NULL, &report) != TL_OK)
            fail_msg("%s: %s", text, report.message);
        assert_true(report.checked > 0);
        if (tl_gradgradcheck(apply_trial, &a, a.sample->count, x, NULL, &report) != TL_OK)
            fail_msg("%s, second order: %s", text, report.message);
        release_all(a.sample->count, x);
    }
}

/* Two real operands of one shape; false: there are none. */
static bool exchangeable(const trial *a, int *first, int *second)
{
    for (*second = 1; *second < a->sample->count; ++*second)
        for (*first = 0; *first < *second; ++*first)
            if (!a->sample->x[*first].below && !a->sample->x[*second].below &&
                a->sample->x[*first].ndim == a->sample->x[*second].ndim &&
                memcmp(a->sample->x[*first].shape, a->sample->x[*second].shape,
                       sizeof a->sample->x[0].shape) == 0)
                return true;
    return false;
}

static tl_var random_like(tl_tape *t, tl_var y, uint64_t seed)
{
    const tl_array value = tl_value(t, y);
    dice d = dice_of(seed);
    if (!value.layout)
        fail_msg("no value: %s", tl_tape_message(t));
    tl_tensor *v = random_tensor(&d, TL_F64, value.layout->ndim, value.layout->shape, -1, 1);
    tl_var constant = tl_constant(t, v);
    tl_tensor_release(v);
    return constant;
}

/* The same leaf given twice: its gradient is the sum of those of two leaves of the same numbers. */
static void the_tied_gradient_is_the_sum_of_the_untied(void **state)
{
    (void)state;
    trial a;
    tl_tape *t = tl_tape_new(NULL);
    for (int n = 0, i, j; trial_at(&n, &a); n++) {
        if (!exchangeable(&a, &i, &j) || !has_derivative(&a))
            continue;
        tl_tensor *x[MOST];
        tl_var tied[MOST], apart[MOST], grad, parts[2];
        make_operands(&a, TL_F64, 300, x);
        for (int k = 0; k < a.sample->count; k++)
            tied[k] = apart[k] = tl_constant(t, x[k]);
        tied[i] = tied[j] = tl_leaf_untied(t, x[j]);
        apart[i] = tl_leaf_untied(t, x[j]);
        apart[j] = tl_leaf_untied(t, x[j]);
        tl_var y = apply(t, &a, tied), z = apply(t, &a, apart);
        tl_grad(t, y, random_like(t, y, 301), 1, &tied[i], false, &grad);
        tl_grad(t, z, random_like(t, z, 301), 2, (tl_var[]){apart[i], apart[j]}, false, parts);
        assert_vars(t, grad, tl_add(t, parts[0], parts[1]), 1e-14);
        tl_tape_reset(t);
        release_all(a.sample->count, x);
    }
    tl_tape_free(t);
}

/* An op's operands on a tape, and which are real. */
typedef struct operands {
    tl_tensor *x[MOST];
    tl_var in[MOST], real[MOST];
    int reals;
} operands;

static void record_operands(tl_tape *t, const trial *a, uint64_t seed, operands *o)
{
    make_operands(a, TL_F64, seed, o->x);
    o->reals = 0;
    for (int k = 0; k < a->sample->count; k++) {
        o->in[k] = operand(t, o->x[k]);
        if (!a->sample->x[k].below)
            o->real[o->reals++] = o->in[k];
    }
}

/* vjp(a u + b v) = a vjp(u) + b vjp(v) */
static void derivatives_are_linear_in_dy(void **state)
{
    (void)state;
    trial a;
    tl_tape *t = tl_tape_new(NULL);
    for (int n = 0; trial_at(&n, &a); n++) {
        operands o;
        tl_var of_u[MOST], of_v[MOST], of_both[MOST];
        char text[64];
        if (!has_derivative(&a))
            continue;
        describe(&a, text);
        record_operands(t, &a, 500 + (uint64_t)n, &o);
        tl_var y = apply(t, &a, o.in), u = random_like(t, y, 501), v = random_like(t, y, 502);
        tl_grad(t, y, u, o.reals, o.real, false, of_u);
        tl_grad(t, y, v, o.reals, o.real, false, of_v);
        tl_grad(t, y, tl_sub(t, tl_affine(t, u, 3, 0), tl_affine(t, v, 0.7, 0)), o.reals, o.real, false,
                of_both);
        for (int k = 0; k < o.reals; k++) {
            tl_var sum = tl_sub(t, tl_affine(t, of_u[k], 3, 0), tl_affine(t, of_v[k], 0.7, 0));
            check_vars(t, of_both[k], sum, 1e-12, text, __FILE__, __LINE__);
        }
        tl_tape_reset(t);
        release_all(a.sample->count, o.x);
    }
    tl_tape_free(t);
}

/* An op that says it is linear: f(x + u) + f(0) = f(x) + f(u), in each real operand; and f(0) = 0
 * where that is the only one, as forward mode relies on. */
static void linear_ops_are_linear(void **state)
{
    (void)state;
    trial a;
    tl_tape *t = tl_tape_new(NULL);
    for (int n = 0; trial_at(&n, &a); n++) {
        operands o;
        char text[64];
        if (a.op->kind != TL_LINEAR && a.op->kind != TL_VIEW)
            continue;
        describe(&a, text);
        record_operands(t, &a, 600 + (uint64_t)n, &o);
        for (int k = 0; k < a.sample->count; k++) {
            if (a.sample->x[k].below)
                continue;
            tl_var x = o.in[k], u = random_like(t, x, 601), y[4],
                   at[4] = {x, u, tl_add(t, x, u), tl_affine(t, x, 0, 0)};
            for (int i = 0; i < 4; i++) {
                o.in[k] = at[i];
                y[i] = apply(t, &a, o.in);
            }
            check_vars(t, tl_add(t, y[2], y[3]), tl_add(t, y[0], y[1]), 1e-13, text, __FILE__,
                       __LINE__);
            if (o.reals == 1)
                check_vars(t, y[3], tl_affine(t, y[3], 0, 0), 0, text, __FILE__, __LINE__);
            o.in[k] = x;
        }
        tl_tape_reset(t);
        release_all(a.sample->count, o.x);
    }
    tl_tape_free(t);
}

/* Two applications that know nothing of each other: which is recorded first is of no account, to the
 * last bit. */
static void the_order_of_recording_is_of_no_account(void **state)
{
    (void)state;
    trial a;
    for (int n = 0; trial_at(&n, &a); n++) {
        tl_tensor *value[2][2], *gradient[2][2][MOST];
        char text[64];
        operands o[2];
        if (!has_derivative(&a))
            continue;
        describe(&a, text);
        for (int order = 0; order < 2; order++) {
            tl_tape *t = tl_tape_new(NULL);
            tl_var y[2], real[2 * MOST], grads[2 * MOST];
            for (int i = 0; i < 2; i++)
                record_operands(t, &a, 700 + (uint64_t)(2 * n + i), &o[i]);
            for (int i = 0; i < 2; i++)
                y[i ^ order] = apply(t, &a, o[i ^ order].in);
            tl_var first = tl_sum(t, tl_mul(t, y[0], random_like(t, y[0], 701))),
                   second = tl_sum(t, tl_mul(t, y[1], random_like(t, y[1], 702)));
            int reals = o[0].reals;
            for (int k = 0; k < 2 * reals; k++)
                real[k] = o[k / reals].real[k % reals];
            tl_grad(t, tl_add(t, first, second), TL_NONE, 2 * reals, real, false, grads);
            assert_ok(t);
            for (int i = 0; i < 2; i++) {
                value[order][i] = value_of(t, y[i]);
                for (int k = 0; k < reals; k++)
                    gradient[order][i][k] = value_of(t, grads[i * reals + k]);
                release_all(a.sample->count, o[i].x);
            }
            tl_tape_free(t);
        }
        for (int i = 0; i < 2; i++)
            for (int k = -1; k < o[0].reals; k++) {
                tl_tensor *other = k < 0 ? value[1][i] : gradient[1][i][k],
                          *one = k < 0 ? value[0][i] : gradient[0][i][k];
                check_tensors(other, one, 0, text, __FILE__, __LINE__);
                tl_tensor_release(other);
                tl_tensor_release(one);
            }
    }
}

/* Far out, where a value is finite its gradient is a number: no inf - inf, no 0 inf on the way. */
static void gradients_far_out_are_numbers(void **state)
{
    (void)state;
    const double far[] = {-1e5, -800, -40, 40, 800, 1e5};
    trial a;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tl_tensor_from(TL_F64, TL_SHAPE(COUNT_OF(far)), far, NULL);
    for (int n = 0; trial_at(&n, &a); n++) {
        tl_var grad;
        if (a.sample->count != 1 || a.op->kind != TL_ELEMENTWISE || !has_derivative(&a))
            continue;
        tl_var leaf = tl_leaf_untied(t, x), y = apply(t, &a, &leaf);
        tl_var ones = tl_full(t, TL_F64, TL_SHAPE(COUNT_OF(far)), 1);
        tl_grad(t, y, ones, 1, &leaf, false, &grad);
        assert_ok(t);
        for (int i = 0; i < COUNT_OF(far); i++)
            if (isfinite(item_at(t, y, i)) && isnan(item_at(t, grad, i)))
                fail_msg("%s at %g is %g, its derivative NaN", a.op->name, far[i], item_at(t, y, i));
        tl_tape_reset(t);
    }
    tl_tensor_release(x);
    tl_tape_free(t);
}

/* Forward mode has no rules of its own: <v, dy/dx u> = <(dy/dx)' v, u>. */
static tl_var along(tl_tape *t, const tl_var *in, void *context)
{
    const trial *a = context;
    tl_var real[MOST], tangent[MOST];
    dice d = dice_of(8);
    int reals = 0;
    for (int k = 0; k < a->sample->count; k++)
        if (!a->sample->x[k].below) {
            tl_tensor *u =
                random_tensor(&d, TL_F64, a->sample->x[k].ndim, a->sample->x[k].shape, -1, 1);
            real[reals] = in[k];
            tangent[reals++] = tl_constant(t, u);
            tl_tensor_release(u);
        }
    return tl_jvp(t, apply(t, a, in), reals, real, tangent);
}

static void forward_mode_is_the_transpose_of_backward(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    trial a;
    for (int n = 0; trial_at(&n, &a); n++) {
        tl_tensor *x[MOST];
        tl_var in[MOST], real[MOST], grads[MOST];
        tl_gradcheck_report report;
        char text[64];
        if (!has_derivative(&a))
            continue;
        describe(&a, text);
        make_operands(&a, TL_F64, 400 + (uint64_t)n, x);
        if (tl_gradcheck(along, &a, a.sample->count, x, NULL, &report) !=
            TL_OK) /* differentiable again */
            fail_msg("%s, forward: %s", text, report.message);
        int reals = 0;
        for (int k = 0; k < a.sample->count; k++) {
            in[k] = a.sample->x[k].below ? tl_constant(t, x[k]) : tl_leaf_untied(t, x[k]);
            if (!a.sample->x[k].below)
                real[reals++] = in[k];
        }
        tl_var y = apply(t, &a, in), moved = along(t, in, &a);
        assert_ok(t);
        tl_layout shape = *tl_value(t, y).layout;
        assert_true(tl_layout_same_shape(tl_value(t, moved).layout, &shape));
        dice d = dice_of(9), again = dice_of(8);
        tl_tensor *v = random_tensor(&d, TL_F64, shape.ndim, shape.shape, -1, 1);
        double left = tl_item(t, tl_sum(t, tl_mul(t, moved, tl_constant(t, v)))), right = 0;
        tl_grad(t, y, tl_constant(t, v), reals, real, false, grads);
        for (int k = 0, r = 0; k < a.sample->count; k++)
            if (!a.sample->x[k].below) {
                tl_tensor *u =
                    random_tensor(&again, TL_F64, a.sample->x[k].ndim, a.sample->x[k].shape, -1, 1);
                right += tl_item(t, tl_sum(t, tl_mul(t, grads[r++], tl_constant(t, u))));
                tl_tensor_release(u);
            }
        assert_ok(t);
        check_near(left, right, 1e-12, text, 0, __FILE__, __LINE__);
        tl_tensor_release(v);
        tl_tape_reset(t);
        release_all(a.sample->count, x);
    }
    tl_tape_free(t);
}

/* ---- values ----------------------------------------------------------------------------- */

/* Element of x at the last of the indices, aligned at the right; sizes of one stand for all. */
static double at(const tl_tensor *x, int ndim, const int64_t *index)
{
    int64_t flat = 0;
    for (int d = 0; d < x->layout.ndim; d++) {
        int64_t i = index[ndim - x->layout.ndim + d];
        flat = flat * x->layout.shape[d] + (x->layout.shape[d] == 1 ? 0 : i);
    }
    return tl_tensor_get(x, flat);
}

static void indices_of(const tl_layout *l, int64_t flat, int64_t *index)
{
    for (int d = l->ndim - 1; d >= 0; flat /= l->shape[d], d--)
        index[d] = flat % l->shape[d];
}

static int64_t size_of(const tl_tensor *x, int d) /* from the end: 1 is the last */
{
    return x->layout.shape[x->layout.ndim - d];
}

static double log_sum_exp(const tl_tensor *x, int64_t row)
{
    double sum = 0;
    for (int64_t i = 0; i < size_of(x, 1); i++)
        sum += exp(tl_tensor_get(x, row * size_of(x, 1) + i));
    return log(sum);
}

/* sum of x over all elements whose index, with `dropped` leading ones taken away, is y's up to the
 * dimensions of y that are one. */
static double sum_to(const tl_tensor *x, int ndim, const int64_t *shape, const int64_t *index)
{
    double sum = 0;
    for (int64_t i = 0; i < x->layout.count; i++) {
        int64_t own[TL_MAX_DIMS];
        bool hit = true;
        indices_of(&x->layout, i, own);
        for (int d = 0; d < ndim; d++)
            hit = hit && (shape[d] == 1 || own[x->layout.ndim - ndim + d] == index[d]);
        sum += hit ? tl_tensor_get(x, i) : 0;
    }
    return sum;
}

static double sum_axes(const tl_tensor *x, const tl_attr *attr, const int64_t *index)
{
    double sum = 0;
    for (int64_t i = 0; i < x->layout.count; i++) {
        int64_t own[TL_MAX_DIMS];
        bool hit = true;
        indices_of(&x->layout, i, own);
        for (int d = 0, k = 0; d < x->layout.ndim; d++) {
            bool summed = false;
            for (int j = 0; j < attr->n; j++)
                summed = summed || attr->i[j] == d;
            hit = hit && (summed || own[d] == index[k]);
            k += !summed || attr->flag;
        }
        sum += hit ? tl_tensor_get(x, i) : 0;
    }
    return sum;
}

static double matmul(tl_tensor *const *x, int ndim, const int64_t *index)
{
    double sum = 0;
    int64_t left[TL_MAX_DIMS], right[TL_MAX_DIMS];
    memcpy(left, index, sizeof left);
    memcpy(right, index, sizeof right);
    for (int64_t k = 0; k < size_of(x[0], 1); k++) {
        left[ndim - 1] = right[ndim - 2] = k;
        sum += at(x[0], ndim, left) * at(x[1], ndim, right);
    }
    return sum;
}

static double linear(tl_tensor *const *x, int count, int ndim, const int64_t *index, bool transposed)
{
    double sum = count == 3 ? at(x[2], ndim, index) : 0;
    int64_t row[TL_MAX_DIMS], inputs = size_of(x[0], 1), columns = size_of(x[1], 1),
                              out = index[ndim - 1];
    memcpy(row, index, sizeof row);
    for (int64_t i = 0; i < inputs; i++) {
        row[ndim - 1] = i;
        sum += at(x[0], ndim, row) *
               tl_tensor_get(x[1], transposed ? i * columns + out : out * columns + i);
    }
    return sum;
}

static double sum_outer(tl_tensor *const *x, const int64_t *index)
{
    double sum = 0;
    int64_t m = size_of(x[0], 1), n = size_of(x[1], 1);
    for (int64_t r = 0; r < x[0]->layout.count / m; r++)
        sum += tl_tensor_get(x[0], r * m + index[0]) * tl_tensor_get(x[1], r * n + index[1]);
    return sum;
}

static double unslice(const tl_tensor *x, const int64_t *attr, const int64_t *index)
{
    int64_t inner[TL_MAX_DIMS], dim = attr[0], from = index[dim] - attr[1];
    memcpy(inner, index, sizeof inner);
    inner[dim] = from / attr[2];
    return from < 0 || from % attr[2] || inner[dim] >= x->layout.shape[dim]
               ? 0
               : at(x, x->layout.ndim, inner);
}

static double concat(tl_tensor *const *x, int64_t dim, const int64_t *index)
{
    int64_t own[TL_MAX_DIMS];
    int k = 0;
    memcpy(own, index, sizeof own);
    for (; own[dim] >= x[k]->layout.shape[dim]; k++)
        own[dim] -= x[k]->layout.shape[dim];
    int64_t flat = 0; /* `at` takes a size of one for all, which would hide a mistake here */
    for (int d = 0; d < x[k]->layout.ndim; d++)
        flat = flat * x[k]->layout.shape[d] + own[d];
    return tl_tensor_get(x[k], flat);
}

/* Without, or with, the index at `dim`. */
static double select_at(const tl_tensor *x, int64_t dim, int64_t at_dim, int ndim, const int64_t *index)
{
    int64_t own[TL_MAX_DIMS];
    for (int64_t d = 0; d <= ndim; d++)
        own[d] = d < dim ? index[d] : d == dim ? at_dim : index[d - 1];
    return at(x, x->layout.ndim, own);
}

static double stack(tl_tensor *const *x, int64_t dim, int ndim, const int64_t *index)
{
    int64_t own[TL_MAX_DIMS];
    for (int64_t d = 0; d + 1 < ndim; d++)
        own[d] = d < dim ? index[d] : index[d + 1];
    return at(x[index[dim]], ndim - 1, own);
}

static double cross_entropy(tl_tensor *const *x, int reduction, int64_t flat)
{
    double sum = 0;
    int64_t rows = x[1]->layout.count, classes = size_of(x[0], 1);
    for (int64_t r = 0; r < rows; r++)
        if (reduction != TL_REDUCE_NONE || r == flat)
            sum += log_sum_exp(x[0], r) -
                   tl_tensor_get(x[0], r * classes + (int64_t)tl_tensor_get(x[1], r));
    return reduction == TL_REDUCE_MEAN ? sum / (double)rows : sum;
}

static double cross_entropy_grad(tl_tensor *const *x, int reduction, int64_t flat)
{
    int64_t classes = size_of(x[1], 1), row = flat / classes, rows = x[2]->layout.count;
    double p = exp(tl_tensor_get(x[1], flat) - log_sum_exp(x[1], row));
    double g = tl_tensor_get(x[0], reduction == TL_REDUCE_NONE ? row : 0);
    double hit = flat % classes == (int64_t)tl_tensor_get(x[2], row);
    return g * (p - hit) / (reduction == TL_REDUCE_MEAN ? (double)rows : 1);
}

static double scatter_rows(tl_tensor *const *x, const int64_t *index)
{
    double sum = 0;
    for (int64_t r = 0; r < x[1]->layout.count; r++)
        sum += (int64_t)tl_tensor_get(x[1], r) == index[0]
                   ? tl_tensor_get(x[0], r * size_of(x[0], 1) + index[1])
                   : 0;
    return sum;
}

/* y: [2,B,H], h' and c' */
static double lstm_gates(tl_tensor *const *x, const int64_t *index)
{
    int64_t n = size_of(x[1], 1), row = index[1];
    double a[4];
    for (int64_t gate = 0; gate < 4; gate++)
        a[gate] = tl_tensor_get(x[0], row * 4 * n + gate * n + index[2]);
    double c =
        tl_tensor_get(x[1], row * n + index[2]) / (1 + exp(-a[1])) + tanh(a[2]) / (1 + exp(-a[0]));
    return index[0] ? c : tanh(c) / (1 + exp(-a[3]));
}

/* y at that index; false: there is no formula for this op here. */
static bool formula(const trial *a, tl_tensor *const *x, const tl_layout *y, int64_t flat,
                    double *value)
{
    const char *name = a->op->name;
    const tl_attr *attr = &a->sample->attr;
    int64_t index[TL_MAX_DIMS] = {0}, own[TL_MAX_DIMS] = {0};
    int count = a->sample->count, ndim = y->ndim;
    indices_of(y, flat, index);
    memcpy(own, index, sizeof own);
    double z[3] = {0};
    for (int k = 0; k < count && k < 3 && a->op->kind == TL_ELEMENTWISE; k++)
        z[k] = at(x[k], ndim, index);
    if (elementwise_formula(name, z, attr->f, value))
        return true;
    if (strcmp(name, "expand") == 0 || strcmp(name, "contiguous") == 0 || strcmp(name, "detach") == 0) {
        *value = at(x[0], ndim, index);
    } else if (strcmp(name, "reshape") == 0)
        *value = tl_tensor_get(x[0], flat);
    else if (strcmp(name, "permute") == 0) {
        for (int d = 0; d < ndim; d++)
            own[attr->i[d]] = index[d];
        *value = at(x[0], ndim, own);
    } else if (strcmp(name, "slice") == 0) {
        own[attr->i[0]] = attr->i[1] + index[attr->i[0]] * attr->i[3];
        *value = at(x[0], ndim, own);
    } else if (strcmp(name, "unslice") == 0)
        *value = unslice(x[0], attr->i, index);
    else if (strcmp(name, "select") == 0)
        *value = select_at(x[0], attr->i[0], attr->i[1], ndim, index);
    else if (strcmp(name, "concat") == 0)
        *value = concat(x, attr->i[0], index);
    else if (strcmp(name, "stack") == 0)
        *value = stack(x, attr->i[0], ndim, index);
    else if (strcmp(name, "sum") == 0)
        *value = sum_axes(x[0], attr, index);
    else if (strcmp(name, "sum_to") == 0)
        *value = sum_to(x[0], ndim, y->shape, index);
    else if (strcmp(name, "matmul") == 0)
        *value = matmul(x, ndim, index);
    else if (strcmp(name, "linear") == 0)
        *value = linear(x, count, ndim, index, attr->flag);
    else if (strcmp(name, "sum_outer") == 0)
        *value = sum_outer(x, index);
    else if (strcmp(name, "embedding") == 0)
        *value = tl_tensor_get(
            x[0],
            (int64_t)tl_tensor_get(x[1], flat / size_of(x[0], 1)) * size_of(x[0], 1) + index[ndim - 1]);
    else if (strcmp(name, "scatter_rows") == 0)
        *value = scatter_rows(x, index);
    else if (strcmp(name, "lstm_gates") == 0)
        *value = lstm_gates(x, index);
    else if (strcmp(name, "softmax") == 0)
        *value = exp(tl_tensor_get(x[0], flat) - log_sum_exp(x[0], flat / size_of(x[0], 1)));
    else if (strcmp(name, "log_softmax") == 0)
        *value = tl_tensor_get(x[0], flat) - log_sum_exp(x[0], flat / size_of(x[0], 1));
    else if (strcmp(name, "cross_entropy") == 0)
        *value = cross_entropy(x, attr->flag, flat);
    else if (strcmp(name, "cross_entropy_grad") == 0)
        *value = cross_entropy_grad(x, attr->flag, flat);
    else
        return false;
    return true;
}

/* The ops that have a formula here; test_golden.c sees to it that none goes unchecked. */
static void values_agree_with_formulas(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    trial a;
    for (int n = 0; trial_at(&n, &a); n++) {
        tl_tensor *x[MOST];
        tl_var in[MOST];
        char text[64];
        bool known = true;
        describe(&a, text);
        make_operands(&a, TL_F64, 7 + (uint64_t)n, x);
        for (int k = 0; k < a.sample->count; k++)
            in[k] = tl_constant(t, x[k]);
        tl_tensor *y = value_of(t, apply(t, &a, in));
        for (int64_t i = 0; known && i < y->layout.count; i++) {
            double expected;
            assert_true(isfinite(tl_tensor_get(y, i)));
            known = formula(&a, x, &y->layout, i, &expected);
            if (known)
                check_near(tl_tensor_get(y, i), expected, 1e-14, text, i, __FILE__, __LINE__);
        }
        tl_tensor_release(y);
        release_all(a.sample->count, x);
        tl_tape_reset(t);
    }
    tl_tape_free(t);
}

static void at_a_tie_each_gets_half(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *a = tl_tensor_from(TL_F64, TL_SHAPE(3), (double[]){1, 2, 3}, NULL);
    tl_tensor *b = tl_tensor_from(TL_F64, TL_SHAPE(3), (double[]){3, 2, 1}, NULL);
    const double of_larger[] = {0, 0.5, 1};
    for (int smaller = 0; smaller < 2; smaller++) {
        tl_tape_reset(t);
        tl_var x = tl_leaf(t, a, NULL), y = tl_leaf(t, b, NULL);
        tl_var z = smaller ? tl_minimum(t, x, y) : tl_maximum(t, x, y);
        assert_int_equal(tl_backward(t, tl_sum(t, z)), TL_OK);
        const double *dx = tl_value(t, tl_gradient(t, x)).data,
                     *dy = tl_value(t, tl_gradient(t, y)).data;
        for (int i = 0; i < 3; i++) {
            assert_near_at(dx[i], smaller ? 1 - of_larger[i] : of_larger[i], 0, i);
            assert_near_at(dy[i], smaller ? of_larger[i] : 1 - of_larger[i], 0, i);
        }
    }
    tl_tensor_release(a);
    tl_tensor_release(b);
    tl_tape_free(t);
}

/* 0^b moves with b only where b < 0, and infinitely so; elsewhere not even an infinite gradient passes.
 */
static void powers_of_zero(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *exponents = tensor_of(TL_F64, TL_SHAPE(4), REALS(-1, 0, 0.5, 2));
    tl_var a = tl_full(t, TL_F64, 0, NULL, 0), b = tl_leaf_untied(t, exponents), grad;
    tl_var seed = constant_f64(t, TL_SHAPE(4), REALS(2, INFINITY, INFINITY, INFINITY));
    tl_grad(t, tl_pow(t, a, b), seed, 1, &b, false, &grad);
    assert_value(t, grad, REALS(-INFINITY, 0, 0, 0), 0);
    assert_ok(t);
    tl_tensor_release(exponents);
    tl_tape_free(t);
}

static void a_scalar_is_an_array_too(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var s = tl_full(t, TL_F64, 0, NULL, 3), column = tl_full(t, TL_F64, TL_SHAPE(3, 1), 2);
    assert_shape(t, tl_mul(t, s, s), "[]");
    assert_shape(t, tl_mul(t, s, column), "[3,1]");
    assert_shape(t, tl_sum(t, s), "[]");
    assert_shape(t, tl_mean_axes(t, s, 0, NULL, true), "[]");
    assert_shape(t, tl_expand(t, s, TL_SHAPE(2, 2)), "[2,2]");
    assert_shape(t, tl_reshape(t, s, TL_SHAPE(1, 1)), "[1,1]");
    assert_shape(t, tl_reshape(t, tl_full(t, TL_F64, TL_SHAPE(1, 1), 5), 0, NULL), "[]");
    assert_same(tl_item(t, tl_mse(t, s, tl_full(t, TL_F64, 0, NULL, 5), TL_REDUCE_MEAN)), 4);
    assert_ok(t);
    tl_tape_free(t);
}

/* The functions that are more than one op, or that work something out first. */
static void conveniences(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double numbers[] = {1, -2, 3, -4, 5, 6};
    tl_var x = constant_f64(t, TL_SHAPE(2, 3), numbers), y = tl_affine(t, x, 0, 1), piece[3];
    assert_same(tl_item(t, tl_mean(t, x)), 1.5);
    assert_same(tl_item(t, tl_sum(t, x)), 9);
    assert_value(t, tl_mean_axes(t, x, 1, (int[]){-1}, true), REALS(2. / 3, 7. / 3), 1e-15);
    assert_shape(t, tl_mean_axes(t, x, 1, (int[]){-1}, true), "[2,1]");
    assert_shape(t, tl_mean_axes(t, x, 2, (int[]){1, 0}, false), "[]");
    assert_value(t, tl_sum_axes(t, x, 1, (int[]){-2}, false), REALS(-3, 3, 9), 0);
    assert_same(tl_item(t, tl_mse(t, x, y, TL_REDUCE_SUM)), 79);
    assert_near(tl_item(t, tl_mse(t, x, y, TL_REDUCE_MEAN)), 79. / 6, 1e-15);
    assert_value(t, tl_mse(t, x, y, TL_REDUCE_NONE), REALS(0, 9, 4, 25, 16, 25), 0);
    assert_value(t, tl_transpose(t, x, -1, 0), REALS(1, -4, -2, 5, 3, 6), 0);
    assert_value(t, tl_select(t, x, -1, -1), REALS(3, 6), 0);
    assert_value(t, tl_slice(t, x, -1, -2, 99, 1), REALS(-2, 3, 5, 6), 0);
    assert_value(t, tl_slice(t, x, 1, -99, -2, 1), REALS(1, -4), 0);
    assert_shape(t, tl_slice(t, x, 1, 2, 1, 1), "[2,0]");
    assert_shape(t, tl_reshape(t, x, TL_SHAPE(3, -1, 1)), "[3,2,1]");
    assert_shape(t, tl_stack(t, 2, (tl_var[]){x, y}, -1), "[2,3,2]");
    assert_value(t, tl_concat(t, 2, (tl_var[]){x, y}, -1), REALS(1, -2, 3, 1, 1, 1, -4, 5, 6, 1, 1, 1),
                 0);
    tl_chunk(t, x, 3, -1, piece);
    assert_value(t, piece[0], REALS(1, -4), 0);
    assert_value(t, piece[2], REALS(3, 6), 0);
    assert_shape(t, piece[1], "[2,1]");
    assert_int_equal(tl_contiguous(t, x).id, x.id); /* nothing to do */
    tl_var turned = tl_transpose(t, x, 0, 1);
    assert_false(tl_value(t, turned).layout->contiguous);
    assert_true(tl_value(t, tl_contiguous(t, turned)).layout->contiguous);
    assert_value(t, tl_reshape(t, turned, TL_SHAPE(6)), REALS(1, -4, -2, 5, 3, 6), 0); /* a copy */
    assert_ptr_equal(tl_value(t, tl_reshape(t, x, TL_SHAPE(6))).data, tl_value(t, x).data);
    assert_ok(t);
    tl_tape_free(t);
}

/* A step so large that start + step would not fit an int64. */
static void steps_of_any_size(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double numbers[] = {1, -2, 3, -4, 5, 6};
    tl_var x = constant_f64(t, TL_SHAPE(2, 3), numbers);
    assert_value(t, tl_slice(t, x, 1, 1, 3, INT64_MAX), REALS(-2, 5), 0);
    assert_value(t, tl_unslice(t, tl_slice(t, x, 1, 1, 3, INT64_MAX), 1, 0, INT64_MAX, 2),
                 REALS(-2, 0, 5, 0), 0);
    assert_ok(t);
    assert_int_equal(tl_value(t, tl_unslice(t, x, 1, 1, INT64_MAX / 2, INT64_MAX)).data == NULL, true);
    assert_int_equal(tl_tape_status(t), TL_ERR_INDEX);
    tl_tape_free(t);
}

/* More operands than fit the small arrays on the stack. */
static void many_operands(void **state)
{
    (void)state;
    enum { N = 11 };
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x[N];
    tl_var v[N], grads[N];
    dice d = dice_of(4);
    for (int k = 0; k < N; k++) {
        x[k] = random_tensor(&d, TL_F64, TL_SHAPE(2, 3), -2, 2);
        v[k] = tl_leaf(t, x[k], NULL);
    }
    tl_var in_row = tl_concat(t, N, v, 1), piled = tl_stack(t, N, v, 1);
    assert_shape(t, in_row, "[2,33]");
    assert_shape(t, piled, "[2,11,3]");
    assert_vars(t, tl_reshape(t, piled, TL_SHAPE(2, 33)), in_row, 0);
    for (int k = 0; k < N; k++)
        for (int64_t i = 0; i < 6; i++)
            assert_same(item_at(t, in_row, i / 3 * 33 + k * 3 + i % 3), tl_tensor_get(x[k], i));
    tl_var sum =
        tl_add(t, tl_sum(t, tl_square(t, in_row)), tl_sum(t, tl_mul(t, piled, tl_square(t, piled))));
    assert_int_equal(tl_grad(t, sum, TL_NONE, N, v, false, grads), TL_OK);
    for (int k = 0; k < N; k++)
        for (int64_t i = 0; i < 6; i++) {
            double a = tl_tensor_get(x[k], i);
            assert_near_at(item_at(t, grads[k], i), 2 * a + 3 * a * a, 1e-14, k);
        }
    tl_tape_free(t);
    release_all(N, x);
}

static void softmax_of_large_logits(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const float large[] = {1000, 1000, 999}, larger[] = {1e8f, 1e8f, -1e8f};
    const double largest[] = {1e17, 1e17, -1e300};
    const double sum = 2 + exp(-1);
    const int64_t target = 1;
    tl_var index = tl_constant_from(t, TL_I64, 0, NULL, &target);
    tl_var x = tl_constant_from(t, TL_F32, TL_SHAPE(3), large);
    assert_value(t, tl_log_softmax(t, x), REALS(-log(sum), -log(sum), -1 - log(sum)), 2e-7);
    assert_value(t, tl_softmax(t, x), REALS(1 / sum, 1 / sum, exp(-1) / sum), 2e-7);
    assert_near(tl_item(t, tl_cross_entropy(t, x, index, TL_REDUCE_MEAN)), log(sum), 2e-7);
    x = tl_constant_from(t, TL_F32, TL_SHAPE(3), larger);
    assert_value(t, tl_log_softmax(t, x), REALS(-log(2), -log(2), -2e8), 2e-7);
    assert_near(tl_item(t, tl_cross_entropy(t, x, index, TL_REDUCE_SUM)), log(2), 2e-7);
    x = tl_constant_from(t, TL_F64, TL_SHAPE(3), largest);
    assert_value(t, tl_log_softmax(t, x), REALS(-log(2), -log(2), -1e300), 1e-15);
    assert_near(tl_item(t, tl_cross_entropy(t, x, index, TL_REDUCE_SUM)), log(2), 1e-15);
    assert_ok(t);
    tl_tape_free(t);
}

/* ---- f32 -------------------------------------------------------------------------------- */

/* y and the gradients of all real operands for a given gradient of y. */
static void run_trial(tl_tape *t, const trial *a, const tl_var *in, tl_tensor **y, tl_tensor **dx)
{
    tl_var out = apply(t, a, in), real[MOST], grads[MOST];
    const bool differentiable = has_derivative(a);
    int reals = 0;
    *y = value_of(t, out);
    for (int k = 0; k < a->sample->count; k++)
        if (!a->sample->x[k].below)
            real[reals++] = in[k];
    if (differentiable) {
        dice d = dice_of(77);
        tl_tensor *seed = random_tensor(&d, (*y)->dtype, (*y)->layout.ndim, (*y)->layout.shape, -1, 1);
        tl_grad(t, out, tl_constant(t, seed), reals, real, false, grads);
        tl_tensor_release(seed);
    }
    assert_ok(t);
    for (int k = 0, r = 0; k < a->sample->count; k++)
        dx[k] = a->sample->x[k].below || !differentiable ? NULL : value_of(t, grads[r++]);
}

static void compare_runs(int count, tl_tensor *y, tl_tensor **dx, tl_tensor *other_y,
                         tl_tensor **other_dx, double tolerance, const char *text)
{
    check_tensors(other_y, y, tolerance, text, __FILE__, __LINE__);
    for (int k = 0; k < count; k++)
        if (dx[k])
            check_tensors(other_dx[k], dx[k], tolerance, text, __FILE__, __LINE__);
    tl_tensor_release(other_y);
    release_all(count, other_dx);
}

static void f32_agrees_with_f64(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    trial a;
    for (int n = 0; trial_at(&n, &a); n++) {
        tl_tensor *x[2][MOST], *y[2], *dx[2][MOST];
        char text[64];
        describe(&a, text);
        for (int single = 0; single < 2; single++) {
            tl_dtype dtype = single ? TL_F32 : TL_F64;
            tl_var in[MOST];
            make_operands(&a, dtype, 50 + (uint64_t)n, x[single]);
            for (int k = 0; k < a.sample->count; k++)
                in[k] = operand(t, x[single][k]);
            run_trial(t, &a, in, &y[single], dx[single]);
            if (has_derivative(&a) && strcmp(a.op->name, "cast") != 0)
                assert_int_equal(y[single]->dtype, dtype);
            tl_tape_reset(t);
        }
        compare_runs(a.sample->count, y[0], dx[0], y[1], dx[1], 5e-6, text);
        tl_tensor_release(y[0]);
        release_all(a.sample->count, dx[0]);
        release_all(a.sample->count, x[0]);
        release_all(a.sample->count, x[1]);
    }
    tl_tape_free(t);
}

/* ---- strides ---------------------------------------------------------------------------- */

/* A tensor with room around and between the numbers and the dimensions reversed, all filled with 99. */
static tl_tensor *roomy(const tl_tensor *x)
{
    int64_t shape[TL_MAX_DIMS];
    int ndim = x->layout.ndim;
    for (int d = 0; d < ndim; d++)
        shape[d] = 2 * x->layout.shape[ndim - 1 - d] + 1;
    tl_tensor *room = tl_tensor_empty(x->dtype, ndim, shape, NULL);
    assert_non_null(room);
    tl_tensor_fill(room, 99);
    return room;
}

static tl_tensor *view_of_room(tl_tensor *room)
{
    int order[TL_MAX_DIMS], ndim = room->layout.ndim;
    tl_tensor *view = tl_tensor_retain(room);
    for (int d = 0; d < ndim; d++) {
        tl_tensor *part = tl_tensor_slice(view, d, 1, room->layout.shape[d], 2, NULL);
        tl_tensor_release(view);
        view = part;
        order[d] = ndim - 1 - d;
    }
    tl_tensor *turned = tl_tensor_permute(view, order, NULL);
    tl_tensor_release(view);
    assert_non_null(turned);
    return turned;
}

static tl_var var_of_room(tl_tape *t, tl_var room)
{
    int order[TL_MAX_DIMS], ndim = tl_value(t, room).layout->ndim;
    for (int d = 0; d < ndim; d++) {
        room = tl_slice(t, room, d, 1, INT64_MAX, 2);
        order[d] = ndim - 1 - d;
    }
    return tl_permute(t, room, ndim, order);
}

/* Leaves and constants that are strided tensors themselves. */
static void strided_tensors_are_as_good(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    trial a;
    for (int n = 0; trial_at(&n, &a); n++) {
        tl_tensor *x[MOST], *y, *dx[MOST], *other_y, *other_dx[MOST], *strided[MOST];
        tl_var in[MOST];
        char text[64];
        describe(&a, text);
        make_operands(&a, TL_F64, 60 + (uint64_t)n, x);
        for (int k = 0; k < a.sample->count; k++)
            in[k] = operand(t, x[k]);
        run_trial(t, &a, in, &y, dx);
        tl_tape_reset(t);
        for (int k = 0; k < a.sample->count; k++) {
            tl_tensor *room = roomy(x[k]);
            strided[k] = view_of_room(room);
            tl_tensor_release(room);
            assert_int_equal(tl_tensor_assign(strided[k], x[k], NULL), TL_OK);
            in[k] = operand(t, strided[k]);
        }
        if (strcmp(a.op->name, "reshape") == 0) /* the op itself refuses, the function copies */
            in[0] = tl_contiguous(t, in[0]);
        run_trial(t, &a, in, &other_y, other_dx);
        tl_tape_reset(t);
        compare_runs(a.sample->count, y, dx, other_y, other_dx, 1e-14, text);
        tl_tensor_release(y);
        release_all(a.sample->count, dx);
        release_all(a.sample->count, x);
        release_all(a.sample->count, strided);
    }
    tl_tape_free(t);
}

/* Views on the tape: gradients arrive in the larger leaf, and nowhere else in it. */
static void views_on_the_tape_are_as_good(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    trial a;
    for (int n = 0; trial_at(&n, &a); n++) {
        tl_tensor *x[MOST], *y, *dx[MOST], *room[MOST], *other_y;
        tl_var in[MOST], leaf[MOST], view[MOST], grads[MOST];
        char text[64];
        int reals = 0;
        describe(&a, text);
        if (strcmp(a.op->name, "reshape") == 0 || !has_derivative(&a))
            continue;
        make_operands(&a, TL_F64, 70 + (uint64_t)n, x);
        for (int k = 0; k < a.sample->count; k++)
            in[k] = operand(t, x[k]);
        run_trial(t, &a, in, &y, dx);
        tl_tape_reset(t);
        for (int k = 0; k < a.sample->count; k++) {
            room[k] = roomy(x[k]);
            tl_tensor *inside = view_of_room(room[k]);
            tl_tensor_assign(inside, x[k], NULL);
            tl_tensor_release(inside);
            tl_var whole = operand(t, room[k]);
            view[k] = var_of_room(t, whole);
            if (!a.sample->x[k].below)
                leaf[reals++] = whole;
        }
        tl_var out = apply(t, &a, view);
        other_y = value_of(t, out);
        check_tensors(other_y, y, 1e-14, text, __FILE__, __LINE__);
        dice d = dice_of(77);
        tl_tensor *seed = random_tensor(&d, TL_F64, y->layout.ndim, y->layout.shape, -1, 1);
        tl_grad(t, out, tl_constant(t, seed), reals, leaf, false, grads);
        assert_ok(t);
        for (int k = 0, r = 0; k < a.sample->count; k++) {
            if (a.sample->x[k].below)
                continue;
            tl_tensor *got = value_of(t, grads[r++]), *expected = zeros_like(room[k]);
            tl_tensor *inside = view_of_room(expected);
            tl_tensor_assign(inside, dx[k], NULL);
            check_tensors(got, expected, 1e-14, text, __FILE__, __LINE__);
            tl_tensor_release(inside);
            tl_tensor_release(expected);
            tl_tensor_release(got);
        }
        tl_tape_reset(t);
        tl_tensor_release(seed);
        tl_tensor_release(y);
        tl_tensor_release(other_y);
        release_all(a.sample->count, dx);
        release_all(a.sample->count, x);
        release_all(a.sample->count, room);
    }
    tl_tape_free(t);
}

/* The first row of each real operand, repeated without a copy: strides of zero. */
static void expanded_operands_are_as_good(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    trial a;
    for (int n = 0; trial_at(&n, &a); n++) {
        tl_var grads[2][MOST], y[2];
        operands o;
        char text[64];
        if (strcmp(a.op->name, "reshape") == 0)
            continue;
        describe(&a, text);
        bool differentiable = has_derivative(&a);
        record_operands(t, &a, 80 + (uint64_t)n, &o);
        for (int dense = 0; dense < 2; dense++) {
            tl_var in[MOST];
            for (int k = 0; k < a.sample->count; k++) {
                const int64_t *shape = a.sample->x[k].shape;
                int ndim = a.sample->x[k].ndim;
                in[k] = o.in[k];
                if (a.sample->x[k].below || !ndim || !shape[0])
                    continue;
                in[k] = tl_expand(t, tl_slice(t, in[k], 0, 0, 1, 1), ndim, shape);
                in[k] = dense ? tl_contiguous(t, in[k]) : in[k];
            }
            y[dense] = apply(t, &a, in);
            if (differentiable)
                tl_grad(t, y[dense], random_like(t, y[dense], 81), o.reals, o.real, false,
                        grads[dense]);
            assert_ok(t);
        }
        check_vars(t, y[0], y[1], 1e-14, text, __FILE__, __LINE__);
        for (int k = 0; k < o.reals && differentiable; k++)
            check_vars(t, grads[0][k], grads[1][k], 1e-14, text, __FILE__, __LINE__);
        tl_tape_reset(t);
        release_all(a.sample->count, o.x);
    }
    tl_tape_free(t);
}

/* ---- nothing at all --------------------------------------------------------------------- */

typedef struct zeros {
    tl_tape *t;
    tl_var leaf[8];
    int count;
} zeros;

static tl_var leaf_of_ones(zeros *z, int ndim, const int64_t *shape)
{
    tl_tensor *x = tl_tensor_empty(TL_F64, ndim, shape, NULL);
    assert_non_null(x);
    tl_tensor_fill(x, 1);
    tl_var v = z->leaf[z->count++] = tl_leaf_untied(z->t, x);
    tl_tensor_release(x);
    return v;
}

static void check_empty(zeros *z, tl_var y, const char *shape, double fill, int line)
{
    tl_tape *t = z->t;
    check_shape(t, y, shape, __FILE__, line);
    tl_tensor *value = check_value(t, y, __FILE__, line);
    for (int64_t i = 0; i < value->layout.count; i++)
        check_near(tl_tensor_get(value, i), fill, 0, "value", i, __FILE__, line);
    tl_tensor_release(value);
    if (tl_needs_gradient(t, y)) {
        tl_backward(t, tl_sum(t, y));
        check_ok(t, __FILE__, line);
    }
    for (int k = 0; k < z->count; k++) {
        tl_var g = tl_gradient(t, z->leaf[k]);
        if (!tl_is_none(g))
            assert_true(tl_layout_same_shape(tl_value(t, g).layout, tl_value(t, z->leaf[k]).layout));
    }
    tl_tape_reset(t);
    z->count = 0;
}

static void arrays_without_elements(void **state)
{
    (void)state;
    zeros z = {.t = tl_tape_new(NULL)};
    tl_tape *t = z.t;
    tl_var piece[3];
    const int64_t none[1] = {0}, two[2] = {1, 0};
#define X(...)                leaf_of_ones(&z, TL_SHAPE(__VA_ARGS__))
#define INDEX(values, ...)    tl_constant_from(t, TL_I64, TL_SHAPE(__VA_ARGS__), values)
#define CHECK(y, shape, fill) check_empty(&z, (y), (shape), (fill), __LINE__)
    CHECK(tl_add(t, X(0, 3), X(1, 3)), "[0,3]", 0);
    CHECK(tl_mul(t, X(0), X(1)), "[0]", 0);
    CHECK(tl_mul(t, X(2, 1, 3), X(0, 1)), "[2,0,3]", 0);
    CHECK(tl_lerp(t, X(0), X(1), X(4, 1)), "[4,0]", 0);
    CHECK(tl_tanh(t, X(3, 0, 2)), "[3,0,2]", 0);
    CHECK(tl_matmul(t, X(2, 0), X(0, 3)), "[2,3]", 0);
    CHECK(tl_matmul(t, X(0, 2), X(2, 3)), "[0,3]", 0);
    CHECK(tl_matmul(t, X(2, 3), X(3, 0)), "[2,0]", 0);
    CHECK(tl_matmul(t, X(0, 2, 3), X(3, 4)), "[0,2,4]", 0);
    CHECK(tl_matmul(t, X(5, 2, 0), X(0, 4)), "[5,2,4]", 0);
    CHECK(tl_linear_op(t, X(0, 3), X(5, 3), X(5)), "[0,5]", 0);
    CHECK(tl_linear_op(t, X(2, 0), X(5, 0), X(5)), "[2,5]", 1);
    CHECK(tl_linear_op(t, X(2, 0), X(5, 0), TL_NONE), "[2,5]", 0);
    CHECK(tl_linear_op(t, X(2, 3), X(0, 3), X(0)), "[2,0]", 0);
    CHECK(tl_linear_op(t, X(4, 0, 3), X(5, 3), TL_NONE), "[4,0,5]", 0);
    CHECK(tl_linear_transposed(t, X(2, 0), X(0, 3)), "[2,3]", 0);
    CHECK(tl_sum_outer(t, X(0, 3), X(0, 5)), "[3,5]", 0);
    CHECK(tl_sum_outer(t, X(4, 0), X(4, 5)), "[0,5]", 0);
    CHECK(tl_sum(t, X(0, 3)), "[]", 0);
    CHECK(tl_sum_axes(t, X(0, 3), 1, (int[]){0}, false), "[3]", 0);
    CHECK(tl_sum_axes(t, X(0, 3), 1, (int[]){1}, false), "[0]", 0);
    CHECK(tl_mean(t, X(0, 3)), "[]", NAN);
    CHECK(tl_sum_to(t, X(0, 3), TL_SHAPE(1, 3)), "[1,3]", 0);
    CHECK(tl_sum_to(t, X(0, 3), TL_SHAPE(3)), "[3]", 0);
    CHECK(tl_softmax(t, X(0, 3)), "[0,3]", 0);
    CHECK(tl_softmax(t, X(3, 0)), "[3,0]", 0);
    CHECK(tl_log_softmax(t, X(0, 3)), "[0,3]", 0);
    CHECK(tl_log_softmax(t, X(3, 0)), "[3,0]", 0);
    CHECK(tl_cross_entropy(t, X(0, 5), INDEX(NULL, 0), TL_REDUCE_SUM), "[]", 0);
    CHECK(tl_cross_entropy(t, X(0, 5), INDEX(NULL, 0), TL_REDUCE_MEAN), "[]", NAN);
    CHECK(tl_cross_entropy(t, X(0, 5), INDEX(NULL, 0), TL_REDUCE_NONE), "[0]", 0);
    CHECK(tl_embedding_op(t, X(4, 3), INDEX(NULL, 0)), "[0,3]", 0);
    CHECK(tl_embedding_op(t, X(0, 3), INDEX(NULL, 2, 0)), "[2,0,3]", 0);
    CHECK(tl_embedding_op(t, X(4, 0), INDEX(two, 2)), "[2,0]", 0);
    CHECK(tl_scatter_rows(t, X(0, 3), INDEX(NULL, 0), 4), "[4,3]", 0);
    CHECK(tl_scatter_rows(t, X(2, 0), INDEX(two, 2), 4), "[4,0]", 0);
    CHECK(tl_concat(t, 2, (tl_var[]){X(2, 0), X(2, 3)}, 1), "[2,3]", 1);
    CHECK(tl_stack(t, 2, (tl_var[]){X(0), X(0)}, 1), "[0,2]", 0);
    CHECK(tl_slice(t, X(2, 3), 1, 3, 3, 1), "[2,0]", 0);
    CHECK(tl_slice(t, X(0, 3), 1, 0, 3, 2), "[0,2]", 0);
    CHECK(tl_unslice(t, X(2, 0), 1, 1, 1, 5), "[2,5]", 0);
    CHECK(tl_unslice(t, X(2, 0), 1, 5, 3, 5), "[2,5]", 0);
    CHECK(tl_unslice(t, X(0, 2), 1, 1, 2, 5), "[0,5]", 0);
    CHECK(tl_select(t, X(0, 3), 1, 2), "[0]", 0);
    CHECK(tl_expand(t, X(0, 1), TL_SHAPE(2, 0, 4)), "[2,0,4]", 0);
    CHECK(tl_expand(t, X(1, 3), TL_SHAPE(0, 3)), "[0,3]", 0);
    CHECK(tl_reshape(t, X(0, 3), TL_SHAPE(3, 5, 0)), "[3,5,0]", 0);
    CHECK(tl_permute(t, X(0, 3), 2, (int[]){1, 0}), "[3,0]", 0);
    CHECK(tl_contiguous(t, tl_permute(t, X(0, 3), 2, (int[]){1, 0})), "[3,0]", 0);
    CHECK(tl_detach(t, X(0, 3)), "[0,3]", 0);
    CHECK(tl_mse(t, X(0), X(0), TL_REDUCE_SUM), "[]", 0);
    CHECK(tl_full(t, TL_F64, 1, none, 3), "[0]", 0);
    tl_chunk(t, X(2, 0), 3, 1, piece);
    CHECK(piece[2], "[2,0]", 0);
#undef X
#undef INDEX
#undef CHECK
    tl_tape_free(t);
}

/* ---- bad input -------------------------------------------------------------------------- */

static bool is_poison(tl_tape *t, tl_var v)
{
    return tl_value(t, v).data == NULL && tl_value(t, v).layout == NULL;
}

static void begin_scopes(tl_tape *t)
{
    tl_scope_begin(t, "layer", 1);
    tl_scope_begin(t, "step", 17);
}

static void check_refused(tl_tape *t, tl_var y, tl_status status, const char *message, int line)
{
    assert_true(is_poison(t, y));
    assert_true(is_poison(t, tl_tanh(t, y))); /* and so on; the message stays the first one */
    char whole[TL_MESSAGE_SIZE], name[64], own[80];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(message, ":"), message);
    snprintf(own, sizeof own, ", %s)", name); /* a composed op may fail in its own scope */
    const tl_op *op = tl_op_find(name);
    bool inside = op && op->kind == TL_COMPOSED && strstr(tl_tape_message(t), own);
    snprintf(whole, sizeof whole, "%s (layer 1, step 17%s", message, inside ? own : ")");
    check_error(t, status, whole, __FILE__, line);
    tl_var two = tl_full(t, TL_F64, TL_SHAPE(2), 2); /* the tape is as good as new */
    assert_same(tl_item(t, tl_sum(t, tl_square(t, two))), 8);
    assert_ok(t);
    tl_tape_reset(t);
    begin_scopes(t);
}

static void bad_input_is_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const int64_t indices[] = {0, 4, 2, -1};
    tl_var out[3];
    begin_scopes(t);
#define F(...)                      tl_full(t, TL_F64, TL_SHAPE(__VA_ARGS__), 1)
#define SINGLE(...)                 tl_full(t, TL_F32, TL_SHAPE(__VA_ARGS__), 1)
#define INT(...)                    tl_full(t, TL_I64, TL_SHAPE(__VA_ARGS__), 1)
#define MASK(...)                   tl_full(t, TL_U8, TL_SHAPE(__VA_ARGS__), 1)
#define SCALAR                      tl_full(t, TL_F64, 0, NULL, 1)
#define INDEX(...)                  tl_constant_from(t, TL_I64, TL_SHAPE(__VA_ARGS__), indices)
#define REFUSED(y, status, message) check_refused(t, (y), (status), (message), __LINE__)
    /* shapes */
    REFUSED(tl_add(t, F(2, 3), F(4, 3)), TL_ERR_SHAPE,
            "add: shapes cannot be broadcast: [2,3] and [4,3]");
    REFUSED(tl_mul(t, F(0), F(2)), TL_ERR_SHAPE, "mul: shapes cannot be broadcast: [0] and [2]");
    REFUSED(tl_lerp(t, F(2, 3), F(3), F(2)), TL_ERR_SHAPE,
            "lerp: shapes cannot be broadcast: [2,3] and [2]");
    REFUSED(tl_mse(t, F(2), F(3), TL_REDUCE_MEAN), TL_ERR_SHAPE,
            "mse: shapes cannot be broadcast: [2] and [3]");
    REFUSED(tl_matmul(t, F(2, 3), F(4, 5)), TL_ERR_SHAPE, "matmul: inner sizes differ: [2,3] x [4,5]");
    REFUSED(tl_matmul(t, SCALAR, F(3, 5)), TL_ERR_SHAPE,
            "matmul: operand 0 wants at least 1 dimension, not []");
    REFUSED(tl_matmul(t, F(7, 2, 3), F(5, 3, 4)), TL_ERR_SHAPE,
            "matmul: leading sizes cannot be broadcast: [7,2,3] x [5,3,4]");
    REFUSED(tl_linear_op(t, F(2, 3), F(5, 4), TL_NONE), TL_ERR_SHAPE,
            "linear: x's last size is not the weight's last: [2,3] x [5,4]");
    REFUSED(tl_linear_transposed(t, F(2, 3), F(5, 3)), TL_ERR_SHAPE,
            "linear: x's last size is not the weight's first: [2,3] x [5,3]");
    REFUSED(tl_linear_op(t, F(2, 3), F(3), TL_NONE), TL_ERR_SHAPE,
            "linear: the weight is not a matrix: [2,3] x [3]");
    REFUSED(tl_linear_op(t, F(2, 3), F(5, 3), F(3)), TL_ERR_SHAPE,
            "linear: wants a bias of [5] or [2,5], not [3]");
    REFUSED(tl_linear_op(t, F(2, 3), F(5, 3), F(1, 5)), TL_ERR_SHAPE,
            "linear: wants a bias of [5] or [2,5], not [1,5]");
    REFUSED(tl_linear_op(t, SCALAR, F(5, 3), TL_NONE), TL_ERR_SHAPE,
            "linear: operand 0 wants at least 1 dimension, not []");
    REFUSED(tl_sum_outer(t, F(4, 3), F(2, 3)), TL_ERR_SHAPE,
            "sum_outer: leading sizes differ: [4,3] x [2,3]");
    REFUSED(tl_sum_outer(t, F(4), SCALAR), TL_ERR_SHAPE,
            "sum_outer: operand 1 wants at least 1 dimension, not []");
    REFUSED(tl_reshape(t, F(2, 3), TL_SHAPE(4, 2)), TL_ERR_SHAPE,
            "reshape: [2,3] has 6 elements, [4,2] has 8");
    REFUSED(tl_expand(t, F(2, 3), TL_SHAPE(2, 4)), TL_ERR_SHAPE,
            "expand: [2,3] cannot be broadcast to [2,4]");
    REFUSED(tl_expand(t, F(2, 3), TL_SHAPE(3)), TL_ERR_SHAPE,
            "expand: [2,3] cannot be broadcast to [3]");
    REFUSED(tl_sum_to(t, F(2, 3), TL_SHAPE(2)), TL_ERR_SHAPE,
            "sum_to: [2,3] is not what broadcasting makes of [2]");
    REFUSED(tl_concat(t, 2, (tl_var[]){F(2, 3), F(3, 3)}, 1), TL_ERR_SHAPE,
            "concat: operands differ beside dimension 1: [2,3] and [3,3]");
    REFUSED(tl_concat(t, 2, (tl_var[]){F(2, 3), F(2)}, 0), TL_ERR_SHAPE,
            "concat: operands differ beside dimension 0: [2,3] and [2]");
    REFUSED(tl_stack(t, 2, (tl_var[]){F(2, 3), F(3, 2)}, 0), TL_ERR_SHAPE,
            "stack: operands differ: [2,3] and [3,2]");
    REFUSED(tl_stack(t, 1, (tl_var[]){F(1, 1, 1, 1, 1, 1, 1, 2)}, 0), TL_ERR_SHAPE,
            "stack: [1,1,1,1,1,1,1,2] has no room for another dimension");
    REFUSED((tl_chunk(t, F(2, 5), 2, 1, out), out[1]), TL_ERR_SHAPE,
            "chunk: dimension 1 is not 2 equal parts in [2,5]");
    REFUSED(tl_softmax(t, SCALAR), TL_ERR_SHAPE, "softmax: wants at least one dimension, not []");
    REFUSED(tl_log_softmax(t, SCALAR), TL_ERR_SHAPE,
            "log_softmax: wants at least one dimension, not []");
    REFUSED(tl_cross_entropy(t, F(2, 3), INT(3), TL_REDUCE_MEAN), TL_ERR_SHAPE,
            "cross_entropy: one target for each row of the logits: [2,3], targets [3]");
    REFUSED(tl_cross_entropy(t, SCALAR, INT(1), TL_REDUCE_MEAN), TL_ERR_SHAPE,
            "cross_entropy: one target for each row of the logits: [], targets [1]");
    REFUSED(tl_embedding_op(t, F(3), INT(2)), TL_ERR_SHAPE,
            "embedding: wants a table of 2 dimensions, not [3] (index [2])");
    REFUSED(tl_scatter_rows(t, F(2, 3), INT(3), 5), TL_ERR_SHAPE,
            "scatter_rows: one row for each index: [2,3], index [3]");
    /* dtypes */
    REFUSED(tl_add(t, F(2), SINGLE(2)), TL_ERR_DTYPE, "add: operands differ in dtype: f64 and f32");
    REFUSED(tl_mul(t, F(2), INT(2)), TL_ERR_DTYPE, "mul: operand 1 is i64, not a real");
    REFUSED(tl_exp(t, MASK(2)), TL_ERR_DTYPE, "exp: operand 0 is u8, not a real");
    REFUSED(tl_sum(t, INT(2)), TL_ERR_DTYPE, "sum: operand 0 is i64, not a real");
    REFUSED(tl_matmul(t, F(2, 3), SINGLE(3, 2)), TL_ERR_DTYPE,
            "matmul: operands differ in dtype: f64 and f32");
    REFUSED(tl_linear_op(t, SINGLE(2, 3), SINGLE(5, 3), F(5)), TL_ERR_DTYPE,
            "linear: operands differ in dtype: f32 and f64");
    REFUSED(tl_softmax(t, INT(2, 3)), TL_ERR_DTYPE, "softmax: operand 0 is i64, not a real");
    REFUSED(tl_concat(t, 2, (tl_var[]){F(2), INT(2)}, 0), TL_ERR_DTYPE,
            "concat: operands differ in dtype: f64 and i64");
    REFUSED(tl_stack(t, 2, (tl_var[]){SINGLE(2), F(2)}, 0), TL_ERR_DTYPE,
            "stack: operands differ in dtype: f32 and f64");
    REFUSED(tl_embedding_op(t, F(5, 3), F(2)), TL_ERR_DTYPE, "embedding: indices must be i64, not f64");
    REFUSED(tl_embedding_op(t, INT(5, 3), INT(2)), TL_ERR_DTYPE,
            "embedding: operand 0 must be f32 or f64, not i64");
    REFUSED(tl_scatter_rows(t, F(2, 3), MASK(2), 5), TL_ERR_DTYPE,
            "scatter_rows: indices must be i64, not u8");
    REFUSED(tl_cross_entropy(t, F(2, 3), F(2), TL_REDUCE_MEAN), TL_ERR_DTYPE,
            "cross_entropy: targets must be i64, not f64");
    REFUSED(tl_cross_entropy(t, INT(2, 3), INT(2), TL_REDUCE_MEAN), TL_ERR_DTYPE,
            "cross_entropy: logits must be f32 or f64, not i64");
    /* axes and indices */
    REFUSED(tl_sum_axes(t, F(2, 3), 1, (int[]){2}, false), TL_ERR_INDEX,
            "sum: there is no axis 2 in [2,3]");
    REFUSED(tl_sum_axes(t, F(2, 3), 2, (int[]){1, -1}, false), TL_ERR_ARGUMENT,
            "sum: axis 1 is given twice");
    REFUSED(tl_mean_axes(t, F(2, 3), 1, (int[]){5}, true), TL_ERR_INDEX,
            "mean: there is no axis 5 in [2,3]");
    REFUSED(tl_sum_axes(t, F(2, 3), 9, (int[9]){0}, false), TL_ERR_ARGUMENT, "sum: 9 axes");
    REFUSED(tl_transpose(t, F(2, 3), 0, 2), TL_ERR_INDEX,
            "transpose: there is no dimension 2 in [2,3]");
    REFUSED(tl_transpose(t, F(2, 3), -3, 1), TL_ERR_INDEX,
            "transpose: there is no dimension -3 in [2,3]");
    REFUSED(tl_permute(t, F(2, 3), 2, (int[]){1, 1}), TL_ERR_ARGUMENT,
            "permute: the order must name each dimension of [2,3] once");
    REFUSED(tl_permute(t, F(2, 3), 1, (int[]){0}), TL_ERR_ARGUMENT,
            "permute: the order must name each dimension of [2,3] once");
    REFUSED(tl_permute(t, F(2, 3), 2, (int[]){0, -1}), TL_ERR_ARGUMENT,
            "permute: the order must name each dimension of [2,3] once");
    REFUSED(tl_slice(t, F(2, 3), 2, 0, 1, 1), TL_ERR_INDEX, "slice: there is no dimension 2 in [2,3]");
    REFUSED(tl_slice(t, F(2, 3), 1, 0, 2, 0), TL_ERR_INDEX, "slice: 0:2:0 of dimension 1 of [2,3]");
    REFUSED(tl_slice(t, F(2, 3), 1, 0, 2, -1), TL_ERR_INDEX, "slice: 0:2:-1 of dimension 1 of [2,3]");
    REFUSED(tl_unslice(t, F(2, 3), 1, 1, 2, 5), TL_ERR_INDEX,
            "unslice: [2,3] does not fit at 1, step 2, into 5 along dimension 1");
    REFUSED(tl_unslice(t, F(2, 3), 7, 1, 2, 9), TL_ERR_INDEX,
            "unslice: there is no dimension 7 in [2,3]");
    REFUSED(tl_unslice(t, F(2, 3), 0, -1, 1, 9), TL_ERR_INDEX,
            "unslice: [2,3] does not fit at -1, step 1, into 9 along dimension 0");
    REFUSED(tl_select(t, F(2, 3), 1, 3), TL_ERR_INDEX, "select: index 3 of dimension 1 of [2,3]");
    REFUSED(tl_select(t, F(2, 3), -3, 0), TL_ERR_INDEX, "select: there is no dimension -3 in [2,3]");
    REFUSED(tl_concat(t, 1, (tl_var[]){F(2, 3)}, 2), TL_ERR_INDEX,
            "concat: there is no dimension 2 in [2,3]");
    REFUSED(tl_stack(t, 1, (tl_var[]){F(2, 3)}, 3), TL_ERR_INDEX,
            "stack: there is no dimension 3 in [2,3]");
    REFUSED((tl_chunk(t, F(2, 4), 2, 2, out), out[0]), TL_ERR_INDEX,
            "chunk: there is no dimension 2 in [2,4]");
    REFUSED(tl_embedding_op(t, F(4, 3), INDEX(3)), TL_ERR_INDEX,
            "embedding: index 4 at position 1 is not within the 4 rows");
    REFUSED(tl_embedding_op(t, F(5, 3), INDEX(2, 2)), TL_ERR_INDEX,
            "embedding: index -1 at position 3 is not within the 5 rows");
    REFUSED(tl_scatter_rows(t, F(3, 2), INDEX(3), 3), TL_ERR_INDEX,
            "scatter_rows: index 4 at position 1 is not within the 3 rows");
    REFUSED(tl_cross_entropy(t, F(3, 4), INDEX(3), TL_REDUCE_SUM), TL_ERR_INDEX,
            "cross_entropy: target 4 at row 1 is not one of the 4 classes");
    REFUSED(tl_cross_entropy(t, F(4, 5), INDEX(4), TL_REDUCE_NONE), TL_ERR_INDEX,
            "cross_entropy: target -1 at row 3 is not one of the 5 classes");
    /* arguments */
    REFUSED(tl_cross_entropy(t, F(2, 3), INT(2), (tl_reduction)3), TL_ERR_ARGUMENT,
            "cross_entropy: there is no reduction 3");
    REFUSED(tl_reshape(t, F(2, 3), TL_SHAPE(-1, 4)), TL_ERR_ARGUMENT, "reshape: not a shape");
    REFUSED(tl_reshape(t, F(2, 3), TL_SHAPE(-1, -1)), TL_ERR_ARGUMENT, "reshape: not a shape");
    REFUSED(tl_reshape(t, F(2, 3), TL_SHAPE(1, 1, 1, 1, 1, 1, 1, 2, 3)), TL_ERR_ARGUMENT,
            "reshape: 9 dimensions, at most 8");
    REFUSED(tl_expand(t, F(3), TL_SHAPE(1, 1, 1, 1, 1, 1, 1, 2, 3)), TL_ERR_ARGUMENT,
            "expand: not a shape");
    REFUSED(tl_expand(t, F(3), TL_SHAPE(-2, 3)), TL_ERR_ARGUMENT, "expand: not a shape");
    REFUSED(tl_sum_to(t, F(3), TL_SHAPE(-3)), TL_ERR_ARGUMENT, "sum_to: not a shape");
    REFUSED(tl_scatter_rows(t, F(2, 3), INT(2), -1), TL_ERR_ARGUMENT, "scatter_rows: -1 rows");
    REFUSED(tl_full(t, TL_F64, TL_SHAPE(2, -1), 0), TL_ERR_ARGUMENT, "full: not a shape");
    REFUSED(tl_constant_from(t, TL_F64, TL_SHAPE(-1), indices), TL_ERR_ARGUMENT,
            "constant_from: not a shape");
    REFUSED(tl_concat(t, 0, NULL, 0), TL_ERR_ARGUMENT, "concat: no operands");
    REFUSED(tl_stack(t, 0, NULL, 0), TL_ERR_ARGUMENT, "stack: no operands");
    REFUSED((tl_chunk(t, F(2, 4), 0, 1, out), tl_poison(t)), TL_ERR_SHAPE,
            "chunk: dimension 1 is not 0 equal parts in [2,4]");
    REFUSED(tl_add(t, F(2), TL_NONE), TL_ERR_ARGUMENT, "add: wants 2..2 operands, not 1");
    REFUSED(tl_add(t, TL_NONE, F(2)), TL_ERR_ARGUMENT, "add: a required variable is TL_NONE");
    REFUSED(tl_linear_op(t, F(2, 3), TL_NONE, F(5)), TL_ERR_ARGUMENT,
            "linear: a required variable is TL_NONE");
    tl_tape_free(t);
}

/* Whatever the op: too few operands, none, another tape's, an old one's. */
static void every_op_refuses_strangers(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL), *other = tl_tape_new(NULL);
    trial a;
    for (int n = 0; trial_at(&n, &a); n++) {
        tl_tensor *x[MOST];
        tl_var in[MOST], wrong[MOST], old;
        char message[128];
        const char *name = a.op->name;
        int count = a.sample->count;
        make_operands(&a, TL_F64, 1, x);
        old = tl_constant(t, x[0]);
        tl_tape_reset(t);
        for (int bad = 0; bad < count; bad++)
            for (int kind = 0; kind < 4; kind++) {
                for (int k = 0; k < count; k++)
                    in[k] = wrong[k] = operand(t, x[k]);
                uint32_t before = tl_tape_measure(t).variables;
                wrong[bad] = kind == 0   ? tl_constant(other, x[bad])
                             : kind == 1 ? old
                             : kind == 2 ? TL_NONE
                                         : tl_poison(t);
                if (kind == 2 && bad == count - 1)
                    continue; /* at the end it is left away */
                if (kind == 3)
                    tl_tape_fail(t, TL_ERR_CHECK, "first");
                assert_true(is_poison(t, apply(t, &a, wrong)));
                assert_int_equal(tl_tape_measure(t).variables, before); /* nothing was recorded */
                snprintf(message, sizeof message,
                         kind == 0   ? "%s: variable belongs to another tape"
                         : kind == 1 ? "%s: variable is from before the tape was reset"
                         : kind == 2 ? "%s: a required variable is TL_NONE"
                                     : "first",
                         name);
                if (a.op->dense &&
                    kind != 3) /* its operands are made contiguous before anything else */
                    assert_non_null(strstr(tl_tape_message(t), strchr(message, ':')));
                else
                    assert_string_equal(tl_tape_message(t), message);
                tl_tape_reset(t);
                tl_tape_reset(other);
            }
        assert_true(is_poison(t, tl_apply(t, a.op, 0, in, &a.sample->attr)));
        assert_int_equal(tl_tape_status(t), TL_ERR_ARGUMENT);
        assert_int_equal(strncmp(tl_tape_message(t), name, strlen(name)), 0);
        tl_tape_reset(t);
        release_all(count, x);
    }
    tl_tape_free(t);
    tl_tape_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_is_complete),
        cmocka_unit_test(derivatives_agree_with_differences),
        cmocka_unit_test(the_tied_gradient_is_the_sum_of_the_untied),
        cmocka_unit_test(derivatives_are_linear_in_dy),
        cmocka_unit_test(linear_ops_are_linear),
        cmocka_unit_test(the_order_of_recording_is_of_no_account),
        cmocka_unit_test(gradients_far_out_are_numbers),
        cmocka_unit_test(forward_mode_is_the_transpose_of_backward),
        cmocka_unit_test(values_agree_with_formulas),
        cmocka_unit_test(at_a_tie_each_gets_half),
        cmocka_unit_test(powers_of_zero),
        cmocka_unit_test(a_scalar_is_an_array_too),
        cmocka_unit_test(conveniences),
        cmocka_unit_test(steps_of_any_size),
        cmocka_unit_test(many_operands),
        cmocka_unit_test(softmax_of_large_logits),
        cmocka_unit_test(f32_agrees_with_f64),
        cmocka_unit_test(strided_tensors_are_as_good),
        cmocka_unit_test(views_on_the_tape_are_as_good),
        cmocka_unit_test(expanded_operands_are_as_good),
        cmocka_unit_test(arrays_without_elements),
        cmocka_unit_test(bad_input_is_refused_in_words),
        cmocka_unit_test(every_op_refuses_strangers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
