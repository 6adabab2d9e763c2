/* Walking back: sums over uses, sinks, shared gradients, higher orders, and products that wait. */
#include "support.h"

#include "nn/clip.h"
#include "nn/linear.h"
#include "nn/optim.h"
#include "nn/unroll.h"

/* ---- help ------------------------------------------------------------------------------- */

typedef struct world {
    tl_tape *t;
    dice d;
    tl_tensor *made[64];
    int count;
} world;

static world world_new(uint64_t seed)
{
    world w = {.t = tl_tape_new(NULL), .d = dice_of(seed)};
    assert_non_null(w.t);
    return w;
}

static void world_free(world *w)
{
    assert_ok(w->t);
    tl_tape_free(w->t);
    for (int k = 0; k < w->count; k++)
        tl_tensor_release(w->made[k]);
}

static tl_tensor *own(world *w, tl_tensor *x)
{
    assert_true(x && w->count < COUNT_OF(w->made));
    return w->made[w->count++] = x;
}

static tl_tensor *reals(world *w, int ndim, const int64_t *shape)
{
    return own(w, random_tensor(&w->d, TL_F64, ndim, shape, -1, 1));
}

static tl_tensor *zeros_for(world *w, const tl_tensor *x)
{
    return own(w, zeros_like(x));
}

static void walk_back(tl_tape *t, tl_var loss)
{
    tl_backward(t, loss);
    assert_ok(t);
}

/* d(sum of y)/dx off the record. */
static tl_var slope(tl_tape *t, tl_var y, tl_var x)
{
    tl_var grad;
    tl_grad(t, tl_sum(t, y), TL_NONE, 1, &x, false, &grad);
    assert_ok(t);
    return grad;
}

/* ---- sums over uses --------------------------------------------------------------------- */

static void one_variable_in_both_places(void **state)
{
    (void)state;
    world w = world_new(1);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(2, 3));
    tl_var v = tl_leaf(t, x, NULL);
    tl_var sum = slope(t, tl_add(t, v, v), v), product = slope(t, tl_mul(t, v, v), v);
    tl_var difference = slope(t, tl_sub(t, v, v), v), ratio = slope(t, tl_div(t, v, v), v);
    tl_var outer = slope(t, tl_matmul(t, v, tl_transpose(t, v, 0, 1)), v);
    for (int64_t i = 0; i < 6; i++) {
        assert_same(item_at(t, sum, i), 2);
        assert_near(item_at(t, product, i), 2 * tl_tensor_get(x, i), 1e-15);
        assert_same(item_at(t, difference, i), 0);
        assert_near(item_at(t, ratio, i), 0, 1e-14);
        double column = tl_tensor_get(x, i % 3) + tl_tensor_get(x, 3 + i % 3);
        assert_near(item_at(t, outer, i), 2 * column, 1e-15);
    }
    world_free(&w);
}

/* y = x + x handed on: both operands get one and the same gradient, and a later use adds to it. */
static void shared_gradients_are_not_added_to_in_place(void **state)
{
    (void)state;
    world w = world_new(2);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(5)), *y = reals(&w, TL_SHAPE(5));
    tl_var a = tl_tanh(t, tl_leaf(t, x, NULL)), b = tl_tanh(t, tl_leaf(t, y, NULL));
    tl_var early = tl_square(t, a); /* walked after z has given a and b their common gradient */
    tl_var z = tl_add(t, a, b);
    tl_keep_gradient(t, a);
    tl_keep_gradient(t, b);
    tl_keep_gradient(t, z);
    tl_keep_gradient(t, early);
    walk_back(t, tl_add(t, tl_sum(t, z), tl_sum(t, early)));
    for (int64_t i = 0; i < 5; i++) {
        double av = item_at(t, a, i);
        assert_same(item_at(t, tl_gradient(t, z), i), 1);
        assert_same(item_at(t, tl_gradient(t, b), i), 1);
        assert_same(item_at(t, tl_gradient(t, early), i), 1);
        assert_near(item_at(t, tl_gradient(t, a), i), 1 + 2 * av, 1e-15);
        double bv = item_at(t, b, i);
        assert_near(item_at(t, tl_gradient(t, tl_leaf(t, x, NULL)), i), (1 + 2 * av) * (1 - av * av),
                    1e-15);
        assert_near(item_at(t, tl_gradient(t, tl_leaf(t, y, NULL)), i), 1 - bv * bv, 1e-15);
    }
    world_free(&w);
}

/* The same where the gradient is a view: of a stack, a slice, a reshape, an expanded sum. */
static void views_of_gradients_are_not_added_to_in_place(void **state)
{
    (void)state;
    world w = world_new(3);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(2, 6)), *y = reals(&w, TL_SHAPE(2, 6));
    tl_var leaf[2] = {tl_leaf(t, x, NULL), tl_leaf(t, y, NULL)}, a = tl_tanh(t, leaf[0]),
           b = tl_tanh(t, leaf[1]);
    tl_var squares = tl_square(t, a);               /* more for a, when the views are there already */
    tl_var flat = tl_reshape(t, a, TL_SHAPE(3, 4)); /* its gradient: a view of that of `sum` */
    tl_var sum = tl_add(t, flat, tl_reshape(t, b, TL_SHAPE(3, 4)));
    tl_var pair[2] = {a, b}, piled = tl_stack(t, 2, pair, 0); /* gradients: two halves of one array */
    tl_var turned = tl_permute(t, b, 2, (int[]){1, 0}), wide = tl_expand(t, a, TL_SHAPE(3, 2, 6));
    tl_var part = tl_slice(t, a, 1, 1, 6, 2), chosen = tl_select(t, b, 0, 1);
    tl_var terms[] = {
        tl_mul(t, squares, a), tl_square(t, sum),    tl_exp(t, piled), tl_square(t, turned), wide,
        tl_exp(t, part),       tl_square(t, chosen), tl_mul(t, a, b)};
    tl_var total = tl_full(t, TL_F64, 0, NULL, 0);
    for (int k = 0; k < COUNT_OF(terms); k++)
        total = tl_add(t, total, tl_sum(t, terms[k]));
    walk_back(t, total);
    for (int64_t i = 0; i < 12; i++) {
        double av = item_at(t, a, i), bv = item_at(t, b, i);
        double da = 3 * av * av + 2 * (av + bv) + exp(av) + 3 + (i % 6 % 2 ? exp(av) : 0) + bv;
        double db = 2 * (av + bv) + exp(bv) + 2 * bv + (i >= 6 ? 2 * bv : 0) + av;
        assert_near_at(item_at(t, tl_gradient(t, leaf[0]), i), da * (1 - av * av), 1e-14, i);
        assert_near_at(item_at(t, tl_gradient(t, leaf[1]), i), db * (1 - bv * bv), 1e-14, i);
    }
    world_free(&w);
}

/* A random graph of views, sums and products of a few variables, walked off the record (in place where
 * it may) and on it (never in place). */
static tl_var random_graph(tl_tape *t, dice *d, const tl_var *leaf)
{
    enum { N = 40, START = 3 };
    tl_var v[N];
    for (int k = 0; k < START; k++)
        v[k] = leaf[k];
    for (int k = START; k < N; k++) {
        tl_var a = v[dice_below(d, k)], b = v[dice_below(d, 2) ? dice_below(d, k) : k - 1], part[2];
        switch (dice_below(d, 9)) {
        case 0:
            v[k] = tl_add(t, a, b);
            break;
        case 1:
            v[k] = tl_sub(t, a, b);
            break;
        case 2:
            v[k] = tl_tanh(t, tl_mul(t, a, b));
            break;
        case 3:
            v[k] = tl_transpose(t, a, 0, 1);
            break;
        case 4:
            v[k] = tl_reshape(t, tl_reshape(t, a, TL_SHAPE(2, 8)), TL_SHAPE(4, 4));
            break;
        case 5:
            tl_chunk(t, a, 2, (int)dice_below(d, 2), part);
            v[k] = tl_concat(t, 2, (tl_var[]){part[1], part[0]}, (int)dice_below(d, 2));
            v[k] = tl_reshape(t, v[k], TL_SHAPE(4, 4));
            break;
        case 6:
            v[k] = tl_tanh(t, tl_sum_to(t, tl_stack(t, 3, (tl_var[]){a, b, a}, 0), TL_SHAPE(4, 4)));
            break;
        case 7:
            v[k] = tl_add(t, a, tl_select(t, b, (int)dice_below(d, 2), dice_below(d, 4)));
            break;
        default:
            v[k] = tl_tanh(t, tl_linear_op(t, a, b, TL_NONE));
        }
        v[k] = tl_affine(t, v[k], 0.7, 0.1);
    }
    tl_var total = tl_sum(t, v[N - 1]);
    for (int k = START; k < N; k += 5)
        total = tl_add(t, total, tl_sum(t, v[k]));
    return total;
}

static void random_graphs_agree_on_and_off_the_record(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 120; seed++) {
        world w = world_new(seed);
        tl_tape *t = w.t;
        tl_tensor *x[3], *g[3];
        tl_var leaf[3], on[3], off[3];
        for (int k = 0; k < 3; k++) {
            x[k] = reals(&w, TL_SHAPE(4, 4));
            g[k] = zeros_for(&w, x[k]);
            leaf[k] = tl_leaf(t, x[k], g[k]);
        }
        tl_var loss = random_graph(t, &w.d, leaf);
        tl_grad(t, loss, TL_NONE, 3, leaf, false, off);
        tl_grad(t, loss, TL_NONE, 3, leaf, true, on);
        walk_back(t, loss);
        for (int k = 0; k < 3; k++) {
            assert_vars(t, off[k], on[k], 1e-13);
            assert_vars(t, tl_constant(t, g[k]), on[k], 1e-13);
        }
        world_free(&w);
    }
}

static void diamonds(void **state)
{
    (void)state;
    enum { DEPTH = 60 }; /* 2^60 paths, 120 nodes */
    world w = world_new(5);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(3));
    tl_var v = tl_leaf(t, x, NULL), y = v;
    for (int k = 0; k < DEPTH; k++)
        y = tl_add(t, tl_affine(t, y, 0.5, 0), tl_affine(t, y, 0.25, 0));
    tl_var grad = slope(t, y, v);
    for (int64_t i = 0; i < 3; i++)
        assert_near(item_at(t, grad, i) / pow(0.75, DEPTH), 1, 1e-13);
    world_free(&w);
}

static void broadcast_operands_get_sums(void **state)
{
    (void)state;
    world w = world_new(6);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(2, 3, 4)), *row = reals(&w, TL_SHAPE(4)),
              *column = reals(&w, TL_SHAPE(3, 1));
    tl_tensor *one = reals(&w, 0, NULL);
    tl_var v[] = {tl_leaf(t, x, NULL), tl_leaf(t, row, NULL), tl_leaf(t, column, NULL),
                  tl_leaf(t, one, NULL)};
    tl_var y = tl_add(t, tl_mul(t, tl_add(t, tl_mul(t, v[0], v[1]), v[2]), v[3]), v[1]);
    walk_back(t, tl_sum(t, y));
    double s = tl_tensor_get(one, 0), ds = 0;
    for (int64_t j = 0; j < 4; j++) {
        double dr = 2 * 3;
        for (int64_t i = 0; i < 6; i++) {
            double xv = tl_tensor_get(x, i * 4 + j);
            dr += xv * s;
            ds += xv * tl_tensor_get(row, j) + tl_tensor_get(column, i % 3);
            assert_near(item_at(t, tl_gradient(t, v[0]), i * 4 + j), tl_tensor_get(row, j) * s, 1e-15);
        }
        assert_near(item_at(t, tl_gradient(t, v[1]), j), dr, 1e-14);
    }
    for (int64_t i = 0; i < 3; i++)
        assert_near(item_at(t, tl_gradient(t, v[2]), i), 8 * s, 1e-14);
    assert_near(item_at(t, tl_gradient(t, v[3]), 0), ds, 1e-14);
    assert_shape(t, tl_gradient(t, v[2]), "[3,1]");
    assert_shape(t, tl_gradient(t, v[3]), "[]");
    world_free(&w);
}

/* ---- sinks ------------------------------------------------------------------------------ */

static void gradients_add_up_over_calls(void **state)
{
    (void)state;
    world w = world_new(7);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(3, 2)), *g = zeros_for(&w, x), *y = reals(&w, TL_SHAPE(3, 2));
    tl_tensor_fill(g, 10); /* what is there already stays */
    for (int round = 1; round <= 3; round++) {
        tl_var v = tl_leaf(t, x, g), u = tl_leaf(t, y, NULL), product = tl_mul(t, tl_square(t, v), u);
        tl_var loss = tl_sum(t, product);
        assert_true(tl_is_none(tl_gradient(t, v)));
        assert_int_equal(tl_backward_retain(t, loss), TL_OK);
        assert_int_equal(tl_backward_retain(t, loss), TL_OK);
        walk_back(t, loss);
        for (int64_t i = 0; i < 6; i++) {
            double xv = tl_tensor_get(x, i), yv = tl_tensor_get(y, i);
            assert_near(tl_tensor_get(g, i), 10 + 3 * round * 2 * xv * yv, 1e-14);
            assert_same(item_at(t, tl_gradient(t, v), i),
                        tl_tensor_get(g, i)); /* the very same numbers */
            assert_near(item_at(t, tl_gradient(t, u), i), 3 * xv * xv,
                        1e-15); /* the tape's own: of this recording */
        }
        tl_tape_reset(t);
    }
    world_free(&w);
}

static void a_leaf_is_one_leaf(void **state)
{
    (void)state;
    world w = world_new(8);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(4)), *g = zeros_for(&w, x);
    tl_var a = tl_leaf(t, x, g), b = tl_leaf(t, x, g), apart = tl_leaf_untied(t, x);
    assert_int_equal(a.id, b.id);
    assert_int_not_equal(a.id, apart.id);
    walk_back(t, tl_sum(t, tl_mul(t, tl_mul(t, a, b), apart)));
    for (int64_t i = 0; i < 4; i++) {
        double xv = tl_tensor_get(x, i);
        assert_near(tl_tensor_get(g, i), 2 * xv * xv, 1e-15);
        assert_near(item_at(t, tl_gradient(t, apart), i), xv * xv, 1e-15);
    }
    world_free(&w);
}

/* The loss may be a leaf itself. */
static void the_shortest_walk(void **state)
{
    (void)state;
    world w = world_new(9);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(1, 1)), *g = zeros_for(&w, x);
    tl_var with = tl_leaf(t, x, g), without = tl_leaf_untied(t, x), grad;
    assert_int_equal(tl_backward(t, with), TL_OK);
    assert_int_equal(tl_backward(t, with), TL_OK); /* there is no op that could be consumed */
    assert_int_equal(tl_backward(t, without), TL_OK);
    assert_same(tl_tensor_get(g, 0), 2);
    assert_same(tl_item(t, tl_gradient(t, without)), 1);
    assert_int_equal(tl_grad(t, with, TL_NONE, 1, &with, false, &grad), TL_OK);
    assert_same(tl_item(t, grad), 1);
    assert_same(tl_tensor_get(g, 0), 2);
    world_free(&w);
}

/* The gradient of a leaf, used in what is walked back next. */
static void a_gradient_may_be_recorded_with(void **state)
{
    (void)state;
    world w = world_new(10);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(3)), *g = zeros_for(&w, x);
    tl_var v = tl_leaf(t, x, g);
    assert_int_equal(tl_backward_retain(t, tl_sum(t, tl_square(t, v))), TL_OK);
    walk_back(t, tl_sum(t, tl_mul(t, tl_gradient(t, v), v)));
    for (int64_t i = 0; i < 3; i++)
        assert_near(tl_tensor_get(g, i), 4 * tl_tensor_get(x, i), 1e-15);
    world_free(&w);
}

/* What is recorded with a gradient keeps it, when a later walk replaces it. */
static void a_gradient_that_is_recorded_with_stays(void **state)
{
    (void)state;
    world w = world_new(35);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(3));
    tl_var v = tl_leaf(t, x, NULL), loss = tl_sum(t, tl_square(t, v)), grad;
    assert_int_equal(tl_backward_retain(t, loss), TL_OK);
    tl_var z = tl_sum(t, tl_mul(t, tl_gradient(t, v), v)); /* the gradient as a constant: 2 x */
    for (int k = 0; k < 3; k++)
        assert_int_equal(tl_backward_retain(t, loss), TL_OK);
    tl_grad(t, z, TL_NONE, 1, &v, false, &grad);
    for (int64_t i = 0; i < 3; i++) {
        assert_near(item_at(t, grad, i), 2 * tl_tensor_get(x, i), 1e-15);
        assert_near(item_at(t, tl_gradient(t, v), i), 8 * tl_tensor_get(x, i), 1e-15);
    }
    world_free(&w);
}

/* y = a + b b / 2, repeated over rows: derivatives that are sums not yet computed, handed back as they
 * are, handed back twice, and read before they are handed back. */
static bool rows_of_a(tl_call *c, tl_layout *layout)
{
    return tl_layout_make(layout, 2, (int64_t[]){c->attr->i[0], c->x[0].layout->shape[0]}) == TL_OK;
}

static void half_square_forward(tl_call *c)
{
    int64_t n = c->x[0].layout->shape[0];
    const double *a = c->x[0].data, *b = c->x[1].data;
    for (int64_t i = 0; i < c->y.layout->count; i++)
        ((double *)c->y.data)[i] = a[i % n] + b[i % n] * (c->attr->flag ? 1 : b[i % n] / 2);
}

static void half_square_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = dx[1] = tl_sum_to(c->tape, dy, 1, c->x[0].layout->shape);
    if (!c->attr->flag)
        dx[1] = tl_mul(c->tape, dx[0], c->in[1]);
}

static tl_var half_square(tl_tape *t, tl_var a, tl_var b, bool sum)
{
    static const tl_op op = {.name = "half_square",
                             .equation = "y = a + b b / 2",
                             .kind = TL_GENERAL,
                             .least = 2,
                             .most = 2,
                             .dense = true,
                             .shape = rows_of_a,
                             .forward = half_square_forward,
                             .vjp = half_square_vjp};
    return tl_apply(t, &op, 2, (tl_var[]){a, b}, &(tl_attr){.i = {3}, .n = 1, .flag = sum});
}

static void derivatives_may_be_late(void **state)
{
    (void)state;
    world w = world_new(36);
    tl_tape *t = w.t;
    tl_tensor *x[2] = {reals(&w, TL_SHAPE(4)), reals(&w, TL_SHAPE(4))}, *g = zeros_for(&w, x[0]);
    for (int sum = 0; sum < 2; sum++)
        for (int same = 0; same < 2; same++) {
            tl_var leaf[2] = {tl_leaf(t, x[0], g), tl_leaf(t, x[1], NULL)}, fast[2], slow[2];
            tl_var a = tl_tanh(t, leaf[0]), b = same ? a : tl_tanh(t, leaf[1]);
            tl_var y = tl_sum(t, tl_square(t, half_square(t, a, b, sum)));
            tl_var direct = tl_sum(t, tl_square(t, half_square(t, leaf[0], leaf[1], sum)));
            tl_var composed = tl_add(t, a, sum ? b : tl_affine(t, tl_square(t, b), 0.5, 0));
            tl_var plain =
                tl_add(t, leaf[0], sum ? leaf[1] : tl_affine(t, tl_square(t, leaf[1]), 0.5, 0));
            tl_var both = tl_add(t, tl_sum(t, tl_square(t, composed)), tl_sum(t, tl_square(t, plain)));
            tl_grad(t, tl_affine(t, both, 3, 0), TL_NONE, 2, leaf, false, slow);
            tl_grad(t, tl_add(t, y, direct), TL_NONE, 2, leaf, false, fast);
            walk_back(t, tl_add(t, y, direct));
            for (int k = 0; k < 2; k++) {
                assert_vars(t, fast[k], slow[k], 1e-14);
                assert_vars(t, tl_gradient(t, leaf[k]), slow[k], 1e-14);
            }
            tl_tensor_fill(g, 0);
            tl_tape_reset(t);
        }
    world_free(&w);
}

/* ---- tl_grad ---------------------------------------------------------------------------- */

static tl_var two_layers(tl_tape *t, tl_var x, tl_var w1, tl_var w2)
{
    return tl_tanh(t, tl_linear_op(t, tl_sigmoid(t, tl_linear_op(t, x, w1, TL_NONE)), w2, TL_NONE));
}

static void grad_agrees_with_backward_and_touches_no_leaf(void **state)
{
    (void)state;
    world w = world_new(11);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(7, 3)), *w1 = reals(&w, TL_SHAPE(5, 3)),
              *w2 = reals(&w, TL_SHAPE(2, 5));
    tl_tensor *value[] = {x, w1, w2}, *g[] = {zeros_for(&w, x), zeros_for(&w, w1), zeros_for(&w, w2)};
    tl_var v[3], grads[3];
    for (int k = 0; k < 3; k++)
        v[k] = tl_leaf(t, value[k], g[k]);
    tl_var loss = tl_mean(t, tl_square(t, two_layers(t, v[0], v[1], v[2])));
    assert_int_equal(tl_grad(t, loss, TL_NONE, 3, v, false, grads), TL_OK);
    for (int k = 0; k < 3; k++) {
        assert_true(tl_is_none(tl_gradient(t, v[k])));
        for (int64_t i = 0; i < g[k]->layout.count; i++)
            assert_same(tl_tensor_get(g[k], i), 0);
    }
    walk_back(t, loss);
    for (int k = 0; k < 3; k++)
        assert_vars(t, grads[k], tl_constant(t, g[k]), 1e-15);
    world_free(&w);
}

static void grad_of_any_variable(void **state)
{
    (void)state;
    world w = world_new(12);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(2, 3)), *other = reals(&w, TL_SHAPE(4)),
              *seed = reals(&w, TL_SHAPE(2, 3));
    tl_var v = tl_leaf(t, x, NULL), a = tl_tanh(t, v), b = tl_square(t, a), y = tl_mul(t, b, a);
    tl_var ask[] = {y, b, a, v, a, tl_leaf(t, other, NULL)}, grads[6];
    assert_int_equal(tl_grad(t, y, tl_constant(t, seed), 6, ask, false, grads), TL_OK);
    for (int64_t i = 0; i < 6; i++) {
        double av = item_at(t, a, i), s = tl_tensor_get(seed, i);
        assert_same(item_at(t, grads[0], i), s);
        assert_near(item_at(t, grads[1], i), s * av, 1e-15);
        assert_near(item_at(t, grads[2], i), 3 * s * av * av, 1e-15);
        assert_near(item_at(t, grads[3], i), 3 * s * av * av * (1 - av * av), 1e-15);
        assert_same(item_at(t, grads[4], i), item_at(t, grads[2], i)); /* asked for twice */
    }
    assert_value(t, grads[5], REALS(0, 0, 0, 0), 0);
    assert_true(tl_is_none(tl_gradient(t, a)));
    assert_int_equal(tl_grad(t, y, tl_constant(t, seed), 1, &v, false, grads),
                     TL_OK); /* again: nothing is consumed */
    walk_back(t, tl_sum(t, y));
    world_free(&w);
}

static void kept_gradients_are_those_of_backward(void **state)
{
    (void)state;
    world w = world_new(13);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(3)), *g = zeros_for(&w, x);
    tl_var v = tl_leaf(t, x, g), h = tl_square(t, v), loss = tl_sum(t, tl_square(t, h)), grad;
    tl_keep_gradient(t, h);
    tl_keep_gradient(t, v);
    tl_grad(t, loss, TL_NONE, 1, &v, false, &grad);
    tl_grad(t, loss, TL_NONE, 1, &h, false, &grad);
    tl_grad(t, loss, TL_NONE, 1, &h, true, &grad);
    assert_true(tl_is_none(tl_gradient(t, h)));
    assert_true(tl_is_none(tl_gradient(t, v)));
    assert_int_equal(tl_backward_retain(t, loss), TL_OK);
    assert_vars(t, tl_gradient(t, h), grad, 1e-15);
    tl_grad(t, loss, TL_NONE, 1, &h, false, &grad);
    assert_vars(t, tl_gradient(t, h), grad, 1e-15); /* still there, and not more */
    walk_back(t, loss);
    for (int64_t i = 0; i < 3; i++) {
        double xv = tl_tensor_get(x, i);
        assert_near(item_at(t, tl_gradient(t, h), i), 2 * 2 * xv * xv, 1e-15); /* two walks */
        assert_near(tl_tensor_get(g, i), 2 * 4 * xv * xv * xv, 1e-15);
        assert_same(item_at(t, tl_gradient(t, v), i), tl_tensor_get(g, i));
    }
    world_free(&w);
}

/* output_grad is the caller's: it stays as it is, wherever it comes from. */
static void the_callers_output_grad_is_left_alone(void **state)
{
    (void)state;
    world w = world_new(14);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(3)), *g = zeros_for(&w, x), *s = reals(&w, TL_SHAPE(3));
    tl_var v = tl_leaf(t, x, g), a = tl_square(t, v), u = tl_tanh(t, a),
           y = tl_add(t, a, tl_square(t, u));
    assert_int_equal(tl_backward_retain(t, tl_sum(t, a)), TL_OK);
    tl_no_record_begin(t);
    tl_var loose = tl_neg(t, tl_constant(t, s));
    tl_no_record_end(t, 1, &loose);
    tl_var first, seeds[] = {loose, tl_gradient(t, v), tl_constant(t, s), TL_NONE};
    tl_grad(t, y, loose, 1, &v, false, &first);
    seeds[3] = first;
    for (int k = 0; k < COUNT_OF(seeds); k++) {
        tl_tensor *before = value_of(t, seeds[k]);
        tl_var grad;
        for (int twice = 0; twice < 2; twice++)
            tl_grad(t, y, seeds[k], 1, &v, false, &grad);
        assert_ok(t);
        tl_tensor *after = value_of(t, seeds[k]);
        assert_tensors(after, before, 0);
        for (int64_t i = 0; i < 3; i++) {
            double xv = tl_tensor_get(x, i), th = tanh(xv * xv);
            double expected = tl_tensor_get(before, i) * (1 + 2 * th * (1 - th * th)) * 2 * xv;
            assert_near_at(item_at(t, grad, i), expected, 1e-14, k);
        }
        tl_tensor_release(before);
        tl_tensor_release(after);
    }
    for (int64_t i = 0; i < 3; i++)
        assert_near(tl_tensor_get(g, i), 2 * tl_tensor_get(x, i), 1e-15);
    world_free(&w);
}

/* ---- higher orders ---------------------------------------------------------------------- */

/* The n-th derivative of sum f(x) by tl_grad on top of tl_grad. */
static tl_var derivative(tl_tape *t, tl_var (*f)(tl_tape *, tl_var), tl_var x, int order)
{
    tl_var y = f(t, x);
    for (int k = 0; k < order; k++) {
        tl_var grad;
        assert_int_equal(tl_grad(t, tl_sum(t, y), TL_NONE, 1, &x, true, &grad), TL_OK);
        y = grad;
    }
    return y;
}

static tl_var fifth_power(tl_tape *t, tl_var x)
{
    return tl_mul(t, x, tl_square(t, tl_square(t, x)));
}

static tl_var exp_twice(tl_tape *t, tl_var x)
{
    return tl_exp(t, tl_affine(t, x, 2, 1));
}

static tl_var reciprocal(tl_tape *t, tl_var x) /* 1 / (1 + x) */
{
    return tl_div(t, tl_full(t, TL_F64, 0, NULL, 1), tl_affine(t, x, 1, 1));
}

static void derivatives_of_every_order(void **state)
{
    (void)state;
    world w = world_new(15);
    tl_tape *t = w.t;
    tl_tensor *x = own(&w, random_tensor(&w.d, TL_F64, TL_SHAPE(4), 0.2, 0.9));
    tl_var v = tl_leaf(t, x, NULL);
    const double falling[] = {1, 5, 20, 60, 120, 120, 0};
    double factorial = 1;
    for (int n = 0; n <= 6; n++) {
        tl_var power = derivative(t, fifth_power, v, n), growth = derivative(t, exp_twice, v, n);
        tl_var ratio = derivative(t, reciprocal, v, n), logarithm = derivative(t, tl_log, v, n);
        factorial *= n > 0 ? n : 1;
        for (int64_t i = 0; i < 4; i++) {
            double a = tl_tensor_get(x, i), sign = n % 2 ? -1 : 1;
            assert_near_at(item_at(t, power, i), n <= 5 ? falling[n] * pow(a, 5 - n) : 0, 1e-12, n);
            assert_near_at(item_at(t, growth, i), pow(2, n) * exp(2 * a + 1), 1e-12, n);
            assert_near_at(item_at(t, ratio, i), sign * factorial / pow(1 + a, n + 1), 1e-11, n);
            if (n > 0)
                assert_near_at(item_at(t, logarithm, i), -sign * factorial / n / pow(a, n), 1e-11, n);
        }
    }
    for (int64_t i = 0; i < 4; i++) {
        double y = tanh(tl_tensor_get(x, i)), d = 1 - y * y, s = 1 / (1 + exp(-tl_tensor_get(x, i)));
        assert_near(item_at(t, derivative(t, tl_tanh, v, 1), i), d, 1e-14);
        assert_near(item_at(t, derivative(t, tl_tanh, v, 2), i), -2 * y * d, 1e-14);
        assert_near(item_at(t, derivative(t, tl_tanh, v, 3), i), (6 * y * y - 2) * d, 1e-13);
        assert_near(item_at(t, derivative(t, tl_tanh, v, 4), i), (16 * y - 24 * y * y * y) * d, 1e-13);
        assert_near(item_at(t, derivative(t, tl_sigmoid, v, 3), i),
                    s * (1 - s) * (1 - 6 * s + 6 * s * s), 1e-14);
        assert_same(item_at(t, derivative(t, tl_relu, v, 1), i), 1);
        assert_same(item_at(t, derivative(t, tl_relu, v, 2), i), 0);
    }
    world_free(&w);
}

/* d/dx |dL/dx|^2, by hand: a gradient penalty, walked back into sinks. */
static void a_gradient_in_the_loss(void **state)
{
    (void)state;
    world w = world_new(16);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(3)), *g = zeros_for(&w, x);
    tl_var v = tl_leaf(t, x, g), grad;
    tl_grad(t, tl_sum(t, tl_mul(t, tl_square(t, v), v)), TL_NONE, 1, &v, true, &grad); /* 3 x^2 */
    walk_back(t, tl_sum(t, tl_square(t, grad)));                                       /* 9 x^4 */
    for (int64_t i = 0; i < 3; i++)
        assert_near(tl_tensor_get(g, i), 36 * pow(tl_tensor_get(x, i), 3), 1e-14);
    world_free(&w);
}

static void recorded_gradients_equal_unrecorded_ones(void **state)
{
    (void)state;
    world w = world_new(17);
    tl_tape *t = w.t;
    tl_params *params = tl_params_new(TL_F64, 4);
    tl_rnn rnn;
    tl_rnn_init(&rnn, params,
                &(tl_rnn_config){.cell = &tl_lstm_cell, .input = 3, .hidden = 5, .layers = 2});
    tl_tensor *x = reals(&w, TL_SHAPE(7, 4, 3));
    tl_var v[16], on[16], off[16];
    tl_var loss = tl_mean(t, tl_square(t, tl_unroll(t, &rnn, tl_constant(t, x), NULL)));
    for (int k = 0; k < params->count; k++)
        v[k] = tl_use(t, params->entry[k]);
    tl_grad(t, loss, TL_NONE, params->count, v, true, on);
    tl_grad(t, loss, TL_NONE, params->count, v, false, off);
    walk_back(t, loss);
    for (int k = 0; k < params->count; k++) {
        assert_vars(t, off[k], on[k], 1e-15);
        assert_vars(t, tl_constant(t, params->entry[k]->gradient), on[k], 1e-15);
    }
    world_free(&w);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

/* ---- cuts ------------------------------------------------------------------------------- */

static void nothing_passes_a_detached_variable(void **state)
{
    (void)state;
    world w = world_new(18);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(2, 2)), *g = zeros_for(&w, x);
    tl_var v = tl_leaf(t, x, g), a = tl_exp(t, v), cut = tl_detach(t, a);
    assert_ptr_equal(tl_value(t, cut).data, tl_value(t, a).data);
    assert_false(tl_needs_gradient(t, cut));
    assert_true(tl_needs_gradient(t, a));
    walk_back(t, tl_sum(t, tl_mul(t, a, cut)));
    for (int64_t i = 0; i < 4; i++)
        assert_near(tl_tensor_get(g, i), exp(2 * tl_tensor_get(x, i)), 1e-15); /* once, not twice */
    world_free(&w);
}

static void no_record_regions(void **state)
{
    (void)state;
    world w = world_new(19);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(3)), *g = zeros_for(&w, x);
    tl_var v = tl_leaf(t, x, g), before = tl_square(t, v);
    uint32_t recorded = tl_tape_measure(t).variables;
    tl_no_record_begin(t);
    tl_var a = tl_exp(t, before), b = tl_mul(t, a, v), inner;
    assert_false(tl_needs_gradient(t, b));
    tl_no_record_begin(t);
    inner = tl_reshape(t, tl_neg(t, b), TL_SHAPE(3, 1)); /* a view of what is about to be freed */
    tl_var lost = tl_tanh(t, inner);
    tl_no_record_end(t, 1, &inner);
    tl_var twice = tl_add(t, inner, inner);
    tl_no_record_end(t, 2, (tl_var[]){twice, inner});
    assert_int_equal(tl_tape_measure(t).variables, recorded);
    for (int64_t i = 0; i < 3; i++) {
        double xv = tl_tensor_get(x, i), expected = -exp(xv * xv) * xv;
        assert_near(item_at(t, inner, i), expected, 1e-15);
        assert_near(item_at(t, twice, i), 2 * expected, 1e-15);
    }
    /* recorded work on top of what the region left: a constant of it */
    tl_var loss = tl_sum(t, tl_mul(t, before, tl_reshape(t, twice, TL_SHAPE(3))));
    for (int k = 0; k < 50; k++) { /* the numbers are kept although the region is long over */
        tl_no_record_begin(t);
        tl_exp(t, tl_affine(t, v, 1, k));
        tl_no_record_end(t, 0, NULL);
    }
    walk_back(t, loss);
    for (int64_t i = 0; i < 3; i++) {
        double xv = tl_tensor_get(x, i);
        assert_near(tl_tensor_get(g, i), 2 * xv * -2 * exp(xv * xv) * xv, 1e-14);
    }
    tl_no_record_begin(t);
    for (int k = 0; k < 20; k++)
        tl_neg(t, v);
    assert_null(tl_value(t, lost).data); /* others live where it lived */
    assert_error(t, TL_ERR_STALE, "value: variable of a no-record region that has ended");
    tl_no_record_end(t, 0, NULL); /* without a beginning: nothing */
    world_free(&w);
}

static void walks_inside_a_region(void **state)
{
    (void)state;
    world w = world_new(20);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(3)), *g = zeros_for(&w, x);
    tl_var v = tl_leaf(t, x, g), y = tl_tanh(t, v), loss = tl_sum(t, tl_square(t, y)), off, on;
    tl_no_record_begin(t);
    tl_grad(t, loss, TL_NONE, 1, &v, false, &off);
    tl_grad(t, loss, TL_NONE, 1, &v, true,
            &on); /* nothing can be recorded: the values are right all the same */
    assert_ok(t);
    walk_back(t, loss);
    assert_vars(t, off, tl_constant(t, g), 1e-15);
    assert_vars(t, on, tl_constant(t, g), 1e-15);
    tl_var kept = tl_neg(t, off);
    tl_no_record_end(t, 1, &kept);
    for (int64_t i = 0; i < 3; i++)
        assert_near(item_at(t, kept, i), -tl_tensor_get(g, i), 1e-15);
    world_free(&w);
}

static void untied_leaves_add_up_to_the_tied_one(void **state)
{
    (void)state;
    enum { T = 6 };
    world w = world_new(21);
    tl_tape *t = w.t;
    tl_tensor *weight = reals(&w, TL_SHAPE(4, 4)), *h0 = reals(&w, TL_SHAPE(3, 4));
    tl_var tied = tl_leaf(t, weight, NULL), untied[T], h = tl_constant(t, h0), u = h;
    for (int step = 0; step < T; step++) {
        untied[step] = tl_leaf_untied(t, weight);
        h = tl_tanh(t, tl_linear_op(t, h, tied, TL_NONE));
        u = tl_tanh(t, tl_linear_op(t, u, untied[step], TL_NONE));
    }
    assert_vars(t, u, h, 0);
    walk_back(t, tl_sum(t, tl_square(t, h)));
    walk_back(t, tl_sum(t, tl_square(t, u)));
    tl_var sum = tl_gradient(t, untied[0]);
    for (int step = 1; step < T; step++)
        sum = tl_add(t, sum, tl_gradient(t, untied[step]));
    assert_vars(t, tl_gradient(t, tied), sum, 1e-15);
    world_free(&w);
}

/* ---- products that wait
 * ---------------------------------------------------------------------------------
 *
 * dW of linear is collected over the steps. The slow twin: the same graph with matmul, which collects
 * nothing. */

typedef tl_var product(tl_tape *t, tl_var x, tl_var weight);

static tl_var collected(tl_tape *t, tl_var x, tl_var weight)
{
    return tl_linear_op(t, x, weight, TL_NONE);
}

static tl_var at_once(tl_tape *t, tl_var x, tl_var weight)
{
    return tl_matmul(t, x, tl_transpose(t, weight, 0, 1));
}

typedef struct steps {
    int steps, batch, inputs, hidden;
} steps;

enum { WEIGHTS = 3 };

/* h = tanh(U h + V x) with V a weight that is not a leaf, and W used by linear at every second step and
 * elsewhere too. */
static tl_var three_weights(tl_tape *t, steps s, tl_var x, tl_var h, const tl_var *leaf, product *times)
{
    tl_var v = tl_mul(t, leaf[1], tl_tanh(t, leaf[1])), loss = tl_sum(t, tl_square(t, leaf[2]));
    for (int step = 0; step < s.steps; step++) {
        tl_var now = tl_select(t, x, 0, step);
        h = tl_tanh(t, tl_add(t, times(t, h, leaf[0]), times(t, now, v)));
        if (step % 2)
            loss = tl_add(t, loss, tl_sum(t, tl_square(t, times(t, h, leaf[2]))));
        if (step % 5 == 4)
            h = tl_add(
                t, h,
                tl_mul(t, tl_select(t, leaf[0], 0, step % s.hidden), tl_full(t, TL_F64, 0, NULL, 0.1)));
    }
    return tl_add(t, loss, tl_sum(t, h));
}

static void collected_products_equal_products_at_once(void **state)
{
    (void)state;
    static const steps sizes[] = {{1, 1, 1, 1},   {3, 2, 3, 5},   {5, 127, 7, 9},   {7, 131, 33, 17},
                                  {50, 8, 5, 6},  {131, 3, 2, 9}, {2, 200, 17, 33}, {3, 384, 3, 5},
                                  {2, 385, 3, 5}, {400, 1, 3, 2}, {3, 500, 40, 11}};
    for (int c = 0; c < COUNT_OF(sizes); c++) {
        steps s = sizes[c];
        world w = world_new((uint64_t)c);
        tl_tape *t = w.t;
        tl_tensor *value[WEIGHTS], *g[WEIGHTS];
        tl_tensor *x = reals(&w, TL_SHAPE(s.steps, s.batch, s.inputs)),
                  *h = reals(&w, TL_SHAPE(s.batch, s.hidden));
        const int64_t shapes[WEIGHTS][2] = {
            {s.hidden, s.hidden}, {s.hidden, s.inputs}, {s.inputs + 1, s.hidden}};
        tl_var leaf[WEIGHTS], slow[WEIGHTS], fast[WEIGHTS], sinks[WEIGHTS];
        for (int k = 0; k < WEIGHTS; k++) {
            value[k] = reals(&w, 2, shapes[k]);
            g[k] = zeros_for(&w, value[k]);
            tl_tensor_fill(g[k], 2);
            leaf[k] = tl_leaf_untied(t, value[k]);
            sinks[k] = tl_leaf(t, value[k], g[k]);
        }
        tl_var xs = tl_constant(t, x), h0 = tl_leaf(t, h, NULL), start[2];
        tl_var loss = three_weights(t, s, xs, h0, leaf, at_once);
        tl_grad(t, loss, TL_NONE, WEIGHTS, leaf, false, slow);
        tl_grad(t, loss, TL_NONE, 1, &h0, false, &start[0]);
        assert_ok(t);
        tl_var loss_again = three_weights(t, s, xs, h0, leaf, collected);
        assert_near(tl_item(t, loss_again), tl_item(t, loss), 1e-12);
        tl_grad(t, loss_again, TL_NONE, WEIGHTS, leaf, false, fast);
        tl_grad(t, loss_again, TL_NONE, 1, &h0, false, &start[1]);
        assert_ok(t);
        assert_vars(t, start[1], start[0], 1e-12);
        walk_back(t, three_weights(t, s, xs, h0, sinks, collected));
        for (int k = 0; k < WEIGHTS; k++) {
            assert_vars(t, fast[k], slow[k], 1e-12);
            assert_vars(t, tl_affine(t, tl_constant(t, g[k]), 1, -2), slow[k], 1e-12);
        }
        world_free(&w);
    }
}

/* One weight read both ways, by columns and by rows, and by an outer product beside it. */
static void a_weight_used_both_ways(void **state)
{
    (void)state;
    world w = world_new(31);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(6, 4)), *weight = reals(&w, TL_SHAPE(5, 4)),
              *b = reals(&w, TL_SHAPE(5));
    tl_var v = tl_leaf(t, weight, NULL), xv = tl_leaf(t, x, NULL), bias = tl_leaf(t, b, NULL), fast[3],
           slow[3];
    tl_var ask[3] = {v, xv, bias};
    tl_var y = tl_tanh(t, tl_linear_op(t, xv, v, bias)), back = tl_linear_transposed(t, y, v);
    tl_var outer = tl_sum_outer(t, y, back);
    tl_grad(t, tl_sum(t, tl_mul(t, outer, v)), TL_NONE, 3, ask, false, fast);
    y = tl_tanh(t, tl_add(t, tl_matmul(t, xv, tl_transpose(t, v, 0, 1)), bias));
    back = tl_matmul(t, y, v);
    outer = tl_matmul(t, tl_transpose(t, y, 0, 1), back);
    tl_grad(t, tl_sum(t, tl_mul(t, outer, v)), TL_NONE, 3, ask, false, slow);
    for (int k = 0; k < 3; k++)
        assert_vars(t, fast[k], slow[k], 1e-13);
    world_free(&w);
}

/* Weights, biases and inputs that are not contiguous, in no-record regions and outside. */
static void linear_reads_any_layout(void **state)
{
    (void)state;
    world w = world_new(32);
    tl_tape *t = w.t;
    tl_tensor *whole = reals(&w, TL_SHAPE(8, 10)), *inputs = reals(&w, TL_SHAPE(6, 9, 4));
    tl_var a = tl_leaf(t, whole, NULL), x = tl_leaf(t, inputs, NULL);
    tl_var weight = tl_transpose(t, tl_slice(t, a, 1, 1, 10, 2), 0, 1);    /* [5,8], strides 2, 10 */
    tl_var rows = tl_transpose(t, tl_slice(t, x, 1, 0, 8, 1), 1, 2);       /* [6,4,8], strides 36,1,4 */
    tl_var skipping = tl_slice(t, tl_slice(t, a, 0, 0, 8, 3), 1, 0, 8, 1); /* [3,8] */
    tl_var odd = tl_slice(t, tl_select(t, a, 1, 0), 0, 0, 8, 2);         /* [4], stride 20: a vector */
    tl_var narrow = tl_slice(t, tl_transpose(t, a, 0, 1), 1, 0, 8, 2);   /* [10,4], strides 1, 20 */
    tl_var inner = tl_slice(t, tl_slice(t, a, 1, 0, 10, 3), 0, 0, 8, 2); /* [4,4], strides 20, 3 */
    tl_var bias = tl_slice(t, tl_select(t, a, 0, 2), 0, 0, 10, 2);       /* [5], stride 2 */
    const struct {
        tl_var x, weight;
    } cases[] = {{rows, weight},  {skipping, weight}, {odd, narrow},
                 {inner, narrow}, {inner, inner},     {odd, inner}};
    for (int c = 0; c < COUNT_OF(cases); c++) {
        tl_var ask[2] = {a, x}, fast[2], slow[2], loose;
        bool biased = c < 2;
        tl_var y = tl_linear_op(t, cases[c].x, cases[c].weight, biased ? bias : TL_NONE);
        tl_no_record_begin(t);
        tl_var copied = tl_contiguous(t, tl_affine(t, cases[c].weight, 1, 0)); /* loose: not packed */
        loose = tl_linear_op(t, cases[c].x, copied, biased ? bias : TL_NONE);
        tl_no_record_end(t, 1, &loose);
        tl_var vector = tl_value(t, cases[c].x).layout->ndim == 1
                            ? tl_reshape(t, cases[c].x, TL_SHAPE(1, -1))
                            : cases[c].x;
        tl_var slow_y = tl_matmul(t, vector, tl_transpose(t, cases[c].weight, 0, 1));
        slow_y = biased ? tl_add(t, slow_y, bias) : slow_y;
        tl_array shape = tl_value(t, y);
        slow_y = tl_reshape(t, slow_y, shape.layout->ndim, shape.layout->shape);
        assert_vars(t, y, slow_y, 1e-14);
        assert_vars(t, loose, slow_y, 1e-14);
        tl_grad(t, tl_sum(t, tl_square(t, y)), TL_NONE, 2, ask, false, fast);
        tl_grad(t, tl_sum(t, tl_square(t, slow_y)), TL_NONE, 2, ask, false, slow);
        assert_vars(t, fast[0], slow[0], 1e-13);
        assert_vars(t, fast[1], slow[1], 1e-13);
    }
    world_free(&w);
}

/* Two leaves whose gradients are views of one storage, of different shape. */
static void gradients_may_share_a_storage(void **state)
{
    (void)state;
    world w = world_new(33);
    tl_tape *t = w.t;
    tl_tensor *value = reals(&w, TL_SHAPE(6, 4)), *g = zeros_for(&w, value),
              *x = reals(&w, TL_SHAPE(5, 4));
    tl_tensor *y = reals(&w, TL_SHAPE(5, 6)),
              *turned = own(&w, tl_tensor_reshape(value, TL_SHAPE(4, 6), NULL));
    tl_tensor *turned_g = own(&w, tl_tensor_reshape(g, TL_SHAPE(4, 6), NULL));
    tl_var a = tl_leaf(t, value, g), b = tl_leaf(t, turned, turned_g),
           loss = tl_full(t, TL_F64, 0, NULL, 0);
    for (int step = 0; step < 3; step++) { /* alternating */
        loss = tl_add(t, loss, tl_sum(t, tl_linear_op(t, tl_constant(t, x), a, TL_NONE)));
        loss = tl_add(t, loss, tl_sum(t, tl_linear_op(t, tl_constant(t, y), b, TL_NONE)));
    }
    walk_back(t, loss);
    for (int64_t i = 0; i < 24; i++) {
        double expected = 0;
        for (int64_t r = 0; r < 5; r++)
            expected += 3 * (tl_tensor_get(x, r * 4 + i % 4) + tl_tensor_get(y, r * 6 + i % 6));
        assert_near_at(tl_tensor_get(g, i), expected, 1e-14, i);
    }
    world_free(&w);
}

/* ---- repetition, scopes, determinism ---------------------------------------------------- */

static void many_scopes(void **state)
{
    (void)state;
    world w = world_new(34);
    tl_tape *t = w.t;
    tl_tensor *x = reals(&w, TL_SHAPE(2)), *g = zeros_for(&w, x);
    tl_var v = tl_leaf(t, x, g), y = v;
    for (int a = 0; a < 30; a++) {
        tl_scope_begin(t, "outer", a);
        for (int b = 0; b < 30; b++) {
            tl_scope_begin(t, "inner", b);
            y = tl_affine(t, y, 0.999, 0);
            tl_scope_end(t);
        }
        tl_scope_end(t);
    }
    walk_back(t, tl_sum(t, y));
    assert_near(tl_tensor_get(g, 1), pow(0.999, 900), 1e-12);
    tl_matmul(t, tl_sum(t, y), y); /* after the walk: outside of any scope */
    assert_error(t, TL_ERR_SHAPE, "matmul: operand 0 wants at least 1 dimension, not []");
    world_free(&w);
}

/* Two steps of training; the parameters as bytes. */
static void train(int threads, tl_dtype dtype, const tl_cell_type *cell, char *bytes, size_t size)
{
    tl_tape *t = tl_tape_new(&(tl_tape_config){.threads = threads, .seed = 3});
    assert_non_null(t);
    tl_params *params = tl_params_new(dtype, 11);
    tl_rnn rnn;
    tl_linear_layer head;
    tl_rnn_init(&rnn, params, &(tl_rnn_config){.cell = cell, .input = 37, .hidden = 70, .layers = 2});
    tl_linear_init(&head, params, "head.", 70, 29, true);
    assert_int_equal(tl_params_status(params), TL_OK);
    tl_optimizer *optimizer =
        tl_optimizer_new(params, &(tl_optimizer_config){.kind = TL_ADAM, .rate = 0.01});
    dice d = dice_of(8);
    for (int round = 0; round < 2; round++) {
        tl_tensor *x = random_tensor(&d, dtype, TL_SHAPE(9, 48, 37), -1, 1);
        tl_tensor *target = tl_tensor_empty(TL_I64, TL_SHAPE(9, 48), NULL);
        for (int64_t i = 0; i < target->layout.count; i++)
            ((int64_t *)target->data)[i] = dice_below(&d, 29);
        tl_zero_gradients(params);
        tl_var y = tl_linear(t, tl_unroll(t, &rnn, tl_constant(t, x), NULL), &head);
        walk_back(t, tl_cross_entropy(t, y, tl_constant(t, target), TL_REDUCE_MEAN));
        tl_clip_gradient_norm(params, 0.5);
        tl_optimizer_step(optimizer);
        tl_tape_reset(t);
        tl_tensor_release(x);
        tl_tensor_release(target);
    }
    size_t used = 0;
    for (int k = 0; k < params->count; k++) {
        size_t own_bytes = (size_t)params->entry[k]->value->layout.count * tl_dtype_size(dtype);
        assert_true(used + own_bytes <= size);
        memcpy(bytes + used, params->entry[k]->value->data, own_bytes);
        used += own_bytes;
    }
    tl_optimizer_free(optimizer);
    tl_rnn_free(&rnn);
    tl_params_free(params);
    tl_tape_free(t);
}

static void the_same_bits_with_any_number_of_threads(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    static const tl_cell_type *const cells[] = {&tl_elman_cell, &tl_lstm_cell, &tl_gru_cell};
    char *one = calloc(2, SIZE), *other = one + SIZE;
    assert_non_null(one);
    for (int dtype = TL_F32; dtype <= TL_F64; dtype++)
        for (int k = 0; k < COUNT_OF(cells); k++) {
            memset(one, 0, SIZE);
            train(1, (tl_dtype)dtype, cells[k], one, SIZE);
            for (int threads = 1; threads <= 3; threads++) { /* 1: run after run, too */
                memset(other, 0, SIZE);
                train(threads, (tl_dtype)dtype, cells[k], other, SIZE);
                assert_memory_equal(one, other, SIZE);
            }
        }
    free(one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_variable_in_both_places),
        cmocka_unit_test(shared_gradients_are_not_added_to_in_place),
        cmocka_unit_test(views_of_gradients_are_not_added_to_in_place),
        cmocka_unit_test(random_graphs_agree_on_and_off_the_record),
        cmocka_unit_test(diamonds),
        cmocka_unit_test(broadcast_operands_get_sums),
        cmocka_unit_test(gradients_add_up_over_calls),
        cmocka_unit_test(a_leaf_is_one_leaf),
        cmocka_unit_test(the_shortest_walk),
        cmocka_unit_test(a_gradient_may_be_recorded_with),
        cmocka_unit_test(a_gradient_that_is_recorded_with_stays),
        cmocka_unit_test(derivatives_may_be_late),
        cmocka_unit_test(grad_agrees_with_backward_and_touches_no_leaf),
        cmocka_unit_test(grad_of_any_variable),
        cmocka_unit_test(kept_gradients_are_those_of_backward),
        cmocka_unit_test(the_callers_output_grad_is_left_alone),
        cmocka_unit_test(derivatives_of_every_order),
        cmocka_unit_test(a_gradient_in_the_loss),
        cmocka_unit_test(recorded_gradients_equal_unrecorded_ones),
        cmocka_unit_test(nothing_passes_a_detached_variable),
        cmocka_unit_test(no_record_regions),
        cmocka_unit_test(walks_inside_a_region),
        cmocka_unit_test(untied_leaves_add_up_to_the_tied_one),
        cmocka_unit_test(collected_products_equal_products_at_once),
        cmocka_unit_test(a_weight_used_both_ways),
        cmocka_unit_test(linear_reads_any_layout),
        cmocka_unit_test(gradients_may_share_a_storage),
        cmocka_unit_test(many_scopes),
        cmocka_unit_test(the_same_bits_with_any_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
