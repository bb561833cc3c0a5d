/* rounds.h: timing-only coordinator loop on the virtual clock of events.h. */
#ifndef PDCODE_ROUNDS_H
#define PDCODE_ROUNDS_H

#include "events.h"

enum { ROUNDS_DONE, ROUNDS_DRY, ROUNDS_FULL, ROUNDS_PAUSED, ROUNDS_STUCK }; /* why rounds_run returns */
enum { USED, WASTED, DRAINED };                                             /* status of an arrival */

#define ROUNDS_ARRIVAL 13 /* columns of a recorded arrival */
#define ROUNDS_UPDATE 3   /* and of an update */
#define ROUNDS_MARK 64    /* workers per word of `marks` */

#define ROUNDS_DRAW INT64_MIN /* marks a delay still to be drawn */

/* Buffers are owned by the caller. */
struct rounds {
    struct events *events;
    struct parts parts;
    const int64_t *compute; /* (1) or (workers): ns of a task ... */
    int64_t compute_step;   /* ... and the step from worker to worker */
    int32_t *waiting;       /* (workers): idle workers in order of arrival */
    uint64_t *marks;        /* (workers / 64, rounded up): zeros */
    int64_t idle, first;    /* number of idle workers; workers from `first` on get a task next */
    int64_t wanted, waste;  /* payloads per update; 1: stale ones are dropped */
    int64_t updates, until; /* end of the run, in updates and in ns; later, of the wait for its last tasks */
    int64_t drain;          /* ns: longest such wait */
    int64_t version, fresh; /* updates; payloads since the last */
    int64_t stopping, stop; /* 1: the run is over; ns: time of its end */
    int64_t outcomes[3];    /* arrivals by their status */
    int64_t every, room;    /* record every `every`-th task of a worker, 0: none; rows of the buffers */
    int64_t rows, steps;    /* recorded arrivals and updates */
    int64_t *arrivals;      /* (room, ROUNDS_ARRIVAL) */
    int64_t *steps_made;    /* (room, ROUNDS_UPDATE) */
};


int rounds_run(struct rounds *r, int64_t most);

#endif
