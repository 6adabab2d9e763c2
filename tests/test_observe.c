/* The trap for numbers that are not finite, changes noticed, the profile. */
#include "support.h"

#include "autograd/inspect.h"
#include "nn/clip.h"
#include "nn/unroll.h"
#include "nn/optim.h"

static const tl_dtype reals[] = {TL_F32, TL_F64};

static tl_tensor *vector(tl_dtype dtype, double a, double b, double c)
{
    return tensor_of(dtype, TL_SHAPE(3), REALS(a, b, c));
}

/* ---- trap: on the way forward ------------------------------------------------------------ */

static void results_are_trapped(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        tl_tape *t = tl_tape_new(NULL);
        tl_tensor *x = tensor_of(reals[k], TL_SHAPE(2, 3), REALS(1, 2, 3, 4, 5, 1e4));
        tl_tape_trap(t, true);
        tl_var v = tl_leaf(t, x, NULL);
        tl_scope_begin(t, "layer", 2);
        tl_var y = tl_exp(t, v);
        tl_scope_end(t);
        assert_null(tl_value(t, y).data); /* poisoned */
        assert_error(t, TL_ERR_NOT_FINITE, "exp: element [1,2] of its result is inf (layer 2)");

        tl_tensor_set(x, 3, -4); /* the switch survives a reset; general ops and views */
        v = tl_constant(t, x);
        tl_log(t, tl_transpose(t, v, 0, 1));
        /* x' = [1 -4; 2 5; 3 1e4] */
        const char *message = tl_tape_message(t);
        assert_true(strcmp(message, "log: element [0,1] of its result is nan") == 0 ||
                    strcmp(message, "log: element [0,1] of its result is -nan") == 0);
        tl_tape_reset(t);

        tl_matmul(t, tl_full(t, reals[k], TL_SHAPE(1, 2), reals[k] == TL_F32 ? 3e38 : 1e308),
                  tl_full(t, reals[k], TL_SHAPE(2, 2), 2));
        assert_error(t, TL_ERR_NOT_FINITE, "matmul: element [0,0] of its result is inf");

        tl_tape_trap(t, false);
        y = tl_exp(t, tl_constant(t, x));
        assert_true(isinf(item_at(t, y, 5)));
        assert_ok(t);
        tl_tensor_release(x);
        tl_tape_free(t);
    }
}

static void values_put_onto_the_tape_are_trapped(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        tl_tape *t = tl_tape_new(NULL);
        tl_tensor *bad = vector(reals[k], 1, INFINITY, 3), *good = vector(reals[k], 1, 2, 3);
        tl_tensor *ints = tensor_of(TL_I64, TL_SHAPE(3), REALS(1, 2, 3));
        tl_tape_trap(t, true);
        tl_constant(t, bad);
        assert_error(t, TL_ERR_NOT_FINITE, "constant: element [1] of its value is inf");
        tl_leaf(t, bad, NULL);
        assert_error(t, TL_ERR_NOT_FINITE, "leaf: element [1] of its value is inf");
        tl_leaf_frozen(t, bad);
        assert_error(t, TL_ERR_NOT_FINITE, "leaf: element [1] of its value is inf");
        tl_leaf_untied(t, bad);
        assert_error(t, TL_ERR_NOT_FINITE, "leaf: element [1] of its value is inf");
        tl_constant_from(t, reals[k], TL_SHAPE(3), bad->data);
        assert_error(t, TL_ERR_NOT_FINITE, "constant_from: element [1] of its value is inf");
        tl_full(t, reals[k], 0, NULL, -INFINITY);
        assert_error(t, TL_ERR_NOT_FINITE, "full: element [] of its value is -inf");

        tl_untie(t, bad); /* a use that failed is none */
        tl_leaf(t, bad, NULL);
        tl_var use = TL_NONE;
        assert_int_equal(tl_untied_uses(t, bad, 1, &use), 0);
        assert_error(t, TL_ERR_NOT_FINITE, "leaf: element [1] of its value is inf");

        tl_constant(t, ints);
        tl_leaf(t, good, NULL);
        tl_full(t, TL_U8, TL_SHAPE(2), 1);
        assert_ok(t);
        tl_tape_free(t);
        tl_tensor_release(bad);
        tl_tensor_release(good);
        tl_tensor_release(ints);
    }
}

/* ---- trap: on the way back ---------------------------------------------------------------- */

static void derivatives_are_trapped(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        tl_tape *t = tl_tape_new(NULL);
        tl_tensor *x = vector(reals[k], 4, 0, 9), *dx = zeros_like(x);
        tl_tape_trap(t, true);
        for (int how = 0; how < 3; how++) { /* backward, tl_grad, tl_grad with create_graph */
            tl_var v = tl_leaf(t, x, dx), g;
            tl_scope_begin(t, "step", 7);
            tl_var y = tl_sqrt(t, v);
            tl_scope_end(t);
            tl_var loss = tl_sum(t, tl_affine(t, y, 3, 0));
            assert_ok(t);
            if (how == 0)
                tl_backward(t, loss);
            else
                tl_grad(t, loss, TL_NONE, 1, &v, how == 2, &g);
            if (how < 2)
                assert_error(t, TL_ERR_NOT_FINITE,
                             "sqrt: element [1] of its derivative for operand 0 is inf (step 7)");
            else /* the derivative is recorded, op by op: the first of them is named */
                assert_error(t, TL_ERR_NOT_FINITE, "div: element [1] of its result is inf (step 7)");
        }
        for (int i = 0; i < 3; i++)
            assert_same(tl_tensor_get(dx, i), 0); /* nothing came that far */

        tl_tape_trap(t, false); /* off: the infinity arrives */
        assert_int_equal(tl_backward(t, tl_sum(t, tl_sqrt(t, tl_leaf(t, x, dx)))), TL_OK);
        assert_true(isinf(tl_tensor_get(dx, 1)));
        tl_tape_free(t);
        tl_tensor_release(x);
        tl_tensor_release(dx);
    }
}

/* Operand 1, seen from a broadcast and through a view. */
static void the_operand_is_named(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *a = tensor_of(TL_F64, TL_SHAPE(2, 2), REALS(1, 1, 1e50, 1)),
              *b = tensor_of(TL_F64, TL_SHAPE(2), REALS(1, 1e-160));
    tl_tape_trap(t, true);
    tl_var va = tl_leaf(t, a, NULL), vb = tl_leaf(t, b, NULL);
    tl_var y = tl_div(t, tl_transpose(t, va, 0, 1), vb); /* dy/db = -y / b, and y has 1e210 */
    assert_ok(t);
    tl_backward(t, tl_sum(t, y));
    assert_int_equal(tl_tape_status(t), TL_ERR_NOT_FINITE);
    assert_string_equal(tl_tape_message(t), "div: element [1] of its derivative for operand 1 is -inf");
    tl_tape_free(t);
    tl_tensor_release(a);
    tl_tensor_release(b);
}

/* Every term is finite, their sum is not. */
static void sums_that_overflow_are_trapped(void **state)
{
    (void)state;
    for (int own = 0; own < 2; own++) {
        tl_tape *t = tl_tape_new(NULL);
        tl_tensor *x = vector(TL_F32, 1, 2, 3), *dx = own ? zeros_like(x) : NULL;
        tl_tape_trap(t, true);
        tl_var v = tl_leaf(t, x, dx),
               w = tl_constant_from(t, TL_F32, TL_SHAPE(3), (float[]){1, 3e38f, 1});
        tl_name(t, v, own ? "weight" : NULL);
        tl_var p = tl_sum(t, tl_mul(t, v, w)), q = tl_sum(t, tl_mul(t, v, w));
        assert_int_equal(tl_tape_status(t), TL_ERR_NOT_FINITE); /* 6e38 */
        tl_tape_reset(t);
        tl_tensor_fill(x, 0.1);
        v = tl_leaf(t, x, dx);
        w = tl_constant_from(t, TL_F32, TL_SHAPE(3), (float[]){1, 3e38f, 1});
        tl_name(t, v, own ? "weight" : NULL);
        p = tl_sum(t, tl_mul(t, v, w));
        q = tl_sum(t, tl_mul(t, v, w));
        assert_int_equal(tl_backward(t, tl_add(t, p, q)), TL_ERR_NOT_FINITE);
        assert_error(t, TL_ERR_NOT_FINITE,
                     own ? "weight: element [1] of its gradient is inf"
                         : "leaf: element [1] of its gradient is inf");
        tl_tape_free(t);
        tl_tensor_release(x);
        tl_tensor_release(dx);
    }
}

static void nothing_to_trap(void **state)
{
    (void)state;
    dice d = dice_of(4);
    tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(3, 4), -1, 1),
              *w = random_tensor(&d, TL_F64, TL_SHAPE(5, 4), -1, 1), *dw[2];
    for (int on = 0; on < 2; on++) { /* the same bits, watched or not */
        tl_tape *t = tl_tape_new(NULL);
        dw[on] = zeros_like(w);
        tl_tape_trap(t, on);
        tl_tape_watch(t, on);
        tl_tape_profile(t, on);
        tl_var leaf = tl_leaf(t, w, dw[on]), y = tl_linear_op(t, tl_constant(t, x), leaf, TL_NONE);
        assert_int_equal(tl_backward(t, tl_mean(t, tl_square(t, tl_softmax(t, y)))), TL_OK);
        tl_tape_free(t);
    }
    assert_tensors(dw[1], dw[0], 0);
    tl_tensor *all[] = {x, w, dw[0], dw[1]};
    for (int k = 0; k < 4; k++)
        tl_tensor_release(all[k]);
}

/* ---- changes ------------------------------------------------------------------------------ */

/* What is recorded from leaf a and constant b, before one of them changes. */
typedef tl_var recipe(tl_tape *t, tl_var a, tl_var b);

static tl_var by_mul(tl_tape *t, tl_var a, tl_var b)
{
    return tl_mul(t, a, b);
}
static tl_var by_mul_both(tl_tape *t, tl_var a, tl_var b)
{
    return tl_mul(t, tl_mul(t, a, a), b);
}
static tl_var by_add(tl_tape *t, tl_var a, tl_var b)
{
    return tl_add(t, a, b);
}
static tl_var by_tanh(tl_tape *t, tl_var a, tl_var b) /* needs its result, not its operand */
{
    return tl_add(t, tl_tanh(t, a), b);
}
static tl_var by_sin(tl_tape *t, tl_var a, tl_var b)
{
    return tl_add(t, tl_sin(t, a), b);
}
static tl_var by_matmul(tl_tape *t, tl_var a, tl_var b)
{
    return tl_matmul(t, a, b);
}
static tl_var by_linear(tl_tape *t, tl_var a, tl_var b) /* y = b a' */
{
    return tl_linear_op(t, b, a, TL_NONE);
}
static tl_var by_linear_twice(tl_tape *t, tl_var a, tl_var b)
{
    return tl_linear_op(t, tl_linear_op(t, b, a, TL_NONE), a, TL_NONE);
}
static tl_var by_views(tl_tape *t, tl_var a, tl_var b)
{
    return tl_sin(
        t, tl_slice(t, tl_transpose(t, tl_mul(t, tl_transpose(t, a, 0, 1), b), 0, 1), 0, 0, 2, 1));
}
static tl_var by_select(tl_tape *t, tl_var a, tl_var b)
{
    return tl_mul(t, tl_select(t, b, 0, 1), tl_select(t, a, 0, 2));
}
static tl_var by_sum(tl_tape *t, tl_var a, tl_var b)
{
    return tl_concat(t, 2, (tl_var[]){tl_sum_axes(t, a, 1, (int[]){0}, true), b}, 0);
}

typedef struct change {
    const char *what;
    recipe *record;
    int changed; /* 0: a, the leaf; 1: b, the constant */
    const char *message;
} change;

#define CHANGED(op, operand, which)                                                                    \
    op ": its derivative needs operand " operand ", but the numbers of that " which                    \
       " [3,3] were changed after they were recorded; walk the tape before they change, or record a "  \
       "copy (layer 1, step 4)"

static const change changes[] = {
    {"mul, other operand", by_mul, 1, CHANGED("mul", "1", "constant")},
    {"mul, own operand", by_mul, 0, NULL},
    {"mul, both", by_mul_both, 0, CHANGED("mul", "0", "weight")},
    {"add", by_add, 0, NULL},
    {"add", by_add, 1, NULL},
    {"tanh", by_tanh, 0, NULL},
    {"sin", by_sin, 0, CHANGED("sin", "0", "weight")},
    {"sum, concat", by_sum, 0, NULL},
    {"sum, concat", by_sum, 1, NULL},
    {"matmul", by_matmul, 1, CHANGED("matmul", "1", "constant")},
    {"matmul", by_matmul, 0, NULL},
    {"linear, its input", by_linear, 1, CHANGED("linear", "0", "constant")},
    {"linear, first layer: no derivative for the input", by_linear, 0, NULL},
    {"linear, second layer", by_linear_twice, 0, CHANGED("linear", "1", "weight")},
    {"views", by_views, 1, CHANGED("mul", "1", "constant")},
    {"views", by_views, 0, NULL},
    {"select", by_select, 1, CHANGED("mul", "0", "constant")},
    {"select", by_select, 0, NULL},
};

enum { BY_SET, BY_FILL, BY_ASSIGN, BY_RANDOM, BY_VIEW, BY_TOUCH, RAW, WAYS };

/* Changes the numbers in one of the ways there are. */
static void change_numbers(tl_tensor *x, int way)
{
    tl_tensor *view, *other;
    tl_random random = tl_random_seed(1);
    switch (way) {
    case BY_SET:
        tl_tensor_set(x, 4, 0.25);
        break;
    case BY_FILL:
        tl_tensor_fill(x, 0.25);
        break;
    case BY_ASSIGN:
        other = zeros_like(x);
        tl_tensor_assign(x, other, NULL);
        tl_tensor_release(other);
        break;
    case BY_RANDOM:
        tl_random_normal(&random, x, 0, 1);
        break;
    case BY_VIEW:
        view = tl_tensor_slice(x, 0, 1, 2, 1, NULL);
        tl_tensor_set(view, 0, 0.25);
        tl_tensor_release(view);
        break;
    case BY_TOUCH:
        ((double *)x->data)[4] = 0.25;
        tl_tensor_touch(x);
        break;
    default:
        ((double *)x->data)[4] = 0.25;
    }
}

static tl_var record_change(tl_tape *t, const change *c, tl_tensor *const *x, tl_tensor *gradient)
{
    tl_var a = tl_leaf(t, x[0], gradient), b = tl_constant(t, x[1]);
    tl_name(t, a, "weight");
    tl_scope_begin(t, "layer", 1);
    tl_scope_begin(t, "step", 4);
    tl_var y = c->record(t, a, b);
    tl_scope_end(t);
    tl_scope_end(t);
    return tl_sum(t, y);
}

static void check_change(const change *c, int way, bool watch)
{
    dice d = dice_of(5);
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x[] = {random_tensor(&d, TL_F64, TL_SHAPE(3, 3), -1, 1),
                      random_tensor(&d, TL_F64, TL_SHAPE(3, 3), -1, 1)};
    tl_tensor *right = zeros_like(x[0]), *gradient = zeros_like(x[0]);
    tl_tape_watch(t, watch);
    tl_backward(t, record_change(t, c, x, right));
    tl_tape_reset(t);
    tl_var loss = record_change(t, c, x, gradient);
    change_numbers(x[c->changed], way);
    tl_status status = tl_backward(t, loss);
    if (c->message && (status != TL_ERR_CHANGED || strcmp(tl_tape_message(t), c->message) != 0))
        fail_msg("%s, way %d: %d \"%s\"\n  should be \"%s\"", c->what, way, status, tl_tape_message(t),
                 c->message);
    if (!c->message) {
        if (status != TL_OK)
            fail_msg("%s, way %d: \"%s\"", c->what, way, tl_tape_message(t));
        assert_tensors(gradient, right, 0); /* as if nothing had happened */
    }
    tl_tape_reset(t); /* and recorded anew it walks */
    assert_int_equal(tl_backward(t, record_change(t, c, x, gradient)), TL_OK);
    tl_tape_free(t);
    tl_tensor *all[] = {x[0], x[1], right, gradient};
    for (int k = 0; k < 4; k++)
        tl_tensor_release(all[k]);
}

static void changes_are_noticed(void **state)
{
    (void)state;
    for (int k = 0; k < COUNT_OF(changes); k++)
        for (int way = 0; way < WAYS; way++)
            check_change(&changes[k], way, way == RAW);
}

static void raw_writes_want_the_watch(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    for (int k = 0; k < 2; k++)
        for (int watch = 0; watch < 2; watch++) {
            tl_tensor *x = vector(reals[k], 1, 2, 3),
                      *whole = tl_tensor_zeros(reals[k], TL_SHAPE(3, 4), NULL);
            tl_tensor *column = tl_tensor_slice(whole, 1, 2, 3, 1, NULL); /* not contiguous */
            tl_tape_watch(t, watch);
            tl_var a = tl_leaf(t, x, NULL), b = tl_constant(t, column);
            tl_var y = tl_sum(t, tl_mul(t, tl_reshape(t, a, TL_SHAPE(3, 1)), b));
            ((char *)whole->data)[7 * tl_dtype_size(reals[k])]++; /* beside the column: nothing */
            assert_int_equal(tl_backward_retain(t, y), TL_OK);
            ((char *)whole->data)[6 * tl_dtype_size(reals[k])]++; /* its second element */
            assert_int_equal(tl_backward(t, y), watch ? TL_ERR_CHANGED : TL_OK);
            tl_tape_reset(t);
            tl_tensor_release(x);
            tl_tensor_release(whole);
            tl_tensor_release(column);
        }
    tl_tape_free(t);
}

/* The usual mistake: the optimiser steps between recording and walking. */
static void an_optimiser_that_steps_too_early(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        tl_params *p = tl_params_new(TL_F64, 3);
        tl_rnn rnn;
        tl_rnn_config config = {.cell = &tl_elman_cell, .input = 2, .hidden = 3, .layers = 1};
        tl_rnn_init(&rnn, p, &config);
        tl_optimizer_config rates = {.kind = kind ? TL_ADAM : TL_SGD, .rate = 0.1};
        tl_optimizer *o = tl_optimizer_new(p, &rates);
        tl_tape *t = tl_tape_new(NULL);
        tl_var x = tl_full(t, TL_F64, TL_SHAPE(4, 2, 2), 0.5);
        tl_var loss = tl_mean(t, tl_square(t, tl_unroll(t, &rnn, x, NULL)));
        assert_int_equal(tl_backward_retain(t, loss), TL_OK);
        tl_optimizer_step(o);
        assert_int_equal(tl_backward(t, loss), TL_ERR_CHANGED);
        assert_error(
            t, TL_ERR_CHANGED,
            "linear: its derivative needs operand 1, but the numbers of that "
            "rnn.weight_hh_l0 [3,3] were changed after they were recorded; walk the tape before "
            "they change, or record a copy (layer 0, step 3)");
        /* and the other one: the parameter is used again on the same tape */
        x = tl_full(t, TL_F64, TL_SHAPE(4, 2, 2), 0.5);
        tl_unroll(t, &rnn, x, NULL);
        tl_optimizer_step(o);
        tl_unroll(t, &rnn, x, NULL);
        assert_int_equal(tl_tape_status(t), TL_ERR_CHANGED); /* some parameter of layer 0 */
        assert_ptr_equal(strstr(tl_tape_message(t), "leaf: the numbers of rnn."), tl_tape_message(t));
        assert_non_null(strstr(tl_tape_message(t),
                               "were changed since it was recorded; reset the tape before it is used "
                               "again (layer 0)"));
        tl_tape_free(t);
        tl_optimizer_free(o);
        tl_rnn_free(&rnn);
        tl_params_free(p);
    }
}

static void leaves_used_again_after_a_change(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = vector(TL_F32, 1, 2, 3);
    tl_leaf(t, x, NULL);
    tl_tensor_set(x, 0, 7);
    tl_leaf(t, x, NULL);
    assert_error(t, TL_ERR_CHANGED,
                 "leaf: the numbers of a tensor [3] were changed since it was recorded; reset the tape "
                 "before it is used again");
    tl_leaf_frozen(t, x);
    tl_tensor_fill(x, 8);
    tl_leaf_frozen(t, x);
    assert_int_equal(tl_tape_status(t), TL_ERR_CHANGED);
    tl_tape_reset(t);
    tl_untie(t, x); /* untied uses may differ: each is a leaf of its own */
    tl_var a = tl_leaf(t, x, NULL);
    tl_tensor_set(x, 0, 9);
    tl_var b = tl_leaf(t, x, NULL);
    assert_int_not_equal(a.id, b.id);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(x);
}

static void forward_mode_notices_changes(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = vector(TL_F64, 1, 2, 3), *w = vector(TL_F64, 2, 3, 4);
    tl_var u = tl_full(t, TL_F64, TL_SHAPE(3), 1), a = tl_leaf(t, x, NULL), b = tl_constant(t, w);
    tl_var y = tl_mul(t, a, b), sum = tl_add(t, a, b);
    tl_tensor_fill(w, 1);
    tl_jvp(t, sum, 1, &a, &u); /* add needs them not */
    assert_ok(t);
    tl_jvp(t, y, 1, &a, &u);
    assert_error(
        t, TL_ERR_CHANGED,
        "mul: its derivative needs operand 1, but the numbers of that constant [3] were changed "
        "after they were recorded; walk the tape before they change, or record a copy");
    /* also behind an op whose tangent is made by two walks */
    u = tl_full(t, TL_F64, TL_SHAPE(3), 1);
    a = tl_leaf(t, x, NULL);
    b = tl_constant(t, w);
    y = tl_mul(t, tl_softmax(t, a), b);
    tl_tensor_fill(w, 2);
    tl_jvp(t, y, 1, &a, &u);
    assert_int_equal(tl_tape_status(t), TL_ERR_CHANGED);
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(w);
}

/* A stopped edge asks for no derivative, and so for no numbers. */
static void stopped_edges_need_nothing(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(1, 3), REALS(1, 2, 3)),
              *w = tensor_of(TL_F64, TL_SHAPE(2, 3), REALS(1, 2, 3, 4, 5, 6));
    for (int stop = 0; stop < 2; stop++) {
        tl_var a = tl_leaf(t, x, NULL), b = tl_leaf(t, w, NULL), y = tl_linear_op(t, a, b, TL_NONE);
        if (stop)
            tl_stop_edge(t, y, 0); /* dx = dy w */
        tl_tensor_touch(w);
        assert_int_equal(tl_backward(t, tl_sum(t, y)), stop ? TL_OK : TL_ERR_CHANGED);
        tl_tape_reset(t);
    }
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(w);
}

/* A gradient tensor that is a value elsewhere on the tape. */
static void gradients_are_numbers_too(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_params *p = tl_params_new(TL_F64, 1);
    tl_param *w = tl_params_add(p, "", "w", TL_SHAPE(3));
    tl_tensor *x = vector(TL_F64, 1, 2, 3);
    for (int way = 0; way < 3; way++) {
        tl_tensor_fill(w->gradient, 5);
        tl_var g = tl_constant(t, w->gradient), y = tl_sum(t, tl_mul(t, tl_leaf(t, x, NULL), g));
        if (way == 0)
            tl_zero_gradients(p);
        else if (way == 1)
            tl_clip_gradient_norm(p, 1);
        else
            tl_backward(t, tl_sum(t, tl_use(t, w)));
        assert_int_equal(tl_backward(t, y), TL_ERR_CHANGED);
        tl_tape_reset(t);
    }
    tl_tape_free(t);
    tl_params_free(p);
    tl_tensor_release(x);
}

/* A rule on numbers reads its operands without the tape's help. */
static bool like_x(tl_call *c, tl_layout *layout)
{
    return tl_layout_make(layout, c->x[0].layout->ndim, c->x[0].layout->shape) == TL_OK;
}
static void cube_forward(tl_call *c)
{
    for (int64_t i = 0; i < c->x[0].layout->count; i++) {
        double x = ((double *)c->x[0].data)[i];
        ((double *)c->y.data)[i] = x * x * x;
    }
}
static void cube_backward(const tl_call *c, tl_array dy, const tl_array *dx)
{
    for (int64_t i = 0; i < dy.layout->count; i++) {
        double x = ((double *)c->x[0].data)[i];
        ((double *)dx[0].data)[i] += 3 * x * x * ((double *)dy.data)[i];
    }
}
static const tl_op cube = {.name = "cube",
                           .kind = TL_GENERAL,
                           .least = 1,
                           .most = 1,
                           .dense = true,
                           .shape = like_x,
                           .forward = cube_forward,
                           .backward = cube_backward};

static void derivations_by_hand_notice_changes(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = vector(TL_F64, 1, 2, 3), *dx = zeros_like(x);
    tl_var a = tl_leaf(t, x, dx), y = tl_sum(t, tl_apply(t, &cube, 1, &a, NULL));
    assert_int_equal(tl_backward_retain(t, y), TL_OK);
    assert_same(tl_tensor_get(dx, 2), 27);
    tl_tensor_fill(x, 1);
    tl_backward(t, y);
    assert_error(t, TL_ERR_CHANGED,
                 "cube: its derivative needs operand 0, but the numbers of that leaf [3] were changed "
                 "after they were recorded; walk the tape before they change, or record a copy");
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(dx);
}

/* ---- profile ------------------------------------------------------------------------------ */

static const tl_profile_line *line_of(const char *op, const tl_profile_line *lines, int count)
{
    for (int k = 0; k < count; k++)
        if (strcmp(lines[k].op, op) == 0)
            return &lines[k];
    return NULL;
}

static void record_network(tl_tape *t, tl_tensor *w, tl_tensor *dw, bool walk)
{
    tl_var leaf = tl_leaf(t, w, dw), h = tl_full(t, TL_F64, TL_SHAPE(5, 4), 0.5);
    for (int step = 0; step < 3; step++)
        h = tl_tanh(t, tl_linear_op(t, h, leaf, TL_NONE));
    tl_var loss = tl_mean(t, tl_square(t, tl_transpose(t, h, 0, 1)));
    if (walk)
        assert_int_equal(tl_backward(t, loss), TL_OK);
}

static void the_profile_counts(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(6);
    tl_tensor *w = random_tensor(&d, TL_F64, TL_SHAPE(4, 4), -1, 1), *dw = zeros_like(w);
    tl_profile_line lines[16];
    record_network(t, w, dw, true);
    assert_int_equal(tl_profile_lines(t, 16, lines), 0); /* not asked for */
    tl_tape_reset(t);
    tl_tape_profile(t, true);
    record_network(t, w, dw, true);
    tl_tape_reset(t); /* the profile goes on */
    record_network(t, w, dw, false);
    int count = tl_profile_lines(t, 16, lines);
    const struct {
        const char *op;
        uint64_t calls, bytes;
    } expected[] = {{"linear", 6, 6 * 160}, {"tanh", 6, 6 * 160}, {"square", 2, 2 * 160},
                    {"permute", 2, 0},      {"sum", 2, 2 * 8},    {"affine", 2, 2 * 8}};
    for (int k = 0; k < COUNT_OF(expected); k++) {
        const tl_profile_line *line = line_of(expected[k].op, lines, count);
        if (!line)
            fail_msg("no line for %s", expected[k].op);
        assert_int_equal(line->calls, expected[k].calls);
        assert_int_equal(line->bytes, expected[k].bytes);
        assert_true(line->forward > 0 && line->backward > 0);
    }
    /* and the outer products that the steps left to be multiplied together */
    const tl_profile_line *products = line_of("sum_outer", lines, count);
    assert_true(products && products->calls == 0 && products->backward > 0);
    assert_int_equal(count, COUNT_OF(expected) + 1);
    for (int k = 1; k < count; k++)
        assert_true(lines[k - 1].forward + lines[k - 1].backward >=
                    lines[k].forward + lines[k].backward);
    tl_profile_line first[2]; /* the first of as many */
    assert_int_equal(tl_profile_lines(t, 2, first), count);
    assert_true(strcmp(first[0].op, lines[0].op) == 0 && strcmp(first[1].op, lines[1].op) == 0);
    assert_int_equal(tl_profile_lines(t, 0, NULL), count);

    tl_tape_profile(t, false); /* forgets */
    assert_int_equal(tl_profile_lines(t, 16, lines), 0);
    record_network(t, w, dw, true);
    assert_int_equal(tl_profile_lines(t, 16, lines), 0);
    tl_tape_profile(t, true);
    tl_tape_free(t);
    tl_tensor_release(w);
    tl_tensor_release(dw);
}

static void the_profile_prints(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *w = tl_tensor_zeros(TL_F64, TL_SHAPE(4, 4), NULL);
    tl_tape_profile(t, true);
    record_network(t, w, NULL, true);
    FILE *stream = tmpfile();
    assert_int_equal(tl_profile_print(t, stream), TL_OK);
    rewind(stream);
    char line[256], op[32];
    double share = 0;
    int rows = 0;
    assert_non_null(fgets(line, sizeof line, stream));
    assert_string_equal(line,
                        "op                        calls   forward ms  backward ms   share        "
                        "bytes\n");
    while (fgets(line, sizeof line, stream)) {
        double forward, backward, percent;
        unsigned long long calls, bytes;
        assert_int_equal(sscanf(line, "%31s %llu %lf %lf %lf%% %llu", op, &calls, &forward, &backward,
                                &percent, &bytes),
                         6);
        assert_true(forward >= 0 && backward >= 0 && percent >= 0);
        share += percent;
        rows++;
    }
    assert_int_equal(rows, 7);
    assert_true(fabs(share - 100) < 0.5);
    fclose(stream);
    stream = fopen("/dev/full", "w");
    if (stream) {
        setvbuf(stream, NULL, _IONBF, 0);
        assert_int_equal(tl_profile_print(t, stream), TL_ERR_IO);
        fclose(stream);
        stream = fopen("/dev/full", "w"); /* buffered: found at the end */
        assert_int_equal(tl_profile_print(t, stream), TL_ERR_IO);
        fclose(stream);
    }
    tl_tape_profile(t, false); /* an empty one */
    stream = tmpfile();
    assert_int_equal(tl_profile_print(t, stream), TL_OK);
    fclose(stream);
    tl_tape_free(t);
    tl_tensor_release(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_trapped),
        cmocka_unit_test(values_put_onto_the_tape_are_trapped),
        cmocka_unit_test(derivatives_are_trapped),
        cmocka_unit_test(the_operand_is_named),
        cmocka_unit_test(sums_that_overflow_are_trapped),
        cmocka_unit_test(nothing_to_trap),
        cmocka_unit_test(changes_are_noticed),
        cmocka_unit_test(raw_writes_want_the_watch),
        cmocka_unit_test(an_optimiser_that_steps_too_early),
        cmocka_unit_test(leaves_used_again_after_a_change),
        cmocka_unit_test(forward_mode_notices_changes),
        cmocka_unit_test(stopped_edges_need_nothing),
        cmocka_unit_test(gradients_are_numbers_too),
        cmocka_unit_test(derivations_by_hand_notice_changes),
        cmocka_unit_test(the_profile_counts),
        cmocka_unit_test(the_profile_prints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
