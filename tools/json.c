#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "files.h"

json_t *json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *json_text(const char *text)
{
    json_t *string = json_string(text);
    char *ascii = string ? NULL : strdup(text);
    for (char *c = ascii; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    if (ascii)
        string = json_string(ascii);
    free(ascii);
    return string;
}

double json_member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static char *dump(const json_t *root)
{
    char *text = root ? json_dumps(root, JSON_FORMAT) : NULL;
    if (!text)
        message("out of memory");
    return text;
}

char *json_page_text(const json_t *root)
{
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(7)) : NULL;
    size_t extra = 1;
    for (const char *at = text; at && *at; at++)
        extra += *at == '<' ? 6 : 1;
    char *escaped = text ? malloc(extra) : NULL, *to = escaped;
    for (const char *at = text; escaped && *at; at++)
        if (*at == '<') {
            memcpy(to, "\\u003c", 6);
            to += 6;
        } else {
            *to++ = *at;
        }
    if (escaped)
        *to = '\0';
    free(text);
    return escaped;
}

bool json_print(const json_t *root)
{
    char *text = dump(root);
    if (!text)
        return false;
    puts(text);
    free(text);
    return true;
}

bool json_save(const char *dir, const char *name, const json_t *root)
{
    char *text = dump(root);
    if (!text)
        return false;
    const bool saved = outputs_write(dir, &(struct output){
        .name = name, .parts = { { text, strlen(text) }, { "\n", 1 } } }, 1);
    free(text);
    return saved;
}

bool json_save_as(const char *path, const json_t *root)
{
    char *text = dump(root);
    const bool saved = text && output_write(path, (struct output){.parts = {{text, strlen(text)}, {"\n", 1}}});
    free(text);
    return saved;
}
