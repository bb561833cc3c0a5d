/* rounds.c: loop of pdcode.training.coordinator.Coordinator over the clock of events_link.h, without numerics.
 *
 * Design note. Besides the queue an arrival touches three cache lines: the worker's task in flight, its delay,
 * and its row of the record, if any; the first two are prefetched with the slot of the reply. Delays are drawn
 * in bulk by the caller, when a worker has none left. Workers that get θ together are sorted by a bitmap, or
 * by insertion if they are few.
 */
#include "events_link.h"
#include "rounds.h"

#define FEW 32

/* Sort idle workers by number. */
static void sort(struct rounds *r)
{
    int32_t *waiting = r->waiting;
    if (r->idle <= FEW) {
        for (int64_t i = 1; i < r->idle; i++) {
            const int32_t worker = waiting[i];
            int64_t at = i;
            for (; at > 0 && waiting[at - 1] > worker; at--)
                waiting[at] = waiting[at - 1];
            waiting[at] = worker;
        }
        return;
    }
    for (int64_t i = 0; i < r->idle; i++)
        r->marks[waiting[i] / ROUNDS_MARK] |= (uint64_t)1 << waiting[i] % ROUNDS_MARK;
    int64_t count = 0;
    for (int64_t word = 0; count < r->idle; word++) {
        uint64_t marks = r->marks[word];
        r->marks[word] = 0;
        for (; marks; marks &= marks - 1)
            waiting[count++] = (int32_t)(word * ROUNDS_MARK + __builtin_ctzll(marks));
    }
}

/* Send the newest θ to the idle workers from `first` on; return 0 if one has no delay drawn. */
static int dispatch(struct rounds *r)
{
    struct events *e = r->events;
    for (int64_t i = r->first; i < r->idle; i++)
        if (*delay_of(e, r->waiting[i]) == ROUNDS_DRAW)
            return 0;
    struct batch batch = set_out(e, &r->parts, r->idle - r->first);
    for (int64_t i = r->first; i < r->idle; i++) {
        const int64_t worker = r->waiting[i];
        struct in_flight *flight = e->flights + worker;
        int64_t *delay = delay_of(e, worker);
        send_one(e, &batch, &r->parts, worker, r->compute[worker * r->compute_step], *delay);
        *delay = ROUNDS_DRAW;
        flight->version = r->version;
        flight->task++;
    }
    r->idle = r->first;
    return 1;
}

/* End the run: no worker gets another task, and all reply as soon as they have computed. */
static void stop(struct rounds *r, int64_t now)
{
    r->stopping = 1;
    r->stop = now;
    cancel(r->events, 1);
    r->until = after(r->events->now, r->drain);
}

INLINE void record(struct rounds *r, int64_t worker, const struct in_flight *flight, int64_t state,
                   int64_t status)
{
    const int64_t task = flight->task - 1;
    if (!r->every || (r->every > 1 && task % r->every != worker % r->every))
        return;
    int64_t *row = r->arrivals + r->rows++ * ROUNDS_ARRIVAL;
    row[0] = worker;
    row[1] = task;
    row[2] = flight->version;
    row[3] = status == USED ? r->version : -1;
    row[4] = r->version - flight->version;
    row[5] = flight->t_dispatch;
    row[6] = flight->t_start;
    row[7] = flight->t_compute;
    row[8] = flight->t_send;
    row[9] = r->events->t_recv;
    row[10] = r->events->now;
    row[11] = state == OUT ? flight->t_send - flight->t_compute : -1;
    row[12] = status;
}

/* Run until the end, or until delays or room for rows are missing, or `most` arrivals are done. */
int rounds_run(struct rounds *r, int64_t most)
{
    struct events *e = r->events;
    for (;;) {
        if (r->first < r->idle && !dispatch(r))
            return ROUNDS_DRY;
        const int64_t outstanding = e->dispatched - e->arrived - 1; /* after the next arrival */
        if (outstanding < 0)
            return ROUNDS_DONE;
        if (r->rows == r->room || r->steps == r->room)
            return ROUNDS_FULL;
        if (most-- == 0)
            return ROUNDS_PAUSED;
        const int64_t t_recv = next_recv(e);
        const int64_t patience = latest(r->until, e->now);
        if (patience < NEVER && t_recv > patience) {
            e->now = patience; /* rank 0 times out without an arrival and ends the run, or the wait */
            if (r->stopping)
                return ROUNDS_DONE;
            stop(r, e->now);
            r->first = r->idle = 0;
            continue;
        }
        if (t_recv == NEVER)
            return ROUNDS_STUCK;
        const int64_t state_before = e->flights[next_worker(e)].state;
        const int64_t worker = receive(e, t_recv);
        const struct in_flight *flight = e->flights + worker;
        const int late = flight->version != r->version;
        const int64_t status = r->stopping ? DRAINED : late && r->waste ? WASTED : USED;
        r->waiting[r->idle++] = (int32_t)worker;
        r->first = r->idle;
        r->outcomes[status]++;
        record(r, worker, flight, state_before, status);
        if (r->stopping) {
            r->first = r->idle = 0;
            continue;
        }
        r->fresh += status == USED;
        const int step = r->fresh && (r->fresh >= r->wanted || outstanding + late == 0);
        if (step) {
            e->now = after(e->now, e->update);
            int64_t *row = r->steps_made + r->steps++ * ROUNDS_UPDATE;
            row[0] = ++r->version;
            row[1] = e->now;
            row[2] = r->fresh;
            r->fresh = 0;
        }
        const int64_t checked = step ? e->now : t_recv; /* when the coordinator calls the monitor */
        if (r->version >= r->updates || checked >= r->until) {
            stop(r, checked);
            r->first = r->idle = 0;
        } else if (step) {
            sort(r);
            r->first = 0;
        } else if (late) {
            r->first = r->idle - 1;
        }
    }
}
