#include "runtime/kernels/kernels.h"

#if defined(SHOAL_X86_VARIANTS)
#include <cpuid.h>
#endif
#include <stdio.h>
#include <string.h>

extern const shoal_kernels shoal__kernels_reference;
#if defined(SHOAL_X86_VARIANTS)
extern const shoal_kernels shoal__kernels_avx2;
extern const shoal_kernels shoal__kernels_avx512;
#endif

typedef struct variant {
    const char *name;
    const shoal_kernels *kernels;
    bool (*runs)(void);
} variant;

static bool always(void)
{
    return true;
}

#if defined(SHOAL_X86_VARIANTS)
static bool has_avx2(void)
{
    unsigned eax, ebx, ecx, edx; /* f16c: not every compiler's __builtin_cpu_supports knows it */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

/* Widest first. */
static const variant variants[] = {
#if defined(SHOAL_X86_VARIANTS)
    {"avx512", &shoal__kernels_avx512, has_avx512},
    {"avx2", &shoal__kernels_avx2, has_avx2},
#endif
    {"reference", &shoal__kernels_reference, always},
};

enum { N_VARIANT = (int)(sizeof variants / sizeof variants[0]) };

shoal_status shoal_kernels_select(const shoal_kernels **kernels, const char *name, shoal_log *log)
{
    bool automatic = strcmp(name, "auto") == 0;
    for (int32_t i = 0; i < N_VARIANT; i++) {
        const variant *v = &variants[i];
        if (!automatic && strcmp(name, v->name) != 0)
            continue;
        if (v->runs()) {
            *kernels = v->kernels;
            return SHOAL_OK;
        }
        if (!automatic)
            return shoal_fail(log, SHOAL_UNAVAILABLE,
                              "kernels '%s' need instructions that this CPU lacks; use 'auto'",
                              name);
    }
    char known[128] = "";
    size_t used = 0;
    for (int32_t i = N_VARIANT - 1; i >= 0 && used < sizeof known; i--)
        used += (size_t)snprintf(known + used, sizeof known - used, ", %s", variants[i].name);
    return shoal_fail(log, SHOAL_USAGE, "unknown kernels '%s'; this build has auto%s", name, known);
}

int32_t shoal_kernels_list(const shoal_kernels **kernels, int32_t n_max)
{
    int32_t n = 0;
    for (int32_t i = N_VARIANT - 1; i >= 0; i--) {
        if (!variants[i].runs())
            continue;
        if (n < n_max)
            kernels[n] = variants[i].kernels;
        n++;
    }
    return n;
}
