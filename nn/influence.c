/* influence.c - J' = D J + F, dense and sparse. No derivative here: D and F are given. */
#include "nn/influence.h"

#include <string.h>

#include "autograd/ops.h"
#include "tensor/arena.h"

enum { J, D, F }; /* in numbers */

/* Zeros; NULL: no memory. */
static void *zeros(int64_t count, size_t size)
{
    if (count < 0 || (uint64_t)count > (SIZE_MAX / 2) / size)
        return NULL;
    size_t bytes = (size_t)count * size + 1;
    void *room = tl_system_get(bytes);
    if (room)
        memset(room, 0, bytes);
    return room;
}

/* Is a b c more than can be counted? */
static bool too_many(int64_t a, int64_t b, int64_t c)
{
    return (double)a * (double)b * (double)c > 1e17;
}

void tl_influence_free(tl_influence *j)
{
    void *rooms[] = {j->start, j->row, j->d_color, j->f_color, j->full, j->d_kept, j->direct, j->next};
    for (size_t k = 0; k < sizeof rooms / sizeof rooms[0]; k++)
        tl_system_give(rooms[k]);
    for (int k = J; k <= F; k++)
        tl_tensor_release(j->numbers[k]);
    *j = (tl_influence){0};
}

/* [B,height,width] */
static double *new_numbers(tl_influence *j, int which, int64_t height, int64_t width)
{
    j->numbers[which] = tl_tensor_zeros(TL_F64, TL_SHAPE(j->batch, height, width), NULL);
    return j->numbers[which] ? j->numbers[which]->data : NULL;
}

static bool make_numbers(tl_influence *j)
{
    bool dense = !j->start;
    j->value = new_numbers(j, J, dense ? j->rows : 1, dense ? j->columns : j->entries);
    j->d = new_numbers(j, D, j->d_colors, j->rows);
    j->f = new_numbers(j, F, j->f_colors, j->columns);
    if (dense)
        return j->value && j->d && j->f;
    j->full = zeros(j->rows * j->rows, sizeof *j->full);
    j->next = zeros(j->entries, sizeof *j->next);
    return j->value && j->d && j->f && j->full && j->next;
}

static bool begin(tl_influence *j, int64_t batch, int64_t rows, int64_t columns)
{
    *j = (tl_influence){.batch = batch, .rows = rows, .columns = columns};
    if (batch < 0 || rows < 0 || columns < 0 || rows > INT32_MAX || too_many(batch, rows, rows) ||
        too_many(batch, rows, columns))
        return false;
    j->d_color = zeros(rows, sizeof *j->d_color);
    j->f_color = zeros(rows, sizeof *j->f_color);
    return j->d_color && j->f_color;
}

bool tl_influence_dense(tl_influence *j, int64_t batch, int64_t rows, int64_t columns)
{
    bool good = begin(j, batch, rows, columns);
    j->entries = rows * columns;
    j->d_colors = j->f_colors = (int)rows;
    for (int32_t r = 0; good && r < rows; r++)
        j->d_color[r] = j->f_color[r] = r;
    if (good && make_numbers(j))
        return true;
    tl_influence_free(j);
    return false;
}

/* ---- the pattern ------------------------------------------------------------------------ */

static bool meet(const uint8_t *a, const uint8_t *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (a[i] && b[i])
            return true;
    return false;
}

static bool unite(uint8_t *into, const uint8_t *from, int64_t count)
{
    bool more = false;
    for (int64_t i = 0; i < count; i++) {
        more = more || (from[i] && !into[i]);
        into[i] |= from[i];
    }
    return more;
}

/* Each row gets the first colour none of whose rows it meets. Returns how many; -1: no memory. */
static int color_rows(int64_t rows, int64_t columns, const uint8_t *kept, int32_t *color)
{
    int colors = 0;
    uint8_t *taken = zeros(rows * columns, 1); /* by each colour, the columns */
    for (int64_t r = 0; taken && r < rows; r++) {
        const uint8_t *mine = kept + r * columns;
        int32_t c = 0;
        while (c < colors && meet(taken + c * columns, mine, columns))
            c++;
        unite(taken + c * columns, mine, columns);
        color[r] = c;
        colors = c >= colors ? c + 1 : colors;
    }
    tl_system_give(taken);
    return taken ? colors : -1;
}

/* kept += D last, next = D last; did that add anything? */
static bool reach_on(int64_t n, int64_t P, const uint8_t *d, const uint8_t *last, uint8_t *next,
                     uint8_t *kept)
{
    memset(next, 0, (size_t)(n * P));
    for (int64_t r = 0; r < n; r++)
        for (int64_t from = 0; from < n; from++)
            if (d[r * n + from])
                unite(next + r * P, last + from * P, P);
    return unite(kept, next, n * P);
}

/* kept = F + D F + ..; with room for twice n P. */
static void spread(int64_t n, int64_t P, const uint8_t *d, const uint8_t *f, int64_t reach,
                   uint8_t *room, uint8_t *kept)
{
    uint8_t *last = room, *next = room + n * P;
    memcpy(last, f, (size_t)(n * P));
    memcpy(kept, f, (size_t)(n * P));
    for (int64_t k = 1; (reach == 0 || k < reach) && reach_on(n, P, d, last, next, kept); k++) {
        uint8_t *swap = last;
        last = next;
        next = swap;
    }
}

static bool list_entries(tl_influence *j, const uint8_t *kept, const uint8_t *f)
{
    for (int64_t i = 0; i < j->rows * j->columns; i++)
        j->entries += kept[i] != 0;
    j->start = zeros(j->columns + 1, sizeof *j->start);
    j->row = zeros(j->entries, sizeof *j->row);
    j->direct = zeros(j->entries, 1);
    if (!j->start || !j->row || !j->direct)
        return false;
    int64_t e = 0;
    for (int64_t p = 0; p < j->columns; p++) {
        for (int32_t r = 0; r < j->rows; r++) {
            if (!kept[r * j->columns + p])
                continue;
            j->row[e] = r;
            j->direct[e++] = f[r * j->columns + p];
        }
        j->start[p + 1] = e;
    }
    return true;
}

bool tl_influence_sparse(tl_influence *j, int64_t batch, int64_t rows, int64_t columns,
                         const uint8_t *d_kept, const uint8_t *f_kept, int64_t reach)
{
    bool good = begin(j, batch, rows, columns);
    uint8_t *kept = good ? zeros(3 * rows * columns, 1) : NULL;
    j->d_kept = good ? zeros(rows * rows, 1) : NULL;
    good = kept && j->d_kept;
    if (good) {
        memcpy(j->d_kept, d_kept, (size_t)(rows * rows));
        spread(rows, columns, d_kept, f_kept, reach, kept + rows * columns, kept);
        j->d_colors = color_rows(rows, rows, d_kept, j->d_color);
        j->f_colors = color_rows(rows, columns, f_kept, j->f_color);
        good = j->d_colors >= 0 && j->f_colors >= 0 && list_entries(j, kept, f_kept) && make_numbers(j);
    }
    tl_system_give(kept);
    if (!good)
        tl_influence_free(j);
    return good;
}

/* ---- the product ------------------------------------------------------------------------ */

/* All rows of the batch at once; D may be used as it is, since no two of its rows share a colour. */
static void advance_dense(tl_influence *j, tl_tape *t)
{
    tl_no_record_begin(t);
    tl_var product = tl_matmul(t, tl_constant(t, j->numbers[D]), tl_constant(t, j->numbers[J]));
    tl_array next = tl_value(t, tl_add(t, product, tl_constant(t, j->numbers[F])));
    if (next.data)
        memcpy(j->value, next.data, (size_t)(j->batch * j->entries) * sizeof *j->value);
    tl_tensor_touch(j->numbers[J]);
    tl_no_record_end(t, 0, NULL);
}

static void advance_sparse(tl_influence *j, const double *f, double *value)
{
    int64_t n = j->rows, P = j->columns;
    for (int64_t p = 0; p < P; p++) {
        for (int64_t e = j->start[p]; e < j->start[p + 1]; e++) {
            const double *d = j->full + j->row[e] * n;
            double sum = j->direct[e] ? f[j->f_color[j->row[e]] * P + p] : 0;
            for (int64_t from = j->start[p]; from < j->start[p + 1]; from++)
                sum += d[j->row[from]] * value[from];
            j->next[e] = sum;
        }
    }
    memcpy(value, j->next, (size_t)j->entries * sizeof *value);
}

/* D out of its colours. */
static void unfold(tl_influence *j, const double *d)
{
    int64_t n = j->rows;
    for (int64_t r = 0; r < n; r++)
        for (int64_t m = 0; m < n; m++)
            j->full[r * n + m] = j->d_kept[r * n + m] ? d[j->d_color[r] * n + m] : 0;
}

tl_status tl_influence_advance(tl_influence *j, tl_tape *t)
{
    tl_tensor_touch(j->numbers[D]);
    tl_tensor_touch(j->numbers[F]);
    if (tl_tape_status(t) == TL_OK && !j->start)
        advance_dense(j, t);
    for (int64_t b = 0; b < j->batch && j->start; b++) {
        unfold(j, j->d + b * j->d_colors * j->rows);
        advance_sparse(j, j->f + b * j->f_colors * j->columns, j->value + b * j->entries);
    }
    return tl_tape_status(t);
}

void tl_influence_zero(tl_influence *j)
{
    memset(j->value, 0, (size_t)(j->batch * j->entries) * sizeof *j->value);
}

void tl_influence_add(const tl_influence *j, const double *weight, double *gradient)
{
    for (int64_t b = 0; b < j->batch; b++) {
        const double *w = weight + b * j->rows, *value = j->value + b * j->entries;
        for (int64_t p = 0; j->start && p < j->columns; p++)
            for (int64_t e = j->start[p]; e < j->start[p + 1]; e++)
                gradient[p] += w[j->row[e]] * value[e];
        for (int64_t r = 0; !j->start && r < j->rows; r++)
            for (int64_t p = 0; w[r] != 0 && p < j->columns; p++)
                gradient[p] += w[r] * value[r * j->columns + p];
    }
}

double tl_influence_get(const tl_influence *j, int64_t batch, int64_t row, int64_t column)
{
    const double *value = j->value + batch * j->entries;
    if (!j->start)
        return value[row * j->columns + column];
    for (int64_t e = j->start[column]; e < j->start[column + 1]; e++)
        if (j->row[e] == row)
            return value[e];
    return 0;
}
