/* decoder.c - one step of the decoder, and many of them; see the drawing in decoder.h. */
#include "nn/decoder.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/ops.h"

/* ---- parameters ------------------------------------------------------------------------- */

static bool config_fits(tl_params *params, const tl_decoder_config *c)
{
    if (c->words < 1 || c->size < 1 || c->readout < 0)
        tl_fail(&params->error, TL_ERR_ARGUMENT,
                "decoder: words %lld and size %lld must be at least 1, readout %lld at least 0",
                (long long)c->words, (long long)c->size, (long long)c->readout);
    else if (c->rnn.bidirectional || c->rnn.batch_first)
        tl_fail(&params->error, TL_ERR_ARGUMENT,
                "decoder: a network that writes is neither bidirectional nor batch_first");
    return tl_params_status(params) == TL_OK;
}

static const char *join(char text[128], const tl_decoder_config *c, const char *name)
{
    snprintf(text, 128, "%s%s", c->prefix ? c->prefix : "decoder.", name);
    return text;
}

static void add_rnn(tl_decoder *d, tl_params *params)
{
    char prefix[128];
    tl_rnn_config c = d->config.rnn;
    c.input = d->config.size + (d->config.attend ? d->config.attention.key : 0);
    c.prefix = join(prefix, &d->config, "rnn.");
    tl_rnn_init(&d->rnn, params, &c);
    d->rnn.config.prefix = NULL; /* it was needed for the names only */
}

static void add_attention(tl_decoder *d, tl_params *params)
{
    char prefix[128];
    tl_attention_config c = d->config.attention;
    c.query = tl_rnn_output(&d->rnn);
    c.prefix = join(prefix, &d->config, "attention.");
    tl_attention_init(&d->attention, params, &c);
    d->attention.config.prefix = NULL;
}

static void add_output(tl_decoder *d, tl_params *params)
{
    char prefix[128];
    const tl_decoder_config *c = &d->config;
    int64_t features = tl_rnn_output(&d->rnn) + (c->attend ? c->attention.key : 0);
    if (c->readout)
        tl_linear_init(&d->readout, params, join(prefix, c, "readout."), features, c->readout, true);
    features = c->readout ? c->readout : features;
    join(prefix, c, "output.");
    if (!c->tied)
        tl_linear_init(&d->output, params, prefix, features, c->words, true);
    else if (features == c->size)
        tl_linear_tie(&d->output, params, prefix, &d->embedding, true);
    else
        tl_fail(&params->error, TL_ERR_SHAPE,
                "decoder: the embedding's size %lld is not that of what the output reads, %lld: it "
                "cannot be tied",
                (long long)c->size, (long long)features);
}

void tl_decoder_init(tl_decoder *decoder, tl_params *params, const tl_decoder_config *config)
{
    char prefix[128];
    *decoder = (tl_decoder){.config = *config};
    if (!config_fits(params, config))
        return;
    join(prefix, config, "embedding.");
    tl_embedding_init(&decoder->embedding, params, prefix, config->words, config->size);
    add_rnn(decoder, params);
    if (tl_params_status(params) != TL_OK)
        return;
    if (config->attend)
        add_attention(decoder, params);
    add_output(decoder, params);
}

void tl_decoder_free(tl_decoder *decoder)
{
    tl_rnn_free(&decoder->rnn);
}

/* ---- one step --------------------------------------------------------------------------- */

static bool good(const tl_tape *t)
{
    return tl_tape_status(t) == TL_OK;
}

/* Has the decoder what it attends to? And is it built? */
static bool can_begin(tl_tape *t, const tl_decoder *d, const tl_attention_memory *m)
{
    if (!d->output.weight)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "decoder: it was not built, see tl_params_status");
    else if (d->config.attend && !m)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "decoder: its attention wants a memory, not NULL");
    return good(t);
}

/* The query: state 0 of the last layer; what it is at first, if it is not given. [B,H] */
static tl_var query(tl_tape *t, const tl_decoder *d, int64_t rows, tl_var *state)
{
    int k = tl_rnn_states(&d->rnn) - d->rnn.states;
    int64_t shape[2] = {rows, tl_rnn_output(&d->rnn)};
    if (!tl_is_none(state[k]))
        return state[k];
    const tl_param *learned = d->rnn.initial[k];
    state[k] = learned ? tl_expand(t, tl_use(t, learned), 2, shape)
                       : tl_full(t, d->embedding.weight->value->dtype, 2, shape,
                                 d->rnn.config.cell->initial[0].value);
    return state[k];
}

/* From a token to what the output layer reads; x: [B,E]. */
static tl_var features(tl_tape *t, const tl_decoder *d, tl_var x, tl_var *state,
                       const tl_attention_memory *m, bool training, tl_var *weights)
{
    tl_var c = TL_NONE;
    if (d->config.attend && good(t)) {
        tl_var q = query(t, d, tl_value(t, x).layout->shape[0], state);
        c = tl_attend(t, &d->attention, m, q, weights);
        x = tl_concat(t, 2, (tl_var[]){x, c}, -1);
    }
    tl_unroll_options options = {.training = training};
    tl_var h = tl_unroll_with(t, &d->rnn, tl_unsqueeze(t, x, 0), state, &options);
    h = tl_squeeze(t, h, 0);
    return d->config.attend ? tl_concat(t, 2, (tl_var[]){h, c}, -1) : h;
}

/* [..,H] or [..,H + P] -> [..,V] */
static tl_var logits(tl_tape *t, const tl_decoder *d, tl_var x)
{
    if (d->config.readout)
        x = tl_tanh(t, tl_linear(t, x, &d->readout));
    return tl_linear(t, x, &d->output);
}

static bool tokens_fit(tl_tape *t, tl_var tokens, int ndim, const char *shape)
{
    char text[TL_LAYOUT_TEXT];
    tl_array a = tl_value(t, tokens);
    if (!a.layout)
        return false;
    if (a.dtype == TL_I64 && a.layout->ndim == ndim && a.layout->shape[0] >= 1)
        return true;
    tl_tape_fail(t, TL_ERR_SHAPE, "decoder: wants tokens i64 %s, not %s %s", shape,
                 tl_dtype_name(a.dtype), tl_layout_text(a.layout, text));
    return false;
}

tl_var tl_decoder_step(tl_tape *t, const tl_decoder *decoder, tl_var token, tl_var *state,
                       const tl_attention_memory *memory, tl_var *weights)
{
    if (weights)
        *weights = decoder->config.attend ? tl_poison(t) : TL_NONE;
    if (!can_begin(t, decoder, memory) || !tokens_fit(t, token, 1, "[B]"))
        return tl_poison(t);
    tl_var x = tl_embedding(t, token, &decoder->embedding);
    return logits(t, decoder, features(t, decoder, x, state, memory, false, weights));
}

/* ---- many steps ------------------------------------------------------------------------- */

typedef struct running {
    tl_tape *t;
    const tl_decoder *d;
    const tl_decoder_options *o;
    const tl_attention_memory *m;
    tl_var tokens, *state;
    int64_t steps, rows;      /* L, B */
    tl_var *feature, *logits; /* [L]; logits: where the model reads its own tokens */
    tl_var *weights;          /* [L] */
} running;

/* Of each row a token, drawn by what the model says. i64 [B] */
static tl_var drawn_tokens(running *r, tl_var logits)
{
    tl_tape *t = r->t;
    int64_t words = r->d->config.words;
    tl_error error = {TL_OK, ""};
    int64_t *token = tl_scratch(t, (size_t)r->rows * sizeof *token);
    double *p = tl_scratch(t, 2 * (size_t)words * sizeof *p), *row = p ? p + words : NULL;
    tl_tensor *y = tl_value_copy(t, logits);
    for (int64_t b = 0; token && p && y && b < r->rows && error.status == TL_OK; b++) {
        for (int64_t i = 0; i < words; i++)
            row[i] = tl_tensor_get(y, b * words + i);
        if (tl_sampling_probabilities(r->o->draw, words, row, p, &error) == TL_OK)
            token[b] = tl_draw(words, p, tl_random_unit(tl_tape_random(t)));
    }
    tl_tensor_release(y);
    if (error.status != TL_OK)
        tl_tape_fail(t, error.status, "decoder: %s", error.message);
    return good(t) ? tl_constant_from(t, TL_I64, 1, &r->rows, token) : tl_poison(t);
}

/* What step i > 0 reads: the tokens that are given, or the model's own. */
static tl_var mixed_tokens(running *r, int64_t step)
{
    tl_tape *t = r->t;
    uint8_t *own = tl_scratch(t, (size_t)r->rows);
    for (int64_t b = 0; own && b < r->rows; b++)
        own[b] = tl_random_unit(tl_tape_random(t)) < r->o->own;
    tl_var logits = tl_detach(t, r->logits[step - 1]);
    tl_var said = r->o->draw ? drawn_tokens(r, logits) : tl_argmax(t, logits, -1, false);
    if (!good(t))
        return tl_poison(t);
    return tl_where(t, tl_constant_from(t, TL_U8, 1, &r->rows, own), said,
                    tl_select(t, r->tokens, 0, step));
}

static void run_step(running *r, tl_var embedded, int64_t step)
{
    tl_tape *t = r->t;
    bool own = r->o->own > 0 && step > 0;
    tl_scope_begin(t, "token", step);
    tl_var x = own ? tl_embedding(t, mixed_tokens(r, step), &r->d->embedding)
                   : tl_select(t, embedded, 0, step);
    r->feature[step] =
        features(t, r->d, x, r->state, r->m, r->o->training, r->weights ? &r->weights[step] : NULL);
    if (r->o->own > 0)
        r->logits[step] = logits(t, r->d, r->feature[step]);
    tl_scope_end(t);
}

/* The embedding of all that is given is one lookup; the output layer is one product, unless each step
 * wants to know what the one before it says. */
static tl_var run_steps(running *r)
{
    tl_tape *t = r->t;
    int64_t first = r->o->own > 0 ? 1 : r->steps;
    tl_var embedded = tl_embedding(t, tl_slice(t, r->tokens, 0, 0, first, 1), &r->d->embedding);
    if (!r->d->config.attend && !(r->o->own > 0))
        return logits(t, r->d,
                      tl_unroll_with(t, &r->d->rnn, embedded, r->state,
                                     &(tl_unroll_options){.training = r->o->training}));
    r->feature = tl_scratch(t, (size_t)r->steps * sizeof *r->feature);
    r->logits = tl_scratch(t, (size_t)r->steps * sizeof *r->logits);
    r->weights =
        r->o->weights && r->d->config.attend ? tl_scratch(t, (size_t)r->steps * sizeof(tl_var)) : NULL;
    for (int64_t i = 0; i < r->steps && good(t); i++)
        run_step(r, embedded, i);
    if (!good(t))
        return tl_poison(t);
    if (r->weights)
        *r->o->weights = tl_stack(t, (int)r->steps, r->weights, 0);
    return r->o->own > 0 ? tl_stack(t, (int)r->steps, r->logits, 0)
                         : logits(t, r->d, tl_stack(t, (int)r->steps, r->feature, 0));
}

tl_var tl_decoder_run(tl_tape *t, const tl_decoder *decoder, tl_var tokens, tl_var *state,
                      const tl_attention_memory *memory, const tl_decoder_options *options)
{
    const tl_decoder_options none = {.own = 0};
    running r = {.t = t,
                 .d = decoder,
                 .o = options ? options : &none,
                 .m = memory,
                 .tokens = tokens,
                 .state = state};
    if (r.o->weights)
        *r.o->weights = decoder->config.attend ? tl_poison(t) : TL_NONE;
    if (!can_begin(t, decoder, memory) || !tokens_fit(t, tokens, 2, "[L,B] with L >= 1"))
        return tl_poison(t);
    if (!(r.o->own >= 0 && r.o->own <= 1)) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "decoder: own is a probability, not %g", r.o->own);
        return tl_poison(t);
    }
    size_t states = (size_t)tl_rnn_states(&decoder->rnn);
    if (!state && (r.state = tl_scratch(t, states * sizeof *state)))
        memset(r.state, 0, states * sizeof *state); /* TL_NONE */
    r.steps = tl_value(t, tokens).layout->shape[0];
    r.rows = tl_value(t, tokens).layout->shape[1];
    return r.state ? run_steps(&r) : tl_poison(t);
}

/* ---- as a model to decode ---------------------------------------------------------------- */

static tl_var next_logits(tl_tape *t, void *context, int64_t step, tl_var tokens, tl_var *state)
{
    (void)step;
    const tl_decoder *d = context;
    const tl_var *from = state + tl_rnn_states(&d->rnn);
    tl_attention_memory m = {.keys = from[0], .values = from[1], .padding = from[2]};
    return tl_decoder_step(t, d, tokens, state, d->config.attend ? &m : NULL, NULL);
}

tl_decode_model tl_decoder_model(const tl_decoder *decoder, tl_var *state,
                                 const tl_attention_memory *memory)
{
    int states = tl_rnn_states(&decoder->rnn);
    state[states] = memory ? memory->keys : TL_NONE;
    state[states + 1] = memory ? memory->values : TL_NONE;
    state[states + 2] = memory ? memory->padding : TL_NONE;
    return (tl_decode_model){.step = next_logits,
                             .context = (void *)(uintptr_t)decoder,
                             .states = states,
                             .constants = 3,
                             .state = state};
}

/* ---- schedules -------------------------------------------------------------------------- */

double tl_own_linear(double i, double slope, double most)
{
    return fmin(most, slope * i);
}

double tl_own_exponential(double i, double k)
{
    return 1 - pow(k, i);
}

double tl_own_inverse_sigmoid(double i, double k)
{
    return 1 - k / (k + exp(i / k));
}
