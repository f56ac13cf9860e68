/* Properties of every placement, over many shapes and weights. */
#include "experts/placement.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

static uint64_t state_ = 7;

static uint32_t draw(uint32_t n) /* [0, n) */
{
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((state_ >> 33) % n);
}

static shoal_log quiet(void)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    return log;
}

static double share_of(const double *weight, int32_t n_rank, int32_t r)
{
    double sum = 0;
    for (int32_t i = 0; i < n_rank; i++)
        sum += weight != NULL ? weight[i] : 1.0;
    return (weight != NULL ? weight[r] : 1.0) / sum;
}

/* Every expert has one owner, ranges are contiguous and in rank order, counts are within one of the
 * exact share in every layer, zero weight owns nothing. */
static void check_properties(const shoal_placement *p, const double *weight)
{
    int32_t *owned = calloc((size_t)p->n_expert, sizeof *owned);
    for (int32_t l = 0; l < p->n_layer; l++) {
        int32_t next = 0;
        for (int32_t r = 0; r < p->n_rank; r++) {
            int32_t n = shoal_placement_owned(p, l, r, owned);
            double exact = p->n_expert * share_of(weight, p->n_rank, r);
            ck_assert_msg(fabs(n - exact) < 1.0, "rank %d has %d experts, its share is %f", (int)r,
                          (int)n, exact);
            if (weight != NULL && !(weight[r] > 0))
                ck_assert_int_eq(n, 0);
            for (int32_t i = 0; i < n; i++) {
                ck_assert_int_eq(owned[i], next);
                ck_assert_int_eq(shoal_placement_owner(p, l, next), r);
                next++;
            }
        }
        ck_assert_int_eq(next, p->n_expert);
    }
    free(owned);
}

/* In placements without groups, rounding also evens out over the layers. */
static void check_rotation(const shoal_placement *p, const double *weight)
{
    for (int32_t r = 0; r < p->n_rank; r++) {
        int64_t total = 0;
        for (int32_t l = 0; l < p->n_layer; l++)
            total += shoal_placement_owned(p, l, r, NULL);
        double exact = (double)p->n_layer * p->n_expert * share_of(weight, p->n_rank, r);
        ck_assert_msg(fabs((double)total - exact) < 2.0, "rank %d has %lld in all, its share is %f",
                      (int)r, (long long)total, exact);
    }
}

START_TEST(test_properties_over_many_shapes)
{
    const int32_t experts[] = {1, 2, 3, 8, 16, 60, 64, 128, 160, 256};
    const int32_t groups[] = {1, 2, 4, 8};
    const int32_t ranks[] = {1, 2, 3, 4, 5, 7, 8, 16, 33, 70};
    int32_t n_case = 0;
    shoal_log log = quiet();
    for (size_t e = 0; e < sizeof experts / sizeof experts[0]; e++) {
        for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
            if (experts[e] % groups[g] != 0)
                continue;
            for (size_t r = 0; r < sizeof ranks / sizeof ranks[0]; r++) {
                for (int kind = 0; kind < 4; kind++) {
                    double weight[70];
                    for (int32_t i = 0; i < ranks[r]; i++)
                        weight[i] = kind == 1   ? 0.01 + draw(1000) / 250.0
                                    : kind == 2 ? (double)draw(3)
                                                : (i % 3 == 0) * 1e300;
                    if (kind == 2)
                        weight[draw((uint32_t)ranks[r])] = 1;
                    const double *used = kind == 0 ? NULL : weight;
                    shoal_placement p;
                    ck_assert_int_eq(shoal_placement_open(&p, 6, experts[e], groups[g], ranks[r],
                                                          used, NULL, &log),
                                     SHOAL_OK);
                    double small[70]; /* the oracle's sum would overflow */
                    for (int32_t i = 0; i < ranks[r]; i++)
                        small[i] = kind == 3 ? (double)(i % 3 == 0) : weight[i];
                    check_properties(&p, kind == 0 ? NULL : small);
                    if (groups[g] == 1)
                        check_rotation(&p, kind == 0 ? NULL : small);
                    shoal_placement_close(&p);
                    n_case++;
                }
            }
        }
    }
    ck_assert_int_gt(n_case, 1000);
}
END_TEST

START_TEST(test_remainders_rotate)
{
    shoal_log log = quiet();
    shoal_placement p;
    ck_assert_int_eq(shoal_placement_open(&p, 3, 16, 1, 3, NULL, NULL, &log), SHOAL_OK);
    for (int32_t l = 0; l < 3; l++)
        for (int32_t r = 0; r < 3; r++) /* one of the three is fuller, another in each layer */
            ck_assert_int_eq(shoal_placement_owned(&p, l, r, NULL), r == l ? 6 : 5);
    shoal_placement_close(&p);

    /* More ranks than experts: over the layers, each has its turn. */
    ck_assert_int_eq(shoal_placement_open(&p, 5, 2, 1, 5, NULL, NULL, &log), SHOAL_OK);
    for (int32_t r = 0; r < 5; r++) {
        int32_t total = 0;
        for (int32_t l = 0; l < 5; l++)
            total += shoal_placement_owned(&p, l, r, NULL);
        ck_assert_int_eq(total, 2);
    }
    shoal_placement_close(&p);
}
END_TEST

static bool aligned(int32_t n_expert, int32_t n_group, int32_t n_rank, const double *weight)
{
    shoal_log log = quiet();
    shoal_placement p;
    ck_assert_int_eq(shoal_placement_open(&p, 4, n_expert, n_group, n_rank, weight, NULL, &log),
                     SHOAL_OK);
    bool whole = true;
    int32_t size = n_expert / n_group;
    for (int32_t l = 0; l < 4; l++)
        for (int32_t e = 0; e < n_expert; e++)
            whole = whole && shoal_placement_owner(&p, l, e) ==
                                 shoal_placement_owner(&p, l, e / size * size);
    shoal_placement_close(&p);
    return whole;
}

START_TEST(test_whole_groups_where_in_proportion)
{
    ck_assert(aligned(256, 8, 1, NULL));
    ck_assert(aligned(256, 8, 2, NULL));
    ck_assert(aligned(256, 8, 4, NULL));
    ck_assert(aligned(256, 8, 8, NULL));
    ck_assert(!aligned(256, 8, 3, NULL));
    ck_assert(!aligned(256, 8, 16, NULL));
    ck_assert(aligned(256, 8, 3, (double[]){2, 1, 1}));
    ck_assert(aligned(256, 8, 5, (double[]){0, 3, 0, 1, 0}));
    ck_assert(aligned(256, 8, 2, (double[]){1.001, 0.999})); /* less than an expert away */
    ck_assert(!aligned(256, 8, 2, (double[]){1.1, 0.9}));
    ck_assert(aligned(16, 4, 4, NULL));
    ck_assert(!aligned(16, 4, 3, NULL));
}
END_TEST

START_TEST(test_bad_arguments_are_refused)
{
    shoal_log log = quiet();
    shoal_placement p = {0};
    const double bad[][3] = {{1, -1, 1}, {1, NAN, 1}, {INFINITY, 1, 1}, {0, 0, 0}};
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(shoal_placement_open(&p, 1, 8, 1, 3, bad[i], NULL, &log), SHOAL_USAGE);
        ck_assert_int_eq(shoal_placement_open(&p, 1, 8, 1, 3, NULL, bad[i], &log), SHOAL_USAGE);
    }
    ck_assert_ptr_nonnull(strstr(log.error, "sequence"));
    ck_assert_int_eq(shoal_placement_open(&p, 1, 8, 3, 3, NULL, NULL, &log), SHOAL_USAGE);
    ck_assert_int_eq(shoal_placement_open(&p, 1, 8, 0, 3, NULL, NULL, &log), SHOAL_USAGE);
    ck_assert_int_eq(shoal_placement_open(&p, 1, 0, 1, 3, NULL, NULL, &log), SHOAL_USAGE);
    ck_assert_int_eq(shoal_placement_open(&p, -1, 8, 1, 3, NULL, NULL, &log), SHOAL_USAGE);
    ck_assert_int_eq(shoal_placement_open(&p, 1, 8, 1, 0, NULL, NULL, &log), SHOAL_USAGE);
    ck_assert_int_eq(shoal_placement_open(&p, 1, 8, 1, 1025, NULL, NULL, &log), SHOAL_USAGE);
    ck_assert_ptr_null(p.owner); /* set only on success */
    shoal_placement_close(&p);
}
END_TEST

START_TEST(test_largest_job)
{
    shoal_log log = quiet();
    shoal_placement p;
    ck_assert_int_eq(shoal_placement_open(&p, 58, 256, 8, 1024, NULL, NULL, &log), SHOAL_OK);
    check_properties(&p, NULL);
    check_rotation(&p, NULL);
    shoal_placement_close(&p);
}
END_TEST

START_TEST(test_pack_round_trip)
{
    shoal_log log = quiet();
    const double expert[5] = {1, 0, 2.5, 0.1, 1}, sequence[5] = {0, 1, 1, 0, 3};
    shoal_placement p, q;
    ck_assert_int_eq(shoal_placement_open(&p, 7, 30, 5, 5, expert, sequence, &log), SHOAL_OK);
    uint8_t *bytes, *again;
    size_t n_bytes, n_again;
    ck_assert_int_eq(shoal_placement_pack(&bytes, &n_bytes, &p, &log), SHOAL_OK);
    ck_assert_int_eq(shoal_placement_unpack(&q, bytes, n_bytes, &log), SHOAL_OK);
    ck_assert_int_eq(q.n_layer, 7);
    ck_assert_int_eq(q.n_expert, 30);
    ck_assert_int_eq(q.n_rank, 5);
    ck_assert_int_eq(q.n_replica, 1);
    ck_assert_mem_eq(q.owner, p.owner, 7 * 30 * sizeof *p.owner);
    ck_assert_mem_eq(q.expert_weight, expert, sizeof expert);
    ck_assert_mem_eq(q.sequence_weight, sequence, sizeof sequence);
    ck_assert_int_eq(shoal_placement_pack(&again, &n_again, &q, &log), SHOAL_OK);
    ck_assert_uint_eq(n_again, n_bytes);
    ck_assert_mem_eq(again, bytes, n_bytes);
    free(bytes);
    free(again);
    shoal_placement_close(&p);
    shoal_placement_close(&q);
}
END_TEST

/* A placement that is wrong in one number, packed all the same. */
static shoal_status unpack_wrong(void (*spoil)(shoal_placement *))
{
    shoal_log log = quiet();
    shoal_placement p, q = {0};
    ck_assert_int_eq(shoal_placement_open(&p, 2, 4, 1, 2, NULL, NULL, &log), SHOAL_OK);
    spoil(&p);
    uint8_t *bytes;
    size_t n_bytes;
    ck_assert_int_eq(shoal_placement_pack(&bytes, &n_bytes, &p, &log), SHOAL_OK);
    shoal_status status = shoal_placement_unpack(&q, bytes, n_bytes, &log);
    ck_assert_msg(status == SHOAL_OK || log.error[0] != '\0', "a failure without a text");
    ck_assert(status == SHOAL_OK || q.owner == NULL);
    free(bytes);
    shoal_placement_close(&p);
    shoal_placement_close(&q);
    return status;
}

static void spoil_nothing(shoal_placement *p)
{
    (void)p;
}
static void spoil_owner(shoal_placement *p)
{
    p->owner[5] = 2;
}
static void spoil_owner_sign(shoal_placement *p)
{
    p->owner[0] = -1;
}
static void spoil_weight(shoal_placement *p)
{
    p->expert_weight[1] = NAN;
}
static void spoil_all_weights(shoal_placement *p)
{
    p->sequence_weight[0] = p->sequence_weight[1] = 0;
}
static void spoil_replicas(shoal_placement *p)
{
    p->n_replica = 2; /* 2 ranks for each of 2 experts: as many owners as before */
    p->n_expert = 2;
}
static void spoil_experts(shoal_placement *p)
{
    p->n_expert = 0;
}

START_TEST(test_unpack_refuses_wrong_placements)
{
    ck_assert_int_eq(unpack_wrong(spoil_nothing), SHOAL_OK);
    ck_assert_int_eq(unpack_wrong(spoil_owner), SHOAL_BAD_DATA);
    ck_assert_int_eq(unpack_wrong(spoil_owner_sign), SHOAL_BAD_DATA);
    ck_assert_int_eq(unpack_wrong(spoil_weight), SHOAL_BAD_DATA);
    ck_assert_int_eq(unpack_wrong(spoil_all_weights), SHOAL_BAD_DATA);
    ck_assert_int_eq(unpack_wrong(spoil_replicas), SHOAL_BAD_DATA);
    ck_assert_int_eq(unpack_wrong(spoil_experts), SHOAL_BAD_DATA);
}
END_TEST

/* Any bytes: either refused, or a placement that can be used. */
START_TEST(test_unpack_survives_any_bytes)
{
    shoal_log log = quiet();
    shoal_placement p;
    ck_assert_int_eq(shoal_placement_open(&p, 3, 8, 1, 3, NULL, NULL, &log), SHOAL_OK);
    uint8_t *bytes;
    size_t n_bytes;
    ck_assert_int_eq(shoal_placement_pack(&bytes, &n_bytes, &p, &log), SHOAL_OK);
    shoal_placement_close(&p);
    uint8_t *mutated = malloc(n_bytes);
    int32_t n_refused = 0;
    for (int32_t i = 0; i < 4000; i++) {
        memcpy(mutated, bytes, n_bytes);
        size_t n = i % 2 == 0 ? n_bytes : draw((uint32_t)n_bytes);
        for (uint32_t k = draw(3) + (i % 2 == 0); k > 0; k--)
            mutated[draw((uint32_t)n_bytes)] = (uint8_t)draw(256);
        shoal_status status = shoal_placement_unpack(&p, mutated, n, &log);
        if (status != SHOAL_OK) {
            ck_assert_int_eq(status, SHOAL_BAD_DATA);
            n_refused++;
            continue;
        }
        for (int32_t l = 0; l < p.n_layer; l++)
            for (int32_t e = 0; e < p.n_expert; e++) {
                int32_t owner = shoal_placement_owner(&p, l, e);
                ck_assert(owner >= 0 && owner < p.n_rank);
            }
        shoal_placement_close(&p);
    }
    ck_assert_int_gt(n_refused, 2000);
    free(mutated);
    free(bytes);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_pack_round_trip);
    SHOAL_TEST(suite, test_unpack_refuses_wrong_placements);
    SHOAL_TEST(suite, test_unpack_survives_any_bytes);
    SHOAL_TEST(suite, test_properties_over_many_shapes);
    SHOAL_TEST(suite, test_remainders_rotate);
    SHOAL_TEST(suite, test_whole_groups_where_in_proportion);
    SHOAL_TEST(suite, test_bad_arguments_are_refused);
    SHOAL_TEST(suite, test_largest_job);
}

SHOAL_TEST_MAIN("experts.placement", add_tests)
