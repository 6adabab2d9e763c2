/* test_cell.c - the contract of a cell, from the side of one who writes cells: what its states begin
 * with, weights of three dimensions, what a step is told, and mistakes, each answered in words. */
#include "tests/support.h"

#include "nn/unroll.h"

/* ---- a cell that can be spoilt ------------------------------------------------------------
 *
 *     h' = tanh(w x + u h + b) */

typedef struct plain {
    tl_var w, u, b;
} plain;

static tl_var next(const tl_cell_call *c, tl_var x, tl_var h)
{
    const plain *w = c->weights;
    return tl_tanh(c->tape, tl_linear_op(c->tape, h, w->u, tl_linear_op(c->tape, x, w->w, w->b)));
}

static void plain_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    state[0] = next(c, x, state[0]);
}

#define W_AND_U TL_WEIGHT(plain, w, .shape = "H,I"), TL_WEIGHT(plain, u, .shape = "H,H")
#define LIST(...)                                                                                      \
    (const tl_cell_weight[])                                                                           \
    {                                                                                                  \
        __VA_ARGS__, TL_WEIGHTS_END                                                                    \
    }
#define STATE .states = {{"h", "H"}}
#define PLAIN .name = "plain", .bytes = sizeof(plain)

enum { T = 5, B = 2, I = 3, H = 4 };

static tl_var xs(tl_tape *t)
{
    tl_random random = tl_random_seed(11);
    tl_tensor *x = tl_tensor_zeros(TL_F64, TL_SHAPE(T, B, I), NULL);
    assert_non_null(x);
    tl_random_normal(&random, x, 0, 1);
    tl_var v = tl_constant(t, x);
    tl_tensor_release(x);
    return v;
}

/* ---- mistakes in what a cell says of itself ----------------------------------------------- */

#define KNOWN "; H, I and P are, others the cell's `size` must tell"

static void mistakes_of_the_lists(void **state)
{
    (void)state;
    const char *one_row =
        "rnn of plain cells: state h: \"B,H\": the size of B is not known, shapes are "
        "those of one row of the batch" KNOWN;
    const tl_cell_weight endless[] = {W_AND_U, TL_WEIGHT(plain, b, .shape = "H"),
                                      TL_WEIGHT(plain, b, .shape = "H")};
    const tl_cell_weight *good = LIST(W_AND_U, TL_WEIGHT(plain, b, .shape = "H"));
    const struct {
        tl_cell_type type;
        const char *message;
    } cases[] = {
        {{PLAIN, .weights = LIST(W_AND_U), .step = plain_step, STATE},
         "rnn of plain cells: its struct has 3 variables, its list 2 weights: number 3 of the struct "
         "has "
         "none"},
        {{PLAIN, .weights = endless, .step = plain_step, STATE},
         "rnn of plain cells: its list has more weights than its struct has variables, 3; or no "
         "TL_WEIGHTS_END"},
        {{PLAIN, .weights = LIST(W_AND_U, TL_WEIGHT(plain, b, .shape = "h")), .step = plain_step,
          STATE},
         "rnn of plain cells: weight b: \"h\": the size of h is not known" KNOWN},
        {{PLAIN, .weights = LIST(W_AND_U, TL_WEIGHT(plain, b, .shape = "H,")), .step = plain_step,
          STATE},
         "rnn of plain cells: weight b: \"H,\" is not a shape: sizes with commas between, each a "
         "number, a letter or both, as \"4H,I\""},
        {{PLAIN, .weights = LIST(W_AND_U, TL_WEIGHT(plain, b, )), .step = plain_step, STATE},
         "rnn of plain cells: weight b has no shape, and there is no `begin` to make it"},
        {{PLAIN,
          .weights = LIST(W_AND_U, TL_WEIGHT(plain, b, .shape = "H", .init = TL_INIT_ORTHOGONAL)),
          .step = plain_step, STATE},
         "rnn of plain cells: b: Xavier, orthogonal and identity are initial values of matrices, not "
         "of "
         "1 dimension"},
        {{PLAIN, .weights = LIST(W_AND_U, TL_WEIGHT(plain, b, .shape = "H", .init = (tl_cell_init)99)),
          .step = plain_step, STATE},
         "rnn of plain cells: b: no initial values of kind 99"},
        {{PLAIN, .weights = good, .step = plain_step, .states = {{.name = "h"}}},
         "rnn of plain cells: state h: no shape is given"},
        {{PLAIN, .weights = good, .step = plain_step, .states = {{"h", "B,H"}}}, one_row},
        {{PLAIN, .weights = good, .step = plain_step, .states = {{"h", "H"}, {"h", "H"}}},
         "rnn of plain cells: two states are called h"},
        {{PLAIN, .weights = good, .step = plain_step, .states = {{"h", "H"}, {"n", "H"}},
          .initial = {[1] = {.init = TL_INIT_XAVIER}}},
         "rnn of plain cells: n0: Xavier, orthogonal and identity are initial values of matrices, not "
         "of 1 dimension"},
    };
    for (int k = 0; k < COUNT_OF(cases); k++) {
        tl_params *params = tl_params_new(TL_F64, 1);
        tl_rnn rnn;
        tl_rnn_init(&rnn, params,
                    &(tl_rnn_config){.cell = &cases[k].type, .input = I, .hidden = H, .layers = 1});
        assert_string_equal(params->error.message, cases[k].message);
        tl_rnn_free(&rnn);
        tl_params_free(params);
    }
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_rnn rnn;
    tl_cell_type type = {PLAIN, .weights = good, .step = plain_step, STATE};
    tl_rnn_init(
        &rnn, params,
        &(tl_rnn_config){.cell = &type, .options = "some", .input = I, .hidden = H, .layers = 1});
    assert_string_equal(params->error.message,
                        "rnn of plain cells: options are given, but its options_bytes is 0");
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

/* ---- mistakes in what it does ------------------------------------------------------------- */

static void narrow_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    state[0] = tl_slice(c->tape, next(c, x, state[0]), 1, 0, 1, 1);
}

static tl_var turned_input(const tl_cell_call *c, tl_var x)
{
    return tl_transpose(c->tape, x, 0, 1);
}

static tl_var no_input(const tl_cell_call *c, tl_var x)
{
    (void)c, (void)x;
    return TL_NONE;
}

static tl_var short_scan(const tl_cell_call *c, tl_var x, tl_var *state)
{
    (void)state;
    return tl_slice(c->tape, x, 2, 0, 1, 1);
}

static tl_var wrong_scan(const tl_cell_call *c, tl_var x, tl_var *state)
{
    state[0] = x;
    return tl_full(c->tape, c->dtype, TL_SHAPE(c->steps, c->batch, c->hidden), 0);
}

static void logarithm_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    state[0] = tl_log(c->tape, tl_sub_scalar(c->tape, next(c, x, state[0]), 2));
}

static void multiply_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const plain *w = c->weights;
    state[0] = tl_mul(c->tape, next(c, x, state[0]), tl_mul(c->tape, x, w->b));
}

static void mistakes_of_the_functions(void **state)
{
    (void)state;
    const tl_cell_weight *good = LIST(W_AND_U, TL_WEIGHT(plain, b, .shape = "H"));
    const tl_cell_weight *bad =
        LIST(TL_WEIGHT(plain, w, .shape = "H,I"), TL_WEIGHT(plain, u, .shape = "H,I"),
             TL_WEIGHT(plain, b, .shape = "H"));
    const struct {
        tl_cell_type type;
        tl_status status;
        const char *message;
    } cases[] = {
        {{PLAIN, .weights = bad, .step = plain_step, STATE},
         TL_ERR_SHAPE,
         "linear: x's last size is not the weight's last: [2,4] x [4,3]; operand 1 is rnn.u_l0 (layer "
         "0, "
         "step 0)"},
        {{PLAIN, .weights = good, .step = multiply_step, STATE},
         TL_ERR_SHAPE,
         "mul: shapes cannot be broadcast: [2,3] and [4]; operand 1 is rnn.b_l0 (layer 0, step 0)"},
        {{PLAIN, .weights = good, .step = narrow_step, STATE},
         TL_ERR_SHAPE,
         "unroll: plain cell: state h returned is f64 [2,1], not f64 [2,4] (layer 0, step 0)"},
        {{PLAIN, .weights = good, .step = plain_step, .input = turned_input, STATE},
         TL_ERR_SHAPE,
         "unroll: plain cell: input returned [2,5,3], not [5,2,..], steps first (layer 0)"},
        {{PLAIN, .weights = good, .step = plain_step, .input = no_input, STATE},
         TL_ERR_ARGUMENT,
         "unroll: plain cell: input returned TL_NONE (layer 0)"},
        {{PLAIN, .weights = good, .scan = short_scan, STATE},
         TL_ERR_SHAPE,
         "unroll: plain cell: scan returned [5,2,1], not [5,2,4], steps first (layer 0)"},
        {{PLAIN, .weights = good, .scan = wrong_scan, STATE},
         TL_ERR_SHAPE,
         "unroll: plain cell: state h returned by scan is f64 [5,2,3], not f64 [2,4] (layer 0)"},
    };
    tl_tape *t = tl_tape_new(NULL);
    for (int k = 0; k < COUNT_OF(cases); k++) {
        tl_params *params = tl_params_new(TL_F64, 1);
        tl_rnn rnn;
        tl_rnn_init(&rnn, params,
                    &(tl_rnn_config){.cell = &cases[k].type, .input = I, .hidden = H, .layers = 1});
        assert_int_equal(tl_params_status(params), TL_OK);
        assert_null(tl_value(t, tl_unroll(t, &rnn, xs(t), NULL)).data);
        assert_error(t, cases[k].status, cases[k].message);
        tl_rnn_free(&rnn);
        tl_params_free(params);
    }
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_rnn rnn;
    tl_cell_type type = {PLAIN, .weights = good, .step = logarithm_step, STATE};
    tl_rnn_init(&rnn, params, &(tl_rnn_config){.cell = &type, .input = I, .hidden = H, .layers = 1});
    tl_tape_trap(t, true);
    tl_unroll(t, &rnn, xs(t), NULL);
    assert_non_null(strstr(tl_tape_message(t), "log: element [0,0] of its result is "));
    assert_non_null(strstr(tl_tape_message(t), "nan (layer 0, step 0)"));
    tl_tape_reset(t);
    tl_constant_from(t, TL_F64, TL_SHAPE(2), REALS(1, NAN));
    assert_string_equal(tl_tape_message(t), "constant_from: element [1] of its value is nan");
    tl_rnn_free(&rnn);
    tl_params_free(params);
    tl_tape_free(t);
}

/* ---- what states begin with --------------------------------------------------------------- */

/* h' = h + x's first + step, n' = 2 n, C' = C: what they began with can be read off. */
static void sum_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    tl_tape *t = c->tape;
    tl_var first = tl_slice(t, x, 1, 0, 1, 1);
    state[0] = tl_add(t, state[0], tl_add_scalar(t, first, (double)c->step));
    state[1] = tl_mul_scalar(t, state[1], 2);
    assert_int_equal(c->dtype, TL_F64);
}

static const tl_cell_type sum_cell = {.name = "sum",
                                      .states = {{"h", "H"}, {"n", "2"}, {"C", "2H,3"}},
                                      .initial = {[1] = {.value = 3}, [2] = {TL_INIT_NORMAL, 0.5}},
                                      .step = sum_step};

static void states_begin_with_something(void **state)
{
    (void)state;
    for (int learned = 0; learned < 2; learned++) {
        tl_params *params = tl_params_new(TL_F64, 1);
        tl_rnn rnn;
        tl_tape *t = tl_tape_new(NULL);
        tl_var s[3] = {TL_NONE, TL_NONE, TL_NONE};
        tl_rnn_init(
            &rnn, params,
            &(tl_rnn_config){
                .cell = &sum_cell, .input = I, .hidden = H, .layers = 1, .learned_state = learned});
        assert_int_equal(tl_params_status(params), TL_OK);
        assert_int_equal(params->count, learned ? 3 : 1);
        const tl_param *C0 = tl_params_find(params, "rnn.C0_l0");
        assert_non_null(C0);
        tl_unroll(t, &rnn, tl_full(t, TL_F64, TL_SHAPE(T, B, I), 0), s);
        assert_ok(t);
        assert_near(item_at(t, s[0], 0), 0 + 1 + 2 + 3 + 4, 0);
        assert_near(item_at(t, s[1], 3), 3 * 32, 0);
        double squares = 0;
        for (int64_t i = 0; i < 2 * H * 3; i++) {
            assert_same(item_at(t, s[2], 2 * H * 3 + i), tl_tensor_get(C0->value, i));
            squares += tl_tensor_get(C0->value, i) * tl_tensor_get(C0->value, i);
        }
        assert_true(squares > 0.1 && squares < 24); /* 24 numbers of variance 1/4 */
        tl_backward(t, tl_sum(t, s[2]));
        assert_same(tl_tensor_get(C0->gradient, 7), B);
        tl_rnn_free(&rnn);
        tl_params_free(params);
        tl_tape_free(t);
    }
}

/* A stretch that says where it begins: the steps of the whole. */
static void a_stretch_of_a_longer_sequence(void **state)
{
    (void)state;
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_rnn rnn;
    tl_tape *t = tl_tape_new(NULL);
    tl_rnn_init(&rnn, params,
                &(tl_rnn_config){.cell = &sum_cell, .input = I, .hidden = H, .layers = 1});
    tl_var whole[3] = {TL_NONE, TL_NONE, TL_NONE}, parts[3] = {TL_NONE, TL_NONE, TL_NONE}, x = xs(t);
    tl_unroll(t, &rnn, x, whole);
    tl_unroll(t, &rnn, tl_slice(t, x, 0, 0, 2, 1), parts);
    tl_unroll_with(t, &rnn, tl_slice(t, x, 0, 2, T, 1), parts, &(tl_unroll_options){.from = 2});
    assert_vars(t, parts[0], whole[0], 0);
    assert_vars(t, parts[1], whole[1], 0);
    tl_rnn_free(&rnn);
    tl_params_free(params);
    tl_tape_free(t);
}

/* ---- weights of three dimensions ----------------------------------------------------------- */

typedef struct deep {
    tl_var u, v, w;
} deep;

static const tl_cell_weight deep_weights[] = {
    TL_WEIGHT(deep, u, .shape = "3,2H,H", .init = TL_INIT_ORTHOGONAL),
    TL_WEIGHT(deep, v, .shape = "2, H,I", .init = TL_INIT_IDENTITY, .value = 2),
    TL_WEIGHT(deep, w, .shape = "2,H,H"), TL_WEIGHTS_END};

static const tl_cell_type deep_cell = {
    .name = "deep", .bytes = sizeof(deep), .weights = deep_weights, STATE, .step = plain_step};

/* Each gate of each of the matrices is orthogonal by itself. */
static void matrices_in_a_row(void **state)
{
    (void)state;
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_rnn rnn;
    tl_rnn_init(&rnn, params,
                &(tl_rnn_config){
                    .cell = &deep_cell, .input = I, .hidden = H, .layers = 1, .init = TL_RNN_XAVIER});
    assert_int_equal(tl_params_status(params), TL_OK);
    const tl_tensor *u = tl_rnn_weight(&rnn, 0, 0, "u")->value,
                    *v = tl_rnn_weight(&rnn, 0, 0, "v")->value,
                    *w = tl_rnn_weight(&rnn, 0, 0, "w")->value;
    for (int64_t row = 0; row < 3 * 2 * H; row++)
        for (int64_t other = row / H * H; other < row / H * H + H; other++) {
            double product = 0;
            for (int64_t i = 0; i < H; i++)
                product += tl_tensor_get(u, row * H + i) * tl_tensor_get(u, other * H + i);
            assert_near(product, row == other, 1e-12);
        }
    assert_true(tl_tensor_get(u, 0) != tl_tensor_get(u, 2 * H * H));
    for (int64_t i = 0; i < 2 * H * I; i++)
        assert_same(tl_tensor_get(v, i), i / I % H == i % I ? 2 : 0);
    for (int64_t i = 0; i < 2 * H * H; i++)
        assert_true(tl_tensor_get(w, i) != 0 && fabs(tl_tensor_get(w, i)) < sqrt(6. / (H + H)));
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_of_the_lists),       cmocka_unit_test(mistakes_of_the_functions),
        cmocka_unit_test(states_begin_with_something), cmocka_unit_test(a_stretch_of_a_longer_sequence),
        cmocka_unit_test(matrices_in_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
