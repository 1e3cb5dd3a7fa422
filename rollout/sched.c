#include "rollout/sched.h"

#include "core/ops.h"

static int blocks_of(int n_token) { return (n_token + ATTN_BLOCK - 1) / ATTN_BLOCK; }

int sched_need(const sched_item *it, int rows)
{
    if (rows == 0) return 0;
    return blocks_of(it->n_token + rows) - blocks_of(it->n_token) + (it->tail_shared && it->n_token % ATTN_BLOCK);
}

/* Shortens rows so that no image run is cut; 0 when a run starts right here and doesn't fit. */
static int whole_images(const sched_item *it, int rows)
{
    int end = it->n_token + rows;
    for (int i = 0; i < it->n_run; i++) {
        const mrope_image *r = &it->run[i];
        int stop = r->start + r->t * (r->h / it->merge) * (r->w / it->merge);
        if (r->start < end && end < stop) return r->start > it->n_token ? r->start - it->n_token : 0;
    }
    return rows;
}

/* Rows that fit into `free` blocks, at most `rows`. */
static int fitting(const sched_item *it, int rows, int free)
{
    if (it->tail_shared && it->n_token % ATTN_BLOCK) free--;
    if (free < 0) return 0;
    int room = (blocks_of(it->n_token) + free) * ATTN_BLOCK - it->n_token;
    return rows < room ? rows : room;
}

int sched_plan(const sched_item *item, int n, const sched_limits *lim, int *plan)
{
    int free = lim->free_blocks, prefill = lim->prefill_rows;
    int reserve = 0; /* blocks that residents in front will want soon: admissions leave them alone */
    int end = n;     /* items from here on were evicted */
    int fed = 0;
    bool first = true;     /* no runnable item seen yet */
    bool admitting = true; /* an admission that found no room closes the door behind it: order stays fair */
    for (int i = 0; i < n; i++) plan[i] = 0;
    for (int i = 0; i < end; i++) {
        const sched_item *it = &item[i];
        if (it->pending == 0) continue;
        bool head = first;
        first = false;
        if (!it->resident && !head) {
            if (!admitting) continue;
            if (sched_need(it, it->pending) + it->extra + reserve > free) {
                admitting = false;
                continue;
            }
        }
        if (fed == lim->seqs) {
            if (it->resident) reserve++;
            continue;
        }
        int rows = it->pending;
        if (rows > 1 && rows > prefill) rows = prefill;
        rows = whole_images(it, rows);
        if (it->resident || head) {
            while (sched_need(it, rows) > free && end - 1 > i) {
                const sched_item *victim = &item[--end];
                if (!victim->resident) continue;
                plan[end] = SCHED_EVICT;
                free += victim->held;
            }
        }
        rows = whole_images(it, fitting(it, rows, free));
        if (rows == 0) continue;
        plan[i] = rows;
        fed++;
        free -= sched_need(it, rows);
        if (it->pending > 1) prefill -= rows;
        reserve += blocks_of(it->n_token + it->pending) - blocks_of(it->n_token + rows) + it->extra + 1;
    }
    return fed;
}
