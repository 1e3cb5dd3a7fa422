#include "rl/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "data/hash.h"
#include "data/hf.h"

static char *join(const char *dir, const char *name)
{
    char *s;
    CHECK(asprintf(&s, "%s/%s", dir, name) >= 0);
    return s;
}

static status sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        status st = FAIL(ST_EIO, "%s: %s", path, strerror(errno));
        if (fd >= 0) close(fd);
        return st;
    }
    close(fd);
    return ST_OK;
}

static status write_text(const char *dir, const char *name, const char *text, size_t n)
{
    char *path = join(dir, name);
    status st = ST_OK;
    FILE *f = fopen(path, "w");
    bool ok = f && fwrite(text, 1, n, f) == n && fflush(f) == 0 && fsync(fileno(f)) == 0;
    if (!ok) st = FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    if (f && fclose(f) != 0 && st == ST_OK) st = FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    free(path);
    return st;
}

static status hash_file(const char *path, int64_t *bytes, char hex[17])
{
    FILE *f = fopen(path, "rb");
    if (!f) return FAIL(errno == ENOENT ? ST_ECORRUPT : ST_EIO, "%s: %s", path, strerror(errno));
    enum { CHUNK = 1 << 20 };
    char *buf = malloc(CHUNK);
    CHECK(buf);
    hash_stream h;
    hash_begin(&h, 0);
    *bytes = 0;
    for (size_t n; (n = fread(buf, 1, CHUNK, f)) > 0; *bytes += (int64_t)n) hash_more(&h, buf, n);
    status st = ferror(f) ? FAIL(ST_EIO, "%s: %s", path, strerror(errno)) : ST_OK;
    fclose(f);
    free(buf);
    snprintf(hex, 17, "%016llx", (unsigned long long)hash_end(&h));
    return st;
}

typedef status entry_fn(void *ctx, const char *dir, const char *name);

/* Regular files of dir in name order. */
static status each_file(const char *dir, entry_fn *fn, void *ctx)
{
    struct dirent **list;
    int n = scandir(dir, &list, NULL, alphasort);
    if (n < 0) return FAIL(ST_EIO, "%s: %s", dir, strerror(errno));
    status st = ST_OK;
    for (int i = 0; i < n; i++) {
        if (st == ST_OK && strcmp(list[i]->d_name, ".") != 0 && strcmp(list[i]->d_name, "..") != 0)
            st = fn(ctx, dir, list[i]->d_name);
        free(list[i]);
    }
    free(list);
    return st;
}

static status remove_entry(void *ctx, const char *dir, const char *name)
{
    (void)ctx;
    char *path = join(dir, name);
    status st = unlink(path) != 0 ? FAIL(ST_EIO, "%s: %s", path, strerror(errno)) : ST_OK;
    free(path);
    return st;
}

/* DONE goes first: a half-removed checkpoint must not look complete. */
static status remove_checkpoint(const char *path)
{
    struct stat sb;
    if (stat(path, &sb) != 0) return ST_OK;
    char *done = join(path, "DONE");
    unlink(done);
    free(done);
    TRY(each_file(path, remove_entry, NULL));
    if (rmdir(path) != 0) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    return ST_OK;
}

static status sum_entry(void *ctx, const char *dir, const char *name)
{
    json_out *o = ctx;
    char *path = join(dir, name), hex[17];
    int64_t bytes;
    status st = hash_file(path, &bytes, hex);
    if (st == ST_OK) st = sync_path(path);
    free(path);
    TRY(st);
    json_key(o, name);
    json_open(o, '{');
    json_member_int(o, "bytes", bytes);
    json_member_str(o, "xxh64", hex);
    json_close(o, '}');
    return ST_OK;
}

static status write_state(const char *dir, int64_t t, const char *trainer)
{
    json_out o;
    json_begin(&o, false);
    json_open(&o, '{');
    json_member_int(&o, "t", t);
    json_key(&o, "trainer");
    json_put_raw(&o, trainer, strlen(trainer));
    json_close(&o, '}');
    status st = write_text(dir, "state.json", o.text, o.len);
    json_end(&o);
    return st;
}

static status write_checksums(const char *dir)
{
    json_out o;
    json_begin(&o, true);
    json_open(&o, '{');
    status st = each_file(dir, sum_entry, &o);
    json_close(&o, '}');
    if (st == ST_OK) st = write_text(dir, "checksums.json", o.text, o.len);
    json_end(&o);
    return st;
}

static status write_moments(const char *dir, const float *m, const float *v, int64_t count)
{
    st_entry e[2] = {{"m", "F32", 1, {count}, m, sizeof *m * (size_t)count},
                     {"v", "F32", 1, {count}, v, sizeof *v * (size_t)count}};
    char *path = join(dir, "optim.safetensors");
    status st = st_write(path, e, 2, NULL);
    free(path);
    return st;
}

/* Rank 0's part: everything inside tmp, then the rename, then DONE. m and v are NULL without an optimizer. */
static status write_all(const char *tmp, const char *path, model *m, const float *m1, const float *m2, int64_t t,
                        const char *side_dir, const char *state_json)
{
    TRY(remove_checkpoint(tmp));
    if (mkdir(tmp, 0777) != 0) return FAIL(ST_EIO, "%s: %s", tmp, strerror(errno));
    TRY(hf_export(m, side_dir, tmp, "fp32"));
    if (m1) TRY(write_moments(tmp, m1, m2, model_param_count(m)));
    TRY(write_state(tmp, t, state_json));
    TRY(write_checksums(tmp));
    TRY(sync_path(tmp));
    TRY(remove_checkpoint(path)); /* same name: a damaged one that resume went behind */
    if (rename(tmp, path) != 0) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    TRY(write_text(path, "DONE", "", 0));
    return sync_path(path);
}

static int is_step(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return strncmp(d->d_name, "step_", 5) == 0 && !(n > 4 && strcmp(d->d_name + n - 4, ".tmp") == 0);
}

static status remove_old(const char *dir, int keep)
{
    struct dirent **list;
    int n = scandir(dir, &list, is_step, alphasort);
    if (n < 0) return FAIL(ST_EIO, "%s: %s", dir, strerror(errno));
    status st = ST_OK;
    for (int i = 0; i < n; i++) {
        char *path = join(dir, list[i]->d_name);
        if (i < n - keep && st == ST_OK) st = remove_checkpoint(path);
        free(path);
        free(list[i]);
    }
    free(list);
    return st;
}

static status save(const char *dir, const char *name, model *m, const float *m1, const float *m2, int64_t t,
                   const char *side_dir, const char *state_json, int keep)
{
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) return FAIL(ST_EIO, "%s: %s", dir, strerror(errno));
    char *path = join(dir, name), *tmp = NULL;
    CHECK(asprintf(&tmp, "%s.tmp", path) >= 0);
    status st = write_all(tmp, path, m, m1, m2, t, side_dir, state_json);
    if (st == ST_OK) st = sync_path(dir);
    if (st == ST_OK) {
        st = remove_old(dir, keep);
    } else {
        char why[1024];
        snprintf(why, sizeof why, "%s", fail_message());
        remove_checkpoint(tmp); /* give the space back; the first error is the one that counts */
        st = FAIL(st, "checkpoint %s was not written: %s; earlier checkpoints are untouched", path, why);
    }
    free(path);
    free(tmp);
    return st;
}

status checkpoint_save(const char *dir, const char *name, model *m, optim *x, comm *world, const char *side_dir,
                       const char *state_json, int keep)
{
    float *m1 = NULL, *m2 = NULL;
    int64_t t = 0;
    status st = ST_OK;
    if (x) {
        size_t bytes = sizeof(float) * (size_t)model_param_count(m);
        m1 = malloc(bytes);
        m2 = malloc(bytes);
        if (!m1 || !m2) st = FAIL(ST_ENOMEM, "no memory to gather the optimizer's moments (%zu MiB)", 2 * bytes >> 20);
    }
    st = comm_agree(world, st);
    if (st == ST_OK && x) st = optim_state(x, m1, m2, &t);
    if (st == ST_OK && world->rank == 0) st = save(dir, name, m, m1, m2, t, side_dir, state_json, keep);
    free(m1);
    free(m2);
    return comm_agree(world, st);
}

status checkpoint_verify(const char *path)
{
    char *sums = join(path, "checksums.json"), *done = join(path, "DONE");
    struct stat sb;
    json *root = NULL;
    status st = stat(done, &sb) != 0 ? FAIL(ST_ECORRUPT, "%s was never finished (no DONE)", path)
                                     : json_read_file(&root, sums, 1 << 20);
    for (int64_t i = 0; st == ST_OK && i < json_len(root); i++) {
        const char *name = json_key_at(root, i);
        const json *want = json_at(root, i);
        char *file = join(path, name), hex[17];
        int64_t bytes = 0;
        st = hash_file(file, &bytes, hex);
        const char *sum = json_str(json_get(want, "xxh64"));
        if (st == ST_OK && bytes != json_int(json_get(want, "bytes")))
            st = FAIL(ST_ECORRUPT, "%s has %lld bytes, not %lld", file, (long long)bytes,
                      (long long)json_int(json_get(want, "bytes")));
        else if (st == ST_OK && (!sum || strcmp(sum, hex) != 0))
            st = FAIL(ST_ECORRUPT, "%s: checksum %s, not %s", file, hex, sum ? sum : "(none)");
        free(file);
    }
    if (st == ST_OK && (!json_get(root, "model.safetensors") || !json_get(root, "state.json")))
        st = FAIL(ST_ECORRUPT, "%s names no model.safetensors or state.json", sums);
    json_free(root);
    free(sums);
    free(done);
    return st;
}

status checkpoint_find(const char *dir, char **path)
{
    *path = NULL;
    struct dirent **list;
    int n = scandir(dir, &list, is_step, alphasort);
    if (n < 0) return errno == ENOENT ? ST_OK : FAIL(ST_EIO, "%s: %s", dir, strerror(errno));
    for (int i = n - 1; i >= 0; i--) {
        char *p = *path ? NULL : join(dir, list[i]->d_name);
        if (p && checkpoint_verify(p) == ST_OK)
            *path = p;
        else if (p)
            log_warn("skipping a damaged checkpoint: %s", fail_message());
        if (p != *path) free(p);
        free(list[i]);
    }
    free(list);
    return ST_OK;
}

status checkpoint_state(const char *path, json **root, const json **state)
{
    char *file = join(path, "state.json");
    json *j = NULL;
    status st = json_read_file(&j, file, 1 << 24);
    if (st == ST_OK && json_kind(json_get(j, "trainer")) != JSON_OBJECT) {
        json_free(j);
        st = FAIL(ST_ECORRUPT, "%s has no trainer state", file);
    }
    free(file);
    TRY(st);
    *root = j;
    *state = json_get(j, "trainer");
    return ST_OK;
}

static status restore_moments(const char *path, model *m, optim *x)
{
    char *file = join(path, "optim.safetensors");
    st_file *f = NULL;
    json *root = NULL;
    const json *state;
    status st;
    TRY_OR(st_open(&f, file), done);
    const st_tensor *m1 = st_find(f, "m"), *m2 = st_find(f, "v");
    size_t bytes = sizeof(float) * (size_t)model_param_count(m);
    if (!m1 || !m2 || m1->bytes != bytes || m2->bytes != bytes) {
        st = FAIL(ST_ECORRUPT, "%s doesn't hold the moments of this model's %lld parameters", file,
                  (long long)model_param_count(m));
        goto done;
    }
    TRY_OR(checkpoint_state(path, &root, &state), done);
    st = optim_restore(x, m1->data, m2->data, json_int(json_get(root, "t")));
done:
    json_free(root);
    if (f) st_close(f);
    free(file);
    return st;
}

status checkpoint_load(const char *path, model *m, optim *x, comm *world)
{
    TRY(comm_agree(world, checkpoint_verify(path)));
    status st = hf_load_weights(m, path);
    backend *b = model_backend(m);
    b->params_changed(b);
    if (st == ST_OK) st = b->sync(b);
    if (st == ST_OK && x) st = restore_moments(path, m, x);
    return comm_agree(world, st);
}
