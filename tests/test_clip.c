/* Clipping: by value, by the norm of all, by each parameter's own. */
#include "support.h"

#include "nn/clip.h"

enum { A = 3, B = 2, C = 1 };

static const double numbers[] = {3, -4, 0, 12, -0.5, 84}; /* norms 5, sqrt(144.25), 84 */

static void put(tl_params *p, const double *x)
{
    for (int k = 0; k < p->count; k++)
        for (int64_t i = 0; i < p->entry[k]->gradient->layout.count; i++)
            tl_tensor_set(p->entry[k]->gradient, i, *x++);
}

static void check(const tl_params *p, const double *expected, double tolerance)
{
    for (int k = 0; k < p->count; k++)
        for (int64_t i = 0; i < p->entry[k]->gradient->layout.count; i++)
            assert_near_at(tl_tensor_get(p->entry[k]->gradient, i), *expected++, tolerance, k);
}

static tl_params *three(tl_dtype dtype)
{
    tl_params *p = tl_params_new(dtype, 1);
    assert_non_null(p);
    tl_params_add(p, "", "a", 1, (const int64_t[]){A});
    tl_params_add(p, "", "b", 2, (const int64_t[]){B, 1});
    tl_params_add(p, "", "c", 1, (const int64_t[]){C});
    assert_int_equal(tl_params_status(p), TL_OK);
    put(p, numbers);
    return p;
}

static void each_number(void **state)
{
    (void)state;
    for (tl_dtype dtype = TL_F32; dtype <= TL_F64; dtype++) {
        tl_params *p = three(dtype);
        assert_same(tl_clip_gradient_value(p, 84), 84); /* none is above it */
        check(p, numbers, 0);
        assert_same(tl_clip_gradient_value(p, 3.5), 84);
        check(p, REALS(3, -3.5, 0, 3.5, -0.5, 3.5), 0);
        assert_same(tl_clip_gradient_value(p, 0), 3.5);
        check(p, REALS(0, 0, 0, 0, 0, 0), 0);
        tl_params_free(p);
    }
}

static void all_together(void **state)
{
    (void)state;
    for (tl_dtype dtype = TL_F32; dtype <= TL_F64; dtype++) {
        tl_params *p = three(dtype);
        const double norm = sqrt(25 + 144.25 + 84 * 84), tolerance = dtype == TL_F32 ? 1e-6 : 1e-14;
        double scaled[6];
        assert_near(tl_clip_gradient_norm(p, 90), norm, 1e-14);
        check(p, numbers, 0);
        assert_near(tl_clip_gradient_norm(p, 2), norm, 1e-14);
        for (int i = 0; i < 6; i++)
            scaled[i] = numbers[i] * 2 / norm;
        check(p, scaled, tolerance);
        assert_near(tl_gradient_norm(p), 2, tolerance);
        tl_params_free(p);
    }
}

static void each_parameter(void **state)
{
    (void)state;
    for (tl_dtype dtype = TL_F32; dtype <= TL_F64; dtype++) {
        tl_params *p = three(dtype);
        const double b = sqrt(144.25), tolerance = dtype == TL_F32 ? 1e-6 : 1e-14;
        assert_same(tl_clip_gradient_each(p, 84), 84);
        check(p, numbers, 0);
        assert_same(tl_clip_gradient_each(p, 6), 84); /* a's norm is 5: left alone */
        check(p, REALS(3, -4, 0, 12 * 6 / b, -0.5 * 6 / b, 6), tolerance);
        tl_params_free(p);
    }
}

typedef double clipping(tl_params *p, double limit);

static clipping *const all[] = {tl_clip_gradient_value, tl_clip_gradient_norm, tl_clip_gradient_each};

/* One bad number anywhere: nothing is changed, and the caller sees it. */
static void what_is_not_finite(void **state)
{
    (void)state;
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    for (int c = 0; c < COUNT_OF(all); c++)
        for (int k = 0; k < COUNT_OF(bad); k++)
            for (int at = 0; at < 6; at++) {
                double x[6];
                tl_params *p = three(TL_F64);
                memcpy(x, numbers, sizeof x);
                x[at] = bad[k];
                put(p, x);
                double size = all[c](p, 0.1);
                assert_true(isnan(bad[k]) ? isnan(size) : size == (double)INFINITY);
                check(p, x, 0);
                tl_params_free(p);
            }
}

static void limits_that_are_none(void **state)
{
    (void)state;
    for (int c = 0; c < COUNT_OF(all); c++) {
        tl_params *p = three(TL_F64);
        all[c](p, -1);
        all[c](p, (double)NAN);
        all[c](p, (double)INFINITY);
        check(p, numbers, 0);
        put(p, REALS(0, 0, 0, 0, 0, 0));
        assert_same(all[c](p, 1), 0);
        check(p, REALS(0, 0, 0, 0, 0, 0), 0);
        tl_params_free(p);
    }
}

static void what_is_frozen(void **state)
{
    (void)state;
    for (int c = 0; c < COUNT_OF(all); c++) {
        tl_params *p = three(TL_F64);
        put(p, REALS(3, -4, 0, 12, NAN, 84));
        p->entry[1]->frozen = p->entry[2]->frozen = true;
        assert_same(all[c](p, 1), c == 0 ? 4 : 5);
        double a = c == 0 ? 1 : 0.6, b = c == 0 ? -1 : -0.8;
        check(p, REALS(a, b, 0, 12, NAN, 84), 1e-15);
        tl_params_free(p);
    }
}

/* A tape that still needs the numbers finds out. */
static void a_tape_notices(void **state)
{
    (void)state;
    for (int c = 0; c < COUNT_OF(all); c++) {
        tl_params *p = three(TL_F64);
        uint64_t before = tl_tensor_version(p->entry[0]->gradient);
        all[c](p, 0.5);
        assert_true(tl_tensor_version(p->entry[0]->gradient) > before);
        tl_params_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_number),          cmocka_unit_test(all_together),
        cmocka_unit_test(each_parameter),       cmocka_unit_test(what_is_not_finite),
        cmocka_unit_test(limits_that_are_none), cmocka_unit_test(what_is_frozen),
        cmocka_unit_test(a_tape_notices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
