/* events_link.h: rank 0's processor and links, inlined into events.c and rounds.c.
 *
 * Design note. Every time is a sum or a maximum of others: a few instructions, and nothing is read but the
 * worker's own cache line. Sums stop at the end of time, so that no input overflows.
 */
#ifndef PDCODE_EVENTS_LINK_H
#define PDCODE_EVENTS_LINK_H

#include "events_queue.h"

INLINE int64_t scaled(int64_t span, int64_t count)
{
    return count && span > EVENTS_LAST / count ? EVENTS_LAST : span * count;
}

/* When the next reply is received, NEVER if none is to come. */
INLINE int64_t next_recv(struct events *e)
{
    settle(e);
    if (!e->size)
        return NEVER;
    return latest(after(latest(e->in_free, e->heap[0].reach), e->up), e->now);
}

/* Receive the next reply, at the time that next_recv gave. */
INLINE int64_t receive(struct events *e, int64_t t_recv)
{
    const struct event event = e->heap[0];
    e->in_free = after(latest(e->in_free, event.reach), e->up);
    if (e->half_duplex)
        e->out_free = e->in_free;
    e->ingress = after(e->ingress, e->up);
    e->t_recv = t_recv;
    e->now = after(t_recv, e->arrival);
    e->arrived++;
    e->reach = event.reach;
    e->hole = 1;
    const int64_t worker = worker_of(event.key);
    e->errands[worker].state = IDLE;
    return worker;
}

/* Tasks that leave together. */
struct wave {
    int64_t begin;              /* ns: rank 0 turns to them */
    int64_t level, left, width; /* the tree's level: when the body is there; workers yet to come; all */
    int64_t deeper;             /* ns between two levels */
    int tree;
};

INLINE struct wave set_out(struct events *e, const struct parts *parts, int64_t count)
{
    struct wave wave = {e->now, 0, 0, 0, 0, e->tree && count > 1};
    if (wave.tree) {
        const int64_t fanout = e->fanout < count ? e->fanout : count, bodies = scaled(parts->body, fanout);
        e->now = after(e->now, scaled(e->dispatch, count));
        e->out_free = after(latest(e->out_free, e->now), bodies);
        e->egress = after(e->egress, bodies);
        wave.level = after(e->out_free, e->latency);
        wave.left = wave.width = fanout;
        wave.deeper = after(e->latency, scaled(parts->piece, fanout));
        if (e->half_duplex)
            e->in_free = e->out_free;
    }
    return wave;
}

/* The next task of a wave leaves for `worker`. */
INLINE void leave(struct events *e, struct wave *wave, const struct parts *parts, int64_t worker,
                  int64_t compute, int64_t delay)
{
    struct errand *errand = e->errands + worker;
    int64_t there = 0;
    if (wave->tree) {
        if (wave->left-- == 0) {
            wave->width = scaled(wave->width, e->fanout);
            wave->left = wave->width - 1;
            wave->level = after(wave->level, wave->deeper);
        }
        there = wave->level;
    } else {
        e->now = after(e->now, e->dispatch);
        e->out_free = latest(e->out_free, e->now);
    }
    const int64_t own = wave->tree ? parts->own : parts->both;
    e->out_free = after(e->out_free, own);
    e->egress = after(e->egress, own);
    if (e->half_duplex)
        e->in_free = e->out_free;
    errand->t_dispatch = wave->begin;
    errand->t_start = latest(there, after(e->out_free, e->latency));
    errand->t_compute = after(errand->t_start, compute);
    errand->key = (uint64_t)e->dispatched++ << EVENTS_WORKER_BITS | (uint64_t)worker;
    if (delay < 0) {
        errand->t_send = -1;
        errand->state = DEAD;
        e->dead++;
    } else {
        errand->t_send = after(errand->t_compute, delay);
        errand->state = OUT;
        enter(e, event_of(e, worker));
    }
}

/* A dead worker replies after all. */
INLINE void recall(struct events *e, int64_t worker)
{
    struct errand *errand = e->errands + worker;
    errand->t_send = e->now;
    errand->state = RECALLED;
    e->dead--;
    enter(e, event_of(e, worker));
}

#endif
