/* Gradients derived by hand beside the tape's: the table, and an op from outside the library whose
 * backward is written on numbers. */
#include "support.h"

#include "autograd/compare.h"
#include "autograd/functional.h"
#include "autograd/gradcheck.h"

/* ---- the table ---------------------------------------------------------------------------- */

static char *printed(int count, const tl_grad_pair *pairs, double tolerance, tl_status status,
                     tl_grad_difference *worst, tl_error *error)
{
    FILE *stream = tmpfile();
    assert_int_equal(tl_compare_grads(count, pairs, tolerance, stream, worst, error), status);
    long size = ftell(stream);
    char *text = malloc((size_t)size + 1);
    rewind(stream);
    assert_int_equal(fread(text, 1, (size_t)size, stream), size);
    text[size] = 0;
    fclose(stream);
    return text;
}

#define HEAD                                                                                           \
    "gradient                   step  worst element             manual          automatic  "           \
    "difference "                                                                                      \
    "   relative\n"

static void the_table(void **state)
{
    (void)state;
    tl_tensor *a = tensor_of(TL_F64, TL_SHAPE(2, 3), REALS(1, 2, 3, 4, 5, 6)),
              *b = tensor_of(TL_F64, TL_SHAPE(2, 3), REALS(1, 2, 3, 4, 5.5, 8)),
              *zero = tl_tensor_zeros(TL_F64, TL_SHAPE(2, 3), NULL),
              *none = tl_tensor_zeros(TL_F32, TL_SHAPE(0, 3), NULL),
              *scalar = tl_tensor_zeros(TL_F32, 0, NULL, NULL);
    tl_grad_pair pairs[] = {{"weight_hh", -1, a, a},
                            {"weight_hh", 12, a, b},
                            {"bias", 0, zero, zero},
                            {"empty", -1, none, none},
                            {"scalar", -1, scalar, scalar}};
    tl_grad_difference worst[5];
    tl_error error = {0};
    char *text = printed(5, pairs, 0.25, TL_OK, worst, &error);
    assert_string_equal(text, HEAD "weight_hh                     -          [0,0]                 +1  "
                                   "               +1           "
                                   "0           0\n"
                                   "weight_hh                    12          [1,2]                 +6  "
                                   "               +8           "
                                   "2        0.25\n"
                                   "bias                          0          [0,0]                 +0  "
                                   "               +0           "
                                   "0           0\n"
                                   "empty                         -              -                 +0  "
                                   "               +0           "
                                   "0           0\n"
                                   "scalar                        -             []                 +0  "
                                   "               +0           "
                                   "0           0\n");
    free(text);
    assert_int_equal(error.status, TL_OK);
    assert_int_equal(worst[1].element, 5);
    assert_same(worst[1].manual, 6);
    assert_same(worst[1].automatic, 8);
    assert_same(worst[1].absolute, 2);
    assert_same(worst[1].relative, 0.25); /* to the largest of the tensor, 8 */
    assert_int_equal(worst[3].element, -1);
    /* a little less is too little */
    assert_int_equal(tl_compare_grads(5, pairs, 0.2499, NULL, NULL, &error), TL_ERR_CHECK);
    assert_string_equal(error.message,
                        "compare_grads: weight_hh at step 12, element [1,2]: manual +6, automatic +8, "
                        "relative difference 0.25 (tolerance 0.25)");
    assert_int_equal(tl_compare_grads(5, pairs, 0.2, NULL, NULL, NULL), TL_ERR_CHECK);
    assert_int_equal(tl_compare_grads(0, NULL, 0, NULL, NULL, NULL), TL_OK);
    tl_tensor *all[] = {a, b, zero, none, scalar};
    for (int k = 0; k < COUNT_OF(all); k++)
        tl_tensor_release(all[k]);
}

static void the_first_that_is_off_is_named(void **state)
{
    (void)state;
    tl_tensor *a = tensor_of(TL_F64, TL_SHAPE(2), REALS(1, 2)),
              *b = tensor_of(TL_F64, TL_SHAPE(2), REALS(1, -2)),
              *c = tensor_of(TL_F64, TL_SHAPE(2), REALS(7, 2));
    tl_grad_pair pairs[] = {{"good", -1, a, a}, {"sign", -1, b, a}, {"worse", -1, c, a}};
    tl_grad_difference worst[3];
    tl_error error = {0};
    assert_int_equal(tl_compare_grads(3, pairs, 1e-12, NULL, worst, &error), TL_ERR_CHECK);
    assert_string_equal(error.message, "compare_grads: sign, element [1]: manual -2, automatic +2, "
                                       "relative difference 2 (tolerance 1e-12)");
    assert_same(worst[2].absolute, 6); /* all are looked at */
    tl_tensor_release(a);
    tl_tensor_release(b);
    tl_tensor_release(c);
}

static void what_is_no_number(void **state)
{
    (void)state;
    const struct {
        double manual, automatic;
        bool good;
        double relative;
    } cases[] = {
        {NAN, 1, false, INFINITY},
        {1, NAN, false, INFINITY},
        {NAN, NAN, false, INFINITY},
        {INFINITY, INFINITY, true, 0},
        {INFINITY, -INFINITY, false, NAN},
        {INFINITY, 1, false, INFINITY},
        {1, INFINITY, false, NAN},
        {0, 0, true, 0},
        {1e-300, 0, false, INFINITY},
        {0, 1e-300, false, 1},
        {-0.0, 0, true, 0},
    };
    for (int k = 0; k < COUNT_OF(cases); k++) {
        tl_tensor *a = tensor_of(TL_F64, TL_SHAPE(3), REALS(0, cases[k].manual, 0)),
                  *b = tensor_of(TL_F64, TL_SHAPE(3), REALS(0, cases[k].automatic, 0));
        tl_grad_pair pair = {"g", 3, a, b};
        tl_grad_difference worst;
        tl_error error = {0};
        assert_int_equal(tl_compare_grads(1, &pair, 0.5, NULL, &worst, &error),
                         cases[k].good ? TL_OK : TL_ERR_CHECK);
        if (!cases[k].good) {
            assert_int_equal(worst.element, 1);
            assert_non_null(strstr(error.message, "g at step 3, element [1]: manual "));
        }
        assert_near_at(worst.relative, cases[k].relative, 1e-12, k);
        tl_tensor_release(a);
        tl_tensor_release(b);
    }
}

static void pairs_that_do_not_fit(void **state)
{
    (void)state;
    tl_tensor *a = tl_tensor_zeros(TL_F64, TL_SHAPE(2, 3), NULL),
              *b = tl_tensor_zeros(TL_F32, TL_SHAPE(3, 2), NULL),
              *i = tl_tensor_zeros(TL_I64, TL_SHAPE(2, 3), NULL),
              *single = tl_tensor_zeros(TL_F32, TL_SHAPE(2, 3), NULL);
    const struct {
        const tl_tensor *manual, *automatic;
        tl_status status;
        const char *message;
    } cases[] = {
        {a, b, TL_ERR_SHAPE, "compare_grads: w: manual is [2,3], automatic is [3,2]"},
        {a, i, TL_ERR_DTYPE, "compare_grads: w: gradients are reals, not f64 and i64"},
        {i, a, TL_ERR_DTYPE, "compare_grads: w: gradients are reals, not i64 and f64"},
        {NULL, a, TL_ERR_ARGUMENT, "compare_grads: w: the manual gradient is NULL"},
        {a, NULL, TL_ERR_ARGUMENT, "compare_grads: w: the automatic gradient is NULL"},
    };
    for (int k = 0; k < COUNT_OF(cases); k++) {
        tl_grad_pair pairs[] = {{"good", -1, a, a}, {"w", -1, cases[k].manual, cases[k].automatic}};
        tl_error error = {0};
        FILE *stream = tmpfile();
        assert_int_equal(tl_compare_grads(2, pairs, 1, stream, NULL, &error), cases[k].status);
        assert_string_equal(error.message, cases[k].message);
        assert_int_equal(ftell(stream), 0);
        fclose(stream);
    }
    tl_grad_pair mixed = {"w", -1, single, a}; /* f32 by hand, f64 by the tape: that fits */
    assert_int_equal(tl_compare_grads(1, &mixed, 0, NULL, NULL, NULL), TL_OK);
    FILE *full = fopen("/dev/full", "w");
    if (full) {
        tl_error error = {0};
        assert_int_equal(tl_compare_grads(1, &mixed, 0, full, NULL, &error), TL_ERR_IO);
        assert_string_equal(error.message, "compare_grads: the stream does not take it");
        fclose(full);
    }
    tl_tensor_release(a);
    tl_tensor_release(b);
    tl_tensor_release(i);
    tl_tensor_release(single);
}

/* ---- an op from outside the library --------------------------------------------------------- */

/* elman: h [B,H], a [B,H], u [H,H]; y = tanh(a + h u')
 *
 *   e = (1 - y y) dy;   da += e;   dh += e u;   du += e' h
 *
 * In plain loops, as one writes it down from the paper. */
static bool elman_shape(tl_call *c, tl_layout *layout)
{
    const tl_layout *h = c->x[0].layout, *a = c->x[1].layout, *u = c->x[2].layout;
    char have[TL_LAYOUT_TEXT], want[TL_LAYOUT_TEXT];
    if (h->ndim != 2 || !tl_layout_same_shape(h, a) || u->ndim != 2 || u->shape[0] != h->shape[1] ||
        u->shape[1] != h->shape[1])
        return tl_call_fail(c, TL_ERR_SHAPE, "wants h and a [B,H] and u [H,H], not %s and %s",
                            tl_layout_text(h, have), tl_layout_text(u, want));
    return tl_layout_make(layout, 2, h->shape) == TL_OK;
}

static void elman_forward(tl_call *c)
{
    int64_t rows = c->x[0].layout->shape[0], n = c->x[0].layout->shape[1];
    const double *h = c->x[0].data, *a = c->x[1].data, *u = c->x[2].data;
    double *y = c->y.data;
    for (int64_t b = 0; b < rows; b++)
        for (int64_t i = 0; i < n; i++) {
            double sum = a[b * n + i];
            for (int64_t j = 0; j < n; j++)
                sum += u[i * n + j] * h[b * n + j];
            y[b * n + i] = tanh(sum);
        }
}

enum { RIGHT, NO_DERIVATIVE_OF_TANH, TRANSPOSED, SIGN, SETS }; /* ways to get it wrong */
static int elman_mistake;

static void elman_backward(const tl_call *c, tl_array gradient, const tl_array *dx)
{
    int64_t rows = c->x[0].layout->shape[0], n = c->x[0].layout->shape[1];
    const double *h = c->x[0].data, *u = c->x[2].data, *y = c->y.data, *dy = gradient.data;
    double *dh = dx[0].data, *da = dx[1].data, *du = dx[2].data;
    for (int64_t b = 0; b < rows; b++)
        for (int64_t i = 0; i < n; i++) {
            double s = y[b * n + i];
            double e = (elman_mistake == NO_DERIVATIVE_OF_TANH ? 1 : 1 - s * s) * dy[b * n + i];
            if (da)
                da[b * n + i] += e;
            for (int64_t j = 0; dh && j < n; j++)
                dh[b * n + j] += e * (elman_mistake == TRANSPOSED ? u[j * n + i] : u[i * n + j]);
            for (int64_t j = 0; du && j < n; j++)
                du[i * n + j] = (elman_mistake == SETS ? 0 : du[i * n + j]) +
                                (elman_mistake == SIGN ? -1 : 1) * e * h[b * n + j];
        }
}

static const tl_op elman = {.name = "elman",
                            .equation = "y = tanh(a + h u')",
                            .kind = TL_GENERAL,
                            .least = 3,
                            .most = 3,
                            .dense = true,
                            .shape = elman_shape,
                            .forward = elman_forward,
                            .backward = elman_backward};

static tl_var manual_step(tl_tape *t, tl_var h, tl_var a, tl_var u)
{
    return tl_apply(t, &elman, 3, (tl_var[]){h, a, u}, NULL);
}

static tl_var composed_step(tl_tape *t, tl_var h, tl_var a, tl_var u)
{
    return tl_tanh(t, tl_add(t, a, tl_matmul(t, h, tl_transpose(t, u, 0, 1))));
}

enum { T = 5, B = 2, I = 3, H = 4 };

typedef struct rnn {
    tl_tensor *x, *w, *u; /* [T,B,I], [H,I], [H,H] */
} rnn;

static rnn rnn_new(void)
{
    dice d = dice_of(21);
    return (rnn){random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1),
                 random_tensor(&d, TL_F64, TL_SHAPE(H, I), -1, 1),
                 random_tensor(&d, TL_F64, TL_SHAPE(H, H), -0.5, 0.5)};
}

static void rnn_free(rnn *m)
{
    tl_tensor_release(m->x);
    tl_tensor_release(m->w);
    tl_tensor_release(m->u);
}

typedef tl_var step_function(tl_tape *t, tl_var h, tl_var a, tl_var u);

/* loss = mean over all steps of h^2 - h / 3; h[T] are the states */
static tl_var record(tl_tape *t, const rnn *m, step_function *step, tl_var *h)
{
    tl_var x = tl_constant(t, m->x), state = tl_full(t, TL_F64, TL_SHAPE(B, H), 0.1);
    for (int k = 0; k < T; k++) {
        tl_scope_begin(t, "step", k);
        tl_var a = tl_linear_op(t, tl_select(t, x, 0, k), tl_leaf(t, m->w, NULL), TL_NONE);
        h[k] = state = step(t, state, a, tl_leaf(t, m->u, NULL));
        tl_keep_gradient(t, h[k]);
        tl_scope_end(t);
    }
    tl_var all = tl_stack(t, T, h, 0);
    return tl_mean(t, tl_sub(t, tl_square(t, all), tl_affine(t, all, 1. / 3, 0)));
}

/* Gradients of one version: of w and u in all, of u and of the state step by step. */
typedef struct gradients {
    tl_tensor *w, *u, *of_u[T], *of_h[T];
} gradients;

static tl_tensor *gradient_of(tl_tape *t, tl_var v)
{
    tl_tensor *g = tl_value_copy(t, tl_gradient(t, v));
    if (!g)
        fail_msg("%s", tl_tape_message(t));
    return g;
}

static gradients walk(const rnn *m, step_function *step)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_var h[T], uses[T + 1];
    gradients g;
    assert_int_equal(tl_backward(t, record(t, m, step, h)), TL_OK);
    g.w = gradient_of(t, tl_leaf(t, m->w, NULL));
    g.u = gradient_of(t, tl_leaf(t, m->u, NULL));
    assert_int_equal(tl_untied_uses(t, m->u, T, uses), 0);
    for (int k = 0; k < T; k++)
        g.of_h[k] = gradient_of(t, h[k]);
    tl_tape_reset(t);
    assert_int_equal(tl_untie(t, m->u), TL_OK);
    assert_int_equal(tl_backward(t, record(t, m, step, h)), TL_OK);
    assert_int_equal(tl_untied_uses(t, m->u, 2, uses), T); /* how many there are, not how many fit */
    assert_int_equal(tl_untied_uses(t, m->u, T + 1, uses), T);
    for (int k = 0; k < T; k++)
        g.of_u[k] = gradient_of(t, uses[k]);
    tl_tape_free(t);
    return g;
}

static void gradients_free(gradients *g)
{
    tl_tensor_release(g->w);
    tl_tensor_release(g->u);
    for (int k = 0; k < T; k++) {
        tl_tensor_release(g->of_u[k]);
        tl_tensor_release(g->of_h[k]);
    }
}

static int all_pairs(const gradients *manual, const gradients *automatic, tl_grad_pair *pairs)
{
    int n = 0;
    pairs[n++] = (tl_grad_pair){"w", -1, manual->w, automatic->w};
    pairs[n++] = (tl_grad_pair){"u", -1, manual->u, automatic->u};
    for (int k = 0; k < T; k++)
        pairs[n++] = (tl_grad_pair){"u", k, manual->of_u[k], automatic->of_u[k]};
    for (int k = 0; k < T; k++)
        pairs[n++] = (tl_grad_pair){"h", k, manual->of_h[k], automatic->of_h[k]};
    return n;
}

static void by_hand_and_by_the_tape(void **state)
{
    (void)state;
    rnn m = rnn_new();
    tl_grad_pair pairs[2 + 2 * T];
    tl_grad_difference worst[2 + 2 * T];
    tl_error error = {0};
    gradients automatic = walk(&m, composed_step);
    elman_mistake = RIGHT;
    gradients manual = walk(&m, manual_step);
    int n = all_pairs(&manual, &automatic, pairs);
    if (tl_compare_grads(n, pairs, 1e-14, NULL, worst, &error) != TL_OK)
        fail_msg("%s", error.message);
    for (int k = 0; k < n; k++)
        assert_true(worst[k].element >= 0 && fabs(worst[k].automatic) > 1e-6);
    /* the steps of u add up to u's */
    for (int64_t i = 0; i < H * H; i++) {
        double sum = 0;
        for (int k = 0; k < T; k++)
            sum += tl_tensor_get(manual.of_u[k], i);
        assert_near_at(sum, tl_tensor_get(manual.u, i), 1e-14, i);
    }
    gradients_free(&manual);
    for (int mistake = RIGHT + 1; mistake <= SETS; mistake++) {
        error = (tl_error){0};
        elman_mistake = mistake;
        manual = walk(&m, manual_step);
        n = all_pairs(&manual, &automatic, pairs);
        assert_int_equal(tl_compare_grads(n, pairs, 1e-14, NULL, worst, &error), TL_ERR_CHECK);
        if (mistake == SIGN) { /* only u is wrong, by a factor of -1, in each step */
            assert_non_null(strstr(error.message, "compare_grads: u, element ["));
            for (int k = 0; k < 2 + T; k++)
                assert_near(worst[k].manual, (k == 0 ? 1 : -1) * worst[k].automatic, 1e-12);
        }
        gradients_free(&manual);
    }
    elman_mistake = RIGHT;
    gradients_free(&automatic);
    rnn_free(&m);
}

/* ---- what a derivation on numbers cannot do --------------------------------------------------- */

static tl_var apply_elman(tl_tape *t, const tl_var *in, void *context)
{
    (void)context;
    return manual_step(t, in[0], in[1], in[2]);
}

static void checked_like_any_other(void **state)
{
    (void)state;
    dice d = dice_of(5);
    tl_tensor *x[3] = {random_tensor(&d, TL_F64, TL_SHAPE(2, 3), -1, 1),
                       random_tensor(&d, TL_F64, TL_SHAPE(2, 3), -1, 1), NULL};
    tl_tensor *wide = random_tensor(&d, TL_F64, TL_SHAPE(3, 6), -1, 1);
    x[2] = tl_tensor_slice(wide, 1, 0, 6, 2, NULL); /* not contiguous */
    tl_gradcheck_report r;
    if (tl_gradcheck(apply_elman, NULL, 3, x, NULL, &r) != TL_OK)
        fail_msg("%s", r.message);
    assert_int_equal(r.checked, 6 + 6 + 9);
    for (int mistake = RIGHT + 1; mistake <= SETS; mistake++) {
        elman_mistake = mistake;
        assert_int_equal(tl_gradcheck(apply_elman, NULL, 3, x, NULL, &r), TL_ERR_CHECK);
    }
    elman_mistake = RIGHT;
    assert_int_equal(tl_gradgradcheck(apply_elman, NULL, 3, x, NULL, &r), TL_ERR_NO_DERIVATIVE);
    assert_string_equal(
        r.message, "elman: its backward is written by hand, on numbers: it has a first derivative, "
                   "but no second, and none in forward mode");
    assert_int_equal(tl_modecheck(apply_elman, NULL, 3, x, NULL, &r), TL_ERR_NO_DERIVATIVE);
    assert_string_equal(r.message, "elman: its backward is written by hand, on numbers: there is no "
                                   "forward mode through it");
    for (int k = 0; k < 3; k++)
        tl_tensor_release(x[k]);
    tl_tensor_release(wide);
}

static void refused_in_words(void **state)
{
    (void)state;
    rnn m = rnn_new();
    tl_tape *t = tl_tape_new(NULL);
    tl_var h[T], loss = record(t, &m, manual_step, h), u = tl_leaf(t, m.u, NULL), g;
    tl_var v = tl_full(t, TL_F64, TL_SHAPE(H, H), 1);
    assert_int_equal(tl_grad(t, loss, TL_NONE, 1, &u, false, &g), TL_OK); /* the first one, yes */
    tl_grad(t, loss, TL_NONE, 1, &u, true, &g);
    assert_error(
        t, TL_ERR_NO_DERIVATIVE,
        "elman: its backward is written by hand, on numbers: it has a first derivative, but no "
        "second, and none in forward mode (step 4)");
    loss = record(t, &m, manual_step, h);
    u = tl_leaf(t, m.u, NULL);
    v = tl_full(t, TL_F64, TL_SHAPE(H, H), 1);
    tl_jvp(t, loss, 1, &u, &v);
    assert_error(t, TL_ERR_NO_DERIVATIVE,
                 "elman: its backward is written by hand, on numbers: there is no forward mode through "
                 "it (step 0)");
    loss = record(t, &m, manual_step, h);
    u = tl_leaf(t, m.u, NULL);
    v = tl_full(t, TL_F64, TL_SHAPE(H, H), 1);
    assert_int_equal(tl_hvp(t, loss, 1, &u, &v, &g), TL_ERR_NO_DERIVATIVE);
    tl_tape_reset(t);
    /* one that stands aside is not in the way */
    record(t, &m, manual_step, h);
    u = tl_leaf(t, m.u, NULL);
    v = tl_full(t, TL_F64, TL_SHAPE(H, H), 1);
    g = tl_jvp(t, tl_sum(t, tl_square(t, u)), 1, &u, &v);
    assert_ok(t);
    assert_int_equal(tl_value(t, g).layout->count, 1);
    tl_tape_free(t);
    rnn_free(&m);
}

/* A missing derivative is found when the op is recorded, and only where one is wanted. */
static void no_derivative_at_all(void **state)
{
    (void)state;
    rnn m = rnn_new();
    tl_op bare = elman;
    bare.backward = NULL;
    tl_tape *t = tl_tape_new(NULL);
    tl_var h = tl_full(t, TL_F64, TL_SHAPE(B, H), 0.1), u = tl_constant(t, m.u);
    tl_apply(t, &bare, 3, (tl_var[]){h, h, u}, NULL);
    assert_ok(t);
    tl_no_record_begin(t);
    tl_apply(t, &bare, 3, (tl_var[]){h, h, tl_leaf(t, m.u, NULL)}, NULL);
    tl_no_record_end(t, 0, NULL);
    assert_ok(t);
    tl_scope_begin(t, "step", 3);
    tl_var y = tl_apply(t, &bare, 3, (tl_var[]){h, h, tl_leaf(t, m.u, NULL)}, NULL);
    assert_null(tl_value(t, y).data);
    assert_error(t, TL_ERR_NO_DERIVATIVE,
                 "elman: has no derivative, but an operand wants one; detach its operands, or apply it "
                 "in a no-record region (step 3)");
    tl_tape_free(t);
    rnn_free(&m);
}

/* Only what is asked for is computed; and the trap and stopped edges see such an op like any other. */
static int asked;

static void counting_backward(const tl_call *c, tl_array dy, const tl_array *dx)
{
    for (int k = 0; k < c->count; k++)
        asked |= dx[k].data ? 1 << k : 0;
    for (int k = 0; k < c->count; k++)
        for (int64_t i = 0; dx[k].data && i < dx[k].layout->count; i++)
            assert_same(((double *)dx[k].data)[i], 0); /* begins from zero */
    assert_true(dy.layout->contiguous);
    elman_backward(c, dy, dx);
}

static void only_what_is_asked_for(void **state)
{
    (void)state;
    rnn m = rnn_new();
    tl_op op = elman;
    op.backward = counting_backward;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(1);
    tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(B, H), -1, 1);
    for (int wanted = 1; wanted < 8; wanted++)
        for (int stop = 0; stop < 2; stop++) {
            tl_var in[3];
            tl_tensor *from[] = {x, x, m.u};
            for (int k = 0; k < 3; k++)
                in[k] = wanted >> k & 1 ? tl_leaf_untied(t, from[k]) : tl_constant(t, from[k]);
            tl_var y = tl_apply(t, &op, 3, in, NULL);
            for (int k = 0; stop && k < 2; k++)
                tl_stop_edge(t, y, k);
            /* the gradient comes transposed */
            tl_var w = tl_full(t, TL_F64, TL_SHAPE(H, B), 2);
            tl_var loss = tl_sum(t, tl_mul(t, tl_transpose(t, y, 0, 1), w));
            asked = 0;
            assert_int_equal(tl_backward(t, loss), TL_OK);
            assert_int_equal(asked, stop ? wanted & 4 : wanted);
            for (int k = 0; k < 3; k++)
                assert_int_equal(tl_is_none(tl_gradient(t, in[k])),
                                 !(wanted >> k & 1) || (stop && k < 2));
            tl_tape_reset(t);
        }
    tl_tape_free(t);
    tl_tensor_release(x);
    rnn_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table),
        cmocka_unit_test(the_first_that_is_off_is_named),
        cmocka_unit_test(what_is_no_number),
        cmocka_unit_test(pairs_that_do_not_fit),
        cmocka_unit_test(by_hand_and_by_the_tape),
        cmocka_unit_test(checked_like_any_other),
        cmocka_unit_test(refused_in_words),
        cmocka_unit_test(no_derivative_at_all),
        cmocka_unit_test(only_what_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
