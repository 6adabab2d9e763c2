/* attention.h - which of the encoder's outputs does the decoder look at?
 *
 *     encoder outputs h_1 .. h_T          query q (the decoder's state)
 *           |      |      |                   |
 *        score(q, h_s)  for every s  <--------+
 *           |      |      |
 *         softmax over s            a_s: the weights, which add up to 1
 *           |      |      |
 *         sum of a_s h_s            c: the context
 *
 *     additive    v' tanh(W q + U h)      Bahdanau, Cho and Bengio, ICLR 2015, A.1.2
 *     dot         q' h                    Luong, Pham and Manning, EMNLP 2015, equation 8
 *     general     q' W h                  the same
 *     scaled      q' h / sqrt Q           Vaswani et al., NeurIPS 2017
 *
 * What does not depend on q (U h, or W h) is computed once for all queries: that is the memory.
 *
 *     tl_attention_memory m = tl_attention_begin(t, &attention, h, lengths);      h: [T,B,P]
 *     tl_var c = tl_attend(t, &attention, &m, q, &weights);                       q: [B,Q]
 *
 * Letters: T time of the encoder, B batch, P size of its outputs, Q of a query, A of the additive
 * score's hidden layer. */
#ifndef TL_ATTENTION_H
#define TL_ATTENTION_H

#include "linear.h"

typedef enum tl_attention_kind {
    TL_ATTEND_ADDITIVE,
    TL_ATTEND_DOT,     /* wants Q = P */
    TL_ATTEND_GENERAL, /* W: [Q,P] */
    TL_ATTEND_SCALED   /* wants Q = P */
} tl_attention_kind;

typedef struct tl_attention_config {
    tl_attention_kind kind;
    int64_t query, key; /* Q, P >= 1 */
    int64_t size;       /* A, for additive scores; 0: Q */
    const char *prefix; /* of parameter names; NULL: "attention." */
} tl_attention_config;

typedef struct tl_attention {
    tl_attention_config config;
    tl_linear_layer query; /* W of additive scores: [A,Q] */
    tl_linear_layer key;   /* U: [A,P]; W of general ones: [Q,P] */
    tl_linear_layer score; /* v': [1,A] */
} tl_attention;

/* Parameters prefix + "query.weight", "key.weight", "score.weight", those that the kind has; no biases,
 * as in the papers. There is nothing to free. Failures: params->error. */
TL_API void tl_attention_init(tl_attention *attention, tl_params *params,
                              const tl_attention_config *config);

/* What is looked at. All have the batch first, so that rows can be repeated and reordered (decode.h).
 */
typedef struct tl_attention_memory {
    tl_var keys;    /* [B,T,A], [B,T,Q] or [B,T,P]: what a query is compared with */
    tl_var values;  /* [B,T,P] */
    tl_var padding; /* u8 [B,T], 1 where a row is over; TL_NONE: nowhere */
} tl_attention_memory;

/* outputs: [T,B,P]. lengths: [B], each 0..T; NULL: all are T. What stands beyond the length (NaN, say)
 * reaches neither values nor gradients. The memory is good until the tape is reset. */
TL_API tl_attention_memory tl_attention_begin(tl_tape *t, const tl_attention *attention, tl_var outputs,
                                              const int64_t *lengths);

/* q: [..,B,Q], one query for each row, or as many as there are leading sizes. Returns the contexts
 * [..,B,P]; the weights, [..,B,T], go to `weights` unless it is NULL. Padding has a weight of exactly
 * 0; a row of length 0 has only such weights and a context of zeros. */
TL_API tl_var tl_attend(tl_tape *t, const tl_attention *attention, const tl_attention_memory *memory,
                        tl_var q, tl_var *weights);

#endif
