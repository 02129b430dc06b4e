#include "report_methods.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

/* Fields that do not change what is trained, or that the base label already tells. */
static bool told_elsewhere(const char *key)
{
    static const char *const keys[] = { "seed", "simbal", "lbl", "lossfree", "router_bias", "log_every", "eval_every",
                                        "save_every", "keep", "max_bad_steps", "pes_tokens", "pes_every", "tensorboard" };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(keys[i], key) == 0)
            return true;
    return false;
}

static bool same_value(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return !(json_number_value(a) < json_number_value(b)) && !(json_number_value(a) > json_number_value(b));
    return a == b || (a && b && json_equal(a, b));
}

/* Whether b has every field of a with the same value. */
static bool fields_agree(const json_t *a, const json_t *b)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)a, key, value)
        if (!told_elsewhere(key) && !same_value(value, json_object_get(b, key)))
            return false;
    return true;
}

static bool same_config(const struct run *a, const struct run *b)
{
    return fields_agree(a->model, b->model) && fields_agree(b->model, a->model) && fields_agree(a->train, b->train) &&
           fields_agree(b->train, a->train);
}

static void append(struct method *method, const char *text)
{
    const size_t used = strlen(method->label);
    snprintf(method->label + used, sizeof method->label - used, "%s", text);
}

/* ", router-init unit" */
static void append_field(struct method *method, const char *key, const json_t *value)
{
    char text[96];
    snprintf(text, sizeof text, ", %s ", key);
    for (char *at = text; *at; at++)
        if (*at == '_')
            *at = '-';
    append(method, text);
    if (json_is_string(value))
        snprintf(text, sizeof text, "%s", json_string_value(value));
    else if (json_is_number(value))
        snprintf(text, sizeof text, "%g", json_number_value(value));
    else
        snprintf(text, sizeof text, "%s", json_is_true(value) ? "on" : json_is_false(value) ? "off" : "none");
    append(method, text);
}

static const json_t *config_object(const struct run *run, size_t part)
{
    return part == 0 ? run->model : run->train;
}

/* Where methods share a base, each is told by the fields in which not all of them agree. */
static void find_labels(const struct run *runs, struct methods *methods)
{
    for (size_t m = 0; m < methods->count; m++) {
        struct method *method = &methods->list[m];
        append(method, method->base);
        for (size_t part = 0; part < 2; part++) {
            const char *key;
            json_t *value;
            json_object_foreach((json_t *)config_object(&runs[method->runs[0]], part), key, value) {
                bool differs = false;
                for (size_t i = 0; i < methods->count && !differs; i++) {
                    const struct method *other = &methods->list[i];
                    const json_t *theirs = json_object_get(config_object(&runs[other->runs[0]], part), key);
                    differs = strcmp(other->base, method->base) == 0 && !told_elsewhere(key) &&
                              !same_value(value, theirs);
                }
                if (differs)
                    append_field(method, key, value);
            }
        }
    }
}

/* Place of a base in compare.json; behind all where it is not there. */
static size_t place(const json_t *compare, const char *base)
{
    const json_t *order = json_object_get(compare, "methods");
    size_t i = 0;
    for (; i < json_array_size(order); i++) {
        const char *name = json_string_value(json_array_get(order, i));
        if (name && strcmp(name, base) == 0)
            break;
    }
    return i;
}

static void sort(struct methods *methods, const json_t *compare)
{
    for (size_t i = 1; i < methods->count; i++) { /* few, and those of equal place keep their order */
        const struct method moved = methods->list[i];
        size_t j = i;
        for (; j > 0 && place(compare, methods->list[j - 1].base) > place(compare, moved.base); j--)
            methods->list[j] = methods->list[j - 1];
        methods->list[j] = moved;
    }
}

static struct method *add(struct methods *methods, const char *base, bool dense, size_t runs)
{
    struct method *method = &methods->list[methods->count];
    method->runs = calloc(2 * runs, sizeof *method->runs);
    if (!method->runs)
        return NULL;
    method->counted = method->runs + runs;
    snprintf(method->base, sizeof method->base, "%s", base);
    method->dense = dense;
    methods->count++;
    return method;
}

bool methods_find(const struct run *runs, size_t count, const json_t *compare, struct methods *out)
{
    *out = (struct methods){ .list = calloc(count, sizeof *out->list) };
    for (size_t r = 0; out->list && r < count; r++) {
        char base[VKMOE_BALANCE_TEXT];
        struct method *method = NULL;
        if (runs[r].dense)
            snprintf(base, sizeof base, "dense");
        else
            vkmoe_balance_format(&runs[r].balance, base);
        for (size_t m = 0; m < out->count && !method; m++)
            if (strcmp(out->list[m].base, base) == 0 && same_config(&runs[out->list[m].runs[0]], &runs[r]))
                method = &out->list[m];
        if (!method && !(method = add(out, base, runs[r].dense, count))) {
            methods_free(out);
            break;
        }
        method->runs[method->count++] = r;
        method->finished = method->finished || runs[r].finished;
    }
    if (!out->list) {
        message("out of memory");
        return false;
    }
    sort(out, compare);
    find_labels(runs, out);
    for (size_t m = out->count; m-- > 0;) {
        struct method *method = &out->list[m];
        const struct vkmoe_balance *balance = &runs[method->runs[0]].balance;
        for (size_t i = 0; i < method->count; i++)
            if (runs[method->runs[i]].finished == method->finished)
                method->counted[method->counted_count++] = method->runs[i];
        if (!method->dense && balance->lbl > 0.0f && balance->simbal <= 0.0f && balance->lossfree <= 0.0f)
            out->baseline = m;
    }
    return true;
}

void methods_free(struct methods *methods)
{
    for (size_t m = 0; m < methods->count; m++)
        free(methods->list[m].runs);
    free(methods->list);
    *methods = (struct methods){ 0 };
}
