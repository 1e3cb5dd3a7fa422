/* Sending and receiving the messages of sandbox/protocol.h. */
#ifndef SANDBOX_WIRE_H
#define SANDBOX_WIRE_H

#include "sandbox/protocol.h"

/* 0, or -errno. h must be the first member of the struct of size n; its len is set to n_body. */
int wire_send(int fd, void *msg, size_t n, const void *body, size_t n_body, const int *fds, int n_fd);
/* Bytes received, 0 at end of file, -errno. Descriptors arrive close-on-exec; *n_fd is how many fit and came. With
 * fds NULL the kernel drops whatever the sender attached. from (may be NULL): the sender's pid as the kernel knows it
 * (needs SO_PASSCRED), 0 if unknown. flags: MSG_DONTWAIT or 0. A longer message than cap is -EMSGSIZE. */
ssize_t wire_recv(int fd, void *buf, size_t cap, int *fds, int *n_fd, pid_t *from, int flags);
/* In a role just exec'ed: the socket named on the command line becomes WIRE_INHERITED and every other descriptor but
 * 0-2 is closed, since launchers leave some open. -1 if there is no such socket: typed by hand. */
int wire_inherit(const char *number);
/* A wire_reply without layers: op ok, or op fail with the message of st. */
int wire_send_status(int fd, wire_op ok, wire_op fail, box_tier tier, status st);
void wire_buffers(int sock); /* large enough for the longest message */
/* Differs between builds whose messages do. */
uint64_t wire_build(void);
int wire_pair(int sv[2]); /* SOCK_SEQPACKET, close-on-exec, large buffers; 0 or -errno */
double wire_now(void);    /* monotonic seconds */
/* True if every number of the images is acceptable under the limits. */
int wire_images_ok(const wire_image *im, int n, const box_limits *l);

/* Roles; each returns an exit status. */
/* What a daemon decides for the supervisor of one client. */
typedef struct boxd_place {
    unsigned uid;             /* to run as, when started as root: no other client's */
    const wire_pool *ceiling; /* of every limit */
    const char *python;       /* the one interpreter a client may name, beside none */
} boxd_place;
int boxd_main(int sock, const boxd_place *place); /* NULL: the client is our own */
int zygote_main(int sock);

#endif
