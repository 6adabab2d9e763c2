/* manual_against_automatic.c - how to find the mistake in a gradient that was derived by hand.
 *
 * Someone has written backpropagation through time for a cell of their own, and the network learns
 * badly, or a little less well than it should. Finite differences say that the gradient is wrong, but
 * not at which step. The tape's gradient says more. It can be had step by step: tl_untie gives each
 * time step its own copy of a weight, and tl_step_gradients the gradient of each. The code by hand has
 * these numbers too, before it adds them up. And a mistake in BPTT has a direction: what is wrong at
 * step t spreads to the steps before t, never to those after it. So one compares backwards in time,
 * from the last step on, with tl_compare_grads, and stops at the first step that is off. There the
 * mistake is made, and what is right at this step and what is not tells in which equation.
 *
 *     right   right   |wrong   wrong           which rows of the weights are wrong?
 *      t=6     t=5    | t=4     t=3 ...        i f g, but not o: then it is dc, not dh
 *
 * Two examples, both with the gradients of manual_bptt.h, where the derivations are:
 *
 *     LSTM with peepholes. c_{t-1} is read by the forget gate, through its peephole p_f. That way back,
 *     p_f delta_t^f, is easily forgotten: no matrix goes along it, and without peepholes it is not
 * there.
 *
 *     GRU, with a slip at one time step only, such as an index that is off at a boundary: at t = 4 the
 *     reset gate's delta lacks the derivative of its sigmoid, r (1 - r).
 *
 * For each the program compares the correct gradients, then those with the mistake, summed over time,
 * where nearly all is off and nothing is learned, and at last step by step. It ends with 1 if the
 * correct gradients differ by more than 1e-12, or if the search does not end at the step and in the
 * gates where the mistake was made.
 *
 * Letters: T time, B batch, I inputs, H hidden, G gates. Steps are t = 1 .. T in equations, and 0 ..
 * T - 1 in the reports, as everywhere in the library. */
#include <inttypes.h>
#include <stdio.h>

#include <tapeloop/tapeloop.h>

#include "manual_bptt.h"

enum { T = 6, B = 3, I = 4, H = 5 }; /* all different: a transposition cannot hide */
enum { SUM = T };                    /* after the gradients of the T steps, their sum */
enum { MOST_PARTS = 4 * MANUAL_MOST_GATES + 3 };

static const double tolerance = 1e-12;

typedef struct lesson {
    const char *name, *mistake, *gates; /* gates: their letters, in the order of the rows */
    manual_config config;               /* without the mistake */
    tl_rnn_config library;
    bool forget_peephole; /* the mistake */
    int64_t forget_reset;
    int64_t step;      /* where the report must point: the step, 0 .. T - 1, */
    const char *wrong; /* and the gates whose rows are off there */
    const char *conclusion;
} lesson;

static const lesson lessons[] = {
    {.name = "LSTM with peepholes",
     .mistake = "dc_{t-1} without p_f delta_t^f, the way through the forget gate's peephole",
     .gates = "ifgo",
     .config = {.cell = MANUAL_LSTM, .bias = true, .peephole = true, .layers = 1},
     .library = {.cell = &tl_lstm_cell,
                 .options = &(tl_lstm_options){.peephole = true, .forget_bias = 1}},
     .forget_peephole = true,
     .step = T - 2,
     .wrong = "ifg",
     .conclusion =
         "The output gate's rows are right, so dh is. Wrong is what dc goes into: i, f and g. At the\n"
         "last step, where nothing comes from a later one, dc is right as well. So a term is missing\n"
         "among those that bring dc from step t + 1: dc f, p_i delta^i, p_f delta^f.\n"},
    {.name = "GRU, reset after the product",
     .mistake = "delta_t^r without r (1 - r), at t = 4 only",
     .gates = "rzn",
     .config = {.cell = MANUAL_GRU, .bias = true, .layers = 1},
     .library = {.cell = &tl_gru_cell},
     .forget_reset = 4,
     .step = 3,
     .wrong = "r",
     .conclusion =
         "The rows of z and n are right at this step, so dh is, and du; and r is right at the steps\n"
         "after it, so its equation is. Wrong is how it is applied at this one step.\n"}};

enum { LESSONS = sizeof lessons / sizeof lessons[0] };

/* ---- the two gradients ------------------------------------------------------------------ */

typedef struct subject {
    const lesson *lesson;
    tl_params *params;
    tl_rnn rnn;
    manual_net manual;
    tl_tensor *x, *ideal; /* [T,B,I]; L = half the sum of squares of y - ideal, [T,B,H] */
    /* By weight: [T + 1,G H,..], step by step and then the sum; NULL where there is no such weight. */
    tl_tensor *by_hand[MANUAL_WEIGHTS], *by_tape[MANUAL_WEIGHTS];
} subject;

static bool complain(const char *text)
{
    fprintf(stderr, "manual_against_automatic: %s\n", text);
    return false;
}

static const tl_param *weight_of(const subject *s, int w)
{
    return tl_rnn_weight(&s->rnn, 0, 0, manual_names[w]);
}

/* The same weights in both; numbers larger than initial ones usually are, so that no gate is idle. */
static bool subject_make(subject *s, const lesson *l)
{
    manual_config config = l->config;
    config.T = T, config.B = B, config.I = I, config.H = H;
    tl_rnn_config library = l->library;
    library.input = I, library.hidden = H, library.layers = 1;
    *s = (subject){.lesson = l, .params = tl_params_new(TL_F64, 1)};
    s->x = tl_tensor_empty(TL_F64, TL_SHAPE(T, B, I), NULL);
    s->ideal = tl_tensor_empty(TL_F64, TL_SHAPE(T, B, H), NULL);
    if (!s->params || !s->x || !s->ideal || !manual_make(&s->manual, &config))
        return complain("out of memory");
    tl_random random = tl_random_seed(2);
    tl_random_uniform(&random, s->x, -2, 2);
    tl_random_uniform(&random, s->ideal, -1, 1);
    tl_rnn_init(&s->rnn, s->params, &library);
    if (tl_params_status(s->params) != TL_OK)
        return complain(s->params->error.message);
    for (int w = 0; w < MANUAL_WEIGHTS; w++) {
        const tl_param *p = weight_of(s, w);
        if (p)
            tl_random_uniform(&random, p->value, -0.9, 0.9);
        if (p) /* f64 and contiguous, as all parameters of these */
            memcpy(s->manual.layer[0].value[w], p->value->data,
                   (size_t)p->value->layout.count * sizeof(double));
    }
    return true;
}

static void subject_free(subject *s)
{
    for (int w = 0; w < MANUAL_WEIGHTS; w++) {
        tl_tensor_release(s->by_hand[w]);
        tl_tensor_release(s->by_tape[w]);
    }
    tl_tensor_release(s->x);
    tl_tensor_release(s->ideal);
    manual_free(&s->manual);
    tl_rnn_free(&s->rnn);
    tl_params_free(s->params);
}

/* Every weight untied: a gradient for each step. */
static bool gradients_by_tape(tl_tape *t, subject *s)
{
    tl_tape_reset(t);
    for (int w = 0; w < MANUAL_WEIGHTS; w++)
        if (weight_of(s, w))
            tl_untie(t, weight_of(s, w)->value);
    tl_var y = tl_unroll(t, &s->rnn, tl_constant(t, s->x), NULL);
    tl_var off = tl_sub(t, y, tl_constant(t, s->ideal));
    tl_backward(t, tl_affine(t, tl_sum(t, tl_square(t, off)), 0.5, 0));
    for (int w = 0; w < MANUAL_WEIGHTS; w++) {
        if (!weight_of(s, w))
            continue;
        const int time = 0;
        tl_var steps = tl_step_gradients(t, weight_of(s, w)->value);
        tl_var sum = tl_sum_axes(t, steps, 1, &time, true);
        s->by_tape[w] = tl_value_copy(t, tl_concat(t, 2, (tl_var[]){steps, sum}, 0));
    }
    return tl_tape_status(t) == TL_OK || complain(tl_tape_message(t));
}

static bool gradients_by_hand(subject *s)
{
    double dy[T * B * H];
    manual_forward(&s->manual, s->x->data);
    for (int i = 0; i < T * B * H; i++)
        dy[i] = manual_output(&s->manual)[i] - tl_tensor_get(s->ideal, i);
    manual_backward(&s->manual, dy);
    for (int w = 0; w < MANUAL_WEIGHTS; w++) {
        if (!s->by_tape[w])
            continue;
        const tl_layout *shape = &s->by_tape[w]->layout;
        tl_tensor_release(s->by_hand[w]);
        s->by_hand[w] = tl_tensor_zeros(TL_F64, shape->ndim, shape->shape, NULL);
        if (!s->by_hand[w])
            return complain("out of memory");
        int64_t count = manual_count(&s->manual, 0, w);
        double *numbers = s->by_hand[w]->data;
        memcpy(numbers, s->manual.layer[0].gradient[w], (size_t)(T * count) * sizeof *numbers);
        for (int64_t i = 0; i < T * count; i++)
            numbers[T * count + i % count] += numbers[i];
    }
    return true;
}

/* ---- the comparison --------------------------------------------------------------------- */

/* The rows of a gate in a weight: what tells one equation from the other. */
typedef struct part {
    char name[32];
    int weight, gate;
} part;

static int parts_of(const subject *s, part *parts)
{
    static const int peephole[] = {MANUAL_I, MANUAL_F, MANUAL_O};
    int count = 0;
    for (int w = 0; w < MANUAL_WEIGHTS; w++) {
        for (int g = 0; g < (int)s->manual.G && s->by_tape[w]; g++) {
            bool mine = w < MANUAL_P_I || peephole[w - MANUAL_P_I] == g;
            if (!mine)
                continue;
            part *p = &parts[count++];
            *p = (part){.weight = w, .gate = g};
            snprintf(p->name, sizeof p->name, w < MANUAL_P_I ? "%s, gate %c" : "%s", manual_names[w],
                     s->lesson->gates[g]);
        }
    }
    return count;
}

/* A view of one step's gradient; to be released. */
static tl_tensor *rows_of(tl_tensor *all, const part *p, int64_t step)
{
    int64_t shape[TL_MAX_DIMS] = {H, I}, first = p->weight < MANUAL_P_I ? p->gate * H : 0;
    shape[1] = all->layout.shape[all->layout.ndim - 1];
    tl_tensor *one = tl_tensor_slice(all, 0, step, step + 1, 1, NULL);
    tl_tensor *rows = one ? tl_tensor_slice(one, 1, first, first + H, 1, NULL) : NULL;
    tl_tensor *view = rows ? tl_tensor_reshape(rows, all->layout.ndim - 1, shape, NULL) : NULL;
    tl_tensor_release(one);
    tl_tensor_release(rows);
    return view;
}

/* The gates that are off, by their letters. All weights of a gate see the same delta: one that is off
 * in some of them only (which would be another kind of mistake) is followed by a question mark. */
static void name_gates(const subject *s, int count, const part *parts, const tl_grad_difference *found,
                       char off[2 * MANUAL_MOST_GATES + 1])
{
    for (int g = 0; g < (int)s->manual.G; g++) {
        int wrong = 0, right = 0;
        for (int k = 0; k < count; k++) {
            bool agrees = found[k].relative <= tolerance; /* not so for NaN */
            wrong += parts[k].gate == g && !agrees;
            right += parts[k].gate == g && agrees;
        }
        if (wrong)
            *off++ = s->lesson->gates[g];
        if (wrong && right)
            *off++ = '?';
    }
    *off = '\0';
}

/* Compares all parts at one step (or their sums, at SUM); the report goes to `stream`, if there is one.
 * False: it could not be done. */
static bool report(const subject *s, int64_t step, FILE *stream, bool *agree, char *off)
{
    part parts[MOST_PARTS];
    tl_grad_pair pairs[MOST_PARTS];
    tl_grad_difference found[MOST_PARTS] = {0};
    tl_error error = {TL_OK, ""};
    int count = parts_of(s, parts);
    for (int k = 0; k < count; k++)
        pairs[k] = (tl_grad_pair){parts[k].name, step == SUM ? -1 : step,
                                  rows_of(s->by_hand[parts[k].weight], &parts[k], step),
                                  rows_of(s->by_tape[parts[k].weight], &parts[k], step)};
    tl_status status = tl_compare_grads(count, pairs, tolerance, stream, found, &error);
    for (int k = 0; k < count; k++) {
        tl_tensor_release((tl_tensor *)pairs[k].manual);
        tl_tensor_release((tl_tensor *)pairs[k].automatic);
    }
    name_gates(s, count, parts, found, off);
    *agree = status == TL_OK;
    return status == TL_OK || status == TL_ERR_CHECK || complain(error.message);
}

/* ---- the lesson ------------------------------------------------------------------------- */

/* The correct derivation: all steps are looked at, the sums are shown. */
static bool teach_right(subject *s, bool *fine)
{
    char off[2 * MANUAL_MOST_GATES + 1];
    bool agree;
    printf("The derivation of manual_bptt.h, summed over the steps:\n\n");
    if (!gradients_by_hand(s) || !report(s, SUM, stdout, &agree, off))
        return false;
    *fine = agree;
    for (int64_t step = 0; step < T; step++) {
        if (!report(s, step, NULL, &agree, off))
            return false;
        *fine = *fine && agree;
    }
    printf("\n%s\n\n", *fine ? "These agree, and so do those of every single step."
                             : "FAILED: these should agree, and those of every single step.");
    return true;
}

/* Backwards in time, to the first step that is off. */
static bool search(const subject *s, int64_t *found, char *off)
{
    bool agree = true;
    for (*found = T; agree && *found > 0;) {
        --*found;
        if (!report(s, *found, stdout, &agree, off))
            return false;
        printf("\n");
    }
    if (agree)
        *found = -1;
    return true;
}

static bool teach_wrong(subject *s, bool *fine)
{
    const lesson *l = s->lesson;
    char off[2 * MANUAL_MOST_GATES + 1];
    bool agree;
    int64_t found;
    s->manual.config.forget_peephole = l->forget_peephole;
    s->manual.config.forget_reset = l->forget_reset;
    printf("Now with a mistake: %s.\nSummed over the steps:\n\n", l->mistake);
    if (!gradients_by_hand(s) || !report(s, SUM, stdout, &agree, off))
        return false;
    printf("\n%s Backwards in time, then:\n\n",
           agree ? "Nothing is off?" : "Something is wrong; but what?");
    if (!search(s, &found, off))
        return false;
    *fine = found == l->step && strcmp(off, l->wrong) == 0;
    if (found < 0)
        printf("No step is off.\n");
    else
        printf("The steps after step %" PRId64 " are right. At step %" PRId64 ", off are gates: %s.\n",
               found, found, off);
    if (*fine)
        printf("%s\n", l->conclusion);
    else
        printf("FAILED: it was made at step %" PRId64 ", in gates %s.\n\n", l->step, l->wrong);
    return true;
}

static bool teach(tl_tape *t, const lesson *l)
{
    subject s;
    bool right = false, found = false;
    printf("---- %s ----\n\n", l->name);
    bool done = subject_make(&s, l) && gradients_by_tape(t, &s) && teach_right(&s, &right) &&
                teach_wrong(&s, &found);
    subject_free(&s);
    return done && right && found;
}

int main(void)
{
    int good = 0;
    tl_tape *t = tl_tape_new(NULL);
    if (!t)
        return !complain("out of memory");
    printf(
        "Gradients by hand beside those of the tape; T = %d steps, B = %d sequences, I = %d inputs,\n"
        "H = %d hidden. Relative to each tensor's largest element, %.0e is allowed.\n\n",
        T, B, I, H, tolerance);
    for (int k = 0; k < LESSONS; k++)
        good += teach(t, &lessons[k]);
    tl_tape_free(t);
    if (good == LESSONS)
        printf("Both mistakes were found where they were made.\n");
    else
        printf("FAILED: see above.\n");
    return good != LESSONS;
}
