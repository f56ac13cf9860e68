#include "runtime/checkpoint/checkpoint_private.h"
#include "runtime/checkpoint/gguf_config.h"
#include "runtime/checkpoint/gguf_tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SPLIT 99999

/* "NAME-00001-of-00003.gguf": the length of NAME; -1 if the name is not of this kind, or of another
 * number or count. */
static int split_stem(const char *name, int64_t number, int64_t count)
{
    char tail[64];
    snprintf(tail, sizeof tail, "-%05" PRId64 "-of-%05" PRId64 ".gguf", number, count);
    size_t n_name = strlen(name), n_tail = strlen(tail);
    if (n_name < n_tail || strcmp(name + n_name - n_tail, tail) != 0)
        return -1;
    return (int)(n_name - n_tail);
}

static shoal_status bad_split(const shoal_checkpoint *c, const char *path, const char *key,
                              int64_t found, int64_t wanted)
{
    return shoal_fail(c->log, SHOAL_BAD_DATA,
                      "%s: %s is %" PRId64 ", wanted %" PRId64 "; are the files of one split?",
                      path, key, found, wanted);
}

static shoal_status open_file(shoal_checkpoint *c, const char *folder, const char *name)
{
    SHOAL_TRY(shoal__checkpoint_file_open(&c->file[c->n_file], c, folder, name));
    c->n_file++;
    return shoal__gguf_read(&c->gguf[c->n_file - 1], &c->identity, &c->file[c->n_file - 1], c->log);
}

static shoal_status grow_files(shoal_checkpoint *c, int64_t n)
{
    shoal__file *file = realloc(c->file, (size_t)n * sizeof *file);
    if (file != NULL)
        c->file = file;
    shoal__gguf *gguf = realloc(c->gguf, (size_t)n * sizeof *gguf);
    if (gguf != NULL)
        c->gguf = gguf;
    if (file == NULL || gguf == NULL)
        return shoal_fail(c->log, SHOAL_NO_MEMORY, "model %s: no memory for %" PRId64 " files",
                          c->path, n);
    memset(c->gguf + c->n_file, 0, (size_t)(n - c->n_file) * sizeof *gguf);
    return SHOAL_OK;
}

/* The other files of a split whose first is open. */
static shoal_status open_rest(shoal_checkpoint *c, const char *folder, const char *name)
{
    int64_t count = 1;
    if (!shoal__gguf_int_at(&count, shoal__gguf_find(&c->gguf[0], "split.count"), 0) || count == 1)
        return SHOAL_OK;
    if (count < 1 || count > MAX_SPLIT)
        return bad_split(c, c->path, "split.count", count, 1);
    int64_t number = 0;
    (void)shoal__gguf_int_at(&number, shoal__gguf_find(&c->gguf[0], "split.no"), 0);
    int stem = split_stem(name, 1, count);
    if (number != 0 || stem < 0)
        return shoal_fail(c->log, SHOAL_BAD_DATA,
                          "%s: is file %" PRId64 " of a split of %" PRId64
                          ", wanted the first, of the name ...-00001-of-%05" PRId64 ".gguf",
                          c->path, number + 1, count, count);
    SHOAL_TRY(grow_files(c, count));
    for (int64_t i = 1; i < count; i++) {
        char other[512];
        int n = snprintf(other, sizeof other, "%.*s-%05" PRId64 "-of-%05" PRId64 ".gguf", stem,
                         name, i + 1, count);
        if (n >= (int)sizeof other)
            return shoal_fail(c->log, SHOAL_BAD_DATA, "%s: the name is too long", c->path);
        SHOAL_TRY(open_file(c, folder, other));
        const shoal__gguf *g = &c->gguf[i];
        int64_t found = -1;
        (void)shoal__gguf_int_at(&found, shoal__gguf_find(g, "split.no"), 0);
        if (found != i)
            return bad_split(c, c->file[i].path, "split.no", found, i);
        (void)shoal__gguf_int_at(&found, shoal__gguf_find(g, "split.count"), 0);
        if (found != count)
            return bad_split(c, c->file[i].path, "split.count", found, count);
    }
    return SHOAL_OK;
}

static int compare_name(const void *a, const void *b)
{
    return strcmp(((const shoal_tensor_info *)a)->name, ((const shoal_tensor_info *)b)->name);
}

/* All files' tensors, sorted by their names in the files. */
static shoal_status gather(shoal_tensor_info **stored, int64_t *n_stored, const shoal_checkpoint *c)
{
    int64_t n = 0;
    for (int32_t i = 0; i < c->n_file; i++)
        n += c->gguf[i].n_tensor;
    int64_t wanted = n;
    (void)shoal__gguf_int_at(&wanted, shoal__gguf_find(&c->gguf[0], "split.tensors.count"), 0);
    if (wanted != n)
        return bad_split(c, c->path, "split.tensors.count", wanted, n);
    shoal_tensor_info *all = calloc((size_t)n + 1, sizeof *all);
    if (all == NULL)
        return shoal_fail(c->log, SHOAL_NO_MEMORY, "model %s: no memory for %" PRId64 " tensors",
                          c->path, n);
    shoal_tensor_info *to = all;
    for (int32_t i = 0; i < c->n_file; i++)
        for (int64_t k = 0; k < c->gguf[i].n_tensor; k++) {
            *to = c->gguf[i].tensor[k];
            to->file = i;
            to++;
        }
    qsort(all, (size_t)n, sizeof *all, compare_name);
    for (int64_t i = 1; i < n; i++)
        if (strcmp(all[i - 1].name, all[i].name) == 0) {
            shoal_status status = shoal_fail(
                c->log, SHOAL_BAD_DATA, "model %s: duplicate tensor %s: it lies in %s and in %s",
                c->path, all[i].name, c->file[all[i - 1].file].name, c->file[all[i].file].name);
            free(all);
            return status;
        }
    *stored = all;
    *n_stored = n;
    return SHOAL_OK;
}

static shoal_status open_staged(shoal_checkpoint *c)
{
    SHOAL_TRY(grow_files(c, 1));
    const char *name = c->staged->weights[0].name;
    SHOAL_TRY(open_file(c, c->path, name));
    return open_rest(c, c->path, name);
}

static shoal_status open_files(shoal_checkpoint *c)
{
    if (c->staged != NULL)
        return open_staged(c);
    const char *slash = strrchr(c->path, '/');
    const char *name = slash != NULL ? slash + 1 : c->path;
    char *folder = slash == NULL ? strdup(".") : strndup(c->path, (size_t)(slash - c->path) + 1);
    if (folder == NULL)
        return shoal_fail(c->log, SHOAL_NO_MEMORY, "model %s: no memory for its path", c->path);
    shoal_status status = grow_files(c, 1);
    if (status == SHOAL_OK)
        status = open_file(c, folder, name);
    if (status == SHOAL_OK)
        status = open_rest(c, folder, name);
    free(folder);
    return status;
}

shoal_status shoal__checkpoint_open_gguf(shoal_checkpoint *c)
{
    SHOAL_TRY(open_files(c));
    shoal_tensor_info *stored = NULL;
    int64_t n_stored = 0;
    SHOAL_TRY(gather(&stored, &n_stored, c));
    shoal_status status =
        shoal__gguf_names_open(&c->names, stored, n_stored, &c->gguf[0], c->path, c->log);
    free(stored);
    SHOAL_TRY(status);
    c->tensor = c->names.tensor;
    c->n_tensor = c->names.n_tensor;
    SHOAL_TRY(shoal__checkpoint_sort(c));
    return shoal__gguf_config(&c->config, &c->generation_config, &c->gguf[0], c, c->path, c->log);
}

shoal_status shoal_checkpoint_tokenizer(const shoal_checkpoint *c, shoal_json **tokenizer,
                                        shoal_json **config)
{
    if (c->gguf != NULL)
        return shoal__gguf_tokenizer(tokenizer, config, &c->gguf[0], c->path, c->log);
    *tokenizer = NULL;
    *config = NULL;
    return SHOAL_OK;
}
