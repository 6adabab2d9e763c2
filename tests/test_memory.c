/* Memory: none is asked for once a step has been done; every allocation may fail; limits hold. */
#include "nets.h"

#include <malloc.h>
#include <unistd.h>

#include "nn/clip.h"
#include "nn/bptt.h"
#include "nn/linear.h"
#include "nn/optim.h"

/* ---- the system's allocator, watched ---------------------------------------------------
 *
 * The library takes its memory from aligned_alloc, which this program has its own of: it counts, and
 * it can fail. Sanitizers bring allocators that must not be replaced; without one, every other
 * way to memory is counted, too: malloc and its relatives, whoever calls them. */

static long calls;     /* since the counter was last set */
static long fails_at;  /* the n-th aligned_alloc from now; 0: none */
static bool and_after; /* and all that follow */
static bool has_failed;

static bool fails_now(void)
{
    if (!fails_at)
        return false;
    if (fails_at > 1) {
        fails_at--;
        return false;
    }
    if (!and_after)
        fails_at = 0;
    has_failed = true;
    return true;
}

#if defined(__GLIBC__) && !defined(TEST_SANITIZED)
#define WATCHED true
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *pointer, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *pointer);

static void *counted(void *pointer)
{
    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
    return pointer;
}

void *malloc(size_t bytes)
{
    return counted(__libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes)
{
    return counted(__libc_calloc(count, bytes));
}

void *realloc(void *pointer, size_t bytes)
{
    return counted(__libc_realloc(pointer, bytes));
}

void *memalign(size_t alignment, size_t bytes)
{
    return counted(__libc_memalign(alignment, bytes));
}

int posix_memalign(void **pointer, size_t alignment, size_t bytes)
{
    *pointer = counted(__libc_memalign(alignment, bytes));
    return *pointer ? 0 : 12; /* ENOMEM */
}

void free(void *pointer)
{
    if (pointer)
        __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
    __libc_free(pointer);
}
#else
#define WATCHED false
#endif

void *aligned_alloc(size_t alignment, size_t bytes)
{
    void *pointer = NULL;
    if (fails_now() || bytes >> 40 || posix_memalign(&pointer, alignment, bytes) != 0)
        return NULL;
#if !WATCHED
    calls++;
#endif
    return pointer;
}

/* ---- a model and a step of training ----------------------------------------------------- */

enum { T = 9, B = 5, I = 7, H = 12, CLASSES = 11 };

typedef struct trainer {
    tl_tape *t;
    tl_params *params;
    tl_rnn rnn;
    tl_linear_layer head;
    tl_optimizer *optimizer;
    tl_tensor *x, *target;
} trainer;

static void trainer_free(trainer *w)
{
    tl_optimizer_free(w->optimizer);
    tl_rnn_free(&w->rnn);
    tl_params_free(w->params);
    tl_tensor_release(w->x);
    tl_tensor_release(w->target);
    tl_tape_free(w->t);
    *w = (trainer){0};
}

static tl_status build(trainer *w, const tl_tape_config *config, tl_dtype dtype)
{
    *w = (trainer){.t = tl_tape_new(config), .params = tl_params_new(dtype, 1)};
    if (!w->t || !w->params)
        return TL_ERR_MEMORY;
    tl_rnn_init(&w->rnn, w->params,
                &(tl_rnn_config){.cell = &tl_lstm_cell,
                                 .options = &(tl_lstm_options){.forget_bias = 1},
                                 .input = I,
                                 .hidden = H,
                                 .layers = 2,
                                 .init = TL_RNN_ORTHOGONAL});
    tl_linear_init(&w->head, w->params, "head.", H, CLASSES, true);
    if (tl_params_status(w->params) != TL_OK)
        return tl_params_status(w->params);
    w->optimizer = tl_optimizer_new(w->params, &(tl_optimizer_config){.kind = TL_ADAM, .rate = 0.01});
    w->x = tl_tensor_empty(dtype, TL_SHAPE(T, B, I), NULL);
    w->target = tl_tensor_zeros(TL_I64, TL_SHAPE(T, B), NULL);
    if (!w->optimizer || !w->x || !w->target)
        return TL_ERR_MEMORY;
    for (int64_t i = 0; i < w->x->layout.count; i++)
        tl_tensor_set(w->x, i, sin(0.37 * (double)i));
    for (int64_t i = 0; i < T * B; i++)
        ((int64_t *)w->target->data)[i] = i * 5 % CLASSES;
    return TL_OK;
}

/* Forward, backward, clip, update. State is carried from step to step where `state` is given. */
static tl_status train(trainer *w, double *loss, tl_var *state)
{
    tl_zero_gradients(w->params);
    tl_var y = tl_linear(w->t, tl_unroll(w->t, &w->rnn, tl_constant(w->t, w->x), state), &w->head);
    tl_var l = tl_cross_entropy(w->t, y, tl_constant(w->t, w->target), TL_REDUCE_MEAN);
    if (tl_backward(w->t, l) != TL_OK)
        return tl_tape_status(w->t);
    *loss = tl_item(w->t, l);
    tl_clip_gradient_norm(w->params, 1);
    tl_optimizer_step(w->optimizer);
    if (state)
        return tl_tape_restart(w->t, 4, state);
    tl_tape_reset(w->t);
    return TL_OK;
}

/* ---- no memory after the first step ----------------------------------------------------- */

static void later_steps_ask_for_no_memory(void **state)
{
    (void)state;
    if (!WATCHED)
        print_message("under a sanitizer: only the library's own allocations are counted\n");
    for (int threads = 1; threads <= 2; threads++)
        for (int carry = 0; carry < 2; carry++)
            for (int dtype = TL_F32; dtype <= TL_F64; dtype++) {
                trainer w;
                tl_var kept[4] = {TL_NONE, TL_NONE, TL_NONE, TL_NONE};
                double loss[5];
                assert_int_equal(build(&w, &(tl_tape_config){.threads = threads}, (tl_dtype)dtype),
                                 TL_OK);
                int first =
                    1 + carry; /* the first step starts from zeros and not from a state: it differs */
                for (int step = 0; step < first; step++)
                    assert_int_equal(train(&w, &loss[step], carry ? kept : NULL), TL_OK);
                tl_tape_usage before = tl_tape_measure(w.t);
                calls = 0;
                tl_status status[2];
                for (int step = 0; step < 2; step++)
                    status[step] = train(&w, &loss[first + step], carry ? kept : NULL);
                long seen = calls;
                tl_tape_usage after = tl_tape_measure(w.t);
                assert_true(status[0] == TL_OK && status[1] == TL_OK);
                if (seen)
                    fail_msg("%d threads, carry %d: %ld calls to the allocator in two steps", threads,
                             carry, seen);
                assert_int_equal(after.system_calls, before.system_calls);
                assert_int_equal(after.held, before.held);
                assert_true(loss[first + 1] < loss[0]); /* and it learned something */
                trainer_free(&w);
            }
}

/* A gradient of a gradient, a region, a kept gradient: the same. */
static void other_work_asks_for_no_memory_either(void **state)
{
    (void)state;
    trainer w;
    assert_int_equal(build(&w, NULL, TL_F64), TL_OK);
    tl_tape_usage before = {0};
    for (int round = 0; round < 4; round++) {
        tl_tape *t = w.t;
        tl_var x = tl_leaf(t, w.x, NULL), grad, y = tl_unroll(t, &w.rnn, x, NULL);
        tl_keep_gradient(t, y);
        tl_grad(t, tl_sum(t, tl_square(t, y)), TL_NONE, 1, &x, true, &grad);
        tl_no_record_begin(t);
        tl_var norm = tl_sum(t, tl_square(t, grad));
        tl_no_record_end(t, 1, &norm);
        assert_int_equal(tl_backward(t, tl_mul(t, norm, tl_mean(t, tl_square(t, grad)))), TL_OK);
        if (round == 1) {
            before = tl_tape_measure(t);
            calls = 0;
        }
        if (round > 1) {
            assert_int_equal(tl_tape_measure(t).system_calls, before.system_calls);
            assert_int_equal(tl_tape_measure(t).peak, before.peak);
        }
        tl_tape_reset(t);
        assert_int_equal(tl_tape_measure(t).live, 0);
        assert_int_equal(tl_tape_measure(t).variables, 0);
    }
    assert_int_equal(calls, 0);
    trainer_free(&w);
}

/* Lengths, masks, noise, handles, all that a network can have: the same. */
static void unrolling_with_everything_asks_for_no_memory(void **state)
{
    (void)state;
    const tl_rnn_config config = {.cell = &tl_lstm_cell,
                                  .options = &(tl_lstm_options){.peephole = true, .layer_norm = true},
                                  .input = 2 * H,
                                  .hidden = H,
                                  .layers = 2,
                                  .bidirectional = true,
                                  .connection = TL_HIGHWAY,
                                  .layer_norm = true,
                                  .learned_state = true,
                                  .dropout = 0.1,
                                  .variational = 0.1,
                                  .recurrent_dropout = 0.1,
                                  .drop_connect = 0.1,
                                  .zoneout = {0.1, 0.1}};
    static const int64_t lengths[B] = {T, 3, 0, 1, 5};
    net n = net_from(&config);
    tl_tensor *x = tl_tensor_zeros(TL_F64, TL_SHAPE(T, B, 2 * H), NULL);
    tl_tape *t = tl_tape_new(NULL);
    tl_tape_usage before = {0};
    for (int round = 0; round < 4; round++) {
        tl_unrolled handles;
        const tl_unroll_options options = {.lengths = lengths,
                                           .reset = tl_full(t, TL_U8, TL_SHAPE(T, B), 1),
                                           .training = true,
                                           .handles = &handles,
                                           .keep_gradients = true};
        tl_var y = tl_unroll_with(t, &n.rnn, tl_constant(t, x), NULL, &options);
        tl_var loss = tl_add(t, tl_sum(t, y), tl_sum(t, tl_step_state(&handles, 1, 1, 1, 2)));
        assert_int_equal(tl_backward(t, loss), TL_OK);
        tl_state_gradients(t, &handles, 0, 1, 1);
        assert_int_equal(tl_tape_status(t), TL_OK);
        tl_tape_reset(t);
        if (round == 1) {
            before = tl_tape_measure(t);
            calls = 0;
        }
    }
    assert_int_equal(calls, 0);
    assert_int_equal(tl_tape_measure(t).system_calls, before.system_calls);
    assert_int_equal(tl_tape_measure(t).peak, before.peak);
    tl_tape_free(t);
    tl_tensor_release(x);
    net_free(&n);
}

/* What a region holds is given back at its end: the caller's output_grad and all that the walk made. */
static void regions_give_everything_back(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tl_tensor_zeros(TL_F64, TL_SHAPE(1000), NULL);
    tl_var v = tl_leaf(t, x, NULL), y = tl_tanh(t, v), seed = tl_full(t, TL_F64, TL_SHAPE(1000), 1);
    size_t live[3];
    for (int round = 0; round < 300; round++) {
        tl_no_record_begin(t);
        tl_grad(t, y, tl_exp(t, seed), 0, NULL, false, NULL);
        tl_square(t, tl_reshape(t, tl_exp(t, seed), TL_SHAPE(10, 100)));
        tl_no_record_end(t, 0, NULL);
        if (round % 149 == 0)
            live[round / 149] = tl_tape_measure(t).live;
    }
    assert_int_equal(live[1], live[2]);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(x);
}

/* Gradients of intermediates go back to the pool: a backward walk over T steps needs no more blocks
 * than a few steps do. */
static void spent_gradients_are_given_back(void **state)
{
    (void)state;
    size_t extra[2];
    for (int k = 0; k < 2; k++) {
        tl_tape *t = tl_tape_new(NULL);
        tl_tensor *x = tl_tensor_zeros(TL_F64, TL_SHAPE(1000), NULL);
        tl_var y = tl_leaf(t, x, NULL);
        for (int step = 0; step < (k ? 1000 : 100); step++)
            y = tl_tanh(t, tl_affine(t, y, 0.9, 0.1));
        y = tl_sum(t, y);
        size_t before = tl_tape_measure(t).live;
        assert_int_equal(tl_backward(t, y), TL_OK);
        extra[k] = tl_tape_measure(t).peak - before;
        tl_tape_free(t);
        tl_tensor_release(x);
    }
    assert_true(extra[1] <= extra[0] + 8000);
}

/* ---- every allocation fails once -------------------------------------------------------- */

/* All of it, from nothing to a saved file. Returns the first failure; `trained`: how far it got. */
static tl_status life(trainer *w, const char *path)
{
    double loss;
    tl_error error = {.status = TL_OK};
    tl_status status = build(w, NULL, TL_F32);
    for (int step = 0; step < 2 && status == TL_OK; step++)
        status = train(w, &loss, NULL);
    if (status == TL_OK)
        status = tl_params_save(w->params, path, 0, NULL, &error);
    if (status == TL_OK)
        status = tl_params_load(w->params, path, &error);
    assert_true(status == TL_OK || error.status == TL_OK || error.status == status);
    return status;
}

static void a_failing_allocation_is_survived(void **state)
{
    (void)state;
    char path[] = "/tmp/tapeloop_test_memory_XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    trainer w;
    double expected, loss;
    assert_int_equal(build(&w, NULL, TL_F32), TL_OK);
    assert_int_equal(train(&w, &expected, NULL), TL_OK);
    trainer_free(&w);
    for (int mode = 0; mode < 2; mode++) { /* one alone, or all from there on */
        long n = 1, made_up_for = 0;       /* by a smaller request */
        for (;; n++) {
            fails_at = n;
            has_failed = false;
            and_after = mode;
            tl_status status = life(&w, path);
            bool reached = has_failed;
            fails_at = 0;
            if (!reached) {
                assert_int_equal(status, TL_OK);
                trainer_free(&w);
                break;
            }
            made_up_for += status == TL_OK;
            if (status != TL_ERR_MEMORY && (mode || status != TL_OK))
                fail_msg("allocation %ld failed, but the status is %d: %s", n, status,
                         tl_status_text(status));
            if (w.t &&
                tl_tape_status(w.t) != TL_OK) { /* the tape is of use again when there is memory */
                assert_int_equal(tl_tape_status(w.t), TL_ERR_MEMORY);
                assert_int_equal(strncmp(tl_tape_message(w.t), "out of memory: the tape holds ", 30),
                                 0);
                tl_tape_reset(w.t);
                assert_int_equal(tl_tape_measure(w.t).live, 0);
                assert_int_equal(train(&w, &loss, NULL), TL_OK);
                assert_true(isfinite(loss));
                tl_tape_reset(w.t);
            }
            trainer_free(&w);
        }
        print_message("%ld allocations, each failed%s\n", n - 1, mode ? " with all that follow" : "");
        assert_true(n > 60 && made_up_for <= 5);
    }
    unlink(path);
}

/* The same for what a step of training does not meet. */
static void odd_work(tl_tape *t, tl_tensor *x, tl_tensor *g)
{
    tl_var v = tl_leaf(t, x, g), many[40], grads[2], keep[20];
    for (int k = 0; k < COUNT_OF(many); k++)
        many[k] = tl_affine(t, v, k, 1);
    tl_var piled = tl_stack(t, COUNT_OF(many), many, 1), row = tl_concat(t, COUNT_OF(many), many, 0);
    tl_keep_gradient(t, piled);
    tl_no_record_begin(t);
    tl_var a = tl_exp(t, tl_transpose(t, piled, 0, 1)), b = tl_softmax(t, a);
    tl_no_record_begin(t);
    tl_var c = tl_matmul(t, b, tl_transpose(t, a, 1, 2));
    tl_no_record_end(t, 1, &c);
    tl_no_record_end(t, 2, (tl_var[]){a, c});
    tl_var odd = tl_slice(t, tl_transpose(t, v, 0, 1), 0, 0, 4, 2);
    tl_var weight = tl_mul(t, v, v), y = tl_linear_op(t, odd, odd, TL_NONE);
    y = tl_add(t, tl_sum(t, tl_linear_transposed(t, tl_transpose(t, tl_square(t, row), 0, 1), row)),
               tl_sum(t, y));
    y = tl_add(t, y, tl_sum(t, tl_log_softmax(t, piled)));
    y = tl_add(
        t, y,
        tl_sum(t, tl_mul(t, tl_reshape(t, weight, TL_SHAPE(-1)), tl_reshape(t, v, TL_SHAPE(-1)))));
    tl_grad(t, y, TL_NONE, 2, (tl_var[]){v, piled}, true, grads);
    tl_var z = tl_add(t, tl_sum(t, tl_square(t, grads[0])), y);
    tl_backward_retain(t, z);
    tl_backward(t, z);
    for (int k = 0; k < COUNT_OF(keep); k++)
        keep[k] = k % 2 ? many[k] : tl_gradient(t, v);
    tl_tape_restart(t, COUNT_OF(keep), keep);
    tl_mul(t, keep[0], keep[1]);
    tl_scratch(t, 3 << 20);
    for (int k = 0; k < 100; k++) /* more than the first list of scopes holds */
        tl_scope_begin(t, "deep", k);
    for (int k = 0; k < 100; k++)
        tl_scope_end(t);
    for (int k = 0; k < 1100; k++) /* more than a chunk of nodes, of layouts and of held tensors */
        tl_sum(t, tl_reshape(t, tl_constant(t, x), TL_SHAPE(1, 24)));
    for (int64_t k = 1; k < 60; k++)
        tl_full(t, TL_F64, TL_SHAPE(k, 1), 1);
}

static void a_failing_allocation_is_survived_elsewhere(void **state)
{
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        long n = 1, made_up_for = 0;
        for (bool reached = true; reached; n++) {
            tl_tape *t = tl_tape_new(NULL);
            tl_tensor *x = tl_tensor_zeros(TL_F64, TL_SHAPE(6, 4), NULL), *g = zeros_like(x);
            for (int64_t i = 0; i < 24; i++)
                tl_tensor_set(x, i, 0.01 * (double)i);
            fails_at = n;
            has_failed = false;
            and_after = mode;
            odd_work(t, x, g);
            reached = has_failed;
            fails_at = 0;
            made_up_for += reached && tl_tape_status(t) == TL_OK;
            if (tl_tape_status(t) != (reached ? TL_ERR_MEMORY : TL_OK) &&
                (mode || tl_tape_status(t) != TL_OK))
                fail_msg("allocation %ld: status %d %s", n, tl_tape_status(t), tl_tape_message(t));
            tl_tape_reset(t);
            assert_int_equal(tl_tape_measure(t).live, 0);
            odd_work(t, x, g);
            assert_ok(t);
            tl_tape_free(t);
            tl_tensor_release(x);
            tl_tensor_release(g);
        }
        assert_true(n > 20 && made_up_for <= 5);
    }
}

/* And for truncated BPTT with old activations kept, which copies weights and records again. */
static tl_var record_chain(tl_tape *t, void *model, int64_t from, int64_t to, tl_var *state)
{
    tl_params *params = model;
    for (int64_t step = from; step < to; step++)
        state[0] = tl_tanh(t, tl_mul(t, state[0], tl_use(t, params->entry[0])));
    return tl_sum(t, state[0]);
}

static bool update_chain(void *model, const tl_bptt_pass *pass)
{
    tl_params *params = model;
    tl_tensor_set(params->entry[0]->value, 0, 1 + 0.01 * (double)pass->index);
    return true;
}

static void a_failing_allocation_is_survived_by_truncation(void **state)
{
    (void)state;
    for (int mode = 0; mode < 4; mode++) {
        long n = 1;
        for (bool reached = true; reached; n++) {
            tl_params *params = tl_params_new(TL_F64, 1);
            tl_params_add(params, "", "w", TL_SHAPE(3));
            tl_tape *t = tl_tape_new(NULL);
            tl_var h = tl_full(t, TL_F64, TL_SHAPE(3), 1);
            tl_bptt bptt = {.k1 = 2, .k2 = 5, .model = params, .params = params};
            bptt.record = record_chain, bptt.update = update_chain;
            bptt.old = mode & 2 ? TL_OLD_KEPT : TL_OLD_RECOMPUTED;
            fails_at = n;
            has_failed = false;
            and_after = mode & 1;
            tl_bptt_run(t, &bptt, 31, 1, &h);
            reached = has_failed;
            fails_at = 0;
            if (tl_tape_status(t) != TL_OK && (!reached || tl_tape_status(t) != TL_ERR_MEMORY))
                fail_msg("allocation %ld: status %d %s", n, tl_tape_status(t), tl_tape_message(t));
            tl_tape_reset(t);
            h = tl_full(t, TL_F64, TL_SHAPE(3), 1);
            assert_int_equal(tl_bptt_run(t, &bptt, 31, 1, &h), TL_OK);
            tl_tape_free(t);
            tl_params_free(params);
        }
        print_message("%ld allocations of truncated BPTT, each failed\n", n - 1);
        assert_true(n > 8);
    }
}

/* ---- limits ----------------------------------------------------------------------------- */

static void a_limit_holds(void **state)
{
    (void)state;
    trainer w;
    double loss;
    assert_int_equal(build(&w, NULL, TL_F32), TL_OK);
    assert_int_equal(train(&w, &loss, NULL), TL_OK);
    size_t enough = tl_tape_measure(w.t).held;
    trainer_free(&w);

    int refused = 0, done = 0;
    for (size_t limit = 1; limit <= enough; limit += enough / 23) {
        assert_int_equal(build(&w, &(tl_tape_config){.memory = limit}, TL_F32), TL_OK);
        for (int again = 0; again < 2; again++) {
            tl_status status = train(&w, &loss, NULL);
            assert_true(tl_tape_measure(w.t).held <= limit);
            if (status == TL_OK) {
                done++;
                continue;
            }
            char message[128];
            refused++;
            assert_int_equal(status, TL_ERR_MEMORY);
            snprintf(message, sizeof message, " of at most %zu bytes", limit);
            assert_non_null(strstr(tl_tape_message(w.t), message));
            tl_tape_reset(w.t);
            assert_int_equal(tl_tape_measure(w.t).live, 0);
            tl_var one = tl_full(w.t, TL_F32, TL_SHAPE(2), 1); /* something small, if anything */
            assert_true(limit < 400000 || tl_item(w.t, tl_sum(w.t, one)) == 2);
            tl_tape_reset(w.t);
        }
        trainer_free(&w);
    }
    assert_true(refused > 4);
    assert_int_equal(build(&w, &(tl_tape_config){.memory = enough}, TL_F32), TL_OK);
    assert_int_equal(train(&w, &loss, NULL), TL_OK);
    assert_true(tl_tape_measure(w.t).held <= enough);
    trainer_free(&w);
    (void)done;
}

/* A weight that is sliced anew at every step must not be laid out anew at every step as well. */
static void a_slice_of_a_weight_is_not_packed_for_one_use(void **state)
{
    (void)state;
    enum { N = 96, STEPS = 20 };
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *both = tl_tensor_zeros(TL_F64, TL_SHAPE(2 * N, N), NULL);
    tl_random random = tl_random_seed(5);
    assert_int_equal(tl_random_uniform(&random, both, -0.1, 0.1), TL_OK);
    tl_var h = tl_full(t, TL_F64, TL_SHAPE(4, N), 1), w = tl_leaf(t, both, NULL);
    for (int step = 0; step < STEPS; step++) {
        size_t before = tl_tape_measure(t).live;
        h = tl_linear_op(t, h, tl_slice(t, w, 0, N, 2 * N, 1), TL_NONE);
        assert_true(tl_tape_measure(t).live - before < N * N * sizeof(double) / 2);
    }
    assert_int_equal(tl_backward(t, tl_sum(t, h)), TL_OK);
    assert_int_equal(tl_tape_status(t), TL_OK);
    tl_tensor_release(both);
    tl_tape_free(t);
}

static void usage_is_told(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tape_usage u = tl_tape_measure(t);
    assert_true(u.variables == 0 && u.live == 0 && u.peak == 0);
    tl_full(t, TL_F64, TL_SHAPE(1000), 1);
    u = tl_tape_measure(t);
    assert_int_equal(u.variables, 1);
    assert_true(u.live >= 8000 && u.live < 12000 && u.peak >= u.live && u.held >= u.live &&
                u.system_calls > 0);
    tl_no_record_begin(t);
    tl_exp(t, tl_full(t, TL_F64, TL_SHAPE(3000), 1));
    size_t inside = tl_tape_measure(t).live;
    tl_no_record_end(t, 0, NULL);
    assert_true(inside - tl_tape_measure(t).live >=
                24000); /* what was freed at the end of the region */
    tl_tape_reset(t);
    tl_tape_usage after = tl_tape_measure(t);
    assert_true(after.variables == 0 && after.live == 0);
    assert_true(after.peak >= inside && after.held >= after.peak);
    tl_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_steps_ask_for_no_memory),
        cmocka_unit_test(other_work_asks_for_no_memory_either),
        cmocka_unit_test(unrolling_with_everything_asks_for_no_memory),
        cmocka_unit_test(regions_give_everything_back),
        cmocka_unit_test(spent_gradients_are_given_back),
        cmocka_unit_test(a_failing_allocation_is_survived),
        cmocka_unit_test(a_failing_allocation_is_survived_elsewhere),
        cmocka_unit_test(a_failing_allocation_is_survived_by_truncation),
        cmocka_unit_test(a_limit_holds),
        cmocka_unit_test(a_slice_of_a_weight_is_not_packed_for_one_use),
        cmocka_unit_test(usage_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
