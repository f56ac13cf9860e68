/* --weights: what each stored type becomes for each choice, the same as packing its f32 rows by
 * hand, from one thread or several; and values that cannot be quantised. */
#include "runtime/checkpoint/load.h"
#include "tests/checkpoint/fixture.h"
#include "tests/checkpoint/gguf_maker.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

#define F32  SHOAL_FORMAT_F32
#define F16  SHOAL_FORMAT_F16
#define BF16 SHOAL_FORMAT_BF16
#define FP8  SHOAL_FORMAT_FP8_BLOCK
#define MX4  SHOAL_FORMAT_MXFP4
#define Q8   SHOAL_FORMAT_Q8
#define Q4   SHOAL_FORMAT_Q4

typedef struct opened {
    fixture f;
    shoal_checkpoint *checkpoint;
    shoal_loader loader;
    shoal_pool *pool;
} opened;

/* A folder that was written by hand has no config. */
static void open_path(opened *o, const char *path, bool config)
{
    ck_assert_msg(shoal_checkpoint_open(&o->checkpoint, path, config, &o->f.log) == SHOAL_OK, "%s",
                  o->f.log.error);
    ck_assert_int_eq(shoal_loader_open(&o->loader, o->checkpoint, &o->f.log), SHOAL_OK);
    ck_assert_int_eq(shoal_pool_open(&o->pool, 3, &o->f.log), SHOAL_OK);
}

static void close_opened(opened *o)
{
    shoal_pool_close(o->pool);
    shoal_loader_close(&o->loader);
    shoal_checkpoint_close(o->checkpoint);
    fixture_close(&o->f);
}

static shoal_matrix new_matrix(shoal_format format, int32_t n_row, int32_t n_col)
{
    shoal_matrix w = {.format = format, .n_row = n_row, .n_col = n_col};
    w.data = calloc(1, shoal_matrix_data_bytes(format, n_row, n_col) + 1);
    w.scale = calloc(1, shoal_matrix_scale_bytes(format, n_row, n_col) + 1);
    ck_assert(w.data != NULL && w.scale != NULL);
    return w;
}

static void free_matrix(shoal_matrix *w)
{
    free(w->data);
    free(w->scale);
}

/* The rows packed by hand. Formats that were kept are compared by their values instead. */
static void check_against_rows(const shoal_matrix *w, const float *rows, shoal_format stored)
{
    shoal_matrix want = new_matrix(w->format, w->n_row, w->n_col);
    int32_t bad_row;
    if (w->format == stored) {
        for (int32_t i = 0; i < w->n_row * w->n_col; i++)
            if (shoal_matrix_at(w, i / w->n_col, i % w->n_col) != rows[i])
                ck_abort_msg("element %d of %s", i, shoal_format_text(stored));
    } else if (w->format == BF16) {
        for (int32_t i = 0; i < w->n_row * w->n_col; i++)
            if (shoal_matrix_at(w, i / w->n_col, i % w->n_col) !=
                shoal_bf16_to_f32(shoal_f32_to_bf16(rows[i])))
                ck_abort_msg("element %d", i);
    } else {
        ck_assert(shoal_matrix_pack_quantised(&want, 0, w->n_row, rows, &bad_row));
        ck_assert_mem_eq(w->data, want.data,
                         shoal_matrix_data_bytes(w->format, w->n_row, w->n_col));
    }
    free_matrix(&want);
}

/* become: the format of each choice, native first. */
static void check_matrix(opened *o, shoal_weight_ref ref, int32_t n_row, int32_t n_col,
                         const shoal_format become[4])
{
    float *rows = malloc((size_t)n_row * (size_t)n_col * sizeof *rows);
    ck_assert_ptr_nonnull(rows);
    ck_assert_int_eq(shoal_load_rows_f32(rows, &o->loader, ref, 0, n_row, n_col), SHOAL_OK);
    for (int32_t choice = SHOAL_WEIGHTS_NATIVE; choice <= SHOAL_WEIGHTS_Q4; choice++) {
        shoal_format format = SHOAL_N_FORMAT;
        ref.weights = (shoal_weights_choice)choice;
        ck_assert_msg(shoal_load_check_matrix(&format, &o->loader, ref, n_row, n_col) == SHOAL_OK,
                      "%s", o->f.log.error);
        ck_assert_msg(format == become[choice], "%s, choice %d: %s", ref.name, choice,
                      shoal_format_text(format));
        shoal_matrix alone = new_matrix(format, n_row, n_col);
        shoal_matrix together = new_matrix(format, n_row, n_col);
        o->loader.pool = NULL;
        ck_assert_int_eq(shoal_load_matrix(&alone, &o->loader, ref), SHOAL_OK);
        o->loader.pool = o->pool;
        ck_assert_int_eq(shoal_load_matrix(&together, &o->loader, ref), SHOAL_OK);
        size_t n_bytes = shoal_matrix_data_bytes(format, n_row, n_col);
        ck_assert(memcmp(alone.data, together.data, n_bytes) == 0);
        check_against_rows(&together, rows, become[SHOAL_WEIGHTS_NATIVE]);
        free_matrix(&together);
        free_matrix(&alone);
    }
    free(rows);
}

START_TEST(test_stored_types)
{
    static const struct {
        const char *folder, *name;
        int32_t n_slice, n_stored, n_row, n_col;
        bool transposed;
        shoal_format become[4];
    } cases[] = {
        {"qwen3_moe", "lm_head.weight", 0, 0, 256, 64, false, {BF16, BF16, Q8, Q4}},
        {"deepseek_v3-fp8",
         "model.layers.1.mlp.experts.3.down_proj.weight",
         0,
         0,
         160,
         160,
         false,
         {FP8, BF16, Q8, Q4}},
        {"gpt_oss",
         "model.layers.0.mlp.experts.gate_up_proj",
         8,
         96,
         48,
         64,
         true,
         {BF16, BF16, Q8, Q4}},
        {"gpt_oss",
         "model.layers.0.mlp.experts.down_proj",
         8,
         0,
         64,
         48,
         true,
         {BF16, BF16, Q8, Q4}},
        {"gpt_oss-mxfp4",
         "model.layers.0.mlp.experts.gate_up_proj",
         8,
         192,
         96,
         64,
         false,
         {MX4, BF16, MX4, MX4}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        opened o;
        char folder[128];
        snprintf(folder, sizeof folder, "tests/golden/%s", cases[i].folder);
        fixture_open(&o.f);
        open_path(&o, fixture_source_path(folder), true);
        const shoal_tensor_info *t = shoal_checkpoint_find(o.checkpoint, cases[i].name);
        int32_t n_row = cases[i].n_row, n_col = cases[i].n_col;
        shoal_weight_ref ref = shoal_weight_ref_of(cases[i].name);
        if (cases[i].n_slice > 0) {
            ref = shoal_weight_ref_slice(cases[i].name, 5, cases[i].n_slice);
            ref.n_stored_row = cases[i].n_stored;
            ref.row0 = cases[i].n_stored > 0 ? 1 : 0;
            ref.row_step = cases[i].n_stored > 0 ? 2 : 1;
            ref.transposed = cases[i].transposed;
        } else {
            n_row = (int32_t)t->shape[0];
            n_col = (int32_t)t->shape[1];
        }
        check_matrix(&o, ref, n_row, n_col, cases[i].become);
        close_opened(&o);
    }
}
END_TEST

/* Rows that end inside a group and inside a band, over several pieces. */
START_TEST(test_plain_types)
{
    enum { N_ROW = 39, N_COL = 33333 };
    static float f32[N_ROW * N_COL];
    static uint16_t f16[N_ROW * N_COL];
    uint64_t random = 5;
    for (int32_t i = 0; i < N_ROW * N_COL; i++) {
        f32[i] = (float)(int64_t)(fixture_random(&random) % 2000001) / 1000000 - 1;
        f16[i] = shoal_f32_to_f16(f32[i]);
    }
    char header[512];
    snprintf(header, sizeof header,
             "{\"a\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[0,%zu]}}", N_ROW, N_COL,
             sizeof f32);
    opened o;
    fixture_open(&o.f);
    fixture_write_safetensors(&o.f, "model.safetensors", header, f32, sizeof f32);
    open_path(&o, o.f.path, false);
    check_matrix(&o, shoal_weight_ref_of("a"), N_ROW, N_COL,
                 (const shoal_format[4]){F32, BF16, Q8, Q4});
    close_opened(&o);
    snprintf(header, sizeof header,
             "{\"a\":{\"dtype\":\"F16\",\"shape\":[%d,%d],\"data_offsets\":[0,%zu]}}", N_ROW, N_COL,
             sizeof f16);
    fixture_open(&o.f);
    fixture_write_safetensors(&o.f, "model.safetensors", header, f16, sizeof f16);
    open_path(&o, o.f.path, false);
    check_matrix(&o, shoal_weight_ref_of("a"), N_ROW, N_COL,
                 (const shoal_format[4]){F16, BF16, Q8, Q4});
    close_opened(&o);
}
END_TEST

/* type: of GGUF; scales of 1 / 128 and random integers. */
static void check_gguf(uint32_t type, size_t block_bytes, const shoal_format become[4])
{
    enum { N_ROW = 19, N_COL = 96, N_BLOCK = N_ROW * N_COL / 32 };
    static gguf_maker maker;
    static unsigned char data[N_BLOCK * 34];
    uint64_t random = type;
    for (size_t b = 0; b < N_BLOCK; b++) {
        uint16_t scale = shoal_f32_to_f16((float)(b % 5 + 1) / 128);
        memcpy(data + b * block_bytes, &scale, sizeof scale);
        for (size_t i = 2; i < block_bytes; i++)
            data[b * block_bytes + i] = (unsigned char)fixture_random(&random);
    }
    opened o;
    fixture_open(&o.f);
    gguf_maker_init(&maker);
    gguf_pairs_of_model(&maker);
    gguf_tensor(&maker, "output.weight", type, 2, (const uint64_t[]){N_COL, N_ROW}, data,
                N_BLOCK * block_bytes);
    size_t n_bytes;
    unsigned char *file = gguf_file(&n_bytes, &maker);
    fixture_write(&o.f, "m.gguf", file, n_bytes);
    free(file);
    open_path(&o, fixture_path(&o.f, "m.gguf"), true);
    check_matrix(&o, shoal_weight_ref_of("lm_head.weight"), N_ROW, N_COL, become);
    close_opened(&o);
}

START_TEST(test_gguf_types)
{
    check_gguf(8, 34, (const shoal_format[4]){Q8, BF16, Q8, Q4});
    check_gguf(2, 18, (const shoal_format[4]){Q4, BF16, Q4, Q4});
}
END_TEST

START_TEST(test_values_that_no_integer_holds)
{
    enum { N_ROW = 50, N_COL = 32 };
    static const float bad[] = {INFINITY, NAN, 1e9F};
    for (size_t i = 0; i < 3; i++) {
        float x[N_ROW * N_COL] = {0};
        x[37 * N_COL + 3] = bad[i];
        x[44 * N_COL] = INFINITY;
        opened o;
        fixture_open(&o.f);
        fixture_write_safetensors(
            &o.f, "model.safetensors",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[50,32],\"data_offsets\":[0,6400]}}", x, sizeof x);
        open_path(&o, o.f.path, false);
        o.loader.pool = o.pool;
        shoal_matrix w = new_matrix(Q4, N_ROW, N_COL);
        shoal_weight_ref ref = shoal_weight_ref_of("a");
        ref.weights = SHOAL_WEIGHTS_Q4;
        ck_assert_int_eq(shoal_load_matrix(&w, &o.loader, ref), SHOAL_BAD_DATA);
        ck_assert_msg(strstr(o.f.log.error, "tensor a: row 37 has a value") != NULL, "%s",
                      o.f.log.error);
        free_matrix(&w);
        close_opened(&o);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_stored_types);
    SHOAL_TEST(suite, test_plain_types);
    SHOAL_TEST(suite, test_gguf_types);
    SHOAL_TEST(suite, test_values_that_no_integer_holds);
}

SHOAL_TEST_MAIN("checkpoint.convert", add_tests)
