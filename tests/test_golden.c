/* Every op against PyTorch: values and gradients in f64, stored in tests/golden, where the script is
 * that made them. An op with fewer than three cases is a failure. */
#include "support.h"

#include <dirent.h>

#include "autograd/named.h"
#include "tensor/io_safetensors.h"

#ifndef GOLDEN
#define GOLDEN "tests/golden"
#endif

enum { MOST = 16, WANTED = 3 };

static tl_tensor *part(const tl_tensor_file *file, const char *name, const char *what, int k)
{
    char key[128];
    if (k < 0)
        snprintf(key, sizeof key, "%s/%s", name, what);
    else
        snprintf(key, sizeof key, "%s/%s%d", name, what, k);
    return tl_tensor_file_find(file, key);
}

/* To 1e-10 of the element, or of the largest one where terms cancel. */
static void compare(tl_tape *t, tl_var actual, const tl_tensor *expected, const char *what, int k)
{
    char text[160], a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    tl_tensor *got = tl_value_copy(t, actual);
    snprintf(text, sizeof text, "%s, operand %d", what, k);
    if (!got)
        fail_msg("%s: %s", text, tl_tape_message(t));
    if (!tl_layout_same_shape(&got->layout, &expected->layout) || got->dtype != expected->dtype)
        fail_msg("%s: %s %s, PyTorch has %s %s", text, tl_dtype_name(got->dtype),
                 tl_layout_text(&got->layout, a), tl_dtype_name(expected->dtype),
                 tl_layout_text(&expected->layout, b));
    double largest = 0;
    for (int64_t i = 0; i < expected->layout.count; i++)
        if (isfinite(tl_tensor_get(expected, i)))
            largest = fmax(largest, fabs(tl_tensor_get(expected, i)));
    for (int64_t i = 0; i < expected->layout.count; i++) {
        double x = tl_tensor_get(got, i), y = tl_tensor_get(expected, i);
        bool alike = x == y || (isnan(x) && isnan(y)), finite = isfinite(x) && isfinite(y);
        if (!alike && !(finite && fabs(x - y) <= 1e-10 * (fabs(y) + 1e-3 * largest)))
            fail_msg("%s, element %lld: %+.17g, PyTorch has %+.17g", text, (long long)i, x, y);
    }
    tl_tensor_release(got);
}

static void run_case(const tl_tensor_file *file, const char *name, const char *constants)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_var in[MOST], real[MOST], grads[MOST];
    int count = 0, reals = 0;
    char op[64];
    snprintf(op, sizeof op, "%.*s", (int)strcspn(name, "/"), name);
    for (tl_tensor *x; count < MOST && (x = part(file, name, "x", count)); count++) {
        in[count] = part(file, name, "d", count) ? tl_leaf_untied(t, x) : tl_constant(t, x);
        if (part(file, name, "d", count))
            real[reals++] = in[count];
    }
    tl_var y = tl_apply_named(t, op, count, in, constants);
    compare(t, y, part(file, name, "y", -1), name, -1);
    if (reals && !tl_needs_gradient(t, y)) {
        for (int k = 0; k < count; k++)
            for (int64_t i = 0; part(file, name, "d", k) && i < part(file, name, "d", k)->layout.count;
                 i++)
                assert_same(tl_tensor_get(part(file, name, "d", k), i), 0);
    } else if (reals) {
        tl_grad(t, y, tl_constant(t, part(file, name, "g", -1)), reals, real, false, grads);
        for (int k = 0, r = 0; k < count; k++)
            if (part(file, name, "d", k))
                compare(t, grads[r++], part(file, name, "d", k), name, k);
    }
    check_ok(t, name, 0);
    tl_tape_free(t);
}

/* Runs a file's cases and counts them by op. */
static void run_file(const char *path, int *cases)
{
    tl_tensor_file file;
    tl_error error = {0};
    if (tl_safetensors_load(path, &file, &error) != TL_OK)
        fail_msg("%s", error.message);
    assert_true(file.metadata_count > 0);
    for (int k = 0; k < file.metadata_count; k++) {
        const char *name = file.metadata[2 * k];
        char own[64];
        snprintf(own, sizeof own, "%.*s", (int)strcspn(name, "/"), name);
        if (!op_is_chosen(own))
            continue;
        for (int op = 0; op < tl_op_count(); op++) {
            size_t length = strlen(tl_op_at(op)->name);
            cases[op] += strncmp(tl_op_at(op)->name, name, length) == 0 && name[length] == '/';
        }
        run_case(&file, name, file.metadata[2 * k + 1]);
    }
    tl_tensor_file_free(&file);
}

static void ops_agree_with_pytorch(void **state)
{
    (void)state;
    int *cases = calloc((size_t)tl_op_count(), sizeof *cases);
    DIR *folder = opendir(GOLDEN);
    if (!folder)
        fail_msg("no folder " GOLDEN);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[512];
        snprintf(path, sizeof path, GOLDEN "/%s", entry->d_name);
        if (strstr(entry->d_name, ".safetensors"))
            run_file(path, cases);
    }
    closedir(folder);
    int missing = 0;
    for (int op = 0; op < tl_op_count(); op++)
        if (cases[op] < WANTED && op_is_chosen(tl_op_at(op)->name)) {
            print_error("%s: %d of %d cases in tests/golden\n", tl_op_at(op)->name, cases[op], WANTED);
            missing++;
        }
    free(cases);
    assert_int_equal(missing, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ops_agree_with_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
