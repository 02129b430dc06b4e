/* A safetensors file: every tensor of one that opens can be found and, where it is f32, read. */
#include <jansson.h>
#include <string.h>

#include "fuzz.h"
#include "train/safetensors.h"

enum { PIECE = 4096 };

static void read_tensor(const struct vkm_safetensors *file, const char *name, size_t file_bytes)
{
    static float values[PIECE];
    const struct vkm_tensor *t = vkm_safetensors_find(file, name), *found;
    fuzz_require(t && t->bytes <= file_bytes && t->begin <= file_bytes - t->bytes && strcmp(t->name, name) == 0);
    const bool is_f32 = strcmp(t->dtype, "F32") == 0;
    fuzz_log();
    fuzz_require(fuzz_fine(vkm_safetensors_expect(file, name, t->dims, t->rank, &found)) == is_f32);
    fuzz_require(!fuzz_fine(vkm_safetensors_expect(file, name, t->dims, t->rank + 1, &found)));
    fuzz_require(!fuzz_fine(vkm_safetensors_read(file, t, t->count, 1, values)));
    for (uint64_t first = 0; is_f32 && first < t->count; first += PIECE)
        fuzz_require(fuzz_fine(vkm_safetensors_read(file, t, first, t->count - first < PIECE ? t->count - first : PIECE, values)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const struct fuzz_part whole = {data, bytes};
    struct vkm_safetensors *file;
    const char *name;
    json_t *value;
    fuzz_put("file", &whole);
    if (!fuzz_fine(vkm_safetensors_open(fuzz_log(), fuzz_path("file"), &file))) {
        fuzz_require(!file);
        return 0;
    }
    size_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | data[i];
    json_t *header = json_loadb((const char *)data + 8, length, 0, NULL);
    fuzz_require(header);
    json_object_foreach (header, name, value)
        if (strcmp(name, "__metadata__") != 0)
            read_tensor(file, name, bytes);
    json_object_foreach (json_object_get(header, "__metadata__"), name, value)
        fuzz_require(!json_is_string(value) || strcmp(vkm_safetensors_metadata(file, name), json_string_value(value)) == 0);
    fuzz_require(!vkm_safetensors_metadata(file, "no such key") || json_object_get(header, "__metadata__"));
    json_decref(header);
    vkm_safetensors_close(file);
    return 0;
}
