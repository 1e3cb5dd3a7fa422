#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "sandbox/boxd.h"

static bool out_of_memory(const boxd *b, const jailrec *j) { return j && cgroup_ooms(&b->cg, j->cg) > j->ooms; }

static bool refused_pids(const boxd *b, const jailrec *j)
{
    return j && cgroup_pid_refusals(&b->cg, j->cg) > j->pid_refusals;
}

/* Facts first (what we did, what the kernel counted), claims last. keep: the turn's state becomes the box's state. */
box_verdict verdict_of(const boxd *b, const boxrec *x, const wire_end *e, int *code, bool *keep)
{
    *keep = false;
    *code = 0;
    const jailrec *j = x->jail;
    if (x->cause == BOX_INFRA && out_of_memory(b, j)) return BOX_OOM; /* the runner itself was chosen */
    if (x->cause != BOX_OK) return x->cause;
    if (!e) return out_of_memory(b, j) ? BOX_OOM : BOX_INFRA;
    if (e->infra) return BOX_INFRA; /* it could not be jailed; none of the code ran */
    if (e->protocol) return BOX_PROTOCOL;
    if (!e->has_claim) {
        if (out_of_memory(b, j)) return BOX_OOM;
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
    if (fmax(e->cpu_ms, x->cpu_ms) > 1e3 * b->pool.limits.cpu_s) return BOX_CPU;
    if (e->claim.kind == CLAIM_ERROR) {
        if (out_of_memory(b, j)) return BOX_OOM;
        return e->at_pid_cap || refused_pids(b, j) ? BOX_PIDS : BOX_PY_ERROR;
    }
    *keep = true;
    *code = e->claim.code;
    return e->claim.kind == CLAIM_EXIT ? BOX_EXIT : BOX_OK;
}
