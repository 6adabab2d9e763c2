/* online_learning.c - one stream, one network, seven ways to learn from what is long gone.
 *
 * Bits x_t = +-1 come one by one, at random. The network, an LSTM with a linear output, is to say which
 * bit came DELAY steps ago: nothing in the bit itself helps, the weights have to learn to keep it. An
 * error made now is the fault of what the weights did DELAY steps ago, and the ways differ in how they
 * find out:
 *
 *     BPTT, k1 = 1     looks at this step alone: learns to read what happens to be in the state
 *     BPTT, k1 = 20    records 20 steps, then goes back over them; what crosses a border is lost
 *     RTRL             carries J = dstate/dweights forward: everything, exactly; J is large
 *     SnAp-1           of J only how each unit depends on its own weights
 *     e-prop           the same, and only along the cell's memory c
 *     UORO             a random J of rank one, right on average
 *     ARTBP            BPTT with borders drawn at random, 20 steps apart in the mean, and factors that
 *                      make up for what is lost at them
 *
 * All derivatives are the tape's; nothing here or in these methods knows how an LSTM is made.
 *
 *     1. With weights that stay: the gradient of the loss of STEPS_HELD steps, by each, against full
 * BPTT.
 *     2. Learning: the mean squared error on the stream (1: guessing, 0: perfect), in ten stretches.
 * Adam, an update wherever the method has a gradient, and the same rate for all.
 *     3. What it costs.
 *
 * It fails (exit status 1) if RTRL's gradient is not BPTT's to 1e-10, or if, in the end, RTRL does not
 * have a smaller error than BPTT with k1 = 1. With a number as its argument: so many steps. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <tapeloop/tapeloop.h>

enum { DELAY = 4, HIDDEN = 10, STEPS_HELD = 60, COLUMNS = 10 };

typedef enum kind { BPTT, ONLINE, ARTBP } kind;

typedef struct way {
    const char *name;
    kind kind;
    int64_t k1; /* 0: all steps */
    tl_online_config online;
} way;

static const way ways[] = {
    {"BPTT, k1=1", BPTT, 1, {TL_RTRL, 0, 0}},  {"BPTT, k1=20", BPTT, 20, {TL_RTRL, 0, 0}},
    {"RTRL", ONLINE, 0, {TL_RTRL, 0, 0}},      {"SnAp-1", ONLINE, 0, {TL_SNAP, 1, 7}},
    {"e-prop", ONLINE, 0, {TL_EPROP, 0, 7}},   {"UORO", ONLINE, 0, {TL_UORO, 0, 7}},
    {"ARTBP, 20", ARTBP, 20, {TL_RTRL, 0, 0}},
};
enum { WAYS = sizeof ways / sizeof ways[0], RTRL = 2 };

typedef struct learner {
    tl_params *params;
    tl_rnn rnn;
    tl_linear_layer output;
    tl_optimizer *optimizer;
    tl_online *online;
    tl_tape *t;
    int64_t steps;            /* in all */
    int64_t step;             /* of online learning, now */
    double error[COLUMNS];    /* summed squared errors of a stretch of the stream */
    int64_t counted[COLUMNS]; /* steps of it */
    bool hold;                /* weights stay, gradients add up */
} learner;

/* Bit t of the stream: the same for all. */
static double bit(int64_t step)
{
    const uint32_t counter[4] = {(uint32_t)step, 0, 0, 0}, key[2] = {11, 0};
    uint32_t words[4];
    tl_philox4x32(counter, key, words);
    return words[0] & 1 ? 1 : -1;
}

static void learner_init(learner *l, const way *w, bool hold, int64_t steps)
{
    *l = (learner){
        .params = tl_params_new(TL_F64, 5), .t = tl_tape_new(NULL), .hold = hold, .steps = steps};
    if (!l->params || !l->t)
        return;
    tl_rnn_init(&l->rnn, l->params,
                &(tl_rnn_config){.cell = &tl_lstm_cell,
                                 .options = &(tl_lstm_options){.forget_bias = 1},
                                 .input = 1,
                                 .hidden = HIDDEN,
                                 .layers = 1});
    tl_linear_init(&l->output, l->params, "output.", HIDDEN, 1, true);
    l->optimizer =
        tl_optimizer_new(l->params, &(tl_optimizer_config){.kind = TL_ADAM, .rate = hold ? 0 : 0.004});
    if (w->kind == ONLINE && tl_params_status(l->params) == TL_OK)
        l->online = tl_online_new(&l->rnn, &w->online, &l->params->error);
}

static void learner_free(learner *l)
{
    tl_online_free(l->online);
    tl_optimizer_free(l->optimizer);
    tl_rnn_free(&l->rnn);
    tl_params_free(l->params);
    tl_tape_free(l->t);
}

/* y: [1,HIDDEN] of step t */
static tl_var loss_at(tl_tape *t, learner *l, tl_var y, int64_t step)
{
    tl_var said = tl_linear(t, y, &l->output);
    double wanted = step >= DELAY ? bit(step - DELAY) : 0;
    tl_var target = tl_full(t, TL_F64, TL_SHAPE(1, 1), wanted);
    tl_var loss = tl_mse(t, said, target, TL_REDUCE_SUM);
    int64_t column = step * COLUMNS / l->steps;
    l->error[column] += tl_item(t, loss);
    l->counted[column]++;
    return loss;
}

static void improve(learner *l, double loss)
{
    if (l->hold || !isfinite(loss))
        return;
    tl_optimizer_step(l->optimizer);
    tl_zero_gradients(l->params);
}

/* ---- backwards -------------------------------------------------------------------------- */

static tl_var record(tl_tape *t, void *model, int64_t from, int64_t to, tl_var *state)
{
    learner *l = model;
    tl_var loss = TL_NONE;
    for (int64_t step = from; step < to; step++) {
        tl_var y = tl_unroll(t, &l->rnn, tl_full(t, TL_F64, TL_SHAPE(1, 1, 1), bit(step)), state);
        tl_var own = loss_at(t, l, tl_select(t, y, 0, 0), step);
        loss = step > from ? tl_add(t, loss, own) : own;
    }
    return loss;
}

static bool update(void *model, int64_t from, int64_t to, double loss)
{
    (void)from, (void)to;
    improve(model, loss);
    return true;
}

static tl_var record_step(tl_tape *t, void *model, int64_t step, tl_var *state)
{
    return record(t, model, step, step + 1, state);
}

/* ---- forwards --------------------------------------------------------------------------- */

static tl_var loss_now(tl_tape *t, void *model, tl_var y)
{
    learner *l = model;
    return loss_at(t, l, y, l->step);
}

static tl_status run_online(learner *l)
{
    for (l->step = 0; l->step < l->steps; l->step++) {
        double loss;
        tl_tape_reset(l->t);
        tl_var x = tl_full(l->t, TL_F64, TL_SHAPE(1, 1), bit(l->step));
        if (tl_online_step(l->online, l->t, x, loss_now, l, &loss) != TL_OK)
            break;
        improve(l, loss);
    }
    return tl_tape_status(l->t);
}

static bool after_pass(void *model, const tl_bptt_pass *pass)
{
    return update(model, pass->from, pass->to, pass->loss);
}

/* Returns seconds a step; NaN: it failed. */
static double run(learner *l, const way *w)
{
    tl_var state[2] = {TL_NONE, TL_NONE};
    tl_status status = tl_params_status(l->params);
    clock_t begin = clock();
    if (status == TL_OK && w->kind == ONLINE) {
        status = run_online(l);
    } else if (status == TL_OK && w->kind == BPTT) {
        tl_bptt bptt = {.k1 = w->k1, .model = l, .record = record, .update = after_pass};
        status = tl_bptt_run(l->t, &bptt, l->steps, 2, state);
    } else if (status == TL_OK) {
        tl_artbp artbp = {.length = (double)w->k1,
                          .alpha = 4,
                          .seed = 9,
                          .model = l,
                          .record = record_step,
                          .update = update};
        status = tl_artbp_run(l->t, &artbp, l->steps, 2, state);
    }
    if (status != TL_OK)
        fprintf(stderr, "%s: %s%s\n", w->name, tl_tape_message(l->t), l->params->error.message);
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC / (double)l->steps;
    return status == TL_OK ? seconds : NAN;
}

/* ---- 1. gradients ----------------------------------------------------------------------- */

typedef struct comparison {
    double off, cosine, length; /* |a - b| / |b|; a b / (|a| |b|); |a| / |b| */
} comparison;

static comparison compare(const tl_params *a, const tl_params *b)
{
    double aa = 0, bb = 0, ab = 0, apart = 0;
    for (int k = 0; k < a->count; k++)
        for (int64_t i = 0; i < a->entry[k]->value->layout.count; i++) {
            double x = tl_tensor_get(a->entry[k]->gradient, i),
                   y = tl_tensor_get(b->entry[k]->gradient, i);
            aa += x * x;
            bb += y * y;
            ab += x * y;
            apart += (x - y) * (x - y);
        }
    return (comparison){sqrt(apart / bb), ab / sqrt(aa * bb), sqrt(aa / bb)};
}

static bool show_gradients(void)
{
    const way whole = {"full BPTT", BPTT, 0, {TL_RTRL, 0, 0}};
    learner full;
    bool good;
    printf("1. the gradient of %d steps, weights held, against full BPTT's\n\n"
           "   method          relative distance    cosine   length\n",
           STEPS_HELD);
    learner_init(&full, &whole, true, STEPS_HELD);
    good = !isnan(run(&full, &whole));
    for (int k = 0; k < WAYS && good; k++) {
        learner l;
        learner_init(&l, &ways[k], true, STEPS_HELD);
        good = !isnan(run(&l, &ways[k]));
        comparison c = compare(l.params, full.params);
        printf("   %-14s %18.2e %9.4f %8.4f\n", ways[k].name, c.off, c.cosine, c.length);
        good = good && (k != RTRL || c.off < 1e-10);
        learner_free(&l);
    }
    learner_free(&full);
    return good;
}

/* ---- 2. and 3. -------------------------------------------------------------------------- */

static void print_cost(const learner *l, const way *w, double seconds)
{
    tl_online_cost c = {0};
    if (l->online)
        c = tl_online_measure(l->online);
    printf("   %-14s ", w->name);
    if (l->online)
        printf("%9lld %10lld", (long long)c.entries, (long long)c.walks);
    else
        printf("%9s %10s", "-", "1");
    printf(" %14.1f\n", 1e6 * seconds);
}

int main(int argc, char **argv)
{
    int64_t steps = argc > 1 ? strtoll(argv[1], NULL, 10) : 10000;
    learner l[WAYS];
    double seconds[WAYS];
    if (steps < 500) {
        fprintf(stderr, "usage: online_learning [steps >= 500]\n");
        return EXIT_FAILURE;
    }
    bool good = show_gradients();
    printf("\n2. mean squared error while learning to say the bit of %d steps ago, %lld steps\n\n"
           "   %-14s",
           DELAY, (long long)steps, "steps up to");
    for (int c = 1; c <= COLUMNS; c++)
        printf(" %6lld", (long long)(steps * c / COLUMNS));
    putchar('\n');
    for (int k = 0; k < WAYS; k++) {
        learner_init(&l[k], &ways[k], false, steps);
        seconds[k] = run(&l[k], &ways[k]);
        good = good && !isnan(seconds[k]);
        printf("   %-14s", ways[k].name);
        for (int c = 0; c < COLUMNS; c++)
            printf(" %6.3f", l[k].error[c] / (double)(l[k].counted[c] ? l[k].counted[c] : 1));
        putchar('\n');
    }
    good = good && l[RTRL].error[COLUMNS - 1] < l[0].error[COLUMNS - 1];
    printf("\n3. what a step costs, for %lld weights in the network\n\n"
           "   method         kept of J      walks   microseconds\n",
           (long long)(l[RTRL].online ? tl_online_measure(l[RTRL].online).columns : 0));
    for (int k = 0; k < WAYS; k++) {
        print_cost(&l[k], &ways[k], seconds[k]);
        learner_free(&l[k]);
    }
    puts(good ? "\nthe past can be carried along instead of gone back to, at a price"
              : "\nNOT as claimed");
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
