/* small_product.inl - C = A B + beta C, row by row. Included by small.c for each real and processor. */

TARGET static void R(small_product)(tl_matrix a, tl_matrix b, double beta, tl_matrix c)
{
    for (int64_t i = 0; i < c.rows; i++) {
        const real *of_a = (const real *)a.data + i * a.row_stride;
        real *row = (real *)c.data + i * c.row_stride;
        for (int64_t j = 0; j < c.cols; j++) /* with beta 0, C is not looked at */
            row[j * c.col_stride] = beta == 0 ? 0 : (real)beta * row[j * c.col_stride];
        for (int64_t p = 0; p < a.cols; p++) {
            const real *of_b = (const real *)b.data + p * b.row_stride, x = of_a[p * a.col_stride];
            for (int64_t j = 0; j < c.cols; j++)
                row[j * c.col_stride] += x * of_b[j * b.col_stride];
        }
    }
}
