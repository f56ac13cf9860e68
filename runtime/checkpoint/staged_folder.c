#include "runtime/checkpoint/staged_folder.h"

#include "runtime/base/checksum.h"
#include "runtime/checkpoint/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static shoal_status bad(const shoal__staged *s, const char *what, shoal_log *log)
{
    return shoal_fail(log, SHOAL_BAD_DATA,
                      "%s: its description is damaged: %s; run shoal stage again", s->folder, what);
}

/* A printable string of the description, or NULL. */
static const char *text_of(const shoal_json *object, const char *key)
{
    size_t n = 0;
    const char *text = shoal_json_string(shoal_json_get(object, key), &n);
    return text != NULL && n < 4096 && strlen(text) == n ? text : NULL;
}

static shoal_status read_weights(shoal__staged *s, const shoal_json *list, shoal_log *log)
{
    const size_t n = shoal_json_size(list);
    if (!shoal_json_is_array(list) || n > INT32_MAX)
        return bad(s, "weights is no list", log);
    s->weights = calloc(n + 1, sizeof *s->weights);
    if (s->weights == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for %zu files", s->folder, n);
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const shoal_json *entry = shoal_json_at(list, i);
        const char *name = text_of(entry, "file");
        const int64_t n_bytes = shoal_json_int(shoal_json_get(entry, "bytes"), -1);
        const int64_t n_header = shoal_json_int(shoal_json_get(entry, "header_bytes"), -1);
        const shoal_json *modified = shoal_json_get(entry, "modified_ns");
        if (name == NULL || !shoal__tensor_name_ok(name, strlen(name)) || n_header < 0 ||
            n_bytes < n_header || !shoal_json_is_integer(modified))
            return bad(s, "an entry of weights has no file, bytes, header_bytes or modified_ns",
                       log);
        s->weights[i] = (shoal__staged_weights){.name = name,
                                                .n_bytes = (uint64_t)n_bytes,
                                                .modified_ns = shoal_json_int(modified, 0),
                                                .header_at = at,
                                                .header_bytes = (uint64_t)n_header};
        if (__builtin_add_overflow(at, (uint64_t)n_header, &at) || at > INT64_MAX)
            return bad(s, "its headers are too large", log);
        s->n_weights++;
    }
    return SHOAL_OK;
}

/* staged.headers has the bytes that are announced. */
static shoal_status check_headers(const shoal__staged *s, shoal_log *log)
{
    const shoal__staged_weights *last = s->n_weights > 0 ? &s->weights[s->n_weights - 1] : NULL;
    const uint64_t wanted = last != NULL ? last->header_at + last->header_bytes : 0;
    const char *text = text_of(s->doc, "headers_checksum");
    char *end = NULL;
    const uint64_t checksum = text != NULL ? strtoull(text, &end, 16) : 0;
    if (text == NULL || end == text || *end != '\0')
        return bad(s, "headers_checksum is no number", log);
    shoal__file file;
    SHOAL_TRY(shoal__file_open(&file, s->folder, SHOAL__STAGED_HEADERS, log));
    enum { PIECE = 1 << 20 };
    unsigned char *piece = malloc(PIECE);
    shoal_status status = SHOAL_OK;
    if (piece == NULL)
        status = shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to read it", file.path);
    uint64_t found = 0;
    for (uint64_t at = 0; status == SHOAL_OK && at < file.n_bytes; at += PIECE) {
        const size_t n = file.n_bytes - at < PIECE ? (size_t)(file.n_bytes - at) : PIECE;
        status = shoal__file_read(&file, at, n, piece, log);
        found = status == SHOAL_OK ? shoal_checksum(found, piece, n) : 0;
    }
    if (status == SHOAL_OK && (file.n_bytes != wanted || found != checksum))
        status = shoal_fail(log, SHOAL_BAD_DATA,
                            "%s: has %" PRIu64 " bytes with checksum %016" PRIx64
                            ", wanted %" PRIu64 " with %016" PRIx64 "; run shoal stage again",
                            file.path, file.n_bytes, found, wanted, checksum);
    free(piece);
    shoal__file_close(&file);
    return status;
}

static shoal_status open_staged(shoal__staged *s, const char *name, shoal_log *log)
{
    char *path = shoal__path_join(s->folder, name);
    if (path == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to open it", s->folder);
    const shoal_status status = shoal_json_read_file(&s->doc, path, log);
    free(path);
    SHOAL_TRY(status);
    const int64_t format = shoal_json_int(shoal_json_get(s->doc, "staged"), -1);
    if (format != SHOAL__STAGED_FORMAT)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s/%s: is of format %" PRId64 ", wanted %d; run shoal stage again",
                          s->folder, name, format, SHOAL__STAGED_FORMAT);
    s->model = text_of(s->doc, "model");
    const char *kind = text_of(s->doc, "kind");
    if (s->model == NULL || kind == NULL)
        return bad(s, "it has no model or kind", log);
    s->is_gguf = strcmp(kind, "gguf") == 0;
    if (!s->is_gguf && strcmp(kind, "safetensors") != 0)
        return bad(s, "kind is neither safetensors nor gguf", log);
    SHOAL_TRY(read_weights(s, shoal_json_get(s->doc, "weights"), log));
    if (s->is_gguf && s->n_weights == 0)
        return bad(s, "it names no file of weights", log);
    return check_headers(s, log);
}

shoal_status shoal__staged_open(shoal__staged **staged, const char *folder, const char *name,
                                shoal_log *log)
{
    shoal__staged *s = calloc(1, sizeof *s);
    char *copy = strdup(folder);
    if (s == NULL || copy == NULL) {
        free(s);
        free(copy);
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to open it", folder);
    }
    s->folder = copy;
    const shoal_status status = open_staged(s, name, log);
    if (status != SHOAL_OK) {
        shoal__staged_close(s);
        return status;
    }
    *staged = s;
    return SHOAL_OK;
}

void shoal__staged_close(shoal__staged *staged)
{
    if (staged == NULL)
        return;
    shoal_json_close(staged->doc);
    free(staged->weights);
    free(staged->folder);
    free(staged);
}

static const shoal__staged_weights *find(const shoal__staged *staged, const char *name)
{
    for (int32_t i = 0; i < staged->n_weights; i++)
        if (strcmp(staged->weights[i].name, name) == 0)
            return &staged->weights[i];
    return NULL;
}

bool shoal__staged_has(const shoal__staged *staged, const char *name)
{
    return find(staged, name) != NULL;
}

shoal_status shoal__staged_file_open(shoal__file *file, const shoal__staged *staged,
                                     const char *name, shoal_log *log)
{
    const shoal__staged_weights *w = find(staged, name);
    if (w == NULL)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: %s is not among the files that were staged; run shoal stage again",
                          staged->folder, name);
    shoal__file f;
    SHOAL_TRY(shoal__file_open(&f, staged->folder, SHOAL__STAGED_HEADERS, log));
    char *path = shoal__path_join(staged->folder, name);
    if (path == NULL) {
        shoal__file_close(&f);
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to open it", name);
    }
    free(f.path);
    *file = (shoal__file){.fd = f.fd,
                          .n_bytes = w->n_bytes,
                          .modified_ns = w->modified_ns,
                          .is_staged = true,
                          .stored_at = w->header_at,
                          .n_stored = w->header_bytes,
                          .path = path,
                          .name = path + strlen(path) - strlen(name)};
    return SHOAL_OK;
}
