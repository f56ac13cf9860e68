/* shoal stage: the weights of a model to where they will be used. A node is the ranks of a host
 * with the same DIR; its first rank leads it, receives (or reads) and writes for all of them, and
 * the others wait. The steps of cmd_stage.c:
 *
 *     who shares a DIR, who sees MODEL      nodes.c
 *     what it takes to open it, to all      describe.c
 *     which units are missing where         survey.c
 *     rank 0 reads, packs and sends         send.c      -> receive.c on the others
 *     or each node reads MODEL itself       shared.c
 *     both into files, in batches           store.c
 *     leaders' words to rank 0              words.c
 *     how far all are                       progress.c
 *
 * Rank 0's node is written by rank 0 while it sends. A leader says after each unit that it has it
 * (SHOAL_TAG_STAGED), which moves the progress lines and is the sender's permission to go on: no
 * node has more than two units under way. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_STAGE_STAGE_H
#define SHOAL_LAUNCHER_STAGE_STAGE_H

#include "experts/placement.h"
#include "launcher/agreement.h"
#include "launcher/bootstrap.h"
#include "runtime/base/topology.h"
#include "runtime/checkpoint/staged.h"
#include "runtime/model/model.h"
#include "runtime/model/units.h"

/* What every rank does by itself, agreed upon: rank 0 says whose failure it was, once. */
#define SHOAL__STAGE_STEP(s, what, call)                                                           \
    do {                                                                                           \
        (s)->log->capture = true;                                                                  \
        const shoal_status step_status_ = (call);                                                  \
        SHOAL_TRY(shoal_agreement_stage((s)->comm, step_status_, (what), (s)->log));               \
    } while (0)

/* A leader's word of how far it is. The last one has n_stored = all that it lacked. */
typedef struct shoal__stage_word {
    int64_t n_received; /* units that are there and have the right checksum */
    int64_t n_stored;   /* of these, in files and synced */
    uint64_t stored_bytes;
} shoal__stage_word;

typedef struct shoal__stage_node {
    int32_t leader;
    bool has_sequences; /* a rank of it holds some */
    /* On rank 0, behind the survey. */
    int64_t n_wanted, n_missing;
    uint64_t wanted_bytes, missing_bytes;
    uint8_t *missing; /* [n_unit] 1: it lacks the unit; owned */
    /* While it goes, on rank 0. */
    shoal__stage_word word;
    int64_t done_us; /* when it had all, since the transfer began; 0: not yet */
} shoal__stage_node;

typedef struct shoal__stage {
    const shoal_options *options;
    shoal_log *log;
    shoal_bootstrap bootstrap;
    shoal_comm *comm;
    int32_t rank, n_rank;
    char *dir; /* real path of --to */

    int32_t n_node;
    shoal__stage_node *node;     /* [n_node]; node 0 is rank 0's */
    int32_t *node_of_rank;       /* [n_rank] */
    shoal_request *word_request; /* [n_node] rank 0: words that are waited for, into */
    shoal__stage_word *word_in;  /* [n_node] */
    int32_t mine;                /* this rank's node */
    bool leads;
    bool shared; /* every leader reads MODEL */

    shoal_checkpoint *source;     /* MODEL where it is read, else NULL */
    shoal_checkpoint *checkpoint; /* of DIR, where MODEL is not read; else NULL */
    shoal_spec spec;
    shoal_placement placement;
    shoal_topology topology;
    shoal_pool *pool;
    shoal_units *units; /* leaders */
    int32_t n_unit;
    shoal_pack_cache *cache; /* leaders: DIR */
    uint8_t *missing;        /* [n_unit] leaders: of its own node */
    int64_t n_missing;
    uint64_t missing_bytes;

    shoal_status poll_status; /* what polls during long work have found */
    int64_t start_us;         /* of the transfer */
    int64_t drawn_us;         /* progress.c */
    int32_t n_drawn;
} shoal__stage;

/* A unit in memory, of which several may make use: who is done with it drops it. */
typedef struct shoal__stage_image {
    shoal_unit_image *image;
    uint64_t checksum;
    int32_t n_user;
    uint64_t *in_memory; /* counts the bytes of all; or NULL */
} shoal__stage_image;

/* nodes.c */
/* Make DIR, open MODEL where it can be. Rank 0 must. */
shoal_status shoal__stage_open_places(shoal__stage *s);
/* Who shares what, and whether MODEL is sent or read by all. Collective. */
shoal_status shoal__stage_find_nodes(shoal__stage *s);

/* describe.c. Collective, as each of its parts is agreed upon. */
shoal_status shoal__stage_describe(shoal__stage *s);

/* survey.c */
/* The placement, read by rank 0 and the same on all. Collective. */
shoal_status shoal__stage_place(shoal__stage *s);
/* Leaders: units, what is missing, whether there is room. */
shoal_status shoal__stage_survey(shoal__stage *s);
/* Rank 0 learns it all and says it. Collective. */
shoal_status shoal__stage_gather_missing(shoal__stage *s);
bool shoal__stage_wants(const shoal__stage *s, int32_t node, int32_t unit);
/* --verify: what is in DIR now against its checksums. */
shoal_status shoal__stage_verify(const shoal__stage *s);

/* store.c: units of one file together, up to a size. */
typedef struct shoal__stage_store {
    shoal__stage *s;
    shoal__stage_image **held; /* [n_max] */
    shoal_pack_unit *unit;     /* [n_max] */
    int32_t n_held, n_max;
    uint64_t held_bytes;
    shoal__stage_word word; /* what the leader has to say */
} shoal__stage_store;
void shoal__stage_store_open(shoal__stage_store *store, shoal__stage *s);
void shoal__stage_store_close(shoal__stage_store *store);
/* Takes the image over, also on failure. Errors: IO, NO_MEMORY. */
shoal_status shoal__stage_store_put(shoal__stage_store *store, shoal__stage_image *image);
shoal_status shoal__stage_store_flush(shoal__stage_store *store);

/* Memory for unit `index`. *in_memory (or NULL) counts it until it is dropped. */
shoal_status shoal__stage_image_open(shoal__stage_image **image, shoal__stage *s, int32_t index,
                                     uint64_t *in_memory);
/* The same, read and packed. */
shoal_status shoal__stage_image_read(shoal__stage_image **image, shoal__stage *s, int32_t index,
                                     uint64_t *in_memory);
void shoal__stage_image_drop(shoal__stage_image *image);

/* Before each unit: where this rank is (for blame and --fault), and what polls have found. */
shoal_status shoal__stage_at(shoal__stage *s, int64_t n_done, int32_t unit);

/* What precedes a unit on the wire. */
typedef struct shoal__stage_header {
    int64_t unit;
    uint64_t checksum;
} shoal__stage_header;

/* The transfer: each until its own part is done, rank 0 until all are. */
shoal_status shoal__stage_send(shoal__stage *s);    /* rank 0 */
shoal_status shoal__stage_receive(shoal__stage *s); /* other leaders */
shoal_status shoal__stage_shared(shoal__stage *s);  /* all leaders, if s->shared */

/* words.c: leaders' words, on rank 0: open the first receive of each; take what has come; wait
 * until something comes; until all are done. */
shoal_status shoal__stage_words_open(shoal__stage *s);
shoal_status shoal__stage_words_look(shoal__stage *s);
shoal_status shoal__stage_words_wait(shoal__stage *s);
shoal_status shoal__stage_words_finish(shoal__stage *s);
/* Rank 0's of its own node; of another rank, to rank 0, which gets it in the end: *request and
 * *sent are in use until then. */
shoal_status shoal__stage_word_say(shoal__stage *s, const shoal__stage_word *word,
                                   shoal_request *request, shoal__stage_word *sent);

/* progress.c: rank 0, on a terminal. */
void shoal__stage_draw(shoal__stage *s);
void shoal__stage_undraw(shoal__stage *s);
void shoal__stage_say_plan(const shoal__stage *s);
void shoal__stage_say_done(const shoal__stage *s);

/* The hook of all long work: signs of life, messages, progress. arg: shoal__stage. */
void shoal__stage_poll(void *arg);

#endif
