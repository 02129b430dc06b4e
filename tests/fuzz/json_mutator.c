/* Inputs that are JSON, or hold it, mutated as values: files behind each other (fuzz.h), lines of metrics.jsonl, a safetensors
 * file's header, and JSON in a string of another. What is not JSON any more is left to libFuzzer. */
#include <jansson.h>
#include <string.h>

#include "fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t most, unsigned seed);

enum { SLOTS = 4096, PREFIX = 8 };

static uint32_t state;

/* Below n > 0. */
static uint32_t dice(uint32_t n)
{
    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)state * n >> 32);
}

/* Where a value hangs. */
struct slot {
    json_t *parent;
    const char *key;            /* NULL: index */
    size_t index;
};

static void collect(json_t *value, struct slot *slots, size_t *count)
{
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_object(value))
        json_object_foreach (value, key, item) {
            if (*count < SLOTS)
                slots[(*count)++] = (struct slot){value, key, 0};
            collect(item, slots, count);
        }
    json_array_foreach (value, i, item) {
        if (*count < SLOTS)
            slots[(*count)++] = (struct slot){value, NULL, i};
        collect(item, slots, count);
    }
}

static json_t *get(const struct slot *s)
{
    return s->key ? json_object_get(s->parent, s->key) : json_array_get(s->parent, s->index);
}

static void set(const struct slot *s, json_t *value)
{
    if (s->key)
        json_object_set_new(s->parent, s->key, value);
    else
        json_array_set_new(s->parent, s->index, value);
}

static json_t *interesting(void)
{
    static const char *const values[] = {
        "null", "true", "false", "0", "1", "2", "3", "4", "8", "-1", "16", "64", "255", "256", "264", "1024", "65536", "4294967295",
        "4294967296", "1048576", "2147483648", "9007199254740992", "9007199254740993", "9223372036854775807",
        "-9223372036854775808", "0.0", "-0.0", "0.5", "1e-320", "1e-45", "3.5e38", "1e300", "-1e300", "1e-12", "1e18", "\"\"",
        "\"0\"", "\"18446744073709551615\"", "\"\\u001b[2J\"", "\"\\u00e9\\n\"", "[]", "{}", "[[]]", "[null]", "[0]", "[0,0]",
        "\"F32\"", "\"BF16\"", "\"mixtral\"", "\"qwen2_moe\"", "\"glm4_moe\"", "\"vkmoe_moe\"", "\"sigmoid\"", "\"softmax\""};
    return json_loads(values[dice(sizeof values / sizeof *values)], JSON_DECODE_ANY, NULL);
}

static void mutate(json_t *root, int depth);

/* Another value like it. */
static json_t *changed(const json_t *value, int depth)
{
    if (json_is_integer(value)) {
        const uint64_t number = (uint64_t)json_integer_value(value);
        const uint64_t others[] = {number + 1, number - 1, 2 * number, number / 2, number ^ UINT64_C(1) << dice(64),
                                   number * 1000003};
        return json_integer((json_int_t)others[dice(6)]);
    }
    if (json_is_real(value)) {
        const double factors[] = {-1, 2, 0.5, 1e10, 1e-10, 1e200};
        const double product = json_real_value(value) * factors[dice(6)];
        return json_real(product - product == 0 ? product : 0);
    }
    if (json_is_string(value)) {
        json_t *inner = depth > 0 ? json_loads(json_string_value(value), 0, NULL) : NULL;
        if (inner) {
            mutate(inner, depth - 1);
            char *text = json_dumps(inner, JSON_COMPACT);
            json_decref(inner);
            json_t *string = json_string(text ? text : "");
            free(text);
            return string;
        }
        uint8_t text[256];
        const size_t length = json_string_length(value) < 200 ? json_string_length(value) : 200;
        memcpy(text, json_string_value(value), length);
        json_t *string = json_stringn((const char *)text, LLVMFuzzerMutate(text, length, sizeof text));
        return string ? string : json_string("");
    }
    return interesting();
}

static void mutate(json_t *root, int depth)
{
    static struct slot all[2][SLOTS];
    struct slot *slots = all[depth & 1];
    size_t count = 0;
    collect(root, slots, &count);
    if (count == 0)
        return;
    const struct slot *s = &slots[dice((uint32_t)count)], *other = &slots[dice((uint32_t)count)];
    switch (dice(8)) {
    case 0:
        set(s, interesting());
        break;
    case 1:
        if (s->key)
            json_object_del(s->parent, s->key);
        else
            json_array_remove(s->parent, s->index);
        break;
    case 2:
        set(s, json_deep_copy(get(other)));
        break;
    case 3:
        if (s->key)
            json_object_set_new(s->parent, other->key ? other->key : "x", json_deep_copy(get(s)));
        else
            json_array_insert_new(s->parent, s->index, json_deep_copy(get(s)));
        break;
    default:
        set(s, changed(get(s), depth));
    }
}

/* A part of the input, [begin, end). */
static struct fuzz_part piece(const uint8_t *data, size_t bytes, bool line)
{
    struct fuzz_part parts[FUZZ_PARTS], part;
    part = parts[dice((uint32_t)fuzz_parts(data, bytes, parts))];
    if (!line || part.bytes == 0)
        return part;
    const uint8_t *from = part.data + dice((uint32_t)part.bytes), *to = from;
    while (from > part.data && from[-1] != '\n')
        from--;
    while (to < part.data + part.bytes && *to != '\n')
        to++;
    return (struct fuzz_part){from, (size_t)(to - from)};
}

/* A safetensors file's header, or nothing. */
static struct fuzz_part header_of(const uint8_t *data, size_t bytes)
{
    uint64_t length = 0;
    for (int i = PREFIX - 1; i >= 0 && bytes > PREFIX; i--)
        length = length << 8 | data[i];
    return bytes > PREFIX && length <= bytes - PREFIX && data[PREFIX] == '{' ? (struct fuzz_part){data + PREFIX, (size_t)length}
                                                                             : (struct fuzz_part){NULL, 0};
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t most, unsigned seed)
{
    state = seed;
    dice(2);
    const struct fuzz_part header = header_of(data, bytes), part = header.data ? header : piece(data, bytes, dice(2));
    json_t *root = dice(4) && part.bytes ? json_loadb((const char *)part.data, part.bytes, 0, NULL) : NULL;
    for (uint32_t i = 0, times = 1 + dice(3); root && i < times; i++)
        mutate(root, 1);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    const size_t length = text ? strlen(text) : 0, at = text ? (size_t)(part.data - data) : 0;
    if (!text || bytes - part.bytes + length > most) {
        free(text);
        return LLVMFuzzerMutate(data, bytes, most);
    }
    memmove(data + at + length, part.data + part.bytes, bytes - at - part.bytes);
    memcpy(data + at, text, length);
    for (int i = 0; i < PREFIX && header.data; i++)
        data[i] = (uint8_t)((uint64_t)length >> 8 * i);
    free(text);
    return bytes - part.bytes + length;
}
