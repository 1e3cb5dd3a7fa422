#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/json.h"
#include "core/model.h"
#include "core/thread.h"
#include "data/file.h"
#include "data/image.h"
#include "data/hf.h"
#include "data/tokenizer.h"
#include "launch/args.h"
#include "launch/commands.h"

typedef struct init_args {
    const char *config, *tokenizer, *preprocessor, *out, *dtype;
    int64_t seed, min_pixels, max_pixels, resample, shard_bytes;
} init_args;

/* ChatML as data/chat.h renders it: no default system prompt, tool results in a user turn. */
static const char chat_template[] = "{% for message in messages %}{% set tool = message['role'] == 'tool' %}"
                                    "{{ '<|im_start|>' + ('user' if tool else message['role']) + '\\n' }}"
                                    "{% if tool %}{{ '<tool_response>' }}{% endif %}"
                                    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
                                    "{% for part in message['content'] %}"
                                    "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
                                    "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
                                    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
                                    "{% endfor %}{% endif %}"
                                    "{% if tool %}{{ '</tool_response>' }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
                                    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/* Token ids that config.json names, and the added tokens they stand for. */
static const struct {
    const char *key, *token;
    bool vision;
} token_keys[] = {{"bos_token_id", "<|endoftext|>", false},
                  {"eos_token_id", "<|im_end|>", false},
                  {"image_token_id", "<|image_pad|>", true},
                  {"video_token_id", "<|video_pad|>", true},
                  {"vision_start_token_id", "<|vision_start|>", true},
                  {"vision_end_token_id", "<|vision_end|>", true}};
enum { N_TOKEN_KEY = sizeof token_keys / sizeof *token_keys };

static status put_tokens(json_out *o, const json *j, const tokenizer *tok, const char *path)
{
    for (int k = 0; k < N_TOKEN_KEY; k++) {
        const json *said = json_get(j, token_keys[k].key);
        if (json_kind(said) == JSON_NULL) said = json_get(json_get(j, "text_config"), token_keys[k].key);
        if (token_keys[k].vision && !json_get(j, "vision_config")) continue;
        int id = tokenizer_id(tok, token_keys[k].token);
        if (id < 0)
            return FAIL(ST_EINVAL, "the tokenizer has no token %s, which %s needs", token_keys[k].token,
                        token_keys[k].key);
        if (json_kind(said) != JSON_NULL && !(json_is_int(said) && json_int(said) == id))
            return FAIL(ST_EINVAL, "%s: %s must be %d, the tokenizer's %s; or leave it out", path, token_keys[k].key,
                        id, token_keys[k].token);
        json_member_int(o, token_keys[k].key, id);
    }
    return ST_OK;
}

static bool is_token_key(const char *key)
{
    for (int k = 0; k < N_TOKEN_KEY; k++)
        if (!strcmp(token_keys[k].key, key)) return true;
    return false;
}

/* The config file with the tokenizer's ids filled in. */
static status resolve_config(model_config *c, const char *path, const json *j, const tokenizer *tok)
{
    json *full = NULL;
    json_out o;
    if (json_kind(j) != JSON_OBJECT) return FAIL(ST_EINVAL, "%s: an object is needed", path);
    json_begin(&o, false);
    json_open(&o, '{');
    for (int64_t i = 0; i < json_len(j); i++) {
        if (is_token_key(json_key_at(j, i))) continue;
        json_key(&o, json_key_at(j, i));
        json_put_node(&o, json_at(j, i));
    }
    status st = put_tokens(&o, j, tok, path);
    if (st == ST_OK) {
        json_close(&o, '}');
        st = json_parse(&full, o.text, o.len, path);
    }
    json_end(&o);
    if (st == ST_OK) st = model_config_from_json(c, full);
    json_free(full);
    if (st == ST_OK && c->vocab < tokenizer_vocab(tok))
        return FAIL(ST_EINVAL, "%s: vocab_size %d does not cover the tokenizer's %d ids", path, c->vocab,
                    tokenizer_vocab(tok));
    return st;
}

static status read_config(model_config *c, const char *path, const tokenizer *tok)
{
    json *j = NULL;
    TRY(json_read_file(&j, path, 1 << 24));
    status st = resolve_config(c, path, j, tok);
    json_free(j);
    return st;
}

static status write_json(json_out *o, const char *dir, const char *name)
{
    char path[PATH_MAX];
    status st = file_join(path, sizeof path, dir, name);
    if (st == ST_OK) st = file_write(path, o->text, o->len);
    json_end(o);
    return st;
}

static status write_tokenizer_config(const char *dir, const model_config *c)
{
    json_out o;
    json_begin(&o, true);
    json_open(&o, '{');
    json_member_str(&o, "chat_template", chat_template);
    json_member_bool(&o, "clean_up_tokenization_spaces", false);
    json_member_str(&o, "eos_token", "<|im_end|>");
    json_member_int(&o, "model_max_length", c->max_position);
    json_member_str(&o, "pad_token", "<|endoftext|>");
    json_member_bool(&o, "split_special_tokens", false);
    json_member_str(&o, "tokenizer_class", "Qwen2Tokenizer");
    json_close(&o, '}');
    return write_json(&o, dir, "tokenizer_config.json");
}

static status write_chat_template(const char *dir)
{
    json_out o;
    json_begin(&o, true);
    json_open(&o, '{');
    json_member_str(&o, "chat_template", chat_template);
    json_close(&o, '}');
    return write_json(&o, dir, "chat_template.json");
}

/* The policy as it is: temperature 1, nothing cut off. */
static status write_generation_config(const char *dir, const model_config *c)
{
    json_out o;
    json_begin(&o, true);
    json_open(&o, '{');
    json_member_int(&o, "bos_token_id", c->bos_token);
    json_member_bool(&o, "do_sample", true);
    json_key(&o, "eos_token_id");
    json_open(&o, '[');
    json_put_int(&o, c->eos_token);
    json_put_int(&o, c->bos_token);
    json_close(&o, ']');
    json_member_int(&o, "pad_token_id", c->bos_token);
    json_member_num(&o, "temperature", 1);
    json_member_int(&o, "top_k", 0);
    json_member_num(&o, "top_p", 1);
    json_close(&o, '}');
    return write_json(&o, dir, "generation_config.json");
}

/* What the image processor will be: a file of the user's, or the published one with other limits. */
static status read_processor(image_processor *p, const init_args *a, const model_config *c)
{
    image_processor_default(p);
    if (a->preprocessor) {
        json *j = NULL;
        if (a->min_pixels || a->max_pixels || a->resample >= 0)
            return args_usage("--preprocessor already says the pixels and the resampling");
        TRY(json_read_file(&j, a->preprocessor, 1 << 20));
        status st = image_processor_from_json(p, j);
        json_free(j);
        if (st != ST_OK) return fail_within(st, "%s", a->preprocessor);
    } else {
        if (c->family == FAMILY_QWEN3) { /* qwen_vl_spec 5.1 */
            p->min_pixels = 65536;
            p->max_pixels = 16777216;
            for (int i = 0; i < 3; i++) p->mean[i] = p->std[i] = 0.5f;
        }
        p->patch = c->vision.patch;
        p->merge = c->vision.merge;
        p->temporal_patch = c->vision.temporal_patch;
    }
    if (a->min_pixels) p->min_pixels = a->min_pixels;
    if (a->max_pixels) p->max_pixels = a->max_pixels;
    if (a->resample >= 0) p->filter = (resample)a->resample;
    if (p->min_pixels < 1 || p->min_pixels > p->max_pixels)
        return args_usage("--min-pixels %lld must be positive and at most --max-pixels %lld", (long long)p->min_pixels,
                          (long long)p->max_pixels);
    if (p->patch != c->vision.patch || p->merge != c->vision.merge || p->temporal_patch != c->vision.temporal_patch)
        return FAIL(ST_EINVAL, "%s: patch, merge or temporal patch size differs from the config's", a->preprocessor);
    return ST_OK;
}

static status write_processor(const char *dir, const image_processor *p)
{
    json_out o;
    json_begin(&o, true);
    image_processor_to_json(p, &o);
    return write_json(&o, dir, "preprocessor_config.json");
}

/* The weights are made while they are written: a model larger than the memory is no problem. */
typedef struct making {
    const model *names;
    thread_pool *pool;
    uint64_t seed;
    st_entry *entry;
    model_tensor *tensor; /* (n) as entry */
    int n;
    /* the piece being made */
    int i;
    size_t at, size, count; /* elements, but size: bytes of one */
    void *to;
} making;

enum { MAKE_STEP = 1 << 12 };

static status add_tensor(void *ctx, const model_tensor *t)
{
    making *k = ctx;
    if (k->entry) {
        st_entry *e = &k->entry[k->n];
        *e = (st_entry){.name = t->name, .dtype = e->dtype, .ndim = t->ndim};
        memcpy(e->shape, t->shape, (size_t)t->ndim * sizeof *e->shape);
        e->bytes = (size_t)tensor_count(&t->w) * (size_t)st_dtype_bytes(e->dtype);
        k->tensor[k->n] = *t;
    }
    k->n++;
    return ST_OK;
}

static void make_steps(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    making *k = ctx;
    for (size_t s = (size_t)begin * MAKE_STEP; s < (size_t)end * MAKE_STEP && s < k->count; s += MAKE_STEP) {
        float value[MAKE_STEP];
        size_t n = k->count - s < MAKE_STEP ? k->count - s : MAKE_STEP;
        model_init_values(k->names, &k->tensor[k->i], k->seed, (int64_t)(k->at + s), (int64_t)n, value);
        hf_store(k->entry[k->i].dtype, (char *)k->to + s * k->size, value, (int64_t)n);
    }
}

static status make_values(void *ctx, int i, size_t at, void *buf, size_t bytes)
{
    making *k = ctx;
    k->i = i;
    k->size = (size_t)st_dtype_bytes(k->entry[i].dtype);
    k->at = at / k->size;
    k->count = bytes / k->size;
    k->to = buf;
    thread_pool_for(k->pool, (int)((k->count + MAKE_STEP - 1) / MAKE_STEP), 4, make_steps, k);
    return ST_OK;
}

static status make_all(making *k, const init_args *a, model *names)
{
    TRY(model_visit(names, add_tensor, k));
    k->entry = calloc((size_t)k->n, sizeof *k->entry);
    k->tensor = calloc((size_t)k->n, sizeof *k->tensor);
    if (!k->entry || !k->tensor) return FAIL(ST_ENOMEM, "out of memory for %d tensors", k->n);
    for (int i = 0; i < k->n; i++) k->entry[i].dtype = hf_stored_name(a->dtype);
    k->n = 0;
    TRY(model_visit(names, add_tensor, k));
    return hf_write_weights(a->out, k->entry, k->n, a->shard_bytes ? a->shard_bytes : HF_SHARD_BYTES, NULL, make_values,
                            k);
}

static status write_weights(const init_args *a, const model_config *c, int64_t *count)
{
    model *names = NULL;
    making k = {.seed = (uint64_t)a->seed};
    TRY(model_create_names(&names, c));
    k.names = names;
    *count = model_param_count(names);
    status st = thread_pool_create(&k.pool, thread_cpus());
    if (st == ST_OK) st = make_all(&k, a, names);
    thread_pool_destroy(k.pool);
    free(k.entry);
    free(k.tensor);
    model_destroy(names);
    return st;
}

/* side: the directory the tokenizer came from, or NULL when it is a lone file. */
static status write_all(const init_args *a, const char *side, const char *tokenizer_path, const model_config *c,
                        int64_t *count)
{
    image_processor p;
    char *text = NULL, path[PATH_MAX];
    size_t n = 0;
    if (c->has_vision) TRY(read_processor(&p, a, c));
    TRY(file_make_dir(a->out));
    if (side) TRY(hf_copy_side_files(side, a->out));
    TRY(file_read(tokenizer_path, &text, &n));
    status st = file_join(path, sizeof path, a->out, "tokenizer.json");
    if (st == ST_OK) st = file_write(path, text, n);
    free(text);
    TRY(st);
    if (!file_exists(a->out, "tokenizer_config.json")) TRY(write_tokenizer_config(a->out, c));
    if (!file_exists(a->out, "chat_template.json") && !file_exists(a->out, "chat_template.jinja"))
        TRY(write_chat_template(a->out));
    TRY(write_generation_config(a->out, c));
    if (c->has_vision) TRY(write_processor(a->out, &p));
    bool carried;
    TRY(hf_write_config(NULL, a->out, c, hf_torch_name(a->dtype), &carried));
    return write_weights(a, c, count); /* last: a directory with weights is complete */
}

static status run(const init_args *a)
{
    char path[PATH_MAX];
    const char *side = NULL;
    struct stat s;
    tokenizer *tok = NULL;
    model_config c;
    int64_t count = 0;
    if (hf_source_exists(a->out)) return FAIL(ST_EINVAL, "%s already holds a model; choose another --out", a->out);
    if (stat(a->tokenizer, &s) == 0 && S_ISDIR(s.st_mode)) side = a->tokenizer;
    if (side)
        TRY(file_join(path, sizeof path, side, "tokenizer.json"));
    else if ((size_t)snprintf(path, sizeof path, "%s", a->tokenizer) >= sizeof path)
        return FAIL(ST_EINVAL, "path too long");
    TRY(tokenizer_load(&tok, path));
    status st = read_config(&c, a->config, tok);
    if (st == ST_OK) st = write_all(a, side, path, &c, &count);
    if (st == ST_OK)
        printf("%s: %lld parameters, vocabulary %d (%d used), seed %lld\n", a->out, (long long)count, c.vocab,
               tokenizer_vocab(tok), (long long)a->seed);
    tokenizer_destroy(tok);
    return st;
}

status cmd_init(int argc, char **argv)
{
    init_args a = {.resample = -1, .dtype = "fp32"};
    bool helped = false;
    const arg table[] = {
        {"config", ARG_STR, &a.config, "FILE", "config.json of the new model; token ids may be left out"},
        {"tokenizer", ARG_STR, &a.tokenizer, "PATH", "tokenizer.json, or a model directory to take the tokenizer of"},
        {"seed", ARG_INT, &a.seed, "N", "of the random weights (0)"},
        {"min-pixels", ARG_INT, &a.min_pixels, "N",
         "smallest picture the model sees, in pixels (3136; Qwen3-VL 65536)"},
        {"max-pixels", ARG_INT, &a.max_pixels, "N",
         "largest picture the model sees, in pixels (12845056; Qwen3-VL 16777216)"},
        {"resample", ARG_INT, &a.resample, "N", "2 bilinear, 3 bicubic (default), 4 box"},
        {"preprocessor", ARG_STR, &a.preprocessor, "FILE", "preprocessor_config.json, instead of the three above"},
        {"dtype", ARG_STR, &a.dtype, "fp32|bf16|fp16", "of the weights (fp32)"},
        {"shard-size", ARG_INT, &a.shard_bytes, "BYTES", "of tensors in one file (5000000000)"},
        {"out", ARG_STR, &a.out, "DIR", "where the model directory is written"},
        {.name = NULL}};
    TRY(args_parse(argc, argv, "writes a new, randomly initialised model directory",
                   "codedance init --config configs/demo_model.json --tokenizer tokenizer.json --min-pixels 7056 "
                   "--max-pixels 7056 --resample 4 --out runs/new",
                   table, NULL, &helped));
    if (helped) return ST_OK;
    if (!a.config || !a.tokenizer || !a.out) return args_usage("--config, --tokenizer and --out are needed");
    if (a.min_pixels < 0 || a.max_pixels < 0) return args_usage("--min-pixels and --max-pixels must be positive");
    if (a.resample != -1 && (a.resample < RESAMPLE_BILINEAR || a.resample > RESAMPLE_BOX))
        return args_usage("--resample %lld: use 2 (bilinear), 3 (bicubic) or 4 (box)", (long long)a.resample);
    TRY(args_dtype(a.dtype));
    if (a.shard_bytes < 0) return args_usage("--shard-size must be positive");
    return run(&a);
}
