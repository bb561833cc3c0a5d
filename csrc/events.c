/* events.c: the virtual clock: rank 0's processor and links, and the replies in flight.
 *
 * Design note. The model is in events_link.h and its queue in events_queue.h, both shared with rounds.c. This
 * file exports the single operations, for schedules driven from Python.
 */
#include "events_link.h"

void events_begin(struct events *e)
{
    for (int64_t i = 0; i < e->workers + 4; i++)
        e->heap[i] = (struct event){NEVER, 0};
    e->horizon = NEVER; /* all events go to the heap at first */
    e->least = EVENTS_LAST;
    e->review = e->ring ? e->workers / 2 : NEVER;
}

void events_send(struct events *e, const struct parts *parts, ptrdiff_t count, const int32_t *workers,
                 const int64_t *compute, const int64_t *delay)
{
    struct batch batch = set_out(e, parts, count);
    for (ptrdiff_t i = 0; i < count; i++)
        send_one(e, &batch, parts, workers[i], compute[i], delay[i]);
}

/* An idle worker begins another reply to its last task, where the reply before ended. */
void events_follow(struct events *e, int64_t worker, int64_t compute, int64_t delay)
{
    struct in_flight *flight = e->flights + worker;
    flight->t_start = flight->t_send;
    flight->t_compute = after(flight->t_start, compute);
    flight->t_send = after(flight->t_compute, delay);
    flight->key = (uint64_t)e->dispatched++ << EVENTS_WORKER_BITS | (uint64_t)worker;
    flight->state = OUT;
    push(e, event_of(e, worker));
}

/* Receive the next reply, return its worker; at the limit without one, advance to it and return -1. */
int64_t events_pop(struct events *e, int64_t limit)
{
    const int64_t t_recv = next_recv(e);
    if (t_recv > limit || t_recv == NEVER) {
        if (limit < EVENTS_LAST)
            e->now = latest(e->now, limit);
        return -1;
    }
    return receive(e, t_recv);
}

void events_cancel(struct events *e, int cut)
{
    cancel(e, cut);
}

/* Take an event out; return 0 if it is not there. Takes time in proportion to the events. */
static int withdraw(struct events *e, uint64_t key)
{
    repair(e);
    refile(e, -1); /* to the heap, which is rebuilt in place */
    const int64_t count = e->size;
    e->size = 0;
    for (int64_t i = 0; i < count; i++) {
        const struct event event = e->heap[i];
        if (event.key != key)
            place(e->heap, e->size++, event);
    }
    if (e->size == count)
        return 0;
    e->heap[e->size].reach = NEVER;
    return 1;
}

/* Give the reply of a worker in flight other times; if `send` is negative, it never comes, and the worker is
 * idle. One that has passed a half-duplex link already stays as it is. */
void events_postpone(struct events *e, int64_t worker, int64_t start, int64_t compute, int64_t send)
{
    struct in_flight *flight = e->flights + worker;
    if (flight->state == DEAD)
        e->dead--;
    else if (!withdraw(e, flight->key))
        return;
    flight->t_start = start;
    flight->t_compute = compute;
    flight->t_send = send;
    flight->state = send < 0 ? IDLE : OUT;
    if (send >= 0)
        push(e, event_of(e, worker));
}

void events_step(struct events *e)
{
    e->now = after(e->now, e->update);
}

/* Put a worker's reply in flight into the queue, when a state is restored. */
void events_put(struct events *e, int64_t worker)
{
    push(e, event_of(e, worker));
}
