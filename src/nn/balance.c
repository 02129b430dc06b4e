/* The balance as text: "simbal=0.1+lossfree". */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/number.h"

enum { METHODS = 3, MAX_WORD = 32 };

static const struct method {
    const char *name;
    float usual;
    size_t offset;                  /* of its coefficient */
} methods[METHODS] = {
    {"simbal", 0.1f, offsetof(struct vkmoe_balance, simbal)},
    {"lbl", 0.01f, offsetof(struct vkmoe_balance, lbl)},
    {"lossfree", 0.001f, offsetof(struct vkmoe_balance, lossfree)},
};

static const char choices[] = "give none, or one or more of simbal, lbl, lossfree joined by '+'";

/* Part of the text: not terminated. */
struct word {
    const char *text;
    size_t length;
};

static bool is(struct word word, const char *name)
{
    return word.length == strlen(name) && memcmp(word.text, name, word.length) == 0;
}

/* Levenshtein distance. */
static size_t edits(struct word word, const char *name)
{
    size_t row[MAX_WORD + 1], length = strlen(name);
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; i <= word.length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t best = diagonal + (word.text[i - 1] != name[j - 1]);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[length];
}

static enum vkmoe_status unknown(const struct vkmoe_log *log, const char *text, struct word word)
{
    int shown = word.length < MAX_WORD ? (int)word.length : MAX_WORD;
    for (int i = 0; i < METHODS && word.length <= MAX_WORD; i++) {
        if (edits(word, methods[i].name) <= strlen(methods[i].name) / 3)
            return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "balance '%s' has no method '%.*s'; did you mean '%s'?", text, shown,
                            word.text, methods[i].name);
    }
    return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "balance '%s' has no method '%.*s'; %s", text, shown, word.text, choices);
}

/* A decimal number above 0 that fills the word, as a float; 0: it is none. */
static float coefficient(struct word word)
{
    char digits[MAX_WORD + 1], *end;
    if (word.length == 0 || word.length > MAX_WORD || strspn(word.text, "0123456789.eE-") < word.length ||
        word.text[0] == '-')
        return 0;
    memcpy(digits, word.text, word.length);
    digits[word.length] = '\0';
    float value = (float)vkm_number_read(digits, &end);
    return *end == '\0' && isfinite(value) ? value : 0;
}

/* One "method" or "method=coefficient" into *balance. */
static enum vkmoe_status read_item(const struct vkmoe_log *log, const char *text, struct word item,
                                   struct vkmoe_balance *balance)
{
    const char *equals = memchr(item.text, '=', item.length);
    struct word name = {item.text, equals ? (size_t)(equals - item.text) : item.length};
    if (item.length == 0)
        return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "balance '%s' lacks a method at a '+'; %s", text, choices);
    if (is(name, "none"))
        return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "balance '%s': none stands alone; leave out %s", text,
                        equals ? "its coefficient" : "one or the other");
    for (int i = 0; i < METHODS; i++) {
        const struct method *m = &methods[i];
        float *to = (float *)(void *)((char *)balance + m->offset), value = m->usual;
        if (!is(name, m->name))
            continue;
        if (*to > 0)
            return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "balance '%s' has %s twice; leave out one", text, m->name);
        if (equals)
            value = coefficient((struct word){equals + 1, item.length - name.length - 1});
        if (!(value > 0))
            return vkm_fail(log, VKMOE_ERROR_ARGUMENT,
                            "balance '%s': what follows %s= must be a number above 0, as in %s=%g", text, m->name, m->name,
                            (double)m->usual);
        *to = value;
        return VKMOE_OK;
    }
    return unknown(log, text, name);
}

enum vkmoe_status vkmoe_balance_parse(struct vkmoe_log log, const char *text, struct vkmoe_balance *out)
{
    struct vkmoe_balance balance = *out;
    enum vkmoe_status status = VKMOE_OK;
    if (!text || !*text)
        return vkm_fail(&log, VKMOE_ERROR_ARGUMENT, "the balance is empty; %s", choices);
    balance.simbal = balance.lbl = balance.lossfree = 0;
    if (strcmp(text, "none") != 0) {
        for (const char *at = text; at && status == VKMOE_OK;) {
            const char *plus = strchr(at, '+');
            status = read_item(&log, text, (struct word){at, plus ? (size_t)(plus - at) : strlen(at)}, &balance);
            at = plus ? plus + 1 : NULL;
        }
    }
    if (status == VKMOE_OK)
        *out = balance;
    return status;
}

/* In the fewest digits that read back as the same float; an exponent has no '+', which joins methods, and no zeros. */
static void format(float value, char text[MAX_WORD])
{
    char whole[MAX_WORD];
    vkm_number_write(text, MAX_WORD, value);
    char *exponent = strchr(text, 'e');
    if (!exponent)
        return;
    char *to = exponent + 1 + (exponent[1] == '-'), *from = to + strspn(to, "+0");
    memmove(to, from, strlen(from) + 1);
    snprintf(whole, sizeof whole, "%.0f", (double)value); /* 20, not 2e1 */
    if (strlen(whole) <= strlen(text) && (float)vkm_number_read(whole, NULL) == value)
        strcpy(text, whole);
}

const char *vkmoe_balance_format(const struct vkmoe_balance *balance, char text[VKMOE_BALANCE_TEXT])
{
    size_t length = 0;
    strcpy(text, "none");
    for (int i = 0; i < METHODS; i++) {
        const struct method *m = &methods[i];
        float value = *(const float *)(const void *)((const char *)balance + m->offset);
        char digits[MAX_WORD];
        if (!(value > 0))
            continue;
        format(value, digits);
        length += (size_t)snprintf(text + length, VKMOE_BALANCE_TEXT - length, "%s%s%s%s", length ? "+" : "", m->name,
                                   value == m->usual ? "" : "=", value == m->usual ? "" : digits);
    }
    return text;
}
