#include "rl/record.h"

#include <stdio.h>
#include <stdlib.h>

#include "data/file.h"

status record_open(record *r, const char *dir)
{
    char img[4096];
    *r = (record){.dir = dir};
    TRY(file_join(img, sizeof img, dir, "img"));
    TRY(file_make_dir(img));
    json_begin(&r->lines, false);
    return ST_OK;
}

status record_add(record *r, const traj *t, int64_t row)
{
    char(*name)[64] = calloc((size_t)t->n_image + 1, sizeof *name);
    const char **names = calloc((size_t)t->n_image + 1, sizeof *names);
    status st = name && names ? ST_OK : FAIL(ST_ENOMEM, "no memory for %d picture names", t->n_image);
    for (int i = 0; i < t->n_image && st == ST_OK; i++) {
        char path[4096];
        snprintf(name[i], sizeof name[i], "img/%lld_%d_%d.png", (long long)row, t->index, i);
        names[i] = name[i];
        st = file_join(path, sizeof path, r->dir, name[i]);
        if (st == ST_OK) st = image_write_png(&t->images[i].view, path);
    }
    if (st == ST_OK) {
        json_out one;
        json_begin(&one, false);
        traj_to_json(t, names, &one);
        json_put_raw(&r->lines, one.text, one.len);
        json_put_raw(&r->lines, "\n", 1);
        json_end(&one);
    }
    free(name);
    free(names);
    return st;
}

status record_write(const record *r, comm *world)
{
    void *all = NULL;
    size_t *bytes = malloc(sizeof *bytes * (size_t)world->size), total = 0;
    CHECK(bytes);
    status st = comm_allgatherv(world, r->lines.text ? r->lines.text : "", r->lines.len, &all, bytes);
    for (int i = 0; i < world->size && st == ST_OK; i++) total += bytes[i];
    if (st == ST_OK && world->rank == 0) {
        char path[4096];
        st = file_join(path, sizeof path, r->dir, "trajectories.jsonl");
        if (st == ST_OK) st = file_write(path, all, total);
    }
    free(all);
    free(bytes);
    return st;
}

void record_free(record *r)
{
    if (r->dir) json_end(&r->lines);
    *r = (record){0};
}
