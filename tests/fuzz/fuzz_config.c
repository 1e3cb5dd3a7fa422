#include <string.h>

#include "core/model.h"
#include "data/image.h"
#include "tests/fuzz/fuzz.h"

/* What was accepted is written, and what was written reads back as the same. */
status fuzz_config(const uint8_t *data, size_t n)
{
    json *j = NULL;
    model_config c, again;
    json_out o;
    TRY(json_parse(&j, (const char *)data, n, "config.json"));
    status st = model_config_from_json(&c, j);
    json_free(j);
    TRY(st);
    json_begin(&o, false);
    model_config_to_json(&c, &o);
    CHECK(json_parse(&j, o.text, o.len, "config.json") == ST_OK);
    if (model_config_from_json(&again, j) != ST_OK || memcmp(&c, &again, sizeof c) != 0)
        check_failed(o.text, "config.json written and read", 0);
    json_free(j);
    json_end(&o);
    return ST_OK;
}

status fuzz_preprocessor(const uint8_t *data, size_t n)
{
    static const int side[][2] = {{1, 1}, {28, 28}, {1000, 7}, {640, 480}, {32768, 8192}};
    json *j = NULL;
    image_processor p, again;
    json_out o;
    TRY(json_parse(&j, (const char *)data, n, "preprocessor_config.json"));
    status st = image_processor_from_json(&p, j);
    json_free(j);
    TRY(st);
    int w, h;
    for (size_t i = 0; i < sizeof side / sizeof *side; i++)
        if (image_smart_resize(&p, side[i][0], side[i][1], &w, &h) == ST_OK)
            CHECK(w > 0 && h > 0 && w % (p.patch * p.merge) == 0 && h % (p.patch * p.merge) == 0);
    json_begin(&o, false);
    image_processor_to_json(&p, &o);
    CHECK(json_parse(&j, o.text, o.len, "preprocessor_config.json") == ST_OK);
    if (image_processor_from_json(&again, j) != ST_OK || image_processor_hash(&p) != image_processor_hash(&again))
        check_failed(o.text, "preprocessor_config.json written and read", 0);
    json_free(j);
    json_end(&o);
    return ST_OK;
}
