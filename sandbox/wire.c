#include "sandbox/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

int wire_send(int fd, void *msg, size_t n, const void *body, size_t n_body, const int *fds, int n_fd)
{
    ((wire_head *)msg)->len = (uint32_t)n_body;
    struct iovec v[2] = {{msg, n}, {(void *)(uintptr_t)body, n_body}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = n_body ? 2 : 1};
    union {
        char buf[CMSG_SPACE(WIRE_FDS * sizeof(int))];
        struct cmsghdr align;
    } ctl;
    CHECK(n_fd <= WIRE_FDS);
    if (n_fd > 0) {
        memset(&ctl, 0, sizeof ctl);
        m.msg_control = ctl.buf;
        m.msg_controllen = CMSG_SPACE((size_t)n_fd * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)n_fd * sizeof(int));
        memcpy(CMSG_DATA(c), fds, (size_t)n_fd * sizeof(int));
    }
    for (;;) {
        /* A holder's filter has no sendmsg: see holder_denied. */
        if ((n_body || n_fd > 0 ? sendmsg(fd, &m, MSG_NOSIGNAL) : send(fd, msg, n, MSG_NOSIGNAL)) >= 0) return 0;
        if (errno != EINTR) return -errno;
    }
}

ssize_t wire_recv(int fd, void *buf, size_t cap, int *fds, int *n_fd, pid_t *from, int flags)
{
    struct iovec v = {buf, cap};
    union {
        char buf[CMSG_SPACE(WIRE_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } ctl;
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    if (fds || from) {
        m.msg_control = ctl.buf;
        m.msg_controllen = fds ? sizeof ctl.buf : CMSG_SPACE(sizeof(struct ucred));
    }
    if (n_fd) *n_fd = 0;
    if (from) *from = 0;
    ssize_t got;
    do got = recvmsg(fd, &m, flags | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0) return -errno;
    for (struct cmsghdr *c = m.msg_controllen ? CMSG_FIRSTHDR(&m) : NULL; c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET) continue;
        if (c->cmsg_type == SCM_CREDENTIALS && from) {
            struct ucred u;
            memcpy(&u, CMSG_DATA(c), sizeof u);
            *from = u.pid;
        } else if (c->cmsg_type == SCM_RIGHTS) {
            int k = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            for (int i = 0; i < k; i++) {
                int f;
                memcpy(&f, CMSG_DATA(c) + (size_t)i * sizeof(int), sizeof f);
                if (fds && n_fd && *n_fd < WIRE_FDS)
                    fds[(*n_fd)++] = f;
                else
                    close(f);
            }
        }
    }
    if (m.msg_flags & MSG_TRUNC) {
        for (int i = 0; n_fd && i < *n_fd; i++) close(fds[i]);
        if (n_fd) *n_fd = 0;
        return -EMSGSIZE;
    }
    return got;
}

int wire_send_status(int fd, wire_op ok, wire_op fail, box_tier tier, status st)
{
    wire_reply r = {.h = {.op = st == ST_OK ? ok : fail}, .code = st, .tier = (int)tier};
    if (st != ST_OK) snprintf(r.text, sizeof r.text, "%s", fail_message());
    return wire_send(fd, &r, sizeof r, NULL, 0, NULL, 0);
}

int wire_inherit(const char *number)
{
    int fd = atoi(number);
    if (fd < WIRE_INHERITED || fcntl(fd, F_GETFD) < 0) return -1;
    if (fd != WIRE_INHERITED && dup3(fd, WIRE_INHERITED, 0) < 0) return -1;
    close_range(WIRE_INHERITED + 1, ~0u, 0);
    return fcntl(WIRE_INHERITED, F_SETFD, FD_CLOEXEC);
}

int wire_pair(int sv[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv)) return -errno;
    for (int i = 0; i < 2; i++) wire_buffers(sv[i]);
    return 0;
}

void wire_buffers(int sock)
{
    int size = WIRE_MSG_MAX;
    setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

uint64_t wire_build(void)
{
    static const char version[] = CODEDANCE_VERSION;
    static const size_t sizes[] = {sizeof(wire_pool),   sizeof(wire_reply), sizeof(wire_run),
                                   sizeof(wire_result), sizeof(wire_input), OP_CLAIM};
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof version; i++) h = (h ^ (unsigned char)version[i]) * 0x100000001b3u;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) h = (h ^ sizes[i]) * 0x100000001b3u;
    return h;
}

double wire_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int wire_images_ok(const wire_image *im, int n, const box_limits *l)
{
    if (n < 0 || n > WIRE_IMAGES || n > l->images_per_turn) return 0;
    int64_t end = 0;
    for (int i = 0; i < n; i++) {
        int64_t w = im[i].w, h = im[i].h;
        if (w < 1 || h < 1 || w > l->image_max_side || h > l->image_max_side || w * h > l->image_max_pixels) return 0;
        if (w > 200 * h || h > 200 * w) return 0; /* the image processor refuses such shapes */
        if (im[i].offset != end) return 0;
        end += 3 * w * h;
        if (end > WIRE_IMAGE_BYTES) return 0;
    }
    return 1;
}
