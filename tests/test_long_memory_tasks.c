/* The tasks of examples/long_memory.c: shapes, targets, and the same sequences from the same seed. */
#include "support.h"

#include <regex.h>

#include "examples/long_memory_tasks.h"

enum { BATCH = 37 };

typedef bool draw(sequences *s, tl_random *random, int64_t length, int64_t batch);

static bool reber_of_any_length(sequences *s, tl_random *random, int64_t length, int64_t batch)
{
    (void)length;
    return draw_reber(s, random, batch);
}

static draw *const draws[] = {draw_adding, draw_copy, draw_order, reber_of_any_length};

static sequences drawn_from(draw *by, tl_random *random, int64_t length, int64_t batch)
{
    sequences s;
    assert_true(by(&s, random, length, batch));
    assert_int_equal(s.batch, batch);
    return s;
}

static sequences drawn(draw *by, uint64_t seed, int64_t length, int64_t batch)
{
    tl_random random = tl_random_seed(seed);
    return drawn_from(by, &random, length, batch);
}

/* The one input that is 1, the others being 0; -1: all are 0. */
static int64_t hot(const sequences *s, int64_t t, int64_t b)
{
    int64_t found = -1;
    for (int64_t i = 0; i < s->inputs; i++) {
        float x = input_at(s, t, b)[i];
        assert_true(x == 0 || (x == 1 && found < 0));
        found = x == 1 ? i : found;
    }
    return found;
}

/* ---- each task -------------------------------------------------------------------------- */

static void adding_marks_one_number_in_each_half_and_asks_for_the_sum(void **state)
{
    (void)state;
    const int64_t lengths[] = {2, 11, 100};
    for (int k = 0; k < COUNT_OF(lengths); k++) {
        int64_t T = lengths[k];
        double mean = 0;
        sequences s = drawn(draw_adding, 1, T, BATCH);
        assert_int_equal(s.steps, T);
        assert_int_equal(s.inputs, 2);
        assert_int_equal(s.outputs, 1);
        assert_null(s.class_at);
        assert_null(s.symbol_at);
        for (int64_t b = 0; b < BATCH; b++) {
            double sum = 0, marks[2] = {0};
            for (int64_t t = 0; t < T; t++) {
                const float *x = input_at(&s, t, b);
                assert_true(x[0] >= 0 && x[0] <= 1 && (x[1] == 0 || x[1] == 1));
                marks[t >= T / 2] += (double)x[1];
                sum += (double)(x[0] * x[1]);
                mean += (double)x[0] / (double)(T * BATCH);
            }
            assert_same(marks[0], 1);
            assert_same(marks[1], 1);
            assert_near_at((double)s.sum[b], sum, 1e-6, b);
            assert_int_equal(s.lengths[b], T);
        }
        assert_near(mean, 0.5, 0.1);
        sequences_free(&s);
    }
}

static void copy_wants_the_symbols_after_the_request(void **state)
{
    (void)state;
    const int64_t delays[] = {1, 7};
    for (int k = 0; k < COUNT_OF(delays); k++) {
        int64_t delay = delays[k], T = delay + 20;
        sequences s = drawn(draw_copy, 2, delay, BATCH);
        assert_int_equal(s.steps, T);
        assert_int_equal(s.inputs, 10);
        assert_int_equal(s.outputs, 9);
        for (int64_t b = 0; b < BATCH; b++) {
            for (int64_t t = 0; t < T; t++) {
                int64_t x = hot(&s, t, b), wanted = s.symbol_at[t * BATCH + b];
                if (t < 10)
                    assert_in_range(x, 0, 7);
                else
                    assert_int_equal(x, t == 10 + delay - 1 ? REQUEST : BLANK);
                assert_int_equal(wanted, t < delay + 10 ? BLANK : hot(&s, t - delay - 10, b));
            }
        }
        sequences_free(&s);
    }
}

static void order_has_two_symbols_in_their_places_and_their_class(void **state)
{
    (void)state;
    int64_t seen[4] = {0}, longest = 0, shortest = 1000;
    enum { MANY = 400 };
    sequences s = drawn(draw_order, 3, 100, MANY);
    assert_int_equal(s.steps, 110);
    for (int64_t b = 0; b < MANY; b++) {
        int64_t length = s.lengths[b], found = 0, class = 0;
        assert_in_range(length, 100, 110);
        longest = length > longest ? length : longest;
        shortest = length < shortest ? length : shortest;
        for (int64_t t = 0; t < s.steps; t++) {
            int64_t x = hot(&s, t, b);
            assert_int_equal(x < 0, t >= length);
            assert_int_equal(x == ORDER_E, t == 0);
            assert_int_equal(x == ORDER_B, t == length - 1);
            if (x != ORDER_X && x != ORDER_Y)
                continue;
            assert_in_range(t, found ? 50 : 10, found ? 60 : 20);
            class = 2 * class + (x == ORDER_Y);
            found++;
        }
        assert_int_equal(found, 2);
        assert_int_equal(s.class_at[b], class);
        seen[class]++;
    }
    assert_int_equal(longest, 110);
    assert_int_equal(shortest, 100);
    for (int k = 0; k < 4; k++)
        assert_in_range(seen[k], MANY / 4 - 40, MANY / 4 + 40);
    sequences_free(&s);
}

/* ---- Reber ------------------------------------------------------------------------------ */

/* The grammar once more, as a regular expression: an automaton that was made by someone else. */
#define FROM_3_AND_4 "(PXT*V)*(PS|V)" /* what may follow V: to 3 and round again, or to the end */
#define REBER        "B(TS*X(S|XT*V" FROM_3_AND_4 ")|PT*V" FROM_3_AND_4 ")E"

static void text_of(const sequences *s, int64_t b, char *text)
{
    int64_t T = s->lengths[b];
    for (int64_t t = 0; t < T; t++)
        text[t] = reber_letters[hot(s, t, b)];
    text[T] = reber_letters[s->symbol_at[(T - 1) * s->batch + b]];
    text[T + 1] = '\0';
}

enum { STRINGS = 3000 };

static void reber_strings_are_of_the_embedded_grammar(void **state)
{
    (void)state;
    char text[REBER_MOST + 1];
    regex_t grammar;
    int64_t longest = 0, arms[2] = {0};
    assert_int_equal(regcomp(&grammar, "^B(T" REBER "T|P" REBER "P)E$", REG_EXTENDED | REG_NOSUB), 0);
    assert_int_equal(regexec(&grammar, "BTBTXSETE", 0, NULL, 0), 0);
    assert_int_equal(regexec(&grammar, "BTBTXSEPE", 0, NULL, 0), REG_NOMATCH);
    assert_int_equal(regexec(&grammar, "BTBTXVETE", 0, NULL, 0), REG_NOMATCH);
    sequences s = drawn(reber_of_any_length, 4, 0, STRINGS);
    for (int64_t b = 0; b < STRINGS; b++) {
        text_of(&s, b, text);
        if (regexec(&grammar, text, 0, NULL, 0) != 0)
            fail_msg("%s is not of the grammar", text);
        longest = s.lengths[b] > longest ? s.lengths[b] : longest;
        arms[text[1] == 'P']++;
    }
    assert_int_equal(s.steps, longest);
    assert_true(longest > 20);
    assert_in_range(arms[0], STRINGS / 2 - 150, STRINGS / 2 + 150);
    regfree(&grammar);
    sequences_free(&s);
}

/* Targets are the inputs one step later, and among what is legal; beyond the end nothing is asked. */
static void reber_targets_are_what_comes_next(void **state)
{
    (void)state;
    sequences s = drawn(reber_of_any_length, 5, 0, BATCH);
    for (int64_t b = 0; b < BATCH; b++) {
        for (int64_t t = 0; t < s.steps; t++) {
            int64_t next = s.symbol_at[t * BATCH + b];
            unsigned legal = s.legal[t * BATCH + b];
            if (t >= s.lengths[b]) {
                assert_int_equal(next, NOT_ASKED);
                assert_int_equal(legal, 0);
                assert_int_equal(hot(&s, t, b), -1);
                continue;
            }
            assert_int_equal(next, t == s.lengths[b] - 1 ? REBER_E : hot(&s, t + 1, b));
            assert_true(legal >> next & 1);
        }
    }
    sequences_free(&s);
}

/* What is legal after a beginning is what follows it in any of many strings. */
static void reber_legal_is_what_some_string_goes_on_with(void **state)
{
    (void)state;
    enum { BEGINNING = 6 };
    char text[STRINGS][REBER_MOST + 1];
    sequences s = drawn(reber_of_any_length, 6, 0, STRINGS);
    for (int64_t b = 0; b < STRINGS; b++)
        text_of(&s, b, text[b]);
    for (int64_t b = 0; b < BATCH; b++) {
        for (int64_t t = 0; t < BEGINNING; t++) {
            unsigned follows = 0;
            for (int64_t other = 0; other < STRINGS; other++)
                if (strncmp(text[b], text[other], (size_t)t + 1) == 0)
                    follows |= 1u << s.symbol_at[t * STRINGS + other];
            assert_int_equal(s.legal[t * STRINGS + b], follows);
        }
        int64_t last = s.lengths[b] - 2; /* its target is the second-to-last symbol: only one will do */
        assert_int_equal(s.legal[last * STRINGS + b], 1u << hot(&s, 1, b));
    }
    sequences_free(&s);
}

/* ---- all of them ------------------------------------------------------------------------ */

static bool same_numbers(const void *a, const void *b, size_t bytes)
{
    return (!a && !b) || (a && b && memcmp(a, b, bytes) == 0);
}

static bool same_sequences(const sequences *a, const sequences *b)
{
    if (a->steps != b->steps || a->batch != b->batch)
        return false;
    size_t batch = (size_t)a->batch, places = (size_t)a->steps * batch;
    return same_numbers(a->x, b->x, places * (size_t)a->inputs * sizeof *a->x) &&
           same_numbers(a->lengths, b->lengths, batch * sizeof *a->lengths) &&
           same_numbers(a->sum, b->sum, batch * sizeof *a->sum) &&
           same_numbers(a->class_at, b->class_at, batch * sizeof *a->class_at) &&
           same_numbers(a->symbol_at, b->symbol_at, places * sizeof *a->symbol_at) &&
           same_numbers(a->legal, b->legal, places * sizeof *a->legal);
}

static void the_same_seed_gives_the_same_sequences(void **state)
{
    (void)state;
    for (int k = 0; k < COUNT_OF(draws); k++) {
        tl_random random = tl_random_seed(7);
        sequences first = drawn_from(draws[k], &random, 20, BATCH);
        sequences next = drawn_from(draws[k], &random, 20, BATCH);
        sequences again = drawn(draws[k], 7, 20, BATCH), other = drawn(draws[k], 8, 20, BATCH);
        assert_true(same_sequences(&first, &again));
        assert_false(same_sequences(&first, &next));
        assert_false(same_sequences(&first, &other));
        sequences_free(&first);
        sequences_free(&next);
        sequences_free(&again);
        sequences_free(&other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adding_marks_one_number_in_each_half_and_asks_for_the_sum),
        cmocka_unit_test(copy_wants_the_symbols_after_the_request),
        cmocka_unit_test(order_has_two_symbols_in_their_places_and_their_class),
        cmocka_unit_test(reber_strings_are_of_the_embedded_grammar),
        cmocka_unit_test(reber_targets_are_what_comes_next),
        cmocka_unit_test(reber_legal_is_what_some_string_goes_on_with),
        cmocka_unit_test(the_same_seed_gives_the_same_sequences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
