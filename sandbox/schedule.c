#include <math.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/boxd.h"

/* Which turns run. A burst is let in a few at a time, so that each meets an idle machine and its clock measures its own
 * work. A turn that goes on for longer keeps computing only as far as the short ones leave room: it is stopped
 * meanwhile (SIGSTOP takes effect at the way out of the kernel, where nothing is locked; a lower weight instead made
 * forks of all others wait for one that held a lock and did not get a processor). Its clock stands still; the pause is
 * queue time. One long turn runs on whatever comes, and the oldest first, so that all of them end. */
static const double FRESH_S = 0.1;

typedef struct tally {
    int fresh, busy, waiting;  /* turns that run: short so far; longer and computing; those paused */
    boxrec *youngest, *oldest; /* of the busy, of the paused */
} tally;

/* One that sleeps takes nothing from the others. Only control groups tell; without them all are left alone, since a
 * group of sleeping turns, let in a few at a time, would take minutes. */
static void look_at(boxd *b, boxrec *x, double now)
{
    x->idle |= x->jail->cg < 0;
    if (now < x->checked + FRESH_S || x->jail->cg < 0) return;
    double cpu = cgroup_cpu_ms(&b->cg, x->jail->cg);
    x->idle = cpu >= 0 && cpu - x->cpu_seen < 100 * (now - x->checked); /* a tenth of a processor */
    x->checked = now;
    x->cpu_seen = cpu;
}

static tally count_turns(boxd *b, double now)
{
    tally t = {0};
    for (int i = 0; i < b->n_jail; i++) {
        boxrec *x = b->jails[i].box;
        if (b->jails[i].state != JAIL_RUNNING || x->stage > 0) continue; /* past its time: it is being ended */
        if (x->paused) {
            t.waiting++;
            if (!t.oldest || x->started < t.oldest->started) t.oldest = x;
        } else if (now - x->started - x->paused_s < FRESH_S) {
            t.fresh++;
        } else {
            look_at(b, x, now);
            if (x->idle) continue;
            t.busy++;
            if (!t.youngest || x->started > t.youngest->started) t.youngest = x;
        }
    }
    return t;
}

static void pause_turn(boxd *b, boxrec *x, bool on, double now)
{
    wire_head h = {.op = on ? OP_PAUSE : OP_RESUME};
    if (wire_send(x->jail->ctl, &h, sizeof h, NULL, 0, NULL, 0)) return; /* its channel closed: that is an event too */
    x->paused = on;
    x->checked = now;
    x->cpu_seen = cgroup_cpu_ms(&b->cg, x->jail->cg);
    if (on) {
        x->paused_at = now;
    } else {
        x->paused_s += now - x->paused_at;
        x->deadline += now - x->paused_at;
    }
}

void schedule_ended(boxrec *x, double now)
{
    if (x->paused) x->paused_s += now - x->paused_at;
    x->paused = false;
}

/* As many as give the short ones a processor each, as far as there are any; one at least. */
static int long_turns(const boxd *b, int fresh)
{
    int most = b->pool.max_starting, room = most / 2 - fresh;
    return fresh == 0 ? most : room > 1 ? room : 1;
}

static void start_turn(boxd *b, boxrec *x)
{
    if (!x->jail) {
        jailrec *j = NULL; /* one that is ahead, if there is one */
        for (int i = 0; i < b->n_jail && !(j && j->ahead); i++)
            if (b->jails[i].state == JAIL_SPARE && (!j || b->jails[i].ahead)) j = &b->jails[i];
        CHECK(j); /* n_spare counts them */
        x->jail = j;
        j->box = x;
    }
    pool_run(b, x);
}

/* While the model writes. A box that is closed after its turn never gets there; with more than these the processors are
 * busy anyway, and each takes memory. */
static const double AHEAD_S = 0.002;
static int most_ahead(const boxd *b) { return 16 * b->pool.max_starting; }

static void tell_ahead(boxd *b, jailrec *j)
{
    wire_head h = {.op = OP_AHEAD};
    (void)!syscall(SYS_getrandom, &h.nonce, sizeof h.nonce, 0);
    if (wire_send(j->ctl, &h, sizeof h, NULL, 0, NULL, 0)) return; /* its channel closed: that is an event too */
    j->ahead = true;
    b->n_ahead[j->state]++;
}

static double ahead_due(const boxd *b, const jailrec *j)
{
    const boxrec *x = j->box;
    bool fit = j->state == JAIL_PARKED && !j->ahead && x && x->has_state && !x->dead && !x->canary;
    bool any = b->zygote_ready && !b->broken && b->tier < BOX_T2 && b->n_ahead[JAIL_PARKED] < most_ahead(b);
    return any && fit ? j->since + AHEAD_S : INFINITY;
}

/* Processes of next turns, as far as nothing else waits for the processors. */
static void make_ahead(boxd *b, const tally *t, double now)
{
    if (b->creating || b->tier >= BOX_T2) return;
    for (int i = 0; i < b->n_jail; i++) {
        jailrec *j = &b->jails[i];
        bool spare = j->state == JAIL_SPARE && !j->ahead && b->n_ahead[JAIL_SPARE] < b->pool.spares;
        if (spare || (!b->queue && t->fresh < b->pool.max_starting && ahead_due(b, j) <= now)) tell_ahead(b, j);
    }
}

void schedule_run(boxd *b)
{
    if (!b->zygote_ready || b->broken) return;
    int want = 0;
    double now = wire_now();
    tally t = count_turns(b, now);
    for (boxrec **at = &b->queue; *at;) {
        boxrec *x = *at;
        if (x->dead) { /* its jail ended while it waited */
            *at = x->next;
            boxrec_fail_turn(b, x, x->ours ? BOX_INFRA : BOX_DEAD);
            continue;
        }
        if (t.fresh < b->pool.max_starting && (x->jail || b->n_spare)) {
            *at = x->next;
            t.fresh++;
            start_turn(b, x);
        } else {
            want += !x->jail;
            at = &x->next;
        }
    }
    b->queue_end = &b->queue;
    while (*b->queue_end) b->queue_end = &(*b->queue_end)->next;
    for (t = count_turns(b, now); t.youngest && t.busy > long_turns(b, t.fresh); t = count_turns(b, now)) {
        pause_turn(b, t.youngest, true, now);
        if (!t.youngest->paused) break;
    }
    for (; t.oldest && t.busy < long_turns(b, t.fresh); t = count_turns(b, now)) {
        pause_turn(b, t.oldest, false, now);
        if (t.oldest->paused) break;
    }
    make_ahead(b, &t, now);
    if (!b->creating) want += b->pool.spares - b->n_spare;
    want -= b->n_resetting;
    while (b->n_starting < want && b->n_starting < b->pool.max_starting)
        if (pool_jail_start(b)) break;
}

double schedule_next(const boxd *b, double now)
{
    bool waiting = b->queue != NULL, several = false;
    double next = 3600, due = INFINITY;
    int n = 0, fresh = 0;
    for (int i = 0; i < b->n_jail; i++) {
        const boxrec *x = b->jails[i].box;
        due = fmin(due, ahead_due(b, &b->jails[i]) - now);
        if (b->jails[i].state != JAIL_RUNNING) continue;
        several = ++n > 1;
        waiting |= x->paused;
        double ran = now - x->started - x->paused_s;
        if (x->paused || ran >= FRESH_S) continue;
        next = fmin(next, FRESH_S - ran);
        fresh++;
    }
    next = waiting ? fmin(next, FRESH_S) : several ? next : 3600;
    return b->queue || fresh >= b->pool.max_starting ? next : fmin(next, fmax(due, 0));
}
