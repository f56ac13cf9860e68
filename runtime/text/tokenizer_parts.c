/* tokenizer.json: normalizer, pre_tokenizer, post_processor and decoder. Each is null, one
 * component, or a Sequence of components (of Sequences); what is not known is refused by name. */
#include "runtime/text/tokenizer_internal.h"

#include "runtime/text/utf8.h"

#include <string.h>

enum { MAX_PLACE = 160 };

/* GPT-2's pattern, which ByteLevel brings along. */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

typedef shoal_status read_component(shoal_tokenizer *t, const shoal_json *part, const char *type,
                                    const char *place, const shoal__reader *r);

/* Calls `read` for every component that is no Sequence, in order. */
static shoal_status read_sequence(shoal_tokenizer *t, const shoal_json *part, const char *members,
                                  const char *place, read_component *read, const shoal__reader *r)
{
    if (part == NULL || shoal_json_is_null(part))
        return SHOAL_OK;
    const char *type;
    if (!shoal_json_is_object(part))
        return shoal__reader_fail(r, place, "must be null or an object");
    SHOAL_TRY(shoal__read_string(&type, NULL, part, "type", place, r));
    if (strcmp(type, "Sequence") != 0)
        return read(t, part, type, place, r);
    const shoal_json *list = shoal_json_get(part, members);
    if (!shoal_json_is_array(list))
        return shoal__reader_fail(r, place, "%s must be an array", members);
    for (size_t i = 0; i < shoal_json_size(list); i++) {
        char inner[MAX_PLACE];
        snprintf(inner, sizeof inner, "%.100s.%s[%zu]", place, members, i);
        SHOAL_TRY(read_sequence(t, shoal_json_at(list, i), members, inner, read, r));
    }
    return SHOAL_OK;
}

/* A member that is one character. */
static shoal_status read_character(char character[4], size_t *n_bytes, const shoal_json *part,
                                   const char *key, const char *place, const shoal__reader *r)
{
    const char *text;
    size_t n;
    size_t end = 0;
    SHOAL_TRY(shoal__read_string(&text, &n, part, key, place, r));
    if (n > 0)
        shoal__utf8_next(text, &end);
    if (n == 0 || end != n)
        return shoal__reader_fail(r, place, "%s must be one character", key);
    memcpy(character, text, n);
    *n_bytes = n;
    return SHOAL_OK;
}

/* -- normalizer -- */

static shoal_status read_normal_step(shoal_tokenizer *t, const shoal_json *part, const char *type,
                                     const char *place, const shoal__reader *r)
{
    shoal__normalizer *normalizer = &t->normalizer;
    if (normalizer->n_step == SHOAL__MAX_NORMAL_STEP)
        return shoal__reader_fail(r, place, "there are more than %d normalizers",
                                  SHOAL__MAX_NORMAL_STEP);
    shoal__normal_step *step = &normalizer->step[normalizer->n_step];
    const char *text;
    size_t n_bytes;
    if (strcmp(type, "NFC") == 0) {
        step->kind = SHOAL__NORMAL_NFC;
        normalizer->n_step++;
        return SHOAL_OK;
    }
    if (strcmp(type, "Prepend") == 0) {
        step->kind = SHOAL__NORMAL_PREPEND;
        SHOAL_TRY(shoal__read_string(&text, &n_bytes, part, "prepend", place, r));
    } else if (strcmp(type, "Replace") == 0) {
        step->kind = SHOAL__NORMAL_REPLACE;
        SHOAL_TRY(shoal__read_string(&text, &n_bytes, part, "content", place, r));
        SHOAL_TRY(shoal__read_pattern(&step->regex, part, place, r));
    } else {
        return shoal__reader_fail(
            r, place,
            "normalizer %.40s is not supported; supported: NFC, Prepend, Replace, Sequence", type);
    }
    normalizer->n_step++; /* from here on it is freed with the others */
    return shoal__bytes_append(&step->text, text, n_bytes, r->log);
}

shoal_status shoal__read_normalizer(shoal_tokenizer *t, const shoal_json *doc,
                                    const shoal__reader *r)
{
    return read_sequence(t, shoal_json_get(doc, "normalizer"), "normalizers", "normalizer",
                         read_normal_step, r);
}

/* -- pre-tokenizer -- */

static shoal_status new_cut_step(shoal__cut_step **step, shoal_tokenizer *t, shoal__cut_kind kind,
                                 const char *place, const shoal__reader *r)
{
    shoal__pretokenizer *p = &t->pretokenizer;
    if (p->n_step == SHOAL__MAX_CUT_STEP)
        return shoal__reader_fail(r, place, "there are more than %d pre-tokenizer steps",
                                  SHOAL__MAX_CUT_STEP);
    *step = &p->step[p->n_step++];
    (*step)->kind = kind;
    return SHOAL_OK;
}

static shoal_status read_split(shoal_tokenizer *t, const shoal_json *part, const char *place,
                               const shoal__reader *r)
{
    static const struct {
        const char *name;
        shoal__cut_behavior behavior;
    } behaviors[] = {{"Isolated", SHOAL__CUT_ISOLATED},
                     {"Removed", SHOAL__CUT_REMOVED},
                     {"Contiguous", SHOAL__CUT_CONTIGUOUS},
                     {"MergedWithPrevious", SHOAL__CUT_MERGED_PREV},
                     {"MergedWithNext", SHOAL__CUT_MERGED_NEXT}};
    shoal__cut_step *step = NULL;
    const char *name;
    SHOAL_TRY(new_cut_step(&step, t, SHOAL__CUT_SPLIT, place, r));
    SHOAL_TRY(shoal__read_bool(&step->invert, part, "invert", false, place, r));
    SHOAL_TRY(shoal__read_string(&name, NULL, part, "behavior", place, r));
    for (size_t i = 0; i < sizeof behaviors / sizeof behaviors[0]; i++) {
        if (strcmp(behaviors[i].name, name) == 0) {
            step->behavior = behaviors[i].behavior;
            return shoal__read_pattern(&step->regex, part, place, r);
        }
    }
    return shoal__reader_fail(r, place,
                              "behavior '%.40s' is not known; known: Isolated, Removed, "
                              "Contiguous, MergedWithPrevious, MergedWithNext",
                              name);
}

static shoal_status read_byte_level(shoal_tokenizer *t, const shoal_json *part, const char *place,
                                    const shoal__reader *r)
{
    bool prefix;
    bool use_regex;
    shoal__cut_step *step = NULL;
    SHOAL_TRY(shoal__read_bool(&prefix, part, "add_prefix_space", true, place, r));
    SHOAL_TRY(shoal__read_bool(&use_regex, part, "use_regex", true, place, r));
    if (prefix)
        SHOAL_TRY(new_cut_step(&step, t, SHOAL__CUT_PREFIX_SPACE, place, r));
    if (use_regex) {
        SHOAL_TRY(new_cut_step(&step, t, SHOAL__CUT_SPLIT, place, r));
        SHOAL_TRY(shoal__regex_open(&step->regex, gpt2_pattern, sizeof gpt2_pattern - 1, false,
                                    "the pattern of ByteLevel", r->log));
    }
    return new_cut_step(&step, t, SHOAL__CUT_BYTE_LEVEL, place, r);
}

/* prepend_scheme, or add_prefix_space of older files. */
static shoal_status read_prepend(shoal__prepend *prepend, const shoal_json *part, const char *place,
                                 const shoal__reader *r)
{
    bool add;
    SHOAL_TRY(shoal__read_bool(&add, part, "add_prefix_space", true, place, r));
    const shoal_json *member = shoal_json_get(part, "prepend_scheme");
    const char *scheme =
        member == NULL ? (add ? "always" : "never") : shoal_json_string(member, NULL);
    if (scheme != NULL && strcmp(scheme, "always") == 0 && add)
        *prepend = SHOAL__PREPEND_ALWAYS;
    else if (scheme != NULL && strcmp(scheme, "first") == 0 && add)
        *prepend = SHOAL__PREPEND_FIRST;
    else if (scheme != NULL && strcmp(scheme, "never") == 0)
        *prepend = SHOAL__PREPEND_NEVER;
    else
        return shoal__reader_fail(r, place,
                                  "prepend_scheme must be always, first or never, and never where "
                                  "add_prefix_space is false");
    return SHOAL_OK;
}

static shoal_status read_cut_step(shoal_tokenizer *t, const shoal_json *part, const char *type,
                                  const char *place, const shoal__reader *r)
{
    shoal__cut_step *step = NULL;
    if (strcmp(type, "Split") == 0)
        return read_split(t, part, place, r);
    if (strcmp(type, "ByteLevel") == 0)
        return read_byte_level(t, part, place, r);
    if (strcmp(type, "Digits") == 0) {
        bool individual;
        SHOAL_TRY(shoal__read_bool(&individual, part, "individual_digits", false, place, r));
        SHOAL_TRY(new_cut_step(&step, t, SHOAL__CUT_DIGITS, place, r));
        step->behavior = individual ? SHOAL__CUT_ISOLATED : SHOAL__CUT_CONTIGUOUS;
        return SHOAL_OK;
    }
    if (strcmp(type, "Metaspace") == 0) {
        SHOAL_TRY(new_cut_step(&step, t, SHOAL__CUT_METASPACE, place, r));
        SHOAL_TRY(shoal__read_bool(&step->split, part, "split", true, place, r));
        SHOAL_TRY(read_prepend(&step->prepend, part, place, r));
        return read_character(step->replacement, &step->n_replacement, part, "replacement", place,
                              r);
    }
    return shoal__reader_fail(r, place,
                              "pre-tokenizer %.40s is not supported; supported: Split, ByteLevel, "
                              "Digits, Metaspace, Sequence",
                              type);
}

shoal_status shoal__read_pretokenizer(shoal_tokenizer *t, const shoal_json *doc,
                                      const shoal__reader *r)
{
    return read_sequence(t, shoal_json_get(doc, "pre_tokenizer"), "pretokenizers", "pre_tokenizer",
                         read_cut_step, r);
}

/* -- post-processor -- */

static shoal_status append_special(shoal__ids *out, const shoal_tokenizer *t,
                                   const shoal_json *part, const char *name, const char *place,
                                   const shoal__reader *r)
{
    const shoal_json *special = shoal_json_get(shoal_json_get(part, "special_tokens"), name);
    const shoal_json *ids = shoal_json_get(special, "ids");
    if (!shoal_json_is_array(ids))
        return shoal__reader_fail(r, place, "special_tokens has no ids for '%.60s'", name);
    for (size_t i = 0; i < shoal_json_size(ids); i++) {
        int64_t id = shoal_json_int(shoal_json_at(ids, i), -1);
        if (id < 0 || id > SHOAL__MAX_ID || shoal__vocab_token(&t->vocab, (int32_t)id) == NULL)
            return shoal__reader_fail(r, place, "special token '%.60s' has an id that is no token",
                                      name);
        SHOAL_TRY(shoal__ids_append(out, (int32_t)id, r->log));
    }
    return SHOAL_OK;
}

static shoal_status append_template(shoal__ids *out, const shoal_tokenizer *t,
                                    const shoal_json *part, const char *place,
                                    const shoal__reader *r)
{
    const shoal_json *single = shoal_json_get(part, "single");
    if (!shoal_json_is_array(single))
        return shoal__reader_fail(r, place, "single must be an array");
    int32_t n_sequence = 0;
    for (size_t i = 0; i < shoal_json_size(single); i++) {
        const shoal_json *piece = shoal_json_at(single, i);
        const shoal_json *sequence = shoal_json_get(piece, "Sequence");
        const char *name =
            shoal_json_string(shoal_json_get(shoal_json_get(piece, "SpecialToken"), "id"), NULL);
        const char *which = shoal_json_string(shoal_json_get(sequence, "id"), NULL);
        if (name != NULL && sequence == NULL) {
            SHOAL_TRY(append_special(out, t, part, name, place, r));
        } else if (name == NULL && which != NULL && strcmp(which, "A") == 0) {
            n_sequence++;
            SHOAL_TRY(shoal__ids_append(out, SHOAL__TEMPLATE_SEQUENCE, r->log));
        } else {
            return shoal__reader_fail(r, place,
                                      "single[%zu] must be a SpecialToken with an id, or the "
                                      "Sequence A",
                                      i);
        }
    }
    if (n_sequence != 1)
        return shoal__reader_fail(r, place, "single must hold the Sequence A once");
    return SHOAL_OK;
}

static shoal_status read_post_step(shoal_tokenizer *t, const shoal_json *part, const char *type,
                                   const char *place, const shoal__reader *r)
{
    if (strcmp(type, "ByteLevel") == 0)
        return SHOAL_OK; /* it only trims offsets */
    if (strcmp(type, "TemplateProcessing") != 0)
        return shoal__reader_fail(r, place,
                                  "post-processor %.40s is not supported; supported: ByteLevel, "
                                  "TemplateProcessing, Sequence",
                                  type);
    if (t->template.n > 0)
        return shoal__reader_fail(r, place, "there is a TemplateProcessing before it");
    return append_template(&t->template, t, part, place, r);
}

shoal_status shoal__read_post_processor(shoal_tokenizer *t, const shoal_json *doc,
                                        const shoal__reader *r)
{
    SHOAL_TRY(read_sequence(t, shoal_json_get(doc, "post_processor"), "processors",
                            "post_processor", read_post_step, r));
    return t->template.n > 0 ? SHOAL_OK
                             : shoal__ids_append(&t->template, SHOAL__TEMPLATE_SEQUENCE, r->log);
}

/* -- decoder -- */

static shoal_status read_strip(shoal__detokenizer *d, const shoal_json *part, const char *place,
                               const shoal__reader *r)
{
    const shoal_json *start = shoal_json_get(part, "start");
    const shoal_json *stop = shoal_json_get(part, "stop");
    d->n_strip = shoal_json_int(start, -1);
    if (d->n_strip < 0 || shoal_json_int(stop, -1) != 0)
        return shoal__reader_fail(r, place,
                                  "start must be a count, and stop must be 0: the end of a text is "
                                  "not known while it is generated");
    return read_character(d->strip, &d->n_strip_bytes, part, "content", place, r);
}

static shoal_status read_decode_replace(shoal__detokenizer *d, const shoal_json *part,
                                        const char *place, const shoal__reader *r)
{
    if (d->n_replace == SHOAL__MAX_DECODE_REPLACE)
        return shoal__reader_fail(r, place, "there are more than %d of Replace",
                                  SHOAL__MAX_DECODE_REPLACE);
    const char *text;
    size_t n_bytes;
    int32_t i = d->n_replace;
    SHOAL_TRY(shoal__read_string(&text, &n_bytes, part, "content", place, r));
    SHOAL_TRY(shoal__read_pattern(&d->replace[i].regex, part, place, r));
    d->n_replace++;
    return shoal__bytes_append(&d->replace[i].text, text, n_bytes, r->log);
}

/* The steps are kept as fields, which fixes their order: ByteLevel or Metaspace alone, or Replace,
 * ByteFallback, Fuse, Strip. d->stage is how far that order has come. */
static shoal_status read_decode_step(shoal_tokenizer *t, const shoal_json *part, const char *type,
                                     const char *place, const shoal__reader *r)
{
    static const char *const order[] = {"ByteLevel",    "Metaspace", "Replace",
                                        "ByteFallback", "Fuse",      "Strip"};
    enum { BYTE_LEVEL, METASPACE, REPLACE, BYTE_FALLBACK, FUSE, STRIP, N_STAGE };
    shoal__detokenizer *d = &t->detokenizer;
    int32_t stage = 0;
    while (stage < N_STAGE && strcmp(order[stage], type) != 0)
        stage++;
    if (stage == N_STAGE)
        return shoal__reader_fail(r, place,
                                  "decoder %.40s is not supported; supported: ByteLevel, "
                                  "Metaspace, Replace, ByteFallback, Fuse, Strip, Sequence",
                                  type);
    bool alone = stage <= METASPACE;
    bool fits =
        d->n_stage == 0 || (!alone && d->stage > METASPACE &&
                            (stage > d->stage || (stage == REPLACE && d->stage == REPLACE)));
    if (!fits || (stage == STRIP && (d->n_stage == 0 || d->stage != FUSE)))
        return shoal__reader_fail(r, place,
                                  "%s in this place is not supported; supported: ByteLevel or "
                                  "Metaspace alone, or Replace, ByteFallback, Fuse, Strip in this "
                                  "order (Strip behind Fuse only)",
                                  type);
    d->stage = stage;
    d->n_stage++;
    d->byte_level |= stage == BYTE_LEVEL;
    d->byte_fallback |= stage == BYTE_FALLBACK;
    if (stage == REPLACE)
        return read_decode_replace(d, part, place, r);
    if (stage == STRIP)
        return read_strip(d, part, place, r);
    if (stage == METASPACE) {
        shoal__prepend prepend;
        SHOAL_TRY(read_prepend(&prepend, part, place, r));
        d->drop_mark = prepend != SHOAL__PREPEND_NEVER;
        return read_character(d->mark, &d->n_mark, part, "replacement", place, r);
    }
    return SHOAL_OK;
}

shoal_status shoal__read_decoder(shoal_tokenizer *t, const shoal_json *doc, const shoal__reader *r)
{
    const shoal_json *decoder = shoal_json_get(doc, "decoder");
    t->detokenizer.join_spaces = decoder == NULL || shoal_json_is_null(decoder);
    return read_sequence(t, decoder, "decoders", "decoder", read_decode_step, r);
}
