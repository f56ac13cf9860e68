#include "launcher/stage/stage.h"

#include <stdlib.h>
#include <string.h>

/* A file of the description on its way. */
typedef struct file_header {
    char name[sizeof(((shoal_staged_file *)0)->name)];
    uint64_t n_bytes;
} file_header;

static shoal_status receive_file(shoal_staged_file *file, shoal__stage *s)
{
    file_header header = {.n_bytes = file->n_bytes};
    memcpy(header.name, file->name, sizeof header.name);
    SHOAL_TRY(shoal_comm_bcast(s->comm, &header, sizeof header, 0));
    shoal_status status = SHOAL_OK;
    if (s->rank != 0) {
        memcpy(file->name, header.name, sizeof file->name);
        file->name[sizeof file->name - 1] = '\0';
        file->n_bytes = (size_t)header.n_bytes;
        file->data = malloc(file->n_bytes + 1);
        if (file->data == NULL)
            status = shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %s of the model: %zu bytes",
                                file->name, file->n_bytes);
    }
    SHOAL_TRY(shoal_comm_agree(s->comm, status, "describing the model"));
    return shoal_comm_bcast(s->comm, file->data, file->n_bytes, 0);
}

/* Rank 0's files to all ranks. */
static shoal_status exchange(shoal_staged_files *files, shoal__stage *s)
{
    int32_t n_file = files->n_file;
    SHOAL_TRY(shoal_comm_bcast(s->comm, &n_file, sizeof n_file, 0));
    shoal_status status = SHOAL_OK;
    if (s->rank != 0) {
        files->file = calloc((size_t)n_file + 1, sizeof *files->file);
        if (files->file == NULL)
            status = shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %d files of the model",
                                (int)n_file);
        else
            files->n_file = n_file;
    }
    SHOAL_TRY(shoal_comm_agree(s->comm, status, "describing the model"));
    for (int32_t i = 0; i < n_file; i++)
        SHOAL_TRY(receive_file(&files->file[i], s));
    return SHOAL_OK;
}

/* Into DIR, and from there what stands for MODEL. */
static shoal_status write_and_open(shoal__stage *s, const shoal_staged_files *files)
{
    if (s->leads)
        SHOAL_TRY(shoal_staged_write(s->dir, files, s->log));
    if (s->leads && s->source == NULL)
        SHOAL_TRY(shoal_staged_open(&s->checkpoint, s->dir, s->log));
    return SHOAL_OK;
}

shoal_status shoal__stage_describe(shoal__stage *s)
{
    shoal_staged_files files = {0};
    s->log->capture = true;
    shoal_status status =
        s->rank == 0 ? shoal_staged_describe(&files, s->source, s->log) : SHOAL_OK;
    status = shoal_agreement_stage(s->comm, status, "describing the model", s->log);
    if (status == SHOAL_OK)
        status = exchange(&files, s);
    if (status == SHOAL_OK) {
        s->log->capture = true;
        status = shoal_agreement_stage(s->comm, write_and_open(s, &files),
                                       "writing what describes the model", s->log);
    }
    shoal_staged_files_close(&files);
    return status;
}
