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
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
        bli_cntx_init_skx(context);
        *name = "skx";
        return true;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        bli_cntx_init_haswell(context);
        *name = "haswell";
        return true;
    }
    return false;
}
#else
static bool choose_by_features(cntx_t *context, const char **name)
{
    (void)context, (void)name;
    return false;
}
#endif

#if defined(TL_BLIS_MICRO_KERNELS)
static void find_tile_kernel(struct tl_tile_kernel *tile, num_t type, cntx_t *context)
{
    int mr = (int)bli_cntx_get_blksz_def_dt(type, BLIS_MR, context);
    int nr = (int)bli_cntx_get_blksz_def_dt(type, BLIS_NR, context);
    tile->weights_first = !bli_cntx_l3_nat_ukr_prefers_rows_dt(type, BLIS_GEMM_UKR, context);
    tile->weight_width = tile->weights_first ? mr : nr;
    tile->batch_width = tile->weights_first ? nr : mr;
    void *function = bli_cntx_get_l3_nat_ukr_dt(type, BLIS_GEMM_UKR, context);
    memcpy(&tile->function, &function, sizeof function); /* ISO C has no cast for it */
}
#endif

/* BLIS's portable kernel is no faster than ours: taken only where it is a tuned one. */
static void find_tile_kernels(tl_blas *blas, bool tuned)
{
    for (int dtype = TL_F32; dtype <= TL_F64; dtype++)
        blas->tile[dtype] = (struct tl_tile_kernel){.batch_width = 4, .weight_width = dtype == TL_F32 ? 16 : 8};
#if defined(TL_BLIS_MICRO_KERNELS)
    if (tuned) {
        find_tile_kernel(&blas->tile[TL_F32], BLIS_FLOAT, blas->context);
        find_tile_kernel(&blas->tile[TL_F64], BLIS_DOUBLE, blas->context);
    }
#else
    (void)tuned;
#endif
}

enum { SCRATCH_BYTES = 512 * 1024 }; /* a member's share of the level 2 cache */

tl_blas *tl_blas_new(tl_threads *team)
{
    bli_init();
    tl_blas *blas = tl_system_get(sizeof *blas);
    cntx_t *context = tl_system_get(sizeof *context);
    char *scratch = tl_system_get((size_t)tl_threads_count(team) * SCRATCH_BYTES);
    if (!blas || !context || !scratch) {
        tl_system_give(blas);
        tl_system_give(context);
        tl_system_give(scratch);
        return NULL;
    }
    *blas = (tl_blas){.team = team, .scratch = scratch, .scratch_bytes = SCRATCH_BYTES};
    blas->owned_context = context;
    blas->context = context;
    bool recognised = bli_arch_query_id() != BLIS_ARCH_GENERIC;
    bool chosen = !recognised && choose_by_features(context, &blas->kernels);
    if (!chosen) {
        blas->context = (void *)bli_gks_query_cntx();
        blas->kernels = bli_arch_string(bli_arch_query_id());
    }
    find_tile_kernels(blas, chosen || recognised);
    return blas;
}

void tl_blas_free(tl_blas *blas)
{
    if (!blas)
        return;
    tl_system_give(blas->owned_context);
    tl_system_give(blas->scratch);
    tl_system_give(blas);
}

/* ---- general products --------------------------------------------------------- */

static void product(tl_blas *blas, tl_dtype dtype, tl_matrix a, tl_matrix b, double beta, tl_matrix c)
{
    rntm_t one_thread;
    bli_rntm_init(&one_thread);
    bli_rntm_set_num_threads(1, &one_thread);
    if (dtype == TL_F32) {
        float one = 1, beta_f32 = (float)beta;
        bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, c.rows, c.cols, a.cols, &one, a.data, a.row_stride,
                     a.col_stride, b.data, b.row_stride, b.col_stride, &beta_f32, c.data, c.row_stride,
                     c.col_stride, blas->context, &one_thread);
    } else {
        double one = 1;
        bli_dgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, c.rows, c.cols, a.cols, &one, a.data, a.row_stride,
                     a.col_stride, b.data, b.row_stride, b.col_stride, &beta, c.data, c.row_stride, c.col_stride,
                     blas->context, &one_thread);
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

static void do_strips(void *context, int member, int64_t begin, int64_t end)
{
    (void)member;
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

/* ---- one tile --------------------------------------------------------------------- */

#if defined(TL_BLIS_MICRO_KERNELS)
void tl_blas_tile(const tl_blas *blas, tl_dtype dtype, int64_t rows, int64_t cols, int64_t k, const void *batch_panel,
                  const void *weight_panel, double beta, void *y, int64_t stride)
{
    const struct tl_tile_kernel *tile = &blas->tile[dtype];
    const void *a = tile->weights_first ? weight_panel : batch_panel;
    const void *b = tile->weights_first ? batch_panel : weight_panel;
    int64_t m = tile->weights_first ? cols : rows, n = tile->weights_first ? rows : cols;
    int64_t row_stride = tile->weights_first ? 1 : stride, col_stride = tile->weights_first ? stride : 1;
    auxinfo_t next;
    memset(&next, 0, sizeof next);
    bli_auxinfo_set_next_a((void *)a, &next);
    bli_auxinfo_set_next_b((void *)b, &next);
    if (dtype == TL_F32) {
        float one = 1, beta_f32 = (float)beta;
        ((sgemm_ukr_ft)tile->function)(m, n, k, &one, (float *)a, (float *)b, &beta_f32, y, row_stride, col_stride,
                                       &next, blas->context);
    } else {
        double one = 1;
        ((dgemm_ukr_ft)tile->function)(m, n, k, &one, (double *)a, (double *)b, &beta, y, row_stride, col_stride,
                                       &next, blas->context);
    }
}
#else
void tl_blas_tile(const tl_blas *blas, tl_dtype dtype, int64_t rows, int64_t cols, int64_t k, const void *batch_panel,
                  const void *weight_panel, double beta, void *y, int64_t stride)
{
    (void)blas, (void)dtype, (void)rows, (void)cols, (void)k;
    (void)batch_panel, (void)weight_panel, (void)beta, (void)y, (void)stride;
}
#endif
