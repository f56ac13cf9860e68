#include "runtime/proto/routes.h"

#include "runtime/base/clock.h"
#include "shoal.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROUTES_MAGIC       0x31525453u
#define LENGTH_BYTES       4 /* of a record's length, so records are below 2^28 bytes */
#define RECORD_BYTES_MAX   (256 + SHOAL_ROUTES_CHOICES_MAX * 5)
#define FLUSH_INTERVAL_US  1000000
#define CHOICES_PER_RECORD 16384 /* which a row may exceed */

static size_t choices_of_row(const shoal_routes_header *header)
{
    return (size_t)header->n_layer * (size_t)header->top_k;
}

/* Says what is wrong with a header, or NULL. */
static const char *check_header(const shoal_routes_header *h)
{
    if (h->n_expert < 1 || h->n_expert > SHOAL_ROUTES_EXPERT_MAX || h->top_k < 1 ||
        h->top_k > h->n_expert)
        return "its experts";
    if (h->n_layer < 1 || (int64_t)h->n_layer * h->top_k > SHOAL_ROUTES_CHOICES_MAX)
        return "its layers";
    if (h->n_group < 1 || h->n_expert % h->n_group != 0 || h->top_group < 1 ||
        h->top_group > h->n_group)
        return "its groups";
    if (h->n_rank < 1)
        return "its ranks";
    for (int32_t i = 0; i < h->n_layer; i++)
        if (h->layer[i] < (i > 0 ? h->layer[i - 1] + 1 : 0) || h->layer[i] == INT32_MAX)
            return "the numbers of its layers";
    return NULL;
}

/* ---- writing ---- */

static shoal_status fail_write(shoal_routes_writer *w)
{
    const int error = errno;
    if (w->file != NULL)
        fclose(w->file);
    w->file = NULL;
    return shoal_fail(w->log, SHOAL_IO,
                      "%s: writing the routing trace failed: %s; it ends there, the run goes on",
                      w->path, strerror(error));
}

static shoal_status put(shoal_routes_writer *w, const Shoal__RoutesRecord *record)
{
    const size_t n_bytes = shoal__routes_record__pack(record, w->packed + LENGTH_BYTES);
    uint8_t *at = w->packed + LENGTH_BYTES;
    size_t n_length = 1;
    while (n_bytes >> (7 * n_length) != 0)
        n_length++;
    at -= n_length;
    for (size_t i = 0; i < n_length; i++)
        at[i] = (uint8_t)((n_bytes >> (7 * i) & 127) | (i + 1 < n_length ? 128 : 0));
    return fwrite(at, 1, n_length + n_bytes, w->file) == n_length + n_bytes ? SHOAL_OK
                                                                            : fail_write(w);
}

static shoal_status put_header(shoal_routes_writer *w)
{
    shoal_routes_header *h = &w->header;
    Shoal__RoutesHeader header = SHOAL__ROUTES_HEADER__INIT;
    header.magic = ROUTES_MAGIC;
    header.version = SHOAL_ROUTES_VERSION;
    header.n_layer = h->n_layer;
    header.n_expert = h->n_expert;
    header.top_k = h->top_k;
    header.n_group = h->n_group;
    header.top_group = h->top_group;
    header.n_rank = h->n_rank;
    header.model = h->model;
    header.identity = h->identity;
    header.n_moe_layer = (size_t)h->n_layer;
    header.moe_layer = h->layer;
    Shoal__RoutesRecord record = SHOAL__ROUTES_RECORD__INIT;
    record.header = &header;
    return put(w, &record);
}

shoal_status shoal_routes_writer_open(shoal_routes_writer *writer, const char *path,
                                      const shoal_routes_header *header, shoal_log *log)
{
    const char *wrong = check_header(header);
    if (wrong != NULL)
        return shoal_fail(log, SHOAL_USAGE, "%s: a routing trace cannot describe this model: %s",
                          path, wrong);
    shoal_routes_writer w = {.path = path, .log = log, .header = *header};
    const size_t per_row = choices_of_row(header);
    w.n_row_record = (int32_t)(per_row < CHOICES_PER_RECORD ? CHOICES_PER_RECORD / per_row : 1);
    w.expert = malloc((size_t)w.n_row_record * per_row * sizeof *w.expert);
    w.packed = malloc(LENGTH_BYTES + RECORD_BYTES_MAX + (size_t)header->n_layer * 5);
    w.file = fopen(path, "wbe");
    w.flushed_us = shoal_clock_us();
    shoal_status status = SHOAL_OK;
    if (w.expert == NULL || w.packed == NULL)
        status = shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to write it", path);
    else if (w.file == NULL)
        status = shoal_fail(log, SHOAL_IO, "%s: creating it failed: %s", path, strerror(errno));
    else
        status = put_header(&w);
    if (status != SHOAL_OK) {
        (void)shoal_routes_writer_close(&w, false);
        return status;
    }
    w.header.layer = NULL; /* the caller's */
    *writer = w;
    return SHOAL_OK;
}

shoal_status shoal_routes_write(shoal_routes_writer *writer, const shoal_routes_rows *rows)
{
    shoal_routes_writer *w = writer;
    const size_t per_row = choices_of_row(&w->header);
    for (int32_t row = 0; row < rows->n_row && w->file != NULL; row += w->n_row_record) {
        const int32_t n_left = rows->n_row - row;
        const int32_t n_row = n_left < w->n_row_record ? n_left : w->n_row_record;
        const uint16_t *from = rows->expert + (size_t)row * per_row;
        Shoal__RoutesRows message = SHOAL__ROUTES_ROWS__INIT;
        message.step = rows->step;
        message.sequence = rows->sequence;
        message.owner = rows->owner;
        message.position0 = rows->position0 + row;
        message.n_row = n_row;
        message.decode = rows->decode;
        message.last = rows->last && n_row == n_left;
        message.n_expert = (size_t)n_row * per_row;
        message.expert = w->expert;
        for (size_t i = 0; i < message.n_expert; i++)
            w->expert[i] = from[i];
        Shoal__RoutesRecord record = SHOAL__ROUTES_RECORD__INIT;
        record.rows = &message;
        SHOAL_TRY(put(w, &record));
        w->n_record++;
        w->n_row += n_row;
    }
    const int64_t now_us = shoal_clock_us();
    if (w->file == NULL || now_us - w->flushed_us < FLUSH_INTERVAL_US)
        return SHOAL_OK;
    w->flushed_us = now_us;
    return fflush(w->file) == 0 ? SHOAL_OK : fail_write(w);
}

shoal_status shoal_routes_writer_close(shoal_routes_writer *writer, bool ended)
{
    shoal_routes_writer *w = writer;
    shoal_status status = SHOAL_OK;
    if (w->file != NULL && ended) {
        Shoal__RoutesEnd end = SHOAL__ROUTES_END__INIT;
        end.n_record = w->n_record;
        end.n_row = w->n_row;
        Shoal__RoutesRecord record = SHOAL__ROUTES_RECORD__INIT;
        record.end = &end;
        status = put(w, &record);
    }
    FILE *file = w->file;
    w->file = NULL;
    if (file != NULL && fclose(file) != 0)
        status = fail_write(w);
    free(w->expert);
    free(w->packed);
    w->expert = NULL;
    w->packed = NULL;
    return status;
}

/* ---- reading ---- */

static shoal_status bad(const shoal_routes_reader *r, const char *what)
{
    return shoal_fail(r->log, SHOAL_BAD_DATA,
                      "%s: record %lld of this routing trace: %s; it is damaged", r->path,
                      (long long)r->n_record, what);
}

/* The next record into r->packed. *n_bytes 0: the file ends here, or within the record (torn). */
static shoal_status read_record(size_t *n_bytes, shoal_routes_reader *r)
{
    size_t n = 0;
    int byte = 0;
    *n_bytes = 0;
    for (int i = 0; i < LENGTH_BYTES; i++) {
        byte = getc(r->file);
        if (byte == EOF) {
            r->torn = i > 0;
            return ferror(r->file)
                       ? shoal_fail(r->log, SHOAL_IO, "%s: %s", r->path, strerror(errno))
                       : SHOAL_OK;
        }
        n |= (size_t)(byte & 127) << (7 * i);
        if (byte < 128)
            break;
    }
    if (byte >= 128 || n == 0 || n > RECORD_BYTES_MAX)
        return bad(r, "its length is none that a record has");
    const size_t n_read = fread(r->packed, 1, n, r->file);
    if (n_read < n && ferror(r->file))
        return shoal_fail(r->log, SHOAL_IO, "%s: %s", r->path, strerror(errno));
    r->torn = n_read < n;
    *n_bytes = r->torn ? 0 : n;
    return SHOAL_OK;
}

static shoal_status not_a_trace(const shoal_routes_reader *r)
{
    return shoal_fail(r->log, SHOAL_BAD_DATA,
                      "%s is no routing trace; --routes F of a run writes one", r->path);
}

static shoal_status take_header(shoal_routes_reader *r, const Shoal__RoutesHeader *h)
{
    if (h == NULL || h->magic != ROUTES_MAGIC)
        return not_a_trace(r);
    if (h->version != SHOAL_ROUTES_VERSION)
        return shoal_fail(r->log, SHOAL_BAD_DATA,
                          "%s: a routing trace of format %u, this build reads format %d", r->path,
                          (unsigned)h->version, SHOAL_ROUTES_VERSION);
    if (h->n_layer < 1 || h->n_moe_layer != (size_t)h->n_layer)
        return bad(r, "the numbers of its layers");
    shoal_routes_header *header = &r->header;
    *header = (shoal_routes_header){.identity = h->identity,
                                    .n_layer = h->n_layer,
                                    .n_expert = h->n_expert,
                                    .top_k = h->top_k,
                                    .n_group = h->n_group,
                                    .top_group = h->top_group,
                                    .n_rank = h->n_rank,
                                    .layer = h->moe_layer};
    snprintf(header->model, sizeof header->model, "%s", h->model);
    const char *wrong = check_header(header);
    header->layer = NULL;
    if (wrong != NULL)
        return bad(r, wrong);
    header->layer = malloc(h->n_moe_layer * sizeof *header->layer);
    if (header->layer == NULL)
        return shoal_fail(r->log, SHOAL_NO_MEMORY, "%s: no memory to read it", r->path);
    memcpy(header->layer, h->moe_layer, h->n_moe_layer * sizeof *header->layer);
    return SHOAL_OK;
}

static shoal_status read_header(shoal_routes_reader *r)
{
    size_t n_bytes;
    const bool capture = r->log != NULL && r->log->capture;
    if (r->log != NULL)
        r->log->capture = true; /* a length that is none: no trace at all */
    shoal_status status = read_record(&n_bytes, r);
    if (r->log != NULL)
        r->log->capture = capture;
    if (status == SHOAL_IO) /* a folder, say */
        return shoal_fail(r->log, SHOAL_NO_INPUT, "%s: reading it failed: %s", r->path,
                          strerror(errno));
    if (status != SHOAL_OK || n_bytes == 0)
        return not_a_trace(r);
    Shoal__RoutesRecord *record = shoal__routes_record__unpack(NULL, n_bytes, r->packed);
    if (record == NULL)
        return not_a_trace(r);
    status = take_header(r, record->header);
    shoal__routes_record__free_unpacked(record, NULL);
    return status;
}

shoal_status shoal_routes_reader_open(shoal_routes_reader *reader, const char *path, shoal_log *log)
{
    shoal_routes_reader r = {.path = path, .log = log};
    r.file = fopen(path, "rbe");
    if (r.file == NULL)
        return shoal_fail(log, SHOAL_NO_INPUT, "%s: opening it failed: %s", path, strerror(errno));
    r.packed = malloc(RECORD_BYTES_MAX);
    r.expert_max = SHOAL_ROUTES_CHOICES_MAX;
    r.expert = malloc(r.expert_max * sizeof *r.expert);
    shoal_status status = SHOAL_OK;
    if (r.packed == NULL || r.expert == NULL)
        status = shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to read it", path);
    if (status == SHOAL_OK)
        status = read_header(&r);
    if (status != SHOAL_OK) {
        shoal_routes_reader_close(&r);
        return status;
    }
    *reader = r;
    return SHOAL_OK;
}

/* Experts of one row and layer are in range and different. */
static bool choice_is_good(const uint32_t *expert, const shoal_routes_header *h)
{
    for (int32_t j = 0; j < h->top_k; j++) {
        if (expert[j] >= (uint32_t)h->n_expert)
            return false;
        for (int32_t i = 0; i < j; i++)
            if (expert[i] == expert[j])
                return false;
    }
    return true;
}

static shoal_status take_rows(shoal_routes_rows *rows, shoal_routes_reader *r,
                              const Shoal__RoutesRows *m)
{
    const shoal_routes_header *h = &r->header;
    const size_t per_row = choices_of_row(h);
    if (m->step < 0 || m->sequence < 0)
        return bad(r, "a step or a sequence below 0");
    if (m->owner < 0 || m->owner >= h->n_rank)
        return bad(r, "its owner is no rank of the run");
    if (m->position0 < 0 || m->n_row < 1 || (int64_t)m->position0 + m->n_row > INT32_MAX)
        return bad(r, "its positions");
    if (m->n_expert > r->expert_max || m->n_expert != (size_t)m->n_row * per_row)
        return bad(r, "its choices are not as many as its rows have");
    for (size_t i = 0; i < m->n_expert; i += (size_t)h->top_k)
        if (!choice_is_good(m->expert + i, h))
            return bad(r, "an expert that there is not, or one chosen twice");
    for (size_t i = 0; i < m->n_expert; i++)
        r->expert[i] = (uint16_t)m->expert[i];
    *rows = (shoal_routes_rows){.step = m->step,
                                .sequence = m->sequence,
                                .owner = m->owner,
                                .position0 = m->position0,
                                .n_row = m->n_row,
                                .decode = m->decode != 0,
                                .last = m->last != 0,
                                .expert = r->expert};
    r->n_record++;
    r->n_row += m->n_row;
    return SHOAL_OK;
}

static shoal_status take_end(shoal_routes_reader *r, const Shoal__RoutesEnd *end)
{
    if (end->n_record != r->n_record || end->n_row != r->n_row)
        return bad(r, "its end counts other records than there are");
    if (getc(r->file) != EOF)
        return bad(r, "something follows its end");
    r->ended = true;
    return SHOAL_OK;
}

shoal_status shoal_routes_next(shoal_routes_rows *rows, bool *more, shoal_routes_reader *reader)
{
    shoal_routes_reader *r = reader;
    size_t n_bytes = 0;
    *more = false;
    if (!r->ended)
        SHOAL_TRY(read_record(&n_bytes, r));
    if (n_bytes == 0)
        return SHOAL_OK;
    Shoal__RoutesRecord *record = shoal__routes_record__unpack(NULL, n_bytes, r->packed);
    if (record == NULL)
        return bad(r, "it does not parse");
    const int n_kind = (record->header != NULL) + (record->rows != NULL) + (record->end != NULL);
    shoal_status status = SHOAL_OK;
    if (n_kind != 1 || record->header != NULL)
        status = bad(r, "it is neither rows nor the end");
    else if (record->rows != NULL)
        status = take_rows(rows, r, record->rows);
    else
        status = take_end(r, record->end);
    *more = status == SHOAL_OK && record->rows != NULL;
    shoal__routes_record__free_unpacked(record, NULL);
    return status;
}

void shoal_routes_reader_close(shoal_routes_reader *reader)
{
    if (reader->file != NULL)
        fclose(reader->file);
    free(reader->header.layer);
    free(reader->packed);
    free(reader->expert);
    *reader = (shoal_routes_reader){0};
}
