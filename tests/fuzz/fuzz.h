/* A fuzz target is one file with LLVMFuzzerTestOneInput: bytes into one parser, which may refuse
 * them, but not crash, leak, read outside or allocate what the bytes do not back. It is built in
 * two ways: by clang with libFuzzer (scripts/dev fuzz), and by the suite's compiler with driver.c,
 * which runs the saved corpus and mutations of it. */
#ifndef SHOAL_TESTS_FUZZ_FUZZ_H
#define SHOAL_TESTS_FUZZ_FUZZ_H

#include "runtime/base/log.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* What must hold also where NDEBUG is set. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);          \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* A failure says why, and its status is one that a file can be refused with. */
#define FUZZ_CHECK_REFUSED(status, log)                                                            \
    FUZZ_CHECK((status) == SHOAL_BAD_DATA && (log)->error[0] != '\0')

/* For parsers that open files: write the bytes as `name` into a folder of this process (one for
 * all calls, removed at exit) and return the folder. */
const char *fuzz_folder_with(const char *name, const uint8_t *data, size_t n_bytes);

#endif
