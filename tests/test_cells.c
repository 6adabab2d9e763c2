/* test_cells.c - the two forms of the LSTM's gates are one function: values, gradients, and the
 * gradients of gradients, in f64 to 1e-12 of the largest. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "autograd/ops.h"
#include "nn/unroll.h"

enum { T = 6, B = 3, I = 4, H = 5, LAYERS = 2, MOST = 16 };

typedef struct form {
    tl_params *params;
    tl_rnn rnn;
    tl_tape *t;
    uint32_t unrolled; /* variables that the network takes */
    tl_var leaf[MOST], y, grad[MOST], grad_of_grad[MOST];
} form;

static tl_tensor *normal(uint64_t seed, int ndim, const int64_t *shape)
{
    tl_random random = tl_random_seed(seed);
    tl_tensor *x = tl_tensor_zeros(TL_F64, ndim, shape, NULL);
    assert_non_null(x);
    assert_int_equal(tl_random_normal(&random, x, 0, 1), TL_OK);
    return x;
}

/* y = unrolled network; g = gradients of y . w1; gg = gradients of sum of g . g */
static void build(form *f, bool composed, int threads)
{
    f->params = tl_params_new(TL_F64, 7);
    tl_rnn_config config = {.cell = &tl_lstm_cell,
                            .options = &(tl_lstm_options){.forget_bias = 1},
                            .input = I,
                            .hidden = H,
                            .layers = LAYERS,
                            .composed = composed};
    tl_rnn_init(&f->rnn, f->params, &config);
    assert_int_equal(tl_params_status(f->params), TL_OK);
    f->t = tl_tape_new(&(tl_tape_config){.threads = threads});
    tl_tensor *x = normal(11, TL_SHAPE(T, B, I)), *w = normal(13, TL_SHAPE(T, B, H));
    tl_var state[2 * LAYERS] = {TL_NONE, TL_NONE, TL_NONE, TL_NONE};
    for (int k = 0; k < f->params->count; k++)
        f->leaf[k] = tl_use(f->t, f->params->entry[k]);
    f->y = tl_unroll(f->t, &f->rnn, tl_constant(f->t, x), state);
    f->unrolled = tl_tape_measure(f->t).variables;
    tl_var last_c = tl_sum(f->t, tl_square(f->t, state[2 * LAYERS - 1]));
    tl_var loss = tl_add(f->t, tl_sum(f->t, tl_mul(f->t, f->y, tl_constant(f->t, w))), last_c);
    int n = f->params->count;
    assert_int_equal(tl_grad(f->t, loss, TL_NONE, n, f->leaf, true, f->grad), TL_OK);
    tl_var squares = tl_full(f->t, TL_F64, 0, NULL, 0);
    for (int k = 0; k < n; k++)
        squares = tl_add(f->t, squares, tl_sum(f->t, tl_square(f->t, f->grad[k])));
    assert_int_equal(tl_grad(f->t, squares, TL_NONE, n, f->leaf, false, f->grad_of_grad), TL_OK);
    assert_int_equal(tl_backward_retain(f->t, loss), TL_OK); /* off the record: the kernel */
    tl_tensor_release(x);
    tl_tensor_release(w);
}

static void drop(form *f)
{
    tl_tape_free(f->t);
    tl_rnn_free(&f->rnn);
    tl_params_free(f->params);
}

static void same(const char *what, tl_array a, tl_array b)
{
    double largest = 0, worst = 0;
    int64_t at = 0;
    assert_true(a.data && b.data && tl_layout_same_shape(a.layout, b.layout));
    tl_tensor u = {.data = a.data, .layout = *a.layout, .dtype = a.dtype};
    tl_tensor v = {.data = b.data, .layout = *b.layout, .dtype = b.dtype};
    for (int64_t i = 0; i < a.layout->count; i++) {
        double difference = fabs(tl_tensor_get(&u, i) - tl_tensor_get(&v, i));
        largest = fmax(largest, fabs(tl_tensor_get(&u, i)));
        if (!(difference <= worst)) {
            worst = difference;
            at = i;
        }
    }
    assert_true(largest > 0);
    if (!(worst <= 1e-12 * largest))
        fail_msg("%s, element %lld: fused %+.17g, composed %+.17g", what, (long long)at,
                 tl_tensor_get(&u, at), tl_tensor_get(&v, at));
}

static void fused_and_composed_are_one_function(void **unused)
{
    (void)unused;
    form fused, composed;
    build(&fused, false, 1);
    build(&composed, true, 1);
    assert_true(fused.unrolled < composed.unrolled);
    same("outputs", tl_value(fused.t, fused.y), tl_value(composed.t, composed.y));
    for (int k = 0; k < fused.params->count; k++) {
        const char *name = fused.params->entry[k]->name;
        tl_array kernel = tl_tensor_array(fused.params->entry[k]->gradient);
        same(name, kernel, tl_tensor_array(composed.params->entry[k]->gradient));
        same(name, kernel, tl_value(fused.t, fused.grad[k])); /* kernel and equations */
        same(name, tl_value(fused.t, fused.grad[k]), tl_value(composed.t, composed.grad[k]));
        same(name, tl_value(fused.t, fused.grad_of_grad[k]),
             tl_value(composed.t, composed.grad_of_grad[k]));
    }
    drop(&fused);
    drop(&composed);
}

static void gates_that_do_not_fit_are_named(void **unused)
{
    (void)unused;
    tl_tape *t = tl_tape_new(NULL);
    tl_var h, c;
    tl_lstm_gates(t, tl_full(t, TL_F64, TL_SHAPE(3, 9), 0), tl_full(t, TL_F64, TL_SHAPE(3, 2), 0), &h,
                  &c);
    assert_int_equal(tl_tape_status(t), TL_ERR_SHAPE);
    assert_string_equal(tl_tape_message(t),
                        "lstm_gates: wants gates [B,4H] and c [B,H], not [3,9] and [3,2]");
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fused_and_composed_are_one_function),
        cmocka_unit_test(gates_that_do_not_fit_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
