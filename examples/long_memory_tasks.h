/* long_memory_tasks.h - four tasks for which something must be remembered for long.
 *
 *     adding     reads numbers of which two are marked; at the end, their sum.
 *                x_t = (number, mark)   .3 0 | .8 1 | .1 0 | .5 1 | .9 0        target 1.3
 *     copy       reads ten symbols, waits, and says them when it is asked to.
 *                in   3 1 4 1 5 1 2 6 5 3 _ _ _ _ > _ _ _ _ _ _ _ _ _ _
 *                out  _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ 3 1 4 1 5 1 2 6 5 3
 *     order      reads noise with an X or a Y in two places; at the end, which came in which order.
 *                E a c d X b b a .. d c Y a .. B                          class XY: 1
 *     reber      reads a string of the embedded Reber grammar; after each symbol, what may come next.
 *                B T B T X S E T E                       the T before the last E is the second symbol
 *
 * Each is drawn afresh from a generator of random numbers (tl_random): the same state of the generator,
 * the same sequences. Letters: T time, B batch, I inputs, O outputs. */
#ifndef LONG_MEMORY_TASKS_H
#define LONG_MEMORY_TASKS_H

#include <stdlib.h>
#include <string.h>

#include <tapeloop/tapeloop.h>

/* B sequences of at most T steps. */
typedef struct sequences {
    int64_t steps, batch, inputs, outputs; /* T, B, I, O */
    float *x;                              /* [T,B,I], zeros beyond a sequence's end */
    int64_t *lengths;                      /* [B] */
    /* What is to come out: one of these, the others are NULL. */
    float *sum;         /* [B]: a number, after the last step */
    int64_t *class_at;  /* [B]: a class, after the last step */
    int64_t *symbol_at; /* [T,B]: a class at every step; NOT_ASKED beyond the end */
    /* Of the Reber grammar: [T,B], bit s is set if symbol s may come next. */
    uint8_t *legal;
} sequences;

enum { NOT_ASKED = -1 };

static void sequences_free(sequences *s)
{
    free(s->x);
    free(s->lengths);
    free(s->sum);
    free(s->class_at);
    free(s->symbol_at);
    free(s->legal);
    *s = (sequences){0};
}

/* Room for them; all have T steps. False: no memory. */
static bool sequences_make(sequences *s, int64_t steps, int64_t batch, int64_t inputs, int64_t outputs)
{
    *s = (sequences){.steps = steps, .batch = batch, .inputs = inputs, .outputs = outputs};
    s->x = calloc((size_t)(steps * batch * inputs), sizeof *s->x);
    s->lengths = calloc((size_t)batch, sizeof *s->lengths);
    for (int64_t b = 0; b < batch && s->lengths; b++)
        s->lengths[b] = steps;
    return s->x && s->lengths;
}

/* As it is, or, where memory was short, freed and false. */
static bool sequences_whole(sequences *s, const void *targets)
{
    if (s->x && s->lengths && targets)
        return true;
    sequences_free(s);
    return false;
}

static float *input_at(const sequences *s, int64_t t, int64_t b)
{
    return s->x + (t * s->batch + b) * s->inputs;
}

/* ---- the adding problem ------------------------------------------------------------------------
 *
 * Hochreiter and Schmidhuber, Neural Computation 9 (1997), section 5.4, in the form of Le, Jaitly and
 * Hinton, arXiv:1504.00941, section 4.1: numbers uniform in [0, 1), T of them in every sequence, two
 * marks, the target the sum of the two. The first mark is in the first half, the second in the second
 * (as Arjovsky et al., arXiv:1511.06464, have it). Who always answers 1 has a mean squared error of
 * 2/12 = 0.167. T >= 2. */
static bool draw_adding(sequences *s, tl_random *random, int64_t steps, int64_t batch)
{
    if (sequences_make(s, steps, batch, 2, 1))
        s->sum = calloc((size_t)batch, sizeof *s->sum);
    if (!sequences_whole(s, s->sum))
        return false;
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t t = 0; t < steps; t++)
            input_at(s, t, b)[0] = (float)tl_random_unit(random);
        int64_t half = steps / 2;
        int64_t marked[2] = {tl_random_below(random, half),
                             half + tl_random_below(random, steps - half)};
        for (int k = 0; k < 2; k++) {
            input_at(s, marked[k], b)[1] = 1;
            s->sum[b] += input_at(s, marked[k], b)[0];
        }
    }
    return true;
}

/* ---- copy memory -------------------------------------------------------------------------------
 *
 * Arjovsky, Shah and Bengio, arXiv:1511.06464, section 4.1: ten symbols out of eight; delay - 1
 * blanks, the request, ten blanks; T = delay + 20. What is to come out: delay + 10 blanks, then the ten
 * symbols. Symbols are 0..7, the blank 8, the request 9, which never comes out. Who answers with blanks
 * and then guesses has a cross-entropy of 10 log 8 / T. delay >= 1. */
enum { COPIED = 10, COPY_SYMBOLS = 8, BLANK = COPY_SYMBOLS, REQUEST, COPY_INPUTS };

static bool draw_copy(sequences *s, tl_random *random, int64_t delay, int64_t batch)
{
    int64_t steps = delay + 2 * COPIED;
    if (sequences_make(s, steps, batch, COPY_INPUTS, COPY_SYMBOLS + 1))
        s->symbol_at = malloc((size_t)(steps * batch) * sizeof *s->symbol_at);
    if (!sequences_whole(s, s->symbol_at))
        return false;
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t t = 0; t < steps; t++) {
            s->symbol_at[t * batch + b] = BLANK;
            if (t >= COPIED)
                input_at(s, t, b)[t == COPIED + delay - 1 ? REQUEST : BLANK] = 1;
        }
        for (int64_t k = 0; k < COPIED; k++) {
            int64_t symbol = tl_random_below(random, COPY_SYMBOLS);
            input_at(s, k, b)[symbol] = 1;
            s->symbol_at[(steps - COPIED + k) * batch + b] = symbol;
        }
    }
    return true;
}

/* ---- temporal order ----------------------------------------------------------------------------
 *
 * Hochreiter and Schmidhuber, section 5.6, task 6a: a sequence of 100 to 110 symbols begins with E and
 * ends with B; in between are a, b, c, d at random, but for an X or Y at two times, the first from 10
 * to 20, the second from 50 to 60. Classes: XX 0, XY 1, YX 2, YY 3. Here the length is a parameter and
 * these times are its tenths: n to 1.1 n symbols, from n/10 to n/5, from n/2 to 3n/5. n >= 10. */
enum { NOISE = 4, ORDER_E = NOISE, ORDER_B, ORDER_X, ORDER_Y, ORDER_INPUTS };

static int64_t draw_between(tl_random *random, int64_t least, int64_t most)
{
    return least + tl_random_below(random, most - least + 1);
}

static bool draw_order(sequences *s, tl_random *random, int64_t length, int64_t batch)
{
    int64_t n = length, longest = n + n / 10;
    if (sequences_make(s, longest, batch, ORDER_INPUTS, 4))
        s->class_at = calloc((size_t)batch, sizeof *s->class_at);
    if (!sequences_whole(s, s->class_at))
        return false;
    for (int64_t b = 0; b < batch; b++) {
        int64_t last = (s->lengths[b] = draw_between(random, n, longest)) - 1;
        int64_t first = draw_between(random, n / 10, n / 5),
                second = draw_between(random, n / 2, 3 * n / 5);
        for (int64_t t = 0; t <= last; t++) {
            int64_t symbol = t == 0 ? ORDER_E : t == last ? ORDER_B : tl_random_below(random, NOISE);
            if (t == first || t == second) {
                int64_t y = tl_random_below(random, 2);
                symbol = y ? ORDER_Y : ORDER_X;
                s->class_at[b] = 2 * s->class_at[b] + y;
            }
            input_at(s, t, b)[symbol] = 1;
        }
    }
    return true;
}

/* ---- the embedded Reber grammar ----------------------------------------------------------------
 *
 * Reber (1967); Hochreiter and Schmidhuber, section 5.1, figures 3 and 4:
 *
 *             T --> 1 --X--> 3 --S--> 5           1 --S--> 1      3 --X--> 2
 *     B --> 0                ^        5 --> E     2 --T--> 2      4 --P--> 3
 *             P --> 2 --V--> 4 --V--> 5
 *
 * a way through the graph, each of two arcs with probability 1/2, is a Reber string. Embedded:
 * B T (a Reber string) T E, or B P (a Reber string) P E. After every symbol but the last, the next one
 * is to be predicted; where two may come, the next one is drawn from both. The second-to-last symbol is
 * that of long ago. */
enum { REBER_B, REBER_T, REBER_P, REBER_S, REBER_X, REBER_V, REBER_E, REBER_SYMBOLS };

static const char reber_letters[REBER_SYMBOLS + 1] = "BTPSXVE";

enum { REBER_END = 5, REBER_MOST = 64 }; /* longer strings (about one in 10^7) are drawn again */

typedef struct reber_string {
    int64_t length;
    uint8_t symbol[REBER_MOST], legal[REBER_MOST]; /* legal[k]: what might have stood at place k */
} reber_string;

static void reber_put(reber_string *r, int symbol, int other)
{
    if (r->length < REBER_MOST) {
        r->symbol[r->length] = (uint8_t)symbol;
        r->legal[r->length] = (uint8_t)(1 << symbol | 1 << other);
    }
    r->length++;
}

static void draw_reber_path(reber_string *r, tl_random *random)
{
    static const struct {
        int symbol, next;
    } arc[REBER_END][2] = {{{REBER_T, 1}, {REBER_P, 2}},
                           {{REBER_S, 1}, {REBER_X, 3}},
                           {{REBER_T, 2}, {REBER_V, 4}},
                           {{REBER_X, 2}, {REBER_S, REBER_END}},
                           {{REBER_P, 3}, {REBER_V, REBER_END}}};
    reber_put(r, REBER_B, REBER_B);
    for (int node = 0; node != REBER_END && r->length < REBER_MOST;) {
        int64_t way = tl_random_below(random, 2);
        reber_put(r, arc[node][way].symbol, arc[node][1 - way].symbol);
        node = arc[node][way].next;
    }
    reber_put(r, REBER_E, REBER_E);
}

static reber_string draw_embedded_reber(tl_random *random)
{
    reber_string r;
    do {
        int arm = tl_random_below(random, 2) ? REBER_P : REBER_T;
        r = (reber_string){0};
        reber_put(&r, REBER_B, REBER_B);
        reber_put(&r, arm, arm == REBER_T ? REBER_P : REBER_T);
        draw_reber_path(&r, random);
        reber_put(&r, arm, arm);
        reber_put(&r, REBER_E, REBER_E);
    } while (r.length > REBER_MOST);
    return r;
}

/* Steps: the longest string's symbols but the last, which nothing follows. */
static bool draw_reber(sequences *s, tl_random *random, int64_t batch)
{
    reber_string *drawn = malloc((size_t)batch * sizeof *drawn);
    int64_t steps = 0;
    *s = (sequences){0};
    if (!drawn)
        return false;
    for (int64_t b = 0; b < batch; b++) {
        drawn[b] = draw_embedded_reber(random);
        steps = drawn[b].length - 1 > steps ? drawn[b].length - 1 : steps;
    }
    if (sequences_make(s, steps, batch, REBER_SYMBOLS, REBER_SYMBOLS)) {
        s->symbol_at = malloc((size_t)(steps * batch) * sizeof *s->symbol_at);
        s->legal = calloc((size_t)(steps * batch), sizeof *s->legal);
    }
    bool whole = s->legal && sequences_whole(s, s->symbol_at);
    for (int64_t b = 0; b < batch && whole; b++) {
        s->lengths[b] = drawn[b].length - 1;
        for (int64_t t = 0; t < steps; t++) {
            bool within = t < s->lengths[b];
            s->symbol_at[t * batch + b] = within ? drawn[b].symbol[t + 1] : NOT_ASKED;
            s->legal[t * batch + b] = within ? drawn[b].legal[t + 1] : 0;
            if (within)
                input_at(s, t, b)[drawn[b].symbol[t]] = 1;
        }
    }
    if (!whole)
        sequences_free(s);
    free(drawn);
    return whole;
}

#endif
