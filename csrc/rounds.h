/* rounds.h: the coordinator's loop without its numerics, on the virtual clock of events.h. */
#ifndef PDCODE_ROUNDS_H
#define PDCODE_ROUNDS_H

#include "events.h"

enum { ROUNDS_DONE, ROUNDS_DRY, ROUNDS_FULL, ROUNDS_PAUSED, ROUNDS_STUCK }; /* why rounds_run returns */
enum { USED, WASTED, DRAINED };                                             /* status of an arrival */

#define ROUNDS_ARRIVAL 13 /* numbers of a recorded arrival */
#define ROUNDS_UPDATE 3   /* and of an update */
#define ROUNDS_MARK 64    /* workers a word of `marks` */

#define ROUNDS_DRAW INT64_MIN /* in place of a delay that is to be drawn */

/* The buffers are the caller's. */
struct rounds {
    struct events *events;
    struct parts parts;
    const int64_t *compute; /* (1) or (workers): ns of a task ... */
    int64_t compute_step;   /* ... and the step from worker to worker */
    int32_t *waiting;       /* (workers): those without a task, in order of arrival */
    uint64_t *marks;        /* (workers / 64, rounded up): zeros */
    int64_t idle, first;    /* how many wait; all from the first on are to be sent a task */
    int64_t wanted, waste;  /* payloads of an update; 1: late ones are not used */
    int64_t updates, until; /* the end, in updates and in ns */
    int64_t version, fresh; /* updates; payloads since the last */
    int64_t stopping, stop; /* 1: the run is over; ns: since when */
    int64_t outcomes[3];    /* arrivals by their status */
    int64_t every, room;    /* record each worker's every so many tasks, 0: none; rows there are */
    int64_t rows, steps;    /* recorded arrivals and updates */
    int64_t *arrivals;      /* (room, ROUNDS_ARRIVAL) */
    int64_t *steps_made;    /* (room, ROUNDS_UPDATE) */
};


int rounds_run(struct rounds *r, int64_t most);

#endif
