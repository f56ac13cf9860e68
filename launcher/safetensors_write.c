#include "launcher/safetensors_write.h"

#include "runtime/base/json.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t tensor_bytes(const shoal_safetensors_tensor *tensor)
{
    uint64_t n_bytes = shoal_dtype_bytes(tensor->dtype);
    for (int32_t d = 0; d < tensor->n_dim; d++)
        n_bytes *= (uint64_t)tensor->shape[d];
    return n_bytes;
}

/* The JSON header, padded with spaces so that the data begin at a multiple of 8; malloc'ed. Sets
 * the offsets. */
static char *make_header(shoal_safetensors_file *file, size_t *n_header,
                         const shoal_safetensors_tensor *tensor, int32_t n_tensor)
{
    shoal_json *header = shoal_json_new_object();
    uint64_t at = 0;
    for (int32_t i = 0; i < n_tensor; i++) {
        const char *dtype = shoal_dtype_text(tensor[i].dtype);
        shoal_json *shape = shoal_json_new_array();
        for (int32_t d = 0; d < tensor[i].n_dim; d++)
            shoal_json_append(shape, shoal_json_new_int(tensor[i].shape[d]));
        shoal_json *range = shoal_json_new_array();
        file->offset[i] = at;
        shoal_json_append(range, shoal_json_new_int((int64_t)at));
        at += tensor_bytes(&tensor[i]);
        shoal_json_append(range, shoal_json_new_int((int64_t)at));
        shoal_json *entry = shoal_json_new_object();
        shoal_json_set(entry, "dtype", shoal_json_new_string(dtype, strlen(dtype)));
        shoal_json_set(entry, "shape", shape);
        shoal_json_set(entry, "data_offsets", range);
        shoal_json_set(header, tensor[i].name, entry);
    }
    file->offset[n_tensor] = at;
    char *text = shoal_json_dump(header);
    shoal_json_close(header);
    size_t n_text = strlen(text);
    *n_header = (n_text + 7) / 8 * 8;
    char *padded = realloc(text, *n_header + 1);
    if (padded == NULL) {
        free(text);
        return NULL;
    }
    memset(padded + n_text, ' ', *n_header - n_text);
    for (int32_t i = 0; i <= n_tensor; i++)
        file->offset[i] += 8 + *n_header;
    return padded;
}

static shoal_status fail_io(const shoal_safetensors_file *file, const char *what)
{
    return shoal_fail(file->log, SHOAL_IO, "%s: %s failed: %s", file->temporary, what,
                      strerror(errno));
}

static shoal_status write_at(const shoal_safetensors_file *file, uint64_t offset, const void *data,
                             size_t n_bytes)
{
    const char *from = data;
    while (n_bytes > 0) {
        ssize_t n = pwrite(file->fd, from, n_bytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail_io(file, "writing");
        from += n;
        offset += (uint64_t)n;
        n_bytes -= (size_t)n;
    }
    return SHOAL_OK;
}

static shoal_status write_header(shoal_safetensors_file *file,
                                 const shoal_safetensors_tensor *tensor, int32_t n_tensor)
{
    size_t n_header;
    char *header = make_header(file, &n_header, tensor, n_tensor);
    if (header == NULL)
        return shoal_fail(file->log, SHOAL_NO_MEMORY, "%s: no memory for its header", file->path);
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)n_header >> (8 * i));
    shoal_status status = write_at(file, 0, length, sizeof length);
    if (status == SHOAL_OK)
        status = write_at(file, sizeof length, header, n_header);
    free(header);
    return status;
}

shoal_status shoal_safetensors_create(shoal_safetensors_file *file, const char *path,
                                      const shoal_safetensors_tensor *tensor, int32_t n_tensor,
                                      shoal_log *log)
{
    assert(n_tensor <= SHOAL_SAFETENSORS_WRITE_MAX_TENSOR);
    *file = (shoal_safetensors_file){.log = log, .fd = -1, .n_tensor = n_tensor};
    file->path = strdup(path);
    if (file->path == NULL || asprintf(&file->temporary, "%s.%d.tmp", path, (int)getpid()) < 0) {
        file->temporary = NULL;
        shoal_safetensors_close(file);
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to write it", path);
    }
    file->fd = open(file->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    shoal_status status = file->fd < 0 ? fail_io(file, "creating it") : SHOAL_OK;
    if (status == SHOAL_OK)
        status = write_header(file, tensor, n_tensor);
    if (status == SHOAL_OK) {
        int error = posix_fallocate(file->fd, 0, (off_t)file->offset[n_tensor]);
        errno = error;
        if (error == ENOSPC || error == EFBIG)
            status = fail_io(file, "claiming its space");
        else if (error != 0 && ftruncate(file->fd, (off_t)file->offset[n_tensor]) != 0)
            status = fail_io(file, "setting its size");
    }
    if (status != SHOAL_OK)
        shoal_safetensors_close(file);
    return status;
}

shoal_status shoal_safetensors_put(shoal_safetensors_file *file, int32_t index, uint64_t first,
                                   const void *data, size_t n_bytes)
{
    assert(index >= 0 && index < file->n_tensor);
    uint64_t at = file->offset[index] + first;
    assert(at + n_bytes <= file->offset[index + 1]);
    return write_at(file, at, data, n_bytes);
}

/* The new name is durable only once its folder is; a file system that cannot sync a folder is no
 * reason to fail. */
static void sync_folder(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(copy);
}

shoal_status shoal_safetensors_commit(shoal_safetensors_file *file)
{
    shoal_status status = fsync(file->fd) == 0 ? SHOAL_OK : fail_io(file, "syncing");
    int closed = close(file->fd);
    file->fd = -1;
    if (closed != 0 && status == SHOAL_OK)
        status = fail_io(file, "closing");
    if (status == SHOAL_OK && rename(file->temporary, file->path) != 0)
        status = fail_io(file, "renaming");
    if (status != SHOAL_OK)
        return status;
    sync_folder(file->path);
    free(file->temporary);
    file->temporary = NULL;
    return SHOAL_OK;
}

void shoal_safetensors_close(shoal_safetensors_file *file)
{
    if (file->path != NULL && file->fd >= 0)
        close(file->fd);
    if (file->temporary != NULL)
        unlink(file->temporary);
    free(file->temporary);
    free(file->path);
    *file = (shoal_safetensors_file){.fd = -1};
}
