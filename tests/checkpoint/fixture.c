#include "tests/checkpoint/fixture.h"

#include <check.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fixture_open(fixture *f)
{
    const char *base = getenv("TMPDIR");
    snprintf(f->path, sizeof f->path, "%.90s/shoal-checkpoint-XXXXXX",
             base != NULL ? base : "/tmp");
    ck_assert_msg(mkdtemp(f->path) != NULL, "cannot make %s", f->path);
    shoal_log_init(&f->log, NULL, 0, "test");
    f->log.capture = true;
}

void fixture_close(fixture *f)
{
    DIR *folder = opendir(f->path);
    ck_assert_ptr_nonnull(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            const char *path = fixture_path(f, entry->d_name);
            if (unlink(path) != 0)
                rmdir(path);
        }
    closedir(folder);
    ck_assert_msg(rmdir(f->path) == 0, "%s is not empty", f->path);
}

const char *fixture_path(const fixture *f, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    return path;
}

void fixture_write(const fixture *f, const char *name, const void *data, size_t n_bytes)
{
    FILE *file = fopen(fixture_path(f, name), "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, n_bytes, file), n_bytes);
    ck_assert_int_eq(fclose(file), 0);
}

void fixture_write_text(const fixture *f, const char *name, const char *text)
{
    fixture_write(f, name, text, strlen(text));
}

void fixture_write_safetensors(const fixture *f, const char *name, const char *header,
                               const void *data, size_t n_data_bytes)
{
    uint64_t n_header = strlen(header);
    unsigned char *all = malloc(8 + n_header + n_data_bytes);
    ck_assert_ptr_nonnull(all);
    for (int i = 0; i < 8; i++)
        all[i] = (unsigned char)(n_header >> 8 * i);
    memcpy(all + 8, header, n_header);
    unsigned char *to = all + 8 + n_header;
    for (size_t i = 0; i < n_data_bytes; i++)
        to[i] = data != NULL ? ((const unsigned char *)data)[i] : (unsigned char)i;
    fixture_write(f, name, all, 8 + n_header + n_data_bytes);
    free(all);
}

const char *fixture_source_path(const char *name)
{
    static char path[1024];
    const char *root = getenv("SHOAL_SOURCE_DIR");
    ck_assert_msg(root != NULL, "SHOAL_SOURCE_DIR is not set; run through ctest");
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

uint64_t fixture_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
