/* Loading weights: every format and odd shape against an independent decoding of the same bytes,
 * the bytes that were read, and weights that must be refused. */
#include "runtime/checkpoint/load.h"
#include "tests/checkpoint/fixture.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

typedef struct source {
    shoal_dtype dtype;
    shoal_dtype scale_dtype; /* of F8_E4M3 */
    int32_t n_row;
    int32_t n_col;
    unsigned char *data; /* [n_row, n_col] of dtype, then the scales */
    size_t n_data_bytes;
    size_t weight_bytes;
    float *scale; /* what the scales are as f32 */
} source;

static int32_t n_block(int32_t n)
{
    return n / 128 + (n % 128 != 0);
}

/* Random weights "w.weight" (no NaN: the exponent's lowest bit is cleared) behind a vector, and
 * their scales, as a checkpoint in f. */
static source write_source(const fixture *f, shoal_dtype dtype, shoal_dtype scale_dtype,
                           int32_t n_row, int32_t n_col)
{
    source s = {.dtype = dtype, .scale_dtype = scale_dtype, .n_row = n_row, .n_col = n_col};
    size_t elem = shoal_dtype_bytes(dtype);
    size_t n_scale = (size_t)n_block(n_row) * (size_t)n_block(n_col);
    bool fp8 = dtype == SHOAL_DTYPE_F8_E4M3;
    s.weight_bytes = (size_t)n_row * (size_t)n_col * elem;
    s.n_data_bytes = s.weight_bytes + (fp8 ? n_scale * shoal_dtype_bytes(scale_dtype) : 0);
    s.data = malloc(s.n_data_bytes);
    s.scale = malloc(n_scale * sizeof *s.scale);
    ck_assert(s.data != NULL && s.scale != NULL);
    uint64_t random = 1000 + (uint64_t)n_row * 1000 + (uint64_t)n_col;
    for (size_t i = 0; i < s.weight_bytes; i++)
        s.data[i] = (unsigned char)fixture_random(&random);
    for (size_t i = elem - 1; i < s.weight_bytes; i += elem)
        s.data[i] &= dtype == SHOAL_DTYPE_F8_E4M3 ? 0xf7 : 0xbf;
    for (size_t i = 0; fp8 && i < n_scale; i++) {
        uint16_t half = shoal_f32_to_bf16((float)(1 + fixture_random(&random) % 100) / 64);
        s.scale[i] = shoal_bf16_to_f32(half);
        if (scale_dtype == SHOAL_DTYPE_F32)
            memcpy(s.data + s.weight_bytes + i * 4, &s.scale[i], 4);
        else
            memcpy(s.data + s.weight_bytes + i * 2, &half, 2);
    }
    char header[1024];
    int n = snprintf(header, sizeof header,
                     "{\"w.weight\":{\"dtype\":\"%s\",\"shape\":[%d,%d],\"data_offsets\":[0,%zu]}",
                     shoal_dtype_text(dtype), n_row, n_col, s.weight_bytes);
    if (fp8)
        n += snprintf(header + n, sizeof header - (size_t)n,
                      ",\"w.weight_scale_inv\":{\"dtype\":\"%s\",\"shape\":[%d,%d],"
                      "\"data_offsets\":[%zu,%zu]}",
                      shoal_dtype_text(scale_dtype), n_block(n_row), n_block(n_col), s.weight_bytes,
                      s.n_data_bytes);
    /* odd header lengths leave the data unaligned in the file */
    snprintf(header + n, sizeof header - (size_t)n, n % 2 == 0 ? "}" : " }");
    fixture_write_safetensors(f, "model.safetensors", header, s.data, s.n_data_bytes);
    return s;
}

static void free_source(source *s)
{
    free(s->data);
    free(s->scale);
}

/* Element (row, col) straight from the bytes. */
static float source_at(const source *s, int32_t row, int32_t col)
{
    size_t i = (size_t)row * (size_t)s->n_col + (size_t)col;
    const unsigned char *at = s->data + i * shoal_dtype_bytes(s->dtype);
    float wide;
    uint16_t half;
    switch (s->dtype) {
    case SHOAL_DTYPE_F32:
        memcpy(&wide, at, 4);
        return wide;
    case SHOAL_DTYPE_F16:
        memcpy(&half, at, 2);
        return shoal_f16_to_f32(half);
    case SHOAL_DTYPE_BF16:
        memcpy(&half, at, 2);
        return shoal_bf16_to_f32(half);
    default:
        return shoal_e4m3_to_f32(*at) * s->scale[row / 128 * n_block(s->n_col) + col / 128];
    }
}

static shoal_matrix new_matrix(shoal_format format, int32_t n_row, int32_t n_col)
{
    shoal_matrix w = {.format = format, .n_row = n_row, .n_col = n_col};
    size_t n_bytes = shoal_matrix_data_bytes(format, n_row, n_col);
    w.data = aligned_alloc(64, (n_bytes + 63) / 64 * 64);
    ck_assert_ptr_nonnull(w.data);
    memset(w.data, 0x55, n_bytes); /* not what any padding should be */
    if (shoal_matrix_scale_bytes(format, n_row, n_col) > 0) {
        w.scale = malloc(shoal_matrix_scale_bytes(format, n_row, n_col));
        ck_assert_ptr_nonnull(w.scale);
    }
    return w;
}

static void free_matrix(shoal_matrix *w)
{
    free(w->data);
    free(w->scale);
}

typedef struct progress {
    uint64_t n_bytes;
    uint64_t largest;
    int n_call;
} progress;

static void count_progress(void *arg, uint64_t n_bytes)
{
    progress *p = arg;
    p->n_bytes += n_bytes;
    p->largest = n_bytes > p->largest ? n_bytes : p->largest;
    p->n_call++;
}

static void assert_equal(float found, float wanted, const source *s, int32_t row, int32_t col)
{
    if (memcmp(&found, &wanted, 4) != 0) /* a ck_assert for each element would take minutes */
        ck_abort_msg("%s [%d, %d] at (%d, %d): %a, wanted %a", shoal_dtype_text(s->dtype), s->n_row,
                     s->n_col, row, col, (double)found, (double)wanted);
}

static void check_rows(const source *s, shoal_loader *loader, int32_t row0, int32_t n_row)
{
    float *rows = malloc(((size_t)n_row * (size_t)s->n_col + 1) * sizeof *rows);
    ck_assert_ptr_nonnull(rows);
    uint64_t before = shoal_checkpoint_bytes_read(loader->checkpoint);
    shoal_status status =
        shoal_load_rows_f32(rows, loader, shoal_weight_ref_of("w.weight"), row0, n_row, s->n_col);
    ck_assert_msg(status == SHOAL_OK, "%s", loader->log->error);
    uint64_t wanted = (uint64_t)n_row * (uint64_t)s->n_col * shoal_dtype_bytes(s->dtype);
    if (s->dtype == SHOAL_DTYPE_F8_E4M3 && n_row > 0)
        wanted += (uint64_t)((row0 + n_row - 1) / 128 - row0 / 128 + 1) *
                  (uint64_t)n_block(s->n_col) * shoal_dtype_bytes(s->scale_dtype);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(loader->checkpoint) - before, wanted);
    for (int32_t r = 0; r < n_row; r++)
        for (int32_t c = 0; c < s->n_col; c++)
            assert_equal(rows[(size_t)r * (size_t)s->n_col + (size_t)c], source_at(s, row0 + r, c),
                         s, row0 + r, c);
    free(rows);
}

/* The padding rows of the last band are zero. */
static void check_padding(const shoal_matrix *w)
{
    shoal_matrix padded = *w;
    padded.n_row = (w->n_row + 15) / 16 * 16;
    for (int32_t r = w->n_row; r < padded.n_row; r++)
        for (int32_t c = 0; c < w->n_col; c++)
            if (shoal_matrix_at(&padded, r, c) != 0)
                ck_abort_msg("[%d, %d]: padding of column %d is not zero", w->n_row, w->n_col, c);
}

static void check_matrix(const source *s, shoal_loader *loader)
{
    shoal_format format = SHOAL_N_FORMAT;
    ck_assert_int_eq(shoal_load_check_matrix(&format, loader, shoal_weight_ref_of("w.weight"),
                                             s->n_row, s->n_col),
                     SHOAL_OK);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(loader->checkpoint), 0);
    shoal_matrix w = new_matrix(format, s->n_row, s->n_col);
    progress p = {0};
    loader->progress = count_progress;
    loader->progress_arg = &p;
    shoal_status status = shoal_load_matrix(&w, loader, shoal_weight_ref_of("w.weight"));
    ck_assert_msg(status == SHOAL_OK, "%s", loader->log->error);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(loader->checkpoint), s->n_data_bytes);
    ck_assert_uint_eq(p.n_bytes, s->n_data_bytes);
    if ((size_t)s->n_col * 16 * shoal_dtype_bytes(s->dtype) <= SHOAL_LOAD_PIECE_BYTES) {
        ck_assert_uint_eq(loader->piece_bytes, SHOAL_LOAD_PIECE_BYTES);
        ck_assert_uint_le(p.largest, SHOAL_LOAD_PIECE_BYTES);
    }
    for (int32_t r = 0; r < s->n_row; r++)
        for (int32_t c = 0; c < s->n_col; c++)
            assert_equal(shoal_matrix_at(&w, r, c), source_at(s, r, c), s, r, c);
    check_padding(&w);
    loader->progress = NULL;
    free_matrix(&w);
}

static void check_source(shoal_dtype dtype, shoal_dtype scale_dtype, int32_t n_row, int32_t n_col)
{
    fixture f;
    fixture_open(&f);
    source s = write_source(&f, dtype, scale_dtype, n_row, n_col);
    shoal_checkpoint *c = NULL;
    ck_assert_msg(shoal_checkpoint_open(&c, f.path, false, &f.log) == SHOAL_OK, "%s", f.log.error);
    shoal_loader loader;
    ck_assert_int_eq(shoal_loader_open(&loader, c, &f.log), SHOAL_OK);
    check_matrix(&s, &loader);
    check_rows(&s, &loader, 0, n_row);
    check_rows(&s, &loader, n_row / 2, n_row - n_row / 2);
    check_rows(&s, &loader, n_row / 3, 1);
    check_rows(&s, &loader, n_row, 0);
    shoal_loader_close(&loader);
    shoal_checkpoint_close(c);
    free_source(&s);
    fixture_close(&f);
}

static const struct {
    int32_t n_row, n_col;
} shapes[] = {{1, 1},     {16, 1},    {15, 3},    {17, 5},    {64, 128},
              {128, 128}, {127, 129}, {130, 257}, {300, 131}, {129, 384}};
enum { N_SHAPE = sizeof shapes / sizeof shapes[0] };

START_TEST(test_formats)
{
    for (int i = 0; i < N_SHAPE; i++) {
        check_source(SHOAL_DTYPE_F32, SHOAL_DTYPE_F32, shapes[i].n_row, shapes[i].n_col);
        check_source(SHOAL_DTYPE_F16, SHOAL_DTYPE_F32, shapes[i].n_row, shapes[i].n_col);
        check_source(SHOAL_DTYPE_BF16, SHOAL_DTYPE_F32, shapes[i].n_row, shapes[i].n_col);
        check_source(SHOAL_DTYPE_F8_E4M3, SHOAL_DTYPE_F32, shapes[i].n_row, shapes[i].n_col);
        check_source(SHOAL_DTYPE_F8_E4M3, SHOAL_DTYPE_BF16, shapes[i].n_row, shapes[i].n_col);
    }
}
END_TEST

/* More than a piece; and bands that are larger than a piece, whole, short and of one row. */
START_TEST(test_pieces)
{
    check_source(SHOAL_DTYPE_F32, SHOAL_DTYPE_F32, 1101, 1030);
    check_source(SHOAL_DTYPE_BF16, SHOAL_DTYPE_F32, 35, 140000);
    check_source(SHOAL_DTYPE_F8_E4M3, SHOAL_DTYPE_F32, 3, 1500001);
    check_source(SHOAL_DTYPE_F32, SHOAL_DTYPE_F32, 1, 1100001);
}
END_TEST

/* Every matrix and vector of the fp8 golden: packed and row-wise loading agree, all bytes count. */
START_TEST(test_golden_fp8)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    shoal_checkpoint *c = NULL;
    ck_assert_int_eq(
        shoal_checkpoint_open(&c, fixture_source_path("tests/golden/deepseek_v3-fp8"), true, &log),
        SHOAL_OK);
    shoal_loader loader;
    ck_assert_int_eq(shoal_loader_open(&loader, c, &log), SHOAL_OK);
    uint64_t n_bytes = 0;
    int n_fp8 = 0;
    for (int64_t i = 0; i < shoal_checkpoint_n_tensor(c); i++) {
        const shoal_tensor_info *t = shoal_checkpoint_tensor(c, i);
        int32_t n_row = (int32_t)t->shape[0];
        int32_t n_col = t->n_dim == 2 ? (int32_t)t->shape[1] : 1;
        float *rows = malloc((size_t)n_row * (size_t)n_col * sizeof *rows);
        ck_assert_ptr_nonnull(rows);
        if (t->n_dim == 1) {
            ck_assert_int_eq(shoal_load_check_vector(&loader, shoal_weight_ref_of(t->name), n_row),
                             SHOAL_OK);
            ck_assert_int_eq(shoal_load_vector(rows, &loader, shoal_weight_ref_of(t->name), n_row),
                             SHOAL_OK);
            n_bytes += t->n_bytes;
        } else {
            shoal_format format;
            ck_assert_int_eq(shoal_load_check_matrix(&format, &loader, shoal_weight_ref_of(t->name),
                                                     n_row, n_col),
                             SHOAL_OK);
            shoal_matrix w = new_matrix(format, n_row, n_col);
            ck_assert_int_eq(shoal_load_matrix(&w, &loader, shoal_weight_ref_of(t->name)),
                             SHOAL_OK);
            ck_assert_int_eq(
                shoal_load_rows_f32(rows, &loader, shoal_weight_ref_of(t->name), 0, n_row, n_col),
                SHOAL_OK);
            uint64_t scales = shoal_matrix_scale_bytes(format, n_row, n_col);
            n_bytes += 2 * (t->n_bytes + scales);
            n_fp8 += format == SHOAL_FORMAT_FP8_BLOCK;
            for (int32_t r = 0; r < n_row; r++)
                for (int32_t k = 0; k < n_col; k++)
                    if (shoal_matrix_at(&w, r, k) != rows[r * n_col + k])
                        ck_abort_msg("%s (%d, %d)", t->name, r, k);
            free_matrix(&w);
        }
        free(rows);
    }
    ck_assert_int_gt(n_fp8, 20);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(c), n_bytes);
    shoal_loader_close(&loader);
    shoal_checkpoint_close(c);
}
END_TEST

START_TEST(test_vectors)
{
    fixture f;
    fixture_open(&f);
    float wide[3] = {1.5f, -2.25f, 1e30f};
    uint16_t data[12];
    memcpy(data, wide, 12);
    for (int i = 0; i < 3; i++) {
        data[6 + i] = shoal_f32_to_f16(wide[i] / 3);
        data[9 + i] = shoal_f32_to_bf16(wide[i] / 3);
    }
    fixture_write_safetensors(&f, "model.safetensors",
                              "{\"f\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
                              "\"h\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[12,18]},"
                              "\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[18,24]}}",
                              data, sizeof data);
    shoal_checkpoint *c = NULL;
    ck_assert_int_eq(shoal_checkpoint_open(&c, f.path, false, &f.log), SHOAL_OK);
    shoal_loader loader;
    ck_assert_int_eq(shoal_loader_open(&loader, c, &f.log), SHOAL_OK);
    float x[3];
    ck_assert_int_eq(shoal_load_vector(x, &loader, shoal_weight_ref_of("f"), 3), SHOAL_OK);
    ck_assert_mem_eq(x, wide, sizeof x);
    ck_assert_int_eq(shoal_load_vector(x, &loader, shoal_weight_ref_of("h"), 3), SHOAL_OK);
    ck_assert(x[0] == 0.5f && x[1] == -0.75f && isinf(x[2]));
    ck_assert_int_eq(shoal_load_vector(x, &loader, shoal_weight_ref_of("b"), 3), SHOAL_OK);
    ck_assert(x[0] == 0.5f && x[1] == -0.75f && x[2] > 3e29f && x[2] < 4e29f);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(c), 24);
    shoal_loader_close(&loader);
    shoal_checkpoint_close(c);
    fixture_close(&f);
}
END_TEST

/* -- refused -- */

typedef struct refused {
    const char *label;
    const char *header;
    int32_t n_row, n_col;
    float scale[4];
    const char *config;
    bool only_when_read; /* shoal_load_check_matrix finds it good */
    const char *text[3];
} refused;

#define W(dtype, shape, offsets)                                                                   \
    "\"m.weight\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define S(dtype, shape, offsets)                                                                   \
    "\"m.weight_scale_inv\":{\"dtype\":\"" dtype "\",\"shape\":" shape                             \
    ",\"data_offsets\":" offsets "}"
#define W_GOOD "{" W("F8_E4M3", "[130,129]", "[0,16770]") ","
#define GOOD   W_GOOD S("F32", "[2,2]", "[16770,16786]") "}"
#define ONES                                                                                       \
    {                                                                                              \
        1, 1, 1, 1                                                                                 \
    }
#define FILE_ "model.safetensors"

static const refused refused_cases[] = {
    {"missing", "{}", 130, 129, ONES, NULL, false, {"m.weight is missing"}},
    {"rows",
     GOOD,
     131,
     129,
     ONES,
     NULL,
     false,
     {FILE_, "m.weight has shape [130, 129], wanted [131, 129]"}},
    {"columns", GOOD, 130, 128, ONES, NULL, false, {FILE_, "m.weight", "wanted [130, 128]"}},
    {"transposed", GOOD, 129, 130, ONES, NULL, false, {FILE_, "m.weight", "wanted [129, 130]"}},
    {"vector",
     "{" W("F32", "[4]", "[0,16]") "}",
     4,
     1,
     ONES,
     NULL,
     false,
     {FILE_, "m.weight has shape [4], wanted [4, 1]"}},
    {"scalar",
     "{" W("F32", "[]", "[0,4]") "}",
     1,
     1,
     ONES,
     NULL,
     false,
     {FILE_, "m.weight has shape [], wanted [1, 1]"}},
    {"three dimensions",
     "{" W("F32", "[1,2,2]", "[0,16]") "}",
     2,
     2,
     ONES,
     NULL,
     false,
     {FILE_, "m.weight has shape [1, 2, 2], wanted [2, 2]"}},
    {"2^32 rows",
     "{" W("U8", "[0,4294967296]", "[0,0]") "}",
     0,
     0,
     ONES,
     NULL,
     false,
     {FILE_, "[0, 4294967296], wanted [0, 0]"}},
    {"integers",
     "{" W("I32", "[2,2]", "[0,16]") "}",
     2,
     2,
     ONES,
     NULL,
     false,
     {FILE_, "m.weight has dtype I32", "F32, F16, BF16, F8_E4M3"}},
    {"doubles",
     "{" W("F64", "[1,2]", "[0,16]") "}",
     1,
     2,
     ONES,
     NULL,
     false,
     {FILE_, "m.weight has dtype F64"}},
    {"scales missing",
     "{" W("F8_E4M3", "[130,129]", "[0,16770]") "}",
     130,
     129,
     ONES,
     NULL,
     false,
     {"m.weight_scale_inv is missing"}},
    {"scales of one block",
     W_GOOD S("F32", "[1,1]", "[16770,16774]") "}",
     130,
     129,
     ONES,
     NULL,
     false,
     {FILE_, "m.weight_scale_inv has shape [1, 1], wanted [2, 2]"}},
    {"scales as a vector",
     W_GOOD S("F32", "[4]", "[16770,16786]") "}",
     130,
     129,
     ONES,
     NULL,
     false,
     {FILE_, "m.weight_scale_inv has shape [4], wanted [2, 2]"}},
    {"scales of F16",
     W_GOOD S("F16", "[2,2]", "[16770,16778]") "}",
     130,
     129,
     ONES,
     NULL,
     false,
     {FILE_, "m.weight_scale_inv has dtype F16, wanted F32, BF16 or F8_E8M0"}},
    {"blocks of 64",
     GOOD,
     130,
     129,
     ONES,
     "{\"quantization_config\":{\"weight_block_size\":[64,128]}}",
     false,
     {FILE_, "m.weight", "weight_block_size [64, 128], wanted [128, 128]"}},
    {"blocks of nothing",
     GOOD,
     130,
     129,
     ONES,
     "{\"quantization_config\":{\"weight_block_size\":128}}",
     false,
     {"weight_block_size"}},
    {"scale NaN",
     GOOD,
     130,
     129,
     {1, 1, NAN, 1},
     NULL,
     true,
     {FILE_, "m.weight_scale_inv", "block [1, 0] is"}},
    {"scale infinite",
     GOOD,
     130,
     129,
     {1, INFINITY, 1, 1},
     NULL,
     true,
     {FILE_, "m.weight_scale_inv", "block [0, 1] is inf, wanted a finite number >= 0"}},
    {"scale negative",
     GOOD,
     130,
     129,
     {1, 1, 1, -0.5f},
     NULL,
     true,
     {FILE_, "m.weight_scale_inv", "block [1, 1] is -0.5"}},
};
enum { N_REFUSED = sizeof refused_cases / sizeof refused_cases[0] };

static void has_texts(const char *label, const char *error, const char *const *text)
{
    for (int i = 0; i < 3 && text[i] != NULL; i++)
        ck_assert_msg(strstr(error, text[i]) != NULL, "%s: \"%s\" is not in: %s", label, text[i],
                      error);
}

START_TEST(test_refused)
{
    const refused *r = &refused_cases[_i];
    fixture f;
    fixture_open(&f);
    static unsigned char data[16786];
    memcpy(data + 16770, r->scale, 16);
    fixture_write_safetensors(&f, "model.safetensors", r->header, data, sizeof data);
    if (r->config != NULL)
        fixture_write_text(&f, "config.json", r->config);
    shoal_checkpoint *c = NULL;
    ck_assert_msg(shoal_checkpoint_open(&c, f.path, false, &f.log) == SHOAL_OK, "%s: %s", r->label,
                  f.log.error);
    shoal_loader loader;
    ck_assert_int_eq(shoal_loader_open(&loader, c, &f.log), SHOAL_OK);

    shoal_format format = SHOAL_N_FORMAT;
    shoal_status status = shoal_load_check_matrix(&format, &loader, shoal_weight_ref_of("m.weight"),
                                                  r->n_row, r->n_col);
    ck_assert_msg(status == (r->only_when_read ? SHOAL_OK : SHOAL_BAD_DATA), "%s: %s", r->label,
                  f.log.error);
    if (!r->only_when_read) {
        has_texts(r->label, f.log.error, r->text);
        ck_assert_int_eq(format, SHOAL_N_FORMAT);
    }
    f.log.error[0] = '\0';
    shoal_matrix w = new_matrix(SHOAL_FORMAT_FP8_BLOCK, r->n_row, r->n_col);
    ck_assert_int_eq(shoal_load_matrix(&w, &loader, shoal_weight_ref_of("m.weight")),
                     SHOAL_BAD_DATA);
    has_texts(r->label, f.log.error, r->text);
    free_matrix(&w);
    shoal_loader_close(&loader);
    shoal_checkpoint_close(c);
    fixture_close(&f);
}
END_TEST

static void refuse(const fixture *f, shoal_status status, const char *text)
{
    ck_assert_int_eq(status, SHOAL_BAD_DATA);
    ck_assert_msg(strstr(f->log.error, text) != NULL, "\"%s\" is not in: %s", text, f->log.error);
}

START_TEST(test_refused_others)
{
    fixture f;
    fixture_open(&f);
    static const float data[8] = {NAN};
    static const char header[] =
        "{" W("BF16", "[4,2]",
              "[0,16]") ","
                        "\"i\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[16,32]}}";
    fixture_write_safetensors(&f, "model.safetensors", header, data, sizeof data);
    shoal_checkpoint *c = NULL;
    ck_assert_int_eq(shoal_checkpoint_open(&c, f.path, false, &f.log), SHOAL_OK);
    shoal_loader loader;
    ck_assert_int_eq(shoal_loader_open(&loader, c, &f.log), SHOAL_OK);
    float x[8];
    refuse(&f, shoal_load_check_vector(&loader, shoal_weight_ref_of("v"), 2),
           "tensor v is missing, wanted a vector");
    refuse(&f, shoal_load_check_vector(&loader, shoal_weight_ref_of("i"), 3),
           "tensor i has shape [2], wanted [3]");
    refuse(&f, shoal_load_check_vector(&loader, shoal_weight_ref_of("i"), 2),
           "tensor i has dtype I64, wanted F32, F16");
    refuse(&f, shoal_load_check_vector(&loader, shoal_weight_ref_of("m.weight"), 8),
           "m.weight has shape [4, 2]");
    refuse(&f, shoal_load_vector(x, &loader, shoal_weight_ref_of("i"), 2),
           "tensor i has dtype I64");
    refuse(&f, shoal_load_rows_f32(x, &loader, shoal_weight_ref_of("i"), 0, 1, 2),
           "tensor i has shape [2], wanted [*, 2]");
    refuse(&f, shoal_load_rows_f32(x, &loader, shoal_weight_ref_of("m.weight"), 0, 1, 3),
           "m.weight has shape [4, 2], wanted [*, 3]");
    refuse(&f, shoal_load_rows_f32(x, &loader, shoal_weight_ref_of("m.weight"), 3, 2, 2),
           "wanted rows 3 to 5");
    refuse(
        &f,
        shoal_load_rows_f32(x, &loader, shoal_weight_ref_of("m.weight"), INT32_MAX, INT32_MAX, 2),
        "wanted rows");
    refuse(&f, shoal_load_rows_f32(x, &loader, shoal_weight_ref_of("m.weight"), -1, 2, 2),
           "wanted rows -1 to 1");
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(c), 0);

    /* another format than its kind */
    shoal_matrix w = new_matrix(SHOAL_FORMAT_F32, 4, 2);
    refuse(&f, shoal_load_matrix(&w, &loader, shoal_weight_ref_of("m.weight")),
           "m.weight has dtype BF16, wanted f32");
    free_matrix(&w);

    /* the file is cut after opening; a NaN weight is not looked for */
    w = new_matrix(SHOAL_FORMAT_BF16, 4, 2);
    ck_assert_int_eq(shoal_load_matrix(&w, &loader, shoal_weight_ref_of("m.weight")), SHOAL_OK);
    ck_assert_int_eq(truncate(fixture_path(&f, "model.safetensors"), 8 + sizeof header), 0);
    refuse(&f, shoal_load_matrix(&w, &loader, shoal_weight_ref_of("m.weight")), "shrank");
    free_matrix(&w);
    shoal_loader_close(&loader);
    shoal_checkpoint_close(c);
    fixture_close(&f);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_formats);
    SHOAL_TEST(suite, test_pieces);
    SHOAL_TEST(suite, test_golden_fp8);
    SHOAL_TEST(suite, test_vectors);
    SHOAL_TEST(suite, test_refused_others);
    TCase *table = tcase_create("refused");
    tcase_set_timeout(table, 0);
    tcase_add_loop_test(table, test_refused, 0, N_REFUSED);
    suite_add_tcase(suite, table);
}

SHOAL_TEST_MAIN("checkpoint.load", add_tests)
