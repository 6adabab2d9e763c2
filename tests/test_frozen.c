/* Parameters that are not trained, and weights untied for a look at single time steps. */
#include "support.h"

#include "autograd/inspect.h"
#include "nn/clip.h"
#include "nn/linear.h"
#include "nn/unroll.h"
#include "nn/optim.h"

typedef struct model {
    tl_params *params;
    tl_rnn rnn;
    tl_linear_layer head;
    tl_tensor *x;
} model;

static model model_new(void)
{
    dice d = dice_of(4);
    model m = {.params = tl_params_new(TL_F64, 9)};
    tl_rnn_config config = {.cell = &tl_lstm_cell, .input = 2, .hidden = 3, .layers = 1};
    tl_rnn_init(&m.rnn, m.params, &config);
    tl_linear_init(&m.head, m.params, "head.", 3, 2, true);
    assert_int_equal(tl_params_status(m.params), TL_OK);
    m.x = random_tensor(&d, TL_F64, TL_SHAPE(5, 4, 2), -1, 1);
    return m;
}

static void model_free(model *m)
{
    tl_rnn_free(&m->rnn);
    tl_params_free(m->params);
    tl_tensor_release(m->x);
}

static tl_var loss_of(tl_tape *t, const model *m)
{
    tl_var y = tl_unroll(t, &m->rnn, tl_constant(t, m->x), NULL);
    return tl_mean(t, tl_square(t, tl_linear(t, y, &m->head)));
}

static tl_param *freeze(model *m, const char *name)
{
    tl_param *p = tl_params_find(m->params, name);
    assert_non_null(p);
    p->frozen = true;
    return p;
}

static double largest(const tl_tensor *x)
{
    double most = 0;
    for (int64_t i = 0; i < x->layout.count; i++)
        most = fmax(most, fabs(tl_tensor_get(x, i)));
    return most;
}

static void no_gradient_for_the_frozen(void **state)
{
    (void)state;
    model m = model_new(), all = model_new();
    const char *frozen[] = {"rnn.weight_hh_l0", "rnn.bias_ih_l0", "head.weight"};
    tl_tape *t = tl_tape_new(NULL);
    tl_var full = loss_of(t, &all);
    double loss = tl_item(t, full);
    assert_int_equal(tl_backward(t, full), TL_OK);
    tl_tape_reset(t);
    for (int k = 0; k < COUNT_OF(frozen); k++)
        freeze(&m, frozen[k]);
    tl_var y = loss_of(t, &m);
    assert_same(tl_item(t, y), loss); /* the value is what it was */
    assert_int_equal(tl_backward(t, y), TL_OK);
    for (int k = 0; k < m.params->count; k++) {
        const tl_param *p = m.params->entry[k], *q = all.params->entry[k];
        if (p->frozen)
            assert_same(largest(p->gradient), 0);
        else {
            assert_tensors(p->gradient, q->gradient, 1e-15); /* the others miss nothing */
            assert_true(largest(p->gradient) > 0);
        }
        assert_true(largest(q->gradient) > 0);
    }
    tl_tape_free(t);
    model_free(&m);
    model_free(&all);
}

static void one_leaf_for_all_uses(void **state)
{
    (void)state;
    model m = model_new();
    tl_param *p = freeze(&m, "rnn.weight_hh_l0");
    tl_tape *t = tl_tape_new(NULL);
    loss_of(t, &m);
    tl_var a = tl_use(t, p), b = tl_use(t, p), c = tl_leaf_frozen(t, p->value);
    assert_true(a.id == b.id && a.id == c.id);
    assert_false(tl_needs_gradient(t, a));
    int seen = 0;
    for (uint32_t i = 0; i < tl_tape_count(t); i++) {
        tl_node_info n;
        tl_inspect(t, tl_tape_at(t, i), &n);
        if (n.name && strcmp(n.name, "rnn.weight_hh_l0") == 0) {
            seen++;
            assert_string_equal(n.op, "frozen");
        }
    }
    assert_int_equal(seen, 1);
    assert_true(tl_is_none(tl_gradient(t, a)));
    tl_var y = tl_tanh(t, a), g; /* nothing to be had from it */
    assert_false(tl_needs_gradient(t, y));
    tl_grad(t, tl_sum(t, y), TL_NONE, 1, &a, false, &g);
    assert_error(t, TL_ERR_ARGUMENT, "grad: input 0 wants no gradient: it depends on no leaf");
    assert_int_equal(tl_backward(t, tl_sum(t, tl_use(t, p))), TL_ERR_ARGUMENT);
    assert_error(t, TL_ERR_ARGUMENT, "backward: the loss depends on no leaf that wants a gradient");
    p->frozen = false; /* thawed, from the next recording on */
    assert_true(tl_needs_gradient(t, tl_use(t, p)));
    tl_tape_free(t);
    model_free(&m);
}

static void frozen_leaves_are_checked(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *indices = tl_tensor_zeros(TL_I64, TL_SHAPE(2), NULL);
    tl_leaf_frozen(t, NULL);
    assert_error(t, TL_ERR_ARGUMENT, "leaf: tensor is NULL");
    tl_leaf_frozen(t, indices);
    assert_error(t, TL_ERR_DTYPE, "leaf: only reals have derivatives, not i64");
    tl_tape_free(t);
    tl_tensor_release(indices);
}

/* Decay would move even a parameter without a gradient; so would momentum. */
static void optimisers_leave_them_alone(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        model m = model_new();
        tl_optimizer_config config = {
            .kind = kind ? TL_ADAM : TL_SGD, .rate = 0.1, .momentum = 0.9, .weight_decay = 0.1};
        tl_optimizer *o = tl_optimizer_new(m.params, &config);
        tl_tape *t = tl_tape_new(NULL);
        tl_backward(t,
                    loss_of(t, &m)); /* two steps with it, so that there is a gradient and momentum */
        tl_optimizer_step(o);
        tl_optimizer_step(o);
        tl_param *p = freeze(&m, "rnn.weight_hh_l0"), *free = tl_params_find(m.params, "head.weight");
        assert_true(largest(p->gradient) > 0);
        tl_tensor *before = tl_tensor_copy(p->value, TL_F64, NULL),
                  *moving = tl_tensor_copy(free->value, TL_F64, NULL);
        uint64_t version = tl_tensor_version(p->value);
        tl_optimizer_step(o);
        assert_tensors(p->value, before, 0);
        assert_true(tl_tensor_version(p->value) == version);
        assert_true(tl_tensor_get(free->value, 0) != tl_tensor_get(moving, 0));
        p->frozen = false;
        tl_optimizer_step(o);
        assert_true(tl_tensor_get(p->value, 0) != tl_tensor_get(before, 0));
        tl_tensor_release(before);
        tl_tensor_release(moving);
        tl_tape_free(t);
        tl_optimizer_free(o);
        model_free(&m);
    }
}

/* A gradient from before it was frozen is neither counted nor scaled; setting to zero is for all. */
static void clipping_leaves_them_alone(void **state)
{
    (void)state;
    tl_params *params = tl_params_new(TL_F32, 1);
    tl_param *a = tl_params_add(params, "", "a", TL_SHAPE(2)),
             *b = tl_params_add(params, "", "b", TL_SHAPE(3));
    tl_tensor_fill(b->gradient, 100);
    tl_tensor_set(a->gradient, 0, 3);
    tl_tensor_set(a->gradient, 1, 4);
    b->frozen = true;
    assert_near(tl_gradient_norm(params), 5, 1e-7);
    assert_near(tl_clip_gradient_norm(params, 1), 5, 1e-7);
    assert_near(tl_tensor_get(a->gradient, 0), 0.6, 1e-7);
    assert_same(tl_tensor_get(b->gradient, 0), 100);
    tl_tensor_fill(b->gradient, NAN);
    assert_near(tl_gradient_norm(params), 1, 1e-6);
    tl_zero_gradients(params);
    assert_same(largest(b->gradient), 0);
    b->frozen = false;
    assert_near(tl_clip_gradient_norm(params, 1), 0, 0);
    tl_params_free(params);
}

/* ---- untied ------------------------------------------------------------------------------ */

static void uses_of_an_untied_weight(void **state)
{
    (void)state;
    enum { T = 5 };
    model m = model_new();
    tl_param *p = tl_params_find(m.params, "rnn.weight_hh_l0");
    tl_tape *t = tl_tape_new(NULL);
    tl_var uses[T + 1];
    tl_backward(t, loss_of(t, &m));
    tl_tensor *tied = tl_tensor_copy(p->gradient, TL_F64, NULL);
    assert_int_equal(tl_untie(t, p->value), TL_ERR_ARGUMENT);
    assert_error(t, TL_ERR_ARGUMENT,
                 "untie: the tensor is on the tape already; untie it before its first use");
    tl_untie(t, NULL);
    assert_error(t, TL_ERR_ARGUMENT, "untie: tensor is NULL");
    assert_int_equal(tl_untie(t, p->value), TL_OK);
    tl_zero_gradients(m.params);
    assert_int_equal(tl_backward(t, loss_of(t, &m)), TL_OK);
    assert_int_equal(tl_untied_uses(t, p->value, T + 1, uses), T);
    assert_int_equal(tl_untied_uses(t, m.head.weight->value, T, uses), 0);
    assert_same(largest(p->gradient), 0); /* left alone */
    assert_true(largest(m.head.weight->gradient) > 0);
    for (int64_t i = 0; i < tied->layout.count; i++) {
        double sum = 0;
        for (int k = 0; k < T; k++)
            sum += item_at(t, tl_gradient(t, uses[k]), i);
        assert_near_at(sum, tl_tensor_get(tied, i), 1e-14, i);
    }
    tl_node_info n;
    for (int k = 0; k < T; k++) { /* in order of use, and named */
        char scope[32];
        snprintf(scope, sizeof scope, "layer 0, step %d", k);
        tl_inspect(t, uses[k], &n);
        assert_string_equal(n.scope, scope);
        assert_string_equal(n.name, "rnn.weight_hh_l0");
    }
    tl_tape_reset(t); /* tied again */
    tl_var a = tl_use(t, p), b = tl_use(t, p);
    assert_int_equal(a.id, b.id);
    assert_int_equal(tl_untied_uses(t, p->value, T, uses), 0);
    tl_tensor_release(tied);
    tl_tape_free(t);
    model_free(&m);
}

static void untied_and_frozen(void **state)
{
    (void)state;
    model m = model_new();
    tl_param *p = freeze(&m, "rnn.weight_hh_l0");
    tl_tape *t = tl_tape_new(NULL);
    assert_int_equal(tl_untie(t, p->value), TL_OK);
    tl_var a = tl_use(t, p), b = tl_use(t, p); /* frozen wins: one leaf without a gradient */
    assert_int_equal(a.id, b.id);
    assert_false(tl_needs_gradient(t, a));
    assert_int_equal(tl_untied_uses(t, p->value, 0, NULL), 0);
    tl_tape_free(t);
    model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_gradient_for_the_frozen), cmocka_unit_test(one_leaf_for_all_uses),
        cmocka_unit_test(frozen_leaves_are_checked),  cmocka_unit_test(optimisers_leave_them_alone),
        cmocka_unit_test(clipping_leaves_them_alone), cmocka_unit_test(uses_of_an_untied_weight),
        cmocka_unit_test(untied_and_frozen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
