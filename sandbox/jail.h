/* The isolation steps, in the one order that works (sandbox/README.md, "Layers"). Each returns ST_ESYS naming the step,
 * and ST_EUNAVAIL with the remedy where the machine forbids it.
 *
 *   zygote, once:     jail_zygote_enter -> (Python and its imports) -> jail_zygote_seal
 *   runner, per box:  jail_box
 *   holder, before any model code: jail_holder */
#ifndef SANDBOX_JAIL_H
#define SANDBOX_JAIL_H

#include "sandbox/box.h"
#include "sandbox/python.h"

typedef struct jail {
    box_tier tier;
    int proc;         /* O_PATH of the machine's /proc: lets a child write its own id maps; never reaches a holder */
    int pidns;        /* the zygote's own pid namespace, to step back into after each spawn */
    int64_t base_mib; /* address space of the zygote after its imports */
    const python_env *python; /* whose files and folders are shown besides the machine's own; NULL: none */
} jail;

/* Everything not to be repeated per box. Forks: returns in the process that is PID 1 of the zygote's pid namespace; the
 * outer process waits for it and exits. sock stays open in the inner one only. */
status jail_zygote_enter(jail *j, int sock);
status jail_zygote_seal(jail *j);
/* Threads of this process, as long as j->proc is open; -1 if that cannot be told. */
int jail_threads(const jail *j);
/* Own session, user, mount, ipc, uts namespaces; private /tmp; resource limits. The caller already is PID 1 of a pid
 * namespace made for it. */
status jail_box(const jail *j, const box_limits *l);
/* A fresh empty /tmp in place of the used one. */
status jail_box_renew(const jail *j, const box_limits *l);
/* Capabilities, Landlock, system-call filter: for good. */
status jail_holder(const jail *j);
int jail_landlock_abi(void); /* 0 = none */

#endif
