/* The families this build knows. Adding one: a file beside this, a line here and in families.c
 * (docs/ADDING_A_MODEL.md). */
#ifndef SHOAL_MODEL_FAMILY_FAMILIES_H
#define SHOAL_MODEL_FAMILY_FAMILIES_H

#include "runtime/model/spec.h"

extern const shoal_family shoal_family_deepseek_v2;
extern const shoal_family shoal_family_deepseek_v3;
extern const shoal_family shoal_family_glm4_moe;
extern const shoal_family shoal_family_gpt_oss;
extern const shoal_family shoal_family_granitemoe;
extern const shoal_family shoal_family_mixtral;
extern const shoal_family shoal_family_olmoe;
extern const shoal_family shoal_family_qwen2_moe;
extern const shoal_family shoal_family_qwen3_moe;

#endif
