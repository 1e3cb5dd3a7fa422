#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "benchmarks/common/boxes.h"
#include "core/clock.h"

typedef struct count {
    int boxd_fds, zygote_fds, cgroups, processes, mounts;
} count;

typedef struct live {
    box **b;
    int n, wrong;
    double *wall, *queue, *seen;
    long *number; /* what the first turn of a box printed; the second has to print it, too */
} live;

static count counts(const bench_pids *id)
{
    return (count){bench_fds(id->boxd), bench_fds(id->zygote), bench_cgroups(id->boxd),
                   bench_descendants(id->boxd, NULL, 0), bench_mounts(id->boxd)};
}

static void print_counts(const char *when, count c)
{
    printf("{\"what\": \"%s\", \"boxd_fds\": %d, \"zygote_fds\": %d, \"cgroups\": %d, \"processes\": %d, \"mounts\": "
           "%d}\n",
           when, c.boxd_fds, c.zygote_fds, c.cgroups, c.processes, c.mounts);
    fflush(stdout);
}

/* One turn in every box, all handed over at once; counts answers that are not as they should be. */
static void all_turns(box_pool *p, live *l, const char *what, const char *code, bool first)
{
    double t = clock_now(), worst = 0;
    for (int i = 0; i < l->n; i++) CHECK(box_submit(l->b[i], code, strlen(code)) == ST_OK);
    for (int ended = 0; ended < l->n;) {
        box *d[64];
        int k = box_poll(p, d, 64, 60000);
        CHECK(k > 0); /* a minute without a result: it hangs */
        for (int i = 0; i < k; i++, ended++) {
            box_result r;
            box_result_take(d[i], &r);
            long id = (long)(intptr_t)box_user(d[i]), number = r.text[0] ? atol(r.text) : -1;
            if (first) l->number[id] = number;
            bool ok = r.verdict == BOX_OK && r.n_image == 1 && number >= 0 && number == l->number[id] && !r.state_lost;
            if (!ok && l->wrong++ < 3)
                fprintf(stderr, "box %ld: %s, %d pictures, \"%.100s\", %s\n", id, box_verdict_name(r.verdict),
                        r.n_image, r.text, r.error_message ? r.error_message : "");
            l->wall[ended] = r.wall_ms;
            l->queue[ended] = r.queue_ms;
            l->seen[ended] = 1e3 * (clock_now() - t);
            double outside = l->seen[ended] - r.wall_ms - r.queue_ms;
            if (outside > worst) worst = outside;
            box_result_free(&r);
        }
    }
    printf("{\"what\": \"%s\", \"n\": %d, \"seconds\": %.2f, \"wall_p50_ms\": %.2f, \"wall_p95_ms\": %.2f, "
           "\"queue_p50_ms\": %.0f, \"queue_max_ms\": %.0f, \"neither_max_ms\": %.1f, \"wrong\": %d}\n",
           what, l->n, clock_now() - t, bench_percentile(l->wall, l->n, 0.5), bench_percentile(l->wall, l->n, 0.95),
           bench_percentile(l->queue, l->n, 0.5), l->queue[l->n - 1], worst, l->wrong);
    fflush(stdout);
}

static void memory(const bench_pids *id, long before_kib, int n)
{
    enum { MOST = 1 << 16 };
    static int pid[MOST];
    int k = bench_descendants(id->boxd, pid, MOST);
    double pss = (double)bench_proc(id->boxd, "smaps_rollup", "Pss"), pte = 0;
    for (int i = 0; i < k; i++) {
        long a = bench_proc(pid[i], "smaps_rollup", "Pss"), b = bench_proc(pid[i], "status", "VmPTE");
        pss += a > 0 ? (double)a : 0;
        pte += b > 0 ? (double)b : 0;
    }
    double total = (double)(before_kib - bench_meminfo("MemAvailable"));
    printf("{\"what\": \"memory\", \"processes\": %d, \"pss_mib\": %.0f, \"page_tables_mib\": %.0f, "
           "\"available_fell_by_mib\": %.0f, \"mib_per_box\": %.2f}\n",
           k, pss / 1024, pte / 1024, total / 1024, total / 1024 / n);
    fflush(stdout);
}

static bool same(count a, count b) { return !memcmp(&a, &b, sizeof a); }

bool bench_load(const box_opts *o, int n, bool with_memory)
{
    static const char first[] = "n = int(np.random.randint(1 << 30))\nwho = img.getpixel((0, 0))\na = np.array(img)\n"
                                "show(img.crop((8, 8, 200, 200)))\nprint(n)\n",
                      again[] = "show(a[:64, :64])\nassert who == img.getpixel((0, 0)) and n > 0\nprint(n)\n";
    enum { SIDE = 672 };
    box_pool_destroy(bench_pool(o)); /* what one pool leaves open is what all may */
    usleep(500000);
    bench_pids id = bench_find();
    int fds = bench_fds(id.boxd), mounts = bench_mounts(id.boxd), groups = bench_cgroups(id.boxd),
        helpers = bench_descendants(id.boxd, NULL, 0);
    long before = bench_meminfo("MemAvailable");
    box_pool *p = bench_pool(o);
    id = bench_find();
    count start = counts(&id);
    print_counts("pool", start);
    live l = {.n = n};
    l.b = calloc((size_t)n, sizeof *l.b);
    l.wall = malloc(3 * sizeof *l.wall * (size_t)n);
    uint8_t *rgb = calloc(SIDE * SIDE, 3);
    l.number = calloc((size_t)n, sizeof *l.number);
    CHECK(l.b && l.wall && l.number && rgb);
    l.queue = l.wall + n;
    l.seen = l.queue + n;
    box_input *in = NULL;
    for (int i = 0; i < n; i++) { /* groups of eight share a picture */
        if (i % 8 == 0) {
            box_input_release(in);
            memset(rgb, i % 251, SIDE * SIDE * 3);
            CHECK(box_input_create(&in, &(box_image){SIDE, SIDE, rgb}, 1) == ST_OK);
        }
        CHECK(box_open(p, (uint64_t)i, in, &l.b[i]) == ST_OK);
        box_set_user(l.b[i], (void *)(intptr_t)i);
    }
    box_input_release(in);
    box *more;
    bool full = box_open(p, 0, NULL, &more) == ST_EAGAIN; /* admission: not one more than max_live */
    if (!full) fprintf(stderr, "a box more than max_live was given out\n");
    all_turns(p, &l, "first turn of all", first, true);
    print_counts("all live", counts(&id));
    if (with_memory) memory(&id, before, n);
    all_turns(p, &l, "second turn of all", again, false);
    double t = clock_now();
    for (int i = 0; i < n; i++) box_close(l.b[i]);
    box *d;
    int busy = 0;
    do { /* what is closed is made ready for another box; then only its first process is left */
        (void)box_poll(p, &d, 1, 0);
        usleep(20000);
        busy = bench_box_pids(id.boxd);
    } while (clock_now() - t < 60 && busy > n + 2 * (o->spares + o->max_starting));
    printf("{\"what\": \"closed\", \"seconds\": %.2f, \"box_processes\": %d}\n", clock_now() - t, busy);
    t = clock_now();
    box_pool_destroy(p);
    count end;
    do {
        usleep(10000);
        end = (count){bench_fds(id.boxd), -1, bench_cgroups(id.boxd), bench_descendants(id.boxd, NULL, 0),
                      bench_mounts(id.boxd)};
    } while (clock_now() - t < 30 && (end.boxd_fds != fds || end.processes > helpers || end.cgroups > groups));
    printf("{\"what\": \"pool ended\", \"seconds\": %.2f, \"memory_back_mib\": %.0f}\n", clock_now() - t,
           (double)(before - bench_meminfo("MemAvailable")) / 1024);
    print_counts("pool ended", end);
    count want = {fds, -1, groups, helpers, mounts};
    bool left = !same(end, want);
    if (left)
        fprintf(stderr, "something is left: %d descriptors were %d, %d processes were %d, %d mounts were %d\n",
                end.boxd_fds, fds, end.processes, helpers, end.mounts, mounts);
    free(l.b);
    free(l.wall);
    free(l.number);
    free(rgb);
    box_shutdown();
    usleep(300000);
    groups = bench_cgroups(id.boxd);
    if (groups) fprintf(stderr, "%d control groups are left\n", groups);
    return full && !l.wrong && !left && !groups;
}
