#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sandbox/client.h"

static bool write_rgbx(int fd, const box_image *img)
{
    enum { PIXELS = 16 << 10 };
    static uint8_t part[4 * PIXELS];
    size_t n = (size_t)img->w * (size_t)img->h;
    for (size_t at = 0, k; at < n; at += k) {
        k = n - at < PIXELS ? n - at : PIXELS;
        const uint8_t *from = img->rgb + 3 * at;
        for (size_t i = 0; i < k; i++) {
            for (size_t c = 0; c < 3; c++) part[4 * i + c] = from[3 * i + c];
            part[4 * i + 3] = 255;
        }
        for (size_t done = 0; done < 4 * k;) {
            ssize_t w = write(fd, part + done, 4 * k - done);
            if (w < 0 && errno != EINTR) return false;
            if (w > 0) done += (size_t)w;
        }
    }
    return true;
}

status box_input_create(box_input **out, const box_image *img, int n)
{
    CHECK(n >= 1);
    if (n > WIRE_INPUTS) return FAIL(ST_EINVAL, "sandbox: at most %d input pictures, got %d", WIRE_INPUTS, n);
    wire_input head = {.n = n};
    int64_t end = sizeof head;
    for (int i = 0; i < n; i++) {
        head.image[i] = (wire_image){img[i].w, img[i].h, end};
        end += 4ll * img[i].w * img[i].h;
    }
    int fd = memfd_create("box-input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return FAIL(ST_ESYS, "sandbox: no memory for input pictures: %s", strerror(errno));
    bool ok = write(fd, &head, sizeof head) == (ssize_t)sizeof head;
    for (int i = 0; ok && i < n; i++) ok = write_rgbx(fd, &img[i]);
    if (ok) ok = fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0;
    box_input *in = ok ? malloc(sizeof *in) : NULL;
    if (!in) {
        status st = FAIL(ST_ESYS, "sandbox: cannot store input pictures: %s", strerror(errno));
        close(fd);
        return st;
    }
    *in = (box_input){fd, 1};
    *out = in;
    return ST_OK;
}

void box_input_release(box_input *in)
{
    if (!in || --in->refs) return;
    close(in->fd);
    free(in);
}
