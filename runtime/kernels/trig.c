#include "runtime/kernels/trig.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Adding and subtracting 1.5 * 2^52 rounds a double of moderate size to an integer, half to even,
 * and leaves that integer in the low bits of the sum. */
#define ROUND_MAGIC 0x1.8p52

static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double of_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* |x| <= pi/4. Coefficients of fdlibm's k_sin.c and k_cos.c. */
static double sin_near_zero(double x)
{
    double z = x * x;
    double p = 1.58969099521155010221e-10;
    p = p * z - 2.50507602534068634195e-08;
    p = p * z + 2.75573137070700676789e-06;
    p = p * z - 1.98412698298579493134e-04;
    p = p * z + 8.33333333332248946124e-03;
    p = p * z - 1.66666666666666324348e-01;
    return x + x * z * p;
}

static double cos_near_zero(double x)
{
    double z = x * x;
    double p = -1.13596475577881948265e-11;
    p = p * z + 2.08757232129817482790e-09;
    p = p * z - 2.75573143513906633035e-07;
    p = p * z + 2.48015872894767294178e-05;
    p = p * z - 1.38888888888741095749e-03;
    p = p * z + 4.16666666666666019037e-02;
    double half = 0.5 * z;
    double w = 1.0 - half;
    return w + (((1.0 - w) - half) + z * z * p);
}

void shoal_sincos(double *sin, double *cos, double x)
{
    if (!(fabs(x) <= 0x1p24)) {
        *sin = *cos = NAN;
        return;
    }
    /* pi/2 in three parts; the first two have 29 bits, so their products with n < 2^24 are exact,
     * and so is the first difference. */
    const double part1 = 0x1.921fb54p+0;
    const double part2 = 0x1.10b4611p-30;
    const double part3 = 0x1.4c4c6628b80dcp-59;
    double shifted = x * 0x1.45f306dc9c883p-1 + ROUND_MAGIC;
    double n = shifted - ROUND_MAGIC;
    double r = ((x - n * part1) - n * part2) - n * part3;

    double s = sin_near_zero(r);
    double c = cos_near_zero(r);
    uint64_t quadrant = bits_of(shifted) & 3;
    *sin = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
    *cos = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
}

#define LN2_HI 0x1.62e42feep-1
#define LN2_LO 0x1.a39ef35793c76p-33

double shoal_ln(double x)
{
    if (x == 0 || x == INFINITY)
        return x == 0 ? -INFINITY : INFINITY;
    if (!(x >= 0x1p-1022))
        return NAN;
    /* x = 2^e m with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh(s), s = (m - 1) / (m + 1). */
    uint64_t bits = bits_of(x) - 0x3fe6a09e667f3bcdull;
    double e = (double)((int64_t)bits >> 52);
    double m = of_bits((bits & 0xfffffffffffffull) + 0x3fe6a09e667f3bcdull);
    double f = m - 1.0;
    double s = f / (2.0 + f);
    double z = s * s;
    double p = 1.0 / 21;
    for (int k = 19; k >= 3; k -= 2)
        p = p * z + 1.0 / k;
    /* 2 s = f - s f, with f exact: the error of s stays below one ulp of the result. */
    return e * LN2_HI + (f - (s * (f - 2.0 * z * p) - e * LN2_LO));
}

double shoal_exp(double x)
{
    if (x > 709.0 || x < -708.0)
        return x > 0 ? INFINITY : 0.0;
    double shifted = x * 0x1.71547652b82fep+0 + ROUND_MAGIC;
    double n = shifted - ROUND_MAGIC;
    double r = (x - n * LN2_HI) - n * LN2_LO;
    double p = 1.0;
    for (int k = 13; k >= 2; k--)
        p = 1.0 + p * r / k;
    uint64_t exponent = bits_of(shifted) - bits_of(ROUND_MAGIC) + 1023;
    return (1.0 + p * r) * of_bits(exponent << 52);
}

double shoal_pow(double base, double exponent)
{
    return shoal_exp(exponent * shoal_ln(base));
}
