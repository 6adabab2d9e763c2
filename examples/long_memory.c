/* long_memory - the classical tests of long memory, for four recurrent networks side by side.
 *
 *     long_memory                                    all tasks, all networks: some minutes
 *     long_memory --task reber --cell lstm --seeds 10
 *     long_memory --task adding --length 400 --cell irnn
 *
 *     elman    h' = tanh(W x + U h + b)
 *     irnn     h' = relu(W x + U h + b), U = 1 at first
 *     lstm     with forget gates, whose bias is 1 at first
 *     gru
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>

#include "long_memory_tasks.h"

/* ---- the command line: one list makes fields, parser and help -------------------------- */

TL_PRINTF(1, 2) static bool complain(const char *format, ...) /* false, for `return complain(...)` */
{
    va_list arguments;
    va_start(arguments, format);
    fputs("long_memory: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return false;
}

/* name, default, least, most, help; 0 of the first ones: what is usual for the task or the cell */
#define OPTION_LIST(X)                                                                                 \
    X(length, 100, 10, 100000, "steps of the adding problem; of temporal order, at least")             \
    X(delay, 20, 1, 100000, "of copy memory: steps from the last symbol to the request")               \
    X(hidden, 0, 1, 16384, "size of the state")                                                        \
    X(batch, 0, 1, 65536, "sequences from one update to the next")                                     \
    X(most, 0, 1, 1e12, "sequences after which a network that has not solved a task gives up")         \
    X(test, 0, 1, 1e9, "sequences to test on")                                                         \
    X(lr, 0, 1e-12, 1e6, "learning rate of Adam")                                                      \
    X(clip, 1, 0, 1e12, "largest norm of the gradient; 0: any")                                        \
    X(seed, 1, 0, 1e15, "of initial weights and of sequences")                                         \
    X(seeds, 1, 1, 1e6, "runs, with this seed and the next ones")                                      \
    X(threads, 1, 1, 256, "that share a product; these are small: more seldom help")

enum {
#define X(name, ...) OPTION_##name,
    OPTION_LIST(X)
#undef X
        NUMBERS,
    OPTION_task = NUMBERS,
    OPTION_cell,
    OPTION_short,
    OPTION_help,
    OPTIONS
};

typedef struct options {
#define X(name, ...) double name;
    OPTION_LIST(X)
#undef X
    const char *task, *cell; /* NULL: all */
    bool brief;              /* --short */
} options;

static const struct {
    const char *name, *help;
    size_t offset;
    double initial, least, most;
} rows[NUMBERS] = {
#define X(name, initial, least, most, help) {#name, help, offsetof(options, name), initial, least, most},
    OPTION_LIST(X)
#undef X
};

/* ---- the networks ----------------------------------------------------------------------- */

typedef struct network {
    const char *name;
    const tl_cell_type *cell;
    const void *options;
    tl_rnn_scheme init;
} network;

static const network networks[] = {
    {"elman", &tl_elman_cell, NULL, TL_RNN_UNIFORM},
    {"irnn", &tl_elman_cell, &(tl_elman_options){.activation = tl_relu}, TL_RNN_IDENTITY},
    {"lstm", &tl_lstm_cell, &(tl_lstm_options){.forget_bias = 1}, TL_RNN_UNIFORM},
    {"gru", &tl_gru_cell, NULL, TL_RNN_UNIFORM}};

enum { ELMAN, IRNN, LSTM, GRU, NETWORKS };

typedef struct model {
    tl_params *params;
    tl_rnn rnn;
    tl_linear_layer out;
} model;

static bool model_make(model *m, const network *n, int64_t inputs, int64_t hidden, int64_t outputs,
                       uint64_t seed)
{
    *m = (model){.params = tl_params_new(TL_F32, seed)};
    if (!m->params)
        return complain("out of memory");
    tl_rnn_init(&m->rnn, m->params,
                &(tl_rnn_config){.cell = n->cell,
                                 .options = n->options,
                                 .init = n->init,
                                 .input = inputs,
                                 .hidden = hidden,
                                 .layers = 1});
    tl_linear_init(&m->out, m->params, "out.", hidden, outputs, true);
    return tl_params_status(m->params) == TL_OK || complain("%s", m->params->error.message);
}

static void model_free(model *m)
{
    tl_rnn_free(&m->rnn);
    tl_params_free(m->params);
}

/* [T,B,O] where something comes out at every step, else [B,O] after each sequence's last one */
static tl_var forward(tl_tape *t, const model *m, const sequences *s)
{
    tl_var state[TL_MOST_STATES] = {TL_NONE};
    tl_var x = tl_constant_from(t, TL_F32, TL_SHAPE(s->steps, s->batch, s->inputs), s->x);
    tl_var h = tl_unroll_with(t, &m->rnn, x, state, &(tl_unroll_options){.lengths = s->lengths});
    return tl_linear(t, s->symbol_at ? h : state[0], &m->out);
}

static tl_var loss_of(tl_tape *t, const sequences *s, tl_var y)
{
    if (s->sum)
        return tl_mse(t, y, tl_constant_from(t, TL_F32, TL_SHAPE(s->batch, 1), s->sum), TL_REDUCE_MEAN);
    tl_var target = s->symbol_at
                        ? tl_constant_from(t, TL_I64, TL_SHAPE(s->steps, s->batch), s->symbol_at)
                        : tl_constant_from(t, TL_I64, TL_SHAPE(s->batch), s->class_at);
    return tl_cross_entropy_with(
        t, y, target, &(tl_cross_entropy_options){.ignore = true, .ignore_index = NOT_ASKED});
}

/* ---- judging ---------------------------------------------------------------------------- */

typedef struct score {
    double squares; /* adding: sum of squared errors */
    int64_t wrong, asked;
} score;

static int64_t largest(const float *y, int64_t count)
{
    int64_t best = 0;
    for (int64_t k = 1; k < count; k++)
        best = y[k] > y[best] || isnan(y[best]) ? k : best;
    return best;
}

/* Are all that may come more active than all that may not? */
static bool most_active(const float *y, unsigned legal)
{
    float least = HUGE_VALF, most = -HUGE_VALF;
    for (int k = 0; k < REBER_SYMBOLS; k++) {
        if (legal >> k & 1)
            least = y[k] < least || isnan(y[k]) ? y[k] : least;
        else
            most = y[k] > most || isnan(y[k]) ? y[k] : most;
    }
    return least > most;
}

/* Hochreiter and Schmidhuber count an error above 0.04 on a scale on which the targets lie in [0, 1];
 * here they lie in [0, 2]. */
static const double tolerable = 0.08;

static void judge_adding(const sequences *s, const float *y, score *total)
{
    for (int64_t b = 0; b < s->batch; b++) {
        double error = (double)y[b] - (double)s->sum[b];
        total->squares += error * error;
        total->wrong += !(fabs(error) < tolerable);
        total->asked++;
    }
}

static void judge_copy(const sequences *s, const float *y, score *total)
{
    for (int64_t i = (s->steps - COPIED) * s->batch; i < s->steps * s->batch; i++, total->asked++)
        total->wrong += largest(y + i * s->outputs, s->outputs) != s->symbol_at[i];
}

static void judge_order(const sequences *s, const float *y, score *total)
{
    for (int64_t b = 0; b < s->batch; b++, total->asked++)
        total->wrong += largest(y + b * s->outputs, s->outputs) != s->class_at[b];
}

static void judge_reber(const sequences *s, const float *y, score *total)
{
    for (int64_t i = 0; i < s->steps * s->batch; i++) {
        total->asked += s->legal[i] != 0;
        total->wrong += s->legal[i] && !most_active(y + i * s->outputs, s->legal[i]);
    }
}

/* ---- the tasks -------------------------------------------------------------------------- */

typedef struct task {
    const char *name, *about;
    int64_t inputs, outputs;
    bool (*draw)(sequences *s, tl_random *random, const options *o, int64_t batch);
    void (*judge)(const sequences *s, const float *y, score *total);
    double goal;                                  /* solved: no more of them wrong; adding: MSE */
    int64_t hidden, batch, most, test;            /* see OPTION_LIST */
    double rate[NETWORKS];
    const char *published;
} task;

static bool adding(sequences *s, tl_random *random, const options *o, int64_t batch)
{
    return draw_adding(s, random, (int64_t)o->length, batch);
}

static bool copying(sequences *s, tl_random *random, const options *o, int64_t batch)
{
    return draw_copy(s, random, (int64_t)o->delay, batch);
}

static bool order(sequences *s, tl_random *random, const options *o, int64_t batch)
{
    return draw_order(s, random, (int64_t)o->length, batch);
}

static bool reber(sequences *s, tl_random *random, const options *o, int64_t batch)
{
    (void)o;
    return draw_reber(s, random, batch);
}

static const task tasks[] = {
    {"reber", "embedded Reber grammar: what may come next, at every step",
     REBER_SYMBOLS, REBER_SYMBOLS, reber, judge_reber, 0, 16, 8, 50000, 256,
     {5e-3, 2e-3, 1e-2, 1e-2},
     ""},
    {"adding", "adding problem: the sum of two marked numbers, at the end",
     2, 1, adding, judge_adding, 0.01, 64, 32, 64000, 512,
     {1e-3, 1e-3, 5e-3, 5e-3},
     ""},
    {"order", "temporal order: which came first, X or Y, at the end",
     ORDER_INPUTS, 4, order, judge_order, 0, 32, 32, 32000, 512,
     {1e-3, 1e-3, 5e-3, 5e-3},
     ""},
    {"copy", "copy memory: ten symbols, when asked",
     COPY_INPUTS, COPY_SYMBOLS + 1, copying, judge_copy, 0.01, 64, 32, 64000, 512,
     {1e-3, 1e-3, 5e-3, 5e-3},
     ""},
};

enum { REBER, ADDING, ORDER, COPY, TASKS };

static double measure(const score *s)
{
    return (s->squares > 0 ? s->squares : (double)s->wrong) / (double)s->asked;
}

/* ---- training and testing --------------------------------------------------------------- */

typedef struct run {
    const options *o;
    const task *task;
    const network *network;
    uint64_t seed;
    int64_t hidden, batch, most, test;
    model m;
    tl_optimizer *optimizer;
    int64_t seen; /* sequences */
    double seconds;
    score score;
    bool solved, broken; /* broken: a number was not finite */
} run;

static int64_t or_usual(double given, int64_t usual)
{
    return given > 0 ? (int64_t)given : usual;
}

/* The same sequences every time, none of which is trained on. */
static bool test(tl_tape *t, run *r)
{
    enum { AT_ONCE = 64 };
    tl_random root = tl_random_seed(r->seed), random = tl_random_split(&root, 2);
    r->score = (score){0};
    for (int64_t left = r->test; left > 0; left -= AT_ONCE) {
        sequences s;
        if (!r->task->draw(&s, &random, r->o, left < AT_ONCE ? left : AT_ONCE))
            return complain("out of memory");
        tl_no_record_begin(t);
        tl_array y = tl_value(t, forward(t, &r->m, &s));
        if (y.data)
            r->task->judge(&s, y.data, &r->score);
        tl_no_record_end(t, 0, NULL);
        tl_tape_reset(t);
        sequences_free(&s);
    }
    double m = measure(&r->score);
    r->solved = m <= r->task->goal;
    return true;
}

static bool train_on(tl_tape *t, run *r, const sequences *s)
{
    tl_zero_gradients(r->m.params);
    tl_var loss = loss_of(t, s, forward(t, &r->m, s));
    if (tl_backward(t, loss) != TL_OK)
        return complain("%s", tl_tape_message(t));
    double norm = r->o->clip > 0 ? tl_clip_gradient_norm(r->m.params, r->o->clip)
                                 : tl_gradient_norm(r->m.params);
    r->broken = !isfinite(norm);
    if (!r->broken)
        tl_optimizer_step(r->optimizer);
    tl_tape_reset(t);
    return true;
}

/* Until the test is passed, or `most` sequences were seen. A test for every 1/40 of these. */
static bool train(tl_tape *t, run *r, tl_random *random)
{
    int64_t next = 0, every = r->most / 40 > r->batch ? r->most / 40 : r->batch;
    while (r->seen < r->most && !r->solved && !r->broken) {
        sequences s;
        if (!r->task->draw(&s, random, r->o, r->batch))
            return complain("out of memory");
        bool fine = train_on(t, r, &s);
        sequences_free(&s);
        r->seen += r->batch;
        if (!fine)
            return false;
        if (r->seen < next + every && r->seen < r->most)
            continue;
        next = r->seen;
        if (!test(t, r))
            return false;
        if (getenv("LM_TRACE"))
            fprintf(stderr, "%s %s %lld %g\n", r->task->name, r->network->name, (long long)r->seen, measure(&r->score));
    }
    return true;
}

static bool carry_out(tl_tape *t, run *r)
{
    const options *o = r->o;
    r->hidden = or_usual(o->hidden, r->task->hidden);
    r->batch = or_usual(o->batch, r->task->batch);
    r->most = or_usual(o->most, r->task->most);
    r->test = or_usual(o->test, r->task->test);
    tl_random root = tl_random_seed(r->seed), random = tl_random_split(&root, 1);
    double rate = o->lr > 0 ? o->lr : r->task->rate[r->network - networks];
    double began = tl_seconds();
    bool fine =
        model_make(&r->m, r->network, r->task->inputs, r->hidden, r->task->outputs, r->seed);
    if (fine) {
        r->optimizer =
            tl_optimizer_new(r->m.params, &(tl_optimizer_config){.kind = TL_ADAM, .rate = rate});
        fine = r->optimizer ? train(t, r, &random) : complain("out of memory");
    }
    r->seconds = tl_seconds() - began;
    tl_optimizer_free(r->optimizer);
    model_free(&r->m);
    return fine;
}

static void print_run(const run *r)
{
    char seen[TL_NUMBER_TEXT], wrong[TL_NUMBER_TEXT], asked[TL_NUMBER_TEXT];
    printf("    %-6s %5llu %8lld  %-6s %12s", r->network->name, (unsigned long long)r->seed,
           (long long)r->hidden, r->solved ? "solved" : r->broken ? "broke" : "no",
           tl_count_text(r->seen, seen));
    printf("  %9s of %-9s", tl_count_text(r->score.wrong, wrong), tl_count_text(r->score.asked, asked));
    if (r->task == &tasks[ADDING])
        printf("  %10.5f", measure(&r->score));
    else
        printf("  %10s", "");
    printf("  %7.1f s\n", r->seconds);
}

static bool parse(options *o, int argc, char **argv, int *code)
{
    *o = (options){0};
    for (int k = 0; k < NUMBERS; k++)
        *(double *)((char *)o + rows[k].offset) = rows[k].initial;
    struct option known[OPTIONS + 1] = {[OPTION_task] = {"task", required_argument, NULL, OPTION_task},
                                        [OPTION_cell] = {"cell", required_argument, NULL, OPTION_cell},
                                        [OPTION_short] = {"short", no_argument, NULL, OPTION_short},
                                        [OPTION_help] = {"help", no_argument, NULL, OPTION_help}};
    for (int k = 0; k < NUMBERS; k++)
        known[k] = (struct option){rows[k].name, required_argument, NULL, k};
    *code = 2;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (c == OPTION_task) o->task = optarg;
        else if (c == OPTION_cell) o->cell = optarg;
        else if (c == OPTION_short) o->brief = true;
        else if (c < NUMBERS) *(double *)((char *)o + rows[c].offset) = atof(optarg);
        else return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    options o;
    int code;
    if (!parse(&o, argc, argv, &code))
        return code;
    setvbuf(stdout, NULL, _IOLBF, 0);
    tl_tape *t = tl_tape_new(&(tl_tape_config){.threads = (int)o.threads});
    for (int k = 0; k < TASKS; k++) {
        if (o.task && strcmp(o.task, tasks[k].name)) continue;
        printf("%s\n", tasks[k].name);
        for (int n = 0; n < NETWORKS; n++) {
            if (o.cell && strcmp(o.cell, networks[n].name)) continue;
            for (int64_t i = 0; i < (int64_t)o.seeds; i++) {
                run r = {.o = &o, .task = &tasks[k], .network = &networks[n], .seed = (uint64_t)((int64_t)o.seed + i)};
                if (!carry_out(t, &r)) return 1;
                print_run(&r);
            }
        }
    }
    tl_tape_free(t);
    return 0;
}
