/* linear.h - y = x W' + b, and rows of a table.  Letters: I input, O output, N words, E embedding. */
#ifndef TL_LINEAR_H
#define TL_LINEAR_H

#include "param.h"

typedef struct tl_linear_layer {
    tl_param *weight; /* [O,I] */
    tl_param *bias;   /* [O], or NULL */
} tl_linear_layer;

/* Parameters prefix + "weight", "bias"; uniform in +-1/sqrt(I), as in PyTorch. Failures: params->error.
 */
TL_API void tl_linear_init(tl_linear_layer *layer, tl_params *params, const char *prefix,
                           int64_t inputs, int64_t outputs, bool bias);
TL_API tl_var tl_linear(tl_tape *t, tl_var x, const tl_linear_layer *layer); /* x: [..,I], y: [..,O] */

typedef struct tl_embedding_layer {
    tl_param *weight; /* [N,E] */
} tl_embedding_layer;

/* Parameter prefix + "weight", standard normal, as in PyTorch. */
TL_API void tl_embedding_init(tl_embedding_layer *layer, tl_params *params, const char *prefix,
                              int64_t words, int64_t size);
/* index: i64 of any shape, 0..N-1; y: [index.shape, E] */
TL_API tl_var tl_embedding(tl_tape *t, tl_var index, const tl_embedding_layer *layer);

/* An output layer, E to N, whose weight is the embedding's table: one parameter, stored once, whose
 * gradient is the sum over both uses. Only prefix + "bias" is new, if wanted, zeros at first. Press and
 * Wolf, EACL 2017. */
TL_API void tl_linear_tie(tl_linear_layer *layer, tl_params *params, const char *prefix,
                          const tl_embedding_layer *embedding, bool bias);

#endif
