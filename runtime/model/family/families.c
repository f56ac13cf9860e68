#include "runtime/model/family/families.h"

#include <stddef.h>

const shoal_family *const *shoal_families(void)
{
    static const shoal_family *const all[] = {
        &shoal_family_deepseek_v2, &shoal_family_deepseek_v3,
        &shoal_family_glm4_moe,    &shoal_family_gpt_oss,
        &shoal_family_granitemoe,  &shoal_family_mixtral,
        &shoal_family_olmoe,       &shoal_family_qwen2_moe,
        &shoal_family_qwen3_moe,   NULL,
    };
    return all;
}
