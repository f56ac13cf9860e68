/* Runs a target over the files of a folder (argv[1]) and over deterministic mutations of each, as
 * an ordinary test program. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <string.h>

enum { MUTATIONS = 20, MAX_BYTES = 1 << 16 };

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* One of: cut, a bit flipped, a byte set, a piece doubled, digits enlarged. */
static size_t mutate(uint8_t *data, size_t n_bytes, uint64_t *state)
{
    if (n_bytes == 0)
        return 0;
    size_t at = (size_t)(next_random(state) % n_bytes);
    switch (next_random(state) % 5) {
    case 0:
        return at;
    case 1:
        data[at] ^= (uint8_t)(1U << next_random(state) % 8);
        return n_bytes;
    case 2:
        data[at] = (uint8_t)next_random(state);
        return n_bytes;
    case 3: {
        size_t n = n_bytes - at < 16 ? n_bytes - at : 16;
        memmove(data + at + n, data + at, n_bytes - at);
        return n_bytes + n;
    }
    default:
        for (size_t i = at; i < n_bytes && i < at + 64; i++)
            data[i] = data[i] >= '0' && data[i] <= '9' ? '9' : data[i];
        return n_bytes;
    }
}

static void run_file(const char *path)
{
    static uint8_t whole[MAX_BYTES], copy[MAX_BYTES + MUTATIONS * 16];
    FILE *file = fopen(path, "rb");
    FUZZ_CHECK(file != NULL);
    size_t n_bytes = fread(whole, 1, sizeof whole, file);
    fclose(file);
    (void)LLVMFuzzerTestOneInput(whole, n_bytes);
    uint64_t state = 0x9e3779b97f4a7c15;
    for (int i = 0; i < MUTATIONS; i++) {
        memcpy(copy, whole, n_bytes);
        size_t n = n_bytes;
        for (uint64_t k = 0; k < 1 + next_random(&state) % 3; k++)
            n = mutate(copy, n, &state);
        (void)LLVMFuzzerTestOneInput(copy, n);
    }
}

int main(int argc, char **argv)
{
    FUZZ_CHECK(argc == 2);
    DIR *dir = opendir(argv[1]);
    FUZZ_CHECK(dir != NULL);
    int n_file = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char path[1024];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        run_file(path);
        n_file++;
    }
    closedir(dir);
    FUZZ_CHECK(n_file > 0);
    printf("%d files, %d mutations of each\n", n_file, MUTATIONS);
    return 0;
}
