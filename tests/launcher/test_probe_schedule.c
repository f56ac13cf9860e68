/* Who measures a link with whom: slots without a host in two pairs, every pair once, a bound. */
#include "launcher/probe/schedule.h"
#include "tests/support/check_main.h"

#include <string.h>

enum { MOST = 96 };

/* n_rank ranks, those of a host one after the other, n_beside on each. */
static void make_hosts(int32_t *host, int32_t n_rank, int32_t n_beside)
{
    for (int32_t r = 0; r < n_rank; r++)
        host[r] = r / n_beside;
}

static void expect_disjoint(const shoal_probe_schedule *s, const int32_t *host, int32_t n_host)
{
    for (int32_t slot = 0; slot < s->n_slot; slot++) {
        bool busy[MOST] = {false};
        int32_t n = 0;
        for (size_t i = 0; i < s->n_match; i++) {
            const shoal_probe_match *m = &s->match[i];
            if (m->slot != slot)
                continue;
            n++;
            ck_assert_int_ne(m->a, m->b);
            ck_assert(!busy[host[m->a]] && !busy[host[m->b]]);
            busy[host[m->a]] = busy[host[m->b]] = true;
            ck_assert_ptr_eq(shoal_probe_schedule_find(s, slot, m->a), m);
            ck_assert_ptr_eq(shoal_probe_schedule_find(s, slot, m->b), m);
        }
        ck_assert_int_gt(n, 0);
        ck_assert_int_le(n, n_host);
    }
}

static void expect_once(const shoal_probe_schedule *s, int32_t n_rank)
{
    static int32_t seen[MOST][MOST];
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < s->n_match; i++) {
        const int32_t a = s->match[i].a, b = s->match[i].b;
        seen[a < b ? a : b][a < b ? b : a]++;
    }
    for (int32_t a = 0; a < n_rank; a++)
        for (int32_t b = a + 1; b < n_rank; b++)
            ck_assert_int_le(seen[a][b], 1);
}

static void open_schedule(shoal_probe_schedule *s, const int32_t *host, int32_t n_rank,
                          int32_t n_slot_max)
{
    ck_assert_int_eq(
        shoal_probe_schedule_open(s, host, n_rank, host[n_rank - 1] + 1, n_slot_max, NULL),
        SHOAL_OK);
}

START_TEST(opponents_meet_once)
{
    for (int32_t n = 1; n <= 17; n++) {
        int32_t met[17][17] = {{0}};
        const int32_t n_round = n < 2 ? 0 : n - (n % 2 == 0);
        for (int32_t round = 0; round < n_round; round++) {
            for (int32_t a = 0; a < n; a++) {
                const int32_t b = shoal_probe_opponent(n, round, a);
                ck_assert(b >= -1 && b < n && b != a);
                if (b < 0)
                    continue;
                ck_assert_int_eq(shoal_probe_opponent(n, round, b), a);
                met[a][b]++;
            }
        }
        for (int32_t a = 0; a < n; a++)
            for (int32_t b = 0; b < n; b++)
                ck_assert_int_eq(met[a][b], a != b);
    }
}
END_TEST

START_TEST(few_ranks_are_measured_whole)
{
    static const int32_t cases[][2] = {{1, 1}, {2, 1}, {2, 2}, {3, 1},
                                       {4, 2}, {6, 3}, {5, 5}, {7, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int32_t n_rank = cases[i][0];
        int32_t host[MOST];
        shoal_probe_schedule s;
        make_hosts(host, n_rank, cases[i][1]);
        open_schedule(&s, host, n_rank, 60);
        ck_assert_uint_eq(s.n_pair, (size_t)(n_rank * (n_rank - 1) / 2));
        ck_assert_uint_eq(s.n_match, s.n_pair);
        expect_disjoint(&s, host, host[n_rank - 1] + 1);
        expect_once(&s, n_rank);
        shoal_probe_schedule_close(&s);
    }
}
END_TEST

START_TEST(hosts_of_unequal_size)
{
    const int32_t host[] = {0, 1, 1, 1, 2, 2};
    shoal_probe_schedule s;
    open_schedule(&s, host, 6, 60);
    ck_assert_uint_eq(s.n_match, 15);
    expect_disjoint(&s, host, 3);
    expect_once(&s, 6);
    shoal_probe_schedule_close(&s);
}
END_TEST

START_TEST(many_ranks_are_sampled)
{
    static const int32_t cases[][3] = {
        {96, 1, 12}, {96, 8, 12}, {64, 64, 12}, {90, 2, 2}, {96, 1, 200}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int32_t n_rank = cases[i][0], n_slot = cases[i][2];
        int32_t host[MOST];
        shoal_probe_schedule s;
        make_hosts(host, n_rank, cases[i][1]);
        open_schedule(&s, host, n_rank, n_slot);
        ck_assert_int_le(s.n_slot, n_slot);
        ck_assert(n_slot < 100 ? s.n_match < s.n_pair : s.n_match == s.n_pair);
        expect_disjoint(&s, host, host[n_rank - 1] + 1);
        expect_once(&s, n_rank);
        bool in[MOST] = {false};
        for (size_t k = 0; k < s.n_match; k++)
            in[host[s.match[k].a]] = in[host[s.match[k].b]] = true;
        for (int32_t h = 0; h <= host[n_rank - 1]; h++)
            ck_assert_msg(in[h], "host %d takes no part", (int)h);
        shoal_probe_schedule_close(&s);
    }
}
END_TEST

START_TEST(what_was_not_measured_is_filled)
{
    /* Hosts {0, 1}, {2, 3}, {4}: measured 0-1, 0-2 both ways, 0-4 and 2-4 one way. */
    shoal_probe_message m;
    ck_assert_int_eq(shoal_probe_message_open(&m, 3, 5, NULL), SHOAL_OK);
    static const int32_t host[] = {0, 0, 1, 1, 2};
    for (int32_t r = 0; r < 5; r++)
        m.rank[r].host = host[r];
    const shoal_probe_link memory = {
        .latency_us = 1, .gb_per_s = 8, .path = SHOAL_PROBE_PATH_MEMORY};
    const shoal_probe_link tcp = {.latency_us = 20,
                                  .gb_per_s = 1,
                                  .overhead_us = 3,
                                  .path = SHOAL_PROBE_PATH_TCP,
                                  .interface = "eth0"};
    shoal_probe_link slow = tcp;
    slow.latency_us = 40;
    slow.gb_per_s = 0.5F;
    *shoal_probe_message_link(&m, 0, 1) = memory;
    *shoal_probe_message_link(&m, 0, 2) = tcp;
    *shoal_probe_message_link(&m, 2, 0) = tcp;
    *shoal_probe_message_link(&m, 0, 4) = slow;
    *shoal_probe_message_link(&m, 4, 0) = slow;
    ck_assert_int_eq(shoal_probe_fill_links(&m, NULL), SHOAL_OK);
    const shoal_probe_link *l = shoal_probe_message_link(&m, 0, 2);
    ck_assert_int_eq(l->path, SHOAL_PROBE_PATH_TCP); /* untouched */
    l = shoal_probe_message_link(&m, 1, 3);          /* between the same hosts */
    ck_assert_int_eq(l->path, SHOAL_PROBE_PATH_TCP | SHOAL_PROBE_PATH_ALIKE);
    ck_assert_float_eq(l->gb_per_s, 1);
    ck_assert_str_eq(l->interface, "eth0");
    l = shoal_probe_message_link(&m, 2, 3); /* within a host that measured nothing within */
    ck_assert_int_eq(l->path, SHOAL_PROBE_PATH_MEMORY | SHOAL_PROBE_PATH_ALIKE);
    ck_assert_float_eq(l->latency_us, 1);
    l = shoal_probe_message_link(&m, 2, 4); /* hosts that did not meet: the slower of both */
    ck_assert_float_eq(l->latency_us, 40);
    ck_assert_float_eq(l->gb_per_s, 0.5F);
    for (int32_t r = 0; r < 5; r++)
        ck_assert_int_eq(shoal_probe_message_link(&m, r, r)->path, SHOAL_PROBE_PATH_SELF);
    shoal_probe_message_close(&m);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, opponents_meet_once);
    SHOAL_TEST(suite, few_ranks_are_measured_whole);
    SHOAL_TEST(suite, hosts_of_unequal_size);
    SHOAL_TEST(suite, many_ranks_are_sampled);
    SHOAL_TEST(suite, what_was_not_measured_is_filled);
}

SHOAL_TEST_MAIN("launcher.probe_schedule", add_tests)
