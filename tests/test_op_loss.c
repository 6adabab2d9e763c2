/* Losses: what the generated checks of test_ops.c and PyTorch's answers do not see. */
#include "support.h"

#include "autograd/gradcheck.h"
#include "autograd/named.h"

#define F(...)      tl_full(t, TL_F64, TL_SHAPE(__VA_ARGS__), 1)
#define SINGLE(...) tl_full(t, TL_F32, TL_SHAPE(__VA_ARGS__), 1)
#define INT(...)    tl_full(t, TL_I64, TL_SHAPE(__VA_ARGS__), 1)
#define SCALAR      tl_full(t, TL_F64, 0, NULL, 1)

static tl_var integers(tl_tape *t, int ndim, const int64_t *shape, const int64_t *numbers)
{
    return tl_constant_from(t, TL_I64, ndim, shape, numbers);
}

#define INTEGERS(...)                                                                                  \
    (const int64_t[])                                                                                  \
    {                                                                                                  \
        __VA_ARGS__                                                                                    \
    }

/* Refused with that message, and the tape as good as new after a reset. */
static void check_refused(tl_tape *t, tl_var y, tl_status status, const char *message, int line)
{
    assert_null(tl_value(t, y).data);
    check_error(t, status, message, __FILE__, line);
    assert_same(tl_item(t, tl_sum(t, tl_square(t, F(2)))), 2);
    tl_tape_reset(t);
}

#define REFUSED(y, status, message) check_refused(t, (y), (status), (message), __LINE__)

/* ---- element by element ----------------------------------------------------------------- */

static void pairs_are_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const tl_reduction mean = TL_REDUCE_MEAN, unknown = (tl_reduction)3, batch = TL_REDUCE_BATCHMEAN;
    const char *const loss[] = {"mse",   "l1",  "huber",           "smooth_l1",
                                "hinge", "bce", "bce_with_logits", "kl_div"};
    for (int k = 0; k < COUNT_OF(loss); k++)
        for (int bad = 0; bad < 3; bad++) {
            char message[TL_MESSAGE_SIZE];
            tl_var in[2] = {F(2, 3), bad == 1 ? F(4) : bad == 2 ? SINGLE(3) : F(3)};
            tl_attr attr = {.f = {1}, .flag = bad == 0 ? 9 : TL_REDUCE_MEAN};
            tl_var y = tl_apply(t, tl_op_find(loss[k]), 2, in, &attr);
            snprintf(message, sizeof message,
                     bad == 0   ? "%s: there is no reduction 9"
                     : bad == 1 ? "%s: shapes cannot be broadcast: [2,3] and [4]"
                                : "%s: operands differ in dtype: f64 and f32",
                     loss[k]);
            check_refused(t, y,
                          bad == 0   ? TL_ERR_ARGUMENT
                          : bad == 1 ? TL_ERR_SHAPE
                                     : TL_ERR_DTYPE,
                          message, __LINE__);
        }
    REFUSED(tl_mse(t, F(2), F(3), mean), TL_ERR_SHAPE, "mse: shapes cannot be broadcast: [2] and [3]");
    REFUSED(tl_l1(t, F(2), F(2), unknown), TL_ERR_ARGUMENT, "l1: there is no reduction 3");
    REFUSED(tl_huber(t, F(2), F(2), 0, mean), TL_ERR_ARGUMENT, "huber: delta must be positive, not 0");
    REFUSED(tl_smooth_l1(t, F(2), F(2), -1, mean), TL_ERR_ARGUMENT,
            "smooth_l1: beta must not be negative: -1");
    REFUSED(tl_bce(t, tl_affine(t, F(2), 1.5, 0), F(2), TL_NONE, mean), TL_ERR_ARGUMENT,
            "bce: 1.5 at element 0 is not a probability (bce)");
    REFUSED(tl_bce(t, tl_affine(t, F(2), -0.5, 0), F(1), TL_NONE, mean), TL_ERR_ARGUMENT,
            "bce: -0.5 at element 0 is not a probability (bce)");
    REFUSED(tl_bce(t, F(2), F(2), F(3), mean), TL_ERR_SHAPE,
            "bce: shapes cannot be broadcast: [2] and [3]");
    REFUSED(tl_bce_with_logits(t, F(2), F(2), TL_NONE, F(3), mean), TL_ERR_SHAPE,
            "bce_with_logits: shapes cannot be broadcast: [2] and [3]");
    REFUSED(tl_kl_div(t, SCALAR, SCALAR, false, batch), TL_ERR_SHAPE,
            "kl_div: [] has no first size to divide by");
    tl_tape_free(t);
}

static void pairs_without_elements(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *none = tl_tensor_empty(TL_F64, TL_SHAPE(0, 3), NULL);
    tl_var x = tl_leaf(t, none, NULL), dx;
    for (int reduction = 0; reduction < 3; reduction++) {
        const tl_reduction r = (tl_reduction)reduction;
        const tl_var y[] = {
            tl_mse(t, x, F(3), r),           tl_l1(t, x, F(3), r),
            tl_huber(t, x, F(3), 1, r),      tl_smooth_l1(t, x, F(3), 1, r),
            tl_hinge(t, x, F(3), 1, r),      tl_bce(t, x, F(3), F(3), r),
            tl_kl_div(t, x, F(3), false, r), tl_bce_with_logits(t, x, F(3), TL_NONE, F(3), r)};
        for (int k = 0; k < COUNT_OF(y); k++) {
            assert_shape(t, y[k], r == TL_REDUCE_NONE ? "[0,3]" : "[]");
            if (r == TL_REDUCE_MEAN)
                assert_true(isnan(tl_item(t, y[k])));
            if (r == TL_REDUCE_SUM)
                assert_same(tl_item(t, y[k]), 0);
            assert_int_equal(tl_grad(t, tl_sum(t, y[k]), TL_NONE, 1, &x, false, &dx), TL_OK);
            assert_shape(t, dx, "[0,3]");
        }
    }
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(none);
}

/* In f32 too: no overflow where the loss itself is none, no NaN where it is finite. */
static void losses_of_extreme_numbers(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const float far[] = {1e30f, -1e30f, INFINITY, 0};
    tl_tensor *numbers = tl_tensor_from(TL_F32, TL_SHAPE(4), far, NULL);
    tl_var x = tl_leaf(t, numbers, NULL), zero = tl_full(t, TL_F32, 0, NULL, 0), dx;
    tl_var y = tl_huber(t, x, zero, 2, TL_REDUCE_NONE);
    assert_value(t, y, REALS(2e30, 2e30, INFINITY, 0), 1e-6);
    tl_grad(t, y, tl_full(t, TL_F32, TL_SHAPE(4), 1), 1, &x, false, &dx);
    assert_value(t, tl_slice(t, dx, 0, 0, 2, 1), REALS(2, -2), 0);
    assert_same(item_at(t, dx, 3), 0);
    y = tl_bce_with_logits(t, x, zero, TL_NONE, TL_NONE, TL_REDUCE_NONE);
    assert_value(t, y, REALS(1e30f, 0, INFINITY, log(2)), 1e-7);
    tl_grad(t, y, tl_full(t, TL_F32, TL_SHAPE(4), 1), 1, &x, false, &dx);
    assert_value(t, dx, REALS(1, 0, 1, 0.5), 1e-7);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(numbers);
}

static void a_missing_weight_is_one(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double logits[] = {1, -2, 0.5}, target[] = {1, 0, 0.25}, positive[] = {2, 3, 0.5};
    tl_var x = constant_f64(t, TL_SHAPE(3), logits), y = constant_f64(t, TL_SHAPE(3), target),
           p = constant_f64(t, TL_SHAPE(3), positive);
    for (int reduction = 0; reduction < 3; reduction++)
        assert_vars(t, tl_bce_with_logits(t, x, y, TL_NONE, p, (tl_reduction)reduction),
                    tl_bce_with_logits(t, x, y, F(3), p, (tl_reduction)reduction), 0);
    assert_vars(t, tl_bce_with_logits(t, x, y, p, TL_NONE, TL_REDUCE_SUM),
                tl_bce(t, tl_sigmoid(t, x), y, p, TL_REDUCE_SUM), 1e-15);
    assert_ok(t);
    tl_tape_free(t);
}

/* ---- classes ---------------------------------------------------------------------------- */

static void classes_are_refused_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const int64_t k[] = {0, 4, -100, -1};
#define NLL(x, k, w)    tl_nll(t, (x), (k), (w), -100, TL_REDUCE_MEAN)
#define WITH(x, k, ...) tl_cross_entropy_with(t, (x), (k), &(tl_cross_entropy_options){__VA_ARGS__})
#define X               "cross_entropy_with"
    REFUSED(NLL(F(2, 3), INT(3), TL_NONE), TL_ERR_SHAPE,
            "nll: one target for each row of the logits: [2,3], targets [3]");
    REFUSED(NLL(SCALAR, INT(1), TL_NONE), TL_ERR_SHAPE,
            "nll: one target for each row of the logits: [], targets [1]");
    REFUSED(NLL(F(2, 3), F(2), TL_NONE), TL_ERR_DTYPE, "nll: targets must be i64, not f64");
    REFUSED(NLL(INT(2, 3), INT(2), TL_NONE), TL_ERR_DTYPE, "nll: logits must be f32 or f64, not i64");
    REFUSED(NLL(F(2, 3), INT(2), F(2)), TL_ERR_SHAPE,
            "nll: wants a weight for each class of [2,3], not [2]");
    REFUSED(NLL(F(2, 3), INT(2), SINGLE(3)), TL_ERR_DTYPE, "nll: the weight is f32, not f64");
    REFUSED(NLL(F(2, 4), integers(t, TL_SHAPE(2), k), TL_NONE), TL_ERR_INDEX,
            "nll: target 4 at row 1 is not one of the 4 classes");
    REFUSED(NLL(F(4, 5), integers(t, TL_SHAPE(4), k), TL_NONE), TL_ERR_INDEX,
            "nll: target -1 at row 3 is not one of the 5 classes");
    REFUSED(tl_nll(t, F(2, 3), INT(2), TL_NONE, 0, (tl_reduction)3), TL_ERR_ARGUMENT,
            "nll: there is no reduction 3");
    REFUSED(WITH(F(4, 5), integers(t, TL_SHAPE(4), k), .reduction = TL_REDUCE_SUM), TL_ERR_INDEX,
            X ": target -100 at row 2 is not one of the 5 classes");
    REFUSED(WITH(F(2, 3), INT(2), .label_smoothing = 1.5), TL_ERR_ARGUMENT,
            X ": label smoothing is within 0 and 1, not 1.5");
    REFUSED(WITH(F(2, 3), F(2), .label_smoothing = 0), TL_ERR_SHAPE,
            X ": one probability for each logit: [2,3], targets [2]");
    REFUSED(WITH(SCALAR, SCALAR, .label_smoothing = 0), TL_ERR_SHAPE,
            X ": one probability for each logit: [], targets []");
    REFUSED(WITH(F(2, 3), SINGLE(2, 3), .label_smoothing = 0), TL_ERR_DTYPE,
            X ": targets are f32, the logits f64");
    REFUSED(WITH(F(2, 3), F(2, 3), .weight = F(1)), TL_ERR_SHAPE,
            X ": wants a weight for each class of [2,3], not [1]");
    REFUSED(WITH(F(2, 3), F(2, 3), .reduction = (tl_reduction)3), TL_ERR_ARGUMENT,
            X ": there is no reduction 3");
    REFUSED(WITH(F(0, 0), INT(1), .reduction = TL_REDUCE_SUM), TL_ERR_SHAPE,
            X ": one target for each row of the logits: [0,0], targets [1]");
    REFUSED(WITH(F(1, 0), INT(1), .reduction = TL_REDUCE_SUM), TL_ERR_INDEX,
            X ": target 1 at row 0 is not one of the 0 classes");
    tl_tape_free(t);
}

/* Without options it is cross_entropy; an empty batch is one of no rows. */
static void plain_options_are_cross_entropy(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(2);
    tl_tensor *numbers = random_tensor(&d, TL_F64, TL_SHAPE(2, 3, 5), -9, 9);
    tl_var x = tl_leaf(t, numbers, NULL), k = integers(t, TL_SHAPE(2, 3), INTEGERS(0, 4, 2, 2, 1, 3)),
           dx[2];
    for (int reduction = 0; reduction < 3; reduction++) {
        const tl_reduction r = (tl_reduction)reduction;
        tl_var y[2] = {tl_cross_entropy(t, x, k, r), WITH(x, k, .reduction = r)};
        assert_vars(t, y[1], y[0], 1e-14);
        for (int i = 0; i < 2; i++)
            tl_grad(t, tl_sum(t, tl_square(t, y[i])), TL_NONE, 1, &x, true, &dx[i]);
        assert_vars(t, dx[1], dx[0], 1e-14);
    }
    assert_vars(t, tl_cross_entropy_with(t, x, k, NULL), tl_cross_entropy(t, x, k, TL_REDUCE_MEAN),
                1e-14);
    assert_true(isnan(tl_item(t, tl_cross_entropy_with(t, F(0, 3), INT(0), NULL))));
    assert_same(tl_item(t, WITH(F(0, 3), INT(0), .reduction = TL_REDUCE_SUM)), 0);
    assert_shape(t, WITH(F(0, 3), F(0, 3), .reduction = TL_REDUCE_NONE), "[0]");
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(numbers);
}

/* Rows that are ignored get no gradient, whatever stands in them. */
static void ignored_rows_may_hold_anything(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double numbers[] = {-INFINITY, -INFINITY, NAN, 0, -1, -2};
    tl_tensor *log_p = tl_tensor_from(TL_F64, TL_SHAPE(2, 3), numbers, NULL);
    tl_var x = tl_leaf(t, log_p, NULL), w = F(3), dx;
    tl_var y = tl_nll(t, x, integers(t, TL_SHAPE(2), INTEGERS(7, 1)), w, 7, TL_REDUCE_MEAN);
    assert_same(tl_item(t, y), 1);
    tl_grad(t, y, TL_NONE, 1, &x, false, &dx);
    assert_value(t, dx, REALS(0, 0, 0, 0, -1, 0), 0);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(log_p);
}

/* ---- ctc -------------------------------------------------------------------------------- */

enum { FRAMES = 5, CLASSES = 3, LABELS = 2 };

/* Is `label` what the path reads, once repetitions and then blanks (0) are taken out? */
static bool reads(const int *path, int frames, const int64_t *label, int64_t labels)
{
    int64_t n = 0;
    for (int f = 0; f < frames; f++) {
        if (path[f] == 0 || (f > 0 && path[f] == path[f - 1]))
            continue;
        if (n == labels || label[n] != path[f])
            return false;
        n++;
    }
    return n == labels;
}

/* The definition: over all paths. */
static double by_enumeration(const tl_tensor *x, int64_t row, int64_t rows, int frames,
                             const int64_t *label, int64_t labels)
{
    double probability = 0;
    int paths = 1;
    for (int f = 0; f < frames; f++)
        paths *= CLASSES;
    for (int number = 0; number < paths; number++) {
        int path[FRAMES], rest = number;
        double log_p = 0;
        for (int f = 0; f < frames; f++, rest /= CLASSES) {
            path[f] = rest % CLASSES;
            log_p += tl_tensor_get(x, (f * rows + row) * CLASSES + path[f]);
        }
        if (reads(path, frames, label, labels))
            probability += exp(log_p);
    }
    return -log(probability);
}

static void ctc_is_the_sum_over_all_paths(void **state)
{
    (void)state;
    enum { ROWS = 10 };
    tl_tape *t = tl_tape_new(NULL);
    dice d = dice_of(12);
    tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(FRAMES, ROWS, CLASSES), -3, 0);
    const int64_t label[ROWS][LABELS] = {{1, 2}, {1, 1}, {2, 1}, {2, 2},  {1, 9},
                                         {9, 9}, {1, 1}, {1, 1}, {2, -1}, {9, 9}},
                  labels[ROWS] = {2, 2, 2, 2, 1, 0, 2, 2, 1, 0},
                  frames[ROWS] = {5, 5, 4, 3, 5, 5, 3, 2, 0, 0};
    tl_var y = tl_ctc_loss(t, tl_constant(t, x), integers(t, TL_SHAPE(ROWS, LABELS), label[0]),
                           integers(t, TL_SHAPE(ROWS), frames), integers(t, TL_SHAPE(ROWS), labels), 0,
                           false, TL_REDUCE_NONE);
    for (int64_t b = 0; b < ROWS; b++) {
        double expected = by_enumeration(x, b, ROWS, (int)frames[b], label[b], labels[b]);
        assert_near_at(item_at(t, y, b), expected, 1e-14, b);
        assert_true(isfinite(expected) == (b != 7 && b != 8));
    }
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(x);
}

static tl_var ctc_of_row(tl_tape *t, tl_var x, const int64_t *label, int64_t labels, bool zero)
{
    const int64_t frames = tl_value(t, x).layout->shape[0];
    return tl_ctc_loss(t, x, integers(t, TL_SHAPE(1, labels), label), integers(t, TL_SHAPE(1), &frames),
                       integers(t, TL_SHAPE(1), &labels), 0, zero, TL_REDUCE_SUM);
}

static void ctc_of_the_impossible(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    const double certain[] = {-INFINITY, 0,         -INFINITY, 0,        -INFINITY,
                              -INFINITY, -INFINITY, 0,         -INFINITY};
    tl_tensor *log_p =
        tl_tensor_from(TL_F64, TL_SHAPE(3, 1, 3), certain, NULL); /* reads 1 1 for sure */
    tl_var x = tl_leaf(t, log_p, NULL), dx, ddx;
    for (int zero = 0; zero < 2; zero++) {
        tl_var y = ctc_of_row(t, x, INTEGERS(1, 2), 2, zero);
        assert_same(tl_item(t, y), zero ? 0 : INFINITY);
        tl_grad(t, y, TL_NONE, 1, &x, true, &dx);
        for (int64_t i = 0; i < 9; i++)
            assert_same(item_at(t, dx, i), 0);
    }
    tl_var y = ctc_of_row(t, x, INTEGERS(1, 1), 2, false);
    assert_same(tl_item(t, y), 0);
    tl_grad(t, y, TL_NONE, 1, &x, true, &dx);
    assert_value(t, dx, REALS(0, -1, 0, -1, 0, 0, 0, -1, 0), 1e-15);
    tl_grad(t, tl_sum(t, tl_square(t, dx)), TL_NONE, 1, &x, false, &ddx);
    assert_value(t, ddx, REALS(0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
    tl_var one = F(3, 1, 3), moved = tl_jvp(t, y, 1, &x, &one);
    assert_same(tl_item(t, moved), -3);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(log_p);
}

/* Many states that are not reached at first: their derivatives must not pile up, in f32 above all. */
static void ctc_of_a_long_row(void **state)
{
    (void)state;
    enum { LONG = 400, SPOKEN = 150, KINDS = 5 };
    tl_tensor *second[2];
    for (int single = 0; single < 2; single++) {
        tl_tape *t = tl_tape_new(NULL);
        dice d = dice_of(4);
        tl_tensor *logits =
            random_tensor(&d, single ? TL_F32 : TL_F64, TL_SHAPE(LONG, 1, KINDS), -1, 1);
        int64_t label[SPOKEN];
        for (int k = 0; k < SPOKEN; k++)
            label[k] = 1 + dice_below(&d, KINDS - 1);
        tl_var x = tl_leaf(t, logits, NULL), dx, ddx;
        tl_var y = ctc_of_row(t, tl_log_softmax(t, x), label, SPOKEN, false);
        tl_grad(t, y, TL_NONE, 1, &x, true, &dx);
        tl_grad(t, tl_sum(t, tl_square(t, dx)), TL_NONE, 1, &x, false, &ddx);
        second[single] = value_of(t, ddx);
        tl_tape_free(t);
        tl_tensor_release(logits);
    }
    double largest = 0;
    for (int64_t i = 0; i < second[0]->layout.count; i++)
        largest = fmax(largest, fabs(tl_tensor_get(second[0], i)));
    assert_true(isfinite(largest) && largest > 0.1);
    assert_tensors(second[1], second[0], 2e-3);
    tl_tensor_release(second[0]);
    tl_tensor_release(second[1]);
}

static void ctc_refuses_in_words(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
#define CTC(x, k, n, m, blank) tl_ctc_loss(t, (x), (k), (n), (m), (blank), false, TL_REDUCE_MEAN)
#define TWO(...)               integers(t, TL_SHAPE(2), INTEGERS(__VA_ARGS__))
#define BAD(y, status, reason) REFUSED(y, status, "ctc_loss: " reason)
    BAD(CTC(F(4, 2), INT(2, 3), TWO(4, 4), TWO(1, 1), 0), TL_ERR_SHAPE,
        "wants [T,B,C], [B,S], [B] and [B], not [4,2], [2,3], [2] and [2]");
    BAD(CTC(F(4, 3, 5), INT(2, 3), TWO(4, 4), TWO(1, 1), 0), TL_ERR_SHAPE,
        "wants [T,B,C], [B,S], [B] and [B], not [4,3,5], [2,3], [2] and [2]");
    BAD(CTC(F(4, 2, 5), INT(2, 3), INT(3), TWO(1, 1), 0), TL_ERR_SHAPE,
        "wants [T,B,C], [B,S], [B] and [B], not [4,2,5], [2,3], [3] and [2]");
    BAD(CTC(F(4, 2, 5), INT(2, 3), TWO(4, 4), INT(2, 1), 0), TL_ERR_SHAPE,
        "wants [T,B,C], [B,S], [B] and [B], not [4,2,5], [2,3], [2] and [2,1]");
    BAD(CTC(INT(4, 2, 5), INT(2, 3), TWO(4, 4), TWO(1, 1), 0), TL_ERR_DTYPE,
        "log-probabilities must be f32 or f64, not i64");
    BAD(CTC(F(4, 2, 5), INT(2, 3), F(2), TWO(1, 1), 0), TL_ERR_DTYPE,
        "targets and lengths must be i64, not f64");
    BAD(CTC(F(4, 2, 5), INT(2, 3), TWO(4, 5), TWO(1, 1), 0), TL_ERR_INDEX,
        "input length 5 of row 1 is not within 0 and 4");
    BAD(CTC(F(4, 2, 5), INT(2, 3), TWO(4, 4), TWO(-1, 1), 0), TL_ERR_INDEX,
        "target length -1 of row 0 is not within 0 and 3");
    BAD(CTC(F(4, 2, 5), INT(2, 3), TWO(4, 4), TWO(4, 1), 0), TL_ERR_INDEX,
        "target length 4 of row 0 is not within 0 and 3");
    BAD(CTC(F(4, 2, 5), INT(2, 3), TWO(4, 4), TWO(1, 1), 5), TL_ERR_INDEX,
        "the blank, 5, is not one of the 5 classes");
    BAD(CTC(F(4, 2, 5), INT(2, 3), TWO(4, 4), TWO(0, 1), 1), TL_ERR_INDEX,
        "label 1 of row 1 is not one of the 5 classes beside the blank, 1");
    BAD(CTC(F(4, 2, 1), INT(2, 3), TWO(4, 4), TWO(2, 1), 0), TL_ERR_INDEX,
        "label 1 of row 0 is not one of the 1 classes beside the blank, 0");
    BAD(tl_ctc_loss(t, F(4, 2, 5), INT(2, 3), TWO(4, 4), TWO(1, 1), 0, false, (tl_reduction)3),
        TL_ERR_ARGUMENT, "there is no reduction 3");
    assert_true(isnan(tl_item(t, CTC(F(4, 0, 5), INT(0, 3), INT(0), INT(0), 0)))); /* no rows */
    assert_same(tl_item(t, CTC(F(0, 2, 5), INT(2, 0), TWO(0, 0), TWO(0, 0), 0)), 0);
    assert_same(tl_item(t, CTC(F(4, 2, 5), INT(2, 0), TWO(4, 3), TWO(0, 0), 0)),
                -3.5); /* 1 is its log p */
    assert_ok(t);
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_refused_in_words),
        cmocka_unit_test(pairs_without_elements),
        cmocka_unit_test(losses_of_extreme_numbers),
        cmocka_unit_test(a_missing_weight_is_one),
        cmocka_unit_test(classes_are_refused_in_words),
        cmocka_unit_test(plain_options_are_cross_entropy),
        cmocka_unit_test(ignored_rows_may_hold_anything),
        cmocka_unit_test(ctc_is_the_sum_over_all_paths),
        cmocka_unit_test(ctc_of_the_impossible),
        cmocka_unit_test(ctc_of_a_long_row),
        cmocka_unit_test(ctc_refuses_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
