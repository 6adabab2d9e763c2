/* test_decode.c - what is drawn, what is found: against enumeration, naive search and frequencies.
 *
 * The models here are tables: what comes next depends on the last token, or on all of them, by way of a
 * state, so that a row that went on from another one's state would be found out. */
#include "support.h"

#include "nn/decode.h"

/* ---- models ----------------------------------------------------------------------------- */

/* What comes next depends on all tokens so far and on a constant of the row: both are mixed into a
 * number, which is the seed of the logits. */
enum { V = 5, MOST_STEPS = 20 }; /* so that the tape is restarted on the way */

static uint64_t mix(uint64_t so_far, int64_t token)
{
    return (so_far * 31 + (uint64_t)token + 1) % 1000003;
}

static void history_logits(uint64_t so_far, double logits[V])
{
    dice d = dice_of(so_far);
    for (int k = 0; k < 5; k++)
        dice_bits(&d);
    for (int i = 0; i < V; i++)
        logits[i] = dice_real(&d, -2, 2);
}

/* state[0]: what is mixed, [N] (TL_NONE: 0); state[1]: a constant, [N,1] */
static tl_var history_step(tl_tape *t, void *context, int64_t step, tl_var tokens, tl_var *state)
{
    int64_t *calls = context, n = tl_value(t, tokens).layout->count;
    double *next = tl_scratch(t, (size_t)n * sizeof *next);
    double *logits = tl_scratch(t, (size_t)(n * V) * sizeof *logits);
    assert_int_equal(step, (*calls)++);
    for (int64_t i = 0; i < n; i++) {
        uint64_t so_far = tl_is_none(state[0]) ? 0 : (uint64_t)item_at(t, state[0], i);
        if (!step)
            so_far = mix(so_far, (int64_t)item_at(t, state[1], i));
        so_far = mix(so_far, (int64_t)item_at(t, tokens, i));
        next[i] = (double)so_far;
        history_logits(so_far + (uint64_t)item_at(t, state[1], i), logits + i * V);
    }
    state[0] = tl_constant_from(t, TL_F64, 1, &n, next);
    return tl_constant_from(t, TL_F64, TL_SHAPE(n, V), logits);
}

/* What comes next depends on the last token: rows of a table. context: tl_tensor, f32 or f64 */
static tl_var table_step(tl_tape *t, void *context, int64_t step, tl_var tokens, tl_var *state)
{
    (void)step;
    (void)state;
    return tl_embedding_op(t, tl_constant(t, context), tokens);
}

static void log_softmax(const double *x, int64_t count, double *y)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += exp(x[i]);
    for (int64_t i = 0; i < count; i++)
        y[i] = x[i] - log(sum);
}

/* ---- greedy ----------------------------------------------------------------------------- */

enum { ROWS = 3, END = 2 };
static const int64_t first[ROWS] = {1, 4, 1};
static const double row_constant[ROWS] = {10, 20, 30};

static tl_status run_history(tl_tape *t, int64_t rows, int64_t from, int64_t steps, int64_t end,
                             const tl_beam *beam, tl_decoded *out)
{
    int64_t calls = 0;
    tl_var state[2] = {TL_NONE, tl_constant_from(t, TL_F64, TL_SHAPE(rows, 1), row_constant + from)};
    tl_decode_model m = {
        .step = history_step, .context = &calls, .states = 1, .constants = 1, .state = state};
    tl_decode_task task = {.rows = rows, .first = first + from, .steps = steps, .end = end};
    tl_status status = beam ? tl_decode_beam(t, &m, &task, beam, out) //
                            : tl_decode_greedy(t, &m, &task, out);
    assert_ok(t);
    for (int k = 0; k < 2; k++)
        assert_int_equal(tl_is_none(state[k]), beam != NULL);
    assert_true(calls <= steps);
    return status;
}

static uint64_t start_of(int64_t row)
{
    return mix(mix(0, (int64_t)row_constant[row]), first[row]);
}

static void greedy_takes_the_likeliest(void **unused)
{
    (void)unused;
    tl_tape *t = tl_tape_new(NULL);
    tl_decoded out;
    int ended = 0;
    assert_int_equal(run_history(t, ROWS, 0, MOST_STEPS, END, NULL, &out), TL_OK);
    assert_int_equal(out.width, 1);
    for (int64_t row = 0; row < ROWS; row++) {
        uint64_t so_far = start_of(row);
        double total = 0;
        bool over = false;
        int64_t length = 0;
        for (int64_t i = 0; i < MOST_STEPS; i++) {
            double logits[V], log_p[V];
            int64_t best = 0, at = row * MOST_STEPS + i;
            history_logits(so_far + (uint64_t)row_constant[row], logits);
            log_softmax(logits, V, log_p);
            for (int64_t k = 1; k < V; k++)
                best = log_p[k] > log_p[best] ? k : best;
            assert_int_equal(out.token[at], over ? -1 : best);
            assert_near_at(out.log_p[at], over ? 0 : log_p[best], 1e-14, at);
            if (over)
                continue;
            total += log_p[best];
            length++;
            over = best == END;
            so_far = mix(so_far, best);
        }
        ended += over;
        assert_int_equal(out.length[row], length);
        assert_near(out.total[row], total, 1e-14);
        assert_near(out.score[row], total, 1e-14);
    }
    assert_true(ended > 0); /* else the test says less than it seems to */
    tl_decoded_free(&out);
    tl_tape_free(t);
}

static void of_equals_the_first(void **unused)
{
    (void)unused;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *table = tensor_of(TL_F32, TL_SHAPE(3, 3), REALS(0, 1, 1, 2, 2, 1, 0, 0, 0));
    tl_decode_model m = {.step = table_step, .context = table};
    tl_decode_task task = {.rows = 1, .first = (const int64_t[]){0}, .steps = 4, .end = -1};
    tl_decoded out;
    for (int beam = 0; beam < 2; beam++) {
        tl_status status = beam ? tl_decode_beam(t, &m, &task, &(tl_beam){.width = 1}, &out)
                                : tl_decode_greedy(t, &m, &task, &out);
        assert_int_equal(status, TL_OK);
        for (int i = 0; i < 4; i++)
            assert_int_equal(out.token[i], i % 2 == 0);
        assert_int_equal(out.length[0], 4);
        tl_decoded_free(&out);
    }
    tl_tensor_release(table);
    tl_tape_free(t);
}

/* After the last step: what all but the last token have made of them. */
static void states_are_handed_back(void **unused)
{
    (void)unused;
    enum { SHORT = 3 };
    tl_tape *t = tl_tape_new(NULL);
    tl_decoded whole, part;
    int64_t calls = 0;
    assert_int_equal(run_history(t, ROWS, 0, 2 * SHORT, -1, NULL, &whole), TL_OK);
    tl_var state[2] = {TL_NONE, tl_constant_from(t, TL_F64, TL_SHAPE(ROWS, 1), row_constant)};
    tl_decode_model m = {
        .step = history_step, .context = &calls, .states = 1, .constants = 1, .state = state};
    tl_decode_task task = {.rows = ROWS, .first = first, .steps = SHORT, .end = -1};
    assert_int_equal(tl_decode_greedy(t, &m, &task, &part), TL_OK);
    for (int64_t row = 0; row < ROWS; row++) {
        uint64_t so_far = start_of(row);
        for (int64_t i = 0; i < SHORT; i++) {
            assert_int_equal(part.token[row * SHORT + i], whole.token[row * 2 * SHORT + i]);
            if (i + 1 < SHORT) /* the last one has not been read yet */
                so_far = mix(so_far, part.token[row * SHORT + i]);
        }
        assert_same(item_at(t, state[0], row), (double)so_far);
        assert_same(item_at(t, state[1], row), row_constant[row]);
    }
    tl_decoded_free(&part);
    tl_decoded_free(&whole);
    tl_tape_free(t);
}

/* ---- sampling --------------------------------------------------------------------------- */

static void check_kept(tl_sampling s, const double *logits, int64_t words, const char *kept)
{
    double p[16], sum = 0, kept_sum = 0;
    tl_error error = {TL_OK, ""};
    assert_int_equal(tl_sampling_probabilities(&s, words, logits, p, &error), TL_OK);
    for (int64_t i = 0; i < words; i++)
        kept_sum += kept[i] == '1' ? exp(logits[i] / s.temperature) : 0;
    for (int64_t i = 0; i < words; i++) {
        double expected = kept[i] == '1' ? exp(logits[i] / s.temperature) / kept_sum : 0;
        if ((p[i] > 0) != (kept[i] == '1'))
            fail_msg("T %g, k %lld, p %g: token %lld has probability %g, but should be %s",
                     s.temperature, (long long)s.top_k, s.top_p, (long long)i, p[i],
                     kept[i] == '1' ? "kept" : "cut off");
        assert_near_at(p[i], expected, 1e-14, i);
        sum += p[i];
    }
    assert_near(sum, 1, 1e-14);
}

static void exactly_the_right_tokens_are_kept(void **unused)
{
    (void)unused;
    /* probabilities 1/16 1/2 1/16 1/4 1/8 */
    const double l[] = {log(1), log(8), log(1), log(4), log(2)};
    const double equal[] = {0, 0, 0, 0};
    const int64_t all = INT64_MAX;
    check_kept((tl_sampling){1, all, 1}, l, 5, "11111");
    check_kept((tl_sampling){1, 5, 1}, l, 5, "11111");
    check_kept((tl_sampling){1, 6, 1}, l, 5, "11111");
    check_kept((tl_sampling){1, 4, 1}, l, 5, "11011"); /* a tie: the first */
    check_kept((tl_sampling){1, 3, 1}, l, 5, "01011");
    check_kept((tl_sampling){1, 1, 1}, l, 5, "01000");
    check_kept((tl_sampling){1, 2, 1}, equal, 4, "1100");
    check_kept((tl_sampling){1, all, 0.49}, l, 5, "01000");
    check_kept((tl_sampling){1, all, 0.51}, l, 5, "01010");
    check_kept((tl_sampling){1, all, 0.74}, l, 5, "01010");
    check_kept((tl_sampling){1, all, 0.76}, l, 5, "01011");
    check_kept((tl_sampling){1, all, 0.88}, l, 5, "11011");
    check_kept((tl_sampling){1, all, 0.94}, l, 5, "11111");
    check_kept((tl_sampling){1, all, 1e-9}, l, 5, "01000");
    check_kept((tl_sampling){1, all, 0.5}, equal, 4, "1100"); /* at least p: two are enough */
    check_kept((tl_sampling){1, all, 0.51}, equal, 4, "1110");
    check_kept((tl_sampling){1, 2, 0.6}, l, 5, "01000"); /* of the two, 2/3 and 1/3 */
    check_kept((tl_sampling){1, 2, 0.7}, l, 5, "01010");
    check_kept((tl_sampling){0.5, all, 0.74}, l, 5, "01000"); /* after the temperature: 64 of 86 */
    check_kept((tl_sampling){2, all, 1}, l, 5, "11111");
}

static void impossible_tokens_stay_so(void **unused)
{
    (void)unused;
    const double l[] = {-(double)INFINITY, 0, -(double)INFINITY, 1};
    check_kept((tl_sampling){1, 3, 1}, l, 4, "0101");
    check_kept((tl_sampling){1e6, INT64_MAX, 1}, l, 4, "0101");
    check_kept((tl_sampling){1, INT64_MAX, 0.999999}, l, 4, "0101");
}

static void temperature_has_two_limits(void **unused)
{
    (void)unused;
    const double l[] = {-3, 2, 0.5, 2 - 1e-6};
    double p[4];
    tl_error error = {TL_OK, ""};
    const double cold[] = {1e-9, 1e-300};
    for (int k = 0; k < 2; k++) {
        tl_sampling s = {.temperature = cold[k], .top_k = 4, .top_p = 1};
        assert_int_equal(tl_sampling_probabilities(&s, 4, l, p, &error), TL_OK);
        for (int i = 0; i < 4; i++)
            assert_same(p[i], i == 1);
    }
    tl_sampling hot = {.temperature = 1e300, .top_k = 4, .top_p = 1};
    assert_int_equal(tl_sampling_probabilities(&hot, 4, l, p, &error), TL_OK);
    for (int i = 0; i < 4; i++)
        assert_near_at(p[i], 0.25, 1e-15, i);
}

static void draw_finds_the_interval(void **unused)
{
    (void)unused;
    const double p[] = {0, 0.25, 0, 0.5, 0.25, 0};
    assert_int_equal(tl_draw(6, p, 0), 1);
    assert_int_equal(tl_draw(6, p, 0.2499), 1);
    assert_int_equal(tl_draw(6, p, 0.25), 3);
    assert_int_equal(tl_draw(6, p, 0.7499), 3);
    assert_int_equal(tl_draw(6, p, 0.75), 4);
    assert_int_equal(tl_draw(6, p, 1 - 0x1p-53), 4);
    assert_int_equal(tl_draw(6, p, 1), 4); /* not asked for, but never one of probability 0 */
}

/* sum (seen - expected)^2 / expected over the tokens that are possible */
static double chi_square(const tl_decoded *out, int64_t words, const double *p)
{
    double seen[16] = {0}, chi = 0, count = (double)(out->rows * out->steps);
    for (int64_t i = 0; i < out->rows * out->steps; i++)
        seen[out->token[i]]++;
    for (int64_t i = 0; i < words; i++) {
        if (p[i] > 0)
            chi += (seen[i] - count * p[i]) * (seen[i] - count * p[i]) / (count * p[i]);
        else
            assert_same(seen[i], 0);
    }
    return chi;
}

static void frequencies_are_the_probabilities(void **unused)
{
    (void)unused;
    enum { MANY = 400, STEPS = 50 };
    const double row[V] = {0.3, -1, 1.2, 0, -0.4};
    double same[V * V], p[V];
    int64_t start[MANY] = {0};
    for (int i = 0; i < V * V; i++)
        same[i] = row[i % V];
    tl_tensor *table = tensor_of(TL_F64, TL_SHAPE(V, V), same);
    const tl_sampling samplings[] = {
        {1, INT64_MAX, 1}, {0.7, INT64_MAX, 1}, {1.5, 3, 1}, {1, INT64_MAX, 0.8}};
    for (int k = 0; k < COUNT_OF(samplings); k++) {
        tl_tape *t = tl_tape_new(&(tl_tape_config){.seed = 17});
        tl_decode_model m = {.step = table_step, .context = table};
        tl_decode_task task = {.rows = MANY, .first = start, .steps = STEPS, .end = -1};
        tl_decoded out;
        assert_int_equal(tl_decode_sample(t, &m, &task, &samplings[k], &out), TL_OK);
        assert_int_equal(tl_sampling_probabilities(&samplings[k], V, row, p, NULL), TL_OK);
        double chi = chi_square(&out, V, p);
        if (chi > 18.47) /* 4 degrees of freedom, p = 0.001 */
            fail_msg("chi-square of sampling %d is %g", k, chi);
        double log_p[V], total = 0; /* of the model as it is */
        log_softmax(row, V, log_p);
        for (int64_t i = 0; i < STEPS; i++) {
            assert_near_at(out.log_p[i], log_p[out.token[i]], 1e-14, i);
            total += log_p[out.token[i]];
        }
        assert_near(out.total[0], total, 1e-13);
        tl_decoded_free(&out);
        tl_tape_free(t);
    }
    tl_tensor_release(table);
}

static void a_seed_settles_the_sample(void **unused)
{
    (void)unused;
    dice d = dice_of(2);
    tl_tensor *table = random_tensor(&d, TL_F32, TL_SHAPE(V, V), -1, 1);
    tl_decoded out[3];
    tl_sampling s = TL_SAMPLING_ALL;
    for (int k = 0; k < 3; k++) {
        tl_tape *t = tl_tape_new(&(tl_tape_config){.seed = k == 2 ? 6 : 5});
        tl_decode_model m = {.step = table_step, .context = table};
        tl_decode_task task = {.rows = ROWS, .first = first, .steps = 20, .end = END};
        assert_int_equal(tl_decode_sample(t, &m, &task, &s, &out[k]), TL_OK);
        tl_tape_free(t);
    }
    size_t bytes = ROWS * 20 * sizeof(int64_t);
    assert_memory_equal(out[0].token, out[1].token, bytes);
    assert_true(memcmp(out[0].token, out[2].token, bytes) != 0);
    for (int k = 0; k < 3; k++)
        tl_decoded_free(&out[k]);
    tl_tensor_release(table);
}

/* ---- beams ------------------------------------------------------------------------------ */

typedef struct sequence {
    int64_t token[MOST_STEPS], length;
    uint64_t so_far;
    double total, score;
} sequence;

static int better(const void *a, const void *b)
{
    const sequence *x = a, *y = b;
    return x->score < y->score ? 1 : x->score > y->score ? -1 : 0;
}

static int likelier(const void *a, const void *b)
{
    const sequence *x = a, *y = b;
    return x->total < y->total ? 1 : x->total > y->total ? -1 : 0;
}

static sequence extended(const sequence *s, int64_t token, double log_p, double alpha)
{
    sequence more = *s;
    more.token[more.length++] = token;
    more.total += log_p;
    more.score = more.total / pow((5 + (double)more.length) / 6, alpha);
    more.so_far = mix(more.so_far, token);
    return more;
}

/* The same search in lists, without stopping early; results in order. */
static int naive_beam(int64_t row, int64_t width, double alpha, int64_t steps, int64_t end,
                      sequence *results)
{
    sequence beam[V] = {{.so_far = start_of(row)}}, ways[V * V];
    int live = 1, found = 0;
    for (int64_t step = 0; step < steps; step++) {
        int count = 0, next = 0;
        for (int k = 0; k < live; k++) {
            double logits[V], log_p[V];
            history_logits(beam[k].so_far + (uint64_t)row_constant[row], logits);
            log_softmax(logits, V, log_p);
            for (int64_t i = 0; i < V; i++)
                ways[count++] = extended(&beam[k], i, log_p[i], alpha);
        }
        qsort(ways, (size_t)count, sizeof *ways, likelier);
        for (int k = 0; k < count; k++) {
            if (ways[k].token[step] != end && next < width)
                beam[next++] = ways[k];
            else if (ways[k].token[step] == end && k < width)
                results[found++] = ways[k];
        }
        live = next;
    }
    for (int k = 0; k < live; k++)
        results[found++] = beam[k];
    qsort(results, (size_t)found, sizeof *results, better);
    return found < width ? found : (int)width;
}

static void check_sequence(const tl_decoded *out, int64_t row, int64_t place, const sequence *s)
{
    int64_t at = row * out->width + place;
    double total = 0;
    for (int64_t i = 0; i < out->steps; i++) {
        assert_int_equal(out->token[at * out->steps + i], i < s->length ? s->token[i] : -1);
        total += out->log_p[at * out->steps + i];
    }
    assert_int_equal(out->length[at], s->length);
    assert_near(out->total[at], s->total, 1e-13);
    assert_near(out->score[at], s->score, 1e-13);
    assert_near(out->total[at], total, 1e-13);
}

static void a_beam_is_what_the_lists_say(void **unused)
{
    (void)unused;
    static sequence results[V * V * MOST_STEPS];
    const double alphas[] = {0, 0.6, 2};
    tl_tape *t = tl_tape_new(NULL);
    int ended = 0, unended = 0;
    for (int64_t width = 1; width <= V; width++)
        for (int64_t steps = 1; steps <= MOST_STEPS; steps++)
            for (int k = 0; k < 2 * COUNT_OF(alphas); k++) {
                int64_t end = k % 2 ? END : -1;
                tl_beam beam = {.width = width, .alpha = alphas[k / 2]};
                tl_decoded out;
                assert_int_equal(run_history(t, ROWS, 0, steps, end, &beam, &out), TL_OK);
                for (int64_t row = 0; row < ROWS; row++) {
                    int found = naive_beam(row, width, beam.alpha, steps, end, results);
                    for (int place = 0; place < found; place++) {
                        check_sequence(&out, row, place, &results[place]);
                        bool ends = results[place].token[results[place].length - 1] == END;
                        ended += ends;
                        unended += !ends;
                    }
                    for (int64_t place = found; place < width; place++)
                        assert_int_equal(out.length[row * width + place], 0);
                }
                tl_decoded_free(&out);
            }
    assert_true(ended > 100 && unended > 100);
    tl_tape_free(t);
}

/* All beginnings of two tokens fit into a beam as wide as the vocabulary. */
static void two_steps_are_searched_wholly(void **unused)
{
    (void)unused;
    tl_tape *t = tl_tape_new(NULL);
    tl_decoded out;
    run_history(t, ROWS, 0, 2, -1, &(tl_beam){.width = V}, &out);
    for (int64_t row = 0; row < ROWS; row++) {
        sequence all[V * V], none = {.so_far = start_of(row)};
        for (int64_t i = 0; i < V * V; i++) {
            double logits[V], log_p[V];
            history_logits(none.so_far + (uint64_t)row_constant[row], logits);
            log_softmax(logits, V, log_p);
            sequence one = extended(&none, i / V, log_p[i / V], 0);
            history_logits(one.so_far + (uint64_t)row_constant[row], logits);
            log_softmax(logits, V, log_p);
            all[i] = extended(&one, i % V, log_p[i % V], 0);
        }
        qsort(all, V * V, sizeof *all, likelier);
        for (int64_t place = 0; place < V; place++)
            check_sequence(&out, row, place, &all[place]);
    }
    tl_decoded_free(&out);
    tl_tape_free(t);
}

/* From 0 a step to 1 is likelier than to 2, but 1 leads nowhere in particular, and 2 surely to 3. */
static void a_beam_finds_what_greed_misses(void **unused)
{
    (void)unused;
    enum { WORDS = 4, STEPS = 4 };
    const double p[WORDS * WORDS] = {0.05, 0.5,  0.4,  0.05, 0.25, 0.25, 0.25, 0.25,
                                     0.01, 0.01, 0.01, 0.97, 0.9,  0.04, 0.03, 0.03};
    double logits[WORDS * WORDS], best = -(double)INFINITY;
    int64_t best_path[STEPS] = {0};
    for (int i = 0; i < WORDS * WORDS; i++)
        logits[i] = log(p[i]) + 3;               /* not normalised: that is the library's work */
    for (int64_t code = 0; code < 256; code++) { /* all sequences */
        int64_t path[STEPS], last = 0;
        double total = 0;
        for (int i = 0; i < STEPS; i++, last = path[i - 1]) {
            path[i] = code >> (2 * i) & 3;
            total += log(p[last * WORDS + path[i]]);
        }
        if (total > best) {
            best = total;
            memcpy(best_path, path, sizeof path);
        }
    }
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *table = tensor_of(TL_F64, TL_SHAPE(WORDS, WORDS), logits);
    tl_decode_model m = {.step = table_step, .context = table};
    tl_decode_task task = {.rows = 1, .first = (const int64_t[]){0}, .steps = STEPS, .end = -1};
    tl_decoded greedy, one, beam;
    assert_int_equal(tl_decode_greedy(t, &m, &task, &greedy), TL_OK);
    assert_int_equal(tl_decode_beam(t, &m, &task, &(tl_beam){.width = 1}, &one), TL_OK);
    assert_int_equal(tl_decode_beam(t, &m, &task, &(tl_beam){.width = 2}, &beam), TL_OK);
    assert_memory_equal(greedy.token, one.token, sizeof best_path);
    assert_memory_equal(greedy.log_p, one.log_p, STEPS * sizeof(double));
    assert_same(one.total[0], greedy.total[0]);
    assert_memory_equal(beam.token, best_path, sizeof best_path);
    assert_near(beam.total[0], best, 1e-14);
    assert_true(greedy.total[0] < best - 0.5);
    tl_decoded_free(&greedy);
    tl_decoded_free(&one);
    tl_decoded_free(&beam);
    tl_tensor_release(table);
    tl_tape_free(t);
}

static void width_one_is_greedy(void **unused)
{
    (void)unused;
    tl_tape *t = tl_tape_new(NULL);
    tl_decoded greedy, beam;
    for (int64_t end = -1; end < V; end++) {
        run_history(t, ROWS, 0, MOST_STEPS, end, NULL, &greedy);
        run_history(t, ROWS, 0, MOST_STEPS, end, &(tl_beam){.width = 1}, &beam);
        assert_memory_equal(greedy.token, beam.token, ROWS * MOST_STEPS * sizeof(int64_t));
        assert_memory_equal(greedy.log_p, beam.log_p, ROWS * MOST_STEPS * sizeof(double));
        assert_memory_equal(greedy.length, beam.length, ROWS * sizeof(int64_t));
        assert_memory_equal(greedy.total, beam.total, ROWS * sizeof(double));
        tl_decoded_free(&greedy);
        tl_decoded_free(&beam);
    }
    tl_tape_free(t);
}

static void rows_do_not_influence_each_other(void **unused)
{
    (void)unused;
    tl_tape *t = tl_tape_new(NULL);
    tl_beam beam = {.width = 3, .alpha = 0.6};
    tl_decoded all, one;
    int64_t size = beam.width * MOST_STEPS;
    run_history(t, ROWS, 0, MOST_STEPS, END, &beam, &all);
    for (int64_t row = 0; row < ROWS; row++) {
        run_history(t, 1, row, MOST_STEPS, END, &beam, &one);
        assert_memory_equal(one.token, all.token + row * size, (size_t)size * sizeof(int64_t));
        assert_memory_equal(one.score, all.score + row * 3, 3 * sizeof(double));
        tl_decoded_free(&one);
    }
    tl_decoded_free(&all);
    tl_tape_free(t);
}

/* Ending at once is likelier than going on, but by the token it is the worse. Words: go on, end. */
static void the_penalty_favours_length(void **unused)
{
    (void)unused;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *table = tensor_of(
        TL_F64, TL_SHAPE(3, 3),
        REALS(log(0.9), log(0.1), -(double)INFINITY, 0, 0, 0, log(0.45), log(0.55), -(double)INFINITY));
    tl_decode_model m = {.step = table_step, .context = table};
    tl_decode_task task = {.rows = 1, .first = (const int64_t[]){2}, .steps = 6, .end = 1};
    tl_decoded out;
    const double alphas[] = {0, 1, 3};
    for (int k = 0; k < 3; k++) {
        double goes_on = log(0.45) + 5 * log(0.9), ends = log(0.55);
        double by_length = goes_on / pow(11.0 / 6, alphas[k]); /* 6 tokens; the other has 1 */
        bool shorter = ends > by_length;
        assert_int_equal(tl_decode_beam(t, &m, &task, &(tl_beam){2, alphas[k]}, &out), TL_OK);
        assert_int_equal(out.length[0], shorter ? 1 : 6);
        assert_near(out.score[0], shorter ? ends : by_length, 1e-14);
        assert_near(out.total[0], shorter ? ends : goes_on, 1e-14);
        assert_int_equal(shorter, k < 2);
        tl_decoded_free(&out);
    }
    tl_tensor_release(table);
    tl_tape_free(t);
}

static void what_is_impossible_is_not_found(void **unused)
{
    (void)unused;
    const double no = -(double)INFINITY;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *table = tensor_of(TL_F64, TL_SHAPE(3, 3), REALS(no, 0, no, no, no, 0, no, no, 0));
    tl_decode_model m = {.step = table_step, .context = table};
    tl_decode_task task = {.rows = 1, .first = (const int64_t[]){0}, .steps = 5, .end = 2};
    tl_decoded out;
    assert_int_equal(tl_decode_beam(t, &m, &task, &(tl_beam){.width = 3}, &out), TL_OK);
    assert_int_equal(out.length[0], 2); /* 1, end: there is no other way */
    assert_int_equal(out.token[0], 1);
    assert_int_equal(out.token[1], 2);
    assert_same(out.total[0], 0);
    for (int k = 1; k < 3; k++) {
        assert_int_equal(out.length[k], 0);
        assert_same(out.total[k], no);
    }
    tl_decoded_free(&out);
    tl_tensor_release(table);
    tl_tape_free(t);
}

/* ---- memory ----------------------------------------------------------------------------- */

static size_t held_after(int64_t steps, const tl_beam *beam, const tl_sampling *sampling)
{
    dice d = dice_of(4);
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *table = random_tensor(&d, TL_F64, TL_SHAPE(V, V), -1, 1);
    tl_var state[2] = {tl_full(t, TL_F64, TL_SHAPE(ROWS, 7), 1),
                       tl_full(t, TL_U8, TL_SHAPE(ROWS, 9), 1)};
    tl_decode_model m = {
        .step = table_step, .context = table, .states = 1, .constants = 1, .state = state};
    tl_decode_task task = {.rows = ROWS, .first = first, .steps = steps, .end = -1};
    tl_decoded out;
    tl_status status = beam       ? tl_decode_beam(t, &m, &task, beam, &out)
                       : sampling ? tl_decode_sample(t, &m, &task, sampling, &out)
                                  : tl_decode_greedy(t, &m, &task, &out);
    assert_int_equal(status, TL_OK);
    size_t held = tl_tape_measure(t).held;
    tl_decoded_free(&out);
    tl_tensor_release(table);
    tl_tape_free(t);
    return held;
}

static void memory_does_not_grow_with_the_steps(void **unused)
{
    (void)unused;
    const tl_beam beam = {.width = 3};
    const tl_sampling sampling = TL_SAMPLING_ALL;
    for (int k = 0; k < 3; k++) {
        const tl_beam *b = k == 1 ? &beam : NULL;
        const tl_sampling *s = k == 2 ? &sampling : NULL;
        assert_int_equal(held_after(40, b, s), held_after(2000, b, s));
    }
}

/* ---- in words --------------------------------------------------------------------------- */

typedef struct trial {
    tl_decode_model m;
    tl_decode_task task;
    const tl_sampling *sampling;
    const tl_beam *beam;
} trial;

static void check_decode_error(const trial *x, tl_status status, const char *message)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_decoded out;
    tl_status is = x->beam       ? tl_decode_beam(t, &x->m, &x->task, x->beam, &out)
                   : x->sampling ? tl_decode_sample(t, &x->m, &x->task, x->sampling, &out)
                                 : tl_decode_greedy(t, &x->m, &x->task, &out);
    assert_int_equal(is, status);
    assert_error(t, status, message);
    assert_null(out.token);
    assert_int_equal(out.rows, 0);
    tl_decoded_free(&out);
    tl_tape_free(t);
}

static tl_var wrong_step(tl_tape *t, void *context, int64_t step, tl_var tokens, tl_var *state)
{
    (void)tokens;
    (void)state;
    int64_t width = step < *(int64_t *)context ? 3 : 4;
    return tl_full(t, TL_F64, TL_SHAPE(2, width), 0);
}

static void mistakes_are_named(void **unused)
{
    (void)unused;
    const double no = -(double)INFINITY;
    const int64_t start[2] = {0, 1};
    tl_tensor *table = tensor_of(TL_F64, TL_SHAPE(3, 3), REALS(0, 1, 0, 0, 0, 1, 0, (double)NAN, 0));
    trial x = {.m = {.step = table_step, .context = table},
               .task = {.rows = 2, .first = start, .steps = 4, .end = -1}};
    check_decode_error(&x, TL_ERR_NOT_FINITE, "decode: the logit of token 1, row 1, is NaN (decode 1)");
    tl_tensor_set(table, 7, (double)INFINITY);
    check_decode_error(&x, TL_ERR_NOT_FINITE,
                       "decode: the logit of token 1, row 1, is +inf (decode 1)");
    for (int i = 6; i < 9; i++)
        tl_tensor_set(table, i, no);
    check_decode_error(
        &x, TL_ERR_NOT_FINITE,
        "decode: the logit of token 0, row 1, is -inf, as that of all others (decode 1)");
    x.task.steps = 0;
    check_decode_error(&x, TL_ERR_ARGUMENT,
                       "decode: rows 2 and steps 0 must be at least 1, end -1 a token or -1");
    x.task.steps = 4;
    x.task.end = 3;
    check_decode_error(&x, TL_ERR_INDEX,
                       "decode: the end token 3 is not one of the 3 words (decode 0)");
    x.task.end = -1;
    tl_sampling s = TL_SAMPLING_ALL;
    x.sampling = &s;
    s.temperature = 0;
    check_decode_error(&x, TL_ERR_ARGUMENT,
                       "sampling: the temperature must be greater than 0 and finite, not 0");
    s.temperature = (double)NAN;
    check_decode_error(&x, TL_ERR_ARGUMENT,
                       "sampling: the temperature must be greater than 0 and finite, not nan");
    s = (tl_sampling){1, 0, 1};
    check_decode_error(&x, TL_ERR_ARGUMENT, "sampling: top_k must be at least 1, not 0");
    s = (tl_sampling){1, 1, 0};
    check_decode_error(&x, TL_ERR_ARGUMENT, "sampling: top_p must lie in (0, 1], not 0");
    s = (tl_sampling){1, 1, 1.5};
    check_decode_error(&x, TL_ERR_ARGUMENT, "sampling: top_p must lie in (0, 1], not 1.5");
    x.beam = &(tl_beam){.width = 4};
    check_decode_error(&x, TL_ERR_ARGUMENT,
                       "decode: a beam of 4 is wider than the vocabulary, 3 (decode 0)");
    x.beam = &(tl_beam){.width = 0};
    check_decode_error(&x, TL_ERR_ARGUMENT,
                       "decode: the beam's width must be at least 1, alpha at least 0, not 0 and 0");
    x.beam = &(tl_beam){.width = 2, .alpha = -1};
    check_decode_error(&x, TL_ERR_ARGUMENT,
                       "decode: the beam's width must be at least 1, alpha at least 0, not 2 and -1");
    x.beam = NULL;
    x.sampling = NULL;
    int64_t wide_at = 2;
    x.m = (tl_decode_model){.step = wrong_step, .context = &wide_at};
    check_decode_error(
        &x, TL_ERR_SHAPE,
        "decode: wants logits [2,V] of a real dtype, the same V each time, not f64 [2,4] "
        "(decode 2)");
    x.m.step = NULL;
    check_decode_error(&x, TL_ERR_ARGUMENT,
                       "decode: a model wants a step and at most 256 variables, not 0 states and 0 "
                       "constants");
    x.m.step = wrong_step;
    x.task.rows = 3;
    x.task.first = (const int64_t[]){0, 0, 0};
    check_decode_error(
        &x, TL_ERR_SHAPE,
        "decode: wants logits [3,V] of a real dtype, the same V each time, not f64 [2,3] "
        "(decode 0)");
    x.task.steps = INT64_MAX / 2;
    check_decode_error(&x, TL_ERR_MEMORY, "decode: out of memory");
    tl_tensor_release(table);
}

/* A row that is over may say what it likes. */
static void rows_that_are_over_are_not_looked_at(void **unused)
{
    (void)unused;
    const double nan = (double)NAN;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *table = tensor_of(TL_F64, TL_SHAPE(3, 3), REALS(0, 1, 0, nan, nan, nan, 0, 0, 1));
    tl_decode_model m = {.step = table_step, .context = table};
    tl_decode_task task = {.rows = 2, .first = (const int64_t[]){0, 2}, .steps = 4, .end = 1};
    tl_decoded out;
    assert_int_equal(tl_decode_greedy(t, &m, &task, &out), TL_OK);
    assert_int_equal(out.length[0], 1);
    assert_int_equal(out.length[1], 4);
    tl_decoded_free(&out);
    tl_tensor_release(table);
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_likeliest),
        cmocka_unit_test(of_equals_the_first),
        cmocka_unit_test(states_are_handed_back),
        cmocka_unit_test(exactly_the_right_tokens_are_kept),
        cmocka_unit_test(impossible_tokens_stay_so),
        cmocka_unit_test(temperature_has_two_limits),
        cmocka_unit_test(draw_finds_the_interval),
        cmocka_unit_test(frequencies_are_the_probabilities),
        cmocka_unit_test(a_seed_settles_the_sample),
        cmocka_unit_test(a_beam_is_what_the_lists_say),
        cmocka_unit_test(two_steps_are_searched_wholly),
        cmocka_unit_test(a_beam_finds_what_greed_misses),
        cmocka_unit_test(width_one_is_greedy),
        cmocka_unit_test(rows_do_not_influence_each_other),
        cmocka_unit_test(the_penalty_favours_length),
        cmocka_unit_test(what_is_impossible_is_not_found),
        cmocka_unit_test(memory_does_not_grow_with_the_steps),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(rows_that_are_over_are_not_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
