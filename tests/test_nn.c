/* Parameters, initial values, layers, optimisers, clipping, files. */
#include "support.h"

#include <unistd.h>

#include "nn/clip.h"
#include "nn/init.h"
#include "nn/linear.h"
#include "nn/optim.h"
#include "nn/unroll.h"
#include "tensor/io_safetensors.h"

/* ---- parameters ------------------------------------------------------------------------- */

static void parameters(void **state)
{
    (void)state;
    tl_params *p = tl_params_new(TL_F32, 3);
    assert_non_null(p);
    assert_int_equal(tl_params_elements(p), 0);
    for (int k = 0; k < 40; k++) { /* the list grows; entries stay where they are */
        char name[16];
        snprintf(name, sizeof name, "w%d", k);
        tl_param *added = tl_params_add(p, "block.", name, TL_SHAPE(k + 1, 2));
        assert_non_null(added);
        assert_ptr_equal(p->entry[k], added);
    }
    assert_int_equal(p->count, 40);
    assert_int_equal(tl_params_elements(p), 40 * 41);
    tl_param *third = tl_params_find(p, "block.w3");
    assert_non_null(third);
    assert_string_equal(third->name, "block.w3");
    assert_int_equal(third->value->dtype, TL_F32);
    assert_int_equal(third->value->layout.shape[0], 4);
    for (int64_t i = 0; i < 8; i++)
        assert_true(tl_tensor_get(third->value, i) == 0 && tl_tensor_get(third->gradient, i) == 0);
    assert_null(tl_params_find(p, "w3"));
    assert_null(tl_params_find(p, ""));
    assert_int_equal(tl_params_status(p), TL_OK);

    assert_null(tl_params_add(p, "block", ".w3", TL_SHAPE(1)));
    assert_int_equal(tl_params_status(p), TL_ERR_ARGUMENT);
    assert_string_equal(p->error.message, "parameter block.w3 exists already");
    assert_null(tl_params_add(p, "", "new", TL_SHAPE(1))); /* sticky */
    assert_int_equal(p->count, 40);
    assert_string_equal(p->error.message, "parameter block.w3 exists already");
    tl_params_free(p);
    tl_params_free(NULL);

    p = tl_params_new(TL_F64, 3);
    assert_null(tl_params_add(p, "", "odd", TL_SHAPE(2, -1)));
    assert_int_equal(tl_params_status(p), TL_ERR_ARGUMENT);
    tl_params_free(p);
}

static void parameters_on_a_tape(void **state)
{
    (void)state;
    tl_params *p = tl_params_new(TL_F64, 3);
    tl_param *w = tl_params_add(p, "", "w", TL_SHAPE(3));
    tl_tensor_fill(w->value, 2);
    tl_tape *t = tl_tape_new(NULL);
    tl_var a = tl_use(t, w), b = tl_use(t, w);
    assert_int_equal(a.id, b.id);
    assert_int_equal(tl_backward(t, tl_sum(t, tl_mul(t, a, b))), TL_OK);
    for (int64_t i = 0; i < 3; i++)
        assert_same(tl_tensor_get(w->gradient, i), 4);
    tl_zero_gradients(p);
    for (int64_t i = 0; i < 3; i++)
        assert_true(tl_tensor_get(w->gradient, i) == 0 && tl_tensor_get(w->value, i) == 2);
    tl_use(t, NULL);
    assert_error(t, TL_ERR_ARGUMENT,
                 "parameter is NULL: the model was not built, see tl_params_status");
    tl_tape_free(t);
    tl_params_free(p);
}

/* ---- initial values --------------------------------------------------------------------- */

typedef struct spread {
    double low, high, mean, deviation;
} spread;

static spread measure(const tl_tensor *x)
{
    spread s = {INFINITY, -INFINITY, 0, 0};
    double n = (double)x->layout.count;
    for (int64_t i = 0; i < x->layout.count; i++) {
        double v = tl_tensor_get(x, i);
        s.low = fmin(s.low, v);
        s.high = fmax(s.high, v);
        s.mean += v / n;
        s.deviation += v * v / n;
    }
    s.deviation = sqrt(s.deviation - s.mean * s.mean);
    return s;
}

static void assert_uniform(const tl_tensor *x, double bound)
{
    spread s = measure(x);
    assert_true(s.low >= -bound && s.high <= bound);
    assert_true(s.low < -0.98 * bound &&
                s.high > 0.98 * bound); /* and reaches there: 4000 numbers at least */
    assert_true(x->layout.count >= 2000 && fabs(s.mean) < 0.06 * bound);
    assert_near(s.deviation / bound, 1 / sqrt(3), 0.03);
}

static void bounds_of_uniform_values(void **state)
{
    (void)state;
    for (int dtype = TL_F32; dtype <= TL_F64; dtype++) {
        tl_random random = tl_random_seed(8), again = tl_random_seed(8);
        tl_tensor *x = tl_tensor_zeros((tl_dtype)dtype, TL_SHAPE(70, 90), NULL), *y = zeros_like(x);
        assert_int_equal(tl_init_uniform(&random, x, 16), TL_OK);
        assert_uniform(x, 0.25);
        assert_int_equal(tl_init_uniform(&again, y, 16), TL_OK);
        assert_tensors(x, y, 0);
        assert_int_equal(tl_init_xavier(&random, x), TL_OK);
        assert_uniform(x, sqrt(6. / 160));
        assert_int_equal(tl_init_uniform(&random, x, 0), TL_OK); /* no inputs: nothing to add up */
        assert_same(measure(x).high, 0);
        tl_tensor_release(x);
        tl_tensor_release(y);
    }
    tl_random random = tl_random_seed(8);
    tl_tensor *vector = tl_tensor_zeros(TL_F64, TL_SHAPE(5), NULL),
              *index = tl_tensor_zeros(TL_I64, TL_SHAPE(5, 2), NULL);
    assert_int_equal(tl_init_xavier(&random, vector), TL_ERR_SHAPE);
    assert_int_equal(tl_init_orthogonal(&random, vector), TL_ERR_SHAPE);
    assert_int_equal(tl_init_xavier(&random, index), TL_ERR_DTYPE);
    assert_int_equal(tl_init_uniform(&random, index, 3), TL_ERR_DTYPE);
    tl_tensor_release(vector);
    tl_tensor_release(index);
}

/* Q Q' = 1 where rows are fewer, Q' Q = 1 where columns are. */
static void assert_orthonormal(const tl_tensor *q, double tolerance)
{
    int64_t rows = q->layout.shape[0], cols = q->layout.shape[1];
    bool wide = rows < cols;
    int64_t count = wide ? rows : cols, length = wide ? cols : rows;
    for (int64_t a = 0; a < count; a++)
        for (int64_t b = 0; b <= a; b++) {
            double sum = 0;
            for (int64_t i = 0; i < length; i++)
                sum += wide ? tl_tensor_get(q, a * cols + i) * tl_tensor_get(q, b * cols + i)
                            : tl_tensor_get(q, i * cols + a) * tl_tensor_get(q, i * cols + b);
            assert_near_at(sum, a == b, tolerance, a);
        }
}

static void orthogonal_matrices(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 1},  {5, 5}, {40, 40}, {7, 30},
                                        {30, 7}, {1, 9}, {9, 1},   {0, 4}};
    tl_random random = tl_random_seed(5);
    for (int k = 0; k < COUNT_OF(shapes); k++) {
        tl_tensor *q = tl_tensor_zeros(TL_F64, 2, shapes[k], NULL);
        tl_tensor *single = tl_tensor_zeros(TL_F32, 2, shapes[k], NULL);
        assert_int_equal(tl_init_orthogonal(&random, q), TL_OK);
        assert_int_equal(tl_init_orthogonal(&random, single), TL_OK);
        assert_orthonormal(q, 1e-12);
        assert_orthonormal(single, 1e-6);
        tl_tensor_release(q);
        tl_tensor_release(single);
    }
    double sum = 0; /* both signs: uniform over all of them, not only those with a positive diagonal */
    for (int k = 0; k < 400; k++) {
        tl_tensor *q = tl_tensor_zeros(TL_F64, TL_SHAPE(3, 3), NULL);
        assert_int_equal(tl_init_orthogonal(&random, q), TL_OK);
        sum += tl_tensor_get(q, 4) / 400;
        tl_tensor_release(q);
    }
    assert_true(fabs(sum) < 0.12); /* deviation of one: sqrt(1/3), of the mean: 0.029 */
}

static tl_rnn lstm_of(tl_params *params, tl_rnn_scheme init, double forget_bias, bool no_bias)
{
    tl_rnn m;
    tl_rnn_init(&m, params,
                &(tl_rnn_config){.cell = &tl_lstm_cell,
                                 .options = &(tl_lstm_options){.forget_bias = forget_bias},
                                 .input = 20,
                                 .hidden = 30,
                                 .layers = 2,
                                 .no_bias = no_bias,
                                 .init = init,
                                 .prefix = "enc."});
    assert_int_equal(tl_params_status(params), TL_OK);
    return m;
}

static const tl_tensor *value(const tl_params *params, const char *name)
{
    const tl_param *p = tl_params_find(params, name);
    if (!p)
        fail_msg("there is no %s", name);
    return p->value;
}

static tl_tensor *rows_of(const tl_tensor *x, int64_t from, int64_t to)
{
    tl_tensor *rows = tl_tensor_slice((tl_tensor *)(uintptr_t)x, 0, from, to, 1, NULL);
    assert_non_null(rows);
    return rows;
}

static void initial_values_of_a_network(void **state)
{
    (void)state;
    for (int init = TL_RNN_UNIFORM; init <= TL_RNN_ORTHOGONAL; init++) {
        tl_params *p = tl_params_new(TL_F64, 1), *with = tl_params_new(TL_F64, 1),
                  *without = tl_params_new(TL_F64, 1);
        tl_rnn plain = lstm_of(p, (tl_rnn_scheme)init, 0, false);
        tl_rnn forget = lstm_of(with, (tl_rnn_scheme)init, 1.5, false);
        tl_rnn bare = lstm_of(without, (tl_rnn_scheme)init, 1.5, true);
        assert_int_equal(p->count, 8);
        assert_int_equal(without->count, 4);
        assert_string_equal(p->entry[0]->name, "enc.weight_ih_l0");
        assert_null(tl_params_find(without, "enc.bias_ih_l0"));
        assert_int_equal(value(p, "enc.weight_ih_l1")->layout.shape[1], 30);
        if (init == TL_RNN_UNIFORM) {
            assert_uniform(value(p, "enc.weight_ih_l0"), 1 / sqrt(30));
            assert_uniform(value(p, "enc.weight_hh_l1"), 1 / sqrt(30));
            assert_true(measure(value(p, "enc.bias_hh_l1")).deviation > 0);
        } else {
            assert_uniform(value(p, "enc.weight_ih_l0"), sqrt(6. / 50)); /* of each gate, [30,20] */
            assert_same(measure(value(p, "enc.bias_hh_l1")).deviation, 0);
            for (int gate = 0; gate < 4; gate++) {
                tl_tensor *rows = rows_of(value(p, "enc.weight_hh_l1"), 30 * gate, 30 * gate + 30);
                if (init == TL_RNN_ORTHOGONAL)
                    assert_orthonormal(rows, 1e-12);
                else
                    assert_true(measure(rows).high <= sqrt(6. / 60));
                tl_tensor_release(rows);
            }
        }
        for (int k = 0; k < p->count; k++) /* the forget gate's input bias is the only difference */
            for (int64_t i = 0; i < p->entry[k]->value->layout.count; i++) {
                bool biased = strncmp(p->entry[k]->name, "enc.bias_ih_l", 13) == 0 && i / 30 == 1;
                assert_near(tl_tensor_get(with->entry[k]->value, i),
                            tl_tensor_get(p->entry[k]->value, i) + (biased ? 1.5 : 0), 1e-15);
            }
        tl_rnn_free(&plain);
        tl_rnn_free(&forget);
        tl_rnn_free(&bare);
        tl_params_free(p);
        tl_params_free(with);
        tl_params_free(without);
    }
}

/* ---- layers ----------------------------------------------------------------------------- */

static void linear_and_embedding(void **state)
{
    (void)state;
    tl_params *p = tl_params_new(TL_F64, 4);
    tl_linear_layer with, without;
    tl_embedding_layer table;
    tl_linear_init(&with, p, "a.", 64, 50, true);
    tl_linear_init(&without, p, "b.", 3, 2, false);
    tl_embedding_init(&table, p, "words.", 200, 30);
    assert_int_equal(tl_params_status(p), TL_OK);
    assert_int_equal(p->count, 4);
    assert_string_equal(p->entry[1]->name, "a.bias");
    assert_string_equal(p->entry[3]->name, "words.weight");
    assert_uniform(with.weight->value, 0.125);
    assert_true(fabs(measure(with.bias->value).high) <= 0.125);
    assert_null(without.bias);
    assert_near(measure(table.weight->value).deviation, 1, 0.03);

    tl_tape *t = tl_tape_new(NULL);
    const int64_t index[] = {7, 199, 7};
    tl_var y = tl_linear(t, constant_f64(t, TL_SHAPE(1, 3), REALS(1, -2, 3)), &without);
    const double *w = without.weight->value->data;
    assert_value(t, y, REALS(w[0] - 2 * w[1] + 3 * w[2], w[3] - 2 * w[4] + 3 * w[5]), 1e-15);
    tl_var e = tl_embedding(t, tl_constant_from(t, TL_I64, TL_SHAPE(3), index), &table);
    assert_shape(t, e, "[3,30]");
    for (int64_t i = 0; i < 30; i++) {
        assert_same(item_at(t, e, i), tl_tensor_get(table.weight->value, 7 * 30 + i));
        assert_same(item_at(t, e, 30 + i), tl_tensor_get(table.weight->value, 199 * 30 + i));
    }
    assert_int_equal(tl_backward(t, tl_sum(t, e)), TL_OK);
    assert_same(tl_tensor_get(table.weight->gradient, 7 * 30 + 2), 2);
    assert_same(tl_tensor_get(table.weight->gradient, 199 * 30 + 2), 1);
    assert_same(tl_tensor_get(table.weight->gradient, 8 * 30 + 2), 0);
    tl_tape_free(t);
    tl_params_free(p);

    p = tl_params_new(TL_F64, 4); /* a layer that cannot be built */
    tl_linear_init(&with, p, "", -1, 5, true);
    assert_int_equal(tl_params_status(p), TL_ERR_ARGUMENT);
    assert_true(!with.weight && !with.bias);
    tl_params_free(p);
}

/* ---- optimisers ------------------------------------------------------------------------- */

enum { N = 5, STEPS = 3 };

static double gradient_at(int step, int64_t i)
{
    return sin(1 + (double)i + 3 * step) * 2;
}

static void follow(const tl_optimizer_config *config, double (*update)(int, int64_t, double, double *))
{
    tl_params *p = tl_params_new(TL_F64, 1);
    tl_param *a = tl_params_add(p, "", "a", TL_SHAPE(N)),
             *b = tl_params_add(p, "", "b", TL_SHAPE(1, N));
    double expected[2][N], memory[2][N][2] = {0};
    for (int64_t i = 0; i < N; i++) {
        tl_tensor_set(a->value, i, expected[0][i] = 0.5 * (double)i - 1);
        tl_tensor_set(b->value, i, expected[1][i] = 3 - (double)i);
    }
    tl_optimizer *o = tl_optimizer_new(p, config);
    assert_non_null(o);
    for (int step = 0; step < STEPS; step++) {
        for (int64_t i = 0; i < N; i++) {
            tl_tensor_set(a->gradient, i, gradient_at(step, i));
            tl_tensor_set(b->gradient, i, -gradient_at(step, i + 1));
        }
        tl_optimizer_step(o);
        for (int64_t i = 0; i < N; i++) {
            double *m[2] = {memory[0][i], memory[1][i]};
            expected[0][i] = update(step + 1, i, expected[0][i], m[0]);
            expected[1][i] = update(-step - 1, i + 1, expected[1][i], m[1]);
            assert_near_at(tl_tensor_get(a->value, i), expected[0][i], 1e-14, i);
            assert_near_at(tl_tensor_get(b->value, i), expected[1][i], 1e-14, i);
            assert_same(tl_tensor_get(a->gradient, i), gradient_at(step, i)); /* left as it is */
        }
    }
    tl_optimizer_free(o);
    tl_params_free(p);
}

/* step < 0: the second parameter, whose gradients have the other sign. */
static double slope_at(int step, int64_t i)
{
    return step < 0 ? -gradient_at(-step - 1, i) : gradient_at(step - 1, i);
}

static double plain_sgd(int step, int64_t i, double p, double *memory)
{
    (void)memory;
    return p - 0.1 * slope_at(step, i);
}

static double momentum_sgd(int step, int64_t i, double p, double *memory)
{
    memory[0] = 0.9 * memory[0] + slope_at(step, i) + 0.05 * p;
    return p - 0.1 * memory[0];
}

static double adam_formula(int step, int64_t i, double p, double *memory, double b1, double b2,
                           double eps, double decay)
{
    double g = slope_at(step, i), n = abs(step);
    memory[0] = b1 * memory[0] + (1 - b1) * g;
    memory[1] = b2 * memory[1] + (1 - b2) * g * g;
    double m = memory[0] / (1 - pow(b1, n)), v = memory[1] / (1 - pow(b2, n));
    return p - 0.1 * decay * p - 0.1 * m / (sqrt(v) + eps);
}

static double adam_defaults(int step, int64_t i, double p, double *memory)
{
    return adam_formula(step, i, p, memory, 0.9, 0.999, 1e-8, 0);
}

static double adam_others(int step, int64_t i, double p, double *memory)
{
    return adam_formula(step, i, p, memory, 0.7, 0.8, 0.01, 0.2);
}

static void optimisers_follow_their_formulas(void **state)
{
    (void)state;
    follow(&(tl_optimizer_config){.kind = TL_SGD, .rate = 0.1}, plain_sgd);
    follow(&(tl_optimizer_config){.kind = TL_SGD, .rate = 0.1, .momentum = 0.9, .weight_decay = 0.05},
           momentum_sgd);
    follow(&(tl_optimizer_config){.kind = TL_ADAM, .rate = 0.1}, adam_defaults);
    follow(&(tl_optimizer_config){.kind = TL_ADAM,
                                  .rate = 0.1,
                                  .beta1 = 0.7,
                                  .beta2 = 0.8,
                                  .epsilon = 0.01,
                                  .weight_decay = 0.2},
           adam_others);
}

static void the_rate_can_be_changed(void **state)
{
    (void)state;
    tl_params *p = tl_params_new(TL_F32, 1);
    tl_param *a = tl_params_add(p, "", "a", TL_SHAPE(1));
    tl_tensor_fill(a->gradient, 1);
    tl_optimizer *o = tl_optimizer_new(p, &(tl_optimizer_config){.kind = TL_SGD, .rate = 0.5});
    tl_optimizer_step(o);
    tl_optimizer_set_rate(o, 0.25);
    tl_optimizer_step(o);
    assert_same(tl_tensor_get(a->value, 0), -0.75);
    tl_optimizer_free(o);
    tl_optimizer_free(NULL);
    tl_params_free(p);
    p = tl_params_new(TL_F32, 1); /* no parameters at all */
    o = tl_optimizer_new(p, &(tl_optimizer_config){.kind = TL_ADAM, .rate = 0.5});
    assert_non_null(o);
    tl_optimizer_step(o);
    tl_optimizer_free(o);
    tl_params_free(p);
}

static void gradients_are_clipped(void **state)
{
    (void)state;
    for (int dtype = TL_F32; dtype <= TL_F64; dtype++) {
        tl_params *p = tl_params_new((tl_dtype)dtype, 1);
        tl_param *a = tl_params_add(p, "", "a", TL_SHAPE(2)),
                 *b = tl_params_add(p, "", "b", TL_SHAPE(1, 1));
        assert_same(tl_gradient_norm(p), 0);
        assert_same(tl_clip_gradient_norm(p, 1), 0);
        tl_tensor_set(a->gradient, 0, 2);
        tl_tensor_set(a->gradient, 1, -3);
        tl_tensor_set(b->gradient, 0, 6);
        assert_near(tl_gradient_norm(p), 7, 1e-15); /* over all together */
        assert_near(tl_clip_gradient_norm(p, 7.5), 7, 1e-15);
        assert_same(tl_tensor_get(a->gradient, 1), -3);
        assert_near(tl_clip_gradient_norm(p, 3.5), 7, 1e-15);
        assert_near(tl_tensor_get(a->gradient, 0), 1, 1e-7);
        assert_near(tl_tensor_get(a->gradient, 1), -1.5, 1e-7);
        assert_near(tl_tensor_get(b->gradient, 0), 3, 1e-7);
        assert_near(tl_gradient_norm(p), 3.5, 1e-7);
        tl_tensor_set(a->gradient, 0, INFINITY);
        assert_same(tl_clip_gradient_norm(p, 1), INFINITY); /* not finite: left alone */
        assert_near(tl_tensor_get(b->gradient, 0), 3, 1e-7);
        tl_tensor_set(a->gradient, 0, NAN);
        assert_true(isnan(tl_clip_gradient_norm(p, 1)));
        assert_near(tl_tensor_get(b->gradient, 0), 3, 1e-7);
        tl_params_free(p);
    }
}

/* A norm beyond what the dtype holds, its square beyond double's is not asked for. */
static void norms_are_summed_in_double(void **state)
{
    (void)state;
    tl_params *p = tl_params_new(TL_F32, 1);
    tl_param *a = tl_params_add(p, "", "a", TL_SHAPE(3));
    tl_tensor_fill(a->gradient, 1e30);
    assert_near(tl_clip_gradient_norm(p, 1) / (sqrt(3) * 1e30), 1, 1e-6);
    assert_near(tl_tensor_get(a->gradient, 2), 1 / sqrt(3), 1e-6);
    tl_params_free(p);
}

/* ---- files ------------------------------------------------------------------------------ */

static char path[] = "/tmp/tapeloop_test_nn_XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int file = mkstemp(path);
    return file < 0 ? -1 : close(file);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static tl_params *model(tl_dtype dtype, uint64_t seed, const char *name, int64_t size)
{
    tl_params *p = tl_params_new(dtype, seed);
    tl_param *parts[] = {tl_params_add(p, "net.", "weight", TL_SHAPE(3, size)),
                         tl_params_add(p, "net.", name, TL_SHAPE(2)),
                         tl_params_add(p, "", "scale", 0, NULL)};
    for (int k = 0; k < 3; k++)
        tl_random_normal(&p->random, parts[k]->value, 0, 1);
    assert_int_equal(tl_params_status(p), TL_OK);
    return p;
}

static void a_round_trip(void **state)
{
    (void)state;
    for (int from = TL_F32; from <= TL_F64; from++)
        for (int to = TL_F32; to <= TL_F64; to++) {
            tl_error error = {.status = TL_OK};
            tl_params *a = model((tl_dtype)from, 1, "bias", 4), *b = model((tl_dtype)to, 2, "bias", 4);
            const char *const metadata[] = {"epoch", "17"};
            tl_tensor_fill(b->entry[0]->gradient, 5);
            assert_int_equal(tl_params_save(a, path, 1, metadata, &error), TL_OK);
            assert_int_equal(tl_params_load(b, path, &error), TL_OK);
            for (int k = 0; k < 3; k++) {
                assert_int_equal(b->entry[k]->value->dtype, to);
                assert_tensors(b->entry[k]->value, a->entry[k]->value,
                               from == to || from == TL_F32 ? 0 : 1e-7);
            }
            assert_same(tl_tensor_get(b->entry[0]->gradient, 0), 5);
            tl_tensor_file file;
            assert_int_equal(tl_safetensors_load(path, &file, &error), TL_OK);
            assert_int_equal(file.count, 3);
            assert_non_null(tl_tensor_file_find(&file, "net.bias"));
            assert_string_equal(tl_tensor_file_metadata(&file, "epoch"), "17");
            tl_tensor_file_free(&file);
            tl_params_free(a);
            tl_params_free(b);
        }
}

static tl_tensor **values_of(const tl_params *p)
{
    static tl_tensor *copies[16];
    for (int k = 0; k < p->count; k++)
        copies[k] = tl_tensor_copy(p->entry[k]->value, p->dtype, NULL);
    return copies;
}

static void assert_unchanged(const tl_params *p, tl_tensor **before)
{
    for (int k = 0; k < p->count; k++) {
        assert_tensors(p->entry[k]->value, before[k], 0);
        tl_tensor_release(before[k]);
    }
}

static void every_misfit_is_named_and_nothing_is_changed(void **state)
{
    (void)state;
    tl_error error = {.status = TL_OK};
    tl_params *a = model(TL_F32, 1, "bias", 4), *b = model(TL_F32, 2, "offset", 5);
    tl_params_add(b, "", "more", TL_SHAPE(1));
    tl_tensor **before = values_of(b);
    assert_int_equal(tl_params_save(a, path, 0, NULL, &error), TL_OK);
    assert_int_equal(tl_params_load(b, path, &error), TL_ERR_FORMAT);
    char expected[TL_MESSAGE_SIZE];
    snprintf(expected, sizeof expected,
             "%s does not fit the model: net.weight is f32 [3,4] in the file, [3,5] here; net.offset "
             "is missing; "
             "more is missing; net.bias is unknown",
             path);
    assert_string_equal(error.message, expected);
    assert_unchanged(b, before);

    tl_named_tensor entries[3]; /* the right names and shapes, but one is of integers */
    for (int k = 0; k < 3; k++) {
        entries[k].name = a->entry[k]->name;
        entries[k].tensor = tl_tensor_copy(a->entry[k]->value, k == 1 ? TL_I64 : TL_F32, NULL);
    }
    error = (tl_error){.status = TL_OK};
    assert_int_equal(tl_safetensors_save(path, 3, entries, 0, NULL, &error), TL_OK);
    before = values_of(a);
    assert_int_equal(tl_params_load(a, path, &error), TL_ERR_FORMAT);
    assert_non_null(strstr(error.message, "net.bias is i64 [2] in the file, [2] here"));
    assert_unchanged(a, before);
    for (int k = 0; k < 3; k++)
        tl_tensor_release(entries[k].tensor);

    error = (tl_error){.status = TL_OK};
    assert_int_equal(tl_params_load(a, "/nonexistent/file", &error), TL_ERR_IO);
    assert_non_null(strstr(error.message, "/nonexistent/file"));
    assert_int_equal(tl_params_load(a, "/nonexistent/file", NULL),
                     TL_ERR_IO); /* nobody wants to know */
    assert_int_equal(tl_params_save(a, "/nonexistent/file", 0, NULL, NULL), TL_ERR_IO);
    tl_params_free(a);
    tl_params_free(b);
}

static void misfits_without_end(void **state)
{
    (void)state;
    tl_error error = {.status = TL_OK};
    tl_params *a = model(TL_F32, 1, "bias", 4), *b = tl_params_new(TL_F32, 1);
    for (int k = 0; k < 100; k++) {
        char name[32];
        snprintf(name, sizeof name, "decoder.block.%d.weight", k);
        tl_params_add(b, "", name, TL_SHAPE(1));
    }
    assert_int_equal(tl_params_save(a, path, 0, NULL, &error), TL_OK);
    assert_int_equal(tl_params_load(b, path, &error), TL_ERR_FORMAT);
    int named = 0, more = 0;
    for (const char *at = error.message; (at = strstr(at, " is ")); at++)
        named++;
    const char *end = strstr(error.message, "; and ");
    assert_non_null(end);
    assert_int_equal(sscanf(end, "; and %d more", &more), 1);
    assert_int_equal(named + more, 103); /* what is not named is counted */
    tl_params_free(a);
    tl_params_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters),
        cmocka_unit_test(parameters_on_a_tape),
        cmocka_unit_test(bounds_of_uniform_values),
        cmocka_unit_test(orthogonal_matrices),
        cmocka_unit_test(initial_values_of_a_network),
        cmocka_unit_test(linear_and_embedding),
        cmocka_unit_test(optimisers_follow_their_formulas),
        cmocka_unit_test(the_rate_can_be_changed),
        cmocka_unit_test(gradients_are_clipped),
        cmocka_unit_test(norms_are_summed_in_double),
        cmocka_unit_test(a_round_trip),
        cmocka_unit_test(every_misfit_is_named_and_nothing_is_changed),
        cmocka_unit_test(misfits_without_end),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
