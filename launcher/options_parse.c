#include "launcher/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool shoal_parse_int64(int64_t *value, const char *text)
{
    const char *digit = text[0] == '-' ? text + 1 : text;
    if (!isdigit((unsigned char)digit[0]))
        return false;
    char *end;
    errno = 0;
    long long parsed = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    *value = parsed;
    return true;
}

bool shoal_parse_uint64(uint64_t *value, const char *text)
{
    if (!isdigit((unsigned char)text[0]))
        return false;
    char *end;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    *value = parsed;
    return true;
}

bool shoal_parse_number(double *value, const char *text)
{
    /* strtod also takes spaces, hexadecimal, inf and nan. */
    if (text[0] == '\0' || text[strspn(text, "0123456789.eE+-")] != '\0')
        return false;
    char *end;
    double parsed = strtod(text, &end);
    if (*end != '\0' || !isfinite(parsed))
        return false;
    *value = parsed;
    return true;
}

int32_t shoal_text_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    int32_t row[LONGEST + 1];
    size_t n_b = strnlen(b, LONGEST);
    for (size_t j = 0; j <= n_b; j++)
        row[j] = (int32_t)j;
    for (size_t i = 0; a[i] != '\0' && i < LONGEST; i++) {
        int32_t diagonal = row[0];
        row[0] = (int32_t)i + 1;
        for (size_t j = 0; j < n_b; j++) {
            int32_t best = diagonal + (a[i] != b[j]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            diagonal = row[j + 1];
            if (diagonal + 1 < best)
                best = diagonal + 1;
            row[j + 1] = best;
        }
    }
    return row[n_b];
}

/* What the numbers of a list are. */
typedef struct list_of {
    const char *name;   /* of the option */
    const char *wanted; /* "a token id" */
    int32_t min, max;
} list_of;

static shoal_status parse_list(int32_t **values, int32_t *n, const char *text, const list_of *of,
                               shoal_log *log)
{
    size_t n_max = 1;
    for (const char *c = text; *c != '\0'; c++)
        n_max += *c == ',';
    int32_t *list = n_max < INT32_MAX ? malloc(n_max * sizeof *list) : NULL;
    if (list == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "--%s: no memory for %zu numbers", of->name, n_max);
    int32_t n_list = 0;
    const char *at = text;
    for (;;) {
        char *end;
        errno = 0;
        long long value = isdigit((unsigned char)*at) ? strtoll(at, &end, 10) : -1;
        if (value < of->min || value > of->max || errno != 0 || (*end != ',' && *end != '\0')) {
            free(list);
            return shoal_fail(log, SHOAL_USAGE,
                              "--%s: found '%.40s' where %s was wanted, a number from %d to %d; "
                              "several are separated by commas: --%s 1,2,3",
                              of->name, at, of->wanted, (int)of->min, (int)of->max, of->name);
        }
        list[n_list++] = (int32_t)value;
        if (*end == '\0')
            break;
        at = end + 1;
    }
    *values = list;
    *n = n_list;
    return SHOAL_OK;
}

shoal_status shoal_options_ids(int32_t **ids, int32_t *n, const char *text, const char *name,
                               shoal_log *log)
{
    const list_of of = {.name = name, .wanted = "a token id", .min = 0, .max = INT32_MAX};
    return parse_list(ids, n, text, &of, log);
}

shoal_status shoal_options_counts(int32_t **counts, int32_t *n, const char *text, const char *name,
                                  int32_t max, shoal_log *log)
{
    const list_of of = {.name = name, .wanted = "a count", .min = 1, .max = max};
    return parse_list(counts, n, text, &of, log);
}

shoal_status shoal_options_ranks(int32_t **ranks, int32_t *n, const char *text, shoal_log *log)
{
    const char *dots = strstr(text, "..");
    char first[16], *end;
    int64_t from = 0, to = 0;
    if (dots != NULL && dots - text < (ptrdiff_t)sizeof first) {
        snprintf(first, sizeof first, "%.*s", (int)(dots - text), text);
        if (shoal_parse_int64(&from, first) && shoal_parse_int64(&to, dots + 2) && from >= 1 &&
            from <= to && to <= SHOAL_MAX_RANK) {
            int32_t *list = malloc((size_t)(to - from + 1) * sizeof *list);
            if (list == NULL)
                return shoal_fail(log, SHOAL_NO_MEMORY, "--ranks: no memory for %s", text);
            for (int64_t r = from; r <= to; r++)
                list[r - from] = (int32_t)r;
            *ranks = list;
            *n = (int32_t)(to - from + 1);
            return SHOAL_OK;
        }
    }
    int32_t *list = malloc((strlen(text) + 1) * sizeof *list), n_list = 0;
    if (list == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "--ranks: no memory for %s", text);
    for (const char *at = text;; at = end + 1) {
        errno = 0;
        long long r = isdigit((unsigned char)*at) ? strtoll(at, &end, 10) : -1;
        if (r < 1 || r > SHOAL_MAX_RANK || errno != 0 || (*end != ',' && *end != '\0')) {
            free(list);
            return shoal_fail(log, SHOAL_USAGE,
                              "--ranks: found '%.40s', wanted numbers from 1 to %d as in 1,2,4 or "
                              "2..5",
                              text, SHOAL_MAX_RANK);
        }
        list[n_list++] = (int32_t)r;
        if (*end == '\0')
            break;
    }
    *ranks = list;
    *n = n_list;
    return SHOAL_OK;
}

/* "rank=R,step=S,layer=L,do=kind" in any order; layer may be left out (outside the layers). */
static bool parse_fault(shoal_fault *fault, const char *text)
{
    shoal_fault parsed = {.kind = SHOAL_FAULT_NONE, .rank = -1, .step = INT64_MIN, .layer = -1};
    while (*text != '\0') {
        char part[64];
        size_t n = strcspn(text, ",");
        if (n >= sizeof part)
            return false;
        memcpy(part, text, n);
        part[n] = '\0';
        text += n + (text[n] == ',');
        char *equals = strchr(part, '=');
        if (equals == NULL)
            return false;
        *equals = '\0';
        const char *value = equals + 1;
        int64_t number = -1;
        bool parses = shoal_parse_int64(&number, value);
        bool is_number = parses && number >= 0 && number <= INT32_MAX;
        bool is_loading = parses && number == SHOAL_STEP_LOADING;
        if (strcmp(part, "rank") == 0 && is_number)
            parsed.rank = (int32_t)number;
        else if (strcmp(part, "step") == 0 && (is_number || is_loading))
            parsed.step = number;
        else if (strcmp(part, "layer") == 0 && is_number)
            parsed.layer = (int32_t)number;
        else if (strcmp(part, "do") != 0)
            return false;
        for (shoal_fault_kind k = SHOAL_FAULT_KILL;
             strcmp(part, "do") == 0 && k <= SHOAL_FAULT_DEVICE; k++) {
            if (strcmp(value, shoal_fault_text(k)) == 0)
                parsed.kind = k;
        }
    }
    if (parsed.kind == SHOAL_FAULT_NONE || parsed.rank < 0 || parsed.step == INT64_MIN)
        return false;
    *fault = parsed;
    return true;
}

/* Index of `text` in "one|two|three", -1 if it is none of them. */
static int32_t choice_index(const char *choices, const char *text)
{
    size_t n_text = strlen(text);
    for (int32_t index = 0;; index++) {
        size_t n = strcspn(choices, "|");
        if (n == n_text && memcmp(choices, text, n) == 0)
            return index;
        if (choices[n] == '\0')
            return -1;
        choices += n + 1;
    }
}

static shoal_status store(shoal_options *options, const shoal_option *o, const char *value,
                          shoal_log *log)
{
    void *field = (char *)options + o->offset;
    int64_t whole;
    switch (o->kind) {
    case SHOAL_OPTION_FLAG:
        *(bool *)field = true;
        return SHOAL_OK;
    case SHOAL_OPTION_TEXT:
        *(const char **)field = value;
        return SHOAL_OK;
    case SHOAL_OPTION_INT:
        if (!shoal_parse_int64(&whole, value) || (double)whole < o->min || (double)whole > o->max)
            return shoal_fail(log, SHOAL_USAGE,
                              "--%s: found '%s', wanted a whole number from %.0f to %.0f", o->name,
                              value, o->min, o->max);
        *(int32_t *)field = (int32_t)whole;
        return SHOAL_OK;
    case SHOAL_OPTION_UINT64:
        if (!shoal_parse_uint64((uint64_t *)field, value))
            return shoal_fail(log, SHOAL_USAGE,
                              "--%s: found '%s', wanted a whole number from 0 to 2^64-1", o->name,
                              value);
        return SHOAL_OK;
    case SHOAL_OPTION_NUMBER: {
        double number;
        if (!shoal_parse_number(&number, value) || number < o->min || number > o->max)
            return shoal_fail(log, SHOAL_USAGE, "--%s: found '%s', wanted a number from %g to %g",
                              o->name, value, o->min, o->max);
        *(double *)field = number;
        return SHOAL_OK;
    }
    case SHOAL_OPTION_CHOICE: {
        int32_t index = choice_index(o->value, value);
        if (index < 0)
            return shoal_fail(log, SHOAL_USAGE, "--%s: found '%s', supported: %s", o->name, value,
                              o->value);
        *(int32_t *)field = index;
        return SHOAL_OK;
    }
    case SHOAL_OPTION_LIST: {
        shoal_text_list *list = field;
        if (value[0] == '\0' || list->n == SHOAL_TEXT_LIST_MAX)
            return shoal_fail(log, SHOAL_USAGE, "--%s: found %s, wanted %s", o->name,
                              value[0] == '\0' ? "an empty text" : "too many of them",
                              value[0] == '\0' ? "one that is not" : "at most 16");
        list->text[list->n] = value;
        list->n_bytes[list->n++] = strlen(value);
        return SHOAL_OK;
    }
    case SHOAL_OPTION_DEVICE:
        if (!shoal_device_text_is_valid(value))
            return shoal_fail(
                log, SHOAL_USAGE,
                "--%s: found '%s', supported: %s, or a list with one for each rank, as "
                "cuda:0,cpu",
                o->name, value, o->value);
        *(const char **)field = value;
        return SHOAL_OK;
    case SHOAL_OPTION_FAULT:
        if (!parse_fault((shoal_fault *)field, value))
            return shoal_fail(log, SHOAL_USAGE, "--%s: found '%s', wanted %s", o->name, value,
                              o->value);
        return SHOAL_OK;
    }
    return SHOAL_OK;
}

static const shoal_option *find(int32_t command, const char *name, size_t n_name)
{
    for (const shoal_option *o = shoal_option_table(); o->name != NULL; o++) {
        if ((o->commands & command) != 0 && strlen(o->name) == n_name &&
            memcmp(o->name, name, n_name) == 0)
            return o;
    }
    return NULL;
}

static shoal_status fail_unknown(int32_t command, const char *command_name, const char *argument,
                                 shoal_log *log)
{
    char name[64] = "";
    const char *bare = argument + strspn(argument, "-");
    size_t n = strcspn(bare, "=");
    memcpy(name, bare, n < sizeof name ? n : sizeof name - 1);
    const char *nearest = NULL;
    int32_t nearest_distance = 3; /* further away it is no typing error */
    for (const shoal_option *o = shoal_option_table(); o->name != NULL; o++) {
        int32_t distance = shoal_text_distance(name, o->name);
        if ((o->commands & command) != 0 && distance < nearest_distance) {
            nearest = o->name;
            nearest_distance = distance;
        }
    }
    if (nearest != NULL)
        return shoal_fail(log, SHOAL_USAGE, "unknown option '%s'; did you mean --%s?", argument,
                          nearest);
    return shoal_fail(log, SHOAL_USAGE, "unknown option '%s'; see shoal %s --help", argument,
                      command_name);
}

static shoal_status check_required(const shoal_options *options, const char *command_name,
                                   shoal_log *log)
{
    const shoal_argument *a = shoal_option_argument(options->command);
    const char *const *given = (const char *const *)((const char *)options + a->offset);
    if (a->name != NULL && (*given == NULL || (*given)[0] == '\0'))
        return shoal_fail(log, SHOAL_USAGE,
                          "no %s given: shoal %s %s [options], where %s is %s; see shoal %s --help",
                          a->name, command_name, a->name, a->name, a->what, command_name);
    if (a->program != NULL && (options->program == NULL || options->program[0] == NULL))
        return shoal_fail(log, SHOAL_USAGE,
                          "nothing to run: shoal %s [options] -- %s; see shoal %s --help",
                          command_name, a->program, command_name);
    for (const shoal_option *o = shoal_option_table(); o->name != NULL; o++) {
        const char *const *text = (const char *const *)((const char *)options + o->offset);
        if (o->required && (o->commands & options->command) != 0 && *text == NULL)
            return shoal_fail(log, SHOAL_USAGE, "--%s %s is missing; see shoal %s --help", o->name,
                              o->value, command_name);
    }
    if (options->quiet && options->verbose)
        return shoal_fail(log, SHOAL_USAGE, "--quiet and --verbose exclude each other");
    if ((options->command & SHOAL_COMMANDS_THAT_RUN) != 0 && options->probe != NULL &&
        (options->placement == NULL || strcmp(options->placement, "weighted") != 0))
        return shoal_fail(log, SHOAL_USAGE, "--probe needs --placement weighted");
    if (options->verify && options->cache == NULL && options->to == NULL)
        return shoal_fail(log, SHOAL_USAGE, "--verify needs --cache DIR");
    if (options->draft_tokens > 0 && options->draft == SHOAL_DRAFT_CHOICE_NONE)
        return shoal_fail(log, SHOAL_USAGE, "--draft-tokens needs --draft mtp|ngram");
    return SHOAL_OK;
}

static shoal_status store_argument(shoal_options *options, const char *command_name,
                                   const char *argument, shoal_log *log)
{
    const shoal_argument *a = shoal_option_argument(options->command);
    const char **field = (const char **)((char *)options + a->offset);
    if (a->program != NULL)
        return shoal_fail(log, SHOAL_USAGE,
                          "found '%s'; what is to be run goes behind --: shoal %s [options] -- %s",
                          argument, command_name, a->program);
    if (a->name == NULL)
        return shoal_fail(log, SHOAL_USAGE,
                          "found '%s', but shoal %s takes options only; see shoal %s --help",
                          argument, command_name, command_name);
    if (*field != NULL)
        return shoal_fail(log, SHOAL_USAGE,
                          "found '%s' behind %s '%s', wanted an option; see shoal %s --help",
                          argument, a->name, *field, command_name);
    *field = argument;
    return SHOAL_OK;
}

shoal_status shoal_options_parse(shoal_options *options, const char *command_name, int argc,
                                 char *const *argv, shoal_log *log)
{
    bool only_arguments = false;
    options->command_name = command_name;
    for (int i = 0; i < argc; i++) {
        const char *argument = argv[i];
        if (strcmp(argument, "--") == 0 && !only_arguments) {
            only_arguments = true;
            if (shoal_option_argument(options->command)->program != NULL) {
                options->program = argv + i + 1;
                break;
            }
        } else if (argument[0] != '-' || only_arguments) {
            SHOAL_TRY(store_argument(options, command_name, argument, log));
        } else if (strcmp(argument, "-h") == 0) {
            options->help = true;
        } else {
            const char *name = argument[1] == '-' ? argument + 2 : "";
            size_t n_name = strcspn(name, "=");
            const shoal_option *o = find(options->command, name, n_name);
            if (o == NULL)
                return fail_unknown(options->command, command_name, argument, log);
            const char *value = name[n_name] == '=' ? name + n_name + 1 : NULL;
            if (o->kind == SHOAL_OPTION_FLAG && value != NULL)
                return shoal_fail(log, SHOAL_USAGE, "--%s takes no value, found '%s'", o->name,
                                  value);
            if (o->kind != SHOAL_OPTION_FLAG && value == NULL) {
                if (++i == argc)
                    return shoal_fail(log, SHOAL_USAGE, "--%s wants a value: --%s %s", o->name,
                                      o->name, o->value);
                value = argv[i];
            }
            SHOAL_TRY(store(options, o, value, log));
        }
    }
    return options->help ? SHOAL_OK : check_required(options, command_name, log);
}
