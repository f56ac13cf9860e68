#include "tests/kernels/cuda/cpu_side.h"
#include "tests/kernels/inputs.h"

/* Everything that was made stays in a list until the process ends. */
typedef struct made {
    void *at;
    struct made *before;
} made;
static made *last;

static void *keep(void *at)
{
    made *m = room(sizeof *m);
    *m = (made){at, last};
    last = m;
    return at;
}

const shoal_kernels *cpu_kernels(void)
{
    const shoal_kernels *kernels;
    shoal_log log;
    shoal_log_init(&log, stderr, 0, "test");
    if (shoal_kernels_select(&kernels, "auto", &log) != SHOAL_OK)
        abort();
    return kernels;
}

float *cpu_values(int64_t n, uint64_t seed)
{
    source s = {seed};
    float *x = keep(floats(n));
    fill(x, n, &s);
    return x;
}

shoal_matrix *cpu_matrix(shoal_format format, int32_t n_row, int32_t n_col, uint64_t seed)
{
    source s = {seed};
    shoal_matrix *w = keep(room(sizeof *w));
    *w = random_matrix(format, n_row, columns(format, n_col), &s);
    return w;
}

shoal_int8_group *cpu_groups(const float *x, int32_t n_row, int32_t n_col)
{
    const int32_t n_group = shoal_int8_groups(n_col);
    shoal_int8_group *y = keep(room((size_t)n_row * (size_t)n_group * sizeof *y));
    for (int32_t r = 0; r < n_row; r++)
        cpu_kernels()->to_groups(y + (int64_t)r * n_group, x + (int64_t)r * n_col, n_col);
    return y;
}

float *cpu_product(const shoal_matrix *w, const float *x, const shoal_int8_group *x_int8,
                   const float *bias, int32_t n_token)
{
    float *y = keep(floats((int64_t)n_token * w->n_row));
    const int32_t n_band = shoal_matrix_n_band(w);
    if (x_int8 != NULL)
        cpu_kernels()->matmul_int8(y, w->n_row, w, 0, n_band, x_int8, shoal_int8_groups(w->n_col),
                                   n_token);
    else
        cpu_kernels()->matmul(y, w->n_row, w, 0, n_band, x, w->n_col, n_token);
    for (int32_t t = 0; bias != NULL && t < n_token; t++)
        for (int32_t r = 0; r < w->n_row; r++)
            y[(int64_t)t * w->n_row + r] += bias[r];
    return y;
}
