/* decode.h - from a model of the next token to sequences: greedy, sampled, beam search.
 *
 * Any model will do that says what may come next:
 *
 *     tl_var step(tl_tape *t, void *context, int64_t step, tl_var tokens, tl_var *state)
 *                                            tokens: i64 [N] -> logits [N,V]
 *
 *     token -> step -> logits -> a token is chosen -> step -> logits -> ... until the end token
 *                |                                     ^
 *                +------------- states ----------------+
 *
 *     tl_var state[2] = {TL_NONE, TL_NONE};
 *     tl_decode_model model = {.step = my_step, .context = &my_model, .states = 2, .state = state};
 *     tl_decode_task task = {.rows = 1, .first = &start, .steps = 50, .end = 0};
 *     tl_decoded text;
 *     if (tl_decode_beam(t, &model, &task, &(tl_beam){.width = 5, .alpha = 0.6}, &text) == TL_OK)
 *         print(text.length[0], text.token);
 *     tl_decoded_free(&text);
 *
 * Nothing is recorded, and memory does not grow with the number of steps: the tape is restarted every
 * few steps and at the end. Its other variables are gone then, so that what a step needs beside its
 * parameters goes into `state`, where it is carried along.
 *
 * Letters: N rows that are decoded side by side, V words, W width of the beam, L most steps. */
#ifndef TL_DECODE_H
#define TL_DECODE_H

#include "../autograd/tape.h"

typedef struct tl_decode_model {
    /* step: 0..L-1. state: replaced by the next ones, all but the constants. Returns logits [N,V] of
     * any real dtype, -inf for what is impossible. */
    tl_var (*step)(tl_tape *t, void *context, int64_t step, tl_var tokens, tl_var *state);
    void *context;
    int states;    /* that steps change, [N,..] each */
    int constants; /* after them, also [N,..]: what steps only read, an encoder's outputs, say */
    /* [states + constants], the first ones, or TL_NONE where the step knows what to begin with. On
     * return the last ones, constants of the restarted tape, to go on from; TL_NONE after a beam
     * search. For a beam all are repeated, and the changing ones reordered, along their first
     * dimension. */
    tl_var *state;
} tl_decode_model;

typedef struct tl_decode_task {
    int64_t rows;         /* >= 1 sequences */
    const int64_t *first; /* [rows]: what the first step reads; no part of the result */
    int64_t steps;        /* L >= 1 */
    int64_t end;          /* the token that ends a sequence; -1: none does, all have L tokens */
} tl_decode_task;

/* The caller's, to be freed; all zeros after an error. */
typedef struct tl_decoded {
    int64_t rows, width, steps; /* width: sequences a row, the best first; 1 but for beams */
    int64_t *token;             /* [rows][width][L]: the end token included, -1 beyond it */
    double *log_p;              /* [rows][width][L]: log softmax(logits)[token], 0 beyond the end */
    int64_t *length;            /* [rows][width]; 0: there is no such sequence */
    double *total; /* [rows][width]: log-probability of the sequence; -inf if there is none */
    double *score; /* [rows][width]: total / length penalty; what a beam is ordered by */
} tl_decoded;

TL_API void tl_decoded_free(tl_decoded *decoded); /* all zeros is fine */

/* ---- greedy, and by chance -------------------------------------------------------------- */

/* At each step the likeliest token; of equals the first. Errors are the tape's: no step, NaN or +inf
 * among the logits of a row that is not over, nothing but -inf, sizes that do not fit. */
TL_API tl_status tl_decode_greedy(tl_tape *t, const tl_decode_model *model, const tl_decode_task *task,
                                  tl_decoded *decoded);

/* First the temperature, then the k likeliest of it, then of these the fewest likeliest whose share is
 * at least p (the nucleus: Holtzman et al., ICLR 2020). Of equals the first ones are kept. */
typedef struct tl_sampling {
    double temperature; /* > 0: softmax(logits / temperature) */
    int64_t top_k;      /* >= 1; V and more: all */
    double top_p;       /* 0 < p <= 1 */
} tl_sampling;

/* The model as it is: tl_sampling s = TL_SAMPLING_ALL; s.top_p = 0.9; */
#define TL_SAMPLING_ALL                                                                                \
    {                                                                                                  \
        .temperature = 1, .top_k = INT64_MAX, .top_p = 1                                               \
    }

/* Draws from tl_tape_random, one number for each row and step. log_p is that of the model, without
 * temperature and cuts. TL_ERR_ARGUMENT: sampling is not as above. */
TL_API tl_status tl_decode_sample(tl_tape *t, const tl_decode_model *model, const tl_decode_task *task,
                                  const tl_sampling *sampling, tl_decoded *decoded);

/* Without a tape: the probabilities that are drawn from, p: [words], exactly 0 for what is cut off. */
TL_API tl_status tl_sampling_probabilities(const tl_sampling *sampling, int64_t words,
                                           const double *logits, double *p, tl_error *error);
/* ... and a token of these probabilities for a number u of [0, 1). Never one of probability 0. */
TL_API int64_t tl_draw(int64_t words, const double *p, double u);

/* ---- beam search ------------------------------------------------------------------------ */

typedef struct tl_beam {
    int64_t width; /* W, 1..V */
    double alpha;  /* >= 0. Score = total / ((5 + length) / 6)^alpha: Wu et al., arXiv:1609.08144,
                      equation 14; 0: the total */
} tl_beam;

/* Of all sequences that begin with one of the W likeliest beginnings so far, the W likeliest go on,
 * step by step. One that ends among the W likeliest is a result; the search of a row is over when it
 * has W results that no other can overtake, or after L steps, when what has not ended is a result too.
 * Rows do not influence each other. Width 1 with alpha 0 is greedy. */
TL_API tl_status tl_decode_beam(tl_tape *t, const tl_decode_model *model, const tl_decode_task *task,
                                const tl_beam *beam, tl_decoded *decoded);

#endif
