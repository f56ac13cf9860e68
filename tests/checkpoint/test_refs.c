/* Weights that are a part of a stored tensor: slices, halves, interleaved rows, transposed; MXFP4
 * in two tensors; FP8 in fused tensors and with e8m0 scales. Values are known for every element, so
 * a wrong row is a wrong value. */
#include "runtime/checkpoint/load.h"
#include "tests/checkpoint/fixture.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

/* -- files -- */

typedef struct file_maker {
    char header[4096];
    size_t n_header;
    unsigned char *data;
    size_t n_data;
} file_maker;

static void add(file_maker *m, const char *name, const char *dtype, const char *shape,
                const void *data, size_t n_bytes)
{
    m->n_header += (size_t)snprintf(
        m->header + m->n_header, sizeof m->header - m->n_header,
        "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
        m->n_header == 0 ? "{" : ",", name, dtype, shape, m->n_data, m->n_data + n_bytes);
    m->data = realloc(m->data, m->n_data + n_bytes + 1);
    ck_assert_ptr_nonnull(m->data);
    memcpy(m->data + m->n_data, data, n_bytes);
    m->n_data += n_bytes;
}

typedef struct opened {
    fixture f;
    shoal_checkpoint *checkpoint;
    shoal_loader loader;
} opened;

static void open_made(opened *o, file_maker *m)
{
    fixture_open(&o->f);
    snprintf(m->header + m->n_header, sizeof m->header - m->n_header, "}");
    fixture_write_safetensors(&o->f, "model.safetensors", m->header, m->data, m->n_data);
    free(m->data);
    ck_assert_msg(shoal_checkpoint_open(&o->checkpoint, o->f.path, false, &o->f.log) == SHOAL_OK,
                  "%s", o->f.log.error);
    ck_assert_int_eq(shoal_loader_open(&o->loader, o->checkpoint, &o->f.log), SHOAL_OK);
}

static void close_made(opened *o)
{
    shoal_loader_close(&o->loader);
    shoal_checkpoint_close(o->checkpoint);
    fixture_close(&o->f);
}

static shoal_matrix new_matrix(shoal_format format, int32_t n_row, int32_t n_col)
{
    shoal_matrix w = {.format = format, .n_row = n_row, .n_col = n_col};
    w.data = malloc(shoal_matrix_data_bytes(format, n_row, n_col) + 1);
    w.scale = malloc(shoal_matrix_scale_bytes(format, n_row, n_col) + 1);
    ck_assert(w.data != NULL && w.scale != NULL);
    return w;
}

static void free_matrix(shoal_matrix *w)
{
    free(w->data);
    free(w->scale);
}

/* -- plain dtypes -- */

enum { N_SLICE = 3, N_STORED = 44, N_COL = 9 };

/* Exact in bf16. */
static float value_of(int slice, int row, int col)
{
    return (float)((slice * 50 + row) % 128 + 128 * (col % 2)) * (col < 5 ? 1.0F : -1.0F);
}

static uint16_t bf16_of(float x)
{
    return shoal_f32_to_bf16(x);
}

/* "fused" [3, 44, 9], "turned" [3, 9, 44], "flat" [44, 9], "bias" [3, 44] */
static void open_fused(opened *o)
{
    static uint16_t fused[N_SLICE][N_STORED][N_COL], turned[N_SLICE][N_COL][N_STORED];
    static float bias[N_SLICE][N_STORED];
    for (int s = 0; s < N_SLICE; s++)
        for (int r = 0; r < N_STORED; r++)
            for (int c = 0; c < N_COL; c++) {
                fused[s][r][c] = turned[s][c][r] = bf16_of(value_of(s, r, c));
                bias[s][r] = (float)(s * 100 + r);
            }
    file_maker m = {0};
    add(&m, "fused", "BF16", "[3,44,9]", fused, sizeof fused);
    add(&m, "turned", "BF16", "[3,9,44]", turned, sizeof turned);
    add(&m, "flat", "BF16", "[44,9]", fused[1], sizeof fused[1]);
    add(&m, "bias", "F32", "[3,44]", bias, sizeof bias);
    open_made(o, &m);
}

typedef struct part {
    const char *name;
    int32_t slice;
    int32_t n_row, n_stored, row0, row_step;
    bool transposed;
    uint64_t n_bytes; /* read for it */
} part;

static const part parts[] = {
    {"fused", 0, 44, 0, 0, 1, false, 44 * 18},
    {"fused", 2, 44, 44, 0, 1, false, 44 * 18},
    {"fused", 1, 22, 44, 0, 1, false, 22 * 18},
    {"fused", 1, 22, 44, 22, 1, false, 22 * 18},
    {"fused", 2, 22, 44, 0, 2, false, 32 * 18 - 18 + 12 * 18 - 18},
    {"fused", 2, 22, 44, 1, 2, false, 32 * 18 - 18 + 12 * 18 - 18},
    {"fused", 0, 1, 44, 43, 1, false, 18},
    {"fused", 0, 0, 44, 0, 1, false, 0},
    {"turned", 1, 44, 0, 0, 1, true, 44 * 18},
    {"turned", 2, 22, 44, 1, 2, true, 44 * 18},
    {"turned", 0, 22, 44, 22, 1, true, 44 * 18},
    {"flat", -1, 22, 44, 1, 2, false, 558 + 198},
    {"flat", -1, 22, 44, 22, 1, false, 22 * 18},
};
enum { N_PART = sizeof parts / sizeof parts[0] };

static shoal_weight_ref ref_of_part(const part *p)
{
    return (shoal_weight_ref){.name = p->name,
                              .slice = p->slice,
                              .n_slice = N_SLICE,
                              .n_stored_row = p->n_stored,
                              .row0 = p->row0,
                              .row_step = p->row_step,
                              .transposed = p->transposed};
}

START_TEST(test_parts)
{
    opened o;
    open_fused(&o);
    for (int i = 0; i < N_PART; i++) {
        const part *p = &parts[i];
        shoal_weight_ref ref = ref_of_part(p);
        shoal_format format = SHOAL_N_FORMAT;
        shoal_status status = shoal_load_check_matrix(&format, &o.loader, ref, p->n_row, N_COL);
        ck_assert_msg(status == SHOAL_OK, "%d: %s", i, o.f.log.error);
        ck_assert_int_eq(format, SHOAL_FORMAT_BF16);
        shoal_matrix w = new_matrix(format, p->n_row, N_COL);
        uint64_t before = shoal_checkpoint_bytes_read(o.checkpoint);
        ck_assert_msg(shoal_load_matrix(&w, &o.loader, ref) == SHOAL_OK, "%s", o.f.log.error);
        uint64_t n_read = shoal_checkpoint_bytes_read(o.checkpoint) - before;
        if (p->row_step == 1 || p->transposed)
            ck_assert_msg(n_read == p->n_bytes, "%d: read %d", i, (int)n_read);
        else /* the span of the rows, no more */
            ck_assert_uint_le(n_read, N_STORED * N_COL * 2);
        ck_assert_uint_eq(shoal_weight_ref_bytes(o.checkpoint, ref, p->n_row),
                          (uint64_t)p->n_row * N_COL * 2);
        float rows[N_STORED][N_COL];
        int32_t first = p->n_row / 3;
        ck_assert_int_eq(
            shoal_load_rows_f32(rows[0], &o.loader, ref, first, p->n_row - first, N_COL), SHOAL_OK);
        int slice = p->slice < 0 ? 1 : p->slice;
        for (int32_t r = 0; r < p->n_row; r++)
            for (int32_t c = 0; c < N_COL; c++) {
                float wanted = value_of(slice, p->row0 + r * p->row_step, c);
                ck_assert_msg(shoal_matrix_at(&w, r, c) == wanted, "%d: (%d, %d)", i, r, c);
                ck_assert(r < first || rows[r - first][c] == wanted);
            }
        free_matrix(&w);
    }
    close_made(&o);
}
END_TEST

START_TEST(test_vectors)
{
    opened o;
    open_fused(&o);
    float x[N_STORED];
    shoal_weight_ref ref = shoal_weight_ref_slice("bias", 2, N_SLICE);
    ck_assert_int_eq(shoal_load_check_vector(&o.loader, ref, N_STORED), SHOAL_OK);
    ck_assert_int_eq(shoal_load_vector(x, &o.loader, ref, N_STORED), SHOAL_OK);
    ck_assert(x[0] == 200 && x[43] == 243);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(o.checkpoint), N_STORED * 4);
    ref.n_stored_row = N_STORED;
    ref.row0 = 1;
    ref.row_step = 2;
    ck_assert_int_eq(shoal_load_vector(x, &o.loader, ref, 22), SHOAL_OK);
    ck_assert(x[0] == 201 && x[1] == 203 && x[21] == 243);
    ref.row0 = 22;
    ref.row_step = 1;
    ck_assert_int_eq(shoal_load_vector(x, &o.loader, ref, 22), SHOAL_OK);
    ck_assert(x[0] == 222 && x[21] == 243);
    close_made(&o);
}
END_TEST

/* -- F8_E4M3 -- */

/* Two experts of [300, 130]: three and two blocks of scales, as e8m0 and as f32. */
static void open_fp8(opened *o, bool e8m0)
{
    enum { ROWS = 300, COLS = 130, BLOCKS = 3 * 2 };
    static uint8_t data[2][ROWS][COLS];
    static float wide[2][BLOCKS];
    static uint8_t narrow[2][BLOCKS];
    for (int s = 0; s < 2; s++) {
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLS; c++)
                data[s][r][c] = (uint8_t)((r * 7 + c * 3 + s) % 0x7f);
        for (int b = 0; b < BLOCKS; b++) {
            narrow[s][b] = (uint8_t)(120 + s * 6 + b);
            wide[s][b] = ldexpf(1.0F, narrow[s][b] - 127);
        }
    }
    file_maker m = {0};
    add(&m, "w", "F8_E4M3", "[2,300,130]", data, sizeof data);
    if (e8m0)
        add(&m, "w_scale_inv", "F8_E8M0", "[2,3,2]", narrow, sizeof narrow);
    else
        add(&m, "w_scale_inv", "F32", "[2,3,2]", wide, sizeof wide);
    open_made(o, &m);
}

static float fp8_value(int slice, int row, int col)
{
    return shoal_e4m3_to_f32((uint8_t)((row * 7 + col * 3 + slice) % 0x7f)) *
           ldexpf(1.0F, 120 + slice * 6 + row / 128 * 2 + col / 128 - 127);
}

START_TEST(test_fp8)
{
    static const struct {
        int32_t n_row, row0, row_step;
        shoal_format format;
    } cases[] = {{300, 0, 1, SHOAL_FORMAT_FP8_BLOCK},
                 {172, 128, 1, SHOAL_FORMAT_FP8_BLOCK},
                 {150, 0, 1, SHOAL_FORMAT_FP8_BLOCK},
                 {150, 150, 1, SHOAL_FORMAT_F32},
                 {150, 1, 2, SHOAL_FORMAT_F32}};
    for (int i = 0; i < 10; i++) {
        opened o;
        open_fp8(&o, i < 5);
        int32_t n_row = cases[i % 5].n_row, row0 = cases[i % 5].row0, step = cases[i % 5].row_step;
        shoal_weight_ref ref = {"w", 1, 2, 300, row0, step, false, 0};
        shoal_format format = SHOAL_N_FORMAT;
        ck_assert_msg(shoal_load_check_matrix(&format, &o.loader, ref, n_row, 130) == SHOAL_OK,
                      "%s", o.f.log.error);
        ck_assert_int_eq(format, cases[i % 5].format);
        shoal_matrix w = new_matrix(format, n_row, 130);
        ck_assert_int_eq(shoal_load_matrix(&w, &o.loader, ref), SHOAL_OK);
        for (int32_t r = 0; r < n_row; r++)
            for (int32_t c = 0; c < 130; c++)
                if (shoal_matrix_at(&w, r, c) != fp8_value(1, row0 + r * step, c))
                    ck_abort_msg("case %d: (%d, %d)", i, r, c);
        free_matrix(&w);
        close_made(&o);
    }
}
END_TEST

/* -- MXFP4 -- */

static float e2m1(int code)
{
    static const float value[8] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
    return code & 8 ? -value[code & 7] : value[code & 7];
}

static const char gpt_oss[] = "tests/golden/gpt_oss-mxfp4";

/* One weight of the checkpoint against its bytes. */
static void check_mxfp4(opened *o, const char *name, int32_t slice, int32_t n_stored, int32_t n_col)
{
    char full[128];
    snprintf(full, sizeof full, "%s_blocks", name);
    const shoal_tensor_info *blocks = shoal_checkpoint_find(o->checkpoint, full);
    snprintf(full, sizeof full, "%s_scales", name);
    const shoal_tensor_info *scales = shoal_checkpoint_find(o->checkpoint, full);
    ck_assert(blocks != NULL && scales != NULL);
    size_t n_elem = (size_t)n_stored * (size_t)n_col;
    uint8_t *b = malloc(n_elem / 2), *s = malloc(n_elem / 32);
    ck_assert(b != NULL && s != NULL);
    ck_assert_int_eq(
        shoal_checkpoint_read(o->checkpoint, blocks, (size_t)slice * n_elem / 2, n_elem / 2, b), 0);
    ck_assert_int_eq(
        shoal_checkpoint_read(o->checkpoint, scales, (size_t)slice * n_elem / 32, n_elem / 32, s),
        0);
    for (int32_t step = 1; step <= 2; step++) {
        int32_t n_row = n_stored / step, row0 = step - 1;
        shoal_weight_ref ref = {name, slice, 8, n_stored, row0, step, true, 0};
        shoal_format format = SHOAL_N_FORMAT;
        shoal_status status = shoal_load_check_matrix(&format, &o->loader, ref, n_row, n_col);
        ck_assert_msg(status == SHOAL_OK, "%s", o->f.log.error);
        ck_assert_int_eq(format, SHOAL_FORMAT_MXFP4);
        ck_assert_uint_eq(shoal_weight_ref_bytes(o->checkpoint, ref, n_row),
                          (uint64_t)n_row * (uint64_t)n_col / 32 * 17);
        shoal_matrix w = new_matrix(format, n_row, n_col);
        float *rows = malloc((size_t)n_row * (size_t)n_col * sizeof *rows);
        ck_assert_ptr_nonnull(rows);
        ck_assert_int_eq(shoal_load_matrix(&w, &o->loader, ref), SHOAL_OK);
        ck_assert_int_eq(shoal_load_rows_f32(rows, &o->loader, ref, 0, n_row, n_col), SHOAL_OK);
        for (int32_t r = 0; r < n_row; r++)
            for (int32_t c = 0; c < n_col; c++) {
                size_t i = (size_t)(row0 + r * step) * (size_t)n_col + (size_t)c;
                float wanted = e2m1(b[i / 2] >> i % 2 * 4 & 15) * ldexpf(1.0F, s[i / 32] - 127);
                if (shoal_matrix_at(&w, r, c) != wanted || rows[r * n_col + c] != wanted)
                    ck_abort_msg("%s: slice %d (%d, %d)", name, slice, r, c);
            }
        free(rows);
        free_matrix(&w);
    }
    free(s);
    free(b);
}

START_TEST(test_mxfp4)
{
    opened o;
    fixture_open(&o.f);
    const char *path = fixture_source_path(gpt_oss);
    ck_assert_msg(shoal_checkpoint_open(&o.checkpoint, path, true, &o.f.log) == SHOAL_OK, "%s",
                  o.f.log.error);
    ck_assert_int_eq(shoal_loader_open(&o.loader, o.checkpoint, &o.f.log), SHOAL_OK);
    for (int32_t slice = 0; slice < 8; slice += 7) {
        check_mxfp4(&o, "model.layers.1.mlp.experts.gate_up_proj", slice, 192, 64);
        check_mxfp4(&o, "model.layers.1.mlp.experts.down_proj", slice, 64, 96);
    }
    close_made(&o);
}
END_TEST

/* -- refused -- */

static uint8_t bad_data[1 << 16];

static void open_bad(opened *o)
{
    file_maker m = {0};
    memset(bad_data, 100, sizeof bad_data);
    add(&m, "fused", "BF16", "[3,44,9]", bad_data, 3 * 44 * 9 * 2);
    add(&m, "bias", "F32", "[3,44]", bad_data, 3 * 44 * 4);
    add(&m, "long", "F32", "[3,44,1]", bad_data, 3 * 44 * 4);
    add(&m, "bool", "BOOL", "[4,4]", bad_data, 16);
    add(&m, "flags", "BOOL", "[4]", bad_data, 4);
    add(&m, "e5m2", "F8_E5M2", "[4,4]", bad_data, 16);
    add(&m, "e8m0", "F8_E8M0", "[4,4]", bad_data, 16);
    /* pairs */
    add(&m, "alone_blocks", "U8", "[2,4,2,16]", bad_data, 256);
    add(&m, "i8_blocks", "I8", "[2,4,2,16]", bad_data, 256);
    add(&m, "i8_scales", "U8", "[2,4,2]", bad_data, 16);
    add(&m, "f32_blocks", "U8", "[2,4,2,16]", bad_data, 256);
    add(&m, "f32_scales", "F32", "[2,4,2]", bad_data, 64);
    add(&m, "rows_blocks", "U8", "[2,4,2,16]", bad_data, 256);
    add(&m, "rows_scales", "U8", "[2,5,2]", bad_data, 20);
    add(&m, "half_blocks", "U8", "[2,4,2,8]", bad_data, 128);
    add(&m, "half_scales", "U8", "[2,4,2]", bad_data, 16);
    add(&m, "merged_blocks", "U8", "[2,4,32]", bad_data, 256);
    add(&m, "merged_scales", "U8", "[2,4,2]", bad_data, 16);
    add(&m, "flat_blocks", "U8", "[4,2,16]", bad_data, 128);
    add(&m, "flat_scales", "U8", "[4,2]", bad_data, 8);
    add(&m, "nan_blocks", "U8", "[2,4,2,16]", bad_data, 256);
    bad_data[13] = 255; /* slice 1, row 2 */
    add(&m, "nan_scales", "U8", "[2,4,2]", bad_data, 16);
    /* F8_E4M3 in fused tensors */
    add(&m, "fp8", "F8_E4M3", "[2,130,4]", bad_data, 1040);
    add(&m, "fp8_scale_inv", "F8_E8M0", "[2,2,1]", bad_data, 4);
    add(&m, "fp8b", "F8_E4M3", "[2,130,4]", bad_data, 1040);
    add(&m, "fp8b_scale_inv", "F32", "[2,1]", bad_data, 8);
    add(&m, "fp8c", "F8_E4M3", "[2,130,4]", bad_data, 1040);
    add(&m, "fp8c_scale_inv", "U8", "[2,2,1]", bad_data, 4);
    bad_data[2] = 255;
    add(&m, "fp8n", "F8_E4M3", "[2,130,4]", bad_data, 1040);
    add(&m, "fp8n_scale_inv", "F8_E8M0", "[2,2,1]", bad_data, 4);
    bad_data[2] = 100;
    bad_data[4 * 130 + 4 * 129 + 1] = 0x7f; /* slice 1, its last row */
    add(&m, "fp8w", "F8_E4M3", "[2,130,4]", bad_data, 1040);
    add(&m, "fp8w_scale_inv", "F8_E8M0", "[2,2,1]", bad_data, 4);
    open_made(o, &m);
}

typedef struct refused {
    shoal_weight_ref ref;
    int32_t n_row, n_col;
    bool only_when_read;
    shoal_status status;
    const char *text;
} refused;

#define BAD  false, SHOAL_BAD_DATA
#define READ true, SHOAL_BAD_DATA
#define OURS false, SHOAL_FAILED

static const refused refused_cases[] = {
    {{"fused", 0, 4, 0, 0, 1, 0, 0}, 44, 9, BAD, "fused has shape [3, 44, 9], wanted [4, 44, 9]"},
    {{"fused", 0, 3, 0, 0, 1, 0, 0}, 43, 9, BAD, "wanted [3, 43, 9]"},
    {{"fused", 0, 3, 88, 0, 2, 0, 0}, 44, 9, BAD, "wanted [3, 88, 9]"},
    {{"fused", 0, 3, 0, 0, 1, 0, 0}, 44, 8, BAD, "wanted [3, 44, 8]"},
    {{"fused", 0, 3, 0, 0, 1, 1, 0}, 44, 9, BAD, "wanted [3, 9, 44]"},
    {{"fused", -1, 0, 0, 0, 1, 0, 0}, 132, 9, BAD, "wanted [132, 9]"},
    {{"fused", 3, 3, 44, 0, 1, 0, 0}, 44, 9, OURS, "slice 3"},
    {{"fused", 0, 3, 44, 1, 1, 0, 0}, 44, 9, OURS, "from row 1"},
    {{"fused", 0, 3, 44, 0, 2, 0, 0}, 23, 9, OURS, "23 rows"},
    {{"fused", 0, 3, 44, 0, 0, 0, 0}, 44, 9, OURS, "steps of 0"},
    {{"fused", 0, 3, 44, -1, 1, 0, 0}, 2, 9, OURS, "row -1"},
    {{"bias", 0, 3, 0, 0, 1, 0, 0}, 44, 1, BAD, "bias has shape [3, 44], wanted [3, 44, 1]"},
    {{"bool", -1, 0, 0, 0, 1, 0, 0}, 4, 4, BAD, "bool has dtype BOOL, wanted a weight in F32"},
    {{"e5m2", -1, 0, 0, 0, 1, 0, 0}, 4, 4, BAD, "e5m2 has dtype F8_E5M2"},
    {{"e8m0", -1, 0, 0, 0, 1, 0, 0}, 4, 4, BAD, "e8m0 has dtype F8_E8M0"},
    {{"alone", 0, 2, 0, 0, 1, 0, 0}, 4, 64, BAD, "alone_scales is missing, wanted the scales of"},
    {{"alone_blocks", 0, 2, 0, 0, 1, 0, 0}, 4, 64, BAD, "[2, 4, 2, 16], wanted [2, 4, 64]"},
    {{"i8", 0, 2, 0, 0, 1, 0, 0}, 4, 64, BAD, "i8_blocks has dtype I8, wanted U8"},
    {{"f32", 0, 2, 0, 0, 1, 0, 0}, 4, 64, BAD, "f32_scales has dtype F32, wanted U8"},
    {{"rows", 0, 2, 0, 0, 1, 0, 0},
     4,
     64,
     BAD,
     "rows_scales has shape [2, 5, 2], wanted [2, 4, 2]"},
    {{"rows", 0, 2, 0, 0, 1, 0, 0},
     5,
     64,
     BAD,
     "rows_blocks has shape [2, 4, 2, 16], wanted [2, 5,"},
    {{"half", 0, 2, 0, 0, 1, 0, 0}, 4, 64, BAD, "half_blocks has shape [2, 4, 2, 8], wanted"},
    {{"merged", 0, 2, 0, 0, 1, 0, 0}, 4, 64, BAD, "merged_blocks has shape [2, 4, 32], wanted"},
    {{"flat", 0, 2, 0, 0, 1, 0, 0}, 4, 64, BAD, "flat_scales has shape [4, 2], wanted [2, 4, 2]"},
    {{"flat", -1, 0, 0, 0, 1, 0, 0}, 4, 48, BAD, "a row of 48 elements has no whole blocks"},
    {{"flat", -1, 0, 8, 0, 2, 0, 0}, 4, 64, BAD, "flat_scales has shape [4, 2], wanted [8, 2]"},
    {{"flat", -1, 0, 4, 1, 2, 0, 0}, 3, 64, OURS, "3 rows"},
    {{"nan", 1, 2, 0, 0, 1, 0, 0}, 4, 64, READ, "nan_scales: a scale of row 2 of slice 1 is 255"},
    {{"fp8", 0, 2, 0, 0, 1, 1, 0}, 4, 130, BAD, "fp8 has dtype F8_E4M3, wanted F32"},
    {{"fp8b", 0, 2, 0, 0, 1, 0, 0},
     130,
     4,
     BAD,
     "fp8b_scale_inv has shape [2, 1], wanted [2, 2, 1]"},
    {{"fp8c", 0, 2, 0, 0, 1, 0, 0}, 130, 4, BAD, "fp8c_scale_inv has dtype U8, wanted F32"},
    {{"fp8n", 1, 2, 0, 0, 1, 0, 0},
     130,
     4,
     READ,
     "fp8n_scale_inv: the scale of block [2, 0] is nan"},
    {{"fp8w", 1, 2, 0, 0, 1, 0, 0}, 130, 4, READ, "fp8w: row 129 has an element that is"},
};
enum { N_REFUSED = sizeof refused_cases / sizeof refused_cases[0] };

START_TEST(test_refused)
{
    opened o;
    open_bad(&o);
    for (int i = 0; i < N_REFUSED; i++) {
        const refused *r = &refused_cases[i];
        shoal_format format = SHOAL_N_FORMAT;
        shoal_status status =
            shoal_load_check_matrix(&format, &o.loader, r->ref, r->n_row, r->n_col);
        ck_assert_msg(status == (r->only_when_read ? SHOAL_OK : r->status), "%d: %d %s", i, status,
                      o.f.log.error);
        shoal_matrix w =
            new_matrix(r->only_when_read ? format : SHOAL_FORMAT_F32, r->n_row, r->n_col);
        status = shoal_load_matrix(&w, &o.loader, r->ref);
        ck_assert_msg(status == r->status, "%d: %d %s", i, status, o.f.log.error);
        ck_assert_msg(strstr(o.f.log.error, r->text) != NULL, "%d: \"%s\" is not in: %s", i,
                      r->text, o.f.log.error);
        free_matrix(&w);
    }
    /* vectors */
    static const struct {
        shoal_weight_ref ref;
        int32_t n;
        const char *text;
    } vectors[] = {
        {{"bias", 0, 4, 0, 0, 1, 0, 0}, 44, "bias has shape [3, 44], wanted [4, 44]"},
        {{"bias", 0, 3, 0, 0, 1, 0, 0}, 22, "wanted [3, 22]"},
        {{"bias", -1, 0, 0, 0, 1, 0, 0}, 44, "wanted [44]"},
        {{"long", 0, 3, 0, 0, 1, 0, 0}, 44, "long has shape [3, 44, 1], wanted [3, 44]"},
        {{"flags", -1, 0, 0, 0, 1, 0, 0}, 4, "flags has dtype BOOL, wanted F32, F16 or BF16"},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        float x[64];
        ck_assert_int_eq(shoal_load_vector(x, &o.loader, vectors[i].ref, vectors[i].n),
                         SHOAL_BAD_DATA);
        ck_assert_msg(strstr(o.f.log.error, vectors[i].text) != NULL, "\"%s\" is not in: %s",
                      vectors[i].text, o.f.log.error);
    }
    close_made(&o);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_parts);
    SHOAL_TEST(suite, test_vectors);
    SHOAL_TEST(suite, test_fp8);
    SHOAL_TEST(suite, test_mxfp4);
    SHOAL_TEST(suite, test_refused);
}

SHOAL_TEST_MAIN("checkpoint.refs", add_tests)
