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
enum { ROW_STEP = 48, COL_STEP = 128, COL_MIN = 2 * LANES };

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

void cpu_matmul_nt(cpu *c, float *y, int64_t y_row, const float *x, int64_t rows, const tensor *w, const float *panels,
                   const float *bias)
{
    int64_t outputs = rows_of(w), inputs = cols_of(w);
    run(c, &(gemm_args){.c = y,
                        .c_row = y_row,
                        .a = x,
                        .a_row = inputs,
                        .a_col = 1,
                        .b = panels,
                        .b_panel = inputs * LANES,
                        .b_row = LANES,
                        .bias = bias,
                        .rows = (int)rows,
                        .cols = (int)outputs,
                        .depth = (int)inputs});
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

typedef struct column_sums {
    float *sum;
    const float *dy;
    int64_t rows, dy_row, outputs;
} column_sums;

static void column_sum_tasks(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const column_sums *s = ctx;
    int64_t lo = (int64_t)begin * LANES, hi = (int64_t)end * LANES < s->outputs ? (int64_t)end * LANES : s->outputs;
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t o = lo; o < hi; o++) s->sum[o] += s->dy[r * s->dy_row + o];
}

void cpu_matmul_tn(cpu *c, float *dw, float *dbias, const float *dy, int64_t dy_row, const float *x, int64_t rows,
                   int64_t outputs, int64_t inputs)
{
    if (rows == 0) return;
    run(c, &(gemm_args){.c = dw,
                        .c_row = inputs,
                        .a = dy,
                        .a_row = 1,
                        .a_col = dy_row,
                        .b = x,
                        .b_panel = LANES,
                        .b_row = inputs,
                        .rows = (int)outputs,
                        .cols = (int)inputs,
                        .depth = (int)rows,
                        .chain = true});
    if (dbias) {
        column_sums s = {dbias, dy, rows, dy_row, outputs};
        cpu_for(c, (outputs + LANES - 1) / LANES, (double)rows * (double)outputs, column_sum_tasks, &s);
    }
}

void cpu_linear_fwd(backend *b, tensor *y, const tensor *x, const tensor *w, const tensor *bias)
{
    CHECK_F32(y), CHECK_F32(x), CHECK_F32(w);
    CHECK(rows_of(y) == rows_of(x) && cols_of(y) == rows_of(w) && cols_of(x) == cols_of(w));
    CHECK(!bias || (bias->type == DT_F32 && tensor_count(bias) == rows_of(w)));
    cpu *c = cpu_of(b);
    if (tensor_count(y) == 0) return;
    const float *panels = cpu_pack(c, w);
    if (panels) cpu_matmul_nt(c, y->data, cols_of(y), x->data, rows_of(x), w, panels, bias ? bias->data : NULL);
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
