#include "nn/optim.h"

#include <math.h>
#include <string.h>

#include "tensor/arena.h"
#include "tensor/kernels.h"

struct tl_optimizer {
    tl_optimizer_config config;
    tl_params *params;
    int64_t steps;
    int count;
    tl_tensor **first, **second; /* SGD: velocity; Adam: the two moments. One a parameter */
};

static tl_tensor **zeros_like(const tl_params *params)
{
    size_t bytes = (size_t)params->count * sizeof(tl_tensor *);
    tl_tensor **list = tl_system_get(bytes);
    if (!list)
        return NULL;
    memset(list, 0, bytes);
    for (int i = 0; i < params->count; i++) {
        const tl_layout *l = &params->entry[i]->value->layout;
        list[i] = tl_tensor_zeros(params->dtype, l->ndim, l->shape, NULL);
    }
    return list;
}

static bool is_complete(tl_tensor *const *list, int count)
{
    for (int i = 0; list && i < count; i++)
        if (!list[i])
            return false;
    return list != NULL;
}

tl_optimizer *tl_optimizer_new(tl_params *params, const tl_optimizer_config *config)
{
    tl_optimizer *o = tl_system_get(sizeof *o);
    if (!o)
        return NULL;
    *o = (tl_optimizer){.config = *config, .params = params, .count = params->count};
    o->config.beta1 = config->beta1 > 0 ? config->beta1 : 0.9;
    o->config.beta2 = config->beta2 > 0 ? config->beta2 : 0.999;
    o->config.epsilon = config->epsilon > 0 ? config->epsilon : 1e-8;
    o->first = zeros_like(params);
    o->second = config->kind == TL_ADAM ? zeros_like(params) : NULL;
    if (!is_complete(o->first, o->count) ||
        (config->kind == TL_ADAM && !is_complete(o->second, o->count))) {
        tl_optimizer_free(o);
        return NULL;
    }
    return o;
}

void tl_optimizer_free(tl_optimizer *o)
{
    if (!o)
        return;
    for (int i = 0; i < o->count; i++) {
        if (o->first)
            tl_tensor_release(o->first[i]);
        if (o->second)
            tl_tensor_release(o->second[i]);
    }
    tl_system_give(o->first);
    tl_system_give(o->second);
    tl_system_give(o);
}

void tl_optimizer_step(tl_optimizer *o)
{
    const tl_optimizer_config *c = &o->config;
    double t = (double)++o->steps;
    tl_adam_rates rates = {c->rate,
                           c->beta1,
                           c->beta2,
                           c->epsilon,
                           c->weight_decay,
                           1 - pow(c->beta1, t),
                           1 - pow(c->beta2, t)};
    for (int i = 0; i < o->count; i++) {
        tl_tensor *p = o->params->entry[i]->value;
        const tl_tensor *g = o->params->entry[i]->gradient;
        if (o->params->entry[i]->frozen)
            continue;
        if (c->kind == TL_SGD)
            tl_sgd_step(p->dtype, p->layout.count, p->data, g->data, o->first[i]->data, c->rate,
                        c->momentum, c->weight_decay);
        else
            tl_adam_step(p->dtype, p->layout.count, p->data, g->data, o->first[i]->data,
                         o->second[i]->data, &rates);
        tl_tensor_touch(p);
    }
}

void tl_optimizer_set_rate(tl_optimizer *o, double rate)
{
    o->config.rate = rate;
}
