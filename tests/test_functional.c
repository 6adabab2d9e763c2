/* Products with matrices of second derivatives, and the matrices. */
#include "support.h"

#include "autograd/functional.h"
#include "nn/unroll.h"

/* ---- functions ---------------------------------------------------------------------------- */

/* f = sum over i of 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2.  Rosenbrock, The Computer Journal 3, 1960 */
static tl_var rosenbrock(tl_tape *t, tl_var x)
{
    int64_t n = tl_value(t, x).layout->shape[0];
    tl_var a = tl_slice(t, x, 0, 0, n - 1, 1), b = tl_slice(t, x, 0, 1, n, 1);
    tl_var valley = tl_square(t, tl_sub(t, b, tl_square(t, a)));
    tl_var slope = tl_square(t, tl_affine(t, a, -1, 1));
    return tl_sum(t, tl_add(t, tl_affine(t, valley, 100, 0), slope));
}

static double rosenbrock_second(const double *x, int n, int i, int j)
{
    if (i == j)
        return (i < n - 1 ? 1200 * x[i] * x[i] - 400 * x[i + 1] + 2 : 0) + (i > 0 ? 200 : 0);
    int low = i < j ? i : j;
    return abs(i - j) == 1 ? -400 * x[low] : 0;
}

static void rosenbrocks_hessian(void **state)
{
    (void)state;
    enum { N = 4 };
    const double at[N] = {0.7, -1.2, 0.4, 1.1}, along[N] = {1, -2, 0.5, 3};
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(N), at);
    tl_var leaf = tl_leaf(t, x, NULL), f = rosenbrock(t, leaf);
    tl_var h = tl_hessian(t, f, leaf), v = constant_f64(t, TL_SHAPE(N), along), hv;
    assert_shape(t, h, "[4,4]");
    assert_int_equal(tl_hvp(t, f, 1, &leaf, &v, &hv), TL_OK);
    for (int i = 0; i < N; i++) {
        double product = 0;
        for (int j = 0; j < N; j++) {
            product += rosenbrock_second(at, N, i, j) * along[j];
            assert_near_at(item_at(t, h, i * N + j), rosenbrock_second(at, N, i, j), 1e-12, i * N + j);
        }
        assert_near_at(item_at(t, hv, i), product, 1e-12, i);
    }
    /* not consumed: the same again, and the walk of the first derivative */
    tl_var again;
    assert_int_equal(tl_hvp(t, f, 1, &leaf, &v, &again), TL_OK);
    assert_vars(t, again, hv, 0);
    assert_int_equal(tl_backward(t, f), TL_OK);
    tl_tape_free(t);
    tl_tensor_release(x);
}

static void third_derivatives(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(3), REALS(0.3, -0.8, 1.4));
    tl_var leaf = tl_leaf(t, x, NULL);
    tl_var h = tl_hessian(t, tl_sum(t, tl_mul(t, leaf, tl_mul(t, leaf, leaf))), leaf);
    tl_var third = tl_jacobian(t, h, leaf);
    assert_shape(t, third, "[3,3,3]");
    for (int i = 0; i < 27; i++)
        assert_near_at(item_at(t, third, i), i % 13 == 0 ? 6 : 0, 1e-14, i);
    tl_tape_free(t);
    tl_tensor_release(x);
}

/* f = sum of x^3: H = diag 6 x. A vector that is itself made of x is held while H is formed, yet the
 * products know where it came from: 6 x x has the derivative 12 x. */
static void vectors_that_depend_on_the_inputs(void **state)
{
    (void)state;
    const double at[] = {0.3, -0.8, 1.4};
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(3), at);
    for (int count = 1; count <= 2; count++) {
        tl_var in[] = {tl_leaf(t, x, NULL), tl_leaf_untied(t, x)}, p[2], g;
        tl_var v[] = {tl_affine(t, in[0], 1, 0), in[0]};
        tl_var f = tl_sum(t, tl_mul(t, in[0], tl_square(t, in[0])));
        if (count == 2)
            f = tl_add(t, f, tl_sum(t, tl_mul(t, in[1], tl_square(t, in[1]))));
        assert_int_equal(tl_hvp(t, f, count, in, v, p), TL_OK);
        for (int k = 0; k < count; k++)
            for (int i = 0; i < 3; i++)
                assert_near_at(item_at(t, p[k], i), 6 * at[i] * at[i], 1e-14, i);
        assert_int_equal(tl_grad(t, tl_sum(t, p[0]), TL_NONE, 1, in, false, &g), TL_OK);
        for (int i = 0; i < 3; i++)
            assert_near_at(item_at(t, g, i), 12 * at[i], 1e-14, i);
        tl_tape_reset(t);
    }
    tl_tape_free(t);
    tl_tensor_release(x);
}

/* ---- against finite differences ------------------------------------------------------------- */

/* A scalar function of `count` tensors. */
typedef struct scalar_function {
    tl_var (*record)(tl_tape *t, const tl_var *in, void *context);
    void *context;
    int count;
    tl_tensor *x[8];
} scalar_function;

static tl_var record_scalar(tl_tape *t, const scalar_function *f, tl_var *in)
{
    for (int k = 0; k < f->count; k++)
        in[k] = tl_leaf(t, f->x[k], NULL);
    return f->record(t, in, f->context);
}

/* All first derivatives as one vector, into `all`; how many there are. */
static int gradient_of(const scalar_function *f, double *all)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_var in[8], g[8], loss = record_scalar(t, f, in);
    int n = 0;
    if (tl_grad(t, loss, TL_NONE, f->count, in, false, g) != TL_OK)
        fail_msg("%s", tl_tape_message(t));
    for (int k = 0; k < f->count; k++) {
        tl_tensor *value = value_of(t, g[k]);
        for (int64_t i = 0; i < value->layout.count; i++)
            all[n++] = tl_tensor_get(value, i);
        tl_tensor_release(value);
    }
    tl_tape_free(t);
    return n;
}

enum { MOST = 256 };

/* H v by central differences of the gradient: (g(x + h v) - g(x - h v)) / 2h */
static int differences(const scalar_function *f, tl_tensor *const *v, double *product)
{
    double above[MOST], below[MOST], h = 1e-5;
    int n = 0;
    for (int side = 0; side < 3; side++) {
        if (side)
            n = gradient_of(f, side == 1 ? above : below);
        double by = side == 0 ? h : side == 1 ? -2 * h : h;
        for (int k = 0; k < f->count; k++)
            for (int64_t i = 0; i < v[k]->layout.count; i++)
                tl_tensor_set(f->x[k], i, tl_tensor_get(f->x[k], i) + by * tl_tensor_get(v[k], i));
    }
    for (int i = 0; i < n; i++)
        product[i] = (above[i] - below[i]) / (2 * h);
    return n;
}

static void check_hvp(const scalar_function *f, double tolerance)
{
    dice d = dice_of(11);
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *v[8];
    tl_var in[8], along[8], product[8];
    double numeric[MOST];
    int n = 0;
    for (int k = 0; k < f->count; k++)
        v[k] = random_tensor(&d, TL_F64, f->x[k]->layout.ndim, f->x[k]->layout.shape, -1, 1);
    differences(f, v, numeric);
    tl_var loss = record_scalar(t, f, in);
    for (int k = 0; k < f->count; k++)
        along[k] = tl_constant(t, v[k]);
    if (tl_hvp(t, loss, f->count, in, along, product) != TL_OK)
        fail_msg("%s", tl_tape_message(t));
    double size = 0;
    for (int k = 0; k < f->count; k++)
        for (int64_t i = 0; i < v[k]->layout.count; i++) {
            size = fmax(size, fabs(numeric[n]));
            assert_near_at(item_at(t, product[k], i), numeric[n++], tolerance, i);
        }
    assert_true(size > 1e-3); /* something was compared */
    tl_tape_free(t);
    for (int k = 0; k < f->count; k++)
        tl_tensor_release(v[k]);
}

static tl_var crossed(tl_tape *t, const tl_var *in, void *context) /* of two inputs */
{
    (void)context;
    tl_var y = tl_linear_op(t, in[0], in[1], TL_NONE);
    return tl_mean(t, tl_square(t, tl_softmax(t, tl_tanh(t, y))));
}

static void products_against_differences(void **state)
{
    (void)state;
    dice d = dice_of(2);
    scalar_function f = {.record = crossed, .count = 2};
    f.x[0] = random_tensor(&d, TL_F64, TL_SHAPE(2, 4), -1, 1);
    f.x[1] = random_tensor(&d, TL_F64, TL_SHAPE(3, 4), -1, 1);
    check_hvp(&f, 1e-8);
    for (int k = 0; k < f.count; k++)
        tl_tensor_release(f.x[k]);
}

/* An LSTM of fused gates, four steps, all of its weights: the derivative of the derivative that other
 * libraries' fused kernels refuse. */
typedef struct network {
    tl_params *params;
    tl_rnn module;
    tl_tensor *x;
} network;

static tl_var lstm_loss(tl_tape *t, const tl_var *in, void *context)
{
    (void)in; /* tl_use finds the same leaves by their tensors */
    const network *n = context;
    tl_var y = tl_unroll(t, &n->module, tl_constant(t, n->x), NULL);
    return tl_mean(t, tl_square(t, y));
}

static network network_new(bool composed)
{
    dice d = dice_of(7);
    network n = {.params = tl_params_new(TL_F64, 5)};
    tl_rnn_config config = {
        .cell = &tl_lstm_cell, .input = 2, .hidden = 3, .layers = 1, .composed = composed};
    tl_rnn_init(&n.module, n.params, &config);
    n.x = random_tensor(&d, TL_F64, TL_SHAPE(4, 2, 2), -1, 1);
    return n;
}

static void network_free(network *n)
{
    tl_rnn_free(&n->module);
    tl_params_free(n->params);
    tl_tensor_release(n->x);
}

static void through_an_unrolled_lstm(void **state)
{
    (void)state;
    network n = network_new(false);
    scalar_function f = {.record = lstm_loss, .context = &n, .count = n.params->count};
    for (int k = 0; k < f.count; k++)
        f.x[k] = n.params->entry[k]->value;
    check_hvp(&f, 1e-8);

    /* the whole matrix for the recurrent weights: symmetric, and that of the gates written out */
    network written_out = network_new(true);
    tl_tape *t = tl_tape_new(NULL);
    tl_var h[2];
    for (int k = 0; k < 2; k++) {
        network *m = k ? &written_out : &n;
        tl_var w = tl_use(t, tl_params_find(m->params, "rnn.weight_hh_l0"));
        h[k] = tl_hessian(t, lstm_loss(t, NULL, m), w);
        assert_ok(t);
    }
    assert_shape(t, h[0], "[12,3,12,3]");
    assert_vars(t, h[0], h[1], 1e-12);
    tl_var flat = tl_reshape(t, h[0], TL_SHAPE(36, 36));
    assert_vars(t, flat, tl_transpose(t, flat, 0, 1), 1e-13);
    double size = 0;
    for (int i = 0; i < 36 * 36; i += 7)
        size = fmax(size, fabs(item_at(t, flat, i)));
    assert_true(size > 1e-4);
    tl_tape_free(t);
    network_free(&n);
    network_free(&written_out);
}

/* ---- jacobians ------------------------------------------------------------------------------ */

static void jacobians(void **state)
{
    (void)state;
    dice d = dice_of(3);
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(4), -1, 1),
              *w = random_tensor(&d, TL_F64, TL_SHAPE(3, 4), -1, 1);
    tl_var leaf = tl_leaf(t, x, NULL), weight = tl_leaf(t, w, NULL);
    tl_var y = tl_linear_op(t, tl_reshape(t, leaf, TL_SHAPE(1, 4)), weight, TL_NONE); /* [1,3] */
    tl_var by_x = tl_jacobian(t, y, leaf), by_w = tl_jacobian(t, y, weight);
    assert_shape(t, by_x, "[1,3,4]"); /* dy_o/dx_i = w_oi */
    assert_vars(t, tl_reshape(t, by_x, TL_SHAPE(3, 4)), weight, 0);
    assert_shape(t, by_w, "[1,3,3,4]"); /* dy_o/dw_pi = [o = p] x_i */
    for (int o = 0; o < 3; o++)
        for (int p = 0; p < 3; p++)
            for (int i = 0; i < 4; i++)
                assert_same(item_at(t, by_w, (o * 3 + p) * 4 + i), o == p ? tl_tensor_get(x, i) : 0);
    /* of a function that is curved, against J u of forward mode and J' v of reverse mode */
    tl_var z = tl_softmax(t, tl_tanh(t, leaf)), u = tl_constant(t, x), back;
    tl_var j = tl_jacobian(t, z, leaf), column = tl_reshape(t, u, TL_SHAPE(4, 1));
    assert_int_equal(tl_grad(t, z, u, 1, &leaf, false, &back), TL_OK);
    assert_vars(t, tl_reshape(t, tl_matmul(t, j, column), TL_SHAPE(4)), tl_jvp(t, z, 1, &leaf, &u),
                1e-14);
    assert_vars(t, tl_reshape(t, tl_matmul(t, tl_transpose(t, j, 0, 1), column), TL_SHAPE(4)), back,
                1e-14);
    tl_var self = tl_jacobian(t, leaf, leaf); /* the identity */
    for (int i = 0; i < 16; i++)
        assert_same(item_at(t, self, i), i % 5 == 0);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(w);
}

static void jacobians_of_nothing(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F32, TL_SHAPE(2), REALS(1, 2)),
              *none = tl_tensor_zeros(TL_F32, TL_SHAPE(0, 3), NULL);
    tl_var leaf = tl_leaf(t, x, NULL), empty = tl_leaf(t, none, NULL);
    tl_var j = tl_jacobian(t, tl_exp(t, empty), leaf);
    assert_shape(t, j, "[0,3,2]");
    j = tl_jacobian(t, tl_exp(t, leaf), empty);
    assert_shape(t, j, "[2,0,3]");
    j = tl_jacobian(t, tl_full(t, TL_F32, TL_SHAPE(3), 1), leaf); /* depends on nothing */
    assert_shape(t, j, "[3,2]");
    for (int i = 0; i < 6; i++)
        assert_same(item_at(t, j, i), 0);
    j = tl_jacobian(t, tl_exp(t, tl_leaf_untied(t, x)), leaf); /* on something else */
    assert_shape(t, j, "[2,2]");
    for (int i = 0; i < 4; i++)
        assert_same(item_at(t, j, i), 0);
    j = tl_jacobian(t, tl_sum(t, leaf), leaf);
    assert_shape(t, j, "[2]");
    assert_true(tl_value(t, j).dtype == TL_F32);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(none);
}

/* ---- linear functions ------------------------------------------------------------------------ */

static void linear_functions_have_no_curvature(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(3), REALS(1, 2, 3)), *w = zeros_like(x);
    tl_var leaf = tl_leaf(t, x, NULL), other = tl_leaf(t, w, NULL);
    tl_var y = tl_sum(t, tl_affine(t, leaf, 3, 1)), v = tl_full(t, TL_F64, TL_SHAPE(3), 1);
    const double zeros[9] = {0};
    tl_var h = tl_hessian(t, y, leaf), hv, both[2], in[] = {leaf, other}, vs[] = {v, v};
    assert_shape(t, h, "[3,3]");
    assert_value(t, h, zeros, 0);
    assert_int_equal(tl_hvp(t, y, 1, &leaf, &v, &hv), TL_OK);
    assert_value(t, hv, zeros, 0);
    /* linear in each of two, but not in both: H = [0 I; I 0] */
    tl_var product = tl_sum(t, tl_mul(t, leaf, other));
    assert_int_equal(tl_hvp(t, product, 2, in, vs, both), TL_OK);
    assert_value(t, both[0], REALS(1, 1, 1), 0);
    assert_value(t, both[1], REALS(1, 1, 1), 0);
    assert_value(t, tl_hessian(t, product, leaf), zeros, 0);
    /* an input on which nothing depends */
    assert_int_equal(tl_hvp(t, tl_sum(t, tl_exp(t, leaf)), 2, in, vs, both), TL_OK);
    assert_near(item_at(t, both[0], 2), exp(3), 1e-14);
    assert_value(t, both[1], zeros, 0);
    /* a linear loss of a curved output: H_L = 0 */
    tl_var out = tl_exp(t, leaf);
    assert_int_equal(tl_gnvp(t, tl_sum(t, out), out, 1, &leaf, &v, &hv), TL_OK);
    assert_value(t, hv, zeros, 0);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(w);
}

/* ---- Gauss-Newton ---------------------------------------------------------------------------- */

static void gauss_newton_is_what_it_says(void **state)
{
    (void)state;
    dice d = dice_of(8);
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(5, 4), -1, 1),
              *w = random_tensor(&d, TL_F64, TL_SHAPE(3, 4), -1, 1),
              *b = random_tensor(&d, TL_F64, TL_SHAPE(3), -1, 1),
              *target = tensor_of(TL_I64, TL_SHAPE(5), REALS(0, 2, 1, 1, 0)),
              *vw = random_tensor(&d, TL_F64, TL_SHAPE(3, 4), -1, 1),
              *vb = random_tensor(&d, TL_F64, TL_SHAPE(3), -1, 1);
    for (int squares = 0; squares < 2; squares++) {
        tl_var in[] = {tl_leaf(t, w, NULL), tl_leaf(t, b, NULL)}, products[2];
        tl_var v[] = {tl_constant(t, vw), tl_constant(t, vb)};
        tl_var y = tl_tanh(t, tl_linear_op(t, tl_constant(t, x), in[0], in[1])); /* [5,3] */
        tl_var loss = squares ? tl_sum(t, tl_square(t, y))
                              : tl_cross_entropy(t, y, tl_constant(t, target), TL_REDUCE_MEAN);
        assert_int_equal(tl_gnvp(t, loss, y, 2, in, v, products), TL_OK);
        tl_var jw = tl_reshape(t, tl_jacobian(t, y, in[0]), TL_SHAPE(15, 12)),
               jb = tl_reshape(t, tl_jacobian(t, y, in[1]), TL_SHAPE(15, 3));
        tl_var j = tl_concat(t, 2, (tl_var[]){jw, jb}, 1); /* [15,15] */
        tl_var flat = tl_concat(
            t, 2, (tl_var[]){tl_reshape(t, v[0], TL_SHAPE(12, 1)), tl_reshape(t, v[1], TL_SHAPE(3, 1))},
            0);
        tl_var h = tl_reshape(t, tl_hessian(t, loss, y), TL_SHAPE(15, 15));
        tl_var right = tl_matmul(t, tl_transpose(t, j, 0, 1), tl_matmul(t, h, tl_matmul(t, j, flat)));
        assert_ok(t);
        for (int i = 0; i < 15; i++)
            assert_near_at(i < 12 ? item_at(t, products[0], i) : item_at(t, products[1], i - 12),
                           item_at(t, right, i), 1e-13, i);
        /* never negative along v, which the Hessian need not be */
        tl_var along =
            tl_add(t, tl_sum(t, tl_mul(t, v[0], products[0])), tl_sum(t, tl_mul(t, v[1], products[1])));
        assert_true(tl_item(t, along) > 0);
        tl_tape_reset(t);
    }
    /* for a linear output it is the Hessian */
    tl_var leaf = tl_leaf(t, b, NULL), v = tl_constant(t, vb), gn, hv;
    tl_var out = tl_affine(t, leaf, 3, 1), loss = tl_sum(t, tl_exp(t, out));
    assert_int_equal(tl_gnvp(t, loss, out, 1, &leaf, &v, &gn), TL_OK);
    assert_int_equal(tl_hvp(t, loss, 1, &leaf, &v, &hv), TL_OK);
    assert_vars(t, gn, hv, 1e-14);
    tl_tape_free(t);
    tl_tensor *all[] = {x, w, b, target, vw, vb};
    for (int k = 0; k < COUNT_OF(all); k++)
        tl_tensor_release(all[k]);
}

/* ---- what is refused --------------------------------------------------------------------------- */

static void errors(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(3), REALS(1, 2, 3)),
              *wide = tl_tensor_zeros(TL_F64, TL_SHAPE(1, 1, 1, 2, 2), NULL);
    for (int k = 0; k < 12; k++) {
        tl_var leaf = tl_leaf(t, x, NULL), y = tl_sum(t, tl_exp(t, leaf)), out = tl_exp(t, leaf), p;
        tl_var v = tl_full(t, TL_F64, TL_SHAPE(3), 1), loss = tl_sum(t, tl_square(t, out));
        tl_var shorter = tl_full(t, TL_F64, TL_SHAPE(2), 1),
               single = tl_full(t, TL_F32, TL_SHAPE(3), 1);
        tl_var big = tl_leaf(t, wide, NULL);
        const char *message = NULL;
        tl_status status = TL_ERR_SHAPE;
        switch (k) {
        case 0:
            tl_hvp(t, y, 1, &leaf, &shorter, &p);
            message = "hvp: vector 0 is f64 [2], but the input is f64 [3]";
            break;
        case 1:
            tl_hvp(t, y, 1, &leaf, &single, &p);
            message = "hvp: vector 0 is f32 [3], but the input is f64 [3]";
            break;
        case 2:
            tl_hvp(t, out, 1, &leaf, &v, &p);
            message = "grad: an output of shape [3] needs an output_grad";
            break;
        case 3:
            tl_hvp(t, y, 0, NULL, NULL, NULL);
            message = "hvp: no inputs";
            status = TL_ERR_ARGUMENT;
            break;
        case 4:
            tl_hvp(t, y, 1, &v, &v, &p);
            message = "grad: input 0 wants no gradient: it depends on no leaf";
            status = TL_ERR_ARGUMENT;
            break;
        case 5:
            tl_gnvp(t, loss, out, 1, &leaf, &shorter, &p);
            message = "jvp: tangent 0 is f64 [2], but the input is f64 [3]";
            break;
        case 6:
            tl_gnvp(t, out, out, 1, &leaf, &v, &p);
            message = "grad: an output of shape [3] needs an output_grad";
            break;
        case 7:
            tl_gnvp(t, loss, out, 0, NULL, NULL, NULL);
            message = "gnvp: no inputs";
            status = TL_ERR_ARGUMENT;
            break;
        case 8:
            p = tl_hessian(t, big, big);
            message = "grad: an output of shape [1,1,1,2,2] needs an output_grad";
            break;
        case 9:
            p = tl_jacobian(t, big, big);
            message = "jacobian: [1,1,1,2,2] by [1,1,1,2,2] has 10 dimensions, at most 8";
            break;
        case 10:
            p = tl_jacobian(t, y, v);
            message = "grad: input 0 wants no gradient: it depends on no leaf";
            status = TL_ERR_ARGUMENT;
            break;
        default:
            p = tl_jacobian(t, TL_NONE, leaf);
            message = "jacobian: a required variable is TL_NONE";
            status = TL_ERR_ARGUMENT;
        }
        if (k != 3 && k != 7)
            assert_null(tl_value(t, p).data);
        assert_error(t, status, message);
    }
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rosenbrocks_hessian),
        cmocka_unit_test(third_derivatives),
        cmocka_unit_test(vectors_that_depend_on_the_inputs),
        cmocka_unit_test(products_against_differences),
        cmocka_unit_test(through_an_unrolled_lstm),
        cmocka_unit_test(jacobians),
        cmocka_unit_test(jacobians_of_nothing),
        cmocka_unit_test(linear_functions_have_no_curvature),
        cmocka_unit_test(gauss_newton_is_what_it_says),
        cmocka_unit_test(errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
