/* A checkpoint of tests/fixtures, opened the way launch/setup.c opens a model directory. */
#ifndef TESTS_COMMON_SUBJECT_H
#define TESTS_COMMON_SUBJECT_H

#include "data/chat.h"
#include "tests/common/fixture.h"

typedef struct subject {
    fixture *f;
    model_config cfg;
    tokenizer *tok;
    image_processor ip;
    chat chat;
    backend *b;
    model *m;
    dataset *data;
    int n;
    rendered row[FIXTURE_CHATS];
} subject;

/* Fails the test when something can't be opened. The model has gradients; every conversation is rendered. */
void subject_open(subject *s, fixture *f);
void subject_close(subject *s);

#endif
