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

/* How long the reply of an event is on the link. */
INLINE int64_t up_of(const struct events *e, struct event event)
{
    return e->ups ? e->ups[worker_of(event.key)] : e->up;
}

/* When the next reply is received, NEVER if none is to come. */
INLINE int64_t next_recv(struct events *e)
{
    if (e->held)
        return latest(e->inbox[e->oldest].reach, e->now);
    settle(e);
    if (!e->size)
        return NEVER;
    return latest(after(latest(e->in_free, e->heap[0].reach), up_of(e, e->heap[0])), e->now);
}

/* Whose it is; only after next_recv. */
INLINE int64_t next_worker(const struct events *e)
{
    return worker_of(e->held ? e->inbox[e->oldest].key : e->heap[0].key);
}

/* Let the reply at the root pass the link; in `reach` of what is returned: until when. */
INLINE struct event admit(struct events *e)
{
    const struct event event = e->heap[0];
    const int64_t up = up_of(e, event);
    e->in_free = after(latest(e->in_free, event.reach), up);
    if (e->half_duplex)
        e->out_free = e->in_free;
    e->ingress = after(e->ingress, up);
    e->reach = event.reach;
    e->hole = 1;
    return (struct event){e->in_free, event.key};
}

/* Receive the next reply, at the time that next_recv gave. */
INLINE int64_t receive(struct events *e, int64_t t_recv)
{
    uint64_t key;
    if (e->held) {
        key = e->inbox[e->oldest].key;
        e->oldest = e->oldest + 1 < e->workers ? e->oldest + 1 : 0;
        e->held--;
    } else {
        key = admit(e).key;
    }
    e->t_recv = t_recv;
    e->now = after(t_recv, e->arrival);
    e->arrived++;
    const int64_t worker = worker_of(key);
    e->errands[worker].state = IDLE;
    return worker;
}

/* Half duplex: before rank 0 sends, its link takes in the replies that begin to pass it before that. */
static void listen(struct events *e)
{
    for (settle(e); e->size && latest(e->in_free, e->heap[0].reach) < e->now; settle(e)) {
        const int64_t place = e->oldest + e->held++;
        e->inbox[place < e->workers ? place : place - e->workers] = admit(e);
    }
}

/* Rank 0's processor has dealt with so many tasks; then the link is free to send. */
INLINE void turn_to(struct events *e, int64_t count)
{
    e->now = after(e->now, scaled(e->dispatch, count));
    if (e->half_duplex)
        listen(e);
    e->out_free = latest(e->out_free, e->now);
}

/* The link sends for so long. */
INLINE void emit(struct events *e, int64_t span)
{
    e->out_free = after(e->out_free, span);
    e->egress = after(e->egress, span);
    if (e->half_duplex)
        e->in_free = e->out_free;
}

/* Tasks that leave together. */
struct wave {
    int64_t begin;              /* ns: rank 0 turns to them */
    int64_t level, left, width; /* the tree's level: when the body is there; workers yet to come; all */
    int64_t ready;              /* tasks that the processor has dealt with already */
    int64_t deeper;             /* ns between two levels */
    int tree;
};

INLINE struct wave set_out(struct events *e, const struct parts *parts, int64_t count)
{
    struct wave wave = {e->now, 0, 0, 0, 0, 0, e->tree && count > 1};
    if (wave.tree) {
        const int64_t fanout = e->fanout < count ? e->fanout : count, bodies = scaled(parts->body, fanout);
        turn_to(e, fanout); /* the body needs no more, and does not wait for the others */
        emit(e, bodies);
        wave.level = after(e->out_free, e->latency);
        wave.ready = wave.left = wave.width = fanout;
        wave.deeper = after(e->latency, scaled(parts->piece, fanout));
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
    }
    if (wave->ready > 0)
        wave->ready--;
    else
        turn_to(e, 1);
    emit(e, wave->tree ? parts->own : parts->both);
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

/* A dead worker replies after all, as soon as it has computed. */
INLINE void cancel(struct events *e, int64_t worker)
{
    struct errand *errand = e->errands + worker;
    errand->t_send = latest(e->now, errand->t_compute);
    errand->state = CANCELLED;
    e->dead--;
    enter(e, event_of(e, worker));
}

#endif
