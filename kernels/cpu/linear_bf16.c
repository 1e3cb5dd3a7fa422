/* Products with weights in bf16. Widening is exact and the chain the same, so the bits are those of fp32 weights of the
 * same values. Nothing is kept: a task widens a block of weights into a buffer in its cache and uses it for all its
 * rows, so a decoding step reads every weight once, as two bytes. The accumulators wait in y between two blocks. */
#include "kernels/cpu/cpu.h"

enum { DEPTH_STEP = 256, COL_STEP = 4 * LANES, ROW_STEP = 48 };

typedef struct product {
    cpu *c;
    const gemm_args *whole;
    const tensor *w;
    int row_step, row_tasks;
} product;

static void product_task(const product *p, int row, int col, float *panels)
{
    const gemm_args *g = p->whole;
    int last = g->rows - row < p->row_step ? g->rows : row + p->row_step;
    int cols = g->cols - col < COL_STEP ? g->cols - col : COL_STEP, k = 0;
    do {
        int depth = g->depth - k < DEPTH_STEP ? g->depth - k : DEPTH_STEP;
        for (int o = 0; o < cols; o += LANES) {
            int n = cols - o < LANES ? cols - o : LANES;
            const uint16_t *from[LANES];
            for (int i = 0; i < n; i++) from[i] = cpu_bf16_row(p->w, col + o + i) + k;
            p->c->k->bf16_to_lanes(panels + (int64_t)o * depth, from, n, depth);
        }
        for (int at = row; at < last; at += ROW_STEP)
            p->c->k->gemm(&(gemm_args){.c = g->c + at * g->c_row + col,
                                       .c_row = g->c_row,
                                       .a = g->a + at * g->a_row + k,
                                       .a_row = g->a_row,
                                       .a_col = 1,
                                       .b = panels,
                                       .b_panel = (int64_t)depth * LANES,
                                       .b_row = LANES,
                                       .bias = g->bias && k + depth == g->depth ? g->bias + col : NULL,
                                       .rows = last - at < ROW_STEP ? last - at : ROW_STEP,
                                       .cols = cols,
                                       .depth = depth,
                                       .chain = k > 0});
        k += DEPTH_STEP;
    } while (k < g->depth);
}

static void product_tasks(void *ctx, int begin, int end, int thread)
{
    const product *p = ctx;
    for (int t = begin; t < end; t++)
        product_task(p, t % p->row_tasks * p->row_step, t / p->row_tasks * COL_STEP, cpu_scratch(p->c, thread));
}

/* A decoding step: nothing is widened in memory. */
static void few_tasks(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const product *p = ctx;
    const gemm_args *g = p->whole;
    for (int o = begin * LANES; o < end * LANES && o < g->cols; o += LANES) {
        bf16_args a = {.y = g->c + o,
                       .x = g->a,
                       .bias = g->bias ? g->bias + o : NULL,
                       .y_row = g->c_row,
                       .x_row = g->a_row,
                       .depth = g->depth,
                       .outputs = g->cols - o < LANES ? g->cols - o : LANES};
        for (int i = 0; i < LANES; i++) a.w[i] = cpu_bf16_row(p->w, i < a.outputs ? o + i : o);
        for (int row = 0; row < g->rows; row += a.rows, a.x += a.rows * a.x_row, a.y += a.rows * a.y_row) {
            a.rows = g->rows - row < BF16_FEW ? g->rows - row : BF16_FEW;
            p->c->k->bf16_few(&a);
        }
    }
}

bool cpu_gemm_bf16(cpu *c, const gemm_args *g, const tensor *w)
{
    if (g->rows == 0 || g->cols == 0) return true;
    if (g->rows <= 2 * BF16_FEW) { /* the second time from the cache */
        product few = {.c = c, .whole = g, .w = w};
        cpu_for(c, (g->cols + LANES - 1) / LANES, 2.0 * g->rows * g->cols * g->depth, few_tasks, &few);
        return true;
    }
    if (!cpu_reserve(c, 0, c->n_thread - 1, (size_t)DEPTH_STEP * COL_STEP * sizeof(float))) return false;
    int col_tasks = (g->cols + COL_STEP - 1) / COL_STEP;
    int row_tasks = (4 * c->n_thread + col_tasks - 1) / col_tasks; /* each of them widens the weights again */
    if (row_tasks > (g->rows + ROW_STEP - 1) / ROW_STEP) row_tasks = (g->rows + ROW_STEP - 1) / ROW_STEP;
    product p = {.c = c, .whole = g, .w = w, .row_step = (g->rows + row_tasks - 1) / row_tasks};
    p.row_tasks = (g->rows + p.row_step - 1) / p.row_step;
    cpu_for(c, (int64_t)p.row_tasks * col_tasks, 2.0 * g->rows * g->cols * g->depth, product_tasks, &p);
    return true;
}
