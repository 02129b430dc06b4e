/* Structures as JSON objects, by tables of their fields. */
#ifndef VKM_TRAIN_FIELDS_H
#define VKM_TRAIN_FIELDS_H

#include <stddef.h>

#include "base/json.h"

/* uint32_t; uint64_t below 2^63; uint64_t, as a string of digits; float; bool; an enumeration; char [VKM_FIELD_BYTES] */
enum vkm_field_kind {
    VKM_FIELD_COUNT32, VKM_FIELD_COUNT63, VKM_FIELD_DIGITS, VKM_FIELD_REAL, VKM_FIELD_FLAG, VKM_FIELD_ENUM, VKM_FIELD_TEXT
};

enum { VKM_FIELD_BYTES = 512 };

/* Names of an enumeration's values from 0 on, NULL-terminated, and the same for a message. */
struct vkm_names {
    const char *const *names;
    const char *choices;
};
extern const struct vkm_names vkm_gate_names, vkm_scope_names, vkm_init_names, vkm_precision_names, vkm_loss_names;

struct vkm_field {
    const char *name;
    enum vkm_field_kind kind;
    size_t offset;
    const struct vkm_names *names;  /* ENUM */
};

#define VKM_MEMBER(type, name, member, kind) {name, kind, offsetof(struct type, member), NULL}
#define VKM_FIELD(type, name, kind) VKM_MEMBER(type, #name, name, kind)
#define VKM_ENUMERATION(type, name, member, table) {name, VKM_FIELD_ENUM, offsetof(struct type, member), &table}

/* What configurations of training have in common. */
#define VKM_ADAMW_FIELDS(type) \
    VKM_FIELD(type, lr, VKM_FIELD_REAL), VKM_FIELD(type, beta1, VKM_FIELD_REAL), VKM_FIELD(type, beta2, VKM_FIELD_REAL), \
    VKM_FIELD(type, eps, VKM_FIELD_REAL), VKM_FIELD(type, weight_decay, VKM_FIELD_REAL), VKM_FIELD(type, clip, VKM_FIELD_REAL)
#define VKM_BALANCE_FIELDS(type) \
    VKM_MEMBER(type, "simbal", balance.simbal, VKM_FIELD_REAL), VKM_MEMBER(type, "lbl", balance.lbl, VKM_FIELD_REAL), \
    VKM_MEMBER(type, "lossfree", balance.lossfree, VKM_FIELD_REAL), \
    VKM_MEMBER(type, "router_z", balance.router_z, VKM_FIELD_REAL), \
    VKM_ENUMERATION(type, "lbl_scope", balance.lbl_scope, vkm_scope_names), \
    VKM_MEMBER(type, "lbl_full", balance.lbl_full, VKM_FIELD_FLAG)

/* NULL: no memory. */
json_t *vkm_fields_write(const void *from, const struct vkm_field *fields, size_t count);
/* Each is required; a failure latches in `in`. */
void vkm_fields_read(struct vkm_json *in, void *to, const struct vkm_field *fields, size_t count);

#endif
