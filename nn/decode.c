/* decode.c - the loop around a model's step, and three ways to choose.
 *
 *     tokens ---> step ---> logits ---> log softmax, in double, off the tape ---> choice
 *        ^                                                                          |
 *        +---------------- tokens, and the rows they go on from <-------------------+
 *
 * Greedy and sampling have N rows, one for each sequence. A beam has N = rows W: those of one row are
 * side by side, and each goes on from one of them, its parent. */
#include "nn/decode.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/ops.h"
#include "tensor/arena.h"

enum {
    RESTART = 16, /* steps between restarts of the tape: what is laid out once serves so many */
    MOST_VARIABLES = 256
};

typedef struct decoding {
    tl_tape *t;
    const tl_decode_model *m;
    const tl_decode_task *task;
    int64_t rows, width, words; /* words: V, 0 until the first logits are seen */
    int64_t *token, *parent;    /* [N]: what is read next, and whose states go with it */
    bool *over;                 /* [N]: its logits do not matter */
    bool reorder;               /* parent is not 0, 1, 2, .. */
    double *log_p;              /* [N,V] of the last step */
} decoding;

static bool good(const decoding *d)
{
    return tl_tape_status(d->t) == TL_OK;
}

static void *get(decoding *d, int64_t count, size_t size)
{
    void *room = tl_system_get((size_t)count * size);
    if (!room)
        tl_tape_fail(d->t, TL_ERR_MEMORY, "decode: out of memory");
    return room;
}

/* ---- the result ------------------------------------------------------------------------- */

void tl_decoded_free(tl_decoded *decoded)
{
    tl_system_give(decoded->token);
    tl_system_give(decoded->log_p);
    tl_system_give(decoded->length);
    tl_system_give(decoded->total);
    tl_system_give(decoded->score);
    *decoded = (tl_decoded){0};
}

static void make_result(decoding *d, tl_decoded *out)
{
    int64_t sequences = d->rows * d->width, numbers = sequences * d->task->steps;
    *out = (tl_decoded){.rows = d->rows, .width = d->width, .steps = d->task->steps};
    out->token = get(d, numbers, sizeof *out->token);
    out->log_p = get(d, numbers, sizeof *out->log_p);
    out->length = get(d, sequences, sizeof *out->length);
    out->total = get(d, sequences, sizeof *out->total);
    out->score = get(d, sequences, sizeof *out->score);
    for (int64_t i = 0; good(d) && i < numbers; i++) {
        out->token[i] = -1;
        out->log_p[i] = 0;
    }
    for (int64_t i = 0; good(d) && i < sequences; i++) {
        out->length[i] = 0;
        out->total[i] = out->score[i] = -(double)INFINITY;
    }
}

/* ---- beginning and end ------------------------------------------------------------------ */

static bool task_fits(decoding *d)
{
    const tl_decode_model *m = d->m;
    const tl_decode_task *task = d->task;
    if (!m->step || m->states < 0 || m->constants < 0 || m->states > MOST_VARIABLES ||
        m->constants > MOST_VARIABLES - m->states || (m->states + m->constants > 0 && !m->state))
        tl_tape_fail(d->t, TL_ERR_ARGUMENT,
                     "decode: a model wants a step and at most %d variables, not %d states and %d "
                     "constants",
                     MOST_VARIABLES, m->states, m->constants);
    else if (task->rows > 0 && task->steps > 0 && d->width > 0 &&
             d->width > INT64_MAX / 64 / task->rows / task->steps)
        tl_tape_fail(d->t, TL_ERR_MEMORY, "decode: out of memory");
    else if (task->rows < 1 || task->steps < 1 || !task->first || task->end < -1)
        tl_tape_fail(d->t, TL_ERR_ARGUMENT,
                     "decode: rows %lld and steps %lld must be at least 1, end %lld a token or -1%s",
                     (long long)task->rows, (long long)task->steps, (long long)task->end,
                     task->first ? "" : ", and first is NULL");
    return good(d);
}

static bool begin(decoding *d, tl_decoded *out)
{
    *out = (tl_decoded){0};
    if (!good(d) || !task_fits(d))
        return false;
    int64_t n = d->rows * d->width;
    d->token = get(d, n, sizeof *d->token);
    d->parent = get(d, n, sizeof *d->parent);
    d->over = get(d, n, sizeof *d->over);
    make_result(d, out);
    for (int64_t i = 0; good(d) && i < n; i++) {
        d->token[i] = d->task->first[i / d->width];
        d->parent[i] = i / d->width; /* a beam's are repeated at first */
        d->over[i] = false;
    }
    d->reorder = d->width > 1;
    return good(d);
}

/* The variables that there are, in a row; their places in `at`. */
static int present(const decoding *d, tl_var *list, int *at)
{
    int count = 0;
    for (int k = 0; k < d->m->states + d->m->constants; k++)
        if (!tl_is_none(d->m->state[k])) {
            at[count] = k;
            list[count++] = d->m->state[k];
        }
    return count;
}

static void restart(decoding *d)
{
    tl_var list[MOST_VARIABLES];
    int at[MOST_VARIABLES], count = present(d, list, at);
    if (good(d) && tl_tape_restart(d->t, count, list) == TL_OK)
        for (int k = 0; k < count; k++)
            d->m->state[at[k]] = list[k];
}

static tl_status finish(decoding *d, tl_decoded *out)
{
    tl_system_give(d->token);
    tl_system_give(d->parent);
    tl_system_give(d->over);
    tl_system_give(d->log_p);
    restart(d);
    if (!good(d))
        tl_decoded_free(out);
    return tl_tape_status(d->t);
}

/* ---- one step of the model -------------------------------------------------------------- */

static double largest_of(int64_t count, const double *x)
{
    double largest = -(double)INFINITY;
    for (int64_t i = 0; i < count; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}

/* Neither NaN nor +inf, and something that is possible. A text if not, with the token in question. */
static const char *refuse(int64_t words, const double *logits, int64_t *token)
{
    for (*token = 0; *token < words; ++*token)
        if (isnan(logits[*token]) || logits[*token] == (double)INFINITY)
            return isnan(logits[*token]) ? "NaN" : "+inf";
    *token = 0;
    return largest_of(words, logits) == -(double)INFINITY ? "-inf, as that of all others" : NULL;
}

/* x - log sum exp x, in place */
static void log_softmax(int64_t count, double *x)
{
    double largest = largest_of(count, x), sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += exp(x[i] - largest);
    double norm = largest + log(sum);
    for (int64_t i = 0; i < count; i++)
        x[i] -= norm;
}

static bool logits_fit(decoding *d, tl_array y)
{
    char text[TL_LAYOUT_TEXT];
    int64_t n = d->rows * d->width;
    const tl_layout *l = y.layout;
    if (!l)
        return false;
    if (!tl_dtype_is_real(y.dtype) || l->ndim != 2 || l->shape[0] != n || l->shape[1] < 1 ||
        (d->words && l->shape[1] != d->words))
        tl_tape_fail(d->t, TL_ERR_SHAPE,
                     "decode: wants logits [%lld,V] of a real dtype, the same V each time, not %s %s",
                     (long long)n, tl_dtype_name(y.dtype), tl_layout_text(l, text));
    else if (d->task->end >= l->shape[1])
        tl_tape_fail(d->t, TL_ERR_INDEX, "decode: the end token %lld is not one of the %lld words",
                     (long long)d->task->end, (long long)l->shape[1]);
    else if (d->width > l->shape[1])
        tl_tape_fail(d->t, TL_ERR_ARGUMENT, "decode: a beam of %lld is wider than the vocabulary, %lld",
                     (long long)d->width, (long long)l->shape[1]);
    return good(d);
}

/* Log-probabilities of all rows that are not over. */
static void read_logits(decoding *d, tl_var logits)
{
    tl_array y = tl_value(d->t, logits);
    if (!logits_fit(d, y))
        return;
    tl_tensor view = {.data = y.data, .layout = *y.layout, .dtype = y.dtype};
    d->words = y.layout->shape[1];
    if (!d->log_p && !(d->log_p = get(d, view.layout.count, sizeof *d->log_p)))
        return;
    for (int64_t i = 0; i < view.layout.count; i++)
        d->log_p[i] = tl_tensor_get(&view, i);
    for (int64_t n = 0; n < d->rows * d->width; n++) {
        int64_t token;
        const char *what = d->over[n] ? NULL : refuse(d->words, d->log_p + n * d->words, &token);
        if (what) {
            tl_tape_fail(d->t, TL_ERR_NOT_FINITE, "decode: the logit of token %lld, row %lld, is %s",
                         (long long)token, (long long)(n / d->width), what);
            return;
        }
        if (!d->over[n])
            log_softmax(d->words, d->log_p + n * d->words);
    }
}

/* Rows go on from their parents' states; at first also the constants are repeated. */
static void reorder(decoding *d, int64_t step)
{
    int64_t n = d->rows * d->width;
    tl_var parent = tl_constant_from(d->t, TL_I64, 1, &n, d->parent);
    int count = d->m->states + (step ? 0 : d->m->constants);
    for (int k = 0; k < count; k++)
        if (!tl_is_none(d->m->state[k]))
            d->m->state[k] = tl_index_select(d->t, d->m->state[k], 0, parent);
}

static bool advance(decoding *d, int64_t step)
{
    tl_var keep[MOST_VARIABLES];
    int at[MOST_VARIABLES];
    int64_t n = d->rows * d->width;
    if (step && step % RESTART == 0)
        restart(d);
    if (!good(d))
        return false;
    tl_no_record_begin(d->t);
    tl_scope_begin(d->t, "decode", step);
    if (d->reorder)
        reorder(d, step);
    tl_var tokens = tl_constant_from(d->t, TL_I64, 1, &n, d->token);
    read_logits(d, d->m->step(d->t, d->m->context, step, tokens, d->m->state));
    tl_scope_end(d->t);
    int count = present(d, keep, at);
    tl_no_record_end(d->t, count, keep);
    return good(d);
}

/* ---- greedy, and by chance -------------------------------------------------------------- */

typedef struct ranked {
    double p;
    int64_t token;
} ranked;

static int by_rank(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->p != y->p)
        return x->p < y->p ? 1 : -1;
    return x->token < y->token ? -1 : x->token > y->token;
}

static int64_t likeliest(int64_t words, const double *log_p)
{
    int64_t best = 0;
    for (int64_t i = 1; i < words; i++)
        if (log_p[i] > log_p[best])
            best = i;
    return best;
}

static bool sampling_fits(const tl_sampling *s, tl_error *error)
{
    if (!(s->temperature > 0 && s->temperature < (double)INFINITY))
        tl_fail(error, TL_ERR_ARGUMENT,
                "sampling: the temperature must be greater than 0 and finite, not %g", s->temperature);
    else if (s->top_k < 1)
        tl_fail(error, TL_ERR_ARGUMENT, "sampling: top_k must be at least 1, not %lld",
                (long long)s->top_k);
    else if (!(s->top_p > 0 && s->top_p <= 1))
        tl_fail(error, TL_ERR_ARGUMENT, "sampling: top_p must lie in (0, 1], not %g", s->top_p);
    else
        return true;
    return false;
}

/* Zero for all but the k likeliest, and of these all but the nucleus. room: [words]. */
static void cut(const tl_sampling *s, int64_t words, double *p, ranked *room)
{
    double kept = 0, share = 0;
    int64_t count = 0, most = s->top_k < words ? s->top_k : words;
    for (int64_t i = 0; i < words; i++)
        room[i] = (ranked){p[i], i};
    qsort(room, (size_t)words, sizeof *room, by_rank);
    for (int64_t i = 0; i < most; i++)
        kept += room[i].p;
    while (count < most && (s->top_p == 1 || share < s->top_p * kept))
        share += room[count++].p;
    for (int64_t i = count; i < words; i++)
        p[room[i].token] = 0;
}

/* p may be the logits. */
static void weigh(const tl_sampling *s, int64_t words, const double *logits, double *p, ranked *room)
{
    double largest = largest_of(words, logits), sum = 0;
    for (int64_t i = 0; i < words; i++)
        p[i] = exp((logits[i] - largest) / s->temperature);
    if (s->top_k < words || s->top_p < 1)
        cut(s, words, p, room);
    for (int64_t i = 0; i < words; i++)
        sum += p[i];
    for (int64_t i = 0; i < words; i++)
        p[i] /= sum;
}

tl_status tl_sampling_probabilities(const tl_sampling *sampling, int64_t words, const double *logits,
                                    double *p, tl_error *error)
{
    int64_t token;
    if (!sampling_fits(sampling, error))
        return TL_ERR_ARGUMENT;
    if (words < 1)
        return tl_fail(error, TL_ERR_ARGUMENT, "sampling: there are no words");
    const char *what = refuse(words, logits, &token);
    if (what)
        return tl_fail(error, TL_ERR_NOT_FINITE, "sampling: the logit of token %lld is %s",
                       (long long)token, what);
    ranked *room = tl_system_get((size_t)words * sizeof *room);
    if (!room)
        return tl_fail(error, TL_ERR_MEMORY, "sampling: out of memory");
    weigh(sampling, words, logits, p, room);
    tl_system_give(room);
    return TL_OK;
}

int64_t tl_draw(int64_t words, const double *p, double u)
{
    int64_t last = 0;
    double sum = 0;
    for (int64_t i = 0; i < words; i++)
        sum += p[i];
    double left = u * sum;
    for (int64_t i = 0; i < words; i++) {
        if (p[i] > 0 && left < p[i])
            return i;
        left -= p[i];
        last = p[i] > 0 ? i : last;
    }
    return last; /* rounding */
}

/* Row n goes on with a token. */
static void append(decoding *d, tl_decoded *out, int64_t n, int64_t token, int64_t step)
{
    double log_p = d->log_p[n * d->words + token];
    out->token[n * out->steps + step] = token;
    out->log_p[n * out->steps + step] = log_p;
    out->total[n] = step ? out->total[n] + log_p : log_p;
    out->score[n] = out->total[n];
    out->length[n] = step + 1;
    d->token[n] = token;
    d->over[n] = token == d->task->end;
}

/* One token for each row; false: all are over. NULL sampling: the likeliest ones. */
static bool choose(decoding *d, tl_decoded *out, const tl_sampling *s, int64_t step, double *p,
                   ranked *room)
{
    bool going_on = false;
    for (int64_t n = 0; n < d->rows; n++) {
        const double *log_p = d->log_p + n * d->words;
        double u = s ? tl_random_unit(tl_tape_random(d->t)) : 0; /* whether it is over or not */
        if (d->over[n])
            continue;
        if (s)
            weigh(s, d->words, log_p, p, room);
        append(d, out, n, s ? tl_draw(d->words, p, u) : likeliest(d->words, log_p), step);
        going_on = going_on || !d->over[n];
    }
    return going_on;
}

static tl_status one_by_one(tl_tape *t, const tl_decode_model *model, const tl_decode_task *task,
                            const tl_sampling *s, tl_decoded *out)
{
    decoding d = {.t = t, .m = model, .task = task, .rows = task->rows, .width = 1};
    double *p = NULL;
    ranked *room = NULL;
    bool going_on = begin(&d, out);
    for (int64_t step = 0; going_on && step < task->steps; step++) {
        going_on = advance(&d, step);
        if (going_on && s && !p) {
            p = get(&d, d.words, sizeof *p);
            room = get(&d, d.words, sizeof *room);
        }
        going_on = good(&d) && choose(&d, out, s, step, p, room);
    }
    tl_system_give(p);
    tl_system_give(room);
    return finish(&d, out);
}

tl_status tl_decode_greedy(tl_tape *t, const tl_decode_model *model, const tl_decode_task *task,
                           tl_decoded *decoded)
{
    return one_by_one(t, model, task, NULL, decoded);
}

tl_status tl_decode_sample(tl_tape *t, const tl_decode_model *model, const tl_decode_task *task,
                           const tl_sampling *sampling, tl_decoded *decoded)
{
    tl_error error = {TL_OK, ""};
    if (!sampling_fits(sampling, &error))
        tl_tape_fail(t, error.status, "%s", error.message);
    return one_by_one(t, model, task, sampling, decoded);
}

/* ---- beam search ------------------------------------------------------------------------ */

/* One way to go on: place w of the beam, then a token. */
typedef struct candidate {
    double total;
    int64_t place, token;
} candidate;

typedef struct beam_search {
    decoding d;
    tl_decoded *out;
    double alpha;
    double *total;           /* [N]: of what is in the beam; -inf: an empty place */
    int64_t *token, *parent; /* [L][N]: what was chosen, and after which place of the step before */
    double *log_p;           /* [L][N] of it */
    candidate *best;         /* [2 W]: the best first */
    int64_t *found;          /* [rows]: results */
} beam_search;

/* Wu et al., equation 14 */
static double length_penalty(double alpha, int64_t length)
{
    return pow((5 + (double)length) / 6, alpha);
}

static bool begin_search(beam_search *s, tl_decoded *out)
{
    s->out = out;
    if (!begin(&s->d, out))
        return false;
    int64_t n = s->d.rows * s->d.width, all = n * s->d.task->steps;
    s->total = get(&s->d, n, sizeof *s->total);
    s->token = get(&s->d, all, sizeof *s->token);
    s->parent = get(&s->d, all, sizeof *s->parent);
    s->log_p = get(&s->d, all, sizeof *s->log_p);
    s->best = get(&s->d, 2 * s->d.width, sizeof *s->best);
    s->found = get(&s->d, s->d.rows, sizeof *s->found);
    for (int64_t i = 0; good(&s->d) && i < n; i++) { /* all places are the same: only one counts */
        s->total[i] = i % s->d.width ? -(double)INFINITY : 0;
        s->d.over[i] = i % s->d.width != 0;
        s->found[i / s->d.width] = 0;
    }
    return good(&s->d);
}

static tl_status finish_search(beam_search *s)
{
    tl_system_give(s->total);
    tl_system_give(s->token);
    tl_system_give(s->parent);
    tl_system_give(s->log_p);
    tl_system_give(s->best);
    tl_system_give(s->found);
    for (int k = 0; good(&s->d) && k < s->d.m->states + s->d.m->constants; k++)
        s->d.m->state[k] = TL_NONE; /* those of a beam go on from no one sequence */
    return finish(&s->d, s->out);
}

/* Writes what ends in place n after `length` tokens, from its last one to its first. */
static void trace_back(const beam_search *s, int64_t n, int64_t length, int64_t *token, double *log_p)
{
    int64_t all = s->d.rows * s->d.width;
    for (int64_t i = length - 1; i >= 0; i--) {
        token[i] = s->token[i * all + n];
        log_p[i] = s->log_p[i * all + n];
        n = s->parent[i * all + n];
    }
}

static void move_result(tl_decoded *out, int64_t from, int64_t to)
{
    size_t steps = (size_t)out->steps;
    memcpy(out->token + to * out->steps, out->token + from * out->steps, steps * sizeof *out->token);
    memcpy(out->log_p + to * out->steps, out->log_p + from * out->steps, steps * sizeof *out->log_p);
    out->length[to] = out->length[from];
    out->total[to] = out->total[from];
    out->score[to] = out->score[from];
}

/* Where among the row's results, the best first, a sequence of that score goes; -1: nowhere. Makes
 * room for it. */
static int64_t place_result(beam_search *s, int64_t row, double score)
{
    tl_decoded *out = s->out;
    int64_t first = row * out->width, last = first + s->found[row];
    if (s->found[row] == out->width && !(score > out->score[last - 1]))
        return -1;
    if (s->found[row] < out->width)
        s->found[row]++;
    else
        last--;
    for (; last > first && score > out->score[last - 1]; last--)
        move_result(out, last - 1, last);
    return last;
}

/* The sequence that goes on from `parent` with a token, or, without one (-1), is in place `parent`. */
static void add_result(beam_search *s, int64_t parent, int64_t token, double total, int64_t length)
{
    tl_decoded *out = s->out;
    double score = total / length_penalty(s->alpha, length);
    int64_t at = place_result(s, parent / s->d.width, score), before = token < 0 ? length : length - 1;
    if (at < 0)
        return;
    int64_t *tokens = out->token + at * out->steps;
    double *log_p = out->log_p + at * out->steps;
    trace_back(s, parent, before, tokens, log_p);
    if (token >= 0) {
        tokens[before] = token;
        log_p[before] = s->d.log_p[parent * s->d.words + token];
    }
    for (int64_t i = length; i < out->steps; i++) {
        tokens[i] = -1;
        log_p[i] = 0;
    }
    out->length[at] = length;
    out->total[at] = total;
    out->score[at] = score;
}

/* The best 2 W ways to go on: as each place can end in one way only, at least W of them do not end. */
static int64_t find_best(beam_search *s, int64_t row)
{
    int64_t W = s->d.width, V = s->d.words, count = 0;
    for (int64_t i = 0; i < W * V; i++) {
        int64_t n = row * W + i / V, at;
        double total = s->total[n] + (s->d.over[n] ? 0 : s->d.log_p[n * V + i % V]);
        if (total == -(double)INFINITY || (count == 2 * W && !(total > s->best[count - 1].total)))
            continue;
        for (at = count < 2 * W ? count++ : count - 1; at > 0 && total > s->best[at - 1].total; at--)
            s->best[at] = s->best[at - 1];
        s->best[at] = (candidate){total, i / V, i % V};
    }
    return count;
}

/* Place w of the row's beam; NULL: it is empty. */
static void fill_place(beam_search *s, int64_t row, int64_t w, int64_t step, const candidate *c)
{
    decoding *d = &s->d;
    int64_t n = row * d->width + w, at = step * d->rows * d->width + n;
    int64_t parent = row * d->width + (c ? c->place : 0);
    d->over[n] = !c;
    d->parent[n] = s->parent[at] = parent;
    d->token[n] = s->token[at] = c ? c->token : d->task->first[row];
    s->log_p[at] = c ? d->log_p[parent * d->words + c->token] : 0;
    s->total[n] = c ? c->total : -(double)INFINITY;
}

/* Nothing in the beam, whose best is in place 0, can overtake the worst result any more: totals only
 * fall, and the penalty of the longest sequence is the most favourable one. */
static bool is_settled(const beam_search *s, int64_t row)
{
    int64_t W = s->d.width;
    double bound = s->total[row * W] / length_penalty(s->alpha, s->d.task->steps);
    return s->found[row] == W && s->out->score[row * W + W - 1] >= bound;
}

/* One step of a row; false: its search is over. */
static bool search_row(beam_search *s, int64_t row, int64_t step)
{
    int64_t W = s->d.width, count = find_best(s, row), filled = 0;
    for (int64_t i = 0; i < count; i++) {
        const candidate *c = &s->best[i];
        if (c->token != s->d.task->end && filled < W)
            fill_place(s, row, filled++, step, c);
        else if (c->token == s->d.task->end && i < W)
            add_result(s, row * W + c->place, c->token, c->total, step + 1);
    }
    if (filled && is_settled(s, row))
        filled = 0;
    for (int64_t w = filled; w < W; w++)
        fill_place(s, row, w, step, NULL);
    return filled > 0;
}

static bool search_rows(beam_search *s, int64_t step)
{
    bool going_on = false;
    for (int64_t row = 0; row < s->d.rows; row++)
        going_on = search_row(s, row, step) || going_on;
    s->d.reorder = s->d.width > 1;
    return going_on;
}

static void add_unended(beam_search *s)
{
    for (int64_t n = 0; n < s->d.rows * s->d.width; n++)
        if (s->total[n] > -(double)INFINITY)
            add_result(s, n, -1, s->total[n], s->d.task->steps);
}

tl_status tl_decode_beam(tl_tape *t, const tl_decode_model *model, const tl_decode_task *task,
                         const tl_beam *beam, tl_decoded *decoded)
{
    beam_search s = {.alpha = beam->alpha};
    s.d = (decoding){.t = t, .m = model, .task = task, .rows = task->rows, .width = beam->width};
    if (beam->width < 1 || !(beam->alpha >= 0 && beam->alpha < (double)INFINITY))
        tl_tape_fail(t, TL_ERR_ARGUMENT,
                     "decode: the beam's width must be at least 1, alpha at least 0, not %lld and %g",
                     (long long)beam->width, beam->alpha);
    bool going_on = begin_search(&s, decoded);
    for (int64_t step = 0; going_on && step < task->steps; step++)
        going_on = advance(&s.d, step) && search_rows(&s, step);
    if (going_on)
        add_unended(&s);
    return finish_search(&s);
}
