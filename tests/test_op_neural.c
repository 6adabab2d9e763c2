/* Layers without parameters: what the generated checks of test_ops.c and PyTorch's answers do not see.
 */
#include "support.h"

#include "autograd/named.h"

#define F(...)      tl_full(t, TL_F64, TL_SHAPE(__VA_ARGS__), 1)
#define SINGLE(...) tl_full(t, TL_F32, TL_SHAPE(__VA_ARGS__), 1)
#define INT(...)    tl_full(t, TL_I64, TL_SHAPE(__VA_ARGS__), 1)
#define MASK(...)   tl_full(t, TL_U8, TL_SHAPE(__VA_ARGS__), 1)
#define SCALAR      tl_full(t, TL_F64, 0, NULL, 1)

/* Refused with that message, and the tape as good as new after a reset. */
static void check_refused(tl_tape *t, tl_var y, tl_status status, const char *message, int line)
{
    assert_null(tl_value(t, y).data);
    check_error(t, status, message, __FILE__, line);
    assert_same(tl_item(t, tl_sum(t, tl_square(t, F(2)))), 2);
    tl_tape_reset(t);
}

#define REFUSED(y, status, message) check_refused(t, (y), (status), (message), __LINE__)

/* ---- softmax ---------------------------------------------------------------------------- */

static void softmax_along_any_dimension(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double numbers[] = {1, 2, 3, 4, 5, 7, -1, 0, 2, 2, 2, 2};
    tl_var x = constant_f64(t, TL_SHAPE(3, 2, 2), numbers);
    for (int dim = 0; dim < 3; dim++) {
        tl_var y = tl_softmax_dim(t, x, dim), z = tl_log_softmax_dim(t, x, dim - 3), e = tl_exp(t, x);
        assert_shape(t, y, "[3,2,2]");
        assert_vars(t, y, tl_div(t, e, tl_sum_axes(t, e, 1, &dim, true)), 1e-15);
        assert_vars(t, z, tl_log(t, y), 1e-14);
    }
    assert_ok(t);
    REFUSED(tl_softmax_dim(t, F(2, 3), 2), TL_ERR_INDEX, "softmax: there is no dimension 2 in [2,3]");
    REFUSED(tl_log_softmax_dim(t, F(2, 3), -3), TL_ERR_INDEX,
            "log_softmax: there is no dimension -3 in [2,3]");
    REFUSED(tl_softmax(t, SCALAR), TL_ERR_SHAPE, "softmax: wants at least one dimension, not []");
    tl_tape_free(t);
}

/* ---- dropout ---------------------------------------------------------------------------- */

enum { MANY = 20000 };

static int64_t count_kept(tl_tape *t, tl_var y, double value)
{
    tl_tensor *got = value_of(t, y);
    int64_t kept = 0;
    for (int64_t i = 0; i < got->layout.count; i++) {
        double v = tl_tensor_get(got, i);
        if (v != 0)
            assert_near_at(v, value, 1e-7, i);
        kept += v != 0;
    }
    tl_tensor_release(got);
    return kept;
}

static void dropout_keeps_so_many(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double p[] = {0.1, 0.5, 0.9};
    for (int k = 0; k < COUNT_OF(p); k++) {
        double kept = (double)count_kept(t, tl_dropout(t, F(MANY), p[k]), 1 / (1 - p[k])),
               deviation = sqrt(MANY * p[k] * (1 - p[k]));
        if (fabs(kept - MANY * (1 - p[k])) > 4 * deviation)
            fail_msg("p = %g: %g of %d kept", p[k], kept, MANY);
    }
    assert_ok(t);
    tl_tape_free(t);
}

static void dropout_is_drawn_anew_and_can_be_repeated(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(&(tl_tape_config){.seed = 5}),
            *again = tl_tape_new(&(tl_tape_config){.seed = 5});
    tl_var first = tl_dropout(t, F(64), 0.5), second = tl_dropout(t, F(64), 0.5);
    double same = 0;
    for (int64_t i = 0; i < 64; i++)
        same += item_at(t, first, i) == item_at(t, second, i);
    assert_true(same > 10 && same < 54);
    tl_tensor *expected = value_of(t, second);
    tl_dropout(again, tl_full(again, TL_F64, TL_SHAPE(64), 1), 0.5);
    tl_tensor *got = value_of(again, tl_dropout(again, tl_full(again, TL_F64, TL_SHAPE(64), 1), 0.5));
    assert_tensors(got, expected, 0);
    tl_tensor_release(got);
    tl_tensor_release(expected);
    tl_tape_free(t);
    tl_tape_free(again);
}

/* The mask of the derivative is that of the value; it depends on the index, not on dtype or strides. */
static void dropout_has_one_mask(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const char *constants = "{\"p\": 0.4, \"seed\": 9}";
    tl_tensor *ones = tl_tensor_empty(TL_F64, TL_SHAPE(5, 7), NULL);
    tl_tensor_fill(ones, 1);
    tl_var x = tl_leaf(t, ones, NULL), y = tl_apply_named(t, "dropout", 1, &x, constants), dx;
    assert_int_equal(tl_grad(t, tl_sum(t, y), TL_NONE, 1, &x, false, &dx), TL_OK);
    assert_vars(t, dx, y, 0);
    tl_var single = SINGLE(5, 7), strided = tl_transpose(t, F(7, 5), 0, 1);
    tl_var narrow = tl_expand(t, F(1, 1), TL_SHAPE(5, 7));
    assert_vars(t, tl_apply_named(t, "dropout", 1, &single, constants), y, 1e-7);
    assert_vars(t, tl_apply_named(t, "dropout", 1, &strided, constants), y, 0);
    assert_vars(t, tl_apply_named(t, "dropout", 1, &narrow, constants), y, 0);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(ones);
}

static void dropout_of_nothing_and_of_everything(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double special[] = {INFINITY, NAN, -1};
    tl_var x = constant_f64(t, TL_SHAPE(3), special);
    uint64_t drawn = tl_tape_random(t)->next;
    assert_int_equal(tl_dropout(t, x, 0).id, x.id);
    assert_true(tl_tape_random(t)->next == drawn);
    assert_value(t, tl_dropout(t, x, 1), REALS(0, 0, 0), 0); /* what is dropped is gone */
    assert_shape(t, tl_dropout(t, F(0, 3), 0.5), "[0,3]");
    assert_shape(t, tl_dropout(t, SCALAR, 0.5), "[]");
    REFUSED(tl_dropout(t, F(2), -0.1), TL_ERR_ARGUMENT, "dropout: -0.1 is not a probability");
    REFUSED(tl_dropout(t, F(2), 1.5), TL_ERR_ARGUMENT, "dropout: 1.5 is not a probability");
    tl_var y = tl_dropout(t, F(2), NAN);
    assert_null(tl_value(t, y).data);
    assert_int_equal(tl_tape_status(t), TL_ERR_ARGUMENT);
    tl_tape_reset(t);
    REFUSED(tl_dropout(t, INT(2), 0.5), TL_ERR_DTYPE, "dropout: operand 0 is i64, not a real");
    tl_tape_free(t);
}

/* ---- normalisations --------------------------------------------------------------------- */

static void norms_refuse_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    REFUSED(tl_layer_norm(t, F(2, 3), 0, TL_NONE, TL_NONE, 0), TL_ERR_ARGUMENT,
            "layer_norm: [2,3] has no 0 dimensions to normalise over");
    REFUSED(tl_layer_norm(t, F(2, 3), 3, TL_NONE, TL_NONE, 0), TL_ERR_ARGUMENT,
            "layer_norm: [2,3] has no 3 dimensions to normalise over");
    REFUSED(tl_layer_norm(t, F(2, 3), 1, F(2), TL_NONE, 0), TL_ERR_SHAPE,
            "layer_norm: operand 1 must be of the last 1 sizes of [2,3], not [2]");
    REFUSED(tl_layer_norm(t, F(2, 3), 2, F(2, 3), F(3), 0), TL_ERR_SHAPE,
            "layer_norm: operand 2 must be of the last 2 sizes of [2,3], not [3]");
    REFUSED(tl_layer_norm(t, F(2, 3), 1, TL_NONE, F(3), 0), TL_ERR_ARGUMENT,
            "layer_norm: a required variable is TL_NONE");
    REFUSED(tl_layer_norm(t, F(2, 3), 1, SINGLE(3), TL_NONE, 0), TL_ERR_DTYPE,
            "layer_norm: operands differ in dtype: f64 and f32");
    REFUSED(tl_rms_norm(t, SCALAR, 1, TL_NONE, 0), TL_ERR_ARGUMENT,
            "rms_norm: [] has no 1 dimensions to normalise over");
    REFUSED(tl_rms_norm(t, F(2, 3), 1, F(1), 0), TL_ERR_SHAPE,
            "rms_norm: operand 1 must be of the last 1 sizes of [2,3], not [1]");
    REFUSED(tl_batch_norm(t, F(3), TL_NONE, TL_NONE, TL_NONE, TL_NONE, 0), TL_ERR_SHAPE,
            "batch_norm: wants [N,C,..], not [3]");
    REFUSED(tl_batch_norm(t, F(2, 3), F(2), TL_NONE, TL_NONE, TL_NONE, 0), TL_ERR_SHAPE,
            "batch_norm: operand 1 must be of the channels of [2,3], not [2]");
    REFUSED(tl_batch_norm(t, F(2, 3), TL_NONE, TL_NONE, F(3), F(3, 1), 0), TL_ERR_SHAPE,
            "batch_norm: operand 2 must be of the channels of [2,3], not [3,1]");
    REFUSED(tl_batch_norm(t, F(2, 3), TL_NONE, TL_NONE, F(3), TL_NONE, 0), TL_ERR_ARGUMENT,
            "batch_norm: mean and variance are to be given");
    tl_var in[5] = {F(2, 3), F(3), F(3), F(3), F(3)};
    REFUSED(tl_apply_named(t, "batch_norm", 5, in, "{\"given\": false, \"eps\": 0}"), TL_ERR_ARGUMENT,
            "batch_norm: 5 operands, but no mean and variance are to be given");
    tl_tape_free(t);
}

static void norms_without_elements(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    assert_shape(t, tl_layer_norm(t, F(0, 3), 1, F(3), F(3), 1e-5), "[0,3]");
    assert_shape(t, tl_layer_norm(t, F(3, 0), 1, F(0), F(0), 1e-5), "[3,0]");
    assert_shape(t, tl_rms_norm(t, F(3, 0), 2, TL_NONE, 1e-5), "[3,0]");
    assert_shape(t, tl_batch_norm(t, F(0, 3), F(3), F(3), TL_NONE, TL_NONE, 1e-5), "[0,3]");
    assert_shape(t, tl_batch_norm(t, F(2, 0), TL_NONE, TL_NONE, F(0), F(0), 1e-5), "[2,0]");
    assert_ok(t);
    tl_tape_free(t);
}

/* What was given as statistics of the batch gives what the batch itself does. */
static void batch_norm_of_known_statistics(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(3);
    tl_tensor *numbers = random_tensor(&d, TL_F64, TL_SHAPE(4, 3, 5), -2, 9);
    tl_var x = tl_constant(t, numbers), w = F(3);
    const int axes[] = {0, 2};
    tl_var mean = tl_mean_axes(t, x, 2, axes, true), centred = tl_sub(t, x, mean);
    tl_var variance = tl_mean_axes(t, tl_square(t, centred), 2, axes, false);
    tl_var y = tl_batch_norm(t, x, w, TL_NONE, TL_NONE, TL_NONE, 1e-3);
    assert_vars(t, tl_batch_norm(t, x, w, TL_NONE, tl_reshape(t, mean, TL_SHAPE(3)), variance, 1e-3), y,
                1e-14);
    assert_near(tl_item(t, tl_mean(t, y)), 0, 1e-14);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(numbers);
}

/* ---- attention -------------------------------------------------------------------------- */

static void attention_where_nobody_listens(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const uint8_t listens[] = {1, 0, 0, 0, 0, 0};
    dice d = dice_of(8);
    tl_tensor *numbers = random_tensor(&d, TL_F32, TL_SHAPE(3, 2), -2, 2);
    tl_var q = tl_leaf_untied(t, numbers), k = tl_leaf_untied(t, numbers),
           v = tl_leaf_untied(t, numbers);
    tl_var mask = tl_constant_from(t, TL_U8, TL_SHAPE(2, 3), listens), in[3] = {q, k, v}, grads[3];
    tl_var y = tl_scaled_dot_product_attention(t, tl_slice(t, q, 0, 0, 2, 1), k, v, mask, false, 0);
    assert_shape(t, y, "[2,2]");
    for (int64_t i = 0; i < 4; i++)
        assert_near_at(item_at(t, y, i), i < 2 ? tl_tensor_get(numbers, i) : 0, 0, i);
    tl_grad(t, tl_sum(t, y), TL_NONE, 3, in, true, grads);
    assert_value(t, grads[0], REALS(0, 0, 0, 0, 0, 0), 0);
    assert_value(t, grads[1], REALS(0, 0, 0, 0, 0, 0), 0);
    assert_value(t, grads[2], REALS(1, 1, 0, 0, 0, 0), 0);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(numbers);
}

static void attention_sees_no_future(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(8);
    tl_tensor *numbers = random_tensor(&d, TL_F64, TL_SHAPE(5, 4), -2, 2);
    tl_var x = tl_leaf(t, numbers, NULL),
           y = tl_scaled_dot_product_attention(t, x, x, x, TL_NONE, true, 0), dx;
    for (int64_t step = 0; step < 5; step++) {
        tl_grad(t, tl_sum(t, tl_select(t, y, 0, step)), TL_NONE, 1, &x, true, &dx);
        for (int64_t i = 0; i < 20; i++)
            assert_true((item_at(t, dx, i) != 0) == (i / 4 <= step));
    }
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(numbers);
}

static void attention_refuses_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
#define NAME                   "scaled_dot_product_attention"
#define ATTEND(q, k, v, m, c)  tl_scaled_dot_product_attention(t, (q), (k), (v), (m), (c), 0)
#define BAD(y, status, reason) REFUSED(y, status, NAME ": " reason)
    BAD(ATTEND(F(3), F(5, 4), F(5, 4), TL_NONE, false), TL_ERR_SHAPE,
        "wants [..,L,E], [..,S,E] and [..,S,V], not [3], [5,4] and [5,4]");
    BAD(ATTEND(F(3, 4), F(5, 2), F(5, 4), TL_NONE, false), TL_ERR_SHAPE,
        "wants [..,L,E], [..,S,E] and [..,S,V], not [3,4], [5,2] and [5,4]");
    BAD(ATTEND(F(3, 4), F(5, 4), F(3, 4), TL_NONE, true), TL_ERR_SHAPE,
        "wants [..,L,E], [..,S,E] and [..,S,V], not [3,4], [5,4] and [3,4]");
    BAD(ATTEND(F(3, 4), F(5, 4), F(5, 4), F(3, 5), false), TL_ERR_DTYPE,
        "operand 3 is f64, not a mask (u8)");
    BAD(ATTEND(F(3, 4), F(5, 4), F(5, 4), MASK(3, 5), true), TL_ERR_ARGUMENT,
        "a mask and causal exclude each other");
    BAD(ATTEND(F(3, 4), SINGLE(5, 4), F(5, 4), TL_NONE, false), TL_ERR_DTYPE,
        "wants reals of one dtype, not f64 and f32");
    BAD(ATTEND(INT(3, 4), INT(5, 4), INT(5, 4), TL_NONE, false), TL_ERR_DTYPE,
        "wants reals of one dtype, not i64 and i64");
    REFUSED(ATTEND(F(3, 4), F(5, 4), F(5, 4), MASK(3, 4), false), TL_ERR_SHAPE,
            "where: shapes cannot be broadcast: [3,4] and [3,5] (" NAME ")");
#undef BAD
    assert_shape(t, ATTEND(F(0, 4), F(5, 4), F(5, 2), TL_NONE, true), "[0,2]");
    assert_value(t, ATTEND(F(2, 4), F(0, 4), F(0, 2), TL_NONE, false), REALS(0, 0, 0, 0), 0);
    assert_value(t, ATTEND(F(2, 4), F(0, 4), F(0, 2), TL_NONE, true), REALS(0, 0, 0, 0), 0);
    assert_ok(t);
    tl_tape_free(t);
}

/* ---- cosine similarity ------------------------------------------------------------------ */

static void cosine_similarity_at_its_edges(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double numbers[] = {3, -4, 1, 1};
    tl_var x = constant_f64(t, TL_SHAPE(2, 2), numbers), y = constant_f64(t, TL_SHAPE(2), numbers);
    assert_value(t, tl_cosine_similarity(t, x, y, -1, 1e-8), REALS(1, -0.1 * sqrt(2)), 1e-15);
    assert_shape(t, tl_cosine_similarity(t, x, y, -2, 1e-8), "[2]");
    assert_shape(t, tl_cosine_similarity(t, F(2, 0), F(0), 1, 1e-8), "[2]");
    REFUSED(tl_cosine_similarity(t, F(2, 3), F(4), 1, 0), TL_ERR_SHAPE,
            "cosine_similarity: shapes cannot be broadcast: [2,3] and [4]");
    REFUSED(tl_cosine_similarity(t, F(2, 3), F(4, 1, 1), 3, 0), TL_ERR_INDEX,
            "cosine_similarity: there is no dimension 3 in [4,2,3]");
    REFUSED(tl_cosine_similarity(t, F(3), F(3), -2, 0), TL_ERR_INDEX,
            "cosine_similarity: there is no dimension -2 in [3]");
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_along_any_dimension),
        cmocka_unit_test(dropout_keeps_so_many),
        cmocka_unit_test(dropout_is_drawn_anew_and_can_be_repeated),
        cmocka_unit_test(dropout_has_one_mask),
        cmocka_unit_test(dropout_of_nothing_and_of_everything),
        cmocka_unit_test(norms_refuse_in_words),
        cmocka_unit_test(norms_without_elements),
        cmocka_unit_test(batch_norm_of_known_statistics),
        cmocka_unit_test(attention_where_nobody_listens),
        cmocka_unit_test(attention_sees_no_future),
        cmocka_unit_test(attention_refuses_in_words),
        cmocka_unit_test(cosine_similarity_at_its_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
