/* Ops by name, constants as JSON. */
#include "support.h"

#include "autograd/inspect.h"
#include "autograd/named.h"

/* ---- the list ----------------------------------------------------------------------------- */

static void every_op_is_described(void **state)
{
    (void)state;
    tl_op_info info;
    for (int k = 0; k < tl_op_count(); k++) {
        const tl_op *op = tl_op_at(k);
        assert_int_equal(tl_op_describe(k, &info), TL_OK);
        assert_true(info.name && info.name[0] && info.equation && info.equation[0] && info.attributes);
        assert_ptr_equal(tl_op_find(info.name), op); /* no name twice */
        assert_string_equal(info.name, op->name);
        assert_true(info.least >= 1 && (info.most < 0 || info.most >= info.least));
        assert_true(info.differentiable == 0 || info.differentiable == 1);
        if (op->kind == TL_NOT_DIFFERENTIABLE || op->mask_result)
            assert_int_equal(info.differentiable, 0);
        else
            assert_int_equal(info.differentiable, 1);
    }
    assert_int_equal(tl_op_describe(-1, &info), TL_ERR_INDEX);
    assert_int_equal(tl_op_describe(tl_op_count(), &info), TL_ERR_INDEX);
    assert_null(tl_op_find("no such op"));
    assert_null(tl_op_find(""));
}

/* ---- constants of every sample ------------------------------------------------------------- */

static tl_var operand(tl_tape *t, const tl_sample *s, int k, dice *d)
{
    int64_t below = s->x[k].below;
    tl_dtype dtype = below > 0 ? TL_I64 : below < 0 ? TL_U8 : TL_F64;
    tl_tensor *x = tl_tensor_empty(dtype, s->x[k].ndim, s->x[k].shape, NULL);
    assert_non_null(x);
    for (int64_t i = 0; i < x->layout.count; i++)
        tl_tensor_set(x, i,
                      below ? (double)dice_below(d, below > 0 ? below : 2)
                            : dice_real(d, s->x[k].low, s->x[k].high));
    tl_var v = tl_constant(t, x);
    tl_tensor_release(x);
    return v;
}

static void constants_make_the_round_trip(void **state)
{
    (void)state;
    char text[512], again[512];
    for (int k = 0; k < tl_op_count(); k++) {
        const tl_op *op = tl_op_at(k);
        for (const tl_sample *s = op->samples; s && s->count; s++) {
            tl_attr attr, expected = s->attr;
            tl_error error = {0};
            if (!op->attributes || !strstr(op->attributes, "=f0")) /* samples that ops share */
                memset(expected.f, 0, sizeof expected.f);
            tl_attr_to_json(op, &s->attr, sizeof text, text);
            if (tl_attr_from_json(op, text, &attr, &error) != TL_OK)
                fail_msg("%s: %s from %s", op->name, error.message, text);
            if (!op->attributes || !strchr(op->attributes, '*'))
                attr.n = expected.n; /* means nothing without a list */
            if (memcmp(&attr, &expected, sizeof attr) != 0)
                fail_msg("%s: sample %d: not all constants are in %s", op->name, (int)(s - op->samples),
                         text);
            assert_string_equal(tl_attr_to_json(op, &attr, sizeof again, again), text);
            if (!op->attributes)
                assert_string_equal(text, "{}");
        }
    }
}

static void an_op_by_name_is_the_op(void **state)
{
    (void)state;
    char text[512];
    tl_tape *t = tl_tape_new(NULL);
    for (int k = 0; k < tl_op_count(); k++) {
        const tl_op *op = tl_op_at(k);
        for (const tl_sample *s = op->samples; s && s->count; s++) {
            dice d = dice_of((uint64_t)k);
            tl_var in[5];
            for (int i = 0; i < s->count; i++)
                in[i] = operand(t, s, i, &d);
            tl_random before = *tl_tape_random(t); /* dropout and its like: the same dice for both */
            tl_var a = tl_apply(t, op, s->count, in, &s->attr);
            *tl_tape_random(t) = before;
            tl_var b = tl_apply_named(t, op->name, s->count, in,
                                      tl_attr_to_json(op, &s->attr, sizeof text, text));
            if (tl_tape_status(t) != TL_OK)
                fail_msg("%s: %s", op->name, tl_tape_message(t));
            assert_vars(t, b, a, 0);
            assert_true(tl_graph_hash(t, 1, &a, s->count, in) == tl_graph_hash(t, 1, &b, s->count, in));
            tl_tape_reset(t);
        }
    }
    tl_tape_free(t);
}

/* ---- every kind of constant ----------------------------------------------------------------- */

static const tl_op all_kinds = {
    .name = "all_kinds",
    .attributes = "dim=i0 pair=i1:2 rest=i3* eps=f0 scale=f1 keepdim=flag.0 largest=flag.3"};
static const tl_op words = {.name = "words", .attributes = "reduction=flag:mean,sum,none"};
static const tl_op flagged = {.name = "flagged", .attributes = "keepdim=flag axes=i*"};
static const tl_op list_first = {.name = "list_first", .attributes = "axes=i1* dim=i0"};
static const tl_op bare = {.name = "bare"};

static void every_kind_of_constant(void **state)
{
    (void)state;
    char text[512];
    tl_attr attr;
    tl_attr given = {.i = {-1, 2, 3, 4, 5, 6}, .f = {0.125, -3}, .n = 3, .flag = 9};
    tl_attr_to_json(&all_kinds, &given, sizeof text, text);
    assert_string_equal(text, "{\"dim\": -1, \"pair\": [2, 3], \"rest\": [4, 5, 6], \"eps\": "
                              "0.125, \"scale\": -3.0, \"keepdim\": true, \"largest\": "
                              "true}");
    assert_int_equal(tl_attr_from_json(&all_kinds, text, &attr, NULL), TL_OK);
    assert_memory_equal(&attr, &given, sizeof attr);
    /* in any order, integers as reals, an empty list */
    assert_int_equal(
        tl_attr_from_json(&all_kinds,
                          "{\"largest\": true, \"keepdim\": false, \"rest\": [], \"pair\": "
                          "[7, 8], \"scale\": 2, \"eps\": \"inf\", \"dim\": 1}",
                          &attr, NULL),
        TL_OK);
    assert_true(attr.flag == 8 && attr.n == 0 && attr.f[1] == 2 && attr.i[2] == 8 && isinf(attr.f[0]));
    /* reals come back to the bit, those that JSON has no words for too */
    const double reals[] = {0.1,      1. / 3,    1e-310, 1.7e308, -1.7e308,
                            INFINITY, -INFINITY, NAN,    -0.0,    1e17};
    for (int k = 0; k < COUNT_OF(reals); k++) {
        given = (tl_attr){.f = {reals[k], reals[k]}};
        tl_attr_to_json(&tl_op_affine, &given, sizeof text, text);
        assert_int_equal(tl_attr_from_json(&tl_op_affine, text, &attr, NULL), TL_OK);
        assert_true(memcmp(attr.f, given.f, sizeof attr.f) == 0 ||
                    (isnan(attr.f[0]) && isnan(reals[k])));
    }
    given = (tl_attr){.i = {INT64_MAX, INT64_MIN}, .n = 2};
    tl_attr_to_json(&tl_op_select, &given, sizeof text, text);
    assert_int_equal(tl_attr_from_json(&tl_op_select, text, &attr, NULL), TL_OK);
    assert_memory_equal(&attr, &given, sizeof attr);
    for (int k = 0; k < 3; k++) {
        given = (tl_attr){.flag = k};
        tl_attr_to_json(&words, &given, sizeof text, text);
        assert_string_equal(text, k == 0   ? "{\"reduction\": \"mean\"}"
                                  : k == 1 ? "{\"reduction\": \"sum\"}"
                                           : "{\"reduction\": \"none\"}");
        assert_int_equal(tl_attr_from_json(&words, text, &attr, NULL), TL_OK);
        assert_int_equal(attr.flag, k);
    }
    given = (tl_attr){.n = 8, .i = {0, 1, 2, 3, 4, 5, 6, 7}, .flag = 1};
    tl_attr_to_json(&flagged, &given, sizeof text, text);
    assert_string_equal(text, "{\"keepdim\": true, \"axes\": [0, 1, 2, 3, 4, 5, 6, 7]}");
    assert_int_equal(tl_attr_from_json(&flagged, text, &attr, NULL), TL_OK);
    assert_memory_equal(&attr, &given, sizeof attr);
    assert_int_equal(tl_attr_from_json(&list_first, "{\"dim\": 3, \"axes\": []}", &attr, NULL), TL_OK);
    assert_true(attr.n == 0 && attr.i[0] == 3);
    assert_int_equal(tl_attr_from_json(&list_first, "{\"dim\": 3, \"axes\": [4]}", &attr, NULL), TL_OK);
    assert_true(attr.n == 1 && attr.i[0] == 3 && attr.i[1] == 4);
    assert_int_equal(tl_attr_from_json(&bare, NULL, &attr, NULL), TL_OK);
    assert_int_equal(tl_attr_from_json(&bare, "{}", &attr, NULL), TL_OK);
    assert_string_equal(tl_attr_to_json(&bare, &attr, sizeof text, text), "{}");
}

static void texts_are_cut(void **state)
{
    (void)state;
    char text[64], whole[64];
    const tl_attr attr = {.i = {1, 2, 3}};
    tl_attr_to_json(&tl_op_slice, &attr, sizeof whole, whole);
    for (size_t size = 1; size <= sizeof text; size++) {
        memset(text, '#', sizeof text);
        assert_ptr_equal(tl_attr_to_json(&tl_op_slice, &attr, size, text), text);
        size_t kept = strlen(whole) < size ? strlen(whole) : size - 1;
        assert_int_equal(strlen(text), kept);
        assert_memory_equal(text, whole, kept);
    }
    text[0] = '#';
    tl_attr_to_json(&tl_op_slice, &attr, 0, text);
    assert_int_equal(text[0], '#');
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void constants_that_are_wrong(void **state)
{
    (void)state;
    const struct {
        const tl_op *op;
        const char *json, *message;
    } cases[] = {
        {&tl_op_select, NULL, "select: constant \"dim\" is missing: an integer"},
        {&tl_op_select, "{\"dim\": 1}", "select: constant \"index\" is missing: an integer"},
        {&tl_op_select, "{\"dim\": 1.5, \"index\": 0}", "select: constant \"dim\" wants an integer"},
        {&tl_op_select, "{\"dim\": \"x\", \"index\": 0}", "select: constant \"dim\" wants an integer"},
        {&tl_op_select, "{\"dim\": [1, 2], \"index\": 0}", "select: constant \"dim\" wants an integer"},
        {&tl_op_select, "{\"dim\": 1, \"index\": 0, \"step\": 2}",
         "select: there is no constant \"step\"; it has: dim=i0 index=i1"},
        {&bare, "{\"dim\": 1}", "bare: there is no constant \"dim\"; it has: none"},
        {&flagged, "{\"keepdim\": true, \"axes\": 1}",
         "flagged: constant \"axes\" wants a list of at most 8 integers"},
        {&flagged, "{\"keepdim\": true, \"axes\": [0,1,2,3,4,5,6,7,8]}",
         "flagged: constant \"axes\" wants a list of at most 8 integers"},
        {&flagged, "{\"keepdim\": true, \"axes\": [0, 1.5]}",
         "flagged: constant \"axes\" wants a list of at most 8 integers"},
        {&flagged, "{\"keepdim\": \"yes\", \"axes\": []}",
         "flagged: constant \"keepdim\" wants true or false"},
        {&flagged, "{\"keepdim\": null, \"axes\": []}",
         "flagged: constant \"keepdim\" wants true or false"},
        {&words, "{\"reduction\": \"max\"}",
         "words: constant \"reduction\" wants one of mean,sum,none"},
        {&words, "{\"reduction\": \"me\"}", "words: constant \"reduction\" wants one of mean,sum,none"},
        {&words, "{\"reduction\": 1}", "words: constant \"reduction\" wants one of mean,sum,none"},
        {&words, "{}", "words: constant \"reduction\" is missing: one of mean,sum,none"},
        {&tl_op_affine, "{\"scale\": true, \"shift\": 0}", "affine: constant \"scale\" wants a number"},
        {&tl_op_affine, "{\"scale\": \"infinite\", \"shift\": 0}",
         "affine: constant \"scale\" wants a number"},
        {&tl_op_affine, "{\"scale\": 1}", "affine: constant \"shift\" is missing: a number"},
        {&all_kinds, "{\"dim\": 0, \"pair\": [1]}",
         "all_kinds: constant \"pair\" wants a list of 2 integers"},
        {&all_kinds, "{\"dim\": 0, \"pair\": 1}",
         "all_kinds: constant \"pair\" wants a list of 2 integers"},
        {&all_kinds, "{\"dim\": 0, \"pair\": [1, 2], \"rest\": [1, 2, 3, 4, 5, 6]}",
         "all_kinds: constant \"rest\" wants a list of at most 5 integers"},
        {&bare, "[]", "bare: constants are not a JSON object: []"},
        {&bare, "", "bare: constants are not a JSON object: "},
        {&bare, "{\"dim\": }", "bare: constants are not a JSON object: {\"dim\": }"},
        {&bare, "3", "bare: constants are not a JSON object: 3"},
    };
    for (int k = 0; k < COUNT_OF(cases); k++) {
        tl_attr attr;
        tl_error error = {0};
        assert_int_equal(tl_attr_from_json(cases[k].op, cases[k].json, &attr, &error), TL_ERR_ARGUMENT);
        assert_string_equal(error.message, cases[k].message);
        assert_int_equal(tl_attr_from_json(cases[k].op, cases[k].json, &attr, NULL), TL_ERR_ARGUMENT);
    }
}

static void applications_that_are_wrong(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const struct {
        const char *name;
        int count;
        const char *json;
        tl_status status;
        const char *message;
    } cases[] = {
        {"tanhh", 1, NULL, TL_ERR_ARGUMENT, "there is no op called \"tanhh\" (step 2)"},
        {"tanh", 1, "{\"x\": 1}", TL_ERR_ARGUMENT,
         "tanh: there is no constant \"x\"; it has: none (step 2)"},
        {"select", 1, "{\"dim\": 0}", TL_ERR_ARGUMENT,
         "select: constant \"index\" is missing: an integer (step 2)"},
        {"tanh", 2, NULL, TL_ERR_ARGUMENT, "tanh: wants 1..1 operands, not 2 (step 2)"},
        {"add", 1, NULL, TL_ERR_ARGUMENT, "add: wants 2..2 operands, not 1 (step 2)"},
    };
    for (int k = 0; k < COUNT_OF(cases); k++) {
        tl_scope_begin(t, "step", 2);
        tl_var x = tl_full(t, TL_F64, TL_SHAPE(3), 1), in[] = {x, x};
        tl_var y = tl_apply_named(t, cases[k].name, cases[k].count, in, cases[k].json);
        assert_null(tl_value(t, y).data);
        assert_error(t, cases[k].status, cases[k].message);
    }
    tl_tape_fail(t, TL_ERR_ARGUMENT, "the first one stays");
    tl_apply_named(t, "no such op", 0, NULL, NULL);
    assert_error(t, TL_ERR_ARGUMENT, "the first one stays");
    tl_tape_free(t);
}

/* Whatever constants, operands' dtypes and counts another language sends: a result or an error. */
static void nonsense_is_survived(void **state)
{
    (void)state;
    static const int64_t odd[] = {-1, 0, 1, 2, 3, 7, 8, 99, -99, INT32_MAX, INT64_MAX, INT64_MIN};
    char text[512];
    dice d = dice_of(12);
    tl_tape_config limit = {.memory = 64 << 20};
    tl_tape *t = tl_tape_new(&limit);
    for (int k = 0; k < tl_op_count(); k++) {
        const tl_op *op = tl_op_at(k);
        for (const tl_sample *s = op->samples; s && s->count; s++)
            for (int trial = 0; trial < 40; trial++) {
                tl_attr attr = s->attr;
                tl_var in[6];
                int count = s->count;
                for (int i = 0; i < count; i++)
                    in[i] = operand(t, s, i, &d);
                attr.i[dice_below(&d, TL_MAX_DIMS)] = odd[dice_below(&d, COUNT_OF(odd))];
                attr.i[dice_below(&d, 3)] = odd[dice_below(&d, COUNT_OF(odd))];
                if (trial % 4 == 1)
                    attr.n = (int32_t)dice_below(&d, TL_MAX_DIMS + 1);
                if (trial % 4 == 2) /* operands change places, or one is of another dtype or shape */
                    in[dice_below(&d, count)] = in[dice_below(&d, count)];
                if (trial % 4 == 3)
                    in[dice_below(&d, count)] = tl_full(
                        t, (tl_dtype)dice_below(&d, 4), (int)dice_below(&d, 4),
                        (int64_t[]){dice_below(&d, 4), dice_below(&d, 4), dice_below(&d, 4)}, 1);
                if (trial % 8 == 5 && count < 5)
                    in[count] = in[0], count++;
                tl_attr_to_json(op, &attr, sizeof text, text);
                tl_var y = tl_apply_named(t, op->name, count, in, text);
                if (tl_tape_status(t) == TL_OK)
                    assert_non_null(tl_value(t, y).layout);
                else
                    assert_true(tl_tape_message(t)[0]);
                tl_tape_reset(t);
            }
    }
    tl_tape_free(t);
}

/* ---- reading ----------------------------------------------------------------------------------- */

static void numbers_without_structs(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    int64_t shape[TL_MAX_DIMS];
    double numbers[6];
    int dtype = -1;
    tl_var x = constant_f64(t, TL_SHAPE(2, 3), REALS(1, 2, 3, 4, 5, 6)), y = tl_transpose(t, x, 0, 1);
    assert_int_equal(tl_var_shape(t, y, shape, &dtype), 2);
    assert_true(shape[0] == 3 && shape[1] == 2 && dtype == TL_F64);
    assert_int_equal(tl_var_read(t, y, 6, numbers), TL_OK);
    const double expected[] = {1, 4, 2, 5, 3, 6};
    assert_memory_equal(numbers, expected, sizeof numbers);
    tl_var mask = tl_full(t, TL_U8, 0, NULL, 1);
    assert_int_equal(tl_var_shape(t, mask, shape, NULL), 0);
    assert_int_equal(tl_var_read(t, mask, 1, numbers), TL_OK);
    assert_same(numbers[0], 1);
    assert_int_equal(tl_var_read(t, y, 5, numbers), TL_ERR_SHAPE);
    assert_error(t, TL_ERR_SHAPE, "var_read: room for 5 elements, there are 6");
    assert_int_equal(tl_var_shape(t, y, shape, &dtype), -1);
    assert_error(t, TL_ERR_STALE, "value: variable is from before the tape was reset");
    assert_int_equal(tl_var_read(t, tl_poison(t), 1, numbers), TL_ERR_STALE);
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_is_described),
        cmocka_unit_test(constants_make_the_round_trip),
        cmocka_unit_test(an_op_by_name_is_the_op),
        cmocka_unit_test(every_kind_of_constant),
        cmocka_unit_test(texts_are_cut),
        cmocka_unit_test(constants_that_are_wrong),
        cmocka_unit_test(applications_that_are_wrong),
        cmocka_unit_test(nonsense_is_survived),
        cmocka_unit_test(numbers_without_structs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
