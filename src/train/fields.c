#include "train/fields.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vkmoe/stack.h>

#define NAMES(...) (const char *const[]){__VA_ARGS__, NULL}
const struct vkm_names vkm_gate_names = {NAMES([VKMOE_GATE_SOFTMAX] = "softmax", [VKMOE_GATE_SIGMOID] = "sigmoid"),
                                         "\"softmax\" or \"sigmoid\""};
const struct vkm_names vkm_scope_names = {
    NAMES([VKMOE_LBL_SEQUENCE] = "sequence", [VKMOE_LBL_MICRO_BATCH] = "micro-batch", [VKMOE_LBL_GLOBAL_BATCH] = "global"),
    "\"sequence\", \"micro-batch\" or \"global\""};
const struct vkm_names vkm_init_names = {
    NAMES([VKMOE_ROUTER_ORTHOGONAL] = "orthogonal", [VKMOE_ROUTER_NORMAL] = "normal", [VKMOE_ROUTER_UNIT] = "unit",
          [VKMOE_ROUTER_ORTHOGONAL_SMALL] = "orthogonal-small"),
    "\"orthogonal\", \"normal\", \"unit\" or \"orthogonal-small\""};
const struct vkm_names vkm_precision_names = {NAMES([VKMOE_F32] = "f32", [VKMOE_F16] = "f16", [VKMOE_BF16] = "bf16"),
                                              "\"f32\", \"f16\" or \"bf16\""};
const struct vkm_names vkm_loss_names = {NAMES([VKMOE_STACK_MSE] = "mse", [VKMOE_STACK_CROSS_ENTROPY] = "cross-entropy"),
                                         "\"mse\" or \"cross-entropy\""};
/* What stands in an ENUM's field. */
_Static_assert(sizeof(enum vkmoe_gate) == sizeof(unsigned) && sizeof(enum vkmoe_lbl_scope) == sizeof(unsigned) &&
               sizeof(enum vkmoe_router_init) == sizeof(unsigned) && sizeof(enum vkmoe_precision) == sizeof(unsigned) &&
               sizeof(enum vkmoe_stack_loss) == sizeof(unsigned), "enumerations are as wide as unsigned");

/* jansson's integers end at 2^63 - 1, so all 64 bits are written as a string of decimal digits. */
static json_t *write_digits(uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    return json_string(text);
}

static uint64_t read_digits(struct vkm_json *in, const char *key)
{
    const char *text = vkm_json_string(in, key);
    char *end = NULL;
    if (!text)
        return 0;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    vkm_json_require(in, text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0, key,
                     "a string of decimal digits below 2^64");
    return value;
}

static json_t *write_enum(const void *at, const struct vkm_field *field)
{
    unsigned value;
    memcpy(&value, at, sizeof value);
    return json_string(field->names->names[value]);
}

static void read_enum(struct vkm_json *in, void *at, const struct vkm_field *field)
{
    const char *text = vkm_json_string(in, field->name);
    unsigned value = 0;
    while (text && field->names->names[value] && strcmp(text, field->names->names[value]) != 0)
        value++;
    bool found = text && field->names->names[value];
    vkm_json_require(in, found, field->name, field->names->choices);
    value = found ? value : 0;
    memcpy(at, &value, sizeof value);
}

/* Drivers word their names as they like, and a long one has been cut: what is not UTF-8 becomes ASCII. */
static json_t *write_text(const char *text)
{
    char ascii[VKM_FIELD_BYTES];
    json_t *value = json_string(text);
    if (value)
        return value;
    size_t length = strlen(text);
    for (size_t i = 0; i <= length; i++)
        ascii[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    return json_string(ascii);
}

static void read_text(struct vkm_json *in, const char *key, char *to)
{
    const char *text = vkm_json_string(in, key);
    bool fits = text && strlen(text) < VKM_FIELD_BYTES;
    vkm_json_require(in, fits, key, "a string of at most 511 bytes");
    strcpy(to, fits ? text : "");
}

json_t *vkm_fields_write(const void *from, const struct vkm_field *fields, size_t count)
{
    json_t *object = json_object();
    int failed = !object;
    for (size_t i = 0; i < count && !failed; i++) {
        const void *at = (const char *)from + fields[i].offset;
        json_t *value = NULL;
        switch (fields[i].kind) {
        case VKM_FIELD_COUNT32: value = json_integer((json_int_t)*(const uint32_t *)at); break;
        case VKM_FIELD_COUNT63: value = json_integer((json_int_t)*(const uint64_t *)at); break;
        case VKM_FIELD_DIGITS: value = write_digits(*(const uint64_t *)at); break;
        case VKM_FIELD_REAL: value = vkm_json_float(*(const float *)at); break;
        case VKM_FIELD_FLAG: value = json_boolean(*(const bool *)at); break;
        case VKM_FIELD_ENUM: value = write_enum(at, &fields[i]); break;
        case VKM_FIELD_TEXT: value = write_text(at); break;
        }
        failed = json_object_set_new(object, fields[i].name, value);
    }
    if (!failed)
        return object;
    json_decref(object);
    return NULL;
}

void vkm_fields_read(struct vkm_json *in, void *to, const struct vkm_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *at = (char *)to + fields[i].offset;
        const char *name = fields[i].name;
        switch (fields[i].kind) {
        case VKM_FIELD_COUNT32: *(uint32_t *)at = (uint32_t)vkm_json_uint(in, name, 0, UINT32_MAX); break;
        case VKM_FIELD_COUNT63: *(uint64_t *)at = vkm_json_uint(in, name, 0, INT64_MAX); break;
        case VKM_FIELD_DIGITS: *(uint64_t *)at = read_digits(in, name); break;
        case VKM_FIELD_REAL: *(float *)at = (float)vkm_json_real(in, name, 0, FLT_MAX); break;
        case VKM_FIELD_FLAG: *(bool *)at = vkm_json_bool(in, name); break;
        case VKM_FIELD_ENUM: read_enum(in, at, &fields[i]); break;
        case VKM_FIELD_TEXT: read_text(in, name, at); break;
        }
    }
}
