/* --device: which GPU each rank gets, of what ranks ask for and see. */
#include "launcher/device_choice.h"
#include "tests/support/check_main.h"

#include <string.h>

enum { MAX = 8 };

/* Ranks "host wish n_device[@bus,bus]", for example "a cuda 2": what they get, -2: it is refused.
 */
typedef struct world {
    int32_t n_rank;
    const char *host[MAX];
    shoal_device_claim claim[MAX];
    int32_t index[MAX];
    shoal_log log;
} world;

static void add(world *w, const char *host, const char *wish, int32_t n_device)
{
    shoal_device_claim *c = &w->claim[w->n_rank];
    *c = (shoal_device_claim){.n_device = n_device, .has_backend = 1};
    ck_assert(shoal_device_text_is_valid(wish));
    ck_assert_int_eq(shoal_device_wish_of(&c->wish, wish, 0, 1, &w->log), SHOAL_OK);
    w->host[w->n_rank++] = host;
}

static void begin(world *w)
{
    memset(w, 0, sizeof *w);
    shoal_log_init(&w->log, NULL, 0, "test");
}

static void expect(world *w, const int32_t *wanted)
{
    ck_assert_int_eq(shoal_device_assign(w->index, w->claim, w->host, w->n_rank, &w->log),
                     SHOAL_OK);
    for (int32_t r = 0; r < w->n_rank; r++)
        ck_assert_msg(w->index[r] == wanted[r], "rank %d has %d, wanted %d", (int)r,
                      (int)w->index[r], (int)wanted[r]);
}

static void expect_refused(world *w, const char *const *said)
{
    ck_assert_int_eq(shoal_device_assign(w->index, w->claim, w->host, w->n_rank, &w->log),
                     SHOAL_UNAVAILABLE);
    for (; *said != NULL; said++)
        ck_assert_msg(strstr(w->log.error, *said) != NULL, "'%s' is not in '%s'", *said,
                      w->log.error);
}

#define EXPECT(w, ...)         expect((w), (const int32_t[]){__VA_ARGS__})
#define EXPECT_REFUSED(w, ...) expect_refused((w), (const char *const[]){__VA_ARGS__, NULL})

START_TEST(auto_hands_out_what_there_is)
{
    world w;
    begin(&w);
    add(&w, "a", "auto", 2);
    add(&w, "a", "auto", 2);
    add(&w, "a", "auto", 2);
    add(&w, "b", "auto", 0);
    add(&w, "c", "auto", 1);
    EXPECT(&w, 0, 1, -1, -1, 0);
}
END_TEST

START_TEST(who_must_have_one_comes_first)
{
    world w;
    begin(&w);
    add(&w, "a", "auto", 2);
    add(&w, "a", "cuda", 2);
    add(&w, "a", "cpu", 2);
    add(&w, "a", "cuda:0", 2);
    EXPECT(&w, -1, 1, -1, 0);
}
END_TEST

START_TEST(a_gpu_that_is_named_may_be_shared)
{
    world w;
    begin(&w);
    add(&w, "a", "cuda:1", 2);
    add(&w, "a", "cuda:1", 2);
    add(&w, "a", "auto", 2);
    EXPECT(&w, 1, 1, 0);
}
END_TEST

/* SLURM shows each task its own GPU as number 0. */
START_TEST(gpus_are_told_apart_by_where_they_are)
{
    world w;
    begin(&w);
    for (int32_t r = 0; r < 3; r++)
        add(&w, "a", r < 2 ? "cuda" : "auto", 1);
    strcpy(w.claim[0].bus_id[0], "0000:01:00.0");
    strcpy(w.claim[1].bus_id[0], "0000:02:00.0");
    strcpy(w.claim[2].bus_id[0], "0000:01:00.0");
    EXPECT(&w, 0, 0, -1);
    /* and one shows them in another order */
    begin(&w);
    add(&w, "a", "cuda", 2);
    add(&w, "a", "cuda", 2);
    strcpy(w.claim[0].bus_id[0], "0000:01:00.0");
    strcpy(w.claim[0].bus_id[1], "0000:02:00.0");
    strcpy(w.claim[1].bus_id[0], "0000:01:00.0");
    strcpy(w.claim[1].bus_id[1], "0000:02:00.0");
    EXPECT(&w, 0, 1);
    strcpy(w.claim[1].bus_id[0], "0000:02:00.0");
    strcpy(w.claim[1].bus_id[1], "0000:01:00.0");
    EXPECT(&w, 0, 0);
}
END_TEST

START_TEST(what_is_not_there_is_refused)
{
    world w;
    begin(&w);
    add(&w, "a", "cuda", 1);
    add(&w, "a", "cuda", 1);
    EXPECT_REFUSED(&w, "rank 1 (a)", "rank 0's", "--device cuda:0");
    begin(&w);
    add(&w, "a", "auto", 1);
    add(&w, "b", "cuda:3", 2);
    EXPECT_REFUSED(&w, "rank 1 (b)", "--device cuda:3", "sees 2 GPUs", "cuda:1");
    begin(&w);
    add(&w, "a", "cuda:0", 0);
    strcpy(w.claim[0].why, "the driver is too old");
    EXPECT_REFUSED(&w, "rank 0 (a)", "sees no GPU: the driver is too old");
    w.claim[0].why[0] = '\0';
    EXPECT_REFUSED(&w, "rank 0 (a)", "sees no GPU; use --device cpu");
    begin(&w);
    add(&w, "a", "cuda", 0);
    w.claim[0].has_backend = 0;
    EXPECT_REFUSED(&w, "rank 0 (a)", "-DSHOAL_CUDA=ON", "--device cpu");
}
END_TEST

START_TEST(a_list_has_one_for_each_rank)
{
    world w;
    begin(&w);
    static const char list[] = "cuda:2,cpu,auto";
    ck_assert(shoal_device_text_is_valid(list));
    shoal_device_wish wish;
    ck_assert_int_eq(shoal_device_wish_of(&wish, list, 0, 3, &w.log), SHOAL_OK);
    ck_assert_int_eq(wish.kind, SHOAL_DEVICE_CUDA);
    ck_assert_int_eq(wish.index, 2);
    ck_assert_int_eq(shoal_device_wish_of(&wish, list, 1, 3, &w.log), SHOAL_OK);
    ck_assert_int_eq(wish.kind, SHOAL_DEVICE_CPU);
    ck_assert_int_eq(shoal_device_wish_of(&wish, list, 2, 3, &w.log), SHOAL_OK);
    ck_assert_int_eq(wish.kind, SHOAL_DEVICE_AUTO);
    ck_assert_int_eq(shoal_device_wish_of(&wish, list, 0, 2, &w.log), SHOAL_USAGE);
    ck_assert_ptr_nonnull(strstr(w.log.error, "lists 3 ranks"));
    ck_assert_int_eq(shoal_device_wish_of(&wish, "cuda", 4, 5, &w.log), SHOAL_OK);
    ck_assert_int_eq(wish.index, -1);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, auto_hands_out_what_there_is);
    SHOAL_TEST(suite, who_must_have_one_comes_first);
    SHOAL_TEST(suite, a_gpu_that_is_named_may_be_shared);
    SHOAL_TEST(suite, gpus_are_told_apart_by_where_they_are);
    SHOAL_TEST(suite, what_is_not_there_is_refused);
    SHOAL_TEST(suite, a_list_has_one_for_each_rank);
}

SHOAL_TEST_MAIN("launcher.device_choice", add_tests)
