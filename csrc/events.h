/* events.h: when tasks reach workers and replies reach rank 0, on a virtual clock. */
#ifndef PDCODE_EVENTS_H
#define PDCODE_EVENTS_H

#include <stddef.h>
#include <stdint.h>

#define EVENTS_WORKER_BITS 24                /* of a key: the worker; the others: number of the dispatch */
#define EVENTS_LAST (((int64_t)1 << 62) - 1) /* ns: the end of time, 146 years */
#define EVENTS_SLOT 32                       /* room of a slot: two cache lines */

enum { IDLE, OUT, DEAD, CANCELLED }; /* state of a worker; replies come from the second and the last */

/* One worker and its task: a cache line. */
struct errand {
    int64_t t_dispatch, t_start, t_compute, t_send; /* ns; t_send is -1 while the worker is dead */
    int64_t version, task;                          /* of the loop in rounds.c alone; task: of the next one */
    uint64_t key;                                   /* number of the dispatch, worker */
    int64_t state;
};

struct event {
    int64_t reach; /* ns: the reply is at rank 0's link */
    uint64_t key;
};

/* The buffers are the caller's. */
struct events {
    struct event *heap; /* (workers + 4): children begin a cache line; beyond `size` reach is INT64_MAX */
    struct errand *errands;          /* (workers) */
    int64_t workers, size, dead;     /* in the heap; dead workers with a task */
    int64_t hole;                    /* 1: the root has been taken out */
    int32_t *slots;                  /* (ring, EVENTS_SLOT): workers; the calendar of what comes later */
    uint8_t *counts;                 /* (ring): workers in a slot; zeros */
    int64_t ring, shift;             /* slots, a power of two, or 0: no calendar; 1 << shift ns each */
    int64_t open, horizon;           /* slot that is opened next; ns: its begin; all before is in the heap */
    int64_t filed, skipped;          /* events in the calendar; empty slots since the last look */
    int64_t reach, began, least;     /* ns: of the last reply; at the last look; the least between two */
    int64_t look, looks;             /* replies until the next look; looks made */
    int64_t *delays;                 /* of rounds.c alone: (workers, kept), ns of task t at t % kept */
    int64_t kept;                    /* a power of two; 0 without that loop */
    int64_t now, in_free, out_free;  /* ns: rank 0's processor and links are free from then on */
    struct event *inbox;             /* half duplex: (workers), a ring of replies that passed the link ... */
    int64_t oldest, held;            /* ... since when (in `reach`), but were not taken in; first, count */
    int64_t ingress, egress, t_recv; /* ns: busy times; time of the last reply */
    int64_t dispatched, arrived;     /* tasks, replies */
    int64_t up, latency, arrival, dispatch, update; /* ns; up: of a reply on the link */
    int64_t *ups;                    /* (workers): of each one's reply, where they differ; else NULL */
    int64_t half_duplex, tree, fanout;
};

/* ns on the link: what tasks that leave together share, what is a worker's own, both, a piece in the tree. */
struct parts {
    int64_t body, own, both, piece;
};

void events_begin(struct events *e);
void events_send(struct events *e, const struct parts *parts, ptrdiff_t count, const int32_t *workers,
                 const int64_t *compute, const int64_t *delay);
int64_t events_pop(struct events *e, int64_t limit);
void events_cancel(struct events *e, int64_t worker);
void events_step(struct events *e);

#endif
