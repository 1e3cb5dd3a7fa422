/* What codedance exports is what vLLM and SGLang load: their name maps, applied to every exported tensor, give each of
 * their parameters (each part of a fused one) exactly once, and nothing is left over.
 *
 * The maps are facts read in these files (neither server can run here):
 *   vLLM    vllm/model_executor/models/qwen2_5_vl.py (commit 002d181a55a0), qwen3_vl.py (002d7b939754), qwen2.py
 *           (013a27925170); qwen3.py loads with qwen2.py's Qwen2Model. WeightsMapper applies its prefixes in order,
 * then AutoWeightsLoader hands "visual." and "language_model." to the tower's and the decoder's load_weights, which
 *           raise KeyError for a name they don't know. A tied model skips "lm_head.".
 *   SGLang  python/sglang/srt/models/qwen2_5_vl.py (commit 013902a8a7a2), qwen3_vl.py (005fa8330a58), qwen3.py
 *           (01b5f572b7b6); qwen2.py has the same loop. Biases without a parameter are skipped silently there: here
 *           that is an error. The tied head is the embedding's own module. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/json.h"
#include "kernels/kernels.h"
#include "tests/common/fixture.h"
#include "tests/common/tempdir.h"

enum { MAX_PARAM = 512, MAX_RULE = 6 };

typedef struct rule {
    const char *from, *to;
    int part; /* of a fused parameter; 0 for a plain renaming */
} rule;

typedef struct loader {
    const char *name;
    const char *const *families; /* model_type values, ended by NULL */
    rule prefix[MAX_RULE];       /* in order, each once at the start of the name */
    rule text[MAX_RULE];         /* first that is found, outside the tower */
    rule vision[MAX_RULE];       /* in the tower */
    const char *text_root, *head;
    bool fused_gate; /* the tower's gate and up are one parameter */
} loader;

#define TEXT_RULES                                                                       \
    {                                                                                    \
        {"q_proj", "qkv_proj", 0}, {"k_proj", "qkv_proj", 1}, {"v_proj", "qkv_proj", 2}, \
            {"gate_proj", "gate_up_proj", 0}, {"up_proj", "gate_up_proj", 1},            \
    }
static const char *const text_only[] = {"qwen2", "qwen3", NULL};
static const char *const vl_2_5[] = {"qwen2_5_vl", NULL};
static const char *const vl_3[] = {"qwen3_vl", NULL};
static const loader loaders[] = {
    {.name = "vLLM text", .families = text_only, .text = TEXT_RULES, .text_root = "model.", .head = "lm_head.weight"},
    {.name = "vLLM Qwen2.5-VL",
     .families = vl_2_5,
     .prefix = {{"model.language_model.", "language_model.model.", 0},
                {"model.visual.", "visual.", 0},
                {"lm_head.", "language_model.lm_head.", 0},
                {"model.", "language_model.model.", 0}},
     .text = TEXT_RULES,
     .vision = {{"mlp.gate_proj.", "mlp.gate_up_proj.", 0}, {"mlp.up_proj.", "mlp.gate_up_proj.", 1}},
     .text_root = "language_model.model.",
     .head = "language_model.lm_head.weight",
     .fused_gate = true},
    {.name = "vLLM Qwen3-VL",
     .families = vl_3,
     .prefix = {{"model.visual.", "visual.", 0},
                {"lm_head.", "language_model.lm_head.", 0},
                {"model.language_model.", "language_model.model.", 0}},
     .text = TEXT_RULES,
     .text_root = "language_model.model.",
     .head = "language_model.lm_head.weight"},
    {.name = "SGLang text", .families = text_only, .text = TEXT_RULES, .text_root = "model.", .head = "lm_head.weight"},
    {.name = "SGLang Qwen2.5-VL",
     .families = vl_2_5,
     .text = TEXT_RULES,
     .vision = {{"attn.qkv.", "attn.qkv_proj.", 0}},
     .text_root = "model.",
     .head = "lm_head.weight"},
    {.name = "SGLang Qwen3-VL",
     .families = vl_3,
     .prefix = {{"model.language_model.", "model.", 0}, {"model.visual.", "visual.", 0}},
     .text = TEXT_RULES,
     .vision = {{"attn.qkv.", "attn.qkv_proj.", 0}},
     .text_root = "model.",
     .head = "lm_head.weight"},
};

/* A server's parameters for one config.json. */
typedef struct params {
    int n;
    struct {
        char name[128];
        int parts;
        unsigned got; /* bit per part */
    } p[MAX_PARAM];
} params;

static void add(params *s, int parts, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void add(params *s, int parts, const char *fmt, ...)
{
    va_list ap;
    assert_true(s->n < MAX_PARAM);
    va_start(ap, fmt);
    vsnprintf(s->p[s->n].name, sizeof s->p[s->n].name, fmt, ap);
    va_end(ap);
    s->p[s->n].got = 0;
    s->p[s->n++].parts = parts;
}

static void add_both(params *s, int parts, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void add_both(params *s, int parts, const char *fmt, ...)
{
    char name[96];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    add(s, parts, "%s.weight", name);
    add(s, parts, "%s.bias", name);
}

static void add_text(params *s, const loader *l, const json *text, bool qwen3, bool tied)
{
    const char *root = l->text_root;
    int layers = (int)json_int(json_get(text, "num_hidden_layers"));
    add(s, 1, "%sembed_tokens.weight", root);
    add(s, 1, "%snorm.weight", root);
    if (!tied) add(s, 1, "%s", l->head);
    for (int i = 0; i < layers; i++) {
        add(s, 1, "%slayers.%d.input_layernorm.weight", root, i);
        add(s, 1, "%slayers.%d.post_attention_layernorm.weight", root, i);
        if (qwen3) {
            add(s, 3, "%slayers.%d.self_attn.qkv_proj.weight", root, i);
            add(s, 1, "%slayers.%d.self_attn.q_norm.weight", root, i);
            add(s, 1, "%slayers.%d.self_attn.k_norm.weight", root, i);
        } else {
            add_both(s, 3, "%slayers.%d.self_attn.qkv_proj", root, i);
        }
        add(s, 1, "%slayers.%d.self_attn.o_proj.weight", root, i);
        add(s, 2, "%slayers.%d.mlp.gate_up_proj.weight", root, i);
        add(s, 1, "%slayers.%d.mlp.down_proj.weight", root, i);
    }
}

static const char *qkv_name(const loader *l)
{
    return l->vision[0].from && strstr(l->vision[0].from, "qkv") ? "qkv_proj" : "qkv";
}

static void add_tower_2_5(params *s, const loader *l, const json *vision)
{
    add(s, 1, "visual.patch_embed.proj.weight");
    for (int i = 0; i < json_int(json_get(vision, "depth")); i++) {
        add(s, 1, "visual.blocks.%d.norm1.weight", i);
        add(s, 1, "visual.blocks.%d.norm2.weight", i);
        add_both(s, 1, "visual.blocks.%d.attn.%s", i, qkv_name(l));
        add_both(s, 1, "visual.blocks.%d.attn.proj", i);
        if (l->fused_gate) {
            add_both(s, 2, "visual.blocks.%d.mlp.gate_up_proj", i);
        } else {
            add_both(s, 1, "visual.blocks.%d.mlp.gate_proj", i);
            add_both(s, 1, "visual.blocks.%d.mlp.up_proj", i);
        }
        add_both(s, 1, "visual.blocks.%d.mlp.down_proj", i);
    }
    add(s, 1, "visual.merger.ln_q.weight");
    add_both(s, 1, "visual.merger.mlp.0");
    add_both(s, 1, "visual.merger.mlp.2");
}

static void add_tower_3(params *s, const loader *l, const json *vision)
{
    static const char *const parts[] = {"norm", "linear_fc1", "linear_fc2"};
    add_both(s, 1, "visual.patch_embed.proj");
    add(s, 1, "visual.pos_embed.weight");
    for (int i = 0; i < json_int(json_get(vision, "depth")); i++) {
        add_both(s, 1, "visual.blocks.%d.norm1", i);
        add_both(s, 1, "visual.blocks.%d.norm2", i);
        add_both(s, 1, "visual.blocks.%d.attn.%s", i, qkv_name(l));
        add_both(s, 1, "visual.blocks.%d.attn.proj", i);
        add_both(s, 1, "visual.blocks.%d.mlp.linear_fc1", i);
        add_both(s, 1, "visual.blocks.%d.mlp.linear_fc2", i);
    }
    for (int k = 0; k < 3; k++) {
        add_both(s, 1, "visual.merger.%s", parts[k]);
        for (int i = 0; i < json_len(json_get(vision, "deepstack_visual_indexes")); i++)
            add_both(s, 1, "visual.deepstack_merger_list.%d.%s", i, parts[k]);
    }
}

/* name with its first `from` replaced by `to`. */
static void replace(char *name, size_t cap, const char *at, const rule *r)
{
    char rest[128];
    snprintf(rest, sizeof rest, "%s", at + strlen(r->from));
    snprintf(name + (at - name), cap - (size_t)(at - name), "%s%s", r->to, rest);
}

static int map_name(const loader *l, char *name, size_t cap)
{
    for (int i = 0; i < MAX_RULE && l->prefix[i].from; i++)
        if (!strncmp(name, l->prefix[i].from, strlen(l->prefix[i].from))) replace(name, cap, name, &l->prefix[i]);
    const rule *r = strstr(name, "visual") ? l->vision : l->text;
    for (int i = 0; i < MAX_RULE && r[i].from; i++) {
        const char *at = strstr(name, r[i].from);
        if (!at) continue;
        replace(name, cap, at, &r[i]);
        return r[i].part;
    }
    return 0;
}

static void load_all(const fixture *f, const loader *l, const st_file *file, params *s)
{
    for (int i = 0; i < st_count(file); i++) {
        char name[128];
        snprintf(name, sizeof name, "%s", st_at(file, i)->name);
        int which = map_name(l, name, sizeof name), k = 0;
        while (k < s->n && strcmp(s->p[k].name, name) != 0) k++;
        if (k == s->n) fail_msg("%s: %s has no parameter %s for %s", f->name, l->name, name, st_at(file, i)->name);
        if (which >= s->p[k].parts || (s->p[k].got >> which & 1))
            fail_msg("%s: %s loads part %d of %s twice, or it has none", f->name, l->name, which, name);
        s->p[k].got |= 1u << which;
    }
    for (int k = 0; k < s->n; k++)
        if (s->p[k].got != (1u << s->p[k].parts) - 1)
            fail_msg("%s: %s finds no weight for %s", f->name, l->name, s->p[k].name);
}

static int n_loaded;

static void check_loaders(fixture *f)
{
    char path[1024], to[512];
    backend *b = NULL;
    model *m = NULL;
    model_config c;
    json *j = NULL;
    st_file *file;
    snprintf(to, sizeof to, "%s", temppath("%s", f->name));
    assert_int_equal(hf_load_config(&c, f->dir), ST_OK);
    assert_int_equal(backend_open_cpu(&b, 1, "auto"), ST_OK);
    assert_int_equal(model_create(&m, b, &c, false), ST_OK);
    assert_int_equal(hf_load_weights(m, f->dir), ST_OK);
    assert_int_equal(hf_export(m, f->dir, to, "bf16"), ST_OK); /* another dtype: config.json is written anew too */
    snprintf(path, sizeof path, "%s/config.json", to);
    assert_int_equal(json_read_file(&j, path, 1 << 20), ST_OK);
    snprintf(path, sizeof path, "%s/model.safetensors", to);
    assert_int_equal(st_open(&file, path), ST_OK);
    const json *text = json_kind(json_get(j, "text_config")) == JSON_OBJECT ? json_get(j, "text_config") : j;
    const char *type = json_str(json_get(j, "model_type"));
    assert_non_null(type);
    bool tied = json_bool(json_get(j, "tie_word_embeddings")), qwen3 = !strncmp(type, "qwen3", 5);
    for (size_t i = 0; i < sizeof loaders / sizeof *loaders; i++) {
        const loader *l = &loaders[i];
        const char *const *family = l->families;
        while (*family && strcmp(*family, type) != 0) family++;
        if (!*family) continue;
        static params s;
        s.n = 0;
        add_text(&s, l, text, qwen3, tied);
        if (l->families == vl_2_5) add_tower_2_5(&s, l, json_get(j, "vision_config"));
        if (l->families == vl_3) add_tower_3(&s, l, json_get(j, "vision_config"));
        load_all(f, l, file, &s);
        n_loaded++;
    }
    st_close(file);
    json_free(j);
    model_destroy(m);
    backend_close(b);
}

static void exports_load_elsewhere(void **state)
{
    (void)state;
    int n = fixture_each(check_loaders);
    assert_true(n >= 8);
    assert_int_equal(n_loaded, 2 * n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exports_load_elsewhere)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
