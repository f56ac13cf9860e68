#include "runtime/checkpoint/index.h"

#include "runtime/base/file.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/safetensors.h"

#include <stdlib.h>
#include <string.h>

/* Relative, without "..", "." or empty parts, printable: it stays inside the folder. */
static bool file_name_ok(const char *name, size_t n_bytes)
{
    if (!shoal__tensor_name_ok(name, n_bytes))
        return false;
    for (const char *part = name;; part++) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        part += n;
        if (*part == '\0')
            return true;
    }
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct file names of weight_map, sorted. */
static shoal_status collect_files(shoal__index *index, shoal_log *log)
{
    size_t n_entry = shoal_json_size(index->weight_map);
    const char **name = calloc(n_entry, sizeof *name);
    if (name == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for its %zu entries", index->path,
                          n_entry);
    index->file_name = name;

    size_t n_name = 0;
    const char *key = NULL;
    size_t n_key = 0;
    const shoal_json *value = NULL;
    void *it = NULL;
    while ((it = shoal_json_next(index->weight_map, it, &key, &n_key, &value)) != NULL) {
        if (!shoal__tensor_name_ok(key, n_key))
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "%s: the name of tensor %zu of weight_map has %zu bytes or holds "
                              "control characters, wanted 1 to %d bytes of text",
                              index->path, n_name, n_key, SHOAL_TENSOR_NAME_MAX_BYTES);
        size_t n_file_name = 0;
        const char *file_name = shoal_json_string(value, &n_file_name);
        if (file_name == NULL)
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "%s: weight_map does not say the file of tensor %s, wanted a string",
                              index->path, key);
        if (!file_name_ok(file_name, n_file_name))
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "%s: weight_map puts tensor %s into \"%.255s\", wanted the name of a "
                              "file inside the folder",
                              index->path, key, file_name);
        name[n_name++] = file_name;
    }
    qsort(name, n_name, sizeof *name, compare_text);
    size_t n_file = 0;
    for (size_t i = 0; i < n_name; i++)
        if (n_file == 0 || strcmp(name[n_file - 1], name[i]) != 0)
            name[n_file++] = name[i];
    if (n_file > INT32_MAX)
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: names %zu files", index->path, n_file);
    index->n_file = (int32_t)n_file;
    return SHOAL_OK;
}

static shoal_status open_index(shoal__index *index, const char *folder, shoal_log *log)
{
    index->path = shoal__path_join(folder, SHOAL_INDEX_NAME);
    if (index->path == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the path of %s", SHOAL_INDEX_NAME);
    char *text = NULL;
    size_t n_bytes = 0;
    SHOAL_TRY(shoal_file_read(&text, &n_bytes, index->path, SHOAL_JSON_MAX_BYTES, log));
    shoal_status status = shoal_json_parse(&index->doc, text, n_bytes, index->path, log);
    free(text);
    SHOAL_TRY(status);
    index->weight_map = shoal_json_get(index->doc, "weight_map");
    if (!shoal_json_is_object(index->weight_map) || shoal_json_size(index->weight_map) == 0)
        return shoal_fail(
            log, SHOAL_BAD_DATA,
            "%s: has no weight_map, wanted a non-empty object tensor name -> file name",
            index->path);
    return collect_files(index, log);
}

shoal_status shoal__index_open(shoal__index *index, const char *folder, shoal_log *log)
{
    shoal__index opened = {0};
    shoal_status status = open_index(&opened, folder, log);
    if (status != SHOAL_OK) {
        shoal__index_close(&opened);
        return status;
    }
    *index = opened;
    return SHOAL_OK;
}

void shoal__index_close(shoal__index *index)
{
    shoal_json_close(index->doc);
    free(index->path);
    free(index->file_name);
    *index = (shoal__index){0};
}

shoal_status shoal__index_check(const shoal__index *index, const shoal_checkpoint *checkpoint,
                                shoal_log *log)
{
    const char *key = NULL;
    size_t n_key = 0;
    const shoal_json *value = NULL;
    void *it = NULL;
    while ((it = shoal_json_next(index->weight_map, it, &key, &n_key, &value)) != NULL) {
        const char *wanted = shoal_json_string(value, NULL);
        const shoal_tensor_info *t = shoal_checkpoint_find(checkpoint, key);
        if (t == NULL)
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "%s: weight_map puts tensor %s into %s, but no shard has it",
                              index->path, key, wanted);
        const char *found = shoal_checkpoint_file_name(checkpoint, t);
        if (strcmp(found, wanted) != 0)
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "%s: weight_map puts tensor %s into %s, but it lies in %s",
                              index->path, key, wanted, found);
    }
    for (int64_t i = 0; i < shoal_checkpoint_n_tensor(checkpoint); i++) {
        const shoal_tensor_info *t = shoal_checkpoint_tensor(checkpoint, i);
        if (shoal_json_get(index->weight_map, t->name) == NULL)
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "%s: weight_map does not know tensor %s, which lies in %s",
                              index->path, t->name, shoal_checkpoint_file_name(checkpoint, t));
    }
    return SHOAL_OK;
}
