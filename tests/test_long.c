/* A million steps are a long loop and nothing else: no recursion, in a thread with a small stack. */
#include "support.h"

#include <pthread.h>

#include "nn/unroll.h"

#if defined(NDEBUG) && !defined(TEST_SANITIZED)
enum { STEPS = 1000000 };
#else
enum { STEPS = 100000 };
#endif

enum { STACK = 64 * 1024 };

/* Sanitizers and cmocka's failures need more of a stack than the library does: what fails is told by
 * value, and looked at in the main thread. */
typedef struct result {
    tl_status status;
    char message[TL_MESSAGE_SIZE];
    double loss, grad[8];
} result;

typedef void work(tl_tape *t, result *r);

typedef struct job {
    work *work;
    result result;
} job;

static void *run(void *argument)
{
    job *j = argument;
    tl_tape *t = tl_tape_new(NULL);
    if (!t)
        return NULL;
    j->work(t, &j->result);
    j->result.status = tl_tape_status(t);
    snprintf(j->result.message, sizeof j->result.message, "%s", tl_tape_message(t));
    tl_tape_free(t);
    return NULL;
}

static result on_a_small_stack(work *work)
{
    static job j;
    pthread_t thread;
    pthread_attr_t attributes;
    j = (job){.work = work, .result = {.status = TL_ERR_CHECK}};
    assert_int_equal(pthread_attr_init(&attributes), 0);
#if !defined(TEST_SANITIZED)
    assert_int_equal(pthread_attr_setstacksize(&attributes, STACK), 0);
#endif
    assert_int_equal(pthread_create(&thread, &attributes, run, &j), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
    if (j.result.status != TL_OK)
        fail_msg("%s", j.result.message);
    return j.result;
}

/* h' = a h + b x with x = 1, H = 2: h_T = a^T h_0 + b (1 - a^T) / (1 - a), all in closed form. */
static const double decay[2] = {1 - 3e-6, 1 - 5e-6}, gain[2] = {2e-6, -1e-6}, start[2] = {0.5, -2};

static void linear_recurrence(tl_tape *t, result *r)
{
    tl_tensor *a = tensor_of(TL_F64, TL_SHAPE(2), decay), *b = tensor_of(TL_F64, TL_SHAPE(2), gain);
    tl_tensor *h0 = tensor_of(TL_F64, TL_SHAPE(2), start);
    tl_var leaf[3] = {tl_leaf(t, a, NULL), tl_leaf(t, b, NULL), tl_leaf(t, h0, NULL)}, h = leaf[2];
    for (int step = 0; step < STEPS; step++)
        h = tl_add(t, tl_mul(t, h, leaf[0]), leaf[1]);
    tl_var loss = tl_sum(t, h);
    r->loss = tl_item(t, loss);
    tl_backward(t, loss);
    for (int k = 0; k < 3 && tl_tape_status(t) == TL_OK; k++)
        for (int i = 0; i < 2; i++)
            r->grad[2 * k + i] = ((const double *)tl_value(t, tl_gradient(t, leaf[k])).data)[i];
    tl_tensor_release(a);
    tl_tensor_release(b);
    tl_tensor_release(h0);
}

static void a_long_linear_recurrence(void **state)
{
    (void)state;
    result r = on_a_small_stack(linear_recurrence);
    double loss = 0;
    for (int i = 0; i < 2; i++) {
        double a = decay[i], b = gain[i], h0 = start[i], T = STEPS;
        double power = pow(a, T), sum = (1 - power) / (1 - a);
        loss += power * h0 + b * sum;
        double dsum = (-T * power / a * (1 - a) + (1 - power)) / ((1 - a) * (1 - a));
        assert_near(r.grad[i] / (T * power / a * h0 + b * dsum), 1, 1e-9);
        assert_near(r.grad[2 + i] / sum, 1, 1e-9);
        assert_near(r.grad[4 + i] / power, 1, 1e-9);
    }
    assert_near(r.loss, loss, 1e-9);
}

/* An Elman network with a linear weight small enough that tanh is the identity to rounding: the
 * gradient of h_0 is W^T, W a rotation. It passes through unroll, stack with T operands, and products
 * that are collected. */
static void elman(tl_tape *t, result *r)
{
    const double angle = 1e-3, w[4] = {cos(angle), -sin(angle), sin(angle), cos(angle)};
    const double tiny[2] = {1e-9, -2e-9};
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_rnn m;
    tl_rnn_init(&m, params,
                &(tl_rnn_config){.cell = &tl_elman_cell, .input = 1, .hidden = 2, .layers = 1});
    for (int k = 0; k < params->count; k++)
        tl_tensor_fill(params->entry[k]->value, 0);
    const tl_param *weight_hh = tl_rnn_weight(&m, 0, 0, "weight_hh");
    memcpy(weight_hh->value->data, w, sizeof w);
    tl_tensor *h0 = tensor_of(TL_F64, TL_SHAPE(1, 2), tiny),
              *x = tl_tensor_zeros(TL_F64, TL_SHAPE(STEPS / 10, 1, 1), NULL);
    tl_var leaf = tl_leaf(t, h0, NULL), state = leaf;
    tl_unroll(t, &m, tl_constant(t, x), &state);
    tl_backward(t, tl_sum(t, tl_select(t, state, 1, 0)));
    if (tl_tape_status(t) == TL_OK) {
        memcpy(r->grad, tl_value(t, tl_gradient(t, leaf)).data, 2 * sizeof(double));
        memcpy(r->grad + 2, weight_hh->gradient->data, 4 * sizeof(double));
        r->loss = item_at(t, state, 0);
    }
    tl_tensor_release(h0);
    tl_tensor_release(x);
    tl_rnn_free(&m);
    tl_params_free(params);
}

static void a_long_network(void **state)
{
    (void)state;
    enum { T = STEPS / 10 };
    result r = on_a_small_stack(elman);
    double angle = 1e-3 * T, c = cos(angle), s = sin(angle);
    assert_near(r.loss * 1e9, c + 2 * s, 1e-8); /* first component of W^T h_0 */
    assert_near(r.grad[0], c, 1e-8);
    assert_near(r.grad[1], -s, 1e-8);
    /* dW = sum_t (W'^(T-t) e) h_{t-1}', with e = (1,0) */
    double expected[4] = {0};
    for (int step = 1; step <= T; step++) {
        double back = 1e-3 * (T - step), there = 1e-3 * (step - 1);
        double dy[2] = {cos(back), -sin(back)};
        double h[2] = {cos(there) + 2 * sin(there), sin(there) - 2 * cos(there)};
        for (int i = 0; i < 4; i++)
            expected[i] += dy[i / 2] * h[i % 2];
    }
    for (int i = 0; i < 4; i++)
        assert_near_at(r.grad[2 + i] * 1e9 / T, expected[i] / T, 1e-8, i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_linear_recurrence),
        cmocka_unit_test(a_long_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
