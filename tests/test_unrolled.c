/* The unrolled graph in the hand: handles of every step, and what can be read off them. */
#include "nets.h"

enum { T = 5, B = 2, I = 3, H = 3 };

static const tl_rnn_config networks[] = {
    {.cell = &total_cell, .input = I, .hidden = H, .layers = 2, .connection = TL_RESIDUAL},
    {.cell = &tl_elman_cell, .input = I, .hidden = H, .layers = 1},
    {.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 2},
    {.cell = &tl_gru_cell, .input = I, .hidden = H, .layers = 2, .bidirectional = true},
    {.cell = &tl_lstm_cell,
     .input = I,
     .hidden = 4,
     .projection = 2,
     .layers = 2,
     .bidirectional = true,
     .learned_state = true,
     .batch_first = true,
     .zoneout = {0.2, 0.1}}};

static tl_tensor *random_x(const tl_rnn_config *c, uint64_t seed)
{
    dice d = dice_of(seed);
    const int64_t shape[] = {c->batch_first ? B : T, c->batch_first ? T : B, I};
    return random_tensor(&d, TL_F64, 3, shape, -1, 1);
}

static tl_var input_of(tl_tape *t, const tl_rnn_config *c, uint64_t seed)
{
    tl_tensor *x = random_x(c, seed);
    tl_var v = tl_leaf(t, x, NULL);
    tl_tensor_release(x);
    return v;
}

static tl_var time_first(tl_tape *t, const tl_rnn_config *c, tl_var x)
{
    return c->batch_first ? tl_transpose(t, x, 0, 1) : x;
}

/* Outputs and states of one lane, against what the unrolling returned. */
static void compare_lane(tl_tape *t, const net *n, const tl_unrolled *u, int layer, int direction,
                         tl_var y, const tl_var *last)
{
    const tl_rnn_config *c = &n->rnn.config;
    int64_t P = tl_rnn_output(&n->rnn) / n->rnn.directions;
    for (int64_t step = 0; step < T; step++) {
        tl_var out = tl_step_output(u, layer, direction, step), top = tl_select(t, y, 0, step);
        int64_t count = direction ? T - step : step + 1; /* the state is the output */
        assert_bits(t, tl_step_state(u, layer, direction, 0, count), out);
        if (layer == c->layers - 1 && c->connection == TL_PLAIN)
            assert_bits(t, out, tl_slice(t, top, 1, direction * P, direction * P + P, 1));
    }
    for (int k = 0; k < n->rnn.states; k++) {
        int s = (layer * n->rnn.directions + direction) * n->rnn.states + k;
        tl_var initial = tl_step_state(u, layer, direction, k, 0);
        assert_bits(t, tl_step_state(u, layer, direction, k, T), last[s]);
        for (int64_t i = 0; i < B; i++)
            assert_same(item_at(t, initial, i * tl_value(t, initial).layout->shape[1]),
                        c->learned_state ? item_at(t, initial, 0) : 0);
    }
}

static void handles_are_what_passed_between_the_steps(void **state)
{
    (void)state;
    for (int c = 0; c < COUNT_OF(networks); c++) {
        net n = net_from(&networks[c]);
        tl_tape *t = tl_tape_new(NULL);
        tl_unrolled u;
        tl_var last[8] = {TL_NONE}, x = input_of(t, &networks[c], 1);
        tl_var y = tl_unroll_with(t, &n.rnn, x, last, &(tl_unroll_options){.handles = &u});
        assert_ok(t);
        assert_bits(t, y, tl_unroll(t, &n.rnn, x, NULL));
        assert_int_equal(u.steps, T);
        assert_int_equal(u.layers, networks[c].layers);
        assert_int_equal(u.directions, n.rnn.directions);
        assert_int_equal(u.states, n.rnn.states);
        for (int layer = 0; layer < u.layers; layer++)
            for (int direction = 0; direction < u.directions; direction++)
                compare_lane(t, &n, &u, layer, direction, time_first(t, &networks[c], y), last);
        tl_tape_free(t);
        net_free(&n);
    }
}

/* What a step reads is the layer's input, or what the cell made of it for all steps at once. */
static void inputs_are_what_the_step_read(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled u;
    for (int noisy = 0; noisy < 2; noisy++) {
        tl_rnn_config config = networks[0];
        config.variational = noisy ? 0.5 : 0;
        net n = net_from(&config);
        tl_var x = input_of(t, &config, 1);
        tl_unroll_with(t, &n.rnn, x, NULL, &(tl_unroll_options){.handles = &u, .training = noisy});
        for (int64_t step = 0; step < T; step++) {
            tl_var below = tl_select(t, x, 0, step), read = tl_step_input(&u, 0, 0, step);
            tl_var next = tl_add(t, below, tl_step_output(&u, 0, 0, step)); /* residual */
            if (!noisy) {
                assert_bits(t, read, below);
                assert_bits(t, tl_step_input(&u, 1, 0, step), next);
            }
            for (int64_t i = 0; i < B * I; i++) {
                double whole = item_at(t, below, i), seen = item_at(t, read, i);
                assert_true(!noisy || seen == 0 || seen == 2 * whole);
            }
        }
        net_free(&n);
    }
    net n = net_from(&networks[1]);
    tl_var x = input_of(t, &networks[1], 1);
    tl_unroll_with(t, &n.rnn, x, NULL, &(tl_unroll_options){.handles = &u});
    tl_var bias = tl_add(t, tl_use(t, tl_rnn_weight(&n.rnn, 0, 0, "bias_ih")),
                         tl_use(t, tl_rnn_weight(&n.rnn, 0, 0, "bias_hh")));
    tl_var a = tl_linear_op(t, x, tl_use(t, tl_rnn_weight(&n.rnn, 0, 0, "weight_ih")), bias);
    for (int64_t step = 0; step < T; step++)
        assert_bits(t, tl_step_input(&u, 0, 0, step), tl_select(t, a, 0, step));
    assert_ok(t);
    tl_tape_free(t);
    net_free(&n);
}

static void places_that_do_not_exist(void **state)
{
    (void)state;
    net n = net_from(&networks[3]);
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled u;
    tl_var x = input_of(t, &networks[3], 1);
    tl_var y = tl_unroll_with(t, &n.rnn, x, NULL, &(tl_unroll_options){.handles = &u});
    static const int64_t bad[][3] = {{-1, 0, 0}, {2, 0, 0},  {0, -1, 0},
                                     {0, 2, 0},  {0, 0, -1}, {0, 0, 9}};
    for (int k = 0; k < COUNT_OF(bad); k++) {
        int layer = (int)bad[k][0], direction = (int)bad[k][1];
        assert_true(tl_is_none(tl_step_input(&u, layer, direction, bad[k][2])));
        assert_true(tl_is_none(tl_step_output(&u, layer, direction, bad[k][2])));
        assert_true(tl_is_none(tl_step_state(&u, layer, direction, 0, bad[k][2])));
        if (bad[k][2])
            continue;
        char message[128];
        tl_state_gradients(t, &u, layer, direction, 0);
        snprintf(message, sizeof message,
                 "state_gradients: there is no state 0 in layer %d, direction %d", layer, direction);
        assert_int_equal(tl_tape_status(t), TL_ERR_INDEX);
        assert_string_equal(tl_tape_message(t), message);
        tl_tape_reset(t);
        x = input_of(t, &networks[3], 1);
        y = tl_unroll_with(t, &n.rnn, x, NULL, &(tl_unroll_options){.handles = &u});
    }
    assert_true(tl_is_none(tl_step_output(&u, 0, 0, T)));
    assert_false(tl_is_none(tl_step_state(&u, 0, 0, 0, T)));
    assert_true(tl_is_none(tl_step_state(&u, 0, 0, 1, T)));
    assert_true(tl_is_none(tl_step_state(&u, 0, 0, -1, T)));
    tl_state_jacobian(t, &u, 0, 1, 0, 2, 3);
    assert_error(t, TL_ERR_INDEX,
                 "state_jacobian: no states 2 and 3, one after the other, of state 0 in layer 0, "
                 "direction 1");
    x = input_of(t, &networks[3], 1);
    y = tl_unroll_with(t, &n.rnn, x, NULL, &(tl_unroll_options){.handles = &u});
    tl_state_jacobian(t, &u, 0, 1, 4, 3, 2);
    assert_error(t, TL_ERR_INDEX,
                 "state_jacobian: no states 3 and 2, one after the other, of state 4 in layer 0, "
                 "direction 1");
    tl_step_gradients(t, tl_rnn_weight(&n.rnn, 0, 0, "weight_hh")->value);
    assert_error(t, TL_ERR_ARGUMENT,
                 "step_gradients: the tensor was not untied (tl_untie) before it was used");
    (void)y;
    tl_tape_free(t);
    net_free(&n);
}

static void lose_the_state(const tl_cell_call *c, tl_var x, tl_var *state)
{
    state[0] = c->step == 2 ? TL_NONE : tl_tanh(c->tape, x);
}

static const tl_cell_type losing = {.name = "losing", .states = {{"h", "H"}}, .step = lose_the_state};

/* What was not reached is TL_NONE, whatever the room held before. */
static void handles_of_an_unrolling_that_failed(void **state)
{
    (void)state;
    const tl_rnn_config config = {.cell = &losing, .input = I, .hidden = H, .layers = 2};
    net n = net_from(&config);
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled u;
    void *room = tl_scratch(t, 1 << 16);
    assert_non_null(room);
    memset(room, 0x5a, 1 << 16);
    tl_tape_reset(t);
    tl_unroll_with(t, &n.rnn, input_of(t, &config, 1), NULL, &(tl_unroll_options){.handles = &u});
    assert_false(tl_is_none(tl_step_output(&u, 0, 0, 1)));
    for (int64_t step = 2; step < T; step++) {
        assert_true(tl_is_none(tl_step_input(&u, 0, 0, step)));
        assert_true(tl_is_none(tl_step_output(&u, 0, 0, step)));
        assert_true(tl_is_none(tl_step_state(&u, 0, 0, 0, step + 1)));
        assert_true(tl_is_none(tl_step_state(&u, 1, 0, 0, step)));
    }
    assert_error(t, TL_ERR_ARGUMENT,
                 "unroll: losing cell: state h returned is TL_NONE (layer 0, step 2)");
    tl_tape_free(t);
    net_free(&n);
}

/* ---- gradients of states ---------------------------------------------------------------- */

/* dL/dstate as tl_grad has it, where L depends on the outputs of some steps only. */
static void gradients_of_states(void **state)
{
    (void)state;
    for (int c = 0; c < COUNT_OF(networks); c++) {
        net n = net_from(&networks[c]);
        tl_tape *t = tl_tape_new(NULL);
        tl_unrolled u;
        tl_var x = input_of(t, &networks[c], 1);
        tl_var y = tl_unroll_with(t, &n.rnn, x, NULL,
                                  &(tl_unroll_options){.handles = &u, .keep_gradients = true});
        y = time_first(t, &networks[c], y);
        tl_var loss = weigh(t, tl_slice(t, y, 0, 1, 3, 1), 1);
        assert_int_equal(tl_backward_retain(t, loss), TL_OK);
        for (int layer = 0; layer < u.layers; layer++)
            for (int direction = 0; direction < u.directions; direction++)
                for (int k = 0; k < u.states; k++) {
                    tl_var all = tl_state_gradients(t, &u, layer, direction, k);
                    assert_ok(t);
                    assert_int_equal(tl_value(t, all).layout->ndim, 3);
                    assert_int_equal(tl_value(t, all).layout->shape[0], T + 1);
                    for (int64_t count = 0; count <= T; count++) {
                        tl_var s = tl_step_state(&u, layer, direction, k, count);
                        tl_var one = tl_select(t, all, 0, count), expected;
                        if (!tl_needs_gradient(t, s)) { /* the zeros in front */
                            assert_int_equal(count, 0);
                            expected = tl_affine(t, s, 0, 0);
                        } else if (tl_grad(t, loss, TL_NONE, 1, &s, false, &expected) != TL_OK) {
                            fail_msg("%s", tl_tape_message(t));
                        }
                        assert_vars(t, one, expected, 1e-14);
                    }
                    tl_var after = tl_select(t, all, 0, T); /* nothing arrives from beyond the loss */
                    for (int64_t i = 0; !direction && layer == u.layers - 1 && i < B; i++)
                        assert_same(item_at(t, after, i), 0);
                }
        tl_tape_free(t);
        net_free(&n);
    }
}

/* ---- Jacobians -------------------------------------------------------------------------- */

/* State k after steps [from, to) of a one-layer network, begun with that state. */
static tl_tensor *advance(const net *n, const tl_tensor *x, int64_t from, int64_t to, int k,
                          tl_tensor *const *start, int64_t element, double by)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *moved = tl_tensor_copy(start[k], TL_F64, NULL);
    tl_tensor_set(moved, element, tl_tensor_get(moved, element) + by);
    tl_var state[2] = {TL_NONE, TL_NONE};
    for (int s = 0; s < n->rnn.states; s++)
        state[s] = tl_constant(t, s == k ? moved : start[s]);
    tl_var whole = tl_constant(t, (tl_tensor *)(uintptr_t)x);
    if (to > from)
        tl_unroll(t, &n->rnn, tl_slice(t, whole, 0, from, to, 1), state);
    tl_tensor *result = value_of(t, state[k]);
    tl_tensor_release(moved);
    tl_tape_free(t);
    return result;
}

/* The other states are held where they were, however the cell computes one from the other. */
static void jacobians_of_states(void **state)
{
    (void)state;
    const double h = 1e-6;
    const tl_rnn_config one[] = {
        {.cell = &tl_elman_cell, .input = I, .hidden = H, .layers = 1},
        {.cell = &tl_gru_cell, .input = I, .hidden = H, .layers = 1},
        {.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 1, .composed = true},
        {.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 1},
        {.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 1, .zoneout = {0.3, 0.2}}};
    static const int64_t spans[][2] = {{0, 5}, {0, 0}, {1, 2}, {2, 5}, {3, 3}};
    for (int c = 0; c < COUNT_OF(one); c++)
        for (int span = 0; span < COUNT_OF(spans); span++) {
            int64_t from = spans[span][0], to = spans[span][1];
            net n = net_from(&one[c]);
            tl_tape *t = tl_tape_new(NULL);
            tl_unrolled u;
            tl_tensor *x = random_x(&one[c], 1);
            dice d = dice_of(2);
            tl_var given[2] = {TL_NONE, TL_NONE};
            tl_tensor *start[2] = {NULL, NULL};
            for (int s = 0; s < n.rnn.states; s++) {
                tl_tensor *h0 = random_tensor(&d, TL_F64, TL_SHAPE(B, H), -1, 1);
                given[s] = tl_leaf(t, h0, NULL);
                tl_tensor_release(h0);
            }
            tl_unroll_with(t, &n.rnn, tl_constant(t, x), given, &(tl_unroll_options){.handles = &u});
            for (int s = 0; s < n.rnn.states; s++)
                start[s] = value_of(t, tl_step_state(&u, 0, 0, s, from));
            for (int k = 0; k < n.rnn.states; k++) {
                tl_var jacobian = tl_state_jacobian(t, &u, 0, 0, k, to, from);
                assert_ok(t);
                assert_shape(t, jacobian, "[2,3,2,3]");
                for (int64_t column = 0; column < B * H; column++) {
                    tl_tensor *above = advance(&n, x, from, to, k, start, column, h);
                    tl_tensor *below = advance(&n, x, from, to, k, start, column, -h);
                    for (int64_t row = 0; row < B * H; row++) {
                        double slope =
                            (tl_tensor_get(above, row) - tl_tensor_get(below, row)) / (2 * h);
                        assert_near(item_at(t, jacobian, row * B * H + column), slope, 1e-8);
                    }
                    tl_tensor_release(above);
                    tl_tensor_release(below);
                }
            }
            for (int s = 0; s < n.rnn.states; s++)
                tl_tensor_release(start[s]);
            tl_tensor_release(x);
            tl_tape_free(t);
            net_free(&n);
        }
}

/* Backwards the states are counted in the direction of reading. */
static void jacobians_of_the_other_direction(void **state)
{
    (void)state;
    const tl_rnn_config config = {
        .cell = &total_cell, .input = I, .hidden = H, .layers = 1, .bidirectional = true};
    net n = net_from(&config);
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled u;
    tl_var x = input_of(t, &config, 1);
    tl_unroll_with(t, &n.rnn, x, NULL, &(tl_unroll_options){.handles = &u});
    tl_var j = tl_state_jacobian(t, &u, 0, 1, 0, 4, 1); /* h' = h + x: the identity */
    for (int64_t i = 0; i < B * H * B * H; i++)
        assert_same(item_at(t, j, i), i / (B * H) == i % (B * H));
    assert_bits(t, tl_step_state(&u, 0, 1, 0, 1), tl_select(t, x, 0, T - 1));
    assert_ok(t);
    tl_tape_free(t);
    net_free(&n);
}

/* ---- gradients step by step ------------------------------------------------------------- */

/* Untied, every weight: the gradients of its uses add up to that of the tied one, and each use of W_hh
 * has the gradient of its own step: sum over rows of (gradient of the preactivation) h'. */
static void gradients_of_weights_step_by_step(void **state)
{
    (void)state;
    for (int c = 1; c < COUNT_OF(networks); c++)
        for (int before = 0; before < 2; before++) { /* GRU: W_hh is sliced */
            tl_rnn_config config = networks[c];
            const tl_gru_options gru = {.reset = TL_RESET_BEFORE};
            if (before && config.cell != &tl_gru_cell)
                continue;
            config.options = before ? &gru : NULL;
            net n = net_from(&config);
            tl_tape *t = tl_tape_new(NULL);
            tl_tensor *y[2];
            tl_unrolled u;
            for (int untied = 0; untied < 2; untied++) {
                if (untied)
                    for (int k = 0; k < n.params->count; k++)
                        tl_untie(t, n.params->entry[k]->value);
                tl_var v = tl_unroll_with(t, &n.rnn, input_of(t, &config, 1), NULL,
                                          &(tl_unroll_options){.handles = &u, .keep_gradients = true});
                y[untied] = value_of(t, v);
                assert_int_equal(tl_backward_retain(t, weigh(t, v, 1)), TL_OK);
                if (!untied)
                    tl_tape_reset(t);
            }
            assert_tensors(y[1], y[0], 1e-15);
            for (int k = 0; k < n.params->count; k++) {
                const tl_param *p = n.params->entry[k];
                tl_var steps = tl_step_gradients(t, p->value);
                assert_ok(t);
                if (strstr(p->name, "weight_hh"))
                    assert_int_equal(tl_value(t, steps).layout->shape[0], T);
                assert_vars(t, tl_sum_axes(t, steps, 1, (int[]){0}, false), tl_constant(t, p->gradient),
                            1e-13);
            }
            tl_tensor_release(y[0]);
            tl_tensor_release(y[1]);
            tl_tape_free(t);
            net_free(&n);
        }
}

/* Elman: dL/dW_hh of step s is delta_s h_{s-1}', with delta = dL/dh (1 - h h). */
static void a_step_s_gradient_is_its_own(void **state)
{
    (void)state;
    net n = net_from(&networks[1]);
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled u;
    const tl_tensor *w = tl_rnn_weight(&n.rnn, 0, 0, "weight_hh")->value;
    tl_untie(t, w);
    tl_var y = tl_unroll_with(t, &n.rnn, input_of(t, &networks[1], 1), NULL,
                              &(tl_unroll_options){.handles = &u, .keep_gradients = true});
    assert_int_equal(tl_backward_retain(t, weigh(t, y, 1)), TL_OK);
    tl_var steps = tl_step_gradients(t, w), dh = tl_state_gradients(t, &u, 0, 0, 0);
    assert_shape(t, steps, "[5,3,3]");
    for (int64_t step = 0; step < T; step++)
        for (int64_t i = 0; i < H; i++)
            for (int64_t j = 0; j < H; j++) {
                double sum = 0;
                for (int64_t b = 0; b < B; b++) {
                    double h = item_at(t, tl_step_state(&u, 0, 0, 0, step + 1), b * H + i);
                    double g = item_at(t, dh, ((step + 1) * B + b) * H + i);
                    sum += g * (1 - h * h) * item_at(t, tl_step_state(&u, 0, 0, 0, step), b * H + j);
                }
                assert_near(item_at(t, steps, (step * H + i) * H + j), sum, 1e-14);
            }
    assert_ok(t);
    tl_tape_free(t);
    net_free(&n);
}

/* A weight that reaches no loss: zeros. */
static void weights_without_a_gradient(void **state)
{
    (void)state;
    net n = net_from(&networks[2]);
    tl_tape *t = tl_tape_new(NULL);
    const tl_tensor *w = tl_rnn_weight(&n.rnn, 1, 0, "weight_hh")->value;
    tl_unrolled u;
    tl_untie(t, w);
    tl_unroll_with(t, &n.rnn, input_of(t, &networks[2], 1), NULL, &(tl_unroll_options){.handles = &u});
    assert_int_equal(tl_backward(t, weigh(t, tl_step_output(&u, 0, 0, 2), 1)), TL_OK);
    tl_var steps = tl_step_gradients(t, w);
    assert_shape(t, steps, "[5,12,3]");
    for (int64_t i = 0; i < 5 * 12 * 3; i++)
        assert_same(item_at(t, steps, i), 0);
    assert_ok(t);
    tl_tape_free(t);
    net_free(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handles_are_what_passed_between_the_steps),
        cmocka_unit_test(inputs_are_what_the_step_read),
        cmocka_unit_test(places_that_do_not_exist),
        cmocka_unit_test(handles_of_an_unrolling_that_failed),
        cmocka_unit_test(gradients_of_states),
        cmocka_unit_test(jacobians_of_states),
        cmocka_unit_test(jacobians_of_the_other_direction),
        cmocka_unit_test(gradients_of_weights_step_by_step),
        cmocka_unit_test(a_step_s_gradient_is_its_own),
        cmocka_unit_test(weights_without_a_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
