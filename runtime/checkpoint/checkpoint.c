#include "runtime/checkpoint/checkpoint.h"

#include "runtime/base/file.h"
#include "runtime/base/hash.h"
#include "runtime/checkpoint/checkpoint_private.h"
#include "runtime/checkpoint/index.h"
#include "runtime/checkpoint/staged.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SINGLE_NAME "model.safetensors"

/* True if a file can be GGUF: by its name or by its first bytes. */
static bool looks_like_gguf(const char *path)
{
    size_t n = strlen(path);
    if (n >= 5 && strcmp(path + n - 5, ".gguf") == 0)
        return true;
    char magic[4] = {0};
    FILE *file = fopen(path, "rb");
    bool found = file != NULL && fread(magic, 1, 4, file) == 4 && memcmp(magic, "GGUF", 4) == 0;
    if (file != NULL)
        fclose(file);
    return found;
}

static shoal_status check_path(bool *is_gguf, const char *path, shoal_log *log)
{
    struct stat entry;
    if (stat(path, &entry) != 0) {
        bool absent = errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG;
        return shoal_fail(log, absent ? SHOAL_NO_INPUT : SHOAL_IO,
                          "model \"%s\": %s; wanted a .gguf file or a checkpoint folder that holds "
                          "config.json and model.safetensors (or shards and %s)",
                          path, strerror(errno), SHOAL_INDEX_NAME);
    }
    *is_gguf = S_ISREG(entry.st_mode) && looks_like_gguf(path);
    if (!S_ISDIR(entry.st_mode) && !*is_gguf)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "model %s is not a folder and no GGUF file; wanted a checkpoint folder "
                          "that holds config.json and model.safetensors (or shards and %s): give "
                          "the folder, not a file in it, or give a .gguf file",
                          path, SHOAL_INDEX_NAME);
    return SHOAL_OK;
}

/* A JSON file that must be an object. Its bytes go into *hash unless that is NULL. */
static shoal_status read_config(shoal_json **doc, uint64_t *hash, const char *path, shoal_log *log)
{
    char *text = NULL;
    size_t n_bytes = 0;
    SHOAL_TRY(shoal_file_read(&text, &n_bytes, path, SHOAL_JSON_MAX_BYTES, log));
    shoal_status status = shoal_json_parse(doc, text, n_bytes, path, log);
    if (status == SHOAL_OK && hash != NULL) {
        uint64_t length = n_bytes;
        *hash = shoal_hash(*hash, &length, sizeof length);
        *hash = shoal_hash(*hash, text, n_bytes);
    }
    free(text);
    SHOAL_TRY(status);
    if (!shoal_json_is_object(*doc))
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: wanted a JSON object", path);
    return SHOAL_OK;
}

static shoal_status open_config(shoal_json **doc, uint64_t *hash, const shoal_checkpoint *c,
                                const char *name)
{
    char *path = shoal__path_join(c->path, name);
    if (path == NULL)
        return shoal_fail(c->log, SHOAL_NO_MEMORY, "%s: no memory to open it", name);
    shoal_status status = read_config(doc, hash, path, c->log);
    free(path);
    return status;
}

static shoal_status open_configs(shoal_checkpoint *c, bool need_config)
{
    if (shoal__file_exists(c->path, "config.json"))
        SHOAL_TRY(open_config(&c->config, &c->identity, c, "config.json"));
    else if (need_config)
        return shoal_fail(c->log, SHOAL_NO_INPUT,
                          "model %s: the folder has no config.json; wanted a checkpoint folder "
                          "that holds config.json and %s (or shards and %s)",
                          c->path, SINGLE_NAME, SHOAL_INDEX_NAME);
    if (shoal__file_exists(c->path, "generation_config.json"))
        SHOAL_TRY(open_config(&c->generation_config, NULL, c, "generation_config.json"));
    return SHOAL_OK;
}

shoal_status shoal__checkpoint_file_open(shoal__file *file, const shoal_checkpoint *c,
                                         const char *folder, const char *name)
{
    if (c->staged != NULL)
        return shoal__staged_file_open(file, c->staged, name, c->log);
    return shoal__file_open(file, folder, name, c->log);
}

/* Open and check the files in the given order, and append their tensors. */
static shoal_status open_files(shoal_checkpoint *c, const char *const *name, int32_t n_name)
{
    c->file = calloc((size_t)n_name, sizeof *c->file);
    c->header = calloc((size_t)n_name, sizeof *c->header);
    if (c->file == NULL || c->header == NULL)
        return shoal_fail(c->log, SHOAL_NO_MEMORY, "model %s: no memory for %d files", c->path,
                          n_name);
    for (int32_t i = 0; i < n_name; i++) {
        SHOAL_TRY(shoal__checkpoint_file_open(&c->file[i], c, c->path, name[i]));
        c->n_file++;
        SHOAL_TRY(shoal__safetensors_read(&c->header[i], &c->identity, &c->file[i], c->log));
        c->n_tensor += c->header[i].n_tensor;
    }
    c->tensor = calloc((size_t)c->n_tensor + 1, sizeof *c->tensor);
    if (c->tensor == NULL)
        return shoal_fail(c->log, SHOAL_NO_MEMORY, "model %s: no memory for %" PRId64 " tensors",
                          c->path, c->n_tensor);
    shoal_tensor_info *to = c->tensor;
    for (int32_t i = 0; i < n_name; i++) {
        shoal__safetensors *header = &c->header[i];
        for (int64_t k = 0; k < header->n_tensor; k++) {
            *to = header->tensor[k];
            to->file = i;
            to++;
        }
        free(header->tensor); /* the names stay */
        header->tensor = NULL;
    }
    return SHOAL_OK;
}

static int compare_name(const void *a, const void *b)
{
    return strcmp(((const shoal_tensor_info *)a)->name, ((const shoal_tensor_info *)b)->name);
}

shoal_status shoal__checkpoint_sort(shoal_checkpoint *c)
{
    if (c->n_tensor == 0)
        return SHOAL_OK;
    qsort(c->tensor, (size_t)c->n_tensor, sizeof *c->tensor, compare_name);
    for (int64_t i = 1; i < c->n_tensor; i++)
        if (strcmp(c->tensor[i - 1].name, c->tensor[i].name) == 0)
            return shoal_fail(c->log, SHOAL_BAD_DATA,
                              "model %s: duplicate tensor %s: it lies in %s and in %s", c->path,
                              c->tensor[i].name, c->file[c->tensor[i - 1].file].name,
                              c->file[c->tensor[i].file].name);
    return SHOAL_OK;
}

/* A folder without weights is fine; shards whose index did not come along are not. */
static shoal_status check_no_shards(const shoal_checkpoint *c)
{
    DIR *folder = opendir(c->path);
    if (folder == NULL)
        return shoal_fail(c->log, SHOAL_IO, "model %s: cannot list the folder: %s", c->path,
                          strerror(errno));
    char found[256] = "";
    for (struct dirent *entry; found[0] == '\0' && (entry = readdir(folder)) != NULL;) {
        const char *dot = strrchr(entry->d_name, '.');
        if (strncmp(entry->d_name, "model-", 6) == 0 && dot != NULL &&
            strcmp(dot, ".safetensors") == 0)
            snprintf(found, sizeof found, "%s", entry->d_name);
    }
    closedir(folder);
    if (found[0] != '\0')
        return shoal_fail(c->log, SHOAL_NO_INPUT,
                          "model %s: has %s but no %s, which says what the shards hold; is the "
                          "download complete?",
                          c->path, found, SHOAL_INDEX_NAME);
    return SHOAL_OK;
}

static shoal_status open_weights(shoal_checkpoint *c)
{
    if (shoal__file_exists(c->path, SHOAL_INDEX_NAME)) {
        shoal__index index;
        SHOAL_TRY(shoal__index_open(&index, c->path, c->log));
        shoal_status status = open_files(c, index.file_name, index.n_file);
        if (status == SHOAL_OK)
            status = shoal__checkpoint_sort(c);
        if (status == SHOAL_OK)
            status = shoal__index_check(&index, c, c->log);
        shoal__index_close(&index);
        return status;
    }
    if (c->staged != NULL ? shoal__staged_has(c->staged, SINGLE_NAME)
                          : shoal__file_exists(c->path, SINGLE_NAME)) {
        static const char *const single[] = {SINGLE_NAME};
        SHOAL_TRY(open_files(c, single, 1));
        return shoal__checkpoint_sort(c);
    }
    return check_no_shards(c);
}

/* If the folder is a staged one (staged.h), its description. */
static shoal_status open_staged(shoal_checkpoint *c, bool staging)
{
    const bool finished = shoal__file_exists(c->path, SHOAL_STAGED_NAME);
    const bool begun = shoal__file_exists(c->path, SHOAL__STAGED_OPEN_NAME);
    if (begun && !finished && !staging)
        return shoal_fail(c->log, SHOAL_NO_INPUT,
                          "model %s: is being filled by shoal stage, which has not finished; wait "
                          "for it, or run it again with the same --to: it goes on where it was",
                          c->path);
    if (!finished && !begun)
        return SHOAL_OK;
    return shoal__staged_open(&c->staged, c->path,
                              begun && staging ? SHOAL__STAGED_OPEN_NAME : SHOAL_STAGED_NAME,
                              c->log);
}

static shoal_status open_checkpoint(shoal_checkpoint *c, const char *path, bool need_config,
                                    bool staging)
{
    bool is_gguf = false;
    SHOAL_TRY(check_path(&is_gguf, path, c->log));
    c->path = strdup(path);
    if (c->path == NULL)
        return shoal_fail(c->log, SHOAL_NO_MEMORY, "model %s: no memory for its path", path);
    if (!is_gguf)
        SHOAL_TRY(open_staged(c, staging));
    if (is_gguf || (c->staged != NULL && c->staged->is_gguf))
        return shoal__checkpoint_open_gguf(c);
    SHOAL_TRY(open_configs(c, need_config));
    return open_weights(c);
}

static shoal_status open_new(shoal_checkpoint **checkpoint, const char *path, bool need_config,
                             bool staging, shoal_log *log)
{
    shoal_checkpoint *c = calloc(1, sizeof *c);
    if (c == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "model %s: no memory to open it", path);
    c->log = log;
    c->identity = SHOAL_HASH_INIT;
    shoal_status status = open_checkpoint(c, path, need_config, staging);
    if (status != SHOAL_OK) {
        shoal_checkpoint_close(c);
        return status;
    }
    *checkpoint = c;
    return SHOAL_OK;
}

shoal_status shoal_checkpoint_open(shoal_checkpoint **checkpoint, const char *path,
                                   bool need_config, shoal_log *log)
{
    return open_new(checkpoint, path, need_config, false, log);
}

shoal_status shoal_staged_open(shoal_checkpoint **checkpoint, const char *dir, shoal_log *log)
{
    return open_new(checkpoint, dir, true, true, log);
}

void shoal_checkpoint_close(shoal_checkpoint *c)
{
    if (c == NULL)
        return;
    for (int32_t i = 0; i < c->n_file; i++) {
        shoal__file_close(&c->file[i]);
        if (c->header != NULL)
            shoal__safetensors_close(&c->header[i]);
        if (c->gguf != NULL)
            shoal__gguf_close(&c->gguf[i]);
    }
    if (c->gguf == NULL)
        free(c->tensor);
    shoal__gguf_names_close(&c->names);
    free(c->gguf);
    free(c->header);
    free(c->file);
    shoal_json_close(c->generation_config);
    shoal_json_close(c->config);
    shoal__staged_close(c->staged);
    free(c->path);
    free(c);
}

const char *shoal_checkpoint_path(const shoal_checkpoint *c)
{
    return c->path;
}

const shoal_json *shoal_checkpoint_config(const shoal_checkpoint *c)
{
    return c->config;
}

const shoal_json *shoal_checkpoint_generation_config(const shoal_checkpoint *c)
{
    return c->generation_config;
}

int64_t shoal_checkpoint_n_tensor(const shoal_checkpoint *c)
{
    return c->n_tensor;
}

const shoal_tensor_info *shoal_checkpoint_tensor(const shoal_checkpoint *c, int64_t index)
{
    return &c->tensor[index];
}

const shoal_tensor_info *shoal_checkpoint_find(const shoal_checkpoint *c, const char *name)
{
    if (c->n_tensor == 0)
        return NULL;
    shoal_tensor_info key = {.name = name};
    return bsearch(&key, c->tensor, (size_t)c->n_tensor, sizeof *c->tensor, compare_name);
}

const char *shoal_checkpoint_file_name(const shoal_checkpoint *c, const shoal_tensor_info *t)
{
    return c->file[t->file].name;
}

uint64_t shoal_checkpoint_identity(const shoal_checkpoint *c)
{
    return c->identity;
}

bool shoal_checkpoint_is_staged(const shoal_checkpoint *c)
{
    return c->staged != NULL;
}

const char *shoal_checkpoint_origin(const shoal_checkpoint *c)
{
    return c->staged != NULL ? c->staged->model : c->path;
}

uint64_t shoal_checkpoint_age(const shoal_checkpoint *c)
{
    uint64_t hash = SHOAL_HASH_INIT;
    for (int32_t i = 0; i < c->n_file; i++)
        hash = shoal_hash(hash, &c->file[i].modified_ns, sizeof(int64_t));
    return hash;
}

shoal_status shoal_checkpoint_check_unchanged(const shoal_checkpoint *c)
{
    for (int32_t i = 0; i < c->n_file && c->staged == NULL; i++) {
        const shoal__file *f = &c->file[i];
        struct stat now;
        if (stat(f->path, &now) != 0)
            return shoal_fail(c->log, SHOAL_NO_INPUT, "%s: has gone meanwhile: %s", f->path,
                              strerror(errno));
        if ((uint64_t)now.st_size != f->n_bytes || shoal__modified_ns(&now) != f->modified_ns)
            return shoal_fail(c->log, SHOAL_BAD_DATA,
                              "%s: has changed since it was opened (now %" PRId64
                              " bytes, then %" PRIu64
                              "%s); is something writing to the checkpoint?",
                              f->path, (int64_t)now.st_size, f->n_bytes,
                              (uint64_t)now.st_size == f->n_bytes ? ", and another time" : "");
    }
    return SHOAL_OK;
}

shoal_status shoal_checkpoint_read(shoal_checkpoint *c, const shoal_tensor_info *t, uint64_t first,
                                   size_t n_bytes, void *dst)
{
    if (c->staged != NULL)
        return shoal_fail(c->log, SHOAL_NO_INPUT,
                          "model %s: tensor %s is wanted and not among what was staged here; run "
                          "shoal stage %s --to %s with the --weights, --placement, --draft and "
                          "number of ranks of this run: it adds what is missing",
                          c->path, t->name, c->staged->model, c->path);
    if (first > t->n_bytes || n_bytes > t->n_bytes - first)
        return shoal_fail(c->log, SHOAL_FAILED,
                          "%s: tensor %s has %" PRIu64 " bytes, asked for %zu from byte %" PRIu64
                          " on (an error in Shoal)",
                          c->file[t->file].path, t->name, t->n_bytes, n_bytes, first);
    SHOAL_TRY(shoal__file_read(&c->file[t->file], t->offset + first, n_bytes, dst, c->log));
    c->bytes_read += n_bytes;
    return SHOAL_OK;
}

uint64_t shoal_checkpoint_bytes_read(const shoal_checkpoint *c)
{
    return c->bytes_read;
}
