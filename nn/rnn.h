/* rnn.h - a recurrent network: layers and directions of one kind of cell, and what is between them.
 *
 *     tl_rnn lstm;
 *     tl_rnn_init(&lstm, params, &(tl_rnn_config){.cell = &tl_lstm_cell, .input = 64, .hidden = 128,
 * .layers = 2}); tl_var y = tl_unroll(t, &lstm, x, NULL);             x: [T,B,64], y: [T,B,128]
 *     tl_rnn_free(&lstm);
 *
 * Letters: T time, B batch, I input, H hidden, P output of a layer, D directions. */
#ifndef TL_RNN_H
#define TL_RNN_H

#include <stdio.h>

#include "cells.h"

typedef enum tl_rnn_scheme {
    TL_RNN_UNIFORM,    /* all in +-1/sqrt(H): PyTorch's */
    TL_RNN_XAVIER,     /* weights Xavier, biases 0 */
    TL_RNN_ORTHOGONAL, /* recurrent weights orthogonal gate by gate, others Xavier, biases 0 */
    TL_RNN_IDENTITY /* IRNN: recurrent weights the identity, others normal (0.001), biases 0; with relu.
                       Le, Jaitly and Hinton, arXiv:1504.00941 */
} tl_rnn_scheme;

typedef enum tl_connection {
    TL_PLAIN,
    TL_RESIDUAL, /* y = x + f(x), for layers whose input is as wide as their output */
    TL_HIGHWAY   /* y = g f(x) + (1-g) x, g = sigmoid(W x + b), b = -1 at first; the same.
                    Srivastava et al., arXiv:1505.00387 */
} tl_connection;

typedef struct tl_rnn_config {
    const tl_cell_type *cell;
    const void *options;   /* the cell's, copied; NULL: its defaults (all zero) */
    int64_t input, hidden; /* I, H >= 1 */
    int64_t projection;    /* P, for cells that can; 0: none */
    int layers;            /* >= 1 */
    bool bidirectional; /* a second set of weights reads backwards; outputs are [forward | backward] */
    bool reverse;       /* the one direction there is reads backwards, each row from its own end */
    bool no_bias;
    bool composed;    /* cells of primitive ops rather than fused ones: the same numbers to rounding */
    bool sequential;  /* step by step also where the cell could scan */
    bool batch_first; /* x and outputs are [B,T,..] */
    tl_rnn_scheme init;
    const char *prefix; /* of parameter names; NULL: "rnn." */

    /* Between the layers. */
    tl_connection connection;
    bool layer_norm; /* on each layer's outputs, with weight and bias */

    /* All initial states are learned: [P] or what the state's shape is, one for all rows. */
    bool learned_state;

    /* Noise while training: see tl_unroll_options. All are probabilities of dropping, 0: none. */
    double dropout;     /* on the outputs of all layers but the last, a mask for every step */
    double variational; /* on the input of every layer, one mask for all steps; Gal and Ghahramani,
                           NIPS 2016 */
    double
        recurrent_dropout; /* on state 0 as the next step reads it, one mask for all steps; the same */
    double drop_connect;   /* on recurrent weights, one mask for all steps; Merity et al. 2018 */
    double zoneout[TL_MOST_STATES]; /* that state k keeps its old value; when not training, old and new
                                       are mixed in these proportions. Krueger et al., ICLR 2017 */
} tl_rnn_config;

/* What belongs to a layer beside its cells. */
typedef struct tl_rnn_layer {
    tl_param *norm_weight, *norm_bias, *highway_weight, *highway_bias; /* NULL: none */
} tl_rnn_layer;

typedef struct tl_rnn {
    tl_rnn_config config;            /* options: the copy */
    int directions, weights, states; /* D; of one cell */
    tl_param **weight;               /* [layers][D][weights]; NULL where there is none */
    tl_param **initial;              /* [layers][D][states]; NULL where not learned */
    tl_rnn_layer *layer;             /* [layers] */
} tl_rnn;

/* Makes the parameters. Failures go to params->error, with the cell's name. Free the network and the
 * params in any order; the cell's type must outlive it. */
TL_API void tl_rnn_init(tl_rnn *rnn, tl_params *params, const tl_rnn_config *config);
TL_API void tl_rnn_free(tl_rnn *rnn);

TL_API int tl_rnn_states(const tl_rnn *rnn);     /* of all layers and directions together */
TL_API int64_t tl_rnn_output(const tl_rnn *rnn); /* D P: the last size of the outputs */
/* A weight of one cell, by the name in its list; NULL: there is none. */
TL_API tl_param *tl_rnn_weight(const tl_rnn *rnn, int layer, int direction, const char *name);

/* Equations, order of the gates, and every parameter with its shape and count. */
TL_API tl_status tl_cell_describe(const tl_rnn_config *config, FILE *stream);

#endif
