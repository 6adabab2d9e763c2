/* decoder.h - a recurrent network that writes: each token is read back as the next input.
 *
 *     token i-1  --embedding-->  x ---+
 *                                     |
 *     state i-1  --+--attention--> c -+--> rnn --> h --+--> tanh(W_c [h, c]) --> W_o .. + b_o: logits i
 *                  |                  |                |
 *                  +------------------+                +--> state i
 *
 * Without attention there is no c, without a readout layer the logits are W_o [h, c] + b_o. The context
 * is that of the state before the step (Bahdanau, Cho and Bengio, ICLR 2015, A.2); the query is state 0
 * of the last layer. The readout is equation 5 of Luong, Pham and Manning (EMNLP 2015).
 *
 * An encoder needs no type of its own: it is an embedding and a tl_unroll_with, whose outputs go to
 * tl_attention_begin and whose last states may be the decoder's first ones:
 *
 *     tl_var h = tl_unroll_with(t, &encoder, tl_embedding(t, source, &words), state,
 *                               &(tl_unroll_options){.lengths = lengths});
 *     tl_attention_memory m = tl_attention_begin(t, &decoder.attention, h, lengths);
 *     tl_var logits = tl_decoder_run(t, &decoder, inputs, state, &m, NULL);         teacher forcing
 *
 * and then decode.h writes. Letters: L steps of the decoder, T of the encoder, B batch, V words, E
 * embedding, H output of the network, P size of the encoder's outputs, F readout. */
#ifndef TL_DECODER_H
#define TL_DECODER_H

#include "attention.h"
#include "decode.h"
#include "unroll.h"

typedef struct tl_decoder_config {
    tl_rnn_config rnn;             /* cell, hidden, layers ...; input and prefix are filled in. Neither
                                      bidirectional nor batch_first */
    int64_t words, size;           /* V, E >= 1 */
    bool attend;                   /* with the two below; else they are not looked at */
    tl_attention_config attention; /* kind, key (P) and size; query and prefix are filled in */
    int64_t readout;               /* F; 0: no such layer */
    bool tied; /* W_o is the embedding's table, which wants E = F (or what stands in its place);
                  see tl_linear_tie */
    const char *prefix; /* of parameter names; NULL: "decoder." */
} tl_decoder_config;

typedef struct tl_decoder {
    tl_decoder_config config;
    tl_embedding_layer embedding; /* prefix + "embedding.weight" */
    tl_rnn rnn;                   /* prefix + "rnn." .. */
    tl_attention attention;       /* prefix + "attention." .. */
    tl_linear_layer readout;      /* prefix + "readout.weight", "readout.bias" */
    tl_linear_layer output;       /* prefix + "output.weight", "output.bias" */
} tl_decoder;

/* Failures: params->error. */
TL_API void tl_decoder_init(tl_decoder *decoder, tl_params *params, const tl_decoder_config *config);
TL_API void tl_decoder_free(tl_decoder *decoder);

typedef struct tl_decoder_options {
    bool training; /* the network's dropout: see tl_unroll_options. With attention, or own > 0, masks
                      that hold for all steps are drawn anew for each */
    /* Scheduled sampling (Bengio et al., NIPS 2015): from the second step on every row reads, with this
     * probability (0..1), what the model itself says rather than what it is given: the likeliest token,
     * or, with `draw`, one drawn so. No derivative passes through the choice. The random numbers are
     * tl_tape_random's, so that a seed settles it. */
    double own;
    const tl_sampling *draw;
    tl_var *weights; /* the attention's, [L,B,T], or TL_NONE where there is none; NULL: not
 wanted */
} tl_decoder_options;

/* One step. token: i64 [B]; state: tl_rnn_states of decoder->rnn, as for tl_unroll; memory: NULL
 * without attention. Returns logits [B,V]; the attention's weights [B,T] go to `weights` unless it is
 * NULL. */
TL_API tl_var tl_decoder_step(tl_tape *t, const tl_decoder *decoder, tl_var token, tl_var *state,
                              const tl_attention_memory *memory, tl_var *weights);

/* tokens: i64 [L,B], the inputs: a token to begin with, then the targets, one step late. Returns the
 * logits [L,B,V] of what comes next. NULL state: as for tl_unroll; NULL options: zeros, which is
 * teacher forcing. */
TL_API tl_var tl_decoder_run(tl_tape *t, const tl_decoder *decoder, tl_var tokens, tl_var *state,
                             const tl_attention_memory *memory, const tl_decoder_options *options);

/* The decoder as a model that decode.h can decode. state: room for tl_rnn_states of decoder->rnn, which
 * are there, and 3 more, which are filled with the memory (TL_NONE without attention). The decoder must
 * outlive the model; afterwards the tape has been restarted, and the memory is gone. */
TL_API tl_decode_model tl_decoder_model(const tl_decoder *decoder, tl_var *state,
                                        const tl_attention_memory *memory);

/* How `own` may grow with the number i of updates: 1 - epsilon_i of the paper's section 2.4. */
TL_API double tl_own_linear(double i, double slope, double most); /* min(most, slope i) */
TL_API double tl_own_exponential(double i, double k);             /* 1 - k^i, 0 < k < 1 */
TL_API double tl_own_inverse_sigmoid(double i, double k);         /* 1 - k / (k + exp(i/k)), k >= 1 */

#endif
