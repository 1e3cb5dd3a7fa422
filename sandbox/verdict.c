#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "sandbox/boxd.h"

/* Facts first (what we did, what the kernel counted), claims last. keep: the turn's state becomes the box's state. */
box_verdict verdict_of(const boxd *b, const boxrec *x, const wire_end *e, int *code, bool *keep)
{
    *keep = false;
    *code = 0;
    int cg = x->jail ? x->jail->cg : -1;
    bool oom = cg >= 0 && cgroup_ooms(&b->cg, cg) > x->oom_before;
    if (x->cause == BOX_INFRA && oom) return BOX_OOM; /* the runner itself was chosen */
    if (x->cause != BOX_OK) return x->cause;
    if (!e) return oom ? BOX_OOM : BOX_INFRA;
    if (e->infra) return BOX_INFRA; /* it could not be jailed; none of the code ran */
    if (e->protocol) return BOX_PROTOCOL;
    if (!e->has_claim) {
        if (oom) return BOX_OOM;
        if (!e->dead) return e->state_lost ? BOX_DEAD : BOX_INFRA;
        if (e->at_pid_cap) return BOX_PIDS;
        if (WIFSIGNALED(e->wait_status)) {
            *code = WTERMSIG(e->wait_status);
            return *code == SIGXCPU ? BOX_CPU : BOX_SIGNAL;
        }
        *code = WEXITSTATUS(e->wait_status);
        return BOX_EXITED;
    }
    if (!wire_images_ok(e->claim.image, e->claim.n_image, &b->pool.limits)) return BOX_PROTOCOL;
    /* Over several processes, each below its own limit; what children used is the kernel's count where there is one. */
    double group_ms = cg >= 0 ? cgroup_cpu_ms(&b->cg, cg) - x->cpu_before : 0;
    if (fmax(e->cpu_ms, group_ms) > 1e3 * b->pool.limits.cpu_s) return BOX_CPU;
    if (e->claim.kind == CLAIM_ERROR) {
        if (oom) return BOX_OOM;
        bool refused = e->at_pid_cap || (cg >= 0 && cgroup_pid_refusals(&b->cg, cg) > x->pids_before);
        return refused ? BOX_PIDS : BOX_PY_ERROR;
    }
    *keep = true;
    *code = e->claim.code;
    return e->claim.kind == CLAIM_EXIT ? BOX_EXIT : BOX_OK;
}
