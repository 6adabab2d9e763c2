/* A tape's life: variables, errors that stick, scopes, reset and restart, ops of one's own. */
#include "support.h"

static tl_tensor *counting(int64_t n)
{
    tl_tensor *x = tl_tensor_empty(TL_F64, TL_SHAPE(n), NULL);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        tl_tensor_set(x, i, (double)(i + 1));
    return x;
}

/* ---- values ----------------------------------------------------------------------------- */

static void constants(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = counting(3);
    const int64_t indices[] = {5, -7};
    tl_var v = tl_constant(t, x), i = tl_constant_from(t, TL_I64, TL_SHAPE(2), indices);
    assert_ptr_equal(tl_value(t, v).data, x->data); /* not copied */
    assert_int_equal(tl_value(t, i).dtype, TL_I64);
    assert_value(t, i, REALS(5, -7), 0);
    assert_ptr_not_equal(tl_value(t, i).data, indices);
    tl_tensor_release(x); /* the tape has its own reference */
    assert_value(t, v, REALS(1, 2, 3), 0);
    assert_value(t, tl_full(t, TL_F32, TL_SHAPE(2, 2), -0.5), REALS(-0.5, -0.5, -0.5, -0.5), 0);
    assert_value(t, tl_full(t, TL_U8, TL_SHAPE(2), 1), REALS(1, 1), 0);
    assert_same(tl_item(t, tl_full(t, TL_I64, 0, NULL, 1e9)), 1e9);
    assert_false(tl_needs_gradient(t, v));
    assert_true(tl_is_none(tl_gradient(t, v)));
    assert_false(tl_is_none(v));
    assert_true(tl_is_none(TL_NONE));
    assert_ok(t);
    tl_tape_free(t);
    tl_tape_free(NULL);
}

static void the_first_thing_on_a_tape(void **state)
{
    (void)state;
    for (int k = 0; k < 5; k++) { /* without elements, which need no room but an address */
        tl_tape *t = tl_tape_new(NULL);
        const int64_t none[1] = {0};
        tl_tensor *x = tl_tensor_zeros(TL_F64, 1, none, NULL);
        tl_var v = k == 0   ? tl_full(t, TL_F64, 1, none, 1)
                   : k == 1 ? tl_constant_from(t, TL_I64, 1, none, NULL)
                   : k == 2 ? tl_constant(t, x)
                            : tl_leaf(t, x, NULL);
        if (k == 4)
            assert_non_null(tl_scratch(t, 0));
        assert_shape(t, v, "[0]");
        assert_non_null(tl_value(t, v).data);
        assert_ok(t);
        tl_tape_free(t);
        tl_tensor_release(x);
    }
}

static void a_value_outlives_the_tape(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var v =
        tl_transpose(t, tl_constant_from(t, TL_F32, TL_SHAPE(2, 3), (float[]){1, 2, 3, 4, 5, 6}), 0, 1);
    tl_tensor *copy = tl_value_copy(t, v);
    tl_tape_free(t);
    assert_int_equal(copy->dtype, TL_F32);
    assert_true(copy->layout.contiguous && copy->layout.shape[0] == 3);
    const double expected[] = {1, 4, 2, 5, 3, 6};
    for (int64_t i = 0; i < 6; i++)
        assert_same(tl_tensor_get(copy, i), expected[i]);
    tl_tensor_release(copy);
}

static void scratch_lives_until_the_reset(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    unsigned char *room[20];
    for (int k = 0; k < 20; k++) {
        room[k] = tl_scratch(t, 1000u * (unsigned)k + 1);
        assert_non_null(room[k]);
        assert_int_equal((uintptr_t)room[k] % 64, 0);
        memset(room[k], k, 1000u * (unsigned)k + 1);
    }
    tl_full(t, TL_F64, TL_SHAPE(50000), -1);
    for (int k = 0; k < 20; k++)
        for (int i = 0; i <= 1000 * k; i += 100)
            assert_int_equal(room[k][i], k);
    assert_null(tl_scratch(t, SIZE_MAX));
    assert_int_equal(tl_tape_status(t), TL_ERR_MEMORY);
    tl_tape_reset(t);
    assert_null(tl_scratch(t, SIZE_MAX - 10));
    assert_int_equal(tl_tape_status(t), TL_ERR_MEMORY);
    assert_null(tl_scratch(t, 1)); /* in error: nothing */
    tl_tape_reset(t);
    assert_non_null(tl_scratch(t, 1));
    tl_tape_free(t);
}

static void random_numbers_come_from_the_seed(void **state)
{
    (void)state;
    uint32_t first[2];
    for (int k = 0; k < 2; k++) {
        tl_tape *t = tl_tape_new(&(tl_tape_config){.seed = 17});
        first[k] = tl_random_u32(tl_tape_random(t));
        tl_tape_reset(t);
        assert_int_not_equal(tl_random_u32(tl_tape_random(t)), first[k]); /* the numbers go on */
        assert_true(strlen(tl_tape_kernels(t)) > 0);
        tl_tape_free(t);
    }
    assert_int_equal(first[0], first[1]);
}

/* ---- variables -------------------------------------------------------------------------- */

static void old_and_foreign_variables(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL), *other = tl_tape_new(NULL);
    tl_var old = tl_full(t, TL_F64, TL_SHAPE(2), 1), foreign = tl_full(other, TL_F64, TL_SHAPE(2), 1);
    tl_no_record_begin(t);
    tl_var loose = tl_exp(t, old);
    tl_tape_reset(t); /* in the middle of a region: which is over with it */
    assert_false(tl_needs_gradient(t, tl_full(t, TL_F64, TL_SHAPE(2), 5))); /* takes the id of `old` */
    assert_null(tl_value(t, old).data);
    assert_error(t, TL_ERR_STALE, "value: variable is from before the tape was reset");
    tl_full(t, TL_F64, TL_SHAPE(2), 5);
    assert_true(isnan(tl_item(t, old)));
    assert_error(t, TL_ERR_STALE, "item: variable is from before the tape was reset");
    assert_null(tl_value_copy(t, loose));
    assert_int_equal(tl_tape_status(t), TL_ERR_STALE);
    tl_tape_reset(t);
    tl_no_record_begin(t);
    tl_exp(t, tl_full(t, TL_F64, TL_SHAPE(2), 5)); /* takes the place of `loose` */
    tl_no_record_end(t, 0, NULL);
    tl_tanh(t, loose);
    assert_int_equal(tl_tape_status(t), TL_ERR_STALE);
    tl_tape_reset(t);
    tl_add(t, tl_full(t, TL_F64, TL_SHAPE(2), 1), foreign);
    assert_error(t, TL_ERR_STALE, "add: variable belongs to another tape");
    assert_false(tl_needs_gradient(t, foreign));
    assert_error(t, TL_ERR_STALE, "needs_gradient: variable belongs to another tape");
    assert_true(tl_is_none(tl_gradient(t, foreign)));
    assert_error(t, TL_ERR_STALE, "gradient: variable belongs to another tape");
    tl_keep_gradient(t, TL_NONE);
    assert_error(t, TL_ERR_ARGUMENT, "keep_gradient: a required variable is TL_NONE");
    assert_int_equal(tl_backward(t, TL_NONE), TL_ERR_ARGUMENT);
    assert_error(t, TL_ERR_ARGUMENT, "backward: a required variable is TL_NONE");
    assert_int_equal(tl_backward(t, foreign), TL_ERR_STALE);
    assert_error(t, TL_ERR_STALE, "backward: variable belongs to another tape");
    assert_int_equal(tl_tape_restart(t, 1, &foreign), TL_ERR_STALE);
    assert_error(t, TL_ERR_STALE, "value: variable belongs to another tape");
    assert_ok(other);
    assert_value(other, foreign, REALS(1, 1), 0); /* nobody has touched the other one */
    tl_tape_free(t);
    tl_tape_free(other);
}

static void null_tensors(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    assert_null(tl_value(t, tl_constant(t, NULL)).data);
    assert_error(t, TL_ERR_ARGUMENT, "constant: tensor is NULL");
    tl_leaf(t, NULL, NULL);
    assert_error(t, TL_ERR_ARGUMENT, "leaf: tensor is NULL");
    tl_leaf_untied(t, NULL);
    assert_error(t, TL_ERR_ARGUMENT, "leaf: tensor is NULL");
    tl_tape_free(t);
}

static void leaves_are_checked(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = counting(6), *i = tl_tensor_copy(x, TL_I64, NULL),
              *single = tl_tensor_copy(x, TL_F32, NULL);
    tl_tensor *shorter = counting(5), *wide = counting(12);
    tl_tensor *gaps = tl_tensor_slice(wide, 0, 0, 12, 2, NULL);
    tl_leaf(t, i, NULL);
    assert_error(t, TL_ERR_DTYPE, "leaf: only reals have derivatives, not i64");
    tl_leaf(t, x, single);
    assert_error(t, TL_ERR_SHAPE,
                 "leaf: value f64 [6] needs a contiguous gradient like it, not f32 [6]");
    tl_leaf(t, x, shorter);
    assert_error(t, TL_ERR_SHAPE,
                 "leaf: value f64 [6] needs a contiguous gradient like it, not f64 [5]");
    tl_leaf(t, x, gaps);
    assert_error(t, TL_ERR_SHAPE,
                 "leaf: value f64 [6] needs a contiguous gradient like it, not f64 [6]");
    assert_true(tl_needs_gradient(t, tl_leaf(t, gaps, x))); /* the value may have gaps */
    assert_ok(t);
    tl_tensor *all[] = {x, i, single, shorter, wide, gaps};
    tl_tape_free(t);
    for (int k = 0; k < COUNT_OF(all); k++)
        tl_tensor_release(all[k]);
}

/* ---- errors ----------------------------------------------------------------------------- */

static void the_first_error_stays(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL), *other = tl_tape_new(NULL);
    tl_tensor *x = counting(3), *g = zeros_like(x);
    tl_var v = tl_leaf(t, x, g), good = tl_sum(t, tl_square(t, v)), grad;
    tl_scope_begin(t, "encoder", -1);
    tl_scope_begin(t, "layer", 2);
    tl_var bad = tl_matmul(t, good, v);
    const char *message = "matmul: operand 0 wants at least 1 dimension, not [] (encoder, layer 2)";
    assert_int_equal(tl_tape_status(t), TL_ERR_SHAPE);
    assert_string_equal(tl_tape_message(t), message);
    uint32_t recorded = tl_tape_measure(t).variables;
    tl_scope_end(t);
    tl_var foreign = tl_full(other, TL_F64, TL_SHAPE(1), 1), worse[] = {bad, foreign, TL_NONE, v};
    for (int k = 0; k < COUNT_OF(worse); k++) {
        tl_add(t, worse[k], v);
        tl_detach(t, worse[k]);
        tl_concat(t, 2, (tl_var[]){v, worse[k]}, 3);
        tl_sum_axes(t, worse[k], 1, (int[]){7}, false);
        tl_reshape(t, worse[k], TL_SHAPE(-1));
        tl_slice(t, worse[k], 9, 0, 1, 1);
        tl_keep_gradient(t, worse[k]);
        tl_gradient(t, worse[k]);
        assert_true(isnan(tl_item(t, worse[k])));
        assert_int_equal(tl_value(t, worse[k]).data == NULL, k < 3); /* good values can be read still */
        assert_int_equal(tl_backward(t, worse[k]), TL_ERR_SHAPE);
        assert_int_equal(tl_grad(t, worse[k], TL_NONE, 1, &v, true, &grad), TL_ERR_SHAPE);
        assert_null(tl_value(t, grad).data);
        assert_int_equal(tl_tape_restart(t, 1, &worse[k]), TL_ERR_SHAPE);
    }
    tl_constant(t, x);
    tl_leaf(t, x, NULL);
    tl_leaf_untied(t, x);
    tl_full(t, TL_F64, TL_SHAPE(3), 0);
    tl_no_record_begin(t);
    tl_exp(t, v);
    tl_no_record_end(t, 1, &bad);
    tl_backward(t, good);
    assert_int_equal(tl_tape_fail(t, TL_ERR_CHECK, "too late"), TL_ERR_CHECK);
    assert_string_equal(tl_tape_message(t), message);
    assert_int_equal(tl_tape_status(t), TL_ERR_SHAPE);
    assert_int_equal(tl_tape_measure(t).variables, recorded);
    for (int64_t i = 0; i < 3; i++)
        assert_same(tl_tensor_get(g, i), 0); /* a walk that does not begin leaves no traces */

    tl_tape_reset(t);
    assert_int_equal(tl_tape_measure(t).live, 0);
    v = tl_leaf(t, x, g);
    assert_int_equal(tl_backward(t, tl_sum(t, tl_square(t, v))), TL_OK);
    assert_value(t, tl_gradient(t, v), REALS(2, 4, 6), 0);
    tl_tape_free(t);
    tl_tape_free(other);
    tl_tensor_release(x);
    tl_tensor_release(g);
}

/* Not even one that finds out while it computes. */
static void an_op_that_fails_records_nothing(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const int64_t indices[] = {1, 3};
    tl_var table = tl_full(t, TL_F64, TL_SHAPE(3, 2), 1),
           index = tl_constant_from(t, TL_I64, TL_SHAPE(2), indices);
    uint32_t before = tl_tape_measure(t).variables;
    assert_null(tl_value(t, tl_embedding_op(t, table, index)).data);
    assert_int_equal(tl_tape_measure(t).variables, before);
    assert_error(t, TL_ERR_INDEX, "embedding: index 3 at position 1 is not within the 3 rows");
    tl_tape_free(t);
}

static void errors_of_ones_own(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_scope_begin(t, "word", 1000000000000);
    assert_int_equal(tl_tape_fail(t, TL_ERR_ARGUMENT, "beam of %d", -1), TL_ERR_ARGUMENT);
    assert_null(tl_value(t, tl_poison(t)).data);
    assert_error(t, TL_ERR_ARGUMENT, "beam of -1 (word 1000000000000)");
    char longest[2 * TL_MESSAGE_SIZE];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = 0;
    for (int k = 0; k < 40; k++)
        tl_scope_begin(t, longest + sizeof longest - 20, k); /* more than fits the message */
    tl_tape_fail(t, TL_ERR_ARGUMENT, "%s", longest);
    assert_int_equal(strlen(tl_tape_message(t)), TL_MESSAGE_SIZE - 1);
    tl_tape_reset(t);
    for (int k = 0; k < 40; k++)
        tl_scope_begin(t, "deep", k);
    tl_tape_fail(t, TL_ERR_ARGUMENT, "short");
    assert_int_equal(strncmp(tl_tape_message(t), "short (deep 0, deep 1, ", 23), 0);
    assert_true(strlen(tl_tape_message(t)) < TL_MESSAGE_SIZE);
    tl_tape_reset(t);
    tl_tape_fail(t, TL_ERR_ARGUMENT, "outside"); /* scopes are forgotten, too */
    assert_error(t, TL_ERR_ARGUMENT, "outside");
    tl_tape_free(t);
}

static void scopes_nest(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_scope_end(t); /* without a beginning: nothing */
    tl_scope_begin(t, "a", 1);
    tl_scope_begin(t, "b", -1);
    tl_scope_end(t);
    tl_scope_begin(t, "c", 3);
    tl_tape_fail(t, TL_ERR_CHECK, "here");
    assert_error(t, TL_ERR_CHECK, "here (a 1, c 3)");
    tl_scope_begin(t, "a", 1);
    tl_scope_end(t);
    tl_scope_end(t);
    tl_tape_fail(t, TL_ERR_CHECK, "there");
    assert_error(t, TL_ERR_CHECK, "there");
    tl_tape_free(t);
}

static void items_have_one_element(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    assert_same(tl_item(t, tl_full(t, TL_F64, TL_SHAPE(1, 1), 7)), 7);
    assert_true(isnan(tl_item(t, tl_full(t, TL_F64, TL_SHAPE(2), 7))));
    assert_error(t, TL_ERR_SHAPE, "item: wants one element, not [2]");
    assert_true(isnan(tl_item(t, tl_full(t, TL_F64, TL_SHAPE(0), 7))));
    assert_error(t, TL_ERR_SHAPE, "item: wants one element, not [0]");
    tl_tape_free(t);
}

/* ---- walks that cannot be --------------------------------------------------------------- */

static void walks_are_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = counting(3), *g = zeros_like(x);
    tl_var grad, v = tl_leaf(t, x, g);
    assert_int_equal(tl_backward(t, tl_square(t, v)), TL_ERR_SHAPE);
    assert_error(t, TL_ERR_SHAPE,
                 "backward: starts from one element, not [3]; take a sum or a mean, or tl_grad");
    tl_backward(t, tl_sum(t, tl_constant(t, x)));
    assert_error(t, TL_ERR_ARGUMENT, "backward: the loss depends on no leaf that wants a gradient");
    tl_tensor *none = tl_tensor_zeros(TL_F64, TL_SHAPE(0), NULL);
    tl_backward(t, tl_leaf(t, none, NULL));
    assert_error(t, TL_ERR_SHAPE,
                 "backward: starts from one element, not [0]; take a sum or a mean, or tl_grad");
    tl_tensor_release(none);
    v = tl_leaf(t, x, g);
    tl_backward(t, tl_sum(t, tl_detach(t, v)));
    assert_error(t, TL_ERR_ARGUMENT, "backward: the loss depends on no leaf that wants a gradient");
    v = tl_leaf(t, x, g);
    tl_no_record_begin(t);
    tl_backward(t, tl_sum(t, v));
    assert_error(t, TL_ERR_ARGUMENT, "backward: the loss depends on no leaf that wants a gradient");

    v = tl_leaf(t, x, g);
    tl_grad(t, tl_square(t, v), TL_NONE, 1, &v, false, &grad);
    assert_error(t, TL_ERR_SHAPE, "grad: an output of shape [3] needs an output_grad");
    v = tl_leaf(t, x, g);
    tl_grad(t, tl_square(t, v), tl_full(t, TL_F64, TL_SHAPE(2), 1), 1, &v, false, &grad);
    assert_error(t, TL_ERR_SHAPE, "grad: output_grad is f64 [2], but the output is f64 [3]");
    v = tl_leaf(t, x, g);
    tl_grad(t, tl_square(t, v), tl_full(t, TL_F32, TL_SHAPE(3), 1), 1, &v, false, &grad);
    assert_error(t, TL_ERR_SHAPE, "grad: output_grad is f32 [3], but the output is f64 [3]");
    v = tl_leaf(t, x, g);
    tl_no_record_begin(t);
    tl_var loose = tl_square(t, v);
    tl_no_record_end(t, 1, &loose);
    tl_grad(t, tl_sum(t, v), TL_NONE, 1, &loose, false, &grad);
    assert_error(t, TL_ERR_ARGUMENT, "grad: input 0 was not recorded");
    v = tl_leaf(t, x, g);
    tl_no_record_begin(t);
    loose = tl_sum(t, v);
    tl_no_record_end(t, 1, &loose);
    tl_grad(t, loose, TL_NONE, 1, &v, false, &grad);
    assert_error(t, TL_ERR_ARGUMENT, "grad: the output was not recorded");
    v = tl_leaf(t, x, g);
    tl_no_record_begin(t);
    tl_keep_gradient(t, tl_square(t, v));
    assert_error(t, TL_ERR_ARGUMENT, "keep_gradient: the variable was not recorded");
    for (int64_t i = 0; i < 3; i++)
        assert_same(tl_tensor_get(g, i), 0);
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(g);
}

static void a_stretch_is_walked_once(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = counting(3), *g = zeros_like(x);
    tl_var v = tl_leaf(t, x, g), shared = tl_exp(t, v);
    tl_scope_begin(t, "decoder", 4);
    tl_var a = tl_sum(t, tl_square(t, shared)), b = tl_sum(t, shared), grad;
    tl_scope_end(t);
    assert_int_equal(tl_backward_retain(t, a), TL_OK);
    assert_int_equal(tl_backward(t, a), TL_OK);
    assert_int_equal(tl_backward(t, a), TL_ERR_CONSUMED);
    assert_error(
        t, TL_ERR_CONSUMED,
        "backward: sum has been walked back already; record it anew after tl_tape_reset, cut the "
        "graph before it with tl_detach, or walk the first time with tl_backward_retain (decoder 4)");
    v = tl_leaf(t, x, g);
    shared = tl_exp(t, v);
    a = tl_sum(t, tl_square(t, shared));
    b = tl_sum(t, shared);
    assert_int_equal(tl_backward(t, a), TL_OK);
    assert_int_equal(tl_grad(t, b, TL_NONE, 1, &v, false, &grad),
                     TL_ERR_CONSUMED); /* `shared` is gone */
    assert_int_equal(strncmp(tl_tape_message(t), "backward: exp has been walked back already", 42), 0);
    tl_tape_reset(t);
    v = tl_leaf(t, x, g); /* what is recorded on top of old values that were cut off goes well */
    shared = tl_exp(t, v);
    assert_int_equal(tl_backward(t, tl_sum(t, shared)), TL_OK);
    assert_int_equal(tl_backward(t, tl_sum(t, tl_mul(t, tl_detach(t, shared), v))), TL_OK);
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(g);
}

/* ---- restart ---------------------------------------------------------------------------- */

static void restart_keeps_values(void **state)
{
    (void)state;
    enum { N = 37 }; /* more than fit the stack */
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = counting(6);
    tl_var keep[N], v = tl_leaf(t, x, NULL);
    const int64_t indices[] = {3, 1, 2};
    for (int k = 0; k < N; k++)
        keep[k] = tl_affine(t, v, k, 1);
    keep[1] = tl_transpose(t, tl_reshape(t, v, TL_SHAPE(2, 3)), 0, 1); /* strided */
    keep[2] = tl_constant_from(t, TL_I64, TL_SHAPE(3), indices);
    keep[3] = tl_full(t, TL_F64, TL_SHAPE(0, 2), 1);
    keep[4] = keep[5]; /* twice */
    tl_no_record_begin(t);
    keep[6] = tl_neg(t, v); /* in a region: which is over */
    assert_int_equal(tl_tape_restart(t, N, keep), TL_OK);
    assert_int_equal(tl_tape_measure(t).variables, N);
    tl_tensor_set(x, 0, 99); /* they are copies */
    for (int k = 7; k < N; k++) {
        assert_false(tl_needs_gradient(t, keep[k]));
        for (int64_t i = 0; i < 6; i++)
            assert_same(item_at(t, keep[k], i), k * (double)(i + 1) + 1);
    }
    assert_value(t, keep[1], REALS(1, 4, 2, 5, 3, 6), 0);
    assert_shape(t, keep[1], "[3,2]");
    assert_value(t, keep[2], REALS(3, 1, 2), 0);
    assert_shape(t, keep[3], "[0,2]");
    assert_value(t, keep[4], REALS(6, 11, 16, 21, 26, 31), 0);
    assert_value(t, keep[6], REALS(-1, -2, -3, -4, -5, -6), 0);
    tl_value(t, v);
    assert_error(t, TL_ERR_STALE, "value: variable is from before the tape was reset");
    assert_int_equal(tl_tape_restart(t, 0, NULL), TL_OK);
    tl_tape_free(t);
    tl_tensor_release(x);
}

static void a_restart_that_fails_changes_nothing(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_var a = tl_full(t, TL_F64, TL_SHAPE(2), 3), keep[2] = {a, TL_NONE};
    assert_int_equal(tl_tape_restart(t, 2, keep), TL_ERR_ARGUMENT);
    assert_int_equal(keep[0].id, a.id);
    assert_int_equal(keep[0].generation, a.generation);
    assert_error(t, TL_ERR_ARGUMENT, "value: a required variable is TL_NONE");
    tl_tape_free(t);
}

/* ---- an op of one's own ----------------------------------------------------------------- */

static bool like_first(tl_call *c, tl_layout *layout)
{
    return tl_layout_make(layout, c->x[0].layout->ndim, c->x[0].layout->shape) == TL_OK;
}

static void cube_forward(tl_call *c)
{
    for (int64_t i = 0; i < c->y.layout->count; i++) {
        double x = ((const double *)c->x[0].data)[i];
        ((double *)c->y.data)[i] = c->attr->f[0] * x * x * x;
    }
}

static void cube_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_mul(c->tape, dy, tl_affine(c->tape, tl_square(c->tape, c->in[0]), 3 * c->attr->f[0], 0));
}

static void wrong_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_sum(c->tape, dy);
}

static void lazy_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    (void)c, (void)dy, (void)dx; /* a derivative that is zero */
}

static const tl_op cube = {.name = "cube",
                           .equation = "y = a x^3",
                           .kind = TL_GENERAL,
                           .least = 1,
                           .most = 1,
                           .dense = true,
                           .shape = like_first,
                           .forward = cube_forward,
                           .vjp = cube_vjp};

static void an_op_of_ones_own(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = counting(6), *g = zeros_like(x);
    tl_var v = tl_leaf(t, x, g), part = tl_slice(t, v, 0, 1, 6, 2), grad[2];
    const tl_attr attr = {.f = {0.5}};
    tl_var y = tl_apply(t, &cube, 1, &part, &attr);
    assert_value(t, y, REALS(4, 32, 108), 1e-15);
    tl_grad(t, tl_sum(t, y), TL_NONE, 1, &v, true, &grad[0]);
    tl_grad(t, tl_sum(t, grad[0]), TL_NONE, 1, &v, false, &grad[1]);
    assert_value(t, grad[0], REALS(0, 6, 0, 24, 0, 54), 1e-14);
    assert_value(t, grad[1], REALS(0, 6, 0, 12, 0, 18), 1e-14);
    assert_ok(t);

    tl_op other = cube;
    other.vjp = NULL; /* a missing derivative is found when it is recorded, and only if it is wanted */
    tl_apply(t, &other, 1, (tl_var[]){tl_detach(t, v)}, &attr);
    tl_no_record_begin(t);
    tl_apply(t, &other, 1, &v, &attr);
    tl_no_record_end(t, 0, NULL);
    assert_ok(t);
    tl_apply(t, &other, 1, &v, &attr);
    assert_error(
        t, TL_ERR_NO_DERIVATIVE,
        "cube: has no derivative, but an operand wants one; detach its operands, or apply it in a "
        "no-record region");
    other.kind = TL_NOT_DIFFERENTIABLE;
    v = tl_leaf(t, x, g);
    assert_false(tl_needs_gradient(t, tl_apply(t, &other, 1, &v, &attr)));
    assert_ok(t);

    other = cube;
    other.vjp = wrong_vjp;
    tl_backward(t, tl_sum(t, tl_apply(t, &other, 1, &v, &attr)));
    assert_error(t, TL_ERR_SHAPE,
                 "cube: its derivative for operand 0 is f64 [], but the operand is f64 [6]");
    other.vjp = lazy_vjp;
    v = tl_leaf(t, x, g);
    assert_int_equal(tl_backward(t, tl_sum(t, tl_apply(t, &other, 1, &v, NULL))), TL_OK);
    assert_true(tl_is_none(tl_gradient(t, v)));
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(g);
}

/* ---- tapes side by side ----------------------------------------------------------------- */

static void tapes_do_not_meet(void **state)
{
    (void)state;
    tl_tape *t[2] = {tl_tape_new(NULL), tl_tape_new(NULL)};
    tl_tensor *x = counting(4), *g[2] = {zeros_like(x), zeros_like(x)};
    tl_var v[2], y[2];
    for (int k = 0; k < 2; k++)
        v[k] = y[k] = tl_leaf(t[k], x, g[k]);
    for (int step = 0; step < 5; step++)
        for (int k = 0; k < 2; k++)
            y[k] = tl_mul(t[k], y[k], k ? v[1] : tl_full(t[0], TL_F64, 0, NULL, 3));
    assert_int_equal(tl_backward(t[0], tl_sum(t[0], y[0])), TL_OK);
    tl_tape_reset(t[0]);
    assert_int_equal(tl_backward(t[1], tl_sum(t[1], y[1])), TL_OK);
    for (int64_t i = 0; i < 4; i++) {
        assert_same(tl_tensor_get(g[0], i), 243);
        assert_near(tl_tensor_get(g[1], i), 6 * pow((double)(i + 1), 5), 1e-13);
    }
    tl_tape_free(t[0]);
    assert_value(t[1], v[1], REALS(1, 2, 3, 4), 0);
    tl_tape_free(t[1]);
    tl_tensor_release(x);
    tl_tensor_release(g[0]);
    tl_tensor_release(g[1]);
}

/* Many recordings on one tape: ids, layouts and leaves are forgotten each time. */
static void a_tape_is_used_again_and_again(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(6);
    for (int round = 0; round < 300; round++) {
        int64_t n = 1 + dice_below(&d, 40);
        tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(n, 3), -1, 1), *g = zeros_like(x);
        tl_var v = tl_leaf(t, x, g),
               y = tl_linear_op(t, v, v, TL_NONE); /* packed weights are forgotten, too */
        assert_int_equal(tl_backward(t, tl_sum(t, y)), TL_OK);
        for (int64_t i = 0; i < 3 * n; i++) {
            double column = 0;
            for (int64_t r = 0; r < n; r++)
                column += tl_tensor_get(x, r * 3 + i % 3);
            assert_near_at(tl_tensor_get(g, i), 2 * column, 1e-13, round);
        }
        tl_tape_reset(t);
        tl_tensor_release(x);
        tl_tensor_release(g);
    }
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constants),
        cmocka_unit_test(the_first_thing_on_a_tape),
        cmocka_unit_test(a_value_outlives_the_tape),
        cmocka_unit_test(scratch_lives_until_the_reset),
        cmocka_unit_test(random_numbers_come_from_the_seed),
        cmocka_unit_test(old_and_foreign_variables),
        cmocka_unit_test(null_tensors),
        cmocka_unit_test(leaves_are_checked),
        cmocka_unit_test(the_first_error_stays),
        cmocka_unit_test(an_op_that_fails_records_nothing),
        cmocka_unit_test(errors_of_ones_own),
        cmocka_unit_test(scopes_nest),
        cmocka_unit_test(items_have_one_element),
        cmocka_unit_test(walks_are_refused_in_words),
        cmocka_unit_test(a_stretch_is_walked_once),
        cmocka_unit_test(restart_keeps_values),
        cmocka_unit_test(a_restart_that_fails_changes_nothing),
        cmocka_unit_test(an_op_of_ones_own),
        cmocka_unit_test(tapes_do_not_meet),
        cmocka_unit_test(a_tape_is_used_again_and_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
