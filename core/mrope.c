#include "core/mrope.h"

#include <math.h>

/* One image token at frame f, row y, column x of the merged grid; returns the largest of its three positions. */
static int32_t image_token(int32_t pos[3], int32_t next, int t_step, int f, int y, int x)
{
    pos[0] = next + f * t_step;
    pos[1] = next + y;
    pos[2] = next + x;
    int32_t most = pos[0] > pos[1] ? pos[0] : pos[1];
    return most > pos[2] ? most : pos[2];
}

void mrope_positions(int32_t *pos, int n, const mrope_image *img, int n_img, int merge, int t_step, int32_t *next)
{
    int i = 0;
    for (int k = 0; k <= n_img; k++) {
        int text_end = k < n_img ? img[k].start : n;
        CHECK(text_end >= i && text_end <= n); /* runs in order, inside, not overlapping */
        for (; i < text_end; i++, (*next)++)
            for (int axis = 0; axis < 3; axis++) pos[3 * i + axis] = *next;
        if (k == n_img) return;

        int rows = img[k].h / merge, cols = img[k].w / merge;
        CHECK(img[k].t > 0 && rows > 0 && cols > 0 && img[k].h % merge == 0 && img[k].w % merge == 0);
        CHECK((int64_t)img[k].t * rows * cols <= n - i);
        int32_t most = *next;
        for (int f = 0; f < img[k].t; f++)
            for (int y = 0; y < rows; y++)
                for (int x = 0; x < cols; x++, i++) {
                    int32_t p = image_token(pos + 3 * i, *next, t_step, f, y, x);
                    if (p > most) most = p;
                }
        *next = most + 1;
    }
}

void mrope_axes(int32_t *axis, int half, const int section[3], bool interleaved)
{
    CHECK(section[0] + section[1] + section[2] == half);
    int j = 0;
    if (interleaved) {
        for (; j < half; j++) axis[j] = j % 3 && j < 3 * section[j % 3] ? j % 3 : 0;
        return;
    }
    for (int a = 0; a < 3; a++)
        for (int k = 0; k < section[a]; k++) axis[j++] = a;
}

void rope_inv_freq(float *inv_freq, int dim, double theta)
{
    for (int j = 0; j < dim / 2; j++) inv_freq[j] = 1.0f / (float)pow((float)theta, (float)(2 * j) / (float)dim);
}
