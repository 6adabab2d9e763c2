/* Ops that are a few lines of other ops: no node and no derivative of their own. */
#include "support.h"

#include "autograd/functional.h"
#include "autograd/gradcheck.h"
#include "autograd/inspect.h"

/* y = a tanh(b x), a and b constants; the rule comes before anything is recorded */
static tl_var squash_compose(const tl_call *c)
{
    char shape[TL_LAYOUT_TEXT];
    assert_true(c->attr && c->count == 1 && tl_is_none(c->out));
    if (c->x[0].layout->ndim != 1) {
        tl_call_fail(c, TL_ERR_SHAPE, "wants one dimension, not %s",
                     tl_layout_text(c->x[0].layout, shape));
        return tl_poison(c->tape);
    }
    tl_var inner = tl_tanh(c->tape, tl_affine(c->tape, c->in[0], c->attr->f[1], 0));
    return tl_affine(c->tape, inner, c->attr->f[0], 0);
}

static const tl_op squash = {.name = "squash",
                             .equation = "y = a tanh(b x)",
                             .kind = TL_COMPOSED,
                             .attributes = "a=f0 b=f1",
                             .least = 1,
                             .most = 1,
                             .compose = squash_compose};

/* A composition of a composition, of two operands. */
static tl_var pair_compose(const tl_call *c)
{
    tl_attr attr = {.f = {2, 3}};
    return tl_mul(c->tape, tl_apply(c->tape, &squash, 1, &c->in[0], &attr), c->in[1]);
}

static const tl_op pair = {.name = "pair",
                           .equation = "y = 2 tanh(3 x) w",
                           .kind = TL_COMPOSED,
                           .least = 2,
                           .most = 2,
                           .compose = pair_compose};

static tl_var itself_compose(const tl_call *c)
{
    return c->in[0];
}

static const tl_op itself = {.name = "itself",
                             .equation = "y = x",
                             .kind = TL_COMPOSED,
                             .least = 1,
                             .most = 1,
                             .compose = itself_compose};

static tl_tensor *some(void)
{
    return tensor_of(TL_F64, TL_SHAPE(3), REALS(0.3, -0.7, 1.1));
}

static tl_var apply_pair(tl_tape *t, const tl_var *in, void *context)
{
    (void)context;
    return tl_apply(t, &pair, 2, in, NULL);
}

static void derivatives_follow(void **state)
{
    (void)state;
    tl_tensor *x[] = {some(), some()};
    tl_gradcheck_report r;
    assert_int_equal(tl_gradcheck(apply_pair, NULL, 2, x, NULL, &r), TL_OK);
    assert_int_equal(tl_gradgradcheck(apply_pair, NULL, 2, x, NULL, &r), TL_OK);
    assert_int_equal(tl_modecheck(apply_pair, NULL, 2, x, NULL, &r), TL_OK);
    tl_tape *t = tl_tape_new(NULL);
    tl_var in[] = {tl_leaf(t, x[0], NULL), tl_constant(t, x[1])}, y = apply_pair(t, in, NULL);
    for (int i = 0; i < 3; i++)
        assert_near_at(item_at(t, y, i), 2 * tanh(3 * tl_tensor_get(x[0], i)) * tl_tensor_get(x[1], i),
                       1e-15, i);
    tl_var third = tl_jacobian(t, tl_hessian(t, tl_sum(t, y), in[0]), in[0]);
    for (int i = 0; i < 3; i++) { /* tanh''' = (1 - s s)(6 s s - 2) */
        double s = tanh(3 * tl_tensor_get(x[0], i)), w = tl_tensor_get(x[1], i);
        assert_near_at(item_at(t, third, i * 13), 54 * w * (1 - s * s) * (6 * s * s - 2), 1e-13, i);
    }
    y = tl_apply(t, &itself, 1, in, NULL); /* nothing at all is recorded */
    assert_int_equal(y.id, in[0].id);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(x[0]);
    tl_tensor_release(x[1]);
}

static void it_stands_in_a_scope_of_its_name(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = some();
    tl_scope_begin(t, "step", 4);
    tl_var in[] = {tl_leaf(t, x, NULL), tl_constant(t, x)}, y = tl_apply(t, &pair, 2, in, NULL);
    tl_var after = tl_neg(t, y);
    tl_scope_end(t);
    const struct {
        const char *op, *scope;
    } expected[] = {{"leaf", "step 4"},
                    {"constant", "step 4"},
                    {"affine", "step 4, pair, squash"},
                    {"tanh", "step 4, pair, squash"},
                    {"affine", "step 4, pair, squash"},
                    {"mul", "step 4, pair"},
                    {"neg", "step 4"}};
    assert_int_equal(tl_tape_count(t), COUNT_OF(expected));
    for (uint32_t i = 0; i < tl_tape_count(t); i++) {
        tl_node_info n;
        tl_inspect(t, tl_tape_at(t, i), &n);
        assert_string_equal(n.op, expected[i].op);
        assert_string_equal(n.scope, expected[i].scope);
    }
    tl_no_record_begin(t); /* off the record there is nothing to be found again */
    tl_var loose = tl_apply(t, &pair, 2, in, NULL);
    assert_vars(t, loose, y, 0);
    tl_no_record_end(t, 0, NULL);
    assert_int_equal(tl_tape_count(t), COUNT_OF(expected));
    size_t held = tl_tape_measure(t).held;
    for (int k = 0; k < 10000; k++) { /* and nothing remembered of it */
        tl_no_record_begin(t);
        tl_apply(t, &pair, 2, in, NULL);
        tl_no_record_end(t, 0, NULL);
    }
    assert_true(tl_tape_measure(t).held == held);
    /* the same structure as written out; names are no part of it */
    tl_var out = tl_mul(t, tl_affine(t, tl_tanh(t, tl_affine(t, in[0], 3, 0)), 2, 0), in[1]);
    assert_true(tl_graph_hash(t, 1, &y, 0, NULL) == tl_graph_hash(t, 1, &out, 0, NULL));
    (void)after;
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(x);
}

static void errors_of_it_and_in_it(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = some(), *wide = tl_tensor_zeros(TL_F64, TL_SHAPE(2, 3), NULL);
    tl_attr attr = {.f = {2, 3}};
    tl_scope_begin(t, "step", 4);
    tl_var v = tl_constant(t, wide), y = tl_apply(t, &squash, 1, &v, &attr);
    assert_null(tl_value(t, y).data);
    assert_error(t, TL_ERR_SHAPE, "squash: wants one dimension, not [2,3] (step 4)");
    v = tl_constant(t, x); /* the tape is as good as new */
    tl_apply(t, &squash, 1, &v, &attr);
    assert_ok(t);
    tl_var in[] = {v, tl_full(t, TL_F64, TL_SHAPE(4), 1)};
    tl_apply(t, &pair, 2, in, NULL);
    assert_error(t, TL_ERR_SHAPE, "mul: shapes cannot be broadcast: [3] and [4] (pair)");
    v = tl_constant(t, x);
    tl_apply(t, &pair, 1, &v, NULL);
    assert_error(t, TL_ERR_ARGUMENT, "pair: wants 2..2 operands, not 1");
    v = tl_full(t, TL_I64, TL_SHAPE(3), 1);
    tl_apply(t, &squash, 1, &v, &attr);
    assert_error(t, TL_ERR_DTYPE, "squash: operand 0 is i64, not a real");
    tl_var mixed[] = {tl_constant(t, x), tl_full(t, TL_F32, TL_SHAPE(3), 1)};
    tl_apply(t, &pair, 2, mixed, NULL);
    assert_error(t, TL_ERR_DTYPE, "pair: operands differ in dtype: f64 and f32");
    tl_tape_free(t);
    tl_tensor_release(x);
    tl_tensor_release(wide);
}

static void it_is_observed_op_by_op(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = some();
    tl_attr huge = {.f = {INFINITY, 1}};
    tl_profile_line lines[8];
    tl_tape_profile(t, true);
    tl_var in[] = {tl_leaf(t, x, NULL), tl_constant(t, x)}, y = tl_apply(t, &pair, 2, in, NULL);
    assert_int_equal(tl_backward(t, tl_sum(t, y)), TL_OK);
    int count = tl_profile_lines(t, 8, lines);
    assert_int_equal(count, 4); /* affine, tanh, mul, sum */
    for (int k = 0; k < count; k++)
        assert_int_equal(lines[k].calls, strcmp(lines[k].op, "affine") == 0 ? 2 : 1);
    tl_tape_reset(t);
    tl_tape_trap(t, true);
    in[0] = tl_leaf(t, x, NULL);
    tl_apply(t, &squash, 1, in, &huge);
    assert_error(t, TL_ERR_NOT_FINITE, "affine: element [0] of its result is inf (squash)");
    tl_tape_trap(t, false);
    in[0] = tl_leaf(t, x, NULL);
    in[1] = tl_constant(t, x);
    y = tl_sum(t, tl_apply(t, &pair, 2, in, NULL));
    tl_tensor_fill(x, 1); /* mul needs it; tanh needs its result only */
    assert_int_equal(tl_backward(t, y), TL_ERR_CHANGED);
    assert_non_null(strstr(tl_tape_message(t), "mul: its derivative needs operand 1"));
    assert_non_null(strstr(tl_tape_message(t), "(pair)"));
    tl_tape_free(t);
    tl_tensor_release(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derivatives_follow),
        cmocka_unit_test(it_stands_in_a_scope_of_its_name),
        cmocka_unit_test(errors_of_it_and_in_it),
        cmocka_unit_test(it_is_observed_op_by_op),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
