/* test_decoder.c - the decoder step by step, with its own tokens and with given ones, tied and not, and
 * decoded by decode.h. */
#include "support.h"

#include "autograd/gradcheck.h"
#include "nn/decoder.h"

enum { L = 4, T = 5, B = 3, V = 7, E = 6, H = 8, P = 2 };

static const int64_t lengths[B] = {5, 2, 0};
static const int64_t given[L * B] = {0, 0, 0, 3, 1, 5, 6, 2, 2, 4, 4, 1};

typedef struct fixture {
    tl_params *params;
    tl_decoder decoder;
    tl_tape *t;
    tl_tensor *outputs; /* of an encoder: [T,B,P] */
} fixture;

typedef struct variant {
    const tl_cell_type *cell;
    int layers;
    bool attend, tied, learned;
    int64_t readout;
} variant;

static const variant variants[] = {
    {&tl_gru_cell, 1, false, false, false, 0}, {&tl_lstm_cell, 2, false, true, false, E},
    {&tl_lstm_cell, 2, true, true, false, E},  {&tl_elman_cell, 1, true, false, true, 0},
    {&tl_gru_cell, 3, true, false, false, 5},
};

static void set_up(fixture *f, const variant *v, uint64_t seed)
{
    dice d = dice_of(9);
    f->params = tl_params_new(TL_F64, 21);
    tl_decoder_init(
        &f->decoder, f->params,
        &(tl_decoder_config){
            .rnn = {.cell = v->cell, .hidden = H, .layers = v->layers, .learned_state = v->learned},
            .words = V,
            .size = E,
            .attend = v->attend,
            .attention = {.kind = TL_ATTEND_ADDITIVE, .key = P, .size = 4},
            .readout = v->readout,
            .tied = v->tied});
    assert_string_equal(f->params->error.message, "");
    for (int k = 0; k < f->params->count; k++) /* no symmetry, and no state that is learned to be 0 */
        for (int64_t i = 0; i < f->params->entry[k]->value->layout.count; i++)
            tl_tensor_set(f->params->entry[k]->value, i, dice_real(&d, -1.3, 1.3));
    f->t = tl_tape_new(&(tl_tape_config){.seed = seed});
    f->outputs = random_tensor(&d, TL_F64, TL_SHAPE(T, B, P), -2, 2);
}

static void tear_down(fixture *f)
{
    tl_tensor_release(f->outputs);
    tl_tape_free(f->t);
    tl_decoder_free(&f->decoder);
    tl_params_free(f->params);
}

static tl_attention_memory memory_of(fixture *f)
{
    if (!f->decoder.config.attend)
        return (tl_attention_memory){.padding = TL_NONE};
    return tl_attention_begin(f->t, &f->decoder.attention, tl_constant(f->t, f->outputs), lengths);
}

/* The logits of L steps. */
static tl_var run(fixture *f, const int64_t *tokens, const tl_decoder_options *options)
{
    tl_attention_memory m = memory_of(f);
    tl_var in = tl_constant_from(f->t, TL_I64, TL_SHAPE(L, B), tokens);
    return tl_decoder_run(f->t, &f->decoder, in, NULL, f->decoder.config.attend ? &m : NULL, options);
}

/* ---- steps ------------------------------------------------------------------------------ */

static void a_run_is_its_steps(void **unused)
{
    (void)unused;
    for (int k = 0; k < COUNT_OF(variants); k++) {
        fixture f;
        tl_var state[6] = {TL_NONE}, last[6] = {TL_NONE}, weights, one_weights;
        set_up(&f, &variants[k], 1);
        bool attend = variants[k].attend;
        tl_attention_memory m = memory_of(&f);
        tl_var in = tl_constant_from(f.t, TL_I64, TL_SHAPE(L, B), given);
        tl_var y = tl_decoder_run(f.t, &f.decoder, in, last, attend ? &m : NULL,
                                  &(tl_decoder_options){.weights = &weights});
        assert_shape(f.t, y, "[4,3,7]");
        if (attend)
            assert_shape(f.t, weights, "[4,3,5]");
        for (int64_t i = 0; i < L; i++) {
            tl_var one = tl_decoder_step(f.t, &f.decoder, tl_select(f.t, in, 0, i), state,
                                         attend ? &m : NULL, &one_weights);
            assert_vars(f.t, tl_select(f.t, y, 0, i), one, 1e-14);
            if (attend)
                assert_vars(f.t, tl_select(f.t, weights, 0, i), one_weights, 1e-14);
        }
        for (int s = 0; s < tl_rnn_states(&f.decoder.rnn); s++)
            assert_vars(f.t, last[s], state[s], 1e-14);
        assert_ok(f.t);
        tear_down(&f);
    }
}

/* By hand: q, c, [x, c] -> rnn -> [h, c] -> readout -> output. */
static void a_step_is_the_equations(void **unused)
{
    (void)unused;
    fixture f;
    dice d = dice_of(31);
    set_up(&f, &variants[4], 1);
    tl_tape *t = f.t;
    tl_tensor *h0 = random_tensor(&d, TL_F64, TL_SHAPE(3, B, H), -1, 1);
    tl_attention_memory m = memory_of(&f);
    tl_var state[3], by_hand[3], all = tl_constant(t, h0);
    for (int k = 0; k < 3; k++)
        state[k] = by_hand[k] = tl_select(t, all, 0, k);
    tl_var token = tl_constant_from(t, TL_I64, TL_SHAPE(B), given + B);
    tl_var y = tl_decoder_step(t, &f.decoder, token, state, &m, NULL);
    tl_var c = tl_attend(t, &f.decoder.attention, &m, by_hand[2], NULL);
    tl_var x = tl_concat(t, 2, (tl_var[]){tl_embedding(t, token, &f.decoder.embedding), c}, 1);
    tl_var h = tl_unroll(t, &f.decoder.rnn, tl_unsqueeze(t, x, 0), by_hand);
    tl_var a = tl_concat(t, 2, (tl_var[]){tl_select(t, h, 0, 0), c}, 1);
    tl_var want = tl_linear(t, tl_tanh(t, tl_linear(t, a, &f.decoder.readout)), &f.decoder.output);
    assert_vars(t, y, want, 1e-14);
    for (int k = 0; k < 3; k++)
        assert_vars(t, state[k], by_hand[k], 1e-14);
    tl_tensor_release(h0);
    tear_down(&f);
}

/* Without states it begins from the learned ones, and asks the memory with them. */
static void it_begins_from_learned_states(void **unused)
{
    (void)unused;
    fixture f;
    set_up(&f, &variants[3], 1);
    tl_attention_memory m = memory_of(&f);
    const tl_param *learned = tl_params_find(f.params, "decoder.rnn.h0_l0");
    assert_non_null(learned);
    tl_var state = tl_expand(f.t, tl_use(f.t, learned), TL_SHAPE(B, H));
    tl_var in = tl_constant_from(f.t, TL_I64, TL_SHAPE(L, B), given);
    tl_var y = tl_decoder_run(f.t, &f.decoder, in, &state, &m, NULL);
    assert_vars(f.t, run(&f, given, NULL), y, 0);
    tear_down(&f);
}

static tl_var teacher_forced(tl_tape *t, const tl_var *in, void *context)
{
    fixture *f = context;
    tl_attention_memory m = tl_attention_begin(t, &f->decoder.attention, in[0], lengths);
    tl_var tokens = tl_constant_from(t, TL_I64, TL_SHAPE(L, B), given);
    return tl_decoder_run(t, &f->decoder, tokens, NULL, &m, NULL);
}

static void derivatives_are_right(void **unused)
{
    (void)unused;
    for (int k = 2; k < COUNT_OF(variants); k++) {
        fixture f;
        tl_gradcheck_report report;
        set_up(&f, &variants[k], 1);
        tl_tensor *inputs[32] = {f.outputs};
        for (int i = 0; i < f.params->count; i++)
            inputs[i + 1] = f.params->entry[i]->value;
        if (tl_gradcheck(teacher_forced, &f, f.params->count + 1, inputs, NULL, &report) != TL_OK)
            fail_msg("variant %d: %s", k, report.message);
        tear_down(&f);
    }
}

/* ---- scheduled sampling ----------------------------------------------------------------- */

/* Logits and gradients, bit for bit. */
static void check_same(const variant *v, const int64_t *a, const tl_decoder_options *a_options,
                       const int64_t *b, const tl_decoder_options *b_options, double tolerance)
{
    fixture one, two;
    set_up(&one, v, 1);
    set_up(&two, v, 1);
    tl_var y = run(&one, a, a_options), z = run(&two, b, b_options);
    assert_int_equal(tl_backward(one.t, tl_sum(one.t, tl_square(one.t, y))), TL_OK);
    assert_int_equal(tl_backward(two.t, tl_sum(two.t, tl_square(two.t, z))), TL_OK);
    tl_tensor *p = value_of(one.t, y), *q = value_of(two.t, z);
    assert_tensors(p, q, tolerance);
    for (int k = 0; k < one.params->count; k++)
        assert_tensors(one.params->entry[k]->gradient, two.params->entry[k]->gradient, tolerance);
    tl_tensor_release(p);
    tl_tensor_release(q);
    tear_down(&one);
    tear_down(&two);
}

static void with_probability_0_it_is_teacher_forcing(void **unused)
{
    (void)unused;
    const tl_sampling all = TL_SAMPLING_ALL;
    for (int k = 0; k < COUNT_OF(variants); k++) {
        check_same(&variants[k], given, NULL, given, &(tl_decoder_options){.own = 0, .draw = &all}, 0);
        /* step by step, but never its own */
        check_same(&variants[k], given, NULL, given, &(tl_decoder_options){.own = 1e-300}, 1e-12);
    }
}

static void with_probability_1_it_never_sees_the_targets(void **unused)
{
    (void)unused;
    int64_t nonsense[L * B] = {0};
    for (int i = B; i < L * B; i++)
        nonsense[i] = -1000 + i; /* no words at all */
    const tl_sampling all = TL_SAMPLING_ALL;
    for (int k = 0; k < COUNT_OF(variants); k++) {
        const tl_decoder_options likeliest = {.own = 1}, drawn = {.own = 1, .draw = &all};
        check_same(&variants[k], given, &likeliest, nonsense, &likeliest, 0);
        check_same(&variants[k], given, &drawn, nonsense, &drawn, 0);
    }
}

/* With its own likeliest tokens it runs as it is decoded. */
static void its_own_tokens_are_the_greedy_ones(void **unused)
{
    (void)unused;
    int changes = 0;
    for (int k = 0; k < COUNT_OF(variants); k++) {
        fixture f;
        tl_var state[9] = {TL_NONE};
        tl_decoded out;
        set_up(&f, &variants[k], 1);
        tl_var best = tl_argmax(f.t, run(&f, given, &(tl_decoder_options){.own = 1}), -1, false);
        tl_tensor *own = value_of(f.t, best);
        tl_attention_memory m = memory_of(&f);
        tl_decode_model model = tl_decoder_model(&f.decoder, state, variants[k].attend ? &m : NULL);
        tl_decode_task task = {.rows = B, .first = given, .steps = L, .end = -1};
        assert_int_equal(tl_decode_greedy(f.t, &model, &task, &out), TL_OK);
        for (int64_t i = 0; i < L * B; i++)
            assert_int_equal(out.token[i % B * L + i / B], tl_tensor_get(own, i));
        for (int64_t i = B; i < L * B; i++)
            changes += tl_tensor_get(own, i) != tl_tensor_get(own, i - B);
        tl_decoded_free(&out);
        tl_tensor_release(own);
        tear_down(&f);
    }
    assert_true(changes > 3); /* else the test says less than it seems to */
}

/* Two steps of many rows that begin alike: the logits of the second tell which token was read. */
enum { MANY = 6000, GIVEN = 4 };

static void count_second_tokens(const tl_decoder_options *options, double seen[V], double p[V])
{
    fixture f;
    static int64_t tokens[2 * MANY];
    double candidate[V];
    set_up(&f, &variants[0], 77);
    for (int i = 0; i < MANY; i++)
        tokens[MANY + i] = GIVEN;
    for (int64_t v = 0; v < V; v++) {
        const int64_t pair[2] = {0, v};
        tl_tape_reset(f.t);
        tl_var in = tl_constant_from(f.t, TL_I64, TL_SHAPE(2, 1), pair);
        tl_var y = tl_decoder_run(f.t, &f.decoder, in, NULL, NULL, NULL);
        candidate[v] = item_at(f.t, y, V);
        p[v] = item_at(f.t, tl_softmax(f.t, y), v);
        seen[v] = 0;
    }
    tl_tape_reset(f.t);
    tl_var in = tl_constant_from(f.t, TL_I64, TL_SHAPE(2, MANY), tokens);
    tl_tensor *y = value_of(f.t, tl_decoder_run(f.t, &f.decoder, in, NULL, NULL, options));
    for (int64_t i = 0; i < MANY; i++)
        for (int64_t v = 0; v < V; v++)
            seen[v] += fabs(tl_tensor_get(y, (MANY + i) * V) - candidate[v]) < 1e-12;
    tl_tensor_release(y);
    tear_down(&f);
}

static void choices_are_as_often_as_they_should_be(void **unused)
{
    (void)unused;
    const tl_sampling all = TL_SAMPLING_ALL;
    double seen[V], p[V], chi = 0, sum = 0;
    int64_t best = 0;
    count_second_tokens(&(tl_decoder_options){.own = 0.3}, seen, p);
    for (int64_t v = 1; v < V; v++)
        best = p[v] > p[best] ? v : best;
    assert_int_not_equal(best, GIVEN);
    assert_int_equal((int64_t)(seen[best] + seen[GIVEN]), MANY);
    if (fabs(seen[best] - 0.3 * MANY) > 3.3 * sqrt(MANY * 0.3 * 0.7))
        fail_msg("its own %g times of %d, not 0.3", seen[best], MANY);
    count_second_tokens(&(tl_decoder_options){.own = 0.6, .draw = &all}, seen, p);
    for (int64_t v = 0; v < V; v++) {
        double expected = MANY * (0.6 * p[v] + (v == GIVEN ? 0.4 : 0));
        chi += (seen[v] - expected) * (seen[v] - expected) / expected;
        sum += seen[v];
    }
    assert_same(sum, MANY);
    if (chi > 22.46) /* 6 degrees of freedom, p = 0.001 */
        fail_msg("chi-square is %g", chi);
}

static void schedules_are_those_of_the_paper(void **unused)
{
    (void)unused;
    assert_same(tl_own_linear(0, 0.01, 0.25), 0);
    assert_near(tl_own_linear(10, 0.01, 0.25), 0.1, 1e-15);
    assert_same(tl_own_linear(1000, 0.01, 0.25), 0.25);
    assert_same(tl_own_exponential(0, 0.9), 0);
    assert_near(tl_own_exponential(2, 0.9), 0.19, 1e-15);
    assert_near(tl_own_inverse_sigmoid(0, 10), 1 - 10.0 / 11, 1e-15);
    assert_near(tl_own_inverse_sigmoid(10 * log(10), 10), 0.5, 1e-14);
    assert_same(tl_own_inverse_sigmoid(1e9, 10), 1); /* no NaN where exp overflows */
}

/* ---- tied weights ----------------------------------------------------------------------- */

/* The tied gradient is the sum of those of the two uses. */
static void tied_weights_have_one_gradient(void **unused)
{
    (void)unused;
    for (int k = 1; k < 3; k++) {
        fixture tied, untied;
        variant other = variants[k];
        other.tied = false;
        set_up(&tied, &variants[k], 1);
        set_up(&untied, &other, 1);
        assert_null(tl_params_find(tied.params, "decoder.output.weight"));
        assert_non_null(tl_params_find(tied.params, "decoder.output.bias"));
        assert_int_equal(tied.params->count, untied.params->count - 1);
        assert_ptr_equal(tied.decoder.output.weight, tied.decoder.embedding.weight);
        for (int i = 0; i < untied.params->count; i++) {
            tl_param *p = untied.params->entry[i];
            const tl_param *source = tl_params_find(tied.params, p->name);
            source = source ? source : tied.decoder.embedding.weight;
            assert_int_equal(tl_tensor_assign(p->value, source->value, NULL), TL_OK);
        }
        tl_tensor_assign(untied.outputs, tied.outputs, NULL);
        tl_var y = run(&tied, given, NULL), z = run(&untied, given, NULL);
        tl_backward(tied.t, tl_sum(tied.t, tl_square(tied.t, y)));
        tl_backward(untied.t, tl_sum(untied.t, tl_square(untied.t, z)));
        assert_ok(tied.t);
        const tl_tensor *sum = tied.decoder.embedding.weight->gradient;
        const tl_tensor *in = untied.decoder.embedding.weight->gradient;
        const tl_tensor *out = untied.decoder.output.weight->gradient;
        for (int64_t i = 0; i < V * E; i++)
            assert_near_at(tl_tensor_get(sum, i), tl_tensor_get(in, i) + tl_tensor_get(out, i), 1e-13,
                           i);
        assert_true(fabs(tl_tensor_get(in, 0)) > 1e-6 && fabs(tl_tensor_get(out, 0)) > 1e-6);
        tear_down(&tied);
        tear_down(&untied);
    }
}

/* ---- beams ------------------------------------------------------------------------------ */

/* What a beam finds has the log-probability that teacher forcing gives it: states went with their
 * sequences, the memory with its rows. */
static void a_beam_keeps_states_and_sequences_together(void **unused)
{
    (void)unused;
    enum { W = 4 };
    for (int k = 0; k < COUNT_OF(variants); k++) {
        fixture f;
        tl_var state[9] = {TL_NONE};
        tl_decoded out;
        set_up(&f, &variants[k], 1);
        tl_attention_memory m = memory_of(&f);
        tl_decode_model model = tl_decoder_model(&f.decoder, state, variants[k].attend ? &m : NULL);
        tl_decode_task task = {.rows = B, .first = given, .steps = L, .end = 2};
        assert_int_equal(tl_decode_beam(f.t, &model, &task, &(tl_beam){W, 0.6}, &out), TL_OK);
        for (int w = 0; w < W; w++) {
            int64_t tokens[L * B] = {0};
            for (int64_t i = 1; i < L; i++)
                for (int64_t b = 0; b < B; b++) {
                    int64_t token = out.token[(b * W + w) * L + i - 1];
                    tokens[i * B + b] = token < 0 ? 0 : token;
                }
            tl_tape_reset(f.t);
            tl_tensor *log_p = value_of(f.t, tl_log_softmax(f.t, run(&f, tokens, NULL)));
            for (int64_t b = 0; b < B; b++)
                for (int64_t i = 0; i < out.length[b * W + w]; i++) {
                    int64_t at = (b * W + w) * L + i;
                    assert_near_at(out.log_p[at], tl_tensor_get(log_p, (i * B + b) * V + out.token[at]),
                                   1e-13, at);
                }
            tl_tensor_release(log_p);
        }
        tl_decoded_free(&out);
        tear_down(&f);
    }
}

/* ---- without memory ---------------------------------------------------------------------- */

/* The library takes its memory from aligned_alloc: the n-th one from now fails, and all that follow. */
static long fails_at;

void *aligned_alloc(size_t alignment, size_t bytes)
{
    void *pointer = NULL;
    if ((fails_at && !--fails_at && (fails_at = 1)) || posix_memalign(&pointer, alignment, bytes) != 0)
        return NULL;
    return pointer;
}

/* Builds, runs, draws and searches; the first status that is not TL_OK. */
static tl_status everything(tl_tape *t, tl_params *params, tl_decoder *d)
{
    const tl_sampling sampling = {.temperature = 1, .top_k = 3, .top_p = 0.9};
    tl_decoder_init(d, params,
                    &(tl_decoder_config){.rnn = {.cell = &tl_lstm_cell, .hidden = H, .layers = 2},
                                         .words = V,
                                         .size = E,
                                         .attend = true,
                                         .attention = {.kind = TL_ATTEND_ADDITIVE, .key = P},
                                         .readout = E,
                                         .tied = true});
    if (tl_params_status(params) != TL_OK)
        return tl_params_status(params);
    for (int way = 0; way < 3; way++) {
        tl_var state[7] = {TL_NONE}, weights;
        tl_decoded out = {0};
        tl_decode_task task = {.rows = B, .first = given, .steps = 18, .end = 1};
        tl_var h = tl_full(t, TL_F64, TL_SHAPE(T, B, P), 0.5);
        tl_attention_memory m = tl_attention_begin(t, &d->attention, h, lengths);
        tl_decode_model model = tl_decoder_model(d, state, &m);
        tl_var tokens = tl_constant_from(t, TL_I64, TL_SHAPE(L, B), given);
        tl_decoder_run(t, d, tokens, NULL, &m,
                       &(tl_decoder_options){.own = 0.5, .draw = &sampling, .weights = &weights});
        tl_status status = way == 0   ? tl_decode_greedy(t, &model, &task, &out)
                           : way == 1 ? tl_decode_sample(t, &model, &task, &sampling, &out)
                                      : tl_decode_beam(t, &model, &task, &(tl_beam){3, 0.6}, &out);
        assert_int_equal(status, tl_tape_status(t));
        assert_true((status == TL_OK) == (out.token != NULL));
        tl_decoded_free(&out);
        if (status != TL_OK)
            return status;
    }
    return TL_OK;
}

static void every_allocation_may_fail(void **unused)
{
    (void)unused;
    tl_status status = TL_ERR_MEMORY;
    long n = 0;
    while (status != TL_OK) {
        tl_decoder d = {0};
        fails_at = ++n;
        tl_params *params = tl_params_new(TL_F64, 1);
        tl_tape *t = tl_tape_new(NULL);
        status = params && t ? everything(t, params, &d) : TL_ERR_MEMORY;
        fails_at = 0;
        if (status != TL_OK)
            assert_int_equal(status, TL_ERR_MEMORY);
        tl_decoder_free(&d);
        tl_params_free(params);
        tl_tape_free(t);
    }
    assert_true(n > 50);
}

/* ---- in words --------------------------------------------------------------------------- */

static void check_refused(tl_decoder_config config, const char *message)
{
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_decoder decoder;
    config.rnn.cell = &tl_gru_cell;
    config.rnn.layers = 1;
    config.rnn.hidden = H;
    tl_decoder_init(&decoder, params, &config);
    assert_string_equal(params->error.message, message);
    tl_tape *t = tl_tape_new(NULL);
    const int64_t token = 0;
    tl_decoder_step(t, &decoder, tl_constant_from(t, TL_I64, TL_SHAPE(1), &token), NULL, NULL, NULL);
    assert_error(t, TL_ERR_ARGUMENT, "decoder: it was not built, see tl_params_status");
    tl_tape_free(t);
    tl_decoder_free(&decoder);
    tl_params_free(params);
}

static void mistakes_are_named(void **unused)
{
    (void)unused;
    fixture f;
    check_refused((tl_decoder_config){.words = V},
                  "decoder: words 7 and size 0 must be at least 1, readout 0 at least 0");
    check_refused((tl_decoder_config){.words = V, .size = E, .rnn = {.bidirectional = true}},
                  "decoder: a network that writes is neither bidirectional nor batch_first");
    check_refused(
        (tl_decoder_config){.words = V, .size = E, .tied = true},
        "decoder: the embedding's size 6 is not that of what the output reads, 8: it cannot be "
        "tied");
    check_refused((tl_decoder_config){.words = V, .size = E, .attend = true},
                  "additive attention: query 8 and key 0 must be at least 1, size 0 at least 0");
    set_up(&f, &variants[2], 1);
    tl_var in = tl_constant_from(f.t, TL_I64, TL_SHAPE(L, B), given);
    tl_decoder_run(f.t, &f.decoder, in, NULL, NULL, NULL);
    assert_error(f.t, TL_ERR_ARGUMENT, "decoder: its attention wants a memory, not NULL");
    run(&f, given, &(tl_decoder_options){.own = 1.25});
    assert_error(f.t, TL_ERR_ARGUMENT, "decoder: own is a probability, not 1.25");
    tl_attention_memory m = memory_of(&f);
    tl_decoder_run(f.t, &f.decoder, tl_full(f.t, TL_F64, TL_SHAPE(L, B), 0), NULL, &m, NULL);
    assert_error(f.t, TL_ERR_SHAPE, "decoder: wants tokens i64 [L,B] with L >= 1, not f64 [4,3]");
    const tl_sampling wrong = {.temperature = 1, .top_k = 0, .top_p = 1};
    run(&f, given, &(tl_decoder_options){.own = 0.5, .draw = &wrong});
    assert_error(f.t, TL_ERR_ARGUMENT, "decoder: sampling: top_k must be at least 1, not 0 (token 1)");
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_its_steps),
        cmocka_unit_test(a_step_is_the_equations),
        cmocka_unit_test(it_begins_from_learned_states),
        cmocka_unit_test(derivatives_are_right),
        cmocka_unit_test(with_probability_0_it_is_teacher_forcing),
        cmocka_unit_test(with_probability_1_it_never_sees_the_targets),
        cmocka_unit_test(its_own_tokens_are_the_greedy_ones),
        cmocka_unit_test(choices_are_as_often_as_they_should_be),
        cmocka_unit_test(schedules_are_those_of_the_paper),
        cmocka_unit_test(tied_weights_have_one_gradient),
        cmocka_unit_test(a_beam_keeps_states_and_sequences_together),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(mistakes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
