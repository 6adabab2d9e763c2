#include "nn/init.h"

#include <math.h>

#include "tensor/arena.h"

tl_status tl_init_uniform(tl_random *random, tl_tensor *tensor, int64_t size)
{
    double bound = size > 0 ? 1 / sqrt((double)size) : 0;
    return tl_random_uniform(random, tensor, -bound, bound);
}

tl_status tl_init_xavier(tl_random *random, tl_tensor *tensor)
{
    if (tensor->layout.ndim != 2)
        return TL_ERR_SHAPE;
    double fans = (double)(tensor->layout.shape[0] + tensor->layout.shape[1]);
    double bound = fans > 0 ? sqrt(6 / fans) : 0;
    return tl_random_uniform(random, tensor, -bound, bound);
}

/* Modified Gram-Schmidt on `count` vectors of length `length`, in double, each projected twice, so
 * that orthogonality holds to rounding. The diagonal of R comes out positive. */
static void orthonormalise(double *v, int64_t count, int64_t length)
{
    for (int64_t i = 0; i < count; i++) {
        double *a = v + i * length, squares = 0;
        for (int64_t j = 0; j < 2 * i; j++) {
            const double *b = v + (j % i) * length;
            double dot = 0;
            for (int64_t k = 0; k < length; k++)
                dot += a[k] * b[k];
            for (int64_t k = 0; k < length; k++)
                a[k] -= dot * b[k];
        }
        for (int64_t k = 0; k < length; k++)
            squares += a[k] * a[k];
        for (int64_t k = 0; k < length; k++)
            a[k] /= sqrt(squares);
    }
}

tl_status tl_init_orthogonal(tl_random *random, tl_tensor *tensor)
{
    if (tensor->layout.ndim != 2)
        return TL_ERR_SHAPE;
    int64_t rows = tensor->layout.shape[0], cols = tensor->layout.shape[1];
    int64_t count = rows < cols ? rows : cols, length = rows < cols ? cols : rows;
    tl_tensor *square = tl_tensor_empty(TL_F64, TL_SHAPE(count, length), NULL);
    if (!square)
        return TL_ERR_MEMORY;
    tl_status status = tl_random_normal(random, square, 0, 1);
    if (status == TL_OK) {
        const double *v = square->data;
        orthonormalise(square->data, count, length);
        for (int64_t i = 0; i < rows * cols; i++) {
            int64_t row = i / cols, col = i % cols;
            tl_tensor_set(tensor, i, rows < cols ? v[row * length + col] : v[col * length + row]);
        }
    }
    tl_tensor_release(square);
    return status;
}
