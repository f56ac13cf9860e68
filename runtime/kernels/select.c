#include "runtime/kernels/kernels.h"

#if defined(SHOAL_X86_VARIANTS)
#include <cpuid.h>
#endif
#if defined(SHOAL_ARM_VARIANTS)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#include <stdio.h>
#include <string.h>

extern const shoal_kernels shoal__kernels_reference;
#if defined(SHOAL_X86_VARIANTS)
extern const shoal_kernels shoal__kernels_avx2;
extern const shoal_kernels shoal__kernels_avx2vnni;
extern const shoal_kernels shoal__kernels_avx512;
extern const shoal_kernels shoal__kernels_avx512_bf16;
#endif
#if defined(SHOAL_ARM_VARIANTS)
extern const shoal_kernels shoal__kernels_neon;
#endif

typedef struct variant {
    const char *name;
    const shoal_kernels *kernels;
    const char *(*lacks)(void); /* what this CPU lacks for it; NULL: nothing */
    int32_t bits;               /* shoal_kernels_bits */
} variant;

static const char *lacks_nothing(void)
{
    return NULL;
}

#if defined(SHOAL_X86_VARIANTS)
/* Of leaves that __builtin_cpu_supports does not know with every compiler. */
static bool has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

static bool has_avx_vnni(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & 1u << 4) != 0;
}

static const char *avx2_lacks(void)
{
    return !__builtin_cpu_supports("avx2")  ? "AVX2"
           : !__builtin_cpu_supports("fma") ? "FMA"
           : !has_f16c()                    ? "F16C"
                                            : NULL;
}

static const char *avx2vnni_lacks(void)
{
    const char *lacks = avx2_lacks();
    return lacks != NULL ? lacks : has_avx_vnni() ? NULL : "AVX-VNNI";
}

static const char *avx512_lacks(void)
{
    const char *lacks = avx2_lacks();
    return lacks != NULL                           ? lacks
           : !__builtin_cpu_supports("avx512f")    ? "AVX512F"
           : !__builtin_cpu_supports("avx512bw")   ? "AVX512BW"
           : !__builtin_cpu_supports("avx512dq")   ? "AVX512DQ"
           : !__builtin_cpu_supports("avx512vl")   ? "AVX512VL"
           : !__builtin_cpu_supports("avx512vnni") ? "AVX512_VNNI"
                                                   : NULL;
}

static const char *avx512_bf16_lacks(void)
{
    const char *lacks = avx512_lacks();
    return lacks != NULL                           ? lacks
           : !__builtin_cpu_supports("avx512bf16") ? "AVX512_BF16"
           : !__builtin_cpu_supports("avx512vbmi") ? "AVX512_VBMI"
                                                   : NULL;
}
#endif

#if defined(SHOAL_ARM_VARIANTS)
static const char *neon_lacks(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0 ? NULL : "the dot product extension";
}
#endif

/* Widest first; those with bits of their own are never chosen automatically. */
static const variant variants[] = {
#if defined(SHOAL_X86_VARIANTS)
    {"avx512-bf16", &shoal__kernels_avx512_bf16, avx512_bf16_lacks, 1},
    {"avx512", &shoal__kernels_avx512, avx512_lacks, 0},
    {"avx2vnni", &shoal__kernels_avx2vnni, avx2vnni_lacks, 0},
    {"avx2", &shoal__kernels_avx2, avx2_lacks, 0},
#endif
#if defined(SHOAL_ARM_VARIANTS)
    {"neon", &shoal__kernels_neon, neon_lacks, 0},
#endif
    {"reference", &shoal__kernels_reference, lacks_nothing, 0},
};

enum { N_VARIANT = (int)(sizeof variants / sizeof variants[0]) };

shoal_status shoal_kernels_select(const shoal_kernels **kernels, const char *name, shoal_log *log)
{
    bool automatic = strcmp(name, "auto") == 0;
    for (int32_t i = 0; i < N_VARIANT; i++) {
        const variant *v = &variants[i];
        if (automatic ? v->bits != 0 : strcmp(name, v->name) != 0)
            continue;
        const char *lacks = v->lacks();
        if (lacks == NULL) {
            *kernels = v->kernels;
            return SHOAL_OK;
        }
        if (!automatic)
            return shoal_fail(log, SHOAL_UNAVAILABLE,
                              "kernels '%s' need %s, which this CPU lacks; use 'auto'", name,
                              lacks);
    }
    char known[128] = "";
    size_t used = 0;
    for (int32_t i = N_VARIANT - 1; i >= 0 && used < sizeof known; i--)
        used += (size_t)snprintf(known + used, sizeof known - used, ", %s", variants[i].name);
    return shoal_fail(log, SHOAL_USAGE, "unknown kernels '%s'; this build has auto%s", name, known);
}

int32_t shoal_kernels_bits(const char *name)
{
    for (int32_t i = 0; i < N_VARIANT; i++) {
        if (strcmp(name, variants[i].name) == 0)
            return variants[i].bits;
    }
    return 0;
}

int32_t shoal_kernels_list(const shoal_kernels **kernels, int32_t n_max)
{
    int32_t n = 0;
    for (int32_t i = N_VARIANT - 1; i >= 0; i--) {
        if (variants[i].bits != 0 || variants[i].lacks() != NULL)
            continue;
        if (n < n_max)
            kernels[n] = variants[i].kernels;
        n++;
    }
    return n;
}
