/* The families this build knows. Adding one: a file beside this, a line here and in families.c. */
#ifndef SHOAL_MODEL_FAMILY_FAMILIES_H
#define SHOAL_MODEL_FAMILY_FAMILIES_H

#include "runtime/model/spec.h"

extern const shoal_family shoal_family_deepseek_v3;
extern const shoal_family shoal_family_qwen3_moe;

#endif
