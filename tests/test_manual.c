/* BPTT derived by hand (examples/manual_bptt.h) against the tape, weight by weight and step by step. */
#include "nets.h"

#include "autograd/compare.h"
#include "examples/manual_bptt.h"

enum { T = 7, B = 3, I = 4, H = 5, MOST_PAIRS = 2 * MANUAL_WEIGHTS * (T + 1) + 5 };

/* T = 7: a cut after 3 and 6 steps leaves a stretch of one, after 4 steps one of three. */
static const manual_config configs[] = {
    {.cell = MANUAL_ELMAN, .layers = 1, .bias = true},
    {.cell = MANUAL_ELMAN, .layers = 2, .bias = true, .cut = 3},
    {.cell = MANUAL_ELMAN, .layers = 2, .cut = 4},
    {.cell = MANUAL_LSTM, .layers = 1, .bias = true},
    {.cell = MANUAL_LSTM, .layers = 2, .cut = 3},
    {.cell = MANUAL_LSTM, .layers = 2, .bias = true, .peephole = true},
    {.cell = MANUAL_LSTM, .layers = 2, .bias = true, .peephole = true, .cut = 4},
    {.cell = MANUAL_LSTM, .layers = 1, .peephole = true, .cut = 1},
    {.cell = MANUAL_GRU, .layers = 2, .bias = true},
    {.cell = MANUAL_GRU, .layers = 1, .cut = 3},
    {.cell = MANUAL_GRU, .layers = 2, .bias = true, .reset_before = true},
    {.cell = MANUAL_GRU, .layers = 2, .reset_before = true, .cut = 4}};

typedef struct subject {
    manual_net manual;
    net automatic;
    int states;            /* of one layer */
    tl_tensor *x, *ideal;  /* [T,B,I]; L = half the sum of squares of y - ideal, [T,B,H] */
    tl_tensor *initial[4]; /* [B,H]: layer 0 h, c, layer 1 h, c (for cells that have c) */
} subject;

static tl_rnn_config library_config(const manual_config *c)
{
    static const tl_gru_options before = {.reset = TL_RESET_BEFORE};
    static const tl_lstm_options peephole = {.peephole = true};
    tl_rnn_config config = {
        .cell = &tl_elman_cell, .input = I, .hidden = H, .layers = c->layers, .no_bias = !c->bias};
    if (c->cell == MANUAL_LSTM) {
        config.cell = &tl_lstm_cell;
        config.options = c->peephole ? &peephole : NULL;
    } else if (c->cell == MANUAL_GRU) {
        config.cell = &tl_gru_cell;
        config.options = c->reset_before ? &before : NULL;
    }
    return config;
}

static tl_param *weight_of(const subject *s, int layer, int w)
{
    tl_param *p = tl_rnn_weight(&s->automatic.rnn, layer, 0, manual_names[w]);
    assert_int_equal(!p, !s->manual.layer[layer].value[w]);
    if (p)
        assert_int_equal(p->value->layout.count, manual_count(&s->manual, layer, w));
    return p;
}

static void copy_numbers(double *to, const tl_tensor *from)
{
    memcpy(to, from->data, (size_t)from->layout.count * sizeof *to);
}

static subject subject_of(const manual_config *c)
{
    manual_config sized = *c;
    sized.T = T, sized.B = B, sized.I = I, sized.H = H;
    tl_rnn_config config = library_config(c);
    subject s = {.automatic = net_from(&config)};
    dice d = dice_of(23);
    s.states = s.automatic.rnn.states;
    s.x = random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -2, 2);
    s.ideal = random_tensor(&d, TL_F64, TL_SHAPE(T, B, H), -1, 1);
    assert_true(manual_make(&s.manual, &sized));
    for (int layer = 0; layer < c->layers; layer++) {
        manual_layer *l = &s.manual.layer[layer];
        for (int w = 0; w < MANUAL_WEIGHTS; w++)
            if (weight_of(&s, layer, w))
                copy_numbers(l->value[w], weight_of(&s, layer, w)->value);
        for (int k = 0; k < s.states; k++) {
            tl_tensor *state = random_tensor(&d, TL_F64, TL_SHAPE(B, H), -1, 1);
            copy_numbers(k ? l->c : l->h, state);
            s.initial[layer * s.states + k] = state;
        }
    }
    return s;
}

static void subject_free(subject *s)
{
    for (int k = 0; k < COUNT_OF(s->initial); k++)
        tl_tensor_release(s->initial[k]);
    tl_tensor_release(s->x);
    tl_tensor_release(s->ideal);
    manual_free(&s->manual);
    net_free(&s->automatic);
}

/* Returns L. */
static double by_hand(subject *s)
{
    double loss = 0, dy[T * B * H];
    manual_forward(&s->manual, s->x->data);
    for (int i = 0; i < T * B * H; i++) {
        dy[i] = manual_output(&s->manual)[i] - tl_tensor_get(s->ideal, i);
        loss += dy[i] * dy[i] / 2;
    }
    manual_backward(&s->manual, dy);
    return loss;
}

typedef struct taped {
    tl_var x, initial[4];
    double loss;
} taped;

static tl_var stretch_loss(tl_tape *t, const subject *s, tl_var y, int64_t from, int64_t to)
{
    tl_var ideal = tl_slice(t, tl_constant(t, s->ideal), 0, from, to, 1);
    return tl_affine(t, tl_sum(t, tl_square(t, tl_sub(t, y, ideal))), 0.5, 0);
}

/* All stretches on one tape, the states between them detached. */
static taped on_the_tape(tl_tape *t, const subject *s)
{
    const manual_config *c = &s->manual.config;
    int64_t k = c->cut ? c->cut : T;
    taped r = {.x = tl_leaf(t, s->x, NULL)};
    tl_var state[4], loss = tl_full(t, TL_F64, 0, NULL, 0);
    int states = c->layers * s->states;
    for (int layer = 0; layer < c->layers; layer++)
        for (int w = 0; w < MANUAL_WEIGHTS; w++)
            if (weight_of(s, layer, w))
                tl_untie(t, weight_of(s, layer, w)->value);
    for (int i = 0; i < states; i++)
        state[i] = r.initial[i] = tl_leaf(t, s->initial[i], NULL);
    for (int64_t from = 0; from < T; from += k) {
        int64_t to = from + k < T ? from + k : T;
        tl_var y = tl_unroll(t, &s->automatic.rnn, tl_slice(t, r.x, 0, from, to, 1), state);
        loss = tl_add(t, loss, stretch_loss(t, s, y, from, to));
        for (int i = 0; i < states; i++)
            state[i] = tl_detach(t, state[i]);
    }
    r.loss = tl_item(t, loss);
    tl_backward(t, loss);
    assert_ok(t);
    return r;
}

/* ---- pairs ------------------------------------------------------------------------------ */

typedef struct pairs {
    int count;
    tl_grad_pair pair[MOST_PAIRS];
} pairs;

static void add_pair(pairs *p, const char *name, int64_t step, const double *manual,
                     tl_tensor *automatic)
{
    assert_true(p->count < MOST_PAIRS);
    tl_tensor *mine = zeros_like(automatic);
    memcpy(mine->data, manual, (size_t)mine->layout.count * sizeof *manual);
    p->pair[p->count++] = (tl_grad_pair){name, step, mine, automatic};
}

static void free_pairs(pairs *p)
{
    for (int k = 0; k < p->count; k++) {
        tl_tensor_release((tl_tensor *)p->pair[k].manual);
        tl_tensor_release((tl_tensor *)p->pair[k].automatic);
    }
}

static void pair_weight(pairs *p, tl_tape *t, const subject *s, int layer, int w)
{
    tl_param *param = weight_of(s, layer, w);
    if (!param)
        return;
    int64_t count = manual_count(&s->manual, layer, w);
    const double *gradient = s->manual.layer[layer].gradient[w];
    double sum[4 * H * H] = {0};
    tl_var steps = tl_step_gradients(t, param->value);
    assert_int_equal(tl_value(t, steps).layout->shape[0], T);
    for (int64_t step = 0; step < T; step++) {
        add_pair(p, param->name, step, gradient + step * count,
                 value_of(t, tl_select(t, steps, 0, step)));
        for (int64_t i = 0; i < count; i++)
            sum[i] += gradient[step * count + i];
    }
    const int over[] = {0};
    add_pair(p, param->name, -1, sum, value_of(t, tl_sum_axes(t, steps, 1, over, false)));
}

static void pair_all(pairs *p, tl_tape *t, const subject *s, const taped *r)
{
    static const char *const names[] = {"h_0", "c_0"};
    for (int layer = 0; layer < s->manual.config.layers; layer++) {
        const manual_layer *l = &s->manual.layer[layer];
        for (int w = 0; w < MANUAL_WEIGHTS; w++)
            pair_weight(p, t, s, layer, w);
        for (int k = 0; k < s->states; k++)
            add_pair(p, names[k], -1, k ? l->dc : l->dh,
                     value_of(t, tl_gradient(t, r->initial[layer * s->states + k])));
    }
    add_pair(p, "x", -1, s->manual.layer[0].dx, value_of(t, tl_gradient(t, r->x)));
}

static tl_status compare(subject *s, tl_error *error)
{
    pairs p = {0};
    tl_tape *t = tl_tape_new(NULL);
    taped r = on_the_tape(t, s);
    assert_near(by_hand(s), r.loss, 1e-13);
    pair_all(&p, t, s, &r);
    tl_status status = tl_compare_grads(p.count, p.pair, 1e-12, NULL, NULL, error);
    free_pairs(&p);
    tl_tape_free(t);
    return status;
}

/* ---- tests ------------------------------------------------------------------------------ */

static void every_gradient_at_every_step_is_that_of_the_tape(void **state)
{
    (void)state;
    for (int c = 0; c < COUNT_OF(configs); c++) {
        tl_error error = {TL_OK, ""};
        subject s = subject_of(&configs[c]);
        if (compare(&s, &error) != TL_OK)
            fail_msg("configuration %d: %s", c, error.message);
        subject_free(&s);
    }
}

/* Twice the same: nothing is left over from the first time. */
static void a_second_walk_gives_the_same(void **state)
{
    (void)state;
    tl_error error = {TL_OK, ""};
    subject s = subject_of(&configs[6]);
    double once = by_hand(&s);
    assert_same(by_hand(&s), once);
    if (compare(&s, &error) != TL_OK)
        fail_msg("%s", error.message);
    subject_free(&s);
}

/* Those of the lesson, manual_against_automatic.c. */
static void mistakes_are_noticed(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        tl_error error = {TL_OK, ""};
        manual_config c = configs[k ? 8 : 5];
        c.forget_peephole = !k;
        c.forget_reset = k ? 3 : 0;
        subject s = subject_of(&c);
        assert_int_equal(compare(&s, &error), TL_ERR_CHECK);
        subject_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_gradient_at_every_step_is_that_of_the_tape),
        cmocka_unit_test(a_second_walk_gives_the_same), cmocka_unit_test(mistakes_are_noticed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
