/* reverse_words.c - an encoder-decoder with attention learns to write words backwards.
 *
 *     t  a  p  e                          e  p  a  t  .       the letters it writes
 *     |  |  |  |                          |  |  |  |  |
 *     h->h->h->h --- the last state --->  s->s->s->s->s
 *     |  |  |  |                          ^  ^  ^  ^  ^
 *     +--+--+--+--- attention: which h? --+--+--+--+--+
 *
 * The encoder reads a word and leaves an output for every letter. The decoder starts from the encoder's
 * last state and writes one letter after the other; before each it looks at all outputs, weighs them,
 * and reads their mean beside the letter it wrote last. Nobody tells it where to look. While it learns,
 * the letter it wrote last is the right one (teacher forcing), and now and then its own (scheduled
 * sampling), so that a mistake does not throw it off later.
 *
 * Then it gets new words and writes alone: greedily, the likeliest letter each time, and with a beam,
 * which keeps four beginnings and so can take back a bad one. At last the weights of the attention are
 * printed as a picture, a row for each letter written, a column for each letter read: what it has found
 * out by itself is the diagonal that runs the wrong way.
 *
 *     reverse_words [updates [hidden]]         400 and 32 unless given
 *
 * Ends with 1 if fewer than nine of ten new words come out right. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tapeloop/tapeloop.h>

enum {
    LETTERS = 10, /* a..j; token 0 is the end, and what the decoder starts from */
    V = LETTERS + 1,
    SHORTEST = 3,
    LONGEST = 5,
    L = LONGEST + 1, /* the letters and the end */
    B = 48,
    EMBEDDING = 12,
    NEW = 100 /* words to judge by */
};

/* Some words, padded with token 0, as the encoder reads and as the decoder is to write them. */
typedef struct words {
    int64_t count, length[NEW];
    int64_t source[LONGEST * NEW]; /* [T,B] */
    int64_t input[L * NEW];        /* [L,B]: the end, then the target one step late */
    int64_t target[L * NEW];       /* [L,B]: backwards, then the end; -1: nothing */
} words;

typedef struct model {
    tl_params *params;
    tl_embedding_layer letters;
    tl_rnn encoder;
    tl_decoder decoder;
} model;

/* ---- words ------------------------------------------------------------------------------ */

static void draw_words(words *w, int64_t count, tl_random *random)
{
    *w = (words){.count = count};
    for (int64_t b = 0; b < count; b++) {
        int64_t n = SHORTEST + tl_random_below(random, LONGEST - SHORTEST + 1);
        w->length[b] = n;
        for (int64_t i = 0; i < n; i++)
            w->source[i * count + b] = 1 + tl_random_below(random, LETTERS);
        for (int64_t i = 0; i < L; i++)
            w->target[i * count + b] = i < n ? w->source[(n - 1 - i) * count + b] : i == n ? 0 : -1;
        for (int64_t i = 1; i < L; i++)
            w->input[i * count + b] = i <= n ? w->target[(i - 1) * count + b] : 0;
    }
}

static char letter(int64_t token)
{
    return token > 0 ? (char)('a' + token - 1) : '.';
}

/* ---- the model -------------------------------------------------------------------------- */

static bool build(model *m, int64_t hidden)
{
    m->params = tl_params_new(TL_F32, 1);
    if (!m->params)
        return false;
    tl_embedding_init(&m->letters, m->params, "letters.", V, EMBEDDING);
    tl_rnn_config gru = {.cell = &tl_gru_cell, .input = EMBEDDING, .hidden = hidden, .layers = 1};
    tl_rnn_init(&m->encoder, m->params, &gru);
    tl_decoder_init(&m->decoder, m->params,
                    &(tl_decoder_config){.rnn = gru,
                                         .words = V,
                                         .size = EMBEDDING,
                                         .attend = true,
                                         .attention = {.kind = TL_ATTEND_ADDITIVE, .key = hidden}});
    if (tl_params_status(m->params) != TL_OK)
        fprintf(stderr, "%s\n", m->params->error.message);
    return tl_params_status(m->params) == TL_OK;
}

/* What the decoder looks at; the encoder's last state is the decoder's first one. */
static tl_attention_memory encode(tl_tape *t, const model *m, const words *w, tl_var *state)
{
    tl_var x = tl_constant_from(t, TL_I64, TL_SHAPE(LONGEST, w->count), w->source);
    state[0] = TL_NONE;
    tl_var h = tl_unroll_with(t, &m->encoder, tl_embedding(t, x, &m->letters), state,
                              &(tl_unroll_options){.lengths = w->length});
    return tl_attention_begin(t, &m->decoder.attention, h, w->length);
}

/* ---- learning --------------------------------------------------------------------------- */

static bool learn(tl_tape *t, model *m, int64_t updates, tl_random *random)
{
    static words w;
    tl_optimizer *adam =
        tl_optimizer_new(m->params, &(tl_optimizer_config){.kind = TL_ADAM, .rate = 0.01});
    for (int64_t i = 0; adam && i < updates && tl_tape_status(t) == TL_OK; i++) {
        tl_var state[1];
        draw_words(&w, B, random);
        tl_attention_memory memory = encode(t, m, &w, state);
        tl_var input = tl_constant_from(t, TL_I64, TL_SHAPE(L, B), w.input);
        tl_var target = tl_constant_from(t, TL_I64, TL_SHAPE(L, B), w.target);
        tl_decoder_options options = {.own = tl_own_linear((double)i, 0.25 / (double)updates, 0.25)};
        tl_var logits = tl_decoder_run(t, &m->decoder, input, state, &memory, &options);
        tl_var loss = tl_cross_entropy_with(
            t, logits, target, &(tl_cross_entropy_options){.ignore = true, .ignore_index = -1});
        if (tl_backward(t, loss) != TL_OK)
            break;
        if (i % (updates / 8 ? updates / 8 : 1) == 0)
            printf("update %4lld   loss %.3f nats a letter\n", (long long)i, tl_item(t, loss));
        tl_clip_gradient_norm(m->params, 1);
        tl_optimizer_step(adam);
        tl_zero_gradients(m->params);
        tl_tape_reset(t);
    }
    tl_optimizer_free(adam);
    return adam && tl_tape_status(t) == TL_OK;
}

/* ---- writing ---------------------------------------------------------------------------- */

/* Everything that was on the tape is gone afterwards. beam: NULL is greedy. */
static bool write_backwards(tl_tape *t, const model *m, const words *w, const tl_beam *beam,
                            tl_decoded *out)
{
    static const int64_t ends[NEW]; /* token 0 */
    tl_var state[4];                /* the network's one, and the memory's three */
    tl_tape_reset(t);
    tl_attention_memory memory = encode(t, m, w, state);
    tl_decode_model model = tl_decoder_model(&m->decoder, state, &memory);
    tl_decode_task task = {.rows = w->count, .first = ends, .steps = L, .end = 0};
    return (beam ? tl_decode_beam(t, &model, &task, beam, out)
                 : tl_decode_greedy(t, &model, &task, out)) == TL_OK;
}

static bool is_right(const words *w, const tl_decoded *out, int64_t b)
{
    for (int64_t i = 0; i < L; i++)
        if (out->token[b * out->width * L + i] != w->target[i * w->count + b])
            return false;
    return true;
}

static void print_word(const words *w, const tl_decoded *greedy, const tl_decoded *beam, int64_t b)
{
    char source[L + 1] = "", one[L + 1] = "", best[L + 1] = "";
    for (int64_t i = 0; i < w->length[b]; i++)
        source[i] = letter(w->source[i * w->count + b]);
    for (int64_t i = 0; i < greedy->length[b]; i++)
        one[i] = letter(greedy->token[b * L + i]);
    for (int64_t i = 0; i < beam->length[b * beam->width]; i++)
        best[i] = letter(beam->token[b * beam->width * L + i]);
    printf("  %-8s %-9s log p %6.2f    %-9s log p %6.2f  %s\n", source, one, greedy->total[b], best,
           beam->total[b * beam->width], is_right(w, greedy, b) ? "" : "  wrong");
}

/* The weights for word b, when the decoder writes what is right. */
static bool print_attention(tl_tape *t, const model *m, const words *w, int64_t b)
{
    static const char shade[] = " .:-=+*#%@";
    tl_var state[1], weights;
    tl_tape_reset(t);
    tl_attention_memory memory = encode(t, m, w, state);
    tl_var input = tl_constant_from(t, TL_I64, TL_SHAPE(L, w->count), w->input);
    tl_decoder_run(t, &m->decoder, input, state, &memory, &(tl_decoder_options){.weights = &weights});
    tl_tensor *a = tl_value_copy(t, weights); /* [L,B,T] */
    if (!a)
        return false;
    printf("\nWhere it looks: a row for each letter written, a column for each one read\n\n    ");
    for (int64_t s = 0; s < w->length[b]; s++)
        printf(" %c ", letter(w->source[s * w->count + b]));
    for (int64_t i = 0; i <= w->length[b]; i++) {
        printf("\n  %c ", letter(w->target[i * w->count + b]));
        for (int64_t s = 0; s < w->length[b]; s++) {
            double x = tl_tensor_get(a, (i * w->count + b) * LONGEST + s);
            char c = shade[(int)(x * 9.999)];
            printf("%c%c%c", c, c, c);
        }
    }
    printf("\n\n");
    tl_tensor_release(a);
    return true;
}

/* Share of the new words that come out right; < 0 after an error. */
static double judge(tl_tape *t, const model *m, tl_random *random)
{
    static words w;
    tl_decoded greedy = {0}, beam = {0};
    int64_t right = 0, longest = 0;
    draw_words(&w, NEW, random);
    bool fine = write_backwards(t, m, &w, NULL, &greedy) &&
                write_backwards(t, m, &w, &(tl_beam){.width = 4}, &beam);
    if (fine)
        printf("\n  word     greedy                     beam of 4\n");
    for (int64_t b = 0; fine && b < NEW; b++) {
        right += is_right(&w, &greedy, b);
        longest = w.length[b] > w.length[longest] ? b : longest;
        if (b < 6)
            print_word(&w, &greedy, &beam, b);
    }
    tl_decoded_free(&greedy);
    tl_decoded_free(&beam);
    fine = fine && print_attention(t, m, &w, longest);
    return fine ? (double)right / NEW : -1;
}

int main(int argc, char **argv)
{
    int64_t updates = argc > 1 ? atoll(argv[1]) : 400, hidden = argc > 2 ? atoll(argv[2]) : 32;
    model m = {0};
    tl_tape *t = tl_tape_new(&(tl_tape_config){.seed = 2});
    tl_random random = tl_random_seed(3);
    double share = -1;
    if (t && build(&m, hidden) && learn(t, &m, updates, &random))
        share = judge(t, &m, &random);
    if (share < 0)
        fprintf(stderr, "%s\n",
                t && *tl_tape_message(t) ? tl_tape_message(t) : "it could not be built");
    else
        printf("%s%.0f of 100 new words come out right.\n", share < 0.9 ? "FAILED: only " : "",
               100 * share);
    tl_tape_free(t);
    tl_decoder_free(&m.decoder);
    tl_rnn_free(&m.encoder);
    tl_params_free(m.params);
    return share < 0.9;
}
