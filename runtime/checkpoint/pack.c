#include "runtime/checkpoint/pack.h"

#include "runtime/checkpoint/dequant.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* One piece: rows [row, row + n_row) of the source, a tile for each band. */
typedef struct pack_job {
    shoal_matrix *w;   /* whose row 0 is row row0 of the source: the whole, or the piece alone */
    shoal_matrix part; /* the piece, on its way to a device */
    const shoal__rows *rows;
    int32_t row, n_row, row0;
    unsigned char *scratch; /* [n_thread, scratch_bytes] */
    size_t scratch_bytes;
    atomic_int bad_row; /* the first row that cannot be packed; INT32_MAX: none */
} pack_job;

static void note_bad(pack_job *job, int32_t row)
{
    int first = atomic_load(&job->bad_row);
    while (row < first && !atomic_compare_exchange_weak(&job->bad_row, &first, row)) {
    }
}

/* x: [n, n_col] f32, with room for half as much behind it. */
static void pack_from_f32(pack_job *job, int32_t row, int32_t n, float *x)
{
    shoal_matrix *w = job->w;
    row -= job->row0;
    size_t n_elem = (size_t)n * (size_t)w->n_col;
    int32_t bad_row;
    if (w->format == SHOAL_FORMAT_F32) {
        shoal_matrix_pack(w, row, n, x);
    } else if (w->format == SHOAL_FORMAT_BF16) {
        uint16_t *rounded = (uint16_t *)(void *)(x + n_elem);
        for (size_t i = 0; i < n_elem; i++)
            rounded[i] = shoal_f32_to_bf16(x[i]);
        shoal_matrix_pack(w, row, n, rounded);
    } else if (!shoal_matrix_pack_quantised(w, row, n, x, &bad_row)) {
        note_bad(job, bad_row + job->row0);
    }
}

/* GGUF keeps scale and nibbles of MXFP4 together. A scale of 255 is not a number. */
static bool scales_are_good(const unsigned char *blocks, size_t n_group)
{
    enum { BLOCK_BYTES = 1 + SHOAL_GROUP / 2 };
    bool good = true;
    for (size_t g = 0; g < n_group; g++)
        good = good && blocks[g * BLOCK_BYTES] != 0xff;
    return good;
}

/* The first of n rows of F8_E4M3 with a code of NaN, all ones but for the sign, which kernels take
 * for numbers (matrix.h); n if there is none. */
static int32_t find_nan_row(const unsigned char *stored, int32_t n, size_t row_bytes)
{
    const uint64_t ones = 0x0101010101010101u;
    for (int32_t i = 0; i < n; i++, stored += row_bytes) {
        uint64_t found = 0;
        for (size_t c = 0; c < row_bytes; c += sizeof found) {
            uint64_t codes = 0;
            size_t rest = row_bytes - c;
            memcpy(&codes, stored + c, rest < sizeof codes ? rest : sizeof codes);
            found |= (codes & 0x7f * ones) + ones;
        }
        if ((found & 0x80 * ones) != 0)
            return i;
    }
    return n;
}

static void pack_band(pack_job *job, int32_t row, int32_t n, unsigned char *scratch)
{
    const shoal__rows *rows = job->rows;
    const shoal__source *s = rows->source;
    const int32_t to = row - job->row0;
    const unsigned char *stored =
        (const unsigned char *)rows->loader->piece + (size_t)(row - job->row) * rows->row_bytes;
    size_t n_group = (size_t)n * ((size_t)s->n_col / SHOAL_GROUP);
    bool blocks = s->tensor->dtype == SHOAL_DTYPE_MXFP4;
    if (blocks && !scales_are_good(stored, n_group)) {
        note_bad(job, row);
    } else if (s->via_f32) {
        float *x = (float *)(void *)scratch;
        shoal__rows_to_f32(x, rows, stored, row, n);
        pack_from_f32(job, row, n, x);
    } else if (s->mxfp4_pair) {
        shoal_matrix_pack_mxfp4(job->w, to, n, stored, shoal__rows_mxfp4_scales(rows, row));
    } else if (blocks) {
        uint8_t *scales = scratch + n_group * (SHOAL_GROUP / 2);
        shoal__mxfp4_split(scratch, scales, stored, n_group);
        shoal_matrix_pack_mxfp4(job->w, to, n, scratch, scales);
    } else if (shoal_format_is_quantised(s->format)) {
        shoal_matrix_pack_blocks(job->w, to, n, stored);
    } else {
        bool fp8 = s->format == SHOAL_FORMAT_FP8_BLOCK;
        int32_t bad = fp8 ? find_nan_row(stored, n, rows->row_bytes) : n;
        if (bad < n)
            note_bad(job, row + bad);
        else
            shoal_matrix_pack(job->w, to, n, stored);
    }
}

static void pack_tile(void *arg, int32_t tile, int32_t worker)
{
    pack_job *job = arg;
    int32_t at = tile * SHOAL_BAND;
    int32_t n = job->n_row - at < SHOAL_BAND ? job->n_row - at : SHOAL_BAND;
    pack_band(job, job->row + at, n, job->scratch + (size_t)worker * job->scratch_bytes);
}

static shoal_status fail_row(const pack_job *job, int32_t row)
{
    const shoal__source *s = job->rows->source;
    const shoal_loader *loader = job->rows->loader;
    const char *file = shoal_checkpoint_file_name(loader->checkpoint, s->tensor);
    if (s->tensor->dtype == SHOAL_DTYPE_MXFP4)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s: a scale of row %d or the %d rows behind it is 255 (not a "
                          "number), wanted 0 to 254",
                          file, s->tensor->name, row, SHOAL_BAND - 1);
    if (job->w->format == SHOAL_FORMAT_FP8_BLOCK)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s: row %d has an element that is not a number (code 0x7f or "
                          "0xff), wanted weights",
                          file, s->tensor->name, row);
    return shoal_fail(loader->log, SHOAL_BAD_DATA,
                      "%s: tensor %s: row %d has a value that is not a finite number or too large "
                      "for a scale in f16; --weights native or bf16 do not quantise it to %s",
                      file, s->tensor->name, row, shoal_format_text(job->w->format));
}

/* Where a matrix is packed into: its own memory, or by pieces that are uploaded there. */
typedef struct target {
    shoal_matrix *w;
    shoal_upload *upload; /* NULL: w's memory is the host's */
} target;

/* Rows [row, row + n) are packed next. */
static shoal_status begin_piece(pack_job *job, const target *to, int32_t row, int32_t n)
{
    job->row = row;
    job->n_row = n;
    if (to->upload == NULL)
        return SHOAL_OK;
    job->part = (shoal_matrix){.format = to->w->format, .n_row = n, .n_col = to->w->n_col};
    job->w = &job->part;
    job->row0 = row;
    return shoal_upload_room(&job->part.data, to->upload,
                             shoal_matrix_data_bytes(to->w->format, n, to->w->n_col));
}

/* They are packed. */
static void end_piece(const pack_job *job, const target *to)
{
    const shoal_matrix *w = to->w;
    if (to->upload == NULL)
        return;
    shoal_upload_send(to->upload,
                      (unsigned char *)w->data +
                          shoal_matrix_data_bytes(w->format, job->row, w->n_col),
                      job->part.data, shoal_matrix_data_bytes(w->format, job->n_row, w->n_col));
}

/* kv_b in two tensors: its rows are made, not read. */
static shoal_status pack_made_rows(pack_job *job, shoal__rows *rows, const target *to)
{
    float *x = (float *)(void *)job->scratch;
    for (int32_t row = 0; row < to->w->n_row; row += SHOAL_BAND) {
        int32_t n = to->w->n_row - row < SHOAL_BAND ? to->w->n_row - row : SHOAL_BAND;
        SHOAL_TRY(shoal__rows_read_f32(x, rows, row, n));
        SHOAL_TRY(begin_piece(job, to, row, n));
        pack_from_f32(job, row, n, x);
        end_piece(job, to);
    }
    return SHOAL_OK;
}

/* Rows of a piece: those of a read, or fewer where they become more than a buffer holds. */
static int32_t piece_rows(const shoal__rows *rows, const target *to)
{
    if (to->upload == NULL)
        return rows->n_step;
    const size_t band = shoal_matrix_data_bytes(to->w->format, SHOAL_BAND, to->w->n_col);
    const size_t n_band = to->upload->n_bytes / band;
    const size_t n_read = (size_t)rows->n_step / SHOAL_BAND;
    return (int32_t)(n_band < 1 ? 1 : n_band < n_read ? n_band : n_read) * SHOAL_BAND;
}

static shoal_status pack_pieces(pack_job *job, shoal__rows *rows, const target *to)
{
    shoal_pool *pool = rows->loader->pool;
    const int32_t n_all = to->w->n_row, n_most = piece_rows(rows, to);
    for (int32_t row = 0; row < n_all; row += n_most) {
        const int32_t n = n_all - row < n_most ? n_all - row : n_most;
        SHOAL_TRY(shoal__rows_read(rows, row, n));
        SHOAL_TRY(begin_piece(job, to, row, n));
        int32_t n_tile = (n - 1) / SHOAL_BAND + 1;
        if (pool != NULL)
            shoal_pool_run(pool, pack_tile, job, n_tile);
        for (int32_t tile = 0; tile < n_tile && pool == NULL; tile++)
            pack_tile(job, tile, 0);
        if (atomic_load(&job->bad_row) != INT32_MAX)
            break;
        end_piece(job, to);
    }
    return SHOAL_OK;
}

/* The factors of all blocks of F8_E4M3. */
static shoal_status pack_scales(shoal__rows *rows, const target *to)
{
    const int32_t block0 = rows->source->row0 / SHOAL_FP8_BLOCK;
    const int32_t n_block = shoal__fp8_n_block(to->w->n_row);
    if (to->upload == NULL)
        return shoal__rows_read_scales(to->w->scale, rows, block0, n_block);
    const size_t line = (size_t)shoal__fp8_n_block(to->w->n_col) * sizeof(float);
    const size_t n_fit = to->upload->n_bytes / line;
    const int32_t n_most = n_fit < 1 ? 1 : n_fit < (size_t)n_block ? (int32_t)n_fit : n_block;
    for (int32_t b = 0; b < n_block; b += n_most) {
        const int32_t n = n_block - b < n_most ? n_block - b : n_most;
        void *room;
        SHOAL_TRY(shoal_upload_room(&room, to->upload, (size_t)n * line));
        SHOAL_TRY(shoal__rows_read_scales(room, rows, block0 + b, n));
        shoal_upload_send(to->upload, (unsigned char *)to->w->scale + (size_t)b * line, room,
                          (size_t)n * line);
    }
    return SHOAL_OK;
}

shoal_status shoal__pack_rows(shoal_matrix *w, shoal__rows *rows, shoal_upload *upload)
{
    const shoal_loader *loader = rows->loader;
    const target to = {.w = w, .upload = upload};
    if (w->format == SHOAL_FORMAT_FP8_BLOCK)
        SHOAL_TRY(pack_scales(rows, &to));
    size_t n_thread = loader->pool != NULL ? (size_t)shoal_pool_n_thread(loader->pool) : 1;
    pack_job job = {.w = w, .rows = rows};
    job.scratch_bytes = SHOAL_BAND * (size_t)w->n_col * (sizeof(float) + sizeof(uint16_t));
    atomic_init(&job.bad_row, INT32_MAX);
    job.scratch = malloc(n_thread * job.scratch_bytes);
    if (job.scratch == NULL)
        return shoal_fail(loader->log, SHOAL_NO_MEMORY,
                          "tensor %s: no memory to convert its rows: wanted %zu bytes",
                          rows->source->tensor->name, n_thread * job.scratch_bytes);
    const shoal__view *view = rows->source->view;
    bool made = view != NULL && view->kind == SHOAL__VIEW_KV_B;
    shoal_status status = made ? pack_made_rows(&job, rows, &to) : pack_pieces(&job, rows, &to);
    free(job.scratch);
    int32_t bad_row = atomic_load(&job.bad_row);
    return status == SHOAL_OK && bad_row != INT32_MAX ? fail_row(&job, bad_row) : status;
}
