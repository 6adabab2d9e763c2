/* What happens between the steps of a network, and around its layers: lengths, masks, directions,
 * connections, noise. */
#include "nets.h"

#include "autograd/gradcheck.h"

static const tl_unroll_options training = {.training = true};

/* ---- rows of different lengths ---------------------------------------------------------- */

static const tl_rnn_config varied[] = {
    {.cell = &tl_elman_cell, .input = 3, .hidden = 4, .layers = 1},
    {.cell = &tl_lstm_cell, .input = 3, .hidden = 4, .layers = 2},
    {.cell = &tl_lstm_cell, .input = 3, .hidden = 4, .layers = 1, .composed = true},
    {.cell = &tl_gru_cell, .input = 3, .hidden = 4, .layers = 2, .bidirectional = true},
    {.cell = &tl_lstm_cell,
     .input = 3,
     .hidden = 4,
     .layers = 2,
     .bidirectional = true,
     .learned_state = true,
     .zoneout = {0.3, 0.1}},
    {.cell = &tl_lstm_cell,
     .input = 4,
     .hidden = 4,
     .projection = 2,
     .layers = 3,
     .bidirectional = true,
     .connection = TL_RESIDUAL,
     .layer_norm = true},
    {.cell = &tl_gru_cell,
     .options = &(tl_gru_options){.reset = TL_RESET_BEFORE},
     .input = 5,
     .hidden = 5,
     .layers = 2,
     .connection = TL_HIGHWAY,
     .batch_first = true},
    {.cell = &tl_lstm_cell,
     .options = &(tl_lstm_options){.peephole = true, .coupled = true, .layer_norm = true},
     .input = 3,
     .hidden = 4,
     .layers = 2,
     .layer_norm = true,
     .learned_state = true}};

enum { MOST_STATES_HERE = 3 * 2 * 2 };

/* The size of a state of one row: of h if k == 0, else of c. */
static int64_t state_size(const tl_rnn_config *c, int k)
{
    return k == 0 && c->projection ? c->projection : c->hidden;
}

/* Initial states of dice, as leaves; released by the tape. */
static void random_states(tl_tape *t, const net *n, dice *d, int64_t batch, tl_var *state)
{
    for (int s = 0; s < tl_rnn_states(&n->rnn); s++) {
        int64_t size = state_size(&n->rnn.config, s % n->rnn.states);
        tl_tensor *x = random_tensor(d, TL_F64, TL_SHAPE(batch, size), -1, 1);
        state[s] = tl_leaf(t, x, NULL);
        tl_tensor_release(x);
    }
}

/* Row b of a [..] whose dimension `dim` is the batch, from time 0 to `length`. */
static tl_var row_of(tl_tape *t, tl_var x, int64_t b, int64_t length, bool batch_first)
{
    tl_var row = tl_slice(t, x, batch_first ? 0 : 1, b, b + 1, 1);
    return tl_slice(t, row, batch_first ? 1 : 0, 0, length, 1);
}

enum { T = 6, B = 5 };

static const int64_t lengths[B] = {3, 0, 6, 1, 5}; /* in no order */

static tl_var random_input(tl_tape *t, const tl_rnn_config *c, dice *d, double padding)
{
    const int64_t shape[3] = {c->batch_first ? B : T, c->batch_first ? T : B, c->input};
    tl_tensor *x = random_tensor(d, TL_F64, 3, shape, -1, 1);
    for (int64_t i = 0; i < T * B; i++) {
        int64_t step = c->batch_first ? i % T : i / B, b = c->batch_first ? i / T : i % B;
        for (int64_t j = 0; j < c->input && padding != 0 && step >= lengths[b]; j++)
            tl_tensor_set(x, i * c->input + j, padding);
    }
    tl_var v = tl_leaf(t, x, NULL);
    tl_tensor_release(x);
    return v;
}

static void each_row_is_as_if_it_were_alone(void **state)
{
    (void)state;
    for (int c = 0; c < COUNT_OF(varied); c++) {
        net n = net_from(&varied[c]);
        const bool batch_first = varied[c].batch_first;
        dice d = dice_of(3);
        tl_tape *t = tl_tape_new(NULL);
        tl_var leaf[MOST_ASKED], first[MOST_STATES_HERE], last[MOST_STATES_HERE];
        int count = use_all(t, &n, leaf), states = tl_rnn_states(&n.rnn);
        tl_var x = random_input(t, &varied[c], &d, 0);
        random_states(t, &n, &d, B, first);
        if (varied[c].learned_state) /* some are given, some are learned */
            first[0] = first[states - 1] = TL_NONE;
        memcpy(last, first, sizeof last);
        tl_var y = tl_unroll_with(t, &n.rnn, x, last, &(tl_unroll_options){.lengths = lengths});
        tl_var loss = weigh(t, y, 1), alone = tl_full(t, TL_F64, 0, NULL, 0);
        for (int s = 0; s < states; s++)
            loss = tl_add(t, loss, weigh(t, last[s], (uint64_t)s + 2));
        assert_ok(t);
        int64_t width = tl_rnn_output(&n.rnn);
        dice weights = dice_of(1);
        tl_tensor *w = random_tensor(&weights, TL_F64, 3, tl_value(t, y).layout->shape, -1, 1);
        tl_var w_y = tl_constant(t, w);
        for (int64_t b = 0; b < B; b++) {
            tl_var own[MOST_STATES_HERE];
            for (int s = 0; s < states; s++)
                own[s] = tl_is_none(first[s]) ? TL_NONE : tl_slice(t, first[s], 0, b, b + 1, 1);
            if (lengths[b]) {
                tl_var z = tl_unroll(t, &n.rnn, row_of(t, x, b, lengths[b], batch_first), own);
                assert_vars(t, row_of(t, y, b, lengths[b], batch_first), z, 1e-14);
                tl_var weight = row_of(t, w_y, b, lengths[b], batch_first);
                alone = tl_add(t, alone, tl_sum(t, tl_mul(t, z, weight)));
            }
            for (int64_t step = lengths[b]; step < T; step++)
                for (int64_t j = 0; j < width; j++)
                    assert_same(item_at(t, y, (batch_first ? b * T + step : step * B + b) * width + j),
                                0);
            for (int s = 0; s < states; s++) {
                tl_var mine = tl_slice(t, last[s], 0, b, b + 1, 1);
                if (tl_is_none(own[s])) { /* of no steps: the learned one */
                    char name[64];
                    snprintf(name, sizeof name, "rnn.%s0_l%d%s", s % n.rnn.states ? "c" : "h",
                             s / n.rnn.states / n.rnn.directions,
                             s / n.rnn.states % n.rnn.directions ? "_reverse" : "");
                    own[s] = tl_use(t, tl_params_find(n.params, name));
                    own[s] = tl_reshape(t, own[s], TL_SHAPE(1, -1));
                }
                assert_vars(t, mine, own[s], 1e-14);
                dice e = dice_of((uint64_t)s + 2);
                tl_tensor *v = random_tensor(&e, TL_F64, 2, tl_value(t, last[s]).layout->shape, -1, 1);
                tl_var weight = tl_slice(t, tl_constant(t, v), 0, b, b + 1, 1);
                alone = tl_add(t, alone, tl_sum(t, tl_mul(t, own[s], weight)));
                tl_tensor_release(v);
            }
        }
        tl_tensor_release(w);
        tl_var ask[MOST_ASKED], grads[2][MOST_ASKED];
        memcpy(ask, leaf, sizeof ask);
        ask[count++] = x;
        for (int s = 0; s < states; s++)
            if (!tl_is_none(first[s]))
                ask[count++] = first[s];
        tl_grad(t, loss, TL_NONE, count, ask, false, grads[0]);
        tl_grad(t, alone, TL_NONE, count, ask, false, grads[1]);
        assert_ok(t);
        for (int k = 0; k < count; k++)
            assert_vars(t, grads[0][k], grads[1][k], 1e-12);
        tl_tape_free(t);
        net_free(&n);
    }
}

/* Everything that is left by an unrolling: [0] y, states; then the gradients. */
static int leave_traces(tl_tape *t, const net *n, double padding, tl_tensor **trace)
{
    dice d = dice_of(3);
    tl_var ask[MOST_ASKED], grads[MOST_ASKED], state[MOST_STATES_HERE];
    int asked = use_all(t, n, ask), count = 0, states = tl_rnn_states(&n->rnn);
    ask[asked++] = random_input(t, &n->rnn.config, &d, padding);
    random_states(t, n, &d, B, state);
    for (int s = 0; s < states; s++)
        ask[asked++] = state[s];
    tl_var y = tl_unroll_with(t, &n->rnn, ask[asked - 1 - states], state,
                              &(tl_unroll_options){.lengths = lengths});
    tl_var all = joined(t, y, states, state);
    tl_grad(t, tl_sum(t, tl_square(t, all)), TL_NONE, asked, ask, false, grads);
    assert_ok(t);
    trace[count++] = value_of(t, all);
    for (int k = 0; k < asked; k++)
        trace[count++] = value_of(t, grads[k]);
    tl_tape_reset(t);
    return count;
}

static void what_the_padding_holds_reaches_nothing(void **state)
{
    (void)state;
    const double paddings[] = {NAN, INFINITY, 1e300};
    tl_tape *t = tl_tape_new(NULL);
    for (int c = 0; c < COUNT_OF(varied); c++) {
        net n = net_from(&varied[c]);
        tl_tensor *clean[MOST_ASKED], *dirty[MOST_ASKED];
        int count = leave_traces(t, &n, 0, clean);
        for (int p = 0; p < COUNT_OF(paddings); p++) {
            assert_int_equal(leave_traces(t, &n, paddings[p], dirty), count);
            for (int k = 0; k < count; k++) {
                size_t bytes = (size_t)clean[k]->layout.count * sizeof(double);
                assert_memory_equal(clean[k]->data, dirty[k]->data, bytes);
                for (int64_t i = 0; i < dirty[k]->layout.count; i++)
                    assert_true(isfinite(tl_tensor_get(dirty[k], i)));
                tl_tensor_release(dirty[k]);
            }
        }
        for (int k = 0; k < count; k++)
            tl_tensor_release(clean[k]);
        net_free(&n);
    }
    tl_tape_free(t);
}

/* Lengths that say nothing cost nothing. */
static void full_lengths_are_none(void **state)
{
    (void)state;
    static const int64_t full[B] = {T, T, T, T, T};
    net n = net_from(&varied[4]);
    dice d = dice_of(3);
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = random_input(t, &varied[4], &d, 0);
    uint32_t before = tl_tape_measure(t).variables;
    tl_var y = tl_unroll(t, &n.rnn, x, NULL);
    uint32_t between = tl_tape_measure(t).variables;
    tl_var z = tl_unroll_with(t, &n.rnn, x, NULL, &(tl_unroll_options){.lengths = full});
    assert_true(tl_tape_measure(t).variables - between <= between - before);
    assert_bits(t, y, z);
    tl_tape_free(t);
    net_free(&n);
}

static void options_that_do_not_fit_are_named(void **state)
{
    (void)state;
    net n = net_from(&varied[1]), last = net_from(&varied[6]);
    tl_tape *t = tl_tape_new(NULL);
#define X         tl_full(t, TL_F64, TL_SHAPE(T, B, 3), 0.5)
#define MASK(...) tl_full(t, TL_U8, TL_SHAPE(__VA_ARGS__), 0)
    tl_unroll_with(t, &n.rnn, X, NULL,
                   &(tl_unroll_options){.lengths = (const int64_t[]){1, 2, 3, -1, 2}});
    assert_error(t, TL_ERR_ARGUMENT, "unroll: length -1 of row 3 is not within 0..6");
    tl_unroll_with(t, &n.rnn, X, NULL,
                   &(tl_unroll_options){.lengths = (const int64_t[]){1, 7, 3, 1, 2}});
    assert_error(t, TL_ERR_ARGUMENT, "unroll: length 7 of row 1 is not within 0..6");
    tl_unroll_with(t, &n.rnn, X, NULL, &(tl_unroll_options){.reset = MASK(B, T)});
    assert_error(t, TL_ERR_SHAPE, "unroll: reset wants a mask u8 [6,5], not u8 [5,6]");
    tl_unroll_with(t, &n.rnn, X, NULL, &(tl_unroll_options){.detach = MASK(T)});
    assert_error(t, TL_ERR_SHAPE, "unroll: detach wants a mask u8 [6,5], not u8 [6]");
    tl_unroll_with(t, &n.rnn, X, NULL,
                   &(tl_unroll_options){.detach = tl_full(t, TL_F64, TL_SHAPE(T, B), 0)});
    assert_error(t, TL_ERR_SHAPE, "unroll: detach wants a mask u8 [6,5], not f64 [6,5]");
    tl_unroll(t, &last.rnn, tl_full(t, TL_F64, TL_SHAPE(B, 0, 5), 0), NULL);
    assert_error(t, TL_ERR_SHAPE, "unroll: gru network wants [B,T,5] with T >= 1, not [5,0,5]");
    tl_unroll(t, &last.rnn, tl_full(t, TL_F64, TL_SHAPE(B, T, 4), 0), NULL);
    assert_error(t, TL_ERR_SHAPE, "unroll: gru network wants [B,T,5] with T >= 1, not [5,6,4]");
    tl_unrolled handles = {.steps = 7};
    tl_unroll_with(t, &n.rnn, tl_poison(t), NULL, &(tl_unroll_options){.handles = &handles});
    assert_int_equal(handles.steps, 0);
    assert_true(tl_is_none(tl_step_state(&handles, 0, 0, 0, 0)));
#undef X
#undef MASK
    tl_tape_free(t);
    net_free(&n);
    net_free(&last);
}

/* ---- masks: beginning anew, cutting ----------------------------------------------------- */

static const uint8_t marks[T][B] = {{0, 1, 0, 0, 1}, {0, 0, 0, 0, 0}, {0, 1, 0, 0, 0},
                                    {1, 0, 0, 0, 0}, {0, 0, 0, 1, 1}, {0, 1, 0, 0, 1}};

static const tl_rnn_config one_way[] = {
    {.cell = &tl_lstm_cell, .input = 3, .hidden = 4, .layers = 2},
    {.cell = &tl_gru_cell, .input = 3, .hidden = 4, .layers = 1, .learned_state = true},
    {.cell = &tl_lstm_cell,
     .input = 3,
     .hidden = 4,
     .layers = 2,
     .learned_state = true,
     .zoneout = {0.4, 0.2}},
    {.cell = &tl_elman_cell, .input = 3, .hidden = 4, .layers = 3, .zoneout = {1}, .layer_norm = true},
};

/* Row by row, in stretches from mark to mark. */
static void marked_rows_are_parts_apart(bool reset)
{
    for (int c = 0; c < COUNT_OF(one_way); c++) {
        net n = net_from(&one_way[c]);
        dice d = dice_of(4);
        tl_tape *t = tl_tape_new(NULL);
        tl_var ask[MOST_ASKED], grads[2][MOST_ASKED], first[MOST_STATES_HERE], last[MOST_STATES_HERE];
        int count = use_all(t, &n, ask), states = tl_rnn_states(&n.rnn);
        tl_var x = ask[count++] = random_input(t, &one_way[c], &d, 0);
        random_states(t, &n, &d, B, first);
        for (int s = 0; s < states; s++)
            ask[count++] = first[s];
        memcpy(last, first, sizeof last);
        tl_var mask = tl_constant_from(t, TL_U8, TL_SHAPE(T, B), marks);
        tl_unroll_options options = {.reset = reset ? mask : TL_NONE, .detach = reset ? TL_NONE : mask};
        tl_var y = tl_unroll_with(t, &n.rnn, x, last, &options), rows[B], parts[MOST_STATES_HERE][B];
        for (int64_t b = 0; b < B; b++) {
            tl_var own[MOST_STATES_HERE], piece[T];
            int pieces = 0;
            for (int s = 0; s < states; s++)
                own[s] = tl_slice(t, first[s], 0, b, b + 1, 1);
            for (int64_t from = 0, to; from < T; from = to) {
                for (int s = 0; s < states && marks[from][b]; s++)
                    own[s] = reset ? TL_NONE : tl_detach(t, own[s]);
                for (to = from + 1; to < T && !marks[to][b];)
                    to++;
                tl_var part = tl_slice(t, tl_slice(t, x, 1, b, b + 1, 1), 0, from, to, 1);
                piece[pieces++] = tl_unroll(t, &n.rnn, part, own);
            }
            rows[b] = tl_concat(t, pieces, piece, 0);
            for (int s = 0; s < states; s++)
                parts[s][b] = own[s];
        }
        tl_var apart = tl_concat(t, B, rows, 1), state[MOST_STATES_HERE];
        assert_vars(t, y, apart, 1e-14);
        for (int s = 0; s < states; s++) {
            state[s] = tl_concat(t, B, parts[s], 0);
            assert_vars(t, last[s], state[s], 1e-14);
        }
        tl_grad(t, weigh(t, joined(t, y, states, last), 1), TL_NONE, count, ask, false, grads[0]);
        tl_grad(t, weigh(t, joined(t, apart, states, state), 1), TL_NONE, count, ask, false, grads[1]);
        assert_ok(t);
        for (int k = 0; k < count; k++)
            assert_vars(t, grads[0][k], grads[1][k], 1e-13);
        tl_var plain[MOST_STATES_HERE];
        memcpy(plain, first, sizeof plain);
        if (!reset) /* values go on as if nothing had happened */
            assert_bits(t, y, tl_unroll(t, &n.rnn, x, plain));
        tl_tape_free(t);
        net_free(&n);
    }
}

static void rows_begin_anew(void **state)
{
    (void)state;
    marked_rows_are_parts_apart(true);
}

static void rows_are_cut(void **state)
{
    (void)state;
    marked_rows_are_parts_apart(false);
}

/* A mark beyond the end of a row is none; and masks do not concern the backward direction. */
static void masks_and_lengths_and_directions(void **state)
{
    (void)state;
    net n = net_from(&varied[4]);
    dice d = dice_of(4);
    tl_tape *t = tl_tape_new(NULL);
    uint8_t within[T][B];
    for (int i = 0; i < T * B; i++)
        within[i / B][i % B] = marks[i / B][i % B] && i / B < lengths[i % B];
    tl_var x = random_input(t, &varied[4], &d, 0), first[8], state8[2][8], y[2];
    random_states(t, &n, &d, B, first);
    for (int k = 0; k < 2; k++) {
        memcpy(state8[k], first, sizeof first);
        tl_unroll_options o = {
            .lengths = lengths,
            .reset = tl_constant_from(t, TL_U8, TL_SHAPE(T, B), k ? &within[0][0] : &marks[0][0])};
        y[k] = tl_unroll_with(t, &n.rnn, x, state8[k], &o);
    }
    assert_bits(t, y[0], y[1]);
    for (int s = 0; s < 8; s++)
        assert_bits(t, state8[0][s], state8[1][s]);
    for (int64_t j = 0; j < 4; j++) /* row 1 has no steps, though it is marked */
        assert_same(item_at(t, state8[0][0], 4 + j), item_at(t, first[0], 4 + j));
    tl_rnn_config config = varied[4];
    config.layers = 1;
    net one = net_from(&config);
    tl_var masked =
        tl_unroll_with(t, &one.rnn, x, NULL,
                       &(tl_unroll_options){.reset = tl_full(t, TL_U8, TL_SHAPE(T, B), 1),
                                            .detach = tl_full(t, TL_U8, TL_SHAPE(T, B), 1)});
    tl_var plain = tl_unroll(t, &one.rnn, x, NULL);
    assert_bits(t, tl_slice(t, masked, 2, 4, 8, 1), tl_slice(t, plain, 2, 4, 8, 1));
    assert_true(item_at(t, masked, 8 * B) != item_at(t, plain, 8 * B));
    assert_ok(t);
    tl_tape_free(t);
    net_free(&n);
    net_free(&one);
}

/* ---- layers, directions, connections ---------------------------------------------------- */

static tl_tensor *param(const net *n, const char *name, int layer, const char *suffix)
{
    char text[64];
    snprintf(text, sizeof text, "rnn.%s_l%d%s", name, layer, suffix);
    tl_param *p = tl_params_find(n->params, text);
    assert_non_null(p);
    return p->value;
}

/* One layer in one direction as a network of its own. */
static net lane_of(const net *n, int layer, int direction)
{
    tl_rnn_config config = n->rnn.config;
    config.input = layer ? tl_rnn_output(&n->rnn) : config.input;
    config.layers = 1;
    config.bidirectional = config.layer_norm = config.batch_first = false;
    config.connection = TL_PLAIN;
    net lane = net_from(&config);
    for (int k = 0; k < lane.params->count; k++) {
        char name[64];
        snprintf(name, sizeof name, "%.*s%d%s", (int)strlen(lane.params->entry[k]->name) - 1,
                 lane.params->entry[k]->name, layer, direction ? "_reverse" : "");
        tl_param *p = tl_params_find(n->params, name);
        assert_non_null(p);
        tl_tensor_assign(lane.params->entry[k]->value, p->value, NULL);
    }
    return lane;
}

/* (y - mean) / sqrt(variance + 1e-5) w + b */
static tl_var normalised(tl_tape *t, tl_var y, tl_tensor *w, tl_tensor *b)
{
    int64_t last = tl_value(t, y).layout->ndim - 1, n = tl_value(t, y).layout->shape[last];
    tl_var ones = tl_full(t, TL_F64, TL_SHAPE(n, n), 1. / (double)n);
    tl_var centred = tl_sub(t, y, tl_matmul(t, y, ones));
    tl_var variance = tl_matmul(t, tl_square(t, centred), ones);
    tl_var unit = tl_mul(t, centred, tl_rsqrt(t, tl_affine(t, variance, 1, 1e-5)));
    return tl_add(t, tl_mul(t, unit, tl_constant(t, w)), tl_constant(t, b));
}

static void layers_directions_and_connections(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4 * 3 * 2; kind++) {
        const int connection = kind % 3, shape = kind / 6;
        const tl_rnn_config config = {.cell = shape & 1 ? &tl_lstm_cell : &tl_gru_cell,
                                      .input = shape & 2 ? 8 : 3,
                                      .hidden = 4,
                                      .layers = 3,
                                      .bidirectional = true,
                                      .connection = (tl_connection)connection,
                                      .layer_norm = kind / 3 % 2,
                                      .batch_first = shape == 3};
        net n = net_from(&config);
        dice d = dice_of(6);
        tl_tape *t = tl_tape_new(NULL);
        tl_var x = random_input(t, &config, &d, 0), last[MOST_STATES_HERE] = {TL_NONE};
        tl_var y = tl_unroll(t, &n.rnn, x, last);
        assert_int_equal(tl_rnn_states(&n.rnn), 6 * n.rnn.states);
        tl_var in = config.batch_first ? tl_transpose(t, x, 0, 1) : x;
        for (int layer = 0; layer < 3; layer++) {
            tl_var out[2];
            for (int direction = 0; direction < 2; direction++) {
                net lane = lane_of(&n, layer, direction);
                tl_var own[2] = {TL_NONE, TL_NONE};
                tl_var z = direction ? tl_flip(t, in, 1, (int[]){0}) : in;
                z = tl_unroll(t, &lane.rnn, z, own);
                out[direction] = direction ? tl_flip(t, z, 1, (int[]){0}) : z;
                for (int s = 0; s < n.rnn.states; s++)
                    assert_vars(t, last[(layer * 2 + direction) * n.rnn.states + s], own[s], 1e-14);
                tl_tape_usage usage = tl_tape_measure(t);
                assert_true(usage.variables > 0);
                net_free(&lane);
            }
            tl_var f = tl_concat(t, 2, out, 2);
            bool fits = layer || config.input == 8;
            if (fits && connection == TL_RESIDUAL)
                f = tl_add(t, in, f);
            if (fits && connection == TL_HIGHWAY) {
                tl_var w = tl_constant(t, param(&n, "highway_weight", layer, ""));
                tl_var b = tl_constant(t, param(&n, "highway_bias", layer, ""));
                tl_var g = tl_sigmoid(t, tl_add(t, tl_matmul(t, in, tl_transpose(t, w, 0, 1)), b));
                tl_var rest = tl_mul(t, tl_affine(t, g, -1, 1), in);
                f = tl_add(t, tl_mul(t, g, f), rest);
            }
            if (config.layer_norm)
                f = normalised(t, f, param(&n, "norm_weight", layer, ""),
                               param(&n, "norm_bias", layer, ""));
            in = f;
        }
        assert_shape(t, y, config.batch_first ? "[5,6,8]" : "[6,5,8]");
        assert_vars(t, y, config.batch_first ? tl_transpose(t, in, 0, 1) : in, 1e-13);
        assert_ok(t);
        tl_tape_free(t);
        net_free(&n);
    }
}

/* Learned states are those of all rows; given ones come before them. */
static void learned_states(void **state)
{
    (void)state;
    const tl_rnn_config config = {.cell = &tl_lstm_cell,
                                  .input = 3,
                                  .hidden = 4,
                                  .projection = 2,
                                  .layers = 2,
                                  .bidirectional = true,
                                  .learned_state = true};
    net n = net_from(&config);
    dice d = dice_of(6);
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = random_input(t, &config, &d, 0), none[8] = {TL_NONE}, given[8], grad[2], ask[2];
    for (int s = 0; s < 8; s++) {
        tl_param *p =
            tl_params_find(n.params, (const char *[]){"rnn.h0_l0", "rnn.c0_l0", "rnn.h0_l0_reverse",
                                                      "rnn.c0_l0_reverse", "rnn.h0_l1", "rnn.c0_l1",
                                                      "rnn.h0_l1_reverse", "rnn.c0_l1_reverse"}[s]);
        assert_non_null(p);
        given[s] = tl_expand(t, tl_constant(t, p->value), TL_SHAPE(B, s % 2 ? 4 : 2));
    }
    tl_var y = tl_unroll(t, &n.rnn, x, none);
    assert_bits(t, y, tl_unroll(t, &n.rnn, x, NULL));
    assert_bits(t, y, tl_unroll(t, &n.rnn, x, given));
    for (int s = 0; s < 8; s++)
        assert_bits(t, none[s], given[s]);
    tl_var leaves[8]; /* the gradient is the sum of those of all rows */
    random_states(t, &n, &d, B, leaves);
    memcpy(given, leaves, sizeof given);
    given[7] = TL_NONE;
    ask[0] = tl_use(t, tl_params_find(n.params, "rnn.c0_l1_reverse"));
    ask[1] = tl_use(t, tl_params_find(n.params, "rnn.c0_l1"));
    tl_grad(t, weigh(t, tl_unroll(t, &n.rnn, x, given), 1), TL_NONE, 2, ask, false, grad);
    assert_ok(t);
    for (int64_t j = 0; j < 4; j++) {
        assert_true(fabs(item_at(t, grad[0], j)) > 1e-6);
        assert_same(item_at(t, grad[1], j), 0); /* another was given */
    }
    tl_tape_free(t);
    net_free(&n);
}

/* ---- noise ------------------------------------------------------------------------------ */

enum { WIDE = 400, TALL = 50, NOISY_STEPS = 4 };

static tl_var ones(tl_tape *t)
{
    return tl_full(t, TL_F64, TL_SHAPE(NOISY_STEPS, TALL, WIDE), 1);
}

static tl_rnn_config noisy(const tl_cell_type *cell, int layers)
{
    return (tl_rnn_config){.cell = cell, .input = WIDE, .hidden = WIDE, .layers = layers};
}

/* y is `low` or `high` everywhere; the share of `high`. */
static double share_of(tl_tape *t, tl_var y, double low, double high)
{
    tl_tensor *v = value_of(t, y);
    double count = 0;
    for (int64_t i = 0; i < v->layout.count; i++) {
        double x = tl_tensor_get(v, i);
        if (fabs(x - low) > 1e-12 && fabs(x - high) > 1e-12)
            fail_msg("element %lld is %.17g, neither %g nor %g", (long long)i, x, low, high);
        count += fabs(x - high) <= 1e-12;
    }
    count /= (double)v->layout.count;
    tl_tensor_release(v);
    return count;
}

/* How many elements of two steps (or of two rows) are not the same, as a share. */
static double share_that_differs(tl_tape *t, tl_var y, int dim, int64_t a, int64_t b)
{
    tl_tensor *u = value_of(t, tl_select(t, y, dim, a)), *v = value_of(t, tl_select(t, y, dim, b));
    double count = 0;
    for (int64_t i = 0; i < u->layout.count; i++)
        count += tl_tensor_get(u, i) != tl_tensor_get(v, i);
    count /= (double)u->layout.count;
    tl_tensor_release(u);
    tl_tensor_release(v);
    return count;
}

static tl_var train(tl_tape *t, const tl_rnn_config *config, tl_var x, tl_var *state)
{
    net n = net_from(config);
    tl_var y = tl_unroll_with(t, &n.rnn, x, state, &training);
    assert_ok(t);
    net_free(&n);
    return y;
}

/* Independent masks differ in 2 p (1-p) of the elements. */
static void dropout_between_layers(void **state)
{
    (void)state;
    const double p = 0.3;
    tl_tape *t = tl_tape_new(NULL);
    tl_rnn_config config = noisy(&echo_cell, 2);
    config.dropout = p;
    tl_var y = train(t, &config, ones(t), NULL);
    assert_near(share_of(t, y, 0, 1 / (1 - p)), 1 - p, 0.01); /* and so the mean is kept */
    for (int64_t step = 1; step < NOISY_STEPS; step++)
        assert_near(share_that_differs(t, y, 0, 0, step), 2 * p * (1 - p), 0.02);
    assert_near(share_that_differs(t, y, 1, 0, 1), 2 * p * (1 - p), 0.05);
    config.layers = 1; /* the last one's outputs are left alone */
    assert_same(share_of(t, train(t, &config, ones(t), NULL), 0, 1), 1);
    config.layers = 3;
    y = train(t, &config, ones(t), NULL);
    assert_near(share_of(t, y, 0, pow(1 - p, -2)), (1 - p) * (1 - p), 0.01);
    tl_tape_free(t);
}

static void variational_dropout(void **state)
{
    (void)state;
    const double p = 0.3;
    tl_tape *t = tl_tape_new(NULL);
    tl_rnn_config config = noisy(&echo_cell, 1);
    config.variational = p;
    tl_var y = train(t, &config, ones(t), NULL);
    assert_near(share_of(t, y, 0, 1 / (1 - p)), 1 - p, 0.02);
    for (int64_t step = 1; step < NOISY_STEPS; step++)
        assert_same(share_that_differs(t, y, 0, 0, step), 0);              /* one mask for all steps */
    assert_near(share_that_differs(t, y, 1, 0, 1), 2 * p * (1 - p), 0.07); /* for each row its own */
    config.layers = 2;
    y = train(t, &config, ones(t), NULL); /* and for each layer */
    assert_near(share_of(t, y, 0, pow(1 - p, -2)), (1 - p) * (1 - p), 0.02);
    config.connection = TL_RESIDUAL; /* what passes by is not dropped */
    config.layers = 1;
    y = train(t, &config, ones(t), NULL);
    assert_near(share_of(t, y, 1, 1 + 1 / (1 - p)), 1 - p, 0.02);
    tl_tape_free(t);
}

static void recurrent_dropout(void **state)
{
    (void)state;
    const double p = 0.3, once = 1 / (1 - p);
    tl_tape *t = tl_tape_new(NULL);
    tl_rnn_config config = noisy(&keep_cell, 1);
    config.recurrent_dropout = p;
    tl_var h = tl_full(t, TL_F64, TL_SHAPE(TALL, WIDE), 1), y = train(t, &config, ones(t), &h);
    for (int64_t step = 0; step < NOISY_STEPS; step++) { /* the same units, step by step */
        tl_var now = tl_select(t, y, 0, step);
        assert_near(share_of(t, now, 0, pow(once, (double)step + 1)), 1 - p, 0.02);
    }
    assert_bits(t, h, tl_select(t, y, 0, NOISY_STEPS - 1));
    assert_near(share_that_differs(t, y, 1, 0, 1), 2 * p * (1 - p), 0.07);
    tl_tape_free(t);
}

typedef struct shown {
    tl_var u, w;
} shown;

static const tl_cell_weight shown_weights[] = {TL_WEIGHT(shown, u, .shape = "H", .recurrent = true),
                                               TL_WEIGHT(shown, w, .shape = "H"), TL_WEIGHTS_END};

static void show_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const shown *s = c->weights;
    (void)x;
    state[0] = tl_expand(c->tape, s->u, TL_SHAPE(c->batch, c->hidden));
    state[1] = tl_expand(c->tape, s->w, TL_SHAPE(c->batch, c->hidden));
}

/* h' = u, c' = w */
static const tl_cell_type show_cell = {.name = "show",
                                       .bytes = sizeof(shown),
                                       .weights = shown_weights,
                                       .states = {{"h", "H"}, {"c", "H"}},
                                       .step = show_step};

static void drop_connect(void **state)
{
    (void)state;
    const double p = 0.3;
    tl_rnn_config config = noisy(&show_cell, 1);
    config.drop_connect = p;
    net n = net_from(&config);
    tl_tensor_fill(n.params->entry[0]->value, 1);
    tl_tensor_fill(n.params->entry[1]->value, 1);
    for (int untied = 0; untied < 2; untied++) {
        tl_tape *t = tl_tape_new(NULL);
        if (untied)
            tl_untie(t, n.params->entry[0]->value);
        tl_var last[2] = {TL_NONE, TL_NONE};
        tl_var y = tl_unroll_with(t, &n.rnn, ones(t), last, &training);
        assert_near(share_of(t, y, 0, 1 / (1 - p)), 1 - p, 0.07);
        for (int64_t step = 1; step < NOISY_STEPS; step++)
            assert_same(share_that_differs(t, y, 0, 0, step), 0); /* one mask for all steps */
        for (int64_t row = 1; row < TALL; row++)
            assert_same(share_that_differs(t, y, 1, 0, row), 0);
        assert_same(share_of(t, last[1], 0, 1), 1); /* not recurrent: left alone */
        assert_int_equal(tl_backward(t, tl_sum(t, y)), TL_OK);
        assert_ok(t);
        if (untied) {
            assert_int_equal(tl_untied_uses(t, n.params->entry[0]->value, 0, NULL), NOISY_STEPS);
        } else { /* its gradient passes the same mask */
            for (int64_t i = 0; i < WIDE; i++)
                assert_near(tl_tensor_get(n.params->entry[0]->gradient, i),
                            item_at(t, y, i) * TALL * NOISY_STEPS, 1e-12);
        }
        tl_tape_free(t);
    }
    net_free(&n);
}

/* h' = x, zoned out: with x = 1, 2, 3, ... the age of each unit can be read off. */
static void zoneout(void **state)
{
    (void)state;
    enum { STEPS = 5 };
    const double p = 0.3;
    tl_tape *t = tl_tape_new(NULL);
    tl_rnn_config config = noisy(&echo_cell, 1);
    config.zoneout[0] = p;
    double expected = 0;
    tl_var step[STEPS];
    for (int k = 0; k < STEPS; k++)
        step[k] = tl_full(t, TL_F64, TL_SHAPE(TALL, WIDE), k + 1);
    tl_var x = tl_stack(t, STEPS, step, 0), y = train(t, &config, x, NULL);
    net n = net_from(&config);
    tl_var calm = tl_unroll(t, &n.rnn, x, NULL), before = tl_full(t, TL_F64, TL_SHAPE(TALL, WIDE), 0);
    for (int k = 0; k < STEPS; k++) {
        tl_var now = tl_select(t, y, 0, k);
        tl_tensor *u = value_of(t, before), *v = value_of(t, now);
        double kept = 0, mean = 0;
        for (int64_t i = 0; i < u->layout.count; i++) {
            assert_true(tl_tensor_get(v, i) == tl_tensor_get(u, i) || tl_tensor_get(v, i) == k + 1);
            kept += tl_tensor_get(v, i) == tl_tensor_get(u, i);
            mean += tl_tensor_get(v, i);
        }
        assert_near(kept / (double)u->layout.count, p, 0.01);
        expected = p * expected + (1 - p) * (k + 1);
        assert_near(mean / (double)u->layout.count / expected, 1, 0.01);
        assert_near(item_at(t, calm, k * TALL * WIDE + 17), expected, 1e-14);
        tl_tensor_release(u);
        tl_tensor_release(v);
        before = now;
    }
    net_free(&n);
    for (int on = 0; on < 2; on++) { /* always: nothing ever changes */
        config.zoneout[0] = 1;
        net still = net_from(&config);
        tl_var h = tl_full(t, TL_F64, TL_SHAPE(TALL, WIDE), 7);
        y = tl_unroll_with(t, &still.rnn, x, &h, &(tl_unroll_options){.training = on});
        assert_same(share_of(t, y, 0, 7), 1);
        net_free(&still);
    }
    tl_rnn_config two = noisy(&show_cell, 1); /* of the second state only */
    two.zoneout[1] = 1;
    tl_var last[2] = {TL_NONE, TL_NONE};
    y = train(t, &two, ones(t), last);
    assert_true(item_at(t, y, 3) != 0);
    assert_same(share_of(t, last[1], 0, 7), 0);
    tl_tape_free(t);
}

static void set_noise(tl_rnn_config *config, int which, double p)
{
    double *const places[] = {&config->dropout, &config->variational, &config->recurrent_dropout,
                              &config->drop_connect, &config->zoneout[0]};
    *places[which] = p;
}

/* Not training, or with probability 0: as if it were not there, but for zoneout's expectation. */
static void noise_that_is_off(void **state)
{
    (void)state;
    dice d = dice_of(8);
    tl_tape *t = tl_tape_new(NULL);
    const tl_rnn_config plain = {.cell = &tl_lstm_cell, .input = 3, .hidden = 4, .layers = 2};
    tl_var x = random_input(t, &plain, &d, 0);
    net quiet = net_from(&plain);
    uint32_t before = tl_tape_measure(t).variables;
    tl_var y = tl_unroll(t, &quiet.rnn, x, NULL);
    uint32_t variables = tl_tape_measure(t).variables - before;
    for (int which = 0; which < 5; which++)
        for (int on = 0; on < 2; on++) {
            tl_rnn_config config = plain;
            set_noise(&config, which, on ? 0 : 0.5);
            net n = net_from(&config);
            before = tl_tape_measure(t).variables;
            tl_var z = tl_unroll_with(t, &n.rnn, x, NULL, &(tl_unroll_options){.training = on});
            if (which < 4 || on) {
                assert_bits(t, y, z);
                assert_true(tl_tape_measure(t).variables - before <= variables);
            }
            net_free(&n);
        }
    assert_ok(t);
    tl_tape_free(t);
    net_free(&quiet);
}

/* All is dropped: zeros, and neither NaN nor infinity in any gradient. */
static void noise_without_mercy(void **state)
{
    (void)state;
    for (int which = 0; which < 5; which++) {
        dice d = dice_of(8);
        tl_rnn_config config = {.cell = &tl_gru_cell, .input = 3, .hidden = 4, .layers = 2};
        set_noise(&config, which, 1);
        net n = net_from(&config),
            plain =
                net_from(&(tl_rnn_config){.cell = &tl_gru_cell, .input = 3, .hidden = 4, .layers = 2});
        tl_tape *t = tl_tape_new(NULL);
        tl_var ask[MOST_ASKED], grads[MOST_ASKED];
        int count = use_all(t, &n, ask);
        tl_var x = ask[count++] = random_input(t, &config, &d, 0);
        tl_var y = tl_unroll_with(t, &n.rnn, x, NULL, &training);
        tl_grad(t, weigh(t, y, 1), TL_NONE, count, ask, false, grads);
        assert_ok(t);
        for (int k = 0; k < count; k++) {
            tl_tensor *g = value_of(t, grads[k]);
            for (int64_t i = 0; i < g->layout.count; i++)
                assert_true(isfinite(tl_tensor_get(g, i)));
            tl_tensor_release(g);
        }
        for (int64_t i = 0; which < 2 && i < T * B * 3; i++)
            assert_same(item_at(t, grads[count - 1], i), 0); /* nothing comes from x */
        for (int64_t i = 0; which == 4 && i < T * B * 4; i++)
            assert_same(item_at(t, y, i), 0);
        if (which == 1) { /* as if x were zeros */
            tl_rnn_config one = config;
            one.layers = 1;
            net upper = net_from(&one);
            assert_bits(t, tl_unroll_with(t, &upper.rnn, x, NULL, &training),
                        tl_unroll(t, &upper.rnn, tl_affine(t, x, 0, 0), NULL));
            net_free(&upper);
        }
        if (which == 2) { /* as if each step were the first */
            tl_var always = tl_full(t, TL_U8, TL_SHAPE(T, B), 1);
            assert_bits(t, y,
                        tl_unroll_with(t, &plain.rnn, x, NULL, &(tl_unroll_options){.reset = always}));
        }
        if (which == 3) { /* as if the recurrent weights were zeros */
            tl_tensor_fill(tl_rnn_weight(&plain.rnn, 0, 0, "weight_hh")->value, 0);
            tl_tensor_fill(tl_rnn_weight(&plain.rnn, 1, 0, "weight_hh")->value, 0);
            assert_bits(t, y, tl_unroll(t, &plain.rnn, x, NULL));
        }
        assert_ok(t);
        tl_tape_free(t);
        net_free(&n);
        net_free(&plain);
    }
}

/* The tape's seed decides. */
static void noise_can_be_had_again(void **state)
{
    (void)state;
    tl_rnn_config config = {.cell = &tl_lstm_cell,
                            .input = 3,
                            .hidden = 4,
                            .layers = 2,
                            .bidirectional = true,
                            .dropout = 0.3,
                            .variational = 0.3,
                            .recurrent_dropout = 0.3,
                            .drop_connect = 0.3,
                            .zoneout = {0.2, 0.1}};
    net n = net_from(&config);
    tl_tensor *y[3];
    for (int k = 0; k < 3; k++) {
        dice d = dice_of(8);
        tl_tape *t = tl_tape_new(&(tl_tape_config){.seed = k == 2 ? 6 : 5});
        y[k] = value_of(t, tl_unroll_with(t, &n.rnn, random_input(t, &config, &d, 0), NULL, &training));
        tl_tape_free(t);
    }
    assert_tensors(y[1], y[0], 0);
    double off = 0;
    for (int64_t i = 0; i < y[0]->layout.count; i++)
        off += fabs(tl_tensor_get(y[2], i) - tl_tensor_get(y[0], i));
    assert_true(off > 1);
    for (int k = 0; k < 3; k++)
        tl_tensor_release(y[k]);
    net_free(&n);
}

/* ---- two parts, scans, memory ----------------------------------------------------------- */

/* Stateful use: the state of the first part begins the second; also where the tape is restarted. */
static void a_sequence_in_two_parts(void **state)
{
    (void)state;
    for (int c = 0; c < COUNT_OF(one_way); c++) {
        net n = net_from(&one_way[c]);
        dice d = dice_of(9);
        tl_tape *t = tl_tape_new(NULL);
        tl_var whole[MOST_STATES_HERE] = {TL_NONE}, parts[MOST_STATES_HERE] = {TL_NONE}, both[2];
        tl_var x = random_input(t, &one_way[c], &d, 0), y = tl_unroll(t, &n.rnn, x, whole);
        int states = tl_rnn_states(&n.rnn);
        both[0] = tl_unroll(t, &n.rnn, tl_slice(t, x, 0, 0, 2, 1), parts);
        both[1] = tl_unroll(t, &n.rnn, tl_slice(t, x, 0, 2, T, 1), parts);
        assert_vars(t, tl_concat(t, 2, both, 0), y, 1e-14);
        for (int s = 0; s < states; s++)
            assert_vars(t, parts[s], whole[s], 1e-14);
        tl_tensor *last = value_of(t, y), *rest = value_of(t, tl_slice(t, x, 0, 2, T, 1));
        tl_var cut[MOST_STATES_HERE] = {TL_NONE};
        tl_unroll(t, &n.rnn, tl_slice(t, x, 0, 0, 2, 1), cut);
        assert_int_equal(tl_tape_restart(t, states, cut), TL_OK);
        tl_var again = tl_unroll(t, &n.rnn, tl_constant(t, rest), cut), tail = tl_constant(t, last);
        assert_vars(t, again, tl_slice(t, tail, 0, 2, T, 1), 1e-14);
        assert_ok(t);
        tl_tensor_release(last);
        tl_tensor_release(rest);
        tl_tape_free(t);
        net_free(&n);
    }
}

static tl_var total_scan(const tl_cell_call *c, tl_var x, tl_var *state)
{
    tl_var y = tl_add(c->tape, tl_cumsum(c->tape, x, 0, false), state[0]);
    state[0] = tl_select(c->tape, y, 0, c->steps - 1);
    return y;
}

static const tl_cell_type scanned = {
    .name = "scanned", .states = {{"h", "H"}}, .step = total_step, .scan = total_scan};
static const tl_cell_type only_scanned = {
    .name = "only scanned", .states = {{"h", "H"}}, .scan = total_scan};

/* h' = h + x all at once, where nothing is to happen between the steps; otherwise step by step. */
static void a_cell_that_can_scan(void **state)
{
    (void)state;
    dice d = dice_of(10);
    const tl_rnn_config config = {.cell = &scanned, .input = 3, .hidden = 3, .layers = 2};
    tl_rnn_config slow = config, back = config;
    slow.sequential = true;
    back.bidirectional = true;
    back.layers = 1;
    net n = net_from(&config), m = net_from(&slow), two = net_from(&back);
    tl_tape *t = tl_tape_new(NULL);
    tl_unrolled handles;
    tl_var x = random_input(t, &config, &d, 0), none = tl_full(t, TL_U8, TL_SHAPE(T, B), 0);
    tl_var last[2][2] = {{TL_NONE}, {TL_NONE}};
    tl_var y = tl_unroll(t, &n.rnn, x, last[0]), step_by_step;
    uint32_t quick = tl_tape_measure(t).variables;
    const tl_unroll_options options[] = {
        {.training = false}, {.handles = &handles}, {.reset = none}, {.detach = none}};
    for (int k = 0; k < COUNT_OF(options); k++) {
        uint32_t before = tl_tape_measure(t).variables;
        memset(last[1], 0, sizeof last[1]);
        step_by_step = tl_unroll_with(t, k ? &n.rnn : &m.rnn, x, last[1], &options[k]);
        assert_true(tl_tape_measure(t).variables - before > quick);
        assert_vars(t, step_by_step, y, 1e-14);
        assert_vars(t, last[1][1], last[0][1], 1e-14);
    }
    tl_var both = tl_unroll(t, &two.rnn, x, NULL);
    assert_vars(t, tl_slice(t, both, 2, 0, 3, 1), tl_cumsum(t, x, 0, false), 1e-14);
    tl_var flipped = tl_cumsum(t, x, 0, true);
    assert_vars(t, tl_slice(t, both, 2, 3, 6, 1), flipped, 1e-14);
    tl_var cut = tl_unroll_with(t, &n.rnn, x, NULL, &(tl_unroll_options){.lengths = lengths});
    assert_same(item_at(t, cut, (T - 1) * B * 3), 0);
    tl_rnn_config bare = config;
    bare.cell = &only_scanned;
    bare.layers = 1;
    bare.sequential = true; /* it cannot */
    net only = net_from(&bare);
    assert_vars(t, tl_unroll(t, &only.rnn, x, NULL), tl_cumsum(t, x, 0, false), 1e-14);
    assert_ok(t);
    tl_unroll_with(t, &only.rnn, x, NULL, &(tl_unroll_options){.lengths = lengths});
    assert_error(t, TL_ERR_ARGUMENT,
                 "unroll: only scanned cell has no step, only a scan: all rows of one length, nothing "
                 "between the steps (layer 0)");
    tl_tape_free(t);
    net_free(&n);
    net_free(&m);
    net_free(&two);
    net_free(&only);
}

static void wide_state_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    state[1] = tl_add(c->tape, state[1], tl_unsqueeze(c->tape, x, 1));
    state[0] = tl_sum_axes(c->tape, state[1], 1, (int[]){2}, false);
}

/* A state with more than one dimension, and of the size of the input: c [2,I], h [2]. */
static const tl_cell_type wide_state = {
    .name = "wide state", .states = {{"h", "2"}, {"c", "2,I"}}, .step = wide_state_step};

static void states_of_any_shape(void **state)
{
    (void)state;
    const tl_rnn_config config = {.cell = &wide_state,
                                  .input = 3,
                                  .hidden = 9,
                                  .layers = 2,
                                  .learned_state = true,
                                  .zoneout = {0, 0.5}};
    net n = net_from(&config);
    dice d = dice_of(11);
    tl_tape *t = tl_tape_new(NULL);
    tl_var x = random_input(t, &config, &d, 0), last[4] = {TL_NONE};
    const tl_unroll_options options = {.lengths = lengths,
                                       .reset = tl_constant_from(t, TL_U8, TL_SHAPE(T, B), marks),
                                       .detach = tl_constant_from(t, TL_U8, TL_SHAPE(T, B), marks)};
    tl_var y = tl_unroll_with(t, &n.rnn, x, last, &options);
    assert_ok(t);
    assert_shape(t, y, "[6,5,2]");
    assert_shape(t, last[1], "[5,2,3]");
    assert_shape(t, last[3], "[5,2,2]");
    tl_tensor *c0 = param(&n, "c0", 0, "");
    assert_same(item_at(t, last[1], 1 * 6 + 5), tl_tensor_get(c0, 5)); /* row 1 has no steps */
    double c = tl_tensor_get(c0, 4); /* row 3, of one step: half of the old, half of the new one */
    assert_near(item_at(t, last[1], 3 * 6 + 4), c + 0.5 * item_at(t, x, 3 * 3 + 1), 1e-14);
    tl_tape_free(t);
    net_free(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_is_as_if_it_were_alone),
        cmocka_unit_test(what_the_padding_holds_reaches_nothing),
        cmocka_unit_test(full_lengths_are_none),
        cmocka_unit_test(options_that_do_not_fit_are_named),
        cmocka_unit_test(rows_begin_anew),
        cmocka_unit_test(rows_are_cut),
        cmocka_unit_test(masks_and_lengths_and_directions),
        cmocka_unit_test(layers_directions_and_connections),
        cmocka_unit_test(learned_states),
        cmocka_unit_test(dropout_between_layers),
        cmocka_unit_test(variational_dropout),
        cmocka_unit_test(recurrent_dropout),
        cmocka_unit_test(drop_connect),
        cmocka_unit_test(zoneout),
        cmocka_unit_test(noise_that_is_off),
        cmocka_unit_test(noise_without_mercy),
        cmocka_unit_test(noise_can_be_had_again),
        cmocka_unit_test(a_sequence_in_two_parts),
        cmocka_unit_test(a_cell_that_can_scan),
        cmocka_unit_test(states_of_any_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
