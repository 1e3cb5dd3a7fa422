/* Matrix products: how the work is cut into tasks. Every output element is one chain in one task. */
#include "kernels/cpu/cpu.h"

typedef struct product {
    const kern *k;
    gemm_args whole;
    int row_step, col_step, row_tasks, col_tasks;
    bool rows_first; /* walk down the rows before the next columns: the larger operand is read from memory once */
} product;

static void product_tasks(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const product *p = ctx;
    for (int t = begin; t < end; t++) {
        int row = (p->rows_first ? t % p->row_tasks : t / p->col_tasks) * p->row_step;
        int col = (p->rows_first ? t / p->row_tasks : t % p->col_tasks) * p->col_step;
        gemm_args g = p->whole;
        g.c += row * g.c_row + col;
        g.a += row * g.a_row;
        g.b += col / LANES * g.b_panel;
        if (g.bias) g.bias += col;
        g.rows = g.rows - row < p->row_step ? g.rows - row : p->row_step;
        g.cols = g.cols - col < p->col_step ? g.cols - col : p->col_step;
        p->k->gemm(&g);
    }
}

/* Blocks of up to ROW_STEP x COL_STEP keep the left operand in L1 and the right one in L2; blocks of equal size, and
 * for few of them a multiple of the threads, keep everyone busy to the end. */
enum { ROW_STEP = 48, ROW_MIN = 12, COL_STEP = 128, COL_MIN = 2 * LANES };

static int ceil_div(int a, int b) { return (a + b - 1) / b; }

static void run(cpu *c, const gemm_args *g)
{
    if (g->rows == 0 || g->cols == 0) return;
    int row_tasks = ceil_div(g->rows, ROW_STEP), col_tasks = ceil_div(g->cols, COL_STEP);
    if (row_tasks < 4 * c->n_thread && row_tasks % c->n_thread)
        col_tasks = ceil_div(col_tasks, c->n_thread) * c->n_thread;
    product p = {.k = c->k, .whole = *g, .row_step = ceil_div(g->rows, row_tasks), .rows_first = g->cols > g->rows};
    p.col_step = ceil_div(ceil_div(g->cols, col_tasks), COL_MIN) * COL_MIN;
    p.col_tasks = ceil_div(g->cols, p.col_step);
    p.row_tasks = ceil_div(g->rows, p.row_step);
    double work = 2.0 * g->rows * g->cols * g->depth;
    cpu_for(c, (int64_t)p.row_tasks * p.col_tasks, work, product_tasks, &p);
}

bool cpu_matmul_nt(cpu *c, float *y, int64_t y_row, const float *x, int64_t rows, const tensor *w, const float *bias)
{
    int64_t outputs = rows_of(w), inputs = cols_of(w);
    gemm_args g = {.c = y,
                   .c_row = y_row,
                   .a = x,
                   .a_row = inputs,
                   .a_col = 1,
                   .b_panel = inputs * LANES,
                   .b_row = LANES,
                   .bias = bias,
                   .rows = (int)rows,
                   .cols = (int)outputs,
                   .depth = (int)inputs};
    if (w->type != DT_F32) return cpu_gemm_bf16(c, &g, w);
    g.b = cpu_pack(c, w);
    if (g.b) run(c, &g);
    return g.b != NULL;
}

void cpu_matmul_nn(cpu *c, float *dx, const float *dy, int64_t dy_row, int64_t rows, const tensor *w)
{
    int64_t outputs = rows_of(w), inputs = cols_of(w);
    run(c, &(gemm_args){.c = dx,
                        .c_row = inputs,
                        .a = dy,
                        .a_row = dy_row,
                        .a_col = 1,
                        .b = w->data,
                        .b_panel = LANES,
                        .b_row = inputs,
                        .rows = (int)rows,
                        .cols = (int)inputs,
                        .depth = (int)outputs});
}

/* dw += dy^T x. The chain over rows is long, so a task walks it in blocks of DEPTH_STEP rows, whose x stays in L2 while
 * all its outputs pass; the accumulators wait in dw between two blocks. */
enum { DEPTH_STEP = 256 };

typedef struct outer {
    const kern *k;
    float *dw, *dbias;
    const float *dy, *x;
    int64_t dy_row, rows;
    int outputs, inputs, row_step, col_step, row_tasks;
} outer;

static void outer_tasks(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const outer *o = ctx;
    for (int t = begin; t < end; t++) {
        int row = t % o->row_tasks * o->row_step, col = t / o->row_tasks * o->col_step;
        int last = o->outputs - row < o->row_step ? o->outputs : row + o->row_step;
        for (int64_t k = 0; k < o->rows; k += DEPTH_STEP) {
            int depth = o->rows - k < DEPTH_STEP ? (int)(o->rows - k) : DEPTH_STEP;
            for (int at = row; at < last; at += ROW_STEP)
                o->k->gemm(&(gemm_args){.c = o->dw + (int64_t)at * o->inputs + col,
                                        .c_row = o->inputs,
                                        .a = o->dy + k * o->dy_row + at,
                                        .a_row = 1,
                                        .a_col = o->dy_row,
                                        .b = o->x + k * o->inputs + col,
                                        .b_panel = LANES,
                                        .b_row = o->inputs,
                                        .rows = last - at < ROW_STEP ? last - at : ROW_STEP,
                                        .cols = o->inputs - col < o->col_step ? o->inputs - col : o->col_step,
                                        .depth = depth,
                                        .chain = true});
            for (int64_t i = k; o->dbias && col == 0 && i < k + depth; i++)
                for (int j = row; j < last; j++) o->dbias[j] += o->dy[i * o->dy_row + j];
        }
    }
}

void cpu_matmul_tn(cpu *c, float *dw, float *dbias, const float *dy, int64_t dy_row, const float *x, int64_t rows,
                   int64_t outputs, int64_t inputs)
{
    if (rows == 0 || outputs == 0) return;
    outer o = {.k = c->k,
               .dw = dw,
               .dbias = dbias,
               .dy = dy,
               .x = x,
               .dy_row = dy_row,
               .rows = rows,
               .outputs = (int)outputs,
               .inputs = (int)inputs};
    int col_tasks = inputs ? ceil_div(o.inputs, COL_STEP) : 1;
    int row_tasks = c->n_thread == 1 ? 1 : ceil_div(2 * c->n_thread, col_tasks); /* a few for each thread */
    o.col_step = ceil_div(ceil_div(o.inputs, col_tasks), COL_MIN) * COL_MIN;
    o.row_step = ceil_div(ceil_div(o.outputs, row_tasks), ROW_MIN) * ROW_MIN;
    o.row_tasks = ceil_div(o.outputs, o.row_step);
    if (o.col_step) col_tasks = ceil_div(o.inputs, o.col_step);
    cpu_for(c, (int64_t)o.row_tasks * col_tasks, 2.0 * (double)(rows * outputs * inputs), outer_tasks, &o);
}

void cpu_linear_fwd(backend *b, tensor *y, const tensor *x, const tensor *w, const tensor *bias)
{
    CHECK_F32(y), CHECK_F32(x), CHECK_WEIGHT(w);
    CHECK(rows_of(y) == rows_of(x) && cols_of(y) == rows_of(w) && cols_of(x) == cols_of(w));
    CHECK(!bias || (bias->type == DT_F32 && tensor_count(bias) == rows_of(w)));
    cpu *c = cpu_of(b);
    if (tensor_count(y) == 0) return;
    cpu_matmul_nt(c, y->data, cols_of(y), x->data, rows_of(x), w, bias ? bias->data : NULL);
}

void cpu_linear_dx(backend *b, tensor *dx, const tensor *dy, const tensor *w)
{
    CHECK_F32(dx), CHECK_F32(dy), CHECK_F32(w);
    CHECK(rows_of(dx) == rows_of(dy) && cols_of(dy) == rows_of(w) && cols_of(dx) == cols_of(w));
    cpu_matmul_nn(cpu_of(b), dx->data, dy->data, cols_of(dy), rows_of(dy), w);
}

void cpu_linear_dw(backend *b, tensor *dw, tensor *dbias, const tensor *dy, const tensor *x)
{
    CHECK_F32(dw), CHECK_F32(dy), CHECK_F32(x);
    CHECK(rows_of(dy) == rows_of(x) && rows_of(dw) == cols_of(dy) && cols_of(dw) == cols_of(x));
    CHECK(!dbias || (dbias->type == DT_F32 && tensor_count(dbias) == cols_of(dy)));
    cpu_matmul_tn(cpu_of(b), dw->data, dbias ? dbias->data : NULL, dy->data, cols_of(dy), x->data, rows_of(dy),
                  cols_of(dy), cols_of(x));
}
