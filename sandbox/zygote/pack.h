/* Fewer, larger mappings: what a fork costs grows with their number. */
#ifndef SANDBOX_PACK_H
#define SANDBOX_PACK_H

/* Puts the libraries loaded so far into a few anonymous mappings of huge pages, at the addresses they have: a fork then
 * copies one entry for two megabytes instead of some five mappings per library, and no child reads their pages in
 * again. Left out: the program itself, the loader and the C library (all that zygote and runner execute keeps its
 * protection), and single mappings of 8 MiB and more, which would cost memory for one entry saved. The copies can be
 * written and executed, which takes nothing from a box: its code may map such memory anyway, and no layer rests on
 * Python's libraries. Does nothing where huge pages are not to be had, since small ones would make forks dearer. One
 * thread, before model code. proc: O_PATH of /proc. */
void pack_libraries(int proc);

#endif
