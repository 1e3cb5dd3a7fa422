/* Fewer, larger mappings: what a fork costs grows with their number. */
#ifndef SANDBOX_PACK_H
#define SANDBOX_PACK_H

/* Puts the libraries loaded so far into a few private mappings of a file in memory that nobody has open, at the
 * addresses they have, in place of some five mappings each. A fork copies nothing of such a mapping until its parent
 * has written to it, and a child reads no page in again. (Anonymous huge pages are as fast, but each costs every
 * process a page for the table that would replace it: a gigabyte for a thousand boxes with OpenCV.) Left out: the
 * program itself, the loader and the C library (all that zygote and runner execute keeps its protection), and single
 * mappings of 8 MiB and more, which would cost memory for one entry saved. The copies can be written and executed,
 * which takes nothing from a box: its code may map such memory anyway, and no layer rests on Python's libraries. Does
 * nothing where such mappings are refused. One thread, before model code. proc: O_PATH of /proc. */
void pack_libraries(int proc);

#endif
