/* The hostile suite: every file of tests/hostile is an attack with the verdict it has to meet (format in
 * tests/hostile/README.md). hostile.c reads them, hostile_run.c sends them through a pool several at a time beside
 * honest boxes, hostile_witness.c is what an escape would reach. */
#ifndef TESTS_COMMON_HOSTILE_H
#define TESTS_COMMON_HOSTILE_H

#include "sandbox/box.h"

enum { HOSTILE_TURNS = 16, HOSTILE_FILES = 400 };

typedef enum hostile_after { AFTER_ALIVE, AFTER_LOST, AFTER_ANY } hostile_after;

typedef struct hostile_turn {
    char *code;
    uint32_t verdicts; /* bit per acceptable verdict */
    int code_is;       /* exit status or signal; -1: not looked at */
    char *text;        /* whole output, one final line end apart; NULL: not looked at */
    char *has;         /* part of the output or of the error's type and message; NULL: not looked at */
    int n_image;       /* -1: not looked at */
    bool fresh;        /* in a new box, which gets the jail of the one before */
    double pause_s;    /* before it */
} hostile_turn;

typedef struct hostile_input {
    char name[64];
    hostile_turn turn[HOSTILE_TURNS];
    int n_turn;
    hostile_after after; /* what the state has to be after the last turn */
    char needs[96];      /* modules, separated by spaces, without which it has no meaning */
    char *after_text;    /* NULL, or what `print(alive)` has to say */
    bool has_fresh;
} hostile_input;

/* All files of dir whose names contain only ("" = all), with what they expect at this tier; false after a message. */
bool hostile_read(const char *dir, box_tier tier, const char *only, hostile_input **out, int *n);
void hostile_free(hostile_input *in, int n);
/* False and a line about it when the result is not what the turn expects. */
bool hostile_judge(const hostile_input *in, int turn, const box_result *r);

/* Things of the machine that no box may reach: a file, a variable, listening sockets. Created before box_boot. */
typedef struct hostile_witness {
    char dir[64], file[96], secret[40];
    int tcp, udp, named, abstract, port_tcp, port_udp;
} hostile_witness;
bool hostile_witness_open(hostile_witness *w);
/* Python that tells an attack where they are. */
void hostile_witness_describe(const hostile_witness *w, char *out, size_t n);
/* Number of witnesses that saw something, each with a line. */
int hostile_witness_check(const hostile_witness *w);
void hostile_witness_close(hostile_witness *w);

/* The limits that the inputs are written for, and the first turn of their boxes, malloc'ed (NULL: unreadable). */
box_opts hostile_box_opts(void);
char *hostile_prelude(const hostile_witness *w, box_tier tier);
/* Whole suite at one tier, as a cmocka program: 0, 1, or 77 with the reason. Arguments: a path is the interpreter to
 * run it with, a word picks the files whose names contain it. */
int hostile_main(int argc, char **argv, box_tier tier);
/* The same for tests/honest: programs that must work, with the picture honest_picture as input_image. */
int honest_main(int argc, char **argv, box_tier tier);
/* The denials of Docker's default profile for all that this process starts; 0, or -1. */
int hostile_deny_namespaces(void);
/* Root becomes an ordinary user for good. 0, -1 where that fails; nothing to do for others. */
int hostile_drop_root(void);

#endif
