#include "runtime/proto/placement.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

enum { N_LAYER = 3, N_EXPERT = 4, N_RANK = 5, N_REPLICA = 2, VERSION = 7 };

typedef struct fixture {
    int32_t owner[N_LAYER * N_EXPERT * N_REPLICA];
    double expert_weight[N_RANK], sequence_weight[N_RANK];
    shoal_placement_message message;
    uint8_t *bytes;
    size_t n_bytes;
} fixture;

static void pack(fixture *f)
{
    ck_assert_int_eq(shoal_placement_message_pack(&f->bytes, &f->n_bytes, &f->message, NULL),
                     SHOAL_OK);
}

static void fixture_open(fixture *f)
{
    for (int32_t i = 0; i < N_LAYER * N_EXPERT * N_REPLICA; i++)
        f->owner[i] = i * 7 % N_RANK;
    for (int32_t r = 0; r < N_RANK; r++) {
        f->expert_weight[r] = r * 0.3;
        f->sequence_weight[r] = 1.0 / (r + 1);
    }
    f->message =
        (shoal_placement_message){VERSION,   N_LAYER,  N_EXPERT,         N_RANK,
                                  N_REPLICA, f->owner, f->expert_weight, f->sequence_weight};
    f->bytes = NULL;
}

static shoal_status unpack(shoal_placement_message *out, const fixture *f, shoal_log *log)
{
    *out = (shoal_placement_message){0};
    return shoal_placement_message_unpack(out, f->bytes, f->n_bytes, VERSION, log);
}

START_TEST(round_trip)
{
    fixture f;
    fixture_open(&f);
    pack(&f);
    shoal_placement_message out;
    ck_assert_int_eq(unpack(&out, &f, NULL), SHOAL_OK);
    ck_assert_uint_eq(out.version, VERSION);
    ck_assert_int_eq(out.n_layer, N_LAYER);
    ck_assert_int_eq(out.n_expert, N_EXPERT);
    ck_assert_int_eq(out.n_rank, N_RANK);
    ck_assert_int_eq(out.n_replica, N_REPLICA);
    ck_assert_int_eq(memcmp(out.owner, f.owner, sizeof f.owner), 0);
    ck_assert_int_eq(memcmp(out.expert_weight, f.expert_weight, sizeof f.expert_weight), 0);
    ck_assert_int_eq(memcmp(out.sequence_weight, f.sequence_weight, sizeof f.sequence_weight), 0);
    /* equal messages give equal bytes */
    fixture again = f;
    again.message = out;
    pack(&again);
    ck_assert_uint_eq(again.n_bytes, f.n_bytes);
    ck_assert_int_eq(memcmp(again.bytes, f.bytes, f.n_bytes), 0);
    shoal_placement_message_close(&out);
    shoal_placement_message_close(&out);
    free(again.bytes);
    free(f.bytes);
}
END_TEST

START_TEST(a_model_without_moe_layers)
{
    fixture f;
    fixture_open(&f);
    f.message.n_layer = 0;
    pack(&f);
    shoal_placement_message out;
    ck_assert_int_eq(unpack(&out, &f, NULL), SHOAL_OK);
    ck_assert_int_eq(out.n_layer, 0);
    shoal_placement_message_close(&out);
    free(f.bytes);
}
END_TEST

static void refused(fixture *f, const char *says)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "h");
    shoal_placement_message out;
    ck_assert_int_eq(unpack(&out, f, &log), SHOAL_BAD_DATA);
    ck_assert_msg(strstr(log.error, says) != NULL, "%s", log.error);
    ck_assert_ptr_null(out.owner);
    free(f->bytes);
    fixture_open(f);
}

START_TEST(inconsistent_messages_are_refused)
{
    fixture f;
    fixture_open(&f);
    f.message.version = VERSION + 1;
    pack(&f);
    refused(&f, "version 8");
    f.owner[5] = N_RANK;
    pack(&f);
    refused(&f, "owner");
    f.owner[5] = -1;
    pack(&f);
    refused(&f, "owner");
    f.expert_weight[1] = -0.5;
    pack(&f);
    refused(&f, "weight");
    f.sequence_weight[1] = NAN;
    pack(&f);
    refused(&f, "weight");
    f.sequence_weight[4] = INFINITY;
    pack(&f);
    refused(&f, "weight");
    pack(&f);
    f.n_bytes--;
    refused(&f, "parse");
    f.bytes = calloc(1, 1);
    f.n_bytes = 0; /* an empty message parses: all fields 0 */
    refused(&f, "version 0");
}
END_TEST

/* Whatever the bytes are: an error or a consistent message, never a crash (the sanitizers look). */
START_TEST(damaged_bytes_never_crash)
{
    fixture f;
    fixture_open(&f);
    pack(&f);
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "h");
    for (size_t i = 0; i < f.n_bytes; i++) {
        for (int change = 1; change < 256; change += 6) {
            f.bytes[i] ^= (uint8_t)change;
            shoal_placement_message out;
            if (unpack(&out, &f, &log) == SHOAL_OK) {
                size_t n_owner = (size_t)out.n_layer * (size_t)out.n_expert * (size_t)out.n_replica;
                ck_assert_uint_lt(n_owner, 1000);
                for (size_t k = 0; k < n_owner; k++)
                    ck_assert(out.owner[k] >= 0 && out.owner[k] < out.n_rank);
                shoal_placement_message_close(&out);
            }
            f.bytes[i] ^= (uint8_t)change;
        }
    }
    size_t n_bytes = f.n_bytes;
    for (f.n_bytes = 0; f.n_bytes < n_bytes; f.n_bytes++) {
        shoal_placement_message out;
        ck_assert_int_eq(unpack(&out, &f, &log), SHOAL_BAD_DATA);
    }
    free(f.bytes);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, round_trip);
    SHOAL_TEST(suite, a_model_without_moe_layers);
    SHOAL_TEST(suite, inconsistent_messages_are_refused);
    SHOAL_TEST(suite, damaged_bytes_never_crash);
}

SHOAL_TEST_MAIN("proto.placement", add_tests)
