/* The checker itself: it must find what is wrong, and say where. */
#include "support.h"

#include "autograd/gradcheck.h"

static tl_var energy(tl_tape *t, const tl_var *in, void *context)
{
    (void)context;
    return tl_mul(t, tl_tanh(t, in[0]), in[1]);
}

static tl_tensor *reals(uint64_t seed, int ndim, const int64_t *shape)
{
    dice d = dice_of(seed);
    return random_tensor(&d, TL_F64, ndim, shape, -1, 1);
}

static void agreement_is_found(void **state)
{
    (void)state;
    tl_tensor *in[] = {reals(1, TL_SHAPE(3, 4)), reals(2, TL_SHAPE(4))};
    tl_tensor *before[] = {tl_tensor_copy(in[0], TL_F64, NULL), tl_tensor_copy(in[1], TL_F64, NULL)};
    tl_gradcheck_report r;
    assert_int_equal(tl_gradcheck(energy, NULL, 2, in, NULL, &r), TL_OK);
    assert_int_equal(r.checked, 16);
    assert_true(r.error >= 0 && r.error < 1e-7);
    assert_non_null(strstr(r.message, "agreement after 16 elements"));
    assert_int_equal(tl_gradgradcheck(energy, NULL, 2, in, NULL, &r), TL_OK);
    assert_int_equal(r.checked, 16);
    assert_int_equal(tl_gradcheck(energy, NULL, 2, in, NULL, NULL), TL_OK); /* no report wanted */
    for (int k = 0; k < 2; k++) {
        assert_tensors(in[k], before[k], 0); /* put back as they were */
        tl_tensor_release(in[k]);
        tl_tensor_release(before[k]);
    }
}

/* ---- ops that are wrong ----------------------------------------------------------------- */

static tl_var scaled_partial(const tl_call *c, int k,
                             tl_var g) /* the derivative of sin-like x x: 2 x, times f[0] */
{
    return tl_affine(c->tape, tl_mul(c->tape, g, c->in[k]), 2 * c->attr->f[0], 0);
}

static tl_var frozen_partial(const tl_call *c, int k, tl_var g) /* right, but cut off from x */
{
    return tl_affine(c->tape, tl_mul(c->tape, g, tl_detach(c->tape, c->in[k])), 2, 0);
}

static tl_var no_partial(const tl_call *c, int k, tl_var g)
{
    (void)c, (void)k, (void)g;
    return TL_NONE;
}

static tl_var nan_partial(const tl_call *c, int k, tl_var g)
{
    return tl_log(c->tape,
                  tl_affine(c->tape, tl_square(c->tape, tl_mul(c->tape, g, c->in[k])), -1, -1));
}

typedef struct broken {
    tl_op op;
    double factor;
} broken;

static tl_var apply_broken(tl_tape *t, const tl_var *in, void *context)
{
    const broken *b = context;
    return tl_apply(t, &b->op, 1, in, &(tl_attr){.f = {b->factor}});
}

static broken square_with(tl_var (*partial)(const tl_call *, int, tl_var), double factor)
{
    broken b = {.op = tl_op_square, .factor = factor};
    b.op.partial = partial;
    return b;
}

static void what_is_wrong_is_found(void **state)
{
    (void)state;
    tl_tensor *x = reals(3, TL_SHAPE(2, 3));
    tl_gradcheck_report r;
    broken right = square_with(scaled_partial, 1), slightly = square_with(scaled_partial, 1 + 1e-5);
    broken sign = square_with(scaled_partial, -1), none = square_with(no_partial, 0);
    broken nan = square_with(nan_partial, 0), frozen = square_with(frozen_partial, 0);
    assert_int_equal(tl_gradcheck(apply_broken, &right, 1, &x, NULL, &r), TL_OK);
    assert_int_equal(tl_gradgradcheck(apply_broken, &right, 1, &x, NULL, &r), TL_OK);
    broken *wrong[] = {&slightly, &sign, &none, &nan};
    for (int k = 0; k < COUNT_OF(wrong); k++) {
        assert_int_equal(tl_gradcheck(apply_broken, wrong[k], 1, &x, NULL, &r), TL_ERR_CHECK);
        assert_non_null(strstr(r.message, "DIFFERENCE after 6 elements"));
        assert_int_equal(r.input, 0);
        assert_true(r.element >= 0 && r.element < 6);
    }
    assert_int_equal(tl_gradcheck(apply_broken, &frozen, 1, &x, NULL, &r), TL_OK);
    assert_int_equal(tl_gradgradcheck(apply_broken, &frozen, 1, &x, NULL, &r), TL_ERR_CHECK);
    /* the tolerance is the caller's */
    tl_gradcheck_options loose = {.tolerance = 1e-2};
    assert_int_equal(tl_gradcheck(apply_broken, &slightly, 1, &x, &loose, &r), TL_OK);
    tl_tensor_release(x);
}

static void the_report_names_the_worst_element(void **state)
{
    (void)state;
    const double values[] = {0.1, -0.2, 300, 0.4, 0.5}; /* an error that grows with x */
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(5), values);
    broken sign = square_with(scaled_partial, -1);
    tl_gradcheck_report r;
    tl_gradcheck(apply_broken, &sign, 1, &x, NULL, &r);
    assert_int_equal(r.element, 2);
    assert_near(r.analytic, -r.numeric, 1e-6);
    assert_near(r.error, fabs(r.analytic - r.numeric) / (1 + fabs(r.numeric)), 1e-12);
    assert_non_null(strstr(r.message, "input 0, element 2: analytic "));
    tl_tensor_release(x);
}

/* A derivative that says = where it should say +=: right when it is used once. */
static tl_tensor *last_gradient;

static void overwriting_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    /* writes into memory of its own, the same at each call */
    tl_var product = tl_affine(c->tape, tl_mul(c->tape, dy, c->in[0]), 2, 0);
    tl_tensor *now = tl_value_copy(c->tape, product);
    if (now && last_gradient)
        tl_tensor_assign(last_gradient, now, NULL);
    tl_tensor_release(now);
    dx[0] = tl_constant(c->tape, last_gradient);
}

static bool like_first(tl_call *c, tl_layout *layout)
{
    return tl_layout_make(layout, c->x[0].layout->ndim, c->x[0].layout->shape) == TL_OK;
}

static void square_forward(tl_call *c)
{
    for (int64_t i = 0; i < c->y.layout->count; i++)
        ((double *)c->y.data)[i] = pow(((const double *)c->x[0].data)[i], 2);
}

static tl_var apply_op(tl_tape *t, const tl_var *in, void *context)
{
    return tl_apply(t, context, 1, in, NULL);
}

static void a_function_is_applied_twice(void **state)
{
    (void)state;
    tl_tensor *x = reals(4, TL_SHAPE(3));
    last_gradient = zeros_like(x);
    tl_op op = {.name = "overwriting",
                .equation = "y = x x",
                .kind = TL_GENERAL,
                .least = 1,
                .most = 1,
                .shape = like_first,
                .forward = square_forward,
                .vjp = overwriting_vjp};
    tl_tape *t = tl_tape_new(NULL); /* once: right */
    tl_var v = tl_leaf(t, x, NULL), grad;
    tl_grad(t, tl_sum(t, tl_apply(t, &op, 1, &v, NULL)), TL_NONE, 1, &v, false, &grad);
    for (int64_t i = 0; i < 3; i++)
        assert_near(item_at(t, grad, i), 2 * tl_tensor_get(x, i), 1e-15);
    tl_tape_free(t);
    tl_gradcheck_report r;
    assert_int_equal(tl_gradcheck(apply_op, &op, 1, &x, NULL, &r), TL_ERR_CHECK);
    tl_tensor_release(x);
    tl_tensor_release(last_gradient);
}

/* ---- what is not checked ---------------------------------------------------------------- */

static tl_var rows(tl_tape *t, const tl_var *in, void *context)
{
    (void)context;
    return tl_mul(t, tl_embedding_op(t, in[1], in[0]), in[2]);
}

static void indices_are_passed_on(void **state)
{
    (void)state;
    const int64_t index[] = {1, 0, 1};
    tl_tensor *in[] = {tl_tensor_from(TL_I64, TL_SHAPE(3), index, NULL), reals(5, TL_SHAPE(2, 2)),
                       reals(6, TL_SHAPE(3, 1))};
    tl_gradcheck_report r;
    assert_int_equal(tl_gradcheck(rows, NULL, 3, in, NULL, &r), TL_OK);
    assert_int_equal(r.checked, 4 + 3);
    assert_int_equal(tl_gradgradcheck(rows, NULL, 3, in, NULL, &r), TL_OK);
    assert_true(r.input == 1 || r.input == 2); /* counted with the indices */
    assert_memory_equal(in[0]->data, index, sizeof index);
    for (int k = 0; k < 3; k++)
        tl_tensor_release(in[k]);
}

static tl_var too_wide(tl_tape *t, const tl_var *in, void *context)
{
    (void)context;
    return tl_add(t, in[0], tl_full(t, TL_F64, TL_SHAPE(7), 1));
}

static tl_var nothing(tl_tape *t, const tl_var *in, void *context)
{
    (void)t, (void)in, (void)context;
    return TL_NONE;
}

static tl_var constant_of_it(tl_tape *t, const tl_var *in, void *context)
{
    (void)context;
    return tl_detach(t, in[0]);
}

static tl_var fails_away_from_the_middle(tl_tape *t, const tl_var *in, void *context)
{
    const double *middle = context;
    if (fabs(item_at(t, in[0], 1) - *middle) > 1e-9)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "only here");
    return tl_square(t, in[0]);
}

static void it_refuses_what_it_cannot_check(void **state)
{
    (void)state;
    tl_tensor *x = reals(7, TL_SHAPE(3)), *many[65];
    tl_tensor *before = tl_tensor_copy(x, TL_F64, NULL);
    tl_gradcheck_report r;
    assert_int_equal(tl_gradcheck(energy, NULL, 0, NULL, NULL, &r), TL_ERR_ARGUMENT);
    for (int k = 0; k < 65; k++)
        many[k] = x;
    assert_int_equal(tl_gradcheck(energy, NULL, 65, many, NULL, &r), TL_ERR_ARGUMENT);
    assert_int_equal(tl_gradcheck(too_wide, NULL, 1, &x, NULL, &r), TL_ERR_SHAPE);
    assert_string_equal(r.message, "add: shapes cannot be broadcast: [3] and [7]");
    assert_int_equal(tl_gradcheck(nothing, NULL, 1, &x, NULL, &r), TL_ERR_ARGUMENT);
    assert_int_equal(tl_gradcheck(constant_of_it, NULL, 1, &x, NULL, &r),
                     TL_ERR_CHECK); /* differences see x move */
    double middle = tl_tensor_get(x, 1);
    assert_int_equal(tl_gradcheck(fails_away_from_the_middle, &middle, 1, &x, NULL, &r),
                     TL_ERR_ARGUMENT);
    assert_string_equal(r.message, "only here");
    assert_tensors(x, before, 0); /* put back even then */
    tl_tensor_release(x);
    tl_tensor_release(before);
}

static tl_var linear_in_x(tl_tape *t, const tl_var *in, void *context)
{
    (void)context;
    return tl_affine(t, in[0], 3, 1);
}

static void linear_functions_and_no_elements(void **state)
{
    (void)state;
    tl_tensor *x = reals(8, TL_SHAPE(2, 2)), *none = tl_tensor_zeros(TL_F64, TL_SHAPE(0, 2), NULL);
    tl_gradcheck_report r;
    assert_int_equal(tl_gradgradcheck(linear_in_x, NULL, 1, &x, NULL, &r),
                     TL_OK); /* second derivative: zero */
    assert_int_equal(tl_gradcheck(linear_in_x, NULL, 1, &none, NULL, &r), TL_OK);
    assert_int_equal(r.checked, 0);
    assert_int_equal(tl_gradgradcheck(linear_in_x, NULL, 1, &none, NULL, &r), TL_OK);
    tl_tensor_release(x);
    tl_tensor_release(none);
}

/* ---- warnings --------------------------------------------------------------------------- */

static void single_precision_is_warned_of(void **state)
{
    (void)state;
    dice d = dice_of(3);
    tl_tensor *x[] = {random_tensor(&d, TL_F32, TL_SHAPE(2, 3), -1, 1),
                      random_tensor(&d, TL_F32, TL_SHAPE(3), -1, 1)};
    tl_gradcheck_report r;
    assert_int_equal(tl_gradcheck(energy, NULL, 2, x, NULL, &r), TL_OK);
    assert_int_equal(r.warnings, TL_WARN_SINGLE);
    assert_non_null(strstr(r.message, "; WARNING: inputs in f32, too coarse to tell"));
    broken sign = square_with(scaled_partial, -1); /* what is gross is found all the same */
    assert_int_equal(tl_gradcheck(apply_broken, &sign, 1, x, NULL, &r), TL_ERR_CHECK);
    assert_int_equal(tl_modecheck(energy, NULL, 2, x, NULL, &r), TL_OK);
    assert_int_equal(r.warnings, TL_WARN_SINGLE);
    tl_tensor_release(x[0]);
    tl_tensor_release(x[1]);
    tl_tensor *y = reals(3, TL_SHAPE(3));
    assert_int_equal(tl_gradcheck(linear_in_x, NULL, 1, &y, NULL, &r), TL_OK);
    assert_int_equal(r.warnings, 0);
    assert_null(strstr(r.message, "WARNING"));
    tl_tensor_release(y);
}

static tl_var bent(tl_tape *t, const tl_var *in, void *context)
{
    (void)context;
    return tl_mul(t, tl_relu(t, in[1]), tl_square(t, in[0]));
}

static tl_var bent_and_even(tl_tape *t, const tl_var *in, void *context)
{
    (void)context;
    return tl_abs(t, in[0]); /* 0 at 0: so is the central difference */
}

static tl_var steep(tl_tape *t, const tl_var *in, void *context)
{
    (void)context;
    return tl_exp(t, tl_affine(t, in[0], 2, 0)); /* curved, but smooth */
}

static void kinks_are_warned_of(void **state)
{
    (void)state;
    tl_tensor *x[] = {tensor_of(TL_F64, TL_SHAPE(4), REALS(1, 2, 3, 4)),
                      tensor_of(TL_F64, TL_SHAPE(4), REALS(0.5, -1, 0, 2))};
    tl_gradcheck_report r;
    assert_int_equal(tl_gradcheck(bent, NULL, 2, x, NULL, &r), TL_ERR_CHECK);
    assert_int_equal(r.warnings, TL_WARN_KINK);
    assert_true(r.kink_input == 1 && r.kink_element == 2);
    assert_true(r.input == 1 && r.element == 2);
    assert_non_null(strstr(r.message, "; WARNING: a kink at input 1, element 2: the slopes to its left "
                                      "and right differ"));
    assert_int_equal(tl_gradcheck(bent_and_even, NULL, 1, &x[1], NULL, &r), TL_OK);
    assert_int_equal(r.warnings, TL_WARN_KINK); /* agreement that means little */
    assert_true(r.kink_input == 0 && r.kink_element == 2);
    assert_int_equal(tl_modecheck(bent, NULL, 2, x, NULL, &r), TL_OK); /* both take the same side */
    assert_int_equal(tl_gradcheck(steep, NULL, 1, &x[1], NULL, &r), TL_OK);
    assert_int_equal(r.warnings, 0);
    tl_tensor_set(x[1], 2, 1e-4); /* beside it: none */
    assert_int_equal(tl_gradcheck(bent, NULL, 2, x, NULL, &r), TL_OK);
    assert_int_equal(r.warnings, 0);
    tl_tensor_release(x[0]);
    tl_tensor_release(x[1]);

    tl_tensor *single[] = {tensor_of(TL_F32, TL_SHAPE(2), REALS(1, 2)),
                           tensor_of(TL_F32, TL_SHAPE(2), REALS(0.5, 0))};
    assert_int_equal(tl_gradcheck(bent, NULL, 2, single, NULL, &r), TL_ERR_CHECK);
    assert_int_equal(r.warnings, TL_WARN_KINK | TL_WARN_SINGLE);
    tl_tensor_set(single[1], 1, 1);
    assert_int_equal(tl_gradcheck(bent, NULL, 2, single, NULL, &r), TL_OK);
    assert_int_equal(r.warnings, TL_WARN_SINGLE);
    tl_tensor_release(single[0]);
    tl_tensor_release(single[1]);
}

static tl_var product(tl_tape *t, const tl_var *in, void *context)
{
    (void)context;
    return tl_mul(t, in[0], in[1]);
}

static void shared_memory_is_warned_of(void **state)
{
    (void)state;
    tl_tensor *whole = reals(4, TL_SHAPE(6)), *other = reals(5, TL_SHAPE(3)),
              *row = reals(6, TL_SHAPE(1, 3));
    tl_tensor *left = tl_tensor_slice(whole, 0, 0, 3, 1, NULL),
              *right = tl_tensor_slice(whole, 0, 3, 6, 1, NULL),
              *middle = tl_tensor_slice(whole, 0, 2, 5, 1, NULL),
              *wide = tl_tensor_expand(row, TL_SHAPE(2, 3), NULL);
    const struct {
        tl_tensor *a, *b;
        bool overlap;
    } cases[] = {{left, right, false}, {left, middle, true}, {middle, right, true},
                 {left, other, false}, {left, left, true},   {wide, other, true},
                 {other, wide, true},  {row, other, false}};
    for (int k = 0; k < COUNT_OF(cases); k++) {
        tl_tensor *in[] = {cases[k].a, cases[k].b};
        tl_gradcheck_report r;
        tl_gradcheck(product, NULL, 2, in, NULL, &r);
        assert_int_equal((r.warnings & TL_WARN_OVERLAP) != 0, cases[k].overlap);
        assert_int_equal(strstr(r.message, "; WARNING: inputs whose memory may overlap") != NULL,
                         cases[k].overlap);
    }
    /* what it warns of: the change of one element moves two */
    tl_tensor *in[] = {left, middle};
    assert_int_equal(tl_gradcheck(product, NULL, 2, in, NULL, NULL), TL_ERR_CHECK);
    tl_tensor *apart[] = {left, right};
    assert_int_equal(tl_gradcheck(product, NULL, 2, apart, NULL, NULL), TL_OK);
    tl_tensor *all[] = {whole, other, row, left, right, middle, wide};
    for (int k = 0; k < COUNT_OF(all); k++)
        tl_tensor_release(all[k]);
}

/* ---- forward mode against reverse mode -------------------------------------------------- */

static void the_modes_agree(void **state)
{
    (void)state;
    tl_tensor *in[] = {reals(1, TL_SHAPE(3, 4)), reals(2, TL_SHAPE(4))};
    tl_gradcheck_report r;
    assert_int_equal(tl_modecheck(energy, NULL, 2, in, NULL, &r), TL_OK);
    assert_int_equal(r.checked, 16);
    assert_true(r.error >= 0 && r.error < 1e-13); /* to rounding, not to a difference's error */
    assert_int_equal(tl_modecheck(energy, NULL, 0, NULL, NULL, &r), TL_ERR_ARGUMENT);
    assert_int_equal(tl_modecheck(too_wide, NULL, 1, in, NULL, &r), TL_ERR_SHAPE);
    /* a wrong partial is wrong in both modes alike: that is for tl_gradcheck to find */
    broken sign = square_with(scaled_partial, -1);
    assert_int_equal(tl_modecheck(apply_broken, &sign, 1, in, NULL, &r), TL_OK);
    tl_tensor_release(in[0]);
    tl_tensor_release(in[1]);
}

/* "Linear", says the op, and so forward mode applies it to the tangent; its vjp is another matter. */
static void three_times(tl_call *c)
{
    for (int64_t i = 0; i < c->y.layout->count; i++)
        ((double *)c->y.data)[i] = 3 * ((const double *)c->x[0].data)[i];
}

static void two_times_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_affine(c->tape, dy, 2, 0);
}

/* Not linear in dy, as a vjp must be: its transpose is not its derivative. */
static void crooked_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    tl_var right = tl_affine(c->tape, tl_mul(c->tape, dy, c->in[0]), 2, 0);
    dx[0] = tl_add(c->tape, right, tl_mul(c->tape, dy, tl_square(c->tape, dy)));
}

/* Cut off from dy: forward mode gets nothing. */
static void numbers_vjp(const tl_call *c, tl_var dy, tl_var *dx)
{
    dx[0] = tl_affine(c->tape, tl_mul(c->tape, tl_detach(c->tape, dy), c->in[0]), 2, 0);
}

static void a_rule_that_serves_one_mode_only(void **state)
{
    (void)state;
    tl_tensor *x = reals(3, TL_SHAPE(4));
    tl_op linear = {.name = "three",
                    .kind = TL_LINEAR,
                    .least = 1,
                    .most = 1,
                    .dense = true,
                    .shape = like_first,
                    .forward = three_times,
                    .vjp = two_times_vjp};
    tl_op crooked = linear, numbers;
    crooked.kind = TL_GENERAL;
    crooked.forward = square_forward;
    crooked.vjp = crooked_vjp;
    numbers = crooked;
    numbers.vjp = numbers_vjp;
    tl_op *wrong[] = {&linear, &crooked, &numbers};
    for (int k = 0; k < COUNT_OF(wrong); k++) {
        tl_gradcheck_report r;
        assert_int_equal(tl_modecheck(apply_op, wrong[k], 1, &x, NULL, &r), TL_ERR_CHECK);
        assert_non_null(strstr(r.message, "DIFFERENCE after 4 elements"));
        assert_non_null(strstr(r.message, "forward"));
    }
    /* the last is right for a first derivative in reverse: only this check finds it */
    assert_int_equal(tl_gradcheck(apply_op, &numbers, 1, &x, NULL, NULL), TL_OK);
    tl_tensor_release(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agreement_is_found),
        cmocka_unit_test(what_is_wrong_is_found),
        cmocka_unit_test(the_report_names_the_worst_element),
        cmocka_unit_test(a_function_is_applied_twice),
        cmocka_unit_test(indices_are_passed_on),
        cmocka_unit_test(it_refuses_what_it_cannot_check),
        cmocka_unit_test(linear_functions_and_no_elements),
        cmocka_unit_test(single_precision_is_warned_of),
        cmocka_unit_test(kinks_are_warned_of),
        cmocka_unit_test(shared_memory_is_warned_of),
        cmocka_unit_test(the_modes_agree),
        cmocka_unit_test(a_rule_that_serves_one_mode_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
