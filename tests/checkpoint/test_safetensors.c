/* The header parser on memory: accepted forms, and thousands of damaged headers that must neither
 * crash nor let anything through that lies outside the file. */
#include "runtime/checkpoint/safetensors.h"
#include "tests/checkpoint/fixture.h"
#include "tests/support/check_main.h"

#include <string.h>

enum { N_DATA = 64 };

static const char header_text[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[4,4],\"data_offsets\":[24,56]},"
    "\"s\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[56,64]},"
    "\"z\":{\"dtype\":\"U8\",\"shape\":[3,0],\"data_offsets\":[64,64]}}   ";

/* A whole file's head from memory that has not a byte more, so that reading beyond it is seen. */
static shoal_status parse(shoal__safetensors *s, const char *head, size_t n_head,
                          uint64_t file_bytes, shoal_log *log)
{
    size_t n_bytes = 0;
    SHOAL_TRY(shoal__safetensors_header_bytes(&n_bytes, (const unsigned char *)head, file_bytes,
                                              "fuzz.safetensors", log));
    if (n_bytes > n_head - 8) /* the file has these bytes, this memory does not */
        n_bytes = n_head - 8;
    char *exact = malloc(n_bytes);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, head + 8, n_bytes);
    shoal_status status =
        shoal__safetensors_parse(s, exact, n_bytes, file_bytes, "fuzz.safetensors", log);
    free(exact);
    return status;
}

static void check_inside(const shoal__safetensors *s, uint64_t file_bytes)
{
    for (int64_t i = 0; i < s->n_tensor; i++) {
        const shoal_tensor_info *t = &s->tensor[i];
        ck_assert(shoal__tensor_name_ok(t->name, strlen(t->name)));
        ck_assert(t->n_dim >= 0 && t->n_dim <= SHOAL_TENSOR_MAX_DIM && t->dtype < SHOAL_N_DTYPE);
        ck_assert(t->offset <= file_bytes && t->n_bytes <= file_bytes - t->offset);
        uint64_t n_bytes = shoal_dtype_bytes(t->dtype);
        for (int32_t k = 0; k < t->n_dim; k++) {
            ck_assert_int_ge(t->shape[k], 0);
            n_bytes *= (uint64_t)t->shape[k];
        }
        if (t->dtype != SHOAL_DTYPE_OTHER)
            ck_assert_uint_eq(n_bytes, t->n_bytes);
    }
}

static size_t make_head(char *head)
{
    uint64_t n_header = strlen(header_text);
    memcpy(head, &n_header, 8);
    memcpy(head + 8, header_text, n_header);
    return 8 + n_header;
}

START_TEST(test_accepted)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    char head[1024];
    size_t n_head = make_head(head);
    shoal__safetensors s;
    ck_assert_int_eq(parse(&s, head, n_head, n_head + N_DATA, &log), SHOAL_OK);
    check_inside(&s, n_head + N_DATA);
    ck_assert_int_eq(s.n_tensor, 4);
    ck_assert_str_eq(s.tensor[0].name, "a.weight");
    ck_assert_int_eq(s.tensor[0].dtype, SHOAL_DTYPE_F32);
    ck_assert_int_eq(s.tensor[0].shape[1], 3);
    ck_assert_uint_eq(s.tensor[0].offset, n_head);
    ck_assert_uint_eq(s.tensor[1].offset, n_head + 24);
    ck_assert_uint_eq(s.tensor[1].n_bytes, 32);
    ck_assert_int_eq(s.tensor[2].n_dim, 0);
    ck_assert_uint_eq(s.tensor[2].n_bytes, 8);
    ck_assert_uint_eq(s.tensor[3].n_bytes, 0);
    shoal__safetensors_close(&s);

    static const char *const good[] = {
        "{}",
        "{\"__metadata__\":{}}",
        /* a hole before, unknown fields, all of 8 dimensions */
        "{\"x\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,2],\"data_offsets\":[5,7],\"note\":1}}",
        /* dtypes that no weight has are kept for whoever wants the tensor */
        "{\"x\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[0,3]},"
        "\"y\":{\"dtype\":\"a dtype that is not known yet\",\"shape\":[3],\"data_offsets\":[3,7]}}",
        /* sizes beyond 32 bits are sizes; a zero makes it empty whatever the rest is */
        "{\"x\":{\"dtype\":\"F64\",\"shape\":[9223372036854775807,9,0],\"data_offsets\":[7,7]}}",
        "{\"x\":{\"dtype\":\"U8\",\"shape\":[600000,700000],\"data_offsets\":[0,420000000000]}}",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t file_bytes = 8 + strlen(good[i]) + 420000000000;
        shoal_status status =
            shoal__safetensors_parse(&s, good[i], strlen(good[i]), file_bytes, "f", &log);
        ck_assert_msg(status == SHOAL_OK, "%s: %s", good[i], log.error);
        check_inside(&s, file_bytes);
        shoal__safetensors_close(&s);
    }
}
END_TEST

/* Flip 1 to 4 bytes of the header: mostly to characters that JSON and numbers are made of, so that
 * many damaged headers still parse. */
START_TEST(test_byte_flips)
{
    static const char likely[] = "0123456789-{}[],:\"\\eE. uFB\x80\xff";
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    uint64_t random = 1;
    int n_accepted = 0;
    for (int i = 0; i < 2000; i++) {
        char head[1024];
        size_t n_head = make_head(head);
        int n_flip = 1 + (int)(fixture_random(&random) % 4);
        for (int k = 0; k < n_flip; k++) {
            uint64_t at = fixture_random(&random) % n_head;
            uint64_t value = fixture_random(&random);
            head[at] = value & 1 ? (char)(value >> 8) : likely[(value >> 8) % (sizeof likely - 1)];
        }
        shoal__safetensors s;
        shoal_status status = parse(&s, head, n_head, n_head + N_DATA, &log);
        if (status == SHOAL_OK) {
            check_inside(&s, n_head + N_DATA);
            shoal__safetensors_close(&s);
            n_accepted++;
        } else {
            ck_assert_int_eq(status, SHOAL_BAD_DATA);
            ck_assert_msg(strstr(log.error, "fuzz.safetensors") != NULL, "%s", log.error);
        }
    }
    /* Both kinds occur (names and paddings may change), else the loop shows nothing. */
    ck_assert_int_gt(n_accepted, 20);
    ck_assert_int_lt(n_accepted, 1900);
}
END_TEST

/* The same through files: every prefix of a small checkpoint, then flips that keep its length. */
START_TEST(test_damaged_files)
{
    fixture f;
    fixture_open(&f);
    char head[1024 + N_DATA] = {0};
    size_t n_all = make_head(head) + N_DATA;
    for (size_t n = 0; n <= n_all; n += n < 16 || n + 70 > n_all ? 1 : 7) {
        fixture_write(&f, "model.safetensors", head, n);
        shoal_checkpoint *c = NULL;
        shoal_status status = shoal_checkpoint_open(&c, f.path, false, &f.log);
        ck_assert_msg(status == (n < n_all ? SHOAL_BAD_DATA : SHOAL_OK), "%zu bytes: %d: %s", n,
                      status, f.log.error);
        shoal_checkpoint_close(c);
    }
    uint64_t random = 7;
    for (int i = 0; i < 200; i++) {
        char flipped[sizeof head];
        memcpy(flipped, head, sizeof head);
        flipped[fixture_random(&random) % n_all] ^= (char)(1 << fixture_random(&random) % 8);
        fixture_write(&f, "model.safetensors", flipped, n_all);
        shoal_checkpoint *c = NULL;
        shoal_status status = shoal_checkpoint_open(&c, f.path, false, &f.log);
        ck_assert(status == SHOAL_OK || status == SHOAL_BAD_DATA);
        for (int64_t k = 0; status == SHOAL_OK && k < shoal_checkpoint_n_tensor(c); k++) {
            const shoal_tensor_info *t = shoal_checkpoint_tensor(c, k);
            char data[N_DATA];
            ck_assert_uint_le(t->n_bytes, sizeof data);
            ck_assert_int_eq(shoal_checkpoint_read(c, t, 0, (size_t)t->n_bytes, data), SHOAL_OK);
        }
        shoal_checkpoint_close(c);
    }
    fixture_close(&f);
}
END_TEST

/* Nesting that would overflow the stack of a parser without a limit. */
START_TEST(test_deep_nesting)
{
    enum { N_DEEP = 1000000 };
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    char *deep = malloc(N_DEEP);
    ck_assert_ptr_nonnull(deep);
    memset(deep, '[', N_DEEP);
    memcpy(deep, "{\"a\":", 5);
    shoal__safetensors s;
    ck_assert_int_eq(shoal__safetensors_parse(&s, deep, N_DEEP, 2 * N_DEEP, "deep", &log),
                     SHOAL_BAD_DATA);
    free(deep);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_accepted);
    SHOAL_TEST(suite, test_byte_flips);
    SHOAL_TEST(suite, test_deep_nesting);
    SHOAL_TEST(suite, test_damaged_files);
}

SHOAL_TEST_MAIN("checkpoint.safetensors", add_tests)
