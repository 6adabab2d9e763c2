/* cell_lesson.h - what the programs cell_*.c share, so that each shows its cell and its task and
 * nothing else: derivatives against differences, a loop of training, printing.
 *
 * Everything is static inline. Letters: T time, B batch, I input, O outputs. */
#ifndef CELL_LESSON_H
#define CELL_LESSON_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tapeloop/tapeloop.h>

typedef struct lesson {
    tl_rnn_config rnn;  /* the network that is trained */
    tl_rnn_config tiny; /* one of the same cell, whose derivatives are checked */
    /* Trained for comparison, as long and on the same; .cell NULL: none. */
    tl_rnn_config rival;
    int64_t steps, batch, outputs; /* T, B, O: from every step O numbers are read out linearly */
    bool labels;                   /* what is asked for: one of O classes rather than O numbers */
    /* Fills x [T,B,I] and y [T,B,O] (labels: [T,B]), zeros before; NaN in y: nothing is asked there. */
    void (*draw)(tl_random *random, int64_t steps, int64_t batch, float *x, float *y);
    /* Prints something readable of what was learned; output: [T,B,O]. */
    void (*show)(int64_t steps, int64_t batch, const float *x, const float *y, const float *output);
    int updates;
    double rate; /* of Adam, falling to a tenth on the way */
    double goal; /* the loss must end below it */
} lesson;

/* ---- derivatives ------------------------------------------------------------------------ */

/* All outputs and all last states, as one row of numbers. */
static inline tl_var lesson_function(tl_tape *t, const tl_var *in, void *context)
{
    const tl_rnn *rnn = context;
    tl_var state[TL_MOST_STATES] = {TL_NONE}, all[TL_MOST_STATES + 1];
    all[0] = tl_flatten(t, tl_unroll(t, rnn, in[0], state), 0, -1);
    for (int k = 0; k < rnn->states; k++)
        all[k + 1] = tl_flatten(t, state[k], 0, -1);
    return tl_concat(t, rnn->states + 1, all, 0);
}

/* A weight that was listed and then forgotten passes any check of derivatives: they are all zero. */
static inline bool lesson_all_matter(tl_rnn *rnn, tl_params *params, tl_tensor *x, char *message)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_var in = tl_constant(t, x);
    bool good = tl_backward(t, tl_sum(t, lesson_function(t, &in, rnn))) == TL_OK;
    if (!good)
        snprintf(message, TL_MESSAGE_SIZE, "%s", tl_tape_message(t));
    for (int k = 0; k < params->count && good; k++) {
        const tl_tensor *g = params->entry[k]->gradient;
        good = false;
        for (int64_t i = 0; i < g->layout.count; i++)
            good = good || tl_tensor_get(g, i) != 0;
        if (!good)
            snprintf(message, TL_MESSAGE_SIZE, "%s changes nothing", params->entry[k]->name);
    }
    tl_tape_free(t);
    return good;
}

/* Through 7 steps of 2 rows, for the inputs and every weight. */
static inline bool lesson_check(const lesson *l)
{
    enum { MOST = 32 };
    tl_rnn rnn;
    tl_tensor *inputs[MOST];
    tl_gradcheck_report r = {.message = "too many parameters"};
    tl_random random = tl_random_seed(7);
    tl_params *params = tl_params_new(TL_F64, 8);
    tl_tensor *x = tl_tensor_empty(TL_F64, TL_SHAPE(7, 2, l->tiny.input), NULL);
    tl_rnn_init(&rnn, params, &l->tiny);
    bool good = x && tl_params_status(params) == TL_OK && params->count < MOST;
    if (tl_params_status(params) != TL_OK)
        snprintf(r.message, sizeof r.message, "%s", params->error.message);
    if (good) {
        tl_random_normal(&random, x, 0, 1);
        inputs[0] = x;
        for (int k = 0; k < params->count; k++)
            inputs[k + 1] = params->entry[k]->value;
        good = tl_gradcheck(lesson_function, &rnn, params->count + 1, inputs, NULL, &r) == TL_OK;
        if (good && !lesson_all_matter(&rnn, params, x, r.message)) {
            good = false;
            r.input = 0;
        }
    }
    if (good)
        printf("%s: %lld derivatives through 7 steps agree with differences; the worst, %s[%lld]:\n"
               "  by the tape %+.10f, by differences %+.10f\n",
               l->tiny.cell->name, (long long)r.checked,
               r.input ? params->entry[r.input - 1]->name : "x", (long long)r.element, r.analytic,
               r.numeric);
    else
        printf("FAILED: the derivatives of %s: %s%s%s\n", l->tiny.cell->name, r.message,
               r.input ? "; that input is " : "", r.input ? params->entry[r.input - 1]->name : "");
    tl_rnn_free(&rnn);
    tl_params_free(params);
    tl_tensor_release(x);
    return good;
}

/* ---- training --------------------------------------------------------------------------- */

typedef struct lesson_state {
    const lesson *l;
    tl_tape *t;
    tl_params *params;
    tl_rnn rnn;
    tl_linear_layer readout;
    tl_random random;
    float *x, *y;  /* [T,B,I], [T,B,O] or [T,B] */
    tl_var output; /* [T,B,O] */
    double first;  /* loss */
} lesson_state;

static inline int64_t lesson_answers(const lesson *l)
{
    return l->steps * l->batch * (l->labels ? 1 : l->outputs);
}

static inline tl_var lesson_cross_entropy(lesson_state *s)
{
    const lesson *l = s->l;
    int64_t *label = tl_scratch(s->t, (size_t)lesson_answers(l) * sizeof *label);
    for (int64_t i = 0; label && i < lesson_answers(l); i++)
        label[i] = isnan(s->y[i]) ? -1 : (int64_t)s->y[i];
    if (!label)
        return tl_poison(s->t);
    tl_var target = tl_constant_from(s->t, TL_I64, TL_SHAPE(l->steps, l->batch), label);
    return tl_cross_entropy_with(s->t, s->output, target,
                                 &(tl_cross_entropy_options){.ignore = true, .ignore_index = -1});
}

/* The mean of (output - y)^2 where something is asked. */
static inline tl_var lesson_squares(lesson_state *s)
{
    const lesson *l = s->l;
    int64_t asked = 0;
    uint8_t *silent = tl_scratch(s->t, (size_t)lesson_answers(l));
    for (int64_t i = 0; silent && i < lesson_answers(l); i++) {
        silent[i] = (uint8_t)(isnan(s->y[i]) != 0);
        asked += !silent[i];
    }
    if (!silent)
        return tl_poison(s->t);
    tl_var mask = tl_constant_from(s->t, TL_U8, TL_SHAPE(l->steps, l->batch, l->outputs), silent);
    tl_var y = tl_constant_from(s->t, TL_F32, TL_SHAPE(l->steps, l->batch, l->outputs), s->y);
    tl_var off = tl_masked_fill(s->t, tl_sub(s->t, s->output, y), mask, 0);
    return tl_div_scalar(s->t, tl_sum(s->t, tl_square(s->t, off)), (double)asked);
}

/* A new batch through the network. */
static inline tl_var lesson_loss(lesson_state *s)
{
    const lesson *l = s->l;
    tl_tape_reset(s->t);
    memset(s->x, 0, (size_t)(l->steps * l->batch * l->rnn.input) * sizeof *s->x);
    memset(s->y, 0, (size_t)lesson_answers(l) * sizeof *s->y);
    l->draw(&s->random, l->steps, l->batch, s->x, s->y);
    tl_var x = tl_constant_from(s->t, TL_F32, TL_SHAPE(l->steps, l->batch, l->rnn.input), s->x);
    s->output = tl_linear(s->t, tl_unroll(s->t, &s->rnn, x, NULL), &s->readout);
    return l->labels ? lesson_cross_entropy(s) : lesson_squares(s);
}

/* Prints the mean loss of each fifth of the way; false with the reason printed. */
static inline bool lesson_learn(lesson_state *s, int updates, bool quiet)
{
    double rate = s->l->rate, sum = 0;
    tl_optimizer *adam =
        tl_optimizer_new(s->params, &(tl_optimizer_config){.kind = TL_ADAM, .rate = rate});
    for (int k = 1, since = 0; adam && k <= updates; k++) {
        tl_zero_gradients(s->params);
        tl_var loss = lesson_loss(s);
        sum += tl_item(s->t, loss), since++;
        s->first = k == 1 ? sum : s->first;
        if (tl_backward(s->t, loss) != TL_OK)
            break;
        tl_clip_gradient_norm(s->params, 1);
        tl_optimizer_set_rate(adam, rate * pow(0.1, (double)k / updates));
        tl_optimizer_step(adam);
        if (k == 1 || k * 5 / updates != (k - 1) * 5 / updates) {
            if (!quiet)
                printf("  update %5d  loss %.5f\n", k, sum / since);
            sum = 0, since = 0;
        }
    }
    tl_optimizer_free(adam);
    if (adam && tl_tape_status(s->t) == TL_OK)
        return true;
    printf("FAILED: %s\n", adam ? tl_tape_message(s->t) : "out of memory");
    return false;
}

static inline bool lesson_begin(lesson_state *s, const lesson *l, const tl_rnn_config *config)
{
    *s = (lesson_state){.l = l, .random = tl_random_seed(1)};
    s->t = tl_tape_new(NULL);
    s->params = tl_params_new(TL_F32, 2);
    s->x = malloc((size_t)(l->steps * l->batch * config->input) * sizeof *s->x);
    s->y = malloc((size_t)lesson_answers(l) * sizeof *s->y);
    if (!s->t || !s->params || !s->x || !s->y) {
        printf("FAILED: out of memory\n");
        return false;
    }
    tl_rnn_init(&s->rnn, s->params, config);
    tl_linear_init(&s->readout, s->params, "readout.", tl_rnn_output(&s->rnn), l->outputs, true);
    if (tl_params_status(s->params) == TL_OK)
        return true;
    printf("FAILED: %s\n", s->params->error.message);
    return false;
}

static inline void lesson_end(lesson_state *s)
{
    tl_rnn_free(&s->rnn);
    tl_params_free(s->params);
    tl_tape_free(s->t);
    free(s->x);
    free(s->y);
}

/* Trains, and tells of it; false unless the loss on numbers never seen is below the goal (NULL: below
 * what it was). */
static inline bool lesson_train(const lesson *l, const tl_rnn_config *config, int updates,
                                const double *goal)
{
    lesson_state s;
    bool good = lesson_begin(&s, l, config);
    if (good) {
        printf("%s, %lld parameters:\n", config->cell->name, (long long)tl_params_elements(s.params));
        good = lesson_learn(&s, updates, config == &l->rival);
    }
    if (good) {
        double loss = tl_item(s.t, lesson_loss(&s)), wanted = goal ? *goal : s.first;
        printf("  afterwards    loss %.5f\n", loss);
        const float *output = tl_value(s.t, s.output).data;
        if (output && config != &l->rival)
            l->show(l->steps, l->batch, s.x, s.y, output);
        good = loss < wanted;
        if (!good)
            printf("FAILED: the loss should have come below %g\n", wanted);
    }
    lesson_end(&s);
    return good;
}

/* ---- all of it -------------------------------------------------------------------------- */

/* What main returns. With --short an eighth of the training, which then must only help. */
static inline int lesson_run(const lesson *l, int argc, char **argv)
{
    bool is_short = argc > 1 && strcmp(argv[1], "--short") == 0;
    int updates = is_short ? l->updates / 8 : l->updates;
    if (!lesson_check(l) || !lesson_train(l, &l->rnn, updates, is_short ? NULL : &l->goal))
        return 1;
    if (l->rival.cell && !is_short) {
        printf("\nFor comparison, as long and on the same: ");
        return !lesson_train(l, &l->rival, updates, NULL);
    }
    return 0;
}

/* Which class the network says, of O numbers. */
static inline int64_t lesson_best(int64_t outputs, const float *output)
{
    int64_t best = 0;
    for (int64_t k = 1; k < outputs; k++)
        best = output[k] > output[best] ? k : best;
    return best;
}

#endif
