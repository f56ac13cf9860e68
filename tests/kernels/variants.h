/* What the kernel tests share: all variants that this CPU runs, and the comparison of bytes. */
#ifndef SHOAL_TESTS_KERNELS_VARIANTS_H
#define SHOAL_TESTS_KERNELS_VARIANTS_H

#include "tests/kernels/inputs.h"
#include "tests/support/check_main.h"

enum { MAX_VARIANT = 8 };

typedef struct variants {
    const shoal_kernels *kernels[MAX_VARIANT]; /* [0] is the reference */
    int32_t n;
} variants;

static inline variants all_variants(void)
{
    variants v;
    v.n = shoal_kernels_list(v.kernels, MAX_VARIANT);
    ck_assert_int_ge(v.n, 1);
    ck_assert_str_eq(v.kernels[0]->name, "reference");
    return v;
}

#define ASSERT_SAME(kernels, got, want, n)                                                         \
    do {                                                                                           \
        int64_t at_ = first_difference((got), (want), (n));                                        \
        ck_assert_msg(at_ < 0, "%s differs from the reference at %lld: %a, %a", (kernels)->name,   \
                      (long long)at_, (double)(got)[at_ < 0 ? 0 : at_],                            \
                      (double)(want)[at_ < 0 ? 0 : at_]);                                          \
    } while (0)

#endif
