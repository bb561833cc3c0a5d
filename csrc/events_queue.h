/* events_queue.h: priority queue of the replies in flight, by the time they reach rank 0.
 *
 * Design note. A 4-ary heap with 16 bytes per event: half the levels of a binary one, and four children share
 * a cache line. Unused places hold NEVER, so that the least child is found without a branch. The root is
 * removed lazily: the next event pushed takes its place, and the tree is walked once for both. A walk goes
 * down to a leaf and then up (Floyd's heuristic), as most events belong near the leaves.
 *
 * With many workers the heap holds only the replies of the near future, and stays in the first-level cache.
 * Later ones are in a calendar (Brown, "Calendar queues", CACM 31, 1988): slots of equal width in time with
 * about ten workers each. The next slot is moved to the heap when the heap has nothing earlier. Writes to a
 * slot do not stall and reads are prefetched: with 100,000 workers an event costs less than twice as much as
 * with 100. Events beyond the calendar wait in its second half; those still beyond it, or for a full slot, go
 * to the heap, which accepts any event. The order therefore never depends on the slot width, which is chosen
 * by the shortest time that n / 2 replies took. If nearly all slots are empty, the calendar is given up.
 */
#ifndef PDCODE_EVENTS_QUEUE_H
#define PDCODE_EVENTS_QUEUE_H

#include "events.h"
#include "simd.h"

#define NEVER INT64_MAX
#define WANTED 16    /* events per slot to aim for */
#define REVIEWS 16     /* reviews of the rate of replies between rebuilds of the calendar ... */
#define IDLE_SLOTS 4 /* ... and turns of empty slots between two reviews before it is given up */

INLINE int64_t after(int64_t time, int64_t span)
{
    const int64_t sum = time + span;
    return sum < EVENTS_LAST ? sum : EVENTS_LAST;
}

INLINE int64_t latest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

INLINE int before(struct event a, struct event b)
{
    return (a.reach < b.reach) | ((a.reach == b.reach) & (a.key < b.key));
}

INLINE int64_t worker_of(uint64_t key)
{
    return (int64_t)(key & (((uint64_t)1 << EVENTS_WORKER_BITS) - 1));
}

INLINE void place(struct event *heap, int64_t at, struct event event)
{
    while (at > 0) {
        const int64_t parent = (at - 1) >> 2;
        if (!before(event, heap[parent]))
            break;
        heap[at] = heap[parent];
        at = parent;
    }
    heap[at] = event;
}

/* Replace the root by an event. */
INLINE void replace(struct event *heap, int64_t size, struct event event)
{
    int64_t at = 0, child = 1;
    while (child < size) {
        const struct event *c = heap + child;
        PREFETCH(heap + 4 * child + 1);
        PREFETCH(heap + 4 * child + 5);
        PREFETCH(heap + 4 * child + 9);
        PREFETCH(heap + 4 * child + 13);
        const int left = before(c[1], c[0]), right = 2 + before(c[3], c[2]);
        const int64_t least = child + (before(c[right], c[left]) ? right : left);
        heap[at] = heap[least];
        at = least;
        child = 4 * at + 1;
    }
    place(heap, at, event);
}

INLINE void heap_push(struct events *e, struct event event)
{
    if (e->hole) {
        e->hole = 0;
        replace(e->heap, e->size, event);
    } else {
        place(e->heap, e->size++, event);
    }
}

/* Fill the hole at the root with the last event. */
INLINE void repair(struct events *e)
{
    if (!e->hole)
        return;
    e->hole = 0;
    const struct event last = e->heap[--e->size];
    e->heap[e->size].reach = NEVER;
    if (e->size)
        replace(e->heap, e->size, last);
}

INLINE int64_t *delay_of(const struct events *e, int64_t worker)
{
    return e->delays + worker * e->kept + (e->flights[worker].task & (e->kept - 1));
}

INLINE struct event event_of(const struct events *e, int64_t worker)
{
    const struct in_flight *flight = e->flights + worker;
    return (struct event){after(flight->t_send, e->latency), flight->key};
}

/* File an event `ahead` slots from the next one; return 0 if that slot is full. */
INLINE int file(struct events *e, int64_t worker, int64_t ahead)
{
    const int64_t slot = (e->open + ahead) & (e->ring - 1), count = e->counts[slot];
    if (count == EVENTS_SLOT)
        return 0;
    e->slots[slot * EVENTS_SLOT + count] = (int32_t)worker;
    e->counts[slot]++;
    e->filed++;
    return 1;
}

INLINE void push(struct events *e, struct event event)
{
    if (event.reach >= e->horizon) {
        const int64_t worker = worker_of(event.key), half = e->ring / 2;
        int64_t ahead = (event.reach - e->horizon) >> e->shift;
        if (ahead >= e->ring)
            ahead = half + (worker & (half - 1));
        if (file(e, worker, ahead))
            return;
    }
    heap_push(e, event);
}

/* Move the events of the next slot to the heap. */
INLINE void open_slot(struct events *e)
{
    const int64_t slot = e->open & (e->ring - 1), next = (slot + 1) & (e->ring - 1);
    const int64_t after_next = (slot + 2) & (e->ring - 1), count = e->counts[slot];
    int32_t *workers = e->slots + slot * EVENTS_SLOT;
    PREFETCH(e->slots + after_next * EVENTS_SLOT);
    PREFETCH(e->slots + after_next * EVENTS_SLOT + EVENTS_SLOT / 2);
    for (int64_t i = 0; i < e->counts[next]; i++)
        PREFETCH(e->flights + e->slots[next * EVENTS_SLOT + i]);
    e->counts[slot] = 0;
    e->filed -= count;
    e->open++;
    e->horizon += (int64_t)1 << e->shift;
    for (int64_t i = 0; i < count; i++) {
        const struct event event = event_of(e, workers[i]);
        if (e->kept)
            PREFETCH(delay_of(e, workers[i]));
        const int64_t ahead = (event.reach - e->horizon) >> e->shift;
        if (event.reach < e->horizon || ahead >= e->ring || !file(e, workers[i], ahead))
            heap_push(e, event);
    }
}

/* Rebuild the calendar with slots of 1 << shift ns; move all events to the heap if shift is negative. */
static void refile(struct events *e, int64_t shift)
{
    for (int64_t slot = 0; slot < e->ring; e->counts[slot++] = 0)
        for (int64_t i = 0; i < e->counts[slot]; i++)
            e->heap[e->size++] = event_of(e, e->slots[slot * EVENTS_SLOT + i]);
    const int64_t count = e->size;
    e->size = e->filed = e->skipped = 0;
    e->horizon = NEVER;
    if (shift >= 0) {
        e->shift = shift;
        e->open = (e->reach >> shift) + 1;
        e->horizon = e->open << shift;
    }
    for (int64_t i = 0; i < count; i++) {
        const struct event event = e->heap[i]; /* the new heap never overtakes the old */
        push(e, event);
    }
    for (int64_t i = e->size; i < count; i++)
        e->heap[i].reach = NEVER;
}

/* Review the rate of replies, and every REVIEWS times choose the slot width by it. */
static void review(struct events *e)
{
    const int64_t half = e->workers / 2, span = e->reach - e->began;
    e->least = span < e->least ? span : e->least;
    e->began = e->reach;
    e->review = e->arrived + half;
    e->skipped = 0;
    if (e->horizon != NEVER && ++e->reviews % REVIEWS)
        return;
    int64_t shift = 0;
    while (shift < 60 && (e->least / half * WANTED) >> (shift + 1))
        shift++;
    e->least = EVENTS_LAST;
    if (e->horizon == NEVER || shift != e->shift)
        refile(e, shift);
}

/* Bring the next event to the root. */
INLINE void settle(struct events *e)
{
    repair(e);
    if (e->arrived >= e->review)
        review(e);
    while (!(e->size && e->heap[0].reach < e->horizon) && e->filed) {
        for (; !e->counts[e->open & (e->ring - 1)]; e->horizon += (int64_t)1 << e->shift)
            e->open++, e->skipped++;
        if (e->skipped > IDLE_SLOTS * e->ring)
            refile(e, -1); /* until the next review */
        else
            open_slot(e);
    }
    if (e->size && e->heap[0].reach >= e->horizon) { /* the calendar is empty: restart it here */
        e->open = (e->heap[0].reach >> e->shift) + 1;
        e->horizon = e->open << e->shift;
    }
}

#endif
