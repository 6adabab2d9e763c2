/* save_model.c - a model of three kinds of cells and a decoder, saved with what it computes: for
 * load_in_pytorch.py, which compiles and runs it.
 *
 *     save_model model.safetensors answers.safetensors */
#include <stdio.h>
#include <tapeloop/tapeloop.h>

enum { TIME = 7, BATCH = 3, WORDS = 11, INPUT = 4, HIDDEN = 6, PROJECTION = 5, OUTPUT = 2 };

typedef struct model {
    tl_embedding_layer embedding;
    tl_rnn encoder, middle, top; /* GRU, two layers and directions; projected LSTM; tanh */
    tl_linear_layer decoder;
} model;

static void build(model *m, tl_params *params)
{
    tl_embedding_init(&m->embedding, params, "embedding.", WORDS, INPUT);
    tl_rnn_init(&m->encoder, params,
                &(tl_rnn_config){.cell = &tl_gru_cell,
                                 .input = INPUT,
                                 .hidden = HIDDEN,
                                 .layers = 2,
                                 .bidirectional = true,
                                 .prefix = "encoder."});
    tl_rnn_init(&m->middle, params,
                &(tl_rnn_config){.cell = &tl_lstm_cell,
                                 .input = 2 * HIDDEN,
                                 .hidden = HIDDEN,
                                 .projection = PROJECTION,
                                 .layers = 1,
                                 .prefix = "middle."});
    tl_rnn_init(&m->top, params,
                &(tl_rnn_config){.cell = &tl_elman_cell,
                                 .input = PROJECTION,
                                 .hidden = HIDDEN,
                                 .layers = 1,
                                 .prefix = "top."});
    tl_linear_init(&m->decoder, params, "decoder.", HIDDEN, OUTPUT, true);
}

static tl_var evaluate(tl_tape *t, const model *m, tl_var words)
{
    tl_var x = tl_embedding(t, words, &m->embedding);
    x = tl_unroll(t, &m->encoder, x, NULL);
    x = tl_unroll(t, &m->middle, x, NULL);
    x = tl_unroll(t, &m->top, x, NULL);
    return tl_linear(t, x, &m->decoder);
}

static tl_status save(const tl_params *params, tl_tensor *words, tl_tensor *y, char **path,
                      tl_error *error)
{
    if (tl_params_save(params, path[1], 0, NULL, error) != TL_OK)
        return error->status;
    char names[2][8] = {"words", "y"};
    return tl_safetensors_save(path[2], 2, (tl_named_tensor[]){{names[0], words}, {names[1], y}}, 0,
                               NULL, error);
}

int main(int count, char **path)
{
    model m;
    tl_error error = {0};
    tl_params *params = tl_params_new(TL_F64, 5);
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *words = tl_tensor_zeros(TL_I64, TL_SHAPE(TIME, BATCH), &error);
    if (count != 3 || !params || !t || !words)
        return 2;
    for (int64_t i = 0; i < TIME * BATCH; i++)
        tl_tensor_set(words, i, (double)(i * i % WORDS));
    build(&m, params);
    if (tl_params_status(params) == TL_OK) {
        tl_tensor *y = tl_value_copy(t, evaluate(t, &m, tl_constant(t, words)));
        if (y)
            save(params, words, y, path, &error);
        tl_tensor_release(y);
    }
    fprintf(stderr, "%s%s%s", params->error.message, tl_tape_message(t), error.message);
    int failed =
        tl_params_status(params) != TL_OK || tl_tape_status(t) != TL_OK || error.status != TL_OK;
    tl_rnn_free(&m.encoder);
    tl_rnn_free(&m.middle);
    tl_rnn_free(&m.top);
    tl_tensor_release(words);
    tl_tape_free(t);
    tl_params_free(params);
    return failed;
}
