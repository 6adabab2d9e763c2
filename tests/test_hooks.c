/* Hooks on gradients, and edges that were stopped. */
#include "support.h"

#include "autograd/functional.h"
#include "autograd/inspect.h"

/* ---- hooks of the tests ----------------------------------------------------------------- */

typedef struct seen {
    int calls;
    tl_var v;
    double gradient[8];
    double factor; /* of scale */
    char *log;     /* of note: the order of calls */
    char letter;
} seen;

static void remember(tl_tape *t, tl_var v, tl_var g, seen *s)
{
    tl_array a = tl_value(t, g);
    tl_tensor view = {.data = a.data, .layout = *a.layout, .dtype = a.dtype};
    s->calls++;
    s->v = v;
    for (int64_t i = 0; i < a.layout->count && i < 8; i++)
        s->gradient[i] = tl_tensor_get(&view, i);
}

static tl_var look(tl_tape *t, tl_var v, tl_var g, void *context)
{
    remember(t, v, g, context);
    return TL_NONE;
}

static tl_var hand_back(tl_tape *t, tl_var v, tl_var g, void *context)
{
    remember(t, v, g, context);
    return g;
}

static tl_var scale(tl_tape *t, tl_var v, tl_var g, void *context)
{
    seen *s = context;
    remember(t, v, g, s);
    return tl_affine(t, g, s->factor, 0);
}

static tl_var note(tl_tape *t, tl_var v, tl_var g, void *context)
{
    seen *s = context;
    s->log[strlen(s->log)] = s->letter;
    return scale(t, v, g, s);
}

/* y = sum(w * tanh x): dy/dx = w (1 - tanh^2), dy/dtanh = w */
typedef struct small {
    tl_tape *t;
    tl_tensor *x, *dx;
    tl_var leaf, h, w, y;
} small;

static const double at_x[] = {0.3, -0.7, 1.1}, at_w[] = {2, -3, 5};

static void record_small(small *m, bool own_gradient)
{
    m->leaf = tl_leaf(m->t, m->x, own_gradient ? m->dx : NULL);
    m->h = tl_tanh(m->t, m->leaf);
    m->w = constant_f64(m->t, TL_SHAPE(3), at_w);
    m->y = tl_sum(m->t, tl_mul(m->t, m->h, m->w));
}

static small small_new(bool own_gradient)
{
    small m = {.t = tl_tape_new(NULL), .x = tensor_of(TL_F64, TL_SHAPE(3), at_x)};
    m.dx = zeros_like(m.x);
    record_small(&m, own_gradient);
    return m;
}

static void small_free(small *m)
{
    tl_tape_free(m->t);
    tl_tensor_release(m->x);
    tl_tensor_release(m->dx);
}

static double slope(int i) /* dy/dx_i */
{
    return at_w[i] * (1 - tanh(at_x[i]) * tanh(at_x[i]));
}

/* The leaf's gradient, wherever it is, is `factor` times the right one. */
#define assert_gradient(m, own, factor)                                                                \
    do {                                                                                               \
        for (int i_ = 0; i_ < 3; i_++)                                                                 \
            assert_near((own) ? tl_tensor_get((m).dx, i_)                                              \
                              : item_at((m).t, tl_gradient((m).t, (m).leaf), i_),                      \
                        (factor)*slope(i_), 1e-14);                                                    \
    } while (0)

/* ---- seeing and replacing ---------------------------------------------------------------- */

static void gradients_are_seen(void **state)
{
    (void)state;
    for (int own = 0; own < 2; own++)
        for (int same = 0; same < 2; same++) { /* TL_NONE, or the gradient itself, handed back */
            small m = small_new(own);
            seen on_h = {0}, on_x = {0}, on_y = {0};
            tl_hook_gradient(m.t, m.h, same ? hand_back : look, &on_h);
            tl_hook_gradient(m.t, m.leaf, same ? hand_back : look, &on_x);
            tl_hook_gradient(m.t, m.y, same ? hand_back : look, &on_y);
            assert_int_equal(tl_backward(m.t, m.y), TL_OK);
            assert_true(on_h.calls == 1 && on_x.calls == 1 && on_y.calls == 1);
            assert_true(on_h.v.id == m.h.id && on_x.v.id == m.leaf.id && on_y.v.id == m.y.id);
            assert_same(on_y.gradient[0], 1);
            for (int i = 0; i < 3; i++) {
                assert_near_at(on_h.gradient[i], at_w[i], 1e-15, i);
                assert_near_at(on_x.gradient[i], slope(i), 1e-14, i);
            }
            assert_gradient(m, own, 1);
            small_free(&m);
        }
}

static void gradients_are_replaced(void **state)
{
    (void)state;
    for (int own = 0; own < 2; own++) {
        small m = small_new(own);
        seen on_h = {.factor = -2}, on_x = {.factor = 10};
        tl_hook_gradient(m.t, m.h, scale, &on_h);
        tl_hook_gradient(m.t, m.leaf, scale, &on_x);
        tl_keep_gradient(m.t, m.h);
        assert_int_equal(tl_backward(m.t, m.y), TL_OK);
        assert_gradient(m, own, -20);
        for (int i = 0; i < 3; i++) {
            assert_near_at(on_x.gradient[i], -2 * slope(i), 1e-14, i); /* of what h's hook left */
            assert_near_at(item_at(m.t, tl_gradient(m.t, m.h), i), -2 * at_w[i], 1e-14, i);
        }
        small_free(&m);
    }
}

/* The hook of a leaf sees the sum of this walk, not what lies in the tensor from before. */
static void a_leafs_gradient_adds_up_over_walks(void **state)
{
    (void)state;
    for (int own = 0; own < 2; own++) {
        small m = small_new(own);
        seen on_x = {.factor = 3};
        for (int i = 0; i < 3; i++)
            tl_tensor_set(m.dx, i, 100);
        assert_int_equal(tl_backward_retain(m.t, m.y), TL_OK); /* without a hook */
        tl_hook_gradient(m.t, m.leaf, scale, &on_x);
        assert_int_equal(tl_backward_retain(m.t, m.y), TL_OK);
        assert_int_equal(tl_backward(m.t, m.y), TL_OK);
        assert_int_equal(on_x.calls, 2);
        for (int i = 0; i < 3; i++) {
            assert_near_at(on_x.gradient[i], slope(i), 1e-14, i);
            if (own)
                assert_near_at(tl_tensor_get(m.dx, i), 100 + 7 * slope(i), 1e-14, i);
            assert_near_at(item_at(m.t, tl_gradient(m.t, m.leaf), i), (own ? 100 : 0) + 7 * slope(i),
                           1e-14, i);
        }
        small_free(&m);
    }
}

static void several_hooks_come_in_order(void **state)
{
    (void)state;
    small m = small_new(true);
    char log[16] = "";
    seen a = {.factor = 2, .log = log, .letter = 'a'}, b = {.factor = 3, .log = log, .letter = 'b'},
         c = {.factor = 5, .log = log, .letter = 'c'}, d = {.factor = 7, .log = log, .letter = 'd'};
    tl_hook_gradient(m.t, m.h, note, &a);
    tl_hook_gradient(m.t, m.leaf, note, &d);
    tl_hook_gradient(m.t, m.h, note, &b);
    tl_hook_gradient(m.t, m.h, note, &c);
    assert_int_equal(tl_backward(m.t, m.y), TL_OK);
    assert_string_equal(log, "abcd"); /* h before x: the walk goes back */
    assert_near(b.gradient[1], 2 * at_w[1], 1e-14);
    assert_near(c.gradient[1], 6 * at_w[1], 1e-14);
    assert_gradient(m, true, 210);

    tl_tape_reset(m.t); /* they are gone */
    tl_tensor_fill(m.dx, 0);
    record_small(&m, true);
    assert_int_equal(tl_backward(m.t, m.y), TL_OK);
    assert_string_equal(log, "abcd");
    assert_gradient(m, true, 1);
    small_free(&m);
}

/* A gradient that is handed to two operands as it is; one hook must not change the other's. */
static void shared_gradients_stay_apart(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *xa = tensor_of(TL_F64, TL_SHAPE(3), at_x), *xb = tensor_of(TL_F64, TL_SHAPE(3), at_x);
    tl_tensor *da = zeros_like(xa), *db = zeros_like(xb);
    seen s = {.factor = 10}, other = {0};
    tl_var a = tl_leaf(t, xa, da), b = tl_leaf(t, xb, db);
    tl_var w = constant_f64(t, TL_SHAPE(3), at_w), p = tl_square(t, a), q = tl_square(t, b);
    tl_var y = tl_sum(t, tl_mul(t, tl_add(t, p, q), w));
    tl_hook_gradient(t, p, scale, &s);
    tl_hook_gradient(t, q, look, &other);
    assert_int_equal(tl_backward(t, y), TL_OK);
    for (int i = 0; i < 3; i++) {
        assert_near_at(other.gradient[i], at_w[i], 1e-15, i);
        assert_near_at(tl_tensor_get(da, i), 20 * at_w[i] * at_x[i], 1e-14, i);
        assert_near_at(tl_tensor_get(db, i), 2 * at_w[i] * at_x[i], 1e-14, i);
    }
    tl_tape_reset(t); /* x + x: both terms come to one leaf, whose hook sees the sum, once */
    tl_tensor_fill(da, 0);
    seen sum = {.factor = 10};
    a = tl_leaf(t, xa, da);
    tl_hook_gradient(t, a, scale, &sum);
    assert_int_equal(tl_backward(t, tl_sum(t, tl_add(t, a, a))), TL_OK);
    assert_int_equal(sum.calls, 1);
    assert_same(sum.gradient[0], 2);
    assert_same(tl_tensor_get(da, 0), 20);
    tl_tape_free(t);
    tl_tensor *all[] = {xa, xb, da, db};
    for (int k = 0; k < 4; k++)
        tl_tensor_release(all[k]);
}

/* Weights whose outer products are collected over the steps, as one product at the end. */
static void a_weight_of_many_steps_has_one_call(void **state)
{
    (void)state;
    enum { T = 7 };
    dice d = dice_of(3);
    tl_tensor *w = random_tensor(&d, TL_F64, TL_SHAPE(4, 4), -1, 1), *dw = zeros_like(w),
              *plain = zeros_like(w), *x = random_tensor(&d, TL_F64, TL_SHAPE(3, 4), -1, 1);
    tl_tape *t = tl_tape_new(NULL);
    seen s = {.factor = 0.5};
    for (int hooked = 0; hooked < 2; hooked++) {
        tl_var leaf = tl_leaf(t, w, hooked ? dw : plain), h = tl_constant(t, x);
        for (int step = 0; step < T; step++)
            h = tl_tanh(t, tl_linear_op(t, h, leaf, TL_NONE));
        if (hooked)
            tl_hook_gradient(t, leaf, scale, &s);
        assert_int_equal(tl_backward(t, tl_mean(t, h)), TL_OK);
        tl_tape_reset(t);
    }
    assert_int_equal(s.calls, 1);
    for (int64_t i = 0; i < 16; i++)
        assert_near_at(tl_tensor_get(dw, i), 0.5 * tl_tensor_get(plain, i), 1e-14, i);
    tl_tape_free(t);
    tl_tensor *all[] = {w, dw, plain, x};
    for (int k = 0; k < 4; k++)
        tl_tensor_release(all[k]);
}

/* ---- with tl_grad and create_graph -------------------------------------------------------- */

static void hooks_of_tl_grad(void **state)
{
    (void)state;
    small m = small_new(true);
    seen on_h = {.factor = 2}, on_x = {.factor = 3};
    tl_hook_gradient(m.t, m.h, scale, &on_h);
    tl_hook_gradient(m.t, m.leaf, scale, &on_x);
    tl_var in[] = {m.leaf, m.h}, g[2];
    assert_int_equal(tl_grad(m.t, m.y, TL_NONE, 2, in, false, g), TL_OK);
    for (int i = 0; i < 3; i++) {
        assert_near_at(item_at(m.t, g[0], i), 6 * slope(i), 1e-14, i);
        assert_near_at(item_at(m.t, g[1], i), 2 * at_w[i], 1e-14, i);
        assert_same(tl_tensor_get(m.dx, i), 0); /* tl_grad touches no leaf's tensor */
    }
    small_free(&m);
}

static tl_var times_itself(tl_tape *t, tl_var v, tl_var g, void *context)
{
    (void)context;
    return tl_mul(t, g, v);
}

/* y = sum(w x x), hook on x: g -> g x. first = 2 w x x, and the derivative of its sum is 4 w x. */
static void a_hook_is_part_of_the_recorded_derivative(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(3), at_x);
    tl_var leaf = tl_leaf(t, x, NULL), w = constant_f64(t, TL_SHAPE(3), at_w);
    tl_var h = tl_affine(t, leaf, 1, 0), y = tl_sum(t, tl_mul(t, w, tl_square(t, h)));
    tl_hook_gradient(t, h, times_itself, NULL);
    tl_var first, second;
    assert_int_equal(tl_grad(t, y, TL_NONE, 1, &leaf, true, &first), TL_OK);
    for (int i = 0; i < 3; i++)
        assert_near_at(item_at(t, first, i), 2 * at_w[i] * at_x[i] * at_x[i], 1e-14, i);
    /* walked a second time h's gradient 4 w x comes through its hook again: times x */
    assert_int_equal(tl_grad(t, tl_sum(t, first), TL_NONE, 1, &leaf, false, &second), TL_OK);
    for (int i = 0; i < 3; i++)
        assert_near_at(item_at(t, second, i), 4 * at_w[i] * at_x[i] * at_x[i], 1e-14, i);
    tl_tape_free(t);
    tl_tensor_release(x);
}

/* ---- what goes wrong ---------------------------------------------------------------------- */

static tl_var too_short(tl_tape *t, tl_var v, tl_var g, void *context)
{
    (void)v, (void)context;
    return tl_slice(t, g, 0, 0, 2, 1);
}

static tl_var single(tl_tape *t, tl_var v, tl_var g, void *context)
{
    (void)v, (void)g, (void)context;
    return tl_full(t, TL_F32, TL_SHAPE(3), 1);
}

static tl_var refuse(tl_tape *t, tl_var v, tl_var g, void *context)
{
    (void)v, (void)g;
    tl_tape_fail(t, TL_ERR_ARGUMENT, "%s", (const char *)context);
    return TL_NONE;
}

static tl_var poisoned(tl_tape *t, tl_var v, tl_var g, void *context)
{
    (void)v, (void)context;
    return tl_add(t, g, tl_full(t, TL_F64, TL_SHAPE(7), 1));
}

static tl_var of_another_tape(tl_tape *t, tl_var v, tl_var g, void *context)
{
    (void)t, (void)v, (void)g;
    return *(const tl_var *)context;
}

static tl_var walks(tl_tape *t, tl_var v, tl_var g, void *context)
{
    (void)v, (void)g;
    small *m = context;
    tl_var dx;
    tl_grad(t, m->y, TL_NONE, 1, &m->leaf, false, &dx);
    return TL_NONE;
}

static void errors_in_hooks(void **state)
{
    (void)state;
    tl_tape *other = tl_tape_new(NULL);
    tl_var stranger = tl_full(other, TL_F64, TL_SHAPE(3), 1);
    small m = {.t = tl_tape_new(NULL), .x = tensor_of(TL_F64, TL_SHAPE(3), at_x)};
    m.dx = zeros_like(m.x);
    const struct {
        tl_hook *hook;
        void *context;
        tl_status status;
        const char *message;
    } cases[] = {
        {too_short, NULL, TL_ERR_SHAPE,
         "hook: returned a gradient f64 [2] for one of f64 [3] (layer 1, step 2)"},
        {single, NULL, TL_ERR_SHAPE,
         "hook: returned a gradient f32 [3] for one of f64 [3] (layer 1, step 2)"},
        {refuse, "I will not", TL_ERR_ARGUMENT, "I will not (layer 1, step 2)"},
        {poisoned, NULL, TL_ERR_SHAPE,
         "add: shapes cannot be broadcast: [3] and [7] (layer 1, step 2)"},
        {of_another_tape, &stranger, TL_ERR_STALE,
         "hook: variable belongs to another tape (layer 1, step 2)"},
        {walks, &m, TL_ERR_ARGUMENT,
         "grad: called by a hook, in the middle of another walk over the tape (layer 1, step 2)"},
    };
    for (int k = 0; k < COUNT_OF(cases); k++)
        for (int on_leaf = 0; on_leaf < 2; on_leaf++) {
            tl_scope_begin(m.t, "layer", 1);
            tl_scope_begin(m.t, "step", 2);
            record_small(&m, true);
            tl_scope_end(m.t);
            tl_scope_end(m.t);
            tl_hook_gradient(m.t, on_leaf ? m.leaf : m.h, cases[k].hook, cases[k].context);
            assert_int_equal(tl_backward(m.t, m.y), cases[k].status);
            assert_error(m.t, cases[k].status, cases[k].message);
            for (int i = 0; i < 3; i++)
                assert_same(tl_tensor_get(m.dx, i), 0);
        }
    record_small(&m, true); /* the tape is as good as new */
    assert_int_equal(tl_backward(m.t, m.y), TL_OK);
    assert_gradient(m, true, 1);
    small_free(&m);
    tl_tape_free(other);
}

/* After a hook has failed no derivative is asked for: rules need not cope with poison. */
static bool derived;

static bool same_shape(tl_call *c, tl_layout *layout)
{
    return tl_layout_make(layout, c->x[0].layout->ndim, c->x[0].layout->shape) == TL_OK;
}

static void copy_forward(tl_call *c)
{
    memcpy(c->y.data, c->x[0].data, (size_t)c->x[0].layout->count * tl_dtype_size(c->x[0].dtype));
}

static void copy_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    derived = true;
    dx[0] = tl_reshape(c->tape, dy, tl_value(c->tape, dy).layout->ndim, c->x[0].layout->shape);
}

static const tl_op copy_op = {.name = "copy",
                              .kind = TL_GENERAL,
                              .least = 1,
                              .most = 1,
                              .dense = true,
                              .shape = same_shape,
                              .forward = copy_forward,
                              .vjp = copy_vjp};

static void no_derivative_after_a_hook_failed(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(3), at_x);
    tl_var leaf = tl_leaf(t, x, NULL), y = tl_apply(t, &copy_op, 1, &leaf, NULL);
    tl_hook_gradient(t, y, refuse, "no");
    derived = false;
    assert_int_equal(tl_backward(t, tl_sum(t, y)), TL_ERR_ARGUMENT);
    assert_false(derived);
    assert_error(t, TL_ERR_ARGUMENT, "no");
    tl_tape_free(t);
    tl_tensor_release(x);
}

static void hooks_that_cannot_be(void **state)
{
    (void)state;
    small m = small_new(true);
    seen s = {0};
    tl_hook_gradient(m.t, m.w, look, &s); /* nothing comes there: never called */
    assert_int_equal(tl_backward(m.t, m.y), TL_OK);
    assert_int_equal(s.calls, 0);
    tl_no_record_begin(m.t);
    tl_var loose = tl_tanh(m.t, m.leaf);
    tl_hook_gradient(m.t, loose, look, &s);
    assert_error(m.t, TL_ERR_ARGUMENT, "hook_gradient: the variable was not recorded");
    tl_hook_gradient(m.t, m.h, look, &s);
    assert_error(m.t, TL_ERR_STALE, "hook_gradient: variable is from before the tape was reset");
    tl_hook_gradient(m.t, TL_NONE, look, &s);
    assert_error(m.t, TL_ERR_ARGUMENT, "hook_gradient: a required variable is TL_NONE");
    small_free(&m);
}

/* ---- stopped edges ------------------------------------------------------------------------ */

/* y = sum(h w h), h = tanh x; the first h is stopped: as if detached there. */
static tl_var cubic(tl_tape *t, tl_var x, bool detach, bool stop)
{
    tl_var h = tl_tanh(t, x), w = constant_f64(t, TL_SHAPE(3), at_w);
    tl_var p = tl_mul(t, detach ? tl_detach(t, h) : h, w);
    if (stop)
        tl_stop_edge(t, p, 0);
    return tl_sum(t, tl_mul(t, p, h));
}

static void a_stopped_edge_is_a_detached_operand(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(3), at_x), *u = tensor_of(TL_F64, TL_SHAPE(3), at_w);
    tl_var leaf = tl_leaf(t, x, NULL), along = tl_constant(t, u), g[3], moved[3];
    tl_var y[] = {cubic(t, leaf, true, false), cubic(t, leaf, false, true),
                  cubic(t, leaf, false, false)};
    for (int k = 0; k < 3; k++) {
        assert_int_equal(tl_grad(t, y[k], TL_NONE, 1, &leaf, true, &g[k]), TL_OK);
        moved[k] = tl_jvp(t, y[k], 1, &leaf, &along);
    }
    assert_vars(t, g[1], g[0], 1e-15);
    assert_vars(t, moved[1], moved[0], 1e-15);
    for (int i = 0; i < 3; i++) {
        double h = tanh(at_x[i]);
        assert_near_at(item_at(t, g[1], i), at_w[i] * h * (1 - h * h), 1e-14, i);
        assert_near_at(item_at(t, g[2], i), 2 * at_w[i] * h * (1 - h * h), 1e-14, i);
    }
    assert_near(tl_item(t, moved[2]), 2 * tl_item(t, moved[1]), 1e-14);
    /* the second derivative too */
    tl_var h0 = tl_jacobian(t, g[0], leaf), h1 = tl_jacobian(t, g[1], leaf);
    assert_vars(t, h1, h0, 1e-14);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(u);
}

/* One edge and no other: operand by operand, for elementwise, general and hand-written rules. */
static void each_operand_by_itself(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(9);
    tl_tensor *x[3] = {random_tensor(&d, TL_F64, TL_SHAPE(2, 4), -1, 1),
                       random_tensor(&d, TL_F64, TL_SHAPE(3, 4), -1, 1),
                       random_tensor(&d, TL_F64, TL_SHAPE(3), -1, 1)};
    for (int stopped = -1; stopped < 3; stopped++) {
        tl_var in[3], g[3], free[3], one = tl_full(t, TL_F64, TL_SHAPE(2, 3), 1);
        for (int k = 0; k < 3; k++)
            in[k] = tl_leaf(t, x[k], NULL);
        tl_var y = tl_linear_op(t, in[0], in[1], in[2]), z = tl_linear_op(t, in[0], in[1], in[2]);
        if (stopped >= 0)
            tl_stop_edge(t, y, stopped);
        assert_int_equal(tl_grad(t, y, one, 3, in, false, g), TL_OK);
        assert_int_equal(tl_grad(t, z, one, 3, in, false, free), TL_OK);
        for (int k = 0; k < 3; k++) {
            tl_var none = tl_affine(t, free[k], 0, 0);
            assert_vars(t, g[k], k == stopped ? none : free[k], 0);
            tl_var u = tl_constant(t, x[k]), along = tl_jvp(t, y, 1, &in[k], &u),
                   along_free = tl_jvp(t, z, 1, &in[k], &u);
            assert_vars(t, along, k == stopped ? tl_affine(t, along_free, 0, 0) : along_free, 1e-15);
        }
        tl_tape_reset(t);
    }
    tl_tape_free(t);
    for (int k = 0; k < 3; k++)
        tl_tensor_release(x[k]);
}

/* Truncation after the fact: the derivative does not pass from step 3 to step 2. */
static void time_is_cut_after_recording(void **state)
{
    (void)state;
    enum { T = 6, CUT = 3 };
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *w = tensor_of(TL_F64, TL_SHAPE(1), REALS(0.8));
    double cut[2];
    for (int detach = 0; detach < 2; detach++) {
        tl_var leaf = tl_leaf(t, w, NULL), h = tl_full(t, TL_F64, TL_SHAPE(1), 0.5), at_cut = TL_NONE,
               g;
        for (int step = 0; step < T; step++) {
            tl_var p = tl_mul(t, detach && step == CUT ? tl_detach(t, h) : h, leaf);
            if (step == CUT)
                at_cut = p;
            h = tl_tanh(t, p);
        }
        if (!detach)
            tl_stop_edge(t, at_cut, 0);
        assert_int_equal(tl_grad(t, h, TL_NONE, 1, &leaf, false, &g), TL_OK);
        cut[detach] = item_at(t, g, 0);
        tl_tape_reset(t);
    }
    assert_near(cut[0], cut[1], 1e-15);
    tl_tape_free(t);
    tl_tensor_release(w);
}

static void edges_that_cannot_be(void **state)
{
    (void)state;
    small m = small_new(true);
    tl_stop_edge(m.t, m.h, 1);
    assert_error(m.t, TL_ERR_INDEX, "stop_edge: tanh has 1 operands, there is none of number 1");
    record_small(&m, true);
    tl_stop_edge(m.t, m.h, -1);
    assert_error(m.t, TL_ERR_INDEX, "stop_edge: tanh has 1 operands, there is none of number -1");
    record_small(&m, true);
    tl_stop_edge(m.t, m.leaf, 0);
    assert_error(m.t, TL_ERR_INDEX,
                 "stop_edge: a leaf or constant has 0 operands, there is none of number 0");
    record_small(&m, true);
    tl_no_record_begin(m.t);
    tl_stop_edge(m.t, tl_tanh(m.t, m.leaf), 0);
    assert_error(m.t, TL_ERR_ARGUMENT, "stop_edge: the variable was not recorded");
    record_small(&m, true);
    tl_stop_edge(m.t, m.h, 0); /* all of them: no gradient at all, which is no error */
    assert_int_equal(tl_backward(m.t, m.y), TL_OK);
    assert_gradient(m, true, 0);
    tl_tape_reset(m.t);
    record_small(&m, true); /* forgotten with the reset */
    assert_int_equal(tl_backward(m.t, m.y), TL_OK);
    assert_gradient(m, true, 1);
    small_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_seen),
        cmocka_unit_test(gradients_are_replaced),
        cmocka_unit_test(a_leafs_gradient_adds_up_over_walks),
        cmocka_unit_test(several_hooks_come_in_order),
        cmocka_unit_test(shared_gradients_stay_apart),
        cmocka_unit_test(a_weight_of_many_steps_has_one_call),
        cmocka_unit_test(hooks_of_tl_grad),
        cmocka_unit_test(a_hook_is_part_of_the_recorded_derivative),
        cmocka_unit_test(errors_in_hooks),
        cmocka_unit_test(no_derivative_after_a_hook_failed),
        cmocka_unit_test(hooks_that_cannot_be),
        cmocka_unit_test(a_stopped_edge_is_a_detached_operand),
        cmocka_unit_test(each_operand_by_itself),
        cmocka_unit_test(time_is_cut_after_recording),
        cmocka_unit_test(edges_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
