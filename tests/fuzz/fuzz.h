/* Entry functions for fuzzing: each feeds the bytes to one reader of foreign data and, where they are accepted, uses
 * what was read. The reader may refuse (the status is passed on) but never crash, hang, or allocate without measure.
 *
 * With libFuzzer (clang): one program per entry,
 *     cmake --preset fuzz && ninja -C build/fuzz fuzz_all
 *     mkdir -p /tmp/png && build/fuzz/fuzz_png -max_total_time=1800 -rss_limit_mb=2048 -malloc_limit_mb=1200 \
 *         -timeout=10 -dict=tests/fuzz/json.dict /tmp/png tests/fuzz/corpus/png
 * (the dictionary for what is JSON). Without it, in every build: the test fuzz_corpus (corpus.c) replays the files of
 * tests/fuzz/corpus/ENTRY through the same functions. What a file's name begins with says what has to become of it:
 *     good-...   accepted          bad-...   refused          other   either
 * A crash that was found becomes a file there, named after the defect. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

status fuzz_safetensors(const uint8_t *data, size_t n);  /* a whole .safetensors file */
status fuzz_index(const uint8_t *data, size_t n);        /* model.safetensors.index.json beside two good shards */
status fuzz_tokenizer(const uint8_t *data, size_t n);    /* tokenizer.json, then a text through it */
status fuzz_text(const uint8_t *data, size_t n);         /* a text for a tokenizer: encode, decode, compare with NFC */
status fuzz_config(const uint8_t *data, size_t n);       /* config.json of a model */
status fuzz_preprocessor(const uint8_t *data, size_t n); /* preprocessor_config.json */
status fuzz_conversation(const uint8_t *data, size_t n); /* one JSONL row, rendered */
/* Pictures of one format, decoded and, if small, turned into patches. Others are refused. */
status fuzz_png(const uint8_t *data, size_t n); /* the chunks' CRCs are set right first */
status fuzz_jpeg(const uint8_t *data, size_t n);
status fuzz_webp(const uint8_t *data, size_t n);
status fuzz_gif(const uint8_t *data, size_t n);

/* Path of a file in memory holding the bytes, for readers that open files; valid until the next call. */
const char *fuzz_file(const uint8_t *data, size_t n);
/* The tokenizer of the entries that need one: the 256 bytes, a few merges, the ChatML, vision and tool tokens. */
struct tokenizer;
const struct tokenizer *fuzz_demo_tokenizer(void);

#endif
