#include "runtime/base/timeline.h"
#include "tests/support/check_main.h"

static shoal_span ended(int64_t end_us, int32_t kind, int32_t n)
{
    return (shoal_span){.end_us = end_us, .kind = (uint8_t)kind, .n = n, .sent_bytes = 7};
}

static void end(shoal_timeline *t, int64_t number, int64_t end_us, int32_t kind, int32_t n)
{
    const shoal_span span = ended(end_us, kind, n);
    shoal_timeline_end(t, number, &span);
}

START_TEST(parents_come_first)
{
    shoal_timeline t;
    ck_assert_int_eq(shoal_timeline_open(&t, 8, NULL), SHOAL_OK);
    t.step = 3;
    const int64_t step = shoal_timeline_begin(&t, SHOAL_SPAN_STEP, 100);
    const int64_t phase = shoal_timeline_begin(&t, SHOAL_SPAN_OPEN, 100);
    const int64_t wait = shoal_timeline_begin(&t, SHOAL_SPAN_WAIT, 110);
    end(&t, wait, 120, SHOAL_SPAN_WAIT, 2);
    t.layer = 5;
    t.part = 1;
    end(&t, phase, 130, SHOAL_SPAN_PHASE + 4, 9);
    t.layer = -1;
    t.part = 0;
    end(&t, step, 150, SHOAL_SPAN_STEP, 9);
    ck_assert_int_eq(t.n, 3);
    ck_assert_int_eq(t.span[0].kind, SHOAL_SPAN_STEP);
    ck_assert_int_eq(t.span[0].start_us, 100);
    ck_assert_int_eq(t.span[0].end_us, 150);
    ck_assert_int_eq(t.span[0].step, 3);
    ck_assert_int_eq(t.span[0].layer, -1);
    ck_assert_int_eq(t.span[1].kind, SHOAL_SPAN_PHASE + 4);
    ck_assert_int_eq(t.span[1].layer, 5);
    ck_assert_int_eq(t.span[1].part, 1);
    ck_assert_int_eq(t.span[1].n, 9);
    ck_assert_uint_eq(t.span[1].sent_bytes, 7);
    ck_assert_int_eq(t.span[2].kind, SHOAL_SPAN_WAIT);
    ck_assert_int_eq(t.span[2].start_us, 110);
    shoal_timeline_close(&t);
    shoal_timeline_close(&t);
}
END_TEST

START_TEST(when_it_is_full_it_counts)
{
    shoal_timeline t;
    ck_assert_int_eq(shoal_timeline_open(&t, 2, NULL), SHOAL_OK);
    const int64_t first = shoal_timeline_begin(&t, SHOAL_SPAN_STEP, 1);
    ck_assert_int_eq(shoal_timeline_begin(&t, SHOAL_SPAN_OPEN, 2), 1);
    ck_assert_int_eq(shoal_timeline_begin(&t, SHOAL_SPAN_OPEN, 3), -1);
    end(&t, -1, 4, SHOAL_SPAN_PHASE, 0);
    shoal_timeline_drop(&t, -1);
    end(&t, first, 5, SHOAL_SPAN_STEP, 0); /* what had room ends as ever */
    ck_assert_int_eq(t.n, 2);
    ck_assert_int_eq(t.n_left_out, 1);
    ck_assert_int_eq(t.span[0].end_us, 5);
    shoal_timeline_close(&t);
}
END_TEST

START_TEST(dropped_spans_leave_no_trace)
{
    shoal_timeline t;
    ck_assert_int_eq(shoal_timeline_open(&t, 4, NULL), SHOAL_OK);
    const int64_t outer = shoal_timeline_begin(&t, SHOAL_SPAN_OPEN, 1);
    shoal_timeline_drop(&t, shoal_timeline_begin(&t, SHOAL_SPAN_OPEN, 2));
    ck_assert_int_eq(t.n, 1); /* the last one gives its place back */
    end(&t, shoal_timeline_begin(&t, SHOAL_SPAN_WAIT, 3), 4, SHOAL_SPAN_WAIT, 0);
    shoal_timeline_drop(&t, outer);
    ck_assert_int_eq(t.n, 2);
    shoal_timeline_finish(&t, 9);
    ck_assert_int_eq(t.n, 1);
    ck_assert_int_eq(t.span[0].kind, SHOAL_SPAN_WAIT);
    shoal_timeline_close(&t);
}
END_TEST

START_TEST(a_failure_ends_what_is_open)
{
    shoal_timeline t;
    ck_assert_int_eq(shoal_timeline_open(&t, 4, NULL), SHOAL_OK);
    (void)shoal_timeline_begin(&t, SHOAL_SPAN_STEP, 10);
    t.step = 6; /* known by now */
    (void)shoal_timeline_begin(&t, SHOAL_SPAN_OPEN, 11);
    (void)shoal_timeline_begin(&t, SHOAL_SPAN_WAIT, 12);
    shoal_timeline_finish(&t, 50);
    ck_assert_int_eq(t.n, 2); /* what the phase would have been is not known */
    ck_assert_int_eq(t.span[0].step, 6);
    ck_assert_int_eq(t.span[0].end_us, 50);
    ck_assert_int_eq(t.span[1].kind, SHOAL_SPAN_WAIT);
    ck_assert_int_eq(t.span[1].start_us, 12);
    ck_assert_int_eq(t.span[1].end_us, 50);
    shoal_timeline_close(&t);
}
END_TEST

START_TEST(no_recorder_is_fine)
{
    ck_assert_int_eq(shoal_timeline_begin(NULL, SHOAL_SPAN_STEP, 1), -1);
    end(NULL, 0, 1, SHOAL_SPAN_STEP, 0);
    shoal_timeline_drop(NULL, 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, parents_come_first);
    SHOAL_TEST(suite, when_it_is_full_it_counts);
    SHOAL_TEST(suite, dropped_spans_leave_no_trace);
    SHOAL_TEST(suite, a_failure_ends_what_is_open);
    SHOAL_TEST(suite, no_recorder_is_fine);
}

SHOAL_TEST_MAIN("base.timeline", add_tests)
