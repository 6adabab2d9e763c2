#include "nn/clip.h"

#include <math.h>

#include "tensor/kernels.h"

/* NaN counts as larger than all numbers, and stays. */
static double larger(double a, double b)
{
    return isnan(a) || a >= b ? a : b;
}

static double norm_of(const tl_tensor *x)
{
    return sqrt(tl_sum_squares(x->dtype, x->layout.count, x->data));
}

static double largest_of(const tl_tensor *x)
{
    double largest = 0;
    for (int64_t i = 0; i < x->layout.count; i++)
        largest = larger(fabs(tl_tensor_get(x, i)), largest);
    return largest;
}

/* The largest of one measure over all parameters that are trained. */
static double largest_measure(const tl_params *params, double (*measure)(const tl_tensor *))
{
    double largest = 0;
    for (int i = 0; i < params->count; i++)
        if (!params->entry[i]->frozen)
            largest = larger(measure(params->entry[i]->gradient), largest);
    return largest;
}

static bool is_to_clip(double size, double limit)
{
    return isfinite(size) && limit >= 0 && size > limit;
}

static void scale(tl_tensor *x, double factor)
{
    tl_scale(x->dtype, x->layout.count, x->data, factor);
    tl_tensor_touch(x);
}

double tl_clip_gradient_value(tl_params *params, double limit)
{
    double largest = largest_measure(params, largest_of);
    for (int i = 0; i < params->count && is_to_clip(largest, limit); i++) {
        tl_tensor *g = params->entry[i]->gradient;
        for (int64_t k = 0; k < g->layout.count && !params->entry[i]->frozen; k++)
            if (fabs(tl_tensor_get(g, k)) > limit)
                tl_tensor_set(g, k, copysign(limit, tl_tensor_get(g, k)));
    }
    return largest;
}

double tl_clip_gradient_norm(tl_params *params, double max_norm)
{
    double norm = tl_gradient_norm(params);
    for (int i = 0; i < params->count && is_to_clip(norm, max_norm); i++)
        if (!params->entry[i]->frozen)
            scale(params->entry[i]->gradient, max_norm / norm);
    return norm;
}

double tl_clip_gradient_each(tl_params *params, double max_norm)
{
    double largest = largest_measure(params, norm_of);
    for (int i = 0; i < params->count && is_to_clip(largest, max_norm); i++) {
        tl_tensor *g = params->entry[i]->gradient;
        double norm = norm_of(g);
        if (!params->entry[i]->frozen && norm > max_norm)
            scale(g, max_norm / norm);
    }
    return largest;
}
