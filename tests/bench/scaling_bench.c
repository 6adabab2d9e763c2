/* scaling_bench.c - a time step costs the same, however many there are.
 *
 *     scaling_bench --most 1000000 --reps 5
 *
 * An Elman network with 4 units and one sequence is recorded for T = 10^3, 10^4, 10^5 and 10^6 steps,
 * all T of them on one tape, and walked back. Nothing recurses, so the stack need not grow with T: this
 * program limits its own to 1 MiB before it begins, where a million nested calls would not fit.
 *
 * One JSON object a T. Times are medians over `reps` samples of at least 20 ms; ratio_to_first compares
 * a sample's time per step with that of the first T, which was taken just before. bytes_per_step is the
 * peak of what the tape has in use, and held_bytes_per_step of what it has obtained from the system,
 * bookkeeping included, on a fresh tape.
 */
#include <tapeloop/tapeloop.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { HIDDEN = 4, INPUT = 4, FIRST = 1000, MOST_LENGTHS = 6, STACK_KIB = 1024 };

typedef struct lap {
    double record, backward; /* seconds */
} lap;

typedef struct model {
    tl_params *params;
    tl_rnn rnn;
} model;

static void give_up(const char *why)
{
    fprintf(stderr, "scaling_bench: %s\n", why);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return values[count / 2];
}

/* The mean square of all outputs, and the gradients of all parameters. */
static lap train_step(tl_tape *t, model *m, tl_tensor *x)
{
    tl_tape_reset(t);
    tl_zero_gradients(m->params);
    double begin = now();
    tl_var y = tl_unroll(t, &m->rnn, tl_constant(t, x), NULL);
    tl_var loss = tl_mean(t, tl_square(t, y));
    double middle = now();
    if (tl_backward(t, loss) != TL_OK)
        give_up(tl_tape_message(t));
    return (lap){middle - begin, now() - middle};
}

/* One T, with a tape of its own. */
typedef struct sequence {
    int64_t steps;
    tl_tensor *x;
    tl_tape *tape;
    tl_tape_usage usage;               /* of the first train step on the tape */
    int inner;                         /* train steps of a sample */
    double *record, *backward, *ratio; /* [reps] microseconds of a time step; relative to the first T */
} sequence;

static void sequence_init(sequence *s, model *m, int64_t steps, int reps)
{
    tl_random random = tl_random_seed(1);
    *s = (sequence){.steps = steps,
                    .x = tl_tensor_empty(TL_F32, TL_SHAPE(steps, 1, INPUT), NULL),
                    .tape = tl_tape_new(NULL),
                    .record = calloc(3 * (size_t)reps, sizeof(double))};
    if (!s->x || !s->tape || !s->record || tl_random_normal(&random, s->x, 0, 1) != TL_OK)
        give_up("out of memory");
    s->backward = s->record + reps;
    s->ratio = s->backward + reps;
    train_step(s->tape, m, s->x);
    s->usage = tl_tape_measure(s->tape);
    train_step(s->tape, m, s->x); /* warm-up ends */
    lap once = train_step(s->tape, m, s->x);
    s->inner = (int)ceil(0.02 / (once.record + once.backward));
}

static void sequence_free(sequence *s)
{
    tl_tape_free(s->tape);
    tl_tensor_release(s->x);
    free(s->record);
}

static void sample(sequence *s, model *m, const sequence *first, int rep)
{
    double scale = 1e6 / ((double)s->steps * s->inner);
    for (int i = 0; i < s->inner; i++) {
        lap one = train_step(s->tape, m, s->x);
        s->record[rep] += one.record * scale;
        s->backward[rep] += one.backward * scale;
    }
    s->ratio[rep] = (s->record[rep] + s->backward[rep]) / (first->record[rep] + first->backward[rep]);
}

static void print(sequence *s, int reps)
{
    double record = median(s->record, reps), backward = median(s->backward, reps),
           steps = (double)s->steps;
    printf("{\"bench\": \"scaling\", \"T\": %lld, \"H\": %d, \"B\": 1, \"reps\": %d, \"stack_kib\": %d",
           (long long)s->steps, HIDDEN, reps, STACK_KIB);
    printf(
        ", \"us_per_step\": %.4f, \"us_record\": %.4f, \"us_backward\": %.4f, \"ratio_to_first\": %.3f",
        record + backward, record, backward, median(s->ratio, reps));
    printf(", \"variables_per_step\": %.2f, \"bytes_per_step\": %.1f, \"held_bytes_per_step\": %.1f",
           s->usage.variables / steps, (double)s->usage.peak / steps, (double)s->usage.held / steps);
    printf(", \"version\": \"%s\"}\n", TL_VERSION);
}

/* One T after another, and all of them again: what slows the machine for a while slows all. */
static void run(model *m, int64_t most, int reps)
{
    sequence all[MOST_LENGTHS];
    int count = 0;
    for (int64_t steps = FIRST; steps <= most && count < MOST_LENGTHS; steps *= 10)
        sequence_init(&all[count++], m, steps, reps);
    for (int rep = 0; rep < reps; rep++)
        for (int k = 0; k < count; k++)
            sample(&all[k], m, &all[0], rep);
    for (int k = 0; k < count; k++) {
        print(&all[k], reps);
        sequence_free(&all[k]);
    }
}

static void limit_stack(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) == 0) {
        limit.rlim_cur = (rlim_t)STACK_KIB * 1024;
        if (setrlimit(RLIMIT_STACK, &limit) == 0)
            return;
    }
    give_up("the stack cannot be limited");
}

static void usage(FILE *stream)
{
    fprintf(stream,
            "usage: scaling_bench [--most T] [--reps R]\n"
            "Time per step of a recurrent network for T = 1000, 10000, ... up to --most (1000000).\n");
}

static int64_t positive(const char *option, const char *text)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < 1 || value > 100000000) {
        fprintf(stderr, "scaling_bench: %s wants a number of at least 1, not '%s'\n", option, text);
        usage(stderr);
        exit(2);
    }
    return value;
}

typedef struct options {
    int64_t most;
    int reps;
} options;

static options parse(int argc, char **argv)
{
    options o = {1000000, 5};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            usage(stdout);
            exit(0);
        } else if (!strcmp(argv[i], "--most")) {
            o.most = positive(argv[i++], value);
        } else if (!strcmp(argv[i], "--reps")) {
            o.reps = (int)positive(argv[i++], value);
        } else {
            fprintf(stderr, "scaling_bench: unknown option: %s\n", argv[i]);
            usage(stderr);
            exit(2);
        }
    }
    return o;
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    limit_stack();
    model m = {.params = tl_params_new(TL_F32, 1)};
    if (!m.params)
        give_up("out of memory");
    tl_rnn_init(
        &m.rnn, m.params,
        &(tl_rnn_config){.cell = &tl_elman_cell, .input = INPUT, .hidden = HIDDEN, .layers = 1});
    if (tl_params_status(m.params) != TL_OK)
        give_up(m.params->error.message);
    run(&m, o.most, o.reps);
    tl_rnn_free(&m.rnn);
    tl_params_free(m.params);
    return 0;
}
