#include "runtime/checkpoint/pack_folder.h"

#include "runtime/base/json.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/pack_write.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ABOUT_NAME "about.json"

static void folder_name(char name[64], const char *weights, uint64_t identity)
{
    snprintf(name, 64, "%.32s-%016" PRIx64, weights, identity);
}

bool shoal_pack_cache_has(const char *dir, const char *weights, uint64_t identity)
{
    char name[64];
    folder_name(name, weights, identity);
    return shoal__file_exists(dir, name);
}

/* mkdir, unless it is there. */
static bool make_folder(bool *made, const char *path)
{
    *made = mkdir(path, 0777) == 0;
    const int error = errno;
    struct stat entry;
    if (*made || (stat(path, &entry) == 0 && S_ISDIR(entry.st_mode)))
        return true;
    errno = error;
    return false;
}

static shoal_status write_about(const char *path, const shoal_pack_config *config,
                                const char *model, shoal_log *log)
{
    shoal_json *about = shoal_json_new_object();
    shoal_json_set(about, "model", shoal_json_new_string(model, strlen(model)));
    shoal_json_set(about, "weights",
                   shoal_json_new_string(config->weights, strlen(config->weights)));
    shoal_json_set(about, "version", shoal_json_new_int(SHOAL_PACK_VERSION));
    char *text = shoal_json_dump(about);
    shoal_json_close(about);
    const shoal__pack_writer writer = {.folder = path, .log = log};
    const shoal_status status = shoal__pack_write_whole(&writer, ABOUT_NAME, text, strlen(text));
    free(text);
    return status;
}

static bool is_text(const shoal_json *about, const char *key, const char *wanted)
{
    const char *found = shoal_json_string(shoal_json_get(about, key), NULL);
    return found != NULL && strcmp(found, wanted) == 0;
}

/* True if the folder was packed from the same MODEL with the same --weights. */
static bool is_of_model(const char *folder, const shoal_pack_config *config, const char *model)
{
    char *path = shoal__path_join(folder, ABOUT_NAME);
    if (path == NULL)
        return false;
    shoal_log quiet;
    shoal_log_init(&quiet, NULL, 0, "");
    shoal_json *about = NULL;
    const bool same = shoal_json_read_file(&about, path, &quiet) == SHOAL_OK &&
                      is_text(about, "model", model) && is_text(about, "weights", config->weights);
    shoal_json_close(about);
    free(path);
    return same;
}

static void tell_stale(const char *own_name, const shoal_pack_config *config, const char *model,
                       shoal_log *log)
{
    DIR *dir = opendir(config->dir);
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, own_name) == 0)
            continue;
        char *path = shoal__path_join(config->dir, entry->d_name);
        if (path != NULL && is_of_model(path, config, model))
            shoal_log_warn(log,
                           "cache %s is stale: %s (its config.json, headers, sizes or modification "
                           "times) or the packed layout has changed since; it is not used and can "
                           "be removed",
                           path, model);
        free(path);
    }
    closedir(dir);
}

/* DIR/name: made, described and its elders told, if it is new. */
static bool open_own(const char *path, const char *name, const shoal_pack_config *config,
                     shoal_log *log)
{
    shoal_log quiet;
    shoal_log_init(&quiet, NULL, log->rank, "");
    char *model = realpath(config->model, NULL);
    const char *model_text = model != NULL ? model : config->model;
    bool made = false;
    bool writable = make_folder(&made, path) && access(path, W_OK | X_OK) == 0;
    if (!writable)
        snprintf(quiet.error, sizeof quiet.error, "%s: %s", path, strerror(errno));
    if (writable && !shoal__file_exists(path, ABOUT_NAME)) {
        if (config->speaks)
            tell_stale(name, config, model_text, log);
        writable = write_about(path, config, model_text, &quiet) == SHOAL_OK;
    }
    if (!writable)
        shoal_log_warn(log, "cache %s: nothing can be written, so only what is there is used: %s",
                       config->dir, quiet.error);
    free(model);
    return writable;
}

shoal_status shoal__pack_folder_open(char **path, bool *writable, const shoal_pack_config *config,
                                     shoal_log *log)
{
    bool made = false;
    if (!make_folder(&made, config->dir)) {
        const bool absent = errno == ENOENT || errno == ENOTDIR || errno == EEXIST;
        return shoal_fail(log, absent ? SHOAL_NO_INPUT : SHOAL_IO,
                          "--cache %s: is no folder and cannot be made: %s", config->dir,
                          strerror(errno));
    }
    char name[64];
    folder_name(name, config->weights, config->identity);
    char *own = shoal__path_join(config->dir, name);
    if (own == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "--cache %s: no memory to open it", config->dir);
    *writable = open_own(own, name, config, log);
    *path = own;
    return SHOAL_OK;
}
