#include "sandbox/zygote/turn.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STOP_S = 1 };

static double rusage_ms(const struct rusage *u)
{
    return 1e3 * (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
           1e-3 * (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec);
}

static void note_death(runner *r, pid_t pid, int how, const struct rusage *u)
{
    if (pid == r->cur) {
        r->cur_dead = true;
        r->cur_status = how;
        r->cur_cpu_ms = rusage_ms(u);
        r->cur_rss_kib = u->ru_maxrss;
    }
    if (pid == r->ahead) r->ahead = 0;
    if (pid == r->base) {
        r->base = 0;
        r->forking = false;
        r->base_lost = true;
        r->base_status = how;
    }
}

void turn_reap(runner *r)
{
    struct rusage u;
    int how;
    for (pid_t pid; (pid = wait4(-1, &how, WNOHANG, &u)) > 0;) note_death(r, pid, how, &u);
}

/* After turn_kill_group(r->cur). What it forked is ours once it is dead, in the same group, and killed as well; but a
 * killed process may still finish a write, and what is written after the report would be the next turn's output. */
static void wait_cur(runner *r)
{
    struct rusage u;
    int how;
    while (!r->cur_dead) {
        pid_t pid = wait4(r->cur, &how, 0, &u);
        if (pid == r->cur)
            note_death(r, pid, how, &u);
        else if (errno != EINTR)
            r->cur_dead = true;
    }
    while (waitpid(-r->cur, NULL, 0) > 0 || errno == EINTR) {}
}

void turn_wait_dying(runner *r)
{
    pid_t group = r->dying;
    while (r->dying && (waitpid(r->dying, NULL, 0) == r->dying || errno != EINTR)) r->dying = 0;
    while (group && (waitpid(-group, NULL, 0) > 0 || errno == EINTR)) {} /* they may still finish a write */
}

void turn_limit_cpu(pid_t pid, rlim_t seconds)
{
    struct rlimit n = {seconds ? seconds : 1, RLIM_INFINITY};
    prlimit(pid, RLIMIT_CPU, &n, NULL);
}

void turn_kill_group(pid_t leader)
{
    if (leader <= 1) return;
    kill(-leader, SIGKILL);
    kill(leader, SIGKILL); /* a sibling that is not in its group yet */
}

void turn_lose_base(runner *r)
{
    turn_kill_group(r->base);
    turn_kill_group(r->ahead);
    r->base = r->ahead = 0;
    r->forking = r->said = false;
    r->base_status = -1;
    r->base_lost = true;
}

static void report(runner *r)
{
    r->end.h = (wire_head){.op = OP_END, .nonce = r->nonce};
    r->end.state_lost = r->base_lost;
    r->base_lost = false;
    r->st = JUDGED;
    if (wire_send(r->ctl, &r->end, sizeof r->end, NULL, 0, NULL, 0)) _exit(1);
}

/* Is the limit on processes the reason? A fork that shares everything tells, at the cost of a system call. */
static bool at_pid_cap(void)
{
    pid_t pid = vfork(); // NOLINT(clang-analyzer-security.insecureAPI.vfork): the child only exits
    if (pid == 0) _exit(0);
    if (pid < 0) return errno == EAGAIN;
    waitpid(pid, NULL, 0);
    return false;
}

void turn_end_killed(runner *r)
{
    if (r->cur) {
        turn_kill_group(r->cur);
        wait_cur(r);
    }
    r->end.dead = r->cur_dead;
    r->end.wait_status = r->cur_status;
    r->end.cpu_ms = r->cur_cpu_ms - r->cpu_before_ms;
    r->end.max_rss_kib = r->cur_rss_kib;
    r->cur = 0;
    if (r->log.n && r->cur_dead && WIFEXITED(r->cur_status) && WEXITSTATUS(r->cur_status) == HOLDER_STATE_LOST) {
        r->base_lost = true;
        r->end.dead = 0;
    }
    report(r);
}

double turn_clock_ms(pid_t pid)
{
    clockid_t c;
    struct timespec t;
    if (clock_getcpuclockid(pid, &c) || clock_gettime(c, &t)) return 0;
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static volatile sig_atomic_t waited_enough;
static void on_alarm(int sig) { waited_enough = sig; }

void turn_catch_alarm(void)
{
    struct sigaction late = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &late, NULL);
}

static void alarm_after(int s)
{
    struct itimerval t = {{s, 0}, {s, 0}}; /* again and again: the first may come before the wait */
    waited_enough = 0;
    setitimer(ITIMER_REAL, &t, NULL);
}

/* Stops everything the turn started and leaves only its holder: afterwards nothing of it runs until the next turn. A
 * thread in vfork does not stop before its child is gone, and that child may stay for ever. 1: it died instead. */
static int freeze(runner *r)
{
    siginfo_t si = {0};
    int e;
    kill(-r->cur, SIGSTOP);
    alarm_after(STOP_S);
    do e = waitid(P_PID, (id_t)r->cur, &si, WSTOPPED | WEXITED | WNOWAIT);
    while (e < 0 && errno == EINTR && !waited_enough);
    alarm_after(0);
    if (e == 0 && si.si_code != CLD_STOPPED) return 1;
    if (e < 0) return -1;
    if (setpgid(r->cur, getpid())) return -1; /* EACCES: it is another program by now */
    kill(-r->cur, SIGKILL);
    return setpgid(r->cur, r->cur);
}

void turn_end_claimed(runner *r, const wire_claim *c)
{
    r->end.has_claim = 1;
    memcpy(&r->end.claim, c, sizeof *c);
    if (c->kind == CLAIM_ERROR) {
        r->end.at_pid_cap = at_pid_cap();
        turn_end_killed(r);
        return;
    }
    int e = freeze(r);
    if (e) {
        r->end.has_claim = 0;
        if (e > 0)
            turn_end_killed(r);
        else
            turn_end_protocol(r);
        return;
    }
    r->end.cpu_ms =
        turn_clock_ms(r->cur) - r->cpu_before_ms + 1e-3 * (double)(c->children_cpu_us > 0 ? c->children_cpu_us : 0);
    r->end.max_rss_kib = c->max_rss_kib;
    turn_limit_cpu(r->cur, 1 << 30); /* parked: what is left of this turn's seconds must not end it later */
    report(r);
}

/* Whatever was said out of turn is forgotten once its sender is dead: the last good state is not to blame. */
void turn_end_protocol(runner *r)
{
    char c = 0;
    r->end.protocol = 1;
    if (r->cur) {
        turn_kill_group(r->cur);
        wait_cur(r);
    }
    for (int i = 0; i < 2; i++)
        while (r->side[i][0] >= 0 && wire_recv(r->side[i][0], &c, 1, NULL, NULL, NULL, MSG_DONTWAIT) != -EAGAIN) {}
    turn_end_killed(r);
}

/* The state died while parked or before it could fork: by what its own turns left in it, as its end tells. */
void turn_end_without_base(runner *r)
{
    if (r->j->tier < BOX_T2) kill(-1, SIGKILL); /* its forks, also one that has not greeted */
    r->ahead = 0;
    r->end.dead = r->base_status >= 0;
    r->end.wait_status = r->base_status;
    r->end.at_pid_cap = r->end.dead && WIFEXITED(r->base_status) && WEXITSTATUS(r->base_status) == HOLDER_NO_FORK;
    report(r);
}
