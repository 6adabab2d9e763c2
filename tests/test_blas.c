/* Matrix products: every size, stride and path against three loops. */
#include "support.h"

#include "tensor/blas.h"

/* ---- matrices --------------------------------------------------------------------------- */

/* Storage with room around the matrix, so that what should stay can be looked at. */
typedef struct field {
    double *number; /* in double, whatever the dtype */
    char *data;     /* the same, as the library sees it */
    int64_t count;
    tl_dtype dtype;
    tl_matrix m;
} field;

typedef enum order { BY_ROWS, BY_COLUMNS, WITH_GAPS, BY_COLUMNS_WITH_GAPS, EVERY_OTHER, ORDERS } order;

static double number_at(const field *f, int64_t i)
{
    return f->dtype == TL_F32 ? (double)((const float *)(const void *)f->data)[i]
                              : ((const double *)(const void *)f->data)[i];
}

static void set(field *f, int64_t i, double value)
{
    if (f->dtype == TL_F32)
        ((float *)(void *)f->data)[i] = (float)value;
    else
        ((double *)(void *)f->data)[i] = value;
    f->number[i] = number_at(f, i);
}

static field field_of(dice *d, tl_dtype dtype, int64_t rows, int64_t cols, order o)
{
    field f = {.dtype = dtype};
    int64_t row = o == BY_ROWS ? cols : o == WITH_GAPS ? cols + 3 : o == EVERY_OTHER ? 2 * cols + 1 : 1;
    int64_t col = o == BY_COLUMNS             ? rows
                  : o == BY_COLUMNS_WITH_GAPS ? rows + 5
                  : o == EVERY_OTHER          ? 2
                                              : 1;
    f.count = rows * (o == BY_ROWS || o == WITH_GAPS || o == EVERY_OTHER ? row : 1) +
              cols * (o == BY_COLUMNS || o == BY_COLUMNS_WITH_GAPS ? col : 0) + 16;
    f.number = malloc((size_t)f.count * sizeof *f.number);
    f.data = tl_system_get((size_t)f.count * tl_dtype_size(dtype));
    assert_true(f.number && f.data);
    for (int64_t i = 0; i < f.count; i++)
        set(&f, i, dice_real(d, -1, 1));
    f.m = (tl_matrix){f.data, rows, cols, row, col};
    return f;
}

static void field_free(field *f)
{
    free(f->number);
    tl_system_give(f->data);
}

/* The numbers before; what the product should have made of them is put there. */
static double *cell(const field *f, int64_t r, int64_t c)
{
    return &f->number[r * f->m.row_stride + c * f->m.col_stride];
}

/* C = beta C + A B + start in double; of sizes that fit. */
static void naive(const field *a, const field *b, const field *start, double beta, field *c)
{
    for (int64_t i = 0; i < c->m.rows; i++)
        for (int64_t j = 0; j < c->m.cols; j++) {
            double sum = start ? *cell(start, i, j) : beta == 0 ? 0 : beta * *cell(c, i, j);
            for (int64_t k = 0; k < a->m.cols; k++)
                sum += *cell(a, i, k) * *cell(b, k, j);
            *cell(c, i, j) = sum;
        }
}

static void compare(const field *c, int64_t k, const char *what, int line)
{
    double tolerance = (c->dtype == TL_F32 ? 2e-7 : 4e-16) * (8 + (double)k);
    for (int64_t i = 0; i < c->count; i++) /* the room around it, too */
        if (!(fabs(number_at(c, i) - c->number[i]) <= tolerance))
            fail_msg("line %d: %s %s, [%lld,%lld] over %lld: number %lld is %.9g, should be %.9g", line,
                     what, tl_dtype_name(c->dtype), (long long)c->m.rows, (long long)c->m.cols,
                     (long long)k, (long long)i, number_at(c, i), c->number[i]);
}

/* ---- any product ------------------------------------------------------------------------ */

typedef struct sizes {
    int64_t m, k, n;
} sizes;

static void check_product(tl_blas *blas, dice *d, tl_dtype dtype, sizes s, const order o[3],
                          double beta, bool nan)
{
    field a = field_of(d, dtype, s.m, s.k, o[0]), b = field_of(d, dtype, s.k, s.n, o[1]);
    field c = field_of(d, dtype, s.m, s.n, o[2]);
    for (int64_t i = 0; nan && i < s.m; i++) /* numbers that must not be looked at */
        for (int64_t j = 0; j < s.n; j++)
            set(&c, i * c.m.row_stride + j * c.m.col_stride, NAN);
    naive(&a, &b, NULL, beta, &c);
    tl_blas_product(blas, dtype, a.m, b.m, beta, c.m);
    compare(&c, s.k, "product", __LINE__);
    field_free(&a);
    field_free(&b);
    field_free(&c);
}

static void products_of_every_stride(void **state)
{
    (void)state;
    static const sizes small[] = {{1, 1, 1},   {0, 3, 2},    {3, 0, 2},   {3, 2, 0}, {0, 0, 0},
                                  {1, 7, 1},   {5, 1, 3},    {2, 3, 5},   {7, 5, 3}, {1, 31, 17},
                                  {13, 11, 1}, {17, 19, 23}, {41, 37, 29}};
    dice d = dice_of(1);
    tl_threads *team = tl_threads_new(1);
    tl_blas *blas = tl_blas_new(team);
    assert_non_null(blas);
    for (int dtype = TL_F32; dtype <= TL_F64; dtype++)
        for (int s = 0; s < COUNT_OF(small); s++)
            for (int o = 0; o < ORDERS * ORDERS * ORDERS; o++) {
                const order orders[3] = {(order)(o % ORDERS), (order)(o / ORDERS % ORDERS),
                                         (order)(o / ORDERS / ORDERS)};
                const double beta = (double[]){0, 1, -0.5}[o % 3];
                check_product(blas, &d, (tl_dtype)dtype, small[s], orders, beta, beta == 0);
            }
    tl_blas_free(blas);
    tl_threads_free(team);
}

/* Beyond 240 rows or columns the product is cut into strips. */
static void products_in_strips(void **state)
{
    (void)state;
    static const sizes large[] = {{241, 97, 89}, {89, 97, 241},  {500, 61, 70},
                                  {70, 61, 481}, {720, 128, 33}, {239, 131, 240},
                                  {3, 5, 1000},  {1000, 5, 3},   {97, 260, 480}};
    dice d = dice_of(2);
    for (int threads = 1; threads <= 3; threads++) {
        tl_threads *team = tl_threads_new(threads);
        tl_blas *blas = tl_blas_new(team);
        assert_non_null(blas);
        for (int dtype = TL_F32; dtype <= TL_F64; dtype++)
            for (int s = 0; s < COUNT_OF(large); s++) {
                const order plain[3] = {BY_ROWS, BY_ROWS, BY_ROWS},
                            turned[3] = {BY_COLUMNS, WITH_GAPS, BY_COLUMNS_WITH_GAPS};
                check_product(blas, &d, (tl_dtype)dtype, large[s], plain, s % 2, s % 2 == 0);
                check_product(blas, &d, (tl_dtype)dtype, large[s], turned, 0, true);
            }
        tl_blas_free(blas);
        tl_threads_free(team);
    }
}

/* ---- packed products -------------------------------------------------------------------- */

typedef struct packed_field {
    tl_packed packed;
    field source;
} packed_field;

static packed_field pack(dice *d, tl_dtype dtype, int64_t k, int64_t n, order o)
{
    packed_field w = {.source = field_of(d, dtype, k, n, o)};
    size_t bytes = tl_packed_bytes(dtype, k, n);
    w.packed = (tl_packed){.data = tl_system_get(bytes + 1), .k = k, .n = n, .dtype = dtype};
    assert_non_null(w.packed.data);
    memset(w.packed.data, 0x7f, bytes);      /* what is not written is seen */
    int64_t first = k / 3, rest = k - first; /* in two parts, as panels are filled */
    tl_matrix part = w.source.m;
    part.rows = first;
    tl_packed_write(&w.packed, 0, part);
    part.rows = rest;
    part.data = w.source.data + first * part.row_stride * (int64_t)tl_dtype_size(dtype);
    tl_packed_write(&w.packed, first, part);
    return w;
}

static void packed_free(packed_field *w)
{
    tl_system_give(w->packed.data);
    field_free(&w->source);
}

typedef enum beginning {
    FROM_ZERO,
    FROM_NAN,
    FROM_Y,
    FROM_HALF,
    FROM_A_ROW,
    FROM_ROWS,
    BEGINNINGS
} beginning;

static void check_packed(tl_blas *blas, dice *d, tl_dtype dtype, sizes s, order x_order, order w_order,
                         bool gaps, beginning from)
{
    packed_field w = pack(d, dtype, s.k, s.n, w_order);
    field x = field_of(d, dtype, s.m, s.k, x_order),
          y = field_of(d, dtype, s.m, s.n, gaps ? WITH_GAPS : BY_ROWS);
    field start = field_of(d, dtype, s.m ? s.m : 1, s.n, WITH_GAPS);
    bool started = from == FROM_A_ROW || from == FROM_ROWS;
    double beta = from == FROM_Y ? 1 : from == FROM_HALF ? 0.5 : 0;
    if (from == FROM_A_ROW)
        start.m.row_stride = 0;
    for (int64_t i = 0; (started || from == FROM_NAN) && i < s.m; i++)
        for (int64_t j = 0; j < s.n; j++)
            set(&y, i * y.m.row_stride + j, NAN);
    naive(&x, &w.source, started ? &start : NULL, beta, &y);
    tl_packed_product(blas, x.m, &w.packed, started ? &start.m : NULL, beta, y.m);
    compare(&y, s.k, "packed product", __LINE__);
    packed_free(&w);
    field_free(&x);
    field_free(&y);
    field_free(&start);
}

/* All instruction sets that this processor has, the portable one included. */
static void packed_products_of_every_size(void **state)
{
    (void)state;
    dice d = dice_of(3);
    tl_threads *team = tl_threads_new(1);
    tl_blas *blas = tl_blas_new(team);
    for (int level = 0; level <= tl_packed_level(); level++) {
        blas->level = level;
        for (int dtype = TL_F32; dtype <= TL_F64; dtype++) {
            for (int64_t rows = 0; rows <= 200; rows += rows < 34 ? 1 : 23)
                for (int round = 0; round < 6; round++) {
                    static const int64_t ns[] = {1, 16, 31, 32, 33, 70, 17, 3},
                                         ks[] = {5, 1, 0, 19, 40, 64, 7};
                    sizes s = {rows, ks[(rows + round) % COUNT_OF(ks)],
                               ns[(rows + 3 * round) % COUNT_OF(ns)]};
                    static const order xs[] = {BY_ROWS, WITH_GAPS, BY_COLUMNS, BY_COLUMNS_WITH_GAPS};
                    check_packed(blas, &d, (tl_dtype)dtype, s, xs[round % 4],
                                 (order)((rows + round) % ORDERS), round % 2,
                                 (beginning)((rows + round) % BEGINNINGS));
                }
            static const sizes large[] = {{7, 257, 35},   {5, 1000, 9},   {130, 300, 40}, {520, 70, 65},
                                          {129, 513, 33}, {384, 256, 32}, {1, 777, 100},  {2, 512, 5}};
            for (int s = 0; s < COUNT_OF(large); s++)
                for (int from = 0; from < BEGINNINGS; from++)
                    check_packed(blas, &d, (tl_dtype)dtype, large[s], from % 2 ? BY_COLUMNS : BY_ROWS,
                                 (order)(s % ORDERS), s % 2, (beginning)from);
        }
    }
    tl_blas_free(blas);
    tl_threads_free(team);
}

/* C += A' B over as many rows as there are: the panels of outer products. */
static void outer_products_of_some_rows(void **state)
{
    (void)state;
    enum { CAPACITY = 97 };
    dice d = dice_of(4);
    tl_threads *team = tl_threads_new(1);
    tl_blas *blas = tl_blas_new(team);
    for (int level = 0; level <= tl_packed_level(); level++)
        for (int dtype = TL_F32; dtype <= TL_F64; dtype++)
            for (int64_t rows = 0; rows <= CAPACITY; rows += 1 + rows / 4) {
                blas->level = level;
                field a = field_of(&d, (tl_dtype)dtype, CAPACITY, 37, WITH_GAPS);
                packed_field b = pack(&d, (tl_dtype)dtype, CAPACITY, 41, BY_ROWS);
                field c = field_of(&d, (tl_dtype)dtype, 37, 41, BY_ROWS);
                field turned = a;
                turned.m.rows = rows; /* only so many of the rows */
                turned.m = tl_matrix_transposed(turned.m);
                naive(&turned, &b.source, NULL, 1, &c);
                tl_packed_product(blas, turned.m, &b.packed, NULL, 1, c.m);
                compare(&c, rows, "outer product", __LINE__);
                field_free(&a);
                packed_free(&b);
                field_free(&c);
            }
    tl_blas_free(blas);
    tl_threads_free(team);
}

/* A row of X that is all zeros but for one NaN makes NaN, and no other row does. */
static void rows_do_not_mix(void **state)
{
    (void)state;
    dice d = dice_of(5);
    tl_threads *team = tl_threads_new(1);
    tl_blas *blas = tl_blas_new(team);
    for (int level = 0; level <= tl_packed_level(); level++)
        for (int64_t bad = 0; bad < 13; bad++) {
            blas->level = level;
            packed_field w = pack(&d, TL_F32, 9, 35, BY_ROWS);
            field x = field_of(&d, TL_F32, 13, 9, BY_ROWS), y = field_of(&d, TL_F32, 13, 35, WITH_GAPS);
            set(&x, bad * 9 + 4, NAN);
            tl_packed_product(blas, x.m, &w.packed, NULL, 0, y.m);
            for (int64_t i = 0; i < 13; i++)
                for (int64_t j = 0; j < 35; j++)
                    assert_int_equal(isnan(number_at(&y, i * y.m.row_stride + j)) != 0, i == bad);
            packed_free(&w);
            field_free(&x);
            field_free(&y);
        }
    tl_blas_free(blas);
    tl_threads_free(team);
}

/* ---- determinism ------------------------------------------------------------------------ */

static void the_same_bits_with_any_team(void **state)
{
    (void)state;
    static const sizes s[] = {
        {128, 256, 96}, {600, 150, 64}, {70, 400, 900}, {481, 77, 530}, {16, 512, 2048}};
    for (int dtype = TL_F32; dtype <= TL_F64; dtype++)
        for (int c = 0; c < COUNT_OF(s); c++) {
            dice d = dice_of(6);
            packed_field w = pack(&d, (tl_dtype)dtype, s[c].k, s[c].n, BY_COLUMNS);
            field x = field_of(&d, (tl_dtype)dtype, s[c].m, s[c].k, BY_ROWS);
            size_t bytes = (size_t)(s[c].m * s[c].n) * tl_dtype_size((tl_dtype)dtype);
            char *y[2][2] = {{malloc(bytes), malloc(bytes)}, {malloc(bytes), malloc(bytes)}};
            for (int threads = 1; threads <= 4; threads++)
                for (int again = 0; again < 3; again++) {
                    tl_threads *team = tl_threads_new(threads);
                    tl_blas *blas = tl_blas_new(team);
                    assert_non_null(blas);
                    bool first = threads == 1 && again == 0;
                    char **to = y[first ? 0 : 1];
                    for (int k = 0; k < 2; k++)
                        memset(to[k], 0, bytes);
                    tl_matrix m = {to[0], s[c].m, s[c].n, s[c].n, 1};
                    tl_packed_product(blas, x.m, &w.packed, NULL, 1, m);
                    m.data = to[1];
                    tl_blas_product(blas, (tl_dtype)dtype, x.m, w.source.m, 0, m);
                    if (!first)
                        for (int k = 0; k < 2; k++)
                            assert_memory_equal(y[1][k], y[0][k], bytes);
                    tl_blas_free(blas);
                    tl_threads_free(team);
                }
            for (int k = 0; k < 4; k++)
                free(y[k / 2][k % 2]);
            packed_free(&w);
            field_free(&x);
        }
}

static void a_kernel_is_chosen(void **state)
{
    (void)state;
    tl_threads *team = tl_threads_new(2);
    tl_blas *blas = tl_blas_new(team);
    assert_non_null(blas);
    assert_true(strlen(blas->kernels) > 0);
    assert_int_equal(blas->level, tl_packed_level());
    assert_true(blas->level >= 0 && blas->level <= 2);
    print_message("BLIS: %s, packed products: level %d\n", blas->kernels, blas->level);
    assert_true(tl_packed_bytes(TL_F32, 10, 33) >= 10 * 33 * 4);
    assert_int_equal(tl_packed_bytes(TL_F64, 0, 33), 0);
    assert_int_equal(tl_packed_bytes(TL_F64, 7, 0), 0);
    tl_blas_free(blas);
    tl_blas_free(NULL);
    tl_threads_free(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_every_stride),
        cmocka_unit_test(products_in_strips),
        cmocka_unit_test(packed_products_of_every_size),
        cmocka_unit_test(outer_products_of_some_rows),
        cmocka_unit_test(rows_do_not_mix),
        cmocka_unit_test(the_same_bits_with_any_team),
        cmocka_unit_test(a_kernel_is_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
