/* System-call filters, as classic BPF built by hand. Two layers that stack (the kernel takes the stricter answer):
 *   base    allow-list installed once in the zygote after its imports; everything below inherits it at no cost
 *   holder  installed in the process that runs model code; takes away what zygote and runner still needed
 * The T2 holder filter leaves one process with one thread that can signal only itself: nothing else would contain more.
 */
#ifndef SANDBOX_SECCOMP_H
#define SANDBOX_SECCOMP_H

#include <sys/types.h>

/* 0 or -errno. no_new_privs must be set. */
int seccomp_base(void);
int seccomp_holder(int without_memfd); /* where no control group counts its pages */
int seccomp_holder_t2(pid_t self);

#endif
