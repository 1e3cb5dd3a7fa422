#include "kernels/cpu/isa/kern.h"

#define NAME2(isa) #isa
#define NAME(isa) NAME2(isa)

const kern SYM(kern) = {.name = NAME(ISA),
#define KERN_ENTRY(ret, field, args) .field = SYM(field),
                        KERNELS(KERN_ENTRY)};
