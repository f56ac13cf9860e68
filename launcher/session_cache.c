/* --cache, and what is staged, in the common way of a run. */
#include "launcher/session_cache.h"

#include "runtime/checkpoint/staged.h"

#include <string.h>
#include <unistd.h>

/* True on the first rank of each host. */
static bool speaks_for_host(const shoal_session *s)
{
    for (int32_t r = 0; r < s->rank; r++)
        if (strcmp(shoal_comm_host(s->comm, r), shoal_comm_host(s->comm, s->rank)) == 0)
            return false;
    return true;
}

const char *shoal__session_model(const shoal_options *o)
{
    const bool staged =
        o->cache != NULL && access(o->model, F_OK) != 0 && shoal_staged_is_of(o->cache, o->model);
    return staged ? o->cache : o->model;
}

/* A staged model has no weights but those in DIR. */
static shoal_status check_staged(const shoal_session *s)
{
    const shoal_options *o = &s->options;
    char found[64] = "";
    for (int32_t w = SHOAL_WEIGHTS_NATIVE; w <= SHOAL_WEIGHTS_Q4; w++) {
        const char *text = shoal_weights_text((shoal_weights_choice)w);
        if (!shoal_pack_cache_has(o->cache, text, shoal_pack_identity(s->checkpoint, text)))
            continue;
        if (w == o->weights)
            return SHOAL_OK;
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s--weights %s",
                 found[0] != '\0' ? ", " : "", text);
    }
    return shoal_fail(s->log, SHOAL_NO_INPUT, "%s: is staged, but not with --weights %s; it has %s",
                      o->cache, shoal_weights_text((shoal_weights_choice)o->weights),
                      found[0] != '\0' ? found : "no weights of this state of the model");
}

shoal_status shoal__session_open_cache(shoal_session *s, int32_t n_mtp)
{
    shoal_options *o = &s->options;
    const bool staged = shoal_checkpoint_is_staged(s->checkpoint);
    if (o->cache == NULL && staged)
        o->cache = shoal_checkpoint_path(s->checkpoint);
    if (o->cache == NULL)
        return SHOAL_OK;
    if (staged)
        SHOAL_TRY(check_staged(s));
    const char *weights = shoal_weights_text((shoal_weights_choice)o->weights);
    const shoal_pack_config config = {
        .dir = o->cache,
        .identity = shoal_pack_identity(s->checkpoint, weights),
        .weights = weights,
        .model = shoal_checkpoint_origin(s->checkpoint),
        .n_layer = s->spec.n_layer + n_mtp,
        .n_expert = s->spec.router.n_expert,
        .verify = o->verify,
        .speaks = speaks_for_host(s),
    };
    return shoal_pack_cache_open(&s->cache, &config, s->log);
}
