#include "runtime/checkpoint/staged.h"

#include "runtime/base/checksum.h"
#include "runtime/base/file.h"
#include "runtime/checkpoint/checkpoint_private.h"
#include "runtime/checkpoint/index.h"
#include "runtime/checkpoint/pack_write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What Shoal reads of a checkpoint folder besides its files of weights. */
static const char *const copied[] = {
    "config.json",           "generation_config.json", "tokenizer.json",
    "tokenizer_config.json", "chat_template.jinja",    SHOAL_INDEX_NAME,
};

enum { N_COPIED = sizeof copied / sizeof copied[0] };

void shoal_staged_files_close(shoal_staged_files *files)
{
    for (int32_t i = 0; i < files->n_file; i++)
        free(files->file[i].data);
    free(files->file);
    *files = (shoal_staged_files){0};
}

static shoal_staged_file *next_file(shoal_staged_files *files, const char *name)
{
    shoal_staged_file *file = &files->file[files->n_file++];
    snprintf(file->name, sizeof file->name, "%s", name);
    return file;
}

static shoal_status copy_file(shoal_staged_files *files, const shoal_checkpoint *c,
                              const char *name, shoal_log *log)
{
    if (!shoal__file_exists(c->path, name))
        return SHOAL_OK;
    char *path = shoal__path_join(c->path, name);
    if (path == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to read it", name);
    shoal_staged_file *file = next_file(files, name);
    char *text = NULL;
    const shoal_status status =
        shoal_file_read(&text, &file->n_bytes, path, SHOAL_JSON_MAX_BYTES, log);
    file->data = status == SHOAL_OK ? (unsigned char *)text : NULL;
    free(path);
    return status;
}

static size_t header_bytes(const shoal_checkpoint *c, int32_t file)
{
    return c->gguf != NULL ? c->gguf[file].n_header : c->header[file].n_header;
}

static shoal_status read_headers(shoal_staged_file *headers, const shoal_checkpoint *c,
                                 shoal_log *log)
{
    size_t n_bytes = 0;
    for (int32_t i = 0; i < c->n_file; i++)
        n_bytes += header_bytes(c, i);
    unsigned char *to = headers->data = malloc(n_bytes + 1);
    if (to == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "model %s: no memory for %zu bytes of headers",
                          c->path, n_bytes);
    headers->n_bytes = n_bytes;
    for (int32_t i = 0; i < c->n_file; to += header_bytes(c, i), i++)
        SHOAL_TRY(shoal__file_read(&c->file[i], 0, header_bytes(c, i), to, log));
    return SHOAL_OK;
}

static void set_text(shoal_json *object, const char *key, const char *text)
{
    shoal_json_set(object, key, shoal_json_new_string(text, strlen(text)));
}

static void set_checksum(shoal_json *object, const char *key, const shoal_staged_file *file)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, shoal_checksum(0, file->data, file->n_bytes));
    set_text(object, key, text);
}

static shoal_json *weights_json(const shoal_checkpoint *c)
{
    shoal_json *list = shoal_json_new_array();
    for (int32_t i = 0; i < c->n_file; i++) {
        shoal_json *entry = shoal_json_new_object();
        set_text(entry, "file", c->file[i].name);
        shoal_json_set(entry, "bytes", shoal_json_new_int((int64_t)c->file[i].n_bytes));
        shoal_json_set(entry, "header_bytes", shoal_json_new_int((int64_t)header_bytes(c, i)));
        shoal_json_set(entry, "modified_ns", shoal_json_new_int(c->file[i].modified_ns));
        shoal_json_append(list, entry);
    }
    return list;
}

/* Of all files so far, the last of which are the headers. */
static shoal_status make_description(shoal_staged_files *files, const shoal_checkpoint *c,
                                     shoal_log *log)
{
    char *model = realpath(shoal_checkpoint_origin(c), NULL);
    shoal_json *doc = shoal_json_new_object();
    shoal_json_set(doc, "staged", shoal_json_new_int(SHOAL__STAGED_FORMAT));
    set_text(doc, "model", model != NULL ? model : shoal_checkpoint_origin(c));
    set_text(doc, "given", c->path);
    set_text(doc, "kind", c->gguf != NULL ? "gguf" : "safetensors");
    set_checksum(doc, "headers_checksum", &files->file[files->n_file - 1]);
    shoal_json_set(doc, "weights", weights_json(c));
    shoal_json *copies = shoal_json_new_object();
    for (int32_t i = 0; i < files->n_file - 1; i++)
        set_checksum(copies, files->file[i].name, &files->file[i]);
    shoal_json_set(doc, "files", copies);
    free(model);
    shoal_staged_file *file = next_file(files, SHOAL__STAGED_OPEN_NAME);
    file->data = (unsigned char *)shoal_json_dump(doc);
    shoal_json_close(doc);
    if (file->data == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "model %s: no memory to describe it", c->path);
    file->n_bytes = strlen((const char *)file->data);
    return SHOAL_OK;
}

static shoal_status describe(shoal_staged_files *files, const shoal_checkpoint *c, shoal_log *log)
{
    files->file = calloc(N_COPIED + 2, sizeof *files->file);
    if (files->file == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "model %s: no memory to describe it", c->path);
    for (int32_t i = 0; i < N_COPIED && c->gguf == NULL; i++)
        SHOAL_TRY(copy_file(files, c, copied[i], log));
    SHOAL_TRY(read_headers(next_file(files, SHOAL__STAGED_HEADERS), c, log));
    return make_description(files, c, log);
}

shoal_status shoal_staged_describe(shoal_staged_files *files, const shoal_checkpoint *checkpoint,
                                   shoal_log *log)
{
    shoal_staged_files made = {0};
    const shoal_status status = describe(&made, checkpoint, log);
    if (status != SHOAL_OK) {
        shoal_staged_files_close(&made);
        return status;
    }
    *files = made;
    return SHOAL_OK;
}

/* The description that dir has, finished or not; *doc is NULL if there is none that can be read. */
static void read_old(shoal_json **doc, const char *dir)
{
    static const char *const names[] = {SHOAL_STAGED_NAME, SHOAL__STAGED_OPEN_NAME};
    shoal_log quiet;
    shoal_log_init(&quiet, NULL, 0, "");
    *doc = NULL;
    for (size_t i = 0; *doc == NULL && i < 2; i++) {
        char *path = shoal__path_join(dir, names[i]);
        if (path == NULL || !shoal__file_exists(dir, names[i]) ||
            shoal_json_read_file(doc, path, &quiet) != SHOAL_OK)
            *doc = NULL;
        free(path);
    }
}

static const char *text_or_empty(const shoal_json *doc, const char *key)
{
    const char *text = shoal_json_string(shoal_json_get(doc, key), NULL);
    return text != NULL ? text : "";
}

/* dir holds nothing that is not ours, and nothing of another model. */
static shoal_status check_dir(const char *dir, const shoal_json *old, const shoal_staged_file *mine,
                              shoal_log *log)
{
    static const char *const foreign[] = {"config.json", "model.safetensors", SHOAL_INDEX_NAME};
    const bool staged = shoal__file_exists(dir, SHOAL_STAGED_NAME) ||
                        shoal__file_exists(dir, SHOAL__STAGED_OPEN_NAME);
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0] && !staged; i++)
        if (shoal__file_exists(dir, foreign[i]))
            return shoal_fail(log, SHOAL_USAGE,
                              "--to %s: has a %s that stage has not put there; give a folder of "
                              "its own",
                              dir, foreign[i]);
    shoal_json *doc = NULL;
    if (old == NULL || shoal_json_parse(&doc, (const char *)mine->data, mine->n_bytes, mine->name,
                                        log) != SHOAL_OK)
        return SHOAL_OK;
    const bool same =
        strcmp(text_or_empty(old, "model"), text_or_empty(doc, "model")) == 0 ||
        strcmp(text_or_empty(old, "headers_checksum"), text_or_empty(doc, "headers_checksum")) == 0;
    shoal_json_close(doc);
    if (same)
        return SHOAL_OK;
    return shoal_fail(log, SHOAL_USAGE,
                      "--to %s: %s is staged there already, and a folder has room for one model; "
                      "give another, or remove it",
                      dir, text_or_empty(old, "model"));
}

/* True if dir has these very bytes under that name. */
static bool has(const char *dir, const char *name, const shoal_staged_file *file)
{
    char *path = shoal__path_join(dir, name);
    shoal_log quiet;
    shoal_log_init(&quiet, NULL, 0, "");
    char *text = NULL;
    size_t n_bytes = 0;
    const bool same = path != NULL && shoal__file_exists(dir, name) &&
                      shoal_file_read(&text, &n_bytes, path, file->n_bytes, &quiet) == SHOAL_OK &&
                      n_bytes == file->n_bytes && memcmp(text, file->data, n_bytes) == 0;
    free(text);
    free(path);
    return same;
}

shoal_status shoal_staged_write(const char *dir, const shoal_staged_files *files, shoal_log *log)
{
    const shoal_staged_file *description = &files->file[files->n_file - 1];
    shoal_json *old;
    read_old(&old, dir);
    const shoal_status status = check_dir(dir, old, description, log);
    shoal_json_close(old);
    SHOAL_TRY(status);
    bool whole = has(dir, SHOAL_STAGED_NAME, description);
    for (int32_t i = 0; i < files->n_file - 1; i++)
        whole = whole && has(dir, files->file[i].name, &files->file[i]);
    if (whole)
        return SHOAL_OK;
    const shoal__pack_writer writer = {.folder = dir, .log = log};
    /* From here on what is there counts as begun. */
    SHOAL_TRY(shoal_staged_withdraw(dir, log));
    if (!shoal__file_exists(dir, description->name))
        SHOAL_TRY(shoal__pack_write_whole(&writer, description->name, description->data,
                                          description->n_bytes));
    for (int32_t i = 0; i < files->n_file; i++)
        if (!has(dir, files->file[i].name, &files->file[i]))
            SHOAL_TRY(shoal__pack_write_whole(&writer, files->file[i].name, files->file[i].data,
                                              files->file[i].n_bytes));
    return SHOAL_OK;
}

/* One of the two names of the description becomes the other. */
static shoal_status rename_description(const char *dir, const char *from, const char *to,
                                       shoal_log *log)
{
    if (!shoal__file_exists(dir, from))
        return SHOAL_OK; /* it was done before */
    char *path_from = shoal__path_join(dir, from);
    char *path_to = shoal__path_join(dir, to);
    const shoal__pack_writer writer = {.folder = dir, .log = log};
    shoal_status status = SHOAL_OK;
    if (path_from == NULL || path_to == NULL)
        status = shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to rename %s", dir, from);
    else if (rename(path_from, path_to) != 0 && errno != ENOENT) /* another rank has done it */
        status = shoal__pack_failed(&writer, path_from, "renamed");
    else
        status = shoal__pack_sync_folder(&writer);
    free(path_from);
    free(path_to);
    return status;
}

shoal_status shoal_staged_finish(const char *dir, shoal_log *log)
{
    return rename_description(dir, SHOAL__STAGED_OPEN_NAME, SHOAL_STAGED_NAME, log);
}

shoal_status shoal_staged_withdraw(const char *dir, shoal_log *log)
{
    return rename_description(dir, SHOAL_STAGED_NAME, SHOAL__STAGED_OPEN_NAME, log);
}

/* The same path, but for slashes at the end. */
static bool is_path(const char *path, const char *other)
{
    size_t n = strlen(path), n_other = strlen(other);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n_other > 1 && other[n_other - 1] == '/')
        n_other--;
    return n > 0 && n == n_other && memcmp(path, other, n) == 0;
}

bool shoal_staged_is_of(const char *dir, const char *model)
{
    if (!shoal__file_exists(dir, SHOAL_STAGED_NAME))
        return false;
    shoal_json *doc;
    read_old(&doc, dir);
    const bool is =
        is_path(text_or_empty(doc, "model"), model) || is_path(text_or_empty(doc, "given"), model);
    shoal_json_close(doc);
    return is;
}
