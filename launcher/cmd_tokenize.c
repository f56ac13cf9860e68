/* shoal tokenize: text to ids and back, line by line. */
#include "launcher/bootstrap.h"
#include "launcher/command.h"
#include "launcher/model_text.h"
#include "launcher/report.h"
#include "runtime/text/tokenizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* New array of ids for a JSON string. */
static shoal_status encode_line(shoal_json **answer, shoal_tokenizer *tokenizer, bool special,
                                const shoal_json *line, const char *name, shoal_log *log)
{
    size_t n_bytes;
    const char *text = shoal_json_string(line, &n_bytes);
    if (text == NULL)
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: wanted a JSON string", name);
    int32_t *ids;
    size_t n;
    SHOAL_TRY(shoal_tokenizer_encode(tokenizer, &ids, &n, text, n_bytes, special, log));
    *answer = shoal_json_new_ints(ids, n);
    free(ids);
    return SHOAL_OK;
}

/* New string for a JSON array of ids; special tokens are kept, as encoding recognises them. */
static shoal_status decode_line(shoal_json **answer, const shoal_tokenizer *tokenizer,
                                const shoal_json *line, const char *name, shoal_log *log)
{
    size_t n = shoal_json_size(line);
    if (!shoal_json_is_array(line))
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: wanted a JSON array of ids", name);
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    if (ids == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for %zu ids", name, n);
    shoal_status status = SHOAL_OK;
    int32_t n_vocab = shoal_tokenizer_n_vocab(tokenizer);
    for (size_t i = 0; i < n && status == SHOAL_OK; i++) {
        int64_t id = shoal_json_int(shoal_json_at(line, i), -1);
        if (id < 0 || id >= n_vocab)
            status = shoal_fail(log, SHOAL_BAD_DATA, "%s: element %zu is no id from 0 to %d", name,
                                i, (int)n_vocab - 1);
        else
            ids[i] = (int32_t)id;
    }
    char *text = NULL;
    size_t n_bytes = 0;
    if (status == SHOAL_OK)
        status = shoal_tokenizer_decode(tokenizer, &text, &n_bytes, ids, n, true, log);
    if (status == SHOAL_OK)
        *answer = shoal_json_new_string(text, n_bytes);
    free(text);
    free(ids);
    return status;
}

static shoal_status answer_line(shoal_tokenizer *tokenizer, const shoal_options *options,
                                const char *line, size_t n_bytes, const char *name, shoal_log *log)
{
    shoal_json *doc;
    SHOAL_TRY(shoal_json_parse(&doc, line, n_bytes, name, log));
    shoal_json *answer = NULL;
    shoal_status status = options->decode
                              ? decode_line(&answer, tokenizer, doc, name, log)
                              : encode_line(&answer, tokenizer, options->special, doc, name, log);
    shoal_json_close(doc);
    return status == SHOAL_OK ? shoal_print_json(answer, log) : status;
}

static shoal_status open_tokenizer(shoal_tokenizer **tokenizer, const char *model, shoal_log *log)
{
    shoal_checkpoint *checkpoint;
    *tokenizer = NULL;
    SHOAL_TRY(shoal_checkpoint_open(&checkpoint, model, false, log));
    shoal_status status = shoal_model_text_tokenizer(tokenizer, checkpoint, log);
    shoal_checkpoint_close(checkpoint);
    if (status == SHOAL_OK && *tokenizer == NULL)
        status = shoal_fail(log, SHOAL_NO_INPUT, "%s has no tokenizer", model);
    return status;
}

shoal_status shoal_cmd_tokenize(const shoal_options *options,
                                const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    (void)interrupted;
    if (options->decode && options->special)
        return shoal_fail(log, SHOAL_USAGE, "--special is for encoding, not for --decode");
    if (shoal_bootstrap_environment_rank() > 0)
        return SHOAL_OK;
    shoal_tokenizer *tokenizer;
    SHOAL_TRY(open_tokenizer(&tokenizer, options->model, log));
    char *line = NULL;
    size_t n_max = 0;
    int64_t number = 0;
    shoal_status status = SHOAL_OK;
    ssize_t n;
    errno = 0;
    while (status == SHOAL_OK && (n = getline(&line, &n_max, stdin)) >= 0) {
        char name[48];
        snprintf(name, sizeof name, "line %lld of standard input", (long long)++number);
        if (n > 0 && line[n - 1] == '\n')
            n--;
        status = answer_line(tokenizer, options, line, (size_t)n, name, log);
        if (status == SHOAL_BAD_DATA && strstr(log->error, name) == NULL)
            shoal_log_warn(log, "stopped at %s", name);
        errno = 0;
    }
    if (status == SHOAL_OK && ferror(stdin))
        status = shoal_fail(log, SHOAL_IO, "standard input: %s", strerror(errno));
    free(line);
    shoal_tokenizer_close(tokenizer);
    return status;
}
