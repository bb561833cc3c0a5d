/* events_link.h: rank 0's processor and links, inlined into events.c and rounds.c.
 *
 * Design note. Every time is a sum or a maximum of others: a few instructions, which read only the worker's
 * own cache line. Sums saturate at EVENTS_LAST, so no input overflows.
 */
#ifndef PDCODE_EVENTS_LINK_H
#define PDCODE_EVENTS_LINK_H

#include "events_queue.h"

INLINE int64_t scaled(int64_t span, int64_t count)
{
    return count && span > EVENTS_LAST / count ? EVENTS_LAST : span * count;
}

/* Time of an event's reply on the link. */
INLINE int64_t up_of(const struct events *e, struct event event)
{
    return e->ups ? e->ups[worker_of(event.key)] : e->up;
}

/* Time that a worker's reply takes the processor. */
INLINE int64_t arrival_of(const struct events *e, int64_t worker)
{
    return e->arrivals ? e->arrivals[worker] : e->arrival;
}

/* Time at which the next reply is received; NEVER if there is none. */
INLINE int64_t next_recv(struct events *e)
{
    if (e->held)
        return latest(e->inbox[e->oldest].reach, e->now);
    settle(e);
    if (!e->size)
        return NEVER;
    return latest(after(latest(e->in_free, e->heap[0].reach), up_of(e, e->heap[0])), e->now);
}

/* Its worker; call after next_recv. */
INLINE int64_t next_worker(const struct events *e)
{
    return worker_of(e->held ? e->inbox[e->oldest].key : e->heap[0].key);
}

/* Pass the reply at the root through the link; return it with the end of the transfer in `reach`. */
INLINE struct event pass_link(struct events *e)
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

/* A worker sends the reply that rank 0 has received to the other workers, too, one after the other. */
static void spread(struct events *e, int64_t worker)
{
    const int64_t peer = e->peer;
    int64_t out = latest(e->flights[worker].t_send, e->spoken[worker]);
    out = after(out, e->ups ? e->ups[worker] : e->up); /* rank 0's copy is the first */
    for (int64_t step = 1; step < e->workers; step++) {
        const int64_t to = worker + step < e->workers ? worker + step : worker + step - e->workers;
        if (e->deaf[to])
            continue;
        e->heard[to] = after(latest(e->heard[to], after(out, e->latency)), peer);
        out = after(out, peer);
    }
    e->spoken[worker] = latest(e->spoken[worker], out);
}

/* Receive the next reply at the time from next_recv; return its worker. */
INLINE int64_t receive(struct events *e, int64_t t_recv)
{
    uint64_t key;
    if (e->held) {
        key = e->inbox[e->oldest].key;
        e->oldest = e->oldest + 1 < e->workers ? e->oldest + 1 : 0;
        e->held--;
    } else {
        key = pass_link(e).key;
    }
    e->t_recv = t_recv;
    const int64_t worker = worker_of(key);
    e->now = after(t_recv, arrival_of(e, worker));
    e->arrived++;
    e->flights[worker].state = IDLE;
    if (e->heard)
        spread(e, worker);
    return worker;
}

/* Half duplex: before rank 0 sends, pass the replies whose transfer begins earlier. */
static void listen(struct events *e)
{
    for (settle(e); e->size && latest(e->in_free, e->heap[0].reach) < e->now; settle(e)) {
        const int64_t place = e->oldest + e->held++;
        e->inbox[place < e->workers ? place : place - e->workers] = pass_link(e);
    }
}

/* Spend the processor's time on `count` tasks, after which the link may send. */
INLINE void turn_to(struct events *e, int64_t count)
{
    e->now = after(e->now, scaled(e->dispatch, count));
    if (e->half_duplex)
        listen(e);
    e->out_free = latest(e->out_free, e->now);
}

/* Occupy the link by sending for `span`. */
INLINE void emit(struct events *e, int64_t span)
{
    e->out_free = after(e->out_free, span);
    e->egress = after(e->egress, span);
    if (e->half_duplex)
        e->in_free = e->out_free;
}

/* Tasks that are sent together. */
struct batch {
    int64_t begin;              /* ns: start of their dispatch */
    int64_t level, left, width; /* current level of the tree: arrival of the body; workers left; workers */
    int64_t ready;              /* tasks already dispatched by the processor */
    int64_t deeper;             /* ns between two levels */
    int tree;
};

INLINE struct batch set_out(struct events *e, const struct parts *parts, int64_t count)
{
    struct batch batch = {e->now, 0, 0, 0, 0, 0, e->tree && count > 1};
    if (batch.tree) {
        const int64_t fanout = e->fanout < count ? e->fanout : count, bodies = scaled(parts->body, fanout);
        turn_to(e, fanout); /* the body waits for these tasks only */
        emit(e, bodies);
        batch.level = after(e->out_free, e->latency);
        batch.ready = batch.left = batch.width = fanout;
        batch.deeper = e->tree == EVENTS_MEDIUM ? 0 : after(e->latency, scaled(parts->piece, fanout));
    }
    return batch;
}

/* Send the next task of a batch to `worker`. */
INLINE void send_one(struct events *e, struct batch *batch, const struct parts *parts, int64_t worker,
                  int64_t compute, int64_t delay)
{
    struct in_flight *flight = e->flights + worker;
    int64_t there = 0;
    if (batch->tree) {
        if (batch->left-- == 0) {
            batch->width = scaled(batch->width, e->fanout);
            batch->left = batch->width - 1;
            batch->level = after(batch->level, batch->deeper);
        }
        there = batch->level;
    }
    if (batch->ready > 0)
        batch->ready--;
    else
        turn_to(e, 1);
    emit(e, batch->tree ? parts->own : parts->both);
    flight->t_dispatch = batch->begin;
    flight->t_start = latest(there, after(e->out_free, e->latency));
    if (e->heard)
        flight->t_start = latest(flight->t_start, e->heard[worker]);
    flight->t_compute = after(flight->t_start, compute);
    flight->key = (uint64_t)e->dispatched++ << EVENTS_WORKER_BITS | (uint64_t)worker;
    if (delay < 0) {
        flight->t_send = -1;
        flight->state = DEAD;
        e->dead++;
    } else {
        flight->t_send = after(flight->t_compute, delay);
        if (e->heard)
            flight->t_send = latest(flight->t_send, e->spoken[worker]);
        flight->state = OUT;
        push(e, event_of(e, worker));
    }
}

/* Make the workers reply as soon as they have computed: dead ones, and with `cut` workers in their delay. */
static void cancel(struct events *e, int cut)
{
    if (cut) {
        repair(e);
        refile(e, -1); /* to the heap, which is rebuilt in place */
        const int64_t count = e->size;
        e->size = 0;
        for (int64_t i = 0; i < count; i++) {
            const int64_t worker = worker_of(e->heap[i].key);
            struct in_flight *flight = e->flights + worker;
            const int64_t soonest = latest(e->now, flight->t_compute);
            flight->t_send = flight->t_send < soonest ? flight->t_send : soonest;
            place(e->heap, e->size++, event_of(e, worker));
        }
    }
    for (int64_t worker = 0; e->dead && worker < e->workers; worker++) {
        struct in_flight *flight = e->flights + worker;
        if (flight->state != DEAD)
            continue;
        flight->t_send = latest(e->now, flight->t_compute);
        flight->state = CANCELLED;
        e->dead--;
        push(e, event_of(e, worker));
    }
}

#endif
