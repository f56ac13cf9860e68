/* libnccl, found when a job starts: a build neither needs nor prefers a machine that has it. It is
 * never unloaded, as its threads may outlive a communicator. */
#include "comm/nccl/nccl_private.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define WHAT_TO_DO                                                                                 \
    "install NCCL 2.18 or newer (libnccl2 of NVIDIA's package repository, or nvidia-nccl-cu12 of " \
    "PyPI), name it with --nccl-library PATH, or use --transport mpi"

/* ISO C has no cast from an object's pointer to a function's. */
static bool find(void *function, void *library, const char *symbol)
{
    void *found = dlsym(library, symbol);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

/* 2.8 and older count 2803, newer ones 20901. */
const char *shoal__nccl_version_text(char text[16], int32_t version)
{
    int major = version >= 10000 ? version / 10000 : version / 1000;
    int minor = version >= 10000 ? version % 10000 / 100 : version % 1000 / 100;
    snprintf(text, 16, "%d.%d.%d", major % 100, minor, (int)version % 100);
    return text;
}

shoal_status shoal__nccl_load(shoal_nccl *t, const char *library)
{
    const char *name = library != NULL ? library : "libnccl.so.2";
    void *loaded = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (loaded == NULL)
        return shoal_fail(t->log, SHOAL_UNAVAILABLE, "NCCL cannot be loaded: %s; " WHAT_TO_DO,
                          dlerror());
#define FIND(field, symbol, result, parameters)                                                    \
    if (!find(&t->api.field, loaded, #symbol))                                                     \
        return shoal_fail(                                                                         \
            t->log, SHOAL_UNAVAILABLE,                                                             \
            "%s has no function " #symbol ", which NCCL has from 2.18 on; " WHAT_TO_DO, name);
    FIND(get_version, ncclGetVersion, , )
    int version = 0;
    if (t->api.get_version(&version) != SHOAL__NCCL_SUCCESS)
        return shoal_fail(t->log, SHOAL_UNAVAILABLE, "%s does not tell its version; " WHAT_TO_DO,
                          name);
    t->version = version;
    shoal__nccl_version_text(t->version_text, version);
    if (version < SHOAL__NCCL_VERSION_MIN)
        return shoal_fail(t->log, SHOAL_UNAVAILABLE, "%s is NCCL %s, too old; " WHAT_TO_DO, name,
                          t->version_text);
    SHOAL__NCCL_SYMBOLS(FIND)
#undef FIND
    return SHOAL_OK;
}

shoal__nccl_result shoal__nccl_look(const shoal_nccl *t)
{
    shoal__nccl_result state = SHOAL__NCCL_SUCCESS;
    const shoal__nccl_result result = t->api.get_async_error(t->comm, &state);
    return result == SHOAL__NCCL_SUCCESS ? state : result;
}

const char *shoal__nccl_text(char text[256], const shoal_nccl *t, shoal__nccl_result result)
{
    const char *kind = t->api.get_error_string(result);
    const char *last = t->api.get_last_error(t->comm);
    bool more = last != NULL && last[0] != '\0';
    snprintf(text, 256, "%s%s%.*s%s", kind != NULL ? kind : "unknown error", more ? " (" : "",
             more ? (int)strcspn(last, "\n") : 0, more ? last : "", more ? ")" : "");
    return text;
}
