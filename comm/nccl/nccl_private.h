/* What the files of comm/nccl share: the transport's struct, between library.c (dlopen), bringup.c
 * (the communicator's life), nccl.c (the transport's operations), hops.c (notes, groups) and
 * trouble.c (reports, blame). Layering: private to comm/nccl and its tests. */
#ifndef SHOAL_COMM_NCCL_NCCL_PRIVATE_H
#define SHOAL_COMM_NCCL_NCCL_PRIVATE_H

#include "comm/idler.h"
#include "comm/nccl/abi.h"
#include "comm/nccl/nccl.h"

/* Hops that are closed and not done: a step has four parts at most, each with up to two hops on
 * their way (dispatch, results). As many events are needed of the device. */
#define SHOAL__NCCL_HOPS     SHOAL_SIDE_MARKS
#define SHOAL__NCCL_NOTE_MAX 40 /* bytes of a message that travel in its note */

/* How a dispatch message comes. */
typedef enum shoal__nccl_path {
    SHOAL__NCCL_IN_NOTE = 1,
    SHOAL__NCCL_BY_MPI,
    SHOAL__NCCL_BY_GROUP,
} shoal__nccl_path;

typedef struct shoal__nccl_note { /* on the wire, little-endian */
    uint64_t n_bytes;
    uint64_t hop;
    uint32_t path;
    uint32_t pad;
    unsigned char data[SHOAL__NCCL_NOTE_MAX];
} shoal__nccl_note;

_Static_assert(sizeof(shoal__nccl_note) == 64, "a note is 64 bytes on the wire");

typedef enum shoal__nccl_state {
    SHOAL__NCCL_FREE,
    SHOAL__NCCL_NOTED,   /* sent: its note is on the way. Received: its note is awaited */
    SHOAL__NCCL_PAYLOAD, /* its bytes travel by MPI */
    SHOAL__NCCL_READY,   /* awaits its group, or is in it */
    SHOAL__NCCL_DONE,    /* its request's next test says so */
} shoal__nccl_state;

/* A message of the exchange that is not the inner transport's alone. */
typedef struct shoal__nccl_message {
    shoal__nccl_state state;
    bool is_recv;
    bool noted; /* it has a note */
    bool in_hop;
    int32_t peer;
    int32_t tag;
    void *data;
    size_t capacity; /* of a receive */
    size_t n_bytes;
    uint64_t hop;  /* if in_hop */
    uint64_t mark; /* what stands at the end of data until it has come */
    shoal__nccl_note note;
    shoal_request note_request, payload_request; /* the inner transport's */
    struct shoal__nccl_message *next;            /* of the live ones, oldest first; or free ones */
} shoal__nccl_message;

typedef enum shoal__nccl_hop_state {
    SHOAL__NCCL_HOP_CLOSED,   /* its messages are known, perhaps not all sizes */
    SHOAL__NCCL_HOP_STARTING, /* its group is ended, but still in progress */
    SHOAL__NCCL_HOP_MOVING,   /* on the stream */
} shoal__nccl_hop_state;

typedef struct shoal__nccl_hop {
    shoal__nccl_hop_state state;
    bool empty;       /* it needs no group */
    int64_t start_us; /* when its group was started */
} shoal__nccl_hop;

/* How far a rank is, told when it waits for a group for long (trouble.c). */
typedef struct shoal__nccl_report { /* on the wire, little-endian */
    uint64_t n_started;             /* hops whose groups are started */
    uint64_t n_done;
    int64_t since_us;  /* how long its oldest group has been under way */
    uint32_t awaits;   /* 1: in its oldest group your message has not come */
    uint32_t broken;   /* shoal__nccl_result that ended its communicator; 0: none */
    uint32_t moves;    /* 1: with another rank its oldest group has got on */
    uint32_t question; /* 1: answer with yours */
} shoal__nccl_report;

_Static_assert(sizeof(shoal__nccl_report) == 40, "a report is 40 bytes on the wire");

/* What this rank knows of another one in trouble. */
typedef struct shoal__nccl_peer {
    shoal__nccl_report heard; /* the last one */
    int64_t heard_us;         /* 0: never */
    int64_t told_us;          /* when this rank reported to it last */
    shoal__nccl_report told;
    shoal_request told_request;
} shoal__nccl_peer;

struct shoal_nccl {
    shoal_transport base; /* once in use */
    shoal_transport *inner;
    shoal_log *log;
    shoal_device *device;
    void *stream; /* the device's side stream */
    shoal__nccl_api api;
    int32_t version;
    char version_text[16];
    shoal__nccl_comm *comm; /* NULL: not joined, or aborted */
    size_t over_bytes;
    shoal_idler idler;
    bool mute;    /* injected fault: what is sent vanishes */
    bool stopped; /* after a failure only the transport inside goes on, to tell the others */

    /* hops.c */
    int32_t n_message;            /* that there is room for */
    shoal__nccl_message *message; /* [n_message] */
    shoal__nccl_message *free, *live, **live_end;
    shoal__nccl_hop hop[SHOAL__NCCL_HOPS];        /* of hop k: k % SHOAL__NCCL_HOPS */
    uint64_t n_closed, n_ended, n_placed, n_done; /* hops closed >= ended >= placed >= done */

    /* trouble.c */
    int64_t deadline_us, interval_us;
    int64_t next_look_us;
    shoal__nccl_result broken; /* SUCCESS: it works */
    int64_t broken_us;
    char broken_text[320];
    shoal__nccl_peer *peer;   /* [n_rank] */
    shoal__nccl_report heard; /* buffer of the one receive that is always open */
    shoal_request heard_request;
};

/* library.c. Errors: UNAVAILABLE. */
shoal_status shoal__nccl_load(shoal_nccl *t, const char *library);
/* "2.21.5" */
const char *shoal__nccl_version_text(char text[16], int32_t version);
/* "unhandled system error (what NCCL says of it)" */
const char *shoal__nccl_text(char text[256], const shoal_nccl *t, shoal__nccl_result result);

/* What has become of the communicator: IN_PROGRESS while it is at work, or its error. */
shoal__nccl_result shoal__nccl_look(const shoal_nccl *t);

/* bringup.c. Abort the communicator if there is one, waiting for 2 s at most. */
void shoal__nccl_abort(shoal_nccl *t);
/* Finalise and destroy it, after all ranks have said that they are through. */
void shoal__nccl_destroy(shoal_nccl *t);

/* nccl.c */
extern const shoal_transport_ops shoal__nccl_ops;

/* hops.c */
bool shoal__nccl_takes(const shoal_nccl *t, const shoal_request *r);
shoal_status shoal__nccl_message_start(shoal_nccl *t, shoal_request *r);
shoal_status shoal__nccl_hop_close(shoal_nccl *t, shoal_request *const list[2], int32_t n);
void shoal__nccl_message_release(shoal_nccl *t, shoal__nccl_message *m);
/* READY, and of this hop. */
bool shoal__nccl_is_in_group(const shoal__nccl_message *m, uint64_t hop);
/* Notes are read, groups started, finished ones found. */
shoal_status shoal__nccl_progress(shoal_nccl *t);

/* trouble.c. The first when the transport is in use. */
shoal_status shoal__nccl_trouble_open(shoal_nccl *t);
void shoal__nccl_trouble_close(shoal_nccl *t);
/* Reads reports, answers, and looks for who is to blame, now and then; cheap in between. Errors:
 * PEER_LOST with base.loss set. */
shoal_status shoal__nccl_trouble_look(shoal_nccl *t, int64_t now_us);
/* Mark where a message will end, so that one can tell later whether it has come. */
void shoal__nccl_mark(shoal__nccl_message *m);
/* A call gave an error, or the communicator has one. Errors: PEER_LOST if it is this rank's own;
 * OK: it may be another's, and that will show. */
shoal_status shoal__nccl_break(shoal_nccl *t, shoal__nccl_result result, const char *what);

#endif
