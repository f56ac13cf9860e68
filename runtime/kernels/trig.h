/* The few functions of <math.h> that tables are made with, in double, from + - * / and integer
 * operations alone: libm's differ by version and machine, and a rotation table that differs in one
 * bit breaks rule 1. Not for inner loops. Layering: kernels, base only. */
#ifndef SHOAL_KERNELS_TRIG_H
#define SHOAL_KERNELS_TRIG_H

/* |x| <= 2^24, absolute error below 1e-15; NaN beyond. */
void shoal_sincos(double *sin, double *cos, double x);

/* Natural logarithm of a normal x > 0, relative error below 1e-15 (absolute near 1); 0 gives
 * -infinity, infinity itself, and anything else NaN. */
double shoal_ln(double x);

/* e^x, relative error below 1e-15; 0 below -708, infinity above 709. */
double shoal_exp(double x);

/* base^exponent for a base > 0: the rotary frequencies. Relative error about 1e-16 times
 * (1 + |exponent * ln base|). */
double shoal_pow(double base, double exponent);

#endif
