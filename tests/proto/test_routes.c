#include "runtime/proto/routes.h"
#include "tests/support/check_main.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_LAYER = 3, N_EXPERT = 300, TOP_K = 4, N_ROW = 5, N_CHOICE = N_ROW * N_LAYER * TOP_K };

typedef struct fixture {
    char path[64];
    shoal_log log;
    int32_t layer[N_LAYER];
    shoal_routes_header header;
    uint16_t expert[N_CHOICE];
    shoal_routes_rows rows;
} fixture;

static void fixture_open(fixture *f)
{
    *f = (fixture){.path = "/tmp/shoal-routes-XXXXXX", .layer = {1, 2, 5}};
    const int fd = mkstemp(f->path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    shoal_log_init(&f->log, NULL, 0, "h");
    f->header = (shoal_routes_header){.model = "some_family",
                                      .identity = 0xfedcba9876543210u,
                                      .n_layer = N_LAYER,
                                      .n_expert = N_EXPERT,
                                      .top_k = TOP_K,
                                      .n_group = 6,
                                      .top_group = 2,
                                      .n_rank = 3,
                                      .layer = f->layer};
    for (int32_t i = 0; i < N_CHOICE; i++)
        f->expert[i] = (uint16_t)(i * 7 % N_EXPERT);
    f->rows = (shoal_routes_rows){.step = 8,
                                  .sequence = 1ll << 40,
                                  .owner = 2,
                                  .position0 = 100,
                                  .n_row = N_ROW,
                                  .last = true,
                                  .expert = f->expert};
}

static void fixture_close(fixture *f)
{
    unlink(f->path);
}

/* The fixture's rows, `n` times. */
static void write_trace(fixture *f, int32_t n, bool ended)
{
    shoal_routes_writer w;
    ck_assert_int_eq(shoal_routes_writer_open(&w, f->path, &f->header, &f->log), SHOAL_OK);
    for (int32_t i = 0; i < n; i++)
        ck_assert_int_eq(shoal_routes_write(&w, &f->rows), SHOAL_OK);
    ck_assert_int_eq(shoal_routes_writer_close(&w, ended), SHOAL_OK);
    ck_assert_int_eq(shoal_routes_writer_close(&w, ended), SHOAL_OK);
}

/* Rows of the whole file; the status that it ends with. */
static shoal_status read_trace(fixture *f, int64_t *n_row, bool *ended, bool *torn)
{
    shoal_routes_reader r;
    *n_row = 0;
    SHOAL_TRY(shoal_routes_reader_open(&r, f->path, &f->log));
    shoal_status status;
    shoal_routes_rows rows;
    bool more;
    while ((status = shoal_routes_next(&rows, &more, &r)) == SHOAL_OK && more) {
        *n_row += rows.n_row;
        const int32_t n = rows.n_row * r.header.n_layer * r.header.top_k;
        for (int32_t i = 0; i < n; i++)
            ck_assert_int_lt(rows.expert[i], r.header.n_expert);
        ck_assert(rows.owner >= 0 && rows.owner < r.header.n_rank && rows.position0 >= 0);
    }
    *ended = r.ended;
    *torn = r.torn;
    shoal_routes_reader_close(&r);
    shoal_routes_reader_close(&r);
    return status;
}

START_TEST(round_trip)
{
    fixture f;
    fixture_open(&f);
    write_trace(&f, 2, true);
    shoal_routes_reader r;
    ck_assert_int_eq(shoal_routes_reader_open(&r, f.path, &f.log), SHOAL_OK);
    ck_assert_str_eq(r.header.model, "some_family");
    ck_assert_uint_eq(r.header.identity, f.header.identity);
    ck_assert_int_eq(r.header.n_layer, N_LAYER);
    ck_assert_int_eq(r.header.n_expert, N_EXPERT);
    ck_assert_int_eq(r.header.top_k, TOP_K);
    ck_assert_int_eq(r.header.n_group, 6);
    ck_assert_int_eq(r.header.top_group, 2);
    ck_assert_int_eq(r.header.n_rank, 3);
    ck_assert_int_eq(memcmp(r.header.layer, f.layer, sizeof f.layer), 0);
    shoal_routes_rows rows;
    bool more;
    for (int32_t i = 0; i < 2; i++) {
        ck_assert_int_eq(shoal_routes_next(&rows, &more, &r), SHOAL_OK);
        ck_assert(more);
        ck_assert_int_eq(rows.step, 8);
        ck_assert_int_eq(rows.sequence, 1ll << 40);
        ck_assert_int_eq(rows.owner, 2);
        ck_assert_int_eq(rows.position0, 100);
        ck_assert_int_eq(rows.n_row, N_ROW);
        ck_assert(rows.last && !rows.decode);
        ck_assert_int_eq(memcmp(rows.expert, f.expert, sizeof f.expert), 0);
    }
    for (int32_t i = 0; i < 2; i++) {
        ck_assert_int_eq(shoal_routes_next(&rows, &more, &r), SHOAL_OK);
        ck_assert(!more && r.ended && !r.torn);
    }
    shoal_routes_reader_close(&r);
    fixture_close(&f);
}
END_TEST

/* Rows that exceed a record go on in the next, and only the last of them ends the prompt. */
START_TEST(long_runs_become_records)
{
    enum { N_LONG = 5000 };
    fixture f;
    fixture_open(&f);
    const size_t per_row = N_LAYER * TOP_K;
    uint16_t *expert = malloc(N_LONG * per_row * sizeof *expert);
    ck_assert_ptr_nonnull(expert);
    for (size_t i = 0; i < N_LONG * per_row; i++)
        expert[i] = (uint16_t)((i / TOP_K + i % TOP_K) % N_EXPERT);
    f.rows.n_row = N_LONG;
    f.rows.position0 = 0;
    f.rows.expert = expert;
    write_trace(&f, 1, true);
    shoal_routes_reader r;
    ck_assert_int_eq(shoal_routes_reader_open(&r, f.path, &f.log), SHOAL_OK);
    shoal_routes_rows rows;
    bool more;
    int32_t n_row = 0;
    while (shoal_routes_next(&rows, &more, &r) == SHOAL_OK && more) {
        ck_assert_int_eq(rows.position0, n_row);
        ck_assert_int_eq(memcmp(rows.expert, expert + (size_t)n_row * per_row,
                                (size_t)rows.n_row * per_row * sizeof *expert),
                         0);
        n_row += rows.n_row;
        ck_assert_int_eq(rows.last, n_row == N_LONG);
    }
    ck_assert_int_eq(n_row, N_LONG);
    ck_assert_int_gt(r.n_record, 1);
    shoal_routes_reader_close(&r);
    free(expert);
    fixture_close(&f);
}
END_TEST

/* Rows that no run makes are written all the same (the writer is not the judge) and refused. */
static void refused(fixture *f, const char *says)
{
    int64_t n_row;
    bool ended, torn;
    write_trace(f, 1, true);
    ck_assert_int_eq(read_trace(f, &n_row, &ended, &torn), SHOAL_BAD_DATA);
    ck_assert_msg(strstr(f->log.error, says) != NULL, "%s", f->log.error);
    fixture_close(f);
    fixture_open(f);
}

START_TEST(rows_that_no_run_makes)
{
    fixture f;
    fixture_open(&f);
    f.expert[17] = N_EXPERT;
    refused(&f, "an expert that there is not");
    f.expert[5] = f.expert[4];
    refused(&f, "chosen twice");
    f.rows.owner = 3;
    refused(&f, "owner");
    f.rows.owner = -1;
    refused(&f, "owner");
    f.rows.position0 = -1;
    refused(&f, "positions");
    f.rows.position0 = INT32_MAX;
    refused(&f, "positions");
    f.rows.step = -1;
    refused(&f, "step");
    f.rows.sequence = -1;
    refused(&f, "sequence");
    fixture_close(&f);
}
END_TEST

static void header_refused(fixture *f)
{
    shoal_routes_writer w;
    ck_assert_int_eq(shoal_routes_writer_open(&w, f->path, &f->header, &f->log), SHOAL_USAGE);
    fixture_close(f);
    fixture_open(f);
}

START_TEST(headers_that_no_model_has)
{
    fixture f;
    fixture_open(&f);
    f.header.n_layer = 0;
    header_refused(&f);
    f.header.n_expert = SHOAL_ROUTES_EXPERT_MAX + 1;
    header_refused(&f);
    f.header.top_k = N_EXPERT + 1;
    header_refused(&f);
    f.header.n_group = 7; /* does not divide the experts */
    header_refused(&f);
    f.header.top_group = 7;
    header_refused(&f);
    f.header.n_rank = 0;
    header_refused(&f);
    f.layer[1] = 1; /* not ascending */
    header_refused(&f);
    fixture_close(&f);
}
END_TEST

static size_t slurp(const fixture *f, uint8_t *bytes, size_t n_max)
{
    FILE *file = fopen(f->path, "rb");
    ck_assert_ptr_nonnull(file);
    const size_t n = fread(bytes, 1, n_max, file);
    fclose(file);
    ck_assert_uint_lt(n, n_max);
    return n;
}

static void spill(const fixture *f, const uint8_t *bytes, size_t n)
{
    FILE *file = fopen(f->path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, n, file), n);
    fclose(file);
}

/* A file that ends anywhere behind its header is good up to its last whole record. */
START_TEST(cut_off_anywhere)
{
    fixture f;
    fixture_open(&f);
    uint8_t bytes[4096];
    write_trace(&f, 0, false);
    const size_t n_header = slurp(&f, bytes, sizeof bytes);
    write_trace(&f, 3, true);
    const size_t n = slurp(&f, bytes, sizeof bytes);
    int64_t n_row, n_before = 0;
    bool ended, torn;
    for (size_t cut = 0; cut < n; cut++) {
        spill(&f, bytes, cut);
        const shoal_status status = read_trace(&f, &n_row, &ended, &torn);
        if (cut < n_header) {
            ck_assert_int_eq(status, SHOAL_BAD_DATA);
            continue;
        }
        ck_assert_int_eq(status, SHOAL_OK);
        ck_assert(!ended);
        ck_assert(n_row >= n_before && n_row % N_ROW == 0);
        ck_assert(torn || n_row > n_before || cut == n_header || n_row == 3 * N_ROW);
        n_before = n_row;
    }
    ck_assert_int_eq(n_before, 3 * N_ROW);
    bytes[n] = 1;
    spill(&f, bytes, n + 1);
    ck_assert_int_eq(read_trace(&f, &n_row, &ended, &torn), SHOAL_BAD_DATA);
    fixture_close(&f);
}
END_TEST

/* Whatever the bytes are: an error or consistent rows, never a crash (the sanitizers look). */
START_TEST(damaged_bytes_never_crash)
{
    fixture f;
    fixture_open(&f);
    uint8_t bytes[4096];
    write_trace(&f, 1, true);
    const size_t n = slurp(&f, bytes, sizeof bytes);
    int64_t n_row;
    bool ended, torn;
    int32_t n_refused = 0;
    for (size_t i = 0; i < n; i++) {
        for (int change = 1; change < 256; change += 77) {
            bytes[i] ^= (uint8_t)change;
            spill(&f, bytes, n);
            const shoal_status status = read_trace(&f, &n_row, &ended, &torn);
            ck_assert(status == SHOAL_OK || status == SHOAL_BAD_DATA);
            n_refused += status == SHOAL_BAD_DATA;
            bytes[i] ^= (uint8_t)change;
        }
    }
    ck_assert_int_gt(n_refused, 0);
    fixture_close(&f);
}
END_TEST

START_TEST(files_that_are_none)
{
    fixture f;
    fixture_open(&f);
    int64_t n_row;
    bool ended, torn;
    spill(&f, (const uint8_t *)"{\"a\": 1}", 8);
    ck_assert_int_eq(read_trace(&f, &n_row, &ended, &torn), SHOAL_BAD_DATA);
    ck_assert_ptr_nonnull(strstr(f.log.error, "is no routing trace"));
    unlink(f.path);
    ck_assert_int_eq(read_trace(&f, &n_row, &ended, &torn), SHOAL_NO_INPUT);
    shoal_routes_writer w = {0};
    ck_assert_int_eq(shoal_routes_writer_open(&w, "/tmp/shoal-no-such-folder/x", &f.header, &f.log),
                     SHOAL_IO);
    ck_assert_int_eq(shoal_routes_writer_close(&w, true), SHOAL_OK);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, round_trip);
    SHOAL_TEST(suite, long_runs_become_records);
    SHOAL_TEST(suite, rows_that_no_run_makes);
    SHOAL_TEST(suite, headers_that_no_model_has);
    SHOAL_TEST(suite, cut_off_anywhere);
    SHOAL_TEST(suite, damaged_bytes_never_crash);
    SHOAL_TEST(suite, files_that_are_none);
}

SHOAL_TEST_MAIN("proto.routes", add_tests)
