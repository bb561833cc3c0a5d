/* events.h: event queue of the virtual clock: arrivals of tasks at workers and of replies at rank 0. */
#ifndef PDCODE_EVENTS_H
#define PDCODE_EVENTS_H

#include <stddef.h>
#include <stdint.h>

#define EVENTS_WORKER_BITS 24                /* of a key: the worker; the rest: number of the dispatch */
#define EVENTS_LAST (((int64_t)1 << 62) - 1) /* ns: the end of time, 146 years */
#define EVENTS_SLOT 32                       /* room of a slot: two cache lines */
#define EVENTS_MEDIUM 2                      /* value of `tree`: all hear a body at once */

enum { IDLE, OUT, DEAD, CANCELLED }; /* state of a worker; only OUT and CANCELLED have a reply */

/* A worker's task in flight: one cache line. */
struct in_flight {
    int64_t t_dispatch, t_start, t_compute, t_send; /* ns; t_send is -1 while the worker is dead */
    int64_t version, task;                          /* for rounds.c only; task: number of the next one */
    uint64_t key;                                   /* number of the dispatch, worker */
    int64_t state;
};

struct event {
    int64_t reach; /* ns: time at which the reply reaches rank 0's link */
    uint64_t key;
};

/* Buffers are owned by the caller. */
struct events {
    struct event *heap; /* (workers + 4): children begin a cache line; beyond `size` reach is INT64_MAX */
    struct in_flight *flights;       /* (workers) */
    int64_t workers, size, dead;     /* size: of the heap; dead: dead workers with a task */
    int64_t hole;                    /* 1: the root is removed */
    int32_t *slots;                  /* (ring, EVENTS_SLOT): workers; the calendar of later events */
    uint8_t *counts;                 /* (ring): workers in a slot; zeros */
    int64_t ring, shift;             /* slots, a power of two, or 0: no calendar; 1 << shift ns each */
    int64_t open, horizon;           /* next slot to open; ns: its start; earlier events are in the heap */
    int64_t filed, skipped;          /* events in the calendar; empty slots since the last review */
    int64_t reach, began, least;     /* ns: last reply; last review; shortest time between reviews */
    int64_t review, reviews;         /* replies at the next review; number of reviews */
    int64_t *delays;                 /* for rounds.c only: (workers, kept), ns; task t at t % kept */
    int64_t kept;                    /* a power of two; 0 without rounds.c */
    int64_t now, in_free, out_free;  /* ns: times at which rank 0's processor and links are free */
    struct event *inbox;             /* half duplex: (workers), a ring of replies past the link ... */
    int64_t oldest, held;            /* ... (time in `reach`), not yet received; first, count */
    int64_t ingress, egress, t_recv; /* ns: busy times; time of the last reply */
    int64_t dispatched, arrived;     /* tasks, replies */
    int64_t up, latency, arrival, dispatch, update; /* ns; up: a reply on the link */
    int64_t *ups, *arrivals;         /* (workers): `up` and `arrival` by worker if they differ; else NULL */
    int64_t half_duplex, tree, fanout; /* tree: 0, 1, or EVENTS_MEDIUM: a body is heard by all at once */
    int64_t *heard, *spoken; /* (workers): times at which a worker has received and sent its payloads; ... */
    uint8_t *deaf;           /* ... whether the others send it none; all NULL if none are exchanged */
    int64_t peer;            /* ns: such a payload on a worker's link */
};

/* ns on the link: common body of a batch, bytes specific to a worker, both, a piece in the tree. */
struct parts {
    int64_t body, own, both, piece;
};

void events_begin(struct events *e);
void events_send(struct events *e, const struct parts *parts, ptrdiff_t count, const int32_t *workers,
                 const int64_t *compute, const int64_t *delay);
void events_follow(struct events *e, int64_t worker, int64_t compute, int64_t delay);
int64_t events_pop(struct events *e, int64_t limit);
void events_cancel(struct events *e, int cut);
void events_postpone(struct events *e, int64_t worker, int64_t start, int64_t compute, int64_t send);
void events_step(struct events *e);
void events_put(struct events *e, int64_t worker);

#endif
