/* bptt.c - the loop around tl_backward that is truncated BPTT.
 *
 *        reaches           from      to
 *           |               |         |
 *     ------|---------------|---------|          pass p, its window [reaches,to)
 *               |               |         |
 *     ----------|---------------|---------|      pass p+1, k1 steps later
 *
 * Recomputed: the tape is restarted with the states at the next window's beginning, from which the
 * whole window is recorded again. Kept: stretches stay on the tape, one after the other, joined by
 * gates, ops that change nothing, at which the graph is cut (tl_stop_edge) once the window has moved
 * on:
 *
 *     [stretch] --gate-- [stretch] --gate-- [stretch] --gate-- [new stretch] --> losses
 *                          cut here
 */
#include "nn/bptt.h"

#include <stdarg.h>
#include <string.h>

#include "autograd/ops.h"
#include "tensor/arena.h"

typedef struct window {
    int64_t reaches, from, to;
} window;

/* k1, k2 and the number of steps, brought in order. */
typedef struct plan {
    int64_t k1, k2, steps;
} plan;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static plan plan_of(const tl_bptt *b, int64_t steps)
{
    plan p = {.k1 = b->k1 > 0 ? least(b->k1, steps) : steps, .steps = steps};
    p.k2 = least(b->k2 > 0 ? b->k2 : p.k1, steps);
    return p;
}

/* The pass whose new steps begin at `from`; at the end an empty one. */
static window window_at(const plan *p, int64_t from)
{
    window w = {.from = from, .to = least(from + p->k1, p->steps)};
    if (from >= p->steps)
        w.reaches = from;
    else if (p->k2 == p->steps)
        w.reaches = 0;
    else if (p->k2 >= p->k1)
        w.reaches = most(0, from + p->k1 - p->k2);
    else
        w.reaches = most(from, w.to - p->k2);
    return w;
}

/* Why it cannot be done; NULL: it can. */
static const char *refusal(const tl_bptt *b, int64_t steps)
{
    if (b->k1 < 0)
        return "k1, the steps between updates, is negative; 0 means all of them";
    if (b->k2 < 0)
        return "k2, the steps that gradients go back, is negative; 0 means k1, TL_ALL_STEPS all of "
               "them";
    if (steps < 0)
        return "the number of steps is negative";
    if (b->old == TL_OLD_KEPT && b->update && !b->params)
        return "old activations that are kept belong to the weights that made them: `params` must say "
               "what `update` changes, so that the tape can keep copies; or take TL_OLD_RECOMPUTED";
    return NULL;
}

/* ---- a run ------------------------------------------------------------------------------ */

/* A piece of the kept graph that was recorded in one go. */
typedef struct stretch {
    int64_t from, to;
    tl_var *entry; /* [states] */
    bool gated;    /* entry are gates; otherwise constants, or the run's initial states */
    tl_var loss;
    tl_random random;    /* before it was recorded */
    tl_tensor **weights; /* [params->count], the ones it was recorded with; NULL: those of always */
} stretch;

typedef struct run {
    tl_tape *t;
    const tl_bptt *b;
    plan p;
    window w;
    int states;
    tl_var *state;   /* while a pass is recorded: those of the step that was recorded last */
    tl_var *carried; /* [states]: those with which the next window begins; and as many again to work */
    tl_bptt_pass pass;
    tl_bptt_report report;
    bool restarted; /* there has been a cut */
    bool go_on;     /* says update */
    stretch *kept;  /* TL_OLD_KEPT: oldest first */
    int count, capacity;
    int64_t base; /* first step on the tape */
} run;

static bool good(const run *r)
{
    return tl_tape_status(r->t) == TL_OK;
}

static size_t states_size(const run *r)
{
    return (size_t)r->states * sizeof *r->state;
}

/* Adds the driver's words to an error of the tape. */
TL_PRINTF(2, 3) static void explain_error(run *r, const char *format, ...)
{
    char text[TL_MESSAGE_SIZE], more[TL_MESSAGE_SIZE];
    tl_status status = tl_tape_status(r->t);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(more, sizeof more, format, arguments);
    va_end(arguments);
    snprintf(text, sizeof text, "%s", tl_tape_message(r->t));
    tl_tape_reset(r->t);
    tl_tape_fail(r->t, status, "%s; bptt: %s", text, more);
}

/* What a record that failed may have wanted from beyond a cut. */
static void explain_stale(run *r, int64_t from, int64_t to)
{
    if (tl_tape_status(r->t) == TL_ERR_STALE && (r->restarted || r->w.reaches > r->w.from))
        explain_error(
            r,
            "steps [%lld,%lld) were being recorded, and there is a cut before step %lld: of "
            "earlier steps only the states are left. A loss that needs more of them must carry "
            "it as a state, compute it anew within the window, or have a larger k2",
            (long long)from, (long long)to, (long long)r->w.reaches);
    else if (tl_tape_status(r->t) == TL_ERR_CHANGED && r->count)
        explain_error(r, "old activations are kept, with the weights that made them: change weights in "
                         "`update` only, and name them all in `params`; or take TL_OLD_RECOMPUTED");
}

static tl_var record(run *r, int64_t from, int64_t to)
{
    tl_var loss = r->b->record(r->t, r->b->model, from, to, r->state);
    if (!good(r))
        explain_stale(r, from, to);
    return loss;
}

static tl_var add(run *r, tl_var sum, tl_var loss)
{
    return tl_is_none(sum) ? loss : tl_is_none(loss) ? sum : tl_add(r->t, sum, loss);
}

/* Restarts the tape with these states; at step 0 some may not be given. */
static void restart(run *r, const tl_var *from, bool first)
{
    tl_var *keep = r->carried + r->states;
    int count = 0;
    for (int k = 0; k < r->states; k++)
        if (!first || !tl_is_none(from[k]))
            keep[count++] = from[k];
    if (tl_tape_restart(r->t, count, keep) != TL_OK)
        return;
    for (int k = 0, next = 0; k < r->states; k++)
        r->state[k] = first && tl_is_none(from[k]) ? TL_NONE : keep[next++];
    r->restarted = true;
}

/* ---- the walk and the update ------------------------------------------------------------- */

static bool copy_weights(run *r)
{
    for (int i = 0; i < r->b->params->count; i++) {
        tl_param *p = r->b->params->entry[i];
        tl_tensor *copy = p->frozen ? NULL : tl_tensor_copy(p->value, p->value->dtype, NULL);
        if (p->frozen)
            continue;
        if (!copy) {
            tl_tape_fail(r->t, TL_ERR_MEMORY, "bptt: out of memory for a copy of parameter %s",
                         p->name);
            return false;
        }
        tl_tensor_release(p->value);
        p->value = copy;
    }
    return true;
}

/* injected: what to walk back from; fresh: the losses of the new steps, or part of `injected`. */
static void walk_back(run *r, tl_var injected, tl_var fresh)
{
    if (tl_is_none(injected) || !good(r))
        return;
    if (r->count ? tl_backward_retain(r->t, injected) : tl_backward(r->t, injected))
        return;
    r->pass.injected = tl_item(r->t, injected);
    if (!tl_is_none(fresh))
        r->pass.loss += fresh.id == injected.id ? r->pass.injected : tl_item(r->t, fresh);
    if (r->count && r->b->update && !copy_weights(r))
        return;
    r->go_on = !r->b->update || r->b->update(r->b->model, &r->pass);
}

static void begin_pass(run *r, int64_t from)
{
    r->w = window_at(&r->p, from);
    r->pass = (tl_bptt_pass){
        .index = r->report.passes, .from = r->w.from, .to = r->w.to, .reaches = r->w.reaches};
}

/* ---- nothing older, or recorded anew ----------------------------------------------------- */

/* Steps that are only run through: off the record. */
static void run_forward(run *r, int64_t from, int64_t to)
{
    tl_no_record_begin(r->t);
    tl_var loss = record(r, from, to);
    if (good(r) && !tl_is_none(loss))
        r->pass.loss += tl_item(r->t, loss);
    if (good(r)) /* otherwise the tape may have been reset, and the region with it */
        tl_no_record_end(r->t, r->states, r->state);
}

/* Where the stretch that begins at `at` ends: losses change their meaning at `from`, and with the
 * states at `carry` the next window begins. */
static int64_t end_of_part(const window *w, int64_t at, int64_t carry)
{
    int64_t end = w->to;
    const int64_t marks[] = {w->reaches, w->from, carry};
    for (int k = 0; k < 3; k++)
        if (marks[k] > at)
            end = least(end, marks[k]);
    return end;
}

static void recorded_anew(run *r)
{
    const window *w = &r->w;
    int64_t carry = least(window_at(&r->p, w->to).reaches, w->to), end;
    tl_var fresh = TL_NONE, old = TL_NONE;
    for (int64_t at = least(w->reaches, w->from); at < w->to && good(r); at = end) {
        end = end_of_part(w, at, carry);
        if (at == carry)
            memcpy(r->carried, r->state, states_size(r));
        if (at < w->reaches) {
            run_forward(r, at, end);
            continue;
        }
        tl_var loss = record(r, at, end);
        if (at >= w->from)
            fresh = add(r, fresh, loss);
        else if (r->b->losses == TL_LOSSES_WINDOW)
            old = add(r, old, loss);
    }
    walk_back(r, add(r, old, fresh), fresh);
    bool last = w->to == r->p.steps || !r->go_on;
    if (good(r))
        restart(r, last || carry == w->to ? r->state : r->carried, !last && carry == 0);
}

/* ---- kept ------------------------------------------------------------------------------- */

/* Between two stretches. */
typedef struct boundary {
    const run *r;
    int64_t step;
} boundary;

/* The state before a gate has a gradient: is that on this side of the cut? */
static tl_var refuse_gradient(tl_tape *t, tl_var v, tl_var gradient, void *context)
{
    (void)v;
    (void)gradient;
    const boundary *b = context;
    const window *w = &b->r->w;
    if (b->step <= w->reaches)
        tl_tape_fail(t, TL_ERR_STALE,
                     "bptt: a loss of steps [%lld,%lld) reaches across the cut before step %lld, by a "
                     "variable of "
                     "an earlier stretch: only the states that `record` is handed connect stretches. "
                     "Carry it as "
                     "a state, compute it anew within the window, or take a larger k2",
                     (long long)w->from, (long long)w->to, (long long)w->reaches);
    return TL_NONE;
}

/* Passes the states through gates. */
static void gate(run *r, stretch *s)
{
    for (int k = 0; k < r->states && good(r) && s->from > r->base; k++) {
        if (tl_is_none(r->state[k]) || !tl_needs_gradient(r->t, r->state[k]))
            continue;
        boundary *b = tl_scratch(r->t, sizeof *b);
        const tl_layout *shape = tl_value(r->t, r->state[k]).layout;
        if (!b || !shape)
            return;
        *b = (boundary){r, s->from};
        tl_hook_gradient(r->t, r->state[k], refuse_gradient, b);
        r->state[k] = tl_reshape(r->t, r->state[k], shape->ndim, shape->shape);
    }
    s->gated = s->from > r->base;
    s->entry = tl_scratch(r->t, states_size(r) + 1);
    if (s->entry && r->states)
        memcpy(s->entry, r->state, states_size(r));
}

static void forget(run *r, stretch *s)
{
    for (int i = 0; s->weights && i < r->b->params->count; i++)
        tl_tensor_release(s->weights[i]);
    tl_system_give(s->weights);
    s->weights = NULL;
}

static bool remember_weights(run *r, stretch *s)
{
    const tl_params *params = r->b->params;
    if (!r->b->update)
        return true;
    s->weights = tl_system_get((size_t)params->count * sizeof(tl_tensor *) + 1);
    for (int i = 0; s->weights && i < params->count; i++)
        s->weights[i] = tl_tensor_retain(params->entry[i]->value);
    return s->weights != NULL;
}

static void swap_weights(run *r, stretch *s)
{
    for (int i = 0; s->weights && i < r->b->params->count; i++) {
        tl_tensor *value = r->b->params->entry[i]->value;
        r->b->params->entry[i]->value = s->weights[i];
        s->weights[i] = value;
    }
}

static bool make_room(run *r)
{
    if (r->count < r->capacity)
        return true;
    int capacity = r->capacity ? 2 * r->capacity : 8;
    stretch *larger = tl_system_get((size_t)capacity * sizeof *larger);
    if (!larger)
        return false;
    if (r->count)
        memcpy(larger, r->kept, (size_t)r->count * sizeof *larger);
    tl_system_give(r->kept);
    r->kept = larger;
    r->capacity = capacity;
    return true;
}

static void record_kept(run *r, int64_t from, int64_t to)
{
    stretch *s = make_room(r) ? &r->kept[r->count] : NULL;
    if (s)
        *s = (stretch){.from = from, .to = to, .random = *tl_tape_random(r->t)};
    if (!s || !remember_weights(r, s)) {
        tl_tape_fail(r->t, TL_ERR_MEMORY, "bptt: out of memory for what is kept of steps [%lld,%lld)",
                     (long long)from, (long long)to);
        return;
    }
    r->count++;
    gate(r, s);
    if (good(r))
        s->loss = record(r, from, to);
}

/* No gradient passes into what is older than the window. */
static void cut(run *r)
{
    for (int i = 0; i < r->count; i++)
        for (int k = 0; k < r->states && r->kept[i].from == r->w.reaches && r->kept[i].gated; k++)
            if (tl_needs_gradient(r->t, r->kept[i].entry[k]))
                tl_stop_edge(r->t, r->kept[i].entry[k], 0);
}

static void forget_before(run *r, int64_t step)
{
    int gone = 0;
    while (gone < r->count && r->kept[gone].from < step)
        forget(r, &r->kept[gone++]);
    r->count -= gone;
    if (gone && r->count)
        memmove(r->kept, r->kept + gone, (size_t)r->count * sizeof *r->kept);
}

/* The same stretches on a fresh tape, from the state with which the oldest of them begins. */
static void record_again(run *r)
{
    tl_random now = *tl_tape_random(r->t);
    restart(r, r->kept[0].entry, false);
    r->base = r->kept[0].from;
    for (int i = 0; i < r->count && good(r); i++) {
        stretch *s = &r->kept[i];
        swap_weights(r, s);
        *tl_tape_random(r->t) = s->random;
        gate(r, s);
        if (good(r))
            s->loss = record(r, s->from, s->to);
        swap_weights(r, s);
    }
    *tl_tape_random(r->t) = now;
}

static void recorded_once(run *r)
{
    int64_t rest = r->p.k2 == r->p.steps ? 0 : r->p.k2 % r->p.k1;
    int64_t middle = r->w.from + r->p.k1 - rest; /* a later window begins here */
    if (rest && middle < r->w.to) {
        record_kept(r, r->w.from, middle);
        if (good(r))
            record_kept(r, middle, r->w.to);
    } else {
        record_kept(r, r->w.from, r->w.to);
    }
    if (good(r))
        cut(r);
    tl_var fresh = TL_NONE, old = TL_NONE;
    for (int i = 0; i < r->count && good(r); i++)
        if (r->kept[i].from >= r->w.from)
            fresh = add(r, fresh, r->kept[i].loss);
        else if (r->b->losses == TL_LOSSES_WINDOW && r->kept[i].from >= r->w.reaches)
            old = add(r, old, r->kept[i].loss);
    walk_back(r, add(r, old, fresh), fresh);
    if (!good(r))
        return;
    if (r->w.to == r->p.steps || !r->go_on) {
        restart(r, r->state, false);
        return;
    }
    forget_before(r, window_at(&r->p, r->w.to).reaches);
    if ((r->w.to - r->base) / 2 >= r->p.k2)
        record_again(r);
}

/* ---- the whole -------------------------------------------------------------------------- */

static void finish_report(run *r)
{
    tl_bptt_report *o = &r->report;
    if (!good(r) && !r->pass.to) {
        o->end = TL_BPTT_FAILED;
        snprintf(o->why, sizeof o->why, "%s", tl_tape_message(r->t));
    } else if (!good(r)) {
        o->end = TL_BPTT_FAILED;
        snprintf(o->why, sizeof o->why, "an error in pass %lld, steps [%lld,%lld): %.400s",
                 (long long)r->pass.index, (long long)r->pass.from, (long long)r->pass.to,
                 tl_tape_message(r->t));
    } else if (!r->go_on) {
        o->end = TL_BPTT_STOPPED;
        snprintf(o->why, sizeof o->why, "update returned false after step %lld of %lld, in pass %lld",
                 (long long)o->steps, (long long)r->p.steps, (long long)r->pass.index);
    } else {
        o->end = TL_BPTT_DONE;
        snprintf(o->why, sizeof o->why, "all %lld steps are done, in %lld passes", (long long)o->steps,
                 (long long)o->passes);
    }
}

static void run_passes(run *r)
{
    bool keeps = r->b->old == TL_OLD_KEPT && r->p.k2 > r->p.k1;
    for (int64_t from = 0; from < r->p.steps && r->go_on; from = r->w.to) {
        begin_pass(r, from);
        if (keeps)
            recorded_once(r);
        else
            recorded_anew(r);
        if (!good(r))
            return;
        r->report.steps = r->w.to;
        r->report.passes++;
        r->report.loss += r->pass.loss;
    }
}

tl_status tl_bptt_run(tl_tape *t, const tl_bptt *b, int64_t steps, int states, tl_var *state)
{
    run r = {.t = t, .b = b, .states = states, .state = state, .go_on = true};
    const char *reason = b->record ? refusal(b, steps) : "record is NULL";
    if (reason)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "bptt: %s", reason);
    else
        r.p = plan_of(b, steps);
    r.carried = tl_system_get(2 * states_size(&r) + 1);
    if (!r.carried)
        tl_tape_fail(t, TL_ERR_MEMORY, "bptt: out of memory for %d states", states);
    if (good(&r))
        run_passes(&r);
    finish_report(&r);
    for (int i = 0; i < r.count; i++)
        forget(&r, &r.kept[i]);
    tl_system_give(r.kept);
    tl_system_give(r.carried);
    if (b->report)
        *b->report = r.report;
    return tl_tape_status(t);
}

/* ---- the picture ------------------------------------------------------------------------ */

enum { SHOWN = 64 };

static void print_name(const tl_bptt *b, const plan *p, FILE *f)
{
    long long k1 = (long long)p->k1, k2 = (long long)p->k2, n = (long long)p->steps;
    if (p->k1 == p->steps && p->k2 == p->steps) {
        fprintf(f, "full BPTT, TBPTT(n,n): one pass over all %lld steps\n", n);
        return;
    }
    if (p->k1 == 1 && p->k2 == p->steps)
        fprintf(f, "TBPTT(1,n), real-time BPTT");
    else
        fprintf(f, "TBPTT(%lld,%lld)", k1, k2);
    if (b->losses == TL_LOSSES_NEWEST && p->k1 == 1)
        fprintf(f, ", BPTT(%lld)", k2);
    else if (b->losses == TL_LOSSES_NEWEST && p->k1 <= p->k2)
        fprintf(f, ", BPTT(%lld;%lld)", k2, k1);
    fprintf(f, ": of %lld steps, %lld from update to update, gradients back through %lld\n", n, k1, k2);
    fprintf(f, "each pass injects %s\n",
            b->losses == TL_LOSSES_WINDOW ? "all losses of its window" : "the newest losses only");
    if (p->k2 > p->k1)
        fprintf(f, "older steps are %s\n",
                b->old == TL_OLD_KEPT ? "kept, with the weights that made them"
                                      : "recorded again, with the weights of the day");
}

/* A step in the picture of a pass: '.', forward only; '-', walked back through; 'o', loss injected,
 * too. */
static char sign_of(const tl_bptt *b, const window *w, int64_t step)
{
    if (step >= w->to || step < least(w->reaches, w->from))
        return ' ';
    if (step < w->reaches)
        return '.';
    return step >= w->from || b->losses == TL_LOSSES_WINDOW ? 'o' : '-';
}

/* How many passes bring the loss of step `loss` to step `step`; a loss < 0: any. At most 10. */
static int visits(const tl_bptt *b, const plan *p, int64_t loss, int64_t step)
{
    int count = 0;
    for (int64_t from = 0; from < p->steps && count < 10; from += p->k1) {
        window w = window_at(p, from);
        if (w.reaches > step)
            break;
        bool injected = loss < 0 || sign_of(b, &w, loss) == 'o';
        count += injected && step < w.to && (loss < 0 || step <= loss);
    }
    return count;
}

static char digit(int count)
{
    return (char)(count == 0 ? '.' : count > 9 ? '+' : '0' + count);
}

static void print_line(const char *text, int64_t number, const char *line, FILE *f)
{
    int length = (int)strlen(line);
    while (length && line[length - 1] == ' ')
        length--;
    if (number < 0)
        fprintf(f, "  %-10s %.*s\n", text, length, line);
    else
        fprintf(f, "  %-5s%5lld %.*s\n", text, (long long)number, length, line);
}

static void print_passes(const tl_bptt *b, const plan *p, int64_t shown, FILE *f)
{
    char line[SHOWN + 1] = "";
    for (int64_t i = 0; i < shown; i++)
        line[i] = (char)('0' + i % 10);
    fprintf(f, "\n");
    print_line("step", -1, line, f);
    for (int64_t from = 0, pass = 0; from < p->steps; from += p->k1, pass++) {
        window w = window_at(p, from);
        if (least(w.reaches, w.from) >= shown || from >= shown)
            break;
        for (int64_t i = 0; i < shown; i++)
            line[i] = sign_of(b, &w, i);
        print_line("pass", pass, line, f);
    }
    for (int64_t i = 0; i < shown; i++)
        line[i] = digit(visits(b, p, -1, i));
    print_line("visits", -1, line, f);
    fprintf(f, "  o loss injected, and walked back through; - walked back through; . forward only\n");
}

static void print_reach(const tl_bptt *b, const plan *p, int64_t shown, FILE *f)
{
    fprintf(f, "\n  the loss of a step reaches these, so many times (+: more than 9):\n");
    for (int64_t loss = 0; loss < shown; loss++) {
        char line[SHOWN + 1] = "";
        for (int64_t i = 0; i <= loss; i++)
            line[i] = digit(visits(b, p, loss, i));
        print_line("loss", loss, line, f);
    }
}

tl_status tl_bptt_explain(const tl_bptt *b, int64_t steps, FILE *f)
{
    const char *reason = refusal(b, steps);
    if (reason) {
        fprintf(f, "bptt: %s\n", reason);
        return TL_ERR_ARGUMENT;
    }
    plan p = plan_of(b, steps);
    int64_t shown = least(steps, SHOWN);
    print_name(b, &p, f);
    if (shown)
        print_passes(b, &p, shown, f);
    if (shown)
        print_reach(b, &p, shown, f);
    if (shown < steps)
        fprintf(f, "  (the first %lld of %lld steps)\n", (long long)shown, (long long)steps);
    return fflush(f) || ferror(f) ? TL_ERR_IO : TL_OK;
}
