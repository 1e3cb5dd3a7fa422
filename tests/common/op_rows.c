#include "tests/op_cases.h"

/* From core/ops.h itself: an op without a row does not link. */
#define EXTERN_ROW(name, args) extern const op_row row_##name;
OPS(EXTERN_ROW)
#define ROW_ENTRY(name, args) &row_##name,
const op_row *const op_rows[] = {OPS(ROW_ENTRY)};
const int op_row_count = sizeof op_rows / sizeof *op_rows;
