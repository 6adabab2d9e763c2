#include "tensor/tensor.h"

#include <inttypes.h>
#include <math.h>

/* A dimension longer than WHOLE shows EDGE elements at each end. */
enum { WHOLE = 8, EDGE = 3 };

enum { NUMBER_TEXT = 32 }; /* room for any element's text */

/* How reals are written, the same way for the whole tensor. */
typedef enum notation {
    INTEGRAL,  /* 3.          all of them are integers */
    FIXED,     /* 3.1416 */
    SCIENTIFIC /* 3.1416e-07  some are very large or very small */
} notation;

typedef struct printer {
    const tl_tensor *tensor;
    FILE *stream;
    bool failed; /* the stream did not take something */

    bool all_integral; /* these three: of the finite elements shown */
    double largest;    /* magnitude */
    double smallest;   /* magnitude, zeros aside */

    notation notation;
    int width; /* of the longest number shown */
} printer;

typedef void visitor(printer *p, int64_t offset);

/* ---- which elements are shown ----------------------------------------------------------- */

static bool is_cut(int64_t size)
{
    return size > WHOLE;
}

static int64_t after(int64_t i, int64_t size) /* the index shown next */
{
    return is_cut(size) && i == EDGE - 1 ? size - EDGE : i + 1;
}

static void visit(printer *p, int dim, int64_t offset, visitor *see)
{
    const tl_layout *layout = &p->tensor->layout;
    if (dim == layout->ndim) {
        see(p, offset);
        return;
    }
    int64_t size = layout->shape[dim];
    for (int64_t i = 0; i < size; i = after(i, size))
        visit(p, dim + 1, offset + i * layout->stride[dim], see);
}

/* ---- numbers as text -------------------------------------------------------------------- */

static double real_at(const tl_tensor *tensor, int64_t offset)
{
    return tensor->dtype == TL_F32 ? (double)((const float *)tensor->data)[offset]
                                   : ((const double *)tensor->data)[offset];
}

static int real_text(double value, notation notation, char text[NUMBER_TEXT])
{
    if (isnan(value))
        return snprintf(text, NUMBER_TEXT, "nan");
    if (isinf(value))
        return snprintf(text, NUMBER_TEXT, value < 0 ? "-inf" : "inf");
    switch (notation) {
    case INTEGRAL:
        return snprintf(text, NUMBER_TEXT, "%.0f.", value);
    case FIXED:
        return snprintf(text, NUMBER_TEXT, "%.4f", value);
    case SCIENTIFIC:
        break;
    }
    return snprintf(text, NUMBER_TEXT, "%.4e", value);
}

static int number_text(const printer *p, int64_t offset, char text[NUMBER_TEXT])
{
    const void *data = p->tensor->data;
    switch (p->tensor->dtype) {
    case TL_I64:
        return snprintf(text, NUMBER_TEXT, "%" PRId64, ((const int64_t *)data)[offset]);
    case TL_U8:
        return snprintf(text, NUMBER_TEXT, "%d", ((const uint8_t *)data)[offset]);
    case TL_F32:
    case TL_F64:
        break;
    }
    return real_text(real_at(p->tensor, offset), p->notation, text);
}

/* ---- what suits all of them ------------------------------------------------------------- */

static void see_magnitude(printer *p, int64_t offset)
{
    double magnitude = fabs(real_at(p->tensor, offset));
    if (!isfinite(magnitude))
        return;
    p->all_integral = p->all_integral && magnitude == floor(magnitude);
    p->largest = fmax(p->largest, magnitude);
    if (magnitude > 0)
        p->smallest = fmin(p->smallest, magnitude);
}

static notation choose_notation(const printer *p)
{
    if (p->all_integral && p->largest < 1e7)
        return INTEGRAL;
    return p->largest < 1e5 && p->smallest >= 1e-4 ? FIXED : SCIENTIFIC;
}

static void see_width(printer *p, int64_t offset)
{
    char text[NUMBER_TEXT];
    int width = number_text(p, offset, text);
    if (width > p->width)
        p->width = width;
}

/* ---- printing --------------------------------------------------------------------------- */

static void put(printer *p, const char *text, int width)
{
    if (fprintf(p->stream, "%*s", width, text) < 0)
        p->failed = true;
}

/* Numbers of a row stand side by side, rows below each other, matrices after an empty line,
 * and so on; the indentation makes up for the brackets still open. */
static void put_separator(printer *p, int dim)
{
    int deeper = p->tensor->layout.ndim - 1 - dim;
    for (int i = 0; i < deeper; i++)
        put(p, "\n", 0);
    put(p, "", deeper ? dim + 1 : 1);
}

static void put_dim(printer *p, int dim, int64_t offset)
{
    const tl_layout *layout = &p->tensor->layout;
    if (dim == layout->ndim) {
        char text[NUMBER_TEXT];
        number_text(p, offset, text);
        put(p, text, p->width);
        return;
    }
    int64_t size = layout->shape[dim];
    put(p, "[", 0);
    for (int64_t i = 0; i < size; i = after(i, size)) {
        if (i > 0)
            put_separator(p, dim);
        if (is_cut(size) && i == size - EDGE) {
            put(p, "...", 0);
            put_separator(p, dim);
        }
        put_dim(p, dim + 1, offset + i * layout->stride[dim]);
    }
    put(p, "]", 0);
}

tl_status tl_tensor_print(const tl_tensor *tensor, FILE *stream)
{
    printer p = {.tensor = tensor, .stream = stream, .all_integral = true, .smallest = INFINITY};
    if (tensor->layout.count) {
        if (tl_dtype_is_real(tensor->dtype))
            visit(&p, 0, 0, see_magnitude);
        p.notation = choose_notation(&p);
        visit(&p, 0, 0, see_width);
        put_dim(&p, 0, 0);
    } else {
        put(&p, "[]", 0);
    }
    char shape[TL_LAYOUT_TEXT];
    if (fprintf(stream, "  %s %s\n", tl_dtype_name(tensor->dtype),
                tl_layout_text(&tensor->layout, shape)) < 0)
        p.failed = true;
    /* Most streams refuse only when their buffer is emptied. */
    return fflush(stream) == 0 && !p.failed ? TL_OK : TL_ERR_IO;
}
