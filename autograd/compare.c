#include "autograd/compare.h"

#include <math.h>

static double largest_of(const tl_tensor *x)
{
    double largest = 0;
    for (int64_t i = 0; i < x->layout.count; i++)
        largest = fmax(largest, fabs(tl_tensor_get(x, i)));
    return largest;
}

/* NaN on one side counts as infinitely far; on both, too: nothing was shown. */
static tl_grad_difference worst_of(const tl_grad_pair *p)
{
    tl_grad_difference worst = {.element = -1};
    double scale = largest_of(p->automatic);
    for (int64_t i = 0; i < p->automatic->layout.count; i++) {
        double a = tl_tensor_get(p->manual, i), b = tl_tensor_get(p->automatic, i);
        double off = isnan(a) || isnan(b) ? (double)INFINITY : a == b ? 0 : fabs(a - b);
        if (worst.element >= 0 && off <= worst.absolute)
            continue;
        worst = (tl_grad_difference){i, a, b, off, off == 0 ? 0 : off / scale};
    }
    return worst;
}

static const char *where(const tl_layout *layout, int64_t element, char text[TL_LAYOUT_TEXT])
{
    tl_layout index = *layout;
    for (int k = layout->ndim - 1; k >= 0 && element >= 0; element /= layout->shape[k--])
        index.shape[k] = element % layout->shape[k];
    return element < 0 ? "-" : tl_layout_text(&index, text);
}

static tl_status check_pair(const tl_grad_pair *p, tl_error *error)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    if (!p->manual || !p->automatic)
        return tl_fail(error, TL_ERR_ARGUMENT, "compare_grads: %s: the %s gradient is NULL", p->name,
                       p->manual ? "automatic" : "manual");
    if (!tl_dtype_is_real(p->manual->dtype) || !tl_dtype_is_real(p->automatic->dtype)) {
        return tl_fail(error, TL_ERR_DTYPE, "compare_grads: %s: gradients are reals, not %s and %s",
                       p->name, tl_dtype_name(p->manual->dtype), tl_dtype_name(p->automatic->dtype));
    }
    if (!tl_layout_same_shape(&p->manual->layout, &p->automatic->layout)) {
        return tl_fail(error, TL_ERR_SHAPE, "compare_grads: %s: manual is %s, automatic is %s", p->name,
                       tl_layout_text(&p->manual->layout, a), tl_layout_text(&p->automatic->layout, b));
    }
    return TL_OK;
}

static void print(FILE *stream, const tl_grad_pair *p, const tl_grad_difference *d)
{
    char step[24] = "-", text[TL_LAYOUT_TEXT];
    if (p->step >= 0)
        snprintf(step, sizeof step, "%lld", (long long)p->step);
    fprintf(stream, "%-24s %6s %14s %+18.12g %+18.12g %11.2g %11.2g\n", p->name, step,
            where(&p->automatic->layout, d->element, text), d->manual, d->automatic, d->absolute,
            d->relative);
}

tl_status tl_compare_grads(int count, const tl_grad_pair *pairs, double tolerance, FILE *stream,
                           tl_grad_difference *differences, tl_error *error)
{
    tl_status status = TL_OK;
    char text[TL_LAYOUT_TEXT];
    for (int k = 0; k < count; k++)
        if ((status = check_pair(&pairs[k], error)) != TL_OK)
            return status;
    if (stream)
        fprintf(stream, "%-24s %6s %14s %18s %18s %11s %11s\n", "gradient", "step", "worst element",
                "manual", "automatic", "difference", "relative");
    for (int k = 0; k < count; k++) {
        const tl_grad_pair *p = &pairs[k];
        tl_grad_difference d = worst_of(p);
        if (stream)
            print(stream, p, &d);
        if (differences)
            differences[k] = d;
        if (d.relative <= tolerance)
            continue;
        char step[32] = "";
        if (p->step >= 0)
            snprintf(step, sizeof step, " at step %lld", (long long)p->step);
        status = tl_fail(error, TL_ERR_CHECK,
                         "compare_grads: %s%s, element %s: manual %+.12g, automatic %+.12g, relative "
                         "difference %.3g (tolerance %.3g)",
                         p->name, step, where(&p->automatic->layout, d.element, text), d.manual,
                         d.automatic, d.relative, tolerance);
    }
    if (stream && (fflush(stream) || ferror(stream)))
        return tl_fail(error, TL_ERR_IO, "compare_grads: the stream does not take it");
    return status;
}
