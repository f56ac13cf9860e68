#include "runtime/model/family/families.h"

#include <stddef.h>

const shoal_family *const *shoal_families(void)
{
    static const shoal_family *const all[] = {
        &shoal_family_deepseek_v3,
        &shoal_family_qwen3_moe,
        NULL,
    };
    return all;
}
