/* test_attention.c - attention against loops, derivatives against differences, and padding that
 * changes nothing. */
#include "support.h"

#include "autograd/gradcheck.h"
#include "nn/attention.h"

enum { T = 5, B = 4, P = 3, Q = 2, A = 6, L = 2 };

static const int64_t lengths[B] = {3, 5, 0, 1};

static const char *const names[] = {"additive", "dot", "general", "scaled dot"};

typedef struct fixture {
    tl_params *params;
    tl_attention attention;
    tl_tape *t;
    tl_tensor *outputs, *query; /* [T,B,P], [B,Q] */
} fixture;

static int64_t query_size(tl_attention_kind kind)
{
    return kind == TL_ATTEND_DOT || kind == TL_ATTEND_SCALED ? P : Q;
}

static void set_up(fixture *f, tl_attention_kind kind)
{
    dice d = dice_of(3);
    int64_t q = query_size(kind);
    f->params = tl_params_new(TL_F64, 5);
    tl_attention_init(&f->attention, f->params,
                      &(tl_attention_config){.kind = kind, .query = q, .key = P, .size = A});
    assert_string_equal(f->params->error.message, "");
    f->t = tl_tape_new(NULL);
    f->outputs = random_tensor(&d, TL_F64, TL_SHAPE(T, B, P), -2, 2);
    f->query = random_tensor(&d, TL_F64, TL_SHAPE(B, q), -2, 2);
}

static void tear_down(fixture *f)
{
    tl_tensor_release(f->outputs);
    tl_tensor_release(f->query);
    tl_tape_free(f->t);
    tl_params_free(f->params);
}

/* ---- against loops ---------------------------------------------------------------------- */

static double weight_at(const tl_linear_layer *layer, int64_t row, int64_t col)
{
    return tl_tensor_get(layer->weight->value, row * layer->weight->value->layout.shape[1] + col);
}

static double naive_score(const fixture *f, const tl_tensor *q, int64_t b, int64_t s)
{
    const tl_attention *a = &f->attention;
    double score = 0;
    int64_t size = query_size(a->config.kind);
#define Q_AT(i) tl_tensor_get(q, b *size + (i))
#define H_AT(j) tl_tensor_get(f->outputs, (s * B + b) * P + (j))
    for (int64_t k = 0; k < A && a->config.kind == TL_ATTEND_ADDITIVE; k++) {
        double sum = 0;
        for (int64_t i = 0; i < size; i++)
            sum += weight_at(&a->query, k, i) * Q_AT(i);
        for (int64_t j = 0; j < P; j++)
            sum += weight_at(&a->key, k, j) * H_AT(j);
        score += weight_at(&a->score, 0, k) * tanh(sum);
    }
    for (int64_t i = 0; i < size && a->config.kind == TL_ATTEND_GENERAL; i++)
        for (int64_t j = 0; j < P; j++)
            score += Q_AT(i) * weight_at(&a->key, i, j) * H_AT(j);
    for (int64_t i = 0;
         i < P && (a->config.kind == TL_ATTEND_DOT || a->config.kind == TL_ATTEND_SCALED); i++)
        score += Q_AT(i) * H_AT(i);
    return a->config.kind == TL_ATTEND_SCALED ? score / sqrt((double)size) : score;
}

static void naive(const fixture *f, const tl_tensor *q, int64_t b, int64_t length, double *weights,
                  double *context)
{
    double sum = 0;
    for (int64_t s = 0; s < length; s++)
        sum += exp(naive_score(f, q, b, s));
    for (int64_t j = 0; j < P; j++)
        context[j] = 0;
    for (int64_t s = 0; s < T; s++) {
        weights[s] = s < length ? exp(naive_score(f, q, b, s)) / sum : 0;
        for (int64_t j = 0; j < P; j++)
            context[j] += weights[s] * H_AT(j);
    }
}

static void attention_is_what_the_loops_say(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 4; kind++)
        for (int with_lengths = 0; with_lengths < 2; with_lengths++) {
            fixture f;
            tl_var weights;
            set_up(&f, (tl_attention_kind)kind);
            tl_attention_memory m = tl_attention_begin(f.t, &f.attention, tl_constant(f.t, f.outputs),
                                                       with_lengths ? lengths : NULL);
            tl_var c = tl_attend(f.t, &f.attention, &m, tl_constant(f.t, f.query), &weights);
            assert_ok(f.t);
            assert_shape(f.t, c, "[4,3]");
            assert_shape(f.t, weights, "[4,5]");
            for (int64_t b = 0; b < B; b++) {
                double a[T], context[P];
                naive(&f, f.query, b, with_lengths ? lengths[b] : T, a, context);
                for (int64_t s = 0; s < T; s++) {
                    double is = item_at(f.t, weights, b * T + s);
                    assert_near_at(is, a[s], 1e-14, b * T + s);
                    if (a[s] == 0)
                        assert_same(is, 0);
                }
                for (int64_t j = 0; j < P; j++)
                    assert_near_at(item_at(f.t, c, b * P + j), context[j], 1e-14, b * P + j);
            }
            tear_down(&f);
        }
}

/* [L,B,Q] in one go, and each by itself */
static void many_queries_are_as_one_and_one(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 4; kind++) {
        fixture f;
        dice d = dice_of(11);
        set_up(&f, (tl_attention_kind)kind);
        tl_tensor *many =
            random_tensor(&d, TL_F64, TL_SHAPE(L, B, query_size((tl_attention_kind)kind)), -2, 2);
        tl_attention_memory m =
            tl_attention_begin(f.t, &f.attention, tl_constant(f.t, f.outputs), lengths);
        tl_var q = tl_constant(f.t, many), weights, one_weights;
        tl_var c = tl_attend(f.t, &f.attention, &m, q, &weights);
        assert_shape(f.t, c, "[2,4,3]");
        assert_shape(f.t, weights, "[2,4,5]");
        for (int64_t i = 0; i < L; i++) {
            tl_var one = tl_attend(f.t, &f.attention, &m, tl_select(f.t, q, 0, i), &one_weights);
            assert_vars(f.t, tl_select(f.t, c, 0, i), one, 1e-14);
            assert_vars(f.t, tl_select(f.t, weights, 0, i), one_weights, 1e-14);
        }
        tl_tensor_release(many);
        tear_down(&f);
    }
}

/* ---- derivatives ------------------------------------------------------------------------ */

static tl_var context_and_weights(tl_tape *t, const tl_var *in, void *context)
{
    const fixture *f = context;
    tl_var weights;
    tl_attention_memory m = tl_attention_begin(t, &f->attention, in[0], lengths);
    tl_var c = tl_attend(t, &f->attention, &m, in[1], &weights);
    return tl_concat(t, 2, (tl_var[]){c, weights}, -1);
}

static void derivatives_are_right(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 4; kind++) {
        fixture f;
        set_up(&f, (tl_attention_kind)kind);
        tl_tensor *inputs[5] = {f.outputs, f.query};
        int count = 2;
        for (int k = 0; k < f.params->count; k++)
            inputs[count++] = f.params->entry[k]->value; /* a leaf of the same tensor is that one */
        tl_gradcheck_report report;
        if (tl_gradcheck(context_and_weights, &f, count, inputs, NULL, &report) != TL_OK)
            fail_msg("%s attention: %s", names[kind], report.message);
        if (tl_gradgradcheck(context_and_weights, &f, count, inputs, NULL, &report) != TL_OK)
            fail_msg("%s attention, second order: %s", names[kind], report.message);
        if (tl_modecheck(context_and_weights, &f, count, inputs, NULL, &report) != TL_OK)
            fail_msg("%s attention, forward mode: %s", names[kind], report.message);
        tear_down(&f);
    }
}

/* The value, and the gradients of outputs, query and parameters, in one list. */
static int with_padding(fixture *f, double padding, tl_tensor **list)
{
    int count = 0;
    for (int64_t i = 0; i < f->outputs->layout.count; i++)
        if (i / (B * P) >= lengths[i / P % B])
            tl_tensor_set(f->outputs, i, padding);
    tl_tape_reset(f->t);
    tl_zero_gradients(f->params);
    tl_var in[2] = {tl_leaf(f->t, f->outputs, NULL), tl_leaf(f->t, f->query, NULL)};
    tl_var y = context_and_weights(f->t, in, f);
    assert_int_equal(tl_backward(f->t, tl_sum(f->t, tl_square(f->t, y))), TL_OK);
    list[count++] = value_of(f->t, y);
    list[count++] = value_of(f->t, tl_gradient(f->t, in[0]));
    list[count++] = value_of(f->t, tl_gradient(f->t, in[1]));
    for (int k = 0; k < f->params->count; k++)
        list[count++] = tl_tensor_copy(f->params->entry[k]->gradient, TL_F64, NULL);
    return count;
}

static void padding_changes_nothing(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 4; kind++) {
        fixture f;
        tl_tensor *zero[6], *nan[6];
        set_up(&f, (tl_attention_kind)kind);
        int count = with_padding(&f, 0, zero);
        with_padding(&f, (double)NAN, nan);
        for (int k = 0; k < count; k++) {
            for (int64_t i = 0; i < nan[k]->layout.count; i++) {
                assert_true(isfinite(tl_tensor_get(nan[k], i)));
                assert_near_at(tl_tensor_get(nan[k], i), tl_tensor_get(zero[k], i), 0, i);
            }
            if (k == 1) /* nothing flows into it */
                for (int64_t i = 0; i < nan[k]->layout.count; i++)
                    if (i / (B * P) >= lengths[i / P % B])
                        assert_same(tl_tensor_get(nan[k], i), 0);
        }
        for (int64_t i = 2 * (P + T); i < 3 * (P + T); i++) /* row 2 has length 0 */
            assert_same(tl_tensor_get(nan[0], i), 0);
        for (int k = 0; k < count; k++) {
            tl_tensor_release(zero[k]);
            tl_tensor_release(nan[k]);
        }
        tear_down(&f);
    }
}

/* Also where exp of the scores overflows. */
static void large_scores_are_no_trouble(void **unused)
{
    (void)unused;
    fixture f;
    tl_var weights;
    set_up(&f, TL_ATTEND_DOT);
    tl_var h = tl_mul_scalar(f.t, tl_constant(f.t, f.outputs), 1e4);
    tl_attention_memory m = tl_attention_begin(f.t, &f.attention, h, lengths);
    tl_attend(f.t, &f.attention, &m, tl_constant(f.t, f.query), &weights);
    for (int64_t b = 0; b < B; b++) {
        double sum = 0;
        for (int64_t s = 0; s < T; s++)
            sum += item_at(f.t, weights, b * T + s);
        assert_near_at(sum, lengths[b] ? 1 : 0, 1e-14, b);
    }
    tear_down(&f);
}

/* ---- in words --------------------------------------------------------------------------- */

static void check_refused(tl_attention_config config, const char *message)
{
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_attention attention;
    tl_attention_init(&attention, params, &config);
    assert_string_equal(params->error.message, message);
    tl_params_free(params);
}

static void mistakes_are_named(void **unused)
{
    (void)unused;
    fixture f;
    check_refused((tl_attention_config){.kind = TL_ATTEND_DOT, .query = 2, .key = 3},
                  "dot attention: query 2 and key 3 must be the same");
    check_refused((tl_attention_config){.kind = TL_ATTEND_GENERAL, .query = 2},
                  "general attention: query 2 and key 0 must be at least 1, size 0 at least 0");
    check_refused((tl_attention_config){.kind = (tl_attention_kind)7, .query = 2, .key = 3},
                  "attention: there is no kind 7");
    set_up(&f, TL_ATTEND_ADDITIVE);
    const int64_t wrong[B] = {3, 5, 6, 1};
    tl_var h = tl_constant(f.t, f.outputs);
    tl_attention_begin(f.t, &f.attention, h, wrong);
    assert_error(f.t, TL_ERR_ARGUMENT, "attention: length 6 of row 2 is not within 0..5");
    tl_attention_begin(f.t, &f.attention, tl_full(f.t, TL_F64, TL_SHAPE(T, B, P + 1), 0), lengths);
    assert_error(f.t, TL_ERR_SHAPE,
                 "attention: wants the encoder's outputs, [T,B,3] with T >= 1, not [5,4,4]");
    tl_attention_memory m = tl_attention_begin(f.t, &f.attention, tl_constant(f.t, f.outputs), lengths);
    tl_attend(f.t, &f.attention, &m, tl_full(f.t, TL_F64, TL_SHAPE(B - 1, Q), 0), NULL);
    assert_error(f.t, TL_ERR_SHAPE, "attention: wants a query [..,4,2], not [3,2] (attention)");
    tear_down(&f);
}

static void parameters_have_names(void **unused)
{
    (void)unused;
    fixture f;
    set_up(&f, TL_ATTEND_ADDITIVE);
    assert_int_equal(f.params->count, 3);
    assert_non_null(tl_params_find(f.params, "attention.query.weight"));
    assert_non_null(tl_params_find(f.params, "attention.key.weight"));
    assert_non_null(tl_params_find(f.params, "attention.score.weight"));
    tear_down(&f);
    set_up(&f, TL_ATTEND_DOT);
    assert_int_equal(f.params->count, 0);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_what_the_loops_say),
        cmocka_unit_test(many_queries_are_as_one_and_one),
        cmocka_unit_test(derivatives_are_right),
        cmocka_unit_test(padding_changes_nothing),
        cmocka_unit_test(large_scores_are_no_trouble),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(parameters_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
