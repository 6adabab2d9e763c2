#include "nn/linear.h"

#include "autograd/ops.h"
#include "nn/init.h"

void tl_linear_init(tl_linear_layer *layer, tl_params *params, const char *prefix, int64_t inputs,
                    int64_t outputs, bool bias)
{
    *layer = (tl_linear_layer){0};
    layer->weight = tl_params_add(params, prefix, "weight", TL_SHAPE(outputs, inputs));
    if (bias)
        layer->bias = tl_params_add(params, prefix, "bias", TL_SHAPE(outputs));
    if (layer->weight)
        tl_init_uniform(&params->random, layer->weight->value, inputs);
    if (layer->bias)
        tl_init_uniform(&params->random, layer->bias->value, inputs);
}

tl_var tl_linear(tl_tape *t, tl_var x, const tl_linear_layer *layer)
{
    return tl_linear_op(t, x, tl_use(t, layer->weight), layer->bias ? tl_use(t, layer->bias) : TL_NONE);
}

void tl_embedding_init(tl_embedding_layer *layer, tl_params *params, const char *prefix, int64_t words,
                       int64_t size)
{
    layer->weight = tl_params_add(params, prefix, "weight", TL_SHAPE(words, size));
    if (layer->weight)
        tl_random_normal(&params->random, layer->weight->value, 0, 1);
}

tl_var tl_embedding(tl_tape *t, tl_var index, const tl_embedding_layer *layer)
{
    return tl_embedding_op(t, tl_use(t, layer->weight), index);
}

void tl_linear_tie(tl_linear_layer *layer, tl_params *params, const char *prefix,
                   const tl_embedding_layer *embedding, bool bias)
{
    *layer = (tl_linear_layer){.weight = embedding->weight};
    if (bias && layer->weight)
        layer->bias = tl_params_add(params, prefix, "bias", 1, layer->weight->value->layout.shape);
}
