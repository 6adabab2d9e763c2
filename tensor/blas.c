/* blas.c - the only file that includes blis.h. */
#include "tensor/blas.h"

#include <string.h>

#include <blis.h>

/* ---- which kernels ----------------------------------------------------------
 *
 * BLIS recognises processors by family, and takes portable C for one that it does not know:
 * 0.9.0 runs a Zen 5 at 21 GFLOP/s (f32, one core) where its AVX-512 kernels reach 200.
 * Its static library lets us ask for those by name. TL_BLIS_NAMED_CONTEXTS is set by
 * CMake where that links. */

#if defined(TL_BLIS_NAMED_CONTEXTS)
static bool choose_by_features(cntx_t *context, const char **name)
{
    int level = tl_packed_level();
    if (level == 2)
        bli_cntx_init_skx(context);
    else if (level == 1)
        bli_cntx_init_haswell(context);
    *name = level == 2 ? "skx" : "haswell";
    return level > 0;
}
#else
static bool choose_by_features(cntx_t *context, const char **name)
{
    (void)context, (void)name;
    return false;
}
#endif

tl_blas *tl_blas_new(tl_threads *team)
{
    static const char *const levels[] = {"portable", "AVX2", "AVX-512"};
    bli_init();
    tl_blas *blas = tl_system_get(sizeof *blas);
    cntx_t *context = tl_system_get(sizeof *context);
    if (!blas || !context) {
        tl_system_give(blas);
        tl_system_give(context);
        return NULL;
    }
    *blas = (tl_blas){
        .team = team, .context = context, .owned_context = context, .level = tl_packed_level()};
    const char *name = bli_arch_string(bli_arch_query_id());
    bool recognised = bli_arch_query_id() != BLIS_ARCH_GENERIC;
    if (recognised || !choose_by_features(context, &name))
        blas->context = (void *)bli_gks_query_cntx();
    snprintf(blas->kernels, sizeof blas->kernels, "%s, BLIS %s", levels[blas->level], name);
    return blas;
}

void tl_blas_free(tl_blas *blas)
{
    if (!blas)
        return;
    tl_system_give(blas->owned_context);
    tl_system_give(blas);
}

/* ---- general products ------------------------------------------------------------------- */

enum { SMALL = 4096 }; /* multiplications: fewer are done before BLIS has begun */

static void product(tl_blas *blas, tl_dtype dtype, tl_matrix a, tl_matrix b, double beta, tl_matrix c)
{
    if ((double)c.rows * (double)c.cols * (double)a.cols <= SMALL) {
        tl_small_product(blas->level, dtype, a, b, beta, c);
        return;
    }
    rntm_t one_thread = BLIS_RNTM_INITIALIZER;
    bli_rntm_set_num_threads(1, &one_thread);
    if (dtype == TL_F32) {
        float one = 1, beta_f32 = (float)beta;
        bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, c.rows, c.cols, a.cols, &one, a.data,
                     a.row_stride, a.col_stride, b.data, b.row_stride, b.col_stride, &beta_f32, c.data,
                     c.row_stride, c.col_stride, blas->context, &one_thread);
    } else {
        double one = 1;
        bli_dgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, c.rows, c.cols, a.cols, &one, a.data,
                     a.row_stride, a.col_stride, b.data, b.row_stride, b.col_stride, &beta, c.data,
                     c.row_stride, c.col_stride, blas->context, &one_thread);
    }
}

/* A large result is cut into strips of its longer side, by shape alone. */
enum { STRIP = 240, STRIP_FLOPS = 4000000 }; /* 240: a multiple of every kernel's tile */

typedef struct strips {
    tl_blas *blas;
    tl_dtype dtype;
    tl_matrix a, b, c;
    double beta;
    bool by_rows;
} strips;

static char *element(tl_matrix m, int64_t row, int64_t col, tl_dtype dtype)
{
    return (char *)m.data + (row * m.row_stride + col * m.col_stride) * (int64_t)tl_dtype_size(dtype);
}

static void do_strips(void *context, int64_t begin, int64_t end)
{
    const strips *s = context;
    for (int64_t i = begin; i < end; i++) {
        tl_matrix a = s->a, b = s->b, c = s->c;
        int64_t from = i * STRIP, size = (s->by_rows ? c.rows : c.cols) - from;
        if (size > STRIP)
            size = STRIP;
        if (s->by_rows) {
            a.data = element(a, from, 0, s->dtype);
            c.data = element(c, from, 0, s->dtype);
            a.rows = c.rows = size;
        } else {
            b.data = element(b, 0, from, s->dtype);
            c.data = element(c, 0, from, s->dtype);
            b.cols = c.cols = size;
        }
        product(s->blas, s->dtype, a, b, s->beta, c);
    }
}

void tl_blas_product(tl_blas *blas, tl_dtype dtype, tl_matrix a, tl_matrix b, double beta, tl_matrix c)
{
    if (c.rows <= 0 || c.cols <= 0)
        return;
    strips s = {blas, dtype, a, b, c, beta, .by_rows = c.rows > c.cols};
    int64_t longer = s.by_rows ? c.rows : c.cols;
    double flops = 2.0 * (double)c.rows * (double)c.cols * (double)a.cols;
    if (longer > STRIP && flops > STRIP_FLOPS)
        tl_threads_run(blas->team, (longer + STRIP - 1) / STRIP, do_strips, &s);
    else
        product(blas, dtype, a, b, beta, c);
}
