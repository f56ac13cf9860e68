#include "runtime/kernels/trig.h"
#include "tests/kernels/variants.h"

static double draw_double(source *s)
{
    return (double)draw(s) * 0x1p-32 + (double)draw(s) * 0x1p-64;
}

static double sincos_error(double x)
{
    double s, c;
    shoal_sincos(&s, &c, x);
    double error_s = fabs(s - sin(x));
    double error_c = fabs(c - cos(x));
    return error_s > error_c ? error_s : error_c;
}

START_TEST(sincos_is_near_libm)
{
    source s = {1};
    double worst = 0;
    for (int32_t i = 0; i < 200000; i++) {
        double range = i % 4 == 0 ? 4 : i % 4 == 1 ? 1e3 : i % 4 == 2 ? 1e5 : 0x1p24;
        double error = sincos_error((2 * draw_double(&s) - 1) * range);
        worst = worst < error ? error : worst;
    }
    /* Near the multiples of pi/2, where the reduction cancels most. */
    for (int32_t n = -200000; n <= 200000; n++) {
        double error = sincos_error((double)(n * 53) * 1.57079632679489661923);
        worst = worst < error ? error : worst;
    }
    ck_assert_double_lt(worst, 1e-15);
}
END_TEST

START_TEST(sincos_at_its_ends)
{
    double s, c;
    shoal_sincos(&s, &c, 0.0);
    ck_assert(s == 0.0 && c == 1.0);
    ck_assert_double_lt(sincos_error(0x1p24), 1e-15);
    ck_assert_double_lt(sincos_error(-0x1p24), 1e-15);
    const double beyond[] = {0x1.1p24, -1e300, INFINITY, NAN};
    for (int32_t i = 0; i < 4; i++) {
        shoal_sincos(&s, &c, beyond[i]);
        ck_assert(isnan(s) && isnan(c));
    }
}
END_TEST

START_TEST(ln_exp_and_pow_are_near_libm)
{
    source s = {2};
    for (int32_t i = 0; i < 100000; i++) {
        double x = exp((2 * draw_double(&s) - 1) * (i % 2 == 0 ? 1 : 700));
        double want = log(x);
        ck_assert_double_le(fabs(shoal_ln(x) - want), 1e-15 * (fabs(want) < 1 ? 1 : fabs(want)));
        double e = (2 * draw_double(&s) - 1) * (i % 2 == 0 ? 1 : 705);
        ck_assert_double_le(fabs(shoal_exp(e) - exp(e)), 1e-15 * exp(e));
    }
    for (int32_t i = 0; i < 128; i++) {
        double want = pow(10000.0, -i / 128.0);
        ck_assert_double_le(fabs(shoal_pow(10000.0, -i / 128.0) - want), 2e-15 * want);
    }
}
END_TEST

START_TEST(ln_and_exp_at_their_ends)
{
    ck_assert(shoal_ln(1.0) == 0.0);
    ck_assert(shoal_exp(0.0) == 1.0);
    ck_assert(shoal_pow(1e6, 0.0) == 1.0);
    ck_assert(shoal_ln(0.0) == -INFINITY);
    ck_assert(shoal_ln(INFINITY) == INFINITY);
    ck_assert(isnan(shoal_ln(-1.0)));
    ck_assert(isnan(shoal_ln(NAN)));
    ck_assert(shoal_exp(-INFINITY) == 0.0);
    ck_assert(shoal_exp(INFINITY) == INFINITY);
    ck_assert_double_eq_tol(shoal_exp(709.0) / exp(709.0), 1.0, 1e-15);
    ck_assert(isnan(shoal_exp(NAN)));
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, sincos_is_near_libm);
    SHOAL_TEST(suite, sincos_at_its_ends);
    SHOAL_TEST(suite, ln_exp_and_pow_are_near_libm);
    SHOAL_TEST(suite, ln_and_exp_at_their_ends);
}

SHOAL_TEST_MAIN("kernels.trig", add_tests)
